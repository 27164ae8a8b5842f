/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting a kernel without firmware: Linux bzImage (Documentation/arch/x86/boot.rst, protocol 2.05
 * and later, 32-bit entry) and PVH ELF images (Xen's docs/misc/pvh.pandoc: note 18 gives the
 * entry).
 *
 * What firmware would have done is done here: chip set bases, PCI BARs and interrupt lines, ACPI
 * tables.
 *
 * Low memory: 1000h GDT, 2000h start_info and memory map, 7000h zero page, 20000h command line,
 * E0000h RSDP, F0000h reserved. Tables and initrd lie at the top of RAM below 4 GiB.
 */
#include <elf.h>
#include <gio/gio.h>
#include <string.h>

#include "machine_internal.h"

#define GDT_AT        0x1000u
#define START_INFO_AT 0x2000u
#define MEMMAP_AT     0x2100u
#define MODULE_AT     0x2800u
#define ZERO_PAGE_AT  0x7000u
#define CMDLINE_AT    0x20000u
#define CMDLINE_MAX   0x10000u
#define RSDP_AT       0xe0000u
#define LOW_RAM_END   0x9fc00u
#define TABLES_SIZE   0x20000u

#define PVH_MAGIC 0x336ec578u
#define PVH_NOTE  18u

struct boot {
    struct machine *m;
    GError **error;
    const uint8_t *kernel;
    gsize size;
    uint64_t kernel_end; /* first free byte above the kernel */
    uint64_t initrd_at, initrd_size, tables_at;
    struct e820_entry map[8];
    unsigned map_count;
};

static bool boot_fail(struct boot *b, const char *what)
{
    g_set_error(b->error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s cannot be started: %s",
                b->m->config.kernel, what);
    return false;
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return GUINT32_FROM_LE(v);
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void put32(uint8_t *p, uint64_t v)
{
    uint32_t le = GUINT32_TO_LE((uint32_t)v);

    memcpy(p, &le, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, v);
    put32(p + 4, v >> 32);
}

/* RAM below 4 GiB as host memory, or NULL. */
static uint8_t *boot_ram(struct boot *b, uint64_t at, uint64_t size)
{
    return at <= b->m->low_memory && size <= b->m->low_memory - at ? b->m->ram + at : NULL;
}

static bool boot_store(struct boot *b, uint64_t at, const void *bytes, uint64_t size)
{
    uint8_t *to = boot_ram(b, at, size);

    if (!to) {
        return boot_fail(b, "it does not fit into the machine's memory");
    }
    if (size) {
        memcpy(to, bytes, size);
        memory_wrote(b->m->memory, to, size);
    }
    return true;
}

/* The chip set as firmware leaves it. */

#define VGA_DEVFN (2 << 3) /* machine_table.c */

static void config_write(struct boot *b, uint8_t devfn, uint32_t reg, uint32_t value, unsigned size)
{
    pci_bus_config_write(b->m->pci, 0, devfn, reg, value, size);
}

static void chipset_setup(struct boot *b)
{
    static const uint8_t routes[8] = {10, 10, 11, 11, 10, 10, 11, 11};
    const uint8_t lpc = 0x1f << 3;

    for (unsigned i = 0; i < 7; i++) {
        config_write(b, 0, 0x90 + i, i ? 0x33 : 0x30, 1);
    }
    config_write(b, 0, 0x64, 0, 4);
    config_write(b, 0, 0x60, ECAM_BASE | 1, 4);
    config_write(b, lpc, 0x40, PM_BASE | 1, 4);
    config_write(b, lpc, 0x44, 0x80, 1);
    config_write(b, lpc, 0xf0, 0xfed1c001, 4);
    for (unsigned i = 0; i < 8; i++) {
        config_write(b, lpc, (i < 4 ? 0x60 : 0x64) + i, routes[i], 1);
    }
}

static uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}

