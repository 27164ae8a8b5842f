/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "encode.h"

#include <string.h>

#define RSP 4u
#define RBP 5u

/* Page 0 and 5 are missing, page 4 is read-only (test_sequences.c). Two regions have the border of
 * a unit between writable pages or behind the last one. */
const uint64_t region_start[REGIONS] = {
    0x10000000,     CONTROL - 0x40000000,  0x40000000000 - 3 * 4096,
    0x540000000000, 0x7c0000000000 - 4096, 0xc0000000000 - 5 * 4096,
};

static uint64_t rng_state = 1;
static struct sequence *seq;
static bool pointer[16]; /* probably points into a region */
static unsigned counter; /* the loop's, written by nothing else */

void sequence_seed(uint64_t seed)
{
    rng_state = seed ? seed : 1;
}

uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x2545f4914f6cdd1dull;
}

unsigned below(unsigned n)
{
    return (rng() >> 33) % n;
}

uint64_t region_pointer(void)
{
    uint64_t start = region_start[below(REGIONS)];
    switch (below(40)) {
    case 0: /* around a border of pages */
        return start + 4096 * (1 + below(7)) - below(40);
    case 1:
        return start + 4096 + below(3 * 4096);
    default:
        return start + 0x1800 + (below(0x1000) & ~31u);
    }
}

static struct instruction *fresh(void)
{
    struct instruction *x = &seq->ins[seq->count++];
    memset(x, 0, sizeof *x);
    return x;
}

static bool full(void)
{
    return seq->count + 16 > SEQUENCE_MAX;
}

/* encode(), at random with GS, whose base is 0 in both worlds, and with AH..BH for SPL..DIL. */
static void enc(struct instruction *x, unsigned how, unsigned opcode, unsigned reg,
                const struct mem *m, unsigned rm)
{
    how |= m && below(60) == 0 ? GS : 0;
    encode(x, how | (below(2) ? HB : 0), opcode, reg, m, rm);
}

/* --- choosing --- */

static unsigned any_reg(void)
{
    static const uint8_t favoured[] = {1, 4, 5, 12, 13, 14, 15};
    return below(2) ? favoured[below(sizeof favoured)] : below(16);
}

/* Makes an operand aligned, as some instructions want it, mostly. */
static void align(struct mem *m)
{
    if (below(30)) {
        m->disp &= ~31;
        m->target &= ~31ull;
        m->index = m->base == NONE ? m->index : NONE;
    }
}

/* A register to write data to; pointers are mostly spared, rsp nearly always. */
static unsigned target_reg(void)
{
    for (unsigned tries = 0;; tries++) {
        unsigned r = any_reg();
        if (r == counter || (r == RSP && below(64)) || (pointer[r] && tries < 8 && below(12))) {
            continue;
        }
        return r;
    }
}

static unsigned pointer_reg(void)
{
    for (unsigned tries = 0; tries < 40; tries++) {
        unsigned r = any_reg();
        if (pointer[r]) {
            return r;
        }
    }
    return NONE;
}

static void data(unsigned r)
{
    pointer[r] = false;
}

/* mov r64, imm64 */
static void put_imm64(unsigned r, uint64_t value)
{
    struct instruction *x = fresh();
    byte(x, 0x48 | (r >> 3));
    byte(x, 0xb8 | (r & 7));
    word(x, value, 8);
}

static unsigned aimed_reg(void)
{
    unsigned r = pointer_reg();
    if (r == NONE || below(40) == 0) {
        do {
            r = any_reg();
        } while (r == counter);
        put_imm64(r, region_pointer());
        pointer[r] = true;
    }
    return r;
}

static int32_t displacement(void)
{
    switch (below(80)) {
    case 0:
        return (int32_t)(below(0x4000) - 0x2000);
    case 1:
        return 4096 - (int32_t)below(64);
    case 2:
    case 3:
    case 4:
    case 5:
        return (int32_t)(below(256) - 128) * (below(4) ? 1 : 9);
    default: /* where pointers lie */
        return (int32_t)(below(64) - 32) * (below(4) ? 8 : 32);
    }
}

