/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control flow and the stack: branches, calls, returns, PUSH, POP, ENTER, LEAVE, and how a block
 * ends.
 *
 * A block ends with direct jumps that link_missed() patches to the next block (same page only: such
 * a link stays valid as long as the block itself), or with a look into the jump table. Every
 * backward or indirect way out first tests vcpu.run (JRCXZ: no flags), the safepoint.
 */
#include "gen.h"

#include "vcpu.h"

static void jump_thunk(struct gen *g, uint8_t *thunk)
{
    gen_jump_to(g, g->c->rw + (thunk - g->c->rx));
}

static void add_stub(struct gen *g, uint8_t *jump, struct link *link, uint64_t target)
{
    g->stub[g->stubs++] = (struct stub){jump, link, target};
}

/* R14: the rip to go on at. Leaves the block through the jump table. */
void gen_indirect(struct gen *g)
{
    struct emitter *e = &g->e;
    g->ended = true;
    if (g->mode & MODE_STEP) {
        jump_thunk(g, g->c->thunk_stop);
        return;
    }
    if (g->mode & (MODE_TF | MODE_DEBUG) || translate_options.no_chain) {
        emit_load32(e, RCX, FIELD(run));
        uint8_t *stop = emit_jrcxz(e);
        jump_thunk(g, g->c->thunk_indirect);
        emit_patch8(stop, e->p);
        jump_thunk(g, g->c->thunk_stop);
        return;
    }
    jump_thunk(g, g->c->thunk_jump[g->slot]);
}

static uint64_t rip_linear(const struct gen *g, uint64_t rip)
{
    return g->long_mode ? rip : (uint32_t)(rip + g->cs_base);
}

static bool same_page(const struct gen *g, uint64_t rip)
{
    return ((rip_linear(g, rip) ^ g->b->linear) & ~0xfffull) == 0;
}

/* May a jump there be linked? Into another page only from code whose mappings are kept track of. */
static bool linkable(const struct gen *g, uint64_t rip)
{
    bool kernel = (g->mode & MODE_CPL) != 3;
    if (g->mode & (MODE_STEP | MODE_TF | MODE_DEBUG) || translate_options.no_chain) {
        return false;
    }
    return same_page(g, rip) ||
           ((g->mode & MODE_WINDOW) && (!kernel || rip >> 47 == 0x1ffff || g->v->space));
}

static struct link *link_new(struct gen *g, uint8_t *patch, uint64_t rip)
{
    struct link *link = &g->b->link[g->b->links++];
    *link = (struct link){.patch = patch - (g->c->rw + g->b->code),
                          .from = g->b,
                          .target = rip_linear(g, rip)};
    return link;
}

/* Backwards, with a safepoint. */
static struct link *exit_back(struct gen *g, uint64_t rip)
{
    struct emitter *e = &g->e;
    emit_load32(e, RCX, FIELD(run));
    uint8_t *stop = emit_jrcxz(e);
    uint8_t *jump = emit_jmp(e);
    emit_patch8(stop, e->p);
    gen_mov_rip(g, R14, rip);
    jump_thunk(g, g->c->thunk_stop);
    struct link *link = link_new(g, jump, rip);
    add_stub(g, jump, link, rip);
    return link;
}

/* A way out to a known rip, in place. */
static void exit_to(struct gen *g, uint64_t rip)
{
    struct emitter *e = &g->e;
    if (!linkable(g, rip)) {
        gen_mov_rip(g, R14, rip);
        gen_indirect(g);
        return;
    }
    if (rip <= g->in->rip) {
        exit_back(g, rip);
    } else {
        uint8_t *jump = emit_jmp(e);
        add_stub(g, jump, link_new(g, jump, rip), rip);
    }
    g->ended = true;
}

void gen_exit(struct gen *g, uint64_t rip)
{
    exit_to(g, rip);
}

void gen_exit_lookup(struct gen *g, uint64_t rip)
{
    gen_mov_rip(g, R14, rip);
    jump_thunk(g, g->mode & MODE_STEP ? g->c->thunk_stop : g->c->thunk_indirect);
    g->ended = true;
}

void gen_stubs(struct gen *g)
{
    struct emitter *e = &g->e;
    const uint8_t *cold = g->c->rw + g->b->cold;
    for (unsigned i = 0; i < g->stubs; i++) {
        struct stub *s = &g->stub[i];
        emit_patch32(s->jump, e->p);
        s->link->stub = e->p - cold;
        gen_mov_rip(g, R14, s->target);
        s->link->call = e->p - cold;
        link_ask(g->c, s->link);
        e->p += LINK_CALL;
    }
}

