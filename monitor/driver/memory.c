/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical map as the driver's regions, and what the guest wrote to framebuffers.
 */
#include <sys/ioctl.h>

#include "driver.h"

static bool slot_set(void *opaque, unsigned n, const struct slot *slot)
{
    struct driver_engine *d = opaque;
    struct ringside_region region = {
        .gpa = slot->gpa,
        .size = slot->size,
        .address = (uintptr_t)slot->host,
        .flags = (slot->read_only ? RINGSIDE_REGION_READ_ONLY : 0) |
                 (slot->log_dirty ? RINGSIDE_REGION_LOG : 0),
    };

    return ioctl(d->machine, slot->used ? RINGSIDE_MAP : RINGSIDE_UNMAP, &region) == 0;
}

static bool slot_dirty(void *opaque, unsigned n, const struct slot *slot, uint64_t *bits)
{
    struct driver_engine *d = opaque;
    struct ringside_dirty dirty = {.gpa = slot->gpa, .size = slot->size, .bitmap = (uintptr_t)bits};

    return ioctl(d->machine, RINGSIDE_DIRTY, &dirty) == 0;
}

static void guest_close(void *opaque)
{
    driver_guest_close(opaque);
}

static void guest_open(void *opaque)
{
    driver_guest_open(opaque);
}

const struct slots_ops driver_slots_ops = {
    .set = slot_set,
    .dirty = slot_dirty,
    .close = guest_close,
    .open = guest_open,
};

void driver_dirty_sync(struct engine *engine, uint64_t pool_offset, uint64_t len)
{
    slots_dirty_sync(&((struct driver_engine *)engine)->slots, pool_offset, len);
}

/* The stepper has caches of its own. */
void driver_memory_changed(struct engine *engine)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    slots_update(&d->slots);
    d->stepper_ops->memory_changed(d->stepper);
}
