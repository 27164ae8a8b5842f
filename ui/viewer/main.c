/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ringside-viewer: its options, its window, its end. */
#include <glib-unix.h>
#include <glib/gi18n-lib.h>
#include <locale.h>

#include "rs-launch.h"
#include "rs-library.h"
#include "viewer.h"

#define NOTICE_SECONDS 2
#define SETTLE_MS      200 /* until the window is as large as its monitor */

static int display_index = -1;
static char *display_at;
static gboolean integer_only, original_size, no_resize, keep_size, show_version;
static const GOptionEntry options[] = {
    {"display", 'd', 0, G_OPTION_ARG_INT, &display_index, N_("The monitor, counted from 0"), "N"},
    {"at", 0, 0, G_OPTION_ARG_STRING, &display_at,
     N_("The monitor that shows this place of the desktop"), "X,Y"},
    {"integer", 0, 0, G_OPTION_ARG_NONE, &integer_only, N_("Enlarge by whole factors only"), NULL},
    {"original", 0, 0, G_OPTION_ARG_NONE, &original_size, N_("Do not enlarge at all"), NULL},
    {"no-resize", 0, 0, G_OPTION_ARG_NONE, &no_resize,
     N_("Do not ask the guest for the monitor's size"), NULL},
    {"keep-size", 0, 0, G_OPTION_ARG_NONE, &keep_size,
     N_("Leave the guest's screen as it is at the end"), NULL},
    {"version", 0, 0, G_OPTION_ARG_NONE, &show_version, N_("Print the version"), NULL},
    {NULL},
};

/* By id, or by name. */
static RsMachine *find_machine(RsLibrary *library, const char *name)
{
    RsMachine *machine = rs_library_find(library, name);
    guint count = g_list_model_get_n_items(G_LIST_MODEL(library));

    for (guint i = 0; !machine && i < count; i++) {
        g_autoptr(RsMachine) item = g_list_model_get_item(G_LIST_MODEL(library), i);
        machine = g_str_equal(rs_machine_get_name(item), name) ? item : NULL;
    }
    return machine ? g_object_ref(machine) : NULL;
}

/* --- the window --- */

static int choose_display(void)
{
    SDL_Point point;

    if (display_at && sscanf(display_at, "%d,%d", &point.x, &point.y) == 2) {
        display_index = SDL_GetPointDisplayIndex(&point);
    }
    return display_index >= 0 && display_index < SDL_GetNumVideoDisplays() ? display_index : 0;
}

static bool open_window(Viewer *v)
{
    SDL_Rect bounds = {0, 0, 1024, 768};

    SDL_SetHint(SDL_HINT_VIDEO_MINIMIZE_ON_FOCUS_LOSS, "0");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    SDL_SetHint(SDL_HINT_MOUSE_RELATIVE_SCALING, "0");
    SDL_SetHint(SDL_HINT_APP_NAME, "Ringside");
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    g_setenv("SDL_VIDEO_X11_WMCLASS", "ringside-viewer", FALSE);
    g_setenv("SDL_VIDEO_WAYLAND_WMCLASS", "org.ringside.Ringside", FALSE);
    if (SDL_Init(SDL_INIT_VIDEO) < 0) {
        return false;
    }
    if (g_str_equal(SDL_GetCurrentVideoDriver(), "x11")) {
        SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0"); /* damage only; Wayland has no other */
    }
    int index = choose_display();
    SDL_GetDisplayBounds(index, &bounds);
    v->window = SDL_CreateWindow(rs_machine_get_name(v->machine),
                                 (int)SDL_WINDOWPOS_UNDEFINED_DISPLAY(index),
                                 (int)SDL_WINDOWPOS_UNDEFINED_DISPLAY(index), bounds.w, bounds.h,
                                 SDL_WINDOW_FULLSCREEN_DESKTOP | SDL_WINDOW_ALLOW_HIGHDPI);
    return v->window && SDL_GetWindowSurface(v->window);
}

/* Exactly, unlike the console: a black edge would be the only thing beside the guest. */
static gboolean ask_size(gpointer data)
{
    Viewer *v = data;
    SDL_Surface *surface = SDL_GetWindowSurface(v->window);

    v->ask = 0;
    if (surface && (surface->w != v->asked_width || surface->h != v->asked_height)) {
        if (!v->asked_width && v->frame) {
            v->first_width = rs_frame_get_width(v->frame);
            v->first_height = rs_frame_get_height(v->frame);
        }
        v->asked_width = surface->w;
        v->asked_height = surface->h;
        rs_machine_set_size(v->machine, (unsigned)surface->w, (unsigned)surface->h);
    }
    return G_SOURCE_REMOVE;
}

void viewer_ask_size(Viewer *v)
{
    g_clear_handle_id(&v->ask, g_source_remove);
    if (v->resize && rs_machine_can_resize(v->machine)) {
        v->ask = g_timeout_add(SETTLE_MS, ask_size, v);
    }
}

/* Back to what it was, if it has followed; a console asks for its own. */
static void give_size_back(Viewer *v)
{
    if (!keep_size && !v->started && v->first_width && v->frame &&
        rs_frame_get_width(v->frame) == (unsigned)v->asked_width &&
        rs_frame_get_height(v->frame) == (unsigned)v->asked_height) {
        rs_machine_set_last_size(v->machine, v->first_width, v->first_height);
    }
}

/* --- what the machine says --- */

