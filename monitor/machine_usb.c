/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's USB ports and what is in them from the start: a tablet, which guests that drive it
 * have as their pointer, and what the settings say. Game pads come and go with whoever plays.
 */
#include <gio/gio.h>
#include <string.h>

#include "lock.h"
#include "machine_internal.h"
#include "usb/hid.h"
#include "usb/hub.h"
#include "usb/storage.h"
#include "xhci.h"

/* `port` NULL: a root port. Takes the reference. */
static bool plug(struct machine *m, struct usb_device *dev, struct usb_port *port, GError **error)
{
    if (!port) {
        port = xhci_free_port(m->xhci, dev->speed);
    }
    g_ptr_array_add(m->usb, dev);
    if (!port || !usb_attach(port, dev)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "There is no USB port left for the device \"%s\"", dev->name);
        return false;
    }
    return true;
}

static bool plug_input(struct machine *m, struct usb_device *dev, struct usb_device *hub,
                       GError **error)
{
    return plug(m, dev, hub ? usb_hub_free_port(hub, dev->speed) : NULL, error);
}

static void storage_error(void *opaque, struct block *block, int error_errno)
{
    machine_disk_error(opaque, block, error_errno);
}

static bool plug_disks(struct machine *m, GError **error)
{
    for (unsigned i = 0; i < m->config.disk_count; i++) {
        g_autofree char *serial = g_strdup_printf("%012X", i + 1);
        struct usb_storage_config config = {m->disk[i], serial, storage_error, m};
        if (m->config.disks[i].usb && !plug(m, usb_storage_new(&config), NULL, error)) {
            return false;
        }
    }
    return true;
}

bool machine_usb_create(struct machine *m, GError **error)
{
    struct usb_device *hub = m->config.usb_hub ? usb_hub_new() : NULL;

    m->usb = g_ptr_array_new_with_free_func((GDestroyNotify)usb_device_unref);
    return (!hub || plug(m, hub, NULL, error)) &&
           plug_input(m, usb_tablet_new(m->input), hub, error) &&
           (!m->config.usb_keyboard || plug_input(m, usb_keyboard_new(m->input), hub, error)) &&
           plug_disks(m, error);
}

void machine_usb_retry(struct machine *m)
{
    for (unsigned i = 0; i < m->usb->len; i++) {
        struct usb_device *dev = m->usb->pdata[i];
        if (strcmp(dev->class->name, "usb-storage") == 0) {
            usb_storage_retry(dev);
        }
    }
}

void machine_usb_destroy(struct machine *m)
{
    for (unsigned i = 0; i < INPUT_PADS; i++) {
        g_clear_pointer(&m->pad[i], usb_device_unref);
    }
    g_clear_pointer(&m->usb, g_ptr_array_unref);
}

bool machine_plug_pad(struct machine *m, unsigned pad, GError **error)
{
    struct usb_device *dev = usb_pad_new();
    struct usb_port *port;
    bool ok;

    machine_lock();
    port = xhci_free_port(m->xhci, dev->speed);
    ok = port && usb_attach(port, dev);
    if (ok) {
        m->pad[pad] = dev;
    } else {
        usb_device_unref(dev);
    }
    machine_unlock();
    if (!ok) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "The machine has no free USB port for a game pad; disconnect another device "
                    "first.");
    }
    return ok;
}

void machine_unplug_pad(struct machine *m, unsigned pad)
{
    machine_lock();
    if (m->pad[pad]->port) {
        usb_detach(m->pad[pad]->port);
    }
    g_clear_pointer(&m->pad[pad], usb_device_unref);
    machine_unlock();
}

void machine_set_pad(struct machine *m, unsigned pad, const struct input_pad *state)
{
    machine_lock();
    usb_pad_set(m->pad[pad], state);
    machine_unlock();
}

struct usb_port *machine_usb_free_port(struct machine *m, enum usb_speed speed)
{
    return xhci_free_port(m->xhci, speed);
}
