/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts and free clusters. A new refcount block counts itself and becomes valid with the one
 * write that links it into the refcount table; a larger refcount table brings its own blocks along
 * and becomes valid with the one write to the header.
 */
#include "qcow2.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static uint64_t per_block(const struct qcow2 *q)
{
    return 1ull << q->refblock_bits;
}

static uint64_t refblock_of(const struct qcow2 *q, uint64_t cluster)
{
    uint64_t i = cluster >> q->refblock_bits;
    return i < q->reftable_entries ? q->reftable[i] : 0;
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value)
{
    uint64_t block = refblock_of(q, cluster);
    *value = 0;
    return block ? qcow2_refblock_get(q, block, cluster & (per_block(q) - 1), value) : 0;
}

/* Links a block that sits in the first cluster it counts. */
static int refblock_add(struct qcow2 *q, uint64_t cluster)
{
    uint64_t i = cluster >> q->refblock_bits, offset = cluster << q->cluster_bits;
    g_autofree uint8_t *block = g_malloc0(q->cluster_size);
    if (qcow2_is_metadata(q, offset)) {
        return qcow2_damage(q, "a cluster in use is counted as free");
    }
    qcow2_refcount_store(q, block, cluster & (per_block(q) - 1), 1);
    qcow2_cache_drop(q, offset);
    int e = file_write(q->fd, offset, block, q->cluster_size);
    e = e ? e : fdatasync(q->fd) ? errno : 0;
    uint64_t entry = GUINT64_TO_BE(offset);
    e = e ? e : file_write(q->fd, q->reftable_offset + i * 8, &entry, 8);
    if (!e) {
        q->reftable[i] = offset;
        qcow2_metadata_add(q, offset);
    }
    return e;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

struct reftable_plan {
    uint64_t base, blocks, clusters; /* first cluster, new blocks, clusters of the new table */
};

static struct reftable_plan reftable_plan(const struct qcow2 *q)
{
    struct reftable_plan plan = {(uint64_t)q->reftable_entries << q->refblock_bits, 1,
                                 MAX(q->reftable_clusters * 2u, 1)};
    for (unsigned i = 0; i < 64; i++) {
        uint64_t blocks = divide_up(plan.blocks + plan.clusters, per_block(q));
        uint64_t clusters =
            MAX(plan.clusters, divide_up((q->reftable_entries + blocks) * 8, q->cluster_size));
        if (blocks == plan.blocks && clusters == plan.clusters) {
            break;
        }
        plan.blocks = MAX(plan.blocks, blocks);
        plan.clusters = clusters;
    }
    return plan;
}

static int reftable_write_blocks(struct qcow2 *q, const struct reftable_plan *plan)
{
    g_autofree uint8_t *block = g_malloc(q->cluster_size);
    uint64_t used = plan->blocks + plan->clusters;
    for (uint64_t b = 0; b < plan->blocks; b++) {
        uint64_t offset = (plan->base + b) << q->cluster_bits;
        memset(block, 0, q->cluster_size);
        for (uint64_t i = 0; i < per_block(q) && b * per_block(q) + i < used; i++) {
            qcow2_refcount_store(q, block, i, 1);
        }
        qcow2_cache_drop(q, offset);
        int e = file_write(q->fd, offset, block, q->cluster_size);
        if (e) {
            return e;
        }
    }
    return 0;
}

static int reftable_write(struct qcow2 *q, const struct reftable_plan *plan)
{
    g_autofree uint64_t *table = g_malloc0(plan->clusters * q->cluster_size);
    uint64_t offset = (plan->base + plan->blocks) << q->cluster_bits;
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        table[i] = GUINT64_TO_BE(q->reftable[i]);
    }
    for (uint64_t b = 0; b < plan->blocks; b++) {
        table[q->reftable_entries + b] = GUINT64_TO_BE((plan->base + b) << q->cluster_bits);
    }
    int e = file_write(q->fd, offset, table, plan->clusters * q->cluster_size);
    e = e ? e : fdatasync(q->fd) ? errno : 0;
    uint8_t head[12];
    uint64_t be_offset = GUINT64_TO_BE(offset);
    uint32_t be_clusters = GUINT32_TO_BE((uint32_t)plan->clusters);
    memcpy(head, &be_offset, 8);
    memcpy(head + 8, &be_clusters, 4);
    if (!e) {
        scribe_add(q->scribe, 48, head, sizeof(head));
    }
    return e;
}

