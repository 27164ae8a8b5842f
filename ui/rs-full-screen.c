/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting and ending ringside-viewer for a console (see rs-full-screen.h). */
#include "rs-full-screen.h"

#include "rs-host.h"

#define KEY "viewer" /* the GSubprocess, while it runs */

static void viewer_ended(GObject *object, GAsyncResult *result, gpointer data)
{
    GSubprocess *viewer = G_SUBPROCESS(object);
    g_autoptr(GtkWindow) window = data;

    g_subprocess_wait_finish(viewer, result, NULL);
    g_object_set_data(G_OBJECT(window), KEY, NULL);
    if (!gtk_widget_get_root(GTK_WIDGET(window))) {
        return; /* closed meanwhile */
    }
    if (g_subprocess_get_if_exited(viewer) && g_subprocess_get_exit_status(viewer) != 0) {
        gtk_window_fullscreen(window);
    }
    gtk_window_present(window);
}

/* Somewhere on the window's monitor. */
static char *place(GtkWindow *window)
{
    GdkSurface *surface = gtk_native_get_surface(GTK_NATIVE(window));
    GdkMonitor *monitor =
        gdk_display_get_monitor_at_surface(gtk_widget_get_display(GTK_WIDGET(window)), surface);
    GdkRectangle g = {0, 0, 0, 0};

    if (monitor) {
        gdk_monitor_get_geometry(monitor, &g);
    }
    return g_strdup_printf("%d,%d", g.x + g.width / 2, g.y + g.height / 2);
}

static GSubprocess *start(GtkWindow *window, RsMachine *machine, gboolean integer)
{
    g_autofree char *program = rs_host_find_viewer();
    g_autofree char *centre = place(window);
    g_autofree char *at = g_strconcat("--at=", centre, NULL);
    const char *argv[] = {program, at, rs_machine_get_id(machine), integer ? "--integer" : NULL,
                          NULL};

    return program ? g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_NONE, NULL) : NULL;
}

void rs_full_screen_toggle(GtkWindow *window, RsMachine *machine, gboolean integer)
{
    GSubprocess *viewer = g_object_get_data(G_OBJECT(window), KEY);

    if (gtk_window_is_fullscreen(window)) {
        gtk_window_unfullscreen(window);
    } else if (viewer) {
        g_subprocess_send_signal(viewer, SIGTERM);
    } else if (!rs_machine_is_active(machine) || !(viewer = start(window, machine, integer))) {
        gtk_window_fullscreen(window);
    } else {
        g_object_set_data_full(G_OBJECT(window), KEY, viewer, g_object_unref);
        g_subprocess_wait_async(viewer, NULL, viewer_ended, g_object_ref(window));
    }
}
