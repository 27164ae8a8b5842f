/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engines of this build, best first. The translator is a weak symbol, so that device tests link
 * without it.
 */
#include <cpuid.h>
#include <stddef.h>

#include "engines.h"

#ifndef HAVE_TRANSLATE
extern const struct engine_ops translate_engine __attribute__((weak));
#endif

const struct engine_ops *const engines[] = {&translate_engine, NULL};

/* VMX: CPUID.1:ECX bit 5 (Intel SDM); SVM: CPUID.80000001h:ECX bit 2 (AMD APM). */
static bool host_has_virtualization(void)
{
    unsigned a, b, c, d;

    return (__get_cpuid(1, &a, &b, &c, &d) && c & 1u << 5) ||
           (__get_cpuid(0x80000001u, &a, &b, &c, &d) && c & 1u << 2);
}

char *engines_reason(const struct engine_ops *running)
{
    if (running != &translate_engine) {
        return NULL;
    }
    for (unsigned i = 0; engines[i] && engines[i] != running; i++) {
        char *why = NULL;
        if (engines[i]->probe && !engines[i]->probe(&why) && why) {
            return why;
        }
    }
    return g_strdup(host_has_virtualization()
                        ? "This build of Ringside cannot use the processor's VT-x or AMD-V yet."
                        : "The processor shows no VT-x or AMD-V here; if it has one, it is "
                          "switched off in the firmware or hidden by another hypervisor.");
}
