/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where this computer's USB devices go: follows them and the machines, connects those that always
 * belong to a machine, and asks about one that is plugged in while a console has the focus. One for
 * the application. Signal "changed": list, holders or rules may be other.
 */
#pragma once

#include <gtk/gtk.h>

#include "rs-library.h"
#include "rs-machine-usb.h"

#define RS_TYPE_USB_DESK (rs_usb_desk_get_type())
G_DECLARE_FINAL_TYPE(RsUsbDesk, rs_usb_desk, RS, USB_DESK, GObject)

RsUsbDesk *rs_usb_desk_new(RsLibrary *library);
GPtrArray *rs_usb_desk_get_devices(RsUsbDesk *self); /* of RsUsbDevice; borrowed */
/* The machine that has it; NULL: none of the library. Borrowed. */
RsMachine *rs_usb_desk_get_holder(RsUsbDesk *self, const RsUsbDevice *device);
/* A machine that runs has devices that always belong to it: somebody has to look out for them. */
bool rs_usb_desk_is_needed(RsUsbDesk *self);
/* Asks first when the device should stay here; tells when it does not work. */
void rs_usb_desk_connect(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device);
void rs_usb_desk_disconnect(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device);
/* Whatever is in the device's port goes to the machine, or not any more. */
void rs_usb_desk_set_port_rule(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device,
                               bool connect);
void rs_usb_desk_set_rule(RsUsbDesk *self, RsMachine *machine, const RsUsbDevice *device,
                          RsUsbRule rule);
