/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 32-bit protected mode: stacks with limits, call gates, returns to outer rings, task switches and
 * what can be wrong with them, virtual-8086 mode, 32-bit and PAE paging. SDM vol. 3, chapters 4 to
 * 8 and 21. */
#include "bare32.h"

volatile struct frame caught;
volatile uint32_t resume, got_cr2, got_dr6;
static unsigned failures;

void trap(struct frame *f);
void bare_main(void);
void user_enter(const uint32_t *frame, unsigned words);
extern uint8_t user_done[], fault_task[];

/* --- runtime --- */

/* The compiler wants these. */
void *memset(void *to, int value, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n);

void *memset(void *to, int value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = value;
    }
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

static void put(char c)
{
    __asm__ volatile("outb %b0, $0xe9" : : "a"(c));
}

void print(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

void print_hex(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        if (value >> shift || !shift) {
            put("0123456789abcdef"[value >> shift & 15]);
        }
    }
}

_Noreturn void end(unsigned code)
{
    for (;;) {
        __asm__ volatile("outl %0, $0xf4" : : "a"(code));
    }
}

void check_failed(unsigned line, const char *what)
{
    char digits[6] = "00000";
    for (int i = 4; i >= 0; i--, line /= 10) {
        digits[i] += line % 10;
    }
    if (++failures < 40) {
        print("protected32.c:");
        print(digits);
        print(": ");
        print(what);
        print("\n");
    }
}

static uint32_t read_cr(unsigned n)
{
    uint32_t value;
    if (n == 0) {
        __asm__ volatile("movl %%cr0, %0" : "=r"(value));
    } else if (n == 2) {
        __asm__ volatile("movl %%cr2, %0" : "=r"(value));
    } else {
        __asm__ volatile("movl %%cr4, %0" : "=r"(value));
    }
    return value;
}

#define WRITE_CR(n, value)                                                                         \
    __asm__ volatile("movl %0, %%cr" #n : : "r"((uint32_t)(value)) : "memory")

void trap(struct frame *f)
{
    bool outer = (f->cs & 3) || (f->flags & FLAG_VM);
    __builtin_memcpy((void *)&caught, f, outer ? sizeof *f : offsetof(struct frame, esp));
    got_cr2 = read_cr(2);
    if (f->vector == DB) {
        __asm__ volatile("movl %%dr6, %0" : "=r"(got_dr6));
        uint32_t clean = 0xffff0ff0;
        __asm__ volatile("movl %0, %%dr6" : : "r"(clean));
    }
    if (outer) {
        __asm__ volatile("movl user_esp, %esp; jmp user_done");
    }
    if (!resume) {
        print("unexpected exception ");
        print_hex(f->vector);
        print(" error ");
        print_hex(f->error);
        print(" at ");
        print_hex(f->eip);
        print("\n");
        end(250);
    }
    f->eip = resume;
    f->flags &= ~(uint32_t)(FLAG_TF | FLAG_NT | FLAG_AC | FLAG_RF);
    resume = 0;
}

static void *copy(uint32_t to, const uint8_t *code, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        ((volatile uint8_t *)to)[i] = code[i];
    }
    ((volatile uint8_t *)to)[size] = 0xcd;
    ((volatile uint8_t *)to)[size + 1] = 0x40;
    return (void *)to;
}

#define USER_AREA 0x200000u
static void user_bytes(uint32_t flags, const uint8_t *code, unsigned size)
{
    copy(USER_AREA, code, size);
    uint32_t frame[] = {USER_AREA, USER_CODE, flags | 2, (uint32_t)stack_user, USER_DATA};
    caught.vector = NONE;
    user_enter(frame, 5);
}
#define BYTES(...)           (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define USER(...)            user_bytes(0, BYTES(__VA_ARGS__))
#define CAUGHT(wanted, code) CHECK(caught.vector == (wanted) && caught.error == (code))

/* V86 code at 3000:0, stack 3100:fff0. */
static void v86(uint32_t flags, const uint8_t *code, unsigned size)
{
    copy(0x30000, code, size);
    uint32_t frame[] = {0,      0x3000, flags | 2 | FLAG_VM, 0xfff0, 0x3100, 0x1111, 0x2222,
                        0x3333, 0x4444};
    caught.vector = NONE;
    user_enter(frame, 9);
}
#define V86(flags, ...) v86(flags, BYTES(__VA_ARGS__))

/* --- stacks --- */

static uint8_t small_stack[256] __attribute__((aligned(16)));

/* Runs `code`; a fault that a task gate catches (arm_fault_task) goes on behind it. */
#define TASK_TRY(code, ...)                                                                        \
    ({                                                                                             \
        fault_task_count = 0;                                                                      \
        caught.vector = NONE;                                                                      \
        __asm__ volatile("movl $1f, resume\n"                                                      \
                         "movl %%esp, resume_esp\n" code "\n"                                      \
                         "movw $0x10, %%si\n"                                                      \
                         "movw %%si, %%ss\n"                                                       \
                         "movl resume_esp, %%esp\n"                                                \
                         "1: movl $0, resume"                                                      \
                         :                                                                         \
                         : __VA_ARGS__                                                             \
                         : "eax", "edx", "ecx", "ebx", "esi", "memory");                           \
        fault_task_count;                                                                          \
    })

