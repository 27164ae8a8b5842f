/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where log lines go: standard error until log_open() names a file. Lines are prefixed with the
 * process name. device_log() and device_log_once() (device.h) end up here. Thread-safe.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

bool log_open(const char *path, GError **error);
void log_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* From a signal handler: only system calls. */
void log_emergency(const char *sentence);
