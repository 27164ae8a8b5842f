/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding, making and dropping blocks. Part of it runs under translated code (block_resolve and
 * what it calls when the block exists), so the file is built with -mgeneral-regs-only and goes
 * outside for the rest.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache.h"
#include "vcpu.h"
#include "window.h"

/* --- the cache --- */

static bool cache_map(struct code_cache *c, size_t size)
{
    int fd = memfd_create("ringside-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size) < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    c->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    c->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    return c->rw != MAP_FAILED && c->rx != MAP_FAILED;
}

static void *lazy_map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

struct code_cache *cache_new(size_t size)
{
    struct code_cache *c = g_malloc0(sizeof *c);
    bool ok = cache_map(c, size);
    c->size = size;
    c->regions = size / CACHE_REGIONS < 4 * BLOCK_ROOM ? 8 : CACHE_REGIONS;
    c->page_pool = lazy_map(PAGE_POOL * sizeof *c->page_pool);
    ok &= c->page_pool != NULL;
    for (unsigned i = 0; i < c->regions; i++) {
        struct region *r = &c->region[i];
        r->blocks_max = size / c->regions / 96;
        r->sites_max = size / c->regions / 8;
        r->blocks = lazy_map(r->blocks_max * sizeof *r->blocks);
        r->sites = lazy_map(r->sites_max * sizeof *r->sites);
        r->window_sites_max = size / c->regions / 32;
        r->window_sites = lazy_map(r->window_sites_max * sizeof *r->window_sites);
        r->fixes_max = size / c->regions / 12;
        r->fixes = lazy_map(r->fixes_max * sizeof *r->fixes);
        r->links_max = size / c->regions / 64;
        r->links = lazy_map(r->links_max * sizeof *r->links);
        ok &= r->blocks && r->sites && r->window_sites && r->links && r->fixes;
    }
    if (!ok) {
        g_free(c); /* the machine does not start: what was mapped goes with the process */
        return NULL;
    }
    return c;
}

void cache_free(struct code_cache *c)
{
    if (!c) {
        return;
    }
    munmap(c->rw, c->size);
    munmap(c->rx, c->size);
    munmap(c->page_pool, PAGE_POOL * sizeof *c->page_pool);
    for (unsigned i = 0; i < c->regions; i++) {
        munmap(c->region[i].blocks, c->region[i].blocks_max * sizeof *c->region[i].blocks);
        munmap(c->region[i].sites, c->region[i].sites_max * sizeof *c->region[i].sites);
        munmap(c->region[i].window_sites,
               c->region[i].window_sites_max * sizeof *c->region[i].window_sites);
        munmap(c->region[i].fixes, c->region[i].fixes_max * sizeof *c->region[i].fixes);
        munmap(c->region[i].links, c->region[i].links_max * sizeof *c->region[i].links);
    }
    g_free(c->scratch);
    g_free(c);
}

static unsigned jump_index(uint64_t rip)
{
    uint64_t crc = 0;
    __asm__("crc32q %1, %0" : "+r"(crc) : "r"(rip));
    return crc & (JUMP_SIZE - 1);
}

/* An empty entry looks like rip ~0: while the one in that one's place is empty, its code looks
 * again. */
static void jump_guard(struct vcpu *v, unsigned slot)
{
    struct jump_entry *entry = &v->jump[slot][jump_index(~0ull)];
    if (!entry->tag) {
        entry->code = v->cache->thunk_indirect;
    }
}

static void jump_slot_clear(struct vcpu *v, unsigned slot)
{
    struct jump_log *log = &v->jump_log[slot];
    for (unsigned i = 0; i < log->used; i++) {
        v->jump[slot][log->entry[i].index].tag = 0;
    }
    uint64_t *p = (uint64_t *)log->bucket, n = sizeof log->bucket / 8;
    if (log->used) {
        __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(0) : "memory");
    }
    log->used = 0;
    log->nonglobal = false;
    jump_guard(v, slot);
}

static void jump_clear(struct vcpu *v)
{
    for (unsigned s = 0; s < JUMP_SLOTS; s++) {
        jump_slot_clear(v, s);
        v->jump_owner[s] = 0;
        v->jump_used[s] = 0;
    }
}

static void region_reset(struct code_cache *c, unsigned i, enum code_class owner)
{
    struct region *r = &c->region[i];
    size_t start = c->start + i * c->region_size;
    r->owner = owner;
    r->used = start;
    r->end = r->cold = start + (c->region_size / 16 * c->hot_share[owner] & ~63ul);
    r->cold_end = start + c->region_size;
    r->blocks_count = r->sites_count = r->window_sites_count = r->links_count = r->fixes_count = 0;
}

