/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's settings window: changes are written when the user saves them. New disks are made
 * then, too; the files of removed ones stay.
 */
#include <glib/gi18n-lib.h>
#include <glib/gstdio.h>
#include <math.h>

#include "net/spec.h"
#include "rs-application.h"
#include "rs-draft.h"
#include "rs-host.h"
#include "rs-preferences.h"
#include "rs-state.h"

struct _RsPreferences {
    AdwWindow parent_instance;
    AdwEntryRow *name_row, *kernel_row, *initrd_row, *append_row;
    GtkAdjustment *memory, *processors;
    AdwComboRow *firmware_row, *engine_row, *serial_row, *boot_row, *network_row, *card_row,
        *video_row, *sound_row;
    AdwEntryRow *device_row, *forwards_row;
    GtkWidget *cable_row;
    GtkSwitch *cable;
    AdwActionRow *disc_row;
    AdwPreferencesGroup *disks_group;
    GtkLabel *error;
    GtkWidget *save;
    RsMachine *machine;
    struct settings *settings;
    GPtrArray *disk_rows;
    uint64_t new_bytes[SETTINGS_MAX_DISK]; /* of disks that saving will make */
    bool disks_changed;
    char *kept; /* the file of the disk removed last */
};

#define GIB     (1024.0 * 1024 * 1024)
#define NEW_GIB 20

G_DEFINE_FINAL_TYPE(RsPreferences, rs_preferences, ADW_TYPE_WINDOW)

static const char *const firmware_values[] = {"bios", "uefi", NULL};
static const char *const engine_values[] = {"auto", "kvm", "driver", "translate", NULL};
static const char *const network_values[] = {"user", "isolated", "none", NULL};
static const char *const video_values[] = {"vga", "virtio", NULL};
static const char *const sound_values[] = {"on", "output", "off", NULL};
static const char *const card_values[] = {"e1000e", "virtio", NULL};
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

/* --- Network --- */

#define NETWORK_DEVICE 3 /* row of the list */

static const char *entered(AdwEntryRow *row)
{
    return gtk_editable_get_text(GTK_EDITABLE(row));
}

static const char *network_mode(RsPreferences *self)
{
    guint selected = adw_combo_row_get_selected(self->network_row);

    return selected < NETWORK_DEVICE ? network_values[selected] : entered(self->device_row);
}

/* NULL, or what is wrong with the network as it is entered. */
static char *check_network(RsPreferences *self)
{
    g_auto(GStrv) words = g_strsplit(entered(self->forwards_row), ",", -1);
    const char *mode = network_mode(self);

    if (strcmp(mode, "none") && (!net_mode_valid(mode) || g_str_has_prefix(mode, "tap:fd="))) {
        return g_strdup_printf(_("“%s” is no device; write tap: or bridge: and its name."), mode);
    }
    for (unsigned i = 0; words[i]; i++) {
        struct net_forward forward;
        if (*g_strstrip(words[i]) && !net_forward_parse(words[i], &forward, NULL)) {
            return g_strdup_printf(_("“%s” is no port forward. tcp:2222:22 makes port 2222 of this "
                                     "computer port 22 of "
                                     "the machine."),
                                   words[i]);
        }
        if (*words[i]) {
            net_forward_clear(&forward);
        }
    }
    return NULL;
}

static void show_network_rows(RsPreferences *self)
{
    guint selected = adw_combo_row_get_selected(self->network_row);
    bool card = selected != 2;

    gtk_widget_set_visible(GTK_WIDGET(self->device_row), selected == NETWORK_DEVICE);
    gtk_widget_set_visible(GTK_WIDGET(self->card_row), card);
    gtk_widget_set_visible(self->cable_row, card);
    gtk_widget_set_visible(GTK_WIDGET(self->forwards_row), selected < 2);
}

