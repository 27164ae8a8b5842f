/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows: parts of the guest's linear address space mirrored in ours, so that the host's MMU does
 * the address translation. See window.c.
 */
#pragma once

#include "cpu.h"

/* Linear addresses are looked at in units of 1 << vcpu.unit_shift bytes; a unit's number is the
 * address shifted right arithmetically. */
static inline int64_t window_unit(const struct vcpu *v, uint64_t linear)
{
    return (int64_t)linear >> v->unit_shift;
}
static inline unsigned window_slot(int64_t unit)
{
    return unit & (WINDOW_UNITS - 1);
}
static inline struct site_hint *hint_slot(struct vcpu *v, uint64_t site)
{
    return &v->hints[site * 0x9e3779b97f4a7c15ull >> 48];
}
/* Can this unit be windowed for code of this privilege (now or later)? */
bool window_possible(const struct vcpu *v, int64_t unit, bool kernel);

struct translate;
/* Reserves address space for all CPUs of an engine; without enough of it there are no windows. */
void windows_new(struct translate *t);
void windows_free(struct vcpu *v); /* the arena stays */

/* A fault of translated code on the host address `host`. True: it was in a window whose page is
 * mapped now; run the instruction again. */
bool window_fault(struct vcpu *v, uint64_t host, bool write);
bool window_contains(const struct vcpu *v, uint64_t host);
/* Makes a window for `unit` if it may have one and has none; false: it cannot. */
bool window_offer(struct vcpu *v, int64_t unit, bool kernel);

/* From the MMU: what the guest's own invalidations mean here. */
void window_load_cr3(struct vcpu *v, bool keep);
void window_flush(struct vcpu *v, bool global);
void window_flush_pcid(struct vcpu *v, unsigned pcid);
void window_flush_page(struct vcpu *v, uint64_t linear, uint64_t size);
/* The map of guest-physical memory, or the CPU's whole state, changed. */
void window_drop_all(struct vcpu *v);
/* No window may write to this pool page from now on. */
void window_protect(struct vcpu *v, uint64_t pool_offset);
/* Called whenever the CPU comes by: decides which address space has windows. */
void window_tick(struct vcpu *v);

/* What the window code needs of the MMU (mmu.c). */
struct leaf {
    const uint64_t *table; /* the page table behind a 2 MiB region; NULL: a large page */
    uint64_t entry;        /* the large page's entry */
    uint64_t gpa;          /* of the region, when large */
    bool user, writable;   /* as far as the levels above allow */
    bool nx;               /* no code, say the levels above */
};
/* Looks without setting any bit; false where there is nothing, or a level lacks its accessed bit.
 */
bool mmu_leaf(struct vcpu *v, uint64_t linear, struct leaf *leaf);
/* Makes an access for its effects on the page tables; false: it would fault. */
bool mmu_touch(struct vcpu *v, uint64_t linear, bool write, bool kernel);
/* The pool page of a guest-physical page; false: not memory. *writable: plain RAM. */
bool mmu_pool_page(struct vcpu *v, uint64_t gpa, uint64_t *page, bool *writable);
uint64_t mmu_reserved(const struct vcpu *v, bool large);
