/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The AHCI controller at register level: a driver made of a few functions, no CPU. */
#include "pci_bench.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "ahci.h"

#define DEVFN   0xfa
#define LIST    0x10000u /* command list, + port * 0x1000 */
#define FIS     0x20000u
#define TABLE   0x30000u /* + slot * 0x1000 */
#define DATA    0x100000u
#define DISK    (4u << 20)
#define PORT(p) (0x100u + (p)*0x80u)

struct rig {
    struct bench bench;
    struct block *disk, *disc;
    char *folder, *disk_path, *disc_path;
    uint32_t abar;
    unsigned io_errors;
    int io_errno;
};

static void rig_io_error(void *opaque, unsigned port, int error)
{
    struct rig *r = opaque;
    r->io_errors++;
    r->io_errno = error;
}

static uint32_t get(struct rig *r, uint32_t reg)
{
    return (uint32_t)memory_io_read(r->bench.host.memory, r->abar + reg, 4);
}

static void set(struct rig *r, uint32_t reg, uint32_t value)
{
    memory_io_write(r->bench.host.memory, r->abar + reg, value, 4);
}

static void put(struct rig *r, uint32_t at, uint32_t value)
{
    memcpy(r->bench.ram + at, &value, 4);
}

static void port_up(struct rig *r, unsigned port)
{
    set(r, PORT(port) + 0x00, LIST + port * 0x1000);
    set(r, PORT(port) + 0x04, 0);
    set(r, PORT(port) + 0x08, FIS + port * 0x1000);
    set(r, PORT(port) + 0x0c, 0);
    set(r, PORT(port) + 0x30, 0xffffffff);
    set(r, PORT(port) + 0x10, 0xffffffff);
    set(r, PORT(port) + 0x14, 0xffffffff);
    set(r, PORT(port) + 0x18, 0x11);
    set(r, 0x04, 0x80000002);
}

static void rig_open(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    r->folder = g_dir_make_tmp("ringside-ahci-XXXXXX", NULL);
    r->disk_path = g_build_filename(r->folder, "disk.raw", NULL);
    r->disc_path = g_build_filename(r->folder, "disc.iso", NULL);
    g_autofree uint8_t *content = g_malloc(DISK);
    for (uint32_t i = 0; i < DISK; i++) {
        content[i] = (uint8_t)(i / 512 * 7 + i % 11);
    }
    g_assert_true(g_file_set_contents(r->disk_path, (char *)content, DISK, NULL));
    memset(content, 0, DISK);
    for (uint32_t i = 0; i < 1u << 20; i++) {
        content[i] = (uint8_t)(i / 2048);
    }
    memcpy(content + 0x8000, "\1CD001\1", 7);
    memset(content + 0x8000 + 80, 0, 8);
    content[0x8000 + 81] = 3; /* claims 768 blocks; 512 are there */
    content[0x8000 + 128] = 0;
    content[0x8000 + 129] = 8;
    g_assert_true(g_file_set_contents(r->disc_path, (char *)content, 1u << 20, NULL));
    r->disk = block_open(r->disk_path, BLOCK_RAW, NULL);
    r->disc = block_open(r->disc_path, BLOCK_READ_ONLY, NULL);
    g_assert_true(r->disk && r->disc);
    bench_open(&r->bench);
    struct ahci_config config = {.pci = {r->bench.bus, DEVFN},
                                 .port = {{AHCI_DISK, r->disk, "SERIAL1"}, {AHCI_CDROM, r->disc}},
                                 .io_error = rig_io_error,
                                 .opaque = r};
    bench_start(&r->bench, &ahci_device, &config);
    r->abar = bench_bar(&r->bench, DEVFN, 5);
    port_up(r, 0);
    port_up(r, 1);
}

static void rig_close(struct rig *r)
{
    bench_close(&r->bench);
    block_close(r->disk);
    block_close(r->disc);
    g_unlink(r->disk_path);
    g_unlink(r->disc_path);
    g_rmdir(r->folder);
    g_free(r->disk_path);
    g_free(r->disc_path);
    g_free(r->folder);
}

static void rig_wait(struct rig *r)
{
    for (unsigned i = 0; i < 10000 && ahci_device.busy(r->bench.dev); i++) {
        g_main_context_iteration(NULL, TRUE);
    }
}

