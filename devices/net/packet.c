/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cards do in hardware, in software: Internet checksums (RFC 1071) and cutting up of TCP
 * packets. The packets come from a guest or a network: every length in them is checked.
 */
#include <string.h>

#include "net.h"

#define IP4_MIN      20u
#define IP6_HEADER   40u
#define TCP_MIN      20u
#define PROTOCOL_TCP 6u
#define TCP_CHECKSUM 16u
#define TCP_FLAGS    13u
#define FLAG_FIN     0x01u
#define FLAG_SYN     0x02u
#define FLAG_PSH     0x08u
#define FLAG_CWR     0x80u
#define SEGMENT_MIN  64u /* less is a way to waste time */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* Sums in the machine's byte order, 4 bytes at a time; the sum does not care but for a swap. */
uint16_t net_sum(const uint8_t *bytes, size_t len, uint32_t start)
{
    uint64_t sum = 0;
    size_t i = 0;

    for (; i + 4 <= len; i += 4) {
        uint32_t word;
        memcpy(&word, bytes + i, 4);
        sum += word;
    }
    if (i + 2 <= len) {
        uint16_t word;
        memcpy(&word, bytes + i, 2);
        sum += word;
        i += 2;
    }
    if (i < len) {
        sum += GUINT16_FROM_LE(bytes[i]);
    }
    return fold((uint64_t)GUINT16_FROM_BE(fold(sum)) + start);
}

void net_checksum_fill(uint8_t *frame, size_t len, struct net_offload *o)
{
    size_t at = (size_t)o->checksum_start + o->checksum_offset;

    if (o->checksum_needed && o->checksum_start < len && at + 2 <= len) {
        uint16_t sum = (uint16_t)~net_sum(frame + o->checksum_start, len - o->checksum_start, 0);
        put16(frame + at, sum ? sum : 0xffff); /* 0 means "none" in UDP, and is the same in TCP */
    }
    *o = (struct net_offload){.checksum_good = o->checksum_needed || o->checksum_good};
}

bool net_tcp_headers(const uint8_t *frame, size_t len, enum net_gso gso, size_t *ip, size_t *tcp,
                     size_t *payload)
{
    size_t at = NET_HEADER;
    uint16_t type = len >= NET_HEADER ? get16(frame + 12) : 0;

    if (type == 0x8100 && len >= NET_HEADER + 4) {
        type = get16(frame + 16);
        at += 4;
    }
    *ip = at;
    if (gso == NET_GSO_TCP4 && type == 0x0800 && len >= at + IP4_MIN && frame[at] >> 4 == 4 &&
        (frame[at] & 15u) * 4u >= IP4_MIN && frame[at + 9] == PROTOCOL_TCP) {
        at += (frame[at] & 15u) * 4u;
    } else if (gso == NET_GSO_TCP6 && type == 0x86dd && len >= at + IP6_HEADER &&
               frame[at] >> 4 == 6 && frame[at + 6] == PROTOCOL_TCP) {
        at += IP6_HEADER;
    } else {
        return false;
    }
    *tcp = at;
    if (len < at + TCP_MIN || (frame[at + 12] >> 4) * 4u < TCP_MIN) {
        return false;
    }
    *payload = at + (frame[at + 12] >> 4) * 4u;
    return *payload <= len;
}

/* The IP header says how long the packet is; the sum of the pseudo header, not inverted. */
static uint16_t ip_finish(uint8_t *frame, size_t len, enum net_gso gso, size_t ip, size_t tcp)
{
    uint32_t bytes = (uint32_t)(len - tcp);

    if (gso == NET_GSO_TCP6) {
        put16(frame + ip + 4, bytes);
        return net_sum(frame + ip + 8, 32, PROTOCOL_TCP + bytes);
    }
    put16(frame + ip + 2, (uint32_t)(len - ip));
    put16(frame + ip + 10, 0);
    put16(frame + ip + 10, (uint16_t)~net_sum(frame + ip, tcp - ip, 0));
    return net_sum(frame + ip + 12, 8, PROTOCOL_TCP + bytes);
}

bool net_tcp_prepare(uint8_t *frame, size_t len, struct net_offload *o)
{
    size_t ip, tcp, payload;

    if (!net_tcp_headers(frame, len, o->gso, &ip, &tcp, &payload)) {
        return false;
    }
    put16(frame + tcp + TCP_CHECKSUM, ip_finish(frame, len, o->gso, ip, tcp));
    o->checksum_needed = true;
    o->checksum_start = (uint16_t)tcp;
    o->checksum_offset = TCP_CHECKSUM;
    return true;
}

static void segment_finish(uint8_t *out, size_t len, enum net_gso gso, size_t ip, size_t tcp)
{
    struct net_offload sum = {
        .checksum_needed = true, .checksum_start = (uint16_t)tcp, .checksum_offset = TCP_CHECKSUM};

    put16(out + tcp + TCP_CHECKSUM, ip_finish(out, len, gso, ip, tcp));
    net_checksum_fill(out, len, &sum);
}

