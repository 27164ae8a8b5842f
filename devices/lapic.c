/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APICs: Intel SDM vol. 3, chapter 11 (xAPIC, x2APIC), timer one-shot, periodic and
 * TSC-deadline.
 *
 * The timer's input clock is 1 GHz before the divider. Everything runs under the machine lock but
 * lapic_pending(), which reads one flag that every change keeps up to date.
 */
#include <stdatomic.h>
#include <string.h>

#include "lapic.h"

enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32, /* timer, thermal, performance, LINT0, LINT1, error */
    REG_INITIAL = 0x38,
    REG_CURRENT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f
};

enum { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVTS };
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_NMI = 4, MODE_INIT, MODE_SIPI, MODE_EXTINT };
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define LVT_MASKED       (1u << 16)
#define SVR_ENABLED      (1u << 8)
#define APIC_BASE_BSP    (1u << 8)
#define APIC_BASE_X2APIC (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
#define APIC_DEFAULT     0xfee00000u

#define ESR_SEND_ILLEGAL    0x20u
#define ESR_RECEIVE_ILLEGAL 0x40u

#define MIN_PERIOD_NS 20000u /* a faster periodic timer would only starve everything else */

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

struct lapic;

struct local {
    struct lapic *all;
    unsigned id;
    atomic_bool pending;
    struct timer *timer;
    uint64_t base, icr, deadline, timer_start;
    uint32_t tpr, ldr, dfr, svr, esr, esr_latch, initial, divide;
    uint32_t lvt[LVTS], irr[8], isr[8], tmr[8];
};

struct lapic {
    struct lapic_config config;
    struct clock *clock;
    bool extint, nmi;
    uint8_t lowest_next; /* round robin for lowest-priority delivery */
    struct local cpu[LAPIC_MAX_CPUS];
};

struct message {
    uint32_t dest;
    uint8_t vector, mode;
    bool logical, level, broadcast;
};

static void bit_set(uint32_t *bits, uint8_t n)
{
    bits[n >> 5] |= 1u << (n & 31);
}

static void bit_clear(uint32_t *bits, uint8_t n)
{
    bits[n >> 5] &= ~(1u << (n & 31));
}

static bool bit_test(const uint32_t *bits, uint8_t n)
{
    return bits[n >> 5] >> (n & 31) & 1;
}

static int bits_highest(const uint32_t *bits)
{
    for (int i = 7; i >= 0; i--) {
        if (bits[i]) {
            return i * 32 + 31 - __builtin_clz(bits[i]);
        }
    }
    return -1;
}

static bool local_x2apic(const struct local *l)
{
    return (l->base & APIC_BASE_X2APIC) && (l->base & APIC_BASE_ENABLE);
}

static bool local_enabled(const struct local *l)
{
    return (l->base & APIC_BASE_ENABLE) && (l->svr & SVR_ENABLED);
}

static uint32_t local_ppr(const struct local *l)
{
    int isr = bits_highest(l->isr);
    uint32_t service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

    return (l->tpr & 0xf0) >= service ? l->tpr : service;
}

static int local_request(const struct local *l)
{
    int irr = bits_highest(l->irr);

    return irr >= 0 && local_enabled(l) && ((uint32_t)irr & 0xf0) > (local_ppr(l) & 0xf0) ? irr
                                                                                          : -1;
}

/* Does the 8259's INTR get through to this CPU now? */
static bool local_extint(const struct local *l)
{
    if (!l->all->extint) {
        return false;
    }
    if (!(l->base & APIC_BASE_ENABLE)) {
        return l->id == 0;
    }
    return !(l->lvt[LVT_LINT0] & LVT_MASKED) && (l->lvt[LVT_LINT0] >> 8 & 7) == MODE_EXTINT;
}

static void local_update(struct local *l)
{
    bool pending = local_request(l) >= 0 || local_extint(l);
    bool was = atomic_exchange(&l->pending, pending);

    if (pending && !was && l->all->config.kick) {
        l->all->config.kick(l->all->config.opaque, l->id);
    }
}

static void local_lvt_deliver(struct local *l, unsigned n);

static void local_error(struct local *l, uint32_t bits)
{
    bool fresh = (l->esr_latch & bits) != bits;

    l->esr_latch |= bits;
    if (fresh) {
        local_lvt_deliver(l, LVT_ERROR);
    }
}

