/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A keyboard of the boot protocol (HID 1.11, appendix B): reports of 8 bytes, modifiers, a reserved
 * byte and up to six keys. Each change is a report of its own, so quick ones are not lost. A guest
 * repeats held keys by itself.
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "hid.h"
#include "hid_internal.h"
#include "state.h"

#define INTERRUPT_IN (USB_IN | 1)
#define REPORT       8u
#define KEYS         6u
#define QUEUE        32u
#define MODIFIERS    0xe0u /* the usage of the first */
#define ROLL_OVER    1u    /* more keys than fit */

/* HID Usage Tables, section 10: key code to usage. */
static const uint8_t usages[256] = {
    [KEY_A] = 4,
    [KEY_B] = 5,
    [KEY_C] = 6,
    [KEY_D] = 7,
    [KEY_E] = 8,
    [KEY_F] = 9,
    [KEY_G] = 10,
    [KEY_H] = 11,
    [KEY_I] = 12,
    [KEY_J] = 13,
    [KEY_K] = 14,
    [KEY_L] = 15,
    [KEY_M] = 16,
    [KEY_N] = 17,
    [KEY_O] = 18,
    [KEY_P] = 19,
    [KEY_Q] = 20,
    [KEY_R] = 21,
    [KEY_S] = 22,
    [KEY_T] = 23,
    [KEY_U] = 24,
    [KEY_V] = 25,
    [KEY_W] = 26,
    [KEY_X] = 27,
    [KEY_Y] = 28,
    [KEY_Z] = 29,
    [KEY_1] = 30,
    [KEY_2] = 31,
    [KEY_3] = 32,
    [KEY_4] = 33,
    [KEY_5] = 34,
    [KEY_6] = 35,
    [KEY_7] = 36,
    [KEY_8] = 37,
    [KEY_9] = 38,
    [KEY_0] = 39,
    [KEY_ENTER] = 40,
    [KEY_ESC] = 41,
    [KEY_BACKSPACE] = 42,
    [KEY_TAB] = 43,
    [KEY_SPACE] = 44,
    [KEY_MINUS] = 45,
    [KEY_EQUAL] = 46,
    [KEY_LEFTBRACE] = 47,
    [KEY_RIGHTBRACE] = 48,
    [KEY_BACKSLASH] = 49,
    [KEY_SEMICOLON] = 51,
    [KEY_APOSTROPHE] = 52,
    [KEY_GRAVE] = 53,
    [KEY_COMMA] = 54,
    [KEY_DOT] = 55,
    [KEY_SLASH] = 56,
    [KEY_CAPSLOCK] = 57,
    [KEY_F1] = 58,
    [KEY_F2] = 59,
    [KEY_F3] = 60,
    [KEY_F4] = 61,
    [KEY_F5] = 62,
    [KEY_F6] = 63,
    [KEY_F7] = 64,
    [KEY_F8] = 65,
    [KEY_F9] = 66,
    [KEY_F10] = 67,
    [KEY_F11] = 68,
    [KEY_F12] = 69,
    [KEY_SYSRQ] = 70,
    [KEY_SCROLLLOCK] = 71,
    [KEY_PAUSE] = 72,
    [KEY_INSERT] = 73,
    [KEY_HOME] = 74,
    [KEY_PAGEUP] = 75,
    [KEY_DELETE] = 76,
    [KEY_END] = 77,
    [KEY_PAGEDOWN] = 78,
    [KEY_RIGHT] = 79,
    [KEY_LEFT] = 80,
    [KEY_DOWN] = 81,
    [KEY_UP] = 82,
    [KEY_NUMLOCK] = 83,
    [KEY_KPSLASH] = 84,
    [KEY_KPASTERISK] = 85,
    [KEY_KPMINUS] = 86,
    [KEY_KPPLUS] = 87,
    [KEY_KPENTER] = 88,
    [KEY_KP1] = 89,
    [KEY_KP2] = 90,
    [KEY_KP3] = 91,
    [KEY_KP4] = 92,
    [KEY_KP5] = 93,
    [KEY_KP6] = 94,
    [KEY_KP7] = 95,
    [KEY_KP8] = 96,
    [KEY_KP9] = 97,
    [KEY_KP0] = 98,
    [KEY_KPDOT] = 99,
    [KEY_102ND] = 100,
    [KEY_COMPOSE] = 101,
    [KEY_POWER] = 102,
    [KEY_KPEQUAL] = 103,
    [KEY_F13] = 104,
    [KEY_F14] = 105,
    [KEY_F15] = 106,
    [KEY_F16] = 107,
    [KEY_F17] = 108,
    [KEY_F18] = 109,
    [KEY_F19] = 110,
    [KEY_F20] = 111,
    [KEY_F21] = 112,
    [KEY_F22] = 113,
    [KEY_F23] = 114,
    [KEY_F24] = 115,
    [KEY_MUTE] = 127,
    [KEY_VOLUMEUP] = 128,
    [KEY_VOLUMEDOWN] = 129,
    [KEY_KPCOMMA] = 133,
    [KEY_RO] = 135,
    [KEY_KATAKANAHIRAGANA] = 136,
    [KEY_YEN] = 137,
    [KEY_HENKAN] = 138,
    [KEY_MUHENKAN] = 139,
    [KEY_HANGEUL] = 144,
    [KEY_HANJA] = 145,
    [KEY_LEFTCTRL] = 224,
    [KEY_LEFTSHIFT] = 225,
    [KEY_LEFTALT] = 226,
    [KEY_LEFTMETA] = 227,
    [KEY_RIGHTCTRL] = 228,
    [KEY_RIGHTSHIFT] = 229,
    [KEY_RIGHTALT] = 230,
    [KEY_RIGHTMETA] = 231,
};

