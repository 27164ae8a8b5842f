/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One page of user code at several linear addresses, as a library is in several processes: each
 * finds the data of its own beside it, loops, calls, and faults where it is. */
#include "bare.h"

#define P    1ull
#define W    2ull
#define U    4ull
#define NX   (1ull << 63)
#define PAGE 4096ull
#define TIB  (1ull << 40)

#define CODE  0x1200000ull /* physical: copies of it, a page each */
#define DATA  0x1240000ull /* one page for each alias */
#define FAR   0x1280000ull /* what RBP points to */
#define WORDS 100

#define GIB (1ull << 30)
/* Code and, on the next page, data. Windows are 4 TiB long and 256 GiB apart: what is taken for an
 * address in the window before or behind finds another's data. */
static const uint64_t alias[] = {
    TIB,     5 * TIB - 256 * GIB, TIB + 64 * GIB, 5 * TIB, 3 * TIB + 256 * GIB, 4 * TIB - PAGE,
    3 * TIB, 2 * TIB + 3 * GIB,   8 * TIB - PAGE, 6 * TIB, USER_AREA + 0x100000};
/* What RBP points to, in several places: at first where the aliases are. */
static const uint64_t far[] = {3 * TIB + 512 * GIB, 17 * TIB, 22 * TIB, 27 * TIB};
#define ALIASES (sizeof alias / sizeof *alias)

static uint64_t pool[64][512] __attribute__((aligned(4096)));
static unsigned pool_used;

static uint64_t *table_of(uint64_t *entry)
{
    if (!(*entry & P)) {
        *entry = (uint64_t)pool[pool_used++] | P | W | U;
    }
    *entry |= U;
    return (uint64_t *)(*entry & 0xffffffffff000ull);
}

static uint64_t *entry_of(uint64_t linear)
{
    uint64_t *pml4 = (uint64_t *)(read_cr3() & ~0xfffull);
    uint64_t *pdpt = table_of(&pml4[linear >> 39 & 511]);
    uint64_t *pd = table_of(&pdpt[linear >> 30 & 511]);
    return &table_of(&pd[linear >> 21 & 511])[linear >> 12 & 511];
}

static void map_page(uint64_t linear, uint64_t physical)
{
    *entry_of(linear) = physical | P | W | U;
    invlpg(linear);
}

/* RAX: the first word; all words by a loop that leaves out those that are odd, and adds an offset
 * each time; all again by a loop that calls. RBX: what RBP points to. A word of the data counts. */
__asm__(".pushsection .rodata\n"
        "alias_code:\n"
        "  mov alias_code + 4096(%rip), %rax\n"
        "  lea alias_code + 4096(%rip), %rdi\n"
        "  mov $100, %ecx\n"
        "1: mov (%rdi), %rdx\n"
        "  or (%rdi), %rdx\n"
        "  add alias_code + 4096 + 1032(%rip), %rax\n"
        "  test $1, %dl\n"
        "  jnz 2f\n"
        "  add %rdx, %rax\n"
        "2: add $8, %rdi\n"
        "  dec %ecx\n"
        "  jnz 1b\n"
        "  mov (%rbp), %rbx\n"
        "  or (%rbp), %rbx\n"
        "  mov $100, %r9d\n"
        "  lea alias_code + 4096(%rip), %r10\n"
        "3: call 5f\n"
        "4: dec %r9d\n"
        "  jnz 3b\n"
        "  incq alias_code + 4096 + 1024(%rip)\n"
        "  int $0x40\n"
        "5: lea 4b(%rip), %r8\n"
        "  cmp %r8, (%rsp)\n"
        "  jne 6f\n"
        "  mov -8(%r10,%r9,8), %r11\n"
        "  and $-2, %r11\n"
        "  add %r11, %rax\n"
        "6: ret\n"
        "alias_code_end:\n"
        ".popsection");
extern const uint8_t alias_code[], alias_code_end[];

static uint64_t word(unsigned which, unsigned i)
{
    return (which + 1) * 1000 + i * 4 + (i % 32 == 31);
}

static uint64_t offset_of(unsigned which)
{
    return which * 20000;
}

static uint64_t expected(unsigned which)
{
    uint64_t sum = word(which, 0) + WORDS * offset_of(which);
    for (unsigned i = 0; i < WORDS; i++) {
        sum += (word(which, i) & 1 ? 0 : word(which, i)) + (word(which, i) & ~1ull);
    }
    return sum;
}

