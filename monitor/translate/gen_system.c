/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that helpers carry out, and those that become nothing.
 */
#include "gen.h"

#include "helpers.h"

static unsigned op_size(const ZydisDecodedOperand *op)
{
    return op->size / 8;
}

/* Writes the helper result in R15 to a register or memory operand; `size` for registers, 2 bytes to
 * memory. */
static void put_result(struct gen *g, const ZydisDecodedOperand *op, unsigned size)
{
    bool high;
    if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        gen_put(g, gpr_number(op->reg.value, &high), R15, size);
        return;
    }
    emit_store(&g->e, R15, FIELD(tmp[0]));
    gen_linear(g, op, 2, INFO_WRITE);
    gen_access(g, 2, INFO_WRITE, op->mem.segment == ZYDIS_REGISTER_SS);
    emit_load(&g->e, RCX, FIELD(tmp[0]));
    gen_mem_store(g, RCX, 2);
    gen_op_end(g);
}

/* R14 := r/m16 operand. */
static void get_selector(struct gen *g, const ZydisDecodedOperand *op)
{
    ZydisDecodedOperand word = *op;
    word.size = 16;
    gen_operand_load(g, &word, RCX);
    emit_movzx16(&g->e, R14, RCX);
}

static void end_lookup(struct gen *g)
{
    gen_exit_lookup(g, g->next_rip);
}

static bool is_segment(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS;
}

static void gen_mov_special(struct gen *g)
{
    const ZydisDecodedOperand *dst = &g->in->op[0], *src = &g->in->op[1];
    bool high;
    if (dst->type == ZYDIS_OPERAND_TYPE_REGISTER && is_segment(dst->reg.value)) {
        unsigned seg = dst->reg.value - ZYDIS_REGISTER_ES;
        if (seg == CPU_CS) {
            gen_ud(g);
            return;
        }
        get_selector(g, src);
        emit_mov_imm(&g->e, R15, seg);
        gen_call(g, HELPER(helper_load_segment));
        if (!g->long_mode || seg == CPU_SS) {
            end_lookup(g);
        }
    } else if (src->type == ZYDIS_OPERAND_TYPE_REGISTER && is_segment(src->reg.value)) {
        unsigned seg = src->reg.value - ZYDIS_REGISTER_ES;
        emit_gs(&g->e, 0x0fb7, false, R15,
                FIELD(seg) + seg * sizeof(struct segment) + offsetof(struct segment, selector));
        put_result(g, dst, g->in->d.operand_width / 8);
    } else if (dst->reg.value >= ZYDIS_REGISTER_CR0 && dst->reg.value <= ZYDIS_REGISTER_CR15) {
        emit_mov(&g->e, R15, gen_get(g, gpr_number(src->reg.value, &high), R15));
        emit_mov_imm(&g->e, R14, dst->reg.value - ZYDIS_REGISTER_CR0);
        gen_call(g, HELPER(helper_write_cr));
        end_lookup(g);
    } else if (dst->reg.value >= ZYDIS_REGISTER_DR0 && dst->reg.value <= ZYDIS_REGISTER_DR15) {
        emit_mov(&g->e, R15, gen_get(g, gpr_number(src->reg.value, &high), R15));
        emit_mov_imm(&g->e, R14, dst->reg.value - ZYDIS_REGISTER_DR0);
        gen_call(g, HELPER(helper_write_dr));
        end_lookup(g);
    } else if (src->reg.value >= ZYDIS_REGISTER_CR0 && src->reg.value <= ZYDIS_REGISTER_CR15) {
        gen_call_imm(g, HELPER(helper_read_cr), src->reg.value - ZYDIS_REGISTER_CR0, 0);
        gen_put(g, gpr_number(dst->reg.value, &high), R15, g->long_mode ? 8 : 4);
    } else {
        gen_call_imm(g, HELPER(helper_read_dr), src->reg.value - ZYDIS_REGISTER_DR0, 0);
        gen_put(g, gpr_number(dst->reg.value, &high), R15, g->long_mode ? 8 : 4);
    }
}

static bool mov_is_special(const struct insn *in)
{
    for (unsigned i = 0; i < 2; i++) {
        ZydisRegister r = in->op[i].reg.value;
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            (is_segment(r) || (r >= ZYDIS_REGISTER_CR0 && r <= ZYDIS_REGISTER_CR15) ||
             (r >= ZYDIS_REGISTER_DR0 && r <= ZYDIS_REGISTER_DR15))) {
            return true;
        }
    }
    return false;
}

