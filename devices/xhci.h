/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB host controller (eXtensible Host Controller Interface for USB, revision 1.1; sections cited
 * are of it) with eight USB 2 and eight USB 3 ports, and 64-bit addresses, 64 device slots, eight
 * interrupters, primary streams.
 *
 * Not there: virtual functions, debug ports, secondary stream arrays, power management of links
 * beyond U0 and U3, the moderation of interrupts (an interrupter is silent until the guest has
 * cleared its Event Handler Busy flag, which does as much).
 *
 * Machine lock held for all functions.
 */
#pragma once

#include "pci.h"
#include "usb/usb.h"

struct xhci_config {
    struct pci_config pci;
};

extern const struct device_class xhci_device;

/* A port with nothing in it for a device of that speed; NULL: all are taken. */
struct usb_port *xhci_free_port(void *dev, enum usb_speed speed);
/* Port 1 to 16, or NULL: 1 to 8 are the USB 2 ports, 9 to 16 the USB 3 ports. */
struct usb_port *xhci_port(void *dev, unsigned number);