static void prepare_tasks(void)
{
    gdt[TASK_MAIN / 8] = segment((uint32_t)&task_main, sizeof task_main - 1, 0x89);
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_other, sizeof task_other - 1, 0x89);
    gdt[TASK_FAULT / 8] = segment((uint32_t)&task_fault, sizeof task_fault - 1, 0x89);
    task_main.ss0 = DATA;
    task_main.esp0 = (uint32_t)stack_inner;
    task_main.io_map = offsetof(struct task, io_bits);
    __asm__ volatile("ltr %w0" : : "r"(TASK_MAIN));
}

/* The fault task begins anew each time. */
static void arm(unsigned vector)
{
    gdt[TASK_FAULT / 8] &= ~(2ull << 40);
    task_fault = (struct task){.eip = (uint32_t)fault_task,
                               .flags = 2,
                               .esp = (uint32_t)stack_task,
                               .cs = CODE,
                               .ss = DATA,
                               .ds = DATA,
                               .es = DATA};
    gate_set(vector, TASK_FAULT, 0, 0x85);
}

static void disarm(unsigned vector)
{
    gate_set(vector, CODE, (uint32_t)vectors + 16 * vector, 0x8e);
}

static void stack_limits(void)
{
    static const struct {
        uint16_t attributes, limit, esp;
        bool faults;
    } cases[] = {{0x4093, 0x7f, 0x80, false},  {0x4093, 0x7f, 0x83, true},
                 {0x4093, 0x7f, 4, false},     {0x4093, 0x7f, 2, true},
                 {0x4097, 0x7f, 0x84, false},  {0x4097, 0x7f, 0x82, true},
                 {0x0093, 0xff, 0x100, false}, {0x0093, 0xfd, 0x100, true}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        gdt[SPARE / 8] = segment((uint32_t)small_stack, cases[i].limit, cases[i].attributes);
        uint32_t esp = cases[i].esp, selector = SPARE;
        arm(SS);
        unsigned count =
            TASK_TRY("movw %w0, %%ss; movl %1, %%esp; pushl $5", "r"(selector), "r"(esp));
        CHECK(count == cases[i].faults && (!count || !fault_task_error));
        arm(SS);
        count = TASK_TRY("movw %w0, %%ss; movl %1, %%esp; pushfl", "r"(selector), "r"(esp));
        CHECK(count == cases[i].faults && (!count || !fault_task_error));
        arm(SS);
        count = TASK_TRY("movw %w0, %%ss; movl %1, %%esp; call 2f\n2:", "r"(selector), "r"(esp));
        CHECK(count == cases[i].faults && (!count || !fault_task_error));
        disarm(SS);
    }
    gdt[SPARE / 8] = segment((uint32_t)small_stack, 0x7f, 0x4093);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $20, %%esp; pushal", "r"(SPARE)) == 1);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $0x70, %%esp; popal", "r"(SPARE)) == 1);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $0x7e, %%esp; popfl", "r"(SPARE)) == 1);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $0x78, %%esp; iretl", "r"(SPARE)) == 1);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $8, %%esp; int $0x41", "r"(SPARE)) == 1); /* 12 bytes */
    CHECK(fault_task_error == 0);
    arm(SS);
    CHECK(TASK_TRY("movw %w0, %%ss; movl $8, %%esp; ud2", "r"(SPARE)) == 1);
    CHECK(fault_task_error == 1); /* EXT */
    disarm(SS);
}

/* --- gates and outer rings --- */

