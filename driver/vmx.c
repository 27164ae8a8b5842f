// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VT-x with EPT and unrestricted guests (Intel SDM, volume 3, chapters 24 to 29).
 *
 * As with AMD-V, the guest has the processor as far as that goes. Its VMCS is loaded for a run of turns and cleared
 * behind them, so that between runs no processor holds any of it: nothing is to be fetched from other processors when a
 * CPU moves, goes offline or ends. There are no VPIDs: each entry and exit flushes the linear mappings.
 */
#include <linux/cpu.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/asm.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/io.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/traps.h>

#include "vmx.h"

#define MISC_SAVES_LMA BIT_ULL(5) /* an exit stores EFER.LMA in the entry controls */
#define NEEDED_EPT (VMX_EPT_PAGE_WALK_4_BIT | VMX_EPTP_WB_BIT | VMX_EPT_INVEPT_BIT | VMX_EPT_EXTENT_CONTEXT_BIT | \
		    VMX_EPT_EXTENT_GLOBAL_BIT)
#define EPTP_BITS (VMX_EPTP_MT_WB | VMX_EPTP_PWL_4)
/* Pages are write-back whatever the guest's page tables and MTRRs say: all of its memory is the host's ordinary memory. */
#define EPT_TABLE VMX_EPT_RWX_MASK
#define EPT_PAGE (VMX_EPT_READABLE_MASK | VMX_EPT_EXECUTABLE_MASK | VMX_EPTP_MT_WB << VMX_EPT_MT_EPTE_SHIFT | \
		  VMX_EPT_IPAT_BIT)
#define IO_SIZE 7
#define IO_IN BIT(3)
#define IO_STRING BIT(4)
#define FAULT_WRITE BIT(1)   /* exit qualification of an EPT violation */
#define FAULT_UNBLOCKED BIT(12)
#define DEBUG_REASONS 0x600fu /* of DR6, in the exit qualification */
#define DR7_GD BIT(13)
#define RIGHT_L BIT(13)
/* Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
#define WITH_ERROR (BIT(8) | BIT(10) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(17))
#define EVENT_TYPE(event) ((event) & INTR_INFO_INTR_TYPE_MASK)

/* Of a physical CPU. */
struct vmx_host {
	void *vmxon; /* its region */
	u64 msr[VMX_SWITCHED];
};

static DEFINE_PER_CPU(struct vmx_host, vmx_host);
static unsigned long msr_bits; /* permission map, the same for all guests */
/* Bochs 2.7 holds interrupts back from a guest that is entered with RFLAGS.IF clear, until that changes; with this, turns
 * end by themselves. Processors need no such thing. */
static unsigned int turn_limit;
module_param(turn_limit, uint, 0444);
MODULE_PARM_DESC(turn_limit, "VT-x: ticks of the preemption timer after which a guest's turn ends (0: it need not; for emulators)");

static u32 revision, pin, primary, secondary, exits, entries;
static bool large; /* EPT has pages of 2 MiB */
u64 vmx_cr4_owned;

const u32 vmx_switched[VMX_SWITCHED] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE };
#define KERNEL_GS (VMX_SWITCHED - 1)

bool rs_vmx_enter(u64 registers[16], bool launched);
extern const u8 rs_vmx_exit[];

/* --- instructions --- */

/* 0, or -EBUSY: refused, or #GP (firmware, or tracing that does not go with it). */
static int vmxon(u64 address)
{
	asm goto("1: vmxon %0\n\tjbe %l1\n" _ASM_EXTABLE(1b, %l1)
		 : : "m"(address) : "cc", "memory" : failed);
	return 0;
failed:
	return -EBUSY;
}

static void vmclear(const void *vmcs)
{
	u64 address = __pa(vmcs);

	asm volatile("vmclear %0" : : "m"(address) : "cc", "memory");
}

static bool vmptrld(const void *vmcs)
{
	u64 address = __pa(vmcs);
	bool failed;

	asm volatile("vmptrld %1\n\tsetbe %0" : "=qm"(failed) : "m"(address) : "cc", "memory");
	return !failed;
}

static void invept(unsigned long extent, u64 eptp)
{
	struct {
		u64 eptp, zero;
	} operand = { eptp, 0 };

	asm volatile("invept %0, %1" : : "m"(operand), "r"(extent) : "cc", "memory");
}

