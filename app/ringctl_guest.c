/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What passes between us and the guest: its screen, its keyboard, its CD drive.
 */
#include <gio/gunixfdlist.h>
#include <linux/input-event-codes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "picture.h"
#include "ringctl.h"

#define SCREEN_PATH "/org/ringside/Screen/0"
#define INPUT_PATH  "/org/ringside/Input"
#define CHORD_MAX   8u
#define DELAY_MS    15

/* Screen */

struct capture {
    guint mode, width, height, stride;
    int fd;
};

static bool capture(GDBusConnection *connection, struct capture *c, GError **error)
{
    g_autoptr(RsMonitorScreen) proxy = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN_PATH, NULL, error);
    g_autoptr(GVariant) handle = NULL;
    g_autoptr(GUnixFDList) fds = NULL;

    if (!proxy || !rs_monitor_screen_call_capture_sync(proxy, NULL, &c->mode, &c->width, &c->height,
                                                       &c->stride, &handle, &fds, NULL, error)) {
        ringctl_adopt_error(error);
        return false;
    }
    c->fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(handle), error) : -1;
    return c->fd >= 0 || (error && *error) ||
           ringctl_fail(error, RINGCTL_FAILED, "The monitor sent no picture.");
}

/* The monitor is not trusted: what it says must fit the file it sent. */
static bool capture_write(const struct capture *c, const char *path, GError **error)
{
    size_t size = (size_t)c->stride * c->height;
    struct stat st;
    void *pixels;
    bool ok;

    if (c->width > 16384 || c->height > 16384 || c->stride < c->width * 4 || !size ||
        fstat(c->fd, &st) < 0 || (size_t)st.st_size < size) {
        return ringctl_fail(error, RINGCTL_FAILED, "The monitor sent a damaged picture.");
    }
    pixels = mmap(NULL, size, PROT_READ, MAP_SHARED, c->fd, 0);
    if (pixels == MAP_FAILED) {
        return ringctl_fail(error, RINGCTL_FAILED, "The picture cannot be read.");
    }
    ok = picture_write_png(path, pixels, c->width, c->height, c->stride, error);
    munmap(pixels, size);
    return ok;
}

bool ringctl_screenshot(const struct ringctl_command *command, int argc, char **argv,
                        GError **error)
{
    g_autoptr(GDBusConnection) connection = NULL;
    struct capture c = {.fd = -1};
    bool ok;

    if (!ringctl_parse(command, NULL, &argc, &argv, 2, 2, error)) {
        return false;
    }
    connection = ringctl_need_running(argv[1], error);
    ok = connection && capture(connection, &c, error) && capture_write(&c, argv[2], error);
    if (c.fd >= 0) {
        close(c.fd);
    }
    return ok;
}

/* Keyboard */

static RsMonitorInput *input_proxy(const char *name, GError **error)
{
    g_autoptr(GDBusConnection) connection = ringctl_need_running(name, error);

    return connection ? rs_monitor_input_proxy_new_sync(connection, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                        INPUT_PATH, NULL, error)
                      : NULL;
}

static bool press(RsMonitorInput *input, unsigned code, bool down, int delay, GError **error)
{
    bool ok = rs_monitor_input_call_key_sync(input, code, down, NULL, error);

    if (!ok) {
        ringctl_adopt_error(error);
    }
    g_usleep((gulong)delay * 1000);
    return ok;
}

/* The guest may end its machine on a key that is still down; nobody is there to take its release then. */
static bool machine_ended(const GError *error)
{
    return g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_OBJECT) ||
           g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_UNKNOWN_METHOD) ||
           g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
           g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_DISCONNECTED) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED);
}

static bool release(RsMonitorInput *input, unsigned code, int delay, bool *ended, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (*ended || rs_monitor_input_call_key_sync(input, code, false, NULL, &local)) {
        g_usleep(*ended ? 0 : (gulong)delay * 1000);
        return true;
    }
    *ended = machine_ended(local);
    if (!*ended) {
        g_propagate_error(error, g_steal_pointer(&local));
        ringctl_adopt_error(error);
    }
    return *ended;
}

/* *ended becomes true when the machine went off on these keys. */
static bool press_chord(RsMonitorInput *input, const unsigned *codes, unsigned count, int delay,
                        bool *ended, GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        if (!press(input, codes[i], true, delay, error)) {
            return false;
        }
    }
    for (unsigned i = count; i-- > 0;) {
        if (!release(input, codes[i], delay, ended, error)) {
            return false;
        }
    }
    return true;
}

/* Everything is checked before the first key goes down. */
static bool text_check(const char *text, GError **error)
{
    unsigned code;
    bool shift;

    for (const char *p = text; *p; p++) {
        if (!ringctl_key_for_char(*p, &code, &shift)) {
            return ringctl_fail(error, RINGCTL_FAILED,
                                "Only ASCII can be typed, on a US keyboard; \"%s\" has more.",
                                text);
        }
    }
    return true;
}

static bool type_text(RsMonitorInput *input, const char *text, int delay, GError **error)
{
    bool ended = false;

    for (const char *p = text; *p; p++) {
        unsigned codes[2] = {KEY_LEFTSHIFT}, code;
        bool shift;
        ringctl_key_for_char(*p, &code, &shift);
        codes[shift] = code;
        if (ended) {
            return ringctl_fail(error, RINGCTL_WRONG_STATE,
                                "The machine ended before \"%s\" was typed.", p);
        }
        if (!press_chord(input, codes, shift + 1u, delay, &ended, error)) {
            return false;
        }
    }
    return true;
}

static bool delay_parse(const struct ringctl_command *command, int *argc, char ***argv, int least,
                        int most, int *delay, GError **error)
{
    const GOptionEntry entries[] = {
        {"delay", 0, 0, G_OPTION_ARG_INT, delay, "Between key events (15)", "MILLISECONDS"}, {0}};

    *delay = DELAY_MS;
    if (!ringctl_parse(command, entries, argc, argv, least, most, error)) {
        return false;
    }
    return (*delay >= 0 && *delay <= 10000) ||
           ringctl_fail(error, RINGCTL_FAILED, "--delay is 0 to 10000.");
}

/* TEXT may hold \n, \t, \\ and the other escapes of C. */
bool ringctl_type(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    g_autoptr(RsMonitorInput) input = NULL;
    g_autofree char *text = NULL;
    int delay;

    if (!delay_parse(command, &argc, &argv, 2, 2, &delay, error)) {
        return false;
    }
    text = g_strcompress(argv[2]);
    return text_check(text, error) && (input = input_proxy(argv[1], error)) &&
           type_text(input, text, delay, error);
}

bool ringctl_key(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    g_autoptr(RsMonitorInput) input = NULL;
    unsigned codes[CHORD_MAX];
    bool ended = false;
    int delay;

    if (!delay_parse(command, &argc, &argv, 2, G_MAXINT, &delay, error)) {
        return false;
    }
    for (int i = 2; i < argc; i++) {
        if (!ringctl_keys_parse(argv[i], codes, CHORD_MAX, error)) {
            return false;
        }
    }
    input = input_proxy(argv[1], error);
    for (int i = 2; input && i < argc; i++) {
        unsigned count = ringctl_keys_parse(argv[i], codes, CHORD_MAX, error);
        if (ended) {
            return ringctl_fail(error, RINGCTL_WRONG_STATE, "The machine ended before %s.", argv[i]);
        }
        if (!press_chord(input, codes, count, delay, &ended, error)) {
            return false;
        }
    }
    return input != NULL;
}

/* Mouse */

#define MOUSE_STEP 4 /* small steps, which guests do not accelerate */

static bool move(RsMonitorInput *input, int dx, int dy, unsigned buttons, int delay, GError **error)
{
    bool ok = rs_monitor_input_call_pointer_relative_sync(input, dx, dy, 0, buttons, NULL, error);

    if (!ok) {
        ringctl_adopt_error(error);
    }
    g_usleep((gulong)delay * 1000);
    return ok;
}

static bool move_far(RsMonitorInput *input, int dx, int dy, int delay, GError **error)
{
    while (dx || dy) {
        int x = CLAMP(dx, -MOUSE_STEP, MOUSE_STEP), y = CLAMP(dy, -MOUSE_STEP, MOUSE_STEP);
        if (!move(input, x, y, 0, delay, error)) {
            return false;
        }
        dx -= x;
        dy -= y;
    }
    return true;
}

/* To a place on the screen, by the tablet. */
static bool point(RsMonitorInput *input, unsigned x, unsigned y, unsigned buttons, int delay,
                  GError **error)
{
    g_usleep((gulong)delay * 1000);
    if (!rs_monitor_input_call_pointer_absolute_sync(input, x, y, 0, buttons, NULL, error)) {
        ringctl_adopt_error(error);
        return false;
    }
    return true;
}

