/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk command set: ATA/ATAPI Command Set 3 (ACS-3) section 7, and the life of a transfer for
 * disks and CD-ROM drives alike.
 *
 * A write or flush that the host refuses (ENOSPC, EIO, ...) is kept: the slot stays open, the
 * machine is told, and ahci_retry() fetches the command from guest memory once more. A read error
 * is the guest's to handle (UNC).
 */
#include "ahci_internal.h"

#include <errno.h>
#include <string.h>

#define MULTIPLE_MAX 16u
#define TRIM_BLOCKS  8u

enum ata_action {
    ACTION_READ,
    ACTION_WRITE,
    ACTION_VERIFY,
    ACTION_FLUSH,
    ACTION_TRIM,
    ACTION_IDENTIFY,
    ACTION_FEATURES,
    ACTION_MULTIPLE,
    ACTION_NATIVE_MAX,
    ACTION_LOG,
    ACTION_POWER,
    ACTION_NOTHING
};

enum {
    OP_EXT = 1,
    OP_PIO = 2,
    OP_QUEUED = 4,
    OP_FUA = 8,
    OP_DRIVE = 16 /* CD-ROM drives as well */
};

static const struct ata_operation {
    uint8_t code;
    enum ata_action action;
    uint8_t flags;
} operations[] = {
    {0x06, ACTION_TRIM, OP_EXT},
    {0x10, ACTION_NOTHING, 0},
    {0x20, ACTION_READ, OP_PIO},
    {0x21, ACTION_READ, OP_PIO},
    {0x24, ACTION_READ, OP_PIO | OP_EXT},
    {0x25, ACTION_READ, OP_EXT},
    {0x27, ACTION_NATIVE_MAX, OP_EXT},
    {0x29, ACTION_READ, OP_PIO | OP_EXT},
    {0x2f, ACTION_LOG, OP_PIO | OP_EXT},
    {0x30, ACTION_WRITE, OP_PIO},
    {0x31, ACTION_WRITE, OP_PIO},
    {0x34, ACTION_WRITE, OP_PIO | OP_EXT},
    {0x35, ACTION_WRITE, OP_EXT},
    {0x39, ACTION_WRITE, OP_PIO | OP_EXT},
    {0x3d, ACTION_WRITE, OP_EXT | OP_FUA},
    {0x40, ACTION_VERIFY, 0},
    {0x41, ACTION_VERIFY, 0},
    {0x42, ACTION_VERIFY, OP_EXT},
    {0x47, ACTION_LOG, OP_EXT},
    {0x60, ACTION_READ, OP_EXT | OP_QUEUED},
    {0x61, ACTION_WRITE, OP_EXT | OP_QUEUED},
    {0x70, ACTION_NOTHING, 0},
    {0x91, ACTION_NOTHING, 0},
    {0xc4, ACTION_READ, OP_PIO},
    {0xc5, ACTION_WRITE, OP_PIO},
    {0xc6, ACTION_MULTIPLE, 0},
    {0xc8, ACTION_READ, 0},
    {0xc9, ACTION_READ, 0},
    {0xca, ACTION_WRITE, 0},
    {0xcb, ACTION_WRITE, 0},
    {0xce, ACTION_WRITE, OP_PIO | OP_EXT | OP_FUA},
    {0xe0, ACTION_NOTHING, OP_DRIVE},
    {0xe1, ACTION_NOTHING, OP_DRIVE},
    {0xe2, ACTION_NOTHING, OP_DRIVE},
    {0xe3, ACTION_NOTHING, OP_DRIVE},
    {0xe5, ACTION_POWER, OP_DRIVE},
    {0xe6, ACTION_NOTHING, OP_DRIVE},
    {0xe7, ACTION_FLUSH, 0},
    {0xea, ACTION_FLUSH, OP_EXT},
    {0xec, ACTION_IDENTIFY, OP_PIO},
    {0xef, ACTION_FEATURES, OP_DRIVE},
    {0xf5, ACTION_NOTHING, 0},
    {0xf8, ACTION_NATIVE_MAX, 0},
};

