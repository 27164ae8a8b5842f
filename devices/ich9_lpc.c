/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel ICH9 LPC interface bridge (order 316972, section 13). A20 is always on: port 92h only
 * remembers its bit. SMM is absent: writes to B2h act as the ACPI enable and disable commands of
 * our FADT.
 */
#include "acpi_pm.h"
#include "ich9_lpc.h"
#include "pit8254.h"

#define REG_PMBASE    0x40u
#define REG_ACPI_CNTL 0x44u
#define REG_PIRQ      0x60u
#define REG_RCBA      0xf0u

#define ACPI_CNTL_ENABLE 0x80u
#define PIRQ_OFF         0x80u
#define RCBA_HPTC        0x3404u
#define RCBA_GCS         0x3410u
#define GCS_NO_REBOOT    0x20u

#define APM_ACPI_ENABLE  2u /* the FADT's ACPI_ENABLE and ACPI_DISABLE */
#define APM_ACPI_DISABLE 3u

#define REFRESH_NS 15085u

struct lpc {
    struct pci_function function;
    struct lpc_config config;
    struct clock *clock;
    struct memory *memory;
    uint8_t pirq_levels, port61, port92, reset_control, apm_command, apm_status, post_code;
    uint16_t pic_levels;
    uint32_t hptc, gcs;
    unsigned rcba_id;
    uint64_t rcba_base;
};

static unsigned pirq_register(unsigned n)
{
    return REG_PIRQ + (n < 4 ? n : n + 4);
}

/* An 8259 input carries the OR of the PIRQs routed to it. */
static void pirq_update(struct lpc *lpc)
{
    uint16_t levels = 0, changed;

    for (unsigned n = 0; n < 8; n++) {
        uint8_t route = lpc->function.config[pirq_register(n)];
        if (!(route & PIRQ_OFF) && (lpc->pirq_levels >> n & 1)) {
            levels |= (uint16_t)(1u << (route & 15));
        }
    }
    changed = levels ^ lpc->pic_levels;
    lpc->pic_levels = levels;
    for (unsigned n = 3; n < 16; n++) {
        if (changed >> n & 1) {
            lpc->config.pic_set(lpc->config.opaque, n, levels >> n & 1);
        }
    }
}

void lpc_set_pirq(void *dev, unsigned n, bool level)
{
    struct lpc *lpc = dev;
    uint8_t bit = (uint8_t)(1u << (n & 7));

    lpc->pirq_levels = level ? lpc->pirq_levels | bit : lpc->pirq_levels & (uint8_t)~bit;
    pirq_update(lpc);
    lpc->config.ioapic_set(lpc->config.opaque, 16 + (n & 7), level);
}

static uint64_t rcba_read(void *dev, uint64_t addr, unsigned size)
{
    const struct lpc *lpc = dev;

    return addr == RCBA_HPTC ? lpc->hptc : addr == RCBA_GCS ? lpc->gcs : 0;
}

static void rcba_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct lpc *lpc = dev;

    if (addr == RCBA_HPTC) {
        lpc->hptc = value & 0x83;
    } else if (addr == RCBA_GCS) {
        lpc->gcs = value & GCS_NO_REBOOT;
        acpi_pm_set_no_reboot(lpc->config.pm, lpc->gcs & GCS_NO_REBOOT);
    }
}

static const struct io_ops rcba_ops = {"rcba", rcba_read, rcba_write, 4, 4};

static void rcba_update(struct lpc *lpc)
{
    const uint8_t *r = lpc->function.config + REG_RCBA;
    uint64_t base = (uint64_t)r[3] << 24 | (uint64_t)r[2] << 16 | (r[1] & 0xc0u) << 8;
    struct mapping m = {.size = 0x4000,
                        .kind = MAPPING_IO,
                        .priority = MEMORY_PRIORITY_BAR,
                        .ops = &rcba_ops,
                        .opaque = lpc};

    if (!(r[0] & 1)) {
        base = 0;
    }
    if (base == lpc->rcba_base) {
        return;
    }
    memory_unmap(lpc->memory, lpc->rcba_id);
    lpc->rcba_base = m.gpa = base;
    lpc->rcba_id = base ? memory_map(lpc->memory, &m) : 0;
}

