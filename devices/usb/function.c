/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What emulated devices share (see function.h). */
#include <string.h>

#include "function.h"
#include "state.h"

#define REMOTE_WAKEUP 1u /* feature selectors */
#define ENDPOINT_HALT 0u

enum { DESCRIPTOR_DEVICE = 1, DESCRIPTOR_CONFIGURATION, DESCRIPTOR_STRING, DESCRIPTOR_BOS = 15 };

/* Requests with their type in the high byte (USB 2.0, table 9-4). */
enum {
    GET_STATUS_DEVICE = 0x8000,
    GET_STATUS_INTERFACE = 0x8100,
    GET_STATUS_ENDPOINT = 0x8200,
    CLEAR_FEATURE_DEVICE = 0x0001,
    CLEAR_FEATURE_ENDPOINT = 0x0201,
    SET_FEATURE_DEVICE = 0x0003,
    SET_FEATURE_ENDPOINT = 0x0203,
    SET_ADDRESS = 0x0005,
    GET_DESCRIPTOR = 0x8006,
    GET_CONFIGURATION = 0x8008,
    SET_CONFIGURATION = 0x0009,
    GET_INTERFACE = 0x810a,
    SET_INTERFACE = 0x010b,
    SET_SEL = 0x0030, /* USB 3 */
    SET_ISOCH_DELAY = 0x0031,
};

void usb_function_init(struct usb_function *f, const struct usb_device_class *class,
                       const struct usb_function_info *info, enum usb_speed speed)
{
    usb_device_init(&f->dev, class, speed, info->product_name);
    f->info = info;
    g_queue_init(&f->kept);
}

static uint32_t endpoint_bit(uint8_t endpoint)
{
    return 1u << ((endpoint & 15) + (endpoint & USB_IN ? 16 : 0));
}

void usb_function_halt(struct usb_function *f, uint8_t endpoint)
{
    f->halted |= endpoint_bit(endpoint);
}

bool usb_function_halted(const struct usb_function *f, uint8_t endpoint)
{
    return f->halted & endpoint_bit(endpoint);
}

/* --- transfers that wait --- */

void usb_function_keep(struct usb_function *f, struct usb_transfer *transfer)
{
    g_queue_push_tail(&f->kept, transfer);
}

static GList *kept_find(struct usb_function *f, uint8_t endpoint)
{
    GList *l = f->kept.head;

    while (l && ((struct usb_transfer *)l->data)->endpoint != endpoint) {
        l = l->next;
    }
    return l;
}

struct usb_transfer *usb_function_next(struct usb_function *f, uint8_t endpoint)
{
    GList *l = kept_find(f, endpoint);
    struct usb_transfer *transfer = l ? l->data : NULL;

    if (l) {
        g_queue_delete_link(&f->kept, l);
    }
    return transfer;
}

bool usb_function_keeps(struct usb_function *f, uint8_t endpoint)
{
    return kept_find(f, endpoint) != NULL;
}

static void changed(struct usb_function *f)
{
    if (f->info->changed) {
        f->info->changed(f);
    }
}

void usb_function_cancel(struct usb_device *dev, struct usb_transfer *transfer)
{
    struct usb_function *f = (struct usb_function *)dev;

    if (g_queue_remove(&f->kept, transfer)) {
        changed(f);
        usb_complete(transfer, USB_CANCELLED);
    }
}

void usb_function_reset(struct usb_device *dev)
{
    struct usb_function *f = (struct usb_function *)dev;
    struct usb_transfer *transfer;

    f->configuration = 0;
    f->remote_wakeup = false;
    f->halted = 0;
    if (f->info->reset) {
        f->info->reset(f);
    }
    while ((transfer = g_queue_pop_head(&f->kept))) {
        usb_complete(transfer, USB_GONE);
    }
}

void usb_function_wakeup(struct usb_function *f)
{
    if (f->remote_wakeup && f->configuration) {
        usb_wakeup(&f->dev);
    }
}

/* --- endpoint 0 --- */

bool usb_function_reply(struct usb_transfer *transfer, const void *data, size_t size)
{
    size_t n = MIN(MIN(size, transfer->setup.length), transfer->length);

    if (transfer->endpoint & USB_IN) {
        if (n) {
            memcpy(transfer->data, data, n);
        }
        transfer->actual = n;
    } else {
        transfer->actual = transfer->length;
    }
    usb_complete(transfer, USB_DONE);
    return true;
}

static bool reply_string(struct usb_function *f, struct usb_transfer *t, unsigned index)
{
    const char *text = index == 1   ? "Ringside"
                       : index == 2 ? f->info->product_name
                       : index == 3 ? f->info->serial
                                    : NULL;
    uint8_t bytes[128] = {4, DESCRIPTOR_STRING, 0x09, 0x04}; /* English */

    if (index > 0) {
        size_t n = text ? MIN(strlen(text), (sizeof bytes - 2) / 2) : 0;
        if (!text) {
            return false;
        }
        bytes[0] = (uint8_t)(2 + 2 * n);
        for (size_t i = 0; i < n; i++) {
            bytes[2 + 2 * i] = (uint8_t)text[i];
            bytes[3 + 2 * i] = 0;
        }
    }
    return usb_function_reply(t, bytes, bytes[0]);
}

static bool reply_device(struct usb_function *f, struct usb_transfer *t)
{
    const struct usb_function_info *i = f->info;
    uint8_t bytes[18] = {sizeof bytes,
                         DESCRIPTOR_DEVICE,
                         (uint8_t)i->version,
                         (uint8_t)(i->version >> 8),
                         i->device_class,
                         i->device_subclass,
                         i->device_protocol,
                         i->packet0,
                         (uint8_t)i->vendor,
                         (uint8_t)(i->vendor >> 8),
                         (uint8_t)i->product,
                         (uint8_t)(i->product >> 8),
                         0,
                         1, /* version 1.0 */
                         1,
                         2,
                         i->serial ? 3 : 0,
                         1};

    return usb_function_reply(t, bytes, sizeof bytes);
}

static bool get_descriptor(struct usb_function *f, struct usb_transfer *t)
{
    const struct usb_function_info *i = f->info;

    switch (t->setup.value >> 8) {
    case DESCRIPTOR_DEVICE:
        return reply_device(f, t);
    case DESCRIPTOR_CONFIGURATION:
        return !(t->setup.value & 0xff) &&
               usb_function_reply(t, i->configuration, i->configuration_size);
    case DESCRIPTOR_STRING:
        return reply_string(f, t, t->setup.value & 0xff);
    case DESCRIPTOR_BOS:
        return i->bos && usb_function_reply(t, i->bos, i->bos_size);
    default:
        return false;
    }
}

static bool set_configuration(struct usb_function *f, struct usb_transfer *t)
{
    struct usb_transfer *kept;

    if (t->setup.value > 1) {
        return false;
    }
    f->halted = 0;
    f->configuration = (uint8_t)t->setup.value;
    if (f->info->reset) {
        f->info->reset(f);
    }
    while ((kept = g_queue_pop_head(&f->kept))) {
        usb_complete(kept, USB_ERROR);
    }
    return usb_function_reply(t, NULL, 0);
}

static bool reply_status(struct usb_transfer *t, unsigned status)
{
    uint8_t bytes[2] = {(uint8_t)status, 0};

    return usb_function_reply(t, bytes, sizeof bytes);
}

static bool reply_byte(struct usb_transfer *t, uint8_t byte)
{
    return usb_function_reply(t, &byte, 1);
}

static bool feature_device(struct usb_function *f, struct usb_transfer *t, bool on)
{
    if (t->setup.value != REMOTE_WAKEUP) {
        return f->dev.speed == USB_SPEED_SUPER && usb_function_reply(t, NULL, 0); /* U1, U2 */
    }
    f->remote_wakeup = on;
    changed(f);
    return usb_function_reply(t, NULL, 0);
}

static bool feature_endpoint(struct usb_function *f, struct usb_transfer *t, bool on)
{
    if (t->setup.value != ENDPOINT_HALT) {
        return false;
    }
    if (on) {
        usb_function_halt(f, (uint8_t)t->setup.index);
    } else {
        f->halted &= ~endpoint_bit((uint8_t)t->setup.index);
    }
    return usb_function_reply(t, NULL, 0);
}

/* False: not supported. */
static bool standard_request(struct usb_function *f, struct usb_transfer *t)
{
    switch (t->setup.type << 8 | t->setup.request) {
    case GET_STATUS_DEVICE:
        return reply_status(t, 1u | (f->remote_wakeup ? 2 : 0));
    case GET_STATUS_INTERFACE:
        return reply_status(t, 0);
    case GET_STATUS_ENDPOINT:
        return reply_status(t, usb_function_halted(f, (uint8_t)t->setup.index));
    case CLEAR_FEATURE_DEVICE:
    case SET_FEATURE_DEVICE:
        return feature_device(f, t, t->setup.request == 3);
    case CLEAR_FEATURE_ENDPOINT:
    case SET_FEATURE_ENDPOINT:
        return feature_endpoint(f, t, t->setup.request == 3);
    case GET_DESCRIPTOR:
        return get_descriptor(f, t);
    case GET_CONFIGURATION:
        return reply_byte(t, f->configuration);
    case SET_CONFIGURATION:
        return set_configuration(f, t);
    case GET_INTERFACE:
        return reply_byte(t, 0);
    case SET_INTERFACE:
        return t->setup.value == 0 && usb_function_reply(t, NULL, 0);
    case SET_ADDRESS: /* the controller's */
    case SET_SEL:
    case SET_ISOCH_DELAY:
        return usb_function_reply(t, NULL, 0);
    default:
        return false;
    }
}

void usb_function_submit(struct usb_device *dev, struct usb_transfer *t)
{
    struct usb_function *f = (struct usb_function *)dev;

    if (t->kind == USB_CONTROL) {
        if (!(f->info->control && f->info->control(f, t)) && !standard_request(f, t)) {
            usb_complete(t, USB_STALL);
        }
    } else if (!f->configuration) {
        usb_complete(t, USB_ERROR);
    } else if (usb_function_halted(f, t->endpoint)) {
        usb_complete(t, USB_STALL);
    } else {
        f->info->data(f, t);
    }
}

void usb_function_state(struct usb_function *f, struct state *s)
{
    state_u8(s, "configuration", &f->configuration);
    state_bool(s, "remote-wakeup", &f->remote_wakeup);
    state_u32(s, "halted", &f->halted);
}
