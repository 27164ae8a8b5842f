/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paging (SDM vol. 3, chapter 4), the two TLB levels, and all memory accesses that are not made by
 * translated code itself. Built with -mgeneral-regs-only: nothing here may touch vector registers
 * or call libc.
 *
 * First level: struct tlb, direct-mapped, probed by translated code, per mmu_index, so a hit needs
 * no permission check. Second level: struct tlb2, shared by all modes, tagged with a generation
 * that stands for the address space (PCID), so that switching back to one finds its entries again.
 */
#include "cache.h"
#include "vcpu.h"
#include "window.h"

#define PTE_P         1ull
#define PTE_W         2ull
#define PTE_U         4ull
#define PTE_A         0x20ull
#define PTE_D         0x40ull
#define PTE_PS        0x80ull
#define PTE_G         0x100ull
#define PTE_NX        (1ull << 63)
#define PTE_ADDR      0x000ffffffffff000ull
#define PHYS_RESERVED (PTE_ADDR & ~((1ull << PHYS_BITS) - 1))

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

void page_cache_flush(struct vcpu *v)
{
    for (unsigned i = 0; i < EXTENTS; i++) {
        v->extent[i].size = 0;
    }
}

static struct extent *extent_find(struct vcpu *v, uint64_t gpa)
{
    for (unsigned i = 0; i < EXTENTS; i++) {
        struct extent *e = &v->extent[i];
        if (gpa - e->start < e->size) {
            return e;
        }
    }
    struct extent *e = &v->extent[v->extent_next++ % EXTENTS];
    uint64_t end;
    fpu_save(v);
    memory_lookup_pages(v->engine->memory, gpa, &e->first, &e->start, &end);
    fpu_load(v);
    e->size = end - e->start;
    return e;
}

static struct page_info page_lookup(struct vcpu *v, uint64_t gpa)
{
    const struct extent *e = extent_find(v, gpa);
    struct page_info p = e->first;
    uint64_t offset = (gpa & ~0xfffull) - e->start;
    p.read = p.read ? p.read + offset : NULL;
    p.write = p.write ? p.write + offset : NULL;
    return p;
}

/* --- page tables --- */

struct walk {
    struct vcpu *v;
    uint64_t linear;
    bool write, user, fetch; /* of the access */
    uint64_t bits;           /* W, U, NX accumulated */
    uint32_t error;
    uint64_t gpa;
    unsigned large; /* log2 of its size when it is a large page */
    bool global, dirty;
};

static bool entry_read(struct vcpu *v, uint64_t gpa, bool wide, uint64_t *value)
{
    struct page_info p = page_lookup(v, gpa);
    if (!p.read) {
        *value = 0;
        return false;
    }
    uint8_t *at = p.read + (gpa & 0xfff);
    *value = wide ? __atomic_load_n((uint64_t *)at, __ATOMIC_RELAXED)
                  : __atomic_load_n((uint32_t *)at, __ATOMIC_RELAXED);
    return true;
}

