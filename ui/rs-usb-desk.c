/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where this computer's USB devices go (see rs-usb-desk.h). */
#include <adwaita.h>
#include <glib/gi18n-lib.h>

#include "rs-console.h"
#include "rs-state.h"
#include "rs-usb-desk.h"

#define STARTED "usb-started" /* of a machine: its rules are to be carried out when it runs */

struct _RsUsbDesk {
    GObject parent_instance;
    RsLibrary *library;
    RsUsbWatch *watch;
    GPtrArray *devices;
    GtkWindow *question; /* weak: one at a time */
};

G_DEFINE_FINAL_TYPE(RsUsbDesk, rs_usb_desk, G_TYPE_OBJECT)

static guint changed_signal;

/* A device and where it is to go, for as long as a dialog or a call takes. */
typedef struct {
    RsUsbDesk *desk;
    RsMachine *machine;
    RsUsbDevice *device;
} Errand;

static Errand *errand_new(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device)
{
    Errand *errand = g_new0(Errand, 1);

    errand->desk = g_object_ref(self);
    errand->machine = g_object_ref(machine);
    errand->device = rs_usb_device_copy(device);
    return errand;
}

static void errand_free(Errand *errand)
{
    g_object_unref(errand->desk);
    g_object_unref(errand->machine);
    rs_usb_device_free(errand->device);
    g_free(errand);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Errand, errand_free)

static void errand_closed(gpointer errand, GClosure *closure)
{
    errand_free(errand);
}

static void tell_changed(RsUsbDesk *self)
{
    g_signal_emit(self, changed_signal, 0);
}

GPtrArray *rs_usb_desk_get_devices(RsUsbDesk *self)
{
    return self->devices;
}

RsMachine *rs_usb_desk_get_holder(RsUsbDesk *self, const RsUsbDevice *device)
{
    g_autoptr(GPtrArray) active = rs_library_get_active(self->library);

    for (unsigned i = 0; i < active->len; i++) {
        if (rs_machine_has_usb(active->pdata[i], device->port)) {
            return active->pdata[i];
        }
    }
    return NULL;
}

bool rs_usb_desk_is_needed(RsUsbDesk *self)
{
    g_autoptr(GPtrArray) active = rs_library_get_active(self->library);

    for (unsigned i = 0; i < active->len; i++) {
        const char *rules = rs_machine_get_settings(active->pdata[i])->usb_connect;
        if (rules && *rules) {
            return true;
        }
    }
    return false;
}

/* --- Connecting
 * ----------------------------------------------------------------------------------- */

static void done(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(Errand) errand = data;
    g_autoptr(GError) error = NULL;

    if (!rs_machine_usb_finish(RS_MACHINE(source), result, &error)) {
        rs_state_show_error(rs_state_active_window(), _("The USB Device Stays Where It Is"),
                            error->message);
        tell_changed(errand->desk);
    }
}

static void attach(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device)
{
    rs_machine_attach_usb_async(machine, device, done, errand_new(self, machine, device));
}

static void sure(AdwMessageDialog *dialog, const char *response, Errand *errand)
{
    attach(errand->desk, errand->machine, errand->device);
}

/* The second time of asking: the device is this computer's own. */
static void ask_again(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device,
                      const char *why_not)
{
    g_autofree char *heading = g_strdup_printf(_("Connect “%s” All the Same?"), device->name);
    AdwMessageDialog *dialog =
        ADW_MESSAGE_DIALOG(adw_message_dialog_new(rs_state_active_window(), heading, why_not));

    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "connect", _("_Connect"),
                                     NULL);
    adw_message_dialog_set_response_appearance(dialog, "connect", ADW_RESPONSE_DESTRUCTIVE);
    adw_message_dialog_set_default_response(dialog, "cancel");
    adw_message_dialog_set_close_response(dialog, "cancel");
    g_signal_connect_data(dialog, "response::connect", G_CALLBACK(sure),
                          errand_new(self, machine, device), errand_closed, 0);
    gtk_window_present(GTK_WINDOW(dialog));
}