static void local_interrupt(struct local *l, uint8_t vector, bool level)
{
    if (!local_enabled(l)) {
        return;
    }
    if (vector < 16) {
        if (!(l->esr_latch & ESR_RECEIVE_ILLEGAL)) {
            l->esr_latch |= ESR_RECEIVE_ILLEGAL;
        }
        return;
    }
    bit_set(l->irr, vector);
    if (level) {
        bit_set(l->tmr, vector);
    } else {
        bit_clear(l->tmr, vector);
    }
    local_update(l);
}

static void local_event(struct local *l, enum lapic_event event, uint8_t vector)
{
    if (l->all->config.event) {
        l->all->config.event(l->all->config.opaque, l->id, event, vector);
    }
}

static void local_reset(struct local *l)
{
    l->icr = l->deadline = l->timer_start = 0;
    l->tpr = l->esr = l->esr_latch = l->initial = l->divide = 0;
    l->dfr = UINT32_MAX;
    l->ldr = local_x2apic(l) ? (l->id >> 4) << 16 | 1u << (l->id & 15) : 0;
    l->svr = 0xff;
    for (unsigned i = 0; i < LVTS; i++) {
        l->lvt[i] = LVT_MASKED;
    }
    if (l->id == 0) {
        l->lvt[LVT_LINT0] = MODE_EXTINT
                            << 8; /* virtual wire, as firmware would set it first thing */
    }
    for (unsigned i = 0; i < 8; i++) {
        l->irr[i] = l->isr[i] = l->tmr[i] = 0;
    }
    timer_disarm(l->timer);
}

static void local_deliver(struct local *l, const struct message *m)
{
    switch (m->mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        local_interrupt(l, m->vector, m->level);
        break;
    case MODE_NMI:
        local_event(l, LAPIC_EVENT_NMI, 0);
        break;
    case MODE_INIT:
        local_reset(l);
        local_update(l);
        local_event(l, LAPIC_EVENT_INIT, 0);
        break;
    case MODE_SIPI:
        local_event(l, LAPIC_EVENT_SIPI, m->vector);
        break;
    default: /* SMI: there is no SMM here. ExtINT comes by LINT0 only. */
        break;
    }
}

static bool local_matches_logical(const struct local *l, uint32_t dest)
{
    if (local_x2apic(l)) {
        return dest >> 16 == l->ldr >> 16 && (dest & l->ldr & 0xffff);
    }
    if (l->dfr >> 28 == 0xf) { /* flat */
        return dest & (l->ldr >> 24) & 0xff;
    }
    return (dest >> 4 & 15) == l->ldr >> 28 && (dest & (l->ldr >> 24) & 15);
}

static bool local_matches(const struct local *l, const struct message *m)
{
    if (!(l->base & APIC_BASE_ENABLE)) {
        return false;
    }
    if (m->broadcast) {
        return true;
    }
    return m->logical ? local_matches_logical(l, m->dest) : m->dest == l->id;
}

static void lapic_deliver(struct lapic *a, const struct message *m)
{
    for (unsigned i = 0; i < a->config.cpus; i++) {
        unsigned n = m->mode == MODE_LOWEST ? (a->lowest_next + i) % a->config.cpus : i;
        struct local *l = &a->cpu[n];
        if (!local_matches(l, m)) {
            continue;
        }
        if (m->mode != MODE_LOWEST) {
            local_deliver(l, m);
        } else if (local_enabled(l)) {
            a->lowest_next = (uint8_t)((n + 1) % a->config.cpus);
            local_deliver(l, m);
            return;
        }
    }
}

void lapic_message(void *dev, uint64_t address, uint32_t data)
{
    struct message m = {
        .dest = (uint32_t)(address >> 12) & 0xff,
        .vector = (uint8_t)data,
        .mode = data >> 8 & 7,
        .logical = address & 4,
        .level = data & 0x8000,
    };

    m.broadcast = m.dest == 0xff;
    if ((address & ~0xfffffull) == APIC_DEFAULT) {
        lapic_deliver(dev, &m);
    }
}

