/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Endpoints: transfer rings become transfers of the USB layer, and their ends transfer events
 * (sections 4.9, 4.10, 4.11, 4.12, 4.14).
 *
 * A transfer descriptor (TD) is copied from the ring as a whole, its data into one flat buffer; the
 * ring's dequeue pointer moves on when the TD has ended. So what is under way when the machine is
 * saved is simply begun again. A bulk or interrupt transfer that the guest stopped in its middle
 * goes on there (`partial`), unless the guest moves the dequeue pointer.
 *
 * A device that always has something to say on an interrupt endpoint is asked once an interval.
 * Isochronous TDs are given to the device ahead of time. A device that answers at once is told
 * on by the machine's clock, others set the pace themselves.
 */
#include "dma.h"
#include "xhci_internal.h"

#define TRBS_MAX      8192u       /* of one TD */
#define LINKS_MAX     16u         /* in a row */
#define BYTES_MAX     (64u << 20) /* under way, of all endpoints */
#define KICK_BUDGET   256u        /* TDs at a time */
#define ISOCH_AHEAD   (32 * XHCI_FRAME_NS)
#define ISOCH_SIA     (1u << 31)
#define FRAMES        2048u /* that a frame id tells apart */
#define INTERVAL_MAX  18u
#define STREAM_SCT(p) ((p) >> 1 & 7)

enum { TYPE_ISOCH_OUT = 1, TYPE_BULK_OUT, TYPE_INTERRUPT_OUT, TYPE_CONTROL, TYPE_ISOCH_IN };

struct td_trb {
    struct xhci_trb trb;
    uint64_t at;
};

struct xhci_td {
    struct usb_transfer transfer;
    struct usb_packet packet;
    struct xhci *xhci;        /* NULL: freed before the device has given it back */
    struct xhci_endpoint *ep; /* NULL: likewise */
    struct xhci_ring *ring;
    GArray *trbs; /* struct td_trb */
    uint8_t *buffer;
    size_t bytes, skip; /* of the TD; of it, done before (see partial) */
    uint64_t next;      /* what follows it in the ring */
    bool next_cycle, submitted, done, at_once, cancelling, gone, missed;
    uint64_t at; /* isochronous: when it is to end */
};

static struct xhci_trb *td_trb(const struct xhci_td *td, unsigned i)
{
    return &g_array_index(td->trbs, struct td_trb, i).trb;
}

static uint32_t trb_length(const struct xhci_trb *trb)
{
    switch (trb_type(trb)) {
    case TRB_NORMAL:
    case TRB_DATA:
    case TRB_ISOCH:
        return trb->status & 0x1ffff;
    default:
        return 0;
    }
}

static enum usb_kind endpoint_kind(const struct xhci_endpoint *ep)
{
    static const uint8_t kinds[] = {USB_ISOCHRONOUS, USB_BULK, USB_INTERRUPT, USB_CONTROL};

    return kinds[(ep->type - 1) & 3];
}

static bool is_isoch(const struct xhci_endpoint *ep)
{
    return endpoint_kind(ep) == USB_ISOCHRONOUS;
}

static uint64_t interval_ns(const struct xhci_endpoint *ep)
{
    return 125000ull << ep->interval;
}

/* --- TDs --- */

static struct xhci_td *td_new(struct xhci_endpoint *ep, struct xhci_ring *ring)
{
    struct xhci_td *td = g_new0(struct xhci_td, 1);

    td->xhci = ep->xhci;
    td->ep = ep;
    td->ring = ring;
    td->trbs = g_array_new(FALSE, FALSE, sizeof(struct td_trb));
    return td;
}

static void td_free(struct xhci_td *td)
{
    struct xhci *x = td->xhci;

    if (x) {
        x->bytes -= td->bytes;
        if (x->starved) {
            x->starved = false;
            xhci_kick_later(x);
        }
    }
    g_array_unref(td->trbs);
    g_free(td->buffer);
    g_free(td);
}

