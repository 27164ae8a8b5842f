/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The settings of one machine, for changing while it is off. */
#pragma once

#include <adwaita.h>

#include "rs-machine.h"

#define RS_TYPE_PREFERENCES (rs_preferences_get_type())
G_DECLARE_FINAL_TYPE(RsPreferences, rs_preferences, RS, PREFERENCES, AdwWindow)

/* NULL with an error when machine.ini cannot be read. */
RsPreferences *rs_preferences_new(GtkWindow *parent, RsMachine *machine, GError **error);
