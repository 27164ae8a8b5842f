/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the host's devices share: host.c has the transfers, host_job.c the calls that
 * block, host_source.c libusb's descriptors in the main loop.
 */
#pragma once

#include <libusb.h>

#include "host.h"

#define HOST_INTERFACES 32u   /* the kernel's limit: USB_MAXINTERFACES */
#define HOST_TICKETS    1024u /* transfers that a device keeps */

struct usb_host;

/* Something that is to be done in its turn: a transfer for the kernel, or a call that blocks. It is
 * in the queue, or runs in the pool, or its `urb` is in libusb. */
struct ticket {
    GList link; /* in queue or air; data is the ticket */
    struct usb_host *host;
    struct usb_transfer *transfer; /* NULL: nobody waits for it (any more) */
    struct libusb_transfer *urb;
    bool flies; /* libusb has it: in air */
    bool cancelled;
    int (*run)(struct usb_host *host, unsigned a, unsigned b); /* libusb's error, or 0 */
    unsigned a, b;
    int result;
    void (*then)(struct usb_host *host, int result); /* main thread; instead of `transfer` */
};

struct usb_host {
    struct usb_device usb;
    const struct usb_host_events *events;
    void *opaque;
    libusb_context *context;
    libusb_device_handle *handle;
    GSource *source;
    int fd;
    GError *error; /* why it could not be opened */

    GQueue queue, air;      /* tickets that wait; that libusb has */
    struct ticket *running; /* in the pool */
    uint8_t configuration;  /* the guest's; 0 since a reset */
    bool open, gone, closing, closing_runs;
    guint patience; /* source: closes though transfers are not back */

    /* Of the call that runs. */
    uint8_t active, first;        /* configurations: the kernel's now, and when it was opened */
    uint32_t claimed, had_driver; /* a bit for each interface */
    uint8_t interface_of[32];     /* endpoints: number, and 16 for those that come in */
    bool touched;                 /* alternate settings may be other than 0 */
};

/* host.c */
void host_pump(struct usb_host *h);                         /* does what can be done of the queue */
void host_lost(struct usb_host *h);                         /* no longer there */
void host_finish(struct ticket *t, enum usb_status status); /* frees it */
struct ticket *host_ticket(struct usb_host *h, struct usb_transfer *transfer);

/* host_job.c */
void host_job_start(struct ticket *t);
int host_job_open(struct usb_host *h, unsigned a, unsigned b);
int host_job_close(struct usb_host *h, unsigned a, unsigned b);
int host_job_reset(struct usb_host *h, unsigned a, unsigned b);
int host_job_configure(struct usb_host *h, unsigned value, unsigned b);
int host_job_interface(struct usb_host *h, unsigned interface, unsigned alternate);
int host_job_clear_halt(struct usb_host *h, unsigned endpoint, unsigned b);

/* host_source.c */
GSource *host_source_new(struct usb_host *h);
void host_source_free(GSource *source, libusb_context *context);
