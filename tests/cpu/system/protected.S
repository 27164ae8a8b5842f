# SPDX-License-Identifier: GPL-2.0-or-later
# Protected mode: segment checks and their error codes, gates, rings, tasks, virtual-8086 mode, 32-bit and PAE paging.
# Starts at `start` in flat 32-bit ring 0 (harness), CS = 08, data = 10. SDM vol. 3, chapters 4 to 7 and 20.
        .include "common.inc"
# Fills in the base of the descriptor at gdt + \at.
.macro BASE at, symbol
        movl    $\symbol, %eax
        movw    %ax, gdt + \at + 2
        shrl    $16, %eax
        movb    %al, gdt + \at + 4
        movb    %ah, gdt + \at + 7
.endm
.macro GATE at, symbol
        movl    $\symbol, %eax
        movw    %ax, \at
        shrl    $16, %eax
        movw    %ax, \at + 6
.endm

        .text
        .code32
        .globl  start
start:
        movl    $stack_top, %esp
        BASE    0x28, tss
        BASE    0x68, tss2
        BASE    0x70, tss3
        GATE    gdt + 0x58, gate_same
        GATE    gdt + 0x60, gate_inner
        movl    $vectors, %eax
        movl    $idt, %edi
        movl    $0x40, %ecx
1:      cmpb    $0x85, 5(%edi)                  # not the task gate
        je      2f
        movw    %ax, (%edi)
        movl    %eax, %ebx
        shrl    $16, %ebx
        movw    %bx, 6(%edi)
2:      addl    $16, %eax
        addl    $8, %edi
        loop    1b
        lgdt    gdt_pointer
        lidt    idt_pointer
        ljmp    $8, $1f
1:      movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $stack_top, %esp
        movw    $0x28, %ax
        ltr     %ax
        CHECK                           # 1: the TSS descriptor is busy now
        testb   $2, gdt + 0x28 + 5
        jz      fail

# --- segment registers ---
        FAULT   13, 0, movw %cs:null_selector, %ss
        movw    $0x100, %bx
        FAULT   13, 0x100, movw %bx, %ds        # beyond the limit
        movw    $0x10b, %bx
        FAULT   13, 0x108, movw %bx, %es
        movw    $0x08, %bx
        FAULT   13, 0x08, movw %bx, %ss         # code into SS
        movw    $0x30, %bx
        FAULT   11, 0x30, movw %bx, %ds         # not present
        FAULT   12, 0x30, movw %bx, %ss
        movw    $0x28, %bx
        FAULT   13, 0x28, movw %bx, %ds         # a TSS
        movw    $0x13, %bx
        FAULT   13, 0x10, movw %bx, %ss         # RPL 3
        xorw    %bx, %bx
        FINE    movw %bx, %es
        FAULT   13, 0, movl %es:0x1000, %eax

# --- limits: 38 is a 16-byte data segment at `small`, 40 expand-down above 0fff, 48 read-only ---
        movw    $0x38, %bx
        movw    %bx, %es
        FINE    movl %es:12, %eax
        FAULT   13, 0, movl %es:13, %eax
        FAULT   13, 0, movb $0, %es:16
        FINE    movb $0, %es:15
        movw    $0x40, %bx
        movw    %bx, %es
        FAULT   13, 0, movb %es:0xfff, %al
        FINE    movb %es:0x1000, %al
        FAULT   13, 0, movl %es:0xffc, %eax
        movw    $0x48, %bx
        movw    %bx, %es
        FINE    movl %es:testno, %eax
        FAULT   13, 0, movl %eax, %es:testno
        FAULT   13, 0, movl %eax, %cs:testno    # code is not writable
        movw    $0x10, %bx
        movw    %bx, %es

# --- LAR, LSL, VERR, VERW, ARPL ---
        movl    $0x38, %ebx
        xorl    %eax, %eax
        CHECK
        lsl     %ebx, %eax
        jnz     fail
        EXPECT  $15, %eax
        CHECK
        lar     %ebx, %eax
        jnz     fail
        andl    $0xff00, %eax
        EXPECT  $0x9300, %eax
        movw    $0x200, %bx
        CHECK
        lar     %ebx, %eax
        jz      fail
        movw    $0x48, %bx
        CHECK
        verr    %bx
        jnz     fail
        CHECK
        verw    %bx
        jz      fail
        movw    $0x20, %ax
        movw    $3, %bx
        CHECK
        arpl    %bx, %ax
        jnz     fail
        CHECK
        cmpw    $0x23, %ax
        jne     fail

