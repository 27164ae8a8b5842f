/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device of the host, for a port of the machine: libusb on a node of usbfs that somebody else has
 * opened. Nothing is looked for and no right is needed but the descriptor.
 *
 * Transfers go to the kernel as they are and come back through a GSource of the default context.
 * What the kernel must know of (configurations, alternate settings, halts, resets) is done by
 * calls that may take seconds; they run in a thread of a pool, one at a time for each device, while
 * the device's other transfers wait and the machine does not.
 *
 * Main thread, machine lock held.
 */
#pragma once

#include <gio/gio.h>

#include "usb.h"

struct usb_host_events {
    /* Called once: the device, whose speed is known now and whose interfaces are taken from the
     * host's drivers; or NULL and the error. */
    void (*opened)(void *opaque, struct usb_device *dev, const GError *error);
    /* It was pulled out, or will not be used any more by the kernel: to be closed now. */
    void (*gone)(void *opaque, struct usb_device *dev);
    /* Called once after usb_host_close(): the host has it again; the pointer ends here. */
    void (*closed)(void *opaque, struct usb_device *dev);
};

/* Takes `fd`. `name` is for people. */
struct usb_device *usb_host_open(int fd, const char *name, const struct usb_host_events *events,
                                 void *opaque);
/* Not before opened(). Takes it out of its port, resets it and gives it back to the host's drivers.
 */
void usb_host_close(struct usb_device *dev);
/* Runs the default context until all are closed, for some seconds at most. Lock not held. */
void usb_host_wait_closed(void);
