/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The USB menu of a console: for each device its name, who has it, a button that connects or
 * disconnects it, and whether it always belongs to the machine. Made anew when something changes.
 */
#include <glib/gi18n-lib.h>

#include "rs-usb-button.h"

#define MENU_WIDTH  380
#define MENU_HEIGHT 420

struct _RsUsbButton {
    AdwBin parent_instance;
    GtkMenuButton *button;
    GtkBox *list;
    RsUsbDesk *desk;
    RsMachine *machine;
};

G_DEFINE_FINAL_TYPE(RsUsbButton, rs_usb_button, ADW_TYPE_BIN)

static const RsUsbDevice *device_of(gpointer widget)
{
    return g_object_get_data(G_OBJECT(widget), "device");
}

static void set_device(gpointer widget, const RsUsbDevice *device)
{
    g_object_set_data_full(G_OBJECT(widget), "device", rs_usb_device_copy(device),
                           (GDestroyNotify)rs_usb_device_free);
}

/* The menu stays, to show what came of it, unless there is a question first. */
static void connect_clicked(GtkButton *button, RsUsbButton *self)
{
    g_autoptr(RsUsbDevice) device = rs_usb_device_copy(device_of(button));
    g_autofree char *why_not = rs_usb_why_not(device);
    bool connected = rs_machine_has_usb(self->machine, device->port);

    if (!connected && why_not) {
        gtk_menu_button_popdown(self->button);
    } else {
        gtk_widget_set_sensitive(GTK_WIDGET(button), FALSE); /* until the answer */
    }
    if (connected) {
        rs_usb_desk_disconnect(self->desk, self->machine, device);
    } else {
        rs_usb_desk_connect(self->desk, self->machine, device);
    }
}

static char *holder_text(RsUsbButton *self, const RsUsbDevice *device)
{
    RsMachine *holder = rs_usb_desk_get_holder(self->desk, device);

    if (holder == self->machine) {
        return g_strdup(_("In this machine"));
    }
    if (holder) {
        return g_strdup_printf(_("In the machine “%s”"), rs_machine_get_name(holder));
    }
    return device->holder ? g_strdup_printf(_("Used by this computer (%s)"), device->holder)
                          : g_strdup(_("Not used"));
}

static GtkWidget *label_new(const char *text, const char *style)
{
    GtkWidget *label = gtk_label_new(text);

    gtk_label_set_xalign(GTK_LABEL(label), 0);
    gtk_label_set_ellipsize(GTK_LABEL(label), PANGO_ELLIPSIZE_END);
    if (style) {
        gtk_widget_add_css_class(label, style);
    }
    return label;
}

static GtkWidget *connect_button_new(RsUsbButton *self, const RsUsbDevice *device)
{
    RsMachine *holder = rs_usb_desk_get_holder(self->desk, device);
    bool ours = holder == self->machine;
    GtkWidget *button = gtk_button_new_with_mnemonic(ours ? _("_Disconnect") : _("_Connect"));
    g_autofree char *name =
        g_strdup_printf(ours ? _("Disconnect %s") : _("Connect %s"), device->name);

    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_set_sensitive(button, rs_machine_is_active(self->machine) && (!holder || ours));
    set_device(button, device);
    g_signal_connect(button, "clicked", G_CALLBACK(connect_clicked), self);
    return button;
}

static void changed(RsUsbButton *self);

static void always_toggled(GtkCheckButton *check, RsUsbButton *self)
{
    g_autoptr(RsUsbDevice) device = rs_usb_device_copy(device_of(check));

    g_signal_handlers_block_by_func(self->desk, changed, self); /* the row stays, with the focus */
    rs_usb_desk_set_rule(self->desk, self->machine, device,
                         gtk_check_button_get_active(check) ? RS_USB_CONNECT : RS_USB_FORGET);
    g_signal_handlers_unblock_by_func(self->desk, changed, self);
}

static void port_toggled(GtkCheckButton *check, RsUsbButton *self)
{
    g_autoptr(RsUsbDevice) device = rs_usb_device_copy(device_of(check));

    g_signal_handlers_block_by_func(self->desk, changed, self);
    rs_usb_desk_set_port_rule(self->desk, self->machine, device,
                              gtk_check_button_get_active(check));
    g_signal_handlers_unblock_by_func(self->desk, changed, self);
}

