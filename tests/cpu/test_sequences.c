/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host CPU as oracle for sequences of instructions (sequence.c), at CPL 0 and 3: each is run
 * from several states natively and in the engine. Compared are the general registers, the
 * arithmetic flags and DF, the vector registers, all memory that instructions may reach, and of a
 * fault the vector, rip, cr2, whether it was a write, and at CPL 3 the flags. It is about what the engine knows from one
 * instruction to the next; test_differential.c has the single instructions.
 *
 * One batch is a few sequences, each entered several times in turn, so that the engine sees a block
 * of code again with registers that point elsewhere. Memory lies at the same addresses in both
 * worlds: regions of a few pages, some missing or read-only, in several units of the engine's
 * windows and across a unit's border. A fault goes to a handler (a signal, or the guest's IDT)
 * that notes the registers and goes on with the next instance. A batch that does not end natively
 * (returns to stale addresses) is left out.
 *
 * What differs is reduced to few instances and instructions before it is reported.
 *
 * Usage: test_sequences [--sequences N] [--seed S] [--engine-options O] [--cpl 0|3]
 */
#include <Zydis/Zydis.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "harness.h"
#include "sequence.h"
#include "translate/vcpu.h"
#include "translate/window.h"

#define SEQUENCES 10u
#define ROUNDS    6u
#define INSTANCES (SEQUENCES * ROUNDS)

/* Offsets in the control area. */
#define DRIVER       0x0u
#define CODE         0x20000u
#define CODE_SIZE    0x40000u
#define IMAGES       0x80000u
#define CURRENT      0x100000u /* number of the instance */
#define RESUME       0x100008u /* where the sequence's end leads */
#define SAVED_RSP    0x100010u
#define FAULT        0x100100u /* what the guest's handler notes: struct image */
#define FRAME        0x100800u /* its way back */
#define STACK        0x108000u
#define THE_END      0x10a000u
#define RETURN_STACK 0x10c000u
#define HANDLERS     0x110000u
#define IDT          0x118000u
#define TSS          0x119000u
#define GDT          0x11a000u
#define HANDLER_TOP  0x120000u
#define CONTROL_SIZE 0x120000u

/* Guest-physical. */
#define TABLES      0x100000u
#define CONTROL_GPA 0x1000000u
#define REGION_GPA  0x2000000u
#define REGION_SIZE (REGION_PAGES * 4096u)

struct image {
    uint64_t gpr[16];
    uint64_t flags, vector, rip, error, cr2;
    uint8_t pad[64 * 3 - 21 * 8];
    uint8_t xsave[832] __attribute__((aligned(64)));
};

struct slot {
    struct image in, out;
};

struct batch {
    struct sequence sequence[SEQUENCES];
    struct slot slot[INSTANCES];
    bool active[INSTANCES];
    unsigned pad[SEQUENCES]; /* bytes before a sequence */
    unsigned cpl;
    uint64_t leaf_bits;
    uint8_t memory[REGIONS][REGION_SIZE];
};

static ZydisDecoder decoder;
static struct harness *guest;
static struct batch batch;
static uint64_t entry[SEQUENCES];
static uint64_t after_fault[INSTANCES]; /* stores what a fault's handler has not */
static uint64_t driver_end;
static struct slot guest_slots[INSTANCES];
static uint8_t *at; /* where code goes */
static bool timed_out;
static unsigned faults, ends;

static void *control(uint64_t offset)
{
    return (void *)(CONTROL + offset);
}

static bool page_missing(unsigned page)
{
    return page == 0 || page == 5 || page == 7;
}

static bool page_readonly(unsigned page)
{
    return page == 4;
}

/* --- making a batch --- */

