/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host CPU as oracle: random instructions of the forms that the translator copies or inlines are
 * executed natively and in the engine from the same state. Compared are the general registers, the
 * arithmetic flags and DF, the x87/SSE/AVX state, memory, and the vector of a fault.
 *
 * Not compared: the x87 opcode and pointers (the engine clears them), MXCSR_MASK, contents of
 * components in their initial state; and where an instruction faults, its flags, its vector state,
 * the faulting rip and the error code. Not generated: branches, system and I/O instructions, segment,
 * control and debug registers, FXSAVE/XSAVE/FNSAVE and their kin, NOPs, CPUID, PUSHF/POPF, STD.
 *
 * One batch is one piece of code at a fixed address below 2 GiB, identical in both worlds: for each
 * instance it loads a state (XRSTOR, POPF, MOV), runs the instruction and stores the state. A fault
 * goes to a handler (a signal, or the guest's IDT) that notes the vector and continues after the
 * instance.
 *
 * Usage: test_differential [--instances N] [--seed S]; prints the seed.
 */
#include <Zydis/Zydis.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "harness.h"

#define BASE       0x10000000u /* everything lies here, in both worlds */
#define CODE       (BASE + 0x000000)
#define STATES     (BASE + 0x400000)
#define DATA       (BASE + 0xc00000) /* memory operands point here */
#define STACK      (BASE + 0xe00000)
#define IDT        (BASE + 0xe10000)
#define STUBS      (BASE + 0xe20000)
#define VECTOR     (BASE + 0xe30000) /* current instance, resume address */
#define TABLES     0x100000u
#define SPAN       0x1000000u
#define BATCH      500u
#define STATE_SIZE 2048u
#define DATA_SIZE  4096u

/* One instance's state in memory, before and after. */
struct image {
    uint64_t gpr[16];
    uint64_t flags, vector, rip;
    uint8_t pad[64 * 3 - 19 * 8];
    uint8_t xsave[832] __attribute__((aligned(64)));
};

struct slot {
    struct image in, out;
};

static uint64_t rng_state;
static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x2545f4914f6cdd1dull;
}

static ZydisDecoder decoder;
static struct slot *slots;
static uint8_t *data_start, *code_at;
static uint8_t instance_bytes[BATCH][16];
static unsigned instance_length[BATCH];
static uint64_t instance_resume[BATCH];

static bool allowed_set(ZydisISAExt ext)
{
    switch (ext) {
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
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
        return true;
    default:
        return false;
    }
}

/* Instructions whose meaning is the system's, or that no two runs do alike. */
static bool allowed_mnemonic(const ZydisDecodedInstruction *d)
{
    switch (d->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_XSAVEOPT:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_NOP: /* vendors differ about 0F 0D with a register */
    case ZYDIS_CATEGORY_PREFETCH:
    case ZYDIS_CATEGORY_WIDENOP:
    case ZYDIS_CATEGORY_RDRAND:
    case ZYDIS_CATEGORY_RDSEED:
        return false;
    default:
        break;
    }
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_FNSTENV: /* store the pointers that are masked */
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_STD: /* the handlers expect DF = 0 */
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
        return false;
    default:
        return true;
    }
}

static unsigned gpr_id(ZydisRegister r)
{
    if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15) {
        return r - ZYDIS_REGISTER_RAX;
    }
    if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D) {
        return r - ZYDIS_REGISTER_EAX;
    }
    return 255;
}

static uint64_t interesting(void)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      ~0ull,
                                      31,
                                      32,
                                      63,
                                      64};
    uint64_t r = rng();
    return r & 3 ? rng() : values[(r >> 8) % G_N_ELEMENTS(values)];
}

/* Makes a memory operand's address fall into the data page (sometimes at its very end). False: it
 * cannot be done. */
