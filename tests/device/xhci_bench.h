/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An xHCI driver for tests: rings in the bench's RAM, and a device that does what it is told. */
#pragma once

#include "pci_bench.h"

#include "xhci_internal.h"

#define DEVFN       0xa0
#define OP          0x40u
#define RUN_AT      0x1000u
#define DOORBELL(n) (0x2000u + 4 * (n))
#define PORTSC(n)   (0x440u + 16 * ((n)-1))

#define BULK_IN  3u /* device context indices of endpoint 1 IN, 1 OUT, ... */
#define BULK_OUT 2u
#define INT_IN   5u
#define ISOCH_IN 7u

#define DCBAA       0x1000u
#define COMMANDS    0x2000u
#define ERST        0x3000u
#define EVENTS      0x4000u /* 64 TRBs */
#define EVENT_COUNT 64u
#define INPUT       0x6000u
#define CONTEXTS(n) (0x8000u + 0x800 * (n))
#define RING(n, e)                                                                                 \
    (0x20000u + 0x20000u * (n) + 0x1000u * (e)) /* slot, endpoint: 255 TRBs, a link */
#define DATA 0x200000u

struct probe { /* the device */
    struct usb_device dev;
    GPtrArray *transfers; /* struct usb_transfer: not answered yet */
    bool at_once;         /* answers when asked */
    bool stubborn;        /* cancels nothing before probe_return() */
    unsigned submitted, cancels, resets, streams, cancels_waiting;
};

struct rig {
    struct bench bench;
    uint32_t bar;
    unsigned command_index, event_index;
    bool command_cycle, event_cycle;
    unsigned ring_index[4][32];
    bool ring_cycle[4][32];
    struct probe *probe;
};

/* --- the device --- */

static inline void probe_answer(struct probe *p, unsigned n, size_t actual, enum usb_status status)
{
    struct usb_transfer *t = p->transfers->pdata[n];

    g_ptr_array_remove_index(p->transfers, n);
    for (size_t i = 0; i < actual && (t->endpoint & USB_IN); i++) {
        t->data[i] = (uint8_t)(i * 7 + 1);
    }
    t->actual = actual;
    if (t->n_packets) {
        t->packets[0].actual = (uint32_t)actual;
        t->packets[0].status = status;
        status = USB_DONE;
    }
    usb_complete(t, status);
}

static void probe_submit(struct usb_device *dev, struct usb_transfer *t)
{
    struct probe *p = (struct probe *)dev;

    p->submitted++;
    g_ptr_array_add(p->transfers, t);
    if (p->at_once || t->kind == USB_CONTROL) {
        probe_answer(p, p->transfers->len - 1, t->length, USB_DONE);
    }
}

static void probe_cancel(struct usb_device *dev, struct usb_transfer *t)
{
    struct probe *p = (struct probe *)dev;
    guint n;

    p->cancels++;
    if (!p->stubborn && g_ptr_array_find(p->transfers, t, &n)) {
        probe_answer(p, n, 0, USB_CANCELLED);
    }
}

static void probe_reset(struct usb_device *dev)
{
    ((struct probe *)dev)->resets++;
}

static bool probe_streams(struct usb_device *dev, const uint8_t *endpoints, unsigned n,
                          unsigned streams)
{
    ((struct probe *)dev)->streams = streams;
    return true;
}

static void probe_state(struct usb_device *dev, struct state *s)
{
}

static void probe_free(struct usb_device *dev)
{
    g_assert_cmpuint(((struct probe *)dev)->transfers->len, ==, 0);
    g_ptr_array_unref(((struct probe *)dev)->transfers);
    g_free(dev);
}

static const struct usb_device_class probe_class = {
    .name = "probe",
    .submit = probe_submit,
    .cancel = probe_cancel,
    .reset = probe_reset,
    .streams = probe_streams,
    .state = probe_state,
    .free = probe_free,
};

static inline struct probe *probe_new(enum usb_speed speed)
{
    struct probe *p = g_new0(struct probe, 1);

    usb_device_init(&p->dev, &probe_class, speed, "probe");
    p->transfers = g_ptr_array_new();
    return p;
}

/* --- registers and memory --- */

static inline uint32_t get(struct rig *r, uint32_t at)
{
    return (uint32_t)memory_io_read(r->bench.host.memory, r->bar + at, 4);
}

static inline void set(struct rig *r, uint32_t at, uint32_t value)
{
    memory_io_write(r->bench.host.memory, r->bar + at, value, 4);
}

static inline void put(struct rig *r, uint32_t at, const void *bytes, size_t size)
{
    memcpy(r->bench.ram + at, bytes, size);
}

static inline uint32_t word(struct rig *r, uint32_t at)
{
    uint32_t value;

    memcpy(&value, r->bench.ram + at, 4);
    return value;
}

