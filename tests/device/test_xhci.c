/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The USB controller at register level: rings, commands, transfers of every kind, ports. */
#include "usb/hid.h"
#include "usb/hub.h"
#include "xhci_bench.h"

static void test_registers(void)
{
    struct rig r;

    rig_open(&r);
    g_assert_cmphex(get(&r, 0), ==, 0x01100040);
    g_assert_cmphex(get(&r, 4), ==, 0x10000840);
    g_assert_cmphex(memory_io_read(r.bench.host.memory, r.bar, 1), ==, 0x40);
    g_assert_cmphex(get(&r, OP + 8), ==, 1);
    for (unsigned n = 0; n < 80; n++) { /* round the ring */
        struct xhci_trb e = command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
        g_assert_cmphex(e.parameter, ==, COMMANDS + 16 * (n % 63));
    }
    command(&r, 0, 0, 40u << 10, CC_TRB);
    command(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | 1u << 24, CC_SLOT_NOT_ENABLED);
    pass(&r, 10 * XHCI_FRAME_NS);
    g_assert_cmpuint(get(&r, RUN_AT), ==, 80);
    set(&r, OP, 0);
    g_assert_cmphex(get(&r, OP + 4) & 1, ==, 1);
    set(&r, OP, 2);
    g_assert_cmphex(get(&r, OP), ==, 0);
    /* Who has the controller: the system takes it from the firmware. */
    set(&r, 0x620, 1u << 16);
    g_assert_cmphex(get(&r, 0x620), ==, 1u << 16 | 1);
    set(&r, 0x620, 1u << 16 | 1u << 24);
    g_assert_cmphex(get(&r, 0x620), ==, 1u << 24 | 1);
    rig_close(&r);
}

static void test_interrupts(void)
{
    struct rig r;

    rig_open(&r);
    command_put(&r, 0, 0, TRB_NO_OP_COMMAND << 10);
    g_assert_true(r.bench.irq);
    g_assert_cmphex(get(&r, RUN_AT + 0x20), ==, 3);
    set(&r, OP + 4, 8);
    set(&r, RUN_AT + 0x20, 3);
    g_assert_false(r.bench.irq);
    command_put(&r, 0, 0, TRB_NO_OP_COMMAND << 10); /* the handler is busy */
    g_assert_false(r.bench.irq);
    set(&r, RUN_AT + 0x38, (EVENTS + 16) | 8); /* it has taken the first only */
    g_assert_true(r.bench.irq);
    set(&r, RUN_AT + 0x20, 3);
    set(&r, RUN_AT + 0x38, (EVENTS + 32) | 8);
    g_assert_false(r.bench.irq);
    /* MSI-X: vector 0 to a message. */
    set(&r, 0x3000, 0xfee00000);
    set(&r, 0x3008, 0x41);
    set(&r, 0x300c, 0);
    pci_bus_config_write(r.bench.bus, 0, DEVFN, 0x42, 0x8000, 2);
    r.event_index = 2;
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    g_assert_cmpuint(r.bench.messages, ==, 1);
    g_assert_cmphex(r.bench.message_data, ==, 0x41);
    g_assert_cmphex(get(&r, RUN_AT + 0x20), ==, 2); /* the message cleared it */
    rig_close(&r);
}

static void test_ports(void)
{
    struct rig r;
    struct probe *p = probe_new(USB_SPEED_FULL);
    struct usb_port *port;
    struct xhci_trb e;

    rig_open(&r);
    port = xhci_free_port(r.bench.dev, USB_SPEED_FULL);
    g_assert_cmpuint(port->number, ==, 1);
    g_assert_false(usb_attach(xhci_port(r.bench.dev, 9), &p->dev)); /* not for its speed */
    g_assert_true(usb_attach(port, &p->dev));
    e = expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(e.parameter, ==, 1u << 24);
    g_assert_cmphex(get(&r, PORTSC(1)), ==, 0x206e1); /* connected, full speed, polling */
    set(&r, PORTSC(1), 1u << 17 | 1u << 9);
    set(&r, PORTSC(1), 1u << 4 | 1u << 9);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(1)), ==, 0x200603);
    g_assert_cmpuint(p->resets, ==, 1);
    set(&r, PORTSC(1), 1u << 21 | 1u << 9);
    /* To sleep, and woken by the device. */
    usb_wakeup(&p->dev);
    expect_none(&r);
    set(&r, PORTSC(1), 1u << 16 | 3u << 5 | 1u << 9);
    g_assert_cmphex(get(&r, PORTSC(1)) & 0x1e0, ==, 3u << 5);
    usb_wakeup(&p->dev);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(1)) & 0x4001e0, ==, 0x4001e0); /* resume */
    set(&r, PORTSC(1), 1u << 22 | 1u << 9);
    set(&r, PORTSC(1), 1u << 16 | 1u << 9);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(1)) & 0x1e0, ==, 0);
    set(&r, PORTSC(1), 1u << 22 | 1u << 9);
    set(&r, PORTSC(1), 1u << 1); /* switched off */
    g_assert_cmphex(get(&r, PORTSC(1)) & 3, ==, 1);
    usb_detach(port);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(1)), ==, 0x202a0);
    usb_device_unref(&p->dev);
    rig_close(&r);
}

