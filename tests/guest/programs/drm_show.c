/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In a guest: a picture and a cursor on the first screen by the kernel's mode-setting calls, in
 * the mode that the screen prefers, and in its new one when the kernel says that it has changed,
 * as a desktop does. Says what it does, a line each: SHOWN WxH, CURSOR, FAILED what.
 *
 * drm_show [cursor [move]]: a cursor with hot spot (7, 11) at (100, 60); two seconds later at (140,
 * 84).
 */
#include <drm.h>
#include <drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CURSOR 64u
#define TILE   16u

struct picture {
    uint32_t width, height, stride, handle;
    uint32_t *pixels;
};

static int card;
static uint32_t crtc, connector, framebuffer, handle;

static void call(unsigned long request, void *argument, const char *what)
{
    if (ioctl(card, request, argument) < 0) {
        printf("FAILED %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static struct picture picture_new(uint32_t width, uint32_t height)
{
    struct drm_mode_create_dumb create = {.width = width, .height = height, .bpp = 32};
    struct drm_mode_map_dumb map = {0};

    call(DRM_IOCTL_MODE_CREATE_DUMB, &create, "CREATE_DUMB");
    map.handle = create.handle;
    call(DRM_IOCTL_MODE_MAP_DUMB, &map, "MAP_DUMB");
    void *pixels =
        mmap(NULL, create.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
    if (pixels == MAP_FAILED) {
        printf("FAILED mmap: %s\n", strerror(errno));
        exit(1);
    }
    return (struct picture){width, height, create.pitch, create.handle, pixels};
}

/* The first mode is the preferred one. */
static struct drm_mode_modeinfo look(void)
{
    static struct drm_mode_modeinfo modes[256];
    struct drm_mode_get_connector c = {.connector_id = connector};

    call(DRM_IOCTL_MODE_GETCONNECTOR, &c, "GETCONNECTOR"); /* has it looked at again */
    struct drm_mode_get_connector filled = {
        .connector_id = connector, .count_modes = c.count_modes < 256 ? c.count_modes : 256};
    filled.modes_ptr = (uintptr_t)modes;
    call(DRM_IOCTL_MODE_GETCONNECTOR, &filled, "GETCONNECTOR");
    if (!filled.count_modes) {
        printf("FAILED there is no mode\n");
        exit(1);
    }
    return modes[0];
}

/* Tiles like the stand-in's of the front end's tests. */
static void paint(const struct picture *p)
{
    for (uint32_t y = 0; y < p->height; y++) {
        for (uint32_t x = 0; x < p->width; x++) {
            p->pixels[y * p->stride / 4 + x] = (x / TILE + y / TILE) % 2 ? 0xc04020 : 0x2040c0;
        }
    }
}

static void show(const struct drm_mode_modeinfo *mode)
{
    struct picture p = picture_new(mode->hdisplay, mode->vdisplay);
    struct drm_mode_fb_cmd fb = {.width = p.width,
                                 .height = p.height,
                                 .pitch = p.stride,
                                 .bpp = 32,
                                 .depth = 24,
                                 .handle = p.handle};
    struct drm_mode_crtc set = {.set_connectors_ptr = (uintptr_t)&connector,
                                .count_connectors = 1,
                                .crtc_id = crtc,
                                .mode_valid = 1,
                                .mode = *mode};
    struct drm_mode_destroy_dumb old = {.handle = handle};
    uint32_t old_fb = framebuffer;

    paint(&p);
    munmap(p.pixels, (size_t)p.stride * p.height);
    call(DRM_IOCTL_MODE_ADDFB, &fb, "ADDFB");
    set.fb_id = fb.fb_id;
    call(DRM_IOCTL_MODE_SETCRTC, &set, "SETCRTC");
    if (old_fb) {
        call(DRM_IOCTL_MODE_RMFB, &old_fb, "RMFB");
        call(DRM_IOCTL_MODE_DESTROY_DUMB, &old, "DESTROY_DUMB");
    }
    framebuffer = fb.fb_id;
    handle = p.handle;
    printf("SHOWN %ux%u\n", p.width, p.height);
}

/* Upper half opaque orange, lower half half transparent white, premultiplied. */
static void show_cursor(void)
{
    struct picture p = picture_new(CURSOR, CURSOR);
    struct drm_mode_cursor2 image = {.flags = DRM_MODE_CURSOR_BO,
                                     .crtc_id = crtc,
                                     .width = CURSOR,
                                     .height = CURSOR,
                                     .handle = p.handle,
                                     .hot_x = 7,
                                     .hot_y = 11};
    struct drm_mode_cursor2 move = {
        .flags = DRM_MODE_CURSOR_MOVE, .crtc_id = crtc, .x = 100, .y = 60};

    for (uint32_t i = 0; i < CURSOR * CURSOR; i++) {
        p.pixels[i] = i < CURSOR * CURSOR / 2 ? 0xffff8000 : 0x80808080;
    }
    call(DRM_IOCTL_MODE_CURSOR2, &image, "CURSOR2");
    call(DRM_IOCTL_MODE_CURSOR2, &move, "CURSOR2");
    printf("CURSOR\n");
}

static void move_on(void)
{
    struct drm_mode_cursor2 move = {
        .flags = DRM_MODE_CURSOR_MOVE, .crtc_id = crtc, .x = 140, .y = 84};

    sleep(2);
    call(DRM_IOCTL_MODE_CURSOR2, &move, "CURSOR2");
    printf("MOVED\n");
}

static void find_screen(void)
{
    uint32_t crtcs[16], connectors[16];
    struct drm_mode_card_res r = {.count_crtcs = 16,
                                  .count_connectors = 16,
                                  .crtc_id_ptr = (uintptr_t)crtcs,
                                  .connector_id_ptr = (uintptr_t)connectors};

    call(DRM_IOCTL_MODE_GETRESOURCES, &r, "GETRESOURCES");
    crtc = crtcs[0];
    connector = connectors[0];
}

/* Until the kernel says that a screen has changed. */
static void wait_hotplug(int events)
{
    char message[4096];
    ssize_t size;

    do {
        size = recv(events, message, sizeof message - 1, 0);
        message[size > 0 ? size : 0] = '\0';
    } while (size > 0 && !memmem(message, (size_t)size, "HOTPLUG=1", 9));
}

int main(int argc, char **argv)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int events = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);

    setvbuf(stdout, NULL, _IOLBF, 0);
    card = open("/dev/dri/card0", O_RDWR);
    if (card < 0 || bind(events, (struct sockaddr *)&address, sizeof address) < 0) {
        printf("FAILED open: %s\n", strerror(errno));
        return 1;
    }
    find_screen();
    struct drm_mode_modeinfo mode = look();
    show(&mode);
    if (argc > 1) {
        show_cursor();
    }
    if (argc > 2) {
        move_on();
    }
    for (;;) {
        wait_hotplug(events);
        mode = look();
        show(&mode);
    }
}
