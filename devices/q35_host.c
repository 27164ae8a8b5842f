/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82Q35 MCH, device 0 (3 Series Chipset Family datasheet, order 316966, section 5):
 * configuration mechanism #1, PCIEXBAR, PAM0-6 and SMRAM. There is no SMM here: SMRAM only opens
 * and closes A0000h.
 */
#include <string.h>

#include "q35_host.h"

#define REG_PCIEXBAR 0x60u
#define REG_PAM      0x90u
#define REG_SMRAM    0x9du

#define PAM_SEGMENTS 13u
#define SMRAM_OPEN   0x40u
#define SMRAM_LOCK   0x10u

struct q35 {
    struct pci_function function;
    struct q35_config config;
    struct memory *memory;
    uint32_t address; /* CF8h */
    uint8_t pam_mode[PAM_SEGMENTS];
    unsigned pam_id[PAM_SEGMENTS];
    unsigned hole_id, rom_id, smram_id, ecam_id;
    uint64_t ecam_base, ecam_size;
};

/* Segment 0 is F0000h (64 KiB); 1-12 are the 16 KiB pieces from C0000h. */
static uint64_t segment_start(unsigned n)
{
    return n ? 0xc0000u + (n - 1) * 0x4000u : 0xf0000u;
}

static uint64_t segment_size(unsigned n)
{
    return n ? 0x4000 : 0x10000;
}

static uint64_t hole_read(void *dev, uint64_t addr, unsigned size)
{
    return UINT64_MAX;
}

static void hole_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
}

static const struct io_ops hole_ops = {"hole", hole_read, hole_write, 8, 1};

/* Write-only PAM: reads see what is below, writes go to RAM. The mapping's start is found from the
 * offset because each segment has ops of its own base: F0000h, or C0000h for all others. */
static void shadow_store(struct q35 *q, uint64_t gpa, uint64_t value, unsigned size)
{
    memcpy(q->config.ram + gpa, &value, size);
    memory_wrote(q->memory, q->config.ram + gpa, size);
}

#define SHADOW_OPS(n)                                                                              \
    static void shadow_write_##n(void *dev, uint64_t addr, uint64_t value, unsigned size)          \
    {                                                                                              \
        shadow_store(dev, segment_start(n) + addr, value, size);                                   \
    }                                                                                              \
    static const struct io_ops shadow_ops_##n = {"pam-" #n, hole_read, shadow_write_##n, 8, 1};

SHADOW_OPS(0)
SHADOW_OPS(1)
SHADOW_OPS(2)
SHADOW_OPS(3)
SHADOW_OPS(4)
SHADOW_OPS(5)
SHADOW_OPS(6)
SHADOW_OPS(7)
SHADOW_OPS(8)
SHADOW_OPS(9)
SHADOW_OPS(10)
SHADOW_OPS(11)
SHADOW_OPS(12)

static const struct io_ops *const shadow_ops[PAM_SEGMENTS] = {
    &shadow_ops_0,  &shadow_ops_1,  &shadow_ops_2, &shadow_ops_3, &shadow_ops_4,
    &shadow_ops_5,  &shadow_ops_6,  &shadow_ops_7, &shadow_ops_8, &shadow_ops_9,
    &shadow_ops_10, &shadow_ops_11, &shadow_ops_12};

static unsigned segment_map(struct q35 *q, unsigned n, unsigned mode)
{
    uint64_t start = segment_start(n);
    struct mapping m = {.gpa = start,
                        .size = segment_size(n),
                        .priority = MEMORY_PRIORITY_PAM,
                        .host = q->config.ram + start,
                        .opaque = q};

    if (mode == 0) {
        return 0;
    }
    m.kind = mode == 3 ? MAPPING_RAM : MAPPING_ROM;
    if (mode == 2) {
        m.ops = shadow_ops[n];
        m.kind = MAPPING_IO;
        if (q->config.low_bios && start >= 0xe0000) {
            m.kind = MAPPING_ROM_IO;
            m.host = q->config.low_bios + (start - 0xe0000);
        }
    }
    return memory_map(q->memory, &m);
}