static struct mem memory(void)
{
    struct mem m = {.base = NONE, .index = NONE};
    unsigned kind = below(32);
    if (kind < 3) {
        m.absolute = true;
        m.target = region_start[REGION_LOW] + REGION_TARGET + displacement();
        return m;
    }
    if (kind < 6) {
        m.rip = true;
        m.target = region_start[REGION_NEAR] + REGION_TARGET + displacement();
        return m;
    }
    if (kind == 6 && below(30) == 0) {
        m.base = any_reg(); /* whatever is in it */
        m.disp = displacement();
        return m;
    }
    m.base = aimed_reg();
    m.disp = displacement();
    if (kind < 13 && m.base != counter) { /* an index that is made small first */
        unsigned r = target_reg();
        if (r != RSP && r != m.base) {
            if (below(16)) {
                struct instruction *x = fresh();
                if (below(2)) { /* movzx r32, byte r */
                    enc(x, B8, 0x0fb6, r, NULL, below(8));
                } else { /* mov r, imm */
                    enc(x, W, 0xc7, 0, NULL, r);
                    word(x, (uint32_t)(below(512) - 256), 4);
                }
                data(r);
            }
            m.index = r;
            m.scale = below(4);
        } else if (r == RSP) {
            return m;
        }
    } else if (kind == 13 && below(3) == 0) { /* far displacement and a base to match */
        int32_t far = (int32_t)rng();
        unsigned r = target_reg();
        if (r != RSP) {
            put_imm64(r, region_pointer() - far);
            data(r);
            m.base = r;
            m.disp = far;
        }
    } else if (kind == 14 && m.base != RSP && below(3) == 0) { /* the index is what points */
        m.index = m.base;
        m.scale = 0;
        m.base = NONE;
    }
    return m;
}

static unsigned size_how(unsigned *size)
{
    static const uint8_t sizes[] = {2, 4, 4, 8, 8, 8};
    *size = sizes[below(sizeof sizes)];
    return *size == 8 ? W : *size == 2 ? P6 : 0;
}

/* --- kinds of instructions --- */

static void op_load(void)
{
    struct mem m = memory();
    unsigned size, how = size_how(&size), r = target_reg();
    struct instruction *x = fresh();
    switch (below(6)) {
    case 0:
        enc(x, B8, 0x8a, r, &m, 0);
        break;
    case 1:
        enc(x, how | B8, below(2) ? 0x0fb6 : 0x0fbe, r, &m, 0);
        break;
    case 2:
        enc(x, W, below(2) ? 0x63 : 0x0fb7, r, &m, 0);
        break;
    default:
        enc(x, how, 0x8b, r, &m, 0);
        pointer[r] = size == 8; /* memory holds pointers as well */
        return;
    }
    data(r);
}

static void op_store(void)
{
    struct mem m = memory();
    unsigned size, how = size_how(&size), r = any_reg();
    struct instruction *x = fresh();
    switch (below(6)) {
    case 0:
        enc(x, B8, 0x88, r, &m, 0);
        break;
    case 1:
        enc(x, 0, 0xc6, 0, &m, 0);
        byte(x, rng());
        break;
    case 2:
        enc(x, how, 0xc7, 0, &m, 0);
        word(x, rng(), size == 2 ? 2 : 4);
        break;
    default:
        enc(x, how, 0x89, r, &m, 0);
    }
}

