/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Drivers that do wrong, by mistake or at random: the USB controller says so and goes on. */
#include "xhci_bench.h"

static void test_wrong_rings(void)
{
    struct rig r;
    unsigned slot;

    rig_open(&r);
    slot = probe_up(&r);
    r.probe->at_once = true;
    endpoint_up(&r, slot, BULK_OUT, 2, 1024, 0);
    /* A link to itself. */
    trb_at(&r, RING(slot, BULK_OUT), RING(slot, BULK_OUT), 0, TRB_LINK << 10 | 1);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRB);
    g_assert_cmpuint(endpoint_state(&r, slot, BULK_OUT), ==, EP_ERROR);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect_none(&r);
    /* A TD without an end, in a ring that never changes its cycle. */
    trb_at(&r, RING(slot, BULK_OUT), DATA, 1, TRB_NORMAL << 10 | TRB_CHAIN | 1);
    trb_at(&r, RING(slot, BULK_OUT) + 16, RING(slot, BULK_OUT), 0, TRB_LINK << 10 | 1);
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRB);
    /* Too long a TD. */
    trb_at(&r, RING(slot, BULK_OUT), DATA, 0x1ffff, TRB_NORMAL << 10 | TRB_CHAIN | 1);
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRB);
    g_assert_cmpuint(r.probe->submitted, ==, 0);
    /* TDs without an end: some at a time, for ever. */
    trb_at(&r, RING(slot, BULK_OUT), DATA, 1, TRB_NORMAL << 10 | 1);
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_OUT);
    g_assert_cmpuint(r.probe->submitted, <, 1000);
    /* Immediate data longer than a TRB. */
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_STOP_ENDPOINT << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    trb_at(&r, RING(slot, BULK_OUT), DATA, 64, TRB_NORMAL << 10 | TRB_IDT | 1);
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_OUT);
    expect(&r, TRB_TRANSFER_EVENT, CC_TRB);
    /* Data that is to come from registers. */
    trb_at(&r, RING(slot, BULK_OUT), r.bar, 64, TRB_NORMAL << 10 | 1);
    command(&r, RING(slot, BULK_OUT) | 1, 0, TRB_SET_DEQUEUE << 10 | BULK_OUT << 16 | slot << 24,
            CC_SUCCESS);
    set(&r, DOORBELL(slot), BULK_OUT);
    g_assert_cmphex(get(&r, OP + 4) & 5, ==, 5); /* host system error, halted */
    expect_none(&r);
    set(&r, OP, 2);
    g_assert_cmphex(get(&r, OP + 4), ==, 1);
    rig_rings(&r);
    expect(&r, TRB_PORT_EVENT, CC_SUCCESS);
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    rig_close(&r);
}

static void test_wrong_commands(void)
{
    struct rig r;
    unsigned slot;

    rig_open(&r);
    slot = probe_up(&r);
    command(&r, INPUT, 0, TRB_ADDRESS_DEVICE << 10 | slot << 24, CC_CONTEXT_STATE); /* again */
    command(&r, 0, 0, TRB_STOP_ENDPOINT << 10 | 9u << 16 | slot << 24, CC_CONTEXT_STATE);
    input_clear(&r, 0, 1 | 1u << BULK_IN);
    endpoint_context(&r, INPUT + 32 + 32 * BULK_IN, slot, BULK_IN, 2, 1024, 0); /* OUT, as IN */
    command(&r, INPUT, 0, TRB_CONFIGURE_ENDPOINT << 10 | slot << 24, CC_PARAMETER);
    command(&r, 0, 0, TRB_ENABLE_SLOT << 10, CC_SUCCESS);
    input_clear(&r, 0, 3);
    set_word(&r, DCBAA + 16, CONTEXTS(2));
    set_word(&r, INPUT + 36, 200u << 16); /* no such port */
    endpoint_context(&r, INPUT + 64, 2, 1, 4, 64, 0);
    command(&r, INPUT, 0, TRB_ADDRESS_DEVICE << 10 | 2u << 24, CC_TRANSACTION);
    set_word(&r, INPUT + 32, 0x12345);
    set_word(&r, INPUT + 36, 9u << 16); /* nothing is behind that */
    command(&r, INPUT, 0, TRB_ADDRESS_DEVICE << 10 | 2u << 24, CC_TRANSACTION);
    /* A command ring of links. */
    trb_at(&r, COMMANDS + 16 * r.command_index, COMMANDS + 16 * r.command_index, 0,
           TRB_LINK << 10 | r.command_cycle);
    set(&r, DOORBELL(0), 0);
    expect_none(&r);
    rig_close(&r);
}

/* As a driver would, without a look at what comes of it. */
static void hostile_setup(struct rig *r)
{
    static const uint8_t types[] = {
        [BULK_OUT] = 2, [BULK_IN] = 6, [4] = 3, [INT_IN] = 7, [6] = 1, [ISOCH_IN] = 5};

    set(r, OP, 2);
    rig_rings(r);
    command_put(r, 0, 0, TRB_ENABLE_SLOT << 10);
    set_word(r, DCBAA + 8, CONTEXTS(1));
    input_clear(r, 0, 0xff);
    set_word(r, INPUT + 32, 4u << 20 | 7u << 27);
    set_word(r, INPUT + 36, 9u << 16);
    endpoint_context(r, INPUT + 64, 1, 1, 4, 64, 0);
    set_word(r, INPUT + 4, 3);
    command_put(r, INPUT, 0, TRB_ADDRESS_DEVICE << 10 | 1u << 24);
    for (unsigned e = 2; e < G_N_ELEMENTS(types); e++) {
        endpoint_context(r, INPUT + 32 + 32 * e, 1, e, types[e], 1024, 3);
    }
    set_word(r, INPUT + 4, 0xfd);
    command_put(r, INPUT, 0, TRB_CONFIGURE_ENDPOINT << 10 | 1u << 24);
}

