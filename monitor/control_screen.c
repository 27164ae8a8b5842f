/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Screen interface. While somebody is attached and the guest runs, a timer brings the pixels up
 * to date just under 60 times a second and passes on what changed. A client that does not keep up
 * gets one signal for all that changed meanwhile: nothing is sent until it has taken the last one.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <unistd.h>

#include "control_internal.h"
#include "lock.h"

#define FRAME_MS 17

static void rect_join(struct screen_rect *to, const struct screen_rect *with)
{
    uint32_t x1 = MAX(to->x + to->width, with->x + with->width);
    uint32_t y1 = MAX(to->y + to->height, with->y + with->height);

    to->x = MIN(to->x, with->x);
    to->y = MIN(to->y, with->y);
    to->width = x1 - to->x;
    to->height = y1 - to->y;
}

static void client_send(struct client *client);

static void client_sent(GObject *source, GAsyncResult *result, gpointer opaque)
{
    g_autoptr(GObject) machine = opaque; /* may have outlived the server */
    struct control *control = g_object_get_data(machine, CONTROL_DATA);

    g_dbus_connection_flush_finish(G_DBUS_CONNECTION(source), result, NULL);
    for (unsigned i = 0; control && i < control->clients->len; i++) {
        struct client *client = control->clients->pdata[i];
        if (client->connection == (GDBusConnection *)source) {
            client->flushing = false;
            client_send(client);
        }
    }
}

/* These two return whether there was something to tell. */
static bool picture_send(struct client *client)
{
    uint32_t mode = screen_mode(client->control->screen);

    if (client->mode != mode) {
        if (client->mode_told) {
            return false;
        }
        client->mode_told = true;
        rs_monitor_screen_emit_mode_changed(client->screen, mode,
                                            screen_width(client->control->screen),
                                            screen_height(client->control->screen));
    } else if (client->pending) {
        const struct screen_rect *r = &client->damage;
        rs_monitor_screen_emit_damage(client->screen, mode, r->x, r->y, r->width, r->height);
    } else {
        return false;
    }
    client->pending = false;
    return true;
}

static bool cursor_send(struct client *client)
{
    const struct screen_cursor *c = &client->control->cursor;
    GVariant *pixels = client->control->cursor_pixels;
    uint32_t image = pixels ? c->image : 0;
    bool changed = client->cursor_image != image;

    if (changed) {
        client->cursor_image = image;
        rs_monitor_screen_emit_cursor(
            client->screen, c->width, c->height, c->hot_x, c->hot_y,
            pixels ? pixels : g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 0, 1));
    }
    if (pixels && (!client->cursor_placed || client->cursor_x != c->x || client->cursor_y != c->y ||
                   client->cursor_visible != c->visible)) {
        client->cursor_placed = true;
        client->cursor_x = c->x;
        client->cursor_y = c->y;
        client->cursor_visible = c->visible;
        rs_monitor_screen_emit_cursor_moved(client->screen, c->x, c->y, c->visible);
        changed = true;
    }
    return changed;
}

static void client_send(struct client *client)
{
    bool told;

    if (!client->attached || client->flushing) {
        return;
    }
    told = picture_send(client);
    told = cursor_send(client) || told;
    if (!told) {
        return;
    }
    client->flushing = true;
    g_dbus_connection_flush(client->connection, NULL, client_sent,
                            g_object_ref(client->control->machine));
}

static void size_publish(struct control *control)
{
    for (unsigned i = 0; i < control->clients->len; i++) {
        struct client *client = control->clients->pdata[i];
        rs_monitor_screen_set_width(client->screen, screen_width(control->screen));
        rs_monitor_screen_set_height(client->screen, screen_height(control->screen));
    }
}

/* rect NULL: no damage. */
static void frame_share(struct control *control, const struct screen_rect *rect)
{
    for (unsigned i = 0; i < control->clients->len; i++) {
        struct client *client = control->clients->pdata[i];
        if (!client->attached) {
            continue;
        }
        if (rect && client->pending) {
            rect_join(&client->damage, rect);
        } else if (rect) {
            client->damage = *rect;
            client->pending = true;
        }
        client_send(client);
    }
}

/* Machine lock held. */
static void cursor_take(struct control *control)
{
    const struct screen_cursor *c = screen_cursor(control->screen);

    if (c->image != control->cursor.image) {
        g_clear_pointer(&control->cursor_pixels, g_variant_unref);
        if (c->argb) {
            control->cursor_pixels = g_variant_ref_sink(g_variant_new_fixed_array(
                G_VARIANT_TYPE_BYTE, c->argb, (gsize)c->width * c->height * 4, 1));
        }
    }
    control->cursor = *c;
    control->cursor.argb = NULL; /* it may be gone when the lock is free */
}

/* Machine lock held by nobody here; the damage is everybody's. */
static void screen_update(struct control *control)
{
    uint32_t mode = screen_mode(control->screen);
    struct screen_rect rect;
    bool changed;

    machine_lock();
    screen_refresh(control->screen);
    changed = screen_take_damage(control->screen, &rect);
    cursor_take(control);
    machine_unlock();
    if (mode != screen_mode(control->screen)) {
        size_publish(control);
    }
    frame_share(control, changed ? &rect : NULL);
}

