/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images, versions 2 and 3 (QEMU's docs/interop/qcow2.txt): header and opening.
 *
 * Header, big-endian: 0 "QFI\xfb", 4 version, 8 backing file name offset (8), 16 its length (4), 20
 * cluster bits, 24 disk size (8), 32 encryption, 36 L1 entries, 40 L1 offset (8), 48 refcount table
 * offset (8), 56 its clusters, 60 internal snapshots, 64 their offset (8); version 3: 72
 * incompatible, 80 compatible, 88 autoclear features (8 each), 96 refcount order, 100 header
 * length, 104 compression type.
 *
 * What is promised after the process was killed (the host keeps running): no flushed or completed
 * write is lost and references and refcounts agree (`qemu-img check` finds nothing), since the
 * scribe completes what it was told. The dirty bit is set then, so the next opening for writing
 * recounts. After a power failure: everything flushed is there; the dirty bit was on disk before
 * the first change of a refcount, so the next opening recounts; new L2 tables and refcount blocks
 * reach the disk before they are linked, and a freed cluster is used again only after a sync.
 *
 * Not supported: encryption, external data files, extended L2 entries, zstd (refused with a
 * message); internal snapshots and bitmaps (the image can only be read).
 */
#include "qcow2.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"

#define HEADER_V2 72u
#define HEADER_V3 104u

#define EXTENSION_END     0u
#define EXTENSION_BACKING 0xe2792acau
#define EXTENSION_BITMAPS 0x23852875u
#define AUTOCLEAR_BITMAPS 1ull

struct header {
    uint64_t backing_offset;
    uint32_t backing_length;
    char *backing_format;
    bool bitmaps;
    uint64_t file_size;
};

static uint32_t be32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static uint64_t be64_at(const uint8_t *p)
{
    return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
}

static bool fail(const struct qcow2 *q, GError **error, int code, const char *what)
{
    g_set_error(error, G_IO_ERROR, code, "The disk image \"%s\" cannot be used: %s.", q->image.path,
                what);
    return false;
}

static bool damaged(const struct qcow2 *q, GError **error, const char *what)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "The disk image \"%s\" is damaged: %s. Restore it from a backup, or try "
                "\"qemu-img check -r all\" on a copy.",
                q->image.path, what);
    return false;
}

int qcow2_damage(struct qcow2 *q, const char *what)
{
    if (g_atomic_int_compare_and_exchange(&q->damaged, 0, 1)) {
        device_log("qcow2",
                   "The disk image \"%s\" is damaged: %s. Nothing more is written to new places; "
                   "shut the machine "
                   "down and check the image.",
                   q->image.path, what);
    }
    return EIO;
}

bool qcow2_metadata_add(struct qcow2 *q, uint64_t offset)
{
    uint64_t *key = g_new(uint64_t, 1);
    *key = offset >> q->cluster_bits;
    return g_hash_table_add(q->metadata, key);
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset)
{
    uint64_t key = offset >> q->cluster_bits;
    return g_hash_table_contains(q->metadata, &key);
}

int qcow2_write_incompatible(struct qcow2 *q, uint64_t bits)
{
    uint64_t be = GUINT64_TO_BE(bits);
    if (fdatasync(q->fd)) {
        return errno;
    }
    int e = file_write(q->fd, 72, &be, 8);
    e = e ? e : fdatasync(q->fd) ? errno : 0;
    if (!e) {
        q->incompatible = bits;
    }
    return e;
}

int qcow2_mark_dirty(struct qcow2 *q)
{
    int e = 0;
    if (!q->dirty) {
        if (q->version >= 3) {
            e = qcow2_write_incompatible(q, q->incompatible | QCOW2_INCOMPAT_DIRTY);
        }
        q->dirty = !e;
    }
    return e;
}

/* --- header --- */

