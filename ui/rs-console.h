/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's window: its screen, a toolbar, full screen. */
#pragma once

#include "rs-application.h"

#define RS_TYPE_CONSOLE (rs_console_get_type())
G_DECLARE_FINAL_TYPE(RsConsole, rs_console, RS, CONSOLE, AdwApplicationWindow)

RsConsole *rs_console_new(RsApplication *application, RsMachine *machine);
RsMachine *rs_console_get_machine(RsConsole *self);
