/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables (ACPI 6.4 chapter 5; HPET 1.0a; MCFG: PCI Firmware 3.0; WAET: Microsoft) and the
 * linker script that goes with them: QEMU's docs/specs/acpi_hest_ghes and bios-linker-loader:
 * 128-byte commands.
 */
#include <string.h>

#include "machine_internal.h"

#include "dsdt.hex"

#define TABLES_FILE "etc/acpi/tables"
#define RSDP_FILE   "etc/acpi/rsdp"
#define FILE_NAME   56u

enum { LINK_ALLOCATE = 1, LINK_POINTER, LINK_CHECKSUM };
enum { ZONE_HIGH = 1, ZONE_FSEG };

struct link_command {
    uint32_t command;
    union {
        struct {
            char file[FILE_NAME];
            uint32_t align;
            uint8_t zone;
        } __attribute__((packed)) allocate;
        struct {
            char file[FILE_NAME], source[FILE_NAME];
            uint32_t offset;
            uint8_t size;
        } __attribute__((packed)) pointer;
        struct {
            char file[FILE_NAME];
            uint32_t offset, start, length;
        } __attribute__((packed)) checksum;
        uint8_t pad[124];
    };
} __attribute__((packed));

G_STATIC_ASSERT(sizeof(struct link_command) == 128);

static void append(GByteArray *a, const void *bytes, size_t size)
{
    g_byte_array_append(a, bytes, (guint)size);
}

static void append_int(GByteArray *a, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    append(a, &value, size);
}

static void append_zeros(GByteArray *a, unsigned size)
{
    static const uint8_t zeros[64];

    append(a, zeros, MIN(size, sizeof zeros));
}

static void link_allocate(struct acpi_blobs *b, const char *file, uint32_t align, uint8_t zone)
{
    struct link_command c = {.command = GUINT32_TO_LE(LINK_ALLOCATE)};

    g_strlcpy(c.allocate.file, file, FILE_NAME);
    c.allocate.align = GUINT32_TO_LE(align);
    c.allocate.zone = zone;
    append(b->loader, &c, sizeof c);
}

/* The field of `size` bytes at `offset` of `file` is an offset into the tables so far. */
static void link_pointer(struct acpi_blobs *b, const char *file, uint32_t offset, uint8_t size)
{
    struct link_command c = {.command = GUINT32_TO_LE(LINK_POINTER)};

    g_strlcpy(c.pointer.file, file, FILE_NAME);
    g_strlcpy(c.pointer.source, TABLES_FILE, FILE_NAME);
    c.pointer.offset = GUINT32_TO_LE(offset);
    c.pointer.size = size;
    append(b->loader, &c, sizeof c);
}

static void link_checksum(struct acpi_blobs *b, const char *file, uint32_t offset, uint32_t start,
                          uint32_t length)
{
    struct link_command c = {.command = GUINT32_TO_LE(LINK_CHECKSUM)};

    g_strlcpy(c.checksum.file, file, FILE_NAME);
    c.checksum.offset = GUINT32_TO_LE(offset);
    c.checksum.start = GUINT32_TO_LE(start);
    c.checksum.length = GUINT32_TO_LE(length);
    append(b->loader, &c, sizeof c);
}

/* A table begins: its header with length and checksum to come. Returns its offset. */
static uint32_t table_begin(struct acpi_blobs *b, const char *signature, uint8_t revision)
{
    uint32_t at;

    append_zeros(b->tables, -b->tables->len & 15);
    at = b->tables->len;
    append(b->tables, signature, 4);
    append_int(b->tables, 0, 4);
    append_int(b->tables, revision, 1);
    append_int(b->tables, 0, 1);
    append(b->tables, "RNGSDE", 6);
    append(b->tables, "RINGSIDE", 8);
    append_int(b->tables, 1, 4);
    append(b->tables, "RNGS", 4);
    append_int(b->tables, 1, 4);
    return at;
}

