/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event rings and interrupters (sections 4.9.4, 4.17, 5.5.2). Events for which the guest's ring has
 * no room wait here, and no new transfers begin until it has taken some.
 */
#include "dma.h"
#include "xhci_internal.h"

#define IMAN_PENDING 1u
#define IMAN_ENABLE  2u
#define ERDP_BUSY    8u
#define SEGMENT_MIN  16u
#define SEGMENT_MAX  4096u
#define WAITING_MAX  32768u

enum { IMAN = 0x00, IMOD = 0x04, ERSTSZ = 0x08, ERSTBA = 0x10, ERDP = 0x18 };

void xhci_update_irq(struct xhci *x)
{
    bool level = false;

    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        struct xhci_interrupter *ir = &x->interrupter[i];
        if ((x->usbcmd & CMD_INTERRUPTS) &&
            (ir->iman & (IMAN_PENDING | IMAN_ENABLE)) == (IMAN_PENDING | IMAN_ENABLE)) {
            level = true;
            if (pci_msix_enabled(&x->msix)) {
                ir->iman &= ~IMAN_PENDING;
                pci_msix_send(&x->msix, i);
            }
        }
    }
    pci_function_interrupt(&x->pci, level && !pci_msix_enabled(&x->msix));
}

static bool segment_load(struct xhci *x, struct xhci_interrupter *ir, uint32_t n, uint64_t *base,
                         uint32_t *size)
{
    uint32_t entry[4];

    if (!xhci_read(x, ir->erstba + 16ull * n, entry, sizeof entry)) {
        return false;
    }
    *base = entry[0] & ~63u;
    *base |= (uint64_t)entry[1] << 32;
    *size = entry[2] & 0xffff;
    if (*size < SEGMENT_MIN || *size > SEGMENT_MAX) {
        xhci_die(x, STS_CONTROLLER_ERROR, "an event ring segment has a wrong size");
        return false;
    }
    return true;
}

static uint64_t enqueue_pointer(const struct xhci_interrupter *ir)
{
    return ir->segment_base + 16ull * ir->index;
}

static bool ring_empty(const struct xhci_interrupter *ir)
{
    return !ir->started || enqueue_pointer(ir) == (ir->erdp & ~15ull);
}

static bool ring_start(struct xhci *x, struct xhci_interrupter *ir)
{
    if (!ir->started) {
        if (!segment_load(x, ir, 0, &ir->segment_base, &ir->segment_size)) {
            return false;
        }
        ir->segment = ir->index = 0;
        ir->cycle = ir->started = true;
    }
    return true;
}

/* The last word makes the TRB the guest's, so it comes last. */
static bool trb_put(struct xhci *x, uint64_t at, const struct xhci_trb *event, bool cycle)
{
    uint32_t control = (event->control & ~1u) | cycle;

    if (!xhci_write(x, at, event, 12)) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return xhci_write(x, at + 12, &control, 4);
}

/* False: the ring is full (or the controller died). */
static bool ring_put(struct xhci *x, struct xhci_interrupter *ir, const struct xhci_trb *event)
{
    uint32_t segment, index, size;
    uint64_t base;

    if (!ring_start(x, ir)) {
        return false;
    }
    segment = ir->segment;
    index = ir->index + 1;
    base = ir->segment_base;
    size = ir->segment_size;
    if (index == size) {
        segment = (segment + 1) % ir->erstsz;
        index = 0;
        if (!segment_load(x, ir, segment, &base, &size)) {
            return false;
        }
    }
    if (base + 16ull * index == (ir->erdp & ~15ull) ||
        !trb_put(x, enqueue_pointer(ir), event, ir->cycle)) {
        return false;
    }
    ir->cycle ^= segment == 0 && index == 0;
    ir->segment = segment;
    ir->index = index;
    ir->segment_base = base;
    ir->segment_size = size;
    return true;
}

static bool is_waiting(const struct xhci_interrupter *ir)
{
    return ir->waiting && ir->waiting->len > ir->waiting_from;
}

bool xhci_events_waiting(const struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        if (is_waiting(&x->interrupter[i])) {
            return true;
        }
    }
    return false;
}

static void interrupt(struct xhci *x, struct xhci_interrupter *ir)
{
    if (ir->pending && !(ir->erdp & ERDP_BUSY)) {
        ir->pending = false;
        ir->erdp |= ERDP_BUSY;
        ir->iman |= IMAN_PENDING;
        x->usbsts |= STS_EVENT;
        xhci_update_irq(x);
    }
}

void xhci_event(struct xhci *x, unsigned interrupter, const struct xhci_trb *event, bool silent)
{
    struct xhci_interrupter *ir =
        &x->interrupter[interrupter < XHCI_INTERRUPTERS ? interrupter : 0];

    if (!ir->erstsz || x->usbsts & (STS_SYSTEM_ERROR | STS_CONTROLLER_ERROR)) {
        return;
    }
    if (is_waiting(ir) || !ring_put(x, ir, event)) {
        if (ir->waiting->len >= WAITING_MAX) {
            xhci_die(x, STS_CONTROLLER_ERROR, "an event ring stays full");
            return;
        }
        g_array_append_val(ir->waiting, *event);
    }
    ir->pending |= !silent;
    interrupt(x, ir);
}

