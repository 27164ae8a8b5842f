/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes a screen's pixels as a PNG file. Its own static library (`picture`), shared with ringctl.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/* XRGB8888 rows of `stride` bytes (at least width * 4). Written aside and renamed. */
bool picture_write_png(const char *path, const void *pixels, uint32_t width, uint32_t height,
                       uint32_t stride, GError **error);
