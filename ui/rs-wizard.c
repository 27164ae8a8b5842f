/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wizard (see rs-wizard.h). */
#include <glib/gi18n-lib.h>
#include <math.h>

#include "obstacle.h"
#include "rs-application.h"
#include "rs-draft.h"
#include "rs-machine-actions.h"
#include "rs-media.h"
#include "rs-state.h"
#include "rs-wizard.h"

#define GIB       ((double)(UINT64_C(1) << 30))
#define MAX_FOUND 6u

struct _RsWizard {
    AdwWindow parent_instance;
    GtkStack *stack;
    AdwWindowTitle *title;
    GtkButton *back, *next, *cancel;
    GtkLabel *file_error, *settings_error, *summary_error;
    GtkWidget *detecting, *drop_area;
    AdwPreferencesGroup *found_group;
    GtkImage *system_icon;
    AdwActionRow *system_row, *memory_row, *processors_row, *disk_row;
    AdwEntryRow *name_row;
    GtkAdjustment *memory, *processors, *disk;
    GtkWidget *disk_switch;
    AdwComboRow *firmware_row, *engine_row, *serial_row, *network_row;
    AdwPreferencesGroup *summary_group;
    AdwStatusPage *progress;
    GtkWidget *spinner, *retry;

    RsMedia *media;
    RsDraft *draft;
    GCancellable *cancellable;
    GPtrArray *summary_rows;
    gboolean demo;
};

G_DEFINE_FINAL_TYPE(RsWizard, rs_wizard, ADW_TYPE_WINDOW)

static const char *const firmware_values[] = {"bios", "uefi"};
static const char *const engine_values[] = {"auto", "kvm", "driver", "translate"};
static const char *const serial_values[] = {"none", "pty"};
static const char *const network_values[] = {"user", "isolated", "none"};

static void show_message(GtkLabel *label, const char *message)
{
    gtk_label_set_text(label, message ? message : "");
    gtk_widget_set_visible(GTK_WIDGET(label), message != NULL);
}

static const char *page(RsWizard *self)
{
    return gtk_stack_get_visible_child_name(self->stack);
}

/* --- Settings
 * ------------------------------------------------------------------------------------- */

static void replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

/* From the widgets into the draft. */
static void collect(RsWizard *self)
{
    RsDraft *d = self->draft;

    g_free(d->name);
    d->name = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(self->name_row))));
    d->memory_mib = (uint64_t)gtk_adjustment_get_value(self->memory);
    d->processors = (unsigned)gtk_adjustment_get_value(self->processors);
    d->disk_bytes = gtk_switch_get_active(GTK_SWITCH(self->disk_switch))
                        ? (uint64_t)(gtk_adjustment_get_value(self->disk) * GIB)
                        : 0;
    replace(&d->firmware, firmware_values[adw_combo_row_get_selected(self->firmware_row)]);
    replace(&d->engine, engine_values[adw_combo_row_get_selected(self->engine_row)]);
    replace(&d->serial, serial_values[adw_combo_row_get_selected(self->serial_row)]);
    replace(&d->network, network_values[adw_combo_row_get_selected(self->network_row)]);
}

static void validate(RsWizard *self)
{
    if (!self->draft || g_strcmp0(page(self), "settings")) {
        return;
    }
    collect(self);
    g_autofree char *wrong =
        rs_draft_check(self->draft, rs_application_get_library(rs_application_get()));
    show_message(self->settings_error, wrong);
    gtk_widget_set_sensitive(GTK_WIDGET(self->next), !wrong);
}

static char *size_text(double bytes)
{
    return g_format_size_full((guint64)bytes, G_FORMAT_SIZE_IEC_UNITS);
}

