/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks a machine's guest for a screen of the size that its window has for it, in device pixels, so
 * that nothing has to be scaled. What the guest makes of it is its affair: nothing here looks at
 * the size that it really has, so two that ask cannot go on for ever.
 */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

typedef struct _RsGuestSize RsGuestSize;

/* For the place that `view`, which outlives it, has for the screen. It begins switched off. */
RsGuestSize *rs_guest_size_new(RsMachine *machine, GtkScrolledWindow *view);
void rs_guest_size_free(RsGuestSize *self);
/* Switched on it asks anew, whatever it asked before: somebody else may have done so meanwhile. */
void rs_guest_size_set_on(RsGuestSize *self, gboolean on);
