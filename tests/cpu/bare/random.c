/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random changes of page tables, address spaces and protection, each followed by an invalidation
 * that SDM vol. 3, 4.10.4 asks for, and random accesses that are compared with a walk in software.
 * The accesses are made by few instructions, many times, so that whatever an engine remembers
 * about an instruction or a page has its chance to be stale.
 */
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
#define ADDR  0x000ffffffffff000ull

/* The parts of the address space that are tried, 2 MiB each. LOW's tables differ between the two
 * address spaces, HIGH has one for both, and global pages. They share no bits with the identity
 * mapping that an engine may use as an index. */
#define LOW   (0x8000000000ull | 5ull << 30 | 7 << 21)
#define HIGH  (0xffff900000000000ull | 9ull << 30 | 17 << 21)
#define DATA  0x1200000ull /* the pages that are mapped, 2 MiB */
#define PAGES 64u
#define STEPS 40000u

struct tables {
    uint64_t pdpt[512], pd[512], pt[512];
} __attribute__((aligned(4096)));
static struct tables low[2], high;
static uint64_t second_pml4[512] __attribute__((aligned(4096)));
static uint64_t *pml4[2];
static unsigned space;
static bool pcids, user;
static uint64_t seed = 0x2545f4914f6cdd1d;

static uint64_t random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x9e3779b97f4a7c15ull >> 11;
}

static bool chance(unsigned of)
{
    return random() % of == 0;
}

/* --- the software's view --- */

struct result {
    bool fault;
    uint32_t error;
    uint64_t physical;
    uint64_t *leaf;
};

static struct result walk(uint64_t linear, bool write)
{
    struct result r = {.fault = true, .error = (write ? 2 : 0) | (user ? 4 : 0)};
    uint64_t *table = pml4[space], all = W | U;
    for (int level = 4; level > 0; level--) {
        uint64_t *entry = &table[linear >> (3 + 9 * level) & 511];
        if (!(*entry & P)) {
            return r;
        }
        all &= *entry;
        if (level == 1 || (level == 2 && (*entry & LARGE))) {
            uint64_t mask = level == 1 ? 0xfff : 0x1fffff;
            r.leaf = entry;
            r.physical = (*entry & ADDR & ~mask) | (linear & mask);
            break;
        }
        table = (uint64_t *)(*entry & ADDR);
    }
    bool smap = read_cr4() & CR4_SMAP, wp = read_cr0() & CR0_WP;
    bool ok = user ? (all & U) && (!write || (all & W))
                   : !(smap && (all & U)) && (!write || (all & W) || !wp);
    r.fault = !ok;
    r.error |= 1;
    return r;
}

/* --- accesses --- */

static const uint8_t user_read[] = {0x48, 0x8b, 0x03, 0xcd, 0x40};  /* mov (%rbx), %rax */
static const uint8_t user_write[] = {0x48, 0x89, 0x2b, 0xcd, 0x40}; /* mov %rbp, (%rbx) */

static uint64_t user_access(uint64_t at, uint64_t value, bool write)
{
    user_rbx = at;
    user_rbp = value;
    user_run((void *)(USER_AREA + (write ? 64 : 0)), 0, USER_STACK);
    if (caught.vector == 0x40) {
        caught.vector = NONE;
    }
    return caught.frame.rax;
}

static __attribute__((noinline)) uint64_t read_at(uint64_t at)
{
    uint64_t value = 0;
    caught.vector = NONE;
    __asm__ volatile("movq $1f, resume\nmovq (%1), %0\n1: movq $0, resume"
                     : "+r"(value)
                     : "r"(at)
                     : "memory");
    return value;
}

static __attribute__((noinline)) void write_at(uint64_t at, uint64_t value)
{
    caught.vector = NONE;
    __asm__ volatile("movq $1f, resume\nmovq %0, (%1)\n1: movq $0, resume"
                     :
                     : "r"(value), "r"(at)
                     : "memory");
}

