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
