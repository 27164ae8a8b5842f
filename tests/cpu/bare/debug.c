/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug exceptions (SDM vol. 3, chapter 18): breakpoints, single steps, their flags and priorities.
 */
#include <stddef.h>

#include "bare.h"

#define B0 1ull
#define B1 2ull
#define BD (1ull << 13)
#define BS (1ull << 14)

uint64_t watched[4] __attribute__((aligned(64)));

#define STEPS 64
static struct {
    unsigned count;
    uint64_t rip[STEPS], dr6[STEPS], flags[STEPS], vector[STEPS], rcx[STEPS];
    bool set_rf, stop_on_fault;
} steps;

/* Notes each #DB and goes on. */
static bool note_step(struct frame *f)
{
    if (f->vector != DB) {
        return false;
    }
    unsigned i = steps.count < STEPS ? steps.count : STEPS - 1;
    steps.rip[i] = f->rip;
    steps.flags[i] = f->flags;
    steps.dr6[i] = read_dr6();
    steps.rcx[i] = f->rcx;
    steps.count++;
    write_dr6(0xffff0ff0);
    if (steps.set_rf) {
        f->flags |= FLAG_RF;
    }
    return true;
}

static void steps_begin(void)
{
    steps.count = 0;
    steps.set_rf = false;
    write_dr6(0xffff0ff0);
    trap_hook = note_step;
}

static void steps_end(void)
{
    write_dr7(0x400);
    trap_hook = NULL;
}

#define LABEL(name)                                                                                \
    ({                                                                                             \
        extern uint8_t name[];                                                                     \
        (uint64_t) name;                                                                           \
    })

static void instruction_breakpoints(void)
{
    write_dr0(LABEL(here_1));
    write_dr1(LABEL(here_1));
    write_dr6(0xffff0ff0);
    write_dr7(0x401);
    FAULTS(DB, 0, "here_1: nop");
    CHECK(caught.frame.rip == LABEL(here_1));
    CHECK((caught.dr6 & 0xf) == B0);
    CHECK(!(caught.frame.flags & FLAG_RF)); /* 18.3.1.1: not set for this one fault */
    write_dr6(0xffff0ff0);
    write_dr7(0x402); /* G0 is as good as L0 */
    write_dr0(LABEL(here_2));
    FAULTS(DB, 0, "here_2: nop");
    write_dr7(0x400);
    write_dr0(LABEL(here_3));
    FAULTS(NONE, 0, "here_3: nop");
    write_dr0(LABEL(here_4));
    write_dr1(LABEL(here_4));
    write_dr6(0xffff0ff0);
    write_dr7(0x405);
    FAULTS(DB, 0, "here_4: nop");
    CHECK((caught.dr6 & 0xf) == (B0 | B1));
    steps_begin();
    steps.set_rf = true;
    uint64_t n = 5;
    write_dr0(LABEL(here_5));
    write_dr7(0x401);
    __asm__ volatile("here_5: incq %0; decq %1; jnz here_5" : "+r"(caught.cr2), "+r"(n));
    CHECK(steps.count == 5); /* RF holds for one instruction */
    steps_end();
}

/* RF from IRET is gone after the instruction that it was for. */
static void resume_flag(void)
{
    steps_begin();
    steps.set_rf = true;
    write_dr0(LABEL(here_rf));
    write_dr7(0x401);
    uint64_t stack;
    __asm__ volatile("movq %%rsp, %0\n"
                     "pushq $0x10; pushq %0; pushq $0x10002; pushq $8; pushq $1f\n"
                     "iretq\n"
                     "1: nop\n"
                     "here_rf: nop"
                     : "=&r"(stack)
                     :
                     : "memory");
    CHECK(steps.count == 1); /* the image's RF was for the NOP before */
    steps_end();
    uint64_t flags;
    __asm__ volatile("movq %%rsp, %1\n"
                     "pushq $0x10; pushq %1; pushq $0x10002; pushq $8; pushq $1f\n"
                     "iretq\n"
                     "1: pushfq; popq %0"
                     : "=r"(flags), "=&r"(stack)
                     :
                     : "memory");
    CHECK(!(flags & FLAG_RF));
    TRY("movq %%rsp, %0\n"
        "pushq $0x10; pushq %0; pushq $0x10002; pushq $8; pushq $1f\n"
        "iretq\n"
        "1: nop\n"
        "int $0x41",
        : "=&r"(stack)
        :
        : "memory");
    CHECK(caught.vector == 0x41 && !(caught.frame.flags & FLAG_RF));
    TRY("ud2");
    CHECK(caught.frame.flags & FLAG_RF); /* a fault's image has it */
}

static void watch(uint64_t at, unsigned control)
{
    write_dr0(at);
    write_dr6(0xffff0ff0);
    write_dr7(0x401 | (uint64_t)control << 16);
}

