/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The actions of a machine (see rs-machine-actions.h). */
#include <adwaita.h>
#include <glib/gi18n-lib.h>

#include "rs-application.h"
#include "rs-machine-actions.h"
#include "rs-preferences.h"
#include "rs-state.h"

#define BIT(state) (1u << (state))
#define STARTABLE  (BIT(RS_MACHINE_OFF) | BIT(RS_MACHINE_SUSPENDED) | BIT(RS_MACHINE_CRASHED))
#define PAUSED     (BIT(RS_MACHINE_PAUSED) | BIT(RS_MACHINE_IO_ERROR))
#define UP         (BIT(RS_MACHINE_RUNNING) | PAUSED)
#define ACTIVE     (UP | BIT(RS_MACHINE_STARTING) | BIT(RS_MACHINE_SUSPENDING))
#define ANY        (~0u)

typedef void (*Handler)(GSimpleAction *action, GVariant *parameter, gpointer machine);

static void show_failure(RsMachine *machine, const char *format, GError *error)
{
    g_autofree char *heading = g_strdup_printf(format, rs_machine_get_name(machine));
    rs_state_show_error(rs_state_active_window(), heading, error->message);
}

static void started(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!rs_machine_start_finish(RS_MACHINE(source), result, &error)) {
        show_failure(RS_MACHINE(source), _("“%s” Did Not Start"), error);
    }
}

void rs_machine_actions_start(RsMachine *machine, gboolean open)
{
    RsMachineState state = rs_machine_get_state(machine);

    if (STARTABLE & BIT(state)) {
        rs_machine_start_async(machine, started, NULL);
    }
    if (open) {
        rs_application_open_console(rs_application_get(), machine);
    }
}

static void commanded(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!rs_machine_command_finish(RS_MACHINE(source), result, &error)) {
        show_failure(RS_MACHINE(source), _("“%s” Did Not Do That"), error);
    }
}

static void command(RsMachine *machine, RsMachineCommand command)
{
    rs_machine_command_async(machine, command, commanded, NULL);
}

static void do_open(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    rs_machine_actions_start(machine, TRUE);
}

static void do_start(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    rs_machine_actions_start(machine, FALSE);
}

static void do_pause(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    command(machine, RS_MACHINE_PAUSE);
}

static void do_resume(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    command(machine, RS_MACHINE_RESUME);
}

static void do_suspend(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    command(machine, RS_MACHINE_SUSPEND);
}

static void do_shut_down(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    command(machine, RS_MACHINE_SHUT_DOWN);
}

/* Asks; the response "do" carries on. */
static void ask(RsMachine *machine, const char *heading, const char *body, const char *label,
                GCallback answered)
{
    g_autofree char *title = g_strdup_printf(heading, rs_machine_get_name(machine));
    AdwMessageDialog *dialog =
        ADW_MESSAGE_DIALOG(adw_message_dialog_new(rs_state_active_window(), title, body));

    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "do", label, NULL);
    adw_message_dialog_set_response_appearance(dialog, "do", ADW_RESPONSE_DESTRUCTIVE);
    adw_message_dialog_set_default_response(dialog, "cancel");
    adw_message_dialog_set_close_response(dialog, "cancel");
    g_signal_connect_data(dialog, "response::do", answered, g_object_ref(machine),
                          (GClosureNotify)(void (*)(void))g_object_unref, G_CONNECT_SWAPPED);
    gtk_window_present(GTK_WINDOW(dialog));
}

static void power_off(RsMachine *machine)
{
    command(machine, RS_MACHINE_POWER_OFF);
}

static void do_power_off(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    if (rs_machine_get_state(machine) == RS_MACHINE_SUSPENDED) {
        ask(machine, _("Power Off “%s”?"),
            _("The machine is suspended. What it had in memory is lost; its disks stay."),
            _("_Power Off"), G_CALLBACK(power_off));
        return;
    }
    ask(machine, _("Power Off “%s”?"),
        _("This is like pulling the plug: what the guest has not saved is lost. “Shut Down” asks "
          "the "
          "guest to end by itself."),
        _("_Power Off"), G_CALLBACK(power_off));
}

static void reset(RsMachine *machine)
{
    command(machine, RS_MACHINE_RESET);
}

static void do_reset(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    ask(machine, _("Reset “%s”?"),
        _("The machine starts again from the beginning. What the guest has not saved is lost."),
        _("_Reset"), G_CALLBACK(reset));
}

