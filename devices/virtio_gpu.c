/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio GPU's queues and commands (see virtio_gpu.h; sections cited are of Virtio 1.1), and
 * its state.
 *
 * A command is  u32 type, u32 flags (1: fence), u64 fence, u32 context, 4 bytes unused  and what
 * belongs to it; the answer begins alike. Commands are carried out at once, so a fence has only to
 * be repeated. Those of the cursor queue have no answer.
 */
#include <gio/gio.h>
#include <string.h>

#include "edid.h"
#include "virtio_gpu_internal.h"

#define QUEUE_CONTROL 0u
#define QUEUE_CURSOR  1u
#define F_EDID        1u
#define EVENT_DISPLAY 1u
#define FLAG_FENCE    1u

#define HEADER       24u
#define COMMAND      64u /* the longest but for the entries of a backing */
#define SCANOUTS     16u /* that an answer has room for */
#define ANSWER       (HEADER + 8u + 1024u)
#define COMMAND_WORK 4096u       /* that each counts at least */
#define WORK_MAX     (32u << 20) /* in one go, so that the machine lock is free now and then */
#define FIRST_WIDTH  1280u
#define FIRST_HEIGHT 800u

enum command {
    GET_DISPLAY_INFO = 0x0100,
    RESOURCE_CREATE_2D = 0x0101,
    RESOURCE_UNREF = 0x0102,
    SET_SCANOUT = 0x0103,
    RESOURCE_FLUSH = 0x0104,
    TRANSFER_TO_HOST_2D = 0x0105,
    RESOURCE_ATTACH_BACKING = 0x0106,
    RESOURCE_DETACH_BACKING = 0x0107,
    GET_EDID = 0x010a,
    UPDATE_CURSOR = 0x0300,
    MOVE_CURSOR = 0x0301,
};