/* --- the hardware --- */

/* Controls that are needed and wanted, out of what a capability MSR allows; false: a needed one is missing. */
static bool controls_choose(u32 msr, u32 needed, u32 wanted, u32 *chosen)
{
	u64 allowed;

	if (rdmsrl_safe(msr, &allowed))
		return false;
	*chosen = ((needed | wanted) & (u32)(allowed >> 32)) | (u32)allowed;
	return (*chosen & needed) == needed;
}

static bool controls_find(void)
{
	return controls_choose(MSR_IA32_VMX_TRUE_PINBASED_CTLS,
			       PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS,
			       turn_limit ? PIN_BASED_VMX_PREEMPTION_TIMER : 0, &pin) &&
	       controls_choose(MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
			       CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING |
			       CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING | CPU_BASED_CR8_LOAD_EXITING |
			       CPU_BASED_CR8_STORE_EXITING | CPU_BASED_UNCOND_IO_EXITING |
			       CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
			       0, &primary) &&
	       controls_choose(MSR_IA32_VMX_PROCBASED_CTLS2,
			       SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST |
			       SECONDARY_EXEC_WBINVD_EXITING,
			       SECONDARY_EXEC_ENABLE_RDTSCP | SECONDARY_EXEC_ENABLE_INVPCID |
			       SECONDARY_EXEC_ENCLS_EXITING,
			       &secondary) &&
	       controls_choose(MSR_IA32_VMX_TRUE_EXIT_CTLS,
			       VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_DEBUG_CONTROLS | VM_EXIT_LOAD_IA32_PAT |
			       VM_EXIT_SAVE_IA32_EFER | VM_EXIT_LOAD_IA32_EFER,
			       0, &exits) &&
	       controls_choose(MSR_IA32_VMX_TRUE_ENTRY_CTLS,
			       VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_PAT | VM_ENTRY_LOAD_IA32_EFER,
			       0, &entries);
}

static int lacking(const char *what)
{
	pr_info("ringside: this processor's VT-x has no %s\n", what);
	return -ENODEV;
}

/* Locked by the firmware, or by the kernel when it started. */
static bool enabled_in_firmware(void)
{
	const u64 needed = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
	u64 control;

	return !rdmsrl_safe(MSR_IA32_FEAT_CTL, &control) && (control & needed) == needed;
}

static int vmx_probe(void)
{
	u64 basic, misc, ept;

	if (!(cpuid_ecx(1) & BIT(5)))
		return -ENODEV;
	if (!enabled_in_firmware())
		return -EOPNOTSUPP;
	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	rdmsrl(MSR_IA32_VMX_MISC, misc);
	if (!(basic & VMX_BASIC_TRUE_CTLS) ||
	    (basic & VMX_BASIC_MEM_TYPE_MASK) >> VMX_BASIC_MEM_TYPE_SHIFT != VMX_BASIC_MEM_TYPE_WB)
		return lacking("flexible controls");
	if (!controls_find() || !(misc & MISC_SAVES_LMA))
		return lacking("EPT with unrestricted guests");
	if (rdmsrl_safe(MSR_IA32_VMX_EPT_VPID_CAP, &ept) || (ept & NEEDED_EPT) != NEEDED_EPT)
		return lacking("EPT with four levels, write-back memory and INVEPT");
	large = ept & VMX_EPT_2MB_PAGE_BIT;
	revision = basic & 0x7fffffff;
	rdmsrl(MSR_IA32_VMX_CR4_FIXED1, vmx_cr4_owned);
	vmx_cr4_owned &= CR4_OWNED;
	return 0;
}

static u32 vmx_features(void)
{
	return RINGSIDE_HAS_NEXT_RIP | (boot_cpu_has(X86_FEATURE_OSXSAVE) ? RINGSIDE_HAS_XSAVE : 0);
}

static bool vmx_large(void)
{
	return large;
}

