/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk's SCSI commands: SPC-4 section 6, SBC-3 section 5. */
#include <string.h>

#include "storage_internal.h"

#define NO_SENSE        0u
#define ILLEGAL_REQUEST 5u
#define DATA_PROTECT    7u
#define BLOCKS_MAX      (UINT32_MAX / BLOCK_SECTOR)

enum {
    TEST_UNIT_READY = 0x00,
    REQUEST_SENSE = 0x03,
    READ_6 = 0x08,
    WRITE_6 = 0x0a,
    INQUIRY = 0x12,
    MODE_SENSE_6 = 0x1a,
    START_STOP = 0x1b,
    PREVENT_REMOVAL = 0x1e,
    READ_FORMAT_CAPACITIES = 0x23,
    READ_CAPACITY_10 = 0x25,
    READ_10 = 0x28,
    WRITE_10 = 0x2a,
    VERIFY_10 = 0x2f,
    SYNCHRONIZE_CACHE_10 = 0x35,
    MODE_SENSE_10 = 0x5a,
    READ_16 = 0x88,
    WRITE_16 = 0x8a,
    SYNCHRONIZE_CACHE_16 = 0x91,
    SERVICE_ACTION_IN = 0x9e,
    REPORT_LUNS = 0xa0,
    READ_12 = 0xa8,
    WRITE_12 = 0xaa,
};

static uint64_t be(const uint8_t *p, unsigned n)
{
    uint64_t value = 0;

    while (n--) {
        value = value << 8 | *p++;
    }
    return value;
}

static void put_be(uint8_t *p, unsigned n, uint64_t value)
{
    while (n--) {
        p[n] = (uint8_t)value;
        value >>= 8;
    }
}

static uint64_t blocks(const struct storage *s)
{
    return block_size(s->config.block) / BLOCK_SECTOR;
}

void storage_sense(struct storage *s, uint8_t key, uint8_t asc, uint8_t ascq)
{
    s->sense = key;
    s->asc = asc;
    s->ascq = ascq;
    s->status = STATUS_FAILED;
}

static void invalid(struct storage *s)
{
    storage_sense(s, ILLEGAL_REQUEST, 0x24, 0);
}

static void reply(struct storage *s, size_t size, size_t allocated)
{
    s->due = (uint32_t)MIN(MIN(size, allocated), STORAGE_REPLY);
}

static void request_sense(struct storage *s)
{
    s->reply[0] = 0x70;
    s->reply[2] = s->sense;
    s->reply[7] = 10;
    s->reply[12] = s->asc;
    s->reply[13] = s->ascq;
    s->sense = s->asc = s->ascq = NO_SENSE;
    reply(s, 18, s->cdb[4]);
}

static void pad(uint8_t *to, const char *text, size_t size)
{
    size_t n = MIN(strlen(text), size);

    memset(to, ' ', size);
    memcpy(to, text, n);
}

/* Vital product data: which pages there are, the serial number, limits of a transfer. */
static void inquiry_page(struct storage *s)
{
    size_t n;

    s->reply[1] = s->cdb[2];
    switch (s->cdb[2]) {
    case 0x00:
        s->reply[5] = 0x80;
        s->reply[6] = 0xb0;
        n = 3;
        break;
    case 0x80:
        n = strlen(s->serial);
        memcpy(s->reply + 4, s->serial, n);
        break;
    case 0xb0:
        n = 60;
        break;
    default:
        invalid(s);
        return;
    }
    s->reply[3] = (uint8_t)n;
    reply(s, 4 + n, (size_t)be(s->cdb + 3, 2));
}

static void inquiry(struct storage *s)
{
    if (s->cdb[1] & 1) {
        inquiry_page(s);
        return;
    }
    if (s->cdb[2]) {
        invalid(s);
        return;
    }
    s->reply[2] = 6; /* SPC-4 */
    s->reply[3] = 2;
    s->reply[4] = 36 - 5;
    pad(s->reply + 8, "Ringside", 8);
    pad(s->reply + 16, "USB disk", 16);
    pad(s->reply + 32, "1.0", 4);
    reply(s, 36, (size_t)be(s->cdb + 3, 2));
}