static bool gen_mov(struct gen *g)
{
    const struct insn *in = g->in;
    if (mov_is_special(in)) {
        gen_mov_special(g);
        return true;
    }
    if (in->d.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && in->d.opcode >= 0xa0 &&
        in->d.opcode <= 0xa3) {
        gen_moffs(g);
        return true;
    }
    return false;
}

static void gen_port(struct gen *g, bool out)
{
    const ZydisDecodedOperand *port = &g->in->op[out ? 0 : 1], *data = &g->in->op[out ? 1 : 0];
    if (port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_mov_imm(&g->e, R14, port->imm.value.u & 0xff);
    } else {
        emit_movzx16(&g->e, R14, RDX);
    }
    emit_mov_imm(&g->e, R15, op_size(data));
    gen_call(g, out ? HELPER(helper_out) : HELPER(helper_in));
}

static void gen_linear_call(struct gen *g, const ZydisDecodedOperand *op, helper_fn fn,
                            uint64_t packed)
{
    unsigned size = op->size / 8;
    gen_linear(g, op, size ? size : 1, INFO_READ);
    emit_mov_imm(&g->e, R15, packed);
    gen_call(g, fn);
}

static void gen_sti(struct gen *g)
{
    struct emitter *e = &g->e;
    if (!(g->mode & MODE_IOPL)) {
        gen_call(g, HELPER(helper_sti));
        end_lookup(g);
        return;
    }
    emit_store_imm8(e, FIELD(flag_if), 1);
    if (g->mode & (MODE_STEP | MODE_TF)) {
        return;
    }
    emit_load32(e, RCX, FIELD(irq_waiting));
    uint8_t *none = emit_jrcxz(e);
    emit_mov_imm(e, R14, g->next_rip);
    gen_call(g, HELPER(helper_sti_pending));
    emit_patch8(none, e->p);
}

static void gen_far_load(struct gen *g, unsigned seg)
{
    bool high;
    const ZydisDecodedOperand *mem = insn_memory(g->in);
    unsigned dst = gpr_number(g->in->op[0].reg.value, &high), size = g->in->d.operand_width / 8;
    gen_linear(g, mem, size + 2, INFO_READ);
    emit_mov_imm(&g->e, R15, seg | dst << 8 | size << 16);
    gen_call(g, HELPER(helper_load_far_pointer));
    end_lookup(g);
}

static void gen_lar(struct gen *g, bool lsl)
{
    bool high;
    unsigned dst = gpr_number(g->in->op[0].reg.value, &high);
    get_selector(g, &g->in->op[1]);
    emit_mov_imm(&g->e, R15, dst | g->in->d.operand_width / 8u << 8 | (unsigned)lsl << 16);
    gen_call(g, HELPER(helper_lar));
}

static void gen_arpl(struct gen *g)
{
    struct emitter *e = &g->e;
    const ZydisDecodedOperand *dst = &g->in->op[0];
    bool high;
    unsigned src = gpr_number(g->in->op[1].reg.value, &high);
    get_selector(g, dst);
    emit_movzx16(e, R15, gen_get(g, src, R15));
    gen_call(g, HELPER(helper_arpl));
    put_result(g, dst, 2);
}

static void gen_base(struct gen *g, unsigned seg, bool write)
{
    bool high;
    unsigned guest = gpr_number(g->in->op[0].reg.value, &high), size = op_size(&g->in->op[0]);
    if (write) {
        emit_mov(&g->e, R15, gen_get(g, guest, R15));
    }
    emit_mov_imm(&g->e, R14, seg | (unsigned)write << 8 | size << 16);
    gen_call(g, HELPER(helper_base));
    if (!write) {
        gen_put(g, guest, R15, size);
    }
}

