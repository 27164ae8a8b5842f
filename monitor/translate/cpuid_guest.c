/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's CPUID instruction: the model's answer for this CPU.
 */
#include "cpuid_model.h"
#include "helpers.h"
#include "vcpu.h"

static bool apic_off(struct vcpu *v)
{
    uint64_t base = 0;
    outside_begin(v);
    v->engine->bus->apic_msr_read(v->engine->bus->opaque, v->index, 0x1b, &base);
    outside_end(v);
    return !(base & 1u << 11);
}

void cpuid_guest(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    struct cpuid_cpu cpu = {
        .index = v->index, .cpus = v->engine->cpus, .cr4 = v->cr4, .xcr0 = v->xcr0};
    if (leaf == 1) {
        cpu.apic_off = apic_off(v);
    } else if (leaf == 0x15 || leaf == 0x16) {
        fpu_save(v);
        cpu.tsc_khz = clock_tsc_khz(v->engine->clock);
        fpu_load(v);
    }
    cpuid_model_leaf(&cpu, leaf, sub, out);
}
