/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine.ini: each settings/pass-*.ini loads and survives saving; each settings/fail-*.ini is
 * refused with the one line that stands in the .txt file of the same name.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "settings.h"
#include "usb/rule.h"

struct fixture {
    char *folder;
};

static void fixture_set_up(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    f->folder = g_dir_make_tmp("settings-XXXXXX", &error);
    g_assert_no_error(error);
    if (path) {
        g_autofree char *text = NULL;
        g_autofree char *target = g_build_filename(f->folder, SETTINGS_FILE, NULL);
        gsize length;
        g_assert_true(g_file_get_contents(path, &text, &length, NULL));
        g_assert_true(g_file_set_contents(target, text, (gssize)length, NULL));
    }
}

static void fixture_tear_down(struct fixture *f, gconstpointer path)
{
    g_autofree char *target = g_build_filename(f->folder, SETTINGS_FILE, NULL);
    g_remove(target);
    g_rmdir(f->folder);
    g_free(f->folder);
}

static void assert_same(const struct settings *a, const struct settings *b)
{
    g_assert_cmpstr(a->name, ==, b->name);
    g_assert_cmpstr(a->os, ==, b->os);
    g_assert_cmpstr(a->engine, ==, b->engine);
    g_assert_cmpstr(a->firmware, ==, b->firmware);
    g_assert_cmpstr(a->serial, ==, b->serial);
    g_assert_cmpuint(a->memory_mib, ==, b->memory_mib);
    g_assert_cmpuint(a->processors, ==, b->processors);
    g_assert_cmpint(a->debug_exit, ==, b->debug_exit);
    g_assert_cmpint(a->has_cdrom, ==, b->has_cdrom);
    g_assert_cmpstr(a->cdrom, ==, b->cdrom);
    g_assert_cmpstr(a->boot_order, ==, b->boot_order);
    g_assert_cmpstr(a->kernel, ==, b->kernel);
    g_assert_cmpstr(a->initrd, ==, b->initrd);
    g_assert_cmpstr(a->append, ==, b->append);
    g_assert_cmpstr(a->video, ==, b->video);
    g_assert_cmpstr(a->sound, ==, b->sound);
    g_assert_cmpstr(a->network, ==, b->network);
    g_assert_cmpstr(a->card, ==, b->card);
    g_assert_cmpstr(a->mac, ==, b->mac);
    g_assert_cmpstr(a->forwards, ==, b->forwards);
    g_assert_cmpint(a->cable, ==, b->cable);
    g_assert_cmpstr(a->usb_connect, ==, b->usb_connect);
    g_assert_cmpstr(a->usb_ignore, ==, b->usb_ignore);
    g_autofree char *mac = settings_mac(a), *again = settings_mac(b);
    g_assert_cmpstr(mac, ==, again);
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_assert_cmpstr(a->disk[i].path, ==, b->disk[i].path);
        g_assert_cmpstr(a->disk[i].format, ==, b->disk[i].format);
        g_assert_cmpint(a->disk[i].read_only, ==, b->disk[i].read_only);
    }
}

static void test_pass(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) first = settings_load(f->folder, &error);
    g_assert_no_error(error);
    g_assert_true(settings_save(first, f->folder, &error));
    g_autoptr(RsSettings) second = settings_load(f->folder, &error);
    g_assert_no_error(error);
    assert_same(first, second);
    g_assert_cmpstr(first->uuid, ==, second->uuid);
}

static void test_fail(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *expected = NULL, *text = NULL;
    g_autofree char *stem = g_strndup(path, strlen(path) - strlen(".ini"));
    g_autofree char *answer = g_strconcat(stem, ".txt", NULL);

    g_assert_true(g_file_get_contents(answer, &text, NULL, NULL));
    expected = g_strdup(g_strchomp(text));
    g_assert_null(settings_load(f->folder, &error));
    g_assert_nonnull(error);
    g_assert_cmpstr(error->message, ==, expected);
}

static void test_keeps(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) s = settings_load(f->folder, &error);
    g_autofree char *target = g_build_filename(f->folder, SETTINGS_FILE, NULL);
    g_autofree char *text = NULL;

    g_assert_no_error(error);
    s->memory_mib = 77;
    g_clear_pointer(&s->disk[3].path, g_free);
    g_clear_pointer(&s->kernel, g_free);
    g_assert_true(settings_save(s, f->folder, &error));
    g_assert_true(g_file_get_contents(target, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "# A comment that a person wrote"));
    g_assert_nonnull(strstr(text, "colour=blue"));
    g_assert_nonnull(strstr(text, "memory=77"));
    g_assert_null(strstr(text, "[disk3]"));
    g_assert_null(strstr(text, "kernel"));
}

