/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which guest instruction translated code is at, and what is learned at one whose accesses do not
 * go where its block was made for. Built like block.c.
 */
#include "cache.h"
#include "vcpu.h"
#include "window.h"

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
