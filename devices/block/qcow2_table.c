/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables and refcount blocks, cached whole; changed entries are written by the scribe, all those
 * of a step or none.
 */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

#define CACHE_BYTES (32u << 20)

struct cached_table {
    uint64_t offset;
    GList link;
    uint8_t *data;
};

static void cached_free(gpointer p)
{
    struct cached_table *t = p;
    g_free(t->data);
    g_free(t);
}

void qcow2_cache_init(struct qcow2 *q)
{
    g_mutex_init(&q->cache_lock);
    q->cache = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, cached_free);
    q->cache_max = (unsigned)MAX(CACHE_BYTES / q->cluster_size, 16);
    g_queue_init(&q->cache_order);
}

void qcow2_cache_free(struct qcow2 *q)
{
    if (q->cache) {
        g_queue_init(&q->cache_order);
        g_hash_table_unref(q->cache);
        q->cache = NULL;
        g_mutex_clear(&q->cache_lock);
    }
}

static void cache_remove(struct qcow2 *q, struct cached_table *t)
{
    g_queue_unlink(&q->cache_order, &t->link);
    g_hash_table_remove(q->cache, &t->offset);
}

void qcow2_cache_drop(struct qcow2 *q, uint64_t offset)
{
    g_mutex_lock(&q->cache_lock);
    struct cached_table *t = g_hash_table_lookup(q->cache, &offset);
    if (t) {
        cache_remove(q, t);
    }
    g_mutex_unlock(&q->cache_lock);
}

/* cache_lock held; the data stays until the next call. */
static int cache_get(struct qcow2 *q, uint64_t offset, uint8_t **data)
{
    struct cached_table *t = g_hash_table_lookup(q->cache, &offset);
    if (t) {
        g_queue_unlink(&q->cache_order, &t->link);
        g_queue_push_head_link(&q->cache_order, &t->link);
        *data = t->data;
        return 0;
    }
    uint8_t *fresh = g_malloc(q->cluster_size);
    int e = file_read(q->fd, offset, fresh, q->cluster_size);
    if (e) {
        g_free(fresh);
        return e;
    }
    /* What is not yet written cannot be read again. */
    while (q->cache_order.length >= q->cache_max && (!q->scribe || scribe_is_empty(q->scribe))) {
        cache_remove(q, q->cache_order.tail->data);
    }
    t = g_new0(struct cached_table, 1);
    t->offset = offset;
    t->data = fresh;
    t->link.data = t;
    g_queue_push_head_link(&q->cache_order, &t->link);
    g_hash_table_insert(q->cache, &t->offset, t);
    *data = fresh;
    return 0;
}

static uint64_t be64_load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return GUINT64_FROM_BE(v);
}

static void be64_store(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    memcpy(p, &v, 8);
}

int qcow2_l2_get(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t *entry)
{
    uint8_t *data;
    g_mutex_lock(&q->cache_lock);
    int e = cache_get(q, table, &data);
    if (!e) {
        *entry = be64_load(data + index * 8);
    }
    g_mutex_unlock(&q->cache_lock);
    return e;
}

static void forget_write(void *opaque, uint64_t offset)
{
    struct qcow2 *q = opaque;
    qcow2_cache_drop(q, offset & ~(q->cluster_size - 1));
}

int qcow2_commit(struct qcow2 *q, int e)
{
    e = e ? e : scribe_commit(q->scribe);
    if (e) {
        scribe_forget(q->scribe, forget_write, q);
        q->free_hint = MIN(q->free_hint, q->claimed);
    }
    return e;
}

int qcow2_l2_put(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t count, uint64_t value,
                 uint64_t step)
{
    uint8_t *data;
    g_mutex_lock(&q->cache_lock);
    int e = cache_get(q, table, &data);
    if (!e) {
        for (uint64_t i = 0; i < count; i++) {
            be64_store(data + (index + i) * 8, value + i * step);
        }
        scribe_add(q->scribe, table + index * 8, data + index * 8, (uint32_t)(count * 8));
    }
    g_mutex_unlock(&q->cache_lock);
    return e;
}

uint64_t qcow2_refcount_load(const struct qcow2 *q, const uint8_t *block, uint64_t index)
{
    unsigned bits = 1u << q->refcount_order;
    if (bits < 8) {
        unsigned shift = (unsigned)(index * bits % 8);
        return block[index * bits / 8] >> shift & ((1u << bits) - 1);
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < bits / 8; i++) {
        value = value << 8 | block[index * (bits / 8) + i];
    }
    return value;
}

void qcow2_refcount_store(const struct qcow2 *q, uint8_t *block, uint64_t index, uint64_t value)
{
    unsigned bits = 1u << q->refcount_order;
    if (bits < 8) {
        unsigned shift = (unsigned)(index * bits % 8), mask = (1u << bits) - 1;
        uint8_t *p = block + index * bits / 8;
        *p = (uint8_t)((*p & ~(mask << shift)) | (value & mask) << shift);
        return;
    }
    for (unsigned i = bits / 8; i-- > 0;) {
        block[index * (bits / 8) + i] = (uint8_t)value;
        value >>= 8;
    }
}

int qcow2_refblock_get(struct qcow2 *q, uint64_t block, uint64_t index, uint64_t *value)
{
    uint8_t *data;
    g_mutex_lock(&q->cache_lock);
    int e = cache_get(q, block, &data);
    if (!e) {
        *value = qcow2_refcount_load(q, data, index);
    }
    g_mutex_unlock(&q->cache_lock);
    return e;
}

int qcow2_refblock_put(struct qcow2 *q, uint64_t block, uint64_t index, uint64_t count,
                       uint64_t value)
{
    unsigned bits = 1u << q->refcount_order;
    uint64_t from = index * bits / 8, to = ((index + count) * bits + 7) / 8;
    uint8_t *data;
    g_mutex_lock(&q->cache_lock);
    int e = cache_get(q, block, &data);
    if (!e) {
        for (uint64_t i = 0; i < count; i++) {
            qcow2_refcount_store(q, data, index + i, value);
        }
        scribe_add(q->scribe, block + from, data + from, (uint32_t)(to - from));
    }
    g_mutex_unlock(&q->cache_lock);
    return e;
}
