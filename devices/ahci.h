/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ICH9 SATA controller in AHCI mode (8086:2922) with six ports for disks and CD-ROM drives.
 *
 * The blocks stay their owner's, who closes them after the device's fini (or after ahci_eject).
 * Machine lock held for all functions.
 */
#pragma once

#include "block/block.h"
#include "pci.h"

#define AHCI_PORTS 6u

enum ahci_kind { AHCI_NONE, AHCI_DISK, AHCI_CDROM };

struct ahci_port_config {
    enum ahci_kind kind;
    struct block *block; /* CD-ROM: NULL when the drive is empty */
    const char *serial;  /* up to 20 ASCII characters; NULL: made from the port number */
};

struct ahci_config {
    struct pci_config pci; /* first */
    struct ahci_port_config port[AHCI_PORTS];
    /* The host could not write (ENOSPC, EIO, ...): the guest's request is kept. Pause the machine,
     * tell the user, and call ahci_retry() after the machine was resumed. */
    void (*io_error)(void *opaque, unsigned port, int error_errno);
    void *opaque;
};

extern const struct device_class ahci_device;

/* Issues kept requests again; call it after every resume (also after a restore). */
void ahci_retry(void *dev);
bool ahci_has_kept(void *dev);

/* Puts a disc into a CD-ROM drive (taking out the one there), closes the tray. False: no such
 * drive. */
bool ahci_insert(void *dev, unsigned port, struct block *block);
/* Takes the disc out; its block is idle afterwards. Unless `force`, false when the guest has locked
 * the drive, which is then told of the wish. Fine on an empty drive. */
bool ahci_eject(void *dev, unsigned port, bool force);
bool ahci_tray_open(void *dev, unsigned port); /* the guest opened it: the disc may be taken out */
