/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files that make up the machine share.
 */
#pragma once

#include "acpi_pm.h"
#include "chardev.h"
#include "clock.h"
#include "device.h"
#include "engine.h"
#include "machine.h"
#include "memory.h"
#include "pci.h"
#include "ports.h"

#define MACHINE_ROWS 32u

#define MEMORY_4G        0x100000000ull
#define LOW_MEMORY_MAX   0xb0000000ull /* ECAM begins there */
#define LOW_MEMORY_SPLIT 0x80000000ull /* where RAM is split when it does not fit below ECAM */
#define ECAM_BASE        0xb0000000u
#define ECAM_SIZE        0x10000000u
#define PM_BASE          0x600u

struct block;

struct machine {
    struct machine_config config; /* strings are ours */
    enum machine_state state;
    struct machine_listener listener;

    struct clock *clock;
    struct memory *memory;
    struct ports *ports;
    struct input *input;
    struct screen *screen;
    struct pci_bus *pci;
    struct device_host host;
    struct cpu_bus cpu_bus;
    struct engine *engine;
    const struct engine_ops *engine_ops;

    uint8_t *ram, *bios; /* pool memory */
    uint64_t low_memory, high_memory, bios_size;
    uint8_t *vga_rom; /* file contents, for the VGA device's init */
    size_t vga_rom_size;
    void *device[MACHINE_ROWS]; /* by row of machine_table */
    void *lapic, *ioapic, *pic, *pit, *hpet, *pm, *lpc, *fw_cfg, *ahci, *vga, *xhci;
    struct chardev *serial[MACHINE_SERIAL_PORTS], *debugcon;
    struct block *disk[MACHINE_MAX_DISKS], *cdrom;
    struct net *net;
    struct audio *audio;
    GPtrArray *usb; /* struct usb_device: those that we emulate */
    struct usb_device *pad[INPUT_PADS]; /* NULL: not plugged in */
    uint8_t mac[6];

    char *problem;       /* about the last disk error, under the machine lock */
    char *engine_reason; /* why no faster one runs */
    char *memory_warning;
    guint memory_source;
    unsigned requests;   /* bits of enum machine_request, under the machine lock */
    unsigned exit_code;
    GSource *request_source;
};

enum machine_request {
    REQUEST_RESET = 1,
    REQUEST_POWER_OFF = 2,
    REQUEST_DEBUG_EXIT = 4,
    REQUEST_TRIPLE_FAULT = 8,
    REQUEST_IO_ERROR = 16
};

/* Machine lock held, any thread: has the main loop do it. */
void machine_request(struct machine *m, enum machine_request request);

/* machine_table.c */
enum machine_bus { BUS_SYSTEM, BUS_ISA, BUS_PCI };

struct machine_row {
    const struct device_class *class;
    const char *name; /* in state files */
    enum machine_bus bus;
    uint32_t address;                      /* physical address, port, or devfn */
    int irq;                               /* -1: none, or PCI */
    bool (*when)(const struct machine *m); /* NULL: always */
    /* Fills `config` (MACHINE_CONFIG_SIZE bytes, zeroed) for init. */
    void (*configure)(struct machine *m, const struct machine_row *row, void *config);
    size_t field; /* offset of the pointer in struct machine, 0: none */
};

#define MACHINE_CONFIG_SIZE 1024u

extern const struct machine_row machine_table[];
extern const unsigned machine_table_rows;

bool machine_create_devices(struct machine *m, GError **error);
void machine_destroy_devices(struct machine *m);
void machine_reset_devices(struct machine *m);
void machine_isa_irq(void *opaque, unsigned n, bool level); /* 0-15 to 8259 and IO-APIC */

static inline bool machine_has_virtio_gpu(const struct machine *m)
{
    return g_strcmp0(m->config.video, "virtio") == 0;
}

/* machine_usb.c: plugs in the emulated devices, always in the same ports */
bool machine_usb_create(struct machine *m, GError **error);
void machine_usb_destroy(struct machine *m);
void machine_usb_retry(struct machine *m); /* what a disk could not write: after every resume */

/* Machine lock held: pauses, and tells which disk could not be written. */
void machine_disk_error(struct machine *m, const struct block *block, int error_errno);

/* machine_bus.c: the CPUs' side */
void machine_init_cpu_bus(struct machine *m);
/* For engines with local APICs of their own: hands them what the lapic device has, and takes it back. Paused. */
bool machine_apics_to_engine(struct machine *m, GError **error);
void machine_apics_from_engine(struct machine *m);

/* firmware.c */
bool firmware_load(struct machine *m, GError **error);
/* The path of an option ROM file of SeaBIOS ("vgabios-stdvga.bin"), or NULL. g_free. */
char *firmware_find_rom(const char *name);
void firmware_publish(struct machine *m); /* fw_cfg items */

/* acpi.c: the tables, RSDP and linker script of this machine; g_byte_array_unref. */
struct acpi_blobs {
    GByteArray *tables, *rsdp, *loader;
};
void acpi_build(const struct machine *m, struct acpi_blobs *blobs);
void acpi_blobs_clear(struct acpi_blobs *blobs);
/* Carries the script out for tables at `tables_at` and the RSDP at `rsdp_at` (guest addresses). */
bool acpi_link(struct acpi_blobs *blobs, uint64_t tables_at, uint64_t rsdp_at);

/* smbios.c: structures and the 64-bit entry point (whose address field is 0). */
void smbios_build(const struct machine *m, GByteArray *tables, GByteArray *anchor);

/* The guest's RAM and reserved ranges, as firmware and kernels are told. */
struct e820_entry {
    uint64_t start, size;
    uint32_t type; /* 1 RAM, 2 reserved, 3 ACPI tables */
} __attribute__((packed));

/* loader.c */
/* Puts the kernel into memory and CPU 0 at its entry; called at each reset. */
bool loader_boot(struct machine *m, struct cpu_state *cpu, GError **error);