static uint32_t get32(const uint8_t *p)
{
    uint32_t value;

    memcpy(&value, p, 4);
    return GUINT32_FROM_LE(value);
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void put32(uint8_t *p, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(p, &value, 4);
}

static struct gpu_rect get_rect(const uint8_t *p)
{
    return (struct gpu_rect){get32(p), get32(p + 4), get32(p + 8), get32(p + 12)};
}

/* --- control queue (section 5.7.6.8); `c` is the command, zeroes where it was shorter --- */

/* The answer holds the size that clients wish for. */
static unsigned display_info(const struct virtio_gpu *g, uint8_t *answer, uint32_t *size)
{
    uint8_t *first = answer + HEADER;

    put32(first + 8, g->wish_width);
    put32(first + 12, g->wish_height);
    put32(first + 16, 1); /* enabled */
    *size = HEADER + SCANOUTS * 24;
    return GPU_OK_DISPLAY_INFO;
}

static unsigned edid(const struct virtio_gpu *g, const uint8_t *c, uint8_t *answer, uint32_t *size)
{
    if (get32(c + HEADER)) {
        return GPU_INVALID_SCANOUT;
    }
    /* Of a size that EDID cannot say, the guest learns by GET_DISPLAY_INFO. */
    if (!virtio_has(&g->virtio, F_EDID) ||
        !edid_make(answer + HEADER + 8, g->wish_width, g->wish_height)) {
        return GPU_UNSPECIFIED;
    }
    put32(answer + HEADER, EDID_SIZE);
    *size = ANSWER;
    return GPU_OK_EDID;
}

static unsigned attach_backing(struct virtio_gpu *g, const uint8_t *c)
{
    const struct virtio_chain *chain = &g->chain;
    uint32_t entries = get32(c + HEADER + 4);
    size_t size = (size_t)entries * sizeof(struct gpu_entry);
    struct gpu_entry *entry;

    if (!entries || entries > GPU_ENTRIES_MAX || chain->out_len < HEADER + 8 + size) {
        return GPU_INVALID_PARAMETER;
    }
    entry = g_try_malloc(size);
    if (!entry) {
        return GPU_OUT_OF_MEMORY;
    }
    virtio_copy_out(chain, HEADER + 8, entry, size);
    for (uint32_t i = 0; i < entries; i++) {
        entry[i].address = GUINT64_FROM_LE(entry[i].address);
        entry[i].length = GUINT32_FROM_LE(entry[i].length);
    }
    g->work += size;
    return gpu_attach(g, get32(c + HEADER), entry, entries);
}

static unsigned set_scanout(struct virtio_gpu *g, const uint8_t *c)
{
    struct gpu_rect rect = get_rect(c + HEADER);

    return get32(c + HEADER + 16) ? GPU_INVALID_SCANOUT
                                  : gpu_set_scanout(g, get32(c + HEADER + 20), &rect);
}

static unsigned carry_out(struct virtio_gpu *g, const uint8_t *c, uint8_t *answer, uint32_t *size)
{
    const uint8_t *p = c + HEADER;
    struct gpu_rect rect = get_rect(p);

    switch (get32(c)) {
    case GET_DISPLAY_INFO:
        return display_info(g, answer, size);
    case GET_EDID:
        return edid(g, c, answer, size);
    case RESOURCE_CREATE_2D:
        return gpu_create(g, get32(p), get32(p + 4), get32(p + 8), get32(p + 12));
    case RESOURCE_UNREF:
        return gpu_unref(g, get32(p));
    case SET_SCANOUT:
        return set_scanout(g, c);
    case RESOURCE_FLUSH:
        return gpu_flush(g, get32(p + 16), &rect);
    case TRANSFER_TO_HOST_2D:
        return gpu_transfer(g, get32(p + 24), &rect, get64(p + 16));
    case RESOURCE_ATTACH_BACKING:
        return attach_backing(g, c);
    case RESOURCE_DETACH_BACKING:
        return gpu_detach(g, get32(p));
    default:
        return GPU_UNSPECIFIED;
    }
}

static void control_command(struct virtio_gpu *g)
{
    uint8_t command[COMMAND] = {0}, answer[ANSWER] = {0};
    uint32_t size = HEADER, written;

    virtio_copy_out(&g->chain, 0, command, COMMAND);
    put32(answer, carry_out(g, command, answer, &size));
    if (get32(command + 4) & FLAG_FENCE) {
        put32(answer + 4, FLAG_FENCE);
        memcpy(answer + 8, command + 8, 12); /* fence, context */
    }
    written = (uint32_t)virtio_copy_in(&g->virtio, &g->chain, 0, answer, size);
    virtio_push(&g->virtio, QUEUE_CONTROL, &g->chain, written);
}

/* --- cursor queue (section 5.7.6.10) --- */

static void cursor_command(struct virtio_gpu *g)
{
    uint8_t command[COMMAND] = {0};
    const uint8_t *p = command + HEADER;
    uint32_t type;

    virtio_copy_out(&g->chain, 0, command, COMMAND);
    type = get32(command);
    if (get32(p) == 0 && (type == UPDATE_CURSOR || type == MOVE_CURSOR)) {
        if (type == UPDATE_CURSOR) {
            gpu_set_cursor(g, get32(p + 16), get32(p + 20), get32(p + 24));
        }
        gpu_move_cursor(g, get32(p + 4), get32(p + 8));
    }
    virtio_push(&g->virtio, QUEUE_CURSOR, &g->chain, 0);
}

/* --- queues --- */

/* False: it has become too much for one go. */
static bool queue_serve(struct virtio_gpu *g, unsigned queue)
{
    struct virtio *v = &g->virtio;

    virtio_want_notify(v, queue, false);
    do {
        while (g->work < WORK_MAX && virtio_pop(v, queue, &g->chain)) {
            g->work += COMMAND_WORK;
            if (queue == QUEUE_CONTROL) {
                control_command(g);
            } else {
                cursor_command(g);
            }
        }
        if (g->work < WORK_MAX) {
            virtio_want_notify(v, queue, true);
        }
    } while (g->work < WORK_MAX && !virtio_empty(v, queue));
    virtio_publish(v, queue);
    return g->work < WORK_MAX;
}

static void notify(void *device, unsigned queue)
{
    struct virtio_gpu *g = device;

    if (timer_is_armed(g->timer)) {
        return; /* it comes to that */
    }
    g->work = 0;
    if (!queue_serve(g, queue)) {
        timer_arm(g->timer, clock_now(g->virtio.host->clock));
    }
}

static void timer_fired(void *opaque)
{
    struct virtio_gpu *g = opaque;

    g->work = 0;
    if (!queue_serve(g, QUEUE_CONTROL) || !queue_serve(g, QUEUE_CURSOR)) {
        timer_arm(g->timer, clock_now(g->virtio.host->clock));
    }
}

/* --- for the transport --- */

static void driver_reset(void *device)
{
    struct virtio_gpu *g = device;

    timer_disarm(g->timer);
    g->events = 0;
    gpu_clear(g);
}

static void started(void *device)
{
}

/* events_read, events_clear, num_scanouts, num_capsets (section 5.7.4) */
static uint64_t config_read(void *device, unsigned at, unsigned size)
{
    const struct virtio_gpu *g = device;
    uint8_t bytes[24] = {0};
    uint64_t value = 0;

    put32(bytes, g->events);
    put32(bytes + 8, 1);
    memcpy(&value, bytes + at, MIN(size, sizeof value));
    return value;
}

static void config_write(void *device, unsigned at, uint64_t value, unsigned size)
{
    struct virtio_gpu *g = device;

    if (at == 4) {
        g->events &= ~(uint32_t)value;
    }
}

static uint64_t front_read(void *opaque, uint64_t addr, unsigned size)
{
    return io_ops_read(&vga_registers_ops, &((struct virtio_gpu *)opaque)->vga, addr, size);
}

static void front_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    io_ops_write(&vga_registers_ops, &((struct virtio_gpu *)opaque)->vga, addr, value, size);
}

