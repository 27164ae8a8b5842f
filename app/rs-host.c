/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's limits and our files in it. */
#include <glib/gi18n-lib.h>
#include <string.h>

#include "rs-host.h"

#define DESKTOP_MIB    512u
#define MAX_PROCESSORS 32u

static uint64_t meminfo_mib(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    return line ? g_ascii_strtoull(line + strlen(key), NULL, 10) >> 10 : 0;
}

static uint64_t free_bytes(const char *path)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInfo) info =
        g_file_query_filesystem_info(file, G_FILE_ATTRIBUTE_FILESYSTEM_FREE, NULL, NULL);
    return info ? g_file_info_get_attribute_uint64(info, G_FILE_ATTRIBUTE_FILESYSTEM_FREE) : 0;
}

RsHostLimits rs_host_limits(void)
{
    RsHostLimits limits = {.memory_mib = 1024, .available_mib = 1024};
    g_autofree char *text = NULL;

    if (g_file_get_contents("/proc/meminfo", &text, NULL, NULL)) {
        uint64_t total = meminfo_mib(text, "MemTotal:");
        limits.memory_mib = total > 2 * DESKTOP_MIB ? total - DESKTOP_MIB : MAX(total / 2, 64);
        limits.available_mib = meminfo_mib(text, "MemAvailable:");
    }
    limits.processors = CLAMP(g_get_num_processors(), 1, MAX_PROCESSORS);
    limits.disk_bytes = free_bytes(rs_host_machines_folder());
    return limits;
}

const char *rs_host_machines_folder(void)
{
    static char *folder;

    if (!folder) {
        folder = g_build_filename(g_get_user_data_dir(), "ringside", "machines", NULL);
    }
    g_mkdir_with_parents(folder, 0700);
    return folder;
}

const char *rs_host_sockets_folder(void)
{
    static char *folder;

    if (!folder) {
        folder = g_build_filename(g_get_user_runtime_dir(), "ringside", NULL);
    }
    return folder;
}

static char *own_folder(void)
{
    g_autofree char *path = g_file_read_link("/proc/self/exe", NULL);
    return path ? g_path_get_dirname(path) : g_strdup(".");
}

/* The first of the NULL-terminated, freed candidates that passes the test. */
static char *first_existing(char **candidates, GFileTest test)
{
    char *found = NULL;

    for (unsigned i = 0; candidates[i]; i++) {
        if (!found && g_file_test(candidates[i], test)) {
            found = g_steal_pointer(&candidates[i]);
        } else {
            g_free(candidates[i]);
        }
    }
    return found;
}

/* Beside us when installed, in `folder` of the build tree, or on the path. */
static char *find_program(const char *folder, const char *program)
{
    g_autofree char *own = own_folder();
    char *candidates[] = {g_build_filename(own, program, NULL),
                          g_build_filename(own, "..", folder, program, NULL),
                          g_build_filename(own, "..", "..", folder, program, NULL), NULL};
    char *found = first_existing(candidates, G_FILE_TEST_IS_EXECUTABLE);

    return found ? found : g_find_program_in_path(program);
}

char *rs_host_find_monitor(GError **error)
{
    const char *override = g_getenv("RINGSIDE_MONITOR");
    if (override && *override) {
        return g_strdup(override);
    }
    char *found = find_program("monitor", "ringside-monitor");
    if (!found) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("The program ringside-monitor, which runs machines, is not installed"));
    }
    return found;
}

char *rs_host_find_viewer(void)
{
    return find_program("ui/viewer", "ringside-viewer");
}

char *rs_host_find_ringctl(GError **error)
{
    char *found = find_program("app", "ringctl");
    if (!found) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
            _("The program ringctl, which connects USB devices by rules, is not installed"));
    }
    return found;
}

char *rs_host_find_data(const char *name, GError **error)
{
    g_autofree char *own = own_folder();
    char *candidates[] = {g_build_filename(RS_SOURCE_DATA, name, NULL),
                          g_build_filename(own, "..", "share", "ringside", name, NULL),
                          g_build_filename(RS_INSTALLED_DATA, name, NULL), NULL};
    char *found = first_existing(candidates, G_FILE_TEST_EXISTS);
    if (!found) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("The file %s of Ringside is not installed"), name);
    }
    return found;
}

char *rs_host_sanitize(const char *text, unsigned limit)
{
    g_autofree char *valid = g_utf8_make_valid(text ? text : "", -1);
    GString *result = g_string_new(NULL);
    unsigned count = 0;

    for (const char *p = valid; *p && count < limit; p = g_utf8_next_char(p), count++) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(result, g_unichar_iscntrl(c) ? ' ' : c);
    }
    g_strstrip(result->str);
    return g_string_free(result, FALSE);
}
