/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Links from block to block that cross pages. Such a link holds while the target's page is mapped
 * where it was, which is so for the kernel's global pages, and for all pages of an address space
 * that has a number (vcpu.space), until the guest invalidates. The pages that such links lead to
 * are kept in a table; at a flush each is compared with the page tables.
 */
#include "cache.h"
#include "vcpu.h"
#include "window.h"

#define PTE_P  1ull
#define PTE_U  4ull
#define PTE_A  0x20ull
#define PTE_G  0x100ull
#define PTE_NX (1ull << 63)

static bool page_crossed(const struct link *l, const struct block *to)
{
    return (l->from->linear ^ to->linear) >> GUEST_PAGE_SHIFT;
}

#define PROBES 8u

/* The entry for a page, else a free one, else one to take over. */
static struct linked_page *page_slot(struct vcpu *v, uint64_t linear, uint32_t space)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    unsigned h = ((page + space * 7919ull) * 0x9e3779b97f4a7c15ull) >> (64 - LINKED_BITS);
    struct linked_page *free = NULL;
    for (unsigned i = 0; i < PROBES; i++) {
        struct linked_page *p = &v->linked[(h + i) % LINKED_PAGES];
        if (p->used && p->space == space && p->linear >> GUEST_PAGE_SHIFT == page) {
            return p;
        }
        if (!p->used && !free) {
            free = p;
        }
    }
    return free ? free : &v->linked[(h + page % PROBES) % LINKED_PAGES];
}

static uint8_t *link_jump(const struct code_cache *c, const struct link *l)
{
    return c->rw + l->from->code + l->patch;
}

static void call_set(struct code_cache *c, const struct link *l, uint8_t opcode, uint8_t *thunk)
{
    uint8_t *at = c->rw + l->from->cold + l->call;
    *at = opcode;
    emit_patch32(at + 1, c->rw + (thunk - c->rx));
}

void link_ask(struct code_cache *c, const struct link *l)
{
    call_set(c, l, 0xe8, c->thunk_link);
}

struct link *link_of_call(struct code_cache *c, uint32_t offset)
{
    struct block *b = block_find_host(c, offset - 1);
    for (unsigned i = 0; b && i < b->links; i++) {
        if (b->cold + b->link[i].call + LINK_CALL == offset) {
            return &b->link[i];
        }
    }
    return NULL;
}

void link_detach(struct code_cache *c, struct link *l)
{
    emit_patch32(link_jump(c, l), c->rw + l->from->cold + l->stub);
    l->to = NULL;
    *l->in_at = l->in_next;
    if (l->in_next) {
        l->in_next->in_at = l->in_at;
    }
    if (l->page_at) {
        *l->page_at = l->page_next;
        if (l->page_next) {
            l->page_next->page_at = l->page_at;
        }
        l->page_at = NULL;
    }
}

/* Takes back what leads into blocks of this page from others. */
static void page_unlink(struct vcpu *v, struct linked_page *p)
{
    while (p->links) {
        link_detach(v->cache, p->links);
    }
    p->used = false;
    v->linked_count--;
    v->linked_local -= p->space != 0;
}

/* Is the page still code at the same place, for the privilege that runs there? */
static bool page_holds(struct vcpu *v, const struct linked_page *p)
{
    struct leaf l;
    uint64_t page;
    bool writable;
    if (!cpu_long_active(v) || !(v->cr0 & CR0_PG) || !mmu_leaf(v, p->linear, &l)) {
        return false;
    }
    unsigned slot = p->linear >> GUEST_PAGE_SHIFT & 511;
    uint64_t e = l.table ? l.table[slot] : l.entry;
    uint64_t gpa =
        l.table ? e & 0x000ffffffffff000ull : l.gpa + ((uint64_t)slot << GUEST_PAGE_SHIFT);
    bool executable = (e & PTE_P) && (e & PTE_A) && !(e & PTE_NX) && !l.nx &&
                      !(l.table && (e & mmu_reserved(v, false)));
    bool user = l.user && (e & PTE_U), global = (e & PTE_G) && (v->cr4 & CR4_PGE);
    bool right = user == p->user && (p->space || global);
    return executable && right && mmu_pool_page(v, gpa, &page, &writable) &&
           page << GUEST_PAGE_SHIFT == p->page;
}

