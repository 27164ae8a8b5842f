/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translate engine: one thread per CPU, its run loop, requests from other threads, and the ops
 * table.
 *
 * Another thread that wants something sets a bit in vcpu.requests and then clears vcpu.run, which
 * stops the CPU at its next safepoint. A CPU that is in device code (outside) uses neither its TLB
 * nor its code cache, so invalidations need not wait for it: it looks at its requests before it
 * goes on.
 */
#include "vcpu.h"

#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "../device.h"
#include "../state.h"
#include "cache.h"
#include "cpuid_model.h"
#include "helpers.h"
#include "profile.h"
#include "window.h"

struct translate_options translate_options = {.tlb_entries = TLB_SIZE};

/* --- requests --- */

void cpu_request(struct vcpu *v, unsigned request)
{
    atomic_fetch_or(&v->requests, request);
    __atomic_store_n(&v->run, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&v->thread->lock);
    pthread_cond_broadcast(&v->thread->wake);
    pthread_mutex_unlock(&v->thread->lock);
}

static void service_code(struct vcpu *v)
{
    struct translate *t = v->engine;
    g_mutex_lock(&t->code_lock);
    GArray *q = t->code_queue[v->index];
    t->code_queue[v->index] = g_array_new(FALSE, FALSE, sizeof(struct code_range));
    g_mutex_unlock(&t->code_lock);
    for (guint i = 0; i < q->len; i++) {
        struct code_range *r = &g_array_index(q, struct code_range, i);
        if (r->len == 0) { /* engine_protect_page of another CPU */
            tlb_drop_writes(v, r->offset, GUEST_PAGE_SIZE, false);
            window_protect(v, r->offset);
        } else {
            block_invalidate(v, r->offset, r->len);
        }
    }
    g_array_free(q, TRUE);
}

/* On the CPU's own thread, guest vector state put away or of no interest. */
void cpu_service(struct vcpu *v)
{
    unsigned r = atomic_fetch_and(&v->requests, ~(unsigned)(REQ_FLUSH | REQ_CODE | REQ_DIRTY));
    if (r & REQ_FLUSH) {
        page_cache_flush(v);
        window_drop_all(v);
        tlb_flush_all(v);
    }
    if (r & REQ_CODE) {
        service_code(v);
    }
    if (r & REQ_DIRTY) {
        tlb_drop_writes(v, v->engine->dirty_offset, v->engine->dirty_len, true);
    }
}

static void code_post(struct translate *t, unsigned cpu, uint64_t offset, uint64_t len)
{
    struct code_range r = {offset, len};
    g_mutex_lock(&t->code_lock);
    g_array_append_val(t->code_queue[cpu], r);
    g_mutex_unlock(&t->code_lock);
    cpu_request(t->cpu[cpu], REQ_CODE);
}

void engine_code_written(struct translate *t, struct vcpu *self, uint64_t offset, uint64_t len)
{
    for (unsigned i = 0; i < t->cpus; i++) {
        if (t->cpu[i] != self) {
            code_post(t, i, offset, len);
        }
    }
}

/* Also taken where the guest's vector registers are live, so no GLib. */
static void code_cpus_lock(struct translate *t)
{
    while (atomic_flag_test_and_set(&t->code_cpus_busy)) {
        __builtin_ia32_pause();
    }
}

/* The caller is outside, so two CPUs that wait for each other here both count as stopped. */
void engine_protect_page(struct vcpu *v, uint64_t offset)
{
    struct translate *t = v->engine;
    uint64_t page = offset >> GUEST_PAGE_SHIFT;
    if (translate_options.stepping || (t->code_cpus[page] & 1u << v->index)) {
        return;
    }
    code_cpus_lock(t);
    t->code_cpus[page] |= 1u << v->index;
    __atomic_store_n(&t->code_map[page], 1, __ATOMIC_SEQ_CST);
    atomic_flag_clear(&t->code_cpus_busy);
    tlb_drop_writes(v, offset & ~0xfffull, GUEST_PAGE_SIZE, false);
    window_protect(v, offset);
    for (unsigned i = 0; i < t->cpus; i++) {
        if (t->cpu[i] != v) {
            code_post(t, i, offset & ~0xfffull, 0);
        }
    }
    for (unsigned i = 0; i < t->cpus; i++) {
        struct vcpu *o = t->cpu[i];
        while (o != v && !atomic_load(&o->outside) && (atomic_load(&o->requests) & REQ_CODE)) {
            __builtin_ia32_pause();
        }
    }
}

