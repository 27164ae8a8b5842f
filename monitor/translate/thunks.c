/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few pieces of code that every block shares: calling C, leaving, resuming. Generated at the
 * start of each CPU's code cache so that blocks reach them by rel32. See cpu.h for the register
 * conventions.
 */
#include "cache.h"
#include "gen.h"
#include "vcpu.h"

static const struct {
    uint8_t guest, host;
} held[] = {{0, RAX}, {1, R13}, {2, RDX}, {3, RBX}, {4, R12},  {5, RBP},
            {6, RSI}, {7, RDI}, {12, R8}, {13, R9}, {14, R10}, {15, R11}};

static void emit_save_all(struct emitter *e)
{
    for (unsigned i = 0; i < sizeof held / sizeof *held; i++) {
        emit_store(e, held[i].host, GPR(held[i].guest));
    }
    emit8(e, 0x9f); /* lahf */
    emit8(e, 0x0f); /* seto al */
    emit8(e, 0x90);
    emit8(e, 0xc0);
    emit8(e, 0x66); /* mov gs:[flags_ax], ax */
    emit_store32(e, RAX, FIELD(flags_ax));
}

/* Leaves RCX, R14, R15 alone. */
static void emit_load_all(struct emitter *e)
{
    emit_gs(e, 0x0fb7, false, RAX, FIELD(flags_ax)); /* movzx eax, word */
    emit8(e, 0x04);                                  /* add al, 127: OF when AL was 1 */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
    for (unsigned i = 0; i < sizeof held / sizeof *held; i++) {
        emit_load(e, held[i].host, GPR(held[i].guest));
    }
}

static void emit_call_c(struct emitter *e, void *fn)
{
    emit_mov_imm(e, RAX, (uint64_t)fn);
    emit8(e, 0xff); /* call rax */
    emit8(e, 0xd0);
}

static uint8_t *thunk_start(struct vcpu *v, struct emitter *e)
{
    while ((uintptr_t)e->p & 15) {
        emit8(e, 0xcc);
    }
    return v->cache->rx + (e->p - v->cache->rw);
}

/* For the profile: which helper runs. */
static void emit_helper(struct emitter *e, unsigned reg)
{
    if (translate_options.profile) {
        emit_store(e, reg, FIELD(helper));
    }
}

/* RCX is lost. */
static void emit_helper_end(struct emitter *e)
{
    if (translate_options.profile) {
        emit_mov_imm(e, RCX, 0);
        emit_store(e, RCX, FIELD(helper));
    }
}

/* Helper call: RCX function, R14 and R15 arguments. Result in R15. */
static void generate_call(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_call = thunk_start(v, e);
    emit_save_all(e);
    emit8(e, 0x48); /* mov rax, [rsp] */
    emit8(e, 0x8b);
    emit8(e, 0x04);
    emit8(e, 0x24);
    emit_store(e, RAX, FIELD(ret_pc));
    emit_mov(e, RSI, R14);
    emit_mov(e, RDX, R15);
    emit_load(e, RDI, FIELD(self));
    emit_alu_imm(e, 5, true, RSP, 8);
    emit_helper(e, RCX);
    emit8(e, 0xff); /* call rcx */
    emit8(e, 0xd1);
    emit_mov(e, R15, RAX);
    emit_helper_end(e);
    emit_load32(e, RCX, FIELD(smc_exit));
    uint8_t *stale = emit_jrcxz(e);
    emit_store(e, R15, FIELD(tmp[5]));
    emit_load(e, RDI, FIELD(self));
    emit_call_c(e, smc_check);
    emit_load(e, R15, FIELD(tmp[5]));
    emit_patch8(stale, e->p);
    emit_alu_imm(e, 0, true, RSP, 8);
    emit_load_all(e);
    emit8(e, 0xc3);
}

