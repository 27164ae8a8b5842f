/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 4-level paging (SDM vol. 3, chapter 4): every permission at every level and size, reserved bits,
 * accessed and dirty bits, protection switches, and what must leave the TLB when. */
#include <stddef.h>

#include "bare.h"

#define P     1ull
#define W     2ull
#define U     4ull
#define A     0x20ull
#define D     0x40ull
#define LARGE 0x80ull
#define G     0x100ull
#define NX    (1ull << 63)
#define RSVD  (1ull << 51)
#define ADDR  0x000ffffffffff000ull

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
enum access { READ, WRITE, FETCH };

/* The test's own part of the linear address space: PML4[1]. */
#define LINEAR 0x8000000000ull
#define DATA   0x1200000ull /* physical, 2 MiB aligned */
static uint64_t pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))),
    pt[512] __attribute__((aligned(4096))), pt2[512] __attribute__((aligned(4096)));
static uint64_t *pml4;

static struct {
    bool wp, smep, smap, ac, nxe, user;
} mode;

static void entries(uint64_t top, uint64_t third, uint64_t second, uint64_t first)
{
    pml4[1] = top ? (uint64_t)pdpt | top : 0;
    pdpt[0] = third & LARGE ? third : (uint64_t)pd | third;
    pd[0] = second & LARGE ? DATA | second : (uint64_t)pt | second;
    pt[0] = DATA | first;
    invlpg(LINEAR);
}

static void set_bit(bool on, uint64_t bit, uint64_t (*get)(void), void (*put)(uint64_t))
{
    put(on ? get() | bit : get() & ~bit);
}

static void apply_mode(void)
{
    set_bit(mode.wp, CR0_WP, read_cr0, write_cr0);
    set_bit(mode.smep, CR4_SMEP, read_cr4, write_cr4);
    set_bit(mode.smap, CR4_SMAP, read_cr4, write_cr4);
    uint64_t efer = rdmsr(0xc0000080);
    wrmsr(0xc0000080, mode.nxe ? efer | 0x800 : efer & ~0x800ull);
}

/* In the user area: a read, a write (of the code that is there), and for FETCH a jump; all come
 * back by INT 40h. */
static const uint8_t user_read[] = {0x48, 0x8b, 0x03, 0xcd, 0x40};
static const uint8_t user_write[] = {0xc7, 0x03, 0xcd, 0x40, 0xc3, 0xcc, 0xcd, 0x40};
#define USER_READ  USER_AREA
#define USER_WRITE (USER_AREA + 16)

static void user_access(enum access access)
{
    user_rbx = LINEAR;
    if (access == FETCH) {
        user_run((void *)LINEAR, 0, USER_STACK);
    } else {
        user_run((void *)(access == READ ? USER_READ : USER_WRITE), 0, USER_STACK);
    }
    if (caught.vector == 0x40) {
        caught.vector = NONE;
    }
}

static void try_call(uint64_t at)
{
    caught.vector = NONE;
    __asm__ volatile("movq $1f, resume\n"
                     "movq %%rsp, %%rbx\n"
                     "call *%0\n"
                     "1: movq %%rbx, %%rsp\n"
                     "movq $0, resume"
                     :
                     : "r"(at)
                     : "rbx", "memory");
}

static void kernel_access(enum access access)
{
    uint64_t at = LINEAR;
    if (mode.ac) {
        __asm__ volatile("stac");
    }
    if (access == READ) {
        TRY("movq (%0), %%rax", : : "r"(at) : "rax", "memory");
    } else if (access == WRITE) {
        TRY("movl $0xccc340cd, (%0)", : : "r"(at) : "memory");
    } else {
        try_call(at + 2);
    }
    if (mode.smap) {
        __asm__ volatile("clac");
    }
}

/* What must come out: the error code, or -1 for success. */
static int expected(const uint64_t *entry, unsigned levels, enum access access)
{
    int error = (access == WRITE ? PF_W : 0) | (mode.user ? PF_U : 0) |
                (access == FETCH && (mode.nxe || mode.smep) ? PF_I : 0);
    uint64_t all = W | U, nx = 0;
    for (unsigned i = 0; i < levels; i++) {
        if (!(entry[i] & P)) {
            return error;
        }
        if ((entry[i] & RSVD) || (!mode.nxe && (entry[i] & NX))) {
            return error | PF_P | PF_RSVD;
        }
        all &= entry[i];
        nx |= entry[i] & NX;
    }
    bool ok;
    if (access == FETCH) {
        ok = !nx && (mode.user ? all & U : !(mode.smep && (all & U)));
    } else if (mode.user) {
        ok = (all & U) && (access == READ || (all & W));
    } else {
        ok = !(mode.smap && !mode.ac && (all & U)) && (access == READ || (all & W) || !mode.wp);
    }
    return ok ? -1 : error | PF_P;
}