static void op_alu(void)
{
    struct mem m = memory();
    unsigned size, how = size_how(&size), alu = below(8), r = any_reg();
    struct instruction *x;
    switch (below(6)) {
    case 0:
        r = target_reg();
        x = fresh();
        enc(x, how, alu << 3 | 3, r, &m, 0);
        data(r);
        break;
    case 1:
        x = fresh();
        enc(x, how | (alu != 7 && below(4) == 0 ? LK : 0), alu << 3 | 1, r, &m, 0);
        break;
    case 2:
        x = fresh();
        enc(x, B8, alu << 3, r, &m, 0);
        break;
    case 3:
        x = fresh();
        enc(x, how, 0x83, alu, &m, 0);
        byte(x, rng());
        break;
    case 4: { /* inc, dec; not, neg */
        bool unary = below(2);
        x = fresh();
        enc(x, how | (below(4) ? 0 : LK), unary ? 0xf7 : 0xff, below(2) + 2 * unary, &m, 0);
        break;
    }
    default:
        x = fresh();
        enc(x, how, below(2) ? 0x85 : 0x39, r, &m, 0);
    }
}

/* Arithmetic on registers only, most of it on those that point somewhere. */
static void op_move_base(void)
{
    unsigned r = aimed_reg(), d = target_reg();
    struct instruction *x;
    if (r == counter) {
        return;
    }
    switch (below(14)) {
    case 0:
    case 1:
        x = fresh();
        enc(x, W, 0x83, below(2) ? 0 : 5, NULL, r); /* add, sub imm8 */
        byte(x, rng());
        return;
    case 2:
        x = fresh();
        enc(x, W, 0xff, below(2), NULL, r);
        return;
    case 3:
    case 4:
        x = fresh();
        enc(x, W, 0x89, r, NULL, d);
        pointer[d] = pointer[r];
        return;
    case 5:
    case 6: {
        struct mem m = {.base = r, .index = NONE, .disp = displacement()};
        x = fresh();
        enc(x, below(8) ? W : 0, 0x8d, d, &m, 0);
        pointer[d] = pointer[r];
        return;
    }
    case 7:
        x = fresh();
        enc(x, W, 0x87, r, NULL, d); /* xchg */
        pointer[r] ^= pointer[d];
        pointer[d] ^= pointer[r];
        pointer[r] ^= pointer[d];
        return;
    case 8: {
        unsigned other = aimed_reg();
        if (other != counter) {
            x = fresh();
            enc(x, W, 0x0f40 + below(16), r, NULL, other); /* cmov */
        }
        return;
    }
    case 9:
        x = fresh();
        enc(x, W, 0x83, 4, NULL, r); /* and r, -16 */
        byte(x, below(2) ? 0xf0 : 0xc0);
        return;
    case 10: {
        struct mem m = {.base = r, .index = d == RSP ? NONE : d, .scale = below(4)};
        unsigned to = target_reg();
        x = fresh();
        enc(x, W, 0x8d, to, &m, 0);
        data(to);
        return;
    }
    case 11: /* add imm32 to and fro: far away in between */
        x = fresh();
        enc(x, W, 0x81, 0, NULL, r);
        word(x, 0x7ffff000, 4);
        if (below(8) == 0) {
            data(r);
            return;
        }
        for (unsigned i = below(3); i--;) {
            op_store();
        }
        x = fresh();
        enc(x, W, 0x81, 5, NULL, r);
        word(x, 0x7ffff000, 4);
        return;
    case 12: { /* lea rip */
        struct mem m = {.base = NONE,
                        .index = NONE,
                        .rip = true,
                        .target = region_start[REGION_NEAR] + REGION_TARGET};
        x = fresh();
        enc(x, W, 0x8d, d, &m, 0);
        pointer[d] = true;
        return;
    }
    default:
        x = fresh();
        byte(x, 0x48 | d >> 3); /* bswap */
        byte(x, 0x0f);
        byte(x, 0xc8 | (d & 7));
        data(d);
    }
}

