/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio network card, driven through its BARs and queues; and by a hostile driver. */
#include "net_bench.h"

#include "virtio.h"
#include "virtio_net.h"

#define DEVFN   0x18
#define ENTRIES 16u
#define RING(q) (0x10000u + (q)*0x4000u) /* descriptors; available at + 0x1000, used at + 0x2000   \
                                          */
#define BUFFER 0x100000u
#define HEADER 12u
#define NEXT   1u
#define WRITE  2u

static const uint8_t card_mac[6] = {0x52, 0x54, 0, 0xaa, 0xbb, 0xcc};

struct rig {
    struct net_bench n;
    uint32_t bar;
    uint16_t available[3];
};

static uint32_t get(struct rig *r, uint32_t at, unsigned size)
{
    return (uint32_t)memory_io_read(r->n.bench.host.memory, r->bar + at, size);
}

static void set(struct rig *r, uint32_t at, uint32_t value, unsigned size)
{
    memory_io_write(r->n.bench.host.memory, r->bar + at, value, size);
}

static uint8_t *ram(struct rig *r, uint32_t at)
{
    return r->n.bench.ram + at;
}

static void put16(struct rig *r, uint32_t at, uint16_t value)
{
    memcpy(ram(r, at), &value, 2);
}

static uint16_t get16(struct rig *r, uint32_t at)
{
    uint16_t value;

    memcpy(&value, ram(r, at), 2);
    return value;
}

static uint32_t get32(struct rig *r, uint32_t at)
{
    return get16(r, at) | (uint32_t)get16(r, at + 2) << 16;
}

static void queue_up(struct rig *r, uint16_t q)
{
    set(r, 0x16, q, 2);
    set(r, 0x18, ENTRIES, 2);
    set(r, 0x20, RING(q), 4);
    set(r, 0x28, RING(q) + 0x1000, 4);
    set(r, 0x30, RING(q) + 0x2000, 4);
    set(r, 0x1c, 1, 2);
}

static void driver_up(struct rig *r, uint64_t features)
{
    memset(ram(r, RING(0)), 0, 3 * 0x4000);
    memset(r->available, 0, sizeof r->available);
    set(r, 0x14, 0, 1);
    set(r, 0x14, 3, 1);
    set(r, 0x08, 0, 4);
    set(r, 0x0c, (uint32_t)features, 4);
    set(r, 0x08, 1, 4);
    set(r, 0x0c, (uint32_t)(features >> 32), 4);
    set(r, 0x14, 11, 1);
    for (uint16_t q = 0; q < 3; q++) {
        queue_up(r, q);
    }
    set(r, 0x14, 15, 1);
}

static void rig_open(struct rig *r, uint64_t features)
{
    struct virtio_net_config config = {0};

    memset(r, 0, sizeof *r);
    wire_open(&r->n);
    config.pci = (struct pci_config){r->n.bench.bus, DEVFN};
    config.net = r->n.net;
    memcpy(config.mac, card_mac, 6);
    bench_start(&r->n.bench, &virtio_net_device, &config);
    pci_bus_config_write(r->n.bench.bus, 0, DEVFN, 0x24, 0, 4);
    r->bar = bench_bar(&r->n.bench, DEVFN, 4);
    driver_up(r, features | VIRTIO_BIT(VIRTIO_F_VERSION_1));
}

static void desc(struct rig *r, unsigned q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next)
{
    uint32_t at = RING(q) + 16 * i;

    memcpy(ram(r, at), &addr, 8);
    memcpy(ram(r, at + 8), &len, 4);
    put16(r, at + 12, flags);
    put16(r, at + 14, next);
}

static void offer(struct rig *r, unsigned q, uint16_t head)
{
    put16(r, RING(q) + 0x1004 + 2 * (r->available[q] % ENTRIES), head);
    put16(r, RING(q) + 0x1002, ++r->available[q]);
    set(r, 0x3000 + 4 * q, q, 2);
}

static uint16_t used(struct rig *r, unsigned q)
{
    return get16(r, RING(q) + 0x2002);
}

static uint32_t used_len(struct rig *r, unsigned q, unsigned i)
{
    return get32(r, RING(q) + 0x2004 + 8 * i + 4);
}

static void test_identity(void)
{
    struct rig r;

    rig_open(&r, 0);
    g_assert_cmphex(pci_bus_config_read(r.n.bench.bus, 0, DEVFN, 0, 4), ==, 0x10411af4);
    g_assert_cmphex(get(&r, 0x14, 1), ==, 15);
    g_assert_cmpuint(get(&r, 0x12, 2), ==, 3);
    g_assert_cmphex(get(&r, 0x2000, 4), ==, 0xaa005452);
    g_assert_cmphex(get(&r, 0x2006, 2), ==, 1);
    net_plug(r.n.net, false);
    g_assert_cmphex(get(&r, 0x2006, 2), ==, 0);
    g_assert_cmphex(get(&r, 0x1000, 1), ==, 2);
    /* Without VERSION_1 the features are refused. */
    set(&r, 0x14, 0, 1);
    set(&r, 0x14, 11, 1);
    g_assert_cmphex(get(&r, 0x14, 1), ==, 3);
    wire_close(&r.n);
}

static void test_transmit(void)
{
    struct rig r;
    uint8_t got[2000];

    rig_open(&r, 0);
    memset(ram(&r, BUFFER + 0x1000), 0x42, 100);
    desc(&r, 1, 3, BUFFER, HEADER, NEXT, 5);
    desc(&r, 1, 5, BUFFER + 0x1000, 60, NEXT, 6);
    desc(&r, 1, 6, BUFFER + 0x1000 + 60, 40, 0, 0);
    offer(&r, 1, 3);
    g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, 100);
    g_assert_true(!memcmp(got, ram(&r, BUFFER + 0x1000), 100));
    g_assert_cmpuint(used(&r, 1), ==, 1);
    g_assert_cmpuint(get32(&r, RING(1) + 0x2004), ==, 3);
    g_assert_true(r.n.bench.irq);
    g_assert_cmphex(get(&r, 0x1000, 1), ==, 1);
    g_assert_false(r.n.bench.irq);
    wire_close(&r.n);
}

static void test_segmentation(void)
{
    static const uint8_t header[HEADER] = {1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0};
    struct rig r;
    size_t len;

    rig_open(&r, VIRTIO_BIT(0) | VIRTIO_BIT(11) | VIRTIO_BIT(VIRTIO_F_INDIRECT));
    memcpy(ram(&r, BUFFER), header, HEADER);
    len = tcp_packet(ram(&r, BUFFER + 0x1000), 20000);
    uint64_t table[4] = {BUFFER, HEADER | (uint64_t)NEXT << 32 | 1ull << 48, BUFFER + 0x1000, len};
    memcpy(ram(&r, BUFFER + 0x8000), table, sizeof table);
    desc(&r, 1, 0, BUFFER + 0x8000, 32, 4, 0);
    offer(&r, 1, 0);
    assert_segments(&r.n, 20000, 1460);
    wire_close(&r.n);
}

static void test_receive_mergeable(void)
{
    struct rig r;
    uint8_t frame[1514];

    rig_open(&r, VIRTIO_BIT(15));
    for (uint16_t i = 0; i < 4; i++) {
        desc(&r, 0, i, BUFFER + i * 0x1000u, 512, WRITE, 0);
        offer(&r, 0, i);
    }
    memset(frame, 0x21, sizeof frame);
    memcpy(frame, card_mac, 6);
    wire_put(&r.n, frame, 1300);
    g_assert_cmpuint(used(&r, 0), ==, 3);
    g_assert_cmpuint(get16(&r, BUFFER + 10), ==, 3);
    g_assert_cmpuint(used_len(&r, 0, 0), ==, 512);
    g_assert_cmpuint(used_len(&r, 0, 2), ==, HEADER + 1300 - 1024);
    g_assert_true(!memcmp(ram(&r, BUFFER + HEADER), frame, 500));
    wire_put(&r.n, frame, 1300); /* no room: waits for more */
    g_assert_cmpuint(used(&r, 0), ==, 3);
    for (uint16_t i = 4; i < 8; i++) {
        desc(&r, 0, i, BUFFER + i * 0x1000u, 512, WRITE, 0);
        offer(&r, 0, i);
    }
    g_assert_cmpuint(used(&r, 0), ==, 6);
    wire_close(&r.n);
}

/* Three small buffers are not enough: the card asks to be told of the fourth, not of the first. */
static void test_receive_short(void)
{
    struct rig r;
    uint8_t frame[1514];

    rig_open(&r, VIRTIO_BIT(15) | VIRTIO_BIT(VIRTIO_F_EVENT_IDX));
    for (uint16_t i = 0; i < 3; i++) {
        desc(&r, 0, i, BUFFER + i * 0x1000u, 256, WRITE, 0);
        offer(&r, 0, i);
    }
    memset(frame, 0x21, sizeof frame);
    memcpy(frame, card_mac, 6);
    wire_put(&r.n, frame, 1000);
    g_assert_cmpuint(used(&r, 0), ==, 0);
    g_assert_cmpuint(get16(&r, RING(0) + 0x2004 + 8 * ENTRIES), ==, 3);
    desc(&r, 0, 3, BUFFER + 0x3000u, 256, WRITE, 0);
    offer(&r, 0, 3);
    g_assert_cmpuint(used(&r, 0), ==, 4);
    wire_close(&r.n);
}

