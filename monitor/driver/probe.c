/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands between the user and Ringside's own driver (see probe.h).
 */
#include "probe.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../../driver/ringside_abi.h"

#define DEVICE       "/dev/ringside"

/* --- gathering --- */

static bool exists(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* VMX: CPUID.1:ECX bit 5 (Intel SDM); SVM: CPUID.80000001h:ECX bit 2 (AMD APM). */
static void gather_cpu(struct driver_facts *f)
{
    unsigned a, b, c = 0, d;

    f->vmx = __get_cpuid(1, &a, &b, &c, &d) && c >> 5 & 1;
    f->svm = __get_cpuid(0x80000001u, &a, &b, &c, &d) && c >> 2 & 1;
}

static bool module_on_disk(void)
{
    static const char *const places[] = {"updates/dkms/ringside.ko", "updates/dkms/ringside.ko.xz",
                                         "updates/dkms/ringside.ko.zst", "updates/ringside.ko",
                                         "extra/ringside.ko"};
    struct utsname u;

    uname(&u);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_strdup_printf("/lib/modules/%s/%s", u.release, places[i]);
        if (exists(path)) {
            return true;
        }
    }
    return false;
}

static void try_device(struct driver_facts *f)
{
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC), machine;
    struct ringside_info info = {0};

    if (fd < 0) {
        f->open_errno = errno;
        return;
    }
    f->same_version = ioctl(fd, RINGSIDE_INFO, &info) == 0 && info.version == RINGSIDE_ABI_VERSION;
    machine = f->same_version ? ioctl(fd, RINGSIDE_CREATE_MACHINE, 0) : -1;
    if (machine >= 0) {
        close(machine);
    } else {
        f->create_errno = errno;
    }
    close(fd);
}

void driver_facts_gather(struct driver_facts *f)
{
    *f = (struct driver_facts){0};
    gather_cpu(f);
    f->node = exists(DEVICE);
    f->loaded = exists("/sys/module/ringside");
    f->installed = module_on_disk();
    f->kvm = exists("/sys/module/kvm");
    f->holder = exists("/sys/module/vboxdrv") ? "VirtualBox"
                : exists("/sys/module/vmmon") ? "VMware"
                                              : NULL;
    if (f->node && (f->svm || f->vmx)) {
        try_device(f);
    }
}

/* --- explaining --- */

static enum driver_problem explain_no_module(const struct driver_facts *f, char **s)
{
    *s = g_strdup(f->loaded ? "Ringside's driver is loaded, but there is no " DEVICE
                              " here: in a container, it must be passed in "
                              "(--device " DEVICE ")."
                  : f->installed
                      ? "Ringside's driver is not loaded: load it with \"sudo modprobe ringside\"."
                      : "Ringside's driver is not installed: build it in the folder driver (make "
                        "-C driver; see driver/API.md), "
                        "then load it with \"sudo insmod driver/ringside.ko\".");
    return DRIVER_NO_MODULE;
}

static enum driver_problem explain_no_access(const struct driver_facts *f, char **s)
{
    if (f->open_errno == ENODEV || f->open_errno == ENXIO || f->open_errno == ENOENT) {
        return explain_no_module(f, s);
    }
    if (f->open_errno != EACCES && f->open_errno != EPERM) {
        *s = g_strdup_printf(DEVICE " cannot be opened: %s.", g_strerror(f->open_errno));
        return DRIVER_BROKEN;
    }
    *s = g_strdup(
        "You may not use " DEVICE
        ": install the driver's udev rule (driver/60-ringside.rules, to /etc/udev/rules.d), "
        "then load the driver anew.");
    return DRIVER_NO_PERMISSION;
}

static enum driver_problem explain_no_machine(const struct driver_facts *f, char **s)
{
    if (f->create_errno != EBUSY) {
        *s = g_strdup_printf("Ringside's driver cannot make a machine: %s.",
                             g_strerror(f->create_errno));
        return DRIVER_BROKEN;
    }
    *s = g_strdup_printf(
        "%s holds the processor's %s: end its machines, then start the machine again.",
        f->holder ? f->holder
        : f->kvm  ? "KVM, with a running machine,"
                  : "Another hypervisor",
        f->svm ? "AMD-V" : "VT-x");
    return DRIVER_HELD;
}

enum driver_problem driver_explain(const struct driver_facts *f, char **s)
{
    *s = NULL;
    if (!f->svm && !f->vmx) {
        *s = g_strdup("The processor shows no VT-x or AMD-V here.");
        return DRIVER_NO_HARDWARE;
    }
    if (!f->node) {
        return explain_no_module(f, s);
    }
    if (f->open_errno) {
        return explain_no_access(f, s);
    }
    if (!f->same_version) {
        *s = g_strdup("The driver that is loaded belongs to another version of Ringside: build and "
                      "load this one's.");
        return DRIVER_OTHER_VERSION;
    }
    if (f->create_errno) {
        return explain_no_machine(f, s);
    }
    return DRIVER_WORKS;
}

bool driver_probe(char **why)
{
    struct driver_facts facts;
    char *sentence;
    enum driver_problem problem;

    driver_facts_gather(&facts);
    problem = driver_explain(&facts, &sentence);
    if (why) {
        *why = sentence;
    } else {
        g_free(sentence);
    }
    return problem == DRIVER_WORKS;
}
