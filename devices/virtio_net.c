/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio network card (see virtio_net.h). Each packet has a header in front (section 5.1.6):
 *
 *   u8 flags (1: checksum needed, 2: data valid), u8 GSO type (1 TCP4, 4 TCP6, 80h ECN), u16 header
 *   length, u16 GSO size, u16 checksum start, u16 checksum offset, u16 buffers (mergeable)
 */
#include <string.h>

#include "device.h"
#include "virtio.h"
#include "virtio_net.h"

enum { QUEUE_RX, QUEUE_TX, QUEUE_CONTROL };

#define F_CSUM          0u
#define F_GUEST_CSUM    1u
#define F_MAC           5u
#define F_GUEST_TSO4    7u
#define F_GUEST_TSO6    8u
#define F_HOST_TSO4     11u
#define F_HOST_TSO6     12u
#define F_MRG_RXBUF     15u
#define F_STATUS        16u
#define F_CTRL_VQ       17u
#define F_CTRL_RX       18u
#define F_CTRL_VLAN     19u
#define F_ANNOUNCE      21u
#define F_CTRL_MAC_ADDR 23u

#define HEADER          12u
#define HEADER_CSUM     1u
#define HEADER_VALID    2u
#define GSO_TCP4        1u
#define GSO_TCP6        4u
#define GSO_ECN         0x80u
#define STATUS_LINK_UP  1u
#define STATUS_ANNOUNCE 2u
#define BUDGET          256u /* packets in one go, so that the machine lock is free now and then */
#define FILTERS         64u
#define BUFFERS         64u /* that one packet may be spread over */