static void local_lvt_deliver(struct local *l, unsigned n)
{
    uint32_t lvt = l->lvt[n];

    if (lvt & LVT_MASKED) {
        return;
    }
    if (n == LVT_TIMER || n == LVT_ERROR || (lvt >> 8 & 7) == MODE_FIXED) {
        local_interrupt(l, (uint8_t)lvt, (n == LVT_LINT0 || n == LVT_LINT1) && (lvt & 0x8000));
    } else if ((lvt >> 8 & 7) == MODE_NMI) {
        local_event(l, LAPIC_EVENT_NMI, 0);
    }
}

void lapic_set_extint(void *dev, bool level)
{
    struct lapic *a = dev;
    bool rise = level && !a->extint;

    a->extint = level;
    for (unsigned i = 0; i < a->config.cpus; i++) {
        struct local *l = &a->cpu[i];
        if (rise && (l->base & APIC_BASE_ENABLE) && (l->lvt[LVT_LINT0] >> 8 & 7) != MODE_EXTINT) {
            local_lvt_deliver(l, LVT_LINT0);
        }
        local_update(l);
    }
}

void lapic_set_nmi(void *dev, bool level)
{
    struct lapic *a = dev;
    bool rise = level && !a->nmi;

    a->nmi = level;
    for (unsigned i = 0; rise && i < a->config.cpus; i++) {
        local_lvt_deliver(&a->cpu[i], LVT_LINT1);
    }
}

static struct local *lapic_local(void *dev, unsigned cpu)
{
    struct lapic *a = dev;

    return &a->cpu[cpu < a->config.cpus ? cpu : 0];
}

bool lapic_pending(void *dev, unsigned cpu)
{
    return atomic_load_explicit(&lapic_local(dev, cpu)->pending, memory_order_acquire);
}

int lapic_acknowledge(void *dev, unsigned cpu)
{
    struct local *l = lapic_local(dev, cpu);
    int vector = local_request(l);

    if (vector >= 0) {
        bit_clear(l->irr, (uint8_t)vector);
        bit_set(l->isr, (uint8_t)vector);
        local_update(l);
    } else if (local_extint(l) && l->all->config.pic_acknowledge) {
        vector = l->all->config.pic_acknowledge(l->all->config.opaque);
        local_update(l);
    }
    return vector;
}

static void local_eoi(struct local *l)
{
    int vector = bits_highest(l->isr);

    if (vector < 0) {
        return;
    }
    bit_clear(l->isr, (uint8_t)vector);
    if (bit_test(l->tmr, (uint8_t)vector) && l->all->config.eoi) {
        l->all->config.eoi(l->all->config.opaque, (uint8_t)vector);
    }
    local_update(l);
}

/* The timer */

static unsigned local_timer_mode(const struct local *l)
{
    return l->lvt[LVT_TIMER] >> 17 & 3;
}

static uint64_t local_divider(const struct local *l)
{
    unsigned code = (l->divide & 3) | (l->divide >> 1 & 4);

    return code == 7 ? 1 : 2ull << code;
}

static uint64_t local_period(const struct local *l)
{
    return l->initial * local_divider(l); /* at 1 GHz a tick is a nanosecond */
}

static uint32_t local_current(const struct local *l)
{
    uint64_t elapsed = clock_now(l->all->clock) - l->timer_start, period = local_period(l);

    if (!l->initial || local_timer_mode(l) == TIMER_DEADLINE) {
        return 0;
    }
    if (local_timer_mode(l) == TIMER_PERIODIC) {
        elapsed %= period;
    } else if (elapsed >= period) {
        return 0;
    }
    return l->initial - (uint32_t)(elapsed / local_divider(l));
}

static void local_timer_start(struct local *l)
{
    uint64_t period = local_period(l);

    l->timer_start = clock_now(l->all->clock);
    if (local_timer_mode(l) == TIMER_DEADLINE || !period) {
        timer_disarm(l->timer);
        return;
    }
    if (local_timer_mode(l) == TIMER_PERIODIC) {
        period = MAX(period, MIN_PERIOD_NS);
    }
    timer_arm(l->timer, l->timer_start + period);
}

static void local_deadline_set(struct local *l, uint64_t tsc)
{
    uint64_t now_tsc = clock_tsc(l->all->clock), now = clock_now(l->all->clock), ns = 0;

    l->deadline = tsc;
    if (!tsc) {
        timer_disarm(l->timer);
        return;
    }
    if (tsc > now_tsc) {
        unsigned __int128 wide = (unsigned __int128)(tsc - now_tsc) * 1000000u;
        wide /= clock_tsc_khz(l->all->clock);
        ns = wide > INT64_MAX ? INT64_MAX : (uint64_t)wide + 1;
    }
    timer_arm(l->timer, now + ns);
}