/* Sets bits in an entry unless it changed meanwhile; false: look again. */
static bool entry_set(struct vcpu *v, uint64_t gpa, bool wide, uint64_t old, uint64_t bits)
{
    struct page_info p = page_lookup(v, gpa);
    if (!p.write || (old & bits) == bits) {
        return true;
    }
    uint8_t *at = p.write + (gpa & 0xfff);
    bool done;
    if (wide) {
        done = __atomic_compare_exchange_n((uint64_t *)at, &old, old | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
        uint32_t o = old;
        done = __atomic_compare_exchange_n((uint32_t *)at, &o, o | (uint32_t)bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    code_written(v, at, wide ? 8 : 4);
    return done;
}

static bool walk_fault(struct walk *w, uint32_t error)
{
    const struct vcpu *v = w->v;
    bool tells = (v->cr4 & CR4_SMEP) || ((v->cr4 & CR4_PAE) && (v->efer & EFER_NXE));
    w->error =
        error | (w->write ? PF_W : 0) | (w->user ? PF_U : 0) | (w->fetch && tells ? PF_I : 0);
    return false;
}

/* Protection (SDM 4.6) once the leaf is known. */
static bool walk_permitted(const struct walk *w, uint64_t bits, bool smap)
{
    const struct vcpu *v = w->v;
    bool user_page = bits & PTE_U, writable = bits & PTE_W;
    if (w->fetch) {
        if (bits & PTE_NX) {
            return false;
        }
        return w->user ? user_page : !(user_page && (v->cr4 & CR4_SMEP));
    }
    if (w->user) {
        return user_page && (!w->write || writable);
    }
    if (user_page && smap) {
        return false;
    }
    return !w->write || writable || !(v->cr0 & CR0_WP);
}

static uint64_t reserved_bits(const struct vcpu *v, unsigned level, bool leaf_large, bool pae)
{
    uint64_t r = PHYS_RESERVED;
    if (!(v->efer & EFER_NXE)) {
        r |= PTE_NX;
    }
    if (!cpu_long_active(v) && pae) {
        r |= 0x7ff0000000000000ull; /* bits 62:52 */
    }
    if (level == 4) {
        r |= PTE_PS;
    }
    if (leaf_large) {
        r |= level == 3 ? 0x3fffe000ull : 0x1fe000ull;
    }
    return r;
}

static bool leaf_finish(struct walk *w, uint64_t at, bool wide, uint64_t pte, bool smap,
                        bool *again)
{
    if (!walk_permitted(w, w->bits, smap)) {
        return walk_fault(w, PF_P);
    }
    uint64_t set = PTE_A | (w->write ? PTE_D : 0);
    if (!entry_set(w->v, at, wide, pte, set)) {
        *again = true;
        return false;
    }
    w->dirty = (pte | set) & PTE_D;
    w->global = (pte & PTE_G) && (w->v->cr4 & CR4_PGE);
    return true;
}

static bool walk_wide(struct walk *w, uint64_t table, unsigned level, bool smap, bool *again)
{
    struct vcpu *v = w->v;
    for (;; level--) {
        unsigned shift = 3 + 9 * level;
        uint64_t at = (table & PTE_ADDR) + ((w->linear >> shift & 511) * 8), pte;
        if (!entry_read(v, at, true, &pte) || !(pte & PTE_P)) {
            return walk_fault(w, 0);
        }
        bool large = (pte & PTE_PS) && (level == 2 || (level == 3 && cpu_long_active(v)));
        if (pte & reserved_bits(v, level, large, true)) {
            return walk_fault(w, PF_P | PF_RSVD);
        }
        w->bits &= pte | ~(PTE_W | PTE_U);
        w->bits |= pte & PTE_NX;
        if (level == 1 || large) {
            uint64_t mask = (1ull << shift) - 1;
            w->large = large ? shift : 0;
            w->gpa = ((pte & PTE_ADDR & ~mask) | (w->linear & mask)) & ~0xfffull;
            return leaf_finish(w, at, true, pte, smap, again);
        }
        if (!entry_set(v, at, true, pte, PTE_A)) {
            *again = true;
            return false;
        }
        table = pte;
    }
}

static bool walk_narrow(struct walk *w, bool smap, bool *again)
{
    struct vcpu *v = w->v;
    uint64_t at = (v->cr3 & 0xfffff000) + (w->linear >> 22 & 1023) * 4, pde, pte;
    if (!entry_read(v, at, false, &pde) || !(pde & PTE_P)) {
        return walk_fault(w, 0);
    }
    w->bits &= pde | ~(PTE_W | PTE_U);
    if ((pde & PTE_PS) && (v->cr4 & CR4_PSE)) {
        if (pde & 1ull << 21) {
            return walk_fault(w, PF_P | PF_RSVD);
        }
        w->large = 22;
        w->gpa = (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32 | (w->linear & 0x3ff000);
        return leaf_finish(w, at, false, pde, smap, again);
    }
    if (!entry_set(v, at, false, pde, PTE_A)) {
        *again = true;
        return false;
    }
    at = (pde & 0xfffff000) + (w->linear >> 12 & 1023) * 4;
    if (!entry_read(v, at, false, &pte) || !(pte & PTE_P)) {
        return walk_fault(w, 0);
    }
    w->bits &= pte | ~(PTE_W | PTE_U);
    w->gpa = pte & 0xfffff000;
    return leaf_finish(w, at, false, pte, smap, again);
}

static bool walk(struct walk *w, bool smap)
{
    struct vcpu *v = w->v;
    for (unsigned tries = 0; tries < 64; tries++) {
        bool again = false, ok;
        w->bits = PTE_W | PTE_U;
        if (cpu_long_active(v)) {
            ok = walk_wide(w, v->cr3, 4, smap, &again);
        } else if (v->cr4 & CR4_PAE) {
            uint64_t pdpte = v->pdpte[w->linear >> 30 & 3];
            ok = pdpte & PTE_P ? walk_wide(w, pdpte, 2, smap, &again) : walk_fault(w, 0);
        } else {
            ok = walk_narrow(w, smap, &again);
        }
        if (!again) {
            return ok;
        }
    }
    return walk_fault(w, 0);
}

uint64_t mmu_reserved(const struct vcpu *v, bool large)
{
    return reserved_bits(v, large ? 2 : 1, large, true);
}

bool mmu_leaf(struct vcpu *v, uint64_t linear, struct leaf *leaf)
{
    uint64_t table = v->cr3, bits = PTE_W | PTE_U, nx = 0;
    for (unsigned level = 4; level > 1; level--) {
        unsigned shift = 3 + 9 * level;
        uint64_t e;
        if (!entry_read(v, (table & PTE_ADDR) + (linear >> shift & 511) * 8, true, &e) ||
            !(e & PTE_P) || !(e & PTE_A)) {
            return false;
        }
        bool large = (e & PTE_PS) && level < 4;
        if (e & reserved_bits(v, level, large, true)) {
            return false;
        }
        nx |= e & PTE_NX;
        bits &= e;
        if (large) {
            uint64_t mask = (1ull << shift) - 1;
            uint64_t gpa = (e & PTE_ADDR & ~mask) | (linear & mask & ~0x1fffffull);
            *leaf = (struct leaf){NULL, e, gpa, bits & PTE_U, bits & PTE_W, nx != 0};
            return true;
        }
        table = e;
    }
    struct page_info p = page_lookup(v, table & PTE_ADDR);
    *leaf = (struct leaf){(const uint64_t *)p.read, 0, 0, bits & PTE_U, bits & PTE_W, nx != 0};
    return p.read != NULL;
}

bool mmu_pool_page(struct vcpu *v, uint64_t gpa, uint64_t *page, bool *writable)
{
    struct page_info p = page_lookup(v, gpa);
    if (!p.read) {
        return false;
    }
    *page = (p.read - v->engine->pool) >> GUEST_PAGE_SHIFT;
    *writable = p.write == p.read && !p.log_dirty;
    return true;
}

bool pdptes_load(struct vcpu *v, uint64_t cr3)
{
    uint64_t p[4];
    for (unsigned i = 0; i < 4; i++) {
        if (!entry_read(v, (cr3 & 0xffffffe0) + i * 8, true, &p[i])) {
            p[i] = 0;
        }
        if ((p[i] & PTE_P) && (p[i] & (PHYS_RESERVED | 0xfff0000000000000ull | 0x1e6))) {
            return false;
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        v->pdpte[i] = p[i];
    }
    return true;
}

/* --- second level --- */

static struct tlb2 *tlb2_slot(struct vcpu *v, uint64_t page)
{
    return &v->tlb2[page % TLB2_SIZE];
}

/* Bit numbers are hashed: user addresses must not fall on the kernel's large pages. */
static unsigned large_index(bool giga, uint64_t linear)
{
    return (linear >> (giga ? 30 : 22)) * 0x9e3779b97f4a7c15ull >> 52;
}

static uint64_t *large_word(struct vcpu *v, bool giga, uint64_t linear)
{
    return &v->large_map[giga][large_index(giga, linear) / 64];
}

static uint64_t large_bit(bool giga, uint64_t linear)
{
    return 1ull << large_index(giga, linear) % 64;
}

static void tlb2_from_walk(struct vcpu *v, struct tlb2 *t, uint64_t page, const struct walk *w)
{
    struct page_info p = page_lookup(v, w->gpa);
    t->page = page;
    t->gen = w->global ? v->gen_global : v->gen;
    t->gpa = w->gpa;
    t->read = p.read;
    t->write = p.write;
    t->bits = (w->bits & PTE_U ? TLB2_USER : 0) | (w->bits & PTE_W ? TLB2_WRITE : 0) |
              (w->bits & PTE_NX ? TLB2_NX : 0) | (w->dirty ? TLB2_DIRTY : 0) |
              (w->global ? TLB2_GLOBAL : 0) | (w->large ? TLB2_LARGE : 0) |
              (p.log_dirty ? TLB2_LOG : 0);
    if (w->large) {
        *large_word(v, w->large == 30, page << GUEST_PAGE_SHIFT) |=
            large_bit(w->large == 30, page << GUEST_PAGE_SHIFT);
    }
    v->count.walks++;
}

static bool tlb2_permits(const struct vcpu *v, const struct tlb2 *t, enum access access,
                         enum mmu_index index)
{
    bool user = index == MMU_USER, user_page = t->bits & TLB2_USER;
    if (access == ACCESS_EXEC) {
        return !(t->bits & TLB2_NX) && (user ? user_page : !(user_page && (v->cr4 & CR4_SMEP)));
    }
    if (user ? !user_page : user_page && index == MMU_KERNEL_SMAP) {
        return false;
    }
    if (access == ACCESS_READ) {
        return true;
    }
    return (t->bits & TLB2_DIRTY) && ((t->bits & TLB2_WRITE) || (!user && !(v->cr0 & CR0_WP)));
}

static bool tlb2_valid(const struct vcpu *v, const struct tlb2 *t, uint64_t page)
{
    return t->page == page && t->gen == (t->bits & TLB2_GLOBAL ? v->gen_global : v->gen);
}

/* NULL with *error: a page fault. */
static struct tlb2 *tlb2_find(struct vcpu *v, uint64_t linear, enum access access,
                              enum mmu_index index, uint32_t *error)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    struct tlb2 *t = tlb2_slot(v, page);
    if (tlb2_valid(v, t, page) && tlb2_permits(v, t, access, index)) {
        return t;
    }
    struct walk w = {.v = v,
                     .linear = linear,
                     .write = access == ACCESS_WRITE,
                     .user = index == MMU_USER,
                     .fetch = access == ACCESS_EXEC};
    if (!(v->cr0 & CR0_PG)) {
        w.gpa = linear & 0xfffff000;
        w.bits = PTE_W | PTE_U;
        w.dirty = true;
    } else if (!walk(&w, index == MMU_KERNEL_SMAP)) {
        *error = w.error;
        return NULL;
    }
    tlb2_from_walk(v, t, page, &w);
    return t;
}

static struct tlb2 *tlb2_get(struct vcpu *v, uint64_t linear, enum access access,
                             enum mmu_index index)
{
    uint32_t error;
    struct tlb2 *t = tlb2_find(v, linear, access, index, &error);
    if (!t) {
        raise_page_fault(v, linear, error);
    }
    return t;
}

bool mmu_touch(struct vcpu *v, uint64_t linear, bool write, bool kernel)
{
    uint32_t error;
    return tlb2_find(v, linear, write ? ACCESS_WRITE : ACCESS_READ,
                     kernel ? cpu_mmu_index(v) : MMU_USER, &error) != NULL;
}

/* --- first level --- */

static bool code_page(const struct vcpu *v, const uint8_t *host)
{
    return v->engine->code_map[(host - v->engine->pool) >> GUEST_PAGE_SHIFT];
}

static void mark_dirty(const struct vcpu *v, const uint8_t *host)
{
    v->engine->dirty_map[(host - v->engine->pool) >> GUEST_PAGE_SHIFT] = 1;
}

static void tlb_install(struct vcpu *v, uint64_t linear, const struct tlb2 *t, enum mmu_index index)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    unsigned i = page & v->tlb_mask;
    struct tlb *l1 = &v->tlb[index];
    v->tlb_used[index] = true;
    l1->read[i] = t->read ? -page : TLB_EMPTY;
    l1->write[i] = TLB_EMPTY;
    uint8_t *host = t->read;
    if (t->write && (!t->read || t->read == t->write) && tlb2_permits(v, t, ACCESS_WRITE, index) &&
        !code_page(v, t->write) &&
        (!(t->bits & TLB2_LOG) ||
         v->engine->dirty_map[(t->write - v->engine->pool) >> GUEST_PAGE_SHIFT])) {
        l1->write[i] = -page;
        host = t->write;
    }
    l1->addend[i] = (uint64_t)host - (page << GUEST_PAGE_SHIFT);
}

static void tlb1_clear(struct vcpu *v)
{
    for (unsigned m = 0; m < MMU_INDEXES; m++) {
        if (!v->tlb_used[m]) {
            continue;
        }
        v->tlb_used[m] = false;
        uint64_t *p = v->tlb[m].read; /* read[] and write[] are adjacent */
        uint64_t n = 2 * TLB_SIZE;
        __asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(TLB_EMPTY) : "memory");
    }
}

static uint32_t generation_next(struct vcpu *v)
{
    if (++v->gen_next == 0) { /* 4 billion address-space switches: start over */
        for (unsigned i = 0; i < TLB2_SIZE; i++) {
            v->tlb2[i].page = ~0ull;
        }
        for (unsigned i = 0; i < 4096; i++) {
            v->pcid_gen[i] = 0;
        }
        v->gen_global = 1;
        v->gen_next = 2;
    }
    return v->gen_next;
}

static void pcid_remember(struct vcpu *v)
{
    v->pcid_gen[v->cr4 & CR4_PCIDE ? v->cr3 & 0xfff : 0] = v->gen;
}

void tlb_flush_nonglobal(struct vcpu *v)
{
    v->count.flush_space++;
    v->gen = generation_next(v);
    pcid_remember(v);
    tlb1_clear(v);
    jump_flush(v, false);
    links_check(v, v->space);
    window_flush(v, false);
}

static void tlb_forget(struct vcpu *v)
{
    v->count.flush_all++;
    v->gen_global = generation_next(v);
    for (unsigned i = 0; i < 4096; i++) {
        v->pcid_gen[i] = 0;
    }
    v->gen = generation_next(v);
    pcid_remember(v);
    for (unsigned i = 0; i < 64; i++) {
        v->large_map[0][i] = v->large_map[1][i] = 0;
    }
    tlb1_clear(v);
    jump_flush(v, true);
    links_check(v, 0);
    if (v->space) {
        links_check(v, v->space);
    }
}

void tlb_flush_all(struct vcpu *v)
{
    tlb_forget(v);
    window_flush(v, true);
}

/* Another CR3 value is in force. `keep`: entries of its PCID stay valid (bit 63 of the value
 * loaded). */
void tlb_load_cr3(struct vcpu *v, uint64_t cr3, bool keep)
{
    v->count.cr3_loads++;
    unsigned pcid = v->cr4 & CR4_PCIDE ? cr3 & 0xfff : 0;
    if (!keep || !v->pcid_gen[pcid]) {
        v->pcid_gen[pcid] = generation_next(v);
    }
    v->gen = v->pcid_gen[pcid];
    tlb1_clear(v);
    jump_flush(v, false);
    window_load_cr3(v, keep);
}

void tlb_pcid_flush(struct vcpu *v, unsigned pcid)
{
    v->pcid_gen[pcid & 4095] = 0;
    window_flush_pcid(v, pcid & 4095);
}

void tlb_flush_page(struct vcpu *v, uint64_t linear)
{
    v->count.flush_page++;
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    bool giga = *large_word(v, true, linear) & large_bit(true, linear);
    if (giga || (*large_word(v, false, linear) & large_bit(false, linear))) {
        tlb_forget(v);
        window_flush_page(v, linear, giga ? 1 << 30 : 1 << 22);
        return;
    }
    tlb2_slot(v, page)->page = ~0ull;
    for (unsigned m = 0; m < MMU_INDEXES; m++) {
        unsigned i = page & v->tlb_mask;
        if (v->tlb[m].read[i] == -page || v->tlb[m].write[i] == -page) {
            v->tlb[m].read[i] = v->tlb[m].write[i] = TLB_EMPTY;
        }
    }
    jump_flush_page(v, linear);
    links_flush_page(v, linear);
    window_flush_page(v, linear, GUEST_PAGE_SIZE);
}

/* Forgets first-level write entries that point into a pool range. */
void tlb_drop_writes(struct vcpu *v, uint64_t pool_offset, uint64_t len, bool dirty)
{
    for (unsigned m = 0; m < MMU_INDEXES; m++) {
        struct tlb *l1 = &v->tlb[m];
        for (unsigned i = 0; i <= v->tlb_mask && v->tlb_used[m]; i++) {
            if (l1->write[i] == TLB_EMPTY) {
                continue;
            }
            uint64_t host = l1->addend[i] + (-l1->write[i] << GUEST_PAGE_SHIFT);
            uint64_t offset = host - (uint64_t)v->engine->pool;
            if (offset - pool_offset < len || (pool_offset & ~0xfffull) == offset) {
                l1->write[i] = TLB_EMPTY;
                if (dirty) {
                    mark_dirty(v, (uint8_t *)host);
                }
            }
        }
    }
}

/* --- accesses --- */

static bool canonical(uint64_t linear)
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static void check_canonical(struct vcpu *v, uint64_t linear, bool stack)
{
    if (cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L) && !canonical(linear)) {
        raise_exception(v, stack ? EXC_SS : EXC_GP, 0);
    }
}

static void copy_bytes(void *to, const void *from, uint64_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static uint64_t host_read(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;
    switch (size) {
    case 1:
        return *at;
    case 2:
        __builtin_memcpy(&value, at, 2);
        break;
    case 4:
        __builtin_memcpy(&value, at, 4);
        break;
    case 8:
        __builtin_memcpy(&value, at, 8);
        break;
    default:
        copy_bytes(&value, at, size);
    }
    return value;
}

static uint64_t io_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    outside_begin(v);
    uint64_t value = v->engine->bus->mmio_read(v->engine->bus->opaque, v->index, gpa, size);
    outside_end(v);
    return value;
}

static void io_write(struct vcpu *v, uint64_t gpa, uint64_t value, unsigned size)
{
    outside_begin(v);
    v->engine->bus->mmio_write(v->engine->bus->opaque, v->index, gpa, value, size);
    outside_end(v);
}

/* Any size within one page, by second-level entry. */
static void entry_load(struct vcpu *v, const struct tlb2 *t, unsigned offset, void *buf,
                       unsigned size)
{
    uint8_t *to = buf;
    if (t->read) {
        if (size <= 8) {
            uint64_t value = host_read(t->read + offset, size);
            copy_bytes(to, &value, size);
        } else {
            copy_bytes(to, t->read + offset, size);
        }
        return;
    }
    uint64_t gpa = t->gpa + offset;
    while (size) {
        unsigned n = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        uint64_t value = io_read(v, gpa, n);
        copy_bytes(to, &value, n);
        to += n;
        gpa += n;
        size -= n;
    }
}

static void host_write(uint8_t *at, const void *buf, unsigned size)
{
    switch (size) {
    case 1:
        *at = *(const uint8_t *)buf;
        break;
    case 2:
        __builtin_memcpy(at, buf, 2);
        break;
    case 4:
        __builtin_memcpy(at, buf, 4);
        break;
    case 8:
        __builtin_memcpy(at, buf, 8);
        break;
    default:
        copy_bytes(at, buf, size);
    }
}

static void host_store(struct vcpu *v, uint32_t bits, uint8_t *at, const void *buf, unsigned size)
{
    host_write(at, buf, size);
    if (bits & TLB2_LOG) {
        mark_dirty(v, at);
    }
    if (code_page(v, at)) {
        code_written(v, at, size);
    }
}

static void gpa_store(struct vcpu *v, uint8_t *host, uint32_t bits, uint64_t gpa, const void *buf,
                      unsigned size)
{
    const uint8_t *from = buf;
    if (host) {
        host_store(v, bits, host, buf, size);
        return;
    }
    while (size) {
        unsigned n = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
        io_write(v, gpa, host_read(from, n), n);
        from += n;
        gpa += n;
        size -= n;
    }
}

static void entry_store(struct vcpu *v, const struct tlb2 *t, unsigned offset, const void *buf,
                        unsigned size)
{
    gpa_store(v, t->write ? t->write + offset : NULL, t->bits, t->gpa + offset, buf, size);
}

static uint64_t linear_wrap(const struct vcpu *v, uint64_t linear)
{
    return cpu_long_active(v) ? linear : (uint32_t)linear;
}

uint64_t mem_load(struct vcpu *v, uint64_t linear, unsigned size, enum mmu_index index)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT, value = 0;
    unsigned i = page & v->tlb_mask;
    if (v->tlb[index].read[i] == -page && (linear & 0xfff) + size <= GUEST_PAGE_SIZE) {
        return host_read((uint8_t *)(v->tlb[index].addend[i] + linear), size);
    }
    mem_load_bytes(v, linear, &value, size, index);
    return value;
}

