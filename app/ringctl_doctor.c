/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor: what this computer can do for machines, and what to install or change. What is told first
 * is what machines cannot do without.
 */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "driver/probe.h"
#include "kvm/probe.h"
#include "ringctl.h"

#define SPACE_MIB_MIN  4096u
#define MEMORY_MIB_MIN 1024u

static void tell(const char *mark, const char *what, const char *sentence)
{
    printf("%-4s %-10s %s\n", mark, what, sentence);
}

static bool check_monitor(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = ringctl_find_monitor(&error);
    g_autofree char *text = NULL;

    if (path && access(path, X_OK) == 0) {
        tell("ok", "monitor", path);
        return true;
    }
    text = path ? g_strdup_printf("%s cannot be run; install Ringside again.", path)
                : g_strdup_printf("%s Install Ringside again.", error->message);
    tell("NO", "monitor", text);
    return false;
}

/* The folders that the monitor looks in (monitor/firmware.c). */
static bool find_rom(const char *const names[])
{
    static const char *const folders[] = {"/usr/share/seabios", "/usr/share/qemu",
                                          "/usr/share/vgabios", "/app/share/seabios",
                                          "/app/share/qemu"};

    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        for (unsigned n = 0; names[n]; n++) {
            g_autofree char *path = g_build_filename(folders[i], names[n], NULL);
            if (access(path, R_OK) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool check_firmware(void)
{
    static const char *const bios[] = {"bios-256k.bin", NULL};
    static const char *const screen[] = {"vgabios-stdvga.bin", NULL};

    if (find_rom(bios) && find_rom(screen)) {
        tell("ok", "firmware", "SeaBIOS and its screen ROM are installed.");
        return true;
    }
    tell("NO", "firmware",
         "There is no SeaBIOS, which starts machines: install it (Debian: sudo apt install "
         "seabios).");
    return false;
}

/* The first folder on the way to `path` that exists. */
static char *existing_folder(const char *path)
{
    char *folder = g_strdup(path);

    while (!g_file_test(folder, G_FILE_TEST_IS_DIR) && strcmp(folder, "/") != 0) {
        char *parent = g_path_get_dirname(folder);
        g_free(folder);
        folder = parent;
    }
    return folder;
}

static bool check_library(void)
{
    g_autofree char *library = ringctl_library_folder();
    g_autofree char *folder = existing_folder(library);
    g_autofree char *text = NULL;
    struct statvfs fs;
    uint64_t mib = statvfs(folder, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize >> 20 : 0;

    if (access(folder, W_OK | X_OK) < 0) {
        text = g_strdup_printf(
            "Machines are kept in %s, but you may not write to %s: make it yours, or set "
            "XDG_DATA_HOME to another folder.",
            library, folder);
        tell("NO", "disk", text);
        return false;
    }
    text = g_strdup_printf(
        "%s has %" G_GUINT64_FORMAT " GiB left for machines%s", folder, mib >> 10,
        mib < SPACE_MIB_MIN ? ", which is less than a system needs: make space there." : ".");
    tell(mib < SPACE_MIB_MIN ? "low" : "ok", "disk", text);
    return true;
}

static void check_memory(void)
{
    g_autofree char *info = NULL;
    g_autofree char *text = NULL;
    const char *line = g_file_get_contents("/proc/meminfo", &info, NULL, NULL)
                           ? strstr(info, "\nMemAvailable:")
                           : NULL;
    uint64_t mib = line ? g_ascii_strtoull(line + strlen("\nMemAvailable:"), NULL, 10) >> 10 : 0;

    if (line) {
        text = g_strdup_printf("%" G_GUINT64_FORMAT " MiB of memory are free for machines%s", mib,
                               mib < MEMORY_MIB_MIN ? ": close other programs before you start one."
                                                    : ".");
        tell(mib < MEMORY_MIB_MIN ? "low" : "ok", "memory", text);
    }
}

/* KVM, else the translator, with what is in the way of KVM; our driver is used by name only. */
static bool check_engine(void)
{
    struct kvm_facts kvm;
    struct driver_facts driver;
    g_autofree char *kvm_sentence = NULL, *driver_sentence = NULL;
    bool works, svm;

    kvm_facts_gather("", &kvm);
    svm = kvm.svm;
    works = kvm_explain(&kvm, &kvm_sentence) == KVM_WORKS;
    kvm_facts_clear(&kvm);
    if (works) {
        tell("ok", "engine",
             svm ? "kvm: machines run on the processor itself (AMD-V)."
                 : "kvm: machines run on the processor itself (VT-x).");
        return true;
    }
    tell("slow", "engine",
         "translate: machines run, but several times slower than on the processor itself.");
    tell("", "", kvm_sentence);
    driver_facts_gather(&driver);
    if (driver_explain(&driver, &driver_sentence) == DRIVER_WORKS) {
        tell("", "", "Ringside's own driver is loaded. It is on trial: machines use it whose "
                     "settings say engine=driver.");
    } else if (driver.node) {
        tell("", "", driver_sentence);
    }
    return false;
}

bool ringctl_doctor(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    const GOptionEntry entries[] = {{0}};
    bool runs, fast;

    if (!ringctl_parse(command, entries, &argc, &argv, 0, 0, error)) {
        return false;
    }
    runs = check_monitor();
    runs = check_firmware() && runs;
    runs = check_library() && runs;
    check_memory();
    fast = check_engine();
    if (!runs) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "Machines cannot run here until what is marked NO is put right.");
    }
    return fast || ringctl_fail(error, RINGCTL_SLOW, "Machines run here, but not at full speed.");
}
