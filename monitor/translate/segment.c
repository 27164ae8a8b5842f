/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segmentation: descriptors, segment registers, far transfers (SDM vol. 3, chapters 3 and 5).
 * Built with -mgeneral-regs-only.
 */
#include "cpu.h"

#include "helpers.h"

static unsigned selector_rpl(uint16_t selector)
{
    return selector & 3;
}

static bool selector_null(uint16_t selector)
{
    return (selector & ~3) == 0;
}

void cpu_set_cpl(struct vcpu *v, unsigned cpl)
{
    v->cpl = cpl;
}

uint64_t seg_mask(const struct vcpu *v, unsigned seg)
{
    if (cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L)) {
        return ~0ull;
    }
    return v->seg[seg].attr & SEG_DB ? 0xffffffffull : 0xffffull;
}

uint64_t stack_mask(const struct vcpu *v)
{
    return seg_mask(v, CPU_SS);
}

static void descriptor_decode(struct descriptor *d)
{
    d->base = (d->low >> 16) | (d->high & 0xff) << 16 | (d->high & 0xff000000);
    d->attr = (d->high >> 8 & 0xff) | (d->high >> 8 & 0xf000);
    d->limit = (d->low & 0xffff) | (d->high & 0xf0000);
    if (d->attr & SEG_G) {
        d->limit = d->limit << 12 | 0xfff;
    }
}

bool descriptor_read(struct vcpu *v, uint16_t selector, struct descriptor *d)
{
    uint64_t base = selector & 4 ? v->seg[CPU_LDTR].base : v->gdtr_base;
    uint32_t limit = selector & 4 ? v->seg[CPU_LDTR].limit : v->gdtr_limit;
    if ((selector & 4) && !(v->seg[CPU_LDTR].attr & SEG_P)) {
        return false;
    }
    if ((uint32_t)(selector | 7) > limit) {
        return false;
    }
    d->address = base + (selector & ~7);
    uint64_t raw = mem_load(v, d->address, 8, cpu_implicit_index(v));
    d->low = raw;
    d->high = raw >> 32;
    descriptor_decode(d);
    return true;
}

void descriptor_set_accessed(struct vcpu *v, struct descriptor *d)
{
    if ((d->attr & SEG_S) && !(d->attr & SEG_ACCESSED)) {
        d->high |= 1u << 8;
        d->attr |= SEG_ACCESSED;
        mem_store(v, d->address + 4, d->high, 4, cpu_implicit_index(v));
    }
}

/* The limits for inline checks, see struct segment. */
void segment_update(struct vcpu *v, unsigned reg)
{
    struct segment *s = &v->seg[reg];
    bool flat = s->base == 0 && s->limit == 0xffffffff;
    int64_t all = flat ? INT64_MAX : s->limit;
    s->limit_read = s->limit_write = -1;
    if (cpu_real_or_v86(v)) {
        s->limit_read = s->limit_write = all;
        return;
    }
    if (!(s->attr & SEG_P) || !(s->attr & SEG_S)) {
        return;
    }
    if (s->attr & SEG_CODE) {
        s->limit_read = s->attr & SEG_RW || reg == CPU_CS ? all : -1;
        if (reg == CPU_CS && !(s->attr & SEG_RW)) {
            s->limit_read = -1;
        }
        return;
    }
    if (s->attr & SEG_EXPAND_DOWN) {
        return;
    }
    s->limit_read = all;
    s->limit_write = s->attr & SEG_RW ? all : -1;
}

void segment_set(struct vcpu *v, unsigned reg, uint16_t selector, const struct descriptor *d)
{
    struct segment *s = &v->seg[reg];
    s->selector = selector;
    s->base = d->base;
    s->limit = d->limit;
    s->attr = d->attr;
    segment_update(v, reg);
}

/* Real and virtual-8086 mode. Real mode keeps limit and attributes ("unreal" mode depends on it).
 */
void segment_set_real(struct vcpu *v, unsigned reg, uint16_t selector)
{
    struct segment *s = &v->seg[reg];
    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (v->flags_sys & FLAG_VM) {
        s->limit = 0xffff;
        s->attr = 0xf3;
    } else if (reg == CPU_CS) {
        s->attr = 0x93 | (s->attr & 8);
    }
    segment_update(v, reg);
}

