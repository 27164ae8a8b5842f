// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AMD-V with nested paging (AMD64 Architecture Programmer's Manual, volume 2, chapter 15).
 *
 * The guest has the processor as far as nested paging allows: control registers, page tables, exceptions and most
 * MSRs of SYSCALL and the like are its own. What ends its turn is in vmcb_init(). Extensions that may be missing
 * (next RIP, decode assists, flush by ASID, clean bits) are not needed.
 */
#include <linux/cpu.h>
#include <linux/hw_breakpoint.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <asm/debugreg.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/pkru.h>
#include <asm/svm.h>

#include "ringside.h"

#define VM_CR_SVMDIS BIT_ULL(4)
#define EVENT_TYPE(event) ((event) >> 8 & 7)
#define TYPE_EXCEPTION 3
#define TYPE_SOFTWARE 4
#define FAULT_WRITE BIT_ULL(1) /* exit_info_1 of SVM_EXIT_NPF */
#define IO_IN BIT_ULL(0)
#define IO_STRING BIT_ULL(2)
#define PAT_RESET 0x0007040600070406ull
#define MXCSR_OFFSET 24
#define MXCSR_BITS 0xffffu
#define XSAVE_HEADER 512
#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_LMA | EFER_NX | EFER_FFXSR)

/* What happens after an exit. */
enum next { AGAIN, FAULT, LEAVE };

struct svm_cpu {
	struct vmcb *vmcb;
	u64 gpr[16];
	u64 dr[4];
	u64 tsc_aux, spec_ctrl, xcr0;
	u64 event; /* to be delivered at the next entry, as in struct ringside_run */
	bool dr_used;
	int last_cpu;
	u64 asid_round;
	s64 tables; /* machine.tables as of the last flush */
	void *xsave; /* ours alone: what XRSTOR reads may not change under it */
};

/* Of a physical CPU. */
struct svm_host {
	bool enabled;
	struct page *save_area; /* VMRUN's */
	struct vmcb *vmcb;      /* VMSAVE's, of the host */
	u64 asid_round;         /* grows when all ASIDs have been used */
	u32 asid_next, asid_count;
	bool flush; /* before the next guest's turn */
	u64 tsc_aux, xcr0, xss;
	u32 pkru; /* while a guest is here */
	const struct rs_machine *last; /* whose guest ran here, to be compared only */
};

static DEFINE_PER_CPU(struct svm_host, svm_host);
static unsigned long io_bits, msr_bits; /* permission maps, the same for all guests */

void rs_svm_enter(u64 registers[16], u64 vmcb_pa, u64 host_vmcb_pa);

/* --- the hardware --- */

static int svm_probe(void)
{
	u64 vm_cr;

	if (!boot_cpu_has(X86_FEATURE_SVM) || boot_cpu_data.extended_cpuid_level < 0x8000000a)
		return -ENODEV;
	if (!(cpuid_edx(0x8000000a) & 1)) /* nested paging */
		return -ENODEV;
	if (!rdmsrl_safe(MSR_VM_CR, &vm_cr) && vm_cr & VM_CR_SVMDIS)
		return -EOPNOTSUPP; /* switched off in the firmware */
	return 0;
}

static u32 svm_features(void)
{
	return (boot_cpu_has(X86_FEATURE_NRIPS) ? RINGSIDE_HAS_NEXT_RIP : 0) |
	       (boot_cpu_has(X86_FEATURE_OSXSAVE) ? RINGSIDE_HAS_XSAVE : 0);
}

static bool has_tsc_aux(void)
{
	return boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID);
}

static int svm_enable(void)
{
	struct svm_host *host = this_cpu_ptr(&svm_host);
	u64 efer;

	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME)
		return -EBUSY;
	wrmsrl(MSR_EFER, efer | EFER_SVME);
	wrmsrl(MSR_VM_HSAVE_PA, page_to_phys(host->save_area));
	host->asid_count = cpuid_ebx(0x8000000a);
	host->asid_next = host->asid_count; /* begins with a flush */
	if (has_tsc_aux())
		rdmsrl(MSR_TSC_AUX, host->tsc_aux);
	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		host->xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host->xss);
	host->enabled = true;
	return 0;
}

