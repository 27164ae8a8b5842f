/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The USB devices of this computer, from sysfs, and their nodes. In a Flatpak the USB portal will
 * take this file's place: what is above it only lists, opens and is told of changes.
 *
 * What a device says of itself is not to be trusted: never markup, and cut to a length.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "usb/rule.h"

/* Why a device should stay with this computer. */
typedef enum {
    RS_USB_KEYBOARD = 1 << 0,
    RS_USB_MOUSE = 1 << 1,
    RS_USB_HUB = 1 << 2,
    RS_USB_DISK = 1 << 3, /* that is mounted, or otherwise in use */
} RsUsbReason;

typedef struct {
    char *port;   /* sysfs's name, "1-4.2": where it is plugged in */
    char *node;   /* /dev/bus/usb/001/005 */
    char *name;   /* for people */
    char *serial; /* or NULL */
    char *holder; /* the host's drivers, "usb-storage"; NULL: nobody */
    uint16_t vendor, product;
    const char *icon; /* of the icon theme */
    unsigned reasons;
} RsUsbDevice;

GPtrArray *rs_usb_list(void); /* of RsUsbDevice, by port; root hubs are left out */
/* Is this one among them, and has not been plugged in anew since? */
bool rs_usb_list_has(GPtrArray *list, const RsUsbDevice *device);
RsUsbDevice *rs_usb_device_copy(const RsUsbDevice *device);
void rs_usb_device_free(RsUsbDevice *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RsUsbDevice, rs_usb_device_free)
struct usb_identity rs_usb_identity(const RsUsbDevice *device); /* points into it */
/* One sentence about why it should stay here; NULL when nothing is in the way. */
char *rs_usb_why_not(const RsUsbDevice *device);
/* The node, for the monitor. -1 and a sentence with the remedy. */
int rs_usb_open(const RsUsbDevice *device, GError **error);

/* "changed": devices came or went, or their nodes' permissions changed; soon after it happened. */
#define RS_TYPE_USB_WATCH (rs_usb_watch_get_type())
G_DECLARE_FINAL_TYPE(RsUsbWatch, rs_usb_watch, RS, USB_WATCH, GObject)
RsUsbWatch *rs_usb_watch_new(void);
