/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A window shows one unit (4 TiB) of the guest's linear address space at a fixed place in ours. Its
 * pages are mapped from the RAM memfd when translated code first touches them (SIGSEGV, then
 * window_fault), and unmapped when the guest invalidates them, so a window is a TLB that the host's
 * MMU looks up. Translated code compares an address's unit with the one it expects and adds
 * vcpu.window_addend; units without a window have an addend that leads to a place where nothing is
 * ever mapped. Each window has guard zones, so that one comparison serves for accesses nearby.
 *
 * Rights are the page's own: a page is mapped for writing only if the guest's entry is writable and
 * dirty and no code was translated from it. Windows are for one privilege: user code's hold pages
 * that user code may access, kernel code's those that only the kernel may (or any, without SMAP).
 *
 * Kernel windows of the upper half hold global pages, so loads of CR3 do not concern them. All
 * others belong to an address space (CR3's table and PCID). An address space gets windows when it
 * has run long enough to pay for them ("promoted"), and loses them when their upkeep costs too
 * much. Pages are not dropped at a flush but compared with the page tables.
 *
 * Each CPU has windows of its own, touched only on its own thread. Runs also in the signal handler
 * and under translated code: no allocation, nothing that uses vector registers.
 */
#include "window.h"

#include <sys/mman.h>
#include <x86intrin.h>

#include "cache.h"
#include "vcpu.h"

#define GUARD         (1ull << 37) /* bases are known with small indices and displacements */
#define WINDOWS_MAX   24u
#define SPACES        16u
#define CHUNK_PAGES   512u
#define CHUNK_SHIFT   21u
#define CHUNKS        12288u
#define CHUNK_HASH    8192u
#define SIGNAL_TICKS  8000u        /* what a fault on the host costs besides our own part */
#define FAULT_TICKS   25000u       /* what a page fault of the guest's would cost with windows */
#define UPKEEP_SLACK  250000000ull /* about 100 ms: programs touch much memory when they start */
#define AROUND        16u          /* neighbours that are mapped along */
#define CHURN_MAX     256u /* pages dropped one by one before a chunk stays empty for a while */
#define CHURN_TICKS   (1ull << 28)
#define RUNS_MAX      45000u /* separate mappings; vm.max_map_count is 65530 */
#define PAGE_WRITABLE (1u << 31)
#define NONE          0xffffffffu

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_G 0x100ull

/* What is mapped in 2 MiB of a window. */
struct chunk {
    uint64_t region; /* linear address >> CHUNK_SHIFT */
    uint32_t window, count;
    uint32_t hash_next, window_next; /* window_next links free ones too */
    uint32_t churn;                  /* pages dropped by INVLPG */
    uint64_t quiet;                  /* TSC until when nothing is mapped */
    uint32_t page[CHUNK_PAGES];      /* pool page + 1 | PAGE_WRITABLE, 0: nothing */
    uint32_t frame[CHUNK_PAGES];     /* guest-physical page number */
    uint32_t same_next[CHUNK_PAGES]; /* the next place where this pool page is mapped, */
    uint32_t same_last[CHUNK_PAGES]; /* and the one before: places are as in windows.head */
};

struct window {
    uint64_t start; /* host address of the unit's first byte */
    int64_t unit;
    bool used, active, kernel, global, stale;
    uint64_t root;
    uint16_t pcid;
    uint64_t stamp;
    uint32_t chunks; /* list by window_next */
    uint64_t pages;
};

/* An address space that ran lately. */
struct space {
    uint64_t root;
    uint16_t pcid;
    bool promoted, stale;
    uint32_t id;                     /* while promoted; never used twice */
    uint64_t ran, upkeep, threshold; /* in TSC ticks; before the promotion, upkeep is a guess */
    uint64_t stamp;
};

struct windows {
    uint64_t low, high; /* this CPU's part of the arena */
    unsigned count;
    struct window window[WINDOWS_MAX];
    uint64_t poison; /* start of the unit that stays empty */
    struct space space[SPACES], *current;
    uint64_t since, stamp, faults_before;
    uint32_t last_id;
    struct chunk *chunk; /* CHUNKS of them, lazily backed */
    uint32_t chunk_free, chunk_fresh;
    uint32_t hash[CHUNK_HASH];
    uint32_t *head; /* by pool page: 1 + chunk * CHUNK_PAGES + slot */
    uint64_t head_size, pool_pages;
    uint64_t runs;
    int fd;
};

static uint64_t stride(const struct vcpu *v)
{
    return (1ull << v->unit_shift) + 2 * GUARD;
}

/* --- mapping and unmapping --- */

static uint32_t *chunk_bucket(struct windows *ws, uint32_t window, uint64_t region)
{
    uint64_t h = (region * 31 + window) * 0x9e3779b97f4a7c15ull;
    return &ws->hash[h >> 51];
}

static struct chunk *chunk_find(struct windows *ws, uint32_t window, uint64_t region)
{
    for (uint32_t i = *chunk_bucket(ws, window, region); i != NONE; i = ws->chunk[i].hash_next) {
        if (ws->chunk[i].region == region && ws->chunk[i].window == window) {
            return &ws->chunk[i];
        }
    }
    return NULL;
}

static struct chunk *chunk_make(struct windows *ws, uint32_t window, uint64_t region)
{
    uint32_t i = ws->chunk_free;
    if (i != NONE) {
        ws->chunk_free = ws->chunk[i].window_next;
    } else if (ws->chunk_fresh < CHUNKS) {
        i = ws->chunk_fresh++;
    } else {
        return NULL;
    }
    struct chunk *c = &ws->chunk[i];
    uint32_t *bucket = chunk_bucket(ws, window, region);
    c->region = region;
    c->window = window;
    c->count = c->churn = 0;
    c->quiet = 0;
    for (unsigned k = 0; k < CHUNK_PAGES; k++) {
        c->page[k] = 0;
    }
    c->hash_next = *bucket;
    *bucket = i;
    c->window_next = ws->window[window].chunks;
    ws->window[window].chunks = i;
    return c;
}

static uint64_t window_addend_of(const struct vcpu *v, const struct window *w)
{
    return w->start - ((uint64_t)w->unit << v->unit_shift);
}

static uint64_t chunk_host(const struct vcpu *v, const struct chunk *c, unsigned slot)
{
    return window_addend_of(v, &v->windows->window[c->window]) + (c->region << CHUNK_SHIFT) +
           ((uint64_t)slot << GUEST_PAGE_SHIFT);
}

static uint32_t *same_at(struct windows *ws, uint32_t place, bool next)
{
    struct chunk *c = &ws->chunk[(place - 1) / CHUNK_PAGES];
    return next ? &c->same_next[(place - 1) % CHUNK_PAGES]
                : &c->same_last[(place - 1) % CHUNK_PAGES];
}

static void same_unlink(struct windows *ws, struct chunk *c, unsigned slot)
{
    uint32_t next = c->same_next[slot], last = c->same_last[slot];
    if (next) {
        *same_at(ws, next, false) = last;
    }
    if (last) {
        *same_at(ws, last, true) = next;
    } else {
        ws->head[(c->page[slot] & ~PAGE_WRITABLE) - 1] = next;
    }
}

static void same_link(struct windows *ws, struct chunk *c, unsigned slot, uint64_t page)
{
    uint32_t self = 1 + (uint32_t)(c - ws->chunk) * CHUNK_PAGES + slot, next = ws->head[page];
    c->same_next[slot] = next;
    c->same_last[slot] = 0;
    if (next) {
        *same_at(ws, next, false) = self;
    }
    ws->head[page] = self;
}

static void slots_unmap(struct vcpu *v, struct chunk *c, unsigned slot, unsigned n)
{
    struct windows *ws = v->windows;
    mmap((void *)chunk_host(v, c, slot), (size_t)n << GUEST_PAGE_SHIFT, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    for (unsigned i = slot; i < slot + n; i++) {
        if (c->page[i]) {
            same_unlink(ws, c, i);
            c->page[i] = 0;
            c->count--;
            ws->window[c->window].pages--;
        }
    }
}

static bool slots_map(struct vcpu *v, struct chunk *c, unsigned slot, unsigned n, uint64_t page,
                      bool writable)
{
    struct windows *ws = v->windows;
    void *at = mmap((void *)chunk_host(v, c, slot), (size_t)n << GUEST_PAGE_SHIFT,
                    PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED, ws->fd,
                    page << GUEST_PAGE_SHIFT);
    if (at == MAP_FAILED) { /* what was there before may be gone as well */
        slots_unmap(v, c, slot, n);
        return false;
    }
    ws->runs++;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = slot + i;
        if (c->page[k]) {
            same_unlink(ws, c, k);
        } else {
            c->count++;
            ws->window[c->window].pages++;
        }
        c->page[k] = (page + i + 1) | (writable ? PAGE_WRITABLE : 0);
        same_link(ws, c, k, page + i);
    }
    return true;
}

static void slot_protect(struct vcpu *v, struct chunk *c, unsigned slot)
{
    mprotect((void *)chunk_host(v, c, slot), GUEST_PAGE_SIZE, PROT_READ);
    c->page[slot] &= ~PAGE_WRITABLE;
    v->windows->runs += 2;
}

static void chunk_free(struct windows *ws, struct chunk *c)
{
    uint32_t i = c - ws->chunk;
    for (uint32_t *at = chunk_bucket(ws, c->window, c->region); *at != NONE;
         at = &ws->chunk[*at].hash_next) {
        if (*at == i) {
            *at = c->hash_next;
            break;
        }
    }
    c->window_next = ws->chunk_free;
    ws->chunk_free = i;
}

/* Unmaps everything in a window. */
static void window_empty(struct vcpu *v, struct window *w)
{
    struct windows *ws = v->windows;
    if (w->chunks == NONE) {
        return;
    }
    mmap((void *)w->start, 1ull << v->unit_shift, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    for (uint32_t i = w->chunks; i != NONE;) {
        struct chunk *c = &ws->chunk[i];
        uint32_t next = c->window_next;
        for (unsigned k = 0; k < CHUNK_PAGES && c->count; k++) {
            if (c->page[k]) {
                same_unlink(ws, c, k);
                c->page[k] = 0;
                c->count--;
            }
        }
        chunk_free(ws, c);
        i = next;
    }
    w->chunks = NONE;
    w->pages = 0;
}

/* --- which windows are in force --- */

static void addends_update(struct vcpu *v)
{
    struct windows *ws = v->windows;
    for (unsigned i = 0; i < WINDOW_UNITS; i++) {
        int64_t unit = (int8_t)i;
        v->window_addend[0][i] = v->window_addend[1][i] =
            ws->poison - ((uint64_t)unit << v->unit_shift);
    }
    for (unsigned i = 0; i < ws->count; i++) {
        const struct window *w = &ws->window[i];
        if (w->used && w->active) {
            v->window_addend[w->kernel][window_slot(w->unit)] = window_addend_of(v, w);
        }
    }
}

static bool kernel_global(const struct vcpu *v, int64_t unit)
{
    return unit < 0 && (v->cr4 & CR4_PGE);
}

static bool paging_long(const struct vcpu *v)
{
    return (v->cr0 & CR0_PG) && cpu_long_active(v);
}

bool window_possible(const struct vcpu *v, int64_t unit, bool kernel)
{
    const struct windows *ws = v->windows;
    int64_t half = 1ll << (47 - v->unit_shift); /* canonical addresses only */
    if (!ws || !paging_long(v) || unit < -half || unit >= half) {
        return false;
    }
    if (kernel && kernel_global(v, unit)) {
        return true;
    }
    return ws->current && ws->current->promoted && (kernel || unit >= 0);
}

static void window_retire(struct vcpu *v, struct window *w)
{
    window_empty(v, w);
    w->used = w->active = false;
}

static struct window *window_take(struct vcpu *v)
{
    struct windows *ws = v->windows;
    struct window *oldest = NULL;
    for (unsigned i = 0; i < ws->count; i++) {
        struct window *w = &ws->window[i];
        if (!w->used) {
            return w;
        }
        if (!w->active && (!oldest || w->stamp < oldest->stamp)) {
            oldest = w;
        }
    }
    if (oldest) {
        window_retire(v, oldest);
    }
    return oldest;
}

bool window_offer(struct vcpu *v, int64_t unit, bool kernel)
{
    struct windows *ws = v->windows;
    if (!window_possible(v, unit, kernel)) {
        return false;
    }
    for (unsigned i = 0; i < ws->count; i++) {
        const struct window *w = &ws->window[i];
        if (w->used && w->active && w->unit == unit && w->kernel == kernel) {
            return true;
        }
    }
    struct window *w = window_take(v);
    if (!w) {
        return false;
    }
    bool global = kernel && kernel_global(v, unit);
    *w = (struct window){.start = w->start,
                         .unit = unit,
                         .used = true,
                         .active = true,
                         .kernel = kernel,
                         .global = global,
                         .root = global ? 0 : ws->current->root,
                         .pcid = global ? 0 : ws->current->pcid,
                         .stamp = ++ws->stamp,
                         .chunks = NONE};
    addends_update(v);
    return true;
}

/* --- filling --- */

/* What the page tables allow this window for a page: the frame and whether it is writable. */
static bool slot_wanted(const struct vcpu *v, const struct window *w, const struct leaf *l,
                        unsigned slot, uint64_t *frame, bool *writable)
{
    uint64_t e = l->table ? __atomic_load_n(&l->table[slot], __ATOMIC_RELAXED) : l->entry;
    bool user = l->user && (e & PTE_U);
    if (!(e & PTE_P) || !(e & PTE_A) || (l->table && (e & mmu_reserved(v, false)))) {
        return false;
    }
    if (w->global   ? user || !(e & PTE_G) || !(v->cr4 & CR4_PGE)
        : w->kernel ? user && (v->cr4 & CR4_SMAP)
                    : !user) {
        return false;
    }
    *frame = l->table ? (e & 0x000ffffffffff000ull) >> GUEST_PAGE_SHIFT
                      : (l->gpa >> GUEST_PAGE_SHIFT) + slot;
    *writable = l->writable && (e & PTE_W) && (e & PTE_D);
    return true;
}

struct run {
    unsigned slot, n;
    uint64_t page;
    bool writable;
};

static bool run_flush(struct vcpu *v, struct chunk *c, struct run *r)
{
    bool ok = !r->n || slots_map(v, c, r->slot, r->n, r->page, r->writable);
    r->n = 0;
    return ok;
}

/* Maps what is missing among slots [first, end); true if `slot` is there with the right wanted. */
static bool fill(struct vcpu *v, const struct window *w, struct chunk *c, const struct leaf *l,
                 unsigned first, unsigned end, unsigned slot, bool write)
{
    struct run run = {0};
    for (unsigned i = first; i < end; i++) {
        uint64_t frame, page;
        bool writable, plain;
        if ((c->page[i] && i != slot) || !slot_wanted(v, w, l, i, &frame, &writable) ||
            !mmu_pool_page(v, frame << GUEST_PAGE_SHIFT, &page, &plain)) {
            run_flush(v, c, &run);
            continue;
        }
        writable &= plain && !v->engine->code_map[page];
        if (i == slot && write && !writable) {
            run_flush(v, c, &run);
            continue;
        }
        c->frame[i] = frame;
        if (run.n && (run.page + run.n != page || run.writable != writable)) {
            run_flush(v, c, &run);
        }
        if (!run.n) {
            run = (struct run){i, 0, page, writable};
        }
        run.n++;
    }
    run_flush(v, c, &run);
    return c->page[slot] && (!write || (c->page[slot] & PAGE_WRITABLE));
}

static struct window *window_at(struct vcpu *v, uint64_t host)
{
    struct windows *ws = v->windows;
    if (!window_contains(v, host)) {
        return NULL;
    }
    uint64_t n = (host - ws->low) / stride(v);
    return n < ws->count ? &ws->window[n] : NULL;
}

bool window_contains(const struct vcpu *v, uint64_t host)
{
    return v->windows && host >= v->windows->low && host < v->windows->high;
}

static void upkeep(struct vcpu *v, uint64_t start)
{
    if (v->windows->current) {
        v->windows->current->upkeep += __rdtsc() - start;
    }
}

static bool window_fill(struct vcpu *v, struct window *w, uint64_t linear, bool write)
{
    struct windows *ws = v->windows;
    struct leaf l;
    uint64_t region = linear >> CHUNK_SHIFT;
    unsigned slot = linear >> GUEST_PAGE_SHIFT & (CHUNK_PAGES - 1);
    if (!mmu_touch(v, linear, write, w->kernel) || !mmu_leaf(v, linear, &l)) {
        return false;
    }
    if (ws->runs > RUNS_MAX / v->engine->cpus) {
        window_drop_all(v);
        if (!w->used) {
            return false;
        }
    }
    uint32_t number = w - ws->window;
    struct chunk *c = chunk_find(ws, number, region);
    if (!c) {
        c = chunk_make(ws, number, region);
    }
    if (!c) {
        window_drop_all(v);
        return false;
    }
    if (c->quiet && __rdtsc() < c->quiet) {
        return false;
    }
    unsigned first = l.table ? slot & ~(AROUND - 1) : 0;
    return fill(v, w, c, &l, first, l.table ? first + AROUND : CHUNK_PAGES, slot, write);
}

bool window_fault(struct vcpu *v, uint64_t host, bool write)
{
    struct window *w = window_at(v, host);
    if (v->windows->current) {
        v->windows->current->upkeep += SIGNAL_TICKS;
    }
    if (!w || !w->used || !w->active || host < w->start ||
        host - w->start >= 1ull << v->unit_shift) {
        return false;
    }
    uint64_t start = __rdtsc();
    bool ok = window_fill(v, w, host - window_addend_of(v, w), write);
    if (!w->global) {
        upkeep(v, start);
    }
    v->count.window_fills++;
    return ok;
}

/* --- invalidation --- */

static void chunk_check(struct vcpu *v, const struct window *w, struct chunk *c, unsigned first,
                        unsigned end)
{
    struct leaf l;
    bool there = mmu_leaf(v, c->region << CHUNK_SHIFT, &l);
    unsigned gone = 0;
    for (unsigned i = first; i < end; i++) {
        uint64_t frame;
        bool writable = false, keep = true;
        if (c->page[i]) {
            keep = there && slot_wanted(v, w, &l, i, &frame, &writable) && frame == c->frame[i];
        }
        if (c->page[i] && !keep) {
            gone++;
            continue;
        }
        if (gone) {
            slots_unmap(v, c, i - gone, gone);
            gone = 0;
        }
        if ((c->page[i] & PAGE_WRITABLE) && !writable) {
            slot_protect(v, c, i);
        }
    }
    if (gone) {
        slots_unmap(v, c, end - gone, gone);
    }
}

/* Compares a window's pages with the page tables in force. */
static void window_check(struct vcpu *v, struct window *w)
{
    struct windows *ws = v->windows;
    uint32_t *at = &w->chunks;
    while (*at != NONE) {
        struct chunk *c = &ws->chunk[*at];
        chunk_check(v, w, c, 0, CHUNK_PAGES);
        if (!c->count) {
            *at = c->window_next;
            chunk_free(ws, c);
        } else {
            at = &c->window_next;
        }
    }
    w->stale = false;
}

void window_flush(struct vcpu *v, bool global)
{
    struct windows *ws = v->windows;
    if (!ws) {
        return;
    }
    uint64_t start = __rdtsc();
    for (unsigned i = 0; i < ws->count; i++) {
        struct window *w = &ws->window[i];
        if (!w->used || (w->global && !global)) {
            continue;
        }
        if (!paging_long(v)) {
            window_retire(v, w);
        } else if (w->active) {
            window_check(v, w);
        } else {
            w->stale |= global;
        }
    }
    for (unsigned i = 0; i < SPACES && global; i++) {
        ws->space[i].stale |= &ws->space[i] != ws->current;
    }
    if (!paging_long(v)) {
        addends_update(v);
        links_drop_local(v);
        ws->current = NULL;
        v->space = 0;
    }
    upkeep(v, start);
}

void window_flush_pcid(struct vcpu *v, unsigned pcid)
{
    struct windows *ws = v->windows;
    if (!ws) {
        return;
    }
    for (unsigned i = 0; i < ws->count; i++) {
        ws->window[i].stale |= !ws->window[i].active && ws->window[i].pcid == pcid;
    }
    for (unsigned i = 0; i < SPACES; i++) {
        ws->space[i].stale |= ws->space[i].pcid == pcid;
    }
}

/* The kernel's fixmaps and the like are mapped and unmapped page by page, for one access each: the
 * TLB is better at that. */
static void chunk_churn(struct chunk *c)
{
    if (++c->churn == CHURN_MAX) {
        c->quiet = __rdtsc() + CHURN_TICKS;
        c->churn = 0;
    }
}

/* `size`: 4 KiB, or that of the large page which `linear` is in. */
void window_flush_page(struct vcpu *v, uint64_t linear, uint64_t size)
{
    struct windows *ws = v->windows;
    uint64_t first = linear & ~(size - 1);
    for (unsigned i = 0; ws && i < ws->count; i++) {
        struct window *w = &ws->window[i];
        if (!w->used || w->unit != window_unit(v, linear)) {
            continue;
        }
        if (!w->active) {
            w->stale = true;
            continue;
        }
        for (uint64_t at = first; at < first + size; at += 1ull << CHUNK_SHIFT) {
            struct chunk *c = chunk_find(ws, i, at >> CHUNK_SHIFT);
            unsigned slot = at >> GUEST_PAGE_SHIFT & (CHUNK_PAGES - 1);
            if (c && size > GUEST_PAGE_SIZE) {
                chunk_check(v, w, c, 0, CHUNK_PAGES);
            } else if (c && c->page[slot]) {
                chunk_check(v, w, c, slot, slot + 1);
                if (w->kernel && !c->page[slot]) {
                    chunk_churn(c);
                }
            }
        }
    }
}

void window_drop_all(struct vcpu *v)
{
    struct windows *ws = v->windows;
    if (!ws) {
        return;
    }
    for (unsigned i = 0; i < ws->count; i++) {
        window_empty(v, &ws->window[i]);
        ws->window[i].stale = false;
    }
    ws->runs = 0;
}

void window_protect(struct vcpu *v, uint64_t pool_offset)
{
    struct windows *ws = v->windows;
    uint64_t page = pool_offset >> GUEST_PAGE_SHIFT;
    if (!ws || page >= ws->pool_pages) {
        return;
    }
    for (uint32_t i = ws->head[page]; i;) {
        struct chunk *c = &ws->chunk[(i - 1) / CHUNK_PAGES];
        unsigned slot = (i - 1) % CHUNK_PAGES;
        if (c->page[slot] & PAGE_WRITABLE) {
            slot_protect(v, c, slot);
        }
        i = c->same_next[slot];
    }
}

/* --- address spaces --- */

static uint16_t pcid_now(const struct vcpu *v)
{
    return v->cr4 & CR4_PCIDE ? v->cr3 & 0xfff : 0;
}

static uint64_t root_now(const struct vcpu *v)
{
    return v->cr3 & 0x000ffffffffff000ull;
}

static void spaces_retire_windows(struct vcpu *v, const struct space *s)
{
    struct windows *ws = v->windows;
    for (unsigned i = 0; i < ws->count; i++) {
        struct window *w = &ws->window[i];
        if (w->used && !w->global && w->root == s->root && w->pcid == s->pcid) {
            window_retire(v, w);
        }
    }
}

static struct space *space_find(struct vcpu *v)
{
    struct windows *ws = v->windows;
    struct space *oldest = &ws->space[0];
    for (unsigned i = 0; i < SPACES; i++) {
        struct space *s = &ws->space[i];
        if (s->stamp && s->root == root_now(v) && s->pcid == pcid_now(v)) {
            return s;
        }
        if (s->stamp < oldest->stamp) {
            oldest = s;
        }
    }
    if (oldest->promoted) {
        spaces_retire_windows(v, oldest);
    }
    *oldest = (struct space){
        .root = root_now(v), .pcid = pcid_now(v), .threshold = translate_options.promote_ticks};
    return oldest;
}

static void space_account(struct vcpu *v)
{
    struct windows *ws = v->windows;
    uint64_t now = __rdtsc();
    if (ws->current) {
        ws->current->ran += now - ws->since;
        if (!ws->current->promoted) {
            ws->current->upkeep += (v->page_faults - ws->faults_before) * FAULT_TICKS;
        }
    }
    ws->faults_before = v->page_faults;
    ws->since = now;
}

/* Promotes the address space that runs, or demotes it when windows cost a third of its time. */
static void space_judge(struct vcpu *v)
{
    struct windows *ws = v->windows;
    struct space *s = ws->current;
    if (!s) {
        return;
    }
    if (!s->promoted && s->ran >= s->threshold && s->upkeep <= s->ran / 3) {
        s->promoted = true;
        s->id = ++ws->last_id;
        s->ran = s->upkeep = 0;
    } else if (s->promoted && s->upkeep > s->ran / 3 + UPKEEP_SLACK) {
        spaces_retire_windows(v, s);
        addends_update(v);
        links_drop_local(v);
        s->promoted = false;
        s->threshold =
            s->threshold < 32 * translate_options.promote_ticks ? s->threshold * 4 : s->threshold;
        s->ran = s->upkeep = 0;
    } else if (s->ran > 1ull << 30) { /* let the past fade */
        s->ran /= 2;
        s->upkeep /= 2;
    }
    v->space = s->promoted ? s->id : 0;
}

void window_load_cr3(struct vcpu *v, bool keep)
{
    struct windows *ws = v->windows;
    v->space = 0;
    if (!ws || !paging_long(v)) {
        return;
    }
    space_account(v);
    struct space *last = ws->current, *s = space_find(v);
    s->stamp = ++ws->stamp;
    ws->current = s;
    if (!keep && s != last && !s->promoted && (v->cr4 & CR4_PCIDE)) {
        s->ran = s->upkeep = 0; /* probably another process with the same tables */
    }
    bool changed = false;
    uint64_t start = __rdtsc();
    for (unsigned i = 0; i < ws->count; i++) {
        struct window *w = &ws->window[i];
        if (!w->used || w->global) {
            continue;
        }
        bool active = s->promoted && w->root == s->root && w->pcid == s->pcid;
        changed |= active != w->active;
        w->active = active;
        if (active) {
            w->stamp = ws->stamp;
            if (!keep || w->stale) {
                window_check(v, w);
            }
        }
    }
    if (changed) {
        addends_update(v);
    }
    space_judge(v);
    if (s != last) {
        links_drop_local(v);
    }
    if (s->promoted) {
        if (s == last && (!keep || s->stale)) {
            links_check(v, v->space);
        }
        s->stale = false;
        upkeep(v, start);
    }
}

void window_tick(struct vcpu *v)
{
    if (!v->windows || !paging_long(v)) {
        v->space = 0;
        return;
    }
    if (!v->windows->current) {
        window_load_cr3(v, false);
    }
    space_account(v);
    space_judge(v);
}

/* --- the arena --- */

static struct windows *windows_make(struct vcpu *v, uint64_t low, unsigned count)
{
    struct translate *t = v->engine;
    size_t chunks = CHUNKS * sizeof(struct chunk);
    uint64_t pages = memory_pool_max(t->memory) >> GUEST_PAGE_SHIFT;
    struct windows *ws = mmap(NULL, sizeof *ws, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *chunk = mmap(NULL, chunks, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *head = mmap(NULL, pages * 4, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ws == MAP_FAILED || chunk == MAP_FAILED || head == MAP_FAILED) {
        return NULL; /* a machine without windows; the process is short of address space anyhow */
    }
    ws->low = low;
    ws->high = low + (count + 1) * stride(v);
    ws->count = count;
    for (unsigned i = 0; i < count; i++) {
        ws->window[i] = (struct window){.start = low + i * stride(v) + GUARD, .chunks = NONE};
    }
    ws->poison = low + count * stride(v) + GUARD;
    ws->chunk = chunk;
    ws->chunk_free = NONE;
    for (unsigned i = 0; i < CHUNK_HASH; i++) {
        ws->hash[i] = NONE;
    }
    ws->head = head;
    ws->head_size = pages * 4;
    ws->pool_pages = pages;
    ws->fd = memory_pool_fd(t->memory);
    return ws;
}

void windows_new(struct translate *t)
{
    uint64_t size = 0;
    void *arena = MAP_FAILED;
    unsigned per = WINDOWS_MAX / t->cpus;
    for (unsigned i = 0; i < t->cpus; i++) {
        t->cpu[i]->unit_shift = t->cpus > 2 ? 40 : 42; /* more CPUs, smaller units */
        t->cpu[i]->unit_mask = ~0ull << t->cpu[i]->unit_shift;
        t->cpu[i]->slot_mask = (uint64_t)(WINDOW_UNITS - 1) << t->cpu[i]->unit_shift;
    }
    if (translate_options.no_windows) {
        return;
    }
    for (per = t->cpus > 2 ? 8 : per > 18 ? 18 : per; per >= 3 && arena == MAP_FAILED; per--) {
        size = (uint64_t)t->cpus * per * stride(t->cpu[0]);
        arena = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena != MAP_FAILED) {
            break;
        }
    }
    if (arena == MAP_FAILED) {
        return;
    }
    madvise(arena, size, MADV_DONTDUMP);
    t->arena = arena;
    t->arena_size = size;
    for (unsigned i = 0; i < t->cpus; i++) {
        struct vcpu *v = t->cpu[i];
        v->windows = windows_make(v, (uint64_t)arena + (uint64_t)i * per * stride(v), per - 1);
        if (v->windows) {
            addends_update(v);
        }
    }
}

void windows_free(struct vcpu *v)
{
    struct windows *ws = v->windows;
    if (ws) {
        munmap(ws->chunk, CHUNKS * sizeof(struct chunk));
        munmap(ws->head, ws->head_size);
        munmap(ws, sizeof *ws);
    }
}
