/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine on the whole screen: by ringside-viewer, or by GTK where that cannot start. */
#pragma once

#include <gtk/gtk.h>

#include "rs-display.h"
#include "rs-machine.h"

typedef struct {
    RsScaling scaling;                  /* as in the window */
    gboolean resize;                    /* ask the guest for the monitor's size */
    void (*changed)(GtkWindow *window); /* rs_full_screen_has_viewer() has */
} RsFullScreenOptions;

/* Enters it from the machine's window, on the monitor that the window is on, or leaves it again. */
void rs_full_screen_toggle(GtkWindow *window, RsMachine *machine,
                           const RsFullScreenOptions *options);
/* The viewer has the machine's screen, the window has handed it over. */
gboolean rs_full_screen_has_viewer(GtkWindow *window);
