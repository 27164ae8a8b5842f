/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The console's picture and input.
 *
 * The picture is cut into bands of TILE_ROWS rows, each a render node of its own that is kept until
 * its rows change, so that a blinking cursor costs one band and not a screen. They are cairo nodes:
 * the texture nodes of GTK 4.8 convert every pixel through floating point, cannot be drawn without
 * filtering, and are converted again by the cairo renderer for every frame.
 */
#include <X11/extensions/XInput2.h>
#include <gdk/x11/gdkx.h>
#include <glib/gi18n-lib.h>
#include <linux/input-event-codes.h>
#include <math.h>

#include "cursor-image.h"
#include "rs-display.h"
#include "rs-raw-motion.h"

#define TILE_ROWS    32u
#define EVDEV_OFFSET 8u
#define MAX_KEYS     768u
#define SNAP         0.05 /* a fit this little above a whole multiple becomes that multiple */
#define ABSOLUTE_MAX 32767.0
#define MINIMUM_SIZE 64
#define WARP_TIME    (200 * 1000) /* that a warp may take, in microseconds */

/* Where the picture is, in device pixels. */
typedef struct {
    double factor;
    int x, y, width, height, scale;
} Placement;

struct _RsDisplay {
    GtkWidget parent_instance;
    RsMachine *machine;
    RsFrame *frame;
    GPtrArray *tiles; /* GskRenderNode or NULL: to be made */
    Placement drawn;  /* that of the tiles */
    GdkCursor *cursor;     /* the guest's, NULL: to be made */
    GdkTexture *cursor_at; /* likewise, drawn where the guest has it */
    double cursor_factor;  /* of `cursor` */
    RsScaling scaling;
    guint8 held[MAX_KEYS];
    gboolean chord, inhibited, captured, attached, warping;
    unsigned buttons;
    gint64 warped; /* when */
    double last_x, last_y, rest_x, rest_y;
    RsRawMotion *raw;   /* while captured, where there is such a thing */
    gboolean raw_moved; /* the next motion of the pointer is known already */
    guint raw_send;     /* source: `rest` is to be sent */
};

G_DEFINE_FINAL_TYPE(RsDisplay, rs_display, GTK_TYPE_WIDGET)

enum { PROP_POINTER_CAPTURED = 1, N_PROPS };
enum { SIGNAL_RELEASE, N_SIGNALS };
static GParamSpec *properties[N_PROPS];
static unsigned signals[N_SIGNALS];

/* --- The picture
 * ---------------------------------------------------------------------------------- */

static double fit_factor(RsDisplay *self, double width, double height)
{
    double fit =
        MIN(width / rs_frame_get_width(self->frame), height / rs_frame_get_height(self->frame));

    if (self->scaling == RS_SCALING_ORIGINAL) {
        return 1;
    }
    if (fit >= 1 && (self->scaling == RS_SCALING_INTEGER || fit - floor(fit) < SNAP)) {
        return floor(fit);
    }
    return fit;
}

static Placement placement(RsDisplay *self)
{
    Placement p = {.scale = gtk_widget_get_scale_factor(GTK_WIDGET(self))};
    int width = gtk_widget_get_width(GTK_WIDGET(self)) * p.scale;
    int height = gtk_widget_get_height(GTK_WIDGET(self)) * p.scale;

    p.factor = fit_factor(self, width, height);
    p.width = MAX((int)floor(rs_frame_get_width(self->frame) * p.factor), 1);
    p.height = MAX((int)floor(rs_frame_get_height(self->frame) * p.factor), 1);
    p.x = MAX((width - p.width) / 2, 0);
    p.y = MAX((height - p.height) / 2, 0);
    return p;
}

GdkTexture *rs_display_frame_texture(RsFrame *frame)
{
    int width = (int)rs_frame_get_width(frame), height = (int)rs_frame_get_height(frame);
    g_autoptr(GBytes) bytes = rs_frame_read(frame, 0, (uint32_t)height);

    return bytes ? gdk_memory_texture_new(width, height, GDK_MEMORY_B8G8R8A8_PREMULTIPLIED, bytes,
                                          (gsize)width * 4)
                 : NULL;
}

