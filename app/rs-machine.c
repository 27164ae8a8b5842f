/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine of the library. While its monitor runs, the state is what the monitor says (checked);
 * otherwise it follows from the folder: suspended when there is a suspend.state. A connection that
 * ends without a word of farewell is a crash.
 */
#include <glib/gi18n-lib.h>
#include <string.h>

#include "app-enums.h"
#include "rs-host.h"
#include "rs-launch.h"
#include "rs-machine-internal.h"

#define PATH_MACHINE  "/org/ringside/Machine"
#define PATH_SCREEN   "/org/ringside/Screen/0"
#define PATH_INPUT    "/org/ringside/Input"
#define SUSPEND_FILE  "suspend.state"
#define COMMAND_MS    10000
#define SUSPEND_MS    (10 * 60 * 1000)
#define MESSAGE_CHARS 400

G_DEFINE_FINAL_TYPE(RsMachine, rs_machine, G_TYPE_OBJECT)

enum {
    PROP_NAME = 1,
    PROP_STATE,
    PROP_MESSAGE,
    PROP_MEDIUM,
    PROP_ABSOLUTE,
    PROP_CAN_RESIZE,
    PROP_ENGINE,
    N_PROPS
};
static GParamSpec *properties[N_PROPS];
static unsigned usb_signal;

static void set_state(RsMachine *self, RsMachineState state, const char *message)
{
    g_autofree char *clean = message && *message ? rs_host_sanitize(message, MESSAGE_CHARS) : NULL;

    if (g_strcmp0(clean, self->message)) {
        g_free(self->message);
        self->message = g_steal_pointer(&clean);
        g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_MESSAGE]);
    }
    if (state != self->state) {
        self->state = state;
        g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_STATE]);
    }
}

static void set_text(RsMachine *self, char **field, const char *value, unsigned limit, int property)
{
    g_autofree char *clean = value && *value ? rs_host_sanitize(value, limit) : NULL;

    if (g_strcmp0(clean, *field)) {
        g_free(*field);
        *field = g_steal_pointer(&clean);
        g_object_notify_by_pspec(G_OBJECT(self), properties[property]);
    }
}

static bool is_suspended(RsMachine *self)
{
    g_autofree char *path = g_build_filename(self->folder, SUSPEND_FILE, NULL);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* What the folder alone says. */
static void set_resting_state(RsMachine *self)
{
    set_state(self, is_suspended(self) ? RS_MACHINE_SUSPENDED : RS_MACHINE_OFF, NULL);
}

static void load_settings(RsMachine *self)
{
    g_autoptr(GError) error = NULL;
    struct settings *settings = settings_load(self->folder, &error);
    bool active = rs_machine_is_active(self);

    if (!settings && !active) {
        set_state(self, RS_MACHINE_BROKEN, error->message);
    }
    if (!settings && self->settings) {
        return;
    }
    g_autofree char *old = self->settings ? g_strdup(self->settings->name) : NULL;
    settings_free(self->settings);
    self->settings = settings ? settings : settings_new(self->id);
    if (g_strcmp0(old, self->settings->name)) {
        g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_NAME]);
    }
    if (!self->machine) {
        g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_MEDIUM]);
    }
    if (settings && !active && self->state != RS_MACHINE_CRASHED) {
        set_resting_state(self);
    }
}

/* --- The connection
 * ------------------------------------------------------------------------------- */

static RsMachineState parse_state(const char *word)
{
    static const struct {
        const char *word;
        RsMachineState state;
    } words[] = {
        {"starting", RS_MACHINE_STARTING}, {"running", RS_MACHINE_RUNNING},
        {"paused", RS_MACHINE_PAUSED},     {"suspending", RS_MACHINE_SUSPENDING},
        {"io-error", RS_MACHINE_IO_ERROR}, {"crashed", RS_MACHINE_CRASHED},
        {"off", RS_MACHINE_OFF},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!g_strcmp0(word, words[i].word)) {
            return words[i].state;
        }
    }
    return RS_MACHINE_STARTING;
}

