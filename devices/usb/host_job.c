/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host: the calls that block (see host.h). They run in a pool, without the machine
 * lock; of a device one at a time, so what only they use needs no lock.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "host_internal.h"
#include "lock.h"

#define THREADS 8

/* --- the pool --- */

static enum usb_status status_of_error(int error)
{
    switch (error) {
    case 0:
        return USB_DONE;
    case LIBUSB_ERROR_NO_DEVICE:
        return USB_GONE;
    default:
        return USB_STALL; /* as a device answers a request that it does not support */
    }
}

static gboolean job_done(gpointer opaque)
{
    struct ticket *t = opaque;
    struct usb_host *h = t->host;
    int result = t->result;
    void (*then)(struct usb_host *, int) = t->then;

    machine_lock();
    h->running = NULL;
    if (!result && t->run == host_job_configure) {
        h->configuration = (uint8_t)t->a;
    }
    host_finish(t, status_of_error(result));
    if (then) {
        then(h, result);
    } else {
        if (result == LIBUSB_ERROR_NO_DEVICE) {
            host_lost(h);
        }
        host_pump(h);
    }
    machine_unlock();
    return G_SOURCE_REMOVE;
}

static void run(gpointer data, gpointer opaque)
{
    struct ticket *t = data;

    t->result = t->run(t->host, t->a, t->b);
    g_idle_add_full(G_PRIORITY_DEFAULT, job_done, t, NULL);
}

static unsigned endpoint_index(unsigned endpoint)
{
    return (endpoint & 0xf) | (endpoint & USB_IN ? 16 : 0);
}

/* The kernel takes transfers back when it changes the setting of their interface, or more, and
 * libusb would call them done. */
static void take_back(struct usb_host *h, const struct ticket *job)
{
    bool all = job->run == host_job_configure || job->run == host_job_reset;

    for (GList *link = h->air.head; link; link = link->next) {
        const struct ticket *t = link->data;
        unsigned endpoint = t->urb->endpoint;
        if (all || (job->run == host_job_interface && endpoint & 0xf &&
                    h->interface_of[endpoint_index(endpoint)] == job->a)) {
            libusb_cancel_transfer(t->urb);
        }
    }
}

void host_job_start(struct ticket *t)
{
    static GThreadPool *pool;

    take_back(t->host, t);
    if (!pool) {
        pool = g_thread_pool_new(run, NULL, THREADS, FALSE, NULL);
    }
    g_thread_pool_push(pool, t, NULL);
}

/* --- interfaces --- */

static void note_endpoints(struct usb_host *h, const struct libusb_interface *interface, unsigned n)
{
    for (int a = 0; a < interface->num_altsetting; a++) {
        const struct libusb_interface_descriptor *setting = &interface->altsetting[a];
        for (unsigned e = 0; e < setting->bNumEndpoints; e++) {
            h->interface_of[endpoint_index(setting->endpoint[e].bEndpointAddress)] = (uint8_t)n;
        }
    }
}

/* Calls `fn` for the number of each interface of the kernel's configuration; its first error. */
static int each_interface(struct usb_host *h, int (*fn)(struct usb_host *, unsigned))
{
    struct libusb_config_descriptor *config;
    uint32_t seen = 0;
    int error = libusb_get_active_config_descriptor(libusb_get_device(h->handle), &config);

    if (error) { /* not configured, or such that libusb cannot read it: requests still work */
        return error == LIBUSB_ERROR_NO_DEVICE ? error : 0;
    }
    for (unsigned i = 0; i < config->bNumInterfaces && !error; i++) {
        const struct libusb_interface *interface = &config->interface[i];
        unsigned n = interface->num_altsetting ? interface->altsetting[0].bInterfaceNumber : 0xff;
        if (n < HOST_INTERFACES && !(seen & 1u << n)) {
            seen |= 1u << n;
            note_endpoints(h, interface, n);
            error = fn(h, n);
        }
    }
    libusb_free_config_descriptor(config);
    return error;
}

/* The kernel's driver makes place, if there is one. */
static int take(struct usb_host *h, unsigned n)
{
    int error;

    if (libusb_kernel_driver_active(h->handle, (int)n) == 1) {
        h->had_driver |= 1u << n;
        libusb_detach_kernel_driver(h->handle, (int)n);
    }
    error = libusb_claim_interface(h->handle, (int)n);
    if (!error) {
        h->claimed |= 1u << n;
    }
    return error == LIBUSB_ERROR_NOT_FOUND ? 0 : error; /* the kernel did not like its descriptor */
}

static int to_first_setting(struct usb_host *h, unsigned n)
{
    return h->claimed & 1u << n ? libusb_set_interface_alt_setting(h->handle, (int)n, 0) : 0;
}

