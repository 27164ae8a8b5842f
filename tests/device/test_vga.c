/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The display adapter: registers in, pixels out, on a fake clock. */
#include "pci_bench.h"

#include "vga.h"

#define DEVFN 0x10

struct rig {
    struct bench bench;
    struct screen *screen;
    uint32_t lfb, registers;
    unsigned rearms;
};

static void rig_rearm(void *opaque)
{
    ((struct rig *)opaque)->rearms++;
}

static void rig_open(struct rig *r)
{
    static const uint8_t rom[] = {0x55, 0xaa, 4, 0xcb};
    memset(r, 0, sizeof(*r));
    bench_open(&r->bench);
    r->screen = screen_new();
    struct vga_config config = {.pci = {r->bench.bus, DEVFN},
                                .screen = r->screen,
                                .rom = rom,
                                .rom_size = sizeof(rom),
                                .dirty_rearm = rig_rearm,
                                .opaque = r};
    bench_start(&r->bench, &vga_device, &config);
    r->lfb = bench_bar(&r->bench, DEVFN, 0);
    r->registers = bench_bar(&r->bench, DEVFN, 2);
}

static void rig_close(struct rig *r)
{
    bench_close(&r->bench);
    screen_free(r->screen);
}

static void indexed(struct rig *r, uint16_t port, uint8_t index, uint8_t value)
{
    bench_out(&r->bench, port, index | value << 8, 2);
}

static void attribute(struct rig *r, uint8_t index, uint8_t value)
{
    bench_in(&r->bench, 0x3da, 1);
    bench_out(&r->bench, 0x3c0, index, 1);
    bench_out(&r->bench, 0x3c0, value, 1);
}

static void poke(struct rig *r, uint32_t at, uint64_t value, unsigned size)
{
    memory_io_write(r->bench.host.memory, at, value, size);
}

static uint32_t pixel(struct rig *r, uint32_t x, uint32_t y)
{
    g_assert_cmpuint(x, <, screen_width(r->screen));
    g_assert_cmpuint(y, <, screen_height(r->screen));
    return screen_pixels(r->screen)[y * screen_stride(r->screen) / 4 + x];
}

/* The registers of a mode as a BIOS sets them. */
static void mode_set(struct rig *r, const uint8_t seq[5], const uint8_t crtc[25],
                     const uint8_t gfx[9], uint8_t attr10)
{
    bench_out(&r->bench, 0x3c2, 0x67, 1);
    for (unsigned i = 0; i < 5; i++) {
        indexed(r, 0x3c4, (uint8_t)i, seq[i]);
    }
    indexed(r, 0x3d4, 0x11, 0);
    for (unsigned i = 0; i < 25; i++) {
        indexed(r, 0x3d4, (uint8_t)i, crtc[i]);
    }
    for (unsigned i = 0; i < 9; i++) {
        indexed(r, 0x3ce, (uint8_t)i, gfx[i]);
    }
    for (unsigned i = 0; i < 16; i++) {
        attribute(r, (uint8_t)i, (uint8_t)i);
    }
    attribute(r, 0x10, attr10);
    attribute(r, 0x12, 0x0f);
    attribute(r, 0x13, attr10 & 4 ? 8 : 0);
    bench_in(&r->bench, 0x3da, 1);
    bench_out(&r->bench, 0x3c0, 0x20, 1);
    bench_out(&r->bench, 0x3c8, 0, 1);
    for (unsigned i = 0; i < 256; i++) { /* colour n: red n, green 0, blue 63 - n */
        bench_out(&r->bench, 0x3c9, i & 63, 1);
        bench_out(&r->bench, 0x3c9, i >> 6, 1);
        bench_out(&r->bench, 0x3c9, 63 - (i & 63), 1);
    }
}

static uint32_t colour(unsigned i)
{
    unsigned c[3] = {i & 63, i >> 6, 63 - (i & 63)};
    return (c[0] << 2 | c[0] >> 4) << 16 | (c[1] << 2 | c[1] >> 4) << 8 | (c[2] << 2 | c[2] >> 4);
}

static const uint8_t text_seq[5] = {3, 0, 3, 0, 2};
static const uint8_t text_crtc[25] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,
                                      0x4f, 0x0d, 0x0e, 0,    0,    0,    0,    0x9c, 0x8e,
                                      0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
static const uint8_t text_gfx[9] = {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff};
static const uint8_t mode13_seq[5] = {3, 1, 15, 0, 14};
static const uint8_t mode13_crtc[25] = {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0,
                                        0x41, 0,    0,    0,    0,    0,    0,    0x9c, 0x8e,
                                        0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff};
