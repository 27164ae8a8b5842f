/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The back ends "tap" and "bridge": packets to and from a tap device of the host, or any descriptor
 * that gives and takes one packet a read or write (a macvtap device, a datagram socket). See
 * Documentation/networking/tuntap.rst of Linux.
 *
 * A tap device that can (IFF_VNET_HDR) has a struct virtio_net_hdr before each packet, and so takes
 * large ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backend.h"
#include "device.h"
#include "lock.h"

#define TUN    "/dev/net/tun"
#define BATCH  64u /* packets read in one go */
#define HEADER sizeof(struct virtio_net_hdr)

struct tap {
    struct net *net;
    int fd;
    bool header;
    bool paused;
    GSource *source;
    uint8_t packet[NET_MAX_PACKET];
};

static void *tap_fail(struct tap *t, int error_errno, const char *what, const char *name,
                      const char *remedy, GError **error)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(error_errno), "%s %s: %s. %s", what, name,
                g_strerror(error_errno), remedy);
    if (t->fd >= 0) {
        close(t->fd);
    }
    g_free(t);
    return NULL;
}

/* --- packets --- */

static void header_of(const struct net_offload *o, struct virtio_net_hdr *h)
{
    *h = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    if (o->checksum_needed) {
        h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h->csum_start = o->checksum_start;
        h->csum_offset = o->checksum_offset;
    }
    if (o->gso) {
        h->gso_type = o->gso == NET_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        h->gso_size = o->segment_size;
    }
}

static void offload_of(const struct virtio_net_hdr *h, struct net_offload *o)
{
    uint8_t type = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

    *o = (struct net_offload){
        .checksum_needed = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .checksum_good = h->flags & VIRTIO_NET_HDR_F_DATA_VALID,
        .checksum_start = h->csum_start,
        .checksum_offset = h->csum_offset,
        .gso = type == VIRTIO_NET_HDR_GSO_TCPV4   ? NET_GSO_TCP4
               : type == VIRTIO_NET_HDR_GSO_TCPV6 ? NET_GSO_TCP6
                                                  : NET_GSO_NONE,
        .segment_size = h->gso_size,
    };
}

static void tap_send(void *backend, uint8_t *frame, size_t len, struct net_offload *o)
{
    struct tap *t = backend;
    struct virtio_net_hdr header;
    struct iovec iov[2] = {{&header, HEADER}, {frame, len}};

    header_of(o, &header);
    if (writev(t->fd, t->header ? iov : iov + 1, t->header ? 2 : 1) < 0 && errno != EAGAIN &&
        errno != ENOBUFS) {
        device_log_once("network", (uint64_t)errno, "packets are lost: %s", g_strerror(errno));
    }
}

static gboolean tap_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct tap *t = opaque;
    ssize_t n = 1;

    machine_lock();
    for (unsigned i = 0; i < BATCH && n > 0 && !t->paused; i++) {
        struct virtio_net_hdr header = {0};
        struct net_offload o;
        struct iovec iov[2] = {{&header, HEADER}, {t->packet, sizeof t->packet}};
        n = readv(fd, t->header ? iov : iov + 1, t->header ? 2 : 1);
        n -= n > 0 && t->header ? (ssize_t)HEADER : 0;
        offload_of(&header, &o);
        if (n > 0) {
            net_deliver(t->net, t->packet, (size_t)n, &o);
        }
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        device_log("network", "the tap device has gone: %s; the guest gets no more packets",
                   n ? g_strerror(errno) : "closed");
        g_clear_pointer(&t->source, g_source_unref);
        machine_unlock();
        return G_SOURCE_REMOVE;
    }
    machine_unlock();
    return G_SOURCE_CONTINUE;
}

static void tap_listen(struct tap *t)
{
    t->source = g_unix_fd_source_new(t->fd, G_IO_IN);
    g_source_set_callback(t->source, G_SOURCE_FUNC(tap_readable), t, NULL);
    g_source_attach(t->source, NULL);
}

static void tap_pause(void *backend, bool paused)
{
    struct tap *t = backend;

    t->paused = paused;
    if (t->source) {
        g_source_destroy(t->source);
        g_clear_pointer(&t->source, g_source_unref);
    }
    if (!paused) {
        tap_listen(t);
    }
}

