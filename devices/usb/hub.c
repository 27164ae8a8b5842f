/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hub (see hub.h; USB 2.0, sections 11.23 and 11.24). Its ports are always powered. It has no
 * transaction translator to speak of: the controller reaches what is behind it directly, and looks
 * it up with downstream().
 */
#include <string.h>

#include "function.h"
#include "hub.h"
#include "state.h"

#define INTERRUPT_IN (USB_IN | 1)
#define CHANGE_BYTES (1 + USB_HUB_PORTS / 8)

enum { /* wPortStatus, and in the high word wPortChange */
       PORT_CONNECTION = 1 << 0,
       PORT_ENABLE = 1 << 1,
       PORT_SUSPEND = 1 << 2,
       PORT_RESET = 1 << 4,
       PORT_POWER = 1 << 8,
       PORT_LOW_SPEED = 1 << 9,
       PORT_HIGH_SPEED = 1 << 10,
       C_PORT_CONNECTION = 1 << 16,
       C_PORT_ENABLE = 1 << 17,
       C_PORT_SUSPEND = 1 << 18,
       C_PORT_RESET = 1 << 20,
       C_PORT_ALL = 31 << 16,
};

enum { /* feature selectors: the number of the status bit */
       FEATURE_ENABLE = 1,
       FEATURE_SUSPEND = 2,
       FEATURE_RESET = 4,
};

enum {
    GET_HUB_DESCRIPTOR = 0xa006,
    GET_HUB_STATUS = 0xa000,
    GET_PORT_STATUS = 0xa300,
    SET_HUB_FEATURE = 0x2003,
    CLEAR_HUB_FEATURE = 0x2001,
    SET_PORT_FEATURE = 0x2303,
    CLEAR_PORT_FEATURE = 0x2301,
    CLEAR_TT_BUFFER = 0x2308,
    RESET_TT = 0x2309,
    STOP_TT = 0x230b,
};

struct hub_port {
    struct usb_port usb;
    uint32_t status; /* without PORT_CONNECTION, power and speed */
};

struct hub {
    struct usb_function f;
    struct hub_port port[USB_HUB_PORTS];
};

/* clang-format off */
static const uint8_t configuration[] = {
    9, 2, 25, 0, 1, 1, 0, 0xe0, 0,
    9, 4, 0, 0, 1, 9, 0, 0, 0,
    7, 5, INTERRUPT_IN, 3, CHANGE_BYTES, 0, 8,
};
/* Ports always powered, over-current not reported; one TT. */
static const uint8_t hub_descriptor[] = {
    11, 0x29, USB_HUB_PORTS, 0x12, 0, 1, 0, 0, 0, 0xff, 0xff,
};
/* clang-format on */

static struct hub *hub_of(struct usb_function *f)
{
    return (struct hub *)f;
}

/* Tells the guest which ports have changed, if it asks. */
static void tell(struct hub *h)
{
    uint8_t bytes[CHANGE_BYTES] = {0};
    struct usb_transfer *t;
    bool any = false;

    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        if (h->port[i].status & C_PORT_ALL) {
            bytes[(i + 1) / 8] |= (uint8_t)(1u << (i + 1) % 8);
            any = true;
        }
    }
    t = any ? usb_function_next(&h->f, INTERRUPT_IN) : NULL;
    if (t) {
        t->actual = MIN(t->length, sizeof bytes);
        memcpy(t->data, bytes, t->actual);
        usb_complete(t, USB_DONE);
    } else if (any && !usb_function_keeps(&h->f, INTERRUPT_IN)) {
        usb_function_wakeup(&h->f);
    }
}

/* --- what is in the ports --- */

static void port_attached(struct usb_port *usb)
{
    struct hub_port *p = (struct hub_port *)usb;

    p->status |= C_PORT_CONNECTION;
    tell(usb->opaque);
}

/* The controller learns of it by our own port, where it finds that it is not us who went. */
static void port_detached(struct usb_port *usb, struct usb_device *dev)
{
    struct hub_port *p = (struct hub_port *)usb;
    struct hub *h = usb->opaque;
    struct usb_port *up = h->f.dev.port;

    if (up) {
        up->ops->detached(up, dev);
    }
    if (!usb->device) {
        p->status &= ~(uint32_t)(PORT_ENABLE | PORT_SUSPEND);
        p->status |= C_PORT_CONNECTION;
        tell(h);
    }
}

