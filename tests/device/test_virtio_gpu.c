/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio GPU, driven through its BARs and queues; and by a hostile driver. */
#include "pci_bench.h"

#include "virtio.h"
#include "virtio_gpu.h"

#define DEVFN   0x10
#define ENTRIES 16u
#define RING(q) (0x10000u + (q)*0x4000u) /* descriptors; available at + 0x1000, used at + 0x2000   \
                                          */
#define COMMAND 0x40000u
#define ANSWER  0x50000u
#define PIXELS  0x100000u
#define NEXT    1u
#define WRITE   2u
#define EDID    1u

enum {
    GET_DISPLAY_INFO = 0x100,
    CREATE,
    UNREF,
    SET_SCANOUT,
    FLUSH,
    TRANSFER,
    ATTACH,
    DETACH,
    GET_EDID = 0x10a,
    UPDATE_CURSOR = 0x300,
    MOVE_CURSOR
};
enum {
    OK = 0x1100,
    OK_DISPLAY_INFO,
    OK_EDID = 0x1104,
    UNSPECIFIED = 0x1200,
    OUT_OF_MEMORY,
    INVALID_SCANOUT,
    INVALID_RESOURCE,
    INVALID_PARAMETER = 0x1205
};

struct rig {
    struct bench bench;
    struct screen *screen;
    uint32_t bar, lfb;
    uint16_t available[2];
};

static uint32_t get(struct rig *r, uint32_t at, unsigned size)
{
    return (uint32_t)memory_io_read(r->bench.host.memory, r->bar + at, size);
}

static void set(struct rig *r, uint32_t at, uint32_t value, unsigned size)
{
    memory_io_write(r->bench.host.memory, r->bar + at, value, size);
}

static uint8_t *ram(struct rig *r, uint32_t at)
{
    return r->bench.ram + at;
}

static uint32_t ram32(struct rig *r, uint32_t at)
{
    uint32_t value;

    memcpy(&value, ram(r, at), 4);
    return value;
}

static void put(struct rig *r, uint32_t at, uint64_t value, unsigned size)
{
    memcpy(ram(r, at), &value, size);
}

static void queue_up(struct rig *r, uint16_t q)
{
    set(r, 0x1016, q, 2);
    set(r, 0x1018, ENTRIES, 2);
    set(r, 0x1020, RING(q), 4);
    set(r, 0x1028, RING(q) + 0x1000, 4);
    set(r, 0x1030, RING(q) + 0x2000, 4);
    set(r, 0x101c, 1, 2);
}

static void driver_up(struct rig *r, uint64_t features)
{
    memset(ram(r, RING(0)), 0, 2 * 0x4000);
    memset(r->available, 0, sizeof r->available);
    set(r, 0x1014, 0, 1);
    set(r, 0x1014, 3, 1);
    set(r, 0x1008, 0, 4);
    set(r, 0x100c, (uint32_t)features, 4);
    set(r, 0x1008, 1, 4);
    set(r, 0x100c, (uint32_t)(features >> 32), 4);
    set(r, 0x1014, 11, 1);
    queue_up(r, 0);
    queue_up(r, 1);
    set(r, 0x1014, 15, 1);
}

static void rig_open(struct rig *r)
{
    struct vga_config config;

    memset(r, 0, sizeof *r);
    bench_open(&r->bench);
    r->screen = screen_new();
    config = (struct vga_config){.pci = {r->bench.bus, DEVFN}, .screen = r->screen};
    bench_start(&r->bench, &virtio_gpu_device, &config);
    pci_bus_config_write(r->bench.bus, 0, DEVFN, 0x1c, 0, 4);
    r->lfb = bench_bar(&r->bench, DEVFN, 0);
    r->bar = bench_bar(&r->bench, DEVFN, 2);
    driver_up(r, VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(EDID));
}

static void rig_close(struct rig *r)
{
    bench_close(&r->bench);
    screen_free(r->screen);
}

static void desc(struct rig *r, unsigned q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next)
{
    put(r, RING(q) + 16 * i, addr, 8);
    put(r, RING(q) + 16 * i + 8, len, 4);
    put(r, RING(q) + 16 * i + 12, flags, 2);
    put(r, RING(q) + 16 * i + 14, next, 2);
}

