/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands between the user and hardware virtualization (see probe.h).
 */
#include "probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define API_VERSION 12

/* --- gathering --- */

static bool exists(const char *root, const char *path)
{
    g_autofree char *full = g_strconcat(root, path, NULL);

    return g_file_test(full, G_FILE_TEST_EXISTS);
}

/* VMX: CPUID.1:ECX bit 5 (Intel SDM); SVM: CPUID.80000001h:ECX bit 2 (AMD APM); bit 31: a
 * hypervisor says so. */
static void gather_cpu(struct kvm_facts *f)
{
    unsigned a, b, c = 0, d;

    if (__get_cpuid(1, &a, &b, &c, &d)) {
        f->vmx = c >> 5 & 1;
        f->guest = c >> 31;
    }
    f->svm = __get_cpuid(0x80000001u, &a, &b, &c, &d) && c >> 2 & 1;
}

static bool cpuinfo_lists(const char *root, const char *flag)
{
    g_autofree char *path = g_strconcat(root, "/proc/cpuinfo", NULL);
    g_autofree char *text = NULL;
    g_autofree char *word = g_strdup_printf(" %s ", flag);
    char *flags, *end;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(flags = strstr(text, "\nflags"))) {
        return true; /* nothing speaks against it */
    }
    end = strchr(flags + 1, '\n');
    if (end) {
        *end = ' ';
        end[1] = 0;
    }
    return strstr(flags, word) != NULL;
}

static bool module_on_disk(const char *root, const char *name)
{
    static const char *const endings[] = {"", ".xz", ".zst", ".gz"};
    struct utsname u;

    uname(&u);
    for (unsigned i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *path = g_strdup_printf("/lib/modules/%s/kernel/arch/x86/kvm/%s.ko%s",
                                                u.release, name, endings[i]);
        if (exists(root, path)) {
            return true;
        }
    }
    return false;
}

void kvm_facts_from_files(const char *root, struct kvm_facts *f)
{
    static const struct {
        const char *module, *name;
    } others[] = {{"/sys/module/vboxdrv", "VirtualBox"}, {"/sys/module/vmmon", "VMware"}};

    f->listed = cpuinfo_lists(root, f->svm ? "svm" : "vmx");
    f->module = exists(root, "/sys/module/kvm");
    f->vendor = exists(root, f->svm ? "/sys/module/kvm_amd" : "/sys/module/kvm_intel");
    f->installed = module_on_disk(root, f->svm ? "kvm-amd" : "kvm-intel");
    f->node = exists(root, "/dev/kvm");
    for (unsigned i = 0; i < G_N_ELEMENTS(others) && !f->holder; i++) {
        f->holder = exists(root, others[i].module) ? others[i].name : NULL;
    }
}

static bool has_all_capabilities(int fd)
{
    static const int needed[] = {
        KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_READONLY_MEM,
        KVM_CAP_SIGNAL_MSI,    KVM_CAP_XSAVE,          KVM_CAP_VCPU_EVENTS,
        KVM_CAP_USER_MEMORY,   KVM_CAP_IRQ_ROUTING,    KVM_CAP_DEBUGREGS};

    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i]) <= 0) {
            return false;
        }
    }
    return ioctl(fd, KVM_GET_API_VERSION, 0) == API_VERSION;
}

static char *group_of(const char *path)
{
    struct stat st;
    struct group *group = stat(path, &st) == 0 ? getgrgid(st.st_gid) : NULL;

    return g_strdup(group && (st.st_mode & S_IWGRP) && st.st_gid != 0 ? group->gr_name : NULL);
}

static void try_device(const char *path, struct kvm_facts *f)
{
    int fd = open(path, O_RDWR | O_CLOEXEC), vm;

    if (fd < 0) {
        f->open_errno = errno;
        f->group = group_of(path);
        return;
    }
    f->modern = has_all_capabilities(fd);
    vm = f->modern ? ioctl(fd, KVM_CREATE_VM, 0) : -1;
    if (vm >= 0) {
        close(vm);
    } else {
        f->create_errno = errno;
    }
    close(fd);
}

void kvm_facts_gather(const char *root, struct kvm_facts *f)
{
    g_autofree char *device = g_strconcat(root, "/dev/kvm", NULL);

    *f = (struct kvm_facts){.user = g_strdup(g_get_user_name())};
    gather_cpu(f);
    kvm_facts_from_files(root, f);
    if (f->node && (f->vmx || f->svm)) {
        try_device(device, f);
    }
}

void kvm_facts_clear(struct kvm_facts *f)
{
    g_clear_pointer(&f->group, g_free);
    g_clear_pointer(&f->user, g_free);
}

/* --- explaining --- */

