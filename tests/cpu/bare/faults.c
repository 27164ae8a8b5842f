/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exceptions and privilege in 64-bit mode: gates, nested faults, IRET and far transfers, privileged
 * instructions, control registers, MSRs, I/O permissions, FPU exceptions, changing code. SDM vol. 2
 * and 3. What CPUID says of them is in cpuid.c. */
#include <stddef.h>

#include "bare.h"

#define EXT 1

#define USER(...)                                                                                  \
    user_bytes((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), 0)
#define USER_FLAGS(flags, ...)                                                                     \
    user_bytes((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), flags)
#define CAUGHT(wanted, code) CHECK(caught.vector == (wanted) && caught.error == (code))

static uint64_t entry(unsigned vector)
{
    return (uint64_t)vectors + 16 * vector;
}

static void gates(void)
{
    FAULTS(0x41, 0, "int $0x41", : :);
    CHECK(caught.frame.ss == KERNEL_DATA && caught.frame.cs == KERNEL_CODE);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0x0e, 0); /* not present */
    FAULTS(NP, 0x41 * 8 + 2, "int $0x41", : :);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0x85, 0); /* a task gate */
    FAULTS(GP, 0x41 * 8 + 2, "int $0x41", : :);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0x86, 0); /* 16 bits */
    FAULTS(GP, 0x41 * 8 + 2, "int $0x41", : :);
    gate_set(0x41, entry(0x41), 0, 0x8e, 0);
    FAULTS(GP, 0, "int $0x41", : :);
    gate_set(0x41, entry(0x41), KERNEL_DATA, 0x8e, 0);
    FAULTS(GP, KERNEL_DATA, "int $0x41", : :);
    gate_set(0x41, entry(0x41), KERNEL_CODE32, 0x8e, 0);
    FAULTS(GP, KERNEL_CODE32, "int $0x41", : :);
    gate_set(0x41, entry(0x41), 0x200, 0x8e, 0); /* beyond the GDT */
    FAULTS(GP, 0x200, "int $0x41", : :);
    gate_set(0x41, entry(0x41), USER_CODE & ~3, 0x8e, 0); /* less privileged */
    FAULTS(GP, USER_CODE & ~3, "int $0x41", : :);
    gdt[SPARE / 8] = 0x00af1b000000ffff; /* code, not present */
    gate_set(0x41, entry(0x41), SPARE, 0x8e, 0);
    FAULTS(NP, SPARE, "int $0x41", : :);
    gate_set(0x41, NON_CANONICAL, KERNEL_CODE, 0x8e, 0);
    FAULTS(GP, 0, "int $0x41", : :);
    gate_set(UD, NON_CANONICAL, KERNEL_CODE, 0x8e, 0);
    FAULTS(GP, EXT, "ud2", : :);
    gate_set(UD, entry(UD), KERNEL_CODE, 0x0e, 0);
    FAULTS(NP, UD * 8 + 2 + EXT, "ud2", : :);
    gate_set(UD, entry(UD), KERNEL_DATA, 0x8e, 0);
    FAULTS(GP, KERNEL_DATA + EXT, "ud2", : :);
    gate_set(UD, entry(UD), KERNEL_CODE, 0x8e, 0);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0x8e, 0);
    USER(0xcd, 0x41); /* int: DPL 0 */
    CAUGHT(GP, 0x41 * 8 + 2);
    CHECK(caught.frame.rip == USER_AREA);
    USER(0xcc);
    CAUGHT(BP, 0);
    USER(0x0f, 0x0b); /* an exception does not look at the DPL */
    CAUGHT(UD, 0);
    CHECK(caught.frame.cs == USER_CODE && caught.frame.ss == USER_DATA);
    CHECK(caught.frame.rsp == USER_STACK);
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) short_idt = {0x41 * 16 + 14, (uint64_t)idt},
                              whole = {4095, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(short_idt));
    FAULTS(GP, 0x41 * 8 + 2, "int $0x41", : :);
    __asm__ volatile("lidt %0" : : "m"(whole));
}

static uint64_t seen_flags, seen_rsp, seen_ss;
static bool look(struct frame *f)
{
    uint64_t flags;
    __asm__ volatile("pushfq; popq %0; movw %%ss, %%ax; movzwl %%ax, %%eax; movq %%rax, %1"
                     : "=r"(flags), "=m"(seen_ss)
                     :
                     : "rax");
    seen_flags = flags;
    seen_rsp = (uint64_t)f + sizeof *f;
    return false;
}

static void gate_kinds(void)
{
    trap_hook = look;
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0xee, 0);
    USER_FLAGS(FLAG_IF | FLAG_AC, 0xcd, 0x41);
    CHECK(!(seen_flags & (FLAG_IF | FLAG_TF | FLAG_NT)) && (seen_flags & FLAG_AC));
    CHECK(seen_rsp == (uint64_t)stack_fault && seen_ss == 0); /* SS is null inside */
    CHECK((caught.frame.flags & (FLAG_IF | FLAG_AC)) == (FLAG_IF | FLAG_AC));
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0xef, 0); /* trap gate */
    USER_FLAGS(FLAG_IF, 0xcd, 0x41);
    CHECK(seen_flags & FLAG_IF);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0xee, 1); /* IST */
    USER(0xcd, 0x41);
    CHECK(seen_rsp == (uint64_t)stack_ist && seen_ss == 0);
    FAULTS(0x41, 0, "int $0x41", : :);
    CHECK(seen_rsp == (uint64_t)stack_ist && seen_ss == KERNEL_DATA);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0xee, 0);
    __asm__ volatile("movq %%rsp, %%rbx\n" /* the frame is aligned to 16 */
                     "andq $-16, %%rsp\n"
                     "subq $20, %%rsp\n"
                     "movq $1f, resume\n"
                     "int $0x41\n"
                     "1: movq %%rbx, %%rsp"
                     :
                     :
                     : "rbx", "memory");
    CHECK((seen_rsp & 15) == 0);
    trap_hook = NULL;
    uint64_t saved = task.rsp[0];
    task.rsp[0] = NON_CANONICAL + 64;
    gate_set(SS, entry(SS), KERNEL_CODE, 0x8e, 1);
    USER(0xcd, 0x41);
    CAUGHT(SS, 0);
    USER(0x0f, 0x0b);
    CAUGHT(SS, EXT);
    task.rsp[0] = saved;
    gate_set(SS, entry(SS), KERNEL_CODE, 0x8e, 0);
}

