/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that the host executes itself: the guest's own encoding with registers renamed and
 * the memory operand replaced by the checked host address. Plus the few whose operands need work
 * first (LEA, BT with a register bit index, MOV with an absolute offset, XLAT, MASKMOV).
 */
#include "gen.h"

/* How one copied instruction is put together. */
struct copy {
    const ZydisDecodedOperand *mem; /* or NULL */
    bool folded;                    /* memory is at [r14] rather than [r14+r15] */
    bool mem_rcx;                   /* memory is at [rcx] (no REX wanted) */
    unsigned reg, rm,
        vvvv; /* final register numbers for ModRM.reg, ModRM.rm, VEX.vvvv; NO_REG: as they were */
    unsigned opcode_reg;
    bool force_rex;
    unsigned free[3], frees; /* scratch registers left */
};

/* A guest register operand that is not simply a host register. */
struct resident {
    unsigned guest, host;
    bool load, store, high;
    unsigned tmp;
};

static bool operand_is_gpr(const ZydisDecodedOperand *op)
{
    bool high;
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_number(op->reg.value, &high) != NO_REG;
}

static unsigned scratch_take(struct copy *c, unsigned wanted)
{
    unsigned last = c->free[--c->frees];
    for (unsigned i = 0; i < c->frees; i++) {
        if (c->free[i] == wanted) {
            c->free[i] = last;
            return wanted;
        }
    }
    return last;
}

/* Hidden or implicit use of RCX by a copied instruction (shift counts, CMPXCHG8B, PCMPESTRI ...).
 */
static void implicit_rcx(const struct insn *in, bool *read, bool *written)
{
    *read = *written = false;
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &in->op[i];
        bool high;
        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG ||
            op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
            op->encoding == ZYDIS_OPERAND_ENCODING_OPCODE ||
            op->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD ||
            gpr_number(op->reg.value, &high) != 1) {
            continue;
        }
        *read |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
        *written |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    }
}

static unsigned orig_ext(const struct insn *in, char which)
{
    const ZydisDecodedInstructionRaw *raw = &in->d.raw;
    if (in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        const uint8_t *p = in->bytes + raw->vex.offset;
        uint8_t inverted = p[1];
        bool three = p[0] == 0xc4;
        switch (which) {
        case 'R':
            return !(inverted & 0x80);
        case 'B':
            return three ? !(inverted & 0x20) : 0;
        case 'W':
            return three ? p[2] >> 7 : 0;
        default:
            return 0;
        }
    }
    if (!(in->d.attributes & ZYDIS_ATTRIB_HAS_REX)) {
        return 0;
    }
    return which == 'R' ? raw->rex.R : which == 'B' ? raw->rex.B : raw->rex.W;
}

/* Where the bytes after opcode, ModRM, SIB and displacement begin: immediates. */
static unsigned tail_offset(const struct insn *in)
{
    const ZydisDecodedInstructionRaw *raw = &in->d.raw;
    if (in->d.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        if (raw->disp.size) {
            return raw->disp.offset + raw->disp.size / 8;
        }
        return in->d.attributes & ZYDIS_ATTRIB_HAS_SIB ? raw->sib.offset + 1u
                                                       : raw->modrm.offset + 1u;
    }
    return in->d.length - raw->imm[0].size / 8 - raw->imm[1].size / 8;
}

static bool needs_66(const struct gen *g)
{
    const struct insn *in = g->in;
    for (unsigned i = 0; i < in->d.raw.prefix_count; i++) {
        if (in->d.raw.prefixes[i].value == 0x66 &&
            in->d.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY) {
            return true;
        }
    }
    switch (in->d.meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_RDRAND:
    case ZYDIS_ISA_EXT_RDSEED:
        return in->d.operand_width == 16;
    case ZYDIS_ISA_EXT_BMI1: /* TZCNT */
    case ZYDIS_ISA_EXT_SSE4: /* POPCNT, CRC32 */
        return in->d.operand_width == 16 &&
               (in->d.mnemonic == ZYDIS_MNEMONIC_POPCNT || in->d.mnemonic == ZYDIS_MNEMONIC_CRC32 ||
                in->d.mnemonic == ZYDIS_MNEMONIC_TZCNT);
    default:
        if (in->d.mnemonic == ZYDIS_MNEMONIC_POPCNT) {
            return in->d.operand_width == 16;
        }
        return g->long_mode && (in->d.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE);
    }
}

