/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The display adapter: a standard VGA with the Bochs VBE extensions, PCI 1234:1111, 16 MiB of video
 * RAM. Video RAM is pool memory ("vga-vram"); its contents are saved with the pool. The
 * configuration is also virtio_gpu.h's.
 */
#pragma once

#include "pci.h"
#include "screen.h"

struct vga_config {
    struct pci_config pci; /* first */
    struct screen *screen;
    const uint8_t *rom; /* the option ROM's bytes (of SeaBIOS, vgabios-*.bin), copied; NULL: none */
    size_t rom_size;
    /* The dirty map over video RAM was read and cleared: when this returns, the engine must record
     * writes to it again. May be NULL. */
    void (*dirty_rearm)(void *opaque);
    /* The dirty map over video RAM is about to be read. May be NULL. */
    void (*dirty_sync)(void *opaque);
    void *opaque;
};

extern const struct device_class vga_device;
