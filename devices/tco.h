/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The watchdog timer of the ICH9's TCO block, part of its power management registers (acpi_pm.c).
 */
#pragma once

#include "device.h"
#include "state.h"

#define TCO_BASE  0x60u /* in the power management registers */
#define TCO_PORTS 0x20u

struct tco {
    struct clock *clock;
    struct timer *timer;
    void (*reset)(void *opaque); /* the guest has not answered twice */
    void *opaque;
    bool started, no_reboot;
    uint8_t data_in, data_out, wake, irq_control, message[2];
    uint16_t status1, status2, control1, control2, reload;
    uint16_t left; /* ticks, while it stands still */
};

void tco_init(struct tco *tco, struct clock *clock, void (*reset)(void *opaque), void *opaque);
void tco_fini(struct tco *tco);
void tco_reset(struct tco *tco);
/* One or two bytes at `at`, counted from TCO_BASE. */
uint16_t tco_read(const struct tco *tco, unsigned at);
void tco_write(struct tco *tco, unsigned at, uint16_t value);
void tco_state(struct tco *tco, struct state *s);
