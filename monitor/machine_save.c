/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State files: a paused machine on disk.
 *
 *   8 bytes   "RNGSTATE"
 *   u32       2: version of this layout
 *   u32       unpacked length of the GVariant
 *   then one zstd frame with checksum, which holds
 *     the GVariant a{s(ua{sv})}, little-endian, normal form: "machine", "cpu.N" and the rows of the
 *     machine table
 *     runs of pool pages that are not all zero: u64 first page, u64 pages, the pages; the end is a
 *     run of 0 pages
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
#include <zstd.h>

#include "lapic.h"
#include "lock.h"
#include "machine_internal.h"

#define MAGIC         "RNGSTATE"
#define LAYOUT        2u
#define MACHINE_STATE 2u /* 1: without the TSC */
#define VARIANT_MAX   (384u << 20) /* a virtio GPU has up to 256 MiB of pictures */
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
    uint64_t now = clock_now(m->clock), tsc = clock_tsc(m->clock);
    uint32_t cpus = m->config.cpus;

    state_u64(s, "memory", &memory);
    state_u64(s, "pool", &pool);
    state_u32(s, "cpus", &cpus);
    state_u64(s, "clock", &now);
    if (!state_restoring(s) || state_version(s) >= 2) {
        state_u64(s, "tsc", &tsc);
    } else {
        tsc = (uint64_t)((unsigned __int128)now * clock_tsc_khz(m->clock) / 1000000);
    }
    if (!state_restoring(s) || state_failed(s)) {
        return;
    }
    if (memory != m->config.memory_bytes || pool != memory_pool_size(m->memory) ||
        cpus != m->config.cpus) {
        state_fail(s, "memory", "does not fit this machine's settings");
        return;
    }
    clock_set(m->clock, now, tsc);
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
        struct state *s = state_begin_save(CPU_STATE_VERSION);
        m->engine_ops->get_state(m->engine, i, cpu);
        cpu_state_describe(cpu, s);
        add_entry(all, name, s);
    }
    g_aligned_free(cpu);
}

