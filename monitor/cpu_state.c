/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power-on and INIT state of a CPU (Intel SDM vol. 3, table 10-1) and its description for state
 * files.
 */
#include <glib.h>
#include <string.h>

#include "cpu_state.h"
#include "state.h"

#define CR0_RESET 0x60000010u /* CD, NW, ET */

static void segment_reset(struct cpu_segment *seg, uint16_t attributes)
{
    *seg = (struct cpu_segment){.limit = 0xffff, .attributes = attributes};
}

static void segments_reset(struct cpu_state *cpu)
{
    for (int i = CPU_ES; i <= CPU_GS; i++) {
        segment_reset(&cpu->seg[i], 0x93); /* present, data, writable, accessed */
    }
    segment_reset(&cpu->seg[CPU_LDTR], 0x82);
    segment_reset(&cpu->seg[CPU_TR], 0x8b);
    cpu->seg[CPU_CS].attributes = 0x9b;
    cpu->seg[CPU_CS].selector = 0xf000;
    cpu->seg[CPU_CS].base = 0xffff0000;
    cpu->gdtr_base = cpu->idtr_base = 0;
    cpu->gdtr_limit = cpu->idtr_limit = 0xffff;
}

static void control_reset(struct cpu_state *cpu, bool init)
{
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->gpr[CPU_RDX] = 0x600; /* family 6; the engine knows better */
    cpu->rip = 0xfff0;
    cpu->rflags = 2;
    /* INIT leaves CD and NW as they are. */
    cpu->cr0 = init ? (cpu->cr0 & 0x60000000u) | 0x10 : CR0_RESET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = cpu->efer = 0;
    memset(cpu->dr, 0, sizeof cpu->dr);
    cpu->dr6 = 0xffff0ff0;
    cpu->dr7 = 0x400;
    cpu->interrupt_shadow = cpu->nmi_blocked = cpu->nmi_pending = false;
    cpu->exception_pending = cpu->exception_has_error = false;
    cpu->exception_vector = 0;
    cpu->exception_error = 0;
}

static void power_on_reset(struct cpu_state *cpu, bool bootstrap)
{
    memset(cpu, 0, sizeof *cpu);
    cpu->xcr0 = 1;
    cpu->apic_base = 0xfee00800u | (bootstrap ? 0x100u : 0u);
    cpu->pat = 0x0007040600070406ull;
    cpu->misc_enable = 1;  /* fast strings */
    cpu->xsave[0] = 0x40;  /* FCW = 0040h */
    cpu->xsave[4] = 0xff;  /* abridged tag word: all valid (FTW = 5555h) */
    cpu->xsave[24] = 0x80; /* MXCSR = 1F80h */
    cpu->xsave[25] = 0x1f;
}

void cpu_state_reset(struct cpu_state *cpu, bool bootstrap, bool init)
{
    if (!init) {
        power_on_reset(cpu, bootstrap);
    }
    control_reset(cpu, init);
    segments_reset(cpu);
    cpu->activity = bootstrap ? CPU_RUNNING : CPU_WAIT_SIPI;
}

static void segment_describe(struct cpu_segment *seg, struct state *s, unsigned i)
{
    state_push(s, "segment", i);
    state_u64(s, "base", &seg->base);
    state_u32(s, "limit", &seg->limit);
    state_u16(s, "selector", &seg->selector);
    state_u16(s, "attributes", &seg->attributes);
    state_bool(s, "unusable", &seg->unusable);
    state_pop(s);
}

static void array_describe(struct state *s, const char *name, uint64_t *values, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        state_push(s, name, i);
        state_u64(s, "value", &values[i]);
        state_pop(s);
    }
}

static void control_describe(struct cpu_state *cpu, struct state *s)
{
    state_u64(s, "rip", &cpu->rip);
    state_u64(s, "rflags", &cpu->rflags);
    state_u64(s, "gdtr_base", &cpu->gdtr_base);
    state_u64(s, "idtr_base", &cpu->idtr_base);
    state_u16(s, "gdtr_limit", &cpu->gdtr_limit);
    state_u16(s, "idtr_limit", &cpu->idtr_limit);
    state_u64(s, "cr0", &cpu->cr0);
    state_u64(s, "cr2", &cpu->cr2);
    state_u64(s, "cr3", &cpu->cr3);
    state_u64(s, "cr4", &cpu->cr4);
    state_u64(s, "cr8", &cpu->cr8);
    state_u64(s, "xcr0", &cpu->xcr0);
    state_u64(s, "dr6", &cpu->dr6);
    state_u64(s, "dr7", &cpu->dr7);
}

