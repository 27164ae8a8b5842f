/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all USB devices share: being plugged in, and having transfers. */
#include "usb.h"

void usb_device_init(struct usb_device *dev, const struct usb_device_class *class,
                     enum usb_speed speed, const char *name)
{
    dev->class = class;
    dev->speed = speed;
    dev->references = 1;
    dev->name = g_strdup(name);
}

struct usb_device *usb_device_ref(struct usb_device *dev)
{
    dev->references++;
    return dev;
}

void usb_device_unref(struct usb_device *dev)
{
    if (--dev->references == 0) {
        g_free(dev->name);
        dev->class->free(dev);
    }
}

bool usb_attach(struct usb_port *port, struct usb_device *dev)
{
    if (port->device || dev->port || !(port->speeds & 1u << dev->speed)) {
        return false;
    }
    port->device = usb_device_ref(dev);
    dev->port = port;
    port->ops->attached(port);
    return true;
}

void usb_detach(struct usb_port *port)
{
    struct usb_device *dev = port->device;

    if (dev) {
        port->device = NULL;
        dev->port = NULL;
        port->ops->detached(port, dev);
        usb_device_unref(dev);
    }
}

void usb_wakeup(struct usb_device *dev)
{
    if (dev->port) {
        dev->port->ops->wakeup(dev->port);
    }
}

void usb_submit(struct usb_device *dev, struct usb_transfer *transfer)
{
    transfer->device = usb_device_ref(dev);
    transfer->actual = 0;
    transfer->driver = NULL;
    dev->class->submit(dev, transfer);
}

void usb_cancel(struct usb_transfer *transfer)
{
    transfer->device->class->cancel(transfer->device, transfer);
}

void usb_complete(struct usb_transfer *transfer, enum usb_status status)
{
    struct usb_device *dev = transfer->device;

    transfer->status = status;
    transfer->done(transfer);
    usb_device_unref(dev);
}
