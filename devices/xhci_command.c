/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command ring and device contexts (sections 4.6, 6.2).
 *
 * A command that takes endpoints away from what they are doing cancels their transfers first, and
 * stays in the ring until all are back: then it is begun again from its start. So a state saved
 * meanwhile needs no word about it.
 */
#include <string.h>

#include "dma.h"
#include "xhci_internal.h"

#define CRCR_CYCLE   1u
#define CRCR_STOP    2u
#define CRCR_ABORT   4u
#define CRCR_RUNNING 8u
#define BUDGET       64u /* commands at a time */
#define LINKS        8u  /* in a row */
#define CONTEXT      32u /* bytes */
#define WORDS        8u
#define ALL_BUT_SLOT 0xfffffffeu
#define ALL_BUT_EP0  0xfffffffcu
#define FLAG_BSR     (1u << 9) /* Address Device; of Configure Endpoint it is DC */
#define ADD_SLOT     1u
#define ADD_EP0      2u

/* --- contexts --- */

static bool context_read(struct xhci *x, uint64_t base, unsigned n, uint32_t words[WORDS])
{
    return xhci_read(x, base + (uint64_t)n * CONTEXT, words, CONTEXT);
}

static bool context_write(struct xhci *x, uint64_t base, unsigned n, const uint32_t words[WORDS])
{
    return xhci_write(x, base + (uint64_t)n * CONTEXT, words, CONTEXT);
}

/* Of an input context: which contexts to drop and to add. */
static bool flags_read(struct xhci *x, uint64_t input, uint32_t *drop, uint32_t *add)
{
    uint32_t words[WORDS];

    if (!context_read(x, input, 0, words)) {
        return false;
    }
    *drop = words[0];
    *add = words[1];
    return true;
}

static void slot_context_state(uint32_t words[WORDS], const struct xhci_slot *slot)
{
    words[3] = (uint32_t)slot->state << 27 | (slot->state >= SLOT_ADDRESSED ? slot->id : 0);
}

static void slot_store(struct xhci *x, struct xhci_slot *slot, unsigned entries)
{
    uint32_t words[WORDS];

    if (context_read(x, slot->context, 0, words)) {
        slot_context_state(words, slot);
        if (entries) {
            words[0] = (words[0] & 0x07ffffff) | entries << 27;
        }
        context_write(x, slot->context, 0, words);
    }
}

/* --- slots --- */

void xhci_slot_clear(struct xhci_slot *slot)
{
    for (unsigned i = 1; i < XHCI_ENDPOINTS; i++) {
        g_clear_pointer(&slot->endpoint[i], xhci_endpoint_free);
    }
    g_clear_pointer(&slot->device, usb_device_unref);
    slot->enabled = false;
    slot->state = SLOT_ENABLED;
    slot->port = 0;
    slot->route = 0;
    slot->context = 0;
}

static enum completion enable_slot(struct xhci *x, unsigned *id)
{
    unsigned max = MIN(x->config & 0xff, XHCI_SLOTS);

    for (unsigned i = 1; i <= max; i++) {
        if (!x->slot[i].enabled) {
            x->slot[i].enabled = true;
            *id = i;
            return CC_SUCCESS;
        }
    }
    return CC_NO_SLOTS;
}

static enum completion disable_slot(struct xhci *x, struct xhci_slot *slot)
{
    if (slot->context) {
        slot->state = SLOT_ENABLED;
        slot_store(x, slot, 0);
    }
    xhci_slot_clear(slot);
    return CC_SUCCESS;
}

static void endpoint_drop(struct xhci *x, struct xhci_slot *slot, unsigned id)
{
    uint32_t words[WORDS] = {0};

    if (slot->endpoint[id]) {
        g_clear_pointer(&slot->endpoint[id], xhci_endpoint_free);
        context_write(x, slot->context, id, words);
    }
}

/* Takes an endpoint as in the context, running. */
static bool endpoint_add(struct xhci *x, struct xhci_slot *slot, unsigned id, uint32_t words[WORDS])
{
    struct xhci_endpoint *ep = xhci_endpoint_new(slot, id, words);

    if (!ep) {
        return false;
    }
    xhci_endpoint_free(slot->endpoint[id]);
    slot->endpoint[id] = ep;
    words[0] = (words[0] & ~7u) | EP_RUNNING;
    return context_write(x, slot->context, id, words);
}

