/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host: their transfers (see host.h).
 *
 * Each transfer is a ticket. One that is for the kernel goes to libusb at once, unless something
 * that blocks is before it; requests that change what the kernel keeps of the device (its
 * configuration, an alternate setting, a halt) go through host_job.c; those that are about the link
 * to the host, which is not the guest's, are answered here. Lengths that the device reports are
 * believed as far as the buffer reaches.
 */
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "host_internal.h"
#include "lock.h"

#define CONTROL_DATA   4096u /* usbfs and libusb take no more in one request */
#define PATIENCE_MS    3000  /* for transfers to come back when a device is closed */
#define WAIT_CLOSED_US (10 * G_USEC_PER_SEC)

/* USB 2.0, 9.4; USB 3.2, 9.4 */
enum {
    GET_CONFIGURATION = 8,
    SET_CONFIGURATION = 9,
    SET_INTERFACE = 11,
    CLEAR_FEATURE = 1,
    SET_FEATURE = 3,
    SET_ADDRESS = 5,
    SET_SEL = 48,
    SET_ISOCH_DELAY = 49,
    ENDPOINT_HALT = 0,
    TEST_MODE = 2,
    U1_ENABLE = 48,
    LTM_ENABLE = 50,
};
enum { TO_DEVICE = 0, TO_INTERFACE = 1, TO_ENDPOINT = 2 };

static unsigned hosts; /* not closed yet */

/* --- tickets --- */

struct ticket *host_ticket(struct usb_host *h, struct usb_transfer *transfer)
{
    struct ticket *t = g_new0(struct ticket, 1);

    t->link.data = t;
    t->host = h;
    t->transfer = transfer;
    if (transfer) {
        transfer->driver = t;
    }
    return t;
}

void host_finish(struct ticket *t, enum usb_status status)
{
    struct usb_transfer *transfer = t->transfer;

    if (t->urb) {
        if (t->urb->type == LIBUSB_TRANSFER_TYPE_CONTROL) {
            g_free(t->urb->buffer);
        }
        libusb_free_transfer(t->urb);
    }
    g_free(t);
    if (transfer) {
        transfer->driver = NULL;
        usb_complete(transfer, status);
    }
}

static void give_up_queue(struct usb_host *h)
{
    GList *link;

    while ((link = g_queue_pop_head_link(&h->queue))) {
        host_finish(link->data, USB_GONE);
    }
}

/* Calls `fn` from the main loop, with the lock: not in the middle of what its owner does. */
static void later(struct usb_host *h, GSourceFunc fn)
{
    usb_device_ref(&h->usb);
    g_idle_add_full(G_PRIORITY_DEFAULT, fn, h, NULL);
}

static gboolean tell_gone(gpointer opaque)
{
    struct usb_host *h = opaque;

    machine_lock();
    if (!h->closing) {
        h->events->gone(h->opaque, &h->usb);
    }
    usb_device_unref(&h->usb);
    machine_unlock();
    return G_SOURCE_REMOVE;
}

void host_lost(struct usb_host *h)
{
    if (!h->gone && !h->closing) {
        give_up_queue(h);
        later(h, tell_gone);
    }
    h->gone = true;
}

/* --- to libusb and back --- */

static enum usb_status status_of(enum libusb_transfer_status status, bool cancelled)
{
    switch (status) {
    case LIBUSB_TRANSFER_COMPLETED:
        return USB_DONE;
    case LIBUSB_TRANSFER_STALL:
        return USB_STALL;
    case LIBUSB_TRANSFER_OVERFLOW:
        return USB_BABBLE;
    case LIBUSB_TRANSFER_NO_DEVICE: /* also when a call that changes a setting took the transfers */
    case LIBUSB_TRANSFER_CANCELLED:
        return cancelled ? USB_CANCELLED : USB_ERROR;
    case LIBUSB_TRANSFER_ERROR:
    case LIBUSB_TRANSFER_TIMED_OUT:
        break;
    }
    return USB_ERROR;
}

static void take_packets(struct usb_transfer *transfer, const struct libusb_transfer *urb)
{
    for (unsigned i = 0; i < transfer->n_packets; i++) {
        const struct libusb_iso_packet_descriptor *from = &urb->iso_packet_desc[i];
        struct usb_packet *to = &transfer->packets[i];
        to->actual = MIN(from->actual_length, to->length);
        to->status = status_of(from->status, false);
        transfer->actual += to->actual;
    }
}