void ata_reset(struct ahci_port *p)
{
    p->multiple = MULTIPLE_MAX;
    p->write_cache = true;
    p->transfer_mode = 0x46;
}

/* --- jobs: what the block layer does --- */

struct ata_job *ata_job_new(struct ahci_port *p, const struct ata_command *cmd,
                            enum ata_job_kind kind)
{
    struct ata_job *job = g_new0(struct ata_job, 1);
    job->port = p;
    job->slot = cmd->slot;
    job->generation = p->generation;
    job->kind = kind;
    job->header = cmd->header;
    return job;
}

void ata_job_free(struct ata_job *job)
{
    g_free(job->iov);
    g_free(job->ranges);
    g_free(job);
}

bool ata_job_map(struct ata_job *job, const struct ata_command *cmd, uint64_t offset,
                 uint64_t bytes)
{
    job->offset = offset;
    return ahci_map_prdt(job->port, cmd, bytes, &job->iov, &job->niov, &job->bytes);
}

static void job_fail(struct ata_job *job, uint8_t error)
{
    if (job->queued) {
        ahci_complete_queued(job->port, job->slot, error);
    } else {
        ahci_complete_slot(job->port, job->slot, ATA_GOOD | ATA_ERR, error, 0);
    }
}

static void job_succeed(struct ata_job *job)
{
    struct ahci_port *p = job->port;
    if (job->kind == JOB_READ || job->kind == JOB_WRITE || job->bytes) {
        ahci_set_transferred(p, job->header, job->bytes);
    }
    if (job->queued) {
        ahci_complete_queued(p, job->slot, 0);
        return;
    }
    if (job->pio) {
        ahci_pio_setup(p, ATA_GOOD | ATA_DRQ, ATA_GOOD, job->bytes);
    }
    ahci_complete_slot(p, job->slot, ATA_GOOD, 0, 0);
}

/* The guest sees nothing of a host that is full or broken: its request waits. */
static void job_keep(struct ata_job *job)
{
    struct ahci_port *p = job->port;
    p->kept |= 1u << job->slot;
    device_log("ahci", "port %u: the host cannot write the disk image: %s; the request is kept",
               p->number, g_strerror(job->error));
    if (p->ahci->config.io_error) {
        p->ahci->config.io_error(p->ahci->config.opaque, p->number, job->error);
    }
}

static void job_end(struct ata_job *job)
{
    struct ahci_port *p = job->port;
    for (unsigned i = 0; job->kind == JOB_READ && i < job->niov; i++) {
        memory_wrote(p->ahci->host->memory, job->iov[i].iov_base, job->iov[i].iov_len);
    }
    if (job->generation != p->generation) {
        return;
    }
    bool refused = job->error == EINVAL || job->error == EROFS || job->error == EPERM;
    if (p->kind == AHCI_CDROM) {
        atapi_read_done(job);
    } else if (!job->error) {
        job_succeed(job);
    } else if (job->kind == JOB_READ) {
        job_fail(job, refused ? ATA_IDNF : ATA_UNC);
    } else if (refused) {
        job_fail(job, ATA_ABRT);
    } else {
        job_keep(job);
    }
}

static void job_done(void *opaque, int error)
{
    struct ata_job *job = opaque;
    job->port->ahci->in_flight--;
    job->error = error;
    if (!error && job->kind == JOB_WRITE && job->fua) {
        job->fua = false;
        job->port->ahci->in_flight++;
        block_flush(job->port->block, job_done, job);
        return;
    }
    if (!error && job->kind == JOB_TRIM && ++job->range < job->range_count) {
        ata_job_start(job);
        return;
    }
    job_end(job);
    ata_job_free(job);
}