static void random_state(struct image *in)
{
    memset(in, 0, sizeof *in);
    for (unsigned r = 0; r < 16; r++) {
        in->gpr[r] = r == 4 || below(25) ? region_pointer() : below(2) ? rng() : below(300);
    }
    in->gpr[4] &= ~7ull;
    in->flags = 0x202 | (rng() & 0x8d5);
    for (unsigned i = 160; i < 832; i++) {
        in->xsave[i] = rng();
    }
    memset(in->xsave + 416, 0, 160);
    memcpy(in->xsave, &(uint16_t){0x37f}, 2);
    memcpy(in->xsave + 24, &(uint32_t){0x1f80}, 4);
    in->xsave[512] = 6;
}

static void random_batch(unsigned cpl)
{
    memset(&batch, 0, sizeof batch);
    batch.cpl = cpl;
    batch.leaf_bits = below(2) ? 0x60 : below(2) ? 0x20 : 0;
    for (unsigned i = 0; i < SEQUENCES; i++) {
        sequence_make(&batch.sequence[i], 5 + below(56));
        batch.pad[i] = below(2) ? below(64) : below(5000);
    }
    bool same = below(4) == 0; /* rounds that differ little */
    for (unsigned i = 0; i < INSTANCES; i++) {
        random_state(&batch.slot[i].in);
        if (same && i >= SEQUENCES) {
            struct image *in = &batch.slot[i].in;
            unsigned r = below(16);
            uint64_t value = in->gpr[r];
            *in = batch.slot[i % SEQUENCES].in;
            in->gpr[r] = r == 4 ? in->gpr[r] : value;
        }
        batch.active[i] = true;
    }
    for (unsigned i = 0; i < REGIONS * REGION_SIZE / 8; i++) {
        uint64_t value = below(8) ? region_pointer() : below(2) ? rng() : below(100);
        memcpy((uint8_t *)batch.memory + 8 * i, &value, 8);
    }
}

/* --- its code, the same for both worlds --- */

static void put(const void *bytes, unsigned n)
{
    memcpy(at, bytes, n);
    at += n;
}

/* An instruction whose memory operand is in the control area. */
static void put_control(const char *opcode, unsigned n, unsigned reg, uint64_t offset, unsigned imm)
{
    put(opcode, n);
    uint8_t modrm = (reg & 7) << 3 | 5;
    put(&modrm, 1);
    int32_t rel = (int64_t)(CONTROL + offset) - (int64_t)(at + 4 + imm);
    put(&rel, 4);
}

static void put_gpr(bool load, unsigned reg, uint64_t offset)
{
    char op[2] = {reg >= 8 ? 0x4c : 0x48, load ? 0x8b : 0x89};
    put_control(op, 2, reg, offset, 0);
}

static uint64_t image_at(unsigned i, bool out)
{
    return IMAGES + i * sizeof(struct slot) + (out ? offsetof(struct slot, out) : 0);
}

static void put_xstate(unsigned reg, uint64_t offset)
{
    put("\xb8\x07\0\0\0\x31\xd2\x48", 8); /* mov eax, 7; xor edx, edx; REX.W */
    put_control("\x0f\xae", 2, reg, offset + offsetof(struct image, xsave), 0);
}

static void put_load(unsigned i)
{
    uint64_t image = image_at(i, false);
    put_xstate(5, image);
    put("\x48", 1);
    put_control("\x8d", 1, 4, STACK, 0); /* lea rsp */
    put_control("\xff", 1, 6, image + offsetof(struct image, flags), 0);
    put("\x9d", 1);
    for (unsigned r = 0; r < 16; r++) {
        put_gpr(true, r, image + offsetof(struct image, gpr) + 8 * r);
    }
}

static void put_store(unsigned i)
{
    uint64_t image = image_at(i, true);
    for (unsigned r = 0; r < 16; r++) {
        put_gpr(false, r, image + offsetof(struct image, gpr) + 8 * r);
    }
    put("\x48", 1);
    put_control("\x8d", 1, 4, STACK, 0);
    put("\x9c", 1);
    put_control("\x8f", 1, 0, image + offsetof(struct image, flags), 0);
    after_fault[i] = (uint64_t)at;
    put("\xfc", 1);
    put_xstate(4, image);
}