static void usb_changed(RsMachine *self, GVariant *usb)
{
    bool same = usb && self->usb ? g_variant_equal(usb, self->usb) : usb == self->usb;

    if (!same) {
        g_clear_pointer(&self->usb, g_variant_unref);
        self->usb = usb ? g_variant_ref(usb) : NULL;
        g_signal_emit(self, usb_signal, 0);
    }
}

static void machine_changed(RsMachine *self)
{
    RsMachineState state = parse_state(rs_monitor_machine_get_state(self->machine));
    const char *message = rs_monitor_machine_get_state_message(self->machine);

    set_text(self, &self->engine, rs_monitor_machine_get_engine(self->machine), 40, PROP_ENGINE);
    set_text(self, &self->engine_reason, rs_monitor_machine_get_engine_reason(self->machine),
             MESSAGE_CHARS, PROP_ENGINE);
    set_text(self, &self->medium, rs_monitor_machine_get_medium(self->machine), 4096, PROP_MEDIUM);
    usb_changed(self, rs_monitor_machine_get_usb_devices(self->machine));
    self->ended |= state == RS_MACHINE_OFF;
    if (state == RS_MACHINE_OFF) {
        return; /* it is off when the monitor has let go of its files */
    }
    set_state(self, state, message);
}

static void machine_ended(RsMachine *self, const char *exit)
{
    self->ended = true;
    g_free(self->exit);
    self->exit = g_strdup(exit);
}

static void drop_connection(RsMachine *self)
{
    if (self->bus) {
        g_signal_handlers_disconnect_by_data(self->bus, self);
    }
    if (self->machine) {
        g_signal_handlers_disconnect_by_data(self->machine, self);
    }
    g_clear_object(&self->machine);
    g_clear_object(&self->bus);
    rs_machine_screen_drop(self);
    g_clear_pointer(&self->engine, g_free);
    g_clear_pointer(&self->engine_reason, g_free);
    g_clear_pointer(&self->medium, g_free);
    usb_changed(self, NULL);
}

/* The sentence for a monitor that went away. */
static void bus_closed(RsMachine *self)
{
    g_autofree char *tail = NULL;

    drop_connection(self);
    g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_MEDIUM]);
    g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_ENGINE]);
    if (!g_strcmp0(self->exit, "triple-fault")) {
        set_state(self, RS_MACHINE_OFF,
                  _("The guest's processor stopped after an error that it could not handle (triple "
                    "fault)."));
    } else if (self->ended || is_suspended(self)) {
        set_resting_state(self);
    } else {
        tail = rs_launch_log_tail(self->folder, 0);
        g_autofree char *message = g_strdup_printf(
            _("The monitor of this machine ended unexpectedly. The end of its log: %s"),
            tail ? tail : _("(empty)"));
        set_state(self, RS_MACHINE_CRASHED, message);
    }
}

static void on_bus_closed(GDBusConnection *bus, gboolean vanished, GError *error, RsMachine *self)
{
    bus_closed(self);
}

static void got_input(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    RsMachine *self = g_task_get_source_object(task);

    self->connecting = false;
    self->input = rs_monitor_input_proxy_new_finish(result, &error);
    if (!self->input || g_dbus_connection_is_closed(self->bus)) {
        drop_connection(self);
        set_resting_state(self);
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED,
                                _("The monitor ended before the machine started"));
        return;
    }
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(self->machine), COMMAND_MS);
    g_signal_connect_swapped(self->machine, "g-properties-changed", G_CALLBACK(machine_changed),
                             self);
    g_signal_connect_swapped(self->machine, "ended", G_CALLBACK(machine_ended), self);
    g_signal_connect(self->bus, "closed", G_CALLBACK(on_bus_closed), self);
    rs_machine_screen_connect(self);
    machine_changed(self);
    rs_machine_screen_start(self);
    g_task_return_boolean(task, TRUE);
}

static void setup_failed(GTask *task, GError *error)
{
    RsMachine *self = g_task_get_source_object(task);

    self->connecting = false;
    drop_connection(self);
    set_resting_state(self);
    g_task_return_error(task, error);
    g_object_unref(task);
}

