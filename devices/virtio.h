/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio 1.1 devices over PCI (OASIS Virtual I/O Device, version 1.1; sections cited are of it): no
 * legacy interface, split queues, indirect descriptors, event index, MSI-X.
 *
 * A device embeds a struct virtio, describes itself with a virtio_info and calls virtio_init() from
 * its init. Queues are in guest memory and change under our hands: everything is copied before it
 * is checked, chains cannot be longer than the queue, buffers are RAM or the device stops with
 * DEVICE_NEEDS_RESET.
 */
#pragma once

#include <sys/uio.h>

#include "pci_msix.h"

#define VIRTIO_QUEUES     8u
#define VIRTIO_QUEUE_SIZE 1024u /* most */
#define VIRTIO_CHAIN      64u   /* buffers of a chain, each way */
#define VIRTIO_CONFIG     256u

#define VIRTIO_F_INDIRECT  28u
#define VIRTIO_F_EVENT_IDX 29u
#define VIRTIO_F_VERSION_1 32u
#define VIRTIO_BIT(n)      (1ull << (n))

struct virtio_info {
    const char *name;
    uint16_t id; /* 1: network, 16: GPU */
    uint8_t class_code, subclass;
    unsigned queues;
    uint16_t queue_size; /* offered; a power of two */
    uint64_t features;   /* beside those of the transport */
    unsigned config_size;
    void (*notify)(void *device, unsigned queue);
    void (*reset)(void *device);   /* by the driver or the machine */
    void (*started)(void *device); /* features are final, DRIVER_OK; also after restoring */
    /* Bytes of the device's configuration; `at` + `size` is within config_size. */
    uint64_t (*config_read)(void *device, unsigned at, unsigned size);
    void (*config_write)(void *device, unsigned at, uint64_t value, unsigned size); /* or NULL */
    /* A function that is something else besides: its registers fill the first page of the register
     * BAR, with `device` as opaque. NULL: it is not. */
    const struct io_ops *front;
    unsigned registers_bar, msix_bar; /* both 0: BAR 4 and BAR 1 */
};

struct virtqueue {
    uint16_t size;
    bool enabled;
    uint16_t vector;
    uint64_t desc, avail, used;
    uint16_t next; /* index in the available ring that we take next */
    uint16_t used_next;
    uint16_t told; /* used index at the last interrupt */
    bool told_valid;
};

struct virtio {
    struct pci_function pci;
    struct pci_msix msix;
    const struct device_host *host;
    const struct virtio_info *info;
    void *device;
    uint64_t driver_features;
    uint32_t device_feature_select, driver_feature_select;
    uint8_t status, isr, generation;
    uint16_t queue_select, config_vector;
    struct virtqueue queue[VIRTIO_QUEUES];
    struct pci_function_info pci_info; /* other BARs and a ROM may be there before init */
    uint8_t cfg_cap;                   /* offset of the PCI configuration access capability */
};

/* What the driver put into a queue: bytes for us (out) and room for us (in). Pointers are into
 * guest memory. */
struct virtio_chain {
    uint16_t head;
    unsigned outs, ins;
    struct iovec out[VIRTIO_CHAIN], in[VIRTIO_CHAIN];
    size_t out_len, in_len;
};

bool virtio_init(struct virtio *v, const struct device_host *host, const struct pci_config *pci,
                 const struct virtio_info *info, void *device, GError **error);
void virtio_fini(struct virtio *v);
void virtio_reset(struct virtio *v); /* by the machine */
void virtio_state(struct virtio *v, struct state *s);
bool virtio_restored(struct virtio *v, GError **error);

bool virtio_has(const struct virtio *v, unsigned feature); /* both sides want it */
bool virtio_running(const struct virtio *v);
void virtio_config_changed(struct virtio *v);
/* The device has been driven in a way it cannot go on from: says so to the driver. */
void virtio_broken(struct virtio *v, const char *why);

/* virtio_ring.c */
/* Takes the next chain. False: there is none (or the queue is broken). */
bool virtio_pop(struct virtio *v, unsigned queue, struct virtio_chain *chain);
void virtio_unpop(struct virtio *v, unsigned queue); /* the last pop did not happen */
/* Gives a chain back with `written` bytes in it; the driver sees it after virtio_publish(). */
void virtio_push(struct virtio *v, unsigned queue, const struct virtio_chain *chain,
                 uint32_t written);
/* Shows what was pushed, and interrupts if the driver wants that. */
void virtio_publish(struct virtio *v, unsigned queue);
/* Should the driver tell us of new buffers? With EVENT_IDX: true asks to be told, of the next one.
 */
void virtio_want_notify(struct virtio *v, unsigned queue, bool want);
bool virtio_empty(struct virtio *v, unsigned queue);
/* Copies between a chain and flat bytes, from `offset` in the chain on; returns how many. */
size_t virtio_copy_out(const struct virtio_chain *chain, size_t offset, void *to, size_t len);
size_t virtio_copy_in(struct virtio *v, const struct virtio_chain *chain, size_t offset,
                      const void *from, size_t len);

void virtio_interrupt(struct virtio *v, uint16_t vector, uint8_t isr); /* for virtio_ring.c */
