/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hardware task switching, 16- and 32-bit TSS (SDM vol. 3, chapter 7). Built with
 * -mgeneral-regs-only. */
#include "cpu.h"

struct tss_image {
    uint64_t cr3, eip, eflags, gpr[8];
    uint16_t seg[6], ldt;
    bool trap;
};

static void tss_save(struct vcpu *v, uint64_t base, bool wide, uint64_t rip, uint64_t flags)
{
    unsigned size = wide ? 4 : 2, at = wide ? 0x20 : 0x0e;
    mem_store(v, base + at, rip, size, cpu_implicit_index(v));
    mem_store(v, base + at + size, flags, size, cpu_implicit_index(v));
    at += 2 * size;
    for (unsigned i = 0; i < 8; i++, at += size) {
        mem_store(v, base + at, v->gpr[i], size, cpu_implicit_index(v));
    }
    for (unsigned i = 0; i < (wide ? 6u : 4u); i++, at += size) {
        mem_store(v, base + at, v->seg[i].selector, 2, cpu_implicit_index(v));
    }
}

static void tss_load(struct vcpu *v, uint64_t base, bool wide, struct tss_image *t)
{
    unsigned size = wide ? 4 : 2, at = wide ? 0x20 : 0x0e;
    t->cr3 = wide ? mem_load(v, base + 0x1c, 4, cpu_implicit_index(v)) : v->cr3;
    t->eip = mem_load(v, base + at, size, cpu_implicit_index(v));
    t->eflags = mem_load(v, base + at + size, size, cpu_implicit_index(v));
    at += 2 * size;
    for (unsigned i = 0; i < 8; i++, at += size) {
        t->gpr[i] = mem_load(v, base + at, size, cpu_implicit_index(v)) | (wide ? 0 : 0xffff0000);
    }
    for (unsigned i = 0; i < 6; i++) {
        t->seg[i] = wide || i < 4 ? mem_load(v, base + at + i * size, 2, cpu_implicit_index(v)) : 0;
    }
    t->ldt = mem_load(v, base + (wide ? 0x60 : 0x2a), 2, cpu_implicit_index(v));
    t->trap = wide && (mem_load(v, base + 0x64, 2, cpu_implicit_index(v)) & 1);
}

static void set_busy(struct vcpu *v, uint64_t address, bool busy)
{
    uint32_t high = mem_load(v, address + 4, 4, cpu_implicit_index(v));
    high = busy ? high | 0x200 : high & ~0x200u;
    mem_store(v, address + 4, high, 4, cpu_implicit_index(v));
}

