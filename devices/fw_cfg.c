/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg as specified in QEMU's docs/specs/fw_cfg: selector and data ports, the file directory, and
 * DMA. Items are read-only to the guest. They are made again at start, so only the selector is
 * state.
 */
#include <string.h>

#include "fw_cfg.h"

#define FW_CFG_ITEMS    96u
#define FW_CFG_NAME     56u
#define FW_CFG_ZERO_MAX (64u << 20) /* how much past an item's end one DMA may ask for */

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

struct item {
    uint8_t *data;
    uint32_t len;
    char name[FW_CFG_NAME];
};

struct fw_cfg {
    struct memory *memory;
    uint16_t selected;
    uint32_t offset;
    uint64_t dma_address;
    unsigned files;
    struct item item[FW_CFG_ITEMS];
};

bool fw_cfg_set_item(void *dev, uint16_t key, const void *data, size_t len)
{
    struct fw_cfg *fw = dev;

    if (key >= FW_CFG_ITEMS || len > UINT32_MAX) {
        return false;
    }
    g_free(fw->item[key].data);
    fw->item[key].data = len ? g_memdup2(data, len) : NULL;
    fw->item[key].len = (uint32_t)len;
    return true;
}

/* The directory: a big-endian count, then {u32 size, u16 key, u16 0, name} for each file. */
static void directory_build(struct fw_cfg *fw)
{
    g_autoptr(GByteArray) dir = g_byte_array_new();
    uint32_t count = GUINT32_TO_BE(fw->files);

    g_byte_array_append(dir, (const uint8_t *)&count, 4);
    for (unsigned i = 0; i < fw->files; i++) {
        const struct item *item = &fw->item[FW_CFG_FILE_FIRST + i];
        uint32_t size = GUINT32_TO_BE(item->len);
        uint16_t key[2] = {GUINT16_TO_BE((uint16_t)(FW_CFG_FILE_FIRST + i)), 0};
        g_byte_array_append(dir, (const uint8_t *)&size, 4);
        g_byte_array_append(dir, (const uint8_t *)key, 4);
        g_byte_array_append(dir, (const uint8_t *)item->name, FW_CFG_NAME);
    }
    fw_cfg_set_item(fw, FW_CFG_FILE_DIR, dir->data, dir->len);
}

bool fw_cfg_set_file(void *dev, const char *name, const void *data, size_t len)
{
    struct fw_cfg *fw = dev;
    unsigned i = 0;

    while (i < fw->files && strcmp(fw->item[FW_CFG_FILE_FIRST + i].name, name) != 0) {
        i++;
    }
    if (strlen(name) >= FW_CFG_NAME || FW_CFG_FILE_FIRST + i >= FW_CFG_ITEMS ||
        !fw_cfg_set_item(fw, (uint16_t)(FW_CFG_FILE_FIRST + i), data, len)) {
        return false;
    }
    g_strlcpy(fw->item[FW_CFG_FILE_FIRST + i].name, name, FW_CFG_NAME);
    fw->files = MAX(fw->files, i + 1);
    directory_build(fw);
    return true;
}

/* Bit 14 once meant writing and says nothing; with bit 15 the architecture's own items are meant,
 * which are not those without it. We have none: SeaBIOS asks for ACPI tables there. */
static const struct item *selected_item(const struct fw_cfg *fw)
{
    unsigned key = fw->selected & 0xbfff;

    return key < FW_CFG_ITEMS ? &fw->item[key] : NULL;
}

static void fw_cfg_select(struct fw_cfg *fw, uint16_t key)
{
    fw->selected = key;
    fw->offset = 0;
}

static uint8_t fw_cfg_next(struct fw_cfg *fw)
{
    const struct item *item = selected_item(fw);

    return item && fw->offset < item->len ? item->data[fw->offset++] : 0;
}

static void fw_cfg_skip(struct fw_cfg *fw, uint32_t len)
{
    fw->offset = len > UINT32_MAX - fw->offset ? UINT32_MAX : fw->offset + len;
}

static bool dma_zero(struct fw_cfg *fw, uint64_t address, uint32_t len)
{
    static const uint8_t zeros[4096];

    if (len > FW_CFG_ZERO_MAX) {
        return false;
    }
    for (uint32_t done = 0; done < len;) {
        uint32_t n = MIN(len - done, sizeof zeros);
        if (!memory_write(fw->memory, address + done, zeros, n)) {
            return false;
        }
        done += n;
    }
    return true;
}

