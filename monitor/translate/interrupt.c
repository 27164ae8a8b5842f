/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exceptions and interrupts: delivery in all modes, double and triple faults, IRET (SDM vol. 3,
 * chapter 6). State is committed only when nothing can fault any more. Built with
 * -mgeneral-regs-only.
 */
#include "helpers.h"
#include "vcpu.h"

struct event {
    unsigned vector;
    bool has_error, soft, external, fault;
    uint32_t error;
    uint64_t rip; /* to return to */
};

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static bool vector_has_error(unsigned vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static void deliver(struct vcpu *v, const struct event *e);

void cpu_triple_fault(struct vcpu *v)
{
    v->activity = CPU_SHUTDOWN;
    v->delivering = 0;
    outside_begin(v);
    v->engine->bus->shutdown(v->engine->bus->opaque, v->index);
    outside_end(v);
    cpu_leave(v);
}

static bool contributory(unsigned vector)
{
    return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

/* SDM vol. 3, table 6-5. True: the pair makes a double fault. */
static bool doubles(unsigned first, unsigned second)
{
    if (first == EXC_PF) {
        return second == EXC_PF || contributory(second);
    }
    return contributory(first) && contributory(second);
}

static uint64_t flags_image(const struct vcpu *v, const struct event *e)
{
    return cpu_flags(v) | (e->fault ? FLAG_RF : 0);
}

void raise_exception(struct vcpu *v, unsigned vector, uint32_t error)
{
    cpu_sync_rip(v);
    v->finish = 0;
    if (v->delivering) {
        unsigned first = v->delivering - 1;
        if (first == EXC_DF) {
            cpu_triple_fault(v);
        }
        if (v->delivering != DELIVERING_SOFT && vector >= EXC_TS && vector <= EXC_GP) {
            error |= 1; /* EXT */
        }
        if (doubles(first, vector)) {
            vector = EXC_DF;
            error = 0;
        }
    }
    struct event e = {
        .vector = vector, .error = error, .has_error = vector_has_error(vector), .rip = v->rip};
    e.fault = vector != EXC_DF;
    v->single_pending = v->soft_step = false;
    v->pending_dr6 = 0;
    deliver(v, &e);
    cpu_resume(v);
}

void raise_page_fault(struct vcpu *v, uint64_t linear, uint32_t error)
{
    v->page_faults++;
    v->cr2 = linear;
    raise_exception(v, EXC_PF, error);
}

void raise_host_fault(struct vcpu *v, unsigned vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_GP:
    case EXC_SS:
    case EXC_MF:
    case EXC_XM:
    case EXC_AC:
        break;
    default:
        vector = EXC_UD;
    }
    if (vector == EXC_XM && !(v->cr4 & CR4_OSXMMEXCPT)) {
        vector = EXC_UD;
    }
    raise_exception(v, vector, 0);
}

void helper_raise_ud(struct vcpu *v)
{
    raise_exception(v, EXC_UD, 0);
}

void helper_raise_nm(struct vcpu *v)
{
    raise_exception(v, EXC_NM, 0);
}

void helper_raise_gp(struct vcpu *v)
{
    raise_exception(v, EXC_GP, 0);
}

/* The instruction clears TF: no trap at its end, but data breakpoints that MOV SS held off stay. */
static void forget_step(struct vcpu *v)
{
    v->pending_dr6 &= ~(uint32_t)DR6_BS;
    v->single_pending = v->pending_dr6 != 0;
}

/* INT n, INT3, INTO: faults of the delivery itself restart at the instruction. */
void raise_soft(struct vcpu *v, unsigned vector, uint64_t next_rip)
{
    cpu_sync_rip(v);
    forget_step(v);
    struct event e = {.vector = vector, .soft = true, .rip = next_rip};
    deliver(v, &e);
    cpu_resume(v);
}

/* V86 mode with IOPL < 3: INT n is #GP (SDM vol. 3, 20.2.7; VME is not offered). */
void helper_int(struct vcpu *v, uint64_t next_rip, uint64_t vector)
{
    if ((v->flags_sys & FLAG_VM) && (v->flags_sys >> 12 & 3) < 3) {
        raise_exception(v, EXC_GP, 0);
    }
    raise_soft(v, vector, next_rip);
}

void helper_int3(struct vcpu *v, uint64_t next_rip)
{
    raise_soft(v, EXC_BP, next_rip);
}

void helper_int1(struct vcpu *v, uint64_t next_rip)
{
    cpu_sync_rip(v);
    forget_step(v);
    struct event e = {.vector = EXC_DB, .rip = next_rip};
    deliver(v, &e);
    cpu_resume(v);
}

void helper_into(struct vcpu *v, uint64_t next_rip)
{
    if (v->flags_ax & 1) {
        raise_soft(v, EXC_OF, next_rip);
    }
}

void deliver_external(struct vcpu *v, unsigned vector)
{
    struct event e = {.vector = vector, .external = true, .rip = v->rip};
    v->ret_pc = 0;
    deliver(v, &e);
}

/* The single-step or data breakpoint trap after an instruction. */
void cpu_step_trap(struct vcpu *v)
{
    v->dr6 |= v->pending_dr6;
    v->pending_dr6 = 0;
    struct event e = {.vector = EXC_DB, .rip = v->rip};
    v->ret_pc = 0;
    deliver(v, &e);
}

/* What an enabled breakpoint register is for (SDM vol. 3, 18.2.4). */
enum { BREAK_CODE, BREAK_WRITE, BREAK_PORT, BREAK_ACCESS };

static bool break_enabled(const struct vcpu *v, unsigned i, unsigned *kind, unsigned *size)
{
    static const uint8_t sizes[] = {1, 2, 8, 4};
    unsigned control = v->dr7 >> (16 + 4 * i) & 15;
    *kind = control & 3;
    *size = sizes[control >> 2];
    return v->dr7 >> (2 * i) & 3;
}

static bool break_overlaps(const struct vcpu *v, unsigned i, unsigned len, uint64_t at,
                           unsigned size)
{
    uint64_t from = v->dr[i] & ~(uint64_t)(len - 1);
    return at < from + len && from < at + size;
}

/* The image has RF as it was: a handler that wants to go on here sets it. */
void cpu_check_breakpoint(struct vcpu *v, uint64_t linear)
{
    unsigned kind, size, hits = 0;
    if (v->flags_sys & FLAG_RF) {
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (break_enabled(v, i, &kind, &size) && kind == BREAK_CODE && v->dr[i] == linear) {
            hits |= 1u << i;
        }
    }
    if (hits) {
        v->dr6 |= hits;
        struct event e = {.vector = EXC_DB, .rip = v->rip};
        deliver(v, &e);
        cpu_resume(v);
    }
}

/* Traps: they come after the instruction. */
void debug_data_access(struct vcpu *v, uint64_t linear, unsigned size, bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind, len;
        if (break_enabled(v, i, &kind, &len) &&
            (kind == BREAK_ACCESS || (kind == BREAK_WRITE && write)) &&
            break_overlaps(v, i, len, linear, size)) {
            v->pending_dr6 |= 1u << i;
            v->single_pending = true;
        }
    }
}

