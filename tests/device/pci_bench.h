/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bench for one PCI device: RAM, a bus, a fake clock, ports, an interrupt line; no CPU. */
#pragma once

#include <glib.h>
#include <string.h>

#include "lock.h"
#include "pci.h"

#define BENCH_RAM  (8u << 20)
#define BENCH_MMIO 0x80000000u

struct bench_ports {
    uint16_t port;
    uint32_t count;
    const struct io_ops *ops;
    void *dev;
};

struct bench {
    struct device_host host;
    struct pci_bus *bus;
    struct bench_ports ports[16];
    unsigned port_count;
    bool irq;
    unsigned messages;
    uint32_t message_data; /* of the last */
    uint8_t *ram;
    const struct device_class *class;
    void *dev;
};

static void bench_irq(void *opaque, unsigned n, bool level)
{
    ((struct bench *)opaque)->irq = level;
}

static void bench_msi(void *opaque, uint64_t address, uint32_t data)
{
    ((struct bench *)opaque)->messages++;
    ((struct bench *)opaque)->message_data = data;
}

static unsigned bench_map_ports(void *opaque, uint16_t port, uint32_t count,
                                const struct io_ops *ops, void *dev)
{
    struct bench *b = opaque;
    g_assert_cmpuint(b->port_count, <, G_N_ELEMENTS(b->ports));
    b->ports[b->port_count++] = (struct bench_ports){port, count, ops, dev};
    return b->port_count;
}

static void bench_unmap_ports(void *opaque, unsigned id)
{
    ((struct bench *)opaque)->ports[id - 1].count = 0;
}

static void bench_open(struct bench *b)
{
    struct irq lines[8];
    memset(b, 0, sizeof(*b));
    b->host = (struct device_host){.clock = clock_new_fake(),
                                   .memory = memory_new(64u << 20, NULL),
                                   .map_ports = bench_map_ports,
                                   .unmap_ports = bench_unmap_ports,
                                   .msi = bench_msi,
                                   .opaque = b};
    g_assert_nonnull(b->host.memory);
    b->ram = memory_alloc(b->host.memory, BENCH_RAM, "ram");
    struct mapping ram = {.size = BENCH_RAM, .kind = MAPPING_RAM, .host = b->ram};
    memory_map(b->host.memory, &ram);
    for (unsigned i = 0; i < 8; i++) {
        lines[i] = (struct irq){bench_irq, b, i};
    }
    b->bus = pci_bus_new(&b->host, lines);
}

static void bench_start(struct bench *b, const struct device_class *class, const void *config)
{
    g_autoptr(GError) error = NULL;
    b->class = class;
    b->dev = g_malloc0(class->size);
    g_assert_true(class->init(b->dev, &b->host, config, &error));
    class->reset(b->dev);
    if (class->reset_lines) {
        class->reset_lines(b->dev);
    }
}

/* Puts a BAR at BENCH_MMIO + n * 32 MiB and switches the function on. */
static inline uint32_t bench_bar(struct bench *b, uint8_t devfn, unsigned n)
{
    uint32_t at = BENCH_MMIO + n * (32u << 20);
    pci_bus_config_write(b->bus, 0, devfn, 0x10 + 4 * n, at, 4);
    pci_bus_config_write(b->bus, 0, devfn, 0x04, 7, 2);
    return at;
}

static void bench_close(struct bench *b)
{
    b->class->fini(b->dev);
    g_free(b->dev);
    pci_bus_free(b->bus);
    memory_free(b->host.memory);
    clock_free(b->host.clock);
}

static inline const struct bench_ports *bench_port(struct bench *b, uint16_t port)
{
    for (unsigned i = b->port_count; i-- > 0;) {
        if (port >= b->ports[i].port && port - b->ports[i].port < (int)b->ports[i].count) {
            return &b->ports[i];
        }
    }
    return NULL;
}

static inline void bench_out(struct bench *b, uint16_t port, uint32_t value, unsigned size)
{
    const struct bench_ports *p = bench_port(b, port);
    if (p) {
        io_ops_write(p->ops, p->dev, (uint64_t)(port - p->port), value, size);
    }
}

static inline uint32_t bench_in(struct bench *b, uint16_t port, unsigned size)
{
    const struct bench_ports *p = bench_port(b, port);
    return p ? (uint32_t)io_ops_read(p->ops, p->dev, (uint64_t)(port - p->port), size) : UINT32_MAX;
}

/* The state saved and put into the same device again. */
static inline void bench_save_restore(struct bench *b)
{
    g_autoptr(GError) error = NULL;
    struct state *s = state_begin_save(b->class->version);
    b->class->state(b->dev, s);
    g_autoptr(GVariant) saved = g_variant_ref_sink(state_end_save(s));
    b->class->reset(b->dev);
    s = state_begin_restore(saved);
    b->class->state(b->dev, s);
    g_assert_true(state_end_restore(s, b->class->name, &error));
    g_assert_true(!b->class->restored || b->class->restored(b->dev, &error));
}
