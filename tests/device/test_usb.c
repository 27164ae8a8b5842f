/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The emulated USB devices by themselves: what they answer, and to whom input goes. */
#include <glib/gstdio.h>
#include <linux/input-event-codes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "input.h"
#include "lock.h"
#include "state.h"
#include "usb/hid.h"
#include "usb/hub.h"
#include "usb/storage.h"

#define SIZE   65536u
#define DISK   (1u << 20)
#define INT_IN (USB_IN | 1)

struct ask { /* a transfer and its buffer */
    struct usb_transfer t;
    uint8_t data[SIZE];
    bool done;
};

static void ask_done(struct usb_transfer *t)
{
    ((struct ask *)t->opaque)->done = true;
}

static void ask(struct ask *a, struct usb_device *dev, enum usb_kind kind, uint8_t endpoint,
                size_t length)
{
    a->t = (struct usb_transfer){.endpoint = endpoint,
                                 .kind = kind,
                                 .setup = a->t.setup,
                                 .data = a->data,
                                 .length = length,
                                 .done = ask_done,
                                 .opaque = a};
    a->done = false;
    usb_submit(dev, &a->t);
}

/* A control request; the number of bytes, or -1 when it stalls. */
static int request(struct ask *a, struct usb_device *dev, uint8_t type, uint8_t code,
                   uint16_t value, uint16_t index, uint16_t length)
{
    a->t.setup = (struct usb_setup){type, code, value, index, length};
    ask(a, dev, USB_CONTROL, type & USB_IN, length);
    g_assert_true(a->done);
    return a->t.status == USB_DONE ? (int)a->t.actual : -1;
}

static void configure(struct ask *a, struct usb_device *dev)
{
    g_assert_cmpint(request(a, dev, 0, 9, 1, 0, 0), ==, 0);
}

/* Descriptors are whole: lengths add up, and short answers are their beginning. */
static void check_descriptors(struct usb_device *dev)
{
    g_autofree struct ask *a = g_new0(struct ask, 1);
    unsigned total, at = 0, endpoints = 0, told = 0;

    g_assert_cmpint(request(a, dev, 0x80, 6, 0x100, 0, 18), ==, 18);
    g_assert_cmpuint(a->data[0], ==, 18);
    for (unsigned i = 14; i < 17; i++) { /* strings that it names are there */
        uint8_t n = a->data[i];
        g_autofree struct ask *string = g_new0(struct ask, 1);
        g_assert_true(!n || request(string, dev, 0x80, 6, 0x300 | n, 0x409, 255) > 2);
    }
    g_assert_cmpint(request(a, dev, 0x80, 6, 0x100, 0, 8), ==, 8);
    g_assert_cmpint(request(a, dev, 0x80, 6, 0x200, 0, 9), ==, 9);
    total = a->data[2] | a->data[3] << 8;
    g_assert_cmpint(request(a, dev, 0x80, 6, 0x200, 0, 1000), ==, (int)total);
    for (; at < total; at += a->data[at]) {
        g_assert_cmpuint(a->data[at], >, 1);
        endpoints += a->data[at + 1] == 5;
        told += a->data[at + 1] == 4 ? a->data[at + 4] : 0;
    }
    g_assert_cmpuint(at, ==, total);
    g_assert_cmpuint(endpoints, ==, told);
    g_assert_cmpint(request(a, dev, 0x80, 6, 0x201, 0, 9), ==, -1);
    g_assert_cmpint(request(a, dev, 0x80, 8, 0, 0, 1), ==, 1);
    g_assert_cmpuint(a->data[0], ==, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8); /* not configured */
    g_assert_true(a->done && a->t.status == USB_ERROR);
    configure(a, dev);
    g_assert_cmpint(request(a, dev, 0, 9, 2, 0, 0), ==, -1);
    g_assert_cmpint(request(a, dev, 0xc0, 77, 0, 0, 5), ==, -1);
    dev->class->reset(dev);
}

static void test_descriptors(void)
{
    struct usb_storage_config config = {0};
    struct usb_device *devices[] = {usb_tablet_new(NULL), usb_keyboard_new(NULL), usb_hub_new(),
                                    usb_storage_new(&config), usb_pad_new()};

    for (unsigned i = 0; i < G_N_ELEMENTS(devices); i++) {
        check_descriptors(devices[i]);
        usb_device_unref(devices[i]);
    }
}

/* --- input --- */

struct ps2 {
    int dx, moves;
    uint32_t buttons, key;
    bool down;
};

static void ps2_key(void *opaque, uint32_t code, bool down)
{
    ((struct ps2 *)opaque)->key = code;
    ((struct ps2 *)opaque)->down = down;
}

static void ps2_move(void *opaque, int dx, int dy, int wheel, uint32_t buttons)
{
    struct ps2 *p = opaque;

    p->dx += dx;
    p->moves++;
    p->buttons = buttons;
}

static void count_change(void *opaque)
{
    ++*(unsigned *)opaque;
}