static uint64_t *leaf_of(unsigned levels)
{
    return levels == 4 ? &pt[0] : levels == 3 ? &pd[0] : &pdpt[0];
}

static void check_access(const uint64_t *entry, unsigned levels, enum access access)
{
    entries(entry[0], entry[1], levels > 2 ? entry[2] : 0, levels > 3 ? entry[3] : 0);
    int want = expected(entry, levels, access);
    caught.vector = NONE;
    if (mode.user) {
        user_access(access);
    } else {
        kernel_access(access);
    }
    int got = caught.vector == NONE ? -1 : caught.vector == PF ? (int)caught.error : -2;
    uint64_t leaf = *leaf_of(levels);
    uint64_t marks = leaf & (A | D), right = want != -1 ? 0 : access == WRITE ? A | D : A;
    if (got == want && marks == right &&
        (want == -1 || caught.cr2 == LINEAR + (access == FETCH && !mode.user ? 2 : 0))) {
        return;
    }
    check_failed(__FILE__, __LINE__, "access");
    static const char *const names[] = {" read", " write", " fetch"};
    print(mode.user ? "  user" : "  supervisor");
    print(names[access]);
    print(" wp smep smap ac nxe ");
    print_hex(mode.wp << 16 | mode.smep << 12 | mode.smap << 8 | mode.ac << 4 | mode.nxe);
    for (unsigned i = 0; i < levels; i++) {
        print(" ");
        print_hex(entry[i]);
    }
    print(" want ");
    print_hex((uint64_t)want);
    print(" got ");
    print_hex((uint64_t)got);
    print(" leaf ");
    print_hex(leaf);
    print("\n");
}

static void all_accesses(const uint64_t *entry, unsigned levels)
{
    for (unsigned user = 0; user < 2; user++) {
        mode.user = user;
        for (enum access access = READ; access <= FETCH; access++) {
            check_access(entry, levels, access);
        }
    }
}

/* One level varies, the others permit everything; then the pair of PML4E and leaf. */
static void all_entries(void)
{
    static const uint64_t bits[] = {
        0, P, P | W, P | U, P | W | U, P | W | U | NX, P | NX, P | W | U | RSVD, P | U | NX};
    enum { N = sizeof bits / sizeof *bits };
    for (unsigned level = 0; level < 4; level++) {
        for (unsigned i = 0; i < N; i++) {
            uint64_t entry[4] = {P | W | U, P | W | U, P | W | U, P | W | U};
            entry[level] = bits[i];
            all_accesses(entry, 4);
            if (level < 3) {
                uint64_t big[3] = {entry[0], entry[1], entry[2] | LARGE};
                all_accesses(big, 3);
            }
            if (level < 2) {
                uint64_t giant[2] = {entry[0], entry[1] | LARGE};
                all_accesses(giant, 2);
            }
        }
    }
    for (unsigned i = 0; i < N; i++) {
        for (unsigned k = 1; k < N; k++) {
            uint64_t entry[4] = {bits[k], P | W | U, P | W | U, bits[i]};
            all_accesses(entry, 4);
        }
    }
}

static void permissions(void)
{
    __builtin_memcpy((void *)USER_READ, user_read, sizeof user_read);
    __builtin_memcpy((void *)USER_WRITE, user_write, sizeof user_write);
    /* At the page's start INT 40h for ring 3, behind it RET for ring 0. All 1 GiB pages begin at 0.
     */
    static const uint8_t code[] = {0xcd, 0x40, 0xc3, 0xcc};
    __builtin_memcpy((void *)DATA, code, sizeof code);
    __asm__ volatile("movl %0, 0" : : "r"(0xccc340cd) : "memory");
    for (unsigned i = 0; i < 32; i++) {
        mode.nxe = !(i & 1);
        mode.wp = i & 2;
        mode.smep = i & 4;
        mode.smap = i & 8;
        mode.ac = mode.smap && (i & 16);
        if ((i & 16) && !mode.smap) {
            continue;
        }
        apply_mode();
        all_entries();
    }
    mode.nxe = mode.wp = true;
    mode.smep = mode.smap = mode.ac = false;
    apply_mode();
}

