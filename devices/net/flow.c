/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's TCP connections through a back end that ends them for it (libslirp): when a suspended
 * machine is resumed by another process, its connections are gone, and a guest that only waits for
 * data would wait for ever.
 *
 * So each connection's addresses are kept with the machine, and at the resume the guest gets a SYN
 * that does not fit. Its TCP answers with a challenge ACK (RFC 5961, section 4), and libslirp,
 * which does not know the connection, with a reset. That is tried several times, because libslirp
 * must find the guest's MAC first.
 */
#include <string.h>

#include "backend.h"
#include "device.h"

#define FLOWS_MAX 1024u
#define FLAG_FIN  0x01u
#define FLAG_SYN  0x02u
#define FLAG_RST  0x04u
#define IP4       20u
#define IP6       40u
#define TCP       20u

/* Bytes as in the packets. The state file has an array of these. */
struct flow {
    uint8_t guest_mac[6], peer_mac[6];
    uint8_t guest[16], peer[16]; /* IPv4: the first four */
    uint8_t guest_port[2], peer_port[2];
    uint8_t version; /* 4, 6 */
    uint8_t closing; /* bit 0: the guest has sent a FIN, bit 1: the peer */
    uint8_t lost;    /* it is from before the resume */
    uint8_t reserved;
};
G_STATIC_ASSERT(sizeof(struct flow) == 52);

struct flows {
    GArray *flow;
};

struct flows *flows_new(void)
{
    struct flows *f = g_new0(struct flows, 1);

    f->flow = g_array_new(FALSE, FALSE, sizeof(struct flow));
    return f;
}

void flows_free(struct flows *f)
{
    if (f) {
        g_array_unref(f->flow);
        g_free(f);
    }
}

/* Fills all but `closing`. */
static void flow_fill(struct flow *flow, const uint8_t *frame, size_t ip, size_t tcp,
                      bool from_guest)
{
    bool v6 = frame[ip] >> 4 == 6;
    size_t bytes = v6 ? 16 : 4;
    const uint8_t *source = frame + ip + (v6 ? 8 : 12), *target = source + bytes;

    memset(flow, 0, sizeof *flow);
    flow->version = v6 ? 6 : 4;
    memcpy(flow->guest_mac, frame + (from_guest ? 6 : 0), 6);
    memcpy(flow->peer_mac, frame + (from_guest ? 0 : 6), 6);
    memcpy(flow->guest, from_guest ? source : target, bytes);
    memcpy(flow->peer, from_guest ? target : source, bytes);
    memcpy(flow->guest_port, frame + tcp + (from_guest ? 0 : 2), 2);
    memcpy(flow->peer_port, frame + tcp + (from_guest ? 2 : 0), 2);
}

static struct flow *flow_find(struct flows *f, const struct flow *key, unsigned *at)
{
    for (unsigned i = 0; i < f->flow->len; i++) {
        struct flow *flow = &g_array_index(f->flow, struct flow, i);
        if (!memcmp(flow->guest_port, key->guest_port, 4) && flow->version == key->version &&
            !memcmp(flow->guest, key->guest, 32)) {
            *at = i;
            return flow;
        }
    }
    return NULL;
}

void flows_look(struct flows *f, const uint8_t *frame, size_t len, bool from_guest)
{
    enum net_gso kind =
        len > NET_HEADER && frame[NET_HEADER] >> 4 == 6 ? NET_GSO_TCP6 : NET_GSO_TCP4;
    size_t ip, tcp, payload;
    struct flow key, *flow;
    unsigned at = 0;
    uint8_t flags;

    if (!net_tcp_headers(frame, len, kind, &ip, &tcp, &payload) || ip != NET_HEADER) {
        return;
    }
    flags = frame[tcp + 13];
    if (!(flags & (FLAG_FIN | FLAG_SYN | FLAG_RST))) {
        return;
    }
    flow_fill(&key, frame, ip, tcp, from_guest);
    flow = flow_find(f, &key, &at);
    if (flags & FLAG_RST) {
        if (flow) {
            g_array_remove_index_fast(f->flow, at);
        }
    } else if (flags & FLAG_SYN) {
        if (flow) {
            flow->closing = flow->lost = 0;
        } else if (f->flow->len < FLOWS_MAX) {
            g_array_append_val(f->flow, key);
        }
    } else if (flow) {
        flow->closing |= from_guest ? 1 : 2;
        if (flow->closing == 3) {
            g_array_remove_index_fast(f->flow, at);
        }
    }
}

void flows_state(struct flows *f, struct state *state)
{
    size_t size = f->flow->len * sizeof(struct flow);
    g_autofree uint8_t *bytes = g_memdup2(f->flow->data, size);

    state_blob(state, "connections", &bytes, &size, FLOWS_MAX * sizeof(struct flow));
    if (state_restoring(state) && !state_failed(state)) {
        if (size % sizeof(struct flow)) {
            state_fail(state, "connections", "has the wrong size");
            return;
        }
        g_array_set_size(f->flow, 0);
        g_array_append_vals(f->flow, bytes, (guint)(size / sizeof(struct flow)));
        for (unsigned i = 0; i < f->flow->len; i++) {
            g_array_index(f->flow, struct flow, i).lost = 1;
        }
    }
}

static size_t probe_ip(const struct flow *flow, uint8_t *ip)
{
    if (flow->version == 6) {
        ip[0] = 0x60;
        ip[6] = 6;
        ip[7] = 64;
        memcpy(ip + 8, flow->peer, 16);
        memcpy(ip + 24, flow->guest, 16);
        return IP6;
    }
    ip[0] = 0x45;
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, flow->peer, 4);
    memcpy(ip + 16, flow->guest, 4);
    return IP4;
}

static size_t probe_build(const struct flow *flow, uint8_t *frame)
{
    bool v6 = flow->version == 6;
    struct net_offload o = {.gso = v6 ? NET_GSO_TCP6 : NET_GSO_TCP4};
    uint8_t *tcp;
    size_t len;

    memcpy(frame, flow->guest_mac, 6);
    memcpy(frame + 6, flow->peer_mac, 6);
    frame[12] = v6 ? 0x86 : 0x08;
    frame[13] = v6 ? 0xdd : 0x00;
    tcp = frame + NET_HEADER + probe_ip(flow, frame + NET_HEADER);
    memcpy(tcp, flow->peer_port, 2);
    memcpy(tcp + 2, flow->guest_port, 2);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = FLAG_SYN;
    len = (size_t)(tcp - frame) + TCP;
    net_tcp_prepare(frame, len, &o);
    net_checksum_fill(frame, len, &o);
    return MAX(len, NET_MIN_FRAME);
}

bool flows_probe(struct flows *f, void (*fn)(void *opaque, uint8_t *frame, size_t len),
                 void *opaque)
{
    bool any = false;

    for (unsigned i = 0; i < f->flow->len; i++) {
        const struct flow *flow = &g_array_index(f->flow, struct flow, i);
        uint8_t frame[NET_HEADER + IP6 + TCP] = {0};
        if (flow->lost) {
            fn(opaque, frame, probe_build(flow, frame));
            any = true;
        }
    }
    return any;
}
