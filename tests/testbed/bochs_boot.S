/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first sector of a disk that bochs.py makes: loads what the plan in the next sectors names, by port I/O of the
 * first ATA disk, and enters the kernel at its PVH entry (32-bit, EBX at the start info). No GRUB and no unpacking,
 * which take most of a minute in Bochs.
 *
 * The plan: a row of 32-bit words (address, first sector, sectors) for each piece; the last is (start info, entry, 0).
 */
#define PLAN 0x10000
#define PLAN_SECTORS 8
#define BATCH 128

	.code16
	.globl start
start:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	in	$0x92, %al		/* A20 */
	or	$2, %al
	out	%al, $0x92
	lgdt	gdt_pointer
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmp	$8, $protected

	.code32
protected:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %esp
	mov	$PLAN, %edi
	mov	$1, %eax
	mov	$PLAN_SECTORS, %ebp
	call	read
	mov	$PLAN, %esi
piece:
	mov	(%esi), %edi
	mov	4(%esi), %eax
	mov	8(%esi), %ebp
	add	$12, %esi
	test	%ebp, %ebp
	jz	enter
	call	read
	jmp	piece
enter:
	mov	%edi, %ebx
	jmp	*%eax

/* EBP sectors from EAX on, to EDI */
read:
	mov	$BATCH, %ebx
	cmp	%ebp, %ebx
	cmova	%ebp, %ebx
	push	%eax
	call	command
	sub	%ebx, %ebp
	add	%ebx, (%esp)
sector:
	call	ready
	mov	$0x1f0, %dx
	mov	$256, %ecx
	rep insw
	dec	%ebx
	jnz	sector
	pop	%eax
	test	%ebp, %ebp
	jnz	read
	ret

/* READ SECTORS: EBX of them from EAX on */
command:
	mov	%eax, %ecx
	mov	$0x1f2, %dx
	mov	%ebx, %eax
	out	%al, %dx
	inc	%edx
	mov	%ecx, %eax
	out	%al, %dx
	inc	%edx
	shr	$8, %eax
	out	%al, %dx
	inc	%edx
	shr	$8, %eax
	out	%al, %dx
	inc	%edx
	shr	$8, %eax
	or	$0xe0, %al
	out	%al, %dx
	inc	%edx
	mov	$0x20, %al
	out	%al, %dx
	ret

/* until not busy, with data */
ready:
	mov	$0x1f7, %dx
1:	in	%dx, %al
	and	$0x88, %al
	cmp	$8, %al
	jne	1b
	ret

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff
	.quad	0x00cf93000000ffff
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt

	.org	510
	.word	0xaa55