/* What a hub of the BIOS does with a USB 3 port that hangs: warm reset; off and on. */
static void test_port_usb3(void)
{
    struct rig r;

    rig_open(&r);
    probe_up(&r);
    set(&r, PORTSC(9), 1u << 17);
    set(&r, PORTSC(9), 1u << 31);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(9)) & 0x280003, ==, 0x280003);
    g_assert_cmpuint(r.probe->resets, ==, 1);
    set(&r, PORTSC(9), 0xfeu << 16);
    set(&r, PORTSC(9), 1u << 16 | 4u << 5);
    g_assert_cmphex(get(&r, PORTSC(9)) & 0x1e3, ==, 4u << 5); /* disabled: nobody is there */
    set(&r, PORTSC(9), 1u << 16 | 5u << 5);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(9)) & 0x201e3, ==, 0x20003);
    rig_close(&r);
}

static void test_control(void)
{
    struct usb_device *tablet = usb_tablet_new(NULL);
    struct rig r;
    struct xhci_trb e;
    unsigned slot;

    rig_open(&r);
    g_assert_true(usb_attach(xhci_free_port(r.bench.dev, USB_SPEED_HIGH), tablet));
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    set(&r, PORTSC(1), 1u << 4 | 1u << 9);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    slot = slot_up(&r, 1, 0, 3);
    control(&r, slot, 0x80, 6, 0x0100, 0, 8);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    g_assert_cmphex(e.control >> 16, ==, slot << 8 | 1);
    g_assert_cmphex(word(&r, DATA), ==, 0x02000112);
    /* More than there is: a short packet in the data stage, then the status stage. */
    control(&r, slot, 0x80, 6, 0x0100, 0, 64);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SHORT);
    g_assert_cmpuint(e.status & 0xffffff, ==, 64 - 18);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    control(&r, slot, 0, 9, 1, 0, 0); /* set configuration */
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    /* What it does not support stalls, and the endpoint halts. */
    control(&r, slot, 0x80, 6, 0x0f00, 0, 5);
    expect(&r, TRB_TRANSFER_EVENT, CC_STALL);
    g_assert_cmpuint(endpoint_state(&r, slot, 1), ==, EP_HALTED);
    control(&r, slot, 0x80, 8, 0, 0, 1);
    expect_none(&r);
    command(&r, RING(slot, 1) | 1, 0, TRB_SET_DEQUEUE << 10 | 1u << 16 | slot << 24,
            CC_CONTEXT_STATE);
    command(&r, 0, 0, TRB_RESET_ENDPOINT << 10 | 1u << 16 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(endpoint_state(&r, slot, 1), ==, EP_STOPPED);
    command(&r, RING(slot, 1) + 16 * 11 + 1, 0, TRB_SET_DEQUEUE << 10 | 1u << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), 1);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    g_assert_cmpuint(r.bench.ram[DATA], ==, 1);
    command(&r, 0, 0, TRB_RESET_DEVICE << 10 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(word(&r, CONTEXTS(slot) + 12), ==, 1u << 27);
    command(&r, 0, 0, TRB_DISABLE_SLOT << 10 | slot << 24, CC_SUCCESS);
    command(&r, 0, 0, TRB_DISABLE_SLOT << 10 | slot << 24, CC_SLOT_NOT_ENABLED);
    usb_device_unref(tablet);
    rig_close(&r);
}