static void offer(struct rig *r, unsigned q, uint16_t head)
{
    put(r, RING(q) + 0x1004 + 2 * (r->available[q] % ENTRIES), head, 2);
    put(r, RING(q) + 0x1002, ++r->available[q], 2);
    set(r, 0x3000 + 4 * q, q, 2);
}

static uint16_t used(struct rig *r, unsigned q)
{
    return (uint16_t)ram32(r, RING(q) + 0x2002);
}

/* The command's words after its header; returns the answer's type. */
static uint32_t command_words(struct rig *r, uint32_t type, const uint32_t *words, unsigned count)
{
    unsigned before = used(r, 0);

    memset(ram(r, COMMAND), 0, 24);
    put(r, COMMAND, type, 4);
    memcpy(ram(r, COMMAND + 24), words, 4 * count);
    memset(ram(r, ANSWER), 0xee, 2048);
    desc(r, 0, 0, COMMAND, 24 + 4 * count, NEXT, 1);
    desc(r, 0, 1, ANSWER, 2048, WRITE, 0);
    offer(r, 0, 0);
    g_assert_cmpuint((uint16_t)(used(r, 0) - before), ==, 1);
    return ram32(r, ANSWER);
}

#define WORDS(...)         ((const uint32_t[]){__VA_ARGS__})
#define command(r, t, ...) command_words(r, t, WORDS(__VA_ARGS__), sizeof WORDS(__VA_ARGS__) / 4)

static void cursor(struct rig *r, uint32_t type, uint32_t x, uint32_t y, uint32_t id,
                   uint32_t hot_x, uint32_t hot_y)
{
    const uint32_t words[8] = {0, x, y, 0, id, hot_x, hot_y, 0};
    unsigned before = used(r, 1);

    memset(ram(r, COMMAND), 0, 24);
    put(r, COMMAND, type, 4);
    memcpy(ram(r, COMMAND + 24), words, sizeof words);
    desc(r, 1, 0, COMMAND, 56, 0, 0);
    offer(r, 1, 0);
    g_assert_cmpuint((uint16_t)(used(r, 1) - before), ==, 1);
}

/* A resource whose backing lies at PIXELS in two pieces with a gap between. */
static void resource(struct rig *r, uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
    g_assert_cmphex(command(r, CREATE, id, format, width, height), ==, OK);
    g_assert_cmphex(command(r, ATTACH, id, 2, PIXELS, 0, 100, 0, PIXELS + 0x1000 + 100, 0,
                            4 * width * height - 100, 0),
                    ==, OK);
}

static void pixel_put(struct rig *r, uint32_t index, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t at = 4 * index + i;
        put(r, PIXELS + at + (at < 100 ? 0 : 0x1000), value >> (8 * i) & 0xff, 1);
    }
}

static uint32_t shown(struct rig *r, uint32_t x, uint32_t y)
{
    g_assert_cmpuint(x, <, screen_width(r->screen));
    g_assert_cmpuint(y, <, screen_height(r->screen));
    return screen_pixels(r->screen)[y * screen_stride(r->screen) / 4 + x];
}

static void test_identity(void)
{
    struct rig r;

    rig_open(&r);
    g_assert_cmphex(pci_bus_config_read(r.bench.bus, 0, DEVFN, 0, 4), ==, 0x10501af4);
    g_assert_cmphex(pci_bus_config_read(r.bench.bus, 0, DEVFN, 8, 4), ==, 0x03000001);
    g_assert_cmpuint(get(&r, 0x1012, 2), ==, 2);
    g_assert_cmpuint(get(&r, 0x1014, 1), ==, 15);
    g_assert_cmpuint(get(&r, 0x2008, 4), ==, 1); /* scanouts */
    g_assert_cmpuint(get(&r, 0x200c, 4), ==, 0); /* capability sets */
    rig_close(&r);
}

