/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's life: start, stop, pause, resume, suspend, reset, wait.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ringctl.h"

#define POLL_US       20000
#define START_SECONDS 300
#define END_SECONDS   60

/* Starting a monitor */

struct launch {
    GPid pid;
    int complaints; /* an unlinked file that is its standard error */
};

static void own_session(gpointer opaque)
{
    setsid();
}

static bool launch(struct launch *l, const char *folder, GError **error)
{
    g_autofree char *program = ringctl_find_monitor(error);
    g_autofree char *path = NULL;
    char *argv[] = {program, (char *)"--machine", (char *)folder, NULL};

    if (!program || (l->complaints = g_file_open_tmp(NULL, &path, error)) < 0) {
        return false;
    }
    unlink(path);
    return g_spawn_async_with_fds(NULL, argv, NULL,
                                  G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                  own_session, NULL, &l->pid, -1, -1, l->complaints, error);
}

static bool launch_failed(struct launch *l, GError **error)
{
    char text[2048];
    ssize_t n = pread(l->complaints, text, sizeof text - 1, 0);
    const char *said = text;

    text[MAX(n, 0)] = 0;
    g_strchomp(text);
    if (g_str_has_prefix(said, "ringside-monitor: ")) {
        said += strlen("ringside-monitor: ");
    }
    return ringctl_fail(error,
                        strstr(said, "already running") ? RINGCTL_WRONG_STATE : RINGCTL_FAILED,
                        "%s", *said ? said : "The monitor ended before the machine had started.");
}

/* It listens, or it has ended. */
static bool launch_wait(struct launch *l, const char *id, GError **error)
{
    gint64 end = g_get_monotonic_time() + START_SECONDS * G_USEC_PER_SEC;

    for (;;) {
        int status;
        g_autoptr(GDBusConnection) connection = NULL;
        if (waitpid(l->pid, &status, WNOHANG) == l->pid) {
            struct stat st;
            if (WIFEXITED(status) && WEXITSTATUS(status) != 103 &&
                (fstat(l->complaints, &st) < 0 || !st.st_size)) {
                return true; /* a very short life */
            }
            return launch_failed(l, error);
        }
        if ((connection = ringctl_connect(id))) {
            return true;
        }
        if (g_get_monotonic_time() > end) {
            return ringctl_fail(error, RINGCTL_TIME_OUT, "The monitor does not answer.");
        }
        g_usleep(POLL_US);
    }
}

static bool start(const struct ringctl_machine *machine, GError **error)
{
    struct launch l = {0};
    bool ok;

    if (!machine->settings) {
        return ringctl_fail(error, RINGCTL_FAILED, "%s", machine->problem);
    }
    if (ringctl_machine_locked(machine)) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE, "The machine is already running.");
    }
    ok = launch(&l, machine->folder, error) && launch_wait(&l, machine->id, error);
    if (l.complaints > 0) {
        close(l.complaints);
    }
    if (ok && machine->settings->usb_connect) {
        ringctl_usb_watch_begin(machine);
        ringctl_usb_by_rules(machine->id, machine->settings);
    }
    return ok;
}

bool ringctl_start(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    struct ringctl_machine *machine;
    bool ok;

    if (!ringctl_parse(command, NULL, &argc, &argv, 1, 1, error)) {
        return false;
    }
    machine = ringctl_machine_find(argv[1], error);
    ok = machine && start(machine, error);
    ringctl_machine_free(machine);
    return ok;
}

/* One call to a running machine */

typedef gboolean (*call_fn)(RsMonitorMachine *proxy, GCancellable *cancellable, GError **error);

static bool call(const char *name, call_fn fn, GError **error)
{
    g_autoptr(GDBusConnection) connection = ringctl_need_running(name, error);
    g_autoptr(RsMonitorMachine) proxy =
        connection ? ringctl_machine_proxy(connection, error) : NULL;
    bool ok = proxy && fn(proxy, NULL, error);

    if (connection && !ok) {
        ringctl_adopt_error(error);
    }
    return ok;
}

static bool call_command(const struct ringctl_command *command, int argc, char **argv, call_fn fn,
                         GError **error)
{
    return ringctl_parse(command, NULL, &argc, &argv, 1, 1, error) && call(argv[1], fn, error);
}

bool ringctl_pause(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    return call_command(command, argc, argv, rs_monitor_machine_call_pause_sync, error);
}

bool ringctl_resume(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    return call_command(command, argc, argv, rs_monitor_machine_call_resume_sync, error);
}

bool ringctl_reset(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    return call_command(command, argc, argv, rs_monitor_machine_call_reset_sync, error);
}

/* Calls, and waits until the monitor has let go of the machine. */
static bool call_and_wait(const char *name, call_fn fn, GError **error)
{
    struct ringctl_machine *machine = ringctl_machine_find(name, error);
    gint64 end = g_get_monotonic_time() + END_SECONDS * G_USEC_PER_SEC;
    bool ok = machine && call(name, fn, error);

    while (ok && ringctl_machine_locked(machine) && g_get_monotonic_time() < end) {
        g_usleep(POLL_US);
    }
    ringctl_machine_free(machine);
    return ok;
}

bool ringctl_suspend(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    return ringctl_parse(command, NULL, &argc, &argv, 1, 1, error) &&
           call_and_wait(argv[1], rs_monitor_machine_call_suspend_sync, error);
}

/* A suspended machine has only its saved state to lose. */
static bool discard_state(const char *name, bool *done, GError **error)
{
    struct ringctl_machine *machine = ringctl_machine_find(name, error);
    g_autofree char *path = machine ? ringctl_machine_file(machine, "suspend.state") : NULL;

    *done = machine && !ringctl_machine_locked(machine) && ringctl_machine_suspended(machine);
    if (*done && unlink(path) < 0) {
        ringctl_machine_free(machine);
        return ringctl_fail(error, RINGCTL_FAILED, "%s: %s.", path, g_strerror(errno));
    }
    ringctl_machine_free(machine);
    return machine != NULL;
}

bool ringctl_stop(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean force = FALSE;
    bool done;
    const GOptionEntry entries[] = {{"force", 'f', 0, G_OPTION_ARG_NONE, &force,
                                     "Pull the plug; a suspended machine loses its saved state",
                                     NULL},
                                    {0}};

    if (!ringctl_parse(command, entries, &argc, &argv, 1, 1, error)) {
        return false;
    }
    if (!force) {
        return call(argv[1], rs_monitor_machine_call_shut_down_sync, error);
    }
    return discard_state(argv[1], &done, error) &&
           (done || call_and_wait(argv[1], rs_monitor_machine_call_power_off_sync, error));
}

bool ringctl_wait(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    static const char *const states[] = {"off",    "suspended", "starting", "running",
                                         "paused", "io-error",  "crashed",  NULL};
    g_autofree char *state = NULL;
    double timeout = 0;
    const GOptionEntry entries[] = {
        {"state", 0, 0, G_OPTION_ARG_STRING, &state,
         "off (default), suspended, running, paused, io-error, crashed", "STATE"},
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &timeout, "Give up then, status 4", "SECONDS"},
        {0}};
    struct ringctl_machine *machine;
    bool ok;

    if (!ringctl_parse(command, entries, &argc, &argv, 1, 1, error)) {
        return false;
    }
    state = state ? state : g_strdup("off");
    if (!g_strv_contains(states, state)) {
        return ringctl_fail(error, RINGCTL_FAILED, "There is no state \"%s\".", state);
    }
    machine = ringctl_machine_find(argv[1], error);
    ok = machine && ringctl_wait_state(machine, state, timeout, error);
    ringctl_machine_free(machine);
    return ok;
}