/* VPGATHER/VGATHER: the base goes through the address computation without the index. */
static void gen_gather(struct gen *g)
{
    const struct insn *in = g->in;
    ZydisDecodedOperand mem = in->op[1];
    unsigned index = ZydisRegisterGetId(mem.mem.index),
             dst = ZydisRegisterGetId(in->op[0].reg.value);
    unsigned mask = ZydisRegisterGetId(in->op[2].reg.value),
             scale = mem.mem.scale ? mem.mem.scale : 1;
    bool qindex = false, qdata = false;
    switch (in->d.mnemonic) {
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VGATHERQPS:
        qindex = true;
        break;
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VGATHERDPD:
        qdata = true;
        break;
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VGATHERQPD:
        qindex = qdata = true;
        break;
    default:
        break;
    }
    if (dst == index || dst == mask || index == mask) {
        gen_ud(g);
        return;
    }
    mem.mem.index = ZYDIS_REGISTER_NONE;
    gen_ea(g, &mem);
    uint64_t packed = dst | index << 4 | mask << 8 | (uint64_t)scale << 12 |
                      (uint64_t)qindex << 16 | (uint64_t)qdata << 17 |
                      (uint64_t)(in->d.avx.vector_length == 256) << 18 |
                      (uint64_t)(mem.mem.segment - ZYDIS_REGISTER_ES) << 20 |
                      (uint64_t)(in->d.address_width / 8) << 24;
    emit_mov_imm(&g->e, R15, packed);
    gen_call(g, HELPER(helper_gather));
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q. */
static void gen_masked_move(struct gen *g, bool wide)
{
    const struct insn *in = g->in;
    bool store = in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    unsigned reg = ZydisRegisterGetId(in->op[store ? 2 : 0].reg.value),
             mask = ZydisRegisterGetId(in->op[1].reg.value);
    gen_linear(g, &in->op[store ? 0 : 2], in->op[store ? 0 : 2].size / 8,
               store ? INFO_WRITE : INFO_READ);
    emit_mov_imm(&g->e, R15,
                 reg | mask << 4 | (unsigned)wide << 8 |
                     (unsigned)(in->d.avx.vector_length == 256) << 9 | (unsigned)store << 10);
    gen_call(g, HELPER(helper_masked_move));
}

static void gen_call_end(struct gen *g, helper_fn fn, uint64_t a, uint64_t b)
{
    gen_call_imm(g, fn, a, b);
    end_lookup(g);
}

static void gen_call_last(struct gen *g, helper_fn fn, uint64_t a, uint64_t b)
{
    gen_call_imm(g, fn, a, b);
    g->ended = true;
}

static unsigned flags_size(const struct gen *g)
{
    return g->in->d.operand_width == 16 ? 2 : g->long_mode ? 8 : 4;
}

static bool gen_flags_and_control(struct gen *g)
{
    unsigned size = g->in->d.operand_width / 8;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
        if (g->mode & MODE_IOPL) {
            emit_store_imm8(&g->e, FIELD(flag_if), 0);
        } else {
            gen_call(g, HELPER(helper_cli));
        }
        return true;
    case ZYDIS_MNEMONIC_STI:
        gen_sti(g);
        return true;
    case ZYDIS_MNEMONIC_CLD:
        emit_store_imm8(&g->e, FIELD(flag_df), 0);
        return true;
    case ZYDIS_MNEMONIC_STD:
        emit_store_imm8(&g->e, FIELD(flag_df), 1);
        return true;
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        gen_call_imm(g, HELPER(helper_pushf), flags_size(g), 0);
        return true;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        gen_call_imm(g, HELPER(helper_popf), flags_size(g), 0);
        return true;
    case ZYDIS_MNEMONIC_INT3:
        gen_call_last(g, HELPER(helper_int3), g->next_rip, 0);
        return true;
    case ZYDIS_MNEMONIC_INT1:
        gen_call_last(g, HELPER(helper_int1), g->next_rip, 0);
        return true;
    case ZYDIS_MNEMONIC_INT:
        gen_call_last(g, HELPER(helper_int), g->next_rip, g->in->op[0].imm.value.u & 0xff);
        return true;
    case ZYDIS_MNEMONIC_INTO:
        gen_call_end(g, HELPER(helper_into), g->next_rip, 0);
        return true;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        gen_call_last(g, HELPER(helper_iret), g->next_rip, size);
        return true;
    case ZYDIS_MNEMONIC_SYSCALL:
        gen_mov_rip(g, R14, g->next_rip);
        g->call_movable = true;
        gen_call(g, HELPER(helper_syscall));
        g->ended = true;
        return true;
    case ZYDIS_MNEMONIC_SYSRET:
        gen_call_last(g, HELPER(helper_sysret), size, 0);
        return true;
    case ZYDIS_MNEMONIC_SYSENTER:
        gen_call_last(g, HELPER(helper_sysenter), 0, 0);
        return true;
    case ZYDIS_MNEMONIC_SYSEXIT:
        gen_call_last(g, HELPER(helper_sysexit), size, 0);
        return true;
    case ZYDIS_MNEMONIC_HLT:
        gen_call_last(g, HELPER(helper_hlt), g->next_rip, 0);
        return true;
    default:
        return false;
    }
}