static void take_result(struct usb_transfer *transfer, const struct libusb_transfer *urb)
{
    size_t n = (size_t)MAX(urb->actual_length, 0);

    if (transfer->kind == USB_ISOCHRONOUS) {
        take_packets(transfer, urb);
        return;
    }
    transfer->actual = MIN(n, transfer->length);
    if (transfer->kind == USB_CONTROL && transfer->setup.type & USB_IN) {
        memcpy(transfer->data, libusb_control_transfer_get_data((struct libusb_transfer *)urb),
               transfer->actual);
    }
}

static void close_when_idle(struct usb_host *h);

static void urb_done(struct libusb_transfer *urb)
{
    struct ticket *t = urb->user_data;
    struct usb_host *h = t->host;
    bool gone = h->gone && urb->status == LIBUSB_TRANSFER_NO_DEVICE;

    g_queue_unlink(&h->air, &t->link);
    if (t->transfer) {
        take_result(t->transfer, urb);
    }
    host_finish(t, gone ? USB_GONE : status_of(urb->status, t->cancelled));
    host_pump(h);
    close_when_idle(h);
}

static struct libusb_transfer *control_urb(struct usb_host *h, struct usb_transfer *transfer)
{
    const struct usb_setup *s = &transfer->setup;
    size_t n = MIN(MIN(s->length, transfer->length), CONTROL_DATA);
    uint8_t *buffer = g_malloc0(LIBUSB_CONTROL_SETUP_SIZE + n);
    struct libusb_transfer *urb = libusb_alloc_transfer(0);

    libusb_fill_control_setup(buffer, s->type, s->request, s->value, s->index, (uint16_t)n);
    if (!(s->type & USB_IN) && n) {
        memcpy(buffer + LIBUSB_CONTROL_SETUP_SIZE, transfer->data, n);
    }
    libusb_fill_control_transfer(urb, h->handle, buffer, urb_done, NULL, 0);
    return urb;
}

static struct libusb_transfer *isochronous_urb(struct usb_host *h, struct usb_transfer *transfer)
{
    struct libusb_transfer *urb;
    size_t total = 0;

    if (!transfer->n_packets || transfer->n_packets > USB_MAX_PACKETS) {
        return NULL;
    }
    for (unsigned i = 0; i < transfer->n_packets; i++) {
        total += transfer->packets[i].length;
    }
    if (total > transfer->length) {
        return NULL;
    }
    urb = libusb_alloc_transfer((int)transfer->n_packets);
    libusb_fill_iso_transfer(urb, h->handle, transfer->endpoint, transfer->data, (int)total,
                             (int)transfer->n_packets, urb_done, NULL, 0);
    for (unsigned i = 0; i < transfer->n_packets; i++) {
        urb->iso_packet_desc[i].length = transfer->packets[i].length;
    }
    return urb;
}

static struct libusb_transfer *data_urb(struct usb_host *h, struct usb_transfer *transfer)
{
    struct libusb_transfer *urb = libusb_alloc_transfer(0);

    if (transfer->kind == USB_INTERRUPT) {
        libusb_fill_interrupt_transfer(urb, h->handle, transfer->endpoint, transfer->data,
                                       (int)transfer->length, urb_done, NULL, 0);
    } else if (transfer->stream) {
        libusb_fill_bulk_stream_transfer(urb, h->handle, transfer->endpoint, transfer->stream,
                                         transfer->data, (int)transfer->length, urb_done, NULL, 0);
    } else {
        libusb_fill_bulk_transfer(urb, h->handle, transfer->endpoint, transfer->data,
                                  (int)transfer->length, urb_done, NULL, 0);
    }
    return urb;
}

static struct libusb_transfer *make_urb(struct usb_host *h, struct usb_transfer *transfer)
{
    switch (transfer->kind) {
    case USB_CONTROL:
        return control_urb(h, transfer);
    case USB_ISOCHRONOUS:
        return isochronous_urb(h, transfer);
    case USB_BULK:
    case USB_INTERRUPT:
        break;
    }
    return data_urb(h, transfer);
}

/* libusb's error, or 0. */
static int fly(struct usb_host *h, struct ticket *t)
{
    int error;

    if (!t->urb && !(t->urb = make_urb(h, t->transfer))) {
        return LIBUSB_ERROR_INVALID_PARAM;
    }
    t->urb->user_data = t;
    error = libusb_submit_transfer(t->urb);
    if (!error) {
        g_queue_unlink(&h->queue, &t->link);
        g_queue_push_tail_link(&h->air, &t->link);
        t->flies = true;
    }
    return error;
}