/* What the host can give bounds the sliders. */
static void apply_limits(RsWizard *self)
{
    RsHostLimits limits = rs_host_limits();
    g_autofree char *memory = size_text((double)limits.memory_mib * 1024 * 1024);
    g_autofree char *space = size_text((double)limits.disk_bytes);
    g_autofree char *memory_text = g_strdup_printf(_("MiB; up to %s here"), memory);
    g_autofree char *processors_text = g_strdup_printf(_("Up to %u here"), limits.processors);
    g_autofree char *disk_text = g_strdup_printf(_("GiB; %s are free"), space);

    gtk_adjustment_set_upper(self->memory, (double)limits.memory_mib);
    gtk_adjustment_set_upper(self->processors, limits.processors);
    gtk_adjustment_set_upper(self->disk, MAX(floor((double)limits.disk_bytes / GIB), 1));
    adw_action_row_set_subtitle(self->memory_row, memory_text);
    adw_action_row_set_subtitle(self->processors_row, processors_text);
    adw_action_row_set_subtitle(self->disk_row, disk_text);
}

static void show_system(RsWizard *self)
{
    g_autofree char *file = self->media->path ? g_path_get_basename(self->media->path) : NULL;
    const char *name = self->media->os_name ? self->media->os_name : _("Unknown system");

    if (!file) {
        name = _("No installer");
    }
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(self->system_row), name);
    adw_action_row_set_subtitle(self->system_row, file ? file : _("You can insert a disc later"));
    gtk_image_set_from_icon_name(self->system_icon, rs_state_system_icon(self->media->os_id));
    show_message(self->settings_error, NULL);
}

static void show_draft(RsWizard *self)
{
    RsDraft *d = self->draft;

    gtk_adjustment_set_value(self->memory, (double)d->memory_mib);
    gtk_adjustment_set_value(self->processors, d->processors);
    gtk_adjustment_set_value(self->disk, (double)d->disk_bytes / GIB);
    gtk_editable_set_text(GTK_EDITABLE(self->name_row), d->name);
    adw_combo_row_set_selected(self->firmware_row, !strcmp(d->firmware, "uefi"));
}

/* --- Summary
 * -------------------------------------------------------------------------------------- */

static GtkWidget *add_summary(RsWizard *self, const char *title, const char *value)
{
    GtkWidget *row = adw_action_row_new();
    GtkWidget *label = gtk_label_new(value);

    g_object_set(row, "title", title, "use-markup", FALSE, NULL);
    gtk_label_set_ellipsize(GTK_LABEL(label), PANGO_ELLIPSIZE_MIDDLE);
    gtk_label_set_selectable(GTK_LABEL(label), FALSE);
    gtk_label_set_xalign(GTK_LABEL(label), 1);
    gtk_widget_set_hexpand(label, TRUE);
    gtk_widget_add_css_class(label, "dim-label");
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), label);
    adw_preferences_group_add(self->summary_group, row);
    g_ptr_array_add(self->summary_rows, row);
    return row;
}

/* What the machine will run on, and what keeps it from the processor's own speed. */
static void add_engine(RsWizard *self)
{
    g_autofree char *obstacle = engine_obstacle(self->draft->engine);
    gboolean automatic = !strcmp(self->draft->engine, "auto");
    gboolean translates = !strcmp(self->draft->engine, "translate") || (automatic && obstacle);
    g_autofree char *warning =
        obstacle && !automatic
            ? g_strdup_printf(_("The machine will not start with this engine. %s"), obstacle)
            : NULL;
    GtkWidget *row = add_summary(self, _("Engine"),
                                 translates                               ? _("Translator (slower)")
                                 : !strcmp(self->draft->engine, "driver") ? _("Ringside’s driver")
                                                                          : "KVM");

    if (obstacle) {
        adw_action_row_set_subtitle(ADW_ACTION_ROW(row), warning ? warning : obstacle);
    }
}