static void got_screen(GObject *source, GAsyncResult *result, gpointer data)
{
    RsMachine *self = g_task_get_source_object(data);
    GError *error = NULL;

    self->screen = rs_monitor_screen_proxy_new_finish(result, &error);
    if (!self->screen) {
        setup_failed(data, error);
        return;
    }
    rs_monitor_input_proxy_new(self->bus, G_DBUS_PROXY_FLAGS_NONE, NULL, PATH_INPUT,
                               self->cancellable, got_input, data);
}

static void got_machine(GObject *source, GAsyncResult *result, gpointer data)
{
    RsMachine *self = g_task_get_source_object(data);
    GError *error = NULL;

    self->machine = rs_monitor_machine_proxy_new_finish(result, &error);
    if (!self->machine) {
        setup_failed(data, error);
        return;
    }
    rs_monitor_screen_proxy_new(self->bus, G_DBUS_PROXY_FLAGS_NONE, NULL, PATH_SCREEN,
                                self->cancellable, got_screen, data);
}

/* Takes the bus and the task. */
static void set_up(RsMachine *self, GDBusConnection *bus, GTask *task)
{
    self->bus = bus;
    self->ended = false;
    g_clear_pointer(&self->exit, g_free);
    rs_monitor_machine_proxy_new(bus, G_DBUS_PROXY_FLAGS_NONE, NULL, PATH_MACHINE,
                                 self->cancellable, got_machine, task);
}

static void launch(RsMachine *self, GTask *task);

static void found(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsMachine) self = data;
    g_autoptr(GTask) start = g_steal_pointer(&self->waiting_start);
    GDBusConnection *bus = rs_launch_connect_finish(result, NULL);

    if (bus) {
        set_up(self, bus, start ? g_steal_pointer(&start) : g_task_new(self, NULL, NULL, NULL));
        return;
    }
    self->connecting = false; /* nobody runs it: the usual case */
    if (start) {
        launch(self, g_steal_pointer(&start));
    }
}

void rs_machine_refresh(RsMachine *self)
{
    load_settings(self);
    if (!self->bus && !self->connecting) {
        self->connecting = true;
        rs_launch_connect_async(self->id, self->cancellable, found, g_object_ref(self));
    }
}

/* --- Commands
 * ------------------------------------------------------------------------------------- */

static void started(GObject *source, GAsyncResult *result, gpointer data)
{
    RsMachine *self = g_task_get_source_object(data);
    GError *error = NULL;
    GDBusConnection *bus = rs_launch_start_finish(result, &error);

    if (bus) {
        set_up(self, bus, data);
        return;
    }
    self->connecting = false;
    set_resting_state(self);
    g_task_return_error(data, error);
    g_object_unref(data);
}

/* Takes the task. */
static void launch(RsMachine *self, GTask *task)
{
    self->connecting = true;
    set_state(self, RS_MACHINE_STARTING, NULL);
    rs_launch_start_async(self->folder, self->id, self->cancellable, started, task);
}

void rs_machine_start_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(self, NULL, callback, data);

    if (self->bus || self->state == RS_MACHINE_STARTING || self->waiting_start) {
        g_task_return_boolean(task, TRUE);
    } else if (self->state == RS_MACHINE_BROKEN) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s", self->message);
    } else if (self->connecting) {
        self->waiting_start = g_steal_pointer(&task);
    } else {
        launch(self, g_steal_pointer(&task));
    }
}

bool rs_machine_start_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

static const char *const command_methods[] = {
    [RS_MACHINE_PAUSE] = "Pause",        [RS_MACHINE_RESUME] = "Resume",
    [RS_MACHINE_SUSPEND] = "Suspend",    [RS_MACHINE_RESET] = "Reset",
    [RS_MACHINE_SHUT_DOWN] = "ShutDown", [RS_MACHINE_POWER_OFF] = "PowerOff",
};

static bool is_farewell(GError *error)
{
    return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED) ||
           g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_CLOSED) ||
           g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY);
}

void rs_machine_return_error(GTask *task, GError *error)
{
    g_autofree char *clean = NULL;

    g_dbus_error_strip_remote_error(error);
    clean = rs_host_sanitize(error->message, MESSAGE_CHARS);
    g_error_free(error);
    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", clean);
}