/* The bit arithmetic of deadline and clock may leave us a moment early: then wait the rest. */
static void local_timer_fired(void *opaque)
{
    struct local *l = opaque;

    switch (local_timer_mode(l)) {
    case TIMER_DEADLINE:
        if (clock_tsc(l->all->clock) + 1000 < l->deadline) {
            local_deadline_set(l, l->deadline);
            return;
        }
        l->deadline = 0;
        break;
    case TIMER_PERIODIC: {
        uint64_t now = clock_now(l->all->clock), period = MAX(local_period(l), MIN_PERIOD_NS);
        l->timer_start += (now - l->timer_start) / period * period;
        timer_arm(l->timer, l->timer_start + period);
        break;
    }
    default:
        break;
    }
    local_lvt_deliver(l, LVT_TIMER);
}

/* Interprocessor interrupts */

static void local_send(struct local *l, uint64_t icr)
{
    uint32_t low = (uint32_t)icr;
    struct message m = {.vector = (uint8_t)low, .mode = low >> 8 & 7, .logical = low & 0x800};
    unsigned shorthand = low >> 18 & 3;

    if ((m.mode == MODE_INIT && (low & 0xc000) == 0x8000) || m.mode == MODE_SMI ||
        m.mode == MODE_EXTINT) {
        return; /* INIT level de-assert does nothing any more */
    }
    if (m.mode <= MODE_LOWEST && m.vector < 16) {
        local_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    m.dest = local_x2apic(l) ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56);
    m.broadcast = m.dest == (local_x2apic(l) ? UINT32_MAX : 0xffu);
    if (shorthand == 0) {
        lapic_deliver(l->all, &m);
        return;
    }
    if (shorthand == 1) {
        local_deliver(l, &m);
        return;
    }
    m.broadcast = true;
    for (unsigned i = 0; i < l->all->config.cpus; i++) {
        struct local *other = &l->all->cpu[i];
        if ((shorthand == 2 || other != l) && local_matches(other, &m)) {
            local_deliver(other, &m);
        }
    }
}

/* Registers, numbered as in x2APIC: offset / 16 */

static uint32_t local_read(struct local *l, unsigned reg)
{
    switch (reg) {
    case REG_ID:
        return local_x2apic(l) ? l->id : l->id << 24;
    case REG_VERSION:
        return (LVTS - 1) << 16 | 0x14;
    case REG_TPR:
        return l->tpr;
    case REG_PPR:
        return local_ppr(l);
    case REG_LDR:
        return l->ldr;
    case REG_DFR:
        return l->dfr;
    case REG_SVR:
        return l->svr;
    case REG_ESR:
        return l->esr;
    case REG_ICR:
        return (uint32_t)l->icr;
    case REG_ICR_HIGH:
        return (uint32_t)(l->icr >> 32);
    case REG_INITIAL:
        return l->initial;
    case REG_CURRENT:
        return local_current(l);
    case REG_DIVIDE:
        return l->divide;
    default:
        break;
    }
    if (reg >= REG_LVT && reg < REG_LVT + LVTS) {
        return l->lvt[reg - REG_LVT];
    }
    if (reg >= REG_ISR && reg < REG_ESR) {
        const uint32_t *bits = reg >= REG_IRR ? l->irr : reg >= REG_TMR ? l->tmr : l->isr;
        return bits[reg & 7];
    }
    return 0;
}

static void local_write_lvt(struct local *l, unsigned n, uint32_t value)
{
    static const uint32_t bits[LVTS] = {0x710ff, 0x117ff, 0x117ff, 0x1f7ff, 0x1f7ff, 0x110ff};
    unsigned old_mode = local_timer_mode(l);

    value &= bits[n] & ~0x1000u;
    if (!(l->svr & SVR_ENABLED)) {
        value |= LVT_MASKED;
    }
    l->lvt[n] = value;
    if (n == LVT_TIMER && local_timer_mode(l) != old_mode) {
        l->deadline = 0;
        timer_disarm(l->timer);
        if (old_mode == TIMER_DEADLINE || local_timer_mode(l) == TIMER_DEADLINE) {
            l->initial = 0;
        } else {
            local_timer_start(l);
        }
    }
    local_update(l);
}

