/* SPDX-License-Identifier: GPL-2.0-or-later */
/* X Input 2's raw events, through GDK's connection (see rs-raw-motion.h). */
#include "rs-raw-motion.h"

#include <X11/extensions/XInput2.h>
#include <gdk/x11/gdkx.h>
#include <string.h>

struct _RsRawMotion {
    GdkDisplay *display;
    RsRawMotionFunc func;
    gpointer data;
    int opcode, master; /* of the extension; the pointer's device */
    int source;         /* the last device, and whether it is a mouse */
    gboolean is_mouse;
};

static void select_events(RsRawMotion *self, gboolean on)
{
    Display *display = gdk_x11_display_get_xdisplay(self->display);
    unsigned char bits[XIMaskLen(XI_RawMotion)] = {0};
    XIEventMask mask = {self->master, sizeof bits, bits};

    if (on) {
        XISetMask(bits, XI_RawMotion);
    }
    XISelectEvents(display, gdk_x11_display_get_xrootwindow(self->display), &mask, 1);
}

/* Its first two axes are relative, and it is not the server's own. */
static gboolean device_is_mouse(const XIDeviceInfo *device)
{
    unsigned axes = 0;

    for (int i = 0; i < device->num_classes; i++) {
        const XIValuatorClassInfo *axis = (const XIValuatorClassInfo *)device->classes[i];
        if (axis->type == XIValuatorClass && axis->number < 2) {
            axes += axis->mode == XIModeRelative;
        }
    }
    return axes == 2 && !strstr(device->name, "XTEST");
}

static gboolean source_is_mouse(RsRawMotion *self, int source)
{
    int count = 0;

    if (source != self->source) {
        gdk_x11_display_error_trap_push(self->display); /* it may be gone */
        XIDeviceInfo *device =
            XIQueryDevice(gdk_x11_display_get_xdisplay(self->display), source, &count);
        gdk_x11_display_error_trap_pop_ignored(self->display);
        self->source = source;
        self->is_mouse = device && count == 1 && device_is_mouse(device);
        if (device) {
            XIFreeDeviceInfo(device);
        }
    }
    return self->is_mouse;
}

static gboolean on_x_event(GdkDisplay *display, XEvent *event, RsRawMotion *self)
{
    const XIRawEvent *raw = event->type == GenericEvent ? event->xcookie.data : NULL;
    double way[2] = {0, 0};
    const double *value;

    if (!raw || event->xcookie.extension != self->opcode || event->xcookie.evtype != XI_RawMotion ||
        raw->deviceid != self->master || !source_is_mouse(self, raw->sourceid)) {
        return FALSE;
    }
    value = raw->raw_values;
    for (int i = 0; i < 2 && i < raw->valuators.mask_len * 8; i++) {
        if (XIMaskIsSet(raw->valuators.mask, i)) {
            way[i] = *value++;
        }
    }
    if (way[0] != 0 || way[1] != 0) { /* else it is the wheel's */
        self->func(self->data, way[0], way[1]);
    }
    return FALSE;
}

RsRawMotion *rs_raw_motion_new(GdkDisplay *display, RsRawMotionFunc func, gpointer data)
{
    GdkSeat *seat = gdk_display_get_default_seat(display);
    GdkDevice *pointer = seat ? gdk_seat_get_pointer(seat) : NULL;
    int opcode, event, error;

    if (!GDK_IS_X11_DISPLAY(display) || !pointer ||
        !XQueryExtension(gdk_x11_display_get_xdisplay(display), "XInputExtension", &opcode, &event,
                         &error)) {
        return NULL;
    }
    RsRawMotion *self = g_new0(RsRawMotion, 1);
    self->display = g_object_ref(display);
    self->func = func;
    self->data = data;
    self->opcode = opcode;
    self->master = gdk_x11_device_get_id(pointer);
    self->source = -1;
    select_events(self, TRUE);
    g_signal_connect(display, "xevent", G_CALLBACK(on_x_event), self);
    return self;
}

void rs_raw_motion_free(RsRawMotion *self)
{
    g_signal_handlers_disconnect_by_data(self->display, self);
    select_events(self, FALSE);
    g_object_unref(self->display);
    g_free(self);
}
