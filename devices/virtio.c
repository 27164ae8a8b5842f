/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI transport of virtio (section 4.1): capabilities that point into a BAR, whose pages are
 *
 *   0000h common configuration  1000h ISR  2000h the device's configuration  3000h notification
 *
 * or, behind a page of other registers: 1000h common configuration, 1800h ISR, the rest as above.
 */
#include <gio/gio.h>
#include <string.h>

#include "virtio.h"

#define PAGE      0x1000u
#define HALF      0x800u
#define MSIX_PBA  0x800u
#define NO_VECTOR 0xffffu
#define TRANSPORT                                                                                  \
    (VIRTIO_BIT(VIRTIO_F_INDIRECT) | VIRTIO_BIT(VIRTIO_F_EVENT_IDX) |                              \
     VIRTIO_BIT(VIRTIO_F_VERSION_1))

#define STATUS_DRIVER_OK   0x04u
#define STATUS_FEATURES_OK 0x08u
#define STATUS_NEEDS_RESET 0x40u

bool virtio_has(const struct virtio *v, unsigned feature)
{
    return v->driver_features >> feature & 1;
}

bool virtio_running(const struct virtio *v)
{
    return (v->status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) ==
               (STATUS_FEATURES_OK | STATUS_DRIVER_OK) &&
           pci_function_bus_master(&v->pci);
}

void virtio_interrupt(struct virtio *v, uint16_t vector, uint8_t isr)
{
    if (pci_msix_enabled(&v->msix)) {
        pci_msix_send(&v->msix, vector); /* NO_VECTOR is none of ours */
    } else {
        v->isr |= isr;
        pci_function_interrupt(&v->pci, true);
    }
}

void virtio_config_changed(struct virtio *v)
{
    v->generation++;
    if (v->status & STATUS_DRIVER_OK) {
        virtio_interrupt(v, v->config_vector, 2);
    }
}

void virtio_broken(struct virtio *v, const char *why)
{
    if (!(v->status & STATUS_NEEDS_RESET)) {
        device_log_once(v->info->name, 0, "%s; it stops until the guest's driver resets it", why);
        v->status |= STATUS_NEEDS_RESET;
        virtio_config_changed(v);
    }
}

static void driver_reset(struct virtio *v)
{
    v->driver_features = 0;
    v->device_feature_select = v->driver_feature_select = 0;
    v->status = v->isr = 0;
    v->queue_select = 0;
    v->config_vector = NO_VECTOR;
    memset(v->queue, 0, sizeof v->queue);
    for (unsigned i = 0; i < v->info->queues; i++) {
        v->queue[i].size = v->info->queue_size;
        v->queue[i].vector = NO_VECTOR;
    }
    pci_function_interrupt(&v->pci, false);
    v->info->reset(v->device);
}

/* --- common configuration (section 4.1.4.3) --- */

enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

static uint64_t features_offered(const struct virtio *v)
{
    return v->info->features | TRANSPORT;
}

static struct virtqueue *selected(struct virtio *v)
{
    return v->queue_select < v->info->queues ? &v->queue[v->queue_select] : NULL;
}

static uint32_t queue_read(struct virtio *v, unsigned at)
{
    const struct virtqueue *q = selected(v);

    if (!q) {
        return at == QUEUE_MSIX_VECTOR ? NO_VECTOR : 0;
    }
    switch (at) {
    case QUEUE_SIZE:
        return q->size;
    case QUEUE_MSIX_VECTOR:
        return q->vector;
    case QUEUE_ENABLE:
        return q->enabled;
    case QUEUE_NOTIFY_OFF:
        return v->queue_select;
    case QUEUE_DESC:
        return (uint32_t)q->desc;
    case QUEUE_DESC + 4:
        return (uint32_t)(q->desc >> 32);
    case QUEUE_DRIVER:
        return (uint32_t)q->avail;
    case QUEUE_DRIVER + 4:
        return (uint32_t)(q->avail >> 32);
    case QUEUE_DEVICE:
        return (uint32_t)q->used;
    case QUEUE_DEVICE + 4:
        return (uint32_t)(q->used >> 32);
    default:
        return 0;
    }
}