static void local_write_svr(struct local *l, uint32_t value)
{
    l->svr = value & 0x3ff;
    for (unsigned i = 0; !(l->svr & SVR_ENABLED) && i < LVTS; i++) {
        l->lvt[i] |= LVT_MASKED;
    }
    local_update(l);
}

static void local_write_esr(struct local *l)
{
    l->esr = l->esr_latch;
    l->esr_latch = 0;
}

static void local_write(struct local *l, unsigned reg, uint32_t value)
{
    if (reg >= REG_LVT && reg < REG_LVT + LVTS) {
        local_write_lvt(l, reg - REG_LVT, value);
        return;
    }
    switch (reg) {
    case REG_TPR:
        l->tpr = value & 0xff;
        local_update(l);
        break;
    case REG_EOI:
        local_eoi(l);
        break;
    case REG_LDR:
        l->ldr = value & 0xff000000u;
        break;
    case REG_DFR:
        l->dfr = value | 0x0fffffffu;
        break;
    case REG_SVR:
        local_write_svr(l, value);
        break;
    case REG_ESR:
        local_write_esr(l);
        break;
    case REG_ICR:
        l->icr = (l->icr & ~0xffffffffull) | (value & 0xccfffu);
        local_send(l, l->icr);
        break;
    case REG_ICR_HIGH:
        l->icr = (l->icr & 0xffffffffu) | (uint64_t)(value & 0xff000000u) << 32;
        break;
    case REG_INITIAL:
        if (local_timer_mode(l) != TIMER_DEADLINE) {
            l->initial = value;
            local_timer_start(l);
        }
        break;
    case REG_DIVIDE:
        l->divide = value & 0xb;
        if (l->initial && timer_is_armed(l->timer)) {
            local_timer_start(l);
        }
        break;
    default:
        break;
    }
}

uint64_t lapic_page(void *dev, unsigned cpu)
{
    struct local *l = lapic_local(dev, cpu);

    return (l->base & APIC_BASE_ENABLE) && !local_x2apic(l) ? l->base & ~0xfffull : 0;
}

uint64_t lapic_mmio_read(void *dev, unsigned cpu, uint32_t addr)
{
    return local_read(lapic_local(dev, cpu), addr >> 4 & 0x3f);
}

void lapic_mmio_write(void *dev, unsigned cpu, uint32_t addr, uint32_t value)
{
    if ((addr >> 4 & 0x3f) != REG_SELF_IPI) {
        local_write(lapic_local(dev, cpu), addr >> 4 & 0x3f, value);
    }
}

uint64_t lapic_cr8_read(void *dev, unsigned cpu)
{
    return lapic_local(dev, cpu)->tpr >> 4;
}

void lapic_cr8_write(void *dev, unsigned cpu, uint64_t cr8)
{
    local_write(lapic_local(dev, cpu), REG_TPR, (uint32_t)(cr8 & 15) << 4);
}

/* IA32_APIC_BASE, SDM vol. 3, 11.12.5: the transitions between disabled, xAPIC and x2APIC. */
static bool local_write_base(struct local *l, uint64_t value)
{
    const uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    uint64_t was = l->base & modes, is = value & modes;

    if (is == APIC_BASE_X2APIC || (was == modes && is == APIC_BASE_ENABLE) ||
        (was == 0 && is == modes) || (value & ~0xfffffffd00ull)) {
        return false;
    }
    if ((value & 0xfffff000u) != APIC_DEFAULT) {
        device_log_once("lapic", value, "APIC base %" G_GINT64_MODIFIER "x: only FEE00000 works",
                        value);
    }
    l->base = (value & ~(uint64_t)APIC_BASE_BSP) | (l->id == 0 ? APIC_BASE_BSP : 0);
    if (!is) {
        local_reset(l);
    } else if (is == modes && was != modes) {
        l->ldr = (l->id >> 4) << 16 | 1u << (l->id & 15);
    }
    local_update(l);
    return true;
}

static bool x2apic_readable(unsigned reg)
{
    return reg == REG_ID || reg == REG_VERSION || reg == REG_TPR || reg == REG_PPR ||
           reg == REG_LDR || reg == REG_SVR || (reg >= REG_ISR && reg <= REG_ESR) ||
           reg == REG_ICR || (reg >= REG_LVT && reg <= REG_CURRENT) || reg == REG_DIVIDE;
}

