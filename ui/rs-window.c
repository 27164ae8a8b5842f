/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library's window: an empty state, a grid and a list of machines, a search. */
#include <glib/gi18n-lib.h>

#include "rs-machine-actions.h"
#include "rs-machine-item.h"
#include "rs-window.h"
#include "rs-wizard.h"

struct _RsWindow {
    AdwApplicationWindow parent_instance;
    GtkStack *stack;
    GtkGridView *grid;
    GtkListView *list;
    GtkToggleButton *search_button;
    GtkSearchBar *search_bar;
    GtkSearchEntry *search_entry;
    GtkMenuButton *menu_button;
    GtkWidget *content;
    GtkFilter *filter;
    GtkSingleSelection *selection;
};

G_DEFINE_FINAL_TYPE(RsWindow, rs_window, ADW_TYPE_APPLICATION_WINDOW)

static void show_page(RsWindow *self)
{
    RsLibrary *library = rs_application_get_library(rs_application_get());
    GSettings *settings = rs_application_get_settings(rs_application_get());
    g_autofree char *mode = g_settings_get_string(settings, "view-mode");
    const char *page = mode;

    if (!g_list_model_get_n_items(G_LIST_MODEL(library))) {
        page = "empty";
    } else if (!g_list_model_get_n_items(G_LIST_MODEL(self->selection))) {
        page = "nothing-found";
    }
    gtk_stack_set_visible_child_name(self->stack, page);
    gtk_widget_set_sensitive(GTK_WIDGET(self->search_button),
                             page == mode || !strcmp(page, "nothing-found"));
}

static gboolean matches(gpointer item, gpointer data)
{
    RsWindow *self = data;
    g_autofree char *needle =
        g_utf8_casefold(gtk_editable_get_text(GTK_EDITABLE(self->search_entry)), -1);
    g_autofree char *name = g_utf8_casefold(rs_machine_get_name(item), -1);

    return strstr(name, needle) != NULL;
}

static void search_changed(RsWindow *self)
{
    gtk_filter_changed(self->filter, GTK_FILTER_CHANGE_DIFFERENT);
}

/* The window's "machine" actions, which the shortcuts reach, are those of the selected machine. */
static void selection_changed(RsWindow *self)
{
    RsMachine *machine = gtk_single_selection_get_selected_item(self->selection);
    g_autoptr(GSimpleActionGroup) group = machine ? rs_machine_actions_new(machine) : NULL;

    gtk_widget_insert_action_group(GTK_WIDGET(self), "machine", G_ACTION_GROUP(group));
}

static void activated(RsWindow *self, guint position)
{
    g_autoptr(RsMachine) machine = g_list_model_get_item(G_LIST_MODEL(self->selection), position);

    if (machine && rs_machine_get_state(machine) == RS_MACHINE_BROKEN) {
        gtk_widget_activate_action(GTK_WIDGET(self), "machine.settings", NULL);
    } else if (machine) {
        rs_machine_actions_start(machine, TRUE);
    }
}

static void setup_card(GtkSignalListItemFactory *factory, GtkListItem *item)
{
    gtk_list_item_set_child(item, rs_machine_item_new(TRUE));
}

static void setup_row(GtkSignalListItemFactory *factory, GtkListItem *item)
{
    gtk_list_item_set_child(item, rs_machine_item_new(FALSE));
}

static void bind(GtkSignalListItemFactory *factory, GtkListItem *item)
{
    rs_machine_item_set_machine(RS_MACHINE_ITEM(gtk_list_item_get_child(item)),
                                gtk_list_item_get_item(item));
}

static void unbind(GtkSignalListItemFactory *factory, GtkListItem *item)
{
    rs_machine_item_set_machine(RS_MACHINE_ITEM(gtk_list_item_get_child(item)), NULL);
}

static GtkListItemFactory *make_factory(GCallback setup)
{
    GtkListItemFactory *factory = gtk_signal_list_item_factory_new();

    g_signal_connect(factory, "setup", setup, NULL);
    g_signal_connect(factory, "bind", G_CALLBACK(bind), NULL);
    g_signal_connect(factory, "unbind", G_CALLBACK(unbind), NULL);
    return factory;
}

