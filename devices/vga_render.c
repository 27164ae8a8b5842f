/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From video RAM to the screen: which mode is on, graphics modes, palette, what has changed.
 *
 * The page bytes of the machine's dirty map are read and cleared, then the engine is told to record
 * again, then the pages are drawn: a write that comes in between is drawn now or recorded for next
 * time. A line is made in `line` when one of its pages is dirty and stored only where it differs.
 */
#include "vga_internal.h"

#include <string.h>

/* --- what has changed --- */

static void dirty_collect(struct vga *v)
{
    struct memory *mem = v->host->memory;
    uint8_t *map = memory_dirty_map(mem) + ((v->vram - memory_pool_base(mem)) >> GUEST_PAGE_SHIFT);
    bool any = false;
    if (v->config.dirty_sync) {
        v->config.dirty_sync(v->config.opaque);
    }
    for (uint32_t i = 0; i < VGA_PAGES; i++) {
        v->dirty[i] = map[i] ? __atomic_exchange_n(&map[i], 0, __ATOMIC_ACQ_REL) : 0;
        any = any || v->dirty[i];
    }
    if (any && v->config.dirty_rearm) {
        v->config.dirty_rearm(v->config.opaque);
    }
}

bool vga_range_dirty(const struct vga *v, uint32_t offset, uint32_t len)
{
    if (v->redraw) {
        return true;
    }
    uint32_t first = (offset & VGA_VRAM_MASK) >> GUEST_PAGE_SHIFT;
    uint32_t count =
        ((offset & (GUEST_PAGE_SIZE - 1)) + len + GUEST_PAGE_SIZE - 1) >> GUEST_PAGE_SHIFT;
    for (uint32_t i = 0; i < MIN(count, VGA_PAGES); i++) {
        if (v->dirty[(first + i) % VGA_PAGES]) {
            return true;
        }
    }
    return false;
}

void vga_show_line(struct vga *v, uint32_t x, uint32_t y, uint32_t width)
{
    struct screen *screen = v->config.screen;
    uint32_t *row = screen_pixels(screen) + (size_t)y * (screen_stride(screen) / 4) + x;
    uint32_t first = 0, last = width;
    while (first < width && row[first] == v->line[first]) {
        first++;
    }
    if (first == width) {
        return;
    }
    while (row[last - 1] == v->line[last - 1]) {
        last--;
    }
    memcpy(row + first, v->line + first, (last - first) * 4);
    screen_damage(screen, x + first, y, last - first, 1);
}

/* --- palette --- */

static uint32_t dac_colour(const struct vga *v, uint8_t index)
{
    const uint8_t *c = v->dac + 3 * (index & v->dac_mask);
    if ((v->dispi[DISPI_ENABLE] & (DISPI_ENABLED | DISPI_8BITDAC)) ==
        (DISPI_ENABLED | DISPI_8BITDAC)) {
        return (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
    }
    uint32_t colour = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t six = c[i] & 0x3f;
        colour = colour << 8 | (uint32_t)(six << 2 | six >> 4);
    }
    return colour;
}

/* 16 colours by way of the attribute controller. */
static void palette_attribute(struct vga *v)
{
    for (unsigned i = 0; i < 16; i++) {
        uint8_t plane_enabled = (uint8_t)(i & v->attr[0x12] & 0xf), index;
        uint8_t entry = v->attr[plane_enabled] & 0x3f;
        if (v->attr[0x10] & 0x80) {
            index = (uint8_t)((entry & 0x0f) | (v->attr[0x14] & 0x0f) << 4);
        } else {
            index = (uint8_t)(entry | (v->attr[0x14] & 0x0c) << 4);
        }
        v->palette[i] = dac_colour(v, index);
    }
}

static void palette_direct(struct vga *v)
{
    for (unsigned i = 0; i < 256; i++) {
        v->palette[i] = dac_colour(v, (uint8_t)i);
    }
}

/* --- lines of VGA graphics modes; `at`: plane address, `count`: pixels --- */