void segment_set_null(struct vcpu *v, unsigned reg, uint16_t selector)
{
    struct segment *s = &v->seg[reg];
    s->selector = selector;
    s->limit = 0;
    s->attr = reg == CPU_SS ? (selector & 3) << SEG_DPL_SHIFT : 0;
    s->base = 0;
    segment_update(v, reg);
}

static void load_stack_segment(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        bool ok = cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L) && v->cpl < 3 &&
                  selector_rpl(selector) == v->cpl;
        if (!ok) {
            raise_exception(v, EXC_GP, 0);
        }
        segment_set_null(v, CPU_SS, selector);
        return;
    }
    if (!descriptor_read(v, selector, &d) || selector_rpl(selector) != v->cpl ||
        !(d.attr & SEG_S) || (d.attr & SEG_CODE) || !(d.attr & SEG_RW) ||
        SEG_DPL(d.attr) != v->cpl) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_SS, selector & ~3);
    }
    descriptor_set_accessed(v, &d);
    segment_set(v, CPU_SS, selector, &d);
}

static void load_data_segment(struct vcpu *v, unsigned reg, uint16_t selector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        segment_set_null(v, reg, selector);
        return;
    }
    unsigned rpl = selector_rpl(selector);
    if (!descriptor_read(v, selector, &d) || !(d.attr & SEG_S) ||
        ((d.attr & SEG_CODE) && !(d.attr & SEG_RW))) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    bool conforming = (d.attr & SEG_CODE) && (d.attr & SEG_CONFORMING);
    if (!conforming && (SEG_DPL(d.attr) < v->cpl || SEG_DPL(d.attr) < rpl)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    descriptor_set_accessed(v, &d);
    segment_set(v, reg, selector, &d);
}

void segment_load(struct vcpu *v, unsigned reg, uint16_t selector)
{
    if (cpu_real_or_v86(v)) {
        segment_set_real(v, reg, selector);
    } else if (reg == CPU_SS) {
        load_stack_segment(v, selector);
    } else {
        load_data_segment(v, reg, selector);
    }
}

void segment_load_ldt(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        segment_set_null(v, CPU_LDTR, selector);
        return;
    }
    if ((selector & 4) || !descriptor_read(v, selector, &d) || (d.attr & 0x1f) != 2) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    if (cpu_long_active(v)) {
        d.base |= mem_load(v, d.address + 8, 4, cpu_implicit_index(v)) << 32;
    }
    segment_set(v, CPU_LDTR, selector, &d);
}

void segment_load_tr(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        raise_exception(v, EXC_GP, 0);
    }
    if ((selector & 4) || !descriptor_read(v, selector, &d)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    unsigned type = d.attr & 0x1f;
    if (type != 9 && !(type == 1 && !cpu_long_active(v))) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    if (cpu_long_active(v)) {
        d.base |= mem_load(v, d.address + 8, 4, cpu_implicit_index(v)) << 32;
    }
    d.high |= 1u << 9; /* busy */
    d.attr |= 2;
    mem_store(v, d.address + 4, d.high, 4, cpu_implicit_index(v));
    segment_set(v, CPU_TR, selector, &d);
}

/* On a return to an outer level, data segments that it may not use become null (SDM vol. 2, RET).
 */
void segment_check_return(struct vcpu *v, unsigned reg, unsigned cpl)
{
    struct segment *s = &v->seg[reg];
    bool conforming = (s->attr & SEG_CODE) && (s->attr & SEG_CONFORMING);
    if ((s->attr & SEG_P) && !conforming &&
        SEG_DPL(s->attr) < cpl) { /* a null one keeps its base */
        segment_set_null(v, reg, 0);
    }
}