static void check_report(struct ask *a, unsigned buttons, unsigned x, unsigned y, int wheel)
{
    g_assert_true(a->done && a->t.status == USB_DONE);
    g_assert_cmpuint(a->t.actual, ==, 6);
    g_assert_cmpuint(a->data[0], ==, buttons);
    g_assert_cmpuint(a->data[1] | a->data[2] << 8, ==, x);
    g_assert_cmpuint(a->data[3] | a->data[4] << 8, ==, y);
    g_assert_cmpint((int8_t)a->data[5], ==, wheel);
}

static void test_tablet(void)
{
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct ps2 ps2 = {0};
    struct input *input = input_new();
    const struct input_sink sink = {.key = ps2_key, .pointer_relative = ps2_move, .opaque = &ps2};
    struct usb_device *dev;
    unsigned changes = 0;

    input_add_sink(input, &sink);
    dev = usb_tablet_new(input);
    input_set_listener(input, count_change, &changes);
    g_assert_false(input_has_absolute(input)); /* nobody listens to it */
    input_pointer_absolute(input, 1, 2, 0, 1);
    input_pointer_relative(input, 5, 0, 0, 0);
    g_assert_cmpint(ps2.dx, ==, 5);
    configure(a, dev);
    g_assert_false(input_has_absolute(input));
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    g_assert_true(input_has_absolute(input));
    g_assert_cmpuint(changes, ==, 1);
    g_assert_false(a->done);
    input_pointer_absolute(input, 32767, 40000, -1, 0);
    check_report(a, 0, 32767, 32767, -1);
    /* Between two questions: motion is one report, a click all of its own. */
    input_pointer_absolute(input, 10, 10, 0, 0);
    input_pointer_absolute(input, 20, 20, 1, 0);
    input_pointer_absolute(input, 30, 30, 1, 0);
    input_pointer_absolute(input, 30, 30, 0, INPUT_BUTTON_LEFT);
    input_pointer_absolute(input, 30, 30, 0, 0);
    input_pointer_absolute(input, 40, 40, 0, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 0, 30, 30, 2);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 1, 30, 30, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 0, 30, 30, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 0, 40, 40, 0);
    /* A button that is held is released by whatever client ends. */
    input_pointer_absolute(input, 50, 60, 0, INPUT_BUTTON_RIGHT);
    input_pointer_relative(input, 0, 0, 0, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 2, 50, 60, 0);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    check_report(a, 0, 50, 60, 0);
    g_assert_cmpuint(ps2.buttons, ==, 0);
    /* The guest takes its question back: it is the other mouse's turn. */
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    usb_cancel(&a->t);
    g_assert_true(a->done && a->t.status == USB_CANCELLED);
    g_assert_false(input_has_absolute(input));
    g_assert_cmpuint(changes, ==, 2);
    dev->class->reset(dev);
    usb_device_unref(dev);
    g_assert_false(input_has_absolute(input));
    input_free(input);
}

static void check_keys(struct ask *a, struct usb_device *dev, uint8_t modifiers, uint8_t key)
{
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    g_assert_true(a->done && a->t.actual == 8);
    g_assert_cmphex(a->data[0], ==, modifiers);
    g_assert_cmphex(a->data[2], ==, key);
}

/* Wakes a guest that sleeps, if that has said so. */
static unsigned wakeups;

static void port_nothing(struct usb_port *port)
{
}

static void port_gone(struct usb_port *port, struct usb_device *dev)
{
}

static void port_wakeup(struct usb_port *port)
{
    wakeups++;
}

static void test_wakeup(void)
{
    static const struct usb_port_ops ops = {port_nothing, port_gone, port_wakeup};
    struct usb_port port = {.ops = &ops, .number = 1, .speeds = 15};
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct input *input = input_new();
    struct usb_device *dev = usb_keyboard_new(input);

    g_assert_true(usb_attach(&port, dev));
    configure(a, dev);
    input_key(input, KEY_A, true);
    input_key(input, KEY_A, false);
    g_assert_cmpuint(wakeups, ==, 0);
    g_assert_cmpint(request(a, dev, 0, 3, 1, 0, 0), ==, 0);
    g_assert_cmpint(request(a, dev, 0x80, 0, 0, 0, 2), ==, 2);
    g_assert_cmpuint(a->data[0], ==, 3);
    input_key(input, KEY_A, true);
    g_assert_cmpuint(wakeups, ==, 1);
    g_assert_cmpint(request(a, dev, 0, 1, 1, 0, 0), ==, 0);
    check_keys(a, dev, 0, 4); /* what woke it is told */
    usb_detach(&port);
    usb_device_unref(dev);
    input_free(input);
}

