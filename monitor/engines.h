/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be said about the choice of engine.
 */
#pragma once

#include "engine.h"

/* Why `running` and no faster engine: one sentence (g_free), NULL when there is nothing to say. */
char *engines_reason(const struct engine_ops *running);
/* The one that carries out single instructions for others; NULL: this build has none. */
const struct engine_ops *engines_stepper(void);
