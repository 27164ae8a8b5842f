/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringside-monitor's command line, and machine configurations made from it or from machine.ini.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "machine.h"
#include "settings.h"

struct options {
    struct machine_config config;
    char *machine;     /* --machine: a folder; the rest does not count then */
    char *create_disk; /* --create-disk: a path; `size` follows */
    char *size;
    char *log, *screenshot;
    double after, timeout; /* seconds, 0: never */
    int memory_mib, cpus;
    gboolean snapshot, readonly, debug_exit, no_reboot, unplugged, profile, version, usb_keyboard, usb_hub;
    char **disks, **usb_disks, **serial, *name, *engine, *engine_options, *kernel, *initrd, *append, *firmware,
        *cdrom, *boot, *debugcon, *network, *card, *video, *mac, *capture, *forward_list, *sound;
    char **forwards;
};

bool options_parse(struct options *options, int *argc, char ***argv, GError **error);
void options_clear(struct options *options);

/* What `s` in `folder` says; relative paths are the folder's. Strings live in `arena`. */
bool options_from_settings(struct machine_config *config, const struct settings *s,
                           const char *folder, GStringChunk *arena, GError **error);