static bool gen_tables(struct gen *g)
{
    const ZydisDecodedOperand *op = g->in->op;
    unsigned size = g->in->d.operand_width / 8, table = g->long_mode ? 8 : size;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
        gen_linear_call(g, &op[0], HELPER(helper_load_table),
                        table | (g->in->d.mnemonic == ZYDIS_MNEMONIC_LIDT) << 8);
        return true;
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
        gen_linear_call(g, &op[0], HELPER(helper_store_table),
                        (g->long_mode ? 8 : 4) | (g->in->d.mnemonic == ZYDIS_MNEMONIC_SIDT) << 8);
        return true;
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
        if (!(g->mode & MODE_PE) || (g->mode & MODE_VM)) {
            gen_ud(g);
            return true;
        }
        gen_call_imm(g, HELPER(helper_sldt), g->in->d.mnemonic == ZYDIS_MNEMONIC_STR, 0);
        put_result(g, &op[0], size);
        return true;
    case ZYDIS_MNEMONIC_SMSW:
        gen_call(g, HELPER(helper_smsw));
        put_result(g, &op[0], size);
        return true;
    case ZYDIS_MNEMONIC_LMSW:
        get_selector(g, &op[0]);
        gen_call(g, HELPER(helper_lmsw));
        end_lookup(g);
        return true;
    case ZYDIS_MNEMONIC_LLDT:
    case ZYDIS_MNEMONIC_LTR:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_ARPL:
        if (!(g->mode & MODE_PE) || (g->mode & MODE_VM)) {
            gen_ud(g);
            return true;
        }
        break;
    default:
        return false;
    }
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
        gen_lar(g, g->in->d.mnemonic == ZYDIS_MNEMONIC_LSL);
        break;
    case ZYDIS_MNEMONIC_ARPL:
        gen_arpl(g);
        break;
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        get_selector(g, &op[0]);
        emit_mov_imm(&g->e, R15, g->in->d.mnemonic == ZYDIS_MNEMONIC_VERW);
        gen_call(g, HELPER(helper_verify));
        break;
    default:
        get_selector(g, &op[0]);
        gen_call(g, g->in->d.mnemonic == ZYDIS_MNEMONIC_LTR ? HELPER(helper_ltr)
                                                            : HELPER(helper_lldt));
    }
    return true;
}

static bool gen_privileged(struct gen *g)
{
    const ZydisDecodedOperand *op = g->in->op;
    bool high;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
        gen_call(g, HELPER(helper_cpuid));
        return true;
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
        gen_call_imm(g, HELPER(helper_rdtsc), g->in->d.mnemonic == ZYDIS_MNEMONIC_RDTSCP, 0);
        return true;
    case ZYDIS_MNEMONIC_RDMSR:
        gen_call(g, HELPER(helper_rdmsr));
        return true;
    case ZYDIS_MNEMONIC_WRMSR:
        gen_call_end(g, HELPER(helper_wrmsr), 0, 0);
        return true;
    case ZYDIS_MNEMONIC_RDPMC:
        gen_call_last(g, HELPER(helper_raise_gp), 0, 0);
        return true;
    case ZYDIS_MNEMONIC_CLTS:
        gen_call_end(g, HELPER(helper_clts), 0, 0);
        return true;
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
        gen_call(g, HELPER(helper_privileged));
        return true;
    case ZYDIS_MNEMONIC_INVLPG:
        gen_linear_call(g, &op[0], HELPER(helper_invlpg), 0);
        end_lookup(g);
        return true;
    case ZYDIS_MNEMONIC_INVPCID:
        gen_linear(g, &op[1], 16, INFO_READ);
        emit_mov(&g->e, R15, gen_get(g, gpr_number(op[0].reg.value, &high), R15));
        gen_call(g, HELPER(helper_invpcid));
        end_lookup(g);
        return true;
    case ZYDIS_MNEMONIC_SWAPGS:
        gen_call(g, HELPER(helper_swapgs));
        return true;
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
        gen_call_end(g, HELPER(helper_stac), g->in->d.mnemonic == ZYDIS_MNEMONIC_STAC, 0);
        return true;
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
        gen_base(g, g->in->d.mnemonic == ZYDIS_MNEMONIC_RDFSBASE ? CPU_FS : CPU_GS, false);
        return true;
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        gen_base(g, g->in->d.mnemonic == ZYDIS_MNEMONIC_WRFSBASE ? CPU_FS : CPU_GS, true);
        return true;
    case ZYDIS_MNEMONIC_XGETBV:
        gen_call(g, HELPER(helper_xgetbv));
        return true;
    case ZYDIS_MNEMONIC_XSETBV:
        gen_call_end(g, HELPER(helper_xsetbv), 0, 0);
        return true;
    case ZYDIS_MNEMONIC_RDPID:
        gen_call(g, HELPER(helper_rdpid));
        gen_put(g, gpr_number(op[0].reg.value, &high), R15, g->long_mode ? 8 : 4);
        return true;
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_RSM:
    case ZYDIS_MNEMONIC_GETSEC:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
        gen_ud(g);
        return true;
    default:
        return gen_tables(g);
    }
}

