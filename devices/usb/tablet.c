/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pointer with absolute coordinates, a wheel and five buttons, as graphics tablets have it.
 *
 * A report is 6 bytes: buttons, X and Y (0 to 32767, little-endian), wheel. Motion that the guest
 * has not asked for yet is summed up, but no change of buttons is left out.
 */
#include <string.h>

#include "hid.h"
#include "hid_internal.h"
#include "state.h"

#define INTERRUPT_IN (USB_IN | 1)
#define REPORT       6u
#define QUEUE        16u

struct pointer_report {
    uint16_t x, y;
    int8_t wheel;
    uint8_t buttons;
};

struct tablet {
    struct usb_function f;
    struct input *input;
    struct pointer_report queue[QUEUE]; /* the first is the oldest */
    unsigned count;
    struct pointer_report last; /* that the guest was told */
    uint8_t idle;
    bool wanted; /* by the guest */
};

static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x02,       /* usage: mouse */
    0xa1, 0x01,       /* collection: application */
    0x09, 0x01,       /*  usage: pointer */
    0xa1, 0x00,       /*  collection: physical */
    0x05, 0x09,       /*   usage page: buttons */
    0x19, 0x01,       /*   1 */
    0x29, 0x05,       /*   to 5 */
    0x15, 0x00,       /*   0 */
    0x25, 0x01,       /*   to 1 */
    0x95, 0x05,       /*   5 */
    0x75, 0x01,       /*   of one bit */
    0x81, 0x02,       /*   input: variable, absolute */
    0x95, 0x01,       /*   one */
    0x75, 0x03,       /*   of 3 bits */
    0x81, 0x01,       /*   input: constant */
    0x05, 0x01,       /*   usage page: generic desktop */
    0x09, 0x30,       /*   usage: X */
    0x09, 0x31,       /*   usage: Y */
    0x15, 0x00,       /*   0 */
    0x26, 0xff, 0x7f, /*   to 32767 */
    0x35, 0x00,       /*   the same physically */
    0x46, 0xff, 0x7f, /* */
    0x75, 0x10,       /*   of 16 bits */
    0x95, 0x02,       /*   two */
    0x81, 0x02,       /*   input: variable, absolute */
    0x09, 0x38,       /*   usage: wheel */
    0x15, 0x81,       /*   -127 */
    0x25, 0x7f,       /*   to 127 */
    0x35, 0x00,       /*   no physical unit */
    0x45, 0x00,       /* */
    0x75, 0x08,       /*   of 8 bits */
    0x95, 0x01,       /*   one */
    0x81, 0x06,       /*   input: variable, relative */
    0xc0, 0xc0,
};

/* clang-format off */
static const uint8_t configuration[] = {
    9, 2, 34, 0, 1, 1, 0, 0xe0, 50,                         /* self-powered, remote wakeup */
    9, 4, 0, 0, 1, 3, 0, 0, 0,                              /* interface: HID */
    9, 0x21, 0x11, 0x01, 0, 1, 0x22, sizeof report_descriptor, 0, /* HID 1.11 */
    7, 5, INTERRUPT_IN, 3, 8, 0, 4,                         /* interrupt, 8 bytes, every ms */
};
/* clang-format on */

/* Is the last report one of motion alone, and the next too? */
static bool may_merge(const struct tablet *t, const struct pointer_report *r)
{
    const struct pointer_report *before = t->count > 1 ? &t->queue[t->count - 2] : &t->last;

    return t->count == QUEUE || (t->count && t->queue[t->count - 1].buttons == r->buttons &&
                                 before->buttons == r->buttons);
}

static void queue_push(struct tablet *t, const struct pointer_report *r)
{
    if (may_merge(t, r)) {
        struct pointer_report *tail = &t->queue[t->count - 1];
        int wheel = CLAMP(tail->wheel + r->wheel, -127, 127);
        *tail = *r;
        tail->wheel = (int8_t)wheel;
    } else {
        t->queue[t->count++] = *r;
    }
}

static void report_put(uint8_t bytes[REPORT], const struct pointer_report *r)
{
    bytes[0] = r->buttons;
    bytes[1] = (uint8_t)r->x;
    bytes[2] = (uint8_t)(r->x >> 8);
    bytes[3] = (uint8_t)r->y;
    bytes[4] = (uint8_t)(r->y >> 8);
    bytes[5] = (uint8_t)r->wheel;
}