/* usbfs has a limit for what is under way (usbfs_memory_mb): what does not fit waits. */
void host_pump(struct usb_host *h)
{
    struct ticket *t;

    while (!h->running && (t = g_queue_peek_head(&h->queue))) {
        int error = t->run ? 0 : fly(h, t);
        if (error == LIBUSB_ERROR_NO_MEM && h->air.length) {
            return;
        }
        if (t->run) {
            g_queue_unlink(&h->queue, &t->link);
            h->running = t;
            host_job_start(t);
        } else if (error) {
            g_queue_unlink(&h->queue, &t->link);
            host_finish(t, error == LIBUSB_ERROR_NO_DEVICE ? USB_GONE : USB_ERROR);
            if (error == LIBUSB_ERROR_NO_DEVICE) {
                host_lost(h);
            }
        }
    }
}

/* --- requests that are not for the device alone --- */

static void queue_run(struct usb_host *h, struct usb_transfer *transfer,
                      int (*run)(struct usb_host *, unsigned, unsigned), unsigned a, unsigned b,
                      void (*then)(struct usb_host *, int))
{
    struct ticket *t = host_ticket(h, transfer);

    t->run = run;
    t->a = a;
    t->b = b;
    t->then = then;
    g_queue_push_tail_link(&h->queue, &t->link);
    host_pump(h);
}

/* What to do about a standard request that concerns the link between host and device: answer it
 * (DONE), refuse it (STALL), or -1: it is for the device. */
static int link_request(const struct usb_setup *s)
{
    unsigned to = s->type & 0x1f;

    switch (s->request) {
    case SET_ADDRESS:
    case SET_SEL:
    case SET_ISOCH_DELAY:
        return USB_DONE;
    case SET_FEATURE:
    case CLEAR_FEATURE:
        if (to == TO_DEVICE && s->value == TEST_MODE) {
            return USB_STALL;
        }
        return to == TO_DEVICE && s->value >= U1_ENABLE && s->value <= LTM_ENABLE ? USB_DONE : -1;
    default:
        return -1;
    }
}

static bool standard_request(struct usb_host *h, struct usb_transfer *transfer)
{
    const struct usb_setup *s = &transfer->setup;
    unsigned to = s->type & 0x1f;
    int status = link_request(s);

    if (status >= 0) {
        usb_complete(transfer, (enum usb_status)status);
    } else if (s->request == GET_CONFIGURATION && to == TO_DEVICE) {
        transfer->actual = MIN(transfer->length, 1u);
        if (transfer->actual) {
            transfer->data[0] = h->configuration;
        }
        usb_complete(transfer, USB_DONE);
    } else if (s->request == SET_CONFIGURATION && to == TO_DEVICE) {
        queue_run(h, transfer, host_job_configure, s->value & 0xff, 0, NULL);
    } else if (s->request == SET_INTERFACE && to == TO_INTERFACE) {
        queue_run(h, transfer, host_job_interface, s->index, s->value, NULL);
    } else if (s->request == CLEAR_FEATURE && to == TO_ENDPOINT && s->value == ENDPOINT_HALT &&
               s->index & 0xf) {
        queue_run(h, transfer, host_job_clear_halt, s->index & 0x8f, 0, NULL);
    } else {
        return false;
    }
    return true;
}

/* --- the device --- */

static struct usb_host *host_of(struct usb_device *dev)
{
    return (struct usb_host *)dev;
}

static void host_submit(struct usb_device *dev, struct usb_transfer *transfer)
{
    struct usb_host *h = host_of(dev);
    bool control = transfer->kind == USB_CONTROL;

    if (h->gone || h->closing) {
        usb_complete(transfer, USB_GONE);
    } else if (h->queue.length + h->air.length >= HOST_TICKETS ||
               transfer->length > USB_MAX_TRANSFER) {
        usb_complete(transfer, USB_ERROR);
    } else if (control ? !(transfer->setup.type & USB_IN) && transfer->setup.length > CONTROL_DATA
                       : !(transfer->endpoint & 0xf)) {
        usb_complete(transfer, USB_STALL);
    } else if (!control || transfer->setup.type & 0x60 || !standard_request(h, transfer)) {
        struct ticket *t = host_ticket(h, transfer);
        g_queue_push_tail_link(&h->queue, &t->link);
        host_pump(h);
    }
}

static void host_cancel(struct usb_device *dev, struct usb_transfer *transfer)
{
    struct usb_host *h = host_of(dev);
    struct ticket *t = transfer->driver;

    if (h->closing_runs) {
        return; /* it comes back when the device is closed */
    }
    if (t == h->running) {
        t->transfer = NULL; /* what is being done cannot be undone */
        transfer->driver = NULL;
        usb_complete(transfer, USB_CANCELLED);
    } else if (t->flies) {
        t->cancelled = true;
        libusb_cancel_transfer(t->urb); /* fails if it is on its way back */
    } else {
        g_queue_unlink(&h->queue, &t->link);
        host_finish(t, USB_CANCELLED);
    }
}

