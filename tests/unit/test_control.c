/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control server with a machine that only counts what is asked of it. The server has the main
 * thread, as in the monitor; each test's client runs in a thread of its own.
 */
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "lock.h"
#include "monitor-dbus.h"

#define MACHINE "/org/ringside/Machine"
#define SCREEN  "/org/ringside/Screen/0"
#define INPUT   "/org/ringside/Input"

struct fake {
    char *folder, *socket;
    struct control *control;
    struct input *input;
    struct screen *screen;
    unsigned pauses, refreshes;
    gint down, buttons; /* keys that are down; buttons held */
    gint pads;          /* bits: those that are plugged in */
    struct input_pad pad[INPUT_PADS];
    bool animate;
};

static bool fake_pause(void *opaque, GError **error)
{
    ((struct fake *)opaque)->pauses++;
    return true;
}

static bool fake_refuse(void *opaque, GError **error)
{
    g_set_error_literal(error, CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE, "Not now.");
    return false;
}

static bool fake_insert(void *opaque, const char *path, GError **error)
{
    control_set_medium(((struct fake *)opaque)->control, path);
    return true;
}

static bool fake_eject(void *opaque, bool force, GError **error)
{
    control_set_medium(((struct fake *)opaque)->control, NULL);
    return true;
}

static bool fake_set_cable(void *opaque, bool plugged, GError **error)
{
    control_set_network(((struct fake *)opaque)->control, "user", plugged, NULL);
    return true;
}

static bool fake_forward(void *opaque, const char *spec, bool add, GError **error)
{
    const char *const list[] = {add ? spec : NULL, NULL};

    control_set_network(((struct fake *)opaque)->control, "user", true, list);
    return true;
}

/* The network's mode is what the file holds. */
static bool fake_capture(void *opaque, int fd, GError **error)
{
    char text[16] = "stopped";

    if (fd >= 0) {
        g_assert_cmpint(pwrite(fd, "packets", 7, 0), ==, 7);
        strcpy(text, "captured");
        close(fd);
    }
    control_set_network(((struct fake *)opaque)->control, text, true, NULL);
    return true;
}

static void fake_counters(void *opaque, GVariantBuilder *out)
{
    g_variant_builder_add(out, "{st}", "sound-gaps", G_GUINT64_CONSTANT(5000000000));
}

/* Answers from the main loop, as a device that takes its time; the name is what the descriptor
 * holds. */
struct fake_answer {
    control_done done;
    void *data;
    GError *error;
};

static gboolean fake_answer(gpointer opaque)
{
    struct fake_answer *a = opaque;

    a->done(a->data, a->error);
    g_clear_error(&a->error);
    g_free(a);
    return G_SOURCE_REMOVE;
}

static void fake_attach_usb(void *opaque, const struct control_usb *device, int fd,
                            control_done done, void *data)
{
    struct fake_answer *a = g_new0(struct fake_answer, 1);
    struct control_usb shown = *device;
    char text[16] = "";

    *a = (struct fake_answer){done, data, NULL};
    if (read(fd, text, sizeof text - 1) < 0) {
        text[0] = 0;
    }
    close(fd);
    shown.name = text;
    control_set_usb(((struct fake *)opaque)->control, &shown, 1);
    g_idle_add(fake_answer, a);
}

static void fake_detach_usb(void *opaque, const char *port, control_done done, void *data)
{
    struct fake_answer *a = g_new0(struct fake_answer, 1);

    *a = (struct fake_answer){
        done, data, g_error_new(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE, "No %s.", port)};
    g_idle_add(fake_answer, a);
}

static bool fake_plug_pad(void *opaque, unsigned pad, GError **error)
{
    struct fake *fake = opaque;

    g_assert_cmpuint(pad, <, INPUT_PADS);
    g_assert_false(fake->pads & 1 << pad);
    g_atomic_int_or(&fake->pads, 1 << pad);
    return true;
}

static void fake_unplug_pad(void *opaque, unsigned pad)
{
    struct fake *fake = opaque;

    g_assert_true(fake->pads & 1 << pad);
    g_atomic_int_and(&fake->pads, ~(1u << pad));
}

static void fake_set_pad(void *opaque, unsigned pad, const struct input_pad *state)
{
    struct fake *fake = opaque;

    g_assert_true(fake->pads & 1 << pad);
    fake->pad[pad] = *state;
}

