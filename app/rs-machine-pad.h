/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Game pads that this program plugs into a running machine. They leave it with the program. */
#pragma once

#include "rs-machine.h"

enum { RS_PAD_LEFT_TRIGGER = 4, RS_PAD_RIGHT_TRIGGER, RS_PAD_AXES };

/* As in org.ringside.Monitor1.xml: buttons by Linux's codes, a hat from 0 to 8, sticks, triggers.
 */
typedef struct {
    unsigned buttons, hat;
    int16_t axis[RS_PAD_AXES];
} RsPad;

void rs_machine_plug_pad_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data);
/* The pad's number, or -1. */
int rs_machine_plug_pad_finish(RsMachine *self, GAsyncResult *result, GError **error);
void rs_machine_unplug_pad(RsMachine *self, int pad);
void rs_machine_set_pad(RsMachine *self, int pad, const RsPad *state);
