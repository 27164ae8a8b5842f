/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loops whose addresses go where the first rounds did not: far away, by large strides, into pages
 * that are missing, through copies of a register and sums of two; and loops that change their own
 * code. What each must come to follows from the two pages that the whole range shows. */
#include "bare.h"

#define P     1ull
#define W     2ull
#define A     0x20ull
#define D     0x40ull
#define LARGE 0x80ull
#define ALL   (P | W | A | D)

/* 1 TiB around 4 TiB: below it all is ONES, above it THOUSANDS, from a quarter TiB above MILLIONS.
 */
#define MIDDLE    0x40000000000ull
#define ONES      0x1200000ull /* physical, 2 MiB each */
#define THOUSANDS 0x1400000ull
#define MILLIONS  0x1600000ull
#define GIB       0x40000000ull
#define WORDS     0x40000
static uint64_t pdpt[2][512] __attribute__((aligned(4096))),
    pd[3][512] __attribute__((aligned(4096)));
static uint64_t *pml4;

static void map(void)
{
    pml4 = (uint64_t *)(read_cr3() & ~0xfffull);
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned i = 0; i < 512; i++) {
            pdpt[half][i] = (uint64_t)pd[half + (half && i >= 256)] | ALL;
            pd[half][i] = (half ? THOUSANDS : ONES) | ALL | LARGE;
            pd[2][i] = MILLIONS | ALL | LARGE;
        }
        pml4[(MIDDLE >> 39) - 1 + half] = (uint64_t)pdpt[half] | ALL;
    }
    write_cr3(read_cr3());
    for (unsigned i = 0; i < WORDS; i++) {
        ((uint64_t *)ONES)[i] = 1;
        ((uint64_t *)THOUSANDS)[i] = 1000;
        ((uint64_t *)MILLIONS)[i] = 1000000;
    }
}

/* `body` until RCX, counted down, is 0; RDX starts at `from`. Returns RAX, 0 at the start. */
#define LOOP(body, from, count)                                                                    \
    ({                                                                                             \
        uint64_t sum_ = 0, at_ = (from), left_ = (count);                                          \
        __asm__ volatile("1:\n" body "\ndec %%rcx\njnz 1b"                                         \
                         : "+a"(sum_), "+d"(at_), "+c"(left_)                                      \
                         :                                                                         \
                         : "rbx", "rsi", "rdi", "r8", "r9", "r12", "memory", "cc");                \
        sum_;                                                                                      \
    })

static void strides(void)
{
    CHECK(LOOP("add (%%rdx), %%rax\n add $0x40000000, %%rdx", MIDDLE - 8 * GIB, 16) == 8008);
    CHECK(LOOP("add (%%rdx), %%rax\n sub $0x40000000, %%rdx", MIDDLE + 8 * GIB, 17) == 9008);
    CHECK(LOOP("add (%%rdx), %%rax\n add $0x7ffff000, %%rdx", MIDDLE - 20 * GIB, 20) == 9011);
    CHECK(LOOP("add $8, %%rdx\n add -8(%%rdx), %%rax", MIDDLE - 64, 16) == 8008);
    CHECK(LOOP("add (%%rdx), %%rax\n lea 0x40000000(%%rdx), %%rdx", MIDDLE - 3 * GIB, 6) == 3003);
}

/* Beyond anything that is left free around what is near. */
static void far_away(void)
{
    CHECK(LOOP("add (%%rdx), %%rax\n add $0x40000000, %%rdx", MIDDLE - 8 * GIB, 400) == 136256008);
    CHECK(LOOP("mov $0x20000000000, %%rbx\n add (%%rbx,%%rdx), %%rax\n add $0x40000000, %%rdx",
               MIDDLE - 0x20000000000 - 8 * GIB, 400) == 136256008);
    CHECK(LOOP("mov $0, %%ebx\n add (%%rbx,%%rdx,8), %%rax\n add $0x8000000, %%rdx",
               MIDDLE / 8 - GIB, 400) == 136256008);
    CHECK(LOOP("mov %%rdx, %%rdi\n add (%%rdi), %%rax\n add $0x40000000, %%rdx", MIDDLE - 8 * GIB,
               400) == 136256008);
    /* rounds look at RDX seldom, and at what it was before */
    CHECK(LOOP("mov %%rdx, %%rdi\n add $0x40000000, %%rdx\n test $63, %%cl\n jnz 2f\n"
               "add (%%rdi), %%rax\n 2:",
               MIDDLE - 64 * GIB, 512) == 3004001);
    LOOP("mov %%rcx, 0x300(%%rdx)\n add $0x40000000, %%rdx", MIDDLE - 5 * GIB, 400);
    CHECK(((uint64_t *)ONES)[96] == 396 && ((uint64_t *)THOUSANDS)[96] == 140 &&
          ((uint64_t *)MILLIONS)[96] == 1);
}

