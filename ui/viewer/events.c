/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SDL's events in GLib's main loop, and keyboard and pointer on their way to the guest. */
#include <SDL_syswm.h>
#include <X11/Xlib.h>
#include <glib/gi18n-lib.h>
#include <linux/input-event-codes.h>
#include <math.h>
#ifdef SDL_VIDEO_DRIVER_WAYLAND
#include <wayland-client.h>
#endif

#include "viewer.h"

#define ABSOLUTE_MAX 32767
#define POLL_MS      4 /* where there is no descriptor to wait for */

/* --- the pointer --- */

static bool absolute(Viewer *v)
{
    return rs_machine_get_absolute(v->machine);
}

/* Windows are in points, surfaces in pixels. */
static double pixels_per_point(Viewer *v)
{
    SDL_Surface *surface = SDL_GetWindowSurface(v->window);
    int width, height;

    SDL_GetWindowSize(v->window, &width, &height);
    return surface && width > 0 ? (double)surface->w / width : 1;
}

static unsigned on_screen(double place, double size)
{
    return (unsigned)(CLAMP(size > 1 ? place / (size - 1) : 0, 0, 1) * ABSOLUTE_MAX);
}

/* What moved since the last time, as one event. */
static void motion_send(Viewer *v)
{
    int wheel = v->motion.wheel;

    if (v->motion.absolute && v->frame && absolute(v)) {
        rs_machine_pointer_absolute(v->machine, on_screen(v->pointer_x - v->x, v->width),
                                    on_screen(v->pointer_y - v->y, v->height), wheel, v->buttons);
    } else if (v->motion.relative) {
        rs_machine_pointer_relative(v->machine, v->motion.x, v->motion.y, wheel, v->buttons);
    }
    v->motion.absolute = v->motion.relative = false;
    v->motion.x = v->motion.y = v->motion.wheel = 0;
}

void events_update_cursor(Viewer *v)
{
    bool guests = v->focused && !v->bar_keyboard && (v->captured || absolute(v)) &&
                  !(v->bar_shown && v->pointer_y < bar_height(v));

    cursor_show(v, !guests);
}

static void set_captured(Viewer *v, bool captured)
{
    v->captured = captured;
    SDL_SetRelativeMouseMode(captured ? SDL_TRUE : SDL_FALSE);
    events_update_cursor(v);
}

/* SDL takes the pointer when it is told to, or never: one that comes later would stop at the edges
 * of the screen. */
void events_new_pointer(Viewer *v)
{
    if (v->captured) {
        set_captured(v, false);
        set_captured(v, true);
    }
}

void events_update_pointer(Viewer *v)
{
    set_captured(v, v->focused && !v->bar_keyboard && v->frame && !absolute(v));
}

void events_take(Viewer *v)
{
    bar_show(v, false, false);
    SDL_SetWindowKeyboardGrab(v->window, SDL_TRUE);
    events_update_pointer(v);
    pads_take(v);
}

void events_release(Viewer *v)
{
    memset(v->held, 0, sizeof v->held);
    v->chord = false;
    v->buttons = 0;
    v->motion.absolute = v->motion.relative = false;
    rs_machine_release_all(v->machine);
    SDL_SetWindowKeyboardGrab(v->window, SDL_FALSE);
    set_captured(v, false);
}

static void on_motion(Viewer *v, const SDL_MouseMotionEvent *e)
{
    double scale = pixels_per_point(v);

    if (v->captured) {
        v->motion.relative = true;
        v->motion.x += e->xrel;
        v->motion.y += e->yrel;
        return;
    }
    v->pointer_x = (int)(e->x * scale);
    v->pointer_y = (int)(e->y * scale);
    bar_motion(v, v->pointer_x, v->pointer_y);
    if (v->focused && !v->bar_keyboard && !v->usb &&
        !(v->bar_shown && v->pointer_y < bar_height(v))) {
        v->motion.absolute = absolute(v);
    }
}

static unsigned button_bit(unsigned button)
{
    static const unsigned bits[] = {[SDL_BUTTON_LEFT] = 1,
                                    [SDL_BUTTON_RIGHT] = 2,
                                    [SDL_BUTTON_MIDDLE] = 4,
                                    [SDL_BUTTON_X1] = 8,
                                    [SDL_BUTTON_X2] = 16};
    return button < G_N_ELEMENTS(bits) ? bits[button] : 0;
}

static void on_button(Viewer *v, const SDL_MouseButtonEvent *e)
{
    bool down = e->type == SDL_MOUSEBUTTONDOWN;
    unsigned bit = button_bit(e->button);

    motion_send(v);
    if (down && !v->captured && v->bar_shown && (v->usb || v->pointer_y < bar_height(v))) {
        bar_click(v, v->pointer_x, v->pointer_y);
        return;
    }
    if (down && v->bar_keyboard) { /* the click is only to come back */
        events_take(v);
        return;
    }
    if (!down && !(v->buttons & bit)) {
        return;
    }
    v->buttons = down ? v->buttons | bit : v->buttons & ~bit;
    v->motion.absolute = !v->captured;
    v->motion.relative = v->captured;
    motion_send(v);
}

