/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine as a whole: its CPUs' threads and the switches for shaking it. */
#pragma once

#include <glib.h>
#include <pthread.h>

#include "cpu.h"

struct cpu_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool started, parked, quit;
};

struct translate {
    const struct engine_ops *ops;
    unsigned cpus;
    struct memory *memory;
    struct clock *clock;
    const struct cpu_bus *bus;
    struct vcpu *cpu[MAX_CPUS];
    struct cpu_thread threads[MAX_CPUS];
    uint8_t *pool, *code_map, *dirty_map;
    uint32_t *code_cpus; /* by pool page: which CPUs have translations of it */
    atomic_flag code_cpus_busy;
    GMutex code_lock;
    GArray *code_queue[MAX_CPUS]; /* of struct code_range, written by others */
    bool running;
    uint64_t dirty_offset, dirty_len; /* pool range whose writes are logged */
    void *arena;                      /* address space for windows */
    size_t arena_size;
};

struct code_range {
    uint64_t offset, len;
};

struct translate_options {
    bool no_chain, one_instruction, no_windows, profile;
    bool stepping; /* engine_ops.step: no translation outlives its instruction, so none is protected
                    */
    uint64_t promote_ticks; /* TSC ticks that an address space runs before it gets windows */
    unsigned tlb_entries;
    size_t cache_size;
};
extern struct translate_options translate_options;

/* Makes sure that no CPU writes to this pool page without telling (a translation is being made from
 * it). */
void engine_protect_page(struct vcpu *v, uint64_t pool_offset);
/* This CPU has no translation of the page any more. */
void engine_release_page(struct vcpu *v, uint64_t pool_offset);
void engine_code_written(struct translate *t, struct vcpu *self, uint64_t offset, uint64_t len);
void vcpu_signals_init(void);
struct vcpu *vcpu_current(void);
void vcpu_reset_derived(struct vcpu *v);