static enum completion address_device(struct xhci *x, struct xhci_slot *slot, uint64_t input,
                                      bool bsr)
{
    uint32_t drop, add, words[WORDS], ep0[WORDS];
    struct usb_device *dev;
    uint64_t context;

    if (!flags_read(x, input, &drop, &add) || !context_read(x, input, 1, words) ||
        !context_read(x, input, 2, ep0) ||
        !xhci_read(x, x->dcbaap + 8ull * slot->id, &context, 8)) {
        return CC_PARAMETER;
    }
    if (drop || (add & 3) != 3 || !(context & ~63ull)) {
        return CC_PARAMETER;
    }
    if (bsr ? slot->state != SLOT_ENABLED : slot->state > SLOT_DEFAULT) {
        return CC_CONTEXT_STATE;
    }
    slot->port = words[1] >> 16 & 0xff;
    slot->route = words[0] & 0xfffff;
    dev = xhci_port_find(x, slot->port, slot->route);
    if (!dev) {
        return CC_TRANSACTION;
    }
    slot->context = context & ~63ull;
    dev = usb_device_ref(dev);
    g_clear_pointer(&slot->device, usb_device_unref);
    slot->device = dev;
    slot->state = bsr ? SLOT_DEFAULT : SLOT_ADDRESSED;
    slot_context_state(words, slot);
    return endpoint_add(x, slot, 1, ep0) && context_write(x, slot->context, 0, words)
               ? CC_SUCCESS
               : CC_PARAMETER;
}

/* What the device is to know of streams before their first transfer. */
static bool streams_set(struct xhci_slot *slot, uint32_t endpoints, bool on)
{
    uint8_t addresses[XHCI_ENDPOINTS];
    unsigned n = 0, streams = XHCI_STREAMS;

    for (unsigned i = 2; i < XHCI_ENDPOINTS; i++) {
        const struct xhci_endpoint *ep = slot->endpoint[i];
        if ((endpoints & 1u << i) && ep && ep->stream_log) {
            addresses[n++] = (uint8_t)(i / 2 | (i & 1 ? USB_IN : 0));
            streams = MIN(streams, ep->n_rings - 1);
        }
    }
    return !n || !slot->device || !slot->device->class->streams ||
           slot->device->class->streams(slot->device, addresses, n, on ? streams : 0);
}

static unsigned last_endpoint(const struct xhci_slot *slot)
{
    unsigned last = XHCI_ENDPOINTS - 1;

    while (last > 1 && !slot->endpoint[last]) {
        last--;
    }
    return last;
}

static enum completion endpoints_add(struct xhci *x, struct xhci_slot *slot, uint64_t input,
                                     uint32_t add)
{
    uint32_t words[WORDS];

    for (unsigned i = 2; i < XHCI_ENDPOINTS; i++) {
        if (add & 1u << i &&
            (!context_read(x, input, i + 1, words) || !endpoint_add(x, slot, i, words))) {
            return CC_PARAMETER;
        }
    }
    return streams_set(slot, add, true) ? CC_SUCCESS : CC_RESOURCE;
}

/* A hub says here that it is one. */
static void hub_fields(struct xhci *x, struct xhci_slot *slot, uint64_t input)
{
    uint32_t from[WORDS], to[WORDS];

    if (context_read(x, input, 1, from) && context_read(x, slot->context, 0, to)) {
        to[0] = (to[0] & 0xf9ffffff) | (from[0] & 0x06000000);
        to[1] = (to[1] & 0x00ffffff) | (from[1] & 0xff000000);
        to[2] = from[2];
        context_write(x, slot->context, 0, to);
    }
}