void engine_release_page(struct vcpu *v, uint64_t offset)
{
    struct translate *t = v->engine;
    uint64_t page = offset >> GUEST_PAGE_SHIFT;
    if (!(t->code_cpus[page] & 1u << v->index)) {
        return;
    }
    code_cpus_lock(t);
    t->code_cpus[page] &= ~(1u << v->index);
    if (!t->code_cpus[page]) {
        __atomic_store_n(&t->code_map[page], 0, __ATOMIC_SEQ_CST);
    }
    atomic_flag_clear(&t->code_cpus_busy);
}

/* --- signals --- */

struct vcpu *vcpu_current(void)
{
    unsigned long base = 0;
    syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
    return (struct vcpu *)base;
}

static struct sigaction old_actions[NSIG];

static void signal_pass_on(int sig, siginfo_t *info, void *context)
{
    struct sigaction *old = &old_actions[sig];
    if (old->sa_flags & SA_SIGINFO) {
        old->sa_sigaction(sig, info, context);
    } else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
        old->sa_handler(sig);
    } else {
        signal(sig, SIG_DFL); /* happens again on return, now fatally */
    }
}

/* The windowed access that host code at `pc`, in this block, makes, or NULL. */
static const struct window_site *window_site_at(const struct block *b, uint32_t pc)
{
    for (unsigned i = 0; b && i < b->window_sites_count; i++) {
        const struct window_site *s = &b->window_sites[i];
        if (pc >= b->code + s->op && pc < b->code + s->op + s->size) {
            return s;
        }
    }
    return NULL;
}

/* A windowed access found nothing: map the page, or send the instruction the slow way, which is
 * also that of misaligned vectors and of addresses that are not canonical (#GP). */
static bool window_signal(struct vcpu *v, greg_t *regs)
{
    uint64_t host = regs[REG_CR2];
    bool gp = regs[REG_TRAPNO] == EXC_GP;
    if (!gp && !window_contains(v, host)) {
        return false;
    }
    v->ret_pc = regs[REG_RIP] + 1;
    if (!gp && window_fault(v, host, regs[REG_ERR] & 2)) {
        return true;
    }
    uint32_t pc = regs[REG_RIP] - (uint64_t)v->cache->rx;
    const struct block *b = block_find_host(v->cache, pc);
    const struct window_site *s = window_site_at(b, pc);
    if (!s) {
        return false;
    }
    if (s->kept) {
        regs[REG_R14] = (greg_t)v->tmp[4];
    }
    regs[REG_RIP] = (greg_t)(v->cache->rx + b->cold + s->stub);
    v->count.window_detours++;
    return true;
}

/* A fault of a copied instruction is the guest's own fault. */
static void fault_handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    struct vcpu *v = vcpu_current();
    uint64_t pc = uc->uc_mcontext.gregs[REG_RIP];
    if (!v || pc < (uint64_t)v->cache->rx + v->cache->start ||
        pc >= (uint64_t)v->cache->rx + v->cache->size) {
        signal_pass_on(sig, info, context);
        return;
    }
    unsigned trap = uc->uc_mcontext.gregs[REG_TRAPNO];
    if ((trap == EXC_PF || trap == EXC_GP) && sig != SIGBUS &&
        window_signal(v, uc->uc_mcontext.gregs)) {
        return;
    }
    if (trap == EXC_PF) { /* the host could not give a page of guest memory */
        signal_pass_on(sig, info, context);
        return;
    }
    v->ret_pc = pc + 1;
    v->tmp[3] = trap;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)v->cache->thunk_fault;
}

/* A CPU that computes for long passes by the run loop now and then, since windows are given out
 * there. The timer counts the thread's own time: an idle CPU is left alone. */
