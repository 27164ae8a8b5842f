/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that 64-bit mode no longer has (decimal adjust, BOUND, ARPL, PUSHA, POPA) and ENTER.
 * Built with -mgeneral-regs-only.
 */
#include "helpers.h"

static void flags_put(struct vcpu *v, uint64_t flags)
{
    v->flags_ax = (flags & 0xd5) << 8 | (flags >> 11 & 1);
}

static uint64_t szp(uint8_t value)
{
    return (value & 0x80 ? FLAG_SF : 0) | (value ? 0 : FLAG_ZF) |
           (__builtin_parity(value) ? 0 : FLAG_PF);
}

static void ax_put(struct vcpu *v, uint16_t ax)
{
    v->gpr[0] = (v->gpr[0] & ~0xffffull) | ax;
}

static void al_put(struct vcpu *v, uint8_t al)
{
    v->gpr[0] = (v->gpr[0] & ~0xffull) | al;
}

static void ascii_adjust(struct vcpu *v, bool subtract)
{
    uint64_t flags = cpu_flags(v) & FLAGS_ARITH;
    uint16_t ax = v->gpr[0];
    bool adjust = (ax & 15) > 9 || (flags & FLAG_AF);
    if (adjust) {
        ax = subtract ? ax - 0x106 : ax + 0x106;
    }
    ax &= 0xff0f;
    ax_put(v, ax);
    flags &= ~(uint64_t)(FLAG_AF | FLAG_CF | FLAG_SF | FLAG_ZF | FLAG_PF);
    flags_put(v, flags | szp(ax) | (adjust ? FLAG_AF | FLAG_CF : 0));
}

static void decimal_adjust(struct vcpu *v, bool subtract)
{
    uint64_t flags = cpu_flags(v) & FLAGS_ARITH, out = flags & FLAG_OF;
    uint8_t al = v->gpr[0], old = al;
    bool carry = flags & FLAG_CF;
    if ((al & 15) > 9 || (flags & FLAG_AF)) {
        bool borrow = subtract ? al < 6 : al > 0xf9;
        al = subtract ? al - 6 : al + 6;
        out |= FLAG_AF;
        if (carry || borrow) {
            out |= FLAG_CF;
        }
    }
    if (old > 0x99 || carry) {
        al = subtract ? al - 0x60 : al + 0x60;
        out |= FLAG_CF;
    } else if (!subtract) {
        out &= ~(uint64_t)FLAG_CF;
    }
    al_put(v, al);
    flags_put(v, out | szp(al));
}

void helper_decimal(struct vcpu *v, uint64_t op, uint64_t imm)
{
    uint8_t al = v->gpr[0], ah = v->gpr[0] >> 8;
    switch (op) {
    case LEGACY_AAA:
    case LEGACY_AAS:
        ascii_adjust(v, op == LEGACY_AAS);
        break;
    case LEGACY_DAA:
    case LEGACY_DAS:
        decimal_adjust(v, op == LEGACY_DAS);
        break;
    case LEGACY_AAM:
        if (!imm) {
            raise_exception(v, EXC_DE, 0);
        }
        ax_put(v, (uint16_t)((al / imm) << 8 | (al % imm)));
        flags_put(v, szp(al % imm));
        break;
    case LEGACY_AAD:
        al = al + ah * imm;
        ax_put(v, al);
        flags_put(v, szp(al));
        break;
    default:
        al_put(v, v->flags_ax & FLAG_CF << 8 ? 0xff : 0);
    }
}

void helper_bound(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    unsigned size = packed >> 8;
    enum mmu_index index = cpu_mmu_index(v);
    uint64_t low = mem_load(v, linear, size, index), high = mem_load(v, linear + size, size, index);
    uint64_t value = v->gpr[packed & 15];
    int64_t a = size == 2 ? (int16_t)value : (int32_t)value;
    int64_t l = size == 2 ? (int16_t)low : (int32_t)low,
            h = size == 2 ? (int16_t)high : (int32_t)high;
    if (a < l || a > h) {
        raise_exception(v, EXC_BR, 0);
    }
}

uint64_t helper_arpl(struct vcpu *v, uint64_t dst, uint64_t src)
{
    bool raise = (dst & 3) < (src & 3);
    v->flags_ax = (v->flags_ax & ~(FLAG_ZF << 8)) | (raise ? FLAG_ZF << 8 : 0);
    return raise ? (dst & ~3ull) | (src & 3) : dst;
}

void helper_pusha(struct vcpu *v, uint64_t size)
{
    struct stack s = stack_current(v);
    for (unsigned i = 0; i < 8; i++) {
        stack_push(v, &s, v->gpr[i], size);
    }
    stack_commit(v, &s);
}

void helper_popa(struct vcpu *v, uint64_t size)
{
    struct stack s = stack_current(v);
    uint64_t value[8];
    for (unsigned i = 8; i-- > 0;) {
        value[i] = stack_pop(v, &s, size);
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != CPU_RSP) {
            v->gpr[i] = size == 2 ? (v->gpr[i] & ~0xffffull) | (value[i] & 0xffff) : value[i];
        }
    }
    stack_commit(v, &s);
}

/* SDM vol. 2, ENTER. */
void helper_enter(struct vcpu *v, uint64_t size, uint64_t packed)
{
    struct stack s = stack_current(v);
    unsigned level = packed >> 16 & 31;
    uint16_t alloc = packed;
    stack_push(v, &s, v->gpr[CPU_RBP], size);
    uint64_t frame = s.rsp;
    struct stack b = s;
    b.rsp = v->gpr[CPU_RBP];
    for (unsigned i = 1; i < level; i++) {
        b.rsp = (b.rsp & ~b.mask) | ((b.rsp - size) & b.mask);
        struct stack peek = b;
        stack_push(v, &s, stack_pop(v, &peek, size), size);
    }
    if (level) {
        stack_push(v, &s, frame, size);
    }
    s.rsp = (s.rsp & ~s.mask) | ((s.rsp - alloc) & s.mask);
    mem_check_write(v, (s.rsp & s.mask) + s.base, size, s.index);
    v->gpr[CPU_RBP] = size == 2   ? (v->gpr[CPU_RBP] & ~0xffffull) | (frame & 0xffff)
                      : size == 4 ? (uint32_t)frame
                                  : frame;
    stack_commit(v, &s);
}
