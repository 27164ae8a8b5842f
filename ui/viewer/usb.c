/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of this computer's USB devices below the bar: Return or a click connects one to the
 * machine or takes it back. What should stay with the computer takes two of them. While the viewer
 * has the focus a notice says what was plugged in; rules are others' to carry out.
 */
#include <glib/gi18n-lib.h>

#include "rs-machine-usb.h"
#include "viewer.h"

#define ROW   36
#define WIDTH 460
#define FONT  15
#define PAD   12

#define NEWS_SECONDS 6

struct _UsbNews {
    GPtrArray *devices; /* of RsUsbDevice: those that are no news */
    RsUsbWatch *watch;
};

struct _UsbList {
    GPtrArray *devices; /* of RsUsbDevice */
    RsUsbWatch *watch;
    char *asked; /* port of the device that is to be chosen again */
    int chosen;  /* row under the pointer or chosen by keys; -1 */
};

static int row_height(Viewer *v)
{
    return (int)(ROW * picture_scale(v));
}

/* Also for the sentence of an empty list. */
static int rows(Viewer *v)
{
    return MAX((int)v->usb->devices->len, 1);
}

static SDL_Rect area(Viewer *v)
{
    SDL_Surface *surface = SDL_GetWindowSurface(v->window);
    int width = (int)(WIDTH * picture_scale(v));

    return (SDL_Rect){(surface ? surface->w : width) - width, bar_height(v), width,
                      rows(v) * row_height(v)};
}

static void redraw(Viewer *v)
{
    picture_redraw(v);
}

static void refresh(Viewer *v)
{
    g_clear_pointer(&v->usb->devices, g_ptr_array_unref);
    v->usb->devices = rs_usb_list();
    v->usb->chosen = MIN(v->usb->chosen, (int)v->usb->devices->len - 1);
    redraw(v);
}

void usb_show(Viewer *v, bool shown)
{
    if (shown && !v->usb) {
        v->usb = g_new0(UsbList, 1);
        v->usb->chosen = v->bar_keyboard ? 0 : -1;
        v->usb->watch = rs_usb_watch_new();
        g_signal_connect_swapped(v->usb->watch, "changed", G_CALLBACK(refresh), v);
        g_signal_connect_swapped(v->machine, "usb-changed", G_CALLBACK(refresh), v);
        refresh(v);
    } else if (!shown && v->usb) {
        g_signal_handlers_disconnect_by_func(v->machine, refresh, v);
        g_signal_handlers_disconnect_by_data(v->usb->watch, v);
        g_clear_object(&v->usb->watch);
        g_ptr_array_unref(v->usb->devices);
        g_free(v->usb->asked);
        g_clear_pointer(&v->usb, g_free);
        redraw(v);
    }
}

static char *row_text(Viewer *v, const RsUsbDevice *device)
{
    if (rs_machine_has_usb(v->machine, device->port)) {
        return g_strdup_printf(_("%s: in this machine"), device->name);
    }
    return device->holder ? g_strdup_printf(_("%s: used by this computer"), device->name)
                          : g_strdup(device->name);
}

static void draw_row(Viewer *v, cairo_t *cr, int row, const char *text)
{
    SDL_Rect at = area(v);
    int y = at.y + row * row_height(v), pad = (int)(PAD * picture_scale(v)), height;
    PangoLayout *layout = picture_text(v, cr, text, FONT, false);

    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    pango_layout_set_width(layout, (at.w - 2 * pad) * PANGO_SCALE);
    pango_layout_get_pixel_size(layout, NULL, &height);
    if (v->usb->chosen == row) {
        cairo_set_source_rgb(cr, 0.21, 0.52, 0.89);
        cairo_rectangle(cr, at.x, y, at.w, row_height(v));
        cairo_fill(cr);
    }
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_move_to(cr, at.x + pad, y + (row_height(v) - height) / 2.0);
    pango_cairo_show_layout(cr, layout);
    g_object_unref(layout);
}

void usb_draw(Viewer *v, cairo_t *cr)
{
    SDL_Rect at = area(v);

    cairo_set_source_rgb(cr, 0.2, 0.2, 0.2);
    cairo_rectangle(cr, at.x, at.y, at.w, at.h);
    cairo_fill(cr);
    if (!v->usb->devices->len) {
        draw_row(v, cr, 0, _("This computer has no USB devices"));
    }
    for (unsigned i = 0; i < v->usb->devices->len; i++) {
        g_autofree char *text = row_text(v, v->usb->devices->pdata[i]);
        draw_row(v, cr, (int)i, text);
    }
}

