/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 82574L at register level: rings, offloads, filters, interrupts, state; and a hostile driver.
 */
#include "net_bench.h"

#include "e1000e_internal.h"

#define DEVFN   0x18
#define TX_RING 0x10000u
#define RX_RING 0x20000u
#define BUFFER  0x100000u
#define ENTRIES 16u

static const uint8_t card_mac[6] = {0x52, 0x54, 0, 0xaa, 0xbb, 0xcc};

struct rig {
    struct net_bench n;
    uint32_t bar;
    unsigned tail;
};

static uint32_t get(struct rig *r, uint32_t at)
{
    return (uint32_t)memory_io_read(r->n.bench.host.memory, r->bar + at, 4);
}

static void set(struct rig *r, uint32_t at, uint32_t value)
{
    memory_io_write(r->n.bench.host.memory, r->bar + at, value, 4);
}

static uint8_t *ram(struct rig *r, uint32_t at)
{
    return r->n.bench.ram + at;
}

static void rig_open(struct rig *r)
{
    struct e1000e_config config = {0};

    memset(r, 0, sizeof *r);
    wire_open(&r->n);
    config.pci = (struct pci_config){r->n.bench.bus, DEVFN};
    config.net = r->n.net;
    memcpy(config.mac, card_mac, 6);
    bench_start(&r->n.bench, &e1000e_device, &config);
    r->bar = bench_bar(&r->n.bench, DEVFN, 0);
}

static void rings_up(struct rig *r)
{
    set(r, TX_QUEUE + Q_BAL, TX_RING);
    set(r, TX_QUEUE + Q_LEN, ENTRIES * 16);
    set(r, TCTL, TCTL_EN);
    set(r, RX_QUEUE + Q_BAL, RX_RING);
    set(r, RX_QUEUE + Q_LEN, ENTRIES * 16);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        uint64_t address = BUFFER + i * 4096ull;
        memcpy(ram(r, RX_RING + 16 * i), &address, 8);
    }
    set(r, RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
    set(r, RX_QUEUE + Q_TAIL, ENTRIES - 1);
}

/* Puts a descriptor of two words into the transmit ring; tells the card only with `go`. */
static void tx(struct rig *r, uint64_t low, uint64_t high, bool go)
{
    memcpy(ram(r, TX_RING + 16 * r->tail), &low, 8);
    memcpy(ram(r, TX_RING + 16 * r->tail + 8), &high, 8);
    r->tail = (r->tail + 1) % ENTRIES;
    if (go) {
        set(r, TX_QUEUE + Q_TAIL, r->tail);
    }
}

static void test_identity(void)
{
    struct rig r;
    uint16_t sum = 0;

    rig_open(&r);
    for (unsigned i = 0; i < 64; i++) {
        set(&r, EERD, i << 2 | 1);
        g_assert_cmphex(get(&r, EERD) & 2, ==, 2);
        sum = (uint16_t)(sum + (get(&r, EERD) >> 16));
    }
    g_assert_cmphex(sum, ==, 0xbaba);
    g_assert_cmphex(get(&r, RAL), ==, 0xaa005452);
    g_assert_cmphex(get(&r, RAL + 4), ==, 0x8000ccbb);
    set(&r, MDIC, 2u << 26 | 1u << 21 | 2u << 16);
    g_assert_cmphex(get(&r, MDIC) & 0xffff, ==, 0x0141);
    set(&r, MDIC, 2u << 26 | 1u << 21 | 3u << 16);
    g_assert_cmphex(get(&r, MDIC) & 0xffff, ==, 0x0cb1);
    set(&r, MDIC, 2u << 26 | 2u << 21 | 3u << 16);
    g_assert_cmphex(get(&r, MDIC) & 1u << 30, !=, 0); /* nobody at that address */
    wire_close(&r.n);
}

static void test_transmit_and_line(void)
{
    struct rig r;
    uint8_t got[2000];

    rig_open(&r);
    rings_up(&r);
    set(&r, IMS, INT_TXDW);
    memset(ram(&r, BUFFER), 0x5a, 100);
    tx(&r, BUFFER, 60 | 0u << 24, false);                  /* first part */
    tx(&r, BUFFER + 60, 40 | (0x01u | 0x08u) << 24, true); /* EOP, RS */
    g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, 100);
    g_assert_true(!memcmp(got, ram(&r, BUFFER), 100));
    g_assert_cmphex(*ram(&r, TX_RING + 16 + 12) & 1, ==, 1);
    g_assert_true(r.n.bench.irq);
    g_assert_cmphex(get(&r, ICR), ==, (INT_TXDW | INT_TXQE | INT_TXQ0 | INT_ASSERTED));
    g_assert_false(r.n.bench.irq);
    g_assert_cmpuint(get(&r, STAT_GPTC), ==, 1);
    g_assert_cmpuint(get(&r, STAT_GPTC), ==, 0);
    wire_close(&r.n);
}

