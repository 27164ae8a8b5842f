/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One mode of a guest's screen as the monitor hands it out: size, stride and a memfd. The monitor
 * is not trusted: the numbers are checked against each other and against the file, and pixels are
 * copied out with pread(), so that a file which shrinks later gives an error and never a SIGBUS.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#define RS_FRAME_MAX_SIZE 16384u

#define RS_TYPE_FRAME (rs_frame_get_type())
G_DECLARE_FINAL_TYPE(RsFrame, rs_frame, RS, FRAME, GObject)

/* Takes fd, also on failure. NULL with an error when the numbers make no sense. */
RsFrame *rs_frame_new(uint32_t mode, uint32_t width, uint32_t height, uint32_t stride, int fd,
                      GError **error);
uint32_t rs_frame_get_mode(RsFrame *self);
uint32_t rs_frame_get_width(RsFrame *self);
uint32_t rs_frame_get_height(RsFrame *self);
uint32_t rs_frame_get_stride(RsFrame *self); /* bytes a row */
/* Copies rows [y, y + rows) as opaque premultiplied BGRA, width * 4 bytes a row without gaps. NULL
 * when the monitor took the pixels away. */
GBytes *rs_frame_read(RsFrame *self, uint32_t y, uint32_t rows);
/* Copies the same rows as they are, stride bytes each: XRGB, the X may hold anything. False when
 * the monitor took the pixels away. */
bool rs_frame_copy(RsFrame *self, uint32_t y, uint32_t rows, void *to);
