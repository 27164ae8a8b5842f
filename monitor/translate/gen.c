/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding a block, flag liveness, and the driver that hands each instruction to its generator.
 */
#include "gen.h"

#include <cpuid.h>
#include <glib.h>

#include "vcpu.h"
#include "window.h"

static ZydisDecoder decoders[3]; /* 16, 32, 64 bits */

static void decoders_init(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
        ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
        ZydisDecoderInit(&decoders[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
        for (unsigned i = 0; i < 3; i++) {
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
            ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        }
        g_once_init_leave(&once, 1);
    }
}

/* PEXT without microcode: every Intel with BMI2, AMD from family 19h. Others save EFLAGS instead.
 */
bool gen_fast_flagless(void)
{
    static int fast = -1;
    if (fast < 0) {
        unsigned a = 0, b = 0, c = 0, d = 0, vendor = 0, x;
        bool bmi2 = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 8);
        __get_cpuid(0, &x, &vendor, &c, &d);
        __get_cpuid(1, &a, &b, &c, &d);
        unsigned family = (a >> 8 & 15) + ((a >> 8 & 15) == 15 ? a >> 20 & 0xff : 0);
        fast = bmi2 && !(vendor == 0x68747541 && family < 0x19);
    }
    return fast;
}

/* From the next emitted byte on, host code belongs to the current instruction. */
void gen_site(struct gen *g)
{
    struct site s = {block_at(g->b, g->e.p - g->c->rw), g->in->offset, g->in->d.length};
    if (g->sites_count) {
        const struct site *last = &g->sites[g->sites_count - 1];
        if (last->guest == s.guest && !((last->at ^ s.at) & SITE_COLD)) {
            return;
        }
    }
    if (g->sites_count < MAX_SITES) {
        g->sites[g->sites_count++] = s;
    }
}

void gen_fix(struct gen *g, const uint8_t *at, enum fix_kind kind)
{
    const struct region *r = cache_region(g->c);
    uint32_t offset = at - g->c->rw;
    bool cold = offset >= r->end;
    if (g->movable && g->fixes_count < FIXES_MAX) {
        g->fixes[g->fixes_count++] =
            (struct fix){offset - (cold ? (uint32_t)r->cold : g->b->code), cold, kind};
    } else {
        g->movable = false;
    }
}

void gen_mov_rip(struct gen *g, unsigned reg, uint64_t value)
{
    if (!g->movable) {
        emit_mov_imm(&g->e, reg, value);
        return;
    }
    emit_rex(&g->e, true, 0, 0, reg, false);
    emit8(&g->e, 0xb8 | (reg & 7));
    gen_fix(g, g->e.p, FIX_RIP64);
    emit64(&g->e, value);
}

void gen_jump_to(struct gen *g, const uint8_t *target)
{
    gen_fix(g, g->e.p + 1, FIX_REL32);
    emit_jmp_to(&g->e, target);
}

void gen_call_to(struct gen *g, const uint8_t *target)
{
    gen_fix(g, g->e.p + 1, FIX_REL32);
    emit_call_to(&g->e, target);
}

void gen_call_thunk(struct gen *g, const uint8_t *thunk)
{
    gen_call_to(g, g->c->rw + (thunk - g->c->rx));
}

void gen_patch_to(struct gen *g, uint8_t *at, const uint8_t *target)
{
    gen_fix(g, at, FIX_REL32);
    emit_patch32(at, target);
}

void gen_call(struct gen *g, helper_fn fn)
{
    g->called = true;
    g->r15_unit = NO_UNIT;
    g->movable &= g->call_movable;
    g->call_movable = false;
    emit_mov_imm(&g->e, RCX, (uint64_t)fn);
    gen_call_thunk(g, g->c->thunk_call);
}

void gen_call_imm(struct gen *g, helper_fn fn, uint64_t a, uint64_t b)
{
    emit_mov_imm(&g->e, R14, a);
    emit_mov_imm(&g->e, R15, b);
    gen_call(g, fn);
}

void gen_ud(struct gen *g)
{
    gen_call_imm(g, HELPER(helper_raise_ud), 0, 0);
    g->ended = true;
}

