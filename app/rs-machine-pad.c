/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Game pads of a machine (see rs-machine-pad.h). */
#include <glib/gi18n-lib.h>

#include "rs-machine-internal.h"
#include "rs-machine-pad.h"

static void plugged(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    unsigned pad;

    if (rs_monitor_input_call_plug_pad_finish(RS_MONITOR_INPUT(source), &pad, result, &error)) {
        g_task_return_int(task, (gssize)(pad & 0xff));
    } else {
        rs_machine_return_error(task, error);
    }
}

void rs_machine_plug_pad_async(RsMachine *self, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(self, NULL, callback, data);

    if (self->input) {
        rs_monitor_input_call_plug_pad(self->input, NULL, plugged, g_steal_pointer(&task));
    } else {
        g_task_return_new_error(task, G_IO_ERROR, G_IO_ERROR_NOT_CONNECTED,
                                _("The machine is not running"));
    }
}

int rs_machine_plug_pad_finish(RsMachine *self, GAsyncResult *result, GError **error)
{
    return (int)g_task_propagate_int(G_TASK(result), error);
}

void rs_machine_unplug_pad(RsMachine *self, int pad)
{
    if (self->input) {
        rs_monitor_input_call_unplug_pad(self->input, (unsigned)pad, NULL, NULL, NULL);
    }
}

void rs_machine_set_pad(RsMachine *self, int pad, const RsPad *s)
{
    if (self->input) {
        rs_monitor_input_call_set_pad(self->input, (unsigned)pad, s->buttons, s->hat, s->axis[0],
                                      s->axis[1], s->axis[2], s->axis[3], s->axis[4], s->axis[5],
                                      NULL, NULL, NULL);
    }
}
