/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APICs of all CPUs, xAPIC and x2APIC. One device holds them all: they talk to each
 * other.
 */
#pragma once

#include "apic_state.h"
#include "device.h"

#define LAPIC_MAX_CPUS 32u

enum lapic_event { LAPIC_EVENT_INIT, LAPIC_EVENT_SIPI, LAPIC_EVENT_NMI };

struct lapic_config {
    unsigned cpus; /* APIC IDs are 0 to cpus-1; 0 is the bootstrap processor */
    void *opaque;
    void (*kick)(void *opaque, unsigned cpu); /* lapic_pending() became true */
    void (*event)(void *opaque, unsigned cpu, enum lapic_event event, uint8_t vector);
    int (*pic_acknowledge)(void *opaque);
    void (*eoi)(void *opaque, uint8_t vector); /* of a level-triggered interrupt */
};

extern const struct device_class lapic_device;

/* Lock-free: something to acknowledge? */
bool lapic_pending(void *lapic, unsigned cpu);
int lapic_acknowledge(void *lapic, unsigned cpu); /* vector, or -1 */
/* The page an enabled xAPIC of this CPU sits at, or 0 (disabled, or x2APIC). */
uint64_t lapic_page(void *lapic, unsigned cpu);
uint64_t lapic_mmio_read(void *lapic, unsigned cpu, uint32_t addr);
void lapic_mmio_write(void *lapic, unsigned cpu, uint32_t addr, uint32_t value);
bool lapic_msr_read(void *lapic, unsigned cpu, uint32_t msr, uint64_t *value);
bool lapic_msr_write(void *lapic, unsigned cpu, uint32_t msr, uint64_t value);
uint64_t lapic_cr8_read(void *lapic, unsigned cpu);
void lapic_cr8_write(void *lapic, unsigned cpu, uint64_t cr8);
void lapic_message(void *lapic, uint64_t address, uint32_t data); /* MSI, SDM vol. 3, 11.11 */
void lapic_set_extint(void *lapic, bool level);                   /* the 8259's INTR, at LINT0 */
/* For an engine with APICs of its own: what it shall begin with, and what it has come to. In
 * between the timers here must rest. */
void lapic_get_state(void *lapic, unsigned cpu, struct apic_state *state);
void lapic_set_state(void *lapic, unsigned cpu, const struct apic_state *state);
void lapic_rest(void *lapic);
bool lapic_extint(void *lapic);
void lapic_set_nmi(void *lapic, bool level); /* LINT1 */