static void hostile_trb(struct rig *r, GRand *random)
{
    static const uint8_t types[] = {TRB_NORMAL, TRB_SETUP,      TRB_DATA,  TRB_STATUS, TRB_ISOCH,
                                    TRB_LINK,   TRB_EVENT_DATA, TRB_NO_OP, 9};
    uint32_t n = g_rand_int(random), e = 1 + n % 7, flags = g_rand_int(random) & 0x81ff037e;
    unsigned type = (n >> 5 & 15) == 0 ? types[(n >> 16) % G_N_ELEMENTS(types)]
                    : e == 1           ? TRB_SETUP + (n >> 9) % 3
                    : e >= 6           ? TRB_ISOCH
                                       : TRB_NORMAL;

    if (type == TRB_LINK && (n >> 28)) {
        type = TRB_NORMAL;
    }
    if (n >> 30) {
        flags &= ~(uint32_t)TRB_CHAIN;
    }
    ring_put(r, 1, e, g_rand_int(random) & (n >> 25 & 1 ? 0x7fffff : 0x21fff0),
             g_rand_int(random) & 0xffc1ffff, type << 10 | flags);
}

static void hostile_command(struct rig *r, GRand *random)
{
    uint32_t n = g_rand_int(random), parameter = INPUT;
    unsigned type = TRB_ENABLE_SLOT + (n >> 8) % 10, ep = n & 7;

    if (type == TRB_SET_DEQUEUE) {
        parameter = (RING(1, ep) + 16 * r->ring_index[1][ep]) | r->ring_cycle[1][ep];
    }
    set_word(r, INPUT, n >> 12 & 0xf0 & g_rand_int(random));
    set_word(r, INPUT + 4, n & 1 ? 3 : (n >> 4 & 0xfe) | 1);
    command_put(r, parameter, g_rand_int(random) & 0x30000,
                type << 10 | (n & 0x200 & g_rand_int(random)) | ep << 16 | 1u << 24);
}

static void hostile_device(struct rig *r, GRand *random)
{
    uint32_t n = g_rand_int(random);
    struct probe *p = r->probe;

    p->stubborn = n & 0x100 && !(n & 0x200);
    p->at_once = n & 0x400;
    if (p->transfers->len) {
        unsigned i = n & 0x1800 ? 0 : (n >> 16) % p->transfers->len;
        struct usb_transfer *t = p->transfers->pdata[i];
        probe_answer(p, i, t->length ? (n >> 8) % (t->length + 1) : 0,
                     n & 15 ? USB_DONE : n >> 28 & 5);
    } else if (!(n & 31)) {
        if (p->dev.port) {
            usb_detach(p->dev.port);
        } else {
            usb_attach(xhci_free_port(r->bench.dev, USB_SPEED_SUPER), &p->dev);
        }
    }
}

static void hostile_registers(struct rig *r, GRand *random)
{
    uint32_t value = g_rand_int(random), n = g_rand_int(random);

    switch (value >> 24 & 7) {
    case 0:
        set(r, RUN_AT + 0x20 + (n & 0x3c), value & 0x7ffff0);
        break;
    case 1:
        set(r, PORTSC(1 + n % 16), value);
        break;
    case 2:
        set(r, OP + (n & 0x3c), n % 3 ? value & 0x7fffc0 : 5);
        break;
    case 3:
        set(r, n & 0x3ffc, value);
        break;
    case 4:
        set_word(r, CONTEXTS(1) + (n & 0xfc), value & 0x7fffff);
        break;
    default:
        get(r, n & 0x3ffc);
    }
}

/* A driver that knows its trade and then does what comes to its mind. */
static void hostile(unsigned seed)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    struct rig r;
    struct xhci_trb e;
    unsigned lives = 0;

    rig_open(&r);
    probe_up(&r);
    for (unsigned round = 0; round < 100000; round++) {
        unsigned what = (unsigned)g_rand_int_range(random, 0, 1000);
        if (round % 200 == 0 || get(&r, OP + 4) & 1) {
            hostile_setup(&r);
            lives++;
        } else if (what < 500) {
            hostile_trb(&r, random);
        } else if (what < 700) {
            set(&r, DOORBELL(1), 1 + what % 7);
        } else if (what < 800) {
            hostile_device(&r, random);
        } else if (what < 830) {
            hostile_command(&r, random);
        } else if (what < 832) {
            hostile_registers(&r, random);
        } else if (what < 835 && !xhci_device.busy(r.bench.dev)) {
            r.probe->stubborn = false;
            bench_save_restore(&r.bench);
        } else if (what < 900) {
            pass(&r, g_rand_int(random) & 0xfffff);
        } else {
            event(&r, &e);
        }
    }
    g_test_message("%u lives, %u transfers", lives, r.probe->submitted);
    g_assert_cmpuint(r.probe->submitted, >, 2000);
    set(&r, OP, 2); /* all is well again */
    rig_rings(&r);
    while (event(&r, &e)) {
    }
    command(&r, 0, 0, TRB_NO_OP_COMMAND << 10, CC_SUCCESS);
    rig_close(&r);
}

static void test_hostile(void)
{
    for (unsigned seed = 331; seed < 335; seed++) {
        hostile(seed);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xhci/wrong_rings", test_wrong_rings);
    g_test_add_func("/xhci/wrong_commands", test_wrong_commands);
    g_test_add_func("/xhci/hostile", test_hostile);
    return g_test_run();
}