static const struct control_ops ops = {
    fake_pause,   fake_refuse,     fake_refuse,     fake_refuse,   fake_refuse,     fake_refuse,
    fake_insert,  fake_eject,      fake_set_cable,  fake_forward,  fake_capture,    fake_counters,
    fake_attach_usb, fake_detach_usb, fake_plug_pad, fake_unplug_pad, fake_set_pad};

static void fake_key(void *opaque, uint32_t code, bool down)
{
    g_atomic_int_add(&((struct fake *)opaque)->down, down ? 1 : -1);
}

static void fake_pointer(void *opaque, int dx, int dy, int wheel, uint32_t buttons)
{
    g_atomic_int_set(&((struct fake *)opaque)->buttons, (gint)buttons);
}

/* An animated screen changes one pixel a frame. */
static void fake_refresh(void *opaque)
{
    struct fake *fake = opaque;

    fake->refreshes++;
    if (fake->animate) {
        screen_pixels(fake->screen)[fake->refreshes % 64]++;
        screen_damage(fake->screen, fake->refreshes % 64, 0, 1, 1);
    }
}

static struct control *fake_serve(struct fake *fake, GError **error)
{
    struct control_config config = {.socket = fake->socket,
                                    .id = "fake",
                                    .name = "Fake",
                                    .engine = "none",
                                    .engine_reason = "",
                                    .input = fake->input,
                                    .screen = fake->screen,
                                    .ops = &ops,
                                    .opaque = fake};

    return control_new(&config, error);
}

static struct fake *fake_new(void)
{
    struct fake *fake = g_new0(struct fake, 1);
    const struct input_sink sink = {fake_key, fake_pointer, NULL, NULL, fake};
    g_autoptr(GError) error = NULL;

    fake->folder = g_dir_make_tmp("rc-XXXXXX", NULL);
    fake->socket = g_build_filename(fake->folder, "ringside", "fake.sock", NULL);
    fake->input = input_new();
    input_add_sink(fake->input, &sink);
    fake->screen = screen_new();
    screen_set_refresh(fake->screen, fake_refresh, fake);
    g_assert_true(screen_set_mode(fake->screen, 64, 32));
    screen_pixels(fake->screen)[5] = 0x123456;
    fake->control = fake_serve(fake, &error);
    g_assert_no_error(error);
    control_set_state(fake->control, "running", "", true);
    return fake;
}

static void fake_free(struct fake *fake)
{
    g_autofree char *inner = g_path_get_dirname(fake->socket);

    input_changed(fake->input);
    control_detach(fake->control); /* as in serve.c: then the machine goes, then the clients hear */
    input_changed(fake->input);
    input_free(fake->input);
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    control_free(fake->control);
    g_assert_false(g_file_test(fake->socket, G_FILE_TEST_EXISTS));
    while (g_main_context_iteration(NULL, FALSE)) {
    }
    screen_free(fake->screen);
    g_rmdir(inner);
    g_assert_cmpint(g_rmdir(fake->folder), ==, 0);
    g_free(fake->socket);
    g_free(fake->folder);
    g_free(fake);
}

/* Runs `body` in a thread while the server has this one. */

struct job {
    void (*body)(struct fake *fake);
    struct fake *fake;
    gint done;
};

static gpointer job_main(gpointer opaque)
{
    struct job *job = opaque;
    g_autoptr(GMainContext) context = g_main_context_new();

    g_main_context_push_thread_default(context);
    job->body(job->fake);
    while (g_main_context_iteration(context, FALSE)) {
    }
    g_main_context_pop_thread_default(context);
    g_atomic_int_set(&job->done, 1);
    g_main_context_wakeup(NULL);
    return NULL;
}

static void with_client(gconstpointer body)
{
    struct job job = {.body = (void (*)(struct fake *))body, .fake = fake_new()};
    GThread *thread = g_thread_new("client", job_main, &job);

    while (!g_atomic_int_get(&job.done)) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_thread_join(thread);
    fake_free(job.fake);
}

static GDBusConnection *client_new(struct fake *fake)
{
    g_autofree char *address = g_strconcat("unix:path=", fake->socket, NULL);
    g_autoptr(GError) error = NULL;
    GDBusConnection *connection = g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, &error);

    g_assert_no_error(error);
    return connection;
}

static void client_close(GDBusConnection *connection)
{
    g_dbus_connection_close_sync(connection, NULL, NULL);
    g_object_unref(connection);
}

