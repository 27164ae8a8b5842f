/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes a machine in three pages: installer, settings, summary. Nothing is created before the last
 * one's button. */
#pragma once

#include <adwaita.h>

#define RS_TYPE_WIZARD (rs_wizard_get_type())
G_DECLARE_FINAL_TYPE(RsWizard, rs_wizard, RS, WIZARD, AdwWindow)

RsWizard *rs_wizard_new(GtkWindow *parent);
/* Makes the demonstration machine at once; the window shows how far it is. */
RsWizard *rs_wizard_new_demo(GtkWindow *parent);
/* As if the user had chosen this file. */
void rs_wizard_take_file(RsWizard *self, const char *path);
