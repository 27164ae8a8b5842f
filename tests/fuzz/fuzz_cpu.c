/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile guest for the translate engine: random code, page tables, descriptor tables and
 * registers, in every mode. Nothing is checked but that the process survives, the CPU can be paused
 * within a second whatever it does, and no memory outside the guest's changes (run it under a
 * sanitizer for that).
 *
 * Usage: fuzz_cpu [--rounds N] [--seed S] [--engine-options LIST]
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../cpu/harness.h"

#define RAM_SIZE (4u << 20)

static uint64_t rng_state;
static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x2545f4914f6cdd1dull;
}

/* Opcodes that do more than compute, to get past the decoder often. */
static void put_code(uint8_t *p, unsigned n)
{
    static const char *const bits[] = {
        "\x0f\x20\xc0", "\x0f\x22\xc0", "\x0f\x22\xd8", "\x0f\x22\xe0",
        "\x0f\x30",     "\x0f\x32",     "\xcf",         "\x48\xcf",
        "\xcb",         "\xca\x10",     "\x0f\x05",     "\x48\x0f\x07",
        "\x0f\x34",     "\x0f\x35",     "\x9c",         "\x9d",
        "\x8e\xd0",     "\x8e\xd8",     "\x0f\xa9",     "\x17",
        "\xcd\x80",     "\xcc",         "\xf4",         "\xfb",
        "\xfa",         "\x0f\x01\x10", "\x0f\x01\x18", "\x0f\x00\xd8",
        "\x0f\x00\xd0", "\x0f\x01\x38", "\x0f\x01\xf8", "\xf3\xa4",
        "\xf3\xab",     "\xf3\xa6",     "\x0f\xae\x00", "\x0f\xae\x08",
        "\x0f\xae\x20", "\x0f\xae\x28", "\xe6\x10",     "\xec",
        "\x6c",         "\x6f",         "\xea",         "\x9a",
        "\xff\x28",     "\xff\x18",     "\xc8\x10",     "\x60",
        "\x61",         "\x0f\xa2",     "\x0f\x31",     "\x0f\x01\xd1",
        "\xeb\xfe",     "\xc5\xf8\x77", "\x0f\xc7\x08", "\x66\x0f\xae\x38",
        "\x0f\x23\xf8", "\x0f\x01\xca", "\x0f\x01\xcb", "\xc4\xe2\x7d\x90\x04\x08"};
    unsigned i = 0;
    while (i < n) {
        if (rng() & 1) {
            const char *s = bits[rng() % G_N_ELEMENTS(bits)];
            for (unsigned k = 0; (s[k] || k == 0) && i < n; k++) {
                p[i++] = s[k];
            }
        } else {
            p[i++] = rng();
        }
    }
}

static void random_tables(struct harness *h)
{
    for (unsigned i = 0; i < 8192; i++) { /* entries that point into RAM more often than not */
        uint64_t e = (rng() % RAM_SIZE & ~0xfffull) | (rng() & 0x1e7) | (rng() & 7 ? 1 : 0);
        if ((rng() & 31) == 0) {
            e = rng();
        }
        memcpy(h->ram + 0x100000 + 8 * i, &e, 8);
    }
    for (unsigned i = 0; i < 256; i++) { /* descriptors: GDT at 200000, IDT at 201000 */
        uint64_t d = rng(), gate = rng();
        d = rng() & 3 ? (d & ~0x0040ff0000ff0000ull) | 0x00cf93000000ffffull |
                            (rng() & 0x60ull << 40) | (rng() & 0xfull << 40)
                      : d;
        gate =
            (gate & 0xffff) | (rng() % 16 * 8) << 16 | (rng() & 3 ? 0x8eull : rng() & 0xff) << 40;
        memcpy(h->ram + 0x200000 + 8 * i, &d, 8);
        memcpy(h->ram + 0x201000 + 8 * i, &gate, 8);
    }
}