enum fetched { FETCH_NONE, FETCH_TD, FETCH_WRONG };

/* Is the TD whole with this TRB? A control transfer has up to three stages (section 4.11.2.2). */
static bool td_ends(const struct xhci_td *td, const struct xhci_trb *trb, bool *status)
{
    *status |= trb_type(trb) == TRB_STATUS;
    if (trb->control & TRB_CHAIN) {
        return false;
    }
    return trb_type(td_trb(td, 0)) != TRB_SETUP || *status;
}

/* Collects the TRBs of the next TD. */
static enum fetched td_fetch(struct xhci_td *td)
{
    struct xhci *x = td->xhci;
    uint64_t at = td->ring->fetch;
    bool cycle = td->ring->fetch_cycle, status = false, more = true;
    unsigned links = 0;

    while (more) {
        struct td_trb t = {.at = at};
        if (!xhci_read(x, at, &t.trb, sizeof t.trb) || (t.trb.control & TRB_CYCLE) != cycle) {
            return FETCH_NONE;
        }
        if (trb_type(&t.trb) == TRB_LINK) {
            at = t.trb.parameter & ~15ull;
            cycle ^= (t.trb.control & TRB_TOGGLE) != 0;
            if (++links > LINKS_MAX) {
                return FETCH_WRONG;
            }
            continue;
        }
        links = 0;
        at += sizeof t.trb;
        g_array_append_val(td->trbs, t);
        td->bytes += trb_length(&t.trb);
        more = !td_ends(td, &t.trb, &status);
        if (td->bytes > USB_MAX_TRANSFER || td->trbs->len > TRBS_MAX) {
            return FETCH_WRONG;
        }
    }
    td->next = at;
    td->next_cycle = cycle;
    return FETCH_TD;
}

/* Moves bytes [from, to) of the TD between its buffer, which begins at `skip`, and the guest. */
static bool td_copy(struct xhci_td *td, bool to_guest, size_t from, size_t to)
{
    struct xhci *x = td->xhci;
    size_t start = 0;

    for (unsigned i = 0; i < td->trbs->len && start < to; i++) {
        const struct xhci_trb *trb = td_trb(td, i);
        size_t end = start + trb_length(trb), low = MAX(start, from), high = MIN(end, to);
        if (low < high) {
            uint8_t *buffer = td->buffer + (low - td->skip);
            uint64_t at = trb->parameter + (low - start);
            if (trb->control & TRB_IDT) {
                if (to_guest || end - start > sizeof trb->parameter) {
                    return false;
                }
                memcpy(buffer, (const uint8_t *)&trb->parameter + (low - start), high - low);
            } else if (!(to_guest ? xhci_write(x, at, buffer, high - low)
                                  : xhci_read(x, at, buffer, high - low))) {
                return false;
            }
        }
        start = end;
    }
    return true;
}

/* --- events --- */

static void transfer_event(struct xhci_td *td, const struct td_trb *t, enum completion cc,
                           uint32_t length)
{
    bool data = trb_type(&t->trb) == TRB_EVENT_DATA;
    struct xhci_trb event = {data ? t->trb.parameter : t->at,
                             (length & 0xffffff) | (uint32_t)cc << 24,
                             (uint32_t)TRB_TRANSFER_EVENT << 10 | (data ? TRB_ED : 0) |
                                 (uint32_t)td->ep->id << 16 | (uint32_t)td->ep->slot->id << 24};

    xhci_event(td->xhci, t->trb.status >> 22, &event, t->trb.control & TRB_BEI);
}

