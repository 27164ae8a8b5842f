/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's CPUID: the translator's model (translate/cpuid.c), so that a machine that moves keeps
 * its CPU, without what this host's KVM cannot do.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "../translate/cpuid_model.h"
#include "kvm.h"

#define ENTRIES   64u
#define SUPPORTED 256u

enum { EAX, EBX, ECX, EDX };

static struct kvm_cpuid2 *supported(struct kvm_engine *k)
{
    static struct kvm_cpuid2 *all;

    if (!all) {
        all = g_malloc0(sizeof *all + SUPPORTED * sizeof all->entries[0]);
        all->nent = SUPPORTED;
        if (ioctl(k->kvm, KVM_GET_SUPPORTED_CPUID, all) < 0) {
            all->nent = 0;
        }
    }
    return all;
}

static uint32_t entry_word(const struct kvm_cpuid_entry2 *e, unsigned reg)
{
    return reg == EAX ? e->eax : reg == EBX ? e->ebx : reg == ECX ? e->ecx : e->edx;
}

static uint32_t word_of(const struct kvm_cpuid2 *c, uint32_t leaf, uint32_t sub, unsigned reg)
{
    for (unsigned i = 0; i < c->nent; i++) {
        if (c->entries[i].function == leaf && c->entries[i].index == sub) {
            return entry_word(&c->entries[i], reg);
        }
    }
    return 0;
}

/* Bits of the model that need nobody's support: HTT and the TSC deadline timer, which KVM does not
 * list. */
static void mask_features(struct kvm_engine *k, struct kvm_cpuid_entry2 *e)
{
    const struct kvm_cpuid2 *s = supported(k);
    uint32_t always_1c =
        1u << 31 | 1u << 21 |
        (ioctl(k->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0 ? 1u << 24 : 0);

    switch (e->function) {
    case 1:
        e->ecx &= word_of(s, 1, 0, ECX) | always_1c;
        e->edx &= word_of(s, 1, 0, EDX) | 1u << 28;
        break;
    case 7:
        e->ebx &= word_of(s, 7, 0, EBX);
        e->ecx &= word_of(s, 7, 0, ECX);
        e->edx &= word_of(s, 7, 0, EDX);
        break;
    case 0xd:
        if (e->index < 2) { /* XCR0; XSAVEOPT */
            e->eax &= word_of(s, 0xd, e->index, EAX);
        }
        break;
    case 0x80000001:
        e->ecx &= word_of(s, 0x80000001, 0, ECX);
        e->edx &= word_of(s, 0x80000001, 0, EDX);
        break;
    case 0x80000008:
        e->eax =
            (e->eax & ~0xffu) | MIN(e->eax & 0xff, MAX(word_of(s, 0x80000008, 0, EAX) & 0xff, 36));
        break;
    default:
        break;
    }
}

static void entry_add(struct kvm_cpu *v, struct kvm_cpuid2 *all, const struct cpuid_cpu *cpu,
                      uint32_t leaf, uint32_t sub, bool indexed)
{
    struct kvm_cpuid_entry2 *e = &all->entries[all->nent++];
    uint32_t out[4];

    cpuid_model_leaf(cpu, leaf, sub, out);
    *e = (struct kvm_cpuid_entry2){.function = leaf,
                                   .index = sub,
                                   .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                   .eax = out[EAX],
                                   .ebx = out[EBX],
                                   .ecx = out[ECX],
                                   .edx = out[EDX]};
    mask_features(v->engine, e);
}

static uint64_t tsc_khz(struct kvm_cpu *v)
{
    long khz = clock_tsc_is_host(v->engine->clock) ? 0 : ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

    return khz > 0 ? (uint64_t)khz : clock_tsc_khz(v->engine->clock);
}

static struct kvm_cpuid2 *cpuid_build(struct kvm_cpu *v)
{
    static const struct {
        uint32_t leaf, subs;
    } leaves[] = {{0, 0},          {1, 0},          {2, 0},          {4, 4},
                  {6, 0},          {7, 1},          {0xb, 3},        {0xd, 3},
                  {0x15, 0},       {0x16, 0},       {0x40000000, 0}, {0x80000000, 0},
                  {0x80000001, 0}, {0x80000002, 0}, {0x80000003, 0}, {0x80000004, 0},
                  {0x80000006, 0}, {0x80000007, 0}, {0x80000008, 0}};
    struct kvm_cpuid2 *all = g_malloc0(sizeof *all + ENTRIES * sizeof all->entries[0]);
    struct cpuid_cpu cpu = {
        .index = v->index, .cpus = v->engine->cpus, .xcr0 = 7, .tsc_khz = tsc_khz(v)};

    for (unsigned i = 0; i < G_N_ELEMENTS(leaves); i++) {
        for (uint32_t sub = 0; sub < MAX(leaves[i].subs, 1); sub++) {
            entry_add(v, all, &cpu, leaves[i].leaf, sub, leaves[i].subs > 0);
        }
    }
    return all;
}

bool kvm_set_cpuid(struct kvm_cpu *v, GError **error)
{
    struct kvm_cpuid2 *all = cpuid_build(v);
    bool ok = ioctl(v->fd, KVM_SET_CPUID2, all) == 0;

    if (!ok) {
        g_set_error(error, KVM_ENGINE_ERROR, 1,
                    "KVM does not accept the processor of this machine: %s.", g_strerror(errno));
    }
    if (v->index == 0) {
        g_free(v->engine->cpuid);
        v->engine->cpuid = all;
    } else {
        g_free(all);
    }
    return ok;
}

void kvm_cpuid_features(const struct kvm_engine *k, uint32_t features[CPU_FEATURE_WORDS])
{
    features[0] = kvm_cpuid_word(k, 1, ECX);
    features[1] = kvm_cpuid_word(k, 1, EDX);
    features[2] = kvm_cpuid_word(k, 7, EBX);
    features[3] = kvm_cpuid_word(k, 7, ECX);
    features[4] = kvm_cpuid_word(k, 0x80000001, ECX);
    features[5] = kvm_cpuid_word(k, 0x80000001, EDX);
    features[6] = k->cpuid ? word_of(k->cpuid, 0xd, 1, EAX) : 0;
}

uint32_t kvm_cpuid_word(const struct kvm_engine *k, uint32_t leaf, unsigned reg)
{
    return k->cpuid ? word_of(k->cpuid, leaf, 0, reg) : 0;
}
