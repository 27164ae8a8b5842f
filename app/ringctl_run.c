/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run: a throw-away machine in the foreground. Becomes ringside-monitor, whose exit status is then
 * ours (monitor/status.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringctl.h"

#define START_FAILED 103

struct run {
    char *kernel, *initrd, *append, *cdrom, *memory, *cpus, *engine, *screenshot, *after, *timeout,
        *engine_options, *boot, *network, *card, *capture, *sound, *video;
    char **disks, **usb_disks, **serial, **forwards;
    gboolean snapshot, debug_exit, no_reboot, profile, usb_keyboard;
};

static bool run_parse(struct run *r, const struct ringctl_command *command, int *argc, char ***argv,
                      GError **error)
{
    const GOptionEntry entries[] = {
        {"kernel", 0, 0, G_OPTION_ARG_FILENAME, &r->kernel, "A bzImage or a PVH vmlinux", "FILE"},
        {"initrd", 0, 0, G_OPTION_ARG_FILENAME, &r->initrd, "Its initial RAM disk", "FILE"},
        {"append", 0, 0, G_OPTION_ARG_STRING, &r->append, "Its command line", "TEXT"},
        {"cdrom", 0, 0, G_OPTION_ARG_FILENAME, &r->cdrom, "A disc image", "FILE"},
        {"disk", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &r->disks, "A disk; up to 5 times", "FILE"},
        {"usb-disk", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &r->usb_disks, "A USB disk; repeatable",
         "FILE"},
        {"usb-keyboard", 0, 0, G_OPTION_ARG_NONE, &r->usb_keyboard,
         "A USB keyboard beside the PS/2 one", NULL},
        {"boot", 0, 0, G_OPTION_ARG_STRING, &r->boot, "Boot order: c disk, d disc", "cd"},
        {"memory", 0, 0, G_OPTION_ARG_STRING, &r->memory, "Memory; a bare number is MiB", "512M"},
        {"cpus", 0, 0, G_OPTION_ARG_STRING, &r->cpus, "Processors", "N"},
        {"engine", 0, 0, G_OPTION_ARG_STRING, &r->engine, "auto, kvm, driver, translate", "NAME"},
        {"engine-options", 0, 0, G_OPTION_ARG_STRING, &r->engine_options, "Its switches", "LIST"},
        {"profile", 0, 0, G_OPTION_ARG_NONE, &r->profile,
         "Say at the end where the processors' time went", NULL},
        {"snapshot", 0, 0, G_OPTION_ARG_NONE, &r->snapshot, "Forget writes to disks", NULL},
        {"serial", 0, 0, G_OPTION_ARG_STRING_ARRAY, &r->serial,
         "stdio, pty or a file; twice: the second port", "stdio"},
        {"network", 0, 0, G_OPTION_ARG_STRING, &r->network,
         "user, isolated, none, tap:NAME, tap:fd=N, bridge:NAME", "none"},
        {"card", 0, 0, G_OPTION_ARG_STRING, &r->card, "Network card: e1000e, virtio", "e1000e"},
        {"forward", 0, 0, G_OPTION_ARG_STRING_ARRAY, &r->forwards,
         "A port of the host for one of the guest; repeatable", "tcp:2222:22"},
        {"capture", 0, 0, G_OPTION_ARG_FILENAME, &r->capture, "All packets into a pcap file",
         "FILE"},
        {"video", 0, 0, G_OPTION_ARG_STRING, &r->video, "Display adapter: vga, virtio", "vga"},
        {"sound", 0, 0, G_OPTION_ARG_STRING, &r->sound, "on, output (no recording), off", "off"},
        {"screenshot", 0, 0, G_OPTION_ARG_FILENAME, &r->screenshot,
         "Write the screen at the end of the run", "FILE.png"},
        {"after", 0, 0, G_OPTION_ARG_STRING, &r->after,
         "Take the picture then and end the run, status 0", "SECONDS"},
        {"timeout", 0, 0, G_OPTION_ARG_STRING, &r->timeout, "End the run then, status 102",
         "SECONDS"},
        {"debug-exit", 0, 0, G_OPTION_ARG_NONE, &r->debug_exit, "With the debug exit port (F4h)",
         NULL},
        {"no-reboot", 0, 0, G_OPTION_ARG_NONE, &r->no_reboot, "A reset ends the run, status 100",
         NULL},
        {0}};

    return ringctl_parse(command, entries, argc, argv, 0, 0, error);
}

static void add(GPtrArray *args, const char *option, const char *value)
{
    if (value) {
        g_ptr_array_add(args, g_strdup(option));
        g_ptr_array_add(args, g_strdup(value));
    }
}

static void add_flag(GPtrArray *args, const char *option, bool set)
{
    if (set) {
        g_ptr_array_add(args, g_strdup(option));
    }
}

/* "1G", "512M", "512" to MiB. */
static char *memory_in_mib(const char *text)
{
    char *end;
    guint64 n = g_ascii_strtoull(text, &end, 10);

    if (g_ascii_toupper(*end) == 'G' && !end[1]) {
        return g_strdup_printf("%" G_GUINT64_FORMAT, n << 10);
    }
    if (g_ascii_toupper(*end) == 'M' && !end[1]) {
        return g_strdup_printf("%" G_GUINT64_FORMAT, n);
    }
    return g_strdup(text);
}

static char *serial_spec(const char *serial)
{
    static const char *const words[] = {"stdio", "pty", "none", NULL};

    if (!serial || g_strv_contains(words, serial) || g_str_has_prefix(serial, "file:")) {
        return g_strdup(serial);
    }
    return g_strconcat("file:", serial, NULL);
}

static void add_all(GPtrArray *args, const struct run *r)
{
    g_autofree char *memory = memory_in_mib(r->memory ? r->memory : "512");

    add(args, "--memory", memory);
    add(args, "--cpus", r->cpus);
    add(args, "--kernel", r->kernel);
    add(args, "--initrd", r->initrd);
    add(args, "--append", r->append);
    add(args, "--cdrom", r->cdrom);
    add(args, "--boot", r->boot);
    add(args, "--engine", r->engine);
    add(args, "--engine-options", r->engine_options);
    add(args, "--network", r->network);
    add(args, "--card", r->card);
    add(args, "--capture", r->capture);
    add(args, "--video", r->video);
    add(args, "--sound", r->sound);
    add(args, "--screenshot", r->screenshot);
    add(args, "--after", r->after);
    add(args, "--timeout", r->timeout);
    add_flag(args, "--snapshot", r->snapshot);
    add_flag(args, "--profile", r->profile);
    add_flag(args, "--debug-exit", r->debug_exit);
    add_flag(args, "--no-reboot", r->no_reboot);
    for (unsigned i = 0; r->serial && r->serial[i]; i++) {
        g_autofree char *serial = serial_spec(r->serial[i]);
        add(args, "--serial", serial);
    }
    for (unsigned i = 0; r->forwards && r->forwards[i]; i++) {
        add(args, "--forward", r->forwards[i]);
    }
    for (unsigned i = 0; r->disks && r->disks[i]; i++) {
        add(args, "--disk", r->disks[i]);
    }
    for (unsigned i = 0; r->usb_disks && r->usb_disks[i]; i++) {
        add(args, "--usb-disk", r->usb_disks[i]);
    }
    add_flag(args, "--usb-keyboard", r->usb_keyboard);
}

static void run_clear(struct run *r)
{
    char *strings[] = {r->kernel,  r->initrd,         r->append,  r->cdrom,      r->memory,
                       r->cpus,    r->engine,         r->after,   r->screenshot, r->boot,
                       r->timeout, r->engine_options, r->network, r->card,       r->capture,
                       r->sound,   r->video};

    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_strfreev(r->disks);
    g_strfreev(r->usb_disks);
    g_strfreev(r->serial);
    g_strfreev(r->forwards);
}

bool ringctl_run(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
    struct run r = {0};
    char *program = NULL;

    if (!run_parse(&r, command, &argc, &argv, error) || !(program = ringctl_find_monitor(error))) {
        fprintf(stderr, "ringctl: %s\n", error && *error ? (*error)->message : "failed");
        run_clear(&r);
        exit(START_FAILED);
    }
    g_ptr_array_add(args, program);
    add_all(args, &r);
    g_ptr_array_add(args, NULL);
    execv(program, (char **)args->pdata);
    fprintf(stderr, "ringctl: %s cannot be started: %s\n", program, g_strerror(errno));
    exit(START_FAILED);
}
