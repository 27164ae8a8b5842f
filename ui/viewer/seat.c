/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pointers that come under Wayland while the viewer runs, such as a mouse without wires that was
 * asleep: the seat had none, and then it has one. SDL 2 locks the pointer that is there when
 * relative motion is switched on, and does not look again. SDL dispatches the events.
 */
#include <SDL_syswm.h>
#ifdef SDL_VIDEO_DRIVER_WAYLAND
#include <wayland-client.h>
#endif

#include "viewer.h"

#ifdef SDL_VIDEO_DRIVER_WAYLAND

typedef struct {
    Seats *seats;
    struct wl_seat *seat;
    bool pointer;
} Seat;

struct _Seats {
    Viewer *v;
    struct wl_display *display;
    struct wl_registry *registry;
    struct wl_callback *told; /* SDL, too, has heard of the pointer then */
    GPtrArray *list;          /* of Seat */
};

static void told(void *data, struct wl_callback *callback, uint32_t serial)
{
    Seats *seats = data;

    g_clear_pointer(&seats->told, wl_callback_destroy);
    events_new_pointer(seats->v);
}

static void capabilities(void *data, struct wl_seat *wl, uint32_t what)
{
    static const struct wl_callback_listener listener = {.done = told};
    Seat *seat = data;
    Seats *seats = seat->seats;
    bool pointer = what & WL_SEAT_CAPABILITY_POINTER;

    if (pointer && !seat->pointer && !seats->told) {
        seats->told = wl_display_sync(seats->display);
        wl_callback_add_listener(seats->told, &listener, seats);
    }
    seat->pointer = pointer;
}

static void seat_free(gpointer data)
{
    Seat *seat = data;

    wl_seat_destroy(seat->seat);
    g_free(seat);
}

static void appears(void *data, struct wl_registry *registry, uint32_t name, const char *interface,
                    uint32_t version)
{
    static const struct wl_seat_listener listener = {.capabilities = capabilities};
    Seats *seats = data;
    Seat *seat;

    if (g_strcmp0(interface, wl_seat_interface.name) == 0) {
        seat = g_new0(Seat, 1);
        seat->seats = seats;
        seat->seat = wl_registry_bind(registry, name, &wl_seat_interface, 1);
        wl_seat_add_listener(seat->seat, &listener, seat);
        g_ptr_array_add(seats->list, seat);
    }
}

static void disappears(void *data, struct wl_registry *registry, uint32_t name)
{
}

Seats *seats_new(Viewer *v)
{
    static const struct wl_registry_listener listener = {appears, disappears};
    SDL_SysWMinfo info;
    Seats *seats;

    SDL_VERSION(&info.version);
    if (!SDL_GetWindowWMInfo(v->window, &info) || info.subsystem != SDL_SYSWM_WAYLAND) {
        return NULL;
    }
    seats = g_new0(Seats, 1);
    seats->v = v;
    seats->display = info.info.wl.display;
    seats->list = g_ptr_array_new_with_free_func(seat_free);
    seats->registry = wl_display_get_registry(seats->display);
    wl_registry_add_listener(seats->registry, &listener, seats);
    return seats;
}

void seats_free(Seats *seats)
{
    if (seats) {
        g_clear_pointer(&seats->told, wl_callback_destroy);
        g_ptr_array_unref(seats->list);
        wl_registry_destroy(seats->registry);
        g_free(seats);
    }
}

#else

Seats *seats_new(Viewer *v)
{
    return NULL;
}

void seats_free(Seats *seats)
{
}

#endif
