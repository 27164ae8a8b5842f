/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debug exit port and the debug console (see debug_exit.h). Neither has state.
 */
#include "debug_exit.h"

struct debug_exit {
    struct debug_exit_config config;
};

struct debugcon {
    struct debugcon_config config;
};

static uint64_t nothing_read(void *dev, uint64_t addr, unsigned size)
{
    return 0;
}

static void exit_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct debug_exit *d = dev;

    if (addr == 0 && d->config.exit) {
        d->config.exit(d->config.opaque, (unsigned)(value << 1 | 1));
    }
}

static uint64_t debugcon_read(void *dev, uint64_t addr, unsigned size)
{
    return 0xe9;
}

static void debugcon_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct debugcon *d = dev;
    uint8_t byte = (uint8_t)value;

    if (d->config.chardev) {
        chardev_write(d->config.chardev, &byte, 1);
    }
}

static const struct io_ops exit_ops = {"debug-exit", nothing_read, exit_write, 4, 1};
static const struct io_ops debugcon_ops = {"debugcon", debugcon_read, debugcon_write, 1, 1};

static bool exit_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    ((struct debug_exit *)dev)->config = *(const struct debug_exit_config *)config;
    host->map_ports(host->opaque, 0xf4, 4, &exit_ops, dev);
    return true;
}

static bool debugcon_init(void *dev, const struct device_host *host, const void *config,
                          GError **error)
{
    ((struct debugcon *)dev)->config = *(const struct debugcon_config *)config;
    host->map_ports(host->opaque, 0x402, 1, &debugcon_ops, dev);
    return true;
}

static void nothing_reset(void *dev)
{
}

static void nothing_state(void *dev, struct state *s)
{
}

const struct device_class debug_exit_device = {
    .name = "debug-exit",
    .size = sizeof(struct debug_exit),
    .version = 1,
    .init = exit_init,
    .reset = nothing_reset,
    .state = nothing_state,
};

const struct device_class debugcon_device = {
    .name = "debugcon",
    .size = sizeof(struct debugcon),
    .version = 1,
    .init = debugcon_init,
    .reset = nothing_reset,
    .state = nothing_state,
};