/* Waits in the client's thread, with its signals. */
static void pass(unsigned ms)
{
    gint64 end = g_get_monotonic_time() + ms * 1000;

    while (g_get_monotonic_time() < end) {
        g_main_context_iteration(g_main_context_get_thread_default(), FALSE);
        g_usleep(500);
    }
}

static void wait_zero(gint *value)
{
    for (unsigned i = 0; i < 500 && g_atomic_int_get(value); i++) {
        pass(10);
    }
    g_assert_cmpint(g_atomic_int_get(value), ==, 0);
}

static void test_machine(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(RsMonitorMachine) m = rs_monitor_machine_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, MACHINE, NULL, &error);
    g_autoptr(GVariant) counters = NULL;
    g_autofree char *name = NULL;
    guint64 gaps;

    g_assert_no_error(error);
    g_assert_cmpstr(rs_monitor_machine_get_name(m), ==, "Fake");
    g_assert_cmpstr(rs_monitor_machine_get_state(m), ==, "running");
    g_assert_cmpint(rs_monitor_machine_get_pid(m), ==, getpid());
    g_assert_true(rs_monitor_machine_call_pause_sync(m, NULL, &error));
    g_assert_cmpuint(fake->pauses, ==, 1);
    g_assert_false(rs_monitor_machine_call_reset_sync(m, NULL, &error));
    name = g_dbus_error_get_remote_error(error);
    g_assert_cmpstr(name, ==, "org.ringside.Error.WrongState");
    g_clear_error(&error);
    g_assert_false(rs_monitor_machine_call_insert_medium_sync(m, "relative", NULL, &error));
    g_clear_error(&error);
    g_assert_true(rs_monitor_machine_call_insert_medium_sync(m, "/a.iso", NULL, &error));
    pass(100);
    g_assert_cmpstr(rs_monitor_machine_get_medium(m), ==, "/a.iso");
    g_assert_true(rs_monitor_machine_call_eject_medium_sync(m, FALSE, NULL, &error));
    g_assert_true(rs_monitor_machine_call_add_forward_sync(m, "tcp:1:2", NULL, &error));
    pass(100);
    g_assert_cmpstr(rs_monitor_machine_get_network(m), ==, "user");
    g_assert_true(rs_monitor_machine_get_cable(m));
    g_assert_cmpstr(rs_monitor_machine_get_forwards(m)[0], ==, "tcp:1:2");
    g_assert_true(rs_monitor_machine_call_remove_forward_sync(m, "tcp:1:2", NULL, &error));
    g_assert_true(rs_monitor_machine_call_set_cable_sync(m, FALSE, NULL, &error));
    pass(100);
    g_assert_true(rs_monitor_machine_call_get_counters_sync(m, &counters, NULL, &error));
    g_assert_true(g_variant_lookup(counters, "sound-gaps", "t", &gaps));
    g_assert_cmpuint(gaps, ==, 5000000000);
    g_assert_null(rs_monitor_machine_get_forwards(m)[0]);
    g_assert_false(rs_monitor_machine_get_cable(m));
    client_close(connection);
}

static void test_capture(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorScreen) s = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN, NULL, NULL);
    g_autoptr(GVariant) handle = NULL;
    g_autoptr(GUnixFDList) fds = NULL;
    guint mode, width, height, stride;
    const uint32_t *pixels;
    int fd;

    g_assert_cmpuint(rs_monitor_screen_get_width(s), ==, 64);
    g_assert_true(rs_monitor_screen_call_capture_sync(s, NULL, &mode, &width, &height, &stride,
                                                      &handle, &fds, NULL, NULL));
    g_assert_cmpuint(width, ==, 64);
    g_assert_cmpuint(height, ==, 32);
    fd = g_unix_fd_list_get(fds, g_variant_get_handle(handle), NULL);
    pixels = mmap(NULL, stride * height, PROT_READ, MAP_SHARED, fd, 0);
    g_assert_true(pixels != MAP_FAILED);
    g_assert_cmphex(pixels[5], ==, 0x123456);
    munmap((void *)pixels, stride * height);
    g_assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    g_assert_cmpint(ftruncate(fd, 0), <, 0);
    close(fd);
    client_close(connection);
}

static void count_damage(RsMonitorScreen *screen, guint mode, guint x, guint y, guint width,
                         guint height, gpointer opaque)
{
    ++*(unsigned *)opaque;
}

static void attach(RsMonitorScreen *s)
{
    g_autoptr(GVariant) handle = NULL;
    guint mode, width, height, stride;

    g_assert_true(rs_monitor_screen_call_attach_sync(s, NULL, &mode, &width, &height, &stride,
                                                     &handle, NULL, NULL, NULL));
}