static bool anybody_attached(const struct control *control)
{
    for (unsigned i = 0; i < control->clients->len; i++) {
        if (((struct client *)control->clients->pdata[i])->attached) {
            return true;
        }
    }
    return false;
}

static gboolean frame(gpointer opaque)
{
    struct control *control = opaque;

    screen_update(control);
    if (control->live && anybody_attached(control)) {
        return G_SOURCE_CONTINUE;
    }
    control->tick = 0;
    return G_SOURCE_REMOVE;
}

void control_screen_wake(struct control *control)
{
    if (!control->tick && anybody_attached(control)) {
        control->tick = g_timeout_add(FRAME_MS, frame, control);
    }
}

/* Seals and a read-only description: a client can neither draw on the screen nor shrink it. */
static int pixels_open(struct control *control)
{
    int fd = screen_fd(control->screen);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

    if (fd < 0) {
        errno = ENODATA;
        return -1;
    }
#ifdef F_SEAL_FUTURE_WRITE
    fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
#endif
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The list that holds the pixels' descriptor, or NULL with the call answered. */
static GUnixFDList *pixels_list(struct control *control, GDBusMethodInvocation *invocation)
{
    int fd = pixels_open(control);

    if (fd < 0) {
        control_return_error(invocation,
                             g_error_new(CONTROL_ERROR, CONTROL_ERROR_FAILED,
                                         errno == ENODATA ? "The machine shows no picture yet."
                                                          : "The screen cannot be shared."));
        return NULL;
    }
    return g_unix_fd_list_new_from_array(&fd, 1);
}

static gboolean handle_attach(RsMonitorScreen *screen, GDBusMethodInvocation *invocation,
                              GUnixFDList *unused, gpointer opaque)
{
    struct client *client = opaque;
    struct screen *s = client->control->screen;
    g_autoptr(GUnixFDList) fds = NULL;

    screen_update(client->control);
    fds = pixels_list(client->control, invocation);
    if (fds) {
        client->attached = true;
        client->mode_told = client->pending = false;
        client->mode = screen_mode(s);
        client->cursor_image = 0;
        client->cursor_placed = false;
        rs_monitor_screen_complete_attach(screen, invocation, fds, screen_mode(s), screen_width(s),
                                          screen_height(s), screen_stride(s),
                                          g_variant_new_handle(0));
        client_send(client);
        control_screen_wake(client->control);
    }
    return TRUE;
}

static gboolean handle_detach(RsMonitorScreen *screen, GDBusMethodInvocation *invocation,
                              gpointer opaque)
{
    control_screen_disconnect(opaque);
    rs_monitor_screen_complete_detach(screen, invocation);
    return TRUE;
}

static gboolean handle_capture(RsMonitorScreen *screen, GDBusMethodInvocation *invocation,
                               GUnixFDList *unused, gpointer opaque)
{
    struct client *client = opaque;
    struct screen *s = client->control->screen;
    g_autoptr(GUnixFDList) fds = NULL;

    screen_update(client->control);
    fds = pixels_list(client->control, invocation);
    if (fds) {
        rs_monitor_screen_complete_capture(screen, invocation, fds, screen_mode(s), screen_width(s),
                                           screen_height(s), screen_stride(s),
                                           g_variant_new_handle(0));
    }
    return TRUE;
}

static gboolean handle_set_size(RsMonitorScreen *screen, GDBusMethodInvocation *invocation,
                                guint width, guint height, gpointer opaque)
{
    struct screen *s = ((struct client *)opaque)->control->screen;
    bool can = screen_can_resize(s), ok;

    machine_lock();
    ok = screen_resize(s, width, height);
    machine_unlock();
    if (ok) {
        rs_monitor_screen_complete_set_size(screen, invocation);
    } else if (can) {
        control_return_error(invocation,
                             g_error_new(CONTROL_ERROR, CONTROL_ERROR_INVALID_ARGUMENT,
                                         "A screen cannot have %u x %u pixels; it has 1 to 8192 "
                                         "each way.",
                                         width, height));
    } else {
        control_return_error(invocation,
                             g_error_new(CONTROL_ERROR, CONTROL_ERROR_FAILED,
                                         "The machine's display adapter has no way to ask for "
                                         "another size. Set video=virtio while the machine is "
                                         "off."));
    }
    return TRUE;
}

void control_screen_connect(struct client *client)
{
    RsMonitorScreen *screen = client->screen;

    rs_monitor_screen_set_width(screen, screen_width(client->control->screen));
    rs_monitor_screen_set_height(screen, screen_height(client->control->screen));
    rs_monitor_screen_set_can_resize(screen, screen_can_resize(client->control->screen));
    g_signal_connect(screen, "handle-set-size", G_CALLBACK(handle_set_size), client);
    g_signal_connect(screen, "handle-attach", G_CALLBACK(handle_attach), client);
    g_signal_connect(screen, "handle-detach", G_CALLBACK(handle_detach), client);
    g_signal_connect(screen, "handle-capture", G_CALLBACK(handle_capture), client);
}

void control_screen_disconnect(struct client *client)
{
    client->attached = client->pending = false;
}