static int vmx_enable(void)
{
	struct vmx_host *host = this_cpu_ptr(&vmx_host);
	unsigned int i;

	if (!enabled_in_firmware())
		return -EOPNOTSUPP;
	if (__read_cr4() & X86_CR4_VMXE)
		return -EBUSY;
	cr4_set_bits(X86_CR4_VMXE);
	if (vmxon(__pa(host->vmxon))) {
		cr4_clear_bits(X86_CR4_VMXE);
		return -EBUSY;
	}
	invept(VMX_EPT_EXTENT_GLOBAL, 0); /* what others left */
	for (i = 0; i < VMX_SWITCHED; i++)
		rdmsrl(vmx_switched[i], host->msr[i]);
	return 0;
}

static void vmx_disable(void)
{
	asm volatile("vmxoff" : : : "cc", "memory");
	cr4_clear_bits(X86_CR4_VMXE);
}

/* A bit an MSR: 400h bytes each for reads of the low and the high range, then for writes; what is clear does not exit. */
static void msr_allow(u32 msr)
{
	u32 bit = (msr & 0x1fff) + (msr >= 0xc0000000 ? 0x400 * 8 : 0);

	__clear_bit(bit, (unsigned long *)msr_bits);
	__clear_bit(bit + 0x800 * 8, (unsigned long *)msr_bits);
}

static int msr_bits_init(void)
{
	/* Besides the switched ones, those that the VMCS has. */
	static const u32 own[] = { MSR_FS_BASE, MSR_GS_BASE, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP,
				   MSR_IA32_SYSENTER_EIP };
	unsigned int i;

	msr_bits = __get_free_page(GFP_KERNEL);
	if (!msr_bits)
		return -ENOMEM;
	memset((void *)msr_bits, 0xff, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(own); i++)
		msr_allow(own[i]);
	for (i = 0; i < VMX_SWITCHED; i++)
		msr_allow(vmx_switched[i]);
	return 0;
}

static void vmx_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu_ptr(&vmx_host, cpu)->vmxon);
	free_page(msr_bits);
}

/* VMXON's region and a VMCS begin alike. */
static void *region_alloc(gfp_t flags)
{
	u32 *region = (u32 *)get_zeroed_page(flags);

	if (region)
		*region = revision;
	return region;
}

static int vmx_init(void)
{
	int cpu, error = msr_bits_init();

	for_each_possible_cpu(cpu) {
		struct vmx_host *host = per_cpu_ptr(&vmx_host, cpu);

		host->vmxon = region_alloc(GFP_KERNEL);
		if (!host->vmxon)
			error = -ENOMEM;
	}
	if (error)
		vmx_exit();
	return error;
}

/* --- a CPU --- */

static void vmx_cpu_destroy(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;

	free_page((unsigned long)v->vmcs);
	kfree(v);
}

static int vmx_cpu_create(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return -ENOMEM;
	cpu->vendor = v;
	v->vmcs = region_alloc(GFP_KERNEL_ACCOUNT);
	if (!v->vmcs)
		return -ENOMEM;
	v->controls = primary;
	v->eptp = __pa(cpu->machine->root) | EPTP_BITS;
	return 0;
}

/* What stays as it is for the VMCS's life. All that an entry looks at is written: a VMCS's contents begin as anything. */
static void vmcs_init(const struct vmx_cpu *v)
{
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, pin);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, secondary);
	vmwrite(VM_EXIT_CONTROLS, exits);
	vmwrite(VM_ENTRY_CONTROLS, entries);
	vmwrite(EPT_POINTER, v->eptp);
	vmwrite(MSR_BITMAP, __pa(msr_bits));
	/* #MC is the host's; delivery of #AC and #DB could go on for ever without an interrupt being taken. */
	vmwrite(EXCEPTION_BITMAP, BIT(X86_TRAP_MC) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_DB));
	if (pin & PIN_BASED_VMX_PREEMPTION_TIMER)
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, turn_limit);
	if (secondary & SECONDARY_EXEC_ENCLS_EXITING)
		vmwrite(ENCLS_EXITING_BITMAP, ~0ull);
	vmwrite(CR0_GUEST_HOST_MASK, CR0_NOT_OWNED);
	vmwrite(CR4_GUEST_HOST_MASK, ~vmx_cr4_owned);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
}