static void line_planar(struct vga *v, uint32_t at, uint32_t count)
{
    for (uint32_t x = 0; x < count; x += 8, at++) {
        const uint8_t *p = v->vram + (at * 4 & VGA_VRAM_MASK);
        for (uint32_t i = 0; i < 8 && x + i < count; i++) {
            unsigned bit = 7 - i;
            unsigned colour = (p[0] >> bit & 1) | (p[1] >> bit & 1) << 1 | (p[2] >> bit & 1) << 2 |
                              (p[3] >> bit & 1) << 3;
            v->line[x + i] = v->palette[colour];
        }
    }
}

/* Two-bit pixels: four from an even plane's byte, four from the odd plane's. */
static void line_cga(struct vga *v, uint32_t at, uint32_t count)
{
    for (uint32_t x = 0; x < count; x++) {
        const uint8_t *p = v->vram + ((at + x / 8) * 4 & VGA_VRAM_MASK) + (x >> 2 & 1);
        unsigned shift = 6 - 2 * (x & 3);
        v->line[x] = v->palette[(p[0] >> shift & 3) | (p[2] >> shift & 3) << 2];
    }
}

static void line_256(struct vga *v, uint32_t at, uint32_t count)
{
    for (uint32_t x = 0; x < count; x++) {
        v->line[x] = v->palette[v->vram[(at * 4 + x) & VGA_VRAM_MASK]];
    }
}

struct graphics_mode {
    uint32_t width, height, lines_per_row, pan;
    void (*line)(struct vga *v, uint32_t at, uint32_t count);
    uint32_t bytes_per_line; /* of plane addresses */
};

static struct graphics_mode graphics_mode(struct vga *v)
{
    bool wide = v->gfx[5] & 0x40, cga = v->gfx[5] & 0x20;
    bool scan_address = (v->crtc[0x17] & 3) != 3; /* scan line number is part of the address */
    struct graphics_mode m = {.lines_per_row = v->crtc[9] & 0x80 ? 2 : 1};
    uint32_t characters = v->crtc[1] + 1u;
    if (!scan_address) {
        m.lines_per_row *= (v->crtc[9] & 0x1f) + 1u;
    }
    m.line = wide ? line_256 : cga ? line_cga : line_planar;
    m.width = characters * (wide ? 4 : 8);
    m.bytes_per_line = wide ? characters : characters;
    m.height = MAX(vga_scan_lines(v) / m.lines_per_row, 1);
    m.pan = (v->attr[0x13] & 0xf) >> (wide ? 1 : 0);
    m.pan = m.pan > 7 ? 0 : m.pan;
    return m;
}

/* Bits of the line number that take part in the address (CGA and Hercules layouts). */
static uint32_t scan_address(const struct vga *v, uint32_t at, uint32_t y)
{
    if (!(v->crtc[0x17] & 1)) {
        unsigned bit = v->crtc[0x17] & 0x40 ? 13 : 12;
        at = (at & ~(1u << bit)) | (y & 1) << bit;
    }
    if (!(v->crtc[0x17] & 2)) {
        at = (at & ~0x2000u) | (y >> 1 & 1) << 13;
    }
    return at;
}

static uint32_t graphics_row(const struct vga *v, const struct graphics_mode *m, uint32_t y,
                             uint32_t split, bool *below)
{
    uint32_t pitch = v->crtc[0x13] * 2u, row = y, start = vga_start_address(v);
    *below = y > split;
    if (*below) {
        row = y - split - 1;
        start = 0;
    }
    if ((v->crtc[0x17] & 3) != 3) {
        uint32_t rows = (v->crtc[9] & 0x1f) + 1u;
        return scan_address(v, start + row / rows * pitch, row % rows);
    }
    return start + row * pitch;
}

