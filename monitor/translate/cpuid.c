/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's CPUID: a named model masked by what the host has, so that every feature it shows
 * works because the host executes it. The host's own answers are taken once, at first use. Built
 * with -mgeneral-regs-only.
 */
#include "cpuid_model.h"

#include <cpuid.h>

#include "cpu.h"

#define BIT(n) (1u << (n))

static struct {
    bool ready;
    uint32_t leaf1c, leaf1d, leaf7b, leaf7c, leaf7d, ext1c, ext1d, leaf7_1a;
} host;

static void host_read(void)
{
    uint32_t a, b, c, d;
    if (host.ready) {
        return;
    }
    __cpuid(1, a, b, host.leaf1c, host.leaf1d);
    __cpuid(0, a, b, c, d);
    if (a >= 7) {
        __cpuid_count(7, 0, a, host.leaf7b, host.leaf7c, host.leaf7d);
    }
    __cpuid(0x80000000, a, b, c, d);
    if (a >= 0x80000001) {
        __cpuid(0x80000001, a, b, host.ext1c, host.ext1d);
    }
    host.ready = true;
}

bool cpuid_host_xsave(void)
{
    host_read();
    return host.leaf1c & BIT(27);
}

bool cpuid_has_avx(void)
{
    if (!cpuid_host_xsave() || !(host.leaf1c & BIT(28))) {
        return false;
    }
    uint32_t a, d;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & 6) == 6;
}

uint64_t cpuid_xcr0_mask(void)
{
    static int64_t mask = -1;
    if (mask < 0) {
        mask = !cpuid_host_xsave() ? 0 : cpuid_has_avx() ? 7 : 3;
    }
    return mask;
}

uint64_t cpuid_cr4_mask(void)
{
    uint64_t mask = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
                    CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
                    CR4_SMEP | CR4_SMAP;
    mask &= ~(uint64_t)(CR4_VME | CR4_PVI);
    return cpuid_host_xsave() ? mask | CR4_OSXSAVE : mask;
}

const char *cpuid_model(void)
{
    return "Ringside Virtual CPU (translated)";
}

static const char brand[48] = "Ringside Virtual CPU (translated)";

static uint32_t features_1c(const struct cpuid_cpu *cpu)
{
    uint32_t from_host = BIT(0) | BIT(1) | BIT(9) | BIT(13) | BIT(17) | BIT(19) | BIT(20) |
                         BIT(22) | BIT(23) | BIT(25) | BIT(30);
    uint32_t avx = BIT(12) | BIT(28) | BIT(29);
    uint32_t c = host.leaf1c & from_host;
    c |= BIT(21) | BIT(24) | BIT(31); /* x2APIC, TSC deadline, hypervisor */
    if (cpuid_host_xsave()) {
        c |= BIT(26) | (cpu->cr4 & CR4_OSXSAVE ? BIT(27) : 0);
    }
    return cpuid_has_avx() ? c | (host.leaf1c & avx) : c;
}

static void leaf_1(const struct cpuid_cpu *cpu, uint32_t out[4])
{
    out[0] = 0x000c06f2; /* family 6, model 0xcf, stepping 2 */
    out[1] = cpu->index << 24 | cpu->cpus << 16 | 8 << 8;
    out[2] = features_1c(cpu);
    out[3] = BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) |
             BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) |
             BIT(24) | BIT(25) | BIT(26);
    out[3] |= cpu->apic_off ? 0 : BIT(9);
    if (cpu->cpus > 1) {
        out[3] |= BIT(28);
    }
}

static void leaf_7(uint32_t sub, uint32_t out[4])
{
    if (sub) {
        return;
    }
    uint32_t from_host = BIT(0) | BIT(3) | BIT(7) | BIT(8) | BIT(10) | BIT(18) | BIT(19) | BIT(20) |
                         BIT(23) | BIT(24) | BIT(29);
    uint32_t avx = BIT(5);
    out[1] = (host.leaf7b & from_host) | BIT(1) | BIT(9); /* TSC_ADJUST, ERMS */
    out[1] |= cpuid_has_avx() ? host.leaf7b & avx : 0;
    out[2] = host.leaf7c & (BIT(2) | BIT(22)); /* UMIP, RDPID */
    out[3] = BIT(4) | BIT(26) | BIT(29);       /* FSRM, SPEC_CTRL, ARCH_CAPABILITIES */
}

static void leaf_d(const struct cpuid_cpu *cpu, uint32_t sub, uint32_t out[4])
{
    if (!cpuid_host_xsave()) {
        return;
    }
    if (sub == 0) {
        out[0] = cpuid_xcr0_mask();
        out[1] = cpu->xcr0 & 4 ? 832 : 576;
        out[2] = cpuid_has_avx() ? 832 : 576;
    } else if (sub == 1) {
        out[0] = BIT(0); /* XSAVEOPT; here it does the same as XSAVE */
    } else if (sub == 2 && cpuid_has_avx()) {
        out[0] = 256;
        out[1] = 576;
    }
}

