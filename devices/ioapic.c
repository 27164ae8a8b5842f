/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82093AA I/O APIC (order 290566-001) with the EOI register of later versions (ICH9
 * datasheet 13.5).
 */
#include "ioapic.h"

#define IOAPIC_BASE    0xfec00000u
#define IOAPIC_PINS    24u
#define IOAPIC_VERSION 0x20u

#define REDIR_REMOTE_IRR (1u << 14)
#define REDIR_LEVEL      (1u << 15)
#define REDIR_MASK       (1u << 16)
#define REDIR_READ_ONLY  (REDIR_REMOTE_IRR | 1u << 12)

struct ioapic {
    struct memory *memory;
    struct ioapic_config config;
    unsigned mapping;
    uint8_t select;
    uint32_t id, lines,
        pending; /* pending: edges that came in while masked are lost, as in hardware */
    uint64_t redir[IOAPIC_PINS];
    uint64_t routed[IOAPIC_PINS]; /* what config.route was told */
};

/* A redirection entry says the same things as an MSI does. */
static uint64_t entry_address(uint64_t entry)
{
    return 0xfee00000u | (entry >> 56) << 12 | (entry >> 11 & 1) << 2;
}

static uint32_t entry_data(uint64_t entry)
{
    return (uint32_t)(entry & 0x7ff) | (entry & REDIR_LEVEL ? 0xc000u : 0);
}

static void ioapic_send(struct ioapic *io, uint64_t entry)
{
    if (io->config.message) {
        io->config.message(io->config.opaque, entry_address(entry), entry_data(entry));
    }
}

static void ioapic_route(struct ioapic *io, unsigned n)
{
    uint64_t entry = io->redir[n] & ~(uint64_t)(REDIR_READ_ONLY | REDIR_MASK);

    if (io->config.route && entry != io->routed[n]) {
        io->routed[n] = entry;
        io->config.route(io->config.opaque, n, entry_address(entry), entry_data(entry));
    }
}

static void ioapic_service(struct ioapic *io, unsigned n)
{
    uint64_t *entry = &io->redir[n];
    uint32_t bit = 1u << n;

    if (*entry & REDIR_MASK) {
        return;
    }
    if (*entry & REDIR_LEVEL) {
        if ((io->lines & bit) && !(*entry & REDIR_REMOTE_IRR)) {
            *entry |= REDIR_REMOTE_IRR;
            ioapic_send(io, *entry);
        }
    } else if (io->pending & bit) {
        io->pending &= ~bit;
        ioapic_send(io, *entry);
    }
}

void ioapic_set_irq(void *dev, unsigned n, bool level)
{
    struct ioapic *io = dev;
    uint32_t bit = n < IOAPIC_PINS ? 1u << n : 0;

    if (!bit) {
        return;
    }
    if (level && !(io->lines & bit) && !(io->redir[n] & REDIR_MASK)) {
        io->pending |= bit;
    }
    io->lines = level ? io->lines | bit : io->lines & ~bit;
    ioapic_service(io, n);
}

void ioapic_eoi(void *dev, uint8_t vector)
{
    struct ioapic *io = dev;

    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint64_t *entry = &io->redir[n];
        if ((*entry & 0xff) == vector && (*entry & REDIR_LEVEL)) {
            *entry &= ~(uint64_t)REDIR_REMOTE_IRR;
            ioapic_service(io, n);
        }
    }
}

static uint32_t register_read(const struct ioapic *io)
{
    unsigned i = io->select;

    if (i == 0 || i == 2) {
        return io->id;
    }
    if (i == 1) {
        return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
    }
    if (i >= 0x10 && i < 0x10 + 2 * IOAPIC_PINS) {
        return (uint32_t)(io->redir[(i - 0x10) / 2] >> (i & 1 ? 32 : 0));
    }
    return 0;
}

static void redir_write(struct ioapic *io, unsigned n, bool high, uint32_t value)
{
    uint64_t *entry = &io->redir[n];

    if (high) {
        *entry = (*entry & 0xffffffffu) | (uint64_t)(value & 0xff000000u) << 32;
    } else {
        uint32_t keep = (uint32_t)*entry & REDIR_READ_ONLY;
        *entry = (*entry & ~0xffffffffull) | keep | (value & 0x1ffffu & ~REDIR_READ_ONLY);
        if (!(value & REDIR_LEVEL)) {
            *entry &= ~(uint64_t)REDIR_REMOTE_IRR;
        }
    }
    ioapic_route(io, n);
    ioapic_service(io, n);
}

static void register_write(struct ioapic *io, uint32_t value)
{
    unsigned i = io->select;

    if (i == 0) {
        io->id = value & 0x0f000000u;
    } else if (i >= 0x10 && i < 0x10 + 2 * IOAPIC_PINS) {
        redir_write(io, (i - 0x10) / 2, i & 1, value);
    }
}

static uint64_t ioapic_read(void *dev, uint64_t addr, unsigned size)
{
    struct ioapic *io = dev;

    switch (addr & 0xfc) {
    case 0x00:
        return io->select;
    case 0x10:
        return register_read(io);
    default:
        return 0;
    }
}

static void ioapic_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct ioapic *io = dev;

    switch (addr & 0xfc) {
    case 0x00:
        io->select = (uint8_t)value;
        break;
    case 0x10:
        register_write(io, (uint32_t)value);
        break;
    case 0x40:
        ioapic_eoi(io, (uint8_t)value);
        break;
    default:
        break;
    }
}

static const struct io_ops ioapic_ops = {"ioapic", ioapic_read, ioapic_write, 4, 4};

static bool ioapic_init(void *dev, const struct device_host *host, const void *config,
                        GError **error)
{
    struct ioapic *io = dev;
    struct mapping m = {.gpa = IOAPIC_BASE,
                        .size = 0x1000,
                        .kind = MAPPING_IO,
                        .priority = MEMORY_PRIORITY_DEVICE,
                        .ops = &ioapic_ops,
                        .opaque = dev};

    io->config = *(const struct ioapic_config *)config;
    io->memory = host->memory;
    io->mapping = memory_map(host->memory, &m);
    return true;
}

static void ioapic_fini(void *dev)
{
    struct ioapic *io = dev;

    if (io->mapping) {
        memory_unmap(io->memory, io->mapping);
    }
}

static void ioapic_reset(void *dev)
{
    struct ioapic *io = dev;

    io->select = 0;
    io->id = io->pending = 0;
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        io->redir[n] = REDIR_MASK;
        ioapic_route(io, n);
    }
}

static void ioapic_state(void *dev, struct state *s)
{
    struct ioapic *io = dev;

    state_u8(s, "select", &io->select);
    state_u32(s, "id", &io->id);
    state_u32(s, "lines", &io->lines);
    state_u32(s, "pending", &io->pending);
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        state_push(s, "redirection", n);
        state_u64(s, "entry", &io->redir[n]);
        state_pop(s);
    }
}

static bool ioapic_restored(void *dev, GError **error)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        ioapic_route(dev, n);
    }
    return true;
}

const struct device_class ioapic_device = {
    .name = "ioapic",
    .size = sizeof(struct ioapic),
    .version = 1,
    .init = ioapic_init,
    .fini = ioapic_fini,
    .reset = ioapic_reset,
    .state = ioapic_state,
    .restored = ioapic_restored,
};
