/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and pictures of states and systems (see rs-state.h). */
#include <adwaita.h>
#include <glib/gi18n-lib.h>

#include "rs-state.h"

static const struct {
    const char *label, *style;
} states[] = {
    [RS_MACHINE_OFF] = {N_("Off"), "state-off"},
    [RS_MACHINE_STARTING] = {N_("Starting"), "state-running"},
    [RS_MACHINE_RUNNING] = {N_("Running"), "state-running"},
    [RS_MACHINE_PAUSED] = {N_("Paused"), "state-paused"},
    [RS_MACHINE_SUSPENDING] = {N_("Suspending"), "state-paused"},
    [RS_MACHINE_SUSPENDED] = {N_("Suspended"), "state-paused"},
    [RS_MACHINE_IO_ERROR] = {N_("Paused: the host is full"), "state-error"},
    [RS_MACHINE_CRASHED] = {N_("Crashed"), "state-error"},
    [RS_MACHINE_BROKEN] = {N_("Settings cannot be read"), "state-error"},
};

const char *rs_state_label(RsMachineState state)
{
    return _(states[state].label);
}

const char *rs_state_style(RsMachineState state)
{
    return states[state].style;
}

const char *rs_state_system_icon(const char *os_id)
{
    static const struct {
        const char *prefix, *icon;
    } icons[] = {
        {"win", "ringside-system-windows-symbolic"},   {"msdos", "ringside-system-dos-symbolic"},
        {"freedos", "ringside-system-dos-symbolic"},   {"freebsd", "ringside-system-bsd-symbolic"},
        {"openbsd", "ringside-system-bsd-symbolic"},   {"netbsd", "ringside-system-bsd-symbolic"},
        {"dragonfly", "ringside-system-bsd-symbolic"},
    };

    for (unsigned i = 0; os_id && i < G_N_ELEMENTS(icons); i++) {
        if (g_str_has_prefix(os_id, icons[i].prefix)) {
            return icons[i].icon;
        }
    }
    return os_id && *os_id ? "ringside-system-linux-symbolic" : "ringside-machine-symbolic";
}

GtkWindow *rs_state_active_window(void)
{
    GApplication *application = g_application_get_default();
    return application ? gtk_application_get_active_window(GTK_APPLICATION(application)) : NULL;
}

void rs_state_show_error(GtkWindow *parent, const char *heading, const char *body)
{
    GtkWidget *dialog = adw_message_dialog_new(parent, heading, body);

    adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(dialog), "close", _("_Close"));
    gtk_window_present(GTK_WINDOW(dialog));
}