static bool header_features(struct qcow2 *q, const uint8_t *h, GError **error)
{
    q->incompatible = be64_at(h + 72);
    q->autoclear = be64_at(h + 88);
    q->refcount_order = be32_at(h + 96);
    q->header_length = be32_at(h + 100);
    if (q->header_length < HEADER_V3 || q->header_length > q->cluster_size ||
        (q->header_length & 7)) {
        return damaged(q, error, "its header has an impossible length");
    }
    if (q->incompatible & 4) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED, "its data lies in another file");
    }
    if (q->incompatible & 8 || (q->header_length > 104 && h[104])) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED,
                    "it is compressed with zstd; convert it with qemu-img first");
    }
    if (q->incompatible & ~3ull) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED,
                    "it uses features that are not supported; convert it with qemu-img first");
    }
    if (q->refcount_order > 6) {
        return damaged(q, error, "its refcounts have an impossible width");
    }
    return true;
}

static bool table_fits(const struct qcow2 *q, const struct header *head, uint64_t offset,
                       uint64_t bytes)
{
    return (offset & (q->cluster_size - 1)) == 0 && offset >= q->cluster_size &&
           offset <= head->file_size && bytes <= head->file_size - offset;
}

static bool header_tables(struct qcow2 *q, const struct header *head, GError **error)
{
    uint64_t l1_bytes = (uint64_t)q->l1_size * 8;
    uint64_t ref_bytes = (uint64_t)q->reftable_clusters << q->cluster_bits;
    unsigned span_bits = q->cluster_bits + q->l2_bits;
    uint64_t needed =
        (q->image.size >> span_bits) + ((q->image.size & ((1ull << span_bits) - 1)) ? 1 : 0);
    if (l1_bytes > QCOW2_MAX_L1 || ref_bytes > QCOW2_MAX_REFTABLE) {
        return damaged(q, error, "its tables are impossibly large");
    }
    if (q->l1_size < needed) {
        return damaged(q, error, "its L1 table is too small for the disk");
    }
    if (l1_bytes && !table_fits(q, head, q->l1_offset, l1_bytes)) {
        return damaged(q, error, "its L1 table does not lie in the file");
    }
    if (!table_fits(q, head, q->reftable_offset, ref_bytes) || !ref_bytes) {
        return damaged(q, error, "its refcount table does not lie in the file");
    }
    return true;
}

static bool header_parse(struct qcow2 *q, struct header *head, GError **error)
{
    uint8_t h[112];
    int e = file_read(q->fd, 0, h, sizeof(h));
    if (e) {
        return fail(q, error, (int)g_io_error_from_errno(e), g_strerror(e));
    }
    q->version = be32_at(h + 4);
    q->cluster_bits = be32_at(h + 20);
    if (!block_is_qcow2(h, sizeof(h))) {
        return damaged(q, error, "it does not begin as a qcow2 image");
    }
    if (q->cluster_bits < 9 || q->cluster_bits > 21) {
        return damaged(q, error, "its cluster size is impossible");
    }
    q->cluster_size = 1ull << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    head->backing_offset = be64_at(h + 8);
    head->backing_length = be32_at(h + 16);
    q->image.size = be64_at(h + 24);
    if (be32_at(h + 32)) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED, "it is encrypted");
    }
    q->l1_size = be32_at(h + 36);
    q->l1_offset = be64_at(h + 40);
    q->reftable_offset = be64_at(h + 48);
    q->reftable_clusters = be32_at(h + 56);
    q->snapshots = be32_at(h + 60);
    q->refcount_order = 4;
    q->header_length = HEADER_V2;
    if (q->version >= 3 && !header_features(q, h, error)) {
        return false;
    }
    q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
    q->reftable_entries = q->reftable_clusters << (q->cluster_bits - 3);
    if (q->image.size > 1ull << 56) {
        return damaged(q, error, "its size is impossible");
    }
    return header_tables(q, head, error);
}