static void validate(RsPreferences *self)
{
    if (!self->machine) {
        return;
    }
    RsLibrary *library = rs_application_get_library(rs_application_get());
    g_autofree char *wrong = rs_library_check_name(
        library, gtk_editable_get_text(GTK_EDITABLE(self->name_row)), self->machine);

    show_network_rows(self);
    wrong = wrong ? wrong : check_network(self);
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

/* --- Disks --- */

static bool disks_may_change(RsPreferences *self)
{
    RsMachineState state = rs_machine_get_state(self->machine);

    return state == RS_MACHINE_OFF ||
           (state == RS_MACHINE_CRASHED && !rs_machine_is_connected(self->machine));
}

static char *disk_subtitle(RsPreferences *self, unsigned slot)
{
    const char *path = self->settings->disk[slot].path;

    if (!self->new_bytes[slot]) {
        return g_strdup(path);
    }
    g_autofree char *size = g_format_size_full(self->new_bytes[slot], G_FORMAT_SIZE_IEC_UNITS);
    /* Translators: a disk that will be made; its file and its size */
    return g_strdup_printf(_("%s, new, %s"), path, size);
}

static void show_disks(RsPreferences *self);

static void remove_clicked(GtkButton *button, RsPreferences *self)
{
    unsigned slot = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(button), "slot"));

    g_clear_pointer(&self->kept, g_free);
    if (!self->new_bytes[slot]) {
        self->kept = settings_disk_file(self->settings, slot, rs_machine_get_folder(self->machine));
    }
    self->new_bytes[slot] = 0;
    self->disks_changed = true;
    settings_remove_disk(self->settings, slot);
    show_disks(self);
}

static GtkWidget *remove_button(RsPreferences *self, unsigned slot)
{
    GtkWidget *button = gtk_button_new_from_icon_name("list-remove-symbolic");
    g_autofree char *label = g_strdup_printf(_("Remove Disk %u"), slot + 1);

    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(button, "flat");
    gtk_widget_set_tooltip_text(button, label);
    gtk_widget_set_sensitive(button, disks_may_change(self));
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, label,
                                   -1);
    g_object_set_data(G_OBJECT(button), "slot", GUINT_TO_POINTER(slot));
    g_signal_connect_object(button, "clicked", G_CALLBACK(remove_clicked), self, 0);
    return button;
}

static void add_disk_row(RsPreferences *self, unsigned slot)
{
    GtkWidget *row = adw_action_row_new();
    g_autofree char *title = g_strdup_printf(_("Disk %u"), slot + 1);
    g_autofree char *subtitle = disk_subtitle(self, slot);

    g_object_set(row, "use-markup", FALSE, "title", title, "subtitle", subtitle, "icon-name",
                 "drive-harddisk-symbolic", NULL);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), remove_button(self, slot));
    adw_preferences_group_add(self->disks_group, row);
    g_ptr_array_add(self->disk_rows, row);
}

/* The group's description is markup. */
static void show_disk_note(RsPreferences *self)
{
    g_autofree char *note = NULL, *escaped = NULL;

    if (!disks_may_change(self)) {
        note = g_strdup(_("Disks can be added and removed while the machine is off."));
    } else if (self->kept) {
        note = g_strdup_printf(_("The file of the removed disk is kept: %s"), self->kept);
    }
    escaped = note ? g_markup_escape_text(note, -1) : NULL;
    adw_preferences_group_set_description(self->disks_group, escaped);
}

static void show_disks(RsPreferences *self)
{
    unsigned count = 0;

    for (unsigned i = 0; i < self->disk_rows->len; i++) {
        adw_preferences_group_remove(self->disks_group, self->disk_rows->pdata[i]);
    }
    g_ptr_array_set_size(self->disk_rows, 0);
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        if (self->settings->disk[i].path) {
            add_disk_row(self, i);
            count++;
        }
    }
    bool room = disks_may_change(self) && count < SETTINGS_MAX_DISK;
    gtk_widget_action_set_enabled(GTK_WIDGET(self), "preferences.new-disk", room);
    gtk_widget_action_set_enabled(GTK_WIDGET(self), "preferences.add-image", room);
    show_disk_note(self);
    gtk_widget_set_sensitive(GTK_WIDGET(self->network_row), disks_may_change(self));
    gtk_widget_set_sensitive(GTK_WIDGET(self->device_row), disks_may_change(self));
    gtk_widget_set_sensitive(GTK_WIDGET(self->card_row), disks_may_change(self));
    gtk_widget_set_sensitive(GTK_WIDGET(self->video_row), disks_may_change(self));
    gtk_widget_set_sensitive(GTK_WIDGET(self->sound_row), disks_may_change(self));
}

