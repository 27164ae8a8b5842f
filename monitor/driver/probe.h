/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can Ringside's own driver be used here, and if not, what has the user to do? Facts are gathered
 * in one place and explained in another, so that a test can make up the facts. GLib only: ringctl
 * doctor uses this too.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct driver_facts {
    bool svm, vmx;                /* CPUID's word */
    bool node;                    /* /dev/ringside */
    bool loaded, installed;       /* the module */
    int open_errno, create_errno; /* of /dev/ringside, of a machine; 0: it went well */
    bool same_version;
    const char *holder; /* who else may use the hardware: "VirtualBox", NULL */
    bool kvm;           /* KVM's module is loaded */
};

enum driver_problem {
    DRIVER_WORKS,
    DRIVER_NO_HARDWARE,
    DRIVER_NO_MODULE,
    DRIVER_NO_PERMISSION,
    DRIVER_HELD,
    DRIVER_OTHER_VERSION,
    DRIVER_BROKEN
};

void driver_facts_gather(struct driver_facts *facts);
/* What is in the way; *sentence (g_free) says it with the remedy, NULL when the driver works. */
enum driver_problem driver_explain(const struct driver_facts *facts, char **sentence);

/* For engine_ops: gathered afresh each time. */
bool driver_probe(char **why);
