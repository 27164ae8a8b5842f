/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kvm engine's own structures. Local APICs are in the kernel, 8259, 8254 and IO-APIC are ours
 * ("split irqchip", Documentation/virt/kvm/api.rst, 7.5).
 */
#pragma once

#include <glib.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine.h"
#include "slots.h"

#define KVM_MAX_CPUS     32u
#define KVM_PINS         24u /* of the IO-APIC */
#define KVM_ENGINE_ERROR g_quark_from_static_string("ringside-engine")

enum kvm_request { KVM_REQUEST_PAUSE = 1, KVM_REQUEST_EXIT = 2 };

struct kvm_cpu {
    struct kvm_engine *engine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool started, parked; /* under engine.lock */
    atomic_bool inside;   /* in KVM_RUN, or about to be */
    atomic_uint requests; /* enum kvm_request */
    bool shutdown; /* triple fault, or an exit that we cannot handle: rests until the next set_state
                    */
    bool stuck;    /* the host cannot let it go on: rests until run() */
    unsigned settle; /* KVM_RUN calls that must get through until the last KVM_INTERRUPT shows in
                        the state */
    bool io;         /* the last exit's read has not been completed yet */
    /* Time that stands still while paused. */
    uint64_t tsc_adjust, deadline;
    uint32_t timer_initial, timer_left;
};

struct kvm_engine {
    const struct engine_ops *ops;
    int kvm, vm;
    unsigned cpus;
    struct memory *memory;
    struct clock *clock;
    const struct cpu_bus *bus;
    pthread_mutex_t lock;
    pthread_cond_t changed;    /* parked, requests, inside, closed */
    atomic_bool closed;        /* nobody may enter: memory is being rearranged */
    pthread_mutex_t apic_lock; /* an APIC's state is taken out and put back, or it gets a message */
    atomic_bool extint;
    struct kvm_cpu cpu[KVM_MAX_CPUS];
    struct slots slots;
    struct kvm_irq_routing *routing; /* KVM_PINS entries at most */
    uint64_t route_address[KVM_PINS];
    uint32_t route_data[KVM_PINS];
    struct kvm_cpuid2 *cpuid; /* of CPU 0, as set */
};

/* kvm.c: between them no CPU is in the guest. From any thread that is not in KVM_RUN itself. */
void kvm_guest_close(struct kvm_engine *k);
void kvm_guest_open(struct kvm_engine *k);

/* memory.c; machine lock held */
extern const struct slots_ops kvm_slots_ops;
void kvm_memory_changed(struct engine *engine);
void kvm_dirty_sync(struct engine *engine, uint64_t pool_offset, uint64_t len);

/* cpuid.c */
bool kvm_set_cpuid(struct kvm_cpu *v, GError **error);
/* What the guest is shown in a feature word, by leaf and register number (0: EAX .. 3: EDX). */
void kvm_cpuid_features(const struct kvm_engine *k, uint32_t features[CPU_FEATURE_WORDS]);
uint32_t kvm_cpuid_word(const struct kvm_engine *k, uint32_t leaf, unsigned reg);

/* state.c */
void kvm_get_state(struct engine *engine, unsigned cpu, struct cpu_state *state);
bool kvm_set_state(struct engine *engine, unsigned cpu, const struct cpu_state *state,
                   GError **error);
bool kvm_events_settled(struct kvm_cpu *v);
/* The CPU has stopped, it goes on: its TSC and APIC timer. */
void kvm_time_stop(struct kvm_cpu *v);
void kvm_time_go(struct kvm_cpu *v);

/* apic.c */
extern const struct engine_apic_ops kvm_apic_ops;
