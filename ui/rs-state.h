/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the states and systems of machines are called and pictured, and the error dialog that all
 * windows share. */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

const char *rs_state_label(RsMachineState state);
/* A style class such as "state-running". */
const char *rs_state_style(RsMachineState state);
const char *rs_state_system_icon(const char *os_id);
void rs_state_show_error(GtkWindow *parent, const char *heading, const char *body);
/* The window that the user works in; dialogs belong to it. */
GtkWindow *rs_state_active_window(void);
