/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The back end "user": libslirp's TCP/IP stack ends the guest's connections and opens sockets of
 * the monitor instead.
 *
 *   10.0.2.0/24, fec0::/64: host .2, DNS .3, guests from .15 on
 *
 * Its time is the machine's, so that nothing times out while the machine is paused; then its
 * sockets are not polled either, and the peers wait. Sockets are polled by a GSource in the default
 * context; packets from the guest come in from CPU threads with the machine lock held, so the
 * source takes it, too.
 *
 * TCP goes in large packets: libslirp takes segments of any size that an IP packet has room for,
 * and makes such when the peer allows. So its MTU is the largest there is; the maximum segment size
 * (MSS) that a guest with an ordinary MTU offers in a SYN is raised, and what then comes back is
 * for segments of that ordinary size. Other packets that are too long for the guest are cut into IP
 * fragments.
 */
#include <gio/gio.h>
#include <libslirp.h>
#include <string.h>

#include "backend.h"
#include "device.h"
#include "lock.h"

#define NS_PER_MS 1000000u
#define LARGE_MTU 65520u
#define LARGE_MSS (20u * 1460u) /* two fit into a window */
#define SOCKETS   4096u         /* that are polled; libslirp's own limit is that of descriptors */
#define NAP_LIMIT 200 /* ms; a packet from the guest may make libslirp wait for less than that */

struct user {
    struct net *net;
    struct clock *clock;
    Slirp *slirp;
    GSource *source;
    bool paused;
    GPtrArray *polls; /* of GPollFD *; the first `used` are asked for now */
    unsigned used;
    uint8_t packet[NET_MAX_PACKET];
    int nap; /* ms until libslirp wants to be called, -1: any time */
    gint64 nap_end;
};

struct user_source {
    GSource source;
    struct user *user;
};

/* --- polling --- */

static const struct {
    int slirp, glib;
} poll_bits[] = {
    {SLIRP_POLL_IN, G_IO_IN},   {SLIRP_POLL_OUT, G_IO_OUT}, {SLIRP_POLL_PRI, G_IO_PRI},
    {SLIRP_POLL_ERR, G_IO_ERR}, {SLIRP_POLL_HUP, G_IO_HUP},
};

static int add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;
    GPollFD *poll;
    gushort wanted = 0;

    if (u->used >= SOCKETS) {
        return -1;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(poll_bits); i++) {
        wanted |= events & poll_bits[i].slirp ? (gushort)poll_bits[i].glib : 0;
    }
    if (u->used == u->polls->len) {
        g_ptr_array_add(u->polls, g_new0(GPollFD, 1));
        ((GPollFD *)u->polls->pdata[u->used])->fd = -1;
    }
    poll = u->polls->pdata[u->used];
    if (poll->fd != fd) {
        if (poll->fd >= 0) {
            g_source_remove_poll(u->source, poll);
        }
        poll->fd = fd;
        g_source_add_poll(u->source, poll);
    }
    poll->events = wanted;
    poll->revents = 0;
    return (int)u->used++;
}

static void polls_trim(struct user *u)
{
    for (unsigned i = u->used; i < u->polls->len; i++) {
        GPollFD *poll = u->polls->pdata[i];
        if (poll->fd >= 0) {
            g_source_remove_poll(u->source, poll);
            poll->fd = -1;
        }
    }
}

static int get_revents(int index, void *opaque)
{
    struct user *u = opaque;
    int events = 0;

    if (index < 0 || (unsigned)index >= u->used) {
        return 0;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(poll_bits); i++) {
        if (((GPollFD *)u->polls->pdata[index])->revents & poll_bits[i].glib) {
            events |= poll_bits[i].slirp;
        }
    }
    return events;
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    struct user *u = ((struct user_source *)source)->user;
    uint32_t ms = UINT32_MAX;

    machine_lock();
    u->used = 0;
    if (!u->paused) {
        slirp_pollfds_fill(u->slirp, &ms, add_poll, u);
    }
    polls_trim(u);
    u->nap = ms > INT32_MAX ? -1 : (int)ms;
    u->nap_end = g_get_monotonic_time() + (gint64)u->nap * 1000;
    *timeout = u->nap;
    machine_unlock();
    return FALSE;
}

