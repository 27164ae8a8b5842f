/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The architectural state of one CPU, neutral between engines: each engine can read and write it, so that a
 * machine suspended under one resumes under another. Names are those of the Intel SDM.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct state;

#define CPU_STATE_VERSION 2u /* 1: without features */

struct cpu_segment {
    uint64_t base;
    uint32_t limit;      /* in bytes, granularity applied */
    uint16_t selector;
    uint16_t attributes; /* bits 8-15 and 20-23 of the descriptor's high word, as 0-7 and 12-15; 0: null */
    bool unusable;
};

enum { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_LDTR, CPU_TR, CPU_SEGMENTS };
enum { CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI };

enum cpu_activity { CPU_RUNNING, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN };

/* Words of CPUID features that a guest may use without asking again: 1:ECX, 1:EDX, 7:EBX, 7:ECX, 80000001h:ECX and EDX, Dh.1:EAX. */
#define CPU_FEATURE_WORDS 7u

#define CPU_XSAVE_SIZE 832u /* legacy region, header, AVX: XCR0 bits 0-2 */
#define CPU_MTRRS 8u

struct cpu_state {
    uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
    uint64_t rip, rflags;
    struct cpu_segment seg[CPU_SEGMENTS];
    uint64_t gdtr_base, idtr_base;
    uint16_t gdtr_limit, idtr_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t apic_base, pat, misc_enable, tsc, tsc_adjust, tsc_aux, tsc_deadline, spec_ctrl;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[CPU_MTRRS], mtrr_mask[CPU_MTRRS];
    uint32_t features[CPU_FEATURE_WORDS]; /* what the guest has been shown; 0: nothing known */
    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64))); /* standard (non-compacted) format */

    /* Between instructions. */
    uint8_t activity;         /* enum cpu_activity */
    bool interrupt_shadow;    /* after STI, MOV SS or POP SS */
    bool nmi_blocked, nmi_pending;
    bool exception_pending;   /* an event that was being delivered */
    uint8_t exception_vector;
    bool exception_has_error;
    uint32_t exception_error;
};

/* Power-on (or INIT) state: SDM vol. 3, table 10-1. The bootstrap processor runs at F000:FFF0. */
void cpu_state_reset(struct cpu_state *cpu, bool bootstrap, bool init);
/* The features that a guest has been shown and an engine lacks, as a list for people (g_free); NULL: none. */
char *cpu_state_missing_features(const struct cpu_state *cpu,
                                 const uint32_t offered[CPU_FEATURE_WORDS]);
/* Every field, for state files: version CPU_STATE_VERSION. */
void cpu_state_describe(struct cpu_state *cpu, struct state *state);
