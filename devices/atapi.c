/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CD/DVD-ROM drive: PACKET commands of MMC-5 and SPC-3, one data track of 2048-byte sectors.
 *
 * The capacity is the larger of the image and what its ISO 9660 volume claims, so that a truncated
 * image gives a medium error where the bytes are missing, as a damaged disc does.
 */
#include "ahci_internal.h"

#include <string.h>

#define CD_SECTOR 2048u

enum sense_key {
    SENSE_NONE = 0,
    SENSE_NOT_READY = 2,
    SENSE_MEDIUM = 3,
    SENSE_ILLEGAL = 5,
    SENSE_ATTENTION = 6
};

struct packet {
    struct ahci_port *port;
    const struct ata_command *cmd;
    const uint8_t *cdb;
};

void atapi_reset(struct ahci_port *p)
{
    p->sense = p->asc = p->ascq = 0;
    p->attention = true;
    p->attention_asc = 0x29;
    p->locked = false;
}

void atapi_medium_changed(struct ahci_port *p, bool inserted)
{
    atapi_measure(p);
    p->attention = true;
    p->attention_asc = inserted ? 0x28 : 0x3a;
    p->media_event = inserted ? 2 : 3;
}

static void packet_sense(struct ahci_port *p, uint8_t key, uint8_t asc, uint8_t ascq)
{
    p->sense = key;
    p->asc = asc;
    p->ascq = ascq;
}

static void packet_fail(struct packet *k, uint8_t key, uint8_t asc, uint8_t ascq)
{
    packet_sense(k->port, key, asc, ascq);
    ahci_complete(k->port, k->cmd, ATA_GOOD | ATA_ERR, (uint8_t)(key << 4 | ATA_ABRT));
}

static void packet_good(struct packet *k)
{
    packet_sense(k->port, SENSE_NONE, 0, 0);
    ahci_complete(k->port, k->cmd, ATA_GOOD, 0);
}

static void packet_reply(struct packet *k, const void *data, size_t len, size_t allocated)
{
    packet_sense(k->port, SENSE_NONE, 0, 0);
    if (MIN(len, allocated) == 0) {
        ahci_complete(k->port, k->cmd, ATA_GOOD, 0);
        return;
    }
    bool pio = !(k->cmd->fis[3] & 1);
    ahci_data_in(k->port, k->cmd, data, MIN(len, allocated), pio, 3);
}

void atapi_measure(struct ahci_port *p)
{
    p->sectors = 0;
    if (p->block) {
        uint64_t have = block_size(p->block) / CD_SECTOR;
        uint64_t claimed = block_iso_size(p->block) / CD_SECTOR;
        p->sectors = (uint32_t)MIN(MAX(have, claimed), 0xfffffffe);
    }
}

static uint32_t disc_sectors(const struct ahci_port *p)
{
    return p->sectors;
}

static bool disc_present(struct packet *k)
{
    if (k->port->block && !k->port->tray_open) {
        return true;
    }
    packet_fail(k, SENSE_NOT_READY, 0x3a, k->port->tray_open ? 2 : 1);
    return false;
}

/* --- simple answers --- */

static void packet_inquiry(struct packet *k)
{
    uint8_t d[36] = {0x05, 0x80, 0x05, 0x32, 31};
    if (k->cdb[1] & 1) {
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        return;
    }
    memcpy(d + 8, "RINGSIDEDVD-ROM         1.0 ", 28);
    packet_reply(k, d, sizeof(d), get_be16(k->cdb + 3));
}

static void packet_request_sense(struct packet *k)
{
    struct ahci_port *p = k->port;
    uint8_t d[18] = {0x70, 0, p->sense, 0, 0, 0, 0, 10};
    d[12] = p->asc;
    d[13] = p->ascq;
    if (p->sense == SENSE_NONE && p->attention) {
        d[2] = SENSE_ATTENTION;
        d[12] = p->attention_asc;
        p->attention = false;
    }
    packet_reply(k, d, sizeof(d), k->cdb[4]);
}

static void packet_capacity(struct packet *k)
{
    uint8_t d[8];
    uint32_t sectors = disc_sectors(k->port);
    put_be32(d, sectors ? sectors - 1 : 0);
    put_be32(d + 4, CD_SECTOR);
    packet_reply(k, d, sizeof(d), sizeof(d));
}

static void put_msf(uint8_t *p, uint32_t lba)
{
    lba += 150;
    p[0] = 0;
    p[1] = (uint8_t)MIN(lba / (75 * 60), 255);
    p[2] = (uint8_t)(lba / 75 % 60);
    p[3] = (uint8_t)(lba % 75);
}

static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
    if (msf) {
        put_msf(p, lba);
    } else {
        put_be32(p, lba);
    }
}