/* One of the upper bits is not like bit 47, with arithmetic flags dead behind the access and live.
 * The code that reads is the same each time, and has read this variable before. */
static uint64_t read_at(uint64_t address, bool *gp)
{
    uint64_t value = 0;
    *gp = TRY("movq (%1), %0; xorl %%ecx, %%ecx", : "+r"(value) : "r"(address) : "rcx") == GP;
    return value;
}

static void upper_bits(void)
{
    static volatile uint64_t there[32];
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned bit = 47; bit < 64; bit++) {
            uint64_t here = (uint64_t)&there[round], wrong = here ^ 1ull << bit;
            bool gp;
            there[round] = round + 1;
            CHECK(read_at(here, &gp) == round + 1 && !gp);
            CHECK(read_at(wrong, &gp) == 0 && gp);
            FAULTS(GP, 0, "stc; movq %1, (%0); adcq $0, %1", : : "r"(wrong), "r"(0ull) : "cc");
            FAULTS(GP, 0, "movq 8(%0), %%rax; addq 16(%0), %%rax", : : "r"(wrong) : "rax");
            FAULTS(GP, 0, "movq (%0,%1,8), %%rax; testq %%rax, %%rax",
                   :
                   : "r"(wrong), "r"(1ull)
                   : "rax");
            CHECK(there[round] == round + 1);
        }
    }
}

/* SDM vol. 3, table 6-5. #DF has a stack of its own. */
static void nested(void)
{
    gate_set(GP, entry(GP), KERNEL_CODE, 0x0e, 0); /* #GP, then #NP: both contributory */
    FAULTS(DF, 0, "movq (%0), %%rax", : : "r"(NON_CANONICAL) : "rax");
    gate_set(NP, entry(NP), KERNEL_CODE, 0x8e, 0);
    USER(0xf4);
    CAUGHT(DF, 0);
    CHECK(caught.frame.rip == USER_AREA && caught.frame.cs == USER_CODE);
    gate_set(PF, entry(PF), KERNEL_CODE, 0x0e, 0); /* #PF, then #NP */
    FAULTS(DF, 0, "movb 0x100000000, %%al", : : : "rax");
    gate_set(PF, entry(PF), KERNEL_CODE, 0x8e, 0);
    gate_set(GP, entry(GP), KERNEL_CODE, 0x8e, 0);
    gate_set(UD, entry(UD), KERNEL_CODE, 0x0e, 0); /* benign, then #NP: just #NP */
    FAULTS(NP, UD * 8 + 2 + EXT, "ud2", : :);
    gate_set(UD, entry(UD), KERNEL_CODE, 0x8e, 0);
    /* #DE whose handler's stack is missing: contributory, then #PF: just #PF. */
    gate_set(DE, entry(DE), KERNEL_CODE, 0x8e, 2);
    task.ist[1] = 0x100001000;
    gate_set(PF, entry(PF), KERNEL_CODE, 0x8e, 1);
    FAULTS(PF, 2, "divl %%ecx", : : "a"(1), "d"(0), "c"(0));
    CHECK(caught.cr2 == 0x100001000 - 8);
    /* #PF whose handler's stack is missing: #DF. */
    gate_set(PF, entry(PF), KERNEL_CODE, 0x8e, 2);
    FAULTS(DF, 0, "movb 0x100000000, %%al", : : : "rax");
    CHECK(caught.cr2 == 0x100001000 - 8);
    gate_set(DE, entry(DE), KERNEL_CODE, 0x8e, 0);
    gate_set(PF, entry(PF), KERNEL_CODE, 0x8e, 0);
    /* An INT n whose delivery faults is no second fault. */
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0x8e, 2);
    FAULTS(PF, 2, "int $0x41", : :);
    gate_set(0x41, entry(0x41), KERNEL_CODE, 0xee, 0);
}

static uint64_t try_iret(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss)
{
    caught.vector = NONE;
    __asm__ volatile("movq $1f, resume\n"
                     "movq %%rsp, %%rbx\n"
                     "pushq %4; pushq %3; pushq %2; pushq %1; pushq %0\n"
                     "iretq\n"
                     "1: movq %%rbx, %%rsp\n"
                     "movq $0, resume"
                     :
                     : "r"(rip), "r"(cs), "r"(flags), "r"(rsp), "r"(ss)
                     : "rbx", "memory");
    return caught.vector;
}