enum { WRITE_1 = 1, WRITE_2 = 5, WRITE_4 = 13, WRITE_8 = 9, ACCESS_4 = 15, IO_1 = 2 };

static void data_breakpoints(void)
{
    uint64_t at = (uint64_t)watched;
    static const struct {
        unsigned control, offset;
        int hits[12];
    } cases[] = {{WRITE_1, 4, {[4] = 1}},
                 {WRITE_2, 4, {[4] = 1, [5] = 1}},
                 {WRITE_4, 4, {[4] = 1, [5] = 1, [6] = 1, [7] = 1}},
                 {WRITE_8, 0, {1, 1, 1, 1, 1, 1, 1, 1}}};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 12; k++) {
            watch(at + cases[i].offset, cases[i].control);
            uint64_t vector = TRY("movb $1, (%0)\n773: ", : : "r"(at + k) : "memory");
            CHECK((vector == DB) == cases[i].hits[k]);
            write_dr7(0x400);
        }
    }
    watched[0] = 0;
    watch(at, WRITE_4);
    FAULTS(DB, 0, "movl $7, (%0)\nhere_w: nop", : : "r"(at) : "memory");
    CHECK(caught.frame.rip == LABEL(here_w)); /* a trap */
    CHECK(watched[0] == 7 && (caught.dr6 & 0xf) == B0 && !(caught.dr6 & BS));
    watch(at, WRITE_4);
    FINE("movl (%0), %%eax", : : "r"(at) : "rax");
    watch(at, ACCESS_4);
    FAULTS(DB, 0, "movl (%0), %%eax\nnop", : : "r"(at) : "rax");
    watch(at, WRITE_4); /* an access that only overlaps */
    FAULTS(DB, 0, "movq $1, -4(%0)\nnop", : : "r"(at) : "memory");
    watch(at, WRITE_4);
    FAULTS(DB, 0, "lock incl (%0)\nnop", : : "r"(at) : "memory");
    watch(at + 8, WRITE_8);
    FAULTS(DB, 0, "movups %%xmm0, (%0)\nnop", : : "r"(at) : "memory");
    write_dr7(0x400);
}

static void stack_breakpoints(void)
{
    static uint8_t area[8192] __attribute__((aligned(64)));
    uint64_t top = (uint64_t)area + 8192 - 64;
    steps_begin();
    watch(top - 8, WRITE_8);
    __asm__ volatile("movq %%rsp, %%rbx\n"
                     "movq %0, %%rsp\n"
                     "pushq $5\n"
                     "here_p: nop\n"
                     "popq %%rax\n"
                     "pushfq\n"
                     "here_q: movq %%rbx, %%rsp"
                     :
                     : "r"(top)
                     : "rax", "rbx", "memory");
    CHECK(steps.count == 2);
    CHECK(steps.rip[0] == LABEL(here_p) && steps.rip[1] == LABEL(here_q));
    steps_end();
}

static void string_breakpoints(void)
{
    uint64_t to = (uint64_t)watched, n = 16;
    steps_begin();
    watch((uint64_t)watched + 8, WRITE_8);
    __asm__ volatile("here_s: rep stosb\nhere_s2: nop" : "+D"(to), "+c"(n) : "a"(0) : "memory");
    CHECK(steps.count == 8);
    CHECK(steps.rip[0] == LABEL(here_s) && steps.rcx[0] == 7);
    CHECK(steps.flags[0] & FLAG_RF); /* the run is not over */
    CHECK(steps.rip[7] == LABEL(here_s2) && !(steps.flags[7] & FLAG_RF));
    steps_end();
    steps_begin();
    watch((uint64_t)watched + 8, WRITE_8);
    uint64_t from = (uint64_t)watched;
    to = from + 8;
    __asm__ volatile("movsq\nnop" : "+D"(to), "+S"(from) : : "memory");
    CHECK(steps.count == 1);
    steps_end();
    steps_begin();
    watch((uint64_t)watched + 8, ACCESS_4);
    __asm__ volatile("lodsl\nnop" : "+S"(to) : : "rax", "memory");
    to = (uint64_t)watched + 8;
    __asm__ volatile("scasl\nnop" : "+D"(to) : "a"(0) : "memory");
    CHECK(steps.count == 1);
    steps_end();
}

#define SET_TF                                                                                     \
    "pushfq\n"                                                                                     \
    "orq $0x100, (%%rsp)\n"                                                                        \
    "popfq\n"
#define CLEAR_TF                                                                                   \
    "pushfq\n"                                                                                     \
    "andq $~0x100, (%%rsp)\n"                                                                      \
    "popfq\n"