static bool command(struct rig *r, const void *bytes, uint32_t len)
{
    memcpy(ram(r, BUFFER), bytes, len);
    *ram(r, BUFFER + 0x1000) = 0xee;
    desc(r, 2, 0, BUFFER, len, NEXT, 1);
    desc(r, 2, 1, BUFFER + 0x1000, 1, WRITE, 0);
    offer(r, 2, 0);
    g_assert_cmpuint(*ram(r, BUFFER + 0x1000), <=, 1);
    return !*ram(r, BUFFER + 0x1000);
}

static unsigned arrives(struct rig *r, const uint8_t *to, uint16_t slot)
{
    uint8_t frame[60] = {0};
    uint16_t before = used(r, 0);

    desc(r, 0, slot, BUFFER + 0x10000, 2048, WRITE, 0);
    offer(r, 0, slot);
    memcpy(frame, to, 6);
    wire_put(&r->n, frame, sizeof frame);
    return (uint16_t)(used(r, 0) - before);
}

static void test_filters(void)
{
    static const uint8_t group[6] = {1, 0, 0x5e, 0, 0, 1}, other[6] = {2, 0, 0, 0, 0, 1};
    static const uint8_t set_mac[] = {1, 1, 2, 0, 0, 0, 0, 1};
    static const uint8_t table[] = {1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
    static const uint8_t lie[] = {1, 0, 255, 255, 255, 255, 1, 2, 3};
    struct rig r;

    rig_open(&r, VIRTIO_BIT(17) | VIRTIO_BIT(18) | VIRTIO_BIT(23));
    g_assert_cmpuint(arrives(&r, card_mac, 0), ==, 1);
    g_assert_cmpuint(arrives(&r, group, 1), ==, 0);
    g_assert_cmpuint(arrives(&r, other, 2), ==, 0);
    g_assert_true(command(&r, table, sizeof table));
    g_assert_cmpuint(arrives(&r, group, 3), ==, 1);
    g_assert_true(command(&r, set_mac, sizeof set_mac));
    g_assert_cmpuint(arrives(&r, other, 4), ==, 1);
    g_assert_cmpuint(arrives(&r, card_mac, 5), ==, 0);
    g_assert_false(command(&r, lie, sizeof lie));
    g_assert_true(command(&r, "\0\0\1", 3)); /* promiscuous */
    g_assert_cmpuint(arrives(&r, card_mac, 6), ==, 1);
    wire_close(&r.n);
}

/* A chain that goes round, one that leaves RAM: the card stops until it is reset. */
static void test_broken_chains(void)
{
    struct rig r;

    rig_open(&r, 0);
    desc(&r, 1, 0, BUFFER, 100, NEXT, 1);
    desc(&r, 1, 1, BUFFER, 100, NEXT, 0);
    offer(&r, 1, 0);
    g_assert_cmphex(get(&r, 0x14, 1), ==, 15 | 0x40);
    g_assert_cmpuint(used(&r, 1), ==, 0);
    driver_up(&r, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    g_assert_cmphex(get(&r, 0x14, 1), ==, 15);
    desc(&r, 1, 0, BENCH_RAM - 50, 100, 0, 0);
    offer(&r, 1, 0);
    g_assert_cmphex(get(&r, 0x14, 1), ==, 15 | 0x40);
    wire_close(&r.n);
}

static void test_event_index(void)
{
    struct rig r;
    uint8_t got[100];

    rig_open(&r, VIRTIO_BIT(VIRTIO_F_EVENT_IDX));
    put16(&r, RING(1) + 0x1004 + 2 * ENTRIES, 1); /* tell after the second */
    for (uint16_t i = 0; i < 2; i++) {
        desc(&r, 1, i, BUFFER, HEADER + 60, 0, 0);
        offer(&r, 1, i);
        g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, 60);
        get(&r, 0x1000, 1);
    }
    g_assert_cmpuint(get16(&r, RING(1) + 0x2004 + 8 * ENTRIES), ==, 2); /* and we after the third */
    offer(&r, 1, 0);
    g_assert_false(r.n.bench.irq);
    wire_close(&r.n);
}

static void test_state(void)
{
    struct rig r;
    uint8_t got[200];

    rig_open(&r, VIRTIO_BIT(21) | VIRTIO_BIT(17) | VIRTIO_BIT(16));
    desc(&r, 1, 0, BUFFER, HEADER + 60, 0, 0);
    offer(&r, 1, 0);
    wire_get(&r.n, got, sizeof got);
    get(&r, 0x1000, 1);
    bench_save_restore(&r.n.bench);
    clock_advance(r.n.bench.host.clock, 1);
    g_assert_cmphex(get(&r, 0x2006, 2), ==, 3); /* link, and please announce */
    g_assert_cmphex(get(&r, 0x1000, 1) & 2, ==, 2);
    g_assert_true(command(&r, "\3\0", 2));
    g_assert_cmphex(get(&r, 0x2006, 2), ==, 1);
    offer(&r, 1, 0);
    g_assert_cmpuint(wire_get(&r.n, got, sizeof got), ==, 60);
    g_assert_cmpuint(used(&r, 1), ==, 2);
    wire_close(&r.n);
}

/* The window in configuration space reaches the same registers. */
static void test_config_window(void)
{
    struct rig r;
    struct pci_bus *bus;
    uint8_t cap;

    rig_open(&r, 0);
    bus = r.n.bench.bus;
    cap = (uint8_t)pci_bus_config_read(bus, 0, DEVFN, 0x34, 1);
    while (pci_bus_config_read(bus, 0, DEVFN, cap, 1) != 9 ||
           pci_bus_config_read(bus, 0, DEVFN, cap + 3u, 1) != 5) {
        cap = (uint8_t)pci_bus_config_read(bus, 0, DEVFN, cap + 1u, 1);
        g_assert_cmpuint(cap, !=, 0);
    }
    pci_bus_config_write(bus, 0, DEVFN, cap + 4u, 4, 1);
    pci_bus_config_write(bus, 0, DEVFN, cap + 8u, 0x2000, 4);
    pci_bus_config_write(bus, 0, DEVFN, cap + 12u, 4, 4);
    g_assert_cmphex(pci_bus_config_read(bus, 0, DEVFN, cap + 16u, 4), ==, 0xaa005452);
    pci_bus_config_write(bus, 0, DEVFN, cap + 8u, 0xfffffffc, 4);
    pci_bus_config_read(bus, 0, DEVFN, cap + 16u, 4);
    wire_close(&r.n);
}

static void test_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1041);
    struct rig r;
    uint8_t frame[2000];

    rig_open(&r, 0);
    for (unsigned round = 0; round < 60000; round++) {
        uint32_t value = g_rand_int(random), what = g_rand_int_range(random, 0, 100);
        unsigned q = value % 3;
        if (what < 20) {
            set(&r, value & 0x3f, g_rand_int(random), 1u << (value >> 8) % 3);
        } else if (what < 45) {
            desc(&r, q, value >> 8 & 15,
                 what < 23 ? r.bar + (value & 0xffff) : g_rand_int(random) & (BENCH_RAM - 1),
                 what < 25 ? g_rand_int(random) : g_rand_int(random) & 0x7ff, value >> 16 & 7,
                 value >> 20 & 15);
        } else if (what < 75) {
            offer(&r, q, what < 47 ? (uint16_t)value : value >> 8 & 15);
        } else if (what < 85) {
            memset(frame, 0xff, sizeof frame);
            wire_put(&r.n, frame, (size_t)g_rand_int_range(random, 1, sizeof frame));
        } else if (what < 88) {
            put16(&r, RING(q) + 0x1002, (uint16_t)value);
        } else if (what < 92) {
            get(&r, value & 0x3fff, 4);
        } else if (what < 97) {
            driver_up(&r, VIRTIO_BIT(VIRTIO_F_VERSION_1) |
                              (((uint64_t)g_rand_int(random) << 32 | value) & 0x30bf98fffull));
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
    g_test_add_func("/virtio-net/identity", test_identity);
    g_test_add_func("/virtio-net/transmit", test_transmit);
    g_test_add_func("/virtio-net/segmentation", test_segmentation);
    g_test_add_func("/virtio-net/receive-mergeable", test_receive_mergeable);
    g_test_add_func("/virtio-net/receive-short", test_receive_short);
    g_test_add_func("/virtio-net/filters", test_filters);
    g_test_add_func("/virtio-net/broken-chains", test_broken_chains);
    g_test_add_func("/virtio-net/event-index", test_event_index);
    g_test_add_func("/virtio-net/state", test_state);
    g_test_add_func("/virtio-net/config-window", test_config_window);
    g_test_add_func("/virtio-net/hostile", test_hostile);
    return g_test_run();
}
