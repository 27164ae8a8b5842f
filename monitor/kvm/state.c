/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPU's state, to KVM and from it. All ioctls here act on a CPU that is not in KVM_RUN.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm.h"

#define EFER_LMA     (1u << 10)
#define RFLAGS_FIXED 2u

/* --- segments --- */

static struct kvm_segment segment_to_kvm(const struct cpu_segment *s, bool system)
{
    uint16_t a = s->attributes;
    struct kvm_segment k = {
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = a & 15,
        .s = a >> 4 & 1,
        .dpl = a >> 5 & 3,
        .present = a >> 7 & 1,
        .avl = a >> 12 & 1,
        .l = a >> 13 & 1,
        .db = a >> 14 & 1,
        .g = a >> 15 & 1,
        .unusable = s->unusable || !(a & 0x80),
    };

    if (!system && !k.unusable) {
        k.type |= 1; /* accessed: VT-x insists */
    }
    return k;
}

static struct cpu_segment segment_from_kvm(const struct kvm_segment *k)
{
    return (struct cpu_segment){
        .base = k->base,
        .limit = k->limit,
        .selector = k->selector,
        .attributes =
            (uint16_t)(k->type | k->s << 4 | k->dpl << 5 | (k->present && !k->unusable) << 7 |
                       k->avl << 12 | k->l << 13 | k->db << 14 | k->g << 15),
        .unusable = k->unusable,
    };
}

static void segments_to_kvm(const struct cpu_state *s, struct kvm_sregs *k)
{
    struct kvm_segment *to[CPU_SEGMENTS] = {
        [CPU_ES] = &k->es, [CPU_CS] = &k->cs, [CPU_SS] = &k->ss,    [CPU_DS] = &k->ds,
        [CPU_FS] = &k->fs, [CPU_GS] = &k->gs, [CPU_LDTR] = &k->ldt, [CPU_TR] = &k->tr};

    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        *to[i] = segment_to_kvm(&s->seg[i], i == CPU_LDTR || i == CPU_TR);
    }
    k->tr.type |= 2; /* busy */
    k->tr.unusable = 0;
    k->tr.present = 1;
    if (!(s->efer & EFER_LMA)) {
        k->cs.l = 0;
    }
}

static void segments_from_kvm(const struct kvm_sregs *k, struct cpu_state *s)
{
    const struct kvm_segment *from[CPU_SEGMENTS] = {
        [CPU_ES] = &k->es, [CPU_CS] = &k->cs, [CPU_SS] = &k->ss,    [CPU_DS] = &k->ds,
        [CPU_FS] = &k->fs, [CPU_GS] = &k->gs, [CPU_LDTR] = &k->ldt, [CPU_TR] = &k->tr};

    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        s->seg[i] = segment_from_kvm(from[i]);
    }
}

/* --- registers --- */

static void sregs_to_kvm(const struct cpu_state *s, struct kvm_sregs *k)
{
    segments_to_kvm(s, k);
    k->gdt.base = s->gdtr_base;
    k->gdt.limit = s->gdtr_limit;
    k->idt.base = s->idtr_base;
    k->idt.limit = s->idtr_limit;
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->cr8 = s->cr8;
    k->efer = s->efer;
    k->apic_base = s->apic_base;
}

static void sregs_from_kvm(const struct kvm_sregs *k, struct cpu_state *s)
{
    segments_from_kvm(k, s);
    s->gdtr_base = k->gdt.base;
    s->gdtr_limit = k->gdt.limit;
    s->idtr_base = k->idt.base;
    s->idtr_limit = k->idt.limit;
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->cr8 = k->cr8;
    s->efer = k->efer;
    s->apic_base = k->apic_base;
}

static void regs_to_kvm(const struct cpu_state *s, struct kvm_regs *k)
{
    *k = (struct kvm_regs){
        .rax = s->gpr[CPU_RAX],
        .rbx = s->gpr[CPU_RBX],
        .rcx = s->gpr[CPU_RCX],
        .rdx = s->gpr[CPU_RDX],
        .rsi = s->gpr[CPU_RSI],
        .rdi = s->gpr[CPU_RDI],
        .rsp = s->gpr[CPU_RSP],
        .rbp = s->gpr[CPU_RBP],
        .r8 = s->gpr[8],
        .r9 = s->gpr[9],
        .r10 = s->gpr[10],
        .r11 = s->gpr[11],
        .r12 = s->gpr[12],
        .r13 = s->gpr[13],
        .r14 = s->gpr[14],
        .r15 = s->gpr[15],
        .rip = s->rip,
        .rflags = s->rflags | RFLAGS_FIXED,
    };
}

static void regs_from_kvm(const struct kvm_regs *k, struct cpu_state *s)
{
    const uint64_t gpr[16] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi,
                              k->r8,  k->r9,  k->r10, k->r11, k->r12, k->r13, k->r14, k->r15};

    memcpy(s->gpr, gpr, sizeof gpr);
    s->rip = k->rip;
    s->rflags = k->rflags;
}

/* --- model-specific registers; the TSC, its deadline and the APIC base are apic.c's --- */

static const struct {
    uint32_t index;
    uint16_t field;
} msrs[] = {
#define MSR(index, field)                                                                          \
    {                                                                                              \
        index, offsetof(struct cpu_state, field)                                                   \
    }
    MSR(0x3b, tsc_adjust),
    MSR(0x48, spec_ctrl),
    MSR(0x174, sysenter_cs),
    MSR(0x175, sysenter_esp),
    MSR(0x176, sysenter_eip),
    MSR(0x1a0, misc_enable),
    MSR(0x277, pat),
    MSR(0x2ff, mtrr_def_type),
    MSR(0xc0000081, star),
    MSR(0xc0000082, lstar),
    MSR(0xc0000083, cstar),
    MSR(0xc0000084, fmask),
    MSR(0xc0000102, kernel_gs_base),
    MSR(0xc0000103, tsc_aux),
#undef MSR
};

#define MSR_COUNT (G_N_ELEMENTS(msrs) + 11 + 2 * CPU_MTRRS)

struct msr_list {
    struct kvm_msrs head;
    struct kvm_msr_entry entry[MSR_COUNT];
};

/* Which register each entry is, and where its value lies. */
static void msrs_list(struct cpu_state *s, struct kvm_msr_entry entry[], uint64_t *where[])
{
    static const uint32_t fixed[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                       0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    unsigned n = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(msrs); i++, n++) {
        entry[n].index = msrs[i].index;
        where[n] = (uint64_t *)((uint8_t *)s + msrs[i].field);
    }
    for (unsigned i = 0; i < 11; i++, n++) {
        entry[n].index = fixed[i];
        where[n] = &s->mtrr_fixed[i];
    }
    for (unsigned i = 0; i < CPU_MTRRS; i++, n += 2) {
        entry[n].index = 0x200 + 2 * i;
        where[n] = &s->mtrr_base[i];
        entry[n + 1].index = 0x201 + 2 * i;
        where[n + 1] = &s->mtrr_mask[i];
    }
}

/* One by one: KVM stops at the first that this host does not have. */
static void msrs_to_kvm(struct kvm_cpu *v, const struct cpu_state *state)
{
    struct msr_list list = {0}, one = {.head.nmsrs = 1};
    uint64_t *where[MSR_COUNT];

    msrs_list((struct cpu_state *)state, list.entry, where);
    for (unsigned i = 0; i < MSR_COUNT; i++) {
        one.entry[0] = list.entry[i];
        one.entry[0].data = *where[i];
        ioctl(v->fd, KVM_SET_MSRS, &one);
    }
}