/* One event for each stage: where a packet was short or went wrong, or where it was asked for. */
static void td_events(struct xhci_td *td, enum completion cc, size_t left)
{
    bool is_short = false, reported = false;
    uint32_t total = 0;

    for (unsigned i = 0; i < td->trbs->len; i++) {
        const struct td_trb *t = &g_array_index(td->trbs, struct td_trb, i);
        unsigned type = trb_type(&t->trb);
        uint32_t length = trb_length(&t->trb), part = (uint32_t)MIN(length, left);
        bool event_data = type == TRB_EVENT_DATA;
        left -= part;
        total += part;
        is_short = type == TRB_STATUS ? false : is_short || part < length;
        reported = type == TRB_STATUS ? false : reported;
        if (reported ||
            !((t->trb.control & TRB_IOC) ||
              (is_short && cc == CC_SUCCESS && (t->trb.control & TRB_ISP) && !event_data) ||
              (cc != CC_SUCCESS && left == 0 && type != TRB_SETUP))) {
            continue;
        }
        transfer_event(td, t, cc == CC_SUCCESS && is_short ? CC_SHORT : cc,
                       event_data ? total : length - part);
        total = event_data ? 0 : total;
        reported = type != TRB_SETUP;
        if (cc != CC_SUCCESS) {
            return;
        }
    }
    if (cc != CC_SUCCESS && td->trbs->len) { /* a Setup stage alone */
        transfer_event(td, &g_array_index(td->trbs, struct td_trb, 0), cc, 0);
    }
}

/* The TD at `dequeue` was stopped with `partial` bytes done (section 4.6.9). */
static void stopped_event(struct xhci_td *td, size_t partial)
{
    for (unsigned i = 0; i < td->trbs->len; i++) {
        const struct td_trb *t = &g_array_index(td->trbs, struct td_trb, i);
        uint32_t length = trb_length(&t->trb);
        if (partial < length || i + 1 == td->trbs->len || !length) {
            transfer_event(td, t, CC_STOPPED, length - (uint32_t)MIN(partial, length));
            return;
        }
        partial -= length;
    }
}

static enum completion completion_of(const struct xhci_td *td)
{
    enum usb_status status = td->transfer.status;

    if (td->missed) {
        return CC_MISSED;
    }
    if (status == USB_DONE && td->transfer.n_packets) {
        status = td->packet.status;
    }
    switch (td->gone ? USB_GONE : status) {
    case USB_DONE:
        return CC_SUCCESS;
    case USB_STALL:
        return CC_STALL;
    case USB_BABBLE:
        return CC_BABBLE;
    default:
        return CC_TRANSACTION;
    }
}

/* --- the end of a TD --- */

static size_t td_actual(const struct xhci_td *td)
{
    size_t n = td->transfer.n_packets ? td->packet.actual : td->transfer.actual;

    return MIN(n, td->transfer.length);
}

static void td_data_in(struct xhci_td *td)
{
    if (td->buffer && (td->transfer.endpoint & USB_IN)) {
        td_copy(td, true, td->skip, td->skip + td_actual(td));
    }
}

static void td_end(struct xhci_td *td)
{
    struct xhci_endpoint *ep = td->ep;
    enum completion cc = completion_of(td);

    td_data_in(td);
    if (endpoint_kind(ep) == USB_INTERRUPT && td->at_once) { /* asked again in an interval */
        ep->next_at = clock_now(ep->xhci->host->clock) + interval_ns(ep);
    }
    td->ring->dequeue = td->next;
    td->ring->dequeue_cycle = td->next_cycle;
    td->ring->partial = 0;
    if (cc != CC_SUCCESS && !is_isoch(ep)) {
        td->ring->dequeue = g_array_index(td->trbs, struct td_trb, 0).at;
        td->ring->dequeue_cycle = td_trb(td, 0)->control & TRB_CYCLE;
        ep->state = EP_HALTED;
        xhci_endpoint_store(ep);
    }
    td_events(td, cc, td->skip + td_actual(td));
}

/* Stopped in its middle: what was moved stays so. */
static void td_stop(struct xhci_td *td)
{
    struct xhci_ring *ring = td->ring;

    if (!is_isoch(td->ep) && td->ep->state == EP_RUNNING && td->ep->held) {
        if (endpoint_kind(td->ep) != USB_CONTROL) {
            td_data_in(td);
            ring->partial = td->skip + td_actual(td);
        }
        stopped_event(td, ring->partial);
    }
}