/* Caching (08h) is the one page there is: a write cache. */
static void mode_sense(struct storage *s, bool ten)
{
    unsigned head = ten ? 8 : 4, page = s->cdb[2] & 0x3f, n = head;
    uint8_t protect = block_read_only(s->config.block) ? 0x80 : 0;

    if (page != 0x08 && page != 0x3f) {
        invalid(s);
        return;
    }
    s->reply[n] = 0x08;
    s->reply[n + 1] = 18;
    s->reply[n + 2] = (s->cdb[2] >> 6) == 1 ? 0 : 4; /* WCE, which cannot be changed */
    n += 20;
    if (ten) {
        put_be(s->reply, 2, n - 2);
        s->reply[3] = protect;
    } else {
        s->reply[0] = (uint8_t)(n - 1);
        s->reply[2] = protect;
    }
    reply(s, n, ten ? (size_t)be(s->cdb + 7, 2) : s->cdb[4]);
}

static void read_capacity(struct storage *s)
{
    put_be(s->reply, 4, MIN(blocks(s) - 1, UINT32_MAX));
    put_be(s->reply + 4, 4, BLOCK_SECTOR);
    reply(s, 8, 8);
}

static void read_capacity_16(struct storage *s)
{
    if ((s->cdb[1] & 31) != 0x10) {
        invalid(s);
        return;
    }
    put_be(s->reply, 8, blocks(s) - 1);
    put_be(s->reply + 8, 4, BLOCK_SECTOR);
    reply(s, 32, (size_t)be(s->cdb + 10, 4));
}

static void read_format_capacities(struct storage *s)
{
    s->reply[3] = 8;
    put_be(s->reply + 4, 4, MIN(blocks(s), UINT32_MAX));
    put_be(s->reply + 8, 4, 2u << 24 | BLOCK_SECTOR);
    reply(s, 12, (size_t)be(s->cdb + 7, 2));
}

static void report_luns(struct storage *s)
{
    put_be(s->reply, 4, 8);
    reply(s, 16, (size_t)be(s->cdb + 6, 4));
}

static void move_blocks(struct storage *s, bool write, uint64_t at, uint64_t count)
{
    if (at > blocks(s) || count > blocks(s) - at || count > BLOCKS_MAX) {
        storage_sense(s, ILLEGAL_REQUEST, 0x21, 0);
    } else if (write && block_read_only(s->config.block)) {
        storage_sense(s, DATA_PROTECT, 0x27, 0);
    } else if (count) {
        s->work = write ? WORK_WRITE : WORK_READ;
        s->offset = at * BLOCK_SECTOR;
        s->due = (uint32_t)(count * BLOCK_SECTOR);
    }
}

/* False: not such a command. */
static bool move_command(struct storage *s)
{
    const uint8_t *c = s->cdb;
    bool write = (c[0] & 0x1f) == WRITE_6;

    switch (c[0]) {
    case READ_6:
    case WRITE_6:
        move_blocks(s, write, be(c + 1, 3) & 0x1fffff, c[4] ? c[4] : 256);
        return true;
    case READ_10:
    case WRITE_10:
        move_blocks(s, write, be(c + 2, 4), be(c + 7, 2));
        return true;
    case READ_12:
    case WRITE_12:
        move_blocks(s, write, be(c + 2, 4), be(c + 6, 4));
        return true;
    case READ_16:
    case WRITE_16:
        move_blocks(s, write, be(c + 2, 8), be(c + 10, 4));
        return true;
    default:
        return false;
    }
}

void storage_command(struct storage *s)
{
    if (move_command(s)) {
        return;
    }
    switch (s->cdb[0]) {
    case TEST_UNIT_READY:
    case PREVENT_REMOVAL:
        break;
    case VERIFY_10:
        if (s->cdb[1] & 2) { /* with data to compare */
            invalid(s);
        }
        break;
    case REQUEST_SENSE:
        request_sense(s);
        break;
    case INQUIRY:
        inquiry(s);
        break;
    case MODE_SENSE_6:
    case MODE_SENSE_10:
        mode_sense(s, s->cdb[0] == MODE_SENSE_10);
        break;
    case READ_CAPACITY_10:
        read_capacity(s);
        break;
    case SERVICE_ACTION_IN:
        read_capacity_16(s);
        break;
    case READ_FORMAT_CAPACITIES:
        read_format_capacities(s);
        break;
    case REPORT_LUNS:
        report_luns(s);
        break;
    case START_STOP:
    case SYNCHRONIZE_CACHE_10:
    case SYNCHRONIZE_CACHE_16:
        s->work = WORK_FLUSH;
        break;
    default:
        storage_sense(s, ILLEGAL_REQUEST, 0x20, 0);
    }
}
