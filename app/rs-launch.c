/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts monitors and connects to them (see rs-launch.h). */
#include <glib/gi18n-lib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rs-host.h"
#include "rs-launch.h"

#define RETRY_MS       50
#define START_LIMIT_US (60 * G_USEC_PER_SEC)
#define LOG_TAIL_BYTES 4096
#define LOG_TAIL_LINES 3u
#define MONITOR_LOG    "monitor.log"

typedef struct {
    char *folder, *id;
    GSubprocess *process;
    goffset log_start;
    gint64 deadline;
} Launch;

static void launch_free(Launch *launch)
{
    g_free(launch->folder);
    g_free(launch->id);
    g_clear_object(&launch->process);
    g_free(launch);
}

static void connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    GDBusConnection *bus = g_dbus_connection_new_for_address_finish(result, &error);

    if (bus) {
        g_dbus_connection_set_exit_on_close(bus, FALSE);
        g_task_return_pointer(task, bus, g_object_unref);
    } else {
        g_task_return_error(task, g_steal_pointer(&error));
    }
}

/* A socket in our own 0700 folder can only be ours; look all the same. */
static bool socket_is_ours(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == geteuid();
}

void rs_launch_connect_async(const char *id, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, data);
    g_autofree char *name = g_strconcat(id, ".sock", NULL);
    g_autofree char *path = g_build_filename(rs_host_sockets_folder(), name, NULL);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);

    if (!socket_is_ours(path)) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                                _("The machine is not running"));
        return;
    }
    g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL,
                                      cancellable, connected, g_object_ref(task));
}

GDBusConnection *rs_launch_connect_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

static goffset log_size(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, MONITOR_LOG, NULL);
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : 0;
}

static char *last_lines(char *text)
{
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    unsigned count = g_strv_length(lines),
             first = count > LOG_TAIL_LINES ? count - LOG_TAIL_LINES : 0;
    GString *result = g_string_new(NULL);

    for (unsigned i = first; i < count; i++) {
        const char *line = lines[i];
        if (g_str_has_prefix(line, "ringside-monitor: ")) {
            line += strlen("ringside-monitor: ");
        }
        g_autofree char *clean = rs_host_sanitize(line, 400);
        g_string_append_printf(result, "%s%s", result->len ? "\n" : "", clean);
    }
    return g_string_free(result, FALSE);
}

char *rs_launch_log_tail(const char *folder, goffset from)
{
    g_autofree char *path = g_build_filename(folder, MONITOR_LOG, NULL);
    char text[LOG_TAIL_BYTES + 1];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        return NULL;
    }
    goffset at = fstat(fd, &st) == 0 ? MAX(st.st_size - LOG_TAIL_BYTES, 0) : 0;
    ssize_t n = pread(fd, text, LOG_TAIL_BYTES, MAX(at, MIN(from, st.st_size)));
    close(fd);
    if (n <= 0) {
        return NULL;
    }
    text[n] = '\0';
    g_autofree char *lines = last_lines(text);
    return *lines ? g_steal_pointer(&lines) : NULL;
}

static void start_failed(GTask *task, const char *otherwise)
{
    Launch *launch = g_task_get_task_data(task);
    g_autofree char *tail = rs_launch_log_tail(launch->folder, launch->log_start);

    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", tail ? tail : otherwise);
}

static gboolean try_connect(gpointer data);

static void try_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Launch *launch = g_task_get_task_data(task);
    GDBusConnection *bus = rs_launch_connect_finish(result, NULL);

    if (bus) {
        g_task_return_pointer(task, bus, g_object_unref);
    } else if (!g_subprocess_get_identifier(launch->process)) {
        start_failed(task, _("The monitor ended before the machine started"));
    } else if (g_get_monotonic_time() > launch->deadline) {
        start_failed(task, _("The monitor does not answer"));
    } else if (!g_task_return_error_if_cancelled(task)) {
        g_timeout_add(RETRY_MS, try_connect, g_steal_pointer(&task));
    }
}

static gboolean try_connect(gpointer data)
{
    GTask *task = data;
    Launch *launch = g_task_get_task_data(task);

    rs_launch_connect_async(launch->id, g_task_get_cancellable(task), try_connected, task);
    return G_SOURCE_REMOVE;
}

static void own_session(gpointer data)
{
    setsid();
}

/* Its own session and no pipe to us: nothing of ours that ends can end it. What it says goes to the
 * monitor's log. */
static GSubprocess *spawn(const char *folder, const char *const *argv, GError **error)
{
    g_autofree char *log = g_build_filename(folder, MONITOR_LOG, NULL);
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd >= 0) {
        g_subprocess_launcher_take_stderr_fd(launcher, fd);
    }
    g_subprocess_launcher_set_cwd(launcher, folder);
    g_subprocess_launcher_set_child_setup(launcher, own_session, NULL, NULL);
    return g_subprocess_launcher_spawnv(launcher, argv, error);
}

static GSubprocess *spawn_monitor(const char *folder, GError **error)
{
    g_autofree char *program = rs_host_find_monitor(error);
    const char *argv[] = {program, "--machine", folder, NULL};

    return program ? spawn(folder, argv, error) : NULL;
}

bool rs_launch_usb_watch(const char *folder, const char *id, GError **error)
{
    g_autofree char *program = rs_host_find_ringctl(error);
    const char *argv[] = {program, "usb", "watch", "--now", id, NULL};
    g_autoptr(GSubprocess) process = program ? spawn(folder, argv, error) : NULL;

    return process != NULL;
}

void rs_launch_start_async(const char *folder, const char *id, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, cancellable, callback, data);
    Launch *launch = g_new0(Launch, 1);
    GError *error = NULL;

    launch->folder = g_strdup(folder);
    launch->id = g_strdup(id);
    launch->log_start = log_size(folder);
    launch->deadline = g_get_monotonic_time() + START_LIMIT_US;
    g_task_set_task_data(task, launch, (GDestroyNotify)launch_free);
    launch->process = spawn_monitor(folder, &error);
    if (!launch->process) {
        g_task_return_error(task, error);
        g_object_unref(task);
        return;
    }
    /* Reaps it, which also clears its identifier when it ended. */
    g_subprocess_wait_async(launch->process, NULL, NULL, NULL);
    g_timeout_add(RETRY_MS, try_connect, task);
}

GDBusConnection *rs_launch_start_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