/* Nothing changes: nothing is said. All the time: just under 60 times a second. Detached: not at
 * all, and nobody looks at the screen any more. */
static void test_damage(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorScreen) s = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN, NULL, NULL);
    unsigned count = 0, refreshes;

    g_signal_connect(s, "damage", G_CALLBACK(count_damage), &count);
    attach(s);
    pass(300);
    g_assert_cmpuint(count, ==, 0);
    fake->animate = true;
    pass(1000);
    g_assert_cmpuint(count, >=, 10); /* of a busy host */
    g_assert_cmpuint(count, <=, 62);
    g_assert_true(rs_monitor_screen_call_detach_sync(s, NULL, NULL));
    pass(100);
    count = 0;
    refreshes = fake->refreshes;
    pass(200);
    g_assert_cmpuint(count, ==, 0);
    g_assert_cmpuint(fake->refreshes, ==, refreshes);
    client_close(connection);
}

struct seen_cursor {
    unsigned images, moves;
    guint width, height, hot_x, hot_y;
    gsize bytes;
    gint x, y;
    gboolean visible;
};

static void see_cursor(RsMonitorScreen *screen, guint width, guint height, guint hot_x, guint hot_y,
                       GVariant *pixels, gpointer opaque)
{
    struct seen_cursor *seen = opaque;

    *seen = (struct seen_cursor){seen->images + 1, seen->moves, width, height, hot_x, hot_y,
                                 g_variant_n_children(pixels), seen->x, seen->y, seen->visible};
}

static void see_move(RsMonitorScreen *screen, gint x, gint y, gboolean visible, gpointer opaque)
{
    struct seen_cursor *seen = opaque;

    seen->moves++;
    seen->x = x;
    seen->y = y;
    seen->visible = visible;
}

/* The cursor comes with Attach, then only when it changes; none any more is width 0. */
static void test_cursor(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorScreen) s = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN, NULL, NULL);
    static const uint32_t image[6] = {0xff112233};
    struct seen_cursor seen = {0};

    g_signal_connect(s, "cursor", G_CALLBACK(see_cursor), &seen);
    g_signal_connect(s, "cursor-moved", G_CALLBACK(see_move), &seen);
    machine_lock();
    screen_set_cursor(fake->screen, 2, 3, 1, 9, image);
    screen_move_cursor(fake->screen, 40, -2, true);
    machine_unlock();
    pass(100);
    g_assert_cmpuint(seen.images, ==, 0);
    attach(s);
    pass(300);
    g_assert_true(seen.images == 1 && seen.width == 2 && seen.height == 3 && seen.bytes == 24);
    g_assert_true(seen.hot_x == 1 && seen.hot_y == 2);
    g_assert_true(seen.moves == 1 && seen.x == 40 && seen.y == -2 && seen.visible);
    machine_lock();
    screen_move_cursor(fake->screen, 41, 5, false);
    machine_unlock();
    pass(300);
    g_assert_true(seen.images == 1 && seen.moves == 2 && seen.x == 41 && !seen.visible);
    machine_lock();
    screen_drop_cursor(fake->screen);
    machine_unlock();
    pass(300);
    g_assert_true(seen.images == 2 && seen.width == 0 && seen.bytes == 0);
    client_close(connection);
}

static void fake_resize(void *opaque, uint32_t width, uint32_t height)
{
    *(uint32_t *)opaque = width << 16 | height;
}

static void test_set_size(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorScreen) s = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN, NULL, NULL);
    g_autoptr(GError) none = NULL, wrong = NULL;
    uint32_t asked = 0;

    g_assert_false(rs_monitor_screen_get_can_resize(s));
    g_assert_false(rs_monitor_screen_call_set_size_sync(s, 800, 600, NULL, &none));
    g_assert_nonnull(strstr(none->message, "video=virtio"));
    machine_lock();
    screen_set_resize(fake->screen, fake_resize, &asked);
    machine_unlock();
    g_assert_true(rs_monitor_screen_call_set_size_sync(s, 800, 600, NULL, NULL));
    g_assert_cmphex(asked, ==, 800 << 16 | 600);
    g_assert_false(rs_monitor_screen_call_set_size_sync(s, 800, 9000, NULL, &wrong));
    g_assert_nonnull(strstr(wrong->message, "1 to 8192"));
    machine_lock();
    screen_set_resize(fake->screen, NULL, NULL);
    machine_unlock();
    client_close(connection);
}