/* --- the stack --- */

static unsigned stack_bytes(const struct gen *g)
{
    return g->long_mode ? 8 : g->mode & MODE_SS32 ? 4 : 2;
}

/* R14 := rSP + delta, wrapped. */
static void stack_offset(struct gen *g, int delta)
{
    unsigned bytes = stack_bytes(g);
    emit_lea(&g->e, bytes == 8, R14, R12, RSP, 1, delta);
    if (bytes == 2) {
        emit_movzx16(&g->e, R14, R14);
    }
    g->address = (struct address){.base = NO_REG};
}

/* rSP += delta, no flags, RCX clobbered in 16-bit stacks. */
static void stack_adjust(struct gen *g, int delta)
{
    unsigned bytes = stack_bytes(g);
    if (bytes == 2) {
        emit_lea(&g->e, false, RCX, R12, RSP, 1, delta);
        emit_mov16(&g->e, R12, RCX);
    } else {
        emit_lea(&g->e, bytes == 8, R12, R12, RSP, 1, delta);
    }
}

static void stack_access(struct gen *g, int delta, unsigned size, unsigned rw)
{
    if (g->long_mode) {
        g->address = (struct address){.base = CPU_RSP, .disp = delta, .pending = true};
    } else {
        stack_offset(g, delta);
        gen_segment(g, CPU_SS, size, rw);
    }
    gen_access(g, size, rw, true);
}

/* Pushes host register `reg` (not R14/R15; RCX is lost). */
static void push_reg(struct gen *g, unsigned reg, unsigned size)
{
    if (reg == RCX) {
        emit_store(&g->e, RCX, FIELD(tmp[1]));
    }
    stack_access(g, -(int)size, size, INFO_WRITE);
    g->r15_kept = true;
    if (reg == RCX) {
        emit_load(&g->e, RCX, FIELD(tmp[1]));
    }
    gen_mem_store(g, reg, size);
    stack_adjust(g, -(int)size);
    gen_op_end(g);
}

static void push_imm(struct gen *g, uint64_t value, unsigned size, bool rip)
{
    stack_access(g, -(int)size, size, INFO_WRITE);
    if (rip) {
        gen_mov_rip(g, RCX, value & mask_size(size));
    } else {
        emit_mov_imm(&g->e, RCX, value & mask_size(size));
    }
    gen_mem_store(g, RCX, size);
    stack_adjust(g, -(int)size);
    gen_op_end(g);
}

/* RCX := popped value, rSP moved by size + extra. R14 and R15 are free afterwards. */
static void pop_rcx(struct gen *g, unsigned size, unsigned extra)
{
    stack_access(g, 0, size, INFO_READ);
    gen_mem_load(g, RCX, size);
    gen_op_end(g);
    if (stack_bytes(g) == 2) {
        emit_lea(&g->e, false, R14, R12, RSP, 1, size + extra);
        emit_mov16(&g->e, R12, R14);
    } else {
        emit_lea(&g->e, stack_bytes(g) == 8, R12, R12, RSP, 1, size + extra);
    }
}

static unsigned stack_op_size(const struct gen *g)
{
    unsigned w = g->in->d.operand_width;
    return w == 16 ? 2 : g->long_mode ? 8 : 4;
}

static void gen_push(struct gen *g)
{
    const ZydisDecodedOperand *op = &g->in->op[0];
    unsigned size = stack_op_size(g);
    bool high;
    g->r15_used = true;
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        push_imm(g, op->imm.value.u, size, false);
    } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        gen_operand_load(g, op, RCX);
        push_reg(g, RCX, size);
    } else if (op->reg.value >= ZYDIS_REGISTER_ES && op->reg.value <= ZYDIS_REGISTER_GS) {
        unsigned seg = op->reg.value - ZYDIS_REGISTER_ES;
        emit_gs(&g->e, 0x0fb7, false, RCX,
                FIELD(seg) + seg * sizeof(struct segment) + offsetof(struct segment, selector));
        push_reg(g, RCX, size);
    } else {
        unsigned guest = gpr_number(op->reg.value, &high), host = host_reg(guest);
        if (host == NO_REG) {
            stack_access(g, -(int)size, size, INFO_WRITE);
            emit_load_near(&g->e, RCX, GPR(guest));
            gen_mem_store(g, RCX, size);
            stack_adjust(g, -(int)size);
            gen_op_end(g);
        } else {
            push_reg(g, host, size);
        }
    }
}

