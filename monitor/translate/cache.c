/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of a code cache: its mappings, and the regions that kernel and user code fill in turn.
 * Built like block.c.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "cache.h"
#include "vcpu.h"

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

/* The region for the code at hand becomes the current one, and has room for a block. */
void cache_ready(struct vcpu *v)
{
    struct code_cache *c = v->cache;
    enum code_class class = v->cpl == 3 ? CODE_USER : CODE_KERNEL;
    c->current = c->filling[class];
    if (c->current == NO_REGION || region_full(cache_region(c)) ||
        c->page_pool_used + 8 > PAGE_POOL) {
        cache_advance(v, class);
    }
}
