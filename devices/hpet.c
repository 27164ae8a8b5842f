/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IA-PC HPET specification 1.0a: main counter, one-shot and periodic comparators, 32-bit mode,
 * legacy replacement and FSB (MSI) delivery.
 */
#include "hpet.h"

#define HPET_BASE   0xfed00000u
#define HPET_TIMERS 3u
#define HPET_NS     10u /* per tick */
#define HPET_PERIOD 10000000u

#define CONFIG_ENABLE 1u
#define CONFIG_LEGACY 2u

#define TIMER_LEVEL      (1u << 1)
#define TIMER_INT_ENABLE (1u << 2)
#define TIMER_PERIODIC   (1u << 3)
#define TIMER_VALUE_SET  (1u << 6)
#define TIMER_32BIT      (1u << 8)
#define TIMER_FSB        (1u << 14)
#define TIMER_WRITABLE   0x7f4eu /* level, enable, periodic, value set, 32 bit, route, FSB */
#define TIMER_CAPS       (0x00ff0f00ull << 32 | 0x8030u) /* routes 8-11, 16-23; FSB, 64 bit, periodic */

#define MIN_PERIOD_NS 20000u

struct comparator {
    struct hpet *hpet;
    struct timer *timer;
    uint64_t config, value, period, fsb;
};

struct hpet {
    struct hpet_config config;
    struct memory *memory;
    struct clock *clock;
    unsigned mapping;
    uint64_t general, status, counter; /* counter: while stopped; while running: at clock time 0 */
    struct comparator timer[HPET_TIMERS];
};

bool hpet_owns_legacy(void *dev)
{
    struct hpet *h = dev;

    return (h->general & (CONFIG_ENABLE | CONFIG_LEGACY)) == (CONFIG_ENABLE | CONFIG_LEGACY);
}

static bool hpet_running(const struct hpet *h)
{
    return h->general & CONFIG_ENABLE;
}

static uint64_t hpet_counter(const struct hpet *h)
{
    return hpet_running(h) ? h->counter + clock_now(h->clock) / HPET_NS : h->counter;
}

static unsigned comparator_index(const struct comparator *c)
{
    return (unsigned)(c - c->hpet->timer);
}

static unsigned comparator_gsi(const struct comparator *c)
{
    unsigned n = comparator_index(c);

    if (hpet_owns_legacy(c->hpet) && n < 2) {
        return n ? 8 : 0;
    }
    return c->config >> 9 & 31;
}

static bool comparator_route_valid(const struct comparator *c)
{
    return (hpet_owns_legacy(c->hpet) && comparator_index(c) < 2) ||
           (TIMER_CAPS >> 32 >> (c->config >> 9 & 31) & 1);
}

static void comparator_line(struct comparator *c, bool level)
{
    if (comparator_route_valid(c)) {
        c->hpet->config.gsi_set(c->hpet->config.opaque, comparator_gsi(c), level);
    }
}

static void comparator_interrupt(struct comparator *c)
{
    if (c->config & TIMER_LEVEL) {
        c->hpet->status |= 1u << comparator_index(c);
    }
    if (!(c->config & TIMER_INT_ENABLE)) {
        return;
    }
    if (c->config & TIMER_FSB) {
        if (c->hpet->config.msi) {
            c->hpet->config.msi(c->hpet->config.opaque, c->fsb >> 32, (uint32_t)c->fsb);
        }
    } else if (c->config & TIMER_LEVEL) {
        comparator_line(c, true);
    } else {
        comparator_line(c, false);
        comparator_line(c, true);
    }
}

/* Ticks from now until the comparator matches: at least 1, the whole wrap when it just did. */
static uint64_t comparator_distance(const struct comparator *c)
{
    uint64_t ticks = c->value - hpet_counter(c->hpet);

    if (c->config & TIMER_32BIT) {
        ticks &= UINT32_MAX;
        return ticks ? ticks : 1ull << 32;
    }
    return ticks ? ticks : UINT64_MAX;
}

/* Periodic: a match that has passed moves on to the next one after now; periods missed are dropped.
 */
