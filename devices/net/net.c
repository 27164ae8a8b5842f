/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cable between card and back end (see net.h). It holds what the card has no room for, up to a
 * limit, and does in software what the other end cannot take.
 */
#include <gio/gio.h>
#include <string.h>

#include "backend.h"
#include "device.h"

#define WAITING_PACKETS 1024u
#define WAITING_BYTES   (4u << 20)
#define PROBES          8u /* after a resume, for connections that are lost */
#define PROBE_NS        500000000u

struct waiting {
    struct net_offload offload;
    size_t len;
    uint8_t frame[];
};

struct net {
    char *mode;
    const struct net_backend_ops *ops;
    void *backend;
    unsigned backend_can, card_can;
    const struct net_card_ops *card_ops;
    void *card;
    bool plugged, paused;
    GQueue waiting; /* of struct waiting, for the card */
    size_t waiting_bytes;
    GPtrArray *forwards;
    struct flows *flows; /* of a back end that loses them */
    struct clock *clock;
    struct timer *probe;
    unsigned probes; /* still to be sent */
    struct pcap *capture;
    struct net_counters counters;
    uint8_t scratch[NET_MAX_PACKET];
};

static bool fail(GError **error, const char *format, const char *what)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, format, what);
    return false;
}

/* --- from the guest --- */

static void send_whole(struct net *net, uint8_t *frame, size_t len, struct net_offload *o)
{
    if (o->checksum_needed && !(net->backend_can & NET_CAN_CHECKSUM)) {
        net_checksum_fill(frame, len, o);
    }
    net->ops->send(net->backend, frame, len, o);
}

static void send_segment(void *opaque, uint8_t *frame, size_t len)
{
    struct net_offload none = {0};

    send_whole(opaque, frame, len, &none);
}

static bool takes(unsigned can, enum net_gso gso)
{
    return gso == NET_GSO_NONE || (can & (gso == NET_GSO_TCP4 ? NET_CAN_TCP4 : NET_CAN_TCP6));
}

void net_transmit(struct net *net, uint8_t *frame, size_t len, const struct net_offload *offload)
{
    struct net_offload o = *offload;

    if (!net->plugged || len < NET_HEADER || len > NET_MAX_PACKET) {
        net->counters.dropped++;
        return;
    }
    net->counters.sent++;
    net->counters.sent_bytes += len;
    if (net->capture) {
        pcap_write(net->capture, frame, len);
    }
    if (net->flows) {
        flows_look(net->flows, frame, len, true);
    }
    if (o.gso && (!takes(net->backend_can, o.gso) || len > UINT16_MAX)) {
        net_segment(frame, len, &o, send_segment, net);
    } else {
        send_whole(net, frame, len, &o);
    }
}

/* --- for the guest --- */

static void waiting_clear(struct net *net)
{
    g_queue_clear_full(&net->waiting, g_free);
    net->waiting_bytes = 0;
}

static void waiting_add(struct net *net, const uint8_t *frame, size_t len,
                        const struct net_offload *o)
{
    struct waiting *w;

    if (net->waiting.length >= WAITING_PACKETS || net->waiting_bytes + len > WAITING_BYTES) {
        net->counters.dropped++;
        return;
    }
    w = g_malloc(sizeof *w + len);
    w->offload = *o;
    w->len = len;
    memcpy(w->frame, frame, len);
    g_queue_push_tail(&net->waiting, w);
    net->waiting_bytes += len;
}

static void receive(struct net *net, const uint8_t *frame, size_t len, const struct net_offload *o)
{
    net->counters.received++;
    net->counters.received_bytes += len;
    if (!net->card_ops || net->paused || net->waiting.length ||
        !net->card_ops->receive(net->card, frame, len, o)) {
        waiting_add(net, frame, len, o);
    }
}

static void receive_segment(void *opaque, uint8_t *frame, size_t len)
{
    struct net_offload good = {.checksum_good = true};

    receive(opaque, frame, len, &good);
}

void net_deliver(struct net *net, const uint8_t *frame, size_t len,
                 const struct net_offload *offload)
{
    struct net_offload o = *offload;

    if (!net->plugged || len < NET_HEADER || len > NET_MAX_PACKET) {
        net->counters.dropped++;
        return;
    }
    if (net->capture) {
        pcap_write(net->capture, frame, len);
    }
    if (net->flows) {
        flows_look(net->flows, frame, len, false);
    }
    if (!takes(net->card_can, o.gso)) {
        net_segment(frame, len, &o, receive_segment, net);
        return;
    }
    if (len < NET_MIN_FRAME || (o.checksum_needed && !(net->card_can & NET_CAN_CHECKSUM))) {
        memcpy(net->scratch, frame, len);
        memset(net->scratch + len, 0, len < NET_MIN_FRAME ? NET_MIN_FRAME - len : 0);
        if (!(net->card_can & NET_CAN_CHECKSUM)) {
            net_checksum_fill(net->scratch, len, &o);
        }
        frame = net->scratch;
        len = MAX(len, NET_MIN_FRAME);
    }
    receive(net, frame, len, &o);
}

void net_ready(struct net *net)
{
    struct waiting *w;

    while (!net->paused && net->card_ops && (w = g_queue_peek_head(&net->waiting)) &&
           net->card_ops->receive(net->card, w->frame, w->len, &w->offload)) {
        g_queue_pop_head(&net->waiting);
        net->waiting_bytes -= w->len;
        g_free(w);
    }
}

/* --- the ends --- */

