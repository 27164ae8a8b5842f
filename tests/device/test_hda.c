/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HD Audio controller and its codec at register level, playing to nobody; and a hostile driver.
 */
#include "pci_bench.h"

#include "hda_internal.h"

#define DEVFN     0xd8
#define CORB      0x10000u
#define RIRB      0x11000u
#define LIST      0x12000u
#define POSITIONS 0x13000u
#define BUFFER    0x100000u
#define SD(n)     (0x80u + (n)*0x20u)
#define OUT       4u      /* the first output stream */
#define RATE      192000u /* bytes a second of 48 kHz, 16 bits, stereo */

struct rig {
    struct bench bench;
    uint32_t bar;
    uint16_t written;
};

static uint32_t get(struct rig *r, uint32_t at, unsigned size)
{
    return (uint32_t)memory_io_read(r->bench.host.memory, r->bar + at, size);
}

static void set(struct rig *r, uint32_t at, uint32_t value, unsigned size)
{
    memory_io_write(r->bench.host.memory, r->bar + at, value, size);
}

static uint32_t word(struct rig *r, uint32_t at)
{
    uint32_t value;

    memcpy(&value, r->bench.ram + at, 4);
    return value;
}

static void rig_open(struct rig *r)
{
    struct hda_config config = {0};

    memset(r, 0, sizeof *r);
    bench_open(&r->bench);
    config.pci = (struct pci_config){r->bench.bus, DEVFN};
    bench_start(&r->bench, &hda_device, &config);
    r->bar = bench_bar(&r->bench, DEVFN, 0);
    set(r, 0x08, 1, 4);
}

static void rings_up(struct rig *r)
{
    set(r, 0x40, CORB, 4);
    set(r, 0x4a, 0x8000, 2);
    g_assert_cmphex(get(r, 0x4a, 2), ==, 0x8000);
    set(r, 0x4a, 0, 2);
    set(r, 0x4c, 2, 1);
    set(r, 0x50, RIRB, 4);
    set(r, 0x58, 0x8000, 2);
    set(r, 0x5a, 1, 2);
    set(r, 0x5c, 3, 1);
    set(r, 0x20, 0xc0000000u | 0xff, 4);
}

static uint32_t command(struct rig *r, uint32_t verb)
{
    r->written = (r->written + 1) % 256;
    memcpy(r->bench.ram + CORB + 4 * r->written, &verb, 4);
    set(r, 0x48, r->written, 2);
    g_assert_cmpuint(get(r, 0x58, 2), ==, r->written);
    g_assert_true(r->bench.irq);
    set(r, 0x5d, 5, 1);
    g_assert_false(r->bench.irq);
    return word(r, RIRB + 8 * r->written);
}

static void test_commands(void)
{
    struct rig r;

    rig_open(&r);
    g_assert_cmphex(get(&r, 0x00, 2), ==, 0x4401);
    g_assert_cmphex(get(&r, 0x0e, 2), ==, 1); /* a codec */
    rings_up(&r);
    g_assert_cmphex(command(&r, 0x000f0000), ==, 0x52530001);
    g_assert_cmphex(command(&r, 0x000f0004), ==, 0x00010001);
    g_assert_cmphex(command(&r, 0x001f0004), ==, 0x00020004);
    g_assert_cmphex(command(&r, 0x003f0200), ==, 2); /* the line output's converter */
    command(&r, 0x00270610);
    g_assert_cmphex(command(&r, 0x002f0600), ==, 0x10);
    command(&r, 0x00224011);
    g_assert_cmphex(command(&r, 0x002a0000), ==, 0x4011);
    g_assert_cmphex(command(&r, 0x002b2000), ==, 0x80 | 74); /* muted at first */
    command(&r, 0x0023a03c);
    g_assert_cmphex(command(&r, 0x002b2000), ==, 60);
    g_assert_cmphex(command(&r, 0x002b0000), ==, 0x80 | 74); /* the right one is as it was */
    g_assert_cmphex(command(&r, 0x102f0000), ==, 0);         /* nobody is at that address */
    for (unsigned i = 0; i < 300; i++) {                     /* round the rings */
        g_assert_cmphex(command(&r, 0x000f0002), ==, 0x00100101);
    }
    set(&r, 0x60, 0x000f0000, 4);
    g_assert_cmphex(get(&r, 0x68, 2) & 2, ==, 2);
    g_assert_cmphex(get(&r, 0x64, 4), ==, 0x52530001);
    bench_close(&r.bench);
}

/* Two buffers of 10 ms each; an interrupt after the second. */
static void stream_up(struct rig *r, unsigned n)
{
    uint32_t list[8] = {BUFFER, 0, RATE / 100, 0, BUFFER + 0x10000, 0, RATE / 100, 1};

    memcpy(r->bench.ram + LIST, list, sizeof list);
    set(r, 0x70, POSITIONS | 1, 4);
    set(r, SD(n) + 0x18, LIST, 4);
    set(r, SD(n) + 0x08, RATE / 50, 4);
    set(r, SD(n) + 0x0c, 1, 2);
    set(r, SD(n) + 0x12, 0x0011, 2);
    set(r, 0x20, 0xc0000000u | 0xff, 4);
    set(r, SD(n), 0x10001e, 4);
}