/* Bits that must be 0 in large entries, PS in a PML4E, and a physical address that is too wide. */
static void reserved_bits(void)
{
    mode.user = false;
    for (unsigned bit = 13; bit < 30; bit++) {
        entries(P | W, P | W | LARGE | 1ull << bit, 0, 0);
        FAULTS(PF, PF_P | PF_RSVD, "movb (%0), %%al", : : "r"(LINEAR) : "rax");
    }
    for (unsigned bit = 13; bit < 21; bit++) {
        entries(P | W, P | W, P | W | LARGE | 1ull << bit, 0);
        FAULTS(PF, PF_P | PF_RSVD, "movb (%0), %%al", : : "r"(LINEAR) : "rax");
    }
    entries(P | W | LARGE, P | W, P | W, P | W);
    FAULTS(PF, PF_P | PF_RSVD, "movb (%0), %%al", : : "r"(LINEAR) : "rax");
    uint32_t r[4];
    cpuid(0x80000008, 0, r);
    for (unsigned bit = r[0] & 0xff; bit < 52; bit++) {
        entries(P | W, P | W, P | W, P | W | 1ull << bit);
        FAULTS(PF, PF_P | PF_RSVD, "movb (%0), %%al", : : "r"(LINEAR) : "rax");
    }
    entries(P | W, P | W, P | W, P | W | 0xe00 | 0x7ffull << 52); /* ignored ones */
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "rax");
    entries(P | W, P | W, P | W, P | W | LARGE); /* PAT in a PTE */
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "rax");
    entries(P | W, P | W, P | W | LARGE | 1ull << 12, 0); /* PAT in a PDE */
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "rax");
    entries(P | W, P | W, P | W, RSVD); /* not present: nothing is reserved */
    FAULTS(PF, 0, "movb (%0), %%al", : : "r"(LINEAR) : "rax");
}

static void accessed_bits(void)
{
    entries(P | W, P | W, P | W, P | W);
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "rax");
    CHECK(pml4[1] & A);
    CHECK(pdpt[0] & A);
    CHECK(pd[0] & A);
    CHECK((pt[0] & (A | D)) == A);
    CHECK(!(pml4[1] & D) && !(pd[0] & D));
    FINE("lock orb $0, (%0)", : : "r"(LINEAR) : "memory");
    CHECK(pt[0] & D);
    entries(P | W, P | W, P | W | LARGE, 0);
    FINE("movb %%al, (%0)", : : "r"(LINEAR + 0x123456) : "memory");
    CHECK((pd[0] & (A | D)) == (A | D));
    entries(P | W, P | W, P | W, P); /* read-only: the write fails and leaves no mark */
    FAULTS(PF, PF_P | PF_W, "movb %%al, (%0)", : : "r"(LINEAR) : "memory");
    CHECK(!(pt[0] & D));
    entries(P | W, P | W, P | W, P | W); /* a CMPXCHG that fails writes nevertheless */
    FINE("lock cmpxchgb %%cl, (%0)", : : "r"(LINEAR), "a"(1), "c"(2) : "memory");
    CHECK(pt[0] & D);
    FINE("movb (%0), %%al", : : "r"(LINEAR) : "rax"); /* a dirty entry cleared behind its back */
    pt[0] &= ~D;
    invlpg(LINEAR);
    FINE("movb %%al, (%0)", : : "r"(LINEAR) : "memory");
    CHECK(pt[0] & D);
}

/* Two pages of which the second fails: nothing is written, CR2 is of the second. */
static void straddle(void)
{
    entries(P | W, P | W, P | W, P | W);
    pt[1] = 0;
    invlpg(LINEAR + 4096);
    *(volatile uint64_t *)(DATA + 4088) = 0x1111111111111111;
    FAULTS(PF, PF_W, "movq %0, (%1)", : : "r"(-1ull), "r"(LINEAR + 4092) : "memory");
    CHECK(caught.cr2 == LINEAR + 4096);
    CHECK(*(volatile uint64_t *)(DATA + 4088) == 0x1111111111111111);
    FAULTS(PF, PF_W, "rep stosb", : : "D"(LINEAR + 4090), "c"(10), "a"(0) : "memory");
    CHECK(caught.frame.rcx == 4 && caught.frame.rdi == LINEAR + 4096);
    pt[1] = (DATA + 0x2000) | P | W;
    invlpg(LINEAR + 4096);
    FINE("movq %0, (%1)", : : "r"(0x8877665544332211), "r"(LINEAR + 4092) : "memory");
    CHECK(*(volatile uint32_t *)(DATA + 4092) == 0x44332211);
    CHECK(*(volatile uint32_t *)(DATA + 0x2000) == 0x88776655);
}

