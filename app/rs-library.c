/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of machines (see rs-library.h). */
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "rs-host.h"
#include "rs-library.h"

#define SETTLE_MS 150

struct _RsLibrary {
    GObject parent_instance;
    GPtrArray *machines;
    GFileMonitor *folder, *sockets;
    unsigned refresh_id;
};

static GType library_item_type(GListModel *model)
{
    return RS_TYPE_MACHINE;
}

static guint library_n_items(GListModel *model)
{
    return RS_LIBRARY(model)->machines->len;
}

static gpointer library_item(GListModel *model, guint position)
{
    RsLibrary *self = RS_LIBRARY(model);
    return position < self->machines->len ? g_object_ref(self->machines->pdata[position]) : NULL;
}

static void list_model_init(GListModelInterface *iface)
{
    iface->get_item_type = library_item_type;
    iface->get_n_items = library_n_items;
    iface->get_item = library_item;
}

G_DEFINE_FINAL_TYPE_WITH_CODE(RsLibrary, rs_library, G_TYPE_OBJECT,
                              G_IMPLEMENT_INTERFACE(G_TYPE_LIST_MODEL, list_model_init))

static int compare(gconstpointer a, gconstpointer b)
{
    return g_utf8_collate(rs_machine_get_name(*(RsMachine *const *)a),
                          rs_machine_get_name(*(RsMachine *const *)b));
}

/* Names may have changed; few machines, so everything is announced anew. */
static void sort(RsLibrary *self)
{
    g_ptr_array_sort(self->machines, compare);
    g_list_model_items_changed(G_LIST_MODEL(self), 0, self->machines->len, self->machines->len);
}

static void add(RsLibrary *self, const char *folder)
{
    RsMachine *machine = rs_machine_new(folder);
    unsigned at = 0;

    g_signal_connect_swapped(machine, "notify::name", G_CALLBACK(sort), self);
    while (at < self->machines->len && compare(&self->machines->pdata[at], &machine) <= 0) {
        at++;
    }
    g_ptr_array_insert(self->machines, (int)at, machine);
    g_list_model_items_changed(G_LIST_MODEL(self), at, 0, 1);
}

static void drop_missing(RsLibrary *self)
{
    for (unsigned i = self->machines->len; i-- > 0;) {
        RsMachine *machine = self->machines->pdata[i];
        if (!g_file_test(rs_machine_get_folder(machine), G_FILE_TEST_IS_DIR)) {
            g_signal_handlers_disconnect_by_data(machine, self);
            g_ptr_array_remove_index(self->machines, i);
            g_list_model_items_changed(G_LIST_MODEL(self), i, 1, 0);
        }
    }
}

void rs_library_refresh(RsLibrary *self)
{
    g_autoptr(GDir) dir = g_dir_open(rs_host_machines_folder(), 0, NULL);
    const char *name;

    drop_missing(self);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *folder = g_build_filename(rs_host_machines_folder(), name, NULL);
        g_autofree char *file = g_build_filename(folder, SETTINGS_FILE, NULL);
        RsMachine *known = rs_library_find(self, name);
        if (known) {
            rs_machine_refresh(known);
        } else if (name[0] != '.' && g_file_test(file, G_FILE_TEST_EXISTS)) {
            add(self, folder);
        }
    }
}

static gboolean refresh_later(gpointer data)
{
    RsLibrary *self = data;

    self->refresh_id = 0;
    rs_library_refresh(self);
    return G_SOURCE_REMOVE;
}

static void folder_changed(RsLibrary *self)
{
    if (!self->refresh_id) {
        self->refresh_id = g_timeout_add(SETTLE_MS, refresh_later, self);
    }
}

static GFileMonitor *watch(RsLibrary *self, const char *folder)
{
    g_autoptr(GFile) file = g_file_new_for_path(folder);
    GFileMonitor *monitor = g_file_monitor_directory(file, G_FILE_MONITOR_WATCH_MOVES, NULL, NULL);

    if (monitor) {
        g_signal_connect_swapped(monitor, "changed", G_CALLBACK(folder_changed), self);
    }
    return monitor;
}

RsMachine *rs_library_find(RsLibrary *self, const char *id)
{
    for (unsigned i = 0; i < self->machines->len; i++) {
        if (!strcmp(rs_machine_get_id(self->machines->pdata[i]), id)) {
            return self->machines->pdata[i];
        }
    }
    return NULL;
}

static bool is_taken(RsLibrary *self, const char *name, RsMachine *except)
{
    g_autofree char *folded = g_utf8_casefold(name, -1);

    for (unsigned i = 0; i < self->machines->len; i++) {
        RsMachine *machine = self->machines->pdata[i];
        g_autofree char *other = g_utf8_casefold(rs_machine_get_name(machine), -1);
        if (machine != except && !strcmp(folded, other)) {
            return true;
        }
    }
    return false;
}

char *rs_library_check_name(RsLibrary *self, const char *name, RsMachine *except)
{
    g_autofree char *trimmed = g_strstrip(g_strdup(name));

    if (!*trimmed) {
        return g_strdup(_("The machine needs a name."));
    }
    if (g_utf8_strlen(trimmed, -1) > 200) {
        return g_strdup(_("The name is longer than 200 characters."));
    }
    if (is_taken(self, trimmed, except)) {
        return g_strdup_printf(_("There is a machine named “%s” already."), trimmed);
    }
    return NULL;
}

char *rs_library_suggest_name(RsLibrary *self, const char *base)
{
    char *name = g_strdup(base);

    for (unsigned i = 2; is_taken(self, name, NULL); i++) {
        g_free(name);
        name = g_strdup_printf("%s %u", base, i);
    }
    return name;
}

GPtrArray *rs_library_get_active(RsLibrary *self)
{
    GPtrArray *active = g_ptr_array_new_with_free_func(g_object_unref);

    for (unsigned i = 0; i < self->machines->len; i++) {
        if (rs_machine_is_active(self->machines->pdata[i])) {
            g_ptr_array_add(active, g_object_ref(self->machines->pdata[i]));
        }
    }
    return active;
}

static void rs_library_dispose(GObject *object)
{
    RsLibrary *self = RS_LIBRARY(object);

    g_clear_handle_id(&self->refresh_id, g_source_remove);
    for (unsigned i = 0; i < self->machines->len; i++) {
        g_signal_handlers_disconnect_by_data(self->machines->pdata[i], self);
    }
    g_ptr_array_set_size(self->machines, 0);
    g_clear_object(&self->folder);
    g_clear_object(&self->sockets);
    G_OBJECT_CLASS(rs_library_parent_class)->dispose(object);
}

static void rs_library_finalize(GObject *object)
{
    g_ptr_array_unref(RS_LIBRARY(object)->machines);
    G_OBJECT_CLASS(rs_library_parent_class)->finalize(object);
}

static void rs_library_class_init(RsLibraryClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = rs_library_dispose;
    G_OBJECT_CLASS(klass)->finalize = rs_library_finalize;
}

static void rs_library_init(RsLibrary *self)
{
    self->machines = g_ptr_array_new_with_free_func(g_object_unref);
    g_mkdir_with_parents(rs_host_sockets_folder(), 0700);
    self->folder = watch(self, rs_host_machines_folder());
    self->sockets = watch(self, rs_host_sockets_folder());
    rs_library_refresh(self);
}

RsLibrary *rs_library_new(void)
{
    return g_object_new(RS_TYPE_LIBRARY, NULL);
}
