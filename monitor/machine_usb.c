/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's USB ports and what is in them from the start.
 */
#include <gio/gio.h>

#include "machine_internal.h"
#include "usb/hid.h"
#include "xhci.h"

static bool plug(struct machine *m, struct usb_device *dev, GError **error)
{
    struct usb_port *port = xhci_free_port(m->xhci, dev->speed);

    g_ptr_array_add(m->usb, dev);
    if (!port || !usb_attach(port, dev)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "There is no USB port left for the device \"%s\"", dev->name);
        return false;
    }
    return true;
}

bool machine_usb_create(struct machine *m, GError **error)
{
    m->usb = g_ptr_array_new_with_free_func((GDestroyNotify)usb_device_unref);
    return plug(m, usb_tablet_new(m->input), error);
}

struct usb_port *machine_usb_free_port(struct machine *m, enum usb_speed speed)
{
    return xhci_free_port(m->xhci, speed);
}
