/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VGA registers (IBM VGA Technical Reference) and the Bochs VBE "dispi" registers: the core of all
 * display adapters. The PCI function is vga_pci.c's or virtio_gpu.c's.
 *
 * Memory-mapped registers, 4 KiB: 400h-41Fh ports 3C0h-3DFh, 500h-515h dispi, 600h-607h qext (size,
 * byte order). Ports: 3B0h-3DFh, 1CEh (index) and 1CFh/1D0h (data) of dispi.
 */
#include "vga_internal.h"

#include <gio/gio.h>
#include <string.h>

#define QEXT_BIG    0xbebebebeu
#define QEXT_LITTLE 0x1e1e1e1eu

/* --- sequencer, graphics, CRTC --- */

static void store(struct vga *v, uint8_t *reg, uint8_t value)
{
    if (*reg != value) {
        *reg = value;
        v->redraw = true;
    }
}

static void seq_write(struct vga *v, uint8_t value)
{
    static const uint8_t mask[8] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
    unsigned i = v->seq_index & 7;
    if (i == 2) { /* the map mask does not change the picture */
        v->seq[i] = value & mask[i];
    } else {
        store(v, &v->seq[i], value & mask[i]);
    }
}

static void gfx_write(struct vga *v, uint8_t value)
{
    static const uint8_t mask[16] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
    unsigned i = v->gfx_index & 15;
    uint8_t changed = v->gfx[i] ^ (value & mask[i]);
    v->gfx[i] = value & mask[i];
    if ((i == 5 && (changed & 0x60)) || (i == 6 && changed)) {
        v->redraw = true;
    }
}

static void crtc_write(struct vga *v, uint8_t value)
{
    unsigned i = v->crtc_index;
    if (i > 0x18) {
        return;
    }
    if (i <= 7 && (v->crtc[0x11] & 0x80)) { /* protected, but for line compare bit 8 */
        if (i == 7) {
            store(v, &v->crtc[7], (uint8_t)((v->crtc[7] & ~0x10) | (value & 0x10)));
        }
        return;
    }
    if (i == 0x0e || i == 0x0f) { /* the cursor is found by its cell */
        v->crtc[i] = value;
    } else {
        store(v, &v->crtc[i], value);
    }
}

static void attr_write(struct vga *v, uint8_t value)
{
    static const uint8_t mask[5] = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
    if (!v->attr_flip) {
        store(v, &v->attr_index, value & 0x3f);
    } else {
        unsigned i = v->attr_index & 0x1f;
        if (i < 16) {
            store(v, &v->attr[i], value & 0x3f);
        } else if (i <= 0x14) {
            store(v, &v->attr[i], value & mask[i - 16]);
        }
    }
    v->attr_flip = !v->attr_flip;
}

/* --- DAC --- */

static void dac_data_write(struct vga *v, uint8_t value)
{
    v->dac_latch[v->dac_sub++] = value;
    if (v->dac_sub >= 3) {
        v->dac_sub = 0;
        memcpy(v->dac + 3 * v->dac_write, v->dac_latch, 3);
        v->dac_write++;
        v->redraw = true;
    }
}

static uint8_t dac_data_read(struct vga *v)
{
    uint8_t value = v->dac[3 * v->dac_read + v->dac_sub++];
    if (v->dac_sub >= 3) {
        v->dac_sub = 0;
        v->dac_read++;
    }
    return value;
}

/* --- the ports 3B0h-3DFh --- */

static bool port_is_crtc(const struct vga *v, unsigned port)
{
    bool colour = v->misc & 1;
    return colour ? port >= 0x3d0 && port <= 0x3df : port >= 0x3b0 && port <= 0x3bf;
}

/* Input status 1: 70 frames per second, the last twentieth of each is the vertical retrace; within
 * the picture a line of 32 microseconds has its blank end. */
static uint8_t status1_read(struct vga *v)
{
    uint64_t now = clock_now(v->host->clock), frame = now % (NS_PER_SECOND / 70);
    v->attr_flip = false;
    if (frame > NS_PER_SECOND / 70 * 19 / 20) {
        return 0x09;
    }
    return now % 32000 > 26000 ? 0x01 : 0x00;
}