static void iret(void)
{
    uint64_t good = entry(0x41), rsp = USER_STACK;
    CHECK(try_iret(NON_CANONICAL, KERNEL_CODE, 2, rsp, KERNEL_DATA) == GP && caught.error == 0);
    CHECK(try_iret(good, 0, 2, rsp, KERNEL_DATA) == GP && caught.error == 0);
    CHECK(try_iret(good, KERNEL_DATA, 2, rsp, KERNEL_DATA) == GP && caught.error == KERNEL_DATA);
    CHECK(try_iret(good, 0x200, 2, rsp, KERNEL_DATA) == GP && caught.error == 0x200);
    CHECK(try_iret(good, USER_CODE & ~3, 2, rsp, KERNEL_DATA) == GP &&
          caught.error == (USER_CODE & ~3));
    CHECK(try_iret(good, KERNEL_CODE | 3, 2, rsp, USER_DATA) == GP && caught.error == KERNEL_CODE);
    CHECK(try_iret(good, USER_CODE, 2, rsp, KERNEL_DATA) == GP && caught.error == KERNEL_DATA);
    CHECK(try_iret(good, USER_CODE, 2, rsp, 0) == GP && caught.error == 0);
    CHECK(try_iret(good, USER_CODE, 2, rsp, 3) == GP && caught.error == 0);
    CHECK(try_iret(good, USER_CODE, 2, rsp, 0x200 | 3) == GP && caught.error == 0x200);
    gdt[SPARE / 8] = 0x00ef9b000000ffff; /* L and D */
    CHECK(try_iret(good, SPARE, 2, rsp, KERNEL_DATA) == GP && caught.error == SPARE);
    gdt[SPARE / 8] = 0x00af1b000000ffff; /* not present */
    CHECK(try_iret(good, SPARE, 2, rsp, KERNEL_DATA) == NP && caught.error == SPARE);
    gdt[SPARE / 8] = 0x00cf73000000ffff; /* data, DPL 3, not present */
    CHECK(try_iret(good, USER_CODE, 2, rsp, SPARE | 3) == SS && caught.error == SPARE);
    CHECK(try_iret(0x100000000, KERNEL_CODE32, 2, rsp, KERNEL_DATA) == NONE ||
          caught.vector == GP); /* a 32-bit segment's RIP is cut */
    /* NT in long mode */
    FAULTS(GP, 0, "pushfq; orq $0x4000, (%%rsp); popfq; iretq", : : : "memory");
    __asm__ volatile("pushfq; andq $~0x4000, (%%rsp); popfq" : : : "memory");
    /* To 64-bit ring 0 with a null SS. */
    uint64_t ss;
    __asm__ volatile("movq %%rsp, %%rbx\n"
                     "pushq $0; pushq %%rbx; pushq $2; pushq $8; pushq $1f\n"
                     "iretq\n"
                     "1: movw %%ss, %%ax; movzwl %%ax, %%eax; movq %%rax, %0\n"
                     "movw %1, %%ss"
                     : "=r"(ss)
                     : "r"((uint16_t)KERNEL_DATA)
                     : "rax", "rbx", "memory");
    CHECK(ss == 0);
}

static uint32_t crc32(uint64_t value)
{
    uint64_t crc = 0;
    __asm__("crc32q %1, %0" : "+r"(crc) : "r"(value));
    return crc;
}

/* To one address again and again while translations of others are forgotten; the address is one that
 * shares its place in the translator's jump table with what empty entries look like. */
static void iret_again(void)
{
    uint64_t at = 0x1300000;
    while ((crc32(at) ^ crc32(~0ull)) & 0xffff) {
        at++;
    }
    *(volatile uint8_t *)at = 0xc3; /* ret */
    for (unsigned i = 0; i < 20; i++) {
        uint64_t done = 0;
        __asm__ volatile("leaq 1f(%%rip), %%rcx; pushq %%rcx; movq %%rsp, %%rcx\n"
                         "pushq $0x10; pushq %%rcx; pushq $2; pushq $8; pushq %1\n"
                         "iretq\n"
                         "1: incq %0"
                         : "+r"(done)
                         : "r"(at)
                         : "rcx", "memory");
        CHECK(done == 1);
        invlpg(USER_AREA + i * 4096);
    }
}

static void iret_flags(void)
{
    /* pushfq, then at ring 3 POPF may change neither IF nor IOPL, and says nothing about it. */
    USER(0x68, 0x02, 0x32, 0x00, 0x00, 0x9d, 0x9c, 0x58); /* push $3202; popfq; pushfq; pop %rax */
    CAUGHT(0x40, 0);
    CHECK((caught.frame.rax & 0x3200) == 0);
    USER_FLAGS(FLAG_IOPL3, 0x68, 0x02, 0x02, 0x00, 0x00, 0x9d, 0x9c, 0x58);
    CHECK((caught.frame.rax & 0x3200) == 0x3200); /* IOPL 3: IF moves, IOPL stays */
    USER(0xfa);                                   /* cli */
    CAUGHT(GP, 0);
    USER(0xfb);
    CAUGHT(GP, 0);
    USER_FLAGS(FLAG_IOPL3, 0xfa, 0xfb);
    CAUGHT(0x40, 0);
    /* IRET in ring 3 keeps IOPL and IF too. */
    static const uint8_t code[] = {
        0x6a, 0x23, 0x54, 0x68, 0x02, 0x32, 0x00, 0x00, /* push $23; push %rsp; push $3202 */
        0x6a, 0x2b, 0x68, 0x20, 0x00, 0x80, 0x00,       /* push $2b; push $800020 */
        0x48, 0xcf};                                    /* iretq */
    static const uint8_t behind[] = {0x9c, 0x58, 0xcd, 0x40};
    __builtin_memcpy((void *)(USER_AREA + 0x20), behind, sizeof behind);
    user_bytes(code, sizeof code, 0);
    CAUGHT(0x40, 0);
    CHECK((caught.frame.rax & 0x3200) == 0);
    /* RF and VM never come out of PUSHF; ID, AC can be set. */
    uint64_t flags;
    __asm__ volatile("pushq $0x260002; popfq; pushfq; popq %0; pushq $2; popfq" : "=r"(flags));
    CHECK((flags & 0x270000) == 0x240000);
}