static void test_bulk(void)
{
    struct rig r;
    unsigned slot;
    struct xhci_trb e;
    uint32_t at;

    rig_open(&r);
    slot = probe_up(&r);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    endpoint_up(&r, slot, BULK_OUT, 2, 1024, 0);
    /* Scattered, and event data at the end. */
    normal(&r, slot, BULK_IN, DATA, 1000, TRB_CHAIN);
    normal(&r, slot, BULK_IN, DATA + 0x5001, 1048, TRB_CHAIN);
    ring_put(&r, slot, BULK_IN, 0x1234567890ull, 0, TRB_EVENT_DATA << 10 | TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    g_assert_cmpuint(r.probe->transfers->len, ==, 1);
    expect_none(&r);
    probe_answer(r.probe, 0, 2048, USB_DONE);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    g_assert_cmphex(e.parameter, ==, 0x1234567890ull);
    g_assert_cmpuint(e.status & 0xffffff, ==, 2048);
    g_assert_cmpuint(e.control & TRB_ED, ==, TRB_ED);
    g_assert_cmpuint(r.bench.ram[DATA + 999], ==, (uint8_t)(999 * 7 + 1));
    g_assert_cmpuint(r.bench.ram[DATA + 0x5001], ==, (uint8_t)(1000 * 7 + 1));
    g_assert_cmpuint(r.bench.ram[DATA + 1000], ==, 0);
    /* Short in the second of three: that one reports, with what it lacks. */
    normal(&r, slot, BULK_IN, DATA, 512, TRB_CHAIN | TRB_ISP);
    at = normal(&r, slot, BULK_IN, DATA + 512, 512, TRB_CHAIN | TRB_ISP);
    normal(&r, slot, BULK_IN, DATA + 1024, 512, TRB_ISP | TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    probe_answer(r.probe, 0, 612, USB_DONE);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SHORT);
    g_assert_cmphex(e.parameter, ==, at);
    g_assert_cmpuint(e.status & 0xffffff, ==, 412);
    expect_none(&r);
    /* Out: immediate data, then several at once, answered in their order. */
    ring_put(&r, slot, BULK_OUT, 0x0807060504030201ull, 8, TRB_NORMAL << 10 | TRB_IDT | TRB_IOC);
    for (unsigned i = 0; i < 40; i++) {
        r.bench.ram[DATA + i] = (uint8_t)i;
        normal(&r, slot, BULK_OUT, DATA + i, 1, TRB_IOC);
    }
    set(&r, DOORBELL(slot), BULK_OUT);
    g_assert_cmpuint(r.probe->transfers->len, ==, 32); /* not all at once */
    g_assert_cmpuint(((struct usb_transfer *)r.probe->transfers->pdata[0])->data[7], ==, 8);
    for (unsigned i = 0; i < 41; i++) {
        struct usb_transfer *t = r.probe->transfers->pdata[0];
        g_assert_cmphex(t->endpoint, ==, 1);
        g_assert_cmpuint(t->data[0], ==, i ? i - 1 : 1);
        probe_answer(r.probe, 0, t->length, USB_DONE);
        e = expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
        g_assert_cmphex(e.parameter, ==, RING(slot, BULK_OUT) + 16 * i);
    }
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    /* No operation, and no data. */
    ring_put(&r, slot, BULK_OUT, 0, 0, TRB_NO_OP << 10 | TRB_IOC);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    normal(&r, slot, BULK_OUT, 0, 0, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_OUT);
    probe_answer(r.probe, 0, 0, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    rig_close(&r);
}

/* A stall ends a transfer and takes back those behind it, until the guest starts again. */
static void test_stall(void)
{
    struct rig r;
    unsigned slot;
    uint32_t second;

    rig_open(&r);
    slot = probe_up(&r);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 100, TRB_IOC);
    second = normal(&r, slot, BULK_IN, DATA, 200, TRB_IOC);
    normal(&r, slot, BULK_IN, DATA, 300, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    g_assert_cmpuint(r.probe->transfers->len, ==, 3);
    probe_answer(r.probe, 0, 0, USB_STALL);
    expect(&r, TRB_TRANSFER_EVENT, CC_STALL);
    expect_none(&r);
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    g_assert_cmpuint(endpoint_state(&r, slot, BULK_IN), ==, EP_HALTED);
    set(&r, DOORBELL(slot), BULK_IN);
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    command(&r, 0, 0, TRB_RESET_ENDPOINT << 10 | BULK_IN << 16 | slot << 24, CC_SUCCESS);
    command(&r, second | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_IN << 16 | slot << 24, CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_IN);
    g_assert_cmpuint(r.probe->transfers->len, ==, 2);
    probe_answer(r.probe, 0, 200, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    probe_answer(r.probe, 0, 300, USB_BABBLE);
    expect(&r, TRB_TRANSFER_EVENT, CC_BABBLE);
    rig_close(&r);
}

/* A stopped transfer goes on where it was; the command waits for a slow device. */
static void test_stop(void)
{
    struct rig r;
    unsigned slot;
    struct xhci_trb e;
    uint32_t at;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->stubborn = true;
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 1024, TRB_CHAIN);
    at = normal(&r, slot, BULK_IN, DATA + 1024, 1024, TRB_IOC);
    normal(&r, slot, BULK_IN, DATA + 0x1000, 512, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    command_put(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | BULK_IN << 16 | slot << 24);
    command_put(&r, 0, 0, TRB_NO_OP_COMMAND << 10);
    expect_none(&r);
    g_assert_cmpuint(r.probe->cancels, ==, 2);
    g_assert_true(xhci_device.busy(r.bench.dev));
    set(&r, DOORBELL(slot), BULK_IN); /* in vain */
    g_assert_cmpuint(r.probe->transfers->len, ==, 2);
    probe_answer(r.probe, 1, 0, USB_CANCELLED);
    expect_none(&r);
    probe_answer(r.probe, 0, 1100, USB_CANCELLED); /* with some bytes */
    e = expect(&r, TRB_TRANSFER_EVENT, CC_STOPPED);
    g_assert_cmphex(e.parameter, ==, at);
    g_assert_cmpuint(e.status & 0xffffff, ==, 1024 - 76);
    expect(&r, TRB_COMMAND_EVENT, CC_SUCCESS);
    expect(&r, TRB_COMMAND_EVENT, CC_SUCCESS);
    g_assert_cmpuint(endpoint_state(&r, slot, BULK_IN), ==, EP_STOPPED);
    g_assert_cmphex(endpoint_dequeue(&r, slot, BULK_IN), ==, RING(slot, BULK_IN) | 1);
    g_assert_false(xhci_device.busy(r.bench.dev));
    set(&r, DOORBELL(slot), BULK_IN);
    g_assert_cmpuint(((struct usb_transfer *)r.probe->transfers->pdata[0])->length, ==, 948);
    probe_answer(r.probe, 0, 948, USB_DONE);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    g_assert_cmpuint(r.bench.ram[DATA + 1099], ==, (uint8_t)(1099 * 7 + 1));
    g_assert_cmpuint(r.bench.ram[DATA + 1100], ==, 1);
    probe_answer(r.probe, 0, 512, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    /* A command that waits can be given up. */
    normal(&r, slot, BULK_IN, DATA, 10, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    command_put(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | BULK_IN << 16 | slot << 24);
    expect_none(&r);
    set(&r, OP + 0x18, 4);
    expect(&r, TRB_COMMAND_EVENT, CC_ABORTED);
    expect(&r, TRB_COMMAND_EVENT, CC_RING_STOPPED);
    g_assert_cmphex(get(&r, OP + 0x18), ==, 0);
    /* The controller stands while a command waits; the endpoint goes on with the controller. */
    probe_answer(r.probe, 0, 0, USB_CANCELLED);
    pass(&r, 1);
    g_assert_cmpuint(r.probe->transfers->len, ==, 1);
    command_put(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | BULK_IN << 16 | slot << 24);
    set(&r, OP, 4);
    probe_answer(r.probe, 0, 0, USB_CANCELLED);
    set(&r, OP, 5);
    pass(&r, 1);
    g_assert_cmpuint(r.probe->transfers->len, ==, 1);
    probe_answer(r.probe, 0, 10, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    rig_close(&r);
}

static void test_interrupt_pace(void)
{
    struct rig r;
    unsigned slot;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->at_once = true;
    endpoint_up(&r, slot, INT_IN, 7, 64, 3); /* every ms */
    for (unsigned i = 0; i < 20; i++) {
        normal(&r, slot, INT_IN, DATA, 8, TRB_IOC);
    }
    set(&r, DOORBELL(slot), INT_IN);
    for (unsigned ms = 0; ms < 5; ms++) {
        g_assert_cmpuint(r.probe->submitted, ==, ms + 1);
        expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
        expect_none(&r);
        pass(&r, 1000000);
    }
    r.probe->at_once = false; /* one that waits for something to say is asked at once */
    pass(&r, 1000000);
    g_assert_cmpuint(r.probe->transfers->len, ==, 8);
    g_assert_cmpuint(((struct usb_transfer *)r.probe->transfers->pdata[0])->interval_ns, ==,
                     1000000);
    rig_close(&r);
}

static uint32_t isoch(struct rig *r, unsigned slot, uint32_t size, uint32_t when)
{
    return ring_put(r, slot, ISOCH_IN, DATA, size, TRB_ISOCH << 10 | TRB_IOC | TRB_ISP | when);
}

static void test_isochronous(void)
{
    struct rig r;
    unsigned slot;
    struct xhci_trb e;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->at_once = true;
    endpoint_up(&r, slot, ISOCH_IN, 5, 192, 3);
    pass(&r, 5500000);
    for (unsigned i = 0; i < 10; i++) {
        isoch(&r, slot, 192, 1u << 31); /* as soon as possible */
    }
    set(&r, DOORBELL(slot), ISOCH_IN);
    g_assert_cmpuint(r.probe->submitted, ==, 10); /* ahead of time */
    expect_none(&r);
    for (unsigned i = 0; i < 10; i++) { /* told one a millisecond */
        pass(&r, 1000000);
        expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
        expect_none(&r);
    }
    /* In frame 20 (it is 15 now), and one whose frame has gone by. */
    pass(&r, 100000);
    isoch(&r, slot, 192, 20u << 20);
    set(&r, DOORBELL(slot), ISOCH_IN);
    pass(&r, 5300000);
    expect_none(&r);
    pass(&r, 200000);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    isoch(&r, slot, 192, 3u << 20);
    set(&r, DOORBELL(slot), ISOCH_IN);
    expect(&r, TRB_TRANSFER_EVENT, CC_MISSED);
    /* A device that sets the pace; a short and a bad packet do not halt. */
    r.probe->at_once = false;
    for (unsigned i = 0; i < 3; i++) {
        isoch(&r, slot, 192, 1u << 31);
    }
    set(&r, DOORBELL(slot), ISOCH_IN);
    g_assert_cmpuint(r.probe->transfers->len, ==, 3);
    probe_answer(r.probe, 0, 100, USB_DONE);
    e = expect(&r, TRB_TRANSFER_EVENT, CC_SHORT);
    g_assert_cmpuint(e.status & 0xffffff, ==, 92);
    probe_answer(r.probe, 0, 0, USB_ERROR);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    probe_answer(r.probe, 0, 192, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    g_assert_cmpuint(endpoint_state(&r, slot, ISOCH_IN), ==, EP_RUNNING);
    rig_close(&r);
}

#define THIRD        (RUN_AT + 0x20 + 3 * 0x20)
#define THIRD_ERST   0x3100u
#define THIRD_EVENTS 0x4800u

/* The n-th event of the third interrupter's ring has come. */
static bool third_has(struct rig *r, unsigned n)
{
    return word(r, THIRD_EVENTS + 16 * n + 12) & 1;
}

/* An endpoint's events go where its TRBs say, and a batch of packets interrupts once. */
static void test_interrupters(void)
{
    uint32_t erst[4] = {THIRD_EVENTS, 0, 16, 0};
    struct rig r;
    unsigned slot, before;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->at_once = true;
    endpoint_up(&r, slot, ISOCH_IN, 5, 192, 3);
    put(&r, THIRD_ERST, erst, sizeof erst);
    set(&r, THIRD + 0x8, 1);
    set(&r, THIRD + 0x18, THIRD_EVENTS);
    set(&r, THIRD + 0x10, THIRD_ERST);
    set(&r, THIRD, 2);
    set(&r, RUN_AT + 0x20, 3); /* nothing is left of what came before */
    set(&r, OP, 5);
    for (unsigned vector = 0; vector < 4; vector += 3) {
        set(&r, 0x3000 + 16 * vector, 0xfee00000);
        set(&r, 0x3008 + 16 * vector, 0x40 + vector);
        set(&r, 0x300c + 16 * vector, 0);
    }
    pci_bus_config_write(r.bench.bus, 0, DEVFN, 0x42, 0x8000, 2);
    before = r.bench.messages;
    for (unsigned i = 0; i < 8; i++) {
        ring_put(&r, slot, ISOCH_IN, DATA, 192 | 3u << 22,
                 TRB_ISOCH << 10 | TRB_IOC | TRB_ISP | 1u << 31 | (i < 7 ? TRB_BEI : 0));
    }
    set(&r, DOORBELL(slot), ISOCH_IN);
    for (unsigned i = 0; i < 8; i++) {
        g_assert_false(third_has(&r, i));
        g_assert_cmpuint(r.bench.messages, ==, before);
        pass(&r, 1000000);
        g_assert_true(third_has(&r, i));
    }
    g_assert_cmpuint(r.bench.messages, ==, before + 1);
    g_assert_cmphex(r.bench.message_data, ==, 0x43);
    expect_none(&r);
    /* The first one goes on meanwhile, and has its own message. */
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    g_assert_cmphex(r.bench.message_data, ==, 0x40);
    /* The third is busy until its handler has taken the events; also after a rest in a file. */
    ring_put(&r, slot, ISOCH_IN, DATA, 192 | 3u << 22, TRB_ISOCH << 10 | TRB_IOC | 1u << 31);
    set(&r, DOORBELL(slot), ISOCH_IN);
    pass(&r, 2000000);
    g_assert_true(third_has(&r, 8));
    g_assert_cmpuint(r.bench.messages, ==, before + 2);
    bench_save_restore(&r.bench);
    set(&r, THIRD + 0x18, (THIRD_EVENTS + 16 * 8) | 8);
    g_assert_cmpuint(r.bench.messages, ==, before + 3);
    g_assert_cmphex(r.bench.message_data, ==, 0x43);
    set(&r, THIRD + 0x18, (THIRD_EVENTS + 16 * 9) | 8);
    ring_put(&r, slot, ISOCH_IN, DATA, 192 | 3u << 22, TRB_ISOCH << 10 | TRB_IOC | 1u << 31);
    set(&r, DOORBELL(slot), ISOCH_IN);
    pass(&r, 2000000);
    g_assert_true(third_has(&r, 9));
    g_assert_cmpuint(r.bench.messages, ==, before + 4);
    expect_none(&r);
    rig_close(&r);
}

#define STREAM_CONTEXTS 0x1f0000u
#define STREAM_RING(n)  (0x1f1000u + 0x100 * (n))

static void test_streams(void)
{
    struct rig r;
    unsigned slot;
    uint32_t words[8] = {2u << 10 | 1u << 15, 6u << 3 | 1024u << 16, STREAM_CONTEXTS, 0};

    rig_open(&r);
    slot = probe_up(&r);
    input_clear(&r, 0, 1 | 1u << BULK_IN);
    put(&r, INPUT + 32 + 32 * BULK_IN, words, sizeof words);
    for (unsigned i = 1; i < 8; i++) {
        set_word(&r, STREAM_CONTEXTS + 16 * i, STREAM_RING(i) | 3); /* a primary ring, cycle 1 */
        trb_at(&r, STREAM_RING(i), DATA + 0x1000 * i, 64, TRB_NORMAL << 10 | TRB_IOC | 1);
    }
    command(&r, INPUT, 0, TRB_CONFIGURE_ENDPOINT << 10 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(r.probe->streams, ==, 7);
    set(&r, DOORBELL(slot), BULK_IN);           /* stream 0: none */
    set(&r, DOORBELL(slot), BULK_IN | 9 << 16); /* nor this one */
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    set(&r, DOORBELL(slot), BULK_IN | 2 << 16);
    set(&r, DOORBELL(slot), BULK_IN | 5 << 16);
    g_assert_cmpuint(r.probe->transfers->len, ==, 2);
    g_assert_cmpuint(((struct usb_transfer *)r.probe->transfers->pdata[1])->stream, ==, 5);
    probe_answer(r.probe, 1, 64, USB_DONE); /* in any order */
    g_assert_cmphex(expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS).parameter, ==, STREAM_RING(5));
    g_assert_cmpuint(r.bench.ram[DATA + 0x5001], ==, 8);
    bench_save_restore(&r.bench); /* stream 2 is still at it */
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    pass(&r, 1);
    g_assert_cmpuint(r.probe->transfers->len, ==, 1);
    g_assert_cmpuint(((struct usb_transfer *)r.probe->transfers->pdata[0])->stream, ==, 2);
    probe_answer(r.probe, 0, 64, USB_DONE);
    g_assert_cmphex(expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS).parameter, ==, STREAM_RING(2));
    command(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | BULK_IN << 16 | slot << 24, CC_SUCCESS);
    g_assert_cmphex(word(&r, STREAM_CONTEXTS + 32), ==, (STREAM_RING(2) + 16) | 3);
    command(&r, STREAM_RING(2) | 3, 2u << 16, TRB_SET_DEQUEUE << 10 | BULK_IN << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_IN | 2 << 16);
    probe_answer(r.probe, 0, 64, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    input_clear(&r, 1u << BULK_IN, 1);
    command(&r, INPUT, 0, TRB_CONFIGURE_ENDPOINT << 10 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(r.probe->streams, ==, 0);
    rig_close(&r);
}

/* Pulled out in the middle of everything, at a root port and behind a hub. */
static void test_unplug(void)
{
    struct rig r;
    struct usb_device *hub = usb_hub_new();
    struct probe *low = probe_new(USB_SPEED_LOW);
    unsigned slot, behind;

    rig_open(&r);
    slot = probe_up(&r);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 100, TRB_IOC);
    normal(&r, slot, BULK_IN, DATA, 100, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    usb_detach(r.probe->dev.port);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    expect_none(&r);
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    control(&r, slot, 0x80, 6, 0x0100, 0, 18);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    command(&r, 0, 0, TRB_DISABLE_SLOT << 10 | slot << 24, CC_SUCCESS);
    g_assert_cmpuint(r.probe->dev.references, ==, 1);

    g_assert_true(usb_attach(xhci_free_port(r.bench.dev, USB_SPEED_HIGH), hub));
    g_assert_true(usb_attach(usb_hub_port(hub, 3), &low->dev));
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    set(&r, PORTSC(1), 1u << 17);
    slot = slot_up(&r, 1, 0, 3);
    behind = slot_up(&r, 1, 3, 2);
    endpoint_up(&r, behind, INT_IN, 7, 8, 6);
    normal(&r, behind, INT_IN, DATA, 8, TRB_IOC);
    set(&r, DOORBELL(behind), INT_IN);
    g_assert_cmpuint(low->transfers->len, ==, 1);
    usb_detach(usb_hub_port(hub, 3));
    g_assert_cmpuint(low->transfers->len, ==, 0);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    expect_none(&r); /* the hub stays */
    g_assert_true(usb_attach(usb_hub_port(hub, 3), &low->dev));
    command(&r, 0, 0, TRB_DISABLE_SLOT << 10 | behind << 24, CC_SUCCESS);
    behind = slot_up(&r, 1, 3, 2);
    endpoint_up(&r, behind, INT_IN, 7, 8, 6);
    normal(&r, behind, INT_IN, DATA, 8, TRB_IOC);
    set(&r, DOORBELL(behind), INT_IN);
    g_assert_cmpuint(low->transfers->len, ==, 1);
    usb_detach(hub->port); /* and all that is behind it */
    g_assert_cmpuint(low->transfers->len, ==, 0);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    usb_device_unref(hub);
    usb_device_unref(&low->dev);
    rig_close(&r);
}

/* A reset forgets what is under way, though the device gives it back only later. */
static void test_reset(void)
{
    struct rig r;
    unsigned slot;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->stubborn = true;
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 100, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    set(&r, OP, 2);
    rig_rings(&r);
    memset(r.bench.ram + DATA, 0x55, 100);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmpuint(r.probe->transfers->len, ==, 1);
    probe_answer(r.probe, 0, 100, USB_DONE);
    expect_none(&r);
    g_assert_cmphex(r.bench.ram[DATA], ==, 0x55);
    slot = slot_up(&r, 9, 0, 4);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 100, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    r.bench.class->reset(r.bench.dev); /* the machine's; it is freed before the device answers */
    rig_close(&r);
}

/* Saved in the middle: what was under way is begun again, the rest is as it was. */
static void test_state(void)
{
    struct rig r;
    unsigned slot;

    rig_open(&r);
    slot = probe_up(&r);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    endpoint_up(&r, slot, INT_IN, 7, 64, 3);
    normal(&r, slot, BULK_IN, DATA, 1024, TRB_IOC);
    normal(&r, slot, BULK_IN, DATA + 0x1000, 1024, TRB_IOC);
    normal(&r, slot, INT_IN, DATA + 0x2000, 8, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    set(&r, DOORBELL(slot), INT_IN);
    probe_answer(r.probe, 0, 1024, USB_DONE);
    bench_save_restore(&r.bench);
    g_assert_cmpuint(r.probe->transfers->len, ==, 0);
    pass(&r, 1);
    g_assert_cmpuint(r.probe->transfers->len, ==, 2);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    probe_answer(r.probe, 0, 1024, USB_DONE);
    g_assert_cmphex(expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS).parameter, ==,
                    RING(slot, BULK_IN) + 16);
    probe_answer(r.probe, 0, 8, USB_DONE);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    expect_none(&r);
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    control(&r, slot, 0x80, 6, 0x0100, 0, 18);
    expect(&r, TRB_TRANSFER_EVENT, CC_SUCCESS);
    rig_close(&r);
}

/* Restored without the device: the guest sees it go. */
static void test_state_without_device(void)
{
    struct rig r;
    unsigned slot;
    struct state *s;
    g_autoptr(GVariant) saved = NULL;

    rig_open(&r);
    slot = probe_up(&r);
    set(&r, PORTSC(9), 1u << 17);
    endpoint_up(&r, slot, BULK_IN, 6, 1024, 0);
    normal(&r, slot, BULK_IN, DATA, 1024, TRB_IOC);
    set(&r, DOORBELL(slot), BULK_IN);
    s = state_begin_save(1);
    xhci_device.state(r.bench.dev, s);
    saved = g_variant_ref_sink(state_end_save(s));
    xhci_device.reset(r.bench.dev);
    usb_detach(r.probe->dev.port);
    s = state_begin_restore(saved);
    xhci_device.state(r.bench.dev, s);
    g_assert_true(state_end_restore(s, "xhci", NULL));
    g_assert_true(xhci_device.restored(r.bench.dev, NULL));
    pass(&r, 1);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    g_assert_cmphex(get(&r, PORTSC(9)) & 0x20003, ==, 0x20000);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRANSACTION);
    rig_close(&r);
}

/* More events than the ring holds wait, and no new transfers begin. */
static void test_full_event_ring(void)
{
    struct rig r;
    unsigned slot, told = 0;
    struct xhci_trb e;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->at_once = true;
    endpoint_up(&r, slot, BULK_OUT, 2, 1024, 0);
    for (unsigned i = 0; i < 200; i++) {
        normal(&r, slot, BULK_OUT, DATA, 16, TRB_IOC);
    }
    set(&r, DOORBELL(slot), BULK_OUT);
    g_assert_cmpuint(r.probe->submitted, <=, EVENT_COUNT);
    for (unsigned n = 0; n < 300; n++) {
        while (event(&r, &e)) {
            g_assert_cmphex(e.parameter, ==, RING(slot, BULK_OUT) + 16 * told);
            told++;
        }
        pass(&r, 1);
    }
    g_assert_cmpuint(told, ==, 200);
    rig_close(&r);
}

/* The guest saves and restores the controller's state, as for a sleep. */
static void test_save_and_restore(void)
{
    struct rig r;

    rig_open(&r);
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    set(&r, OP, 4);
    set(&r, OP, 4 | 1u << 8);
    g_assert_cmphex(get(&r, OP + 4) & 0x400, ==, 0);
    set(&r, RUN_AT + 0x28, 1);
    set(&r, RUN_AT + 0x30, ERST);
    set(&r, RUN_AT + 0x38, EVENTS + 16);
    set(&r, OP, 4 | 1u << 9);
    g_assert_cmphex(get(&r, OP + 4) & 0x400, ==, 0);
    set(&r, OP + 0x18, (COMMANDS + 0) | 1);
    r.command_index = 0;
    set(&r, OP, 5);
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    set(&r, OP, 2);
    set(&r, OP, 1u << 9);
    g_assert_cmphex(get(&r, OP + 4) & 0x400, ==, 0x400); /* nothing to restore */
    rig_close(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xhci/registers", test_registers);
    g_test_add_func("/xhci/interrupts", test_interrupts);
    g_test_add_func("/xhci/interrupters", test_interrupters);
    g_test_add_func("/xhci/ports", test_ports);
    g_test_add_func("/xhci/port_usb3", test_port_usb3);
    g_test_add_func("/xhci/control", test_control);
    g_test_add_func("/xhci/bulk", test_bulk);
    g_test_add_func("/xhci/stall", test_stall);
    g_test_add_func("/xhci/stop", test_stop);
    g_test_add_func("/xhci/interrupt_pace", test_interrupt_pace);
    g_test_add_func("/xhci/isochronous", test_isochronous);
    g_test_add_func("/xhci/streams", test_streams);
    g_test_add_func("/xhci/unplug", test_unplug);
    g_test_add_func("/xhci/reset", test_reset);
    g_test_add_func("/xhci/state", test_state);
    g_test_add_func("/xhci/state_without_device", test_state_without_device);
    g_test_add_func("/xhci/full_event_ring", test_full_event_ring);
    g_test_add_func("/xhci/save_and_restore", test_save_and_restore);
    return g_test_run();
}