/* Forgets every translation. */
void cache_flush(struct vcpu *v)
{
    struct code_cache *c = v->cache;
    for (unsigned i = 0; i < BLOCK_HASH; i++) {
        for (unsigned k = 0; k < BLOCK_WAYS; k++) {
            c->hash[i][k] = 0;
        }
    }
    for (unsigned i = 0; i < MOVABLE_SETS; i++) {
        for (unsigned k = 0; k < MOVABLE_WAYS; k++) {
            c->movable[i][k] = 0;
        }
    }
    for (size_t i = 0; i < c->page_pool_used; i++) {
        engine_release_page(v, c->page_pool[i].page);
    }
    for (unsigned i = 0; i < 4096; i++) {
        c->pages[i] = NULL;
    }
    c->region_size = (c->size - c->start) / c->regions & ~63ul;
    c->page_pool_used = 0;
    c->fillings = c->kernel_filled = 0;
    for (unsigned i = 0; i < CODE_CLASSES; i++) {
        c->filling[i] = NO_REGION;
        c->hot_share[i] = 7;
    }
    for (unsigned i = 0; i < c->regions; i++) {
        region_reset(c, i, CODE_USER);
        c->region[i].since = 0;
    }
    c->modes_count = 0;
    v->relearn = NULL;
    c->flushes++;
    for (unsigned i = 0; i < RESOLVED_SIZE; i++) {
        v->recent[i].block = NULL;
    }
    jump_clear(v);
    for (unsigned i = 0; i < LINKED_PAGES; i++) {
        v->linked[i] = (struct linked_page){0};
    }
    v->linked_count = v->linked_local = 0;
}

static bool region_full(const struct region *r)
{
    return r->used + BLOCK_ROOM > r->end || r->cold + BLOCK_ROOM > r->cold_end ||
           r->sites_count + 1024 > r->sites_max ||
           r->window_sites_count + 256 > r->window_sites_max ||
           r->links_count + BLOCK_MAX_INSTRUCTIONS + 2 > r->links_max ||
           r->fixes_count + FIXES_MAX > r->fixes_max || r->blocks_count + 1 >= r->blocks_max;
}

struct block *block_find_host(struct code_cache *c, uint32_t offset)
{
    if (offset < c->start || (offset - c->start) / c->region_size >= c->regions) {
        return NULL;
    }
    const struct region *r = &c->region[(offset - c->start) / c->region_size];
    bool cold = offset >= r->end;
    size_t low = 0, high = r->blocks_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if ((cold ? r->blocks[mid].cold_end : r->blocks[mid].code_end) <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low < r->blocks_count && (cold ? r->blocks[low].cold : r->blocks[low].code) <= offset) {
        return &r->blocks[low];
    }
    return NULL;
}

/* --- modes and the jump table --- */

/* A new mode gets the slot that has not been used for the longest time: those that alternate, such
 * as kernel and user code, have one each. */
static unsigned jump_slot_choose(const struct vcpu *v)
{
    unsigned slot = 0;
    for (unsigned s = 1; s < JUMP_SLOTS; s++) {
        slot = v->jump_used[s] < v->jump_used[slot] ? s : slot;
    }
    return slot;
}

static unsigned mode_intern(struct vcpu *v, uint32_t flags, uint32_t cs_base)
{
    struct code_cache *c = v->cache;
    const struct mode_key *last = &c->modes[c->mode_last];
    if (c->mode_last < c->modes_count && last->flags == flags && last->cs_base == cs_base) {
        return c->mode_last;
    }
    for (unsigned i = 0; i < c->modes_count; i++) {
        if (c->modes[i].flags == flags && c->modes[i].cs_base == cs_base) {
            return c->mode_last = i;
        }
    }
    if (c->modes_count == sizeof c->modes / sizeof *c->modes) {
        cache_flush(v);
    }
    c->modes[c->modes_count] = (struct mode_key){flags, cs_base, jump_slot_choose(v)};
    return c->modes_count++;
}

/* A mode always uses the same slot, which its code knows. The slot is emptied when another mode
 * takes it over, which is safe because every change of mode passes through block_resolve. */
unsigned jump_slot_for(struct vcpu *v, uint32_t mode_number)
{
    unsigned s = v->cache->modes[mode_number].slot;
    v->jump_used[s] = v->count.resolved;
    if (v->jump_owner[s] != mode_number + 1) {
        jump_slot_clear(v, s);
        v->jump_owner[s] = mode_number + 1;
    }
    return s;
}

/* `all`: entries of global pages as well. */
void jump_flush(struct vcpu *v, bool all)
{
    for (unsigned s = 0; s < JUMP_SLOTS; s++) {
        if (v->jump_log[s].used && (all || v->jump_log[s].nonglobal)) {
            jump_slot_clear(v, s);
        }
    }
}