static void build_driver(void)
{
    at = control(DRIVER);
    put("\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57", 10); /* push rbx, rbp, r12-r15 */
    put_gpr(false, 4, SAVED_RSP);
    for (unsigned i = 0; i < INSTANCES; i++) {
        if (!batch.active[i]) {
            continue;
        }
        put_control("\xc7", 1, 0, CURRENT, 4);
        put(&i, 4);
        put("\x48", 1);
        put_control("\x8d", 1, 0, 0, 0); /* lea rax, [resume] */
        uint8_t *lea = at;
        put_gpr(false, 0, RESUME);
        put_load(i);
        put("\xe9", 1);
        int32_t rel = entry[i % SEQUENCES] - (uint64_t)(at + 4);
        put(&rel, 4);
        rel = at - lea;
        memcpy(lea - 4, &rel, 4);
        put_store(i);
    }
    driver_end = (uint64_t)at;
    put_control("\xc7", 1, 0, CURRENT, 4);
    put(&(uint32_t){INSTANCES}, 4);
    put("\xdb\xe3", 2); /* fninit */
    put_gpr(true, 4, SAVED_RSP);
    put("\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3", 11);
}

static void place(const struct sequence *s, uint64_t *where)
{
    for (unsigned i = 0; i < s->count; i++) {
        where[i + 1] = where[i] + s->ins[i].length;
    }
}

static void build_sequence(struct sequence *s)
{
    uint64_t where[SEQUENCE_MAX + 1] = {(uint64_t)at};
    place(s, where);
    for (unsigned i = 0; i < s->count; i++) { /* LOOP and JrCXZ whose target is too far */
        struct instruction *x = &s->ins[i];
        int64_t rel = where[x->target <= s->count ? x->target : 0] - where[i + 1];
        if (x->length && x->rel_size == 1 && rel != (int8_t)rel) {
            x->length = 0;
            place(s, where);
        }
    }
    for (unsigned i = 0; i < s->count; i++) {
        struct instruction *x = &s->ins[i];
        uint64_t target = x->branch ? where[x->target] : x->target;
        uint64_t rel = target - where[i + 1];
        if (x->length) {
            memcpy(x->byte + x->rel_at, &rel, x->rel_size);
            put(x->byte, x->length);
        }
    }
    put_control("\xff", 1, 4, RESUME, 0); /* jmp [RESUME] */
}

static void build_batch(void)
{
    mprotect(control(0), IMAGES, PROT_READ | PROT_WRITE | PROT_EXEC);
    at = control(CODE);
    memset(at, 0x0f, CODE_SIZE); /* 0f 0f 0f: not an instruction here */
    for (unsigned i = 0; i < SEQUENCES; i++) {
        at += batch.pad[i];
        entry[i] = (uint64_t)at;
        build_sequence(&batch.sequence[i]);
    }
    build_driver();
    mprotect(control(0), IMAGES, PROT_READ | PROT_EXEC);
    for (unsigned i = 0; i < INSTANCES; i++) {
        memset(&batch.slot[i].out, 0, sizeof(struct image));
    }
}

/* --- native --- */

static void leave_batch(ucontext_t *uc, uint64_t rip)
{
    uc->uc_mcontext.gregs[REG_RIP] = rip;
    uc->uc_mcontext.gregs[REG_EFL] &= ~0x400;
}

static void native_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const greg_t *regs = uc->uc_mcontext.gregs;
    uint32_t i = *(uint32_t *)control(CURRENT);
    static const int order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};
    if (i >= INSTANCES) {
        signal(sig, SIG_DFL);
        return;
    }
    struct image *out = &((struct slot *)control(IMAGES))[i].out;
    for (unsigned r = 0; r < 16; r++) {
        out->gpr[r] = regs[order[r]];
    }
    out->rip = regs[REG_RIP];
    out->flags = regs[REG_EFL];
    out->vector = regs[REG_TRAPNO] + 1;
    out->error = regs[REG_ERR];
    out->cr2 = regs[REG_CR2];
    leave_batch(uc, after_fault[i]);
}

