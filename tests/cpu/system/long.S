# SPDX-License-Identifier: GPL-2.0-or-later
# 64-bit mode: canonical addresses, SYSCALL/SYSRET, IST, NX, SMEP, SMAP, PCID, FSGSBASE, compatibility mode, 16-byte
# atomics, XSAVE. Starts at `start` with 4 GiB mapped by 2 MiB pages (user, writable) at 1000000. SDM vol. 3.
        .text
        .code64
        .globl  start
        .set    END_PORT, 0xf4
        .set    TABLES, 0x1000000

.macro CHECK
        incl    testno
.endm
.macro FAULT vec, err, insn:vararg
        CHECK
        movq    $9001f, resume
        movq    $-1, got_vector
        \insn
9001:   cmpq    $\vec, got_vector
        jne     fail
        cmpq    $\err, got_error
        jne     fail
.endm
.macro FINE insn:vararg
        CHECK
        movq    $fail, resume
        \insn
.endm

start:  movl    $stack_top, %esp
        movl    $vectors, %eax
        movl    $idt, %edi
        movl    $0x30, %ecx
1:      movw    %ax, (%rdi)
        movl    %eax, %ebx
        shrl    $16, %ebx
        movw    %bx, 6(%rdi)
        addl    $16, %eax
        addl    $16, %edi
        decl    %ecx
        jnz     1b
        movl    $tss, %eax
        movw    %ax, gdt + 0x32
        shrl    $16, %eax
        movb    %al, gdt + 0x34
        movb    %ah, gdt + 0x37
        movq    $stack_top, tss + 4
        movq    $ist_top, tss + 0x24
        lgdt    gdt_pointer
        lidt    idt_pointer
        movw    $0x30, %ax
        ltr     %ax

# --- canonical addresses ---
        movq    $0x800000000000, %rbx
        FAULT   13, 0, movq (%rbx), %rax
        movq    %rsp, %rbp
        leaq    16(%rbx), %rsp
        CHECK
        movq    $1f, resume
        movq    $-1, got_vector
        pushq   %rax
1:      movq    %rbp, %rsp
        cmpq    $12, got_vector
        jne     fail
        FAULT   13, 0, jmp *%rbx
        FAULT   14, 0, movq 0x7f0000000000, %rax
        CHECK
        movq    %cr2, %rax
        movq    $0x7f0000000000, %rbx
        cmpq    %rbx, %rax
        jne     fail
        FAULT   6, 0, ud2
        movw    $8, %ax
        FAULT   13, 8, movw %ax, %ss
        FAULT   14, 0, movabsq 0x7f0000000008, %rax

# --- MSRs ---
        movl    $0x12345, %ecx
        FAULT   13, 0, rdmsr
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x801, %eax            # SCE, NXE
        wrmsr
        orl     $0x10000, %eax
        FAULT   13, 0, wrmsr

# --- NX: clear the 2 MiB page at 800000 to non-executable ---
        movb    $0xc3, 0x800000
        FINE    call far_target
        movl    $TABLES + 0x2000 + 8 * 4, %edi
        btsq    $63, (%rdi)
        invlpg  0x800000
        FAULT   14, 17, call far_target
        movl    $stack_top, %esp
        btrq    $63, (%rdi)
        invlpg  0x800000

# --- SMEP and SMAP: all pages are user pages; make the first 8 MiB supervisor ---
        movl    $TABLES + 0x2000, %edi
        movl    $4, %ecx
1:      andb    $~4, (%rdi)
        addl    $8, %edi
        decl    %ecx
        jnz     1b
        movl    $TABLES + 0x2000 + 8 * 8, %edi
        movl    $4, %ecx                # the tables at 1000000 too
1:      andb    $~4, (%rdi)
        addl    $8, %edi
        decl    %ecx
        jnz     1b
        movq    %cr3, %rax
        movq    %rax, %cr3
        movq    %cr4, %rax
        orl     $0x300000, %eax
        movq    %rax, %cr4
        FAULT   14, 17, call far_target
        movl    $stack_top, %esp
        FAULT   14, 1, movb 0x800000, %al
        FAULT   14, 3, movb %al, 0x800000
        FINE    stac
        FINE    movb 0x800000, %al
        FINE    clac
        FAULT   14, 1, movb 0x800000, %al

# --- ring 3 by SYSRET, back by SYSCALL ---
        movl    $0xc0000081, %ecx
        xorl    %eax, %eax
        movl    $0x00180008, %edx
        wrmsr
        movl    $0xc0000082, %ecx
        movl    $syscall_entry, %eax
        xorl    %edx, %edx
        wrmsr
        movl    $0xc0000084, %ecx
        movl    $0x700, %eax
        wrmsr
        CHECK
        cld
        movl    $user_code, %esi
        movl    $0x800100, %edi
        movl    $user_code_end - user_code, %ecx
        stac
        rep movsb
        clac
        movq    $0x800100, %rcx
        movq    $0x2, %r11
        movq    $syscall_done, resume
        movq    %rsp, saved_rsp
        sysretq
syscall_done:
        cmpq    $0x5ca11, %rbx
        jne     fail
        CHECK                           # RCX and R11
        cmpq    $0x800100 + user_syscall_next - user_code, %rcx
        jne     fail
        CHECK
        movw    %cs, %ax
        cmpw    $8, %ax
        jne     fail
        CHECK                           # ring 3 may not touch supervisor pages; IST stack, frame of ring 3
        movq    $1f, resume
        movq    $-1, got_vector
        movq    $0x800100 + user_touch - user_code, %rcx
        movq    $0x2, %r11
        sysretq
