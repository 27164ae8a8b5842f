/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical map as KVM's memory slots, and what the guest wrote to framebuffers.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "../device.h"
#include "kvm.h"

static bool slot_set(struct kvm_engine *k, unsigned n, const struct kvm_slot *slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = n,
        .flags = slot->used ? slot->flags : 0,
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->used ? slot->size : 0,
        .userspace_addr = (uint64_t)slot->host,
    };

    return ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

static bool slot_same(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->used && a->gpa == b->gpa && a->size == b->size && a->host == b->host &&
           a->flags == b->flags;
}

/* Continues the last wanted slot where that is possible, so that there are few. */
static void wanted_add(GArray *wanted, const struct kvm_slot *slot)
{
    struct kvm_slot *last =
        wanted->len ? &g_array_index(wanted, struct kvm_slot, wanted->len - 1) : NULL;

    if (last && last->flags == slot->flags && last->gpa + last->size == slot->gpa &&
        last->host + last->size == slot->host) {
        last->size += slot->size;
    } else {
        g_array_append_vals(wanted, slot, 1);
    }
}

static void range_wanted(void *opaque, uint64_t start, uint64_t end, const struct mapping *m)
{
    struct kvm_slot slot = {.used = true};

    if (m->kind == MAPPING_IO) {
        return;
    }
    start = (start + GUEST_PAGE_SIZE - 1) & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    end &= ~(uint64_t)(GUEST_PAGE_SIZE - 1);
    if (start >= end) {
        return;
    }
    slot.gpa = start;
    slot.size = end - start;
    slot.host = m->host + (start - m->gpa);
    slot.flags = (m->kind == MAPPING_RAM ? 0 : KVM_MEM_READONLY) |
                 (m->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    wanted_add(opaque, &slot);
}

/* The bits that KVM has for a slot, as bytes of the dirty map. */
static void slot_sync(struct kvm_engine *k, unsigned n)
{
    const struct kvm_slot *slot = &k->slots[n];
    uint64_t pages = slot->size >> GUEST_PAGE_SHIFT,
             first = (uint64_t)(slot->host - memory_pool_base(k->memory)) >> GUEST_PAGE_SHIFT;
    size_t bytes = (pages + 63) / 64 * 8;
    struct kvm_dirty_log log = {.slot = n};
    uint8_t *map = memory_dirty_map(k->memory) + first;

    if (bytes > k->dirty_bytes) {
        k->dirty_bits = g_realloc(k->dirty_bits, bytes);
        k->dirty_bytes = bytes;
    }
    memset(k->dirty_bits, 0, bytes);
    log.dirty_bitmap = k->dirty_bits;
    if (ioctl(k->vm, KVM_GET_DIRTY_LOG, &log) < 0) {
        return;
    }
    for (uint64_t i = 0; i < bytes / 8; i++) {
        for (uint64_t bits = k->dirty_bits[i]; bits; bits &= bits - 1) {
            __atomic_store_n(&map[i * 64 + (uint64_t)__builtin_ctzll(bits)], 1, __ATOMIC_RELAXED);
        }
    }
}

void kvm_dirty_sync(struct engine *engine, uint64_t pool_offset, uint64_t len)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    for (unsigned i = 0; i < k->slot_count; i++) {
        const struct kvm_slot *slot = &k->slots[i];
        uint64_t at = (uint64_t)(slot->host - memory_pool_base(k->memory));
        if (slot->used && (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) && at < pool_offset + len &&
            at + slot->size > pool_offset) {
            slot_sync(k, i);
        }
    }
}

static void slots_drop(struct kvm_engine *k)
{
    for (unsigned i = 0; i < k->slot_count; i++) {
        struct kvm_slot *slot = &k->slots[i];
        if (slot->used && !slot->keep) {
            if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) {
                slot_sync(k, i);
            }
            slot->used = false;
            slot_set(k, i, slot);
        }
    }
}

static void slot_put(struct kvm_engine *k, const struct kvm_slot *wanted)
{
    unsigned i = 0;

    while (i < k->slot_count && k->slots[i].used) {
        i++;
    }
    if (i == k->slot_count || !slot_set(k, i, wanted)) {
        device_log_once("kvm", wanted->gpa,
                        "KVM does not take the memory at %" G_GINT64_MODIFIER
                        "x; the guest reaches it slowly, and cannot run code there",
                        wanted->gpa);
        return;
    }
    k->slots[i] = *wanted;
    k->slots[i].keep = true;
}

static bool all_kept(const struct kvm_engine *k, const GArray *wanted)
{
    for (unsigned i = 0; i < k->slot_count; i++) {
        if (k->slots[i].used && !k->slots[i].keep) {
            return false;
        }
    }
    for (unsigned n = 0; n < wanted->len; n++) {
        if (!g_array_index(wanted, struct kvm_slot, n).keep) {
            return false;
        }
    }
    return true;
}

/* A slot cannot be changed, only taken away and made anew: no CPU may run in between, since the
 * memory that the slot keeps (code, page tables, stacks) is missing then. */
void kvm_memory_changed(struct engine *engine)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;
    g_autoptr(GArray) wanted = g_array_new(FALSE, FALSE, sizeof(struct kvm_slot));

    memory_each(k->memory, range_wanted, wanted);
    for (unsigned i = 0; i < k->slot_count; i++) {
        k->slots[i].keep = false;
    }
    for (unsigned n = 0; n < wanted->len; n++) {
        struct kvm_slot *w = &g_array_index(wanted, struct kvm_slot, n);
        for (unsigned i = 0; i < k->slot_count; i++) {
            if (slot_same(&k->slots[i], w)) {
                k->slots[i].keep = w->keep = true;
                break;
            }
        }
    }
    if (all_kept(k, wanted)) {
        return;
    }
    kvm_guest_close(k);
    slots_drop(k);
    for (unsigned n = 0; n < wanted->len; n++) {
        struct kvm_slot *w = &g_array_index(wanted, struct kvm_slot, n);
        if (!w->keep) {
            slot_put(k, w);
        }
    }
    kvm_guest_open(k);
}
