/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String instructions, with and without REP. Long runs go page by page on host addresses; one call
 * does at most CHUNK elements, then the instruction restarts, so that interrupts get their turn.
 * Built with -mgeneral-regs-only.
 */
#include "helpers.h"

#define CHUNK 65536u

struct string {
    unsigned op, size, width, seg, rep;
    uint64_t mask;
    int64_t step;
    enum mmu_index index;
    bool long_code;
};

static void reg_set(struct vcpu *v, const struct string *s, unsigned reg, uint64_t value)
{
    if (s->width == 8) {
        v->gpr[reg] = value;
    } else if (s->width == 4) {
        v->gpr[reg] = (uint32_t)value;
    } else {
        v->gpr[reg] = (v->gpr[reg] & ~0xffffull) | (value & 0xffff);
    }
}

static uint64_t address(struct vcpu *v, const struct string *s, unsigned seg, unsigned reg,
                        bool write)
{
    uint64_t offset = v->gpr[reg] & s->mask;
    const struct segment *g = &v->seg[seg];
    if (s->long_code) {
        return seg >= CPU_FS ? offset + g->base : offset;
    }
    int64_t limit = write ? g->limit_write : g->limit_read;
    if ((int64_t)(offset + s->size - 1) > limit) {
        helper_segment_slow(v, offset,
                            s->size | (write ? INFO_WRITE : INFO_READ) | seg << INFO_SEG_SHIFT);
    }
    return (uint32_t)(offset + g->base);
}

/* AC alone is what kernels set around accesses to user memory (SMAP). */
static bool alignment_checked(const struct vcpu *v)
{
    return v->cpl == 3 && (v->cr0 & CR0_AM) && (v->flags_sys & FLAG_AC);
}

/* The address of one element, with what alignment checks and breakpoints have to say. */
static uint64_t place(struct vcpu *v, const struct string *s, unsigned seg, unsigned reg,
                      bool write)
{
    uint64_t linear = address(v, s, seg, reg, write);
    if (alignment_checked(v) && (linear & (s->size - 1))) {
        raise_exception(v, EXC_AC, 0);
    }
    if (v->dr7 & 0xff) {
        debug_data_access(v, linear, s->size, write);
    }
    return linear;
}

static void advance(struct vcpu *v, const struct string *s, unsigned reg, int64_t n)
{
    reg_set(v, s, reg, v->gpr[reg] + s->step * n);
}

static void compare_flags(struct vcpu *v, uint64_t a, uint64_t b, unsigned size)
{
    uint64_t flags;
    unsigned shift = 64 - size * 8;
    a <<= shift;
    b <<= shift;
    __asm__("cmp %2, %1; pushfq; pop %0" : "=r"(flags) : "r"(a), "r"(b) : "cc");
    uint64_t result = (a - b) >> shift;
    uint8_t low = result;
    flags &= ~(uint64_t)(FLAG_PF | FLAG_AF);
    flags |= __builtin_parity(low) ? 0 : FLAG_PF;
    flags |= ((a >> shift) ^ (b >> shift) ^ result) & FLAG_AF;
    v->flags_ax = (flags & 0xd5) << 8 | (flags >> 11 & 1);
}

/* One element. False: a REPE/REPNE comparison ended the run. */
static bool element(struct vcpu *v, const struct string *s)
{
    uint64_t a, b;
    switch (s->op) {
    case STR_MOVS:
        a = mem_load(v, place(v, s, s->seg, CPU_RSI, false), s->size, s->index);
        mem_store(v, place(v, s, CPU_ES, CPU_RDI, true), a, s->size, s->index);
        advance(v, s, CPU_RSI, 1);
        advance(v, s, CPU_RDI, 1);
        return true;
    case STR_STOS:
        mem_store(v, place(v, s, CPU_ES, CPU_RDI, true), v->gpr[0], s->size, s->index);
        advance(v, s, CPU_RDI, 1);
        return true;
    case STR_LODS:
        a = mem_load(v, place(v, s, s->seg, CPU_RSI, false), s->size, s->index);
        v->gpr[0] = s->size >= 4 ? a : (v->gpr[0] & ~mask_size(s->size)) | a;
        advance(v, s, CPU_RSI, 1);
        return true;
    case STR_SCAS:
        a = v->gpr[0] & mask_size(s->size);
        b = mem_load(v, place(v, s, CPU_ES, CPU_RDI, false), s->size, s->index);
        advance(v, s, CPU_RDI, 1);
        break;
    case STR_CMPS:
        a = mem_load(v, place(v, s, s->seg, CPU_RSI, false), s->size, s->index);
        b = mem_load(v, place(v, s, CPU_ES, CPU_RDI, false), s->size, s->index);
        advance(v, s, CPU_RSI, 1);
        advance(v, s, CPU_RDI, 1);
        break;
    case STR_INS:
        mem_check_write(v, place(v, s, CPU_ES, CPU_RDI, true), s->size, s->index);
        debug_port_access(v, v->gpr[CPU_RDX], s->size);
        a = io_in(v, v->gpr[CPU_RDX], s->size);
        mem_store(v, address(v, s, CPU_ES, CPU_RDI, true), a, s->size, s->index);
        advance(v, s, CPU_RDI, 1);
        return true;
    default:
        a = mem_load(v, place(v, s, s->seg, CPU_RSI, false), s->size, s->index);
        debug_port_access(v, v->gpr[CPU_RDX], s->size);
        io_out(v, v->gpr[CPU_RDX], a, s->size);
        advance(v, s, CPU_RSI, 1);
        return true;
    }
    compare_flags(v, a, b, s->size);
    return s->rep == REP_NONE || (a == b) == (s->rep == REP_E);
}

