/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a machine must take along when it is suspended and goes on elsewhere: memory, all kinds of
 * registers, the timer of the local APIC, interrupts between processors. Runs for ever, with as
 * many CPUs as there are up to two, and says COUNT and a number when everything was there once
 * more; what was not is named by file and line, as everywhere.
 */
#include "apic.h"

enum { TICK = 0x50, CALL = 0x51, ANSWER = 0x52 };
enum { LSTAR = 0xc0000082, SFMASK = 0xc0000084, KERNEL_GS = 0xc0000102, EFER = 0xc0000080 };

#define TICK_NS 2000000u
#define MEMORY  0x1200000ull /* of CPU 0; the other's is behind it */
#define SLICES  16u
#define WORDS   0x4000u /* of a slice */

/* What a CPU has; its own part of memory changes with each round. */
struct carried {
    uint64_t id, cr0, cr4, efer, tsc, memory, rounds;
};

static volatile uint64_t ticks, calls, answers;
static volatile bool other_up;

static void apic_write(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(APIC + reg) = value;
}

static void send(uint32_t to, uint32_t command)
{
    apic_write(APIC_ICR_HIGH, to << 24);
    apic_write(APIC_ICR, command);
}

static bool on_trap(struct frame *f)
{
    switch (f->vector) {
    case TICK:
        ticks++;
        break;
    case CALL:
        calls++;
        send(0, ANSWER);
        break;
    case ANSWER:
        answers++;
        break;
    default:
        return false;
    }
    apic_write(APIC_EOI, 0);
    return true;
}

/* --- registers --- */

/* R8 to R15 and XMM0 hold what depends on `seed` until the tick comes. */
static void spin(uint64_t until, uint64_t seed)
{
    uint64_t out[10];
    __asm__ volatile(
        "movq %2, %%r8; leaq 1(%2), %%r9; leaq 2(%2), %%r10; leaq 3(%2), %%r11\n"
        "leaq 4(%2), %%r12; leaq 5(%2), %%r13; leaq 6(%2), %%r14; leaq 7(%2), %%r15\n"
        "movq %2, %%xmm0; movlhps %%xmm0, %%xmm0\n"
        "1: pause; cmpq %3, ticks; jb 1b\n"
        "movq %%r8, (%1); movq %%r9, 8(%1); movq %%r10, 16(%1); movq %%r11, 24(%1)\n"
        "movq %%r12, 32(%1); movq %%r13, 40(%1); movq %%r14, 48(%1); movq %%r15, 56(%1)\n"
        "movups %%xmm0, 64(%1)"
        : "=m"(out)
        : "r"(out), "r"(seed), "r"(until)
        : "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    for (unsigned i = 0; i < 8; i++) {
        CHECK(out[i] == seed + i);
    }
    CHECK(out[8] == seed && out[9] == seed);
}

/* Each CPU has values of its own. */
static uint64_t own(const struct carried *c, uint64_t value)
{
    return value + (c->id << 12);
}

static void registers_set(struct carried *c)
{
    const uint64_t vector[2] = {own(c, 0x1122334455667788), own(c, 0x99aabbccddeeff00)};
    const uint32_t mxcsr = 0x3f80; /* rounds down */
    const uint16_t control = 0x77f;

    wrmsr(LSTAR, own(c, 0xffff800000111000));
    wrmsr(SFMASK, own(c, 0x47700));
    wrmsr(KERNEL_GS, own(c, 0xffff900000222000));
    write_dr0(own(c, 0x3333000));
    write_dr1(own(c, 0x4444000));
    write_dr2(own(c, 0x5555000));
    write_dr3(own(c, 0x6666000));
    __asm__ volatile("movups %0, %%xmm7; movups %0, %%xmm15" : : "m"(vector));
    __asm__ volatile("ldmxcsr %0; fninit; fldcw %1; fldpi" : : "m"(mxcsr), "m"(control));
    c->cr0 = read_cr0();
    c->cr4 = read_cr4();
    c->efer = rdmsr(EFER);
    c->tsc = tsc();
}