void code_descriptor_check_long(struct vcpu *v, const struct descriptor *d, uint16_t selector)
{
    if (cpu_long_active(v) && (d->attr & SEG_L) && (d->attr & SEG_DB)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
}

/* --- instructions --- */

void helper_load_segment(struct vcpu *v, uint64_t selector, uint64_t reg)
{
    segment_load(v, reg, selector);
    if (reg == CPU_SS) {
        v->shadow = true;
    }
}

void helper_pop_segment(struct vcpu *v, uint64_t reg, uint64_t size)
{
    struct stack s = stack_current(v);
    uint16_t selector = stack_pop(v, &s, size);
    segment_load(v, reg, selector);
    stack_commit(v, &s);
    if (reg == CPU_SS) {
        v->shadow = true;
    }
}

static void gpr_write(struct vcpu *v, unsigned reg, uint64_t value, unsigned size)
{
    if (size == 8) {
        v->gpr[reg] = value;
    } else if (size == 4) {
        v->gpr[reg] = (uint32_t)value;
    } else {
        v->gpr[reg] = (v->gpr[reg] & ~0xffffull) | (value & 0xffff);
    }
}

void helper_load_far_pointer(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    unsigned seg = packed & 7, dst = packed >> 8 & 15, size = packed >> 16 & 15;
    enum mmu_index index = cpu_mmu_index(v);
    uint64_t offset = mem_load(v, linear, size, index);
    uint16_t selector = mem_load(v, linear + size, 2, index);
    segment_load(v, seg, selector);
    gpr_write(v, dst, offset, size);
    if (seg == CPU_SS) {
        v->shadow = true;
    }
}

static void set_zf(struct vcpu *v, bool on)
{
    v->flags_ax = (v->flags_ax & ~(FLAG_ZF << 8)) | (on ? FLAG_ZF << 8 : 0);
}

static bool segment_visible(struct vcpu *v, uint16_t selector, struct descriptor *d)
{
    if (selector_null(selector) || !descriptor_read(v, selector, d)) {
        return false;
    }
    bool conforming = (d->attr & SEG_S) && (d->attr & SEG_CODE) && (d->attr & SEG_CONFORMING);
    return conforming || (SEG_DPL(d->attr) >= v->cpl && SEG_DPL(d->attr) >= selector_rpl(selector));
}

/* System types for which LAR and LSL are valid (SDM vol. 2, LAR). */
static bool type_valid(const struct vcpu *v, unsigned type, bool lsl)
{
    if (type & SEG_S) {
        return true;
    }
    if (cpu_long_active(v)) {
        return type == 2 || type == 9 || type == 11 || (type == 12 && !lsl);
    }
    return type == 1 || type == 2 || type == 3 || type == 9 || type == 11 ||
           (!lsl && (type == 4 || type == 5 || type == 12));
}

void helper_lar(struct vcpu *v, uint64_t selector, uint64_t packed)
{
    struct descriptor d;
    bool lsl = packed & 1 << 16;
    bool ok = segment_visible(v, selector, &d) && type_valid(v, d.attr & 0x1f, lsl);
    set_zf(v, ok);
    if (ok) {
        gpr_write(v, packed & 15, lsl ? d.limit : d.high & 0xffff00, packed >> 8 & 15);
    }
}

void helper_verify(struct vcpu *v, uint64_t selector, uint64_t write)
{
    struct descriptor d;
    bool ok = segment_visible(v, selector, &d) && (d.attr & SEG_S);
    if (ok && write) {
        ok = !(d.attr & SEG_CODE) && (d.attr & SEG_RW);
    } else if (ok) {
        ok = !(d.attr & SEG_CODE) || (d.attr & SEG_RW);
    }
    set_zf(v, ok);
}

/* --- stacks --- */

struct stack stack_current(const struct vcpu *v)
{
    bool long_code = cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L);
    struct stack s = {.rsp = v->gpr[CPU_RSP],
                      .base = long_code ? 0 : v->seg[CPU_SS].base,
                      .mask = stack_mask(v),
                      .index = cpu_mmu_index(v)};
    stack_limits(&s, cpu_real_or_v86(v) ? 0 : v->seg[CPU_SS].attr, v->seg[CPU_SS].limit);
    return s;
}

void stack_limits(struct stack *s, uint16_t attr, uint32_t limit)
{
    bool down = attr & SEG_EXPAND_DOWN;
    s->first = down ? limit + 1 : 0;
    s->last = !down ? limit : attr & SEG_DB ? 0xffffffff : 0xffff;
}

static bool stack_has(const struct stack *s, uint64_t offset, unsigned size)
{
    return (s->first == 0 && s->last == 0xffffffff) ||
           (offset >= s->first && offset + size - 1 <= s->last);
}

