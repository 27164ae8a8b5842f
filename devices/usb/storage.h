/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB 3 disk: mass storage class, bulk-only transport (USB Mass Storage Class, Bulk-Only
 * Transport, 1.0), SCSI commands (SBC-3, SPC-4), on a disk image.
 */
#pragma once

#include "block/block.h"
#include "usb.h"

struct usb_storage_config {
    struct block *block; /* its owner closes it after the device is gone */
    const char *serial;  /* hexadecimal digits */
    /* The host could not write (ENOSPC, EIO, ...): the request is kept. Pause the machine, tell the
     * user, and call usb_storage_retry() after it was resumed. */
    void (*io_error)(void *opaque, struct block *block, int error_errno);
    void *opaque;
};

struct usb_device *usb_storage_new(const struct usb_storage_config *config);
void usb_storage_retry(struct usb_device *dev);