static void port_wakeup(struct usb_port *usb)
{
    struct hub_port *p = (struct hub_port *)usb;

    if (p->status & PORT_SUSPEND) {
        p->status &= ~(uint32_t)PORT_SUSPEND;
        p->status |= C_PORT_SUSPEND;
        tell(usb->opaque);
    }
}

static const struct usb_port_ops port_ops = {port_attached, port_detached, port_wakeup};

static uint32_t port_status(const struct hub_port *p)
{
    static const uint32_t speeds[] = {
        [USB_SPEED_LOW] = PORT_LOW_SPEED, [USB_SPEED_FULL] = 0, [USB_SPEED_HIGH] = PORT_HIGH_SPEED};
    const struct usb_device *dev = p->usb.device;

    return p->status | PORT_POWER |
           (dev ? PORT_CONNECTION | speeds[MIN(dev->speed, USB_SPEED_HIGH)] : 0);
}

static bool port_set(struct hub_port *p, unsigned feature)
{
    if (feature == FEATURE_RESET && p->usb.device) {
        p->usb.device->class->reset(p->usb.device);
        p->status &= ~(uint32_t)PORT_SUSPEND;
        p->status |= PORT_ENABLE | C_PORT_RESET;
    } else if (feature == FEATURE_SUSPEND && (p->status & PORT_ENABLE)) {
        p->status |= PORT_SUSPEND;
    }
    return true;
}

static bool port_clear(struct hub_port *p, unsigned feature)
{
    if (feature == FEATURE_SUSPEND && (p->status & PORT_SUSPEND)) {
        p->status |= C_PORT_SUSPEND;
    }
    if (feature == FEATURE_ENABLE || feature == FEATURE_SUSPEND ||
        (feature < 32 && (1u << feature & C_PORT_ALL))) {
        p->status &= ~(1u << feature);
    }
    return true;
}

static bool port_feature(struct hub *h, struct usb_transfer *t, bool on)
{
    unsigned n = t->setup.index & 0xff, feature = t->setup.value;

    if (n < 1 || n > USB_HUB_PORTS) {
        return false;
    }
    if (on) {
        port_set(&h->port[n - 1], feature);
    } else {
        port_clear(&h->port[n - 1], feature);
    }
    usb_function_reply(t, NULL, 0);
    tell(h);
    return true;
}

static bool port_status_reply(struct hub *h, struct usb_transfer *t)
{
    uint32_t status;

    if (t->setup.index < 1 || t->setup.index > USB_HUB_PORTS) {
        return false;
    }
    status = GUINT32_TO_LE(port_status(&h->port[t->setup.index - 1]));
    return usb_function_reply(t, &status, sizeof status);
}

/* --- endpoints --- */

static bool hub_control(struct usb_function *f, struct usb_transfer *t)
{
    const uint32_t hub_status = 0;

    switch (t->setup.type << 8 | t->setup.request) {
    case GET_HUB_DESCRIPTOR:
        return usb_function_reply(t, hub_descriptor, sizeof hub_descriptor);
    case GET_HUB_STATUS:
        return usb_function_reply(t, &hub_status, sizeof hub_status);
    case GET_PORT_STATUS:
        return port_status_reply(hub_of(f), t);
    case SET_PORT_FEATURE:
    case CLEAR_PORT_FEATURE:
        return port_feature(hub_of(f), t, t->setup.request == 3);
    case SET_HUB_FEATURE:
    case CLEAR_HUB_FEATURE:
    case CLEAR_TT_BUFFER:
    case RESET_TT:
    case STOP_TT:
        return usb_function_reply(t, NULL, 0);
    default:
        return false;
    }
}

static void hub_data(struct usb_function *f, struct usb_transfer *t)
{
    if (t->endpoint != INTERRUPT_IN) {
        usb_complete(t, USB_STALL);
        return;
    }
    usb_function_keep(f, t);
    tell(hub_of(f));
}

