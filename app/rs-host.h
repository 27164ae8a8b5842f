/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the host has to give: memory, processors, disk space; and where our own files and programs
 * are. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t memory_mib;    /* what the largest machine may have: all but what the desktop needs */
    uint64_t available_mib; /* free now */
    unsigned processors;
    uint64_t disk_bytes; /* free where machines live */
} RsHostLimits;

RsHostLimits rs_host_limits(void);
/* $XDG_DATA_HOME/ringside/machines, made when it is not there. */
const char *rs_host_machines_folder(void);
/* $XDG_RUNTIME_DIR/ringside. */
const char *rs_host_sockets_folder(void);
/* The monitor's program: $RINGSIDE_MONITOR, beside this program, in the build folder, in $PATH.
 * NULL with an error. */
char *rs_host_find_monitor(GError **error);
char *rs_host_find_viewer(void); /* NULL: not installed */
char *rs_host_find_ringctl(GError **error);
/* A data file of ours such as demo/make-demo, installed or in the source folder. NULL with an
 * error. */
char *rs_host_find_data(const char *name, GError **error);
/* At most `limit` characters of text that somebody else wrote, control characters made spaces. */
char *rs_host_sanitize(const char *text, unsigned limit);