static void msrs_from_kvm(struct kvm_cpu *v, struct cpu_state *s)
{
    struct msr_list list = {0}, one = {.head.nmsrs = 1};
    uint64_t *where[MSR_COUNT];

    msrs_list(s, list.entry, where);
    for (unsigned i = 0; i < MSR_COUNT; i++) {
        one.entry[0] = list.entry[i];
        if (ioctl(v->fd, KVM_GET_MSRS, &one) == 1) {
            *where[i] = one.entry[0].data;
        }
    }
}

/* --- vector registers --- */

static bool vectors_to_kvm(struct kvm_cpu *v, const struct cpu_state *s)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0 | 1}};
    struct kvm_xsave xsave = {0};
    uint64_t header[8] = {0};

    memcpy(&xsave, s->xsave, CPU_XSAVE_SIZE);
    memcpy(header, s->xsave + 512, 8);
    header[0] &= kvm_cpuid_word(v->engine, 0xd, 0) | 3;
    memcpy((uint8_t *)&xsave + 512, header, sizeof header);
    /* Hosts without XSAVE have no XCR0. */
    return (ioctl(v->fd, KVM_SET_XCRS, &xcrs) == 0 || xcrs.xcrs[0].value == 1) &&
           ioctl(v->fd, KVM_SET_XSAVE, &xsave) == 0;
}

static void vectors_from_kvm(struct kvm_cpu *v, struct cpu_state *s)
{
    struct kvm_xcrs xcrs = {0};
    struct kvm_xsave xsave = {0};

    ioctl(v->fd, KVM_GET_XSAVE, &xsave);
    memcpy(s->xsave, &xsave, CPU_XSAVE_SIZE);
    s->xcr0 = 1;
    if (ioctl(v->fd, KVM_GET_XCRS, &xcrs) == 0) {
        for (unsigned i = 0; i < MIN(xcrs.nr_xcrs, KVM_MAX_XCRS); i++) {
            s->xcr0 = xcrs.xcrs[i].xcr == 0 ? xcrs.xcrs[i].value : s->xcr0;
        }
    }
}

/* --- events and activity --- */

static bool events_to_kvm(struct kvm_cpu *v, const struct cpu_state *s)
{
    struct kvm_vcpu_events e = {
        .exception = {.injected = s->exception_pending,
                      .nr = s->exception_vector & 31,
                      .has_error_code = s->exception_has_error,
                      .error_code = s->exception_error},
        .interrupt.shadow = s->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0,
        .nmi = {.pending = s->nmi_pending, .masked = s->nmi_blocked},
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
    };
    struct kvm_mp_state mp = {.mp_state = s->activity == CPU_HALTED ? KVM_MP_STATE_HALTED
                                          : s->activity == CPU_WAIT_SIPI
                                              ? KVM_MP_STATE_INIT_RECEIVED
                                              : KVM_MP_STATE_RUNNABLE};

    return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e) == 0 && ioctl(v->fd, KVM_SET_MP_STATE, &mp) == 0;
}

static void events_from_kvm(struct kvm_cpu *v, struct cpu_state *s)
{
    struct kvm_vcpu_events e = {0};
    struct kvm_mp_state mp = {0};

    ioctl(v->fd, KVM_GET_MP_STATE, &mp);
    ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e);
    s->exception_pending = e.exception.injected;
    s->exception_vector = e.exception.nr;
    s->exception_has_error = e.exception.has_error_code;
    s->exception_error = e.exception.error_code;
    s->interrupt_shadow = e.interrupt.shadow != 0;
    s->nmi_pending = e.nmi.pending || e.nmi.injected;
    s->nmi_blocked = e.nmi.masked && !e.nmi.injected;
    s->activity =
        v->shutdown                          ? CPU_SHUTDOWN
        : mp.mp_state == KVM_MP_STATE_HALTED ? CPU_HALTED
        : mp.mp_state == KVM_MP_STATE_INIT_RECEIVED || mp.mp_state == KVM_MP_STATE_UNINITIALIZED
            ? CPU_WAIT_SIPI
            : CPU_RUNNING;
}

