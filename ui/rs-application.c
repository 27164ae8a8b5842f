/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The application (see rs-application.h). */
#include <glib/gi18n-lib.h>

#include "rs-application.h"
#include "rs-close-dialog.h"
#include "rs-console.h"
#include "rs-draft.h"
#include "rs-wizard.h"
#include "rs-window.h"

struct _RsApplication {
    AdwApplication parent_instance;
    RsLibrary *library;
    GSettings *settings;
    RsUsbDesk *usb;
    gboolean exit_after_startup, asking, held;
};

G_DEFINE_FINAL_TYPE(RsApplication, rs_application, ADW_TYPE_APPLICATION)

static const struct {
    const char *action;
    const char *accels[3];
} shortcuts[] = {
    {"app.new-machine", {"<Ctrl>n"}},
    {"app.demonstration", {"<Ctrl><Shift>n"}},
    {"app.about", {"<Ctrl>F1"}},
    {"app.quit", {"<Ctrl>q"}},
    {"win.show-help-overlay", {"<Ctrl>question", "F1"}},
    {"win.search", {"<Ctrl>f"}},
    {"win.view-mode::grid", {"<Ctrl>1"}},
    {"win.view-mode::list", {"<Ctrl>2"}},
    {"win.menu", {"F10"}},
    {"win.fullscreen", {"F11"}},
    {"win.resize-guest", {"<Ctrl>g"}},
    {"win.screenshot", {"<Ctrl><Shift>s"}},
    {"win.scaling::fit", {"<Ctrl>0"}},
    {"win.scaling::integer", {"<Ctrl>plus"}},
    {"win.scaling::original", {"<Ctrl>equal"}},
    {"win.send-keys::ctrl-alt-delete", {"<Ctrl><Alt>Insert"}},
    {"win.send-keys::ctrl-alt-backspace", {"<Ctrl><Shift>BackSpace"}},
    {"win.send-keys::print", {"<Ctrl><Shift>Print"}},
    {"window.close", {"<Ctrl>w"}},
    {"machine.start", {"<Ctrl>b"}},
    {"machine.pause", {"<Ctrl>p"}},
    {"machine.resume", {"<Ctrl><Shift>p"}},
    {"machine.suspend", {"<Ctrl>j"}},
    {"machine.reset", {"<Ctrl>r"}},
    {"machine.shut-down", {"<Ctrl>d"}},
    {"machine.power-off", {"<Ctrl><Shift>d"}},
    {"machine.settings", {"<Ctrl>comma"}},
    {"machine.show-files", {"<Ctrl><Shift>f"}},
    {"machine.insert-medium", {"<Ctrl>i"}},
    {"machine.eject-medium", {"<Ctrl><Shift>i"}},
    {"machine.force-eject", {"<Ctrl><Shift>e"}},
};

RsApplication *rs_application_get(void)
{
    return RS_APPLICATION(g_application_get_default());
}

RsLibrary *rs_application_get_library(RsApplication *self)
{
    return self->library;
}

GSettings *rs_application_get_settings(RsApplication *self)
{
    return self->settings;
}

RsUsbDesk *rs_application_get_usb(RsApplication *self)
{
    return self->usb;
}

static GtkWindow *library_window(RsApplication *self)
{
    for (GList *l = gtk_application_get_windows(GTK_APPLICATION(self)); l; l = l->next) {
        if (RS_IS_WINDOW(l->data)) {
            return l->data;
        }
    }
    return GTK_WINDOW(rs_window_new(self));
}

void rs_application_open_console(RsApplication *self, RsMachine *machine)
{
    GtkWindow *console = NULL;

    for (GList *l = gtk_application_get_windows(GTK_APPLICATION(self)); l; l = l->next) {
        if (RS_IS_CONSOLE(l->data) && rs_console_get_machine(l->data) == machine) {
            console = l->data;
        }
    }
    gtk_window_present(console ? console : GTK_WINDOW(rs_console_new(self, machine)));
}

/* Goes on without a window for USB devices that always belong to a machine. */
static void update_hold(RsApplication *self)
{
    gboolean hold = rs_usb_desk_is_needed(self->usb) && !self->exit_after_startup;

    if (hold && !self->held) {
        g_application_hold(G_APPLICATION(self));
    } else if (!hold && self->held) {
        g_application_release(G_APPLICATION(self));
    }
    self->held = hold;
}

static void close_all(RsApplication *self)
{
    GList *windows = g_list_copy(gtk_application_get_windows(GTK_APPLICATION(self)));

    for (GList *l = windows; l; l = l->next) {
        gtk_window_destroy(l->data);
    }
    g_list_free(windows);
    update_hold(self);
    if (!self->held) {
        g_application_quit(G_APPLICATION(self));
    }
}

static void answered(RsCloseChoice choice, gpointer data)
{
    RsApplication *self = data;

    self->asking = FALSE;
    if (choice != RS_CLOSE_CANCEL) {
        close_all(self);
    }
}

static void ask(RsApplication *self, GtkWindow *parent)
{
    if (!self->asking) {
        self->asking = TRUE;
        rs_close_dialog_run(parent, rs_library_get_active(self->library), self->settings, answered,
                            self);
    }
}

