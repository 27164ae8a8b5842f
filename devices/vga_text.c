/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text modes: characters in plane 0, attributes in plane 1, two of eight fonts in plane 2. A cell
 * is drawn again when what it shows differs from what `cell` remembers. Blinking runs on the
 * virtual clock: the cursor at 1/16, characters at 1/32 of the frame rate, as the chip has it.
 */
#include "vga_internal.h"

#include <string.h>

#define FRAME_NS (NS_PER_SECOND / 70)

enum { CELL_CURSOR = 1u << 24, CELL_HIDDEN = 1u << 25, CELL_DRAWN = 1u << 31 };

struct text_mode {
    uint32_t columns, rows, cell_width, cell_height, lines;
    uint32_t start, pitch, cursor; /* in characters */
    bool cursor_on, chars_on;
};

static struct text_mode text_mode(const struct vga *v)
{
    struct text_mode m = {.columns = MIN(v->crtc[1] + 1u, VGA_MAX_COLUMNS),
                          .cell_width = v->seq[1] & 1 ? 8 : 9,
                          .cell_height = (v->crtc[9] & 0x1f) + 1u,
                          .lines = vga_scan_lines(v) >> (v->crtc[9] >> 7),
                          .start = vga_start_address(v),
                          .pitch = v->crtc[0x13] * 2u,
                          .cursor = (uint32_t)v->crtc[0x0e] << 8 | v->crtc[0x0f]};
    uint64_t frame = clock_now(v->host->clock) / FRAME_NS;
    m.rows = MIN((m.lines + m.cell_height - 1) / m.cell_height, VGA_MAX_ROWS);
    m.lines = MIN(m.lines, m.rows * m.cell_height);
    m.cursor_on = !(v->crtc[0x0a] & 0x20) && !(frame & 8);
    m.chars_on = !(frame & 16);
    return m;
}

static uint32_t font_offset(uint8_t selector)
{
    static const uint8_t order[8] = {0, 4, 8, 12, 2, 6, 10, 14}; /* in 4 KiB of plane 2 */
    return order[selector & 7] * 0x1000u;
}

/* What a cell shows: character, attribute, cursor and blink state. */
static uint32_t cell_value(const struct vga *v, const struct text_mode *m, uint32_t address)
{
    const uint8_t *p = v->vram + ((address & VGA_PLANE_MASK) * 4u);
    uint32_t value = CELL_DRAWN | p[0] | (uint32_t)p[1] << 8;
    if (m->cursor_on && address == m->cursor) {
        value |= CELL_CURSOR;
    }
    if ((v->attr[0x10] & 8) && (p[1] & 0x80) && !m->chars_on) {
        value |= CELL_HIDDEN;
    }
    return value;
}

/* One line of a glyph, leftmost pixel in bit 8. */
static uint32_t glyph_bits(const struct vga *v, uint32_t value, uint32_t line, uint32_t width)
{
    uint8_t select = v->seq[3], code = (uint8_t)value;
    uint8_t font_a = (uint8_t)((select >> 2 & 3) | (select >> 3 & 4));
    uint8_t font_b = (uint8_t)((select & 3) | (select >> 2 & 4));
    uint32_t font = font_offset(value & 0x800 ? font_a : font_b);
    uint32_t bits = (uint32_t)v->vram[4 * ((font + code * 32u + line) & VGA_PLANE_MASK) + 2] << 1;
    if (width == 9 && (v->attr[0x10] & 4) && (code & 0xe0) == 0xc0) {
        bits |= bits >> 1 & 1; /* line graphics: the ninth column repeats the eighth */
    }
    return bits;
}

static void draw_cell_line(struct vga *v, const struct text_mode *m, uint32_t value, uint32_t line,
                           uint32_t *out)
{
    uint8_t attribute = (uint8_t)(value >> 8);
    uint32_t foreground = attribute & 0xf;
    uint32_t background = attribute >> 4 & (v->attr[0x10] & 8 ? 7 : 15);
    uint32_t bits = value & CELL_HIDDEN ? 0 : glyph_bits(v, value, line, m->cell_width);
    uint32_t top = v->crtc[0x0a] & 0x1f, bottom = v->crtc[0x0b] & 0x1f;
    if ((value & CELL_CURSOR) && line >= top && line <= bottom) {
        bits = 0x1ff;
    }
    /* monochrome underline */
    if ((attribute & 0x77) == 0x01 && (v->attr[0x10] & 2) && line == (v->crtc[0x14] & 0x1f)) {
        bits = 0x1ff;
    }
    for (uint32_t x = 0; x < m->cell_width; x++) {
        out[x] = v->palette[bits >> (8 - x) & 1 ? foreground : background];
    }
}

static void draw_cell(struct vga *v, const struct text_mode *m, uint32_t column, uint32_t row,
                      uint32_t value)
{
    for (uint32_t line = 0; line < m->cell_height; line++) {
        uint32_t y = row * m->cell_height + line;
        if (y < m->lines) {
            draw_cell_line(v, m, value, line, v->line);
            vga_show_line(v, column * m->cell_width, y, m->cell_width);
        }
    }
}

void vga_draw_text(struct vga *v)
{
    struct text_mode m = text_mode(v);
    uint32_t split = vga_line_compare(v) >> (v->crtc[9] >> 7);
    uint32_t first_split = split < m.lines ? split / m.cell_height + 1 : UINT32_MAX;
    if (!screen_set_mode(v->config.screen, m.columns * m.cell_width, m.lines)) {
        return;
    }
    if (v->redraw || v->font_dirty) {
        memset(v->cell, 0, sizeof(v->cell));
    }
    for (uint32_t row = 0; row < m.rows; row++) {
        uint32_t address =
            row >= first_split ? (row - first_split) * m.pitch : m.start + row * m.pitch;
        for (uint32_t column = 0; column < m.columns; column++) {
            uint32_t *drawn = &v->cell[row * VGA_MAX_COLUMNS + column];
            uint32_t value = cell_value(v, &m, (address + column) & VGA_PLANE_MASK);
            if (*drawn != value) {
                *drawn = value;
                draw_cell(v, &m, column, row, value);
            }
        }
    }
}
