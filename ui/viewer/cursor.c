/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's cursor plane: the host's pointer looks like it where the guest has an absolute one,
 * else it is drawn over the picture.
 */
#include <math.h>

#include "cursor-image.h"
#include "viewer.h"

/* SDL 2.26 hands the pixels to X as they are, and X wants them premultiplied, as ours are. */
static SDL_Surface *sdl_surface(const CursorImage *image)
{
    return SDL_CreateRGBSurfaceWithFormatFrom(
        cairo_image_surface_get_data(image->surface), image->width, image->height, 32,
        cairo_image_surface_get_stride(image->surface), SDL_PIXELFORMAT_ARGB8888);
}

static SDL_Cursor *host_cursor(Viewer *v, const RsCursor *cursor)
{
    if (v->cursor && v->cursor_factor == v->factor) {
        return v->cursor;
    }
    CursorImage image = cursor_image_new(cursor, v->factor);
    SDL_Surface *surface = image.surface ? sdl_surface(&image) : NULL;
    SDL_Cursor *old = v->cursor;
    v->cursor_factor = v->factor;
    v->cursor = surface ? SDL_CreateColorCursor(surface, image.hot_x, image.hot_y) : NULL;
    if (old) {
        SDL_SetCursor(v->cursor ? v->cursor : SDL_GetDefaultCursor());
        SDL_FreeCursor(old);
    }
    SDL_FreeSurface(surface);
    cursor_image_clear(&image);
    return v->cursor;
}

void cursor_show(Viewer *v, bool ours)
{
    const RsCursor *cursor = rs_machine_get_cursor(v->machine);
    bool absolute = rs_machine_get_absolute(v->machine);
    SDL_Cursor *shown = NULL;

    if (!ours && absolute && cursor && cursor->visible && v->frame && v->factor > 0) {
        shown = host_cursor(v, cursor);
    }
    SDL_SetCursor(shown ? shown : SDL_GetDefaultCursor());
    SDL_ShowCursor(ours || shown ? SDL_ENABLE : SDL_DISABLE);
}

/* Where it is drawn; false: nowhere. */
static bool place(Viewer *v, cairo_rectangle_int_t *at)
{
    const RsCursor *c = rs_machine_get_cursor(v->machine);

    if (!c || !c->visible || rs_machine_get_absolute(v->machine) || !v->frame) {
        return false;
    }
    at->x = v->x + (int)floor(c->x * v->factor);
    at->y = v->y + (int)floor(c->y * v->factor);
    at->width = (int)ceil(c->width * v->factor) + 1;
    at->height = (int)ceil(c->height * v->factor) + 1;
    return true;
}

void cursor_draw(Viewer *v, cairo_t *cr)
{
    const RsCursor *c = rs_machine_get_cursor(v->machine);
    cairo_rectangle_int_t at;

    if (!place(v, &at)) {
        return;
    }
    CursorImage image = cursor_image_new(c, 1);
    if (image.surface) {
        cairo_save(cr);
        cairo_rectangle(cr, v->x, v->y, v->width, v->height);
        cairo_clip(cr);
        cairo_translate(cr, at.x, at.y);
        cairo_scale(cr, v->factor, v->factor);
        cairo_set_source_surface(cr, image.surface, 0, 0);
        cairo_paint(cr);
        cairo_restore(cr);
        cursor_image_clear(&image);
    }
}

static void redraw_at(Viewer *v, const cairo_rectangle_int_t *at)
{
    if (at->width) {
        picture_redraw_part(v, at->x, at->y, at->width, at->height);
    }
}

void cursor_changed(Viewer *v, gboolean image)
{
    cairo_rectangle_int_t at = {0};

    if (image) {
        v->cursor_factor = 0;
    }
    redraw_at(v, &v->cursor_drawn);
    if (place(v, &at)) {
        redraw_at(v, &at);
    }
    v->cursor_drawn = at;
    events_update_cursor(v);
}

void cursor_clear(Viewer *v)
{
    if (v->cursor) {
        SDL_SetCursor(SDL_GetDefaultCursor());
        SDL_FreeCursor(v->cursor);
        v->cursor = NULL;
    }
}