struct keyboard {
    struct usb_function f;
    struct input *input;
    uint8_t down[32]; /* usages that are held, in order, without modifiers */
    unsigned down_count;
    uint8_t report[REPORT];       /* as it is now */
    uint8_t queue[QUEUE][REPORT]; /* what the guest has not been told, the oldest first */
    unsigned count;
    uint8_t idle, protocol, leds;
    bool polled;
};

static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x06,       /* usage: keyboard */
    0xa1, 0x01,       /* collection: application */
    0x05, 0x07,       /*  usage page: keys */
    0x19, 0xe0,       /*  left control */
    0x29, 0xe7,       /*  to right meta */
    0x15, 0x00,       /*  0 */
    0x25, 0x01,       /*  to 1 */
    0x75, 0x01,       /*  of one bit */
    0x95, 0x08,       /*  eight */
    0x81, 0x02,       /*  input: variable, absolute */
    0x75, 0x08,       /*  of 8 bits */
    0x95, 0x01,       /*  one */
    0x81, 0x01,       /*  input: constant */
    0x05, 0x08,       /*  usage page: LEDs */
    0x19, 0x01,       /*  number lock */
    0x29, 0x05,       /*  to kana */
    0x75, 0x01,       /*  of one bit */
    0x95, 0x05,       /*  five */
    0x91, 0x02,       /*  output: variable, absolute */
    0x75, 0x03,       /*  of 3 bits */
    0x95, 0x01,       /*  one */
    0x91, 0x01,       /*  output: constant */
    0x05, 0x07,       /*  usage page: keys */
    0x19, 0x00,       /*  none */
    0x2a, 0xff, 0x00, /*  to 255 */
    0x15, 0x00,       /*  0 */
    0x26, 0xff, 0x00, /*  to 255 */
    0x75, 0x08,       /*  of 8 bits */
    0x95, 0x06,       /*  six */
    0x81, 0x00,       /*  input: array */
    0xc0,
};

/* clang-format off */
static const uint8_t configuration[] = {
    9, 2, 34, 0, 1, 1, 0, 0xe0, 50,                         /* self-powered, remote wakeup */
    9, 4, 0, 0, 1, 3, 1, 1, 0,                              /* HID, boot protocol, keyboard */
    9, 0x21, 0x11, 0x01, 0, 1, 0x22, sizeof report_descriptor, 0,
    7, 5, INTERRUPT_IN, 3, 8, 0, 4,                         /* interrupt, 8 bytes, every ms */
};
/* clang-format on */

static struct keyboard *keyboard_of(struct usb_function *f)
{
    return (struct keyboard *)f;
}

static void report_make(struct keyboard *k)
{
    memset(k->report + 2, 0, KEYS);
    if (k->down_count > KEYS) {
        memset(k->report + 2, ROLL_OVER, KEYS);
    } else {
        memcpy(k->report + 2, k->down, k->down_count);
    }
}

/* When the guest does not keep up, the last report is what counts. */
static void queue_push(struct keyboard *k)
{
    memcpy(k->queue[k->count < QUEUE ? k->count++ : QUEUE - 1], k->report, REPORT);
}

static void tell(struct keyboard *k)
{
    struct usb_transfer *t;

    while (k->count && (t = usb_function_next(&k->f, INTERRUPT_IN))) {
        t->actual = MIN(t->length, REPORT);
        memcpy(t->data, k->queue[0], t->actual);
        memmove(k->queue[0], k->queue[1], --k->count * (size_t)REPORT);
        usb_complete(t, USB_DONE);
    }
}

static void usage_down(struct keyboard *k, uint8_t usage, bool down)
{
    unsigned i = 0;

    while (i < k->down_count && k->down[i] != usage) {
        i++;
    }
    if (down && i == k->down_count && i < sizeof k->down) {
        k->down[k->down_count++] = usage;
    } else if (!down && i < k->down_count) {
        memmove(k->down + i, k->down + i + 1, --k->down_count - i);
    }
    report_make(k);
}

