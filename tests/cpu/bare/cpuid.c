/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What CPUID offers: control bits, XSAVE's components and instructions exist exactly when it says
 * so. SDM vol. 1, chapter 13, and vol. 2. */
#include "bare.h"

/* What CPUID offers must work, what it does not offer must fault. */
static void cpuid_promises(void)
{
    uint32_t r[4], one[4], seven[4];
    uint64_t cr4 = read_cr4();
    cpuid(0, 0, r);
    CHECK(r[0] >= 0xd);
    cpuid(1, 0, one);
    cpuid(7, 0, seven);
    const struct {
        bool offered;
        uint64_t bit;
    } bits[] = {{one[3] & 1u << 1, 1},
                {one[3] & 1u << 4, CR4_TSD},
                {one[3] & 1u << 2, CR4_DE},
                {one[3] & 1u << 13, CR4_PGE},
                {one[2] & 1u << 26, CR4_OSXSAVE},
                {one[2] & 1u << 17, CR4_PCIDE},
                {seven[2] & 1u << 2, CR4_UMIP},
                {seven[1] & 1u, CR4_FSGSBASE},
                {seven[1] & 1u << 7, CR4_SMEP},
                {seven[1] & 1u << 20, CR4_SMAP},
                {seven[2] & 1u << 3, 1ull << 22},  /* PKU */
                {seven[2] & 1u << 7, 1ull << 23},  /* CET */
                {seven[2] & 1u << 31, 1ull << 24}, /* PKS */
                {seven[2] & 1u << 16, 1ull << 12}, /* 5 levels */
                {one[2] & 1u << 6, 1ull << 14},    /* SMX */
                {one[2] & 1u << 5, 1ull << 13}};   /* VMX */
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++) {
        bool set = try_write_cr(4, cr4 | bits[i].bit) == NONE;
        CHECK(set == bits[i].offered);
        write_cr4(cr4);
    }
    write_cr4(cr4 & ~CR4_OSXSAVE);
    cpuid(1, 0, r);
    CHECK(!(r[2] & 1u << 27));
    FAULTS(UD, 0, "xgetbv", : : "c"(0) : "rax", "rdx");
    write_cr4(cr4 | CR4_OSXSAVE);
    cpuid(1, 0, r);
    CHECK(r[2] & 1u << 27);
    write_cr4(cr4 & ~CR4_FSGSBASE);
    FAULTS(UD, 0, "rdfsbase %%rax", : : : "rax");
    write_cr4(cr4 | CR4_FSGSBASE);
    FINE("rdfsbase %%rax", : : : "rax");
    FAULTS(GP, 0, "wrgsbase %0", : : "r"(NON_CANONICAL));
    write_cr4(cr4);
    CHECK(seven[2] & 1u << 22);
    wrmsr(0xc0000103, 77);
    uint64_t pid;
    __asm__ volatile("rdpid %0" : "=r"(pid));
    CHECK(pid == 77);
    CHECK((one[2] & 1u << 3) ||
          TRY("xorl %%ecx, %%ecx; xorl %%edx, %%edx; movq %%rsp, %%rax; monitor",
              :
              :
              : "rax", "rcx", "rdx") == UD);
    cpuid(0x80000000, 0, r);
    CHECK(r[0] >= 0x80000008);
    cpuid(0x80000001, 0, r);
    CHECK(r[3] & 1u << 29 && r[3] & 1u << 11);
    CHECK(r[3] & 1u << 26); /* 1 GiB pages: paging.c uses them */
    CHECK(!!(r[3] & 1u << 27) == (TRY("rdtscp", : : : "rax", "rcx", "rdx") == NONE));
    cpuid(0x80000008, 0, r);
    CHECK((r[0] >> 8 & 0xff) == 48);
    cpuid(0xb, 0, r);
    uint32_t apic = r[3];
    CHECK(one[1] >> 24 == apic);
}