static void tell(struct tablet *t)
{
    struct usb_transfer *transfer;

    while (t->count && (transfer = usb_function_next(&t->f, INTERRUPT_IN))) {
        uint8_t bytes[REPORT];
        t->last = t->queue[0];
        memmove(&t->queue[0], &t->queue[1], --t->count * sizeof t->queue[0]);
        report_put(bytes, &t->last);
        t->last.wheel = 0;
        transfer->actual = MIN(transfer->length, sizeof bytes);
        memcpy(transfer->data, bytes, transfer->actual);
        usb_complete(transfer, USB_DONE);
    }
}

/* A guest that put it to sleep wants to be woken by it. */
static void wanted_set(struct tablet *t, bool polled)
{
    bool wanted = polled || t->f.remote_wakeup;

    if (t->wanted != wanted) {
        t->wanted = wanted;
        if (t->input) {
            input_changed(t->input);
        }
    }
}

static void tablet_data(struct usb_function *f, struct usb_transfer *transfer)
{
    struct tablet *t = (struct tablet *)f;

    if (transfer->endpoint != INTERRUPT_IN) {
        usb_complete(transfer, USB_STALL);
        return;
    }
    usb_function_keep(f, transfer);
    wanted_set(t, true);
    tell(t);
}

static bool tablet_control(struct usb_function *f, struct usb_transfer *transfer)
{
    struct tablet *t = (struct tablet *)f;
    uint8_t bytes[REPORT];

    if ((transfer->setup.type << 8 | transfer->setup.request) == HID_GET_REPORT) {
        report_put(bytes, &t->last);
        return usb_function_reply(transfer, bytes, sizeof bytes);
    }
    return hid_control(f, transfer, report_descriptor, sizeof report_descriptor, &t->idle);
}

static void tablet_reset(struct usb_function *f)
{
    struct tablet *t = (struct tablet *)f;

    t->count = 0;
    t->idle = 0;
    t->last = (struct pointer_report){0};
    wanted_set(t, false);
}

static void tablet_changed(struct usb_function *f)
{
    wanted_set((struct tablet *)f, usb_function_keeps(f, INTERRUPT_IN));
}

static const struct usb_function_info tablet_info = {
    .version = 0x0200,
    .packet0 = 64,
    .vendor = 0x1d6b,
    .product = 0x0104,
    .product_name = "Tablet",
    .serial = "1",
    .configuration = configuration,
    .configuration_size = sizeof configuration,
    .control = tablet_control,
    .data = tablet_data,
    .reset = tablet_reset,
    .changed = tablet_changed,
};

/* --- from the user --- */

static bool tablet_wants(void *opaque)
{
    return ((struct tablet *)opaque)->wanted;
}

static void tablet_point(void *opaque, uint32_t x, uint32_t y, int wheel, uint32_t buttons)
{
    struct tablet *t = opaque;
    struct pointer_report r = {(uint16_t)x, (uint16_t)y, (int8_t)CLAMP(wheel, -127, 127),
                               buttons & 0x1f};

    queue_push(t, &r);
    tell(t);
    if (t->count) {
        usb_function_wakeup(&t->f);
    }
}

/* --- for its controller --- */

static void tablet_state(struct usb_device *dev, struct state *s)
{
    struct tablet *t = (struct tablet *)dev;
    uint32_t count = t->count;

    usb_function_state(&t->f, s);
    state_u8(s, "idle", &t->idle);
    state_u32(s, "count", &count);
    state_bytes(s, "queue", t->queue, sizeof t->queue);
    state_bytes(s, "last", &t->last, sizeof t->last);
    t->count = MIN(count, QUEUE);
}

static void tablet_free(struct usb_device *dev)
{
    struct tablet *t = (struct tablet *)dev;

    if (t->input) {
        input_remove_sink(t->input, t);
    }
    g_free(t);
}

static const struct usb_device_class tablet_class = {
    .name = "usb-tablet",
    .submit = usb_function_submit,
    .cancel = usb_function_cancel,
    .reset = usb_function_reset,
    .state = tablet_state,
    .free = tablet_free,
};

struct usb_device *usb_tablet_new(struct input *input)
{
    struct tablet *t = g_new0(struct tablet, 1);
    struct input_sink sink = {.pointer_absolute = tablet_point, .wants = tablet_wants, .opaque = t};

    usb_function_init(&t->f, &tablet_class, &tablet_info, USB_SPEED_HIGH);
    t->input = input;
    if (input) {
        input_add_sink(input, &sink);
    }
    return &t->f.dev;
}