static const uint8_t mode13_gfx[9] = {0, 0, 0, 0, 0, 0x40, 5, 15, 0xff};
static const uint8_t mode12_seq[5] = {3, 1, 15, 0, 6};
static const uint8_t mode12_crtc[25] = {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,
                                        0x40, 0,    0,    0,    0,    0,    0,    0xea, 0x8c,
                                        0xdf, 0x28, 0,    0xe7, 4,    0xe3, 0xff};
static const uint8_t mode12_gfx[9] = {0, 0, 0, 0, 0, 0, 5, 15, 0xff};

static void glyph_load(struct rig *r, uint8_t code, uint8_t bits)
{
    indexed(r, 0x3c4, 2, 4);
    indexed(r, 0x3c4, 4, 6);
    indexed(r, 0x3ce, 5, 0);
    indexed(r, 0x3ce, 6, 4);
    for (unsigned i = 0; i < 16; i++) {
        poke(r, 0xa0000 + code * 32u + i, bits, 1);
    }
    indexed(r, 0x3c4, 2, 3);
    indexed(r, 0x3c4, 4, 2);
    indexed(r, 0x3ce, 5, 0x10);
    indexed(r, 0x3ce, 6, 0x0e);
}

static void test_text(void)
{
    struct rig r;
    struct screen_rect rect;
    rig_open(&r);
    mode_set(&r, text_seq, text_crtc, text_gfx, 0x0c);
    glyph_load(&r, 'A', 0xa5);
    glyph_load(&r, 0xc4, 0x01);
    indexed(&r, 0x3d4, 0x0e, 0x07); /* the cursor at row 24 */
    indexed(&r, 0x3d4, 0x0f, 0x80);
    poke(&r, 0xb8000 + 2 * (80 + 3), 0x1e41, 2);
    poke(&r, 0xb8000 + 2 * (80 + 4), 0x07c4, 2);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 720);
    g_assert_cmpuint(screen_height(r.screen), ==, 400);
    for (unsigned x = 0; x < 9; x++) {
        unsigned want = x < 8 && (0xa5 >> (7 - x) & 1) ? 14 : 1;
        g_assert_cmphex(pixel(&r, 27 + x, 20), ==, colour(want));
    }
    g_assert_cmphex(pixel(&r, 36 + 7, 20), ==, colour(7));
    g_assert_cmphex(pixel(&r, 36 + 8, 20), ==, colour(7)); /* ninth column */
    screen_take_damage(r.screen, &rect);
    screen_refresh(r.screen);
    g_assert_false(screen_take_damage(r.screen, &rect));
    poke(&r, 0xb8000 + 2 * (80 + 3), 0x1f41, 2);
    screen_refresh(r.screen);
    g_assert_true(screen_take_damage(r.screen, &rect));
    g_assert_cmpuint(rect.x, ==, 27);
    g_assert_cmpuint(rect.y, ==, 16);
    g_assert_cmpuint(rect.width, ==, 8);
    g_assert_cmpuint(rect.height, ==, 16);
    rig_close(&r);
}

static void test_cursor(void)
{
    struct rig r;
    rig_open(&r);
    mode_set(&r, text_seq, text_crtc, text_gfx, 0x0c);
    poke(&r, 0xb8000, 0x0720, 2);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 13), ==, colour(7));
    g_assert_cmphex(pixel(&r, 0, 12), ==, colour(0));
    clock_advance(r.bench.host.clock, NS_PER_SECOND / 70 * 8 + 1000);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 13), ==, colour(0));
    clock_advance(r.bench.host.clock, NS_PER_SECOND / 70 * 8 + 1000);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 13), ==, colour(7));
    bench_save_restore(&r.bench);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 13), ==, colour(7));
    rig_close(&r);
}

static void test_mode13(void)
{
    struct rig r;
    struct screen_rect rect;
    rig_open(&r);
    mode_set(&r, mode13_seq, mode13_crtc, mode13_gfx, 0x41);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 320);
    g_assert_cmpuint(screen_height(r.screen), ==, 200);
    screen_take_damage(r.screen, &rect);
    poke(&r, 0xa0000 + 320 * 100 + 50, 0x04030201, 4);
    screen_refresh(r.screen);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmphex(pixel(&r, 50 + i, 100), ==, colour(i + 1));
    }
    g_assert_true(screen_take_damage(r.screen, &rect));
    g_assert_cmpuint(rect.y, ==, 100);
    g_assert_cmpuint(rect.height, ==, 1);
    g_assert_cmpuint(rect.width, ==, 4);
    g_assert_cmpuint(r.rearms, >, 0);
    g_assert_cmphex(memory_io_read(r.bench.host.memory, 0xa0000 + 320 * 100 + 51, 1), ==, 2);
    /* mode X: the same picture, plane by plane */
    indexed(&r, 0x3c4, 4, 6);
    indexed(&r, 0x3c4, 2, 8);
    poke(&r, 0xa0000 + 80 * 10, 9, 1);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 3, 10), ==, colour(9));
    g_assert_cmphex(pixel(&r, 2, 10), ==, colour(0));
    rig_close(&r);
}

