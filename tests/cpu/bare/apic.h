/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The local APIC's registers and commands, and how another processor is started. SDM vol. 3,
 * chapters 9 and 11. */
#pragma once

#include "bare.h"

#define APIC 0xfee00000ull
enum {
    APIC_ID = 0x20,
    APIC_TPR = 0x80,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_IRR = 0x200,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_TIMER = 0x320,
    APIC_INITIAL = 0x380,
    APIC_CURRENT = 0x390,
    APIC_DIVIDE = 0x3e0
};
enum {
    TIMER_PERIODIC = 1 << 17,
    TO_SELF = 1 << 18,
    TO_OTHERS = 3 << 18,
    MODE_NMI = 4 << 8,
    MODE_INIT = 5 << 8,
    MODE_SIPI = 6 << 8,
    ASSERT = 1 << 14
};

#define AP_PAGE 8 /* where ap_start (entry.S) is copied, and a start-up message sends a processor  \
                   */
static inline void ap_code_put(void)
{
    extern uint8_t ap_start[], ap_end[];
    for (uint8_t *from = ap_start, *to = (uint8_t *)(AP_PAGE * 4096ull); from < ap_end;) {
        *(volatile uint8_t *)to++ = *from++;
    }
}

static inline uint64_t tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
