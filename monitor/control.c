/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control server's socket and its clients (see control.h).
 *
 * Only our own user gets in: the folder is 0700 and ours, and the peer's uid is asked of the kernel
 * (SO_PEERCRED) before and after authentication, for which EXTERNAL is the only mechanism. A client
 * that breaks the D-Bus protocol is dropped by GDBus; `closed` then cleans up after it. Clients
 * authenticate in GDBus's own threads, so that one that keeps silent holds nobody up.
 */
#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control_internal.h"
#include "log.h"

#define CLIENTS_MAX  32u
#define FLUSH_TIME   (1 * G_USEC_PER_SEC)
#define MACHINE_PATH "/org/ringside/Machine"
#define SCREEN_PATH  "/org/ringside/Screen/0"
#define INPUT_PATH   "/org/ringside/Input"

static const GDBusErrorEntry error_entries[] = {
    {CONTROL_ERROR_FAILED, "org.ringside.Error.Failed"},
    {CONTROL_ERROR_WRONG_STATE, "org.ringside.Error.WrongState"},
    {CONTROL_ERROR_INVALID_ARGUMENT, "org.ringside.Error.InvalidArgument"},
};

GQuark control_error_quark(void)
{
    static gsize quark;

    g_dbus_error_register_error_domain("ringside-control-error", &quark, error_entries,
                                       G_N_ELEMENTS(error_entries));
    return (GQuark)quark;
}

void control_return_error(GDBusMethodInvocation *invocation, GError *error)
{
    const char *name = error_entries[CONTROL_ERROR_FAILED].dbus_error_name;

    if (error && error->domain == CONTROL_ERROR) {
        name = error_entries[error->code].dbus_error_name;
    }
    g_dbus_method_invocation_return_dbus_error(
        invocation, name, error ? error->message : "The monitor could not do that.");
    g_clear_error(&error);
}

/* Clients */

static void client_detach(struct client *client)
{
    if (client->screen) {
        control_input_release(client);
        control_pad_disconnect(client);
        control_screen_disconnect(client);
        g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(client->screen));
        g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(client->input));
        g_clear_object(&client->screen);
        g_clear_object(&client->input);
    }
}

static void client_free(struct client *client)
{
    client_detach(client);
    g_signal_handler_disconnect(client->connection, client->closed_handler);
    g_dbus_interface_skeleton_unexport_from_connection(
        G_DBUS_INTERFACE_SKELETON(client->control->machine), client->connection);
    g_dbus_connection_close(client->connection, NULL, NULL, NULL);
    g_object_unref(client->connection);
    g_free(client);
}

static void client_closed(GDBusConnection *connection, gboolean vanished, GError *error,
                          gpointer opaque)
{
    struct client *client = opaque;
    struct control *control = client->control;

    if (error && !vanished) {
        log_message("a client was disconnected: %s", error->message);
    }
    g_ptr_array_remove_fast(control->clients, client);
}

static bool export_at(gpointer skeleton, GDBusConnection *connection, const char *path)
{
    return g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(skeleton), connection, path,
                                            NULL);
}

static gboolean client_connected(GDBusServer *server, GDBusConnection *connection, gpointer opaque)
{
    struct control *control = opaque;
    struct client *client;

    /* One that was quick to send nonsense is closed already; its signal may have been missed. */
    if (control->clients->len >= CLIENTS_MAX || g_dbus_connection_is_closed(connection)) {
        return FALSE;
    }
    client = g_new0(struct client, 1);
    client->control = control;
    client->connection = g_object_ref(connection);
    client->screen = rs_monitor_screen_skeleton_new();
    client->input = rs_monitor_input_skeleton_new();
    client->closed_handler =
        g_signal_connect(connection, "closed", G_CALLBACK(client_closed), client);
    control_screen_connect(client);
    control_input_connect(client);
    g_ptr_array_add(control->clients, client);
    if (!export_at(control->machine, connection, MACHINE_PATH) ||
        !export_at(client->screen, connection, SCREEN_PATH) ||
        !export_at(client->input, connection, INPUT_PATH)) {
        g_ptr_array_remove_fast(control->clients, client);
        return FALSE;
    }
    return TRUE;
}