static uint64_t stack_linear(struct vcpu *v, const struct stack *s, uint64_t rsp, unsigned size)
{
    uint64_t at = (rsp & s->mask) + s->base;
    if (s->mask != ~0ull) {
        if (!stack_has(s, rsp & s->mask, size)) {
            raise_exception(v, EXC_SS, s->error);
        }
        return (uint32_t)at;
    }
    if ((uint64_t)((int64_t)(at << 16) >> 16) != at) {
        raise_exception(v, EXC_SS, 0);
    }
    return at;
}

void stack_push(struct vcpu *v, struct stack *s, uint64_t value, unsigned size)
{
    uint64_t rsp = (s->rsp & ~s->mask) | ((s->rsp - size) & s->mask);
    uint64_t linear = stack_linear(v, s, rsp, size);
    if ((v->dr7 & 0xff) && !v->delivering) {
        debug_data_access(v, linear, size, true);
    }
    mem_store(v, linear, value, size, s->index);
    s->rsp = rsp;
}

uint64_t stack_pop(struct vcpu *v, struct stack *s, unsigned size)
{
    uint64_t linear = stack_linear(v, s, s->rsp, size);
    if (v->dr7 & 0xff) {
        debug_data_access(v, linear, size, false);
    }
    uint64_t value = mem_load(v, linear, size, s->index);
    s->rsp = (s->rsp & ~s->mask) | ((s->rsp + size) & s->mask);
    return value;
}

void stack_commit(struct vcpu *v, const struct stack *s)
{
    uint64_t mask = s->mask;
    if (mask == 0xffffffff) {
        v->gpr[CPU_RSP] = (uint32_t)s->rsp;
    } else {
        v->gpr[CPU_RSP] = (v->gpr[CPU_RSP] & ~mask) | (s->rsp & mask);
    }
}

/* SS:rSP for a level from the current TSS (16-, 32- or 64-bit). */
void tss_stack(struct vcpu *v, unsigned cpl, uint64_t *rsp, uint16_t *ss)
{
    const struct segment *tr = &v->seg[CPU_TR];
    unsigned type = tr->attr & 15;
    if (cpu_long_active(v)) {
        if (4 + cpl * 8 + 7 > tr->limit) {
            raise_exception(v, EXC_TS, tr->selector & ~3);
        }
        *rsp = mem_load(v, tr->base + 4 + cpl * 8, 8, cpu_implicit_index(v));
        *ss = cpl;
    } else if (type & 8) {
        if (4 + cpl * 8 + 5 > tr->limit) {
            raise_exception(v, EXC_TS, tr->selector & ~3);
        }
        *rsp = mem_load(v, tr->base + 4 + cpl * 8, 4, cpu_implicit_index(v));
        *ss = mem_load(v, tr->base + 8 + cpl * 8, 2, cpu_implicit_index(v));
    } else {
        if (2 + cpl * 4 + 3 > tr->limit) {
            raise_exception(v, EXC_TS, tr->selector & ~3);
        }
        *rsp = mem_load(v, tr->base + 2 + cpl * 4, 2, cpu_implicit_index(v));
        *ss = mem_load(v, tr->base + 4 + cpl * 4, 2, cpu_implicit_index(v));
    }
}

void stack_descriptor(struct vcpu *v, uint16_t ss, unsigned cpl, struct descriptor *d)
{
    if (selector_null(ss)) {
        raise_exception(v, EXC_TS, 0);
    }
    if (!descriptor_read(v, ss, d) || selector_rpl(ss) != cpl || SEG_DPL(d->attr) != cpl ||
        !(d->attr & SEG_S) || (d->attr & SEG_CODE) || !(d->attr & SEG_RW)) {
        raise_exception(v, EXC_TS, ss & ~3);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_SS, ss & ~3);
    }
}

/* --- far transfers --- */

static uint64_t offset_mask(unsigned size)
{
    return size == 2 ? 0xffff : size == 4 ? 0xffffffff : ~0ull;
}

static void go(struct vcpu *v, uint64_t rip)
{
    v->rip = rip;
    v->ret_pc = 0;
}