static void segments(void)
{
    uint16_t bad = 0x200;
    FAULTS(GP, 0x200, "movw %0, %%ds", : : "r"(bad));
    FAULTS(GP, KERNEL_CODE, "movw %0, %%ss", : : "r"((uint16_t)KERNEL_CODE));
    FAULTS(GP, KERNEL_DATA, "movw %0, %%ss", : : "r"((uint16_t)(KERNEL_DATA | 3)));
    FINE("movw %0, %%ss", : : "r"((uint16_t)0)); /* null SS is fine in 64-bit ring 0 */
    FAULTS(GP, 0, "movw %0, %%ss", : : "r"((uint16_t)3));
    FINE("movw %0, %%ss", : : "r"((uint16_t)KERNEL_DATA));
    FAULTS(GP, TASK, "movw %0, %%ds", : : "r"((uint16_t)TASK));
    FINE("movw %0, %%ds", : : "r"((uint16_t)3));
    FINE("movw %0, %%ds", : : "r"((uint16_t)KERNEL_DATA));
    FAULTS(GP, TASK, "ltr %w0", : : "r"(TASK)); /* busy */
    FAULTS(GP, 0, "ltr %w0", : : "r"(0));
    FAULTS(GP, KERNEL_DATA, "ltr %w0", : : "r"(KERNEL_DATA));
    FAULTS(GP, 0x200, "ltr %w0", : : "r"(0x200));
    FAULTS(GP, KERNEL_DATA, "lldt %w0", : : "r"(KERNEL_DATA));
    FINE("lldt %w0", : : "r"(0));
    FAULTS(GP, 4 | 8, "movw %0, %%ds", : : "r"((uint16_t)(4 | 8))); /* no LDT */
    static uint64_t ldt[2] = {0, 0x00cf93000000ffff};
    uint64_t at = (uint64_t)ldt;
    gdt[SPARE / 8] = 0x0000820000000000 | (sizeof ldt - 1) | (at & 0xffffff) << 16 | at >> 24 << 56;
    gdt[SPARE / 8 + 1] = at >> 32;
    FINE("lldt %w0", : : "r"(SPARE));
    FINE("movw %0, %%ds", : : "r"((uint16_t)(4 | 8)));
    FAULTS(GP, 4 | 16, "movw %0, %%ds", : : "r"((uint16_t)(4 | 16)));
    FINE("movw %0, %%ds", : : "r"((uint16_t)KERNEL_DATA));
    gdt[SPARE / 8] &= ~(1ull << 47);
    FAULTS(NP, SPARE, "lldt %w0", : : "r"(SPARE));
    FINE("lldt %w0", : : "r"(0));
    /* LAR and LSL: a 64-bit TSS is valid, a data segment's limit is in bytes, others clear ZF. */
    uint64_t rights = 0, limit = 0;
    uint8_t zf;
    __asm__("lar %2, %0; setz %1" : "+r"(rights), "=q"(zf) : "r"((uint64_t)KERNEL_DATA));
    CHECK(zf && (rights & 0xf0ff00) == 0xc09300);
    __asm__("lsl %2, %0; setz %1" : "+r"(limit), "=q"(zf) : "r"((uint64_t)KERNEL_DATA));
    CHECK(zf && limit == 0xffffffff);
    __asm__("lsl %2, %0; setz %1" : "+r"(limit), "=q"(zf) : "r"((uint64_t)TASK));
    CHECK(zf && limit == sizeof task - 1);
    __asm__("lar %2, %0; setz %1" : "+r"(rights), "=q"(zf) : "r"(0x200ull));
    CHECK(!zf);
    gdt[SPARE / 8] = 0x00008c0000000000; /* a call gate has no limit */
    gdt[SPARE / 8 + 1] = 0;
    __asm__("lsl %2, %0; setz %1" : "+r"(limit), "=q"(zf) : "r"((uint64_t)SPARE));
    CHECK(!zf);
    __asm__("lar %2, %0; setz %1" : "+r"(rights), "=q"(zf) : "r"((uint64_t)SPARE));
    CHECK(zf);
}

/* A far call through memory at `pointer`. */
static uint64_t try_lcall(uint16_t selector, uint64_t offset)
{
    struct {
        uint64_t offset;
        uint16_t selector;
    } __attribute__((packed)) pointer = {offset, selector};
    caught.vector = NONE;
    __asm__ volatile("movq $1f, resume\n"
                     "movq %%rsp, %%rbx\n"
                     "rex.w lcall *%0\n"
                     "1: movq %%rbx, %%rsp\n"
                     "movq $0, resume"
                     :
                     : "m"(pointer)
                     : "rax", "rbx", "memory");
    return caught.vector;
}

