/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules for the host's USB devices (see rule.h). */
#include <string.h>

#include "rule.h"

#define PORT_PREFIX  "port:"
#define PORT_CHARS   32
#define SERIAL_CHARS 400 /* escaped */

bool usb_port_valid(const char *port)
{
    size_t n = strlen(port);

    return n && n <= PORT_CHARS && strspn(port, "0123456789-.") == n;
}

static bool hex4(const char *text, uint16_t *out)
{
    unsigned value = 0;

    for (unsigned i = 0; i < 4; i++) {
        if (!g_ascii_isxdigit(text[i])) {
            return false;
        }
        value = value << 4 | (unsigned)g_ascii_xdigit_value(text[i]);
    }
    *out = (uint16_t)value;
    return true;
}

/* serial: the rest, NULL when there is none; g_free. */
static bool rule_parse(const char *rule, uint16_t *vendor, uint16_t *product, char **serial)
{
    *serial = NULL;
    if (!hex4(rule, vendor) || rule[4] != ':' || !hex4(rule + 5, product)) {
        return false;
    }
    if (!rule[9]) {
        return true;
    }
    if (rule[9] != ':' || !rule[10] || strlen(rule + 10) > SERIAL_CHARS ||
        strpbrk(rule + 10, ", \t\n")) {
        return false;
    }
    *serial = g_uri_unescape_string(rule + 10, NULL);
    return *serial != NULL;
}

bool usb_rule_valid(const char *rule)
{
    g_autofree char *serial = NULL;
    uint16_t vendor, product;

    return g_str_has_prefix(rule, PORT_PREFIX) ? usb_port_valid(rule + strlen(PORT_PREFIX))
                                               : rule_parse(rule, &vendor, &product, &serial);
}

bool usb_rule_matches(const char *rule, const struct usb_identity *device)
{
    g_autofree char *serial = NULL;
    uint16_t vendor, product;

    if (g_str_has_prefix(rule, PORT_PREFIX)) {
        return g_strcmp0(rule + strlen(PORT_PREFIX), device->port) == 0;
    }
    return rule_parse(rule, &vendor, &product, &serial) && vendor == device->vendor &&
           product == device->product && (!serial || g_strcmp0(serial, device->serial) == 0);
}

/* The escape leaves "~" and the like as they are; that does not matter. */
char *usb_rule_for(const struct usb_identity *device)
{
    g_autofree char *serial =
        device->serial ? g_uri_escape_string(device->serial, NULL, FALSE) : NULL;
    bool fits = serial && *serial && strlen(serial) <= SERIAL_CHARS;

    return g_strdup_printf("%04x:%04x%s%s", device->vendor, device->product, fits ? ":" : "",
                           fits ? serial : "");
}
