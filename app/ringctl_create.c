/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * create and delete. A machine is made in a folder aside and renamed into place at the end, so that
 * nothing half-made stays behind.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringctl.h"

#define ID_MAX 60 /* bytes; sockets have short paths */

struct create {
    char *iso, *disk, *disk_size, *memory, *engine, *kernel, *initrd, *append, *os, *network, *card,
        *sound, *video;
    char **serial, **forwards;
    int cpus;
    gboolean debug_exit;
};

static void create_clear(struct create *c)
{
    char *strings[] = {c->iso,    c->disk, c->disk_size, c->memory, c->engine, c->kernel, c->initrd,
                       c->append, c->os,   c->network,   c->card,   c->sound,  c->video};

    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_strfreev(c->serial);
    g_strfreev(c->forwards);
}

static bool create_parse(struct create *c, const struct ringctl_command *command, int *argc,
                         char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"iso", 0, 0, G_OPTION_ARG_FILENAME, &c->iso, "Disc image in the CD drive", "FILE"},
        {"disk", 0, 0, G_OPTION_ARG_FILENAME, &c->disk, "Use this disk image, where it is", "FILE"},
        {"disk-size", 0, 0, G_OPTION_ARG_STRING, &c->disk_size, "Make a new disk", "8G"},
        {"memory", 0, 0, G_OPTION_ARG_STRING, &c->memory, "Memory; a bare number is MiB", "1G"},
        {"cpus", 0, 0, G_OPTION_ARG_INT, &c->cpus, "Processors", "N"},
        {"engine", 0, 0, G_OPTION_ARG_STRING, &c->engine, "auto, kvm, driver, translate", "NAME"},
        {"kernel", 0, 0, G_OPTION_ARG_FILENAME, &c->kernel, "Start this kernel", "FILE"},
        {"initrd", 0, 0, G_OPTION_ARG_FILENAME, &c->initrd, "Its initial RAM disk", "FILE"},
        {"append", 0, 0, G_OPTION_ARG_STRING, &c->append, "Its command line", "TEXT"},
        {"serial", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &c->serial,
         "First serial port; given twice, the second one too", "FILE|pty|none"},
        {"network", 0, 0, G_OPTION_ARG_STRING, &c->network,
         "user (the default), isolated, none, tap:NAME, bridge:NAME", "MODE"},
        {"card", 0, 0, G_OPTION_ARG_STRING, &c->card, "Network card: e1000e, virtio", "NAME"},
        {"forward", 0, 0, G_OPTION_ARG_STRING_ARRAY, &c->forwards,
         "A port of the host for one of the guest; repeatable", "tcp:2222:22"},
        {"video", 0, 0, G_OPTION_ARG_STRING, &c->video, "Display adapter: vga, virtio", "NAME"},
        {"sound", 0, 0, G_OPTION_ARG_STRING, &c->sound,
         "on (the default), output (no recording), off", "MODE"},
        {"os", 0, 0, G_OPTION_ARG_STRING, &c->os, "Short id of the system (libosinfo)", "ID"},
        {"debug-exit", 0, 0, G_OPTION_ARG_NONE, &c->debug_exit, "With the debug exit port", NULL},
        {0}};

    return ringctl_parse(command, entries, argc, argv, 1, 1, error);
}

/* The folder for a name: without what file systems and people stumble over. */
static char *id_for(const char *name)
{
    GString *id = g_string_new(NULL);

    for (const char *p = name; *p && id->len < ID_MAX - 4; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        bool bad = c == '/' || c == '\\' || g_unichar_iscntrl(c) || (c == '.' && !id->len);
        g_string_append_unichar(id, bad ? '-' : c);
    }
    return g_string_free(id, FALSE);
}

