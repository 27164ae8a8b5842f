/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /dev/ringside and the monitor say to each other; API.md describes each ioctl. Little-endian, the same
 * for 32- and 64-bit callers. Both sides assert the sizes.
 */
#ifndef RINGSIDE_ABI_H
#define RINGSIDE_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RINGSIDE_ABI_VERSION 1

#define RINGSIDE_MAX_CPUS 64
#define RINGSIDE_MAX_REGIONS 512
#define RINGSIDE_MAX_GPA (1ull << 46)
#define RINGSIDE_XSAVE_SIZE 832

/* Hardware behind it. */
#define RINGSIDE_VENDOR_AMD 1
#define RINGSIDE_VENDOR_INTEL 2

/* struct ringside_info.features */
#define RINGSIDE_HAS_NEXT_RIP 1u /* exits tell where the next instruction is */
#define RINGSIDE_HAS_XSAVE 2u    /* the xsave area holds more than FXSAVE's part */

struct ringside_info {
	__u32 version; /* RINGSIDE_ABI_VERSION */
	__u32 vendor;
	__u32 features;
	__u32 run_size; /* bytes to mmap of a CPU */
	__u64 xcr0;     /* bits that a guest may have */
};

#define RINGSIDE_REGION_READ_ONLY 1u /* writes exit as RINGSIDE_EXIT_MEMORY */
#define RINGSIDE_REGION_LOG 2u       /* written pages are recorded for RINGSIDE_DIRTY */

struct ringside_region {
	__u64 gpa, size; /* multiples of 4096 */
	__u64 address;   /* in the caller's memory, which must be writable */
	__u32 flags;
	__u32 reserved; /* 0 */
};

struct ringside_dirty {
	__u64 gpa, size; /* a whole region's */
	__u64 bitmap;    /* address of a bit per page, a multiple of 8 bytes */
};

struct ringside_segment {
	__u64 base;
	__u32 limit;
	__u16 selector;
	__u16 attributes; /* the descriptor's type..P in bits 0-7, AVL..G in 8-11 */
};

enum {
	RINGSIDE_ES,
	RINGSIDE_CS,
	RINGSIDE_SS,
	RINGSIDE_DS,
	RINGSIDE_FS,
	RINGSIDE_GS,
	RINGSIDE_LDTR,
	RINGSIDE_TR,
	RINGSIDE_SEGMENTS
};

struct ringside_state {
	__u64 gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
	__u64 rip, rflags;
	struct ringside_segment seg[RINGSIDE_SEGMENTS];
	__u64 gdtr_base, idtr_base;
	__u32 gdtr_limit, idtr_limit;
	__u64 cr0, cr2, cr3, cr4, xcr0, efer;
	__u64 dr[4], dr6, dr7;
	__u64 star, lstar, cstar, fmask, kernel_gs_base;
	__u64 sysenter_cs, sysenter_esp, sysenter_eip;
	__u64 pat, tsc_aux, spec_ctrl;
	__u64 tsc_offset; /* added to the host's TSC */
	__u8 cpl;
	__u8 interrupt_shadow;
	__u8 nmi_blocked; /* IRET exits */
	__u8 reserved[5];
};

/* struct ringside_run.event: bits 0-7 vector, 8-10 type, 11 has an error code (in bits 32-63), 31 valid. */
#define RINGSIDE_EVENT_VALID 0x80000000ull
#define RINGSIDE_EVENT_ERROR 0x800ull
#define RINGSIDE_EVENT_INTERRUPT 0x000ull
#define RINGSIDE_EVENT_NMI 0x200ull
#define RINGSIDE_EVENT_EXCEPTION 0x300ull

#define RINGSIDE_RUN_WINDOW 1u     /* exit when an interrupt can be taken */
#define RINGSIDE_RUN_EXIT_RDTSC 2u /* RDTSC and RDTSCP exit */

enum {
	RINGSIDE_EXIT_NONE,        /* a signal, immediate_exit, other work for the thread, the end of nmi_blocked */
	RINGSIDE_EXIT_IO,          /* io is set */
	RINGSIDE_EXIT_MEMORY,      /* memory is set: no region there, or a write to a read-only one */
	RINGSIDE_EXIT_WINDOW,      /* an interrupt can be taken */
	RINGSIDE_EXIT_HLT,         /* at the HLT */
	RINGSIDE_EXIT_INSTRUCTION, /* at an instruction that is the caller's to carry out */
	RINGSIDE_EXIT_SHUTDOWN,    /* triple fault; the state is not defined */
	RINGSIDE_EXIT_REFUSED,     /* the processor refuses this state */
	RINGSIDE_EXIT_UNKNOWN      /* detail is the processor's code */
};

#define RINGSIDE_DETAIL_CPUID 1 /* detail of RINGSIDE_EXIT_INSTRUCTION: it is at CPUID */

struct ringside_run {
	/* Written by the caller. */
	__u8 immediate_exit; /* may be set at any time, by a signal's handler for instance */
	__u8 xsave_changed;  /* xsave is to be loaded; the driver clears it */
	__u16 reserved0;
	__u32 flags; /* RINGSIDE_RUN_... */
	/* In and out: delivered at entry; what could not be is still there after the exit. */
	__u64 event;
	/* Written by the driver. */
	__u32 exit;
	__u32 reserved1;
	__u64 detail;
	__u64 next_rip; /* of HLT and INSTRUCTION with RINGSIDE_HAS_NEXT_RIP, and of IO; else 0 */
	struct {
		__u16 port;
		__u8 size; /* 1, 2 or 4 */
		__u8 in;
		__u8 string; /* INS, OUTS: the caller's to carry out; repeated or not */
		__u8 reserved[3];
	} io;
	struct {
		__u64 gpa;
		__u32 write;
		__u32 reserved;
	} memory;
	__u64 reserved2[4];
	/* In and out. */
	struct ringside_state state;
	__u64 reserved3[6];
	__u8 xsave[RINGSIDE_XSAVE_SIZE] __attribute__((aligned(64)));
};

#ifdef __cplusplus
#define RINGSIDE_ASSERT static_assert
#else
#define RINGSIDE_ASSERT _Static_assert
#endif
RINGSIDE_ASSERT(sizeof(struct ringside_info) == 24, "ABI");
RINGSIDE_ASSERT(sizeof(struct ringside_region) == 32, "ABI");
RINGSIDE_ASSERT(sizeof(struct ringside_dirty) == 24, "ABI");
RINGSIDE_ASSERT(sizeof(struct ringside_segment) == 16, "ABI");
RINGSIDE_ASSERT(sizeof(struct ringside_state) == 496, "ABI");
RINGSIDE_ASSERT(__builtin_offsetof(struct ringside_run, state) == 96, "ABI");
RINGSIDE_ASSERT(__builtin_offsetof(struct ringside_run, xsave) == 640, "ABI");
RINGSIDE_ASSERT(sizeof(struct ringside_run) == 1472, "ABI");

/* Of /dev/ringside */
#define RINGSIDE_INFO _IOR('g', 0x40, struct ringside_info)
#define RINGSIDE_CREATE_MACHINE _IO('g', 0x41)
/* Of a machine */
#define RINGSIDE_MAP _IOW('g', 0x48, struct ringside_region)
#define RINGSIDE_UNMAP _IOW('g', 0x49, struct ringside_region)
#define RINGSIDE_DIRTY _IOW('g', 0x4a, struct ringside_dirty)
#define RINGSIDE_CREATE_CPU _IO('g', 0x4b)
/* Of a CPU */
#define RINGSIDE_RUN _IO('g', 0x50)

#endif