static void lpc_update(struct lpc *lpc)
{
    const uint8_t *c = lpc->function.config;
    bool on = c[REG_ACPI_CNTL] & ACPI_CNTL_ENABLE;

    acpi_pm_map(lpc->config.pm,
                on ? (uint16_t)((c[REG_PMBASE] | c[REG_PMBASE + 1] << 8) & 0xff80) : 0);
    rcba_update(lpc);
    pirq_update(lpc);
}

static void lpc_config_written(void *dev, uint32_t addr, unsigned size)
{
    lpc_update(dev);
}

static uint64_t port61_read(void *dev, uint64_t addr, unsigned size)
{
    struct lpc *lpc = dev;
    uint8_t refresh = clock_now(lpc->clock) / REFRESH_NS & 1 ? 0x10 : 0;

    return lpc->port61 | refresh | (pit_out2(lpc->config.pit) ? 0x20 : 0);
}

static void port61_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct lpc *lpc = dev;

    lpc->port61 = value & 0x0f;
    pit_set_gate2(lpc->config.pit, value & 1);
}

static uint64_t port92_read(void *dev, uint64_t addr, unsigned size)
{
    return ((struct lpc *)dev)->port92;
}

static void port92_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct lpc *lpc = dev;
    bool reset = (value & 1) && !(lpc->port92 & 1);

    lpc->port92 = value & 3;
    if (reset) {
        lpc->config.reset(lpc->config.opaque);
    }
}

static uint64_t reset_read(void *dev, uint64_t addr, unsigned size)
{
    return ((struct lpc *)dev)->reset_control;
}

static void reset_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct lpc *lpc = dev;
    bool reset = (value & 4) && !(lpc->reset_control & 4);

    lpc->reset_control = value & 0x0e;
    if (reset) {
        lpc->config.reset(lpc->config.opaque);
    }
}

static uint64_t apm_read(void *dev, uint64_t addr, unsigned size)
{
    struct lpc *lpc = dev;

    return addr ? lpc->apm_status : lpc->apm_command;
}

static void apm_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct lpc *lpc = dev;

    if (addr) {
        lpc->apm_status = (uint8_t)value;
        return;
    }
    lpc->apm_command = (uint8_t)value;
    if (value == APM_ACPI_ENABLE || value == APM_ACPI_DISABLE) {
        acpi_pm_set_acpi(lpc->config.pm, value == APM_ACPI_ENABLE);
    }
}

static uint64_t post_read(void *dev, uint64_t addr, unsigned size)
{
    return ((struct lpc *)dev)->post_code;
}

static void post_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    ((struct lpc *)dev)->post_code = (uint8_t)value;
}

static uint64_t dma_page_read(void *dev, uint64_t addr, unsigned size)
{
    return 0;
}

static void dma_page_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
}

static const struct io_ops port61_ops = {"port-61", port61_read, port61_write, 1, 1};
static const struct io_ops port92_ops = {"port-92", port92_read, port92_write, 1, 1};
static const struct io_ops reset_ops = {"reset-control", reset_read, reset_write, 1, 1};
static const struct io_ops apm_ops = {"apm", apm_read, apm_write, 1, 1};
static const struct io_ops post_ops = {"post-code", post_read, post_write, 1, 1};
/* The 8237s: nothing does ISA DMA here, but firmware clears them. */
static const struct io_ops dma_ops = {"8237", dma_page_read, dma_page_write, 1, 1};

static const struct {
    uint16_t port, count;
    const struct io_ops *ops;
} lpc_ports[] = {
    {0x00, 0x10, &dma_ops}, {0x61, 1, &port61_ops}, {0x80, 1, &post_ops},
    {0x81, 0x0f, &dma_ops}, {0x92, 1, &port92_ops}, {0xb2, 2, &apm_ops},
    {0xc0, 0x20, &dma_ops}, {0xed, 1, &post_ops}, /* Linux's other delay port */
    {0xcf9, 1, &reset_ops},
};