static void prepare(void)
{
    uint64_t *directory = (uint64_t *)((read_cr3() & ~0xfffull) + 0x2000);
    uint64_t *small = pool[pool_used++];
    for (unsigned i = 0; i < 512; i++) {
        small[i] = (USER_AREA + i * PAGE) | P | W | U;
    }
    directory[USER_AREA >> 21] = (uint64_t)small | P | W | U;
    for (unsigned a = 0; a < ALIASES; a++) {
        uint64_t *data = (uint64_t *)(DATA + a * PAGE);
        for (unsigned i = 0; i < WORDS; i++) {
            data[i] = word(a, i);
        }
        data[129] = offset_of(a);
        map_page(alias[a] + PAGE, DATA + a * PAGE);
    }
    for (unsigned i = 0; i < 4; i++) {
        ((uint64_t *)FAR)[i] = 77 + i;
        map_page(far[i], FAR);
    }
    write_cr3(read_cr3());
}

/* The aliases now show another copy of the code, which none of them has run. */
static void copy_make(unsigned number)
{
    uint8_t *copy = (uint8_t *)(CODE + number * PAGE);
    __builtin_memcpy(copy, alias_code, alias_code_end - alias_code);
    for (unsigned a = 0; a < ALIASES; a++) {
        ((uint64_t *)(DATA + a * PAGE))[128] = 0;
        map_page(alias[a], (uint64_t)copy);
    }
}

/* Each alias is the first once. The word that RBP points to is elsewhere for each, and later each
 * time. */
static void each_by_itself(void)
{
    for (unsigned first = 0; first < ALIASES; first++) {
        copy_make(first);
        for (unsigned i = 0; i < 8 * ALIASES; i++) {
            unsigned a = (first + i / 4) % ALIASES, which = (i < 4 * ALIASES ? a : i + a) % 4;
            user_rbp = far[which] + which * 8;
            user_run((void *)alias[a], 0, USER_STACK);
            CHECK(caught.vector == 0x40 && caught.frame.rax == expected(a));
            CHECK(caught.frame.rbx == 77 + which);
            CHECK(((uint64_t *)(DATA + a * PAGE))[128] == (i / (4 * ALIASES)) * 4 + i % 4 + 1);
        }
    }
}

static uint8_t *instruction(const char *bytes, unsigned size)
{
    uint8_t *at = (uint8_t *)CODE + (ALIASES - 1) * PAGE; /* the copy that was made last */
    while (__builtin_memcmp(at, bytes, size)) {
        at++;
    }
    return at;
}

int memcmp(const void *a, const void *b, uint64_t n);
int memcmp(const void *a, const void *b, uint64_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n && *x == *y; n--, x++, y++) {
    }
    return n ? *x - *y : 0;
}

/* Without the data page the first instruction faults; without what RBP points to that one does. */
static void faults(void)
{
    uint64_t offset = (uint64_t)instruction("\x48\x8b\x5d\x00", 4) % PAGE; /* mov 0(%rbp), %rbx */
    for (unsigned a = 0; a < ALIASES; a++) {
        uint64_t *entry = entry_of(alias[a] + PAGE), old = *entry;
        *entry = 0;
        invlpg(alias[a] + PAGE);
        user_run((void *)alias[a], 0, USER_STACK);
        CHECK(caught.vector == PF && caught.cr2 == alias[a] + PAGE && caught.error == 4);
        CHECK(caught.frame.rip == alias[a]);
        *entry = old;
        user_rbp = 32 * TIB + a * 8;
        user_run((void *)alias[a], 0, USER_STACK);
        CHECK(caught.vector == PF && caught.cr2 == user_rbp && caught.error == 4);
        CHECK(caught.frame.rip == alias[a] + offset && caught.frame.rcx == 0);
    }
}

/* The page's code changes for all of them at once. */
static void changed_for_all(void)
{
    uint8_t *lea = instruction("\x48\x8b\x05", 3); /* the first: its displacement */
    for (unsigned a = 0; a < ALIASES; a++) {
        for (unsigned i = 0; i < 3; i++) {
            *(volatile uint32_t *)(lea + 3) = PAGE - 7 + i * 8;
            user_rbp = far[0];
            user_run((void *)alias[(a + i) % ALIASES], 0, USER_STACK);
            CHECK(caught.vector == 0x40 && caught.frame.rax == expected((a + i) % ALIASES) + i * 4);
        }
    }
}

int main_test(void)
{
    prepare();
    for (unsigned i = 0; i < 4; i++) { /* an address space that runs for long: it gets windows */
        write_cr3(read_cr3());
    }
    each_by_itself();
    faults();
    changed_for_all();
    return 0;
}