static enum completion configure_endpoint(struct xhci *x, struct xhci_slot *slot, uint64_t input,
                                          bool deconfigure)
{
    enum completion cc = CC_SUCCESS;
    uint32_t drop = ALL_BUT_EP0, add = 0;

    if (slot->state < SLOT_ADDRESSED) {
        return CC_CONTEXT_STATE;
    }
    if (!deconfigure && (!flags_read(x, input, &drop, &add) || (drop & 3) || (add & ADD_EP0))) {
        return CC_PARAMETER;
    }
    streams_set(slot, drop, false);
    for (unsigned i = 2; i < XHCI_ENDPOINTS; i++) {
        if (drop & 1u << i) {
            endpoint_drop(x, slot, i);
        }
    }
    if (add & ADD_SLOT) {
        hub_fields(x, slot, input);
    }
    cc = endpoints_add(x, slot, input, add);
    slot->state = last_endpoint(slot) > 1 ? SLOT_CONFIGURED : SLOT_ADDRESSED;
    slot_store(x, slot, last_endpoint(slot));
    return cc;
}

static enum completion evaluate_context(struct xhci *x, struct xhci_slot *slot, uint64_t input)
{
    uint32_t drop, add, from[WORDS], to[WORDS];

    if (slot->state < SLOT_DEFAULT) {
        return CC_CONTEXT_STATE;
    }
    if (!flags_read(x, input, &drop, &add) || drop) {
        return CC_PARAMETER;
    }
    if (add & ADD_SLOT && context_read(x, input, 1, from) &&
        context_read(x, slot->context, 0, to)) {
        to[1] = (to[1] & ~0xffffu) | (from[1] & 0xffff);
        to[2] = (to[2] & 0x003fffff) | (from[2] & 0xffc00000);
        context_write(x, slot->context, 0, to);
    }
    if (add & ADD_EP0 && context_read(x, input, 2, from) && context_read(x, slot->context, 1, to)) {
        to[1] = (to[1] & 0xffff) | (from[1] & 0xffff0000);
        context_write(x, slot->context, 1, to);
    }
    return CC_SUCCESS;
}

static enum completion reset_device(struct xhci *x, struct xhci_slot *slot)
{
    uint32_t words[WORDS];

    if (slot->state < SLOT_ADDRESSED) {
        return CC_CONTEXT_STATE;
    }
    for (unsigned i = 2; i < XHCI_ENDPOINTS; i++) {
        endpoint_drop(x, slot, i);
    }
    slot->state = SLOT_DEFAULT;
    if (slot->endpoint[1] && context_read(x, slot->context, 1, words)) {
        slot->endpoint[1]->state = EP_RUNNING;
        words[0] = (words[0] & ~7u) | EP_RUNNING;
        context_write(x, slot->context, 1, words);
    }
    slot_store(x, slot, 1);
    return CC_SUCCESS;
}

/* --- endpoints --- */

static enum completion stop_endpoint(struct xhci_endpoint *ep)
{
    if (ep->state != EP_RUNNING) {
        return CC_CONTEXT_STATE;
    }
    ep->state = EP_STOPPED;
    xhci_endpoint_store(ep);
    return CC_SUCCESS;
}

static enum completion reset_endpoint(struct xhci_endpoint *ep)
{
    if (ep->state != EP_HALTED) {
        return CC_CONTEXT_STATE;
    }
    ep->state = EP_STOPPED;
    xhci_endpoint_store(ep);
    return CC_SUCCESS;
}

static enum completion set_dequeue(struct xhci_endpoint *ep, uint64_t pointer, unsigned stream)
{
    struct xhci_ring *ring;

    if (ep->state != EP_STOPPED && ep->state != EP_ERROR) {
        return CC_CONTEXT_STATE;
    }
    ring = xhci_endpoint_ring(ep, stream);
    if (!ring) {
        return CC_TRB;
    }
    xhci_endpoint_set_dequeue(ring, pointer);
    ep->state = EP_STOPPED;
    xhci_endpoint_store(ep);
    return CC_SUCCESS;
}

/* --- the ring --- */

/* The endpoints that must be at rest before the command, as bits. */
static uint32_t command_endpoints(struct xhci *x, const struct xhci_trb *c)
{
    unsigned id = c->control >> 16 & 31;
    uint32_t drop = 0, add = 0;

    switch (trb_type(c)) {
    case TRB_DISABLE_SLOT:
    case TRB_RESET_DEVICE:
        return ALL_BUT_SLOT;
    case TRB_ADDRESS_DEVICE:
        return 1u << 1;
    case TRB_CONFIGURE_ENDPOINT:
        if (c->control & FLAG_BSR) {
            return ALL_BUT_EP0;
        }
        return flags_read(x, c->parameter & ~15ull, &drop, &add) ? (drop | add) & ALL_BUT_EP0 : 0;
    case TRB_RESET_ENDPOINT:
    case TRB_STOP_ENDPOINT:
    case TRB_SET_DEQUEUE:
        return 1u << id & ALL_BUT_SLOT;
    default:
        return 0;
    }
}

static bool slot_at_rest(struct xhci_slot *slot, uint32_t endpoints)
{
    bool rest = true;

    for (unsigned i = 1; i < XHCI_ENDPOINTS; i++) {
        struct xhci_endpoint *ep = slot->endpoint[i];
        if (ep && (endpoints & 1u << i)) {
            ep->held = true;
            xhci_endpoint_cancel(ep, false);
            rest = rest && !ep->in_flight;
        }
    }
    return rest;
}

static void slot_go_on(struct xhci_slot *slot)
{
    for (unsigned i = 1; i < XHCI_ENDPOINTS; i++) {
        if (slot->endpoint[i] && slot->endpoint[i]->held) {
            slot->endpoint[i]->held = false;
            xhci_endpoint_rewind(slot->endpoint[i]);
        }
    }
}

static enum completion slot_command(struct xhci *x, struct xhci_slot *slot,
                                    const struct xhci_trb *c)
{
    struct xhci_endpoint *ep = slot->endpoint[c->control >> 16 & 31];
    uint64_t pointer = c->parameter & ~15ull;

    switch (trb_type(c)) {
    case TRB_DISABLE_SLOT:
        return disable_slot(x, slot);
    case TRB_ADDRESS_DEVICE:
        return address_device(x, slot, pointer, c->control & FLAG_BSR);
    case TRB_CONFIGURE_ENDPOINT:
        return configure_endpoint(x, slot, pointer, c->control & FLAG_BSR);
    case TRB_EVALUATE_CONTEXT:
        return evaluate_context(x, slot, pointer);
    case TRB_RESET_DEVICE:
        return reset_device(x, slot);
    case TRB_RESET_ENDPOINT:
        return ep ? reset_endpoint(ep) : CC_CONTEXT_STATE;
    case TRB_STOP_ENDPOINT:
        return ep ? stop_endpoint(ep) : CC_CONTEXT_STATE;
    case TRB_SET_DEQUEUE:
        return ep ? set_dequeue(ep, c->parameter, c->status >> 16) : CC_CONTEXT_STATE;
    default:
        return CC_TRB;
    }
}

static enum completion command(struct xhci *x, const struct xhci_trb *c, unsigned *id)
{
    if (trb_type(c) == TRB_ENABLE_SLOT) {
        return enable_slot(x, id);
    }
    if (trb_type(c) == TRB_NO_OP_COMMAND) {
        return CC_SUCCESS;
    }
    if (trb_type(c) < TRB_DISABLE_SLOT || trb_type(c) > TRB_RESET_DEVICE) {
        return CC_TRB;
    }
    if (*id < 1 || *id > XHCI_SLOTS || !x->slot[*id].enabled) {
        return CC_SLOT_NOT_ENABLED;
    }
    return slot_command(x, &x->slot[*id], c);
}

static void command_event(struct xhci *x, enum completion cc, unsigned slot)
{
    struct xhci_trb event = {x->command, (uint32_t)cc << 24,
                             (uint32_t)TRB_COMMAND_EVENT << 10 | slot << 24};

    xhci_event(x, 0, &event, false);
}

static bool command_ready(struct xhci *x, const struct xhci_trb *c)
{
    unsigned id = c->control >> 24;

    return id < 1 || id > XHCI_SLOTS || !x->slot[id].enabled ||
           slot_at_rest(&x->slot[id], command_endpoints(x, c));
}

