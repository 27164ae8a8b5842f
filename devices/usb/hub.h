/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A USB 2 hub with eight ports (USB 2.0, chapter 11) for devices of all USB 2 speeds. */
#pragma once

#include "usb.h"

#define USB_HUB_PORTS 8u

struct usb_device *usb_hub_new(void); /* one reference, the caller's */
struct usb_port *usb_hub_port(struct usb_device *hub, unsigned number); /* 1 and up, or NULL */
/* A port with nothing in it, or NULL. */
struct usb_port *usb_hub_free_port(struct usb_device *hub, enum usb_speed speed);
