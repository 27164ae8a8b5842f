# SPDX-License-Identifier: GPL-2.0-or-later
# Beginning and exception entries of the bare-metal tests in C (bare.h). Loaded at 100000. `start` is entered in 64-bit
# mode by test_system; `start_pvh` in flat 32-bit mode by a machine's PVH loader, and makes the same page tables.
        .set    TABLES, 0x1000000

        .section .note.pvh, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   start_pvh

        .section .text.start, "ax"
        .code64
        .globl  start, vectors, user_enter, user_rbx, user_rbp, resume, saved_rsp, gdt, idt, task, stack_ist, stack_fault, ap_start, ap_end
start:  lgdt    gdt_pointer
        lidt    idt_pointer
        movl    $stack_top, %esp
        xorl    %ebp, %ebp
        call    bare_main
1:      jmp     1b

        .code32
start_pvh:
        cld
        movl    $stack_top, %esp
        movl    $TABLES, %edi                   # PML4, PDPT, four directories of 2 MiB pages
        xorl    %eax, %eax
        movl    $0x1800, %ecx
        rep stosl
        movl    $TABLES + 0x1007, TABLES
        movl    $TABLES + 0x2007, %eax
        movl    $TABLES + 0x1000, %edi
        movl    $4, %ecx
1:      movl    %eax, (%edi)
        addl    $0x1000, %eax
        addl    $8, %edi
        loop    1b
        movl    $0x87, %eax
        movl    $TABLES + 0x2000, %edi
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b
        call    long_mode
        ljmp    $8, $start

# CR0, CR4, EFER as test_system has them; then 32-bit code in long mode.
long_mode:
        lgdt    gdt_pointer
        movl    $0x620, %eax
        movl    %eax, %cr4
        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        movl    $0x901, %eax
        xorl    %edx, %edx
        wrmsr
        movl    $0x80050033, %eax
        movl    %eax, %cr0
        ret

# Real-mode start of other CPUs: copied to 8000. Each gets a stack by its count of arrival.
        .code16
ap_start:
        cli
        xorw    %ax, %ax
        movw    %ax, %ds
        lgdtl   0x8000 + ap_gdt - ap_start
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $KERNEL_CODE32, $ap_protected
        .balign 4
ap_gdt: .word   gdt_end - gdt - 1
        .long   gdt
ap_end:
        .code32
ap_protected:
        movw    $KERNEL_DATA, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $1, %eax
        lock xaddl %eax, ap_count
        shll    $12, %eax
        leal    ap_stacks + 0x1000(%eax), %esp
        call    long_mode
        ljmp    $KERNEL_CODE, $1f
        .code64
1:      lidt    idt_pointer
        xorl    %ebp, %ebp
        call    ap_main
1:      hlt
        jmp     1b
        .weak   ap_main

        .set    KERNEL_CODE, 8
        .set    KERNEL_DATA, 16
        .set    KERNEL_CODE32, 0x40

        .text
        .code64
        .balign 16
vectors:
        .set    v, 0
        .rept   256
        .balign 16
        .if     v == 8 || (v >= 10 && v <= 14) || v == 17
        .else
        pushq   $0
        .endif
        pushq   $v
        jmp     common
        .set    v, v + 1
        .endr
common: pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    trap
        movq    %rbp, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

# user_enter(rip, cs, flags, rsp, ss): comes back at user_done when trap() says so.
        .globl  user_done
user_enter:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, saved_rsp
        pushq   %r8
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        movq    user_rbx, %rbx
        movq    user_rbp, %rbp
        iretq
user_done:
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00af9b000000ffff              # 08 code
        .quad   0x00cf93000000ffff              # 10 data
        .quad   0x00cffb000000ffff              # 18 32-bit code, ring 3
        .quad   0x00cff3000000ffff              # 20 data, ring 3
        .quad   0x00affb000000ffff              # 28 code, ring 3
        .quad   0x0000890000000067, 0           # 30 task state, base and limit by bare.c
        .quad   0x00cf9b000000ffff              # 40 32-bit code
        .fill   23, 8, 0
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt
idt_pointer:
        .word   256 * 16 - 1
        .quad   idt
        .balign 8
resume: .quad   0
saved_rsp: .quad 0
user_rbx: .quad 0
user_rbp: .quad 0
        .globl  ap_count
ap_count: .long 0

        .bss
        .balign 4096
idt:    .fill   4096, 1, 0
task:   .fill   0x2100, 1, 0
        .balign 4096
        .fill   0x4000, 1, 0
stack_top:
        .fill   0x4000, 1, 0
stack_ist:
        .fill   0x4000, 1, 0
stack_fault:
ap_stacks:
        .fill   0x8000, 1, 0