/* Fills flags_read and flags_killed. Flags that may stay as they were are not killed. */
static void insn_flags(struct insn *in)
{
    const ZydisAccessedFlags *f = in->d.cpu_flags;
    in->flags_read = in->flags_killed = 0;
    if (f) {
        in->flags_read = f->tested & FLAGS_ARITH;
        in->flags_killed = (f->modified | f->set_0 | f->set_1) & FLAGS_ARITH;
    }
    switch (in->d.meta.category) {
    case ZYDIS_CATEGORY_SHIFT:
    case ZYDIS_CATEGORY_ROTATE:
        in->flags_killed = 0; /* a count of 0 leaves them alone */
        if (in->d.operand_count_visible >= 2 &&
            in->op[in->d.operand_count_visible - 1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            unsigned count = in->op[in->d.operand_count_visible - 1].imm.value.u & 31;
            if (count == 1 && in->d.meta.category == ZYDIS_CATEGORY_SHIFT) {
                in->flags_killed = FLAGS_ARITH & ~FLAG_AF;
            } else if (count && in->d.meta.category == ZYDIS_CATEGORY_SHIFT) {
                in->flags_killed = FLAG_CF | FLAG_ZF | FLAG_SF | FLAG_PF;
            }
        }
        break;
    case ZYDIS_CATEGORY_STRINGOP: /* helpers see and save all flags */
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
        in->flags_read = FLAGS_ARITH;
        in->flags_killed = 0;
        break;
    default:
        break;
    }
}

static bool insn_ends_block(const struct insn *in)
{
    switch (in->d.meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
        return true;
    default:
        return in->d.mnemonic == ZYDIS_MNEMONIC_HLT || in->d.mnemonic == ZYDIS_MNEMONIC_UD2;
    }
}

enum decode_result { DECODE_OK, DECODE_BAD, DECODE_LONG, DECODE_MORE };

/* Zydis 4.0 takes REX.B with ModRM.mod = 0 and SIB.base = 5 for r13d when the address size is 32
 * bits; it means a displacement and no base (SDM vol. 2, table 2-3). */
static void fix_sib_without_base(struct insn *in)
{
    for (unsigned i = 0; i < in->d.operand_count; i++) {
        ZydisDecodedOperand *op = &in->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
            op->mem.base = ZYDIS_REGISTER_NONE;
            op->mem.disp.value = in->d.raw.disp.value;
        }
    }
}

/* Instructions, most of those that there are, whose hidden operands are flags and instruction
 * pointer at most. */
static bool nothing_hidden(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_JZ:
    case ZYDIS_MNEMONIC_JNZ:
        return true;
    default:
        return false;
    }
}

/* ZydisDecoderDecodeFull, but for operands that nobody asks for. */
static ZyanStatus operands_decode(const ZydisDecoder *decoder, struct insn *in,
                                  const uint8_t *bytes, unsigned room)
{
    ZydisDecoderContext context;
    ZyanStatus s = ZydisDecoderDecodeInstruction(decoder, &context, bytes, room, &in->d);
    if (!ZYAN_SUCCESS(s)) {
        return s;
    }
    if (nothing_hidden(in->d.mnemonic)) {
        in->d.operand_count = in->d.operand_count_visible;
    }
    for (unsigned i = in->d.operand_count; i < ZYDIS_MAX_OPERAND_COUNT; i++) {
        in->op[i].type = ZYDIS_OPERAND_TYPE_UNUSED;
    }
    return ZydisDecoderDecodeOperands(decoder, &context, &in->d, in->op, in->d.operand_count);
}

static enum decode_result insn_decode(struct gen *g, struct insn *in, const uint8_t *bytes,
                                      unsigned room)
{
    const ZydisDecoder *decoder = &decoders[g->long_mode ? 2 : g->mode & MODE_D32 ? 1 : 0];
    ZyanStatus s = operands_decode(decoder, in, bytes, room < 15 ? room : 15);
    in->bytes = bytes;
    if (ZYAN_SUCCESS(s) && (in->d.attributes & ZYDIS_ATTRIB_HAS_SIB) && in->d.raw.modrm.mod == 0 &&
        in->d.raw.sib.base == 5) {
        fix_sib_without_base(in);
    }
    if (s == ZYDIS_STATUS_NO_MORE_DATA) {
        return room >= 15 ? DECODE_LONG : DECODE_MORE;
    }
    if (s == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) {
        return DECODE_LONG;
    }
    return ZYAN_SUCCESS(s) ? DECODE_OK : DECODE_BAD;
}