static void add_disk(RsPreferences *self, const char *path, const char *format, uint64_t new_bytes)
{
    int slot = settings_add_disk(self->settings, path, format);

    if (slot >= 0) {
        self->new_bytes[slot] = new_bytes;
        self->disks_changed = true;
    }
    g_clear_pointer(&self->kept, g_free);
    show_disks(self);
}

static void new_disk_answered(AdwMessageDialog *dialog, const char *response, RsPreferences *self)
{
    GtkSpinButton *size = g_object_get_data(G_OBJECT(dialog), "size");

    if (!strcmp(response, "add") && disks_may_change(self)) {
        g_autofree char *name =
            settings_new_disk_name(self->settings, rs_machine_get_folder(self->machine));
        gtk_spin_button_update(size);
        add_disk(self, name, "qcow2", (uint64_t)(gtk_spin_button_get_value(size) * GIB));
    }
}

static void new_disk(GtkWidget *widget, const char *action, GVariant *parameter)
{
    double room = MAX(floor((double)rs_host_limits().disk_bytes / GIB), 1);
    GtkWidget *size = gtk_spin_button_new_with_range(1, room, 1);
    GtkWidget *dialog = adw_message_dialog_new(
        GTK_WINDOW(widget), _("New Disk"),
        _("Its size in GiB. It takes space on the host only as the guest fills it."));

    gtk_spin_button_set_value(GTK_SPIN_BUTTON(size), MIN(NEW_GIB, room));
    gtk_widget_set_halign(size, GTK_ALIGN_CENTER);
    gtk_accessible_update_property(GTK_ACCESSIBLE(size), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Size (GiB)"), -1);
    g_object_set_data(G_OBJECT(dialog), "size", size);
    adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), size);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", _("_Cancel"), "add",
                                     _("_Add"), NULL);
    adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "add");
    adw_message_dialog_set_close_response(ADW_MESSAGE_DIALOG(dialog), "cancel");
    g_signal_connect_object(dialog, "response", G_CALLBACK(new_disk_answered), widget, 0);
    gtk_window_present(GTK_WINDOW(dialog));
}

/* NULL, or why the file cannot be another disk. */
static char *check_image(RsPreferences *self, const char *path)
{
    if (!path) {
        return g_strdup(_("Only files on this computer can be used."));
    }
    if (settings_has_disk(self->settings, path, rs_machine_get_folder(self->machine))) {
        return g_strdup_printf(_("“%s” is a disk of this machine already."), path);
    }
    if (g_access(path, R_OK | W_OK)) {
        return g_strdup_printf(_("“%s” cannot be used: %s."), path, g_strerror(errno));
    }
    return NULL;
}

static void image_chosen(RsPreferences *self, int response, GtkNativeDialog *chooser)
{
    if (response == GTK_RESPONSE_ACCEPT && disks_may_change(self)) {
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(chooser));
        g_autofree char *path = g_file_get_path(file);
        g_autofree char *wrong = check_image(self, path);
        if (wrong) {
            rs_state_show_error(GTK_WINDOW(self), _("The Disk Was Not Added"), wrong);
        } else {
            add_disk(self, path, "auto", 0);
        }
    }
    g_object_unref(chooser);
}

static void choose_image(GtkWidget *widget, const char *action, GVariant *parameter)
{
    GtkFileChooserNative *chooser =
        gtk_file_chooser_native_new(_("Add a Disk Image"), GTK_WINDOW(widget),
                                    GTK_FILE_CHOOSER_ACTION_OPEN, _("_Add"), _("_Cancel"));

    g_signal_connect_object(chooser, "response", G_CALLBACK(image_chosen), widget,
                            G_CONNECT_SWAPPED);
    gtk_native_dialog_show(GTK_NATIVE_DIALOG(chooser));
}

/* Their names were free; what is there after a failure is ours. */
static bool make_disks(RsPreferences *self, GError **error)
{
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_autofree char *file =
            settings_disk_file(self->settings, i, rs_machine_get_folder(self->machine));
        if (self->new_bytes[i] && !rs_draft_create_disk(file, self->new_bytes[i], NULL, error)) {
            return false;
        }
    }
    return true;
}

static void unmake_disks(RsPreferences *self)
{
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_autofree char *file =
            settings_disk_file(self->settings, i, rs_machine_get_folder(self->machine));
        if (self->new_bytes[i]) {
            g_unlink(file);
        }
    }
}

