/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical map as slots, for engines whose kernel part maps ranges of our memory: what of
 * it is to be taken away and what to be made when the map changes, and the dirty maps of
 * framebuffers.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

struct slot {
    uint64_t gpa, size;
    uint8_t *host;
    bool read_only, log_dirty;
    bool used, keep;
};

struct slots_ops {
    /* Slot `n` becomes this one; `used` false: it goes. False: refused. */
    bool (*set)(void *opaque, unsigned n, const struct slot *slot);
    /* Fills a bit for each page written since the last call; false: not known. */
    bool (*dirty)(void *opaque, unsigned n, const struct slot *slot, uint64_t *bits);
    /* Between them no CPU is in the guest. */
    void (*close)(void *opaque);
    void (*open)(void *opaque);
};

struct slots {
    const struct slots_ops *ops;
    void *opaque;
    const char *name; /* of the engine, for the log */
    struct memory *memory;
    struct slot *slot;
    unsigned count;
    uint64_t *bits;
    size_t bits_size;
};

void slots_init(struct slots *slots, const struct slots_ops *ops, void *opaque, const char *name,
                struct memory *memory, unsigned count);
void slots_clear(struct slots *slots);
/* Machine lock held. */
void slots_update(struct slots *slots);
/* Puts what the guest wrote in [pool_offset, +len) into the dirty map. */
void slots_dirty_sync(struct slots *slots, uint64_t pool_offset, uint64_t len);