static void complain(const char *what, uint64_t at, const struct result *r, unsigned step)
{
    check_failed(__FILE__, __LINE__, what);
    print("  step ");
    print_hex(step);
    print(" at ");
    print_hex(at);
    print(user ? " user" : " supervisor");
    print(" want ");
    print_hex(r->fault ? r->error : 0xffff);
    print(" cr0 ");
    print_hex(read_cr0());
    print(" cr4 ");
    print_hex(read_cr4());
    print("\n");
    caught_print();
}

static void access(unsigned step)
{
    static const uint16_t offsets[] = {0, 8, 0x7f8, 0xff8, 0xffc};
    uint64_t at = (chance(2) ? LOW : HIGH) + random() % PAGES * 4096 + offsets[random() % 5];
    bool write = chance(2);
    user = chance(5);
    struct result first = walk(at, write), second = first;
    bool straddles = (at & 0xfff) > 0xff8;
    if (straddles) {
        second = walk((at & ~0xfffull) + 4096, write);
    }
    struct result *bad = first.fault ? &first : &second;
    uint64_t value = random() << 20 ^ random(), got = 0;
    uint64_t old = 0, *where = (uint64_t *)first.physical;
    if (!bad->fault) { /* what memory holds, by the identity mapping */
        old = straddles ? *(volatile uint32_t *)first.physical |
                              (uint64_t) * (volatile uint32_t *)second.physical << 32
                        : *(volatile uint64_t *)where;
    }
    if (user) {
        got = user_access(at, value, write);
    } else if (write) {
        write_at(at, value);
    } else {
        got = read_at(at);
    }
    if (bad->fault) {
        uint64_t cr2 = first.fault ? at : (at & ~0xfffull) + 4096;
        if (caught.vector != PF || caught.error != bad->error || caught.cr2 != cr2) {
            complain("a fault", at, bad, step);
        }
        return;
    }
    if (caught.vector != NONE) {
        complain("no fault", at, bad, step);
        return;
    }
    uint64_t now = straddles ? *(volatile uint32_t *)first.physical |
                                   (uint64_t) * (volatile uint32_t *)second.physical << 32
                             : *(volatile uint64_t *)where;
    if (write ? now != value && first.physical != second.physical - 4096 + 4 : got != old) {
        complain(write ? "what was written" : "what was read", at, bad, step);
    }
    uint64_t marks = write ? A | D : A;
    if ((*first.leaf & marks) != marks || (*second.leaf & marks) != marks) {
        complain("accessed and dirty bits", at, bad, step);
    }
}

/* --- changes --- */

static void reload(bool keep)
{
    uint64_t value = (uint64_t)pml4[space];
    write_cr3(pcids ? value | (space + 1) | (keep ? 1ull << 63 : 0) : value);
}

static void invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    struct {
        uint64_t pcid, address;
    } d = {pcid, address};
    __asm__ volatile("invpcid %0, %1" : : "m"(d), "r"(type) : "memory");
}

/* Makes the processor forget one page, or all of its 2 MiB, of an address space: rarely by
 * forgetting everything, since that hides what else is stale. */
static void forget(unsigned of, uint64_t linear, bool all, bool global)
{
    unsigned way = random() % 16;
    bool lower = linear < HIGH;
    if (pcids && of != space && lower) { /* the other one's */
        if (all || way & 1) {
            invpcid(way == 15 ? 3 : 1, of + 1, 0);
        } else {
            invpcid(0, of + 1, linear);
        }
    } else if (way < 14 && !all) {
        invlpg(linear + random() % 4096);
    } else if (way < 14) {
        for (unsigned i = 0; i <= PAGES; i++) {
            invlpg(linear + i * 4096);
        }
    } else if (global || way == 15 || !lower) {
        uint64_t cr4 = read_cr4();
        if (pcids && chance(2)) {
            invpcid(2, 0, 0);
        } else {
            write_cr4(cr4 ^ CR4_PGE);
            write_cr4(cr4);
        }
    } else {
        reload(false);
    }
}

