/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See cursor-image.h. */
#include "cursor-image.h"

#include <math.h>

static int scaled(unsigned size, double factor)
{
    return CLAMP((int)round(size * factor), 1, (int)RS_CURSOR_MAX);
}

static cairo_surface_t *source(const RsCursor *cursor)
{
    unsigned char *pixels = (unsigned char *)g_bytes_get_data(cursor->pixels, NULL);

    return cairo_image_surface_create_for_data(pixels, CAIRO_FORMAT_ARGB32, (int)cursor->width,
                                               (int)cursor->height, (int)cursor->width * 4);
}

static void draw(cairo_surface_t *to, const RsCursor *cursor, double factor)
{
    cairo_surface_t *from = source(cursor);
    cairo_t *cr = cairo_create(to);

    cairo_scale(cr, factor, factor);
    cairo_set_source_surface(cr, from, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr), factor == floor(factor) ? CAIRO_FILTER_NEAREST
                                                                           : CAIRO_FILTER_BILINEAR);
    cairo_paint(cr);
    cairo_destroy(cr);
    cairo_surface_destroy(from);
    cairo_surface_flush(to);
}

CursorImage cursor_image_new(const RsCursor *cursor, double factor)
{
    double most = RS_CURSOR_MAX / (double)MAX(cursor->width, cursor->height);
    CursorImage image;

    factor = MIN(factor, most);
    image.width = scaled(cursor->width, factor);
    image.height = scaled(cursor->height, factor);
    image.hot_x = MIN((int)(cursor->hot_x * factor), image.width - 1);
    image.hot_y = MIN((int)(cursor->hot_y * factor), image.height - 1);
    image.surface = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, image.width, image.height);
    if (cairo_surface_status(image.surface) != CAIRO_STATUS_SUCCESS) {
        cursor_image_clear(&image);
        return image;
    }
    draw(image.surface, cursor, factor);
    return image;
}

void cursor_image_clear(CursorImage *image)
{
    g_clear_pointer(&image->surface, cairo_surface_destroy);
}