/* Fills a slot: one PRDT entry of `len` bytes at DATA + slot * 64 KiB. */
static uint8_t *slot_fill(struct rig *r, unsigned port, unsigned slot, bool write, uint32_t len)
{
    uint32_t header = LIST + port * 0x1000 + slot * 32, table = TABLE + slot * 0x1000;
    put(r, header, 5 | (write ? 0x40 : 0) | 1u << 16);
    put(r, header + 4, 0);
    put(r, header + 8, table);
    put(r, header + 12, 0);
    memset(r->bench.ram + table, 0, 0x90);
    put(r, table + 0x80, DATA + slot * 0x10000);
    put(r, table + 0x8c, (len - 1) & 0x3fffff);
    r->bench.ram[table] = 0x27;
    r->bench.ram[table + 1] = 0x80;
    return r->bench.ram + table;
}

static uint8_t *slot_command(struct rig *r, unsigned slot, uint8_t command, uint64_t lba,
                             uint16_t count)
{
    bool write = command == 0x35 || command == 0x61 || command == 0x06 || command == 0x30;
    uint8_t *f = slot_fill(r, 0, slot, write, count * 512u);
    f[2] = command;
    for (unsigned i = 0; i < 3; i++) {
        f[4 + i] = (uint8_t)(lba >> (8 * i));
        f[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    f[7] = 0x40;
    f[12] = (uint8_t)count;
    f[13] = (uint8_t)(count >> 8);
    if (command == 0x60 || command == 0x61) {
        f[3] = (uint8_t)count;
        f[11] = (uint8_t)(count >> 8);
        f[12] = (uint8_t)(slot << 3);
        f[13] = 0;
    }
    return f;
}

static uint32_t issue(struct rig *r, unsigned port, uint32_t slots)
{
    set(r, PORT(port) + 0x38, slots);
    rig_wait(r);
    return get(r, PORT(port) + 0x20);
}

static uint8_t *slot_data(struct rig *r, unsigned slot)
{
    return r->bench.ram + DATA + slot * 0x10000;
}

static void test_identify(void)
{
    struct rig r;
    rig_open(&r);
    g_assert_cmphex(pci_bus_config_read(r.bench.bus, 0, DEVFN, 0, 4), ==, 0x29228086);
    g_assert_cmphex(pci_bus_config_read(r.bench.bus, 0, DEVFN, 8, 4) >> 8, ==, 0x010601);
    g_assert_cmphex(get(&r, 0x0c), ==, 0x3f);
    g_assert_cmphex(get(&r, PORT(0) + 0x24), ==, 0x101);
    g_assert_cmphex(get(&r, PORT(1) + 0x24), ==, 0xeb140101);
    g_assert_cmphex(get(&r, PORT(2) + 0x28), ==, 0);
    slot_command(&r, 0, 0xec, 0, 1);
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    g_assert_cmphex(get(&r, PORT(0) + 0x38), ==, 0);
    g_assert_true(r.bench.irq);
    uint8_t *d = slot_data(&r, 0);
    g_assert_cmpmem(d + 20, 8, "ESIRLA 1", 8);
    g_assert_cmpuint(d[200] | d[201] << 8 | d[202] << 16, ==, DISK / 512);
    set(&r, PORT(0) + 0x10, 0xffffffff);
    set(&r, 0x08, 0xffffffff);
    g_assert_false(r.bench.irq);
    slot_command(&r, 0, 0xb0, 0, 1); /* SMART: not there */
    g_assert_cmphex(issue(&r, 0, 1) & 0xffff, ==, 0x0451);
    g_assert_cmphex(get(&r, PORT(0) + 0x10) & 1u << 30, !=, 0);
    rig_close(&r);
}

static void restart(struct rig *r, unsigned port)
{
    set(r, PORT(port) + 0x18, 0x10);
    set(r, PORT(port) + 0x10, 0xffffffff);
    set(r, PORT(port) + 0x18, 0x11);
}

static void test_read_write(void)
{
    struct rig r;
    rig_open(&r);
    uint8_t want[4096], got[4096];
    slot_command(&r, 0, 0x25, 100, 8);
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    block_read_sync(r.disk, 51200, want, sizeof(want));
    g_assert_cmpmem(slot_data(&r, 0), 4096, want, 4096);
    uint32_t transferred;
    memcpy(&transferred, r.bench.ram + LIST + 4, 4);
    g_assert_cmpuint(transferred, ==, 4096);
    memset(slot_data(&r, 3), 0xab, 4096);
    slot_command(&r, 3, 0x35, 200, 8);
    g_assert_cmphex(issue(&r, 0, 8) & 0xff, ==, 0x50);
    block_read_sync(r.disk, 102400, got, sizeof(got));
    memset(want, 0xab, sizeof(want));
    g_assert_cmpmem(got, 4096, want, 4096);
    slot_command(&r, 1, 0x20, 200, 8); /* PIO */
    g_assert_cmphex(issue(&r, 0, 2) & 0xff, ==, 0x50);
    g_assert_cmpmem(slot_data(&r, 1), 4096, want, 4096);
    slot_command(&r, 0, 0xea, 0, 1);
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    slot_command(&r, 0, 0x25, DISK / 512 - 1, 2); /* past the end */
    g_assert_cmphex(issue(&r, 0, 1) & 0xffff, ==, 0x1051);
    restart(&r, 0);
    slot_command(&r, 0, 0x25, 0, 8);
    put(&r, TABLE + 0x8c, 511); /* PRDT too short */
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x51);
    rig_close(&r);
}

static void test_ncq(void)
{
    struct rig r;
    rig_open(&r);
    for (unsigned i = 0; i < 16; i++) {
        memset(slot_data(&r, i), (int)(0x40 + i), 8192);
        slot_command(&r, i, 0x61, 1000 + i * 16, 16);
    }
    set(&r, PORT(0) + 0x34, 0xffff);
    issue(&r, 0, 0xffff);
    g_assert_cmphex(get(&r, PORT(0) + 0x34), ==, 0);
    g_assert_cmphex(get(&r, PORT(0) + 0x38), ==, 0);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t got;
        block_read_sync(r.disk, (1000 + i * 16) * 512 + 8191, &got, 1);
        g_assert_cmpuint(got, ==, 0x40 + i);
        slot_command(&r, 31 - i, 0x60, 1000 + i * 16, 16);
    }
    set(&r, PORT(0) + 0x34, 0xffff0000);
    issue(&r, 0, 0xffff0000);
    g_assert_cmphex(get(&r, PORT(0) + 0x34), ==, 0);
    g_assert_cmpuint(slot_data(&r, 31)[0], ==, 0x40);
    slot_command(&r, 5, 0x60, DISK, 16); /* no such sector */
    set(&r, PORT(0) + 0x34, 1u << 5);
    g_assert_cmphex(issue(&r, 0, 1u << 5) & 1, ==, 1);
    g_assert_cmphex(get(&r, PORT(0) + 0x34), ==, 1u << 5);
    restart(&r, 0);
    slot_command(&r, 0, 0x2f, 0x10, 1); /* which one failed? */
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    g_assert_cmpuint(slot_data(&r, 0)[0], ==, 5);
    rig_close(&r);
}

