/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8042 keyboard controller (ports 60h, 64h) with a PS/2 keyboard and a wheel mouse.
 */
#pragma once

#include "device.h"
#include "input.h"

struct i8042_config {
    struct irq keyboard, mouse; /* 1, 12 */
    struct input *input;        /* keys and motion come from here; NULL: none */
    void (*reset)(void *opaque);
    void *opaque;
};

extern const struct device_class i8042_device;
