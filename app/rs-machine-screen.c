/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's screen and input, as its monitor has them; nothing happens while there is none. */
#include <gio/gunixfdlist.h>
#include <glib/gi18n-lib.h>

#include "rs-machine-internal.h"

#define MAX_KEY 0x2ffu
#define LAST_MS 1000

enum { SIGNAL_FRAME, SIGNAL_DAMAGE, SIGNAL_CURSOR, N_SIGNALS };
static unsigned signals[N_SIGNALS];

/* --- The cursor --- */

static void drop_cursor(RsMachine *self)
{
    rs_cursor_clear(&self->cursor);
    g_signal_emit(self, signals[SIGNAL_CURSOR], 0, TRUE);
}

static void on_cursor(RsMachine *self, guint width, guint height, guint hot_x, guint hot_y,
                      GVariant *pixels)
{
    if (self->attached) {
        rs_cursor_set_image(&self->cursor, width, height, hot_x, hot_y, pixels);
        g_signal_emit(self, signals[SIGNAL_CURSOR], 0, TRUE);
    }
}

static void on_cursor_moved(RsMachine *self, int x, int y, gboolean visible)
{
    self->cursor.x = x;
    self->cursor.y = y;
    self->cursor.visible = visible;
    g_signal_emit(self, signals[SIGNAL_CURSOR], 0, FALSE);
}

const RsCursor *rs_machine_get_cursor(RsMachine *self)
{
    return self->cursor.pixels ? &self->cursor : NULL;
}

/* --- The picture --- */

static void on_damage(RsMachine *self, guint mode, guint x, guint y, guint width, guint height)
{
    if (!self->frame || mode != rs_frame_get_mode(self->frame)) {
        return;
    }
    uint32_t w = rs_frame_get_width(self->frame), h = rs_frame_get_height(self->frame);
    if (x < w && y < h && width && height) {
        g_signal_emit(self, signals[SIGNAL_DAMAGE], 0, x, y, MIN(width, w - x), MIN(height, h - y));
    }
}

/* Attach and Capture answer alike. */
static RsFrame *frame_from_reply(guint mode, guint width, guint height, guint stride,
                                 GVariant *handle, GUnixFDList *fds, GError **error)
{
    int index = handle ? g_variant_get_handle(handle) : -1;
    int fd = -1;

    if (fds && index >= 0 && index < g_unix_fd_list_get_length(fds)) {
        fd = g_unix_fd_list_get(fds, index, NULL);
    }
    return rs_frame_new(mode, width, height, stride, fd, error);
}

static void attached(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsMachine) self = data;
    g_autoptr(GUnixFDList) fds = NULL;
    g_autoptr(GVariant) handle = NULL;
    g_autoptr(GError) error = NULL;
    guint mode, width, height, stride;

    if (!rs_monitor_screen_call_attach_finish(RS_MONITOR_SCREEN(source), &mode, &width, &height,
                                              &stride, &handle, &fds, result, &error)) {
        return;
    }
    RsFrame *frame = frame_from_reply(mode, width, height, stride, handle, fds, &error);
    if (!frame) {
        g_warning("%s", error->message);
        return;
    }
    g_clear_object(&self->frame);
    self->frame = frame;
    g_signal_emit(self, signals[SIGNAL_FRAME], 0, frame);
}

static void call_attach(RsMachine *self)
{
    if (self->screen && self->attached) {
        rs_monitor_screen_call_attach(self->screen, NULL, self->cancellable, attached,
                                      g_object_ref(self));
    }
}

void rs_machine_attach(RsMachine *self)
{
    self->attached++;
    if (self->attached == 1) {
        call_attach(self);
    } else if (self->frame) {
        g_signal_emit(self, signals[SIGNAL_FRAME], 0, self->frame);
    }
}

void rs_machine_detach(RsMachine *self)
{
    g_return_if_fail(self->attached > 0);
    if (--self->attached == 0 && self->screen) {
        rs_monitor_screen_call_detach(self->screen, NULL, NULL, NULL);
        g_clear_object(&self->frame);
        drop_cursor(self);
    }
}

static void captured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    g_autoptr(GUnixFDList) fds = NULL;
    g_autoptr(GVariant) handle = NULL;
    GError *error = NULL;
    guint mode, width, height, stride;
    RsFrame *frame = NULL;

    if (rs_monitor_screen_call_capture_finish(RS_MONITOR_SCREEN(source), &mode, &width, &height,
                                              &stride, &handle, &fds, result, &error)) {
        frame = frame_from_reply(mode, width, height, stride, handle, fds, &error);
    }
    if (frame) {
        g_task_return_pointer(task, frame, g_object_unref);
    } else {
        g_task_return_error(task, error);
    }
}

