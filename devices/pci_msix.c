/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X (see pci_msix.h).
 */
#include <string.h>

#include "pci_msix.h"

#define CONTROL_ENABLE 0x80u /* high byte of message control */
#define CONTROL_MASK   0x40u
#define ENTRY_CONTROL  12u
#define ENTRY_MASKED   1u

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}

static void put32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    memcpy(p, &v, sizeof v);
}

bool pci_msix_init(struct pci_msix *x, struct pci_function *f, unsigned vectors, unsigned bar,
                   uint32_t table_at, uint32_t pba_at)
{
    uint8_t at = pci_function_add_capability(f, 0x11, 12);

    if (!at || vectors > PCI_MSIX_VECTORS) {
        return false;
    }
    x->function = f;
    x->vectors = vectors;
    x->table_at = table_at;
    x->pba_at = pba_at;
    f->msix = x;
    f->msix_offset = at;
    f->config[at + 2] = (uint8_t)(vectors - 1);
    f->writable[at + 3] = CONTROL_ENABLE | CONTROL_MASK;
    put32(f->config + at + 4, table_at | bar);
    put32(f->config + at + 8, pba_at | bar);
    pci_msix_reset(x);
    return true;
}

static uint8_t control(const struct pci_msix *x)
{
    return x->function->config[x->function->msix_offset + 3];
}

bool pci_msix_enabled(const struct pci_msix *x)
{
    return x->function && (control(x) & CONTROL_ENABLE);
}

static bool vector_masked(const struct pci_msix *x, unsigned vector)
{
    return (control(x) & CONTROL_MASK) ||
           (x->table[vector * PCI_MSIX_ENTRY + ENTRY_CONTROL] & ENTRY_MASKED);
}

void pci_msix_send(struct pci_msix *x, unsigned vector)
{
    const struct device_host *host = x->function->host;
    const uint8_t *entry = x->table + vector * PCI_MSIX_ENTRY;

    if (vector >= x->vectors || !pci_msix_enabled(x)) {
        return;
    }
    if (vector_masked(x, vector)) {
        x->pending |= 1u << vector;
    } else if (host->msi && pci_function_bus_master(x->function)) {
        host->msi(host->opaque, get32(entry) | (uint64_t)get32(entry + 4) << 32, get32(entry + 8));
    }
}

/* Sends what was held back and is not masked any more. */
static void pending_send(struct pci_msix *x)
{
    for (unsigned v = 0; pci_msix_enabled(x) && x->pending >> v; v++) {
        if ((x->pending & 1u << v) && !vector_masked(x, v)) {
            x->pending &= ~(1u << v);
            pci_msix_send(x, v);
        }
    }
}

uint64_t pci_msix_read(struct pci_msix *x, uint64_t addr, unsigned size)
{
    uint64_t table_end = x->table_at + (uint64_t)x->vectors * PCI_MSIX_ENTRY, value = 0;

    if (addr >= x->table_at && addr + size <= table_end) {
        memcpy(&value, x->table + (addr - x->table_at), MIN(size, 8));
    } else if (addr == x->pba_at) {
        value = x->pending;
    }
    return GUINT64_FROM_LE(value);
}

void pci_msix_write(struct pci_msix *x, uint64_t addr, uint64_t value, unsigned size)
{
    uint64_t table_end = x->table_at + (uint64_t)x->vectors * PCI_MSIX_ENTRY;

    if (addr >= x->table_at && addr + size <= table_end && size >= 4) {
        value = GUINT64_TO_LE(value);
        memcpy(x->table + (addr - x->table_at), &value, MIN(size, 8));
        pending_send(x);
    }
}

void pci_msix_control_written(struct pci_msix *x)
{
    pending_send(x);
}

void pci_msix_reset(struct pci_msix *x)
{
    x->pending = 0;
    memset(x->table, 0, sizeof x->table);
    for (unsigned i = 0; i < x->vectors; i++) {
        put32(x->table + i * PCI_MSIX_ENTRY + ENTRY_CONTROL, ENTRY_MASKED);
    }
    x->function->config[x->function->msix_offset + 3] = 0;
}

void pci_msix_state(struct pci_msix *x, struct state *state)
{
    state_bytes(state, "msix-table", x->table, (size_t)x->vectors * PCI_MSIX_ENTRY);
    state_u32(state, "msix-pending", &x->pending);
    x->pending &= UINT32_MAX >> (32 - x->vectors);
}