static void on_wheel(Viewer *v, const SDL_MouseWheelEvent *e)
{
    if (!v->bar_keyboard) {
        v->motion.wheel += e->y;
        v->motion.absolute = !v->captured;
        v->motion.relative = v->captured;
    }
}

/* --- the keyboard --- */

static bool is_chord_key(unsigned code)
{
    return code == KEY_LEFTCTRL || code == KEY_RIGHTCTRL || code == KEY_LEFTALT;
}

/* True when this release completes Ctrl+Alt with no other key between. */
static bool track_chord(Viewer *v, unsigned code, bool down)
{
    v->held[code] = down;
    if (down) {
        v->chord = is_chord_key(code) && v->held[KEY_LEFTALT] &&
                   (v->held[KEY_LEFTCTRL] || v->held[KEY_RIGHTCTRL]);
        return false;
    }
    bool complete = v->chord && is_chord_key(code);
    v->chord = false;
    return complete;
}

static void on_key(Viewer *v, const SDL_KeyboardEvent *e)
{
    bool down = e->type == SDL_KEYDOWN;
    unsigned code = viewer_key_code(e->keysym.scancode);

    motion_send(v);
    if (v->bar_keyboard) {
        if (down) {
            bar_key(v, e->keysym.scancode);
        }
        return;
    }
    if (!code || code >= sizeof v->held || (!down && !v->held[code])) {
        return;
    }
    /* Repeats go on as presses: the guest's keyboard makes none of its own. */
    rs_machine_key(v->machine, code, down);
    if (track_chord(v, code, down)) {
        events_release(v);
        bar_show(v, true, true);
    }
}

/* --- the window --- */

static void on_window(Viewer *v, const SDL_WindowEvent *e)
{
    switch (e->event) {
    case SDL_WINDOWEVENT_FOCUS_GAINED:
        v->focused = true;
        if (!v->bar_keyboard) {
            events_take(v);
        }
        break;
    case SDL_WINDOWEVENT_FOCUS_LOST:
        v->focused = false;
        events_release(v);
        break;
    case SDL_WINDOWEVENT_SIZE_CHANGED:
        viewer_ask_size(v);
        picture_redraw(v);
        break;
    case SDL_WINDOWEVENT_EXPOSED:
    case SDL_WINDOWEVENT_RESTORED:
        picture_redraw(v);
        break;
    case SDL_WINDOWEVENT_CLOSE:
        g_main_loop_quit(v->loop);
        break;
    default:
        break;
    }
}

static void on_event(Viewer *v, const SDL_Event *e)
{
    switch (e->type) {
    case SDL_QUIT:
        g_main_loop_quit(v->loop);
        break;
    case SDL_WINDOWEVENT:
        on_window(v, &e->window);
        break;
    case SDL_KEYDOWN:
    case SDL_KEYUP:
        on_key(v, &e->key);
        break;
    case SDL_MOUSEMOTION:
        on_motion(v, &e->motion);
        break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        on_button(v, &e->button);
        break;
    case SDL_MOUSEWHEEL:
        on_wheel(v, &e->wheel);
        break;
    default:
        pads_event(v, e);
        break;
    }
}

/* --- the source --- */

typedef struct {
    GSource source;
    Viewer *v;
    bool waits; /* for a descriptor */
} EventSource;

static gboolean prepare(GSource *source, int *timeout)
{
    const EventSource *self = (EventSource *)source;

    *timeout = self->waits ? pads_poll_ms(self->v) : POLL_MS;
    SDL_PumpEvents();
    return SDL_HasEvents(SDL_FIRSTEVENT, SDL_LASTEVENT);
}

static gboolean check(GSource *source)
{
    SDL_PumpEvents();
    return SDL_HasEvents(SDL_FIRSTEVENT, SDL_LASTEVENT);
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    Viewer *v = ((EventSource *)source)->v;
    SDL_Event event;

    while (SDL_PeepEvents(&event, 1, SDL_GETEVENT, SDL_FIRSTEVENT, SDL_LASTEVENT) == 1) {
        on_event(v, &event);
    }
    motion_send(v);
    pads_tell(v);
    return G_SOURCE_CONTINUE;
}

static int descriptor(SDL_Window *window)
{
    SDL_SysWMinfo info;

    SDL_VERSION(&info.version);
    if (!SDL_GetWindowWMInfo(window, &info)) {
        return -1;
    }
#ifdef SDL_VIDEO_DRIVER_X11
    if (info.subsystem == SDL_SYSWM_X11) {
        return XConnectionNumber(info.info.x11.display);
    }
#endif
#ifdef SDL_VIDEO_DRIVER_WAYLAND
    if (info.subsystem == SDL_SYSWM_WAYLAND) {
        return wl_display_get_fd(info.info.wl.display);
    }
#endif
    return -1;
}

GSource *events_source_new(Viewer *v)
{
    static GSourceFuncs funcs = {.prepare = prepare, .check = check, .dispatch = dispatch};
    GSource *source = g_source_new(&funcs, sizeof(EventSource));
    int fd = descriptor(v->window);

    ((EventSource *)source)->v = v;
    ((EventSource *)source)->waits = fd >= 0;
    if (fd >= 0) {
        g_source_add_unix_fd(source, fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    }
    g_source_attach(source, NULL);
    return source;
}