/* An instruction that cannot be decoded becomes #UD (or #GP when it is too long). */
static void insn_make_bad(struct insn *in, bool too_long)
{
    in->too_long = too_long;
    memset(&in->d, 0, sizeof in->d);
    in->d.mnemonic = ZYDIS_MNEMONIC_INVALID;
    in->d.length = 1;
}

#define BRANCHES_MAX 6

/* Code of address spaces that have windows; of the kernel, what runs before it has global pages: to
 * unpack itself. */
static bool runs_long(const struct gen *g)
{
    bool kernel = (g->mode & MODE_CPL) != 3;
    return (g->mode & MODE_WINDOW) && (!kernel || (g->v->space && !(g->v->cr4 & CR4_PGE)));
}

/* Code of long-running programs goes on behind forward conditional branches. */
static bool goes_on_behind(const struct gen *g, struct insn *in, unsigned *branches)
{
    bool loop = in->d.mnemonic == ZYDIS_MNEMONIC_LOOP || in->d.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
                in->d.mnemonic == ZYDIS_MNEMONIC_LOOPNE || in->d.mnemonic == ZYDIS_MNEMONIC_JRCXZ ||
                in->d.mnemonic == ZYDIS_MNEMONIC_JECXZ;
    if (!runs_long(g) || loop ||
        in->op[0].imm.value.s <= 0 || ++*branches > BRANCHES_MAX) {
        return false;
    }
    in->flags_read = FLAGS_ARITH;
    return true;
}

/* Decodes up to the block's end. `room`: bytes up to the page end (or beyond it, for a first
 * instruction that straddles). False: the first instruction needs more bytes. */
static bool block_decode(struct gen *g, const uint8_t *bytes, unsigned room, unsigned page_room,
                         uint64_t rip)
{
    unsigned offset = 0, branches = 0;
    unsigned max =
        (g->mode & (MODE_STEP | MODE_TF | MODE_DEBUG)) || translate_options.one_instruction
            ? 1
            : BLOCK_MAX_INSTRUCTIONS;
    for (g->n = 0; g->n < max && offset < page_room;) {
        struct insn *in = &g->insns[g->n];
        enum decode_result r = insn_decode(g, in, bytes + offset, room - offset);
        if (r == DECODE_MORE) {
            return g->n > 0;
        }
        in->offset = offset;
        in->rip = rip + offset;
        if (r != DECODE_OK) {
            insn_make_bad(in, r == DECODE_LONG);
            g->n++;
            break;
        }
        if (g->n && offset + in->d.length > page_room) {
            break; /* straddles: a block of its own */
        }
        insn_flags(in);
        in->unit[0] = in->unit[1] = NO_UNIT;
        in->followed = false;
        offset += in->d.length;
        g->n++;
        if (in->d.meta.category == ZYDIS_CATEGORY_COND_BR && goes_on_behind(g, in, &branches)) {
            continue;
        }
        if (insn_ends_block(in)) {
            break;
        }
    }
    return g->n > 0;
}

/* Where a forward conditional branch leads, as an offset from the block's start; 0: it is none. */
static unsigned forward_target(const struct gen *g, const struct insn *in)
{
    int64_t target = in->offset + in->d.length + in->op[0].imm.value.s;
    bool forward = in->d.meta.category == ZYDIS_CATEGORY_COND_BR && in->op[0].imm.value.s > 0 &&
                   gen_is_jump_to(g, in, g->insns[0].rip + target);
    return forward && target < BLOCK_BYTES ? target : 0;
}

#define LATCH_MAX 8

/* The end of a loop at `offset`: a few instructions, then a jump to the block's start. They become
 * instructions n and up; returns how many there are then, 0: it is no such thing, and n is lost. */