/* The host as the exit finds it, as far as it is the same whenever we are on this processor. */
static void vmcs_host(void)
{
	struct desc_ptr table;
	u64 value;

	vmwrite(HOST_RIP, (unsigned long)rs_vmx_exit);
	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CS_SELECTOR, __KERNEL_CS);
	vmwrite(HOST_SS_SELECTOR, __KERNEL_DS);
	vmwrite(HOST_DS_SELECTOR, 0);
	vmwrite(HOST_ES_SELECTOR, 0);
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	vmwrite(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(smp_processor_id())->tss.x86_tss);
	native_store_gdt(&table);
	vmwrite(HOST_GDTR_BASE, table.address);
	store_idt(&table);
	vmwrite(HOST_IDTR_BASE, table.address);
	rdmsrl(MSR_GS_BASE, value);
	vmwrite(HOST_GS_BASE, value);
	rdmsrl(MSR_IA32_SYSENTER_CS, value);
	vmwrite(HOST_IA32_SYSENTER_CS, value);
	rdmsrl(MSR_IA32_SYSENTER_ESP, value);
	vmwrite(HOST_IA32_SYSENTER_ESP, value);
	rdmsrl(MSR_IA32_SYSENTER_EIP, value);
	vmwrite(HOST_IA32_SYSENTER_EIP, value);
	rdmsrl(MSR_EFER, value);
	vmwrite(HOST_IA32_EFER, value);
	rdmsrl(MSR_IA32_CR_PAT, value);
	vmwrite(HOST_IA32_PAT, value);
}

/* --- on a processor --- */

/* Exits leave the data segments' selectors and LDTR null. In the kernel nobody looks at them; the process's come back. */
static void segments_save(struct vmx_cpu *v)
{
	savesegment(fs, v->fs);
	savesegment(gs, v->gs);
	savesegment(ds, v->ds);
	savesegment(es, v->es);
	asm volatile("sldt %0" : "=m"(v->ldt));
	rdmsrl(MSR_FS_BASE, v->fs_base);
	vmwrite(HOST_FS_BASE, v->fs_base);
}

static void segments_restore(struct vmx_cpu *v)
{
	if (v->ldt)
		asm volatile("lldt %0" : : "m"(v->ldt));
	if (v->ds | v->es) {
		loadsegment(ds, v->ds);
		loadsegment(es, v->es);
	}
	if (v->fs) {
		loadsegment(fs, v->fs);
		wrmsrl(MSR_FS_BASE, v->fs_base);
	}
	if (v->gs)
		load_gs_index(v->gs);
}

/* They also leave GDTR's and TR's limits at fixed values. */
static void limits_restore(void)
{
	struct desc_ptr gdt;

	native_store_gdt(&gdt);
	gdt.size = GDT_SIZE - 1;
	native_load_gdt(&gdt);
	invalidate_tss_limit();
}

static void msrs_load(struct vmx_cpu *v)
{
	unsigned int i;

	rdmsrl(MSR_KERNEL_GS_BASE, v->host_kernel_gs_base);
	for (i = 0; i < VMX_SWITCHED; i++)
		wrmsrl(vmx_switched[i], v->msr[i]);
}

static void msrs_put(struct vmx_cpu *v)
{
	const struct vmx_host *host = this_cpu_ptr(&vmx_host);
	unsigned int i;

	for (i = 0; i < VMX_SWITCHED; i++) {
		rdmsrl(vmx_switched[i], v->msr[i]);
		wrmsrl(vmx_switched[i], i == KERNEL_GS ? v->host_kernel_gs_base : host->msr[i]);
	}
}

/* L1TF: what the host had in the first-level cache, the guest could find by page table entries of its own. */
static void cache_flush(void)
{
	if (boot_cpu_has_bug(X86_BUG_L1TF) && boot_cpu_has(X86_FEATURE_FLUSH_L1D))
		wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
}

static bool vmx_load(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;

	if (!v->ready)
		vmclear(v->vmcs);
	if (!vmptrld(v->vmcs))
		return false;
	if (!v->ready)
		vmcs_init(v);
	v->ready = true;
	if (cpu->guest.last_cpu != smp_processor_id()) {
		vmcs_host();
		v->flush = true;
	}
	v->cr3_written = v->cr4_written = 0;
	v->controls_written = 0;
	v->launched = false;
	if (v->changed)
		vmx_state_write(cpu, __read_cr4(), vmx_cr4_owned);
	segments_save(v);
	msrs_load(v);
	cache_flush();
	return true;
}

