// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VT-x: a CPU's state into its VMCS and out of it (Intel SDM, volume 3, 25.4 and 27.3).
 *
 * An entry checks more than AMD's does. What no guest can see and processors keep consistent by themselves (granularity
 * against limit, accessed bits, the segments of virtual-8086 mode) is put right here; the rest is refused by the entry.
 */
#include <linux/mm.h>
#include <asm/processor-flags.h>
#include <asm/msr-index.h>

#include "vmx.h"

#define RIGHT_ACCESSED 0x1u
#define RIGHT_S 0x10u
#define RIGHT_P 0x80u
#define RIGHT_G 0x8000u
#define RIGHT_UNUSABLE 0x10000u
#define RIGHTS_V86 0xf3u
#define PENDING_BS BIT(14)
#define EFER_GUEST (EFER_SCE | EFER_LME | EFER_LMA | EFER_NX)
#define CR4_SHADOWED X86_CR4_MCE /* the guest has it or not, the host's stays on */

/* Fields that are taken as they are. */
static const struct {
	u16 at, field;
} plain[] = {
#define PLAIN(member, field) { offsetof(struct ringside_state, member), field }
	PLAIN(gpr[4], GUEST_RSP),
	PLAIN(rip, GUEST_RIP),
	PLAIN(rflags, GUEST_RFLAGS),
	PLAIN(gdtr_base, GUEST_GDTR_BASE),
	PLAIN(idtr_base, GUEST_IDTR_BASE),
	PLAIN(cr3, GUEST_CR3),
	PLAIN(dr7, GUEST_DR7),
	PLAIN(sysenter_cs, GUEST_SYSENTER_CS),
	PLAIN(sysenter_esp, GUEST_SYSENTER_ESP),
	PLAIN(sysenter_eip, GUEST_SYSENTER_EIP),
};

static u64 *plain_member(struct ringside_state *s, unsigned int i)
{
	return (void *)s + plain[i].at;
}

/* WRMSR refuses others. */
static u64 canonical(u64 address)
{
	return (s64)(address << 16) >> 16;
}

/* --- in --- */

static bool pae_paging(const struct ringside_state *s)
{
	return s->cr0 & X86_CR0_PG && s->cr4 & X86_CR4_PAE && !(s->efer & EFER_LMA);
}

/* The processor has the four entries in registers of its own; a MOV to CR3 that was carried out elsewhere reloads them. */
static void pdptes_in(struct rs_cpu *cpu, const struct ringside_state *s, const struct ringside_state *before)
{
	struct vmx_cpu *v = cpu->vendor;

	if (!pae_paging(s) || (pae_paging(before) && s->cr3 == before->cr3 && v->ready))
		return;
	if (!rs_read(cpu->machine, s->cr3 & 0xffffffe0, v->pdpte, sizeof(v->pdpte)))
		memset(v->pdpte, 0, sizeof(v->pdpte));
	v->pdptes_changed = true;
}

/* What the VMCS could not tell the processor. */
static bool possible(const struct ringside_state *s)
{
	return !(s->cr4 & ~(vmx_cr4_owned | CR4_SHADOWED)) &&
	       (s->cr0 & (X86_CR0_NW | X86_CR0_CD)) != X86_CR0_NW;
}

static bool event_possible(u64 event)
{
	u64 type = event & 0x700;

	return !(event & RINGSIDE_EVENT_VALID) || type == RINGSIDE_EVENT_INTERRUPT ||
	       type == RINGSIDE_EVENT_NMI || type == RINGSIDE_EVENT_EXCEPTION;
}

bool vmx_state_in(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;
	struct ringside_run *run = cpu->run;
	struct ringside_state before = v->state, *s = &v->state;
	u32 flags = READ_ONCE(run->flags);

	memcpy(s, &run->state, sizeof(*s));
	if (!possible(s) || !event_possible(cpu->guest.event)) {
		*s = before;
		return false;
	}
	s->gpr[4] = cpu->guest.gpr[4];
	cpu->guest.dr_used = s->dr7 & 0xff;
	pdptes_in(cpu, s, &before);
	v->changed = true;
	v->cr2 = s->cr2;
	v->dr6 = (u32)s->dr6;
	v->msr[0] = s->star;
	v->msr[1] = canonical(s->lstar);
	v->msr[2] = canonical(s->cstar);
	v->msr[3] = (u32)s->fmask;
	v->msr[4] = canonical(s->kernel_gs_base);
	v->controls &= ~(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING | CPU_BASED_RDTSC_EXITING |
			 CPU_BASED_MOV_DR_EXITING);
	v->controls |= (flags & RINGSIDE_RUN_WINDOW ? CPU_BASED_INTR_WINDOW_EXITING : 0) |
		       (flags & RINGSIDE_RUN_EXIT_RDTSC ? CPU_BASED_RDTSC_EXITING : 0) |
		       (s->nmi_blocked ? CPU_BASED_NMI_WINDOW_EXITING : 0) |
		       (cpu->guest.dr_used ? 0 : CPU_BASED_MOV_DR_EXITING);
	return true;
}

static void limit_fit(u32 *limit, u32 *ar)
{
	if (*limit > 0xfffff) {
		*limit |= 0xfff;
		*ar |= RIGHT_G;
	} else if ((*limit & 0xfff) != 0xfff) {
		*ar &= ~RIGHT_G;
	}
}

