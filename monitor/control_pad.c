/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Game pads of the Input interface. A pad belongs to the client that plugged it in, and goes with
 * it.
 */
#include "control_internal.h"

static bool taken(const struct control *control, unsigned pad)
{
    for (unsigned i = 0; i < control->clients->len; i++) {
        const struct client *client = control->clients->pdata[i];
        if (client->pad[pad]) {
            return true;
        }
    }
    return false;
}

static gboolean handle_plug(RsMonitorInput *input, GDBusMethodInvocation *invocation,
                            gpointer opaque)
{
    struct client *client = opaque;
    struct control *control = client->control;
    GError *error = NULL;
    unsigned pad = 0;

    while (pad < INPUT_PADS && taken(control, pad)) {
        pad++;
    }
    if (pad == INPUT_PADS) {
        error = g_error_new(CONTROL_ERROR, CONTROL_ERROR_WRONG_STATE,
                            "The machine has %u game pads already, which is all it can have.",
                            INPUT_PADS);
    } else {
        client->pad[pad] = control->ops->plug_pad(control->opaque, pad, &error);
    }
    if (error) {
        control_return_error(invocation, error);
    } else {
        rs_monitor_input_complete_plug_pad(input, invocation, pad);
    }
    return TRUE;
}

/* Is it this client's? Else answers. */
static bool is_own(const struct client *client, unsigned pad, GDBusMethodInvocation *invocation)
{
    if (pad < INPUT_PADS && client->pad[pad]) {
        return true;
    }
    control_return_error(invocation, g_error_new(CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                                                 "There is no game pad %u of this client's.", pad));
    return false;
}

static void unplug(struct client *client, unsigned pad)
{
    client->pad[pad] = false;
    client->control->ops->unplug_pad(client->control->opaque, pad);
}

static gboolean handle_unplug(RsMonitorInput *input, GDBusMethodInvocation *invocation, guint pad,
                              gpointer opaque)
{
    struct client *client = opaque;

    if (is_own(client, pad, invocation)) {
        unplug(client, pad);
        rs_monitor_input_complete_unplug_pad(input, invocation);
    }
    return TRUE;
}

static gboolean handle_set(RsMonitorInput *input, GDBusMethodInvocation *invocation, guint pad,
                           guint buttons, guint hat, gint16 left_x, gint16 left_y, gint16 right_x,
                           gint16 right_y, gint16 left_trigger, gint16 right_trigger,
                           gpointer opaque)
{
    struct client *client = opaque;
    struct control *control = client->control;
    const struct input_pad state = {
        .buttons = (uint16_t)buttons,
        .hat = (uint8_t)hat,
        .axis = {left_x, left_y, right_x, right_y, left_trigger, right_trigger}};

    if (!is_own(client, pad, invocation)) {
        return TRUE;
    }
    if (buttons & ~INPUT_PAD_BUTTONS || hat > 8 || left_trigger < 0 || right_trigger < 0) {
        control_return_error(invocation,
                             g_error_new_literal(CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                                                 "A game pad has no such button, hat or trigger."));
        return TRUE;
    }
    control->ops->set_pad(control->opaque, pad, &state);
    rs_monitor_input_complete_set_pad(input, invocation);
    return TRUE;
}

void control_pad_release(struct client *client)
{
    static const struct input_pad rest;

    for (unsigned i = 0; i < INPUT_PADS; i++) {
        if (client->pad[i]) {
            client->control->ops->set_pad(client->control->opaque, i, &rest);
        }
    }
}

void control_pad_connect(struct client *client)
{
    g_signal_connect(client->input, "handle-plug-pad", G_CALLBACK(handle_plug), client);
    g_signal_connect(client->input, "handle-unplug-pad", G_CALLBACK(handle_unplug), client);
    g_signal_connect(client->input, "handle-set-pad", G_CALLBACK(handle_set), client);
}

void control_pad_disconnect(struct client *client)
{
    for (unsigned i = 0; i < INPUT_PADS; i++) {
        if (client->pad[i]) {
            unplug(client, i);
        }
    }
}
