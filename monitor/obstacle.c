/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See obstacle.h. */
#include "obstacle.h"

#include <string.h>

#include "driver/probe.h"
#include "kvm/probe.h"

char *engine_obstacle(const char *engine)
{
    char *sentence = NULL;

    if (strcmp(engine, "auto") == 0 || strcmp(engine, "kvm") == 0) {
        kvm_probe(&sentence);
    } else if (strcmp(engine, "driver") == 0) {
        driver_probe(&sentence);
    }
    return sentence;
}
