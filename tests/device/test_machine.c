/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole machine with an engine that executes nothing: memory map, PCI, ACPI loading, state
 * files, and random writes to every port and register.
 */
#include <elf.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "block/block_driver.h"
#include "host_memory.h"
#include "machine_internal.h"

static const struct cpu_bus *bus;
static struct cpu_state cpus[MACHINE_MAX_CPUS];

struct dummy {
    const struct engine_ops *ops;
};

static struct engine *dummy_create(const struct engine_config *config, GError **error)
{
    struct dummy *d = g_new0(struct dummy, 1);

    d->ops = &translate_engine;
    bus = config->bus;
    return (struct engine *)d;
}

static void dummy_destroy(struct engine *engine)
{
    g_free(engine);
}

static void dummy_nothing(struct engine *engine)
{
}

static void dummy_get(struct engine *engine, unsigned cpu, struct cpu_state *state)
{
    *state = cpus[cpu];
}

static bool dummy_set(struct engine *engine, unsigned cpu, const struct cpu_state *state,
                      GError **error)
{
    cpus[cpu] = *state;
    return true;
}

static void dummy_kick(struct engine *engine, unsigned cpu)
{
}

static void dummy_event(struct engine *engine, unsigned cpu, enum cpu_event event, uint8_t vector)
{
}

static void dummy_range(struct engine *engine, uint64_t offset, uint64_t len)
{
}

const struct engine_ops translate_engine = {
    .name = "dummy",
    .create = dummy_create,
    .destroy = dummy_destroy,
    .run = dummy_nothing,
    .pause = dummy_nothing,
    .get_state = dummy_get,
    .set_state = dummy_set,
    .kick = dummy_kick,
    .event = dummy_event,
    .memory_changed = dummy_nothing,
    .code_written = dummy_range,
    .dirty_rearm = dummy_range,
};

/* A BIOS of our own, so that the tests need no package. */
static char *bios_path(void)
{
    static char *path;
    g_autofree uint8_t *bytes = g_malloc(0x40000);

    if (!path) {
        path = g_build_filename(g_get_tmp_dir(), "ringside-test-bios.XXXXXX", NULL);
        g_close(g_mkstemp(path), NULL);
        memset(bytes, 0xb1, 0x40000);
        g_assert_true(g_file_set_contents(path, (char *)bytes, 0x40000, NULL));
    }
    return path;
}

static struct machine *machine_make(void)
{
    struct machine_config config = {
        .memory_bytes = 32 << 20, .cpus = 2, .firmware = bios_path(), .debug_exit = true};
    GError *error = NULL;
    struct machine *m = machine_new(&config, &error);

    g_assert_no_error(error);
    return m;
}

static uint32_t config_read(uint32_t devfn, uint32_t reg)
{
    bus->port_write(bus->opaque, 0xcf8, 0x80000000u | devfn << 8 | reg, 4);
    return (uint32_t)bus->port_read(bus->opaque, 0xcfc, 4);
}

static void config_write(uint32_t devfn, uint32_t reg, uint32_t value)
{
    bus->port_write(bus->opaque, 0xcf8, 0x80000000u | devfn << 8 | reg, 4);
    bus->port_write(bus->opaque, 0xcfc, value, 4);
}

static uint8_t peek(struct machine *m, uint64_t gpa)
{
    uint8_t byte;

    memory_read(m->memory, gpa, &byte, 1);
    return byte;
}

static void poke(struct machine *m, uint64_t gpa, uint8_t byte)
{
    memory_write(m->memory, gpa, &byte, 1);
}

static void test_pam(void)
{
    struct machine *m = machine_make();
    struct page_info info;

    g_assert_cmphex(peek(m, 0xfffffff0), ==, 0xb1);
    g_assert_cmphex(peek(m, 0xf0000), ==, 0xb1);
    poke(m, 0xf0000, 0x11);
    g_assert_cmphex(m->ram[0xf0000], ==, 0);
    config_write(0, 0x90, 0x20); /* write-only */
    poke(m, 0xf0000, 0x22);
    g_assert_cmphex(m->ram[0xf0000], ==, 0x22);
    g_assert_cmphex(peek(m, 0xf0000), ==, 0xb1);
    config_write(0, 0x90, 0x10); /* read-only */
    g_assert_cmphex(peek(m, 0xf0000), ==, 0x22);
    config_write(0, 0x90, 0x30);
    memory_lookup_page(m->memory, 0xf0000, &info);
    g_assert_true(info.read == m->ram + 0xf0000 && info.write == info.read);
    g_assert_cmphex(peek(m, 0xc0000), ==, 0xff);
    machine_free(m);
}