static void test_trim(void)
{
    struct rig r;
    rig_open(&r);
    memset(slot_data(&r, 0), 0, 512);
    slot_data(&r, 0)[1] = 1; /* LBA 256, 128 sectors */
    slot_data(&r, 0)[6] = 128;
    slot_command(&r, 0, 0x06, 0, 1)[3] = 1;
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    uint8_t got[512], zero[512] = {0};
    block_read_sync(r.disk, 256 * 512, got, 512);
    g_assert_cmpmem(got, 512, zero, 512);
    slot_data(&r, 0)[5] = 0xff; /* far outside */
    slot_command(&r, 0, 0x06, 0, 1)[3] = 1;
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x51);
    rig_close(&r);
}

static uint32_t packet(struct rig *r, const uint8_t *cdb, unsigned len, uint32_t bytes)
{
    restart(r, 1);
    uint8_t *f = slot_fill(r, 1, 0, false, bytes);
    r->bench.ram[LIST + 0x1000] |= 0x20;
    f[2] = 0xa0;
    f[3] = 1;
    memcpy(f + 0x40, cdb, len);
    return issue(r, 1, 1) & 0xff;
}
#define PACKET(r, bytes, ...)                                                                      \
    packet(r, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), bytes)

static void expect_sense(struct rig *r, uint8_t key, uint8_t asc)
{
    g_assert_cmphex(PACKET(r, 18, 0x03, 0, 0, 0, 18, 0), ==, 0x50);
    g_assert_cmphex(slot_data(r, 0)[2], ==, key);
    g_assert_cmphex(slot_data(r, 0)[12], ==, asc);
}

