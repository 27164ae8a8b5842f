# SPDX-License-Identifier: GPL-2.0-or-later
# Vector registers keep their values whatever the engine does meanwhile: the test harness keeps posting invalidations
# while this loops over two pages with all sixteen registers in use. 64-bit mode.
        .text
        .code64
        .globl  start
        .set    END_PORT, 0xf4
start:  movl    $3000000, %ebp
        movdqa  p0, %xmm0
        movdqa  p1, %xmm1
        movdqa  p2, %xmm2
        movdqa  p3, %xmm3
        movdqa  p4, %xmm4
        movdqa  p5, %xmm5
        movdqa  p6, %xmm6
        movdqa  p7, %xmm7
        movdqa  p0, %xmm8
        movdqa  p1, %xmm9
        movdqa  p2, %xmm10
        movdqa  p3, %xmm11
        movdqa  p4, %xmm12
        movdqa  p5, %xmm13
        movdqa  p6, %xmm14
loop:   call    far_away
        decl    %ebp
        jnz     loop
        xorl    %eax, %eax
        outw    %ax, $END_PORT
1:      jmp     1b
fail:   movl    $1, %eax
        outw    %ax, $END_PORT
1:      jmp     1b
        .balign 4096
far_away:
        .macro  SAME register, pattern
        movdqa  \register, %xmm15
        pcmpeqd \pattern, %xmm15
        pmovmskb %xmm15, %eax
        cmpl    $0xffff, %eax
        jne     fail
        .endm
        SAME    %xmm0, p0
        SAME    %xmm1, p1
        SAME    %xmm7, p7
        SAME    %xmm8, p0
        SAME    %xmm14, p6
        ret
        .balign 4096
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
p\n:   .fill   4, 4, 0x11111111 * (\n + 1)
        .endr