unsigned control_clients(const struct control *control)
{
    return control->clients->len;
}

/* Who gets in */

static gboolean allow_mechanism(GDBusAuthObserver *observer, const char *mechanism, gpointer opaque)
{
    return g_strcmp0(mechanism, "EXTERNAL") == 0;
}

static gboolean authorize(GDBusAuthObserver *observer, GIOStream *stream, GCredentials *claimed,
                          gpointer opaque)
{
    g_autoptr(GCredentials) peer = NULL;

    if (!G_IS_SOCKET_CONNECTION(stream)) {
        return FALSE;
    }
    peer =
        g_socket_get_credentials(g_socket_connection_get_socket(G_SOCKET_CONNECTION(stream)), NULL);
    return peer && g_credentials_get_unix_user(peer, NULL) == geteuid() &&
           (!claimed || g_credentials_get_unix_user(claimed, NULL) == geteuid());
}

/* The socket */

char *control_socket_path(const char *id)
{
    g_autofree char *file = g_strconcat(id, ".sock", NULL);

    return g_build_filename(g_get_user_runtime_dir(), "ringside", file, NULL);
}

static bool folder_prepare(const char *folder, GError **error)
{
    struct stat st;

    if ((g_mkdir_with_parents(folder, 0700) < 0 && errno != EEXIST) || lstat(folder, &st) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "Cannot make the folder %s: %s.", folder, g_strerror(errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                    "%s must be a folder of yours, but belongs to somebody else. Remove it.",
                    folder);
        return false;
    }
    return (st.st_mode & 077) == 0 || chmod(folder, 0700) == 0;
}

/* A socket that nobody answers is left over from a monitor that was killed. */
static bool socket_clear(const char *path, GError **error)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GSocket) socket =
        g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, error);

    if (!socket) {
        return false;
    }
    if (g_socket_connect(socket, address, NULL, NULL)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_ADDRESS_IN_USE,
                    "Another running machine uses the socket %s. Stop it first, or rename this "
                    "machine's folder.",
                    path);
        return false;
    }
    g_unlink(path);
    return true;
}

static bool socket_prepare(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);

    if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG,
                    "The path %s is too long for a socket. Give the machine's folder a shorter "
                    "name.",
                    path);
        return false;
    }
    return folder_prepare(folder, error) && socket_clear(path, error);
}

static bool control_listen(struct control *control, GError **error)
{
    g_autoptr(GDBusAuthObserver) observer = g_dbus_auth_observer_new();
    g_autofree char *escaped = g_dbus_address_escape_value(control->socket);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    g_autofree char *guid = g_dbus_generate_guid();

    g_signal_connect(observer, "allow-mechanism", G_CALLBACK(allow_mechanism), NULL);
    g_signal_connect(observer, "authorize-authenticated-peer", G_CALLBACK(authorize), NULL);
    control->server =
        g_dbus_server_new_sync(address, G_DBUS_SERVER_FLAGS_NONE, guid, observer, NULL, error);
    if (!control->server) {
        return false;
    }
    g_chmod(control->socket, 0600);
    g_signal_connect(control->server, "new-connection", G_CALLBACK(client_connected), control);
    g_dbus_server_start(control->server);
    return true;
}

struct control *control_new(const struct control_config *config, GError **error)
{
    struct control *control;

    if (!socket_prepare(config->socket, error)) {
        return NULL;
    }
    control = g_new0(struct control, 1);
    control->socket = g_strdup(config->socket);
    control->clients = g_ptr_array_new_with_free_func((GDestroyNotify)client_free);
    control->input = config->input;
    control->screen = config->screen;
    control->ops = config->ops;
    control->opaque = config->opaque;
    control->machine = rs_monitor_machine_skeleton_new();
    g_object_set(control->machine, "id", config->id, "name", config->name, "version",
                 RINGSIDE_VERSION, "state", "starting", "state-message", "", "engine",
                 config->engine, "engine-reason", config->engine_reason, "pid", (int)getpid(),
                 "medium", "", "serial", config->serial ? config->serial : "", "serial2",
                 config->serial2 ? config->serial2 : "", "exit", "", NULL);
    control_set_usb(control, NULL, 0);
    g_object_set_data(G_OBJECT(control->machine), CONTROL_DATA, control);
    control_machine_connect(control);
    control_input_watch(control, true);
    if (!control_listen(control, error)) {
        control_free(control);
        return NULL;
    }
    return control;
}

