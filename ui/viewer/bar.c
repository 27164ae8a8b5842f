/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bar at the upper edge: the machine's name and what one can do. It comes when the pointer
 * touches the edge, or with Ctrl+Alt; then Left, Right and Return work in it, and Escape goes back
 * to the guest.
 */
#include <glib/gi18n-lib.h>
#include <linux/input-event-codes.h>
#include <math.h>

#include "viewer.h"

#define HEIGHT 40
#define FONT   15
#define PAD    12
#define EDGE   2 /* pixels that count as touching it */

int bar_height(Viewer *v)
{
    return (int)(HEIGHT * picture_scale(v));
}

static void redraw(Viewer *v)
{
    picture_redraw_part(v, 0, 0, RS_FRAME_MAX_SIZE * 2, bar_height(v));
}

void bar_show(Viewer *v, bool shown, bool keyboard)
{
    bool changed = shown != v->bar_shown || keyboard != v->bar_keyboard;

    if (!shown) {
        usb_show(v, false);
    }
    v->bar_shown = shown;
    v->bar_keyboard = keyboard;
    v->bar_hover = keyboard ? BAR_LEAVE : -1;
    if (changed) {
        redraw(v);
    }
}

static bool paused(Viewer *v)
{
    RsMachineState state = rs_machine_get_state(v->machine);

    return state == RS_MACHINE_PAUSED || state == RS_MACHINE_IO_ERROR;
}

static const char *label(Viewer *v, BarItem item)
{
    switch (item) {
    case BAR_LEAVE:
        return _("Leave Full Screen");
    case BAR_MINIMISE:
        return _("Minimize");
    case BAR_DELETE:
        return _("Ctrl+Alt+Del");
    case BAR_USB:
        return _("USB");
    default:
        return paused(v) ? _("Resume") : _("Pause");
    }
}

/* --- drawing --- */

static int text_width(PangoLayout *layout, int *height)
{
    int width;

    pango_layout_get_pixel_size(layout, &width, height);
    return width;
}

static void draw_item(Viewer *v, cairo_t *cr, BarItem item, int right)
{
    PangoLayout *layout = picture_text(v, cr, label(v, item), FONT, false);
    int pad = (int)(PAD * picture_scale(v)), height, width = text_width(layout, &height);

    v->bar_item[item].width = width + 2 * pad;
    v->bar_item[item].x = right - v->bar_item[item].width;
    if (v->bar_hover == (int)item) {
        cairo_set_source_rgb(cr, 0.21, 0.52, 0.89);
        cairo_rectangle(cr, v->bar_item[item].x, 0, v->bar_item[item].width, bar_height(v));
        cairo_fill(cr);
    }
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_move_to(cr, v->bar_item[item].x + pad, (bar_height(v) - height) / 2);
    pango_cairo_show_layout(cr, layout);
    g_object_unref(layout);
}

void bar_draw(Viewer *v, cairo_t *cr)
{
    int right = cairo_image_surface_get_width(cairo_get_target(cr)), height;
    const char *name = rs_machine_get_name(v->machine);
    g_autofree char *title = paused(v) ? g_strdup_printf(_("%s (paused)"), name) : g_strdup(name);
    PangoLayout *layout = picture_text(v, cr, title, FONT, true);

    cairo_set_source_rgb(cr, 0.14, 0.14, 0.14);
    cairo_rectangle(cr, 0, 0, right, bar_height(v));
    cairo_fill(cr);
    for (int i = BAR_ITEMS; i-- > 0;) {
        draw_item(v, cr, (BarItem)i, right);
        right = v->bar_item[i].x;
    }
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    pango_layout_set_width(layout, MAX(right - (int)(2 * PAD * picture_scale(v)), 0) * PANGO_SCALE);
    text_width(layout, &height);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_move_to(cr, PAD * picture_scale(v), (bar_height(v) - height) / 2);
    pango_cairo_show_layout(cr, layout);
    g_object_unref(layout);
}

/* --- doing --- */

static void command_done(GObject *object, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!rs_machine_command_finish(RS_MACHINE(object), result, &error)) {
        picture_notice(data, error->message, 10);
    }
}

static void send_delete(Viewer *v)
{
    static const unsigned codes[] = {KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE};

    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        rs_machine_key(v->machine, codes[i], true);
    }
    for (unsigned i = G_N_ELEMENTS(codes); i-- > 0;) {
        rs_machine_key(v->machine, codes[i], false);
    }
}

static void activate(Viewer *v, int item)
{
    switch (item) {
    case BAR_LEAVE:
        g_main_loop_quit(v->loop);
        break;
    case BAR_MINIMISE:
        bar_show(v, false, false);
        SDL_MinimizeWindow(v->window);
        break;
    case BAR_DELETE:
        send_delete(v);
        events_take(v);
        break;
    case BAR_USB:
        usb_show(v, !v->usb);
        break;
    case BAR_PAUSE:
        rs_machine_command_async(v->machine, paused(v) ? RS_MACHINE_RESUME : RS_MACHINE_PAUSE,
                                 command_done, v);
        break;
    default:
        break;
    }
}

static int item_at(Viewer *v, int x, int y)
{
    for (int i = 0; i < BAR_ITEMS; i++) {
        if (y < bar_height(v) && x >= v->bar_item[i].x &&
            x < v->bar_item[i].x + v->bar_item[i].width) {
            return i;
        }
    }
    return -1;
}

void bar_motion(Viewer *v, int x, int y)
{
    int hover = v->bar_shown ? item_at(v, x, y) : -1;

    if (v->usb && usb_motion(v, x, y)) {
        return;
    }
    if (!v->bar_shown && y < EDGE) {
        bar_show(v, true, false);
        events_update_pointer(v);
    } else if (v->bar_shown && !v->bar_keyboard && y >= bar_height(v)) {
        bar_show(v, false, false);
        events_update_pointer(v);
    } else if (v->bar_shown && hover != v->bar_hover && (hover >= 0 || !v->bar_keyboard)) {
        v->bar_hover = hover;
        redraw(v);
    }
}

/* A click elsewhere, which only an open list makes ours, is to come back. */
void bar_click(Viewer *v, int x, int y)
{
    if (v->usb && usb_click(v, x, y)) {
        return;
    }
    if (y < bar_height(v)) {
        activate(v, item_at(v, x, y));
    } else {
        events_take(v);
    }
}

void bar_key(Viewer *v, SDL_Scancode scancode)
{
    int step = scancode == SDL_SCANCODE_LEFT                                    ? -1
               : scancode == SDL_SCANCODE_RIGHT || scancode == SDL_SCANCODE_TAB ? 1
                                                                                : 0;
    if (v->usb && scancode != SDL_SCANCODE_LEFT && scancode != SDL_SCANCODE_RIGHT &&
        scancode != SDL_SCANCODE_F11) {
        usb_key(v, scancode);
    } else if (step) {
        usb_show(v, false);
        v->bar_hover = (v->bar_hover + step + BAR_ITEMS) % BAR_ITEMS;
        redraw(v);
    } else if (scancode == SDL_SCANCODE_ESCAPE) {
        events_take(v);
    } else if (scancode == SDL_SCANCODE_F11) { /* the console's key */
        activate(v, BAR_LEAVE);
    } else if (scancode == SDL_SCANCODE_RETURN || scancode == SDL_SCANCODE_SPACE ||
               scancode == SDL_SCANCODE_KP_ENTER) {
        activate(v, v->bar_hover);
    }
}
