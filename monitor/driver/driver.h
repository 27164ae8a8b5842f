/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver engine's own structures: CPUs in /dev/ringside (driver/API.md), everything else here.
 * Interrupt controllers are the machine's devices, as under translate; what the processor leaves
 * over is carried out by the translator, one instruction at a time.
 */
#pragma once

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>

#include "../../driver/ringside_abi.h"
#include "engine.h"
#include "slots.h"

#define DRIVER_MAX_CPUS     32u
#define DRIVER_DEVICE       "/dev/ringside"
#define DRIVER_ENGINE_ERROR g_quark_from_static_string("ringside-engine")

enum driver_request {
    DRIVER_PAUSE = 1,
    DRIVER_EXIT = 2,
    DRIVER_KICK = 4, /* look for interrupts */
    DRIVER_INIT = 8,
    DRIVER_SIPI = 16,
    DRIVER_NMI = 32
};

struct driver_cpu {
    struct driver_engine *engine;
    unsigned index;
    int fd;
    struct ringside_run *run; /* has the registers */
    pthread_t thread;
    bool started, parked; /* under engine.lock */
    atomic_bool inside;   /* in RINGSIDE_RUN, or about to be */
    atomic_uint requests; /* enum driver_request */
    _Atomic uint8_t sipi_vector;
    bool stuck;             /* the host cannot let it go on: rests until run() */
    struct cpu_state *rest; /* what the hardware does not have; the whole state for a step */
    uint64_t steps, turns;
};

struct driver_engine {
    const struct engine_ops *ops;
    int device, machine;
    size_t run_size;
    unsigned cpus;
    bool profile; /* log at the end how often the CPUs did what */
    struct memory *memory;
    struct clock *clock;
    const struct cpu_bus *bus;
    const struct engine_ops *stepper_ops;
    struct engine *stepper;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* parked, requests, inside, closed */
    atomic_bool closed;     /* nobody may enter: memory is being rearranged */
    struct slots slots;
    struct driver_cpu cpu[DRIVER_MAX_CPUS];
};

/* driver.c */
void driver_guest_close(struct driver_engine *d);
void driver_guest_open(struct driver_engine *d);

/* cpuid.c */
void driver_cpuid(const struct driver_cpu *v, uint32_t leaf, uint32_t sub, uint32_t out[4]);
void driver_cpuid_features(const struct driver_cpu *v, uint32_t features[CPU_FEATURE_WORDS]);

/* quick.c: carries out what the last turn ended at; false: nothing has been done. */
bool driver_quick(struct driver_cpu *v);

/* memory.c; machine lock held */
extern const struct slots_ops driver_slots_ops;
void driver_memory_changed(struct engine *engine);
void driver_dirty_sync(struct engine *engine, uint64_t pool_offset, uint64_t len);

/* state.c: between the run page and `rest`. */
void driver_state_load(struct driver_cpu *v);  /* rest to run page */
void driver_state_store(struct driver_cpu *v); /* run page to rest */
void driver_get_state(struct engine *engine, unsigned cpu, struct cpu_state *state);
bool driver_set_state(struct engine *engine, unsigned cpu, const struct cpu_state *state,
                      GError **error);