static void comparator_catch_up(struct comparator *c)
{
    uint64_t mask = c->config & TIMER_32BIT ? UINT32_MAX : UINT64_MAX;
    uint64_t behind = (hpet_counter(c->hpet) - c->value) & mask;

    if ((c->config & TIMER_PERIODIC) && c->period && behind <= mask / 2) {
        c->value = (c->value + (behind / c->period + 1) * c->period) & mask;
    }
}

/* A comparator whose match nobody could see (interrupt off, no status bit) costs the host no timer.
 */
static bool comparator_visible(const struct comparator *c)
{
    return c->config & (TIMER_INT_ENABLE | TIMER_LEVEL);
}

static void comparator_arm(struct comparator *c)
{
    uint64_t ticks, now = clock_now(c->hpet->clock);

    if (!hpet_running(c->hpet) || !comparator_visible(c)) {
        timer_disarm(c->timer);
        return;
    }
    comparator_catch_up(c);
    ticks = comparator_distance(c);
    if (ticks > INT64_MAX / HPET_NS) {
        timer_disarm(c->timer); /* 64-bit: a value already passed comes back in centuries */
        return;
    }
    timer_arm(c->timer, now / HPET_NS * HPET_NS + ticks * HPET_NS);
}

static void comparator_advance(struct comparator *c)
{
    comparator_catch_up(c);
    comparator_arm(c);
    if (timer_is_armed(c->timer)) {
        timer_arm(c->timer,
                  MAX(timer_deadline(c->timer), clock_now(c->hpet->clock) + MIN_PERIOD_NS));
    }
}

static void comparator_fired(void *opaque)
{
    struct comparator *c = opaque;

    comparator_interrupt(c);
    if ((c->config & TIMER_PERIODIC) && c->period) {
        comparator_advance(c);
    } else if (c->config & TIMER_32BIT) {
        comparator_arm(c);
    }
}

static void hpet_write_general(struct hpet *h, uint64_t value)
{
    bool was = hpet_running(h);

    value &= CONFIG_ENABLE | CONFIG_LEGACY;
    if (!was && (value & CONFIG_ENABLE)) {
        h->counter -= clock_now(h->clock) / HPET_NS;
    } else if (was && !(value & CONFIG_ENABLE)) {
        h->counter = hpet_counter(h);
    }
    h->general = value;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        comparator_arm(&h->timer[n]);
    }
}

static void hpet_write_status(struct hpet *h, uint64_t value)
{
    uint64_t clear = value & h->status;

    h->status &= ~clear;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        if (clear >> n & 1) {
            comparator_line(&h->timer[n], false);
        }
    }
}

static void comparator_write_config(struct comparator *c, uint64_t value)
{
    if (c->hpet->status >> comparator_index(c) & 1) {
        comparator_line(c, false);
    }
    c->config = value & TIMER_WRITABLE;
    if (c->config & TIMER_32BIT) {
        c->value &= UINT32_MAX;
        c->period &= UINT32_MAX;
    }
    comparator_arm(c);
}

static void comparator_write_value(struct comparator *c, uint64_t value)
{
    if (c->config & TIMER_32BIT) {
        value &= UINT32_MAX;
    }
    if (!(c->config & TIMER_PERIODIC) || (c->config & TIMER_VALUE_SET)) {
        c->value = value;
    }
    if (c->config & TIMER_PERIODIC) {
        c->period = value;
    }
    c->config &= ~(uint64_t)TIMER_VALUE_SET;
    comparator_arm(c);
}

static uint64_t comparator_read(struct comparator *c, unsigned reg)
{
    switch (reg) {
    case 0:
        return c->config | TIMER_CAPS;
    case 1:
        if (hpet_running(c->hpet)) {
            comparator_catch_up(c);
        }
        return c->value;
    case 2:
        return c->fsb;
    default:
        return 0;
    }
}

static uint64_t register_read(struct hpet *h, uint64_t addr)
{
    if (addr >= 0x100) {
        unsigned n = (unsigned)(addr - 0x100) / 0x20;
        return n < HPET_TIMERS ? comparator_read(&h->timer[n], addr / 8 & 3) : 0;
    }
    switch (addr) {
    case 0x00:
        return (uint64_t)HPET_PERIOD << 32 | 0x8086a001u | (HPET_TIMERS - 1) << 8;
    case 0x10:
        return h->general;
    case 0x20:
        return h->status;
    case 0xf0:
        return hpet_counter(h);
    default:
        return 0;
    }
}