static void svm_disable(void)
{
	struct svm_host *host = this_cpu_ptr(&svm_host);
	u64 efer;

	if (!host->enabled)
		return;
	host->enabled = false;
	host->last = NULL;
	wrmsrl(MSR_VM_HSAVE_PA, 0);
	rdmsrl(MSR_EFER, efer);
	wrmsrl(MSR_EFER, efer & ~EFER_SVME);
}

/* Two bits an MSR, 800h bytes for each of three ranges (APM vol. 2, 15.11); what is clear does not exit. */
static void msr_allow(unsigned long map, u32 msr)
{
	u32 bit = (msr & 0x1fff) * 2;

	bit += msr >= 0xc0010000 ? 0x1000 * 8 : msr >= 0xc0000000 ? 0x800 * 8 : 0;
	__clear_bit(bit, (unsigned long *)map);
	__clear_bit(bit + 1, (unsigned long *)map);
}

static int maps_init(void)
{
	/* Those that VMLOAD and VMSAVE switch. */
	static const u32 own[] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_FS_BASE,
				   MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS,
				   MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP };
	unsigned int i;

	io_bits = __get_free_pages(GFP_KERNEL, 2); /* 12 KiB */
	msr_bits = __get_free_pages(GFP_KERNEL, 1); /* 8 KiB */
	if (!io_bits || !msr_bits)
		return -ENOMEM;
	memset((void *)io_bits, 0xff, PAGE_SIZE << 2);
	memset((void *)msr_bits, 0xff, PAGE_SIZE << 1);
	for (i = 0; i < ARRAY_SIZE(own); i++)
		msr_allow(msr_bits, own[i]);
	return 0;
}

static void svm_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_host *host = per_cpu_ptr(&svm_host, cpu);

		if (host->save_area)
			__free_page(host->save_area);
		free_page((unsigned long)host->vmcb);
	}
	free_pages(msr_bits, 1);
	free_pages(io_bits, 2);
}

static int svm_init(void)
{
	int cpu, error = maps_init();

	for_each_possible_cpu(cpu) {
		struct svm_host *host = per_cpu_ptr(&svm_host, cpu);

		host->save_area = alloc_page(GFP_KERNEL | __GFP_ZERO);
		host->vmcb = (struct vmcb *)get_zeroed_page(GFP_KERNEL);
		if (!host->save_area || !host->vmcb)
			error = -ENOMEM;
	}
	if (error)
		svm_exit();
	return error;
}

/* --- a CPU --- */

static void intercept(struct vmcb_control_area *control, u32 bit, bool on)
{
	if (on)
		control->intercepts[bit / 32] |= BIT(bit % 32);
	else
		control->intercepts[bit / 32] &= ~BIT(bit % 32);
}

static void vmcb_init(struct vmcb *vmcb, struct rs_machine *machine)
{
	static const u8 always[] = {
		/* the host's */
		INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_INIT, INTERCEPT_EXCEPTION_OFFSET + MC_VECTOR,
		/* whose delivery could go on for ever without a host interrupt being taken */
		INTERCEPT_EXCEPTION_OFFSET + AC_VECTOR, INTERCEPT_EXCEPTION_OFFSET + DB_VECTOR,
		/* emulated */
		INTERCEPT_CPUID, INTERCEPT_HLT, INTERCEPT_IOIO_PROT, INTERCEPT_MSR_PROT, INTERCEPT_RDPMC,
		INTERCEPT_CR8_READ, INTERCEPT_CR8_WRITE, INTERCEPT_XSETBV, INTERCEPT_SHUTDOWN,
		/* they act on the whole processor */
		INTERCEPT_INVD, INTERCEPT_WBINVD, INTERCEPT_MONITOR, INTERCEPT_MWAIT,
		/* the guest has no such thing */
		INTERCEPT_VMRUN, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD, INTERCEPT_VMSAVE, INTERCEPT_STGI,
		INTERCEPT_CLGI, INTERCEPT_SKINIT, INTERCEPT_INVLPGA, INTERCEPT_RSM, INTERCEPT_RDPRU,
	};
	struct vmcb_control_area *control = &vmcb->control;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(always); i++)
		intercept(control, always[i], true);
	control->iopm_base_pa = __pa(io_bits);
	control->msrpm_base_pa = __pa(msr_bits);
	control->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	control->nested_cr3 = __pa(machine->root);
}

