/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of RsMachine share. */
#pragma once

#include "monitor-proxy.h"
#include "rs-machine.h"

/* The monitor's object; NULL while none runs. */
RsMonitorMachine *rs_machine_get_proxy(RsMachine *self);
/* A monitor's error as one of ours, its text made harmless. */
void rs_machine_return_error(GTask *task, GError *error);