#define TICK_SIGNAL SIGUSR2
#define TICK_NS     10000000

static void tick_handler(int sig, siginfo_t *info, void *context)
{
    struct vcpu *v = vcpu_current();
    if (!v) {
        return;
    }
    __atomic_store_n(&v->run, 0, __ATOMIC_RELAXED);
    if (translate_options.profile) {
        profile_sample(v, ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
    }
}

void vcpu_signals_init(void)
{
    static gsize once;
    if (!g_once_init_enter(&once)) {
        return;
    }
    struct sigaction sa = {.sa_sigaction = fault_handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &sa, &old_actions[signals[i]]);
    }
    struct sigaction tick = {.sa_sigaction = tick_handler, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigaction(TICK_SIGNAL, &tick, NULL);
    g_once_init_leave(&once, 1);
}

/* --- state --- */

static void derive_masks(struct vcpu *v)
{
    v->index_mask = (uint64_t)v->tlb_mask << GUEST_PAGE_SHIFT;
    v->page_mask = ~0xfffull;
    v->bit_mask[0] = 15;
    v->bit_mask[1] = 31;
    v->bit_mask[2] = 63;
}

/* After state came in from outside. */
void vcpu_reset_derived(struct vcpu *v)
{
    derive_masks(v);
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        segment_update(v, i);
    }
    page_cache_flush(v);
    memset(v->tlb_used, 1, sizeof v->tlb_used);
    v->gen_next = v->gen_next ? v->gen_next : 1;
    window_drop_all(v);
    tlb_flush_all(v);
    cache_flush(v);
    v->finish = v->smc_exit = 0;
    v->single_pending = v->soft_step = false;
    v->pending_dr6 = 0;
    v->delivering = 0;
    v->ret_pc = 0;
}

static void segment_from_state(struct segment *to, const struct cpu_segment *from)
{
    to->base = from->base;
    to->limit = from->limit;
    to->selector = from->selector;
    to->attr = from->unusable ? 0 : from->attributes;
}

static void segment_to_state(struct cpu_segment *to, const struct segment *from)
{
    to->base = from->base;
    to->limit = from->limit;
    to->selector = from->selector;
    to->attributes = from->attr;
    to->unusable = !(from->attr & SEG_P);
}

#define COPY_FIELDS(to, from)                                                                      \
    do {                                                                                           \
        memcpy((to)->gpr, (from)->gpr, sizeof(to)->gpr);                                           \
        memcpy((to)->dr, (from)->dr, sizeof(to)->dr);                                              \
        memcpy((to)->mtrr_fixed, (from)->mtrr_fixed, sizeof(to)->mtrr_fixed);                      \
        memcpy((to)->mtrr_base, (from)->mtrr_base, sizeof(to)->mtrr_base);                         \
        memcpy((to)->mtrr_mask, (from)->mtrr_mask, sizeof(to)->mtrr_mask);                         \
        memcpy((to)->xsave, (from)->xsave, CPU_XSAVE_SIZE);                                        \
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
        (to)->misc_enable = (from)->misc_enable;                                                   \
        (to)->tsc_adjust = (from)->tsc_adjust;                                                     \
        (to)->tsc_aux = (from)->tsc_aux;                                                           \
        (to)->spec_ctrl = (from)->spec_ctrl;                                                       \
        (to)->mtrr_def_type = (from)->mtrr_def_type;                                               \
        (to)->activity = (from)->activity;                                                         \
        (to)->nmi_blocked = (from)->nmi_blocked;                                                   \
        (to)->nmi_pending = (from)->nmi_pending;                                                   \
    } while (0)

static void registers_get(struct vcpu *v, struct cpu_state *s)
{
    COPY_FIELDS(s, v);
    s->rflags = cpu_flags(v);
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        segment_to_state(&s->seg[i], &v->seg[i]);
    }
    s->interrupt_shadow = v->shadow;
}

