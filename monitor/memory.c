/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical memory pool and map (see memory.h).
 *
 * A view is the map flattened: sorted ranges that do not overlap, found by binary search. Lock-free
 * readers count themselves in one of two epochs (as sleepable RCU does); a change publishes the new
 * view, then waits out both epochs before it frees the old one. Readers only search, so that wait
 * is short.
 */
#include <errno.h>
#include <gio/gio.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"
#include "host_memory.h"
#include "memory.h"

#define MAPPINGS_MAX 512u

struct range {
    uint64_t start, end; /* end is exclusive */
    struct mapping mapping;
};

struct view {
    unsigned count;
    struct range ranges[];
};

struct entry {
    unsigned id;
    struct mapping mapping;
};

struct memory {
    int fd;
    uint8_t *base, *code, *dirty;
    uint64_t max, used;
    GArray *entries; /* struct entry, oldest first */
    unsigned next_id, nesting;
    bool changed;
    _Atomic(struct view *) view;
    atomic_uint epoch;
    atomic_uint readers[2];
    void (*listener)(void *opaque);
    void *listener_opaque;
    void (*code_listener)(void *opaque, uint64_t offset, uint64_t len);
    void *code_opaque;
};

static void *map_anonymous(uint64_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static bool pool_create(struct memory *mem)
{
    uint64_t pages = mem->max >> GUEST_PAGE_SHIFT;
    void *base;

    mem->fd = memfd_create("ringside-ram", MFD_CLOEXEC);
    if (mem->fd < 0 || ftruncate(mem->fd, (off_t)mem->max) < 0) {
        return false;
    }
    base = mmap(NULL, mem->max, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem->fd, 0);
    if (base == MAP_FAILED) {
        return false;
    }
    madvise(base, mem->max, MADV_DONTFORK); /* not the scribes' (scribe.h) */
    mem->base = base;
    mem->code = map_anonymous(pages);
    mem->dirty = map_anonymous(pages);
    return mem->code && mem->dirty && host_memory_guard(base, mem->max, mem->fd);
}

struct memory *memory_new(uint64_t pool_max, GError **error)
{
    struct memory *mem = g_new0(struct memory, 1);

    mem->fd = -1;
    mem->max = (pool_max + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    mem->entries = g_array_new(FALSE, FALSE, sizeof(struct entry));
    mem->next_id = 1;
    if (!mem->max || !pool_create(mem)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "The host has no memory for a guest of this size (%" G_GUINT64_FORMAT
                    " MiB): %s",
                    mem->max >> 20, g_strerror(errno));
        memory_free(mem);
        return NULL;
    }
    atomic_store(&mem->view, g_malloc0(sizeof(struct view)));
    return mem;
}

void memory_free(struct memory *mem)
{
    if (!mem) {
        return;
    }
    if (mem->base) {
        host_memory_unguard(mem->base);
        munmap(mem->base, mem->max);
    }
    if (mem->code) {
        munmap(mem->code, mem->max >> GUEST_PAGE_SHIFT);
    }
    if (mem->dirty) {
        munmap(mem->dirty, mem->max >> GUEST_PAGE_SHIFT);
    }
    if (mem->fd >= 0) {
        close(mem->fd);
    }
    g_array_free(mem->entries, TRUE);
    g_free(atomic_load(&mem->view));
    g_free(mem);
}

void memory_large_pages(struct memory *mem)
{
    madvise(mem->base, mem->max, MADV_HUGEPAGE); /* advice: nothing is lost if it is not taken */
}

uint8_t *memory_alloc(struct memory *mem, uint64_t size, const char *name)
{
    uint8_t *p = mem->base + mem->used;

    size = (size + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    if (!size || size > mem->max - mem->used) {
        device_log("memory", "no room for %s (%" G_GUINT64_FORMAT " bytes)", name, size);
        return NULL;
    }
    mem->used += size;
    return p;
}

uint8_t *memory_pool_base(struct memory *mem)
{
    return mem->base;
}

uint64_t memory_pool_size(struct memory *mem)
{
    return mem->used;
}

uint64_t memory_pool_max(struct memory *mem)
{
    return mem->max;
}

int memory_pool_fd(struct memory *mem)
{
    return mem->fd;
}

uint8_t *memory_code_map(struct memory *mem)
{
    return mem->code;
}

uint8_t *memory_dirty_map(struct memory *mem)
{
    return mem->dirty;
}

void memory_set_listener(struct memory *mem, void (*changed)(void *opaque), void *opaque)
{
    mem->listener = changed;
    mem->listener_opaque = opaque;
}

void memory_set_code_listener(struct memory *mem,
                              void (*written)(void *opaque, uint64_t pool_offset, uint64_t len),
                              void *opaque)
{
    mem->code_listener = written;
    mem->code_opaque = opaque;
}

/* The mapping that wins at `gpa`: highest priority, latest among equals. */
static const struct mapping *entries_winner(const struct memory *mem, uint64_t gpa)
{
    const struct mapping *best = NULL;

    for (unsigned i = 0; i < mem->entries->len; i++) {
        const struct mapping *m = &g_array_index(mem->entries, struct entry, i).mapping;
        if (gpa - m->gpa < m->size && (!best || m->priority >= best->priority)) {
            best = m;
        }
    }
    return best;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void view_add(struct view *view, uint64_t start, uint64_t end, const struct mapping *m)
{
    struct range *last = view->count ? &view->ranges[view->count - 1] : NULL;

    if (last && last->end == start && memcmp(&last->mapping, m, sizeof *m) == 0) {
        last->end = end;
        return;
    }
    view->ranges[view->count++] = (struct range){start, end, *m};
}

static struct view *view_build(const struct memory *mem)
{
    unsigned n = 0, len = mem->entries->len;
    g_autofree uint64_t *edges = g_new(uint64_t, 2 * len + 1);
    struct view *view = g_malloc0(sizeof *view + 2 * (len + 1) * sizeof(struct range));

    for (unsigned i = 0; i < len; i++) {
        const struct mapping *m = &g_array_index(mem->entries, struct entry, i).mapping;
        edges[n++] = m->gpa;
        edges[n++] = m->gpa + m->size;
    }
    qsort(edges, n, sizeof *edges, compare_u64);
    for (unsigned i = 0; i + 1 < n; i++) {
        const struct mapping *m;
        if (edges[i] == edges[i + 1]) {
            continue;
        }
        m = entries_winner(mem, edges[i]);
        if (m) {
            view_add(view, edges[i], edges[i + 1], m);
        }
    }
    return view;
}

/* Waits until no reader can still hold a view from before the last publication. */
static void readers_drain(struct memory *mem)
{
    for (unsigned round = 0; round < 2; round++) {
        unsigned old = atomic_fetch_xor(&mem->epoch, 1) & 1;
        while (atomic_load(&mem->readers[old])) {
            sched_yield();
        }
    }
}

static void view_publish(struct memory *mem)
{
    struct view *old = atomic_exchange(&mem->view, view_build(mem));

    mem->changed = false;
    readers_drain(mem);
    g_free(old);
    if (mem->listener) {
        mem->listener(mem->listener_opaque);
    }
}

void memory_begin(struct memory *mem)
{
    mem->nesting++;
}

void memory_commit(struct memory *mem)
{
    if (mem->nesting && --mem->nesting == 0 && mem->changed) {
        view_publish(mem);
    }
}

static bool mapping_is_sane(const struct memory *mem, const struct mapping *m)
{
    if (!m->size || m->gpa + m->size < m->gpa || mem->entries->len >= MAPPINGS_MAX) {
        return false;
    }
    if ((m->kind == MAPPING_IO || m->kind == MAPPING_ROM_IO) && !m->ops) {
        return false;
    }
    if (m->kind == MAPPING_IO) {
        return true;
    }
    return !((m->gpa | m->size) & (GUEST_PAGE_SIZE - 1)) && m->host >= mem->base &&
           m->host + m->size <= mem->base + mem->used;
}

unsigned memory_map(struct memory *mem, const struct mapping *mapping)
{
    struct entry entry;

    if (!mapping_is_sane(mem, mapping)) {
        device_log_once("memory", mapping->gpa, "mapping at %" G_GINT64_MODIFIER "x refused",
                        mapping->gpa);
        return 0;
    }
    memset(&entry, 0, sizeof entry); /* padding too: view_add compares */
    entry.id = mem->next_id++;
    memcpy(&entry.mapping, mapping, sizeof *mapping);
    memory_begin(mem);
    g_array_append_val(mem->entries, entry);
    mem->changed = true;
    memory_commit(mem);
    return entry.id;
}

void memory_unmap(struct memory *mem, unsigned id)
{
    for (unsigned i = 0; id && i < mem->entries->len; i++) {
        if (g_array_index(mem->entries, struct entry, i).id == id) {
            memory_begin(mem);
            g_array_remove_index(mem->entries, i);
            mem->changed = true;
            memory_commit(mem);
            return;
        }
    }
}

static const struct range *view_find(const struct view *view, uint64_t gpa)
{
    unsigned low = 0, high = view->count;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (gpa < view->ranges[mid].start) {
            high = mid;
        } else if (gpa >= view->ranges[mid].end) {
            low = mid + 1;
        } else {
            return &view->ranges[mid];
        }
    }
    return NULL;
}

static void page_info_fill(const struct range *range, uint64_t gpa, struct page_info *out)
{
    const struct mapping *m = &range->mapping;
    uint8_t *page;

    if (m->kind == MAPPING_IO) {
        return;
    }
    page = m->host + (gpa - m->gpa);
    out->read = page;
    out->write = m->kind == MAPPING_RAM ? page : NULL;
    out->log_dirty = m->log_dirty;
}

void memory_lookup_pages(struct memory *mem, uint64_t gpa, struct page_info *out, uint64_t *start,
                         uint64_t *end)
{
    const uint64_t below = GUEST_PAGE_SIZE - 1;
    unsigned epoch = atomic_load(&mem->epoch) & 1;
    const struct range *range;

    *start = gpa & ~below;
    *end = *start + GUEST_PAGE_SIZE;
    *out = (struct page_info){0};
    atomic_fetch_add(&mem->readers[epoch], 1);
    range = view_find(atomic_load(&mem->view), *start);
    if (range && range->end - *start >= GUEST_PAGE_SIZE) {
        *start = (range->start + below) & ~below;
        *end = range->end & ~below;
        page_info_fill(range, *start, out);
    }
    atomic_fetch_sub(&mem->readers[epoch], 1);
}

void memory_lookup_page(struct memory *mem, uint64_t gpa, struct page_info *out)
{
    uint64_t start, end, offset;

    memory_lookup_pages(mem, gpa, out, &start, &end);
    offset = (gpa & ~(uint64_t)(GUEST_PAGE_SIZE - 1)) - start;
    out->read = out->read ? out->read + offset : NULL;
    out->write = out->write ? out->write + offset : NULL;
}

void memory_each(struct memory *mem,
                 void (*fn)(void *opaque, uint64_t start, uint64_t end,
                            const struct mapping *mapping),
                 void *opaque)
{
    const struct view *view = atomic_load(&mem->view);

    for (unsigned i = 0; i < view->count; i++) {
        fn(opaque, view->ranges[i].start, view->ranges[i].end, &view->ranges[i].mapping);
    }
}

uint64_t io_ops_read(const struct io_ops *ops, void *opaque, uint64_t addr, unsigned size)
{
    unsigned max = ops->max_size ? ops->max_size : 4, min = MAX(ops->min_size, 1);
    uint64_t value = 0;

    if (size < min) {
        uint64_t wide = io_ops_read(ops, opaque, addr & ~(uint64_t)(min - 1), min);
        value = wide >> (8 * (addr & (min - 1)));
        return size < 8 ? value & ((1ull << (8 * size)) - 1) : value;
    }
    if (size <= max && !(addr & (size - 1))) {
        return ops->read ? ops->read(opaque, addr, size) : UINT64_MAX;
    }
    if (size == 1) {
        return 0xff;
    }
    for (unsigned i = 0; i < 2; i++) {
        unsigned half = size / 2;
        uint64_t part = io_ops_read(ops, opaque, addr + i * half, half);
        value |= (part & (half < 8 ? (1ull << (8 * half)) - 1 : UINT64_MAX)) << (8 * i * half);
    }
    return value;
}

void io_ops_write(const struct io_ops *ops, void *opaque, uint64_t addr, uint64_t value,
                  unsigned size)
{
    unsigned max = ops->max_size ? ops->max_size : 4;

    if (size < ops->min_size) {
        return; /* as chips that ignore partial writes do */
    }
    if (size <= max && !(addr & (size - 1))) {
        if (ops->write) {
            ops->write(opaque, addr, size < 8 ? value & ((1ull << (8 * size)) - 1) : value, size);
        }
        return;
    }
    if (size > 1) {
        unsigned half = size / 2;
        io_ops_write(ops, opaque, addr, value, half);
        io_ops_write(ops, opaque, addr + half, value >> (8 * half), half);
    }
}

/* A copy of the range at `gpa`: a handler may change the map while we go on. */
static bool range_copy(struct memory *mem, uint64_t gpa, struct range *out)
{
    const struct range *range = view_find(atomic_load(&mem->view), gpa);

    if (range) {
        *out = *range;
        return true;
    }
    device_log_once("memory", gpa >> GUEST_PAGE_SHIFT,
                    "nobody at guest-physical %" G_GINT64_MODIFIER "x", gpa);
    return false;
}

static unsigned io_chunk(uint64_t gpa, uint64_t len)
{
    unsigned size = 8;

    while (size > len || (gpa & (size - 1))) {
        size /= 2;
    }
    return size;
}

static uint64_t nobody_length(struct memory *mem, uint64_t gpa, uint64_t len)
{
    return MIN(len, GUEST_PAGE_SIZE - (gpa & (GUEST_PAGE_SIZE - 1)));
}

bool memory_read(struct memory *mem, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *p = buf;
    bool ok = true;

    while (len) {
        struct range r;
        uint64_t n;
        if (!range_copy(mem, gpa, &r)) {
            n = io_chunk(gpa, nobody_length(mem, gpa, len));
            memset(p, 0xff, n);
            ok = false;
        } else if (r.mapping.kind == MAPPING_IO) {
            uint64_t value;
            n = io_chunk(gpa, MIN(len, r.end - gpa));
            value = io_ops_read(r.mapping.ops, r.mapping.opaque, gpa - r.mapping.gpa, (unsigned)n);
            memcpy(p, &value, n);
        } else {
            n = MIN(len, r.end - gpa);
            memcpy(p, r.mapping.host + (gpa - r.mapping.gpa), n);
        }
        p += n;
        gpa += n;
        len -= n;
    }
    return ok;
}

bool memory_write(struct memory *mem, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *p = buf;
    bool ok = true;

    while (len) {
        struct range r;
        uint64_t n;
        if (!range_copy(mem, gpa, &r)) {
            n = io_chunk(gpa, nobody_length(mem, gpa, len));
            ok = false;
        } else if (r.mapping.kind == MAPPING_IO || r.mapping.kind == MAPPING_ROM_IO) {
            uint64_t value = 0;
            n = io_chunk(gpa, MIN(len, r.end - gpa));
            memcpy(&value, p, n);
            io_ops_write(r.mapping.ops, r.mapping.opaque, gpa - r.mapping.gpa, value, (unsigned)n);
        } else {
            n = MIN(len, r.end - gpa);
            if (r.mapping.kind == MAPPING_RAM) {
                uint8_t *host = r.mapping.host + (gpa - r.mapping.gpa);
                memcpy(host, p, n);
                memory_wrote(mem, host, n);
            }
        }
        p += n;
        gpa += n;
        len -= n;
    }
    return ok;
}

uint64_t memory_io_read(struct memory *mem, uint64_t gpa, unsigned size)
{
    const struct range *r = view_find(atomic_load(&mem->view), gpa);
    uint64_t value = 0;

    if (r && r->mapping.kind == MAPPING_IO && size <= r->end - gpa) {
        return io_ops_read(r->mapping.ops, r->mapping.opaque, gpa - r->mapping.gpa, size);
    }
    memory_read(mem, gpa, &value, MIN(size, 8));
    return value;
}

void memory_io_write(struct memory *mem, uint64_t gpa, uint64_t value, unsigned size)
{
    const struct range *r = view_find(atomic_load(&mem->view), gpa);

    if (r && r->mapping.kind == MAPPING_IO && size <= r->end - gpa) {
        struct mapping m = r->mapping;
        io_ops_write(m.ops, m.opaque, gpa - m.gpa, value, size);
        return;
    }
    memory_write(mem, gpa, &value, MIN(size, 8));
}

void *memory_ram_ptr(struct memory *mem, uint64_t gpa, size_t len)
{
    const struct range *r = view_find(atomic_load(&mem->view), gpa);

    if (!r || r->mapping.kind != MAPPING_RAM || len > r->end - gpa) {
        return NULL;
    }
    return r->mapping.host + (gpa - r->mapping.gpa);
}

void memory_wrote(struct memory *mem, void *host, size_t len)
{
    uint64_t offset = (uint64_t)((uint8_t *)host - mem->base);
    bool code = false;

    if (!len || offset >= mem->used || len > mem->used - offset) {
        return;
    }
    for (uint64_t page = offset >> GUEST_PAGE_SHIFT; page <= (offset + len - 1) >> GUEST_PAGE_SHIFT;
         page++) {
        __atomic_store_n(&mem->dirty[page], 1, __ATOMIC_RELAXED);
        code |= __atomic_load_n(&mem->code[page], __ATOMIC_RELAXED) != 0;
    }
    if (code && mem->code_listener) {
        mem->code_listener(mem->code_opaque, offset, len);
    }
}