static void xsave_promises(void)
{
    uint32_t r[4], one[4];
    cpuid(1, 0, one);
    if (!(one[2] & 1u << 26)) {
        return;
    }
    write_cr4(read_cr4() | CR4_OSXSAVE);
    cpuid(0xd, 0, r);
    uint64_t mask = r[0] | (uint64_t)r[3] << 32;
    CHECK((mask & 3) == 3);
#define XSETBV(value)                                                                              \
    TRY("xsetbv", : : "c"(0), "a"((uint32_t)(value)), "d"((uint32_t)((value) >> 32)))
    CHECK(XSETBV(mask) == NONE);
    CHECK(XSETBV(0ull) == GP);
    CHECK(XSETBV(4ull | 1) == GP);
    CHECK(XSETBV(mask | 1ull << 62) == GP);
    CHECK(TRY("xsetbv", : : "c"(1), "a"(1), "d"(0)) == GP);
    CHECK(TRY("xgetbv", : : "c"(2) : "rax", "rdx") == GP);
    XSETBV(3ull);
    cpuid(0xd, 0, r);
    CHECK(r[1] == 576);
    if (mask & 4) {
        FAULTS(UD, 0, ".byte 0xc5, 0xfc, 0x77", : :); /* vzeroall */
        XSETBV(7ull);
        FINE(".byte 0xc5, 0xfc, 0x77", : :);
        cpuid(0xd, 0, r);
        CHECK(r[1] == 832);
        cpuid(0xd, 2, r);
        CHECK(r[0] == 256 && r[1] == 576);
    }
    static uint8_t area[4096] __attribute__((aligned(64)));
    FAULTS(GP, 0, "xsave (%0)", : : "r"(area + 8), "a"(7), "d"(0) : "memory");
    FINE("xsave (%0)", : : "r"(area), "a"(3), "d"(0) : "memory");
    *(volatile uint64_t *)(area + 512) = 1ull << 40; /* a component that is not there */
    FAULTS(GP, 0, "xrstor (%0)", : : "r"(area), "a"(7), "d"(0) : "memory");
    *(volatile uint64_t *)(area + 512) = 3;
    *(volatile uint32_t *)(area + 24) = 0xffff0000; /* MXCSR */
    FAULTS(GP, 0, "xrstor (%0)", : : "r"(area), "a"(7), "d"(0) : "memory");
    FAULTS(GP, 0, "fxsave (%0)", : : "r"(area + 8) : "memory");
    FAULTS(GP, 0, "fxrstor (%0)", : : "r"(area) : "memory");
}

/* An instruction exists exactly when CPUID says so. */
enum { ALWAYS = 0xfffe, NEVER = 0xffff };
struct instruction {
    uint16_t leaf; /* 1, 7, 0x8001, 0xd1, ALWAYS, NEVER */
    uint8_t reg, bit;
    uint8_t size, bytes[9];
};

static bool offered(const struct instruction *in)
{
    uint32_t r[4] = {0};
    switch (in->leaf) {
    case ALWAYS:
        return true;
    case NEVER:
        return false;
    case 0x8001:
        cpuid(0x80000001, 0, r);
        break;
    case 0xd1:
        cpuid(0xd, 1, r);
        break;
    default:
        cpuid(in->leaf, 0, r);
    }
    return r[in->reg] >> in->bit & 1;
}

enum { EAX, EBX, ECX, EDX };

