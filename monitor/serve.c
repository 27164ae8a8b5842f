/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine of the library, from lock to end (see serve.h).
 *
 *   lock          flock'ed as long as the monitor lives; holds its pid
 *   monitor.log   what it says
 *   suspend.state a suspended machine; removed only when it has been restored, and before the guest
 *                 runs on, because its disks would not fit any more
 *
 * What the user must know about a failed start is said on standard error too: whoever started this
 * process passes it on.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "control.h"
#include "lock.h"
#include "log.h"
#include "net/net.h"
#include "options.h"
#include "serve.h"
#include "serve_usb.h"
#include "sound/audio.h"
#include "status.h"

#define STATE_FILE "suspend.state"
#define LOG_FILE   "monitor.log"

struct serve {
    GMainLoop *loop;
    char *folder, *id, *state_path;
    RsSettings *settings;
    GStringChunk *arena;
    struct machine_config config;
    struct machine *machine;
    struct control *control;
    struct serve_usb *usb;
    int lock, status;
    bool suspending, logging;
    char *exit; /* how it ended, for the clients */
    const char *engine_options;
};

static bool fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error) {
        *error = g_error_new_valist(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE, format, args);
    }
    va_end(args);
    return false;
}

/* State, as clients see it */

static const char *state_name(enum machine_state state)
{
    switch (state) {
    case MACHINE_OFF:
        return "off";
    case MACHINE_RUNNING:
        return "running";
    case MACHINE_PAUSED:
        return "paused";
    case MACHINE_SUSPENDING:
        return "suspending";
    case MACHINE_CRASHED:
        return "crashed";
    case MACHINE_IO_ERROR:
        return "io-error";
    }
    return "off";
}

static void publish_state(struct serve *s)
{
    enum machine_state state = s->suspending ? MACHINE_SUSPENDING : machine_state(s->machine);
    const char *message = machine_problem(s->machine);

    message = message ? message : machine_warning(s->machine);

    if (state == MACHINE_CRASHED) {
        message = "The guest's processor has stopped (triple fault). Reset the machine or power it "
                  "off.";
    }
    if (s->control && state != MACHINE_OFF) {
        control_set_state(s->control, state_name(state), message ? message : "",
                          state == MACHINE_RUNNING);
    }
}

static void state_changed(void *opaque, enum machine_state state)
{
    struct serve *s = opaque;

    log_message("machine %s", state_name(state));
    publish_state(s);
}

static void end(struct serve *s, const char *exit, int status)
{
    if (!s->exit) {
        s->exit = g_strdup(exit);
        s->status = status;
    }
    g_main_loop_quit(s->loop);
}

static void guest_exit(void *opaque, enum machine_exit why, unsigned code)
{
    struct serve *s = opaque;
    g_autofree char *debug = NULL;

    switch (why) {
    case MACHINE_EXIT_POWER_OFF:
        end(s, "poweroff", STATUS_POWER_OFF);
        break;
    case MACHINE_EXIT_DEBUG:
        debug = g_strdup_printf("debug-exit:%u", code & 0xff);
        end(s, debug, (int)(code & 0xff));
        break;
    case MACHINE_EXIT_RESET:
        end(s, "poweroff", STATUS_RESET);
        break;
    case MACHINE_EXIT_TRIPLE_FAULT: /* stays, so that its screen can be looked at */
        break;
    }
}

static gboolean terminated(gpointer opaque)
{
    struct serve *s = opaque;

    log_message("asked to end by a signal");
    end(s, "killed", STATUS_INTERRUPTED);
    return G_SOURCE_CONTINUE;
}

/* What clients ask for */

static bool ready(const struct serve *s, GError **error)
{
    return (!s->suspending && !s->exit) || fail(error, "The machine is just ending.");
}

