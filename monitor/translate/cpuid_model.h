/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU that guests see. Also for engines that run it on hardware: a machine that moves between
 * engines keeps its CPU.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cpuid_cpu {
    unsigned index, cpus;
    uint64_t cr4, xcr0; /* leaves 1 and Dh tell of them */
    uint64_t tsc_khz;
    bool apic_off; /* in IA32_APIC_BASE, by the guest */
};

void cpuid_model_leaf(const struct cpuid_cpu *cpu, uint32_t leaf, uint32_t sub, uint32_t out[4]);
/* The words of cpu_state.features. */
void cpuid_model_features(const struct cpuid_cpu *cpu, uint32_t features[]);
bool cpuid_has_avx(void);
bool cpuid_host_xsave(void);
uint64_t cpuid_xcr0_mask(void);
const char *cpuid_model(void);
uint64_t cpuid_cr4_mask(void);
