/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The world switch of VT-x.
 *
 * What is switched by whom: the entry takes CR0, CR3, CR4, EFER, PAT, DEBUGCTL, DR7, RIP, RSP, RFLAGS, all segments, GDTR,
 * IDTR and the MSRs of SYSENTER from the VMCS, the exit comes back with the host's; the other general registers are moved
 * here; vmx.c does CR2, DR6, the MSRs of SYSCALL and the selectors that the exit leaves null; guest.c does vectors, XCR0,
 * DR0-3 and SPEC_CTRL.
 *
 * Interrupts are off; those that come end the guest's turn and stay pending, and are taken when the caller lets them in.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>

#define REG(n) (8 * (n))
#define HOST_RSP 0x6c14

	.text

/* bool rs_vmx_enter(u64 registers[16], bool launched); registers as in struct ringside_state. True: it failed. */
SYM_FUNC_START(rs_vmx_enter)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rdi

	lea	-8(%rsp), %rcx
	mov	$HOST_RSP, %eax
	vmwrite	%rcx, %rax
	push	%rax			/* room for the guest's RAX */
	test	%sil, %sil

	mov	REG(0)(%rdi), %rax
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

	jnz	.Lresume
	vmlaunch
	jmp	rs_vmx_exit		/* CF or ZF says that it failed; the guest's registers are as they were */
.Lresume:
	vmresume

/* The exit: RSP is the host's, the flags are clear. */
SYM_INNER_LABEL(rs_vmx_exit, SYM_L_GLOBAL)
	mov	%rax, (%rsp)
	mov	8(%rsp), %rax
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
	pop	REG(0)(%rax)
	setbe	%bl

	/* Nothing that the guest's branches taught the processor is used by our returns. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, X86_FEATURE_RSB_VMEXIT_LITE

	/* No guest value stays where speculation could use it. */
	movzbl	%bl, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d

	add	$8, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(rs_vmx_enter)
