// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AMD-V with nested paging (AMD64 Architecture Programmer's Manual, volume 2, chapter 15).
 *
 * The guest has the processor as far as nested paging allows: control registers, page tables, exceptions and most
 * MSRs of SYSCALL and the like are its own. What ends its turn is in vmcb_init(). Extensions that may be missing
 * (next RIP, decode assists, flush by ASID, clean bits) are not needed.
 */
#include <linux/cpu.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/svm.h>

#include "ringside.h"

#define VM_CR_SVMDIS BIT_ULL(4)
#define FAULT_WRITE BIT_ULL(1) /* exit_info_1 of SVM_EXIT_NPF */
#define IO_IN BIT_ULL(0)
#define IO_STRING BIT_ULL(2)
#define PAT_RESET 0x0007040600070406ull
/* Of the nested page tables: present, writable, user (as all of a guest's accesses are here), accessed, dirty. */
#define ENTRY_TABLE 0x27ull
#define ENTRY_PAGE 0x65ull
#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_LMA | EFER_NX | EFER_FFXSR)

struct svm_cpu {
	struct vmcb *vmcb;
	u64 asid_round;
	bool interrupt; /* of this turn: an event is in as a virtual interrupt */
};

/* Of a physical CPU. */
struct svm_host {
	struct page *save_area; /* VMRUN's */
	struct vmcb *vmcb;      /* VMSAVE's, of the host */
	u64 asid_round;         /* grows when all ASIDs have been used */
	u32 asid_next, asid_count;
	bool flush; /* before the next guest's turn */
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

static bool svm_large(void)
{
	return true;
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
	return 0;
}

static void svm_disable(void)
{
	u64 efer;

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
	kfree(v);
}

static int svm_cpu_create(struct rs_cpu *cpu)
{
	struct svm_cpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return -ENOMEM;
	cpu->vendor = v;
	v->vmcb = (struct vmcb *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->vmcb)
		return -ENOMEM;
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

static bool svm_state_in(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct ringside_run *run = cpu->run;
	struct rs_guest *g = &cpu->guest;
	struct vmcb_control_area *control = &v->vmcb->control;
	const struct ringside_state *s = &run->state;
	u32 flags = READ_ONCE(run->flags);
	unsigned int i;

	save_in(&v->vmcb->save, s);
	v->vmcb->save.rax = g->gpr[0];
	v->vmcb->save.rsp = g->gpr[4];
	control->tsc_offset = s->tsc_offset;
	control->int_state = READ_ONCE(s->interrupt_shadow) ? SVM_INTERRUPT_SHADOW_MASK : 0;
	for (i = 0; i < 32; i++)
		intercept(control, INTERCEPT_DR0_READ + i, !g->dr_used);
	intercept(control, INTERCEPT_IRET, READ_ONCE(s->nmi_blocked));
	intercept(control, INTERCEPT_RDTSC, flags & RINGSIDE_RUN_EXIT_RDTSC);
	intercept(control, INTERCEPT_RDTSCP, flags & RINGSIDE_RUN_EXIT_RDTSC);
	intercept(control, INTERCEPT_VINTR, flags & RINGSIDE_RUN_WINDOW);
	control->int_ctl = V_INTR_MASKING_MASK |
			   (flags & RINGSIDE_RUN_WINDOW ? V_IRQ_MASK | V_IGN_TPR_MASK : 0);
	control->int_vector = 0;
	return true;
}

static void svm_state_out(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct ringside_state *s = &cpu->run->state;

	save_out(&v->vmcb->save, s);
	cpu->guest.gpr[0] = v->vmcb->save.rax;
	cpu->guest.gpr[4] = v->vmcb->save.rsp;
	s->interrupt_shadow = !!(v->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
}

/* --- on a processor --- */

/* Another round means that all of them were used: old ones are stale, and one flush is for all of them. */
static void asid_take(struct rs_cpu *cpu, struct svm_host *host)
{
	struct svm_cpu *v = cpu->vendor;

	if (cpu->guest.last_cpu == smp_processor_id() && v->asid_round == host->asid_round)
		return;
	if (host->asid_next >= host->asid_count) {
		host->asid_round++;
		host->asid_next = 1; /* 0 is the host */
		host->flush = true;
	}
	v->vmcb->control.asid = host->asid_next++;
	v->asid_round = host->asid_round;
}

static bool svm_load(struct rs_cpu *cpu)
{
	struct svm_host *host = this_cpu_ptr(&svm_host);

	asid_take(cpu, host);
	asm volatile("vmsave %0" : : "a"(__pa(host->vmcb)) : "memory");
	return true;
}

/* Each turn brings the host's state back. */
static void svm_put(struct rs_cpu *cpu)
{
}

/* An interrupt that the guest takes at once, with no window asked for behind it. */
static bool event_is_virtual(const struct rs_guest *g, const struct vmcb *vmcb)
{
	return (g->event & 0x80000700) == RINGSIDE_EVENT_VALID && vmcb->save.rflags & X86_EFLAGS_IF &&
	       !(vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK) && !(vmcb->control.int_ctl & V_IRQ_MASK);
}

/*
 * Interrupts go in as virtual ones where that comes to the same: QEMU 7.2's TCG may deliver injected ones twice (it keeps the
 * vector in its exception_index).
 */
static void event_in(struct rs_guest *g, struct svm_cpu *v)
{
	struct vmcb_control_area *control = &v->vmcb->control;

	v->interrupt = event_is_virtual(g, v->vmcb);
	if (v->interrupt) {
		control->int_ctl |= V_IRQ_MASK | V_IGN_TPR_MASK;
		control->int_vector = g->event & 0xff;
	} else {
		control->event_inj = (u32)g->event & 0x80000fff; /* the rest must be 0 */
		control->event_inj_err = g->event >> 32;
	}
	g->event = 0;
}

/* Whether it was taken, or the turn ended before. TCG leaves it there, too, if the turn ended on the way, and then tells of an exception. */
static void event_out(struct rs_guest *g, struct svm_cpu *v)
{
	struct vmcb_control_area *control = &v->vmcb->control;

	control->event_inj = 0;
	if (!v->interrupt)
		return;
	if (control->int_ctl & V_IRQ_MASK)
		g->event = RINGSIDE_EVENT_VALID | (control->int_vector & 0xff);
	control->int_ctl &= ~(V_IRQ_MASK | V_IGN_TPR_MASK);
}

static void svm_enter(struct rs_cpu *cpu, bool stale)
{
	struct svm_host *host = this_cpu_ptr(&svm_host);
	struct svm_cpu *v = cpu->vendor;
	struct vmcb_control_area *control = &v->vmcb->control;
	u64 spec_ctrl;

	control->tlb_ctl = host->flush || stale ? TLB_CONTROL_FLUSH_ALL_ASID : TLB_CONTROL_DO_NOTHING;
	host->flush = false;
	event_in(&cpu->guest, v);
	rs_debug_load(&cpu->guest);
	asm volatile("clgi");
	spec_ctrl = rs_spec_ctrl_load(&cpu->guest);
	rs_svm_enter(cpu->guest.gpr, __pa(v->vmcb), __pa(host->vmcb));
	rs_spec_ctrl_restore(&cpu->guest, spec_ctrl);
	asm volatile("stgi");
	rs_debug_save(&cpu->guest);
}

/* --- exits --- */

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

static enum rs_next leave(struct ringside_run *run, const struct vmcb_control_area *control, u32 exit)
{
	run->exit = exit;
	run->next_rip = boot_cpu_has(X86_FEATURE_NRIPS) ? control->next_rip : 0;
	return RS_LEAVE;
}

/* From now on until the end of this run the guest has them itself. */
static enum rs_next exit_debug_register(struct rs_guest *g, struct vmcb_control_area *control)
{
	unsigned int i;

	g->dr_used = true;
	for (i = 0; i < 32; i++)
		intercept(control, INTERCEPT_DR0_READ + i, false);
	return RS_AGAIN;
}

static enum rs_next exit_fault(struct rs_guest *g, const struct vmcb_control_area *control)
{
	g->fault_gpa = control->exit_info_2;
	g->fault_write = control->exit_info_1 & FAULT_WRITE;
	return RS_FAULT;
}

static enum rs_next exit_handle(struct rs_cpu *cpu, struct vmcb_control_area *control)
{
	struct ringside_run *run = cpu->run;
	u32 code = control->exit_code;

	if (code >= SVM_EXIT_READ_DR0 && code <= SVM_EXIT_WRITE_DR7 + 8)
		return exit_debug_register(&cpu->guest, control);
	if (code >= SVM_EXIT_EXCP_BASE && code <= SVM_EXIT_LAST_EXCP) {
		rs_exit_exception(&cpu->guest, code - SVM_EXIT_EXCP_BASE);
		return RS_AGAIN;
	}
	switch (code) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:
	case SVM_EXIT_INIT:
		return RS_AGAIN;
	case SVM_EXIT_NPF:
		return exit_fault(&cpu->guest, control);
	case SVM_EXIT_IOIO:
		io_exit(run, control);
		return RS_LEAVE;
	case SVM_EXIT_VINTR:
		return leave(run, control, RINGSIDE_EXIT_WINDOW);
	case SVM_EXIT_HLT:
		return leave(run, control, RINGSIDE_EXIT_HLT);
	case SVM_EXIT_SHUTDOWN:
		return leave(run, control, RINGSIDE_EXIT_SHUTDOWN);
	case (u32)SVM_EXIT_ERR:
		return leave(run, control, RINGSIDE_EXIT_REFUSED);
	case SVM_EXIT_CPUID:
		run->detail = RINGSIDE_DETAIL_CPUID;
		return leave(run, control, RINGSIDE_EXIT_INSTRUCTION);
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

static enum rs_next svm_exited(struct rs_cpu *cpu)
{
	struct svm_cpu *v = cpu->vendor;
	struct vmcb_control_area *control = &v->vmcb->control;

	rs_event_interrupted(&cpu->guest, control->exit_int_info, control->exit_int_info_err);
	event_out(&cpu->guest, v);
	return exit_handle(cpu, control);
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
	.state_in = svm_state_in,
	.state_out = svm_state_out,
	.load = svm_load,
	.put = svm_put,
	.enter = svm_enter,
	.exited = svm_exited,
	.entry_table = ENTRY_TABLE,
	.entry_page = ENTRY_PAGE,
	.large = svm_large,
};
