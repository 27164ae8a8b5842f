/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's local APICs: messages to them, the 8259's line, EOIs, and their state in both directions.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../device.h"
#include "kvm.h"

#define MSR_TSC          0x10u
#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSI_LEVEL        0x8000u
#define LVT_MASKED       (1u << 16)
#define LVT_PERIODIC     (1u << 17)

enum {
    REG_ISR = 0x10,
    REG_IRR = 0x20,
    REG_LVT_TIMER = 0x32,
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39
};

static void apic_message(struct engine *engine, uint64_t address, uint32_t data)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;
    struct kvm_msi msi = {.address_lo = (uint32_t)address, .data = data};

    if (address >> 20 == 0xfee) {
        pthread_mutex_lock(&k->apic_lock);
        ioctl(k->vm, KVM_SIGNAL_MSI, &msi); /* nobody there: lost, as on the bus */
        pthread_mutex_unlock(&k->apic_lock);
    }
}

static void apic_extint(struct engine *engine, bool level)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    if (!atomic_exchange(&k->extint, level) && level) {
        for (unsigned i = 0; i < k->cpus; i++) {
            k->ops->kick(engine, i);
        }
    }
}

/* KVM tells of EOIs for the vectors that level-triggered routes name. */
static void apic_route(struct engine *engine, unsigned pin, uint64_t address, uint32_t data)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;
    bool matters;

    if (pin >= KVM_PINS) {
        return;
    }
    matters = (data | k->route_data[pin]) & MSI_LEVEL;
    k->route_address[pin] = address;
    k->route_data[pin] = data;
    if (!matters) {
        return;
    }
    k->routing->nr = 0;
    for (unsigned i = 0; i < KVM_PINS; i++) {
        if (k->route_data[i] & MSI_LEVEL) {
            k->routing->entries[k->routing->nr++] = (struct kvm_irq_routing_entry){
                .gsi = i,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi = {.address_lo = (uint32_t)k->route_address[i], .data = k->route_data[i]}};
        }
    }
    if (ioctl(k->vm, KVM_SET_GSI_ROUTING, k->routing) < 0) {
        device_log_once("kvm", pin, "KVM refuses the route of interrupt %u: %s", pin,
                        g_strerror(errno));
    }
}

static void msr_put(struct kvm_cpu *v, uint32_t index, uint64_t value)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {.head.nmsrs = 1, .entry = {.index = index, .data = value}};

    ioctl(v->fd, KVM_SET_MSRS, &msrs);
}

static void register_put(struct kvm_lapic_state *lapic, unsigned n, uint32_t value)
{
    memcpy(lapic->regs + n * 16, &value, sizeof value);
}

static uint32_t register_get(const struct kvm_lapic_state *lapic, unsigned n)
{
    uint32_t value;

    memcpy(&value, lapic->regs + n * 16, sizeof value);
    return value;
}

static void apic_get_state(struct engine *engine, unsigned cpu, struct apic_state *state)
{
    struct kvm_cpu *v = &((struct kvm_engine *)engine)->cpu[cpu];
    struct kvm_lapic_state lapic = {0};
    struct kvm_sregs sregs = {0};

    ioctl(v->fd, KVM_GET_SREGS, &sregs);
    ioctl(v->fd, KVM_GET_LAPIC, &lapic);
    *state = (struct apic_state){.base = sregs.apic_base, .deadline = v->deadline};
    for (unsigned i = 0; i < APIC_STATE_REGISTERS; i++) {
        state->reg[i] = register_get(&lapic, i);
    }
    state->reg[REG_INITIAL] = v->timer_initial;
    state->reg[REG_CURRENT] = v->timer_left;
}

/* An initial count of 0 keeps the timer still until kvm_time_go(). */
static bool apic_set_state(struct engine *engine, unsigned cpu, const struct apic_state *state,
                           GError **error)
{
    struct kvm_cpu *v = &((struct kvm_engine *)engine)->cpu[cpu];
    struct kvm_lapic_state lapic = {0};

    v->timer_initial = state->reg[REG_INITIAL];
    v->timer_left = state->reg[REG_CURRENT];
    v->deadline = state->deadline;
    for (unsigned i = 0; i < APIC_STATE_REGISTERS; i++) {
        register_put(&lapic, i, i == REG_INITIAL || i == REG_CURRENT ? 0 : state->reg[i]);
    }
    msr_put(v, MSR_APIC_BASE, state->base);
    if (ioctl(v->fd, KVM_SET_LAPIC, &lapic) < 0) {
        g_set_error(error, KVM_ENGINE_ERROR, 1,
                    "KVM does not accept the interrupt controller state of CPU %u: %s.", cpu,
                    g_strerror(errno));
        return false;
    }
    return true;
}

