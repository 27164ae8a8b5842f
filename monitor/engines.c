/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engines of this build, best first. The translator is a weak symbol, so that device tests link
 * without it.
 */
#include <stddef.h>

#include "engines.h"

#ifndef HAVE_TRANSLATE
extern const struct engine_ops translate_engine __attribute__((weak));
#endif

const struct engine_ops *const engines[] = {&kvm_engine, &translate_engine, NULL};

char *engines_reason(const struct engine_ops *running)
{
    for (unsigned i = 0; engines[i] && engines[i] != running; i++) {
        char *why = NULL;
        if (engines[i]->probe && !engines[i]->probe(&why) && why) {
            return why;
        }
    }
    return NULL;
}
