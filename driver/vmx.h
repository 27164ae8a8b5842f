/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the files for VT-x: a guest CPU's VMCS and what is kept beside it.
 */
#ifndef RINGSIDE_VMX_H
#define RINGSIDE_VMX_H

#include <asm/vmx.h>

#include "ringside.h"

/* CR0 and CR4: bits that the guest does not own read as it wrote them and exit when it changes them. */
#define CR0_NOT_OWNED (X86_CR0_NE | X86_CR0_NW | X86_CR0_CD)
#define CR4_OWNED (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | \
		   X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | \
		   X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_SMAP)

#define VMX_SWITCHED 5 /* MSRs that are the guest's from load to put */

struct vmx_cpu {
	void *vmcs;
	bool ready;    /* it has been cleared once and has its controls */
	bool launched; /* since it was loaded */
	bool flush;    /* before the next turn: the processor's entries of these tables may be old */
	/* The caller's state: `changed` until it is in the VMCS, whole after each put. */
	struct ringside_state state;
	bool changed;
	u64 pdpte[4];
	bool pdptes_changed;
	u64 eptp, cr2, dr6;
	u64 msr[VMX_SWITCHED];
	u32 controls, controls_written; /* primary processor-based */
	u64 cr3_written, cr4_written;   /* of the host */
	u32 reason;                     /* of the last exit */
	bool failed;                    /* the last entry, before it began */
	/* The host's while the guest is here. */
	u16 fs, gs, ds, es, ldt;
	u64 fs_base, host_kernel_gs_base;
};

static inline u64 vmread(unsigned long field)
{
	unsigned long value = 0;

	asm volatile("vmread %1, %0" : "+rm"(value) : "r"(field) : "cc");
	return value;
}

static inline void vmwrite(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r"(field), "rm"(value) : "cc", "memory");
}

/* vmx_state.c. In: what needs no VMCS; false: an impossible state. The other two are for a VMCS that is loaded. */
bool vmx_state_in(struct rs_cpu *cpu);
void vmx_state_out(struct rs_cpu *cpu);
void vmx_state_write(struct rs_cpu *cpu, u64 host_cr4, u64 cr4_owned);
void vmx_state_read(struct rs_cpu *cpu, u64 cr4_owned);

/* vmx.c */
extern const u32 vmx_switched[VMX_SWITCHED];
extern u64 vmx_cr4_owned;

#endif