static bool aim(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op, struct image *in)
{
    unsigned base = op->mem.base ? gpr_id(op->mem.base) : 255;
    unsigned index =
        op->mem.index && op->mem.type != ZYDIS_MEMOP_TYPE_VSIB ? gpr_id(op->mem.index) : 255;
    if (base == 255 || base == index ||
        (op->mem.index && index == 255 && op->mem.type != ZYDIS_MEMOP_TYPE_VSIB)) {
        return false;
    }
    if (op->mem.segment == ZYDIS_REGISTER_FS || op->mem.segment == ZYDIS_REGISTER_GS) {
        return false;
    }
    uint64_t size = op->size / 8, room = DATA_SIZE / 2;
    uint64_t target = DATA + DATA_SIZE / 4 + rng() % room;
    if (rng() & 1) {
        target &= ~31ull;
    }
    if ((rng() & 15) == 0) {
        target = DATA + DATA_SIZE - (rng() % (size + 8)); /* up to and over the page end */
    }
    if (index != 255) {
        in->gpr[index] = rng() % 4096;
    }
    uint64_t value =
        target - (index == 255 ? 0 : in->gpr[index] * op->mem.scale) - op->mem.disp.value;
    if (d->address_width == 32) {
        value = (uint32_t)value;
    }
    in->gpr[base] = value;
    return true;
}

static bool operands_fit(const ZydisDecodedInstruction *d, ZydisDecodedOperand *ops,
                         struct image *in)
{
    unsigned aimed = 0;
    for (unsigned i = 0; i < d->operand_count; i++) {
        const ZydisDecodedOperand *op = &ops[i];
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_ES &&
            op->reg.value <= ZYDIS_REGISTER_GS) {
            return false;
        }
        ZydisRegisterClass class =
            op->type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(op->reg.value) : 0;
        if (class == ZYDIS_REGCLASS_CONTROL || class == ZYDIS_REGCLASS_DEBUG) {
            return false;
        }
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
            if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
                return false;
            }
            aimed++;
            for (unsigned k = 0; k < i;
                 k++) { /* two operands, one register: only one can be aimed */
                if (ops[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
                    (ops[k].mem.base == op->mem.base || ops[k].mem.index == op->mem.base)) {
                    return false;
                }
            }
            if ((d->attributes & ZYDIS_ATTRIB_HAS_SIB) && d->raw.modrm.mod == 0 &&
                d->raw.sib.base == 5) {
                return false;
            }
            if (!aim(d, op, in)) {
                return false;
            }
        }
    }
    if (d->mnemonic == ZYDIS_MNEMONIC_ENTER && (ops[1].imm.value.u & 31)) {
        return false; /* follows rBP to wherever */
    }
    bool bit = (d->mnemonic == ZYDIS_MNEMONIC_BT || d->mnemonic == ZYDIS_MNEMONIC_BTS ||
                d->mnemonic == ZYDIS_MNEMONIC_BTR || d->mnemonic == ZYDIS_MNEMONIC_BTC) &&
               aimed && ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    if (bit) { /* the bit index moves the address: keep it within the page */
        unsigned id = gpr_id(ops[1].reg.value);
        unsigned base = gpr_id(ops[0].mem.base),
                 index = ops[0].mem.index ? gpr_id(ops[0].mem.index) : 254;
        if (id == 255 || id == base || id == index) {
            return false;
        }
        in->gpr[id] = rng() % 16384 - 8192;
    }
    if (d->meta.category == ZYDIS_CATEGORY_STRINGOP &&
        d->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) {
        in->gpr[1] = rng() % 64;
    }
    return true;
}

static bool gather_fits(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *ops,
                        struct image *in)
{
    if (ops[1].type != ZYDIS_OPERAND_TYPE_MEMORY || ops[1].mem.type != ZYDIS_MEMOP_TYPE_VSIB) {
        return true;
    }
    unsigned index = ZydisRegisterGetId(ops[1].mem.index);
    for (unsigned i = 0; i < 16; i++) { /* small indices, whatever their size */
        in->xsave[160 + 16 * index + i] = i % 8 ? 0 : rng() & 0x3f;
        in->xsave[576 + 16 * index + i] = i % 8 ? 0 : rng() & 0x3f;
    }
    return true;
}