static void do_settings(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    g_autoptr(GError) error = NULL;
    RsPreferences *window = rs_preferences_new(rs_state_active_window(), machine, &error);

    if (window) {
        gtk_window_present(GTK_WINDOW(window));
    } else {
        show_failure(machine, _("The Settings of “%s” Cannot Be Read"), error);
    }
}

/* --- Rename
 * --------------------------------------------------------------------------------------- */

static void rename_changed(GtkEditable *entry, AdwMessageDialog *dialog)
{
    RsMachine *machine = g_object_get_data(G_OBJECT(dialog), "machine");
    RsLibrary *library = rs_application_get_library(rs_application_get());
    g_autofree char *wrong = rs_library_check_name(library, gtk_editable_get_text(entry), machine);

    adw_message_dialog_set_body(dialog, wrong ? wrong : "");
    adw_message_dialog_set_response_enabled(dialog, "rename", !wrong);
}

static void rename_answered(AdwMessageDialog *dialog, const char *response, GtkEditable *entry)
{
    RsMachine *machine = g_object_get_data(G_OBJECT(dialog), "machine");
    g_autofree char *name = g_strstrip(g_strdup(gtk_editable_get_text(entry)));
    g_autoptr(GError) error = NULL;

    if (!rs_machine_rename(machine, name, &error)) {
        show_failure(machine, _("“%s” Was Not Renamed"), error);
    }
}

static void do_rename(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    AdwMessageDialog *dialog = ADW_MESSAGE_DIALOG(
        adw_message_dialog_new(rs_state_active_window(), _("Rename Machine"), NULL));
    GtkWidget *entry = gtk_entry_new();

    g_object_set_data_full(G_OBJECT(dialog), "machine", g_object_ref(machine), g_object_unref);
    gtk_editable_set_text(GTK_EDITABLE(entry), rs_machine_get_name(machine));
    gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
    gtk_accessible_update_property(GTK_ACCESSIBLE(entry), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("New name"), -1);
    adw_message_dialog_set_extra_child(dialog, entry);
    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "rename", _("_Rename"), NULL);
    adw_message_dialog_set_response_appearance(dialog, "rename", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(dialog, "rename");
    adw_message_dialog_set_close_response(dialog, "cancel");
    g_signal_connect(entry, "changed", G_CALLBACK(rename_changed), dialog);
    g_signal_connect(dialog, "response::rename", G_CALLBACK(rename_answered), entry);
    gtk_window_present(GTK_WINDOW(dialog));
    gtk_widget_grab_focus(entry);
}

/* --- Delete
 * --------------------------------------------------------------------------------------- */

static void deleted(GObject *source, GAsyncResult *result, gpointer data);

static void delete_forever(RsMachine *machine)
{
    rs_machine_delete_async(machine, true, deleted, NULL);
}

static void deleted(GObject *source, GAsyncResult *result, gpointer data)
{
    RsMachine *machine = RS_MACHINE(source);
    g_autoptr(GError) error = NULL;

    if (rs_machine_delete_finish(machine, result, &error)) {
        rs_library_refresh(rs_application_get_library(rs_application_get()));
    } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED)) {
        ask(machine, _("Delete “%s” for Ever?"),
            _("The machine's folder cannot be moved to the trash. Deleting it cannot be undone."),
            _("_Delete for Ever"), G_CALLBACK(delete_forever));
    } else {
        show_failure(machine, _("“%s” Was Not Deleted"), error);
    }
}

static void delete_to_trash(RsMachine *machine)
{
    rs_machine_delete_async(machine, false, deleted, NULL);
}

static void do_delete(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    ask(machine, _("Delete “%s”?"),
        _("The machine with its disks is moved to the trash. Disks and discs that lie elsewhere "
          "stay."),
        _("_Delete"), G_CALLBACK(delete_to_trash));
}

/* --- Files and media
 * ------------------------------------------------------------------------------ */

static void shown(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsMachine) machine = data;
    g_autoptr(GError) error = NULL;

    if (!g_app_info_launch_default_for_uri_finish(result, &error)) {
        show_failure(machine, _("The Files of “%s” Cannot Be Shown"), error);
    }
}

static void do_show_files(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    g_autofree char *uri = g_filename_to_uri(rs_machine_get_folder(machine), NULL, NULL);
    g_app_info_launch_default_for_uri_async(uri, NULL, NULL, shown, g_object_ref(machine));
}