/* Nothing is on its way into the guest that cpu_state could not tell of. */
bool kvm_events_settled(struct kvm_cpu *v)
{
    struct kvm_vcpu_events e = {0};

    return v->settle == 0 && (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e) < 0 ||
                              !(e.interrupt.injected || e.exception.injected || e.nmi.injected));
}

/* --- all of it --- */

void kvm_get_state(struct engine *engine, unsigned cpu, struct cpu_state *s)
{
    struct kvm_cpu *v = &((struct kvm_engine *)engine)->cpu[cpu];
    struct kvm_sregs sregs = {0};
    struct kvm_regs regs = {0};
    struct kvm_debugregs debug = {0};

    memset(s, 0, sizeof *s);
    ioctl(v->fd, KVM_GET_SREGS, &sregs);
    sregs_from_kvm(&sregs, s);
    ioctl(v->fd, KVM_GET_REGS, &regs);
    regs_from_kvm(&regs, s);
    ioctl(v->fd, KVM_GET_DEBUGREGS, &debug);
    memcpy(s->dr, debug.db, sizeof s->dr);
    s->dr6 = debug.dr6;
    s->dr7 = debug.dr7;
    vectors_from_kvm(v, s);
    msrs_from_kvm(v, s);
    events_from_kvm(v, s);
    kvm_cpuid_features(v->engine, s->features);
    v->tsc_adjust = s->tsc_adjust;
    s->tsc = clock_tsc(v->engine->clock) + s->tsc_adjust;
    s->tsc_deadline = v->deadline;
}

static bool refused(GError **error, unsigned cpu, const char *what)
{
    g_set_error(error, KVM_ENGINE_ERROR, 1,
                "KVM on this computer does not accept the %s of CPU %u: %s. Start the machine with "
                "the engine that it ran under (engine=translate), or start it anew",
                what, cpu, g_strerror(errno));
    return false;
}

static bool features_fit(struct kvm_cpu *v, const struct cpu_state *s, GError **error)
{
    uint32_t offered[CPU_FEATURE_WORDS];
    g_autofree char *missing = NULL;

    kvm_cpuid_features(v->engine, offered);
    missing = cpu_state_missing_features(s, offered);
    if (missing) {
        g_set_error(error, KVM_ENGINE_ERROR, 1,
                    "The machine was using processor features that KVM on this computer does not "
                    "have: %s. Resume it with the engine that it was suspended under "
                    "(engine=translate), on the same computer",
                    missing);
    }
    return !missing;
}

bool kvm_set_state(struct engine *engine, unsigned cpu, const struct cpu_state *s, GError **error)
{
    struct kvm_cpu *v = &((struct kvm_engine *)engine)->cpu[cpu];
    struct kvm_sregs sregs = {0};
    struct kvm_regs regs;
    struct kvm_debugregs debug = {.dr6 = s->dr6, .dr7 = s->dr7};

    if (!features_fit(v, s, error)) {
        return false;
    }
    v->shutdown = s->activity == CPU_SHUTDOWN;
    v->settle = 0;
    v->io = false;
    v->run->ready_for_interrupt_injection = 0;
    v->tsc_adjust = s->tsc_adjust;
    sregs_to_kvm(s, &sregs);
    regs_to_kvm(s, &regs);
    memcpy(debug.db, s->dr, sizeof s->dr);
    if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0) {
        return refused(error, cpu, "system registers");
    }
    if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0 || ioctl(v->fd, KVM_SET_DEBUGREGS, &debug) < 0) {
        return refused(error, cpu, "registers");
    }
    if (!vectors_to_kvm(v, s)) {
        return refused(error, cpu, "vector registers");
    }
    msrs_to_kvm(v, s);
    return events_to_kvm(v, s) || refused(error, cpu, "pending events");
}