static const char *technique(const struct kvm_facts *f)
{
    return f->svm ? "AMD-V" : "VT-x";
}

static const char *module_name(const struct kvm_facts *f)
{
    return f->svm ? "kvm_amd" : "kvm_intel";
}

static enum kvm_problem explain_no_hardware(const struct kvm_facts *f, char **s)
{
    if (f->node) {
        *s = g_strdup(
            "The processor shows no VT-x or AMD-V here: this /dev/kvm is an imitation that "
            "works in software, and Ringside does not use it.");
        return KVM_IMITATION;
    }
    *s = g_strdup(
        f->guest
            ? "The processor shows no VT-x or AMD-V here, because this computer is itself a "
              "virtual "
              "machine; switch nested virtualization on in the hypervisor that it runs in."
            : "The processor shows no VT-x or AMD-V here; if it has one, it is switched off in the "
              "firmware: switch it on in the firmware's setup.");
    return KVM_NO_HARDWARE;
}

static enum kvm_problem explain_no_module(const struct kvm_facts *f, char **s)
{
    if (!f->listed || (f->module && !f->vendor)) {
        *s = g_strdup_printf(
            "The processor's %s is switched off in the firmware: switch on \"%s\" in the "
            "firmware's setup (BIOS, UEFI), then turn the computer off and on.",
            technique(f), f->svm ? "SVM Mode" : "Intel Virtualization Technology");
        return KVM_FIRMWARE_OFF;
    }
    if (f->vendor) {
        *s = g_strdup(
            "The kernel's KVM is loaded, but there is no /dev/kvm here: in a container, it must be "
            "passed in (--device /dev/kvm).");
        return KVM_NO_NODE;
    }
    if (f->installed) {
        *s = g_strdup_printf(
            "The kernel's module %s is not loaded: load it with \"sudo modprobe %s\".",
            module_name(f), module_name(f));
    } else {
        *s = g_strdup_printf(
            "The kernel has no module %s: install your distribution's standard kernel "
            "with its modules (Debian: linux-image-amd64) and start it.",
            module_name(f));
    }
    return KVM_NO_MODULE;
}

static enum kvm_problem explain_no_access(const struct kvm_facts *f, char **s)
{
    if (f->open_errno == ENODEV || f->open_errno == ENXIO || f->open_errno == ENOENT) {
        return explain_no_module(f, s); /* the node is there before the module is */
    }
    if (f->open_errno != EACCES && f->open_errno != EPERM) {
        *s = g_strdup_printf("/dev/kvm cannot be opened: %s.", g_strerror(f->open_errno));
        return KVM_BROKEN;
    }
    if (f->group) {
        *s = g_strdup_printf(
            "You may not use /dev/kvm: join its group with \"sudo usermod -aG %s %s\", then log "
            "out and in again.",
            f->group, f->user ? f->user : "$USER");
    } else {
        *s = g_strdup(
            "You may not use /dev/kvm, and no group may: give it to the users at the computer with "
            "the udev rule KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\", TAG+=\"uaccess\" in "
            "/etc/udev/rules.d/60-kvm.rules, then restart.");
    }
    return KVM_NO_PERMISSION;
}

static enum kvm_problem explain_no_machine(const struct kvm_facts *f, char **s)
{
    if (f->create_errno != EBUSY) {
        *s = g_strdup_printf("The kernel's KVM cannot make a machine: %s.",
                             g_strerror(f->create_errno));
        return KVM_BROKEN;
    }
    *s = g_strdup_printf("%s holds the processor's %s: end %s, then start the machine again.",
                         f->holder ? f->holder : "Another hypervisor", technique(f),
                         f->holder ? "its machines" : "it (VirtualBox, VMware or another one)");
    return KVM_HELD;
}

enum kvm_problem kvm_explain(const struct kvm_facts *f, char **s)
{
    *s = NULL;
    if (!f->vmx && !f->svm) {
        return explain_no_hardware(f, s);
    }
    if (!f->node) {
        return explain_no_module(f, s);
    }
    if (f->open_errno) {
        return explain_no_access(f, s);
    }
    if (!f->modern) {
        *s = g_strdup(
            "The kernel's KVM is too old for Ringside: update the kernel to Linux 5.10 or later.");
        return KVM_TOO_OLD;
    }
    return f->create_errno ? explain_no_machine(f, s) : KVM_WORKS;
}

bool kvm_probe(char **why)
{
    struct kvm_facts facts;
    char *sentence;
    enum kvm_problem problem;

    kvm_facts_gather("", &facts);
    problem = kvm_explain(&facts, &sentence);
    kvm_facts_clear(&facts);
    if (why) {
        *why = sentence;
    } else {
        g_free(sentence);
    }
    return problem == KVM_WORKS;
}
