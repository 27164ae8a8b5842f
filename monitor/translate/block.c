/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding, making and dropping blocks. Part of it runs under translated code (block_resolve and
 * what it calls when the block exists), so the file is built with -mgeneral-regs-only and goes
 * outside for the rest.
 */
#include <string.h>

#include "cache.h"
#include "vcpu.h"
#include "window.h"

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

void block_drop(struct vcpu *v, struct block *b)
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
    jump_drop(v, b);
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
    cache_ready(v);
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
    bool traced = flags & (MODE_STEP | MODE_TF | MODE_DEBUG);
    void *known = quick && !traced ? jump_look(v, slot, v->rip) : NULL;
    if (known) {
        v->shadow = false;
        v->flags_sys &= ~(uint64_t)FLAG_RF;
        v->resolved = NULL;
        return known;
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
    if (!traced) {
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
