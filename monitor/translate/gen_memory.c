/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operands: guest registers, effective addresses, segments and the checks before each memory
 * access.
 *
 * The check probes the first-level TLB (struct tlb). Where the flags are dead it uses them; where
 * they are live it uses PEXT, LEA and JRCXZ, or saves them on hosts whose PEXT is slow. A miss goes
 * to an out-of-line path, which calls helper_mem_slow and, for stores, executes a copy of the
 * instruction followed by helper_mem_finish, since the slow helper may have handed out a bounce
 * buffer (I/O, page crossings) or a page with translated code.
 */
#include "gen.h"

unsigned gpr_number(ZydisRegister reg, bool *high)
{
    *high = false;
    if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
        return reg - ZYDIS_REGISTER_RAX;
    }
    if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
        return reg - ZYDIS_REGISTER_EAX;
    }
    if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
        return reg - ZYDIS_REGISTER_AX;
    }
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
        *high = true;
        return reg - ZYDIS_REGISTER_AH;
    }
    if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL) {
        return reg - ZYDIS_REGISTER_AL;
    }
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B) {
        return reg - ZYDIS_REGISTER_SPL + 4;
    }
    return NO_REG;
}

unsigned host_reg(unsigned guest)
{
    return guest == 1 ? R13 : guest == 4 ? R12 : guest >= 12 ? NO_REG : guest;
}

unsigned gen_get(struct gen *g, unsigned guest, unsigned scratch)
{
    unsigned host = host_reg(guest);
    if (host == NO_REG) {
        emit_load(&g->e, scratch, GPR(guest));
        return scratch;
    }
    return host;
}

/* Writes the low `size` bytes of scratch register `host` to the guest register; 4 zero-extends. */
void gen_put(struct gen *g, unsigned guest, unsigned host, unsigned size)
{
    unsigned to = host_reg(guest);
    if (to != NO_REG) {
        if (size == 8) {
            emit_mov(&g->e, to, host);
        } else if (size == 4) {
            emit_mov32(&g->e, to, host);
        } else {
            emit_mov16(&g->e, to, host);
        }
        return;
    }
    if (size == 2) {
        emit8(&g->e, 0x66);
        /* the operand-size prefix must precede GS and REX alike: any order of legacy prefixes will
         * do */
        emit_gs(&g->e, 0x89, false, host, GPR(guest));
        return;
    }
    if (size == 4) {
        emit_mov32(&g->e, host, host);
    }
    emit_store(&g->e, host, GPR(guest));
}

const ZydisDecodedOperand *insn_memory(const struct insn *in)
{
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            in->op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
            return &in->op[i];
        }
    }
    return NULL;
}

static void ea_constant(struct gen *g, unsigned width, uint64_t value)
{
    emit_mov_imm(&g->e, R14, value & mask_size(width / 8));
}

/* R14 := effective address, wrapped to the address size. Uses R15. */
void gen_ea(struct gen *g, const ZydisDecodedOperand *op)
{
    struct emitter *e = &g->e;
    unsigned width = g->in->d.address_width;
    int64_t disp = op->mem.disp.value;
    bool high, w = width == 64;
    if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
        ea_constant(g, width, g->next_rip + disp);
        return;
    }
    unsigned base = op->mem.base ? gpr_number(op->mem.base, &high) : NO_REG;
    unsigned index = op->mem.index ? gpr_number(op->mem.index, &high) : NO_REG;
    unsigned scale = op->mem.scale ? op->mem.scale : 1;
    if (base == NO_REG && index == NO_REG) {
        ea_constant(g, width, disp);
        return;
    }
    unsigned hb = base == NO_REG ? NO_REG : gen_get(g, base, R14);
    unsigned hi = index == NO_REG ? NO_REG : gen_get(g, index, R15);
    if (hb == NO_REG) {
        emit_lea_index(e, w, R14, hi, scale, disp);
    } else {
        emit_lea(e, w, R14, hb, hi == NO_REG ? RSP : hi, scale, disp);
    }
    if (width == 16) {
        emit_movzx16(e, R14, R14);
    }
}

static bool flags_dead(const struct gen *g)
{
    return g->in->live == 0;
}

