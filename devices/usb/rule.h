/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules for the host's USB devices, as settings and command line write them down:
 *
 *   046d:c52b           vendor and product, hexadecimal
 *   046d:c52b:AB%2C12   and the serial number (what is not a letter or digit is %XX)
 *   port:1-4.2          whatever is in this port of the host (sysfs's name)
 *
 * Shared by settings, front end and ringctl: GLib only.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define USB_RULES 64u /* of a machine */

struct usb_identity {
    uint16_t vendor, product;
    const char *serial; /* NULL or empty: it has none */
    const char *port;
};

bool usb_port_valid(const char *port);
bool usb_rule_valid(const char *rule);
bool usb_rule_matches(const char *rule, const struct usb_identity *device);
/* The most exact rule that goes with the device wherever it is plugged in; g_free. */
char *usb_rule_for(const struct usb_identity *device);
