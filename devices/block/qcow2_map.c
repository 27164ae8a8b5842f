/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading and writing guest data: from guest offsets by way of L1 and L2 to clusters of the file.
 *
 * A new cluster is made in this order: data into a free cluster, refcount, L2 entry. A cluster is
 * given back in the other: L2 entry, refcount. So a reference never lacks its count; and since the
 * scribe does both writes or none, a killed monitor leaves no count without its reference.
 */
#include "qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <unistd.h>

#define MAX_RUN (4u << 20) /* bytes of one allocation */

enum cluster_kind { CLUSTER_NONE, CLUSTER_ZERO, CLUSTER_DATA, CLUSTER_PACKED };

/* Guest clusters in a row that are of one kind, and contiguous in the file when they have data. */
struct run {
    enum cluster_kind kind;
    uint64_t entry; /* of the first cluster */
    uint64_t host;  /* file offset of the first byte (DATA) */
    uint64_t len;   /* bytes from the offset asked for */
};

static enum cluster_kind entry_kind(const struct qcow2 *q, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        return CLUSTER_PACKED;
    }
    if (q->version >= 3 && (entry & QCOW2_ZERO)) {
        return CLUSTER_ZERO;
    }
    return entry & QCOW2_OFFSET ? CLUSTER_DATA : CLUSTER_NONE;
}

static uint64_t l2_span(const struct qcow2 *q)
{
    return q->cluster_size << q->l2_bits;
}

static uint64_t l2_index(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->cluster_bits & ((1ull << q->l2_bits) - 1);
}

static uint64_t l2_table(const struct qcow2 *q, uint64_t offset)
{
    uint64_t i = offset >> (q->cluster_bits + q->l2_bits);
    return i < q->l1_size ? q->l1[i] & QCOW2_OFFSET : 0;
}

static int entry_check(struct qcow2 *q, uint64_t entry)
{
    uint64_t host = entry & QCOW2_OFFSET;
    if (!(entry & QCOW2_COMPRESSED) && host &&
        ((host & (q->cluster_size - 1)) || qcow2_is_metadata(q, host))) {
        return qcow2_damage(q, "a table points to the wrong place");
    }
    return 0;
}

static int map_run(struct qcow2 *q, uint64_t offset, uint64_t len, struct run *run)
{
    uint64_t table = l2_table(q, offset), in = offset & (q->cluster_size - 1), entry;
    *run = (struct run){CLUSTER_NONE};
    run->len = MIN(len, l2_span(q) - (offset & (l2_span(q) - 1)));
    if (!table) {
        return 0;
    }
    uint64_t first = l2_index(q, offset),
             max = (run->len + in + q->cluster_size - 1) >> q->cluster_bits, n = 1;
    int e = qcow2_l2_get(q, table, first, &run->entry);
    e = e ? e : entry_check(q, run->entry);
    if (e) {
        return e;
    }
    run->kind = entry_kind(q, run->entry);
    run->host = (run->entry & QCOW2_OFFSET) + in;
    for (; n < max && run->kind != CLUSTER_PACKED; n++) {
        uint64_t step = run->kind == CLUSTER_DATA ? n << q->cluster_bits : 0;
        e = qcow2_l2_get(q, table, first + n, &entry);
        if (e || entry_kind(q, entry) != run->kind ||
            (run->kind == CLUSTER_DATA && entry != run->entry + step) || entry_check(q, entry)) {
            break;
        }
    }
    run->len = MIN(run->len, (n << q->cluster_bits) - in);
    return 0;
}

/* --- reading --- */

void qcow2_compressed_extent(const struct qcow2 *q, uint64_t entry, uint64_t *offset,
                             uint64_t *size)
{
    unsigned x = 62 - (q->cluster_bits - 8);
    uint64_t sectors = (entry >> x & ((1ull << (62 - x)) - 1)) + 1;
    *offset = entry & ((1ull << x) - 1);
    *size = sectors * 512 - (*offset & 511);
}