static void single_steps(void)
{
    steps_begin();
    uint64_t seen;
    __asm__ volatile(SET_TF "step_0: nop\n"
                            "step_1: pushfq\n"
                            "step_2: popq %0\n"
                            "step_3: cpuid\n"
                            "step_4: xorl %%eax, %%eax\n"
                            "step_5: " CLEAR_TF "step_8: nop\n"
                     : "=&S"(seen)
                     :
                     : "rax", "rbx", "rcx", "rdx", "memory");
    static const unsigned count = 8;
    CHECK(steps.count == count);
    CHECK(steps.rip[0] == LABEL(step_1)); /* POPF's own end does not trap */
    CHECK(steps.rip[1] == LABEL(step_2) && steps.rip[2] == LABEL(step_3));
    CHECK(steps.rip[3] == LABEL(step_4) && steps.rip[4] == LABEL(step_5));
    CHECK(steps.rip[7] == LABEL(step_8)); /* the POPF that clears it still traps */
    for (unsigned i = 0; i < count; i++) {
        CHECK(steps.dr6[i] & BS);
        CHECK(!(steps.dr6[i] & 0xf) && !(steps.flags[i] & FLAG_RF));
    }
    CHECK(seen & FLAG_TF);
    steps_end();
}

static void step_strings(void)
{
    steps_begin();
    uint64_t to = (uint64_t)watched, n = 4;
    __asm__ volatile(SET_TF "step_s: rep stosb\n"
                            "step_t: " CLEAR_TF
                     : "+D"(to), "+c"(n)
                     : "a"(0)
                     : "memory");
    CHECK(steps.count == 4 + 3);
    CHECK(steps.rip[0] == LABEL(step_s) && steps.rcx[0] == 3);
    CHECK(steps.rip[2] == LABEL(step_s) && (steps.flags[2] & FLAG_RF));
    CHECK(steps.rip[3] == LABEL(step_t) && steps.rcx[3] == 0 && !(steps.flags[3] & FLAG_RF));
    steps_end();
}

static unsigned interrupts;
static bool note_interrupt(struct frame *f)
{
    if (f->vector != 0x41) {
        return note_step(f);
    }
    interrupts++;
    CHECK(f->flags & FLAG_TF);
    return true;
}

static void step_into_interrupt(void)
{
    steps_begin();
    interrupts = 0;
    trap_hook = note_interrupt;
    __asm__ volatile(SET_TF "nop\n"
                            "int $0x41\n"
                            "step_i: nop\n"
                            "step_j: " CLEAR_TF ::
                                : "memory");
    CHECK(interrupts == 1);
    /* NOP; INT n itself does not trap, nor does the handler; then the NOP behind it. */
    CHECK(steps.count == 2 + 3);
    CHECK(steps.rip[1] == LABEL(step_j));
    steps_end();
}

static void step_mov_ss(void)
{
    static const uint16_t data = KERNEL_DATA;
    steps_begin();
    __asm__ volatile(SET_TF "step_m: movw %0, %%ss\n"
                            "step_n: nop\n"
                            "step_o: " CLEAR_TF
                     :
                     : "m"(data)
                     : "memory");
    CHECK(steps.count == 1 + 3);
    CHECK(steps.rip[0] == LABEL(step_o)); /* no trap between MOV SS and what follows */
    steps_end();
    steps_begin();
    static uint16_t selector = KERNEL_DATA;
    watch((uint64_t)&selector & ~3ull, ACCESS_4);
    __asm__ volatile("movw %0, %%ss\n"
                     "nop\n"
                     "step_q: nop"
                     :
                     : "m"(selector)
                     : "memory");
    CHECK(steps.count == 1 && steps.rip[0] == LABEL(step_q) && (steps.dr6[0] & B0));
    steps_end();
}

static void step_fault(void)
{
    write_dr6(0xffff0ff0);
    FAULTS(UD, 0, SET_TF "ud2", : :);
    CHECK(caught.frame.flags & FLAG_TF);
    CHECK(!(read_dr6() & BS));
}

static void step_and_watch(void)
{
    steps_begin();
    watch((uint64_t)watched, WRITE_4);
    __asm__ volatile(SET_TF "movl $1, watched\n" CLEAR_TF ::: "memory");
    CHECK((steps.dr6[0] & (BS | B0)) == (BS | B0));
    steps_end();
}

static void general_detect(void)
{
    write_dr6(0xffff0ff0);
    write_dr7(0x2400);
    FAULTS(DB, 0, "here_g: movq %%dr0, %%rax", : : : "rax");
    CHECK(caught.frame.rip == LABEL(here_g));
    CHECK(caught.dr6 & BD);
    CHECK(caught.frame.flags & FLAG_RF);
    CHECK(!(read_dr7() & 0x2000)); /* the handler may use them */
    write_dr7(0x2400);
    FAULTS(DB, 0, "movq %%rax, %%dr7", : : "a"(0x400ull));
    CHECK(!(read_dr7() & 0x2000));
    write_dr6(0xffff0ff0);
}

static void registers(void)
{
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 & ~CR4_DE);
    write_dr6(0xffff0ff0 | 3);
    uint64_t value;
    FINE("movq %%dr4, %0", : "=r"(value));
    CHECK((value & 0xf) == 3);
    FINE("movq %%dr5, %0", : "=r"(value));
    CHECK(value == 0x400);
    write_cr4(cr4 | CR4_DE);
    FAULTS(UD, 0, "movq %%dr4, %%rax", : : : "rax");
    FAULTS(UD, 0, "movq %%rax, %%dr5", : : "a"(0x400ull));
    write_cr4(cr4);
    FAULTS(GP, 0, "movq %0, %%dr6", : : "r"(1ull << 32));
    FAULTS(GP, 0, "movq %0, %%dr7", : : "r"(1ull << 40));
    write_dr0(0xffffffffffffffff);
    CHECK(read_dr0() == 0xffffffffffffffff);
    write_dr6(0);
    CHECK(read_dr6() == 0xffff0ff0); /* fixed bits */
    write_dr7(0);
    CHECK(read_dr7() == 0x400);
    static const uint8_t user[] = {0x0f, 0x21, 0xc0}; /* mov %dr0, %rax */
    __builtin_memcpy((void *)USER_AREA, user, sizeof user);
    user_run((void *)USER_AREA, 0, USER_STACK);
    CHECK(caught.vector == GP && caught.error == 0);
}

static void port_breakpoints(void)
{
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 | CR4_DE);
    watch(0x80, IO_1);
    FAULTS(DB, 0, "outb %%al, $0x80\nhere_o: nop", : :);
    CHECK(caught.frame.rip == LABEL(here_o) && (caught.dr6 & B0));
    watch(0x80, IO_1);
    FAULTS(DB, 0, "inb %%dx, %%al\nnop", : : "d"(0x80) : "rax");
    watch(0x80, IO_1);
    FINE("outb %%al, $0x81\nnop", : :);
    watch(0x80, IO_1);
    FAULTS(DB, 0, "outsb\nnop", : : "d"(0x80), "S"(watched) : "memory");
    watch(0x80, IO_1);
    FAULTS(DB, 0, "outl %%eax, $0x7e\nnop", : :); /* overlaps */
    write_dr7(0x400);
    write_cr4(cr4);
}

static void traps(void)
{
    write_dr6(0xffff0ff0);
    FAULTS(DB, 0, ".byte 0xf1\nhere_1b: nop");
    CHECK(caught.frame.rip == LABEL(here_1b));
    CHECK(!(caught.frame.flags & FLAG_RF));
    FAULTS(BP, 0, "int3\nhere_b: nop");
    CHECK(caught.frame.rip == LABEL(here_b));
    FAULTS(BP, 0, ".byte 0xcd, 3\nhere_c: nop");
    CHECK(caught.frame.rip == LABEL(here_c));
}

/* SYSCALL's end looks at the new TF; SYSRET traps at once (SDM vol. 2, SYSRET). */
static void step_syscall(void)
{
    wrmsr(0xc0000081, 0x0018000800000000);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
    wrmsr(0xc0000082, LABEL(entry_syscall));
    static const uint8_t code[] = {0x90, 0x0f, 0x05, 0x90, 0x90}; /* nop; syscall; nop; nop */
    __builtin_memcpy((void *)USER_AREA, code, sizeof code);
    __asm__ volatile("jmp 1f\n"
                     "entry_syscall: movq saved_rsp, %rsp\n" /* as user_done */
                     "nop\n"
                     "jmp user_done\n"
                     "1:");
    steps_begin();
    wrmsr(0xc0000084, 0x700);
    user_run((void *)USER_AREA, FLAG_TF, USER_STACK);
    CHECK(steps.count == 1 && steps.rip[0] == USER_AREA + 1);
    steps_begin();
    wrmsr(0xc0000084, 0);
    user_run((void *)USER_AREA, FLAG_TF, USER_STACK);
    CHECK(steps.count >= 2 && steps.rip[1] == LABEL(entry_syscall));
    __asm__ volatile(CLEAR_TF : : : "memory");
    wrmsr(0xc0000084, 0x700);
    steps_end();
}

int main_test(void)
{
    registers();
    instruction_breakpoints();
    resume_flag();
    data_breakpoints();
    stack_breakpoints();
    string_breakpoints();
    single_steps();
    step_strings();
    step_into_interrupt();
    step_mov_ss();
    step_fault();
    step_and_watch();
    general_detect();
    port_breakpoints();
    traps();
    step_syscall();
    return 0;
}