static void task_descriptor(struct vcpu *v, uint16_t selector, enum task_cause cause,
                            struct descriptor *d)
{
    unsigned vector = cause == TASK_IRET ? EXC_TS : EXC_GP;
    if ((selector & 4) || (selector & ~3) == 0 || !descriptor_read(v, selector, d)) {
        raise_exception(v, vector, selector & ~3);
    }
    unsigned want = cause == TASK_IRET ? 3 : 1; /* busy or available */
    if ((d->attr & 0x17) != want) {
        raise_exception(v, vector, selector & ~3);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    if (d->limit < (d->attr & 8 ? 0x67u : 0x2bu)) {
        raise_exception(v, EXC_TS, selector & ~3);
    }
}

static void load_ldt(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    if ((selector & ~3) == 0) {
        return;
    }
    if ((selector & 4) || !descriptor_read(v, selector, &d) || (d.attr & 0x1f) != 2 ||
        !(d.attr & SEG_P)) {
        raise_exception(v, EXC_TS, selector & ~3);
    }
    segment_set(v, CPU_LDTR, selector, &d);
}

static void load_code(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    unsigned cpl = selector & 3;
    if ((selector & ~3) == 0 || !descriptor_read(v, selector, &d) || !(d.attr & SEG_S) ||
        !(d.attr & SEG_CODE) ||
        (d.attr & SEG_CONFORMING ? SEG_DPL(d.attr) > cpl : SEG_DPL(d.attr) != cpl)) {
        raise_exception(v, EXC_TS, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    descriptor_set_accessed(v, &d);
    segment_set(v, CPU_CS, selector, &d);
}

static void load_stack(struct vcpu *v, uint16_t selector)
{
    struct descriptor d;
    stack_descriptor(v, selector, v->cpl, &d);
    descriptor_set_accessed(v, &d);
    segment_set(v, CPU_SS, selector, &d);
}

static void load_data(struct vcpu *v, unsigned reg, uint16_t selector)
{
    struct descriptor d;
    if ((selector & ~3) == 0) {
        return;
    }
    if (!descriptor_read(v, selector, &d) || !(d.attr & SEG_S) ||
        ((d.attr & SEG_CODE) && !(d.attr & SEG_RW))) {
        raise_exception(v, EXC_TS, selector & ~3);
    }
    bool conforming = (d.attr & SEG_CODE) && (d.attr & SEG_CONFORMING);
    if (!conforming && (SEG_DPL(d.attr) < v->cpl || SEG_DPL(d.attr) < (selector & 3u))) {
        raise_exception(v, EXC_TS, selector & ~3);
    }
    if (!(d.attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
    descriptor_set_accessed(v, &d);
    segment_set(v, reg, selector, &d);
}

/* Faults from here on belong to the new task, which has its selectors but no descriptors yet. */
static void load_segments(struct vcpu *v, const struct tss_image *t)
{
    static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    bool v86 = v->flags_sys & FLAG_VM;
    v->cpl = v86 ? 3 : t->seg[CPU_CS] & 3;
    for (unsigned i = 0; i < 6; i++) {
        segment_set_null(v, i, t->seg[i]);
    }
    segment_set_null(v, CPU_LDTR, t->ldt);
    load_ldt(v, t->ldt);
    if (v86) {
        for (unsigned i = 0; i < 6; i++) {
            segment_set_real(v, i, t->seg[i]);
        }
        return;
    }
    load_code(v, t->seg[CPU_CS]);
    load_stack(v, t->seg[CPU_SS]);
    for (unsigned i = 0; i < 4; i++) {
        load_data(v, data[i], t->seg[data[i]]);
    }
    if (v->rip > v->seg[CPU_CS].limit) {
        raise_exception(v, EXC_GP, 0);
    }
}

static void task_enter(struct vcpu *v, struct tss_image *t, const struct descriptor *d,
                       uint16_t selector)
{
    for (unsigned i = 0; i < 8; i++) {
        v->gpr[i] = (uint32_t)t->gpr[i];
    }
    v->rip = t->eip;
    v->ret_pc = 0;
    cpu_set_flags(v, t->eflags | 2);
    struct descriptor busy = *d;
    busy.attr |= 2;
    segment_set(v, CPU_TR, selector, &busy);
    v->cr0 |= CR0_TS;
    if ((v->cr0 & CR0_PG) && (d->attr & 8) && t->cr3 != v->cr3) {
        v->cr3 = t->cr3;
        if (v->cr4 & CR4_PAE) {
            pdptes_load(v, v->cr3);
        }
        tlb_load_cr3(v, v->cr3, false);
    }
    load_segments(v, t);
    v->dr7 &= ~0x55ull;
}

void task_switch(struct vcpu *v, uint16_t selector, enum task_cause cause, uint64_t next_rip,
                 bool has_error, uint32_t error)
{
    struct descriptor d;
    struct tss_image t;
    cpu_sync_rip(v);
    task_descriptor(v, selector, cause, &d);
    bool wide = d.attr & 8, old_wide = v->seg[CPU_TR].attr & 8;
    uint64_t old_base = v->seg[CPU_TR].base;
    uint16_t old = v->seg[CPU_TR].selector;
    uint64_t flags = cpu_flags(v);
    tss_load(v, d.base, wide, &t);
    if (cause == TASK_JUMP || cause == TASK_IRET) {
        set_busy(v, v->gdtr_base + (old & ~7), false);
    }
    if (cause == TASK_IRET) {
        flags &= ~(uint64_t)FLAG_NT;
    }
    tss_save(v, old_base, old_wide, next_rip, flags);
    if (cause == TASK_CALL || cause == TASK_GATE) {
        mem_store(v, d.base, old, 2, cpu_implicit_index(v));
        t.eflags |= FLAG_NT;
    }
    if (cause != TASK_IRET) {
        set_busy(v, d.address, true);
    }
    task_enter(v, &t, &d, selector);
    if (has_error) {
        struct stack s = stack_current(v);
        stack_push(v, &s, error, wide ? 4 : 2);
        stack_commit(v, &s);
    }
    if (t.trap) {
        v->pending_dr6 |= DR6_BT;
        v->single_pending = true;
    }
}