static void random_image(struct image *in)
{
    memset(in, 0, sizeof *in);
    for (unsigned i = 0; i < 16; i++) {
        in->gpr[i] = interesting();
    }
    in->flags = 0x202 & ~0x200ull;
    in->flags |= rng() & 0x8d5;
    for (unsigned i = 32; i < 832; i++) {
        in->xsave[i] = rng();
    }
    memset(in->xsave, 0, 32);
    memset(in->xsave + 416, 0, 160);
    for (unsigned r = 0; r < 8; r++) { /* x87 registers: mostly ordinary numbers */
        memset(in->xsave + 32 + 16 * r + 10, 0, 6);
        if (rng() & 7) {
            uint16_t exponent = 0x3fff - 20 + rng() % 40;
            memcpy(in->xsave + 32 + 16 * r + 8, &exponent, 2);
            in->xsave[32 + 16 * r + 7] |= 0x80;
        }
    }
    for (unsigned r = 0; r < 64 && (rng() & 3); r++) { /* doubles and floats that are not all NaN */
        in->xsave[160 + 8 * (rng() % 32) + 7] = 0x3f + (rng() & 1) * 0x80;
    }
    uint16_t fcw = 0x37f | (rng() & 0xc00);
    fcw = rng() & 7 ? fcw : fcw & ~(1u << (rng() % 6));
    memcpy(in->xsave, &fcw, 2);
    in->xsave[3] = (rng() & 7) << 3; /* top of stack */
    in->xsave[4] = rng() & 3 ? 0xff : rng();
    uint32_t mxcsr = 0x1f80 | (rng() & 0xe040);
    mxcsr = rng() & 7 ? mxcsr : mxcsr & ~(1u << (7 + rng() % 6));
    memcpy(in->xsave + 24, &mxcsr, 4);
    in->xsave[512] = 7;
}

static unsigned random_bytes(uint8_t *b)
{
    unsigned n = 0;
    uint64_t r = rng();
    if (r & 1) {
        b[n++] = 0x66;
    }
    if ((r & 14) == 0) {
        b[n++] = r & 16 ? 0xf2 : 0xf3;
    }
    if ((r >> 5 & 31) == 0) {
        b[n++] = 0xf0;
    }
    if ((r >> 10 & 31) == 0) {
        b[n++] = 0x67;
    }
    switch (r >> 16 & 7) {
    case 0: /* VEX */
        b[n++] = 0xc4;
        b[n++] = (rng() & 0xe0) | (1 + rng() % 3);
        b[n++] = rng();
        break;
    case 1:
        b[n++] = 0xc5;
        b[n++] = rng();
        break;
    default:
        if (rng() & 1) {
            b[n++] = 0x40 | (rng() & 15);
        }
        if (r >> 20 & 1) {
            b[n++] = 0x0f;
            if ((r >> 24 & 3) == 0) {
                b[n++] = r >> 26 & 1 ? 0x38 : 0x3a;
            }
        }
    }
    while (n < 16) {
        b[n++] = rng();
    }
    return n;
}

static unsigned random_instruction(struct image *in, uint8_t *out)
{
    for (;;) {
        uint8_t b[16];
        ZydisDecodedInstruction d;
        ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
        random_bytes(b);
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, b, 15, &d, ops)) ||
            !allowed_set(d.meta.isa_ext) || !allowed_mnemonic(&d) ||
            d.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
            continue;
        }
        random_image(in);
        if (!operands_fit(&d, ops, in) || !gather_fits(&d, ops, in)) {
            continue;
        }
        memcpy(out, b, d.length);
        return d.length;
    }
}

/* --- the batch's code --- */

static void put(const void *bytes, unsigned n)
{
    memcpy(code_at, bytes, n);
    code_at += n;
}

static void put_abs(const char *opcode, unsigned n, unsigned reg, uint32_t address)
{
    put(opcode, n);
    uint8_t modrm[2] = {(reg & 7) << 3 | 4, 0x25};
    put(modrm, 2);
    put(&address, 4);
}

static void put_gpr(bool load, unsigned reg, uint32_t address)
{
    char op[2] = {reg >= 8 ? 0x4c : 0x48, load ? 0x8b : 0x89};
    put_abs(op, 2, reg, address);
}

static void put_imm(unsigned reg, uint32_t value)
{
    uint8_t b = 0xb8 | reg;
    put(&b, 1);
    put(&value, 4);
}

static uint32_t image_address(unsigned i, bool out)
{
    return STATES + i * sizeof(struct slot) + (out ? offsetof(struct slot, out) : 0);
}

static void put_load(unsigned i)
{
    uint32_t at = image_address(i, false);
    put_imm(0, 7);
    put_imm(2, 0);
    put_abs("\x0f\xae", 2, 5, at + offsetof(struct image, xsave)); /* xrstor */
    put_imm(4, STACK);
    put_abs("\xff", 1, 6, at + offsetof(struct image, flags)); /* push */
    put("\x9d", 1);
    for (unsigned r = 0; r < 16; r++) {
        put_gpr(true, r, at + offsetof(struct image, gpr) + 8 * r);
    }
}