void debug_port_access(struct vcpu *v, uint16_t port, unsigned size)
{
    for (unsigned i = 0; i < 4 && (v->cr4 & CR4_DE); i++) {
        unsigned kind, len;
        if (break_enabled(v, i, &kind, &len) && kind == BREAK_PORT &&
            break_overlaps(v, i, len, port, size)) {
            v->pending_dr6 |= 1u << i;
            v->single_pending = true;
        }
    }
}

/* --- real mode --- */

static void deliver_real(struct vcpu *v, const struct event *e)
{
    uint32_t entry = e->vector * 4;
    if (entry + 3 > v->idtr_limit) {
        raise_exception(v, EXC_GP, 0);
    }
    uint32_t target = mem_load(v, v->idtr_base + entry, 4, cpu_implicit_index(v));
    struct stack s = stack_current(v);
    s.mask = v->seg[CPU_SS].attr & SEG_DB ? 0xffffffff : 0xffff;
    stack_push(v, &s, cpu_flags(v), 2);
    stack_push(v, &s, v->seg[CPU_CS].selector, 2);
    stack_push(v, &s, e->rip, 2);
    stack_commit(v, &s);
    cpu_set_flags(v, cpu_flags(v) & ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
    segment_set_real(v, CPU_CS, target >> 16);
    v->rip = target & 0xffff;
}

/* --- protected and long mode --- */

struct idt_gate {
    uint16_t selector, attr;
    unsigned type, ist;
    uint64_t offset;
};

static uint32_t idt_error(const struct event *e)
{
    return e->vector * 8 + 2 + (e->soft ? 0 : 1);
}

static void idt_read(struct vcpu *v, const struct event *e, struct idt_gate *g)
{
    unsigned size = cpu_long_active(v) ? 16 : 8;
    uint32_t at = e->vector * size;
    if (at + size - 1 > v->idtr_limit) {
        raise_exception(v, EXC_GP, idt_error(e));
    }
    uint64_t low = mem_load(v, v->idtr_base + at, 8, cpu_implicit_index(v));
    g->selector = low >> 16;
    g->attr = low >> 40 & 0xff;
    g->type = low >> 40 & 0x1f;
    g->ist = low >> 32 & 7;
    g->offset = (low & 0xffff) | (low >> 32 & 0xffff0000);
    bool known;
    if (cpu_long_active(v)) {
        g->offset |= mem_load(v, v->idtr_base + at + 8, 4, cpu_implicit_index(v)) << 32;
        known = g->type == 0xe || g->type == 0xf;
    } else {
        known = g->type == 5 || g->type == 6 || g->type == 7 || g->type == 0xe || g->type == 0xf;
    }
    if (!known || (e->soft && SEG_DPL(g->attr) < v->cpl)) {
        raise_exception(v, EXC_GP, idt_error(e));
    }
    if (!(g->attr & SEG_P)) {
        raise_exception(v, EXC_NP, idt_error(e));
    }
}

static unsigned idt_code(struct vcpu *v, const struct event *e, const struct idt_gate *g,
                         struct descriptor *d)
{
    uint32_t ext = e->soft ? 0 : 1;
    if ((g->selector & ~3) == 0) {
        raise_exception(v, EXC_GP, ext);
    }
    if (!descriptor_read(v, g->selector, d) || !(d->attr & SEG_S) || !(d->attr & SEG_CODE) ||
        SEG_DPL(d->attr) > v->cpl ||
        (cpu_long_active(v) && (!(d->attr & SEG_L) || (d->attr & SEG_DB)))) {
        raise_exception(v, EXC_GP, (g->selector & ~3) | ext);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_NP, (g->selector & ~3) | ext);
    }
    unsigned cpl = d->attr & SEG_CONFORMING ? v->cpl : SEG_DPL(d->attr);
    if ((v->flags_sys & FLAG_VM) && cpl != 0) {
        raise_exception(v, EXC_GP, (g->selector & ~3) | ext);
    }
    return cpl;
}