static void gen_pop(struct gen *g)
{
    const ZydisDecodedOperand *op = &g->in->op[0];
    unsigned size = stack_op_size(g);
    bool high;
    g->r15_used = true;
    if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_ES &&
        op->reg.value <= ZYDIS_REGISTER_GS) {
        unsigned seg = op->reg.value - ZYDIS_REGISTER_ES;
        gen_call_imm(g, HELPER(helper_pop_segment), seg, size);
        if (!g->long_mode || seg == CPU_SS) {
            gen_exit_lookup(g, g->next_rip);
        }
        return;
    }
    if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        unsigned guest = gpr_number(op->reg.value, &high);
        pop_rcx(g, size, 0);
        gen_put(g, guest, RCX, size);
        g->r15_kept = true;
        return;
    }
    /* POP m: the address is computed with rSP already moved; rSP moves only when the store is done.
     */
    stack_access(g, 0, size, INFO_READ);
    gen_mem_load(g, RCX, size);
    gen_op_end(g);
    emit_store(&g->e, RCX, FIELD(tmp[0]));
    ZydisDecodedOperand moved = *op;
    if (op->mem.base == ZYDIS_REGISTER_RSP || op->mem.base == ZYDIS_REGISTER_ESP) {
        moved.mem.disp.value += size;
    }
    gen_linear_access(g, &moved, size, INFO_WRITE);
    emit_load(&g->e, RCX, FIELD(tmp[0]));
    gen_mem_store(g, RCX, size);
    stack_adjust(g, size);
    gen_op_end(g);
}

/* LEAVE: rSP := rBP, then pop rBP; rSP changes only when the load is done. */
static void gen_leave(struct gen *g)
{
    struct emitter *e = &g->e;
    unsigned size = stack_op_size(g), bytes = stack_bytes(g);
    if (bytes == 2) {
        emit_movzx16(e, R14, RBP);
    } else if (bytes == 4) {
        emit_mov32(e, R14, RBP);
    } else {
        emit_mov(e, R14, RBP);
    }
    g->address = (struct address){.base = bytes == 8 ? CPU_RBP : NO_REG};
    gen_segment(g, CPU_SS, size, INFO_READ);
    gen_access(g, size, INFO_READ, true);
    gen_mem_load(g, RCX, size);
    gen_op_end(g);
    if (bytes == 2) {
        emit_lea(e, false, R14, RBP, RSP, 1, size);
        emit_mov16(e, R12, R14);
    } else {
        emit_lea(e, bytes == 8, R12, RBP, RSP, 1, size);
    }
    gen_put(g, 5, RCX, size);
}

/* --- branches --- */

static uint64_t branch_target(const struct gen *g)
{
    uint64_t target = g->next_rip + (int64_t)g->in->op[0].imm.value.s;
    if (!g->long_mode) {
        target &= g->in->d.operand_width == 16 ? 0xffff : 0xffffffff;
    }
    return target;
}

static const int8_t jcc_of[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    [ZYDIS_MNEMONIC_JO] = 1,    [ZYDIS_MNEMONIC_JNO] = 2,  [ZYDIS_MNEMONIC_JB] = 3,
    [ZYDIS_MNEMONIC_JNB] = 4,   [ZYDIS_MNEMONIC_JZ] = 5,   [ZYDIS_MNEMONIC_JNZ] = 6,
    [ZYDIS_MNEMONIC_JBE] = 7,   [ZYDIS_MNEMONIC_JNBE] = 8, [ZYDIS_MNEMONIC_JS] = 9,
    [ZYDIS_MNEMONIC_JNS] = 10,  [ZYDIS_MNEMONIC_JP] = 11,  [ZYDIS_MNEMONIC_JNP] = 12,
    [ZYDIS_MNEMONIC_JL] = 13,   [ZYDIS_MNEMONIC_JNL] = 14, [ZYDIS_MNEMONIC_JLE] = 15,
    [ZYDIS_MNEMONIC_JNLE] = 16,
};

bool gen_is_jump_to(const struct gen *g, const struct insn *in, uint64_t rip)
{
    bool jump = in->d.mnemonic == ZYDIS_MNEMONIC_JMP || jcc_of[in->d.mnemonic];
    return jump && g->long_mode && in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
           in->rip + in->d.length + in->op[0].imm.value.s == rip;
}