static void check_target(struct vcpu *v, const struct descriptor *d, uint64_t rip)
{
    bool long_code = cpu_long_active(v) && (d->attr & SEG_L);
    bool bad = long_code ? (uint64_t)((int64_t)(rip << 16) >> 16) != rip : rip > d->limit;
    if (bad) {
        raise_exception(v, EXC_GP, 0);
    }
}

static void check_code_direct(struct vcpu *v, const struct descriptor *d, uint16_t selector)
{
    unsigned dpl = SEG_DPL(d->attr);
    bool ok = d->attr & SEG_CONFORMING ? dpl <= v->cpl
                                       : selector_rpl(selector) <= v->cpl && dpl == v->cpl;
    if (!ok) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    code_descriptor_check_long(v, d, selector);
}

static void load_cs(struct vcpu *v, uint16_t selector, unsigned cpl, struct descriptor *d)
{
    descriptor_set_accessed(v, d);
    segment_set(v, CPU_CS, (selector & ~3) | cpl, d);
    v->cpl = cpl;
}

struct gate {
    uint16_t selector, attr;
    uint64_t offset;
    unsigned params;
    bool wide; /* 32-bit (or 64) rather than 16 */
};

static void gate_read(struct vcpu *v, const struct descriptor *d, uint16_t selector, struct gate *g)
{
    g->selector = d->low >> 16;
    g->attr = d->attr;
    g->params = d->high & 31;
    g->wide = d->attr & 8;
    g->offset = (d->low & 0xffff) | (g->wide ? d->high & 0xffff0000 : 0);
    if (cpu_long_active(v)) {
        uint64_t more = mem_load(v, d->address + 8, 8, cpu_implicit_index(v));
        if (more >> 40 & 0x1f) {
            raise_exception(v, EXC_GP, selector & ~3);
        }
        g->offset |= more << 32;
    }
}

/* The code segment behind a call gate, checked. */
static void gate_target(struct vcpu *v, const struct gate *g, struct descriptor *code)
{
    if (selector_null(g->selector)) {
        raise_exception(v, EXC_GP, 0);
    }
    if (!descriptor_read(v, g->selector, code) || !(code->attr & SEG_S) ||
        !(code->attr & SEG_CODE) || SEG_DPL(code->attr) > v->cpl ||
        (cpu_long_active(v) && !(code->attr & SEG_L))) {
        raise_exception(v, EXC_GP, g->selector & ~3);
    }
    code_descriptor_check_long(v, code, g->selector);
    if (!(code->attr & SEG_P)) {
        raise_exception(v, EXC_NP, g->selector & ~3);
    }
}