static void td_remove(struct xhci_td *td)
{
    g_queue_remove(&td->ring->tds, td);
    td->ep->in_flight--;
    td_free(td);
}

/* Was it thrown away, rather than carried out? */
static bool td_dropped(const struct xhci_td *td)
{
    const struct xhci_endpoint *ep = td->ep;

    return ep->state != EP_RUNNING || (td->transfer.status == USB_CANCELLED && !td->gone) ||
           (ep->held && td->at > clock_now(ep->xhci->host->clock));
}

/* For each of its TDs, the last one first; `fn` may free it. Completions wait. */
static void each_td(struct xhci_endpoint *ep, void (*fn)(struct xhci_td *td))
{
    ep->nested++;
    for (unsigned i = 0; i < ep->n_rings; i++) {
        GList *previous;
        for (GList *l = ep->rings[i].tds.tail; l; l = previous) {
            previous = l->prev;
            fn(l->data);
        }
    }
    ep->nested--;
}

static void td_cancel(struct xhci_td *td)
{
    if (td->submitted && !td->done && !td->cancelling) {
        td->cancelling = true;
        usb_cancel(&td->transfer);
    }
}

static void td_gone(struct xhci_td *td)
{
    td->gone = true;
    td_cancel(td);
}

/* Ends those at the ring's head that are done. */
static void ring_progress(struct xhci_endpoint *ep, struct xhci_ring *ring)
{
    struct xhci_td *td;

    while ((td = g_queue_peek_head(&ring->tds)) && td->done) {
        if (!ring->stopped && td_dropped(td)) {
            td_stop(td);
            ring->stopped = true;
        }
        if (ring->stopped) {
            /* it stays in the guest's ring */
        } else if (td->at > clock_now(ep->xhci->host->clock)) {
            timer_arm(ep->timer, td->at);
            return;
        } else {
            td_end(td);
            if (ep->state == EP_HALTED) {
                each_td(ep, td_cancel);
            }
        }
        td_remove(td);
    }
    if (!td) {
        ring->stopped = false;
        ring->fetch = ring->dequeue;
        ring->fetch_cycle = ring->dequeue_cycle;
    }
}

static void rings_progress(struct xhci_endpoint *ep)
{
    bool halted;

    do {
        halted = ep->state == EP_HALTED;
        for (unsigned i = 0; i < ep->n_rings && ep->in_flight; i++) {
            ring_progress(ep, &ep->rings[i]);
        }
    } while (!halted && ep->state == EP_HALTED);
}

static void rings_fetch(struct xhci_endpoint *ep);

static void endpoint_progress(struct xhci_endpoint *ep)
{
    if (ep->nested) {
        return;
    }
    rings_progress(ep);
    rings_fetch(ep);
    if (ep->held && !ep->in_flight) {
        xhci_commands_run(ep->xhci); /* may free the endpoint */
    }
}

static void td_done(struct usb_transfer *transfer)
{
    struct xhci_td *td = transfer->opaque;

    td->done = true;
    if (td->ep) {
        td->at_once = td->ep->nested;
        if (!td->at_once) { /* by itself, so not to the machine's clock */
            td->at = 0;
        }
        endpoint_progress(td->ep);
    } else {
        if (td->xhci) {
            g_queue_remove(&td->xhci->orphans, td);
        }
        td_free(td);
    }
}

/* --- the beginning --- */

static bool td_setup(struct xhci_td *td)
{
    const struct xhci_trb *setup = td_trb(td, 0);
    uint64_t p = setup->parameter;
    bool in = p & USB_IN;

    if (trb_type(setup) != TRB_SETUP || !(setup->control & TRB_IDT)) {
        return false;
    }
    td->transfer.setup = (struct usb_setup){(uint8_t)p, (uint8_t)(p >> 8), (uint16_t)(p >> 16),
                                            (uint16_t)(p >> 32), (uint16_t)(p >> 48)};
    for (unsigned i = 1; i < td->trbs->len; i++) {
        if (trb_type(td_trb(td, i)) == TRB_DATA) {
            in = td_trb(td, i)->control & TRB_IN;
        }
    }
    td->transfer.endpoint = in && td->bytes ? USB_IN : 0;
    return true;
}