static void test_atapi(void)
{
    struct rig r;
    rig_open(&r);
    uint8_t *d = slot_data(&r, 0);
    g_assert_cmphex(PACKET(&r, 36, 0x12, 0, 0, 0, 36, 0), ==, 0x50);
    g_assert_cmphex(d[0], ==, 5);
    g_assert_cmphex(PACKET(&r, 8, 0x00, 0, 0, 0, 0, 0), ==, 0x51); /* unit attention */
    expect_sense(&r, 6, 0x29);
    g_assert_cmphex(PACKET(&r, 8, 0x00, 0, 0, 0, 0, 0), ==, 0x50);
    g_assert_cmphex(PACKET(&r, 8, 0x25, 0), ==, 0x50);
    g_assert_cmpuint(d[2] << 8 | d[3], ==, 767);
    g_assert_cmphex(PACKET(&r, 4096, 0x28, 0, 0, 0, 0, 100, 0, 0, 2, 0), ==, 0x50);
    g_assert_cmphex(d[0], ==, 100);
    g_assert_cmphex(d[4095], ==, 101);
    g_assert_cmphex(PACKET(&r, 4096, 0x28, 0, 0, 0, 2, 88, 0, 0, 2, 0), ==, 0x51); /* cut off */
    expect_sense(&r, 3, 0x11);
    g_assert_cmphex(PACKET(&r, 4096, 0x28, 0, 0, 0, 9, 0, 0, 0, 2, 0), ==, 0x51);
    expect_sense(&r, 5, 0x21);
    g_assert_cmphex(PACKET(&r, 20, 0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0), ==, 0x50);
    g_assert_cmphex(d[14], ==, 0xaa);
    g_assert_cmphex(PACKET(&r, 100, 0x46, 0, 0, 0, 0, 0, 0, 0, 100, 0), ==, 0x50);
    g_assert_cmphex(d[7], ==, 0x08);
    g_assert_cmphex(PACKET(&r, 64, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64, 0), ==, 0x50);
    g_assert_cmphex(d[8], ==, 0x2a);
    g_assert_cmphex(PACKET(&r, 64, 0xff), ==, 0x51);
    expect_sense(&r, 5, 0x20);
    rig_close(&r);
}

static void test_media(void)
{
    struct rig r;
    rig_open(&r);
    PACKET(&r, 8, 0x00, 0);
    g_assert_cmphex(PACKET(&r, 8, 0x1e, 0, 0, 0, 1, 0), ==, 0x50); /* lock */
    g_assert_false(ahci_eject(r.bench.dev, 1, false));
    g_assert_cmphex(PACKET(&r, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0), ==, 0x50);
    g_assert_cmphex(slot_data(&r, 0)[4], ==, 1);                   /* the wish */
    g_assert_cmphex(PACKET(&r, 8, 0x1b, 0, 0, 0, 2, 0), ==, 0x51); /* locked for the guest, too */
    g_assert_true(ahci_eject(r.bench.dev, 1, true));
    PACKET(&r, 8, 0x00, 0);
    expect_sense(&r, 6, 0x3a);
    g_assert_cmphex(PACKET(&r, 8, 0x00, 0), ==, 0x51);
    expect_sense(&r, 2, 0x3a);
    g_assert_true(ahci_insert(r.bench.dev, 1, r.disc));
    PACKET(&r, 8, 0x00, 0);
    expect_sense(&r, 6, 0x28);
    g_assert_cmphex(PACKET(&r, 8, 0x00, 0), ==, 0x50);
    g_assert_cmphex(PACKET(&r, 8, 0x1b, 0, 0, 0, 2, 0), ==, 0x50); /* the guest opens the tray */
    g_assert_true(ahci_tray_open(r.bench.dev, 1));
    g_assert_false(ahci_insert(r.bench.dev, 0, r.disc));
    rig_close(&r);
}