static void segment_write(const struct ringside_state *s, unsigned int i)
{
	const struct ringside_segment *segment = &s->seg[i];
	u32 limit = segment->limit, ar = (segment->attributes & 0xff) | (segment->attributes & 0xf00) << 4;
	u64 base = segment->base;

	if (s->rflags & X86_EFLAGS_VM && i < RINGSIDE_LDTR) {
		base = (u64)segment->selector << 4;
		limit = 0xffff;
		ar = RIGHTS_V86;
	}
	limit_fit(&limit, &ar);
	if (ar & RIGHT_S)
		ar |= RIGHT_ACCESSED;
	if (i == RINGSIDE_SS)
		ar = (ar & ~0x60u) | (s->cpl & 3) << 5;
	if (!(ar & RIGHT_P) && i != RINGSIDE_CS && i != RINGSIDE_TR)
		ar |= RIGHT_UNUSABLE;
	vmwrite(GUEST_ES_SELECTOR + 2 * i, segment->selector);
	vmwrite(GUEST_ES_LIMIT + 2 * i, limit);
	vmwrite(GUEST_ES_AR_BYTES + 2 * i, ar);
	vmwrite(GUEST_ES_BASE + 2 * i, base);
}

static void interruptibility_write(const struct ringside_state *s)
{
	u32 blocked = s->nmi_blocked ? GUEST_INTR_STATE_NMI : 0;

	if (s->interrupt_shadow)
		blocked |= s->rflags & X86_EFLAGS_IF ? GUEST_INTR_STATE_STI : GUEST_INTR_STATE_MOV_SS;
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, blocked);
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS,
		s->interrupt_shadow && s->rflags & X86_EFLAGS_TF ? PENDING_BS : 0);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
}

static void control_registers_write(const struct ringside_state *s, u64 host_cr4, u64 cr4_owned)
{
	u32 entry = vmread(VM_ENTRY_CONTROLS) & ~VM_ENTRY_IA32E_MODE;

	vmwrite(GUEST_CR0, (s->cr0 & ~CR0_NOT_OWNED) | X86_CR0_NE);
	vmwrite(CR0_READ_SHADOW, s->cr0);
	vmwrite(GUEST_CR4, (s->cr4 & cr4_owned) | (host_cr4 & X86_CR4_MCE) | X86_CR4_VMXE);
	vmwrite(CR4_READ_SHADOW, s->cr4);
	vmwrite(GUEST_IA32_EFER, s->efer & EFER_GUEST);
	vmwrite(VM_ENTRY_CONTROLS, entry | (s->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0));
}

void vmx_state_write(struct rs_cpu *cpu, u64 host_cr4, u64 cr4_owned)
{
	struct vmx_cpu *v = cpu->vendor;
	struct ringside_state *s = &v->state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(plain); i++)
		vmwrite(plain[i].field, *plain_member(s, i));
	for (i = 0; i < RINGSIDE_SEGMENTS; i++)
		segment_write(s, i);
	vmwrite(GUEST_GDTR_LIMIT, s->gdtr_limit & 0xffff);
	vmwrite(GUEST_IDTR_LIMIT, s->idtr_limit & 0xffff);
	vmwrite(GUEST_DR7, (u32)s->dr7 | 0x400);
	vmwrite(GUEST_IA32_PAT, s->pat);
	vmwrite(TSC_OFFSET, s->tsc_offset);
	control_registers_write(s, host_cr4, cr4_owned);
	interruptibility_write(s);
	for (i = 0; v->pdptes_changed && i < 4; i++)
		vmwrite(GUEST_PDPTR0 + 2 * i, v->pdpte[i]);
	v->pdptes_changed = false;
	v->changed = false;
}

/* --- out --- */

static void segment_read(struct ringside_state *s, unsigned int i)
{
	struct ringside_segment *segment = &s->seg[i];
	u32 ar = vmread(GUEST_ES_AR_BYTES + 2 * i);

	if (ar & RIGHT_UNUSABLE)
		ar &= ~RIGHT_P;
	if (i == RINGSIDE_SS)
		s->cpl = ar >> 5 & 3;
	segment->selector = vmread(GUEST_ES_SELECTOR + 2 * i);
	segment->limit = vmread(GUEST_ES_LIMIT + 2 * i);
	segment->base = vmread(GUEST_ES_BASE + 2 * i);
	segment->attributes = (ar & 0xff) | (ar >> 4 & 0xf00);
}

void vmx_state_read(struct rs_cpu *cpu, u64 cr4_owned)
{
	struct vmx_cpu *v = cpu->vendor;
	struct ringside_state *s = &v->state;
	u32 blocked = vmread(GUEST_INTERRUPTIBILITY_INFO);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(plain); i++)
		*plain_member(s, i) = vmread(plain[i].field);
	for (i = 0; i < RINGSIDE_SEGMENTS; i++)
		segment_read(s, i);
	s->gdtr_limit = vmread(GUEST_GDTR_LIMIT);
	s->idtr_limit = vmread(GUEST_IDTR_LIMIT);
	s->cr0 = (vmread(GUEST_CR0) & ~CR0_NOT_OWNED) | (vmread(CR0_READ_SHADOW) & CR0_NOT_OWNED);
	s->cr4 = (vmread(GUEST_CR4) & cr4_owned) | (vmread(CR4_READ_SHADOW) & ~cr4_owned);
	s->efer = vmread(GUEST_IA32_EFER);
	s->interrupt_shadow = !!(blocked & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS));
	s->nmi_blocked = !!(blocked & GUEST_INTR_STATE_NMI);
}

/* After the last put. */
void vmx_state_out(struct rs_cpu *cpu)
{
	struct vmx_cpu *v = cpu->vendor;
	struct ringside_state *s = &v->state;

	s->cr2 = v->cr2;
	s->dr6 = v->dr6;
	s->star = v->msr[0];
	s->lstar = v->msr[1];
	s->cstar = v->msr[2];
	s->fmask = v->msr[3];
	s->kernel_gs_base = v->msr[4];
	cpu->guest.gpr[4] = s->gpr[4];
	memcpy(&cpu->run->state, s, sizeof(*s));
}
