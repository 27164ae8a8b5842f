/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting a machine's monitor, so that it outlives this program, and reaching its socket.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/* Connects to the running monitor of the machine `id`. Fails at once when nobody listens. */
void rs_launch_connect_async(const char *id, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer data);
GDBusConnection *rs_launch_connect_finish(GAsyncResult *result, GError **error);
/* Starts `ringside-monitor --machine folder` and waits until it listens. The error is the monitor's
 * own sentence when it ended instead. */
void rs_launch_start_async(const char *folder, const char *id, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer data);
GDBusConnection *rs_launch_start_finish(GAsyncResult *result, GError **error);
/* Leaves a process behind that carries out the rules of the running machine for USB devices. */
bool rs_launch_usb_watch(const char *folder, const char *id, GError **error);
/* The last lines of what was written to folder/monitor.log after `from` bytes, or NULL. */
char *rs_launch_log_tail(const char *folder, goffset from);
