/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's settings window: changes are written when the user saves them. */
#include <glib/gi18n-lib.h>

#include "rs-application.h"
#include "rs-host.h"
#include "rs-preferences.h"
#include "rs-state.h"

struct _RsPreferences {
    AdwWindow parent_instance;
    AdwEntryRow *name_row, *kernel_row, *initrd_row, *append_row;
    GtkAdjustment *memory, *processors;
    AdwComboRow *firmware_row, *engine_row, *serial_row, *boot_row;
    AdwActionRow *disc_row;
    AdwPreferencesGroup *disks_group;
    GtkLabel *error;
    GtkWidget *save;
    RsMachine *machine;
    struct settings *settings;
};

G_DEFINE_FINAL_TYPE(RsPreferences, rs_preferences, ADW_TYPE_WINDOW)

static const char *const firmware_values[] = {"bios", "uefi", NULL};
static const char *const engine_values[] = {"auto", "kvm", "driver", "translate", NULL};
static const char *const boot_values[] = {"disk,cdrom", "cdrom,disk", "disk", "cdrom", NULL};

static guint index_of(const char *const *values, const char *value)
{
    for (guint i = 0; values[i]; i++) {
        if (!g_strcmp0(values[i], value)) {
            return i;
        }
    }
    return 0;
}

static void replace(char **field, const char *value)
{
    g_free(*field);
    *field = value && *value ? g_strdup(value) : NULL;
}

static void validate(RsPreferences *self)
{
    if (!self->machine) {
        return;
    }
    RsLibrary *library = rs_application_get_library(rs_application_get());
    g_autofree char *wrong = rs_library_check_name(
        library, gtk_editable_get_text(GTK_EDITABLE(self->name_row)), self->machine);

    gtk_label_set_text(self->error, wrong ? wrong : "");
    gtk_widget_set_visible(GTK_WIDGET(self->error), wrong != NULL);
    gtk_widget_set_sensitive(self->save, !wrong);
}

static void show_disc(RsPreferences *self)
{
    g_autofree char *name =
        self->settings->cdrom ? g_path_get_basename(self->settings->cdrom) : g_strdup(_("Empty"));
    adw_action_row_set_subtitle(self->disc_row, name);
}

static void add_disks(RsPreferences *self)
{
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        if (!self->settings->disk[i].path) {
            continue;
        }
        GtkWidget *row = adw_action_row_new();
        g_autofree char *title = g_strdup_printf(_("Disk %u"), i + 1);
        g_object_set(row, "use-markup", FALSE, "title", title, "subtitle",
                     self->settings->disk[i].path, "icon-name", "drive-harddisk-symbolic", NULL);
        adw_preferences_group_add(self->disks_group, row);
    }
}

static void set_text(AdwEntryRow *row, const char *text)
{
    gtk_editable_set_text(GTK_EDITABLE(row), text ? text : "");
}

static void show_settings(RsPreferences *self)
{
    const struct settings *s = self->settings;
    RsHostLimits limits = rs_host_limits();

    gtk_adjustment_set_upper(self->memory, (double)MAX(limits.memory_mib, s->memory_mib));
    gtk_adjustment_set_upper(self->processors, MAX(limits.processors, s->processors));
    gtk_adjustment_set_value(self->memory, (double)s->memory_mib);
    gtk_adjustment_set_value(self->processors, s->processors);
    set_text(self->name_row, s->name);
    set_text(self->kernel_row, s->kernel);
    set_text(self->initrd_row, s->initrd);
    set_text(self->append_row, s->append);
    adw_combo_row_set_selected(self->firmware_row, index_of(firmware_values, s->firmware));
    adw_combo_row_set_selected(self->engine_row, index_of(engine_values, s->engine));
    adw_combo_row_set_selected(self->boot_row, index_of(boot_values, s->boot_order));
    adw_combo_row_set_selected(self->serial_row, !strcmp(s->serial, "none")  ? 0
                                                 : !strcmp(s->serial, "pty") ? 1
                                                                             : 2);
    show_disc(self);
    add_disks(self);
}