static volatile uint32_t *const probe = (volatile uint32_t *)LINEAR;

/* Physical pages with their number in them. */
static void number_pages(void)
{
    for (unsigned i = 0; i < 8; i++) {
        *(volatile uint32_t *)(DATA + 4096 * i) = i;
    }
}

static void flushes(void)
{
    number_pages();
    entries(P | W, P | W, P | W, P | W);
    pt[1] = (DATA + 4096) | P | W;
    invlpg(LINEAR + 4096);
    CHECK(probe[0] == 0 && probe[1024] == 1);
    pt[0] = (DATA + 0x2000) | P | W;
    invlpg(LINEAR + 8); /* any address of the page */
    CHECK(probe[0] == 2);
    pt[0] = (DATA + 0x3000) | P | W;
    write_cr3(read_cr3());
    CHECK(probe[0] == 3);
    write_cr4(read_cr4() | CR4_PGE);
    pt[0] = (DATA + 0x4000) | P | W | G;
    write_cr3(read_cr3());
    CHECK(probe[0] == 4);
    pt[0] = (DATA + 0x5000) | P | W | G;
    invlpg(LINEAR); /* also global ones */
    CHECK(probe[0] == 5);
    pt[0] = (DATA + 0x6000) | P | W | G;
    write_cr4(read_cr4() & ~CR4_PGE);
    CHECK(probe[0] == 6);
    pt[0] = (DATA + 0x7000) | P | W;
    write_cr0(read_cr0() & ~CR0_WP);
    write_cr0(read_cr0() | CR0_WP);
    write_cr3(read_cr3());
    CHECK(probe[0] == 7);
    /* A large page becomes small ones, by one INVLPG anywhere in it. */
    entries(P | W, P | W, P | W | LARGE, 0);
    CHECK(probe[0] == 0 && probe[1024] == 1);
    pt[0] = (DATA + 0x2000) | P | W;
    pt[1] = (DATA + 0x3000) | P | W;
    pd[0] = (uint64_t)pt | P | W;
    invlpg(LINEAR + 0x100000);
    CHECK(probe[0] == 2 && probe[1024] == 3);
    /* Code that is no longer mapped the same way. */
    *(volatile uint8_t *)DATA = 0xc3;
    *(volatile uint32_t *)(DATA + 0x1000) = 0xc3cccc;
    __asm__ volatile("movb $0xc3, %0" : "=m"(*(volatile uint8_t *)(DATA + 0x1000)));
    entries(P | W, P | W, P | W, P | W);
    try_call(LINEAR);
    CHECK(caught.vector == NONE);
    pt[0] = (DATA + 0x1000) | P | W | NX;
    invlpg(LINEAR);
    try_call(LINEAR);
    CHECK(caught.vector == PF && caught.error == (PF_P | PF_I));
}

struct descriptor {
    uint64_t pcid, address;
};

static uint64_t try_invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    struct descriptor d = {pcid, address};
    return TRY("invpcid %0, %1", : : "m"(d), "r"(type) : "memory");
}

static uint64_t other_pml4[512] __attribute__((aligned(4096))),
    other_pdpt[512] __attribute__((aligned(4096))), other_pd[512] __attribute__((aligned(4096)));
#define KEEP (1ull << 63)

