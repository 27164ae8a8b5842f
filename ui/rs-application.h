/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The application: one instance, the library, the application's actions and its settings. */
#pragma once

#include <adwaita.h>

#include "rs-library.h"
#include "rs-usb-desk.h"

#define RS_TYPE_APPLICATION (rs_application_get_type())
G_DECLARE_FINAL_TYPE(RsApplication, rs_application, RS, APPLICATION, AdwApplication)

RsApplication *rs_application_new(void);
/* All borrowed. */
RsApplication *rs_application_get(void);
RsLibrary *rs_application_get_library(RsApplication *self);
GSettings *rs_application_get_settings(RsApplication *self);
RsUsbDesk *rs_application_get_usb(RsApplication *self);
/* The machine's console window, made or raised. */
void rs_application_open_console(RsApplication *self, RsMachine *machine);
/* A window wants to close: TRUE when it may; FALSE when the user is asked first about machines that
 * run, and everything closes after the answer. */
gboolean rs_application_may_close(RsApplication *self, GtkWindow *window);