/* VGA's registers are there, in front of virtio's and at their ports, and its picture is shown. */
static void test_vga(void)
{
    struct rig r;

    rig_open(&r);
    g_assert_cmphex(get(&r, 0x500, 2), ==, 0xb0c5);
    set(&r, 0x502, 64, 2);
    set(&r, 0x504, 32, 2);
    bench_out(&r.bench, 0x1ce, 3, 2);
    bench_out(&r.bench, 0x1cf, 32, 2);
    set(&r, 0x508, 0x41, 2);
    memory_io_write(r.bench.host.memory, r.lfb + 4 * 65, 0x123456, 4);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 64);
    g_assert_cmphex(shown(&r, 1, 1), ==, 0x123456);
    /* The driver takes the screen, and a reset gives it back. */
    resource(&r, 1, 2, 80, 60);
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 80, 60, 0, 1), ==, OK);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 80);
    set(&r, 0x1014, 0, 1);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 64);
    g_assert_cmphex(shown(&r, 1, 1), ==, 0x123456);
    rig_close(&r);
}

static void test_picture(void)
{
    struct rig r;
    struct screen_rect damage;

    rig_open(&r);
    resource(&r, 7, 2, 40, 30);
    for (uint32_t i = 0; i < 1200; i++) {
        pixel_put(&r, i, 0xff000000 | i);
    }
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 40, 30, 0, 0, 7, 0), ==, OK);
    g_assert_cmphex(command(&r, SET_SCANOUT, 10, 5, 20, 20, 0, 7), ==, OK);
    g_assert_cmpuint(screen_width(r.screen), ==, 20);
    g_assert_cmpuint(screen_height(r.screen), ==, 20);
    g_assert_cmphex(shown(&r, 0, 0), ==, 5 * 40 + 10);
    g_assert_cmphex(shown(&r, 19, 19), ==, 24 * 40 + 29);
    screen_take_damage(r.screen, &damage);
    /* A part: nothing is seen before the flush, and then only what differs is damage. */
    pixel_put(&r, 10 * 40 + 15, 0x00abcdef);
    g_assert_cmphex(command(&r, TRANSFER, 12, 10, 8, 2, 4 * (10 * 40 + 12), 0, 7, 0), ==, OK);
    g_assert_cmphex(shown(&r, 5, 5), ==, 10 * 40 + 15);
    g_assert_false(screen_take_damage(r.screen, &damage));
    g_assert_cmphex(command(&r, FLUSH, 0, 0, 40, 30, 7, 0), ==, OK);
    g_assert_cmphex(shown(&r, 5, 5), ==, 0xabcdef);
    g_assert_true(screen_take_damage(r.screen, &damage));
    g_assert_true(damage.x == 5 && damage.y == 5 && damage.width == 1 && damage.height == 1);
    /* Off: black, of that size. */
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 0, 0, 0, 0), ==, OK);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 20);
    g_assert_cmphex(shown(&r, 5, 5), ==, 0);
    /* A resource that goes while it is shown. */
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 40, 30, 0, 7), ==, OK);
    g_assert_cmphex(shown(&r, 15, 10), ==, 0xabcdef);
    g_assert_cmphex(command(&r, UNREF, 7, 0), ==, OK);
    g_assert_cmphex(shown(&r, 15, 10), ==, 0);
    rig_close(&r);
}

static void test_formats(void)
{
    /* As the bytes 11h 22h 33h 44h lie in memory */
    static const struct {
        uint32_t format, colour, argb;
    } formats[] = {
        {1, 0x332211, 0x44332211},   {2, 0x332211, 0x44332211},   {3, 0x223344, 0x11111111},
        {4, 0x223344, 0x11111111},   {67, 0x112233, 0x44112233},  {68, 0x443322, 0x11111111},
        {121, 0x443322, 0x11111111}, {134, 0x112233, 0x44112233},
    };
    struct rig r;

    rig_open(&r);
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        uint32_t id = 10 + i;
        resource(&r, id, formats[i].format, 8, 8);
        pixel_put(&r, 9, 0x44332211);
        g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, 0, 0, id, 0), ==, OK);
        g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 8, 8, 0, id), ==, OK);
        g_assert_cmphex(shown(&r, 1, 1), ==, formats[i].colour);
        cursor(&r, UPDATE_CURSOR, 0, 0, id, 0, 0);
        g_assert_cmphex(screen_cursor(r.screen)->argb[9], ==, formats[i].argb);
    }
    rig_close(&r);
}