static void host_reset(struct usb_device *dev)
{
    struct usb_host *h = host_of(dev);
    struct ticket *last = g_queue_peek_tail(&h->queue);

    h->configuration = 0;
    if (!h->gone && !h->closing && !(last && last->run == host_job_reset)) {
        queue_run(h, NULL, host_job_reset, 0, 0, NULL);
    }
}

/* The guest's controller waits for this; host controllers answer in milliseconds. */
static bool host_streams(struct usb_device *dev, const uint8_t *endpoints, unsigned n,
                         unsigned streams)
{
    struct usb_host *h = host_of(dev);
    uint8_t list[30];
    int got;

    if (h->gone || h->closing || h->running || !n || n > sizeof list) {
        return false;
    }
    memcpy(list, endpoints, n);
    if (!streams) {
        return libusb_free_streams(h->handle, list, (int)n) == 0;
    }
    got = libusb_alloc_streams(h->handle, streams, list, (int)n);
    return got > 0; /* perhaps fewer: a guest's driver uses no more than the device has */
}

static void host_free(struct usb_device *dev)
{
    g_clear_error(&host_of(dev)->error);
    g_free(dev);
}

static const struct usb_device_class host_class = {
    .name = "usb-host",
    .submit = host_submit,
    .cancel = host_cancel,
    .reset = host_reset,
    .streams = host_streams,
    .free = host_free,
};

/* --- opening and closing --- */

static void opened(struct usb_host *h, int result)
{
    if (h->error) {
        hosts--;
        h->events->opened(h->opaque, NULL, h->error);
        usb_device_unref(&h->usb);
        return;
    }
    h->open = true;
    h->source = host_source_new(h);
    h->events->opened(h->opaque, &h->usb, NULL);
}

struct usb_device *usb_host_open(int fd, const char *name, const struct usb_host_events *events,
                                 void *opaque)
{
    struct usb_host *h = g_new0(struct usb_host, 1);

    usb_device_init(&h->usb, &host_class, USB_SPEED_HIGH, name);
    h->events = events;
    h->opaque = opaque;
    h->fd = fd;
    g_queue_init(&h->queue);
    g_queue_init(&h->air);
    hosts++;
    queue_run(h, NULL, host_job_open, 0, 0, opened);
    return &h->usb;
}

static void closed(struct usb_host *h, int result)
{
    GList *link;

    while ((link = g_queue_pop_head_link(&h->air))) { /* did not come back */
        host_finish(link->data, USB_GONE);
    }
    hosts--;
    h->events->closed(h->opaque, &h->usb);
    usb_device_unref(&h->usb);
}

static void close_now(struct usb_host *h)
{
    h->closing_runs = true;
    g_clear_handle_id(&h->patience, g_source_remove);
    host_source_free(g_steal_pointer(&h->source), h->context);
    queue_run(h, NULL, host_job_close, 0, 0, closed);
}

static void close_when_idle(struct usb_host *h)
{
    if (h->closing && !h->closing_runs && !h->air.length) {
        close_now(h);
    }
}

static gboolean patience_ends(gpointer opaque)
{
    struct usb_host *h = opaque;

    machine_lock();
    h->patience = 0;
    device_log("usb", "%s: %u transfers do not come back", h->usb.name, h->air.length);
    close_now(h);
    machine_unlock();
    return G_SOURCE_REMOVE;
}

static gboolean start_closing(gpointer opaque)
{
    struct usb_host *h = opaque;

    machine_lock();
    close_when_idle(h);
    usb_device_unref(&h->usb);
    machine_unlock();
    return G_SOURCE_REMOVE;
}

void usb_host_close(struct usb_device *dev)
{
    struct usb_host *h = host_of(dev);
    GList *next;

    if (h->closing) {
        return;
    }
    h->closing = true;
    if (dev->port) {
        usb_detach(dev->port);
    }
    for (GList *link = h->air.head; link; link = next) {
        struct ticket *t = link->data;
        next = link->next;
        t->cancelled = true;
        libusb_cancel_transfer(t->urb);
    }
    give_up_queue(h);
    h->patience = g_timeout_add(PATIENCE_MS, patience_ends, h);
    later(h, start_closing);
}

void usb_host_wait_closed(void)
{
    gint64 end = g_get_monotonic_time() + WAIT_CLOSED_US;

    while (hosts && g_get_monotonic_time() < end) {
        if (!g_main_context_iteration(NULL, FALSE)) {
            g_usleep(1000);
        }
    }
}
