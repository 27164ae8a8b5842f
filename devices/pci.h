/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI functions and the bus they sit on (PCI Local Bus 3.0, PCI Express Base 3.0 section 7).
 *
 * A PCI device embeds a `struct pci_function` in its private struct, describes it with a pci_function_info and calls pci_function_init() from its
 * init. Config space, BAR decoding, INTx, MSI and MSI-X are handled here; only what a device wants to see reaches it.
 */
#pragma once

#include "device.h"

#define PCI_CONFIG_SIZE 4096u
#define PCI_BARS 6u

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64, PCI_BAR_RAM32 };

struct pci_bar_info {
    enum pci_bar_kind kind;
    uint64_t size;            /* power of two */
    const struct io_ops *ops; /* IO and MEM: opaque is the device */
    bool prefetchable;        /* PCI_BAR_RAM32: backed by host memory given in pci_function.ram[] */
};

struct pci_function_info {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint8_t class_code, subclass, prog_if, revision;
    uint8_t interrupt_pin; /* 0 none, 1 = INTA# */
    struct pci_bar_info bar[PCI_BARS];
    uint64_t rom_size;
    bool msi; /* has an MSI capability (one vector, 64-bit) */
    bool multifunction;
};

struct pci_bus;
struct pci_function {
    const struct pci_function_info *info;
    struct pci_bus *bus;
    const struct device_host *host;
    void *device;
    uint8_t devfn;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE]; /* bits the guest may change */
    uint8_t *ram[PCI_BARS];            /* host memory behind PCI_BAR_RAM32, set before init */
    bool ram_log_dirty;
    const uint8_t *rom; /* option ROM image: pool memory, rom_size bytes; or NULL */
    unsigned mapped[PCI_BARS + 1]; /* memory or port mapping ids, 0: none */
    uint64_t mapped_at[PCI_BARS + 1];
    uint8_t msi_offset; /* of its MSI capability in config space */
    struct pci_msix *msix; /* pci_msix.h; NULL: none */
    uint8_t msix_offset;
    bool intx_level;
    /* Optional: called after the guest changed config space bytes [addr, addr+size). */
    void (*config_written)(void *device, uint32_t addr, unsigned size);
    /* Optional: called before the guest reads config space bytes. */
    void (*config_reading)(void *device, uint32_t addr, unsigned size);
};

/* The bus: config mechanism #1 (0CF8h/0CFCh) and ECAM are the host bridge's, which calls these. */
struct pci_bus *pci_bus_new(const struct device_host *host, const struct irq intx[8]); /* PIRQA-H */
void pci_bus_free(struct pci_bus *bus);
uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t busno, uint8_t devfn, uint32_t addr,
                             unsigned size); /* all ones when nobody is there */
void pci_bus_config_write(struct pci_bus *bus, uint8_t busno, uint8_t devfn, uint32_t addr,
                          uint32_t value, unsigned size);

/* Fills config space, adds the function to the bus. False with an error when devfn is taken. */
bool pci_function_init(struct pci_function *f, struct pci_bus *bus, uint8_t devfn, void *device,
                       const struct pci_function_info *info, GError **error);
void pci_function_fini(struct pci_function *f);
void pci_function_reset(struct pci_function *f); /* command register, BARs, MSI: back to power-on */
/* Adds a capability of `size` bytes at the next free offset; returns the offset. */
uint8_t pci_function_add_capability(struct pci_function *f, uint8_t id, uint8_t size);
/* Drives the interrupt: MSI when the guest enabled it (a message on each rising edge), else INTx. With MSI-X
 * on, nothing: the device sends vectors itself (pci_msix.h). */
void pci_function_interrupt(struct pci_function *f, bool level);
bool pci_function_bus_master(const struct pci_function *f); /* DMA allowed by the command register */
void pci_function_state(struct pci_function *f, struct state *state);
void pci_function_restored(struct pci_function *f); /* maps BARs again */

/* Config of every PCI device class starts with this. */
struct pci_config {
    struct pci_bus *bus;
    uint8_t devfn;
};
