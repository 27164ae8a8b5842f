/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8254 (order 231164-005), all six modes, BCD, latch and read-back commands.
 *
 * Counters are not run: their value and output are computed from the time since they were loaded.
 * OUT0's rising edges come from a timer; edges missed while the host was busy are dropped, as if
 * the guest had held interrupts off.
 */
#include "pit8254.h"

#define PIT_HZ 1193182u

struct channel {
    uint8_t mode, access; /* access: 1 low, 2 high, 3 low then high */
    bool bcd, gate, loaded, high_next_write, high_next_read, status_latched;
    uint8_t write_low, status, latch_left; /* latch_left: bytes still to read, 0: not latched */
    uint16_t latch;
    uint32_t count; /* 1-65536 */
    uint64_t start; /* when it was loaded or triggered, ns */
};

struct pit {
    struct channel channel[3];
    struct clock *clock;
    struct irq irq;
    struct timer *timer;
};

static uint64_t ns_to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_SECOND);
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * NS_PER_SECOND + PIT_HZ - 1) / PIT_HZ);
}

static uint64_t channel_ticks(const struct pit *pit, const struct channel *c)
{
    uint64_t now = clock_now(pit->clock);

    return now > c->start ? ns_to_ticks(now - c->start) : 0;
}

static bool channel_periodic(const struct channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

static bool channel_out(const struct pit *pit, const struct channel *c)
{
    uint64_t t = channel_ticks(pit, c);

    if (!c->loaded) {
        return c->mode != 0;
    }
    switch (c->mode) {
    case 0:
    case 1:
        return t >= c->count;
    case 2:
        return !c->gate || t % c->count != c->count - 1;
    case 3:
        return !c->gate || t % c->count < (c->count + 1) / 2;
    default:
        return t != c->count;
    }
}

static uint16_t to_bcd(uint32_t v)
{
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint16_t v)
{
    return (v & 15u) + (v >> 4 & 15u) * 10 + (v >> 8 & 15u) * 100 + (v >> 12 & 15u) * 1000;
}

static uint16_t channel_value(const struct pit *pit, const struct channel *c)
{
    uint64_t t = c->loaded ? channel_ticks(pit, c) : 0;
    uint32_t value, modulus = c->bcd ? 10000 : 65536;

    if (channel_periodic(c) && !c->gate) {
        t = 0;
    }
    if (c->mode == 3) {
        value = c->count - (uint32_t)(2 * t % c->count);
    } else if (c->mode == 2) {
        value = c->count - (uint32_t)(t % c->count);
    } else {
        value = (uint32_t)((c->count + modulus - t % modulus) % modulus);
    }
    return c->bcd ? to_bcd(value % modulus) : (uint16_t)value;
}

/* Arms the timer for OUT0's next rising edge. */
static void pit_arm(struct pit *pit)
{
    struct channel *c = &pit->channel[0];
    uint64_t t = channel_ticks(pit, c), edge;

    if (!c->loaded) {
        timer_disarm(pit->timer);
        return;
    }
    if (channel_periodic(c)) {
        edge = (t / c->count + 1) * c->count;
    } else {
        edge = c->mode >= 4 ? c->count + 1 : c->count;
        if (t >= edge) {
            timer_disarm(pit->timer);
            return;
        }
    }
    timer_arm(pit->timer, c->start + ticks_to_ns(edge));
}

static void pit_edge(void *opaque)
{
    struct pit *pit = opaque;

    irq_set(&pit->irq, false);
    irq_set(&pit->irq, true);
    pit_arm(pit);
}

static void channel_load(struct pit *pit, struct channel *c, uint16_t value)
{
    uint32_t count = c->bcd ? from_bcd(value) : value;

    if (count == 0) {
        count = c->bcd ? 10000 : 65536;
    }
    if (count == 1 && channel_periodic(c)) {
        count = 2; /* 1 is illegal there */
    }
    c->count = count;
    c->start = clock_now(pit->clock);
    c->loaded = c->mode != 1 && c->mode != 5; /* those wait for the gate */
    if (c == &pit->channel[0]) {
        irq_set(&pit->irq, channel_out(pit, c));
        pit_arm(pit);
    }
}

static void channel_latch(struct pit *pit, struct channel *c)
{
    if (!c->latch_left) {
        c->latch = channel_value(pit, c);
        c->latch_left = c->access == 3 ? 2 : 1;
    }
}

static void channel_latch_status(struct pit *pit, struct channel *c)
{
    if (!c->status_latched) {
        c->status = (uint8_t)(channel_out(pit, c) << 7 | !c->loaded << 6 | c->access << 4 |
                              c->mode << 1 | c->bcd);
        c->status_latched = true;
    }
}

static void pit_read_back(struct pit *pit, uint8_t value)
{
    for (unsigned i = 0; i < 3; i++) {
        if (!(value & (2u << i))) {
            continue;
        }
        if (!(value & 0x20)) {
            channel_latch(pit, &pit->channel[i]);
        }
        if (!(value & 0x10)) {
            channel_latch_status(pit, &pit->channel[i]);
        }
    }
}

static void pit_control(struct pit *pit, uint8_t value)
{
    struct channel *c;

    if (value >> 6 == 3) {
        pit_read_back(pit, value);
        return;
    }
    c = &pit->channel[value >> 6];
    if (!(value & 0x30)) {
        channel_latch(pit, c);
        return;
    }
    c->access = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5) {
        c->mode -= 4; /* 6 and 7 are 2 and 3 */
    }
    c->bcd = value & 1;
    c->loaded = c->high_next_write = c->high_next_read = c->status_latched = false;
    c->latch_left = 0;
    if (c == &pit->channel[0]) {
        timer_disarm(pit->timer);
        irq_set(&pit->irq, c->mode != 0);
    }
}