static void registers_check(struct carried *c)
{
    uint64_t low[2], high[2], now = tsc();
    uint32_t mxcsr, pi;
    uint16_t control;

    CHECK(rdmsr(LSTAR) == own(c, 0xffff800000111000));
    CHECK(rdmsr(SFMASK) == own(c, 0x47700));
    CHECK(rdmsr(KERNEL_GS) == own(c, 0xffff900000222000));
    CHECK(read_dr0() == own(c, 0x3333000) && read_dr1() == own(c, 0x4444000));
    CHECK(read_dr2() == own(c, 0x5555000) && read_dr3() == own(c, 0x6666000));
    __asm__ volatile("movups %%xmm7, %0; movups %%xmm15, %1" : "=m"(low), "=m"(high));
    CHECK(low[0] == own(c, 0x1122334455667788) && low[1] == own(c, 0x99aabbccddeeff00));
    CHECK(high[0] == low[0] && high[1] == low[1]);
    __asm__ volatile("stmxcsr %0; fnstcw %1; fsts %2" : "=m"(mxcsr), "=m"(control), "=m"(pi));
    CHECK(mxcsr == 0x3f80 && control == 0x77f);
    CHECK(pi == 0x40490fda); /* as a float, rounded down */
    CHECK(read_cr0() == c->cr0 && read_cr4() == c->cr4 && rdmsr(EFER) == c->efer);
    CHECK(now >= c->tsc);
    c->tsc = now;
}

/* --- memory --- */

static uint64_t pattern(const struct carried *c, uint64_t word, uint64_t generation)
{
    return (word + own(c, 1)) * 0x9e3779b97f4a7c15 + generation;
}

static void slice_write(const struct carried *c, uint64_t slice, uint64_t generation)
{
    volatile uint64_t *words = (uint64_t *)c->memory;

    for (uint64_t i = slice * WORDS; i < (slice + 1) * WORDS; i++) {
        words[i] = pattern(c, i, generation);
    }
}

static bool slice_stands(const struct carried *c, uint64_t slice, uint64_t generation)
{
    volatile uint64_t *words = (uint64_t *)c->memory;
    bool same = true;

    for (uint64_t i = slice * WORDS; i < (slice + 1) * WORDS; i++) {
        same = same && words[i] == pattern(c, i, generation);
    }
    return same;
}

/* One slice after the other is looked at and written anew. */
static void memory_round(struct carried *c)
{
    uint64_t slice = c->rounds % SLICES, generation = c->rounds / SLICES;

    CHECK(slice_stands(c, slice, generation));
    slice_write(c, slice, generation + 1);
    c->rounds++;
}

static void carry_begin(struct carried *c, uint64_t id)
{
    *c = (struct carried){.id = id, .memory = MEMORY + id * SLICES * WORDS * 8};
    for (unsigned i = 0; i < SLICES; i++) {
        slice_write(c, i, 0);
    }
    apic_write(APIC_SVR, 0x1ff);
    registers_set(c);
}

/* --- processors --- */

static uint64_t count;

void ap_main(void);

void ap_main(void)
{
    struct carried c;

    carry_begin(&c, 1);
    other_up = true;
    __asm__ volatile("sti");
    for (;;) {
        memory_round(&c);
        registers_check(&c);
        __asm__ volatile("hlt"); /* until it is called */
    }
}

static bool other_start(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    if ((r[1] >> 16 & 0xff) < 2) {
        return false;
    }
    ap_code_put();
    send(0, TO_OTHERS | MODE_INIT | ASSERT);
    send(0, TO_OTHERS | MODE_SIPI | ASSERT | AP_PAGE);
    while (!other_up) {
        __asm__ volatile("pause");
    }
    return true;
}

static void wait_tick(uint64_t tick)
{
    if (count & 1) {
        spin(tick, count);
        return;
    }
    while (ticks < tick) {
        __asm__ volatile("hlt");
    }
}

static void call_other(void)
{
    uint64_t before = answers, tick = ticks;

    send(1, CALL);
    while (answers == before && ticks - tick < 5000) {
        __asm__ volatile("pause");
    }
    CHECK(answers == before + 1 && calls == answers);
}

int main_test(void)
{
    struct carried c;
    bool other;

    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    trap_hook = on_trap;
    carry_begin(&c, 0);
    other = other_start();
    apic_write(APIC_DIVIDE, 0xb);
    apic_write(APIC_TIMER, TIMER_PERIODIC | TICK);
    apic_write(APIC_INITIAL, TICK_NS);
    __asm__ volatile("sti");
    for (;;) {
        wait_tick(ticks + 5);
        if (other) {
            call_other();
        }
        memory_round(&c);
        registers_check(&c);
        print("COUNT ");
        print_decimal(++count);
        print(other ? " CPUS 2\r\n" : " CPUS 1\r\n");
    }
}