static uint8_t port_read_crtc(struct vga *v, unsigned port)
{
    switch (port & 0xf) {
    case 0x4:
        return v->crtc_index;
    case 0x5:
        return v->crtc_index <= 0x18 ? v->crtc[v->crtc_index] : 0;
    case 0xa:
        return status1_read(v);
    default:
        return 0xff;
    }
}

static uint8_t port_read(struct vga *v, unsigned port)
{
    if (port < 0x3c0 || port >= 0x3d0) {
        return port_is_crtc(v, port) ? port_read_crtc(v, port) : 0xff;
    }
    switch (port) {
    case 0x3c0:
        return v->attr_flip ? 0 : v->attr_index;
    case 0x3c1:
        return v->attr[v->attr_index & 0x1f];
    case 0x3c2:
        return 0x10; /* a colour monitor answers the sense line */
    case 0x3c4:
        return v->seq_index;
    case 0x3c5:
        return v->seq[v->seq_index & 7];
    case 0x3c6:
        return v->dac_mask;
    case 0x3c7:
        return v->dac_state;
    case 0x3c8:
        return v->dac_write;
    case 0x3c9:
        return dac_data_read(v);
    case 0x3ca:
        return v->feature;
    case 0x3cc:
        return v->misc;
    case 0x3ce:
        return v->gfx_index;
    case 0x3cf:
        return v->gfx[v->gfx_index & 15];
    default:
        return 0xff;
    }
}

static void port_write_crtc(struct vga *v, unsigned port, uint8_t value)
{
    switch (port & 0xf) {
    case 0x4:
        v->crtc_index = value & 0x3f;
        break;
    case 0x5:
        crtc_write(v, value);
        break;
    case 0xa:
        v->feature = value;
        break;
    default:
        break;
    }
}

static void port_write_dac(struct vga *v, unsigned port, uint8_t value)
{
    switch (port) {
    case 0x3c6:
        store(v, &v->dac_mask, value);
        break;
    case 0x3c7:
        v->dac_read = value;
        v->dac_sub = 0;
        v->dac_state = 3;
        break;
    case 0x3c8:
        v->dac_write = value;
        v->dac_sub = 0;
        v->dac_state = 0;
        break;
    default:
        dac_data_write(v, value);
    }
}

static void port_write(struct vga *v, unsigned port, uint8_t value)
{
    if (port < 0x3c0 || port >= 0x3d0) {
        if (port_is_crtc(v, port)) {
            port_write_crtc(v, port, value);
        }
        return;
    }
    switch (port) {
    case 0x3c0:
    case 0x3c1:
        attr_write(v, value);
        break;
    case 0x3c2:
        v->misc = value;
        break;
    case 0x3c4:
        v->seq_index = value & 7;
        break;
    case 0x3c5:
        seq_write(v, value);
        break;
    case 0x3c6:
    case 0x3c7:
    case 0x3c8:
    case 0x3c9:
        port_write_dac(v, port, value);
        break;
    case 0x3ce:
        v->gfx_index = value & 15;
        break;
    case 0x3cf:
        gfx_write(v, value);
        break;
    default:
        break;
    }
}

static uint64_t ports_read(void *opaque, uint64_t addr, unsigned size)
{
    return port_read(opaque, 0x3b0 + (unsigned)(addr & 0x3f));
}

static void ports_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    port_write(opaque, 0x3b0 + (unsigned)(addr & 0x3f), (uint8_t)value);
}

static const struct io_ops ports_ops = {
    .name = "vga", .read = ports_read, .write = ports_write, .max_size = 1};

/* --- dispi --- */