static uint8_t plane_peek(struct rig *r, uint32_t at, uint8_t plane)
{
    indexed(r, 0x3ce, 4, plane);
    return (uint8_t)memory_io_read(r->bench.host.memory, 0xa0000 + at, 1);
}

static void test_planar(void)
{
    struct rig r;
    struct memory *mem;
    rig_open(&r);
    mem = r.bench.host.memory;
    mode_set(&r, mode12_seq, mode12_crtc, mode12_gfx, 1);
    indexed(&r, 0x3c4, 2, 5); /* planes 0 and 2 */
    poke(&r, 0xa0000, 0x81, 1);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 640);
    g_assert_cmpuint(screen_height(r.screen), ==, 480);
    g_assert_cmphex(pixel(&r, 0, 0), ==, colour(5));
    g_assert_cmphex(pixel(&r, 1, 0), ==, colour(0));
    g_assert_cmphex(pixel(&r, 7, 0), ==, colour(5));
    indexed(&r, 0x3c4, 2, 15);
    indexed(&r, 0x3ce, 0, 3); /* set/reset for planes 0-1, rotate for the others */
    indexed(&r, 0x3ce, 1, 7);
    indexed(&r, 0x3ce, 3, 4);
    poke(&r, 0xa0001, 0x0f, 1);
    g_assert_cmphex(plane_peek(&r, 1, 0), ==, 0xff);
    g_assert_cmphex(plane_peek(&r, 1, 2), ==, 0x00);
    g_assert_cmphex(plane_peek(&r, 1, 3), ==, 0xf0);
    indexed(&r, 0x3ce, 1, 0);
    indexed(&r, 0x3ce, 3, 0);
    indexed(&r, 0x3ce, 5, 1); /* latches copied */
    memory_io_read(mem, 0xa0001, 1);
    poke(&r, 0xa0002, 0, 1);
    g_assert_cmphex(plane_peek(&r, 2, 3), ==, 0xf0);
    indexed(&r, 0x3ce, 5, 2); /* colour 10 where the bit mask is set, XORed */
    indexed(&r, 0x3ce, 8, 0x3c);
    indexed(&r, 0x3ce, 3, 0x18);
    memory_io_read(mem, 0xa0002, 1);
    poke(&r, 0xa0002, 10, 1);
    g_assert_cmphex(plane_peek(&r, 2, 0), ==, 0xff);
    g_assert_cmphex(plane_peek(&r, 2, 1), ==, 0xff ^ 0x3c);
    g_assert_cmphex(plane_peek(&r, 2, 3), ==, 0xf0 ^ 0x3c);
    indexed(&r, 0x3ce, 5, 3); /* mask from the CPU */
    indexed(&r, 0x3ce, 3, 0);
    indexed(&r, 0x3ce, 8, 0xff);
    indexed(&r, 0x3ce, 0, 1);
    memory_io_read(mem, 0xa0003, 1);
    poke(&r, 0xa0003, 0x18, 1);
    g_assert_cmphex(plane_peek(&r, 3, 0), ==, 0x18);
    indexed(&r, 0x3ce, 5, 8); /* colour compare */
    indexed(&r, 0x3ce, 2, 1);
    indexed(&r, 0x3ce, 7, 15);
    g_assert_cmphex(memory_io_read(mem, 0xa0003, 1), ==, 0x18);
    /* line compare: from line 101 on, the top again */
    indexed(&r, 0x3d4, 0x18, 100);
    indexed(&r, 0x3d4, 7, 0x2e);
    indexed(&r, 0x3d4, 9, 0);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 101), ==, pixel(&r, 0, 0));
    rig_close(&r);
}

static void dispi(struct rig *r, uint16_t index, uint16_t value)
{
    bench_out(&r->bench, 0x1ce, index, 2);
    bench_out(&r->bench, 0x1cf, value, 2);
}