/* A context for TCP over IPv4 as Linux writes it. */
static void context(struct rig *r, uint16_t mss, uint32_t payload)
{
    uint64_t low = 14 | 24u << 8 | 33ull << 16 | 34ull << 32 | 50ull << 40;
    uint64_t high =
        payload | (uint64_t)(0x20 | 0x04 | 0x02 | 0x01) << 24 | 54ull << 40 | (uint64_t)mss << 48;

    tx(r, low, high, false);
}

static void test_segmentation(void)
{
    struct rig r;
    size_t len;

    rig_open(&r);
    rings_up(&r);
    len = tcp_packet(ram(&r, BUFFER), 9000);
    ram(&r, BUFFER)[16] = ram(&r, BUFFER)[17] = 0; /* the length is the card's */
    context(&r, 1460, 9000);
    tx(&r, BUFFER, len | 1u << 20 | (uint64_t)(0x20 | 0x04 | 0x01 | 0x08) << 24 | 3ull << 40, true);
    assert_segments(&r.n, 9000, 1460);
    wire_close(&r.n);
}

static void test_checksums(void)
{
    struct rig r;
    uint8_t got[2000];
    size_t len;

    rig_open(&r);
    rings_up(&r);
    len = tcp_packet(ram(&r, BUFFER), 501);
    /* The driver leaves the pseudo header's sum. */
    uint16_t pseudo = net_sum(ram(&r, BUFFER) + 26, 8, (uint32_t)(6 + len - 34));
    ram(&r, BUFFER)[50] = (uint8_t)(pseudo >> 8);
    ram(&r, BUFFER)[51] = (uint8_t)pseudo;
    context(&r, 0, 0);
    tx(&r, BUFFER, len | 1u << 20 | (uint64_t)(0x20 | 0x01 | 0x08) << 24 | 3ull << 40, true);
    g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, len);
    assert_tcp_sums(got, len);
    wire_close(&r.n);
}

static void make_frame(uint8_t *frame, const uint8_t *to, size_t len)
{
    memset(frame, 0x77, len);
    memcpy(frame, to, 6);
}

static void test_receive(void)
{
    static const uint8_t other[6] = {0x52, 0x54, 0, 1, 1, 1},
                         all[6] = {255, 255, 255, 255, 255, 255};
    static const uint8_t group[6] = {0x01, 0, 0x5e, 0, 0, 0xfb};
    struct rig r;
    uint8_t frame[1514];
    unsigned hash = (0x00 | 0xfb << 8) >> 4 & 0xfff;

    rig_open(&r);
    rings_up(&r);
    make_frame(frame, other, 200);
    wire_put(&r.n, frame, 200); /* not for us */
    make_frame(frame, group, 200);
    wire_put(&r.n, frame, 200); /* nor this */
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 0);
    make_frame(frame, card_mac, 1514);
    wire_put(&r.n, frame, 1514);
    make_frame(frame, all, 60);
    wire_put(&r.n, frame, 60);
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 2);
    g_assert_cmphex(*ram(&r, RX_RING + 12), ==, 0x07); /* DD, EOP, nobody looked at sums */
    g_assert_cmpuint(*(uint16_t *)ram(&r, RX_RING + 8), ==, 1514);
    g_assert_true(!memcmp(ram(&r, BUFFER + 6), frame + 6, 54));
    g_assert_cmphex(get(&r, ICR) & (INT_RXT0 | INT_RXQ0), ==, (INT_RXT0 | INT_RXQ0));
    set(&r, MTA + 4 * (hash >> 5), 1u << (hash & 31));
    make_frame(frame, group, 200);
    wire_put(&r.n, frame, 200);
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 3);
    g_assert_cmpuint(get(&r, STAT_MPRC), ==, 1);
    wire_close(&r.n);
}

/* Extended descriptors, and a packet over several small buffers. */
static void test_receive_layouts(void)
{
    struct rig r;
    uint8_t frame[1514];

    rig_open(&r);
    rings_up(&r);
    set(&r, RFCTL, RFCTL_EXSTEN);
    set(&r, RCTL, RCTL_EN | RCTL_SECRC | 2u << 16); /* 512 bytes */
    make_frame(frame, card_mac, 1300);
    wire_put(&r.n, frame, 1300);
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 3);
    g_assert_cmphex(*(uint32_t *)ram(&r, RX_RING + 8), ==, 1);
    g_assert_cmphex(*(uint32_t *)ram(&r, RX_RING + 40), ==, 7);
    g_assert_cmpuint(*(uint16_t *)ram(&r, RX_RING + 44), ==, 1300 - 1024);
    g_assert_true(!memcmp(ram(&r, BUFFER + 2 * 4096), frame + 1024, 276));
    wire_close(&r.n);
}

