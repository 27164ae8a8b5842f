/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The high-precision event timer at FED00000h: three timers, 64-bit counter at 100 MHz.
 */
#pragma once

#include "device.h"

struct hpet_config {
    void (*gsi_set)(void *opaque, unsigned n, bool level); /* IO-APIC inputs (0-15: the 8259 as well) */
    void *opaque;
    void (*msi)(void *opaque, uint64_t address, uint32_t data);
};

extern const struct device_class hpet_device;

/* Legacy replacement is on: inputs 0 and 8 are the HPET's, not the 8254's and the RTC's. */
bool hpet_owns_legacy(void *hpet);