static void far_transfers(void)
{
    extern uint8_t far_target[];
    __asm__ volatile("jmp 1f\nfar_target: movq $0x6a7e, %%rax\nrex.w lret\n1:" : : :);
    uint64_t target = (uint64_t)far_target;
    CHECK(try_lcall(KERNEL_CODE, target) == NONE);
    CHECK(try_lcall(KERNEL_CODE, NON_CANONICAL) == GP && caught.error == 0);
    CHECK(try_lcall(0, target) == GP && caught.error == 0);
    CHECK(try_lcall(KERNEL_DATA, target) == GP && caught.error == KERNEL_DATA);
    CHECK(try_lcall(USER_CODE, target) == GP && caught.error == (USER_CODE & ~3));
    CHECK(try_lcall(TASK, target) == GP && caught.error == TASK); /* no tasks in long mode */
    CHECK(try_lcall(0x200, target) == GP && caught.error == 0x200);
    gdt[SPARE / 8] =
        (target & 0xffff) | (uint64_t)KERNEL_CODE << 16 | 0x00008c0000000000 | target >> 16 << 48;
    gdt[SPARE / 8 + 1] = target >> 32;
    CHECK(try_lcall(SPARE, 0) == NONE);
    gdt[SPARE / 8] &= ~(1ull << 47);
    CHECK(try_lcall(SPARE, 0) == NP && caught.error == SPARE);
    gdt[SPARE / 8] |= 1ull << 47;
    gdt[SPARE / 8 + 1] |= 0x8000; /* non-canonical */
    CHECK(try_lcall(SPARE, 0) == GP && caught.error == 0);
    gdt[SPARE / 8 + 1] = 0x0000010000000000; /* its second type field must be 0 */
    CHECK(try_lcall(SPARE, 0) == GP && caught.error == SPARE);
    gdt[SPARE / 8 + 1] = 0;
    gdt[SPARE / 8] = (gdt[SPARE / 8] & ~0xffff0000ull) | KERNEL_CODE32 << 16; /* not 64-bit code */
    CHECK(try_lcall(SPARE, 0) == GP && caught.error == KERNEL_CODE32);
    gdt[SPARE / 8] = (gdt[SPARE / 8] & ~0xffff0000ull) | KERNEL_CODE << 16;
    /* From ring 3: a gate that it may not use, then one that it may. lcall *(%rip) */
    static const uint8_t user[] = {0x48, 0xff, 0x1d, 2, 0, 0, 0, 0xcd,      0x40, 0,
                                   0,    0,    0,    0, 0, 0, 0, SPARE | 3, 0};
    user_bytes(user, sizeof user, 0);
    CAUGHT(GP, SPARE);
    gdt[SPARE / 8] |= 3ull << 45;
    gate_return = true;
    extern uint8_t far_user[];
    __asm__ volatile("jmp 1f\nfar_user: movw %%cs, %%ax\nint $0x41\n1:" : : :);
    gdt[SPARE / 8] = (gdt[SPARE / 8] & 0x0000ffffffff0000) | ((uint64_t)far_user & 0xffff) |
                     (uint64_t)far_user >> 16 << 48;
    user_bytes(user, sizeof user, 0); /* its INT 41h comes from ring 0 on ring 0's stack */
    CAUGHT(0x41, 0);
    CHECK(caught.frame.cs == KERNEL_CODE && (caught.frame.rax & 0xffff) == KERNEL_CODE);
    CHECK(caught.frame.ss == 0);
    const uint64_t *frame = (const uint64_t *)caught.frame.rsp;
    CHECK(frame[0] == USER_AREA + 7 && frame[1] == USER_CODE && frame[2] == USER_STACK &&
          frame[3] == USER_DATA);
    gate_return = false;
}

static void privileged(void)
{
    USER(0xf4); /* hlt */
    CAUGHT(GP, 0);
    USER(0x0f, 0x20, 0xc0); /* mov %cr0, %rax */
    CAUGHT(GP, 0);
    USER(0x0f, 0x22, 0xd8); /* mov %rax, %cr3 */
    CAUGHT(GP, 0);
    USER(0x44, 0x0f, 0x20, 0xc0); /* mov %cr8, %rax */
    CAUGHT(GP, 0);
    USER(0x0f, 0x06); /* clts */
    CAUGHT(GP, 0);
    USER(0x0f, 0x08); /* invd */
    CAUGHT(GP, 0);
    USER(0x0f, 0x09); /* wbinvd */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0x38); /* invlpg */
    CAUGHT(GP, 0);
    USER(0x0f, 0x30); /* wrmsr */
    CAUGHT(GP, 0);
    USER(0x0f, 0x32); /* rdmsr */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0xf8); /* swapgs */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0xca); /* clac */
    CAUGHT(UD, 0);
    USER(0x48, 0x0f, 0x07); /* sysretq */
    CAUGHT(GP, 0);
    USER(0x48, 0x0f, 0x35); /* sysexitq */
    CAUGHT(GP, 0);
    USER(0x0f, 0x00, 0xd8); /* ltr */
    CAUGHT(GP, 0);
    USER(0x0f, 0x00, 0xd0); /* lldt */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0x14, 0x24); /* lgdt (%rsp) */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0xf0); /* lmsw */
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0xd1); /* xsetbv */
    CAUGHT(GP, 0);
    USER(0x66, 0x0f, 0x38, 0x82, 0x04, 0x24); /* invpcid */
    CAUGHT(GP, 0);
    USER(0x0f, 0x33); /* rdpmc without PCE */
    CAUGHT(GP, 0);
    USER(0x0f, 0x31); /* rdtsc */
    CAUGHT(0x40, 0);
    write_cr4(read_cr4() | CR4_TSD);
    USER(0x0f, 0x31);
    CAUGHT(GP, 0);
    USER(0x0f, 0x01, 0xf9); /* rdtscp */
    CAUGHT(GP, 0);
    FINE("rdtsc", : : : "rax", "rdx");
    write_cr4(read_cr4() & ~CR4_TSD);
    /* What 64-bit mode does not have. */
    static const uint8_t none[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37,
                                   0x3f, 0x60, 0x61, 0x62, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
    for (unsigned i = 0; i < sizeof none; i++) {
        if (none[i] == 0x62) {
            continue; /* EVEX or #UD */
        }
        USER(none[i], 0, 0, 0, 0, 0, 0);
        CAUGHT(UD, 0);
    }
    USER(0xf0, 0x90); /* lock nop */
    CAUGHT(UD, 0);
    USER(0xf0, 0x01, 0xc0); /* lock add %eax, %eax */
    CAUGHT(UD, 0);
    USER(0xf0, 0x8b, 0x04, 0x24); /* lock mov */
    CAUGHT(UD, 0);
    USER(0x0f, 0xaa); /* rsm outside SMM */
    CAUGHT(UD, 0);
    USER(0x0f, 0x01, 0xc1); /* vmcall */
    CAUGHT(UD, 0);
    USER(0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
         0x90);
    CAUGHT(GP, 0); /* 16 bytes are too long */
}

