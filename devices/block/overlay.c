/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshot mode: an image that is only read, under an overlay that takes the writes and is
 * forgotten at close.
 *
 * The overlay is an unlinked temporary file of CHUNK-sized slots; a hash table maps chunk numbers
 * of the disk to slots. The memory used grows with what the guest writes (about 32 bytes per
 * chunk).
 */
#include "block_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK 65536u

struct overlay_image {
    struct block_image image;
    struct block_image *base;
    int fd;
    GMutex lock;
    GHashTable *slots; /* chunk number -> slot number + 1 */
    uint64_t next_slot;
};

static uint64_t overlay_slot(struct overlay_image *o, uint64_t chunk)
{
    return (uint64_t)(uintptr_t)g_hash_table_lookup(o->slots, (gpointer)(uintptr_t)chunk);
}

static int overlay_read_part(struct overlay_image *o, uint64_t offset, const struct iovec *iov,
                             unsigned niov, uint64_t len)
{
    g_mutex_lock(&o->lock);
    uint64_t slot = overlay_slot(o, offset / CHUNK);
    g_mutex_unlock(&o->lock);
    if (slot) {
        return file_readv(o->fd, (slot - 1) * CHUNK + offset % CHUNK, iov, niov, len);
    }
    return o->base->driver->read(o->base, offset, iov, niov, len);
}

/* The slot for a chunk, filled from the base unless the write covers all of it. Lock held. */
static int overlay_claim(struct overlay_image *o, uint64_t chunk, bool whole, uint64_t *slot)
{
    *slot = overlay_slot(o, chunk);
    if (*slot) {
        return 0;
    }
    if (!whole) {
        g_autofree uint8_t *old = g_malloc(CHUNK);
        uint64_t len = MIN(CHUNK, o->base->size - chunk * CHUNK);
        struct iovec iov = {old, len};
        int e = o->base->driver->read(o->base, chunk * CHUNK, &iov, 1, len);
        e = e ? e : file_write(o->fd, o->next_slot * CHUNK, old, len);
        if (e) {
            return e;
        }
    }
    *slot = ++o->next_slot;
    g_hash_table_insert(o->slots, (gpointer)(uintptr_t)chunk, (gpointer)(uintptr_t)*slot);
    return 0;
}

/* Under the lock throughout: a chunk is not claimed before its bytes are there. */
static int overlay_write_part(struct overlay_image *o, uint64_t offset, const struct iovec *iov,
                              unsigned niov, uint64_t len)
{
    uint64_t slot;
    g_mutex_lock(&o->lock);
    int e = overlay_claim(o, offset / CHUNK, false, &slot);
    if (!e) {
        e = file_writev(o->fd, (slot - 1) * CHUNK + offset % CHUNK, iov, niov, len);
    }
    g_mutex_unlock(&o->lock);
    return e;
}

static int overlay_transfer(struct overlay_image *o, bool write, uint64_t offset,
                            const struct iovec *iov, unsigned niov, uint64_t len)
{
    g_autofree struct iovec *part = g_new(struct iovec, niov);
    for (uint64_t done = 0; done < len;) {
        uint64_t n = MIN(len - done, CHUNK - (offset + done) % CHUNK);
        unsigned count = iov_slice(iov, niov, done, n, part);
        int e = write ? overlay_write_part(o, offset + done, part, count, n)
                      : overlay_read_part(o, offset + done, part, count, n);
        if (e) {
            return e;
        }
        done += n;
    }
    return 0;
}

static int overlay_read(struct block_image *image, uint64_t offset, const struct iovec *iov,
                        unsigned niov, uint64_t len)
{
    return overlay_transfer((struct overlay_image *)image, false, offset, iov, niov, len);
}

static int overlay_write(struct block_image *image, uint64_t offset, const struct iovec *iov,
                         unsigned niov, uint64_t len)
{
    return overlay_transfer((struct overlay_image *)image, true, offset, iov, niov, len);
}

static int overlay_flush(struct block_image *image)
{
    return 0; /* nothing here outlives the process */
}

static int overlay_discard(struct block_image *image, uint64_t offset, uint64_t len)
{
    return 0;
}

static int overlay_zero(struct block_image *image, uint64_t offset, uint64_t len)
{
    static const uint8_t zeroes[CHUNK];
    while (len > 0) {
        uint64_t n = MIN(len, CHUNK - offset % CHUNK);
        struct iovec iov = {(void *)zeroes, n};
        int e = overlay_write_part((struct overlay_image *)image, offset, &iov, 1, n);
        if (e) {
            return e;
        }
        offset += n;
        len -= n;
    }
    return 0;
}

static bool overlay_close(struct block_image *image)
{
    struct overlay_image *o = (struct overlay_image *)image;
    block_image_close(o->base);
    close(o->fd);
    g_hash_table_unref(o->slots);
    g_mutex_clear(&o->lock);
    g_free(image->path);
    g_free(o);
    return true;
}

static const struct block_driver overlay_driver = {
    .name = "snapshot",
    .read = overlay_read,
    .write = overlay_write,
    .flush = overlay_flush,
    .discard = overlay_discard,
    .zero = overlay_zero,
    .close = overlay_close,
};

/* /var/tmp rather than /tmp: the latter is often RAM. */
static int overlay_file(void)
{
    static const char *const folders[] = {"/var/tmp", NULL};
    int fd = -1;
    for (unsigned i = 0; i < G_N_ELEMENTS(folders) && fd < 0; i++) {
        const char *folder = folders[i] ? folders[i] : g_get_tmp_dir();
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0) {
            g_autofree char *name = g_build_filename(folder, "ringside-XXXXXX", NULL);
            fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
            if (fd >= 0) {
                unlink(name);
            }
        }
    }
    return fd;
}

struct block_image *overlay_open(struct block_image *base, GError **error)
{
    int fd = overlay_file();
    if (fd < 0) {
        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(errno),
                    "No temporary file for the changes to \"%s\" could be made: %s.", base->path,
                    g_strerror(errno));
        block_image_close(base);
        return NULL;
    }
    struct overlay_image *o = g_new0(struct overlay_image, 1);
    o->image = (struct block_image){&overlay_driver, base->size, false, g_strdup(base->path)};
    o->base = base;
    o->fd = fd;
    g_mutex_init(&o->lock);
    o->slots = g_hash_table_new(g_direct_hash, g_direct_equal);
    return &o->image;
}
