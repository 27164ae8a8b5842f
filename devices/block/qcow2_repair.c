/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recounting a qcow2 image whose dirty bit is set.
 *
 * All references are counted in memory. When the refcounts on disk differ, new refcount blocks and
 * a new table are written behind the end of the file and made valid with one write to the header; a
 * crash leaves the old or the new ones. Two references to one cluster that is not compressed are
 * damage that counting cannot mend.
 */
#include "qcow2.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"

#define EXCLUSIVE 0x8000u

struct recount {
    struct qcow2 *q;
    uint16_t *refs;
    uint64_t clusters, room;
    const char *problem;
};

static bool recount_room(struct recount *r, uint64_t cluster)
{
    if (cluster >= QCOW2_MAX_REPAIR) {
        r->problem = "a table points far beyond the end of the file";
        return false;
    }
    if (cluster >= r->room) {
        uint64_t room = MAX(cluster + 1, r->room + r->room / 2);
        uint16_t *refs = g_try_realloc(r->refs, room * sizeof(*refs));
        if (!refs) {
            r->problem = "there is not enough memory to check it";
            return false;
        }
        memset(refs + r->room, 0, (room - r->room) * sizeof(*refs));
        r->refs = refs;
        r->room = room;
    }
    r->clusters = MAX(r->clusters, cluster + 1);
    return true;
}

static bool recount_exclusive(struct recount *r, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += r->q->cluster_size) {
        uint64_t cluster = (offset + at) >> r->q->cluster_bits;
        if (!recount_room(r, cluster)) {
            return false;
        }
        if (r->refs[cluster]) {
            r->problem = "one cluster is used twice";
            return false;
        }
        r->refs[cluster] = EXCLUSIVE | 1;
    }
    return true;
}

static bool recount_compressed(struct recount *r, uint64_t entry)
{
    uint64_t offset, size;
    qcow2_compressed_extent(r->q, entry, &offset, &size);
    uint64_t first = offset >> r->q->cluster_bits, last = (offset + size - 1) >> r->q->cluster_bits;
    for (uint64_t c = first; c <= last; c++) {
        if (!recount_room(r, c)) {
            return false;
        }
        if (r->refs[c] & EXCLUSIVE || r->refs[c] == EXCLUSIVE - 1) {
            r->problem = "one cluster is used twice";
            return false;
        }
        r->refs[c]++;
    }
    return true;
}