static void umip(void)
{
    static const uint8_t codes[][4] = {{0x0f, 0x01, 0x04, 0x24},  /* sgdt (%rsp) */
                                       {0x0f, 0x01, 0x0c, 0x24},  /* sidt */
                                       {0x0f, 0x00, 0xc0, 0x90},  /* sldt %eax */
                                       {0x0f, 0x00, 0xc8, 0x90},  /* str */
                                       {0x0f, 0x01, 0xe0, 0x90}}; /* smsw */
    for (unsigned i = 0; i < 5; i++) {
        user_bytes(codes[i], 4, 0);
        CAUGHT(0x40, 0);
        write_cr4(read_cr4() | CR4_UMIP);
        user_bytes(codes[i], 4, 0);
        CAUGHT(GP, 0);
        write_cr4(read_cr4() & ~CR4_UMIP);
    }
    write_cr4(read_cr4() | CR4_UMIP);
    FINE("smsw %%eax", : : : "rax"); /* ring 0 may */
    write_cr4(read_cr4() & ~CR4_UMIP);
}

static void ports(void)
{
    USER(0xe4, 0x80); /* in $80, %al */
    CAUGHT(0x40, 0);  /* the bitmap is clear */
    task.io_bits[0x80 / 8] = 1;
    USER(0xe4, 0x80);
    CAUGHT(GP, 0);
    USER(0xe4, 0x81);
    CAUGHT(0x40, 0);
    USER(0xe5, 0x7e); /* 4 bytes: 7e to 81 */
    CAUGHT(GP, 0);
    USER(0xe5, 0x7c);
    CAUGHT(0x40, 0);
    USER_FLAGS(FLAG_IOPL3, 0xe4, 0x80);
    CAUGHT(0x40, 0);
    task.io_bits[0x80 / 8] = 0;
    USER(0x66, 0xba, 0xff, 0xff, 0xec); /* port ffff: the byte behind the map is looked at too */
    CAUGHT(0x40, 0);
    uint16_t map = task.io_map;
    task.io_map = sizeof task; /* beyond the limit: nothing is allowed */
    USER(0xe4, 0x80);
    CAUGHT(GP, 0);
    task.io_map = map;
    USER(0x66, 0xba, 0x80, 0x00, 0x6c); /* insb without a place to put it: the page fault */
    task.io_bits[0x80 / 8] = 1;
    USER(0x66, 0xba, 0x80, 0x00, 0x6e); /* outsb */
    CAUGHT(GP, 0);
    task.io_bits[0x80 / 8] = 0;
}

static void control_registers(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    CHECK(try_write_cr(0, cr0 & ~1ull) == GP);      /* PG without PE */
    CHECK(try_write_cr(0, cr0 | 1ull << 29) == GP); /* NW without CD */
    CHECK(try_write_cr(0, cr0 | 1ull << 32) == GP);
    CHECK(try_write_cr(0, cr0 & ~CR0_PG) == GP); /* from 64-bit code */
    CHECK(try_write_cr(4, cr4 & ~CR4_PAE) == GP);
    CHECK(try_write_cr(4, cr4 | 1ull << 63) == GP);
    CHECK(try_write_cr(4, cr4 | 1ull << 15) == GP);
    CHECK(try_write_cr(4, cr4 | 1ull << 13) == GP); /* VMX is not offered */
    CHECK(try_write_cr(4, cr4 | 1ull << 12) == GP); /* nor 5-level paging */
    CHECK(read_cr0() == cr0 && read_cr4() == cr4);
    FAULTS(UD, 0, "mov %%cr1, %%rax", : : : "rax");
    FAULTS(UD, 0, ".byte 0x0f, 0x20, 0xe8", : : : "rax"); /* CR5 */
    FINE("mov %0, %%cr8", : : "r"(5ull));
    uint64_t cr8;
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    FAULTS(GP, 0, "mov %0, %%cr8", : : "r"(16ull));
    FINE("mov %0, %%cr8", : : "r"(0ull));
    FINE("lmsw %w0", : : "r"((uint32_t)(cr0 & 0xf & ~1u))); /* cannot clear PE */
    CHECK(read_cr0() == cr0);
    FINE("lmsw %w0", : : "r"((uint32_t)(cr0 & 0xf) | 8));
    CHECK(read_cr0() == (cr0 | CR0_TS));
    FINE("clts", : :);
    CHECK(read_cr0() == cr0);
    write_cr2(0x123456789abcdef0);
    CHECK(read_cr2() == 0x123456789abcdef0);
}

