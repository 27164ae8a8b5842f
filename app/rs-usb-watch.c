/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells when USB devices come and go: the folders of /dev/bus/usb change. That happens also when
 * udev has given the user access to a new node, which is what one waits for; so it is told some
 * moments after the last change.
 */
#include "rs-usb.h"

#define NODES    "/dev/bus/usb"
#define PAUSE_MS 300

struct _RsUsbWatch {
    GObject parent_instance;
    GHashTable *folders; /* path to GFileMonitor */
    guint pause;
};

G_DEFINE_FINAL_TYPE(RsUsbWatch, rs_usb_watch, G_TYPE_OBJECT)

static guint changed_signal;

static void watch_all(RsUsbWatch *self);

static gboolean tell(gpointer data)
{
    RsUsbWatch *self = data;

    self->pause = 0;
    watch_all(self);
    g_signal_emit(self, changed_signal, 0);
    return G_SOURCE_REMOVE;
}

static void folder_changed(GFileMonitor *monitor, GFile *file, GFile *other,
                           GFileMonitorEvent event, RsUsbWatch *self)
{
    g_clear_handle_id(&self->pause, g_source_remove);
    self->pause = g_timeout_add(PAUSE_MS, tell, self);
}

static void watch(RsUsbWatch *self, const char *path)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    GFileMonitor *monitor;

    if (g_hash_table_contains(self->folders, path)) {
        return;
    }
    monitor = g_file_monitor_directory(file, G_FILE_MONITOR_NONE, NULL, NULL);
    if (monitor) {
        g_file_monitor_set_rate_limit(monitor, PAUSE_MS);
        g_signal_connect(monitor, "changed", G_CALLBACK(folder_changed), self);
        g_hash_table_insert(self->folders, g_strdup(path), monitor);
    }
}

/* A folder for each bus; buses come and go, too (docks). */
static void watch_all(RsUsbWatch *self)
{
    g_autoptr(GDir) dir = g_dir_open(NODES, 0, NULL);
    GHashTableIter iter;
    gpointer path;
    const char *name;

    g_hash_table_iter_init(&iter, self->folders);
    while (g_hash_table_iter_next(&iter, &path, NULL)) {
        if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
            g_hash_table_iter_remove(&iter);
        }
    }
    watch(self, NODES);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *bus = g_build_filename(NODES, name, NULL);
        watch(self, bus);
    }
}

static void monitor_free(gpointer data)
{
    g_file_monitor_cancel(data);
    g_object_unref(data);
}

static void rs_usb_watch_dispose(GObject *object)
{
    RsUsbWatch *self = RS_USB_WATCH(object);
    GHashTableIter iter;
    gpointer monitor;

    g_clear_handle_id(&self->pause, g_source_remove);
    g_hash_table_iter_init(&iter, self->folders);
    while (g_hash_table_iter_next(&iter, NULL, &monitor)) {
        g_signal_handlers_disconnect_by_data(monitor, self);
    }
    g_hash_table_remove_all(self->folders);
    G_OBJECT_CLASS(rs_usb_watch_parent_class)->dispose(object);
}

static void rs_usb_watch_finalize(GObject *object)
{
    g_hash_table_unref(RS_USB_WATCH(object)->folders);
    G_OBJECT_CLASS(rs_usb_watch_parent_class)->finalize(object);
}

static void rs_usb_watch_class_init(RsUsbWatchClass *klass)
{
    GObjectClass *object_class = G_OBJECT_CLASS(klass);

    object_class->dispose = rs_usb_watch_dispose;
    object_class->finalize = rs_usb_watch_finalize;
    changed_signal = g_signal_new("changed", RS_TYPE_USB_WATCH, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                                  NULL, G_TYPE_NONE, 0);
}

static void rs_usb_watch_init(RsUsbWatch *self)
{
    self->folders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, monitor_free);
    watch_all(self);
}

RsUsbWatch *rs_usb_watch_new(void)
{
    return g_object_new(RS_TYPE_USB_WATCH, NULL);
}