static void test_keyboard(void)
{
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct ps2 ps2 = {0};
    struct input *input = input_new();
    const struct input_sink sink = {.key = ps2_key, .pointer_relative = ps2_move, .opaque = &ps2};
    struct usb_device *dev;

    input_add_sink(input, &sink);
    dev = usb_keyboard_new(input);
    input_key(input, KEY_Q, true);
    g_assert_cmpuint(ps2.key, ==, KEY_Q);
    configure(a, dev);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    input_key(input, KEY_Q, false); /* goes where it was pressed */
    g_assert_false(ps2.down || a->done);
    input_key(input, KEY_LEFTSHIFT, true);
    g_assert_true(a->done);
    g_assert_cmphex(a->data[0], ==, 2);
    input_key(input, KEY_Z, true);
    input_key(input, KEY_Z, true); /* the client's repetition */
    input_key(input, KEY_Z, false);
    input_key(input, KEY_LEFTSHIFT, false);
    g_assert_cmpuint(ps2.key, ==, KEY_Q);
    check_keys(a, dev, 2, 29);
    check_keys(a, dev, 2, 0);
    check_keys(a, dev, 0, 0);
    for (unsigned i = 0; i < 7; i++) { /* more than a report has room for */
        input_key(input, KEY_1 + i, true);
        check_keys(a, dev, 0, i < 6 ? 30 : 1);
    }
    input_release_all(input);
    ask(a, dev, USB_INTERRUPT, INT_IN, 8);
    a->data[0] = 5;
    g_assert_cmpint(request(a, dev, 0x21, 9, 0x200, 0, 1), ==, 1); /* LEDs */
    dev->class->reset(dev);
    input_key(input, KEY_B, true);
    g_assert_cmpuint(ps2.key, ==, KEY_B);
    usb_device_unref(dev);
    input_free(input);
}

/* --- the game pad --- */

static const struct input_pad rest;

static void check_pad(struct ask *a, struct usb_device *dev, unsigned buttons, unsigned hat,
                      int left_x, int right_trigger)
{
    ask(a, dev, USB_INTERRUPT, INT_IN, 16);
    g_assert_true(a->done && a->t.status == USB_DONE);
    g_assert_cmpuint(a->t.actual, ==, 15);
    g_assert_cmphex(a->data[0] | a->data[1] << 8, ==, buttons);
    g_assert_cmpuint(a->data[2], ==, hat);
    g_assert_cmpint((int16_t)(a->data[3] | a->data[4] << 8), ==, left_x);
    g_assert_cmpint((int16_t)(a->data[13] | a->data[14] << 8), ==, right_trigger);
}

static void check_pad_silent(struct ask *a, struct usb_device *dev)
{
    ask(a, dev, USB_INTERRUPT, INT_IN, 16);
    g_assert_false(a->done);
    usb_cancel(&a->t);
    g_assert_true(a->done && a->t.status == USB_CANCELLED);
}

/* Reads a report descriptor (HID 1.11, 6.2.2): where each usage is in the report, in bits. */
static unsigned report_places(const uint8_t *d, unsigned size, GHashTable *places)
{
    unsigned page = 0, bits = 0, count = 0, at = 0, n = 0, least = 0, used;
    uint32_t usages[16], value;

    for (unsigned i = 0; i < size; i += 1 + used) {
        used = d[i] & 3;
        used = used == 3 ? 4 : used;
        g_assert_cmpuint(i + used, <, size);
        value = 0;
        memcpy(&value, d + i + 1, used);
        switch (d[i] & 0xfc) {
        case 0x04:
            page = value;
            break;
        case 0x74:
            bits = value;
            break;
        case 0x94:
            count = value;
            break;
        case 0x08:
            usages[n++] = page << 16 | value;
            break;
        case 0x18:
            least = value;
            break;
        case 0x28:
            while (least <= value) {
                usages[n++] = page << 16 | least++;
            }
            break;
        case 0x80:
            g_assert_true(value & 1 || n == count);
            for (unsigned k = 0; k < count; k++, at += bits) {
                if (!(value & 1)) {
                    g_hash_table_insert(places, GUINT_TO_POINTER(usages[k]), GUINT_TO_POINTER(at));
                }
            }
            n = 0;
            break;
        case 0xa0: /* a collection: its usage is used up */
            n = 0;
            break;
        }
    }
    return at;
}

static void test_pad_descriptor(void)
{
    static const struct {
        uint32_t usage;
        unsigned at;
    } expected[] = {{0x90001, 0},  {0x90002, 1},  {0x90004, 3},  {0x90005, 4},  {0x90007, 6},
                    {0x90008, 7},  {0x9000b, 10}, {0x9000c, 11}, {0x9000d, 12}, {0x9000e, 13},
                    {0x9000f, 14}, {0x10039, 16}, {0x10030, 24}, {0x10031, 40}, {0x10033, 56},
                    {0x10034, 72}, {0x10032, 88}, {0x10035, 104}};
    g_autoptr(GHashTable) places = g_hash_table_new(NULL, NULL);
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct usb_device *dev = usb_pad_new();
    int size, told;

    g_assert_cmpint(request(a, dev, 0x81, 6, 0x2100, 0, 64), ==, 9);
    told = a->data[7] | a->data[8] << 8;
    size = request(a, dev, 0x81, 6, 0x2200, 0, 1000);
    g_assert_cmpint(size, ==, told);
    g_assert_cmpuint(report_places(a->data, (unsigned)size, places), ==, 15 * 8);
    g_assert_cmpuint(g_hash_table_size(places), ==, G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++) {
        gpointer at;
        g_assert_true(g_hash_table_lookup_extended(places, GUINT_TO_POINTER(expected[i].usage),
                                                   NULL, &at));
        g_assert_cmpuint(GPOINTER_TO_UINT(at), ==, expected[i].at);
    }
    usb_device_unref(dev);
}