static void test_fence(void)
{
    struct rig r;

    rig_open(&r);
    memset(ram(&r, COMMAND), 0, 64);
    put(&r, COMMAND, GET_DISPLAY_INFO, 4);
    put(&r, COMMAND + 4, 1, 4);
    put(&r, COMMAND + 8, 0x123456789abcdef0, 8);
    put(&r, COMMAND + 16, 5, 4);
    desc(&r, 0, 0, COMMAND, 24, NEXT, 1);
    desc(&r, 0, 1, ANSWER, 2048, WRITE, 0);
    offer(&r, 0, 0);
    g_assert_cmphex(ram32(&r, ANSWER), ==, OK_DISPLAY_INFO);
    g_assert_cmphex(ram32(&r, ANSWER + 4), ==, 1);
    g_assert_cmphex(ram32(&r, ANSWER + 8), ==, 0x9abcdef0);
    g_assert_cmphex(ram32(&r, ANSWER + 12), ==, 0x12345678);
    g_assert_cmphex(ram32(&r, ANSWER + 16), ==, 5);
    g_assert_cmpuint(ram32(&r, RING(0) + 0x2008), ==, 408); /* written */
    g_assert_true(r.bench.irq);
    rig_close(&r);
}

/* Height and width of an EDID's preferred timing; its sum is checked. */
static void edid_timing(struct rig *r, uint32_t *width, uint32_t *height)
{
    const uint8_t *e = ram(r, ANSWER + 32);
    uint8_t sum = 0;

    g_assert_cmphex(command(r, GET_EDID, 0, 0), ==, OK_EDID);
    g_assert_cmpuint(ram32(r, ANSWER + 24), ==, 128);
    for (unsigned i = 0; i < 128; i++) {
        sum = (uint8_t)(sum + e[i]);
    }
    g_assert_cmpuint(sum, ==, 0);
    *width = e[56] | (e[58] & 0xf0u) << 4;
    *height = e[59] | (e[61] & 0xf0u) << 4;
}

static void test_resize(void)
{
    struct rig r;
    uint32_t width, height;

    rig_open(&r);
    g_assert_true(screen_can_resize(r.screen));
    edid_timing(&r, &width, &height);
    g_assert_true(width == 1280 && height == 800);
    get(&r, 0x1800, 1);
    g_assert_true(screen_resize(r.screen, 1912, 1016));
    g_assert_true(r.bench.irq);
    g_assert_cmphex(get(&r, 0x1800, 1), ==, 3 - 1);
    g_assert_cmphex(get(&r, 0x2000, 4), ==, 1);
    set(&r, 0x2004, 1, 4);
    g_assert_cmphex(get(&r, 0x2000, 4), ==, 0);
    g_assert_cmphex(command(&r, GET_DISPLAY_INFO, 0), ==, OK_DISPLAY_INFO);
    g_assert_cmpuint(ram32(&r, ANSWER + 32), ==, 1912);
    g_assert_cmpuint(ram32(&r, ANSWER + 36), ==, 1016);
    g_assert_cmpuint(ram32(&r, ANSWER + 40), ==, 1);
    g_assert_cmpuint(ram32(&r, ANSWER + 64), ==, 0); /* there is no second scanout */
    edid_timing(&r, &width, &height);
    g_assert_true(width == 1912 && height == 1016);
    /* The same again is no event, nonsense is refused. */
    screen_resize(r.screen, 1912, 1016);
    g_assert_cmphex(get(&r, 0x2000, 4), ==, 0);
    g_assert_false(screen_resize(r.screen, 0, 100));
    g_assert_false(screen_resize(r.screen, 100, 9000));
    /* A size that EDID cannot say. */
    screen_resize(r.screen, 5120, 2880);
    g_assert_cmphex(command(&r, GET_EDID, 0, 0), ==, UNSPECIFIED);
    g_assert_cmphex(command(&r, GET_DISPLAY_INFO, 0), ==, OK_DISPLAY_INFO);
    g_assert_cmpuint(ram32(&r, ANSWER + 32), ==, 5120);
    rig_close(&r);
}

