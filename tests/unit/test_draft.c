/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making machines and looking into images without a window: names, host limits, what a failure
 * leaves behind. $XDG_DATA_HOME is a folder of the test's own.
 */
#include <glib/gstdio.h>

#include "rs-draft.h"

static char *folder;

static void done(GObject *source, GAsyncResult *result, gpointer data)
{
    *(GAsyncResult **)data = g_object_ref(result);
}

static GAsyncResult *wait_for(GAsyncResult **result)
{
    while (!*result) {
        g_main_context_iteration(NULL, TRUE);
    }
    return *result;
}

static unsigned count_machines(void)
{
    g_autoptr(GDir) dir = g_dir_open(rs_host_machines_folder(), 0, NULL);
    unsigned count = 0;
    while (g_dir_read_name(dir)) {
        count++;
    }
    return count;
}

static char *create(const RsDraft *draft, GError **error)
{
    g_autoptr(GAsyncResult) result = NULL;
    rs_draft_create_async(draft, NULL, NULL, NULL, done, &result);
    return rs_draft_create_finish(wait_for(&result), error);
}

static void test_create(void)
{
    g_autoptr(RsLibrary) library = rs_library_new();
    g_autoptr(RsDraft) draft = rs_draft_new();
    g_autoptr(GError) error = NULL;

    draft->name = g_strdup("  Ünïcode & Söns  ");
    g_assert_null(rs_draft_check(draft, library));
    g_autofree char *id = create(draft, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(id, ==, "unicode-sons");
    rs_library_refresh(library);
    RsMachine *machine = rs_library_find(library, id);
    g_assert_nonnull(machine);
    g_assert_cmpstr(rs_machine_get_name(machine), ==, "Ünïcode & Söns");
    g_assert_cmpint(rs_machine_get_state(machine), ==, RS_MACHINE_OFF);
    g_autofree char *wrong = rs_draft_check(draft, library);
    g_assert_nonnull(wrong);
    g_autofree char *second = create(draft, &error);
    g_assert_cmpstr(second, ==, "unicode-sons-2");
}

static void test_limits(void)
{
    g_autoptr(RsLibrary) library = rs_library_new();
    g_autoptr(RsDraft) draft = rs_draft_new();
    RsHostLimits limits = rs_host_limits();

    draft->name = g_strdup("Large");
    draft->memory_mib = limits.memory_mib + 1;
    g_autofree char *memory = rs_draft_check(draft, library);
    g_assert_nonnull(memory);
    draft->memory_mib = 64;
    draft->disk_bytes = limits.disk_bytes * 2 + (UINT64_C(1) << 40);
    g_autofree char *disk = rs_draft_check(draft, library);
    g_assert_nonnull(disk);
    draft->name[0] = '\0';
    g_autofree char *name = rs_draft_check(draft, library);
    g_assert_cmpstr(name, ==, "The machine needs a name.");
}

static void test_failure(void)
{
    g_autofree char *program = g_build_filename(folder, "broken", NULL);
    g_autoptr(RsDraft) draft = rs_draft_new();
    g_autoptr(GError) error = NULL;
    unsigned before = count_machines();

    g_assert_true(g_file_set_contents(
        program, "#!/bin/sh\necho 'ringside-monitor: No way' >&2; exit 1\n", -1, NULL));
    g_chmod(program, 0755);
    g_setenv("RINGSIDE_MONITOR", program, TRUE);
    draft->name = g_strdup("Never");
    draft->disk_bytes = 1 << 30;
    g_assert_null(create(draft, &error));
    g_assert_cmpstr(error->message, ==, "No way");
    g_assert_cmpuint(count_machines(), ==, before);
    g_unsetenv("RINGSIDE_MONITOR");
}

static void test_media(void)
{
    g_autofree char *path = g_build_filename(folder, "text.iso", NULL);
    g_autoptr(GAsyncResult) result = NULL, missing = NULL;
    g_autoptr(GError) error = NULL, gone = NULL;

    g_assert_true(g_file_set_contents(path, "text", -1, NULL));
    rs_media_detect_async(path, NULL, done, &result);
    g_assert_null(rs_media_detect_finish(wait_for(&result), &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
    rs_media_detect_async("/nowhere/x.iso", NULL, done, &missing);
    g_assert_null(rs_media_detect_finish(wait_for(&missing), &gone));
    g_assert_error(gone, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
}

int main(int argc, char **argv)
{
    /* Not G_TEST_OPTION_ISOLATE_DIRS: GLib 2.74 leaks in it. */
    static const char *const variables[] = {"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME",
                                            "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"};
    folder = g_dir_make_tmp("draft-XXXXXX", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(variables); i++) {
        g_autofree char *path = g_build_filename(folder, variables[i], NULL);
        g_mkdir(path, 0700);
        g_setenv(variables[i], path, TRUE);
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/draft/create", test_create);
    g_test_add_func("/draft/limits", test_limits);
    g_test_add_func("/draft/failure", test_failure);
    g_test_add_func("/draft/media", test_media);
    return g_test_run();
}