static void test_pad(void)
{
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct input_pad s = {.buttons = 0x401, .hat = 3, .axis = {-32768, 1, 2, 3, 4, 32767}};
    struct usb_device *dev = usb_pad_new();

    usb_pad_set(dev, &rest);
    usb_pad_set(dev, &s); /* held before anybody looks */
    configure(a, dev);
    check_pad(a, dev, 0x401, 3, -32768, 32767);
    g_assert_cmpuint(a->data[5] | a->data[7] << 8 | a->data[9] << 16, ==, 0x30201);
    check_pad_silent(a, dev);
    g_assert_cmpint(request(a, dev, 0xa1, 1, 0x100, 0, 64), ==, 15);
    g_assert_cmpuint(a->data[2], ==, 3);
    /* While nobody asks only the last is kept. */
    for (unsigned i = 0; i < 40; i++) {
        s.buttons ^= 1;
        s.axis[0] = (int16_t)i;
        usb_pad_set(dev, &s);
    }
    check_pad(a, dev, 0x401, 3, 39, 32767);
    check_pad_silent(a, dev);
    /* Between two questions: motion is one report, a button all of its own. */
    ask(a, dev, USB_INTERRUPT, INT_IN, 16);
    s.axis[0] = 100;
    usb_pad_set(dev, &s);
    g_assert_true(a->done);
    usb_pad_set(dev, &s); /* nothing new */
    s.axis[0] = 101;
    usb_pad_set(dev, &s);
    s.axis[0] = 102;
    usb_pad_set(dev, &s);
    s.buttons = 0x402;
    usb_pad_set(dev, &s);
    s.hat = 0;
    usb_pad_set(dev, &s);
    s.axis[0] = 103;
    usb_pad_set(dev, &s);
    check_pad(a, dev, 0x401, 3, 102, 32767);
    check_pad(a, dev, 0x402, 3, 102, 32767);
    check_pad(a, dev, 0x402, 0, 102, 32767);
    check_pad(a, dev, 0x402, 0, 103, 32767);
    check_pad_silent(a, dev);
    /* Nonsense from a client is rest. */
    s = (struct input_pad){.buttons = 0xffff, .hat = 9, .axis = {[4] = -1, [5] = -32768}};
    usb_pad_set(dev, &s);
    check_pad(a, dev, 0x7cdb, 0, 0, 0);
    g_assert_cmpuint(a->data[11] | a->data[12], ==, 0);
    /* A reset forgets what was told, but not what is held. */
    dev->class->reset(dev);
    configure(a, dev);
    check_pad(a, dev, 0x7cdb, 0, 0, 0);
    usb_pad_set(dev, &rest);
    check_pad(a, dev, 0, 0, 0, 0);
    configure(a, dev);
    check_pad_silent(a, dev);
    usb_device_unref(dev);
}

/* What has not been told yet is told by the one that goes on. */
static void test_pad_state(void)
{
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct usb_device *dev = usb_pad_new(), *other = usb_pad_new();
    g_autoptr(GVariant) saved = NULL;
    g_autoptr(GError) error = NULL;
    struct state *s;

    configure(a, dev);
    ask(a, dev, USB_INTERRUPT, INT_IN, 16);
    for (unsigned i = 1; i < 5; i++) {
        usb_pad_set(dev, &(struct input_pad){.buttons = i & 1, .axis = {(int16_t)i}});
    }
    s = state_begin_save(1);
    dev->class->state(dev, s);
    saved = g_variant_ref_sink(state_end_save(s));
    s = state_begin_restore(saved);
    other->class->state(other, s);
    g_assert_true(state_end_restore(s, "pad", &error));
    check_pad(a, other, 0, 0, 2, 0);
    check_pad(a, other, 1, 0, 3, 0);
    check_pad(a, other, 0, 0, 4, 0);
    check_pad_silent(a, other);
    g_assert_cmpint(request(a, other, 0x80, 8, 0, 0, 1), ==, 1);
    g_assert_cmpuint(a->data[0], ==, 1);
    usb_device_unref(dev);
    usb_device_unref(other);
}

/* A state file with a count of its own, requests and transfers at random. */
static void test_pad_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(11);
    g_autofree struct ask *a = g_new0(struct ask, 1);
    struct usb_device *dev = usb_pad_new();
    uint8_t bytes[15] = {0}, queue[16 * 15] = {0}, one = 1, none = 0;
    uint32_t count = 1000000, halted = 0;
    g_autoptr(GVariant) saved = NULL;
    bool no = false;
    struct state *s = state_begin_save(1);

    state_u8(s, "configuration", &one);
    state_bool(s, "remote-wakeup", &no);
    state_u32(s, "halted", &halted);
    state_bytes(s, "now", bytes, sizeof bytes);
    state_bytes(s, "told", bytes, sizeof bytes);
    state_bytes(s, "queue", queue, sizeof queue);
    state_u32(s, "count", &count);
    state_u8(s, "idle", &none);
    state_bool(s, "polled", &no);
    saved = g_variant_ref_sink(state_end_save(s));
    s = state_begin_restore(saved);
    dev->class->state(dev, s);
    g_assert_true(state_end_restore(s, "pad", NULL));
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t n = g_rand_int(random);
        struct input_pad pad = {.buttons = (uint16_t)n, .hat = (uint8_t)(n >> 16)};
        usb_pad_set(dev, &pad);
        if (n & 1) {
            request(a, dev, (uint8_t)(n >> 8 & 0xe3), (uint8_t)(n >> 16 & 15),
                    (uint16_t)g_rand_int(random), 0, (uint16_t)(n >> 4 & 0x3ff));
        } else {
            ask(a, dev, USB_INTERRUPT, n & 2 ? INT_IN : (uint8_t)(n >> 8), n >> 16 & 31);
            if (!a->done) {
                usb_cancel(&a->t);
            }
            g_assert_cmpuint(a->t.actual, <=, a->t.length);
        }
        g_assert_true(a->done);
    }
    dev->class->reset(dev);
    configure(a, dev);
    usb_pad_set(dev, &rest);
    check_pad(a, dev, 0, 0, 0, 0);
    usb_device_unref(dev);
}

/* --- the hub --- */

static uint32_t hub_status(struct ask *a, struct usb_device *hub, unsigned port)
{
    uint32_t status;

    g_assert_cmpint(request(a, hub, 0xa3, 0, 0, (uint16_t)port, 4), ==, 4);
    memcpy(&status, a->data, 4);
    return status;
}

static void test_hub(void)
{
    g_autofree struct ask *a = g_new0(struct ask, 1), *changes = g_new0(struct ask, 1);
    struct usb_device *hub = usb_hub_new(), *inner = usb_hub_new(), *mouse = usb_tablet_new(NULL);

    g_assert_cmpint(request(a, hub, 0xa0, 6, 0x2900, 0, 71), ==, 11);
    g_assert_cmpuint(a->data[2], ==, USB_HUB_PORTS);
    configure(a, hub);
    ask(changes, hub, USB_INTERRUPT, INT_IN, 2);
    g_assert_false(changes->done);
    g_assert_true(usb_attach(usb_hub_free_port(hub, USB_SPEED_HIGH), inner));
    g_assert_true(changes->done);
    g_assert_cmphex(changes->data[0], ==, 1u << 1);
    g_assert_cmphex(hub_status(a, hub, 1), ==, 0x10501);
    g_assert_cmphex(hub_status(a, hub, 2), ==, 0x100);
    g_assert_cmpint(request(a, hub, 0x23, 1, 16, 1, 0), ==, 0);
    g_assert_cmpint(request(a, hub, 0x23, 3, 4, 1, 0), ==, 0); /* reset */
    g_assert_cmphex(hub_status(a, hub, 1), ==, 0x100503);
    g_assert_cmpint(request(a, hub, 0x23, 1, 20, 1, 0), ==, 0);
    ask(changes, hub, USB_INTERRUPT, INT_IN, 2);
    g_assert_false(changes->done);
    g_assert_true(usb_attach(usb_hub_port(inner, 8), mouse));
    g_assert_true(hub->class->downstream(hub, 1) == inner);
    g_assert_true(inner->class->downstream(inner, 8) == mouse);
    g_assert_null(hub->class->downstream(hub, 9));
    g_assert_cmpint(request(a, hub, 0x23, 3, 4, 9, 0), ==, -1);
    g_assert_cmpint(request(a, hub, 0xa3, 0, 0, 0, 4), ==, -1);
    usb_detach(usb_hub_port(hub, 1));
    g_assert_true(changes->done);
    g_assert_cmphex(hub_status(a, hub, 1), ==, 0x10100);
    usb_device_unref(inner);
    usb_device_unref(hub);
    g_assert_null(mouse->port);
    usb_device_unref(mouse);
}

/* --- the disk --- */

struct disk {
    char *folder, *path;
    struct block *block;
    struct usb_device *dev;
    struct ask *a;
    unsigned errors;
    uint32_t tag;
};

static void disk_error(void *opaque, struct block *block, int error_errno)
{
    ((struct disk *)opaque)->errors++;
}

static void disk_open(struct disk *d, unsigned flags)
{
    g_autofree uint8_t *content = g_malloc(DISK);
    struct usb_storage_config config = {
        .serial = "0123456789AB", .io_error = disk_error, .opaque = d};

    memset(d, 0, sizeof *d);
    d->a = g_new0(struct ask, 1);
    d->folder = g_dir_make_tmp("usb-XXXXXX", NULL);
    d->path = g_build_filename(d->folder, "disk", NULL);
    for (unsigned i = 0; i < DISK; i++) {
        content[i] = (uint8_t)(i / 512 * 7 + i % 11);
    }
    g_assert_true(g_file_set_contents(d->path, (char *)content, DISK, NULL));
    config.block = d->block = block_open(d->path, BLOCK_RAW | flags, NULL);
    d->dev = usb_storage_new(&config);
    configure(d->a, d->dev);
}

static void disk_close(struct disk *d)
{
    usb_device_unref(d->dev);
    block_close(d->block);
    g_unlink(d->path);
    g_rmdir(d->folder);
    g_free(d->path);
    g_free(d->folder);
    g_free(d->a);
}

static void settle(struct ask *a, struct disk *d)
{
    while (!a->done && d->dev->class->busy(d->dev)) {
        g_main_context_iteration(NULL, TRUE);
    }
}

static void bulk(struct disk *d, struct ask *a, bool in, size_t length)
{
    machine_lock();
    ask(a, d->dev, USB_BULK, in ? USB_IN | 1 : 2, length);
    machine_unlock();
    settle(a, d);
}

static void command(struct disk *d, const uint8_t *cdb, unsigned size, uint32_t length, bool in)
{
    uint8_t cbw[31] = "USBC";

    d->tag++;
    memcpy(cbw + 4, &d->tag, 4);
    memcpy(cbw + 8, &length, 4);
    cbw[12] = in ? 0x80 : 0;
    cbw[14] = (uint8_t)size;
    memcpy(cbw + 15, cdb, size);
    memcpy(d->a->data, cbw, sizeof cbw);
    bulk(d, d->a, false, sizeof cbw);
    g_assert_true(d->a->done && d->a->t.status == USB_DONE);
}
#define COMMAND(d, length, in, ...)                                                                \
    command(d, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), length, in)

static void status(struct disk *d, unsigned want, uint32_t residue)
{
    uint32_t words[3];

    bulk(d, d->a, true, 13);
    g_assert_true(d->a->done && d->a->t.status == USB_DONE);
    g_assert_cmpuint(d->a->t.actual, ==, 13);
    memcpy(words, d->a->data, sizeof words);
    g_assert_cmphex(words[0], ==, 0x53425355);
    g_assert_cmpuint(words[1], ==, d->tag);
    g_assert_cmpuint(words[2], ==, residue);
    g_assert_cmpuint(d->a->data[12], ==, want);
}

static void check_sense(struct disk *d, unsigned key, unsigned asc)
{
    COMMAND(d, 18, true, 0x03, 0, 0, 0, 18, 0);
    bulk(d, d->a, true, 18);
    g_assert_cmpuint(d->a->data[2], ==, key);
    g_assert_cmpuint(d->a->data[12], ==, asc);
    status(d, 0, 0);
}