/* Sizes one BAR and gives it the next free range. Returns how many registers it takes. */
static unsigned bar_assign(struct boot *b, uint8_t devfn, unsigned n, uint64_t *mem, uint64_t *io)
{
    uint32_t reg = 0x10 + 4 * n, old, mask;
    uint64_t size, *next;

    old = pci_bus_config_read(b->m->pci, 0, devfn, reg, 4);
    config_write(b, devfn, reg, UINT32_MAX, 4);
    mask = pci_bus_config_read(b->m->pci, 0, devfn, reg, 4);
    config_write(b, devfn, reg, old, 4);
    next = mask & 1 ? io : mem;
    size = ~(mask & (mask & 1 ? ~3u : ~15u)) + 1u;
    if (mask & 1) {
        size &= 0xffff;
    }
    if (!size || mask == 0) {
        return 1;
    }
    *next = align_up(*next, size);
    config_write(b, devfn, reg, (uint32_t)*next, 4);
    *next += size;
    if (!(mask & 1) && (mask & 6) == 4) {
        config_write(b, devfn, reg + 4, 0, 4);
        return 2;
    }
    return 1;
}

static void pci_setup(struct boot *b)
{
    uint64_t mem = 0xc0000000u, io = 0xc000;

    for (unsigned devfn = 0; devfn < 256; devfn++) {
        uint32_t id = pci_bus_config_read(b->m->pci, 0, (uint8_t)devfn, 0, 4);
        uint8_t pin = (uint8_t)pci_bus_config_read(b->m->pci, 0, (uint8_t)devfn, 0x3d, 1);
        if (id == UINT32_MAX) {
            continue;
        }
        for (unsigned n = 0; n < 6;) {
            n += bar_assign(b, (uint8_t)devfn, n, &mem, &io);
        }
        config_write(b, (uint8_t)devfn, 0x3c, pin == 1 || pin == 2 ? 10 : pin ? 11 : 0, 1);
        config_write(b, (uint8_t)devfn, 0x04, 3, 2);
    }
}

static bool acpi_place(struct boot *b)
{
    struct acpi_blobs blobs;
    bool ok;

    acpi_build(b->m, &blobs);
    b->tables_at = b->m->low_memory - TABLES_SIZE;
    if (blobs.tables->len > TABLES_SIZE || b->m->low_memory < 16u << 20) {
        acpi_blobs_clear(&blobs);
        return boot_fail(b, "the machine needs at least 16 MiB of memory for it");
    }
    ok = acpi_link(&blobs, b->tables_at, RSDP_AT) &&
         boot_store(b, b->tables_at, blobs.tables->data, blobs.tables->len) &&
         boot_store(b, RSDP_AT, blobs.rsdp->data, blobs.rsdp->len);
    acpi_blobs_clear(&blobs);
    return ok;
}

static void map_add(struct boot *b, uint64_t start, uint64_t end, uint32_t type)
{
    if (end > start) {
        b->map[b->map_count++] = (struct e820_entry){start, end - start, type};
    }
}

static void map_build(struct boot *b)
{
    map_add(b, 0, LOW_RAM_END, 1);
    map_add(b, LOW_RAM_END, 0xa0000, 2);
    map_add(b, 0xe0000, 0x100000, 2);
    map_add(b, 0x100000, b->tables_at, 1);
    map_add(b, b->tables_at, b->m->low_memory, 3);
    map_add(b, ECAM_BASE, (uint64_t)ECAM_BASE + ECAM_SIZE, 2);
    map_add(b, MEMORY_4G, MEMORY_4G + b->m->high_memory, 1);
}

static bool initrd_load(struct boot *b, uint64_t highest)
{
    g_autofree char *bytes = NULL;
    gsize size;
    uint64_t top = MIN(b->tables_at, highest);

    if (!b->m->config.initrd) {
        return true;
    }
    if (!g_file_get_contents(b->m->config.initrd, &bytes, &size, b->error)) {
        return false;
    }
    if (size > top || ((top - size) & ~0xfffull) < b->kernel_end) {
        return boot_fail(b, "kernel and initrd need more memory than the machine has");
    }
    b->initrd_at = (top - size) & ~0xfffull;
    b->initrd_size = size;
    return boot_store(b, b->initrd_at, bytes, size);
}