/* Raw deflate. The packed bytes may be followed by others. */
static bool inflate_cluster(const uint8_t *packed, size_t size, uint8_t *out, size_t out_size)
{
    g_autoptr(GZlibDecompressor) z = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_RAW);
    size_t in = 0, done = 0;
    while (done < out_size) {
        gsize used = 0, made = 0;
        GConverterResult r =
            g_converter_convert(G_CONVERTER(z), packed + in, size - in, out + done, out_size - done,
                                G_CONVERTER_INPUT_AT_END, &used, &made, NULL);
        in += used;
        done += made;
        if (r == G_CONVERTER_ERROR || (r == G_CONVERTER_FINISHED && done < out_size) ||
            (used == 0 && made == 0)) {
            return false;
        }
    }
    return true;
}

static int read_packed(struct qcow2 *q, uint64_t entry, uint8_t *out)
{
    uint64_t offset, size;
    qcow2_compressed_extent(q, entry, &offset, &size);
    size = MIN(size, 2 * q->cluster_size + 512);
    g_autofree uint8_t *packed = g_malloc(size);
    int e = file_read(q->fd, offset, packed, size);
    if (!e && !inflate_cluster(packed, size, out, q->cluster_size)) {
        e = qcow2_damage(q, "a compressed cluster cannot be unpacked");
    }
    return e;
}

static int read_backing(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                        uint64_t len)
{
    uint64_t have = 0;
    if (q->backing && offset < q->backing->size) {
        have = MIN(len, q->backing->size - offset);
        g_autofree struct iovec *part = g_new(struct iovec, niov + 1);
        unsigned n = iov_slice(iov, niov, 0, have, part);
        int e = q->backing->driver->read(q->backing, offset, part, n, have);
        if (e) {
            return e;
        }
    }
    iov_fill(iov, niov, have, 0, len - have);
    return 0;
}

static int read_run(struct qcow2 *q, const struct run *run, uint64_t offset,
                    const struct iovec *iov, unsigned niov)
{
    switch (run->kind) {
    case CLUSTER_NONE:
        return read_backing(q, offset, iov, niov, run->len);
    case CLUSTER_ZERO:
        iov_fill(iov, niov, 0, 0, run->len);
        return 0;
    case CLUSTER_DATA:
        return file_readv(q->fd, run->host, iov, niov, run->len);
    case CLUSTER_PACKED: {
        g_autofree uint8_t *cluster = g_malloc(q->cluster_size);
        int e = read_packed(q, run->entry, cluster);
        iov_from_buffer(iov, niov, 0, cluster + (offset & (q->cluster_size - 1)), e ? 0 : run->len);
        return e;
    }
    }
    return EIO;
}

/* Lock held, either way. */
static int read_locked(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                       uint64_t len)
{
    g_autofree struct iovec *part = g_new(struct iovec, niov + 1);
    for (uint64_t done = 0; done < len;) {
        struct run run;
        int e = map_run(q, offset + done, len - done, &run);
        if (!e) {
            unsigned n = iov_slice(iov, niov, done, run.len, part);
            e = read_run(q, &run, offset + done, part, n);
        }
        if (e) {
            return e;
        }
        done += run.len;
    }
    return 0;
}

static int qcow2_read(struct block_image *image, uint64_t offset, const struct iovec *iov,
                      unsigned niov, uint64_t len)
{
    struct qcow2 *q = (struct qcow2 *)image;
    g_rw_lock_reader_lock(&q->lock);
    int e = read_locked(q, offset, iov, niov, len);
    g_rw_lock_reader_unlock(&q->lock);
    return e;
}

/* --- writing; from here on the lock is held exclusively unless said otherwise --- */