static void op_data(void)
{
    unsigned size, how = size_how(&size), d = target_reg(), r = any_reg();
    struct instruction *x = fresh();
    switch (below(9)) {
    case 0:
        enc(x, how, below(8) << 3 | 1, r, NULL, d);
        break;
    case 1:
        enc(x, how, 0xc1, 4 + below(2), NULL, d);
        byte(x, below(64));
        break;
    case 2:
        enc(x, how, 0xd3, below(2) ? 4 : 5 + 2 * below(2), NULL, d);
        break;
    case 3:
        enc(x, W, 0x63, d, NULL, r);
        break;
    case 4:
        enc(x, B8, 0x0f90 + below(16), 0, NULL, d);
        break;
    case 5:
        enc(x, how, 0x0faf, d, NULL, r);
        break;
    case 6: { /* byte registers, high ones too; rSP's low byte and the counter excepted */
        unsigned to = below(4);
        bool high = below(2);
        if (to == counter) {
            to = 0;
        }
        byte(x, below(2) ? 0x88 : 0x00); /* mov/add rm8, r8 */
        byte(x, 0xc0 | below(8) << 3 | (to + (high ? 4 : 0)));
        d = to;
        break;
    }
    case 7:
        enc(x, how, 0x0f40 + below(16), d, NULL, r);
        break;
    default:
        byte(x, 0x40 | d >> 3);
        byte(x, 0xb8 | (d & 7));
        word(x, rng(), 4);
    }
    data(d);
}

static void op_stack(void)
{
    unsigned r = target_reg();
    struct instruction *x;
    struct mem m;
    switch (below(12)) {
    case 0:
    case 1:
    case 2:
    case 3: {
        unsigned from = any_reg();
        x = fresh();
        if (below(12) == 0) {
            byte(x, 0x66);
        }
        if (from >= 8) {
            byte(x, 0x41);
        }
        byte(x, 0x50 | (from & 7));
        return;
    }
    case 4:
    case 5:
    case 6:
        x = fresh();
        if (below(16) == 0) {
            byte(x, 0x66);
        }
        if (r >= 8) {
            byte(x, 0x41);
        }
        byte(x, 0x58 | (r & 7));
        pointer[r] = below(4) != 0;
        return;
    case 7:
        m = memory();
        x = fresh();
        enc(x, 0, 0xff, 6, &m, 0);
        return;
    case 8:
        m = memory();
        x = fresh();
        enc(x, 0, 0x8f, 0, &m, 0);
        return;
    case 9:
        x = fresh();
        byte(x, 0x68);
        word(x, rng(), 4);
        return;
    case 10:
        if (pointer[RBP] && counter != RBP) {
            x = fresh();
            byte(x, 0xc9); /* leave */
            pointer[RSP] = true;
            pointer[RBP] = below(2);
        }
        return;
    default:
        x = fresh();
        if (below(4) == 0) {
            byte(x, 0x9c);          /* pushf */
        } else if (below(3) == 0) { /* enter 32, 0 or 1 */
            byte(x, 0xc8);
            word(x, 32, 2);
            byte(x, below(2));
            pointer[RBP] = true;
        } else { /* mov rbp, rsp */
            enc(x, W, 0x89, RSP, NULL, RBP);
            pointer[RBP] = pointer[RSP];
        }
    }
}

static void op_shift(void)
{
    static const uint8_t digits[] = {0, 1, 2, 3, 4, 5, 7};
    struct mem m = memory();
    unsigned size, how = size_how(&size), r = any_reg();
    struct instruction *x = fresh();
    switch (below(4)) {
    case 0:
        enc(x, how, 0xc1, digits[below(7)], &m, 0);
        byte(x, below(64));
        break;
    case 1:
        enc(x, how, below(2) ? 0x0fa5 : 0x0fad, r, &m, 0);
        break;
    default:
        enc(x, below(4) ? how : 0, below(4) ? 0xd3 : 0xd2, digits[below(7)], &m, 0);
    }
}