static bool cmdline_store(struct boot *b, uint64_t max)
{
    const char *text = b->m->config.append ? b->m->config.append : "";

    if (strlen(text) + 1 > MIN(max + 1, CMDLINE_MAX)) {
        return boot_fail(b, "the kernel command line is too long");
    }
    return boot_store(b, CMDLINE_AT, text, strlen(text) + 1);
}

/* 32-bit protected mode, flat segments, paging and interrupts off. */
static void cpu_enter(struct boot *b, struct cpu_state *cpu, uint32_t entry)
{
    static const uint64_t gdt[4] = {0, 0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
    const struct cpu_segment data = {.limit = UINT32_MAX, .selector = 0x18, .attributes = 0xc093};

    boot_store(b, GDT_AT, gdt, sizeof gdt);
    cpu->gdtr_base = GDT_AT;
    cpu->gdtr_limit = sizeof gdt - 1;
    cpu->idtr_base = 0;
    cpu->idtr_limit = 0;
    for (int i = CPU_ES; i <= CPU_GS; i++) {
        cpu->seg[i] = data;
    }
    cpu->seg[CPU_CS].selector = 0x10;
    cpu->seg[CPU_CS].attributes = 0xc09b;
    cpu->cr0 = 0x11; /* PE, ET */
    cpu->rflags = 2;
    cpu->rip = entry;
    cpu->gpr[CPU_RBP] = cpu->gpr[CPU_RDI] = cpu->gpr[CPU_RBX] = 0;
}

static void dispi_write(struct boot *b, uint16_t index, uint16_t value)
{
    ports_write(b->m->ports, 0x1ce, index, 2);
    ports_write(b->m->ports, 0x1cf, value, 2);
}

/* A linear framebuffer, as a VESA BIOS would leave it (screen_info in the zero page, Linux'
 * include/uapi/linux/screen_info.h), so that the kernel has a console on the screen. */
static void screen_setup(struct boot *b, uint8_t *info)
{
    static const uint8_t channels[8] = {8, 16, 8, 8, 8, 0, 8, 24}; /* sizes, positions: RGBX */
    uint32_t base = pci_bus_config_read(b->m->pci, 0, VGA_DEVFN, 0x10, 4) & ~15u;
    const uint32_t width = 1024, height = 768;

    dispi_write(b, 4, 0);
    dispi_write(b, 1, (uint16_t)width);
    dispi_write(b, 2, (uint16_t)height);
    dispi_write(b, 3, 32);
    dispi_write(b, 4, 0x41); /* on, linear */
    info[0x0f] = 0x23;       /* VIDEO_TYPE_VLFB */
    put32(info + 0x12, width | height << 16);
    info[0x16] = 32;
    put32(info + 0x18, base);
    put32(info + 0x1c, width * height * 4 >> 16);
    info[0x24] = (uint8_t)(width * 4);
    info[0x25] = (uint8_t)(width * 4 >> 8);
    memcpy(info + 0x26, channels, sizeof channels);
    info[0x32] = 1; /* pages */
}

static bool linux_zero_page(struct boot *b, uint64_t kernel_at)
{
    uint8_t page[4096] = {0};
    unsigned header_end = 0x202 + b->kernel[0x201];

    memcpy(page + 0x1f1, b->kernel + 0x1f1, MIN(header_end, 0x290) - 0x1f1);
    page[0x210] = 0xff; /* type_of_loader: none of the assigned */
    page[0x211] = (uint8_t)(page[0x211] | 0x80) & (uint8_t)~0x20; /* heap; not quiet */
    put32(page + 0x214, kernel_at);
    put32(page + 0x218, b->initrd_at);
    put32(page + 0x21c, b->initrd_size);
    put32(page + 0x224, 0xfe00);
    put32(page + 0x228, CMDLINE_AT);
    put64(page + 0x070, RSDP_AT);
    page[0x1e8] = (uint8_t)b->map_count;
    memcpy(page + 0x2d0, b->map, b->map_count * sizeof b->map[0]);
    if (b->m->vga) {
        screen_setup(b, page);
    }
    return boot_store(b, ZERO_PAGE_AT, page, sizeof page);
}

static bool linux_boot(struct boot *b, struct cpu_state *cpu)
{
    const uint8_t *k = b->kernel;
    unsigned version = get16(k + 0x206);
    uint64_t setup = (k[0x1f1] ? k[0x1f1] + 1u : 5u) * 512u, at = get32(k + 0x214), init_size;
    uint64_t initrd_max = version >= 0x203 ? get32(k + 0x22c) : 0x37ffffff;

    if (version < 0x205 || !(k[0x211] & 1)) {
        return boot_fail(b,
                         "its boot protocol is older than 2.05 (Linux 2.6.20), or it is a zImage");
    }
    if (setup >= b->size) {
        return boot_fail(b, "the file is cut off");
    }
    if ((uint64_t)get32(k + 0x1f4) * 16 > align_up(b->size - setup, 16)) {
        return boot_fail(b, "the file is cut off: it is shorter than its header says");
    }
    init_size = version >= 0x20a ? get32(k + 0x260) : 3 * b->size;
    b->kernel_end =
        MAX(at, version >= 0x20a ? get32(k + 0x258) : 0) + MAX(init_size, b->size - setup);
    if (!boot_store(b, at, k + setup, b->size - setup) || !initrd_load(b, initrd_max) ||
        !cmdline_store(b, version >= 0x206 ? get32(k + 0x238) : 255) || !linux_zero_page(b, at)) {
        return false;
    }
    cpu_enter(b, cpu, (uint32_t)at);
    cpu->gpr[CPU_RSI] = ZERO_PAGE_AT;
    return true;
}

/* ELF, both classes, into one shape. */

struct segment {
    uint32_t type;
    uint64_t offset, file_size, memory_size, at;
};

static bool elf_segment(struct boot *b, unsigned n, struct segment *out)
{
    const uint8_t *k = b->kernel;
    bool is64 = k[EI_CLASS] == ELFCLASS64;
    Elf64_Ehdr e64;
    Elf32_Ehdr e32;
    uint64_t at;

    memcpy(&e64, k, sizeof e64);
    memcpy(&e32, k, sizeof e32);
    at = is64 ? e64.e_phoff + (uint64_t)n * sizeof(Elf64_Phdr)
              : e32.e_phoff + (uint64_t)n * sizeof(Elf32_Phdr);
    if (n >= (is64 ? e64.e_phnum : e32.e_phnum) || at > b->size ||
        b->size - at < (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr))) {
        return false;
    }
    if (is64) {
        Elf64_Phdr p;
        memcpy(&p, k + at, sizeof p);
        *out = (struct segment){p.p_type, p.p_offset, p.p_filesz, p.p_memsz, p.p_paddr};
    } else {
        Elf32_Phdr p;
        memcpy(&p, k + at, sizeof p);
        *out = (struct segment){p.p_type, p.p_offset, p.p_filesz, p.p_memsz, p.p_paddr};
    }
    return out->offset <= b->size && out->file_size <= b->size - out->offset;
}