static void msrs(void)
{
    static const struct {
        uint32_t msr;
        uint64_t good, bad;
    } list[] = {{0xc0000102, 0xffff800000001234, NON_CANONICAL},
                {0xc0000100, 0x7fffffffffff, NON_CANONICAL},
                {0xc0000101, 0xffffffffffffffff, 0xfffe800000000000},
                {0xc0000082, 0xffffffff81000000, NON_CANONICAL},
                {0xc0000083, 0xffffffff81000000, NON_CANONICAL},
                {0xc0000084, 0xffffffff, 1ull << 32},
                {0xc0000103, 0xffffffff, 1ull << 32},
                {0x175, 0xffff800000000000, NON_CANONICAL},
                {0x176, 0xffff800000000000, NON_CANONICAL},
                {0x277, 0x0007010600070106, 0x0000000000000002},
                {0x277, 0x0007040600070406, 0x0800000000000000},
                {0xc0000080, 0xd01, 0x80000d01}};
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        uint64_t before = rdmsr(list[i].msr), after;
        CHECK(try_wrmsr(list[i].msr, list[i].good) == NONE);
        CHECK(rdmsr(list[i].msr) == list[i].good);
        CHECK(try_wrmsr(list[i].msr, list[i].bad) == GP && caught.error == 0);
        CHECK(try_rdmsr(list[i].msr, &after) == NONE && after == list[i].good);
        wrmsr(list[i].msr, before);
    }
    uint64_t value;
    CHECK(try_rdmsr(0x12345678, &value) == GP);
    CHECK(try_wrmsr(0x12345678, 0) == GP);
    CHECK(try_wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x100ull) == GP); /* LME while paging */
    CHECK(try_wrmsr(0xfe, 0) == GP);                                   /* read-only MTRRCAP */
    CHECK(try_rdmsr(0x49, &value) == GP);                              /* write-only PRED_CMD */
    CHECK(try_wrmsr(0x49, 1) == NONE && try_wrmsr(0x49, 2) == GP);
    uint32_t r[4];
    cpuid(7, 0, r);
    CHECK((try_wrmsr(0x10b, 1) == NONE) == !!(r[3] & 1u << 28)); /* L1D flush only if offered */
    wrmsr(0x174, 0);
    FAULTS(GP, 0, "sysenter", : :);
    /* TSC and its adjustment move together (SDM vol. 3, 18.17.3). */
    wrmsr(0x3b, 0);
    uint64_t tsc = rdmsr(0x10);
    wrmsr(0x3b, 1ull << 50);
    CHECK(rdmsr(0x10) - tsc >= 1ull << 50 && rdmsr(0x10) - tsc < (1ull << 50) + (1ull << 40));
    wrmsr(0x10, 0x1000);
    CHECK(rdmsr(0x10) - 0x1000 < 1ull << 40);
    CHECK((int64_t)rdmsr(0x3b) < 0 || rdmsr(0x3b) != 1ull << 50);
    wrmsr(0x3b, 0);
    uint32_t low, high, aux;
    wrmsr(0xc0000103, 0x1234);
    __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
    CHECK(aux == 0x1234);
    uint64_t before = (uint64_t)high << 32 | low;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    CHECK(((uint64_t)high << 32 | low) > before);
}

static void fpu(void)
{
    uint64_t cr0 = read_cr0(), cr4 = read_cr4();
    write_cr0(cr0 | CR0_TS);
    FAULTS(NM, 0, "fninit", : :);
    FAULTS(NM, 0, "movups %%xmm0, %%xmm1", : :);
    FAULTS(NM, 0, "fwait", : :); /* MP and TS */
    write_cr0((cr0 | CR0_TS) & ~CR0_MP);
    FINE("fwait", : :);
    write_cr0((cr0 | CR0_EM) & ~CR0_TS);
    FAULTS(NM, 0, "fninit", : :);
    FAULTS(UD, 0, "movups %%xmm0, %%xmm1", : :);
    FINE("fwait", : :);
    write_cr0(cr0);
    write_cr4(cr4 & ~CR4_OSFXSR);
    FAULTS(UD, 0, "movups %%xmm0, %%xmm1", : :);
    FINE("movq %%mm0, %%mm1; emms", : :);
    write_cr4(cr4);
    FINE("ldmxcsr %0", : : "m"((uint32_t){0x1f80}));
    FAULTS(GP, 0, "ldmxcsr %0", : : "m"((uint32_t){0x10000}));
    /* #MF comes with the next waiting instruction. */
    uint16_t control = 0x37b; /* zero divide unmasked */
    FINE("fninit; fldcw %0; fld1; fldz; fdivrp; nop", : : "m"(control));
    FAULTS(MF, 0, "fwait", : :);
    FAULTS(MF, 0, "fld1", : :);
    FINE("fnstsw %%ax", : : : "rax");
    FINE("fnclex; fninit", : :);
    /* #XM at once, and #UD when the system does not want it. */
    uint32_t mxcsr = 0x1d80;
    FAULTS(XM, 0, "ldmxcsr %0; xorps %%xmm0, %%xmm0; movss %1, %%xmm1; divss %%xmm0, %%xmm1",
           :
           : "m"(mxcsr), "m"((float){1}));
    write_cr4(cr4 & ~CR4_OSXMMEXCPT);
    FAULTS(UD, 0, "divss %%xmm0, %%xmm1", : :);
    write_cr4(cr4);
    mxcsr = 0x1f80;
    FINE("ldmxcsr %0", : : "m"(mxcsr));
    FAULTS(GP, 0, "movaps 1(%0), %%xmm0", : : "r"(&task));
    FAULTS(DE, 0, "divl %%ecx", : : "a"(1), "d"(0), "c"(0));
    FAULTS(DE, 0, "idivl %%ecx", : : "a"(0), "d"(0x80000000), "c"(-1));
    FAULTS(DE, 0, "idivq %%rcx", : : "a"(0ull), "d"(1ull << 63), "c"(-1ull));
    FAULTS(DE, 0, "divb %%cl", : : "a"(0x200), "c"(1));
}