static void translate_get_state(struct engine *engine, unsigned cpu, struct cpu_state *s)
{
    struct translate *t = (struct translate *)engine;
    struct vcpu *v = t->cpu[cpu];
    memset(s, 0, sizeof *s);
    registers_get(v, s);
    s->tsc = clock_tsc(t->clock) + v->tsc_adjust;
    struct cpuid_cpu shown = {.index = cpu, .cpus = t->cpus};
    cpuid_model_features(&shown, s->features);
    if (t->bus->tpr_read) {
        s->cr8 = t->bus->tpr_read(t->bus->opaque, cpu);
        t->bus->apic_msr_read(t->bus->opaque, cpu, 0x1b, &s->apic_base);
        t->bus->apic_msr_read(t->bus->opaque, cpu, 0x6e0, &s->tsc_deadline);
    }
    if (v->single_pending) {
        s->exception_pending = true;
        s->exception_vector = EXC_DB;
    }
}

/* MXCSR and the XSAVE header may not make XRSTOR fault on the host. */
static void sanitize_xsave(uint8_t *area)
{
    uint32_t mxcsr;
    uint64_t header[8] = {0};
    memcpy(&mxcsr, area + 24, 4);
    mxcsr &= 0xffff;
    memcpy(area + 24, &mxcsr, 4);
    memcpy(header, area + 512, 8);
    header[0] &= cpuid_xcr0_mask();
    memcpy(area + 512, header, 64);
}

static void registers_set(struct vcpu *v, const struct cpu_state *s)
{
    COPY_FIELDS(v, s);
    sanitize_xsave(v->xsave);
    cpu_set_flags(v, s->rflags);
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        segment_from_state(&v->seg[i], &s->seg[i]);
    }
    v->cpl = !(v->cr0 & CR0_PE) ? 0 : v->flags_sys & FLAG_VM ? 3 : SEG_DPL(v->seg[CPU_SS].attr);
    v->shadow = s->interrupt_shadow;
}

/* Of PAE paging, from memory. */
static void pdptes_restore(struct vcpu *v)
{
    if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE) && !cpu_long_active(v)) {
        pdptes_load(v, v->cr3);
    }
}

static bool translate_set_state(struct engine *engine, unsigned cpu, const struct cpu_state *s,
                                GError **error)
{
    struct translate *t = (struct translate *)engine;
    struct vcpu *v = t->cpu[cpu];
    struct cpuid_cpu shown = {.index = cpu, .cpus = t->cpus};
    uint32_t offered[CPU_FEATURE_WORDS];
    cpuid_model_features(&shown, offered);
    g_autofree char *missing = cpu_state_missing_features(s, offered);
    if (missing) {
        g_set_error(error, g_quark_from_static_string("ringside-engine"), 1,
                    "The machine was using processor features that this computer does not have: "
                    "%s. Resume it "
                    "on the computer that it was suspended on",
                    missing);
        return false;
    }
    if (s->cr4 & ~cpuid_cr4_mask()) {
        g_set_error(
            error, g_quark_from_static_string("ringside-engine"), 1,
            "The machine was using processor features (CR4 %#llx) that this engine does not offer. "
            "Resume it with the engine it was suspended under.",
            (unsigned long long)s->cr4);
        return false;
    }
    registers_set(v, s);
    vcpu_reset_derived(v);
    v->single_pending = s->exception_pending && s->exception_vector == EXC_DB;
    v->pending_dr6 = v->single_pending && (v->flags_sys & FLAG_TF) ? DR6_BS : 0;
    pdptes_restore(v);
    return true;
}

/* --- the run loop --- */

static void cpu_init_event(struct vcpu *v)
{
    struct cpu_state s;
    struct translate *t = v->engine;
    translate_get_state((struct engine *)t, v->index, &s);
    cpu_state_reset(&s, v->index == 0, true);
    translate_set_state((struct engine *)t, v->index, &s, NULL);
}

static void cpu_sipi_event(struct vcpu *v)
{
    if (v->activity != CPU_WAIT_SIPI) {
        return;
    }
    segment_set_real(v, CPU_CS, (uint16_t)v->sipi_vector << 8);
    v->rip = 0;
    v->activity = CPU_RUNNING;
}

