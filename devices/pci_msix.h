/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X of a PCI function (PCI Local Bus 3.0, section 6.8.2): a table of vectors and a pending bit
 * array in one of the function's memory BARs.
 *
 * The device embeds a struct pci_msix, calls pci_msix_init() after pci_function_init(), and hands
 * its BAR's accesses below the two offsets to pci_msix_read() and pci_msix_write(). Reset, state
 * and masking by config space come through pci.c.
 */
#pragma once

#include "pci.h"

#define PCI_MSIX_VECTORS 32u
#define PCI_MSIX_ENTRY   16u

struct pci_msix {
    struct pci_function *function;
    unsigned vectors;
    uint32_t table_at, pba_at; /* offsets in the BAR */
    uint8_t table[PCI_MSIX_VECTORS * PCI_MSIX_ENTRY];
    uint32_t pending;
};

/* False: there is no room for the capability. */
bool pci_msix_init(struct pci_msix *x, struct pci_function *f, unsigned vectors, unsigned bar,
                   uint32_t table_at, uint32_t pba_at);
bool pci_msix_enabled(const struct pci_msix *x);
/* Sends the vector's message, or notes it as pending while it is masked. Other vectors than there
 * are: nothing. */
void pci_msix_send(struct pci_msix *x, unsigned vector);
/* 4- or 8-byte accesses at an offset in the BAR; elsewhere than table and PBA: 0, ignored. */
uint64_t pci_msix_read(struct pci_msix *x, uint64_t addr, unsigned size);
void pci_msix_write(struct pci_msix *x, uint64_t addr, uint64_t value, unsigned size);

/* For pci.c. */
void pci_msix_control_written(struct pci_msix *x);
void pci_msix_reset(struct pci_msix *x);
void pci_msix_state(struct pci_msix *x, struct state *state);
