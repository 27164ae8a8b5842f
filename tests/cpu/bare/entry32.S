# SPDX-License-Identifier: GPL-2.0-or-later
# Beginning and exception entries of the 32-bit bare-metal tests in C (bare32.h). Loaded at 100000, flat ring 0.
        .section .text.start, "ax"
        .code32
        .globl  start, vectors, user_enter, user_done, gdt, idt, task_main, task_other, task_fault
        .globl  stack_inner, stack_task, stack_user, fault_task_error, fault_task_count, fault_task, user_esp
start:  lgdt    gdt_pointer
        lidt    idt_pointer
        ljmp    $8, $1f
1:      movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movl    $stack_top, %esp
        call    bare_main
1:      jmp     1b

        .text
        .balign 16
vectors:
        .set    v, 0
        .rept   256
        .balign 16
        .if     v == 8 || (v >= 10 && v <= 14) || v == 17
        .else
        pushl   $0
        .endif
        pushl   $v
        jmp     common
        .set    v, v + 1
        .endr
common: pushal
        cld
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movl    %esp, %eax
        movl    %esp, %ebp
        andl    $-16, %esp
        subl    $12, %esp
        pushl   %eax
        call    trap
        movl    %ebp, %esp
        popal
        addl    $8, %esp
        iretl

# user_enter(frame): the frame is what IRETD takes; back at user_done.
user_enter:
        pushl   %ebx
        pushl   %ebp
        pushl   %esi
        pushl   %edi
        movl    20(%esp), %esi
        movl    24(%esp), %ecx
        movl    %esp, user_esp
        subl    $64, %esp
        movl    %esp, %edi
        cld
        rep movsl
        iretl
user_done:
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        popl    %edi
        popl    %esi
        popl    %ebp
        popl    %ebx
        ret

# The task for faults: notes the error code, and lets the main task go on at `resume` with the stack `resume_esp`.
fault_task:
        popl    fault_task_error
        incl    fault_task_count
        movl    resume, %eax
        movl    %eax, task_main + 0x20
        movl    resume_esp, %eax
        movl    %eax, task_main + 0x38
        movw    $0x10, task_main + 0x50         # the task may have been in an outer ring
        movw    $0x08, task_main + 0x4c
        movw    $0x10, task_main + 0x48
        movw    $0x10, task_main + 0x54
        andl    $~0x4100, task_main + 0x24
        andb    $~2, gdt + 0x28 + 5
        andb    $~2, gdt + 0x30 + 5
        ljmp    $0x28, $0

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00cf9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x00cffb000000ffff
        .quad   0x00cff3000000ffff
        .fill   27, 8, 0
gdt_pointer:
        .word   32 * 8 - 1
        .long   gdt
idt_pointer:
        .word   256 * 8 - 1
        .long   idt
user_esp: .long 0
        .globl  resume_esp
resume_esp: .long 0
fault_task_error: .long 0
fault_task_count: .long 0
        .bss
        .balign 4096
idt:    .fill   2048, 1, 0
task_main: .fill 0x2100, 1, 0
task_other: .fill 0x2100, 1, 0
task_fault: .fill 0x2100, 1, 0
        .balign 4096
        .fill   0x4000, 1, 0
stack_top:
        .fill   0x4000, 1, 0
stack_inner:
        .fill   0x4000, 1, 0
stack_task:
        .fill   0x4000, 1, 0
stack_user:
