/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI fixed hardware (ACPI 6.4, section 4.8) laid out as in the ICH9 datasheet, section 13.8.3:
 * PM1, the PM timer, GPE0, SMI_EN and the TCO watchdog (tco.c). SMI_EN.APMC_EN reads as set from
 * reset on, which tells firmware that SMM is taken care of.
 */
#include "acpi_pm.h"

#include "tco.h"

#define PM_HZ    3579545u
#define PM_PORTS 128u

#define STS_TIMER  0x0001u
#define STS_GLOBAL 0x0020u
#define STS_POWER  0x0100u
#define STS_RTC    0x0400u
#define STS_WAKE   0x8000u
#define STS_ALL    (STS_TIMER | 0x10u | STS_GLOBAL | STS_POWER | STS_RTC | STS_WAKE)
#define EN_ALL     (STS_TIMER | STS_GLOBAL | STS_POWER | STS_RTC)

#define CNT_SCI_EN   0x0001u
#define CNT_SLP_TYPE 0x1c00u
#define CNT_SLP_EN   0x2000u

#define SMI_EN_APMC 0x20u

struct acpi_pm {
    struct device_host host;
    struct acpi_pm_config config;
    struct timer *timer;
    uint16_t base, status, enable, control;
    unsigned ports;
    uint64_t half; /* how often the timer's bit 23 had changed when last looked at */
    uint64_t gpe_status, gpe_enable;
    uint32_t smi_enable;
    struct tco tco;
};

static uint64_t pm_ticks(const struct acpi_pm *pm)
{
    return (uint64_t)((unsigned __int128)clock_now(pm->host.clock) * PM_HZ / NS_PER_SECOND);
}

static void pm_look_at_timer(struct acpi_pm *pm)
{
    uint64_t half = pm_ticks(pm) >> 23;

    if (half != pm->half) {
        pm->half = half;
        pm->status |= STS_TIMER;
    }
}

static void pm_update(struct acpi_pm *pm)
{
    bool sci;

    pm_look_at_timer(pm);
    sci = (pm->status & pm->enable & EN_ALL) || (pm->gpe_status & pm->gpe_enable);
    irq_set(&pm->config.sci, sci && (pm->control & CNT_SCI_EN));
    if ((pm->enable & STS_TIMER) && !(pm->status & STS_TIMER)) {
        unsigned __int128 next = (unsigned __int128)((pm->half + 1) << 23) * NS_PER_SECOND;
        timer_arm(pm->timer, (uint64_t)(next / PM_HZ) + 1);
    } else {
        timer_disarm(pm->timer);
    }
}

static void pm_timer(void *opaque)
{
    pm_update(opaque);
}

/* SLP_TYP 7 is S5 and 6 S4 (the DSDT says 7); 0 is what firmware's APM shutdown writes. */
static void pm_sleep(struct acpi_pm *pm)
{
    unsigned type = (pm->control & CNT_SLP_TYPE) >> 10;

    if ((type == 7 || type == 6 || type == 0) && pm->config.event) {
        pm->config.event(pm->config.opaque, ACPI_PM_POWER_OFF);
    } else if (type == 5) {
        pm->status |= STS_WAKE; /* no S3: wakes at once */
    }
}

static void pm_write_control(struct acpi_pm *pm, uint16_t value)
{
    pm->control = value & (CNT_SCI_EN | 2 | CNT_SLP_TYPE);
    if (value & CNT_SLP_EN) {
        pm_sleep(pm);
    }
    pm_update(pm);
}

static uint64_t bytes_of(uint64_t value, unsigned shift)
{
    return value >> (8 * shift);
}

/* Four bytes at most, of which those beyond the access are not looked at. */
static uint64_t pm_read_tco(const struct acpi_pm *pm, unsigned at)
{
    uint32_t low = tco_read(&pm->tco, at & ~1u), high = tco_read(&pm->tco, (at & ~1u) + 2);

    return bytes_of(low | high << 16, at & 1);
}

static uint64_t pm_read(void *dev, uint64_t addr, unsigned size)
{
    struct acpi_pm *pm = dev;

    pm_look_at_timer(pm);
    if (addr < 0x04) {
        return bytes_of(pm->status | (uint32_t)pm->enable << 16, addr & 3);
    }
    if (addr < 0x08) {
        return bytes_of(pm->control, addr & 3);
    }
    if (addr < 0x0c) {
        return bytes_of(pm_ticks(pm) & 0xffffff, addr & 3);
    }
    if (addr >= 0x20 && addr < 0x28) {
        return bytes_of(pm->gpe_status, addr & 7);
    }
    if (addr >= 0x28 && addr < 0x30) {
        return bytes_of(pm->gpe_enable, addr & 7);
    }
    if (addr >= 0x30 && addr < 0x34) {
        return bytes_of(pm->smi_enable, addr & 3);
    }
    if (addr >= TCO_BASE && addr < TCO_BASE + TCO_PORTS) {
        return pm_read_tco(pm, (unsigned)addr - TCO_BASE);
    }
    return 0;
}

static uint64_t merge(uint64_t old, uint64_t value, unsigned shift, unsigned size)
{
    uint64_t mask = size >= 8 ? UINT64_MAX : ((1ull << (8 * size)) - 1) << (8 * shift);

    return (old & ~mask) | (value << (8 * shift) & mask);
}