static void emit_prefixes(struct gen *g)
{
    const struct insn *in = g->in;
    if (needs_66(g)) {
        emit8(&g->e, 0x66);
    }
    for (unsigned i = 0; i < in->d.raw.prefix_count; i++) {
        uint8_t p = in->d.raw.prefixes[i].value;
        if (p == 0xf0 || ((p == 0xf2 || p == 0xf3) &&
                          (in->d.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY ||
                           in->d.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_EFFECTIVE))) {
            emit8(&g->e, p);
        }
    }
}

static void emit_modrm(struct gen *g, const struct copy *c, unsigned reg, unsigned rm)
{
    struct emitter *e = &g->e;
    if (!c->mem) {
        emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
    } else if (c->mem_rcx) {
        emit8(e, (reg & 7) << 3 | RCX);
    } else if (c->folded) {
        emit8(e, (reg & 7) << 3 | (R14 & 7));
    } else {
        gen_mem_modrm(g, reg);
    }
}

/* X << 1 | B for a memory operand. */
static unsigned copy_mem_rex(const struct gen *g, const struct copy *c)
{
    return c->mem_rcx ? 0 : c->folded ? 1 : gen_mem_rex(g);
}

static void emit_copied_vex(struct gen *g, const struct copy *c, unsigned reg, unsigned rm)
{
    const struct insn *in = g->in;
    const uint8_t *p = in->bytes + in->d.raw.vex.offset;
    bool three = p[0] == 0xc4;
    uint8_t map = three ? p[1] & 0x1f : 1;
    uint8_t last = three ? p[2] : p[1] & 0x7f;
    if (c->vvvv != NO_REG) {
        last = (last & ~0x78) | (~c->vvvv & 15) << 3;
    }
    unsigned xb = c->mem ? copy_mem_rex(g, c) : rm >= 8;
    emit8(&g->e, 0xc4);
    emit8(&g->e, (reg < 8) << 7 | (~xb & 3) << 5 | map);
    emit8(&g->e, last);
    emit8(&g->e, in->d.opcode);
    if (in->d.attributes & ZYDIS_ATTRIB_HAS_MODRM) { /* VZEROUPPER has none */
        emit_modrm(g, c, reg, rm);
    }
}

static void emit_copied_legacy(struct gen *g, const struct copy *c, unsigned reg, unsigned rm)
{
    const struct insn *in = g->in;
    struct emitter *e = &g->e;
    emit_prefixes(g);
    unsigned xb =
        c->mem ? copy_mem_rex(g, c) : (c->opcode_reg != NO_REG ? c->opcode_reg : rm) >> 3 & 1;
    uint8_t rex = 0x40 | orig_ext(in, 'W') << 3 | (reg >> 3 & 1) << 2 | xb;
    if (rex != 0x40 || c->force_rex) {
        emit8(e, rex);
    }
    uint8_t opcode = in->d.opcode;
    switch (in->d.opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
        emit8(e, 0x0f);
        break;
    case ZYDIS_OPCODE_MAP_0F38:
        emit16(e, 0x380f);
        break;
    case ZYDIS_OPCODE_MAP_0F3A:
        emit16(e, 0x3a0f);
        break;
    default:
        break;
    }
    if (c->opcode_reg != NO_REG) {
        opcode = (opcode & ~7) | (c->opcode_reg & 7);
    }
    emit8(e, opcode);
    if (in->d.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        emit_modrm(g, c, reg, rm);
    }
}

/* INC and DEC r16/r32 (40h-4Fh) are REX prefixes on the host. */
static bool emit_short_incdec(struct gen *g, const struct copy *c)
{
    const struct insn *in = g->in;
    if (in->d.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (in->d.opcode & 0xf0) != 0x40) {
        return false;
    }
    if (in->d.operand_width == 16) {
        emit8(&g->e, 0x66);
    }
    emit_rr(&g->e, 0xff, false, in->d.opcode >> 3 & 1, c->opcode_reg);
    return true;
}

