/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the controller's parts share: registers and the machine's side (xhci.c), ports
 * (xhci_port.c), event rings (xhci_event.c), commands (xhci_command.c), transfers
 * (xhci_transfer.c). The host is little-endian, as the controller is.
 */
#pragma once

#include "pci_msix.h"
#include "xhci.h"

#define XHCI_USB2_PORTS   8u
#define XHCI_PORTS        16u
#define XHCI_SLOTS        64u
#define XHCI_ENDPOINTS    32u /* by device context index; 0 is the slot's context */
#define XHCI_INTERRUPTERS 8u
#define XHCI_STREAMS_LOG  6u /* stream contexts of an endpoint: at most 2 to this power */
#define XHCI_STREAMS      (1u << XHCI_STREAMS_LOG)
#define XHCI_ERST_LOG     4u
#define XHCI_FRAME_NS     1000000ull

enum { /* USBCMD, USBSTS: section 5.4 */
       CMD_RUN = 1 << 0,
       CMD_RESET = 1 << 1,
       CMD_INTERRUPTS = 1 << 2,
       CMD_SAVE = 1 << 8,
       CMD_RESTORE = 1 << 9,
       STS_HALTED = 1 << 0,
       STS_SYSTEM_ERROR = 1 << 2,
       STS_EVENT = 1 << 3,
       STS_PORT_CHANGE = 1 << 4,
       STS_RESTORE_ERROR = 1 << 10,
       STS_CONTROLLER_ERROR = 1 << 12,
};

enum { /* TRB types: section 6.4.6 */
       TRB_NORMAL = 1,
       TRB_SETUP,
       TRB_DATA,
       TRB_STATUS,
       TRB_ISOCH,
       TRB_LINK,
       TRB_EVENT_DATA,
       TRB_NO_OP,
       TRB_ENABLE_SLOT,
       TRB_DISABLE_SLOT,
       TRB_ADDRESS_DEVICE,
       TRB_CONFIGURE_ENDPOINT,
       TRB_EVALUATE_CONTEXT,
       TRB_RESET_ENDPOINT,
       TRB_STOP_ENDPOINT,
       TRB_SET_DEQUEUE,
       TRB_RESET_DEVICE,
       TRB_NO_OP_COMMAND = 23,
       TRB_TRANSFER_EVENT = 32,
       TRB_COMMAND_EVENT,
       TRB_PORT_EVENT,
};

enum { /* bits of a TRB's last word: section 6.4 */
       TRB_CYCLE = 1 << 0,
       TRB_TOGGLE = 1 << 1, /* in a Link TRB */
       TRB_ISP = 1 << 2,
       TRB_ED = 1 << 2, /* in an event */
       TRB_CHAIN = 1 << 4,
       TRB_IOC = 1 << 5,
       TRB_IDT = 1 << 6,
       TRB_BEI = 1 << 9,
       TRB_IN = 1 << 16,
};

enum completion { /* section 6.4.5 */
                  CC_SUCCESS = 1,
                  CC_BABBLE = 3,
                  CC_TRANSACTION = 4,
                  CC_TRB = 5,
                  CC_STALL = 6,
                  CC_RESOURCE = 7,
                  CC_NO_SLOTS = 9,
                  CC_SLOT_NOT_ENABLED = 11,
                  CC_SHORT = 13,
                  CC_PARAMETER = 17,
                  CC_CONTEXT_STATE = 19,
                  CC_MISSED = 23,
                  CC_RING_STOPPED = 24,
                  CC_ABORTED = 25,
                  CC_STOPPED = 26,
};

enum endpoint_state { EP_DISABLED, EP_RUNNING, EP_HALTED, EP_STOPPED, EP_ERROR };
enum slot_state { SLOT_ENABLED, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED };

struct xhci;
struct xhci_slot;
struct xhci_endpoint;

struct xhci_trb {
    uint64_t parameter;
    uint32_t status, control;
};

static inline unsigned trb_type(const struct xhci_trb *trb)
{
    return trb->control >> 10 & 63;
}

struct xhci_ring {    /* section 4.9 */
    uint64_t dequeue; /* of what is not completed yet */
    uint64_t fetch;   /* of what has not been given to the device yet */
    bool dequeue_cycle, fetch_cycle;
    bool stopped;     /* what comes back from the device is not carried out any more */
    bool loaded;      /* false: a stream that nobody has used */
    uint64_t partial; /* bytes of the transfer at `dequeue` that were moved before it was stopped */
    GQueue tds;       /* struct xhci_td, in order */
};

struct xhci_endpoint {
    struct xhci *xhci;
    struct xhci_slot *slot;
    uint8_t id, state, type; /* device context index; enum endpoint_state; section 6.2.3 */
    uint32_t interval;       /* 2 to this power times 125 us */
    uint32_t stream_log;     /* 0: no streams, or 2 to this power contexts */
    uint64_t stream_contexts;
    struct xhci_ring *rings; /* by stream; one without streams */
    unsigned n_rings;
    unsigned in_flight; /* TDs in all rings' queues */
    unsigned nested;    /* inside usb_submit() or usb_cancel(): completions wait */
    bool held;          /* a command waits until nothing is in flight */
    bool pending;       /* has work for the kick timer */
    uint64_t next_at;   /* isochronous: when the next interval begins */
    struct timer *timer;
};