static const struct pci_function_info lpc_info = {
    .vendor = 0x8086,
    .device = 0x2918,
    .subsystem_vendor = 0x8086,
    .subsystem = 0x2918,
    .class_code = 0x06,
    .subclass = 0x01,
    .revision = 2,
    .multifunction = true,
};

static void lpc_writable(uint8_t *w)
{
    w[REG_PMBASE] = 0x80;
    w[REG_PMBASE + 1] = 0xff;
    w[REG_ACPI_CNTL] = 0x87;
    for (unsigned n = 0; n < 8; n++) {
        w[pirq_register(n)] = 0x8f;
    }
    w[REG_RCBA] = 0x01;
    w[REG_RCBA + 1] = 0xc0;
    w[REG_RCBA + 2] = w[REG_RCBA + 3] = 0xff;
    w[0x80] = w[0x81] = w[0x82] = w[0x83] = 0xff; /* LPC decode ranges: kept, not acted on */
}

static bool lpc_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct lpc *lpc = dev;

    lpc->config = *(const struct lpc_config *)config;
    lpc->clock = host->clock;
    lpc->memory = host->memory;
    lpc_writable(lpc->function.writable);
    if (!pci_function_init(&lpc->function, lpc->config.pci.bus, lpc->config.pci.devfn, lpc,
                           &lpc_info, error)) {
        return false;
    }
    lpc->function.config_written = lpc_config_written;
    for (unsigned i = 0; i < G_N_ELEMENTS(lpc_ports); i++) {
        host->map_ports(host->opaque, lpc_ports[i].port, lpc_ports[i].count, lpc_ports[i].ops, dev);
    }
    return true;
}

static void lpc_fini(void *dev)
{
    pci_function_fini(&((struct lpc *)dev)->function);
}

static void lpc_reset(void *dev)
{
    struct lpc *lpc = dev;
    uint8_t *c = lpc->function.config;

    pci_function_reset(&lpc->function);
    c[REG_PMBASE] = 1;
    c[REG_PMBASE + 1] = 0;
    c[REG_ACPI_CNTL] = 0;
    for (unsigned n = 0; n < 8; n++) {
        c[pirq_register(n)] = PIRQ_OFF;
    }
    c[REG_RCBA] = c[REG_RCBA + 1] = c[REG_RCBA + 2] = c[REG_RCBA + 3] = 0;
    lpc->port61 = lpc->reset_control = lpc->apm_command = lpc->apm_status = 0;
    lpc->port92 = 2;
    lpc->hptc = 0;
    lpc->gcs = GCS_NO_REBOOT;
    acpi_pm_map(lpc->config.pm, 0);
    rcba_update(lpc);
}

static void lpc_reset_lines(void *dev)
{
    pirq_update(dev);
}

static void lpc_state(void *dev, struct state *s)
{
    struct lpc *lpc = dev;

    pci_function_state(&lpc->function, s);
    state_u8(s, "port61", &lpc->port61);
    state_u8(s, "port92", &lpc->port92);
    state_u8(s, "reset_control", &lpc->reset_control);
    state_u8(s, "apm_command", &lpc->apm_command);
    state_u8(s, "apm_status", &lpc->apm_status);
    state_u8(s, "post_code", &lpc->post_code);
    state_u8(s, "pirq_levels", &lpc->pirq_levels);
    state_u32(s, "hptc", &lpc->hptc);
    state_u32(s, "gcs", &lpc->gcs);
}

static bool lpc_restored(void *dev, GError **error)
{
    struct lpc *lpc = dev;

    pci_function_restored(&lpc->function);
    lpc_update(lpc);
    return true;
}

const struct device_class lpc_device = {
    .name = "ich9-lpc",
    .size = sizeof(struct lpc),
    .version = 2,
    .init = lpc_init,
    .fini = lpc_fini,
    .reset = lpc_reset,
    .reset_lines = lpc_reset_lines,
    .state = lpc_state,
    .restored = lpc_restored,
};
