/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82093AA I/O APIC: 24 inputs, at FEC00000h.
 */
#pragma once

#include "device.h"

struct ioapic_config {
    /* Sends an interrupt message in the form of an MSI (address FEExxxxxh, data). */
    void (*message)(void *opaque, uint64_t address, uint32_t data);
    void *opaque;
    /* Optional: what input n will send has changed. */
    void (*route)(void *opaque, unsigned n, uint64_t address, uint32_t data);
};

extern const struct device_class ioapic_device;

void ioapic_set_irq(void *ioapic, unsigned n, bool level); /* n: 0-23 */
void ioapic_eoi(void *ioapic, uint8_t vector);             /* a local APIC's EOI broadcast */