/* When an isochronous TD's interval ends; false: its frame has gone by (section 4.11.2.5). */
static bool isoch_time(struct xhci_td *td)
{
    struct xhci_endpoint *ep = td->ep;
    uint64_t now = clock_now(ep->xhci->host->clock),
             frame = (now - ep->xhci->started_at) / XHCI_FRAME_NS;
    uint32_t control = td_trb(td, 0)->control;

    if (!(control & ISOCH_SIA) && ep->next_at <= now) { /* the first of a row says when */
        uint32_t ahead = ((control >> 20 & (FRAMES - 1)) - (uint32_t)frame) & (FRAMES - 1);
        if (ahead >= FRAMES / 2) {
            return false;
        }
        ep->next_at = ep->xhci->started_at + (frame + ahead) * XHCI_FRAME_NS;
    }
    ep->next_at = MAX(ep->next_at, now) + interval_ns(ep);
    td->at = ep->next_at;
    return true;
}

static void td_local(struct xhci_td *td)
{
    td->transfer.status = USB_DONE;
    td->transfer.actual = td->transfer.length;
    td->done = true;
}

/* False: there is no memory for its data. */
static bool td_fill(struct xhci_td *td)
{
    struct xhci_endpoint *ep = td->ep;
    struct usb_transfer *t = &td->transfer;

    td->skip = g_queue_peek_head(&td->ring->tds) == td ? MIN(td->ring->partial, td->bytes) : 0;
    t->kind = endpoint_kind(ep);
    if (ep->id > 1) {
        t->endpoint = (uint8_t)(ep->id / 2 | (ep->id & 1 ? USB_IN : 0));
    }
    t->stream = (uint16_t)(td->ring - ep->rings);
    t->length = td->bytes - td->skip;
    t->interval_ns = interval_ns(ep);
    t->done = td_done;
    t->opaque = td;
    td->buffer = t->data = g_try_malloc(t->length + 1);
    if (!td->buffer) {
        return false;
    }
    if (t->endpoint & USB_IN) {
        memset(td->buffer, 0, t->length);
    }
    if (is_isoch(ep)) {
        td->packet.length = (uint32_t)t->length;
        t->packets = &td->packet;
        t->n_packets = 1;
    }
    return true;
}

static void td_submit(struct xhci_td *td)
{
    struct xhci_endpoint *ep = td->ep;
    struct usb_device *dev = ep->slot->device;

    if (!dev) {
        td->transfer.status = USB_GONE;
        td->gone = td->done = true;
        return;
    }
    td->submitted = true;
    ep->nested++;
    usb_submit(dev, &td->transfer);
    ep->nested--;
}

/* False: the controller has died, or the TD is nonsense. */
static bool td_begin(struct xhci_td *td)
{
    if (td_trb(td, 0) && trb_type(td_trb(td, 0)) == TRB_NO_OP) {
        td_local(td);
        return true;
    }
    if (endpoint_kind(td->ep) == USB_CONTROL && !td_setup(td)) {
        return false;
    }
    if (!td_fill(td)) {
        return false;
    }
    if (is_isoch(td->ep) && !isoch_time(td)) {
        td_local(td);
        td->missed = true;
        td->packet.actual = 0;
        return true;
    }
    if (!(td->transfer.endpoint & USB_IN) && !td_copy(td, false, td->skip, td->bytes)) {
        return false;
    }
    td_submit(td);
    return true;
}

/* The guest's ring is wrong: nothing more is taken from it until it has been set anew. */
static void endpoint_error(struct xhci_td *td)
{
    struct xhci_endpoint *ep = td->ep;
    struct td_trb at = {.at = td->ring->fetch};

    if (ep->in_flight) {
        return; /* first those before it */
    }
    ep->state = EP_ERROR;
    xhci_endpoint_store(ep);
    transfer_event(td, td->trbs->len ? &g_array_index(td->trbs, struct td_trb, 0) : &at, CC_TRB, 0);
}