static inline void set_word(struct rig *r, uint32_t at, uint32_t value)
{
    put(r, at, &value, 4);
}

static inline void trb_at(struct rig *r, uint32_t at, uint64_t parameter, uint32_t status,
                          uint32_t control)
{
    struct xhci_trb trb = {parameter, status, control};

    put(r, at, &trb, sizeof trb);
}

/* Lets timers that are due fire, and time pass. */
static inline void pass(struct rig *r, uint64_t ns)
{
    clock_advance(r->bench.host.clock, ns);
}

/* --- the driver --- */

static inline void rig_rings(struct rig *r)
{
    uint32_t erst[4] = {EVENTS, 0, EVENT_COUNT, 0};

    memset(r->bench.ram, 0, DATA);
    r->command_index = r->event_index = 0;
    r->command_cycle = r->event_cycle = true;
    put(r, ERST, erst, sizeof erst);
    set(r, OP + 0x38, XHCI_SLOTS);
    set(r, OP + 0x30, DCBAA);
    set(r, OP + 0x34, 0);
    set(r, OP + 0x18, COMMANDS | 1);
    set(r, OP + 0x1c, 0);
    set(r, RUN_AT + 0x28, 1);
    set(r, RUN_AT + 0x38, EVENTS);
    set(r, RUN_AT + 0x3c, 0);
    set(r, RUN_AT + 0x30, ERST);
    set(r, RUN_AT + 0x34, 0);
    set(r, RUN_AT + 0x20, 2);
    set(r, OP, 5);
}

static inline void rig_open(struct rig *r)
{
    struct xhci_config config = {0};

    memset(r, 0, sizeof *r);
    bench_open(&r->bench);
    config.pci = (struct pci_config){r->bench.bus, DEVFN};
    bench_start(&r->bench, &xhci_device, &config);
    r->bar = bench_bar(&r->bench, DEVFN, 0);
    rig_rings(r);
}

static inline void rig_close(struct rig *r)
{
    if (r->probe) {
        r->probe->stubborn = false;
    }
    bench_close(&r->bench);
    if (r->probe) {
        while (r->probe->transfers->len) {
            probe_answer(r->probe, 0, 0, USB_CANCELLED);
        }
        usb_device_unref(&r->probe->dev);
    }
}

/* The next event; false: there is none. */
static inline bool event(struct rig *r, struct xhci_trb *e)
{
    memcpy(e, r->bench.ram + EVENTS + 16 * r->event_index, sizeof *e);
    if ((e->control & 1) != r->event_cycle) {
        return false;
    }
    if (++r->event_index == EVENT_COUNT) {
        r->event_index = 0;
        r->event_cycle = !r->event_cycle;
    }
    set(r, RUN_AT + 0x38, (EVENTS + 16 * r->event_index) | 8);
    return true;
}

static inline unsigned event_type(const struct xhci_trb *e)
{
    return trb_type(e);
}

static inline unsigned event_cc(const struct xhci_trb *e)
{
    return e->status >> 24;
}

/* An event of that kind has to be the next one. */
static inline struct xhci_trb expect(struct rig *r, unsigned type, unsigned cc)
{
    struct xhci_trb e = {0};

    g_assert_true(event(r, &e));
    g_assert_cmpuint(event_type(&e), ==, type);
    g_assert_cmpuint(event_cc(&e), ==, cc);
    return e;
}

static inline void expect_none(struct rig *r)
{
    struct xhci_trb e;

    g_assert_false(event(r, &e));
}

static inline void command_put(struct rig *r, uint64_t parameter, uint32_t status, uint32_t control)
{
    trb_at(r, COMMANDS + 16 * r->command_index, parameter, status, control | r->command_cycle);
    if (++r->command_index == 63) {
        trb_at(r, COMMANDS + 16 * 63, COMMANDS, 0, TRB_LINK << 10 | 2 | r->command_cycle);
        r->command_index = 0;
        r->command_cycle = !r->command_cycle;
    }
    set(r, DOORBELL(0), 0);
}

/* Carried out at once; its event, which is the next one. */
static inline struct xhci_trb command(struct rig *r, uint64_t parameter, uint32_t status,
                                      uint32_t control, unsigned cc)
{
    command_put(r, parameter, status, control);
    return expect(r, TRB_COMMAND_EVENT, cc);
}