static void put_store(unsigned i)
{
    uint32_t at = image_address(i, true);
    for (unsigned r = 0; r < 16; r++) {
        put_gpr(false, r, at + offsetof(struct image, gpr) + 8 * r);
    }
    put_imm(4, STACK);
    put("\x9c", 1);
    put_abs("\x8f", 1, 0, at + offsetof(struct image, flags)); /* pop */
    put("\xfc", 1);                                            /* cld */
    put_imm(0, 7);
    put_imm(2, 0);
    put("\x48", 1);
    put_abs("\x0f\xae", 2, 4, at + offsetof(struct image, xsave)); /* xsave64 */
}

/* Function for both worlds; ends with OUT F4h in the guest, RET natively. */
static void build_batch(uint8_t *code)
{
    code_at = code;
    put("\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10); /* push rbx rbp r12-r15 */
    put_gpr(false, 4, VECTOR + 16);
    for (unsigned i = 0; i < BATCH; i++) {
        put_abs("\xc7", 1, 0, VECTOR); /* mov dword [VECTOR], i */
        put(&(uint32_t){i}, 4);
        put_load(i);
        put(instance_bytes[i], instance_length[i]);
        put_store(i);
        instance_resume[i] = CODE + (code_at - code);
    }
    put("\xdb\xe3", 2); /* fninit */
    put_gpr(true, 4, VECTOR + 16);
    put("\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b", 10);
    put("\xc3", 1);
}

/* --- native --- */

static void native_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned i = *(uint32_t *)(uintptr_t)VECTOR;
    if (i >= BATCH || uc->uc_mcontext.gregs[REG_RIP] < CODE ||
        uc->uc_mcontext.gregs[REG_RIP] > CODE + 0x400000) {
        signal(sig, SIG_DFL);
        return;
    }
    struct image *out = &slots[i].out;
    static const int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned r = 0; r < 16; r++) {
        out->gpr[r] = uc->uc_mcontext.gregs[order[r]];
    }
    out->vector = uc->uc_mcontext.gregs[REG_TRAPNO] + 1;
    uc->uc_mcontext.gregs[REG_RIP] = instance_resume[i];
    uc->uc_mcontext.gregs[REG_EFL] &= ~0x400;
    uc->uc_mcontext.fpregs->swd &= 0x3800; /* no exception stays pending */
    uc->uc_mcontext.fpregs->cwd |= 0x3f;
    uc->uc_mcontext.fpregs->mxcsr |= 0x1f80;
}

/* The engine's own handlers step aside meanwhile; its CPU is paused. */
static void run_native(void)
{
    void (*batch)(void) = (void (*)(void))(uintptr_t)CODE;
    struct sigaction sa = {.sa_sigaction = native_fault,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER},
                     old[5];
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < 5; i++) {
        sigaction(signals[i], &sa, &old[i]);
    }
    batch();
    for (unsigned i = 0; i < 5; i++) {
        sigaction(signals[i], &old[i], NULL);
    }
    __asm__ volatile("ldmxcsr %0" : : "m"((uint32_t){0x1f80}));
}

/* --- guest --- */

/* IDT stubs: note the registers and the vector, go on after the instance. */
static void build_handlers(struct harness *h, uint8_t *stubs)
{
    for (unsigned vector = 0; vector < 32; vector++) {
        code_at = stubs + vector * 512;
        bool error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
        uint32_t save = VECTOR + 0x100;
        for (unsigned r = 0; r < 16; r++) {
            put_gpr(false, r, save + 8 * r);
        }
        if (!error) {
            put("\x50", 1); /* a dummy error code */
        }
        put("\x48\x8b\x44\x24\x20", 5); /* mov rax, [rsp+32]: the interrupted rsp */
        put_gpr(false, 0, save + 8 * 4);
        put_imm(0, vector + 1);
        put_gpr(false, 0, save + 8 * 16);
        put_imm(0, 0xe0);
        put("\xe7\xf0", 2);                /* out f0h, eax: the harness copies and resumes */
        put_abs("\xff", 1, 4, VECTOR + 8); /* jmp [VECTOR+8] */
    }
    for (unsigned vector = 0; vector < 32; vector++) {
        uint64_t at = STUBS + vector * 512;
        uint64_t low = (at & 0xffff) | 8ull << 16 | 1ull << 32 | 0x8eull << 40 |
                       (at >> 16 & 0xffff) << 48,
                 high = at >> 32;
        memcpy(h->ram + IDT + vector * 16, &low, 8);
        memcpy(h->ram + IDT + vector * 16 + 8, &high, 8);
    }
}