1:      movq    saved_rsp, %rsp
        cmpq    $14, got_vector
        jne     fail
        cmpq    $5, got_error
        jne     fail
        CHECK
        cmpq    $0x2b, frame_cs
        jne     fail

# --- FS and GS bases, SWAPGS ---
        movq    %cr4, %rax
        orl     $0x10000, %eax
        movq    %rax, %cr4
        movq    $data_word, %rax
        CHECK
        wrfsbase %rax
        movq    $-1, got_vector
        movq    %fs:0, %rbx
        cmpq    $0x1122334455667788 >> 32, %rbx
        je      fail
        rdfsbase %rcx
        cmpq    %rax, %rcx
        jne     fail
        movl    $0xc0000102, %ecx
        xorl    %edx, %edx
        wrmsr
        CHECK
        swapgs
        rdgsbase %rbx
        cmpq    $data_word, %rbx
        jne     fail
        swapgs

# --- 16-byte compare and exchange ---
        CHECK
        movq    $1, %rax
        movq    $2, %rdx
        movq    $3, %rbx
        movq    $4, %rcx
        movq    %rax, pair
        movq    %rdx, pair + 8
        lock cmpxchg16b pair
        jnz     fail
        cmpq    $4, pair + 8
        jne     fail
        FAULT   13, 0, lock cmpxchg16b pair + 8

# --- compatibility mode: far jump to 32-bit code and back ---
        CHECK
        ljmp    *compat_pointer
        .code32
compat: movl    $0xffffffff, %eax
        incl    %eax
        movl    $0x80000000, %ecx
        addl    %ecx, %ecx
        jnc     compat_fail
        ljmp    $8, $compat_back
compat_fail:
        ljmp    $8, $fail
        .code64
compat_back:
        testq   %rax, %rax
        jnz     fail

# --- XSAVE of AVX state, when there is any ---
        movl    $1, %eax
        cpuid
        btl     $28, %ecx
        jnc     no_avx
        CHECK
        vpcmpeqd %ymm3, %ymm3, %ymm3
        movl    $7, %eax
        xorl    %edx, %edx
        xsave   area
        vzeroall
        xrstor  area
        vpmovmskb %ymm3, %eax
        cmpl    $-1, %eax
        jne     fail
no_avx:

# --- single step over a SYSCALL-free stretch, debug registers ---
        CHECK
        movq    $watched, %rax
        movq    %rax, %dr0
        movq    $0xd0001, %rax          # 4-byte write watch
        movq    %rax, %dr7
        movq    $1f, resume
        movq    $-1, got_vector
        movl    $7, watched
1:      xorl    %ecx, %ecx
        cmpq    $1, got_vector
        jne     fail
        cmpl    $7, watched             # a trap: the store was done
        jne     fail
        CHECK
        movq    %dr6, %rax
        testb   $1, %al
        jz      fail
        movq    $0x400, %rax
        movq    %rax, %dr7
        movq    $1f, %rax
        movq    %rax, %dr0
        movq    $0x401, %rax            # execution breakpoint
        movq    %rax, %dr7
        CHECK
        movq    $2f, resume
        movq    $-1, got_vector
1:      nop
        jmp     fail
2:      cmpq    $1, got_vector
        jne     fail
        movq    $0x400, %rax
        movq    %rax, %dr7

        xorl    %eax, %eax
        outw    %ax, $END_PORT
1:      jmp     1b
fail:   movl    testno, %eax
        outw    %ax, $END_PORT
1:      jmp     1b

syscall_entry:
        movq    saved_rsp, %rsp
        jmp     *resume

user_code:
        movl    $0x5ca11, %ebx
        syscall
user_syscall_next:
        ud2
user_touch:
        movq    testno, %rax
        ud2
user_code_end:

        .set    far_target, 0x800000

        .balign 16
vectors:
        .set    v, 0
        .rept   0x30
        .balign 16
        .if     v == 8 || (v >= 10 && v <= 14) || v == 17
        .else
        pushq   $0
        .endif
        pushq   $v
        jmp     common
        .set    v, v + 1
        .endr
common: popq    got_vector
        popq    got_error
        pushq   8(%rsp)
        popq    frame_cs
        testb   $3, frame_cs
        jnz     1f
        movq    24(%rsp), %rsp          # back to the interrupted stack
1:      jmp     *resume

        .data
        .balign 16
gdt:    .quad   0
        .quad   0x00af9b000000ffff      # 08 code
        .quad   0x00cf93000000ffff      # 10 data
        .quad   0x00cffb000000ffff      # 18 32-bit user code
        .quad   0x00cff3000000ffff      # 20 user data
        .quad   0x00affb000000ffff      # 28 user code
        .quad   0x0000890000000067      # 30 TSS
        .quad   0
        .quad   0x00cf9b000000ffff      # 40 compatibility code
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt
idt_pointer:
        .word   0x30 * 16 - 1
        .quad   idt
compat_pointer:
        .long   compat
        .word   0x40
        .balign 16
idt:    .rept   0x30
        .word   0, 8
        .byte   1, 0x8e
        .word   0
        .quad   0
        .endr
        .balign 16
pair:   .quad   0, 0, 0
testno: .quad   0
resume: .quad   0
got_vector: .quad 0
got_error: .quad 0
frame_cs: .quad 0
saved_rsp: .quad 0
data_word: .quad 0x1122334455667788
watched: .long  0
        .balign 16
tss:    .fill   0x68, 1, 0
        .balign 64
area:   .fill   1024, 1, 0
        .balign 4096
        .fill   4096, 1, 0
stack_top:
        .fill   4096, 1, 0
ist_top:
