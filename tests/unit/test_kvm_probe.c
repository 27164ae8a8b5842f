/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is said when KVM cannot be used: facts that are made up, and folders that look like hosts.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "probe.h"

struct sentence_case {
    const char *name;
    struct kvm_facts facts;
    enum kvm_problem problem;
    const char *says[3]; /* all of these words */
};

/* An AMD computer on which KVM works. */
#define GOOD                                                                                       \
    .svm = true, .listed = true, .module = true, .vendor = true, .installed = true, .node = true
#define OPENS .modern = true

static const struct sentence_case cases[] = {
    {"works", {GOOD, OPENS}, KVM_WORKS, {NULL}},
    {"no-hardware", {0}, KVM_NO_HARDWARE, {"shows no VT-x or AMD-V", "firmware's setup"}},
    {"nested", {.guest = true}, KVM_NO_HARDWARE, {"nested virtualization", "hypervisor"}},
    {"imitation", {.node = true, .module = true}, KVM_IMITATION, {"imitation", "does not use it"}},
    {"firmware-intel",
     {.vmx = true, .listed = false, .installed = true},
     KVM_FIRMWARE_OFF,
     {"VT-x is switched off in the firmware", "Intel Virtualization Technology"}},
    {"firmware-amd",
     {.svm = true, .listed = true, .installed = true, .module = true},
     KVM_FIRMWARE_OFF,
     {"AMD-V is switched off in the firmware", "SVM Mode"}},
    {"module-not-loaded",
     {.vmx = true, .listed = true, .installed = true},
     KVM_NO_MODULE,
     {"kvm_intel is not loaded", "sudo modprobe kvm_intel"}},
    {"module-missing",
     {.svm = true, .listed = true},
     KVM_NO_MODULE,
     {"no module kvm_amd", "install"}},
    {"static-node",
     {.vmx = true, .listed = true, .installed = true, .node = true, .open_errno = ENODEV},
     KVM_NO_MODULE,
     {"sudo modprobe kvm_intel"}},
    {"container",
     {.svm = true, .listed = true, .module = true, .vendor = true},
     KVM_NO_NODE,
     {"--device /dev/kvm"}},
    {"permission-group",
     {GOOD, .open_errno = EACCES, .group = "kvm", .user = "alice"},
     KVM_NO_PERMISSION,
     {"sudo usermod -aG kvm alice", "log out"}},
    {"permission-udev", {GOOD, .open_errno = EPERM}, KVM_NO_PERMISSION, {"udev rule", "uaccess"}},
    {"held",
     {GOOD, OPENS, .create_errno = EBUSY},
     KVM_HELD,
     {"Another hypervisor holds the processor's AMD-V"}},
    {"held-by-virtualbox",
     {GOOD, OPENS, .create_errno = EBUSY, .holder = "VirtualBox"},
     KVM_HELD,
     {"VirtualBox holds the processor's AMD-V", "end its machines"}},
    {"too-old", {GOOD, .modern = false}, KVM_TOO_OLD, {"update the kernel"}},
    {"broken", {GOOD, OPENS, .create_errno = ENOMEM}, KVM_BROKEN, {"Cannot allocate memory"}},
};

static void test_sentence(gconstpointer data)
{
    const struct sentence_case *c = data;
    g_autofree char *sentence = NULL;

    g_assert_cmpint(kvm_explain(&c->facts, &sentence), ==, c->problem);
    g_assert_cmpint(sentence != NULL, ==, c->problem != KVM_WORKS);
    for (unsigned i = 0; i < G_N_ELEMENTS(c->says) && c->says[i]; i++) {
        if (!strstr(sentence, c->says[i])) {
            g_error("\"%s\" is not in \"%s\"", c->says[i], sentence);
        }
    }
    /* One sentence, or the window cuts it off. */
    g_assert_true(!sentence || g_str_has_suffix(sentence, "."));
}

struct host {
    char *root;
};

static void host_put(struct host *h, const char *path, const char *text)
{
    g_autofree char *full = g_build_filename(h->root, path, NULL);
    g_autofree char *folder = g_path_get_dirname(full);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

static void host_set_up(struct host *h, gconstpointer data)
{
    h->root = g_dir_make_tmp("kvm-host-XXXXXX", NULL);
    g_assert_nonnull(h->root);
}

static void host_tear_down(struct host *h, gconstpointer data)
{
    const char *argv[] = {"rm", "-r", h->root, NULL};

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_free(h->root);
}

static void test_bare_host(struct host *h, gconstpointer data)
{
    struct kvm_facts f = {.svm = true};

    host_put(h, "proc/cpuinfo", "processor : 0\nflags\t\t: fpu svme xsvm\n\n");
    kvm_facts_from_files(h->root, &f);
    g_assert_false(f.listed);
    g_assert_false(f.module || f.vendor || f.installed || f.node || f.holder);
}

static void test_full_host(struct host *h, gconstpointer data)
{
    struct kvm_facts f = {.svm = true};
    struct utsname u;
    g_autofree char *module = NULL;

    uname(&u);
    module = g_strdup_printf("lib/modules/%s/kernel/arch/x86/kvm/kvm-amd.ko.xz", u.release);
    host_put(h, "proc/cpuinfo", "processor : 0\nflags\t\t: fpu svm\n\nprocessor : 1\n");
    host_put(h, "sys/module/kvm/refcnt", "0\n");
    host_put(h, "sys/module/kvm_amd/refcnt", "0\n");
    host_put(h, "sys/module/vboxdrv/refcnt", "0\n");
    host_put(h, "dev/kvm", "");
    host_put(h, module, "");
    kvm_facts_from_files(h->root, &f);
    g_assert_true(f.listed && f.module && f.vendor && f.installed && f.node);
    g_assert_cmpstr(f.holder, ==, "VirtualBox");
}

/* The other vendor's module is of no use. */
static void test_wrong_module(struct host *h, gconstpointer data)
{
    struct kvm_facts f = {.vmx = true};

    host_put(h, "sys/module/kvm_amd/refcnt", "0\n");
    kvm_facts_from_files(h->root, &f);
    g_assert_false(f.vendor);
    g_assert_true(f.listed); /* no cpuinfo: nothing speaks against it */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/kvm-probe/sentence/", cases[i].name, NULL);
        g_test_add_data_func(path, &cases[i], test_sentence);
    }
#define ADD(name, function)                                                                        \
    g_test_add("/kvm-probe/host/" name, struct host, NULL, host_set_up, function, host_tear_down)
    ADD("bare", test_bare_host);
    ADD("full", test_full_host);
    ADD("wrong-module", test_wrong_module);
    return g_test_run();
}
