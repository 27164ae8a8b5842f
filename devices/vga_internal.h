/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VGA core: vga.c (registers), vga_planar.c (the A0000h window), vga_render.c and vga_text.c
 * (drawing). The adapters around it are vga_pci.c and virtio_gpu.c. Video RAM is interleaved: plane
 * p of plane address a is byte 4a+p. Chain-4 and linear modes see the bytes in order.
 */
#pragma once

#include "vga.h"

#define VGA_VRAM_SIZE   (16u << 20)
#define VGA_VRAM_MASK   (VGA_VRAM_SIZE - 1)
#define VGA_PAGES       (VGA_VRAM_SIZE / GUEST_PAGE_SIZE)
#define VGA_PLANE_MASK  0xffffu /* plane addresses of the window */
#define VGA_MAX_WIDTH   5120u
#define VGA_MAX_HEIGHT  4096u
#define VGA_MAX_COLUMNS 256u
#define VGA_MAX_ROWS    256u

enum dispi_register {
    DISPI_ID,
    DISPI_XRES,
    DISPI_YRES,
    DISPI_BPP,
    DISPI_ENABLE,
    DISPI_BANK,
    DISPI_VIRT_WIDTH,
    DISPI_VIRT_HEIGHT,
    DISPI_X_OFFSET,
    DISPI_Y_OFFSET,
    DISPI_MEMORY_64K,
    DISPI_COUNT
};
#define DISPI_ENABLED 0x01u
#define DISPI_GETCAPS 0x02u
#define DISPI_8BITDAC 0x20u
#define DISPI_LFB     0x40u
#define DISPI_NOCLEAR 0x80u

struct vga {
    const struct device_host *host;
    struct vga_config config;
    uint8_t *vram, *rom; /* pool memory */
    uint64_t rom_size;   /* a power of two; 0: there is none */
    unsigned ports, dispi_ports, window;

    uint8_t misc, feature;
    uint8_t seq_index, seq[8];
    uint8_t gfx_index, gfx[16];
    uint8_t crtc_index, crtc[32];
    uint8_t attr_index, attr[32];
    bool attr_flip; /* next write to 3C0h is data */
    uint8_t dac_mask, dac_read, dac_write, dac_sub, dac_state;
    uint8_t dac_latch[3];
    uint8_t dac[768];
    uint8_t latch[4];
    uint16_t dispi_index, dispi[DISPI_COUNT];
    uint8_t dispi_low; /* low byte of a data write that came as two */
    bool big_endian;   /* qext: guest's wish, kept only */

    /* Drawing; all derived */
    bool redraw;     /* everything, whatever is dirty */
    bool font_dirty; /* plane 2 was written */
    uint32_t palette[256];
    uint8_t dirty[VGA_PAGES];                      /* pages written since the last drawing */
    uint32_t cell[VGA_MAX_COLUMNS * VGA_MAX_ROWS]; /* text: what is drawn where */
    uint32_t line[VGA_MAX_WIDTH];
};

/* --- vga.c: for the adapters. Video RAM, option ROM and ports, no PCI function --- */
bool vga_init(struct vga *v, const struct device_host *host, const struct vga_config *config,
              GError **error);
void vga_fini(struct vga *v); /* also after a failed init */
void vga_reset(struct vga *v);
void vga_state(struct vga *v, struct state *s);
void vga_restored(struct vga *v);
extern const struct io_ops vga_registers_ops; /* opaque: the struct vga */

/* --- vga_planar.c: the window at A0000h --- */
extern const struct io_ops vga_window_ops;

/* --- vga_render.c --- */
void vga_refresh(void *opaque);
/* Puts the line buffer on the screen; only what differs is stored and counted as damage. */
void vga_show_line(struct vga *v, uint32_t x, uint32_t y, uint32_t width);
bool vga_range_dirty(const struct vga *v, uint32_t offset, uint32_t len);

/* --- vga_text.c --- */
void vga_draw_text(struct vga *v);

static inline uint32_t vga_start_address(const struct vga *v)
{
    return (uint32_t)v->crtc[0x0c] << 8 | v->crtc[0x0d];
}
/* Scan lines on the screen. */
static inline uint32_t vga_scan_lines(const struct vga *v)
{
    uint8_t o = v->crtc[7];
    return (v->crtc[0x12] | (o & 0x02) << 7 | (o & 0x40) << 3) + 1u;
}
static inline uint32_t vga_line_compare(const struct vga *v)
{
    return v->crtc[0x18] | (v->crtc[7] & 0x10u) << 4 | (v->crtc[9] & 0x40u) << 3;
}