/* The same operand before and after its registers moved. */
static void addresses(void)
{
    static uint64_t word[64];
    for (unsigned i = 0; i < 64; i++) {
        word[i] = i;
    }
    uint64_t sum = 0, index = 0, n = 10, base = (uint64_t)word;
    __asm__ volatile("1: add (%3,%2), %0\n add $8, %2\n add (%3,%2), %0\n inc %2\n"
                     "add -1(%3,%2), %0\n add $7, %3\n add (%3,%2), %0\n dec %1\n jnz 1b"
                     : "+a"(sum), "+c"(n), "+d"(index), "+b"(base)
                     :
                     : "cc");
    CHECK(sum == 4 * 90 + 4 * 10); /* a round: i, i + 1, i + 1, i + 2; i grows by two */
    sum = 0;
    __asm__ volatile("mov %2, %%r8\n xor %%r9d, %%r9d\n 1: add (%%r8,%%r9,8), %0\n inc %%r9\n"
                     "add (%%r8,%%r9,8), %0\n add $8, %%r8\n mov (%%r8,%%r9,8), %%r10\n"
                     "mov %%r10, %%r11\n add %%r11, %0\n dec %%ecx\n jnz 1b"
                     : "+a"(sum)
                     : "c"(10), "d"(word)
                     : "r8", "r9", "r10", "r11", "cc");
    CHECK(sum == 3 * 90 + 3 * 10); /* a round: i, i + 1, i + 2 */
}

/* Registers that get another value between accesses: what was known of them is void. */
static void other_values(void)
{
    uint64_t there = MIDDLE + 257 * GIB, here = MIDDLE - GIB;
    for (unsigned n = 1; n < 12; n++) {
        uint64_t sum = 0, left = n;
        __asm__ volatile("1: mov %2, %%rbx\n xor %%edx, %%edx\n add (%%rbx,%%rdx), %0\n"
                         "mov %3, %%rbx\n add (%%rbx,%%rdx), %0\n mov %2, %%rbx\n"
                         "add (%%rbx), %0\n mov %3, %%rbx\n add (%%rbx), %0\n"
                         "mov %2, %%rdx\n xor %%ebx, %%ebx\n add (%%rbx,%%rdx), %0\n"
                         "mov %3, %%rdx\n add (%%rbx,%%rdx), %0\n dec %1\n jnz 1b"
                         : "+a"(sum), "+c"(left)
                         : "m"(here), "m"(there)
                         : "rbx", "rdx", "cc");
        CHECK(sum == n * 3000003ull);
    }
}

static void copies(void)
{
    CHECK(LOOP("mov %%rdx, %%rdi\n add (%%rdi), %%rax\n add $0x40000000, %%rdx", MIDDLE - 100 * GIB,
               300) == 200100);
    CHECK(LOOP("mov %%rdx, %%r9\n add (%%r9), %%rax\n add $0x40000000, %%rdx", MIDDLE - 200 * GIB,
               400) == 200200);
    /* not every round looks at RDX itself */
    CHECK(LOOP("add $0x40000000, %%rdx\n test $63, %%cl\n jnz 2f\n add (%%rdx), %%rax\n 2:",
               MIDDLE - 256 * GIB, 512) == 4004);
}

