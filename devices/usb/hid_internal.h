/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What our HID devices share (Device Class Definition for HID 1.11, section 7). */
#pragma once

#include "function.h"

/* Class requests: bmRequestType << 8 | bRequest. */
enum {
    HID_GET_DESCRIPTOR = 0x8106,
    HID_GET_REPORT = 0xa101,
    HID_GET_IDLE = 0xa102,
    HID_GET_PROTOCOL = 0xa103,
    HID_SET_REPORT = 0x2109,
    HID_SET_IDLE = 0x210a,
    HID_SET_PROTOCOL = 0x210b
};

/* The requests that are alike in all: for the device's descriptors and the idle rate, which is only
 * kept. The HID descriptor follows the configuration's and the interface's. False: not one of them.
 */
bool hid_control(struct usb_function *f, struct usb_transfer *t, const uint8_t *report_descriptor,
                 size_t size, uint8_t *idle);