static enum mmu_index push_index(const struct vcpu *v, unsigned cpl)
{
    return cpl == 3 ? MMU_USER : cpu_implicit_index(v);
}

static void flags_after_gate(struct vcpu *v, unsigned type)
{
    uint64_t clear = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (type & 1 ? 0 : FLAG_IF);
    cpu_set_flags(v, cpu_flags(v) & ~clear);
}

static void deliver_long(struct vcpu *v, const struct event *e)
{
    struct idt_gate g;
    struct descriptor d;
    idt_read(v, e, &g);
    unsigned cpl = idt_code(v, e, &g, &d);
    uint64_t rsp = v->gpr[CPU_RSP];
    uint16_t ss;
    if (g.ist) {
        if (0x24 + (g.ist - 1) * 8 + 7 > v->seg[CPU_TR].limit) {
            raise_exception(v, EXC_TS, v->seg[CPU_TR].selector & ~3);
        }
        rsp = mem_load(v, v->seg[CPU_TR].base + 0x24 + (g.ist - 1) * 8, 8, cpu_implicit_index(v));
    } else if (cpl < v->cpl) {
        tss_stack(v, cpl, &rsp, &ss);
    }
    struct stack s = {.rsp = rsp & ~15ull, .mask = ~0ull, .index = push_index(v, cpl)};
    stack_push(v, &s, v->seg[CPU_SS].selector, 8);
    stack_push(v, &s, v->gpr[CPU_RSP], 8);
    stack_push(v, &s, flags_image(v, e), 8);
    stack_push(v, &s, v->seg[CPU_CS].selector, 8);
    stack_push(v, &s, e->rip, 8);
    if (e->has_error) {
        stack_push(v, &s, e->error, 8);
    }
    if (!canonical(g.offset)) {
        raise_exception(v, EXC_GP, 0);
    }
    descriptor_set_accessed(v, &d);
    bool inner = cpl < v->cpl;
    segment_set(v, CPU_CS, (g.selector & ~3) | cpl, &d);
    v->cpl = cpl;
    if (inner) {
        segment_set_null(v, CPU_SS, cpl);
    }
    v->gpr[CPU_RSP] = s.rsp;
    flags_after_gate(v, g.type);
    v->rip = g.offset;
}