GdkTexture *rs_display_dup_texture(RsDisplay *self)
{
    return self->frame ? rs_display_frame_texture(self->frame) : NULL;
}

static unsigned tile_rows(RsDisplay *self, unsigned index)
{
    return MIN(TILE_ROWS, rs_frame_get_height(self->frame) - index * TILE_ROWS);
}

static void forget_tiles(RsDisplay *self)
{
    unsigned count =
        self->frame ? (rs_frame_get_height(self->frame) + TILE_ROWS - 1) / TILE_ROWS : 0;

    g_ptr_array_set_size(self->tiles, 0);
    g_ptr_array_set_size(self->tiles, (int)count);
}

/* The rows as a cairo surface, or NULL when the pixels are gone. */
static cairo_surface_t *read_surface(RsFrame *frame, unsigned y, unsigned rows)
{
    static const cairo_user_data_key_t key;
    GBytes *bytes = rs_frame_read(frame, y, rows);
    int width = (int)rs_frame_get_width(frame);

    if (!bytes) {
        return NULL;
    }
    cairo_surface_t *surface =
        cairo_image_surface_create_for_data((unsigned char *)g_bytes_get_data(bytes, NULL),
                                            CAIRO_FORMAT_RGB24, width, (int)rows, width * 4);
    cairo_surface_set_user_data(surface, &key, bytes, (cairo_destroy_func_t)g_bytes_unref);
    return surface;
}