static bool serve_pause(void *opaque, GError **error)
{
    struct serve *s = opaque;

    if (!ready(s, error)) {
        return false;
    }
    if (machine_state(s->machine) != MACHINE_RUNNING) {
        return machine_state(s->machine) == MACHINE_PAUSED ||
               fail(error, "The machine does not run, so it cannot be paused.");
    }
    machine_pause(s->machine);
    return true;
}

static bool serve_resume(void *opaque, GError **error)
{
    struct serve *s = opaque;
    enum machine_state state;

    if (!ready(s, error)) {
        return false;
    }
    state = machine_state(s->machine);
    if (state != MACHINE_PAUSED && state != MACHINE_IO_ERROR) {
        return state == MACHINE_RUNNING || fail(error, "The machine is not paused.");
    }
    machine_resume(s->machine);
    return true;
}

static bool serve_suspend(void *opaque, GError **error)
{
    struct serve *s = opaque;
    bool running, ok;

    if (!ready(s, error)) {
        return false;
    }
    running = machine_state(s->machine) == MACHINE_RUNNING;
    if (machine_state(s->machine) == MACHINE_CRASHED) {
        return fail(error, "The machine has crashed; reset it or power it off.");
    }
    s->suspending = true;
    machine_pause(s->machine);
    publish_state(s);
    ok = machine_save(s->machine, s->state_path, error);
    s->suspending = false;
    if (ok) {
        log_message("suspended to %s", s->state_path);
        end(s, "suspended", STATUS_POWER_OFF);
    } else if (running && !s->exit) {
        machine_resume(s->machine);
    } else {
        publish_state(s);
    }
    return ok;
}

static bool serve_reset(void *opaque, GError **error)
{
    struct serve *s = opaque;

    if (!ready(s, error)) {
        return false;
    }
    machine_reset(s->machine);
    return true;
}

static bool serve_shut_down(void *opaque, GError **error)
{
    struct serve *s = opaque;

    if (!ready(s, error)) {
        return false;
    }
    if (machine_state(s->machine) != MACHINE_RUNNING) {
        return fail(error, "The machine does not run, so its guest cannot shut down.");
    }
    machine_power_button(s->machine);
    return true;
}

static bool serve_power_off(void *opaque, GError **error)
{
    struct serve *s = opaque;

    if (!ready(s, error)) {
        return false;
    }
    machine_power_off(s->machine);
    end(s, "poweroff", STATUS_POWER_OFF);
    return true;
}

/* machine.ini remembers the disc, so that a suspended machine finds it again. Read afresh: others
 * may have written it meanwhile. */
static void remember_medium(struct serve *s, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) settings = settings_load(s->folder, &error);

    if (settings) {
        g_free(settings->cdrom);
        settings->cdrom = g_strdup(path);
        settings->has_cdrom = true;
        settings_save(settings, s->folder, &error);
    }
    if (error) {
        log_message("the disc in the drive cannot be remembered: %s", error->message);
    }
}

static bool change_medium(struct serve *s, const char *path, bool force, GError **error)
{
    if (!ready(s, error) || (path && !block_iso_check(path, error)) ||
        !machine_change_cdrom(s->machine, path, force, error)) {
        return false;
    }
    control_set_medium(s->control, path);
    remember_medium(s, path);
    return true;
}

static bool serve_insert(void *opaque, const char *path, GError **error)
{
    return change_medium(opaque, path, false, error);
}

static bool serve_eject(void *opaque, bool force, GError **error)
{
    return change_medium(opaque, NULL, force, error);
}

static void publish_network(struct serve *s)
{
    struct net *net = machine_network(s->machine);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    bool plugged = false;

    if (net) {
        machine_lock();
        plugged = net_link(net);
        for (unsigned i = 0; i < net_forwards(net)->len; i++) {
            g_ptr_array_add(list, g_strdup(net_forwards(net)->pdata[i]));
        }
        machine_unlock();
    }
    g_ptr_array_add(list, NULL);
    control_set_network(s->control, net ? net_mode(net) : NULL, plugged,
                        (const char *const *)list->pdata);
}