static void test_receive_split(void)
{
    struct rig r;
    uint8_t frame[1514];

    rig_open(&r);
    rings_up(&r);
    set(&r, RFCTL, RFCTL_EXSTEN);
    set(&r, PSRCTL, 2 | 1u << 8 | 1u << 16); /* 256 bytes, 1 KiB, 1 KiB */
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t address = BUFFER + i * 4096ull;
        memcpy(ram(&r, RX_RING + 8 * i), &address, 8);
    }
    set(&r, RX_QUEUE + Q_TAIL, 2);
    set(&r, RCTL, RCTL_EN | RCTL_SECRC | 1u << 10);
    make_frame(frame, card_mac, 1400);
    wire_put(&r.n, frame, 1400);
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 1);
    g_assert_cmpuint(*(uint16_t *)ram(&r, RX_RING + 12), ==, 256);
    g_assert_cmpuint(*(uint16_t *)ram(&r, RX_RING + 18), ==, 1024);
    g_assert_cmpuint(*(uint16_t *)ram(&r, RX_RING + 20), ==, 120);
    g_assert_true(!memcmp(ram(&r, BUFFER + 8192), frame + 1280, 120));
    wire_close(&r.n);
}

static void test_no_room(void)
{
    struct rig r;
    uint8_t frame[100];

    rig_open(&r);
    rings_up(&r);
    set(&r, RX_QUEUE + Q_TAIL, 2);
    for (unsigned i = 0; i < 5; i++) {
        make_frame(frame, card_mac, 100);
        frame[20] = (uint8_t)i;
        wire_put(&r.n, frame, 100);
    }
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 2);
    set(&r, RX_QUEUE + Q_TAIL, 10); /* the others have waited */
    g_assert_cmpuint(get(&r, RX_QUEUE + Q_HEAD), ==, 5);
    g_assert_cmpuint(*ram(&r, BUFFER + 4 * 4096 + 20), ==, 4);
    wire_close(&r.n);
}

static void msix_on(struct rig *r)
{
    uint32_t table = bench_bar(&r->n.bench, DEVFN, 3);
    uint8_t cap =
        r->n.bench.bus ? (uint8_t)pci_bus_config_read(r->n.bench.bus, 0, DEVFN, 0x34, 1) : 0;

    while (pci_bus_config_read(r->n.bench.bus, 0, DEVFN, cap, 1) != 0x11) {
        cap = (uint8_t)pci_bus_config_read(r->n.bench.bus, 0, DEVFN, cap + 1u, 1);
        g_assert_cmpuint(cap, !=, 0);
    }
    for (unsigned v = 0; v < 5; v++) {
        memory_io_write(r->n.bench.host.memory, table + 16 * v, 0xfee00000, 4);
        memory_io_write(r->n.bench.host.memory, table + 16 * v + 8, 0x40 + v, 4);
        memory_io_write(r->n.bench.host.memory, table + 16 * v + 12, 0, 4);
    }
    pci_bus_config_write(r->n.bench.bus, 0, DEVFN, cap + 2u, 0x8000, 2);
    set(r, IVAR, 0x80000000 | 8 | 9u << 8 | 10u << 16); /* RXQ0, TXQ0, other */
    set(r, EIAC, INT_RXQ0 | INT_TXQ0);
    set(r, CTRL_EXT, CTRL_EXT_EIAME);
}

static void test_msix(void)
{
    struct rig r;
    uint8_t frame[100];

    rig_open(&r);
    rings_up(&r);
    msix_on(&r);
    set(&r, IMS, INT_RXQ0 | INT_OTHER | INT_LSC);
    make_frame(frame, card_mac, 100);
    wire_put(&r.n, frame, 100);
    g_assert_cmpuint(r.n.bench.messages, ==, 1);
    g_assert_cmphex(r.n.bench.message_data, ==, 0x40);
    wire_put(&r.n, frame, 100); /* masked itself */
    g_assert_cmpuint(r.n.bench.messages, ==, 1);
    set(&r, EITR, 1000); /* 256 us apart */
    set(&r, IMS, INT_RXQ0);
    g_assert_cmpuint(r.n.bench.messages, ==, 2);
    wire_put(&r.n, frame, 100);
    set(&r, IMS, INT_RXQ0);
    g_assert_cmpuint(r.n.bench.messages, ==, 2);
    clock_advance(r.n.bench.host.clock, 255000);
    g_assert_cmpuint(r.n.bench.messages, ==, 2);
    clock_advance(r.n.bench.host.clock, 2000);
    g_assert_cmpuint(r.n.bench.messages, ==, 3);
    g_assert_cmphex(get(&r, STATUS) & STATUS_LU, ==, STATUS_LU);
    net_plug(r.n.net, false);
    g_assert_cmpuint(r.n.bench.messages, ==, 4);
    g_assert_cmphex(r.n.bench.message_data, ==, 0x42);
    g_assert_cmphex(get(&r, ICR) & INT_LSC, ==, INT_LSC);
    g_assert_cmphex(get(&r, STATUS) & STATUS_LU, ==, 0);
    set(&r, MDIC, 2u << 26 | 1u << 21 | 1u << 16);
    g_assert_cmphex(get(&r, MDIC) & 4, ==, 0);
    g_assert_false(r.n.bench.irq);
    wire_close(&r.n);
}

