/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engines of this build, best first. The translator is a weak symbol, so that device tests link
 * without it.
 */
#include <stddef.h>

#include "engine.h"

#ifndef HAVE_TRANSLATE
extern const struct engine_ops translate_engine __attribute__((weak));
#endif

const struct engine_ops *const engines[] = {&translate_engine, NULL};