static void show_summary(RsWizard *self)
{
    RsDraft *d = self->draft;
    g_autofree char *memory = size_text((double)d->memory_mib * 1024 * 1024);
    g_autofree char *processors = g_strdup_printf("%u", d->processors);
    g_autofree char *disk = d->disk_bytes ? size_text((double)d->disk_bytes) : NULL;
    g_autofree char *file = d->iso ? g_path_get_basename(d->iso) : NULL;

    for (unsigned i = 0; i < self->summary_rows->len; i++) {
        adw_preferences_group_remove(self->summary_group, self->summary_rows->pdata[i]);
    }
    g_ptr_array_set_size(self->summary_rows, 0);
    add_summary(self, _("Name"), d->name);
    add_summary(self, _("System"),
                self->media->os_name ? self->media->os_name : _("Unknown system"));
    add_summary(self, _("Installer"), file ? file : _("None"));
    add_summary(self, _("Memory"), memory);
    add_summary(self, _("Processors"), processors);
    add_summary(self, _("Disk"), disk ? disk : _("None"));
    add_engine(self);
    add_summary(self, _("Stored in"), rs_host_machines_folder());
    show_message(self->summary_error, NULL);
}

/* --- Pages
 * ---------------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *title, *back, *next;
} PageInfo;

static const PageInfo pages[] = {
    {"installer", N_("New Machine"), NULL, NULL},
    {"settings", N_("Settings"), "installer", "summary"},
    {"summary", N_("Summary"), "settings", "progress"},
    {"progress", N_("New Machine"), NULL, NULL},
};

static const PageInfo *page_info(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        if (!g_strcmp0(name, pages[i].name)) {
            return &pages[i];
        }
    }
    return &pages[0];
}

static void show_page(RsWizard *self, const char *name)
{
    const PageInfo *info = page_info(name);
    gboolean last = !g_strcmp0(name, "summary");

    gtk_stack_set_visible_child_name(self->stack, name);
    adw_window_title_set_title(self->title, _(info->title));
    gtk_widget_set_visible(GTK_WIDGET(self->back), info->back != NULL);
    gtk_widget_set_visible(GTK_WIDGET(self->cancel), info->back == NULL);
    gtk_widget_set_visible(GTK_WIDGET(self->next), info->next != NULL);
    gtk_button_set_label(self->next, last ? _("C_reate") : _("_Next"));
    gtk_widget_set_sensitive(GTK_WIDGET(self->next), TRUE);
    if (!strcmp(name, "settings")) {
        validate(self);
        gtk_widget_grab_focus(GTK_WIDGET(self->next));
    } else if (last) {
        show_summary(self);
        gtk_widget_grab_focus(GTK_WIDGET(self->next));
    }
}

static void take_media(RsWizard *self, RsMedia *media)
{
    rs_media_free(self->media);
    self->media = media;
    rs_draft_apply_media(self->draft, media, rs_application_get_library(rs_application_get()));
    apply_limits(self);
    show_draft(self);
    show_system(self);
    show_page(self, "settings");
}

static void detected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsWizard) self = data;
    g_autoptr(GError) error = NULL;
    RsMedia *media = rs_media_detect_finish(result, &error);

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || !self->draft) {
        rs_media_free(media);
        return;
    }
    gtk_widget_set_visible(self->detecting, FALSE);
    if (media) {
        take_media(self, media);
    } else {
        show_message(self->file_error, error->message);
    }
}

void rs_wizard_take_file(RsWizard *self, const char *path)
{
    if (!path) {
        show_message(self->file_error, _("Only files on this computer can be used."));
        return;
    }
    g_cancellable_cancel(self->cancellable);
    g_clear_object(&self->cancellable);
    self->cancellable = g_cancellable_new();
    show_message(self->file_error, NULL);
    gtk_widget_set_visible(self->detecting, TRUE);
    rs_media_detect_async(path, self->cancellable, detected, g_object_ref(self));
}

static void file_chosen(RsWizard *self, int response, GtkNativeDialog *chooser)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(chooser));
        g_autofree char *path = g_file_get_path(file);
        rs_wizard_take_file(self, path);
    }
    g_object_unref(chooser);
}

static void choose_file(GtkWidget *widget, const char *action, GVariant *parameter)
{
    g_autoptr(GtkFileFilter) images = gtk_file_filter_new(), all = gtk_file_filter_new();
    GtkFileChooser *chooser = GTK_FILE_CHOOSER(
        gtk_file_chooser_native_new(_("Choose an Installer"), GTK_WINDOW(widget),
                                    GTK_FILE_CHOOSER_ACTION_OPEN, _("_Choose"), _("_Cancel")));

    gtk_file_filter_set_name(images, _("Disc images"));
    gtk_file_filter_add_suffix(images, "iso");
    gtk_file_filter_set_name(all, _("All files"));
    gtk_file_filter_add_pattern(all, "*");
    gtk_file_chooser_add_filter(chooser, images);
    gtk_file_chooser_add_filter(chooser, all);
    g_signal_connect_object(chooser, "response", G_CALLBACK(file_chosen), widget,
                            G_CONNECT_SWAPPED);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(chooser));
}

static void install_later(GtkWidget *widget, const char *action, GVariant *parameter)
{
    take_media(RS_WIZARD(widget), rs_media_new(NULL));
}

static gboolean dropped(RsWizard *self, const GValue *value)
{
    g_autofree char *path = g_file_get_path(g_value_get_object(value));

    if (g_strcmp0(page(self), "installer")) {
        return FALSE;
    }
    rs_wizard_take_file(self, path);
    return TRUE;
}

/* --- Creation
 * ------------------------------------------------------------------------------------- */