static void native_alarm(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uint64_t rip = uc->uc_mcontext.gregs[REG_RIP];
    if (rip - CONTROL < CONTROL_SIZE) {
        timed_out = true;
        leave_batch(uc, driver_end);
    } else {
        alarm(1);
    }
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
#define SIGNALS G_N_ELEMENTS(signals)

/* The engine's own handlers step aside meanwhile; its CPU is paused. False: it did not end. */
static bool run_native(void)
{
    /* wild addresses may lie in the engine's windows */
    window_drop_all(((struct translate *)guest->engine)->cpu[0]);
    void (*driver)(void) = (void (*)(void))control(DRIVER);
    struct sigaction old[SIGNALS];
    for (unsigned i = 0; i < REGIONS; i++) {
        uint64_t page = region_start[i];
        mprotect((void *)(page + 4 * 4096), 4096, PROT_READ | PROT_WRITE);
        for (unsigned k = 0; k < REGION_PAGES; k++, page += 4096) {
            if (!page_missing(k)) {
                memcpy((void *)page, batch.memory[i] + 4096 * k, 4096);
            }
        }
        mprotect((void *)(region_start[i] + 4 * 4096), 4096, PROT_READ);
    }
    memcpy(control(IMAGES), batch.slot, sizeof batch.slot);
    for (unsigned i = 0; i < SIGNALS; i++) {
        struct sigaction sa = {.sa_sigaction = signals[i] == SIGALRM ? native_alarm : native_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        sigaction(signals[i], &sa, &old[i]);
    }
    timed_out = false;
    struct itimerval limit = {.it_value = {.tv_usec = 300000}}, none = {0};
    setitimer(ITIMER_REAL, &limit, NULL);
    driver();
    setitimer(ITIMER_REAL, &none, NULL);
    for (unsigned i = 0; i < SIGNALS; i++) {
        sigaction(signals[i], &old[i], NULL);
    }
    __asm__ volatile("ldmxcsr %0" : : "m"((uint32_t){0x1f80}));
    memcpy(batch.slot, control(IMAGES), sizeof batch.slot);
    return !timed_out;
}

/* --- guest --- */

static uint64_t table_next;

/* Maps a page in the guest's tables. */
static void map(uint64_t linear, uint64_t leaf)
{
    uint64_t table = TABLES;
    for (unsigned level = 3; level; level--) {
        uint8_t *e = guest->ram + table + 8 * (linear >> (12 + 9 * level) & 511);
        uint64_t value;
        memcpy(&value, e, 8);
        if (!value) {
            value = table_next | 7;
            table_next += 4096;
            memset(guest->ram + (value & ~7ull), 0, 4096);
            memcpy(e, &value, 8);
        }
        table = value & ~0xfffull;
    }
    memcpy(guest->ram + table + 8 * (linear >> 12 & 511), &leaf, 8);
}

static void build_tables(void)
{
    memset(guest->ram + TABLES, 0, 4096);
    table_next = TABLES + 0x1000;
    for (uint64_t i = 0; i < CONTROL_SIZE; i += 4096) {
        map(CONTROL + i, (CONTROL_GPA + i) | (i < IMAGES ? 5 : 7));
    }
    for (unsigned i = 0; i < REGIONS; i++) {
        for (unsigned k = 0; k < REGION_PAGES; k++) {
            uint64_t gpa = REGION_GPA + i * REGION_SIZE + k * 4096;
            if (!page_missing(k)) {
                map(region_start[i] + 4096 * k,
                    gpa | 1ull << 63 | batch.leaf_bits | (page_readonly(k) ? 5 : 7));
            }
        }
    }
}

static void build_handler(unsigned vector)
{
    bool error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
    at = control(HANDLERS + vector * 1024);
    for (unsigned r = 0; r < 16; r++) {
        put_gpr(false, r, FAULT + 8 * r);
    }
    if (!error) {
        put("\x6a\0", 2);
    }
    put("\x48\x8b\x44\x24\x20", 5); /* mov rax, [rsp+32]: the interrupted rsp */
    put_gpr(false, 0, FAULT + 8 * 4);
    put("\x48\x8b\x44\x24\x08", 5); /* rip */
    put_gpr(false, 0, FAULT + offsetof(struct image, rip));
    put("\x48\x8b\x44\x24\x18", 5); /* rflags */
    put_gpr(false, 0, FAULT + offsetof(struct image, flags));
    put("\x48\x8b\x04\x24", 4);
    put_gpr(false, 0, FAULT + offsetof(struct image, error));
    put("\x0f\x20\xd0", 3); /* mov rax, cr2 */
    put_gpr(false, 0, FAULT + offsetof(struct image, cr2));
    put("\xb8", 1);
    put(&(uint32_t){vector + 1}, 4);
    put_gpr(false, 0, FAULT + offsetof(struct image, vector));
    put("\xe7\xf0\x48", 3); /* out f0h, eax; REX.W */
    put_control("\x8d", 1, 4, FRAME, 0);
    put("\x48\xcf", 2); /* iretq */
    uint64_t to = CONTROL + HANDLERS + vector * 1024, gate[2];
    gate[0] = (to & 0xffff) | 8ull << 16 | 1ull << 32 | 0x8eull << 40 | (to >> 16 & 0xffff) << 48;
    gate[1] = to >> 32;
    memcpy((uint8_t *)control(IDT) + 16 * vector, gate, 16);
}

static void build_system(void)
{
    static const uint64_t gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff,
                                   0x00affb000000ffff};
    for (unsigned vector = 0; vector < 32; vector++) {
        build_handler(vector);
    }
    uint64_t top = CONTROL + HANDLER_TOP;
    memcpy((uint8_t *)control(TSS) + 4, &top, 8);
    memcpy((uint8_t *)control(TSS) + 0x24, &top, 8);
    memcpy(control(GDT), gdt, sizeof gdt);
    memcpy(control(THE_END), "\x0f\x0b\xeb\xfe", 4); /* UD2, so that #UD ends the run */
}

static void (*plain_write)(void *opaque, uint16_t port, uint64_t value, unsigned size);

static void fault_port(void *opaque, uint16_t port, uint64_t value, unsigned size)
{
    if (port != 0xf0) {
        plain_write(opaque, port, value, size);
        return;
    }
    uint8_t *ram = guest->ram + CONTROL_GPA;
    uint32_t i = *(uint32_t *)(ram + CURRENT);
    bool user = batch.cpl == 3;
    uint64_t frame[5] = {CONTROL + THE_END + 2, user ? 0x23 : 8, 0x202, CONTROL + STACK,
                         user ? 0x1b : 16};
    if (i < INSTANCES) {
        struct image *out = &((struct slot *)(ram + IMAGES))[i].out;
        memcpy(out, ram + FAULT, offsetof(struct image, pad));
        frame[0] = after_fault[i];
    }
    memcpy(ram + FRAME, frame, sizeof frame);
    if (i >= INSTANCES) {
        uint64_t vector;
        memcpy(&vector, ram + FAULT + offsetof(struct image, vector), 8);
        plain_write(opaque, HARNESS_END_PORT, i == INSTANCES && vector == 7 ? 0 : vector, 4);
    }
}

static void guest_state(struct cpu_state *s)
{
    harness_long_mode(guest, s, TABLES, CONTROL + DRIVER, CONTROL + RETURN_STACK);
    build_tables();
    s->gdtr_base = CONTROL + GDT;
    s->gdtr_limit = 39;
    s->idtr_base = CONTROL + IDT;
    s->idtr_limit = 511;
    s->seg[CPU_TR] = (struct cpu_segment){
        .base = CONTROL + TSS, .limit = 0x67, .selector = 0x28, .attributes = 0x8b};
    s->rflags = 0x202;
    if (batch.cpl == 3) {
        s->seg[CPU_CS] =
            (struct cpu_segment){.limit = 0xffffffff, .selector = 0x23, .attributes = 0xa0fb};
        static const uint8_t data[] = {CPU_ES, CPU_SS, CPU_DS, CPU_FS, CPU_GS};
        for (unsigned i = 0; i < 5; i++) {
            s->seg[data[i]] =
                (struct cpu_segment){.limit = 0xffffffff, .selector = 0x1b, .attributes = 0xc0f3};
        }
    }
}

static bool run_guest(void)
{
    struct cpu_state s;
    uint8_t *ram = guest->ram + CONTROL_GPA;
    memcpy(ram, control(0), CONTROL_SIZE);
    for (unsigned i = 0; i < INSTANCES; i++) {
        memset(&((struct slot *)(ram + IMAGES))[i].out, 0, sizeof(struct image));
        ((struct slot *)(ram + IMAGES))[i].in = batch.slot[i].in;
    }
    uint64_t end = CONTROL + THE_END;
    memcpy(ram + RETURN_STACK, &end, 8);
    memcpy(guest->ram + REGION_GPA, batch.memory, sizeof batch.memory);
    guest_state(&s);
    int code = harness_run(guest, &s, 10);
    memcpy(guest_slots, ram + IMAGES, sizeof guest_slots);
    if (code) {
        fprintf(stderr, "# the guest ended with %d at rip %lx, instance %u\n", code, s.rip,
                *(uint32_t *)(ram + CURRENT));
    }
    return code == 0;
}

/* --- comparing --- */

static void normalize(struct image *a)
{
    memset(a->xsave, 0, 24);
    memset(a->xsave + 28, 0, 132);
    memset(a->xsave + 416, 0, 96);
    if (!(a->xsave[512] & 2)) { /* components in their initial state are not written */
        memset(a->xsave + 160, 0, 256);
    }
    if (!(a->xsave[512] & 4)) {
        memset(a->xsave + 576, 0, 256);
    }
    memset(a->xsave + 512, 0, 64);
    a->flags &= 0x8d5 | 0x400;
    if (a->vector && batch.cpl == 0) { /* kernels in long mode: see flags_dead */
        a->flags = 0;
    }
    a->error &= a->vector == 15 ? 0x12 : 0;
    a->cr2 = a->vector == 15 ? a->cr2 : 0;
}

static bool same(const struct image *g, const struct image *n)
{
    struct image a = *g, b = *n;
    normalize(&a);
    normalize(&b);
    return memcmp(&a, &b, sizeof a) == 0;
}

/* The first instance that differs; INSTANCES: memory does; -1: nothing. */
static int compare(void)
{
    for (unsigned i = 0; i < INSTANCES; i++) {
        if (batch.active[i] && !same(&guest_slots[i].out, &batch.slot[i].out)) {
            return i;
        }
    }
    for (unsigned i = 0; i < REGIONS; i++) {
        for (unsigned k = 0; k < REGION_PAGES; k++) {
            if (!page_missing(k) && memcmp(guest->ram + REGION_GPA + i * REGION_SIZE + k * 4096,
                                           (void *)(region_start[i] + k * 4096), 4096)) {
                return INSTANCES;
            }
        }
    }
    return -1;
}

static bool goes_indirect(const uint8_t *op)
{
    op += (*op & 0xf0) == 0x40; /* REX */
    unsigned digit = op[1] >> 3 & 7;
    return *op == 0xc2 || *op == 0xc3 || (*op == 0xff && (digit == 2 || digit == 4));
}

/* Takes out instances that end with a return or jump to an address that is not canonical: for the
 * CPU that is the branch's fault, for the engine the target's. */
static bool take_out_returns(void)
{
    bool found = false;
    for (unsigned i = 0; i < INSTANCES; i++) {
        const struct image *out = &batch.slot[i].out;
        if (batch.active[i] && out->vector == 14 && out->rip - CONTROL < CONTROL_SIZE &&
            goes_indirect((const uint8_t *)out->rip)) {
            batch.active[i] = false;
            found = true;
        }
    }
    return found;
}

/* Runs the batch in both worlds: as compare(), -2: the guest did not end. */
static int try_batch(void)
{
    do {
        build_batch();
        if (!run_native()) {
            return -1;
        }
    } while (take_out_returns());
    return run_guest() ? compare() : -2;
}

/* --- reporting --- */

static void reduce(void)
{
    for (unsigned i = INSTANCES; i-- > 0;) {
        bool was = batch.active[i];
        batch.active[i] = false;
        batch.active[i] = was && try_batch() == -1;
    }
    for (bool less = true; less;) {
        less = false;
        for (unsigned k = 0; k < SEQUENCES; k++) {
            bool used = false;
            for (unsigned i = k; i < INSTANCES; i += SEQUENCES) {
                used |= batch.active[i];
            }
            for (unsigned i = batch.sequence[k].count; used && i-- > 0;) {
                struct instruction *x = &batch.sequence[k].ins[i];
                uint8_t length = x->length;
                x->length = 0;
                if (length && try_batch() == -1) {
                    x->length = length;
                } else {
                    less |= length != 0;
                }
            }
        }
    }
}

static void print_sequence(const struct sequence *s, uint64_t rip)
{
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned i = 0; i < s->count; i++) {
        const struct instruction *x = &s->ins[i];
        ZydisDecodedInstruction d;
        ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
        char text[128] = "(cannot be decoded)";
        if (!x->length) {
            continue;
        }
        if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, x->byte, x->length, &d, ops))) {
            ZydisFormatterFormatInstruction(&f, &d, ops, d.operand_count_visible, text, sizeof text,
                                            rip, NULL);
        }
        fprintf(stderr, "#   %lx  %-50s", rip, text);
        for (unsigned k = 0; k < x->length; k++) {
            fprintf(stderr, " %02x", x->byte[k]);
        }
        fprintf(stderr, "\n");
        rip += x->length;
    }
}

