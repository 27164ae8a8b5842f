/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's screen in the window. Pixels are copied from the monitor's file (rs-frame.h) only
 * where they changed, and drawn by cairo into SDL's window surface: one to one, by whole factors
 * without filtering, or filtered. What is larger than the monitor is made smaller in any case.
 */
#include <math.h>

#include "viewer.h"

#define SNAP 0.05 /* as the console does */

static SDL_Surface *window_surface(Viewer *v)
{
    SDL_Surface *surface = SDL_GetWindowSurface(v->window);

    return surface && surface->format->BytesPerPixel == 4 && surface->format->Rmask == 0xff0000
               ? surface
               : NULL;
}

double picture_scale(Viewer *v)
{
    SDL_Surface *surface = window_surface(v);

    return surface ? MAX(round(surface->h / 540.0) / 2, 1) : 1;
}

static void place(Viewer *v, int width, int height)
{
    double w = rs_frame_get_width(v->frame), h = rs_frame_get_height(v->frame);
    double before = v->factor;

    v->factor = MIN(width / w, height / h);
    if (v->original) {
        v->factor = MIN(v->factor, 1);
    }
    if (v->factor >= 1 && (v->integer || v->factor - floor(v->factor) < SNAP)) {
        v->factor = floor(v->factor);
    }
    v->width = MAX((int)floor(w * v->factor), 1);
    v->height = MAX((int)floor(h * v->factor), 1);
    v->x = (width - v->width) / 2;
    v->y = (height - v->height) / 2;
    if (v->factor != before) {
        events_update_cursor(v); /* it is scaled like the picture */
    }
}

/* --- drawing --- */

