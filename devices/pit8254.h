/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8254 timer: ports 40h-43h. Channel 0 drives an interrupt; channel 2 is gated by port 61h.
 */
#pragma once

#include "device.h"

struct pit_config {
    struct irq irq; /* OUT0 */
};

extern const struct device_class pit_device;

void pit_set_gate2(void *pit, bool level);
bool pit_out2(void *pit);
