/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bench for chips: fake clock, 1 MiB of RAM at 0, ports, and a log of interrupt lines.
 */
#pragma once

#include <string.h>

#include "device.h"
#include "pci.h"
#include "ports.h"

struct bench {
    struct clock *clock;
    struct memory *memory;
    uint8_t *ram;
    struct ports *ports;
    struct device_host host;
    bool line[64];
    unsigned edges[64]; /* rising */
    uint64_t msi_address;
    uint32_t msi_data;
    unsigned msis;
};

static inline unsigned bench_map_ports(void *opaque, uint16_t port, uint32_t count,
                                       const struct io_ops *ops, void *dev)
{
    return ports_map(((struct bench *)opaque)->ports, port, count, ops, dev);
}

static inline void bench_unmap_ports(void *opaque, unsigned id)
{
    ports_unmap(((struct bench *)opaque)->ports, id);
}

static inline void bench_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct bench *b = opaque;

    b->msi_address = address;
    b->msi_data = data;
    b->msis++;
}

static inline void bench_line(void *opaque, unsigned n, bool level)
{
    struct bench *b = opaque;

    b->edges[n & 63] += level && !b->line[n & 63];
    b->line[n & 63] = level;
}

static inline struct irq bench_irq(struct bench *b, unsigned n)
{
    return (struct irq){bench_line, b, n};
}

static inline struct bench *bench_new(void)
{
    struct bench *b = g_new0(struct bench, 1);
    struct mapping ram = {.size = 1 << 20, .kind = MAPPING_RAM};

    b->clock = clock_new_fake();
    b->memory = memory_new(8 << 20, NULL);
    b->ram = ram.host = memory_alloc(b->memory, 1 << 20, "ram");
    memory_map(b->memory, &ram);
    b->ports = ports_new();
    b->host =
        (struct device_host){b->clock, b->memory, bench_map_ports, bench_unmap_ports, bench_msi, b};
    return b;
}

static inline void bench_free(struct bench *b)
{
    ports_free(b->ports);
    memory_free(b->memory);
    clock_free(b->clock);
    g_free(b);
}

static inline void *bench_device(struct bench *b, const struct device_class *class,
                                 const void *config)
{
    void *dev = g_malloc0(class->size);
    GError *error = NULL;

    g_assert_true(class->init(dev, &b->host, config, &error));
    class->reset(dev);
    if (class->reset_lines) {
        class->reset_lines(dev);
    }
    return dev;
}

static inline void bench_device_free(const struct device_class *class, void *dev)
{
    if (class->fini) {
        class->fini(dev);
    }
    g_free(dev);
}

static inline GVariant *bench_save(const struct device_class *class, void *dev)
{
    struct state *s = state_begin_save(class->version);

    class->state(dev, s);
    return g_variant_ref_sink(state_end_save(s));
}

/* Save, reset, restore, save: both states must be equal. */
static inline void bench_round_trip(const struct device_class *class, void *dev)
{
    g_autoptr(GVariant) before = bench_save(class, dev), after = NULL;
    struct state *s;
    GError *error = NULL;

    class->reset(dev);
    s = state_begin_restore(before);
    class->state(dev, s);
    g_assert_true(state_end_restore(s, class->name, &error));
    if (class->restored) {
        g_assert_true(class->restored(dev, &error));
    }
    after = bench_save(class, dev);
    g_assert_true(g_variant_equal(before, after));
}
