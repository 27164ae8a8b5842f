/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images: raw, snapshot mode and qcow2, against a shadow copy and against qemu-img where it is
 * installed.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block.h"

#define MIB (1u << 20)

static char *folder;

static char *file_named(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

/* Exit status of a command line, -1 when it did not run. `%s` is the only directive. */
static int run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *out = NULL, *err = NULL;
    int status = -1;
    g_auto(GStrv) argv = NULL;
    g_assert_true(g_shell_parse_argv(line, NULL, &argv, NULL));
    if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                      NULL)) {
        return -1;
    }
    status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (status && status != 3) {
        g_test_message("%s: %d: %s%s", line, status, out, err);
    }
    return status;
}

static bool have_qemu_img(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");
    if (!path) {
        g_test_skip("no qemu-img here");
    }
    return path != NULL;
}

static struct block *open_ok(const char *path, unsigned flags)
{
    g_autoptr(GError) error = NULL;
    struct block *b = block_open(path, flags, &error);
    g_assert_no_error(error);
    g_assert_nonnull(b);
    return b;
}

static void random_bytes(GRand *rand, uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        p[i] = (uint8_t)g_rand_int(rand);
    }
}

/* Random writes, zeroes and discards; the shadow knows what must be there. `discarded` bytes may be
 * anything. */
static void exercise(struct block *b, uint8_t *shadow, uint64_t size, GRand *rand, unsigned rounds)
{
    g_autofree uint8_t *buf = g_malloc(size);
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, (int)(size / 512)) * 512;
        uint64_t len = (uint64_t)g_rand_int_range(rand, 1, 600) * 512;
        len = MIN(len, size - offset);
        int what = g_rand_int_range(rand, 0, 10);
        if (what < 6) {
            random_bytes(rand, buf, len);
            g_assert_cmpint(block_write_sync(b, offset, buf, len), ==, 0);
            memcpy(shadow + offset, buf, len);
        } else if (what < 8) {
            g_assert_cmpint(block_write_zeroes_sync(b, offset, len), ==, 0);
            memset(shadow + offset, 0, len);
        } else {
            g_assert_cmpint(block_discard_sync(b, offset, len), ==, 0);
            g_assert_cmpint(block_read_sync(b, offset, buf, len), ==, 0);
            memcpy(shadow + offset, buf, len);
        }
        g_assert_cmpint(block_read_sync(b, offset, buf, len), ==, 0);
        g_assert_cmpmem(buf, len, shadow + offset, len);
    }
    g_assert_cmpint(block_read_sync(b, 0, buf, size), ==, 0);
    g_assert_cmpint(memcmp(buf, shadow, size), ==, 0);
}

