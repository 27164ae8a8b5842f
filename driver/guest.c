// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What running a guest needs whoever made the processor: vector registers, debug registers and the MSRs that are
 * switched by hand, and the loop of turns.
 */
#include <linux/hw_breakpoint.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/pkru.h>
#include <asm/traps.h>

#include "ringside.h"

#define MXCSR_OFFSET 24
#define MXCSR_BITS 0xffffu
#define XSAVE_HEADER 512
#define EVENT_TYPE(event) ((event) & 0x700)
#define LATE_EVENTS 16 /* that may get in while somebody waits */
#define EVENT_SOFTWARE 0x400u /* and above: INT n, INT1, INT3, INTO */

/* Of a physical CPU. */
struct rs_host {
	bool enabled;
	u64 tsc_aux, xcr0, xss;
	u32 pkru; /* while a guest is here */
	const struct rs_machine *last; /* whose guest ran here, to be compared only */
};

static DEFINE_PER_CPU(struct rs_host, rs_host);

static bool has_tsc_aux(void)
{
	return boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID);
}

/* --- the hardware, on the CPU itself --- */

int rs_host_enable(void)
{
	struct rs_host *host = this_cpu_ptr(&rs_host);
	int error = rs_vendor->enable();

	if (error)
		return error;
	if (has_tsc_aux())
		rdmsrl(MSR_TSC_AUX, host->tsc_aux);
	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		host->xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host->xss);
	host->enabled = true;
	return 0;
}

void rs_host_disable(void)
{
	struct rs_host *host = this_cpu_ptr(&rs_host);

	if (!host->enabled)
		return;
	host->enabled = false;
	host->last = NULL;
	rs_vendor->disable();
}

/* --- the state, in and out --- */

/* The vector registers' initial state. */
static void xsave_init(void *area)
{
	*(u16 *)area = 0x37f;
	*(u32 *)(area + MXCSR_OFFSET) = 0x1f80;
}

int rs_guest_init(struct rs_guest *g)
{
	g->xsave = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!g->xsave)
		return -ENOMEM;
	g->last_cpu = -1;
	xsave_init(g->xsave);
	return 0;
}

void rs_guest_free(struct rs_guest *g)
{
	free_page((unsigned long)g->xsave);
}

/* What XRSTOR could refuse is put right: it may not fault. */
static void xsave_in(struct rs_guest *g, const struct ringside_run *run)
{
	u64 *header = g->xsave + XSAVE_HEADER;

	memcpy(g->xsave, run->xsave, RINGSIDE_XSAVE_SIZE);
	*(u32 *)(g->xsave + MXCSR_OFFSET) &= MXCSR_BITS;
	header[0] &= boot_cpu_has(X86_FEATURE_AVX) ? 7 : 3;
	memset(header + 1, 0, 56);
}

/* XSETBV may not fault either. */
static u64 xcr0_fit(u64 wanted)
{
	u64 xcr0 = (wanted & (boot_cpu_has(X86_FEATURE_AVX) ? 7 : 3)) | 1;

	return xcr0 & 4 && !(xcr0 & 2) ? xcr0 & ~4ull : xcr0;
}

static void guest_in(struct rs_guest *g, struct ringside_run *run)
{
	const struct ringside_state *s = &run->state;

	memcpy(g->gpr, s->gpr, sizeof(g->gpr));
	memcpy(g->dr, s->dr, sizeof(g->dr));
	g->dr_used = READ_ONCE(s->dr7) & 0xff;
	g->tsc_aux = (u32)READ_ONCE(s->tsc_aux);
	g->spec_ctrl = READ_ONCE(s->spec_ctrl) & (SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_SSBD);
	g->xcr0 = xcr0_fit(READ_ONCE(s->xcr0));
	g->event = READ_ONCE(run->event);
	g->late = 0;
	if (READ_ONCE(run->xsave_changed)) {
		xsave_in(g, run);
		run->xsave_changed = 0;
	}
}

static void guest_out(struct rs_guest *g, struct ringside_run *run)
{
	struct ringside_state *s = &run->state;

	memcpy(s->gpr, g->gpr, sizeof(g->gpr));
	memcpy(s->dr, g->dr, sizeof(g->dr));
	run->event = g->event;
	memcpy(run->xsave, g->xsave, RINGSIDE_XSAVE_SIZE);
}

