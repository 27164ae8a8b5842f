/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringctl usb watch: carries out a machine's rules for the devices that are plugged in while it
 * runs. The monitor has no right to devices, so `ringctl start` leaves this process behind: at most
 * one for a machine (whose folder it locks), until the monitor ends. It waits for changes of
 * /dev/bus/usb and for the end of the connection; nothing polls. The rules are read anew each time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "ringctl_usb.h"

#define WHO     "ringctl usb watch"
#define WAIT_US 20000
#define WAITS   100 /* for the one of the machine's last run, which is just ending */

struct watch {
    const struct ringctl_machine *machine;
    RsMonitorMachine *proxy;
    GPtrArray *devices; /* that were there before, or are dealt with */
    GMainLoop *loop;
};

/* -1: somebody else has it, or it cannot be opened. */
static int lock_folder(const char *path, int how)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && flock(fd, how) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* One process at a time, so that of two machines with the same rule one has the device before the
 * other looks. What could not be connected is new again next time: its permissions may change. */
static void look(struct watch *w)
{
    g_autofree char *sockets = g_build_filename(g_get_user_runtime_dir(), "ringside", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) settings = settings_load(w->machine->folder, &error);
    GPtrArray *list;
    int turn;

    if (!settings) { /* what has come is new as long as nobody knows the rules */
        fprintf(stderr, "%s: No USB device is connected: %s\n", WHO, error->message);
        return;
    }
    turn = lock_folder(sockets, LOCK_EX);
    list = rs_usb_list();
    for (unsigned i = list->len; i-- > 0;) {
        if (!rs_usb_list_has(w->devices, list->pdata[i]) &&
            !ringctl_usb_by_rule(w->proxy, settings, list->pdata[i], WHO)) {
            g_ptr_array_remove_index(list, i);
        }
    }
    g_ptr_array_unref(w->devices);
    w->devices = list;
    if (turn >= 0) {
        close(turn);
    }
}

/* Whoever started us waits for the end of our standard output. */
static void tell_ready(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDOUT_FILENO);
        close(null);
    }
}

bool ringctl_usb_watch(const struct ringctl_machine *machine, RsMonitorMachine *proxy, bool now,
                       GError **error)
{
    struct watch w = {.machine = machine, .proxy = proxy};
    GDBusConnection *connection = g_dbus_proxy_get_connection(G_DBUS_PROXY(proxy));
    int own = -1;
    g_autoptr(RsUsbWatch) usb = NULL;

    for (unsigned i = 0; i < WAITS && (own = lock_folder(machine->folder, LOCK_EX | LOCK_NB)) < 0;
         i++) {
        g_usleep(WAIT_US);
    }
    if (own < 0) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE,
                            "Another process carries out the machine's rules already.");
    }
    w.loop = g_main_loop_new(NULL, FALSE);
    usb = rs_usb_watch_new();
    w.devices = rs_usb_list();
    if (now) {
        g_ptr_array_set_size(w.devices, 0);
    }
    g_signal_connect_swapped(usb, "changed", G_CALLBACK(look), &w);
    g_signal_connect_swapped(connection, "closed", G_CALLBACK(g_main_loop_quit), w.loop);
    tell_ready();
    if (now) {
        look(&w);
    }
    if (!g_dbus_connection_is_closed(connection)) {
        g_main_loop_run(w.loop);
    }
    g_signal_handlers_disconnect_by_data(connection, w.loop);
    g_signal_handlers_disconnect_by_data(usb, &w);
    g_ptr_array_unref(w.devices);
    g_main_loop_unref(w.loop);
    close(own);
    return true;
}

/* --- in the background --- */

static void own_session(gpointer opaque)
{
    setsid();
}

/* Its complaints go where the monitor's do. */
static bool leave_behind(const struct ringctl_machine *machine, int *out, GError **error)
{
    g_autofree char *log = ringctl_machine_file(machine, "monitor.log");
    const char *argv[] = {"/proc/self/exe", "ringctl", "usb", "watch", machine->id, NULL};
    int complaints = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
    GSpawnFlags flags = G_SPAWN_FILE_AND_ARGV_ZERO;
    bool ok;

    if (complaints < 0) {
        flags |= G_SPAWN_STDERR_TO_DEV_NULL;
    }
    ok = g_spawn_async_with_pipes_and_fds("/", argv, NULL, flags, own_session, NULL, -1, -1,
                                          complaints, NULL, NULL, 0, NULL, NULL, out, NULL, error);
    if (complaints >= 0) {
        close(complaints);
    }
    return ok;
}

void ringctl_usb_watch_begin(const struct ringctl_machine *machine)
{
    g_autoptr(GError) error = NULL;
    char nothing[16];
    int out;

    if (!leave_behind(machine, &out, &error)) {
        fprintf(stderr, "ringctl: USB devices that are plugged in later stay here: %s\n",
                error->message);
        return;
    }
    while (read(out, nothing, sizeof nothing) > 0) {
    }
    close(out);
}

bool ringctl_usb_watched(const struct ringctl_machine *machine)
{
    int own = lock_folder(machine->folder, LOCK_EX | LOCK_NB);

    if (own >= 0) {
        close(own);
    }
    return own < 0;
}