static unsigned flight_limit(const struct xhci_endpoint *ep)
{
    switch (endpoint_kind(ep)) {
    case USB_CONTROL:
        return 1;
    case USB_ISOCHRONOUS:
        return 128;
    case USB_BULK:
        return ep->stream_log ? XHCI_STREAMS : 32;
    default:
        return 8;
    }
}

static bool may_begin(struct xhci_endpoint *ep)
{
    struct xhci *x = ep->xhci;
    uint64_t ahead = is_isoch(ep) ? ISOCH_AHEAD : 0;

    if (ep->state != EP_RUNNING || ep->held || ep->nested || !xhci_running(x) ||
        xhci_events_waiting(x) || ep->in_flight >= flight_limit(ep)) {
        return false;
    }
    if (ep->next_at > clock_now(x->host->clock) + ahead) {
        if (!timer_is_armed(ep->timer)) {
            timer_arm(ep->timer, ep->next_at - ahead);
        }
        return false;
    }
    return true;
}

/* Not while some of its TDs are on their way back. */
static bool ring_ready(const struct xhci_endpoint *ep, struct xhci_ring *ring)
{
    const struct xhci_td *head = g_queue_peek_head(&ring->tds);

    return ring->loaded && !ring->stopped && (!head || (!head->cancelling && !ep->stream_log));
}

/* True: a TD was taken from the ring. */
static bool ring_next(struct xhci_endpoint *ep, struct xhci_ring *ring)
{
    struct xhci *x = ep->xhci;
    struct xhci_td *td = td_new(ep, ring);
    enum fetched fetched = td_fetch(td);

    x->bytes += td->bytes;
    if (fetched == FETCH_TD && x->bytes > BYTES_MAX && x->bytes > td->bytes) {
        td_free(td);
        x->starved = true;
        return false;
    }
    if (fetched == FETCH_TD) {
        g_queue_push_tail(&ring->tds, td);
        ep->in_flight++;
        if (td_begin(td)) {
            ring->fetch = td->next;
            ring->fetch_cycle = td->next_cycle;
            rings_progress(ep);
            return true;
        }
        g_queue_remove(&ring->tds, td);
        ep->in_flight--;
        fetched = FETCH_WRONG;
    }
    if (fetched == FETCH_WRONG) {
        endpoint_error(td);
    }
    td_free(td);
    return false;
}

static void rings_fetch(struct xhci_endpoint *ep)
{
    unsigned budget = KICK_BUDGET;

    for (unsigned i = 0; i < ep->n_rings; i++) {
        struct xhci_ring *ring = &ep->rings[i];
        while (budget && ring_ready(ep, ring) && may_begin(ep) && ring_next(ep, ring)) {
            budget--;
        }
    }
    if (!budget) {
        ep->pending = true;
        xhci_kick_later(ep->xhci);
    }
}

/* --- for commands and doorbells --- */

static void endpoint_timer(void *opaque)
{
    endpoint_progress(opaque);
}

static struct xhci_endpoint *endpoint_alloc(struct xhci_slot *slot, unsigned id, unsigned log)
{
    struct xhci *x = (struct xhci *)((char *)(slot - slot->id) - offsetof(struct xhci, slot));
    struct xhci_endpoint *ep = g_new0(struct xhci_endpoint, 1);

    ep->xhci = x;
    ep->slot = slot;
    ep->id = (uint8_t)id;
    ep->stream_log = log;
    ep->n_rings = log ? 1u << log : 1;
    ep->rings = g_new0(struct xhci_ring, ep->n_rings);
    ep->timer = timer_new(x->host->clock, endpoint_timer, ep);
    return ep;
}