/* The L2 table for `offset`, made when there is none. */
static int ensure_table(struct qcow2 *q, uint64_t offset, uint64_t *table)
{
    uint64_t i = offset >> (q->cluster_bits + q->l2_bits), cluster, count;
    if (i >= q->l1_size) {
        return EIO;
    }
    *table = q->l1[i] & QCOW2_OFFSET;
    if (*table) {
        return 0;
    }
    int e = qcow2_find_free(q, 1, &cluster, &count);
    if (e) {
        return e;
    }
    g_autofree uint8_t *zeroes = g_malloc0(q->cluster_size);
    *table = cluster << q->cluster_bits;
    e = file_write(q->fd, *table, zeroes, q->cluster_size);
    e = e ? e : fdatasync(q->fd) ? errno : 0;
    e = e ? e : qcow2_claim(q, cluster, 1);
    uint64_t entry = GUINT64_TO_BE(*table | QCOW2_COPIED);
    scribe_add(q->scribe, q->l1_offset + i * 8, &entry, 8);
    e = qcow2_commit(q, e);
    if (!e) {
        q->l1[i] = *table | QCOW2_COPIED;
        qcow2_metadata_add(q, *table);
    }
    return e;
}

/* Gives back what an entry that is no longer in its table referred to. `freed` may be NULL. */
static int release_entry(struct qcow2 *q, uint64_t entry, GArray *freed)
{
    uint64_t offset, size, host = entry & QCOW2_OFFSET;
    if (entry & QCOW2_COMPRESSED) {
        qcow2_compressed_extent(q, entry, &offset, &size);
        uint64_t first = offset >> q->cluster_bits, last = (offset + size - 1) >> q->cluster_bits;
        return qcow2_release(q, first, last - first + 1);
    }
    if (!host) {
        return 0;
    }
    if (freed) {
        g_array_append_val(freed, host);
    }
    return qcow2_release(q, host >> q->cluster_bits, 1);
}

/* May the cluster be written where it is? */
static int entry_in_place(struct qcow2 *q, uint64_t entry, bool *in_place)
{
    uint64_t count;
    *in_place = false;
    if (entry_kind(q, entry) != CLUSTER_DATA) {
        return 0;
    }
    if (entry & QCOW2_COPIED) {
        *in_place = true;
        return 0;
    }
    int e = qcow2_refcount_get(q, (entry & QCOW2_OFFSET) >> q->cluster_bits, &count);
    *in_place = !e && count == 1;
    return e;
}

/* Clusters from `index` on, at most `max`, that need a new place. */
static int count_new(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t max, uint64_t *count)
{
    bool in_place = false;
    int e = 0;
    for (*count = 0; *count < max && !in_place && !e; *count += !in_place && !e) {
        uint64_t entry;
        e = qcow2_l2_get(q, table, index + *count, &entry);
        e = e ? e : entry_in_place(q, entry, &in_place);
    }
    return e;
}

/* Fills new clusters at `host`: the guest's bytes, around them what was there before. */
static int fill_new(struct qcow2 *q, uint64_t host, uint64_t offset, const struct iovec *iov,
                    unsigned niov, uint64_t len)
{
    uint64_t mask = q->cluster_size - 1, start = offset & ~mask;
    uint64_t head = offset - start, end = (offset + len + mask) & ~mask;
    uint64_t tail =
        MIN(end, q->image.size) > offset + len ? MIN(end, q->image.size) - offset - len : 0;
    uint64_t pad = end - offset - len; /* beyond the end of the disk: zeroes */
    g_autofree uint8_t *edge = g_malloc0(head + pad);
    struct iovec before = {edge, head}, after = {edge + head, tail};
    int e = head ? read_locked(q, start, &before, 1, head) : 0;
    e = e || !tail ? e : read_locked(q, offset + len, &after, 1, tail);
    g_autofree struct iovec *all = g_new(struct iovec, niov + 2);
    unsigned n = 0;
    if (head) {
        all[n++] = before;
    }
    memcpy(all + n, iov, niov * sizeof(*iov));
    n += niov;
    if (pad) {
        all[n++] = (struct iovec){edge + head, pad};
    }
    return e ? e : file_writev(q->fd, host, all, n, end - start);
}

/* The entries that are being replaced, one by one. */
static int replace_entries(struct qcow2 *q, uint64_t table, uint64_t index, uint64_t count,
                           uint64_t host)
{
    g_autofree uint64_t *old = g_new(uint64_t, count);
    for (uint64_t i = 0; i < count; i++) {
        int e = qcow2_l2_get(q, table, index + i, &old[i]);
        if (e) {
            return e;
        }
    }
    int e = qcow2_claim(q, host >> q->cluster_bits, count);
    e = e ? e : qcow2_l2_put(q, table, index, count, host | QCOW2_COPIED, q->cluster_size);
    for (uint64_t i = 0; i < count && !e; i++) {
        e = release_entry(q, old[i], NULL);
    }
    return qcow2_commit(q, e);
}