static bool dispi_bpp_valid(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static uint32_t dispi_line_bytes(const struct vga *v, uint32_t width)
{
    return v->dispi[DISPI_BPP] == 4 ? width / 2 : width * ((v->dispi[DISPI_BPP] + 7u) / 8u);
}

/* Bounds everything by video RAM; called after each change while a mode is on. False: no such mode.
 */
static bool dispi_validate(struct vga *v)
{
    uint16_t *d = v->dispi;
    if (!dispi_bpp_valid(d[DISPI_BPP]) || d[DISPI_XRES] == 0 || d[DISPI_YRES] == 0 ||
        d[DISPI_XRES] > VGA_MAX_WIDTH || d[DISPI_YRES] > VGA_MAX_HEIGHT) {
        return false;
    }
    d[DISPI_VIRT_WIDTH] = (uint16_t)CLAMP(d[DISPI_VIRT_WIDTH], d[DISPI_XRES], 8192);
    if ((uint64_t)dispi_line_bytes(v, d[DISPI_VIRT_WIDTH]) * d[DISPI_YRES] > VGA_VRAM_SIZE) {
        d[DISPI_VIRT_WIDTH] = d[DISPI_XRES];
    }
    uint32_t line = MAX(dispi_line_bytes(v, d[DISPI_VIRT_WIDTH]), 1);
    uint32_t lines = VGA_VRAM_SIZE / line;
    if (lines < d[DISPI_YRES]) {
        return false;
    }
    d[DISPI_VIRT_HEIGHT] = (uint16_t)MIN(lines, 0xffff);
    d[DISPI_X_OFFSET] = (uint16_t)MIN(d[DISPI_X_OFFSET], d[DISPI_VIRT_WIDTH] - d[DISPI_XRES]);
    d[DISPI_Y_OFFSET] = (uint16_t)MIN(d[DISPI_Y_OFFSET], d[DISPI_VIRT_HEIGHT] - d[DISPI_YRES]);
    return true;
}

static void dispi_enable(struct vga *v, uint16_t value)
{
    bool was = v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
    v->dispi[DISPI_ENABLE] =
        value & (DISPI_ENABLED | DISPI_GETCAPS | DISPI_8BITDAC | DISPI_LFB | DISPI_NOCLEAR);
    v->redraw = true;
    if (!(value & DISPI_ENABLED)) {
        v->dispi[DISPI_BANK] = 0;
        return;
    }
    if (!was) {
        v->dispi[DISPI_VIRT_WIDTH] = v->dispi[DISPI_XRES];
        v->dispi[DISPI_X_OFFSET] = v->dispi[DISPI_Y_OFFSET] = 0;
    }
    if (!dispi_validate(v)) {
        device_log_once("vga", 0, "the guest set a mode that does not exist");
        v->dispi[DISPI_ENABLE] &= (uint16_t)~DISPI_ENABLED;
        return;
    }
    if (!was && !(value & DISPI_NOCLEAR)) {
        uint32_t size = dispi_line_bytes(v, v->dispi[DISPI_VIRT_WIDTH]) * v->dispi[DISPI_YRES];
        memset(v->vram, 0, MIN(size, VGA_VRAM_SIZE));
        memory_wrote(v->host->memory, v->vram, MIN(size, VGA_VRAM_SIZE));
    }
}

/* A register that describes the mode; a mode that would not exist is not taken while one is on. */
static void dispi_set(struct vga *v, unsigned index, uint16_t value)
{
    uint16_t saved[DISPI_COUNT];
    memcpy(saved, v->dispi, sizeof(saved));
    v->dispi[index] = value;
    v->redraw = true;
    if ((v->dispi[DISPI_ENABLE] & DISPI_ENABLED) && !dispi_validate(v)) {
        memcpy(v->dispi, saved, sizeof(saved));
    }
}

static void dispi_write(struct vga *v, unsigned index, uint16_t value)
{
    switch (index) {
    case DISPI_ID:
        if (value >= 0xb0c0 && value <= 0xb0c5) {
            v->dispi[DISPI_ID] = value;
        }
        break;
    case DISPI_ENABLE:
        dispi_enable(v, value);
        break;
    case DISPI_BANK:
        v->dispi[DISPI_BANK] = value & (VGA_VRAM_SIZE / 0x10000 - 1);
        break;
    case DISPI_XRES:
    case DISPI_YRES:
    case DISPI_BPP:
    case DISPI_VIRT_WIDTH:
    case DISPI_X_OFFSET:
    case DISPI_Y_OFFSET:
        dispi_set(v, index, value);
        break;
    default:
        break;
    }
}

static uint16_t dispi_read(const struct vga *v, unsigned index)
{
    if (v->dispi[DISPI_ENABLE] & DISPI_GETCAPS) {
        if (index == DISPI_XRES) {
            return VGA_MAX_WIDTH;
        }
        if (index == DISPI_YRES) {
            return VGA_MAX_HEIGHT;
        }
        if (index == DISPI_BPP) {
            return 32;
        }
    }
    if (index == DISPI_MEMORY_64K) {
        return VGA_VRAM_SIZE / 0x10000;
    }
    return index < DISPI_COUNT ? v->dispi[index] : 0;
}

/* Offset 0 is 1CEh. The data register's word at the odd 1CFh may come as two bytes. */
static uint64_t dispi_port_read(void *opaque, uint64_t addr, unsigned size)
{
    struct vga *v = opaque;
    if (addr == 0) {
        return v->dispi_index;
    }
    uint16_t value = dispi_read(v, v->dispi_index);
    return size == 1 && addr == 2 ? value >> 8 : value;
}

static void dispi_port_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct vga *v = opaque;
    if (addr == 0) {
        v->dispi_index = (uint16_t)value;
    } else if (size == 2) {
        dispi_write(v, v->dispi_index, (uint16_t)value);
    } else if (addr == 1) {
        v->dispi_low = (uint8_t)value;
    } else if (addr == 2) {
        dispi_write(v, v->dispi_index, (uint16_t)(value << 8 | v->dispi_low));
    }
}