static void test_cursor(void)
{
    const struct screen_cursor *c;
    struct rig r;

    rig_open(&r);
    c = screen_cursor(r.screen);
    cursor(&r, MOVE_CURSOR, 5, 5, 0, 0, 0);
    g_assert_null(c->argb);
    resource(&r, 3, 1, 64, 64);
    pixel_put(&r, 65, 0x80ff8000); /* not premultiplied */
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 64, 64, 0, 0, 3, 0), ==, OK);
    cursor(&r, UPDATE_CURSOR, 100, (uint32_t)-3, 3, 4, 200);
    g_assert_true(c->visible && c->width == 64 && c->height == 64 && c->x == 100 && c->y == -3);
    g_assert_true(c->hot_x == 4 && c->hot_y == 63);
    g_assert_cmphex(c->argb[65], ==, 0x80808000);
    uint32_t image = c->image;
    cursor(&r, MOVE_CURSOR, 7, 8, 3, 0, 0);
    g_assert_true(c->visible && c->x == 7 && c->y == 8 && c->image == image);
    /* The image is a copy: what happens to the resource does not matter. */
    g_assert_cmphex(command(&r, UNREF, 3, 0), ==, OK);
    cursor(&r, MOVE_CURSOR, 9, 9, 3, 0, 0);
    g_assert_true(c->visible && c->argb[65] == 0x80808000);
    cursor(&r, UPDATE_CURSOR, 9, 9, 0, 0, 0);
    g_assert_true(!c->visible && c->argb);
    /* No such resource, one that is too large: nothing changes. */
    cursor(&r, UPDATE_CURSOR, 9, 9, 44, 0, 0);
    resource(&r, 4, 1, 257, 10);
    cursor(&r, UPDATE_CURSOR, 9, 9, 4, 0, 0);
    g_assert_true(!c->visible && c->image == image);
    set(&r, 0x1014, 0, 1);
    g_assert_null(c->argb);
    rig_close(&r);
}

static void test_refusals(void)
{
    struct rig r;

    rig_open(&r);
    g_assert_cmphex(command(&r, 0x999, 0), ==, UNSPECIFIED);
    g_assert_cmphex(command(&r, CREATE, 0, 1, 8, 8), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, CREATE, 1, 5, 8, 8), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 0, 8), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 0x80000001, 0x80000001), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 16384, 16384), ==, OUT_OF_MEMORY);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 8, 8), ==, OK);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 8, 8), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, UNREF, 2, 0), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, DETACH, 2, 0), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, DETACH, 1, 0), ==, UNSPECIFIED);
    /* Backings: more entries than there are, none, far too many; a second one. */
    g_assert_cmphex(command(&r, ATTACH, 1, 2, PIXELS, 0, 256, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, ATTACH, 1, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, ATTACH, 1, 0x10000001, 0, 0, 0, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, ATTACH, 9, 1, PIXELS, 0, 256, 0), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, ATTACH, 1, 1, PIXELS, 0, 256, 0), ==, OK);
    g_assert_cmphex(command(&r, ATTACH, 1, 1, PIXELS, 0, 256, 0), ==, UNSPECIFIED);
    /* Rectangles and offsets that are not inside */
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 9, 8, 0, 0, 1, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, TRANSFER, 4, 0, 0xfffffffc, 8, 0, 0, 1, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, 4, 0, 1, 0), ==, UNSPECIFIED);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, ~0u, ~0u, 1, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), ==, OK);
    g_assert_cmphex(command(&r, FLUSH, 0, 0, 9, 9, 1, 0), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, FLUSH, 0, 0, 8, 8, 5, 0), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 8, 8, 1, 1), ==, INVALID_SCANOUT);
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 8, 8, 0, 5), ==, INVALID_RESOURCE);
    g_assert_cmphex(command(&r, SET_SCANOUT, 1, 0, 8, 8, 0, 1), ==, INVALID_PARAMETER);
    g_assert_cmphex(command(&r, GET_EDID, 1, 0), ==, INVALID_SCANOUT);
    /* A backing outside RAM; one that is the device's own registers. */
    g_assert_cmphex(command(&r, DETACH, 1, 0), ==, OK);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), ==, UNSPECIFIED);
    g_assert_cmphex(command(&r, ATTACH, 1, 1, r.bar, 0, 256, 0), ==, OK);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 8, 8, 0, 0, 1, 0), ==, UNSPECIFIED);
    /* A command that is cut off is one of zeroes, an answer without room is cut off. */
    desc(&r, 0, 0, COMMAND, 2, NEXT, 1);
    desc(&r, 0, 1, ANSWER, 3, WRITE, 0);
    offer(&r, 0, 0);
    g_assert_cmphex(get(&r, 0x1014, 1), ==, 15);
    rig_close(&r);
}