/* The table is full: a new one, twice as large, in the clusters behind the last one counted. */
static int reftable_grow(struct qcow2 *q)
{
    struct reftable_plan plan = reftable_plan(q);
    uint64_t old = q->reftable_offset, old_clusters = q->reftable_clusters;
    if (plan.clusters * q->cluster_size > QCOW2_MAX_REFTABLE) {
        return EFBIG;
    }
    int e = reftable_write_blocks(q, &plan);
    e = e ? e : reftable_write(q, &plan);
    e = qcow2_commit(q, e ? e : qcow2_release(q, old >> q->cluster_bits, old_clusters));
    if (e) {
        return e;
    }
    for (uint64_t i = 0; i < old_clusters; i++) {
        uint64_t cluster = (old >> q->cluster_bits) + i;
        g_hash_table_remove(q->metadata, &cluster);
    }
    q->reftable_offset = (plan.base + plan.blocks) << q->cluster_bits;
    q->reftable_clusters = (uint32_t)plan.clusters;
    for (uint64_t i = 0; i < plan.clusters; i++) {
        qcow2_metadata_add(q, q->reftable_offset + (i << q->cluster_bits));
    }
    uint32_t entries = (uint32_t)(plan.clusters * q->cluster_size / 8);
    q->reftable = g_renew(uint64_t, q->reftable, entries);
    memset(q->reftable + q->reftable_entries, 0, (entries - q->reftable_entries) * 8ull);
    for (uint64_t b = 0; b < plan.blocks; b++) {
        q->reftable[q->reftable_entries + b] = (plan.base + b) << q->cluster_bits;
        qcow2_metadata_add(q, (plan.base + b) << q->cluster_bits);
    }
    q->reftable_entries = entries;
    return 0;
}

/* Makes sure that `cluster` is counted somewhere. */
static int refblock_ensure(struct qcow2 *q, uint64_t cluster)
{
    if (cluster >> q->refblock_bits >= q->reftable_entries) {
        return reftable_grow(q);
    }
    return refblock_of(q, cluster) ? 0 : refblock_add(q, cluster);
}

static int cluster_is_free(struct qcow2 *q, uint64_t cluster, bool *is_free)
{
    uint64_t count;
    int e = qcow2_refcount_get(q, cluster, &count);
    *is_free = !e && count == 0;
    if (*is_free && qcow2_is_metadata(q, cluster << q->cluster_bits)) {
        return qcow2_damage(q, "a cluster in use is counted as free");
    }
    return e;
}

/* Ends at the latest in the clusters that nothing counts yet, or at the largest offset. */
static int first_free(struct qcow2 *q, uint64_t *cluster)
{
    bool is_free = false;
    int e = 0;
    for (uint64_t c = q->free_hint; !is_free; c++) {
        if (c >= QCOW2_OFFSET >> q->cluster_bits) {
            return EFBIG;
        }
        e = refblock_ensure(q, c);
        e = e ? e : cluster_is_free(q, c, &is_free);
        if (e) {
            return e;
        }
        *cluster = q->free_hint = c;
    }
    return 0;
}

int qcow2_find_free(struct qcow2 *q, uint64_t want, uint64_t *first, uint64_t *count)
{
    bool more = true;
    int e = q->damaged ? EIO : qcow2_mark_dirty(q);
    e = e ? e : first_free(q, first);
    if (e) {
        return e;
    }
    *count = 1;
    while (*count < want && more && ((*first + *count) & (per_block(q) - 1))) {
        e = cluster_is_free(q, *first + *count, &more);
        if (e) {
            return e;
        }
        *count += more;
    }
    /* A freed cluster must not come back while the disk may still have the old reference to it. */
    if (q->freed_unsynced) {
        if (fdatasync(q->fd)) {
            return errno;
        }
        q->freed_unsynced = false;
    }
    for (uint64_t i = 0; i < *count; i++) {
        qcow2_cache_drop(q, (*first + i) << q->cluster_bits);
    }
    return 0;
}

int qcow2_claim(struct qcow2 *q, uint64_t first, uint64_t count)
{
    uint64_t block = refblock_of(q, first);
    if (!block) {
        return EIO;
    }
    int e = qcow2_refblock_put(q, block, first & (per_block(q) - 1), count, 1);
    if (!e) {
        q->claimed = first;
        q->free_hint = first + count;
    }
    return e;
}

int qcow2_release(struct qcow2 *q, uint64_t first, uint64_t count)
{
    int e = qcow2_mark_dirty(q);
    for (uint64_t c = first; c < first + count && !e; c++) {
        uint64_t old, block = refblock_of(q, c);
        e = qcow2_refcount_get(q, c, &old);
        if (!e && (old == 0 || !block)) {
            return qcow2_damage(q, "a cluster in use is counted as free");
        }
        e = e ? e : qcow2_refblock_put(q, block, c & (per_block(q) - 1), 1, old - 1);
        if (!e && old == 1) {
            q->free_hint = MIN(q->free_hint, c);
            q->freed_unsynced = true;
        }
    }
    return e;
}