static void vmx_put(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;

	vmx_state_read(cpu, vmx_cr4_owned);
	vmclear(v->vmcs);
	segments_restore(v);
	msrs_put(v); /* after GS's selector, which changes one */
	limits_restore();
	if (cpu->guest.dr_used)
		set_debugreg(DR6_RESERVED, 6);
}

/* --- a turn --- */

/* Whether there is an error code is told by the vector, and by the mode; an entry wants it so. */
static void event_in(struct rs_guest *g)
{
	u32 info = (u32)g->event & (INTR_INFO_VALID_MASK | INTR_INFO_INTR_TYPE_MASK | INTR_INFO_VECTOR_MASK);

	if (!(info & INTR_INFO_VALID_MASK))
		info = 0;
	if (info && EVENT_TYPE(info) == INTR_TYPE_HARD_EXCEPTION && (info & 0xff) < 32 &&
	    BIT(info & 31) & WITH_ERROR && vmread(GUEST_CR0) & X86_CR0_PE) {
		info |= INTR_INFO_DELIVER_CODE_MASK;
		vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, g->event & RINGSIDE_EVENT_ERROR ? g->event >> 32 & 0x7fff : 0);
	}
	if (info && EVENT_TYPE(info) == INTR_TYPE_NMI_INTR) /* its delivery blocks the next one */
		vmwrite(GUEST_INTERRUPTIBILITY_INFO,
			vmread(GUEST_INTERRUPTIBILITY_INFO) & ~(u64)GUEST_INTR_STATE_NMI);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
	g->event = 0;
}

/* What changes between turns. */
static void host_write(struct vmx_cpu *v)
{
	u64 cr3 = __read_cr3(), cr4 = __read_cr4();

	if (v->cr3_written != cr3)
		vmwrite(HOST_CR3, cr3);
	if (v->cr4_written != cr4)
		vmwrite(HOST_CR4, cr4);
	if (v->controls_written != v->controls)
		vmwrite(CPU_BASED_VM_EXEC_CONTROL, v->controls);
	v->cr3_written = cr3;
	v->cr4_written = cr4;
	v->controls_written = v->controls;
}

/* MDS and its kind: what the host left in the processor's buffers. */
static void buffers_clear(void)
{
	static const u16 selector = __KERNEL_DS;

	if (boot_cpu_has(X86_FEATURE_MD_CLEAR))
		asm volatile("verw %0" : : "m"(selector) : "cc");
}

static void debug_load(struct rs_guest *g, const struct vmx_cpu *v)
{
	rs_debug_load(g);
	if (g->dr_used)
		set_debugreg(v->dr6, 6);
}

static void debug_save(struct rs_guest *g, struct vmx_cpu *v)
{
	unsigned long dr6;

	if (g->dr_used) {
		get_debugreg(dr6, 6);
		v->dr6 = dr6;
	}
	rs_debug_save(g);
}

/* The switch itself, with what the VMCS does not switch. */
static void guest_turn(struct rs_guest *g, struct vmx_cpu *v)
{
	u64 debugctl, spec_ctrl;

	rdmsrl(MSR_IA32_DEBUGCTLMSR, debugctl);
	debug_load(g, v);
	write_cr2(v->cr2);
	spec_ctrl = rs_spec_ctrl_load(g);
	buffers_clear();
	v->failed = rs_vmx_enter(g->gpr, v->launched);
	rs_spec_ctrl_restore(g, spec_ctrl);
	v->cr2 = read_cr2();
	if (debugctl)
		wrmsrl(MSR_IA32_DEBUGCTLMSR, debugctl);
	debug_save(g, v);
}

static void vmx_enter(struct rs_cpu *cpu, bool stale)
{
	struct vmx_cpu *v = cpu->vendor;
	u32 info;

	if (stale || v->flush)
		invept(VMX_EPT_EXTENT_CONTEXT, v->eptp);
	v->flush = false;
	event_in(&cpu->guest);
	host_write(v);
	guest_turn(&cpu->guest, v);
	if (v->failed)
		return;
	v->launched = true;
	v->reason = vmread(VM_EXIT_REASON);
	if (v->reason != EXIT_REASON_EXCEPTION_NMI)
		return;
	info = vmread(VM_EXIT_INTR_INFO);
	if (EVENT_TYPE(info) == INTR_TYPE_NMI_INTR) /* the host's; others are held back until its handler has returned */
		asm volatile("int $2");
}