/* Writes the start of the range into new clusters; *done says how much. */
static int write_new(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                     uint64_t len, uint64_t *done)
{
    uint64_t table, in = offset & (q->cluster_size - 1), first, count, wanted;
    int e = ensure_table(q, offset, &table);
    if (e) {
        return e;
    }
    uint64_t index = l2_index(q, offset);
    uint64_t max = (MIN(len, MAX_RUN) + in + q->cluster_size - 1) >> q->cluster_bits;
    e = count_new(q, table, index, MIN(max, (1ull << q->l2_bits) - index), &wanted);
    *done = 0;
    if (e || wanted == 0) {
        return e;
    }
    e = qcow2_find_free(q, wanted, &first, &count);
    if (e) {
        return e;
    }
    uint64_t bytes = MIN(len, (count << q->cluster_bits) - in);
    g_autofree struct iovec *part = g_new(struct iovec, niov + 1);
    unsigned n = iov_slice(iov, niov, 0, bytes, part);
    e = fill_new(q, first << q->cluster_bits, offset, part, n, bytes);
    e = e ? e : replace_entries(q, table, index, count, first << q->cluster_bits);
    *done = bytes;
    return e;
}

/* Into clusters that are there. Lock held, either way. *done 0: the cluster needs a new place. */
static int write_in_place(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                          uint64_t len, bool exclusive, uint64_t *done)
{
    struct run run;
    bool in_place = false;
    *done = 0;
    int e = map_run(q, offset, len, &run);
    if (!e && exclusive) {
        e = entry_in_place(q, run.entry, &in_place);
    } else {
        in_place = run.kind == CLUSTER_DATA && (run.entry & QCOW2_COPIED);
    }
    if (e || !in_place) {
        return e;
    }
    g_autofree struct iovec *part = g_new(struct iovec, niov + 1);
    unsigned n = iov_slice(iov, niov, 0, run.len, part);
    *done = run.len;
    return file_writev(q->fd, run.host, part, n, run.len);
}

static int write_exclusive(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                           uint64_t len, uint64_t *done)
{
    int e = write_in_place(q, offset, iov, niov, len, true, done);
    return e || *done ? e : write_new(q, offset, iov, niov, len, done);
}

static int write_step(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned niov,
                      uint64_t len, uint64_t *done)
{
    g_rw_lock_reader_lock(&q->lock);
    int e = write_in_place(q, offset, iov, niov, len, false, done);
    g_rw_lock_reader_unlock(&q->lock);
    if (!e && *done == 0) {
        g_rw_lock_writer_lock(&q->lock);
        e = write_exclusive(q, offset, iov, niov, len, done);
        q->inexact = q->inexact || e;
        g_rw_lock_writer_unlock(&q->lock);
    }
    return !e && *done == 0 ? EIO : e;
}

static int qcow2_write(struct block_image *image, uint64_t offset, const struct iovec *iov,
                       unsigned niov, uint64_t len)
{
    g_autofree struct iovec *rest = g_new(struct iovec, niov + 1);
    for (uint64_t sum = 0; sum < len;) {
        uint64_t done;
        unsigned n = iov_slice(iov, niov, sum, len - sum, rest);
        int e = write_step((struct qcow2 *)image, offset + sum, rest, n, len - sum, &done);
        if (e) {
            return e;
        }
        sum += done;
    }
    return 0;
}

/* --- zeroes and discard --- */

/* Makes one whole cluster read as zeroes. */
static int clear_cluster(struct qcow2 *q, uint64_t table, uint64_t index, GArray *freed)
{
    uint64_t entry, fresh = q->backing ? QCOW2_ZERO : 0;
    int e = qcow2_l2_get(q, table, index, &entry);
    if (e || entry == fresh || (entry_kind(q, entry) == CLUSTER_NONE && !q->backing)) {
        return e;
    }
    e = entry_check(q, entry);
    e = e ? e : qcow2_mark_dirty(q);
    e = e ? e : qcow2_l2_put(q, table, index, 1, fresh, 0);
    return e ? e : release_entry(q, entry, freed);
}

