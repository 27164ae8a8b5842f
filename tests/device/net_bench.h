/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network card on a bench: its cable ends in a datagram socket of the test. */
#pragma once

#include <gio/gio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "pci_bench.h"

struct net_bench {
    struct bench bench;
    struct net *net;
    int wire;
};

static inline void wire_open(struct net_bench *n)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *mode = NULL;
    int pair[2], room = 1 << 20;

    bench_open(&n->bench);
    g_assert_no_errno(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    n->wire = pair[1];
    mode = g_strdup_printf("tap:fd=%d", pair[0]);
    struct net_config config = {.mode = mode, .clock = n->bench.host.clock};
    n->net = net_open(&config, &error);
    g_assert_no_error(error);
    net_pause(n->net, false);
}

static inline void wire_close(struct net_bench *n)
{
    bench_close(&n->bench);
    net_close(n->net);
    close(n->wire);
}

static inline void wire_put(struct net_bench *n, const void *frame, size_t len)
{
    g_assert_cmpint(send(n->wire, frame, len, 0), ==, (ssize_t)len);
    for (unsigned i = 0; i < 4; i++) {
        g_main_context_iteration(NULL, FALSE);
    }
}

/* The next packet that the guest sent; 0: none. */
static inline size_t wire_get(struct net_bench *n, void *frame, size_t max)
{
    ssize_t len = recv(n->wire, frame, max, MSG_DONTWAIT);

    return len < 0 ? 0 : (size_t)len;
}

/* An IPv4 TCP packet without checksums: `payload` bytes that count up. Returns its length. */
static inline size_t tcp_packet(uint8_t *frame, size_t payload)
{
    static const uint8_t head[54] = {0x52, 0x54,
                                     0,    1,
                                     2,    3,
                                     0x52, 0x54,
                                     0,    4,
                                     5,    6,
                                     8,    0, /* Ethernet */
                                     0x45, 0,
                                     0,    0,
                                     0x12, 0x34,
                                     0x40, 0,
                                     64,   6,
                                     0,    0,
                                     10,   0,
                                     2,    15,
                                     10,   0,
                                     2,    2,
                                     0x10, 0x00,
                                     0x20, 0x00,
                                     0,    0,
                                     0x10, 0x00,
                                     0,    0,
                                     0x30, 0x00,
                                     0x50, 0x19 /* FIN PSH ACK */,
                                     0xff, 0xff,
                                     0,    0,
                                     0,    0};

    memcpy(frame, head, sizeof head);
    frame[16] = (uint8_t)((payload + 40) >> 8);
    frame[17] = (uint8_t)(payload + 40);
    for (size_t i = 0; i < payload; i++) {
        frame[54 + i] = (uint8_t)(i * 7 + i / 251);
    }
    return sizeof head + payload;
}

/* Sums over the headers must come out as all ones. */
static inline void assert_tcp_sums(const uint8_t *frame, size_t len)
{
    uint32_t pseudo = net_sum(frame + 26, 8, (uint32_t)(6 + len - 34));

    g_assert_cmphex(net_sum(frame + 14, 20, 0), ==, 0xffff);
    g_assert_cmphex(net_sum(frame + 34, len - 34, pseudo), ==, 0xffff);
}

/* What wire_get() finds is `payload` bytes of tcp_packet(), in segments of up to `segment`. */
static inline void assert_segments(struct net_bench *n, size_t payload, size_t segment)
{
    uint8_t whole[70000], got[70000];
    size_t at = 0, len;

    tcp_packet(whole, payload);
    while ((len = wire_get(n, got, sizeof got))) {
        size_t bytes = len - 54;
        uint32_t sequence =
            (uint32_t)got[38] << 24 | (uint32_t)got[39] << 16 | (uint32_t)got[40] << 8 | got[41];
        g_assert_cmpuint(bytes, ==, MIN(segment, payload - at));
        g_assert_cmpuint(sequence, ==, 0x1000 + at);
        g_assert_cmpuint((unsigned)(got[16] << 8 | got[17]), ==, bytes + 40);
        g_assert_cmphex(got[47], ==, at + bytes == payload ? 0x19 : 0x10);
        g_assert_true(!memcmp(got + 54, whole + 54 + at, bytes));
        assert_tcp_sums(got, len);
        at += bytes;
    }
    g_assert_cmpuint(at, ==, payload);
}