/* NULL: no endpoint can be so. */
struct xhci_endpoint *xhci_endpoint_new(struct xhci_slot *slot, unsigned id,
                                        const uint32_t context[8])
{
    unsigned type = context[1] >> 3 & 7, streams = context[0] >> 10 & 31;
    bool in = id & 1, bulk = type == TYPE_BULK_OUT || type == TYPE_BULK_OUT + 4;
    struct xhci_endpoint *ep;

    if ((type == TYPE_CONTROL) != (id == 1) || (id != 1 && type == 0) ||
        (id != 1 && in != (type >= TYPE_ISOCH_IN)) || streams >= XHCI_STREAMS_LOG ||
        (streams && !bulk)) {
        return NULL;
    }
    ep = endpoint_alloc(slot, id, streams ? streams + 1 : 0);
    ep->state = EP_RUNNING;
    ep->type = (uint8_t)type;
    ep->interval = MIN(context[0] >> 16 & 0xff, INTERVAL_MAX);
    if (streams) {
        ep->stream_contexts = (context[2] & ~15u) | (uint64_t)context[3] << 32;
    } else {
        xhci_endpoint_set_dequeue(&ep->rings[0], context[2] | (uint64_t)context[3] << 32);
    }
    return ep;
}

void xhci_endpoint_cancel(struct xhci_endpoint *ep, bool gone)
{
    each_td(ep, gone ? td_gone : td_cancel);
    endpoint_progress(ep);
}

static void td_orphan(struct xhci_td *td)
{
    td->ep = NULL;
    td->ring = NULL;
    if (td->submitted && !td->done) {
        g_queue_push_tail(&td->xhci->orphans, td);
    } else {
        td_free(td);
    }
}

void xhci_endpoint_free(struct xhci_endpoint *ep)
{
    if (!ep) {
        return;
    }
    each_td(ep, td_cancel);
    each_td(ep, td_orphan);
    for (unsigned i = 0; i < ep->n_rings; i++) {
        g_queue_clear(&ep->rings[i].tds);
    }
    timer_free(ep->timer);
    g_free(ep->rings);
    g_free(ep);
}

void xhci_forget_orphans(struct xhci *x)
{
    struct xhci_td *td;

    while ((td = g_queue_pop_head(&x->orphans))) {
        td->xhci = NULL;
    }
}

void xhci_endpoint_rewind(struct xhci_endpoint *ep)
{
    ep->next_at = 0;
    for (unsigned i = 0; i < ep->n_rings; i++) {
        struct xhci_ring *ring = &ep->rings[i];
        if (g_queue_is_empty(&ring->tds)) { /* else when the last one is back */
            ring->fetch = ring->dequeue;
            ring->fetch_cycle = ring->dequeue_cycle;
        }
    }
}

void xhci_endpoint_set_dequeue(struct xhci_ring *ring, uint64_t pointer)
{
    ring->dequeue = ring->fetch = pointer & ~15ull;
    ring->dequeue_cycle = ring->fetch_cycle = pointer & TRB_CYCLE;
    ring->partial = 0;
    ring->loaded = true;
}

struct xhci_ring *xhci_endpoint_ring(struct xhci_endpoint *ep, unsigned stream)
{
    if (!ep->stream_log) {
        return &ep->rings[0];
    }
    return stream >= 1 && stream < ep->n_rings ? &ep->rings[stream] : NULL;
}

void xhci_endpoint_store(struct xhci_endpoint *ep)
{
    uint64_t at = ep->slot->context + ep->id * 32ull;
    uint32_t words[4];

    if (!xhci_read(ep->xhci, at, words, sizeof words)) {
        return;
    }
    words[0] = (words[0] & ~7u) | ep->state;
    if (!ep->stream_log) {
        words[2] = (uint32_t)ep->rings[0].dequeue | ep->rings[0].dequeue_cycle;
        words[3] = (uint32_t)(ep->rings[0].dequeue >> 32);
    }
    for (unsigned i = 1; i < ep->n_rings; i++) {
        const struct xhci_ring *ring = &ep->rings[i];
        uint64_t pointer = ring->dequeue | 2 | ring->dequeue_cycle;
        if (ring->loaded) {
            xhci_write(ep->xhci, ep->stream_contexts + 16ull * i, &pointer, sizeof pointer);
        }
    }
    xhci_write(ep->xhci, at, words, sizeof words);
}