static const struct io_ops dispi_ops = {
    .name = "vga-dispi", .read = dispi_port_read, .write = dispi_port_write, .max_size = 2};

/* --- memory-mapped registers --- */

static uint64_t registers_read_dispi(struct vga *v, uint64_t addr, unsigned size)
{
    unsigned index = (unsigned)(addr - 0x500) / 2;
    uint16_t value = dispi_read(v, index);
    return size == 1 && (addr & 1) ? value >> 8 : value;
}

static uint64_t registers_read(void *opaque, uint64_t addr, unsigned size)
{
    struct vga *v = opaque;
    if (addr >= 0x400 && addr < 0x420) {
        uint64_t low = port_read(v, (unsigned)(addr - 0x400) + 0x3c0);
        return size == 1 ? low
                         : low | (uint64_t)port_read(v, (unsigned)(addr - 0x400) + 0x3c1) << 8;
    }
    if (addr >= 0x500 && addr < 0x500 + 2 * DISPI_COUNT) {
        return registers_read_dispi(v, addr, size);
    }
    if ((addr & ~3ull) == 0x600) {
        return addr == 0x600 ? 8 : 0;
    }
    if ((addr & ~3ull) == 0x604) {
        return (v->big_endian ? QEXT_BIG : QEXT_LITTLE) >> (8 * (addr & 3));
    }
    return 0;
}

static void registers_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct vga *v = opaque;
    if (addr >= 0x400 && addr < 0x420) {
        port_write(v, (unsigned)(addr - 0x400) + 0x3c0, (uint8_t)value);
        if (size == 2) {
            port_write(v, (unsigned)(addr - 0x400) + 0x3c1, (uint8_t)(value >> 8));
        }
    } else if (addr >= 0x500 && addr < 0x500 + 2 * DISPI_COUNT && size == 2) {
        dispi_write(v, (unsigned)(addr - 0x500) / 2, (uint16_t)value);
    } else if (addr == 0x604) {
        v->big_endian = (uint16_t)value == (uint16_t)QEXT_BIG;
    }
}

const struct io_ops vga_registers_ops = {
    .name = "vga-registers", .read = registers_read, .write = registers_write, .max_size = 2};

/* --- for the adapter --- */

void vga_reset(struct vga *v)
{
    v->misc = v->feature = 0;
    v->seq_index = v->gfx_index = v->crtc_index = v->attr_index = 0;
    memset(v->seq, 0, sizeof(v->seq));
    memset(v->gfx, 0, sizeof(v->gfx));
    memset(v->crtc, 0, sizeof(v->crtc));
    memset(v->attr, 0, sizeof(v->attr));
    memset(v->latch, 0, sizeof(v->latch));
    memset(v->dispi, 0, sizeof(v->dispi));
    memset(v->dac, 0, sizeof(v->dac));
    v->attr_flip = v->big_endian = false;
    v->dac_mask = 0xff;
    v->dac_read = v->dac_write = v->dac_sub = v->dac_state = 0;
    v->dispi_index = 0;
    v->dispi[DISPI_ID] = 0xb0c5;
    v->redraw = true;
}