static unsigned jump_bucket(uint64_t linear)
{
    return (linear >> GUEST_PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 52;
}

/* Forgets entries for rips in [first, end), which are in one page. */
static void jump_forget(struct vcpu *v, unsigned slot, uint64_t first, uint64_t end)
{
    struct jump_log *log = &v->jump_log[slot];
    for (unsigned i = log->bucket[jump_bucket(first)]; i; i = log->entry[i - 1].next) {
        uint64_t *t = &v->jump[slot][log->entry[i - 1].index].tag;
        if (~*t - first < end - first) {
            *t = 0;
        }
    }
    jump_guard(v, slot);
}

/* Entries for rips in one page, and for blocks that straddle into it. Tags are rips: outside 64-bit
 * mode the CS base moves them, so everything goes then. */
void jump_flush_page(struct vcpu *v, uint64_t linear)
{
    uint64_t page = linear & ~0xfffull;
    bool wide = cpu_mode(v) & MODE_LONG;
    for (unsigned s = 0; s < JUMP_SLOTS; s++) {
        if (!wide) {
            jump_slot_clear(v, s);
        } else if (v->jump_log[s].used) {
            jump_forget(v, s, page, page + GUEST_PAGE_SIZE);
            jump_forget(v, s, page - 15, page);
        }
    }
}

static void jump_log_add(struct jump_log *log, uint64_t rip, unsigned index)
{
    uint16_t *bucket = &log->bucket[jump_bucket(rip)];
    log->entry[log->used].index = index;
    log->entry[log->used].next = *bucket;
    *bucket = ++log->used;
}

/* The log is full, most of it of entries that others have replaced since. */
static void jump_log_renew(struct vcpu *v, unsigned slot)
{
    struct jump_log *log = &v->jump_log[slot];
    uint64_t *p = (uint64_t *)log->bucket, n = sizeof log->bucket / 8;
    __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(0) : "memory");
    log->used = 0;
    for (unsigned i = 0; i < JUMP_SIZE; i++) {
        uint64_t *tag = &v->jump[slot][i].tag;
        if (*tag && log->used < JUMP_LOG / 2) {
            jump_log_add(log, ~*tag, i);
        } else {
            *tag = 0;
        }
    }
    jump_guard(v, slot);
}

static void jump_install(struct vcpu *v, unsigned slot, uint64_t rip, void *code, bool global)
{
    struct jump_log *log = &v->jump_log[slot];
    if (log->used == JUMP_LOG) {
        jump_log_renew(v, slot);
    }
    unsigned i = jump_index(rip);
    v->jump[slot][i] = (struct jump_entry){~rip, code};
    jump_log_add(log, rip, i);
    log->nonglobal |= !global;
}

/* --- pages and invalidation --- */

struct page_blocks *page_find(struct code_cache *c, uint64_t page, bool make)
{
    struct page_blocks **head = &c->pages[(page >> GUEST_PAGE_SHIFT) % 4096];
    for (struct page_blocks *p = *head; p; p = p->next) {
        if (p->page == page) {
            return p;
        }
    }
    if (!make) {
        return NULL;
    }
    struct page_blocks *p = &c->page_pool[c->page_pool_used++];
    *p = (struct page_blocks){.page = page, .next = *head};
    return *head = p;
}

/* Linear and physical addresses often differ by a constant: they must not cancel out. */
static uint64_t block_key(uint64_t linear, uint64_t page, uint32_t mode)
{
    return (linear + page * 31 + mode) * 0x9e3779b97f4a7c15ull;
}

static unsigned block_hash(uint64_t linear, uint64_t page, uint32_t mode)
{
    return block_key(linear, page, mode) >> (64 - BLOCK_HASH_BITS);
}

/* Pointers in the hash carry 16 bits of their block's key at the top, so that few other blocks are
 * looked at. */
static uint64_t key_tag(uint64_t key)
{
    return (key >> 24 & 0xffff) << 48;
}

static struct block *tagged_block(uint64_t entry)
{
    return (struct block *)(entry & ~(0xffffull << 48));
}

/* The blocks that may be copied for other linear addresses. */
static uint32_t *movable_set(struct code_cache *c, uint64_t page, unsigned offset, uint32_t mode)
{
    return c->movable[block_key(offset, page, mode) >> (64 - MOVABLE_BITS)];
}

static uint32_t movable_number(const struct code_cache *c, const struct block *b)
{
    unsigned region = (b->code - c->start) / c->region_size;
    return region << 24 | (b - c->region[region].blocks + 1);
}

static struct block *movable_block(const struct code_cache *c, uint32_t number)
{
    return number ? &c->region[number >> 24].blocks[(number & 0xffffff) - 1] : NULL;
}

static bool movable_fits(const struct block *b, uint64_t page, unsigned offset, uint32_t mode)
{
    return b->page[0] == page && b->first_offset == offset && b->mode == mode;
}

static const struct block *movable_find(struct code_cache *c, uint64_t page, unsigned offset,
                                        uint32_t mode)
{
    const uint32_t *set = movable_set(c, page, offset, mode);
    for (unsigned i = 0; i < MOVABLE_WAYS; i++) {
        const struct block *b = movable_block(c, set[i]);
        if (b && movable_fits(b, page, offset, mode)) {
            return b;
        }
    }
    return NULL;
}

