/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the command line (see options.h).
 */
#include <string.h>

#include "net/spec.h"
#include "options.h"

#define BOOT_DISK  "disk"
#define BOOT_CDROM "cdrom"

static bool wrong(GError **error, const char *sentence)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, sentence);
    return false;
}

static bool options_serial(struct options *o, GError **error)
{
    unsigned stdio = 0;

    for (unsigned i = 0; o->serial && o->serial[i]; i++) {
        if (i == MACHINE_SERIAL_PORTS) {
            return wrong(error, "A machine has two serial ports.");
        }
        o->config.serial[i] = o->serial[i];
        stdio += strcmp(o->serial[i], "stdio") == 0;
    }
    return stdio < 2 || wrong(error, "Only one serial port can be the terminal.");
}

static bool options_devices(const struct options *o, GError **error)
{
    if (o->network && strcmp(o->network, "none") != 0 && !net_mode_valid(o->network)) {
        return wrong(error,
                     "--network is user, isolated, none, tap:NAME, tap:fd=N or bridge:NAME.");
    }
    if (o->sound && strcmp(o->sound, "on") && strcmp(o->sound, "output") &&
        strcmp(o->sound, "off")) {
        return wrong(error, "--sound is on, output or off.");
    }
    if (o->video && strcmp(o->video, "vga") && strcmp(o->video, "virtio")) {
        return wrong(error, "--video is vga or virtio.");
    }
    return !o->card || !strcmp(o->card, "e1000e") || !strcmp(o->card, "virtio") ||
           wrong(error, "--card is e1000e or virtio.");
}

static bool options_disks(struct options *o, char **paths, bool usb, GError **error)
{
    struct machine_config *c = &o->config;

    for (unsigned i = 0; paths && paths[i]; i++) {
        if (c->disk_count == MACHINE_MAX_DISKS) {
            return wrong(error, "A machine has at most 5 disks.");
        }
        c->disks[c->disk_count++] = (struct machine_disk){
            .path = paths[i], .readonly = o->readonly, .snapshot = o->snapshot, .usb = usb};
    }
    return true;
}

static bool options_finish(struct options *o, GError **error)
{
    struct machine_config *c = &o->config;

    if (o->profile) {
        char *both = o->engine_options ? g_strconcat(o->engine_options, ",profile", NULL)
                                       : g_strdup("profile");
        g_free(o->engine_options);
        o->engine_options = both;
    }
    o->forward_list = o->forwards ? g_strjoinv(",", o->forwards) : NULL;
    *c = (struct machine_config){
        .name = o->name,
        .memory_bytes = (uint64_t)MAX(o->memory_mib, 0) << 20,
        .cpus = (unsigned)MAX(o->cpus, 0),
        .engine = o->engine && strcmp(o->engine, "auto") != 0 ? o->engine : NULL,
        .engine_options = o->engine_options,
        .kernel = o->kernel,
        .initrd = o->initrd,
        .append = o->append,
        .firmware = o->firmware,
        .cdrom = o->cdrom,
        .boot_order = o->boot,
        .debugcon = o->debugcon,
        .network = {.mode = o->network && strcmp(o->network, "none") != 0 ? o->network : NULL,
                    .card = o->card,
                    .mac = o->mac,
                    .forwards = o->forward_list,
                    .capture = o->capture,
                    .unplugged = o->unplugged},
        .video = o->video,
        .sound = o->sound && strcmp(o->sound, "off") != 0 ? o->sound : NULL,
        .debug_exit = o->debug_exit,
        .no_reboot = o->no_reboot,
        .usb_keyboard = o->usb_keyboard,
        .usb_hub = o->usb_hub,
    };
    if (!options_disks(o, o->disks, false, error) || !options_disks(o, o->usb_disks, true, error) ||
        !options_serial(o, error) || !options_devices(o, error)) {
        return false;
    }
    if (o->after < 0 || o->timeout < 0) {
        return wrong(error, "A time cannot be negative.");
    }
    return !o->after || o->screenshot || wrong(error, "--after belongs to --screenshot.");
}