static void keyboard_key(void *opaque, uint32_t code, bool down)
{
    struct keyboard *k = opaque;
    uint8_t usage = code < G_N_ELEMENTS(usages) ? usages[code] : 0, before[REPORT];

    memcpy(before, k->report, REPORT);
    if (usage >= MODIFIERS) {
        uint8_t bit = (uint8_t)(1u << (usage - MODIFIERS));
        k->report[0] = (uint8_t)(down ? k->report[0] | bit : k->report[0] & ~bit);
    } else if (usage) {
        usage_down(k, usage, down);
    }
    if (memcmp(before, k->report, REPORT) != 0) {
        queue_push(k);
        tell(k);
        if (k->count) {
            usb_function_wakeup(&k->f);
        }
    }
}

static bool keyboard_wants(void *opaque)
{
    const struct keyboard *k = opaque;

    return k->polled || k->f.remote_wakeup; /* a sleeping guest wants to be woken */
}

/* --- requests --- */

static void keyboard_data(struct usb_function *f, struct usb_transfer *t)
{
    struct keyboard *k = keyboard_of(f);

    if (t->endpoint != INTERRUPT_IN) {
        usb_complete(t, USB_STALL);
        return;
    }
    usb_function_keep(f, t);
    k->polled = true;
    tell(k);
}

static bool keyboard_control(struct usb_function *f, struct usb_transfer *t)
{
    struct keyboard *k = keyboard_of(f);

    switch (t->setup.type << 8 | t->setup.request) {
    case HID_GET_REPORT:
        return usb_function_reply(t, k->report, REPORT);
    case HID_GET_PROTOCOL:
        return usb_function_reply(t, &k->protocol, 1);
    case HID_SET_REPORT:
        k->leds = t->length ? t->data[0] : 0;
        return usb_function_reply(t, NULL, 0);
    case HID_SET_PROTOCOL: /* the reports are the same */
        k->protocol = t->setup.value & 1;
        return usb_function_reply(t, NULL, 0);
    default:
        return hid_control(f, t, report_descriptor, sizeof report_descriptor, &k->idle);
    }
}

static void keyboard_reset(struct usb_function *f)
{
    struct keyboard *k = keyboard_of(f);

    k->count = k->down_count = 0;
    memset(k->report, 0, sizeof k->report);
    k->idle = k->leds = 0;
    k->protocol = 1;
    k->polled = false;
}

static void keyboard_changed(struct usb_function *f)
{
    keyboard_of(f)->polled = usb_function_keeps(f, INTERRUPT_IN);
}

static const struct usb_function_info keyboard_info = {
    .version = 0x0200,
    .packet0 = 64,
    .vendor = 0x1d6b,
    .product = 0x0107,
    .product_name = "Keyboard",
    .serial = "1",
    .configuration = configuration,
    .configuration_size = sizeof configuration,
    .control = keyboard_control,
    .data = keyboard_data,
    .reset = keyboard_reset,
    .changed = keyboard_changed,
};

/* --- for its controller --- */

static void keyboard_state(struct usb_device *dev, struct state *s)
{
    struct keyboard *k = (struct keyboard *)dev;
    uint32_t count = k->count, down = k->down_count;

    usb_function_state(&k->f, s);
    state_bytes(s, "down", k->down, sizeof k->down);
    state_u32(s, "down-count", &down);
    state_bytes(s, "report", k->report, sizeof k->report);
    state_bytes(s, "queue", k->queue, sizeof k->queue);
    state_u32(s, "count", &count);
    state_u8(s, "idle", &k->idle);
    state_u8(s, "protocol", &k->protocol);
    state_u8(s, "leds", &k->leds);
    k->count = MIN(count, QUEUE);
    k->down_count = MIN(down, (uint32_t)sizeof k->down);
}

static void keyboard_free(struct usb_device *dev)
{
    struct keyboard *k = (struct keyboard *)dev;

    if (k->input) {
        input_remove_sink(k->input, k);
    }
    g_free(k);
}

static const struct usb_device_class keyboard_class = {
    .name = "usb-keyboard",
    .submit = usb_function_submit,
    .cancel = usb_function_cancel,
    .reset = usb_function_reset,
    .state = keyboard_state,
    .free = keyboard_free,
};

struct usb_device *usb_keyboard_new(struct input *input)
{
    struct keyboard *k = g_new0(struct keyboard, 1);
    struct input_sink sink = {.key = keyboard_key, .wants = keyboard_wants, .opaque = k};

    usb_function_init(&k->f, &keyboard_class, &keyboard_info, USB_SPEED_HIGH);
    k->protocol = 1;
    k->input = input;
    if (input) {
        input_add_sink(input, &sink);
    }
    return &k->f.dev;
}