/* The block takes the place of an older one at the same place in the page, else of the oldest. */
static void movable_add(struct code_cache *c, const struct block *b)
{
    uint32_t *set = movable_set(c, b->page[0], b->first_offset, b->mode);
    unsigned i = 0;
    for (; i < MOVABLE_WAYS - 1 && set[i]; i++) {
        if (movable_fits(movable_block(c, set[i]), b->page[0], b->first_offset, b->mode)) {
            break;
        }
    }
    for (; i > 0; i--) {
        set[i] = set[i - 1];
    }
    set[0] = movable_number(c, b);
}

static void movable_drop(struct code_cache *c, const struct block *b)
{
    uint32_t *set = movable_set(c, b->page[0], b->first_offset, b->mode);
    uint32_t number = movable_number(c, b);
    for (unsigned i = 0, found = 0; i < MOVABLE_WAYS; i++) { /* the others move up */
        found |= set[i] == number;
        if (found) {
            set[i] = i + 1 < MOVABLE_WAYS ? set[i + 1] : 0;
        }
    }
}

/* What points to b in the list of this page. */
static struct block ***page_place(struct block *b, uint64_t page)
{
    return &b->page_at[b->page[0] == page ? 0 : 1];
}

/* A page that is written again and again has become data: after so many writes it loses all its
 * code, and may be written freely until it is run again. Where that keeps happening, code and data
 * share the page, and only the code that is written over goes. */
#define WRITES_MAX  12u
#define EMPTIED_MAX 64u

static void pages_leave(struct vcpu *v, struct block *b)
{
    for (unsigned i = 0; i < 2 && b->page[i] != ~0ull; i++) {
        struct block *next = b->page_next[i];
        *b->page_at[i] = next;
        if (next) {
            *page_place(next, b->page[i]) = b->page_at[i];
            continue;
        }
        struct page_blocks *p = page_find(v->cache, b->page[i], false);
        if (p && !p->blocks) {
            p->writes = 0;
            p->code = 0;
            engine_release_page(v, p->page);
        }
    }
}

static void block_unlink(struct code_cache *c, struct block *b)
{
    while (b->links_in) {
        link_detach(c, b->links_in);
    }
    for (unsigned i = 0; i < b->links; i++) {
        if (b->link[i].to) {
            link_detach(c, &b->link[i]);
        }
    }
}

static struct resolved *recent_slot(struct vcpu *v, uint64_t linear, uint64_t page, uint32_t mode)
{
    return &v->recent[((linear ^ linear >> 13) + (page >> 8) + mode) % RESOLVED_SIZE];
}

static void block_drop(struct vcpu *v, struct block *b)
{
    struct code_cache *c = v->cache;
    struct resolved *recent = recent_slot(v, b->linear, b->page[0], b->mode);
    b->valid = false;
    if (recent->block == b) {
        recent->block = NULL;
    }
    movable_drop(c, b);
    if (v->relearn == b) {
        v->relearn = NULL;
    }
    v->count.dropped++;
    pages_leave(v, b);
    block_unlink(c, b);
    uint64_t *ways = c->hash[block_hash(b->linear, b->page[0], b->mode)];
    for (unsigned i = 0, found = 0; i < BLOCK_WAYS; i++) { /* the others move up */
        found |= tagged_block(ways[i]) == b;
        if (found) {
            ways[i] = i + 1 < BLOCK_WAYS ? ways[i + 1] : 0;
        }
    }
    unsigned slot = c->modes[b->mode].slot;
    uint64_t rip =
        b->linear - (c->modes[b->mode].flags & MODE_LONG ? 0 : c->modes[b->mode].cs_base);
    if (!(c->modes[b->mode].flags & MODE_LONG)) {
        rip = (uint32_t)rip;
    }
    unsigned i = jump_index(rip);
    if (v->jump[slot][i].code == c->rx + b->code) {
        v->jump[slot][i] = (struct jump_entry){0, c->thunk_indirect};
    }
}

void block_forget(struct vcpu *v)
{
    if (v->resolved && v->resolved->valid) {
        block_drop(v, v->resolved);
    }
    v->resolved = NULL;
}

/* The first byte of block b that lies in pool page `page`, and how many. */
static void block_extent(const struct block *b, uint64_t page, uint64_t *start, uint64_t *size)
{
    uint64_t head = GUEST_PAGE_SIZE - b->first_offset;
    head = b->guest_size < head ? b->guest_size : head;
    if (b->page[0] == page) {
        *start = page + b->first_offset;
        *size = head;
    } else {
        *start = page;
        *size = b->guest_size - head;
    }
}

/* Bits for struct page_blocks.code. */
static uint64_t code_bits(uint64_t offset, uint64_t len)
{
    unsigned first = offset / 64 % 64, last = (offset + len - 1) / 64 % 64;
    return ((2ull << (last - first)) - 1) << first;
}

static uint64_t block_bits(const struct block *b, uint64_t page)
{
    uint64_t start, size;
    block_extent(b, page, &start, &size);
    return code_bits(start, size);
}