/* How many elements, going on in the run's direction, lie in the page as a whole. */
static uint64_t page_left(const struct string *s, uint64_t linear)
{
    uint64_t in_page = linear & (GUEST_PAGE_SIZE - 1), left = GUEST_PAGE_SIZE - in_page;
    if (s->step > 0) {
        return left / s->size;
    }
    return left < s->size ? 0 : in_page / s->size + 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* All n elements; there is at least one. */
static bool in_limits(struct vcpu *v, const struct string *s, unsigned seg, unsigned reg,
                      uint64_t n, bool write)
{
    uint64_t offset = v->gpr[reg] & s->mask, more = (n - 1) * s->size;
    uint64_t last = offset + s->size - 1 + (s->step > 0 ? more : 0);
    if (s->long_code) {
        return true;
    }
    int64_t limit = write ? v->seg[seg].limit_write : v->seg[seg].limit_read;
    return last <= s->mask && (int64_t)last <= limit && (s->step > 0 || more <= offset);
}

static void copy_up(uint8_t *to, const uint8_t *from, uint64_t n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 2:
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    case 4:
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        break;
    default:
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    }
}

/* From the last element down; `to` and `from` are the lowest. Where they overlap, in pieces that do
 * not. False: one by one. */
static bool copy_down(uint8_t *to, const uint8_t *from, uint64_t n, unsigned size)
{
    uint64_t piece = to > from ? least(n, (uint64_t)(to - from) / size) : n;
    if (piece == 0 || (to <= from && (uint64_t)(from - to) < n * size)) {
        return false;
    }
    while (n) {
        uint64_t now = least(n, piece);
        n -= now;
        copy_up(to + n * size, from + n * size, now, size);
    }
    return true;
}

static void fill_up(uint8_t *to, uint64_t value, uint64_t n, unsigned size)
{
    switch (size) {
    case 1:
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 2:
        __asm__ volatile("rep stosw" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    case 4:
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        break;
    default:
        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    }
}

/* As many elements as one page each allows, at once. 0: do one element the slow way. */
static uint64_t run_fast(struct vcpu *v, const struct string *s, uint64_t count)
{
    if ((s->op != STR_MOVS && s->op != STR_STOS) || (v->dr7 & 0xff) || (v->flags_sys & FLAG_TF) ||
        alignment_checked(v)) {
        return 0;
    }
    uint64_t to = address(v, s, CPU_ES, CPU_RDI, true), from = 0;
    uint64_t n = least(count, page_left(s, to));
    if (s->op == STR_MOVS) {
        from = address(v, s, s->seg, CPU_RSI, false);
        n = least(n, page_left(s, from));
    }
    if (n == 0 || !in_limits(v, s, CPU_ES, CPU_RDI, n, true) ||
        (s->op == STR_MOVS && !in_limits(v, s, s->seg, CPU_RSI, n, false))) {
        return 0;
    }
    const uint8_t *src = NULL;
    if (s->op == STR_MOVS) {
        src = mem_direct(v, from, ACCESS_READ, s->index);
        if (!src) {
            return 0;
        }
    }
    uint8_t *dst = mem_direct(v, to, ACCESS_WRITE, s->index);
    if (!dst) {
        return 0;
    }
    uint64_t below = s->step > 0 ? 0 : (n - 1) * s->size;
    if (s->op == STR_STOS) {
        fill_up(dst - below, v->gpr[0], n, s->size);
    } else {
        if (s->step > 0) {
            copy_up(dst, src, n, s->size);
        } else if (!copy_down(dst - below, src - below, n, s->size)) {
            return 0;
        }
        advance(v, s, CPU_RSI, n);
    }
    advance(v, s, CPU_RDI, n);
    return n;
}

/* RF: an instruction breakpoint here was for the beginning of the run. */
static void restart(struct vcpu *v)
{
    cpu_sync_rip(v);
    v->flags_sys |= FLAG_RF;
    if (!v->run) {
        cpu_leave(v);
    }
    cpu_resume(v);
}

void helper_string(struct vcpu *v, uint64_t packed, uint64_t next_rip)
{
    struct string s = {.op = packed & 15,
                       .size = packed >> 4 & 15,
                       .width = packed >> 8 & 15,
                       .seg = packed >> 12 & 15,
                       .rep = packed >> 16 & 3};
    s.mask = mask_size(s.width);
    s.step = v->flag_df ? -(int64_t)s.size : (int64_t)s.size;
    s.index = cpu_mmu_index(v);
    s.long_code = cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L);
    if (s.op == STR_INS || s.op == STR_OUTS) {
        io_check(v, v->gpr[CPU_RDX], s.size);
    }
    if (s.rep == REP_NONE) {
        element(v, &s);
        return;
    }
    uint64_t done = 0, count = v->gpr[CPU_RCX] & s.mask;
    while (count && done < CHUNK) {
        uint64_t n = run_fast(v, &s, least(count, CHUNK - done));
        bool more = true;
        if (!n) {
            more = element(v, &s);
            n = 1;
        }
        count -= n;
        done += n;
        reg_set(v, &s, CPU_RCX, count);
        if (!more) {
            return;
        }
        if (count && (v->smc_exit || !v->run || (v->flags_sys & FLAG_TF) || v->single_pending)) {
            restart(v);
        }
    }
    if (count) {
        restart(v);
    }
}