/* All that is taken is counted, and given back. */
static void test_memory(void)
{
    struct rig r;
    unsigned taken = 0;

    rig_open(&r);
    while (command(&r, CREATE, taken + 1, 1, 4096, 1000) == OK) {
        taken++;
        g_assert_cmpuint(taken, <, 17);
    }
    g_assert_cmphex(ram32(&r, ANSWER), ==, OUT_OF_MEMORY);
    g_assert_cmpuint(taken, >=, 15);
    g_assert_cmphex(command(&r, UNREF, 1, 0), ==, OK);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 4096, 1000), ==, OK);
    set(&r, 0x1014, 0, 1);
    driver_up(&r, VIRTIO_BIT(VIRTIO_F_VERSION_1));
    g_assert_cmphex(command(&r, CREATE, 1, 1, 4096, 15000), ==, OK);
    g_assert_cmphex(command(&r, GET_EDID, 0, 0), ==, UNSPECIFIED); /* not agreed on */
    rig_close(&r);
}

/* Too much for one go is gone on with from the timer. */
static void test_work(void)
{
    struct rig r;
    const uint32_t words[8] = {0, 0, 1024, 1024, 0, 0, 1, 0};

    rig_open(&r);
    g_assert_cmphex(command(&r, CREATE, 1, 1, 1024, 1024), ==, OK);
    g_assert_cmphex(command(&r, ATTACH, 1, 1, PIXELS, 0, 4 << 20, 0), ==, OK);
    memset(ram(&r, COMMAND), 0, 64);
    put(&r, COMMAND, TRANSFER, 4);
    memcpy(ram(&r, COMMAND + 24), words, sizeof words);
    desc(&r, 0, 0, COMMAND, 24 + sizeof words, NEXT, 1);
    for (unsigned i = 0; i < ENTRIES; i++) {
        put(&r, RING(0) + 0x1004 + 2 * (r.available[0]++ % ENTRIES), 0, 2);
    }
    put(&r, RING(0) + 0x1002, r.available[0], 2);
    set(&r, 0x3000, 0, 2);
    g_assert_cmpuint(used(&r, 0), <, 2 + ENTRIES);
    clock_advance(r.bench.host.clock, 1);
    clock_advance(r.bench.host.clock, 1);
    g_assert_cmpuint(used(&r, 0), ==, 2 + ENTRIES);
    rig_close(&r);
}

static void test_state(void)
{
    struct rig r;
    const struct screen_cursor *c;
    uint32_t width, height;

    rig_open(&r);
    c = screen_cursor(r.screen);
    resource(&r, 7, 67, 40, 30);
    resource(&r, 8, 1, 64, 64);
    pixel_put(&r, 41, 0xff112233);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 40, 30, 0, 0, 7, 0), ==, OK);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 64, 64, 0, 0, 8, 0), ==, OK);
    g_assert_cmphex(command(&r, SET_SCANOUT, 1, 1, 20, 20, 0, 7), ==, OK);
    cursor(&r, UPDATE_CURSOR, 30, 40, 8, 3, 4);
    screen_resize(r.screen, 1000, 700);
    bench_save_restore(&r.bench);
    clock_advance(r.bench.host.clock, 1);
    g_assert_cmpuint(screen_width(r.screen), ==, 20);
    g_assert_cmphex(shown(&r, 0, 0), ==, 0x332211);
    g_assert_true(c->visible && c->x == 30 && c->y == 40 && c->hot_x == 3 && c->hot_y == 4);
    g_assert_cmphex(c->argb[41], ==, 0xff112233);
    g_assert_cmphex(get(&r, 0x2000, 4), ==, 1);
    edid_timing(&r, &width, &height);
    g_assert_true(width == 1000 && height == 700);
    /* Backings are still there. */
    pixel_put(&r, 42, 0x00332211);
    g_assert_cmphex(command(&r, TRANSFER, 0, 0, 40, 30, 0, 0, 7, 0), ==, OK);
    g_assert_cmphex(command(&r, FLUSH, 0, 0, 40, 30, 7, 0), ==, OK);
    g_assert_cmphex(shown(&r, 1, 0), ==, 0x112233);
    /* Black, and VGA's picture, are kept as well. */
    g_assert_cmphex(command(&r, SET_SCANOUT, 0, 0, 0, 0, 0, 0), ==, OK);
    bench_save_restore(&r.bench);
    clock_advance(r.bench.host.clock, 1);
    screen_refresh(r.screen);
    g_assert_cmpuint(screen_width(r.screen), ==, 20);
    g_assert_cmphex(shown(&r, 1, 0), ==, 0);
    set(&r, 0x1014, 0, 1);
    bench_save_restore(&r.bench);
    clock_advance(r.bench.host.clock, 1);
    g_assert_null(c->argb);
    rig_close(&r);
}