/* PAM0 has F0000h in its high nibble only; PAM1-6 two segments each. */
static uint8_t segment_mode(const struct q35 *q, unsigned n)
{
    if (n == 0) {
        return q->function.config[REG_PAM] >> 4 & 3;
    }
    return q->function.config[REG_PAM + 1 + (n - 1) / 2] >> ((n - 1) % 2 * 4) & 3;
}

static void pam_update(struct q35 *q)
{
    for (unsigned n = 0; n < PAM_SEGMENTS; n++) {
        uint8_t mode = segment_mode(q, n);
        if (mode != q->pam_mode[n]) {
            memory_unmap(q->memory, q->pam_id[n]);
            q->pam_id[n] = segment_map(q, n, mode);
            q->pam_mode[n] = mode;
        }
    }
}

static void smram_update(struct q35 *q)
{
    bool open = (q->function.config[REG_SMRAM] & SMRAM_OPEN) &&
                !(q->function.config[REG_SMRAM] & SMRAM_LOCK);
    struct mapping m = {.gpa = 0xa0000,
                        .size = 0x20000,
                        .kind = MAPPING_RAM,
                        .priority = MEMORY_PRIORITY_PAM,
                        .host = q->config.ram + 0xa0000};

    if (open == (q->smram_id != 0)) {
        return;
    }
    if (open) {
        q->smram_id = memory_map(q->memory, &m);
    } else {
        memory_unmap(q->memory, q->smram_id);
        q->smram_id = 0;
    }
}

static uint64_t ecam_read(void *dev, uint64_t addr, unsigned size)
{
    struct q35 *q = dev;

    return pci_bus_config_read(q->config.pci.bus, (uint8_t)(addr >> 20), (uint8_t)(addr >> 12),
                               addr & 0xfff, size);
}

static void ecam_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct q35 *q = dev;

    pci_bus_config_write(q->config.pci.bus, (uint8_t)(addr >> 20), (uint8_t)(addr >> 12),
                         addr & 0xfff, (uint32_t)value, size);
}

static const struct io_ops ecam_ops = {"ecam", ecam_read, ecam_write, 4, 1};

static void ecam_update(struct q35 *q)
{
    const uint8_t *r = q->function.config + REG_PCIEXBAR;
    uint64_t size = 0x10000000u >> (r[0] >> 1 & 3);
    uint64_t base = ((uint64_t)(r[4] & 0xf) << 32 | (uint64_t)r[3] << 24) & ~(size - 1);
    struct mapping m = {.gpa = base,
                        .size = size,
                        .kind = MAPPING_IO,
                        .priority = MEMORY_PRIORITY_DEVICE,
                        .ops = &ecam_ops,
                        .opaque = q};

    if (!(r[0] & 1) || (r[0] >> 1 & 3) == 3 || base < 0x1000000) {
        base = 0;
    }
    if (base == q->ecam_base && size == q->ecam_size) {
        return;
    }
    memory_unmap(q->memory, q->ecam_id);
    q->ecam_base = base;
    q->ecam_size = size;
    q->ecam_id = base ? memory_map(q->memory, &m) : 0;
}

static void q35_update(struct q35 *q)
{
    memory_begin(q->memory);
    pam_update(q);
    smram_update(q);
    ecam_update(q);
    memory_commit(q->memory);
}

static void q35_config_written(void *dev, uint32_t addr, unsigned size)
{
    if (addr + size > REG_PCIEXBAR && addr <= REG_SMRAM) {
        q35_update(dev);
    }
}

static uint64_t address_read(void *dev, uint64_t addr, unsigned size)
{
    return size == 4 ? ((struct q35 *)dev)->address : UINT64_MAX;
}

static void address_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    if (size == 4) {
        ((struct q35 *)dev)->address = (uint32_t)value & 0x80fffffc;
    }
}

