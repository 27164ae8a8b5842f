/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU state in state files: every version is read, and what an engine lacks is found and named.
 */
#include <glib.h>
#include <string.h>

#include "cpu_state.h"
#include "state.h"

static void test_missing_features(void)
{
    struct cpu_state cpu = {.features = {1u << 17 | 1u << 25 | 1u << 27, 0, 1u << 10}};
    uint32_t all[CPU_FEATURE_WORDS];
    const uint32_t some[CPU_FEATURE_WORDS] = {1u << 25};
    g_autofree char *missing = cpu_state_missing_features(&cpu, some);

    memset(all, 0xff, sizeof all);
    g_assert_null(cpu_state_missing_features(&cpu, all));
    g_assert_cmpstr(missing, ==, "PCID, INVPCID"); /* not OSXSAVE */
    cpu = (struct cpu_state){0};                   /* of a state file that does not tell */
    g_assert_null(cpu_state_missing_features(&cpu, some));
}

static GVariant *saved(unsigned version, struct cpu_state *cpu)
{
    struct state *s = state_begin_save(version);

    cpu_state_describe(cpu, s);
    return g_variant_ref_sink(state_end_save(s));
}

static void test_versions(void)
{
    g_autoptr(GError) error = NULL;

    for (unsigned version = 1; version <= CPU_STATE_VERSION; version++) {
        struct cpu_state from = {.features = {1, 2, 3, 4, 5, 6}, .rip = 77}, to = {.features = {9}};
        g_autoptr(GVariant) variant = saved(version, &from);
        struct state *s = state_begin_restore(variant);
        cpu_state_describe(&to, s);
        g_assert_true(state_end_restore(s, "cpu.0", &error));
        g_assert_no_error(error);
        g_assert_cmpuint(to.rip, ==, 77);
        g_assert_cmpuint(to.features[5], ==, version == 1 ? 0 : 6);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpu-state/missing-features", test_missing_features);
    g_test_add_func("/cpu-state/versions", test_versions);
    return g_test_run();
}
