/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See rs-cursor.h. */
#include "rs-cursor.h"

/* Some that draw premultiplied pixels rely on no colour being brighter than its alpha. */
static GBytes *make_valid(const guint8 *from, gsize size)
{
    guint8 *pixels = g_memdup2(from, size);

    for (gsize i = 0; i < size; i += 4) {
        for (gsize c = i; c < i + 3; c++) {
            pixels[c] = MIN(pixels[c], pixels[i + 3]);
        }
    }
    return g_bytes_new_take(pixels, size);
}

void rs_cursor_set_image(RsCursor *cursor, unsigned width, unsigned height, unsigned hot_x,
                         unsigned hot_y, GVariant *pixels)
{
    gsize size;
    const guint8 *bytes = g_variant_get_fixed_array(pixels, &size, 1);

    g_clear_pointer(&cursor->pixels, g_bytes_unref);
    if (!width || !height || width > RS_CURSOR_MAX || height > RS_CURSOR_MAX || hot_x >= width ||
        hot_y >= height || size != (gsize)width * height * 4) {
        return;
    }
    cursor->width = width;
    cursor->height = height;
    cursor->hot_x = hot_x;
    cursor->hot_y = hot_y;
    cursor->pixels = make_valid(bytes, size);
}

void rs_cursor_clear(RsCursor *cursor)
{
    g_clear_pointer(&cursor->pixels, g_bytes_unref);
    *cursor = (RsCursor){0};
}
