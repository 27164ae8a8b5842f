/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of `ringctl usb` share. */
#pragma once

#include "ringctl.h"
#include "rs-usb.h"

/* Connects the device if a rule says so and no program has it. False: it could not be done, which
 * was said on standard error in the name of `who`. */
bool ringctl_usb_by_rule(RsMonitorMachine *proxy, const struct settings *settings,
                         const RsUsbDevice *device, const char *who);

/* Carries out the rules of a running machine for what is plugged in, until it ends. */
bool ringctl_usb_watch(const struct ringctl_machine *machine, RsMonitorMachine *proxy, bool now,
                       GError **error);
bool ringctl_usb_watched(const struct ringctl_machine *machine); /* such a process is there */