void ata_job_start(struct ata_job *job)
{
    struct block *b = job->port->block;
    job->port->ahci->in_flight++;
    switch (job->kind) {
    case JOB_READ:
        block_readv(b, job->offset, job->iov, job->niov, job_done, job);
        break;
    case JOB_WRITE:
        block_writev(b, job->offset, job->iov, job->niov, job_done, job);
        break;
    case JOB_FLUSH:
        block_flush(b, job_done, job);
        break;
    case JOB_TRIM:
        block_discard(b, job->ranges[job->range][0], job->ranges[job->range][1], job_done, job);
        break;
    }
}

/* --- addresses --- */

static uint64_t command_lba(const uint8_t *fis, bool ext)
{
    uint64_t lba = fis[4] | fis[5] << 8 | (uint64_t)fis[6] << 16;
    if (ext) {
        return lba | (uint64_t)fis[8] << 24 | (uint64_t)fis[9] << 32 | (uint64_t)fis[10] << 40;
    }
    if (fis[7] & 0x40) {
        return lba | (uint64_t)(fis[7] & 0x0f) << 24;
    }
    uint64_t cylinder = fis[5] | fis[6] << 8, sector = fis[4];
    return sector ? (cylinder * 16 + (fis[7] & 0x0f)) * 63 + sector - 1 : UINT64_MAX;
}

static uint32_t command_count(const uint8_t *fis, const struct ata_operation *op)
{
    if (op->flags & OP_QUEUED) {
        uint32_t n = fis[3] | fis[11] << 8;
        return n ? n : 65536;
    }
    uint32_t n = fis[12] | (op->flags & OP_EXT ? fis[13] << 8 : 0);
    return n ? n : (op->flags & OP_EXT ? 65536 : 256);
}

static uint64_t disk_sectors(const struct ahci_port *p)
{
    return MIN(block_size(p->block) / BLOCK_SECTOR, 1ull << 48);
}

static bool range_valid(const struct ahci_port *p, uint64_t lba, uint64_t count)
{
    uint64_t sectors = disk_sectors(p);
    return lba < sectors && count <= sectors - lba;
}

static void command_fail(struct ahci_port *p, const struct ata_command *cmd, bool queued,
                         uint8_t error)
{
    if (queued) {
        ahci_complete_queued(p, cmd->slot, error);
    } else {
        ahci_complete(p, cmd, ATA_GOOD | ATA_ERR, error);
    }
}

/* --- commands --- */

static void command_transfer(struct ahci_port *p, const struct ata_command *cmd,
                             const struct ata_operation *op)
{
    bool queued = op->flags & OP_QUEUED, write = op->action == ACTION_WRITE;
    uint64_t lba = command_lba(cmd->fis, op->flags & OP_EXT);
    uint32_t count = command_count(cmd->fis, op);
    if (queued && !cmd->retry) {
        ahci_accept_queued(p, cmd->slot);
    }
    if (!range_valid(p, lba, count)) {
        command_fail(p, cmd, queued, ATA_IDNF);
        return;
    }
    struct ata_job *job = ata_job_new(p, cmd, write ? JOB_WRITE : JOB_READ);
    job->queued = queued;
    job->pio = op->flags & OP_PIO;
    job->fua = (op->flags & OP_FUA) || (queued && (cmd->fis[7] & 0x80));
    if (!ata_job_map(job, cmd, lba * BLOCK_SECTOR, (uint64_t)count * BLOCK_SECTOR)) {
        ahci_bus_error(p, cmd);
        ata_job_free(job);
    } else if (job->bytes != (uint64_t)count * BLOCK_SECTOR) {
        p->is |= PORT_OFS; /* the PRDT is too short for the command */
        command_fail(p, cmd, queued, ATA_ABRT);
        ata_job_free(job);
    } else {
        ata_job_start(job);
    }
}

static void command_flush(struct ahci_port *p, const struct ata_command *cmd)
{
    ata_job_start(ata_job_new(p, cmd, JOB_FLUSH));
}