static uint32_t common_read(struct virtio *v, unsigned at)
{
    switch (at) {
    case DEVICE_FEATURE_SELECT:
        return v->device_feature_select;
    case DEVICE_FEATURE:
        return v->device_feature_select > 1
                   ? 0
                   : (uint32_t)(features_offered(v) >> (32 * v->device_feature_select));
    case DRIVER_FEATURE_SELECT:
        return v->driver_feature_select;
    case DRIVER_FEATURE:
        return v->driver_feature_select > 1
                   ? 0
                   : (uint32_t)(v->driver_features >> (32 * v->driver_feature_select));
    case CONFIG_MSIX_VECTOR:
        return v->config_vector;
    case NUM_QUEUES:
        return v->info->queues;
    case DEVICE_STATUS:
        return v->status;
    case CONFIG_GENERATION:
        return v->generation;
    case QUEUE_SELECT:
        return v->queue_select;
    default:
        return queue_read(v, at);
    }
}

static void low_half(uint64_t *to, uint32_t value)
{
    *to = (*to & ~0xffffffffull) | value;
}

static void high_half(uint64_t *to, uint32_t value)
{
    *to = (uint32_t)*to | (uint64_t)value << 32;
}

static uint16_t vector_checked(const struct virtio *v, uint32_t value)
{
    return value < v->msix.vectors ? (uint16_t)value : NO_VECTOR;
}

static void queue_write(struct virtio *v, unsigned at, uint32_t value)
{
    struct virtqueue *q = selected(v);

    if (!q) {
        return;
    }
    if (at == QUEUE_MSIX_VECTOR) {
        q->vector = vector_checked(v, value);
        return;
    }
    if (q->enabled) {
        return; /* only a reset changes it */
    }
    switch (at) {
    case QUEUE_SIZE:
        if (value && value <= v->info->queue_size && !(value & (value - 1))) {
            q->size = (uint16_t)value;
        }
        break;
    case QUEUE_ENABLE:
        q->enabled = value == 1 && !(q->desc & 15) && !(q->avail & 1) && !(q->used & 3);
        break;
    case QUEUE_DESC:
        low_half(&q->desc, value);
        break;
    case QUEUE_DESC + 4:
        high_half(&q->desc, value);
        break;
    case QUEUE_DRIVER:
        low_half(&q->avail, value);
        break;
    case QUEUE_DRIVER + 4:
        high_half(&q->avail, value);
        break;
    case QUEUE_DEVICE:
        low_half(&q->used, value);
        break;
    case QUEUE_DEVICE + 4:
        high_half(&q->used, value);
        break;
    }
}

/* Features are agreed on and the driver is there. */
static bool is_live(const struct virtio *v)
{
    return (v->status & STATUS_FEATURES_OK) && (v->status & STATUS_DRIVER_OK);
}

static void status_write(struct virtio *v, uint8_t value)
{
    bool was = is_live(v);

    if (!value) {
        driver_reset(v);
        return;
    }
    if ((value & STATUS_FEATURES_OK) && !(v->status & STATUS_FEATURES_OK) &&
        ((v->driver_features & ~features_offered(v)) || !virtio_has(v, VIRTIO_F_VERSION_1))) {
        value &= (uint8_t)~STATUS_FEATURES_OK;
    }
    v->status |= value & (uint8_t)~STATUS_NEEDS_RESET;
    if (!was && is_live(v)) {
        v->info->started(v->device);
    }
}

static void driver_feature_write(struct virtio *v, uint32_t value)
{
    if (v->status & STATUS_FEATURES_OK) {
        return;
    }
    if (v->driver_feature_select == 0) {
        low_half(&v->driver_features, value);
    } else if (v->driver_feature_select == 1) {
        high_half(&v->driver_features, value);
    }
}

static void common_write(struct virtio *v, unsigned at, uint32_t value)
{
    switch (at) {
    case DEVICE_FEATURE_SELECT:
        v->device_feature_select = value;
        break;
    case DRIVER_FEATURE_SELECT:
        v->driver_feature_select = value;
        break;
    case DRIVER_FEATURE:
        driver_feature_write(v, value);
        break;
    case CONFIG_MSIX_VECTOR:
        v->config_vector = vector_checked(v, value);
        break;
    case DEVICE_STATUS:
        status_write(v, (uint8_t)value);
        break;
    case QUEUE_SELECT:
        v->queue_select = (uint16_t)value;
        break;
    default:
        queue_write(v, at, value);
    }
}

static uint32_t isr_read(struct virtio *v)
{
    uint8_t value = v->isr;

    v->isr = 0;
    pci_function_interrupt(&v->pci, false);
    return value;
}

/* --- the BARs --- */

enum region { FRONT, COMMON, ISR, CONFIG, NOTIFY };