/* Is this the jump back of a loop that is worth a second copy? */
static bool loops(const struct gen *g)
{
    bool room = g->loop.pass ||
                (g->e.p - g->c->rw - g->b->code < BLOCK_ROOM / 5 && g->slows < MAX_SLOWS / 3 &&
                 g->sites_count < MAX_SITES / 9);
    return g->loop.wanted && g->i + 1 == g->n && linkable(g, g->next_rip) && room;
}

/* The way back: at the end of the first copy into the second, which lies behind it; at the end of
 * the second to its start. */
static void loop_back(struct gen *g)
{
    struct loop *l = &g->loop;
    l->again = !l->pass;
    if (l->again || l->rounds) {
        return;
    }
    if (!loop_holds(g)) {
        exit_to(g, branch_target(g));
        return;
    }
    gen_window_addend(g, l->r15_unit);
    l->link = exit_back(g, branch_target(g));
    g->ended = true;
}

/* Behind a branch that was not the block's end everything is as it was. */
static void goes_on(struct gen *g)
{
    cached_resume(g);
    g->made = g->made_before;
    g->r15_kept = true;
}

static void gen_jcc(struct gen *g, unsigned cc)
{
    struct emitter *e = &g->e;
    uint64_t target = branch_target(g);
    if (loops(g)) {
        uint8_t *out = emit_jcc(e, cc ^ 1);
        add_stub(g, out, link_new(g, out, g->next_rip), g->next_rip);
        g->r15_kept = true;
        loop_back(g);
        return;
    }
    if (g->in->followed) {
        uint8_t *out = emit_jcc(e, cc ^ 1);
        add_stub(g, out, link_new(g, out, g->next_rip), g->next_rip);
        goes_on(g);
        return;
    }
    uint8_t *taken = emit_jcc(e, cc);
    if (linkable(g, target) && target > g->in->rip) {
        add_stub(g, taken, link_new(g, taken, target), target);
        goes_on(g);
        if (g->i + 1 == g->n) {
            exit_to(g, g->next_rip);
        }
        return;
    }
    if (linkable(g, g->next_rip)) { /* backwards, as loops do */
        taken[-1] ^= 1;
        add_stub(g, taken, link_new(g, taken, g->next_rip), g->next_rip);
    } else {
        exit_to(g, g->next_rip);
        emit_patch32(taken, e->p);
    }
    exit_to(g, target);
}

/* LOOP, LOOPE, LOOPNE, JrCXZ: the count lives in R13 and is of the address size. */
static void gen_loop(struct gen *g, ZydisMnemonic m)
{
    struct emitter *e = &g->e;
    unsigned width = g->in->d.address_width;
    bool counts =
        m == ZYDIS_MNEMONIC_LOOP || m == ZYDIS_MNEMONIC_LOOPE || m == ZYDIS_MNEMONIC_LOOPNE;
    if (counts && width == 16) {
        emit_lea(e, false, RCX, R13, RSP, 1, -1);
        emit_mov16(e, R13, RCX);
    } else if (counts) {
        emit_lea(e, width == 64, R13, R13, RSP, 1, -1);
    }
    if (width == 16) {
        emit_movzx16(e, RCX, R13);
    } else if (width == 32) {
        emit_mov32(e, RCX, R13);
    } else {
        emit_mov(e, RCX, R13);
    }
    uint8_t *zero = emit_jrcxz(e);
    if (!counts) { /* JrCXZ jumps when zero */
        uint8_t *nonzero = emit_jmp(e);
        emit_patch8(zero, e->p);
        exit_to(g, branch_target(g));
        emit_patch32(nonzero, e->p);
        exit_to(g, g->next_rip);
        return;
    }
    uint8_t *flag =
        m == ZYDIS_MNEMONIC_LOOP ? NULL : emit_jcc(e, m == ZYDIS_MNEMONIC_LOOPE ? CC_NE : CC_E);
    uint8_t *taken = emit_jmp(e);
    emit_patch8(zero, e->p);
    if (flag) {
        emit_patch32(flag, e->p);
    }
    exit_to(g, g->next_rip);
    emit_patch32(taken, e->p);
    exit_to(g, branch_target(g));
}

static unsigned near_size(const struct gen *g)
{
    return g->long_mode ? 8 : g->in->d.operand_width == 16 ? 2 : 4;
}