/* Conforming code runs at its caller's level; other code only at its own, gates or not. */
static void code_levels(void)
{
    static const uint8_t body[] = {0x8c, 0xc8, 0xcd, 0x40}; /* mov %cs, %eax; int $0x40 */
    copy(USER_AREA + 0x100, body, sizeof body);
    gdt[SPARE / 8] = segment(0, 0xfffff, 0xc09e); /* conforming, DPL 0 */
    USER(0x9a, 0x00, 0x01, 0x20, 0x00, SPARE, 0); /* lcall */
    CAUGHT(0x40, 0);
    CHECK((caught.eax & 0xffff) == (SPARE | 3));
    USER(0xea, 0x00, 0x01, 0x20, 0x00, SPARE | 3, 0); /* ljmp */
    CAUGHT(0x40, 0);
    CHECK((caught.eax & 0xffff) == (SPARE | 3));
    USER(0x9a, 0x00, 0x01, 0x20, 0x00, CODE, 0); /* ring 0 */
    CAUGHT(GP, CODE);
    USER(0x6a, CODE, 0x68, 0x00, 0x01, 0x20, 0x00, 0xcb); /* lret inwards */
    CAUGHT(GP, CODE);
    USER(0x6a, 2, 0x6a, CODE, 0x68, 0x00, 0x01, 0x20, 0x00, 0xcf); /* iret inwards */
    CAUGHT(GP, CODE);
    FAULTS(GP, USER_CODE & ~3, "lcall $0x1b, $0x200100", : :); /* outwards only by a return */
    FAULTS(GP, CODE, "lcall $0x0b, $0x200100", : :);           /* RPL 3 from ring 0 */
    gdt[SPARE / 8] = segment(0, 0xfffff, 0xc0fe);              /* conforming, DPL 3 */
    FAULTS(GP, SPARE, "ljmp $0x40, $0x200100", : :);
    gdt[SPARE / 8] = segment(0, 0xff, 0x409a); /* EIP beyond the limit, nothing pushed */
    uint32_t before, after;
    __asm__ volatile("movl %%esp, %0" : "=r"(before));
    FAULTS(GP, 0, "lcall $0x40, $0x100", : :);
    __asm__ volatile("movl %%esp, %0" : "=r"(after));
    CHECK(before == after);
    /* A call gate: only for those that its DPL lets, to conforming or inner code, never outwards.
     */
    gdt[SPARE / 8] = call_gate(CODE, USER_AREA + 0x100, 0x8c, 0);
    USER(0x9a, 0, 0, 0, 0, SPARE | 3, 0);
    CAUGHT(GP, SPARE);
    gdt[SPARE / 8] = call_gate(CODE, USER_AREA + 0x100, 0xec, 0);
    USER(0xea, 0, 0, 0, 0, SPARE | 3, 0); /* a jump does not change the level */
    CAUGHT(GP, CODE);
    gdt[SPARE / 8] = call_gate(USER_CODE, USER_AREA + 0x100, 0xec, 0);
    FAULTS(GP, USER_CODE & ~3, "lcall $0x40, $0", : :);
    gdt[SPARE / 8] = call_gate(0, USER_AREA + 0x100, 0xec, 0);
    FAULTS(GP, 0, "lcall $0x40, $0", : :);
    gdt[SPARE / 8] = call_gate(DATA, USER_AREA + 0x100, 0xec, 0);
    FAULTS(GP, DATA, "lcall $0x40, $0", : :);
    gdt[SPARE / 8] = call_gate(CODE, USER_AREA + 0x100, 0x6c, 0);
    USER(0x9a, 0, 0, 0, 0, SPARE | 3, 0);
    CAUGHT(NP, SPARE);
}

static void outer_returns(void)
{
    /* A DS that the outer ring may not have becomes null, one that it may stays. */
    uint32_t frame[] = {USER_AREA, USER_CODE, 2, (uint32_t)stack_user, USER_DATA};
    copy(USER_AREA,
         BYTES(0x8c, 0xd8, 0x8c, 0xc3, 0x8c, 0xe1)); /* mov %ds,%eax; %es,%ebx; %fs,%ecx */
    __asm__ volatile("movw %w0, %%es" : : "r"(USER_DATA));
    gdt[SPARE / 8] = segment(0, 0xfffff, 0xc09f); /* conforming, readable code */
    __asm__ volatile("movw %w0, %%fs" : : "r"(SPARE));
    caught.vector = NONE;
    user_enter(frame, 5);
    CAUGHT(0x40, 0);
    CHECK((caught.eax & 0xffff) == 0 && (caught.ebx & 0xffff) == USER_DATA);
    CHECK((caught.ecx & 0xffff) == SPARE);
    USER(0x8e, 0xd8); /* mov %eax, %ds: eax is 0 or so */
    /* Inner stack from the TSS: missing, wrong, too small. */
    uint16_t bad[] = {0, CODE, USER_DATA, 0x1f8};
    uint16_t error[] = {0, CODE, USER_DATA & ~3, 0x1f8};
    for (unsigned i = 0; i < 4; i++) {
        task_main.ss0 = bad[i];
        arm(TS);
        copy(USER_AREA, BYTES(0xcd, 0x40));
        TASK_TRY("pushl $0x23; pushl $stack_user; pushl $2; pushl $0x1b; pushl $0x200000; iretl",
                 "r"(0));
        CHECK(fault_task_count == 1 && fault_task_error == error[i]);
        disarm(TS);
        task_main.ss0 = DATA;
    }
    gdt[SPARE / 8] = segment((uint32_t)small_stack, 0xff, 0x4013); /* not present */
    task_main.ss0 = SPARE;
    arm(SS);
    TASK_TRY("pushl $0x23; pushl $stack_user; pushl $2; pushl $0x1b; pushl $0x200000; iretl",
             "r"(0));
    CHECK(fault_task_count == 1 && fault_task_error == SPARE);
    gdt[SPARE / 8] = segment((uint32_t)small_stack, 0xff, 0x4093);
    task_main.esp0 = 16; /* 20 bytes do not fit */
    arm(SS);
    TASK_TRY("pushl $0x23; pushl $stack_user; pushl $2; pushl $0x1b; pushl $0x200000; iretl",
             "r"(0));
    CHECK(fault_task_count == 1 && fault_task_error == SPARE);
    disarm(SS);
    task_main.ss0 = DATA;
    task_main.esp0 = (uint32_t)stack_inner;
}

/* --- tasks --- */

static volatile uint32_t task_seen[8];
extern uint8_t other_entry[];

static void other_ready(void)
{
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_other, sizeof task_other - 1, 0x89);
    task_other = (struct task){.eip = (uint32_t)other_entry,
                               .flags = 2,
                               .esp = (uint32_t)stack_inner,
                               .cs = CODE,
                               .ss = DATA,
                               .ds = DATA,
                               .es = DATA,
                               .ss0 = DATA,
                               .esp0 = (uint32_t)stack_inner,
                               .eax = 0x1234,
                               .io_map = offsetof(struct task, io_bits)};
}

