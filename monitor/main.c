/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringside-monitor: runs one machine; --machine FOLDER for one of the library, other options for a
 * throw-away one in the foreground. Exit statuses: status.h.
 */
#include <glib-unix.h>
#include <gio/gio.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "block/block.h"
#include "lock.h"
#include "log.h"
#include "options.h"
#include "picture.h"
#include "serve.h"
#include "status.h"

#define DISK_MAX      (1ull << 46)
#define RETRY_SECONDS 5u

struct run {
    GMainLoop *loop;
    struct machine *machine;
    const struct options *options;
    int status;
};

static bool take_picture(struct run *run)
{
    struct screen *screen = machine_screen(run->machine);
    g_autoptr(GError) error = NULL;

    machine_lock();
    screen_refresh(screen);
    picture_write_png(run->options->screenshot, screen_pixels(screen), screen_width(screen),
                      screen_height(screen), screen_stride(screen), &error);
    machine_unlock();
    if (error) {
        log_message("%s: %s", run->options->screenshot, error->message);
    }
    return !error;
}

static void run_end(struct run *run, int status)
{
    run->status = status;
    g_main_loop_quit(run->loop);
}

static void guest_exit(void *opaque, enum machine_exit why, unsigned code)
{
    struct run *run = opaque;

    switch (why) {
    case MACHINE_EXIT_POWER_OFF:
        run_end(run, STATUS_POWER_OFF);
        break;
    case MACHINE_EXIT_DEBUG:
        run_end(run, (int)(code & 0xff));
        break;
    case MACHINE_EXIT_TRIPLE_FAULT:
        log_message("the guest's CPU shut down (triple fault)");
        run_end(run, STATUS_TRIPLE_FAULT);
        break;
    case MACHINE_EXIT_RESET:
        run_end(run, STATUS_RESET);
        break;
    }
}

static gboolean try_again(gpointer opaque)
{
    machine_resume(((struct run *)opaque)->machine);
    return G_SOURCE_REMOVE;
}

/* Nobody can press Resume here. */
static void state_changed(void *opaque, enum machine_state state)
{
    struct run *run = opaque;

    if (state == MACHINE_IO_ERROR) {
        log_message("%s Trying again every %u seconds.", machine_problem(run->machine),
                    RETRY_SECONDS);
        g_timeout_add_seconds(RETRY_SECONDS, try_again, run);
    }
}

static gboolean interrupted(gpointer opaque)
{
    run_end(opaque, STATUS_INTERRUPTED);
    return G_SOURCE_CONTINUE;
}

static gboolean timed_out(gpointer opaque)
{
    log_message("the time is up");
    run_end(opaque, STATUS_TIME_OUT);
    return G_SOURCE_REMOVE;
}

static gboolean picture_due(gpointer opaque)
{
    run_end(opaque, STATUS_POWER_OFF);
    return G_SOURCE_REMOVE;
}

static void run_prepare(struct run *run)
{
    struct machine_listener listener = {state_changed, guest_exit, run};

    machine_set_listener(run->machine, &listener);
    g_unix_signal_add(SIGINT, interrupted, run);
    g_unix_signal_add(SIGTERM, interrupted, run);
    if (run->options->after > 0) {
        g_timeout_add((guint)(run->options->after * 1000), picture_due, run);
    }
    if (run->options->timeout > 0) {
        g_timeout_add((guint)(run->options->timeout * 1000), timed_out, run);
    }
}

static int run_foreground(const struct options *options)
{
    g_autoptr(GError) error = NULL;
    struct run run = {
        .loop = g_main_loop_new(NULL, FALSE), .options = options, .status = STATUS_FAILED};

    run.machine = machine_new(&options->config, &error);
    if (run.machine) {
        run_prepare(&run);
        if (machine_start(run.machine, &error)) {
            g_main_loop_run(run.loop);
            if (options->screenshot && !take_picture(&run)) {
                run.status = STATUS_FAILED;
            }
        }
    }
    if (error) {
        log_message("%s", error->message);
    }
    machine_free(run.machine);
    g_main_loop_unref(run.loop);
    return run.status;
}

/* "8G", "512M", "65536". 0: not a size. */
static uint64_t parse_size(const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    uint64_t size = g_ascii_strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, g_ascii_toupper(*end)) : NULL;

    if (end == text || (*end && (!unit || end[1]))) {
        return 0;
    }
    for (const char *u = units; unit && u <= unit; u++) {
        size = size > DISK_MAX ? 0 : size << 10;
    }
    return size > DISK_MAX ? 0 : (size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
}

static int create_disk(const struct options *options)
{
    g_autoptr(GError) error = NULL;
    uint64_t size = parse_size(options->size);

    if (!size) {
        log_message("\"%s\" is no size for a disk; give for example 8G (at most 64T).",
                    options->size);
        return STATUS_FAILED;
    }
    if (!block_create_qcow2(options->create_disk, size, &error)) {
        log_message("%s", error->message);
        return STATUS_FAILED;
    }
    return STATUS_POWER_OFF;
}

static int run(const struct options *options)
{
    if (options->version) {
        printf("ringside-monitor %s\n", RINGSIDE_VERSION);
        return STATUS_POWER_OFF;
    }
    if (options->create_disk) {
        return create_disk(options);
    }
    return options->machine ? serve_machine(options->machine, options->engine_options) : run_foreground(options);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    g_autoptr(GError) error = NULL;
    int status = STATUS_FAILED;

    setlocale(LC_ALL, "");
    g_set_prgname("ringside-monitor");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    if (!options_parse(&options, &argc, &argv, &error) ||
        (options.log && !log_open(options.log, &error))) {
        log_message("%s", error->message);
    } else {
        status = run(&options);
    }
    options_clear(&options);
    return status;
}
