/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio GPU with VGA compatibility, PCI 1af4:1050 (Virtio 1.1, section 5.7): two dimensions,
 * one scanout, a cursor plane, and screens of any size that a client asks for.
 *
 * Until the guest's driver shows a picture, and again after a reset, it is a standard VGA. BAR0:
 * video RAM, BAR2: VGA's registers (as in BAR2 of the standard VGA) and virtio's, BAR4: MSI-X. Its
 * configuration is a struct vga_config with vgabios-virtio.bin as ROM.
 */
#pragma once

#include "vga.h"

extern const struct device_class virtio_gpu_device;