static enum region region_at(const struct virtio *v, uint64_t addr, unsigned *at)
{
    *at = addr & (PAGE - 1);
    if (addr / PAGE >= 2) {
        return addr / PAGE == 2 ? CONFIG : NOTIFY;
    }
    if (!v->info->front) {
        return addr / PAGE == 0 ? COMMON : ISR;
    }
    if (addr / PAGE == 0) {
        return FRONT;
    }
    *at = addr & (HALF - 1);
    return addr & HALF ? ISR : COMMON;
}

static uint32_t common_offset(const struct virtio *v)
{
    return v->info->front ? PAGE : 0;
}

static uint32_t isr_offset(const struct virtio *v)
{
    return v->info->front ? PAGE + HALF : PAGE;
}

static uint64_t registers_read(void *opaque, uint64_t addr, unsigned size)
{
    struct virtio *v = opaque;
    unsigned at;

    switch (region_at(v, addr, &at)) {
    case FRONT:
        return io_ops_read(v->info->front, v->device, at, size);
    case COMMON:
        return common_read(v, at);
    case ISR:
        return at == 0 ? isr_read(v) : 0;
    case CONFIG:
        return at + size <= v->info->config_size ? v->info->config_read(v->device, at, size) : 0;
    default:
        return 0;
    }
}

static void registers_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct virtio *v = opaque;
    unsigned at;

    switch (region_at(v, addr, &at)) {
    case FRONT:
        io_ops_write(v->info->front, v->device, at, value, size);
        break;
    case COMMON:
        common_write(v, at, (uint32_t)value);
        break;
    case CONFIG:
        if (v->info->config_write && at + size <= v->info->config_size) {
            v->info->config_write(v->device, at, value, size);
        }
        break;
    case NOTIFY:
        if (at / 4 < v->info->queues && virtio_running(v)) {
            v->info->notify(v->device, at / 4);
        }
        break;
    default:
        break;
    }
}

static const struct io_ops registers_ops = {
    .name = "virtio", .read = registers_read, .write = registers_write, .max_size = 4};

static uint64_t msix_read(void *opaque, uint64_t addr, unsigned size)
{
    return pci_msix_read(&((struct virtio *)opaque)->msix, addr, size);
}

static void msix_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    pci_msix_write(&((struct virtio *)opaque)->msix, addr, value, size);
}

static const struct io_ops msix_ops = {
    .name = "virtio-msix", .read = msix_read, .write = msix_write, .max_size = 8, .min_size = 4};

/* --- access through configuration space (section 4.1.4.9) --- */

static unsigned registers_bar(const struct virtio *v)
{
    return v->info->registers_bar ? v->info->registers_bar : 4;
}

static unsigned msix_bar(const struct virtio *v)
{
    return v->info->msix_bar ? v->info->msix_bar : 1;
}

/* The BAR access that the capability's fields describe. False: none that makes sense. */
static bool window_target(struct virtio *v, uint32_t *offset, unsigned *size)
{
    const uint8_t *cap = v->pci.config + v->cfg_cap;

    memcpy(offset, cap + 8, 4);
    *size = cap[12];
    return cap[4] == registers_bar(v) && (*size == 1 || *size == 2 || *size == 4) && !cap[13] &&
           !cap[14] && !cap[15] && *offset < 4 * PAGE && !(*offset & (*size - 1));
}

static void config_reading(void *opaque, uint32_t addr, unsigned size)
{
    struct virtio *v = opaque;
    uint32_t offset, value;
    unsigned bytes;

    if (v->cfg_cap && addr + size > v->cfg_cap + 16u && addr < v->cfg_cap + 20u &&
        window_target(v, &offset, &bytes)) {
        value = (uint32_t)io_ops_read(&registers_ops, v, offset, bytes);
        memcpy(v->pci.config + v->cfg_cap + 16, &value, bytes);
    }
}

static void config_written(void *opaque, uint32_t addr, unsigned size)
{
    struct virtio *v = opaque;
    uint32_t offset, value = 0;
    unsigned bytes;

    if (v->cfg_cap && addr + size > v->cfg_cap + 16u && addr < v->cfg_cap + 20u &&
        window_target(v, &offset, &bytes)) {
        memcpy(&value, v->pci.config + v->cfg_cap + 16, bytes);
        io_ops_write(&registers_ops, v, offset, value, bytes);
    }
}

static uint8_t capability_add(struct virtio *v, uint8_t type, uint8_t size, uint32_t offset,
                              uint32_t length)
{
    uint8_t at = pci_function_add_capability(&v->pci, 0x09, size);
    uint8_t *cap = v->pci.config + at;

    if (at) {
        cap[2] = size;
        cap[3] = type;
        cap[4] = (uint8_t)registers_bar(v);
        memcpy(cap + 8, &offset, 4);
        memcpy(cap + 12, &length, 4);
    }
    return at;
}