/* As remember_medium(). */
static void remember_network(struct serve *s)
{
    struct net *net = machine_network(s->machine);
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) settings = settings_load(s->folder, &error);
    g_autoptr(GPtrArray) list = g_ptr_array_new();

    if (settings) {
        g_ptr_array_extend(list, net_forwards(net), NULL, NULL);
        g_ptr_array_add(list, NULL);
        settings->cable = net_link(net);
        settings_set_forwards(settings, (const char *const *)list->pdata);
        settings_save(settings, s->folder, &error);
    }
    if (error) {
        log_message("the network's settings cannot be kept: %s", error->message);
    }
}

static struct net *ready_network(struct serve *s, GError **error)
{
    struct net *net = ready(s, error) ? machine_network(s->machine) : NULL;

    if (!net && !s->suspending && !s->exit) {
        fail(error, "The machine has no network card; it can get one while it is off.");
    }
    return net;
}

static bool serve_set_cable(void *opaque, bool plugged, GError **error)
{
    struct serve *s = opaque;
    struct net *net = ready_network(s, error);

    if (!net) {
        return false;
    }
    machine_lock();
    net_plug(net, plugged);
    machine_unlock();
    log_message("the network cable is %s", plugged ? "plugged in" : "pulled out");
    remember_network(s);
    publish_network(s);
    return true;
}

static bool serve_forward(void *opaque, const char *spec, bool add, GError **error)
{
    struct serve *s = opaque;
    struct net *net = ready_network(s, error);
    bool ok;

    if (!net) {
        return false;
    }
    machine_lock();
    ok = add ? net_forward_add(net, spec, error) : net_forward_remove(net, spec, error);
    machine_unlock();
    if (ok) {
        log_message("port forward %s %s", spec, add ? "added" : "removed");
        remember_network(s);
        publish_network(s);
    }
    return ok;
}

static bool serve_capture(void *opaque, int fd, GError **error)
{
    struct net *net = ready_network(opaque, error);
    bool ok = net != NULL;

    if (!net) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    machine_lock();
    ok = fd >= 0 ? net_capture_into(net, fd, error) : net_capture(net, NULL, error);
    machine_unlock();
    if (ok) {
        log_message("packets are %s", fd >= 0 ? "captured" : "not captured any more");
    }
    return ok;
}

static void serve_counters(void *opaque, GVariantBuilder *out)
{
    struct serve *s = opaque;
    struct audio *audio = machine_audio(s->machine);
    struct net *net = machine_network(s->machine);
    struct audio_counters sound = {0};
    struct net_counters packets = {0};

    machine_lock();
    if (audio) {
        audio_counters(audio, &sound);
    }
    if (net) {
        net_counters(net, &packets);
    }
    machine_unlock();
    if (audio) {
        g_variant_builder_add(out, "{st}", "sound-played", sound.played);
        g_variant_builder_add(out, "{st}", "sound-recorded", sound.recorded);
        g_variant_builder_add(out, "{st}", "sound-gaps", sound.underruns);
        g_variant_builder_add(out, "{st}", "sound-losses", sound.overruns);
    }
    if (net) {
        g_variant_builder_add(out, "{st}", "network-sent", packets.sent);
        g_variant_builder_add(out, "{st}", "network-received", packets.received);
        g_variant_builder_add(out, "{st}", "network-dropped", packets.dropped);
    }
}

static void usb_changed(void *opaque)
{
    struct serve *s = opaque;

    serve_usb_publish(s->usb, s->control);
}

static bool usb_ready(struct serve *s, control_done done, void *data)
{
    g_autoptr(GError) error = NULL;

    if (ready(s, &error)) {
        return true;
    }
    done(data, error);
    return false;
}

static void serve_attach_usb(void *opaque, const struct control_usb *device, int fd,
                             control_done done, void *data)
{
    struct serve *s = opaque;

    if (usb_ready(s, done, data)) {
        serve_usb_attach(s->usb, device, fd, done, data);
    } else {
        close(fd);
    }
}

