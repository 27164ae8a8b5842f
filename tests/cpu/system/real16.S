# SPDX-License-Identifier: GPL-2.0-or-later
# Real mode at its edges, and the tour through all modes and back: stacks and branches at the segment's end, the
# interrupt table's limit, single step, 32-bit operands in 16-bit code, real -> protected -> long -> compatibility ->
# protected -> real. Starts at 0:8000. SDM vol. 3, chapters 9.8 and 21.
        .text
        .code16
        .globl  start
        .set    END_PORT, 0xf4
        .set    TABLES, 0x20000

.macro CHECK
        incw    %cs:testno
.endm
# Runs code whose fault \vec is taken on the stack at 0:7c00; SS:SP need not be good before.
.macro FAULT vec, insn:vararg
        CHECK
        movw    $9001f, %cs:resume
        movw    $-1, %cs:got_vector
        \insn
9001:   call    good_stack
        cmpw    $\vec, %cs:got_vector
        jne     fail
.endm
.macro FINE insn:vararg
        FAULT   -1, \insn
.endm
.macro EXPECT a, b
        CHECK
        cmpw    \a, \b
        jne     fail
.endm

start:  cli
        cld
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        xorw    %di, %di
        movw    $vectors, %ax
        movw    $0x20, %cx
1:      stosw
        movw    $0, (%di)
        addw    $2, %di
        addw    $16, %ax
        loop    1b

# --- the stack at the end of its segment ---
        movw    $0x3000, %dx
        CHECK
        movw    %dx, %ss
        movw    $2, %sp
        pushw   $0x1111
        pushw   $0x2222                 # at fffe
        movw    %sp, %ax
        popw    %bx
        popw    %cx
        call    good_stack
        EXPECT  $0xfffe, %ax
        EXPECT  $0x2222, %bx
        EXPECT  $0x1111, %cx
        CHECK                           # PUSHA wraps between its registers
        movw    %dx, %ss
        movw    $8, %sp
        pusha
        movw    %sp, %cs:saved_sp
        popa
        movw    %sp, %bx
        call    good_stack
        EXPECT  $0xfff8, saved_sp
        EXPECT  $8, %bx
        CHECK                           # the address of CALL and RET
        movw    %dx, %ss
        movw    $0, %sp
        call    1f
1:      popw    %ax
        movw    %sp, %bx
        call    good_stack
        EXPECT  $1b, %ax
        EXPECT  $0, %bx
        CHECK                           # ENTER and LEAVE keep the upper halves
        movl    $0x12340100, %ebp
        movl    %esp, %ecx
        enter   $16, $1
        leave
        cmpl    %ecx, %esp
        jne     fail
        cmpl    $0x12340100, %ebp
        jne     fail

# --- data at the end of its segment ---
        FAULT   13, movw 0xffff, %ax
        FAULT   13, movl %eax, 0xfffe
        FINE    movw 0xfffe, %ax
        FAULT   13, lesw 0xfffd, %ax
        movw    $0xffff, %bp
        FAULT   12, movw (%bp), %ax
        movl    $0x10000, %ebx
        FAULT   13, movb (%ebx), %al
        FAULT   13, movb %al, %es:(%ebx)
        movw    $0xfffe, %si
        movw    $0x6000, %di
        movw    $2, %cx
        CHECK                           # MOVSW from fffe, then its SI wraps to 0
        rep movsw
        EXPECT  $2, %si
        movw    $0xffff, %si
        FAULT   13, lodsw

# --- interrupts ---
        CHECK
        movw    $1f, %cs:resume
        pushw   $0x0246
        popfw
        stc
        int     $0x15
1:      movw    %cs:got_flags, %ax
        andw    $0x0ed5, %ax
        cmpw    $0x0245, %ax            # the image has IF and CF
        jne     fail
        cli
        lidt    short_idt
        FAULT   13, int $0x16           # beyond the table
        FINE    nop
        lidt    whole_idt
        CHECK
        movw    $1f, %cs:resume
        movw    $-1, %cs:got_vector
        movb    $0x7f, %bl
        incb    %bl
        into
1:      cmpw    $4, %cs:got_vector
        jne     fail
        FAULT   5, boundw %ax, bounds
        FAULT   6, ud2
        FAULT   6, .byte 0x0f, 0x00, 0xc0       # SLDT needs protected mode
        FAULT   6, .byte 0x0f, 0x02, 0xc0       # LAR
        FAULT   6, .byte 0x63, 0xc0             # ARPL
        FINE    smsw %ax
        FAULT   6, .byte 0xc5, 0xf8, 0x58, 0xc0 # no VEX in real mode
        CHECK                           # single step: after each instruction, not after the INT
        movw    $0, %cs:steps
        pushfw
        movw    %sp, %bx
        orw     $0x100, %ss:(%bx)
        movw    $2f, %cs:resume
        popfw
        nop
        int     $0x17
2:      nop
        cmpw    $1, %cs:steps           # the handler does not come back by IRET: TF is gone
        jne     fail

