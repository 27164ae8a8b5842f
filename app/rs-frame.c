/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checked access to a guest screen's pixels (see rs-frame.h). */
#include <sys/stat.h>
#include <unistd.h>

#include "rs-frame.h"

struct _RsFrame {
    GObject parent_instance;
    uint32_t mode, width, height, stride;
    int fd;
};

G_DEFINE_FINAL_TYPE(RsFrame, rs_frame, G_TYPE_OBJECT)

static void rs_frame_finalize(GObject *object)
{
    RsFrame *self = RS_FRAME(object);

    if (self->fd >= 0) {
        close(self->fd);
    }
    G_OBJECT_CLASS(rs_frame_parent_class)->finalize(object);
}

static void rs_frame_class_init(RsFrameClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = rs_frame_finalize;
}

static void rs_frame_init(RsFrame *self)
{
    self->fd = -1;
}

static bool numbers_agree(RsFrame *self)
{
    struct stat st;

    return self->width >= 1 && self->width <= RS_FRAME_MAX_SIZE && self->height >= 1 &&
           self->height <= RS_FRAME_MAX_SIZE && self->stride >= self->width * 4 &&
           self->stride <= RS_FRAME_MAX_SIZE * 8 && self->fd >= 0 && fstat(self->fd, &st) == 0 &&
           S_ISREG(st.st_mode) && st.st_size >= (off_t)self->stride * self->height;
}

RsFrame *rs_frame_new(uint32_t mode, uint32_t width, uint32_t height, uint32_t stride, int fd,
                      GError **error)
{
    g_autoptr(RsFrame) self = g_object_new(RS_TYPE_FRAME, NULL);

    self->mode = mode;
    self->width = width;
    self->height = height;
    self->stride = stride;
    self->fd = fd;
    if (!numbers_agree(self)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "The monitor described a screen that cannot be (%u × %u, %u bytes a row)",
                    width, height, stride);
        return NULL;
    }
    return g_steal_pointer(&self);
}

uint32_t rs_frame_get_mode(RsFrame *self)
{
    return self->mode;
}

uint32_t rs_frame_get_width(RsFrame *self)
{
    return self->width;
}

uint32_t rs_frame_get_height(RsFrame *self)
{
    return self->height;
}

uint32_t rs_frame_get_stride(RsFrame *self)
{
    return self->stride;
}

static bool read_all(int fd, uint8_t *to, size_t length, off_t at)
{
    while (length) {
        ssize_t n = pread(fd, to, length, at);
        if (n <= 0) {
            return false;
        }
        to += n;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

/* Closes the gaps between rows and makes each pixel opaque: the X of XRGB may hold anything. */
static void pack_rows(RsFrame *self, uint8_t *pixels, uint32_t rows)
{
    for (uint32_t y = 0; y < rows; y++) {
        const uint32_t *from = (const uint32_t *)(pixels + (size_t)y * self->stride);
        uint32_t *to = (uint32_t *)(pixels + (size_t)y * self->width * 4);
        for (uint32_t x = 0; x < self->width; x++) {
            to[x] = from[x] | 0xff000000u;
        }
    }
}

GBytes *rs_frame_read(RsFrame *self, uint32_t y, uint32_t rows)
{
    g_return_val_if_fail(y < self->height && rows <= self->height - y, NULL);
    size_t length = (size_t)self->stride * rows;
    uint8_t *pixels = g_malloc(length);

    if (self->stride % 4 || !read_all(self->fd, pixels, length, (off_t)self->stride * y)) {
        g_free(pixels);
        return NULL;
    }
    pack_rows(self, pixels, rows);
    return g_bytes_new_take(pixels, (size_t)self->width * 4 * rows);
}

bool rs_frame_copy(RsFrame *self, uint32_t y, uint32_t rows, void *to)
{
    g_return_val_if_fail(y < self->height && rows <= self->height - y, false);
    return read_all(self->fd, to, (size_t)self->stride * rows, (off_t)self->stride * y);
}