static void done(GObject *object, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!rs_machine_usb_finish(RS_MACHINE(object), result, &error)) {
        picture_notice(data, error->message, 10);
    }
}

static void toggle(Viewer *v, int row)
{
    if (row < 0 || row >= (int)v->usb->devices->len) {
        return;
    }
    const RsUsbDevice *device = v->usb->devices->pdata[row];
    g_autofree char *why_not = rs_usb_why_not(device);
    if (rs_machine_has_usb(v->machine, device->port)) {
        rs_machine_detach_usb_async(v->machine, device->port, done, v);
    } else if (why_not && g_strcmp0(v->usb->asked, device->port)) {
        g_autofree char *text =
            g_strdup_printf(_("%s\nChoose it again to connect it all the same."), why_not);
        g_free(v->usb->asked);
        v->usb->asked = g_strdup(device->port);
        picture_notice(v, text, 10);
    } else {
        g_clear_pointer(&v->usb->asked, g_free);
        rs_machine_attach_usb_async(v->machine, device, done, v);
    }
}

static int row_at(Viewer *v, int x, int y)
{
    SDL_Rect at = area(v);

    return SDL_PointInRect(&(SDL_Point){x, y}, &at) ? (y - at.y) / row_height(v) : -1;
}

bool usb_motion(Viewer *v, int x, int y)
{
    int row = row_at(v, x, y);

    if (row >= 0 && row != v->usb->chosen) {
        v->usb->chosen = row;
        redraw(v);
    }
    return row >= 0;
}

bool usb_click(Viewer *v, int x, int y)
{
    int row = row_at(v, x, y);

    toggle(v, row);
    return row >= 0;
}

void usb_key(Viewer *v, SDL_Scancode scancode)
{
    int count = rows(v);

    if (scancode == SDL_SCANCODE_DOWN || scancode == SDL_SCANCODE_TAB) {
        v->usb->chosen = (v->usb->chosen + 1) % count;
    } else if (scancode == SDL_SCANCODE_UP) {
        v->usb->chosen = (MAX(v->usb->chosen, 0) + count - 1) % count;
    } else if (scancode == SDL_SCANCODE_ESCAPE) {
        usb_show(v, false);
        return;
    } else if (scancode == SDL_SCANCODE_RETURN || scancode == SDL_SCANCODE_SPACE ||
               scancode == SDL_SCANCODE_KP_ENTER) {
        toggle(v, v->usb->chosen);
    }
    redraw(v);
}

/* --- what is plugged in --- */

/* No rule has an answer, and the device is one that may go. */
static bool is_open(Viewer *v, const RsUsbDevice *device)
{
    g_autofree char *why_not = rs_usb_why_not(device);

    return !why_not && !rs_machine_has_usb(v->machine, device->port) &&
           rs_machine_get_usb_rule(v->machine, device) == RS_USB_FORGET;
}

static void tell_news(Viewer *v)
{
    g_autoptr(GPtrArray) list = rs_usb_list();

    for (unsigned i = 0; i < list->len; i++) {
        const RsUsbDevice *device = list->pdata[i];
        if (v->focused && !v->usb && rs_machine_get_state(v->machine) == RS_MACHINE_RUNNING &&
            !rs_usb_list_has(v->news->devices, device) && is_open(v, device)) {
            g_autofree char *text = g_strdup_printf(
                _("“%s” was plugged in. To connect it press Ctrl+Alt and choose USB."),
                device->name);
            picture_notice(v, text, NEWS_SECONDS);
        }
    }
    g_ptr_array_unref(v->news->devices);
    v->news->devices = g_steal_pointer(&list);
}

void usb_news_begin(Viewer *v)
{
    v->news = g_new0(UsbNews, 1);
    v->news->devices = rs_usb_list();
    v->news->watch = rs_usb_watch_new();
    g_signal_connect_swapped(v->news->watch, "changed", G_CALLBACK(tell_news), v);
}

void usb_news_end(Viewer *v)
{
    g_signal_handlers_disconnect_by_data(v->news->watch, v);
    g_object_unref(v->news->watch);
    g_ptr_array_unref(v->news->devices);
    g_clear_pointer(&v->news, g_free);
}