static void push_v86_segments(struct vcpu *v, struct stack *s, unsigned size)
{
    static const uint8_t order[] = {CPU_GS, CPU_FS, CPU_DS, CPU_ES};
    for (unsigned i = 0; i < 4; i++) {
        stack_push(v, s, v->seg[order[i]].selector, size);
    }
}

static void deliver_protected(struct vcpu *v, const struct event *e)
{
    struct idt_gate g;
    struct descriptor d, sd = {0};
    idt_read(v, e, &g);
    if (g.type == 5) {
        v->rip = e->rip;
        v->flags_sys |= e->fault ? FLAG_RF : 0; /* in the old task's image */
        task_switch(v, g.selector, TASK_GATE, e->rip, e->has_error, e->error);
        return;
    }
    unsigned cpl = idt_code(v, e, &g, &d), size = g.type & 8 ? 4 : 2;
    bool inner = cpl < v->cpl, v86 = v->flags_sys & FLAG_VM;
    struct stack s = stack_current(v);
    uint64_t rsp;
    uint16_t ss = 0;
    s.index = push_index(v, cpl);
    if (inner) {
        tss_stack(v, cpl, &rsp, &ss);
        stack_descriptor(v, ss, cpl, &sd);
        s.rsp = rsp;
        s.base = sd.base;
        s.mask = sd.attr & SEG_DB ? 0xffffffff : 0xffff;
        s.error = ss & ~3;
        stack_limits(&s, sd.attr, sd.limit);
        if (v86) {
            push_v86_segments(v, &s, size);
        }
        stack_push(v, &s, v->seg[CPU_SS].selector, size);
        stack_push(v, &s, v->gpr[CPU_RSP], size);
    }
    stack_push(v, &s, flags_image(v, e), size);
    stack_push(v, &s, v->seg[CPU_CS].selector, size);
    stack_push(v, &s, e->rip, size);
    if (e->has_error) {
        stack_push(v, &s, e->error, size);
    }
    if (g.offset > d.limit) {
        raise_exception(v, EXC_GP, 0);
    }
    descriptor_set_accessed(v, &d);
    if (inner) {
        descriptor_set_accessed(v, &sd);
    }
    flags_after_gate(v, g.type);
    segment_set(v, CPU_CS, (g.selector & ~3) | cpl, &d);
    v->cpl = cpl;
    if (inner) {
        segment_set(v, CPU_SS, ss, &sd);
        v->gpr[CPU_RSP] =
            s.mask == 0xffff ? (v->gpr[CPU_RSP] & ~0xffffull) | (s.rsp & 0xffff) : (uint32_t)s.rsp;
        if (v86) {
            static const uint8_t data[] = {CPU_GS, CPU_FS, CPU_DS, CPU_ES};
            for (unsigned i = 0; i < 4; i++) {
                segment_set_null(v, data[i], 0);
            }
            segment_update(v, CPU_SS);
        }
    } else {
        stack_commit(v, &s);
    }
    v->rip = size == 2 ? g.offset & 0xffff : g.offset;
}

