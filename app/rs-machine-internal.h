/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of RsMachine share. */
#pragma once

#include "monitor-proxy.h"
#include "rs-machine.h"

struct _RsMachine {
    GObject parent_instance;
    char *folder, *id, *message;
    struct settings
        *settings; /* never NULL; of a broken machine.ini: the folder's name and defaults */
    RsMachineState state;
    GCancellable *cancellable; /* of everything that waits for the monitor */
    GFileMonitor *watch;
    GDBusConnection *bus;
    RsMonitorMachine *machine;
    RsMonitorScreen *screen;
    RsMonitorInput *input;
    RsFrame *frame;
    RsCursor cursor;
    char *engine, *engine_reason, *medium, *exit;
    GVariant *usb;
    GTask *waiting_start; /* a start that came while looking for a monitor */
    bool absolute, connecting, ended;
    unsigned attached;
};

/* The monitor's object; NULL while none runs. */
RsMonitorMachine *rs_machine_get_proxy(RsMachine *self);
/* A monitor's error as one of ours, its text made harmless. */
void rs_machine_return_error(GTask *task, GError *error);

/* rs-machine-screen.c: with screen and input there; when the first picture may come; when the monitor is gone. */
void rs_machine_screen_connect(RsMachine *self);
void rs_machine_screen_start(RsMachine *self);
void rs_machine_screen_drop(RsMachine *self);
/* Its signals; the class must be there. */
void rs_machine_screen_class_init(void);