# --- 32 bits in 16-bit code ---
        CHECK
        movl    $0x10, %ecx
        movl    $0x80000000, %eax
        xorl    %edx, %edx
        divl    %ecx
        cmpl    $0x08000000, %eax
        jne     fail
        CHECK
        movl    $0x00010003, %ecx       # LOOP counts CX, ADDR32 LOOP counts ECX
1:      loop    1b
        cmpl    $0x00010000, %ecx
        jne     fail
        CHECK
        movl    $0x00010000, %ecx
        jcxz    1f
        jmp     fail
1:      jecxz   1f
        jmp     2f
1:      jmp     fail
2:
        CHECK                           # CALL with a 32-bit operand pushes 4 bytes; beyond the limit it faults
        movw    %sp, %bx
        calll   1f
1:      subw    %sp, %bx
        addw    $4, %sp
        cmpw    $4, %bx
        jne     fail
        movl    $0x12345, %eax
        FAULT   13, jmpl *%eax
        pushl   $0x10000
        FAULT   13, retl

# --- through all modes ---
        CHECK
        call    make_tables
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $0x08, $protected
        .code32
protected:
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    $0x7c00, %esp
        pushl   $0x12345678
        popl    %ebx
        movl    $0x20, %eax
        movl    %eax, %cr4
        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0              # compatibility mode
        rdmsr
        movl    %eax, efer_seen
        movl    $0xffffffff, %eax
        incl    %eax
        ljmp    $0x18, $long_code
        .code64
long_code:
        movq    $0x123456789abcdef0, %r9
        movq    %r9, %rax
        shrq    $32, %rax
        movl    %eax, r9_seen
        ljmp    *compat_pointer
        .code32
compatibility:
        movl    $0x10, %eax
        movw    %ax, %ss
        movl    %cr0, %eax
        andl    $0x7fffffff, %eax
        movl    %eax, %cr0              # out of long mode
        movl    $0xc0000080, %ecx
        rdmsr
        movl    %eax, efer_after
        andl    $~0x100, %eax
        wrmsr
        xorl    %eax, %eax
        movl    %eax, %cr4
        ljmp    $0x20, $protected16
        .code16
protected16:
        movw    $0x28, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        ljmp    $0, $real_again
real_again:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        call    good_stack
        cmpl    $0x12345678, %ebx
        jne     fail
        CHECK
        cmpl    $0x12345678, r9_seen
        jne     fail
        CHECK
        movl    efer_seen, %eax
        andl    $0x500, %eax
        cmpl    $0x500, %eax            # LMA with LME
        jne     fail
        CHECK
        movl    efer_after, %eax
        andl    $0x500, %eax
        cmpl    $0x100, %eax
        jne     fail
        FAULT   13, movw 0xffff, %ax    # the limit is 64 KiB again
        FAULT   6, ud2

        xorw    %ax, %ax
        outw    %ax, $END_PORT
1:      jmp     1b
fail:   movw    %cs:testno, %ax
        outw    %ax, $END_PORT
1:      jmp     1b

good_stack:
        popw    %cs:back
        movw    %ax, %cs:saved_ax
        movw    $0, %ax
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movw    %cs:saved_ax, %ax
        jmp     *%cs:back

# Identity, 2 MiB: PML4, PDPT, PD at TABLES.
make_tables:
        movw    $TABLES >> 4, %ax
        movw    %ax, %es
        xorw    %di, %di
        xorw    %ax, %ax
        movw    $0x1800, %cx
        rep stosw
        movl    $TABLES + 0x1003, %es:0
        movl    $TABLES + 0x2003, %es:0x1000
        movl    $0x83, %es:0x2000
        movw    %cx, %es
        ret

        .balign 16
vectors:
        .set    v, 0
        .rept   0x20
        .balign 16
        movw    $v, %cs:got_vector
        jmp     common
        .set    v, v + 1
        .endr
common: cmpw    $1, %cs:got_vector
        je      stepped
        popw    %cs:back
        popw    %cs:back
        popw    %cs:got_flags
        jmp     *%cs:resume
stepped:
        incw    %cs:steps
        iretw

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      # 08 32-bit code
        .quad   0x00cf93000000ffff      # 10 data
        .quad   0x00af9b000000ffff      # 18 64-bit code
        .quad   0x00009b000000ffff      # 20 16-bit code
        .quad   0x000093000000ffff      # 28 16-bit data
gdt_pointer:
        .word   47
        .long   gdt
short_idt:
        .word   0x16 * 4 + 2
        .long   0
whole_idt:
        .word   0x3ff
        .long   0
compat_pointer:
        .long   compatibility
        .word   0x08
bounds: .word   1, 2
        .balign 4
efer_seen: .long 0
efer_after: .long 0
r9_seen: .long  0
testno: .word   0
resume: .word   0
back:   .word   0
got_vector: .word 0
got_flags: .word 0
saved_ax: .word 0
saved_sp: .word 0
steps:  .word   0
