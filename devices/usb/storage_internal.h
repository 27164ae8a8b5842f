/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between storage.c (transport) and storage_scsi.c (commands). */
#pragma once

#include "function.h"
#include "storage.h"

#define STORAGE_REPLY 256u
#define STORAGE_CDB   16u

enum storage_phase { PHASE_COMMAND, PHASE_IN, PHASE_OUT, PHASE_STATUS };
enum storage_work { WORK_NONE, WORK_READ, WORK_WRITE, WORK_FLUSH };
enum storage_status { STATUS_PASSED, STATUS_FAILED, STATUS_PHASE_ERROR };

struct storage {
    struct usb_function f;
    struct usb_function_info info; /* with its own serial number */
    struct usb_storage_config config;
    char serial[17];

    uint8_t phase, work, status; /* of the command: enum storage_phase, _work, _status */
    bool broken;                 /* after nonsense, until a reset (section 6.6.1) */
    uint32_t tag, wanted, moved; /* bytes that the host wants to move, and that were */
    uint32_t due;                /* bytes that the command moves */
    uint64_t offset;             /* WORK_READ, WORK_WRITE: where in the image */
    uint8_t cdb[STORAGE_CDB], reply[STORAGE_REPLY];
    uint8_t sense, asc, ascq;

    struct usb_transfer *active; /* the one the image is at work for */
    bool working, kept;          /* in the block layer; or the host could not write */
    bool running;                /* inside run() */
    unsigned generation;         /* changes at a reset */
    unsigned job_generation;
};

/* Carries the command in `cdb` out as far as possible: sets work, due, offset or reply, status. */
void storage_command(struct storage *s);
void storage_sense(struct storage *s, uint8_t key, uint8_t asc,
                   uint8_t ascq); /* and STATUS_FAILED */
