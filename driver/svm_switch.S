/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The world switch of AMD-V.
 *
 * What is switched by whom: VMRUN takes CRs, EFER, RIP, RSP, RAX, RFLAGS, CS, SS, DS, ES, GDTR, IDTR, DR6 and DR7
 * from the guest's VMCB and comes back with the host's; VMLOAD and VMSAVE do FS, GS, LDTR, TR and the MSRs of SYSCALL
 * and SYSENTER; the other general registers are moved here; svm.c does vectors, XCR0, DR0-3 and the other MSRs.
 *
 * GIF is 0 here (CLGI before, STGI after the call), so nothing interrupts us, not even an NMI. RFLAGS.IF must be 1 at
 * VMRUN, since with V_INTR_MASKING it says whether host interrupts end the guest's turn. They are taken after STGI.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>

#define REG(n) (8 * (n))

	.text

/* void rs_svm_enter(u64 registers[16], u64 vmcb_pa, u64 host_vmcb_pa); registers as in struct ringside_state. */
SYM_FUNC_START(rs_svm_enter)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rdx
	push	%rdi

	mov	%rsi, %rax
	mov	REG(1)(%rdi), %rcx
	mov	REG(2)(%rdi), %rdx
	mov	REG(3)(%rdi), %rbx
	mov	REG(5)(%rdi), %rbp
	mov	REG(6)(%rdi), %rsi
	mov	REG(8)(%rdi), %r8
	mov	REG(9)(%rdi), %r9
	mov	REG(10)(%rdi), %r10
	mov	REG(11)(%rdi), %r11
	mov	REG(12)(%rdi), %r12
	mov	REG(13)(%rdi), %r13
	mov	REG(14)(%rdi), %r14
	mov	REG(15)(%rdi), %r15
	mov	REG(7)(%rdi), %rdi

	/* STI's shadow ends before VMRUN: TCG would give it to the guest, whose virtual interrupt would come an instruction late. */
	sti
	vmload	%rax
	vmrun	%rax
	cli
	vmsave	%rax

	/* RAX and RSP are the host's again. */
	mov	(%rsp), %rax
	mov	%rcx, REG(1)(%rax)
	mov	%rdx, REG(2)(%rax)
	mov	%rbx, REG(3)(%rax)
	mov	%rbp, REG(5)(%rax)
	mov	%rsi, REG(6)(%rax)
	mov	%rdi, REG(7)(%rax)
	mov	%r8, REG(8)(%rax)
	mov	%r9, REG(9)(%rax)
	mov	%r10, REG(10)(%rax)
	mov	%r11, REG(11)(%rax)
	mov	%r12, REG(12)(%rax)
	mov	%r13, REG(13)(%rax)
	mov	%r14, REG(14)(%rax)
	mov	%r15, REG(15)(%rax)
	mov	8(%rsp), %rax
	vmload	%rax

	/* Nothing that the guest's branches taught the processor is used by our returns. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RETPOLINE
	UNTRAIN_RET

	/* No guest value stays where speculation could use it. */
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d

	add	$16, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(rs_svm_enter)