static void draw_guest(Viewer *v, cairo_t *cr)
{
    cairo_save(cr);
    cairo_rectangle(cr, v->x, v->y, v->width, v->height);
    cairo_clip(cr);
    cairo_translate(cr, v->x, v->y);
    cairo_scale(cr, v->width / (double)rs_frame_get_width(v->frame),
                v->height / (double)rs_frame_get_height(v->frame));
    cairo_set_source_surface(cr, v->guest, 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_pattern_set_filter(cairo_get_source(cr), v->factor == floor(v->factor)
                                                       ? CAIRO_FILTER_NEAREST
                                                       : CAIRO_FILTER_BILINEAR);
    cairo_paint(cr);
    cairo_restore(cr);
}

PangoLayout *picture_text(Viewer *v, cairo_t *cr, const char *text, int size, bool bold)
{
    PangoLayout *layout = pango_cairo_create_layout(cr);
    PangoFontDescription *font = pango_font_description_from_string(bold ? "Sans Bold" : "Sans");

    pango_font_description_set_absolute_size(font, size * picture_scale(v) * PANGO_SCALE);
    pango_layout_set_font_description(layout, font);
    pango_layout_set_text(layout, text, -1);
    pango_font_description_free(font);
    return layout;
}

static void draw_notice(Viewer *v, cairo_t *cr, int width, int height)
{
    double scale = picture_scale(v), pad = 16 * scale;
    PangoLayout *layout = picture_text(v, cr, v->notice, 18, false);
    int w, h;

    pango_layout_set_width(layout, (int)(width * 0.8) * PANGO_SCALE);
    pango_layout_set_alignment(layout, PANGO_ALIGN_CENTER);
    PangoRectangle ink, logical;
    pango_layout_get_pixel_extents(layout, &ink, &logical);
    w = logical.width;
    h = logical.height;
    cairo_set_source_rgba(cr, 0, 0, 0, 0.8);
    cairo_rectangle(cr, (width - w) / 2.0 - pad, height / 8.0 - pad, w + 2 * pad, h + 2 * pad);
    cairo_fill(cr);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_move_to(cr, (width - w) / 2.0 - logical.x, height / 8.0);
    pango_cairo_show_layout(cr, layout);
    g_object_unref(layout);
}

/* The pixels of `surface` inside v->damage. */
static void draw(Viewer *v, SDL_Surface *surface)
{
    cairo_surface_t *target = cairo_image_surface_create_for_data(
        surface->pixels, CAIRO_FORMAT_RGB24, surface->w, surface->h, surface->pitch);
    cairo_t *cr = cairo_create(target);

    for (int i = 0; i < cairo_region_num_rectangles(v->damage); i++) {
        cairo_rectangle_int_t r;
        cairo_region_get_rectangle(v->damage, i, &r);
        cairo_rectangle(cr, r.x, r.y, r.width, r.height);
    }
    cairo_clip(cr);
    bool covered = v->guest && v->width == surface->w && v->height == surface->h;
    if (!covered) {
        cairo_set_source_rgb(cr, 0, 0, 0);
        cairo_paint(cr);
    }
    if (v->guest) {
        draw_guest(v, cr);
        cursor_draw(v, cr);
    }
    if (v->notice) {
        draw_notice(v, cr, surface->w, surface->h);
    }
    if (v->bar_shown) {
        bar_draw(v, cr);
    }
    if (v->usb) {
        usb_draw(v, cr);
    }
    cairo_destroy(cr);
    cairo_surface_destroy(target);
}

static gboolean redraw(gpointer data)
{
    Viewer *v = data;
    SDL_Surface *surface = window_surface(v);

    v->redraw = 0;
    if (!surface) {
        return G_SOURCE_REMOVE;
    }
    if (v->guest) {
        place(v, surface->w, surface->h);
    }
    cairo_region_intersect_rectangle(v->damage,
                                     &(cairo_rectangle_int_t){0, 0, surface->w, surface->h});
    int count = cairo_region_num_rectangles(v->damage);
    g_autofree SDL_Rect *rects = g_new0(SDL_Rect, (gsize)count + 1);
    if (SDL_LockSurface(surface) == 0) {
        draw(v, surface);
        SDL_UnlockSurface(surface);
    }
    for (int i = 0; i < count; i++) {
        cairo_rectangle_int_t r;
        cairo_region_get_rectangle(v->damage, i, &r);
        rects[i] = (SDL_Rect){r.x, r.y, r.width, r.height};
    }
    if (count) {
        SDL_UpdateWindowSurfaceRects(v->window, rects, count);
    }
    cairo_region_destroy(v->damage);
    v->damage = cairo_region_create();
    return G_SOURCE_REMOVE;
}

void picture_redraw_part(Viewer *v, int x, int y, int width, int height)
{
    cairo_region_union_rectangle(v->damage, &(cairo_rectangle_int_t){x, y, width, height});
    if (!v->redraw) {
        v->redraw = g_idle_add_full(G_PRIORITY_DEFAULT, redraw, v, NULL);
    }
}

void picture_redraw(Viewer *v)
{
    picture_redraw_part(v, 0, 0, RS_FRAME_MAX_SIZE * 2, RS_FRAME_MAX_SIZE * 2);
}

/* --- what the machine says --- */

static void read_rows(Viewer *v, unsigned y, unsigned rows)
{
    unsigned stride = (unsigned)cairo_image_surface_get_stride(v->guest);
    unsigned char *pixels = cairo_image_surface_get_data(v->guest);

    cairo_surface_flush(v->guest);
    rs_frame_copy(v->frame, y, rows, pixels + (size_t)stride * y); /* gone: what was there stays */
    cairo_surface_mark_dirty(v->guest);
}

void picture_clear(Viewer *v)
{
    g_clear_pointer(&v->guest, cairo_surface_destroy);
    g_clear_object(&v->frame);
    picture_redraw(v);
}

void picture_set_frame(Viewer *v, RsFrame *frame)
{
    static const cairo_user_data_key_t pixels_key;
    unsigned width = rs_frame_get_width(frame), height = rs_frame_get_height(frame);
    unsigned stride = rs_frame_get_stride(frame);

    picture_clear(v);
    unsigned char *pixels = stride % 4 ? NULL : g_try_malloc0((size_t)stride * height);
    if (!pixels) {
        return;
    }
    v->guest = cairo_image_surface_create_for_data(pixels, CAIRO_FORMAT_RGB24, (int)width,
                                                   (int)height, (int)stride);
    cairo_surface_set_user_data(v->guest, &pixels_key, pixels, g_free);
    v->frame = g_object_ref(frame);
    read_rows(v, 0, height);
}

void picture_damage(Viewer *v, unsigned x, unsigned y, unsigned width, unsigned height)
{
    SDL_Surface *surface = window_surface(v);

    if (!v->guest || !surface) {
        return;
    }
    read_rows(v, y, height);
    place(v, surface->w, surface->h);
    /* Filtering mixes in the neighbours. */
    int left = v->x + (int)floor((x - 1.0) * v->factor),
        top = v->y + (int)floor((y - 1.0) * v->factor);
    int right = v->x + (int)ceil((x + width + 1.0) * v->factor);
    int bottom = v->y + (int)ceil((y + height + 1.0) * v->factor);
    picture_redraw_part(v, left, top, right - left, bottom - top);
}

static gboolean notice_over(gpointer data)
{
    Viewer *v = data;

    v->notice_timer = 0;
    g_clear_pointer(&v->notice, g_free);
    picture_redraw(v);
    return G_SOURCE_REMOVE;
}

void picture_notice(Viewer *v, const char *text, unsigned seconds)
{
    g_clear_handle_id(&v->notice_timer, g_source_remove);
    g_free(v->notice);
    v->notice = g_strdup(text);
    if (text && seconds) {
        v->notice_timer = g_timeout_add_seconds(seconds, notice_over, v);
    }
    picture_redraw(v);
}