static void test_state(void)
{
    struct rig r;
    uint8_t got[2000];

    rig_open(&r);
    rings_up(&r);
    memset(ram(&r, BUFFER), 0x33, 100);
    tx(&r, BUFFER, 60, true); /* the first half, no EOP */
    bench_save_restore(&r.n.bench);
    r.bar = BENCH_MMIO;
    tx(&r, BUFFER + 60, 40 | 0x09u << 24, true);
    g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, 100);
    g_assert_true(!memcmp(got, ram(&r, BUFFER), 100));
    wire_close(&r.n);
}

/* Registers, rings and packets at random, until the numbers run out. */
static void test_hostile(void)
{
    static const uint32_t places[] = {CTRL,
                                      CTRL_EXT,
                                      MDIC,
                                      EERD,
                                      ITR,
                                      ICS,
                                      IMS,
                                      IMC,
                                      EIAC,
                                      IAM,
                                      IVAR,
                                      EITR,
                                      RCTL,
                                      PSRCTL,
                                      RFCTL,
                                      RXCSUM,
                                      TCTL,
                                      VET,
                                      RX_QUEUE + Q_BAL,
                                      RX_QUEUE + Q_BAH,
                                      RX_QUEUE + Q_LEN,
                                      RX_QUEUE + Q_HEAD,
                                      RX_QUEUE + Q_TAIL,
                                      TX_QUEUE + Q_BAL,
                                      TX_QUEUE + Q_BAH,
                                      TX_QUEUE + Q_LEN,
                                      TX_QUEUE + Q_HEAD,
                                      TX_QUEUE + Q_TAIL,
                                      TX_QUEUE + 0x118,
                                      TX_QUEUE + 0x108,
                                      STAT_GPRC,
                                      ICR};
    g_autoptr(GRand) random = g_rand_new_with_seed(82574);
    struct rig r;
    uint8_t frame[2000];

    rig_open(&r);
    rings_up(&r);
    for (unsigned round = 0; round < 60000; round++) {
        uint32_t value = g_rand_int(random), what = g_rand_int_range(random, 0, 100);
        uint32_t at = places[g_rand_int_range(random, 0, G_N_ELEMENTS(places))];
        if (what < 40) {
            set(&r, at, g_rand_boolean(random) ? value : value & 0xff);
        } else if (what < 50) {
            set(&r, value & 0x1fffc, g_rand_int(random));
        } else if (what < 60) {
            get(&r, g_rand_boolean(random) ? at : value & 0x1ffff);
        } else if (what < 80) { /* a descriptor, perhaps one that makes sense */
            uint64_t words[2] = {value & (BENCH_RAM - 1),
                                 (uint64_t)g_rand_int(random) << 32 | g_rand_int(random)};
            words[0] = what < 62 ? r.bar + (value & 0x1ffff) : words[0];
            memcpy(ram(&r, TX_RING + (value & 0x1ff0)), words, 16);
        } else if (what < 90) {
            make_frame(frame,
                       g_rand_boolean(random) ? card_mac : (uint8_t *)"\xff\xff\xff\xff\xff\xff",
                       sizeof frame);
            wire_put(&r.n, frame, (size_t)g_rand_int_range(random, 1, sizeof frame));
        } else if (what < 93) {
            rings_up(&r);
        } else {
            clock_advance(r.n.bench.host.clock, value >> 12);
        }
        while (wire_get(&r.n, frame, sizeof frame)) {
        }
    }
    bench_save_restore(&r.n.bench);
    wire_close(&r.n);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/e1000e/identity", test_identity);
    g_test_add_func("/e1000e/transmit-and-line", test_transmit_and_line);
    g_test_add_func("/e1000e/segmentation", test_segmentation);
    g_test_add_func("/e1000e/checksums", test_checksums);
    g_test_add_func("/e1000e/receive", test_receive);
    g_test_add_func("/e1000e/receive-layouts", test_receive_layouts);
    g_test_add_func("/e1000e/receive-split", test_receive_split);
    g_test_add_func("/e1000e/no-room", test_no_room);
    g_test_add_func("/e1000e/msix", test_msix);
    g_test_add_func("/e1000e/state", test_state);
    g_test_add_func("/e1000e/hostile", test_hostile);
    return g_test_run();
}