/* Looks through a note segment for the PVH entry; 0: not there. */
static uint32_t note_entry(const uint8_t *p, uint64_t size)
{
    while (size >= 12) {
        uint64_t name = align_up(get32(p), 4), desc = align_up(get32(p + 4), 4);
        if (name > size - 12 || desc > size - 12 - name) {
            return 0;
        }
        if (get32(p + 8) == PVH_NOTE && get32(p) == 4 && desc >= 4 &&
            memcmp(p + 12, "Xen", 4) == 0) {
            return get32(p + 12 + name);
        }
        p += 12 + name + desc;
        size -= 12 + name + desc;
    }
    return 0;
}

static bool elf_load(struct boot *b, uint32_t *entry)
{
    struct segment s;

    for (unsigned n = 0; elf_segment(b, n, &s); n++) {
        uint8_t *to;
        if (s.type == PT_NOTE && !*entry) {
            *entry = note_entry(b->kernel + s.offset, s.file_size);
        }
        if (s.type != PT_LOAD || !s.memory_size) {
            continue;
        }
        to = boot_ram(b, s.at, s.memory_size);
        if (!to || s.file_size > s.memory_size) {
            return boot_fail(b, "a segment does not fit into the machine's memory");
        }
        memset(to, 0, s.memory_size);
        boot_store(b, s.at, b->kernel + s.offset, s.file_size);
        memory_wrote(b->m->memory, to, s.memory_size);
        b->kernel_end = MAX(b->kernel_end, s.at + s.memory_size);
    }
    return *entry ? true : boot_fail(b, "it is an ELF file without a PVH entry (or damaged)");
}