static void msrs_describe(struct cpu_state *cpu, struct state *s)
{
    state_u64(s, "efer", &cpu->efer);
    state_u64(s, "star", &cpu->star);
    state_u64(s, "lstar", &cpu->lstar);
    state_u64(s, "cstar", &cpu->cstar);
    state_u64(s, "fmask", &cpu->fmask);
    state_u64(s, "kernel_gs_base", &cpu->kernel_gs_base);
    state_u64(s, "sysenter_cs", &cpu->sysenter_cs);
    state_u64(s, "sysenter_esp", &cpu->sysenter_esp);
    state_u64(s, "sysenter_eip", &cpu->sysenter_eip);
    state_u64(s, "apic_base", &cpu->apic_base);
    state_u64(s, "pat", &cpu->pat);
    state_u64(s, "misc_enable", &cpu->misc_enable);
    state_u64(s, "tsc", &cpu->tsc);
    state_u64(s, "tsc_adjust", &cpu->tsc_adjust);
    state_u64(s, "tsc_aux", &cpu->tsc_aux);
    state_u64(s, "tsc_deadline", &cpu->tsc_deadline);
    state_u64(s, "spec_ctrl", &cpu->spec_ctrl);
    state_u64(s, "mtrr_def_type", &cpu->mtrr_def_type);
    array_describe(s, "mtrr_fixed", cpu->mtrr_fixed, 11);
    array_describe(s, "mtrr_base", cpu->mtrr_base, CPU_MTRRS);
    array_describe(s, "mtrr_mask", cpu->mtrr_mask, CPU_MTRRS);
}

static void events_describe(struct cpu_state *cpu, struct state *s)
{
    state_u8(s, "activity", &cpu->activity);
    state_bool(s, "interrupt_shadow", &cpu->interrupt_shadow);
    state_bool(s, "nmi_blocked", &cpu->nmi_blocked);
    state_bool(s, "nmi_pending", &cpu->nmi_pending);
    state_bool(s, "exception_pending", &cpu->exception_pending);
    state_u8(s, "exception_vector", &cpu->exception_vector);
    state_bool(s, "exception_has_error", &cpu->exception_has_error);
    state_u32(s, "exception_error", &cpu->exception_error);
    if (cpu->activity > CPU_SHUTDOWN) {
        state_fail(s, "activity", "is out of range");
        cpu->activity = CPU_SHUTDOWN;
    }
}

static void features_describe(struct cpu_state *cpu, struct state *s)
{
    for (unsigned i = 0; i < CPU_FEATURE_WORDS; i++) {
        state_push(s, "features", i);
        state_u32(s, "value", &cpu->features[i]);
        state_pop(s);
    }
}

static const char *feature_name(unsigned word, unsigned bit)
{
    static const struct {
        uint8_t word, bit;
        const char *name;
    } names[] = {{0, 0, "SSE3"},
                 {0, 1, "PCLMULQDQ"},
                 {0, 9, "SSSE3"},
                 {0, 12, "FMA"},
                 {0, 13, "CX16"},
                 {0, 17, "PCID"},
                 {0, 19, "SSE4.1"},
                 {0, 20, "SSE4.2"},
                 {0, 22, "MOVBE"},
                 {0, 23, "POPCNT"},
                 {0, 24, "TSC deadline timer"},
                 {0, 25, "AES"},
                 {0, 26, "XSAVE"},
                 {0, 28, "AVX"},
                 {0, 29, "F16C"},
                 {0, 30, "RDRAND"},
                 {2, 0, "FSGSBASE"},
                 {2, 3, "BMI1"},
                 {2, 5, "AVX2"},
                 {2, 7, "SMEP"},
                 {2, 8, "BMI2"},
                 {2, 10, "INVPCID"},
                 {2, 18, "RDSEED"},
                 {2, 19, "ADX"},
                 {2, 20, "SMAP"},
                 {2, 23, "CLFLUSHOPT"},
                 {2, 24, "CLWB"},
                 {2, 29, "SHA"},
                 {3, 2, "UMIP"},
                 {3, 22, "RDPID"},
                 {6, 0, "XSAVEOPT"},
                 {4, 5, "LZCNT"},
                 {5, 26, "1 GiB pages"},
                 {5, 27, "RDTSCP"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i].word == word && names[i].bit == bit) {
            return names[i].name;
        }
    }
    return NULL;
}

char *cpu_state_missing_features(const struct cpu_state *cpu,
                                 const uint32_t offered[CPU_FEATURE_WORDS])
{
    /* OSXSAVE says what the guest does, not what it may; ERMS is only a hint. */
    static const uint32_t no_matter[CPU_FEATURE_WORDS] = {1u << 27, 0, 1u << 9};
    GString *list = g_string_new(NULL);

    for (unsigned i = 0; i < CPU_FEATURE_WORDS; i++) {
        uint32_t missing = cpu->features[i] & ~offered[i] & ~no_matter[i];
        for (; missing; missing &= missing - 1) {
            unsigned bit = (unsigned)__builtin_ctz(missing);
            const char *name = feature_name(i, bit);
            g_string_append(list, list->len ? ", " : "");
            if (name) {
                g_string_append(list, name);
            } else {
                g_string_append_printf(list, "feature %u.%u", i, bit);
            }
        }
    }
    return g_string_free(list, list->len == 0);
}

void cpu_state_describe(struct cpu_state *cpu, struct state *s)
{
    if (!state_restoring(s) || state_version(s) >= CPU_STATE_VERSION) {
        features_describe(cpu, s);
    } else {
        memset(cpu->features, 0, sizeof cpu->features);
    }
    array_describe(s, "gpr", cpu->gpr, 16);
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        segment_describe(&cpu->seg[i], s, i);
    }
    control_describe(cpu, s);
    array_describe(s, "dr", cpu->dr, 4);
    msrs_describe(cpu, s);
    state_bytes(s, "xsave", cpu->xsave, sizeof cpu->xsave);
    events_describe(cpu, s);
}
