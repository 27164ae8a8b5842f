/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting and ending ringside-viewer for a console (see rs-full-screen.h). */
#include "rs-full-screen.h"

#include "rs-host.h"

#define KEY "viewer" /* the Viewer, while it runs */

typedef struct {
    GSubprocess *process;
    void (*changed)(GtkWindow *window);
} Viewer;

static void viewer_free(gpointer data)
{
    Viewer *viewer = data;

    g_object_unref(viewer->process);
    g_free(viewer);
}

static void viewer_ended(GObject *object, GAsyncResult *result, gpointer data)
{
    GSubprocess *viewer = G_SUBPROCESS(object);
    g_autoptr(GtkWindow) window = data;

    g_subprocess_wait_finish(viewer, result, NULL);
    void (*changed)(GtkWindow *) = ((Viewer *)g_object_get_data(G_OBJECT(window), KEY))->changed;
    g_object_set_data(G_OBJECT(window), KEY, NULL);
    if (!gtk_widget_get_root(GTK_WIDGET(window))) {
        return; /* closed meanwhile */
    }
    if (g_subprocess_get_if_exited(viewer) && g_subprocess_get_exit_status(viewer) != 0) {
        gtk_window_fullscreen(window);
    }
    gtk_window_present(window);
    changed(window);
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

static GSubprocess *start(GtkWindow *window, RsMachine *machine, const RsFullScreenOptions *options)
{
    g_autofree char *program = rs_host_find_viewer();
    g_autofree char *centre = place(window);
    g_autofree char *at = g_strconcat("--at=", centre, NULL);
    const char *argv[7] = {program, at, "--keep-size", rs_machine_get_id(machine)};
    unsigned count = 4;

    if (options->scaling == RS_SCALING_INTEGER) {
        argv[count++] = "--integer";
    } else if (options->scaling == RS_SCALING_ORIGINAL) {
        argv[count++] = "--original";
    }
    if (!options->resize) {
        argv[count++] = "--no-resize";
    }
    return program ? g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_NONE, NULL) : NULL;
}

static void hand_over(GtkWindow *window, GSubprocess *process, const RsFullScreenOptions *options)
{
    Viewer *viewer = g_new0(Viewer, 1);

    viewer->process = process;
    viewer->changed = options->changed;
    g_object_set_data_full(G_OBJECT(window), KEY, viewer, viewer_free);
    g_subprocess_wait_async(process, NULL, viewer_ended, g_object_ref(window));
    options->changed(window);
}

gboolean rs_full_screen_has_viewer(GtkWindow *window)
{
    return g_object_get_data(G_OBJECT(window), KEY) != NULL;
}

void rs_full_screen_toggle(GtkWindow *window, RsMachine *machine,
                           const RsFullScreenOptions *options)
{
    Viewer *viewer = g_object_get_data(G_OBJECT(window), KEY);
    GSubprocess *process;

    if (gtk_window_is_fullscreen(window)) {
        gtk_window_unfullscreen(window);
    } else if (viewer) {
        g_subprocess_send_signal(viewer->process, SIGTERM);
    } else if (!rs_machine_is_active(machine) || !(process = start(window, machine, options))) {
        gtk_window_fullscreen(window);
    } else {
        hand_over(window, process, options);
    }
}
