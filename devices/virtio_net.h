/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio network card (virtio 1.1, section 5.1): checksum and segmentation offload both ways,
 * mergeable buffers, filters and address by the control queue, announcement after a resume. One
 * pair of queues.
 */
#pragma once

#include "net/net.h"
#include "pci.h"

struct virtio_net_config {
    struct pci_config pci;
    struct net *net;
    uint8_t mac[6];
};

extern const struct device_class virtio_net_device;