static void emit_copied(struct gen *g, const struct copy *c)
{
    const struct insn *in = g->in;
    const ZydisDecodedInstructionRaw *raw = &in->d.raw;
    unsigned reg = c->reg != NO_REG ? c->reg : raw->modrm.reg | orig_ext(in, 'R') << 3;
    unsigned rm = c->rm != NO_REG ? c->rm : raw->modrm.rm | orig_ext(in, 'B') << 3;
    bool digit = true; /* ModRM.reg is an opcode extension: no REX.R */
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        digit &= in->op[i].encoding != ZYDIS_OPERAND_ENCODING_MODRM_REG;
    }
    if (digit) {
        reg = raw->modrm.reg;
    }
    if (!(in->d.attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
        reg = rm = 0;
    }
    if (emit_short_incdec(g, c)) {
        return;
    }
    if (in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        emit_copied_vex(g, c, reg, rm);
    } else {
        emit_copied_legacy(g, c, reg, rm);
    }
    unsigned tail = tail_offset(in);
    emit_bytes(&g->e, in->bytes + tail, in->d.length - tail);
}

static unsigned *copy_field(struct copy *c, const ZydisDecodedOperand *op)
{
    switch (op->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return &c->reg;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return &c->rm;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        return &c->opcode_reg;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return &c->vvvv;
    default:
        return NULL;
    }
}

/* Would the finished instruction carry a REX prefix (so that AH..BH cannot be named)? */
static bool copy_needs_rex(const struct gen *g, const struct copy *c)
{
    const struct insn *in = g->in;
    if (c->mem && !c->mem_rcx) {
        return true;
    }
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        bool high;
        if (!copy_field((struct copy *)c, &in->op[i]) || !operand_is_gpr(&in->op[i])) {
            continue;
        }
        unsigned guest = gpr_number(in->op[i].reg.value, &high);
        unsigned host = host_reg(guest);
        if (host == NO_REG || host >= 8 || (in->op[i].size == 8 && !high && host >= 4)) {
            return true;
        }
    }
    return false;
}

static bool copy_has_high(const struct insn *in)
{
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        bool high;
        if (operand_is_gpr(&in->op[i]) &&
            in->op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
            gpr_number(in->op[i].reg.value, &high);
            if (high) {
                return true;
            }
        }
    }
    return false;
}

/* Chooses host registers for all register operands; those not held in one get a scratch register.
 */
static unsigned copy_assign(struct gen *g, struct copy *c, struct resident *res)
{
    const struct insn *in = g->in;
    unsigned count = 0;
    bool rex = copy_needs_rex(g, c);
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &in->op[i];
        unsigned *field = copy_field(c, op);
        bool high;
        if (!field || !operand_is_gpr(op)) {
            continue;
        }
        unsigned guest = gpr_number(op->reg.value, &high);
        unsigned host = host_reg(guest);
        bool spill = high && (rex || guest == 1);
        if (host != NO_REG && !spill) {
            *field = high ? guest + 4 : host;
            c->force_rex |= op->size == 8 && !high && host >= 4 && host < 8;
            continue;
        }
        bool reads = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
        bool writes = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        bool scan = in->d.mnemonic == ZYDIS_MNEMONIC_BSF || in->d.mnemonic == ZYDIS_MNEMONIC_BSR;
        bool whole = op->actions == ZYDIS_OPERAND_ACTION_WRITE && op->size >= 32 && !scan;
        unsigned s = NO_REG; /* the same guest register twice shares its scratch */
        for (unsigned k = 0; k < count; k++) {
            if (res[k].guest == guest && res[k].high == spill) {
                s = res[k].host;
                res[k].store |= writes;
                res[k].load |= reads || !whole;
            }
        }
        if (s == NO_REG) {
            s = scratch_take(c, spill ? NO_REG : cached_host(g, guest));
            res[count] = (struct resident){guest, s, reads || !whole, writes, spill, count};
            count++;
        }
        *field = s;
    }
    return count;
}

static unsigned count_residents(struct gen *g, const struct copy *c)
{
    unsigned n = 0;
    bool rex = copy_needs_rex(g, c), high;
    for (unsigned i = 0; i < g->in->d.operand_count; i++) {
        const ZydisDecodedOperand *op = &g->in->op[i];
        if (copy_field((struct copy *)c, op) && operand_is_gpr(op)) {
            unsigned guest = gpr_number(op->reg.value, &high);
            n += host_reg(guest) == NO_REG || (high && (rex || guest == 1));
        }
    }
    return n;
}