void rs_machine_capture_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(self, NULL, callback, data);

    if (self->screen) {
        rs_monitor_screen_call_capture(self->screen, NULL, NULL, captured, task);
        return;
    }
    g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                            _("The machine is not running"));
    g_object_unref(task);
}

RsFrame *rs_machine_capture_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

bool rs_machine_can_resize(RsMachine *self)
{
    return self->screen && rs_monitor_screen_get_can_resize(self->screen);
}

void rs_machine_set_size(RsMachine *self, unsigned width, unsigned height)
{
    if (rs_machine_can_resize(self)) {
        rs_monitor_screen_call_set_size(self->screen, width, height, NULL, NULL, NULL);
    }
}

void rs_machine_set_last_size(RsMachine *self, unsigned width, unsigned height)
{
    if (rs_machine_can_resize(self)) {
        g_autoptr(GVariant) reply = g_dbus_proxy_call_sync(
            G_DBUS_PROXY(self->screen), "SetSize", g_variant_new("(uu)", width, height),
            G_DBUS_CALL_FLAGS_NONE, LAST_MS, NULL, NULL);
    }
}

/* --- Input --- */

static void input_changed(RsMachine *self)
{
    bool absolute = rs_monitor_input_get_absolute(self->input);

    if (absolute != self->absolute) {
        self->absolute = absolute;
        g_object_notify(G_OBJECT(self), "absolute");
    }
}

bool rs_machine_get_absolute(RsMachine *self)
{
    return self->absolute;
}

void rs_machine_key(RsMachine *self, unsigned code, bool down)
{
    if (self->input && code && code <= MAX_KEY) {
        rs_monitor_input_call_key(self->input, code, down, NULL, NULL, NULL);
    }
}

void rs_machine_pointer_relative(RsMachine *self, int dx, int dy, int wheel, unsigned buttons)
{
    if (self->input) {
        rs_monitor_input_call_pointer_relative(self->input, dx, dy, wheel, buttons, NULL, NULL,
                                               NULL);
    }
}

void rs_machine_pointer_absolute(RsMachine *self, unsigned x, unsigned y, int wheel,
                                 unsigned buttons)
{
    if (self->input) {
        rs_monitor_input_call_pointer_absolute(self->input, x, y, wheel, buttons, NULL, NULL, NULL);
    }
}

void rs_machine_release_all(RsMachine *self)
{
    if (self->input) {
        rs_monitor_input_call_release_all(self->input, NULL, NULL, NULL);
    }
}

/* --- The connection --- */

void rs_machine_screen_connect(RsMachine *self)
{
    g_signal_connect_swapped(self->screen, "damage", G_CALLBACK(on_damage), self);
    g_signal_connect_swapped(self->screen, "cursor", G_CALLBACK(on_cursor), self);
    g_signal_connect_swapped(self->screen, "cursor-moved", G_CALLBACK(on_cursor_moved), self);
    g_signal_connect_swapped(self->screen, "mode-changed", G_CALLBACK(call_attach), self);
    g_signal_connect_swapped(self->input, "g-properties-changed", G_CALLBACK(input_changed), self);
    input_changed(self);
    g_object_notify(G_OBJECT(self), "can-resize");
}

void rs_machine_screen_start(RsMachine *self)
{
    call_attach(self);
}

void rs_machine_screen_drop(RsMachine *self)
{
    if (self->screen) {
        g_signal_handlers_disconnect_by_data(self->screen, self);
    }
    if (self->input) {
        g_signal_handlers_disconnect_by_data(self->input, self);
    }
    g_clear_object(&self->screen);
    g_clear_object(&self->input);
    g_clear_object(&self->frame);
    drop_cursor(self);
    g_object_notify(G_OBJECT(self), "can-resize");
}

void rs_machine_screen_class_init(void)
{
    signals[SIGNAL_FRAME] = g_signal_new("frame", RS_TYPE_MACHINE, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                                         NULL, G_TYPE_NONE, 1, RS_TYPE_FRAME);
    signals[SIGNAL_DAMAGE] =
        g_signal_new("damage", RS_TYPE_MACHINE, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE,
                     4, G_TYPE_UINT, G_TYPE_UINT, G_TYPE_UINT, G_TYPE_UINT);
    signals[SIGNAL_CURSOR] = g_signal_new("cursor", RS_TYPE_MACHINE, G_SIGNAL_RUN_LAST, 0, NULL,
                                          NULL, NULL, G_TYPE_NONE, 1, G_TYPE_BOOLEAN);
}