static void svm_cpu_destroy(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;

	free_page((unsigned long)v->vmcb);
	free_page((unsigned long)v->xsave);
	kfree(v);
}

/* The vector registers' initial state. */
static void xsave_init(void *area)
{
	*(u16 *)area = 0x37f;
	*(u32 *)(area + MXCSR_OFFSET) = 0x1f80;
}

static int svm_cpu_create(struct rs_cpu *cpu)
{
	struct svm_cpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return -ENOMEM;
	cpu->vendor = v;
	v->vmcb = (struct vmcb *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	v->xsave = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->vmcb || !v->xsave)
		return -ENOMEM;
	v->last_cpu = -1;
	xsave_init(v->xsave);
	vmcb_init(v->vmcb, cpu->machine);
	return 0;
}

/* --- the state, in and out --- */

static void segment_in(struct vmcb_seg *to, const struct ringside_segment *from)
{
	to->base = from->base;
	to->limit = from->limit;
	to->selector = from->selector;
	to->attrib = from->attributes & 0xfff;
}

static void segment_out(struct ringside_segment *to, const struct vmcb_seg *from)
{
	to->base = from->base;
	to->limit = from->limit;
	to->selector = from->selector;
	to->attributes = from->attrib;
}

static void segments_of(struct vmcb_save_area *save, struct vmcb_seg *seg[RINGSIDE_SEGMENTS])
{
	seg[RINGSIDE_ES] = &save->es;
	seg[RINGSIDE_CS] = &save->cs;
	seg[RINGSIDE_SS] = &save->ss;
	seg[RINGSIDE_DS] = &save->ds;
	seg[RINGSIDE_FS] = &save->fs;
	seg[RINGSIDE_GS] = &save->gs;
	seg[RINGSIDE_LDTR] = &save->ldtr;
	seg[RINGSIDE_TR] = &save->tr;
}

static void save_in(struct vmcb_save_area *save, const struct ringside_state *s)
{
	struct vmcb_seg *seg[RINGSIDE_SEGMENTS];
	unsigned int i;

	segments_of(save, seg);
	for (i = 0; i < RINGSIDE_SEGMENTS; i++)
		segment_in(seg[i], &s->seg[i]);
	save->gdtr.base = s->gdtr_base;
	save->gdtr.limit = s->gdtr_limit & 0xffff;
	save->idtr.base = s->idtr_base;
	save->idtr.limit = s->idtr_limit & 0xffff;
	save->cpl = s->cpl & 3;
	save->efer = (s->efer & EFER_GUEST) | EFER_SVME;
	save->cr0 = s->cr0;
	save->cr2 = s->cr2;
	save->cr3 = s->cr3;
	save->cr4 = s->cr4;
	save->dr6 = s->dr6;
	save->dr7 = s->dr7;
	save->rflags = s->rflags;
	save->rip = s->rip;
	save->star = s->star;
	save->lstar = s->lstar;
	save->cstar = s->cstar;
	save->sfmask = s->fmask;
	save->kernel_gs_base = s->kernel_gs_base;
	save->sysenter_cs = s->sysenter_cs;
	save->sysenter_esp = s->sysenter_esp;
	save->sysenter_eip = s->sysenter_eip;
	save->g_pat = s->pat;
	save->dbgctl = 0;
}