/* DATA SET MANAGEMENT: 512-byte blocks of (48-bit LBA, 16-bit count). */
static void command_trim(struct ahci_port *p, const struct ata_command *cmd)
{
    uint8_t data[TRIM_BLOCKS * 512];
    size_t want = (size_t)(cmd->fis[12] | cmd->fis[13] << 8) * 512;
    if (!(cmd->fis[3] & 1) || want == 0 || want > sizeof(data)) {
        ahci_complete(p, cmd, ATA_GOOD | ATA_ERR, ATA_ABRT);
        return;
    }
    if (ahci_data_out(p, cmd, data, want) != want) {
        ahci_bus_error(p, cmd);
        return;
    }
    struct ata_job *job = ata_job_new(p, cmd, JOB_TRIM);
    job->ranges = g_malloc(want / 8 * sizeof(*job->ranges));
    job->bytes = want;
    bool valid = true;
    for (size_t i = 0; i < want; i += 8) {
        uint64_t entry = get_le64(data + i), lba = entry & 0xffffffffffffull, count = entry >> 48;
        if (count > 0) {
            valid = valid && range_valid(p, lba, count);
            job->ranges[job->range_count][0] = lba * BLOCK_SECTOR;
            job->ranges[job->range_count++][1] = count * BLOCK_SECTOR;
        }
    }
    if (valid && job->range_count) {
        ata_job_start(job);
        return;
    }
    ahci_complete(p, cmd, valid ? ATA_GOOD : ATA_GOOD | ATA_ERR, valid ? 0 : ATA_IDNF);
    ata_job_free(job);
}

static void command_features(struct ahci_port *p, const struct ata_command *cmd)
{
    bool known = true;
    switch (cmd->fis[3]) {
    case 0x02:
    case 0x82:
        p->write_cache = cmd->fis[3] == 0x02;
        if (!p->write_cache && p->kind == AHCI_DISK) {
            command_flush(p, cmd);
            return;
        }
        break;
    case 0x03:
        p->transfer_mode = cmd->fis[12];
        break;
    case 0x05: /* advanced power management, read look-ahead, power-up, interrupts: nothing to do */
    case 0x85:
    case 0x55:
    case 0xaa:
    case 0x66:
    case 0xcc:
    case 0x10:
    case 0x90:
        break;
    default:
        known = false;
    }
    ahci_complete(p, cmd, known ? ATA_GOOD : ATA_GOOD | ATA_ERR, known ? 0 : ATA_ABRT);
}

static void command_multiple(struct ahci_port *p, const struct ata_command *cmd)
{
    uint8_t n = cmd->fis[12];
    bool valid = n <= MULTIPLE_MAX && (n & (n - 1)) == 0;
    if (valid) {
        p->multiple = n;
    }
    ahci_complete(p, cmd, valid ? ATA_GOOD : ATA_GOOD | ATA_ERR, valid ? 0 : ATA_ABRT);
}

/* The answer is an address; it goes into the register FIS by way of the received FIS area. */
static void command_native_max(struct ahci_port *p, const struct ata_command *cmd)
{
    uint64_t last = disk_sectors(p) - 1;
    ahci_complete(p, cmd, ATA_GOOD, 0);
    if (!(p->cmd & 0x10)) {
        return;
    }
    uint8_t *area = memory_ram_ptr(p->ahci->host->memory, p->fb, 256);
    if (area) {
        bool ext = cmd->fis[2] == 0x27;
        last = ext ? last : MIN(last, 0x0fffffff);
        area[0x44] = (uint8_t)last;
        area[0x45] = (uint8_t)(last >> 8);
        area[0x46] = (uint8_t)(last >> 16);
        area[0x47] = ext ? 0x40 : (uint8_t)(0x40 | (last >> 24));
        area[0x48] = ext ? (uint8_t)(last >> 24) : 0;
        area[0x49] = ext ? (uint8_t)(last >> 32) : 0;
        area[0x4a] = ext ? (uint8_t)(last >> 40) : 0;
        memory_wrote(p->ahci->host->memory, area + 0x40, 20);
    }
}

