/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Root ports: PORTSC and what happens at a port (sections 4.15, 4.19, 5.4.8). Resets take no time,
 * links are in U0 or U3.
 */
#include "xhci_internal.h"

enum {
    PORT_CONNECTED = 1 << 0, /* CCS */
    PORT_ENABLED = 1 << 1,   /* PED */
    PORT_RESET = 1 << 4,
    PORT_LINK = 15 << 5,
    PORT_POWER = 1 << 9,
    PORT_SPEED = 15 << 10,
    PORT_INDICATOR = 3 << 14,
    PORT_LINK_STROBE = 1 << 16,
    PORT_CONNECT_CHANGE = 1 << 17,
    PORT_WARM_CHANGE = 1 << 19,
    PORT_RESET_CHANGE = 1 << 21,
    PORT_LINK_CHANGE = 1 << 22,
    PORT_CHANGES = 0x7f << 17,
    PORT_WAKE = 7 << 25,
};
#define PORT_WARM_RESET (1u << 31)

enum link {
    LINK_U0 = 0,
    LINK_U3 = 3,
    LINK_DISABLED = 4,
    LINK_DETECT = 5,
    LINK_POLLING = 7,
    LINK_RESUME = 15
};

enum { PORTSC = 0x0, PORTPMSC = 0x4 };

static struct xhci *port_xhci(const struct xhci_port *p)
{
    return p->usb.opaque;
}

static bool is_usb3(const struct xhci_port *p)
{
    return p->usb.number > XHCI_USB2_PORTS;
}

static enum link port_link(const struct xhci_port *p)
{
    return (p->sc & PORT_LINK) >> 5;
}

static void link_set(struct xhci_port *p, enum link link)
{
    p->sc = (p->sc & ~(uint32_t)PORT_LINK) | (uint32_t)link << 5;
}

static uint32_t speed_id(const struct usb_device *dev)
{
    static const uint8_t ids[] = {
        [USB_SPEED_LOW] = 2, [USB_SPEED_FULL] = 1, [USB_SPEED_HIGH] = 3, [USB_SPEED_SUPER] = 4};

    return dev ? ids[dev->speed & 3] : 0;
}

static void port_event(struct xhci_port *p)
{
    struct xhci_trb event = {(uint64_t)p->usb.number << 24, (uint32_t)CC_SUCCESS << 24,
                             (uint32_t)TRB_PORT_EVENT << 10};

    xhci_event(port_xhci(p), 0, &event, false);
}

static void port_change(struct xhci_port *p, uint32_t bits)
{
    struct xhci *x = port_xhci(p);
    bool news = (p->sc & bits) != bits;

    p->sc |= bits;
    x->usbsts |= STS_PORT_CHANGE;
    if (news && xhci_running(x)) {
        port_event(p);
    }
}

/* Something is there: a USB 3 link trains by itself, a USB 2 device waits to be reset. */
static void port_connect(struct xhci_port *p)
{
    p->sc &= ~(uint32_t)PORT_ENABLED;
    if (is_usb3(p)) {
        p->sc |= PORT_ENABLED;
        link_set(p, LINK_U0);
    } else {
        link_set(p, LINK_POLLING);
    }
}

static void port_attached(struct usb_port *usb)
{
    struct xhci_port *p = (struct xhci_port *)usb;

    port_connect(p);
    port_change(p, PORT_CONNECT_CHANGE);
}

/* The slots that `dev`, or what hung on it, had lose their device; transfers end as USB_GONE. */
static void slots_detach(struct xhci *x, const struct usb_port *port, const struct usb_device *dev)
{
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        struct xhci_slot *slot = &x->slot[i];
        if (slot->device &&
            (slot->device == dev || (!port->device && slot->port == port->number))) {
            struct usb_device *gone = slot->device;
            slot->device = NULL;
            for (unsigned e = 1; e < XHCI_ENDPOINTS; e++) {
                if (slot->endpoint[e]) {
                    xhci_endpoint_cancel(slot->endpoint[e], true);
                }
            }
            usb_device_unref(gone);
        }
    }
}

/* Hubs pass on with their own port what has happened at theirs. */
static void port_detached(struct usb_port *usb, struct usb_device *dev)
{
    struct xhci_port *p = (struct xhci_port *)usb;

    slots_detach(port_xhci(p), usb, dev);
    if (!usb->device) {
        p->sc &= ~(uint32_t)PORT_ENABLED;
        link_set(p, LINK_DETECT);
        port_change(p, PORT_CONNECT_CHANGE);
    }
}

static void port_wakeup(struct usb_port *usb)
{
    struct xhci_port *p = (struct xhci_port *)usb;

    if (port_link(p) == LINK_U3) {
        link_set(p, LINK_RESUME);
        port_change(p, PORT_LINK_CHANGE);
    }
}

static const struct usb_port_ops port_ops = {port_attached, port_detached, port_wakeup};

void xhci_ports_init(struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        x->port[i].usb = (struct usb_port){
            .ops = &port_ops,
            .opaque = x,
            .number = i + 1,
            .speeds = i < XHCI_USB2_PORTS
                          ? 1u << USB_SPEED_LOW | 1u << USB_SPEED_FULL | 1u << USB_SPEED_HIGH
                          : 1u << USB_SPEED_SUPER,
        };
    }
}

void xhci_ports_reset(struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        struct xhci_port *p = &x->port[i];
        p->sc = p->pmsc = 0;
        p->other = false;
        link_set(p, LINK_DETECT);
        if (p->usb.device) {
            p->usb.device->class->reset(p->usb.device);
            port_connect(p);
            p->sc |= PORT_CONNECT_CHANGE;
        }
    }
}