static void save_out(struct vmcb_save_area *save, struct ringside_state *s)
{
	struct vmcb_seg *seg[RINGSIDE_SEGMENTS];
	unsigned int i;

	segments_of(save, seg);
	for (i = 0; i < RINGSIDE_SEGMENTS; i++)
		segment_out(&s->seg[i], seg[i]);
	s->gdtr_base = save->gdtr.base;
	s->gdtr_limit = save->gdtr.limit;
	s->idtr_base = save->idtr.base;
	s->idtr_limit = save->idtr.limit;
	s->cpl = save->cpl;
	s->efer = save->efer & ~EFER_SVME;
	s->cr0 = save->cr0;
	s->cr2 = save->cr2;
	s->cr3 = save->cr3;
	s->cr4 = save->cr4;
	s->dr6 = save->dr6;
	s->dr7 = save->dr7;
	s->rflags = save->rflags;
	s->rip = save->rip;
	s->star = save->star;
	s->lstar = save->lstar;
	s->cstar = save->cstar;
	s->fmask = save->sfmask;
	s->kernel_gs_base = save->kernel_gs_base;
	s->sysenter_cs = save->sysenter_cs;
	s->sysenter_esp = save->sysenter_esp;
	s->sysenter_eip = save->sysenter_eip;
	s->pat = save->g_pat;
}

/* What XRSTOR could refuse is put right: it may not fault. */
static void xsave_in(struct svm_cpu *v, const struct ringside_run *run)
{
	u64 *header = v->xsave + XSAVE_HEADER;

	memcpy(v->xsave, run->xsave, RINGSIDE_XSAVE_SIZE);
	*(u32 *)(v->xsave + MXCSR_OFFSET) &= MXCSR_BITS;
	header[0] &= boot_cpu_has(X86_FEATURE_AVX) ? 7 : 3;
	memset(header + 1, 0, 56);
}

/* XSETBV may not fault either. */
static u64 xcr0_fit(u64 wanted)
{
	u64 xcr0 = (wanted & (boot_cpu_has(X86_FEATURE_AVX) ? 7 : 3)) | 1;

	return xcr0 & 4 && !(xcr0 & 2) ? xcr0 & ~4ull : xcr0;
}

static void state_in(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct ringside_run *run = cpu->run;
	struct vmcb_control_area *control = &v->vmcb->control;
	const struct ringside_state *s = &run->state;
	u32 flags = READ_ONCE(run->flags);
	unsigned int i;

	save_in(&v->vmcb->save, s);
	memcpy(v->gpr, s->gpr, sizeof(v->gpr));
	v->vmcb->save.rax = v->gpr[0];
	v->vmcb->save.rsp = v->gpr[4];
	memcpy(v->dr, s->dr, sizeof(v->dr));
	v->dr_used = READ_ONCE(s->dr7) & 0xff;
	v->tsc_aux = (u32)READ_ONCE(s->tsc_aux);
	v->spec_ctrl = READ_ONCE(s->spec_ctrl) & (SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_SSBD);
	v->xcr0 = xcr0_fit(READ_ONCE(s->xcr0));
	v->event = READ_ONCE(run->event);
	if (READ_ONCE(run->xsave_changed)) {
		xsave_in(v, run);
		run->xsave_changed = 0;
	}
	control->tsc_offset = s->tsc_offset;
	control->int_state = READ_ONCE(s->interrupt_shadow) ? SVM_INTERRUPT_SHADOW_MASK : 0;
	for (i = 0; i < 32; i++)
		intercept(control, INTERCEPT_DR0_READ + i, !v->dr_used);
	intercept(control, INTERCEPT_IRET, READ_ONCE(s->nmi_blocked));
	intercept(control, INTERCEPT_RDTSC, flags & RINGSIDE_RUN_EXIT_RDTSC);
	intercept(control, INTERCEPT_RDTSCP, flags & RINGSIDE_RUN_EXIT_RDTSC);
	intercept(control, INTERCEPT_VINTR, flags & RINGSIDE_RUN_WINDOW);
	control->int_ctl = V_INTR_MASKING_MASK |
			   (flags & RINGSIDE_RUN_WINDOW ? V_IRQ_MASK | V_IGN_TPR_MASK : 0);
	control->int_vector = 0;
}

