/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reaching the monitors of running machines.
 */
#include <string.h>
#include <unistd.h>

#include "ringctl.h"

#define POLL_US      50000
#define MACHINE_PATH "/org/ringside/Machine"

GDBusConnection *ringctl_connect(const char *id)
{
    g_autofree char *file = g_strconcat(id, ".sock", NULL);
    g_autofree char *path = g_build_filename(g_get_user_runtime_dir(), "ringside", file, NULL);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);

    if (access(path, F_OK) < 0) {
        return NULL;
    }
    return g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, NULL);
}

RsMonitorMachine *ringctl_machine_proxy(GDBusConnection *connection, GError **error)
{
    RsMonitorMachine *proxy = rs_monitor_machine_proxy_new_sync(connection, G_DBUS_PROXY_FLAGS_NONE,
                                                                NULL, MACHINE_PATH, NULL, error);

    if (proxy) {
        g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(proxy), G_MAXINT);
    }
    return proxy;
}

static char *state_when_silent(const struct ringctl_machine *machine)
{
    if (!machine->settings) {
        return g_strdup("broken");
    }
    if (ringctl_machine_locked(machine)) {
        return g_strdup("starting"); /* or just ending: it has the lock, and no socket */
    }
    return g_strdup(ringctl_machine_suspended(machine) ? "suspended" : "off");
}

char *ringctl_machine_state(const struct ringctl_machine *machine)
{
    g_autoptr(GDBusConnection) connection = ringctl_connect(machine->id);
    g_autoptr(RsMonitorMachine) proxy = connection ? ringctl_machine_proxy(connection, NULL) : NULL;
    char *state = proxy ? rs_monitor_machine_dup_state(proxy) : NULL;

    return state ? state : state_when_silent(machine);
}

GDBusConnection *ringctl_need_running(const char *name, GError **error)
{
    struct ringctl_machine *machine = ringctl_machine_find(name, error);
    GDBusConnection *connection;

    if (!machine) {
        return NULL;
    }
    connection = ringctl_connect(machine->id);
    if (!connection) {
        ringctl_fail(error, RINGCTL_WRONG_STATE, "The machine \"%s\" is not running.", name);
    }
    ringctl_machine_free(machine);
    return connection;
}

void ringctl_adopt_error(GError **error)
{
    g_autofree char *remote = NULL, *message = NULL;
    bool state;

    if (!error || !*error) {
        return;
    }
    remote = g_dbus_error_get_remote_error(*error);
    state = g_strcmp0(remote, "org.ringside.Error.WrongState") == 0;
    g_dbus_error_strip_remote_error(*error);
    message = g_strdup((*error)->message);
    ringctl_fail(error, state ? RINGCTL_WRONG_STATE : RINGCTL_FAILED, "%s", message);
}

bool ringctl_wait_state(const struct ringctl_machine *machine, const char *state, double seconds,
                        GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)(seconds * G_USEC_PER_SEC);

    for (;;) {
        g_autofree char *now = ringctl_machine_state(machine);
        if (strcmp(now, state) == 0) {
            return true;
        }
        if (seconds > 0 && g_get_monotonic_time() >= end) {
            return ringctl_fail(error, RINGCTL_TIME_OUT,
                                "The machine is still %s after %g seconds.", now, seconds);
        }
        g_usleep(POLL_US);
    }
}

/* Beside ourselves, or where the build puts it. */
char *ringctl_find_monitor(GError **error)
{
    static const char *const places[] = {"ringside-monitor", "monitor/ringside-monitor",
                                         "../monitor/ringside-monitor"};
    const char *override = g_getenv("RINGSIDE_MONITOR");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *own = self ? g_path_get_dirname(self) : g_strdup("/usr/bin");
    char *found;

    if (override && *override) {
        return g_strdup(override);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        found = g_build_filename(own, places[i], NULL);
        if (g_file_test(found, G_FILE_TEST_IS_EXECUTABLE) &&
            !g_file_test(found, G_FILE_TEST_IS_DIR)) {
            return found;
        }
        g_free(found);
    }
    found = g_find_program_in_path("ringside-monitor");
    if (!found) {
        ringctl_fail(error, RINGCTL_FAILED,
                     "The program ringside-monitor, which runs machines, is not installed.");
    }
    return found;
}
