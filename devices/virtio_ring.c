/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues (section 2.6).
 *
 *   descriptors  u64 address, u32 length, u16 flags (1 next, 2 device writes, 4 indirect), u16 next
 *   available    u16 flags (1: no interrupt), u16 index, u16 ring[size], u16 used_event
 *   used         u16 flags (1: no notify), u16 index, {u32 head, u32 length} ring[size], u16
 * avail_event
 */
#include "dma.h"
#include "virtio.h"

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u
#define NO_INTERRUPT  1u
#define NO_NOTIFY     1u

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static uint16_t ring_get16(struct virtio *v, uint64_t gpa)
{
    const uint16_t *p = gpa & 1 ? NULL : memory_ram_ptr(v->host->memory, gpa, 2);

    return p ? GUINT16_FROM_LE(__atomic_load_n(p, __ATOMIC_ACQUIRE)) : 0;
}

static void ring_put16(struct virtio *v, uint64_t gpa, uint16_t value)
{
    uint16_t *p = gpa & 1 ? NULL : memory_ram_ptr(v->host->memory, gpa, 2);

    if (p) {
        __atomic_store_n(p, GUINT16_TO_LE(value), __ATOMIC_RELEASE);
        memory_wrote(v->host->memory, p, 2);
    }
}

static bool chain_add(struct virtio *v, struct virtio_chain *c, const struct desc *d)
{
    bool in = d->flags & DESC_WRITE;
    unsigned *n = in ? &c->ins : &c->outs;
    void *host = memory_ram_ptr(v->host->memory, d->addr, d->len);

    if (*n == VIRTIO_CHAIN || !host || (!in && c->ins)) {
        return false;
    }
    (in ? c->in : c->out)[(*n)++] = (struct iovec){host, d->len};
    *(in ? &c->in_len : &c->out_len) += d->len;
    return true;
}

static bool desc_read(struct virtio *v, uint64_t table, unsigned i, struct desc *d)
{
    return dma_read(v->host->memory, table + 16ull * i, d, sizeof *d);
}

/* Follows a chain in a table of `size` entries from entry `i` on. */
static bool chain_follow(struct virtio *v, struct virtio_chain *c, uint64_t table, unsigned size,
                         unsigned i, bool indirect)
{
    for (unsigned left = size; left; left--) {
        struct desc d;
        if (i >= size || !desc_read(v, table, i, &d)) {
            return false;
        }
        if (d.flags & DESC_INDIRECT) {
            unsigned entries = d.len / 16;
            return !indirect && virtio_has(v, VIRTIO_F_INDIRECT) && !(d.flags & DESC_NEXT) &&
                   d.len % 16 == 0 && entries && entries <= VIRTIO_QUEUE_SIZE &&
                   chain_follow(v, c, d.addr, entries, 0, true);
        }
        if (d.len && !chain_add(v, c, &d)) {
            return false;
        }
        if (!(d.flags & DESC_NEXT)) {
            return true;
        }
        i = d.next;
    }
    return false; /* a loop */
}

bool virtio_empty(struct virtio *v, unsigned queue)
{
    struct virtqueue *q = &v->queue[queue];

    return !q->enabled || !virtio_running(v) || ring_get16(v, q->avail + 2) == q->next;
}

bool virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *c)
{
    struct virtqueue *q = &v->queue[queue];
    uint16_t waiting;

    if (virtio_empty(v, queue)) {
        return false;
    }
    waiting = (uint16_t)(ring_get16(v, q->avail + 2) - q->next);
    c->head = ring_get16(v, q->avail + 4 + 2ull * (q->next % q->size));
    c->outs = c->ins = 0;
    c->out_len = c->in_len = 0;
    if (waiting > q->size || !chain_follow(v, c, q->desc, q->size, c->head, false)) {
        virtio_broken(v, "a queue holds what is no chain of buffers");
        return false;
    }
    q->next++;
    return true;
}

void virtio_unpop(struct virtio *v, unsigned queue)
{
    v->queue[queue].next--;
}

void virtio_push(struct virtio *v, unsigned queue, const struct virtio_chain *c, uint32_t written)
{
    struct virtqueue *q = &v->queue[queue];
    uint32_t entry[2] = {GUINT32_TO_LE((uint32_t)c->head), GUINT32_TO_LE(written)};

    dma_write(v->host->memory, q->used + 4 + 8ull * (q->used_next % q->size), entry, sizeof entry);
    q->used_next++;
}

static bool interrupt_wanted(struct virtio *v, struct virtqueue *q, uint16_t before)
{
    uint16_t event;

    if (!virtio_has(v, VIRTIO_F_EVENT_IDX)) {
        return !(ring_get16(v, q->avail) & NO_INTERRUPT);
    }
    event = ring_get16(v, q->avail + 4 + 2ull * q->size);
    return !q->told_valid ||
           (uint16_t)(q->used_next - event - 1) < (uint16_t)(q->used_next - before);
}

void virtio_publish(struct virtio *v, unsigned queue)
{
    struct virtqueue *q = &v->queue[queue];
    uint16_t before = q->told;

    if (!q->enabled || (q->told_valid && before == q->used_next)) {
        return;
    }
    ring_put16(v, q->used + 2, q->used_next);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index is seen before the event is read */
    if (interrupt_wanted(v, q, before)) {
        virtio_interrupt(v, q->vector, 1);
    }
    q->told = q->used_next;
    q->told_valid = true;
}

void virtio_want_notify(struct virtio *v, unsigned queue, bool want)
{
    struct virtqueue *q = &v->queue[queue];

    if (!q->enabled) {
        return;
    }
    if (virtio_has(v, VIRTIO_F_EVENT_IDX)) {
        /* Of the next after those that are there, though they may not have been enough; "not now" is an index
         * far away. */
        uint16_t next = want ? ring_get16(v, q->avail + 2) : (uint16_t)(q->next - 1u);
        ring_put16(v, q->used + 4 + 8ull * q->size, next);
    } else {
        ring_put16(v, q->used, want ? 0 : NO_NOTIFY);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

size_t virtio_copy_out(const struct virtio_chain *c, size_t offset, void *to, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < c->outs && done < len; i++) {
        size_t size = c->out[i].iov_len, piece;
        if (offset >= size) {
            offset -= size;
            continue;
        }
        piece = MIN(size - offset, len - done);
        memcpy((uint8_t *)to + done, (const uint8_t *)c->out[i].iov_base + offset, piece);
        done += piece;
        offset = 0;
    }
    return done;
}

size_t virtio_copy_in(struct virtio *v, const struct virtio_chain *c, size_t offset,
                      const void *from, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < c->ins && done < len; i++) {
        size_t size = c->in[i].iov_len, piece;
        uint8_t *to = c->in[i].iov_base;
        if (offset >= size) {
            offset -= size;
            continue;
        }
        piece = MIN(size - offset, len - done);
        memcpy(to + offset, (const uint8_t *)from + done, piece);
        memory_wrote(v->host->memory, to + offset, piece);
        done += piece;
        offset = 0;
    }
    return done;
}
