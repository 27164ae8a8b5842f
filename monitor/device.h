/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device sees of the machine, and what the machine sees of a device.
 *
 * A device is a private struct, static functions and one const device_class at the end of its file.
 * Time, interrupts, DMA and I/O come in through `struct device_host`, so that a device test drives it with a fake
 * clock and no CPU. All functions here run with the machine lock held. Nothing a guest writes may reach an assert.
 */
#pragma once

#include "clock.h"
#include "memory.h"
#include "state.h"

/* An interrupt (or any other) line as seen by the one who drives it. */
struct irq {
    void (*set)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n;
};
static inline void irq_set(const struct irq *irq, bool level)
{
    if (irq->set) {
        irq->set(irq->opaque, irq->n, level);
    }
}

/* The services a device is created with. */
struct device_host {
    struct clock *clock;
    struct memory *memory; /* DMA: memory_read, memory_write, memory_ram_ptr */
    /* Claims `count` I/O ports from `port` on; later claims win (for relocated PCI BARs: unmap first). */
    unsigned (*map_ports)(void *opaque, uint16_t port, uint32_t count, const struct io_ops *ops,
                          void *dev);
    void (*unmap_ports)(void *opaque, unsigned id);
    void (*msi)(void *opaque, uint64_t address, uint32_t data); /* message-signalled interrupt */
    void *opaque;
};

struct device_class {
    const char *name;  /* "ich9-ahci": in logs and state files */
    size_t size;       /* of the private struct, which the machine allocates zeroed */
    unsigned version;  /* of the state layout */
    /* `config` is the class's own struct, documented in its header; NULL when it has none. */
    bool (*init)(void *dev, const struct device_host *host, const void *config, GError **error);
    void (*fini)(void *dev); /* optional; must cope with a failed init */
    void (*reset)(void *dev);       /* phase 1: own registers, no line changes */
    void (*reset_lines)(void *dev); /* phase 2, optional: drive the outputs to their reset levels */
    /* Describes every field once, for saving and restoring alike. */
    void (*state)(void *dev, struct state *state);
    /* Optional, after restoring: recompute what is derived (mappings, timers). False: state refused. */
    bool (*restored)(void *dev, GError **error);
    /* Optional: asynchronous work is still going on; called until false before a state is saved. */
    bool (*busy)(void *dev);
};

/* One line in the log of this machine: what happened, to what, what to do. Never from a loop that a
 * guest controls: use the _once form (once per call site and `key`) there. */
void device_log(const char *device, const char *format, ...) __attribute__((format(printf, 2, 3)));
void device_log_once(const char *device, uint64_t key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