static bool interrupt_pending(struct vcpu *v)
{
    return v->engine->bus->interrupt_pending(v->engine->bus->opaque, v->index);
}

/* Takes what may be taken now; block_resolve delivers it. */
static void take_events(struct vcpu *v)
{
    if (v->nmi_pending && !v->nmi_blocked && !v->shadow) {
        v->nmi_pending = false;
        v->nmi_blocked = true;
        v->activity = CPU_RUNNING;
        v->inject = EXC_NMI + 1;
        return;
    }
    v->irq_waiting = 0;
    if (!interrupt_pending(v)) {
        return;
    }
    if (!v->flag_if || v->shadow) {
        v->irq_waiting = 1;
        return;
    }
    int vector = v->engine->bus->interrupt_ack(v->engine->bus->opaque, v->index);
    if (vector >= 0) {
        v->activity = CPU_RUNNING;
        v->inject = vector + 1;
    }
}

static bool can_run(struct vcpu *v)
{
    return v->activity == CPU_RUNNING;
}

static void handle_requests(struct vcpu *v)
{
    __atomic_store_n(&v->run, 1, __ATOMIC_SEQ_CST);
    unsigned r =
        atomic_fetch_and(&v->requests, ~(unsigned)(REQ_INTERRUPT | REQ_NMI | REQ_INIT | REQ_SIPI));
    if (r & (REQ_FLUSH | REQ_CODE | REQ_DIRTY)) {
        cpu_service(v);
    }
    if (r & REQ_INIT) {
        cpu_init_event(v);
    }
    if (r & REQ_SIPI) {
        cpu_sipi_event(v);
    }
    if (r & REQ_NMI) {
        v->nmi_pending = true;
    }
}

static bool parked(struct vcpu *v)
{
    return atomic_load(&v->requests) & (REQ_PAUSE | REQ_EXIT);
}

static void wait_for_work(struct vcpu *v)
{
    struct cpu_thread *th = v->thread;
    pthread_mutex_lock(&th->lock);
    while (!atomic_load(&v->requests)) {
        pthread_cond_wait(&th->wake, &th->lock);
    }
    pthread_mutex_unlock(&th->lock);
}

/* Has the frequency measured as well: helpers may not wait for that, nor call what does. */
static void tsc_take(struct vcpu *v)
{
    v->tsc_host = clock_tsc_is_host(v->engine->clock) && clock_tsc_khz(v->engine->clock);
    v->tsc_offset = v->tsc_host ? clock_tsc_offset(v->engine->clock) : 0;
}

static void park(struct vcpu *v)
{
    struct cpu_thread *th = v->thread;
    pthread_mutex_lock(&th->lock);
    th->parked = true;
    pthread_cond_broadcast(&th->wake);
    while ((atomic_load(&v->requests) & REQ_PAUSE) && !(atomic_load(&v->requests) & REQ_EXIT)) {
        pthread_cond_wait(&th->wake, &th->lock);
    }
    th->parked = false;
    pthread_mutex_unlock(&th->lock);
    tsc_take(v);
}

static void enter_guest(struct vcpu *v)
{
    atomic_store(&v->outside, false);
    if (atomic_load(&v->requests) & (REQ_FLUSH | REQ_CODE | REQ_DIRTY)) {
        cpu_service(v);
    }
    v->count.exits++;
    __asm__ volatile("fxsave64 %0" : "=m"(v->host_fpu));
    fpu_load(v);
    cpu_enter(v);
    v->helper = NULL; /* it may have left from within one */
    fpu_save(v);
    __asm__ volatile("fxrstor64 %0" : : "m"(v->host_fpu));
    atomic_store(&v->outside, true);
}

static void run_once(struct vcpu *v)
{
    handle_requests(v);
    window_tick(v);
    if (v->activity != CPU_WAIT_SIPI && v->activity != CPU_SHUTDOWN) {
        take_events(v);
    }
    if (!can_run(v)) {
        wait_for_work(v);
        return;
    }
    if (v->shadow) { /* one instruction, then look again */
        v->soft_step = true;
        enter_guest(v);
        v->soft_step = false;
        return;
    }
    enter_guest(v);
}

