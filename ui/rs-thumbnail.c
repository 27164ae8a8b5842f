/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Live thumbnails (see rs-thumbnail.h). */
#include "rs-display.h"
#include "rs-state.h"
#include "rs-thumbnail.h"

#define PERIOD_S    2
#define SAVE_EVERY  5 /* pictures */
#define FILE_NAME   "thumbnail.png"
#define ICON_PIXELS 48

struct _RsThumbnail {
    AdwBin parent_instance;
    GtkPicture *picture;
    GtkImage *icon;
    GtkStack *stack;
    RsMachine *machine;
    unsigned timer, count;
};

G_DEFINE_FINAL_TYPE(RsThumbnail, rs_thumbnail, ADW_TYPE_BIN)

static void show_texture(RsThumbnail *self, GdkTexture *texture)
{
    gtk_picture_set_paintable(self->picture, GDK_PAINTABLE(texture));
    gtk_stack_set_visible_child(self->stack,
                                texture ? GTK_WIDGET(self->picture) : GTK_WIDGET(self->icon));
}

static char *file_path(RsThumbnail *self)
{
    return g_build_filename(rs_machine_get_folder(self->machine), FILE_NAME, NULL);
}

static void show_file(RsThumbnail *self)
{
    g_autofree char *path = file_path(self);
    g_autoptr(GdkTexture) texture = gdk_texture_new_from_filename(path, NULL);

    show_texture(self, texture);
}

/* Beside it, then renamed: other processes look at it. */
static void save(RsThumbnail *self, GdkTexture *texture)
{
    g_autofree char *path = file_path(self);
    g_autoptr(GBytes) png = gdk_texture_save_to_png_bytes(texture);

    g_file_set_contents(path, g_bytes_get_data(png, NULL), (gssize)g_bytes_get_size(png), NULL);
}

static void captured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(RsThumbnail) self = data;
    g_autoptr(RsFrame) frame = rs_machine_capture_finish(RS_MACHINE(source), result, NULL);
    g_autoptr(GdkTexture) texture = frame ? rs_display_frame_texture(frame) : NULL;

    if (texture && RS_MACHINE(source) == self->machine) {
        show_texture(self, texture);
        if (self->count++ % SAVE_EVERY == 1) {
            save(self, texture);
        }
    }
}

static gboolean tick(gpointer data)
{
    RsThumbnail *self = data;
    RsMachineState state = rs_machine_get_state(self->machine);

    if (state == RS_MACHINE_RUNNING || state == RS_MACHINE_PAUSED) {
        rs_machine_capture_async(self->machine, captured, g_object_ref(self));
    }
    return G_SOURCE_CONTINUE;
}

static void update_timer(RsThumbnail *self)
{
    gboolean wanted = self->machine && gtk_widget_get_mapped(GTK_WIDGET(self)) &&
                      rs_machine_is_active(self->machine);

    if (wanted && !self->timer) {
        self->timer = g_timeout_add_seconds(PERIOD_S, tick, self);
        tick(self);
    } else if (!wanted) {
        g_clear_handle_id(&self->timer, g_source_remove);
    }
}

static void state_changed(RsThumbnail *self)
{
    RsMachineState state = rs_machine_get_state(self->machine);

    if (state == RS_MACHINE_OFF) {
        show_texture(self, NULL);
    } else if (!rs_machine_is_active(self->machine)) {
        show_file(self);
    }
    update_timer(self);
}

void rs_thumbnail_set_machine(RsThumbnail *self, RsMachine *machine)
{
    if (self->machine) {
        g_signal_handlers_disconnect_by_data(self->machine, self);
    }
    g_set_object(&self->machine, machine);
    self->count = 0;
    show_texture(self, NULL);
    if (machine) {
        gtk_image_set_from_icon_name(self->icon,
                                     rs_state_system_icon(rs_machine_get_settings(machine)->os));
        g_signal_connect_swapped(machine, "notify::state", G_CALLBACK(state_changed), self);
        state_changed(self);
    }
    update_timer(self);
}

static void rs_thumbnail_map(GtkWidget *widget)
{
    GTK_WIDGET_CLASS(rs_thumbnail_parent_class)->map(widget);
    update_timer(RS_THUMBNAIL(widget));
}

static void rs_thumbnail_unmap(GtkWidget *widget)
{
    GTK_WIDGET_CLASS(rs_thumbnail_parent_class)->unmap(widget);
    update_timer(RS_THUMBNAIL(widget));
}

static void rs_thumbnail_dispose(GObject *object)
{
    RsThumbnail *self = RS_THUMBNAIL(object);

    g_clear_handle_id(&self->timer, g_source_remove);
    if (self->machine) {
        g_signal_handlers_disconnect_by_data(self->machine, self);
    }
    g_clear_object(&self->machine);
    G_OBJECT_CLASS(rs_thumbnail_parent_class)->dispose(object);
}

static void rs_thumbnail_class_init(RsThumbnailClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = rs_thumbnail_dispose;
    GTK_WIDGET_CLASS(klass)->map = rs_thumbnail_map;
    GTK_WIDGET_CLASS(klass)->unmap = rs_thumbnail_unmap;
    gtk_widget_class_set_css_name(GTK_WIDGET_CLASS(klass), "thumbnail");
    gtk_widget_class_set_accessible_role(GTK_WIDGET_CLASS(klass), GTK_ACCESSIBLE_ROLE_PRESENTATION);
}

static void rs_thumbnail_init(RsThumbnail *self)
{
    self->stack = GTK_STACK(gtk_stack_new());
    self->picture = GTK_PICTURE(gtk_picture_new());
    self->icon = GTK_IMAGE(gtk_image_new_from_icon_name("ringside-machine-symbolic"));
    gtk_image_set_pixel_size(self->icon, ICON_PIXELS);
    gtk_stack_add_child(self->stack, GTK_WIDGET(self->icon));
    gtk_stack_add_child(self->stack, GTK_WIDGET(self->picture));
    gtk_widget_set_overflow(GTK_WIDGET(self), GTK_OVERFLOW_HIDDEN);
    adw_bin_set_child(ADW_BIN(self), GTK_WIDGET(self->stack));
}