static void test_raw(void)
{
    g_autofree char *path = file_named("disk.raw");
    uint8_t buf[1024], back[1024];
    memset(buf, 0x5a, sizeof(buf));
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_cmpint(truncate(path, MIB + 100), ==, 0);
    struct block *b = open_ok(path, 0);
    g_assert_cmpuint(block_size(b), ==, MIB);
    g_assert_cmpstr(block_format_name(b), ==, "raw");
    g_assert_cmpint(block_write_sync(b, 4096, buf, sizeof(buf)), ==, 0);
    g_assert_cmpint(block_read_sync(b, 4096, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(buf, sizeof(buf), back, sizeof(back));
    g_assert_cmpint(block_write_sync(b, MIB - 512, buf, 1024), ==, EINVAL);
    g_assert_cmpint(block_read_sync(b, UINT64_MAX - 100, back, 512), ==, EINVAL);
    memcpy(buf, "QFI\xfb\0\0\0\3", 8);
    g_assert_cmpint(block_write_sync(b, 0, buf, 512), ==, EPERM);
    g_assert_true(block_close(b));
    b = open_ok(path, BLOCK_RAW);
    g_assert_cmpint(block_write_sync(b, 0, buf, 512), ==, 0);
    g_assert_true(block_close(b));
    b = open_ok(path, BLOCK_RAW | BLOCK_READ_ONLY);
    g_assert_cmpint(block_write_sync(b, 0, buf, 512), ==, EROFS);
    g_assert_true(block_close(b));
}

static void test_lock(void)
{
    g_autofree char *path = file_named("locked.qcow2");
    g_autoptr(GError) error = NULL;
    g_assert_true(block_create_qcow2(path, MIB, NULL));
    g_assert_false(block_create_qcow2(path, MIB, NULL));
    struct block *b = open_ok(path, 0);
    g_assert_null(block_open(path, 0, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_BUSY);
    g_assert_null(block_open(path, BLOCK_READ_ONLY, NULL));
    block_close(b);
    struct block *r1 = open_ok(path, BLOCK_READ_ONLY), *r2 = open_ok(path, BLOCK_SNAPSHOT);
    block_close(r1);
    block_close(r2);
}

static void test_foreign(void)
{
    static const char *const heads[] = {"KDMV", "conectix", "vhdxfile", "# Disk DescriptorFile\n",
                                        "LUKS\xba\xbe"};
    g_autofree char *path = file_named("foreign");
    for (unsigned i = 0; i < G_N_ELEMENTS(heads); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(g_file_set_contents(path, heads[i], -1, NULL));
        g_assert_null(block_open(path, 0, &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
    }
}

static void test_snapshot(void)
{
    g_autofree char *path = file_named("base.raw");
    g_autofree uint8_t *shadow = g_malloc(MIB), *before = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    gsize size;
    random_bytes(rand, shadow, MIB);
    g_assert_true(g_file_set_contents(path, (char *)shadow, MIB, NULL));
    struct block *b = open_ok(path, BLOCK_SNAPSHOT);
    exercise(b, shadow, MIB, rand, 100);
    g_assert_true(block_close(b));
    g_assert_true(g_file_get_contents(path, (char **)&before, &size, NULL));
    b = open_ok(path, BLOCK_READ_ONLY);
    g_assert_cmpint(block_read_sync(b, 0, shadow, MIB), ==, 0);
    g_assert_cmpmem(shadow, MIB, before, MIB);
    block_close(b);
}

struct async {
    unsigned done, errors;
};

static void async_done(void *opaque, int error)
{
    struct async *a = opaque;
    a->done++;
    a->errors += error != 0;
}

static void test_async(void)
{
    g_autofree char *path = file_named("async.qcow2");
    static uint8_t data[64][65536];
    struct async a = {0};
    g_assert_true(block_create_qcow2(path, 16 * MIB, NULL));
    struct block *b = open_ok(path, 0);
    for (unsigned i = 0; i < 64; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        struct iovec iov[2] = {{data[i], 1000}, {data[i] + 1000, sizeof(data[i]) - 1000}};
        block_writev(b, i * 130000ull, iov, 2, async_done, &a);
    }
    block_flush(b, async_done, &a);
    g_assert_cmpuint(block_in_flight(b), >, 0);
    while (a.done < 65) {
        g_main_context_iteration(NULL, TRUE);
    }
    for (unsigned i = 0; i < 64; i++) {
        struct iovec iov = {data[i], sizeof(data[i])};
        block_readv(b, i * 130000ull, &iov, 1, async_done, &a);
    }
    block_drain(b);
    g_assert_cmpuint(a.done, ==, 129);
    g_assert_cmpuint(a.errors, ==, 0);
    for (unsigned i = 0; i < 64; i++) {
        g_assert_cmpuint(data[i][0], ==, i);
        g_assert_cmpuint(data[i][65535], ==, i);
    }
    g_assert_true(block_close(b));
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
    g_assert_true(!qemu_img || run("qemu-img check -q '%s'", path) == 0);
}

static void check_against_raw(const char *path, const uint8_t *shadow, uint64_t size)
{
    g_autofree char *raw = file_named("shadow.raw");
    g_assert_true(g_file_set_contents(raw, (const char *)shadow, (gssize)size, NULL));
    g_assert_cmpint(run("qemu-img check -q '%s'", path), ==, 0);
    g_assert_cmpint(run("qemu-img compare -q -F raw -f qcow2 '%s' '%s'", path, raw), ==, 0);
}

static void test_random(gconstpointer options)
{
    if (!have_qemu_img()) {
        return;
    }
    g_autofree char *path = file_named("random.qcow2");
    g_autofree uint8_t *shadow = g_malloc0(20 * MIB);
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);
    uint64_t size = 20 * MIB - 3 * 512;
    g_assert_cmpint(run("qemu-img create -q -f qcow2 -o %s '%s' %u", (const char *)options, path,
                        (unsigned)size),
                    ==, 0);
    for (unsigned i = 0; i < 4; i++) {
        struct block *b = open_ok(path, 0);
        exercise(b, shadow, size, rand, 120);
        g_assert_true(block_close(b));
        check_against_raw(path, shadow, size);
    }
    g_unlink(path);
}

static void test_own(void)
{
    g_autofree char *path = file_named("own.qcow2");
    g_autofree uint8_t *shadow = g_malloc0(8 * MIB);
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_assert_true(block_create_qcow2(path, 8 * MIB, NULL));
    struct block *b = open_ok(path, 0);
    g_assert_cmpuint(block_size(b), ==, 8 * MIB);
    exercise(b, shadow, 8 * MIB, rand, 200);
    g_assert_true(block_close(b));
    if (have_qemu_img()) {
        check_against_raw(path, shadow, 8 * MIB);
    }
}

/* A compressed image, and a child over it whose backing file is smaller. */
static void test_backing(void)
{
    if (!have_qemu_img()) {
        return;
    }
    g_autofree char *raw = file_named("back.raw"), *base = file_named("back.qcow2");
    g_autofree char *child = file_named("child.qcow2");
    uint64_t half = 3 * MIB + 1024, size = 6 * MIB;
    g_autofree uint8_t *shadow = g_malloc0(size);
    g_autoptr(GRand) rand = g_rand_new_with_seed(9);
    for (uint64_t i = 0; i < half; i++) {
        shadow[i] = (uint8_t)(i / 3000);
    }
    random_bytes(rand, shadow + MIB, MIB / 2);
    g_assert_true(g_file_set_contents(raw, (char *)shadow, (gssize)half, NULL));
    g_assert_cmpint(run("qemu-img convert -c -f raw -O qcow2 '%s' '%s'", raw, base), ==, 0);
    g_assert_true(block_create_qcow2_child(child, size, "back.qcow2", "qcow2", NULL));
    struct block *b = open_ok(child, 0);
    exercise(b, shadow, size, rand, 150);
    g_assert_true(block_close(b));
    check_against_raw(child, shadow, size);
    b = open_ok(base, 0); /* overwriting compressed clusters */
    g_assert_cmpint(block_read_sync(b, 0, shadow, half), ==, 0);
    exercise(b, shadow, half, rand, 150);
    g_assert_true(block_close(b));
    check_against_raw(base, shadow, half);
}

/* --- kill -9 --- */

struct killed {
    uint64_t generation[16]; /* what was flushed last, in each of 16 zones */
};

static void write_zone(struct block *b, GRand *rand, unsigned zone, uint64_t value)
{
    uint64_t data[512];
    uint64_t base = zone * 4ull * MIB;
    for (unsigned i = 0; i < 512; i++) {
        data[i] = value;
    }
    g_assert_cmpint(block_write_sync(b, base, data, sizeof(data)), ==, 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = base + MIB + (uint64_t)g_rand_int_range(rand, 0, 700) * 4096;
        if (g_rand_int_range(rand, 0, 4) == 0) {
            block_discard_sync(b, at, 65536);
        } else {
            block_write_sync(b, at, data, sizeof(data));
        }
    }
}

static void child_writes(const char *path, int report, uint32_t seed, uint64_t start)
{
    struct block *b = block_open(path, 0, NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    if (!b) {
        _exit(3);
    }
    for (uint64_t value = start;; value++) {
        uint64_t message[2] = {value % 16, value};
        write_zone(b, rand, (unsigned)(value % 16), value);
        if (value % 8 == 0) {
            block_flush_sync(b);
        }
        if (write(report, message, sizeof(message)) != sizeof(message)) {
            _exit(4);
        }
    }
}

/* Nothing but steps from table to table: clusters of one sector come and go. */
static void child_steps(const char *path, int report, uint32_t seed, uint64_t start)
{
    struct block *b = block_open(path, 0, NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    static uint8_t data[2048];
    for (; b;) {
        uint64_t at = (uint64_t)g_rand_int_range(rand, 0, 16 * MIB / 512 - 4) * 512;
        uint64_t len = (uint64_t)g_rand_int_range(rand, 1, 5) * 512;
        if (g_rand_boolean(rand)) {
            block_write_sync(b, at, data, len);
        } else {
            block_discard_sync(b, at, len);
        }
    }
    _exit(3);
}

/* Until the file is nobody's: the scribe has ended. */
static void wait_unlocked(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (unsigned i = 0; i < 1000 && fcntl(fd, F_OFD_SETLK, &lock); i++) {
        g_usleep(10000);
    }
    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    close(fd);
}

/* Lets a process work for a while, kills it and looks at the image. Returns where its reports are.
 */
static int killed_child(const char *path, void (*work)(const char *, int, uint32_t, uint64_t),
                        unsigned round, uint64_t start)
{
    int pipe_fd[2], status;
    g_assert_cmpint(pipe(pipe_fd), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipe_fd[0]);
        work(path, pipe_fd[1], round + 1, start);
    }
    close(pipe_fd[1]);
    g_usleep(3000 + round * 1700 % 37000);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    g_assert_true(WIFSIGNALED(status));
    wait_unlocked(path);
    g_assert_cmpint(run("qemu-img check -q '%s'", path), ==, 0);
    return pipe_fd[0];
}

static void test_kill_steps(void)
{
    if (!have_qemu_img()) {
        return;
    }
    g_autofree char *path = file_named("steps.qcow2");
    unsigned rounds = g_test_slow() ? 500 : 60;
    g_assert_cmpint(run("qemu-img create -q -f qcow2 -o cluster_size=512 '%s' 16M", path), ==, 0);
    for (unsigned round = 0; round < rounds; round++) {
        close(killed_child(path, child_steps, round, 0));
    }
}

static void test_kill(void)
{
    if (!have_qemu_img()) {
        return;
    }
    g_autofree char *path = file_named("killed.qcow2");
    uint64_t known[16] = {0}, value = 1;
    unsigned rounds = g_test_slow() ? 200 : 40;
    g_assert_true(block_create_qcow2(path, 64 * MIB, NULL));
    for (unsigned round = 0; round < rounds; round++) {
        int reports = killed_child(path, child_writes, round, value);
        uint64_t message[2];
        while (read(reports, message, sizeof(message)) == sizeof(message)) {
            known[message[0]] = message[1];
            value = message[1] + 1;
        }
        close(reports);
        struct block *b = open_ok(path, 0);
        for (unsigned zone = 0; zone < 16; zone++) {
            uint64_t got;
            g_assert_cmpint(block_read_sync(b, zone * 4ull * MIB, &got, 8), ==, 0);
            g_assert_cmpuint(got, >=, known[zone]);
        }
        g_assert_true(block_close(b));
        g_assert_cmpint(run("qemu-img check -q '%s'", path), ==, 0);
    }
    g_test_message("%u kills, %" G_GUINT64_FORMAT " writes", rounds, value);
}

/* The scribe of the one image that this process has open. */
static pid_t scribe_pid(void)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(proc)) != NULL) {
        g_autofree char *path = g_build_filename("/proc", name, "stat", NULL);
        g_autofree char *stat = NULL;
        int parent;
        if (g_ascii_isdigit(*name) && g_file_get_contents(path, &stat, NULL, NULL) &&
            strstr(stat, "(ringside-scribe)") &&
            sscanf(strrchr(stat, ')'), ") %*c %d", &parent) == 1 && parent == getpid()) {
            return (pid_t)g_ascii_strtoll(name, NULL, 10);
        }
    }
    return 0;
}

static pid_t scribe_started(void)
{
    pid_t pid = 0;
    for (unsigned i = 0; i < 500 && !pid; i++) {
        g_usleep(10000); /* it takes its name first */
        pid = scribe_pid();
    }
    g_assert_cmpint(pid, >, 0);
    return pid;
}

/* Signals do not end the scribe; when something does, its work goes on without it. */
static void test_scribe_lost(void)
{
    g_autofree char *path = file_named("lost.qcow2");
    g_autofree uint8_t *shadow = g_malloc0(8 * MIB);
    g_autoptr(GRand) rand = g_rand_new_with_seed(17);
    g_assert_true(block_create_qcow2(path, 8 * MIB, NULL));
    struct block *b = open_ok(path, 0);
    pid_t pid = scribe_started();
    g_assert_cmpint(getsid(pid), ==, pid);
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    exercise(b, shadow, 8 * MIB, rand, 30);
    g_assert_cmpint(scribe_pid(), ==, pid);
    kill(pid, SIGKILL);
    exercise(b, shadow, 8 * MIB, rand, 60);
    g_assert_true(block_close(b));
    g_assert_cmpint(scribe_pid(), ==, 0);
    if (have_qemu_img()) {
        check_against_raw(path, shadow, 8 * MIB);
    }
}

/* Checks an image that is open here, and locked, in a copy. */
static void check_open_image(const char *path)
{
    g_autofree char *copy = file_named("copy.qcow2");
    g_assert_cmpint(run("cp '%s' '%s'", path, copy), ==, 0);
    g_assert_cmpint(run("qemu-img check -q '%s'", copy), ==, 0);
}

/* Changes of tables that fail leave nothing behind, not even until the image is closed. */
static void test_full_tables(void)
{
    g_autofree char *path = file_named("tables.qcow2");
    struct rlimit none = {0, RLIM_INFINITY}, old;
    static uint8_t data[65536], back[65536];
    if (!have_qemu_img()) {
        return;
    }
    memset(data, 0x77, sizeof(data));
    g_assert_true(block_create_qcow2(path, 2048ull * MIB, NULL));
    struct block *b = open_ok(path, 0);
    pid_t pid = scribe_started();
    g_assert_cmpint(block_write_sync(b, 0, data, sizeof(data)), ==, 0);
    g_assert_cmpint(prlimit(pid, RLIMIT_FSIZE, &none, &old), ==, 0);
    g_assert_cmpint(block_write_sync(b, MIB, data, sizeof(data)), ==, EFBIG);
    g_assert_cmpint(block_write_sync(b, 1024ull * MIB, data, sizeof(data)), ==, EFBIG);
    g_assert_cmpint(block_discard_sync(b, 0, sizeof(data)), ==, EFBIG);
    check_open_image(path);
    g_assert_cmpint(prlimit(pid, RLIMIT_FSIZE, &old, NULL), ==, 0);
    g_assert_cmpint(block_write_sync(b, MIB, data, sizeof(data)), ==, 0);
    g_assert_cmpint(block_write_sync(b, 1024ull * MIB, data, sizeof(data)), ==, 0);
    check_open_image(path);
    g_assert_cmpint(block_read_sync(b, 0, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(back, sizeof(back), data, sizeof(data));
    g_assert_true(block_close(b));
    g_assert_cmpint(run("qemu-img check -q '%s'", path), ==, 0);
}

/* With -m perf: new clusters one after the other, in requests of two sizes. */
static void test_throughput(void)
{
    static const unsigned sizes[] = {64 * 1024, MIB};
    g_autofree uint8_t *data = g_malloc0(MIB);
    for (unsigned s = 0; s < G_N_ELEMENTS(sizes) && g_test_perf(); s++) {
        g_autofree char *path = file_named("fast.qcow2");
        g_assert_true(block_create_qcow2(path, 2048ull * MIB, NULL));
        struct block *b = open_ok(path, 0);
        g_test_timer_start();
        for (uint64_t at = 0; at < 1024ull * MIB; at += sizes[s]) {
            g_assert_cmpint(block_write_sync(b, at, data, sizes[s]), ==, 0);
        }
        g_test_message("%u KiB a write: %.0f MiB/s", sizes[s] >> 10, 1024 / g_test_timer_elapsed());
        g_assert_true(block_close(b));
        g_unlink(path);
    }
}

/* A full host disk, played by the file size limit: errors, then the same writes again. */
static void test_full(void)
{
    g_autofree char *path = file_named("full.qcow2");
    g_autofree uint8_t *data = g_malloc(4 * MIB), *back = g_malloc(4 * MIB);
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    struct rlimit old, low;
    unsigned errors = 0;
    signal(SIGXFSZ, SIG_IGN);
    random_bytes(rand, data, 4 * MIB);
    g_assert_true(block_create_qcow2(path, 8 * MIB, NULL));
    struct block *b = open_ok(path, 0);
    getrlimit(RLIMIT_FSIZE, &old);
    for (unsigned pass = 0; pass < 2; pass++) {
        low = old;
        low.rlim_cur = pass ? old.rlim_cur : MIB + 1234;
        setrlimit(RLIMIT_FSIZE, &low);
        for (unsigned i = 0; i < 40; i++) {
            errors += block_write_sync(b, i * 100 * 1024, data + i * 100 * 1024, 100 * 1024) != 0;
        }
        g_assert_true(pass == 0 ? errors > 0 : true);
        errors = pass == 0 ? 0 : errors;
    }
    g_assert_cmpuint(errors, ==, 0);
    g_assert_cmpint(block_read_sync(b, 0, back, 4 * MIB), ==, 0);
    g_assert_cmpmem(back, 4000 * 1024, data, 4000 * 1024);
    g_assert_true(block_close(b));
    if (have_qemu_img()) {
        g_assert_cmpint(run("qemu-img check -q '%s'", path), ==, 0);
    }
}

/* --- damage --- */

static void use_damaged(const char *path)
{
    g_autoptr(GError) error = NULL;
    static uint8_t buf[256 * 1024];
    struct block *b = block_open(path, 0, &error);
    if (!b) {
        g_assert_nonnull(error);
        return;
    }
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = block_size(b) / 8 * i & ~511ull;
        uint64_t len = MIN(sizeof(buf), block_size(b) - at);
        block_read_sync(b, at, buf, len);
        block_write_sync(b, at, buf, len);
        block_discard_sync(b, at, len);
    }
    block_close(b);
}

static void test_fuzz(void)
{
    g_autofree char *good = file_named("good.qcow2"), *bad = file_named("bad.qcow2");
    g_autoptr(GRand) rand = g_rand_new_with_seed(1234);
    g_autofree char *content = NULL;
    gsize len;
    g_assert_true(block_create_qcow2(good, 4 * MIB, NULL));
    struct block *b = open_ok(good, 0);
    g_autofree uint8_t *shadow = g_malloc0(4 * MIB);
    exercise(b, shadow, 4 * MIB, rand, 20);
    block_close(b);
    g_assert_true(g_file_get_contents(good, &content, &len, NULL));
    for (unsigned i = 0; i < 400; i++) {
        g_autofree char *copy = g_memdup2(content, len);
        unsigned flips = (unsigned)g_rand_int_range(rand, 1, 6);
        for (unsigned f = 0; f < flips; f++) {
            gsize limit = i % 2 ? 112 : MIN(len, 6 * 65536);
            gsize at = (gsize)g_rand_int_range(rand, 4, (int)limit);
            at = i % 4 == 2 ? (at & ~(gsize)0xffff) | (at & 0x3f) : at;
            copy[at] =
                (char)(g_rand_boolean(rand) ? (int)g_rand_int(rand) : copy[at] ^ (1 << (i % 8)));
        }
        gsize keep = i % 10 == 9 ? (gsize)g_rand_int_range(rand, 0, (int)len) : len;
        g_assert_true(g_file_set_contents(bad, copy, (gssize)keep, NULL));
        use_damaged(bad);
    }
}

static void test_iso(void)
{
    g_autofree char *path = file_named("disc.iso");
    g_autofree char *image = g_malloc0(MIB);
    g_autoptr(GError) error = NULL;
    memcpy(image + 0x8000, "\1CD001\1", 7);
    image[0x8000 + 81] = 2; /* 512 blocks */
    image[0x8000 + 129] = 8;
    g_assert_true(g_file_set_contents(path, image, MIB, NULL));
    g_assert_true(block_iso_check(path, NULL));
    g_assert_cmpint(truncate(path, MIB / 2), ==, 0);
    g_assert_false(block_iso_check(path, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT);
}

int main(int argc, char **argv)
{
    static const char *const options[] = {"cluster_size=65536",
                                          "cluster_size=512",
                                          "cluster_size=4096,refcount_bits=64",
                                          "cluster_size=2M,refcount_bits=1",
                                          "cluster_size=16384,refcount_bits=8",
                                          "compat=0.10",
                                          "cluster_size=512,compat=0.10",
                                          "lazy_refcounts=on",
                                          "preallocation=metadata,cluster_size=4096"};
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("ringside-test-XXXXXX", NULL);
    g_test_add_func("/block/raw", test_raw);
    g_test_add_func("/block/lock", test_lock);
    g_test_add_func("/block/foreign", test_foreign);
    g_test_add_func("/block/snapshot", test_snapshot);
    g_test_add_func("/block/kill", test_kill); /* forks: before any worker thread */
    g_test_add_func("/block/kill_steps", test_kill_steps);
    g_test_add_func("/block/async", test_async);
    g_test_add_func("/block/iso", test_iso);
    g_test_add_func("/block/full", test_full);
    g_test_add_func("/block/full_tables", test_full_tables);
    g_test_add_func("/block/scribe_lost", test_scribe_lost);
    g_test_add_func("/block/throughput", test_throughput);
    g_test_add_func("/block/qcow2/own", test_own);
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *name = g_strdup_printf("/block/qcow2/%s", options[i]);
        g_test_add_data_func(name, options[i], test_random);
    }
    g_test_add_func("/block/qcow2/backing", test_backing);
    g_test_add_func("/block/qcow2/fuzz", test_fuzz);
    int status = g_test_run();
    run("rm -r '%s'", folder);
    return status;
}