static void count_mode(RsMonitorScreen *screen, guint mode, guint width, guint height,
                       gpointer opaque)
{
    g_assert_cmpuint(width, ==, 128);
    ++*(unsigned *)opaque;
}

static void test_mode(struct fake *fake)
{
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorScreen) s = rs_monitor_screen_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SCREEN, NULL, NULL);
    unsigned count = 0;

    g_signal_connect(s, "mode-changed", G_CALLBACK(count_mode), &count);
    attach(s);
    machine_lock();
    g_assert_true(screen_set_mode(fake->screen, 128, 64));
    machine_unlock();
    pass(300);
    g_assert_cmpuint(count, ==, 1);
    client_close(connection);
}

/* Two clients hold the same key; it is up when both are gone. */
static void test_release(struct fake *fake)
{
    GDBusConnection *a = client_new(fake), *b = client_new(fake);
    RsMonitorInput *ia =
        rs_monitor_input_proxy_new_sync(a, G_DBUS_PROXY_FLAGS_NONE, NULL, INPUT, NULL, NULL);
    RsMonitorInput *ib =
        rs_monitor_input_proxy_new_sync(b, G_DBUS_PROXY_FLAGS_NONE, NULL, INPUT, NULL, NULL);

    g_assert_true(rs_monitor_input_call_key_sync(ia, 30, TRUE, NULL, NULL));
    g_assert_true(rs_monitor_input_call_key_sync(ib, 30, TRUE, NULL, NULL));
    g_assert_true(rs_monitor_input_call_key_sync(ib, 100000, TRUE, NULL, NULL));
    g_assert_true(rs_monitor_input_call_pointer_relative_sync(ib, 1, 1, 0, 1, NULL, NULL));
    g_assert_cmpint(g_atomic_int_get(&fake->buttons), ==, 1);
    g_object_unref(ib);
    client_close(b);
    wait_zero(&fake->buttons);
    pass(100);
    g_assert_cmpint(g_atomic_int_get(&fake->down), ==, 2); /* pressed twice, released by nobody */
    g_object_unref(ia);
    client_close(a);
    for (unsigned i = 0; i < 500 && g_atomic_int_get(&fake->down) != 1; i++) {
        pass(10);
    }
    g_assert_cmpint(g_atomic_int_get(&fake->down), ==, 1);
}

static GSocketConnection *raw_connect(struct fake *fake)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(fake->socket);

    return g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);
}

/* Reads until the server hangs up. */
struct pen { /* an absolute device that the guest uses now and then */
    bool used;
    gint x;
};

static bool pen_used(void *opaque)
{
    return ((struct pen *)opaque)->used;
}

static void pen_point(void *opaque, uint32_t x, uint32_t y, int wheel, uint32_t buttons)
{
    g_atomic_int_set(&((struct pen *)opaque)->x, (gint)x);
}

static void pen_use(struct fake *fake, struct pen *pen, bool used)
{
    machine_lock();
    pen->used = used;
    input_changed(fake->input);
    machine_unlock();
    pass(100);
}

/* Clients are told when the guest begins and ceases to use its absolute device. */
static void test_absolute(struct fake *fake)
{
    struct pen pen = {false, -1};
    const struct input_sink sink = {
        .pointer_absolute = pen_point, .wants = pen_used, .opaque = &pen};
    GDBusConnection *connection = client_new(fake);
    g_autoptr(RsMonitorInput) input = rs_monitor_input_proxy_new_sync(
        connection, G_DBUS_PROXY_FLAGS_NONE, NULL, INPUT, NULL, NULL);

    machine_lock();
    input_add_sink(fake->input, &sink);
    machine_unlock();
    pass(100);
    g_assert_false(rs_monitor_input_get_absolute(input));
    rs_monitor_input_call_pointer_absolute_sync(input, 7, 7, 0, 0, NULL, NULL);
    g_assert_cmpint(g_atomic_int_get(&pen.x), ==, -1);
    pen_use(fake, &pen, true);
    g_assert_true(rs_monitor_input_get_absolute(input));
    rs_monitor_input_call_pointer_absolute_sync(input, 99999, 7, 0, 0, NULL, NULL);
    g_assert_cmpint(g_atomic_int_get(&pen.x), ==, 32767);
    pen_use(fake, &pen, false);
    g_assert_false(rs_monitor_input_get_absolute(input));
    machine_lock();
    input_remove_sink(fake->input, &pen);
    machine_unlock();
    client_close(connection);
}