void mem_load_bytes(struct vcpu *v, uint64_t linear, void *buf, unsigned size, enum mmu_index index)
{
    uint8_t *to = buf;
    while (size) {
        linear = linear_wrap(v, linear);
        unsigned n = GUEST_PAGE_SIZE - (linear & 0xfff);
        n = n < size ? n : size;
        check_canonical(v, linear, false);
        struct tlb2 *t = tlb2_get(v, linear, ACCESS_READ, index);
        entry_load(v, t, linear & 0xfff, to, n);
        tlb_install(v, linear, t, index);
        to += n;
        linear += n;
        size -= n;
    }
}

void mem_check_write(struct vcpu *v, uint64_t linear, unsigned size, enum mmu_index index)
{
    check_canonical(v, linear, false);
    tlb2_get(v, linear_wrap(v, linear), ACCESS_WRITE, index);
    if ((linear & 0xfff) + size > GUEST_PAGE_SIZE) {
        uint64_t second = linear_wrap(v, (linear + size - 1) & ~0xfffull);
        check_canonical(v, second, false);
        tlb2_get(v, second, ACCESS_WRITE, index);
    }
}

void mem_store_bytes(struct vcpu *v, uint64_t linear, const void *buf, unsigned size,
                     enum mmu_index index)
{
    const uint8_t *from = buf;
    mem_check_write(v, linear, size, index);
    while (size) {
        linear = linear_wrap(v, linear);
        unsigned n = GUEST_PAGE_SIZE - (linear & 0xfff);
        n = n < size ? n : size;
        struct tlb2 *t = tlb2_get(v, linear, ACCESS_WRITE, index);
        entry_store(v, t, linear & 0xfff, from, n);
        tlb_install(v, linear, t, index);
        from += n;
        linear += n;
        size -= n;
    }
}