static bool dma_read(struct fw_cfg *fw, uint64_t address, uint32_t len)
{
    const struct item *item = selected_item(fw);
    uint32_t have = item && fw->offset < item->len ? MIN(len, item->len - fw->offset) : 0;

    if (have && !memory_write(fw->memory, address, item->data + fw->offset, have)) {
        return false;
    }
    fw_cfg_skip(fw, len);
    return dma_zero(fw, address + have, len - have);
}

/* The descriptor: big-endian control, length, address. Its control word is the answer. */
static void dma_run(struct fw_cfg *fw, uint64_t at)
{
    uint32_t words[4], control, len, answer;
    bool ok = memory_read(fw->memory, at, words, sizeof words);

    control = GUINT32_FROM_BE(words[0]);
    len = GUINT32_FROM_BE(words[1]);
    if (control & DMA_SELECT) {
        fw_cfg_select(fw, (uint16_t)(control >> 16));
    }
    if (control & DMA_READ) {
        uint64_t address = (uint64_t)GUINT32_FROM_BE(words[2]) << 32 | GUINT32_FROM_BE(words[3]);
        ok = ok && dma_read(fw, address, len);
    } else if (control & DMA_WRITE) {
        ok = false;
    } else if (control & DMA_SKIP) {
        fw_cfg_skip(fw, len);
    }
    answer = GUINT32_TO_BE(ok ? 0 : DMA_ERROR);
    memory_write(fw->memory, at, &answer, sizeof answer);
}

static uint64_t port_read(void *dev, uint64_t addr, unsigned size)
{
    return addr == 1 && size == 1 ? fw_cfg_next(dev) : 0;
}

static void port_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    if (addr == 0 && size == 2) {
        fw_cfg_select(dev, (uint16_t)value);
    }
}

static uint64_t dma_port_read(void *dev, uint64_t addr, unsigned size)
{
    static const char signature[8] = "QEMU CFG";
    uint64_t value = 0;

    memcpy(&value, signature + (addr & 7), MIN(size, 8 - (addr & 7)));
    return value;
}

static void dma_port_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct fw_cfg *fw = dev;
    uint64_t at;

    if (size == 4 && addr == 0) {
        fw->dma_address = (uint64_t)GUINT32_SWAP_LE_BE((uint32_t)value) << 32;
    } else if ((size == 4 && addr == 4) || (size == 8 && addr == 0)) {
        at = size == 8 ? GUINT64_SWAP_LE_BE(value)
                       : fw->dma_address | GUINT32_SWAP_LE_BE((uint32_t)value);
        fw->dma_address = 0;
        dma_run(fw, at);
    }
}

static const struct io_ops port_ops = {"fw-cfg", port_read, port_write, 2, 1};
static const struct io_ops dma_ops = {"fw-cfg-dma", dma_port_read, dma_port_write, 8, 1};

static bool fw_cfg_init(void *dev, const struct device_host *host, const void *config,
                        GError **error)
{
    struct fw_cfg *fw = dev;
    static const uint8_t id[4] = {3, 0, 0, 0}; /* ports and DMA */

    fw->memory = host->memory;
    fw_cfg_set_item(fw, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_set_item(fw, FW_CFG_ID, id, sizeof id);
    directory_build(fw);
    host->map_ports(host->opaque, 0x510, 2, &port_ops, dev);
    host->map_ports(host->opaque, 0x514, 8, &dma_ops, dev);
    return true;
}

static void fw_cfg_fini(void *dev)
{
    struct fw_cfg *fw = dev;

    for (unsigned i = 0; i < FW_CFG_ITEMS; i++) {
        g_free(fw->item[i].data);
    }
}

static void fw_cfg_reset(void *dev)
{
    struct fw_cfg *fw = dev;

    fw_cfg_select(fw, 0);
    fw->dma_address = 0;
}

static void fw_cfg_state(void *dev, struct state *s)
{
    struct fw_cfg *fw = dev;

    state_u16(s, "selected", &fw->selected);
    state_u32(s, "offset", &fw->offset);
    state_u64(s, "dma_address", &fw->dma_address);
}

const struct device_class fw_cfg_device = {
    .name = "fw-cfg",
    .size = sizeof(struct fw_cfg),
    .version = 1,
    .init = fw_cfg_init,
    .fini = fw_cfg_fini,
    .reset = fw_cfg_reset,
    .state = fw_cfg_state,
};