static void test_playback(void)
{
    struct rig r;

    rig_open(&r);
    stream_up(&r, OUT);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, 0);
    clock_advance(r.bench.host.clock, 15000000);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, 3 * RATE / 200);
    g_assert_cmpuint(word(&r, POSITIONS + 8 * OUT), ==, 3 * RATE / 200);
    g_assert_false(r.bench.irq);
    clock_advance(r.bench.host.clock, 10000000);
    g_assert_true(r.bench.irq);
    g_assert_cmphex(get(&r, 0x24, 4), ==, 0x80000000u | 1u << OUT);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, RATE / 200); /* went round */
    set(&r, SD(OUT) + 3, 4, 1);
    g_assert_false(r.bench.irq);
    set(&r, SD(OUT), 0x10001c, 4); /* stop */
    clock_advance(r.bench.host.clock, 50000000);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, RATE / 200);
    set(&r, SD(OUT), 1, 1);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, 0);
    bench_close(&r.bench);
}

/* A long time in small steps is as long as it should be. */
static void test_pace(void)
{
    struct rig r;
    unsigned rounds = 0;

    rig_open(&r);
    stream_up(&r, OUT);
    for (unsigned i = 0; i < 10000; i++) {
        clock_advance(r.bench.host.clock, 300007);
        if (get(&r, SD(OUT) + 3, 1) & 4) {
            set(&r, SD(OUT) + 3, 4, 1);
            rounds++;
        }
    }
    g_assert_cmpuint(rounds, ==, 150); /* 3.00007 s of 20 ms each */
    bench_close(&r.bench);
}

static void test_recording(void)
{
    struct rig r;

    rig_open(&r);
    memset(r.bench.ram + BUFFER, 0x55, 0x20000);
    stream_up(&r, 0);
    clock_advance(r.bench.host.clock, 12000000);
    g_assert_cmpuint(get(&r, SD(0) + 4, 4), ==, 12 * RATE / 1000);
    g_assert_cmphex(word(&r, BUFFER), ==, 0); /* silence */
    g_assert_cmphex(word(&r, BUFFER + 0x10000), ==, 0);
    g_assert_cmphex(word(&r, BUFFER + RATE / 100), ==, 0x55555555);
    bench_close(&r.bench);
}

static void test_state(void)
{
    struct rig r;

    rig_open(&r);
    rings_up(&r);
    command(&r, 0x0023a03c);
    stream_up(&r, OUT);
    clock_advance(r.bench.host.clock, 7000000);
    bench_save_restore(&r.bench);
    g_assert_cmpuint(get(&r, SD(OUT) + 4, 4), ==, 7 * RATE / 1000);
    clock_advance(r.bench.host.clock, 16000000);
    g_assert_cmphex(get(&r, SD(OUT) + 3, 1) & 4, ==, 4);
    set(&r, SD(OUT) + 3, 4, 1);
    g_assert_cmphex(command(&r, 0x002b2000), ==, 60);
    bench_close(&r.bench);
}

static void test_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(293);
    struct rig r;

    rig_open(&r);
    for (unsigned round = 0; round < 60000; round++) {
        uint32_t value = g_rand_int(random), what = g_rand_int_range(random, 0, 100);
        unsigned size = 1u << (value >> 28) % 3, at = (value & 0x1ff) & ~(size - 1);
        if (what < 40) {
            set(&r, at, g_rand_int(random), size);
        } else if (what < 55) {
            get(&r, what < 42 ? value & 0x3ffc : at, size);
        } else if (what < 75) {
            uint32_t words[4] = {what < 58 ? r.bar : g_rand_int(random) & (BENCH_RAM - 1), 0,
                                 g_rand_int(random) & (what < 65 ? 0xffffffff : 0xfff), value & 1};
            memcpy(r.bench.ram + LIST + (value >> 4 & 0xff0), words, sizeof words);
        } else if (what < 85) {
            clock_advance(r.bench.host.clock, value >> 8);
        } else if (what < 90) {
            stream_up(&r, value % HDA_STREAMS);
        } else {
            set(&r, 0x08, what < 92 ? 0 : 1, 4);
            set(&r, 0x4c, 2, 1);
            set(&r, 0x5c, 3, 1);
        }
    }
    bench_save_restore(&r.bench);
    bench_close(&r.bench);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hda/commands", test_commands);
    g_test_add_func("/hda/playback", test_playback);
    g_test_add_func("/hda/pace", test_pace);
    g_test_add_func("/hda/recording", test_recording);
    g_test_add_func("/hda/state", test_state);
    g_test_add_func("/hda/hostile", test_hostile);
    return g_test_run();
}