static void block_add(struct vcpu *v, struct block *b)
{
    struct code_cache *c = v->cache;
    uint64_t key = block_key(b->linear, b->page[0], b->mode);
    uint64_t *ways = c->hash[key >> (64 - BLOCK_HASH_BITS)];
    if (ways[BLOCK_WAYS - 1]) { /* full: the oldest goes */
        block_drop(v, tagged_block(ways[BLOCK_WAYS - 1]));
    }
    for (unsigned i = BLOCK_WAYS - 1; i > 0; i--) {
        ways[i] = ways[i - 1];
    }
    ways[0] = (uint64_t)b | key_tag(key);
    if (b->movable && b->page[1] == ~0ull) {
        movable_add(c, b);
    }
    for (unsigned i = 0; i < 2 && b->page[i] != ~0ull; i++) {
        struct page_blocks *p = page_find(c, b->page[i], true);
        b->page_next[i] = p->blocks;
        b->page_at[i] = &p->blocks;
        if (p->blocks) {
            *page_place(p->blocks, b->page[i]) = &b->page_next[i];
        }
        p->blocks = b;
        p->code |= block_bits(b, p->page);
    }
}

static bool page_invalidate(struct vcpu *v, uint64_t page, uint64_t offset, uint64_t len)
{
    struct page_blocks *p = page_find(v->cache, page, false);
    if (!p) {
        return false;
    }
    bool all = ++p->writes >= WRITES_MAX && p->emptied < EMPTIED_MAX, dropped = false;
    uint64_t from = MAX(offset, page), end = MIN(offset + len, page + GUEST_PAGE_SIZE);
    if (!all && !(p->code & code_bits(from, end - from))) {
        return false;
    }
    uint64_t code = 0;
    for (struct block *b = p->blocks, *next; b; b = next) {
        uint64_t start, size;
        next = b->page_next[b->page[0] == page ? 0 : 1];
        block_extent(b, page, &start, &size);
        if (all || (start < end && from < start + size)) {
            block_drop(v, b);
            dropped = true;
        } else {
            code |= code_bits(start, size);
        }
    }
    p->code = code;
    p->emptied += all;
    return dropped;
}

bool block_invalidate(struct vcpu *v, uint64_t offset, uint64_t len)
{
    bool dropped = false;
    for (uint64_t page = offset & ~0xfffull; page < offset + len; page += GUEST_PAGE_SIZE) {
        dropped |= page_invalidate(v, page, offset, len);
    }
    return dropped;
}

/* The next region is divided between code and slow paths as the last one would have liked to be. */
static void hot_share_update(struct code_cache *c, enum code_class class)
{
    const struct region *r = cache_region(c);
    size_t start = c->start + c->current * c->region_size;
    size_t hot = r->used - start, cold = r->cold - r->end;
    unsigned share = (hot * 16 + cold) / (hot + cold + 1);
    c->hot_share[class] = share < 5 ? 5 : share > 11 ? 11 : share;
}

static unsigned region_oldest(const struct code_cache *c, enum code_class class, unsigned *count)
{
    unsigned oldest = NO_REGION;
    *count = 0;
    for (unsigned i = 0; i < c->regions; i++) {
        const struct region *r = &c->region[i];
        if (r->since && r->owner == class) {
            (*count)++;
            oldest = oldest == NO_REGION || r->since < c->region[oldest].since ? i : oldest;
        }
    }
    return oldest;
}

/* The region that `class` shall fill next: one never used; while it has less than its share, the
 * other's oldest; then its own oldest, but for what a kernel has not asked for in a long time. */
static unsigned region_choose(struct code_cache *c, enum code_class class)
{
    unsigned own, other, kernel = c->regions * 7 / 16;
    unsigned mine = region_oldest(c, class, &own), theirs = region_oldest(c, !class, &other);
    for (unsigned i = 0; i < c->regions; i++) {
        if (!c->region[i].since) {
            return i;
        }
    }
    if (own < (class == CODE_KERNEL ? kernel : c->regions - kernel)) {
        return theirs;
    }
    if (class == CODE_USER && other > 1 && c->fillings - c->kernel_filled > c->regions / 2) {
        c->kernel_filled = c->fillings;
        return theirs;
    }
    return mine;
}

/* Makes room: empties an old region. */
static void cache_advance(struct vcpu *v, enum code_class class)
{
    struct code_cache *c = v->cache;
    if (c->page_pool_used + 8 > PAGE_POOL) {
        cache_flush(v);
    }
    if (c->filling[class] != NO_REGION) {
        hot_share_update(c, class);
    }
    unsigned i = region_choose(c, class);
    struct region *r = &c->region[i];
    for (size_t k = 0; k < r->blocks_count; k++) {
        if (r->blocks[k].valid) {
            block_drop(v, &r->blocks[k]);
        }
    }
    v->count.regions += r->since != 0;
    if (c->filling[!class] == i) {
        c->filling[!class] = NO_REGION;
    }
    region_reset(c, i, class);
    r->since = ++c->fillings;
    if (class == CODE_KERNEL) {
        c->kernel_filled = r->since;
    }
    c->filling[class] = c->current = i;
    c->flushes++;
}