/* Slow memory access: R14 linear address, R15 info. Returns R15 = addend. */
static void generate_mem(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_mem = thunk_start(v, e);
    emit_mov_imm(e, RCX, (uint64_t)helper_mem_slow);
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_call - v->cache->rx));
    v->cache->thunk_window = thunk_start(v, e);
    emit_mov_imm(e, RCX, (uint64_t)helper_window_miss);
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_call - v->cache->rx));
    v->cache->thunk_anchor = thunk_start(v, e);
    emit_mov_imm(e, RCX, (uint64_t)helper_window_anchor);
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_call - v->cache->rx));
    v->cache->thunk_seg = thunk_start(v, e);
    emit_mov_imm(e, RCX, (uint64_t)helper_segment_slow);
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_call - v->cache->rx));
}

static void generate_finish(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_finish = thunk_start(v, e);
    emit_load32(e, RCX, FIELD(finish));
    uint8_t *nothing = emit_jrcxz(e);
    emit_mov_imm(e, RCX, (uint64_t)helper_mem_finish);
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_call - v->cache->rx));
    emit_patch8(nothing, e->p);
    emit8(e, 0xc3);
}

/* A jump with nothing on the stack: save, call C, which does not return. */
static void generate_noreturn(struct vcpu *v, struct emitter *e, uint8_t **thunk, const char *first,
                              unsigned size, void *fn)
{
    *thunk = thunk_start(v, e);
    emit_bytes(e, first, size);
    emit_save_all(e);
    emit_load(e, RDI, FIELD(self));
    emit_mov(e, RSI, R14);
    emit_mov(e, RDX, R15);
    emit_load(e, RSP, FIELD(self));
    emit_call_c(e, fn);
    emit8(e, 0xcc);
}

static _Noreturn void link_missed(struct vcpu *v, uint64_t rip, uint64_t call);
static _Noreturn void indirect_missed(struct vcpu *v, uint64_t linear);
static _Noreturn void stopped(struct vcpu *v, uint64_t linear);
static _Noreturn void host_fault(struct vcpu *v, uint64_t vector);

/* RDI: vcpu. Finds the code for v->rip and goes there. */
static void generate_resume(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_resume = thunk_start(v, e);
    emit_load(e, RSP, FIELD(self));
    emit_load(e, RDI, FIELD(self));
    emit_mov_imm(e, RCX, (uint64_t)block_resolve);
    emit_helper(e, RCX);
    emit_call_c(e, block_resolve);
    emit_mov(e, R14, RAX);
    emit_helper_end(e);
    emit_load_all(e);
    emit8(e, 0x41); /* jmp r14 */
    emit8(e, 0xff);
    emit8(e, 0xe6);
}

/* RDI: code of a block, RSI: vcpu. */
static void generate_go(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_go = thunk_start(v, e);
    emit_mov(e, RSP, RSI);
    emit_mov(e, R14, RDI);
    emit_load_all(e);
    emit8(e, 0x41); /* jmp r14 */
    emit8(e, 0xff);
    emit8(e, 0xe6);
}

/* R14: where to go on. A safepoint; flags are left alone. */
static void generate_jump(struct vcpu *v, struct emitter *e, unsigned slot)
{
    struct code_cache *c = v->cache;
    uint32_t tags = FIELD(jump) + slot * JUMP_SIZE * sizeof(struct jump_entry);
    uint32_t codes = tags + offsetof(struct jump_entry, code);
    c->thunk_jump[slot] = thunk_start(v, e);
    emit_load32(e, RCX, FIELD(run));
    uint8_t *stop = emit_jrcxz(e);
    emit_mov_imm(e, R15, 0);
    emit_bytes(e, "\xf2\x4d\x0f\x38\xf1\xfe", 6); /* crc32 r15, r14 */
    emit_movzx16(e, R15, R15);
    emit_lea(e, false, R15, R15, R15, 1, 0);
    emit_gs_index(e, 0x8b, RCX, R15, tags);
    emit_lea(e, true, RCX, RCX, R14, 1, 1);
    emit_gs_index(e, 0x8b, R15, R15, codes);
    uint8_t *hit = emit_jrcxz(e);
    emit_jmp_to(e, c->rw + (c->thunk_indirect - c->rx));
    emit_patch8(hit, e->p);
    emit8(e, 0x41); /* jmp r15 */
    emit8(e, 0xff);
    emit8(e, 0xe7);
    emit_patch8(stop, e->p);
    emit_jmp_to(e, c->rw + (c->thunk_stop - c->rx));
}