void links_check(struct vcpu *v, uint32_t space)
{
    for (unsigned i = 0; i < LINKED_PAGES && v->linked_count; i++) {
        struct linked_page *p = &v->linked[i];
        if (p->used && p->space == space && !page_holds(v, p)) {
            page_unlink(v, p);
        }
    }
}

void links_flush_page(struct vcpu *v, uint64_t linear)
{
    uint32_t spaces[2] = {0, v->space};
    for (unsigned i = 0; i < (v->space ? 2 : 1); i++) {
        struct linked_page *p = page_slot(v, linear, spaces[i]);
        if (p->used && p->space == spaces[i] &&
            p->linear >> GUEST_PAGE_SHIFT == linear >> GUEST_PAGE_SHIFT && !page_holds(v, p)) {
            page_unlink(v, p);
        }
    }
}

void links_drop_local(struct vcpu *v)
{
    for (unsigned i = 0; i < LINKED_PAGES && v->linked_local; i++) {
        if (v->linked[i].used && v->linked[i].space) {
            page_unlink(v, &v->linked[i]);
        }
    }
}

/* The table's entry for this block's page, made if need be; NULL: no link from another page may
 * lead into the block. */
static struct linked_page *page_note(struct vcpu *v, const struct block *to)
{
    bool user = (v->cache->modes[to->mode].flags & MODE_CPL) == 3;
    uint32_t space = user || !to->global ? v->space : 0;
    if (!space && (user || !to->global)) {
        return NULL;
    }
    struct linked_page *p = page_slot(v, to->linear, space);
    if (p->used && p->space == space && p->user == user && p->page == to->page[0] &&
        p->linear >> GUEST_PAGE_SHIFT == to->linear >> GUEST_PAGE_SHIFT) {
        return p;
    }
    if (p->used) {
        page_unlink(v, p);
    }
    *p = (struct linked_page){to->linear & ~0xfffull, to->page[0], NULL, space, true, user};
    v->linked_count++;
    v->linked_local += space != 0;
    if (!page_holds(v, p)) {
        page_unlink(v, p);
    }
    return p->used ? p : NULL;
}

static void link_enter(struct link *link, struct block *to)
{
    link->to = to;
    link->in_next = to->links_in;
    link->in_at = &to->links_in;
    if (to->links_in) {
        to->links_in->in_at = &link->in_next;
    }
    to->links_in = link;
    link->page_at = NULL;
}

void link_close(struct code_cache *c, struct link *link, const uint8_t *code)
{
    link_enter(link, link->from);
    emit_patch32(link_jump(c, link), code);
}

void link_make(struct vcpu *v, struct link *link, struct block *to)
{
    v->count.links++;
    struct code_cache *c = v->cache;
    if (!link->from->valid || !to->valid || link->to || to->linear != link->target ||
        to->mode != link->from->mode) {
        return;
    }
    struct linked_page *page = NULL;
    bool crossed = page_crossed(link, to);
    if (to->page[1] != ~0ull ||
        (crossed ? !(page = page_note(v, to)) : to->page[0] != link->from->page[0])) {
        call_set(c, link, 0xe9, c->thunk_jump[c->modes[to->mode].slot]); /* the jump table, then */
        return;
    }
    link_enter(link, to);
    if (page) {
        link->page_next = page->links;
        link->page_at = &page->links;
        if (page->links) {
            page->links->page_at = &link->page_next;
        }
        page->links = link;
    }
    emit_patch32(link_jump(c, link), c->rw + to->code);
}