/* --- on a processor --- */

static void vectors_load(struct rs_guest *g, const struct rs_host *host)
{
	if (!boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		asm volatile("fxrstor64 (%0)" : : "r"(g->xsave) : "memory");
		return;
	}
	asm volatile("xrstor64 (%0)" : : "r"(g->xsave), "a"(7), "d"(0) : "memory");
	if (g->xcr0 != host->xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, g->xcr0);
}

static void vectors_save(struct rs_guest *g, const struct rs_host *host)
{
	if (!boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		asm volatile("fxsave64 (%0)" : : "r"(g->xsave) : "memory");
		return;
	}
	if (g->xcr0 != host->xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, host->xcr0);
	asm volatile("xsave64 (%0)" : : "r"(g->xsave), "a"(7), "d"(0) : "memory");
}

/* From here on the processor's vectors, XCR0, XSS and TSC_AUX are the guest's; preemption is off. */
static struct rs_host *processor_load(struct rs_cpu *cpu)
{
	struct rs_guest *g = &cpu->guest;
	struct rs_host *host;

	kernel_fpu_begin_mask(0);
	host = this_cpu_ptr(&rs_host);
	if (!host->enabled || !rs_vendor->load(cpu)) {
		kernel_fpu_end();
		return NULL;
	}
	g->last_cpu = smp_processor_id();
	if (host->last != cpu->machine) {
		indirect_branch_prediction_barrier();
		host->last = cpu->machine;
	}
	host->pkru = read_pkru();
	if (host->xss)
		wrmsrl(MSR_IA32_XSS, 0);
	vectors_load(g, host);
	if (has_tsc_aux() && g->tsc_aux != host->tsc_aux)
		wrmsrl(MSR_TSC_AUX, g->tsc_aux);
	return host;
}

static void processor_put(struct rs_cpu *cpu, struct rs_host *host)
{
	struct rs_guest *g = &cpu->guest;

	if (has_tsc_aux() && g->tsc_aux != host->tsc_aux)
		wrmsrl(MSR_TSC_AUX, host->tsc_aux);
	vectors_save(g, host);
	if (host->xss)
		wrmsrl(MSR_IA32_XSS, host->xss);
	write_pkru(host->pkru); /* CR4.PKE is the guest's own */
	rs_vendor->put(cpu);
	kernel_fpu_end();
}

void rs_debug_load(struct rs_guest *g)
{
	if (!g->dr_used)
		return;
	set_debugreg(g->dr[0], 0);
	set_debugreg(g->dr[1], 1);
	set_debugreg(g->dr[2], 2);
	set_debugreg(g->dr[3], 3);
}

void rs_debug_save(struct rs_guest *g)
{
	if (g->dr_used) {
		get_debugreg(g->dr[0], 0);
		get_debugreg(g->dr[1], 1);
		get_debugreg(g->dr[2], 2);
		get_debugreg(g->dr[3], 3);
	}
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
}

u64 rs_spec_ctrl_load(const struct rs_guest *g)
{
	u64 host = 0;

	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		return 0;
	rdmsrl(MSR_IA32_SPEC_CTRL, host);
	if (g->spec_ctrl & ~host)
		wrmsrl_safe(MSR_IA32_SPEC_CTRL, host | g->spec_ctrl);
	return host;
}

/* A kernel that protects itself by IBRS needs it written after the guest, even if it is the same. */
void rs_spec_ctrl_restore(const struct rs_guest *g, u64 host)
{
	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		return;
	if (g->spec_ctrl & ~host || boot_cpu_has(X86_FEATURE_KERNEL_IBRS))
		wrmsrl_safe(MSR_IA32_SPEC_CTRL, host);
}

/* --- events --- */

