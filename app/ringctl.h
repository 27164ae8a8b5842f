/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ringctl's files share. ringctl is a client like any other: it reads and writes the library's
 * folders and speaks to monitors through their sockets. It uses GLib only.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "monitor-dbus.h"
#include "settings.h"

/* Exit statuses (of all commands but `run`, which becomes the monitor), and codes of our errors. */
enum ringctl_status {
    RINGCTL_OK,
    RINGCTL_FAILED,      /* wrong usage, or it did not work */
    RINGCTL_NOT_FOUND,   /* no such machine */
    RINGCTL_WRONG_STATE, /* not while the machine is in this state */
    RINGCTL_TIME_OUT,
    RINGCTL_SLOW /* doctor: without hardware virtualization */
};
GQuark ringctl_error_quark(void);
#define RINGCTL_ERROR ringctl_error_quark()

/* Each command: argv[0] is its name. True when all went well. */
struct ringctl_command {
    const char *name, *arguments, *summary;
    bool (*run)(const struct ringctl_command *command, int argc, char **argv, GError **error);
};

/* Parses options; between `least` and `most` other arguments stay in argv[1..]. */
bool ringctl_parse(const struct ringctl_command *command, const GOptionEntry *entries, int *argc,
                   char ***argv, int least, int most, GError **error);
bool ringctl_fail(GError **error, enum ringctl_status status, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* ringctl_library.c: machines on disk */

struct ringctl_machine {
    char *id, *folder;
    RsSettings *settings; /* NULL: machine.ini cannot be read, see problem */
    char *problem;
};

char *ringctl_library_folder(void);
GPtrArray *ringctl_library_list(void); /* of struct ringctl_machine, by name */
/* By folder name, else by the name in the settings. NULL and RINGCTL_NOT_FOUND. */
struct ringctl_machine *ringctl_machine_find(const char *name, GError **error);
void ringctl_machine_free(struct ringctl_machine *machine);
char *ringctl_machine_file(const struct ringctl_machine *machine, const char *name);
bool ringctl_machine_suspended(const struct ringctl_machine *machine);
bool ringctl_machine_locked(const struct ringctl_machine *machine); /* a monitor has it */

/* ringctl_client.c: running machines */

/* NULL when no monitor listens. */
GDBusConnection *ringctl_connect(const char *id);
RsMonitorMachine *ringctl_machine_proxy(GDBusConnection *connection, GError **error);
/* What `list` shows: off, suspended, starting, or what the monitor says. g_free. */
char *ringctl_machine_state(const struct ringctl_machine *machine);
/* Connects to a machine that must be running. */
GDBusConnection *ringctl_need_running(const char *name, GError **error);
/* Makes a monitor's error one of ours. */
void ringctl_adopt_error(GError **error);
char *ringctl_find_monitor(GError **error);
/* Waits until `state`, for `seconds` (0: for ever). */
bool ringctl_wait_state(const struct ringctl_machine *machine, const char *state, double seconds,
                        GError **error);

/* ringctl_json.c: printing JSON values */

void ringctl_json_string(GString *out, const char *text);                  /* NULL: null */
void ringctl_json_member(GString *out, const char *key, const char *text); /* "key": "text" */
void ringctl_json_number(GString *out, const char *key, guint64 number);

/* ringctl_keys.c */

/* The key for an ASCII character on a US keyboard. False: there is none. */
bool ringctl_key_for_char(char c, unsigned *code, bool *shift);
/* "ctrl-alt-delete" to codes; how many, 0 and an error for an unknown name. */
unsigned ringctl_keys_parse(const char *chord, unsigned codes[], unsigned max, GError **error);

/* ringctl_create.c: an empty image; `size` as people write it */
bool ringctl_make_disk(const char *path, const char *size, GError **error);

/* ringctl_network.c: checks and stores; what is NULL stays as it is */
bool ringctl_network_settings(struct settings *s, const char *mode, const char *card,
                              char **forwards, GError **error);

/* ringctl_usb.c: connects what the rules say, and warns on standard error */
void ringctl_usb_by_rules(const char *id, const struct settings *settings);
/* ringctl_usb_watch.c: leaves a process that does so for what is plugged in later. Back when that
 * has seen what is there now. */
void ringctl_usb_watch_begin(const struct ringctl_machine *machine);

/* The commands */
#define RINGCTL_COMMAND(name)                                                                      \
    bool name(const struct ringctl_command *command, int argc, char **argv, GError **error)
RINGCTL_COMMAND(ringctl_list);
RINGCTL_COMMAND(ringctl_info);
RINGCTL_COMMAND(ringctl_create);
RINGCTL_COMMAND(ringctl_delete);
RINGCTL_COMMAND(ringctl_disk);
RINGCTL_COMMAND(ringctl_network);
RINGCTL_COMMAND(ringctl_usb);
RINGCTL_COMMAND(ringctl_start);
RINGCTL_COMMAND(ringctl_stop);
RINGCTL_COMMAND(ringctl_pause);
RINGCTL_COMMAND(ringctl_resume);
RINGCTL_COMMAND(ringctl_suspend);
RINGCTL_COMMAND(ringctl_reset);
RINGCTL_COMMAND(ringctl_screenshot);
RINGCTL_COMMAND(ringctl_type);
RINGCTL_COMMAND(ringctl_key);
RINGCTL_COMMAND(ringctl_mouse);
RINGCTL_COMMAND(ringctl_insert);
RINGCTL_COMMAND(ringctl_eject);
RINGCTL_COMMAND(ringctl_wait);
RINGCTL_COMMAND(ringctl_run);
RINGCTL_COMMAND(ringctl_doctor);
