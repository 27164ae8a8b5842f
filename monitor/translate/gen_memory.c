/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operands: guest registers, effective addresses, segments and the checks before each memory
 * access.
 *
 * The check probes the first-level TLB (struct tlb). Where the flags are dead and no fault will
 * show them it uses them; else it uses PEXT, LEA and JRCXZ, or saves them on hosts whose PEXT is
 * slow. A miss goes to an out-of-line path, which calls helper_mem_slow and, for stores, executes a
 * copy of the instruction followed by helper_mem_finish, since the slow helper may have handed out
 * a bounce buffer (I/O, page crossings) or a page with translated code.
 */
#include "gen.h"

#include "window.h"

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
    static const uint8_t host[16] = {RAX,    R13,    RDX,    RBX,    R12, RBP, RSI, RDI,
                                     NO_REG, NO_REG, NO_REG, NO_REG, R8,  R9,  R10, R11};
    return host[guest];
}

unsigned gen_get(struct gen *g, unsigned guest, unsigned scratch)
{
    unsigned host = host_reg(guest);
    if (host != NO_REG) {
        return host;
    }
    unsigned cached = cached_host(g, guest);
    if (cached == NO_REG) {
        emit_load_near(&g->e, scratch, GPR(guest));
    } else if (cached != scratch) {
        emit_mov(&g->e, scratch, cached);
    }
    cached_note(g, scratch, guest);
    return scratch;
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
    emit_store_near(&g->e, host, GPR(guest));
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

static void ea_constant(struct gen *g, unsigned width, uint64_t value, bool rip)
{
    value &= mask_size(width / 8);
    cached_forget(g, R14);
    g->made.ok = false;
    g->address =
        (struct address){.base = NO_REG, .constant = true, .guessed = true, .value = value};
    if (rip && width == 64) {
        gen_mov_rip(g, R14, value);
    } else {
        g->movable &= !rip;
        emit_mov_imm(&g->e, R14, value);
    }
}

/* Notes what is known of base + index * scale + disp. */
static void ea_note(struct gen *g, unsigned width, unsigned base, unsigned index, unsigned scale,
                    int64_t disp)
{
    const uint64_t *gpr = g->v->gpr;
    uint16_t used = (base == NO_REG ? 0 : 1 << base) | (index == NO_REG ? 0 : 1 << index);
    uint64_t value = (base == NO_REG ? 0 : gpr[base]) + (index == NO_REG ? 0 : gpr[index] * scale);
    bool near = index == NO_REG || (g->small & 1 << index);
    g->address = (struct address){.base = width == 64 && base != NO_REG && near ? base : NO_REG,
                                  .disp = disp,
                                  .guessed = !(used & g->written),
                                  .value = (value + disp) & mask_size(width / 8)};
    if (width == 64 && index != NO_REG && !near) {
        g->address.pair = true;
        g->address.pair_base = base;
        g->address.pair_index = index;
        g->address.pair_scale = scale;
    }
}

/* `to` := base + index * scale + disp, 64 or 32 bits of it. Uses R14 and R15. */
static void ea_sum(struct gen *g, unsigned to, bool w, unsigned base, unsigned index,
                   unsigned scale, int64_t disp)
{
    struct emitter *e = &g->e;
    unsigned hb = base == NO_REG ? NO_REG : gen_get(g, base, R14);
    unsigned hi = index == NO_REG ? NO_REG : gen_get(g, index, R15);
    g->r15_unit = hi == R15 ? NO_UNIT : g->r15_unit;
    if (hb == NO_REG) {
        emit_lea_index(e, w, to, hi, scale, disp);
    } else {
        emit_lea(e, w, to, hb, hi == NO_REG ? RSP : hi, scale, disp);
    }
}

/* Host register `to` := the operand's address, which is of `size` or more; false: nothing done, it
 * takes gen_ea. */
bool gen_ea_to(struct gen *g, const ZydisDecodedOperand *op, unsigned to, unsigned size)
{
    bool high, rip = op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP;
    if (rip || g->in->d.address_width == 16 || (!op->mem.base && !op->mem.index)) {
        return false;
    }
    ea_sum(g, to, size == 8, op->mem.base ? gpr_number(op->mem.base, &high) : NO_REG,
           op->mem.index ? gpr_number(op->mem.index, &high) : NO_REG,
           op->mem.scale ? op->mem.scale : 1, op->mem.disp.value);
    return true;
}

/* R14 := effective address, wrapped to the address size. Uses R15. */
void gen_ea(struct gen *g, const ZydisDecodedOperand *op)
{
    struct emitter *e = &g->e;
    unsigned width = g->in->d.address_width;
    int64_t disp = op->mem.disp.value;
    bool high, w = width == 64;
    if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
        ea_constant(g, width, g->next_rip + disp, true);
        return;
    }
    unsigned base = op->mem.base ? gpr_number(op->mem.base, &high) : NO_REG;
    unsigned index = op->mem.index ? gpr_number(op->mem.index, &high) : NO_REG;
    unsigned scale = op->mem.scale ? op->mem.scale : 1;
    if (base == NO_REG && index == NO_REG) {
        ea_constant(g, width, disp, false);
        return;
    }
    ea_note(g, width, base, index, scale, disp);
    const struct made *m = &g->made;
    if (w && m->ok && m->base == base && m->index == index && m->scale == scale &&
        m->disp == disp) {
        return;
    }
    g->made = (struct made){w && g->long_mode, base, index, scale, disp};
    ea_sum(g, R14, w, base, index, scale, disp);
    cached_forget(g, R14);
    if (width == 16) {
        emit_movzx16(e, R14, R14);
    }
}