static bool x2apic_writable(unsigned reg, uint64_t value)
{
    if (reg == REG_ICR) {
        return true;
    }
    if (value >> 32 || ((reg == REG_EOI || reg == REG_ESR) && value)) {
        return false;
    }
    return reg == REG_TPR || reg == REG_EOI || reg == REG_SVR || reg == REG_ESR ||
           (reg >= REG_LVT && reg <= REG_INITIAL) || reg == REG_DIVIDE || reg == REG_SELF_IPI;
}

bool lapic_msr_read(void *dev, unsigned cpu, uint32_t msr, uint64_t *value)
{
    struct local *l = lapic_local(dev, cpu);
    unsigned reg = msr - MSR_X2APIC;

    if (msr == MSR_APIC_BASE) {
        *value = l->base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = l->deadline;
        return true;
    }
    if (reg > 0x3f || !local_x2apic(l) || !x2apic_readable(reg)) {
        return false;
    }
    *value = reg == REG_ICR ? l->icr : local_read(l, reg);
    return true;
}

static void x2apic_write(struct local *l, unsigned reg, uint64_t value)
{
    if (reg == REG_ICR) {
        l->icr = value & 0xffffffff000ccfffull;
        local_send(l, l->icr);
    } else if (reg == REG_SELF_IPI) {
        local_send(l, (value & 0xff) | 1u << 18);
    } else {
        local_write(l, reg, (uint32_t)value);
    }
}

bool lapic_msr_write(void *dev, unsigned cpu, uint32_t msr, uint64_t value)
{
    struct local *l = lapic_local(dev, cpu);
    unsigned reg = msr - MSR_X2APIC;

    if (msr == MSR_APIC_BASE) {
        return local_write_base(l, value);
    }
    if (msr == MSR_TSC_DEADLINE) {
        if (local_timer_mode(l) == TIMER_DEADLINE) {
            local_deadline_set(l, value);
        }
        return true;
    }
    if (reg > 0x3f || !local_x2apic(l) || !x2apic_writable(reg, value)) {
        return false;
    }
    x2apic_write(l, reg, value);
    return true;
}

void lapic_get_state(void *dev, unsigned cpu, struct apic_state *state)
{
    struct local *l = lapic_local(dev, cpu);

    *state = (struct apic_state){.base = l->base, .deadline = l->deadline};
    for (unsigned reg = 0; reg < APIC_STATE_REGISTERS; reg++) {
        state->reg[reg] = local_read(l, reg);
    }
    state->reg[REG_ID] = l->id << 24;
    state->reg[REG_ICR_HIGH] = (uint32_t)(l->icr >> 32);
}

static void local_set_timer(struct local *l, const struct apic_state *state)
{
    uint64_t left = state->reg[REG_CURRENT] * local_divider(l), now = clock_now(l->all->clock);

    l->initial = state->reg[REG_INITIAL];
    timer_disarm(l->timer);
    if (local_timer_mode(l) == TIMER_DEADLINE) {
        local_deadline_set(l, state->deadline);
        return;
    }
    l->deadline = 0;
    left = MIN(left, local_period(l));
    l->timer_start = now + left - local_period(l);
    if (l->initial && (left || local_timer_mode(l) == TIMER_PERIODIC)) {
        timer_arm(l->timer, now + left);
    }
}

static void local_set_registers(struct local *l, const uint32_t *reg)
{
    l->tpr = reg[REG_TPR] & 0xff;
    l->ldr = reg[REG_LDR];
    l->dfr = reg[REG_DFR] | 0x0fffffffu;
    l->svr = reg[REG_SVR] & 0x3ff;
    l->esr = reg[REG_ESR];
    l->icr = reg[REG_ICR] | (uint64_t)reg[REG_ICR_HIGH] << 32;
    l->divide = reg[REG_DIVIDE] & 0xb;
    for (unsigned i = 0; i < LVTS; i++) {
        l->lvt[i] = reg[REG_LVT + i] & ~0x1000u;
    }
    memcpy(l->isr, &reg[REG_ISR], sizeof l->isr);
    memcpy(l->tmr, &reg[REG_TMR], sizeof l->tmr);
    memcpy(l->irr, &reg[REG_IRR], sizeof l->irr);
}