static void instruction_sets(void)
{
    static const struct instruction list[] = {
        {1, EDX, 19, 4, {0x0f, 0xae, 0x3c, 0x24}},             /* clflush (%rsp) */
        {7, EBX, 23, 5, {0x66, 0x0f, 0xae, 0x3c, 0x24}},       /* clflushopt */
        {7, EBX, 24, 5, {0x66, 0x0f, 0xae, 0x34, 0x24}},       /* clwb */
        {NEVER, 0, 0, 4, {0x66, 0x0f, 0xae, 0xf8}},            /* pcommit */
        {ALWAYS, 0, 0, 3, {0x0f, 0xae, 0xf8}},                 /* sfence */
        {ALWAYS, 0, 0, 3, {0x0f, 0xae, 0xf0}},                 /* mfence */
        {ALWAYS, 0, 0, 3, {0x0f, 0xae, 0xe8}},                 /* lfence */
        {ALWAYS, 0, 0, 4, {0x0f, 0x0d, 0x0c, 0x24}},           /* prefetchw */
        {ALWAYS, 0, 0, 4, {0xf3, 0x0f, 0x1e, 0xfa}},           /* endbr64 */
        {ALWAYS, 0, 0, 5, {0xf3, 0x48, 0x0f, 0x1e, 0xc8}},     /* rdsspq: a NOP */
        {ALWAYS, 0, 0, 4, {0x0f, 0x1c, 0x04, 0x24}},           /* cldemote: a NOP */
        {1, ECX, 0, 4, {0xf2, 0x0f, 0xd0, 0xc0}},              /* addsubps (SSE3) */
        {1, ECX, 1, 6, {0x66, 0x0f, 0x3a, 0x44, 0xc0, 0x00}},  /* pclmulqdq */
        {1, ECX, 9, 5, {0x66, 0x0f, 0x38, 0x00, 0xc0}},        /* pshufb */
        {1, ECX, 19, 5, {0x66, 0x0f, 0x38, 0x17, 0xc0}},       /* ptest */
        {1, ECX, 20, 5, {0x66, 0x0f, 0x38, 0x37, 0xc0}},       /* pcmpgtq */
        {1, ECX, 22, 5, {0x0f, 0x38, 0xf0, 0x04, 0x24}},       /* movbe */
        {1, ECX, 23, 4, {0xf3, 0x0f, 0xb8, 0xc0}},             /* popcnt */
        {1, ECX, 25, 5, {0x66, 0x0f, 0x38, 0xdc, 0xc0}},       /* aesenc */
        {1, ECX, 28, 4, {0xc5, 0xfc, 0x58, 0xc0}},             /* vaddps */
        {1, ECX, 29, 5, {0xc4, 0xe2, 0x79, 0x13, 0xc0}},       /* vcvtph2ps */
        {1, ECX, 12, 5, {0xc4, 0xe2, 0x79, 0x98, 0xc0}},       /* vfmadd132ps */
        {1, ECX, 30, 3, {0x0f, 0xc7, 0xf0}},                   /* rdrand */
        {7, EBX, 18, 3, {0x0f, 0xc7, 0xf8}},                   /* rdseed */
        {7, EBX, 19, 5, {0x66, 0x0f, 0x38, 0xf6, 0xc0}},       /* adcx */
        {7, EBX, 29, 4, {0x0f, 0x38, 0xc8, 0xc0}},             /* sha1nexte */
        {7, EBX, 3, 5, {0xc4, 0xe2, 0x78, 0xf2, 0xc0}},        /* andn */
        {7, EBX, 8, 5, {0xc4, 0xe2, 0x7b, 0xf6, 0xc0}},        /* mulx */
        {7, EBX, 5, 4, {0xc5, 0xfd, 0xfe, 0xc0}},              /* vpaddd %ymm */
        {7, EBX, 11, 6, {0xc7, 0xf8, 0, 0, 0, 0}},             /* xbegin */
        {7, EBX, 11, 3, {0x0f, 0x01, 0xd6}},                   /* xtest */
        {7, ECX, 22, 4, {0xf3, 0x0f, 0xc7, 0xf8}},             /* rdpid */
        {7, ECX, 5, 4, {0x66, 0x0f, 0xae, 0xf0}},              /* tpause */
        {7, ECX, 5, 4, {0xf3, 0x0f, 0xae, 0xf0}},              /* umonitor */
        {7, ECX, 8, 5, {0x66, 0x0f, 0x38, 0xcf, 0xc0}},        /* gf2p8mulb */
        {7, ECX, 9, 5, {0xc4, 0xe2, 0x7d, 0xdc, 0xc0}},        /* vaesenc %ymm */
        {7, ECX, 10, 6, {0xc4, 0xe3, 0x7d, 0x44, 0xc0, 0x00}}, /* vpclmulqdq %ymm */
        {7, ECX, 3, 3, {0x0f, 0x01, 0xee}},                    /* rdpkru (needs CR4.PKE) */
        {7, ECX, 27, 5, {0x0f, 0x38, 0xf9, 0x04, 0x24}},       /* movdiri */
        {7, EDX, 14, 3, {0x0f, 0x01, 0xe8}},                   /* serialize */
        {7, EBX, 16, 6, {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0}}, /* vaddps %zmm */
        {0xd1, EAX, 1, 4, {0x0f, 0xc7, 0x24, 0x24}},           /* xsavec */
        {0x8001, ECX, 5, 4, {0xf3, 0x0f, 0xbd, 0xc0}},         /* lzcnt */
        {0x8001, ECX, 0, 2, {0x9f, 0x9e}},                     /* lahf; sahf */
        {0x8001, ECX, 6, 4, {0xf2, 0x0f, 0x79, 0xc0}},         /* insertq (SSE4A) */
        {0x8001, EDX, 31, 4, {0x0f, 0x0f, 0xc0, 0x9e}},        /* pfadd (3DNow!) */
        {0x8001, EDX, 27, 3, {0x0f, 0x01, 0xf9}},              /* rdtscp */
        {NEVER, 0, 0, 5, {0xc4, 0xe2, 0x7d, 0x50, 0xc0}},      /* AVX-VNNI */
        {NEVER, 0, 0, 4, {0xf3, 0x0f, 0xae, 0xe8}},            /* incssp */
        {NEVER, 0, 0, 4, {0xf3, 0x0f, 0xae, 0xe0}},            /* ptwrite */
        {NEVER, 0, 0, 3, {0x0f, 0x01, 0xd0 | 8}},              /* vmrun */
        {NEVER, 0, 0, 3, {0x0f, 0x01, 0xfc}},                  /* clzero */
        {NEVER, 0, 0, 3, {0x0f, 0x01, 0xfd}},                  /* rdpru */
        {NEVER, 0, 0, 3, {0x0f, 0x01, 0xfa}},                  /* monitorx */
        {NEVER, 0, 0, 5, {0xf3, 0x0f, 0xc7, 0x34, 0x24}},      /* vmxon */
        {NEVER, 0, 0, 3, {0x0f, 0x78, 0xc0}},                  /* vmread */
        {NEVER, 0, 0, 5, {0x66, 0x0f, 0x38, 0x80, 0x04}},      /* invept */
        {NEVER, 0, 0, 2, {0x0f, 0x37}},                        /* getsec */
        {NEVER, 0, 0, 2, {0x0f, 0x04}},
        {NEVER, 0, 0, 2, {0x0f, 0x24}},
        {NEVER, 0, 0, 2, {0x0f, 0x36}},
        {NEVER, 0, 0, 3, {0x0f, 0xff, 0xc0}}, /* ud0 */
        {NEVER, 0, 0, 3, {0x0f, 0xb9, 0xc0}}, /* ud1 */
        {NEVER, 0, 0, 2, {0x8f, 0xe8}},       /* XOP */
        {NEVER, 0, 0, 2, {0xfe, 0xf8}},       /* group 4 has only /0 and /1 */
        {NEVER, 0, 0, 2, {0xff, 0xf8}},       /* group 5, /7 */
        {NEVER, 0, 0, 2, {0xff, 0xd8}},       /* far call of a register */
        {NEVER, 0, 0, 2, {0xff, 0xe8}},
        {NEVER, 0, 0, 3, {0x48, 0x8d, 0xc0}}, /* lea of a register */
        {NEVER, 0, 0, 2, {0x8e, 0xc8}},       /* mov to CS */
        {NEVER, 0, 0, 2, {0x8e, 0xf0}},       /* a sixth segment register */
        {NEVER, 0, 0, 2, {0x8c, 0xf8}},
        {NEVER, 0, 0, 3, {0xc7, 0xc8, 0x00}},
        {NEVER, 0, 0, 3, {0x0f, 0xba, 0xc0}}, /* bt group, /0 */
        {NEVER, 0, 0, 3, {0x0f, 0xc7, 0xc8}}, /* cmpxchg8b of a register */
    };
    write_cr4(read_cr4() | CR4_OSXSAVE);
    TRY("xsetbv", : : "c"(0), "a"(7), "d"(0));
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        user_bytes(list[i].bytes, list[i].size, 0);
        bool there = offered(&list[i]);
        if (caught.vector != (there ? 0x40 : UD)) {
            check_failed(__FILE__, __LINE__, "instruction and CPUID do not agree:");
            for (unsigned k = 0; k < list[i].size; k++) {
                print(" ");
                print_hex(list[i].bytes[k]);
            }
            print("\n");
            caught_print();
        }
    }
    uint32_t r[4]; /* XSAVEOPT needs its alignment */
    cpuid(0xd, 1, r);
    static uint8_t area[1024] __attribute__((aligned(64)));
    CHECK((TRY("xsaveopt (%0)", : : "r"(area), "a"(7), "d"(0) : "memory") == NONE) == (r[0] & 1));
    CHECK((TRY("xsaves (%0)",
               :
               : "r"(area), "a"(7), "d"(0)
               : "memory") == NONE) == (r[0] >> 3 & 1));
}

int main_test(void)
{
    cpuid_promises();
    xsave_promises();
    instruction_sets();
    return 0;
}