static void residents_load(struct gen *g, const struct resident *res, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct resident *r = &res[i];
        unsigned cached = r->high ? NO_REG : cached_host(g, r->guest);
        if (r->high) {
            emit_store(&g->e, host_reg(r->guest), FIELD(tmp) + 8 * r->tmp);
            emit_gs(&g->e, 0x0fb6, false, r->host, FIELD(tmp) + 8 * r->tmp + 1);
        } else if (r->load && cached == NO_REG) {
            emit_load_near(&g->e, r->host, GPR(r->guest));
        } else if (r->load && cached != r->host) {
            emit_mov(&g->e, r->host, cached);
        }
        if (cached != r->host) {
            cached_forget(g, r->host);
        }
    }
}

static void residents_store(struct gen *g, const struct resident *res, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct resident *r = &res[i];
        unsigned host = host_reg(r->guest);
        if (!r->store) {
            continue;
        }
        if (r->high) { /* the low byte may have been written as well: take it from the register */
            emit_gs(&g->e, 0x88, host >= 4, host, FIELD(tmp) + 8 * r->tmp);
            emit_gs(&g->e, 0x88, true, r->host, FIELD(tmp) + 8 * r->tmp + 1);
            emit_load(&g->e, host, FIELD(tmp) + 8 * r->tmp);
        } else {
            emit_store_near(&g->e, r->host, GPR(r->guest));
        }
    }
}

/* What scratch registers hold when the instruction is done; R15 is wanted for windows. */
static void residents_remember(struct gen *g, const struct copy *c, const struct resident *res,
                               unsigned count, bool rcx_lost)
{
    if (rcx_lost) {
        cached_forget(g, RCX);
    }
    for (unsigned i = 0; i < count; i++) {
        const struct resident *r = &res[i];
        for (unsigned old; r->store && (old = cached_host(g, r->guest)) != NO_REG;) {
            cached_forget(g, old);
        }
        if (r->high || (c->mem && r->host == R15)) {
            cached_forget(g, r->host);
        } else {
            cached_note(g, r->host, r->guest);
        }
    }
}

static unsigned access_bits(const ZydisDecodedOperand *op)
{
    unsigned rw = 0;
    if (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) {
        rw |= INFO_READ;
    }
    if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
        rw |= INFO_WRITE;
    }
    return rw ? rw : INFO_READ;
}

/* Scratch registers are taken from the end of free[]. */
static bool r15_stays(const struct gen *g, const struct copy *c)
{
    bool free = false;
    for (unsigned i = 0; i < c->frees; i++) {
        free |= c->free[i] == R15;
    }
    if (c->mem) {
        return g->slow[g->open_slow].window && !c->folded && !c->mem_rcx;
    }
    return free;
}

