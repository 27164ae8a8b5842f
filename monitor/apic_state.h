/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registers of one CPU's local APIC, neutral between the lapic device and engines that have APICs of their own.
 */
#pragma once

#include <stdint.h>

#define APIC_STATE_REGISTERS 64u

struct apic_state {
    uint64_t base; /* IA32_APIC_BASE */
    /* By number, that is offset / 16, in xAPIC form: the ID in bits 31:24, ICR in 30h and 31h. 39h: what is left to count. */
    uint32_t reg[APIC_STATE_REGISTERS];
    uint64_t deadline; /* IA32_TSC_DEADLINE */
};