static const struct io_ops front_ops = {
    .name = "virtio-gpu-vga", .read = front_read, .write = front_write, .max_size = 4};

static const struct virtio_info info = {
    .name = "virtio-gpu",
    .id = 16,
    .class_code = 0x03,
    .queues = 2,
    .queue_size = 256,
    .features = VIRTIO_BIT(F_EDID),
    .config_size = 16,
    .notify = notify,
    .reset = driver_reset,
    .started = started,
    .config_read = config_read,
    .config_write = config_write,
    .front = &front_ops,
    .registers_bar = 2,
    .msix_bar = 4,
};

/* --- for the screen --- */

static void refresh(void *opaque)
{
    struct virtio_gpu *g = opaque;

    if (!g->driven) {
        vga_refresh(&g->vga);
    }
}

static void resize(void *opaque, uint32_t width, uint32_t height)
{
    struct virtio_gpu *g = opaque;

    if (width != g->wish_width || height != g->wish_height) {
        g->wish_width = width;
        g->wish_height = height;
        g->events |= EVENT_DISPLAY;
        virtio_config_changed(&g->virtio);
    }
}

/* --- for the machine --- */

static bool virtio_gpu_init(void *dev, const struct device_host *host, const void *config,
                            GError **error)
{
    struct virtio_gpu *g = dev;
    const struct vga_config *c = config;

    g->screen = c->screen;
    g->wish_width = FIRST_WIDTH;
    g->wish_height = FIRST_HEIGHT;
    g->resources = g_hash_table_new_full(NULL, NULL, NULL, gpu_resource_free);
    g->timer = timer_new(host->clock, timer_fired, g);
    if (!vga_init(&g->vga, host, c, error)) {
        return false;
    }
    g->virtio.pci_info.bar[0] =
        (struct pci_bar_info){PCI_BAR_RAM32, VGA_VRAM_SIZE, .prefetchable = true};
    g->virtio.pci_info.rom_size = g->vga.rom_size;
    g->virtio.pci.rom = g->vga.rom;
    g->virtio.pci.ram[0] = g->vga.vram;
    g->virtio.pci.ram_log_dirty = true;
    if (!virtio_init(&g->virtio, host, &c->pci, &info, g, error)) {
        return false;
    }
    screen_set_refresh(g->screen, refresh, g);
    screen_set_resize(g->screen, resize, g);
    return true;
}

static void virtio_gpu_fini(void *dev)
{
    struct virtio_gpu *g = dev;

    if (g->virtio.pci.info) {
        screen_set_refresh(g->screen, NULL, NULL);
        screen_set_resize(g->screen, NULL, NULL);
        screen_drop_cursor(g->screen);
    }
    virtio_fini(&g->virtio);
    vga_fini(&g->vga);
    timer_free(g->timer);
    g_hash_table_unref(g->resources);
}

static void virtio_gpu_reset(void *dev)
{
    struct virtio_gpu *g = dev;

    vga_reset(&g->vga);
    virtio_reset(&g->virtio);
}

/* --- state --- */

static void entries_state(struct gpu_resource *r, struct state *s)
{
    size_t size = (size_t)r->entries * sizeof(struct gpu_entry);

    state_blob(s, "backing", (uint8_t **)&r->entry, &size, GPU_ENTRIES_MAX * sizeof *r->entry);
    if (size % sizeof *r->entry) {
        state_fail(s, "backing", "has the wrong size");
    }
    r->entries = (uint32_t)(size / sizeof *r->entry);
}

