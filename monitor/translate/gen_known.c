/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of guest registers while a block is made: which window their addresses are in, so
 * that later accesses need no comparison; and whether they hold small indices. And loops: a block
 * that jumps back to its own start is made twice, and the second copy begins with what the first
 * one learned.
 *
 * A register that a round moves, such as a pointer that is counted up, is counted on only if each
 * round accesses memory through it: windows have guard zones of 128 GiB, and in one of these such
 * an access (INFO_LOOP) faults on the host and ends the block.
 */
#include "gen.h"

#include <string.h>

#define MOVED_MAX (1ll << 31)

void known_reset(struct gen *g)
{
    memset(g->known, 0, sizeof g->known);
    memset(g->pair, 0, sizeof g->pair);
    g->small = 0;
}

static struct base_known *pair_of(struct gen *g, const struct address *a)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair_known *p = &g->pair[i];
        if (p->base == a->pair_base && p->index == a->pair_index && p->scale == a->pair_scale) {
            return &p->known;
        }
    }
    struct pair_known *p = &g->pair[g->pair_next++ % PAIRS];
    *p = (struct pair_known){a->pair_base, a->pair_index, a->pair_scale, {0}};
    return &p->known;
}

struct base_known *known_of(struct gen *g, const struct address *a)
{
    return a->base != NO_REG ? &g->known[a->base] : a->pair ? pair_of(g, a) : NULL;
}

void cached_clear(struct gen *g)
{
    memset(g->cached.guest, NO_REG, sizeof g->cached.guest);
    g->caching = false;
}

void cached_resume(struct gen *g)
{
    g->cached = g->cached_before;
    g->caching = true;
}

static unsigned cached_slot(unsigned host)
{
    return host == RCX ? 0 : host == R14 ? 1 : 2;
}

void cached_forget(struct gen *g, unsigned host)
{
    g->cached.guest[cached_slot(host)] = NO_REG;
}

void cached_note(struct gen *g, unsigned host, unsigned guest)
{
    if (g->caching) {
        g->cached.guest[cached_slot(host)] = guest;
    }
}

unsigned cached_host(const struct gen *g, unsigned guest)
{
    static const uint8_t host[3] = {RCX, R14, R15};
    for (unsigned i = 0; i < 3; i++) {
        if (g->cached.guest[i] == guest) {
            return host[i];
        }
    }
    return NO_REG;
}

static void made_forget(struct gen *g, unsigned guest)
{
    g->made.ok &= g->made.base != guest && g->made.index != guest;
}

static void known_move(struct base_known *k, int64_t by)
{
    k->moved += by;
    k->ok &= k->moved >= -MOVED_MAX && k->moved <= MOVED_MAX;
}

/* `by` is the size of an immediate or displacement: 32 bits. */
static void register_move(struct gen *g, unsigned guest, int64_t by)
{
    known_move(&g->known[guest], by);
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair_known *p = &g->pair[i];
        if (p->known.ok && p->base == guest) {
            known_move(&p->known, by);
        }
        if (p->known.ok && p->index == guest) {
            known_move(&p->known, by * p->scale);
        }
    }
    made_forget(g, guest);
    g->loop.drift[guest] += by;
    if (g->loop.drift[guest] > MOVED_MAX || g->loop.drift[guest] < -MOVED_MAX) {
        g->loop.gone |= 1 << guest;
    }
    g->written |= 1 << guest;
}

/* The register has a new value, of which `k` is known. */
static void register_set(struct gen *g, unsigned guest, struct base_known k)
{
    k.used = false;
    g->known[guest] = k;
    for (unsigned i = 0; i < PAIRS; i++) {
        g->pair[i].known.ok &= g->pair[i].base != guest && g->pair[i].index != guest;
    }
    made_forget(g, guest);
    g->loop.gone |= 1 << guest;
    g->written |= 1 << guest;
}

static bool is_gpr64(const ZydisDecodedOperand *op)
{
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_RAX &&
           op->reg.value <= ZYDIS_REGISTER_R15;
}

/* Does the instruction leave an index of at most 32 bits in its first operand, a register? */
static bool makes_small(const struct insn *in)
{
    const ZydisDecodedOperand *op = in->op;
    switch (in->d.mnemonic) {
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSXD:
        return op[0].size >= 32;
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
        return op[0].size == 32; /* zero-extended */
    default:
        return false;
    }
}

static void small_update(struct gen *g)
{
    const struct insn *in = g->in;
    bool high, copied = in->d.mnemonic == ZYDIS_MNEMONIC_MOV && is_gpr64(&in->op[0]) &&
                        is_gpr64(&in->op[1]) &&
                        (g->small & 1 << (in->op[1].reg.value - ZYDIS_REGISTER_RAX));
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &in->op[i];
        unsigned guest =
            op->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_number(op->reg.value, &high) : NO_REG;
        if (guest != NO_REG && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
            g->small &= ~(1 << guest);
            g->small |= (i == 0 && (copied || makes_small(in))) << guest;
        }
    }
}