/* Once nothing refers to them, the freed clusters need no space on the host either. */
static int commit_freed(struct qcow2 *q, int e, GArray *freed)
{
    e = qcow2_commit(q, e);
    for (unsigned i = 0; i < freed->len && !e; i++) {
        fallocate(q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)g_array_index(freed, uint64_t, i), (off_t)q->cluster_size);
    }
    g_array_set_size(freed, 0);
    return e;
}

/* Whole clusters within one L2 table. */
static int clear_clusters(struct qcow2 *q, uint64_t offset, uint64_t len, bool must)
{
    uint64_t table = l2_table(q, offset);
    if (q->damaged) {
        return EIO;
    }
    if (!table && (!q->backing || !must)) {
        return 0;
    }
    g_autoptr(GArray) freed = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    int e = ensure_table(q, offset, &table);
    for (uint64_t i = 0; i < len >> q->cluster_bits && !e; i++) {
        e = clear_cluster(q, table, l2_index(q, offset) + i, freed);
        if (scribe_is_full(q->scribe)) {
            e = commit_freed(q, e, freed);
        }
    }
    return commit_freed(q, e, freed);
}

static int write_zero_bytes(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    g_autofree uint8_t *zeroes = g_malloc0(MIN(len, 1u << 20));
    while (len > 0) {
        struct iovec iov = {zeroes, MIN(len, 1u << 20)};
        int e = qcow2_write(&q->image, offset, &iov, 1, iov.iov_len);
        if (e) {
            return e;
        }
        offset += iov.iov_len;
        len -= iov.iov_len;
    }
    return 0;
}

/* Part of a cluster: nothing to do where nothing is. */
static int zero_part(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    struct run run;
    g_rw_lock_reader_lock(&q->lock);
    int e = map_run(q, offset, len, &run);
    g_rw_lock_reader_unlock(&q->lock);
    bool zero = run.kind == CLUSTER_ZERO || (run.kind == CLUSTER_NONE && !q->backing);
    return e || (zero && run.len == len) ? e : write_zero_bytes(q, offset, len);
}

static int clear_range(struct qcow2 *q, uint64_t offset, uint64_t len, bool must)
{
    while (len > 0) {
        uint64_t in = offset & (q->cluster_size - 1), part;
        bool last = offset + len == q->image.size; /* the disk may end within a cluster */
        int e = 0;
        if (in || (len < q->cluster_size && !last)) {
            part = MIN(len, q->cluster_size - in);
            e = must ? zero_part(q, offset, part) : 0;
        } else {
            part = MIN(len, l2_span(q) - (offset & (l2_span(q) - 1)));
            if (part < len || !last) {
                part &= ~(q->cluster_size - 1);
            }
            g_rw_lock_writer_lock(&q->lock);
            e = clear_clusters(q, offset, (part + q->cluster_size - 1) & ~(q->cluster_size - 1),
                               must);
            q->inexact = q->inexact || e;
            g_rw_lock_writer_unlock(&q->lock);
        }
        if (e) {
            return e;
        }
        offset += part;
        len -= part;
    }
    return 0;
}

static int qcow2_discard(struct block_image *image, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = (struct qcow2 *)image;
    if (q->version < 3 && q->backing) {
        return 0; /* no way to say "nothing here" over a backing file */
    }
    return clear_range(q, offset, len, false);
}

static int qcow2_zero(struct block_image *image, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = (struct qcow2 *)image;
    if (q->version < 3 && q->backing) {
        return write_zero_bytes(q, offset, len);
    }
    return clear_range(q, offset, len, true);
}

static int qcow2_flush(struct block_image *image)
{
    return fdatasync(((struct qcow2 *)image)->fd) ? errno : 0;
}

const struct block_driver qcow2_driver = {
    .name = "qcow2",
    .read = qcow2_read,
    .write = qcow2_write,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .zero = qcow2_zero,
    .close = qcow2_close,
};