void rs_usb_desk_connect(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device)
{
    g_autofree char *why_not = rs_usb_why_not(device);

    if (why_not) {
        ask_again(self, machine, device, why_not);
    } else {
        attach(self, machine, device);
    }
}

void rs_usb_desk_disconnect(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device)
{
    rs_machine_detach_usb_async(machine, device->port, done, errand_new(self, machine, device));
}

static void remembered(RsUsbDesk *self, const GError *error)
{
    if (error) {
        rs_state_show_error(rs_state_active_window(), _("This Cannot Be Remembered"),
                            error->message);
    }
    tell_changed(self);
}

void rs_usb_desk_set_rule(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device,
                          RsUsbRule rule)
{
    g_autoptr(GError) error = NULL;

    rs_machine_set_usb_rule(machine, device, rule, &error);
    remembered(self, error);
}

void rs_usb_desk_set_port_rule(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device,
                               bool connect)
{
    g_autoptr(GError) error = NULL;

    rs_machine_set_usb_port_rule(machine, device->port, connect, &error);
    remembered(self, error);
}

/* --- A new device
 * --------------------------------------------------------------------------------- */

static void answered(AdwMessageDialog *dialog, const char *response, Errand *errand)
{
    bool machine = g_str_equal(response, "machine");

    if (machine || g_str_equal(response, "host")) {
        rs_usb_desk_set_rule(errand->desk, errand->machine, errand->device,
                             machine ? RS_USB_CONNECT : RS_USB_IGNORE);
    }
    if (machine) {
        attach(errand->desk, errand->machine, errand->device);
    }
}

static void ask_where(RsUsbDesk *self, GtkWindow *console, RsMachine *machine,
                      const RsUsbDevice *device)
{
    g_autofree char *heading = g_strdup_printf(_("“%s” Was Plugged In"), device->name);
    g_autofree char *body = g_strdup_printf(
        _("Does it belong to this computer or to “%s”? Ringside remembers the answer for "
          "this device; the USB menu can change it."),
        rs_machine_get_name(machine));
    AdwMessageDialog *dialog = ADW_MESSAGE_DIALOG(adw_message_dialog_new(console, heading, body));

    adw_message_dialog_add_responses(dialog, "later", _("_Not Now"), "host", _("_This Computer"),
                                     "machine", _("The _Machine"), NULL);
    adw_message_dialog_set_default_response(dialog, "host");
    adw_message_dialog_set_close_response(dialog, "later");
    g_signal_connect_data(dialog, "response", G_CALLBACK(answered),
                          errand_new(self, machine, device), errand_closed, 0);
    g_set_weak_pointer(&self->question, GTK_WINDOW(dialog));
    gtk_window_present(GTK_WINDOW(dialog));
}

/* The running machine that a rule gives it to; the one that has the focus first. */
static RsMachine *find_owner(RsUsbDesk *self, RsMachine *first, const RsUsbDevice *device)
{
    g_autoptr(GPtrArray) active = rs_library_get_active(self->library);

    if (first && rs_machine_get_usb_rule(first, device) == RS_USB_CONNECT) {
        return first;
    }
    for (unsigned i = 0; i < active->len; i++) {
        if (rs_machine_get_usb_rule(active->pdata[i], device) == RS_USB_CONNECT) {
            return active->pdata[i];
        }
    }
    return NULL;
}

static void receive(RsUsbDesk *self, const RsUsbDevice *device)
{
    GtkWindow *window = rs_state_active_window();
    bool console = RS_IS_CONSOLE(window) && gtk_window_is_active(window);
    RsMachine *machine = console ? rs_console_get_machine(RS_CONSOLE(window)) : NULL;
    g_autofree char *why_not = rs_usb_why_not(device);
    RsMachine *owner;

    machine = machine && rs_machine_is_active(machine) ? machine : NULL;
    owner = find_owner(self, machine, device);
    if (why_not || rs_usb_desk_get_holder(self, device)) {
        return;
    }
    if (owner) {
        attach(self, owner, device);
    } else if (machine && !self->question &&
               rs_machine_get_usb_rule(machine, device) == RS_USB_FORGET) {
        ask_where(self, window, machine, device);
    }
}