/* A monitor that was told to end may do so before it answers. */
static void commanded(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GError) error = NULL;
    const char *method = g_task_get_task_data(task);
    g_autoptr(GVariant) reply = g_dbus_proxy_call_finish(G_DBUS_PROXY(source), result, &error);
    bool ends = !g_strcmp0(method, "Suspend") || !g_strcmp0(method, "PowerOff");

    if (reply || (ends && is_farewell(error))) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    rs_machine_return_error(task, g_steal_pointer(&error));
}

/* Takes a floating or NULL argument. */
static void call_machine(RsMachine *self, const char *method, GVariant *arguments, GTask *task)
{
    g_autoptr(GVariant) owned = arguments ? g_variant_ref_sink(arguments) : NULL;

    if (!self->machine) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                                _("The machine is not running"));
        g_object_unref(task);
        return;
    }
    g_task_set_task_data(task, (gpointer)method, NULL);
    g_dbus_proxy_call(G_DBUS_PROXY(self->machine), method, owned, G_DBUS_CALL_FLAGS_NONE,
                      !strcmp(method, "Suspend") ? SUSPEND_MS : COMMAND_MS, NULL, commanded, task);
}

/* Powering off a suspended machine: what it had in memory goes. Takes the task. */
static void forget_suspension(RsMachine *self, GTask *task)
{
    g_autofree char *path = g_build_filename(self->folder, SUSPEND_FILE, NULL);
    g_autoptr(GFile) file = g_file_new_for_path(path);
    GError *error = NULL;

    if (g_file_delete(file, NULL, &error)) {
        set_resting_state(self);
        g_task_return_boolean(task, TRUE);
    } else {
        g_task_return_error(task, error);
    }
    g_object_unref(task);
}

void rs_machine_command_async(RsMachine *self, RsMachineCommand command,
                              GAsyncReadyCallback callback, gpointer data)
{
    g_return_if_fail(command < G_N_ELEMENTS(command_methods));
    if (command == RS_MACHINE_POWER_OFF && self->state == RS_MACHINE_SUSPENDED) {
        forget_suspension(self, g_task_new(self, NULL, callback, data));
        return;
    }
    call_machine(self, command_methods[command], NULL, g_task_new(self, NULL, callback, data));
}

bool rs_machine_command_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

void rs_machine_change_medium_async(RsMachine *self, const char *path, bool force,
                                    GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(self, NULL, callback, data);
    GError *error = NULL;

    if (self->machine) {
        call_machine(self, path ? "InsertMedium" : "EjectMedium",
                     path ? g_variant_new("(s)", path) : g_variant_new("(b)", force), task);
        return;
    }
    g_autoptr(RsSettings) settings = rs_machine_copy_settings(self, &error);
    if (settings) {
        settings->has_cdrom = true;
        g_free(settings->cdrom);
        settings->cdrom = g_strdup(path);
    }
    if (settings && rs_machine_set_settings(self, settings, &error)) {
        g_task_return_boolean(task, TRUE);
    } else {
        g_task_return_error(task, error);
    }
    g_object_unref(task);
}

bool rs_machine_change_medium_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

static void change_network(RsMachine *self, const char *method, GVariant *argument,
                           GAsyncReadyCallback callback, gpointer object)
{
    call_machine(self, method, argument, g_task_new(self, NULL, callback, g_object_ref(object)));
}

void rs_machine_set_network_async(RsMachine *self, bool cable, const char *const *forwards,
                                  GAsyncReadyCallback callback, gpointer window)
{
    static const char *const none[] = {NULL};
    const char *const *old = self->machine ? rs_monitor_machine_get_forwards(self->machine) : NULL;

    old = old ? old : none;
    if (!self->machine || !*rs_monitor_machine_get_network(self->machine)) {
        return;
    }
    if (cable != rs_monitor_machine_get_cable(self->machine)) {
        change_network(self, "SetCable", g_variant_new("(b)", cable), callback, window);
    }
    for (unsigned i = 0; old[i]; i++) {
        if (!g_strv_contains(forwards, old[i])) {
            change_network(self, "RemoveForward", g_variant_new("(s)", old[i]), callback, window);
        }
    }
    for (unsigned i = 0; forwards[i]; i++) {
        if (!g_strv_contains(old, forwards[i])) {
            change_network(self, "AddForward", g_variant_new("(s)", forwards[i]), callback, window);
        }
    }
}