/* False: none is there, or it cannot be carried out yet. */
static bool command_run(struct xhci *x)
{
    struct xhci_trb c;
    unsigned id;
    enum completion cc;

    for (unsigned links = 0;; links++) {
        if (links > LINKS || !xhci_read(x, x->command, &c, sizeof c) ||
            (c.control & TRB_CYCLE) != x->command_cycle) {
            return false;
        }
        if (trb_type(&c) != TRB_LINK) {
            break;
        }
        x->command = c.parameter & ~15ull;
        x->command_cycle ^= (c.control & TRB_TOGGLE) != 0;
    }
    if (!command_ready(x, &c)) {
        return false;
    }
    id = c.control >> 24;
    cc = command(x, &c, &id);
    command_event(x, cc, id);
    x->command += sizeof c;
    if (id >= 1 && id <= XHCI_SLOTS) {
        slot_go_on(&x->slot[id]);
    }
    return true;
}

void xhci_commands_run(struct xhci *x)
{
    unsigned budget = BUDGET;

    if (x->commanding) {
        return;
    }
    x->commanding = true;
    while (budget && x->command_running && xhci_running(x) && !xhci_events_waiting(x) &&
           command_run(x)) {
        budget--;
    }
    x->commanding = false;
    if (!budget) {
        xhci_kick_later(x);
    }
}

void xhci_commands_stop(struct xhci *x)
{
    x->command_running = false;
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        slot_go_on(&x->slot[i]);
    }
}

/* A command that waits for an endpoint is given up. */
static void command_abort(struct xhci *x)
{
    struct xhci_trb c;

    if (xhci_read(x, x->command, &c, sizeof c) && (c.control & TRB_CYCLE) == x->command_cycle &&
        trb_type(&c) != TRB_LINK) {
        unsigned id = c.control >> 24;
        command_event(x, CC_ABORTED, id);
        x->command += sizeof c;
        if (id >= 1 && id <= XHCI_SLOTS) {
            slot_go_on(&x->slot[id]);
        }
    }
}

uint32_t xhci_crcr_read(const struct xhci *x)
{
    return x->command_running ? CRCR_RUNNING : 0;
}

void xhci_crcr_write(struct xhci *x, uint32_t value, bool high)
{
    if (high && !x->command_running) {
        x->command = (uint32_t)x->command | (uint64_t)value << 32;
    } else if (!high && !x->command_running) {
        x->command = (x->command & ~0xffffffffull) | (value & ~63u);
        x->command_cycle = value & CRCR_CYCLE;
    } else if (!high && value & (CRCR_STOP | CRCR_ABORT)) {
        if (value & CRCR_ABORT) {
            command_abort(x);
        }
        command_event(x, CC_RING_STOPPED, 0);
        x->command_running = false;
    }
}

/* --- state --- */

void xhci_slot_state(struct xhci *x, struct xhci_slot *slot, struct state *s)
{
    g_autofree char *name = g_strdup(slot->device ? slot->device->class->name : NULL);
    uint32_t endpoints = 0;

    for (unsigned i = 1; i < XHCI_ENDPOINTS; i++) {
        endpoints |= slot->endpoint[i] ? 1u << i : 0;
    }
    state_bool(s, "enabled", &slot->enabled);
    if (!slot->enabled) {
        return;
    }
    state_u8(s, "state", &slot->state);
    state_u8(s, "port", &slot->port);
    state_u32(s, "route", &slot->route);
    state_u64(s, "context", &slot->context);
    state_string(s, "device", &name);
    state_u32(s, "endpoints", &endpoints);
    for (unsigned i = 1; i < XHCI_ENDPOINTS && !state_failed(s); i++) {
        if (endpoints & 1u << i) {
            state_push(s, "endpoint", i);
            xhci_endpoint_state(slot, i, s);
            state_pop(s);
        }
    }
    if (state_restoring(s) && name) {
        struct usb_device *dev = xhci_port_find(x, slot->port, slot->route);
        if (dev && dev->class->state && strcmp(dev->class->name, name) == 0) {
            slot->device = usb_device_ref(dev);
        }
    }
}