static void deliver(struct vcpu *v, const struct event *e)
{
    v->delivering = e->soft ? DELIVERING_SOFT : e->external ? DELIVERING_EXTERNAL : e->vector + 1;
    v->shadow = false;
    if (e->vector == EXC_DB && !e->soft) {
        v->dr7 &= ~(uint64_t)(1u << 13); /* GD */
    }
    if (!(v->cr0 & CR0_PE)) {
        deliver_real(v, e);
    } else if (cpu_long_active(v)) {
        deliver_long(v, e);
    } else {
        deliver_protected(v, e);
    }
    v->delivering = 0;
    v->ret_pc = 0;
}

/* --- IRET --- */

static void iret_flags(struct vcpu *v, uint64_t image, unsigned size, unsigned old_cpl)
{
    uint64_t keep = 0, flags = cpu_flags(v);
    unsigned iopl = v->flags_sys >> 12 & 3;
    if (old_cpl > 0) {
        keep |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    }
    if (old_cpl > iopl) {
        keep |= FLAG_IF;
    }
    keep |= FLAG_VM;
    if (size == 2) {
        keep |= 0xffff0000;
    }
    cpu_set_flags(v, (flags & keep) | (image & ~keep));
}

static void iret_real(struct vcpu *v, unsigned size)
{
    struct stack s = stack_current(v);
    if ((v->flags_sys & FLAG_VM) && (v->flags_sys >> 12 & 3) < 3) {
        raise_exception(v, EXC_GP, 0);
    }
    uint64_t rip = stack_pop(v, &s, size);
    uint16_t cs = stack_pop(v, &s, size);
    uint64_t flags = stack_pop(v, &s, size);
    stack_commit(v, &s);
    segment_set_real(v, CPU_CS, cs);
    v->rip = size == 2 ? rip & 0xffff : (uint32_t)rip;
    uint64_t keep = FLAG_VM | FLAG_VIF | FLAG_VIP | (v->flags_sys & FLAG_VM ? FLAG_IOPL : 0) |
                    (size == 2 ? 0xffff0000ull : 0);
    cpu_set_flags(v, (cpu_flags(v) & keep) | (flags & ~keep));
}

static void iret_to_v86(struct vcpu *v, struct stack *s, uint64_t rip, uint16_t cs, uint64_t flags)
{
    uint32_t esp = stack_pop(v, s, 4);
    uint16_t sel[5];
    static const uint8_t order[] = {CPU_SS, CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    for (unsigned i = 0; i < 5; i++) {
        sel[i] = stack_pop(v, s, 4);
    }
    cpu_set_flags(v, flags);
    v->cpl = 3;
    segment_set_real(v, CPU_CS, cs);
    for (unsigned i = 0; i < 5; i++) {
        segment_set_real(v, order[i], sel[i]);
    }
    v->gpr[CPU_RSP] = esp;
    v->rip = rip & 0xffff;
}

static void iret_check_code(struct vcpu *v, uint16_t selector, struct descriptor *d)
{
    if ((selector & ~3) == 0) {
        raise_exception(v, EXC_GP, 0);
    }
    unsigned rpl = selector & 3;
    if (!descriptor_read(v, selector, d) || !(d->attr & SEG_S) || !(d->attr & SEG_CODE) ||
        rpl < v->cpl ||
        (d->attr & SEG_CONFORMING ? SEG_DPL(d->attr) > rpl : SEG_DPL(d->attr) != rpl)) {
        raise_exception(v, EXC_GP, selector & ~3);
    }
    code_descriptor_check_long(v, d, selector);
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_NP, selector & ~3);
    }
}