static bool busy(unsigned selector)
{
    return gdt[selector / 8] >> 41 & 1;
}

static void task_entry_code(void)
{
    __asm__ volatile("jmp 1f\n"
                     "other_entry: movl %%eax, %0\n"
                     "pushfl; popl %1\n"
                     "movzbl gdt + 0x28 + 5, %%eax; movl %%eax, %2\n"
                     "movl %%cr0, %%eax; movl %%eax, %3\n"
                     "clts\n"
                     "testl $0x4000, %1\n"
                     "jz 2f\n"
                     "iretl\n"
                     "jmp other_entry\n"
                     "2: ljmp $0x28, $0\n"
                     "jmp other_entry\n"
                     "1:"
                     : "=m"(task_seen[0]), "=m"(task_seen[1]), "=m"(task_seen[2]),
                       "=m"(task_seen[3])
                     :
                     : "eax", "memory");
}

#define CALL_OTHER TASK_TRY("lcall $0x30, $0", "r"(0))
#define JUMP_OTHER TASK_TRY("ljmp $0x30, $0", "r"(0))

static void good_switches(void)
{
    task_entry_code();
    other_ready();
    FINE("lcall $0x30, $0", : : : "eax", "memory");
    CHECK(task_seen[0] == 0x1234 && (task_seen[1] & FLAG_NT) && task_other.link == TASK_MAIN);
    CHECK((task_seen[2] & 2) && (task_seen[3] & 8)); /* the caller stays busy; TS is set */
    CHECK(busy(TASK_MAIN) && !busy(TASK_OTHER) && !(task_other.flags & FLAG_NT));
    other_ready();
    FINE("ljmp $0x30, $0", : : : "eax", "memory");
    CHECK(!(task_seen[1] & FLAG_NT) && !(task_seen[2] & 2) && !task_other.link);
    CHECK(busy(TASK_MAIN) && !busy(TASK_OTHER));
    other_ready(); /* by a task gate in the GDT, and by one in the IDT */
    gdt[SPARE / 8] = (uint64_t)TASK_OTHER << 16 | 0x850000000000;
    FINE("lcall $0x40, $0", : : : "eax", "memory");
    CHECK(task_other.link == TASK_MAIN);
    other_ready();
    gate_set(0x41, TASK_OTHER, 0, 0x85);
    FINE("int $0x41", : : : "eax", "memory");
    CHECK(task_other.link == TASK_MAIN && (task_seen[1] & FLAG_NT));
    gate_set(0x41, CODE, (uint32_t)vectors + 16 * 0x41, 0x8e);
    other_ready(); /* the trap bit: #DB before the first instruction */
    task_other.trap = 1;
    arm(DB);
    CHECK(JUMP_OTHER == 1 && task_fault.link == TASK_OTHER);
    disarm(DB);
    CHECK(task_other.eip == (uint32_t)other_entry);
    uint32_t dr6;
    __asm__ volatile("movl %%dr6, %0" : "=r"(dr6));
    CHECK((dr6 & 0x8000) && !(dr6 & 0x4000));
}

static void bad_descriptors(void)
{
    other_ready();
    gdt[TASK_OTHER / 8] |= 2ull << 40; /* busy */
    FAULTS(GP, TASK_OTHER, "lcall $0x30, $0", : :);
    FAULTS(GP, TASK_OTHER, "ljmp $0x30, $0", : :);
    other_ready();
    gdt[TASK_OTHER / 8] &= ~(1ull << 47);
    FAULTS(NP, TASK_OTHER, "lcall $0x30, $0", : :);
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_other, 0x66, 0x89);
    FAULTS(TS, TASK_OTHER, "lcall $0x30, $0", : :);
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_other, 0x67, 0x89);
    other_ready();
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_other, 0x67, 0x89);
    FINE("lcall $0x30, $0", : : : "eax", "memory");
    gdt[SPARE / 8] = (uint64_t)DATA << 16 | 0x850000000000; /* a task gate to data */
    FAULTS(GP, DATA, "lcall $0x40, $0", : :);
    gdt[SPARE / 8] = (uint64_t)TASK_OTHER << 16 | 0x050000000000;
    FAULTS(NP, SPARE, "lcall $0x40, $0", : :);
    gate_set(0x41, DATA, 0, 0x85);
    FAULTS(GP, DATA, "int $0x41", : :);
    gate_set(UD, DATA, 0, 0x85);
    FAULTS(GP, DATA + 1, "ud2", : :);
    disarm(UD);
    disarm(0x41);
    /* IRET with NT to a task that is not busy. */
    other_ready();
    task_main.link = TASK_OTHER;
    FAULTS(TS, TASK_OTHER, "pushfl; orl $0x4000, (%%esp); popfl; iretl", : : : "memory");
    task_main.link = 0x1f8;
    FAULTS(TS, 0x1f8, "pushfl; orl $0x4000, (%%esp); popfl; iretl", : : : "memory");
    task_main.link = 0;
}