static struct harness *guest;
static void (*plain_write)(void *opaque, uint16_t port, uint64_t value, unsigned size);

static void fault_port(void *opaque, uint16_t port, uint64_t value, unsigned size)
{
    if (port != 0xf0) {
        plain_write(opaque, port, value, size);
        return;
    }
    uint8_t *ram = guest->ram;
    uint32_t i = *(uint32_t *)(ram + VECTOR);
    if (i < BATCH) {
        struct slot *s = (struct slot *)(ram + STATES) + i;
        memcpy(s->out.gpr, ram + VECTOR + 0x100, 128);
        memcpy(&s->out.vector, ram + VECTOR + 0x100 + 128, 8);
        memcpy(ram + VECTOR + 8, &instance_resume[i], 8);
    }
}

static bool compare(unsigned i, const struct slot *g, const struct slot *n)
{
    struct image a = g->out, b = n->out;
    memset(a.xsave + 6, 0, 18); /* FOP, FIP, FDP */
    memset(b.xsave + 6, 0, 18);
    memset(a.xsave + 28, 0, 4);
    memset(b.xsave + 28, 0, 4);
    memset(a.xsave + 416, 0, 96);
    memset(b.xsave + 416, 0, 96);
    static const struct {
        unsigned at, size;
        uint64_t bit;
    } parts[] = {{0, 24, 1}, {32, 128, 1}, {160, 256, 2}, {576, 256, 4}};
    for (unsigned k = 0; k < 4; k++) { /* components in their initial state are not written */
        struct image *im[2] = {&a, &b};
        for (unsigned j = 0; j < 2; j++) {
            if (!(im[j]->xsave[512] & parts[k].bit)) {
                memset(im[j]->xsave + parts[k].at, 0, parts[k].size);
                if (k == 0) {
                    im[j]->xsave[0] = 0x7f;
                    im[j]->xsave[1] = 3;
                }
            }
        }
    }
    memset(a.xsave + 512, 0, 64);
    memset(b.xsave + 512, 0, 64);
    if (a.vector || b.vector) {
        memset(a.xsave, 0, 832);
        memset(b.xsave, 0, 832);
        a.flags = b.flags = 0;
    }
    a.flags &= 0x8d5 | 0x400;
    b.flags &= 0x8d5 | 0x400;
    return memcmp(&a, &b, sizeof a) == 0;
}

static void report(unsigned i, const struct slot *g, const struct slot *n)
{
    ZydisFormatter f;
    char text[128];
    ZydisDecodedInstruction d;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisDecoderDecodeFull(&decoder, instance_bytes[i], 15, &d, ops);
    ZydisFormatterFormatInstruction(&f, &d, ops, d.operand_count_visible, text, sizeof text, 0,
                                    NULL);
    fprintf(stderr, "# MISMATCH %s  [", text);
    for (unsigned k = 0; k < d.length; k++) {
        fprintf(stderr, "%02x ", instance_bytes[i][k]);
    }
    fprintf(stderr, "] vector guest %d native %d\n", (int)g->out.vector - 1,
            (int)n->out.vector - 1);
    for (unsigned r = 0; r < 16; r++) {
        uint64_t x = g->out.gpr[r], y = n->out.gpr[r];
        if (x != y) {
            fprintf(stderr, "#   r%u: in %016lx guest %016lx native %016lx\n", r, g->in.gpr[r], x,
                    y);
        }
    }
    if (g->out.flags != n->out.flags) {
        fprintf(stderr, "#   flags: in %lx guest %lx native %lx\n", g->in.flags, g->out.flags,
                n->out.flags);
    }
    for (unsigned k = 0; k < 832; k++) {
        if (g->out.xsave[k] != n->out.xsave[k] && !(k >= 6 && k < 24) && !g->out.vector) {
            fprintf(stderr, "#   xsave[%u]: in %02x guest %02x native %02x\n", k, g->in.xsave[k],
                    g->out.xsave[k], n->out.xsave[k]);
            break;
        }
    }
}

