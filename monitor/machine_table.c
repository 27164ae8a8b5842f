/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine: one row per device. Creating, resetting, saving and restoring all walk this table in
 * order.
 */
#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <time.h>

#include "ahci.h"
#include "debug_exit.h"
#include "e1000e.h"
#include "fw_cfg.h"
#include "hda.h"
#include "hpet.h"
#include "i8042.h"
#include "ich9_lpc.h"
#include "ioapic.h"
#include "lapic.h"
#include "machine_internal.h"
#include "pic8259.h"
#include "pit8254.h"
#include "q35_host.h"
#include "rtc.h"
#include "uart16550.h"
#include "vga.h"
#include "virtio_gpu.h"
#include "virtio_net.h"
#include "xhci.h"

/* Interrupt lines */

void machine_isa_irq(void *opaque, unsigned n, bool level)
{
    struct machine *m = opaque;

    if (n < 16) {
        pic_set_irq(m->pic, n, level);
    }
    ioapic_set_irq(m->ioapic, n == 0 ? 2 : n, level); /* MADT: IRQ 0 is input 2 */
}

/* The 8254 and the RTC lose their inputs to the HPET in legacy replacement mode. */
static void legacy_timer_irq(void *opaque, unsigned n, bool level)
{
    struct machine *m = opaque;

    if (!m->hpet || !hpet_owns_legacy(m->hpet)) {
        machine_isa_irq(m, n, level);
    }
}

/* The engine's own local APICs, if it has some. */
static const struct engine_apic_ops *engine_apic(const struct machine *m)
{
    return m->engine ? m->engine_ops->apic : NULL;
}

static void pic_output(void *opaque, unsigned n, bool level)
{
    struct machine *m = opaque;

    lapic_set_extint(m->lapic, level);
    if (engine_apic(m)) {
        engine_apic(m)->extint(m->engine, level);
    }
}

static void pirq_line(void *opaque, unsigned n, bool level)
{
    struct machine *m = opaque;

    if (m->lpc) {
        lpc_set_pirq(m->lpc, n, level);
    }
}

static void pic_line(void *opaque, unsigned n, bool level)
{
    pic_set_irq(((struct machine *)opaque)->pic, n, level);
}

static void ioapic_line(void *opaque, unsigned n, bool level)
{
    ioapic_set_irq(((struct machine *)opaque)->ioapic, n, level);
}

static void message_interrupt(void *opaque, uint64_t address, uint32_t data)
{
    struct machine *m = opaque;

    if (engine_apic(m)) {
        engine_apic(m)->message(m->engine, address, data);
    } else {
        lapic_message(m->lapic, address, data);
    }
}

static void ioapic_route(void *opaque, unsigned n, uint64_t address, uint32_t data)
{
    struct machine *m = opaque;

    if (engine_apic(m)) {
        engine_apic(m)->route(m->engine, n, address, data);
    }
}

static void lapic_kick(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;

    if (m->engine) {
        m->engine_ops->kick(m->engine, cpu);
    }
}

static void lapic_event_to_engine(void *opaque, unsigned cpu, enum lapic_event event,
                                  uint8_t vector)
{
    static const enum cpu_event events[] = {
        [LAPIC_EVENT_INIT] = CPU_EVENT_INIT,
        [LAPIC_EVENT_SIPI] = CPU_EVENT_SIPI,
        [LAPIC_EVENT_NMI] = CPU_EVENT_NMI,
    };
    struct machine *m = opaque;

    if (m->engine) {
        m->engine_ops->event(m->engine, cpu, events[event], vector);
    }
}

static int lapic_pic_acknowledge(void *opaque)
{
    return pic_acknowledge(((struct machine *)opaque)->pic);
}

static void lapic_eoi(void *opaque, uint8_t vector)
{
    ioapic_eoi(((struct machine *)opaque)->ioapic, vector);
}

/* What devices ask of the machine */

static void guest_reset(void *opaque)
{
    machine_request(opaque, REQUEST_RESET);
}

static void guest_power_event(void *opaque, enum acpi_pm_event event)
{
    if (event == ACPI_PM_POWER_OFF) {
        machine_request(opaque, REQUEST_POWER_OFF);
    } else if (event == ACPI_PM_WATCHDOG) {
        device_log("watchdog", "the guest has not answered: the machine is reset");
        machine_request(opaque, REQUEST_RESET);
    }
}