static void capabilities_add(struct virtio *v)
{
    uint8_t at;

    capability_add(v, 1, 16, common_offset(v), 0x38);
    capability_add(v, 3, 16, isr_offset(v), 1);
    capability_add(v, 4, 16, 2 * PAGE, v->info->config_size);
    at = capability_add(v, 2, 20, 3 * PAGE, 4 * v->info->queues);
    v->pci.config[at + 16] = 4; /* queue n is notified at n * 4 */
    v->cfg_cap = capability_add(v, 5, 20, 0, 0);
    if (v->cfg_cap) {
        v->pci.config[v->cfg_cap + 4] = 0;
        v->pci.writable[v->cfg_cap + 4] = 0xff;
        memset(v->pci.writable + v->cfg_cap + 8, 0xff, 12);
    }
}

static void pci_fill(struct virtio *v)
{
    struct pci_function_info *i = &v->pci_info;

    i->vendor = 0x1af4;
    i->device = (uint16_t)(0x1040 + v->info->id);
    i->subsystem_vendor = 0x1af4;
    i->subsystem = 0x1100;
    i->class_code = v->info->class_code;
    i->subclass = v->info->subclass;
    i->revision = 1;
    i->interrupt_pin = 1;
    i->bar[msix_bar(v)] = (struct pci_bar_info){PCI_BAR_MEM32, PAGE, &msix_ops};
    i->bar[registers_bar(v)] = (struct pci_bar_info){PCI_BAR_MEM64, 4 * PAGE, &registers_ops};
}

/* --- for the device --- */

bool virtio_init(struct virtio *v, const struct device_host *host, const struct pci_config *pci,
                 const struct virtio_info *info, void *device, GError **error)
{
    v->host = host;
    v->info = info;
    v->device = device;
    pci_fill(v);
    if (!pci_function_init(&v->pci, pci->bus, pci->devfn, v, &v->pci_info, error)) {
        return false;
    }
    pci_msix_init(&v->msix, &v->pci, info->queues + 1, msix_bar(v), 0, MSIX_PBA);
    capabilities_add(v);
    v->pci.config_written = config_written;
    v->pci.config_reading = config_reading;
    return true;
}

void virtio_fini(struct virtio *v)
{
    if (v->pci.info) {
        pci_function_fini(&v->pci);
    }
}

void virtio_reset(struct virtio *v)
{
    driver_reset(v);
    pci_function_reset(&v->pci);
}

static void queue_state(struct virtqueue *q, struct state *s)
{
    state_u16(s, "size", &q->size);
    state_bool(s, "enabled", &q->enabled);
    state_u16(s, "vector", &q->vector);
    state_u64(s, "desc", &q->desc);
    state_u64(s, "avail", &q->avail);
    state_u64(s, "used", &q->used);
    state_u16(s, "next", &q->next);
    state_u16(s, "used-next", &q->used_next);
    state_u16(s, "told", &q->told);
    state_bool(s, "told-valid", &q->told_valid);
}

void virtio_state(struct virtio *v, struct state *s)
{
    pci_function_state(&v->pci, s);
    state_u64(s, "features", &v->driver_features);
    state_u32(s, "device-feature-select", &v->device_feature_select);
    state_u32(s, "driver-feature-select", &v->driver_feature_select);
    state_u8(s, "status", &v->status);
    state_u8(s, "isr", &v->isr);
    state_u8(s, "generation", &v->generation);
    state_u16(s, "queue-select", &v->queue_select);
    state_u16(s, "config-vector", &v->config_vector);
    for (unsigned i = 0; i < v->info->queues; i++) {
        state_push(s, "queue", i);
        queue_state(&v->queue[i], s);
        state_pop(s);
    }
}

bool virtio_restored(struct virtio *v, GError **error)
{
    for (unsigned i = 0; i < v->info->queues; i++) {
        uint16_t size = v->queue[i].size;
        if (!size || size > v->info->queue_size || size & (size - 1)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "The saved state of %s cannot be used: a queue has %u entries",
                        v->info->name, size);
            return false;
        }
    }
    if ((v->status & STATUS_FEATURES_OK) && (v->driver_features & ~features_offered(v))) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "The saved state of %s cannot be used: the guest uses features that are not "
                    "there",
                    v->info->name);
        return false;
    }
    pci_function_restored(&v->pci);
    if (is_live(v)) {
        v->info->started(v->device);
    }
    return true;
}