/* Extensions: type (4), length (4), data padded to 8; they end before the backing file's name. */
static bool header_extensions(struct qcow2 *q, struct header *head, GError **error)
{
    g_autofree uint8_t *cluster = g_malloc0(q->cluster_size);
    int e = file_read(q->fd, 0, cluster, q->cluster_size);
    uint64_t at = q->header_length, end = q->cluster_size;
    if (e) {
        return fail(q, error, (int)g_io_error_from_errno(e), g_strerror(e));
    }
    if (head->backing_offset) {
        end = MIN(end, head->backing_offset);
    }
    while (at + 8 <= end) {
        uint32_t type = be32_at(cluster + at), length = be32_at(cluster + at + 4);
        if (type == EXTENSION_END) {
            break;
        }
        if (length > end - at - 8) {
            return damaged(q, error, "a header extension does not fit in");
        }
        if (type == EXTENSION_BACKING && !head->backing_format) {
            head->backing_format = g_strndup((char *)cluster + at + 8, MIN(length, 32));
        }
        head->bitmaps = head->bitmaps || type == EXTENSION_BITMAPS;
        at += 8 + (((uint64_t)length + 7) & ~7ull);
    }
    return true;
}

/* --- tables --- */

static bool metadata_range(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    bool fresh = true;
    for (uint64_t at = 0; at < bytes; at += q->cluster_size) {
        fresh = qcow2_metadata_add(q, offset + at) && fresh;
    }
    return fresh;
}

static uint64_t *load_table(struct qcow2 *q, uint64_t offset, uint64_t entries)
{
    uint64_t *table = g_malloc0(MAX(entries, 1) * 8);
    if (entries && file_read(q->fd, offset, table, entries * 8)) {
        g_free(table);
        return NULL;
    }
    for (uint64_t i = 0; i < entries; i++) {
        table[i] = GUINT64_FROM_BE(table[i]);
    }
    return table;
}

static bool table_check(struct qcow2 *q, const uint64_t *table, uint64_t entries,
                        uint64_t file_size)
{
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t offset = table[i] & QCOW2_OFFSET;
        if (offset && ((offset & (q->cluster_size - 1)) || offset >= file_size ||
                       !qcow2_metadata_add(q, offset))) {
            return false;
        }
    }
    return true;
}

bool qcow2_load_reftable(struct qcow2 *q)
{
    g_free(q->reftable);
    q->reftable_entries = q->reftable_clusters << (q->cluster_bits - 3);
    q->reftable = load_table(q, q->reftable_offset, q->reftable_entries);
    for (uint32_t i = 0; q->reftable && i < q->reftable_entries; i++) {
        q->reftable[i] &= ~511ull;
    }
    return q->reftable != NULL;
}

static bool load_tables(struct qcow2 *q, const struct header *head, GError **error)
{
    q->metadata = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    q->l1 = load_table(q, q->l1_offset, q->l1_size);
    if (!q->l1 || !qcow2_load_reftable(q)) {
        return fail(q, error, G_IO_ERROR_FAILED, "its tables cannot be read");
    }
    if (!metadata_range(q, 0, q->cluster_size) ||
        !metadata_range(q, q->l1_offset, (uint64_t)q->l1_size * 8) ||
        !metadata_range(q, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits)) {
        return damaged(q, error, "its tables overlap");
    }
    if (!table_check(q, q->l1, q->l1_size, head->file_size) ||
        !table_check(q, q->reftable, q->reftable_entries, head->file_size)) {
        return damaged(q, error, "its tables overlap or point out of the file");
    }
    return true;
}

/* --- backing file --- */

static char *backing_path(const struct qcow2 *q, const struct header *head)
{
    g_autofree char *name = g_malloc0(head->backing_length + 1);
    if (file_read(q->fd, head->backing_offset, name, head->backing_length) || !name[0]) {
        return NULL;
    }
    const char *plain = g_str_has_prefix(name, "file:") ? name + 5 : name;
    if (g_path_is_absolute(plain)) {
        return g_strdup(plain);
    }
    g_autofree char *folder = g_path_get_dirname(q->image.path);
    return g_build_filename(folder, plain, NULL);
}