/* The 80286's gates and tasks: 16-bit frames and 16-bit state, upper halves set on entry. */
static struct {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs,
        ss, ds, ldt;
} __attribute__((packed, aligned(16))) task_16;

static void sixteen_bits(void)
{
    static const uint8_t code[] = {0x66, 0xa3, 0x00, 0x05, 0xcf, 0xf4}; /* movl %eax, 0x500; iret */
    for (unsigned i = 0; i < sizeof code; i++) {
        ((volatile uint8_t *)0x600)[i] = code[i];
    }
    gdt[SPARE / 8] = segment(0, 0xffff, 0x009a); /* 16-bit code and data at 0 */
    gdt[SPARE / 8 + 1] = segment(0, 0xffff, 0x0092);
    memset(&task_16, 0, sizeof task_16);
    task_16.ip = 0x600;
    task_16.flags = 2;
    task_16.ax = 0x5678;
    task_16.sp = 0x7000;
    task_16.cs = SPARE;
    task_16.ss = task_16.ds = task_16.es = SPARE + 8;
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_16, sizeof task_16 - 1, 0x81);
    *(volatile uint32_t *)0x500 = 0;
    uint32_t kept = 0x12345678;
    FAULTS(NONE, 0, "movl %0, %%edi\nlcall $0x30, $0\nmovl %%edi, %0",
           : "+r"(kept)
           :
           : "edi", "memory");
    CHECK((*(volatile uint32_t *)0x500 & 0xffff) == 0x5678);
    CHECK(task_16.link == TASK_MAIN && task_16.ip == 0x605);
    CHECK(kept == 0x12345678); /* the main task's state is 32 bits wide */
    gdt[TASK_OTHER / 8] = segment((uint32_t)&task_16, 0x2a, 0x81); /* one byte short */
    FAULTS(TS, TASK_OTHER, "lcall $0x30, $0", : :);
    /* A 16-bit interrupt gate pushes 6 bytes. */
    gdt[SPARE / 8 + 2] = segment((uint32_t)0, 0xfffff, 0xc09a);
    static const uint8_t handler[] = {0x89, 0xe0, 0x66, 0xcf}; /* mov %esp, %eax; iretw */
    for (unsigned i = 0; i < sizeof handler; i++) {
        ((volatile uint8_t *)0x700)[i] = handler[i];
    }
    static const uint8_t caller[] = {0x89, 0xe3, 0xcd, 0x41,
                                     0xc3}; /* mov %esp, %ebx; int $41; ret */
    for (unsigned i = 0; i < sizeof caller; i++) {
        ((volatile uint8_t *)0x780)[i] = caller[i];
    }
    gate_set(0x41, CODE, 0x700, 0x86);
    uint32_t before, inside;
    __asm__ volatile("call *%2" : "=a"(inside), "=b"(before) : "r"(0x780) : "memory");
    CHECK(before - inside == 6);
    disarm(0x41);
    gate_set(0x41, CODE, (uint32_t)vectors + 16 * 0x41, 0x8e);
}

/* What the new task's registers hold is checked in the new task; a task gate sees it. */
static void bad_registers(void)
{
    static const uint64_t code_absent = 0x00cf1b000000ffff, data_absent = 0x00cf13000000ffff,
                          code_conforming3 = 0x00cfff000000ffff;
    static const struct {
        unsigned vector;
        uint16_t error;
        uint8_t where; /* 0 CS 1 SS 2 DS 3 LDT */
        uint16_t selector;
        const uint64_t *spare;
    } cases[] = {{TS, 0, 0, 0, NULL},
                 {TS, DATA, 0, DATA, NULL},
                 {TS, 0x1f8, 0, 0x1f8, NULL},
                 {TS, CODE, 0, CODE | 3, NULL},
                 {NP, SPARE, 0, SPARE, &code_absent},
                 {TS, SPARE, 0, SPARE, &code_conforming3},
                 {TS, 0, 1, 0, NULL},
                 {TS, CODE, 1, CODE, NULL},
                 {TS, DATA, 1, DATA | 3, NULL},
                 {TS, 0x1f8, 1, 0x1f8, NULL},
                 {SS, SPARE, 1, SPARE, &data_absent},
                 {TS, 0x1f8, 2, 0x1f8, NULL},
                 {TS, TASK_MAIN, 2, TASK_MAIN, NULL},
                 {NP, SPARE, 2, SPARE, &data_absent},
                 {TS, DATA, 3, DATA, NULL},
                 {TS, 0x1f8, 3, 0x1f8, NULL}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        other_ready();
        if (cases[i].spare) {
            gdt[SPARE / 8] = *cases[i].spare;
        }
        uint32_t *where[] = {&task_other.cs, &task_other.ss, &task_other.ds, &task_other.ldt};
        *where[cases[i].where] = cases[i].selector;
        arm(cases[i].vector);
        CHECK(CALL_OTHER == 1 && fault_task_error == cases[i].error);
        CHECK(task_fault.link == TASK_OTHER); /* the switch had been made */
        disarm(cases[i].vector);
    }
    other_ready();
    gdt[SPARE / 8] = segment(0, 0xff, 0x409b);
    task_other.cs = SPARE; /* EIP beyond its limit */
    arm(GP);
    CHECK(CALL_OTHER == 1 && fault_task_error == 0 && task_fault.link == TASK_OTHER);
    disarm(GP);
}

