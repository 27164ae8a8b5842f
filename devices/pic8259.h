/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pair of 8259A interrupt controllers of a PC: ports 20h-21h, A0h-A1h and the ELCR at 4D0h-4D1h.
 */
#pragma once

#include "device.h"

struct pic_config {
    struct irq intr; /* INTR of the master */
};

extern const struct device_class pic_device;

void pic_set_irq(void *pic, unsigned n, bool level); /* n: 0-15 */
int pic_acknowledge(void *pic);                      /* INTA cycle: the vector */
