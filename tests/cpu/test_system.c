/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the bare-metal programs of system/ in the translate engine, in every configuration that
 * shakes it. A program ends by writing 0 (all checks passed) or the number of the failed check to
 * port F4h. Those of bare/ are written in C, end with the number of failed checks and name them.
 *
 * Usage: test_system FOLDER [NAME [OPTIONS]]: with the programs as FOLDER/NAME.bin
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

static const struct {
    const char *name;
    enum { START_REAL, START_PROTECTED, START_LONG } start;
    bool disturb; /* invalidations keep coming while it runs */
    int ends;     /* with this code */
} programs[] = {{"protected", START_PROTECTED, false, 0},
                {"long", START_LONG, false, 0},
                {"real", START_REAL, false, 0},
                {"vectors", START_LONG, true, 0},
                {"debug", START_LONG, false, 0},
                {"paging", START_LONG, false, 0},
                {"loops", START_LONG, false, 0},
                {"aliases", START_LONG, false, 0},
                {"faults", START_LONG, false, 0},
                {"cpuid", START_LONG, false, 0},
                {"protected32", START_PROTECTED, false, 0},
                {"triple", START_LONG, false, -2},
                {"real16", START_REAL, false, 0},
                {"random", START_LONG, false, 0}};

static const char *const shakes[] = {NULL,       "nochain",  "oneinsn",
                                     "tlb=16",   "cache=1M", "nochain,oneinsn,tlb=16,cache=1M",
                                     "promote=0"};

#define LOAD_AT 0x100000u

static void start_protected(struct cpu_state *s)
{
    cpu_state_reset(s, true, false);
    s->rip = LOAD_AT;
    s->cr0 = 0x11;
    s->seg[CPU_CS] = (struct cpu_segment){.limit = 0xffffffff, .selector = 8, .attributes = 0xc09b};
    static const uint8_t data[] = {CPU_ES, CPU_SS, CPU_DS, CPU_FS, CPU_GS};
    for (unsigned i = 0; i < 5; i++) {
        s->seg[data[i]] =
            (struct cpu_segment){.limit = 0xffffffff, .selector = 16, .attributes = 0xc093};
    }
}

static int run_program(const char *folder, unsigned which, const char *options)
{
    g_autofree char *path = g_strdup_printf("%s/%s.bin", folder, programs[which].name),
                    *bytes = NULL;
    gsize size;
    if (!g_file_get_contents(path, &bytes, &size, NULL) || size > 0x200000) {
        return -4;
    }
    struct harness *h = harness_new(64 << 20, options);
    struct cpu_state s;
    uint32_t at = programs[which].start == START_REAL ? 0x8000 : LOAD_AT;
    memcpy(h->ram + at, bytes, size);
    if (programs[which].start == START_PROTECTED) {
        start_protected(&s);
    } else if (programs[which].start == START_LONG) {
        harness_long_mode(h, &s, 0x1000000, LOAD_AT, 0xf0000);
    } else {
        cpu_state_reset(&s, true, false);
        s.seg[CPU_CS].base = s.seg[CPU_CS].selector = 0;
        s.rip = at;
    }
    h->disturb = programs[which].disturb;
    int code = harness_run(h, &s, 20);
    if (code != programs[which].ends) {
        printf("# %s: code %d rip %lx cr2 %lx rflags %lx\n", programs[which].name, code, s.rip,
               s.cr2, s.rflags);
        g_auto(GStrv) lines = g_strsplit(h->output->str, "\n", -1);
        for (unsigned i = 0; lines[i] && *lines[i]; i++) {
            printf("# %s\n", lines[i]);
        }
    }
    harness_free(h);
    return code == programs[which].ends ? 0 : code ? code : -5;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: test_system FOLDER\n");
        return 2;
    }
    unsigned n = 0, bad = 0;
    if (argc == 2) {
        printf("1..%zu\n", G_N_ELEMENTS(programs) * G_N_ELEMENTS(shakes));
    }
    for (unsigned p = 0; p < G_N_ELEMENTS(programs); p++) {
        if (argc > 2 && strcmp(argv[2], programs[p].name) != 0) {
            continue;
        }
        if (argc > 3) {
            return run_program(argv[1], p, argv[3]) != 0;
        }
        for (unsigned k = 0; k < G_N_ELEMENTS(shakes); k++) {
            int code = run_program(argv[1], p, shakes[k]);
            printf("%sok %u - %s, %s%s", code ? "not " : "", ++n, programs[p].name,
                   shakes[k] ? shakes[k] : "plain", code ? "" : "\n");
            if (code) {
                printf(" (check %d)\n", code);
                bad++;
            }
            fflush(stdout);
        }
    }
    return bad != 0;
}