static void random_state(struct cpu_state *s)
{
    cpu_state_reset(s, true, false);
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = rng() & 3 ? rng() % RAM_SIZE : rng();
    }
    s->rip = rng() % 0xf000;
    s->rflags = 2 | (rng() & 0x3f7fd5);
    s->gdtr_base = 0x200000;
    s->idtr_base = 0x201000;
    s->gdtr_limit = s->idtr_limit = rng() & 0xfff;
    s->cr3 = 0x100000 + (rng() % 4) * 4096;
    s->xcr0 = 7;
    s->seg[CPU_TR].base = rng() % RAM_SIZE;
    s->seg[CPU_TR].limit = rng() & 0xff;
    s->seg[CPU_TR].attributes = rng() & 8 ? 0x8b : 0x83;
    unsigned mode = rng() % 4;
    for (unsigned i = 0; i < 6; i++) {
        s->seg[i] = (struct cpu_segment){.base = rng() & 3 ? 0 : rng() % RAM_SIZE,
                                         .limit = rng() & 3 ? 0xffffffff : rng() & 0xffff,
                                         .selector = rng() % 16 * 8,
                                         .attributes = 0xc093};
    }
    s->seg[CPU_CS].base = 0;
    s->seg[CPU_CS].limit = 0xffffffff;
    if (mode == 0) {
        s->rflags &= ~0x20000ull;
        s->cr0 = 0x10;
        s->seg[CPU_CS].attributes = 0x9b;
        return;
    }
    s->cr0 = 0x11 | (rng() & 0x5000e) | (mode >= 2 ? 0x80000000 : 0);
    s->cr4 = rng() & 0x706b8;
    if (mode == 3) {
        s->cr4 |= 0x20;
        s->efer = 0xd01;
        s->rflags &= ~0x20000ull;
    } else {
        s->cr4 &= ~0x20000ull;
    }
    unsigned cpl = rng() & 1 ? 0 : 3;
    s->seg[CPU_CS].attributes = (mode == 3 ? 0xa09b : 0xc09b) | cpl << 5;
    s->seg[CPU_SS].attributes = 0xc093 | cpl << 5;
}

/* Gives the address of the code a mapping in long mode half of the time. */
static void identity(struct harness *h, const struct cpu_state *s)
{
    uint64_t e[3] = {0x110007, 0x111007, 0x87};
    memcpy(h->ram + s->cr3, &e[0], 8);
    memcpy(h->ram + 0x110000, &e[1], 8);
    memcpy(h->ram + 0x111000, &e[2], 8);
    uint64_t second = 0x200087;
    memcpy(h->ram + 0x111008, &second, 8);
}

/* Microseconds that the process has computed: other load on the host does not count. */
static gint64 cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * G_USEC_PER_SEC + t.tv_nsec / 1000;
}

static bool run_round(struct harness *h)
{
    struct cpu_state s;
    for (unsigned i = 0; i < 0x10000; i += 64) {
        put_code(h->ram + i, 64);
    }
    random_tables(h);
    random_state(&s);
    if (rng() & 3) {
        identity(h, &s);
    }
    GError *error = NULL;
    if (!translate_engine.set_state(h->engine, 0, &s, &error)) {
        g_clear_error(&error);
        return true;
    }
    clock_resume(h->clock);
    translate_engine.run(h->engine);
    g_usleep(3000);
    gint64 before = cpu_time();
    translate_engine.pause(h->engine);
    gint64 took = cpu_time() - before;
    clock_pause(h->clock);
    translate_engine.get_state(h->engine, 0, &s);
    if (took > G_TIME_SPAN_SECOND) {
        printf("# pausing took %ld ms of computing\n", (long)(took / 1000));
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    uint64_t rounds = 300, seed = 0x66757a7a;
    const char *options = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (g_str_equal(argv[i], "--rounds")) {
            rounds = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--seed")) {
            seed = g_ascii_strtoull(argv[i + 1], NULL, 0);
        } else if (g_str_equal(argv[i], "--engine-options")) {
            options = argv[i + 1];
        }
    }
    rng_state = seed ? seed : 1;
    printf("1..1\n# seed %#lx, %lu rounds\n", seed, rounds);
    fflush(stdout);
    struct harness *h = harness_new(RAM_SIZE, options);
    bool ok = true;
    for (uint64_t i = 0; i < rounds && ok; i++) {
        uint64_t at = rng_state;
        ok = run_round(h);
        if (!ok) {
            printf("# in round %lu, generator %#lx\n", i, at);
        }
    }
    harness_free(h);
    printf("%sok 1 - hostile code\n", ok ? "" : "not ");
    return !ok;
}
