/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82574L, the network card "e1000e", which most guests have a driver for (Intel, 82574 GbE
 * Controller Family Datasheet, revision 3.4).
 *
 * Not there: the second receive queue gets nothing (receive-side scaling is a hint), no wake-up, no
 * management, no packet loopback, EEPROM writes are swallowed, delays of single interrupts (RDTR,
 * TIDV) are 0: ITR and EITR moderate.
 */
#pragma once

#include "net/net.h"
#include "pci.h"

struct e1000e_config {
    struct pci_config pci;
    struct net *net;
    uint8_t mac[6];
};

extern const struct device_class e1000e_device;