static void collect(RsPreferences *self)
{
    struct settings *s = self->settings;
    guint serial = adw_combo_row_get_selected(self->serial_row);

    replace(&s->name, gtk_editable_get_text(GTK_EDITABLE(self->name_row)));
    g_strstrip(s->name);
    s->memory_mib = (uint64_t)gtk_adjustment_get_value(self->memory);
    s->processors = (unsigned)gtk_adjustment_get_value(self->processors);
    replace(&s->firmware, firmware_values[adw_combo_row_get_selected(self->firmware_row)]);
    replace(&s->engine, engine_values[adw_combo_row_get_selected(self->engine_row)]);
    replace(&s->boot_order, boot_values[adw_combo_row_get_selected(self->boot_row)]);
    if (serial < 2 || !g_str_has_prefix(s->serial, "file:")) {
        replace(&s->serial, serial == 0 ? "none" : serial == 1 ? "pty" : "file:serial.log");
    }
    replace(&s->kernel, gtk_editable_get_text(GTK_EDITABLE(self->kernel_row)));
    replace(&s->initrd, gtk_editable_get_text(GTK_EDITABLE(self->initrd_row)));
    replace(&s->append, gtk_editable_get_text(GTK_EDITABLE(self->append_row)));
}

static void save(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsPreferences *self = RS_PREFERENCES(widget);
    g_autoptr(GError) error = NULL;

    if (!gtk_widget_get_sensitive(self->save)) {
        return;
    }
    collect(self);
    if (rs_machine_set_settings(self->machine, self->settings, &error)) {
        gtk_window_close(GTK_WINDOW(self));
    } else {
        rs_state_show_error(GTK_WINDOW(self), _("The Settings Were Not Saved"), error->message);
    }
}

static void disc_chosen(RsPreferences *self, int response, GtkNativeDialog *chooser)
{
    if (response == GTK_RESPONSE_ACCEPT) {
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(chooser));
        g_autofree char *path = g_file_get_path(file);
        replace(&self->settings->cdrom, path);
        self->settings->has_cdrom = true;
        show_disc(self);
    }
    g_object_unref(chooser);
}

static void choose_disc(GtkWidget *widget, const char *action, GVariant *parameter)
{
    GtkFileChooserNative *chooser =
        gtk_file_chooser_native_new(_("Insert a Disc Image"), GTK_WINDOW(widget),
                                    GTK_FILE_CHOOSER_ACTION_OPEN, _("_Insert"), _("_Cancel"));

    g_signal_connect_object(chooser, "response", G_CALLBACK(disc_chosen), widget,
                            G_CONNECT_SWAPPED);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(chooser));
}

static void eject(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsPreferences *self = RS_PREFERENCES(widget);

    replace(&self->settings->cdrom, NULL);
    show_disc(self);
}

static void rs_preferences_dispose(GObject *object)
{
    RsPreferences *self = RS_PREFERENCES(object);

    g_clear_object(&self->machine);
    g_clear_pointer(&self->settings, settings_free);
    gtk_widget_dispose_template(GTK_WIDGET(object), RS_TYPE_PREFERENCES);
    G_OBJECT_CLASS(rs_preferences_parent_class)->dispose(object);
}

static void rs_preferences_class_init(RsPreferencesClass *klass)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(klass);

    G_OBJECT_CLASS(klass)->dispose = rs_preferences_dispose;
    gtk_widget_class_set_template_from_resource(widget_class,
                                                "/org/ringside/Ringside/ui/preferences.ui");
#define CHILD(name) gtk_widget_class_bind_template_child(widget_class, RsPreferences, name)
    CHILD(name_row);
    CHILD(kernel_row);
    CHILD(initrd_row);
    CHILD(append_row);
    CHILD(memory);
    CHILD(processors);
    CHILD(firmware_row);
    CHILD(engine_row);
    CHILD(serial_row);
    CHILD(boot_row);
    CHILD(disc_row);
    CHILD(disks_group);
    CHILD(error);
    CHILD(save);
#undef CHILD
    gtk_widget_class_bind_template_callback(widget_class, validate);
    gtk_widget_class_install_action(widget_class, "preferences.save", NULL, save);
    gtk_widget_class_install_action(widget_class, "preferences.choose-disc", NULL, choose_disc);
    gtk_widget_class_install_action(widget_class, "preferences.eject", NULL, eject);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_Escape, 0, "window.close", NULL);
    gtk_widget_class_add_binding_action(widget_class, GDK_KEY_s, GDK_CONTROL_MASK,
                                        "preferences.save", NULL);
}

static void rs_preferences_init(RsPreferences *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
}

RsPreferences *rs_preferences_new(GtkWindow *parent, RsMachine *machine, GError **error)
{
    struct settings *settings = rs_machine_copy_settings(machine, error);

    if (!settings) {
        return NULL;
    }
    RsPreferences *self =
        g_object_new(RS_TYPE_PREFERENCES, "transient-for", parent, "modal", TRUE, NULL);
    self->settings = settings;
    show_settings(self);
    self->machine = g_object_ref(machine);
    validate(self);
    return self;
}
