/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's cursor plane, as the monitor tells it (checked); a part of RsMachine. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#define RS_CURSOR_MAX 256u /* pixels, each way */

typedef struct {
    unsigned width, height, hot_x, hot_y; /* the hot spot is inside */
    GBytes *pixels; /* premultiplied ARGB, 4 bytes each, without gaps; NULL: no plane */
    int x, y;       /* of the image's top left corner on the guest's screen */
    bool visible;
} RsCursor;

/* No image, or one that is none, and there is no cursor plane. */
void rs_cursor_set_image(RsCursor *cursor, unsigned width, unsigned height, unsigned hot_x,
                         unsigned hot_y, GVariant *pixels);
void rs_cursor_clear(RsCursor *cursor);