static bool open_backing(struct qcow2 *q, const struct header *head, unsigned depth, GError **error)
{
    if (!head->backing_offset) {
        return true;
    }
    if (head->backing_length == 0 || head->backing_length > 1023 ||
        head->backing_offset > q->cluster_size - head->backing_length) {
        return damaged(q, error, "the name of its backing file does not fit in");
    }
    g_autofree char *path = backing_path(q, head);
    const char *format = head->backing_format;
    if (!path) {
        return damaged(q, error, "the name of its backing file cannot be read");
    }
    if (format && strcmp(format, "qcow2") != 0 && strcmp(format, "raw") != 0) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED,
                    "its backing file is neither qcow2 nor raw");
    }
    q->backing = block_image_open(path, BLOCK_READ_ONLY, format, depth + 1, error);
    if (!q->backing) {
        g_prefix_error(error, "The backing file of \"%s\" is missing or unusable. ", q->image.path);
    }
    return q->backing != NULL;
}

/* --- opening and closing --- */

static bool prepare_writing(struct qcow2 *q, const struct header *head, GError **error)
{
    uint64_t zero = 0;
    if (q->incompatible & QCOW2_INCOMPAT_CORRUPT) {
        return damaged(q, error, "it is marked as corrupt");
    }
    if (q->snapshots) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED,
                    "it has internal snapshots, so it can only be read; convert it with qemu-img "
                    "first");
    }
    if (head->bitmaps) {
        return fail(q, error, G_IO_ERROR_NOT_SUPPORTED,
                    "it has dirty bitmaps, so it can only be read; remove them with \"qemu-img "
                    "bitmap --remove\"");
    }
    if (q->autoclear && file_write(q->fd, 88, &zero, 8)) {
        return fail(q, error, G_IO_ERROR_FAILED, "its header cannot be written");
    }
    q->dirty = q->incompatible & QCOW2_INCOMPAT_DIRTY;
    if (!q->dirty && q->version >= 3) {
        return true;
    }
    if (!qcow2_repair(q, error)) {
        return false;
    }
    if (q->dirty && qcow2_write_incompatible(q, q->incompatible & ~QCOW2_INCOMPAT_DIRTY)) {
        return fail(q, error, G_IO_ERROR_FAILED, "its header cannot be written");
    }
    q->dirty = false;
    return true;
}

static void qcow2_destroy(struct qcow2 *q)
{
    block_image_close(q->backing);
    qcow2_cache_free(q);
    scribe_free(q->scribe);
    if (q->metadata) {
        g_hash_table_unref(q->metadata);
    }
    g_free(q->l1);
    g_free(q->reftable);
    g_rw_lock_clear(&q->lock);
    close(q->fd);
    g_free(q->image.path);
    g_free(q);
}

bool qcow2_close(struct block_image *image)
{
    struct qcow2 *q = (struct qcow2 *)image;
    bool ok = true;
    if (!image->read_only) {
        ok = fdatasync(q->fd) == 0;
        if (ok && q->inexact) {
            ok = !q->damaged && qcow2_repair(q, NULL);
        }
        if (ok && q->dirty && !q->damaged && q->version >= 3) {
            ok = qcow2_write_incompatible(q, q->incompatible & ~QCOW2_INCOMPAT_DIRTY) == 0;
        }
    }
    qcow2_destroy(q);
    return ok;
}

struct block_image *qcow2_open(int fd, const char *path, bool read_only, unsigned depth,
                               GError **error)
{
    struct header head = {0};
    struct qcow2 *q = g_new0(struct qcow2, 1);
    struct stat st;
    q->image = (struct block_image){&qcow2_driver, 0, read_only, g_strdup(path)};
    q->fd = fd;
    g_rw_lock_init(&q->lock);
    head.file_size = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    if (head.file_size == 0) { /* a block device */
        off_t end = lseek(fd, 0, SEEK_END);
        head.file_size = end > 0 ? (uint64_t)end : 0;
    }
    bool ok = header_parse(q, &head, error) && header_extensions(q, &head, error) &&
              load_tables(q, &head, error) && open_backing(q, &head, depth, error);
    if (ok) {
        q->image.size &= ~(uint64_t)(BLOCK_SECTOR - 1);
        qcow2_cache_init(q);
        ok = read_only || prepare_writing(q, &head, error);
        q->scribe = ok && !read_only ? scribe_new(fd) : NULL;
    }
    g_free(head.backing_format);
    if (!ok) {
        qcow2_destroy(q);
        return NULL;
    }
    return &q->image;
}
