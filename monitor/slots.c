/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical map as slots (see slots.h).
 */
#include "slots.h"

#include <string.h>

#include "device.h"

static bool slot_same(const struct slot *a, const struct slot *b)
{
    return a->used && a->gpa == b->gpa && a->size == b->size && a->host == b->host &&
           a->read_only == b->read_only && a->log_dirty == b->log_dirty;
}

/* Continues the last wanted slot where that is possible, so that there are few. */
static void wanted_add(GArray *wanted, const struct slot *slot)
{
    struct slot *last = wanted->len ? &g_array_index(wanted, struct slot, wanted->len - 1) : NULL;

    if (last && last->read_only == slot->read_only && last->log_dirty == slot->log_dirty &&
        last->gpa + last->size == slot->gpa && last->host + last->size == slot->host) {
        last->size += slot->size;
    } else {
        g_array_append_vals(wanted, slot, 1);
    }
}

static void range_wanted(void *opaque, uint64_t start, uint64_t end, const struct mapping *m)
{
    struct slot slot = {.used = true};

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
    slot.read_only = m->kind != MAPPING_RAM;
    slot.log_dirty = m->log_dirty;
    wanted_add(opaque, &slot);
}

/* The bits of a slot, as bytes of the dirty map. */
static void slot_sync(struct slots *s, unsigned n)
{
    const struct slot *slot = &s->slot[n];
    uint64_t pages = slot->size >> GUEST_PAGE_SHIFT,
             first = (uint64_t)(slot->host - memory_pool_base(s->memory)) >> GUEST_PAGE_SHIFT;
    size_t bytes = (pages + 63) / 64 * 8;
    uint8_t *map = memory_dirty_map(s->memory) + first;

    if (bytes > s->bits_size) {
        s->bits = g_realloc(s->bits, bytes);
        s->bits_size = bytes;
    }
    memset(s->bits, 0, bytes);
    if (!s->ops->dirty(s->opaque, n, slot, s->bits)) {
        return;
    }
    for (uint64_t i = 0; i < bytes / 8; i++) {
        for (uint64_t bits = s->bits[i]; bits; bits &= bits - 1) {
            __atomic_store_n(&map[i * 64 + (uint64_t)__builtin_ctzll(bits)], 1, __ATOMIC_RELAXED);
        }
    }
}

void slots_dirty_sync(struct slots *s, uint64_t pool_offset, uint64_t len)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct slot *slot = &s->slot[i];
        uint64_t at = (uint64_t)(slot->host - memory_pool_base(s->memory));
        if (slot->used && slot->log_dirty && at < pool_offset + len &&
            at + slot->size > pool_offset) {
            slot_sync(s, i);
        }
    }
}

static void slots_drop(struct slots *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct slot *slot = &s->slot[i];
        if (slot->used && !slot->keep) {
            if (slot->log_dirty) {
                slot_sync(s, i);
            }
            slot->used = false;
            s->ops->set(s->opaque, i, slot);
        }
    }
}

static void slot_put(struct slots *s, const struct slot *wanted)
{
    unsigned i = 0;

    while (i < s->count && s->slot[i].used) {
        i++;
    }
    if (i == s->count || !s->ops->set(s->opaque, i, wanted)) {
        device_log_once(s->name, wanted->gpa,
                        "the kernel does not take the memory at %" G_GINT64_MODIFIER
                        "x; the guest reaches it slowly, and cannot run code there",
                        wanted->gpa);
        return;
    }
    s->slot[i] = *wanted;
    s->slot[i].keep = true;
}

/* Marks on both sides what stays as it is; true when that is all. */
static bool slots_match(struct slots *s, GArray *wanted)
{
    unsigned kept = 0, used = 0;

    for (unsigned i = 0; i < s->count; i++) {
        s->slot[i].keep = false;
        used += s->slot[i].used;
    }
    for (unsigned n = 0; n < wanted->len; n++) {
        struct slot *w = &g_array_index(wanted, struct slot, n);
        for (unsigned i = 0; i < s->count && !w->keep; i++) {
            if (slot_same(&s->slot[i], w)) {
                s->slot[i].keep = w->keep = true;
                kept++;
            }
        }
    }
    return kept == used && kept == wanted->len;
}

/* A slot cannot be changed, only taken away and made anew: no CPU may run in between, since the
 * memory that the slot keeps (code, page tables, stacks) is missing then. */
void slots_update(struct slots *s)
{
    g_autoptr(GArray) wanted = g_array_new(FALSE, FALSE, sizeof(struct slot));

    memory_each(s->memory, range_wanted, wanted);
    if (slots_match(s, wanted)) {
        return;
    }
    s->ops->close(s->opaque);
    slots_drop(s);
    for (unsigned n = 0; n < wanted->len; n++) {
        struct slot *w = &g_array_index(wanted, struct slot, n);
        if (!w->keep) {
            slot_put(s, w);
        }
    }
    s->ops->open(s->opaque);
}

void slots_init(struct slots *s, const struct slots_ops *ops, void *opaque, const char *name,
                struct memory *memory, unsigned count)
{
    *s = (struct slots){.ops = ops,
                        .opaque = opaque,
                        .name = name,
                        .memory = memory,
                        .slot = g_new0(struct slot, count),
                        .count = count};
}

void slots_clear(struct slots *s)
{
    g_free(s->slot);
    g_free(s->bits);
}
