/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Machine interface: each method is one of the control server's operations.
 */
#include <gio/gunixfdlist.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control_internal.h"
#include "usb/rule.h"

typedef void (*complete_fn)(RsMonitorMachine *machine, GDBusMethodInvocation *invocation);

static void answer(bool ok, GError *error, RsMonitorMachine *machine,
                   GDBusMethodInvocation *invocation, complete_fn complete)
{
    if (ok) {
        complete(machine, invocation);
    } else {
        control_return_error(invocation, error);
    }
}

static gboolean handle_pause(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                             gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->pause(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_pause);
    return TRUE;
}

static gboolean handle_resume(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                              gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->resume(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_resume);
    return TRUE;
}

static gboolean handle_suspend(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                               gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->suspend(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_suspend);
    return TRUE;
}

static gboolean handle_reset(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                             gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->reset(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_reset);
    return TRUE;
}

static gboolean handle_shut_down(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                 gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->shut_down(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_shut_down);
    return TRUE;
}

static gboolean handle_power_off(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                 gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->power_off(control->opaque, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_power_off);
    return TRUE;
}

static gboolean handle_insert_medium(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                     const char *path, gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = g_path_is_absolute(path);

    if (!ok) {
        g_set_error(&error, CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                    "\"%s\" is not an absolute path.", path);
    } else {
        ok = control->ops->insert_medium(control->opaque, path, &error);
    }
    answer(ok, error, machine, invocation, rs_monitor_machine_complete_insert_medium);
    return TRUE;
}

static gboolean handle_eject_medium(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                    gboolean force, gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->eject_medium(control->opaque, force, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_eject_medium);
    return TRUE;
}

static gboolean handle_set_cable(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                 gboolean plugged, gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->set_cable(control->opaque, plugged, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_set_cable);
    return TRUE;
}

static gboolean handle_add_forward(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                   const char *spec, gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->forward(control->opaque, spec, true, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_add_forward);
    return TRUE;
}

static gboolean handle_remove_forward(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                      const char *spec, gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->forward(control->opaque, spec, false, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_remove_forward);
    return TRUE;
}

static gboolean handle_get_counters(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                    gpointer opaque)
{
    struct control *control = opaque;
    GVariantBuilder counters;

    g_variant_builder_init(&counters, G_VARIANT_TYPE("a{st}"));
    control->ops->counters(control->opaque, &counters);
    rs_monitor_machine_complete_get_counters(machine, invocation, g_variant_builder_end(&counters));
    return TRUE;
}

/* The descriptor that a message brought, or -1. */
static int message_fd(GUnixFDList *fds, GVariant *handle)
{
    gint32 index = handle ? g_variant_get_handle(handle) : -1;

    return fds && index >= 0 && index < g_unix_fd_list_get_length(fds)
               ? g_unix_fd_list_get(fds, index, NULL)
               : -1;
}

/* What is written to goes no further than the disk: a pipe's reader could hold up the machine. */
static bool is_regular(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static gboolean handle_start_capture(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                     GUnixFDList *fds, GVariant *handle, gpointer opaque)
{
    struct control *control = opaque;
    int fd = message_fd(fds, handle);
    GError *error = NULL;
    bool ok;

    if (is_regular(fd)) {
        ok = control->ops->capture(control->opaque, fd, &error);
    } else {
        ok = false;
        if (fd >= 0) {
            close(fd);
        }
        error = g_error_new(CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                            "Packets go to a regular file only.");
    }
    if (ok) {
        rs_monitor_machine_complete_start_capture(machine, invocation, NULL);
    } else {
        control_return_error(invocation, error);
    }
    return TRUE;
}

static gboolean handle_stop_capture(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                    gpointer opaque)
{
    struct control *control = opaque;
    GError *error = NULL;
    bool ok = control->ops->capture(control->opaque, -1, &error);

    answer(ok, error, machine, invocation, rs_monitor_machine_complete_stop_capture);
    return TRUE;
}

static void attach_usb_done(void *data, const GError *error)
{
    GDBusMethodInvocation *invocation = data;

    if (error) {
        control_return_error(invocation, g_error_copy(error));
    } else {
        rs_monitor_machine_complete_attach_usb(NULL, invocation, NULL);
    }
}

static gboolean handle_attach_usb(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                  GUnixFDList *fds, GVariant *handle, const char *port,
                                  const char *name, guint16 vendor, guint16 product,
                                  const char *serial, gpointer opaque)
{
    struct control *control = opaque;
    struct control_usb device = {port, name, serial, vendor, product};
    int fd = message_fd(fds, handle);

    if (fd < 0 || !usb_port_valid(port) || strlen(name) > CONTROL_TEXT ||
        strlen(serial) > CONTROL_TEXT) {
        if (fd >= 0) {
            close(fd);
        }
        control_return_error(invocation, g_error_new(CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                                                     "\"%s\" is no USB device of the host.", port));
    } else {
        control->ops->attach_usb(control->opaque, &device, fd, attach_usb_done, invocation);
    }
    return TRUE;
}

static void detach_usb_done(void *data, const GError *error)
{
    GDBusMethodInvocation *invocation = data;

    if (error) {
        control_return_error(invocation, g_error_copy(error));
    } else {
        rs_monitor_machine_complete_detach_usb(NULL, invocation);
    }
}

static gboolean handle_detach_usb(RsMonitorMachine *machine, GDBusMethodInvocation *invocation,
                                  const char *port, gpointer opaque)
{
    struct control *control = opaque;

    control->ops->detach_usb(control->opaque, port, detach_usb_done, invocation);
    return TRUE;
}

void control_machine_connect(struct control *control)
{
    static const struct {
        const char *signal;
        GCallback handler;
    } methods[] = {
        {"handle-pause", G_CALLBACK(handle_pause)},
        {"handle-resume", G_CALLBACK(handle_resume)},
        {"handle-suspend", G_CALLBACK(handle_suspend)},
        {"handle-reset", G_CALLBACK(handle_reset)},
        {"handle-shut-down", G_CALLBACK(handle_shut_down)},
        {"handle-power-off", G_CALLBACK(handle_power_off)},
        {"handle-insert-medium", G_CALLBACK(handle_insert_medium)},
        {"handle-eject-medium", G_CALLBACK(handle_eject_medium)},
        {"handle-set-cable", G_CALLBACK(handle_set_cable)},
        {"handle-add-forward", G_CALLBACK(handle_add_forward)},
        {"handle-remove-forward", G_CALLBACK(handle_remove_forward)},
        {"handle-get-counters", G_CALLBACK(handle_get_counters)},
        {"handle-start-capture", G_CALLBACK(handle_start_capture)},
        {"handle-stop-capture", G_CALLBACK(handle_stop_capture)},
        {"handle-attach-usb", G_CALLBACK(handle_attach_usb)},
        {"handle-detach-usb", G_CALLBACK(handle_detach_usb)},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_signal_connect(control->machine, methods[i].signal, methods[i].handler, control);
    }
}