static void test_missing(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(settings_load(f->folder, &error));
    g_assert_error(error, SETTINGS_ERROR, SETTINGS_ERROR_IO);
    g_assert_nonnull(strstr(error->message, f->folder));
}

static void test_new(struct fixture *f, gconstpointer path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(RsSettings) s = settings_new("Fresh = new; \\ machine");

    s->disk[0] = (struct settings_disk){g_strdup("disk.qcow2"), g_strdup("qcow2"), false, true};
    g_assert_true(settings_save(s, f->folder, &error));
    g_autoptr(RsSettings) again = settings_load(f->folder, &error);
    g_assert_no_error(error);
    assert_same(s, again);
    g_assert_cmpstr(s->uuid, ==, again->uuid);
}

static void test_usb_rules(void)
{
    struct usb_identity device = {0x1234, 0x5678, "A,B", "1-4.2"},
                        bare = {0x1234, 0x5678, NULL, "2-1"};
    g_autofree char *rule = usb_rule_for(&device), *short_rule = usb_rule_for(&bare);
    static const char *const wrong[] = {
        "",         "1234",      "1234:567",    "1234:5678:", "1234:5678:a b", "port:", "port:a",
        "port:1/2", "12345:678", "1234:5678:%", "1234:567g",  "1234-5678",     "usb:1"};

    g_assert_cmpstr(rule, ==, "1234:5678:A%2CB");
    g_assert_cmpstr(short_rule, ==, "1234:5678");
    g_assert_true(usb_rule_matches(rule, &device));
    g_assert_false(usb_rule_matches(rule, &bare));
    g_assert_true(usb_rule_matches(short_rule, &device));
    g_assert_true(usb_rule_matches("port:1-4.2", &device));
    g_assert_false(usb_rule_matches("port:1-4", &device));
    g_assert_false(usb_rule_matches("1234:5679", &device));
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_assert_false(usb_rule_valid(wrong[i]));
        g_assert_false(usb_rule_matches(wrong[i], &device));
    }
}

static void test_usb_lists(void)
{
    g_autoptr(RsSettings) s = settings_new("m");
    struct usb_identity device = {0x1234, 0x5678, "X", "1-4"};

    g_assert_true(settings_usb_connect(s, "1234:5678:X"));
    g_assert_true(settings_usb_connect(s, "port:1-4"));
    g_assert_cmpstr(s->usb_connect, ==, "1234:5678:X,port:1-4");
    g_assert_true(settings_usb_connects(s, &device));
    g_assert_true(settings_usb_ignore(s, "port:1-4")); /* from one list to the other */
    g_assert_cmpstr(s->usb_connect, ==, "1234:5678:X");
    g_assert_cmpstr(s->usb_ignore, ==, "port:1-4");
    g_assert_false(settings_usb_forget(s, "port:1-5"));
    settings_usb_forget_device(s, &device);
    g_assert_null(s->usb_connect);
    g_assert_null(s->usb_ignore);
    for (unsigned i = 0; i < USB_RULES; i++) {
        g_autofree char *rule = g_strdup_printf("%04x:0001", i);
        g_assert_true(settings_usb_connect(s, rule));
    }
    g_assert_false(settings_usb_connect(s, "ffff:0001"));
}

/* The shared string keeps the path alive for the test's run. */
static void add_files(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        if (!g_str_has_suffix(name, ".ini")) {
            continue;
        }
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *test = g_strconcat("/settings/", name, NULL);
        bool pass = g_str_has_prefix(name, "pass-");
        g_test_add(test, struct fixture, g_intern_string(path), fixture_set_up,
                   pass ? test_pass : test_fail, fixture_tear_down);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_files(SETTINGS_FILES);
    g_test_add("/settings/keeps", struct fixture, SETTINGS_FILES "/pass-full.ini", fixture_set_up,
               test_keeps, fixture_tear_down);
    g_test_add("/settings/missing", struct fixture, NULL, fixture_set_up, test_missing,
               fixture_tear_down);
    g_test_add("/settings/new", struct fixture, NULL, fixture_set_up, test_new, fixture_tear_down);
    g_test_add_func("/settings/usb-rules", test_usb_rules);
    g_test_add_func("/settings/usb-lists", test_usb_lists);
    return g_test_run();
}