static bool gen_ports(struct gen *g)
{
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_IN:
        gen_port(g, false);
        return true;
    case ZYDIS_MNEMONIC_OUT:
        gen_port(g, true);
        return true;
    default:
        return false;
    }
}

static bool gen_legacy(struct gen *g)
{
    const ZydisDecodedOperand *op = g->in->op;
    unsigned size = g->in->d.operand_width / 8;
    bool high;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_AAA:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_AAA, 0);
        return true;
    case ZYDIS_MNEMONIC_AAS:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_AAS, 0);
        return true;
    case ZYDIS_MNEMONIC_DAA:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_DAA, 0);
        return true;
    case ZYDIS_MNEMONIC_DAS:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_DAS, 0);
        return true;
    case ZYDIS_MNEMONIC_AAM:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_AAM, op[0].imm.value.u & 0xff);
        return true;
    case ZYDIS_MNEMONIC_AAD:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_AAD, op[0].imm.value.u & 0xff);
        return true;
    case ZYDIS_MNEMONIC_SALC:
        gen_call_imm(g, HELPER(helper_decimal), LEGACY_SALC, 0);
        return true;
    case ZYDIS_MNEMONIC_BOUND:
        gen_linear_call(g, &op[1], HELPER(helper_bound),
                        gpr_number(op[0].reg.value, &high) | size << 8);
        return true;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        gen_call_imm(g, HELPER(helper_pusha), size, 0);
        return true;
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        gen_call_imm(g, HELPER(helper_popa), size, 0);
        return true;
    case ZYDIS_MNEMONIC_ENTER:
        gen_call_imm(g, HELPER(helper_enter), flags_size(g),
                     (op[0].imm.value.u & 0xffff) | (op[1].imm.value.u & 31) << 16);
        return true;
    case ZYDIS_MNEMONIC_LDS:
        gen_far_load(g, CPU_DS);
        return true;
    case ZYDIS_MNEMONIC_LES:
        gen_far_load(g, CPU_ES);
        return true;
    case ZYDIS_MNEMONIC_LFS:
        gen_far_load(g, CPU_FS);
        return true;
    case ZYDIS_MNEMONIC_LGS:
        gen_far_load(g, CPU_GS);
        return true;
    case ZYDIS_MNEMONIC_LSS:
        gen_far_load(g, CPU_SS);
        return true;
    case ZYDIS_MNEMONIC_XLAT:
        gen_xlat(g);
        return true;
    default:
        return false;
    }
}

static bool gen_fpu_state(struct gen *g)
{
    const ZydisDecodedOperand *op = g->in->op;
    uint64_t wide = g->in->d.operand_width == 64;
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        gen_linear_call(g, &op[0], HELPER(helper_fxsave), wide);
        return true;
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        gen_linear_call(g, &op[0], HELPER(helper_fxrstor), wide);
        return true;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
        gen_linear_call(g, &op[0], HELPER(helper_xsave), wide);
        return true;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        gen_linear_call(g, &op[0], HELPER(helper_xrstor), wide);
        return true;
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
        gen_maskmov(g);
        return true;
    default:
        break;
    }
    if (g->in->d.meta.isa_ext == ZYDIS_ISA_EXT_AVX2GATHER) {
        gen_gather(g);
        return true;
    }
    switch (g->in->d.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        gen_maskmov(g);
        return true;
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
        gen_masked_move(g, false);
        return true;
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        gen_masked_move(g, true);
        return true;
    default:
        return false;
    }
}

bool gen_system(struct gen *g)
{
    const struct insn *in = g->in;
    switch (in->d.meta.category) {
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_WIDENOP:
    case ZYDIS_CATEGORY_PREFETCH:
    case ZYDIS_CATEGORY_PREFETCHWT1:
    case ZYDIS_CATEGORY_CLFLUSHOPT:
    case ZYDIS_CATEGORY_CLWB:
        return true;
    default:
        break;
    }
    switch (in->d.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return gen_mov(g);
    case ZYDIS_MNEMONIC_LEA:
        gen_lea(g);
        return true;
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_CLFLUSH:
        return true;
    case ZYDIS_MNEMONIC_PAUSE:
        emit8(&g->e, 0xf3);
        emit8(&g->e, 0x90);
        return true;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        if (in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
            gen_bit_memory(g);
            return true;
        }
        return false;
    default:
        break;
    }
    return gen_flags_and_control(g) || gen_string(g) || gen_ports(g) || gen_privileged(g) ||
           gen_legacy(g) || gen_fpu_state(g);
}
