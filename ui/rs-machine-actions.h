/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The actions of one machine, group "machine": open, start, pause, resume, suspend, reset,
 * shut-down, power-off, settings, rename, delete, show-files, insert-medium, eject-medium,
 * force-eject. What the state forbids is disabled. Dialogs belong to the active window.
 */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

GSimpleActionGroup *rs_machine_actions_new(RsMachine *machine);
/* Starts it when it is not running, and opens its console: what a double click does. */
void rs_machine_actions_start(RsMachine *machine, gboolean open);