static void table_end(struct acpi_blobs *b, uint32_t at)
{
    uint32_t length = b->tables->len - at, le = GUINT32_TO_LE(length);

    memcpy(b->tables->data + at + 4, &le, 4);
    link_checksum(b, TABLES_FILE, at + 9, at, length);
}

/* A pointer inside the tables to offset `to`. */
static void append_pointer(struct acpi_blobs *b, uint32_t to, uint8_t size)
{
    uint32_t at = b->tables->len;

    append_int(b->tables, to, size);
    link_pointer(b, TABLES_FILE, at, size);
}

static uint32_t facs_build(struct acpi_blobs *b)
{
    uint32_t at;

    append_zeros(b->tables, -b->tables->len & 63);
    at = b->tables->len;
    append(b->tables, "FACS", 4);
    append_int(b->tables, 64, 4);
    append_zeros(b->tables, 56);
    return at;
}

/* Name (NCPU, 0x20) is 08 'NCPU' 0A 20 in AML. */
static uint32_t dsdt_build(const struct machine *m, struct acpi_blobs *b)
{
    static const uint8_t pattern[] = {0x08, 'N', 'C', 'P', 'U', 0x0a};
    uint32_t at;
    uint8_t *found;

    append_zeros(b->tables, -b->tables->len & 15);
    at = b->tables->len;
    append(b->tables, dsdt_aml_code, sizeof dsdt_aml_code);
    found = memmem(b->tables->data + at, sizeof dsdt_aml_code, pattern, sizeof pattern);
    if (found) {
        found[sizeof pattern] = (uint8_t)m->config.cpus;
    }
    b->tables->data[at + 9] = 0;
    link_checksum(b, TABLES_FILE, at + 9, at, sizeof dsdt_aml_code);
    return at;
}

static void append_gas(struct acpi_blobs *b, uint8_t bits, uint8_t access, uint64_t address)
{
    append_int(b->tables, address ? 1 : 0, 1); /* system I/O */
    append_int(b->tables, bits, 1);
    append_int(b->tables, 0, 1);
    append_int(b->tables, access, 1);
    append_int(b->tables, address, 8);
}

/* Bytes 46 to 115 of the FADT: the ACPI 1.0 part. */
static void fadt_legacy(struct acpi_blobs *b)
{
    static const struct {
        uint32_t value;
        uint8_t size;
    } fields[] = {
        {9, 2},            /* SCI_INT */
        {0xb2, 4},         /* SMI_CMD */
        {2, 1},            /* ACPI_ENABLE */
        {3, 1},            /* ACPI_DISABLE */
        {0, 2},            /* S4BIOS_REQ, PSTATE_CNT */
        {PM_BASE, 4},      /* PM1a_EVT_BLK */
        {0, 4},            /* PM1b_EVT_BLK */
        {PM_BASE + 4, 4},  /* PM1a_CNT_BLK */
        {0, 8},            /* PM1b_CNT_BLK, PM2_CNT_BLK */
        {PM_BASE + 8, 4},  /* PM_TMR_BLK */
        {PM_BASE + 32, 4}, /* GPE0_BLK */
        {0, 4},            /* GPE1_BLK */
        {4, 1},            /* PM1_EVT_LEN */
        {2, 1},            /* PM1_CNT_LEN */
        {0, 1},            /* PM2_CNT_LEN */
        {4, 1},            /* PM_TMR_LEN */
        {16, 1},           /* GPE0_BLK_LEN */
        {0, 3},            /* GPE1_BLK_LEN, GPE1_BASE, CST_CNT */
        {0xfff, 2},        /* P_LVL2_LAT: no C2 */
        {0xfff, 2},        /* P_LVL3_LAT: no C3 */
        {0, 4},            /* FLUSH_SIZE, FLUSH_STRIDE */
        {0, 4},            /* DUTY_OFFSET, DUTY_WIDTH, DAY_ALRM, MON_ALRM */
        {0x32, 1},         /* CENTURY */
        {0x0003, 2},       /* IAPC_BOOT_ARCH: legacy devices, 8042 */
        {0, 1},            /* reserved */
        {0x04a5, 4},       /* WBINVD, PROC_C1, no sleep button, S4 RTC wake, RESET_REG_SUP */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        append_int(b->tables, fields[i].value, fields[i].size);
    }
}

