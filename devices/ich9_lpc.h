/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ICH9 LPC bridge, 00:1f.0: interrupt routing, PM base, reset, ports 61h, 92h, B2h and CF9h.
 */
#pragma once

#include "pci.h"

struct lpc_config {
    struct pci_config pci;
    void (*pic_set)(void *opaque, unsigned n, bool level);    /* PIRQs in 8259 mode */
    void (*ioapic_set)(void *opaque, unsigned n, bool level); /* inputs 16-23 */
    void (*reset)(void *opaque);                              /* the guest asks for a reset */
    void *opaque;
    void *pm;  /* the acpi_pm device */
    void *pit; /* for port 61h */
};

extern const struct device_class lpc_device;

void lpc_set_pirq(void *lpc, unsigned n, bool level); /* 0-7: PIRQA-H */