void net_segment(const uint8_t *frame, size_t len, const struct net_offload *o,
                 void (*fn)(void *opaque, uint8_t *frame, size_t len), void *opaque)
{
    size_t ip, tcp, payload;
    g_autofree uint8_t *out = NULL;
    uint8_t flags;

    if (!net_tcp_headers(frame, len, o->gso, &ip, &tcp, &payload) ||
        o->segment_size < SEGMENT_MIN) {
        return;
    }
    flags = frame[tcp + TCP_FLAGS];
    out = g_malloc(payload + o->segment_size);
    for (size_t at = payload, n = 0; at < len || n == 0; at += o->segment_size, n++) {
        size_t bytes = MIN(o->segment_size, len - at);
        bool last = at + bytes == len;
        memcpy(out, frame, payload);
        memcpy(out + payload, frame + at, bytes);
        if (o->gso == NET_GSO_TCP4) {
            put16(out + ip + 4, get16(frame + ip + 4) + (uint32_t)n);
        }
        put32(out + tcp + 4, get32(frame + tcp + 4) + (uint32_t)(at - payload));
        out[tcp + TCP_FLAGS] =
            flags & (uint8_t) ~((last ? 0 : FLAG_FIN | FLAG_PSH) | (n ? FLAG_CWR : 0));
        segment_finish(out, payload + bytes, o->gso, ip, tcp);
        fn(opaque, out, payload + bytes);
    }
}

void net_fragment4(const uint8_t *frame, size_t len,
                   void (*fn)(void *opaque, uint8_t *frame, size_t len), void *opaque)
{
    size_t header = len > NET_HEADER ? (frame[NET_HEADER] & 15u) * 4u : 0, piece, total;
    const uint8_t *ip = frame + NET_HEADER;
    uint8_t out[NET_HEADER + NET_MTU];
    uint16_t place;

    if (len < NET_HEADER + IP4_MIN || get16(frame + 12) != 0x0800 || ip[0] >> 4 != 4 ||
        header < IP4_MIN || get16(ip + 2) < header || get16(ip + 2) > len - NET_HEADER) {
        return;
    }
    total = get16(ip + 2) - header;
    place = get16(ip + 6);
    piece = (NET_MTU - header) & ~7u;
    for (size_t at = 0; at < total; at += piece) {
        size_t bytes = MIN(piece, total - at);
        bool more = at + bytes < total || (place & 0x2000);
        memcpy(out, frame, NET_HEADER + header);
        memcpy(out + NET_HEADER + header, ip + header + at, bytes);
        put16(out + NET_HEADER + 2, (uint32_t)(header + bytes));
        put16(out + NET_HEADER + 6,
              ((place & 0x1fffu) + (uint32_t)(at / 8)) | (more ? 0x2000u : 0));
        put16(out + NET_HEADER + 10, 0);
        put16(out + NET_HEADER + 10, (uint16_t)~net_sum(out + NET_HEADER, header, 0));
        fn(opaque, out, NET_HEADER + header + bytes);
    }
}

/* The value of the option MSS between `at` and `end`, NULL: there is none. */
static uint8_t *mss_option(uint8_t *at, const uint8_t *end)
{
    while (at < end && *at) {
        size_t size = *at == 1 ? 1 : at + 1 < end ? at[1] : 0;
        if (*at == 2 && size == 4 && end - at >= 4) {
            return at + 2;
        }
        if (size < 1 || (*at != 1 && size < 2) || size > (size_t)(end - at)) {
            return NULL;
        }
        at += size;
    }
    return NULL;
}

void net_raise_mss(uint8_t *frame, size_t len, uint16_t mss, const struct net_offload *o)
{
    enum net_gso kind =
        len > NET_HEADER && frame[NET_HEADER] >> 4 == 6 ? NET_GSO_TCP6 : NET_GSO_TCP4;
    size_t ip, tcp, payload;
    uint8_t *option;

    if (!net_tcp_headers(frame, len, kind, &ip, &tcp, &payload) ||
        !(frame[tcp + TCP_FLAGS] & FLAG_SYN)) {
        return;
    }
    option = mss_option(frame + tcp + TCP_MIN, frame + payload);
    if (option && get16(option) >= (kind == NET_GSO_TCP4 ? NET_MSS4 : NET_MSS6) &&
        get16(option) < mss) {
        uint32_t sum = get16(frame + tcp + TCP_CHECKSUM);
        if (!o->checksum_needed) { /* RFC 1624: the sum changes as the option does */
            bool odd = (option - (frame + tcp)) & 1;
            uint32_t before = get16(option), after = mss;
            before = odd ? (before >> 8 | before << 8) & 0xffff : before;
            after = odd ? (after >> 8 | after << 8) & 0xffff : after;
            sum = fold((uint64_t)(uint16_t)~sum + (uint16_t)~before + after);
            put16(frame + tcp + TCP_CHECKSUM, (uint16_t)~sum);
        }
        put16(option, mss);
    }
}