static GVariant *state_collect(struct machine *m)
{
    GVariantBuilder all;
    struct state *s = state_begin_save(MACHINE_STATE);

    g_variant_builder_init(&all, VARIANT_TYPE);
    machine_describe(m, s);
    add_entry(&all, "machine", s);
    cpus_collect(m, &all);
    machine_apics_from_engine(m);
    for (unsigned i = 0; i < machine_table_rows; i++) {
        const struct machine_row *row = &machine_table[i];
        if (m->device[i]) {
            s = state_begin_save(row->class->version);
            row->class->state(m->device[i], s);
            add_entry(&all, row->name, s);
        }
    }
    if (m->engine_ops->apic) {
        lapic_rest(m->lapic);
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

/* A stream of the state file: the head goes out as it is, the rest through zstd. */
struct packer {
    FILE *file;
    ZSTD_CStream *zstd;
    uint8_t out[64 << 10];
};

static bool packer_put(struct packer *p, const void *bytes, size_t len, ZSTD_EndDirective end)
{
    ZSTD_inBuffer in = {bytes, len, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {p->out, sizeof p->out, 0};
        left = ZSTD_compressStream2(p->zstd, &out, &in, end);
        if (ZSTD_isError(left)) {
            errno = ENOMEM;
            return false;
        }
        if (out.pos && fwrite(p->out, out.pos, 1, p->file) != 1) {
            return false;
        }
    } while (in.pos < in.size || (end == ZSTD_e_end && left));
    return true;
}

static bool run_write(struct packer *p, uint64_t first, uint64_t count, const uint8_t *pages)
{
    uint64_t head[2] = {GUINT64_TO_LE(first), GUINT64_TO_LE(count)};

    return packer_put(p, head, sizeof head, ZSTD_e_continue) &&
           (!count || packer_put(p, pages, count << GUEST_PAGE_SHIFT, ZSTD_e_continue));
}

/* The runs in pages [page, end). */
static bool range_write(struct packer *p, const uint8_t *base, uint64_t page, uint64_t end)
{
    while (page < end) {
        uint64_t first = page;
        while (page < end && !page_is_zero(base + (page << GUEST_PAGE_SHIFT))) {
            page++;
        }
        if (page > first &&
            !run_write(p, first, page - first, base + (first << GUEST_PAGE_SHIFT))) {
            return false;
        }
        page += page == first;
    }
    return true;
}

/* Pages that nobody has touched are holes in the memfd; reading them here would fill them. */
static bool pages_write(struct machine *m, struct packer *p)
{
    const uint8_t *base = memory_pool_base(m->memory);
    int fd = memory_pool_fd(m->memory);
    off_t end = (off_t)memory_pool_size(m->memory), at = 0;

    while (at < end) {
        off_t data = lseek(fd, at, SEEK_DATA), hole;
        if (data < 0 && errno == ENXIO) {
            break;
        }
        data = data < 0 ? at : data;
        hole = data < end ? lseek(fd, data, SEEK_HOLE) : end;
        hole = hole < 0 || hole > end ? end : hole;
        if (!range_write(p, base, (uint64_t)data >> GUEST_PAGE_SHIFT,
                         (uint64_t)(hole + GUEST_PAGE_SIZE - 1) >> GUEST_PAGE_SHIFT)) {
            return false;
        }
        at = hole > data ? hole : end;
    }
    return run_write(p, 0, 0, NULL) && packer_put(p, NULL, 0, ZSTD_e_end);
}

static bool packed_write(struct machine *m, GVariant *all, FILE *file)
{
    struct packer *p = g_new0(struct packer, 1);
    bool ok;

    p->file = file;
    p->zstd = ZSTD_createCStream();
    ok = p->zstd && !ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, 1)) &&
         !ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1)) &&
         packer_put(p, g_variant_get_data(all), g_variant_get_size(all), ZSTD_e_continue) &&
         pages_write(m, p);
    ZSTD_freeCStream(p->zstd);
    g_free(p);
    return ok;
}

