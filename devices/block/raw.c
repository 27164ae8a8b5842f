/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw images: byte n of the disk is byte n of the file. Files and host block devices.
 * The size is rounded down to whole sectors.
 */
#include "block_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

struct raw_image {
    struct block_image image;
    int fd;
    bool detected; /* nobody said it is raw: keep foreign signatures out of its head */
};

#define HEAD_SIZE 512u

static int raw_read(struct block_image *image, uint64_t offset, const struct iovec *iov,
                    unsigned niov, uint64_t len)
{
    return file_readv(((struct raw_image *)image)->fd, offset, iov, niov, len);
}

/* Would this write make the file look like another format? */
static bool raw_changes_format(struct raw_image *raw, uint64_t offset, const struct iovec *iov,
                               unsigned niov, uint64_t len)
{
    uint8_t head[HEAD_SIZE];
    if (!raw->detected || offset >= HEAD_SIZE || file_read(raw->fd, 0, head, sizeof(head))) {
        return false;
    }
    iov_to_buffer(iov, niov, 0, head + offset, MIN(len, HEAD_SIZE - offset));
    return block_foreign_format(head, sizeof(head)) != NULL;
}

static int raw_write(struct block_image *image, uint64_t offset, const struct iovec *iov,
                     unsigned niov, uint64_t len)
{
    struct raw_image *raw = (struct raw_image *)image;
    if (raw_changes_format(raw, offset, iov, niov, len)) {
        return EPERM;
    }
    return file_writev(raw->fd, offset, iov, niov, len);
}

static int raw_flush(struct block_image *image)
{
    return fdatasync(((struct raw_image *)image)->fd) ? errno : 0;
}

static int raw_punch(struct raw_image *raw, uint64_t offset, uint64_t len)
{
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(raw->fd, mode, (off_t)offset, (off_t)len) ? errno : 0;
}

static int raw_discard(struct block_image *image, uint64_t offset, uint64_t len)
{
    raw_punch((struct raw_image *)image, offset, len); /* only a hint */
    return 0;
}

static int raw_zero(struct block_image *image, uint64_t offset, uint64_t len)
{
    static const uint8_t zeroes[65536];
    struct raw_image *raw = (struct raw_image *)image;
    if (raw_punch(raw, offset, len) == 0) {
        return 0;
    }
    while (len > 0) {
        size_t part = MIN(len, sizeof(zeroes));
        int e = file_write(raw->fd, offset, zeroes, part);
        if (e) {
            return e;
        }
        offset += part;
        len -= part;
    }
    return 0;
}

static bool raw_close(struct block_image *image)
{
    struct raw_image *raw = (struct raw_image *)image;
    bool ok = image->read_only || fdatasync(raw->fd) == 0;
    close(raw->fd);
    g_free(image->path);
    g_free(raw);
    return ok;
}

static const struct block_driver raw_driver = {
    .name = "raw",
    .read = raw_read,
    .write = raw_write,
    .flush = raw_flush,
    .discard = raw_discard,
    .zero = raw_zero,
    .close = raw_close,
};

struct block_image *raw_open(int fd, const char *path, bool read_only, bool detected,
                             GError **error)
{
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0) {
        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(errno),
                    "The size of the disk image \"%s\" cannot be found: %s.", path,
                    g_strerror(errno));
        close(fd);
        return NULL;
    }
    struct raw_image *raw = g_new0(struct raw_image, 1);
    raw->image = (struct block_image){&raw_driver, (uint64_t)size & ~(uint64_t)(BLOCK_SECTOR - 1),
                                      read_only, g_strdup(path)};
    raw->fd = fd;
    raw->detected = detected;
    return &raw->image;
}