/* A saved state with one field changed. */
static bool state_taken(struct bench *b, GVariant *saved, const char *field, GVariant *value)
{
    g_autoptr(GVariant) wrapped = g_variant_ref_sink(value), dict = NULL, changed = NULL;
    g_autoptr(GError) error = NULL;
    GVariantDict edit;
    guint32 version;
    struct state *s;

    g_variant_get(saved, "(u@a{sv})", &version, &dict);
    g_variant_dict_init(&edit, dict);
    g_assert_true(g_variant_dict_contains(&edit, field));
    g_variant_dict_insert_value(&edit, field, wrapped);
    changed = g_variant_ref_sink(g_variant_new("(u@a{sv})", version, g_variant_dict_end(&edit)));
    b->class->reset(b->dev);
    s = state_begin_restore(changed);
    b->class->state(b->dev, s);
    return state_end_restore(s, "x", &error) && b->class->restored(b->dev, &error);
}

static void test_hostile_state(void)
{
    struct rig r;

    rig_open(&r);
    resource(&r, 7, 67, 40, 30);
    resource(&r, 8, 1, 16, 16);
    g_assert_cmphex(command(&r, SET_SCANOUT, 1, 1, 20, 20, 0, 7), ==, OK);
    cursor(&r, UPDATE_CURSOR, 30, 40, 8, 3, 4);
    struct state *s = state_begin_save(1);
    r.bench.class->state(r.bench.dev, s);
    g_autoptr(GVariant) saved = g_variant_ref_sink(state_end_save(s));
    const struct {
        const char *field;
        uint32_t value;
    } bad[] = {{"resources", 3},           {"resource.0.id", 0},     {"resource.0.width", 1u << 31},
               {"resource.0.height", 0},   {"resource.0.format", 9}, {"scanout", 9},
               {"shown-width", 41},        {"shown-x", 0xfffffff0},  {"cursor-width", 1000},
               {"cursor-height", 1u << 31}};
    g_assert_true(state_taken(&r.bench, saved, "scanout", g_variant_new_uint32(7)));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("%s", bad[i].field);
        g_assert_false(
            state_taken(&r.bench, saved, bad[i].field, g_variant_new_uint32(bad[i].value)));
    }
    g_assert_false(state_taken(&r.bench, saved, "resource.1.pixels",
                               g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "abcd", 4, 1)));
    g_assert_false(state_taken(&r.bench, saved, "resource.1.backing",
                               g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "abcd", 4, 1)));
    g_assert_true(state_taken(&r.bench, saved, "scanout", g_variant_new_uint32(7)));
    rig_close(&r);
}

/* Small numbers, so that commands meet resources that there are; and large ones. */
static uint32_t number(GRand *random)
{
    switch (g_rand_int_range(random, 0, 8)) {
    case 0:
        return g_rand_int(random);
    case 1:
        return 1u << g_rand_int_range(random, 0, 32);
    case 2:
        return (uint32_t)g_rand_int_range(random, 0, 2000);
    default:
        return (uint32_t)g_rand_int_range(random, 0, 12);
    }
}

