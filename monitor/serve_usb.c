/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's USB devices that a machine has (see serve_usb.h). One is listed from when it is in a
 * port of the machine until the host has it again; its events come with the lock held.
 */
#include <unistd.h>

#include "lock.h"
#include "log.h"
#include "serve_usb.h"
#include "usb/host.h"

#define DEVICES 32u

struct device {
    struct serve_usb *usb;
    char *port, *name, *serial;
    uint16_t vendor, product;
    struct usb_device *dev; /* NULL: not opened yet */
    bool plugged, leaves;   /* in a port of the machine; being closed */
    GError *problem;        /* why it is not */
    control_done done;      /* who waits for an attach or a detach */
    void *data;
};

struct serve_usb {
    struct machine *machine;
    GPtrArray *devices;
    void (*changed)(void *opaque);
    void *opaque;
    bool ending;
};

static void device_free(void *opaque)
{
    struct device *d = opaque;

    g_clear_error(&d->problem);
    g_free(d->port);
    g_free(d->name);
    g_free(d->serial);
    g_free(d);
}

/* The list is told before whoever waits is answered. */
static void answer(struct device *d, const GError *error)
{
    control_done done = d->done;

    d->done = NULL;
    if (!d->usb->ending) {
        d->usb->changed(d->usb->opaque);
    }
    if (done) {
        done(d->data, error);
    }
}

static void forget(struct device *d, const GError *error)
{
    guint index;

    g_ptr_array_find(d->usb->devices, d, &index);
    g_ptr_array_steal_index_fast(d->usb->devices, index);
    answer(d, error);
    device_free(d);
}

static const char *speed_name(enum usb_speed speed)
{
    static const char *const names[] = {"low", "full", "high", "super"};

    return names[speed];
}

static GError *plug(struct device *d)
{
    struct usb_port *port = machine_usb_free_port(d->usb->machine, d->dev->speed);

    d->plugged = port && usb_attach(port, d->dev);
    return d->plugged ? NULL
                      : g_error_new(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE,
                                    "The machine has no free USB port for %s (%s speed); "
                                    "disconnect another device first.",
                                    d->name, speed_name(d->dev->speed));
}

static void opened(void *opaque, struct usb_device *dev, const GError *error)
{
    struct device *d = opaque;

    if (!dev) {
        log_message("%s", error->message);
        forget(d, error);
        return;
    }
    d->dev = dev;
    d->problem = d->usb->ending ? g_error_new_literal(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE,
                                                      "The machine is just ending.")
                                : plug(d);
    if (d->problem) { /* said when the host has it again */
        d->leaves = true;
        usb_host_close(dev);
        return;
    }
    log_message("USB: %s is connected (%s speed)", d->name, speed_name(dev->speed));
    answer(d, NULL);
}

static void gone(void *opaque, struct usb_device *dev)
{
    struct device *d = opaque;

    log_message("USB: %s was pulled out", d->name);
    d->leaves = true;
    usb_host_close(dev);
}

static void closed(void *opaque, struct usb_device *dev)
{
    struct device *d = opaque;

    if (d->plugged) {
        log_message("USB: %s is disconnected", d->name);
    }
    forget(d, d->problem);
}

static const struct usb_host_events events = {opened, gone, closed};

static struct device *find(struct serve_usb *usb, const char *port)
{
    for (unsigned i = 0; i < usb->devices->len; i++) {
        struct device *d = usb->devices->pdata[i];
        if (g_str_equal(d->port, port)) {
            return d;
        }
    }
    return NULL;
}

static void refuse(control_done done, void *data, const char *why, const char *what)
{
    g_autoptr(GError) error =
        g_error_new(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE, "%s %s.", what, why);

    done(data, error);
}

/* Several clients may carry out the same rule: the second finds it done. */
static bool is_there(struct serve_usb *usb, const struct control_usb *device, control_done done,
                     void *data)
{
    const struct device *d = find(usb, device->port);

    if (d && d->leaves) {
        refuse(done, data, "is just being disconnected; try again", d->name);
    } else if (d) {
        done(data, NULL);
    } else if (usb->devices->len >= DEVICES) {
        refuse(done, data, "cannot be connected: the machine has too many devices", device->name);
        return true;
    }
    return d != NULL;
}

void serve_usb_attach(struct serve_usb *usb, const struct control_usb *device, int fd,
                      control_done done, void *data)
{
    struct device *d;

    if (is_there(usb, device, done, data)) {
        close(fd);
        return;
    }
    d = g_new0(struct device, 1);
    *d = (struct device){.usb = usb,
                         .port = g_strdup(device->port),
                         .name = g_strdup(device->name),
                         .serial = g_strdup(device->serial),
                         .vendor = device->vendor,
                         .product = device->product,
                         .done = done,
                         .data = data};
    g_ptr_array_add(usb->devices, d);
    machine_lock();
    usb_host_open(fd, d->name, &events, d);
    machine_unlock();
}

void serve_usb_detach(struct serve_usb *usb, const char *port, control_done done, void *data)
{
    struct device *d = find(usb, port);

    if (!d || !d->plugged || d->done) {
        refuse(done, data,
               d ? "is just being connected or disconnected" : "is not connected to the machine",
               d ? d->name : "Such a device");
        return;
    }
    d->done = done;
    d->data = data;
    d->leaves = true;
    machine_lock();
    usb_host_close(d->dev);
    machine_unlock();
}

void serve_usb_publish(struct serve_usb *usb, struct control *control)
{
    struct control_usb list[DEVICES];
    unsigned n = 0;

    for (unsigned i = 0; i < usb->devices->len; i++) {
        const struct device *d = usb->devices->pdata[i];
        if (d->plugged) {
            list[n++] = (struct control_usb){d->port, d->name, d->serial, d->vendor, d->product};
        }
    }
    control_set_usb(control, list, n);
}

struct serve_usb *serve_usb_new(struct machine *machine, void (*changed)(void *opaque),
                                void *opaque)
{
    struct serve_usb *usb = g_new0(struct serve_usb, 1);

    usb->machine = machine;
    usb->changed = changed;
    usb->opaque = opaque;
    usb->devices = g_ptr_array_new_with_free_func(device_free);
    return usb;
}

void serve_usb_free(struct serve_usb *usb)
{
    if (!usb) {
        return;
    }
    usb->ending = true;
    machine_lock();
    for (unsigned i = 0; i < usb->devices->len; i++) {
        struct device *d = usb->devices->pdata[i];
        if (d->dev) {
            usb_host_close(d->dev); /* its end comes from the main loop */
        }
    }
    machine_unlock();
    usb_host_wait_closed();
    if (usb->devices->len) { /* the host's kernel holds a call; this process ends anyhow */
        log_message("USB: %u devices could not be given back", usb->devices->len);
        return;
    }
    g_ptr_array_unref(usb->devices);
    g_free(usb);
}