/* Returns the pixels' size. */
static size_t resource_state(struct gpu_resource *r, struct state *s)
{
    size_t size = (size_t)r->width * r->height * 4;

    state_u32(s, "id", &r->id);
    state_u32(s, "format", &r->format);
    state_u32(s, "width", &r->width);
    state_u32(s, "height", &r->height);
    state_blob(s, "pixels", &r->pixels, &size, GPU_MEMORY_MAX);
    entries_state(r, s);
    return size;
}

static void resources_save(struct virtio_gpu *g, struct state *s)
{
    uint32_t count = g_hash_table_size(g->resources), n = 0;
    GHashTableIter iter;
    gpointer resource;

    state_u32(s, "resources", &count);
    g_hash_table_iter_init(&iter, g->resources);
    while (g_hash_table_iter_next(&iter, NULL, &resource)) {
        state_push(s, "resource", n++);
        resource_state(resource, s);
        state_pop(s);
    }
}

static void resources_restore(struct virtio_gpu *g, struct state *s)
{
    uint32_t count = 0;

    g_hash_table_remove_all(g->resources);
    g->memory = 0;
    state_u32(s, "resources", &count);
    for (uint32_t n = 0; n < count && !state_failed(s); n++) {
        struct gpu_resource *r = g_new0(struct gpu_resource, 1);
        state_push(s, "resource", n);
        if (!gpu_adopt(g, r, resource_state(r, s))) {
            state_fail(s, "id", "is of a resource that there cannot be");
            gpu_resource_free(r);
        }
        state_pop(s);
    }
}

static void cursor_state(struct gpu_cursor *c, struct state *s)
{
    size_t size = (size_t)c->width * c->height * 4;
    g_autofree uint8_t *pixels = g_memdup2(c->argb, size);

    state_bool(s, "cursor-defined", &c->defined);
    state_bool(s, "cursor-visible", &c->visible);
    state_u32(s, "cursor-width", &c->width);
    state_u32(s, "cursor-height", &c->height);
    state_u32(s, "cursor-hot-x", &c->hot_x);
    state_u32(s, "cursor-hot-y", &c->hot_y);
    state_u32(s, "cursor-x", &c->x);
    state_u32(s, "cursor-y", &c->y);
    state_blob(s, "cursor-pixels", &pixels, &size, sizeof c->argb);
    if (c->width > SCREEN_CURSOR_MAX || c->height > SCREEN_CURSOR_MAX ||
        size != (size_t)c->width * c->height * 4) {
        state_fail(s, "cursor-pixels", "is of no size that a cursor has");
        c->width = c->height = 0;
    } else if (size && state_restoring(s)) {
        memcpy(c->argb, pixels, size);
    }
}

static void virtio_gpu_state(void *dev, struct state *s)
{
    struct virtio_gpu *g = dev;

    virtio_state(&g->virtio, s);
    vga_state(&g->vga, s);
    if (state_restoring(s)) {
        resources_restore(g, s);
    } else {
        resources_save(g, s);
    }
    state_bool(s, "driven", &g->driven);
    state_u32(s, "scanout", &g->scanout);
    state_u32(s, "shown-x", &g->shown.x);
    state_u32(s, "shown-y", &g->shown.y);
    state_u32(s, "shown-width", &g->shown.width);
    state_u32(s, "shown-height", &g->shown.height);
    cursor_state(&g->cursor, s);
    state_u32(s, "wish-width", &g->wish_width);
    state_u32(s, "wish-height", &g->wish_height);
    state_u32(s, "events", &g->events);
}

static bool virtio_gpu_restored(void *dev, GError **error)
{
    struct virtio_gpu *g = dev;

    vga_restored(&g->vga);
    if (!gpu_show(g)) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "The saved state of virtio-gpu cannot be used: its picture or cursor "
                            "cannot be shown.");
        return false;
    }
    if (!virtio_restored(&g->virtio, error)) {
        return false;
    }
    timer_arm(g->timer, clock_now(g->virtio.host->clock)); /* perhaps it was armed */
    return true;
}

const struct device_class virtio_gpu_device = {
    .name = "virtio-gpu",
    .size = sizeof(struct virtio_gpu),
    .version = 1,
    .init = virtio_gpu_init,
    .fini = virtio_gpu_fini,
    .reset = virtio_gpu_reset,
    .state = virtio_gpu_state,
    .restored = virtio_gpu_restored,
};
