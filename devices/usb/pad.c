/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A game pad: two sticks, two triggers, a hat switch and eleven buttons, as systems know it without
 * a driver of ours. Buttons have the usages that Linux makes BTN_SOUTH and so on of; those that
 * such pads do not have (C, Z and the triggers' own) are left out.
 *
 * A report is 15 bytes: buttons (bit n: usage n + 1), hat (0: centre, 1: up and clockwise to 8),
 * then X, Y, Rx, Ry, Z and Rz as 16 bits each, little-endian. What the guest has not asked for yet
 * is told later, motion summed up, but no change of buttons is left out while it asks at all.
 */
#include <string.h>

#include "hid.h"
#include "hid_internal.h"
#include "state.h"

#define INTERRUPT_IN (USB_IN | 1)
#define REPORT       15u
#define SWITCHES     3u /* bytes of buttons and hat, which come first */
#define QUEUE        16u

struct pad {
    struct usb_function f;
    uint8_t queue[QUEUE][REPORT]; /* what the guest has not been told, the oldest first */
    unsigned count;
    uint8_t now[REPORT], told[REPORT];
    uint8_t idle;
    bool polled;
};

static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x05,       /* usage: game pad */
    0xa1, 0x01,       /* collection: application */
    0x05, 0x09,       /*  usage page: buttons */
    0x15, 0x00,       /*  0 */
    0x25, 0x01,       /*  to 1 */
    0x75, 0x01,       /*  of one bit */
    0x95, 0x02,       /*  two: */
    0x19, 0x01,       /*   south */
    0x29, 0x02,       /*   and east */
    0x81, 0x02,       /*  input: variable, absolute */
    0x95, 0x01,       /*  one */
    0x81, 0x03,       /*  input: constant */
    0x95, 0x02,       /*  two: */
    0x19, 0x04,       /*   north */
    0x29, 0x05,       /*   and west */
    0x81, 0x02,       /*  input: variable, absolute */
    0x95, 0x01,       /*  one */
    0x81, 0x03,       /*  input: constant */
    0x95, 0x02,       /*  two: */
    0x19, 0x07,       /*   left shoulder */
    0x29, 0x08,       /*   and right */
    0x81, 0x02,       /*  input: variable, absolute */
    0x95, 0x02,       /*  two */
    0x81, 0x03,       /*  input: constant */
    0x95, 0x05,       /*  five: */
    0x19, 0x0b,       /*   select, start, mode, left stick */
    0x29, 0x0f,       /*   and right */
    0x81, 0x02,       /*  input: variable, absolute */
    0x95, 0x01,       /*  one */
    0x81, 0x03,       /*  input: constant */
    0x05, 0x01,       /*  usage page: generic desktop */
    0x09, 0x39,       /*  usage: hat switch */
    0x15, 0x01,       /*  1 */
    0x25, 0x08,       /*  to 8 */
    0x35, 0x00,       /*  are 0 */
    0x46, 0x3b, 0x01, /*  to 315 */
    0x65, 0x14,       /*  degrees */
    0x75, 0x04,       /*  of 4 bits */
    0x81, 0x42,       /*  input: variable, absolute, else in the centre */
    0x65, 0x00,       /*  no physical unit */
    0x35, 0x00,       /* */
    0x45, 0x00,       /* */
    0x81, 0x03,       /*  input: constant */
    0x09, 0x30,       /*  usage: X */
    0x09, 0x31,       /*  usage: Y */
    0x09, 0x33,       /*  usage: Rx, the right stick */
    0x09, 0x34,       /*  usage: Ry */
    0x16, 0x00, 0x80, /*  -32768 */
    0x26, 0xff, 0x7f, /*  to 32767 */
    0x75, 0x10,       /*  of 16 bits */
    0x95, 0x04,       /*  four */
    0x81, 0x02,       /*  input: variable, absolute */
    0x09, 0x32,       /*  usage: Z, the left trigger */
    0x09, 0x35,       /*  usage: Rz, the right one */
    0x15, 0x00,       /*  0 to 32767 */
    0x95, 0x02,       /*  two */
    0x81, 0x02,       /*  input: variable, absolute */
    0xc0,
};

/* clang-format off */
static const uint8_t configuration[] = {
    9, 2, 34, 0, 1, 1, 0, 0xc0, 50,                         /* self-powered; a drifting stick wakes nobody */
    9, 4, 0, 0, 1, 3, 0, 0, 0,                              /* interface: HID */
    9, 0x21, 0x11, 0x01, 0, 1, 0x22, sizeof report_descriptor, 0, /* HID 1.11 */
    7, 5, INTERRUPT_IN, 3, 16, 0, 4,                        /* interrupt, 16 bytes, every ms */
};
/* clang-format on */

static struct pad *pad_of(struct usb_function *f)
{
    return (struct pad *)f;
}

static bool same_switches(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, SWITCHES) == 0;
}

/* Is the last report one of motion alone, and the next too? Nobody listens: only the last counts.
 */
