/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instruction helpers called by translated code as fn(vcpu, r14, r15); results come back in R15.
 * They raise exceptions by not returning.
 */
#pragma once

#include "cpu.h"

/* string.c */
enum { STR_MOVS, STR_CMPS, STR_STOS, STR_LODS, STR_SCAS, STR_INS, STR_OUTS };
enum { REP_NONE, REP_E, REP_NE };
/* packed: op | size<<4 | address bytes<<8 | segment<<12 | rep<<16 */
void helper_string(struct vcpu *v, uint64_t packed, uint64_t next_rip);

/* system.c */
void helper_in(struct vcpu *v, uint64_t port, uint64_t size);
void helper_out(struct vcpu *v, uint64_t port, uint64_t size);
uint64_t io_in(struct vcpu *v, uint16_t port, unsigned size);
void io_out(struct vcpu *v, uint16_t port, uint64_t value, unsigned size);
void io_check(struct vcpu *v, uint16_t port, unsigned size);
_Noreturn void helper_hlt(struct vcpu *v, uint64_t next_rip);
void helper_cpuid(struct vcpu *v);
void helper_rdtsc(struct vcpu *v, uint64_t with_aux);
void helper_rdmsr(struct vcpu *v);
void helper_wrmsr(struct vcpu *v);
uint64_t helper_read_cr(struct vcpu *v, uint64_t n);
void helper_write_cr(struct vcpu *v, uint64_t n, uint64_t value);
uint64_t helper_read_dr(struct vcpu *v, uint64_t n);
void helper_write_dr(struct vcpu *v, uint64_t n, uint64_t value);
void helper_clts(struct vcpu *v);
uint64_t helper_smsw(struct vcpu *v);
void helper_lmsw(struct vcpu *v, uint64_t value);
void helper_load_table(struct vcpu *v, uint64_t linear,
                       uint64_t packed); /* idt<<8 | operand bytes */
void helper_store_table(struct vcpu *v, uint64_t linear, uint64_t packed);
uint64_t helper_sldt(struct vcpu *v, uint64_t tr);
void helper_lldt(struct vcpu *v, uint64_t selector);
void helper_ltr(struct vcpu *v, uint64_t selector);
void helper_invlpg(struct vcpu *v, uint64_t linear);
void helper_invpcid(struct vcpu *v, uint64_t linear, uint64_t type);
void helper_privileged(struct vcpu *v); /* WBINVD and the like: only the check */
void helper_swapgs(struct vcpu *v);
void helper_stac(struct vcpu *v, uint64_t on);
uint64_t helper_base(struct vcpu *v, uint64_t packed,
                     uint64_t value); /* seg | write<<8 | size<<16 */
void helper_xgetbv(struct vcpu *v);
void helper_xsetbv(struct vcpu *v);
uint64_t helper_rdpid(struct vcpu *v);
_Noreturn void helper_syscall(struct vcpu *v, uint64_t next_rip);
_Noreturn void helper_sysret(struct vcpu *v, uint64_t size);
_Noreturn void helper_sysenter(struct vcpu *v);
_Noreturn void helper_sysexit(struct vcpu *v, uint64_t size);
void helper_pushf(struct vcpu *v, uint64_t size);
void helper_popf(struct vcpu *v, uint64_t size);
void helper_cli(struct vcpu *v);
void helper_sti(struct vcpu *v);
void helper_sti_pending(struct vcpu *v, uint64_t next_rip);
uint64_t helper_umip(struct vcpu *v);

/* legacy.c */
enum { LEGACY_AAA, LEGACY_AAS, LEGACY_DAA, LEGACY_DAS, LEGACY_AAM, LEGACY_AAD, LEGACY_SALC };
void helper_decimal(struct vcpu *v, uint64_t op, uint64_t imm);
void helper_bound(struct vcpu *v, uint64_t linear, uint64_t packed); /* reg | size<<8 */
uint64_t helper_arpl(struct vcpu *v, uint64_t dst, uint64_t src);
void helper_pusha(struct vcpu *v, uint64_t size);
void helper_popa(struct vcpu *v, uint64_t size);
void helper_enter(struct vcpu *v, uint64_t size, uint64_t packed); /* alloc | level<<16 */

/* fpu.c; packed: bit 0: 64-bit form, bit 1: XSAVE/XRSTOR */
void helper_masked_move(struct vcpu *v, uint64_t linear, uint64_t packed);
void helper_fxsave(struct vcpu *v, uint64_t linear, uint64_t packed);
void helper_fxrstor(struct vcpu *v, uint64_t linear, uint64_t packed);
void helper_xsave(struct vcpu *v, uint64_t linear, uint64_t packed);
void helper_xrstor(struct vcpu *v, uint64_t linear, uint64_t packed);
/* dst | index<<4 | mask<<8 | base address size<<12 | flags: see gen_system.c */
void helper_gather(struct vcpu *v, uint64_t base, uint64_t packed);

/* cpuid_guest.c */
void cpuid_guest(struct vcpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4]);