static inline uint32_t ring_put(struct rig *r, unsigned slot, unsigned ep, uint64_t parameter,
                                uint32_t status, uint32_t control)
{
    uint32_t base = RING(slot, ep), at = base + 16 * r->ring_index[slot][ep];

    trb_at(r, at, parameter, status, control | r->ring_cycle[slot][ep]);
    if (++r->ring_index[slot][ep] == 255) {
        trb_at(r, base + 16 * 255, base, 0,
               TRB_LINK << 10 | 2 | (control & TRB_CHAIN) | r->ring_cycle[slot][ep]);
        r->ring_index[slot][ep] = 0;
        r->ring_cycle[slot][ep] = !r->ring_cycle[slot][ep];
    }
    return at;
}

static inline uint32_t normal(struct rig *r, unsigned slot, unsigned ep, uint32_t at, uint32_t size,
                              uint32_t flags)
{
    return ring_put(r, slot, ep, at, size, TRB_NORMAL << 10 | flags);
}

static inline void ring_reset(struct rig *r, unsigned slot, unsigned ep)
{
    memset(r->bench.ram + RING(slot, ep), 0, 0x1000);
    r->ring_index[slot][ep] = 0;
    r->ring_cycle[slot][ep] = true;
}

static inline void endpoint_context(struct rig *r, uint32_t at, unsigned slot, unsigned ep,
                                    unsigned type, unsigned packet, unsigned interval)
{
    uint32_t words[8] = {interval << 16, type << 3 | packet << 16 | 3 << 1, RING(slot, ep) | 1, 0,
                         packet};

    ring_reset(r, slot, ep);
    put(r, at, words, sizeof words);
}

static inline void input_clear(struct rig *r, uint32_t drop, uint32_t add)
{
    memset(r->bench.ram + INPUT, 0, 33 * 32);
    set_word(r, INPUT, drop);
    set_word(r, INPUT + 4, add);
}

/* Enables and addresses the slot of what is in the port. */
static inline unsigned slot_up(struct rig *r, unsigned port, uint32_t route, unsigned speed)
{
    struct xhci_trb e = command(r, 0, 0, TRB_ENABLE_SLOT << 10, CC_SUCCESS);
    unsigned slot = e.control >> 24;

    set_word(r, DCBAA + 8 * slot, CONTEXTS(slot));
    input_clear(r, 0, 3);
    set_word(r, INPUT + 32, route | speed << 20 | 1u << 27);
    set_word(r, INPUT + 36, port << 16);
    endpoint_context(r, INPUT + 64, slot, 1, 4, 64, 0);
    command(r, INPUT, 0, TRB_ADDRESS_DEVICE << 10 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(word(r, CONTEXTS(slot) + 12), ==, 2u << 27 | slot);
    return slot;
}

static inline void endpoint_up(struct rig *r, unsigned slot, unsigned ep, unsigned type,
                               unsigned packet, unsigned interval)
{
    input_clear(r, 0, 1 | 1u << ep);
    put(r, INPUT + 32, r->bench.ram + CONTEXTS(slot), 32);
    endpoint_context(r, INPUT + 32 + 32 * ep, slot, ep, type, packet, interval);
    command(r, INPUT, 0, TRB_CONFIGURE_ENDPOINT << 10 | slot << 24, CC_SUCCESS);
}

static inline unsigned endpoint_state(struct rig *r, unsigned slot, unsigned ep)
{
    return word(r, CONTEXTS(slot) + 32 * ep) & 7;
}

static inline uint64_t endpoint_dequeue(struct rig *r, unsigned slot, unsigned ep)
{
    return word(r, CONTEXTS(slot) + 32 * ep + 8);
}

/* A probe in USB 3 port 9, as slot 1, with the events of that taken. */
static inline unsigned probe_up(struct rig *r)
{
    r->probe = probe_new(USB_SPEED_SUPER);
    g_assert_true(usb_attach(xhci_free_port(r->bench.dev, USB_SPEED_SUPER), &r->probe->dev));
    expect(r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(r, PORTSC(9)) & 0x23fff, ==, 0x21203); /* connected, enabled, U0, super */
    set(r, PORTSC(9), 1u << 17);
    return slot_up(r, 9, 0, 4);
}

static inline void control(struct rig *r, unsigned slot, uint8_t type, uint8_t request,
                           uint16_t value, uint16_t index, uint16_t length)
{
    uint64_t setup = type | request << 8 | (uint64_t)value << 16 | (uint64_t)index << 32 |
                     (uint64_t)length << 48;
    uint32_t in = type & 0x80 ? TRB_IN : 0;

    ring_put(r, slot, 1, setup, 8, TRB_SETUP << 10 | TRB_IDT | (length ? (in ? 3u : 2u) << 16 : 0));
    if (length) {
        ring_put(r, slot, 1, DATA, length, TRB_DATA << 10 | TRB_ISP | in);
    }
    ring_put(r, slot, 1, 0, 0, TRB_STATUS << 10 | TRB_IOC | (length && in ? 0 : TRB_IN));
    set(r, DOORBELL(slot), 1);
}
