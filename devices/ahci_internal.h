/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between ahci.c (host adapter), ata.c (disks) and atapi.c (CD-ROM drives). */
#pragma once

#include "ahci.h"

#define AHCI_MAX_TRANSFER (128u << 20)

enum ata_status {
    ATA_ERR = 0x01,
    ATA_DRQ = 0x08,
    ATA_DSC = 0x10,
    ATA_DF = 0x20,
    ATA_DRDY = 0x40,
    ATA_BSY = 0x80
};
enum ata_error { ATA_ABRT = 0x04, ATA_IDNF = 0x10, ATA_UNC = 0x40 };
#define ATA_GOOD (ATA_DRDY | ATA_DSC)

enum port_interrupt {
    PORT_DHRS = 1u << 0,
    PORT_PSS = 1u << 1,
    PORT_SDBS = 1u << 3,
    PORT_PCS = 1u << 6,
    PORT_OFS = 1u << 24,
    PORT_HBFS = 1u << 29,
    PORT_TFES = 1u << 30
};

struct ahci;

struct ahci_port {
    struct ahci *ahci;
    unsigned number;
    enum ahci_kind kind;
    struct block *block;
    char serial[21];

    uint64_t clb, fb;
    uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    uint32_t issued;     /* slots given to the disk, not yet answered */
    uint32_t kept;       /* of those: the host's write failed, waiting for ahci_retry() */
    uint32_t generation; /* changes when the guest throws its commands away */
    bool failed;         /* a command ended in error; waits for the guest to clear PxCMD.ST */
    bool software_reset; /* SRST set */
    bool kicking;

    uint8_t multiple;      /* ATA: sectors per READ MULTIPLE block */
    uint8_t ncq_error[16]; /* head of log page 10h */
    uint8_t transfer_mode; /* as SET FEATURES set it */
    bool write_cache;

    /* ATAPI */
    uint8_t sense, asc, ascq;
    uint32_t sectors; /* of the disc, 2048 bytes each; derived */
    bool attention;   /* medium changed or reset: next command learns of it */
    uint8_t attention_asc;
    bool locked, tray_open;
    uint8_t media_event; /* for GET EVENT STATUS NOTIFICATION: 0, 1 eject wish, 2 new, 3 gone */
};

struct ahci {
    struct pci_function pci; /* first */
    const struct device_host *host;
    struct ahci_config config;
    struct ahci_port port[AHCI_PORTS];
    uint32_t ghc, is;
    unsigned in_flight;
};

/* A command slot, copied out of guest memory. */
struct ata_command {
    unsigned slot;
    bool retry; /* issued before: no second acceptance FIS */
    bool atapi, write;
    uint16_t prdt_entries;
    uint64_t header, table; /* guest addresses */
    uint8_t fis[20];
    uint8_t packet[16];
};

enum ata_job_kind { JOB_READ, JOB_WRITE, JOB_FLUSH, JOB_TRIM };

/* Work that the block layer does for a slot. */
struct ata_job {
    struct ahci_port *port;
    unsigned slot;
    uint32_t generation;
    enum ata_job_kind kind;
    bool queued, pio, fua;
    uint64_t offset, bytes, header;
    struct iovec *iov;
    unsigned niov;
    uint64_t (*ranges)[2]; /* TRIM: offset and length in bytes */
    unsigned range, range_count;
    int error;
};

/* --- ahci.c --- */
/* The guest memory behind the command's PRDT, at most `bytes`. False: some of it is no RAM. */
bool ahci_map_prdt(struct ahci_port *port, const struct ata_command *cmd, uint64_t bytes,
                   struct iovec **iov, unsigned *niov, uint64_t *mapped);
/* Ends a command that is not queued, with a register FIS. */
void ahci_complete(struct ahci_port *port, const struct ata_command *cmd, uint8_t status,
                   uint8_t error);
void ahci_complete_slot(struct ahci_port *port, unsigned slot, uint8_t status, uint8_t error,
                        uint8_t count);
/* Copies `len` bytes to the guest as a PIO (or DMA) data phase and ends the command. */
void ahci_data_in(struct ahci_port *port, const struct ata_command *cmd, const void *data,
                  size_t len, bool pio, uint8_t count);
size_t ahci_data_out(struct ahci_port *port, const struct ata_command *cmd, void *data, size_t len);
void ahci_set_transferred(struct ahci_port *port, uint64_t header, uint64_t bytes);
void ahci_pio_setup(struct ahci_port *port, uint8_t status, uint8_t end_status, uint64_t bytes);
void ahci_accept_queued(struct ahci_port *port, unsigned slot);
void ahci_complete_queued(struct ahci_port *port, unsigned slot, uint8_t error);
void ahci_bus_error(struct ahci_port *port, const struct ata_command *cmd);

/* --- ata.c --- */
void ata_execute(struct ahci_port *port, const struct ata_command *cmd);
void ata_reset(struct ahci_port *port);
void ata_string(uint8_t *out, size_t size, const char *text);
struct ata_job *ata_job_new(struct ahci_port *port, const struct ata_command *cmd,
                            enum ata_job_kind kind);
bool ata_job_map(struct ata_job *job, const struct ata_command *cmd, uint64_t offset,
                 uint64_t bytes);
void ata_job_free(struct ata_job *job);
void ata_job_start(struct ata_job *job);

/* --- atapi.c --- */
void atapi_execute(struct ahci_port *port, const struct ata_command *cmd); /* the PACKET command */
void atapi_identify(struct ahci_port *port, uint8_t data[512]);
void atapi_reset(struct ahci_port *port);
void atapi_measure(struct ahci_port *port); /* another disc is in: its size */
void atapi_medium_changed(struct ahci_port *port, bool inserted);
/* A read that the block layer finished. */
void atapi_read_done(struct ata_job *job);

static inline void put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void put_le32(uint8_t *p, uint32_t v)
{
    put_le16(p, (uint16_t)v);
    put_le16(p + 2, (uint16_t)(v >> 16));
}
static inline uint16_t get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t get_le32(const uint8_t *p)
{
    return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}
static inline uint64_t get_le64(const uint8_t *p)
{
    return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}
static inline void put_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void put_be32(uint8_t *p, uint32_t v)
{
    put_be16(p, (uint16_t)(v >> 16));
    put_be16(p + 2, (uint16_t)v);
}
static inline uint16_t get_be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}