/* Also of what is behind it, which loses its power. */
static void hub_reset(struct usb_function *f)
{
    struct hub *h = hub_of(f);

    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        struct usb_device *dev = h->port[i].usb.device;
        h->port[i].status = dev ? C_PORT_CONNECTION : 0;
        if (dev) {
            dev->class->reset(dev);
        }
    }
}

static const struct usb_function_info hub_info = {
    .version = 0x0200,
    .device_class = 9,
    .device_protocol = 1,
    .packet0 = 64,
    .vendor = 0x1d6b,
    .product = 0x0106,
    .product_name = "USB hub",
    .configuration = configuration,
    .configuration_size = sizeof configuration,
    .control = hub_control,
    .data = hub_data,
    .reset = hub_reset,
};

/* --- for its controller --- */

static struct usb_device *hub_downstream(struct usb_device *dev, unsigned port)
{
    struct hub *h = (struct hub *)dev;

    return port >= 1 && port <= USB_HUB_PORTS ? h->port[port - 1].usb.device : NULL;
}

/* As xhci_port_state(): another device than the one that was saved has just come. */
static void port_state(struct hub_port *p, struct state *s)
{
    struct usb_device *dev = p->usb.device;
    g_autofree char *name = g_strdup(dev && dev->class->state ? dev->class->name : NULL);
    bool connected = dev != NULL;

    state_u32(s, "status", &p->status);
    state_bool(s, "connected", &connected);
    state_string(s, "device", &name);
    p->status &= PORT_ENABLE | PORT_SUSPEND | C_PORT_ALL;
    if (dev && dev->class->state && g_strcmp0(name, dev->class->name) == 0) {
        state_push(s, "device", 0);
        dev->class->state(dev, s);
        state_pop(s);
    } else if (state_restoring(s) && !state_failed(s) && (connected || dev)) {
        p->status = C_PORT_CONNECTION;
    }
}

static void hub_state(struct usb_device *dev, struct state *s)
{
    struct hub *h = (struct hub *)dev;

    usb_function_state(&h->f, s);
    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        state_push(s, "port", i + 1);
        port_state(&h->port[i], s);
        state_pop(s);
    }
}

static bool hub_busy(struct usb_device *dev)
{
    struct hub *h = (struct hub *)dev;
    bool busy = false;

    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        struct usb_device *d = h->port[i].usb.device;
        busy = busy || (d && d->class->busy && d->class->busy(d));
    }
    return busy;
}

static void hub_free(struct usb_device *dev)
{
    struct hub *h = (struct hub *)dev;

    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        usb_detach(&h->port[i].usb);
    }
    g_free(h);
}

static const struct usb_device_class hub_class = {
    .name = "usb-hub",
    .submit = usb_function_submit,
    .cancel = usb_function_cancel,
    .reset = usb_function_reset,
    .downstream = hub_downstream,
    .state = hub_state,
    .busy = hub_busy,
    .free = hub_free,
};

struct usb_device *usb_hub_new(void)
{
    struct hub *h = g_new0(struct hub, 1);

    usb_function_init(&h->f, &hub_class, &hub_info, USB_SPEED_HIGH);
    for (unsigned i = 0; i < USB_HUB_PORTS; i++) {
        h->port[i].usb = (struct usb_port){.ops = &port_ops,
                                           .opaque = h,
                                           .number = i + 1,
                                           .speeds = 1u << USB_SPEED_LOW | 1u << USB_SPEED_FULL |
                                                     1u << USB_SPEED_HIGH};
    }
    return &h->f.dev;
}

struct usb_port *usb_hub_port(struct usb_device *hub, unsigned number)
{
    struct hub *h = (struct hub *)hub;

    return number >= 1 && number <= USB_HUB_PORTS ? &h->port[number - 1].usb : NULL;
}

struct usb_port *usb_hub_free_port(struct usb_device *hub, enum usb_speed speed)
{
    for (unsigned i = 1; i <= USB_HUB_PORTS; i++) {
        struct usb_port *port = usb_hub_port(hub, i);
        if (!port->device && (port->speeds & 1u << speed)) {
            return port;
        }
    }
    return NULL;
}