# --- far transfers ---
        FAULT   13, 0x10, ljmp $0x10, $1f       # data
1:      FAULT   13, 0x100, lcall $0x100, $0
        FAULT   11, 0x50, ljmp $0x50, $0        # code, not present
        CHECK
        lcall   $0x58, $0                       # call gate to gate_same
        cmpl    $0x600d, %eax
        jne     fail

# --- interrupts through the IDT ---
        FAULT   3, 0, int3
        FAULT   0x20, 0, int $0x20
        FAULT   11, 0x21*8+2, int $0x21     # gate not present
        FAULT   13, 0x90*8+2, int $0x90     # beyond the IDT
        movb    $0x7f, %al
        CHECK
        movl    $9002f, resume
        movl    $-1, got_vector
        addb    $1, %al
        into
9002:   cmpl    $4, got_vector
        jne     fail
        movl    $5, %eax
        FAULT   5, 0, bound %eax, bounds
        movl    $3, %eax
        FINE    bound %eax, bounds
        xorl    %ebx, %ebx
        FAULT   0, 0, divl %ebx
        FAULT   6, 0, ud2
        CHECK                                   # flags as pushed: IF off behind an interrupt gate, TF gone
        testl   $0x300, handler_flags
        jnz     fail

# --- single step ---
        CHECK
        movl    $0, step_count
        pushfl
        orl     $0x100, (%esp)
        popfl
        nop
        nop
        pushfl
        andl    $~0x100, (%esp)
        popfl
        nop
        cmpl    $5, step_count
        jne     fail

# --- ring 3 ---
        CHECK
        movl    $stack_top, tss + 4
        pushl   $0x23
        pushl   $user_stack
        pushl   $0x3002                         # IOPL 3
        pushl   $0x1b
        pushl   $1f
        movl    $2f, resume
        movl    $-1, got_vector
        iretl
1:      movw    %cs, %ax
        cmpw    $0x1b, %ax
        jne     fail_user
        pushfl
        popl    %eax
        cli                                     # allowed by IOPL 3
        hlt                                     # never allowed: #GP(0)
2:      cmpl    $13, got_vector
        jne     fail
        cmpl    $0, got_error
        jne     fail
        CHECK                                   # the frame had ring 3's SS:ESP
        cmpl    $user_stack, handler_esp
        jne     fail
        cmpl    $0x23, handler_ss
        jne     fail
        CHECK                                   # call gate from ring 3 with two parameters
        pushl   $0x23
        pushl   $user_stack
        pushl   $2
        pushl   $0x1b
        pushl   $1f
        iretl
1:      pushl   $0x1111
        pushl   $0x2222
        lcall   $0x63, $0                       # gate_inner
        cmpl    $0x3333, %eax
        jne     fail_user
        cmpl    $user_stack, %esp
        jne     fail_user
        movl    $2f, %ss:resume
        int     $0x30                           # DPL 3: back to ring 0 at `resume`
2:      CHECK
        movl    $3f, resume
        movl    $-1, got_vector
        pushl   $0x23
        pushl   $user_stack
        pushl   $2
        pushl   $0x1b
        pushl   $1f
        iretl
1:      int     $0x20                           # DPL 0: #GP with the gate's number
3:      cmpl    $13, got_vector
        jne     fail
        cmpl    $0x102, got_error
        jne     fail
        CHECK                                   # I/O without permission
        movl    $3f, resume
        movl    $-1, got_vector
        pushl   $0x23
        pushl   $user_stack
        pushl   $2
        pushl   $0x1b
        pushl   $1f
        iretl
1:      outb    %al, $0x80
3:      cmpl    $13, got_vector
        jne     fail

# --- tasks ---
        CHECK
        movl    $task_entry, tss2 + 0x20
        movl    $task_stack, tss2 + 0x38
        lcall   $0x68, $0                       # TSS descriptor: nested call
        cmpl    $0x7a5c, task_result
        jne     fail
        CHECK
        testl   $0x8, task_cr0                  # TS was set by the switch
        jz      fail
        clts
        CHECK                                   # and the back link was taken: NT is clear again
        pushfl
        popl    %eax
        testl   $0x4000, %eax
        jnz     fail
        CHECK
        testb   $2, gdt + 0x68 + 5              # not busy any more
        jnz     fail