struct virtio_net {
    struct virtio virtio;
    struct net *net;
    uint8_t mac[6], first_mac[6];
    bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
    bool announce;
    uint8_t filter[FILTERS][6];
    uint32_t filters;
    bool filter_overflow;
    uint8_t vlan[512]; /* a bit each */
    bool tell;         /* that the configuration has changed, when the machine runs again */
    struct timer *tx_timer;
    struct virtio_chain chain, more[BUFFERS]; /* of one packet; not state */
    uint8_t packet[NET_MAX_PACKET];
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* --- transmit --- */

static void header_read(const uint8_t *h, struct net_offload *o)
{
    uint8_t type = h[1] & (uint8_t)~GSO_ECN;

    *o = (struct net_offload){
        .checksum_needed = h[0] & HEADER_CSUM,
        .checksum_start = get16(h + 6),
        .checksum_offset = get16(h + 8),
        .gso = type == GSO_TCP4   ? NET_GSO_TCP4
               : type == GSO_TCP6 ? NET_GSO_TCP6
                                  : NET_GSO_NONE,
        .segment_size = get16(h + 4),
    };
}

static void packet_send(struct virtio_net *n, const struct virtio_chain *c)
{
    uint8_t header[HEADER];
    struct net_offload o;
    size_t len;

    if (virtio_copy_out(c, 0, header, HEADER) != HEADER || c->out_len - HEADER > NET_MAX_PACKET) {
        return;
    }
    len = virtio_copy_out(c, HEADER, n->packet, c->out_len - HEADER);
    header_read(header, &o);
    if (o.gso && (!o.segment_size || !net_tcp_prepare(n->packet, len, &o))) {
        return;
    }
    net_transmit(n->net, n->packet, len, &o);
}

static void transmit(struct virtio_net *n)
{
    struct virtio *v = &n->virtio;
    unsigned budget = BUDGET;

    virtio_want_notify(v, QUEUE_TX, false);
    do {
        while (budget && virtio_pop(v, QUEUE_TX, &n->chain)) {
            packet_send(n, &n->chain);
            virtio_push(v, QUEUE_TX, &n->chain, 0);
            budget--;
        }
        if (!budget) {
            virtio_publish(v, QUEUE_TX);
            timer_arm(n->tx_timer, clock_now(v->host->clock));
            return;
        }
        virtio_want_notify(v, QUEUE_TX, true);
    } while (!virtio_empty(v, QUEUE_TX) && budget);
    virtio_publish(v, QUEUE_TX);
}

static void timer_fired(void *opaque)
{
    struct virtio_net *n = opaque;

    if (n->tell) {
        n->tell = false;
        virtio_config_changed(&n->virtio);
    }
    transmit(n);
}

/* --- receive --- */

static bool filter_has(const struct virtio_net *n, const uint8_t *to)
{
    for (unsigned i = 0; i < n->filters; i++) {
        if (!memcmp(n->filter[i], to, 6)) {
            return true;
        }
    }
    return n->filter_overflow;
}

static bool wanted(const struct virtio_net *n, const uint8_t *frame, size_t len)
{
    if (n->promiscuous) {
        return true;
    }
    if (virtio_has(&n->virtio, F_CTRL_VLAN) && len >= 18 && frame[12] == 0x81 && !frame[13]) {
        unsigned id = (unsigned)(frame[14] << 8 | frame[15]) & 0xfff;
        if (!(n->vlan[id / 8] & 1u << (id % 8))) {
            return false;
        }
    }
    if (frame[0] == 0xff && !memcmp(frame, frame + 1, 5)) {
        return !n->no_broadcast;
    }
    if (frame[0] & 1) {
        return n->all_multicast || (!n->no_multicast && filter_has(n, frame));
    }
    return n->all_unicast ||
           (!n->no_unicast && (!memcmp(frame, n->mac, 6) || filter_has(n, frame)));
}

static void header_write(const struct virtio_net *n, uint8_t *h, const struct net_offload *o,
                         unsigned buffers)
{
    memset(h, 0, HEADER);
    if (virtio_has(&n->virtio, F_GUEST_CSUM)) {
        h[0] = o->checksum_needed ? HEADER_CSUM : o->checksum_good ? HEADER_VALID : 0;
    }
    if (o->checksum_needed) {
        put16(h + 6, o->checksum_start);
        put16(h + 8, o->checksum_offset);
    }
    if (o->gso) {
        h[1] = o->gso == NET_GSO_TCP4 ? GSO_TCP4 : GSO_TCP6;
        put16(h + 2, (uint16_t)(o->checksum_start + 20));
        put16(h + 4, o->segment_size);
    }
    put16(h + 10, (uint16_t)buffers);
}

/* Takes chains with room for `need` bytes; how many, 0 when there are not enough, -1 when it would
 * never fit. */
static int room_take(struct virtio_net *n, size_t need)
{
    struct virtio *v = &n->virtio;
    unsigned most = virtio_has(v, F_MRG_RXBUF) ? BUFFERS : 1, taken = 0;
    size_t room = 0;
    bool full;

    while (room < need && taken < most && virtio_pop(v, QUEUE_RX, &n->more[taken])) {
        room += n->more[taken++].in_len;
    }
    if (room >= need) {
        return (int)taken;
    }
    full = taken == most;
    while (taken--) {
        virtio_unpop(v, QUEUE_RX);
    }
    return full ? -1 : 0;
}

static void spread(struct virtio_net *n, const uint8_t *frame, size_t len, const uint8_t *header,
                   unsigned buffers)
{
    struct virtio *v = &n->virtio;
    size_t done = 0;

    for (unsigned i = 0; i < buffers; i++) {
        const struct virtio_chain *c = &n->more[i];
        size_t skip = i ? 0 : virtio_copy_in(v, c, 0, header, HEADER), bytes;
        bytes = virtio_copy_in(v, c, skip, frame + done, len - done);
        done += bytes;
        virtio_push(v, QUEUE_RX, c, (uint32_t)(skip + bytes));
    }
    virtio_publish(v, QUEUE_RX);
}

static bool receive(void *card, const uint8_t *frame, size_t len, const struct net_offload *o)
{
    struct virtio_net *n = card;
    struct virtio *v = &n->virtio;
    uint8_t header[HEADER];
    int buffers;

    if (!virtio_running(v) || !wanted(n, frame, len)) {
        return true;
    }
    virtio_want_notify(v, QUEUE_RX, false);
    buffers = room_take(n, len + HEADER);
    if (!buffers) {
        virtio_want_notify(v, QUEUE_RX, true);
        buffers = room_take(n, len + HEADER); /* what came before the driver saw that */
    }
    if (buffers <= 0) {
        return buffers < 0 || !virtio_running(v); /* dropped */
    }
    if (n->more[0].in_len < HEADER) {
        virtio_broken(v, "a receive buffer is smaller than a packet's header");
        return true;
    }
    header_write(n, header, o, (unsigned)buffers);
    spread(n, frame, len, header, (unsigned)buffers);
    return true;
}

/* --- control queue (section 5.1.6.5) --- */

static bool control_rx(struct virtio_net *n, uint8_t command, const uint8_t *data, size_t len)
{
    bool *modes[] = {&n->promiscuous,  &n->all_multicast, &n->all_unicast,
                     &n->no_multicast, &n->no_unicast,    &n->no_broadcast};

    if (len != 1 || command >= G_N_ELEMENTS(modes)) {
        return false;
    }
    *modes[command] = data[0];
    return true;
}

/* Two tables, unicast and multicast: u32 entries, the addresses. */
static bool control_filters(struct virtio_net *n, const uint8_t *data, size_t len)
{
    n->filters = 0;
    n->filter_overflow = false;
    for (unsigned table = 0; table < 2; table++) {
        uint32_t entries;
        if (len < 4) {
            return false;
        }
        memcpy(&entries, data, 4);
        entries = GUINT32_FROM_LE(entries);
        data += 4;
        len -= 4;
        if (entries > len / 6) {
            return false;
        }
        for (uint32_t i = 0; i < entries; i++) {
            if (n->filters == FILTERS) {
                n->filter_overflow = true;
                break;
            }
            memcpy(n->filter[n->filters++], data + 6 * i, 6);
        }
        data += 6 * entries;
        len -= 6 * entries;
    }
    return true;
}

static bool control_mac(struct virtio_net *n, uint8_t command, const uint8_t *data, size_t len)
{
    if (command == 1 && len == 6) {
        memcpy(n->mac, data, 6);
        return true;
    }
    return command == 0 && control_filters(n, data, len);
}

static bool control_vlan(struct virtio_net *n, uint8_t command, const uint8_t *data, size_t len)
{
    unsigned id = len == 2 ? get16(data) : 4096;

    if (id >= 4096 || command > 1) {
        return false;
    }
    n->vlan[id / 8] =
        (uint8_t)(command ? n->vlan[id / 8] & ~(1u << (id % 8)) : n->vlan[id / 8] | 1u << (id % 8));
    return true;
}

static bool control_command(struct virtio_net *n, const uint8_t *bytes, size_t len)
{
    const uint8_t *data = bytes + 2;

    if (len < 2) {
        return false;
    }
    len -= 2;
    switch (bytes[0]) {
    case 0:
        return control_rx(n, bytes[1], data, len);
    case 1:
        return control_mac(n, bytes[1], data, len);
    case 2:
        return control_vlan(n, bytes[1], data, len);
    case 3: /* the driver has announced itself */
        n->announce = false;
        return bytes[1] == 0;
    default:
        return false;
    }
}

static void control(struct virtio_net *n)
{
    struct virtio *v = &n->virtio;
    unsigned budget = VIRTIO_QUEUE_SIZE;

    do {
        while (budget && virtio_pop(v, QUEUE_CONTROL, &n->chain)) {
            size_t len = virtio_copy_out(&n->chain, 0, n->packet, sizeof n->packet);
            uint8_t ack = control_command(n, n->packet, len) ? 0 : 1;
            uint32_t written = (uint32_t)virtio_copy_in(v, &n->chain, 0, &ack, 1);
            virtio_push(v, QUEUE_CONTROL, &n->chain, written);
            budget--;
        }
        virtio_want_notify(v, QUEUE_CONTROL, true);
    } while (budget && !virtio_empty(v, QUEUE_CONTROL));
    virtio_publish(v, QUEUE_CONTROL);
}

/* --- for the transport --- */

static void notify(void *device, unsigned queue)
{
    struct virtio_net *n = device;

    if (queue == QUEUE_RX) {
        net_ready(n->net);
    } else if (queue == QUEUE_TX) {
        transmit(n);
    } else {
        control(n);
    }
}

static void driver_reset(void *device)
{
    struct virtio_net *n = device;

    memcpy(n->mac, n->first_mac, 6);
    n->promiscuous = n->all_multicast = n->all_unicast = false;
    n->no_multicast = n->no_unicast = n->no_broadcast = false;
    n->announce = false;
    n->filters = 0;
    n->filter_overflow = false;
    memset(n->vlan, 0, sizeof n->vlan);
    timer_disarm(n->tx_timer);
    net_set_can(n->net, 0);
}

static void started(void *device)
{
    struct virtio_net *n = device;
    const struct virtio *v = &n->virtio;
    unsigned can = 0;

    if (virtio_has(v, F_GUEST_CSUM)) {
        can = NET_CAN_CHECKSUM | (virtio_has(v, F_GUEST_TSO4) ? NET_CAN_TCP4 : 0) |
              (virtio_has(v, F_GUEST_TSO6) ? NET_CAN_TCP6 : 0);
    }
    /* Without CTRL_RX the driver cannot ask for less than all. */
    n->promiscuous = n->promiscuous || !virtio_has(v, F_CTRL_RX);
    net_set_can(n->net, can);
}

static uint64_t config_read(void *device, unsigned at, unsigned size)
{
    struct virtio_net *n = device;
    uint8_t bytes[16] = {0};
    uint64_t value = 0;

    memcpy(bytes, n->mac, 6);
    bytes[6] = (net_link(n->net) ? STATUS_LINK_UP : 0) | (n->announce ? STATUS_ANNOUNCE : 0);
    bytes[8] = 1; /* pair of queues */
    memcpy(&value, bytes + at, MIN(size, sizeof value));
    return value;
}

static const struct virtio_info info = {
    .name = "virtio-net",
    .id = 1,
    .class_code = 0x02,
    .queues = 3,
    .queue_size = 256,
    .features = VIRTIO_BIT(F_CSUM) | VIRTIO_BIT(F_GUEST_CSUM) | VIRTIO_BIT(F_MAC) |
                VIRTIO_BIT(F_GUEST_TSO4) | VIRTIO_BIT(F_GUEST_TSO6) | VIRTIO_BIT(F_HOST_TSO4) |
                VIRTIO_BIT(F_HOST_TSO6) | VIRTIO_BIT(F_MRG_RXBUF) | VIRTIO_BIT(F_STATUS) |
                VIRTIO_BIT(F_CTRL_VQ) | VIRTIO_BIT(F_CTRL_RX) | VIRTIO_BIT(F_CTRL_VLAN) |
                VIRTIO_BIT(F_ANNOUNCE) | VIRTIO_BIT(F_CTRL_MAC_ADDR),
    .config_size = 12,
    .notify = notify,
    .reset = driver_reset,
    .started = started,
    .config_read = config_read,
};

/* --- for the machine --- */

static void link_changed(void *card)
{
    virtio_config_changed(&((struct virtio_net *)card)->virtio);
}

static const struct net_card_ops card_ops = {receive, link_changed};

static bool virtio_net_init(void *dev, const struct device_host *host, const void *config,
                            GError **error)
{
    struct virtio_net *n = dev;
    const struct virtio_net_config *c = config;

    n->net = c->net;
    memcpy(n->first_mac, c->mac, 6);
    n->tx_timer = timer_new(host->clock, timer_fired, n);
    if (!virtio_init(&n->virtio, host, &c->pci, &info, n, error)) {
        return false;
    }
    net_attach(n->net, &card_ops, n, 0);
    return true;
}

static void virtio_net_fini(void *dev)
{
    struct virtio_net *n = dev;

    if (n->net) {
        net_attach(n->net, NULL, NULL, 0);
    }
    virtio_fini(&n->virtio);
    timer_free(n->tx_timer);
}

static void virtio_net_reset(void *dev)
{
    virtio_reset(&((struct virtio_net *)dev)->virtio);
}

static void virtio_net_state(void *dev, struct state *s)
{
    struct virtio_net *n = dev;

    virtio_state(&n->virtio, s);
    state_bytes(s, "mac", n->mac, sizeof n->mac);
    state_bytes(s, "first-mac", n->first_mac, sizeof n->first_mac);
    state_bool(s, "promiscuous", &n->promiscuous);
    state_bool(s, "all-multicast", &n->all_multicast);
    state_bool(s, "all-unicast", &n->all_unicast);
    state_bool(s, "no-multicast", &n->no_multicast);
    state_bool(s, "no-unicast", &n->no_unicast);
    state_bool(s, "no-broadcast", &n->no_broadcast);
    state_bool(s, "announce", &n->announce);
    state_bytes(s, "filter", n->filter, sizeof n->filter);
    state_u32(s, "filters", &n->filters);
    state_bool(s, "filter-overflow", &n->filter_overflow);
    state_bytes(s, "vlan", n->vlan, sizeof n->vlan);
    net_state(n->net, s);
}

static bool virtio_net_restored(void *dev, GError **error)
{
    struct virtio_net *n = dev;

    n->filters = MIN(n->filters, FILTERS);
    if (!virtio_restored(&n->virtio, error)) {
        return false;
    }
    if (virtio_has(&n->virtio, F_ANNOUNCE)) {
        n->announce = n->tell = true; /* switches may have forgotten where the guest is */
    }
    timer_arm(n->tx_timer, clock_now(n->virtio.host->clock)); /* perhaps it was armed */
    net_restored(n->net);
    return true;
}

const struct device_class virtio_net_device = {
    .name = "virtio-net",
    .size = sizeof(struct virtio_net),
    .version = 1,
    .init = virtio_net_init,
    .fini = virtio_net_fini,
    .reset = virtio_net_reset,
    .state = virtio_net_state,
    .restored = virtio_net_restored,
};