void net_attach(struct net *net, const struct net_card_ops *ops, void *card, unsigned can)
{
    net->card_ops = ops;
    net->card = card;
    net->card_can = can;
    waiting_clear(net);
}

void net_set_can(struct net *net, unsigned can)
{
    if (net->card_can != can) {
        net->card_can = can;
        waiting_clear(net); /* made for a card that could more */
    }
}

bool net_link(const struct net *net)
{
    return net->plugged;
}

const char *net_mode(const struct net *net)
{
    return net->mode;
}

void net_counters(const struct net *net, struct net_counters *out)
{
    *out = net->counters;
}

void net_plug(struct net *net, bool plugged)
{
    if (net->plugged == plugged) {
        return;
    }
    net->plugged = plugged;
    waiting_clear(net);
    if (net->card_ops) {
        net->card_ops->link_changed(net->card);
    }
}

void net_pause(struct net *net, bool paused)
{
    net->paused = paused;
    net->ops->pause(net->backend, paused);
    net_ready(net);
}

static int forward_find(struct net *net, const char *spec)
{
    for (unsigned i = 0; i < net->forwards->len; i++) {
        if (!strcmp(net->forwards->pdata[i], spec)) {
            return (int)i;
        }
    }
    return -1;
}

static bool forward_change(struct net *net, const char *spec, bool add, GError **error)
{
    struct net_forward f;
    bool ok;

    if (!net->ops->forward) {
        return fail(error, "Ports cannot be forwarded in the network mode %s; set it to user",
                    net->mode);
    }
    if (!net_forward_parse(spec, &f, error)) {
        return false;
    }
    ok = net->ops->forward(net->backend, &f, add, error);
    net_forward_clear(&f);
    return ok;
}

bool net_forward_add(struct net *net, const char *spec, GError **error)
{
    if (forward_find(net, spec) >= 0) {
        return fail(error, "The port forward %s is there already", spec);
    }
    if (net->forwards->len >= NET_FORWARDS) {
        return fail(error, "The port forward %s is one too many: 64 are the most", spec);
    }
    if (!forward_change(net, spec, true, error)) {
        return false;
    }
    g_ptr_array_add(net->forwards, g_strdup(spec));
    return true;
}

bool net_forward_remove(struct net *net, const char *spec, GError **error)
{
    int at = forward_find(net, spec);

    if (at < 0) {
        return fail(error, "There is no port forward %s", spec);
    }
    if (!forward_change(net, spec, false, error)) {
        return false;
    }
    g_ptr_array_remove_index(net->forwards, (guint)at);
    return true;
}

GPtrArray *net_forwards(struct net *net)
{
    return net->forwards;
}

bool net_capture(struct net *net, const char *path, GError **error)
{
    struct pcap *capture = path ? pcap_open(path, error) : NULL;

    if (path && !capture) {
        return false;
    }
    pcap_close(net->capture);
    net->capture = capture;
    return true;
}

bool net_capture_into(struct net *net, int fd, GError **error)
{
    struct pcap *capture = pcap_take(fd, error);

    if (capture) {
        pcap_close(net->capture);
        net->capture = capture;
    }
    return capture != NULL;
}

static void probe_send(void *opaque);

struct net *net_open(const struct net_config *config, GError **error)
{
    struct net *net = g_new0(struct net, 1);
    bool user = !strcmp(config->mode, "user"), isolated = !strcmp(config->mode, "isolated");

    net->mode = g_strdup(config->mode);
    net->plugged = !config->unplugged;
    net->paused = true;
    net->forwards = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&net->waiting);
    if (user || isolated) {
        net->ops = &net_user_ops;
        net->flows = flows_new();
        net->clock = config->clock;
        net->probe = timer_new(net->clock, probe_send, net);
        net->backend = net_user_new(net, config->clock, isolated, &net->backend_can, error);
    } else if (net_mode_valid(config->mode) && strchr(config->mode, ':')) {
        net->ops = &net_tap_ops;
        net->backend = net_tap_new(net, config->mode, &net->backend_can, error);
    } else {
        fail(error, "\"%s\" is no network; allowed is user, isolated, tap:NAME or bridge:NAME",
             config->mode);
    }
    if (!net->backend) {
        g_clear_pointer(&net, net_close);
    }
    return net;
}

void net_close(struct net *net)
{
    if (!net) {
        return;
    }
    net->card_ops = NULL;
    if (net->backend) {
        net->ops->close(net->backend);
    }
    waiting_clear(net);
    pcap_close(net->capture);
    flows_free(net->flows);
    timer_free(net->probe);
    g_ptr_array_unref(net->forwards);
    g_free(net->mode);
    g_free(net);
}

/* --- state --- */

void net_state(struct net *net, struct state *s)
{
    struct flows *none = net->flows ? NULL : flows_new();

    /* What waits for the card is not saved: it is lost as in a full switch, and TCP sends it again.
     */
    flows_state(net->flows ? net->flows : none, s);
    flows_free(none);
}

static void probe_frame(void *opaque, uint8_t *frame, size_t len)
{
    struct net_offload good = {.checksum_good = true};

    receive(opaque, frame, len, &good);
}

static void probe_send(void *opaque)
{
    struct net *net = opaque;

    if (net->probes && flows_probe(net->flows, probe_frame, net)) {
        net->probes--;
        timer_arm(net->probe, clock_now(net->clock) + PROBE_NS);
    }
}

void net_restored(struct net *net)
{
    waiting_clear(net);
    if (net->flows) {
        net->probes = PROBES;
        timer_arm(net->probe, clock_now(net->clock));
    }
}
