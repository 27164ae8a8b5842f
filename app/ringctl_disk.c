/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringctl disk: gives a machine that is off another disk, or takes one away; its file is kept.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "ringctl.h"

struct change {
    char *size, *add;
    int remove;
    gboolean usb;
};

static bool change_parse(struct change *c, const struct ringctl_command *command, int *argc,
                         char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"new", 0, 0, G_OPTION_ARG_STRING, &c->size, "Add a new disk of this size", "8G"},
        {"add", 0, 0, G_OPTION_ARG_FILENAME, &c->add, "Add this disk image, where it is", "FILE"},
        {"usb", 0, 0, G_OPTION_ARG_NONE, &c->usb, "The new disk is a USB disk, not a SATA one",
         NULL},
        {"remove", 0, 0, G_OPTION_ARG_INT, &c->remove, "Remove disk N (as in info)", "N"},
        {0}};

    c->remove = -1;
    return ringctl_parse(command, entries, argc, argv, 1, 1, error) &&
           ((!!c->size + !!c->add + (c->remove >= 0) == 1) ||
            ringctl_fail(error, RINGCTL_FAILED, "Give one of --new, --add and --remove.")) &&
           (!c->usb || c->remove < 0 ||
            ringctl_fail(error, RINGCTL_FAILED, "--usb belongs to --new or --add."));
}

static bool add(const struct ringctl_machine *machine, struct settings *s, const char *path,
                const char *format, bool usb, GError **error)
{
    int slot = settings_add_disk(s, path, format);

    if (slot < 0) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "The machine has %u disks; there is no place "
                            "for another.",
                            SETTINGS_MAX_DISK);
    }
    s->disk[slot].usb = usb;
    if (!settings_save(s, machine->folder, error)) {
        return false;
    }
    printf("disk%d is %s\n", slot, path);
    return true;
}

static bool add_new(const struct ringctl_machine *machine, struct settings *s, const char *size,
                    bool usb, GError **error)
{
    g_autofree char *name = settings_new_disk_name(s, machine->folder);
    g_autofree char *path = ringctl_machine_file(machine, name);

    if (!ringctl_make_disk(path, size, error)) {
        return false;
    }
    if (add(machine, s, name, "qcow2", usb, error)) {
        return true;
    }
    unlink(path);
    return false;
}

static bool add_file(const struct ringctl_machine *machine, struct settings *s, const char *file,
                     bool usb, GError **error)
{
    g_autofree char *path = g_canonicalize_filename(file, NULL);

    if (access(path, R_OK | W_OK) < 0) {
        return ringctl_fail(error, RINGCTL_FAILED, "%s cannot be used: %s.", path,
                            g_strerror(errno));
    }
    if (settings_has_disk(s, path, machine->folder)) {
        return ringctl_fail(error, RINGCTL_FAILED, "%s is a disk of this machine already.", path);
    }
    return add(machine, s, path, "auto", usb, error);
}

static bool take_away(const struct ringctl_machine *machine, struct settings *s, int slot,
                      GError **error)
{
    g_autofree char *file = slot < (int)SETTINGS_MAX_DISK
                                ? settings_disk_file(s, (unsigned)slot, machine->folder)
                                : NULL;

    if (!file) {
        return ringctl_fail(error, RINGCTL_FAILED, "The machine has no disk %d.", slot);
    }
    settings_remove_disk(s, (unsigned)slot);
    if (!settings_save(s, machine->folder, error)) {
        return false;
    }
    printf("disk%d is removed; its file is kept: %s\n", slot, file);
    return true;
}

static bool change(const struct ringctl_machine *machine, const struct change *c, GError **error)
{
    g_autoptr(RsSettings) s = NULL;

    if (ringctl_machine_locked(machine) || ringctl_machine_suspended(machine)) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE,
                            "The machine's disks can be changed only while it is off.");
    }
    if (!(s = settings_load(machine->folder, error))) {
        return false;
    }
    return c->size  ? add_new(machine, s, c->size, c->usb, error)
           : c->add ? add_file(machine, s, c->add, c->usb, error)
                    : take_away(machine, s, c->remove, error);
}

bool ringctl_disk(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    struct change c = {0};
    struct ringctl_machine *machine = NULL;
    bool ok = change_parse(&c, command, &argc, &argv, error) &&
              (machine = ringctl_machine_find(argv[1], error)) && change(machine, &c, error);

    if (machine) {
        ringctl_machine_free(machine);
    }
    g_free(c.size);
    g_free(c.add);
    return ok;
}