static void test_pci(void)
{
    struct machine *m = machine_make();
    const uint32_t ahci = 0x1f << 3 | 2;

    g_assert_cmphex(config_read(0, 0), ==, 0x29c08086);
    g_assert_cmphex(config_read(0x1f << 3, 0), ==, 0x29188086);
    g_assert_cmphex(config_read(8, 0), ==, UINT32_MAX);
    config_write(ahci, 0x24, UINT32_MAX);
    g_assert_cmphex(config_read(ahci, 0x24) & 15, ==, 0);
    g_assert_cmphex(~config_read(ahci, 0x24) + 1, >=, 0x400);
    config_write(ahci, 0x24, 0xc1000000);
    config_write(ahci, 4, 2);
    g_assert_cmphex(memory_io_read(m->memory, 0xc1000000, 4), !=, UINT32_MAX);
    config_write(ahci, 4, 0);
    g_assert_cmphex(memory_io_read(m->memory, 0xc1000000, 4), ==, UINT32_MAX);
    config_write(ahci, 0x24, 0x1000); /* under RAM: RAM wins */
    config_write(ahci, 4, 2);
    poke(m, 0x1000, 0x5a);
    g_assert_cmphex(m->ram[0x1000], ==, 0x5a);
    config_write(0, 0x60, 0xb0000001);
    g_assert_cmphex(memory_io_read(m->memory, 0xb0000000, 4), ==, 0x29c08086);
    machine_free(m);
}

/* Follows the RSDP to the FADT and checks every sum on the way. */
static uint8_t sum(const uint8_t *p, uint32_t n)
{
    uint8_t s = 0;

    while (n--) {
        s += *p++;
    }
    return s;
}

static void test_acpi(void)
{
    struct machine *m = machine_make();
    struct acpi_blobs b;
    uint32_t rsdt, length, found = 0;

    acpi_build(m, &b);
    g_assert_true(acpi_link(&b, 0x1000000, 0xe0000));
    g_assert_cmphex(sum(b.rsdp->data, 20), ==, 0);
    g_assert_cmphex(sum(b.rsdp->data, 36), ==, 0);
    memcpy(&rsdt, b.rsdp->data + 16, 4);
    rsdt -= 0x1000000;
    memcpy(&length, b.tables->data + rsdt + 4, 4);
    g_assert_cmphex(sum(b.tables->data + rsdt, length), ==, 0);
    for (uint32_t i = 36; i < length; i += 4) {
        uint32_t at, n;
        memcpy(&at, b.tables->data + rsdt + i, 4);
        at -= 0x1000000;
        memcpy(&n, b.tables->data + at + 4, 4);
        g_assert_cmphex(sum(b.tables->data + at, n), ==, 0);
        if (memcmp(b.tables->data + at, "FACP", 4) == 0) {
            g_assert_cmpuint(n, ==, 244);
        }
        found++;
    }
    g_assert_cmpuint(found, ==, 5);
    acpi_blobs_clear(&b);
    machine_free(m);
}

/* What a file of the pretended host says. */
static void host_file(const char *root, const char *path, const char *text)
{
    g_autofree char *name = g_build_filename(root, path, NULL), *folder = g_path_get_dirname(name);

    g_mkdir_with_parents(folder, 0700);
    g_assert_true(g_file_set_contents(name, text, -1, NULL));
}

static void test_host_memory(void)
{
    g_autofree char *root = g_dir_make_tmp("ringside-host-XXXXXX", NULL), *warning = NULL;
    g_autofree char *remove = g_strdup_printf("rm -r '%s'", root);
    g_autoptr(GError) error = NULL;
    const uint64_t gib = 1u << 30;

    host_file(root, "proc/meminfo",
              "MemTotal: 8388608 kB\nMemAvailable:  3145728 kB\n"
              "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n");
    g_assert_true(host_memory_check(root, 4 * gib, &warning, NULL));
    g_assert_null(warning);
    g_assert_true(host_memory_check(root, 5 * gib, &warning, NULL));
    g_assert_nonnull(strstr(warning, "5120 MiB is more than the host has free now (4096 MiB)"));
    g_clear_pointer(&warning, g_free);
    g_assert_false(host_memory_check(root, 11 * gib, &warning, &error));
    g_assert_nonnull(strstr(error->message, "than this host has (10240 MiB)"));
    g_clear_error(&error);
    host_file(root, "proc/self/cgroup", "1:name=old:/x\n0::/user/app\n");
    host_file(root, "sys/fs/cgroup/user/app/memory.max", "max\n");
    host_file(root, "sys/fs/cgroup/user/memory.max", "2147483648\n");
    g_assert_false(host_memory_check(root, 3 * gib, &warning, &error));
    g_assert_nonnull(strstr(error->message, "control group has (2048 MiB)"));
    g_assert_true(host_memory_check(root, gib, &warning, NULL));
    g_assert_null(warning);
    g_assert_true(g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL));
}

