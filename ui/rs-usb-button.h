/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A button of a console with a menu of this computer's USB devices. */
#pragma once

#include <adwaita.h>

#include "rs-usb-desk.h"

#define RS_TYPE_USB_BUTTON (rs_usb_button_get_type())
G_DECLARE_FINAL_TYPE(RsUsbButton, rs_usb_button, RS, USB_BUTTON, AdwBin)

void rs_usb_button_set_machine(RsUsbButton *self, RsUsbDesk *desk, RsMachine *machine);