static bool store(RsPreferences *self, GError **error)
{
    if (self->disks_changed && !disks_may_change(self)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                            _("Disks can be added and removed while the machine is off."));
        return false;
    }
    if (make_disks(self, error) && rs_machine_set_settings(self->machine, self->settings, error)) {
        return true;
    }
    unmake_disks(self);
    return false;
}

/* --- The rest --- */

static void set_text(AdwEntryRow *row, const char *text)
{
    gtk_editable_set_text(GTK_EDITABLE(row), text ? text : "");
}

static void show_network(RsPreferences *self)
{
    const struct settings *s = self->settings;
    bool device = strchr(s->network, ':') != NULL;

    adw_combo_row_set_selected(self->network_row,
                               device ? NETWORK_DEVICE : index_of(network_values, s->network));
    set_text(self->device_row, device ? s->network : "tap:");
    adw_combo_row_set_selected(self->card_row, index_of(card_values, s->card));
    gtk_switch_set_active(self->cable, s->cable);
    set_text(self->forwards_row, s->forwards);
}

static void collect_network(RsPreferences *self)
{
    struct settings *s = self->settings;

    replace(&s->network, network_mode(self));
    replace(&s->card, card_values[adw_combo_row_get_selected(self->card_row)]);
    s->cable = gtk_switch_get_active(self->cable);
    replace(&s->forwards, entered(self->forwards_row));
}

static void network_told(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GtkWindow) window = data;
    g_autoptr(GError) error = NULL;

    if (!rs_machine_set_network_finish(RS_MACHINE(source), result, &error)) {
        rs_state_show_error(window, _("The Network Was Not Changed"), error->message);
    }
}

/* A running machine changes at once. */
static void tell_network(RsPreferences *self)
{
    GtkWindow *window = gtk_window_get_transient_for(GTK_WINDOW(self));
    g_auto(GStrv) forwards = settings_forwards(self->settings);

    if (window && rs_machine_is_connected(self->machine)) {
        rs_machine_set_network_async(self->machine, self->settings->cable,
                                     (const char *const *)forwards, network_told, window);
    }
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
    adw_combo_row_set_selected(self->video_row, index_of(video_values, s->video));
    adw_combo_row_set_selected(self->sound_row, index_of(sound_values, s->sound));
    adw_combo_row_set_selected(self->boot_row, index_of(boot_values, s->boot_order));
    adw_combo_row_set_selected(self->serial_row, !strcmp(s->serial, "none")  ? 0
                                                 : !strcmp(s->serial, "pty") ? 1
                                                                             : 2);
    show_network(self);
    show_disc(self);
    show_disks(self);
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
    replace(&s->video, video_values[adw_combo_row_get_selected(self->video_row)]);
    replace(&s->sound, sound_values[adw_combo_row_get_selected(self->sound_row)]);
    collect_network(self);
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
    if (store(self, &error)) {
        tell_network(self);
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
    g_clear_pointer(&self->disk_rows, g_ptr_array_unref);
    g_clear_pointer(&self->kept, g_free);
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
    CHILD(video_row);
    CHILD(sound_row);
    CHILD(network_row);
    CHILD(device_row);
    CHILD(card_row);
    CHILD(cable_row);
    CHILD(cable);
    CHILD(forwards_row);
    CHILD(disc_row);
    CHILD(disks_group);
    CHILD(error);
    CHILD(save);
#undef CHILD
    gtk_widget_class_bind_template_callback(widget_class, validate);
    gtk_widget_class_install_action(widget_class, "preferences.save", NULL, save);
    gtk_widget_class_install_action(widget_class, "preferences.choose-disc", NULL, choose_disc);
    gtk_widget_class_install_action(widget_class, "preferences.eject", NULL, eject);
    gtk_widget_class_install_action(widget_class, "preferences.new-disk", NULL, new_disk);
    gtk_widget_class_install_action(widget_class, "preferences.add-image", NULL, choose_image);
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
    self->machine = g_object_ref(machine);
    self->disk_rows = g_ptr_array_new();
    show_settings(self);
    g_signal_connect_object(machine, "notify::state", G_CALLBACK(show_disks), self,
                            G_CONNECT_SWAPPED);
    validate(self);
    return self;
}