static void op_vector(void)
{
    struct mem m = memory();
    unsigned r = below(16), v = below(16), g = target_reg();
    bool l = below(2);
    struct instruction *x = fresh();
    switch (below(16)) {
    case 0:
        enc(x, 0, 0x0f10, r, &m, 0);
        break;
    case 1:
        enc(x, 0, 0x0f11, r, &m, 0);
        break;
    case 2:
        enc(x, F3, 0x0f6f, r, &m, 0);
        break;
    case 3:
        enc(x, F3, 0x0f7f, r, &m, 0);
        break;
    case 4:
        align(&m);
        enc(x, P6, below(2) ? 0x0ffe : 0x0fef, r, &m, 0); /* aligned, else #GP */
        break;
    case 5:
        align(&m);
        enc(x, P6, below(2) ? 0x0f6f : 0x0f7f, r, &m, 0);
        break;
    case 6:
        enc(x, F3, 0x0f7e, r, &m, 0); /* movq */
        break;
    case 7:
        enc(x, P6, 0x0fd6, r, &m, 0);
        break;
    case 8:
        enc(x, P6 | W, 0x0f7e, r, NULL, g); /* movq g, x */
        data(g);
        break;
    case 9:
        enc(x, P6, 0x0fc4, r, &m, 0); /* pinsrw */
        byte(x, below(8));
        break;
    case 10:
        vex(x, 1, 2, false, l, below(2) ? 0x6f : 0x7f, r, 0, &m, 0);
        break;
    case 11:
        vex(x, 1, 1, false, l, 0xfe, r, v, &m, 0);
        break;
    case 12:
        vex(x, 2, 1, false, l, 0x58 + below(2), r, 0, &m, 0); /* vpbroadcastd/q */
        break;
    case 13:
        align(&m);
        vex(x, 1, 1, false, l, below(2) ? 0x6f : 0x7f, r, 0, &m, 0); /* vmovdqa */
        break;
    case 14:
        enc(x, F2, 0x0f12, r, &m, 0); /* movddup */
        break;
    default:
        vex(x, 1, 0, false, l, 0x10 + below(2), r, 0, &m, 0); /* vmovups */
    }
}

static void op_atomic(void)
{
    struct mem m = memory();
    unsigned size, how = size_how(&size), r = target_reg();
    struct instruction *x = fresh();
    unsigned lock = below(2) ? LK : 0;
    switch (below(5)) {
    case 0:
        enc(x, how | lock, 0x0fb1, r, &m, 0);
        if (counter != 0) {
            data(0);
        }
        break;
    case 1:
        enc(x, how | lock, 0x0fc1, r, &m, 0);
        data(r);
        break;
    case 2:
        enc(x, how, 0x87, r, &m, 0);
        data(r);
        break;
    case 3:
        align(&m);
        enc(x, lock | (below(2) ? W : 0), 0x0fc7, 1, &m, 0);
        data(0);
        data(2);
        break;
    default:
        enc(x, B8 | lock, 0x0fb0, r, &m, 0);
        data(0);
    }
}

static void op_bits(void)
{
    static const unsigned ops[] = {0x0fa3, 0x0fab, 0x0fb3, 0x0fbb};
    struct mem m = memory();
    unsigned size, how = size_how(&size), k = below(4), r = target_reg();
    if (below(3) == 0) {
        struct instruction *x = fresh();
        enc(x, how | (k && below(3) == 0 ? LK : 0), 0x0fba, 4 + k, &m, 0);
        byte(x, rng());
        return;
    }
    if (r != m.base && r != m.index && r != RSP) {
        struct instruction *x = fresh();
        enc(x, W, 0xc7, 0, NULL, r);
        word(x, (uint32_t)(below(16384) - 8192), 4);
        data(r);
    }
    enc(fresh(), how, ops[k], r, &m, 0);
}