static void sums(void)
{
    CHECK(LOOP("mov $0x20000000000, %%rbx\n add (%%rbx,%%rdx), %%rax\n add $0x40000000, %%rdx",
               MIDDLE - 0x20000000000 - 8 * GIB, 16) == 8008);
    CHECK(LOOP("mov $0, %%ebx\n add (%%rbx,%%rdx,8), %%rax\n add $0x8000000, %%rdx",
               MIDDLE / 8 - GIB, 16) == 8008);
    CHECK(LOOP("add (,%%rdx,4), %%rax\n add $0x10000000, %%rdx", MIDDLE / 4 - 2 * GIB, 16) == 8008);
    uint64_t r8 = MIDDLE - 150 * GIB, index = 0, n = 300, sum = 0;
    __asm__ volatile("1: add (%3,%2), %0\n add $0x40000000, %2\n dec %1\n jnz 1b"
                     : "+a"(sum), "+c"(n), "+d"(index)
                     : "r"(r8)
                     : "cc");
    CHECK(sum == 150150);
}

static void stores(void)
{
    LOOP("addq $1, 0x100(%%rdx)\n add $0x40000000, %%rdx", MIDDLE - 5 * GIB, 12);
    CHECK(((uint64_t *)ONES)[32] == 6 && ((uint64_t *)THOUSANDS)[32] == 1007);
    LOOP("mov %%rcx, 0x200(%%rdx)\n add $0x40000000, %%rdx", MIDDLE - 5 * GIB, 12);
    CHECK(((uint64_t *)ONES)[64] == 8 && ((uint64_t *)THOUSANDS)[64] == 1);
}

/* A round that faults: all before it is done, nothing of it. */
static void missing(void)
{
    for (unsigned at = 1; at < 20; at++) {
        unsigned slot = 512 - 20 + at;
        uint64_t old = pdpt[0][slot], first = MIDDLE - 20 * GIB, sum = 0, n = 40;
        pdpt[0][slot] = 0;
        write_cr3(read_cr3());
        caught.vector = NONE;
        __asm__ volatile("movq $2f, resume\n1: add (%2), %0\n add $0x40000000, %2\n"
                         "dec %1\n jnz 1b\n2: movq $0, resume"
                         : "+a"(sum), "+c"(n), "+d"(first)
                         :
                         : "memory", "cc");
        CHECK(caught.vector == PF && caught.cr2 == MIDDLE - (20 - at) * GIB);
        CHECK(sum == at && n == 40 - at && first == caught.cr2);
        pdpt[0][slot] = old;
        write_cr3(read_cr3());
    }
    uint64_t gp = 0x7ffffffffff8, n = 5, sum = 0;
    caught.vector = NONE;
    pml4[255] = pml4[(MIDDLE >> 39) - 1];
    __asm__ volatile("movq $2f, resume\n1: add (%2), %0\n add $8, %2\n"
                     "dec %1\n jnz 1b\n2: movq $0, resume"
                     : "+a"(sum), "+c"(n), "+d"(gp)
                     :
                     : "memory", "cc");
    CHECK(caught.vector == GP && n == 4 && gp == 0x800000000000);
    pml4[255] = 0;
    write_cr3(read_cr3());
}

/* Every number of rounds, whatever the code makes of several of them at once. */
static void rounds(void)
{
    for (uint64_t n = 1; n < 40; n++) {
        CHECK(LOOP("add (%%rdx), %%rax\n add $8, %%rdx", MIDDLE - 1024, n) == n);
        CHECK(LOOP("add (%%rdx), %%rax\n mov %%rax, %%r8\n xor $1, %%r8\n and $1, %%r8d\n"
                   "mov %%r8, %%r9\n add %%r9, %%rax\n lea 8(%%rdx), %%r8\n mov %%r8, %%rdx",
                   MIDDLE - 2048, n) == 2 * n - 1);
    }
}

/* The immediate of the first instruction grows by one a round. */
static void own_code(void)
{
    static uint8_t code[] = {0x31, 0xc0,                         /* xor eax, eax */
                             0x48, 0x05, 0x00, 0,    0,    0,    /* 1: add rax, 0 */
                             0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff, /* inc byte [the 0] */
                             0xff, 0xc9, 0x75, 0xf0,             /* dec ecx; jnz 1b */
                             0xc3};
    for (uint64_t n = 1; n < 30; n++) {
        uint64_t sum, left = n;
        code[4] = 0;
        __asm__ volatile("call *%2" : "=&a"(sum), "+c"(left) : "r"(code) : "memory", "cc");
        CHECK(sum == n * (n - 1) / 2 && code[4] == n);
    }
}