static void wait_state(struct machine *m, enum machine_state state)
{
    for (unsigned i = 0; i < 500 && machine_state(m) != state; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(2000);
    }
    g_assert_cmpint(machine_state(m), ==, state);
}

/* Bytes that the process has mapped. */
static rlim_t address_space(void)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* The host's lack of pages, played by a pool file that is too short: also for the kernel's own
 * accesses. The machine pauses, cannot go on before there is memory, and has lost nothing then. */
static void test_lacking_memory(void)
{
    struct machine *m = machine_make();
    const uint64_t far = m->config.memory_bytes / 2;
    struct rlimit old, low;
    int fd = memory_pool_fd(m->memory), program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat st;
    struct iovec iov = {m->ram + far + 0x3ffe, 4};

    g_assert_cmpint(fstat(fd, &st), ==, 0);
    g_assert_true(machine_start(m, NULL));
    g_assert_cmpint(ftruncate(fd, (off_t)far), ==, 0);
    poke(m, far + 0x1000, 0x5a);
    m->ram[far + 0x1001] = 0xa5;
    g_assert_cmpint(file_readv(program, 0, &iov, 1, 4), ==, 0);
    g_assert_cmpmem(m->ram + far + 0x3ffe, 4, "\177ELF", 4);
    wait_state(m, MACHINE_IO_ERROR);
    g_assert_nonnull(strstr(machine_problem(m), "no memory"));
    getrlimit(RLIMIT_AS, &old);
    low = (struct rlimit){address_space(), old.rlim_max};
    setrlimit(RLIMIT_AS, &low);
    machine_resume(m);
    setrlimit(RLIMIT_AS, &old);
    g_assert_cmpint(machine_state(m), ==, MACHINE_IO_ERROR);
    g_assert_cmpint(ftruncate(fd, st.st_size), ==, 0);
    machine_resume(m);
    g_assert_cmpint(machine_state(m), ==, MACHINE_RUNNING);
    g_assert_cmphex(m->ram[far + 0x1000], ==, 0x5a);
    g_assert_cmphex(m->ram[far + 0x1001], ==, 0xa5);
    uint8_t in_file[4];
    g_assert_cmpint(pread(fd, in_file, 4, (off_t)(far + 0x3ffe)), ==, 4);
    g_assert_cmpmem(in_file, 4, "\177ELF", 4);
    close(program);
    machine_free(m);
}

static void test_power(void)
{
    struct machine *m = machine_make();

    g_assert_true(machine_start(m, NULL));
    config_write(0x1f << 3, 0x40, 0x601);
    config_write(0x1f << 3, 0x44, 0x80);
    bus->port_write(bus->opaque, 0x604, 0x3c00, 2);
    while (machine_state(m) == MACHINE_RUNNING) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(machine_state(m), ==, MACHINE_OFF);
    g_assert_true(machine_start(m, NULL));
    config_write(0x1f << 3, 0x40, 0x601);
    bus->port_write(bus->opaque, 0xcf9, 6, 1);
    while (config_read(0x1f << 3, 0x40) & 0x600) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_assert_cmpint(machine_state(m), ==, MACHINE_RUNNING);
    machine_free(m);
}

static void scramble(struct machine *m, unsigned rounds)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20240601);
    const uint64_t bases[] = {0xfee00000, 0xfec00000, 0xfed00000, 0xb0000000, 0xfed1c000, 0xa0000};

    for (unsigned i = 0; i < rounds; i++) {
        uint16_t port = (uint16_t)g_rand_int_range(rand, 0, 0x1000);
        unsigned size = 1u << g_rand_int_range(rand, 0, 3);
        uint64_t value = g_rand_int(rand);
        uint64_t gpa = bases[i % 6] + (uint64_t)g_rand_int_range(rand, 0, 0x400) * 4;
        bus->port_write(bus->opaque, port, value, size);
        bus->port_read(bus->opaque, (uint16_t)(port ^ 1), size);
        bus->mmio_write(bus->opaque, i & 1, gpa, value, size);
        bus->mmio_read(bus->opaque, i & 1, gpa, size);
        config_write((uint32_t)g_rand_int_range(rand, 0, 256), value & 0xfc, g_rand_int(rand));
        bus->apic_msr_write(bus->opaque, 1, 0x800 + (value & 0x3f), value);
        bus->interrupt_ack(bus->opaque, i & 1);
    }
}