static void serve_detach_usb(void *opaque, const char *port, control_done done, void *data)
{
    struct serve *s = opaque;

    if (usb_ready(s, done, data)) {
        serve_usb_detach(s->usb, port, done, data);
    }
}

static bool serve_plug_pad(void *opaque, unsigned pad, GError **error)
{
    struct serve *s = opaque;

    if (!ready(s, error) || !machine_plug_pad(s->machine, pad, error)) {
        return false;
    }
    log_message("game pad %u is plugged in", pad);
    return true;
}

static void serve_unplug_pad(void *opaque, unsigned pad)
{
    struct serve *s = opaque;

    machine_unplug_pad(s->machine, pad);
    log_message("game pad %u is unplugged", pad);
}

static void serve_set_pad(void *opaque, unsigned pad, const struct input_pad *state)
{
    machine_set_pad(((struct serve *)opaque)->machine, pad, state);
}

static const struct control_ops serve_ops = {
    .pause = serve_pause,
    .resume = serve_resume,
    .suspend = serve_suspend,
    .reset = serve_reset,
    .shut_down = serve_shut_down,
    .power_off = serve_power_off,
    .insert_medium = serve_insert,
    .eject_medium = serve_eject,
    .set_cable = serve_set_cable,
    .forward = serve_forward,
    .capture = serve_capture,
    .counters = serve_counters,
    .attach_usb = serve_attach_usb,
    .detach_usb = serve_detach_usb,
    .plug_pad = serve_plug_pad,
    .unplug_pad = serve_unplug_pad,
    .set_pad = serve_set_pad,
};

/* The start */

static bool lock_take(struct serve *s, GError **error)
{
    g_autofree char *path = g_build_filename(s->folder, "lock", NULL);
    char pid[32] = "";

    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0) {
        return fail(error, "Cannot open %s: %s.", path, g_strerror(errno));
    }
    if (flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = pread(s->lock, pid, sizeof pid - 1, 0);
        pid[MAX(n, 0)] = 0;
        return fail(error, "The machine is already running under pid %s.", g_strstrip(pid));
    }
    g_snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    return (ftruncate(s->lock, 0) == 0 && pwrite(s->lock, pid, strlen(pid), 0) > 0) ||
           fail(error, "Cannot write %s: %s.", path, g_strerror(errno));
}

/* The disc is gone: say so, and start without. */
static void check_medium(struct serve *s)
{
    if (s->config.cdrom && access(s->config.cdrom, R_OK) < 0) {
        log_message("the disc image %s cannot be read: %s; the drive is empty", s->config.cdrom,
                    g_strerror(errno));
        s->config.cdrom = NULL;
    }
}

static bool load(struct serve *s, GError **error)
{
    g_autofree char *log = g_build_filename(s->folder, LOG_FILE, NULL);

    if (!(s->settings = settings_load(s->folder, error)) || !lock_take(s, error) ||
        !(s->logging = log_open(log, error)) ||
        !options_from_settings(&s->config, s->settings, s->folder, s->arena, error)) {
        return false;
    }
    s->config.engine_options = s->engine_options;
    return true;
}

static const char *serial_shown(const struct serve *s, unsigned port)
{
    const char *pty = machine_serial_path(s->machine, port), *spec = s->config.serial[port];

    if (pty) {
        return pty;
    }
    return spec && g_str_has_prefix(spec, "file:") ? spec + 5 : "";
}

static bool create(struct serve *s, GError **error)
{
    struct machine_listener listener = {state_changed, guest_exit, s};

    check_medium(s);
    if (s->config.cdrom && !block_iso_check(s->config.cdrom, error)) {
        return false;
    }
    s->machine = machine_new(&s->config, error);
    if (s->machine) {
        machine_set_listener(s->machine, &listener);
    }
    return s->machine != NULL;
}

