/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What to do with running machines at the end (see rs-close-dialog.h). */
#include <adwaita.h>
#include <glib/gi18n-lib.h>
#include <string.h>

#include "rs-close-dialog.h"
#include "rs-machine.h"
#include "rs-state.h"

typedef struct {
    GtkWindow *parent;
    GPtrArray *machines;
    GSettings *settings;
    GtkCheckButton *remember;
    RsCloseAnswered answered;
    gpointer data;
    RsCloseChoice choice;
    unsigned left;
    gboolean failed;
} CloseRun;

static const struct {
    const char *word;
    RsCloseChoice choice;
} choices[] = {
    {"keep", RS_CLOSE_KEEP},
    {"suspend", RS_CLOSE_SUSPEND},
    {"shut-down", RS_CLOSE_SHUT_DOWN},
};

static RsCloseChoice parse_choice(const char *word)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(choices); i++) {
        if (!strcmp(word, choices[i].word)) {
            return choices[i].choice;
        }
    }
    return RS_CLOSE_CANCEL;
}

static void finish(CloseRun *run)
{
    run->answered(run->failed ? RS_CLOSE_CANCEL : run->choice, run->data);
    g_ptr_array_unref(run->machines);
    g_object_unref(run->settings);
    g_clear_weak_pointer(&run->parent);
    g_free(run);
}

static void commanded(GObject *source, GAsyncResult *result, gpointer data)
{
    CloseRun *run = data;
    g_autoptr(GError) error = NULL;

    if (!rs_machine_command_finish(RS_MACHINE(source), result, &error)) {
        g_autofree char *heading =
            g_strdup_printf(run->choice == RS_CLOSE_SUSPEND ? _("“%s” Was Not Suspended")
                                                            : _("“%s” Was Not Shut Down"),
                            rs_machine_get_name(RS_MACHINE(source)));
        run->failed = TRUE;
        rs_state_show_error(run->parent, heading, error->message);
    }
    if (!--run->left) {
        finish(run);
    }
}

static void carry_out(CloseRun *run)
{
    RsMachineCommand command =
        run->choice == RS_CLOSE_SUSPEND ? RS_MACHINE_SUSPEND : RS_MACHINE_SHUT_DOWN;

    run->left = run->machines->len;
    if ((run->choice != RS_CLOSE_SUSPEND && run->choice != RS_CLOSE_SHUT_DOWN) || !run->left) {
        finish(run);
        return;
    }
    for (unsigned i = 0; i < run->machines->len; i++) {
        rs_machine_command_async(run->machines->pdata[i], command, commanded, run);
    }
}

static void responded(AdwMessageDialog *dialog, const char *response, CloseRun *run)
{
    run->choice = parse_choice(response);
    if (run->choice != RS_CLOSE_CANCEL && gtk_check_button_get_active(run->remember)) {
        g_settings_set_string(run->settings, "close-choice", response);
    }
    carry_out(run);
}

static char *question(GPtrArray *machines)
{
    if (machines->len == 1) {
        return g_strdup_printf(_("“%s” is running. It can go on without a window; Ringside finds "
                                 "it again at the next start."),
                               rs_machine_get_name(machines->pdata[0]));
    }
    return g_strdup_printf(
        ngettext("%u machine is running. It can go on without a window; Ringside "
                 "finds it again at the next start.",
                 "%u machines are running. They can go on without a window; "
                 "Ringside finds them again at the next start.",
                 machines->len),
        machines->len);
}

void rs_close_dialog_run(GtkWindow *parent, GPtrArray *machines, GSettings *settings,
                         RsCloseAnswered answered, gpointer data)
{
    g_autofree char *saved = g_settings_get_string(settings, "close-choice");
    CloseRun *run = g_new0(CloseRun, 1);

    g_set_weak_pointer(&run->parent, parent);
    run->machines = machines;
    run->settings = g_object_ref(settings);
    run->answered = answered;
    run->data = data;
    run->choice = parse_choice(saved);
    if (run->choice != RS_CLOSE_CANCEL) {
        carry_out(run);
        return;
    }
    g_autofree char *body = question(machines);
    AdwMessageDialog *dialog =
        ADW_MESSAGE_DIALOG(adw_message_dialog_new(parent, _("Keep Machines Running?"), body));
    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "shut-down", _("S_hut Down"),
                                     "suspend", _("_Suspend"), "keep", _("_Keep Running"), NULL);
    adw_message_dialog_set_response_appearance(dialog, "keep", ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(dialog, "keep");
    adw_message_dialog_set_close_response(dialog, "cancel");
    run->remember =
        GTK_CHECK_BUTTON(gtk_check_button_new_with_mnemonic(_("_Remember this choice")));
    gtk_widget_set_halign(GTK_WIDGET(run->remember), GTK_ALIGN_CENTER);
    adw_message_dialog_set_extra_child(dialog, GTK_WIDGET(run->remember));
    g_signal_connect(dialog, "response", G_CALLBACK(responded), run);
    gtk_window_present(GTK_WINDOW(dialog));
}
