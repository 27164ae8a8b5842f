/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bulk-only transport (see storage.h; sections cited are of it): a command block wrapper, data,
 * a status wrapper, each one or more bulk transfers. Data goes between a transfer's buffer and the
 * image without a copy, one transfer at a time.
 *
 * A write that the host refuses is kept, and with it the guest's transfer; a saved machine has the
 * controller issue that again.
 */
#include <errno.h>
#include <string.h>

#include "device.h"
#include "storage_internal.h"

#define BULK_IN  (USB_IN | 1)
#define BULK_OUT 2u
#define CBW_SIZE 31u
#define CSW_SIZE 13u
#define CBW_IN   0x80u

enum { GET_MAX_LUN = 0xa1fe, BULK_ONLY_RESET = 0x21ff };

/* clang-format off */
static const uint8_t configuration[] = {
    9, 2, 44, 0, 1, 1, 0, 0xc0, 0,
    9, 4, 0, 0, 2, 8, 6, 0x50, 0,    /* mass storage, SCSI, bulk-only */
    7, 5, BULK_IN, 2, 0, 4, 0,       /* bulk, 1024 bytes */
    6, 0x30, 15, 0, 0, 0,            /* bursts of 16 packets */
    7, 5, BULK_OUT, 2, 0, 4, 0,
    6, 0x30, 15, 0, 0, 0,
};

static const uint8_t bos[] = {
    5, 15, 22, 0, 2,
    7, 16, 2, 0, 0, 0, 0,            /* USB 2 extension */
    10, 16, 3, 0, 0x0e, 0, 1, 0, 0, 0, /* SuperSpeed: full, high and super speed */
};
/* clang-format on */

static struct storage *storage_of(struct usb_function *f)
{
    return (struct storage *)f;
}

static uint32_t le32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}

static void end(struct usb_transfer *t, size_t actual, enum usb_status status)
{
    t->actual = actual;
    usb_complete(t, status);
}

static uint32_t left(const struct storage *s)
{
    return s->due > s->moved ? s->due - s->moved : 0;
}

/* --- the image --- */

static void run(struct storage *s);
static void job_done(void *opaque, int error);

static void job_start(struct storage *s)
{
    struct usb_transfer *t = s->active;
    struct iovec iov;

    s->working = true;
    s->kept = false;
    s->job_generation = s->generation;
    usb_device_ref(&s->f.dev);
    if (s->work == WORK_FLUSH) {
        block_flush(s->config.block, job_done, s);
        return;
    }
    iov = (struct iovec){t->data, MIN(t->length, left(s))};
    if (s->work == WORK_READ) {
        block_readv(s->config.block, s->offset + s->moved, &iov, 1, job_done, s);
    } else {
        block_writev(s->config.block, s->offset + s->moved, &iov, 1, job_done, s);
    }
}

static bool refused(int error)
{
    return error == EINVAL || error == EROFS || error == EPERM;
}

static void job_keep(struct storage *s, int error)
{
    s->kept = true;
    device_log("usb-storage", "the host cannot write the disk image: %s; the request is kept",
               g_strerror(error));
    if (s->config.io_error) {
        s->config.io_error(s->config.opaque, s->config.block, error);
    }
}

/* `n` bytes came from the host, or go there: less than there was room for is the end of the data.
 */
static void data_moved(struct storage *s, struct usb_transfer *t, size_t n)
{
    s->moved += (uint32_t)n;
    if (s->moved >= s->wanted || n < t->length) {
        s->phase = PHASE_STATUS;
    }
    end(t, n, USB_DONE);
}

static void job_end(struct storage *s, int error)
{
    struct usb_transfer *t = s->active;
    enum storage_work work = s->work;

    if (error && work != WORK_READ && !refused(error)) {
        job_keep(s, error);
        return;
    }
    s->active = NULL;
    if (error) {
        storage_sense(s, work == WORK_READ ? 3 : 4, work == WORK_READ ? 0x11 : 0x44, 0);
    }
    if (work == WORK_FLUSH) {
        s->work = WORK_NONE;
    } else if (error) {
        s->work = WORK_NONE;
        s->due = s->moved;
        s->phase = PHASE_STATUS;
        usb_function_halt(&s->f, t->endpoint);
        end(t, 0, USB_STALL);
    } else {
        data_moved(s, t, work == WORK_READ ? MIN(t->length, left(s)) : t->length);
    }
}