static void devices_changed(RsUsbDesk *self)
{
    g_autoptr(GPtrArray) old = self->devices;

    self->devices = rs_usb_list();
    tell_changed(self);
    for (unsigned i = 0; i < self->devices->len; i++) {
        if (!rs_usb_list_has(old, self->devices->pdata[i])) {
            receive(self, self->devices->pdata[i]);
        }
    }
}

/* --- The machines
 * --------------------------------------------------------------------------------- */

/* What always belongs to a machine goes there when it starts. */
static void attend(RsUsbDesk *self, RsMachine *machine)
{
    for (unsigned i = 0; i < self->devices->len; i++) {
        const RsUsbDevice *device = self->devices->pdata[i];
        g_autofree char *why_not = rs_usb_why_not(device);
        if (!why_not && rs_machine_get_usb_rule(machine, device) == RS_USB_CONNECT &&
            !rs_usb_desk_get_holder(self, device)) {
            attach(self, machine, device);
        }
    }
}

/* Who starts a machine attends to it; one that was running when we came has its devices. */
static void state_changed(RsMachine *machine, GParamSpec *pspec, RsUsbDesk *self)
{
    RsMachineState state = rs_machine_get_state(machine);

    if (state == RS_MACHINE_STARTING) {
        g_object_set_data(G_OBJECT(machine), STARTED, machine);
    } else if (g_object_get_data(G_OBJECT(machine), STARTED)) {
        g_object_set_data(G_OBJECT(machine), STARTED, NULL);
        if (state == RS_MACHINE_RUNNING) {
            attend(self, machine);
        }
    }
    tell_changed(self);
}

static void follow(RsUsbDesk *self, RsMachine *machine)
{
    g_signal_handlers_disconnect_by_data(machine, self);
    g_signal_connect_object(machine, "notify::state", G_CALLBACK(state_changed), self, 0);
    g_signal_connect_object(machine, "usb-changed", G_CALLBACK(tell_changed), self,
                            G_CONNECT_SWAPPED);
}

static void machines_changed(RsUsbDesk *self)
{
    for (unsigned i = 0; i < g_list_model_get_n_items(G_LIST_MODEL(self->library)); i++) {
        g_autoptr(RsMachine) machine = g_list_model_get_item(G_LIST_MODEL(self->library), i);
        follow(self, machine);
    }
}

static void rs_usb_desk_finalize(GObject *object)
{
    RsUsbDesk *self = RS_USB_DESK(object);

    g_clear_object(&self->watch);
    g_clear_object(&self->library);
    g_clear_weak_pointer(&self->question);
    g_ptr_array_unref(self->devices);
    G_OBJECT_CLASS(rs_usb_desk_parent_class)->finalize(object);
}

static void rs_usb_desk_class_init(RsUsbDeskClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = rs_usb_desk_finalize;
    changed_signal = g_signal_new("changed", RS_TYPE_USB_DESK, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                                  NULL, G_TYPE_NONE, 0);
}

static void rs_usb_desk_init(RsUsbDesk *self)
{
    self->devices = rs_usb_list();
    self->watch = rs_usb_watch_new();
    g_signal_connect_object(self->watch, "changed", G_CALLBACK(devices_changed), self,
                            G_CONNECT_SWAPPED);
}

RsUsbDesk *rs_usb_desk_new(RsLibrary *library)
{
    RsUsbDesk *self = g_object_new(RS_TYPE_USB_DESK, NULL);

    self->library = g_object_ref(library);
    g_signal_connect_object(library, "items-changed", G_CALLBACK(machines_changed), self,
                            G_CONNECT_SWAPPED);
    machines_changed(self);
    return self;
}