static void state_out(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct ringside_run *run = cpu->run;
	struct ringside_state *s = &run->state;

	save_out(&v->vmcb->save, s);
	v->gpr[0] = v->vmcb->save.rax;
	v->gpr[4] = v->vmcb->save.rsp;
	memcpy(s->gpr, v->gpr, sizeof(v->gpr));
	memcpy(s->dr, v->dr, sizeof(v->dr));
	s->interrupt_shadow = !!(v->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
	run->event = v->event;
	memcpy(run->xsave, v->xsave, RINGSIDE_XSAVE_SIZE);
}

/* --- on a processor --- */

static void vectors_load(struct svm_cpu *v, const struct svm_host *host)
{
	if (!boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		asm volatile("fxrstor64 (%0)" : : "r"(v->xsave) : "memory");
		return;
	}
	asm volatile("xrstor64 (%0)" : : "r"(v->xsave), "a"(7), "d"(0) : "memory");
	if (v->xcr0 != host->xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, v->xcr0);
}

static void vectors_save(struct svm_cpu *v, const struct svm_host *host)
{
	if (!boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		asm volatile("fxsave64 (%0)" : : "r"(v->xsave) : "memory");
		return;
	}
	if (v->xcr0 != host->xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, host->xcr0);
	asm volatile("xsave64 (%0)" : : "r"(v->xsave), "a"(7), "d"(0) : "memory");
}

/* Another round means that all of them were used: old ones are stale, and one flush is for all of them. */
static void asid_take(struct svm_cpu *v, struct svm_host *host)
{
	if (v->last_cpu == smp_processor_id() && v->asid_round == host->asid_round)
		return;
	if (host->asid_next >= host->asid_count) {
		host->asid_round++;
		host->asid_next = 1; /* 0 is the host */
		host->flush = true;
	}
	v->vmcb->control.asid = host->asid_next++;
	v->asid_round = host->asid_round;
	v->last_cpu = smp_processor_id();
}

/* From here on the processor's vectors, XCR0, XSS and TSC_AUX are the guest's; preemption is off. */
static struct svm_host *processor_load(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct svm_host *host;

	kernel_fpu_begin_mask(0);
	host = this_cpu_ptr(&svm_host);
	if (!host->enabled) {
		kernel_fpu_end();
		return NULL;
	}
	if (host->last != cpu->machine) {
		indirect_branch_prediction_barrier();
		host->last = cpu->machine;
	}
	asid_take(v, host);
	asm volatile("vmsave %0" : : "a"(__pa(host->vmcb)) : "memory");
	host->pkru = read_pkru();
	if (host->xss)
		wrmsrl(MSR_IA32_XSS, 0);
	vectors_load(v, host);
	if (has_tsc_aux() && v->tsc_aux != host->tsc_aux)
		wrmsrl(MSR_TSC_AUX, v->tsc_aux);
	return host;
}

static void processor_put(struct svm_cpu *v, struct svm_host *host)
{
	if (has_tsc_aux() && v->tsc_aux != host->tsc_aux)
		wrmsrl(MSR_TSC_AUX, host->tsc_aux);
	vectors_save(v, host);
	if (host->xss)
		wrmsrl(MSR_IA32_XSS, host->xss);
	write_pkru(host->pkru); /* CR4.PKE is the guest's own */
	kernel_fpu_end();
}

static void debug_load(struct svm_cpu *v)
{
	if (!v->dr_used)
		return;
	set_debugreg(v->dr[0], 0);
	set_debugreg(v->dr[1], 1);
	set_debugreg(v->dr[2], 2);
	set_debugreg(v->dr[3], 3);
}

/* The exit has disabled DR7. */
static void debug_save(struct svm_cpu *v)
{
	if (v->dr_used) {
		get_debugreg(v->dr[0], 0);
		get_debugreg(v->dr[1], 1);
		get_debugreg(v->dr[2], 2);
		get_debugreg(v->dr[3], 3);
	}
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
}

static void spec_ctrl_set(u64 from, u64 to)
{
	if (boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL) && from != to)
		wrmsrl_safe(MSR_IA32_SPEC_CTRL, to);
}

/* One turn of the guest; interrupts are off, and are let in right after. */
static void guest_turn(struct svm_cpu *v, struct svm_host *host)
{
	u64 host_spec = 0;

	debug_load(v);
	if (boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL))
		rdmsrl(MSR_IA32_SPEC_CTRL, host_spec);
	asm volatile("clgi");
	spec_ctrl_set(host_spec, v->spec_ctrl | host_spec);
	rs_svm_enter(v->gpr, __pa(v->vmcb), __pa(host->vmcb));
	spec_ctrl_set(v->spec_ctrl | host_spec, host_spec);
	asm volatile("stgi");
	debug_save(v);
}