bool rs_machine_set_network_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

static bool delete_tree(GFile *file, GError **error)
{
    if (g_file_query_file_type(file, G_FILE_QUERY_INFO_NOFOLLOW_SYMLINKS, NULL) ==
        G_FILE_TYPE_DIRECTORY) {
        g_autoptr(GFileEnumerator) children = g_file_enumerate_children(
            file, "standard::name", G_FILE_QUERY_INFO_NOFOLLOW_SYMLINKS, NULL, error);
        GFile *child;
        while (children && g_file_enumerator_iterate(children, NULL, &child, NULL, error) &&
               child) {
            if (!delete_tree(child, error)) {
                return false;
            }
        }
    }
    return g_file_delete(file, NULL, error);
}

static void delete_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    RsMachine *self = source;
    g_autoptr(GFile) folder = g_file_new_for_path(self->folder);
    bool forever = GPOINTER_TO_INT(data);
    GError *error = NULL;

    if (forever ? delete_tree(folder, &error) : g_file_trash(folder, NULL, &error)) {
        g_task_return_boolean(task, TRUE);
    } else {
        g_task_return_error(task, error);
    }
}

void rs_machine_delete_async(RsMachine *self, bool forever, GAsyncReadyCallback callback,
                             gpointer data)
{
    g_autoptr(GTask) task = g_task_new(self, NULL, callback, data);

    if (self->bus) {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_BUSY,
                                _("The machine is running; turn it off first"));
        return;
    }
    g_task_set_task_data(task, GINT_TO_POINTER(forever), NULL);
    g_task_run_in_thread(task, delete_in_thread);
}

bool rs_machine_delete_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error);
}

/* --- Settings
 * ------------------------------------------------------------------------------------- */

const char *rs_machine_get_id(RsMachine *self)
{
    return self->id;
}

const char *rs_machine_get_folder(RsMachine *self)
{
    return self->folder;
}

const char *rs_machine_get_name(RsMachine *self)
{
    return self->settings->name;
}

RsMachineState rs_machine_get_state(RsMachine *self)
{
    return self->state;
}

const char *rs_machine_get_message(RsMachine *self)
{
    return self->message;
}

const char *rs_machine_get_engine(RsMachine *self)
{
    return self->engine;
}

const char *rs_machine_get_engine_reason(RsMachine *self)
{
    return self->engine_reason;
}

const char *rs_machine_get_medium(RsMachine *self)
{
    return self->machine ? self->medium : self->settings->cdrom;
}

bool rs_machine_is_active(RsMachine *self)
{
    return self->state == RS_MACHINE_STARTING || self->state == RS_MACHINE_RUNNING ||
           self->state == RS_MACHINE_PAUSED || self->state == RS_MACHINE_SUSPENDING ||
           self->state == RS_MACHINE_IO_ERROR;
}

RsMonitorMachine *rs_machine_get_proxy(RsMachine *self)
{
    return self->machine;
}

bool rs_machine_is_connected(RsMachine *self)
{
    return self->bus != NULL;
}

const struct settings *rs_machine_get_settings(RsMachine *self)
{
    return self->settings;
}

struct settings *rs_machine_copy_settings(RsMachine *self, GError **error)
{
    return settings_load(self->folder, error);
}

bool rs_machine_set_settings(RsMachine *self, const struct settings *settings, GError **error)
{
    if (!settings_save(settings, self->folder, error)) {
        return false;
    }
    load_settings(self);
    return true;
}

bool rs_machine_rename(RsMachine *self, const char *name, GError **error)
{
    g_autoptr(RsSettings) settings = rs_machine_copy_settings(self, error);

    if (!settings) {
        return false;
    }
    g_free(settings->name);
    settings->name = g_strdup(name);
    return rs_machine_set_settings(self, settings, error);
}

/* --- The object
 * ----------------------------------------------------------------------------------- */