static void guest_debug_exit(void *opaque, unsigned code)
{
    struct machine *m = opaque;

    m->exit_code = code;
    machine_request(m, REQUEST_DEBUG_EXIT);
}

void machine_disk_error(struct machine *m, const struct block *block, int error_errno)
{
    const char *remedy =
        error_errno == ENOSPC || error_errno == EDQUOT
            ? "The disk it lies on is full. Make space there, then resume the machine"
            : "Put this right, then resume the machine";

    g_free(m->problem);
    m->problem = g_strdup_printf("The machine is paused because its disk %s cannot be written: "
                                 "%s. %s; nothing is lost.",
                                 block_path(block), g_strerror(error_errno), remedy);
    device_log("disk", "%s", m->problem);
    machine_request(m, REQUEST_IO_ERROR);
}

static void disk_error(void *opaque, unsigned port, int error_errno)
{
    struct machine *m = opaque;

    if (port < m->config.disk_count) {
        machine_disk_error(m, m->disk[port], error_errno);
    }
}

static int64_t host_seconds(void)
{
    return (int64_t)time(NULL);
}

/* Configurations */

static struct irq row_irq(struct machine *m, const struct machine_row *row)
{
    return (struct irq){machine_isa_irq, m, (unsigned)row->irq};
}

static struct pci_config row_pci(struct machine *m, const struct machine_row *row)
{
    return (struct pci_config){m->pci, (uint8_t)row->address};
}

static void lapic_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct lapic_config *)config = (struct lapic_config){
        .cpus = m->config.cpus,
        .opaque = m,
        .kick = lapic_kick,
        .event = lapic_event_to_engine,
        .pic_acknowledge = lapic_pic_acknowledge,
        .eoi = lapic_eoi,
    };
}

static void ioapic_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct ioapic_config *)config = (struct ioapic_config){message_interrupt, m, ioapic_route};
}

static void pic_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct pic_config *)config = (struct pic_config){{pic_output, m, 0}};
}

static void pit_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct pit_config *)config = (struct pit_config){{legacy_timer_irq, m, 0}};
}

static void rtc_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct rtc_config *)config = (struct rtc_config){
        .irq = {legacy_timer_irq, m, 8},
        .host_seconds = host_seconds,
        .memory_below_4g = m->low_memory,
        .memory_above_4g = m->high_memory,
        .cpus = m->config.cpus,
        .boot_order = m->config.boot_order,
    };
}

static void hpet_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct hpet_config *)config = (struct hpet_config){machine_isa_irq, m, message_interrupt};
}

static void pm_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct acpi_pm_config *)config = (struct acpi_pm_config){
        .sci = row_irq(m, row),
        .event = guest_power_event,
        .opaque = m,
    };
}

static void lpc_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct lpc_config *)config = (struct lpc_config){
        .pci = row_pci(m, row),
        .pic_set = pic_line,
        .ioapic_set = ioapic_line,
        .reset = guest_reset,
        .opaque = m,
        .pm = m->pm,
        .pit = m->pit,
    };
}

static void q35_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct q35_config *)config = (struct q35_config){
        .pci = row_pci(m, row),
        .ram = m->ram,
        .low_bios = m->bios ? m->bios + m->bios_size - 0x20000 : NULL,
    };
}

static void i8042_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct i8042_config *)config = (struct i8042_config){
        .keyboard = {machine_isa_irq, m, 1},
        .mouse = {machine_isa_irq, m, 12},
        .input = m->input,
        .reset = guest_reset,
        .opaque = m,
    };
}

static void uart_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct uart_config *)config = (struct uart_config){
        .port = (uint16_t)row->address,
        .irq = row_irq(m, row),
        .chardev = m->serial[row->address == 0x2f8],
    };
}

static void debug_exit_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct debug_exit_config *)config = (struct debug_exit_config){guest_debug_exit, m};
}

static void debugcon_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct debugcon_config *)config = (struct debugcon_config){m->debugcon};
}

/* Disks from port 0 on, the CD-ROM drive on the last port. */
static void ahci_configure(struct machine *m, const struct machine_row *row, void *config)
{
    struct ahci_config *c = config;

    c->pci = row_pci(m, row);
    for (unsigned i = 0; i < m->config.disk_count; i++) {
        if (!m->config.disks[i].usb) {
            c->port[i] = (struct ahci_port_config){AHCI_DISK, m->disk[i], NULL};
        }
    }
    c->port[AHCI_PORTS - 1] = (struct ahci_port_config){AHCI_CDROM, m->cdrom, NULL};
    c->io_error = disk_error;
    c->opaque = m;
}