static void created(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsWizard) self = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *id = rs_draft_create_finish(result, &error);
    RsApplication *application = rs_application_get();
    RsLibrary *library = rs_application_get_library(application);

    if (id) {
        rs_library_refresh(library);
        RsMachine *machine = rs_library_find(library, id);
        gtk_window_destroy(GTK_WINDOW(self));
        if (machine) {
            rs_machine_actions_start(machine, TRUE);
        }
    } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        gtk_window_destroy(GTK_WINDOW(self));
    } else if (self->demo) {
        gtk_widget_set_visible(self->spinner, FALSE);
        gtk_widget_set_visible(self->retry, TRUE);
        adw_status_page_set_title(self->progress, _("No Demonstration Machine"));
        g_autofree char *escaped = g_markup_escape_text(error->message, -1);
        adw_status_page_set_description(self->progress, escaped);
    } else {
        show_page(self, "summary");
        show_message(self->summary_error, error->message);
    }
}

static void told(const char *sentence, gpointer data)
{
    g_autofree char *escaped = g_markup_escape_text(sentence, -1);
    adw_status_page_set_description(ADW_STATUS_PAGE(data), escaped);
}

static void create(RsWizard *self)
{
    show_page(self, "progress");
    gtk_widget_set_visible(self->spinner, TRUE);
    gtk_widget_set_visible(self->retry, FALSE);
    adw_status_page_set_title(self->progress,
                              self->demo ? _("Making a Small Linux") : _("Making the Machine"));
    adw_status_page_set_description(self->progress, NULL);
    g_clear_object(&self->cancellable);
    self->cancellable = g_cancellable_new();
    rs_draft_create_async(self->draft, self->demo ? told : NULL, self->progress, self->cancellable,
                          created, g_object_ref(self));
}

static void go_next(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsWizard *self = RS_WIZARD(widget);
    RsLibrary *library = rs_application_get_library(rs_application_get());

    collect(self);
    g_autofree char *wrong = rs_draft_check(self->draft, library);
    if (!strcmp(page(self), "settings") && !wrong) {
        show_page(self, "summary");
    } else if (!strcmp(page(self), "summary") && wrong) {
        show_message(self->summary_error, wrong);
    } else if (!strcmp(page(self), "summary")) {
        create(self);
    }
}