static void state_changed(Viewer *v)
{
    RsMachineState state = rs_machine_get_state(v->machine);
    const char *message = rs_machine_get_message(v->machine);

    if (state == RS_MACHINE_STARTING) {
        v->started = true;
        return;
    }
    if (!rs_machine_is_active(v->machine)) {
        if (state == RS_MACHINE_CRASHED && message) {
            g_printerr("ringside-viewer: %s\n", message);
        }
        g_main_loop_quit(v->loop);
        return;
    }
    pads_plug(v);
    bool stands = state == RS_MACHINE_PAUSED || state == RS_MACHINE_IO_ERROR;
    if (stands || !v->notice_timer) {
        picture_notice(v, !stands ? NULL : message ? message : _("The machine is paused."), 0);
    }
    picture_redraw_part(v, 0, 0, RS_FRAME_MAX_SIZE * 2, bar_height(v));
}

static void on_frame(Viewer *v, RsFrame *frame)
{
    picture_set_frame(v, frame);
    events_update_pointer(v);
}

static void started(GObject *object, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    Viewer *v = data;

    if (!rs_machine_start_finish(RS_MACHINE(object), result, &error)) {
        g_printerr("ringside-viewer: %s\n", error->message);
        v->status = VIEWER_FAILED;
        g_main_loop_quit(v->loop);
    } else if (rs_machine_get_settings(v->machine)->usb_connect && /* and when it has been left */
               !rs_launch_usb_watch(rs_machine_get_folder(v->machine),
                                    rs_machine_get_id(v->machine), &error)) {
        g_printerr("ringside-viewer: %s\n", error->message);
    }
}

static gboolean stop(gpointer data)
{
    g_main_loop_quit(((Viewer *)data)->loop);
    return G_SOURCE_CONTINUE;
}

static void run(Viewer *v)
{
    GSource *source = events_source_new(v);

    g_unix_signal_add(SIGTERM, stop, v);
    g_unix_signal_add(SIGINT, stop, v);
    g_signal_connect_swapped(v->machine, "frame", G_CALLBACK(on_frame), v);
    g_signal_connect_swapped(v->machine, "damage", G_CALLBACK(picture_damage), v);
    g_signal_connect_swapped(v->machine, "cursor", G_CALLBACK(cursor_changed), v);
    g_signal_connect_swapped(v->machine, "notify::absolute", G_CALLBACK(events_update_pointer), v);
    g_signal_connect_swapped(v->machine, "notify::can-resize", G_CALLBACK(viewer_ask_size), v);
    g_signal_connect_swapped(v->machine, "notify::state", G_CALLBACK(state_changed), v);
    rs_machine_attach(v->machine);
    if (!rs_machine_is_active(v->machine)) {
        rs_machine_start_async(v->machine, started, v);
    }
    viewer_ask_size(v);
    pads_open(v);
    usb_news_begin(v);
    picture_notice(v, _("Press Ctrl+Alt, or touch the upper edge, to leave"), NOTICE_SECONDS);
    g_main_loop_run(v->loop);
    usb_news_end(v);
    usb_show(v, false);
    events_release(v);
    pads_close(v);
    give_size_back(v);
    rs_machine_detach(v->machine);
    g_signal_handlers_disconnect_by_data(v->machine, v);
    g_source_destroy(source);
    g_source_unref(source);
}

static void let_go(Viewer *v)
{
    picture_notice(v, NULL, 0);
    picture_clear(v);
    cursor_clear(v);
    g_clear_handle_id(&v->redraw, g_source_remove);
    g_clear_handle_id(&v->ask, g_source_remove);
    cairo_region_destroy(v->damage);
    SDL_DestroyWindow(v->window);
    SDL_Quit();
    g_main_loop_unref(v->loop);
}

static int show(RsMachine *machine)
{
    Viewer v = {.machine = machine,
                .integer = integer_only,
                .original = original_size,
                .resize = !no_resize,
                .bar_hover = -1};

    if (!open_window(&v)) {
        g_printerr("ringside-viewer: There is no screen for SDL: %s\n", SDL_GetError());
        SDL_Quit();
        return VIEWER_NO_SCREEN;
    }
    v.loop = g_main_loop_new(NULL, FALSE);
    v.damage = cairo_region_create();
    Seats *seats = seats_new(&v);
    run(&v);
    seats_free(seats);
    let_go(&v);
    return v.status;
}

/* Translations lie in the build tree when it runs from there. */
static void set_up_translation(void)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *own = exe ? g_path_get_dirname(exe) : g_strdup(".");
    g_autofree char *folder = g_build_filename(own, "..", "..", "po", NULL);
    g_autofree char *file = g_build_filename(folder, "de", "LC_MESSAGES", "ringside.mo", NULL);

    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, g_file_test(file, G_FILE_TEST_EXISTS) ? folder : RS_LOCALE_DIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);
}

int main(int argc, char **argv)
{
    set_up_translation();
    g_autoptr(GOptionContext) context = g_option_context_new(_("MACHINE"));
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, GETTEXT_PACKAGE);
    g_option_context_set_summary(context,
                                 _("Shows a machine of Ringside's library on the whole screen."));
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_printerr("ringside-viewer: %s\n", error->message);
        return VIEWER_FAILED;
    }
    if (show_version) {
        g_print("ringside-viewer %s\n", RS_VERSION);
        return VIEWER_LEFT;
    }
    if (argc != 2) {
        g_printerr("ringside-viewer: name one machine; \"ringctl list\" shows them\n");
        return VIEWER_FAILED;
    }
    g_autoptr(RsLibrary) library = rs_library_new();
    g_autoptr(RsMachine) machine = find_machine(library, argv[1]);
    if (!machine) {
        g_printerr(
            "ringside-viewer: There is no machine \"%s\"; \"ringctl list\" shows those there are\n",
            argv[1]);
        return VIEWER_FAILED;
    }
    return show(machine);
}