/* MiB; 0: no size. */
static uint64_t memory_mib(const char *text)
{
    char *end;
    uint64_t n = g_ascii_strtoull(text, &end, 10);
    char unit = g_ascii_toupper(*end);

    if (end == text || n > 1u << 20 || (unit && end[1])) {
        return 0;
    }
    return unit == 'G' ? n << 10 : unit == 'M' || !unit ? n : 0;
}

static bool need_file(const char *path, GError **error)
{
    if (!path || access(path, R_OK) == 0) {
        return true;
    }
    return ringctl_fail(error, RINGCTL_FAILED, "%s cannot be read: %s.", path, g_strerror(errno));
}

static char *absolute(const char *path)
{
    return path ? g_canonicalize_filename(path, NULL) : NULL;
}

static void replace(char **where, char *value)
{
    if (value) {
        g_free(*where);
        *where = value;
    }
}

static void fill_paths(struct settings *s, const struct create *c)
{
    unsigned disk = 0;

    s->has_cdrom = true;
    replace(&s->cdrom, absolute(c->iso));
    replace(&s->kernel, absolute(c->kernel));
    replace(&s->initrd, absolute(c->initrd));
    if (c->disk) {
        replace(&s->disk[disk].path, absolute(c->disk));
        replace(&s->disk[disk++].format, g_strdup("auto"));
    }
    if (c->disk_size) {
        replace(&s->disk[disk].path, g_strdup("disk0.qcow2"));
        replace(&s->disk[disk].format, g_strdup("qcow2"));
    }
}

static char *serial_value(const char *word)
{
    g_autofree char *path = absolute(word);

    return !strcmp(word, "pty") || !strcmp(word, "none") ? g_strdup(word)
                                                         : g_strconcat("file:", path, NULL);
}

static bool fill_serial(struct settings *s, char **words, GError **error)
{
    unsigned count = words ? g_strv_length(words) : 0;

    if (count > 2) {
        return ringctl_fail(error, RINGCTL_FAILED, "A machine has two serial ports.");
    }
    replace(&s->serial, count > 0 ? serial_value(words[0]) : NULL);
    replace(&s->serial2, count > 1 ? serial_value(words[1]) : NULL);
    return true;
}

static bool fill(struct settings *s, const struct create *c, GError **error)
{
    if (c->memory && !(s->memory_mib = memory_mib(c->memory))) {
        return ringctl_fail(error, RINGCTL_FAILED, "\"%s\" is no amount of memory, such as 1G.",
                            c->memory);
    }
    if (c->cpus < 0 || c->cpus > 32) {
        return ringctl_fail(error, RINGCTL_FAILED, "A machine has 1 to 32 processors.");
    }
    s->processors = c->cpus ? (unsigned)c->cpus : s->processors;
    s->debug_exit = c->debug_exit;
    replace(&s->engine, g_strdup(c->engine));
    replace(&s->append, g_strdup(c->append));
    replace(&s->os, g_strdup(c->os));
    replace(&s->sound, g_strdup(c->sound));
    replace(&s->video, g_strdup(c->video));
    fill_paths(s, c);
    return fill_serial(s, c->serial, error) &&
           ringctl_network_settings(s, c->network, c->card, c->forwards, error) &&
           need_file(c->iso, error) && need_file(c->disk, error) && need_file(c->kernel, error) &&
           need_file(c->initrd, error);
}

bool ringctl_make_disk(const char *path, const char *size, GError **error)
{
    g_autofree char *program = ringctl_find_monitor(error);
    g_autofree char *said = NULL;
    char *argv[] = {program, (char *)"--create-disk", (char *)path, (char *)size, NULL};
    const char *text;
    int status;

    if (!program ||
        !g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, &said, &status, error)) {
        return false;
    }
    g_strchomp(said);
    text =
        g_str_has_prefix(said, "ringside-monitor: ") ? said + strlen("ringside-monitor: ") : said;
    return status == 0 ||
           ringctl_fail(error, RINGCTL_FAILED, "%s", *text ? text : "The disk cannot be made.");
}