/* --- exits --- */

/* Software interrupts and exceptions are carried out again, since RIP is still at them. */
static bool event_is_software(u32 info)
{
	u32 vector = info & 0xff;

	return EVENT_TYPE(info) == TYPE_SOFTWARE ||
	       (EVENT_TYPE(info) == TYPE_EXCEPTION && (vector == BP_VECTOR || vector == OF_VECTOR));
}

static void event_in(struct svm_cpu *v)
{
	struct vmcb_control_area *control = &v->vmcb->control;

	control->event_inj = (u32)v->event & 0x80000fff; /* the rest must be 0 */
	control->event_inj_err = v->event >> 32;
	v->event = 0;
}

/* What was being delivered when the exit came. */
static void event_out(struct svm_cpu *v)
{
	struct vmcb_control_area *control = &v->vmcb->control;
	u32 info = control->exit_int_info;

	control->event_inj = 0;
	if (info & SVM_EXITINTINFO_VALID && !event_is_software(info))
		v->event = info | (u64)control->exit_int_info_err << 32;
}

static void io_exit(struct ringside_run *run, const struct vmcb_control_area *control)
{
	u64 info = control->exit_info_1;

	run->exit = RINGSIDE_EXIT_IO;
	run->io.port = info >> 16;
	run->io.size = info >> 4 & 7;
	run->io.in = !!(info & IO_IN);
	run->io.string = !!(info & IO_STRING);
	run->next_rip = control->exit_info_2;
}

static enum next leave(struct ringside_run *run, const struct vmcb_control_area *control, u32 exit)
{
	run->exit = exit;
	run->next_rip = boot_cpu_has(X86_FEATURE_NRIPS) ? control->next_rip : 0;
	return LEAVE;
}

static enum next exit_exception(struct svm_cpu *v, unsigned int vector)
{
	switch (vector) {
	case MC_VECTOR: /* the host's handler does not see it by itself */
		asm volatile("int $18");
		return AGAIN;
	case AC_VECTOR:
		v->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | RINGSIDE_EVENT_ERROR |
			   AC_VECTOR;
		return AGAIN;
	default: /* #DB: DR6 has been set already */
		v->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | DB_VECTOR;
		return AGAIN;
	}
}

/* From now on until the end of this run the guest has them itself. */
static enum next exit_debug_register(struct svm_cpu *v)
{
	unsigned int i;

	v->dr_used = true;
	for (i = 0; i < 32; i++)
		intercept(&v->vmcb->control, INTERCEPT_DR0_READ + i, false);
	return AGAIN;
}

static enum next exit_handle(struct svm_cpu *v, struct ringside_run *run)
{
	struct vmcb_control_area *control = &v->vmcb->control;
	u32 code = control->exit_code;

	if (code >= SVM_EXIT_READ_DR0 && code <= SVM_EXIT_WRITE_DR7 + 8)
		return exit_debug_register(v);
	if (code >= SVM_EXIT_EXCP_BASE && code <= SVM_EXIT_LAST_EXCP)
		return exit_exception(v, code - SVM_EXIT_EXCP_BASE);
	switch (code) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:
	case SVM_EXIT_INIT:
		return AGAIN;
	case SVM_EXIT_NPF:
		return FAULT;
	case SVM_EXIT_IOIO:
		io_exit(run, control);
		return LEAVE;
	case SVM_EXIT_VINTR:
		return leave(run, control, RINGSIDE_EXIT_WINDOW);
	case SVM_EXIT_HLT:
		return leave(run, control, RINGSIDE_EXIT_HLT);
	case SVM_EXIT_SHUTDOWN:
		return leave(run, control, RINGSIDE_EXIT_SHUTDOWN);
	case (u32)SVM_EXIT_ERR:
		return leave(run, control, RINGSIDE_EXIT_REFUSED);
	case SVM_EXIT_CPUID:
	case SVM_EXIT_MSR:
	case SVM_EXIT_RDPMC:
	case SVM_EXIT_READ_CR8:
	case SVM_EXIT_WRITE_CR8:
	case SVM_EXIT_XSETBV:
	case SVM_EXIT_IRET:
	case SVM_EXIT_INVD:
	case SVM_EXIT_WBINVD:
	case SVM_EXIT_MONITOR:
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_RDTSC:
	case SVM_EXIT_RDTSCP:
	case SVM_EXIT_RSM:
	case SVM_EXIT_RDPRU:
	case SVM_EXIT_INVLPGA:
	case SVM_EXIT_VMRUN ... SVM_EXIT_SKINIT:
		return leave(run, control, RINGSIDE_EXIT_INSTRUCTION);
	default:
		run->detail = code;
		return leave(run, control, RINGSIDE_EXIT_UNKNOWN);
	}
}