static void folder_changed(GFileMonitor *watch, GFile *file, GFile *other, GFileMonitorEvent event,
                           RsMachine *self)
{
    g_autofree char *name = g_file_get_basename(other ? other : file);

    if (!strcmp(name, SETTINGS_FILE)) {
        load_settings(self);
    } else if (!strcmp(name, SUSPEND_FILE) && !rs_machine_is_active(self) &&
               self->state != RS_MACHINE_BROKEN) {
        set_resting_state(self);
    }
}

static void rs_machine_get_property(GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
    RsMachine *self = RS_MACHINE(object);

    switch (id) {
    case PROP_NAME:
        g_value_set_string(value, rs_machine_get_name(self));
        break;
    case PROP_STATE:
        g_value_set_enum(value, self->state);
        break;
    case PROP_MESSAGE:
        g_value_set_string(value, self->message);
        break;
    case PROP_MEDIUM:
        g_value_set_string(value, rs_machine_get_medium(self));
        break;
    case PROP_ABSOLUTE:
        g_value_set_boolean(value, self->absolute);
        break;
    case PROP_CAN_RESIZE:
        g_value_set_boolean(value, rs_machine_can_resize(self));
        break;
    case PROP_ENGINE:
        g_value_set_string(value, self->engine);
        break;
    default:
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
    }
}

static void rs_machine_dispose(GObject *object)
{
    RsMachine *self = RS_MACHINE(object);

    g_cancellable_cancel(self->cancellable);
    if (self->watch) {
        g_signal_handlers_disconnect_by_data(self->watch, self);
    }
    g_clear_object(&self->watch);
    drop_connection(self);
    G_OBJECT_CLASS(rs_machine_parent_class)->dispose(object);
}

static void rs_machine_finalize(GObject *object)
{
    RsMachine *self = RS_MACHINE(object);

    g_clear_object(&self->cancellable);
    settings_free(self->settings);
    g_free(self->folder);
    g_free(self->id);
    g_free(self->message);
    g_free(self->exit);
    G_OBJECT_CLASS(rs_machine_parent_class)->finalize(object);
}

static void rs_machine_class_init(RsMachineClass *klass)
{
    GObjectClass *object_class = G_OBJECT_CLASS(klass);
    const GParamFlags flags = G_PARAM_READABLE | G_PARAM_STATIC_STRINGS;

    object_class->get_property = rs_machine_get_property;
    object_class->dispose = rs_machine_dispose;
    object_class->finalize = rs_machine_finalize;
    properties[PROP_NAME] = g_param_spec_string("name", NULL, NULL, NULL, flags);
    properties[PROP_STATE] =
        g_param_spec_enum("state", NULL, NULL, RS_TYPE_MACHINE_STATE, RS_MACHINE_OFF, flags);
    properties[PROP_MESSAGE] = g_param_spec_string("message", NULL, NULL, NULL, flags);
    properties[PROP_MEDIUM] = g_param_spec_string("medium", NULL, NULL, NULL, flags);
    properties[PROP_ABSOLUTE] = g_param_spec_boolean("absolute", NULL, NULL, FALSE, flags);
    properties[PROP_CAN_RESIZE] = g_param_spec_boolean("can-resize", NULL, NULL, FALSE, flags);
    properties[PROP_ENGINE] = g_param_spec_string("engine", NULL, NULL, NULL, flags);
    g_object_class_install_properties(object_class, N_PROPS, properties);
    rs_machine_screen_class_init();
    usb_signal = g_signal_new("usb-changed", RS_TYPE_MACHINE, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                              NULL, G_TYPE_NONE, 0);
}

static void rs_machine_init(RsMachine *self)
{
    self->cancellable = g_cancellable_new();
}

RsMachine *rs_machine_new(const char *folder)
{
    RsMachine *self = g_object_new(RS_TYPE_MACHINE, NULL);
    g_autoptr(GFile) file = g_file_new_for_path(folder);

    self->folder = g_strdup(folder);
    self->id = g_path_get_basename(folder);
    self->watch = g_file_monitor_directory(file, G_FILE_MONITOR_WATCH_MOVES, NULL, NULL);
    if (self->watch) {
        g_signal_connect(self->watch, "changed", G_CALLBACK(folder_changed), self);
    }
    rs_machine_refresh(self);
    return self;
}
