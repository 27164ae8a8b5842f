/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPU without a machine: guest memory, one vCPU of the translate engine, and a port that ends the
 * run.
 */
#pragma once

#include "engine.h"

#define HARNESS_END_PORT 0xf4

struct harness {
    struct memory *memory;
    struct clock *clock;
    struct engine *engine;
    uint8_t *ram;
    uint64_t ram_size;
    struct cpu_bus bus;
    int code; /* value written to the end port, -1: none yet, -2: triple fault */
    GMutex lock;
    GCond ended;
    bool disturb;    /* keep posting invalidations while it runs */
    GString *output; /* bytes written to port E9h */
};

struct harness *harness_new(uint64_t ram_size, const char *options);
void harness_free(struct harness *h);
/* Runs from `state` until the guest ends it; the code, or -3 after `seconds`. *state becomes the
 * final state. */
int harness_run(struct harness *h, struct cpu_state *state, unsigned seconds);
/* 64-bit ring-0 state at rip: identity-mapped 4 GiB (2 MiB pages) with tables at `tables` (needs 24
 * KiB), a GDT there. */
void harness_long_mode(struct harness *h, struct cpu_state *state, uint64_t tables, uint64_t rip,
                       uint64_t rsp);