static void print_instance(unsigned i)
{
    struct image g = guest_slots[i].out, n = batch.slot[i].out, *in = &batch.slot[i].in;
    bool differs = !same(&g, &n);
    normalize(&g);
    normalize(&n);
    fprintf(stderr, "#  instance %u, sequence %u%s: vector guest %d native %d\n", i, i % SEQUENCES,
            differs ? " DIFFERS" : "", (int)g.vector - 1, (int)n.vector - 1);
    for (unsigned r = 0; r < 16; r++) {
        fprintf(stderr, "#   r%-2u in %016lx guest %016lx native %016lx%s\n", r, in->gpr[r],
                g.gpr[r], n.gpr[r], g.gpr[r] == n.gpr[r] ? "" : " !");
    }
    fprintf(stderr,
            "#   flags in %lx guest %lx native %lx; rip %lx %lx; error %lx %lx; cr2 %lx %lx\n",
            in->flags, g.flags, n.flags, g.rip, n.rip, g.error, n.error, g.cr2, n.cr2);
    for (unsigned k = 0; k < 832; k++) {
        if (g.xsave[k] != n.xsave[k]) {
            fprintf(stderr, "#   xsave[%u]: guest %02x native %02x\n", k, g.xsave[k], n.xsave[k]);
            break;
        }
    }
}