static void go_back(GtkWidget *widget, const char *action, GVariant *parameter)
{
    const PageInfo *info = page_info(page(RS_WIZARD(widget)));

    if (info->back) {
        show_page(RS_WIZARD(widget), info->back);
    }
}

static void try_again(GtkWidget *widget, const char *action, GVariant *parameter)
{
    create(RS_WIZARD(widget));
}

/* --- Installers in the usual places
 * --------------------------------------------------------------- */

static void found_activated(AdwActionRow *row, RsWizard *self)
{
    rs_wizard_take_file(self, g_object_get_data(G_OBJECT(row), "path"));
}

static void add_found(RsWizard *self, const char *folder, GFileInfo *info)
{
    GtkWidget *row = adw_action_row_new();
    g_autofree char *size = g_format_size((guint64)g_file_info_get_size(info));

    g_object_set(row, "use-markup", FALSE, "title", g_file_info_get_display_name(info), "subtitle",
                 size, "icon-name", "media-optical-symbolic", "activatable", TRUE, NULL);
    g_object_set_data_full(G_OBJECT(row), "path",
                           g_build_filename(folder, g_file_info_get_name(info), NULL), g_free);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row),
                              gtk_image_new_from_icon_name("go-next-symbolic"));
    g_signal_connect(row, "activated", G_CALLBACK(found_activated), self);
    adw_preferences_group_add(self->found_group, row);
    gtk_widget_set_visible(GTK_WIDGET(self->found_group), TRUE);
}

static unsigned find_images(RsWizard *self, const char *path, unsigned limit)
{
    g_autoptr(GFile) folder = path ? g_file_new_for_path(path) : NULL;
    g_autoptr(GFileEnumerator) files =
        folder
            ? g_file_enumerate_children(folder, "standard::*", G_FILE_QUERY_INFO_NONE, NULL, NULL)
            : NULL;
    GFileInfo *info;
    unsigned count = 0;

    while (files && count < limit && g_file_enumerator_iterate(files, &info, NULL, NULL, NULL) &&
           info) {
        g_autofree char *lower = g_ascii_strdown(g_file_info_get_name(info), -1);
        if (g_str_has_suffix(lower, ".iso") &&
            g_file_info_get_file_type(info) == G_FILE_TYPE_REGULAR) {
            add_found(self, path, info);
            count++;
        }
    }
    return count;
}

static void find_installers(RsWizard *self)
{
    const char *downloads = g_get_user_special_dir(G_USER_DIRECTORY_DOWNLOAD);
    unsigned count = 0;

    if (g_strcmp0(downloads, g_get_home_dir())) {
        count = find_images(self, downloads, MAX_FOUND);
    }
    find_images(self, g_get_home_dir(), MAX_FOUND - count);
}

/* --- The window
 * ----------------------------------------------------------------------------------- */

/* While something is being made the window stays until that has been undone. */
static gboolean close_request(GtkWindow *window)
{
    RsWizard *self = RS_WIZARD(window);
    gboolean busy = !g_strcmp0(page(self), "progress") && gtk_widget_get_visible(self->spinner);

    if (self->cancellable) {
        g_cancellable_cancel(self->cancellable);
    }
    if (busy) {
        adw_status_page_set_description(self->progress, _("Cleaning up"));
        return TRUE;
    }
    return GTK_WINDOW_CLASS(rs_wizard_parent_class)->close_request(window);
}

static void rs_wizard_dispose(GObject *object)
{
    RsWizard *self = RS_WIZARD(object);

    if (self->cancellable) {
        g_cancellable_cancel(self->cancellable);
    }
    g_clear_object(&self->cancellable);
    g_clear_pointer(&self->media, rs_media_free);
    g_clear_pointer(&self->draft, rs_draft_free);
    gtk_widget_dispose_template(GTK_WIDGET(object), RS_TYPE_WIZARD);
    G_OBJECT_CLASS(rs_wizard_parent_class)->dispose(object);
}