static void release_all(struct usb_host *h)
{
    for (unsigned n = 0; n < HOST_INTERFACES; n++) {
        if (h->claimed & 1u << n) {
            libusb_release_interface(h->handle, (int)n);
        }
    }
    h->claimed = 0;
}

/* --- the calls --- */

/* The kernel has the configuration that a guest asks for most often: its first. Choosing it once
 * more would have drivers of the host look at the device in between. */
int host_job_configure(struct usb_host *h, unsigned value, unsigned b)
{
    int error;

    if (value == 0) {
        return 0; /* for the guest; see GET_CONFIGURATION */
    }
    if (value == h->active) {
        error = h->touched ? each_interface(h, to_first_setting) : 0;
        h->touched = true;
        return error;
    }
    release_all(h);
    error = libusb_set_configuration(h->handle, (int)value);
    if (!error) {
        h->active = (uint8_t)value;
    }
    h->touched = true;
    return each_interface(h, take) ? LIBUSB_ERROR_BUSY : error;
}

int host_job_interface(struct usb_host *h, unsigned interface, unsigned alternate)
{
    return libusb_set_interface_alt_setting(h->handle, (int)interface, (int)alternate);
}

int host_job_clear_halt(struct usb_host *h, unsigned endpoint, unsigned b)
{
    return libusb_clear_halt(h->handle, (unsigned char)endpoint);
}

/* A device that comes back as another one is gone, says libusb by NOT_FOUND. */
int host_job_reset(struct usb_host *h, unsigned a, unsigned b)
{
    int error = libusb_reset_device(h->handle);

    h->touched = false;
    if (error) {
        device_log("usb", "%s cannot be reset: %s", h->usb.name, libusb_error_name(error));
    }
    return error == LIBUSB_ERROR_NOT_FOUND ? LIBUSB_ERROR_NO_DEVICE : error;
}

static void give_back(struct usb_host *h)
{
    release_all(h);
    if (h->active != h->first) {
        libusb_set_configuration(h->handle, h->first ? h->first : -1);
        return; /* the kernel looks for drivers by itself */
    }
    libusb_reset_device(h->handle);
    for (unsigned n = 0; n < HOST_INTERFACES; n++) {
        if (h->had_driver & 1u << n) {
            libusb_attach_kernel_driver(h->handle, (int)n);
        }
    }
}

/* libusb has forgotten them, but they must be freed before its context. */
static void free_urbs(struct usb_host *h)
{
    for (GList *link = h->air.head; link; link = link->next) {
        struct ticket *t = link->data;
        if (t->urb->type == LIBUSB_TRANSFER_TYPE_CONTROL) {
            g_free(t->urb->buffer);
        }
        t->urb->dev_handle = NULL;
        libusb_free_transfer(t->urb);
        t->urb = NULL;
    }
}

int host_job_close(struct usb_host *h, unsigned a, unsigned b)
{
    if (h->handle) {
        if (!h->gone) {
            give_back(h);
        }
        libusb_close(h->handle);
        free_urbs(h);
    }
    if (h->context) {
        libusb_exit(h->context);
    }
    close(h->fd);
    return 0;
}

static enum usb_speed speed_of(int speed)
{
    switch (speed) {
    case LIBUSB_SPEED_LOW:
        return USB_SPEED_LOW;
    case LIBUSB_SPEED_FULL:
        return USB_SPEED_FULL;
    case LIBUSB_SPEED_SUPER:
    case LIBUSB_SPEED_SUPER_PLUS:
        return USB_SPEED_SUPER;
    default:
        return USB_SPEED_HIGH;
    }
}

static void explain(struct usb_host *h, int error)
{
    const char *why = libusb_strerror((enum libusb_error)error);

    switch (error) {
    case LIBUSB_ERROR_BUSY:
        why = "another program of this computer uses it; end that program first";
        break;
    case LIBUSB_ERROR_ACCESS:
        why = "its device node was not opened for writing";
        break;
    case LIBUSB_ERROR_NO_DEVICE:
        why = "it is no longer there";
        break;
    default:
        break;
    }
    g_set_error(&h->error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s cannot be connected: %s.",
                h->usb.name, why);
}

int host_job_open(struct usb_host *h, unsigned a, unsigned b)
{
    int configuration = 0, error;

    libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
    error = libusb_init(&h->context);
    error = error ? error : libusb_wrap_sys_device(h->context, h->fd, &h->handle);
    if (!error) {
        h->usb.speed = speed_of(libusb_get_device_speed(libusb_get_device(h->handle)));
        error = libusb_get_configuration(h->handle, &configuration);
        h->active = h->first = (uint8_t)configuration;
        h->touched = true;
        error = error ? error : each_interface(h, take);
    }
    if (error) {
        explain(h, error);
        host_job_close(h, 0, 0);
    }
    return error;
}