/* The instruction itself, once R14/R15 (or nothing) are ready. */
static void copy_body(struct gen *g, struct copy *c)
{
    struct resident res[4];
    bool rcx_read, rcx_written;
    implicit_rcx(g->in, &rcx_read, &rcx_written);
    c->frees = 0;
    if (c->mem) {
        unsigned want = count_residents(g, c);
        unsigned have = rcx_read || rcx_written ? 0 : 1;
        if (copy_has_high(g->in) && !have) {
            want++;
        } else if (copy_has_high(g->in)) {
            gen_mem_lea(g, RCX);
            cached_forget(g, RCX);
            c->mem_rcx = true; /* may do without REX now */
            c->free[c->frees++] = R14;
            c->free[c->frees++] = R15;
        }
        if (!c->mem_rcx) {
            if (want > have) {
                gen_mem_lea(g, R14);
                cached_forget(g, R14);
                c->folded = true;
                c->free[c->frees++] = R15;
            }
            if (have) {
                c->free[c->frees++] = RCX;
            }
        }
    } else {
        c->free[c->frees++] = R14;
        c->free[c->frees++] = R15;
        if (!rcx_read && !rcx_written) {
            c->free[c->frees++] = RCX;
        }
    }
    unsigned count = copy_assign(g, c, res);
    g->r15_kept = r15_stays(g, c);
    c->force_rex |= (g->in->d.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
    for (unsigned i = 0; i < count; i++) {
        g->made.ok &= res[i].host != R14;
    }
    g->made.ok &= !c->folded && !c->mem_rcx;
    residents_load(g, res, count);
    if (rcx_read || rcx_written) {
        emit_mov(&g->e, RCX, R13);
    }
    emit_copied(g, c);
    residents_store(g, res, count);
    if (rcx_written) {
        emit_mov(&g->e, R13, RCX);
    }
    residents_remember(g, c, res, count, rcx_read || rcx_written);
}

static void copy_with_memory(struct gen *g, const ZydisDecodedOperand *mem)
{
    struct copy c = {.mem = mem, .reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode_reg = NO_REG};
    unsigned rw = access_bits(mem), size = mem->size / 8;
    if (size == 0 || size > BOUNCE_SIZE) {
        gen_ud(g);
        return;
    }
    gen_linear_access(g, mem, size, rw);
    copy_body(g, &c);
    gen_op_end(g);
}

void gen_copy(struct gen *g)
{
    const ZydisDecodedOperand *mem = insn_memory(g->in);
    g->r15_used = true;
    cached_resume(g);
    g->made = g->made_before;
    if (mem) {
        if (mem->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
            mem->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) {
            gen_ud(g);
            return;
        }
        copy_with_memory(g, mem);
        return;
    }
    struct copy c = {.reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode_reg = NO_REG};
    copy_body(g, &c);
}

void gen_lea(struct gen *g)
{
    bool high;
    unsigned guest = gpr_number(g->in->op[0].reg.value, &high), size = g->in->op[0].size / 8;
    cached_resume(g);
    g->r15_kept = true;
    if (host_reg(guest) != NO_REG && size >= 4 && size * 8 <= g->in->d.address_width &&
        gen_ea_to(g, &g->in->op[1], host_reg(guest), size)) {
        return;
    }
    gen_ea(g, &g->in->op[1]);
    gen_put(g, guest, R14, size);
    for (unsigned old; (old = cached_host(g, guest)) != NO_REG;) {
        cached_forget(g, old);
    }
    if (host_reg(guest) == NO_REG && size >= 4) {
        cached_note(g, R14, guest);
    }
}

/* dst := src >> count, arithmetic, without touching flags. */
static void emit_sar_flagless(struct gen *g, unsigned dst, unsigned src, unsigned count)
{
    struct emitter *e = &g->e;
    if (gen_fast_flagless()) {
        emit_mov_imm(e, R15, count);
        emit_vex38(e, 2, 0xf7, dst, R15, src);
        return;
    }
    emit_pushf(e);
    emit_mov(e, dst, src);
    emit_shift_imm(e, 7, true, dst, count);
    emit_popf(e);
}

/* BT/BTS/BTR/BTC m, r: the bit index reaches beyond the operand (SDM vol. 2, BT). The addressed
 * word is found first; the host then gets the index modulo the operand size. */
void gen_bit_memory(struct gen *g)
{
    struct emitter *e = &g->e;
    const ZydisDecodedOperand *mem = &g->in->op[0], *bit = &g->in->op[1];
    unsigned size = mem->size / 8, seg = mem->mem.segment - ZYDIS_REGISTER_ES,
             rw = access_bits(mem);
    bool high;
    unsigned guest = gpr_number(bit->reg.value, &high);
    gen_ea(g, mem);
    unsigned host = gen_get(g, guest, RCX);
    if (size == 2) {
        emit_rr(e, 0x0fbf, true, RCX, host); /* movsx */
    } else if (size == 4) {
        emit_rr(e, 0x63, true, RCX, host);
    } else {
        emit_mov(e, RCX, host);
    }
    emit_sar_flagless(g, RCX, RCX, size == 2 ? 4 : size == 4 ? 5 : 6);
    emit_lea(e, g->in->d.address_width == 64, R14, R14, RCX, size, 0);
    if (g->in->d.address_width == 16) {
        emit_movzx16(e, R14, R14);
    }
    g->address.base = NO_REG;
    g->address.constant = g->address.pair = false;
    gen_segment(g, seg, size, rw);
    gen_access(g, size, rw, seg == CPU_SS);
    host = gen_get(g, guest, RCX);
    if (gen_fast_flagless()) {
        emit_pext_gs(e, RCX, host, FIELD(bit_mask) + 8 * (size == 2 ? 0 : size == 4 ? 1 : 2));
    } else {
        emit_pushf(e);
        emit_mov(e, RCX, host);
        emit_alu_imm(e, 4, false, RCX, size * 8 - 1);
        emit_popf(e);
    }
    if (size == 2) {
        emit8(e, 0x66);
    }
    if (g->in->d.attributes & ZYDIS_ATTRIB_HAS_LOCK) {
        emit8(e, 0xf0);
    }
    emit8(e, 0x40 | (size == 8) << 3 | gen_mem_rex(g));
    emit8(e, 0x0f);
    emit8(e, g->in->d.opcode);
    gen_mem_modrm(g, RCX);
    gen_op_end(g);
}

/* MOV between the accumulator and an absolute offset (A0h-A3h). */
void gen_moffs(struct gen *g)
{
    bool store = g->in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    const ZydisDecodedOperand *mem = &g->in->op[store ? 0 : 1];
    unsigned size = mem->size / 8;
    gen_linear(g, mem, size, store ? INFO_WRITE : INFO_READ);
    gen_access(g, size, store ? INFO_WRITE : INFO_READ, mem->mem.segment == ZYDIS_REGISTER_SS);
    if (store) {
        gen_mem_store(g, RAX, size);
    } else if (size >= 4) {
        gen_mem_load(g, RAX, size);
    } else {
        if (size == 2) {
            emit8(&g->e, 0x66);
        }
        emit_rex(&g->e, false, RAX, R15, R14, false);
        emit8(&g->e, size == 2 ? 0x8b : 0x8a);
        emit_modrm_mem(&g->e, RAX, R14, R15, 1, 0);
    }
    gen_op_end(g);
}

/* AL := [rBX + AL] */
void gen_xlat(struct gen *g)
{
    struct emitter *e = &g->e;
    unsigned seg = CPU_DS;
    for (unsigned i = 0; i < g->in->d.operand_count; i++) {
        if (g->in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            seg = g->in->op[i].mem.segment - ZYDIS_REGISTER_ES;
        }
    }
    emit_rr(e, 0x0fb6, false, R14, RAX);
    emit_lea(e, g->in->d.address_width == 64, R14, R14, RBX, 1, 0);
    if (g->in->d.address_width == 16) {
        emit_movzx16(e, R14, R14);
    }
    g->address = (struct address){.base = NO_REG};
    gen_segment(g, seg, 1, INFO_READ);
    gen_access(g, 1, INFO_READ, seg == CPU_SS);
    emit_rex(e, false, RAX, R15, R14, false);
    emit8(e, 0x8a);
    emit_modrm_mem(e, RAX, R14, R15, 1, 0);
    gen_op_end(g);
}

/* MASKMOVQ/MASKMOVDQU store to [rDI]: run it with RDI pointing at the checked host address. */
void gen_maskmov(struct gen *g)
{
    struct emitter *e = &g->e;
    unsigned seg = CPU_DS, size = 8;
    for (unsigned i = 0; i < g->in->d.operand_count; i++) {
        if (g->in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            seg = g->in->op[i].mem.segment - ZYDIS_REGISTER_ES;
            size = g->in->op[i].size / 8;
        }
    }
    if (g->in->d.address_width == 64) {
        emit_mov(e, R14, RDI);
    } else if (g->in->d.address_width == 32) {
        emit_mov32(e, R14, RDI);
    } else {
        emit_movzx16(e, R14, RDI);
    }
    g->address = (struct address){.base = NO_REG};
    g->no_window = true; /* RDI would be lost */
    gen_segment(g, seg, size, INFO_WRITE);
    gen_access(g, size, INFO_READ | INFO_WRITE, seg == CPU_SS);
    struct copy c = {.reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode_reg = NO_REG};
    emit_mov(e, RCX, RDI);
    emit_lea(e, true, RDI, R14, R15, 1, 0);
    emit_copied(g, &c);
    emit_mov(e, RDI, RCX);
    gen_op_end(g);
}
