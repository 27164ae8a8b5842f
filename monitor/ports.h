/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 65536 I/O ports and who claims them. Machine lock held.
 */
#pragma once

#include "memory.h"

struct ports;

struct ports *ports_new(void);
void ports_free(struct ports *ports);
/* As in device_host: later claims win; ids are not 0 but for failure. */
unsigned ports_map(struct ports *ports, uint16_t port, uint32_t count, const struct io_ops *ops,
                   void *dev);
void ports_unmap(struct ports *ports, unsigned id);
uint64_t ports_read(struct ports *ports, uint16_t port, unsigned size);
void ports_write(struct ports *ports, uint16_t port, uint64_t value, unsigned size);