/* A rule, for the device or for its port. */
static GtkWidget *always_new(RsUsbButton *self, const RsUsbDevice *device, bool port)
{
    GtkWidget *check = gtk_check_button_new_with_mnemonic(
        port ? _("Always connect what is in this _port") : _("_Always connect to this machine"));
    g_autofree char *name =
        port ? g_strdup_printf(_("Always connect what is in port %s to this machine"), device->port)
             : g_strdup_printf(_("Always connect %s to this machine"), device->name);

    gtk_accessible_update_property(GTK_ACCESSIBLE(check), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
    gtk_check_button_set_active(GTK_CHECK_BUTTON(check),
                                rs_machine_connects_usb(self->machine, device, port));
    set_device(check, device);
    g_signal_connect(check, "toggled", port ? G_CALLBACK(port_toggled) : G_CALLBACK(always_toggled),
                     self);
    return check;
}

static GtkWidget *row_new(RsUsbButton *self, const RsUsbDevice *device)
{
    GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
    GtkWidget *texts = gtk_box_new(GTK_ORIENTATION_VERTICAL, 2);
    GtkWidget *icon = gtk_image_new_from_icon_name(device->icon);
    g_autofree char *held = holder_text(self, device);
    GtkWidget *holder = label_new(held, "dim-label");

    gtk_widget_add_css_class(holder, "caption");
    gtk_widget_set_hexpand(texts, TRUE);
    gtk_box_append(GTK_BOX(texts), label_new(device->name, NULL));
    gtk_box_append(GTK_BOX(texts), holder);
    gtk_box_append(GTK_BOX(texts), always_new(self, device, false));
    gtk_box_append(GTK_BOX(texts), always_new(self, device, true));
    gtk_box_append(GTK_BOX(row), icon);
    gtk_box_append(GTK_BOX(row), texts);
    gtk_box_append(GTK_BOX(row), connect_button_new(self, device));
    return row;
}

static void rebuild(RsUsbButton *self)
{
    GPtrArray *devices = rs_usb_desk_get_devices(self->desk);
    GtkWidget *child;

    while ((child = gtk_widget_get_first_child(GTK_WIDGET(self->list)))) {
        gtk_box_remove(self->list, child);
    }
    for (unsigned i = 0; i < devices->len; i++) {
        if (i) {
            gtk_box_append(self->list, gtk_separator_new(GTK_ORIENTATION_HORIZONTAL));
        }
        gtk_box_append(self->list, row_new(self, devices->pdata[i]));
    }
    if (!devices->len) {
        gtk_box_append(self->list,
                       label_new(_("There are no USB devices in this computer."), "dim-label"));
    }
}

/* Nobody sees it otherwise. */
static void changed(RsUsbButton *self)
{
    if (gtk_widget_get_visible(GTK_WIDGET(gtk_menu_button_get_popover(self->button)))) {
        rebuild(self);
        gtk_widget_child_focus(GTK_WIDGET(self->list), GTK_DIR_TAB_FORWARD);
    }
}

void rs_usb_button_set_machine(RsUsbButton *self, RsUsbDesk *desk, RsMachine *machine)
{
    g_set_object(&self->desk, desk);
    g_set_object(&self->machine, machine);
    g_signal_connect_object(desk, "changed", G_CALLBACK(changed), self, G_CONNECT_SWAPPED);
}

static void rs_usb_button_dispose(GObject *object)
{
    RsUsbButton *self = RS_USB_BUTTON(object);

    g_clear_object(&self->desk);
    g_clear_object(&self->machine);
    G_OBJECT_CLASS(rs_usb_button_parent_class)->dispose(object);
}

static void rs_usb_button_class_init(RsUsbButtonClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = rs_usb_button_dispose;
}

static GtkWidget *menu_new(RsUsbButton *self)
{
    GtkWidget *popover = gtk_popover_new();
    GtkWidget *scroller = gtk_scrolled_window_new();

    g_signal_connect_swapped(popover, "map", G_CALLBACK(rebuild), self);
    self->list = GTK_BOX(gtk_box_new(GTK_ORIENTATION_VERTICAL, 12));
    gtk_widget_set_margin_start(GTK_WIDGET(self->list), 6);
    gtk_widget_set_margin_end(GTK_WIDGET(self->list), 6);
    gtk_widget_set_margin_top(GTK_WIDGET(self->list), 6);
    gtk_widget_set_margin_bottom(GTK_WIDGET(self->list), 6);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scroller), GTK_POLICY_NEVER,
                                   GTK_POLICY_AUTOMATIC);
    gtk_scrolled_window_set_propagate_natural_height(GTK_SCROLLED_WINDOW(scroller), TRUE);
    gtk_scrolled_window_set_max_content_height(GTK_SCROLLED_WINDOW(scroller), MENU_HEIGHT);
    gtk_widget_set_size_request(scroller, MENU_WIDTH, -1);
    gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scroller), GTK_WIDGET(self->list));
    gtk_popover_set_child(GTK_POPOVER(popover), scroller);
    return popover;
}

static void rs_usb_button_init(RsUsbButton *self)
{
    GtkWidget *button = gtk_menu_button_new();

    self->button = GTK_MENU_BUTTON(button);
    gtk_menu_button_set_icon_name(self->button, "media-removable-symbolic");
    gtk_widget_set_tooltip_text(button, _("USB Devices"));
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("USB Devices"), -1);
    gtk_menu_button_set_popover(self->button, menu_new(self));
    adw_bin_set_child(ADW_BIN(self), button);
}
