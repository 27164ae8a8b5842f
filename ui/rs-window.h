/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The library's window. */
#pragma once

#include "rs-application.h"

#define RS_TYPE_WINDOW (rs_window_get_type())
G_DECLARE_FINAL_TYPE(RsWindow, rs_window, RS, WINDOW, AdwApplicationWindow)

RsWindow *rs_window_new(RsApplication *application);
