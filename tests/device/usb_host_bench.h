/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A port for a device of the host, and transfers that wait for their end: for tests and for the
 * testbed's program, which have no controller.
 */
#pragma once

#include <string.h>

#include "lock.h"
#include "usb/host.h"

#define BENCH_BYTES 65536u

struct host_bench;

struct transfer {
    struct usb_transfer usb;
    struct host_bench *bench;
    bool done;
    uint8_t data[BENCH_BYTES];
    struct usb_packet packets[32];
};

struct host_bench {
    struct usb_port port;
    struct usb_device *dev;
    char *error;
    bool answered, gone, closed;
    GPtrArray *inside; /* transfers under way */
};

static bool bench_until(const bool *flag, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;

    while (!*flag && g_get_monotonic_time() < end) {
        if (!g_main_context_iteration(NULL, FALSE)) {
            g_usleep(500);
        }
    }
    return *flag;
}

static void port_attached(struct usb_port *port)
{
}

/* As a controller does. */
static void port_detached(struct usb_port *port, struct usb_device *dev)
{
    struct host_bench *b = port->opaque;

    for (unsigned i = b->inside->len; i > 0; i--) {
        usb_cancel(&((struct transfer *)b->inside->pdata[i - 1])->usb);
    }
}

static const struct usb_port_ops port_ops = {
    .attached = port_attached, .detached = port_detached, .wakeup = port_attached};

static void bench_opened(void *opaque, struct usb_device *dev, const GError *error)
{
    struct host_bench *b = opaque;

    b->answered = true;
    b->dev = dev;
    b->error = error ? g_strdup(error->message) : NULL;
    if (dev) {
        usb_attach(&b->port, dev);
    }
}

static void bench_gone(void *opaque, struct usb_device *dev)
{
    ((struct host_bench *)opaque)->gone = true;
    usb_host_close(dev);
}

static void bench_closed(void *opaque, struct usb_device *dev)
{
    ((struct host_bench *)opaque)->closed = true;
    ((struct host_bench *)opaque)->dev = NULL;
}

static const struct usb_host_events bench_events = {bench_opened, bench_gone, bench_closed};

/* False: see b->error. */
static bool bench_open(struct host_bench *b, int fd, const char *name)
{
    *b = (struct host_bench){.port = {.ops = &port_ops, .opaque = b, .number = 1, .speeds = 0xf},
                             .inside = g_ptr_array_new()};
    machine_lock();
    usb_host_open(fd, name, &bench_events, b);
    machine_unlock();
    bench_until(&b->answered, 10000);
    return b->dev != NULL;
}

static bool bench_close(struct host_bench *b)
{
    bool ok;

    if (b->dev) {
        machine_lock();
        usb_host_close(b->dev);
        machine_unlock();
        bench_until(&b->closed, 10000);
    }
    ok = b->inside->len == 0;
    g_ptr_array_unref(b->inside);
    g_free(b->error);
    return ok;
}

static void transfer_done(struct usb_transfer *usb)
{
    struct transfer *t = usb->opaque;

    g_ptr_array_remove(t->bench->inside, t);
    t->done = true;
}

static struct transfer *transfer_new(struct host_bench *b, enum usb_kind kind, unsigned endpoint,
                                     size_t length)
{
    struct transfer *t = g_new0(struct transfer, 1);

    t->bench = b;
    t->usb.kind = kind;
    t->usb.endpoint = (uint8_t)endpoint;
    t->usb.data = t->data;
    t->usb.length = length;
    t->usb.done = transfer_done;
    t->usb.opaque = t;
    return t;
}

static void transfer_submit(struct transfer *t)
{
    t->done = false;
    g_ptr_array_add(t->bench->inside, t);
    machine_lock();
    usb_submit(t->bench->dev, &t->usb);
    machine_unlock();
}

static void transfer_cancel(struct transfer *t)
{
    machine_lock();
    usb_cancel(&t->usb);
    machine_unlock();
}

/* -1: it does not end. */
static int transfer_wait(struct transfer *t, unsigned ms)
{
    return bench_until(&t->done, ms) ? (int)t->usb.status : -1;
}

/* Submits it and waits. */
static int transfer_run(struct transfer *t)
{
    transfer_submit(t);
    return transfer_wait(t, 10000);
}

/* Data goes out of `out`, or into it; how much in `length` and out of it. */
static int bench_control(struct host_bench *b, unsigned type, unsigned request, unsigned value,
                         unsigned index, void *data, size_t *length)
{
    size_t n = length ? *length : 0;
    struct transfer *t = transfer_new(b, USB_CONTROL, type & USB_IN, n);
    int status;

    t->usb.setup = (struct usb_setup){(uint8_t)type, (uint8_t)request, (uint16_t)value,
                                      (uint16_t)index, (uint16_t)n};
    if (!(type & USB_IN) && n) {
        memcpy(t->data, data, n);
    }
    status = transfer_run(t);
    if (type & USB_IN && n) {
        memcpy(data, t->data, t->usb.actual);
        *length = t->usb.actual;
    }
    if (status >= 0) {
        g_free(t);
    }
    return status;
}

/* The configuration that it has then. */
static int bench_reset(struct host_bench *b)
{
    uint8_t configuration = 0xff, state[2];
    size_t n = 1, two = 2;
    int status;

    machine_lock();
    b->dev->class->reset(b->dev);
    machine_unlock();
    bench_control(b, 0x80, 0, 0, 0, state, &two); /* when it is over */
    status = bench_control(b, 0x80, 8, 0, 0, &configuration, &n);
    return status ? status : configuration;
}