static void pcid(void)
{
    uint64_t base = read_cr3() & ~0xfffull;
    FAULTS(GP, 0, "mov %0, %%cr3", : : "r"(base | KEEP)); /* only with PCIDE */
    write_cr3(base | 0x18);
    CHECK(try_write_cr(4, read_cr4() | CR4_PCIDE) == GP); /* CR3's low bits must be 0 */
    write_cr3(base);
    CHECK(try_invpcid(0, 1, 0) == GP);
    CHECK(try_invpcid(0, 0, LINEAR) == NONE);
    CHECK(try_write_cr(4, read_cr4() | CR4_PCIDE) == NONE);
    CHECK(try_write_cr(0, read_cr0() & ~CR0_PG) == GP);
    CHECK(try_write_cr(3, base | 5) == NONE);
    CHECK(read_cr3() == (base | 5));
    for (unsigned type = 0; type < 4; type++) {
        CHECK(try_invpcid(type, 0x1000, 0) == GP);
        CHECK(try_invpcid(type, 5, 0) == NONE);
    }
    CHECK(try_invpcid(4, 0, 0) == GP);
    CHECK(try_invpcid(~0ull, 0, 0) == GP);
    CHECK(try_invpcid(0, 5, 0x800000000000) == GP);
    CHECK(try_invpcid(1, 5, 0x800000000000) == NONE);

    number_pages();
    for (unsigned i = 0; i < 512; i++) {
        other_pml4[i] = pml4[i];
        other_pd[i] = 0;
    }
    entries(P | W, P | W, P | W, P | W);
    other_pml4[1] = (uint64_t)other_pdpt | P | W;
    other_pdpt[0] = (uint64_t)other_pd | P | W;
    other_pd[0] = (uint64_t)pt2 | P | W;
    pt2[0] = (DATA + 0x1000) | P | W;
    uint64_t one = base | 1, two = (uint64_t)other_pml4 | 2;
    write_cr3(one);
    CHECK(probe[0] == 0);
    write_cr3(two);
    CHECK(probe[0] == 1);
    write_cr3(one | KEEP);
    CHECK(!(read_cr3() & KEEP));
    CHECK(probe[0] == 0);
    write_cr3(two | KEEP);
    CHECK(probe[0] == 1);
    /* Each way of making one of them forget. */
    for (unsigned type = 0; type < 4; type++) {
        pt[0] = (DATA + 0x1000 * (2 + type)) | P | W;
        CHECK(try_invpcid(type, 1, LINEAR) == NONE);
        write_cr3(one | KEEP);
        CHECK(probe[0] == 2 + type);
        write_cr3(two | KEEP);
        CHECK(probe[0] == 1);
    }
    pt[0] = (DATA + 0x6000) | P | W;
    write_cr3(one); /* without KEEP */
    CHECK(probe[0] == 6);
    pt[0] = (DATA + 0x7000) | P | W;
    CHECK(try_invpcid(1, 1, 0) == NONE); /* its own */
    CHECK(probe[0] == 7);
    pt[0] = DATA | P | W;
    CHECK(try_invpcid(0, 1, LINEAR) == NONE);
    CHECK(probe[0] == 0);
    write_cr4(read_cr4() | CR4_PGE);
    pt[0] = (DATA + 0x1000) | P | W | G;
    CHECK(try_invpcid(2, 0, 0) == NONE); /* everything, global too */
    CHECK(probe[0] == 1);
    pt[0] = (DATA + 0x2000) | P | W | G;
    CHECK(try_invpcid(2, 0, 0) == NONE);
    CHECK(probe[0] == 2);
    write_cr3(base);
    write_cr4(read_cr4() & ~(CR4_PCIDE | CR4_PGE));
    FAULTS(GP, 0, "mov %0, %%cr3", : : "r"(base | KEEP));
}

/* Accesses that the processor makes for itself are supervisor's, whatever the CPL. */
static void implicit(void)
{
    uint64_t *directory = (uint64_t *)((read_cr3() & ~0xfffull) + 0x2000);
    CHECK(!(directory[0] & U));
    static const uint8_t user[] = {0x66, 0xb8, 0x23, 0x00, 0x8e, 0xd8, 0xcd, 0x40}; /* mov %ds */
    __builtin_memcpy((void *)(USER_AREA + 64), user, sizeof user);
    static const uint8_t call[] = {0xcd, 0x42};
    __builtin_memcpy((void *)(USER_AREA + 96), call, sizeof call);
    user_run((void *)(USER_AREA + 64), 0, USER_STACK); /* GDT and TSS are in supervisor pages */
    CHECK(caught.vector == 0x40);
    write_cr4(read_cr4() | CR4_SMAP);
    user_run((void *)(USER_AREA + 64), FLAG_AC, USER_STACK);
    CHECK(caught.vector == 0x40);
    CHECK(caught.frame.flags & FLAG_AC);
    /* Interrupt stacks in a user page: SMAP forbids them even with AC set. */
    task.ist[1] = USER_STACK - 256;
    task.ist[2] = (uint64_t)stack_ist - 4096;
    gate_set(0x42, (uint64_t)vectors + 16 * 0x42, KERNEL_CODE, 0xee, 2);
    gate_set(PF, (uint64_t)vectors + 16 * PF, KERNEL_CODE, 0x8e, 3);
    user_run((void *)(USER_AREA + 96), FLAG_AC, USER_STACK);
    CHECK(caught.vector == PF && caught.error == (PF_P | PF_W));
    write_cr4(read_cr4() & ~CR4_SMAP);
    user_run((void *)(USER_AREA + 96), 0, USER_STACK);
    CHECK(caught.vector == 0x42);
    gate_set(PF, (uint64_t)vectors + 16 * PF, KERNEL_CODE, 0x8e, 0);
}