/* Removes a folder of plain files, and folders of such. */
static bool remove_tree(const char *path, GError **error)
{
    g_autoptr(GDir) dir =
        g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (!remove_tree(child, error)) {
            return false;
        }
    }
    return g_remove(path) == 0 || ringctl_fail(error, RINGCTL_FAILED, "%s cannot be removed: %s.",
                                               path, g_strerror(errno));
}

static bool move_into_place(const char *aside, const char *folder, GError **error)
{
    return g_rename(aside, folder) == 0 ||
           ringctl_fail(error, RINGCTL_FAILED, "%s cannot be made: %s.", folder, g_strerror(errno));
}

static bool create_in(const char *library, const char *id, const struct settings *s,
                      const struct create *c, GError **error)
{
    g_autofree char *folder = g_build_filename(library, id, NULL);
    g_autofree char *aside = g_build_filename(library, ".new-XXXXXX", NULL);
    g_autofree char *disk = NULL;
    g_autoptr(RsSettings) check = NULL;
    bool ok;

    if (g_file_test(folder, G_FILE_TEST_EXISTS)) {
        return ringctl_fail(error, RINGCTL_FAILED, "There is a machine \"%s\" already.", id);
    }
    if (g_mkdir_with_parents(library, 0700) < 0 || !g_mkdtemp(aside)) {
        return ringctl_fail(error, RINGCTL_FAILED, "%s: %s.", library, g_strerror(errno));
    }
    disk = g_build_filename(aside, "disk0.qcow2", NULL);
    ok = settings_save(s, aside, error) && (check = settings_load(aside, error)) &&
         (!c->disk_size || ringctl_make_disk(disk, c->disk_size, error)) &&
         move_into_place(aside, folder, error);
    if (!ok) {
        remove_tree(aside, NULL);
    }
    return ok;
}

static bool create(const char *name, const struct create *c, GError **error)
{
    g_autoptr(RsSettings) s = NULL;
    g_autofree char *library = ringctl_library_folder();
    g_autofree char *id = NULL;
    struct ringctl_machine *twin;

    if (!*name || !g_utf8_validate(name, -1, NULL)) {
        return ringctl_fail(error, RINGCTL_FAILED, "A machine needs a name.");
    }
    if ((twin = ringctl_machine_find(name, NULL))) {
        ringctl_machine_free(twin);
        return ringctl_fail(error, RINGCTL_FAILED, "There is a machine \"%s\" already.", name);
    }
    s = settings_new(name);
    id = id_for(name);
    return fill(s, c, error) && create_in(library, id, s, c, error);
}

bool ringctl_create(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    struct create c = {0};
    bool ok = create_parse(&c, command, &argc, &argv, error) && create(argv[1], &c, error);

    create_clear(&c);
    return ok;
}

static bool delete_machine(const struct ringctl_machine *machine, bool permanently, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(machine->folder);
    g_autoptr(GError) why = NULL;

    if (ringctl_machine_locked(machine)) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE, "The machine is running; stop it first.");
    }
    if (permanently) {
        return remove_tree(machine->folder, error);
    }
    return g_file_trash(file, NULL, &why) ||
           ringctl_fail(error, RINGCTL_FAILED,
                        "It cannot be moved to the trash: %s. With --permanently it is deleted "
                        "for good.",
                        why->message);
}

bool ringctl_delete(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean permanently = FALSE;
    const GOptionEntry entries[] = {
        {"permanently", 0, 0, G_OPTION_ARG_NONE, &permanently, "Not to the trash: for good", NULL},
        {0}};
    struct ringctl_machine *machine;
    bool ok;

    if (!ringctl_parse(command, entries, &argc, &argv, 1, 1, error)) {
        return false;
    }
    machine = ringctl_machine_find(argv[1], error);
    ok = machine && delete_machine(machine, permanently, error);
    ringctl_machine_free(machine);
    return ok;
}