/* This CPU stored to a page that has translations (of some CPU). */
void code_written(struct vcpu *v, uint8_t *host, unsigned len)
{
    uint64_t offset = host - v->engine->pool;
    if (!v->engine->code_map[offset >> GUEST_PAGE_SHIFT] &&
        !v->engine->code_map[(offset + len - 1) >> GUEST_PAGE_SHIFT]) {
        return;
    }
    v->count.code_writes++;
    if (block_invalidate(v, offset, len) && v->ret_pc) {
        const struct block *running =
            block_find_host(v->cache, v->ret_pc - 1 - (uint64_t)v->cache->rx);
        v->smc_exit |= running && !running->valid;
    }
    if (v->engine->cpus > 1) {
        fpu_save(v);
        engine_code_written(v->engine, v, offset, len);
        fpu_load(v);
    }
}

/* --- where are we --- */

static const struct site *site_find(const struct block *b, uint32_t offset)
{
    const struct site *found = NULL;
    uint16_t at = block_at(b, offset);
    for (unsigned i = 0; i < b->sites_count && b->sites[i].at <= at; i++) {
        found = &b->sites[i];
    }
    return found;
}

static const struct site *site_current(struct vcpu *v, struct block **block)
{
    uint32_t offset = v->ret_pc - 1 - (uint64_t)v->cache->rx;
    struct block *b = *block = block_find_host(v->cache, offset);
    return b ? site_find(b, offset) : NULL;
}

static uint64_t site_rip(struct vcpu *v, const struct block *b, uint16_t offset)
{
    const struct mode_key *m = &v->cache->modes[b->mode];
    uint64_t linear = b->linear + offset;
    return m->flags & MODE_LONG ? linear : (uint32_t)(linear - m->cs_base);
}

void cpu_sync_rip(struct vcpu *v)
{
    struct block *b;
    if (!v->ret_pc) {
        return;
    }
    const struct site *s = site_current(v, &b);
    if (s) {
        v->rip = site_rip(v, b, s->guest);
    }
    v->ret_pc = 0;
}

uint64_t cpu_next_rip(struct vcpu *v)
{
    struct block *b;
    const struct site *s = v->ret_pc ? site_current(v, &b) : NULL;
    return s ? site_rip(v, b, s->guest + s->length) : v->rip;
}

/* A helper's stores made the running block stale: leave it after this instruction, unless it ends
 * here anyhow. */
void smc_check(struct vcpu *v)
{
    struct block *b;
    v->smc_exit = 0;
    const struct site *s = v->ret_pc ? site_current(v, &b) : NULL;
    if (!s || s->guest + s->length >= b->guest_size) {
        return;
    }
    v->rip = site_rip(v, b, s->guest + s->length);
    v->ret_pc = 0;
    cpu_resume(v);
}

/* --- windows --- */

#define MISSES_PATIENCE 3 /* before a block is made anew for another unit */
#define MISSES_MAX      8 /* in a window that has the unit but not the page */

/* An access that was planned as `info` says goes to `linear`. `now`: its block does not run on. A
 * block that does is dropped when it has been left, since it must notice writes to its own code. */
static void window_learn(struct vcpu *v, struct block *b, uint64_t site, uint32_t info,
                         uint64_t linear, bool now)
{
    struct site_hint *h = hint_slot(v, site);
    int64_t unit = window_unit(v, linear), planned = (int8_t)(info >> INFO_UNIT_SHIFT);
    bool kernel = v->cpl != 3, leaving = now, other = unit != planned && !(info & INFO_ANY);
    v->count.window_misses++;
    if (!kernel && !v->space) {
        return; /* code from before the address space lost its windows */
    }
    if (h->site != site) {
        *h = (struct site_hint){.site = site, .unit = planned, .any = info & INFO_ANY};
    }
    h->misses += h->misses < 255;
    h->tlb |= !window_offer(v, unit, kernel) || h->misses >= MISSES_MAX;
    now |= h->tlb || (other && h->misses >= MISSES_PATIENCE);
    if (other && now) {
        h->any |= h->changes != 0;
        h->changes = 1;
        h->unit = unit;
        h->misses = 0;
    }
    if (b->valid && leaving) {
        block_drop(v, b);
    } else if (b->valid && now) {
        v->relearn = b;
        v->run = 0;
    }
    v->count.relearned += now;
}

static void window_learn_here(struct vcpu *v, uint64_t linear, uint64_t info, bool now)
{
    struct block *b;
    const struct site *s = site_current(v, &b);
    if (s) {
        uint64_t site = (b->linear + s->guest) * 2 + (info & INFO_SECOND ? 1 : 0);
        window_learn(v, b, site, info, linear, now);
    }
}

void helper_window_anchor(struct vcpu *v, uint64_t linear, uint64_t info)
{
    window_learn_here(v, linear, info, true);
    cpu_sync_rip(v);
    cpu_resume(v);
}

