/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What our HID devices share (see hid_internal.h). */
#include "hid_internal.h"

#define HID_AT       18u /* in the configuration */
#define HID_SIZE     9u
#define TYPE_HID     0x2100
#define TYPE_REPORTS 0x2200

bool hid_control(struct usb_function *f, struct usb_transfer *t, const uint8_t *report_descriptor,
                 size_t size, uint8_t *idle)
{
    switch (t->setup.type << 8 | t->setup.request) {
    case HID_GET_DESCRIPTOR:
        return t->setup.value == TYPE_REPORTS
                   ? usb_function_reply(t, report_descriptor, size)
                   : t->setup.value == TYPE_HID &&
                         usb_function_reply(t, f->info->configuration + HID_AT, HID_SIZE);
    case HID_GET_IDLE:
        return usb_function_reply(t, idle, 1);
    case HID_SET_IDLE:
        *idle = (uint8_t)(t->setup.value >> 8);
        return usb_function_reply(t, NULL, 0);
    default:
        return false;
    }
}