/* True when it was carried out. */
static bool hostile_command(struct rig *r, GRand *random)
{
    static const uint32_t types[] = {
        GET_DISPLAY_INFO, CREATE, CREATE, UNREF,  SET_SCANOUT, FLUSH,         TRANSFER,
        TRANSFER,         ATTACH, ATTACH, DETACH, GET_EDID,    UPDATE_CURSOR, MOVE_CURSOR};
    static const uint32_t formats[] = {1, 2, 3, 4, 67, 68, 121, 134};
    unsigned q = g_rand_boolean(random) ? 0 : (unsigned)g_rand_int_range(random, 0, 2);
    uint32_t type = types[g_rand_int_range(random, 0, G_N_ELEMENTS(types))];

    put(r, COMMAND, g_rand_int_range(random, 0, 50) ? type : g_rand_int(random), 4);
    put(r, COMMAND + 4, g_rand_int(random) & 3, 4);
    for (unsigned i = 0; i < 24; i++) {
        put(r, COMMAND + 24 + 4 * i, number(random), 4);
    }
    if (type == CREATE) {
        put(r, COMMAND + 28, formats[g_rand_int_range(random, 0, 8)], 4);
    } else if (type == ATTACH) {
        put(r, COMMAND + 28, (uint32_t)g_rand_int_range(random, 0, 4), 4);
        put(r, COMMAND + 36, 0, 4);
        put(r, COMMAND + 32, g_rand_int(random) & (2 * BENCH_RAM - 1), 4);
        put(r, COMMAND + 40, g_rand_int(random) >> g_rand_int_range(random, 0, 24), 4);
    }
    desc(r, q, 0, COMMAND, g_rand_int_range(random, 0, 20) ? 128 : number(random) & 127, NEXT, 1);
    desc(r, q, 1, ANSWER, g_rand_int_range(random, 0, 20) ? 2048 : number(random) & 2047, WRITE, 0);
    put(r, ANSWER, 0, 4);
    offer(r, q, 0);
    return ram32(r, ANSWER) == OK;
}

static void test_hostile(void)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1050);
    struct rig r;
    unsigned done = 0;

    rig_open(&r);
    for (unsigned round = 0; round < 100000; round++) {
        uint32_t value = g_rand_int(random), what = g_rand_int_range(random, 0, 1000);
        if (what < 940) {
            done += hostile_command(&r, random);
        } else if (what < 950) {
            set(&r, value & 0x3fff, g_rand_int(random), 1u << (value >> 16) % 3);
        } else if (what < 955) {
            offer(&r, value & 1, (uint16_t)(value >> 8));
        } else if (what < 965) {
            get(&r, value & 0x3ffc, 4);
        } else if (what < 970) {
            screen_resize(r.screen, number(random), number(random));
        } else if (what < 980) {
            screen_refresh(r.screen);
        } else if (what < 981) {
            bench_save_restore(&r.bench);
        } else {
            clock_advance(r.bench.host.clock, value >> 12);
        }
        if (get(&r, 0x1014, 1) != 15) {
            driver_up(&r, VIRTIO_BIT(VIRTIO_F_VERSION_1) | (value & 2));
        }
    }
    g_assert_cmpuint(done, >, 3000); /* so it was not all refused */
    bench_save_restore(&r.bench);
    rig_close(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio-gpu/identity", test_identity);
    g_test_add_func("/virtio-gpu/vga", test_vga);
    g_test_add_func("/virtio-gpu/picture", test_picture);
    g_test_add_func("/virtio-gpu/formats", test_formats);
    g_test_add_func("/virtio-gpu/fence", test_fence);
    g_test_add_func("/virtio-gpu/resize", test_resize);
    g_test_add_func("/virtio-gpu/cursor", test_cursor);
    g_test_add_func("/virtio-gpu/refusals", test_refusals);
    g_test_add_func("/virtio-gpu/memory", test_memory);
    g_test_add_func("/virtio-gpu/work", test_work);
    g_test_add_func("/virtio-gpu/state", test_state);
    g_test_add_func("/virtio-gpu/hostile-state", test_hostile_state);
    g_test_add_func("/virtio-gpu/hostile", test_hostile);
    return g_test_run();
}
