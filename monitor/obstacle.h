/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For clients, before a machine runs: what keeps it from the processor's own speed. GLib only. */
#pragma once

/* For machines with this setting of "engine": a sentence with the remedy (g_free). NULL: nothing is
 * in the way, or the user has chosen so. */
char *engine_obstacle(const char *engine);