static unsigned latch_decode(struct gen *g, const uint8_t *bytes, unsigned room, unsigned n,
                             unsigned offset, bool keep)
{
    uint64_t rip = g->insns[0].rip;
    unsigned max = n + LATCH_MAX < BLOCK_MAX_INSTRUCTIONS ? n + LATCH_MAX : BLOCK_MAX_INSTRUCTIONS;
    for (; n < max && offset < room; n += keep) {
        struct insn *in = &g->insns[n];
        if (insn_decode(g, in, bytes + offset, room - offset) != DECODE_OK) {
            return 0;
        }
        in->offset = offset;
        in->rip = rip + offset;
        insn_flags(in);
        in->unit[0] = in->unit[1] = NO_UNIT;
        offset += in->d.length;
        if (insn_ends_block(in)) {
            return gen_is_jump_to(g, in, rip) ? n + 1 : 0;
        }
        max -= !keep;
    }
    return 0;
}

/* A loop whose body is left by a forward branch to its end ("continue") is made a block that jumps back
 * to itself: the branch is followed. Only where what lies behind it is no loop. */
static void follow_latch(struct gen *g, const uint8_t *bytes, unsigned room)
{
    unsigned n = g->n;
    if (!runs_long(g) || gen_is_jump_to(g, &g->insns[n - 1], g->insns[0].rip) ||
        translate_options.no_chain || translate_options.one_instruction ||
        (g->mode & (MODE_STEP | MODE_TF | MODE_DEBUG))) {
        return;
    }
    for (unsigned i = 0; i < n && n < BLOCK_MAX_INSTRUCTIONS; i++) {
        unsigned target = forward_target(g, &g->insns[i]);
        if (target && latch_decode(g, bytes, room, n, target, false)) {
            g->n = latch_decode(g, bytes, room, i + 1, target, true);
            g->insns[i].followed = true;
            return;
        }
    }
}

static void block_liveness(struct gen *g)
{
    uint16_t live = FLAGS_ARITH;
    for (unsigned i = g->n; i-- > 0;) {
        struct insn *in = &g->insns[i];
        if (in->d.mnemonic == ZYDIS_MNEMONIC_INVALID) {
            live = FLAGS_ARITH;
        } else {
            live = (live & ~in->flags_killed) | in->flags_read;
        }
        in->live = live;
    }
}

/* Which instruction sets exist at all for the guest; the rest is #UD, as its CPUID says. */
static bool insn_known(const struct gen *g, const struct insn *in)
{
    switch (in->d.meta.isa_ext) {
    case ZYDIS_ISA_EXT_BASE:
    case ZYDIS_ISA_EXT_LONGMODE:
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
    case ZYDIS_ISA_EXT_BMI1:
    case ZYDIS_ISA_EXT_BMI2:
    case ZYDIS_ISA_EXT_LZCNT:
    case ZYDIS_ISA_EXT_MOVBE:
    case ZYDIS_ISA_EXT_ADOX_ADCX:
    case ZYDIS_ISA_EXT_RDRAND:
    case ZYDIS_ISA_EXT_RDSEED:
    case ZYDIS_ISA_EXT_RDTSCP:
    case ZYDIS_ISA_EXT_RDWRFSGS:
    case ZYDIS_ISA_EXT_RDPID:
    case ZYDIS_ISA_EXT_PAUSE:
    case ZYDIS_ISA_EXT_CLFSH:
    case ZYDIS_ISA_EXT_CLFLUSHOPT:
    case ZYDIS_ISA_EXT_CLWB:
    case ZYDIS_ISA_EXT_PREFETCHWT1:
    case ZYDIS_ISA_EXT_AMD3DNOW_PREFETCH:
    case ZYDIS_ISA_EXT_INVPCID:
    case ZYDIS_ISA_EXT_SMAP:
    case ZYDIS_ISA_EXT_XSAVE:
    case ZYDIS_ISA_EXT_XSAVEOPT:
    case ZYDIS_ISA_EXT_MONITOR:
        return in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
               in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
        return in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (g->mode & MODE_AVX);
    default:
        return false;
    }
}

static bool insn_is_fpu(const struct insn *in)
{
    return in->d.meta.isa_ext == ZYDIS_ISA_EXT_X87;
}