/* Without a timer the guest's own interrupts have to do. */
static bool tick_start(timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    long ns = translate_options.profile ? TICK_NS / 10 : TICK_NS;
    struct itimerspec every = {{0, ns}, {0, ns}};
    event._sigev_un._tid = syscall(SYS_gettid);
    return timer_create(CLOCK_THREAD_CPUTIME_ID, &event, timer) == 0 &&
           timer_settime(*timer, 0, &every, NULL) == 0;
}

static void *cpu_main(void *arg)
{
    struct vcpu *v = arg;
    timer_t timer;
    syscall(SYS_arch_prctl, ARCH_SET_GS, v);
    bool ticks = tick_start(&timer);
    atomic_store(&v->outside, true);
    while (!(atomic_load(&v->requests) & REQ_EXIT)) {
        if (parked(v)) {
            park(v);
        } else {
            run_once(v);
        }
    }
    if (ticks) {
        timer_delete(timer);
    }
    return NULL;
}

/* --- single steps --- */

static void step_thread(struct vcpu *v)
{
    static __thread struct vcpu *here;
    if (here != v) {
        syscall(SYS_arch_prctl, ARCH_SET_GS, v);
        here = v;
    }
}

static void step_prepare(struct vcpu *v, const struct cpu_state *s)
{
    registers_set(v, s);
    for (unsigned i = 0; i < CPU_SEGMENTS; i++) {
        segment_update(v, i);
    }
    page_cache_flush(v);
    tlb_flush_all(v);
    pdptes_restore(v);
    tsc_take(v);
    v->single_pending = false;
}

/* Translations and TLB entries are forgotten, since the guest changes code and page tables without
 * our knowledge. With `run` cleared an exception is delivered and no more: its handler is the
 * caller's. */
static bool translate_step(struct engine *engine, unsigned cpu, struct cpu_state *s)
{
    struct vcpu *v = ((struct translate *)engine)->cpu[cpu];
    if (s->cr4 & ~cpuid_cr4_mask()) {
        return false;
    }
    step_thread(v);
    step_prepare(v, s);
    atomic_fetch_and(&v->requests, ~(unsigned)REQ_PAUSE);
    __atomic_store_n(&v->run, 0, __ATOMIC_SEQ_CST);
    v->soft_step = true;
    enter_guest(v);
    v->soft_step = false;
    block_forget(v);
    registers_get(v, s);
    s->exception_pending = v->single_pending;
    s->exception_vector = v->single_pending ? EXC_DB : 0;
    s->exception_has_error = false;
    s->dr6 |= v->single_pending ? v->pending_dr6 : 0;
    return true;
}

/* --- engine ops --- */

static bool translate_probe(char **why)
{
    return true;
}

#define PROMOTE_TICKS 25000000ull /* about 10 ms */

static void options_parse(const char *text)
{
    translate_options =
        (struct translate_options){.tlb_entries = TLB_SIZE, .promote_ticks = PROMOTE_TICKS};
    if (!text) {
        return;
    }
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    for (unsigned i = 0; words[i]; i++) {
        if (g_str_equal(words[i], "nochain")) {
            translate_options.no_chain = true;
        } else if (g_str_equal(words[i], "profile")) {
            translate_options.profile = true;
        } else if (g_str_equal(words[i], "nowindow")) {
            translate_options.no_windows = true;
        } else if (g_str_has_prefix(words[i], "promote=")) {
            translate_options.promote_ticks = g_ascii_strtoull(words[i] + 8, NULL, 10) * 2500;
        } else if (g_str_equal(words[i], "step")) {
            translate_options.stepping = translate_options.no_windows = true;
            translate_options.tlb_entries = 16;
            translate_options.cache_size = 1 << 20;
        } else if (g_str_equal(words[i], "oneinsn")) {
            translate_options.one_instruction = true;
        } else if (g_str_has_prefix(words[i], "tlb=")) {
            guint64 n = g_ascii_strtoull(words[i] + 4, NULL, 10);
            translate_options.tlb_entries = n >= 16 && n <= TLB_SIZE && !(n & (n - 1)) ? n : 16;
        } else if (g_str_has_prefix(words[i], "cache=")) {
            guint64 n = g_ascii_strtoull(words[i] + 6, NULL, 10);
            translate_options.cache_size = CLAMP(n, 1, 256) << 20;
        }
    }
}

