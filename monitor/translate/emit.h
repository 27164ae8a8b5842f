/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small x86-64 assembler for the code cache. Register numbers are the hardware's (0 rax ... 15
 * r15). All jumps within the cache are rel32, so the RW view's addresses serve for both views.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum cond {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

struct emitter {
    uint8_t *p, *end; /* the caller leaves enough room for a whole block */
};

static inline void emit8(struct emitter *e, uint8_t b)
{
    *e->p++ = b;
}
static inline void emit16(struct emitter *e, uint16_t w)
{
    memcpy(e->p, &w, 2);
    e->p += 2;
}
static inline void emit32(struct emitter *e, uint32_t d)
{
    memcpy(e->p, &d, 4);
    e->p += 4;
}
static inline void emit64(struct emitter *e, uint64_t q)
{
    memcpy(e->p, &q, 8);
    e->p += 8;
}
static inline void emit_bytes(struct emitter *e, const void *bytes, unsigned n)
{
    memcpy(e->p, bytes, n);
    e->p += n;
}
static inline void emit_rex(struct emitter *e, bool w, unsigned reg, unsigned index, unsigned base,
                            bool force)
{
    uint8_t rex = 0x40 | w << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
    if (rex != 0x40 || force) {
        emit8(e, rex);
    }
}
/* ModRM and SIB for [base + index*scale + disp]; index RSP: none. */
static inline void emit_modrm_mem(struct emitter *e, unsigned reg, unsigned base, unsigned index,
                                  unsigned scale, int32_t disp)
{
    unsigned mod = disp == 0 && (base & 7) != RBP ? 0 : disp == (int8_t)disp ? 1 : 2;
    if (index == RSP && (base & 7) != RSP) {
        emit8(e, mod << 6 | (reg & 7) << 3 | (base & 7));
    } else {
        unsigned ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
        emit8(e, mod << 6 | (reg & 7) << 3 | 4);
        emit8(e, ss << 6 | (index & 7) << 3 | (base & 7));
    }
    if (mod == 1) {
        emit8(e, disp);
    } else if (mod == 2) {
        emit32(e, disp);
    }
}
/* op reg, gs:[disp] with any prefix-free opcode of one byte (or 0F xx as 0x0Fxx). */
static inline void emit_gs(struct emitter *e, unsigned op, bool w, unsigned reg, uint32_t disp)
{
    emit8(e, 0x65);
    emit_rex(e, w, reg, 0, 0, false);
    if (op > 0xff) {
        emit8(e, op >> 8);
    }
    emit8(e, op);
    emit8(e, (reg & 7) << 3 | 4);
    emit8(e, 0x25);
    emit32(e, disp);
}
/* op reg, gs:[index*8 + disp] */
static inline void emit_gs_index(struct emitter *e, unsigned op, unsigned reg, unsigned index,
                                 uint32_t disp)
{
    emit8(e, 0x65);
    emit_rex(e, true, reg, index, 0, false);
    emit8(e, op);
    emit8(e, (reg & 7) << 3 | 4);
    emit8(e, 3 << 6 | (index & 7) << 3 | 5);
    emit32(e, disp);
}
static inline void emit_load(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_gs(e, 0x8b, true, reg, field);
}
static inline void emit_store(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_gs(e, 0x89, true, reg, field);
}
static inline void emit_load32(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_gs(e, 0x8b, false, reg, field);
}
static inline void emit_store32(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_gs(e, 0x89, false, reg, field);
}
/* The same where nothing is on the stack: RSP is the CPU's address (cpu.h). */
static inline void emit_load_near(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_rex(e, true, reg, 0, 0, false);
    emit8(e, 0x8b);
    emit_modrm_mem(e, reg, RSP, RSP, 1, field);
}
static inline void emit_store_near(struct emitter *e, unsigned reg, uint32_t field)
{
    emit_rex(e, true, reg, 0, 0, false);
    emit8(e, 0x89);
    emit_modrm_mem(e, reg, RSP, RSP, 1, field);
}
/* mov byte gs:[field], imm */
static inline void emit_store_imm8(struct emitter *e, uint32_t field, uint8_t imm)
{
    emit_gs(e, 0xc6, false, 0, field);
    emit8(e, imm);
}
static inline void emit_store_imm32(struct emitter *e, uint32_t field, uint32_t imm)
{
    emit_gs(e, 0xc7, false, 0, field);
    emit32(e, imm);
}
static inline void emit_mov(struct emitter *e, unsigned dst, unsigned src)
{
    emit_rex(e, true, src, 0, dst, false);
    emit8(e, 0x89);
    emit8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}