static gboolean source_check(GSource *source)
{
    struct user *u = ((struct user_source *)source)->user;

    if (u->nap >= 0 && g_get_monotonic_time() >= u->nap_end) {
        return TRUE;
    }
    for (unsigned i = 0; i < u->used; i++) {
        if (((GPollFD *)u->polls->pdata[i])->revents) {
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    struct user *u = ((struct user_source *)source)->user;

    machine_lock();
    if (!u->paused) {
        slirp_pollfds_poll(u->slirp, 0, get_revents, u);
    }
    machine_unlock();
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_functions = {
    .prepare = source_prepare, .check = source_check, .dispatch = source_dispatch};

/* --- what libslirp asks for --- */

static void deliver(void *opaque, uint8_t *frame, size_t len)
{
    struct net_offload good = {.checksum_good = true};

    net_deliver(((struct user *)opaque)->net, frame, len, &good);
}

/* libslirp's packets end with the checksum done; cutting them up does it again. */
static bool large_tcp(const uint8_t *frame, size_t len, struct net_offload *o)
{
    size_t ip, tcp, payload;

    *o = (struct net_offload){.gso = frame[NET_HEADER] >> 4 == 6 ? NET_GSO_TCP6 : NET_GSO_TCP4,
                              .checksum_needed = true,
                              .checksum_offset = 16};
    if (!net_tcp_headers(frame, len, o->gso, &ip, &tcp, &payload)) {
        return false;
    }
    o->checksum_start = (uint16_t)tcp;
    o->segment_size = o->gso == NET_GSO_TCP4 ? NET_MSS4 : NET_MSS6;
    return true;
}

static ssize_t send_packet(const void *bytes, size_t len, void *opaque)
{
    struct user *u = opaque;
    struct net_offload o;

    if (len > NET_MAX_PACKET) {
        return -1;
    }
    memcpy(u->packet, bytes, len);
    if (len <= NET_HEADER + NET_MTU) {
        deliver(u, u->packet, len);
    } else if (large_tcp(u->packet, len, &o)) {
        net_tcp_prepare(u->packet, len, &o);
        net_deliver(u->net, u->packet, len, &o);
    } else {
        net_fragment4(u->packet, len, deliver, u);
    }
    return (ssize_t)len;
}

static void guest_error(const char *message, void *opaque)
{
    device_log_once("network", 0, "the guest: %s", message);
}

static int64_t clock_get_ns(void *opaque)
{
    return (int64_t)clock_now(((struct user *)opaque)->clock);
}

/* libslirp's timer and what it is for. */
struct user_timer {
    struct timer *timer;
    struct user *user;
    SlirpTimerId id;
    void *argument;
};

static void timer_fired(void *opaque)
{
    struct user_timer *t = opaque;

    slirp_handle_timer(t->user->slirp, t->id, t->argument);
}

static void *new_timer(SlirpTimerId id, void *argument, void *opaque)
{
    struct user_timer *t = g_new0(struct user_timer, 1);

    t->user = opaque;
    t->id = id;
    t->argument = argument;
    t->timer = timer_new(t->user->clock, timer_fired, t);
    return t;
}

static void free_timer(void *timer, void *opaque)
{
    timer_free(((struct user_timer *)timer)->timer);
    g_free(timer);
}

static void arm_timer(void *timer, int64_t ms, void *opaque)
{
    timer_arm(((struct user_timer *)timer)->timer, (uint64_t)MAX(ms, 0) * NS_PER_MS);
}

/* The main loop must ask again which sockets to poll. */
static void poll_changed(int fd, void *opaque)
{
    g_main_context_wakeup(NULL);
}

static void notify(void *opaque)
{
    g_main_context_wakeup(NULL);
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_free = free_timer,
    .timer_mod = arm_timer,
    .register_poll_fd = poll_changed,
    .unregister_poll_fd = poll_changed,
    .notify = notify,
    .timer_new_opaque = new_timer,
};

/* --- the back end --- */

static void user_send(void *backend, uint8_t *frame, size_t len, struct net_offload *o)
{
    struct user *u = backend;

    net_raise_mss(frame, len, LARGE_MSS, o);
    net_checksum_fill(frame, len, o); /* libslirp looks at it, also in large packets */
    slirp_input(u->slirp, frame, (int)len);
    if (u->nap < 0 || u->nap > NAP_LIMIT) {
        u->nap = NAP_LIMIT;
        g_main_context_wakeup(NULL);
    }
}

static void user_pause(void *backend, bool paused)
{
    ((struct user *)backend)->paused = paused;
    g_main_context_wakeup(NULL);
}

static bool socket_address(const char *text, uint16_t port, struct sockaddr_storage *out,
                           socklen_t *len)
{
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string(text, port);

    *len = address ? (socklen_t)g_socket_address_get_native_size(address) : 0;
    return address && *len <= sizeof *out &&
           g_socket_address_to_native(address, out, sizeof *out, NULL);
}

static bool user_forward(void *backend, const struct net_forward *f, bool add, GError **error)
{
    struct user *u = backend;
    struct sockaddr_storage host, guest;
    socklen_t host_len, guest_len;
    int flags = f->udp ? SLIRP_HOSTFWD_UDP : 0, status;

    if (!socket_address(f->host, f->host_port, &host, &host_len) ||
        !socket_address(f->guest ? f->guest : "0.0.0.0", f->guest_port, &guest, &guest_len)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "\"%s\" is no address that ports can be forwarded from", f->host);
        return false;
    }
    flags |= host.ss_family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0;
    errno = 0;
    status = add ? slirp_add_hostxfwd(u->slirp, (struct sockaddr *)&host, host_len,
                                      (struct sockaddr *)&guest, guest_len, flags)
                 : slirp_remove_hostxfwd(u->slirp, (struct sockaddr *)&host, host_len, flags);
    if (status < 0 && add) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    "Port %u of %s cannot be forwarded: %s. Choose another port of the host",
                    f->host_port, f->host, g_strerror(errno ? errno : EADDRINUSE));
        return false;
    }
    g_main_context_wakeup(NULL);
    return true;
}

