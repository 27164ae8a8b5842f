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

const struct engine_ops *const engines[] = {&kvm_engine, &driver_engine, &translate_engine, NULL};

const struct engine_ops *engines_stepper(void)
{
    for (unsigned i = 0; engines[i]; i++) {
        if (engines[i]->step) {
            return engines[i];
        }
    }
    return NULL;
}

/* Of those in between the first tells; but where one of them works, somebody has chosen. */
char *engines_reason(const struct engine_ops *running)
{
    char *first = NULL;

    for (unsigned i = 0; engines[i] && engines[i] != running; i++) {
        g_autofree char *why = NULL;
        if (engines[i]->by_name) {
            continue;
        }
        if (!engines[i]->probe || engines[i]->probe(&why)) {
            g_free(first);
            return NULL;
        }
        if (!first) {
            first = g_steal_pointer(&why);
        }
    }
    return first;
}
