/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a monitor says about a screen is checked, and pixels that it takes away cost no more than an
 * error. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rs-frame.h"

#define WIDTH  10u
#define HEIGHT 4u
#define STRIDE 48u

static int make_memory(size_t size)
{
    int fd = memfd_create("frame", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return fd;
}

static void test_refused(void)
{
    static const struct {
        uint32_t width, height, stride;
    } wrong[] = {
        {0, HEIGHT, STRIDE},         {WIDTH, 0, STRIDE},      {WIDTH, HEIGHT, WIDTH * 4 - 4},
        {WIDTH, HEIGHT + 1, STRIDE}, {20000, 1, 80000},       {1, 20000, 4},
        {WIDTH, HEIGHT, UINT32_MAX}, {UINT32_MAX, 1, STRIDE}, {0x40000001, 1, 4},
        {WIDTH, UINT32_MAX, STRIDE},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        int fd = make_memory(STRIDE * HEIGHT);
        g_assert_null(
            rs_frame_new(1, wrong[i].width, wrong[i].height, wrong[i].stride, fd, &error));
        g_assert_nonnull(error);
        g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1); /* closed */
    }
    g_assert_null(rs_frame_new(1, WIDTH, HEIGHT, STRIDE, -1, NULL));
}

/* A pipe or device could block or have side effects. */
static void test_not_memory(void)
{
    g_assert_null(rs_frame_new(1, WIDTH, HEIGHT, STRIDE, open("/dev/zero", O_RDONLY), NULL));
}

static void test_pixels(void)
{
    uint32_t rows[HEIGHT][STRIDE / 4];
    int fd = make_memory(sizeof rows);

    for (unsigned y = 0; y < HEIGHT; y++) {
        for (unsigned x = 0; x < STRIDE / 4; x++) {
            rows[y][x] = 0x12000000u | y << 8 | x;
        }
    }
    g_assert_cmpint(pwrite(fd, rows, sizeof rows, 0), ==, sizeof rows);
    g_autoptr(RsFrame) frame = rs_frame_new(7, WIDTH, HEIGHT, STRIDE, fd, NULL);
    g_autoptr(GBytes) bytes = rs_frame_read(frame, 1, 2);
    gsize size;
    const uint32_t *pixels = g_bytes_get_data(bytes, &size);

    g_assert_cmpuint(rs_frame_get_mode(frame), ==, 7);
    g_assert_cmpuint(size, ==, WIDTH * 4 * 2);
    for (unsigned i = 0; i < WIDTH * 2; i++) {
        g_assert_cmphex(pixels[i], ==, 0xff000000u | (i / WIDTH + 1) << 8 | i % WIDTH);
    }
}

static void test_taken_away(void)
{
    int fd = make_memory(STRIDE * HEIGHT);
    g_autoptr(RsFrame) frame = rs_frame_new(1, WIDTH, HEIGHT, STRIDE, fd, NULL);

    g_assert_nonnull(frame);
    g_assert_cmpint(ftruncate(fd, STRIDE * 2), ==, 0);
    g_autoptr(GBytes) there = rs_frame_read(frame, 0, 2);
    g_assert_nonnull(there);
    g_assert_null(rs_frame_read(frame, 1, 2));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/frame/refused", test_refused);
    g_test_add_func("/frame/not-memory", test_not_memory);
    g_test_add_func("/frame/pixels", test_pixels);
    g_test_add_func("/frame/taken-away", test_taken_away);
    return g_test_run();
}