void lapic_set_state(void *dev, unsigned cpu, const struct apic_state *state)
{
    struct local *l = lapic_local(dev, cpu);

    l->base = state->base;
    local_set_registers(l, state->reg);
    local_set_timer(l, state);
    local_update(l);
}

void lapic_rest(void *dev)
{
    struct lapic *a = dev;

    for (unsigned i = 0; i < a->config.cpus; i++) {
        timer_disarm(a->cpu[i].timer);
    }
}

bool lapic_extint(void *dev)
{
    return ((struct lapic *)dev)->extint;
}

static bool lapic_init(void *dev, const struct device_host *host, const void *config,
                       GError **error)
{
    struct lapic *a = dev;

    a->config = *(const struct lapic_config *)config;
    a->clock = host->clock;
    a->config.cpus = CLAMP(a->config.cpus, 1, LAPIC_MAX_CPUS);
    for (unsigned i = 0; i < a->config.cpus; i++) {
        a->cpu[i].all = a;
        a->cpu[i].id = i;
        a->cpu[i].timer = timer_new(host->clock, local_timer_fired, &a->cpu[i]);
    }
    return true;
}

static void lapic_fini(void *dev)
{
    struct lapic *a = dev;

    for (unsigned i = 0; i < LAPIC_MAX_CPUS; i++) {
        timer_free(a->cpu[i].timer);
    }
}

static void lapic_reset(void *dev)
{
    struct lapic *a = dev;

    a->nmi = false;
    a->lowest_next = 0;
    for (unsigned i = 0; i < a->config.cpus; i++) {
        a->cpu[i].base = APIC_DEFAULT | APIC_BASE_ENABLE | (i == 0 ? APIC_BASE_BSP : 0);
        local_reset(&a->cpu[i]);
    }
}

static void lapic_reset_lines(void *dev)
{
    struct lapic *a = dev;

    for (unsigned i = 0; i < a->config.cpus; i++) {
        local_update(&a->cpu[i]);
    }
}

static void bits_state(struct state *s, const char *name, uint32_t *bits, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        state_push(s, name, i);
        state_u32(s, "value", &bits[i]);
        state_pop(s);
    }
}

static void local_state(struct local *l, struct state *s)
{
    state_u64(s, "base", &l->base);
    state_u64(s, "icr", &l->icr);
    state_u64(s, "deadline", &l->deadline);
    state_u64(s, "timer_start", &l->timer_start);
    state_u32(s, "tpr", &l->tpr);
    state_u32(s, "ldr", &l->ldr);
    state_u32(s, "dfr", &l->dfr);
    state_u32(s, "svr", &l->svr);
    state_u32(s, "esr", &l->esr);
    state_u32(s, "esr_latch", &l->esr_latch);
    state_u32(s, "initial", &l->initial);
    state_u32(s, "divide", &l->divide);
    bits_state(s, "lvt", l->lvt, LVTS);
    bits_state(s, "irr", l->irr, 8);
    bits_state(s, "isr", l->isr, 8);
    bits_state(s, "tmr", l->tmr, 8);
    state_timer(s, "timer", l->timer);
}

static void lapic_state(void *dev, struct state *s)
{
    struct lapic *a = dev;
    uint32_t cpus = a->config.cpus;

    state_u32(s, "cpus", &cpus);
    if (cpus != a->config.cpus) {
        state_fail(s, "cpus", "does not fit this machine");
        return;
    }
    state_bool(s, "extint", &a->extint);
    state_bool(s, "nmi", &a->nmi);
    state_u8(s, "lowest_next", &a->lowest_next);
    for (unsigned i = 0; i < cpus; i++) {
        state_push(s, "cpu", i);
        local_state(&a->cpu[i], s);
        state_pop(s);
    }
}

static bool lapic_restored(void *dev, GError **error)
{
    lapic_reset_lines(dev);
    return true;
}

const struct device_class lapic_device = {
    .name = "lapic",
    .size = sizeof(struct lapic),
    .version = 1,
    .init = lapic_init,
    .fini = lapic_fini,
    .reset = lapic_reset,
    .reset_lines = lapic_reset_lines,
    .state = lapic_state,
    .restored = lapic_restored,
};