static bool vector_is_set(const struct kvm_lapic_state *lapic, unsigned first, uint8_t vector)
{
    return register_get(lapic, first + vector / 32) >> vector % 32 & 1;
}

/* A one-shot timer that has run out may have fired while its CPU was out of the guest already: KVM
 * keeps that to itself and forgets it with KVM_SET_LAPIC. Unless its interrupt is to be seen it
 * gets one more tick to count, because an interrupt too many does no harm and one too few may stop
 * the guest for ever. */
static uint32_t timer_left(const struct kvm_lapic_state *lapic)
{
    uint32_t left = register_get(lapic, REG_CURRENT), lvt = register_get(lapic, REG_LVT_TIMER);

    if (left || !register_get(lapic, REG_INITIAL) || lvt & (LVT_MASKED | LVT_PERIODIC) ||
        vector_is_set(lapic, REG_IRR, lvt & 0xff) || vector_is_set(lapic, REG_ISR, lvt & 0xff)) {
        return left;
    }
    return 1;
}

/* KVM_SET_LAPIC starts the timer that the MSR holds, so that is emptied, too. */
void kvm_time_stop(struct kvm_cpu *v)
{
    struct kvm_lapic_state lapic = {0};
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {.head.nmsrs = 1, .entry.index = MSR_TSC_DEADLINE};

    pthread_mutex_lock(&v->engine->apic_lock);
    ioctl(v->fd, KVM_GET_MSRS, &msrs);
    v->deadline = msrs.entry.data;
    if (v->deadline) {
        msr_put(v, MSR_TSC_DEADLINE, 0);
    }
    ioctl(v->fd, KVM_GET_LAPIC, &lapic);
    v->timer_initial = register_get(&lapic, REG_INITIAL);
    v->timer_left = timer_left(&lapic);
    register_put(&lapic, REG_INITIAL, 0);
    register_put(&lapic, REG_CURRENT, 0);
    ioctl(v->fd, KVM_SET_LAPIC, &lapic);
    pthread_mutex_unlock(&v->engine->apic_lock);
}

/* KVM would fire a one-shot timer that has nothing left to count once more. */
static bool timer_is_over(const struct kvm_cpu *v, const struct kvm_lapic_state *lapic)
{
    return !v->timer_left && !(register_get(lapic, REG_LVT_TIMER) & LVT_PERIODIC);
}

/* Interrupts that came in while the CPU stood still are in the kernel's registers: those stay. */
void kvm_time_go(struct kvm_cpu *v)
{
    struct kvm_engine *k = v->engine;
    struct kvm_lapic_state lapic = {0};
    int64_t offset = clock_tsc_offset(k->clock) + (int64_t)v->tsc_adjust;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)&offset};

    if (!clock_tsc_is_host(k->clock) || ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr) < 0) {
        msr_put(v, MSR_TSC, clock_tsc(k->clock) + v->tsc_adjust);
    }
    pthread_mutex_lock(&k->apic_lock);
    ioctl(v->fd, KVM_GET_LAPIC, &lapic);
    register_put(&lapic, REG_INITIAL, timer_is_over(v, &lapic) ? 0 : v->timer_initial);
    register_put(&lapic, REG_CURRENT, v->timer_left);
    ioctl(v->fd, KVM_SET_LAPIC, &lapic);
    pthread_mutex_unlock(&k->apic_lock);
    if (v->deadline) {
        msr_put(v, MSR_TSC_DEADLINE, v->deadline);
    }
}

const struct engine_apic_ops kvm_apic_ops = {
    .message = apic_message,
    .extint = apic_extint,
    .route = apic_route,
    .get_state = apic_get_state,
    .set_state = apic_set_state,
};
