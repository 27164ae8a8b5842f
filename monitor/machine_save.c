/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State files: a paused machine on disk.
 *
 *   8 bytes   "RNGSTATE"
 *   u32       1: version of this layout
 *   u32       length of the GVariant that follows (a{s(ua{sv})}, little-endian, normal form)
 *   ...       the GVariant: "machine", "cpu.N" and the rows of the machine table
 *   then runs of pool pages that are not all zero: u64 first page, u64 pages, the pages; ended by
 * pages = 0
 *
 * All integers little-endian. A file may be damaged or hostile: everything is checked against this
 * machine before use.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lock.h"
#include "machine_internal.h"

#define MAGIC         "RNGSTATE"
#define LAYOUT        1u
#define VARIANT_MAX   (64u << 20)
#define VARIANT_TYPE  G_VARIANT_TYPE("a{s(ua{sv})}")
#define BUSY_TIME_OUT (30 * G_USEC_PER_SEC)

static bool save_fail(const char *path, const char *what, GError **error)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s: %s", path, what,
                g_strerror(errno));
    return false;
}

static bool damaged(const char *path, const char *what, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s cannot be used: %s", path, what);
    return false;
}

/* The configuration that the state only fits to. */
static void machine_describe(struct machine *m, struct state *s)
{
    uint64_t memory = m->config.memory_bytes, pool = memory_pool_size(m->memory);
    uint64_t now = clock_now(m->clock);
    uint32_t cpus = m->config.cpus;

    state_u64(s, "memory", &memory);
    state_u64(s, "pool", &pool);
    state_u32(s, "cpus", &cpus);
    state_u64(s, "clock", &now);
    if (!state_restoring(s) || state_failed(s)) {
        return;
    }
    if (memory != m->config.memory_bytes || pool != memory_pool_size(m->memory) ||
        cpus != m->config.cpus) {
        state_fail(s, "memory", "does not fit this machine's settings");
        return;
    }
    clock_set(m->clock, now);
}

static void add_entry(GVariantBuilder *all, const char *name, struct state *s)
{
    g_variant_builder_add(all, "{s@(ua{sv})}", name, state_end_save(s));
}

static void cpus_collect(struct machine *m, GVariantBuilder *all)
{
    struct cpu_state *cpu = g_aligned_alloc0(1, sizeof *cpu, 64);

    for (unsigned i = 0; i < m->config.cpus; i++) {
        g_autofree char *name = g_strdup_printf("cpu.%u", i);
        struct state *s = state_begin_save(1);
        m->engine_ops->get_state(m->engine, i, cpu);
        cpu_state_describe(cpu, s);
        add_entry(all, name, s);
    }
    g_aligned_free(cpu);
}

static GVariant *state_collect(struct machine *m)
{
    GVariantBuilder all;
    struct state *s = state_begin_save(1);

    g_variant_builder_init(&all, VARIANT_TYPE);
    machine_describe(m, s);
    add_entry(&all, "machine", s);
    cpus_collect(m, &all);
    for (unsigned i = 0; i < machine_table_rows; i++) {
        const struct machine_row *row = &machine_table[i];
        if (m->device[i]) {
            s = state_begin_save(row->class->version);
            row->class->state(m->device[i], s);
            add_entry(&all, row->name, s);
        }
    }
    return g_variant_ref_sink(g_variant_builder_end(&all));
}

static bool page_is_zero(const uint8_t *page)
{
    const uint64_t *words = (const uint64_t *)page;

    for (unsigned i = 0; i < GUEST_PAGE_SIZE / 8; i++) {
        if (words[i]) {
            return false;
        }
    }
    return true;
}

static bool run_write(FILE *file, uint64_t first, uint64_t count, const uint8_t *pages)
{
    uint64_t head[2] = {GUINT64_TO_LE(first), GUINT64_TO_LE(count)};

    return fwrite(head, sizeof head, 1, file) == 1 &&
           (!count || fwrite(pages, GUEST_PAGE_SIZE, count, file) == count);
}