static uint64_t random_entry(bool upper)
{
    uint64_t flags = chance(6) ? 0 : P;
    flags |= chance(3) ? 0 : W;
    flags |= chance(3) ? 0 : U;
    flags |= upper && chance(2) ? G : 0;
    flags |= chance(4) ? A : 0;
    flags |= chance(4) ? A | D : 0;
    return flags;
}

static void change_page(void)
{
    bool upper = chance(2);
    unsigned of = upper ? space : random() % 2, i = random() % PAGES;
    struct tables *t = upper ? &high : &low[of];
    uint64_t was = t->pt[i];
    t->pt[i] = (DATA + random() % 128 * 4096) | random_entry(upper);
    forget(of, (upper ? HIGH : LOW) + i * 4096, false, (was & G) && upper);
}

/* The 2 MiB as one page, as a table, read-only or gone. */
static void change_region(void)
{
    bool upper = chance(2);
    unsigned of = upper ? space : random() % 2;
    struct tables *t = upper ? &high : &low[of];
    uint64_t *entry = &t->pd[upper ? 17 : 7];
    if (chance(8)) {
        *entry = DATA | LARGE | random_entry(upper);
    } else {
        *entry = (uint64_t)t->pt | (chance(8) ? 0 : P) | (chance(4) ? 0 : W) | U;
    }
    forget(of, upper ? HIGH : LOW, true, upper);
}

static void change_mode(void)
{
    switch (random() % 3) {
    case 0:
        write_cr0(read_cr0() ^ CR0_WP);
        break;
    case 1:
        write_cr4(read_cr4() ^ CR4_SMAP);
        break;
    default:
        write_cr4(read_cr4() ^ CR4_PGE);
    }
}

static void change_pcids(void)
{
    if (pcids) {
        write_cr4(read_cr4() & ~CR4_PCIDE);
        pcids = false;
        reload(false);
    } else {
        write_cr3((uint64_t)pml4[space]);
        write_cr4(read_cr4() | CR4_PCIDE);
        pcids = true;
        invpcid(2, 0, 0);
        reload(false);
    }
}

static void prepare(void)
{
    pml4[0] = (uint64_t *)(read_cr3() & ADDR);
    pml4[1] = second_pml4;
    high.pdpt[9] = (uint64_t)high.pd | P | W | U;
    for (unsigned s = 0; s < 2; s++) {
        low[s].pdpt[5] = (uint64_t)low[s].pd | P | W | U;
        pml4[s][0] = pml4[0][0];
        pml4[s][LOW >> 39 & 511] = (uint64_t)low[s].pdpt | P | W | U;
        pml4[s][HIGH >> 39 & 511] = (uint64_t)high.pdpt | P | W | U;
        low[s].pd[7] = (uint64_t)low[s].pt | P | W | U;
    }
    high.pd[17] = (uint64_t)high.pt | P | W | U;
    for (unsigned i = 0; i <= PAGES; i++) {
        low[0].pt[i] = (DATA + random() % 128 * 4096) | P | W | U;
        low[1].pt[i] = (DATA + random() % 128 * 4096) | P | W | U;
        high.pt[i] = (DATA + random() % 128 * 4096) | P | W;
    }
    __builtin_memcpy((void *)USER_AREA, user_read, sizeof user_read);
    __builtin_memcpy((void *)(USER_AREA + 64), user_write, sizeof user_write);
    write_cr3(read_cr3());
}

int main_test(void)
{
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    prepare();
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned what = random() % 64;
        if (what < 14) {
            change_page();
        } else if (what == 14 && chance(4)) {
            change_region();
        } else if (what == 15 || what == 16) {
            space ^= 1;
            reload(chance(2));
        } else if (what == 17 && chance(8)) {
            change_mode();
        } else if (what == 18 && chance(8)) {
            change_pcids();
        }
        for (unsigned i = 0; i < 4; i++) {
            access(step);
        }
    }
    return 0;
}
