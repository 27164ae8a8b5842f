/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the qcow2 format: qcow2.c (header, opening), qcow2_table.c (cached tables), qcow2_alloc.c
 * (refcounts), qcow2_map.c (reading and writing), qcow2_repair.c (refcounts after a crash),
 * qcow2_create.c.
 *
 * Locks: `lock` is held shared by reads and by writes into clusters that are allocated, exclusively
 * by everything that changes tables. `cache_lock` guards the cache alone and is the inner one.
 */
#pragma once

#include "block_driver.h"
#include "scribe.h"

#define QCOW2_COPIED     (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO       1ull
#define QCOW2_OFFSET     0x00fffffffffffe00ull

#define QCOW2_INCOMPAT_DIRTY   1ull
#define QCOW2_INCOMPAT_CORRUPT 2ull

#define QCOW2_MAX_L1       (32u << 20) /* bytes */
#define QCOW2_MAX_REFTABLE (8u << 20)  /* bytes */
#define QCOW2_MAX_REPAIR   (64u << 20) /* clusters counted in memory */

struct qcow2 {
    struct block_image image; /* first */
    int fd;
    unsigned version, cluster_bits, l2_bits, refcount_order, refblock_bits;
    uint64_t cluster_size, header_length, incompatible, autoclear;
    uint64_t l1_offset, reftable_offset;
    uint32_t l1_size, reftable_clusters, snapshots;
    uint64_t *l1;       /* host order, flags and all */
    uint64_t *reftable; /* host order, refcount block offsets */
    uint32_t reftable_entries;
    struct block_image *backing;
    GHashTable *metadata; /* cluster numbers that hold metadata */
    GRWLock lock;
    GMutex cache_lock;
    GHashTable *cache;  /* offset -> struct cached_table */
    GQueue cache_order; /* most recently used first */
    unsigned cache_max;
    uint64_t free_hint;  /* no free cluster below this number */
    uint64_t claimed;    /* the first cluster claimed last, in case that fails */
    bool dirty;          /* refcounts may be changed; the file says so (version 3) */
    bool freed_unsynced; /* clusters were freed since the last sync */
    bool inexact;        /* a change of tables failed (ENOSPC, EIO): recount at close */
    gint damaged;        /* said so once; no more allocations */
    struct scribe *scribe; /* writes changes of tables; NULL when the image is only read */
};

static inline uint64_t qcow2_cluster(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->cluster_bits;
}

/* Notes damage found while running (once in the log) and returns EIO. */
int qcow2_damage(struct qcow2 *q, const char *what);
/* False when the cluster was known to hold metadata already. */
bool qcow2_metadata_add(struct qcow2 *q, uint64_t offset);
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset);
bool qcow2_load_reftable(struct qcow2 *q); /* from reftable_offset, reftable_clusters */
int qcow2_mark_dirty(struct qcow2 *q);
int qcow2_write_incompatible(struct qcow2 *q, uint64_t bits);

/*
 * --- qcow2_table.c: entries of L2 tables and refcount blocks, written through ---
 * What the put functions change is in the cache at once and in the file after qcow2_commit(), which
 * ends each step from one right image to the next.
 */
void qcow2_cache_init(struct qcow2 *q);
void qcow2_cache_free(struct qcow2 *q);
void qcow2_cache_drop(struct qcow2 *q, uint64_t offset);
int qcow2_l2_get(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t *entry);
/* `count` entries: value, value + step, ... */
int qcow2_l2_put(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t count, uint64_t value,
                 uint64_t step);
int qcow2_refblock_get(struct qcow2 *q, uint64_t block, uint64_t index, uint64_t *value);
int qcow2_refblock_put(struct qcow2 *q, uint64_t block, uint64_t index, uint64_t count,
                       uint64_t value);
/* Writes what was put; or with an error, or when that fails, forgets it. Returns the error. */
int qcow2_commit(struct qcow2 *q, int e);
/* In a buffer of one cluster. */
uint64_t qcow2_refcount_load(const struct qcow2 *q, const uint8_t *block, uint64_t index);
void qcow2_refcount_store(const struct qcow2 *q, uint8_t *block, uint64_t index, uint64_t value);

/* --- qcow2_alloc.c: `lock` held exclusively --- */
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value);
/* Finds up to `want` free clusters in a row; takes nothing yet: write them, then claim. */
int qcow2_find_free(struct qcow2 *q, uint64_t want, uint64_t *first, uint64_t *count);
int qcow2_claim(struct qcow2 *q, uint64_t first, uint64_t count);
/* Lowers the refcount of each of the clusters by one. */
int qcow2_release(struct qcow2 *q, uint64_t first, uint64_t count);

/* --- qcow2_map.c --- */
extern const struct block_driver qcow2_driver;
bool qcow2_close(struct block_image *image); /* in qcow2.c */
/* Host bytes of a compressed cluster. */
void qcow2_compressed_extent(const struct qcow2 *q, uint64_t entry, uint64_t *offset,
                             uint64_t *size);

/* --- qcow2_repair.c --- */
bool qcow2_repair(struct qcow2 *q, GError **error);
