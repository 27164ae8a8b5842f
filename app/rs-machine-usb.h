/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The USB devices of this computer that a machine has; its signal "usb-changed" tells of changes.
 */
#pragma once

#include "rs-machine.h"
#include "rs-usb.h"

/* Does it have the device in this port? */
bool rs_machine_has_usb(RsMachine *self, const char *port);
/* Opens the device and hands it to the monitor. */
void rs_machine_attach_usb_async(RsMachine *self, const RsUsbDevice *device,
                                 GAsyncReadyCallback callback, gpointer data);
void rs_machine_detach_usb_async(RsMachine *self, const char *port, GAsyncReadyCallback callback,
                                 gpointer data);
bool rs_machine_usb_finish(RsMachine *self, GAsyncResult *result, GError **error); /* of both */

typedef enum { RS_USB_FORGET, RS_USB_CONNECT, RS_USB_IGNORE } RsUsbRule;
/* What the machine's settings say of the device, wherever it is. */
RsUsbRule rs_machine_get_usb_rule(RsMachine *self, const RsUsbDevice *device);
/* Rules for the port that it is in stay as they are. */
bool rs_machine_set_usb_rule(RsMachine *self, const RsUsbDevice *device, RsUsbRule rule,
                             GError **error);
/* Does a rule connect this device, or whatever is in its port? */
bool rs_machine_connects_usb(RsMachine *self, const RsUsbDevice *device, bool port);
bool rs_machine_set_usb_port_rule(RsMachine *self, const char *port, bool connect, GError **error);