gboolean rs_application_may_close(RsApplication *self, GtkWindow *window)
{
    g_autoptr(GPtrArray) active = rs_library_get_active(self->library);
    unsigned others = 0;

    for (GList *l = gtk_application_get_windows(GTK_APPLICATION(self)); l; l = l->next) {
        others += l->data != window && (RS_IS_WINDOW(l->data) || RS_IS_CONSOLE(l->data));
    }
    if (others || !active->len) {
        return TRUE;
    }
    ask(self, window);
    return FALSE;
}

static void quit(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    RsApplication *self = data;
    g_autoptr(GPtrArray) active = rs_library_get_active(self->library);

    if (active->len) {
        ask(self, gtk_application_get_active_window(GTK_APPLICATION(self)));
    } else {
        close_all(self);
    }
}

static void new_machine(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    gtk_window_present(GTK_WINDOW(rs_wizard_new(library_window(data))));
}

static void demonstration(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    gtk_window_present(GTK_WINDOW(rs_wizard_new_demo(library_window(data))));
}

static void about(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    const char *developers[] = {"The Ringside developers", NULL};

    adw_show_about_window(gtk_application_get_active_window(data), "application-name", "Ringside",
                          "application-icon", RS_APPLICATION_ID, "version", RS_VERSION, "comments",
                          _("Run other operating systems in windows of this desktop."),
                          "developers", developers, "license-type", GTK_LICENSE_GPL_2_0,
                          "copyright", "© 2026 The Ringside developers",
                          /* Translators: your names, one per line */
                          "translator-credits", _("translator-credits"), NULL);
}

/* Opens the console of the machine with this id: used by notifications and tests. */
static void open_machine(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    RsApplication *self = data;
    RsMachine *machine = rs_library_find(self->library, g_variant_get_string(parameter, NULL));

    if (machine) {
        rs_application_open_console(self, machine);
    }
}

static void rs_application_activate(GApplication *application)
{
    RsApplication *self = RS_APPLICATION(application);

    gtk_window_present(library_window(self));
    if (self->exit_after_startup) {
        g_idle_add_once((GSourceOnceFunc)close_all, self);
    }
}

static void rs_application_startup(GApplication *application)
{
    static const GActionEntry actions[] = {
        {"quit", quit},   {"new-machine", new_machine},        {"demonstration", demonstration},
        {"about", about}, {"open-machine", open_machine, "s"},
    };
    RsApplication *self = RS_APPLICATION(application);

    G_APPLICATION_CLASS(rs_application_parent_class)->startup(application);
    gtk_window_set_default_icon_name(RS_APPLICATION_ID);
    self->settings = g_settings_new(RS_APPLICATION_ID);
    g_autoptr(GAction) close_choice = g_settings_create_action(self->settings, "close-choice");
    g_action_map_add_action(G_ACTION_MAP(self), close_choice);
    rs_draft_clean_up();
    self->library = rs_library_new();
    self->usb = rs_usb_desk_new(self->library);
    g_signal_connect_object(self->usb, "changed", G_CALLBACK(update_hold), self, G_CONNECT_SWAPPED);
    g_action_map_add_action_entries(G_ACTION_MAP(self), actions, G_N_ELEMENTS(actions), self);
    for (unsigned i = 0; i < G_N_ELEMENTS(shortcuts); i++) {
        gtk_application_set_accels_for_action(GTK_APPLICATION(self), shortcuts[i].action,
                                              shortcuts[i].accels);
    }
}

static int rs_application_handle_local_options(GApplication *application, GVariantDict *options)
{
    RsApplication *self = RS_APPLICATION(application);

    if (g_variant_dict_contains(options, "version")) {
        g_print("ringside %s\n", RS_VERSION);
        return 0;
    }
    self->exit_after_startup = g_variant_dict_contains(options, "exit-after-startup");
    return -1;
}

static void rs_application_dispose(GObject *object)
{
    RsApplication *self = RS_APPLICATION(object);

    g_clear_object(&self->usb);
    g_clear_object(&self->library);
    g_clear_object(&self->settings);
    G_OBJECT_CLASS(rs_application_parent_class)->dispose(object);
}

static void rs_application_class_init(RsApplicationClass *klass)
{
    GApplicationClass *application_class = G_APPLICATION_CLASS(klass);

    G_OBJECT_CLASS(klass)->dispose = rs_application_dispose;
    application_class->activate = rs_application_activate;
    application_class->startup = rs_application_startup;
    application_class->handle_local_options = rs_application_handle_local_options;
}

static void rs_application_init(RsApplication *self)
{
    const GOptionEntry options[] = {
        {"version", 'v', 0, G_OPTION_ARG_NONE, NULL, N_("Print the version and exit"), NULL},
        {"exit-after-startup", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, NULL, NULL, NULL},
        {NULL},
    };

    g_application_add_main_option_entries(G_APPLICATION(self), options);
}

RsApplication *rs_application_new(void)
{
    return g_object_new(RS_TYPE_APPLICATION, "application-id", RS_APPLICATION_ID,
                        "resource-base-path", "/org/ringside/Ringside", NULL);
}
