/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCO watchdog (ICH9 datasheet, section 13.9). It counts ticks of 0.6 s; when they are used up
 * TIMEOUT is set and it counts once more, and at the end of that it resets the machine, unless
 * NO_REBOOT is set. Unlike the real one it stands still until it is reloaded for the first time,
 * since firmware does not halt it here. There are no SMIs and NMIs of it.
 */
#include "tco.h"

enum {
    RELOAD = 0x00,
    DATA = 0x02, /* in, and out at 3 */
    STATUS1 = 0x04,
    STATUS2 = 0x06,
    CONTROL1 = 0x08,
    CONTROL2 = 0x0a,
    MESSAGES = 0x0c,
    WAKE = 0x0e,
    IRQ_CONTROL = 0x10,
    TIMER = 0x12
};

#define STATUS1_TIMEOUT 0x0008u
#define STATUS1_ALL     0x1f8fu
#define STATUS2_SECOND  0x0002u
#define STATUS2_ALL     0x001fu
#define CONTROL1_HALT   0x0800u
#define CONTROL1_LOCK   0x1000u
#define CONTROL1_ALL    0x1b00u
#define CONTROL2_ALL    0x003eu
#define TICKS_MAX       0x3ffu
#define TICK_NS         600000000ull

static void tco_arm(struct tco *tco, uint16_t ticks)
{
    tco->left = ticks;
    if (tco->started && !(tco->control1 & CONTROL1_HALT)) {
        timer_arm(tco->timer, clock_now(tco->clock) + ticks * TICK_NS);
    } else {
        timer_disarm(tco->timer);
    }
}

static uint16_t tco_left(const struct tco *tco)
{
    uint64_t now = clock_now(tco->clock), end = timer_deadline(tco->timer);

    if (!timer_is_armed(tco->timer)) {
        return tco->left;
    }
    return end > now ? (uint16_t)((end - now + TICK_NS - 1) / TICK_NS) : 0;
}

static void tco_expired(void *opaque)
{
    struct tco *tco = opaque;
    bool second = tco->status1 & STATUS1_TIMEOUT;

    tco->status1 |= STATUS1_TIMEOUT;
    if (second && !tco->no_reboot) {
        tco->status2 |= STATUS2_SECOND;
        tco->reset(tco->opaque);
        return;
    }
    tco_arm(tco, tco->reload);
}

uint16_t tco_read(const struct tco *tco, unsigned at)
{
    switch (at) {
    case RELOAD:
        return tco_left(tco);
    case DATA:
        return (uint16_t)(tco->data_in | tco->data_out << 8);
    case STATUS1:
        return tco->status1;
    case STATUS2:
        return tco->status2;
    case CONTROL1:
        return tco->control1;
    case CONTROL2:
        return tco->control2;
    case MESSAGES:
        return (uint16_t)(tco->message[0] | tco->message[1] << 8);
    case WAKE:
        return tco->wake;
    case IRQ_CONTROL:
        return tco->irq_control;
    case TIMER:
        return tco->reload;
    default:
        return 0;
    }
}

static void write_control1(struct tco *tco, uint16_t value)
{
    uint16_t left = tco_left(tco);

    tco->control1 = (value & CONTROL1_ALL) | (tco->control1 & CONTROL1_LOCK);
    tco_arm(tco, left);
}

void tco_write(struct tco *tco, unsigned at, uint16_t value)
{
    switch (at) {
    case RELOAD:
        tco->started = true;
        tco_arm(tco, tco->reload);
        break;
    case DATA:
        tco->data_in = (uint8_t)value;
        tco->data_out = (uint8_t)(value >> 8);
        break;
    case STATUS1:
        tco->status1 &= (uint16_t) ~(value & STATUS1_ALL);
        break;
    case STATUS2:
        tco->status2 &= (uint16_t) ~(value & STATUS2_ALL);
        break;
    case CONTROL1:
        write_control1(tco, value);
        break;
    case CONTROL2:
        tco->control2 = value & CONTROL2_ALL;
        break;
    case MESSAGES:
        tco->message[0] = (uint8_t)value;
        tco->message[1] = (uint8_t)(value >> 8);
        break;
    case WAKE:
        tco->wake = (uint8_t)value;
        break;
    case IRQ_CONTROL:
        tco->irq_control = value & 3;
        break;
    case TIMER: /* from the next reload on; 0 and 1 are ignored */
        if ((value & TICKS_MAX) > 1) {
            tco->reload = value & TICKS_MAX;
        }
        break;
    default:
        break;
    }
}

void tco_init(struct tco *tco, struct clock *clock, void (*reset)(void *opaque), void *opaque)
{
    tco->clock = clock;
    tco->timer = timer_new(clock, tco_expired, tco);
    tco->reset = reset;
    tco->opaque = opaque;
}

void tco_fini(struct tco *tco)
{
    timer_free(tco->timer);
}

/* What the watchdog's own reset leaves: SECOND, by which the guest's driver knows of it. */
void tco_reset(struct tco *tco)
{
    timer_disarm(tco->timer);
    tco->started = false;
    tco->no_reboot = true;
    tco->data_in = tco->data_out = tco->wake = tco->message[0] = tco->message[1] = 0;
    tco->irq_control = 3;
    tco->status1 = tco->control1 = tco->control2 = 0;
    tco->status2 &= STATUS2_SECOND;
    tco->reload = tco->left = 4;
}

void tco_state(struct tco *tco, struct state *s)
{
    state_bool(s, "tco_started", &tco->started);
    state_bool(s, "tco_no_reboot", &tco->no_reboot);
    state_u8(s, "tco_data_in", &tco->data_in);
    state_u8(s, "tco_data_out", &tco->data_out);
    state_u8(s, "tco_wake", &tco->wake);
    state_u8(s, "tco_irq_control", &tco->irq_control);
    state_bytes(s, "tco_message", tco->message, sizeof tco->message);
    state_u16(s, "tco_status1", &tco->status1);
    state_u16(s, "tco_status2", &tco->status2);
    state_u16(s, "tco_control1", &tco->control1);
    state_u16(s, "tco_control2", &tco->control2);
    state_u16(s, "tco_reload", &tco->reload);
    state_u16(s, "tco_left", &tco->left);
    state_timer(s, "tco_timer", tco->timer);
    tco->reload = MAX(tco->reload & TICKS_MAX, 2);
    tco->left &= TICKS_MAX;
}
