/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libusb's descriptors as a source of the main loop. Calls that block use libusb from other
 * threads, so the notifiers only say that the list must be read again. Our transfers have no time
 * limit, so libusb's timeouts do not matter.
 */
#include "host_internal.h"
#include "lock.h"

struct host_source {
    GSource source;
    struct usb_host *host;
    GPtrArray *polls; /* of GPollFD * */
    gint changed;
};

static void polls_clear(struct host_source *s)
{
    for (unsigned i = 0; i < s->polls->len; i++) {
        g_source_remove_poll(&s->source, s->polls->pdata[i]);
    }
    g_ptr_array_set_size(s->polls, 0);
}

static void polls_read(struct host_source *s)
{
    const struct libusb_pollfd **list = libusb_get_pollfds(s->host->context);

    polls_clear(s);
    for (unsigned i = 0; list && list[i]; i++) {
        GPollFD *poll = g_new0(GPollFD, 1);
        poll->fd = list[i]->fd;
        poll->events = (gushort)list[i]->events; /* GLib's values are those of poll(2) */
        g_ptr_array_add(s->polls, poll);
        g_source_add_poll(&s->source, poll);
    }
    libusb_free_pollfds(list);
}

static gboolean source_prepare(GSource *source, gint *timeout)
{
    struct host_source *s = (struct host_source *)source;

    if (g_atomic_int_compare_and_exchange(&s->changed, 1, 0)) {
        polls_read(s);
    }
    *timeout = -1;
    return FALSE;
}

static gboolean source_check(GSource *source)
{
    struct host_source *s = (struct host_source *)source;

    for (unsigned i = 0; i < s->polls->len; i++) {
        if (((GPollFD *)s->polls->pdata[i])->revents) {
            return TRUE;
        }
    }
    return FALSE;
}

/* usbfs says so of a device that was pulled out (Linux, usbdev_poll). */
static bool hung_up(const struct host_source *s)
{
    for (unsigned i = 0; i < s->polls->len; i++) {
        const GPollFD *poll = s->polls->pdata[i];
        if (poll->fd == s->host->fd && poll->revents & (G_IO_ERR | G_IO_HUP)) {
            return true;
        }
    }
    return false;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    struct host_source *s = (struct host_source *)source;
    struct usb_host *h = s->host;
    struct timeval now = {0};

    machine_lock();
    if (hung_up(s)) {
        host_lost(h);
    }
    libusb_handle_events_timeout_completed(h->context, &now, NULL);
    machine_unlock();
    return G_SOURCE_CONTINUE;
}

static void source_finalize(GSource *source)
{
    g_ptr_array_unref(((struct host_source *)source)->polls);
}

static GSourceFuncs functions = {.prepare = source_prepare,
                                 .check = source_check,
                                 .dispatch = source_dispatch,
                                 .finalize = source_finalize};

static void changed(struct host_source *s)
{
    g_atomic_int_set(&s->changed, 1);
    g_main_context_wakeup(NULL);
}

static void added(int fd, short events, void *opaque)
{
    changed(opaque);
}

static void removed(int fd, void *opaque)
{
    changed(opaque);
}

GSource *host_source_new(struct usb_host *h)
{
    GSource *source = g_source_new(&functions, sizeof(struct host_source));
    struct host_source *s = (struct host_source *)source;

    s->host = h;
    s->polls = g_ptr_array_new_with_free_func(g_free);
    s->changed = 1;
    libusb_set_pollfd_notifiers(h->context, added, removed, s);
    g_source_attach(source, NULL);
    return source;
}

void host_source_free(GSource *source, libusb_context *context)
{
    libusb_set_pollfd_notifiers(context, NULL, NULL, NULL);
    polls_clear((struct host_source *)source);
    g_source_destroy(source);
    g_source_unref(source);
}
