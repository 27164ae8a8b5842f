/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's cursor as a picture; for the console and the viewer. */
#pragma once

#include <cairo.h>

#include "rs-cursor.h"

typedef struct {
    cairo_surface_t *surface; /* ARGB32; NULL: no memory */
    int width, height, hot_x, hot_y;
} CursorImage;

/* `factor` times as large, but no larger than RS_CURSOR_MAX. The cursor has a plane. */
CursorImage cursor_image_new(const RsCursor *cursor, double factor);
void cursor_image_clear(CursorImage *image);
