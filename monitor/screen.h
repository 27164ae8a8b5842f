/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One guest display output as clients see it: 32-bit pixels in a memfd that is new for each mode, damage since the last
 * frame, and the guest's cursor. The video device draws; the control server shows. Machine lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct screen;

struct screen_rect {
    uint32_t x, y, width, height;
};

struct screen *screen_new(void);
void screen_free(struct screen *screen);

/* Video device side. A change of size makes a new memfd (all black) and bumps the mode number. Sizes
 * over 8192x8192 are refused (false), as is a host without memory. */
bool screen_set_mode(struct screen *screen, uint32_t width, uint32_t height);
uint32_t *screen_pixels(struct screen *screen); /* XRGB8888, rows of screen_stride() bytes */
void screen_damage(struct screen *screen, uint32_t x, uint32_t y, uint32_t width, uint32_t height);
/* The device's refresh: brings pixels up to date with video memory; called by whoever wants a frame. */
void screen_set_refresh(struct screen *screen, void (*refresh)(void *opaque), void *opaque);

/* A cursor plane: an image that clients show over the pixels, at a place of its own. There is none
 * until the first screen_set_cursor(), and none after screen_drop_cursor(). */
#define SCREEN_CURSOR_MAX 256u
struct screen_cursor {
    uint32_t image; /* number, changes with each image and when there is none any more */
    uint32_t width, height, hot_x, hot_y;
    const uint32_t *argb; /* premultiplied ARGB8888, without gaps between rows; NULL: no plane */
    int32_t x, y;         /* of the image's top left corner */
    bool visible;
};
/* The pixels are copied. Sizes of 0 or over SCREEN_CURSOR_MAX are refused (false), as is a host
 * without memory. The hot spot is brought into the image. */
bool screen_set_cursor(struct screen *screen, uint32_t width, uint32_t height, uint32_t hot_x,
                       uint32_t hot_y, const uint32_t *argb);
void screen_move_cursor(struct screen *screen, int32_t x, int32_t y, bool visible);
void screen_drop_cursor(struct screen *screen);
/* The device can ask its guest for another size, within screen_set_mode()'s limits. */
void screen_set_resize(struct screen *screen,
                       void (*resize)(void *opaque, uint32_t width, uint32_t height), void *opaque);

/* Client side. */
const struct screen_cursor *screen_cursor(const struct screen *screen);
bool screen_can_resize(const struct screen *screen);
/* The guest may ignore it. False: the device cannot ask, or there are no such sizes. */
bool screen_resize(struct screen *screen, uint32_t width, uint32_t height);
void screen_refresh(struct screen *screen);
uint32_t screen_width(const struct screen *screen);
uint32_t screen_height(const struct screen *screen);
uint32_t screen_stride(const struct screen *screen);
uint32_t screen_mode(const struct screen *screen); /* number, changes with each set_mode */
int screen_fd(const struct screen *screen);        /* the memfd; stays the screen's */
/* Takes the damage collected since the last call (clipped bounding box). False: none. */
bool screen_take_damage(struct screen *screen, struct screen_rect *rect);
