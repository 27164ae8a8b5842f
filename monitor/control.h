/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control server: D-Bus, peer to peer, on one socket per machine. Interfaces and object paths
 * are those of org.ringside.Monitor1.xml.
 *
 * It knows screens and input, but of the machine only the operations below, so that tests drive it
 * without one. Main thread; it takes the machine lock itself where screen.h and input.h ask for it.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

#include "input.h"
#include "screen.h"

struct control;

enum control_error {
    CONTROL_ERROR_FAILED,          /* org.ringside.Error.Failed */
    CONTROL_ERROR_WRONG_STATE,     /* ...WrongState: not while the machine is in this state */
    CONTROL_ERROR_INVALID_ARGUMENT /* ...InvalidArgument */
};
GQuark control_error_quark(void);
#define CONTROL_ERROR control_error_quark()

/* A device of the host, as clients describe it. */
struct control_usb {
    const char *port, *name, *serial;
    uint16_t vendor, product;
};
/* To be called once, now or later; NULL: it is done. */
typedef void (*control_done)(void *data, const GError *error);

/* What clients may ask of the machine. False and an error whose text is for the user. */
struct control_ops {
    bool (*pause)(void *opaque, GError **error);
    bool (*resume)(void *opaque, GError **error);
    bool (*suspend)(void *opaque, GError **error);
    bool (*reset)(void *opaque, GError **error);
    bool (*shut_down)(void *opaque, GError **error);
    bool (*power_off)(void *opaque, GError **error);
    bool (*insert_medium)(void *opaque, const char *path, GError **error);
    bool (*eject_medium)(void *opaque, bool force, GError **error);
    bool (*set_cable)(void *opaque, bool plugged, GError **error);
    bool (*forward)(void *opaque, const char *spec, bool add, GError **error);
    /* Packets go to the file, which is the operation's; -1: to none any more. */
    bool (*capture)(void *opaque, int fd, GError **error);
    void (*counters)(void *opaque, GVariantBuilder *out); /* adds to an a{st} */
    /* These two take a while. The descriptor goes to the operation. */
    void (*attach_usb)(void *opaque, const struct control_usb *device, int fd, control_done done,
                       void *data);
    void (*detach_usb)(void *opaque, const char *port, control_done done, void *data);
    /* Game pads 0 to INPUT_PADS - 1; only pads that are plugged in are unplugged and set. */
    bool (*plug_pad)(void *opaque, unsigned pad, GError **error);
    void (*unplug_pad)(void *opaque, unsigned pad);
    void (*set_pad)(void *opaque, unsigned pad, const struct input_pad *state);
};

struct control_config {
    const char *socket; /* path; its folder is made, and must be ours alone */
    const char *id, *name, *engine, *engine_reason, *serial, *serial2;
    struct input *input;
    struct screen *screen;
    const struct control_ops *ops;
    void *opaque;
};

/* $XDG_RUNTIME_DIR/ringside/<id>.sock; g_free. */
char *control_socket_path(const char *id);

/* Listens from now on. NULL and an error. */
struct control *control_new(const struct control_config *config, GError **error);
/* Detaches and disconnects everybody. NULL is fine. */
void control_free(struct control *control);

/* Before the machine, its input and its screen go away: listens no more, removes the socket,
 * releases what is held down. Clients stay connected, to be told by control_end(). */
void control_detach(struct control *control);
/* Any may be NULL: unchanged. `live`: the guest runs, so its screen may change. */
void control_set_state(struct control *control, const char *state, const char *message, bool live);
void control_set_medium(struct control *control, const char *path); /* NULL: none */
/* mode NULL: there is no card; `forwards` ends with NULL. */
void control_set_network(struct control *control, const char *mode, bool cable,
                         const char *const *forwards);
void control_set_usb(struct control *control, const struct control_usb *devices, unsigned n);
/* Tells everybody that the machine has ended, and waits a moment until they have been told. */
void control_end(struct control *control, const char *exit);
unsigned control_clients(const struct control *control);