static void draw_graphics(struct vga *v)
{
    struct graphics_mode m = graphics_mode(v);
    uint32_t split = vga_line_compare(v) / m.lines_per_row;
    if (v->gfx[5] & 0x40) {
        palette_direct(v);
    } else {
        palette_attribute(v);
    }
    if (!screen_set_mode(v->config.screen, m.width, m.height)) {
        return;
    }
    for (uint32_t y = 0; y < m.height; y++) {
        bool below;
        uint32_t at = graphics_row(v, &m, y, split, &below);
        uint32_t pan = below && (v->attr[0x10] & 0x20) ? 0 : m.pan;
        if (vga_range_dirty(v, at * 4, m.bytes_per_line * 4 + 8)) {
            m.line(v, at, m.width + pan);
            if (pan) {
                memmove(v->line, v->line + pan, m.width * 4);
            }
            vga_show_line(v, 0, y, m.width);
        }
    }
}

/* --- VBE modes --- */

static unsigned dispi_pixel_bytes(const struct vga *v)
{
    return (v->dispi[DISPI_BPP] + 7u) / 8u;
}

static void line_dispi(struct vga *v, uint32_t at, uint32_t width)
{
    const uint8_t *ram = v->vram;
    unsigned bytes = dispi_pixel_bytes(v);
    for (uint32_t x = 0; x < width; x++, at += bytes) {
        const uint8_t *p = ram + MIN(at, VGA_VRAM_SIZE - 4);
        uint32_t c = p[0] | p[1] << 8 | p[2] << 16;
        if (bytes == 1) {
            v->line[x] = v->palette[p[0]];
        } else if (v->dispi[DISPI_BPP] == 15) {
            uint32_t r = c >> 10 & 31, g = c >> 5 & 31, b = c & 31;
            v->line[x] = (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
        } else if (bytes == 2) {
            uint32_t r = c >> 11 & 31, g = c >> 5 & 63, b = c & 31;
            v->line[x] = (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
        } else {
            v->line[x] = c;
        }
    }
}

static void draw_dispi(struct vga *v)
{
    uint32_t width = v->dispi[DISPI_XRES], height = v->dispi[DISPI_YRES];
    uint32_t bytes = dispi_pixel_bytes(v);
    bool planar = v->dispi[DISPI_BPP] == 4;
    uint32_t pitch = planar ? v->dispi[DISPI_VIRT_WIDTH] / 8u : v->dispi[DISPI_VIRT_WIDTH] * bytes;
    uint32_t start = v->dispi[DISPI_Y_OFFSET] * pitch +
                     (planar ? v->dispi[DISPI_X_OFFSET] / 8u : v->dispi[DISPI_X_OFFSET] * bytes);
    if (planar) {
        palette_attribute(v);
    } else {
        palette_direct(v);
    }
    if (!screen_set_mode(v->config.screen, width, height)) {
        return;
    }
    for (uint32_t y = 0; y < height; y++) {
        uint32_t at = (start + y * pitch) & VGA_VRAM_MASK;
        if (!vga_range_dirty(v, planar ? at * 4 : at, planar ? width / 2 : width * bytes)) {
            continue;
        }
        if (planar) {
            line_planar(v, at, width);
        } else {
            line_dispi(v, at, width);
        }
        vga_show_line(v, 0, y, width);
    }
}

/* The display is off: a black screen of the size it had. */
static void draw_blank(struct vga *v)
{
    struct screen *screen = v->config.screen;
    if (!screen_pixels(screen) && !screen_set_mode(screen, 720, 400)) {
        return;
    }
    memset(v->line, 0, sizeof(v->line));
    for (uint32_t y = 0; v->redraw && y < screen_height(screen); y++) {
        vga_show_line(v, 0, y, MIN(screen_width(screen), VGA_MAX_WIDTH));
    }
}

void vga_refresh(void *opaque)
{
    struct vga *v = opaque;
    dirty_collect(v);
    if (v->dispi[DISPI_ENABLE] & DISPI_ENABLED) {
        draw_dispi(v);
    } else if (!(v->attr_index & 0x20) || (v->seq[1] & 0x20)) {
        draw_blank(v);
    } else if (v->gfx[6] & 1) {
        draw_graphics(v);
    } else {
        palette_attribute(v);
        vga_draw_text(v);
    }
    v->redraw = false;
    v->font_dirty = false;
}