void mem_store(struct vcpu *v, uint64_t linear, uint64_t value, unsigned size, enum mmu_index index)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    unsigned i = page & v->tlb_mask;
    if (v->tlb[index].write[i] == -page && (linear & 0xfff) + size <= GUEST_PAGE_SIZE) {
        host_write((uint8_t *)(v->tlb[index].addend[i] + linear), &value, size);
        return;
    }
    mem_store_bytes(v, linear, &value, size, index);
}

uint8_t *mem_direct(struct vcpu *v, uint64_t linear, enum access access, enum mmu_index index)
{
    uint64_t page = linear >> GUEST_PAGE_SHIFT;
    unsigned i = page & v->tlb_mask;
    uint64_t *tags = access == ACCESS_WRITE ? v->tlb[index].write : v->tlb[index].read;
    if (tags[i] != -page) {
        check_canonical(v, linear, false);
        struct tlb2 *t = tlb2_get(v, linear, access, index);
        if (access == ACCESS_WRITE && (t->bits & TLB2_LOG) && t->write) {
            mark_dirty(v, t->write); /* the caller is about to write */
        }
        tlb_install(v, linear, t, index);
        if (tags[i] != -page) {
            return NULL;
        }
    }
    return (uint8_t *)(v->tlb[index].addend[i] + linear);
}