/* The host's file size limit plays a full disk: EFBIG. */
static void test_io_error(void)
{
    struct rig r;
    struct rlimit old, low;
    uint8_t got;
    signal(SIGXFSZ, SIG_IGN);
    rig_open(&r);
    memset(slot_data(&r, 2), 0x77, 4096);
    slot_command(&r, 2, 0x35, 4000, 8);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &low);
    issue(&r, 0, 4);
    g_assert_cmpuint(r.io_errors, ==, 1);
    g_assert_cmpint(r.io_errno, ==, EFBIG);
    g_assert_true(ahci_has_kept(r.bench.dev));
    g_assert_cmphex(get(&r, PORT(0) + 0x38), ==, 4); /* the guest only sees it take long */
    g_assert_cmphex(get(&r, PORT(0) + 0x20) & 0x81, ==, 0x80);
    ahci_retry(r.bench.dev);
    rig_wait(&r);
    g_assert_cmpuint(r.io_errors, ==, 2);
    setrlimit(RLIMIT_FSIZE, &old);
    bench_save_restore(&r.bench);
    r.abar = bench_bar(&r.bench, DEVFN, 5);
    ahci_retry(r.bench.dev);
    rig_wait(&r);
    g_assert_cmphex(get(&r, PORT(0) + 0x38), ==, 0);
    g_assert_false(ahci_has_kept(r.bench.dev));
    block_read_sync(r.disk, 4000 * 512 + 4095, &got, 1);
    g_assert_cmphex(got, ==, 0x77);
    rig_close(&r);
}

/* Whatever registers, lists and tables say: no crash, and the controller works after a reset. */
static void test_hostile(void)
{
    struct rig r;
    g_autoptr(GRand) rand = g_rand_new_with_seed(99);
    rig_open(&r);
    static const uint32_t places[] = {BENCH_MMIO + (5u << 25), 0xfffff000, BENCH_RAM - 64,
                                      0x7fffffff, 0};
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        restart(&r, 0);
        slot_command(&r, 0, 0x25, 0, 8);
        put(&r, TABLE + 0x80, places[i]);
        put(&r, TABLE + 0x84, i == 4 ? 0xffffffff : 0);
        issue(&r, 0, 1);
        g_assert_cmphex(get(&r, PORT(0) + 0x10) & 1u << 29, !=, 0);
    }
    for (unsigned i = 0; i < 20000; i++) {
        unsigned reg = (unsigned)g_rand_int_range(rand, 0, 0x400) & ~3u;
        uint32_t value = g_rand_boolean(rand) ? g_rand_int(rand) : g_rand_int(rand) & 0x13ff37;
        if (i % 3 == 0) {
            slot_command(&r, i % 32, (uint8_t)g_rand_int(rand), g_rand_int(rand) % 9000, i % 97);
            put(&r, LIST + (i % 32) * 32, g_rand_int(rand) | 5);
            put(&r, TABLE + (i % 32) * 0x1000 + 0x80, g_rand_int(rand) & 0x9fffff);
            reg = PORT(i % 2) + (i % 5 ? 0x38 : 0x34);
        } else if (i % 50 == 1) {
            port_up(&r, i % 2);
        }
        set(&r, reg, value);
        get(&r, reg);
        if (i % 100 == 0) {
            rig_wait(&r);
        }
    }
    rig_wait(&r);
    set(&r, 0x04, 1);
    port_up(&r, 0);
    slot_command(&r, 0, 0x25, 0, 8);
    g_assert_cmphex(issue(&r, 0, 1) & 0xff, ==, 0x50);
    rig_close(&r);
}

static void test_msi(void)
{
    struct rig r;
    rig_open(&r);
    uint32_t cap = pci_bus_config_read(r.bench.bus, 0, DEVFN, 0x34, 1);
    while (cap && pci_bus_config_read(r.bench.bus, 0, DEVFN, cap, 1) != 5) {
        cap = pci_bus_config_read(r.bench.bus, 0, DEVFN, cap + 1, 1);
    }
    g_assert_cmpuint(cap, !=, 0);
    pci_bus_config_write(r.bench.bus, 0, DEVFN, cap + 2, 1, 2);
    slot_command(&r, 0, 0x25, 0, 1);
    issue(&r, 0, 1);
    g_assert_cmpuint(r.bench.messages, ==, 1);
    g_assert_false(r.bench.irq);
    set(&r, 0x08, 1); /* not really handled: comes again */
    g_assert_cmpuint(r.bench.messages, ==, 2);
    rig_close(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ahci/identify", test_identify);
    g_test_add_func("/ahci/read-write", test_read_write);
    g_test_add_func("/ahci/ncq", test_ncq);
    g_test_add_func("/ahci/trim", test_trim);
    g_test_add_func("/ahci/atapi", test_atapi);
    g_test_add_func("/ahci/media", test_media);
    g_test_add_func("/ahci/io-error", test_io_error);
    g_test_add_func("/ahci/msi", test_msi);
    g_test_add_func("/ahci/hostile", test_hostile);
    return g_test_run();
}
