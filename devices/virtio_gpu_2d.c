/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio GPU's resources, the picture made of one of them, and the cursor.
 *
 * Pixels are copied twice: from guest memory into the resource when the guest says so (transfer),
 * and from there on to the screen (flush), where only what differs is stored and counts as damage.
 */
#include "dma.h"
#include "virtio_gpu_internal.h"

/* --- pixels --- */

/* Formats by their bytes in memory (section 5.7.6.8): what to shift a little-endian word by, for
 * each of A (or X), R, G and B. */
static const struct gpu_format {
    uint8_t id, alpha, red, green, blue;
} formats[] = {
    {1, 24, 16, 8, 0},   /* B8G8R8A8 */
    {2, 24, 16, 8, 0},   /* B8G8R8X8 */
    {3, 0, 8, 16, 24},   /* A8R8G8B8 */
    {4, 0, 8, 16, 24},   /* X8R8G8B8 */
    {67, 24, 0, 8, 16},  /* R8G8B8A8 */
    {68, 0, 24, 16, 8},  /* X8B8G8R8 */
    {121, 0, 24, 16, 8}, /* A8B8G8R8 */
    {134, 24, 0, 8, 16}, /* R8G8B8X8 */
};

static const struct gpu_format *format_find(uint32_t id)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (formats[i].id == id) {
            return &formats[i];
        }
    }
    return NULL;
}

static uint32_t pixel_load(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, 4);
    return GUINT32_FROM_LE(value);
}

