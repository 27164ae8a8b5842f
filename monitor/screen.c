/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest display output: pixels in a memfd, damage, mode number (see screen.h). */
#include "screen.h"

#include <glib.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SCREEN_MAX 8192u

struct screen {
    uint32_t width, height, mode;
    int fd;
    uint32_t *pixels;
    size_t size;
    bool damaged;
    uint32_t x0, y0, x1, y1; /* damage, half open */
    void (*refresh)(void *opaque);
    void *opaque;
    struct screen_cursor cursor;
    uint32_t *cursor_pixels;
    void (*resize)(void *opaque, uint32_t width, uint32_t height);
    void *resize_opaque;
};

struct screen *screen_new(void)
{
    struct screen *screen = g_new0(struct screen, 1);
    screen->fd = -1;
    return screen;
}

static void screen_drop(struct screen *screen)
{
    if (screen->pixels) {
        munmap(screen->pixels, screen->size);
        close(screen->fd);
    }
    screen->pixels = NULL;
    screen->fd = -1;
    screen->width = screen->height = 0;
}

void screen_free(struct screen *screen)
{
    if (screen) {
        screen_drop(screen);
        g_free(screen->cursor_pixels);
        g_free(screen);
    }
}

static bool size_valid(uint32_t width, uint32_t height, uint32_t most)
{
    return width && height && width <= most && height <= most;
}

bool screen_set_mode(struct screen *screen, uint32_t width, uint32_t height)
{
    if (!size_valid(width, height, SCREEN_MAX)) {
        return false;
    }
    if (screen->pixels && width == screen->width && height == screen->height) {
        return true;
    }
    size_t size = (size_t)width * 4 * height;
    int fd = memfd_create("ringside-screen", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        goto fail;
    }
    void *pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (pixels == MAP_FAILED) {
        goto fail;
    }
    screen_drop(screen);
    screen->fd = fd;
    screen->pixels = pixels;
    screen->size = size;
    screen->width = width;
    screen->height = height;
    screen->mode++;
    screen->damaged = false;
    screen_damage(screen, 0, 0, width, height);
    return true;
fail:
    if (fd >= 0) {
        close(fd);
    }
    return false;
}

uint32_t *screen_pixels(struct screen *screen)
{
    return screen->pixels;
}

void screen_damage(struct screen *screen, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
    if (x >= screen->width || y >= screen->height || !width || !height) {
        return;
    }
    uint32_t x1 = x + MIN(width, screen->width - x), y1 = y + MIN(height, screen->height - y);
    screen->x0 = screen->damaged ? MIN(screen->x0, x) : x;
    screen->y0 = screen->damaged ? MIN(screen->y0, y) : y;
    screen->x1 = screen->damaged ? MAX(screen->x1, x1) : x1;
    screen->y1 = screen->damaged ? MAX(screen->y1, y1) : y1;
    screen->damaged = true;
}

void screen_set_refresh(struct screen *screen, void (*refresh)(void *opaque), void *opaque)
{
    screen->refresh = refresh;
    screen->opaque = opaque;
}

void screen_refresh(struct screen *screen)
{
    if (screen->refresh) {
        screen->refresh(screen->opaque);
    }
}

uint32_t screen_width(const struct screen *screen)
{
    return screen->width;
}

uint32_t screen_height(const struct screen *screen)
{
    return screen->height;
}

uint32_t screen_stride(const struct screen *screen)
{
    return screen->width * 4;
}

uint32_t screen_mode(const struct screen *screen)
{
    return screen->mode;
}

int screen_fd(const struct screen *screen)
{
    return screen->fd;
}

bool screen_take_damage(struct screen *screen, struct screen_rect *rect)
{
    if (!screen->damaged) {
        return false;
    }
    *rect = (struct screen_rect){screen->x0, screen->y0, screen->x1 - screen->x0,
                                 screen->y1 - screen->y0};
    screen->damaged = false;
    return true;
}

bool screen_set_cursor(struct screen *screen, uint32_t width, uint32_t height, uint32_t hot_x,
                       uint32_t hot_y, const uint32_t *argb)
{
    struct screen_cursor *c = &screen->cursor;
    size_t size = (size_t)width * height * 4;
    uint32_t *pixels = size_valid(width, height, SCREEN_CURSOR_MAX) ? g_try_malloc(size) : NULL;

    if (!pixels) {
        return false;
    }
    memcpy(pixels, argb, size);
    g_free(screen->cursor_pixels);
    c->argb = screen->cursor_pixels = pixels;
    c->width = width;
    c->height = height;
    c->hot_x = MIN(hot_x, width - 1);
    c->hot_y = MIN(hot_y, height - 1);
    c->image++;
    return true;
}

void screen_move_cursor(struct screen *screen, int32_t x, int32_t y, bool visible)
{
    screen->cursor.x = x;
    screen->cursor.y = y;
    screen->cursor.visible = visible;
}

void screen_drop_cursor(struct screen *screen)
{
    if (screen->cursor_pixels) {
        g_clear_pointer(&screen->cursor_pixels, g_free);
        screen->cursor = (struct screen_cursor){.image = screen->cursor.image + 1};
    }
}

const struct screen_cursor *screen_cursor(const struct screen *screen)
{
    return &screen->cursor;
}

void screen_set_resize(struct screen *screen,
                       void (*resize)(void *opaque, uint32_t width, uint32_t height), void *opaque)
{
    screen->resize = resize;
    screen->resize_opaque = opaque;
}

bool screen_can_resize(const struct screen *screen)
{
    return screen->resize != NULL;
}

bool screen_resize(struct screen *screen, uint32_t width, uint32_t height)
{
    if (!screen->resize || !size_valid(width, height, SCREEN_MAX)) {
        return false;
    }
    screen->resize(screen->resize_opaque, width, height);
    return true;
}