static bool recount_l2(struct recount *r, const uint64_t *table)
{
    struct qcow2 *q = r->q;
    for (uint64_t i = 0; i < 1ull << q->l2_bits; i++) {
        uint64_t entry = GUINT64_FROM_BE(table[i]), host = entry & QCOW2_OFFSET;
        bool ok = true;
        if (entry & QCOW2_COMPRESSED) {
            ok = recount_compressed(r, entry);
        } else if (host & (q->cluster_size - 1)) {
            r->problem = "a table entry is not aligned";
            ok = false;
        } else if (host) {
            ok = recount_exclusive(r, host, q->cluster_size);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool recount_tables(struct recount *r)
{
    struct qcow2 *q = r->q;
    g_autofree uint64_t *table = g_malloc(q->cluster_size);
    for (uint32_t i = 0; i < q->l1_size; i++) {
        uint64_t offset = q->l1[i] & QCOW2_OFFSET;
        if (!offset) {
            continue;
        }
        if (file_read(q->fd, offset, table, q->cluster_size)) {
            r->problem = "its tables cannot be read";
            return false;
        }
        if (!recount_exclusive(r, offset, q->cluster_size) || !recount_l2(r, table)) {
            return false;
        }
    }
    return true;
}

/* The refcount structures themselves. */
static bool recount_refcounts(struct recount *r)
{
    struct qcow2 *q = r->q;
    bool ok =
        recount_exclusive(r, q->reftable_offset, (uint64_t)q->reftable_clusters << q->cluster_bits);
    for (uint32_t i = 0; i < q->reftable_entries && ok; i++) {
        ok = !q->reftable[i] || recount_exclusive(r, q->reftable[i], q->cluster_size);
    }
    return ok;
}

static void forget_range(struct recount *r, uint64_t offset, uint64_t clusters)
{
    uint64_t first = offset >> r->q->cluster_bits;
    for (uint64_t c = first; c < first + clusters; c++) {
        r->refs[c] = 0;
        g_hash_table_remove(r->q->metadata, &c);
    }
}

static void forget_refcounts(struct recount *r)
{
    struct qcow2 *q = r->q;
    forget_range(r, q->reftable_offset, q->reftable_clusters);
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        if (q->reftable[i]) {
            forget_range(r, q->reftable[i], 1);
        }
    }
}

static uint64_t counted(const struct recount *r, uint64_t cluster)
{
    return cluster < r->clusters ? r->refs[cluster] & (EXCLUSIVE - 1) : 0;
}

static bool block_agrees(const struct recount *r, uint32_t i, const uint8_t *block)
{
    const struct qcow2 *q = r->q;
    uint64_t per_block = 1ull << q->refblock_bits, first = (uint64_t)i << q->refblock_bits;
    for (uint64_t n = 0; n < per_block; n++) {
        uint64_t on_disk = block ? qcow2_refcount_load(q, block, n) : 0;
        if (on_disk != counted(r, first + n)) {
            return false;
        }
    }
    return true;
}

static bool refcounts_agree(const struct recount *r)
{
    const struct qcow2 *q = r->q;
    g_autofree uint8_t *block = g_malloc(q->cluster_size);
    uint64_t covered = (uint64_t)q->reftable_entries << q->refblock_bits;
    for (uint64_t c = covered; c < r->clusters; c++) {
        if (counted(r, c)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        uint64_t offset = q->reftable[i];
        if (!offset && (uint64_t)i << q->refblock_bits >= r->clusters) {
            continue;
        }
        if (offset && file_read(q->fd, offset, block, q->cluster_size)) {
            return false;
        }
        if (!block_agrees(r, i, offset ? block : NULL)) {
            return false;
        }
    }
    return true;
}

struct layout {
    uint64_t base, blocks, clusters;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static struct layout layout_plan(const struct recount *r)
{
    const struct qcow2 *q = r->q;
    struct layout l = {r->clusters, 1, 1};
    for (unsigned i = 0; i < 64; i++) {
        uint64_t blocks = divide_up(l.base + l.blocks + l.clusters, 1ull << q->refblock_bits);
        uint64_t clusters = MAX(divide_up(blocks * 8, q->cluster_size), 1);
        if (blocks <= l.blocks && clusters <= l.clusters) {
            break;
        }
        l.blocks = MAX(l.blocks, blocks);
        l.clusters = MAX(l.clusters, clusters);
    }
    return l;
}

static int layout_write_blocks(const struct recount *r, const struct layout *l)
{
    const struct qcow2 *q = r->q;
    uint64_t per_block = 1ull << q->refblock_bits, end = l->base + l->blocks + l->clusters;
    uint64_t max = q->refcount_order >= 4 ? UINT16_MAX : (1ull << (1u << q->refcount_order)) - 1;
    g_autofree uint8_t *block = g_malloc(q->cluster_size);
    for (uint64_t b = 0; b < l->blocks; b++) {
        memset(block, 0, q->cluster_size);
        for (uint64_t i = 0; i < per_block; i++) {
            uint64_t c = b * per_block + i;
            uint64_t value = c >= l->base && c < end ? 1 : counted(r, c);
            if (value > max) {
                return EINVAL;
            }
            qcow2_refcount_store(q, block, i, value);
        }
        int e = file_write(q->fd, (l->base + b) << q->cluster_bits, block, q->cluster_size);
        if (e) {
            return e;
        }
    }
    return 0;
}

static int layout_write_table(const struct recount *r, const struct layout *l)
{
    const struct qcow2 *q = r->q;
    g_autofree uint64_t *table = g_malloc0(l->clusters * q->cluster_size);
    uint64_t offset = (l->base + l->blocks) << q->cluster_bits;
    for (uint64_t b = 0; b < l->blocks; b++) {
        table[b] = GUINT64_TO_BE((l->base + b) << q->cluster_bits);
    }
    int e = file_write(q->fd, offset, table, l->clusters * q->cluster_size);
    e = e ? e : fdatasync(q->fd) ? errno : 0;
    uint8_t head[12];
    uint64_t be_offset = GUINT64_TO_BE(offset);
    uint32_t be_clusters = GUINT32_TO_BE((uint32_t)l->clusters);
    memcpy(head, &be_offset, 8);
    memcpy(head + 8, &be_clusters, 4);
    e = e ? e : file_write(q->fd, 48, head, sizeof(head));
    return e ? e : fdatasync(q->fd) ? errno : 0;
}

static bool rebuild(struct recount *r)
{
    struct qcow2 *q = r->q;
    struct stat st;
    if (fstat(q->fd, &st) == 0 && st.st_size > 0) {
        uint64_t end = divide_up((uint64_t)st.st_size, q->cluster_size);
        r->clusters = MAX(r->clusters, MIN(end, QCOW2_MAX_REPAIR));
        if (!recount_room(r, r->clusters - 1)) {
            return false;
        }
    }
    struct layout l = layout_plan(r);
    forget_refcounts(r);
    int e = l.clusters * q->cluster_size > QCOW2_MAX_REFTABLE ? EFBIG : layout_write_blocks(r, &l);
    e = e ? e : layout_write_table(r, &l);
    if (e) {
        r->problem = "its refcounts could not be written";
        return false;
    }
    q->reftable_offset = (l.base + l.blocks) << q->cluster_bits;
    q->reftable_clusters = (uint32_t)l.clusters;
    for (uint64_t c = l.base; c < l.base + l.blocks + l.clusters; c++) {
        qcow2_metadata_add(q, c << q->cluster_bits);
    }
    q->free_hint = 0;
    qcow2_cache_free(q);
    qcow2_cache_init(q);
    if (!qcow2_load_reftable(q)) {
        r->problem = "its refcounts could not be read again";
        return false;
    }
    device_log("qcow2", "The refcounts of \"%s\" were repaired after a crash.", q->image.path);
    return true;
}

bool qcow2_repair(struct qcow2 *q, GError **error)
{
    struct recount r = {.q = q};
    bool ok = recount_exclusive(&r, 0, q->cluster_size) &&
              recount_exclusive(&r, q->l1_offset, (uint64_t)q->l1_size * 8) &&
              recount_refcounts(&r) && recount_tables(&r);
    if (ok && !refcounts_agree(&r)) {
        ok = rebuild(&r);
    }
    g_free(r.refs);
    if (!ok) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "The disk image \"%s\" was not closed properly and cannot be repaired: %s. "
                    "Restore it from a backup, or try \"qemu-img check -r all\" on a copy.",
                    q->image.path, r.problem);
    }
    return ok;
}