/* A page that is written beside its code all the time, and into it now and then: into either end of
 * an operand that lies across 64-byte lines, by stores that begin before it, end behind it. */
static void code_beside_data(void)
{
    static uint8_t page[4096] __attribute__((aligned(4096)));
    uint8_t *code = page + 0x3d;
    code[0] = 0xb8; /* mov eax, imm32; ret */
    code[5] = 0xc3;
    uint32_t (*f)(void) = (uint32_t(*)(void))code;
    uint64_t *before = (uint64_t *)(page + 0x37);
    volatile uint64_t *data = (volatile uint64_t *)(page + 0x800);
    uint32_t expected = 0;
    for (unsigned i = 0; i < 4000; i++) {
        data[i % 200] = i;
        if (i % 7 == 0) {
            expected = (expected & 0x00ffffff) | (i & 0xff) << 24;
            *(volatile uint8_t *)&code[4] = i;
        } else if (i % 7 == 2) { /* bytes 37 to 3e: the opcode and the operand's first */
            expected = (expected & 0xffffff00) | (i & 0xff);
            *(volatile uint64_t *)before = (uint64_t)i << 56 | 0xb8ull << 48;
        } else if (i % 7 == 4) { /* bytes 40 to 47 */
            expected = (expected & 0xffff) | (i & 0xffff) << 16;
            *(volatile uint64_t *)&code[3] = (i & 0xffff) | 0xc3 << 16;
        }
        CHECK(f() == expected && data[i % 200] == i);
    }
}

/* Rounds that mostly skip to the end of the body, where it alone jumps back. */
static void left_early(void)
{
    static uint8_t bytes[512];
    unsigned expected = 0;
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = i % 37 == 5 ? 0xe9 : i % 3;
        expected += bytes[i] == 0xe9 ? i + 1 : 0;
    }
    for (unsigned n = 1; n <= sizeof bytes; n += 73) {
        uint64_t sum = 0, at = 0;
        __asm__ volatile("mov %2, %%r8\n xor %%r9d, %%r9d\n jmp 2f\n"
                         "1: movzbl (%%r8,%%r9), %%edx\n lea 1(%%r9), %%r10\n and $0xfe, %%edx\n"
                         "cmp $0xe8, %%dl\n jne 3f\n"
                         "add %%r10, %0\n jmp 3f\n nop\n"
                         "3: mov %%r10, %%r9\n cmp %3, %%r9\n jb 1b\n jmp 4f\n"
                         "2: cmp %3, %%r9\n jb 1b\n 4: mov %%r9, %1"
                         : "+a"(sum), "=&S"(at)
                         : "D"(bytes), "c"((uint64_t)n)
                         : "rdx", "r8", "r9", "r10", "cc");
        uint64_t right = 0;
        for (unsigned i = 0; i < n; i++) {
            right += bytes[i] == 0xe9 ? i + 1 : 0;
        }
        CHECK(sum == right && at == n);
        CHECK(n < sizeof bytes || sum == expected);
    }
    /* far, and what the branch looked at is looked at again */
    CHECK(LOOP("add (%%rdx), %%rax\n add $0x40000000, %%rdx\n test $63, %%cl\n jnz 2f\n"
               "lea 7(%%rax), %%rax\n jmp 2f\n nop\n"
               "2: setnz %%bl\n movzbl %%bl, %%ebx\n add %%rbx, %%rax",
               MIDDLE - 8 * GIB, 400) == 136256008 + 6 * 7 + 394);
}

int main_test(void)
{
    map();
    for (unsigned again = 0; again < 3; again++) { /* as learned from the time before */
        strides();
        copies();
        sums();
        far_away();
        addresses();
        other_values();
        rounds();
        left_early();
        own_code();
    }
    code_beside_data();
    stores();
    missing();
    strides();
    return 0;
}
