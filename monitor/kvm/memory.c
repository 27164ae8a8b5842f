/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM's memory slots, and what the guest wrote to framebuffers.
 */
#include <sys/ioctl.h>

#include "kvm.h"

static bool slot_set(void *opaque, unsigned n, const struct slot *slot)
{
    struct kvm_engine *k = opaque;
    uint32_t flags =
        (slot->read_only ? KVM_MEM_READONLY : 0) | (slot->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    struct kvm_userspace_memory_region region = {
        .slot = n,
        .flags = slot->used ? flags : 0,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->used ? slot->size : 0,
        .userspace_addr = (uint64_t)slot->host,
    };

    return ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

static bool slot_dirty(void *opaque, unsigned n, const struct slot *slot, uint64_t *bits)
{
    struct kvm_engine *k = opaque;
    struct kvm_dirty_log log = {.slot = n, .dirty_bitmap = bits};

    return ioctl(k->vm, KVM_GET_DIRTY_LOG, &log) == 0;
}

static void guest_close(void *opaque)
{
    kvm_guest_close(opaque);
}

static void guest_open(void *opaque)
{
    kvm_guest_open(opaque);
}

const struct slots_ops kvm_slots_ops = {
    .set = slot_set,
    .dirty = slot_dirty,
    .close = guest_close,
    .open = guest_open,
};

void kvm_dirty_sync(struct engine *engine, uint64_t pool_offset, uint64_t len)
{
    slots_dirty_sync(&((struct kvm_engine *)engine)->slots, pool_offset, len);
}

void kvm_memory_changed(struct engine *engine)
{
    slots_update(&((struct kvm_engine *)engine)->slots);
}
