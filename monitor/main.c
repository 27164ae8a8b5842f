/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringside-monitor: runs one machine in the foreground.
 *
 * Exit status: 0 the guest powered itself off, (v << 1) | 1 it wrote v to the debug exit port, 100
 * it reset
 * (--no-reboot), 101 triple fault, 1 it could not be started, 130 interrupted.
 */
#include <glib-unix.h>
#include <gio/gio.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>

#include "log.h"
#include "machine.h"

#define STATUS_FAILED       1
#define STATUS_RESET        100
#define STATUS_TRIPLE_FAULT 101
#define STATUS_INTERRUPTED  130

struct options {
    struct machine_config config;
    int memory_mib, cpus;
    gboolean snapshot, readonly, debug_exit, no_reboot;
    char **disks, *name, *engine, *engine_options, *kernel, *initrd, *append, *firmware, *cdrom,
        *boot, *serial, *debugcon, *log;
};

struct run {
    GMainLoop *loop;
    int status;
};

static bool options_finish(struct options *o, GError **error)
{
    struct machine_config *c = &o->config;

    *c = (struct machine_config){
        .name = o->name,
        .memory_bytes = (uint64_t)MAX(o->memory_mib, 0) << 20,
        .cpus = (unsigned)MAX(o->cpus, 0),
        .engine = o->engine,
        .engine_options = o->engine_options,
        .kernel = o->kernel,
        .initrd = o->initrd,
        .append = o->append,
        .firmware = o->firmware,
        .cdrom = o->cdrom,
        .boot_order = o->boot,
        .serial = o->serial,
        .debugcon = o->debugcon,
        .debug_exit = o->debug_exit,
        .no_reboot = o->no_reboot,
    };
    for (unsigned i = 0; o->disks && o->disks[i]; i++) {
        if (i == MACHINE_MAX_DISKS) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "At most %u disks",
                        MACHINE_MAX_DISKS);
            return false;
        }
        c->disks[c->disk_count++] =
            (struct machine_disk){o->disks[i], o->readonly != FALSE, o->snapshot != FALSE};
    }
    return true;
}

static bool options_parse(struct options *o, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"name", 0, 0, G_OPTION_ARG_STRING, &o->name, "Name of the machine", "NAME"},
        {"memory", 'm', 0, G_OPTION_ARG_INT, &o->memory_mib, "Memory (256)", "MiB"},
        {"cpus", 'c', 0, G_OPTION_ARG_INT, &o->cpus, "CPUs (1)", "N"},
        {"kernel", 'k', 0, G_OPTION_ARG_FILENAME, &o->kernel, "Start this kernel", "FILE"},
        {"initrd", 'i', 0, G_OPTION_ARG_FILENAME, &o->initrd, "Its initial RAM disk", "FILE"},
        {"append", 'a', 0, G_OPTION_ARG_STRING, &o->append, "Its command line", "TEXT"},
        {"disk", 'd', 0, G_OPTION_ARG_FILENAME_ARRAY, &o->disks, "A disk; up to 5 times", "FILE"},
        {"snapshot", 0, 0, G_OPTION_ARG_NONE, &o->snapshot, "Forget writes to disks", NULL},
        {"readonly", 0, 0, G_OPTION_ARG_NONE, &o->readonly, "Disks are read-only", NULL},
        {"cdrom", 0, 0, G_OPTION_ARG_FILENAME, &o->cdrom, "A disc image", "FILE"},
        {"boot", 0, 0, G_OPTION_ARG_STRING, &o->boot, "Boot order: c disk, d disc", "cd"},
        {"engine", 'e', 0, G_OPTION_ARG_STRING, &o->engine, "translate, kvm, driver", "NAME"},
        {"engine-options", 0, 0, G_OPTION_ARG_STRING, &o->engine_options, "Switches", "LIST"},
        {"firmware", 0, 0, G_OPTION_ARG_FILENAME, &o->firmware, "BIOS image", "FILE"},
        {"serial", 's', 0, G_OPTION_ARG_STRING, &o->serial, "stdio, pty, file:PATH", "SPEC"},
        {"debugcon", 0, 0, G_OPTION_ARG_FILENAME, &o->debugcon, "Firmware log", "FILE"},
        {"debug-exit", 0, 0, G_OPTION_ARG_NONE, &o->debug_exit, "Port F4h ends the run", NULL},
        {"no-reboot", 0, 0, G_OPTION_ARG_NONE, &o->no_reboot, "A reset ends the run", NULL},
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &o->log, "Log file", "FILE"},
        {0},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- run a virtual machine");

    o->memory_mib = 256;
    o->cpus = 1;
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, argc, argv, error) && options_finish(o, error);
}

static void options_clear(struct options *o)
{
    char *strings[] = {o->name,     o->engine, o->engine_options, o->kernel, o->initrd,   o->append,
                       o->firmware, o->cdrom,  o->boot,           o->serial, o->debugcon, o->log};

    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_strfreev(o->disks);
}

static void guest_exit(void *opaque, enum machine_exit why, unsigned code)
{
    struct run *run = opaque;

    switch (why) {
    case MACHINE_EXIT_POWER_OFF:
        run->status = 0;
        break;
    case MACHINE_EXIT_DEBUG:
        run->status = (int)(code & 0xff);
        break;
    case MACHINE_EXIT_TRIPLE_FAULT:
        log_message("the guest's CPU shut down (triple fault)");
        run->status = STATUS_TRIPLE_FAULT;
        break;
    case MACHINE_EXIT_RESET:
        run->status = STATUS_RESET;
        break;
    }
    g_main_loop_quit(run->loop);
}

static gboolean interrupted(gpointer opaque)
{
    struct run *run = opaque;

    run->status = STATUS_INTERRUPTED;
    g_main_loop_quit(run->loop);
    return G_SOURCE_CONTINUE;
}

static int machine_run(const struct machine_config *config)
{
    struct run run = {g_main_loop_new(NULL, FALSE), STATUS_FAILED};
    struct machine_listener listener = {.guest_exit = guest_exit, .opaque = &run};
    g_autoptr(GError) error = NULL;
    struct machine *machine = machine_new(config, &error);

    if (machine) {
        machine_set_listener(machine, &listener);
        g_unix_signal_add(SIGINT, interrupted, &run);
        g_unix_signal_add(SIGTERM, interrupted, &run);
        if (machine_start(machine, &error)) {
            g_main_loop_run(run.loop);
        }
    }
    if (error) {
        log_message("%s", error->message);
    }
    machine_free(machine);
    g_main_loop_unref(run.loop);
    return run.status;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    g_autoptr(GError) error = NULL;
    int status = STATUS_FAILED;

    setlocale(LC_ALL, "");
    g_set_prgname("ringside-monitor");
    signal(SIGPIPE, SIG_IGN);
    if (!options_parse(&options, &argc, &argv, &error) ||
        (options.log && !log_open(options.log, &error))) {
        log_message("%s", error->message);
    } else {
        status = machine_run(&options.config);
    }
    options_clear(&options);
    return status;
}