static void vga_dirty_rearm(void *opaque)
{
    struct machine *m = opaque;

    if (m->engine) {
        m->engine_ops->dirty_rearm(m->engine, 0, memory_pool_size(m->memory));
    }
}

static void vga_dirty_sync(void *opaque)
{
    struct machine *m = opaque;

    if (m->engine && m->engine_ops->dirty_sync) {
        m->engine_ops->dirty_sync(m->engine, 0, memory_pool_size(m->memory));
    }
}

static void vga_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct vga_config *)config = (struct vga_config){
        .pci = row_pci(m, row),
        .screen = m->screen,
        .rom = m->vga_rom,
        .rom_size = m->vga_rom_size,
        .dirty_rearm = vga_dirty_rearm,
        .dirty_sync = vga_dirty_sync,
        .opaque = m,
    };
}

static void e1000e_configure(struct machine *m, const struct machine_row *row, void *config)
{
    struct e1000e_config *c = config;

    *c = (struct e1000e_config){.pci = row_pci(m, row), .net = m->net};
    memcpy(c->mac, m->mac, sizeof c->mac);
}

static void virtio_net_configure(struct machine *m, const struct machine_row *row, void *config)
{
    struct virtio_net_config *c = config;

    *c = (struct virtio_net_config){.pci = row_pci(m, row), .net = m->net};
    memcpy(c->mac, m->mac, sizeof c->mac);
}

static void hda_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct hda_config *)config = (struct hda_config){
        .pci = row_pci(m, row),
        .audio = m->audio,
        .no_recording = strcmp(m->config.sound, "on") != 0,
    };
}

static void xhci_configure(struct machine *m, const struct machine_row *row, void *config)
{
    *(struct xhci_config *)config = (struct xhci_config){row_pci(m, row)};
}

static bool when_sound(const struct machine *m)
{
    return m->audio != NULL;
}

static bool when_virtio_gpu(const struct machine *m)
{
    return machine_has_virtio_gpu(m);
}

static bool when_vga(const struct machine *m)
{
    return !machine_has_virtio_gpu(m);
}

static bool when_virtio_net(const struct machine *m)
{
    return m->net && g_strcmp0(m->config.network.card, "virtio") == 0;
}

static bool when_e1000e(const struct machine *m)
{
    return m->net && !when_virtio_net(m);
}

static bool when_debug_exit(const struct machine *m)
{
    return m->config.debug_exit;
}

static bool when_debugcon(const struct machine *m)
{
    return m->debugcon != NULL;
}

#define FIELD(name) offsetof(struct machine, name)
#define DEVFN(d, f) ((d) << 3 | (f))

/* class, name, bus, address, irq, when, configure, field */
const struct machine_row machine_table[] = {
    {&lapic_device, "lapic", BUS_SYSTEM, 0xfee00000, -1, NULL, lapic_configure, FIELD(lapic)},
    {&ioapic_device, "ioapic", BUS_SYSTEM, 0xfec00000, -1, NULL, ioapic_configure, FIELD(ioapic)},
    {&pic_device, "pic", BUS_ISA, 0x20, -1, NULL, pic_configure, FIELD(pic)},
    {&pit_device, "pit", BUS_ISA, 0x40, 0, NULL, pit_configure, FIELD(pit)},
    {&rtc_device, "rtc", BUS_ISA, 0x70, 8, NULL, rtc_configure, 0},
    {&hpet_device, "hpet", BUS_SYSTEM, 0xfed00000, -1, NULL, hpet_configure, FIELD(hpet)},
    {&acpi_pm_device, "acpi-pm", BUS_ISA, PM_BASE, 9, NULL, pm_configure, FIELD(pm)},
    {&q35_device, "q35-host", BUS_PCI, DEVFN(0, 0), -1, NULL, q35_configure, 0},
    {&lpc_device, "ich9-lpc", BUS_PCI, DEVFN(0x1f, 0), -1, NULL, lpc_configure, FIELD(lpc)},
    {&i8042_device, "i8042", BUS_ISA, 0x60, 1, NULL, i8042_configure, 0},
    {&uart_device, "com1", BUS_ISA, 0x3f8, 4, NULL, uart_configure, 0},
    {&uart_device, "com2", BUS_ISA, 0x2f8, 3, NULL, uart_configure, 0},
    {&fw_cfg_device, "fw-cfg", BUS_ISA, 0x510, -1, NULL, NULL, FIELD(fw_cfg)},
    {&vga_device, "vga", BUS_PCI, DEVFN(2, 0), -1, when_vga, vga_configure, FIELD(vga)},
    {&virtio_gpu_device, "virtio-gpu", BUS_PCI, DEVFN(2, 0), -1, when_virtio_gpu, vga_configure,
     FIELD(vga)},
    {&ahci_device, "ahci", BUS_PCI, DEVFN(0x1f, 2), -1, NULL, ahci_configure, FIELD(ahci)},
    {&xhci_device, "xhci", BUS_PCI, DEVFN(0x14, 0), -1, NULL, xhci_configure, FIELD(xhci)},
    {&hda_device, "hda", BUS_PCI, DEVFN(0x1b, 0), -1, when_sound, hda_configure, 0},
    {&e1000e_device, "e1000e", BUS_PCI, DEVFN(3, 0), -1, when_e1000e, e1000e_configure, 0},
    {&virtio_net_device, "virtio-net", BUS_PCI, DEVFN(3, 0), -1, when_virtio_net,
     virtio_net_configure, 0},
    {&debug_exit_device, "debug-exit", BUS_ISA, 0xf4, -1, when_debug_exit, debug_exit_configure, 0},
    {&debugcon_device, "debugcon", BUS_ISA, 0x402, -1, when_debugcon, debugcon_configure, 0},
};
const unsigned machine_table_rows = G_N_ELEMENTS(machine_table);

