/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI functions: type 0 configuration header, BARs, capabilities, MSI and INTx (PCI Local Bus 3.0,
 * sections 6.1, 6.2, 6.7, 6.8). All functions of this machine sit on bus 0.
 */
#include <string.h>

#include "pci_msix.h"

#define PCI_COMMAND     0x04u
#define PCI_STATUS      0x06u
#define PCI_BAR0        0x10u
#define PCI_ROM         0x30u
#define PCI_CAP_POINTER 0x34u
#define PCI_INT_LINE    0x3cu
#define PCI_INT_PIN     0x3du

#define COMMAND_IO      0x0001u
#define COMMAND_MEMORY  0x0002u
#define COMMAND_MASTER  0x0004u
#define COMMAND_NO_INTX 0x0400u
#define STATUS_INTX     0x08u /* low byte of the status register */
#define STATUS_CAPS     0x10u
#define MSI_ENABLE      0x01u /* low byte of message control */

struct pci_bus {
    struct device_host host;
    struct irq intx[8];
    uint8_t count[8]; /* how many functions hold each line */
    struct pci_function *function[256];
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

struct pci_bus *pci_bus_new(const struct device_host *host, const struct irq intx[8])
{
    struct pci_bus *bus = g_new0(struct pci_bus, 1);

    bus->host = *host;
    memcpy(bus->intx, intx, sizeof bus->intx);
    return bus;
}

void pci_bus_free(struct pci_bus *bus)
{
    g_free(bus);
}

static unsigned access_size(unsigned size)
{
    return size == 1 || size == 2 ? size : 4;
}

uint32_t pci_bus_config_read(struct pci_bus *bus, uint8_t busno, uint8_t devfn, uint32_t addr,
                             unsigned size)
{
    struct pci_function *f = busno == 0 ? bus->function[devfn] : NULL;
    uint32_t value = 0;

    size = access_size(size);
    if (!f || addr + size > PCI_CONFIG_SIZE) {
        return UINT32_MAX >> (32 - 8 * size);
    }
    if (f->config_reading) {
        f->config_reading(f->device, addr, size);
    }
    for (unsigned i = 0; i < size; i++) {
        value |= (uint32_t)f->config[addr + i] << (8 * i);
    }
    return value;
}

static bool ranges_touch(uint32_t addr, unsigned size, uint32_t at, unsigned len)
{
    return addr < at + len && at < addr + size;
}

/* The address in a BAR (5 is the last, PCI_BARS the ROM), 0 when it does not decode now. */
static uint64_t bar_address(const struct pci_function *f, unsigned n)
{
    uint16_t command = get16(f->config + PCI_COMMAND);
    enum pci_bar_kind kind = n < PCI_BARS ? f->info->bar[n].kind : PCI_BAR_MEM32;
    uint64_t size = n < PCI_BARS ? f->info->bar[n].size : f->info->rom_size, address;
    uint32_t low = get32(f->config + (n < PCI_BARS ? PCI_BAR0 + 4 * n : PCI_ROM));

    if (!(command & (kind == PCI_BAR_IO ? COMMAND_IO : COMMAND_MEMORY))) {
        return 0;
    }
    if (n == PCI_BARS && !(low & 1)) {
        return 0;
    }
    address = low & (kind == PCI_BAR_IO ? ~3u : n == PCI_BARS ? ~0x7ffu : ~15u);
    if (kind == PCI_BAR_MEM64) {
        address |= (uint64_t)get32(f->config + PCI_BAR0 + 4 * n + 4) << 32;
    }
    if (kind == PCI_BAR_IO) {
        return address + size <= 0x10000 ? address : 0;
    }
    /* All ones is what sizing writes; nothing decodes at the very top. */
    return address + size > address && address + size <= 1ull << 40 &&
                   !(kind != PCI_BAR_MEM64 && address + size > 0xffffffffull)
               ? address
               : 0;
}

static void bar_unmap(struct pci_function *f, unsigned n)
{
    if (!f->mapped[n]) {
        return;
    }
    if (n < PCI_BARS && f->info->bar[n].kind == PCI_BAR_IO) {
        f->host->unmap_ports(f->host->opaque, f->mapped[n]);
    } else {
        memory_unmap(f->host->memory, f->mapped[n]);
    }
    f->mapped[n] = 0;
    f->mapped_at[n] = 0;
}

static unsigned bar_map_memory(struct pci_function *f, unsigned n, uint64_t address)
{
    const struct pci_bar_info *bar = n < PCI_BARS ? &f->info->bar[n] : NULL;
    struct mapping m = {.gpa = address,
                        .size = bar ? bar->size : f->info->rom_size,
                        .priority = MEMORY_PRIORITY_BAR,
                        .kind = MAPPING_IO,
                        .opaque = f->device};

    if (!bar) {
        m.kind = MAPPING_ROM;
        m.host = (uint8_t *)(uintptr_t)f->rom;
    } else if (bar->kind == PCI_BAR_RAM32) {
        m.kind = MAPPING_RAM;
        m.host = f->ram[n];
        m.log_dirty = f->ram_log_dirty;
    } else {
        m.ops = bar->ops;
    }
    return memory_map(f->host->memory, &m);
}

static void bar_update(struct pci_function *f, unsigned n)
{
    uint64_t address = bar_address(f, n);

    if (address == f->mapped_at[n]) {
        return;
    }
    bar_unmap(f, n);
    if (!address) {
        return;
    }
    f->mapped_at[n] = address;
    if (n < PCI_BARS && f->info->bar[n].kind == PCI_BAR_IO) {
        f->mapped[n] =
            f->host->map_ports(f->host->opaque, (uint16_t)address, (uint32_t)f->info->bar[n].size,
                               f->info->bar[n].ops, f->device);
    } else {
        f->mapped[n] = bar_map_memory(f, n, address);
    }
}

static void bars_update(struct pci_function *f)
{
    memory_begin(f->host->memory);
    for (unsigned n = 0; n <= PCI_BARS; n++) {
        if (n < PCI_BARS ? f->info->bar[n].kind != PCI_BAR_NONE : f->rom && f->info->rom_size) {
            bar_update(f, n);
        }
    }
    memory_commit(f->host->memory);
}

/* Which of PIRQA-H a function's pin is wired to: the ICH9's fixed wiring for 00:1f and 00:1d, a
 * swizzle else. The DSDT's _PRT says the same. */
static unsigned intx_line(const struct pci_function *f)
{
    unsigned pin = (f->info->interrupt_pin - 1u) & 3u, slot = f->devfn >> 3;

    return slot >= 0x19 ? pin : 4 + ((slot + pin) & 3);
}

static void intx_drive(struct pci_function *f, bool level)
{
    struct pci_bus *bus = f->bus;
    unsigned line;

    if (!f->info->interrupt_pin || level == f->intx_level) {
        return;
    }
    f->intx_level = level;
    line = intx_line(f);
    bus->count[line] = (uint8_t)(bus->count[line] + (level ? 1 : -1));
    irq_set(&bus->intx[line], bus->count[line] > 0);
}

static bool msi_enabled(const struct pci_function *f)
{
    return f->msi_offset && (f->config[f->msi_offset + 2] & MSI_ENABLE);
}

static bool msix_enabled(const struct pci_function *f)
{
    return f->msix && pci_msix_enabled(f->msix);
}

static bool intx_wanted(const struct pci_function *f)
{
    return (f->config[PCI_STATUS] & STATUS_INTX) && !msi_enabled(f) && !msix_enabled(f) &&
           !(get16(f->config + PCI_COMMAND) & COMMAND_NO_INTX);
}

static void msi_send(struct pci_function *f)
{
    const uint8_t *cap = f->config + f->msi_offset;

    if (f->host->msi && pci_function_bus_master(f)) {
        f->host->msi(f->host->opaque, get32(cap + 4) | (uint64_t)get32(cap + 8) << 32,
                     get16(cap + 12));
    }
}

void pci_function_interrupt(struct pci_function *f, bool level)
{
    bool was = f->config[PCI_STATUS] & STATUS_INTX;

    if (level) {
        f->config[PCI_STATUS] |= STATUS_INTX;
    } else {
        f->config[PCI_STATUS] &= (uint8_t)~STATUS_INTX;
    }
    if (msi_enabled(f)) {
        intx_drive(f, false);
        if (level && !was && !msix_enabled(f)) {
            msi_send(f);
        }
    } else {
        intx_drive(f, intx_wanted(f));
    }
}

static void function_written(struct pci_function *f, uint32_t addr, unsigned size)
{
    if (ranges_touch(addr, size, PCI_COMMAND, 2) || ranges_touch(addr, size, PCI_BAR0, 24) ||
        ranges_touch(addr, size, PCI_ROM, 4)) {
        bars_update(f);
    }
    if (ranges_touch(addr, size, PCI_COMMAND, 2) ||
        (f->msi_offset && ranges_touch(addr, size, f->msi_offset, 4)) ||
        (f->msix && ranges_touch(addr, size, f->msix_offset, 4))) {
        intx_drive(f, intx_wanted(f));
    }
    if (f->msix && ranges_touch(addr, size, f->msix_offset, 4)) {
        pci_msix_control_written(f->msix);
    }
    if (f->config_written) {
        f->config_written(f->device, addr, size);
    }
}

void pci_bus_config_write(struct pci_bus *bus, uint8_t busno, uint8_t devfn, uint32_t addr,
                          uint32_t value, unsigned size)
{
    struct pci_function *f = busno == 0 ? bus->function[devfn] : NULL;

    size = access_size(size);
    if (!f || addr + size > PCI_CONFIG_SIZE) {
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        uint8_t mask = f->writable[addr + i];
        f->config[addr + i] = (uint8_t)((f->config[addr + i] & ~mask) | (value >> (8 * i) & mask));
    }
    function_written(f, addr, size);
}

static void bar_fill(struct pci_function *f, unsigned n)
{
    const struct pci_bar_info *bar = &f->info->bar[n];
    uint32_t at = PCI_BAR0 + 4 * n, flags = bar->kind == PCI_BAR_IO ? 1 : 0;
    uint64_t mask = ~(bar->size - 1);

    if (bar->kind == PCI_BAR_NONE) {
        return;
    }
    if (bar->kind == PCI_BAR_MEM64) {
        flags |= 4;
        put32(f->writable + at + 4, (uint32_t)(mask >> 32));
    }
    if (bar->prefetchable) {
        flags |= 8;
    }
    put32(f->config + at, flags);
    put32(f->writable + at, (uint32_t)mask & (bar->kind == PCI_BAR_IO ? ~3u : ~15u));
}

static void header_fill(struct pci_function *f)
{
    const struct pci_function_info *info = f->info;
    uint8_t *c = f->config;

    put16(c, info->vendor);
    put16(c + 2, info->device);
    c[8] = info->revision;
    c[9] = info->prog_if;
    c[10] = info->subclass;
    c[11] = info->class_code;
    c[14] = info->multifunction ? 0x80 : 0;
    put16(c + 0x2c, info->subsystem_vendor);
    put16(c + 0x2e, info->subsystem);
    c[PCI_INT_PIN] = info->interrupt_pin;
    f->writable[0x0c] = 0xff; /* cache line size */
    f->writable[0x0d] = 0xff;
    f->writable[PCI_INT_LINE] = 0xff;
    put16(f->writable + PCI_COMMAND, 0x0547); /* IO, memory, master, parity, SERR, INTx disable */
    for (unsigned n = 0; n < PCI_BARS; n++) {
        bar_fill(f, n);
    }
    if (info->rom_size && f->rom) {
        put32(f->writable + PCI_ROM, ((uint32_t) ~(info->rom_size - 1) & ~0x7ffu) | 1);
    }
}

static void msi_add(struct pci_function *f)
{
    uint8_t at = pci_function_add_capability(f, 0x05, 14);

    if (at) {
        f->msi_offset = at;
        f->config[at + 2] = 0x80; /* 64-bit addresses, one vector */
        f->writable[at + 2] = MSI_ENABLE;
        put32(f->writable + at + 4, 0xfffffffc);
        put32(f->writable + at + 8, 0xffffffff);
        put16(f->writable + at + 12, 0xffff);
    }
}

bool pci_function_init(struct pci_function *f, struct pci_bus *bus, uint8_t devfn, void *device,
                       const struct pci_function_info *info, GError **error)
{
    if (bus->function[devfn]) {
        g_set_error(error, g_quark_from_static_string("pci"), 0,
                    "Two devices want PCI slot 00:%02x.%x", devfn >> 3, devfn & 7);
        return false;
    }
    f->info = info;
    f->bus = bus;
    f->host = &bus->host;
    f->device = device;
    f->devfn = devfn;
    header_fill(f);
    if (info->msi) {
        msi_add(f);
    }
    bus->function[devfn] = f;
    return true;
}

void pci_function_fini(struct pci_function *f)
{
    if (!f->bus) {
        return;
    }
    for (unsigned n = 0; n <= PCI_BARS; n++) {
        bar_unmap(f, n);
    }
    f->bus->function[f->devfn] = NULL;
    f->bus = NULL;
}

void pci_function_reset(struct pci_function *f)
{
    put16(f->config + PCI_COMMAND, 0);
    f->config[PCI_STATUS] &= (uint8_t)~STATUS_INTX;
    f->config[PCI_INT_LINE] = 0;
    for (unsigned i = PCI_BAR0; i < PCI_BAR0 + 24; i++) {
        f->config[i] &= (uint8_t)~f->writable[i];
    }
    for (unsigned i = PCI_ROM; i < PCI_ROM + 4; i++) {
        f->config[i] &= (uint8_t)~f->writable[i];
    }
    for (unsigned i = f->msi_offset; f->msi_offset && i < f->msi_offset + 14u; i++) {
        f->config[i] &= (uint8_t)~f->writable[i];
    }
    if (f->msix) {
        pci_msix_reset(f->msix);
    }
    bars_update(f);
    intx_drive(f, false);
}

/* The first capability goes to 40h or behind the last; chips with fixed offsets fill config
 * themselves. */
uint8_t pci_function_add_capability(struct pci_function *f, uint8_t id, uint8_t size)
{
    unsigned link = PCI_CAP_POINTER, at = 0x40;

    for (unsigned left = 48; left && f->config[link]; left--) {
        at = f->config[link];
        link = at + 1;
        at += f->config[at] == 0x01   ? 8
              : f->config[at] == 0x05 ? 16
              : f->config[at] == 0x09 ? f->config[at + 2]
              : f->config[at] == 0x10 ? 60
                                      : 16;
    }
    at = (at + 3) & ~3u;
    if (f->msi_offset && at < f->msi_offset + 16u) {
        at = f->msi_offset + 16u;
    }
    if (at + size > 0x100) {
        return 0;
    }
    f->config[link] = (uint8_t)at;
    f->config[at] = id;
    f->config[at + 1] = 0;
    f->config[PCI_STATUS] |= STATUS_CAPS;
    return (uint8_t)at;
}

bool pci_function_bus_master(const struct pci_function *f)
{
    return f->config[PCI_COMMAND] & COMMAND_MASTER;
}

/* Only bits a guest can change, and interrupt status, are taken from a state file. */
void pci_function_state(struct pci_function *f, struct state *state)
{
    g_autofree uint8_t *saved = g_memdup2(f->config, PCI_CONFIG_SIZE);
    bool level = f->intx_level;

    state_bytes(state, "config", saved, PCI_CONFIG_SIZE);
    state_bool(state, "intx_level", &level);
    if (f->msix) {
        pci_msix_state(f->msix, state);
    }
    if (!state_restoring(state) || state_failed(state)) {
        return;
    }
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t mask = f->writable[i] | (i == PCI_STATUS ? STATUS_INTX : 0);
        f->config[i] = (uint8_t)((f->config[i] & ~mask) | (saved[i] & mask));
    }
    intx_drive(f, level);
}

void pci_function_restored(struct pci_function *f)
{
    bars_update(f);
    intx_drive(f, intx_wanted(f));
}
