/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's own structures. Small on purpose: it switches worlds, keeps the second-level page tables and
 * delivers events; everything else is the monitor's.
 *
 * Locks: hardware_lock (main.c) > machine.lock > nothing. A CPU's run page is shared with its process, which may
 * change it at any time: each field is read once and checked after it was read.
 */
#ifndef RINGSIDE_H
#define RINGSIDE_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/types.h>

#include "ringside_abi.h"

#define RS_MAX_MAPPED (1ull << 40) /* bytes, of all of a machine's regions */

struct rs_region {
	struct list_head link;
	u64 gpa, size, address;
	u32 flags;
	unsigned long *dirty; /* with RINGSIDE_REGION_LOG, a bit per page */
};

struct rs_machine {
	struct kref refs; /* its file, and each of its CPUs */
	struct mm_struct *mm;
	struct mutex lock; /* regions, tables, cpus */
	struct list_head regions;
	unsigned int region_count, cpus;
	u64 mapped; /* bytes of all regions, as accounted */
	u64 *root; /* of the nested page tables */
	/* Grows when an entry is taken back; a CPU compares it each time before it enters the guest. */
	atomic64_t tables;
};

struct rs_cpu {
	struct rs_machine *machine;
	struct mutex lock; /* one runs it at a time */
	struct ringside_run *run; /* a page */
	struct page *run_page;
	void *vendor;
};

/* What a vendor's file does. */
struct rs_vendor {
	u32 id;
	/* 0, or why this processor cannot be used at all. */
	int (*probe)(void);
	u32 (*features)(void);
	int (*init)(void);
	void (*exit)(void);
	/* On the CPU itself: takes the hardware (-EBUSY: somebody else has it) and gives it back. */
	int (*enable)(void);
	void (*disable)(void);
	int (*cpu_create)(struct rs_cpu *cpu);
	void (*cpu_destroy)(struct rs_cpu *cpu);
	int (*run)(struct rs_cpu *cpu);
};

extern const struct rs_vendor rs_svm;
extern const struct rs_vendor *rs_vendor;

/* main.c: while held, the hardware is ours on all CPUs. */
int rs_hardware_get(void);
void rs_hardware_put(void);

/* memory.c */
struct rs_machine *rs_machine_create(void);
void rs_machine_put(struct rs_machine *machine);
int rs_map(struct rs_machine *machine, const struct ringside_region *region);
int rs_unmap(struct rs_machine *machine, u64 gpa, u64 size);
int rs_dirty(struct rs_machine *machine, const struct ringside_dirty *dirty);
/* The guest missed a page: 0 when it is there now, 1 when it is the caller's to carry out the access, or an error. */
int rs_fault(struct rs_machine *machine, u64 gpa, bool write);

/* cpu.c */
int rs_cpu_create(struct rs_machine *machine);

#endif