struct xhci_slot {
    uint8_t id, state, port; /* enum slot_state; number of the root port */
    bool enabled;
    uint32_t route;
    uint64_t context;          /* the device context */
    struct usb_device *device; /* with a reference; NULL: not addressed, or gone */
    struct xhci_endpoint *endpoint[XHCI_ENDPOINTS];
};

struct xhci_port {
    struct usb_port usb;
    uint32_t sc, pmsc; /* PORTSC without CCS, speed and PP; PORTPMSC */
    bool other;        /* restoring has found another device than was saved */
};

struct xhci_interrupter { /* section 5.5.2 */
    uint32_t iman, imod, erstsz;
    uint64_t erstba, erdp;
    bool started; /* segment and index are right */
    uint32_t segment, index, segment_size;
    uint64_t segment_base;
    bool cycle, pending; /* pending: an interrupt is due (IPE) */
    GArray *waiting;     /* struct xhci_trb: events that the ring has no room for */
    unsigned waiting_from;
};

struct xhci {
    struct pci_function pci;
    struct pci_msix msix;
    const struct device_host *host;
    uint32_t usbcmd, usbsts, dnctrl, config, legacy;
    uint64_t dcbaap, command; /* the command ring's dequeue pointer */
    bool command_cycle, command_running, commanding;
    bool tell_ports; /* after restoring */
    bool saved;      /* by CMD_SAVE, see xhci.c */
    uint32_t saved_segment[XHCI_INTERRUPTERS], saved_index[XHCI_INTERRUPTERS];
    uint32_t saved_cycles;
    uint64_t started_at; /* MFINDEX 0 */
    struct xhci_port port[XHCI_PORTS];
    struct xhci_interrupter interrupter[XHCI_INTERRUPTERS];
    struct xhci_slot slot[XHCI_SLOTS + 1];
    struct timer *kick;
    size_t bytes;   /* of all transfers */
    bool starved;   /* an endpoint waits for that to become less */
    GQueue orphans; /* struct xhci_td: cancelled, not back yet, their endpoint is gone */
};

/* xhci.c */
bool xhci_running(const struct xhci *x);
/* Stops the controller with an error bit of USBSTS until the guest resets it. */
void xhci_die(struct xhci *x, uint32_t status, const char *why);
/* DMA, which kills the controller (and is false) where there is no RAM. */
bool xhci_read(struct xhci *x, uint64_t gpa, void *buf, size_t len);
bool xhci_write(struct xhci *x, uint64_t gpa, const void *buf, size_t len);

/* xhci_event.c */
void xhci_event(struct xhci *x, unsigned interrupter, const struct xhci_trb *event, bool silent);
bool xhci_events_waiting(const struct xhci *x);
uint32_t xhci_interrupter_read(struct xhci *x, unsigned n, unsigned at);
void xhci_interrupter_write(struct xhci *x, unsigned n, unsigned at, uint32_t value);
/* Puts it where it was, with the same ring. */
void xhci_interrupter_resume(struct xhci *x, unsigned n, uint32_t segment, uint32_t index,
                             bool cycle);
void xhci_interrupter_reset(struct xhci_interrupter *ir);
void xhci_interrupter_state(struct xhci_interrupter *ir, struct state *s);
void xhci_update_irq(struct xhci *x);

/* xhci_port.c */
void xhci_ports_init(struct xhci *x);
void xhci_ports_reset(struct xhci *x);
void xhci_ports_run(struct xhci *x); /* tells of what has changed while the controller stood */
uint32_t xhci_port_read(struct xhci *x, unsigned n, unsigned at);
void xhci_port_write(struct xhci *x, unsigned n, unsigned at, uint32_t value);
struct usb_device *xhci_port_find(struct xhci *x, unsigned port, uint32_t route);
void xhci_port_state(struct xhci_port *p, struct state *s);
void xhci_port_restored(struct xhci_port *p);

/* xhci_command.c */
void xhci_commands_run(struct xhci *x);
void xhci_commands_stop(struct xhci *x); /* and what waits for one goes on */
uint32_t xhci_crcr_read(const struct xhci *x);
void xhci_crcr_write(struct xhci *x, uint32_t value, bool high);
void xhci_slot_clear(struct xhci_slot *slot); /* as if never enabled */
void xhci_slot_state(struct xhci *x, struct xhci_slot *slot, struct state *s);

/* xhci_transfer.c */
struct xhci_endpoint *xhci_endpoint_new(struct xhci_slot *slot, unsigned id,
                                        const uint32_t context[8]);
void xhci_endpoint_free(
    struct xhci_endpoint *ep); /* NULL is fine; what is in flight is cancelled */
void xhci_endpoint_cancel(struct xhci_endpoint *ep, bool gone); /* all it has; see in_flight */
void xhci_endpoint_rewind(struct xhci_endpoint *ep);
/* Tells the guest of the endpoint's state and dequeue pointers. */
void xhci_endpoint_store(struct xhci_endpoint *ep);
void xhci_endpoint_state(struct xhci_slot *slot, unsigned id, struct state *s);
struct xhci_ring *xhci_endpoint_ring(struct xhci_endpoint *ep, unsigned stream); /* or NULL */
void xhci_endpoint_set_dequeue(struct xhci_ring *ring, uint64_t pointer);
void xhci_endpoint_doorbell(struct xhci_endpoint *ep, unsigned stream);
void xhci_kick(struct xhci *x); /* all endpoints that have something to do; from the timer */
void xhci_kick_later(struct xhci *x);
void xhci_forget_orphans(struct xhci *x);
bool xhci_transfers_busy(const struct xhci *x);
