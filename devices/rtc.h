/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The MC146818A clock and 128 bytes of CMOS memory, ports 70h-71h.
 */
#pragma once

#include "device.h"

struct rtc_config {
    struct irq irq;                 /* 8 */
    int64_t (*host_seconds)(void);  /* seconds since 1970 UTC; NULL: the virtual clock's */
    uint64_t memory_below_4g, memory_above_4g;
    unsigned cpus;
    const char *boot_order; /* letters of c (disk), d (CD), n (network); NULL: "cd" */
};

extern const struct device_class rtc_device;
