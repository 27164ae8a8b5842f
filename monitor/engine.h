/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The border between the machine and what executes its CPUs. Devices and the machine cannot tell which engine runs.
 *
 * Threads: an engine makes one thread per CPU. run() lets them go, pause() returns when none is in guest code. The
 * callbacks in cpu_bus are called from those threads, WITHOUT the machine lock: the callbacks take it themselves.
 */
#pragma once

#include "apic_state.h"
#include "clock.h"
#include "cpu_state.h"
#include "memory.h"

struct engine; /* each engine's own struct begins with: const struct engine_ops *ops; */

/* What a CPU asks of the machine. */
struct cpu_bus {
    void *opaque;
    uint64_t (*port_read)(void *opaque, uint16_t port, unsigned size);
    void (*port_write)(void *opaque, uint16_t port, uint64_t value, unsigned size);
    uint64_t (*mmio_read)(void *opaque, unsigned cpu, uint64_t gpa, unsigned size);
    void (*mmio_write)(void *opaque, unsigned cpu, uint64_t gpa, uint64_t value, unsigned size);
    /* The interrupt to take now (IF is set), acknowledged: its vector, or -1 when there is none any more
     * (spurious). Local APIC first, then the 8259 through LINT0. Lock-free peek: interrupt_pending. */
    int (*interrupt_ack)(void *opaque, unsigned cpu);
    bool (*interrupt_pending)(void *opaque, unsigned cpu);
    uint64_t (*tpr_read)(void *opaque, unsigned cpu); /* CR8: bits 7:4 of the TPR */
    void (*tpr_write)(void *opaque, unsigned cpu, uint64_t cr8);
    /* IA32_APIC_BASE (1Bh), IA32_TSC_DEADLINE (6E0h) and the x2APIC MSRs (800h-8FFh). False: #GP. */
    bool (*apic_msr_read)(void *opaque, unsigned cpu, uint32_t msr, uint64_t *value);
    bool (*apic_msr_write)(void *opaque, unsigned cpu, uint32_t msr, uint64_t value);
    /* Triple fault: the machine will reset or stop; the CPU stays in shutdown until then. */
    void (*shutdown)(void *opaque, unsigned cpu);
    /* The host cannot let the CPUs go on for now: the machine pauses, and `sentence` tells the user
     * why. Whoever resumes it tries again. */
    void (*stuck)(void *opaque, const char *sentence);
    /* Of engines with APICs of their own: the 8259's vector, acknowledged; an EOI for a level-triggered interrupt. */
    int (*extint_ack)(void *opaque);
    void (*apic_eoi)(void *opaque, uint8_t vector);
};

enum cpu_event { CPU_EVENT_INIT, CPU_EVENT_SIPI, CPU_EVENT_NMI };

struct engine_config {
    unsigned cpus;
    struct memory *memory;
    struct clock *clock;
    const struct cpu_bus *bus; /* stays the caller's */
    const char *options;       /* engine-specific switches ("nochain,oneinsn,tlb=16,cache=1M"), or NULL */
    const struct engine_ops *stepper; /* an engine that has step(), for those that need one */
};

/* Local APICs inside the engine; the machine's lapic device then only keeps their state for state files. */
struct engine_apic_ops {
    /* From any thread. */
    void (*message)(struct engine *engine, uint64_t address, uint32_t data); /* as an MSI */
    void (*extint)(struct engine *engine, bool level);                       /* the 8259's INTR, at LINT0 */
    /* What IO-APIC input `pin` sends from now on, so that the engine knows of which EOIs to tell. */
    void (*route)(struct engine *engine, unsigned pin, uint64_t address, uint32_t data);
    /* While paused; after set_state of the same CPU. */
    void (*get_state)(struct engine *engine, unsigned cpu, struct apic_state *state);
    bool (*set_state)(struct engine *engine, unsigned cpu, const struct apic_state *state, GError **error);
};

struct engine_ops {
    const char *name; /* "translate", "kvm", "driver" */
    /* Can it run here? If not, *why gets one sentence with the remedy (g_free). */
    bool (*probe)(char **why);
    struct engine *(*create)(const struct engine_config *config, GError **error);
    void (*destroy)(struct engine *engine);
    void (*run)(struct engine *engine);
    void (*pause)(struct engine *engine);
    /* While paused. */
    void (*get_state)(struct engine *engine, unsigned cpu, struct cpu_state *state);
    bool (*set_state)(struct engine *engine, unsigned cpu, const struct cpu_state *state,
                      GError **error);
    /* From any thread, machine lock held or not; never block on a CPU thread. */
    void (*kick)(struct engine *engine, unsigned cpu); /* interrupt_pending may have become true */
    void (*event)(struct engine *engine, unsigned cpu, enum cpu_event event, uint8_t vector);
    /* The guest-physical map changed: drop what was derived from it. May be called from a CPU's own
     * callback; other CPUs follow at their next safepoint. */
    void (*memory_changed)(struct engine *engine);
    /* Pool bytes were stored to by a device: drop translations made from them. */
    void (*code_written)(struct engine *engine, uint64_t pool_offset, uint64_t len);
    /* Starts a new round of dirty logging for log_dirty mappings in [pool_offset, +len): writes from now on set bytes
     * in the dirty map again. (The caller has just read and cleared them.) A write that races is reported in the next round. */
    void (*dirty_rearm)(struct engine *engine, uint64_t pool_offset, uint64_t len);
    /* Optional: the dirty map over [pool_offset, +len) is about to be read; put in what the engine knows. */
    void (*dirty_sync)(struct engine *engine, uint64_t pool_offset, uint64_t len);
    /* Optional: one instruction at a time, for engines that leave to this one what their hardware
     * does not do. Such an engine is created with the option "step" and never run; each CPU is
     * stepped by one thread, always the same. Carries out the instruction at `state`, or delivers
     * the exception that it raises. False: the state has something that this engine does not know;
     * it is unchanged. */
    bool (*step)(struct engine *engine, unsigned cpu, struct cpu_state *state);
    bool by_name; /* "auto" leaves it out: it is on trial */
    const struct engine_apic_ops *apic; /* NULL: the lapic device works */
    /* The TSC frequency, brand and so on as the guest's CPUID tells them; for `info` and SMBIOS. */
    const char *(*cpu_model)(struct engine *engine);
};

extern const struct engine_ops kvm_engine, driver_engine, translate_engine;

/* The engines of this build in order of preference, NULL-terminated. */
extern const struct engine_ops *const engines[];