static void add_machine_entries(GOptionContext *context, struct options *o)
{
    const GOptionEntry entries[] = {
        {"name", 0, 0, G_OPTION_ARG_STRING, &o->name, "Name of the machine", "NAME"},
        {"memory", 'm', 0, G_OPTION_ARG_INT, &o->memory_mib, "Memory (256)", "MiB"},
        {"cpus", 'c', 0, G_OPTION_ARG_INT, &o->cpus, "CPUs (1)", "N"},
        {"kernel", 'k', 0, G_OPTION_ARG_FILENAME, &o->kernel, "Start this kernel", "FILE"},
        {"initrd", 'i', 0, G_OPTION_ARG_FILENAME, &o->initrd, "Its initial RAM disk", "FILE"},
        {"append", 'a', 0, G_OPTION_ARG_STRING, &o->append, "Its command line", "TEXT"},
        {"disk", 'd', 0, G_OPTION_ARG_FILENAME_ARRAY, &o->disks, "A disk; up to 5 times", "FILE"},
        {"usb-disk", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o->usb_disks, "A USB disk; repeatable",
         "FILE"},
        {"usb-keyboard", 0, 0, G_OPTION_ARG_NONE, &o->usb_keyboard,
         "A USB keyboard beside the PS/2 one", NULL},
        {"usb-hub", 0, 0, G_OPTION_ARG_NONE, &o->usb_hub,
         "A USB hub, with tablet and keyboard behind it", NULL},
        {"snapshot", 0, 0, G_OPTION_ARG_NONE, &o->snapshot, "Forget writes to disks", NULL},
        {"readonly", 0, 0, G_OPTION_ARG_NONE, &o->readonly, "Disks are read-only", NULL},
        {"cdrom", 0, 0, G_OPTION_ARG_FILENAME, &o->cdrom, "A disc image", "FILE"},
        {"boot", 0, 0, G_OPTION_ARG_STRING, &o->boot, "Boot order: c disk, d disc", "cd"},
        {"engine", 'e', 0, G_OPTION_ARG_STRING, &o->engine, "auto, translate, kvm, driver", "NAME"},
        {"engine-options", 0, 0, G_OPTION_ARG_STRING, &o->engine_options, "Switches", "LIST"},
        {"profile", 0, 0, G_OPTION_ARG_NONE, &o->profile,
         "Say at the end where the processors' time went", NULL},
        {"firmware", 0, 0, G_OPTION_ARG_FILENAME, &o->firmware, "BIOS image", "FILE"},
        {"serial", 's', 0, G_OPTION_ARG_STRING_ARRAY, &o->serial,
         "stdio, pty, file:PATH; twice: COM1, COM2", "SPEC"},
        {"network", 0, 0, G_OPTION_ARG_STRING, &o->network,
         "user, isolated, tap:NAME, tap:fd=N, bridge:NAME (none)", "MODE"},
        {"card", 0, 0, G_OPTION_ARG_STRING, &o->card, "Network card: e1000e, virtio", "NAME"},
        {"mac", 0, 0, G_OPTION_ARG_STRING, &o->mac, "Its address (random)", "ADDRESS"},
        {"forward", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o->forwards,
         "A port of the host for one of the guest; repeatable", "tcp:2222:22"},
        {"capture", 0, 0, G_OPTION_ARG_FILENAME, &o->capture, "All packets into a pcap file",
         "FILE"},
        {"unplugged", 0, 0, G_OPTION_ARG_NONE, &o->unplugged, "The network cable is not plugged in",
         NULL},
        {"video", 0, 0, G_OPTION_ARG_STRING, &o->video, "Display adapter: vga, virtio (vga)",
         "NAME"},
        {"sound", 0, 0, G_OPTION_ARG_STRING, &o->sound, "on, output (no recording), off (off)",
         "MODE"},
        {"debugcon", 0, 0, G_OPTION_ARG_FILENAME, &o->debugcon, "Firmware log", "FILE"},
        {"debug-exit", 0, 0, G_OPTION_ARG_NONE, &o->debug_exit, "Port F4h ends the run", NULL},
        {"no-reboot", 0, 0, G_OPTION_ARG_NONE, &o->no_reboot, "A reset ends the run", NULL},
        {0},
    };

    g_option_context_add_main_entries(context, entries, NULL);
}

static void add_run_entries(GOptionContext *context, struct options *o)
{
    const GOptionEntry entries[] = {
        {"machine", 0, 0, G_OPTION_ARG_FILENAME, &o->machine,
         "Run the machine in this folder and serve its socket", "FOLDER"},
        {"create-disk", 0, 0, G_OPTION_ARG_FILENAME, &o->create_disk,
         "Make an empty qcow2 image; its size (8G) follows", "FILE"},
        {"screenshot", 0, 0, G_OPTION_ARG_FILENAME, &o->screenshot,
         "Write the screen as PNG, at the end or after --after", "FILE"},
        {"after", 0, 0, G_OPTION_ARG_DOUBLE, &o->after,
         "Take the picture then and end the run, status 0", "SECONDS"},
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &o->timeout, "End the run then, status 102",
         "SECONDS"},
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &o->log, "Log file", "FILE"},
        {"version", 0, 0, G_OPTION_ARG_NONE, &o->version, "Say the version and end", NULL},
        {0},
    };

    g_option_context_add_main_entries(context, entries, NULL);
}