static RsMonitorInput *input_of(GDBusConnection *connection)
{
    return rs_monitor_input_proxy_new_sync(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, INPUT, NULL,
                                           NULL);
}

static bool set_pad(RsMonitorInput *input, unsigned pad, unsigned buttons, unsigned hat,
                    gint16 left_x, gint16 right_trigger)
{
    g_autoptr(GError) error = NULL;

    if (!rs_monitor_input_call_set_pad_sync(input, pad, buttons, hat, left_x, 2, 3, 4, 5,
                                            right_trigger, NULL, &error)) {
        g_autofree char *name = g_dbus_error_get_remote_error(error);
        g_assert_cmpstr(name, ==, "org.ringside.Error.InvalidArgument");
        return false;
    }
    return true;
}

static unsigned plug_pad(RsMonitorInput *input)
{
    g_autoptr(GError) error = NULL;
    unsigned pad;

    if (!rs_monitor_input_call_plug_pad_sync(input, &pad, NULL, &error)) {
        g_autofree char *name = g_dbus_error_get_remote_error(error);
        g_assert_cmpstr(name, ==, "org.ringside.Error.WrongState");
        return INPUT_PADS;
    }
    return pad;
}

/* Pads are their client's: nobody else's, and gone with it. */
static void test_pads(struct fake *fake)
{
    GDBusConnection *a = client_new(fake), *b = client_new(fake);
    RsMonitorInput *mine = input_of(a), *others = input_of(b);

    g_assert_false(set_pad(mine, 0, 0, 0, 0, 0));
    g_assert_cmpuint(plug_pad(mine), ==, 0);
    g_assert_cmpuint(plug_pad(others), ==, 1);
    g_assert_cmpuint(plug_pad(mine), ==, 2);
    g_assert_cmpuint(plug_pad(mine), ==, 3);
    g_assert_cmpuint(plug_pad(mine), ==, INPUT_PADS);
    g_assert_cmpuint(plug_pad(others), ==, INPUT_PADS);
    g_assert_true(set_pad(mine, 2, 0x401, 8, -32768, 32767));
    g_assert_cmphex(fake->pad[2].buttons, ==, 0x401);
    g_assert_cmpuint(fake->pad[2].hat, ==, 8);
    for (int i = 1; i < 5; i++) {
        g_assert_cmpint(fake->pad[2].axis[i], ==, i + 1);
    }
    g_assert_cmpint(fake->pad[2].axis[0], ==, -32768);
    g_assert_cmpint(fake->pad[2].axis[5], ==, 32767);
    /* Out of range, or not its own. */
    g_assert_false(set_pad(mine, 2, 0x8000, 0, 0, 0));
    g_assert_false(set_pad(mine, 2, 0x10000, 0, 0, 0));
    g_assert_false(set_pad(mine, 2, 4, 0, 0, 0));
    g_assert_false(set_pad(mine, 2, 0, 9, 0, 0));
    g_assert_false(set_pad(mine, 2, 0, 256, 0, 0));
    g_assert_false(set_pad(mine, 2, 0, 0, 0, -1));
    g_assert_false(set_pad(mine, 1, 1, 0, 0, 0));
    g_assert_false(set_pad(mine, 4, 1, 0, 0, 0));
    g_assert_false(set_pad(mine, 0xffffffff, 1, 0, 0, 0));
    g_assert_false(rs_monitor_input_call_unplug_pad_sync(mine, 1, NULL, NULL));
    g_assert_cmphex(fake->pad[2].buttons, ==, 0x401);
    g_assert_cmphex(fake->pad[1].buttons, ==, 0);
    /* At rest with all that the client holds; the other one's is not. */
    g_assert_true(set_pad(others, 1, 1, 0, 7, 0));
    rs_monitor_input_call_release_all_sync(mine, NULL, NULL);
    g_assert_cmphex(fake->pad[2].buttons, ==, 0);
    g_assert_cmpint(fake->pad[2].axis[0], ==, 0);
    g_assert_cmphex(fake->pad[1].buttons, ==, 1);
    g_assert_true(rs_monitor_input_call_unplug_pad_sync(mine, 2, NULL, NULL));
    g_assert_cmphex(g_atomic_int_get(&fake->pads), ==, 11);
    g_assert_false(set_pad(mine, 2, 1, 0, 0, 0));
    g_assert_cmpuint(plug_pad(others), ==, 2);
    g_object_unref(mine);
    client_close(a);
    for (unsigned i = 0; i < 500 && g_atomic_int_get(&fake->pads) != 6; i++) {
        pass(10);
    }
    g_assert_cmphex(g_atomic_int_get(&fake->pads), ==, 6);
    g_object_unref(others);
    client_close(b);
    wait_zero(&fake->pads);
}