static void tap_close(void *backend)
{
    struct tap *t = backend;

    if (t->source) {
        g_source_destroy(t->source);
        g_source_unref(t->source);
    }
    close(t->fd);
    g_free(t);
}

/* --- opening --- */

static void *tap_ready(struct tap *t, unsigned *can)
{
    unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;

    fcntl(t->fd, F_SETFL, fcntl(t->fd, F_GETFL) | O_NONBLOCK);
    fcntl(t->fd, F_SETFD, FD_CLOEXEC);
    *can = 0;
    if (t->header && ioctl(t->fd, TUNSETOFFLOAD, offload) == 0) {
        *can = NET_CAN_CHECKSUM | NET_CAN_TCP4 | NET_CAN_TCP6;
    }
    return t;
}

static void *tap_from_fd(struct tap *t, const char *number, unsigned *can, GError **error)
{
    struct ifreq request = {0};

    t->fd = (int)g_ascii_strtoull(number, NULL, 10);
    if (t->fd <= STDERR_FILENO || fcntl(t->fd, F_GETFD) < 0) {
        int fd_errno = t->fd <= STDERR_FILENO ? EINVAL : errno;
        t->fd = -1;
        return tap_fail(t, fd_errno, "There is no open tap device with descriptor", number,
                        "Whoever starts the monitor must open it and pass it on", error);
    }
    t->header = ioctl(t->fd, TUNGETIFF, &request) == 0 && (request.ifr_flags & IFF_VNET_HDR);
    return tap_ready(t, can);
}

/* An empty name lets the kernel choose one, which is put there. */
static int tun_open(char name[IFNAMSIZ])
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open(TUN, O_RDWR | O_CLOEXEC | O_NONBLOCK), saved;

    g_strlcpy(request.ifr_name, name, IFNAMSIZ);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0) {
        saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    g_strlcpy(name, request.ifr_name, IFNAMSIZ);
    return fd;
}

static bool bridge_join(const char *bridge, const char *name)
{
    struct ifreq request = {.ifr_ifindex = (int)if_nametoindex(name)};
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), saved;
    bool ok;

    g_strlcpy(request.ifr_name, bridge, IFNAMSIZ);
    ok = control >= 0 && ioctl(control, SIOCBRADDIF, &request) == 0;
    if (ok) {
        request = (struct ifreq){0};
        g_strlcpy(request.ifr_name, name, IFNAMSIZ);
        ok = ioctl(control, SIOCGIFFLAGS, &request) == 0;
        request.ifr_flags |= IFF_UP;
        ok = ok && ioctl(control, SIOCSIFFLAGS, &request) == 0;
    }
    saved = errno;
    if (control >= 0) {
        close(control);
    }
    errno = saved;
    return ok;
}

static void *tap_by_name(struct tap *t, const char *name, bool bridge, unsigned *can,
                         GError **error)
{
    char device[IFNAMSIZ] = "";

    if (!bridge) {
        g_strlcpy(device, name, sizeof device);
    }
    if (!bridge && !if_nametoindex(name)) {
        return tap_fail(t, ENODEV, "There is no tap device", name,
                        "Have the administrator make it: ip tuntap add NAME mode tap user USER",
                        error);
    }
    t->fd = tun_open(device);
    if (t->fd < 0) {
        return tap_fail(
            t, errno,
            bridge ? "No tap device can be made for the bridge" : "This tap device cannot be used:",
            name,
            "Have the administrator make one that is yours: ip tuntap add NAME mode tap "
            "user USER",
            error);
    }
    t->header = true;
    if (bridge && !bridge_join(name, device)) {
        return tap_fail(t, errno, "No tap device can be put into the bridge", name,
                        "Have the administrator do so with one that is yours, and use tap:NAME",
                        error);
    }
    return tap_ready(t, can);
}

void *net_tap_new(struct net *net, const char *mode, unsigned *can, GError **error)
{
    struct tap *t = g_new0(struct tap, 1);
    const char *name = strchr(mode, ':') + 1;

    t->net = net;
    t->fd = -1;
    t->paused = true;
    return g_str_has_prefix(name, "fd=") && g_str_has_prefix(mode, "tap:")
               ? tap_from_fd(t, name + strlen("fd="), can, error)
               : tap_by_name(t, name, g_str_has_prefix(mode, "bridge:"), can, error);
}

const struct net_backend_ops net_tap_ops = {
    .send = tap_send, .pause = tap_pause, .close = tap_close};
