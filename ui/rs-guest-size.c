/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's screen follows the window (see rs-guest-size.h). */
#include "rs-guest-size.h"

#define SETTLE_MS      300 /* since the last change, so that dragging an edge is one change */
#define MINIMUM_WIDTH  640u
#define MINIMUM_HEIGHT 480u
#define MAXIMUM        8192u
#define WIDTH_STEP     8u /* what most modes can have; the rest is a black edge */

struct _RsGuestSize {
    RsMachine *machine;
    GtkScrolledWindow *view;
    GtkAdjustment *across, *down; /* the view's; their pages are what it shows at once */
    unsigned width, height;       /* last asked for; 0: nothing */
    guint timer;
    gboolean on;
};

static unsigned device_pixels(RsGuestSize *self, GtkAdjustment *adjustment)
{
    int scale = gtk_widget_get_scale_factor(GTK_WIDGET(self->view));

    return (unsigned)(CLAMP(gtk_adjustment_get_page_size(adjustment), 0, MAXIMUM) * scale);
}

static gboolean settled(gpointer data)
{
    RsGuestSize *self = data;
    unsigned width = device_pixels(self, self->across) / WIDTH_STEP * WIDTH_STEP;
    unsigned height = device_pixels(self, self->down);

    self->timer = 0;
    width = CLAMP(width, MINIMUM_WIDTH, MAXIMUM);
    height = CLAMP(height, MINIMUM_HEIGHT, MAXIMUM);
    if (gtk_widget_get_mapped(GTK_WIDGET(self->view)) &&
        (width != self->width || height != self->height)) {
        self->width = width;
        self->height = height;
        rs_machine_set_size(self->machine, width, height);
    }
    return G_SOURCE_REMOVE;
}

/* A paused machine's window has a bar that is gone when it runs on. */
static void changed(RsGuestSize *self)
{
    g_clear_handle_id(&self->timer, g_source_remove);
    if (self->on && rs_machine_can_resize(self->machine) &&
        rs_machine_get_state(self->machine) == RS_MACHINE_RUNNING) {
        self->timer = g_timeout_add(SETTLE_MS, settled, self);
    }
}

/* Another monitor knows nothing of what the last one was asked for. */
static void can_resize_changed(RsGuestSize *self)
{
    self->width = self->height = 0;
    changed(self);
}

void rs_guest_size_set_on(RsGuestSize *self, gboolean on)
{
    if (on != self->on) {
        self->on = on;
        self->width = self->height = 0;
        changed(self);
    }
}

RsGuestSize *rs_guest_size_new(RsMachine *machine, GtkScrolledWindow *view)
{
    RsGuestSize *self = g_new0(RsGuestSize, 1);

    self->machine = g_object_ref(machine);
    self->view = view;
    self->across = g_object_ref(gtk_scrolled_window_get_hadjustment(view));
    self->down = g_object_ref(gtk_scrolled_window_get_vadjustment(view));
    g_signal_connect_swapped(self->across, "notify::page-size", G_CALLBACK(changed), self);
    g_signal_connect_swapped(self->down, "notify::page-size", G_CALLBACK(changed), self);
    g_signal_connect_swapped(view, "notify::scale-factor", G_CALLBACK(changed), self);
    g_signal_connect_swapped(view, "map", G_CALLBACK(changed), self);
    g_signal_connect_swapped(machine, "notify::state", G_CALLBACK(changed), self);
    g_signal_connect_swapped(machine, "notify::can-resize", G_CALLBACK(can_resize_changed), self);
    return self;
}

void rs_guest_size_free(RsGuestSize *self)
{
    g_clear_handle_id(&self->timer, g_source_remove);
    g_signal_handlers_disconnect_by_data(self->across, self);
    g_signal_handlers_disconnect_by_data(self->down, self);
    g_signal_handlers_disconnect_by_data(self->view, self);
    g_signal_handlers_disconnect_by_data(self->machine, self);
    g_object_unref(self->across);
    g_object_unref(self->down);
    g_object_unref(self->machine);
    g_free(self);
}