static size_t toc_tracks(struct packet *k, uint8_t *d, bool msf)
{
    static const uint8_t head[12] = {0, 18, 1, 1, 0, 0x14, 1};
    memcpy(d, head, sizeof(head));
    put_address(d + 8, 0, msf);
    d[13] = 0x14;
    d[14] = 0xaa;
    put_address(d + 16, disc_sectors(k->port), msf);
    if (k->cdb[6] > 1) { /* from the lead-out on */
        memmove(d + 4, d + 12, 8);
        d[1] = 10;
        return 12;
    }
    return 20;
}

/* MMC-5 section 6.25.3.4: points A0h, A1h, A2h and track 1, always as minute, second, frame. */
static size_t toc_raw(struct packet *k, uint8_t *d)
{
    static const uint8_t points[4] = {0xa0, 0xa1, 0xa2, 1};
    d[1] = 2 + 4 * 11;
    d[2] = d[3] = 1;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *e = d + 4 + i * 11;
        e[0] = 1;
        e[1] = 0x14;
        e[3] = points[i];
        if (i < 2) {
            e[8] = 1;
        } else {
            put_msf(e + 7, i == 2 ? disc_sectors(k->port) : 0);
        }
    }
    return 4 + 4 * 11;
}

static void packet_toc(struct packet *k)
{
    uint8_t d[64] = {0};
    bool msf = k->cdb[1] & 2;
    unsigned format = k->cdb[2] & 0xf;
    size_t len;
    if (format == 0 && k->cdb[9] >> 6) {
        format = k->cdb[9] >> 6; /* where SFF-8020 drivers put it */
    }
    if (format == 0 && (k->cdb[6] <= 1 || k->cdb[6] == 0xaa)) {
        len = toc_tracks(k, d, msf);
    } else if (format == 1) {
        d[1] = 10;
        d[2] = d[3] = 1;
        d[5] = 0x14;
        d[6] = 1;
        put_address(d + 8, 0, msf);
        len = 12;
    } else if (format == 2) {
        len = toc_raw(k, d);
    } else {
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        return;
    }
    packet_reply(k, d, len, get_be16(k->cdb + 7));
}

/* MMC-5 section 6.5: which features; `requested` type 0 all, 1 current, 2 one. */
static void packet_configuration(struct packet *k)
{
    static const uint8_t features[] = {
        0x00, 0x00, 0x03, 8, 0x00, 0x10, 0, 0, 0x00, 0x08, 0, 0, /* profiles: DVD-ROM, CD-ROM */
        0x00, 0x01, 0x0b, 8, 0,    0,    0, 2, 1,    0,    0, 0, /* core: ATAPI */
        0x00, 0x03, 0x0b, 4, 0x29, 0,    0, 0,                   /* removable: tray, lock, eject */
        0x00, 0x10, 0x01, 8, 0,    0,    8, 0, 0,    1,    0, 0, /* random readable */
        0x00, 0x1e, 0x09, 4, 0,    0,    0, 0,                   /* CD read */
        0x00, 0x1f, 0x09, 4, 0,    0,    0, 0,                   /* DVD read */
    };
    struct ahci_port *p = k->port;
    uint8_t d[8 + sizeof(features)] = {0};
    size_t len = 8;
    uint16_t start = get_be16(k->cdb + 2);
    bool present = p->block && !p->tray_open;
    put_be16(d + 6, !present ? 0 : disc_sectors(p) > 450000 ? 0x10 : 0x08);
    for (size_t i = 0; i < sizeof(features); i += 4u + features[i + 3]) {
        uint16_t code = get_be16(features + i);
        bool wanted = (k->cdb[1] & 3) == 2 ? code == start : code >= start;
        if (wanted) {
            memcpy(d + len, features + i, 4u + features[i + 3]);
            len += 4u + features[i + 3];
        }
    }
    put_be32(d, (uint32_t)len - 4);
    packet_reply(k, d, len, get_be16(k->cdb + 7));
}

static void packet_event(struct packet *k)
{
    struct ahci_port *p = k->port;
    uint8_t d[8] = {0, 2, 0x80, 0x10};
    if (!(k->cdb[1] & 1)) { /* only polled mode */
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        return;
    }
    if (!(k->cdb[4] & 0x10)) {
        packet_reply(k, d, 4, get_be16(k->cdb + 7));
        return;
    }
    d[1] = 6;
    d[2] = 4;
    d[4] = p->media_event;
    d[5] = (uint8_t)((p->tray_open ? 1 : 0) | (p->block && !p->tray_open ? 2 : 0));
    if (get_be16(k->cdb + 7) >= 5) {
        p->media_event = 0;
    }
    packet_reply(k, d, sizeof(d), get_be16(k->cdb + 7));
}

