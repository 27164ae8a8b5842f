/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One machine of the library: its folder, settings and state, and the connection to its monitor
 * while it runs. Properties: name (s), state (RsMachineState), message (s), medium (s), absolute
 * (b), can-resize (b), engine (s). Signals: "frame" (RsFrame): the screen has a new mode; "damage" (x, y, width,
 * height) inside that frame; "cursor" (gboolean: the image has changed): see rs_machine_get_cursor();
 * "usb-changed": see rs-machine-usb.h.
 */
#pragma once

#include <gio/gio.h>

#include "rs-cursor.h"
#include "rs-frame.h"
#include "settings.h"

typedef enum {
    RS_MACHINE_OFF,
    RS_MACHINE_STARTING,
    RS_MACHINE_RUNNING,
    RS_MACHINE_PAUSED,
    RS_MACHINE_SUSPENDING,
    RS_MACHINE_SUSPENDED,
    RS_MACHINE_IO_ERROR, /* paused because the host could not store something */
    RS_MACHINE_CRASHED,
    RS_MACHINE_BROKEN, /* machine.ini cannot be read */
} RsMachineState;

typedef enum {
    RS_MACHINE_PAUSE,
    RS_MACHINE_RESUME,
    RS_MACHINE_SUSPEND,
    RS_MACHINE_RESET,
    RS_MACHINE_SHUT_DOWN,
    RS_MACHINE_POWER_OFF,
} RsMachineCommand;

#define RS_TYPE_MACHINE (rs_machine_get_type())
G_DECLARE_FINAL_TYPE(RsMachine, rs_machine, RS, MACHINE, GObject)

RsMachine *rs_machine_new(const char *folder);

const char *rs_machine_get_id(RsMachine *self);
const char *rs_machine_get_folder(RsMachine *self);
const char *rs_machine_get_name(RsMachine *self);
RsMachineState rs_machine_get_state(RsMachine *self);
/* One sentence about the state, or NULL. Never trust it to be markup. */
const char *rs_machine_get_message(RsMachine *self);
const char *rs_machine_get_engine(RsMachine *self);
const char *rs_machine_get_engine_reason(RsMachine *self);
/* The medium in the drive: what the monitor says while it runs, else the settings. NULL: none. */
const char *rs_machine_get_medium(RsMachine *self);
bool rs_machine_get_absolute(RsMachine *self);
/* A monitor runs for it: starting to suspending, io-error. */
bool rs_machine_is_active(RsMachine *self);
/* Also for a crashed one: its monitor still holds its files. */
bool rs_machine_is_connected(RsMachine *self);

/* The settings belong to the machine. */
const struct settings *rs_machine_get_settings(RsMachine *self);
/* A copy that the caller may change and hand to rs_machine_set_settings(). */
struct settings *rs_machine_copy_settings(RsMachine *self, GError **error);
bool rs_machine_set_settings(RsMachine *self, const struct settings *settings, GError **error);
bool rs_machine_rename(RsMachine *self, const char *name, GError **error);
/* Reads machine.ini again and looks for a monitor that somebody else started. */
void rs_machine_refresh(RsMachine *self);

void rs_machine_start_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data);
bool rs_machine_start_finish(RsMachine *self, GAsyncResult *result, GError **error);
void rs_machine_command_async(RsMachine *self, RsMachineCommand command,
                              GAsyncReadyCallback callback, gpointer data);
bool rs_machine_command_finish(RsMachine *self, GAsyncResult *result, GError **error);
/* path NULL: eject. Off machines get the change in their settings. */
void rs_machine_change_medium_async(RsMachine *self, const char *path, bool force,
                                    GAsyncReadyCallback callback, gpointer data);
bool rs_machine_change_medium_finish(RsMachine *self, GAsyncResult *result, GError **error);
/* Of a running machine. The callback comes once for each change that is needed, with a reference of
 * its own to `window`; perhaps never. */
void rs_machine_set_network_async(RsMachine *self, bool cable, const char *const *forwards,
                                  GAsyncReadyCallback callback, gpointer window);
bool rs_machine_set_network_finish(RsMachine *self, GAsyncResult *result, GError **error);
void rs_machine_capture_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data);
RsFrame *rs_machine_capture_finish(RsMachine *self, GAsyncResult *result, GError **error);
/* Moves the folder to the trash; with `forever` deletes it. G_IO_ERROR_NOT_SUPPORTED: there is no
 * trash here. */
void rs_machine_delete_async(RsMachine *self, bool forever, GAsyncReadyCallback callback,
                             gpointer data);
bool rs_machine_delete_finish(RsMachine *self, GAsyncResult *result, GError **error);

/* Frames and damage flow while at least one attach is not detached. */
void rs_machine_attach(RsMachine *self);
void rs_machine_detach(RsMachine *self);
/* The guest's cursor plane, NULL: there is none (known while attached). The machine's. */
const RsCursor *rs_machine_get_cursor(RsMachine *self);
/* The guest can be asked for another size of its screen; it may ignore that. */
bool rs_machine_can_resize(RsMachine *self);
void rs_machine_set_size(RsMachine *self, unsigned width, unsigned height);
/* The same of a program that is about to end: waits until the monitor has it, a second at most. */
void rs_machine_set_last_size(RsMachine *self, unsigned width, unsigned height);
/* Linux input event codes; all are dropped while no monitor is connected. */
void rs_machine_key(RsMachine *self, unsigned code, bool down);
void rs_machine_pointer_relative(RsMachine *self, int dx, int dy, int wheel, unsigned buttons);
void rs_machine_pointer_absolute(RsMachine *self, unsigned x, unsigned y, int wheel,
                                 unsigned buttons);
void rs_machine_release_all(RsMachine *self);