static void op_other(void)
{
    struct mem m = memory();
    unsigned size, how = size_how(&size), r = target_reg(), a = any_reg();
    struct instruction *x = fresh();
    switch (below(13)) {
    case 0:
        enc(x, how, 0x0faf, r, &m, 0);
        break;
    case 1:
        enc(x, how, 0x69, r, &m, 0);
        word(x, rng(), size == 2 ? 2 : 4);
        break;
    case 2:
        enc(x, how, 0x0f40 + below(16), r, &m, 0);
        break;
    case 3:
        enc(x, 0, 0x0f90 + below(16), 0, &m, 0);
        return;
    case 4:
        enc(x, how, 0xf7, 4 + below(2), &m, 0); /* mul, imul */
        data(0);
        data(2);
        return;
    case 5:
        enc(x, how, 0x0f38f0 + below(2), r, &m, 0); /* movbe */
        break;
    case 6:
        vex(x, 2, 1 + below(3), below(2), false, 0xf7, r, a, &m, 0); /* shlx, sarx, shrx */
        break;
    case 7:
        vex(x, 2, 2 + below(2), below(2), false, 0xf5, r, a, &m, 0); /* pext, pdep */
        break;
    case 8:
        vex(x, 2, 3, below(2), false, 0xf6, r, (a == counter || a == RSP) ? r : a, &m,
            0); /* mulx */
        data(a);
        break;
    case 9:
        enc(x, F3 | (how & W), 0x0fb8, r, &m, 0); /* popcnt */
        break;
    case 10: /* moffs */
        byte(x, 0x48);
        byte(x, 0xa1 + 2 * below(2));
        word(x, region_pointer(), 8);
        data(0);
        return;
    case 11:
        byte(x, 0xd7); /* xlat */
        data(0);
        return;
    default:
        enc(x, how & W, 0x0fc3, a, &m, 0); /* movnti */
        return;
    }
    data(r);
}

static void op_string(void)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf};
    bool rep = below(2), scan;
    struct instruction *x;
    for (unsigned r = 6; r < 8; r++) {
        if (!pointer[r] || below(4) == 0) {
            put_imm64(r, region_pointer());
            pointer[r] = true;
        }
    }
    if (rep) {
        x = fresh();
        byte(x, 0xb9);
        word(x, below(40), 4);
        data(1);
    }
    unsigned op = ops[below(sizeof ops)];
    scan = op == 0xa6 || op == 0xa7 || op == 0xae || op == 0xaf;
    x = fresh();
    if (rep) {
        byte(x, scan && below(2) ? 0xf2 : 0xf3);
    }
    if (below(2)) {
        byte(x, 0x48);
    }
    byte(x, op);
    if (op == 0xac || op == 0xad) {
        data(0);
    }
    if (below(24) == 0) {
        byte(fresh(), below(2) ? 0xfd : 0xfc); /* std, cld */
    }
}

/* Bases that lead nowhere, or to another unit. */
static void op_wild(void)
{
    static const uint64_t far[] = {0x40000000000,      0x20000000000,      0x800000000000,
                                   0x8000000000000000, 0x4000000000000000, 0xffff800000000000,
                                   0x1000000000000,    0xfffffc0000000000, 0x200000000};
    unsigned r = aimed_reg(), t = target_reg();
    if (r == t || t == RSP || r == counter || (r == RSP && below(4))) {
        return;
    }
    put_imm64(t, far[below(sizeof far / sizeof far[0])]);
    data(t);
    enc(fresh(), W, below(2) ? 0x01 : 0x29, t, NULL, r);
    pointer[r] = below(2);
    if (below(3) == 0) { /* and back */
        enc(fresh(), W, 0x29, t, NULL, r);
        pointer[r] = true;
    }
}

static void op_simple(void)
{
    if (full()) {
        return;
    }
    static void (*const kinds[])(void) = {
        op_load,   op_load,  op_load,      op_load,      op_store,     op_store,
        op_store,  op_store, op_alu,       op_alu,       op_alu,       op_stack,
        op_stack,  op_stack, op_move_base, op_move_base, op_data,      op_data,
        op_shift,  op_shift, op_vector,    op_vector,    op_atomic,    op_bits,
        op_string, op_other, op_other,     op_move_base, op_move_base,
    };
    if (below(90) == 0) {
        op_wild();
    } else {
        kinds[below(sizeof kinds / sizeof kinds[0])]();
    }
}