static bool insn_uses_vectors(const struct insn *in)
{
    switch (in->d.meta.isa_ext) {
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
        break;
    case ZYDIS_ISA_EXT_MMX:
        return true;
    default:
        return false;
    }
    switch (in->d.mnemonic) { /* SSE names without vector state */
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_POPCNT:
    case ZYDIS_MNEMONIC_PAUSE:
        return false;
    default:
        return true;
    }
}

/* CR0.TS, EM and CR4.OSFXSR as SDM vol. 3, tables 2-2 and 13-1. True: a fault was generated. */
static bool gen_fpu_gate(struct gen *g)
{
    bool fpu = insn_is_fpu(g->in), vector = insn_uses_vectors(g->in);
    bool mmx = g->in->d.meta.isa_ext == ZYDIS_ISA_EXT_MMX;
    bool wait = g->in->d.mnemonic == ZYDIS_MNEMONIC_FWAIT;
    if (wait ? (g->mode & MODE_TS) && (g->mode & MODE_MP)
             : (fpu && (g->mode & (MODE_TS | MODE_EM)))) {
        gen_call_imm(g, HELPER(helper_raise_nm), 0, 0);
        return g->ended = true;
    }
    if (!vector || fpu) {
        return false;
    }
    if (g->in->d.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
        ((g->mode & MODE_EM) || (!mmx && !(g->mode & MODE_OSFXSR)))) {
        gen_ud(g);
        return true;
    }
    if (g->mode & MODE_TS) {
        gen_call_imm(g, HELPER(helper_raise_nm), 0, 0);
        return g->ended = true;
    }
    return false;
}

/* LOCK is only allowed where Zydis says so; it refuses the others itself. VEX needs protected mode.
 */
static void gen_one(struct gen *g)
{
    struct insn *in = g->in;
    g->cached_before = g->cached;
    cached_clear(g);
    g->made_before = g->made;
    g->made.ok = false;
    if (in->d.mnemonic == ZYDIS_MNEMONIC_INVALID && in->too_long) {
        gen_call_imm(g, HELPER(helper_raise_gp), 0, 0);
        g->ended = true;
        return;
    }
    if (in->d.mnemonic == ZYDIS_MNEMONIC_INVALID || !insn_known(g, in) ||
        (in->d.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX &&
         (!(g->mode & MODE_PE) || (g->mode & MODE_VM)))) {
        gen_ud(g);
        return;
    }
    if (gen_fpu_gate(g) || gen_branch(g)) {
        return;
    }
    if (gen_system(g)) {
        g->made.ok = false;
        return;
    }
    gen_copy(g);
}

static struct block *block_commit(struct gen *g, unsigned guest_size, uint64_t linear)
{
    struct code_cache *c = g->c;
    struct block *b = g->b;
    b->cold_end = g->e.p - c->rw;
    b->guest_size = guest_size;
    b->sites_count = g->sites_count;
    struct region *r = cache_region(c);
    b->sites = r->sites + r->sites_count;
    r->sites_count += g->sites_count;
    memcpy(b->sites, g->sites, g->sites_count * sizeof *b->sites);
    b->movable = g->movable;
    b->fixes_count = g->movable ? g->fixes_count : 0;
    b->fixes = r->fixes + r->fixes_count;
    r->fixes_count += b->fixes_count;
    memcpy(b->fixes, g->fixes, b->fixes_count * sizeof *b->fixes);
    b->window_sites_count = g->window_sites_count;
    b->window_sites = r->window_sites + r->window_sites_count;
    r->window_sites_count += g->window_sites_count;
    memcpy(b->window_sites, g->window_sites, g->window_sites_count * sizeof *b->window_sites);
    r->links_count += b->links;
    b->valid = true;
    if (g->loop.link) {
        link_close(c, g->loop.link, g->loop.start);
    }
    r->blocks_count++;
    r->used = (b->code_end + 15) & ~15u;
    r->cold = b->cold_end;
    g->v->count.blocks++;
    g->v->count.instructions += g->n;
    g->v->count.code_bytes += b->code_end - b->code;
    return b;
}