static bool serve(struct serve *s, GError **error)
{
    g_autofree char *socket = control_socket_path(s->id);
    struct control_config config = {
        .socket = socket,
        .id = s->id,
        .name = s->settings->name,
        .engine = machine_engine_name(s->machine),
        .engine_reason = machine_engine_reason(s->machine),
        .serial = serial_shown(s, 0),
        .serial2 = serial_shown(s, 1),
        .input = machine_input(s->machine),
        .screen = machine_screen(s->machine),
        .ops = &serve_ops,
        .opaque = s,
    };

    s->usb = serve_usb_new(s->machine, usb_changed, s);
    s->control = control_new(&config, error);
    if (s->control) {
        control_set_medium(s->control, s->config.cdrom);
        publish_network(s);
    }
    return s->control != NULL;
}

static bool restore(struct serve *s, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!machine_restore(s->machine, s->state_path, &why)) {
        return fail(error,
                    "The suspended machine cannot go on: %s. The file is kept; delete it to start "
                    "the machine afresh.",
                    why ? why->message : "its state cannot be used");
    }
    log_message("restored from %s", s->state_path);
    return true;
}

static bool go(struct serve *s, bool restored, GError **error)
{
    if (!restored) {
        return machine_start(s->machine, error);
    }
    if (unlink(s->state_path) < 0) {
        return fail(error, "%s cannot be removed: %s.", s->state_path, g_strerror(errno));
    }
    machine_resume(s->machine);
    return true;
}

static bool start(struct serve *s, GError **error)
{
    bool suspended = access(s->state_path, F_OK) == 0;

    if (!load(s, error)) {
        return false;
    }
    log_message("%s starts", s->settings->name);
    if (!create(s, error) || (suspended && !restore(s, error)) || !serve(s, error)) {
        return false;
    }
    g_unix_signal_add(SIGINT, terminated, s);
    g_unix_signal_add(SIGTERM, terminated, s);
    g_unix_signal_add(SIGHUP, terminated, s);
    return go(s, suspended, error);
}

/* The disks are flushed and closed and the lock is free before anybody hears of the end: whoever
 * does may start the machine again at once. */
static void finish(struct serve *s)
{
    if (s->control) {
        control_detach(s->control);
    }
    serve_usb_free(s->usb);
    machine_free(s->machine);
    if (s->lock >= 0) {
        close(s->lock);
    }
    if (s->control && s->exit) {
        control_end(s->control, s->exit);
    }
    control_free(s->control);
}

/* Standard error may be the log already. */
static void report(struct serve *s, const GError *error)
{
    g_autofree char *log = g_build_filename(s->folder, LOG_FILE, NULL);
    struct stat a, b;

    log_message("%s", error->message);
    if (s->logging && !(stat(log, &a) == 0 && fstat(STDERR_FILENO, &b) == 0 &&
                        a.st_dev == b.st_dev && a.st_ino == b.st_ino)) {
        fprintf(stderr, "ringside-monitor: %s\n", error->message);
    }
}

int serve_machine(const char *folder, const char *engine_options)
{
    g_autoptr(GError) error = NULL;
    struct serve s = {.lock = -1, .status = STATUS_FAILED, .engine_options = engine_options};

    setsid(); /* a life of its own; fails harmlessly for a shell's job */
    s.loop = g_main_loop_new(NULL, FALSE);
    s.folder = g_canonicalize_filename(folder, NULL);
    s.id = g_path_get_basename(s.folder);
    s.state_path = g_build_filename(s.folder, STATE_FILE, NULL);
    s.arena = g_string_chunk_new(1024);
    if (start(&s, &error)) {
        if (!s.exit) {
            g_main_loop_run(s.loop);
        }
        log_message("machine ended: %s", s.exit);
    } else {
        report(&s, error);
    }
    finish(&s);
    g_clear_pointer(&s.settings, settings_free);
    g_string_chunk_free(s.arena);
    g_main_loop_unref(s.loop);
    g_free(s.folder);
    g_free(s.id);
    g_free(s.state_path);
    g_free(s.exit);
    return s.status;
}