static void expect_hangup(GSocketConnection *raw)
{
    GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(raw));
    char buffer[256];

    g_socket_set_timeout(g_socket_connection_get_socket(raw), 10);
    for (;;) {
        g_autoptr(GError) error = NULL;
        gssize n = g_input_stream_read(in, buffer, sizeof buffer, NULL, &error);
        if (n <= 0) {
            g_assert_false(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
            return;
        }
    }
}

static void raw_write(GSocketConnection *raw, const char *bytes, gsize size)
{
    g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(raw)), bytes, size, NULL,
                              NULL, NULL);
}

/* Reads one line of the authentication. */
static void raw_line(GSocketConnection *raw)
{
    GInputStream *in = g_io_stream_get_input_stream(G_IO_STREAM(raw));
    char c = 0;

    while (c != '\n' && g_input_stream_read(in, &c, 1, NULL, NULL) == 1) {
    }
}

/* Nonsense before, and after, authentication; a silent client besides. The others do not notice. */
static void test_nonsense(struct fake *fake)
{
    GDBusConnection *good = client_new(fake);
    g_autoptr(GSocketConnection) early = raw_connect(fake), late = raw_connect(fake);
    g_autoptr(GSocketConnection) silent = raw_connect(fake);
    g_autoptr(RsMonitorMachine) m = NULL;
    g_autofree char *uid = g_strdup_printf("%u", (unsigned)geteuid());
    GString *hello = g_string_new(NULL);
    char garbage[4096];

    memset(garbage, 0xee, sizeof garbage);
    raw_write(early, garbage, sizeof garbage);
    raw_write(early, "\r\n", 2); /* up to there GDBus waits for the rest of the line */
    expect_hangup(early);
    g_string_append_c(hello, 0);
    g_string_append(hello, "AUTH EXTERNAL ");
    for (const char *p = uid; *p; p++) {
        g_string_append_printf(hello, "%02x", (unsigned)*p);
    }
    g_string_append(hello, "\r\n");
    raw_write(late, hello->str, hello->len);
    g_string_free(hello, TRUE);
    raw_line(late);
    raw_write(late, "BEGIN\r\n", 7);
    raw_write(late, garbage, sizeof garbage);
    expect_hangup(late);
    m = rs_monitor_machine_proxy_new_sync(good, G_DBUS_PROXY_FLAGS_NONE, NULL, MACHINE, NULL, NULL);
    g_assert_true(rs_monitor_machine_call_pause_sync(m, NULL, NULL));
    client_close(good);
}