/* A stream's ring is as its context says when the doorbell first rings for it (section 4.12.2). */
static bool stream_load(struct xhci_endpoint *ep, struct xhci_ring *ring)
{
    uint64_t at = ep->stream_contexts + 16ull * (uint64_t)(ring - ep->rings), pointer;

    if (!ring->loaded) {
        if (!xhci_read(ep->xhci, at, &pointer, sizeof pointer) || STREAM_SCT(pointer) != 1) {
            return false;
        }
        xhci_endpoint_set_dequeue(ring, pointer);
    }
    return true;
}

void xhci_endpoint_doorbell(struct xhci_endpoint *ep, unsigned stream)
{
    struct xhci_ring *ring = xhci_endpoint_ring(ep, stream);

    if (!ring || ep->held || (ep->state != EP_RUNNING && ep->state != EP_STOPPED) ||
        !stream_load(ep, ring)) {
        return;
    }
    if (ep->state == EP_STOPPED) {
        ep->state = EP_RUNNING;
        xhci_endpoint_store(ep);
    }
    endpoint_progress(ep);
}

void xhci_kick(struct xhci *x)
{
    xhci_commands_run(x);
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        for (unsigned e = 1; x->slot[i].enabled && e < XHCI_ENDPOINTS; e++) {
            struct xhci_endpoint *ep = x->slot[i].endpoint[e];
            if (ep) {
                ep->pending = false;
                endpoint_progress(ep);
            }
        }
    }
}

void xhci_kick_later(struct xhci *x)
{
    if (!timer_is_armed(x->kick)) {
        timer_arm(x->kick, clock_now(x->host->clock));
    }
}

/* Cancelled and not back yet: a state cannot say this. */
bool xhci_transfers_busy(const struct xhci *x)
{
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        for (unsigned e = 1; e < XHCI_ENDPOINTS; e++) {
            const struct xhci_endpoint *ep = x->slot[i].endpoint[e];
            if (ep && ep->in_flight && ep->held) {
                return true;
            }
        }
    }
    return false;
}

void xhci_endpoint_state(struct xhci_slot *slot, unsigned id, struct state *s)
{
    struct xhci_endpoint *ep = slot->endpoint[id];
    uint32_t log = ep ? ep->stream_log : 0;

    state_u32(s, "streams", &log);
    if (log > XHCI_STREAMS_LOG) {
        state_fail(s, "streams", "is too much");
        return;
    }
    if (!ep) {
        ep = slot->endpoint[id] = endpoint_alloc(slot, id, log);
        ep->type = id == 1 ? TYPE_CONTROL : TYPE_BULK_OUT;
    }
    state_u8(s, "state", &ep->state);
    state_u8(s, "type", &ep->type);
    state_u32(s, "interval", &ep->interval);
    state_u64(s, "stream-contexts", &ep->stream_contexts);
    for (unsigned i = 0; i < ep->n_rings; i++) {
        struct xhci_ring *ring = &ep->rings[i];
        state_push(s, "ring", i);
        state_bool(s, "loaded", &ring->loaded);
        if (ring->loaded) {
            state_u64(s, "dequeue", &ring->dequeue);
            state_bool(s, "cycle", &ring->dequeue_cycle);
            state_u64(s, "partial", &ring->partial);
        }
        state_pop(s);
    }
    if (state_restoring(s)) {
        ep->interval = MIN(ep->interval, INTERVAL_MAX);
        ep->type = id == 1 ? TYPE_CONTROL : ep->type;
        if (id != 1 && (ep->type & 7) % 4 == 0) {
            ep->type = id & 1 ? TYPE_BULK_OUT + 4 : TYPE_BULK_OUT;
        }
        xhci_endpoint_rewind(ep);
    }
}