static bool file_write(struct machine *m, FILE *file)
{
    g_autoptr(GVariant) all = state_collect(m);
    uint32_t head[2] = {GUINT32_TO_LE(LAYOUT), GUINT32_TO_LE((uint32_t)g_variant_get_size(all))};

    return fwrite(MAGIC, 8, 1, file) == 1 && fwrite(head, sizeof head, 1, file) == 1 &&
           packed_write(m, all, file) && fflush(file) == 0 && fsync(fileno(file)) == 0;
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

/* The way back. `unpacker_get` fails at the end of the file, on damage and when the checksum is
 * wrong. */
struct unpacker {
    FILE *file;
    ZSTD_DStream *zstd;
    ZSTD_inBuffer in;
    size_t left; /* 0: the frame has ended and its checksum was right */
    uint8_t buffer[64 << 10];
};

static struct unpacker *unpacker_new(FILE *file)
{
    struct unpacker *u = g_new0(struct unpacker, 1);

    u->file = file;
    u->zstd = ZSTD_createDStream();
    u->in.src = u->buffer;
    u->left = 1;
    return u;
}

static void unpacker_free(struct unpacker *u)
{
    ZSTD_freeDStream(u->zstd);
    g_free(u);
}

static bool unpacker_get(struct unpacker *u, void *bytes, size_t len)
{
    ZSTD_outBuffer out = {bytes, len, 0};

    while (out.pos < out.size) {
        size_t before = out.pos;
        if (u->left == 0) {
            return false;
        }
        if (u->in.pos == u->in.size) {
            u->in.size = fread(u->buffer, 1, sizeof u->buffer, u->file);
            u->in.pos = 0;
        }
        u->left = ZSTD_decompressStream(u->zstd, &out, &u->in);
        if (ZSTD_isError(u->left) || (out.pos == before && u->in.size == 0)) {
            return false;
        }
    }
    return true;
}

/* Nothing may follow, and the checksum must be right. */
static bool unpacker_end(struct unpacker *u)
{
    uint8_t more;

    return !unpacker_get(u, &more, 1) && u->left == 0;
}

static GVariant *variant_read(struct unpacker *u, uint32_t size, const char *path, GError **error)
{
    g_autofree uint8_t *bytes = size && size <= VARIANT_MAX ? g_try_malloc(size) : NULL;
    g_autoptr(GVariant) raw = NULL;
    uint8_t *kept = bytes;

    if (!bytes || !unpacker_get(u, bytes, size)) {
        damaged(path, "it is cut off or damaged", error);
        return NULL;
    }
    bytes = NULL;
    raw =
        g_variant_ref_sink(g_variant_new_from_data(VARIANT_TYPE, kept, size, FALSE, g_free, kept));
    return g_variant_get_normal_form(raw);
}

static void pool_clear(struct machine *m)
{
    uint64_t size = memory_pool_size(m->memory);

    if (fallocate(memory_pool_fd(m->memory), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                  (off_t)size) < 0) {
        memset(memory_pool_base(m->memory), 0, size);
    }
}

static bool pages_read(struct machine *m, struct unpacker *u, const char *path, GError **error)
{
    uint8_t *base = memory_pool_base(m->memory);
    uint64_t pages = memory_pool_size(m->memory) >> GUEST_PAGE_SHIFT, head[2];

    pool_clear(m);
    for (;;) {
        uint64_t first, count;
        if (!unpacker_get(u, head, sizeof head)) {
            return damaged(path, "its memory image is cut off or damaged", error);
        }
        first = GUINT64_FROM_LE(head[0]);
        count = GUINT64_FROM_LE(head[1]);
        if (!count) {
            break;
        }
        if (first >= pages || count > pages - first ||
            !unpacker_get(u, base + (first << GUEST_PAGE_SHIFT), count << GUEST_PAGE_SHIFT)) {
            return damaged(path, "its memory image is damaged", error);
        }
    }
    memory_wrote(m->memory, base, pages << GUEST_PAGE_SHIFT);
    return unpacker_end(u) || damaged(path, "its checksum is wrong", error);
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

/* The settings have changed since: a device is new. */
static bool other_devices(const char *name, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "The machine was suspended without the device %s, which its settings give it now. "
                "Set them back to what they were",
                name);
    return false;
}

static bool devices_apply(struct machine *m, GVariant *all, GError **error)
{
    for (unsigned i = 0; i < machine_table_rows; i++) {
        const struct machine_row *row = &machine_table[i];
        struct state *s;
        if (!m->device[i]) {
            continue;
        }
        g_autoptr(GVariant) entry = g_variant_lookup_value(all, row->name, NULL);
        if (!entry) {
            return other_devices(row->name, error);
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

static bool head_read(FILE *file, uint32_t *size, const char *path, GError **error)
{
    char magic[8];
    uint32_t head[2];

    if (fread(magic, 8, 1, file) != 1 || fread(head, sizeof head, 1, file) != 1 ||
        memcmp(magic, MAGIC, 8) != 0 || GUINT32_FROM_LE(head[0]) != LAYOUT) {
        return damaged(path, "it is no state file of this version of Ringside", error);
    }
    *size = GUINT32_FROM_LE(head[1]);
    return true;
}

static bool restore_unpacked(struct machine *m, struct unpacker *u, uint32_t size, const char *path,
                             GError **error)
{
    g_autoptr(GVariant) all = variant_read(u, size, path, error);
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
    return pages_read(m, u, path, error) && devices_apply(m, all, error) &&
           cpus_apply(m, all, error) && machine_apics_to_engine(m, error);
}

static bool restore_locked(struct machine *m, FILE *file, const char *path, GError **error)
{
    struct unpacker *u;
    uint32_t size;
    bool ok;

    if (!head_read(file, &size, path, error)) {
        return false;
    }
    u = unpacker_new(file);
    ok = restore_unpacked(m, u, size, path, error);
    unpacker_free(u);
    return ok;
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
