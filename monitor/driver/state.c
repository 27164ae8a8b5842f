/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPU's state, to the run page and from it. What the hardware does not have (MTRRs, activity,
 * pending NMIs and so on) stays in `rest`.
 */
#include <string.h>

#include "../translate/cpuid_model.h"
#include "driver.h"

#define EFER_LMA     (1u << 10)
#define RFLAGS_FIXED 2u
#define ATTRIBUTE_P  0x80u
#define ATTRIBUTE_L  0x2000u
#define ATTRIBUTES_STACK 0xc093u /* flat, writable */

_Static_assert((int)RINGSIDE_SEGMENTS == CPU_SEGMENTS && (int)RINGSIDE_TR == CPU_TR,
               "the same order");
_Static_assert(RINGSIDE_XSAVE_SIZE == CPU_XSAVE_SIZE, "the same area");

/* --- segments --- */

static struct ringside_segment segment_to_run(const struct cpu_segment *s)
{
    uint16_t a = s->unusable ? s->attributes & ~ATTRIBUTE_P : s->attributes;

    return (struct ringside_segment){.base = s->base,
                                     .limit = s->limit,
                                     .selector = s->selector,
                                     .attributes = (a & 0xff) | (a >> 4 & 0xf00)};
}

static struct cpu_segment segment_from_run(const struct ringside_segment *r)
{
    uint16_t a = (r->attributes & 0xff) | (r->attributes & 0xf00) << 4;

    return (struct cpu_segment){.base = r->base,
                                .limit = r->limit,
                                .selector = r->selector,
                                .attributes = a,
                                .unusable = !(a & ATTRIBUTE_P)};
}

/* In SS.DPL when it is there, else by the mode. */
static uint8_t privilege(const struct cpu_state *s)
{
    if (!(s->cr0 & 1)) {
        return 0;
    }
    return s->rflags & (1u << 17) ? 3 : s->seg[CPU_SS].attributes >> 5 & 3;
}

static void segments_load(struct ringside_state *r, const struct cpu_state *s)
{
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        r->seg[i] = segment_to_run(&s->seg[i]);
    }
    r->seg[RINGSIDE_TR].attributes |= 2 | ATTRIBUTE_P; /* busy */
    if (!(s->efer & EFER_LMA)) {
        r->seg[RINGSIDE_CS].attributes &= ~(ATTRIBUTE_L >> 4);
    }
    r->cpl = privilege(s);
}

/* AMD's SYSRET leaves a null SS as it is, and a null segment has no privilege level for the others who use cpu_state: SS
 * becomes one that can be used, which 64-bit code cannot tell from a null one. */
static void segments_store(struct cpu_state *s, const struct ringside_state *r)
{
    struct cpu_segment *ss = &s->seg[CPU_SS];

    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        s->seg[i] = segment_from_run(&r->seg[i]);
    }
    if (ss->unusable && r->cpl) {
        ss->attributes = ATTRIBUTES_STACK;
        ss->limit = UINT32_MAX;
        ss->unusable = false;
    }
    ss->attributes = (ss->attributes & ~0x60) | r->cpl << 5;
}

/* --- registers --- */

#define SAME_FIELDS(to, from)                                                                      \
    do {                                                                                           \
        memcpy((to)->gpr, (from)->gpr, sizeof(to)->gpr);                                           \
        memcpy((to)->dr, (from)->dr, sizeof(to)->dr);                                              \
        (to)->rip = (from)->rip;                                                                   \
        (to)->gdtr_base = (from)->gdtr_base;                                                       \
        (to)->idtr_base = (from)->idtr_base;                                                       \
        (to)->gdtr_limit = (from)->gdtr_limit;                                                     \
        (to)->idtr_limit = (from)->idtr_limit;                                                     \
        (to)->cr0 = (from)->cr0;                                                                   \
        (to)->cr2 = (from)->cr2;                                                                   \
        (to)->cr3 = (from)->cr3;                                                                   \
        (to)->cr4 = (from)->cr4;                                                                   \
        (to)->xcr0 = (from)->xcr0;                                                                 \
        (to)->dr6 = (from)->dr6;                                                                   \
        (to)->dr7 = (from)->dr7;                                                                   \
        (to)->efer = (from)->efer;                                                                 \
        (to)->star = (from)->star;                                                                 \
        (to)->lstar = (from)->lstar;                                                               \
        (to)->cstar = (from)->cstar;                                                               \
        (to)->fmask = (from)->fmask;                                                               \
        (to)->kernel_gs_base = (from)->kernel_gs_base;                                             \
        (to)->sysenter_cs = (from)->sysenter_cs;                                                   \
        (to)->sysenter_esp = (from)->sysenter_esp;                                                 \
        (to)->sysenter_eip = (from)->sysenter_eip;                                                 \
        (to)->pat = (from)->pat;                                                                   \
        (to)->tsc_aux = (from)->tsc_aux;                                                           \
        (to)->spec_ctrl = (from)->spec_ctrl;                                                       \
        (to)->interrupt_shadow = (from)->interrupt_shadow;                                         \
        (to)->nmi_blocked = (from)->nmi_blocked;                                                   \
    } while (0)