static inline void emit_mov32(struct emitter *e, unsigned dst, unsigned src)
{
    emit_rex(e, false, src, 0, dst, false);
    emit8(e, 0x89);
    emit8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}
static inline void emit_mov16(struct emitter *e, unsigned dst, unsigned src)
{
    emit8(e, 0x66);
    emit_mov32(e, dst, src);
}
static inline void emit_movzx16(struct emitter *e, unsigned dst, unsigned src)
{
    emit_rex(e, false, dst, 0, src, false);
    emit8(e, 0x0f);
    emit8(e, 0xb7);
    emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}
static inline void emit_mov_imm(struct emitter *e, unsigned dst, uint64_t imm)
{
    if (imm == (uint32_t)imm) {
        emit_rex(e, false, 0, 0, dst, false);
        emit8(e, 0xb8 | (dst & 7));
        emit32(e, imm);
    } else if ((int64_t)imm == (int32_t)imm) {
        emit_rex(e, true, 0, 0, dst, false);
        emit8(e, 0xc7);
        emit8(e, 0xc0 | (dst & 7));
        emit32(e, imm);
    } else {
        emit_rex(e, true, 0, 0, dst, false);
        emit8(e, 0xb8 | (dst & 7));
        emit64(e, imm);
    }
}
/* lea dst, [base + index*scale + disp], 64-bit (or 32-bit result) */
static inline void emit_lea(struct emitter *e, bool w, unsigned dst, unsigned base, unsigned index,
                            unsigned scale, int32_t disp)
{
    emit_rex(e, w, dst, index == RSP ? 0 : index, base, false);
    emit8(e, 0x8d);
    emit_modrm_mem(e, dst, base, index, scale, disp);
}
/* lea dst, [index*scale + disp32] */
static inline void emit_lea_index(struct emitter *e, bool w, unsigned dst, unsigned index,
                                  unsigned scale, int32_t disp)
{
    unsigned ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
    emit_rex(e, w, dst, index, 0, false);
    emit8(e, 0x8d);
    emit8(e, (dst & 7) << 3 | 4);
    emit8(e, ss << 6 | (index & 7) << 3 | 5);
    emit32(e, disp);
}
/* op r/m, reg on registers */
static inline void emit_rr(struct emitter *e, unsigned op, bool w, unsigned reg, unsigned rm)
{
    emit_rex(e, w, reg, 0, rm, false);
    if (op > 0xff) {
        emit8(e, op >> 8);
    }
    emit8(e, op);
    emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
/* group 1 op (/digit) with imm32 or imm8 */
static inline void emit_alu_imm(struct emitter *e, unsigned digit, bool w, unsigned rm, int32_t imm)
{
    emit_rex(e, w, 0, 0, rm, false);
    if (imm == (int8_t)imm) {
        emit8(e, 0x83);
        emit8(e, 0xc0 | digit << 3 | (rm & 7));
        emit8(e, imm);
    } else {
        emit8(e, 0x81);
        emit8(e, 0xc0 | digit << 3 | (rm & 7));
        emit32(e, imm);
    }
}
static inline void emit_shift_imm(struct emitter *e, unsigned digit, bool w, unsigned rm,
                                  unsigned count)
{
    emit_rex(e, w, 0, 0, rm, false);
    emit8(e, 0xc1);
    emit8(e, 0xc0 | digit << 3 | (rm & 7));
    emit8(e, count);
}
/* VEX.L0 three-operand BMI2 forms on 64-bit registers: pp, map 0F38. */
static inline void emit_vex38(struct emitter *e, unsigned pp, unsigned op, unsigned reg,
                              unsigned vvvv, unsigned rm)
{
    emit8(e, 0xc4);
    emit8(e, (reg < 8) << 7 | 1 << 6 | (rm < 8) << 5 | 2);
    emit8(e, 1 << 7 | (~vvvv & 15) << 3 | pp);
    emit8(e, op);
    emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
/* rorx dst, src, count: BMI2, 64 bits */
static inline void emit_rorx(struct emitter *e, unsigned dst, unsigned src, unsigned count)
{
    emit8(e, 0xc4);
    emit8(e, (dst < 8) << 7 | 1 << 6 | (src < 8) << 5 | 3);
    emit8(e, 1 << 7 | 15 << 3 | 3);
    emit8(e, 0xf0);
    emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
    emit8(e, count);
}
/* pext dst, src, gs:[field] */
static inline void emit_pext_gs(struct emitter *e, unsigned dst, unsigned src, uint32_t field)
{
    emit8(e, 0x65);
    emit8(e, 0xc4);
    emit8(e, (dst < 8) << 7 | 1 << 6 | 1 << 5 | 2);
    emit8(e, 1 << 7 | (~src & 15) << 3 | 2);
    emit8(e, 0xf5);
    emit8(e, (dst & 7) << 3 | 4);
    emit8(e, 0x25);
    emit32(e, field);
}
/* Jumps; return the place of the rel32 (or rel8) to patch. */
static inline uint8_t *emit_jmp(struct emitter *e)
{
    emit8(e, 0xe9);
    emit32(e, 0);
    return e->p - 4;
}
/* Fills up with NOPs (SDM vol. 2, NOP: recommended sequences of 1 to 4 bytes). */
static inline void emit_align(struct emitter *e, unsigned align)
{
    static const char nop[5][4] = {"", "\x90", "\x66\x90", "\x0f\x1f\x00", "\x0f\x1f\x40\x00"};
    for (unsigned n; (n = -(uintptr_t)e->p & (align - 1));) {
        n = n < 4 ? n : 4;
        emit_bytes(e, nop[n], n);
    }
}
static inline uint8_t *emit_jcc(struct emitter *e, unsigned cc)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    emit32(e, 0);
    return e->p - 4;
}
static inline uint8_t *emit_jcc8(struct emitter *e, unsigned cc)
{
    emit8(e, 0x70 | cc);
    emit8(e, 0);
    return e->p - 1;
}
static inline uint8_t *emit_jrcxz(struct emitter *e)
{
    emit8(e, 0xe3);
    emit8(e, 0);
    return e->p - 1;
}
static inline void emit_patch32(uint8_t *at, const uint8_t *target)
{
    int32_t rel = (int32_t)(target - (at + 4));
    __atomic_store_n((int32_t *)at, rel, __ATOMIC_RELAXED);
}
static inline void emit_patch8(uint8_t *at, const uint8_t *target)
{
    *at = (uint8_t)(target - (at + 1));
}
static inline void emit_call_to(struct emitter *e, const uint8_t *target)
{
    emit8(e, 0xe8);
    emit32(e, 0);
    emit_patch32(e->p - 4, target);
}
static inline void emit_jmp_to(struct emitter *e, const uint8_t *target)
{
    emit8(e, 0xe9);
    emit32(e, 0);
    emit_patch32(e->p - 4, target);
}
static inline void emit_pushf(struct emitter *e)
{
    emit8(e, 0x9c);
}
static inline void emit_popf(struct emitter *e)
{
    emit8(e, 0x9d);
}