static bool may_merge(const struct pad *p)
{
    const uint8_t *last = p->queue[p->count - 1];
    const uint8_t *before = p->count > 1 ? p->queue[p->count - 2] : p->told;

    return !p->polled || p->count == QUEUE ||
           (same_switches(last, p->now) && same_switches(before, p->now));
}

static void queue_push(struct pad *p)
{
    if (!p->count || !may_merge(p)) {
        p->count++;
    }
    memcpy(p->queue[p->count - 1], p->now, REPORT);
}

static void tell(struct pad *p)
{
    struct usb_transfer *t;

    while (p->count && (t = usb_function_next(&p->f, INTERRUPT_IN))) {
        memcpy(p->told, p->queue[0], REPORT);
        memmove(p->queue[0], p->queue[1], --p->count * (size_t)REPORT);
        t->actual = MIN(t->length, REPORT);
        memcpy(t->data, p->told, t->actual);
        usb_complete(t, USB_DONE);
    }
}

static void pad_data(struct usb_function *f, struct usb_transfer *t)
{
    struct pad *p = pad_of(f);

    if (t->endpoint != INTERRUPT_IN) {
        usb_complete(t, USB_STALL);
        return;
    }
    usb_function_keep(f, t);
    p->polled = true;
    tell(p);
}

static bool pad_control(struct usb_function *f, struct usb_transfer *t)
{
    struct pad *p = pad_of(f);

    if ((t->setup.type << 8 | t->setup.request) == HID_GET_REPORT) {
        return usb_function_reply(t, p->now, REPORT);
    }
    return hid_control(f, t, report_descriptor, sizeof report_descriptor, &p->idle);
}

/* What is held stays so: the guest is told of it, as of all that differs from rest. */
static void forget(struct pad *p)
{
    static const uint8_t rest[REPORT];

    p->polled = false;
    p->count = 0;
    memset(p->told, 0, REPORT);
    if (memcmp(p->now, rest, REPORT) != 0) {
        queue_push(p);
    }
}

static void pad_reset(struct usb_function *f)
{
    struct pad *p = pad_of(f);

    p->idle = 0;
    forget(p);
}

/* The guest listens no more: later it wants to know what is, not what has been. */
static void pad_changed(struct usb_function *f)
{
    struct pad *p = pad_of(f);

    if (!usb_function_keeps(f, INTERRUPT_IN) && p->polled) {
        p->polled = false;
        if (p->count) {
            p->count = 1;
            memcpy(p->queue[0], p->now, REPORT);
        }
    }
}

/* Without a serial number: there may be several of them. */
static const struct usb_function_info pad_info = {
    .version = 0x0200,
    .packet0 = 64,
    .vendor = 0x1d6b,
    .product = 0x0108,
    .product_name = "Game Pad",
    .configuration = configuration,
    .configuration_size = sizeof configuration,
    .control = pad_control,
    .data = pad_data,
    .reset = pad_reset,
    .changed = pad_changed,
};

/* --- from the user --- */

static void put16(uint8_t *bytes, unsigned value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

void usb_pad_set(struct usb_device *dev, const struct input_pad *state)
{
    struct pad *p = (struct pad *)dev;
    uint8_t before[REPORT];

    memcpy(before, p->now, REPORT);
    put16(p->now, state->buttons & INPUT_PAD_BUTTONS);
    p->now[2] = state->hat <= 8 ? state->hat : 0;
    for (unsigned i = 0; i < INPUT_PAD_AXES; i++) {
        int least = i < INPUT_PAD_LEFT_TRIGGER ? INT16_MIN : 0;
        put16(p->now + SWITCHES + 2 * (size_t)i, (unsigned)MAX(state->axis[i], least));
    }
    if (memcmp(before, p->now, REPORT) != 0) {
        queue_push(p);
        tell(p);
    }
}

/* --- for its controller --- */

static void pad_state(struct usb_device *dev, struct state *s)
{
    struct pad *p = (struct pad *)dev;
    uint32_t count = p->count;

    usb_function_state(&p->f, s);
    state_bytes(s, "now", p->now, sizeof p->now);
    state_bytes(s, "told", p->told, sizeof p->told);
    state_bytes(s, "queue", p->queue, sizeof p->queue);
    state_u32(s, "count", &count);
    state_u8(s, "idle", &p->idle);
    state_bool(s, "polled", &p->polled);
    p->count = MIN(count, QUEUE);
}

static void pad_free(struct usb_device *dev)
{
    g_free(dev);
}

static const struct usb_device_class pad_class = {
    .name = "usb-pad",
    .submit = usb_function_submit,
    .cancel = usb_function_cancel,
    .reset = usb_function_reset,
    .state = pad_state,
    .free = pad_free,
};

struct usb_device *usb_pad_new(void)
{
    struct pad *p = g_new0(struct pad, 1);

    usb_function_init(&p->f, &pad_class, &pad_info, USB_SPEED_HIGH);
    return &p->f.dev;
}
