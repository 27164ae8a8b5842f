/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The firmware: finding SeaBIOS on the host, mapping it, and telling it about the machine through
 * fw_cfg.
 *
 * Descriptors in /usr/share/qemu/firmware are looked at first (their format:
 * docs/interop/firmware.json in QEMU): one that says "bios" names its file.
 */
#include <gio/gio.h>
#include <string.h>

#include "fw_cfg.h"
#include "machine_internal.h"

#define DESCRIPTORS "/usr/share/qemu/firmware"
#define BIOS_MIN    0x20000u
#define BIOS_MAX    0x1000000u

static const char *const rom_folders[] = {"/usr/share/seabios", "/usr/share/qemu",
                                          "/usr/share/vgabios", "/app/share/seabios",
                                          "/app/share/qemu"};

char *firmware_find_rom(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(rom_folders); i++) {
        g_autofree char *path = g_build_filename(rom_folders[i], name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

/* The file a descriptor names, when it describes a BIOS. The few keys wanted are found by pattern.
 */
static char *descriptor_bios(const char *text)
{
    g_autoptr(GRegex) types =
        g_regex_new("\"interface-types\"\\s*:\\s*\\[[^\\]]*\"bios\"", 0, 0, NULL);
    g_autoptr(GRegex) file = g_regex_new("\"filename\"\\s*:\\s*\"([^\"\\\\]+)\"", 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;

    if (!g_regex_match(types, text, 0, NULL) || !g_regex_match(file, text, 0, &match)) {
        return NULL;
    }
    return g_match_info_fetch(match, 1);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *find_described(void)
{
    g_autoptr(GDir) dir = g_dir_open(DESCRIPTORS, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ".json")) {
            g_ptr_array_add(names, g_build_filename(DESCRIPTORS, name, NULL));
        }
    }
    g_ptr_array_sort(names, compare_names);
    for (unsigned i = 0; i < names->len; i++) {
        g_autofree char *text = NULL, *path = NULL;
        if (g_file_get_contents(names->pdata[i], &text, NULL, NULL) &&
            (path = descriptor_bios(text)) && g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

static char *find_bios(const struct machine *m)
{
    char *path;

    if (m->config.firmware) {
        return g_strdup(m->config.firmware);
    }
    path = find_described();
    return path ? path : firmware_find_rom("bios-256k.bin");
}

static bool bios_map(struct machine *m, const char *bytes, gsize size, const char *path,
                     GError **error)
{
    struct mapping rom = {.kind = MAPPING_ROM, .priority = MEMORY_PRIORITY_DEVICE};

    if (size < BIOS_MIN || size > BIOS_MAX || size % GUEST_PAGE_SIZE) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "%s is no BIOS image: %" G_GSIZE_FORMAT
                    " bytes (128 KiB to 16 MiB expected); install the package seabios again",
                    path, size);
        return false;
    }
    m->bios = memory_alloc(m->memory, size, "bios");
    if (!m->bios) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE, "No room for the BIOS");
        return false;
    }
    memcpy(m->bios, bytes, size);
    m->bios_size = size;
    rom.gpa = MEMORY_4G - size;
    rom.size = size;
    rom.host = m->bios;
    return memory_map(m->memory, &rom) != 0;
}

static void vga_rom_load(struct machine *m)
{
    const char *name = machine_has_virtio_gpu(m) ? "vgabios-virtio.bin" : "vgabios-stdvga.bin";
    g_autofree char *path = firmware_find_rom(name);
    char *bytes;
    gsize size;

    if (path && g_file_get_contents(path, &bytes, &size, NULL)) {
        m->vga_rom = (uint8_t *)bytes;
        m->vga_rom_size = size;
    } else {
        device_log("firmware", "no %s: install the package seabios for a screen", name);
    }
}

bool firmware_load(struct machine *m, GError **error)
{
    g_autofree char *path = find_bios(m), *bytes = NULL;
    gsize size;

    if (!path) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                            "No BIOS was found on this host. Install the package seabios "
                            "(apt install seabios)");
        return false;
    }
    if (!g_file_get_contents(path, &bytes, &size, error)) {
        g_prefix_error(error, "The BIOS cannot be read (package seabios): ");
        return false;
    }
    vga_rom_load(m);
    return bios_map(m, bytes, size, path, error);
}

static void publish_u16(struct machine *m, uint16_t key, uint16_t value)
{
    value = GUINT16_TO_LE(value);
    fw_cfg_set_item(m->fw_cfg, key, &value, sizeof value);
}

static void publish_u64(struct machine *m, uint16_t key, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    fw_cfg_set_item(m->fw_cfg, key, &value, sizeof value);
}

static void publish_e820(struct machine *m)
{
    struct e820_entry entries[2] = {{0, m->low_memory, 1}, {MEMORY_4G, m->high_memory, 1}};

    fw_cfg_set_file(m->fw_cfg, "etc/e820", entries, sizeof entries[0] * (m->high_memory ? 2 : 1));
}

static void publish_acpi(struct machine *m)
{
    struct acpi_blobs blobs;

    acpi_build(m, &blobs);
    fw_cfg_set_file(m->fw_cfg, "etc/acpi/tables", blobs.tables->data, blobs.tables->len);
    fw_cfg_set_file(m->fw_cfg, "etc/acpi/rsdp", blobs.rsdp->data, blobs.rsdp->len);
    fw_cfg_set_file(m->fw_cfg, "etc/table-loader", blobs.loader->data, blobs.loader->len);
    acpi_blobs_clear(&blobs);
}

static void publish_smbios(struct machine *m)
{
    g_autoptr(GByteArray) tables = g_byte_array_new(), anchor = g_byte_array_new();

    smbios_build(m, tables, anchor);
    fw_cfg_set_file(m->fw_cfg, "etc/smbios/smbios-tables", tables->data, tables->len);
    fw_cfg_set_file(m->fw_cfg, "etc/smbios/smbios-anchor", anchor->data, anchor->len);
}

void firmware_publish(struct machine *m)
{

    publish_u64(m, FW_CFG_RAM_SIZE, m->config.memory_bytes);
    publish_u16(m, FW_CFG_NOGRAPHIC, 0);
    publish_u16(m, FW_CFG_NB_CPUS, (uint16_t)m->config.cpus);
    publish_u16(m, FW_CFG_MAX_CPUS, (uint16_t)m->config.cpus);
    publish_u16(m, FW_CFG_BOOT_MENU, 0);
    publish_e820(m);
    publish_acpi(m);
    publish_smbios(m);
}