static void test_hostile(void)
{
    struct machine *m = machine_make();

    for (unsigned i = 0; i < 5; i++) {
        scramble(m, 20000);
        machine_reset(m);
    }
    machine_free(m);
}

static GBytes *file_bytes(const char *path)
{
    char *data;
    gsize size;

    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    return g_bytes_new_take(data, size);
}

static void test_save(void)
{
    struct machine *m = machine_make();
    g_autofree char *a = g_build_filename(g_get_tmp_dir(), "ringside-test-a.state", NULL);
    g_autofree char *b = g_build_filename(g_get_tmp_dir(), "ringside-test-b.state", NULL);
    g_autoptr(GBytes) first = NULL, second = NULL;
    GError *error = NULL;

    memset(m->ram + 0x5000, 0x5a, 0x3000);
    config_write(0x1f << 3, 0x40, 0x601);
    bus->port_write(bus->opaque, 0x21, 0x5a, 1);
    clock_set(m->clock, NS_PER_SECOND, 123456789); /* no multiple of any frequency */
    g_assert_true(machine_save(m, a, &error));
    machine_free(m);
    m = machine_make();
    g_assert_true(machine_restore(m, a, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(clock_now(m->clock), ==, NS_PER_SECOND);
    g_assert_cmpuint(clock_tsc(m->clock), ==, 123456789);
    g_assert_cmpint(machine_state(m), ==, MACHINE_PAUSED);
    g_assert_cmphex(m->ram[0x6000], ==, 0x5a);
    g_assert_true(machine_save(m, b, &error));
    machine_free(m);
    first = file_bytes(a);
    second = file_bytes(b);
    g_assert_true(g_bytes_equal(first, second));
    /* Cut off anywhere, it is refused and nothing breaks. */
    for (gsize n = 0; n < g_bytes_get_size(first); n += 997) {
        g_assert_true(g_file_set_contents(b, g_bytes_get_data(first, NULL), (gssize)n, NULL));
        m = n % (997 * 16) ? NULL : machine_make();
        if (m) {
            g_assert_false(machine_restore(m, b, NULL));
            machine_free(m);
        }
    }
    g_unlink(a);
    g_unlink(b);
}

static char *pvh_kernel(bool with_note)
{
    char *path = g_build_filename(g_get_tmp_dir(), "ringside-test-kernel", NULL);
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr load, note;
        uint32_t words[5];
    } file = {0};

    memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = ELFCLASS64;
    file.header.e_phoff = sizeof file.header;
    file.header.e_phnum = 2;
    file.load = (Elf64_Phdr){
        .p_type = PT_LOAD, .p_paddr = 0x200000, .p_filesz = sizeof file.header, .p_memsz = 0x2000};
    file.note = (Elf64_Phdr){.p_type = PT_NOTE,
                             .p_offset = offsetof(typeof(file), words),
                             .p_filesz = with_note ? sizeof file.words : 0};
    file.words[0] = 4;
    file.words[1] = 4;
    file.words[2] = 18;
    memcpy(&file.words[3], "Xen", 4);
    file.words[4] = 0x200123;
    g_assert_true(g_file_set_contents(path, (char *)&file, sizeof file, NULL));
    return path;
}

static void test_pvh(void)
{
    g_autofree char *path = pvh_kernel(true), *bad = NULL;
    struct machine_config config = {
        .memory_bytes = 64 << 20, .cpus = 1, .kernel = path, .append = "console=ttyS0"};
    GError *error = NULL;
    struct machine *m = machine_new(&config, &error);
    uint32_t magic;

    g_assert_no_error(error);
    g_assert_cmphex(cpus[0].rip, ==, 0x200123);
    memory_read(m->memory, cpus[0].gpr[CPU_RBX], &magic, 4);
    g_assert_cmphex(magic, ==, 0x336ec578);
    g_assert_cmpmem(m->ram + 0xe0000, 8, "RSD PTR ", 8);
    g_assert_cmphex(config_read(0x1f << 3, 0x40), ==, 0x601);
    machine_free(m);
    bad = pvh_kernel(false);
    g_assert_null(machine_new(&config, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
    g_clear_error(&error);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine/pam", test_pam);
    g_test_add_func("/machine/pci", test_pci);
    g_test_add_func("/machine/acpi", test_acpi);
    g_test_add_func("/machine/power", test_power);
    g_test_add_func("/machine/host_memory", test_host_memory);
    g_test_add_func("/machine/lacking_memory", test_lacking_memory);
    g_test_add_func("/machine/hostile", test_hostile);
    g_test_add_func("/machine/save", test_save);
    g_test_add_func("/machine/pvh", test_pvh);
    result = g_test_run();
    g_unlink(bios_path());
    return result;
}
