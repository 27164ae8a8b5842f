/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Input interface. What each client holds down is remembered, so that its end releases it; a
 * key or button is up for the guest once no client holds it.
 */
#include "control_internal.h"
#include "lock.h"

#define BUTTONS 0x1fu
#define MOTION  65536

static bool held_by_others(const struct client *self, uint32_t code)
{
    GPtrArray *clients = self->control->clients;

    for (unsigned i = 0; i < clients->len; i++) {
        const struct client *client = clients->pdata[i];
        if (client != self && client->down[code]) {
            return true;
        }
    }
    return false;
}

static uint32_t all_buttons(const struct client *self, uint32_t buttons)
{
    GPtrArray *clients = self->control->clients;

    for (unsigned i = 0; i < clients->len; i++) {
        const struct client *client = clients->pdata[i];
        buttons |= client != self ? client->buttons : 0;
    }
    return buttons;
}

static void key(struct client *client, uint32_t code, bool down)
{
    client->down[code] = down;
    if (down || !held_by_others(client, code)) {
        machine_lock();
        input_key(client->control->input, code, down);
        machine_unlock();
    }
}

static gboolean handle_key(RsMonitorInput *input, GDBusMethodInvocation *invocation, guint code,
                           gboolean down, gpointer opaque)
{
    if (code > 0 && code < CONTROL_KEYS) {
        key(opaque, code, down);
    }
    rs_monitor_input_complete_key(input, invocation);
    return TRUE;
}

static gboolean handle_pointer_relative(RsMonitorInput *input, GDBusMethodInvocation *invocation,
                                        int dx, int dy, int wheel, guint buttons, gpointer opaque)
{
    struct client *client = opaque;

    client->buttons = buttons & BUTTONS;
    machine_lock();
    input_pointer_relative(client->control->input, CLAMP(dx, -MOTION, MOTION),
                           CLAMP(dy, -MOTION, MOTION), CLAMP(wheel, -MOTION, MOTION),
                           all_buttons(client, client->buttons));
    machine_unlock();
    rs_monitor_input_complete_pointer_relative(input, invocation);
    return TRUE;
}

static gboolean handle_pointer_absolute(RsMonitorInput *input, GDBusMethodInvocation *invocation,
                                        guint x, guint y, int wheel, guint buttons, gpointer opaque)
{
    struct client *client = opaque;

    client->buttons = buttons & BUTTONS;
    machine_lock();
    input_pointer_absolute(client->control->input, x, y, CLAMP(wheel, -MOTION, MOTION),
                           all_buttons(client, client->buttons));
    machine_unlock();
    rs_monitor_input_complete_pointer_absolute(input, invocation);
    return TRUE;
}

void control_input_release(struct client *client)
{
    for (uint32_t code = 1; code < CONTROL_KEYS; code++) {
        if (client->down[code]) {
            key(client, code, false);
        }
    }
    if (client->buttons) {
        client->buttons = 0;
        machine_lock();
        input_pointer_relative(client->control->input, 0, 0, 0, all_buttons(client, 0));
        machine_unlock();
    }
    control_pad_release(client);
}

static gboolean handle_release_all(RsMonitorInput *input, GDBusMethodInvocation *invocation,
                                   gpointer opaque)
{
    control_input_release(opaque);
    rs_monitor_input_complete_release_all(input, invocation);
    return TRUE;
}

void control_input_connect(struct client *client)
{
    RsMonitorInput *input = client->input;

    machine_lock();
    rs_monitor_input_set_absolute(input, input_has_absolute(client->control->input));
    machine_unlock();
    g_signal_connect(input, "handle-key", G_CALLBACK(handle_key), client);
    g_signal_connect(input, "handle-pointer-relative", G_CALLBACK(handle_pointer_relative), client);
    g_signal_connect(input, "handle-pointer-absolute", G_CALLBACK(handle_pointer_absolute), client);
    g_signal_connect(input, "handle-release-all", G_CALLBACK(handle_release_all), client);
    control_pad_connect(client);
}

static gboolean tell_absolute(gpointer opaque)
{
    struct control *control = opaque;
    bool absolute;

    machine_lock();
    g_clear_pointer(&control->input_source, g_source_unref);
    absolute = input_has_absolute(control->input);
    machine_unlock();
    for (unsigned i = 0; i < control->clients->len; i++) {
        const struct client *client = control->clients->pdata[i];
        if (client->input) {
            rs_monitor_input_set_absolute(client->input, absolute);
        }
    }
    return G_SOURCE_REMOVE;
}

/* Any thread, machine lock held. */
static void input_has_changed(void *opaque)
{
    struct control *control = opaque;

    if (!control->input_source) {
        control->input_source = g_idle_source_new();
        g_source_set_callback(control->input_source, tell_absolute, control, NULL);
        g_source_attach(control->input_source, NULL);
    }
}

void control_input_watch(struct control *control, bool on)
{
    machine_lock();
    if (control->input) {
        input_set_listener(control->input, on ? input_has_changed : NULL, control);
    }
    if (!on) {
        control->input = NULL;
    }
    if (!on && control->input_source) {
        g_source_destroy(control->input_source);
        g_clear_pointer(&control->input_source, g_source_unref);
    }
    machine_unlock();
}