static void pm_write_pm1(struct acpi_pm *pm, uint64_t addr, uint64_t value, unsigned size)
{
    uint32_t clear = (uint32_t)merge(0, value, addr & 3, size) & STS_ALL;
    uint32_t enable = (uint32_t)merge((uint32_t)pm->enable << 16, value, addr & 3, size) >> 16;

    pm_look_at_timer(pm);
    pm->status &= (uint16_t)~clear;
    pm->enable = enable & EN_ALL;
    pm_update(pm);
}

/* Word by word; a byte leaves the word's other one as it is, but clears nothing in it. */
static void pm_write_tco(struct acpi_pm *pm, unsigned at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i += 2 - (at + i) % 2) {
        unsigned word = (at + i) & ~1u, shift = (at + i) & 1;
        bool clears = word == 4 || word == 6;
        uint64_t old = clears ? 0 : tco_read(&pm->tco, word);
        tco_write(&pm->tco, word,
                  (uint16_t)merge(old, bytes_of(value, i), shift, MIN(size - i, 2 - shift)));
    }
}

static void pm_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = dev;

    if (addr < 0x04) {
        pm_write_pm1(pm, addr, value, size);
    } else if (addr < 0x06) {
        pm_write_control(pm, (uint16_t)merge(pm->control, value, addr & 3, MIN(size, 2)));
    } else if (addr >= 0x20 && addr < 0x28) {
        pm->gpe_status &= ~merge(0, value, addr & 7, size);
        pm_update(pm);
    } else if (addr >= 0x28 && addr < 0x30) {
        pm->gpe_enable = merge(pm->gpe_enable, value, addr & 7, size);
        pm_update(pm);
    } else if (addr >= 0x30 && addr < 0x34) {
        pm->smi_enable = (uint32_t)merge(pm->smi_enable, value, addr & 3, size) | SMI_EN_APMC;
    } else if (addr >= TCO_BASE && addr < TCO_BASE + TCO_PORTS) {
        pm_write_tco(pm, (unsigned)addr - TCO_BASE, value, size);
    }
}

static const struct io_ops pm_ops = {"acpi-pm", pm_read, pm_write, 4, 1};

void acpi_pm_map(void *dev, uint16_t base)
{
    struct acpi_pm *pm = dev;

    if (base == pm->base) {
        return;
    }
    if (pm->ports) {
        pm->host.unmap_ports(pm->host.opaque, pm->ports);
    }
    pm->base = base;
    pm->ports = base ? pm->host.map_ports(pm->host.opaque, base, PM_PORTS, &pm_ops, pm) : 0;
}

void acpi_pm_set_acpi(void *dev, bool on)
{
    struct acpi_pm *pm = dev;

    pm->control = on ? pm->control | CNT_SCI_EN : pm->control & (uint16_t)~CNT_SCI_EN;
    pm_update(pm);
}

void acpi_pm_power_button(void *dev)
{
    struct acpi_pm *pm = dev;

    pm->status |= STS_POWER;
    pm_update(pm);
}

void acpi_pm_set_no_reboot(void *dev, bool on)
{
    ((struct acpi_pm *)dev)->tco.no_reboot = on;
}

static void pm_watchdog(void *opaque)
{
    struct acpi_pm *pm = opaque;

    if (pm->config.event) {
        pm->config.event(pm->config.opaque, ACPI_PM_WATCHDOG);
    }
}

static bool pm_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct acpi_pm *pm = dev;

    pm->host = *host;
    pm->config = *(const struct acpi_pm_config *)config;
    pm->timer = timer_new(host->clock, pm_timer, pm);
    tco_init(&pm->tco, host->clock, pm_watchdog, pm);
    return true;
}

static void pm_fini(void *dev)
{
    struct acpi_pm *pm = dev;

    timer_free(pm->timer);
    tco_fini(&pm->tco);
}

static void pm_reset(void *dev)
{
    struct acpi_pm *pm = dev;

    pm->status = pm->enable = pm->control = 0;
    pm->gpe_status = pm->gpe_enable = 0;
    pm->smi_enable = SMI_EN_APMC;
    pm->half = pm_ticks(pm) >> 23;
    timer_disarm(pm->timer);
    tco_reset(&pm->tco);
}

static void pm_reset_lines(void *dev)
{
    pm_update(dev);
}

static void pm_state(void *dev, struct state *s)
{
    struct acpi_pm *pm = dev;

    state_u16(s, "status", &pm->status);
    state_u16(s, "enable", &pm->enable);
    state_u16(s, "control", &pm->control);
    state_u64(s, "half", &pm->half);
    state_u64(s, "gpe_status", &pm->gpe_status);
    state_u64(s, "gpe_enable", &pm->gpe_enable);
    state_u32(s, "smi_enable", &pm->smi_enable);
    state_timer(s, "timer", pm->timer);
    tco_state(&pm->tco, s);
}

const struct device_class acpi_pm_device = {
    .name = "acpi-pm",
    .size = sizeof(struct acpi_pm),
    .version = 2,
    .init = pm_init,
    .fini = pm_fini,
    .reset = pm_reset,
    .reset_lines = pm_reset_lines,
    .state = pm_state,
};