static void medium_changed(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!rs_machine_change_medium_finish(RS_MACHINE(source), result, &error)) {
        show_failure(RS_MACHINE(source), _("The Disc of “%s” Was Not Changed"), error);
    }
}

static void medium_chosen(GtkNativeDialog *chooser, int response, RsMachine *machine)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(chooser));
        g_autofree char *path = g_file_get_path(file);
        rs_machine_change_medium_async(machine, path, false, medium_changed, NULL);
    }
    g_object_unref(chooser);
}

static void do_insert_medium(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    g_autoptr(GtkFileFilter) filter = gtk_file_filter_new();
    GtkFileChooserNative *chooser =
        gtk_file_chooser_native_new(_("Insert a Disc Image"), rs_state_active_window(),
                                    GTK_FILE_CHOOSER_ACTION_OPEN, _("_Insert"), _("_Cancel"));

    gtk_file_filter_set_name(filter, _("Disc images"));
    gtk_file_filter_add_suffix(filter, "iso");
    gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(chooser), filter);
    g_signal_connect_data(chooser, "response", G_CALLBACK(medium_chosen), g_object_ref(machine),
                          (GClosureNotify)(void (*)(void))g_object_unref, 0);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(chooser));
}

static void do_eject_medium(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    rs_machine_change_medium_async(machine, NULL, false, medium_changed, NULL);
}

static void do_force_eject(GSimpleAction *action, GVariant *parameter, gpointer machine)
{
    rs_machine_change_medium_async(machine, NULL, true, medium_changed, NULL);
}

/* --- The group
 * ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    unsigned states; /* in which it is enabled */
    Handler handler;
} actions[] = {
    {"open", ANY & ~BIT(RS_MACHINE_BROKEN), do_open},
    {"start", STARTABLE, do_start},
    {"pause", BIT(RS_MACHINE_RUNNING), do_pause},
    {"resume", PAUSED, do_resume},
    {"suspend", UP, do_suspend},
    {"reset", UP, do_reset},
    {"shut-down", BIT(RS_MACHINE_RUNNING), do_shut_down},
    {"power-off", ACTIVE | BIT(RS_MACHINE_SUSPENDED), do_power_off},
    {"settings", BIT(RS_MACHINE_OFF) | BIT(RS_MACHINE_CRASHED) | BIT(RS_MACHINE_BROKEN),
     do_settings},
    {"rename", ANY & ~BIT(RS_MACHINE_BROKEN), do_rename},
    {"delete", STARTABLE | BIT(RS_MACHINE_BROKEN), do_delete},
    {"show-files", ANY, do_show_files},
    {"insert-medium", UP | BIT(RS_MACHINE_OFF) | BIT(RS_MACHINE_CRASHED), do_insert_medium},
    {"eject-medium", UP | BIT(RS_MACHINE_OFF) | BIT(RS_MACHINE_CRASHED), do_eject_medium},
    {"force-eject", UP, do_force_eject},
};

static void update(RsMachine *machine, GParamSpec *pspec, GActionMap *group)
{
    gboolean medium = rs_machine_get_medium(machine) != NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++) {
        GAction *action = g_action_map_lookup_action(group, actions[i].name);
        gboolean enabled = (actions[i].states & BIT(rs_machine_get_state(machine))) != 0;
        if (actions[i].handler == do_eject_medium || actions[i].handler == do_force_eject) {
            enabled = enabled && medium;
        }
        g_simple_action_set_enabled(G_SIMPLE_ACTION(action), enabled);
    }
}

GSimpleActionGroup *rs_machine_actions_new(RsMachine *machine)
{
    GSimpleActionGroup *group = g_simple_action_group_new();

    for (unsigned i = 0; i < G_N_ELEMENTS(actions); i++) {
        g_autoptr(GSimpleAction) action = g_simple_action_new(actions[i].name, NULL);
        g_signal_connect_object(action, "activate", G_CALLBACK(actions[i].handler), machine, 0);
        g_action_map_add_action(G_ACTION_MAP(group), G_ACTION(action));
    }
    /* The group keeps the machine; the machine's signals do not keep the group. */
    g_object_set_data_full(G_OBJECT(group), "machine", g_object_ref(machine), g_object_unref);
    g_signal_connect_object(machine, "notify::state", G_CALLBACK(update), group, 0);
    g_signal_connect_object(machine, "notify::medium", G_CALLBACK(update), group, 0);
    update(machine, NULL, G_ACTION_MAP(group));
    return group;
}