/* --- exits --- */

static u64 next_rip(void)
{
	u64 rip = vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LEN);

	return vmread(GUEST_CS_AR_BYTES) & RIGHT_L ? rip : (u32)rip;
}

static enum rs_next leave(struct ringside_run *run, u32 exit)
{
	run->exit = exit;
	if (exit == RINGSIDE_EXIT_HLT || exit == RINGSIDE_EXIT_INSTRUCTION)
		run->next_rip = next_rip();
	return RS_LEAVE;
}

static enum rs_next unknown(struct ringside_run *run, u64 detail)
{
	run->detail = detail;
	return leave(run, RINGSIDE_EXIT_UNKNOWN);
}

static enum rs_next refused(struct ringside_run *run, u64 detail)
{
	run->detail = detail;
	return leave(run, RINGSIDE_EXIT_REFUSED);
}

/* An IRET that has unblocked NMIs and then faulted will be carried out again. */
static void nmi_block_again(bool unblocked)
{
	if (unblocked && !(vmread(IDT_VECTORING_INFO_FIELD) & VECTORING_INFO_VALID_MASK))
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, vmread(GUEST_INTERRUPTIBILITY_INFO) | GUEST_INTR_STATE_NMI);
}

/* The exit comes before the processor sets DR6 and DR7; INT1 counts as carried out. */
static void debug_exception(struct vmx_cpu *v, u32 info)
{
	u64 why = vmread(EXIT_QUALIFICATION);

	if (EVENT_TYPE(info) == INTR_TYPE_PRIV_SW_EXCEPTION) {
		vmwrite(GUEST_RIP, next_rip());
		return;
	}
	v->dr6 = (v->dr6 & ~0xfull) | (why & DEBUG_REASONS);
	vmwrite(GUEST_DR7, vmread(GUEST_DR7) & ~(u64)DR7_GD);
}

static enum rs_next exit_exception(struct rs_cpu *cpu)
{
	u32 info = vmread(VM_EXIT_INTR_INFO), vector = info & INTR_INFO_VECTOR_MASK;

	if (EVENT_TYPE(info) == INTR_TYPE_NMI_INTR)
		return RS_AGAIN;
	nmi_block_again(info & INTR_INFO_UNBLOCK_NMI);
	if (vector == X86_TRAP_DB)
		debug_exception(cpu->vendor, info);
	rs_exit_exception(&cpu->guest, vector);
	return RS_AGAIN;
}

/* From now on until the end of this run the guest has them itself. */
static enum rs_next exit_debug_register(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;

	cpu->guest.dr_used = true;
	v->controls &= ~CPU_BASED_MOV_DR_EXITING;
	return RS_AGAIN;
}

static enum rs_next exit_fault(struct rs_guest *g)
{
	u64 why = vmread(EXIT_QUALIFICATION);

	nmi_block_again(why & FAULT_UNBLOCKED);
	g->fault_gpa = vmread(GUEST_PHYSICAL_ADDRESS);
	g->fault_write = why & FAULT_WRITE;
	return RS_FAULT;
}

static enum rs_next exit_io(struct ringside_run *run)
{
	u64 what = vmread(EXIT_QUALIFICATION);

	run->exit = RINGSIDE_EXIT_IO;
	run->io.port = what >> 16;
	run->io.size = (what & IO_SIZE) + 1;
	run->io.in = !!(what & IO_IN);
	run->io.string = !!(what & IO_STRING);
	run->next_rip = next_rip();
	return RS_LEAVE;
}

/* Task switches always exit. The caller can carry out the instruction, but no event's task gate. */
static enum rs_next exit_task_switch(struct rs_cpu *cpu)
{
	if (cpu->guest.event & RINGSIDE_EVENT_VALID)
		return unknown(cpu->run, EXIT_REASON_TASK_SWITCH);
	return leave(cpu->run, RINGSIDE_EXIT_INSTRUCTION);
}