static void register_write(struct hpet *h, uint64_t addr, uint64_t value)
{
    unsigned n = (unsigned)(addr - 0x100) / 0x20;

    if (addr >= 0x100 && n < HPET_TIMERS) {
        struct comparator *c = &h->timer[n];
        switch (addr / 8 & 3) {
        case 0:
            comparator_write_config(c, value);
            break;
        case 1:
            comparator_write_value(c, value);
            break;
        case 2:
            c->fsb = value;
            break;
        default:
            break;
        }
    } else if (addr == 0x10) {
        hpet_write_general(h, value);
    } else if (addr == 0x20) {
        hpet_write_status(h, value);
    } else if (addr == 0xf0 && !hpet_running(h)) {
        h->counter = value;
    }
}

static uint64_t hpet_read(void *dev, uint64_t addr, unsigned size)
{
    return register_read(dev, addr & 0x3f8) >> (8 * (addr & 7));
}

/* The half that a 32-bit write leaves alone; a periodic comparator's is its period's. */
static uint64_t write_base(struct hpet *h, uint64_t addr)
{
    unsigned n = (unsigned)(addr - 0x100) / 0x20;

    if (addr >= 0x100 && n < HPET_TIMERS && (addr / 8 & 3) == 1 &&
        (h->timer[n].config & TIMER_PERIODIC)) {
        return h->timer[n].period;
    }
    return addr == 0x20 ? 0 : register_read(h, addr);
}

static void hpet_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct hpet *h = dev;
    unsigned shift = 8 * (addr & 7);
    uint64_t mask = size >= 8 ? UINT64_MAX : ((1ull << (8 * size)) - 1) << shift;

    addr &= 0x3f8;
    register_write(h, addr, (write_base(h, addr) & ~mask) | (value << shift & mask));
}

static const struct io_ops hpet_ops = {"hpet", hpet_read, hpet_write, 8, 1};

static bool hpet_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct hpet *h = dev;
    struct mapping m = {.gpa = HPET_BASE,
                        .size = 0x400,
                        .kind = MAPPING_IO,
                        .priority = MEMORY_PRIORITY_DEVICE,
                        .ops = &hpet_ops,
                        .opaque = dev};

    h->config = *(const struct hpet_config *)config;
    h->memory = host->memory;
    h->clock = host->clock;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        h->timer[n].hpet = h;
        h->timer[n].timer = timer_new(host->clock, comparator_fired, &h->timer[n]);
    }
    h->mapping = memory_map(host->memory, &m);
    return true;
}

static void hpet_fini(void *dev)
{
    struct hpet *h = dev;

    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        timer_free(h->timer[n].timer);
    }
    if (h->mapping) {
        memory_unmap(h->memory, h->mapping);
    }
}

static void hpet_reset(void *dev)
{
    struct hpet *h = dev;

    h->general = h->status = h->counter = 0;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        struct comparator *c = &h->timer[n];
        c->config = c->period = c->fsb = 0;
        c->value = UINT64_MAX;
        timer_disarm(c->timer);
    }
}

static void hpet_state(void *dev, struct state *s)
{
    struct hpet *h = dev;

    state_u64(s, "general", &h->general);
    state_u64(s, "status", &h->status);
    state_u64(s, "counter", &h->counter);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        struct comparator *c = &h->timer[n];
        state_push(s, "timer", n);
        state_u64(s, "config", &c->config);
        state_u64(s, "value", &c->value);
        state_u64(s, "period", &c->period);
        state_u64(s, "fsb", &c->fsb);
        state_timer(s, "timer", c->timer);
        state_pop(s);
        c->config &= TIMER_WRITABLE;
    }
}

const struct device_class hpet_device = {
    .name = "hpet",
    .size = sizeof(struct hpet),
    .version = 1,
    .init = hpet_init,
    .fini = hpet_fini,
    .reset = hpet_reset,
    .state = hpet_state,
};