/* --- virtual-8086 mode --- */

static void virtual_8086(void)
{
    V86(0, 0xf4); /* hlt */
    CAUGHT(GP, 0);
    CHECK(caught.cs == 0x3000 && caught.eip == 0 && caught.ss == 0x3100 && caught.esp == 0xfff0);
    CHECK((caught.flags & FLAG_VM) && (caught.v86_es & 0xffff) == 0x1111 &&
          (caught.v86_ds & 0xffff) == 0x2222 && (caught.v86_fs & 0xffff) == 0x3333 &&
          (caught.v86_gs & 0xffff) == 0x4444);
    static const uint8_t sensitive[] = {0xfa, 0xfb, 0x9c, 0x9d, 0xcf};
    for (unsigned i = 0; i < sizeof sensitive; i++) {
        V86(0, sensitive[i]);
        CAUGHT(GP, 0);
        CHECK(caught.eip == 0);
    }
    V86(0, 0xcd, 0x40); /* int with IOPL 0 */
    CAUGHT(GP, 0);
    V86(0, 0xcc); /* INT 3 is not sensitive, its gate's DPL counts */
    CAUGHT(BP, 0);
    V86(FLAG_IOPL3, 0xfa, 0x9c, 0x58, 0xfb); /* cli; pushf; pop ax; sti */
    CAUGHT(0x40, 0);
    CHECK(!(caught.eax & FLAG_IF) && (caught.flags & FLAG_IF));
    CHECK((caught.eax & FLAG_IOPL3) == FLAG_IOPL3);
    V86(FLAG_IOPL3, 0x68, 0x02, 0x02, 0x9d, 0x9c, 0x58); /* push 202; popf: IOPL stays */
    CAUGHT(0x40, 0);
    CHECK((caught.eax & 0x3200) == 0x3200);
    V86(FLAG_IOPL3, 0xcd, 0x41); /* a gate of DPL 0 */
    CAUGHT(GP, 0x41 * 8 + 2);
    V86(FLAG_IOPL3, 0x0f, 0x20, 0xc0); /* mov %cr0, %eax */
    CAUGHT(GP, 0);
    V86(FLAG_IOPL3, 0x0f, 0x00, 0xd0); /* lldt */
    CAUGHT(UD, 0);
    V86(FLAG_IOPL3, 0x0f, 0x02, 0xc0); /* lar */
    CAUGHT(UD, 0);
    V86(FLAG_IOPL3, 0x63, 0xc0); /* arpl */
    CAUGHT(UD, 0);
    V86(FLAG_IOPL3, 0x0f, 0x01, 0x16, 0, 0); /* lgdt */
    CAUGHT(GP, 0);
    V86(FLAG_IOPL3, 0xe4, 0x80);
    CAUGHT(0x40, 0); /* the bitmap decides, not IOPL */
    task_main.io_bits[0x10] = 1;
    V86(FLAG_IOPL3, 0xe4, 0x80);
    CAUGHT(GP, 0);
    task_main.io_bits[0x10] = 0;
    V86(FLAG_IOPL3, 0xb8, 0x34, 0x12, 0x8e, 0xd8, 0xa1, 0xff,
        0xff); /* mov ds, 1234; mov ax, [ffff] */
    CAUGHT(GP, 0);
    V86(FLAG_IOPL3, 0xb8, 0x00, 0x32, 0x8e, 0xd8, 0xc6, 0x06, 5, 0, 0x77, 0x67, 0xa0, 5, 0, 0, 0);
    CAUGHT(0x40, 0);
    CHECK(*(volatile uint8_t *)0x32005 == 0x77 && (caught.eax & 0xff) == 0x77);
    CHECK((caught.v86_ds & 0xffff) == 0x3200);
    V86(FLAG_IOPL3, 0x31, 0xe4, 0x50); /* xor sp, sp; push wraps */
    CAUGHT(0x40, 0);
    CHECK((caught.esp & 0xffff) == 0xfffe);
    V86(FLAG_IOPL3, 0xbc, 0x01, 0x00, 0x50); /* mov sp, 1; push: over the segment's end */
    CAUGHT(SS, 0);
    /* far jump and IRET inside V86 */
    V86(FLAG_IOPL3, 0xea, 0x08, 0x00, 0x00, 0x30, 0xf4, 0xf4, 0xf4, 0x8c, 0xc8);
    CAUGHT(0x40, 0);
    V86(FLAG_IOPL3, 0x68, 0x02, 0x00, 0x68, 0x00, 0x30, 0x68, 0x0c, 0x00, 0xcf, 0xf4, 0xf4, 0x9c,
        0x58);
    CAUGHT(0x40, 0);
    CHECK((caught.eax & 0x3000) == 0x3000);
    /* The handler must be in ring 0. */
    gate_set(0x40, USER_CODE & ~3, 0, 0xee);
    V86(FLAG_IOPL3, 0x90);
    CAUGHT(GP, USER_CODE & ~3);
    gate_set(0x40, CODE, (uint32_t)vectors + 16 * 0x40, 0xee);
    V86(FLAG_TF, 0x90, 0x90); /* single step */
    CAUGHT(DB, 0);
    CHECK(caught.eip == 1 && (got_dr6 & 0x4000));
    V86(0, 0x0f, 0x0b);
    CAUGHT(UD, 0);
    CHECK(caught.flags & FLAG_RF);
    WRITE_CR(4, read_cr(4) | 0x800); /* UMIP */
    V86(FLAG_IOPL3, 0x0f, 0x01, 0xe0);
    CAUGHT(GP, 0);
    WRITE_CR(4, read_cr(4) & ~0x800);
    V86(FLAG_IOPL3, 0x0f, 0x01, 0xe0); /* smsw */
    CAUGHT(0x40, 0);
}