static bool is_far(const struct insn *in)
{
    return in->d.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/* Far JMP/CALL: ptr16:16/32 or m16:16/32/64. */
static void gen_far(struct gen *g, helper_fn fn)
{
    struct emitter *e = &g->e;
    const ZydisDecodedOperand *op = &g->in->op[0];
    unsigned size = g->in->d.operand_width / 8;
    if (op->type == ZYDIS_OPERAND_TYPE_POINTER) {
        emit_mov_imm(e, R14, op->ptr.segment | (uint64_t)size << 32);
        emit_mov_imm(e, R15, size == 2 ? op->ptr.offset & 0xffff : (uint32_t)op->ptr.offset);
        emit_store(e, R15, FIELD(tmp[0]));
    } else {
        gen_linear(g, op, size + 2, INFO_READ);
        gen_access(g, size + 2, INFO_READ, op->mem.segment == ZYDIS_REGISTER_SS);
        gen_mem_lea(g, R14);
        emit_rex(e, size == 8, RCX, 0, R14, false);
        if (size == 2) {
            emit16(e, 0xb70f); /* movzx */
        } else {
            emit8(e, 0x8b);
        }
        emit_modrm_mem(e, RCX, R14, RSP, 1, 0);
        emit_rex(e, false, R14, 0, R14, false);
        emit16(e, 0xb70f);
        emit_modrm_mem(e, R14, R14, RSP, 1, size);
        gen_op_end(g);
        emit_mov(e, R15, RCX);
        emit_mov_imm(e, RCX, (uint64_t)size << 32);
        emit_lea(e, true, R14, R14, RCX, 1, 0);
    }
    emit_mov_imm(e, RCX, g->next_rip);
    emit_store(e, RCX, FIELD(tmp[0]));
    gen_call(g, fn); /* not movable */
    g->ended = true;
}

static void target_wrap(struct gen *g, unsigned reg)
{
    if (!g->long_mode && near_size(g) == 2) {
        emit_movzx16(&g->e, R14, reg);
    } else if (!g->long_mode) {
        emit_mov32(&g->e, R14, reg);
    } else {
        emit_mov(&g->e, R14, reg);
    }
}

static void gen_call_near(struct gen *g)
{
    const ZydisDecodedOperand *op = &g->in->op[0];
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        push_imm(g, g->next_rip, near_size(g), true);
        exit_to(g, branch_target(g));
        return;
    }
    gen_operand_load(g, op, RCX);
    emit_store(&g->e, RCX, FIELD(tmp[2]));
    push_imm(g, g->next_rip, near_size(g), true);
    emit_load(&g->e, R14, FIELD(tmp[2]));
    target_wrap(g, R14);
    gen_indirect(g);
}

static void gen_jmp_near(struct gen *g)
{
    const ZydisDecodedOperand *op = &g->in->op[0];
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && loops(g)) {
        g->r15_kept = true;
        loop_back(g);
        return;
    }
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        exit_to(g, branch_target(g));
        return;
    }
    gen_operand_load(g, op, RCX);
    target_wrap(g, RCX);
    gen_indirect(g);
}

static void gen_ret(struct gen *g)
{
    unsigned extra =
        g->in->d.operand_count_visible && g->in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
            ? g->in->op[0].imm.value.u & 0xffff
            : 0;
    unsigned size = near_size(g);
    if (is_far(g->in)) {
        gen_call_imm(g, HELPER(helper_far_ret), g->in->d.operand_width / 8, extra);
        g->ended = true;
        return;
    }
    pop_rcx(g, size, extra);
    target_wrap(g, RCX);
    gen_indirect(g);
}

bool gen_branch(struct gen *g)
{
    ZydisMnemonic m = g->in->d.mnemonic;
    if (jcc_of[m]) {
        gen_jcc(g, jcc_of[m] - 1);
        return true;
    }
    switch (m) {
    case ZYDIS_MNEMONIC_JMP:
        if (is_far(g->in)) {
            gen_far(g, HELPER(helper_far_jump));
        } else {
            gen_jmp_near(g);
        }
        return true;
    case ZYDIS_MNEMONIC_CALL:
        if (is_far(g->in)) {
            gen_far(g, HELPER(helper_far_call));
        } else {
            gen_call_near(g);
        }
        return true;
    case ZYDIS_MNEMONIC_RET:
        gen_ret(g);
        return true;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        gen_loop(g, m);
        return true;
    case ZYDIS_MNEMONIC_PUSH:
        gen_push(g);
        return true;
    case ZYDIS_MNEMONIC_POP:
        gen_pop(g);
        return true;
    case ZYDIS_MNEMONIC_LEAVE:
        gen_leave(g);
        return true;
    default:
        return false;
    }
}