/* May a check use the flags? A fault shows them even where no instruction will read them, to signal
 * handlers say. Not exact for speed: 64-bit kernels, and hosts where checks without flags are slow.
 */
static bool flags_dead(const struct gen *g)
{
    bool exact = gen_fast_flagless() && (!g->long_mode || (g->mode & MODE_CPL) == 3);
    return g->in->live == 0 && !exact;
}

/* R14 is an offset in segment `seg`: limit check, then add the base. Uses R15. */
void gen_segment(struct gen *g, unsigned seg, unsigned size, unsigned rw)
{
    struct emitter *e = &g->e;
    if (g->long_mode) {
        if (seg >= CPU_FS) {
            g->made.ok = false;
            g->address.base = NO_REG;
            g->address.constant = g->address.pair = false;
            g->address.value += g->v->seg[seg].base;
            g->r15_unit = NO_UNIT;
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
    g->r15_unit = NO_UNIT;
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

static void constant_make(struct gen *g, const struct address *a)
{
    g->made.ok = false;
    if (a->rip) {
        gen_mov_rip(g, R14, a->value);
    } else {
        emit_mov_imm(&g->e, R14, a->value);
    }
    cached_forget(g, R14);
}

void gen_linear_access(struct gen *g, const ZydisDecodedOperand *op, unsigned size, unsigned rw)
{
    unsigned seg = op->mem.segment - ZYDIS_REGISTER_ES;
    bool high, rip = op->mem.base == ZYDIS_REGISTER_RIP;
    unsigned base = op->mem.base && !rip ? gpr_number(op->mem.base, &high) : NO_REG;
    int64_t disp = op->mem.disp.value;
    if (!g->long_mode || seg >= CPU_FS || g->in->d.address_width != 64 || op->mem.index ||
        disp != (int32_t)disp) {
        gen_linear(g, op, size, rw);
    } else if (base != NO_REG) {
        ea_note(g, 64, base, NO_REG, 1, disp);
        g->address.pending = true;
    } else {
        uint64_t value = disp + (rip ? g->next_rip : 0);
        g->address =
            (struct address){.base = NO_REG, .constant = true, .guessed = true, .value = value};
        g->address.rip = rip;
        g->address.pending = value == (uint64_t)(int32_t)value;
        if (!g->address.pending) {
            constant_make(g, &g->address);
        }
    }
    gen_access(g, size, rw, seg == CPU_SS);
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

static uint64_t site_key(const struct gen *g)
{
    return (g->b->linear + g->in->offset) * 2 + (g->accesses > 1);
}

/* Shall this access go through a window, and which unit's? */
static bool plan_window(const struct gen *g, int64_t *unit, bool *any)
{
    const struct address *a = &g->address;
    if (!(g->mode & MODE_WINDOW) || (g->mode & (MODE_AC | MODE_DEBUG)) || g->no_window) {
        return false;
    }
    const struct site_hint *h = hint_slot(g->v, site_key(g));
    bool hinted = h->site == site_key(g);
    if (hinted && h->tlb) {
        return false;
    }
    const struct base_known *known = known_of((struct gen *)g, a);
    if (a->constant) {
        *unit = window_unit(g->v, a->value);
    } else if (known && known->ok) {
        *unit = known->unit;
    } else if (g->loop.pass && g->in->unit[g->accesses - 1] != NO_UNIT) {
        *unit = g->in->unit[g->accesses - 1];
        *any = g->in->any[g->accesses - 1];
    } else if (hinted) {
        *unit = h->unit;
        *any = h->any;
    } else if (a->guessed) {
        *unit = window_unit(g->v, a->value);
    } else {
        *unit = a->base == CPU_RSP ? window_unit(g->v, g->v->gpr[CPU_RSP]) : g->last_unit;
    }
    return window_possible(g->v, *unit, (g->mode & MODE_CPL) != 3);
}

/* `reg` must hold an address in `unit`. */
static void unit_check(struct gen *g, unsigned reg, int64_t unit, struct slow *s)
{
    struct emitter *e = &g->e;
    cached_forget(g, RCX);
    if (flags_dead(g) && gen_fast_flagless() && unit == (int8_t)unit) {
        /* 16 bits: what is wrong above them is not canonical on the host either */
        emit_rorx(e, RCX, reg, g->v->unit_shift);
        emit8(e, 0x66);
        emit_alu_imm(e, 7, false, RCX, unit);
        s->jump = emit_jcc(e, CC_NE);
    } else if (flags_dead(g)) {
        emit_mov(e, RCX, reg);
        emit_shift_imm(e, 7, true, RCX, g->v->unit_shift);
        emit_alu_imm(e, 7, false, RCX, unit);
        s->jump = emit_jcc(e, CC_NE);
    } else {
        uint32_t mask = (1u << (64 - g->v->unit_shift)) - 1;
        emit_pext_gs(e, RCX, reg, FIELD(unit_mask));
        emit_lea(e, false, RCX, RCX, RSP, 1, -(int32_t)(unit & mask));
        uint8_t *hit = emit_jrcxz(e);
        s->jump = emit_jmp(e);
        emit_patch8(hit, e->p);
    }
}

static uint32_t addend_field(const struct gen *g, int64_t unit)
{
    bool kernel = (g->mode & MODE_CPL) != 3;
    return FIELD(window_addend) + (kernel * WINDOW_UNITS + window_slot(unit)) * sizeof(uint64_t);
}

/* R15 := what leads from the address in `reg` to its unit's window, whichever that is. Addresses
 * that are not canonical find the addend of another unit, and then no canonical host address. */
static void access_any(struct gen *g, unsigned reg)
{
    struct emitter *e = &g->e;
    if (gen_fast_flagless()) {
        emit_pext_gs(e, R15, reg, FIELD(slot_mask));
    } else { /* then flags are dead: gen_access */
        emit_mov(e, R15, reg);
        emit_shift_imm(e, 7, true, R15, g->v->unit_shift);
        emit_rr(e, 0x0fb6, false, R15, R15);
    }
    emit_gs_index(e, 0x8b, R15, R15, addend_field(g, 0));
    g->r15_unit = NO_UNIT;
}

void gen_window_addend(struct gen *g, int unit)
{
    if (unit != NO_UNIT && g->r15_unit != unit) {
        emit_load(&g->e, R15, addend_field(g, unit));
    }
}

/* R15 := what leads from an address in `unit` to its window. */
static void access_window(struct gen *g, int64_t unit, struct slow *s)
{
    struct emitter *e = &g->e;
    struct address *a = &g->address;
    struct base_known *known = a->disp == (int32_t)a->disp ? known_of(g, a) : NULL;
    s->direct = a->pending;
    cached_forget(g, R15);
    g->made.ok &= !a->pending; /* the slow path makes another */
    s->address = *a;
    if (a->constant) { /* a copy of the block may be anywhere in its unit, the address likewise */
        g->movable &= unit == window_unit(g->v, g->b->linear) && !(a->pending && a->rip);
    }
    if (a->pending && a->constant) {
        g->mem_base = NO_REG;
        g->mem_disp = a->value;
    } else if (a->pending) {
        g->mem_base = gen_get(g, a->base, R14);
        g->mem_disp = a->disp;
    }
    if (s->any) {
        access_any(g, a->pending ? g->mem_base : R14);
        return;
    }
    if (known && known->ok) {
        g->slow[known->slow].anchor = true;
        s->info |= g->loop.pass ? INFO_LOOP : 0;
    } else if (!a->constant) {
        unit_check(g, a->pending ? g->mem_base : R14, unit, s);
        if (known) {
            *known = (struct base_known){true, false, unit, s - g->slow, 0};
        }
    }
    if (known) {
        known->used = true;
    }
    if (g->r15_unit != unit || !g->r15_used) {
        emit_load(e, R15, addend_field(g, unit));
    }
    g->r15_unit = unit;
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

/* R14 := the address that was left pending. */
static void address_make(struct gen *g, const struct address *a)
{
    g->made.ok = false;
    if (a->constant) {
        constant_make(g, a);
    } else {
        emit_lea(&g->e, true, R14, gen_get(g, a->base, R14), RSP, 1, a->disp);
    }
    cached_forget(g, R14);
}

void gen_access(struct gen *g, unsigned size, unsigned rw, bool stack)
{
    struct emitter *e = &g->e;
    g->mem_base = R14;
    g->mem_disp = 0;
    uint32_t info =
        size | rw | (stack ? INFO_STACK : 0) | (vector_aligned(g->in, size) ? INFO_VECTOR : 0);
    uint32_t tags =
        tlb_field(g, rw & INFO_WRITE ? offsetof(struct tlb, write) : offsetof(struct tlb, read));
    struct slow *s = &g->slow[g->slows++];
    int64_t unit;
    bool any = false;
    g->accesses++;
    info |= g->accesses > 1 ? INFO_SECOND : 0;
    *s = (struct slow){.insn = g->i, .info = info};
    bool window = plan_window(g, &unit, &any) && (flags_dead(g) || gen_fast_flagless());
    if (!window) {
        g->r15_unit = NO_UNIT;
        if (g->address.pending) {
            address_make(g, &g->address);
        }
        cached_forget(g, RCX);
        cached_forget(g, R14);
        cached_forget(g, R15);
    }
    if (window) {
        s->window = true;
        s->any = any;
        s->unit = g->last_unit = unit;
        if (!g->loop.pass && g->accesses <= 2) {
            g->in->unit[g->accesses - 1] = unit;
            g->in->any[g->accesses - 1] = any;
        }
        s->info |= (uint32_t)(uint8_t)unit << INFO_UNIT_SHIFT | (any ? INFO_ANY : 0);
        access_window(g, unit, s);
        s->op = e->p;
    } else if (g->mode & (MODE_AC | MODE_DEBUG)) {
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
    s->at_op = g->cached;
    g->address = (struct address){.base = NO_REG};
}

void gen_op_end(struct gen *g)
{
    g->slow[g->open_slow].op_end = g->e.p;
    g->slow[g->open_slow].at_end = g->cached;
}

unsigned gen_mem_rex(const struct gen *g)
{
    return 1 << 1 | (g->mem_base == NO_REG ? 1 : g->mem_base >> 3);
}

void gen_mem_modrm(struct gen *g, unsigned reg)
{
    if (g->mem_base == NO_REG) { /* [R15 + disp32], as a base: REX.B; X is not used */
        emit8(&g->e, 2 << 6 | (reg & 7) << 3 | (R15 & 7));
        emit32(&g->e, g->mem_disp);
    } else {
        emit_modrm_mem(&g->e, reg, g->mem_base, R15, 1, g->mem_disp);
    }
}

static void emit_mem_op(struct gen *g, unsigned op, bool w, unsigned reg)
{
    struct emitter *e = &g->e;
    emit8(e, 0x40 | w << 3 | (reg >> 3 & 1) << 2 | gen_mem_rex(g));
    if (op > 0xff) {
        emit8(e, op >> 8);
    }
    emit8(e, op);
    gen_mem_modrm(g, reg);
}

void gen_mem_lea(struct gen *g, unsigned reg)
{
    struct slow *s = &g->slow[g->open_slow];
    if (s->window && !s->direct) {
        s->kept = true;
        emit_store(&g->e, R14, FIELD(tmp[4]));
    }
    emit_mem_op(g, 0x8d, true, reg);
}

void gen_mem_load(struct gen *g, unsigned reg, unsigned size)
{
    emit_mem_op(g, size == 1 ? 0x0fb6 : size == 2 ? 0x0fb7 : 0x8b, size == 8, reg);
}

void gen_mem_store(struct gen *g, unsigned reg, unsigned size)
{
    if (size == 2) {
        emit8(&g->e, 0x66);
    }
    emit_mem_op(g, size == 1 ? 0x88 : 0x89, size == 8, reg);
}

static void slow_segment(struct gen *g, struct slow *s)
{
    struct emitter *e = &g->e;
    if (s->popf) {
        emit_popf(e);
    }
    emit_mov_imm(e, R15, s->info);
    gen_call_thunk(g, g->c->thunk_seg);
    if (s->popf) {
        emit_pushf(e);
    }
    gen_jump_to(g, s->op);
}

/* The access's own code once more, and what in it depends on the block's place. */
static void op_again(struct gen *g, const struct slow *s)
{
    uint32_t first = s->op - g->c->rw - g->b->code, end = s->op_end - g->c->rw - g->b->code;
    unsigned count = g->fixes_count;
    for (unsigned i = 0; i < count; i++) {
        const struct fix *f = &g->fixes[i];
        if (!f->cold && f->at >= first && f->at < end) {
            gen_fix(g, g->e.p + (f->at - first), f->kind);
        }
    }
    emit_bytes(&g->e, s->op, s->op_end - s->op);
}

static void cached_reload(struct gen *g, const struct cached *c)
{
    static const uint8_t host[3] = {RCX, R14, R15};
    for (unsigned i = 0; i < 3; i++) {
        if (c->guest[i] != NO_REG) {
            emit_load_near(&g->e, host[i], GPR(c->guest[i]));
        }
    }
}

static void slow_access(struct gen *g, struct slow *s)
{
    struct emitter *e = &g->e;
    if (s->popf) {
        emit_popf(e);
    }
    emit_mov_imm(e, R15, s->info);
    gen_call_thunk(g, g->c->thunk_mem);
    cached_reload(g, &s->at_op);
    if (s->info & INFO_WRITE) {
        op_again(g, s);
        gen_call_thunk(g, g->c->thunk_finish);
        cached_reload(g, &s->at_end);
        gen_jump_to(g, s->op_end);
    } else {
        gen_jump_to(g, s->op);
    }
}

/* An address outside the unit after all: where later accesses rely on it, the block ends before
 * this instruction and is made anew. Also entered by the signal handler, behind the comparison. */
static void slow_window(struct gen *g, const struct slow *s)
{
    struct emitter *e = &g->e;
    const uint8_t *code = g->c->rw + g->b->code, *cold = g->c->rw + g->b->cold;
    const struct address *a = &s->address;
    if (s->jump) {
        gen_patch_to(g, s->jump, e->p);
    }
    if (s->jump && s->anchor) {
        if (s->direct) {
            address_make(g, a);
        }
        emit_mov_imm(e, R15, s->info);
        gen_call_thunk(g, g->c->thunk_anchor);
    }
    g->window_sites[g->window_sites_count++] =
        (struct window_site){s->op - code, s->op_end - s->op, e->p - cold, s->kept};
    if (s->direct) {
        address_make(g, a);
    }
    emit_mov_imm(e, R15, s->info);
    gen_call_thunk(g, g->c->thunk_window);
    if (s->direct && !a->constant && host_reg(a->base) == NO_REG) {
        gen_get(g, a->base, R14); /* the access itself adds the displacement */
    }
    cached_reload(g, &s->at_op);
    op_again(g, s);
    if (s->info & INFO_WRITE) {
        gen_call_thunk(g, g->c->thunk_finish);
    }
    cached_reload(g, &s->at_end);
    if (!s->any) { /* what follows may count on it */
        emit_load(e, R15, addend_field(g, s->unit));
    }
    gen_jump_to(g, s->op_end);
}

void gen_slow_paths(struct gen *g)
{
    for (unsigned i = 0; i < g->slows; i++) {
        struct slow *s = &g->slow[i];
        g->in = &g->insns[s->insn];
        cached_clear(g);
        gen_site(g);
        if (s->window) {
            slow_window(g, s);
            continue;
        }
        gen_patch_to(g, s->jump, g->e.p);
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
        gen_linear_access(g, op, size, INFO_READ);
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
