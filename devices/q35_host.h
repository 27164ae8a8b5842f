/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Q35 host bridge, 00:00.0: configuration ports, ECAM, and what C0000h-FFFFFh shows.
 */
#pragma once

#include "pci.h"

struct q35_config {
    struct pci_config pci;
    uint8_t *ram;       /* guest RAM from address 0, at least 1 MiB: pool memory */
    uint8_t *low_bios;  /* what E0000h-FFFFFh reads as ROM: 128 KiB of pool memory, or NULL */
};

extern const struct device_class q35_device;