static void waiting_put(struct xhci *x, struct xhci_interrupter *ir)
{
    if (!is_waiting(ir)) {
        return;
    }
    while (is_waiting(ir) &&
           ring_put(x, ir, &g_array_index(ir->waiting, struct xhci_trb, ir->waiting_from))) {
        ir->waiting_from++;
        ir->pending = true;
    }
    if (!is_waiting(ir)) {
        g_array_set_size(ir->waiting, 0);
        ir->waiting_from = 0;
        xhci_kick_later(x);
    }
}

/* The guest has taken events. */
static void erdp_write(struct xhci *x, struct xhci_interrupter *ir, uint32_t value)
{
    uint32_t busy = ir->erdp & ERDP_BUSY & ~value;

    ir->erdp = (ir->erdp & ~0xffffffffull) | (value & ~ERDP_BUSY) | busy;
    waiting_put(x, ir);
    if (ring_empty(ir)) {
        ir->pending = false;
    }
    interrupt(x, ir);
}

uint32_t xhci_interrupter_read(struct xhci *x, unsigned n, unsigned at)
{
    const struct xhci_interrupter *ir = &x->interrupter[n];

    switch (at) {
    case IMAN:
        return ir->iman;
    case IMOD:
        return ir->imod;
    case ERSTSZ:
        return ir->erstsz;
    case ERSTBA:
        return (uint32_t)ir->erstba;
    case ERSTBA + 4:
        return (uint32_t)(ir->erstba >> 32);
    case ERDP:
        return (uint32_t)ir->erdp;
    case ERDP + 4:
        return (uint32_t)(ir->erdp >> 32);
    default:
        return 0;
    }
}

void xhci_interrupter_write(struct xhci *x, unsigned n, unsigned at, uint32_t value)
{
    struct xhci_interrupter *ir = &x->interrupter[n];

    switch (at) {
    case IMAN:
        ir->iman = (ir->iman & IMAN_PENDING & ~value) | (value & IMAN_ENABLE);
        xhci_update_irq(x);
        break;
    case IMOD:
        ir->imod = value;
        break;
    case ERSTSZ:
        ir->erstsz = MIN(value & 0xffff, 1u << XHCI_ERST_LOG);
        ir->started = false;
        break;
    case ERSTBA:
        ir->erstba = (ir->erstba & ~0xffffffffull) | (value & ~63u);
        ir->started = false;
        break;
    case ERSTBA + 4:
        ir->erstba = (uint32_t)ir->erstba | (uint64_t)value << 32;
        ir->started = false;
        break;
    case ERDP:
        erdp_write(x, ir, value);
        break;
    case ERDP + 4:
        ir->erdp = (uint32_t)ir->erdp | (uint64_t)value << 32;
        break;
    }
}

void xhci_interrupter_resume(struct xhci *x, unsigned n, uint32_t segment, uint32_t index,
                             bool cycle)
{
    struct xhci_interrupter *ir = &x->interrupter[n];

    if (segment < ir->erstsz &&
        segment_load(x, ir, segment, &ir->segment_base, &ir->segment_size) &&
        index < ir->segment_size) {
        ir->segment = segment;
        ir->index = index;
        ir->cycle = cycle;
        ir->started = true;
    }
}

void xhci_interrupter_reset(struct xhci_interrupter *ir)
{
    GArray *waiting = ir->waiting;

    *ir = (struct xhci_interrupter){.imod = 4000, .waiting = waiting};
    g_array_set_size(waiting, 0);
}

void xhci_interrupter_state(struct xhci_interrupter *ir, struct state *s)
{
    size_t size = (ir->waiting->len - ir->waiting_from) * sizeof(struct xhci_trb);
    g_autofree uint8_t *waiting =
        g_memdup2(ir->waiting->data + ir->waiting_from * sizeof(struct xhci_trb), size);

    state_u32(s, "iman", &ir->iman);
    state_u32(s, "imod", &ir->imod);
    state_u32(s, "erstsz", &ir->erstsz);
    state_u64(s, "erstba", &ir->erstba);
    state_u64(s, "erdp", &ir->erdp);
    state_bool(s, "started", &ir->started);
    state_u32(s, "segment", &ir->segment);
    state_u32(s, "index", &ir->index);
    state_u32(s, "segment-size", &ir->segment_size);
    state_u64(s, "segment-base", &ir->segment_base);
    state_bool(s, "cycle", &ir->cycle);
    state_bool(s, "pending", &ir->pending);
    state_blob(s, "waiting", &waiting, &size, WAITING_MAX * sizeof(struct xhci_trb));
    if (state_restoring(s)) {
        g_array_set_size(ir->waiting, 0);
        g_array_append_vals(ir->waiting, waiting, (guint)(size / sizeof(struct xhci_trb)));
        ir->waiting_from = 0;
        ir->erstsz = MIN(ir->erstsz, 1u << XHCI_ERST_LOG);
        ir->started = ir->started && ir->segment < ir->erstsz && ir->index < ir->segment_size &&
                      ir->segment_size <= SEGMENT_MAX;
    }
}