/* READ LOG EXT: page 00h (directory) and 10h (queued error). */
static void command_log(struct ahci_port *p, const struct ata_command *cmd, bool pio)
{
    uint8_t page[512] = {0};
    if (cmd->fis[4] == 0x10) {
        memcpy(page, p->ncq_error, sizeof(p->ncq_error));
        uint8_t sum = 0;
        for (unsigned i = 0; i < 511; i++) {
            sum = (uint8_t)(sum + page[i]);
        }
        page[511] = (uint8_t)-sum;
    } else if (cmd->fis[4] == 0) {
        put_le16(page, 1);
        put_le16(page + 0x20, 1);
    } else {
        ahci_complete(p, cmd, ATA_GOOD | ATA_ERR, ATA_ABRT);
        return;
    }
    ahci_data_in(p, cmd, page, sizeof(page), pio, 0);
}

/* ATA strings: padded with blanks, the bytes of each word swapped. */
void ata_string(uint8_t *out, size_t size, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < size; i++) {
        out[i ^ 1] = i < len ? (uint8_t)text[i] : ' ';
    }
}

static void identify_geometry(uint8_t *d, uint64_t sectors, uint8_t multiple)
{
    uint16_t cylinders = (uint16_t)MIN(sectors / (16 * 63), 16383);
    uint32_t chs = (uint32_t)cylinders * 16 * 63;
    put_le16(d + 2, cylinders);
    put_le16(d + 6, 16);
    put_le16(d + 12, 63);
    put_le16(d + 108, cylinders);
    put_le16(d + 110, 16);
    put_le16(d + 112, 63);
    put_le32(d + 114, chs);
    put_le16(d + 94, 0x8000 | MULTIPLE_MAX);
    put_le16(d + 118, (uint16_t)(multiple ? 0x100 | multiple : 0));
    put_le32(d + 120, (uint32_t)MIN(sectors, 0x0fffffff));
    put_le32(d + 200, (uint32_t)sectors);
    put_le32(d + 204, (uint32_t)(sectors >> 32));
}

/* ACS-3 section 7.12.7; `d` is indexed by byte: word number times two. */
static void identify_disk(struct ahci_port *p, uint8_t d[512])
{
    memset(d, 0, 512);
    put_le16(d, 0x0040);
    identify_geometry(d, disk_sectors(p), p->multiple);
    ata_string(d + 20, 20, p->serial);
    ata_string(d + 46, 8, "1.0");
    ata_string(d + 54, 40, "Ringside Hard Disk");
    put_le16(d + 98, 0x0f00); /* DMA, LBA, IORDY */
    put_le16(d + 100, 0x4000);
    put_le16(d + 106, 7); /* words 54-58, 64-70, 88 are valid */
    put_le16(d + 126, 7); /* multiword DMA 0-2 */
    put_le16(d + 128, 3); /* PIO 3, 4 */
    for (unsigned i = 130; i <= 136; i += 2) {
        put_le16(d + i, 120);
    }
    put_le16(d + 150, 31);     /* queue depth 32 */
    put_le16(d + 152, 0x0106); /* NCQ, 1.5 and 3 Gb/s */
    put_le16(d + 160, 0x01f0); /* ATA-4 to ATA8 */
    put_le16(d + 164, 0x4060); /* write cache, look-ahead, NOP no */
    put_le16(d + 166, 0x7400); /* FLUSH, FLUSH EXT, 48-bit */
    put_le16(d + 168, 0x4060); /* general logging, FUA */
    put_le16(d + 170, p->write_cache ? 0x4060 : 0x4040);
    put_le16(d + 172, 0x3400);
    put_le16(d + 174, 0x4060);
    put_le16(d + 176, (p->transfer_mode & 0xf8) == 0x40
                          ? (uint16_t)(0x3f | 0x100u << (p->transfer_mode & 7))
                          : 0x3f);
    put_le16(d + 186, 0x4001);
    put_le16(d + 210, TRIM_BLOCKS);
    put_le16(d + 212, 0x6000); /* one logical sector per physical, 2^0 */
    put_le16(d + 338, 1);      /* TRIM */
    put_le16(d + 434, 1);      /* not a rotating medium */
    put_le16(d + 444, 0x101f); /* serial transport */
    d[510] = 0xa5;
    uint8_t sum = 0;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + d[i]);
    }
    d[511] = (uint8_t)-sum;
}

