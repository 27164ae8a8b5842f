/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the control server share.
 */
#pragma once

#include "control.h"
#include "monitor-dbus.h"

#define CONTROL_KEYS 256u
#define CONTROL_TEXT 1000u     /* bytes of a device's name or serial number */
#define CONTROL_DATA "control" /* of the Machine object: the server, while there is one */

struct client {
    struct control *control;
    GDBusConnection *connection;
    RsMonitorScreen *screen;
    RsMonitorInput *input;
    gulong closed_handler;

    /* Screen: what this client has been told, and what waits until it has read that. */
    bool attached, mode_told, flushing, pending;
    uint32_t mode;
    struct screen_rect damage;
    uint32_t cursor_image; /* 0: none */
    bool cursor_placed, cursor_visible;
    int32_t cursor_x, cursor_y;

    /* Input: what this client holds down. */
    uint8_t down[CONTROL_KEYS];
    uint32_t buttons;
    bool pad[INPUT_PADS]; /* those that are its */
};

struct control {
    GDBusServer *server;
    GPtrArray *clients;
    RsMonitorMachine *machine;
    struct input *input;
    struct screen *screen;
    const struct control_ops *ops;
    void *opaque;
    char *socket;
    GSource *input_source; /* about to tell what has changed; under the machine lock */
    struct screen_cursor cursor; /* as of the last frame, but for its pixels */
    GVariant *cursor_pixels;     /* ay; NULL: there is no cursor plane */
    guint tick; /* source of the frame timer, 0: nobody watches */
    bool live;
};

/* Answers with `error`, as org.ringside.Error.*, and frees it. */
void control_return_error(GDBusMethodInvocation *invocation, GError *error);

void control_machine_connect(struct control *control);
void control_screen_connect(struct client *client);
void control_screen_disconnect(struct client *client);
void control_screen_wake(struct control *control); /* starts the frame timer if it is needed */
void control_input_connect(struct client *client);
void control_input_release(struct client *client);
void control_pad_connect(struct client *client);
void control_pad_release(struct client *client); /* at rest */
void control_pad_disconnect(struct client *client);
/* Follows what the guest's pointing devices can do, until `on` is false. */
void control_input_watch(struct control *control, bool on);
