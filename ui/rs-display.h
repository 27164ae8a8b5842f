/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's screen as a widget: draws the machine's frames and, while it has the focus, gives the
 * guest the keyboard and the pointer. Emits "release" when the user pressed the release chord
 * (Ctrl+Alt); the window then moves the focus away. Property "pointer-captured": the relative
 * pointer belongs to the guest.
 */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

typedef enum {
    RS_SCALING_FIT,      /* as large as the window allows */
    RS_SCALING_INTEGER,  /* the largest whole multiple: always crisp */
    RS_SCALING_ORIGINAL, /* one guest pixel, one device pixel; scrolls */
} RsScaling;

#define RS_TYPE_DISPLAY (rs_display_get_type())
G_DECLARE_FINAL_TYPE(RsDisplay, rs_display, RS, DISPLAY, GtkWidget)

void rs_display_set_machine(RsDisplay *self, RsMachine *machine);
void rs_display_set_scaling(RsDisplay *self, RsScaling scaling);
/* A hardware key for the guest, from the window's own controller, which sees keys before
 * accelerators do. */
void rs_display_key(RsDisplay *self, unsigned keycode, gboolean down);
/* Presses the keys in order and releases them in reverse. */
void rs_display_send_chord(RsDisplay *self, const unsigned *codes, unsigned count);
gboolean rs_display_has_keyboard(RsDisplay *self);
/* Lets go of every key and of the pointer. */
void rs_display_release(RsDisplay *self);
/* The screen as it is now, or NULL before the first frame. */
GdkTexture *rs_display_dup_texture(RsDisplay *self);
/* A whole frame as one texture, or NULL. */
GdkTexture *rs_display_frame_texture(RsFrame *frame);