static void vcpu_unmap(struct vcpu *v)
{
    munmap((uint8_t *)v - VCPU_STACK, VCPU_STACK + sizeof *v);
}

static struct vcpu *vcpu_new(struct translate *t, unsigned index)
{
    uint8_t *stack = mmap(NULL, VCPU_STACK + sizeof(struct vcpu), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        return NULL;
    }
    mprotect(stack, GUEST_PAGE_SIZE, PROT_NONE);
    struct vcpu *v = (struct vcpu *)(stack + VCPU_STACK);
    v->self = v;
    v->engine = t;
    v->index = index;
    v->thread = &t->threads[index];
    v->tlb_mask = translate_options.tlb_entries - 1;
    v->cache = cache_new(translate_options.cache_size);
    if (!v->cache) {
        vcpu_unmap(v);
        return NULL;
    }
    thunks_generate(v);
    struct cpu_state s;
    cpu_state_reset(&s, index == 0, false);
    t->cpu[index] = v;
    translate_set_state((struct engine *)t, index, &s, NULL);
    atomic_store(&v->requests, REQ_PAUSE);
    return v;
}

static size_t code_cpus_size(const struct translate *t)
{
    return (memory_pool_max(t->memory) >> GUEST_PAGE_SHIFT) * sizeof *t->code_cpus;
}

static void translate_destroy(struct engine *engine)
{
    struct translate *t = (struct translate *)engine;
    for (unsigned i = 0; i < t->cpus; i++) {
        struct vcpu *v = t->cpu[i];
        if (!v) {
            continue;
        }
        if (t->threads[i].started) {
            cpu_request(v, REQ_EXIT);
            pthread_join(t->threads[i].thread, NULL);
        }
        if (translate_options.profile) {
            profile_log(v);
        }
        cache_free(v->cache);
        windows_free(v);
        vcpu_unmap(v);
        g_array_free(t->code_queue[i], TRUE);
    }
    if (t->arena) {
        munmap(t->arena, t->arena_size);
    }
    munmap(t->code_cpus, code_cpus_size(t));
    g_mutex_clear(&t->code_lock);
    g_free(t);
}

static struct engine *translate_create(const struct engine_config *config, GError **error)
{
    options_parse(config->options);
    if (!translate_options.cache_size) { /* for the whole machine; its records take as much again */
        translate_options.cache_size = CLAMP(48 / MAX(config->cpus, 1), 6, 48) << 20;
    }
    struct translate *t = g_new0(struct translate, 1);
    t->ops = &translate_engine;
    t->cpus = CLAMP(config->cpus, 1, MAX_CPUS);
    t->memory = config->memory;
    t->clock = config->clock;
    t->bus = config->bus;
    t->pool = memory_pool_base(t->memory);
    t->code_map = memory_code_map(t->memory);
    t->dirty_map = memory_dirty_map(t->memory);
    t->code_cpus = mmap(NULL, code_cpus_size(t), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t->code_cpus == MAP_FAILED) {
        g_set_error_literal(error, g_quark_from_static_string("ringside-engine"), 1,
                            "There is not enough memory for the translator. Close other programs.");
        g_free(t);
        return NULL;
    }
    g_mutex_init(&t->code_lock);
    vcpu_signals_init();
    for (unsigned i = 0; i < t->cpus; i++) {
        pthread_mutex_init(&t->threads[i].lock, NULL);
        pthread_cond_init(&t->threads[i].wake, NULL);
        t->code_queue[i] = g_array_new(FALSE, FALSE, sizeof(struct code_range));
        if (!vcpu_new(t, i)) {
            g_set_error(error, g_quark_from_static_string("ringside-engine"), 1,
                        "There is not enough memory for the translator of processor %u. Close "
                        "other programs or "
                        "give the machine fewer processors.",
                        i);
            t->cpus = i;
            translate_destroy((struct engine *)t);
            return NULL;
        }
    }
    windows_new(t);
    return (struct engine *)t;
}