static enum rs_next exit_handle(struct rs_cpu *cpu, u32 reason)
{
	struct ringside_run *run = cpu->run;

	switch (reason) {
	case EXIT_REASON_EXCEPTION_NMI:
		return exit_exception(cpu);
	case EXIT_REASON_EXTERNAL_INTERRUPT:
	case EXIT_REASON_INIT_SIGNAL:
	case EXIT_REASON_SIPI_SIGNAL:
	case EXIT_REASON_PREEMPTION_TIMER:
		return RS_AGAIN;
	case EXIT_REASON_EPT_VIOLATION:
		return exit_fault(&cpu->guest);
	case EXIT_REASON_IO_INSTRUCTION:
		return exit_io(run);
	case EXIT_REASON_INTERRUPT_WINDOW:
		return leave(run, RINGSIDE_EXIT_WINDOW);
	case EXIT_REASON_NMI_WINDOW: /* after an IRET, which exits on AMD */
		return leave(run, RINGSIDE_EXIT_NONE);
	case EXIT_REASON_HLT:
		return leave(run, RINGSIDE_EXIT_HLT);
	case EXIT_REASON_TRIPLE_FAULT:
		return leave(run, RINGSIDE_EXIT_SHUTDOWN);
	case EXIT_REASON_DR_ACCESS:
		return exit_debug_register(cpu);
	case EXIT_REASON_TASK_SWITCH:
		return exit_task_switch(cpu);
	case EXIT_REASON_CPUID:
		run->detail = RINGSIDE_DETAIL_CPUID;
		return leave(run, RINGSIDE_EXIT_INSTRUCTION);
	case EXIT_REASON_INVD:
	case EXIT_REASON_RDPMC:
	case EXIT_REASON_RDTSC:
	case EXIT_REASON_RDTSCP:
	case EXIT_REASON_CR_ACCESS:
	case EXIT_REASON_MSR_READ:
	case EXIT_REASON_MSR_WRITE:
	case EXIT_REASON_MWAIT_INSTRUCTION:
	case EXIT_REASON_MONITOR_INSTRUCTION:
	case EXIT_REASON_WBINVD:
	case EXIT_REASON_XSETBV:
	case EXIT_REASON_ENCLS:
	case 11: /* GETSEC */
	case 17: /* RSM */
	case EXIT_REASON_VMCALL ... EXIT_REASON_VMON:
	case EXIT_REASON_INVEPT:
	case EXIT_REASON_INVVPID:
	case EXIT_REASON_VMFUNC:
		return leave(run, RINGSIDE_EXIT_INSTRUCTION);
	default:
		return unknown(run, reason);
	}
}

static enum rs_next vmx_exited(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;

	if (v->failed)
		return refused(cpu->run, vmread(VM_INSTRUCTION_ERROR));
	if (v->reason == (VMX_EXIT_REASONS_FAILED_VMENTRY | EXIT_REASON_MCE_DURING_VMENTRY)) {
		rs_exit_exception(&cpu->guest, X86_TRAP_MC);
		return RS_AGAIN;
	}
	if (v->reason & VMX_EXIT_REASONS_FAILED_VMENTRY)
		return refused(cpu->run, v->reason);
	rs_event_interrupted(&cpu->guest, vmread(IDT_VECTORING_INFO_FIELD), vmread(IDT_VECTORING_ERROR_CODE));
	return exit_handle(cpu, v->reason & 0xffff);
}

const struct rs_vendor rs_vmx = {
	.id = RINGSIDE_VENDOR_INTEL,
	.probe = vmx_probe,
	.features = vmx_features,
	.init = vmx_init,
	.exit = vmx_exit,
	.enable = vmx_enable,
	.disable = vmx_disable,
	.cpu_create = vmx_cpu_create,
	.cpu_destroy = vmx_cpu_destroy,
	.state_in = vmx_state_in,
	.state_out = vmx_state_out,
	.load = vmx_load,
	.put = vmx_put,
	.enter = vmx_enter,
	.exited = vmx_exited,
	.entry_table = EPT_TABLE,
	.entry_page = EPT_PAGE,
	.large = vmx_large,
};