static void print_memory(void)
{
    for (unsigned i = 0; i < REGIONS; i++) {
        for (unsigned k = 0; k < REGION_SIZE; k++) {
            uint8_t g = guest->ram[REGION_GPA + i * REGION_SIZE + k];
            if (page_missing(k / 4096) || g == ((uint8_t *)region_start[i])[k]) {
                continue;
            }
            fprintf(stderr, "#   memory at %lx: guest %02x native %02x\n", region_start[i] + k, g,
                    ((uint8_t *)region_start[i])[k]);
            k |= 7;
        }
    }
}

static void report(uint64_t seed, const char *options)
{
    int found = try_batch();
    fprintf(stderr, "# MISMATCH at CPL %u, batch seed %#lx, options %s%s\n", batch.cpl, seed,
            options ? options : "(none)", found == -1 ? "; not repeated after reduction" : "");
    for (unsigned i = 0; i < SEQUENCES; i++) {
        bool used = false;
        for (unsigned k = i; k < INSTANCES; k += SEQUENCES) {
            used |= batch.active[k];
        }
        if (used) {
            fprintf(stderr, "#  sequence %u:\n", i);
            print_sequence(&batch.sequence[i], entry[i]);
        }
    }
    for (unsigned i = 0; i < INSTANCES; i++) {
        if (batch.active[i]) {
            print_instance(i);
        }
    }
    print_memory();
}