static void rs_wizard_finalize(GObject *object)
{
    g_ptr_array_unref(RS_WIZARD(object)->summary_rows);
    G_OBJECT_CLASS(rs_wizard_parent_class)->finalize(object);
}

static void bind_children(GtkWidgetClass *widget_class)
{
#define CHILD(name) gtk_widget_class_bind_template_child(widget_class, RsWizard, name)
    CHILD(stack);
    CHILD(title);
    CHILD(back);
    CHILD(next);
    CHILD(cancel);
    CHILD(file_error);
    CHILD(settings_error);
    CHILD(summary_error);
    CHILD(detecting);
    CHILD(drop_area);
    CHILD(found_group);
    CHILD(system_icon);
    CHILD(system_row);
    CHILD(memory_row);
    CHILD(processors_row);
    CHILD(disk_row);
    CHILD(name_row);
    CHILD(memory);
    CHILD(processors);
    CHILD(disk);
    CHILD(disk_switch);
    CHILD(firmware_row);
    CHILD(engine_row);
    CHILD(serial_row);
    CHILD(network_row);
    CHILD(summary_group);
    CHILD(progress);
    CHILD(spinner);
    CHILD(retry);
#undef CHILD
}

static void rs_wizard_class_init(RsWizardClass *klass)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(klass);

    G_OBJECT_CLASS(klass)->dispose = rs_wizard_dispose;
    G_OBJECT_CLASS(klass)->finalize = rs_wizard_finalize;
    GTK_WINDOW_CLASS(klass)->close_request = close_request;
    gtk_widget_class_set_template_from_resource(widget_class,
                                                "/org/ringside/Ringside/ui/wizard.ui");
    bind_children(widget_class);
    gtk_widget_class_bind_template_callback(widget_class, validate);
    gtk_widget_class_install_action(widget_class, "wizard.choose-file", NULL, choose_file);
    gtk_widget_class_install_action(widget_class, "wizard.install-later", NULL, install_later);
    gtk_widget_class_install_action(widget_class, "wizard.next", NULL, go_next);
    gtk_widget_class_install_action(widget_class, "wizard.back", NULL, go_back);
    gtk_widget_class_install_action(widget_class, "wizard.try-again", NULL, try_again);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_Escape, 0, "window.close", NULL);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_o, GDK_CONTROL_MASK,
                                        "wizard.choose-file", NULL);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_Left, GDK_ALT_MASK, "wizard.back",
                                        NULL);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_Right, GDK_ALT_MASK, "wizard.next",
                                        NULL);
}

static void rs_wizard_init(RsWizard *self)
{
    GtkDropTarget *target;

    gtk_widget_init_template(GTK_WIDGET(self));
    self->draft = rs_draft_new();
    self->summary_rows = g_ptr_array_new();
    target = gtk_drop_target_new(G_TYPE_FILE, GDK_ACTION_COPY);
    g_signal_connect_swapped(target, "drop", G_CALLBACK(dropped), self);
    gtk_widget_add_controller(GTK_WIDGET(self->stack), GTK_EVENT_CONTROLLER(target));
    show_page(self, "installer");
}

RsWizard *rs_wizard_new(GtkWindow *parent)
{
    RsWizard *self = g_object_new(RS_TYPE_WIZARD, "transient-for", parent, "modal", TRUE, NULL);

    find_installers(self);
    return self;
}

RsWizard *rs_wizard_new_demo(GtkWindow *parent)
{
    RsWizard *self = g_object_new(RS_TYPE_WIZARD, "transient-for", parent, "modal", TRUE, NULL);
    RsLibrary *library = rs_application_get_library(rs_application_get());

    self->demo = TRUE;
    rs_draft_free(self->draft);
    self->draft = rs_draft_new_demo(library);
    create(self);
    return self;
}
