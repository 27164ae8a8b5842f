/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the CPUs see of the machine: ports, memory-mapped I/O and their local APICs. Called from the
 * engine's threads without the machine lock.
 */
#include "ioapic.h"
#include "lapic.h"
#include "lock.h"
#include "machine_internal.h"
#include "pic8259.h"

static uint64_t bus_port_read(void *opaque, uint16_t port, unsigned size)
{
    struct machine *m = opaque;
    uint64_t value;

    machine_lock();
    value = ports_read(m->ports, port, size);
    machine_unlock();
    return value;
}

static void bus_port_write(void *opaque, uint16_t port, uint64_t value, unsigned size)
{
    struct machine *m = opaque;

    machine_lock();
    ports_write(m->ports, port, value, size);
    machine_unlock();
}

static bool bus_is_lapic(struct machine *m, unsigned cpu, uint64_t gpa)
{
    return !m->engine_ops->apic && (gpa & ~0xfffull) == 0xfee00000u &&
           lapic_page(m->lapic, cpu) == 0xfee00000u;
}

static uint64_t bus_mmio_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    struct machine *m = opaque;
    uint64_t value;

    machine_lock();
    if (bus_is_lapic(m, cpu, gpa)) {
        value = lapic_mmio_read(m->lapic, cpu, gpa & 0xff0) >> (8 * (gpa & 3));
    } else {
        value = memory_io_read(m->memory, gpa, size);
    }
    machine_unlock();
    return value;
}

static void bus_mmio_write(void *opaque, unsigned cpu, uint64_t gpa, uint64_t value, unsigned size)
{
    struct machine *m = opaque;

    machine_lock();
    if (!bus_is_lapic(m, cpu, gpa)) {
        memory_io_write(m->memory, gpa, value, size);
    } else if (!(gpa & 15)) {
        lapic_mmio_write(m->lapic, cpu, gpa & 0xff0, (uint32_t)value);
    }
    machine_unlock();
}

static int bus_interrupt_ack(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    int vector;

    machine_lock();
    vector = lapic_acknowledge(m->lapic, cpu);
    machine_unlock();
    return vector;
}

static bool bus_interrupt_pending(void *opaque, unsigned cpu)
{
    return lapic_pending(((struct machine *)opaque)->lapic, cpu);
}

static uint64_t bus_tpr_read(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    uint64_t value;

    machine_lock();
    value = lapic_cr8_read(m->lapic, cpu);
    machine_unlock();
    return value;
}

static void bus_tpr_write(void *opaque, unsigned cpu, uint64_t cr8)
{
    struct machine *m = opaque;

    machine_lock();
    lapic_cr8_write(m->lapic, cpu, cr8);
    machine_unlock();
}

static bool bus_apic_msr_read(void *opaque, unsigned cpu, uint32_t msr, uint64_t *value)
{
    struct machine *m = opaque;
    bool ok;

    machine_lock();
    ok = lapic_msr_read(m->lapic, cpu, msr, value);
    machine_unlock();
    return ok;
}

static bool bus_apic_msr_write(void *opaque, unsigned cpu, uint32_t msr, uint64_t value)
{
    struct machine *m = opaque;
    bool ok;

    machine_lock();
    ok = lapic_msr_write(m->lapic, cpu, msr, value);
    machine_unlock();
    return ok;
}

static int bus_extint_ack(void *opaque)
{
    struct machine *m = opaque;
    int vector;

    machine_lock();
    vector = lapic_extint(m->lapic) ? pic_acknowledge(m->pic) : -1;
    machine_unlock();
    return vector;
}

static void bus_apic_eoi(void *opaque, uint8_t vector)
{
    struct machine *m = opaque;

    machine_lock();
    ioapic_eoi(m->ioapic, vector);
    machine_unlock();
}

static void bus_shutdown(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;

    machine_lock();
    machine_request(m, REQUEST_TRIPLE_FAULT);
    machine_unlock();
}

static void bus_stuck(void *opaque, const char *sentence)
{
    struct machine *m = opaque;

    machine_lock();
    g_free(m->problem);
    m->problem = g_strdup(sentence);
    device_log("cpu", "%s", sentence);
    machine_request(m, REQUEST_IO_ERROR);
    machine_unlock();
}

void machine_init_cpu_bus(struct machine *m)
{
    m->cpu_bus = (struct cpu_bus){
        .opaque = m,
        .port_read = bus_port_read,
        .port_write = bus_port_write,
        .mmio_read = bus_mmio_read,
        .mmio_write = bus_mmio_write,
        .interrupt_ack = bus_interrupt_ack,
        .interrupt_pending = bus_interrupt_pending,
        .tpr_read = bus_tpr_read,
        .tpr_write = bus_tpr_write,
        .apic_msr_read = bus_apic_msr_read,
        .apic_msr_write = bus_apic_msr_write,
        .extint_ack = bus_extint_ack,
        .apic_eoi = bus_apic_eoi,
        .shutdown = bus_shutdown,
        .stuck = bus_stuck,
    };
}

bool machine_apics_to_engine(struct machine *m, GError **error)
{
    const struct engine_apic_ops *ops = m->engine_ops->apic;
    bool ok = true;

    for (unsigned i = 0; ops && ok && i < m->config.cpus; i++) {
        struct apic_state state;
        lapic_get_state(m->lapic, i, &state);
        ok = ops->set_state(m->engine, i, &state, error);
    }
    if (ops) {
        lapic_rest(m->lapic);
        ops->extint(m->engine, lapic_extint(m->lapic));
    }
    return ok;
}

void machine_apics_from_engine(struct machine *m)
{
    const struct engine_apic_ops *ops = m->engine_ops->apic;

    for (unsigned i = 0; ops && i < m->config.cpus; i++) {
        struct apic_state state;
        ops->get_state(m->engine, i, &state);
        lapic_set_state(m->lapic, i, &state);
    }
}
