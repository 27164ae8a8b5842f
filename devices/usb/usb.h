/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB port, and the device in it.
 *
 * A host controller or a hub owns ports; a device is emulated (a tablet, a disk) or stands for one
 * of the host's. Between the two go transfers (USB 2.0 chapter 5, USB 3.2 chapter 8): the
 * controller has turned the guest's descriptors into one flat buffer, and the device completes the
 * transfer at once or later. Tokens, NAKs, retries and data toggles do not exist here: a device
 * that has nothing to say yet keeps the transfer.
 *
 * Machine lock held throughout; asynchronous completions come from the default GMainContext.
 * Every field of a transfer that the guest chose may be nonsense, except that `data` has `length`
 * bytes.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum usb_speed { USB_SPEED_LOW, USB_SPEED_FULL, USB_SPEED_HIGH, USB_SPEED_SUPER };
enum usb_kind { USB_CONTROL, USB_ISOCHRONOUS, USB_BULK, USB_INTERRUPT }; /* bmAttributes' values */

enum usb_status {
    USB_DONE,      /* also when short: see actual */
    USB_STALL,     /* an endpoint that halts, or a control request that is not supported */
    USB_BABBLE,    /* the device sent more than was asked for */
    USB_ERROR,     /* no or a wrong answer on the wire */
    USB_GONE,      /* the device is no longer there */
    USB_CANCELLED, /* by usb_cancel() */
};

#define USB_MAX_TRANSFER (16u << 20) /* bytes; the controller refuses longer ones */
#define USB_MAX_PACKETS  1024u       /* of one isochronous transfer */
#define USB_IN           0x80u

struct usb_setup { /* USB 2.0, 9.3; host byte order */
    uint8_t type, request;
    uint16_t value, index, length;
};

struct usb_packet { /* isochronous: packets follow one another in `data` at multiples of their
                       length */
    uint32_t length, actual;
    enum usb_status status;
};

struct usb_device;

struct usb_transfer {
    struct usb_device *device; /* set by usb_submit(), which holds a reference until done() */
    uint8_t endpoint;          /* number, and USB_IN; control: USB_IN when data comes in */
    enum usb_kind kind;
    uint16_t stream;        /* bulk on USB 3: 0 when the endpoint has no streams */
    struct usb_setup setup; /* control */
    uint8_t *data;          /* the submitter's; stays where it is until done() */
    size_t length, actual;
    enum usb_status status;
    unsigned n_packets; /* isochronous */
    struct usb_packet *packets;
    uint64_t interval_ns; /* isochronous and interrupt: as the guest configured the endpoint */
    /* Called once for each submitted transfer, with `actual` and `status` set, perhaps from within
     * usb_submit() or usb_cancel(). The transfer is the submitter's again. */
    void (*done)(struct usb_transfer *transfer);
    void *opaque; /* the submitter's */
    void *driver; /* the device's, while it has the transfer */
};

struct state;

struct usb_device_class {
    const char *name; /* "usb-tablet": in logs and state files */
    void (*submit)(struct usb_device *dev, struct usb_transfer *transfer);
    /* It is to come back soon, as USB_CANCELLED (or completed, if that was quicker). */
    void (*cancel)(struct usb_device *dev, struct usb_transfer *transfer);
    void (*reset)(struct usb_device *dev); /* of the port: address 0, not configured */
    /* Optional. Streams on bulk endpoints (USB 3.2, 8.12.1.4): ids 1 to `streams`; 0 turns them
     * off. */
    bool (*streams)(struct usb_device *dev, const uint8_t *endpoints, unsigned n, unsigned streams);
    /* Optional: the device in one of a hub's ports (1 and up). */
    struct usb_device *(*downstream)(struct usb_device *dev, unsigned port);
    /* Optional: what is to be saved; without it the device is taken out of a restored machine. */
    void (*state)(struct usb_device *dev, struct state *state);
    bool (*busy)(struct usb_device *dev); /* optional: see device_class */
    void (*free)(struct usb_device *dev); /* all transfers are back */
};

/* Embedded at the start of a device's own struct. */
struct usb_device {
    const struct usb_device_class *class;
    enum usb_speed speed;
    struct usb_port *port; /* NULL: not plugged in */
    unsigned references;
    char *name; /* for people */
};

struct usb_port_ops {
    void (*attached)(struct usb_port *port);
    /* After `device` has become NULL: the owner cancels what it has with the device. A hub calls it
     * of the port that it is in itself, with the device that was below it. */
    void (*detached)(struct usb_port *port, struct usb_device *dev);
    void (*wakeup)(struct usb_port *port); /* the device asks for it (USB 2.0, 7.1.7.7) */
};
struct usb_port {
    const struct usb_port_ops *ops;
    void *opaque;
    unsigned number; /* 1 and up */
    unsigned speeds; /* 1 << enum usb_speed */
    struct usb_device *device;
};

void usb_device_init(struct usb_device *dev, const struct usb_device_class *class,
                     enum usb_speed speed, const char *name); /* one reference, the caller's */
struct usb_device *usb_device_ref(struct usb_device *dev);
void usb_device_unref(struct usb_device *dev);

/* False: something is in the port, or it is not for this speed. The port takes a reference. */
bool usb_attach(struct usb_port *port, struct usb_device *dev);
void usb_detach(struct usb_port *port); /* nothing there: fine */
void usb_wakeup(struct usb_device *dev);

void usb_submit(struct usb_device *dev, struct usb_transfer *transfer);
void usb_cancel(struct usb_transfer *transfer); /* after usb_submit(), before done() */
/* By the device. */
void usb_complete(struct usb_transfer *transfer, enum usb_status status);
