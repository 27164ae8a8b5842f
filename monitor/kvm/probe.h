/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can the kernel's KVM be used here, and if not, what has the user to do? Facts are gathered in one
 * place and explained in another, so that a test can make up the facts. GLib only: ringctl doctor
 * uses this too.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct kvm_facts {
    bool vmx, svm; /* CPUID's word */
    bool listed; /* /proc/cpuinfo's: the kernel takes it back when the firmware has switched it off
                  */
    bool guest;  /* this computer is itself a virtual machine */
    bool module, vendor;          /* kvm; kvm_intel or kvm_amd are loaded (or built in) */
    bool installed;               /* the vendor's module lies on disk */
    bool node;                    /* /dev/kvm */
    int open_errno, create_errno; /* of /dev/kvm, of a machine; 0: it went well */
    bool modern;                  /* all of KVM that we need is there */
    const char *holder;           /* who else may use the hardware: "VirtualBox", NULL */
    char *group;                  /* /dev/kvm's, when we may not open it */
    char *user;
};

enum kvm_problem {
    KVM_WORKS,
    KVM_NO_HARDWARE,
    KVM_IMITATION, /* a /dev/kvm without VT-x or AMD-V behind it */
    KVM_FIRMWARE_OFF,
    KVM_NO_MODULE,
    KVM_NO_NODE,
    KVM_NO_PERMISSION,
    KVM_HELD,
    KVM_TOO_OLD,
    KVM_BROKEN
};

/* `root`: a folder in which to look for proc, sys, lib and dev, "" for the real ones. /dev/kvm is
 * opened only with VT-x or AMD-V in the CPU. */
void kvm_facts_gather(const char *root, struct kvm_facts *facts);
/* The parts of it that are files below `root`; vmx and svm are set. */
void kvm_facts_from_files(const char *root, struct kvm_facts *facts);
void kvm_facts_clear(struct kvm_facts *facts);
/* What is in the way; *sentence (g_free) says it with the remedy, NULL when KVM works. */
enum kvm_problem kvm_explain(const struct kvm_facts *facts, char **sentence);

/* For engine_ops: gathered afresh each time. */
bool kvm_probe(char **why);