G_STATIC_ASSERT(G_N_ELEMENTS(machine_table) <= MACHINE_ROWS);
G_STATIC_ASSERT(sizeof(struct ahci_config) <= MACHINE_CONFIG_SIZE);

static unsigned host_map_ports(void *opaque, uint16_t port, uint32_t count,
                               const struct io_ops *ops, void *dev)
{
    return ports_map(((struct machine *)opaque)->ports, port, count, ops, dev);
}

static void host_unmap_ports(void *opaque, unsigned id)
{
    ports_unmap(((struct machine *)opaque)->ports, id);
}

static void host_init(struct machine *m)
{
    struct irq intx[8];

    m->host = (struct device_host){
        .clock = m->clock,
        .memory = m->memory,
        .map_ports = host_map_ports,
        .unmap_ports = host_unmap_ports,
        .msi = message_interrupt,
        .opaque = m,
    };
    for (unsigned i = 0; i < 8; i++) {
        intx[i] = (struct irq){pirq_line, m, i};
    }
    m->pci = pci_bus_new(&m->host, intx);
}

static bool row_create(struct machine *m, unsigned i, GError **error)
{
    const struct machine_row *row = &machine_table[i];
    uint64_t config[MACHINE_CONFIG_SIZE / 8] = {0};

    if (row->when && !row->when(m)) {
        return true;
    }
    m->device[i] = g_malloc0(row->class->size);
    if (row->field) {
        *(void **)((char *)m + row->field) = m->device[i];
    }
    if (row->configure) {
        row->configure(m, row, config);
    }
    return row->class->init(m->device[i], &m->host, config, error);
}

bool machine_create_devices(struct machine *m, GError **error)
{
    host_init(m);
    memory_begin(m->memory);
    for (unsigned i = 0; i < machine_table_rows; i++) {
        if (!row_create(m, i, error)) {
            memory_commit(m->memory);
            return false;
        }
    }
    memory_commit(m->memory);
    return true;
}

void machine_destroy_devices(struct machine *m)
{
    for (unsigned i = machine_table_rows; i-- > 0;) {
        if (m->device[i] && machine_table[i].class->fini) {
            machine_table[i].class->fini(m->device[i]);
        }
    }
    for (unsigned i = 0; i < machine_table_rows; i++) {
        g_clear_pointer(&m->device[i], g_free);
    }
    g_clear_pointer(&m->pci, pci_bus_free);
}

void machine_reset_devices(struct machine *m)
{
    memory_begin(m->memory);
    for (unsigned i = 0; i < machine_table_rows; i++) {
        if (m->device[i]) {
            machine_table[i].class->reset(m->device[i]);
        }
    }
    for (unsigned i = 0; i < machine_table_rows; i++) {
        if (m->device[i] && machine_table[i].class->reset_lines) {
            machine_table[i].class->reset_lines(m->device[i]);
        }
    }
    memory_commit(m->memory);
}