static struct gen *gen_get_scratch(struct code_cache *c)
{
    if (!c->scratch) {
        c->scratch = g_malloc0(sizeof(struct gen));
    }
    return c->scratch;
}

/* Does the block jump back to its start? Only where the second copy has something to gain. */
static bool loop_wanted(const struct gen *g, uint64_t rip)
{
    const struct insn *last = &g->insns[g->n - 1];
    return (g->mode & MODE_WINDOW) && gen_is_jump_to(g, last, rip) && !translate_options.no_chain &&
           !(g->mode & (MODE_STEP | MODE_TF | MODE_DEBUG));
}

/* Returns how many bytes of the guest's the code stands for. */
static unsigned gen_instructions(struct gen *g)
{
    unsigned size = 0;
    const uint8_t *limit = g->e.p + BLOCK_ROOM / 2;
    for (g->i = 0; g->i < g->n && !g->ended; g->i++) {
        g->in = &g->insns[g->i];
        g->next_rip = g->in->rip + g->in->d.length;
        if (!g->long_mode) {
            g->next_rip = (uint32_t)g->next_rip;
        }
        if (g->e.p > limit || g->slows > MAX_SLOWS - 8 || g->sites_count > MAX_SITES / 4) {
            g->next_rip = g->in->rip;
            g->loop.rounds = 0;
            break;
        }
        gen_site(g);
        g->address = (struct address){.base = NO_REG};
        g->accesses = 0;
        g->r15_kept = g->r15_used = false;
        gen_one(g);
        known_update(g);
        size = g->in->offset + g->in->d.length;
    }
    return size;
}

struct block *block_translate_bytes(struct vcpu *v, uint64_t linear, uint32_t mode_number,
                                    const uint8_t *bytes, unsigned room, unsigned page_room)
{
    struct code_cache *c = v->cache;
    struct gen *g = gen_get_scratch(c);
    decoders_init();
    memset(g, 0, offsetof(struct gen, slow));
    g->slows = g->stubs = g->sites_count = g->window_sites_count = 0;
    g->v = v;
    g->c = c;
    g->mode = c->modes[mode_number].flags;
    g->cs_base = c->modes[mode_number].cs_base;
    g->long_mode = g->mode & MODE_LONG;
    g->address = (struct address){.base = NO_REG};
    known_reset(g);
    cached_clear(g);
    g->made.ok = false;
    memset(&g->loop, 0, sizeof g->loop);
    g->written = 0;
    g->called = g->no_window = g->call_movable = false;
    g->r15_unit = NO_UNIT;
    g->fixes_count = 0;
    g->movable = g->long_mode && (g->mode & MODE_CPL) == 3 &&
                 !(g->mode & (MODE_STEP | MODE_TF | MODE_DEBUG));
    g->last_unit = window_unit(v, v->gpr[CPU_RSP]);
    g->mmu = g->mode >> MODE_MMU_SHIFT & 3;
    g->slot = jump_slot_for(v, mode_number);
    uint64_t rip = g->long_mode ? linear : (uint32_t)(linear - g->cs_base);
    if (!block_decode(g, bytes, room, page_room, rip)) {
        return NULL;
    }
    follow_latch(g, bytes, room < page_room ? room : page_room);
    block_liveness(g);
    struct region *r = cache_region(c);
    struct block *b = g->b = &r->blocks[r->blocks_count];
    memset(b, 0, sizeof *b);
    b->linear = linear;
    b->mode = mode_number;
    b->code = r->used;
    b->link = r->links + r->links_count;
    b->cold = r->cold;
    g->e = (struct emitter){c->rw + r->used, c->rw + r->end};
    g->loop.wanted = loop_wanted(g, rip);
    unsigned size = gen_instructions(g);
    if (g->loop.again) {
        loop_begin(g, runs_long(g));
        while (g->loop.rounds--) {
            gen_instructions(g);
        }
    }
    if (!g->ended) {
        gen_exit(g, g->next_rip);
    }
    b->code_end = g->e.p - c->rw;
    g->e = (struct emitter){c->rw + r->cold, c->rw + r->cold_end};
    gen_slow_paths(g);
    gen_stubs(g);
    return block_commit(g, size, linear);
}