/* Elements that are masked out are not accessed (SDM vol. 2, VPMASKMOV). */
static void masked_moves(void)
{
    static uint32_t mask[8], value[8] = {1, 2, 3, 4, 5, 6, 7, 8}, got[8];
    uint32_t r[4];
    cpuid(7, 0, r);
    if (!(r[1] & 1u << 5)) {
        return;
    }
    write_cr4(read_cr4() | 1ull << 18);
    __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
    entries(P | W | U, P | W | U, P | W | U, P | W | U);
    pt[1] = 0;
    uint32_t *last = (uint32_t *)(LINEAR + 4096) - 4;
    for (unsigned faulting = 0; faulting < 2; faulting++) {
        for (unsigned i = 0; i < 8; i++) {
            mask[i] = i == 1 || i == 3 || (faulting && i == 6) ? 0x80000000 : 0x7fffffff;
        }
        for (unsigned i = 0; i < 4; i++) {
            last[i] = 10 + i;
        }
        caught.vector = NONE;
        __asm__ volatile("movq $1f, resume\n vmovdqu %0, %%ymm0\n vmovdqu %1, %%ymm1\n"
                         "vpmaskmovd %%ymm1, %%ymm0, (%2)\n 1: movq $0, resume"
                         :
                         : "m"(mask), "m"(value), "r"(last)
                         : "memory");
        CHECK(caught.vector == (faulting ? PF : NONE));
        CHECK(!faulting || (caught.cr2 == LINEAR + 4096 + 8 && caught.error == PF_W));
        CHECK(last[0] == 10 && last[1] == (faulting ? 11 : 2) && last[2] == 12 &&
              last[3] == (faulting ? 13 : 4));
        caught.vector = NONE;
        __asm__ volatile("movq $1f, resume\n vmovdqu %0, %%ymm0\n vmovdqu %3, %%ymm1\n"
                         "vmaskmovps (%2), %%ymm0, %%ymm1\n 1: vmovdqu %%ymm1, %1\n"
                         "movq $0, resume\n vzeroupper"
                         : "+m"(mask), "=m"(got)
                         : "r"(last), "m"(value)
                         : "memory");
        CHECK(caught.vector == (faulting ? PF : NONE));
        for (unsigned i = 0; i < 8; i++) {
            CHECK(got[i] == (faulting ? value[i] : i == 1 || i == 3 ? last[i] : 0));
        }
    }
}

static void address_widths(void)
{
    FAULTS(GP, 0, "movb (%0), %%al", : : "r"(0x800000000000) : "rax");
    FAULTS(GP, 0, "movb (%0), %%al", : : "r"(0xffff7fffffffffff) : "rax");
    FAULTS(PF, 0, "movb (%0), %%al", : : "r"(0x7fffffffffff) : "rax");
    FAULTS(GP, 0, "movw (%0), %%ax", : : "r"(0x7fffffffffff) : "rax"); /* runs over the edge */
    FAULTS(PF, 0, "movb (%0), %%al", : : "r"(0xffff800000000000) : "rax");
    FAULTS(GP, 0, "mov %0, %%cr3", : : "r"(1ull << 51));
    FINE("invlpg (%0)", : : "r"(0x800000000000)); /* ignored */
}

int main_test(void)
{
    pml4 = (uint64_t *)(read_cr3() & ~0xfffull);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    permissions();
    reserved_bits();
    accessed_bits();
    straddle();
    flushes();
    pcid();
    implicit();
    masked_moves();
    address_widths();
    return 0;
}
