/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A serial port.
 */
#pragma once

#include "chardev.h"
#include "device.h"

struct uart_config {
    uint16_t port; /* 3F8h, ... */
    struct irq irq;
    struct chardev *chardev; /* stays the caller's; NULL: nothing is connected */
};

extern const struct device_class uart_device;

size_t uart_room(void *uart);
void uart_receive(void *uart, const uint8_t *bytes, size_t len);