uint8_t *mem_fetch(struct vcpu *v, uint64_t linear, uint64_t *gpa, bool *global)
{
    struct tlb2 *t = tlb2_get(v, linear, ACCESS_EXEC, v->cpl == 3 ? MMU_USER : MMU_KERNEL);
    *gpa = t->gpa | (linear & 0xfff);
    *global = t->bits & TLB2_GLOBAL;
    return t->read ? t->read + (linear & 0xfff) : NULL;
}

/* --- translated code's slow path --- */

static void check_alignment(struct vcpu *v, uint64_t linear, uint32_t info)
{
    unsigned size = info & INFO_SIZE;
    if ((info & INFO_ALIGN) && v->cpl == 3 && (size == 2 || size == 4 || size == 8) &&
        (linear & (size - 1))) {
        raise_exception(v, EXC_AC, 0);
    }
}

/* A buffer with the access's alignment that stands in for memory; loaded if the instruction reads.
 */
static uint64_t bounce(struct vcpu *v, uint64_t linear, uint32_t info, struct tlb2 *first,
                       struct tlb2 *second)
{
    unsigned size = info & INFO_SIZE, offset = linear & 0xfff;
    unsigned head = GUEST_PAGE_SIZE - offset < size ? GUEST_PAGE_SIZE - offset : size;
    uint8_t *buf = v->bounce + (linear & 63);
    struct tlb2 t[2] = {*first, second ? *second : *first};
    if (info & INFO_READ) {
        entry_load(v, &t[0], offset, buf, head);
        if (size > head) {
            entry_load(v, &t[1], 0, buf + head, size - head);
        }
    }
    if (info & INFO_WRITE) {
        v->finish = 1;
        v->finish_kind = 1;
        v->finish_linear = linear;
        v->finish_size = size;
        v->finish_bits = t[0].bits | t[1].bits;
        for (unsigned i = 0; i < 2; i++) {
            v->finish_ptr[i] = t[i].write;
            v->finish_pages[i] = t[i].gpa;
        }
    }
    return (uint64_t)buf - linear;
}

