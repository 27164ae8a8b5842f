/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far the mouse itself was moved, on X11: without the desktop's acceleration, since the guest
 * has one of its own, and also when the pointer stands at an edge of the screen. That is what SDL
 * gives the viewer, too. Devices that say places rather than ways (tablets, touch screens), and the
 * X server's own of tests and remote desktops, which does both, are left out.
 */
#pragma once

#include <gtk/gtk.h>

typedef struct _RsRawMotion RsRawMotion;

typedef void (*RsRawMotionFunc)(gpointer data, double dx, double dy);

/* NULL: not on this display. */
RsRawMotion *rs_raw_motion_new(GdkDisplay *display, RsRawMotionFunc func, gpointer data);
void rs_raw_motion_free(RsRawMotion *self);