void control_detach(struct control *control)
{
    if (control->server) {
        g_dbus_server_stop(control->server);
        g_signal_handlers_disconnect_by_data(control->server, control);
        g_clear_object(&control->server);
        g_unlink(control->socket);
    }
    for (unsigned i = 0; i < control->clients->len; i++) {
        client_detach(control->clients->pdata[i]);
    }
    if (control->tick) {
        g_source_remove(control->tick);
        control->tick = 0;
    }
    control_input_watch(control, false); /* the machine goes next */
}

void control_free(struct control *control)
{
    if (!control) {
        return;
    }
    control_detach(control);
    while (control->clients->len) { /* each may still look at the ones before it */
        g_ptr_array_remove_index(control->clients, control->clients->len - 1);
    }
    g_ptr_array_unref(control->clients);
    g_object_set_data(G_OBJECT(control->machine), CONTROL_DATA, NULL);
    g_object_unref(control->machine);
    g_clear_pointer(&control->cursor_pixels, g_variant_unref);
    g_free(control->socket);
    g_free(control);
}

/* What everybody is told */

void control_set_state(struct control *control, const char *state, const char *message, bool live)
{
    if (state) {
        rs_monitor_machine_set_state(control->machine, state);
    }
    if (message) {
        rs_monitor_machine_set_state_message(control->machine, message);
    }
    control->live = live;
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(control->machine));
    control_screen_wake(control);
}

void control_set_medium(struct control *control, const char *path)
{
    rs_monitor_machine_set_medium(control->machine, path ? path : "");
}

void control_set_network(struct control *control, const char *mode, bool cable,
                         const char *const *forwards)
{
    rs_monitor_machine_set_network(control->machine, mode ? mode : "");
    rs_monitor_machine_set_cable(control->machine, cable);
    rs_monitor_machine_set_forwards(control->machine, forwards);
}

void control_set_usb(struct control *control, const struct control_usb *devices, unsigned n)
{
    GVariantBuilder list;

    g_variant_builder_init(&list, G_VARIANT_TYPE("a(ssqqs)"));
    for (unsigned i = 0; i < n; i++) {
        g_variant_builder_add(&list, "(ssqqs)", devices[i].port, devices[i].name, devices[i].vendor,
                              devices[i].product, devices[i].serial);
    }
    rs_monitor_machine_set_usb_devices(control->machine, g_variant_builder_end(&list));
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(control->machine));
}

static void flush_done(GObject *source, GAsyncResult *result, gpointer opaque)
{
    unsigned *left = opaque;

    g_dbus_connection_flush_finish(G_DBUS_CONNECTION(source), result, NULL);
    --*left;
}

/* Sources outlive a time-out here, hence the cancellable and the second wait. */
static void flush_clients(struct control *control)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    gint64 end = g_get_monotonic_time() + FLUSH_TIME;
    unsigned left = control->clients->len;

    for (unsigned i = 0; i < control->clients->len; i++) {
        struct client *client = control->clients->pdata[i];
        g_dbus_connection_flush(client->connection, cancel, flush_done, &left);
    }
    while (left) {
        if (g_get_monotonic_time() > end) {
            g_cancellable_cancel(cancel);
        }
        if (!g_main_context_iteration(NULL, FALSE)) {
            g_usleep(1000);
        }
    }
}

void control_end(struct control *control, const char *exit)
{
    rs_monitor_machine_set_exit(control->machine, exit);
    control_set_state(control, "off", NULL, false);
    rs_monitor_machine_emit_ended(control->machine, exit);
    flush_clients(control);
}
