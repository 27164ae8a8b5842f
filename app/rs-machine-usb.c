/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The USB devices of a machine (see rs-machine-usb.h). */
#include <gio/gunixfdlist.h>
#include <glib/gi18n-lib.h>

#include "rs-machine-internal.h"
#include "rs-machine-usb.h"

#define USB_MS 30000 /* a device may take seconds to be reset */

bool rs_machine_has_usb(RsMachine *self, const char *port)
{
    RsMonitorMachine *proxy = rs_machine_get_proxy(self);
    GVariant *list = proxy ? rs_monitor_machine_get_usb_devices(proxy) : NULL;
    GVariantIter iter;
    const char *other;

    if (!list || !g_variant_is_of_type(list, G_VARIANT_TYPE("a(ssqqs)"))) {
        return false;
    }
    g_variant_iter_init(&iter, list);
    while (g_variant_iter_next(&iter, "(&s&sqq&s)", &other, NULL, NULL, NULL, NULL)) {
        if (!g_strcmp0(other, port)) {
            return true;
        }
    }
    return false;
}

static bool connected(RsMachine *self, GTask *task)
{
    if (!rs_machine_get_proxy(self)) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                                _("The machine is not running"));
        return false;
    }
    return true;
}

static void called(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(source), NULL, result, &error);

    if (reply) {
        g_task_return_boolean(task, TRUE);
    } else {
        rs_machine_return_error(task, error);
    }
}

void rs_machine_attach_usb_async(RsMachine *self, const RsUsbDevice *device,
                                 GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(self, NULL, callback, data);
    g_autoptr(GUnixFDList) fds = NULL;
    GError *error = NULL;
    int fd;

    if (!connected(self, task)) {
        return;
    }
    if ((fd = rs_usb_open(device, &error)) < 0) {
        g_task_return_error(task, error);
        return;
    }
    fds = g_unix_fd_list_new_from_array(&fd, 1);
    g_dbus_proxy_call_with_unix_fd_list(
        G_DBUS_PROXY(rs_machine_get_proxy(self)), "AttachUsb",
        g_variant_new("(hssqqs)", 0, device->port, device->name, device->vendor, device->product,
                      device->serial ? device->serial : ""),
        G_DBUS_CALL_FLAGS_NONE, USB_MS, fds, NULL, called, g_steal_pointer(&task));
}

void rs_machine_detach_usb_async(RsMachine *self, const char *port, GAsyncReadyCallback callback,
                                 gpointer data)
{
    g_autoptr(GTask) task = g_task_new(self, NULL, callback, data);

    if (connected(self, task)) {
        g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(rs_machine_get_proxy(self)), "DetachUsb",
                                            g_variant_new("(s)", port), G_DBUS_CALL_FLAGS_NONE,
                                            USB_MS, NULL, NULL, called, g_steal_pointer(&task));
    }
}

bool rs_machine_usb_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

RsUsbRule rs_machine_get_usb_rule(RsMachine *self, const RsUsbDevice *device)
{
    const struct settings *settings = rs_machine_get_settings(self);
    struct usb_identity identity = rs_usb_identity(device);

    if (settings_usb_connects(settings, &identity)) {
        return RS_USB_CONNECT;
    }
    return settings_usb_ignores(settings, &identity) ? RS_USB_IGNORE : RS_USB_FORGET;
}

static char *port_rule(const char *port)
{
    return g_strconcat("port:", port, NULL);
}

bool rs_machine_connects_usb(RsMachine *self, const RsUsbDevice *device, bool port)
{
    const struct settings *settings = rs_machine_get_settings(self);
    struct usb_identity identity = rs_usb_identity(device);

    if (port) {
        g_auto(GStrv) rules = settings_usb_connect_list(settings);
        g_autofree char *rule = port_rule(device->port);
        return g_strv_contains((const char *const *)rules, rule);
    }
    identity.port = NULL;
    return settings_usb_connects(settings, &identity);
}

static bool full(GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                _("The machine remembers too many USB devices already; take some out of its "
                  "machine.ini"));
    return false;
}

bool rs_machine_set_usb_port_rule(RsMachine *self, const char *port, bool connect, GError **error)
{
    g_autoptr(RsSettings) settings = rs_machine_copy_settings(self, error);
    g_autofree char *rule = port_rule(port);

    if (!settings) {
        return false;
    }
    settings_usb_forget(settings, rule);
    if (connect && !settings_usb_connect(settings, rule)) {
        return full(error);
    }
    return rs_machine_set_settings(self, settings, error);
}

bool rs_machine_set_usb_rule(RsMachine *self, const RsUsbDevice *device, RsUsbRule rule,
                             GError **error)
{
    g_autoptr(RsSettings) settings = rs_machine_copy_settings(self, error);
    struct usb_identity identity = rs_usb_identity(device);
    g_autofree char *text = usb_rule_for(&identity);

    if (!settings) {
        return false;
    }
    identity.port = NULL;
    settings_usb_forget_device(settings, &identity);
    if ((rule == RS_USB_CONNECT && !settings_usb_connect(settings, text)) ||
        (rule == RS_USB_IGNORE && !settings_usb_ignore(settings, text))) {
        return full(error);
    }
    return rs_machine_set_settings(self, settings, error);
}