/* What was being delivered when the exit came. INT n and the like are carried out again: RIP is still at them. */
void rs_event_interrupted(struct rs_guest *g, u32 info, u32 error)
{
	u32 vector = info & 0xff;
	bool software = EVENT_TYPE(info) >= EVENT_SOFTWARE ||
			(EVENT_TYPE(info) == RINGSIDE_EVENT_EXCEPTION &&
			 (vector == X86_TRAP_BP || vector == X86_TRAP_OF));

	if (info & RINGSIDE_EVENT_VALID && !software)
		g->event = (info & 0x80000fff) | (u64)error << 32;
}

/* One of the exceptions that end the guest's turn. */
void rs_exit_exception(struct rs_guest *g, unsigned int vector)
{
	if (vector == X86_TRAP_MC) /* the host's, whose handler does not see it by itself */
		asm volatile("int $18");
	else if (vector == X86_TRAP_AC)
		g->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | RINGSIDE_EVENT_ERROR | X86_TRAP_AC;
	else /* #DB */
		g->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | X86_TRAP_DB;
}

/* --- the loop --- */

/*
 * An event that is on its way gets in first, so that none is left over when the caller stops the machine. But a guest may have
 * the next one with each (a #DB at the beginning of its handler of #DB), so not for ever, and not when the process is to end.
 */
static bool wanted_elsewhere(struct rs_cpu *cpu)
{
	struct rs_guest *g = &cpu->guest;

	if (!signal_pending(current) && !test_thread_flag(TIF_NOTIFY_RESUME) && !READ_ONCE(cpu->run->immediate_exit))
		return false;
	return !g->event || ++g->late > LATE_EVENTS || fatal_signal_pending(current);
}

/* The number is read before the flush, with interrupts off: whoever changes tables interrupts us after counting. */
static bool tables_stale(struct rs_cpu *cpu)
{
	s64 tables = atomic64_read(&cpu->machine->tables);
	bool stale = cpu->guest.tables != tables;

	cpu->guest.tables = tables;
	return stale;
}

/* Guest turns on this processor until something needs the rest of the kernel or the caller. */
static enum rs_next turns(struct rs_cpu *cpu)
{
	enum rs_next next;

	do {
		local_irq_disable();
		if (need_resched() || wanted_elsewhere(cpu)) {
			local_irq_enable();
			return RS_AGAIN;
		}
		current->flags |= PF_VCPU; /* this tick is the guest's */
		rs_vendor->enter(cpu, tables_stale(cpu));
		local_irq_enable();
		current->flags &= ~PF_VCPU;
		next = rs_vendor->exited(cpu);
	} while (next == RS_AGAIN);
	return next;
}

/* 0: goes on; 1: to the caller, who carries out the access; else an error. */
static int fault(struct rs_cpu *cpu)
{
	struct ringside_run *run = cpu->run;
	u64 gpa = cpu->guest.fault_gpa;
	bool write = cpu->guest.fault_write;
	int result = gpa < RINGSIDE_MAX_GPA ? rs_fault(cpu->machine, gpa, write) : 1;

	if (result) {
		run->exit = RINGSIDE_EXIT_MEMORY;
		run->memory.gpa = gpa;
		run->memory.write = write;
	}
	return result;
}

static int loop(struct rs_cpu *cpu)
{
	for (;;) {
		struct rs_host *host = processor_load(cpu);
		enum rs_next next;

		if (!host)
			return -EBUSY;
		next = turns(cpu);
		processor_put(cpu, host);
		if (next == RS_LEAVE)
			return 0;
		if (next == RS_FAULT) {
			int result = fault(cpu);

			if (result)
				return min(result, 0);
		}
		if (wanted_elsewhere(cpu)) {
			cpu->run->exit = RINGSIDE_EXIT_NONE;
			return signal_pending(current) ? -EINTR : 0;
		}
		cond_resched();
	}
}

int rs_guest_run(struct rs_cpu *cpu)
{
	struct ringside_run *run = cpu->run;
	int result;

	run->exit = RINGSIDE_EXIT_NONE;
	run->next_rip = 0;
	run->detail = 0;
	guest_in(&cpu->guest, run);
	if (!rs_vendor->state_in(cpu)) {
		run->exit = RINGSIDE_EXIT_REFUSED;
		return 0;
	}
	result = loop(cpu);
	rs_vendor->state_out(cpu);
	guest_out(&cpu->guest, run);
	return result;
}