/* --- the loop --- */

/* An event that is on its way gets in first, so that none is left over when the caller stops the machine. */
static bool wanted_elsewhere(const struct rs_cpu *cpu)
{
	const struct svm_cpu *v = cpu->vendor;

	return !v->event && (signal_pending(current) || test_thread_flag(TIF_NOTIFY_RESUME) ||
			     READ_ONCE(cpu->run->immediate_exit));
}

/* The number is read before the flush, with interrupts off: whoever changes tables interrupts us after counting. */
static void tables_look(struct rs_cpu *cpu, struct svm_host *host)
{
	struct svm_cpu *v = cpu->vendor;
	s64 tables = atomic64_read(&cpu->machine->tables);

	if (v->tables != tables) {
		v->tables = tables;
		host->flush = true;
	}
	v->vmcb->control.tlb_ctl = host->flush ? TLB_CONTROL_FLUSH_ALL_ASID : TLB_CONTROL_DO_NOTHING;
	host->flush = false;
}

/* Guest turns on this processor until something needs the rest of the kernel or the caller. */
static enum next turns(struct rs_cpu *cpu, struct svm_host *host)
{
	struct svm_cpu *v = cpu->vendor;
	enum next next;

	do {
		local_irq_disable();
		if (need_resched() || wanted_elsewhere(cpu)) {
			local_irq_enable();
			return AGAIN;
		}
		tables_look(cpu, host);
		event_in(v);
		current->flags |= PF_VCPU; /* this tick is the guest's */
		guest_turn(v, host);
		local_irq_enable();
		current->flags &= ~PF_VCPU;
		event_out(v);
		next = exit_handle(v, cpu->run);
	} while (next == AGAIN);
	return next;
}

/* 0: goes on; 1: to the caller, who carries out the access; else an error. */
static int fault(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct ringside_run *run = cpu->run;
	u64 gpa = v->vmcb->control.exit_info_2;
	bool write = v->vmcb->control.exit_info_1 & FAULT_WRITE;
	int result = gpa < RINGSIDE_MAX_GPA ? rs_fault(cpu->machine, gpa, write) : 1;

	if (result) {
		run->exit = RINGSIDE_EXIT_MEMORY;
		run->memory.gpa = gpa;
		run->memory.write = write;
	}
	return result;
}

static int svm_loop(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;

	for (;;) {
		struct svm_host *host = processor_load(cpu);
		enum next next;

		if (!host)
			return -EBUSY;
		next = turns(cpu, host);
		processor_put(v, host);
		if (next == LEAVE)
			return 0;
		if (next == FAULT) {
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

static int svm_run(struct rs_cpu *cpu)
{
	int result;

	cpu->run->exit = RINGSIDE_EXIT_NONE;
	cpu->run->next_rip = 0;
	cpu->run->detail = 0;
	state_in(cpu);
	result = svm_loop(cpu);
	state_out(cpu);
	return result;
}

const struct rs_vendor rs_svm = {
	.id = RINGSIDE_VENDOR_AMD,
	.probe = svm_probe,
	.features = svm_features,
	.init = svm_init,
	.exit = svm_exit,
	.enable = svm_enable,
	.disable = svm_disable,
	.cpu_create = svm_cpu_create,
	.cpu_destroy = svm_cpu_destroy,
	.run = svm_run,
};