/* --- legacy instructions --- */

static void legacy(void)
{
    static const uint32_t bounds[2] = {1, 4};
    FAULTS(BR, 0, "boundl %0, %1", : : "r"(5), "m"(bounds));
    FAULTS(BR, 0, "boundl %0, %1", : : "r"(0), "m"(bounds));
    FINE("boundl %0, %1", : : "r"(4), "m"(bounds));
    gate_set(OF, CODE, (uint32_t)vectors + 16 * OF, 0xee);
    FAULTS(OF, 0, "movb $127, %%al; incb %%al; into", : : : "eax");
    FINE("xorl %%eax, %%eax; into", : : : "eax");
    WRITE_CR(0, read_cr(0) | 1u << 18);
    user_bytes(FLAG_AC, BYTES(0x8b, 0x44, 0x24, 0xf1));
    CAUGHT(AC, 0);
    user_bytes(FLAG_AC, BYTES(0x4c, 0x50)); /* dec %esp; push %eax */
    CAUGHT(AC, 0);
    WRITE_CR(0, read_cr(0) & ~(1u << 18));
    USER(0x0f, 0x05); /* SYSCALL outside 64-bit mode */
    CAUGHT(UD, 0);
    FAULTS(UD, 0, ".byte 0x0f, 0x01, 0xf8", : :); /* swapgs */
}

/* --- 32-bit and PAE paging --- */

static uint32_t directory[1024] __attribute__((aligned(4096))),
    table[1024] __attribute__((aligned(4096)));
static uint64_t pae_pointers[4] __attribute__((aligned(4096))),
    pae_directory[4][512] __attribute__((aligned(4096))),
    pae_table[512] __attribute__((aligned(4096)));
#define LINEAR 0x40000000u
#define PAGED  0x1200000u

static void set(bool on, unsigned reg, uint32_t bit)
{
    uint32_t value = read_cr(reg);
    value = on ? value | bit : value & ~bit;
    if (reg) {
        WRITE_CR(4, value);
    } else {
        WRITE_CR(0, value);
    }
}

static int wanted(uint32_t upper, uint32_t leaf, bool write, bool wp)
{
    int error = write ? 2 : 0;
    if (!(upper & 1) || !(leaf & 1)) {
        return error;
    }
    return write && wp && !(upper & leaf & 2) ? error | 1 : -1;
}

static void check_page(uint32_t upper, uint32_t leaf, bool large)
{
    for (unsigned i = 0; i < 4; i++) {
        bool write = i & 1, wp = i & 2;
        set(wp, 0, 0x10000);
        directory[LINEAR >> 22] =
            large ? (PAGED & ~0x3fffffu) | upper | 0x80 : (uint32_t)table | upper;
        table[0] = PAGED | leaf;
        __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
        uint32_t vector = write ? TRY("movb $1, (%0)",
                                      :
                                      : "r"(LINEAR)
                                      : "memory")
                                : TRY("movb (%0), %%al",
                                      :
                                      : "r"(LINEAR)
                                      : "eax", "memory");
        int got = vector == NONE ? -1 : vector == PF ? (int)caught.error : -2;
        CHECK(got == wanted(upper, large ? 3 : leaf, write, wp));
        uint32_t entry = large ? directory[LINEAR >> 22] : table[0];
        CHECK((entry & 0x60) == (got != -1 ? 0 : write ? 0x60 : 0x20));
    }
}

static void paging_32(void)
{
    for (unsigned i = 0; i < 1024; i++) {
        directory[i] = i << 22 | 0x83;
    }
    set(true, 4, 0x10);
    __asm__ volatile("movl %0, %%cr3" : : "r"(directory));
    set(true, 0, 0x80000000);
    for (uint32_t upper = 0; upper < 8; upper++) {
        for (uint32_t leaf = 0; leaf < 8; leaf++) {
            check_page(upper, leaf, false);
        }
        check_page(upper, 0, true);
    }
    /* A task with page tables of its own: CR3 comes from its TSS, and goes back. */
    static uint32_t other_directory[1024] __attribute__((aligned(4096)));
    for (unsigned i = 0; i < 1024; i++) {
        other_directory[i] = i << 22 | 0x83;
    }
    directory[LINEAR >> 22] = 0x1000000 | 0x83;
    other_directory[LINEAR >> 22] = 0x1400000 | 0x83;
    *(volatile uint32_t *)0x1000000 = 0x11;
    *(volatile uint32_t *)0x1400000 = 0x22;
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    other_ready();
    task_main.cr3 = (uint32_t)directory;
    task_other.cr3 = (uint32_t)other_directory;
    extern uint8_t paged_entry[];
    static volatile uint32_t seen;
    __asm__ volatile("jmp 1f\npaged_entry: movl 0x40000000, %%eax\nmovl %%eax, %0\niretl\n1:"
                     : "=m"(seen));
    task_other.eip = (uint32_t)paged_entry;
    CHECK(*(volatile uint32_t *)LINEAR == 0x11);
    FINE("lcall $0x30, $0", : : : "eax", "memory");
    CHECK(seen == 0x22 && *(volatile uint32_t *)LINEAR == 0x11);
    directory[LINEAR >> 22] = 0x1000000 | 1u << 21 | 0x83; /* reserved with PSE-36 */
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    FAULTS(PF, 9, "movb (%0), %%al", : : "r"(LINEAR) : "eax");
    CHECK(got_cr2 == LINEAR);
    set(false, 0, 0x80000000);
    set(false, 4, 0x10);
}

