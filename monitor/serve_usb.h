/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's USB devices that a machine has, for serve.c. Main thread, lock not held.
 */
#pragma once

#include "control.h"
#include "machine.h"

struct serve_usb;

/* `changed` is called when another list is to be told. */
struct serve_usb *serve_usb_new(struct machine *machine, void (*changed)(void *opaque),
                                void *opaque);
/* Gives all devices back and waits for it, for some seconds at most. NULL is fine. */
void serve_usb_free(struct serve_usb *usb);
/* Takes `fd`. */
void serve_usb_attach(struct serve_usb *usb, const struct control_usb *device, int fd,
                      control_done done, void *data);
void serve_usb_detach(struct serve_usb *usb, const char *port, control_done done, void *data);
void serve_usb_publish(struct serve_usb *usb, struct control *control);