static void command_identify(struct ahci_port *p, const struct ata_command *cmd)
{
    uint8_t data[512];
    identify_disk(p, data);
    ahci_data_in(p, cmd, data, sizeof(data), true, 0);
}

static void operation_run(struct ahci_port *p, const struct ata_command *cmd,
                          const struct ata_operation *op)
{
    bool ext = op->flags & OP_EXT;
    bool valid;
    switch (op->action) {
    case ACTION_READ:
    case ACTION_WRITE:
        command_transfer(p, cmd, op);
        break;
    case ACTION_VERIFY:
        valid = range_valid(p, command_lba(cmd->fis, ext), command_count(cmd->fis, op));
        ahci_complete(p, cmd, valid ? ATA_GOOD : ATA_GOOD | ATA_ERR, valid ? 0 : ATA_IDNF);
        break;
    case ACTION_FLUSH:
        command_flush(p, cmd);
        break;
    case ACTION_TRIM:
        command_trim(p, cmd);
        break;
    case ACTION_IDENTIFY:
        command_identify(p, cmd);
        break;
    case ACTION_FEATURES:
        command_features(p, cmd);
        break;
    case ACTION_MULTIPLE:
        command_multiple(p, cmd);
        break;
    case ACTION_NATIVE_MAX:
        command_native_max(p, cmd);
        break;
    case ACTION_LOG:
        command_log(p, cmd, op->flags & OP_PIO);
        break;
    case ACTION_POWER:
        ahci_complete_slot(p, cmd->slot, ATA_GOOD, 0, 0xff);
        break;
    case ACTION_NOTHING:
        ahci_complete(p, cmd, ATA_GOOD, 0);
        break;
    }
}

static const struct ata_operation *operation_find(uint8_t code)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(operations); i++) {
        if (operations[i].code == code) {
            return &operations[i];
        }
    }
    return NULL;
}

/* The few ATA commands of a CD-ROM drive. False: not one of them. */
static bool drive_execute(struct ahci_port *p, const struct ata_command *cmd)
{
    uint8_t data[512];
    switch (cmd->fis[2]) {
    case 0xa0:
        atapi_execute(p, cmd);
        return true;
    case 0xa1:
        atapi_identify(p, data);
        ahci_data_in(p, cmd, data, sizeof(data), true, 2);
        return true;
    case 0x08: /* DEVICE RESET */
        atapi_reset(p);
        ahci_complete_slot(p, cmd->slot, 0, 1, 1);
        return true;
    default:
        return false;
    }
}

void ata_execute(struct ahci_port *p, const struct ata_command *cmd)
{
    const struct ata_operation *op = operation_find(cmd->fis[2]);
    bool queued = p->sact & 1u << cmd->slot;
    if (p->kind == AHCI_CDROM && drive_execute(p, cmd)) {
        return;
    }
    if (!op || (p->kind == AHCI_CDROM && !(op->flags & OP_DRIVE)) ||
        queued != !!(op->flags & OP_QUEUED)) {
        command_fail(p, cmd, queued, ATA_ABRT);
        return;
    }
    operation_run(p, cmd, op);
}
