/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between virtio_gpu.c (transport, commands, state) and virtio_gpu_2d.c (resources, the picture,
 * the cursor).
 */
#pragma once

#include "vga_internal.h"
#include "virtio.h"
#include "virtio_gpu.h"

#define GPU_MEMORY_MAX  (256u << 20) /* of the host, for all resources with what belongs to them */
#define GPU_RESOURCE    (16u << 10)  /* that each counts beside its pixels */
#define GPU_SIDE_MAX    16384u
#define GPU_ENTRIES_MAX 16384u

enum gpu_response {
    GPU_OK = 0x1100,
    GPU_OK_DISPLAY_INFO = 0x1101,
    GPU_OK_EDID = 0x1104,
    GPU_UNSPECIFIED = 0x1200,
    GPU_OUT_OF_MEMORY = 0x1201,
    GPU_INVALID_SCANOUT = 0x1202,
    GPU_INVALID_RESOURCE = 0x1203,
    GPU_INVALID_PARAMETER = 0x1205,
};

struct gpu_rect {
    uint32_t x, y, width, height;
};

/* A piece of a resource's backing in guest memory. */
struct gpu_entry {
    uint64_t address;
    uint32_t length, unused;
};

struct gpu_resource {
    uint32_t id, format, width, height;
    uint8_t *pixels; /* as the guest has them, 4 bytes each, without gaps */
    struct gpu_entry *entry;
    uint32_t entries;
};

struct gpu_cursor {
    bool defined; /* since the driver is there */
    bool visible;
    uint32_t width, height, hot_x, hot_y, x, y;
    uint32_t argb[SCREEN_CURSOR_MAX * SCREEN_CURSOR_MAX];
};

struct virtio_gpu {
    struct virtio virtio;
    struct vga vga;
    struct screen *screen;
    GHashTable *resources; /* struct gpu_resource by id */
    uint64_t memory;       /* that resources take, at most GPU_MEMORY_MAX */
    bool driven;           /* the picture is the driver's, not VGA's */
    uint32_t scanout;      /* the resource that is shown, 0: black */
    struct gpu_rect shown; /* its part */
    struct gpu_cursor cursor;
    uint32_t wish_width, wish_height; /* of the clients */
    uint32_t events;
    uint64_t work; /* bytes moved since the lock was free */
    struct timer *timer;
    struct virtio_chain chain; /* not state */
    uint32_t line[GPU_SIDE_MAX];
};

/* --- virtio_gpu_2d.c; each returns an enum gpu_response --- */
unsigned gpu_create(struct virtio_gpu *g, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height);
unsigned gpu_unref(struct virtio_gpu *g, uint32_t id);
/* Takes the entries, whatever it returns. */
unsigned gpu_attach(struct virtio_gpu *g, uint32_t id, struct gpu_entry *entry, uint32_t entries);
unsigned gpu_detach(struct virtio_gpu *g, uint32_t id);
unsigned gpu_transfer(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect,
                      uint64_t offset);
unsigned gpu_set_scanout(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect);
unsigned gpu_flush(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect);
/* id 0: no cursor. */
unsigned gpu_set_cursor(struct virtio_gpu *g, uint32_t id, uint32_t hot_x, uint32_t hot_y);
void gpu_move_cursor(struct virtio_gpu *g, uint32_t x, uint32_t y);

void gpu_clear(struct virtio_gpu *g); /* no resources, no cursor; the picture is VGA's */
/* A saved resource, checked and taken in. False: there cannot be such a one. */
bool gpu_adopt(struct virtio_gpu *g, struct gpu_resource *resource, size_t bytes);
void gpu_resource_free(gpointer resource);
/* After restoring: draws and shows all. False: the state is none that there can be. */
bool gpu_show(struct virtio_gpu *g);
