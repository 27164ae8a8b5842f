/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machines of this user: a GListModel of RsMachine, in the order of their names. Follows the
 * folder of machines, and the folder of sockets for machines that somebody else starts.
 */
#pragma once

#include "rs-machine.h"

#define RS_TYPE_LIBRARY (rs_library_get_type())
G_DECLARE_FINAL_TYPE(RsLibrary, rs_library, RS, LIBRARY, GObject)

RsLibrary *rs_library_new(void);
/* Looks at the folders now instead of when the next change is noticed. */
void rs_library_refresh(RsLibrary *self);
/* Borrowed; NULL: none. */
RsMachine *rs_library_find(RsLibrary *self, const char *id);
/* NULL when a machine may get this name, else the reason. `except`: the machine to be renamed, or
 * NULL. */
char *rs_library_check_name(RsLibrary *self, const char *name, RsMachine *except);
/* A free name that starts with `base`. */
char *rs_library_suggest_name(RsLibrary *self, const char *base);
/* Machines that a monitor runs now. */
GPtrArray *rs_library_get_active(RsLibrary *self);