/* R14 is an offset in segment `seg`: limit check, then add the base. Uses R15. */
void gen_segment(struct gen *g, unsigned seg, unsigned size, unsigned rw)
{
    struct emitter *e = &g->e;
    if (g->long_mode) {
        if (seg >= CPU_FS) {
            emit_load(e, R15, FIELD(seg) + seg * sizeof(struct segment));
            emit_lea(e, true, R14, R14, R15, 1, 0);
        }
        return;
    }
    bool code_write = seg == CPU_CS && (rw & INFO_WRITE); /* never allowed in protected mode */
    if (seg < 4 && (g->mode & MODE_FLAT << seg) && !code_write) {
        return;
    }
    uint32_t field = FIELD(seg) + seg * sizeof(struct segment);
    bool save = !flags_dead(g);
    if (save) {
        emit_pushf(e);
    }
    emit_lea(e, true, R15, R14, RSP, 1, size - 1);
    emit_gs(e, 0x3b, true, R15,
            field + (rw & INFO_WRITE ? offsetof(struct segment, limit_write)
                                     : offsetof(struct segment, limit_read)));
    struct slow *s = &g->slow[g->slows++];
    *s = (struct slow){
        .insn = g->i, .popf = save, .segment = true, .info = size | rw | seg << INFO_SEG_SHIFT};
    s->jump = emit_jcc(e, CC_G);
    s->op = e->p;
    if (save) {
        emit_popf(e);
    }
    emit_load32(e, R15, field);
    emit_lea(e, false, R14, R14, R15, 1, 0);
}

void gen_linear(struct gen *g, const ZydisDecodedOperand *op, unsigned size, unsigned rw)
{
    gen_ea(g, op);
    gen_segment(g, op->mem.segment - ZYDIS_REGISTER_ES, size, rw);
}

static uint32_t tlb_field(const struct gen *g, size_t member)
{
    return FIELD(tlb) + g->mmu * sizeof(struct tlb) + member;
}

static void access_check_flags(struct gen *g, unsigned size, uint32_t tags, struct slow *s)
{
    struct emitter *e = &g->e;
    emit_lea(e, true, RCX, R14, RSP, 1, size - 1);
    if (gen_fast_flagless()) {
        emit_pext_gs(e, R15, R14, FIELD(index_mask));
    } else {
        emit_mov(e, R15, R14);
        emit_shift_imm(e, 5, true, R15, GUEST_PAGE_SHIFT);
        emit_alu_imm(e, 4, false, R15, g->v->tlb_mask);
    }
    emit_shift_imm(e, 5, true, RCX, GUEST_PAGE_SHIFT);
    emit_gs_index(e, 0x03, RCX, R15, tags);
    s->jump = emit_jcc(e, CC_NE);
}

static void access_check_flagless(struct gen *g, unsigned size, uint32_t tags, struct slow *s)
{
    struct emitter *e = &g->e;
    emit_lea(e, true, RCX, R14, RSP, 1, size - 1);
    emit_pext_gs(e, R15, R14, FIELD(index_mask));
    emit_pext_gs(e, RCX, RCX, FIELD(page_mask));
    emit_gs_index(e, 0x8b, R15, R15, tags);
    emit_lea(e, true, RCX, RCX, R15, 1, 0);
    emit_pext_gs(e, R15, R14, FIELD(index_mask));
    uint8_t *hit = emit_jrcxz(e);
    s->jump = emit_jmp(e);
    emit_patch8(hit, e->p);
}

/* A misaligned SSE operand is #GP before any page fault; the host raises it unless the access goes
 * the slow path. */
static bool vector_aligned(const struct insn *in, unsigned size)
{
    switch (in->d.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return false;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
        return true;
    default:
        break;
    }
    if (in->d.meta.isa_ext == ZYDIS_ISA_EXT_SHA) {
        return false; /* the page fault comes first on this one */
    }
    switch (in->d.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
        return size == 16;
    case ZYDIS_EXCEPTION_CLASS_AVX1:
        return size == 16 || size == 32;
    default:
        return false;
    }
}