static size_t mode_pages(struct ahci_port *p, uint8_t page, uint8_t *d)
{
    static const uint8_t recovery[8] = {0x01, 6, 0, 5};
    static const uint8_t timeout[12] = {0x1d, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    uint8_t capabilities[22] = {0x2a, 20, 0x3b, 0, 0x70, 0x3b, 0x29, 0};
    size_t len = 0;
    capabilities[6] = (uint8_t)(0x29 | (p->locked ? 2 : 0));
    put_be16(capabilities + 8, 5632);
    put_be16(capabilities + 12, 512);
    put_be16(capabilities + 14, 5632);
    if (page == 0x01 || page == 0x3f) {
        memcpy(d + len, recovery, sizeof(recovery));
        len += sizeof(recovery);
    }
    if (page == 0x1d || page == 0x3f) {
        memcpy(d + len, timeout, sizeof(timeout));
        len += sizeof(timeout);
    }
    if (page == 0x2a || page == 0x3f) {
        memcpy(d + len, capabilities, sizeof(capabilities));
        len += sizeof(capabilities);
    }
    return len;
}

static void packet_mode_sense(struct packet *k)
{
    bool ten = k->cdb[0] == 0x5a;
    uint8_t d[64] = {0};
    size_t head = ten ? 8 : 4;
    size_t len = mode_pages(k->port, k->cdb[2] & 0x3f, d + head);
    uint8_t medium = k->port->tray_open ? 0x71 : k->port->block ? 0x01 : 0x70;
    if (len == 0 || (k->cdb[2] >> 6) == 3) {
        packet_fail(k, SENSE_ILLEGAL, len ? 0x39 : 0x24, 0);
        return;
    }
    len += head;
    if (ten) {
        put_be16(d, (uint16_t)(len - 2));
        d[2] = medium;
    } else {
        d[0] = (uint8_t)(len - 1);
        d[1] = medium;
    }
    packet_reply(k, d, len, ten ? get_be16(k->cdb + 7) : k->cdb[4]);
}

static void packet_disc_information(struct packet *k)
{
    uint8_t d[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20};
    memset(d + 16, 0xff, 8);
    if (k->cdb[1] & 7) {
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        return;
    }
    packet_reply(k, d, sizeof(d), get_be16(k->cdb + 7));
}

static void packet_track_information(struct packet *k)
{
    uint8_t d[36] = {0, 34, 1, 1, 0, 4, 1};
    put_be32(d + 24, disc_sectors(k->port));
    packet_reply(k, d, sizeof(d), get_be16(k->cdb + 7));
}

static void packet_mechanism(struct packet *k)
{
    uint8_t d[8] = {0, (uint8_t)(k->port->tray_open ? 0x10 : 0), 0, 0, 0, 0, 0, 0};
    packet_reply(k, d, sizeof(d), get_be16(k->cdb + 8));
}

/* START STOP UNIT: LoEj and Start bits. The disc stays in the open tray until the machine takes it.
 */
static void packet_start_stop(struct packet *k)
{
    struct ahci_port *p = k->port;
    bool load_eject = k->cdb[4] & 2, start = k->cdb[4] & 1;
    if (load_eject && !start && p->locked) {
        packet_fail(k, SENSE_ILLEGAL, 0x53, 2);
        return;
    }
    if (load_eject && p->tray_open == start) {
        p->tray_open = !start;
        if (p->block) {
            p->media_event = start ? 2 : 3;
            p->attention = start;
            p->attention_asc = 0x28;
        }
    }
    packet_good(k);
}

/* --- reading --- */

static void packet_read(struct packet *k, uint32_t lba, uint32_t count)
{
    struct ahci_port *p = k->port;
    uint32_t sectors = disc_sectors(p);
    if (lba > sectors || count > sectors - lba) {
        packet_fail(k, SENSE_ILLEGAL, 0x21, 0);
        return;
    }
    if (count == 0) {
        packet_good(k);
        return;
    }
    uint64_t offset = (uint64_t)lba * CD_SECTOR, bytes = (uint64_t)count * CD_SECTOR;
    if (offset + bytes > block_size(p->block)) { /* the image is cut off here */
        packet_fail(k, SENSE_MEDIUM, 0x11, 0);
        return;
    }
    struct ata_job *job = ata_job_new(p, k->cmd, JOB_READ);
    job->pio = !(k->cmd->fis[3] & 1);
    if (!ata_job_map(job, k->cmd, offset, bytes)) {
        ahci_bus_error(p, k->cmd);
        ata_job_free(job);
    } else if (job->bytes == 0) {
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        ata_job_free(job);
    } else {
        ata_job_start(job);
    }
}

void atapi_read_done(struct ata_job *job)
{
    struct ahci_port *p = job->port;
    if (job->error) {
        packet_sense(p, SENSE_MEDIUM, 0x11, 0);
        ahci_complete_slot(p, job->slot, ATA_GOOD | ATA_ERR, SENSE_MEDIUM << 4 | ATA_ABRT, 3);
        return;
    }
    packet_sense(p, SENSE_NONE, 0, 0);
    ahci_set_transferred(p, job->header, job->bytes);
    if (job->pio) {
        ahci_pio_setup(p, ATA_GOOD | ATA_DRQ, ATA_GOOD, job->bytes);
    }
    ahci_complete_slot(p, job->slot, ATA_GOOD, 0, 3);
}

static void packet_read10(struct packet *k)
{
    packet_read(k, get_be32(k->cdb + 2), get_be16(k->cdb + 7));
}

static void packet_read12(struct packet *k)
{
    packet_read(k, get_be32(k->cdb + 2), get_be32(k->cdb + 6));
}

/* READ CD: only the 2048 bytes of user data. */
static void packet_read_cd(struct packet *k)
{
    uint32_t count = (uint32_t)k->cdb[6] << 16 | get_be16(k->cdb + 7);
    uint8_t parts = k->cdb[9] & 0xf8, type = k->cdb[1] >> 2 & 7;
    if ((parts != 0x10 && parts != 0) || type == 1) {
        packet_fail(k, SENSE_ILLEGAL, 0x24, 0);
        return;
    }
    packet_read(k, get_be32(k->cdb + 2), parts ? count : 0);
}

static void packet_seek(struct packet *k)
{
    if (get_be32(k->cdb + 2) >= disc_sectors(k->port)) {
        packet_fail(k, SENSE_ILLEGAL, 0x21, 0);
    } else {
        packet_good(k);
    }
}

static void packet_prevent(struct packet *k)
{
    k->port->locked = k->cdb[4] & 1;
    packet_good(k);
}

enum { NEEDS_DISC = 1, IGNORES_ATTENTION = 2 };

static const struct packet_operation {
    uint8_t code, flags;
    void (*run)(struct packet *packet);
} operations[] = {
    {0x00, NEEDS_DISC, packet_good}, /* TEST UNIT READY */
    {0x03, IGNORES_ATTENTION, packet_request_sense},
    {0x12, IGNORES_ATTENTION, packet_inquiry},
    {0x1a, 0, packet_mode_sense},
    {0x1b, 0, packet_start_stop},
    {0x1e, 0, packet_prevent},
    {0x25, NEEDS_DISC, packet_capacity},
    {0x28, NEEDS_DISC, packet_read10},
    {0x2b, NEEDS_DISC, packet_seek},
    {0x43, NEEDS_DISC, packet_toc},
    {0x46, IGNORES_ATTENTION, packet_configuration},
    {0x4a, IGNORES_ATTENTION, packet_event},
    {0x51, NEEDS_DISC, packet_disc_information},
    {0x52, NEEDS_DISC, packet_track_information},
    {0x5a, 0, packet_mode_sense},
    {0xa8, NEEDS_DISC, packet_read12},
    {0xbb, 0, packet_good}, /* SET CD SPEED */
    {0xbd, 0, packet_mechanism},
    {0xbe, NEEDS_DISC, packet_read_cd},
};

void atapi_execute(struct ahci_port *p, const struct ata_command *cmd)
{
    struct packet k = {p, cmd, cmd->packet};
    const struct packet_operation *op = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(operations); i++) {
        if (operations[i].code == cmd->packet[0]) {
            op = &operations[i];
        }
    }
    if (!op) {
        packet_fail(&k, SENSE_ILLEGAL, 0x20, 0);
    } else if (p->attention && !(op->flags & IGNORES_ATTENTION)) {
        p->attention = false;
        packet_fail(&k, SENSE_ATTENTION, p->attention_asc, 0);
    } else if (!(op->flags & NEEDS_DISC) || disc_present(&k)) {
        op->run(&k);
    }
}

/* IDENTIFY PACKET DEVICE, ACS-3 section 7.13. */
void atapi_identify(struct ahci_port *p, uint8_t d[512])
{
    memset(d, 0, 512);
    put_le16(d, 0x85c0); /* ATAPI CD-ROM, removable, 12-byte packets */
    ata_string(d + 20, 20, p->serial);
    ata_string(d + 46, 8, "1.0");
    ata_string(d + 54, 40, "Ringside DVD-ROM");
    put_le16(d + 98, 0x0f00);
    put_le16(d + 106, 7);
    put_le16(d + 126, 7);
    put_le16(d + 128, 3);
    for (unsigned i = 130; i <= 136; i += 2) {
        put_le16(d + i, 120);
    }
    put_le16(d + 152, 0x0006);
    put_le16(d + 160, 0x00f0);
    put_le16(d + 164, 0x4010); /* PACKET */
    put_le16(d + 166, 0x4000);
    put_le16(d + 168, 0x4000);
    put_le16(d + 170, 0x4010);
    put_le16(d + 174, 0x4000);
    put_le16(d + 176, 0x203f);
}