uint64_t helper_mem_slow(struct vcpu *v, uint64_t linear, uint64_t info)
{
    unsigned size = info & INFO_SIZE;
    v->count.slow++;
    enum mmu_index index = v->cpl == 3 ? MMU_USER : cpu_mmu_index(v);
    enum access access = info & INFO_WRITE ? ACCESS_WRITE : ACCESS_READ;
    if ((info & INFO_VECTOR) && (linear & (size - 1))) { /* even where it would be #SS */
        raise_exception(v, EXC_GP, 0);
    }
    check_canonical(v, linear, info & INFO_STACK);
    check_canonical(v, linear + size - 1, info & INFO_STACK);
    check_alignment(v, linear, info);
    if (v->dr7 & 0xff) {
        debug_data_access(v, linear, info & INFO_SIZE, info & INFO_WRITE);
    }
    struct tlb2 *t = tlb2_get(v, linear, access, index);
    if ((linear & 0xfff) + size > GUEST_PAGE_SIZE) {
        uint64_t next = linear_wrap(v, (linear & ~0xfffull) + GUEST_PAGE_SIZE);
        check_canonical(v, next, info & INFO_STACK);
        struct tlb2 first = *t; /* the second lookup may take its slot */
        struct tlb2 *second = tlb2_get(v, next, access, index);
        return bounce(v, linear, info, &first, second);
    }
    uint8_t *host = access == ACCESS_WRITE ? t->write : t->read;
    if (!host || ((info & INFO_WRITE) && (info & INFO_READ) && t->read != t->write)) {
        return bounce(v, linear, info, t, NULL);
    }
    if (access == ACCESS_WRITE) {
        if (t->bits & TLB2_LOG) {
            mark_dirty(v, host);
        }
        if (code_page(v, host)) {
            v->finish = 1;
            v->finish_kind = 2;
            v->finish_host = host + (linear & 0xfff);
            v->finish_size = size;
        }
    }
    tlb_install(v, linear, t, index);
    return (uint64_t)host - (linear & ~0xfffull);
}

