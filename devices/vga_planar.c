/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU's window on video RAM at A0000h-BFFFFh: planes, latches, the graphics controller's write
 * and read modes (IBM VGA Technical Reference, "Graphics Controller"), chain-4, odd/even, and the
 * banked window of VBE modes.
 */
#include "vga_internal.h"

#define GFX_SET_RESET 0
#define GFX_ENABLE_SR 1
#define GFX_COMPARE   2
#define GFX_ROTATE    3
#define GFX_READ_MAP  4
#define GFX_MODE      5
#define GFX_MISC      6
#define GFX_DONT_CARE 7
#define GFX_BIT_MASK  8
#define SEQ_MAP_MASK  2
#define SEQ_MEMORY    4

/* Offset in the window -> offset in the mapped part; false: not decoded (graphics register 6). */
static bool window_offset(const struct vga *v, uint64_t addr, uint32_t *offset)
{
    uint32_t a = addr & 0x1ffff;
    switch (v->gfx[GFX_MISC] >> 2 & 3) {
    case 0:
        break;
    case 1:
        if (a >= 0x10000) {
            return false;
        }
        break;
    case 2:
        if (a < 0x10000 || a >= 0x18000) {
            return false;
        }
        a -= 0x10000;
        break;
    default:
        if (a < 0x18000) {
            return false;
        }
        a -= 0x18000;
        break;
    }
    *offset = a;
    return true;
}

static bool window_banked(const struct vga *v)
{
    return (v->dispi[DISPI_ENABLE] & DISPI_ENABLED) && v->dispi[DISPI_BPP] > 4;
}

static uint32_t window_banked_address(const struct vga *v, uint32_t offset)
{
    return ((uint32_t)v->dispi[DISPI_BANK] * 0x10000u + (offset & 0xffff)) & VGA_VRAM_MASK;
}

static void vram_touched(struct vga *v, uint32_t at, uint32_t len)
{
    memory_wrote(v->host->memory, v->vram + at, len);
}

/* Four planes as one little-endian word. */
static uint32_t planes_load(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static void planes_store(uint8_t *p, uint32_t value, uint32_t mask)
{
    for (unsigned i = 0; i < 4; i++) {
        if (mask >> (8 * i) & 0xff) {
            p[i] = (uint8_t)(value >> (8 * i));
        }
    }
}

/* Four bits -> four bytes of all ones or zeroes. */
static uint32_t planes_expand(uint8_t bits)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < 4; i++) {
        word |= bits >> i & 1 ? 0xffu << (8 * i) : 0;
    }
    return word;
}

static uint32_t plane_base(const struct vga *v, uint32_t offset)
{
    uint32_t bank = window_banked(v) ? 0 : (uint32_t)v->dispi[DISPI_BANK] << 16;
    return (4 * (offset + bank)) & VGA_VRAM_MASK & ~3u;
}

/* --- reading --- */

static uint8_t planes_read(struct vga *v, uint32_t offset, int plane)
{
    const uint8_t *p = v->vram + plane_base(v, offset);
    for (unsigned i = 0; i < 4; i++) {
        v->latch[i] = p[i];
    }
    if (!(v->gfx[GFX_MODE] & 8)) {
        return p[plane];
    }
    uint32_t care = planes_expand(v->gfx[GFX_DONT_CARE] & 0xf);
    uint32_t differ = (planes_load(p) ^ planes_expand(v->gfx[GFX_COMPARE] & 0xf)) & care;
    differ |= differ >> 16;
    differ |= differ >> 8;
    return (uint8_t)~differ;
}

static uint8_t window_read_byte(struct vga *v, uint64_t addr)
{
    uint32_t offset;
    if (!window_offset(v, addr, &offset)) {
        return 0xff;
    }
    if (window_banked(v)) {
        return v->vram[window_banked_address(v, offset)];
    }
    if (v->seq[SEQ_MEMORY] & 8) {
        return v->vram[offset & VGA_VRAM_MASK];
    }
    if (v->gfx[GFX_MODE] & 0x10) { /* odd/even */
        int plane = (v->gfx[GFX_READ_MAP] & 2) | (offset & 1);
        return planes_read(v, offset >> 1, plane);
    }
    return planes_read(v, offset & VGA_PLANE_MASK, v->gfx[GFX_READ_MAP] & 3);
}

/* --- writing --- */

static uint8_t rotate_right(uint8_t value, unsigned count)
{
    count &= 7;
    return (uint8_t)(value >> count | value << (8 - count));
}

static uint32_t combine(const struct vga *v, uint32_t value, uint32_t latch)
{
    switch (v->gfx[GFX_ROTATE] >> 3 & 3) {
    case 1:
        return value & latch;
    case 2:
        return value | latch;
    case 3:
        return value ^ latch;
    default:
        return value;
    }
}

/* The four bytes that a CPU byte becomes, by write mode. */
static uint32_t planes_compute(const struct vga *v, uint8_t byte)
{
    uint32_t latch = planes_load(v->latch);
    uint8_t bit_mask = v->gfx[GFX_BIT_MASK];
    uint32_t set = planes_expand(v->gfx[GFX_SET_RESET] & 0xf), value;
    switch (v->gfx[GFX_MODE] & 3) {
    case 0: {
        uint32_t enable = planes_expand(v->gfx[GFX_ENABLE_SR] & 0xf);
        value = rotate_right(byte, v->gfx[GFX_ROTATE]) * 0x01010101u;
        value = (value & ~enable) | (set & enable);
        break;
    }
    case 1:
        return latch;
    case 2:
        value = planes_expand(byte & 0xf);
        break;
    default:
        bit_mask &= rotate_right(byte, v->gfx[GFX_ROTATE]);
        value = set;
        break;
    }
    uint32_t mask = bit_mask * 0x01010101u;
    return (combine(v, value, latch) & mask) | (latch & ~mask);
}

static void planes_write(struct vga *v, uint32_t offset, uint8_t byte, uint8_t planes)
{
    uint32_t at = plane_base(v, offset);
    planes_store(v->vram + at, planes_compute(v, byte), planes_expand(planes));
    if (planes & 4) {
        v->font_dirty = true;
    }
    vram_touched(v, at, 4);
}

static void window_write_byte(struct vga *v, uint64_t addr, uint8_t byte)
{
    uint32_t offset;
    uint8_t map = v->seq[SEQ_MAP_MASK] & 0xf;
    if (!window_offset(v, addr, &offset)) {
        return;
    }
    if (window_banked(v)) {
        uint32_t at = window_banked_address(v, offset);
        v->vram[at] = byte;
        vram_touched(v, at, 1);
    } else if (v->seq[SEQ_MEMORY] & 8) { /* chain-4 */
        if (map >> (offset & 3) & 1) {
            v->vram[offset & VGA_VRAM_MASK] = byte;
            vram_touched(v, offset & VGA_VRAM_MASK, 1);
        }
    } else if (!(v->seq[SEQ_MEMORY] & 4)) { /* odd/even */
        planes_write(v, offset >> 1, byte, map & (offset & 1 ? 0xa : 0x5));
    } else {
        planes_write(v, offset & VGA_PLANE_MASK, byte, map);
    }
}

static uint64_t window_read(void *opaque, uint64_t addr, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)window_read_byte(opaque, addr + i) << (8 * i);
    }
    return value;
}

static void window_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        window_write_byte(opaque, addr + i, (uint8_t)(value >> (8 * i)));
    }
}

const struct io_ops vga_window_ops = {
    .name = "vga-window", .read = window_read, .write = window_write, .max_size = 8};
