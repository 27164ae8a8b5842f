/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port dispatch: a table with each port's winning claim. An access that runs past the end of its
 * claim is split, as the ISA bus does with wide accesses to narrow chips.
 */
#include "device.h"
#include "ports.h"

#define CLAIMS 256u

struct claim {
    const struct io_ops *ops;
    void *dev;
    uint32_t start, end; /* end exclusive */
    unsigned order;      /* 0: free */
};

struct ports {
    unsigned next_order;
    struct claim claims[CLAIMS];
    uint8_t owner[65536]; /* index into claims; 0: nobody */
};

struct ports *ports_new(void)
{
    return g_new0(struct ports, 1);
}

void ports_free(struct ports *p)
{
    g_free(p);
}

static uint8_t ports_winner(const struct ports *p, uint32_t port)
{
    unsigned best = 0;

    for (unsigned i = 1; i < CLAIMS; i++) {
        const struct claim *c = &p->claims[i];
        if (c->order > p->claims[best].order && port >= c->start && port < c->end) {
            best = i;
        }
    }
    return (uint8_t)best;
}

unsigned ports_map(struct ports *p, uint16_t port, uint32_t count, const struct io_ops *ops,
                   void *dev)
{
    uint32_t end = MIN(port + count, 65536u);

    for (unsigned i = 1; i < CLAIMS; i++) {
        if (!p->claims[i].order) {
            p->claims[i] = (struct claim){ops, dev, port, end, ++p->next_order};
            for (uint32_t n = port; n < end; n++) {
                p->owner[n] = (uint8_t)i;
            }
            return i;
        }
    }
    device_log_once("ports", port, "no room for ports %x", port);
    return 0;
}

void ports_unmap(struct ports *p, unsigned id)
{
    struct claim gone;

    if (!id || id >= CLAIMS) {
        return;
    }
    gone = p->claims[id];
    p->claims[id].order = 0;
    for (uint32_t n = gone.start; n < gone.end; n++) {
        if (p->owner[n] == id) {
            p->owner[n] = ports_winner(p, n);
        }
    }
}

static bool port_splits(const struct claim *c, uint16_t port, unsigned size)
{
    unsigned width = c->ops->max_size ? c->ops->max_size : 4;

    return size > 1 && (port + size > c->end || size > width);
}

uint64_t ports_read(struct ports *p, uint16_t port, unsigned size)
{
    const struct claim *c = &p->claims[p->owner[port]];
    uint64_t mask = size < 8 ? (1ull << (8 * size)) - 1 : UINT64_MAX;

    if (!c->order) {
        device_log_once("ports", port, "nobody at port %x (read)", port);
        return mask;
    }
    if (port_splits(c, port, size)) {
        unsigned half = size / 2;
        uint64_t low = ports_read(p, port, half);
        return low | ports_read(p, (uint16_t)(port + half), half) << (8 * half);
    }
    return io_ops_read(c->ops, c->dev, port - c->start, size) & mask;
}

void ports_write(struct ports *p, uint16_t port, uint64_t value, unsigned size)
{
    const struct claim *c = &p->claims[p->owner[port]];

    if (!c->order) {
        device_log_once("ports", port, "nobody at port %x (write of %x)", port, (unsigned)value);
        return;
    }
    if (port_splits(c, port, size)) {
        unsigned half = size / 2;
        ports_write(p, port, value, half);
        ports_write(p, (uint16_t)(port + half), value >> (8 * half), half);
        return;
    }
    io_ops_write(c->ops, c->dev, port - c->start, value, size);
}