static uint32_t fadt_build(struct acpi_blobs *b, uint32_t facs, uint32_t dsdt)
{
    uint32_t at = table_begin(b, "FACP", 3);

    append_pointer(b, facs, 4);
    append_pointer(b, dsdt, 4);
    append_int(b->tables, 0, 1); /* reserved */
    append_int(b->tables, 1, 1); /* Preferred_PM_Profile: desktop */
    fadt_legacy(b);
    append_gas(b, 8, 1, 0xcf9); /* RESET_REG */
    append_int(b->tables, 6, 1);
    append_int(b->tables, 0, 3);
    append_int(b->tables, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit one counts */
    append_pointer(b, dsdt, 8);
    append_gas(b, 32, 0, PM_BASE);
    append_gas(b, 0, 0, 0);
    append_gas(b, 16, 0, PM_BASE + 4);
    append_gas(b, 0, 0, 0);
    append_gas(b, 0, 0, 0);
    append_gas(b, 32, 0, PM_BASE + 8);
    append_gas(b, 128, 0, PM_BASE + 32);
    append_gas(b, 0, 0, 0);
    table_end(b, at);
    return at;
}

static void madt_override(struct acpi_blobs *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    append_int(b->tables, 2 | 10 << 8, 2);
    append_int(b->tables, 0, 1);
    append_int(b->tables, irq, 1);
    append_int(b->tables, gsi, 4);
    append_int(b->tables, flags, 2);
}

static uint32_t madt_build(const struct machine *m, struct acpi_blobs *b)
{
    uint32_t at = table_begin(b, "APIC", 1);

    append_int(b->tables, 0xfee00000u, 4);
    append_int(b->tables, 1, 4); /* PCAT_COMPAT: 8259s are there */
    for (unsigned i = 0; i < m->config.cpus; i++) {
        append_int(b->tables, 0 | 8 << 8 | i << 16 | i << 24, 4);
        append_int(b->tables, 1, 4);
    }
    append_int(b->tables, 1 | 12 << 8, 2); /* IO-APIC, ID 0 */
    append_int(b->tables, 0, 2);
    append_int(b->tables, 0xfec00000u, 4);
    append_int(b->tables, 0, 4);
    madt_override(b, 0, 2, 0);
    madt_override(b, 9, 9, 0x0d);                      /* SCI: level, high */
    append_int(b->tables, 4 | 6 << 8 | 0xff << 16, 3); /* NMI: all CPUs, LINT1 */
    append_int(b->tables, 0, 2);
    append_int(b->tables, 1, 1);
    table_end(b, at);
    return at;
}

static uint32_t hpet_build(struct acpi_blobs *b)
{
    uint32_t at = table_begin(b, "HPET", 1);

    append_int(b->tables, 0x8086a201u, 4);
    append_int(b->tables, 0x4000, 4); /* GAS: memory, 64 bits */
    append_int(b->tables, 0xfed00000u, 8);
    append_int(b->tables, 0, 4);
    table_end(b, at);
    return at;
}

static uint32_t mcfg_build(struct acpi_blobs *b)
{
    uint32_t at = table_begin(b, "MCFG", 1);

    append_int(b->tables, 0, 8);
    append_int(b->tables, ECAM_BASE, 8);
    append_int(b->tables, 0xff000000u, 4); /* segment 0, buses 0-255 */
    append_int(b->tables, 0, 4);
    table_end(b, at);
    return at;
}

static uint32_t waet_build(struct acpi_blobs *b)
{
    uint32_t at = table_begin(b, "WAET", 1);

    append_int(b->tables, 2, 4); /* one read of the PM timer will do */
    table_end(b, at);
    return at;
}

static uint32_t root_build(struct acpi_blobs *b, const char *signature, uint8_t size,
                           const uint32_t *tables, unsigned count)
{
    uint32_t at = table_begin(b, signature, 1);

    for (unsigned i = 0; i < count; i++) {
        append_pointer(b, tables[i], size);
    }
    table_end(b, at);
    return at;
}

static void rsdp_build(struct acpi_blobs *b, uint32_t rsdt, uint32_t xsdt)
{
    append(b->rsdp, "RSD PTR ", 8);
    append_int(b->rsdp, 0, 1);
    append(b->rsdp, "RNGSDE", 6);
    append_int(b->rsdp, 2, 1);
    append_int(b->rsdp, rsdt, 4);
    append_int(b->rsdp, 36, 4);
    append_int(b->rsdp, xsdt, 8);
    append_int(b->rsdp, 0, 4);
    link_pointer(b, RSDP_FILE, 16, 4);
    link_pointer(b, RSDP_FILE, 24, 8);
    link_checksum(b, RSDP_FILE, 8, 0, 20);
    link_checksum(b, RSDP_FILE, 32, 0, 36);
}

void acpi_build(const struct machine *m, struct acpi_blobs *b)
{
    uint32_t facs, dsdt, tables[5];

    b->tables = g_byte_array_new();
    b->rsdp = g_byte_array_new();
    b->loader = g_byte_array_new();
    link_allocate(b, TABLES_FILE, 64, ZONE_HIGH);
    link_allocate(b, RSDP_FILE, 16, ZONE_FSEG);
    facs = facs_build(b);
    dsdt = dsdt_build(m, b);
    tables[0] = fadt_build(b, facs, dsdt);
    tables[1] = madt_build(m, b);
    tables[2] = hpet_build(b);
    tables[3] = mcfg_build(b);
    tables[4] = waet_build(b);
    rsdp_build(b, root_build(b, "RSDT", 4, tables, 5), root_build(b, "XSDT", 8, tables, 5));
}

void acpi_blobs_clear(struct acpi_blobs *b)
{
    g_clear_pointer(&b->tables, g_byte_array_unref);
    g_clear_pointer(&b->rsdp, g_byte_array_unref);
    g_clear_pointer(&b->loader, g_byte_array_unref);
}

static GByteArray *link_file(struct acpi_blobs *b, const char *name)
{
    return strcmp(name, RSDP_FILE) == 0 ? b->rsdp : b->tables;
}

static void link_run_pointer(struct acpi_blobs *b, const struct link_command *c, uint64_t base)
{
    GByteArray *file = link_file(b, c->pointer.file);
    uint64_t value = 0;
    uint8_t *at = file->data + GUINT32_FROM_LE(c->pointer.offset);

    memcpy(&value, at, c->pointer.size);
    value = GUINT64_TO_LE(GUINT64_FROM_LE(value) + base);
    memcpy(at, &value, c->pointer.size);
}

static void link_run_checksum(struct acpi_blobs *b, const struct link_command *c)
{
    GByteArray *file = link_file(b, c->checksum.file);
    uint32_t start = GUINT32_FROM_LE(c->checksum.start);
    uint8_t sum = 0;

    for (uint32_t i = 0; i < GUINT32_FROM_LE(c->checksum.length); i++) {
        sum += file->data[start + i];
    }
    file->data[GUINT32_FROM_LE(c->checksum.offset)] -= sum;
}

/* The script is our own, so its offsets are good; only the place can be wrong. */
bool acpi_link(struct acpi_blobs *b, uint64_t tables_at, uint64_t rsdp_at)
{
    if (tables_at + b->tables->len > MEMORY_4G || rsdp_at + b->rsdp->len > 0x100000) {
        return false;
    }
    for (uint32_t i = 0; i < b->loader->len; i += sizeof(struct link_command)) {
        const struct link_command *c = (const void *)(b->loader->data + i);
        if (c->command == GUINT32_TO_LE(LINK_POINTER)) {
            link_run_pointer(b, c, tables_at);
        } else if (c->command == GUINT32_TO_LE(LINK_CHECKSUM)) {
            link_run_checksum(b, c);
        }
    }
    return true;
}