static unsigned run_batch(struct harness *h)
{
    struct image scratch;
    for (unsigned i = 0; i < BATCH; i++) {
        memset(&slots[i].out, 0, sizeof slots[i].out);
        instance_length[i] = random_instruction(&scratch, instance_bytes[i]);
        slots[i].in = scratch;
    }
    for (unsigned i = 0; i < DATA_SIZE; i++) {
        data_start[i] = rng();
    }
    build_batch((uint8_t *)(uintptr_t)CODE);
    memcpy((void *)(uintptr_t)DATA, data_start, DATA_SIZE);
    memcpy(h->ram + CODE, (void *)(uintptr_t)CODE, 0x400000);
    memcpy(h->ram + STATES, slots, BATCH * sizeof *slots);
    memcpy(h->ram + DATA, data_start, DATA_SIZE);
    struct cpu_state s;
    harness_long_mode(h, &s, TABLES, CODE, STACK - 0x1000);
    uint64_t pml_hole =
        0; /* the page after DATA is missing in both worlds: split that 2 MiB page */
    uint64_t pt = TABLES + 0x8000;
    for (unsigned i = 0; i < 512; i++) {
        uint64_t page = (uint64_t)(DATA & ~0x1fffffu) + i * 4096;
        uint64_t e = page == DATA + DATA_SIZE ? pml_hole : page | 7;
        memcpy(h->ram + pt + 8 * i, &e, 8);
    }
    uint64_t pde = pt | 7;
    memcpy(h->ram + TABLES + 0x2000 + 8 * (DATA >> 21), &pde, 8);
    s.idtr_base = IDT;
    s.idtr_limit = 511;
    uint64_t tss = TABLES + 0xa000, ist = STACK + 0x8000;
    memcpy(h->ram + tss + 0x24, &ist, 8);
    s.seg[CPU_TR] =
        (struct cpu_segment){.base = tss, .limit = 0x67, .selector = 0x18, .attributes = 0x8b};
    /* the guest's return address: OUT F4h */
    uint64_t end = CODE + 0x3fff00;
    memcpy(h->ram + end, "\x31\xc0\xe7\xf4\xf4\xeb\xfd", 7);
    memcpy(h->ram + s.gpr[CPU_RSP], &end, 8);
    int code = harness_run(h, &s, 60);
    if (code != 0) {
        unsigned at = *(uint32_t *)(h->ram + VECTOR);
        fprintf(stderr, "# the guest ended with %d at rip %lx, instance %u\n", code, s.rip, at);
        if (at < BATCH) {
            report(at, (struct slot *)(h->ram + STATES) + at, &slots[at]);
        }
        return 1;
    }
    run_native();
    unsigned bad = 0;
    for (unsigned i = 0; i < BATCH; i++) {
        const struct slot *g = (struct slot *)(h->ram + STATES) + i;
        if (!compare(i, g, &slots[i])) {
            report(i, g, &slots[i]);
            return 1; /* what follows may only see its traces in memory */
        }
    }
    if (memcmp(h->ram + DATA, (void *)(uintptr_t)DATA, DATA_SIZE)) {
        fprintf(stderr, "# memory differs after a batch\n");
        bad++;
    }
    return bad;
}

int main(int argc, char **argv)
{
    uint64_t instances = 200000, seed = 0x52696e67;
    const char *options = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (g_str_equal(argv[i], "--instances")) {
            instances = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--seed")) {
            seed = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--engine-options")) {
            options = argv[i + 1];
        }
    }
    rng_state = seed ? seed : 1;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    void *p = mmap((void *)(uintptr_t)BASE, SPAN, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED || mprotect((void *)(uintptr_t)(DATA + DATA_SIZE), 4096, PROT_NONE)) {
        printf("1..0 # SKIP no room at %x\n", BASE);
        return 0;
    }
    slots = (struct slot *)(uintptr_t)STATES;
    data_start = g_malloc(DATA_SIZE);
    guest = harness_new(0x20000000, options);
    plain_write = guest->bus.port_write;
    guest->bus.port_write = fault_port;
    build_handlers(guest, guest->ram + STUBS);
    stack_t alt = {.ss_sp = g_malloc(65536), .ss_size = 65536};
    sigaltstack(&alt, NULL);
    unsigned bad = 0;
    printf("1..1\n# seed %#lx, %lu instances\n", seed, instances);
    fflush(stdout);
    for (uint64_t done = 0; done < instances && bad < 40; done += BATCH) {
        bad += run_batch(guest);
    }
    printf("%s 1 - differential\n", bad ? "not ok" : "ok");
    return bad != 0;
}