static GskRenderNode *make_tile(RsDisplay *self, const Placement *p, unsigned index)
{
    unsigned y = index * TILE_ROWS, rows = tile_rows(self, index);
    /* Both edges on device pixels: no seams between bands. */
    double top = p->y + round(y * p->factor), bottom = p->y + round((y + rows) * p->factor);
    double x = (double)p->x / p->scale, width = (double)p->width / p->scale;
    double height = (bottom - top) / p->scale;
    cairo_surface_t *surface = bottom > top ? read_surface(self->frame, y, rows) : NULL;

    if (!surface) {
        return NULL;
    }
    GskRenderNode *node = gsk_cairo_node_new(
        &GRAPHENE_RECT_INIT((float)x, (float)(top / p->scale), (float)width, (float)height));
    cairo_t *cr = gsk_cairo_node_get_draw_context(node);
    cairo_rectangle(cr, x, top / p->scale, width, height);
    cairo_translate(cr, x, top / p->scale);
    cairo_scale(cr, width / rs_frame_get_width(self->frame), height / rows);
    cairo_set_source_surface(cr, surface, 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_pattern_set_filter(cairo_get_source(cr), p->factor == floor(p->factor)
                                                       ? CAIRO_FILTER_NEAREST
                                                       : CAIRO_FILTER_BILINEAR);
    cairo_fill(cr);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return node;
}

static gboolean is_drawn_at(RsDisplay *self, const Placement *p)
{
    const Placement *d = &self->drawn;

    return d->factor == p->factor && d->x == p->x && d->y == p->y && d->width == p->width &&
           d->height == p->height && d->scale == p->scale;
}

/* The guest's cursor is the pointer's where that is wherever the guest thinks it is, and else is drawn. */
static const RsCursor *drawn_cursor(RsDisplay *self)
{
    const RsCursor *cursor = self->machine ? rs_machine_get_cursor(self->machine) : NULL;

    return cursor && cursor->visible && !rs_machine_get_absolute(self->machine) ? cursor : NULL;
}

static void draw_cursor(RsDisplay *self, GtkSnapshot *snapshot, const Placement *p)
{
    const RsCursor *c = drawn_cursor(self);

    if (!c) {
        return;
    }
    if (!self->cursor_at) {
        self->cursor_at =
            gdk_memory_texture_new((int)c->width, (int)c->height,
                                   GDK_MEMORY_B8G8R8A8_PREMULTIPLIED, c->pixels, c->width * 4);
    }
    gtk_snapshot_push_clip(snapshot, &GRAPHENE_RECT_INIT((float)p->x / p->scale,
                                                         (float)p->y / p->scale,
                                                         (float)p->width / p->scale,
                                                         (float)p->height / p->scale));
    double factor = p->factor / p->scale;
    gtk_snapshot_append_texture(
        snapshot, self->cursor_at,
        &GRAPHENE_RECT_INIT((float)((double)p->x / p->scale + c->x * factor),
                            (float)((double)p->y / p->scale + c->y * factor),
                            (float)(c->width * factor), (float)(c->height * factor)));
    gtk_snapshot_pop(snapshot);
}

static void rs_display_snapshot(GtkWidget *widget, GtkSnapshot *snapshot)
{
    RsDisplay *self = RS_DISPLAY(widget);
    int width = gtk_widget_get_width(widget), height = gtk_widget_get_height(widget);

    gtk_snapshot_append_color(snapshot, &(GdkRGBA){0, 0, 0, 1},
                              &GRAPHENE_RECT_INIT(0, 0, (float)width, (float)height));
    if (!self->frame) {
        return;
    }
    Placement p = placement(self);
    if (!is_drawn_at(self, &p)) {
        self->drawn = p;
        forget_tiles(self);
    }
    gtk_snapshot_push_clip(snapshot, &GRAPHENE_RECT_INIT(0, 0, (float)width, (float)height));
    for (unsigned i = 0; i < self->tiles->len; i++) {
        if (!self->tiles->pdata[i]) {
            self->tiles->pdata[i] = make_tile(self, &p, i);
        }
        if (self->tiles->pdata[i]) {
            gtk_snapshot_append_node(snapshot, self->tiles->pdata[i]);
        }
    }
    draw_cursor(self, snapshot, &p);
    gtk_snapshot_pop(snapshot);
}

static void rs_display_measure(GtkWidget *widget, GtkOrientation orientation, int for_size,
                               int *minimum, int *natural, int *minimum_baseline,
                               int *natural_baseline)
{
    RsDisplay *self = RS_DISPLAY(widget);
    int scale = gtk_widget_get_scale_factor(widget), size = 0;

    if (self->frame) {
        size = (int)(orientation == GTK_ORIENTATION_HORIZONTAL ? rs_frame_get_width(self->frame)
                                                               : rs_frame_get_height(self->frame));
        size = (size + scale - 1) / scale;
    }
    *natural = MAX(size, MINIMUM_SIZE);
    *minimum = self->scaling == RS_SCALING_ORIGINAL ? *natural : MINIMUM_SIZE;
}

static void update_cursor(RsDisplay *self);

static void on_frame(RsDisplay *self, RsFrame *frame)
{
    g_set_object(&self->frame, frame);
    forget_tiles(self);
    update_cursor(self);
    gtk_widget_queue_resize(GTK_WIDGET(self));
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

/* The machine has checked that it lies within the frame. */
static void on_damage(RsDisplay *self, guint x, guint y, guint width, guint height)
{
    for (unsigned i = y / TILE_ROWS; i <= (y + height - 1) / TILE_ROWS && i < self->tiles->len;
         i++) {
        g_clear_pointer((GskRenderNode **)&self->tiles->pdata[i], gsk_render_node_unref);
    }
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

/* --- The keyboard
 * --------------------------------------------------------------------------------- */

gboolean rs_display_has_keyboard(RsDisplay *self)
{
    GtkRoot *root = gtk_widget_get_root(GTK_WIDGET(self));

    return self->machine && gtk_widget_has_focus(GTK_WIDGET(self)) && GTK_IS_WINDOW(root) &&
           gtk_window_is_active(GTK_WINDOW(root));
}

static gboolean is_control(unsigned code)
{
    return code == KEY_LEFTCTRL || code == KEY_RIGHTCTRL;
}

static gboolean is_alt(unsigned code)
{
    return code == KEY_LEFTALT;
}

/* True when this release completes Ctrl+Alt with no other key between. */
static gboolean track_chord(RsDisplay *self, unsigned code, gboolean down)
{
    gboolean member = is_control(code) || is_alt(code);

    if (down) {
        self->held[code] = 1;
        if (!member) {
            self->chord = FALSE;
        } else if ((self->held[KEY_LEFTCTRL] || self->held[KEY_RIGHTCTRL]) &&
                   self->held[KEY_LEFTALT]) {
            self->chord = TRUE;
        }
        return FALSE;
    }
    self->held[code] = 0;
    gboolean complete = member && self->chord;
    self->chord = FALSE;
    return complete;
}

void rs_display_key(RsDisplay *self, unsigned keycode, gboolean down)
{
    unsigned code = keycode - EVDEV_OFFSET;

    if (!self->machine || keycode <= EVDEV_OFFSET || code >= MAX_KEYS ||
        (!down && !self->held[code])) {
        return;
    }
    /* Repeats go on as presses: the guest's keyboard makes none of its own. */
    rs_machine_key(self->machine, code, down);
    if (track_chord(self, code, down)) {
        rs_display_release(self);
        g_signal_emit(self, signals[SIGNAL_RELEASE], 0);
    }
}

void rs_display_send_chord(RsDisplay *self, const unsigned *codes, unsigned count)
{
    for (unsigned i = 0; self->machine && i < count; i++) {
        rs_machine_key(self->machine, codes[i], true);
    }
    for (unsigned i = count; self->machine && i-- > 0;) {
        rs_machine_key(self->machine, codes[i], false);
    }
}

/*
 * X11: inhibiting the desktop's shortcuts is a keyboard grab, during which GDK takes no notice of
 * the focus going to another window. The keyboard must not go on reaching the guest then: look at
 * the event itself.
 */
static gboolean on_x_event(GdkDisplay *display, XEvent *event, RsDisplay *self)
{
    GtkNative *native = gtk_widget_get_native(GTK_WIDGET(self));
    GdkSurface *surface = native ? gtk_native_get_surface(native) : NULL;

    if (event->type == GenericEvent && event->xcookie.evtype == XI_FocusOut &&
        event->xcookie.data) {
        XIFocusOutEvent *focus = event->xcookie.data;
        gboolean leaves = focus->detail != XINotifyInferior && focus->detail != XINotifyPointer;
        if (leaves && focus->mode == XINotifyWhileGrabbed && GDK_IS_X11_SURFACE(surface) &&
            focus->event == gdk_x11_surface_get_xid(surface)) {
            rs_display_release(self);
        }
    }
    return FALSE;
}

static void watch_x_events(RsDisplay *self, gboolean watch)
{
    GdkDisplay *display = gtk_widget_get_display(GTK_WIDGET(self));

    if (!GDK_IS_X11_DISPLAY(display)) {
        return;
    }
    if (watch) {
        g_signal_connect_object(display, "xevent", G_CALLBACK(on_x_event), self, 0);
    } else {
        g_signal_handlers_disconnect_by_func(display, on_x_event, self);
    }
}

static void set_inhibited(RsDisplay *self, gboolean inhibited)
{
    GtkNative *native = gtk_widget_get_native(GTK_WIDGET(self));
    GdkSurface *surface = native ? gtk_native_get_surface(native) : NULL;

    if (inhibited == self->inhibited || (inhibited && !GDK_IS_TOPLEVEL(surface))) {
        return;
    }
    self->inhibited = inhibited;
    watch_x_events(self, inhibited);
    if (inhibited) {
        gdk_toplevel_inhibit_system_shortcuts(GDK_TOPLEVEL(surface), NULL);
    } else if (GDK_IS_TOPLEVEL(surface)) {
        gdk_toplevel_restore_system_shortcuts(GDK_TOPLEVEL(surface));
    }
}

/* The guest's cursor, as large as its screen's pixels are drawn. X11 has cursors in device pixels. */
static GdkCursor *guest_cursor(RsDisplay *self, const RsCursor *cursor)
{
    Placement p = placement(self);
    gboolean device = GDK_IS_X11_DISPLAY(gtk_widget_get_display(GTK_WIDGET(self)));
    double factor = device ? p.factor : p.factor / p.scale;

    if (self->cursor && factor == self->cursor_factor) {
        return self->cursor;
    }
    CursorImage image = cursor_image_new(cursor, factor);
    g_clear_object(&self->cursor);
    self->cursor_factor = factor;
    if (image.surface) {
        gsize stride = (gsize)cairo_image_surface_get_stride(image.surface);
        g_autoptr(GBytes) pixels =
            g_bytes_new(cairo_image_surface_get_data(image.surface), stride * (gsize)image.height);
        g_autoptr(GdkTexture) texture = gdk_memory_texture_new(
            image.width, image.height, GDK_MEMORY_B8G8R8A8_PREMULTIPLIED, pixels, stride);
        self->cursor = gdk_cursor_new_from_texture(texture, image.hot_x, image.hot_y, NULL);
        cursor_image_clear(&image);
    }
    return self->cursor;
}

static void update_cursor(RsDisplay *self)
{
    const RsCursor *cursor = self->machine ? rs_machine_get_cursor(self->machine) : NULL;
    gboolean absolute = self->machine && rs_machine_get_absolute(self->machine);

    if (absolute && cursor && cursor->visible && self->frame) {
        gtk_widget_set_cursor(GTK_WIDGET(self), guest_cursor(self, cursor));
        return;
    }
    gboolean guest_draws_it = self->captured || (absolute && rs_display_has_keyboard(self));
    gtk_widget_set_cursor_from_name(GTK_WIDGET(self), guest_draws_it ? "none" : NULL);
}

static void on_cursor(RsDisplay *self, gboolean image)
{
    if (image) {
        g_clear_object(&self->cursor);
        g_clear_object(&self->cursor_at);
    }
    update_cursor(self);
    if (self->machine && !rs_machine_get_absolute(self->machine)) {
        gtk_widget_queue_draw(GTK_WIDGET(self));
    }
}

static void absolute_changed(RsDisplay *self)
{
    update_cursor(self);
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

static void rs_display_size_allocate(GtkWidget *widget, int width, int height, int baseline)
{
    update_cursor(RS_DISPLAY(widget));
}

/* What has come together, as whole steps. */
static void send_rest(RsDisplay *self)
{
    double dx = trunc(self->rest_x), dy = trunc(self->rest_y);

    g_clear_handle_id(&self->raw_send, g_source_remove);
    self->rest_x -= dx;
    self->rest_y -= dy;
    if (dx != 0 || dy != 0) {
        rs_machine_pointer_relative(self->machine, (int)dx, (int)dy, 0, self->buttons);
    }
}

static gboolean send_raw(gpointer data)
{
    RS_DISPLAY(data)->raw_send = 0;
    send_rest(data);
    return G_SOURCE_REMOVE;
}

/* Mice may tell of themselves a thousand times a second. */
static void on_raw_motion(gpointer data, double dx, double dy)
{
    RsDisplay *self = data;

    self->raw_moved = TRUE;
    self->rest_x += dx;
    self->rest_y += dy;
    if (!self->raw_send) {
        self->raw_send = g_idle_add_full(G_PRIORITY_DEFAULT, send_raw, self, NULL);
    }
}

static void follow_mouse(RsDisplay *self, gboolean follow)
{
    g_clear_handle_id(&self->raw_send, g_source_remove);
    g_clear_pointer(&self->raw, rs_raw_motion_free);
    self->raw_moved = FALSE;
    self->rest_x = self->rest_y = 0;
    if (follow) {
        self->raw =
            rs_raw_motion_new(gtk_widget_get_display(GTK_WIDGET(self)), on_raw_motion, self);
    }
}

static void set_captured(RsDisplay *self, gboolean captured)
{
    if (captured != self->captured) {
        self->captured = captured;
        self->warping = FALSE;
        follow_mouse(self, captured);
        g_object_notify_by_pspec(G_OBJECT(self), properties[PROP_POINTER_CAPTURED]);
    }
    update_cursor(self);
}

void rs_display_release(RsDisplay *self)
{
    memset(self->held, 0, sizeof self->held);
    self->chord = FALSE;
    self->buttons = 0;
    if (self->machine) {
        rs_machine_release_all(self->machine);
    }
    set_captured(self, FALSE);
    set_inhibited(self, FALSE);
}

static void focus_entered(RsDisplay *self)
{
    set_inhibited(self, TRUE);
    update_cursor(self);
    gtk_widget_queue_draw(GTK_WIDGET(self));
}

/* --- The pointer
 * ---------------------------------------------------------------------------------- */

static void send_absolute(RsDisplay *self, double x, double y, int wheel)
{
    if (!self->frame) {
        return;
    }
    Placement p = placement(self);
    double across = (x * p.scale - p.x) / p.width, down = (y * p.scale - p.y) / p.height;
    rs_machine_pointer_absolute(self->machine, (unsigned)(CLAMP(across, 0, 1) * ABSOLUTE_MAX),
                                (unsigned)(CLAMP(down, 0, 1) * ABSOLUTE_MAX), wheel, self->buttons);
}

/* X11 only: back to the middle, so that the guest's pointer never ends at the window's edge. */
static void warp_to_middle(RsDisplay *self)
{
    GtkNative *native = gtk_widget_get_native(GTK_WIDGET(self));
    GdkSurface *surface = gtk_native_get_surface(native);
    double x = gtk_widget_get_width(GTK_WIDGET(self)) / 2,
           y = gtk_widget_get_height(GTK_WIDGET(self)) / 2;
    double dx, dy;

    G_GNUC_BEGIN_IGNORE_DEPRECATIONS
    if (GDK_IS_X11_SURFACE(surface)) {
        Display *display = gdk_x11_display_get_xdisplay(gdk_surface_get_display(surface));
        int scale = gdk_surface_get_scale_factor(surface);
        gtk_widget_translate_coordinates(GTK_WIDGET(self), GTK_WIDGET(native), x, y, &x, &y);
        gtk_native_get_surface_transform(native, &dx, &dy);
        XWarpPointer(display, None, gdk_x11_surface_get_xid(surface), 0, 0, 0, 0,
                     (int)((x + dx) * scale), (int)((y + dy) * scale));
        self->warping = TRUE;
        self->warped = g_get_monotonic_time();
    }
    G_GNUC_END_IGNORE_DEPRECATIONS
}

/* What comes after a warp may be some way off the middle: GDK makes several motions one. */
static void send_relative(RsDisplay *self, double x, double y)
{
    double middle_x = gtk_widget_get_width(GTK_WIDGET(self)) / 2;
    double middle_y = gtk_widget_get_height(GTK_WIDGET(self)) / 2;

    if (self->warping && !isnan(self->last_x) &&
        hypot(x - middle_x, y - middle_y) < hypot(x - self->last_x, y - self->last_y)) {
        self->last_x = middle_x;
        self->last_y = middle_y;
        self->warping = FALSE;
    }
    if (!isnan(self->last_x) && !self->raw_moved) {
        Placement p = placement(self);
        self->rest_x += (x - self->last_x) * p.scale / p.factor;
        self->rest_y += (y - self->last_y) * p.scale / p.factor;
        send_rest(self);
    }
    self->warping = self->warping && !self->raw_moved &&
                    g_get_monotonic_time() - self->warped < WARP_TIME;
    self->raw_moved = FALSE;
    self->last_x = x;
    self->last_y = y;
    if (!self->warping &&
        (fabs(x - middle_x) > middle_x / 2 || fabs(y - middle_y) > middle_y / 2)) {
        warp_to_middle(self);
    }
}

static void on_motion(RsDisplay *self, double x, double y)
{
    if (!self->machine || !self->frame) {
        return;
    }
    if (self->captured && !rs_machine_get_absolute(self->machine)) {
        send_relative(self, x, y);
        return;
    }
    self->last_x = x;
    self->last_y = y;
    if (rs_machine_get_absolute(self->machine)) {
        send_absolute(self, x, y, 0);
    }
}

static void on_leave(RsDisplay *self)
{
    self->last_x = self->last_y = NAN;
    self->warping = FALSE;
    if (self->raw) { /* faster than we are */
        warp_to_middle(self);
    }
}

static gboolean on_scroll(RsDisplay *self, double dx, double dy)
{
    int steps = (int)-dy;

    if (!self->machine || !steps || !rs_display_has_keyboard(self)) {
        return FALSE;
    }
    if (rs_machine_get_absolute(self->machine) && !isnan(self->last_x)) {
        send_absolute(self, self->last_x, self->last_y, steps);
    } else if (self->captured) {
        rs_machine_pointer_relative(self->machine, 0, 0, steps, self->buttons);
    }
    return TRUE;
}

static unsigned button_bit(unsigned button)
{
    switch (button) {
    case GDK_BUTTON_PRIMARY:
        return 1;
    case GDK_BUTTON_SECONDARY:
        return 2;
    case GDK_BUTTON_MIDDLE:
        return 4;
    case 8:
        return 8;
    case 9:
        return 16;
    default:
        return 0;
    }
}

static void send_buttons(RsDisplay *self)
{
    if (rs_machine_get_absolute(self->machine)) {
        send_absolute(self, isnan(self->last_x) ? 0 : self->last_x,
                      isnan(self->last_y) ? 0 : self->last_y, 0);
    } else if (self->captured) {
        send_rest(self);
        rs_machine_pointer_relative(self->machine, 0, 0, 0, self->buttons);
    }
}

/* The first click only takes the keyboard and, without an absolute device, the pointer. */
static gboolean on_press(RsDisplay *self, unsigned bit)
{
    gboolean had_keyboard = gtk_widget_has_focus(GTK_WIDGET(self));

    gtk_widget_grab_focus(GTK_WIDGET(self));
    if (!rs_machine_get_absolute(self->machine) && !self->captured) {
        set_captured(self, TRUE);
        return TRUE;
    }
    if (had_keyboard) {
        self->buttons |= bit;
        send_buttons(self);
    }
    return TRUE;
}

static gboolean on_event(RsDisplay *self, GdkEvent *event)
{
    GdkEventType type = gdk_event_get_event_type(event);

    if (!self->machine || !self->frame ||
        (type != GDK_BUTTON_PRESS && type != GDK_BUTTON_RELEASE)) {
        return FALSE;
    }
    unsigned bit = button_bit(gdk_button_event_get_button(event));
    if (type == GDK_BUTTON_PRESS) {
        return on_press(self, bit);
    }
    if (self->buttons & bit) {
        self->buttons &= ~bit;
        send_buttons(self);
    }
    return TRUE;
}

/* --- The widget
 * ----------------------------------------------------------------------------------- */

static void set_attached(RsDisplay *self, gboolean attached)
{
    if (!self->machine || attached == self->attached) {
        return;
    }
    self->attached = attached;
    if (attached) {
        rs_machine_attach(self->machine);
    } else {
        rs_machine_detach(self->machine);
    }
}

static void drop_machine(RsDisplay *self)
{
    if (self->machine) {
        rs_display_release(self);
        set_attached(self, FALSE);
        g_signal_handlers_disconnect_by_data(self->machine, self);
    }
    g_clear_object(&self->machine);
    g_clear_object(&self->frame);
    g_clear_object(&self->cursor);
    g_clear_object(&self->cursor_at);
    forget_tiles(self);
}

static void state_changed(RsDisplay *self)
{
    if (!rs_machine_is_active(self->machine)) {
        rs_display_release(self);
        g_clear_object(&self->frame);
        forget_tiles(self);
        gtk_widget_queue_draw(GTK_WIDGET(self));
    }
}

void rs_display_set_machine(RsDisplay *self, RsMachine *machine)
{
    drop_machine(self);
    self->machine = machine ? g_object_ref(machine) : NULL;
    if (machine) {
        g_signal_connect_swapped(machine, "frame", G_CALLBACK(on_frame), self);
        g_signal_connect_swapped(machine, "damage", G_CALLBACK(on_damage), self);
        g_signal_connect_swapped(machine, "notify::absolute", G_CALLBACK(absolute_changed), self);
        g_signal_connect_swapped(machine, "cursor", G_CALLBACK(on_cursor), self);
        g_signal_connect_swapped(machine, "notify::state", G_CALLBACK(state_changed), self);
        set_attached(self, gtk_widget_get_mapped(GTK_WIDGET(self)));
    }
}

void rs_display_set_scaling(RsDisplay *self, RsScaling scaling)
{
    self->scaling = scaling;
    gtk_widget_queue_resize(GTK_WIDGET(self));
}

static void rs_display_map(GtkWidget *widget)
{
    GTK_WIDGET_CLASS(rs_display_parent_class)->map(widget);
    set_attached(RS_DISPLAY(widget), TRUE);
}

static void rs_display_unmap(GtkWidget *widget)
{
    rs_display_release(RS_DISPLAY(widget));
    set_attached(RS_DISPLAY(widget), FALSE);
    GTK_WIDGET_CLASS(rs_display_parent_class)->unmap(widget);
}

static void rs_display_get_property(GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
    if (id == PROP_POINTER_CAPTURED) {
        g_value_set_boolean(value, RS_DISPLAY(object)->captured);
    } else {
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
    }
}

static void rs_display_dispose(GObject *object)
{
    drop_machine(RS_DISPLAY(object));
    G_OBJECT_CLASS(rs_display_parent_class)->dispose(object);
}

static void rs_display_finalize(GObject *object)
{
    g_ptr_array_unref(RS_DISPLAY(object)->tiles);
    G_OBJECT_CLASS(rs_display_parent_class)->finalize(object);
}

static void rs_display_class_init(RsDisplayClass *klass)
{
    GObjectClass *object_class = G_OBJECT_CLASS(klass);
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(klass);

    object_class->get_property = rs_display_get_property;
    object_class->dispose = rs_display_dispose;
    object_class->finalize = rs_display_finalize;
    widget_class->snapshot = rs_display_snapshot;
    widget_class->measure = rs_display_measure;
    widget_class->size_allocate = rs_display_size_allocate;
    widget_class->map = rs_display_map;
    widget_class->unmap = rs_display_unmap;
    properties[PROP_POINTER_CAPTURED] = g_param_spec_boolean(
        "pointer-captured", NULL, NULL, FALSE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
    g_object_class_install_properties(object_class, N_PROPS, properties);
    signals[SIGNAL_RELEASE] = g_signal_new("release", RS_TYPE_DISPLAY, G_SIGNAL_RUN_LAST, 0, NULL,
                                           NULL, NULL, G_TYPE_NONE, 0);
    gtk_widget_class_set_css_name(widget_class, "display");
    gtk_widget_class_set_accessible_role(widget_class, GTK_ACCESSIBLE_ROLE_IMG);
}

static void unset_tile(gpointer node)
{
    if (node) {
        gsk_render_node_unref(node);
    }
}

static void add_controllers(RsDisplay *self)
{
    GtkWidget *widget = GTK_WIDGET(self);
    GtkEventController *focus = gtk_event_controller_focus_new();
    GtkEventController *motion = gtk_event_controller_motion_new();
    GtkEventController *scroll = gtk_event_controller_scroll_new(
        GTK_EVENT_CONTROLLER_SCROLL_VERTICAL | GTK_EVENT_CONTROLLER_SCROLL_DISCRETE);
    GtkEventController *buttons = gtk_event_controller_legacy_new();

    g_signal_connect_swapped(focus, "enter", G_CALLBACK(focus_entered), self);
    g_signal_connect_swapped(focus, "leave", G_CALLBACK(rs_display_release), self);
    g_signal_connect_swapped(motion, "motion", G_CALLBACK(on_motion), self);
    g_signal_connect_swapped(motion, "leave", G_CALLBACK(on_leave), self);
    g_signal_connect_swapped(scroll, "scroll", G_CALLBACK(on_scroll), self);
    g_signal_connect_swapped(buttons, "event", G_CALLBACK(on_event), self);
    gtk_widget_add_controller(widget, focus);
    gtk_widget_add_controller(widget, motion);
    gtk_widget_add_controller(widget, scroll);
    gtk_widget_add_controller(widget, buttons);
}

static void rs_display_init(RsDisplay *self)
{
    self->tiles = g_ptr_array_new_with_free_func(unset_tile);
    self->last_x = self->last_y = NAN;
    gtk_widget_set_focusable(GTK_WIDGET(self), TRUE);
    gtk_widget_set_overflow(GTK_WIDGET(self), GTK_OVERFLOW_HIDDEN);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Guest screen"), -1);
    add_controllers(self);
}