static bool pages_write(struct machine *m, FILE *file)
{
    const uint8_t *base = memory_pool_base(m->memory);
    uint64_t pages = memory_pool_size(m->memory) >> GUEST_PAGE_SHIFT, page = 0;

    while (page < pages) {
        uint64_t first = page;
        while (page < pages && !page_is_zero(base + (page << GUEST_PAGE_SHIFT))) {
            page++;
        }
        if (page > first &&
            !run_write(file, first, page - first, base + (first << GUEST_PAGE_SHIFT))) {
            return false;
        }
        page += page == first;
    }
    return run_write(file, 0, 0, NULL);
}

static bool file_write(struct machine *m, FILE *file)
{
    g_autoptr(GVariant) all = state_collect(m);
    uint32_t head[2] = {GUINT32_TO_LE(LAYOUT), GUINT32_TO_LE((uint32_t)g_variant_get_size(all))};

    return fwrite(MAGIC, 8, 1, file) == 1 && fwrite(head, sizeof head, 1, file) == 1 &&
           fwrite(g_variant_get_data(all), g_variant_get_size(all), 1, file) == 1 &&
           pages_write(m, file) && fflush(file) == 0 && fsync(fileno(file)) == 0;
}

static void folder_sync(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static bool any_busy(struct machine *m)
{
    for (unsigned i = 0; i < machine_table_rows; i++) {
        if (m->device[i] && machine_table[i].class->busy &&
            machine_table[i].class->busy(m->device[i])) {
            return true;
        }
    }
    return false;
}

/* Runs the main loop until devices have finished what they are at. Lock held once. */
static bool wait_idle(struct machine *m, GError **error)
{
    gint64 end = g_get_monotonic_time() + BUSY_TIME_OUT;

    while (any_busy(m)) {
        if (g_get_monotonic_time() > end) {
            g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                "The machine's disks do not become idle");
            return false;
        }
        machine_unlock();
        g_main_context_iteration(NULL, FALSE);
        g_usleep(500);
        machine_lock();
    }
    return true;
}

static bool save_locked(struct machine *m, const char *path, GError **error)
{
    g_autofree char *aside = g_strconcat(path, ".new", NULL);
    FILE *file;
    bool ok;

    if (!wait_idle(m, error)) {
        return false;
    }
    file = fopen(aside, "we");
    if (!file) {
        return save_fail(aside, "cannot be created", error);
    }
    ok = file_write(m, file);
    if (!ok) {
        save_fail(aside, "cannot be written", error);
    }
    fclose(file);
    if (ok && rename(aside, path) < 0) {
        ok = save_fail(path, "cannot be replaced", error);
    }
    if (ok) {
        folder_sync(path);
    } else {
        unlink(aside);
    }
    return ok;
}

bool machine_save(struct machine *m, const char *path, GError **error)
{
    bool ok;

    machine_pause(m);
    machine_lock();
    ok = save_locked(m, path, error);
    machine_unlock();
    return ok;
}

static GVariant *variant_read(FILE *file, const char *path, GError **error)
{
    char magic[8];
    uint32_t head[2], size;
    g_autofree uint8_t *bytes = NULL;
    g_autoptr(GVariant) raw = NULL;

    if (fread(magic, 8, 1, file) != 1 || fread(head, sizeof head, 1, file) != 1 ||
        memcmp(magic, MAGIC, 8) != 0 || GUINT32_FROM_LE(head[0]) != LAYOUT) {
        damaged(path, "it is no state file of this version", error);
        return NULL;
    }
    size = GUINT32_FROM_LE(head[1]);
    bytes = size && size <= VARIANT_MAX ? g_try_malloc(size) : NULL;
    if (!bytes || fread(bytes, size, 1, file) != 1) {
        damaged(path, "it is cut off", error);
        return NULL;
    }
    raw = g_variant_ref_sink(
        g_variant_new_from_data(VARIANT_TYPE, bytes, size, FALSE, g_free, bytes));
    bytes = NULL;
    return g_variant_get_normal_form(raw);
}

