/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The standard VGA as a PCI function, 1234:1111. BAR0: 16 MiB of video RAM. BAR2: 4 KiB of
 * registers.
 */
#include "vga_internal.h"

struct vga_pci {
    struct pci_function pci;
    struct pci_function_info info;
    struct vga vga;
};

static const struct pci_function_info vga_info = {
    .vendor = 0x1234,
    .device = 0x1111,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x03,
    .revision = 0x02,
    .bar = {[0] = {PCI_BAR_RAM32, VGA_VRAM_SIZE, NULL, true},
            [2] = {PCI_BAR_MEM32, 4096, &vga_registers_ops}},
};

static void vga_pci_reset(void *dev)
{
    struct vga_pci *p = dev;

    vga_reset(&p->vga);
    pci_function_reset(&p->pci);
}

static bool vga_pci_init(void *dev, const struct device_host *host, const void *config,
                         GError **error)
{
    struct vga_pci *p = dev;
    const struct vga_config *c = config;

    if (!vga_init(&p->vga, host, c, error)) {
        return false;
    }
    p->info = vga_info;
    p->info.rom_size = p->vga.rom_size;
    p->pci.rom = p->vga.rom;
    p->pci.host = host;
    p->pci.ram[0] = p->vga.vram;
    p->pci.ram_log_dirty = true;
    if (!pci_function_init(&p->pci, c->pci.bus, c->pci.devfn, &p->vga, &p->info, error)) {
        return false;
    }
    screen_set_refresh(c->screen, vga_refresh, &p->vga);
    return true;
}

static void vga_pci_fini(void *dev)
{
    struct vga_pci *p = dev;

    if (p->pci.info) {
        screen_set_refresh(p->vga.config.screen, NULL, NULL);
        pci_function_fini(&p->pci);
    }
    vga_fini(&p->vga);
}

static void vga_pci_state(void *dev, struct state *s)
{
    struct vga_pci *p = dev;

    pci_function_state(&p->pci, s);
    vga_state(&p->vga, s);
}

static bool vga_pci_restored(void *dev, GError **error)
{
    struct vga_pci *p = dev;

    vga_restored(&p->vga);
    pci_function_restored(&p->pci);
    return true;
}

const struct device_class vga_device = {
    .name = "vga",
    .size = sizeof(struct vga_pci),
    .version = 1,
    .init = vga_pci_init,
    .fini = vga_pci_fini,
    .reset = vga_pci_reset,
    .state = vga_pci_state,
    .restored = vga_pci_restored,
};
