/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fault while a double fault is delivered shuts the processor down: test_system expects that. */
#include "bare.h"

int main_test(void)
{
    gate_set(GP, 0, 0, 0, 0);
    gate_set(NP, 0, 0, 0, 0);
    gate_set(DF, 0, 0, 0, 0);
    __asm__ volatile("movl %0, %%ds" : : "r"(0x200));
    return 1;
}