# --- virtual-8086 mode: INT n with IOPL 0 is #GP; segments are base << 4 ---
        CHECK
        movl    $3f, resume
        movl    $-1, got_vector
        movl    $0xf4cd, 0x20000                # int $f4 at 2000:0
        pushl   $0                              # gs
        pushl   $0                              # fs
        pushl   $0x1800                         # ds
        pushl   $0                              # es
        pushl   $0x3000                         # ss
        pushl   $0xfffe                         # esp
        pushl   $0x20002                        # VM
        pushl   $0x2000
        pushl   $0
        iretl
3:      cmpl    $13, got_vector
        jne     fail
        CHECK
        cmpl    $0x1800, handler_v86_ds
        jne     fail

# --- paging: identity, 4 KiB pages in the first 4 MiB, then a large page ---
        movw    $0x10, %ax
        movw    %ax, %es
        movl    $page_dir, %edi
        movl    $page_table, %eax
        orl     $7, %eax
        movl    %eax, (%edi)
        movl    $0x400083, 4(%edi)              # 4 MiB page, supervisor
        movl    $page_table, %edi
        movl    $7, %eax
        movl    $1024, %ecx
1:      stosl
        addl    $0x1000, %eax
        loop    1b
        movl    $0, page_table + 0x300 * 4      # 300000 is missing
        movl    $0x301001, page_table + 0x301 * 4       # 301000 read-only
        movl    %cr4, %eax
        orl     $0x10, %eax                     # PSE
        movl    %eax, %cr4
        movl    $page_dir, %eax
        movl    %eax, %cr3
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        jmp     1f
1:      FAULT   14, 0, movl 0x300010, %eax
        movl    %cr2, %eax
        EXPECT  $0x300010, %eax
        FAULT   14, 2, movl %eax, 0x300020
        FINE    movl %eax, 0x301000             # WP is off
        movl    %cr0, %eax
        orl     $0x10000, %eax
        movl    %eax, %cr0
        FAULT   14, 3, movl %eax, 0x301000
        FAULT   14, 0, movl 0x2ffffe, %eax      # straddles into the hole
        movl    %cr2, %eax
        EXPECT  $0x300000, %eax
        CHECK                                   # accessed and dirty bits
        testb   $0x20, page_table + 0x301 * 4
        jz      fail
        testb   $0x40, page_table + 0x302 * 4
        jnz     fail
        movl    %eax, 0x302000
        testb   $0x40, page_table + 0x302 * 4
        jz      fail
        FINE    movl 0x400000, %eax
        CHECK
        testb   $0x20, page_dir + 4
        jz      fail
        FAULT   14, 0, movl 0x800000, %eax
        CHECK                                   # a changed entry counts after INVLPG
        movl    $0x303007, page_table + 0x300 * 4
        invlpg  0x300000
        movl    $0x12345678, 0x300000
        cmpl    $0x12345678, 0x303000
        jne     fail
        CHECK                                   # ring 3 on a supervisor page
        movl    $3f, resume
        movl    $-1, got_vector
        pushl   $0x23
        pushl   $user_stack
        pushl   $2
        pushl   $0x1b
        pushl   $1f
        iretl
1:      movl    %ss:0x400000, %eax
3:      cmpl    $14, got_vector
        jne     fail
        cmpl    $5, got_error
        jne     fail

# --- self-modifying code ---
        CHECK
        movl    $0, %ecx
1:      movb    %cl, patched + 1                # the immediate of the next MOV
patched: movb   $0x55, %al
        cmpb    %cl, %al
        jne     fail
        incl    %ecx
        cmpl    $200, %ecx
        jne     1b

# --- double fault through a task gate ---
        CHECK
        movl    $df_entry, tss3 + 0x20
        movl    $task_stack, tss3 + 0x38
        movl    $page_dir, tss3 + 0x1c
        movl    $page_dir, tss2 + 0x1c
        movw    $0x78, %ax                      # an IDT whose #GP and #NP gates are not present
        movb    $0, idt + 13 * 8 + 5
        movb    $0, idt + 11 * 8 + 5
        movw    $0x100, %bx
        movw    %bx, %ds                        # #GP -> #NP -> #DF
        jmp     fail
df_entry:
        cmpl    $0, (%esp)                      # error code
        jne     fail
        xorl    %eax, %eax
        jmp     finish

# --- end ---
fail:   movl    testno, %eax
        jmp     finish
fail_user:
        movl    %ss:testno, %eax
        orl     $0x8000, %eax
        movl    $finish_ring0, %ss:resume
        int     $0x30
finish_ring0:
        movl    testno, %eax
finish: outw    %ax, $END_PORT
1:      jmp     1b

gate_same:
        movl    $0x600d, %eax
        lret
gate_inner:
        movl    8(%esp), %eax
        addl    12(%esp), %eax
        lret    $8
task_entry:
        movl    %cr0, %eax
        movl    %eax, task_cr0
        movl    $0x7a5c, task_result
        iretl
        jmp     task_entry

# Every vector: note it and go on at `resume` in ring 0 on a fresh stack.
        .balign 16
vectors:
        .set    v, 0
        .rept   0x40
        .balign 16
        .if     v == 8 || (v >= 10 && v <= 14) || v == 17
        .else
        pushl   $0
        .endif
        pushl   $v
        jmp     common
        .set    v, v + 1
        .endr
        .balign 16
common: pushl   %eax
        movw    $0x10, %ax
        movw    %ax, %ds
        cmpl    $1, 4(%esp)
        je      stepped
        movl    4(%esp), %eax
        movl    %eax, got_vector
        movl    8(%esp), %eax
        movl    %eax, got_error
        pushfl
        popl    handler_flags
        testl   $0x20000, 20(%esp)
        jnz     2f
        testb   $3, 16(%esp)
        jz      1f
2:      movl    24(%esp), %eax
        movl    %eax, handler_esp
        movl    28(%esp), %eax
        movl    %eax, handler_ss
        movl    36(%esp), %eax
        movl    %eax, handler_v86_ds
1:      popl    %eax
        testb   $3, 12(%esp)
        jnz     3f
        testl   $0x20000, 16(%esp)
        jnz     3f
        addl    $20, %esp                       # same ring: what was pushed goes, registers stay
        jmp     *resume
3:      movl    $stack_top, %esp
        jmp     *resume
stepped:
        incl    step_count
        popl    %eax
        addl    $8, %esp
        iretl

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              # 08 code
        .quad   0x00cf93000000ffff              # 10 data
        .quad   0x00cffb000000ffff              # 18 code, ring 3
        .quad   0x00cff3000000ffff              # 20 data, ring 3
        .word   0x67, 0                          # 28 TSS
        .byte   0, 0x89, 0, 0
        .quad   0x00cf13000000ffff              # 30 data, not present
        .quad   0x004093000000000f              # 38 16 bytes at 0
        .quad   0x0040970000000fff              # 40 expand-down
        .quad   0x00cf91000000ffff              # 48 read-only
        .quad   0x00cf1b000000ffff              # 50 code, not present
        .word   0, 8                # 58 call gate, DPL 0
        .byte   0, 0x8c
        .word   0
        .word   0, 8               # 60 call gate, DPL 3, two parameters
        .byte   2, 0xec
        .word   0
        .word   0x67, 0                         # 68 TSS
        .byte   0, 0x89, 0, 0
        .word   0x67, 0                         # 70 TSS
        .byte   0, 0x89, 0, 0
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt
idt_pointer:
        .word   0x40 * 8 - 1
        .long   idt
        .balign 8
idt:    .set    v, 0
        .rept   0x40
        .if     v == 8
        .word   0, 0x70                         # task gate
        .byte   0, 0x85
        .word   0
        .else
        .word   0, 8
        .byte   0
        .if     v == 0x21
        .byte   0x0e
        .elseif v == 0x30 || v == 3 || v == 4
        .byte   0xee
        .else
        .byte   0x8e
        .endif
        .word   0
        .endif
        .set    v, v + 1
        .endr
null_selector: .word 0
        .balign 4
bounds: .long   1, 4
testno: .long   0
resume: .long   0
got_vector: .long 0
got_error: .long 0
handler_flags: .long 0
handler_esp: .long 0
handler_ss: .long 0
handler_v86_ds: .long 0
step_count: .long 0
task_result: .long 0
task_cr0: .long 0
        .balign 16
tss:    .long   0, stack_top, 0x10
        .fill   22, 4, 0
        .word   0, 0x68
        .balign 16
tss2:   .fill   18, 4, 0
        .long   0x10, 8, 0x10, 0x10, 0x10, 0x10, 0
        .word   0, 0x68
        .balign 16
tss3:   .fill   18, 4, 0
        .long   0x10, 8, 0x10, 0x10, 0x10, 0x10, 0
        .word   0, 0x68
        .balign 4096
        .fill   4096, 1, 0
stack_top:
        .fill   4096, 1, 0
user_stack:
        .fill   4096, 1, 0
task_stack:
        .fill   4096, 1, 0
page_dir: .fill 4096, 1, 0
page_table: .fill 4096, 1, 0