static void paging_pae(void)
{
    for (unsigned i = 0; i < 2048; i++) {
        pae_directory[i / 512][i % 512] = (uint64_t)i << 21 | 0x83;
    }
    for (unsigned i = 0; i < 4; i++) {
        pae_pointers[i] = (uint32_t)pae_directory[i] | 1;
    }
    set(true, 4, 0x20);
    __asm__ volatile("movl %0, %%cr3" : : "r"(pae_pointers));
    set(true, 0, 0x80010000);
    *(volatile uint32_t *)PAGED = 0x1234;
    FINE("movl %%eax, %0", : : "m"(*(uint32_t *)PAGED));
    pae_directory[1][0] = (uint32_t)pae_table | 3;
    pae_table[0] = PAGED | 3;
    *(volatile uint32_t *)PAGED = 0xfeed;
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    CHECK(*(volatile uint32_t *)LINEAR == 0xfeed && (pae_table[0] & 0x20));
    pae_table[0] = PAGED | 3 | 1ull << 63; /* NX without NXE */
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    FAULTS(PF, 9, "movb (%0), %%al", : : "r"(LINEAR) : "eax");
    __asm__ volatile("rdmsr; orl $0x800, %%eax; wrmsr" : : "c"(0xc0000080) : "eax", "edx");
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "eax");
    *(volatile uint8_t *)LINEAR = 0xc3;
    caught.vector = NONE;
    __asm__ volatile("movl $1f, resume\n"
                     "movl %%esp, %%ebx\n"
                     "call *%0\n"
                     "1: movl %%ebx, %%esp\n"
                     "movl $0, resume"
                     :
                     : "r"(LINEAR)
                     : "ebx", "memory");
    CAUGHT(PF, 0x11);
    pae_table[0] = PAGED | 3 | 1ull << 62; /* reserved outside long mode */
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    FAULTS(PF, 9, "movb (%0), %%al", : : "r"(LINEAR) : "eax");
    pae_directory[1][0] = 0x1200000 | 0x83 | 1u << 13;
    __asm__ volatile("invlpg %0" : : "m"(*(uint8_t *)LINEAR));
    FAULTS(PF, 9, "movb (%0), %%al", : : "r"(LINEAR) : "eax");
    /* The pointers are read when CR3 is loaded, not before; bad ones are #GP. */
    pae_directory[1][0] = 0x1200000 | 0x83;
    pae_pointers[2] = 0;
    FINE("movb (%0), %%al", : : "r"(0x80000000) : "eax");
    __asm__ volatile("movl %0, %%cr3" : : "r"(pae_pointers));
    FAULTS(PF, 0, "movb (%0), %%al", : : "r"(0x80000000) : "eax");
    pae_pointers[2] = (uint32_t)pae_directory[2] | 1 | 0x1e0;
    FAULTS(GP, 0, "movl %0, %%cr3", : : "r"(pae_pointers));
    pae_pointers[2] = (uint32_t)pae_directory[2] | 3; /* bit 1 too */
    FAULTS(GP, 0, "movl %0, %%cr3", : : "r"(pae_pointers));
    pae_pointers[2] = (uint32_t)pae_directory[2] | 1;
    FINE("movl %0, %%cr3", : : "r"(pae_pointers));
    pae_pointers[2] |= 2;
    FAULTS(GP, 0, "movl %0, %%cr4", : : "r"(read_cr(4) | 0x80)); /* they are read again */
    pae_pointers[2] &= ~2ull;
    set(false, 0, 0x80000000);
    set(false, 4, 0x20);
}

void bare_main(void)
{
    for (unsigned i = 0; i < 256; i++) {
        gate_set(i, CODE, (uint32_t)vectors + 16 * i, 0x8e);
    }
    gate_set(0x40, CODE, (uint32_t)vectors + 16 * 0x40, 0xee);
    gate_set(BP, CODE, (uint32_t)vectors + 16 * BP, 0xee);
    prepare_tasks();
    stack_limits();
    code_levels();
    outer_returns();
    good_switches();
    bad_descriptors();
    sixteen_bits();
    bad_registers();
    virtual_8086();
    legacy();
    paging_32();
    paging_pae();
    end(failures);
}
