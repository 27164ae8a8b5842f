/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies of translated blocks for other linear addresses. A library is at another address in each
 * process; its code, found again by its physical page, need not be translated for each: the block's
 * host code is copied and what depends on the address corrected (struct fix).
 */
#include "cache.h"

/* --- the blocks that may be copied --- */

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

const struct block *movable_find(struct code_cache *c, uint64_t page, unsigned offset,
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
void movable_add(struct code_cache *c, const struct block *b)
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

void movable_drop(struct code_cache *c, const struct block *b)
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

/* --- copying --- */

struct move {
    const struct block *from;
    struct block *to;
    uint8_t *rw;
    uint64_t delta; /* of linear addresses */
};

static void copy(void *to, const void *from, uint64_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* Where an offset in the cache that concerns the old block is in the new one. */
static uint32_t moved(const struct move *m, uint32_t offset)
{
    if (offset >= m->from->code && offset <= m->from->code_end) {
        return offset - m->from->code + m->to->code;
    }
    if (offset >= m->from->cold && offset <= m->from->cold_end) {
        return offset - m->from->cold + m->to->cold;
    }
    return offset;
}

static void fix_apply(const struct move *m, const struct fix *f)
{
    uint32_t old = (f->cold ? m->from->cold : m->from->code) + f->at;
    uint32_t at = (f->cold ? m->to->cold : m->to->code) + f->at;
    int32_t rel;
    uint64_t value;
    switch (f->kind) {
    case FIX_REL32:
        copy(&rel, m->rw + old, 4);
        rel = (int32_t)(moved(m, old + 4 + rel) - (at + 4));
        copy(m->rw + at, &rel, 4);
        break;
    default:
        copy(&value, m->rw + old, 8);
        value += m->delta;
        copy(m->rw + at, &value, 8);
    }
}

/* Where a link leads that is within the block: a loop. */
static uint8_t *link_within(const struct move *m, const struct link *l)
{
    uint32_t after = m->from->code + l->patch + 4;
    int32_t rel;
    copy(&rel, m->rw + after - 4, 4);
    return m->rw + moved(m, after + rel);
}

/* Links start unlinked, but for loops within the block. */
static void links_move(struct code_cache *c, const struct move *m)
{
    for (unsigned i = 0; i < m->from->links; i++) {
        const struct link *l = &m->from->link[i];
        struct link *n = &m->to->link[i];
        *n = (struct link){.patch = l->patch,
                           .stub = l->stub,
                           .call = l->call,
                           .from = m->to,
                           .target = l->target + m->delta};
        link_ask(c, n);
        if (l->to == m->from) {
            link_close(c, n, link_within(m, l));
        } else {
            emit_patch32(m->rw + m->to->code + n->patch, m->rw + m->to->cold + n->stub);
        }
    }
}

struct block *block_clone(struct vcpu *v, const struct block *from, uint64_t linear)
{
    struct code_cache *c = v->cache;
    struct region *r = cache_region(c);
    struct block *b = &r->blocks[r->blocks_count];
    struct move m = {from, b, c->rw, linear - from->linear};
    *b = *from;
    b->linear = linear;
    b->code = r->used;
    b->code_end = b->code + (from->code_end - from->code);
    b->cold = r->cold;
    b->cold_end = b->cold + (from->cold_end - from->cold);
    b->links_in = NULL;
    b->sites = r->sites + r->sites_count;
    b->window_sites = r->window_sites + r->window_sites_count;
    b->link = r->links + r->links_count;
    b->fixes = r->fixes + r->fixes_count;
    copy(c->rw + b->code, c->rw + from->code, from->code_end - from->code);
    copy(c->rw + b->cold, c->rw + from->cold, from->cold_end - from->cold);
    copy(b->sites, from->sites, b->sites_count * sizeof *b->sites);
    copy(b->window_sites, from->window_sites, b->window_sites_count * sizeof *b->window_sites);
    copy(b->fixes, from->fixes, b->fixes_count * sizeof *b->fixes);
    links_move(c, &m);
    for (unsigned i = 0; i < b->fixes_count; i++) {
        fix_apply(&m, &b->fixes[i]);
    }
    r->sites_count += b->sites_count;
    r->window_sites_count += b->window_sites_count;
    r->links_count += b->links;
    r->fixes_count += b->fixes_count;
    r->blocks_count++;
    r->used = (b->code_end + 15) & ~15u;
    r->cold = b->cold_end;
    v->count.clones++;
    return b;
}