static void user_close(void *backend)
{
    struct user *u = backend;

    g_source_destroy(u->source);
    g_source_unref(u->source);
    if (u->slirp) {
        slirp_cleanup(u->slirp);
    }
    g_ptr_array_unref(u->polls);
    g_free(u);
}

static SlirpConfig user_config(bool restricted)
{
    SlirpConfig c = {
        .version = 4,
        .restricted = restricted,
        .in_enabled = true,
        .in6_enabled = true,
        .vprefix_len = 64,
        .vhostname = "ringside",
        .if_mtu = LARGE_MTU,
        .if_mru = LARGE_MTU,
    };

    inet_pton(AF_INET, "10.0.2.0", &c.vnetwork);
    inet_pton(AF_INET, "255.255.255.0", &c.vnetmask);
    inet_pton(AF_INET, "10.0.2.2", &c.vhost);
    inet_pton(AF_INET, "10.0.2.3", &c.vnameserver);
    inet_pton(AF_INET, "10.0.2.15", &c.vdhcp_start);
    inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &c.vhost6);
    inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
    return c;
}

void *net_user_new(struct net *net, struct clock *clock, bool restricted, unsigned *can,
                   GError **error)
{
    struct user *u = g_new0(struct user, 1);
    SlirpConfig config = user_config(restricted);

    u->net = net;
    u->clock = clock;
    u->paused = true;
    u->polls = g_ptr_array_new_with_free_func(g_free);
    u->source = g_source_new(&source_functions, sizeof(struct user_source));
    ((struct user_source *)u->source)->user = u;
    u->slirp = slirp_new(&config, &callbacks, u);
    if (!u->slirp) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                            "The network cannot start: libslirp refuses its settings");
        user_close(u);
        return NULL;
    }
    g_source_attach(u->source, NULL);
    *can = NET_CAN_CHECKSUM | NET_CAN_TCP4 | NET_CAN_TCP6;
    return u;
}

const struct net_backend_ops net_user_ops = {
    .send = user_send, .pause = user_pause, .close = user_close, .forward = user_forward};