static void translate_run(struct engine *engine)
{
    struct translate *t = (struct translate *)engine;
    t->running = true;
    for (unsigned i = 0; i < t->cpus; i++) {
        struct cpu_thread *th = &t->threads[i];
        pthread_mutex_lock(&th->lock);
        atomic_fetch_and(&t->cpu[i]->requests, ~(unsigned)REQ_PAUSE);
        t->cpu[i]->tsc_host = clock_tsc_is_host(t->clock);
        t->cpu[i]->tsc_offset = t->cpu[i]->tsc_host ? clock_tsc_offset(t->clock) : 0;
        pthread_cond_broadcast(&th->wake);
        pthread_mutex_unlock(&th->lock);
        if (!th->started) {
            pthread_attr_t attr;
            pthread_attr_init(&attr);
            pthread_attr_setstacksize(&attr, 1 << 20);
            th->started = pthread_create(&th->thread, &attr, cpu_main, t->cpu[i]) == 0;
            pthread_attr_destroy(&attr);
        }
    }
}

static void translate_pause(struct engine *engine)
{
    struct translate *t = (struct translate *)engine;
    for (unsigned i = 0; i < t->cpus; i++) {
        cpu_request(t->cpu[i], REQ_PAUSE);
    }
    for (unsigned i = 0; i < t->cpus; i++) {
        struct cpu_thread *th = &t->threads[i];
        pthread_mutex_lock(&th->lock);
        while (th->started && !th->parked) {
            pthread_cond_wait(&th->wake, &th->lock);
        }
        pthread_mutex_unlock(&th->lock);
    }
    t->running = false;
}

static void translate_kick(struct engine *engine, unsigned cpu)
{
    struct translate *t = (struct translate *)engine;
    if (cpu < t->cpus) {
        cpu_request(t->cpu[cpu], REQ_INTERRUPT);
    }
}

static void translate_event(struct engine *engine, unsigned cpu, enum cpu_event event,
                            uint8_t vector)
{
    struct translate *t = (struct translate *)engine;
    if (cpu >= t->cpus) {
        return;
    }
    if (event == CPU_EVENT_SIPI) {
        t->cpu[cpu]->sipi_vector = vector;
    }
    cpu_request(t->cpu[cpu], event == CPU_EVENT_INIT   ? REQ_INIT
                             : event == CPU_EVENT_SIPI ? REQ_SIPI
                                                       : REQ_NMI);
}

static void translate_memory_changed(struct engine *engine)
{
    struct translate *t = (struct translate *)engine;
    for (unsigned i = 0; i < t->cpus; i++) {
        cpu_request(t->cpu[i], REQ_FLUSH);
    }
}

static void translate_code_written(struct engine *engine, uint64_t offset, uint64_t len)
{
    if (len) {
        engine_code_written((struct translate *)engine, NULL, offset, len);
    }
}

static void translate_dirty_rearm(struct engine *engine, uint64_t offset, uint64_t len)
{
    struct translate *t = (struct translate *)engine;
    t->dirty_offset = offset;
    t->dirty_len = len;
    for (unsigned i = 0; i < t->cpus; i++) {
        cpu_request(t->cpu[i], REQ_DIRTY);
    }
}

static const char *translate_cpu_model(struct engine *engine)
{
    return cpuid_model();
}

const struct engine_ops translate_engine = {
    .name = "translate",
    .probe = translate_probe,
    .create = translate_create,
    .destroy = translate_destroy,
    .run = translate_run,
    .pause = translate_pause,
    .get_state = translate_get_state,
    .set_state = translate_set_state,
    .kick = translate_kick,
    .event = translate_event,
    .memory_changed = translate_memory_changed,
    .code_written = translate_code_written,
    .dirty_rearm = translate_dirty_rearm,
    .step = translate_step,
    .cpu_model = translate_cpu_model,
};
