/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * String instructions. A single MOVS, STOS or LODS that counts up is made of ordinary accesses
 * (boot loaders and small C libraries copy with them, a byte at a time); everything else is
 * helper_string's.
 */
#include "gen.h"

#include "helpers.h"

/* Memory through rSI, or through rDI in ES. */
static const ZydisDecodedOperand *memory(const struct insn *in, bool destination)
{
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &in->op[i];
        bool di = op->mem.base == ZYDIS_REGISTER_RDI || op->mem.base == ZYDIS_REGISTER_EDI ||
                  op->mem.base == ZYDIS_REGISTER_DI;
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && di == destination) {
            return op;
        }
    }
    return NULL;
}

static unsigned repeat(const struct insn *in)
{
    if (in->d.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) {
        return REP_E;
    }
    return in->d.attributes & ZYDIS_ATTRIB_HAS_REPNE ? REP_NE : REP_NONE;
}

static void call(struct gen *g, unsigned op, unsigned size, unsigned rep)
{
    const ZydisDecodedOperand *from = memory(g->in, false);
    unsigned seg = from ? from->mem.segment - ZYDIS_REGISTER_ES : CPU_DS;
    g->call_movable = true;
    gen_call_imm(g, HELPER(helper_string),
                 op | size << 4 | g->in->d.address_width / 8u << 8 | seg << 12 | rep << 16, 0);
}

/* RCX is lost with 16-bit addresses. */
static void step(struct gen *g, unsigned reg, unsigned size)
{
    if (g->in->d.address_width == 16) {
        emit_lea(&g->e, false, RCX, reg, RSP, 1, size);
        emit_mov16(&g->e, reg, RCX);
    } else {
        emit_lea(&g->e, g->in->d.address_width == 64, reg, reg, RSP, 1, size);
    }
}

static void load_rax(struct gen *g, unsigned size)
{
    if (size >= 4) {
        gen_mem_load(g, RAX, size);
        return;
    }
    gen_mem_load(g, RCX, size);
    if (size == 2) {
        emit_mov16(&g->e, RAX, RCX);
    } else {
        emit_rr(&g->e, 0x8a, false, RAX, RCX);
    }
}

/* What follows a store's slow path must find the registers moved: they move as part of the access.
 */
static void single_up(struct gen *g, unsigned op, unsigned size)
{
    if (op == STR_LODS) {
        gen_linear_access(g, memory(g->in, false), size, INFO_READ);
        load_rax(g, size);
        gen_op_end(g);
        step(g, RSI, size);
        return;
    }
    if (op == STR_MOVS) {
        gen_operand_load(g, memory(g->in, false), RCX);
        emit_store(&g->e, RCX, FIELD(tmp[1]));
    }
    gen_linear_access(g, memory(g->in, true), size, INFO_WRITE);
    if (op == STR_MOVS) {
        emit_load(&g->e, RCX, FIELD(tmp[1]));
    }
    gen_mem_store(g, op == STR_MOVS ? RCX : RAX, size);
    if (op == STR_MOVS) {
        step(g, RSI, size);
    }
    step(g, RDI, size);
    gen_op_end(g);
}

static void single(struct gen *g, unsigned op, unsigned size)
{
    struct emitter *e = &g->e;
    emit_gs(e, 0x0fb6, false, RCX, FIELD(flag_df));
    uint8_t *up = emit_jrcxz(e);
    call(g, op, size, REP_NONE);
    uint8_t *end = emit_jmp(e);
    emit_patch8(up, e->p);
    single_up(g, op, size);
    emit_patch32(end, e->p);
}

static int operation(const struct insn *in)
{
    if (in->d.meta.category != ZYDIS_CATEGORY_STRINGOP &&
        in->d.meta.category != ZYDIS_CATEGORY_IOSTRINGOP) {
        return -1; /* MOVSD and CMPSD are also SSE2's */
    }
    switch (in->d.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
        return STR_MOVS;
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
        return STR_CMPS;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
        return STR_STOS;
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
        return STR_LODS;
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
        return STR_SCAS;
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
        return STR_INS;
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
        return STR_OUTS;
    default:
        return -1;
    }
}

bool gen_string(struct gen *g)
{
    int op = operation(g->in);
    if (op < 0) {
        return false;
    }
    const ZydisDecodedOperand *any = memory(g->in, true);
    unsigned size = (any ? any : memory(g->in, false))->size / 8;
    unsigned rep = repeat(g->in);
    if (rep == REP_NONE && (op == STR_MOVS || op == STR_STOS || op == STR_LODS)) {
        single(g, op, size);
    } else {
        call(g, op, size, rep);
    }
    return true;
}