bool options_parse(struct options *o, int *argc, char ***argv, GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new("[SIZE] - run a virtual machine");

    o->memory_mib = 256;
    o->cpus = 1;
    add_run_entries(context, o);
    add_machine_entries(context, o);
    if (!g_option_context_parse(context, argc, argv, error)) {
        return false;
    }
    if (o->create_disk && *argc == 2) {
        o->size = g_strdup((*argv)[1]);
    } else if (o->create_disk || *argc != 1) {
        return wrong(error, o->create_disk ? "--create-disk FILE needs a SIZE, such as 8G."
                                           : "There are arguments too many; see --help.");
    }
    return options_finish(o, error);
}

void options_clear(struct options *o)
{
    char *strings[] = {o->machine, o->create_disk, o->size,   o->log,     o->screenshot,
                       o->name,    o->engine,      o->kernel, o->initrd,  o->engine_options,
                       o->append,  o->firmware,    o->cdrom,  o->boot,    o->debugcon,
                       o->network, o->card,        o->mac,    o->capture, o->forward_list,
                       o->sound,   o->video};

    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_strfreev(o->disks);
    g_strfreev(o->usb_disks);
    g_strfreev(o->serial);
    g_strfreev(o->forwards);
}

/* From machine.ini */

static const char *keep(GStringChunk *arena, const char *text)
{
    return text && *text ? g_string_chunk_insert(arena, text) : NULL;
}

static const char *keep_path(GStringChunk *arena, const char *folder, const char *path)
{
    g_autofree char *whole = path && *path ? g_canonicalize_filename(path, folder) : NULL;

    return keep(arena, whole);
}

static const char *keep_serial(GStringChunk *arena, const char *folder, const char *serial)
{
    g_autofree char *spec = NULL;

    if (!serial || !g_str_has_prefix(serial, "file:")) {
        return keep(arena, serial);
    }
    spec = g_strconcat("file:", keep_path(arena, folder, serial + 5), NULL);
    return keep(arena, spec);
}

/* "disk,cdrom" to "cd". */
static const char *keep_boot_order(GStringChunk *arena, const char *order)
{
    g_auto(GStrv) words = g_strsplit(order ? order : "", ",", -1);
    g_autoptr(GString) letters = g_string_new(NULL);

    for (unsigned i = 0; words[i]; i++) {
        const char *word = g_strstrip(words[i]);
        if (strcmp(word, BOOT_DISK) == 0) {
            g_string_append_c(letters, 'c');
        } else if (strcmp(word, BOOT_CDROM) == 0) {
            g_string_append_c(letters, 'd');
        }
    }
    return keep(arena, letters->str);
}

static void network_from_settings(struct machine_network *n, const struct settings *s,
                                  GStringChunk *arena)
{
    g_autofree char *mac = settings_mac(s);

    if (strcmp(s->network, "none") != 0) {
        *n = (struct machine_network){
            .mode = keep(arena, s->network),
            .card = keep(arena, s->card),
            .mac = keep(arena, mac),
            .forwards = net_mode_forwards(s->network) ? keep(arena, s->forwards) : NULL,
            .unplugged = !s->cable,
        };
    }
}

bool options_from_settings(struct machine_config *c, const struct settings *s, const char *folder,
                           GStringChunk *arena, GError **error)
{
    *c = (struct machine_config){
        .name = keep(arena, s->name),
        .uuid = keep(arena, s->uuid),
        .memory_bytes = s->memory_mib << 20,
        .cpus = s->processors,
        .engine = g_strcmp0(s->engine, "auto") != 0 ? keep(arena, s->engine) : NULL,
        .kernel = keep_path(arena, folder, s->kernel),
        .initrd = keep_path(arena, folder, s->initrd),
        .append = keep(arena, s->append),
        .cdrom = s->has_cdrom ? keep_path(arena, folder, s->cdrom) : NULL,
        .boot_order = keep_boot_order(arena, s->boot_order),
        .serial = {keep_serial(arena, folder, s->serial), keep_serial(arena, folder, s->serial2)},
        .video = keep(arena, s->video),
        .sound = strcmp(s->sound, "off") != 0 ? keep(arena, s->sound) : NULL,
        .debug_exit = s->debug_exit,
        .usb_keyboard = s->usb_keyboard,
    };
    network_from_settings(&c->network, s, arena);
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        const struct settings_disk *disk = &s->disk[i];
        if (disk->path) {
            c->disks[c->disk_count++] =
                (struct machine_disk){.path = keep_path(arena, folder, disk->path),
                                      .readonly = disk->read_only,
                                      .usb = disk->usb,
                                      .raw = g_strcmp0(disk->format, "raw") == 0};
        }
    }
    if (g_strcmp0(s->firmware, "uefi") == 0 && !c->kernel) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "%s: this version has no UEFI firmware yet; set firmware=bios.", SETTINGS_FILE);
        return false;
    }
    return true;
}