static bool pages_read(struct machine *m, FILE *file, const char *path, GError **error)
{
    uint8_t *base = memory_pool_base(m->memory);
    uint64_t pages = memory_pool_size(m->memory) >> GUEST_PAGE_SHIFT, head[2];

    memset(base, 0, pages << GUEST_PAGE_SHIFT);
    for (;;) {
        uint64_t first, count;
        if (fread(head, sizeof head, 1, file) != 1) {
            return damaged(path, "its memory image is cut off", error);
        }
        first = GUINT64_FROM_LE(head[0]);
        count = GUINT64_FROM_LE(head[1]);
        if (!count) {
            break;
        }
        if (first >= pages || count > pages - first ||
            fread(base + (first << GUEST_PAGE_SHIFT), GUEST_PAGE_SIZE, count, file) != count) {
            return damaged(path, "its memory image is damaged", error);
        }
    }
    memory_wrote(m->memory, base, pages << GUEST_PAGE_SHIFT);
    return true;
}

static struct state *entry_begin(GVariant *all, const char *name)
{
    g_autoptr(GVariant) entry = g_variant_lookup_value(all, name, G_VARIANT_TYPE("(ua{sv})"));

    return state_begin_restore(entry);
}

static bool cpus_apply(struct machine *m, GVariant *all, GError **error)
{
    struct cpu_state *cpu = g_aligned_alloc0(1, sizeof *cpu, 64);
    bool ok = true;

    for (unsigned i = 0; ok && i < m->config.cpus; i++) {
        g_autofree char *name = g_strdup_printf("cpu.%u", i);
        struct state *s = entry_begin(all, name);
        cpu_state_describe(cpu, s);
        ok =
            state_end_restore(s, name, error) && m->engine_ops->set_state(m->engine, i, cpu, error);
    }
    g_aligned_free(cpu);
    return ok;
}

static bool devices_apply(struct machine *m, GVariant *all, GError **error)
{
    for (unsigned i = 0; i < machine_table_rows; i++) {
        const struct machine_row *row = &machine_table[i];
        struct state *s;
        if (!m->device[i]) {
            continue;
        }
        s = entry_begin(all, row->name);
        row->class->state(m->device[i], s);
        if (!state_end_restore(s, row->name, error)) {
            return false;
        }
    }
    for (unsigned i = 0; i < machine_table_rows; i++) {
        const struct machine_row *row = &machine_table[i];
        if (m->device[i] && row->class->restored && !row->class->restored(m->device[i], error)) {
            return false;
        }
    }
    return true;
}

static bool restore_locked(struct machine *m, FILE *file, const char *path, GError **error)
{
    g_autoptr(GVariant) all = variant_read(file, path, error);
    struct state *s;

    if (!all) {
        return false;
    }
    s = entry_begin(all, "machine");
    machine_describe(m, s);
    if (!state_end_restore(s, "the machine", error)) {
        return false;
    }
    machine_reset_devices(m);
    return pages_read(m, file, path, error) && devices_apply(m, all, error) &&
           cpus_apply(m, all, error);
}

bool machine_restore(struct machine *m, const char *path, GError **error)
{
    FILE *file;
    bool ok;

    if (m->state != MACHINE_OFF) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_BUSY, "The machine is on already");
        return false;
    }
    file = fopen(path, "re");
    if (!file) {
        return save_fail(path, "cannot be read", error);
    }
    machine_lock();
    ok = restore_locked(m, file, path, error);
    machine_unlock();
    fclose(file);
    if (ok) {
        m->state = MACHINE_PAUSED;
        if (m->listener.state_changed) {
            m->listener.state_changed(m->listener.opaque, m->state);
        }
    }
    return ok;
}