void gen_access(struct gen *g, unsigned size, unsigned rw, bool stack)
{
    struct emitter *e = &g->e;
    uint32_t info =
        size | rw | (stack ? INFO_STACK : 0) | (vector_aligned(g->in, size) ? INFO_VECTOR : 0);
    uint32_t tags =
        tlb_field(g, rw & INFO_WRITE ? offsetof(struct tlb, write) : offsetof(struct tlb, read));
    struct slow *s = &g->slow[g->slows++];
    *s = (struct slow){.insn = g->i, .info = info};
    if (g->mode & (MODE_AC | MODE_DEBUG)) {
        if (g->mode & MODE_AC && g->in->d.meta.isa_ext == ZYDIS_ISA_EXT_BASE) {
            s->info |= INFO_ALIGN;
        }
        s->jump = emit_jmp(e); /* every access takes the slow path */
        s->op = e->p;
    } else if (flags_dead(g)) {
        access_check_flags(g, size, tags, s);
        emit_gs_index(e, 0x8b, R15, R15, tlb_field(g, offsetof(struct tlb, addend)));
        s->op = e->p;
    } else if (gen_fast_flagless()) {
        access_check_flagless(g, size, tags, s);
        emit_gs_index(e, 0x8b, R15, R15, tlb_field(g, offsetof(struct tlb, addend)));
        s->op = e->p;
    } else {
        emit_pushf(e);
        access_check_flags(g, size, tags, s);
        emit_popf(e);
        s->popf = true;
        emit_gs_index(e, 0x8b, R15, R15, tlb_field(g, offsetof(struct tlb, addend)));
        s->op = e->p;
    }
    g->open_slow = g->slows - 1;
}

void gen_op_end(struct gen *g)
{
    g->slow[g->open_slow].op_end = g->e.p;
}

static void emit_mem_op(struct emitter *e, unsigned op, bool w, unsigned reg)
{
    emit_rex(e, w, reg, R15, R14, false);
    if (op > 0xff) {
        emit8(e, op >> 8);
    }
    emit8(e, op);
    emit_modrm_mem(e, reg, R14, R15, 1, 0);
}

void gen_mem_load(struct gen *g, unsigned reg, unsigned size)
{
    emit_mem_op(&g->e, size == 1 ? 0x0fb6 : size == 2 ? 0x0fb7 : 0x8b, size == 8, reg);
}

void gen_mem_store(struct gen *g, unsigned reg, unsigned size)
{
    if (size == 2) {
        emit8(&g->e, 0x66);
    }
    emit_mem_op(&g->e, size == 1 ? 0x88 : 0x89, size == 8, reg);
}

static void slow_segment(struct gen *g, struct slow *s)
{
    struct emitter *e = &g->e;
    if (s->popf) {
        emit_popf(e);
    }
    emit_mov_imm(e, R15, s->info);
    emit_call_to(e, g->c->rw + (g->c->thunk_seg - g->c->rx));
    if (s->popf) {
        emit_pushf(e);
    }
    emit_jmp_to(e, s->op);
}

static void slow_access(struct gen *g, struct slow *s)
{
    struct emitter *e = &g->e;
    if (s->popf) {
        emit_popf(e);
    }
    emit_mov_imm(e, R15, s->info);
    emit_call_to(e, g->c->rw + (g->c->thunk_mem - g->c->rx));
    if (s->info & INFO_WRITE) {
        emit_bytes(e, s->op, s->op_end - s->op);
        emit_call_to(e, g->c->rw + (g->c->thunk_finish - g->c->rx));
        emit_jmp_to(e, s->op_end);
    } else {
        emit_jmp_to(e, s->op);
    }
}

void gen_slow_paths(struct gen *g)
{
    for (unsigned i = 0; i < g->slows; i++) {
        struct slow *s = &g->slow[i];
        g->in = &g->insns[s->insn];
        gen_site(g);
        emit_patch32(s->jump, g->e.p);
        if (s->segment) {
            slow_segment(g, s);
        } else {
            slow_access(g, s);
        }
    }
}

/* Zero-extended; R14 and R15 are used for memory operands. */
void gen_operand_load(struct gen *g, const ZydisDecodedOperand *op, unsigned reg)
{
    unsigned size = op->size / 8;
    struct emitter *e = &g->e;
    if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        gen_linear(g, op, size, INFO_READ);
        gen_access(g, size, INFO_READ, op->mem.segment == ZYDIS_REGISTER_SS);
        gen_mem_load(g, reg, size);
        gen_op_end(g);
        return;
    }
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_mov_imm(e, reg, op->imm.value.u & mask_size(size));
        return;
    }
    bool high;
    unsigned guest = gpr_number(op->reg.value, &high);
    if (high) {
        emit_store(e, gen_get(g, guest, reg), FIELD(tmp[3]));
        emit_gs(e, 0x0fb6, false, reg, FIELD(tmp[3]) + 1);
        return;
    }
    unsigned host = gen_get(g, guest, reg);
    if (size == 8) {
        emit_mov(e, reg, host);
    } else if (size == 4) {
        emit_mov32(e, reg, host);
    } else if (size == 2) {
        emit_movzx16(e, reg, host);
    } else {
        emit_rr(e, 0x0fb6, true, reg, host); /* REX.W also makes SPL..DIL addressable */
    }
}
