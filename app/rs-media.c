/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looks into installer images (see rs-media.h). */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <osinfo/osinfo.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rs-media.h"

#define VIRTIO_NET        "http://pcisig.com/pci/1af4/1041"
#define VIRTIO_GPU        "http://pcisig.com/pci/1af4/1050"
#define GIB               (UINT64_C(1) << 30)
#define SECTOR            2048u
#define DESCRIPTOR_SECTOR 16u /* ECMA-119 6.2.1 */
#define MAX_DESCRIPTORS   16u

RsMedia *rs_media_new(const char *path)
{
    RsMedia *media = g_new0(RsMedia, 1);

    media->path = g_strdup(path);
    media->bootable = true;
    media->memory_mib = 1024;
    media->disk_bytes = 20 * GIB;
    media->processors = 1;
    return media;
}

RsMedia *rs_media_copy(const RsMedia *media)
{
    RsMedia *copy = g_memdup2(media, sizeof *media);

    copy->path = g_strdup(media->path);
    copy->label = g_strdup(media->label);
    copy->os_id = g_strdup(media->os_id);
    copy->os_name = g_strdup(media->os_name);
    copy->family = g_strdup(media->family);
    return copy;
}

void rs_media_free(RsMedia *media)
{
    if (media) {
        g_free(media->path);
        g_free(media->label);
        g_free(media->os_id);
        g_free(media->os_name);
        g_free(media->family);
        g_free(media);
    }
}

static uint32_t le32(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Reads what the primary volume descriptor says; the volume's size in bytes. */
static uint64_t read_primary(RsMedia *media, const uint8_t *d)
{
    uint32_t block = d[128] | d[129] << 8;

    media->label = g_strchomp(g_strndup((const char *)d + 40, 32));
    if (!g_utf8_validate(media->label, -1, NULL)) {
        g_clear_pointer(&media->label, g_free);
    }
    return (uint64_t)le32(d + 80) * block;
}

/* Walks the volume descriptors. False: this is no disc image. */
static bool read_descriptors(RsMedia *media, int fd, uint64_t *volume)
{
    uint8_t d[SECTOR];
    bool known = false;

    media->bootable = false;
    for (unsigned i = 0; i < MAX_DESCRIPTORS; i++) {
        if (pread(fd, d, SECTOR, (off_t)(DESCRIPTOR_SECTOR + i) * SECTOR) != SECTOR) {
            break;
        }
        bool iso = !memcmp(d + 1, "CD001", 5), udf = !memcmp(d + 1, "BEA01", 5) ||
                                                     !memcmp(d + 1, "NSR02", 5) ||
                                                     !memcmp(d + 1, "NSR03", 5);
        if (!iso && !udf) {
            break;
        }
        if (iso && d[0] == 1) {
            *volume = read_primary(media, d);
        }
        media->bootable |= iso && d[0] == 0 && !memcmp(d + 7, "EL TORITO SPECIFICATION", 23);
        known = true;
    }
    return known;
}

static bool check_image(RsMedia *media, int fd, GError **error)
{
    g_autofree char *name = g_path_get_basename(media->path);
    uint64_t volume = 0;
    struct stat st;

    if (fstat(fd, &st) || S_ISDIR(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                    _("“%s” is a folder, not a disc image."), name);
        return false;
    }
    media->size = (uint64_t)st.st_size;
    if (!read_descriptors(media, fd, &volume)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("“%s” is not a disc image. Installers come as .iso files."), name);
        return false;
    }
    if (S_ISREG(st.st_mode) && volume > media->size) {
        g_autofree char *has = g_format_size(media->size);
        g_autofree char *needs = g_format_size(volume);
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT,
                    _("“%s” is incomplete: %s of %s. Download it again."), name, has, needs);
        return false;
    }
    return true;
}

/* Loading the database takes a second; it is kept. Called with the lock held. */
static OsinfoDb *database(void)
{
    static OsinfoDb *db;

    if (!db) {
        g_autoptr(OsinfoLoader) loader = osinfo_loader_new();
        osinfo_loader_process_default_path(loader, NULL);
        db = g_object_ref(osinfo_loader_get_db(loader));
    }
    return db;
}

/* The values for x86-64, or those for every architecture. */
static void apply_resources(RsMedia *media, OsinfoOs *os)
{
    g_autoptr(OsinfoResourcesList) list = osinfo_os_get_recommended_resources(os);

    for (int i = 0; i < osinfo_list_get_length(OSINFO_LIST(list)); i++) {
        OsinfoResources *r = OSINFO_RESOURCES(osinfo_list_get_nth(OSINFO_LIST(list), i));
        const char *arch = osinfo_resources_get_architecture(r);
        if (g_strcmp0(arch, "x86_64") && g_strcmp0(arch, "all")) {
            continue;
        }
        if (osinfo_resources_get_ram(r) > 0) {
            media->memory_mib = (uint64_t)osinfo_resources_get_ram(r) >> 20;
        }
        if (osinfo_resources_get_storage(r) > 0) {
            media->disk_bytes = (uint64_t)osinfo_resources_get_storage(r);
        }
        if (osinfo_resources_get_n_cpus(r) > 0) {
            media->processors = (unsigned)osinfo_resources_get_n_cpus(r);
        }
    }
}

/* Every installer ships the drivers that its system has. */
static bool has_device(OsinfoOs *os, const char *id)
{
    g_autoptr(OsinfoFilter) filter = osinfo_filter_new();

    osinfo_filter_add_constraint(filter, OSINFO_ENTITY_PROP_ID, id);
    g_autoptr(OsinfoDeviceList) list = osinfo_os_get_all_devices(os, filter);
    return osinfo_list_get_length(OSINFO_LIST(list)) > 0;
}

static void identify(RsMedia *media)
{
    static GMutex lock;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    g_autoptr(OsinfoMedia) found = osinfo_media_create_from_location(media->path, NULL, NULL);

    if (!found || !osinfo_db_identify_media(database(), found)) {
        return;
    }
    g_autoptr(OsinfoOs) os = osinfo_media_get_os(found);
    if (!os) {
        return;
    }
    media->os_id = g_strdup(osinfo_product_get_short_id(OSINFO_PRODUCT(os)));
    media->os_name = g_strdup(osinfo_product_get_name(OSINFO_PRODUCT(os)));
    media->family = g_strdup(osinfo_os_get_family(os));
    media->uefi = !g_strcmp0(media->os_id, "win11");
    /* Windows has entries for drivers that its installer does not bring. */
    bool complete = g_strcmp0(media->family, "winnt") != 0;
    media->virtio_net = complete && has_device(os, VIRTIO_NET);
    media->virtio_gpu = complete && has_device(os, VIRTIO_GPU);
    apply_resources(media, os);
}

static void detect_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    g_autoptr(RsMedia) media = rs_media_new(data);
    GError *error = NULL;
    int fd = open(media->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        g_autofree char *name = g_path_get_basename(media->path);
        g_task_return_new_error(task, G_IO_ERROR, (int)g_io_error_from_errno(errno),
                                _("“%s” cannot be read: %s."), name, g_strerror(errno));
        return;
    }
    bool good = check_image(media, fd, &error);
    close(fd);
    if (!good) {
        g_task_return_error(task, error);
        return;
    }
    identify(media);
    g_task_return_pointer(task, g_steal_pointer(&media), (GDestroyNotify)rs_media_free);
}

void rs_media_detect_async(const char *path, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, data);

    g_task_set_task_data(task, g_strdup(path), g_free);
    g_task_run_in_thread(task, detect_in_thread);
}

RsMedia *rs_media_detect_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