/* The option ROM, in pool memory of the next power of two. */
static bool vga_load_rom(struct vga *v, GError **error)
{
    uint64_t size = GUEST_PAGE_SIZE;
    if (!v->config.rom || v->config.rom_size == 0) {
        return true;
    }
    while (size < v->config.rom_size && size < 1u << 20) {
        size *= 2;
    }
    v->rom = v->config.rom_size <= size ? memory_alloc(v->host->memory, size, "vga-rom") : NULL;
    if (!v->rom) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    "The video BIOS (%zu bytes) does not fit into the machine.",
                    v->config.rom_size);
        return false;
    }
    memcpy(v->rom, v->config.rom, v->config.rom_size);
    v->rom_size = size;
    return true;
}

static void vga_claim(struct vga *v)
{
    const struct device_host *host = v->host;
    struct mapping window = {.gpa = 0xa0000,
                             .size = 0x20000,
                             .kind = MAPPING_IO,
                             .priority = MEMORY_PRIORITY_DEVICE,
                             .ops = &vga_window_ops,
                             .opaque = v};
    v->window = memory_map(host->memory, &window);
    v->ports = host->map_ports(host->opaque, 0x3b0, 0x30, &ports_ops, v);
    v->dispi_ports = host->map_ports(host->opaque, 0x1ce, 3, &dispi_ops, v);
}

bool vga_init(struct vga *v, const struct device_host *host, const struct vga_config *config,
              GError **error)
{
    v->host = host;
    v->config = *config;
    v->vram = memory_alloc(host->memory, VGA_VRAM_SIZE, "vga-vram");
    if (!v->vram) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "There is no memory for the display adapter's video RAM.");
        return false;
    }
    if (!vga_load_rom(v, error)) {
        return false;
    }
    vga_claim(v);
    vga_reset(v);
    return true;
}

void vga_fini(struct vga *v)
{
    if (v->window) {
        memory_unmap(v->host->memory, v->window);
        v->host->unmap_ports(v->host->opaque, v->ports);
        v->host->unmap_ports(v->host->opaque, v->dispi_ports);
    }
}

void vga_state(struct vga *v, struct state *s)
{
    state_u8(s, "misc", &v->misc);
    state_u8(s, "feature", &v->feature);
    state_u8(s, "seq-index", &v->seq_index);
    state_bytes(s, "seq", v->seq, sizeof(v->seq));
    state_u8(s, "gfx-index", &v->gfx_index);
    state_bytes(s, "gfx", v->gfx, sizeof(v->gfx));
    state_u8(s, "crtc-index", &v->crtc_index);
    state_bytes(s, "crtc", v->crtc, sizeof(v->crtc));
    state_u8(s, "attr-index", &v->attr_index);
    state_bytes(s, "attr", v->attr, sizeof(v->attr));
    state_bool(s, "attr-flip", &v->attr_flip);
    state_u8(s, "dac-mask", &v->dac_mask);
    state_u8(s, "dac-read", &v->dac_read);
    state_u8(s, "dac-write", &v->dac_write);
    state_u8(s, "dac-sub", &v->dac_sub);
    state_u8(s, "dac-state", &v->dac_state);
    state_bytes(s, "dac-latch", v->dac_latch, sizeof(v->dac_latch));
    state_bytes(s, "dac", v->dac, sizeof(v->dac));
    state_bytes(s, "latch", v->latch, sizeof(v->latch));
    state_u16(s, "dispi-index", &v->dispi_index);
    state_u8(s, "dispi-low", &v->dispi_low);
    state_bool(s, "big-endian", &v->big_endian);
    for (unsigned i = 0; i < DISPI_COUNT; i++) {
        state_push(s, "dispi", i);
        state_u16(s, "value", &v->dispi[i]);
        state_pop(s);
    }
}

/* A state file may say anything: the registers that index or size something are bounded again. */
void vga_restored(struct vga *v)
{
    v->dac_sub %= 3;
    v->crtc_index &= 0x3f;
    v->dispi[DISPI_BANK] &= VGA_VRAM_SIZE / 0x10000 - 1;
    if ((v->dispi[DISPI_ENABLE] & DISPI_ENABLED) && !dispi_validate(v)) {
        v->dispi[DISPI_ENABLE] = 0;
    }
    v->redraw = true;
}