static const uint8_t callee_saved[] = {RBX, RBP, R12, R13, R14, R15};

static void generate_enter(struct vcpu *v, struct emitter *e)
{
    v->cache->thunk_enter = thunk_start(v, e);
    for (unsigned i = 0; i < 6; i++) {
        emit_rex(e, false, 0, 0, callee_saved[i], false);
        emit8(e, 0x50 | (callee_saved[i] & 7));
    }
    emit_store(e, RSP, FIELD(entry_rsp));
    emit_jmp_to(e, v->cache->rw + (v->cache->thunk_resume - v->cache->rx));
    v->cache->thunk_leave = thunk_start(v, e);
    emit_load(e, RSP, FIELD(entry_rsp));
    for (unsigned i = 6; i-- > 0;) {
        emit_rex(e, false, 0, 0, callee_saved[i], false);
        emit8(e, 0x58 | (callee_saved[i] & 7));
    }
    emit8(e, 0xc3);
}

void thunks_generate(struct vcpu *v)
{
    struct code_cache *c = v->cache;
    struct emitter e = {c->rw, c->rw + c->size};
    generate_call(v, &e);
    generate_mem(v, &e);
    generate_finish(v, &e);
    generate_noreturn(v, &e, &c->thunk_link, "\x41\x5f", 2, link_missed); /* pop r15 */
    generate_noreturn(v, &e, &c->thunk_indirect, "", 0, indirect_missed);
    generate_noreturn(v, &e, &c->thunk_stop, "", 0, stopped);
    generate_noreturn(v, &e, &c->thunk_fault, "", 0, host_fault);
    for (unsigned i = 0; i < JUMP_SLOTS; i++) {
        generate_jump(v, &e, i);
    }
    generate_resume(v, &e);
    generate_go(v, &e);
    generate_enter(v, &e);
    c->start = (e.p - c->rw + 63) & ~63ul;
}

/* R14 holds the instruction pointer (architectural: without the CS base), as in the next two. */
static void link_missed(struct vcpu *v, uint64_t rip, uint64_t call)
{
    v->rip = rip;
    v->ret_pc = 0;
    struct code_cache *c = v->cache;
    struct link *link = link_of_call(c, call - (uint64_t)c->rx);
    uint64_t flushes = c->flushes;
    uint8_t *code = block_resolve_for_link(v);
    if (c->flushes != flushes) {
        cpu_resume(v); /* the link is gone */
    }
    if (link && v->resolved && c->rx + v->resolved->code == code) {
        link_make(v, link, v->resolved);
    }
    void (*go)(void *code, struct vcpu *v) = (void (*)(void *, struct vcpu *))c->thunk_go;
    go(code, v);
    __builtin_unreachable();
}

static void indirect_missed(struct vcpu *v, uint64_t rip)
{
    v->rip = rip;
    v->ret_pc = 0;
    cpu_resume(v);
}

static void stopped(struct vcpu *v, uint64_t rip)
{
    v->rip = rip;
    v->ret_pc = 0;
    cpu_leave(v);
}

/* The signal handler has stored registers and ret_pc already. */
static void host_fault(struct vcpu *v, uint64_t vector)
{
    raise_host_fault(v, v->tmp[3]);
}

void cpu_resume(struct vcpu *v)
{
    void (*resume)(void) = (void (*)(void))v->cache->thunk_resume;
    resume();
    __builtin_unreachable();
}

void cpu_leave(struct vcpu *v)
{
    void (*leave)(void) = (void (*)(void))v->cache->thunk_leave;
    leave();
    __builtin_unreachable();
}

void cpu_enter(struct vcpu *v)
{
    void (*enter)(void) = (void (*)(void))v->cache->thunk_enter;
    enter();
}