static void line_convert(uint32_t *to, const uint8_t *from, uint32_t count,
                         const struct gpu_format *f)
{
    if (f->red == 16) {
        for (uint32_t i = 0; i < count; i++) {
            to[i] = pixel_load(from + 4 * i) & 0xffffff;
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t p = pixel_load(from + 4 * i);
        to[i] = (p >> f->red & 0xff) << 16 | (p >> f->green & 0xff) << 8 | (p >> f->blue & 0xff);
    }
}

/*
 * Of a cursor; X is alpha, too: Linux makes all its pictures without alpha, and those of cursors
 * have it all the same. Premultiplied, whatever the guest says: no colour exceeds its alpha.
 */
static uint32_t pixel_argb(const uint8_t *at, const struct gpu_format *f)
{
    uint32_t p = pixel_load(at), a = p >> f->alpha & 0xff;
    uint32_t r = p >> f->red & 0xff, g = p >> f->green & 0xff, b = p >> f->blue & 0xff;

    return a << 24 | MIN(r, a) << 16 | MIN(g, a) << 8 | MIN(b, a);
}

/* --- resources --- */

static struct gpu_resource *resource_find(struct virtio_gpu *g, uint32_t id)
{
    return g_hash_table_lookup(g->resources, GUINT_TO_POINTER(id));
}

static uint64_t resource_bytes(const struct gpu_resource *r)
{
    return (uint64_t)r->width * r->height * 4;
}

static uint64_t entries_bytes(uint32_t entries)
{
    return (uint64_t)entries * sizeof(struct gpu_entry);
}

static bool resource_valid(const struct gpu_resource *r)
{
    return r->id && r->width && r->height && r->width <= GPU_SIDE_MAX &&
           r->height <= GPU_SIDE_MAX && format_find(r->format);
}

static bool memory_take(struct virtio_gpu *g, uint64_t bytes)
{
    if (bytes > GPU_MEMORY_MAX - g->memory) {
        device_log_once("virtio-gpu", 0, "the guest wants more than %u MiB for its pictures",
                        GPU_MEMORY_MAX >> 20);
        return false;
    }
    g->memory += bytes;
    return true;
}

void gpu_resource_free(gpointer resource)
{
    struct gpu_resource *r = resource;

    g_free(r->pixels);
    g_free(r->entry);
    g_free(r);
}

static void resource_insert(struct virtio_gpu *g, struct gpu_resource *r)
{
    g_hash_table_insert(g->resources, GUINT_TO_POINTER(r->id), r);
}

unsigned gpu_create(struct virtio_gpu *g, uint32_t id, uint32_t format, uint32_t width,
                    uint32_t height)
{
    struct gpu_resource r = {.id = id, .format = format, .width = width, .height = height};

    if (!id || resource_find(g, id)) {
        return GPU_INVALID_RESOURCE;
    }
    if (!resource_valid(&r)) {
        return GPU_INVALID_PARAMETER;
    }
    if (!memory_take(g, resource_bytes(&r) + GPU_RESOURCE)) {
        return GPU_OUT_OF_MEMORY;
    }
    r.pixels = g_try_malloc0(resource_bytes(&r));
    if (!r.pixels) {
        g->memory -= resource_bytes(&r) + GPU_RESOURCE;
        return GPU_OUT_OF_MEMORY;
    }
    resource_insert(g, g_memdup2(&r, sizeof r));
    return GPU_OK;
}

bool gpu_adopt(struct virtio_gpu *g, struct gpu_resource *r, size_t bytes)
{
    if (!resource_valid(r) || resource_find(g, r->id) || bytes != resource_bytes(r) ||
        r->entries > GPU_ENTRIES_MAX ||
        !memory_take(g, bytes + GPU_RESOURCE + entries_bytes(r->entries))) {
        return false;
    }
    resource_insert(g, r);
    return true;
}

static void backing_drop(struct virtio_gpu *g, struct gpu_resource *r)
{
    g->memory -= entries_bytes(r->entries);
    g_clear_pointer(&r->entry, g_free);
    r->entries = 0;
}

/* Black, in the size that it has; without a picture of the driver's, VGA's stays. */
static void picture_off(struct virtio_gpu *g)
{
    uint32_t width = screen_width(g->screen), height = screen_height(g->screen);

    g->scanout = 0;
    if (g->driven) {
        memset(screen_pixels(g->screen), 0, (size_t)screen_stride(g->screen) * height);
        screen_damage(g->screen, 0, 0, width, height);
    }
}

unsigned gpu_unref(struct virtio_gpu *g, uint32_t id)
{
    struct gpu_resource *r = resource_find(g, id);

    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (g->scanout == id) {
        picture_off(g);
    }
    backing_drop(g, r);
    g->memory -= resource_bytes(r) + GPU_RESOURCE;
    g_hash_table_remove(g->resources, GUINT_TO_POINTER(id));
    return GPU_OK;
}

unsigned gpu_attach(struct virtio_gpu *g, uint32_t id, struct gpu_entry *entry, uint32_t entries)
{
    g_autofree struct gpu_entry *owned = entry;
    struct gpu_resource *r = resource_find(g, id);

    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (r->entry) {
        return GPU_UNSPECIFIED;
    }
    if (!memory_take(g, entries_bytes(entries))) {
        return GPU_OUT_OF_MEMORY;
    }
    r->entry = g_steal_pointer(&owned);
    r->entries = entries;
    return GPU_OK;
}

unsigned gpu_detach(struct virtio_gpu *g, uint32_t id)
{
    struct gpu_resource *r = resource_find(g, id);

    if (!r || !r->entry) {
        return r ? GPU_UNSPECIFIED : GPU_INVALID_RESOURCE;
    }
    backing_drop(g, r);
    return GPU_OK;
}

/* --- transfer --- */

static bool rect_inside(const struct gpu_rect *r, uint32_t width, uint32_t height)
{
    return r->width && r->height && r->x < width && r->y < height && r->width <= width - r->x &&
           r->height <= height - r->y;
}

/* Where in the backing a copy has got to: it only ever goes forward. */
struct place {
    uint32_t entry;
    uint64_t start; /* of that entry */
};

static bool backing_read(struct virtio_gpu *g, const struct gpu_resource *r, struct place *at,
                         uint64_t offset, uint8_t *to, size_t len)
{
    while (len) {
        size_t piece;
        while (at->entry < r->entries && offset - at->start >= r->entry[at->entry].length) {
            at->start += r->entry[at->entry++].length;
        }
        if (at->entry == r->entries) {
            return false;
        }
        const struct gpu_entry *e = &r->entry[at->entry];
        piece = MIN(len, at->start + e->length - offset);
        if (!dma_read(g->virtio.host->memory, e->address + (offset - at->start), to, piece)) {
            return false;
        }
        to += piece;
        offset += piece;
        len -= piece;
    }
    return true;
}

unsigned gpu_transfer(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect,
                      uint64_t offset)
{
    struct gpu_resource *r = resource_find(g, id);
    struct place at = {0};

    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (!rect_inside(rect, r->width, r->height) || offset >= 1ull << 40) {
        return GPU_INVALID_PARAMETER;
    }
    g->work += (uint64_t)rect->width * rect->height * 4;
    for (uint32_t y = 0; y < rect->height; y++) {
        size_t pitch = 4 * (size_t)r->width;
        uint8_t *to = r->pixels + (rect->y + y) * pitch + 4 * (size_t)rect->x;
        if (!backing_read(g, r, &at, offset + y * pitch, to, 4 * (size_t)rect->width)) {
            return GPU_UNSPECIFIED;
        }
    }
    return GPU_OK;
}

/* --- the picture --- */

/* Puts the line buffer on the screen; only what differs is stored and counted as damage. */
static void line_show(struct virtio_gpu *g, uint32_t x, uint32_t y, uint32_t width)
{
    uint32_t *row = screen_pixels(g->screen) + (size_t)y * (screen_stride(g->screen) / 4) + x;
    uint32_t first = 0, last = width;

    while (first < width && row[first] == g->line[first]) {
        first++;
    }
    if (first == width) {
        return;
    }
    while (row[last - 1] == g->line[last - 1]) {
        last--;
    }
    memcpy(row + first, g->line + first, (last - first) * 4);
    screen_damage(g->screen, x + first, y, last - first, 1);
}

/* `rect` is a part of the resource, and goes where the part that is shown has it. */
static void picture_draw(struct virtio_gpu *g, const struct gpu_resource *r,
                         const struct gpu_rect *rect)
{
    const struct gpu_format *format = format_find(r->format);
    uint32_t x0 = MAX(rect->x, g->shown.x), y0 = MAX(rect->y, g->shown.y);
    uint32_t x1 = MIN(rect->x + rect->width, g->shown.x + g->shown.width);
    uint32_t y1 = MIN(rect->y + rect->height, g->shown.y + g->shown.height);

    for (uint32_t y = y0; x0 < x1 && y < y1; y++) {
        line_convert(g->line, r->pixels + ((size_t)y * r->width + x0) * 4, x1 - x0, format);
        line_show(g, x0 - g->shown.x, y - g->shown.y, x1 - x0);
    }
    g->work += (uint64_t)rect->width * rect->height * 4;
}

unsigned gpu_set_scanout(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect)
{
    struct gpu_resource *r = resource_find(g, id);

    if (!id) {
        picture_off(g);
        return GPU_OK;
    }
    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (!rect_inside(rect, r->width, r->height) ||
        !screen_set_mode(g->screen, rect->width, rect->height)) {
        return GPU_INVALID_PARAMETER;
    }
    g->driven = true;
    g->scanout = id;
    g->shown = *rect;
    picture_draw(g, r, rect);
    return GPU_OK;
}

unsigned gpu_flush(struct virtio_gpu *g, uint32_t id, const struct gpu_rect *rect)
{
    struct gpu_resource *r = resource_find(g, id);

    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (!rect_inside(rect, r->width, r->height)) {
        return GPU_INVALID_PARAMETER;
    }
    if (g->scanout == id) {
        picture_draw(g, r, rect);
    }
    return GPU_OK;
}

/* --- the cursor --- */

static void cursor_place(struct virtio_gpu *g)
{
    struct gpu_cursor *c = &g->cursor;

    if (c->defined) {
        screen_move_cursor(g->screen, (int32_t)c->x, (int32_t)c->y, c->visible);
    }
}

unsigned gpu_set_cursor(struct virtio_gpu *g, uint32_t id, uint32_t hot_x, uint32_t hot_y)
{
    struct gpu_resource *r = resource_find(g, id);
    struct gpu_cursor *c = &g->cursor;

    if (!id) {
        c->visible = false;
        cursor_place(g);
        return GPU_OK;
    }
    if (!r) {
        return GPU_INVALID_RESOURCE;
    }
    if (r->width > SCREEN_CURSOR_MAX || r->height > SCREEN_CURSOR_MAX) {
        return GPU_INVALID_PARAMETER;
    }
    for (uint32_t i = 0; i < r->width * r->height; i++) {
        c->argb[i] = pixel_argb(r->pixels + 4 * i, format_find(r->format));
    }
    c->width = r->width;
    c->height = r->height;
    c->hot_x = MIN(hot_x, c->width - 1);
    c->hot_y = MIN(hot_y, c->height - 1);
    c->defined = c->visible = true;
    screen_set_cursor(g->screen, c->width, c->height, c->hot_x, c->hot_y, c->argb);
    cursor_place(g);
    return GPU_OK;
}

void gpu_move_cursor(struct virtio_gpu *g, uint32_t x, uint32_t y)
{
    g->cursor.x = x;
    g->cursor.y = y;
    cursor_place(g);
}

/* --- all of it --- */

void gpu_clear(struct virtio_gpu *g)
{
    g_hash_table_remove_all(g->resources);
    g->memory = 0;
    g->driven = false;
    g->scanout = 0;
    g->shown = (struct gpu_rect){0};
    g->cursor.defined = g->cursor.visible = false;
    g->cursor.x = g->cursor.y = 0;
    g->vga.redraw = true;
    screen_drop_cursor(g->screen);
}

bool gpu_show(struct virtio_gpu *g)
{
    struct gpu_resource *r = resource_find(g, g->scanout);
    struct gpu_cursor *c = &g->cursor;

    if (c->defined &&
        !screen_set_cursor(g->screen, c->width, c->height, c->hot_x, c->hot_y, c->argb)) {
        return false;
    }
    cursor_place(g);
    if (!g->driven) {
        return !g->scanout;
    }
    if (!screen_set_mode(g->screen, g->shown.width, g->shown.height)) {
        return false;
    }
    if (!g->scanout) {
        picture_off(g);
        return true;
    }
    if (!r || !rect_inside(&g->shown, r->width, r->height)) {
        return false;
    }
    picture_draw(g, r, &g->shown);
    return true;
}
