/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine on the whole screen: by ringside-viewer, or by GTK where that cannot start. */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

/* Enters it from the machine's window, on the monitor that the window is on, or leaves it again.
 * `integer`: enlarge by whole factors only. */
void rs_full_screen_toggle(GtkWindow *window, RsMachine *machine, gboolean integer);