static bool check_batch(uint64_t seed, unsigned cpl, const char *options)
{
    sequence_seed(seed);
    random_batch(cpl);
    int found = try_batch();
    for (unsigned i = 0; i < INSTANCES && found != -2; i++) {
        *(batch.slot[i].out.vector ? &faults : &ends) += 1;
    }
    if (found == -1) {
        return true;
    }
    fprintf(stderr, "# found %d with batch seed %#lx, CPL %u; reducing\n", found, seed, cpl);
    if (found >= 0 && found < (int)INSTANCES) {
        print_instance(found);
    }
    print_memory();
    if (found != -2) { /* one that does not end takes its time each time */
        if (try_batch() == -1) {
            fprintf(stderr, "# not repeated\n");
        } else {
            reduce();
        }
    }
    report(seed, options);
    return false;
}

/* Before the engine takes its part of the address space. */
static bool map_native(void)
{
    void *c = mmap(control(0), CONTROL_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    bool ok = c == control(0);
    for (unsigned i = 0; i < REGIONS; i++) {
        void *start = (void *)region_start[i];
        ok &= mmap(start, REGION_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == start;
        for (unsigned k = 0; ok && k < REGION_PAGES; k++) {
            if (page_missing(k)) {
                mprotect((void *)(region_start[i] + 4096 * k), 4096, PROT_NONE);
            }
        }
    }
    return ok;
}

static void guest_new(const char *options)
{
    sigset_t alarm_set;
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_set, NULL); /* this thread's alone */
    guest = harness_new(0x4000000, options);
    struct cpu_state s = {0};
    guest_state(&s);
    plain_write = guest->bus.port_write;
    guest->bus.port_write = fault_port;
    harness_run(guest, &s, 0); /* lets its thread begin */
    pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
    stack_t alternative = {.ss_sp = g_malloc(65536), .ss_size = 65536};
    sigaltstack(&alternative, NULL);
}

int main(int argc, char **argv)
{
    uint64_t sequences = 20000, seed = 0x52696e67;
    int only = -1;
    const char *options = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (g_str_equal(argv[i], "--sequences")) {
            sequences = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--seed")) {
            seed = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--engine-options")) {
            options = argv[i + 1];
        } else if (g_str_equal(argv[i], "--cpl")) {
            only = atoi(argv[i + 1]);
        }
    }
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (!map_native()) {
        printf("1..0 # SKIP the addresses are taken\n");
        return 0;
    }
    guest_new(options);
    build_system();
    unsigned bad = 0;
    printf("1..1\n# seed %#lx, %lu sequences, engine options %s\n", seed, sequences,
           options ? options : "(none)");
    fflush(stdout);
    struct vcpu *v = ((struct translate *)guest->engine)->cpu[0];
    bool wanted = options && strstr(options, "promote=0") && v->windows;
    for (unsigned i = 0; i < 50 && wanted && !v->count.window_fills; i++) { /* let it begin */
        sequence_seed(i);
        random_batch(3);
        try_batch();
    }
    if (wanted && !v->count.window_fills) {
        printf("# no window was used\n");
        bad++;
    }
    for (uint64_t done = 0, n = 0; done < sequences && bad < 5; done += SEQUENCES, n++) {
        unsigned cpl = only >= 0 ? only : n % 3 ? 3 : 0;
        bad += !check_batch(seed + n, cpl, options);
    }
    printf("# %u runs to the end, %u to a fault; %lu pages mapped into windows\n", ends, faults,
           v->count.window_fills);
    printf("%s 1 - sequences\n", bad ? "not ok" : "ok");
    return bad != 0;
}