static uint64_t event_of(const struct cpu_state *s)
{
    if (!s->exception_pending) {
        return 0;
    }
    return RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | (s->exception_vector & 31) |
           (s->exception_has_error ? RINGSIDE_EVENT_ERROR | (uint64_t)s->exception_error << 32 : 0);
}

void driver_state_load(struct driver_cpu *v)
{
    const struct cpu_state *s = v->rest;
    struct ringside_run *run = v->run;
    struct ringside_state *r = &run->state;

    SAME_FIELDS(r, s);
    r->rflags = s->rflags | RFLAGS_FIXED;
    segments_load(r, s);
    memcpy(run->xsave, s->xsave, CPU_XSAVE_SIZE);
    run->xsave_changed = 1;
    run->event = event_of(s);
}

void driver_state_store(struct driver_cpu *v)
{
    struct cpu_state *s = v->rest;
    const struct ringside_run *run = v->run;
    const struct ringside_state *r = &run->state;

    SAME_FIELDS(s, r);
    s->rflags = r->rflags;
    segments_store(s, r);
    memcpy(s->xsave, run->xsave, CPU_XSAVE_SIZE);
    s->exception_pending = false;
    s->exception_has_error = false;
    s->exception_vector = 0;
    s->exception_error = 0;
}

/* --- for the machine --- */

/* An event is left over only if its delivery could not be finished; of those, exceptions are told
 * of. */
static void event_tell(struct cpu_state *s, uint64_t event)
{
    if ((event & RINGSIDE_EVENT_VALID) && (event & 0x700) == RINGSIDE_EVENT_EXCEPTION) {
        s->exception_pending = true;
        s->exception_vector = event & 31;
        s->exception_has_error = (event & RINGSIDE_EVENT_ERROR) != 0;
        s->exception_error = (uint32_t)(event >> 32);
    }
}

void driver_get_state(struct engine *engine, unsigned cpu, struct cpu_state *s)
{
    struct driver_engine *d = (struct driver_engine *)engine;
    struct driver_cpu *v = &d->cpu[cpu];

    driver_state_store(v);
    *s = *v->rest;
    event_tell(s, v->run->event);
    s->tsc = clock_tsc(d->clock) + s->tsc_adjust;
    driver_cpuid_features(v, s->features);
    s->cr8 = d->bus->tpr_read(d->bus->opaque, cpu);
    d->bus->apic_msr_read(d->bus->opaque, cpu, 0x1b, &s->apic_base);
    d->bus->apic_msr_read(d->bus->opaque, cpu, 0x6e0, &s->tsc_deadline);
}

bool driver_set_state(struct engine *engine, unsigned cpu, const struct cpu_state *s,
                      GError **error)
{
    struct driver_engine *d = (struct driver_engine *)engine;
    struct driver_cpu *v = &d->cpu[cpu];
    uint32_t offered[CPU_FEATURE_WORDS];
    g_autofree char *missing = NULL;

    driver_cpuid_features(v, offered);
    missing = cpu_state_missing_features(s, offered);
    if (missing || (s->cr4 & ~cpuid_cr4_mask())) {
        g_set_error(error, DRIVER_ENGINE_ERROR, 1,
                    "The machine was using processor features that this computer does not have: "
                    "%s. Resume it on the "
                    "computer that it was suspended on",
                    missing ? missing : "bits of CR4");
        return false;
    }
    *v->rest = *s;
    driver_state_load(v);
    return true;
}