/* The slow path of a windowed access. */
uint64_t helper_window_miss(struct vcpu *v, uint64_t linear, uint64_t info)
{
    if ((info & INFO_LOOP) && window_unit(v, linear) != (int8_t)(info >> INFO_UNIT_SHIFT)) {
        helper_window_anchor(v, linear, info);
    }
    uint64_t addend = helper_mem_slow(v, linear, info);
    window_learn_here(v, linear, info, false); /* only if it was no fault */
    return addend;
}

/* --- resolving --- */

/* The block itself, which is likely to be in no cache of the host's, is not looked at. */
static struct block *block_recent(struct vcpu *v, uint64_t linear, uint64_t page, uint32_t mode,
                                  uint32_t *code)
{
    const struct resolved *r = recent_slot(v, linear, page, mode);
    *code = r->code;
    return r->linear == linear && r->page == page && r->mode == mode ? r->block : NULL;
}

static struct block *block_lookup(struct vcpu *v, uint64_t linear, uint64_t page, uint32_t mode)
{
    struct code_cache *c = v->cache;
    uint64_t key = block_key(linear, page, mode), tag = key_tag(key);
    const uint64_t *ways = c->hash[key >> (64 - BLOCK_HASH_BITS)];
    for (unsigned i = 0; i < BLOCK_WAYS && ways[i]; i++) {
        struct block *b = tagged_block(ways[i]);
        if ((ways[i] & 0xffffull << 48) == tag && b->linear == linear && b->page[0] == page &&
            b->mode == mode) {
            if (b->page[1] == ~0ull) {
                *recent_slot(v, linear, page, mode) =
                    (struct resolved){linear, page, b, mode, b->code};
            }
            return b;
        }
    }
    return NULL;
}

static const uint8_t no_memory[GUEST_PAGE_SIZE * 2] = {[0 ... GUEST_PAGE_SIZE * 2 - 1] = 0xff};

/* The bytes from host on, at most to the end of the page; or, with `second`, over it. A copy, since
 * other CPUs may write there while it is decoded and used. */
static unsigned code_copy(uint8_t *to, unsigned max, const uint8_t *host, unsigned room,
                          const uint8_t *second)
{
    unsigned n = room < max ? room : max;
    memcpy(to, host, n);
    if (second) {
        memcpy(to + n, second, 32 - n);
        n = 32;
    }
    return n;
}

/* Translates at `linear`; `second` holds the next page's host memory when a straddling first
 * instruction needs it. The block is in the lists before requests of other CPUs are looked at, so
 * that a write while it was made drops it: it may come back invalid. */
static struct block *block_make(struct vcpu *v, uint64_t linear, uint32_t mode, const uint8_t *host,
                                uint64_t page, const uint8_t *second, uint64_t page2, bool global)
{
    uint8_t bytes[BLOCK_BYTES];
    v->translating = true;
    unsigned room = GUEST_PAGE_SIZE - (linear & 0xfff);
    outside_begin(v);
    engine_protect_page(v, page);
    if (second) {
        engine_protect_page(v, page2);
    }
    unsigned total = code_copy(bytes, sizeof bytes, host, room, second);
    struct block *b = block_translate_bytes(v, linear, mode, bytes, total, room);
    if (b) {
        b->global = global;
        b->first_offset = linear & 0xfff;
        b->page[0] = page;
        b->page[1] = b->guest_size > room ? page2 : ~0ull;
        block_add(v, b);
    }
    outside_end(v);
    v->translating = false;
    return b;
}

/* The same code, already translated for another linear address (another process's). A copy that was
 * dropped, since its windows do not suit, was the only one that movable_find knew of. */
static struct block *block_from_other(struct vcpu *v, uint64_t linear, uint64_t page, uint32_t mode,
                                      bool global)
{
    unsigned offset = linear & 0xfff;
    const struct block *from = movable_find(v->cache, page, offset, mode);
    if (!from || window_unit(v, linear) != window_unit(v, from->linear)) {
        return NULL;
    }
    struct block *b = block_clone(v, from, linear);
    b->global = global;
    block_add(v, b);
    return b;
}

/* The pool page behind the next linear page; raises when it cannot be fetched. */
static const uint8_t *second_page(struct vcpu *v, uint64_t linear, uint64_t *page)
{
    uint64_t gpa;
    bool global;
    uint64_t next = (linear & ~0xfffull) + GUEST_PAGE_SIZE;
    if (!cpu_long_active(v)) {
        next = (uint32_t)next;
    }
    const uint8_t *host = mem_fetch(v, next, &gpa, &global);
    *page = host ? (uint64_t)(host - v->engine->pool) : 0;
    return host ? host : no_memory;
}