static uint16_t dispi_get(struct rig *r, uint16_t index)
{
    bench_out(&r->bench, 0x1ce, index, 2);
    return (uint16_t)bench_in(&r->bench, 0x1cf, 2);
}

static void vbe_mode(struct rig *r, uint16_t width, uint16_t height, uint16_t bpp)
{
    dispi(r, 4, 0);
    dispi(r, 1, width);
    dispi(r, 2, height);
    dispi(r, 3, bpp);
    dispi(r, 4, 0x41);
}

static void test_vbe(void)
{
    struct rig r;
    struct screen_rect rect;
    rig_open(&r);
    g_assert_cmphex(dispi_get(&r, 0), ==, 0xb0c5);
    g_assert_cmpuint(dispi_get(&r, 10), ==, 256);
    g_assert_cmphex(memory_io_read(r.bench.host.memory, r.registers + 0x500, 2), ==, 0xb0c5);
    vbe_mode(&r, 2560, 1600, 32);
    g_assert_cmphex(dispi_get(&r, 4), ==, 0x41);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 2560);
    g_assert_cmpuint(screen_height(r.screen), ==, 1600);
    screen_take_damage(r.screen, &rect);
    uint32_t value = 0x123456;
    memory_write(r.bench.host.memory, r.lfb + (700u * 2560 + 33) * 4, &value, 4);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 33, 700), ==, value);
    g_assert_true(screen_take_damage(r.screen, &rect));
    g_assert_cmpuint(rect.x, ==, 33);
    g_assert_cmpuint(rect.y, ==, 700);
    g_assert_cmpuint(rect.width * rect.height, ==, 1);
    vbe_mode(&r, 640, 480, 16);
    dispi(&r, 6, 1024);
    dispi(&r, 8, 5);
    dispi(&r, 9, 7);
    poke(&r, r.lfb + (7 * 1024 + 5) * 2, 0xf81f, 2);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 0, 0), ==, 0xff00ff);
    dispi(&r, 5, 1); /* banked */
    bench_out(&r.bench, 0x3ce, 0x0506, 2);
    poke(&r, 0xa0000 + 10, 0xabcd, 2);
    g_assert_cmphex(memory_io_read(r.bench.host.memory, r.lfb + 65536 + 10, 2), ==, 0xabcd);
    vbe_mode(&r, 800, 600, 24);
    poke(&r, r.lfb + 3, 0x665544, 4);
    screen_refresh(r.screen);
    g_assert_cmphex(pixel(&r, 1, 0), ==, 0x665544);
    vbe_mode(&r, 5120, 4096, 32); /* larger than video RAM */
    g_assert_cmphex(dispi_get(&r, 4) & 1, ==, 0);
    dispi(&r, 4, 2);
    g_assert_cmpuint(dispi_get(&r, 1), >=, 2560);
    rig_close(&r);
}

static void test_hostile(void)
{
    struct rig r;
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);
    rig_open(&r);
    for (unsigned i = 0; i < 60000; i++) {
        uint32_t v = g_rand_int(rand), size = 1u << (v >> 30 & 1);
        switch (v % 7) {
        case 0:
            dispi(&r, v >> 8 & 15, (uint16_t)(v & 0x10000 ? v >> 17 : v >> 17 & 0x7ff));
            break;
        case 1:
            poke(&r, 0xa0000 + (v >> 8 & 0x1ffff), v, 4);
            memory_io_read(r.bench.host.memory, 0xa0000 + (v >> 9 & 0x1ffff), 8);
            break;
        case 2:
            poke(&r, r.registers + (v >> 8 & 0xfff), v >> 4, 2);
            memory_io_read(r.bench.host.memory, r.registers + (v >> 8 & 0xfff), 4);
            break;
        default:
            bench_out(&r.bench, (uint16_t)(0x3b0 + (v >> 8) % 0x30), v >> 16, size);
            bench_in(&r.bench, (uint16_t)(0x3b0 + (v >> 8) % 0x30), size);
        }
        if (i % 100 == 0) {
            screen_refresh(r.screen);
        }
        if (i % 5000 == 0) {
            bench_save_restore(&r.bench);
            r.registers = bench_bar(&r.bench, DEVFN, 2);
        }
    }
    rig_close(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vga/text", test_text);
    g_test_add_func("/vga/cursor", test_cursor);
    g_test_add_func("/vga/mode13", test_mode13);
    g_test_add_func("/vga/planar", test_planar);
    g_test_add_func("/vga/vbe", test_vbe);
    g_test_add_func("/vga/hostile", test_hostile);
    return g_test_run();
}