static uint64_t data_read(void *dev, uint64_t addr, unsigned size)
{
    struct q35 *q = dev;

    if (!(q->address >> 31)) {
        return UINT64_MAX;
    }
    return pci_bus_config_read(q->config.pci.bus, (uint8_t)(q->address >> 16),
                               (uint8_t)(q->address >> 8), (q->address & 0xfc) + (addr & 3), size);
}

static void data_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct q35 *q = dev;

    if (q->address >> 31) {
        pci_bus_config_write(q->config.pci.bus, (uint8_t)(q->address >> 16),
                             (uint8_t)(q->address >> 8), (q->address & 0xfc) + (addr & 3),
                             (uint32_t)value, size);
    }
}

static const struct io_ops address_ops = {"pci-address", address_read, address_write, 4, 1};
static const struct io_ops data_ops = {"pci-data", data_read, data_write, 4, 1};

static const struct pci_function_info q35_info = {
    .vendor = 0x8086,
    .device = 0x29c0,
    .subsystem_vendor = 0x8086,
    .subsystem = 0x29c0,
    .class_code = 0x06,
    .revision = 0,
};

static void q35_map_fixed(struct q35 *q)
{
    struct mapping m = {.gpa = 0xa0000,
                        .size = 0x60000,
                        .kind = MAPPING_IO,
                        .priority = MEMORY_PRIORITY_HOLE,
                        .ops = &hole_ops,
                        .opaque = q};

    q->hole_id = memory_map(q->memory, &m);
    if (q->config.low_bios) {
        m.gpa = 0xe0000;
        m.size = 0x20000;
        m.kind = MAPPING_ROM;
        m.priority = MEMORY_PRIORITY_ROM;
        m.host = q->config.low_bios;
        q->rom_id = memory_map(q->memory, &m);
    }
}

static bool q35_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct q35 *q = dev;
    uint8_t *w = q->function.writable;

    q->config = *(const struct q35_config *)config;
    q->memory = host->memory;
    w[REG_PCIEXBAR] = 0x07;
    w[REG_PCIEXBAR + 3] = 0xfc;
    w[REG_PCIEXBAR + 4] = 0x0f;
    w[REG_PAM] = 0x30;
    for (unsigned i = 1; i < 7; i++) {
        w[REG_PAM + i] = 0x33;
    }
    w[REG_SMRAM] = 0x5f;
    w[REG_SMRAM + 1] = 0xff;
    if (!pci_function_init(&q->function, q->config.pci.bus, q->config.pci.devfn, q, &q35_info,
                           error)) {
        return false;
    }
    q->function.config_written = q35_config_written;
    q35_map_fixed(q);
    host->map_ports(host->opaque, 0xcf8, 4, &address_ops, dev);
    host->map_ports(host->opaque, 0xcfc, 4, &data_ops, dev);
    return true;
}

static void q35_fini(void *dev)
{
    struct q35 *q = dev;

    pci_function_fini(&q->function);
}

static void q35_reset(void *dev)
{
    struct q35 *q = dev;
    uint8_t *c = q->function.config;

    pci_function_reset(&q->function);
    q->address = 0;
    for (unsigned i = 0; i < 8; i++) {
        c[REG_PCIEXBAR + i] = 0;
    }
    for (unsigned i = 0; i < 7; i++) {
        c[REG_PAM + i] = 0;
    }
    c[REG_SMRAM] = 0x02;
    c[REG_SMRAM + 1] = 0x38;
    q35_update(q);
}

static void q35_state(void *dev, struct state *s)
{
    struct q35 *q = dev;

    pci_function_state(&q->function, s);
    state_u32(s, "address", &q->address);
}

static bool q35_restored(void *dev, GError **error)
{
    struct q35 *q = dev;

    pci_function_restored(&q->function);
    q35_update(q);
    return true;
}

const struct device_class q35_device = {
    .name = "q35-host",
    .size = sizeof(struct q35),
    .version = 1,
    .init = q35_init,
    .fini = q35_fini,
    .reset = q35_reset,
    .state = q35_state,
    .restored = q35_restored,
};