static void test_folder(void)
{
    struct fake *fake = fake_new();
    g_autofree char *folder = g_path_get_dirname(fake->socket);
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_cmpint(stat(folder, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0700);
    g_assert_null(fake_serve(fake, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE);
    fake_free(fake);
}

/* A monitor that was killed leaves its socket; the next one takes the name over. */
static void test_stale(void)
{
    struct fake *fake = fake_new();
    g_autofree char *kept = g_strconcat(fake->socket, ".kept", NULL);

    g_assert_cmpint(link(fake->socket, kept), ==, 0);
    control_free(fake->control);
    for (unsigned i = 0; i < 100; i++) { /* GIO closes the listening socket from the main loop */
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    g_assert_cmpint(rename(kept, fake->socket), ==, 0);
    fake->control = fake_serve(fake, NULL);
    g_assert_nonnull(fake->control);
    fake_free(fake);
}

static bool attach_usb(RsMonitorMachine *m, const char *port, int handle, GUnixFDList *fds)
{
    g_autoptr(GError) error = NULL;
    bool ok =
        rs_monitor_machine_call_attach_usb_sync(m, g_variant_new_handle(handle), port, "Stick",
                                                0x1234, 0x5678, "S", fds, NULL, NULL, &error);

    if (!ok) {
        g_autofree char *name = g_dbus_error_get_remote_error(error);
        g_assert_cmpstr(name, ==, "org.ringside.Error.InvalidArgument");
    }
    return ok;
}

static void test_usb(struct fake *fake)
{
    GDBusConnection *client = client_new(fake);
    RsMonitorMachine *m = rs_monitor_machine_proxy_new_sync(client, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                            MACHINE, NULL, NULL);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    g_autoptr(GError) error = NULL;
    const char *port, *name, *serial;
    guint16 vendor, product;
    int pipes[2];

    g_assert_cmpint(pipe(pipes), ==, 0);
    g_assert_cmpint(write(pipes[1], "inside", 6), ==, 6);
    g_unix_fd_list_append(fds, pipes[0], NULL);
    g_assert_false(attach_usb(m, "1-4", 1, fds));
    g_assert_false(attach_usb(m, "1-4", -1, fds));
    g_assert_false(attach_usb(m, "../1-4", 0, fds));
    g_assert_false(attach_usb(m, "1-4", 0, NULL));
    g_assert_true(attach_usb(m, "1-4", 0, fds));
    while (!g_variant_n_children(rs_monitor_machine_get_usb_devices(m))) {
        g_main_context_iteration(g_main_context_get_thread_default(), TRUE);
    }
    g_variant_get_child(rs_monitor_machine_get_usb_devices(m), 0, "(&s&sqq&s)", &port, &name,
                        &vendor, &product, &serial);
    g_assert_cmpstr(port, ==, "1-4");
    g_assert_cmpstr(name, ==, "inside");
    g_assert_cmpuint(vendor, ==, 0x1234);
    g_assert_cmpuint(product, ==, 0x5678);
    g_assert_cmpstr(serial, ==, "S");
    g_assert_false(rs_monitor_machine_call_detach_usb_sync(m, "1-5", NULL, &error));
    g_dbus_error_strip_remote_error(error);
    g_assert_cmpstr(error->message, ==, "No 1-5.");
    close(pipes[0]);
    close(pipes[1]);
    g_object_unref(m);
    client_close(client);
}

static bool start_packets(RsMonitorMachine *m, GUnixFDList *fds)
{
    return rs_monitor_machine_call_start_capture_sync(m, g_variant_new_handle(0), fds, NULL, NULL,
                                                      NULL);
}

/* A file is written, a pipe is refused. */
static void test_packets(struct fake *fake)
{
    GDBusConnection *client = client_new(fake);
    RsMonitorMachine *m = rs_monitor_machine_proxy_new_sync(client, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                            MACHINE, NULL, NULL);
    g_autofree char *path = NULL;
    int file = g_file_open_tmp(NULL, &path, NULL), pipes[2];
    g_autoptr(GUnixFDList) good = g_unix_fd_list_new(), bad = g_unix_fd_list_new();
    char text[8] = "";

    unlink(path);
    g_assert_cmpint(pipe(pipes), ==, 0);
    g_unix_fd_list_append(good, file, NULL);
    g_unix_fd_list_append(bad, pipes[1], NULL);
    g_assert_false(start_packets(m, bad));
    g_assert_false(start_packets(m, NULL));
    g_assert_true(start_packets(m, good));
    pass(100);
    g_assert_cmpstr(rs_monitor_machine_get_network(m), ==, "captured");
    g_assert_cmpint(pread(file, text, sizeof text, 0), ==, 7);
    g_assert_cmpstr(text, ==, "packets");
    g_assert_true(rs_monitor_machine_call_stop_capture_sync(m, NULL, NULL));
    pass(100);
    g_assert_cmpstr(rs_monitor_machine_get_network(m), ==, "stopped");
    close(pipes[0]);
    close(pipes[1]);
    close(file);
    g_object_unref(m);
    client_close(client);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL); /* GIO warns of nonsense */
    g_test_add_data_func("/control/machine", test_machine, with_client);
    g_test_add_data_func("/control/usb", test_usb, with_client);
    g_test_add_data_func("/control/packets", test_packets, with_client);
    g_test_add_data_func("/control/capture", test_capture, with_client);
    g_test_add_data_func("/control/damage", test_damage, with_client);
    g_test_add_data_func("/control/cursor", test_cursor, with_client);
    g_test_add_data_func("/control/set-size", test_set_size, with_client);
    g_test_add_data_func("/control/mode", test_mode, with_client);
    g_test_add_data_func("/control/release", test_release, with_client);
    g_test_add_data_func("/control/absolute", test_absolute, with_client);
    g_test_add_data_func("/control/pads", test_pads, with_client);
    g_test_add_data_func("/control/nonsense", test_nonsense, with_client);
    g_test_add_func("/control/folder", test_folder);
    g_test_add_func("/control/stale", test_stale);
    return g_test_run();
}
