# SPDX-License-Identifier: GPL-2.0-or-later
# Real mode: segment arithmetic and limits, the interrupt table, 16-bit stack wrap, string instructions, decimal
# arithmetic, unreal mode. Starts at 0:8000.
        .text
        .code16
        .globl  start
        .set    END_PORT, 0xf4

.macro CHECK
        incw    testno
.endm
.macro FAULT vec, insn:vararg
        CHECK
        movw    $9001f, resume
        movw    $-1, got_vector
        \insn
9001:   cmpw    $\vec, %cs:got_vector
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

# --- segments ---
        CHECK
        movw    $0x1234, 0x5678         # 0000:5678 == 0500:0678
        movw    $0x500, %ax
        movw    %ax, %es
        cmpw    $0x1234, %es:0x678
        jne     fail
        FAULT   13, movw %es:0xffff, %ax
        FAULT   13, movl %es:0xfffd, %eax
        CHECK
        movb    %es:0xffff, %al
        xorw    %bp, %bp
        FAULT   12, movw -1(%bp), %ax
        CHECK                           # wrap of bx+si
        movw    $0xfff0, %bx
        movw    $0x20, %si
        movb    $0x5a, %es:0x10
        cmpb    $0x5a, %es:(%bx,%si)
        jne     fail

# --- interrupts ---
        FAULT   3, int3
        FAULT   0x1f, int $0x1f
        xorw    %bx, %bx
        FAULT   0, divw %bx
        CHECK                           # IRET restores flags
        pushw   $0x0ed7
        popfw
        pushfw
        popw    %ax
        andw    $0x0ed5, %ax
        cmpw    $0x0ed5, %ax
        jne     fail
        cld
        cli

# --- stack wrap: SP = 0 pushes at FFFE ---
        CHECK
        movw    $0x2000, %ax
        movw    %ax, %ss
        xorw    %sp, %sp
        pushw   $0x4321
        cmpw    $0xfffe, %sp
        jne     fail2
        popw    %bx
        cmpw    $0x4321, %bx
        jne     fail2
        movl    $0xabcd0000, %esp       # only SP counts
        pushw   %ax
        cmpl    $0xabcdfffe, %esp
        jne     fail2
        xorw    %ax, %ax
        movw    %ax, %ss
        movl    $0x7c00, %esp
        pushal
        popal
        CHECK                           # PUSH SP stores the old value
        movw    %sp, %bx
        pushw   %sp
        popw    %ax
        cmpw    %ax, %bx
        jne     fail

# --- high byte registers, each against the others and memory ---
        CHECK
        movl    $0x11223344, %ecx
        movl    $0x55667788, %ebx
        movb    %bh, %ch
        cmpl    $0x11227744, %ecx
        jne     fail
        xchgb   %ch, %cl
        cmpl    $0x11224477, %ecx
        jne     fail
        movb    $0x99, scratch
        addb    scratch, %ch
        cmpl    $0x1122dd77, %ecx
        jne     fail
        xchgb   %ch, scratch
        cmpb    $0xdd, scratch
        jne     fail
        subb    %ch, %bh
        cmpb    $0xde, %bh
        jne     fail

# --- strings ---
        CHECK
        xorw    %ax, %ax
        movw    %ax, %es
        movw    $text, %si
        movw    $0x6000, %di
        movw    $6, %cx
        rep movsb
        testw   %cx, %cx
        jnz     fail
        movw    $0x6000, %di
        movw    $text, %si
        movw    $6, %cx
        repe cmpsb
        jne     fail
        CHECK
        movw    $0x6000, %di
        movw    $6, %cx
        movb    $'g', %al
        repne scasb
        jne     fail
        cmpw    $2, %cx
        jne     fail
        CHECK                           # backwards
        std
        movw    $0x6005, %di
        movw    $3, %cx
        movb    $'x', %al
        rep stosb
        cld
        cmpw    $0x6002, %di
        jne     fail
        cmpb    $'n', 0x6002
        jne     fail
        cmpb    $'x', 0x6003
        jne     fail
        CHECK                           # backwards, up by one: as if all were read first
        call    digits
        std
        movl    $0xabcd6017, %esi
        movl    $0xabcd6018, %edi
        movw    $8, %cx
        rep movsb
        cld
        cmpl    $0x33323131, 0x6010     # "1123"
        jne     fail
        cmpl    $0x37363534, 0x6014
        jne     fail
        cmpb    $'8', 0x6018
        jne     fail
        cmpl    $0xabcd600f, %esi
        jne     fail
        cmpl    $0xabcd6010, %edi
        jne     fail
        CHECK                           # words, up by two of them
        call    digits
        std
        movw    $0x6016, %si
        movw    $0x601a, %di
        movw    $4, %cx
        rep movsw
        cld
        cmpl    $0x34333231, 0x6014
        jne     fail
        cmpl    $0x38373635, 0x6018
        jne     fail
        CHECK                           # down by one: the last byte spreads
        call    digits
        std
        movw    $0x6017, %si
        movw    $0x6016, %di
        movw    $7, %cx
        rep movsb
        cld
        cmpl    $0x38383838, 0x6010
        jne     fail
        CHECK                           # up by less than an element
        call    digits
        std
        movw    $0x6014, %si
        movw    $0x6015, %di
        movw    $2, %cx
        rep movsl
        cld
        cmpl    $0x33323131, 0x6010     # 6015 := "5678", then 6011 := "1234"
        jne     fail
        cmpl    $0x37363534, 0x6014
        jne     fail
        CHECK                           # over a page's beginning, and the segment's
        movl    $0x38373635, 0x6ffe
        movw    $0x7001, %si
        movw    $0x0002, %di
        movw    $0x700, %ax
        movw    %ax, %es
        std
        movw    $4, %cx
        rep movsb                       # the last of them to es:ffff
        cld
        cmpw    $0xfffe, %di
        jne     fail
        cmpb    $'5', %es:0xffff
        jne     fail
        cmpb    $'8', %es:2
        jne     fail
        xorw    %ax, %ax
        movw    %ax, %es