static bool point_and_click(RsMonitorInput *input, gint64 x, gint64 y, bool click, GError **error)
{
    if (!rs_monitor_input_get_absolute(input)) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE,
                            "The guest does not use the machine's USB tablet (now), so its pointer "
                            "has no places; leave --to away.");
    }
    return point(input, (unsigned)x, (unsigned)y, 0, 0, error) &&
           (!click || (point(input, (unsigned)x, (unsigned)y, 1, 50, error) &&
                       point(input, (unsigned)x, (unsigned)y, 0, 50, error)));
}

bool ringctl_mouse(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean click = FALSE, to = FALSE;
    int delay = 5;
    const GOptionEntry entries[] = {
        {"click", 0, 0, G_OPTION_ARG_NONE, &click, "Then press the left button", NULL},
        {"to", 0, 0, G_OPTION_ARG_NONE, &to,
         "DX and DY are a place on the screen, 0 to 32767", NULL},
        {"delay", 0, 0, G_OPTION_ARG_INT, &delay, "Between events (5)", "MILLISECONDS"},
        {0}};
    g_autoptr(RsMonitorInput) input = NULL;
    gint64 dx, dy;

    if (!ringctl_parse(command, entries, &argc, &argv, 3, 3, error)) {
        return false;
    }
    if (!g_ascii_string_to_signed(argv[2], 10, to ? 0 : -10000, to ? 32767 : 10000, &dx, error) ||
        !g_ascii_string_to_signed(argv[3], 10, to ? 0 : -10000, to ? 32767 : 10000, &dy, error)) {
        return false;
    }
    delay = CLAMP(delay, 0, 1000);
    input = input_proxy(argv[1], error);
    if (input && to) {
        return point_and_click(input, dx, dy, click, error);
    }
    return input && move_far(input, (int)dx, (int)dy, delay, error) &&
           (!click || (move(input, 0, 0, 1, 50, error) && move(input, 0, 0, 0, 50, error)));
}

/* CD drive: the monitor's while it runs, else the settings' */

static bool medium_in_settings(const struct ringctl_machine *machine, const char *path,
                               GError **error)
{
    g_autoptr(RsSettings) s = settings_load(machine->folder, error);

    if (!s) {
        return false;
    }
    g_free(s->cdrom);
    s->cdrom = g_strdup(path);
    s->has_cdrom = true;
    return settings_save(s, machine->folder, error);
}

static bool medium_in_monitor(GDBusConnection *connection, const char *path, bool force,
                              GError **error)
{
    g_autoptr(RsMonitorMachine) proxy = ringctl_machine_proxy(connection, error);
    bool ok =
        proxy && (path ? rs_monitor_machine_call_insert_medium_sync(proxy, path, NULL, error)
                       : rs_monitor_machine_call_eject_medium_sync(proxy, force, NULL, error));

    if (!ok) {
        ringctl_adopt_error(error);
    }
    return ok;
}

static bool change_medium(const char *name, const char *path, bool force, GError **error)
{
    struct ringctl_machine *machine = ringctl_machine_find(name, error);
    g_autoptr(GDBusConnection) connection = machine ? ringctl_connect(machine->id) : NULL;
    bool ok = false;

    if (connection) {
        ok = medium_in_monitor(connection, path, force, error);
    } else if (machine && ringctl_machine_suspended(machine)) {
        ringctl_fail(error, RINGCTL_WRONG_STATE,
                     "The machine is suspended; its disc cannot be changed now.");
    } else if (machine) {
        ok = medium_in_settings(machine, path, error);
    }
    ringctl_machine_free(machine);
    return ok;
}

bool ringctl_insert(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    g_autofree char *path = NULL;

    if (!ringctl_parse(command, NULL, &argc, &argv, 2, 2, error)) {
        return false;
    }
    path = g_canonicalize_filename(argv[2], NULL);
    if (access(path, R_OK) < 0) {
        return ringctl_fail(error, RINGCTL_FAILED, "%s cannot be read.", path);
    }
    return change_medium(argv[1], path, false, error);
}

bool ringctl_eject(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean force = FALSE;
    const GOptionEntry entries[] = {{"force", 'f', 0, G_OPTION_ARG_NONE, &force,
                                     "Even if the guest has locked the drive", NULL},
                                    {0}};

    return ringctl_parse(command, entries, &argc, &argv, 1, 1, error) &&
           change_medium(argv[1], NULL, force, error);
}
