/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small live picture of a machine's screen: asked for every two seconds while it can be seen,
 * else the last one, which is kept as thumbnail.png in the machine's folder.
 */
#pragma once

#include <adwaita.h>

#include "rs-machine.h"

#define RS_TYPE_THUMBNAIL (rs_thumbnail_get_type())
G_DECLARE_FINAL_TYPE(RsThumbnail, rs_thumbnail, RS, THUMBNAIL, AdwBin)

void rs_thumbnail_set_machine(RsThumbnail *self, RsMachine *machine);