static void some(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        op_simple();
    }
}

static void op_jump(unsigned opcode, bool call)
{
    struct instruction *x = fresh();
    if (opcode > 0xff) {
        byte(x, opcode >> 8);
    }
    byte(x, opcode);
    relative(x, 4, true, 0);
    some(call ? below(3) : 1 + below(5));
    x->target = seq->count;
}

/* call over some code to a piece that returns to it, with `some` in between; then on behind it */
static void op_call(void)
{
    struct instruction *call = fresh();
    byte(call, 0xe8);
    relative(call, 4, true, 0);
    some(below(3));
    struct instruction *over = fresh();
    byte(over, 0xe9);
    relative(over, 4, true, 0);
    call->target = seq->count;
    some(below(4));
    struct instruction *ret = fresh();
    if (below(6) == 0) {
        byte(ret, 0xc2);
        word(ret, 8 * below(3), 2);
    } else {
        byte(ret, 0xc3);
    }
    over->target = seq->count;
}

/* lea r, [target]; jmp or call r */
static void op_indirect(void)
{
    unsigned r = target_reg();
    if (r == RSP) {
        return;
    }
    struct instruction *lea = fresh();
    byte(lea, 0x48 | (r >> 3) << 2);
    byte(lea, 0x8d);
    byte(lea, (r & 7) << 3 | 5);
    relative(lea, 4, true, 0);
    data(r);
    enc(fresh(), 0, 0xff, below(2) ? 4 : 2, NULL, r);
    some(below(2));
    lea->target = seq->count;
}

static void op_loop(void)
{
    unsigned r = counter;
    struct instruction *x = fresh();
    if (r >= 8) {
        byte(x, 0x41);
    }
    byte(x, 0xb8 | (r & 7));
    word(x, 1 + below(below(4) ? 4 : 24), 4);
    unsigned start = seq->count;
    some(1 + below(10));
    enc(fresh(), 0, 0xff, 1, NULL, r); /* dec */
    x = fresh();
    byte(x, 0x0f);
    byte(x, 0x85);
    relative(x, 4, true, start);
}

static void op_counted(void)
{
    struct instruction *x = fresh();
    if (below(2)) { /* jrcxz, forward */
        byte(x, 0xe3);
        relative(x, 1, true, 0);
        some(1);
        x->target = seq->count;
        return;
    }
    byte(x, 0xb9);
    word(x, 1 + below(3), 4);
    data(1);
    unsigned start = seq->count;
    struct mem m = memory();
    enc(fresh(), 0, 0x31, any_reg(), &m, 0); /* short enough for an 8-bit displacement */
    x = fresh();
    byte(x, 0xe0 + below(3));
    relative(x, 1, true, start);
}

static void op_any(void)
{
    switch (below(24)) {
    case 0:
    case 1:
    case 2:
        op_jump(0x0f80 + below(16), false);
        break;
    case 3:
        op_jump(0xe9, false);
        break;
    case 4:
        op_call();
        break;
    case 5:
        below(2) ? op_loop() : op_indirect();
        break;
    case 6:
        if (below(3) == 0) {
            op_counted();
        }
        break;
    default:
        op_simple();
    }
}

void sequence_make(struct sequence *s, unsigned length)
{
    static const uint8_t counters[] = {8, 9, 10, 11, 12, 13, 14, 15};
    seq = s;
    s->count = 0;
    counter = counters[below(sizeof counters)];
    for (unsigned r = 0; r < 16; r++) {
        pointer[r] = r == RSP || below(3) != 0;
    }
    pointer[1] = below(2);
    pointer[counter] = false;
    while (s->count < length && s->count + 24 < SEQUENCE_MAX) {
        op_any();
    }
}
