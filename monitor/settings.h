/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's settings: machine.ini in its folder, a GKeyFile that people may edit. Read by the
 * monitor and by the front end (its own static library, `settings`, which uses GLib only).
 *
 * [machine]  name=  uuid=  os= (libosinfo short id, may be empty)  engine=
 * auto|kvm|driver|translate memory= MiB  processors=  firmware= bios|uefi  serial=
 * none|pty|file:PATH  serial2= the same  video= vga|virtio  debug-exit= true|false usb-keyboard= true|false (beside
 * the PS/2 one) [disk0] .. [disk3]  path= (relative
 * to the folder)  format= auto|raw|qcow2  read-only=  usb= true|false (not SATA) [cdrom]    path= (empty: no medium) [boot]
 * order= comma-separated of disk,cdrom   kernel=  initrd=  append=
 * [sound] mode= on|output|off (output: no recording)
 * [network] mode= user|isolated|none|tap:NAME|bridge:NAME  card= e1000e|virtio  cable= true|false
 * mac= (made from the uuid when it is not there)  forwards= comma-separated (devices/net/spec.h)
 * [usb] connect= ignore= comma-separated rules for the host's devices (devices/usb/rule.h): always
 * for this machine; never asked about
 *
 * Errors name file, line, key, what was found and what is allowed: "machine.ini, line 4: memory is
 * "12x"; ...".
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#define SETTINGS_FILE     "machine.ini"
#define SETTINGS_MAX_DISK 4u

enum settings_error { SETTINGS_ERROR_PARSE, SETTINGS_ERROR_VALUE, SETTINGS_ERROR_IO };
GQuark settings_error_quark(void);
#define SETTINGS_ERROR settings_error_quark()

struct settings_disk {
    char *path; /* NULL: no such disk */
    char *format;
    bool read_only, usb;
};

struct settings {
    char *name, *uuid, *os, *engine, *firmware, *serial, *serial2;
    uint64_t memory_mib; /* 1 .. 1048576 */
    unsigned processors; /* 1 .. 32 */
    bool debug_exit, usb_keyboard;
    struct settings_disk disk[SETTINGS_MAX_DISK];
    bool has_cdrom;
    char *cdrom; /* path or NULL */
    char *boot_order, *kernel, *initrd, *append;
    char *video, *sound, *network, *card, *mac, *forwards; /* mac, forwards: may be NULL */
    bool cable;                                    /* plugged in */
    char *usb_connect, *usb_ignore;                /* may be NULL */
};

struct settings *settings_new(const char *name); /* defaults, a fresh uuid */
void settings_free(struct settings *s);
typedef struct settings RsSettings; /* g_autoptr(RsSettings): the macro takes one word only */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RsSettings, settings_free)
/* Reads folder/machine.ini. NULL and an error naming the file and line. */
struct settings *settings_load(const char *folder, GError **error);
/* Writes aside, fsyncs, renames. Keeps unknown keys and comments of the file that is there. */
bool settings_save(const struct settings *s, const char *folder, GError **error);

/* The network card's address: the one that is set, or one that this uuid always gives. g_free. */
char *settings_mac(const struct settings *s);
/* The port forwards as a list; g_strfreev. And back. */
char **settings_forwards(const struct settings *s);
void settings_set_forwards(struct settings *s, const char *const *forwards);

/* Rules for the host's USB devices. */
struct usb_identity;
bool settings_usb_connects(const struct settings *s, const struct usb_identity *device);
bool settings_usb_ignores(const struct settings *s, const struct usb_identity *device);
/* Both take the rule out of the other list. False: there are too many. */
bool settings_usb_connect(struct settings *s, const char *rule);
bool settings_usb_ignore(struct settings *s, const char *rule);
bool settings_usb_forget(struct settings *s, const char *rule); /* false: there is no such rule */
/* All rules that speak of the device go. */
void settings_usb_forget_device(struct settings *s, const struct usb_identity *device);
/* As lists; g_strfreev. */
char **settings_usb_connect_list(const struct settings *s);
char **settings_usb_ignore_list(const struct settings *s);

/* Puts a disk into the first free slot; its number, or -1 when there is none. */
int settings_add_disk(struct settings *s, const char *path, const char *format);
/* The file stays. */
void settings_remove_disk(struct settings *s, unsigned slot);
/* "disk1.qcow2": the first such name that neither the settings nor the folder have. */
char *settings_new_disk_name(const struct settings *s, const char *folder);
/* A disk's file, wherever it lies. NULL: there is no such disk. */
char *settings_disk_file(const struct settings *s, unsigned slot, const char *folder);
/* Is the file one of the disks already? */
bool settings_has_disk(const struct settings *s, const char *path, const char *folder);
