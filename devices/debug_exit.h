/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports for test guests and firmware logs; optional. Writing v to F4h ends the run with code (v << 1) | 1; bytes
 * written to 402h go to a chardev (SeaBIOS's debug console, which reads E9h there to see that it exists).
 */
#pragma once

#include "chardev.h"
#include "device.h"

struct debug_exit_config {
    void (*exit)(void *opaque, unsigned code);
    void *opaque;
};

struct debugcon_config {
    struct chardev *chardev;
};

extern const struct device_class debug_exit_device;
extern const struct device_class debugcon_device;
