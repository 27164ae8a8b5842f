/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine in the library: a card of the grid or a row of the list. */
#pragma once

#include <gtk/gtk.h>

#include "rs-machine.h"

#define RS_TYPE_MACHINE_ITEM (rs_machine_item_get_type())
G_DECLARE_FINAL_TYPE(RsMachineItem, rs_machine_item, RS, MACHINE_ITEM, GtkWidget)

GtkWidget *rs_machine_item_new(gboolean card);
void rs_machine_item_set_machine(RsMachineItem *self, RsMachine *machine);