void helper_mem_finish(struct vcpu *v)
{
    v->finish = 0;
    if (v->finish_kind == 2) {
        code_written(v, v->finish_host, v->finish_size);
        return;
    }
    unsigned offset = v->finish_linear & 0xfff, size = v->finish_size;
    unsigned head = GUEST_PAGE_SIZE - offset < size ? GUEST_PAGE_SIZE - offset : size;
    const uint8_t *buf = v->bounce + (v->finish_linear & 63);
    uint8_t
        copy[BOUNCE_SIZE]; /* device code below may come back here through DMA: work on a copy */
    copy_bytes(copy, buf, size);
    uint8_t *ptr[2] = {v->finish_ptr[0], v->finish_ptr[1]};
    uint64_t gpa[2] = {v->finish_pages[0], v->finish_pages[1]};
    gpa_store(v, ptr[0] ? ptr[0] + offset : NULL, v->finish_bits, gpa[0] + offset, copy, head);
    if (size > head) {
        gpa_store(v, ptr[1], v->finish_bits, gpa[1], copy + head, size - head);
    }
}

/* The fast limit check said no: decide exactly (SDM vol. 3, 5.3 and 5.5). */
uint64_t helper_segment_slow(struct vcpu *v, uint64_t offset, uint64_t info)
{
    unsigned seg = info >> INFO_SEG_SHIFT & 7, size = info & INFO_SIZE;
    const struct segment *s = &v->seg[seg];
    unsigned vector = seg == CPU_SS ? EXC_SS : EXC_GP;
    bool protected_mode = !cpu_real_or_v86(v);
    bool code = s->attr & SEG_CODE;
    uint64_t last = offset + size - 1;
    if (protected_mode) {
        if (!(s->attr & SEG_P)) {
            raise_exception(v, EXC_GP, 0);
        }
        if ((info & INFO_WRITE) && (code || !(s->attr & SEG_RW))) {
            raise_exception(v, vector, 0);
        }
        if ((info & INFO_READ) && code && !(s->attr & SEG_RW)) {
            raise_exception(v, vector, 0);
        }
    }
    if (!code && (s->attr & SEG_EXPAND_DOWN)) {
        uint64_t top = s->attr & SEG_DB ? 0xffffffffull : 0xffffull;
        if (offset <= s->limit || last > top) {
            raise_exception(v, vector, 0);
        }
    } else if (last > s->limit && !(s->limit == 0xffffffff)) {
        raise_exception(v, vector, 0);
    }
    return 0;
}