static void job_done(void *opaque, int error)
{
    struct storage *s = opaque;

    s->working = false;
    if (s->job_generation == s->generation) {
        job_end(s, error);
    } else if (s->active) { /* it was reset meanwhile */
        struct usb_transfer *t = s->active;
        s->active = NULL;
        end(t, 0, USB_GONE);
    }
    run(s);
    usb_device_unref(&s->f.dev);
}

void usb_storage_retry(struct usb_device *dev)
{
    struct storage *s = (struct storage *)dev;

    if (s->kept) {
        job_start(s);
    }
}

/* --- phases --- */

/* Nonsense: everything stalls until a reset. */
static void break_down(struct storage *s, struct usb_transfer *t)
{
    s->broken = true;
    s->phase = PHASE_COMMAND;
    end(t, 0, USB_STALL);
}

static void command_begin(struct storage *s, struct usb_transfer *t)
{
    const uint8_t *cbw = t->data;
    bool in;

    if (t->length != CBW_SIZE || memcmp(cbw, "USBC", 4) != 0 || cbw[13] != 0 || cbw[14] < 1 ||
        cbw[14] > STORAGE_CDB) {
        break_down(s, t);
        return;
    }
    s->tag = le32(cbw + 4);
    s->wanted = le32(cbw + 8);
    s->moved = s->due = 0;
    s->work = WORK_NONE;
    s->status = STATUS_PASSED;
    memset(s->cdb, 0, sizeof s->cdb);
    memcpy(s->cdb, cbw + 15, cbw[14]);
    memset(s->reply, 0, sizeof s->reply);
    in = cbw[12] & CBW_IN;
    storage_command(s);
    if (s->due && (in != (s->work != WORK_WRITE) || (s->work && s->due > s->wanted))) {
        s->status = STATUS_PHASE_ERROR; /* section 6.7 */
        s->due = 0;
        s->work = WORK_NONE;
    }
    s->due = MIN(s->due, s->wanted);
    s->phase = (uint8_t)(!s->wanted ? PHASE_STATUS : in ? PHASE_IN : PHASE_OUT);
    end(t, t->length, USB_DONE);
}

static void data_in(struct storage *s, struct usb_transfer *t)
{
    size_t n = MIN(t->length, left(s));

    if (!s->due && s->status != STATUS_PASSED) {
        s->phase = PHASE_STATUS;
        usb_function_halt(&s->f, BULK_IN);
        end(t, 0, USB_STALL);
    } else if (s->work == WORK_READ && n) {
        s->active = t;
        job_start(s);
    } else {
        if (n && s->work == WORK_NONE) {
            memcpy(t->data, s->reply + s->moved, n);
        }
        data_moved(s, t, n);
    }
}

static void data_out(struct storage *s, struct usb_transfer *t)
{
    if (t->length > s->wanted - s->moved) {
        break_down(s, t);
    } else if (s->work == WORK_WRITE && left(s) && t->length) {
        s->active = t;
        job_start(s);
    } else { /* not asked for: thrown away */
        data_moved(s, t, t->length);
    }
}

static void status_in(struct storage *s, struct usb_transfer *t)
{
    uint32_t used = MIN(s->moved, s->due);
    uint32_t words[3] = {0x53425355, s->tag, s->wanted - used}; /* "USBS" */
    uint8_t csw[CSW_SIZE];

    memcpy(csw, words, sizeof words);
    csw[12] = s->status;
    s->phase = PHASE_COMMAND;
    t->actual = MIN(t->length, sizeof csw);
    memcpy(t->data, csw, t->actual);
    usb_complete(t, USB_DONE);
}

/* Goes on with what the guest has asked for, until it is the guest's turn or the image's. */
static void run(struct storage *s)
{
    bool nested = s->running;
    static void (*const steps[])(struct storage * s, struct usb_transfer * t) = {
        command_begin, data_in, data_out, status_in};

    s->running = true;
    while (!nested && !s->active && !s->working && !s->broken && s->f.configuration) {
        uint8_t endpoint = s->phase == PHASE_COMMAND || s->phase == PHASE_OUT ? BULK_OUT : BULK_IN;
        struct usb_transfer *t;
        if (s->phase == PHASE_STATUS && s->work == WORK_FLUSH) {
            job_start(s);
            break;
        }
        t = usb_function_next(&s->f, endpoint);
        if (!t) {
            break;
        }
        steps[s->phase & 3](s, t);
    }
    s->running = nested;
}

static void storage_data(struct usb_function *f, struct usb_transfer *t)
{
    struct storage *s = storage_of(f);

    if (s->broken || (t->endpoint != BULK_IN && t->endpoint != BULK_OUT)) {
        usb_complete(t, USB_STALL);
        return;
    }
    usb_function_keep(f, t);
    run(s);
}

static void storage_reset(struct usb_function *f)
{
    struct storage *s = storage_of(f);
    struct usb_transfer *t = s->active;

    s->generation++;
    s->phase = PHASE_COMMAND;
    s->work = WORK_NONE;
    s->broken = false;
    s->moved = s->due = s->wanted = 0;
    if (s->kept && t) {
        s->kept = false;
        s->active = NULL;
        end(t, 0, USB_GONE);
    }
    s->kept = false;
}

static bool storage_control(struct usb_function *f, struct usb_transfer *t)
{
    const uint8_t max_lun = 0;

    switch (t->setup.type << 8 | t->setup.request) {
    case GET_MAX_LUN:
        return usb_function_reply(t, &max_lun, 1);
    case BULK_ONLY_RESET:
        storage_reset(f);
        return usb_function_reply(t, NULL, 0);
    default:
        return false;
    }
}

/* What the image is at work for comes back when that is done; a write that waits, at once. */
static void storage_cancel(struct usb_device *dev, struct usb_transfer *t)
{
    struct storage *s = (struct storage *)dev;

    if (t != s->active) {
        usb_function_cancel(dev, t);
    } else if (s->kept) {
        s->kept = false;
        s->active = NULL;
        usb_complete(t, USB_CANCELLED);
    }
}

static const struct usb_function_info storage_info = {
    .version = 0x0300,
    .packet0 = 9,
    .vendor = 0x1d6b,
    .product = 0x0105,
    .product_name = "USB disk",
    .configuration = configuration,
    .configuration_size = sizeof configuration,
    .bos = bos,
    .bos_size = sizeof bos,
    .control = storage_control,
    .data = storage_data,
    .reset = storage_reset,
};

/* --- for its controller --- */

static void storage_state(struct usb_device *dev, struct state *st)
{
    struct storage *s = (struct storage *)dev;

    usb_function_state(&s->f, st);
    state_u8(st, "phase", &s->phase);
    state_u8(st, "work", &s->work);
    state_u8(st, "status", &s->status);
    state_bool(st, "broken", &s->broken);
    state_u32(st, "tag", &s->tag);
    state_u32(st, "wanted", &s->wanted);
    state_u32(st, "moved", &s->moved);
    state_u32(st, "due", &s->due);
    state_u64(st, "offset", &s->offset);
    state_bytes(st, "cdb", s->cdb, sizeof s->cdb);
    state_bytes(st, "reply", s->reply, sizeof s->reply);
    state_u8(st, "sense", &s->sense);
    state_u8(st, "asc", &s->asc);
    state_u8(st, "ascq", &s->ascq);
    if (state_restoring(st)) {
        s->phase &= 3;
        s->work &= 3;
        s->moved = MIN(s->moved, s->wanted);
        if (s->work == WORK_NONE) {
            s->due = MIN(s->due, STORAGE_REPLY);
        }
    }
}

static bool storage_busy(struct usb_device *dev)
{
    return ((struct storage *)dev)->working;
}

static void storage_free(struct usb_device *dev)
{
    g_free(dev);
}

static const struct usb_device_class storage_class = {
    .name = "usb-storage",
    .submit = usb_function_submit,
    .cancel = storage_cancel,
    .reset = usb_function_reset,
    .state = storage_state,
    .busy = storage_busy,
    .free = storage_free,
};

struct usb_device *usb_storage_new(const struct usb_storage_config *config)
{
    struct storage *s = g_new0(struct storage, 1);

    s->config = *config;
    s->config.serial = NULL;
    g_strlcpy(s->serial, config->serial ? config->serial : "000000000001", sizeof s->serial);
    s->info = storage_info;
    s->info.serial = s->serial;
    usb_function_init(&s->f, &storage_class, &s->info, USB_SPEED_SUPER);
    return &s->f.dev;
}
