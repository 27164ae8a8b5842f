/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's CPUID: the translator's model, so that a machine that moves keeps its CPU, without
 * what the translator does by itself and this processor, which has the guest's instructions here,
 * does not: XSAVEOPT, pages of 1 GiB, RDTSCP. Fast string instructions are hints that guests choose
 * their copying by.
 */
#include <cpuid.h>

#include "../translate/cpuid_model.h"
#include "driver.h"

#define MSR_APIC_BASE 0x1bu
#define APIC_ON       (1u << 11)
#define TSC_ADJUST    (1u << 1) /* 7:EBX; the MSR is emulated */
#define FSRM          (1u << 4) /* 7:EDX; the other bits there are of MSRs */

enum { EAX, EBX, ECX, EDX };

static uint32_t host_word(uint32_t leaf, uint32_t sub, unsigned reg)
{
    uint32_t out[4] = {0};

    __get_cpuid_count(leaf, sub, &out[EAX], &out[EBX], &out[ECX], &out[EDX]);
    return out[reg];
}

static void mask(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    if (leaf == 7 && sub == 0) {
        out[EBX] &= host_word(7, 0, EBX) | TSC_ADJUST;
        out[EDX] &= host_word(7, 0, EDX) | ~FSRM;
    } else if (leaf == 0xd && sub == 1) {
        out[EAX] &= host_word(0xd, 1, EAX);
    } else if (leaf == 0x80000001) {
        out[ECX] &= host_word(leaf, 0, ECX);
        out[EDX] &= host_word(leaf, 0, EDX);
    }
}

void driver_cpuid(const struct driver_cpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct cpu_bus *bus = v->engine->bus;
    const struct ringside_state *s = &v->run->state;
    struct cpuid_cpu cpu = {
        .index = v->index, .cpus = v->engine->cpus, .cr4 = s->cr4, .xcr0 = s->xcr0};
    uint64_t apic = 0;

    if (leaf == 1) {
        bus->apic_msr_read(bus->opaque, v->index, MSR_APIC_BASE, &apic);
        cpu.apic_off = !(apic & APIC_ON);
    } else if (leaf == 0x15 || leaf == 0x16) {
        cpu.tsc_khz = clock_tsc_khz(v->engine->clock);
    }
    cpuid_model_leaf(&cpu, leaf, sub, out);
    mask(leaf, sub, out);
}

void driver_cpuid_features(const struct driver_cpu *v, uint32_t features[CPU_FEATURE_WORDS])
{
    static const struct {
        uint32_t leaf, sub, reg;
    } words[CPU_FEATURE_WORDS] = {{1, 0, ECX},  {1, 0, EDX},          {7, 0, EBX},
                                  {7, 0, ECX},  {0x80000001, 0, ECX}, {0x80000001, 0, EDX},
                                  {0xd, 1, EAX}};
    struct cpuid_cpu cpu = {.index = v->index, .cpus = v->engine->cpus};

    for (unsigned i = 0; i < CPU_FEATURE_WORDS; i++) {
        uint32_t out[4];
        cpuid_model_leaf(&cpu, words[i].leaf, words[i].sub, out);
        mask(words[i].leaf, words[i].sub, out);
        features[i] = out[words[i].reg];
    }
}
