/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Input devices of the HID class (Device Class Definition for HID, 1.11): what a user types and
 * points at, from input.h. Events go to a device only while the guest asks for them; else the PS/2
 * devices get them.
 */
#pragma once

#include "input.h"
#include "usb.h"

/* One reference, the caller's. `input` may be NULL. It is the input's sink while it lives. */
struct usb_device *usb_tablet_new(struct input *input); /* absolute pointer, wheel, 5 buttons */
struct usb_device *usb_keyboard_new(struct input *input);
/* A game pad, at rest until usb_pad_set(). What is out of range is taken for rest. */
struct usb_device *usb_pad_new(void);
void usb_pad_set(struct usb_device *pad, const struct input_pad *state);