static bool update_lea(struct gen *g, unsigned first)
{
    const ZydisDecodedOperand *op = g->in->op;
    bool high;
    unsigned base = op[1].mem.base ? gpr_number(op[1].mem.base, &high) : NO_REG;
    if (first == NO_REG || base == NO_REG || op[1].mem.index || g->in->d.address_width != 64) {
        return false;
    }
    if (base != first) {
        register_set(g, first, g->known[base]);
        known_move(&g->known[first], op[1].mem.disp.value);
    } else {
        register_move(g, first, op[1].mem.disp.value);
    }
    return true;
}

/* Writes that keep something known; true: dealt with. */
static bool update_special(struct gen *g)
{
    const ZydisDecodedOperand *op = g->in->op;
    unsigned first = is_gpr64(&op[0]) ? op[0].reg.value - ZYDIS_REGISTER_RAX : NO_REG;
    int64_t word = g->in->d.operand_width == 16 ? 2 : 8;
    bool imm = op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (first == NO_REG || !imm) {
            return false;
        }
        register_move(g, first,
                      g->in->d.mnemonic == ZYDIS_MNEMONIC_ADD ? op[1].imm.value.s
                                                              : -op[1].imm.value.s);
        return true;
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
        if (first == NO_REG) {
            return false;
        }
        register_move(g, first, g->in->d.mnemonic == ZYDIS_MNEMONIC_INC ? 1 : -1);
        return true;
    case ZYDIS_MNEMONIC_MOV:
        if (first == NO_REG || !is_gpr64(&op[1])) {
            return false;
        }
        register_set(g, first, g->known[op[1].reg.value - ZYDIS_REGISTER_RAX]);
        return true;
    case ZYDIS_MNEMONIC_LEA:
        return update_lea(g, first);
    case ZYDIS_MNEMONIC_PUSH:
        register_move(g, CPU_RSP, -word);
        return true;
    case ZYDIS_MNEMONIC_POP:
        if (first == NO_REG || first == CPU_RSP) {
            return false;
        }
        register_set(g, first, (struct base_known){0});
        register_move(g, CPU_RSP, word);
        return true;
    default:
        return false;
    }
}

void known_update(struct gen *g)
{
    bool high;
    g->no_window = false;
    g->r15_unit = g->r15_kept ? g->r15_unit : NO_UNIT;
    if (g->called || !g->long_mode) {
        known_reset(g);
        g->made.ok = false;
        g->written = g->loop.gone = 0xffff;
        g->called = false;
        return;
    }
    small_update(g);
    if (update_special(g)) {
        return;
    }
    for (unsigned i = 0; i < g->in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &g->in->op[i];
        unsigned guest =
            op->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_number(op->reg.value, &high) : NO_REG;
        if (guest != NO_REG && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
            register_set(g, guest, (struct base_known){0});
        }
    }
}

/* --- loops --- */

static bool register_stays(const struct gen *g, unsigned guest, bool used)
{
    return !(g->loop.gone & 1 << guest) && (g->loop.drift[guest] == 0 || used);
}

/* A safepoint and a jump are dear for a few instructions. */
static unsigned rounds(const struct gen *g)
{
    unsigned size = g->e.p - g->c->rw - g->b->code;
    return size < 160 ? 4 : size < 400 ? 2 : 1;
}

void loop_begin(struct gen *g, bool hot)
{
    struct loop *l = &g->loop;
    l->rounds = hot ? rounds(g) : 1;
    emit_align(&g->e, 32);
    for (unsigned i = 0; i < 16; i++) {
        g->known[i].ok &= register_stays(g, i, g->known[i].used);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair_known *p = &g->pair[i];
        int64_t drift = l->drift[p->index] * p->scale + (p->base == NO_REG ? 0 : l->drift[p->base]);
        p->known.ok &= (p->base == NO_REG || register_stays(g, p->base, p->known.used)) &&
                       register_stays(g, p->index, p->known.used) && drift >= -MOVED_MAX &&
                       drift <= MOVED_MAX;
    }
    memcpy(l->known, g->known, sizeof l->known);
    memcpy(l->pair, g->pair, sizeof l->pair);
    l->small = g->small;
    l->r15_unit = g->r15_unit;
    l->start = g->e.p;
    l->pass = 1;
    l->again = false;
    g->written = 0xffff;
    cached_clear(g);
    g->made.ok = false;
}

static bool pair_holds(const struct gen *g, const struct pair_known *p)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        const struct pair_known *q = &g->pair[i];
        if (q->known.ok && q->base == p->base && q->index == p->index && q->scale == p->scale) {
            return q->known.unit == p->known.unit;
        }
    }
    return false;
}

bool loop_holds(const struct gen *g)
{
    const struct loop *l = &g->loop;
    bool holds = (l->small & ~g->small) == 0;
    for (unsigned i = 0; i < 16; i++) {
        holds &= !l->known[i].ok || (g->known[i].ok && g->known[i].unit == l->known[i].unit);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        holds &= !l->pair[i].known.ok || pair_holds(g, &l->pair[i]);
    }
    return holds;
}