# --- strings without REP ---
        CHECK
        call    digits
        movl    $0xabcd6010, %esi
        movl    $0xabcd6020, %edi
        movsb
        movsw
        movsl
        cmpl    $0x34333231, 0x6020
        jne     fail
        cmpw    $0x3635, 0x6024
        jne     fail
        cmpl    $0xabcd6017, %esi
        jne     fail
        cmpl    $0xabcd6027, %edi
        jne     fail
        CHECK                           # flags stay; AH, and the upper half of EAX
        movl    $0x55667788, %eax
        stc
        lodsb
        jnc     fail
        cmpl    $0x55667738, %eax
        jne     fail
        movw    $0x6010, %si
        lodsw
        cmpl    $0x55663231, %eax
        jne     fail
        lodsl
        cmpl    $0x36353433, %eax
        jne     fail
        CHECK
        stosw
        stosb
        stosl
        cmpl    $0x33333433, 0x6027     # "34", "3", then "3456"
        jne     fail
        cmpl    $0x36353433, 0x602a
        jne     fail
        CHECK                           # and backwards
        std
        movsb
        movw    $0x6012, %si
        lodsb
        stosb
        cld
        cmpb    $'3', %al
        jne     fail
        cmpw    $0x6011, %si
        jne     fail
        cmpw    $0x602c, %di
        jne     fail
        cmpw    $0x3733, 0x602d         # 602e := "7", then 602d := "3"
        jne     fail
        CHECK                           # SI wraps, not ESI
        movl    $0x1234ffff, %esi
        lodsb
        cmpl    $0x12340000, %esi
        jne     fail
        movw    $0xffff, %si
        FAULT   13, lodsw
        CHECK
        cmpw    $0xffff, %si            # a fault moves nothing
        jne     fail
        CHECK                           # a store over the next instruction is seen
        movw    $over, %di
        movb    $0x43, %al              # inc %bx
        xorw    %bx, %bx
        stosb
over:   nop
        cmpw    $1, %bx
        jne     fail
        cmpw    $over + 1, %di
        jne     fail

# --- decimal arithmetic ---
        CHECK
        movb    $0x19, %al
        addb    $0x28, %al
        daa
        cmpb    $0x47, %al
        jne     fail
        CHECK
        movb    $0x35, %al
        subb    $0x47, %al
        das
        jnc     fail
        cmpb    $0x88, %al
        jne     fail
        CHECK
        movw    $0x0105, %ax
        addb    $0x09, %al
        aaa
        cmpw    $0x0204, %ax
        jne     fail
        CHECK
        movb    $63, %al
        aam
        cmpw    $0x0603, %ax
        jne     fail
        aad
        cmpw    $63, %ax
        jne     fail
        FAULT   0, aam $0

# --- loops and 16-bit branches ---
        CHECK
        movw    $5, %cx
        xorw    %ax, %ax
1:      incw    %ax
        loop    1b
        cmpw    $5, %ax
        jne     fail
        jcxz    1f
        jmp     fail
1:      CHECK
        movw    $3, %cx
1:      testw   %cx, %cx
        loopne  1b
        testw   %cx, %cx
        jnz     fail

# --- unreal mode: a 4 GiB limit survives the return to real mode ---
        CHECK
        lgdt    gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $8, %bx
        movw    %bx, %fs
        andb    $0xfe, %al
        movl    %eax, %cr0
        xorw    %bx, %bx
        movw    %bx, %fs
        movl    $0x200000, %edi
        movl    $0xfeedface, %fs:(%edi)
        cmpl    $0xfeedface, %fs:(%edi)
        jne     fail

        xorw    %ax, %ax
        outw    %ax, $END_PORT
1:      jmp     1b
fail2:  xorw    %ax, %ax
        movw    %ax, %ss
        movw    $0x7c00, %sp
fail:   movw    %cs:testno, %ax
        outw    %ax, $END_PORT
1:      jmp     1b

digits: movl    $0x34333231, 0x6010
        movl    $0x38373635, 0x6014
        movb    $0, 0x6018
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
common: addw    $6, %sp
        jmp     *%cs:resume

text:   .ascii  "ringside"
        .balign 8
gdt:    .quad   0
        .quad   0x00cf93000000ffff
gdt_pointer:
        .word   15
        .long   gdt
testno: .word   0
resume: .word   0
got_vector: .word 0
scratch: .long  0
