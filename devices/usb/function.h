/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What emulated devices share: descriptors, the standard requests (USB 2.0, chapter 9) and the
 * transfers that wait for something to say.
 *
 * A device embeds a struct usb_function at the start of its own struct, and its class uses
 * usb_function_submit, usb_function_cancel and usb_function_reset.
 */
#pragma once

#include "usb.h"

struct usb_function;

struct usb_function_info {
    uint16_t version; /* of USB: 0x0200 */
    uint8_t device_class, device_subclass, device_protocol;
    uint8_t packet0; /* of endpoint 0: bytes, with USB 3 the power of two */
    uint16_t vendor, product;
    const char *product_name, *serial;
    const uint8_t *configuration; /* the whole of it; the only one */
    size_t configuration_size;
    const uint8_t *bos; /* optional */
    size_t bos_size;
    /* Optional: class and other requests of endpoint 0; `transfer` is completed before it returns
     * true. For data that the host sends, usb_function_reply(..., NULL, 0) acknowledges. */
    bool (*control)(struct usb_function *f, struct usb_transfer *transfer);
    /* Transfers of other endpoints of a device that is configured: completed or kept. */
    void (*data)(struct usb_function *f, struct usb_transfer *transfer);
    void (*reset)(struct usb_function *f); /* optional: also before another configuration */
    /* Optional: the guest took a kept transfer back, or (dis)allowed remote wakeup. */
    void (*changed)(struct usb_function *f);
};

struct usb_function {
    struct usb_device dev;
    const struct usb_function_info *info;
    uint8_t configuration; /* 0: not configured */
    bool remote_wakeup;
    uint32_t halted; /* endpoints: bit n out, bit 16 + n in */
    GQueue kept;     /* struct usb_transfer */
};

void usb_function_init(struct usb_function *f, const struct usb_device_class *class,
                       const struct usb_function_info *info, enum usb_speed speed);
void usb_function_submit(struct usb_device *dev, struct usb_transfer *transfer);
void usb_function_cancel(struct usb_device *dev, struct usb_transfer *transfer);
void usb_function_reset(struct usb_device *dev);
void usb_function_state(struct usb_function *f, struct state *s);

/* Data of a control request to the host, as much as it wants; true. */
bool usb_function_reply(struct usb_transfer *transfer, const void *data, size_t size);
/* For later: usb_function_next() takes out the first one of an endpoint, or is NULL. */
void usb_function_keep(struct usb_function *f, struct usb_transfer *transfer);
struct usb_transfer *usb_function_next(struct usb_function *f, uint8_t endpoint);
bool usb_function_keeps(struct usb_function *f, uint8_t endpoint);
void usb_function_halt(struct usb_function *f, uint8_t endpoint); /* until the guest clears it */
bool usb_function_halted(const struct usb_function *f, uint8_t endpoint);
/* Wakes a sleeping guest, if that has allowed it. */
void usb_function_wakeup(struct usb_function *f);