void xhci_ports_run(struct xhci *x)
{
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        if (x->port[i].sc & PORT_CHANGES) {
            port_event(&x->port[i]);
        }
    }
}

static void port_reset(struct xhci_port *p, bool warm)
{
    if (p->usb.device && !(is_usb3(p) && port_link(p) == LINK_DISABLED)) {
        p->usb.device->class->reset(p->usb.device);
        p->sc |= PORT_ENABLED;
        link_set(p, LINK_U0);
    }
    port_change(p, PORT_RESET_CHANGE | (warm ? PORT_WARM_CHANGE : 0));
}

static void link_write(struct xhci_port *p, enum link to)
{
    enum link from = port_link(p);
    bool enabled = p->sc & PORT_ENABLED;

    if (to == LINK_U0 && enabled && from != LINK_U0) {
        link_set(p, LINK_U0);
        port_change(p, PORT_LINK_CHANGE);
    } else if (to == LINK_U3 && enabled && from == LINK_U0) {
        link_set(p, LINK_U3);
    } else if (to == LINK_RESUME && enabled && from == LINK_U3 && !is_usb3(p)) {
        link_set(p, LINK_RESUME);
    } else if (to == LINK_DISABLED && is_usb3(p)) {
        p->sc &= ~(uint32_t)PORT_ENABLED;
        link_set(p, LINK_DISABLED);
    } else if (to == LINK_DETECT && is_usb3(p) && from == LINK_DISABLED) {
        link_set(p, LINK_DETECT);
        if (p->usb.device) {
            port_attached(&p->usb);
        }
    }
}

static void portsc_write(struct xhci_port *p, uint32_t value)
{
    p->sc &= ~(value & PORT_CHANGES);
    p->sc =
        (p->sc & ~(uint32_t)(PORT_WAKE | PORT_INDICATOR)) | (value & (PORT_WAKE | PORT_INDICATOR));
    if (is_usb3(p) && value & PORT_WARM_RESET) {
        port_reset(p, true);
    } else if (value & PORT_RESET) {
        port_reset(p, false);
    } else if (value & PORT_ENABLED) { /* writing 1 disables */
        if (p->sc & PORT_ENABLED) {
            p->sc &= ~(uint32_t)PORT_ENABLED;
            link_set(p, is_usb3(p) ? LINK_DISABLED : LINK_POLLING);
        }
    } else if (value & PORT_LINK_STROBE) {
        link_write(p, (value & PORT_LINK) >> 5);
    }
}

uint32_t xhci_port_read(struct xhci *x, unsigned n, unsigned at)
{
    const struct xhci_port *p = &x->port[n];
    const struct usb_device *dev = p->usb.device;

    if (at == PORTPMSC) {
        return p->pmsc;
    }
    if (at != PORTSC) {
        return 0;
    }
    if (port_link(p) == LINK_DISABLED) {
        dev = NULL; /* the terminations are off */
    }
    return p->sc | PORT_POWER | (dev ? PORT_CONNECTED : 0) | speed_id(dev) << 10;
}

void xhci_port_write(struct xhci *x, unsigned n, unsigned at, uint32_t value)
{
    if (at == PORTSC) {
        portsc_write(&x->port[n], value);
    } else if (at == PORTPMSC) {
        x->port[n].pmsc = value;
    }
}

struct usb_device *xhci_port_find(struct xhci *x, unsigned port, uint32_t route)
{
    struct usb_device *dev = port >= 1 && port <= XHCI_PORTS ? x->port[port - 1].usb.device : NULL;

    for (; dev && route; route >>= 4) {
        dev = dev->class->downstream ? dev->class->downstream(dev, route & 15) : NULL;
    }
    return dev;
}

struct usb_port *xhci_port(void *dev, unsigned number)
{
    struct xhci *x = dev;

    return number >= 1 && number <= XHCI_PORTS ? &x->port[number - 1].usb : NULL;
}

struct usb_port *xhci_free_port(void *dev, enum usb_speed speed)
{
    struct xhci *x = dev;

    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        if (!x->port[i].usb.device && (x->port[i].usb.speeds & 1u << speed)) {
            return &x->port[i].usb;
        }
    }
    return NULL;
}

/* A device that is not the one that was saved: the guest is to see that one go and the other come.
 */
void xhci_port_state(struct xhci_port *p, struct state *s)
{
    struct usb_device *dev = p->usb.device;
    g_autofree char *name = g_strdup(dev && dev->class->state ? dev->class->name : NULL);
    bool connected = dev != NULL;

    state_u32(s, "sc", &p->sc);
    state_u32(s, "pmsc", &p->pmsc);
    state_bool(s, "connected", &connected);
    state_string(s, "device", &name);
    p->sc &= PORT_ENABLED | PORT_LINK | PORT_INDICATOR | PORT_CHANGES | PORT_WAKE;
    if (dev && dev->class->state && g_strcmp0(name, dev->class->name) == 0) {
        state_push(s, "device", 0);
        dev->class->state(dev, s);
        state_pop(s);
    } else if (state_restoring(s) && !state_failed(s) && (connected || dev)) {
        p->sc = (p->sc & ~(uint32_t)(PORT_ENABLED | PORT_LINK)) | PORT_CONNECT_CHANGE;
        link_set(p, LINK_DETECT);
        p->other = true;
        if (dev) {
            port_connect(p);
        }
    }
}

/* Tells of what state() has found; interrupts work again. */
void xhci_port_restored(struct xhci_port *p)
{
    struct xhci *x = port_xhci(p);

    if (p->other) {
        p->other = false;
        x->usbsts |= STS_PORT_CHANGE;
        if (xhci_running(x)) {
            port_event(p);
        }
    }
}