/* SS for an outer level or for 64-bit mode; *null when the selector is null and may be. */
static void iret_check_stack(struct vcpu *v, uint16_t ss, unsigned cpl, bool null_ok,
                             struct descriptor *d, bool *null)
{
    *null = (ss & ~3) == 0;
    if (*null) {
        if (!null_ok) {
            raise_exception(v, EXC_GP, 0);
        }
        return;
    }
    if (!descriptor_read(v, ss, d) || (ss & 3) != cpl || !(d->attr & SEG_S) ||
        (d->attr & SEG_CODE) || !(d->attr & SEG_RW) || SEG_DPL(d->attr) != cpl) {
        raise_exception(v, EXC_GP, ss & ~3);
    }
    if (!(d->attr & SEG_P)) {
        raise_exception(v, EXC_SS, ss & ~3);
    }
}

static void iret_protected(struct vcpu *v, unsigned size)
{
    struct stack s = stack_current(v);
    struct descriptor d, sd = {0};
    bool null = false, long_code = cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L);
    uint64_t rip = stack_pop(v, &s, size);
    uint16_t cs = stack_pop(v, &s, size);
    uint64_t flags = stack_pop(v, &s, size);
    if (size == 4 && !cpu_long_active(v) && (flags & FLAG_VM) && v->cpl == 0) {
        iret_to_v86(v, &s, rip, cs, flags);
        return;
    }
    iret_check_code(v, cs, &d);
    unsigned cpl = cs & 3, old = v->cpl;
    bool outer = cpl > old, full = outer || long_code;
    uint64_t rsp = 0;
    uint16_t ss = 0;
    if (full) {
        rsp = stack_pop(v, &s, size);
        ss = stack_pop(v, &s, size);
        bool null_ok = cpu_long_active(v) && (d.attr & SEG_L) && cpl < 3;
        iret_check_stack(v, ss, cpl, null_ok, &sd, &null);
    }
    bool to_long = cpu_long_active(v) && (d.attr & SEG_L);
    if (to_long ? (uint64_t)((int64_t)(rip << 16) >> 16) != rip
                : (rip & mask_size(size)) > d.limit) {
        raise_exception(v, EXC_GP, 0);
    }
    descriptor_set_accessed(v, &d);
    if (full && !null) {
        descriptor_set_accessed(v, &sd);
    }
    iret_flags(v, flags, size, old);
    segment_set(v, CPU_CS, cs, &d);
    v->cpl = cpl;
    if (full) {
        if (null) {
            segment_set_null(v, CPU_SS, ss);
        } else {
            segment_set(v, CPU_SS, ss, &sd);
        }
        struct stack to = {.rsp = rsp, .mask = to_long ? ~0ull : stack_mask(v)};
        stack_commit(v, &to);
    } else {
        stack_commit(v, &s);
    }
    if (outer) {
        static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
        for (unsigned i = 0; i < 4; i++) {
            segment_check_return(v, data[i], cpl);
        }
    }
    v->rip = rip & mask_size(to_long ? 8 : size);
}

static _Noreturn void iret_end(struct vcpu *v)
{
    v->ret_pc = 0;
    v->nmi_blocked = false;
    if ((v->flag_if && v->irq_waiting) || v->nmi_pending) {
        v->run = 0;
    }
    cpu_resume(v);
}

void helper_iret(struct vcpu *v, uint64_t next_rip, uint64_t size)
{
    v->count.irets++;
    if (cpu_real_or_v86(v)) {
        iret_real(v, size);
    } else if ((v->flags_sys & FLAG_NT) && !cpu_long_active(v)) {
        uint16_t back = mem_load(v, v->seg[CPU_TR].base, 2, cpu_implicit_index(v));
        task_switch(v, back, TASK_IRET, next_rip, false, 0);
        iret_end(v);
    } else if ((v->flags_sys & FLAG_NT)) {
        raise_exception(v, EXC_GP, 0);
    } else {
        iret_protected(v, size);
    }
    iret_end(v);
}
