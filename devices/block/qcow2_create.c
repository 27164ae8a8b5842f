/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New qcow2 images: version 3, 64 KiB clusters, 16-bit refcounts.
 * Cluster 0: header; 1: refcount table (enough for 16 TiB of file); 2: first refcount block; 3...:
 * L1 table.
 */
#include "block_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER_BITS 16u
#define CLUSTER      (1u << CLUSTER_BITS)
#define L2_SPAN      (1ull << (CLUSTER_BITS + CLUSTER_BITS - 3))
#define MAX_SIZE     (L2_SPAN * (1u << 20) * 4) /* what a 32 MiB L1 table covers */

static void put32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(p, &v, 8);
}

static void header_fill(uint8_t *h, uint64_t size, uint32_t l1_entries, const char *backing,
                        const char *format)
{
    memcpy(h, "QFI\xfb", 4);
    put32(h + 4, 3);
    put32(h + 20, CLUSTER_BITS);
    put64(h + 24, size);
    put32(h + 36, l1_entries);
    put64(h + 40, 3ull * CLUSTER);
    put64(h + 48, CLUSTER);
    put32(h + 56, 1);
    put32(h + 96, 4);
    put32(h + 100, 104);
    if (backing) {
        size_t at = 104, len = strlen(format);
        put32(h + at, 0xe2792aca);
        put32(h + at + 4, (uint32_t)len);
        memcpy(h + at + 8, format, len);
        at += 8 + ((len + 7) & ~(size_t)7) + 8; /* and the end mark */
        put64(h + 8, at);
        put32(h + 16, (uint32_t)strlen(backing));
        memcpy(h + at, backing, strlen(backing));
    }
}

static int image_write(int fd, uint64_t size, const char *backing, const char *format)
{
    uint32_t l1_entries = (uint32_t)((size + L2_SPAN - 1) / L2_SPAN);
    uint32_t l1_clusters = MAX((l1_entries * 8 + CLUSTER - 1) / CLUSTER, 1);
    g_autofree uint8_t *head = g_malloc0(3 * CLUSTER);
    header_fill(head, size, l1_entries, backing, format);
    put64(head + CLUSTER, 2ull * CLUSTER);
    for (uint32_t i = 0; i < 3 + l1_clusters; i++) {
        head[2 * CLUSTER + 2 * i + 1] = 1;
    }
    if (ftruncate(fd, (3ll + l1_clusters) * CLUSTER)) {
        return errno;
    }
    int e = file_write(fd, 0, head, 3 * CLUSTER);
    return e ? e : fsync(fd) ? errno : 0;
}

bool block_create_qcow2_child(const char *path, uint64_t size, const char *backing,
                              const char *backing_format, GError **error)
{
    int fd = -1, e = EINVAL;
    bool sane = size <= MAX_SIZE && (!backing || (strlen(backing) <= 1023 && strlen(backing) > 0 &&
                                                  strlen(backing_format) <= 16));
    size = (size + BLOCK_SECTOR - 1) & ~(uint64_t)(BLOCK_SECTOR - 1);
    if (sane) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        e = fd < 0 ? errno : image_write(fd, size, backing, backing_format);
    }
    if (fd >= 0 && close(fd) && !e) {
        e = errno;
    }
    if (!e) {
        return true;
    }
    if (fd >= 0) {
        unlink(path);
    }
    g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(e),
                "The disk image \"%s\" could not be made: %s.", path, g_strerror(e));
    return false;
}

bool block_create_qcow2(const char *path, uint64_t size, GError **error)
{
    return block_create_qcow2_child(path, size, NULL, NULL, error);
}
