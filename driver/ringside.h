/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's own structures. Small on purpose: it switches worlds, keeps the second-level page tables and
 * delivers events; everything else is the monitor's.
 *
 * Locks: hardware_lock (main.c) > machine.lock > those of the process's memory > machine.tables_lock. A CPU's run page is shared with its process, which may
 * change it at any time: each field is read once and checked after it was read.
 */
#ifndef RINGSIDE_H
#define RINGSIDE_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/types.h>

#include "ringside_abi.h"

#define RS_MAX_MAPPED (1ull << 40) /* bytes, of all of a machine's regions */
#define RS_PIECE (1ull << 28) /* bytes whose entries are taken back at once */

struct rs_region {
	struct list_head link;
	u64 gpa, size, address;
	u32 flags;
	unsigned long *dirty; /* with RINGSIDE_REGION_LOG, a bit per page */
};

struct rs_machine {
	struct kref refs; /* its file, and each of its CPUs */
	struct mm_struct *mm;
	struct mmu_notifier notifier; /* of what the kernel does with that */
	struct mutex lock; /* regions, making of tables, cpus */
	spinlock_t tables_lock; /* entries; the list of regions is changed under both */
	unsigned int invalidating; /* changes of the process's page tables that go on, under tables_lock */
	u64 invalidated; /* and that have ended */
	struct list_head regions;
	unsigned int region_count, cpus;
	u64 mapped; /* bytes of all regions */
	u64 *root, *spare; /* of the second-level page tables, and a table for them */
	/* Grows when an entry is taken back; a CPU compares it each time before it enters the guest. */
	atomic64_t tables;
};

/* A CPU's state while its guest runs, as far as both vendors keep it alike. */
struct rs_guest {
	u64 gpr[16], dr[4];
	u64 tsc_aux, spec_ctrl, xcr0;
	u64 event;    /* to be delivered at the next entry, as in struct ringside_run */
	unsigned int late; /* looks at somebody who waits, which found an event first */
	bool dr_used; /* DR0-3 are the guest's, else accesses to them exit */
	int last_cpu;
	s64 tables; /* machine.tables as of the last flush */
	void *xsave; /* ours alone: what XRSTOR reads may not change under it */
	u64 fault_gpa; /* of RS_FAULT */
	bool fault_write;
};

struct rs_cpu {
	struct rs_machine *machine;
	struct mutex lock; /* one runs it at a time */
	struct ringside_run *run; /* a page */
	struct page *run_page;
	struct rs_guest guest;
	void *vendor;
};

/* What happens after an exit: another turn, a page is to be had, back to the caller. */
enum rs_next { RS_AGAIN, RS_FAULT, RS_LEAVE };

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
	/* From and to the run page; false: the processor would refuse this state. */
	bool (*state_in)(struct rs_cpu *cpu);
	void (*state_out)(struct rs_cpu *cpu);
	/* Onto this processor (false: it cannot be used) and off it; preemption stays off in between. */
	bool (*load)(struct rs_cpu *cpu);
	void (*put)(struct rs_cpu *cpu);
	/* One turn, interrupts off; `stale`: entries of the tables were taken back. Then what its end means. */
	void (*enter)(struct rs_cpu *cpu, bool stale);
	enum rs_next (*exited)(struct rs_cpu *cpu);
	/* Bits of the second-level tables' entries: of one that leads to a table, and to a page. */
	u64 entry_table, entry_page;
	/* Whether pages may have 2 MiB. */
	bool (*large)(void);
};

extern const struct rs_vendor rs_svm, rs_vmx;
extern const struct rs_vendor *rs_vendor;

/* main.c: while held, the hardware is ours on all CPUs. */
int rs_hardware_get(void);
void rs_hardware_put(void);

/* memory.c */
extern atomic_t rs_pages[2];
struct rs_machine *rs_machine_create(void);
void rs_machine_put(struct rs_machine *machine);
int rs_map(struct rs_machine *machine, const struct ringside_region *region);
int rs_unmap(struct rs_machine *machine, u64 gpa, u64 size);
int rs_dirty(struct rs_machine *machine, const struct ringside_dirty *dirty);
/* The guest missed a page: 0 when it is there now, 1 when it is the caller's to carry out the access, or an error. */
int rs_fault(struct rs_machine *machine, u64 gpa, bool write);

/* What guests' memory has at gpa, for the processor's maker's file; false: not all of it is there. */
bool rs_read(struct rs_machine *machine, u64 gpa, void *to, size_t size);

/* cpu.c */
int rs_cpu_create(struct rs_machine *machine);

/* guest.c */
int rs_host_enable(void);
void rs_host_disable(void);
int rs_guest_init(struct rs_guest *g);
void rs_guest_free(struct rs_guest *g);
int rs_guest_run(struct rs_cpu *cpu);
/* For vendors, around a turn: DR0-3 (an exit has disabled DR7), SPEC_CTRL. */
void rs_debug_load(struct rs_guest *g);
void rs_debug_save(struct rs_guest *g);
u64 rs_spec_ctrl_load(const struct rs_guest *g);
void rs_spec_ctrl_restore(const struct rs_guest *g, u64 host);
void rs_event_interrupted(struct rs_guest *g, u32 info, u32 error);
void rs_exit_exception(struct rs_guest *g, unsigned int vector);

#endif