static bool pvh_start_info(struct boot *b)
{
    uint8_t info[56] = {0}, module[32] = {0}, map[8 * 24] = {0};

    put32(info, PVH_MAGIC);
    put32(info + 4, 1);
    put32(info + 12, b->initrd_size ? 1 : 0);
    put64(info + 16, b->initrd_size ? MODULE_AT : 0);
    put64(info + 24, CMDLINE_AT);
    put64(info + 32, RSDP_AT);
    put64(info + 40, MEMMAP_AT);
    put32(info + 48, b->map_count);
    put64(module, b->initrd_at);
    put64(module + 8, b->initrd_size);
    for (unsigned i = 0; i < b->map_count; i++) {
        put64(map + 24 * i, b->map[i].start);
        put64(map + 24 * i + 8, b->map[i].size);
        put32(map + 24 * i + 16, b->map[i].type);
    }
    return boot_store(b, START_INFO_AT, info, sizeof info) &&
           boot_store(b, MODULE_AT, module, sizeof module) &&
           boot_store(b, MEMMAP_AT, map, sizeof map);
}

static bool pvh_boot(struct boot *b, struct cpu_state *cpu)
{
    uint32_t entry = 0;

    if (!elf_load(b, &entry) || !initrd_load(b, UINT32_MAX) || !cmdline_store(b, CMDLINE_MAX) ||
        !pvh_start_info(b)) {
        return false;
    }
    cpu_enter(b, cpu, entry);
    cpu->gpr[CPU_RBX] = START_INFO_AT;
    return true;
}

static bool kernel_boot(struct boot *b, struct cpu_state *cpu)
{
    const uint8_t *k = b->kernel;

    chipset_setup(b);
    pci_setup(b);
    if (!acpi_place(b)) {
        return false;
    }
    map_build(b);
    if (b->size >= sizeof(Elf64_Ehdr) && memcmp(k, ELFMAG, SELFMAG) == 0) {
        return pvh_boot(b, cpu);
    }
    if (b->size > 0x400 && get16(k + 0x1fe) == 0xaa55 && memcmp(k + 0x202, "HdrS", 4) == 0) {
        return linux_boot(b, cpu);
    }
    return boot_fail(b, "it is neither a Linux bzImage nor an ELF file with a PVH entry");
}

bool loader_boot(struct machine *m, struct cpu_state *cpu, GError **error)
{
    g_autofree char *bytes = NULL;
    struct boot b = {.m = m, .error = error};

    if (!g_file_get_contents(m->config.kernel, &bytes, &b.size, error)) {
        return false;
    }
    b.kernel = (const uint8_t *)bytes;
    return kernel_boot(&b, cpu);
}
