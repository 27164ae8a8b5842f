/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cards and rows of the library (see rs-machine-item.h). */
#include <glib/gi18n-lib.h>

#include "rs-machine-actions.h"
#include "rs-machine-item.h"
#include "rs-state.h"
#include "rs-thumbnail.h"

#define CARD_WIDTH  224
#define CARD_HEIGHT 140
#define ROW_WIDTH   96
#define ROW_HEIGHT  60

struct _RsMachineItem {
    GtkWidget parent_instance;
    GtkBox *box;
    RsThumbnail *thumbnail;
    GtkLabel *name, *state;
    GtkMenuButton *menu;
    GtkPopover *context;
    RsMachine *machine;
    const char *style;
};

G_DEFINE_FINAL_TYPE(RsMachineItem, rs_machine_item, GTK_TYPE_WIDGET)

static void update(RsMachineItem *self)
{
    RsMachineState state = rs_machine_get_state(self->machine);
    const char *message = rs_machine_get_message(self->machine);
    g_autofree char *label =
        g_strdup_printf("%s, %s", rs_machine_get_name(self->machine), rs_state_label(state));
    g_autofree char *menu_label =
        g_strdup_printf(_("Menu of %s"), rs_machine_get_name(self->machine));

    gtk_label_set_text(self->name, rs_machine_get_name(self->machine));
    gtk_label_set_text(self->state, rs_state_label(state));
    gtk_widget_set_tooltip_text(GTK_WIDGET(self), message);
    if (self->style) {
        gtk_widget_remove_css_class(GTK_WIDGET(self->state), self->style);
    }
    self->style = rs_state_style(state);
    gtk_widget_add_css_class(GTK_WIDGET(self->state), self->style);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
    gtk_widget_set_tooltip_text(GTK_WIDGET(self->menu), menu_label);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self->menu), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   menu_label, -1);
}

void rs_machine_item_set_machine(RsMachineItem *self, RsMachine *machine)
{
    if (self->machine) {
        g_signal_handlers_disconnect_by_data(self->machine, self);
    }
    g_set_object(&self->machine, machine);
    rs_thumbnail_set_machine(self->thumbnail, machine);
    if (machine) {
        g_autoptr(GSimpleActionGroup) group = rs_machine_actions_new(machine);
        gtk_widget_insert_action_group(GTK_WIDGET(self), "machine", G_ACTION_GROUP(group));
        g_signal_connect_swapped(machine, "notify", G_CALLBACK(update), self);
        update(self);
    } else {
        gtk_widget_insert_action_group(GTK_WIDGET(self), "machine", NULL);
    }
}

static void show_context(RsMachineItem *self, int count, double x, double y)
{
    gtk_popover_set_pointing_to(self->context, &(GdkRectangle){(int)x, (int)y, 1, 1});
    gtk_popover_popup(self->context);
}

static void rs_machine_item_dispose(GObject *object)
{
    RsMachineItem *self = RS_MACHINE_ITEM(object);

    if (self->box) {
        rs_machine_item_set_machine(self, NULL);
        gtk_widget_unparent(GTK_WIDGET(self->context));
        gtk_widget_unparent(GTK_WIDGET(self->box));
        self->box = NULL;
    }
    G_OBJECT_CLASS(rs_machine_item_parent_class)->dispose(object);
}

static void rs_machine_item_class_init(RsMachineItemClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = rs_machine_item_dispose;
    gtk_widget_class_set_layout_manager_type(GTK_WIDGET_CLASS(klass), GTK_TYPE_BIN_LAYOUT);
    gtk_widget_class_set_css_name(GTK_WIDGET_CLASS(klass), "machine");
    gtk_widget_class_set_accessible_role(GTK_WIDGET_CLASS(klass), GTK_ACCESSIBLE_ROLE_GROUP);
}

static GtkLabel *make_label(const char *style)
{
    GtkLabel *label = GTK_LABEL(gtk_label_new(NULL));

    gtk_label_set_xalign(label, 0);
    gtk_label_set_ellipsize(label, PANGO_ELLIPSIZE_END);
    gtk_widget_add_css_class(GTK_WIDGET(label), style);
    return label;
}

static void rs_machine_item_init(RsMachineItem *self)
{
    GtkGesture *secondary = gtk_gesture_click_new();
    g_autoptr(GtkBuilder) builder =
        gtk_builder_new_from_resource("/org/ringside/Ringside/ui/machine-menu.ui");
    GMenuModel *model = G_MENU_MODEL(gtk_builder_get_object(builder, "menu"));

    self->thumbnail = g_object_new(RS_TYPE_THUMBNAIL, NULL);
    self->name = make_label("heading");
    self->state = make_label("caption");
    self->menu = GTK_MENU_BUTTON(gtk_menu_button_new());
    gtk_menu_button_set_icon_name(self->menu, "view-more-symbolic");
    gtk_menu_button_set_menu_model(self->menu, model);
    gtk_widget_add_css_class(GTK_WIDGET(self->menu), "flat");
    gtk_widget_set_valign(GTK_WIDGET(self->menu), GTK_ALIGN_CENTER);
    self->context = GTK_POPOVER(gtk_popover_menu_new_from_model(model));
    gtk_popover_set_has_arrow(self->context, FALSE);
    gtk_widget_set_halign(GTK_WIDGET(self->context), GTK_ALIGN_START);
    gtk_widget_set_parent(GTK_WIDGET(self->context), GTK_WIDGET(self));
    gtk_gesture_single_set_button(GTK_GESTURE_SINGLE(secondary), GDK_BUTTON_SECONDARY);
    g_signal_connect_swapped(secondary, "pressed", G_CALLBACK(show_context), self);
    gtk_widget_add_controller(GTK_WIDGET(self), GTK_EVENT_CONTROLLER(secondary));
}

GtkWidget *rs_machine_item_new(gboolean card)
{
    RsMachineItem *self = g_object_new(RS_TYPE_MACHINE_ITEM, NULL);
    GtkWidget *labels = gtk_box_new(GTK_ORIENTATION_VERTICAL, card ? 2 : 4);
    GtkWidget *below = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 6);

    gtk_widget_set_hexpand(labels, TRUE);
    gtk_widget_set_valign(labels, GTK_ALIGN_CENTER);
    gtk_box_append(GTK_BOX(labels), GTK_WIDGET(self->name));
    gtk_box_append(GTK_BOX(labels), GTK_WIDGET(self->state));
    gtk_box_append(GTK_BOX(below), labels);
    gtk_box_append(GTK_BOX(below), GTK_WIDGET(self->menu));
    gtk_widget_set_hexpand(below, TRUE);
    self->box = GTK_BOX(
        gtk_box_new(card ? GTK_ORIENTATION_VERTICAL : GTK_ORIENTATION_HORIZONTAL, card ? 6 : 12));
    gtk_widget_set_size_request(GTK_WIDGET(self->thumbnail), card ? CARD_WIDTH : ROW_WIDTH,
                                card ? CARD_HEIGHT : ROW_HEIGHT);
    gtk_box_append(self->box, GTK_WIDGET(self->thumbnail));
    gtk_box_append(self->box, below);
    gtk_widget_set_parent(GTK_WIDGET(self->box), GTK_WIDGET(self));
    gtk_widget_add_css_class(GTK_WIDGET(self), card ? "as-card" : "as-row");
    return GTK_WIDGET(self);
}