static void test_disk_commands(void)
{
    struct disk d;

    disk_open(&d, 0);
    COMMAND(&d, 0, false, 0, 0, 0, 0, 0, 0);
    status(&d, 0, 0);
    COMMAND(&d, 36, true, 0x12, 0, 0, 0, 36, 0);
    bulk(&d, d.a, true, 36);
    g_assert_cmpuint(d.a->t.actual, ==, 36);
    g_assert_cmpmem(d.a->data + 8, 8, "Ringside", 8);
    status(&d, 0, 0);
    COMMAND(&d, 255, true, 0x12, 1, 0x80, 0, 255, 0); /* more than there is */
    bulk(&d, d.a, true, 255);
    g_assert_cmpuint(d.a->t.actual, ==, 16);
    g_assert_cmpmem(d.a->data + 4, 12, "0123456789AB", 12);
    status(&d, 0, 255 - 16);
    COMMAND(&d, 8, true, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    bulk(&d, d.a, true, 8);
    g_assert_cmpmem(d.a->data, 8, "\0\0\7\377\0\0\2\0", 8);
    status(&d, 0, 0);
    COMMAND(&d, 32, true, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    bulk(&d, d.a, true, 32);
    g_assert_cmpmem(d.a->data + 4, 8, "\0\0\7\377\0\0\2\0", 8);
    status(&d, 0, 0);
    COMMAND(&d, 192, true, 0x1a, 0, 0x3f, 0, 192, 0);
    bulk(&d, d.a, true, 192);
    g_assert_cmpuint(d.a->t.actual, ==, 24);
    g_assert_cmpuint(d.a->data[0], ==, 23);
    status(&d, 0, 192 - 24);
    COMMAND(&d, 0, false, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    status(&d, 0, 0);
    /* What is not there: the data stage stalls. */
    COMMAND(&d, 10, true, 0xfe, 0, 0, 0, 0, 0);
    bulk(&d, d.a, true, 10);
    g_assert_cmpint(d.a->t.status, ==, USB_STALL);
    bulk(&d, d.a, true, 13);
    g_assert_cmpint(d.a->t.status, ==, USB_STALL);
    g_assert_cmpint(request(d.a, d.dev, 2, 1, 0, USB_IN | 1, 0), ==, 0);
    status(&d, 1, 10);
    check_sense(&d, 5, 0x20);
    check_sense(&d, 0, 0);
    disk_close(&d);
}

static void test_disk_data(void)
{
    struct disk d;
    uint8_t got[8];

    disk_open(&d, 0);
    COMMAND(&d, 1536, true, 0x28, 0, 0, 0, 0, 100, 0, 0, 3, 0);
    bulk(&d, d.a, true, 1024); /* in two transfers */
    g_assert_cmpuint(d.a->t.actual, ==, 1024);
    g_assert_cmpuint(d.a->data[512], ==, (uint8_t)(101 * 7 + 101 * 512 % 11));
    bulk(&d, d.a, true, 512);
    g_assert_cmpuint(d.a->data[0], ==, (uint8_t)(102 * 7 + 102 * 512 % 11));
    status(&d, 0, 0);
    COMMAND(&d, 1024, false, 0x8a, 0, 0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 0, 1, 0, 0);
    memset(d.a->data, 0x77, 1024); /* 512 more than the command takes */
    bulk(&d, d.a, false, 1024);
    g_assert_cmpuint(d.a->t.actual, ==, 1024);
    status(&d, 0, 512);
    g_assert_cmpint(block_read_sync(d.block, DISK - 8, got, 8), ==, 0);
    g_assert_cmphex(got[7], ==, 0x77);
    /* Beyond the end; more than the host has room for; the wrong way. */
    COMMAND(&d, 1024, true, 0x28, 0, 0, 0, 7, 255, 0, 0, 2, 0);
    bulk(&d, d.a, true, 1024);
    g_assert_cmpint(d.a->t.status, ==, USB_STALL);
    request(d.a, d.dev, 2, 1, 0, USB_IN | 1, 0);
    status(&d, 1, 1024);
    check_sense(&d, 5, 0x21);
    COMMAND(&d, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0);
    bulk(&d, d.a, true, 512);
    request(d.a, d.dev, 2, 1, 0, USB_IN | 1, 0);
    status(&d, 2, 512);
    COMMAND(&d, 512, false, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    bulk(&d, d.a, false, 512);
    status(&d, 2, 512);
    COMMAND(&d, 0, false, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    status(&d, 2, 0);
    /* A wrapper that is none: all stalls until a reset. */
    memcpy(d.a->data, "USBX", 4);
    bulk(&d, d.a, false, 31);
    g_assert_cmpint(d.a->t.status, ==, USB_STALL);
    request(d.a, d.dev, 2, 1, 0, 2, 0);
    bulk(&d, d.a, false, 31);
    g_assert_cmpint(d.a->t.status, ==, USB_STALL);
    g_assert_cmpint(request(d.a, d.dev, 0x21, 0xff, 0, 0, 0), ==, 0);
    COMMAND(&d, 0, false, 0, 0, 0, 0, 0, 0);
    status(&d, 0, 0);
    disk_close(&d);
    disk_open(&d, BLOCK_READ_ONLY);
    COMMAND(&d, 512, false, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    bulk(&d, d.a, false, 512);
    status(&d, 1, 512);
    check_sense(&d, 7, 0x27);
    disk_close(&d);
}

/* Saved between the stages of a write. */
static void test_disk_state(void)
{
    struct disk d;
    struct state *s;
    g_autoptr(GVariant) saved = NULL;
    uint8_t got;

    disk_open(&d, 0);
    COMMAND(&d, 2048, false, 0x2a, 0, 0, 0, 0, 8, 0, 0, 4, 0);
    memset(d.a->data, 0x11, 1024);
    bulk(&d, d.a, false, 1024);
    s = state_begin_save(1);
    d.dev->class->state(d.dev, s);
    saved = g_variant_ref_sink(state_end_save(s));
    d.dev->class->reset(d.dev);
    s = state_begin_restore(saved);
    d.dev->class->state(d.dev, s);
    g_assert_true(state_end_restore(s, "disk", NULL));
    memset(d.a->data, 0x22, 1024);
    bulk(&d, d.a, false, 1024);
    status(&d, 0, 0);
    block_read_sync(d.block, 9 * 512 + 511, &got, 1);
    g_assert_cmphex(got, ==, 0x11);
    block_read_sync(d.block, 11 * 512 + 511, &got, 1);
    g_assert_cmphex(got, ==, 0x22);
    disk_close(&d);
}

/* The host's file size limit plays a full disk: the write waits; it can be taken back, or done. */
static void test_disk_full(void)
{
    struct disk d;
    struct rlimit old, low;
    uint8_t got;

    signal(SIGXFSZ, SIG_IGN);
    disk_open(&d, 0);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &low);
    for (unsigned round = 0; round < 2; round++) {
        COMMAND(&d, 512, false, 0x2a, 0, 0, 0, 3, 0, 0, 0, 1, 0);
        memset(d.a->data, 0x99, 512);
        bulk(&d, d.a, false, 512);
        g_assert_cmpuint(d.errors, ==, round + 1);
        g_assert_false(d.a->done);
        if (round == 0) {
            usb_cancel(&d.a->t);
            g_assert_cmpint(d.a->t.status, ==, USB_CANCELLED);
            d.dev->class->reset(d.dev);
            configure(d.a, d.dev);
        }
    }
    setrlimit(RLIMIT_FSIZE, &old);
    machine_lock();
    usb_storage_retry(d.dev);
    machine_unlock();
    settle(d.a, &d);
    g_assert_true(d.a->done && d.a->t.status == USB_DONE);
    status(&d, 0, 0);
    block_read_sync(d.block, 768 * 512, &got, 1);
    g_assert_cmphex(got, ==, 0x99);
    disk_close(&d);
}

/* Unplugged and reset while the image is at work: the transfer comes back later, nothing breaks. */
static void test_disk_reset(void)
{
    struct disk d;

    disk_open(&d, 0);
    for (unsigned i = 0; i < 50; i++) {
        COMMAND(&d, 32768, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 64, 0);
        machine_lock();
        ask(d.a, d.dev, USB_BULK, USB_IN | 1, 32768);
        if (i & 1) {
            usb_cancel(&d.a->t);
        }
        d.dev->class->reset(d.dev);
        machine_unlock();
        settle(d.a, &d);
        g_assert_true(d.a->done);
        configure(d.a, d.dev);
    }
    COMMAND(&d, 0, false, 0, 0, 0, 0, 0, 0);
    status(&d, 0, 0);
    disk_close(&d);
}

/* Wrappers and transfers at random. */
static void test_disk_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    struct disk d;
    unsigned commands = 0, moved = 0;

    disk_open(&d, 0);
    for (unsigned round = 0; round < 100000; round++) {
        static const uint8_t codes[] = {0x03, 0x12, 0x1a, 0x5a, 0x25, 0x28, 0x2a, 0x88,
                                        0x8a, 0x9e, 0xa0, 0xa8, 0x23, 0x35, 0x08, 0x0a};
        uint32_t n = g_rand_int(random), in = n & 0x100;
        if (n % 4 == 0) {
            for (unsigned i = 0; i < 31; i++) {
                d.a->data[i] =
                    (uint8_t)(g_rand_int(random) & g_rand_int(random) & g_rand_int(random));
            }
            memcpy(d.a->data, "USBC", 4);
            d.a->data[10] = d.a->data[11] = d.a->data[13] = 0;
            d.a->data[12] = in ? 0x80 : 0;
            d.a->data[14] = 16;
            d.a->data[15] = codes[(n >> 9) % G_N_ELEMENTS(codes)];
            d.a->data[18] = d.a->data[17] = 0;
            bulk(&d, d.a, false, 31);
            commands += d.a->t.status == USB_DONE;
        } else if (n % 50 == 1 || (n % 3 == 0 && d.a->done && d.a->t.status == USB_STALL)) {
            d.dev->class->reset(d.dev);
            configure(d.a, d.dev);
        } else {
            bulk(&d, d.a, n & 0x200, n >> 16 & 3 ? n >> 20 & 0x1ff : n >> 16);
            moved += d.a->done && d.a->t.status == USB_DONE;
        }
        if (!d.a->done) {
            usb_cancel(&d.a->t);
            settle(d.a, &d);
        }
        g_assert_true(d.a->done);
    }
    g_test_message("%u commands, %u transfers", commands, moved);
    g_assert_cmpuint(commands, >, 2000);
    g_assert_cmpuint(moved, >, 2000);
    disk_close(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/usb/descriptors", test_descriptors);
    g_test_add_func("/usb/tablet", test_tablet);
    g_test_add_func("/usb/keyboard", test_keyboard);
    g_test_add_func("/usb/wakeup", test_wakeup);
    g_test_add_func("/usb/pad/descriptor", test_pad_descriptor);
    g_test_add_func("/usb/pad/reports", test_pad);
    g_test_add_func("/usb/pad/state", test_pad_state);
    g_test_add_func("/usb/pad/hostile", test_pad_hostile);
    g_test_add_func("/usb/hub", test_hub);
    g_test_add_func("/usb/disk/commands", test_disk_commands);
    g_test_add_func("/usb/disk/data", test_disk_data);
    g_test_add_func("/usb/disk/state", test_disk_state);
    g_test_add_func("/usb/disk/full", test_disk_full);
    g_test_add_func("/usb/disk/reset", test_disk_reset);
    g_test_add_func("/usb/disk/hostile", test_disk_hostile);
    return g_test_run();
}