/* Found, copied or translated; it may come back invalid. `host` is at `linear`. */
static struct block *block_obtain(struct vcpu *v, uint64_t linear, uint32_t mode,
                                  const uint8_t *host, uint64_t page, bool global)
{
    uint64_t page2 = 0;
    struct block *b = block_lookup(v, linear, page, mode);
    if (b && b->page[1] != ~0ull) {
        second_page(v, linear, &page2);
        if (page2 != b->page[1]) {
            block_drop(v, b);
            b = NULL;
        }
    }
    if (!b) {
        b = block_from_other(v, linear, page, mode, global);
    }
    if (!b) {
        b = block_make(v, linear, mode, host, page, NULL, 0, global);
    }
    if (!b) {
        const uint8_t *second = second_page(v, linear, &page2);
        b = block_make(v, linear, mode, host, page, second, page2, global);
    }
    return b;
}

static void check_fetch(struct vcpu *v, uint64_t linear)
{
    const struct segment *cs = &v->seg[CPU_CS];
    bool long_code = cpu_long_active(v) && (cs->attr & SEG_L);
    if (long_code ? (uint64_t)((int64_t)(linear << 16) >> 16) != linear : v->rip > cs->limit) {
        raise_exception(v, EXC_GP, 0);
    }
}

/* `quick`: a look into the jump table will do, and leaves v->resolved empty. */
static void *resolve(struct vcpu *v, bool quick)
{
    v->ret_pc = 0;
    v->count.resolved++;
    if (atomic_load_explicit(&v->requests, memory_order_relaxed) &
        (REQ_FLUSH | REQ_CODE | REQ_DIRTY)) {
        fpu_save(v); /* GLib may use vector registers: they are the guest's here */
        cpu_service(v);
        fpu_load(v);
    }
    if (v->single_pending && !v->shadow) { /* MOV SS holds it off for an instruction */
        v->single_pending = false;
        cpu_step_trap(v);
    }
    if (v->smc_exit) {
        v->smc_exit = 0;
    }
    if (v->relearn) {
        block_drop(v, v->relearn);
    }
    if (v->inject) {
        unsigned vector = v->inject - 1;
        v->inject = 0;
        deliver_external(v, vector);
    }
    if (!__atomic_load_n(&v->run, __ATOMIC_RELAXED) && !v->soft_step) {
        cpu_leave(v); /* also stops a guest whose every instruction faults */
    }
    struct code_cache *c = v->cache;
    enum code_class class = v->cpl == 3 ? CODE_USER : CODE_KERNEL;
    c->current = c->filling[class];
    if (c->current == NO_REGION || region_full(cache_region(c)) ||
        c->page_pool_used + 8 > PAGE_POOL) {
        cache_advance(v, class);
    }
    uint32_t flags = cpu_mode(v) | (v->soft_step ? MODE_STEP : 0);
    uint64_t linear = v->rip;
    uint32_t cs_base = 0;
    if (!(flags & MODE_LONG)) {
        cs_base = v->seg[CPU_CS].base;
        linear = (uint32_t)(v->rip + cs_base);
    }
    check_fetch(v, v->rip);
    if (flags & MODE_DEBUG) {
        cpu_check_breakpoint(v, linear);
    }
    unsigned mode = mode_intern(v, flags, cs_base);
    unsigned slot = jump_slot_for(v, mode);
    /* An empty entry looks like rip ~0. */
    const struct jump_entry *entry = &v->jump[slot][jump_index(v->rip)];
    if (quick && v->rip != ~0ull && entry->tag == ~v->rip &&
        !(flags & (MODE_STEP | MODE_TF | MODE_DEBUG))) {
        v->shadow = false;
        v->flags_sys &= ~(uint64_t)FLAG_RF;
        v->resolved = NULL;
        return entry->code;
    }
    bool held = v->single_pending;
    if (flags & MODE_TF) {
        v->single_pending = true;
        v->pending_dr6 |= DR6_BS;
    }
    uint64_t gpa, page;
    bool global, pending = v->single_pending;
    v->single_pending = false; /* a fetch fault comes before the trap */
    const uint8_t *host = mem_fetch(v, linear, &gpa, &global);
    if (!host) {
        raise_exception(v, EXC_UD, 0);
    }
    page = (host - v->engine->pool) & ~0xfffull;
    uint32_t place;
    struct block *b = block_recent(v, linear, page, mode, &place);
    if (!b) {
        b = block_obtain(v, linear, mode, host, page, global);
        if (!b->valid) { /* another CPU wrote there meanwhile */
            v->single_pending = held;
            cpu_resume(v);
        }
        place = b->code;
    }
    v->single_pending = pending;
    v->shadow = false;
    v->flags_sys &= ~(uint64_t)FLAG_RF; /* it was for this instruction */
    v->resolved = b;
    void *code = c->rx + place;
    if (!(flags & (MODE_STEP | MODE_TF | MODE_DEBUG))) {
        jump_install(v, slot, v->rip, code, global);
    }
    return code;
}

void *block_resolve(struct vcpu *v)
{
    return resolve(v, true);
}

void *block_resolve_for_link(struct vcpu *v)
{
    return resolve(v, false);
}