/* Deterministic cache parameters: L1d 32 KiB, L1i 32 KiB, L2 1 MiB, L3 16 MiB. */
static void leaf_4(const struct cpuid_cpu *cpu, uint32_t sub, uint32_t out[4])
{
    static const struct {
        uint8_t type, level;
        uint16_t ways, sets;
    } caches[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 1024}, {3, 3, 16, 16384}};
    if (sub >= 4) {
        return;
    }
    unsigned sharing = sub == 3 ? cpu->cpus - 1 : 0;
    out[0] =
        caches[sub].type | caches[sub].level << 5 | BIT(8) | sharing << 14 | (cpu->cpus - 1) << 26;
    out[1] = 63 | (caches[sub].ways - 1u) << 22;
    out[2] = caches[sub].sets - 1u;
}

static unsigned log2_up(unsigned n)
{
    unsigned bits = 0;
    while (1u << bits < n) {
        bits++;
    }
    return bits;
}

static void leaf_b(const struct cpuid_cpu *cpu, uint32_t sub, uint32_t out[4])
{
    out[2] = sub & 0xff;
    out[3] = cpu->index;
    if (sub == 0) {
        out[1] = 1;
        out[2] |= 1 << 8;
    } else if (sub == 1) {
        out[0] = log2_up(cpu->cpus);
        out[1] = cpu->cpus;
        out[2] |= 2 << 8;
    }
}

static void leaf_vendor(uint32_t max, const char text[12], uint32_t out[4])
{
    out[0] = max;
    __builtin_memcpy(&out[1], text, 4);
    __builtin_memcpy(&out[3], text + 4, 4);
    __builtin_memcpy(&out[2], text + 8, 4);
}

static void leaf_extended(const struct cpuid_cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case 0x80000000:
        out[0] = 0x80000008;
        break;
    case 0x80000001:
        out[2] = BIT(0) | (host.ext1c & (BIT(5) | BIT(8)));
        out[3] = BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        __builtin_memcpy(out, brand + 16 * (leaf - 0x80000002), 16);
        break;
    case 0x80000006:
        out[2] = 1024u << 16 | 6 << 12 | 64;
        break;
    case 0x80000007:
        out[3] = BIT(8); /* invariant TSC */
        break;
    case 0x80000008:
        out[0] = PHYS_BITS | 48 << 8;
        break;
    default:
        break;
    }
}

/* TSC = crystal * EBX / EAX with the APIC timer's 1 GHz as crystal. Linux multiplies EBX by 10^6 in
 * 32 bits, so the ratio is the best one with EBX < 4294. */
static void leaf_tsc(const struct cpuid_cpu *cpu, uint32_t out[4])
{
    uint64_t khz = cpu->tsc_khz;
    uint64_t best = UINT64_MAX;
    for (uint64_t d = 1; d <= 4000; d++) {
        uint64_t n = (khz * d + 500000) / 1000000;
        if (n == 0 || n > 4294) {
            continue;
        }
        uint64_t got = n * 1000000000 / d, want = khz * 1000,
                 off = got > want ? got - want : want - got;
        if (off < best) {
            best = off;
            out[0] = d;
            out[1] = n;
        }
    }
    out[2] = 1000000000;
}

void cpuid_model_leaf(const struct cpuid_cpu *cpu, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    host_read();
    out[0] = out[1] = out[2] = out[3] = 0;
    if (leaf >= 0x80000000) {
        leaf_extended(cpu, leaf, out);
        return;
    }
    switch (leaf) {
    case 0:
        leaf_vendor(0x16, "GenuineIntel", out);
        break;
    case 1:
        leaf_1(cpu, out);
        break;
    case 2:
        out[0] = 0x00feff01;
        break;
    case 4:
        leaf_4(cpu, sub, out);
        break;
    case 6:
        out[0] = BIT(2); /* the APIC timer never stops */
        break;
    case 7:
        leaf_7(sub, out);
        break;
    case 0xb:
        leaf_b(cpu, sub, out);
        break;
    case 0xd:
        leaf_d(cpu, sub, out);
        break;
    case 0x15:
        leaf_tsc(cpu, out);
        break;
    case 0x16:
        out[0] = out[1] = cpu->tsc_khz / 1000;
        out[2] = 100;
        break;
    case 0x40000000:
        leaf_vendor(0x40000000, "RingsideVMM ", out);
        break;
    default:
        break;
    }
}

void cpuid_model_features(const struct cpuid_cpu *cpu, uint32_t features[])
{
    uint32_t one[4], seven[4], extended[4], xsave[4];
    cpuid_model_leaf(cpu, 1, 0, one);
    cpuid_model_leaf(cpu, 7, 0, seven);
    cpuid_model_leaf(cpu, 0x80000001, 0, extended);
    features[0] = one[2];
    features[1] = one[3];
    features[2] = seven[1];
    features[3] = seven[2];
    features[4] = extended[2];
    features[5] = extended[3];
    cpuid_model_leaf(cpu, 0xd, 1, xsave);
    features[6] = xsave[0];
}