static void alignment(void)
{
    write_cr0(read_cr0() | CR0_AM);
    USER_FLAGS(FLAG_AC, 0x8b, 0x44, 0x24, 0x01); /* mov 1(%rsp), %eax */
    CAUGHT(AC, 0);
    USER_FLAGS(FLAG_AC, 0x8a, 0x44, 0x24, 0x01); /* a byte */
    CAUGHT(0x40, 0);
    USER_FLAGS(FLAG_AC, 0x8b, 0x44, 0x24, 0x04);
    CAUGHT(0x40, 0);
    USER_FLAGS(FLAG_AC, 0x48, 0x8b, 0x44, 0x24, 0x04); /* 8 bytes at 4 */
    CAUGHT(AC, 0);
    USER_FLAGS(FLAG_AC, 0x66, 0x89, 0x44, 0x24, 0xf1); /* a store */
    CAUGHT(AC, 0);
    USER_FLAGS(FLAG_AC, 0x48, 0xff, 0xcc, 0x50); /* dec %rsp; push */
    CAUGHT(AC, 0);
    USER_FLAGS(FLAG_AC, 0x0f, 0x10, 0x44, 0x24, 0xe1); /* movups does not care */
    CAUGHT(0x40, 0);
    USER_FLAGS(FLAG_AC, 0x48, 0x8d, 0x74, 0x24, 0xe1, 0x48, 0x8d, 0x7c, 0x24, 0xc0,
               0xa5); /* movsl */
    CAUGHT(AC, 0);
    USER(0x8b, 0x44, 0x24, 0x01); /* AC off */
    CAUGHT(0x40, 0);
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq; movl 1(%%rsp), %%eax; pushfq; "
                     "andq $~0x40000, (%%rsp); popfq"
                     :
                     :
                     : "rax", "memory"); /* ring 0 is not checked */
    write_cr0(read_cr0() & ~CR0_AM);
    USER_FLAGS(FLAG_AC, 0x8b, 0x44, 0x24, 0x01);
    CAUGHT(0x40, 0);
}

static void syscalls(void)
{
    uint64_t efer = rdmsr(0xc0000080);
    wrmsr(0xc0000080, efer & ~1ull);
    USER(0x0f, 0x05);
    CAUGHT(UD, 0);
    FAULTS(UD, 0, "sysretq", : :);
    wrmsr(0xc0000080, efer | 1);
    wrmsr(0xc0000081, 0x0018000800000000);
    FAULTS(GP, 0, "sysretq", : : "c"(NON_CANONICAL));
    /* In compatibility mode SYSCALL does not exist on Intel's processors. */
    static const uint8_t code[] = {0x0f, 0x05, 0xcd, 0x40};
    __builtin_memcpy((void *)USER_AREA, code, sizeof code);
    user_run_at(USER_CODE32, (void *)USER_AREA, 0, USER_STACK);
    CAUGHT(UD, 0);
    CHECK(caught.frame.cs == USER_CODE32);
}

/* Code that writes what comes next, in all the distances that matter. */
static void changing_code(void)
{
    uint8_t *code = (uint8_t *)0x1600000;
    uint32_t (*run)(void) = (uint32_t(*)(void))code;
    static const uint8_t mov_ret[] = {0xb8, 1, 0, 0, 0, 0xc3};
    for (unsigned at = 0; at < 2; at++) {
        uint8_t *place = code + (at ? 4096 - 3 : 0); /* over a page's end too */
        __builtin_memcpy(place, mov_ret, sizeof mov_ret);
        run = (uint32_t(*)(void))place;
        for (unsigned i = 0; i < 300; i++) {
            *(volatile uint8_t *)(place + 1 + i % 4) = i;
            uint32_t got = run(), want = *(uint32_t *)(place + 1);
            CHECK(got == want);
        }
    }
    /* movb $n, next+1; next: mov $0, %al: the next instruction of the same block */
    for (unsigned i = 1; i < 50; i++) {
        uint32_t got;
        __asm__ volatile("movb %b1, 1f + 1\n"
                         "1: movb $0, %%al\n"
                         "movzbl %%al, %0"
                         : "=r"(got)
                         : "q"(i)
                         : "rax", "memory");
        CHECK(got == i);
    }
    /* By another linear address. */
    uint64_t *directory = (uint64_t *)((read_cr3() & ~0xfffull) + 0x2000);
    directory[0x1800000 >> 21] = 0x1600000 | 0x83;
    invlpg(0x1800000);
    __builtin_memcpy(code, mov_ret, sizeof mov_ret);
    run = (uint32_t(*)(void))code;
    for (unsigned i = 0; i < 20; i++) {
        *(volatile uint32_t *)(0x1800000 + 1) = i * 3;
        CHECK(run() == i * 3);
    }
    directory[0x1800000 >> 21] = 0x1800000 | 0x83;
    invlpg(0x1800000);
}

int main_test(void)
{
    gates();
    gate_kinds();
    upper_bits();
    nested();
    iret();
    iret_flags();
    iret_again();
    segments();
    far_transfers();
    privileged();
    umip();
    ports();
    control_registers();
    msrs();
    fpu();
    alignment();
    syscalls();
    changing_code();
    return 0;
}