static void check_system_access(struct vcpu *v, const struct descriptor *d, uint16_t selector)
{
    if (SEG_DPL(d->attr) < v->cpl || SEG_DPL(d->attr) < selector_rpl(selector)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
}

/* CALL/JMP to a TSS or task gate. */
static void far_task(struct vcpu *v, const struct descriptor *d, uint16_t selector, bool call)
{
    check_system_access(v, d, selector);
    uint16_t tss = (d->attr & 0x1f) == 5 ? d->low >> 16 : selector;
    task_switch(v, tss, call ? TASK_CALL : TASK_JUMP, v->tmp[0], false, 0);
    cpu_resume(v);
}

static void far_jump_gate(struct vcpu *v, const struct descriptor *d, uint16_t selector)
{
    struct gate g;
    struct descriptor code;
    check_system_access(v, d, selector);
    gate_read(v, d, selector, &g);
    gate_target(v, &g, &code);
    if (!(code.attr & SEG_CONFORMING) && SEG_DPL(code.attr) != v->cpl) {
        raise_exception(v, EXC_GP, g.selector & ~3);
    }
    check_target(v, &code, g.offset);
    load_cs(v, g.selector, v->cpl, &code);
    go(v, g.offset);
    cpu_resume(v);
}

static void far_descriptor(struct vcpu *v, uint16_t selector, struct descriptor *d)
{
    if (selector_null(selector)) {
        raise_exception(v, EXC_GP, 0);
    }
    if (!descriptor_read(v, selector, d)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
}

void helper_far_jump(struct vcpu *v, uint64_t packed, uint64_t offset)
{
    uint16_t selector = packed;
    struct descriptor d;
    offset &= offset_mask(packed >> 32);
    if (cpu_real_or_v86(v)) {
        segment_set_real(v, CPU_CS, selector);
        go(v, offset);
        cpu_resume(v);
    }
    far_descriptor(v, selector, &d);
    if (d.attr & SEG_S) {
        if (!(d.attr & SEG_CODE)) {
            raise_exception(v, EXC_GP, selector & ~3);
        }
        check_code_direct(v, &d, selector);
        check_target(v, &d, offset);
        load_cs(v, selector, v->cpl, &d);
        go(v, offset);
        cpu_resume(v);
    }
    unsigned type = d.attr & 15;
    if (type == 12 || (type == 4 && !cpu_long_active(v))) {
        far_jump_gate(v, &d, selector);
    } else if (!cpu_long_active(v) && (type == 5 || type == 1 || type == 9)) {
        far_task(v, &d, selector, false);
    }
    raise_exception(v, EXC_GP, selector & ~3);
}

static void far_call_inner(struct vcpu *v, const struct gate *g, struct descriptor *code,
                           unsigned size)
{
    unsigned cpl = SEG_DPL(code->attr);
    uint64_t rsp;
    uint16_t ss;
    struct descriptor sd = {0};
    tss_stack(v, cpl, &rsp, &ss);
    bool wide = cpu_long_active(v);
    if (!wide) {
        stack_descriptor(v, ss, cpl, &sd);
    }
    struct stack old = stack_current(v);
    bool smap = (v->cr4 & CR4_SMAP) && !(v->flags_sys & FLAG_AC);
    struct stack s = {.rsp = rsp,
                      .base = sd.base,
                      .mask = wide               ? ~0ull
                              : sd.attr & SEG_DB ? 0xffffffffull
                                                 : 0xffffull,
                      .index = cpl == 3 ? MMU_USER
                               : smap   ? MMU_KERNEL_SMAP
                                        : MMU_KERNEL,
                      .error = ss & ~3};
    stack_limits(&s, sd.attr, sd.limit);
    stack_push(v, &s, v->seg[CPU_SS].selector, size);
    stack_push(v, &s, v->gpr[CPU_RSP], size);
    if (!wide) {
        for (unsigned i = g->params; i-- > 0;) {
            uint64_t at = ((v->gpr[CPU_RSP] + i * size) & old.mask) + old.base;
            stack_push(v, &s, mem_load(v, (uint32_t)at, size, old.index), size);
        }
    }
    stack_push(v, &s, v->seg[CPU_CS].selector, size);
    stack_push(v, &s, v->tmp[0], size);
    check_target(v, code, g->offset);
    load_cs(v, g->selector, cpl, code);
    if (wide) {
        segment_set_null(v, CPU_SS, cpl);
        v->gpr[CPU_RSP] = s.rsp;
    } else {
        descriptor_set_accessed(v, &sd);
        segment_set(v, CPU_SS, ss, &sd);
        stack_commit(v, &s);
    }
}

static void far_call_gate(struct vcpu *v, const struct descriptor *d, uint16_t selector)
{
    struct gate g;
    struct descriptor code;
    check_system_access(v, d, selector);
    gate_read(v, d, selector, &g);
    gate_target(v, &g, &code);
    unsigned size = cpu_long_active(v) ? 8 : g.wide ? 4 : 2;
    if (!(code.attr & SEG_CONFORMING) && SEG_DPL(code.attr) < v->cpl) {
        far_call_inner(v, &g, &code, size);
    } else {
        struct stack s = stack_current(v);
        stack_push(v, &s, v->seg[CPU_CS].selector, size);
        stack_push(v, &s, v->tmp[0], size);
        check_target(v, &code, g.offset);
        load_cs(v, g.selector, v->cpl, &code);
        stack_commit(v, &s);
    }
    go(v, g.offset);
    cpu_resume(v);
}

void helper_far_call(struct vcpu *v, uint64_t packed, uint64_t offset)
{
    uint16_t selector = packed;
    unsigned size = packed >> 32;
    struct descriptor d = {0};
    bool real = cpu_real_or_v86(v);
    offset &= offset_mask(size);
    if (!real) {
        far_descriptor(v, selector, &d);
    }
    if (!real && !(d.attr & SEG_S)) {
        unsigned type = d.attr & 15;
        if (type == 12 || (type == 4 && !cpu_long_active(v))) {
            far_call_gate(v, &d, selector);
        } else if (!cpu_long_active(v) && (type == 5 || type == 1 || type == 9)) {
            far_task(v, &d, selector, true);
        }
        raise_exception(v, EXC_GP, selector & ~3);
    }
    if (!real) {
        if (!(d.attr & SEG_CODE)) {
            raise_exception(v, EXC_GP, selector & ~3);
        }
        check_code_direct(v, &d, selector);
        check_target(v, &d, offset);
    }
    struct stack s = stack_current(v);
    stack_push(v, &s, v->seg[CPU_CS].selector, size);
    stack_push(v, &s, v->tmp[0], size);
    stack_commit(v, &s);
    if (real) {
        segment_set_real(v, CPU_CS, selector);
    } else {
        load_cs(v, selector, v->cpl, &d);
    }
    go(v, offset);
    cpu_resume(v);
}

static void far_ret_outer(struct vcpu *v, struct stack *s, unsigned size, unsigned extra,
                          uint16_t selector, struct descriptor *d, uint64_t rip)
{
    unsigned cpl = selector_rpl(selector);
    s->rsp = (s->rsp & ~s->mask) | ((s->rsp + extra) & s->mask);
    uint64_t rsp = stack_pop(v, s, size);
    uint16_t ss = stack_pop(v, s, size);
    struct descriptor sd;
    bool null_ok = cpu_long_active(v) && (d->attr & SEG_L) && cpl < 3;
    bool null = selector_null(ss);
    if (null ? !null_ok : !descriptor_read(v, ss, &sd)) {
        raise_exception(v, EXC_GP, ss & ~3);
    }
    if (!null) {
        if (selector_rpl(ss) != cpl || !(sd.attr & SEG_S) || (sd.attr & SEG_CODE) ||
            !(sd.attr & SEG_RW) || SEG_DPL(sd.attr) != cpl) {
            raise_exception(v, EXC_GP, ss & ~3);
        }
        if (!(sd.attr & SEG_P)) {
            raise_exception(v, EXC_SS, ss & ~3);
        }
    }
    check_target(v, d, rip);
    load_cs(v, selector, cpl, d);
    if (null) {
        segment_set_null(v, CPU_SS, ss);
    } else {
        descriptor_set_accessed(v, &sd);
        segment_set(v, CPU_SS, ss, &sd);
    }
    struct stack outer = {.rsp = rsp + extra, .mask = stack_mask(v)};
    stack_commit(v, &outer);
    static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    for (unsigned i = 0; i < 4; i++) {
        segment_check_return(v, data[i], cpl);
    }
}

void helper_far_ret(struct vcpu *v, uint64_t size, uint64_t extra)
{
    struct stack s = stack_current(v);
    uint64_t rip = stack_pop(v, &s, size) & offset_mask(size);
    uint16_t selector = stack_pop(v, &s, size);
    if (cpu_real_or_v86(v)) {
        s.rsp = (s.rsp & ~s.mask) | ((s.rsp + extra) & s.mask);
        stack_commit(v, &s);
        segment_set_real(v, CPU_CS, selector);
        go(v, rip);
        cpu_resume(v);
    }
    struct descriptor d;
    far_descriptor(v, selector, &d);
    unsigned rpl = selector_rpl(selector);
    bool conforming = d.attr & SEG_CONFORMING;
    if (!(d.attr & SEG_S) || !(d.attr & SEG_CODE) || rpl < v->cpl ||
        (conforming ? SEG_DPL(d.attr) > rpl : SEG_DPL(d.attr) != rpl)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    code_descriptor_check_long(v, &d, selector);
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    if (rpl > v->cpl) {
        far_ret_outer(v, &s, size, extra, selector, &d, rip);
    } else {
        check_target(v, &d, rip);
        s.rsp = (s.rsp & ~s.mask) | ((s.rsp + extra) & s.mask);
        stack_commit(v, &s);
        load_cs(v, selector, v->cpl, &d);
    }
    go(v, rip);
    cpu_resume(v);
}