static void bind_library(RsWindow *self)
{
    RsLibrary *library = rs_application_get_library(rs_application_get());
    g_autoptr(GtkListItemFactory) cards = make_factory(G_CALLBACK(setup_card));
    g_autoptr(GtkListItemFactory) rows = make_factory(G_CALLBACK(setup_row));

    self->filter = GTK_FILTER(gtk_custom_filter_new(matches, self, NULL));
    GtkFilterListModel *filtered =
        gtk_filter_list_model_new(G_LIST_MODEL(g_object_ref(library)), g_object_ref(self->filter));
    self->selection = gtk_single_selection_new(G_LIST_MODEL(filtered));
    gtk_grid_view_set_factory(self->grid, cards);
    gtk_list_view_set_factory(self->list, rows);
    gtk_grid_view_set_model(self->grid, GTK_SELECTION_MODEL(self->selection));
    gtk_list_view_set_model(self->list, GTK_SELECTION_MODEL(self->selection));
    g_signal_connect_object(self->selection, "items-changed", G_CALLBACK(show_page), self,
                            G_CONNECT_SWAPPED);
    g_signal_connect_object(self->selection, "notify::selected-item", G_CALLBACK(selection_changed),
                            self, G_CONNECT_SWAPPED);
    g_signal_connect_object(library, "items-changed", G_CALLBACK(show_page), self,
                            G_CONNECT_SWAPPED | G_CONNECT_AFTER);
}

static gboolean dropped(RsWindow *self, const GValue *value)
{
    g_autofree char *path = g_file_get_path(g_value_get_object(value));
    RsWizard *wizard = rs_wizard_new(GTK_WINDOW(self));

    gtk_window_present(GTK_WINDOW(wizard));
    rs_wizard_take_file(wizard, path);
    return TRUE;
}

static void toggle_search(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsWindow *self = RS_WINDOW(widget);

    if (gtk_widget_is_sensitive(GTK_WIDGET(self->search_button))) {
        gtk_toggle_button_set_active(self->search_button,
                                     !gtk_toggle_button_get_active(self->search_button));
    }
}

static void show_menu(GtkWidget *widget, const char *action, GVariant *parameter)
{
    gtk_menu_button_popup(RS_WINDOW(widget)->menu_button);
}

static gboolean close_request(GtkWindow *window)
{
    return !rs_application_may_close(rs_application_get(), window);
}

static void rs_window_dispose(GObject *object)
{
    RsWindow *self = RS_WINDOW(object);

    if (self->grid) {
        gtk_grid_view_set_model(self->grid, NULL);
        gtk_list_view_set_model(self->list, NULL);
    }
    g_clear_object(&self->selection);
    g_clear_object(&self->filter);
    gtk_widget_dispose_template(GTK_WIDGET(object), RS_TYPE_WINDOW);
    G_OBJECT_CLASS(rs_window_parent_class)->dispose(object);
}

static void rs_window_class_init(RsWindowClass *klass)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(klass);

    G_OBJECT_CLASS(klass)->dispose = rs_window_dispose;
    GTK_WINDOW_CLASS(klass)->close_request = close_request;
    gtk_widget_class_set_template_from_resource(widget_class,
                                                "/org/ringside/Ringside/ui/window.ui");
    gtk_widget_class_bind_template_child(widget_class, RsWindow, stack);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, grid);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, list);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, search_button);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, search_bar);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, search_entry);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, menu_button);
    gtk_widget_class_bind_template_child(widget_class, RsWindow, content);
    gtk_widget_class_bind_template_callback(widget_class, search_changed);
    gtk_widget_class_bind_template_callback(widget_class, activated);
    gtk_widget_class_install_action(widget_class, "win.search", NULL, toggle_search);
    gtk_widget_class_install_action(widget_class, "win.menu", NULL, show_menu);
}

static void add_drop_target(RsWindow *self)
{
    GtkDropTarget *target = gtk_drop_target_new(G_TYPE_FILE, GDK_ACTION_COPY);

    g_signal_connect_swapped(target, "drop", G_CALLBACK(dropped), self);
    gtk_widget_add_controller(self->content, GTK_EVENT_CONTROLLER(target));
}

static void rs_window_init(RsWindow *self)
{
    GSettings *settings = rs_application_get_settings(rs_application_get());
    g_autoptr(GAction) mode = g_settings_create_action(settings, "view-mode");

    gtk_widget_init_template(GTK_WIDGET(self));
    g_action_map_add_action(G_ACTION_MAP(self), mode);
    g_settings_bind(settings, "window-width", self, "default-width", G_SETTINGS_BIND_DEFAULT);
    g_settings_bind(settings, "window-height", self, "default-height", G_SETTINGS_BIND_DEFAULT);
    gtk_search_bar_connect_entry(self->search_bar, GTK_EDITABLE(self->search_entry));
    gtk_search_bar_set_key_capture_widget(self->search_bar, GTK_WIDGET(self));
    bind_library(self);
    g_signal_connect_object(settings, "changed::view-mode", G_CALLBACK(show_page), self,
                            G_CONNECT_SWAPPED);
    add_drop_target(self);
    selection_changed(self);
    show_page(self);
}

RsWindow *rs_window_new(RsApplication *application)
{
    return g_object_new(RS_TYPE_WINDOW, "application", application, NULL);
}
