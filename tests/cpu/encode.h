/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Puts instructions with registers and memory operands together, for sequence.c. */
#pragma once

#include <string.h>

#include "sequence.h"

#define NONE 255u

struct mem {
    unsigned base, index, scale; /* scale as its logarithm */
    int32_t disp;
    bool rip, absolute;
    uint64_t target;
};

static inline void byte(struct instruction *x, unsigned b)
{
    x->byte[x->length++] = b;
}

static inline void word(struct instruction *x, uint64_t v, unsigned size)
{
    memcpy(x->byte + x->length, &v, size);
    x->length += size;
}

static inline void relative(struct instruction *x, unsigned size, bool branch, uint64_t target)
{
    x->rel_at = x->length;
    x->rel_size = size;
    x->branch = branch;
    x->target = target;
    word(x, 0, size);
}

static inline void modrm_mem(struct instruction *x, unsigned reg, const struct mem *m)
{
    reg = (reg & 7) << 3;
    if (m->rip) {
        byte(x, reg | 5);
        relative(x, 4, false, m->target);
        return;
    }
    if (m->absolute) {
        byte(x, reg | 4);
        byte(x, 0x25);
        word(x, m->target, 4);
        return;
    }
    bool sib = m->index != NONE || (m->base & 7) == 4 || m->base == NONE;
    bool small = m->disp == (int8_t)m->disp && m->base != NONE;
    unsigned mod = m->base == NONE ? 0 : !m->disp && (m->base & 7) != 5 ? 0 : small ? 1 : 2;
    byte(x, mod << 6 | reg | (sib ? 4 : m->base & 7));
    if (sib) {
        byte(x, m->scale << 6 | (m->index == NONE ? 4 : m->index & 7) << 3 |
                    (m->base == NONE ? 5 : m->base & 7));
    }
    if (mod == 2 || m->base == NONE) {
        word(x, (uint32_t)m->disp, 4);
    } else if (mod == 1) {
        byte(x, m->disp & 0xff);
    }
}

static inline unsigned mem_xb(const struct mem *m)
{
    unsigned b = m->base == NONE || m->rip || m->absolute ? 0 : m->base >> 3 & 1;
    unsigned i = m->index == NONE || m->rip || m->absolute ? 0 : m->index >> 3 & 1;
    return i << 1 | b;
}

#define W  1u /* REX.W */
#define B8 2u /* byte registers: a REX prefix for SPL..DIL */
#define P6 4u /* 66 */
#define F2 8u
#define F3 16u
#define LK 32u /* F0 */
#define HB 64u /* high-byte registers rather than SPL..DIL */
#define GS 128u

/* Legacy encoding; `opcode` with its escape bytes, e.g. 0x0fb6. m: memory, else register rm. */
static inline void encode(struct instruction *x, unsigned how, unsigned opcode, unsigned reg,
                          const struct mem *m, unsigned rm)
{
    unsigned xb = m ? mem_xb(m) : rm >> 3 & 1;
    unsigned rex = (how & W ? 8 : 0) | (reg >> 3 & 1) << 2 | xb;
    bool low = (how & B8) && ((reg >= 4 && reg < 8) || (!m && rm >= 4 && rm < 8));
    if (how & GS) {
        byte(x, 0x65);
    }
    if (how & LK) {
        byte(x, 0xf0);
    }
    if (how & P6) {
        byte(x, 0x66);
    }
    if (how & (F2 | F3)) {
        byte(x, how & F2 ? 0xf2 : 0xf3);
    }
    if (rex || (low && !(how & HB))) { /* without REX they are AH..BH */
        byte(x, 0x40 | rex);
    }
    if (opcode > 0xffff) {
        byte(x, opcode >> 16);
    }
    if (opcode > 0xff) {
        byte(x, opcode >> 8);
    }
    byte(x, opcode);
    if (m) {
        modrm_mem(x, reg, m);
    } else {
        byte(x, 0xc0 | (reg & 7) << 3 | (rm & 7));
    }
}

/* VEX; map 1..3, pp as in the prefix. */
static inline void vex(struct instruction *x, unsigned map, unsigned pp, bool w, bool l,
                       unsigned op, unsigned reg, unsigned v, const struct mem *m, unsigned rm)
{
    unsigned xb = m ? mem_xb(m) : rm >> 3 & 1;
    byte(x, 0xc4);
    byte(x, ((~(reg >> 3) & 1) << 7) | ((~(xb >> 1) & 1) << 6) | ((~xb & 1) << 5) | map);
    byte(x, w << 7 | (~v & 15) << 3 | l << 2 | pp);
    byte(x, op);
    if (m) {
        modrm_mem(x, reg, m);
    } else {
        byte(x, 0xc0 | (reg & 7) << 3 | (rm & 7));
    }
}
