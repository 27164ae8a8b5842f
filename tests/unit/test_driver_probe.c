/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is said when Ringside's own driver cannot be used: facts that are made up.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "driver/probe.h"

struct sentence_case {
    const char *name;
    struct driver_facts facts;
    enum driver_problem problem;
    const char *says[3]; /* all of these words */
};

#define GOOD .svm = true, .node = true, .loaded = true, .same_version = true

static const struct sentence_case cases[] = {
    {"works", {GOOD}, DRIVER_WORKS, {NULL}},
    {"no-hardware", {0}, DRIVER_NO_HARDWARE, {"shows no VT-x or AMD-V"}},
    {"works-with-intel",
     {.vmx = true, .node = true, .loaded = true, .same_version = true},
     DRIVER_WORKS,
     {NULL}},
    {"not-loaded-intel",
     {.vmx = true, .installed = true},
     DRIVER_NO_MODULE,
     {"sudo modprobe ringside"}},
    {"held-intel",
     {.vmx = true, .node = true, .same_version = true, .create_errno = EBUSY},
     DRIVER_HELD,
     {"Another hypervisor holds the processor's VT-x"}},
    {"not-installed", {.svm = true}, DRIVER_NO_MODULE, {"make -C driver", "insmod"}},
    {"not-loaded", {.svm = true, .installed = true}, DRIVER_NO_MODULE, {"sudo modprobe ringside"}},
    {"container", {.svm = true, .loaded = true}, DRIVER_NO_MODULE, {"--device /dev/ringside"}},
    {"static-node",
     {.svm = true, .installed = true, .node = true, .open_errno = ENODEV},
     DRIVER_NO_MODULE,
     {"sudo modprobe ringside"}},
    {"permission", {GOOD, .open_errno = EACCES}, DRIVER_NO_PERMISSION, {"60-ringside.rules"}},
    {"other-version",
     {.svm = true, .node = true, .loaded = true},
     DRIVER_OTHER_VERSION,
     {"another version"}},
    {"held-by-kvm",
     {GOOD, .kvm = true, .create_errno = EBUSY},
     DRIVER_HELD,
     {"KVM, with a running machine, holds", "end its machines"}},
    {"held-by-virtualbox",
     {GOOD, .kvm = true, .holder = "VirtualBox", .create_errno = EBUSY},
     DRIVER_HELD,
     {"VirtualBox holds the processor's AMD-V"}},
    {"broken", {GOOD, .create_errno = ENOMEM}, DRIVER_BROKEN, {"cannot make a machine"}},
};

static void test_sentence(gconstpointer data)
{
    const struct sentence_case *c = data;
    g_autofree char *sentence = NULL;

    g_assert_cmpint(driver_explain(&c->facts, &sentence), ==, c->problem);
    g_assert_true((sentence == NULL) == (c->problem == DRIVER_WORKS));
    for (unsigned i = 0; i < G_N_ELEMENTS(c->says) && c->says[i]; i++) {
        if (!strstr(sentence, c->says[i])) {
            g_error("\"%s\" is not in: %s", c->says[i], sentence);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/driver-probe/%s", cases[i].name);
        g_test_add_data_func(path, &cases[i], test_sentence);
    }
    return g_test_run();
}
