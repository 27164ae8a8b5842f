/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jump table, in which jumps whose target no link knows find it by its rip; a slot of it for
 * each mode that code is translated for. Built like block.c.
 */
#include "cache.h"
#include "vcpu.h"

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

void jump_clear(struct vcpu *v)
{
    for (unsigned s = 0; s < JUMP_SLOTS; s++) {
        jump_slot_clear(v, s);
        v->jump_owner[s] = 0;
        v->jump_used[s] = 0;
    }
}

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

unsigned mode_intern(struct vcpu *v, uint32_t flags, uint32_t cs_base)
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
        cache_ready(v);
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

void jump_install(struct vcpu *v, unsigned slot, uint64_t rip, void *code, bool global)
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

/* The code for `rip`, or NULL. An empty entry looks like rip ~0. */
void *jump_look(const struct vcpu *v, unsigned slot, uint64_t rip)
{
    const struct jump_entry *entry = &v->jump[slot][jump_index(rip)];
    return entry->tag == ~rip && rip != ~0ull ? entry->code : NULL;
}

/* A block is no more. */
void jump_drop(struct vcpu *v, const struct block *b)
{
    const struct code_cache *c = v->cache;
    const struct mode_key *m = &c->modes[b->mode];
    uint64_t rip = m->flags & MODE_LONG ? b->linear : (uint32_t)(b->linear - m->cs_base);
    struct jump_entry *entry = &v->jump[m->slot][jump_index(rip)];
    if (entry->code == c->rx + b->code) {
        *entry = (struct jump_entry){0, c->thunk_indirect};
    }
}