static void pit_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct pit *pit = dev;
    struct channel *c = &pit->channel[addr % 3];
    uint8_t byte = (uint8_t)value;

    if (addr == 3) {
        pit_control(pit, byte);
    } else if (c->access == 1) {
        channel_load(pit, c, byte);
    } else if (c->access == 2) {
        channel_load(pit, c, (uint16_t)(byte << 8));
    } else if (!c->high_next_write) {
        c->write_low = byte;
        c->high_next_write = true;
    } else {
        c->high_next_write = false;
        channel_load(pit, c, (uint16_t)(byte << 8 | c->write_low));
    }
}

static uint8_t channel_read_latched(struct channel *c)
{
    c->latch_left--;
    if (c->access == 3) {
        return c->latch_left ? (uint8_t)c->latch : (uint8_t)(c->latch >> 8);
    }
    return c->access == 2 ? (uint8_t)(c->latch >> 8) : (uint8_t)c->latch;
}

static uint64_t pit_read(void *dev, uint64_t addr, unsigned size)
{
    struct pit *pit = dev;
    struct channel *c = &pit->channel[addr % 3];
    uint16_t value;
    bool high;

    if (addr == 3) {
        return 0xff;
    }
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->latch_left) {
        return channel_read_latched(c);
    }
    value = channel_value(pit, c);
    high = c->access == 2 || (c->access == 3 && c->high_next_read);
    c->high_next_read = c->access == 3 && !c->high_next_read;
    return high ? value >> 8 : value & 0xff;
}

void pit_set_gate2(void *dev, bool level)
{
    struct pit *pit = dev;
    struct channel *c = &pit->channel[2];

    if (level && !c->gate && c->mode != 0 && c->mode != 4) { /* a rising edge (re)starts it */
        c->start = clock_now(pit->clock);
        c->loaded = true;
    }
    c->gate = level;
}

bool pit_out2(void *dev)
{
    struct pit *pit = dev;

    return channel_out(pit, &pit->channel[2]);
}

static const struct io_ops pit_ops = {"pit", pit_read, pit_write, 1, 1};

static bool pit_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct pit *pit = dev;

    pit->clock = host->clock;
    pit->irq = ((const struct pit_config *)config)->irq;
    pit->timer = timer_new(host->clock, pit_edge, pit);
    host->map_ports(host->opaque, 0x40, 4, &pit_ops, dev);
    return true;
}

static void pit_fini(void *dev)
{
    timer_free(((struct pit *)dev)->timer);
}

static void pit_reset(void *dev)
{
    struct pit *pit = dev;

    for (unsigned i = 0; i < 3; i++) {
        pit->channel[i] = (struct channel){.mode = 3, .access = 3, .count = 65536, .gate = i != 2};
    }
    timer_disarm(pit->timer);
}

static void pit_reset_lines(void *dev)
{
    irq_set(&((struct pit *)dev)->irq, false);
}

static void channel_state(struct channel *c, struct state *s)
{
    state_u8(s, "mode", &c->mode);
    state_u8(s, "access", &c->access);
    state_bool(s, "bcd", &c->bcd);
    state_bool(s, "gate", &c->gate);
    state_bool(s, "loaded", &c->loaded);
    state_bool(s, "high_next_write", &c->high_next_write);
    state_bool(s, "high_next_read", &c->high_next_read);
    state_bool(s, "status_latched", &c->status_latched);
    state_u8(s, "write_low", &c->write_low);
    state_u8(s, "status", &c->status);
    state_u8(s, "latch_left", &c->latch_left);
    state_u16(s, "latch", &c->latch);
    state_u32(s, "count", &c->count);
    state_u64(s, "start", &c->start);
    if (c->mode > 5 || c->count < 1 || c->count > 65536) {
        state_fail(s, "count", "is out of range");
        c->count = 65536;
        c->mode = 3;
    }
}

static void pit_state(void *dev, struct state *s)
{
    struct pit *pit = dev;

    for (unsigned i = 0; i < 3; i++) {
        state_push(s, "channel", i);
        channel_state(&pit->channel[i], s);
        state_pop(s);
    }
    state_timer(s, "timer", pit->timer);
}

const struct device_class pit_device = {
    .name = "8254",
    .size = sizeof(struct pit),
    .version = 1,
    .init = pit_init,
    .fini = pit_fini,
    .reset = pit_reset,
    .reset_lines = pit_reset_lines,
    .state = pit_state,
};
