/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The console window. Keys reach the guest through a controller of the window in the capture phase,
 * added after the application's own, so that no accelerator takes a key from a guest that has the
 * keyboard.
 */
#include <glib/gi18n-lib.h>
#include <linux/input-event-codes.h>

#include "rs-console.h"
#include "rs-display.h"
#include "rs-full-screen.h"
#include "rs-guest-size.h"
#include "rs-machine-actions.h"
#include "rs-state.h"
#include "rs-usb-button.h"

#define REVEAL_PIXELS  4
#define FIT_FRAMES     10 /* pictures until a size stays */
#define FIT_TRIES      4
#define MAX_CHORD      3
#define FRAME          32  /* points around a new window, at most */
#define MINIMUM_WIDTH  800 /* what a guest has that is more than its firmware */
#define MINIMUM_HEIGHT 480

struct _RsConsole {
    AdwApplicationWindow parent_instance;
    GtkWidget *header, *status_bar, *start_button, *pause_button, *resume_button;
    GtkWidget *message_bar, *restore_button;
    GtkRevealer *reveal_bar;
    AdwWindowTitle *title, *full_title;
    AdwToastOverlay *toasts;
    GtkStack *stack;
    AdwStatusPage *off_page;
    GtkScrolledWindow *view;
    RsDisplay *display;
    RsGuestSize *guest_size;
    gboolean resize_guest;
    GtkLabel *message, *hint, *engine_reason;
    GtkMenuButton *engine;
    GtkMenuButton *menu_button;
    RsUsbButton *usb_button, *full_usb_button;
    GtkEventController *keys;
    RsMachine *machine;
    double last_x, last_y;
    struct { /* of the guest's screen, that the window was made for */
        int width, height;
        bool running; /* it had this already */
        unsigned frames, tick;
    } fit;
};

G_DEFINE_FINAL_TYPE(RsConsole, rs_console, ADW_TYPE_APPLICATION_WINDOW)

enum { PROP_RESIZE_GUEST = 1 };

static const struct {
    const char *name;
    unsigned count, codes[MAX_CHORD];
} chords[] = {
    {"ctrl-alt-delete", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE}},
    {"ctrl-alt-backspace", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_BACKSPACE}},
    {"ctrl-alt-f1", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F1}},
    {"ctrl-alt-f2", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F2}},
    {"ctrl-alt-f3", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F3}},
    {"ctrl-alt-f4", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F4}},
    {"ctrl-alt-f5", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F5}},
    {"ctrl-alt-f6", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F6}},
    {"ctrl-alt-f7", 3, {KEY_LEFTCTRL, KEY_LEFTALT, KEY_F7}},
    {"alt-tab", 2, {KEY_LEFTALT, KEY_TAB}},
    {"alt-f4", 2, {KEY_LEFTALT, KEY_F4}},
    {"super", 1, {KEY_LEFTMETA}},
    {"print", 1, {KEY_SYSRQ}},
};

RsMachine *rs_console_get_machine(RsConsole *self)
{
    return self->machine;
}

/* --- What the machine says
 * ------------------------------------------------------------------------ */

static void update_hint(RsConsole *self)
{
    gboolean captured, keyboard = rs_display_has_keyboard(self->display);

    g_object_get(self->display, "pointer-captured", &captured, NULL);
    if (g_strcmp0(gtk_stack_get_visible_child_name(self->stack), "screen")) {
        gtk_label_set_text(self->hint, "");
    } else if (captured) {
        gtk_label_set_text(self->hint, _("Press Ctrl+Alt to release the pointer and the keyboard"));
    } else if (keyboard) {
        gtk_label_set_text(self->hint, _("Press Ctrl+Alt to release the keyboard"));
    } else {
        gtk_label_set_text(self->hint, _("Click the screen to use it; Ctrl+Alt leaves it again"));
    }
}

static void update_engine(RsConsole *self)
{
    static const struct {
        const char *word, *label;
    } engines[] = {{"kvm", N_("Engine: KVM")},
                   {"driver", N_("Engine: driver")},
                   {"translate", N_("Engine: translator")}};
    const char *engine = rs_machine_get_engine(self->machine), *text = "";
    const char *reason = rs_machine_get_engine_reason(self->machine);

    for (unsigned i = 0; i < G_N_ELEMENTS(engines); i++) {
        text = !g_strcmp0(engine, engines[i].word) ? _(engines[i].label) : text;
    }
    gtk_menu_button_set_label(self->engine, text);
    gtk_widget_set_visible(GTK_WIDGET(self->engine), *text != '\0');
    gtk_widget_set_tooltip_text(GTK_WIDGET(self->engine), reason);
    gtk_label_set_text(self->engine_reason,
                       reason && *reason
                           ? reason
                           : _("This is the fastest engine here, or the one in the settings."));
}

static void update_off_page(RsConsole *self, RsMachineState state)
{
    g_autofree char *escaped = g_markup_escape_text(
        rs_machine_get_message(self->machine) ? rs_machine_get_message(self->machine) : "", -1);

    adw_status_page_set_title(self->off_page, rs_state_label(state));
    adw_status_page_set_description(self->off_page, escaped);
    adw_status_page_set_icon_name(
        self->off_page, state == RS_MACHINE_CRASHED
                            ? "dialog-warning-symbolic"
                            : rs_state_system_icon(rs_machine_get_settings(self->machine)->os));
    gtk_button_set_label(GTK_BUTTON(self->start_button),
                         state == RS_MACHINE_SUSPENDED ? _("_Resume") : _("_Start"));
    gtk_widget_set_visible(self->start_button, state != RS_MACHINE_STARTING);
}

static void update_state(RsConsole *self)
{
    RsMachineState state = rs_machine_get_state(self->machine);
    gboolean screen = rs_machine_is_active(self->machine) && state != RS_MACHINE_STARTING;
    gboolean paused = state == RS_MACHINE_PAUSED || state == RS_MACHINE_IO_ERROR;
    const char *message = rs_machine_get_message(self->machine);
    gboolean was_screen = !g_strcmp0(gtk_stack_get_visible_child_name(self->stack), "screen");

    adw_window_title_set_title(self->title, rs_machine_get_name(self->machine));
    adw_window_title_set_subtitle(self->title, rs_state_label(state));
    adw_window_title_set_title(self->full_title, rs_machine_get_name(self->machine));
    gtk_window_set_title(GTK_WINDOW(self), rs_machine_get_name(self->machine));
    gtk_widget_set_visible(self->pause_button, !paused);
    gtk_widget_set_visible(self->resume_button, paused);
    gtk_label_set_text(self->message, message  ? message
                                      : paused ? _("The machine is paused.")
                                               : "");
    gtk_widget_set_visible(self->message_bar, screen && (message || paused));
    update_off_page(self, state);
    gtk_stack_set_visible_child_name(self->stack, screen ? "screen" : "off");
    if (screen && !was_screen) {
        gtk_widget_grab_focus(GTK_WIDGET(self->display));
    } else if (!screen && was_screen) {
        gtk_widget_grab_focus(self->start_button);
    }
    update_hint(self);
}

/* --- The keyboard
 * --------------------------------------------------------------------------------- */

static gboolean key_pressed(RsConsole *self, guint keyval, guint keycode, GdkModifierType state)
{
    if (!rs_display_has_keyboard(self->display)) {
        return FALSE;
    }
    rs_display_key(self->display, keycode, TRUE);
    return TRUE;
}

static void key_released(RsConsole *self, guint keyval, guint keycode, GdkModifierType state)
{
    if (rs_display_has_keyboard(self->display)) {
        rs_display_key(self->display, keycode, FALSE);
    }
}

static void add_key_controller(RsConsole *self)
{
    if (self->keys) {
        gtk_widget_remove_controller(GTK_WIDGET(self), self->keys);
    }
    self->keys = gtk_event_controller_key_new();
    gtk_event_controller_set_propagation_phase(self->keys, GTK_PHASE_CAPTURE);
    g_signal_connect_swapped(self->keys, "key-pressed", G_CALLBACK(key_pressed), self);
    g_signal_connect_swapped(self->keys, "key-released", G_CALLBACK(key_released), self);
    gtk_widget_add_controller(GTK_WIDGET(self), self->keys);
}

/* The chord: the keyboard goes to the toolbar, from where everything can be reached. */
static void keyboard_released(RsConsole *self)
{
    if (gtk_window_is_fullscreen(GTK_WINDOW(self))) {
        gtk_revealer_set_reveal_child(self->reveal_bar, TRUE);
        gtk_widget_grab_focus(self->restore_button);
    } else {
        gtk_widget_grab_focus(GTK_WIDGET(self->menu_button));
    }
}

static void activity_changed(RsConsole *self)
{
    if (!gtk_window_is_active(GTK_WINDOW(self))) {
        rs_display_release(self->display);
    }
    update_hint(self);
}

static void focus_changed(RsConsole *self)
{
    update_hint(self);
    if (rs_display_has_keyboard(self->display)) {
        gtk_revealer_set_reveal_child(self->reveal_bar, FALSE);
    }
}

static void send_keys(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsConsole *self = RS_CONSOLE(widget);
    const char *name = g_variant_get_string(parameter, NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(chords); i++) {
        if (!strcmp(chords[i].name, name)) {
            rs_display_send_chord(self->display, chords[i].codes, chords[i].count);
        }
    }
    gtk_widget_grab_focus(GTK_WIDGET(self->display));
}

/* --- Screenshot
 * ----------------------------------------------------------------------------------- */

static void toast(RsConsole *self, const char *text)
{
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    adw_toast_overlay_add_toast(self->toasts, adw_toast_new(escaped));
}

static char *screenshot_path(RsConsole *self)
{
    const char *pictures = g_get_user_special_dir(G_USER_DIRECTORY_PICTURES);
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *stamp = g_date_time_format(now, "%Y-%m-%d %H-%M-%S");
    g_autofree char *name = g_strdup_printf("%s %s.png", rs_machine_get_name(self->machine), stamp);

    g_strdelimit(name, "/", '-');
    pictures = pictures ? pictures : g_get_home_dir();
    g_mkdir_with_parents(pictures, 0755);
    return g_build_filename(pictures, name, NULL);
}

static void take_screenshot(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsConsole *self = RS_CONSOLE(widget);
    g_autoptr(GdkTexture) texture = rs_display_dup_texture(self->display);
    g_autofree char *path = screenshot_path(self);
    g_autofree char *shown = g_filename_display_name(path);
    g_autofree char *text = NULL;

    if (!texture) {
        text = g_strdup(_("There is nothing on the screen yet"));
    } else if (gdk_texture_save_to_png(texture, path)) {
        text = g_strdup_printf(_("Screenshot saved as %s"), shown);
    } else {
        text = g_strdup_printf(_("The screenshot could not be saved as %s"), shown);
    }
    toast(self, text);
}

/* --- Full screen, the guest's size and scaling
 * ---------------------------------------------------- */

static void update_guest_size(RsConsole *self)
{
    if (self->guest_size) {
        rs_guest_size_set_on(self->guest_size,
                             self->resize_guest && !rs_full_screen_has_viewer(GTK_WINDOW(self)));
    }
}

static int natural_height(GtkWidget *widget)
{
    int height;

    gtk_widget_measure(widget, GTK_ORIENTATION_VERTICAL, -1, NULL, &height, NULL, NULL);
    return height;
}

/* What the desktop or GTK puts around, and what came between, is known once the size stays. */
static gboolean fit_exactly(GtkWidget *view, GdkFrameClock *clock, gpointer data)
{
    RsConsole *self = data;
    GtkWindow *window = GTK_WINDOW(self);
    int x = self->fit.width - gtk_widget_get_width(view);
    int y = self->fit.height - gtk_widget_get_height(view);
    int limit = self->fit.running ? G_MAXINT : FRAME, width, height;

    if (++self->fit.frames % FIT_FRAMES) {
        return G_SOURCE_CONTINUE;
    }
    if ((x || y) && ABS(x) <= limit && ABS(y) <= limit && !gtk_window_is_maximized(window) &&
        !gtk_window_is_fullscreen(window) && self->fit.frames < FIT_TRIES * FIT_FRAMES) {
        gtk_window_get_default_size(window, &width, &height);
        gtk_window_set_default_size(window, width + x, height + y);
        return G_SOURCE_CONTINUE;
    }
    self->fit.tick = 0;
    self->fit.width = 0; /* from now on the user's */
    self->fit.running = false;
    return G_SOURCE_REMOVE;
}

static void fit_when_shown(RsConsole *self)
{
    self->fit.frames = 0;
    if (!self->fit.tick && self->fit.width && gtk_widget_get_mapped(GTK_WIDGET(self->view))) {
        self->fit.tick =
            gtk_widget_add_tick_callback(GTK_WIDGET(self->view), fit_exactly, self, NULL);
    }
}

/* So that the guest's screen has `width` x `height` points in the window; false: there is no room.
 */
static gboolean fit(RsConsole *self, int width, int height)
{
    GListModel *monitors = gdk_display_get_monitors(gtk_widget_get_display(GTK_WIDGET(self)));
    g_autoptr(GdkMonitor) monitor = g_list_model_get_item(monitors, 0);
    GdkRectangle room = {0, 0, 0, 0};
    int whole = height + natural_height(self->header) + natural_height(self->status_bar);

    if (monitor) {
        gdk_monitor_get_geometry(monitor, &room);
    }
    if (width + FRAME > room.width || whole + FRAME > room.height) {
        return FALSE;
    }
    self->fit.width = width;
    self->fit.height = height;
    gtk_window_set_default_size(GTK_WINDOW(self), width, whole);
    fit_when_shown(self);
    return TRUE;
}

/* A guest that runs already keeps its size; one that has only firmware's so far does not. */
static void fit_first_frame(RsConsole *self, RsFrame *frame)
{
    int scale = gtk_widget_get_scale_factor(GTK_WIDGET(self));
    int width = (int)rs_frame_get_width(frame) / scale;
    int height = (int)rs_frame_get_height(frame) / scale;

    g_signal_handlers_disconnect_by_func(self->machine, fit_first_frame, self);
    if (self->resize_guest && width * scale >= MINIMUM_WIDTH && height * scale >= MINIMUM_HEIGHT &&
        !gtk_window_is_maximized(GTK_WINDOW(self)) && !gtk_window_is_fullscreen(GTK_WINDOW(self))) {
        self->fit.running = fit(self, width, height);
    }
}

/* A size that every system has a mode for. */
static void fit_at_first(RsConsole *self)
{
    if (!fit(self, 1024, 768)) {
        fit(self, 800, 600);
    }
    if (rs_machine_is_active(self->machine)) {
        g_signal_connect_swapped(self->machine, "frame", G_CALLBACK(fit_first_frame), self);
    }
}

static void viewer_changed(GtkWindow *window)
{
    update_guest_size(RS_CONSOLE(window));
}

/* The menu has a line that says what is missing; its action is there for that, never enabled. */
static void can_resize_changed(RsConsole *self)
{
    gboolean can = rs_machine_can_resize(self->machine);

    gtk_widget_action_set_enabled(GTK_WIDGET(self), "win.resize-guest", can);
    if (!can && rs_machine_is_connected(self->machine)) {
        g_autoptr(GSimpleAction) reason = g_simple_action_new("cannot-resize-guest", NULL);
        g_simple_action_set_enabled(reason, FALSE);
        g_action_map_add_action(G_ACTION_MAP(self), G_ACTION(reason));
    } else {
        g_action_map_remove_action(G_ACTION_MAP(self), "cannot-resize-guest");
    }
}

static void toggle_fullscreen(GtkWidget *widget, const char *action, GVariant *parameter)
{
    RsConsole *self = RS_CONSOLE(widget);
    GSettings *settings = rs_application_get_settings(rs_application_get());

    const RsFullScreenOptions options = {
        .scaling = (RsScaling)g_settings_get_enum(settings, "scaling"),
        .resize = self->resize_guest,
        .changed = viewer_changed,
    };

    rs_full_screen_toggle(GTK_WINDOW(self), self->machine, &options);
}

static void fullscreen_changed(RsConsole *self)
{
    gboolean full = gtk_window_is_fullscreen(GTK_WINDOW(self));

    gtk_widget_set_visible(self->header, !full);
    gtk_widget_set_visible(self->status_bar, !full);
    gtk_revealer_set_reveal_child(self->reveal_bar, FALSE);
    gtk_widget_set_visible(GTK_WIDGET(self->reveal_bar), full);
    if (!strcmp(gtk_stack_get_visible_child_name(self->stack), "screen")) {
        gtk_widget_grab_focus(GTK_WIDGET(self->display));
    }
    if (full) {
        toast(self, _("Press Ctrl+Alt, or touch the upper edge, to show the toolbar"));
    }
}

static void pointer_moved(RsConsole *self, double x, double y)
{
    gboolean captured, moved = x != self->last_x || y != self->last_y;

    /* GTK repeats the last motion when the layout changes. */
    self->last_x = x;
    self->last_y = y;
    g_object_get(self->display, "pointer-captured", &captured, NULL);
    if (!gtk_window_is_fullscreen(GTK_WINDOW(self)) || captured || !moved) {
        return;
    }
    if (y < REVEAL_PIXELS) {
        gtk_revealer_set_reveal_child(self->reveal_bar, TRUE);
    } else if (y > gtk_widget_get_height(GTK_WIDGET(self->reveal_bar)) + 48 &&
               rs_display_has_keyboard(self->display)) {
        gtk_revealer_set_reveal_child(self->reveal_bar, FALSE);
    }
}

static void scaling_changed(RsConsole *self)
{
    GSettings *settings = rs_application_get_settings(rs_application_get());

    rs_display_set_scaling(self->display, (RsScaling)g_settings_get_enum(settings, "scaling"));
}

static void show_menu(GtkWidget *widget, const char *action, GVariant *parameter)
{
    gtk_menu_button_popup(RS_CONSOLE(widget)->menu_button);
}

/* --- The window
 * ----------------------------------------------------------------------------------- */

static gboolean close_request(GtkWindow *window)
{
    return !rs_application_may_close(rs_application_get(), window);
}

static void rs_console_dispose(GObject *object)
{
    RsConsole *self = RS_CONSOLE(object);

    g_clear_pointer(&self->guest_size, rs_guest_size_free);
    if (self->machine) {
        g_signal_handlers_disconnect_by_data(self->machine, self);
        rs_display_set_machine(self->display, NULL);
    }
    g_clear_object(&self->machine);
    gtk_widget_dispose_template(GTK_WIDGET(object), RS_TYPE_CONSOLE);
    G_OBJECT_CLASS(rs_console_parent_class)->dispose(object);
}

static void rs_console_get_property(GObject *object, guint id, GValue *value, GParamSpec *pspec)
{
    if (id == PROP_RESIZE_GUEST) {
        g_value_set_boolean(value, RS_CONSOLE(object)->resize_guest);
    } else {
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
    }
}

static void rs_console_set_property(GObject *object, guint id, const GValue *value,
                                    GParamSpec *pspec)
{
    if (id == PROP_RESIZE_GUEST) {
        RS_CONSOLE(object)->resize_guest = g_value_get_boolean(value);
        update_guest_size(RS_CONSOLE(object));
    } else {
        G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
    }
}

static void bind_children(GtkWidgetClass *widget_class)
{
#define CHILD(name) gtk_widget_class_bind_template_child(widget_class, RsConsole, name)
    CHILD(header);
    CHILD(status_bar);
    CHILD(start_button);
    CHILD(pause_button);
    CHILD(resume_button);
    CHILD(message_bar);
    CHILD(restore_button);
    CHILD(reveal_bar);
    CHILD(title);
    CHILD(full_title);
    CHILD(toasts);
    CHILD(stack);
    CHILD(off_page);
    CHILD(view);
    CHILD(display);
    CHILD(message);
    CHILD(hint);
    CHILD(engine);
    CHILD(engine_reason);
    CHILD(menu_button);
    CHILD(usb_button);
    CHILD(full_usb_button);
#undef CHILD
}

static void rs_console_class_init(RsConsoleClass *klass)
{
    GtkWidgetClass *widget_class = GTK_WIDGET_CLASS(klass);

    g_type_ensure(RS_TYPE_DISPLAY);
    g_type_ensure(RS_TYPE_USB_BUTTON);
    G_OBJECT_CLASS(klass)->dispose = rs_console_dispose;
    G_OBJECT_CLASS(klass)->get_property = rs_console_get_property;
    G_OBJECT_CLASS(klass)->set_property = rs_console_set_property;
    g_object_class_install_property(
        G_OBJECT_CLASS(klass), PROP_RESIZE_GUEST,
        g_param_spec_boolean("resize-guest", NULL, NULL, FALSE,
                             G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS));
    GTK_WINDOW_CLASS(klass)->close_request = close_request;
    gtk_widget_class_set_template_from_resource(widget_class,
                                                "/org/ringside/Ringside/ui/console.ui");
    bind_children(widget_class);
    gtk_widget_class_install_action(widget_class, "win.send-keys", "s", send_keys);
    gtk_widget_class_install_action(widget_class, "win.screenshot", NULL, take_screenshot);
    gtk_widget_class_install_action(widget_class, "win.fullscreen", NULL, toggle_fullscreen);
    gtk_widget_class_install_property_action(widget_class, "win.resize-guest", "resize-guest");
    gtk_widget_class_install_action(widget_class, "win.menu", NULL, show_menu);
}

static void connect_signals(RsConsole *self)
{
    GtkEventController *motion = gtk_event_controller_motion_new();

    g_signal_connect(self, "notify::application", G_CALLBACK(add_key_controller), NULL);
    g_signal_connect(self, "notify::is-active", G_CALLBACK(activity_changed), NULL);
    g_signal_connect(self, "notify::fullscreened", G_CALLBACK(fullscreen_changed), NULL);
    g_signal_connect(self, "notify::focus-widget", G_CALLBACK(focus_changed), NULL);
    g_signal_connect_object(self->display, "release", G_CALLBACK(keyboard_released), self,
                            G_CONNECT_SWAPPED);
    g_signal_connect_object(self->display, "notify::pointer-captured", G_CALLBACK(update_hint),
                            self, G_CONNECT_SWAPPED);
    gtk_event_controller_set_propagation_phase(motion, GTK_PHASE_CAPTURE);
    g_signal_connect_swapped(motion, "motion", G_CALLBACK(pointer_moved), self);
    gtk_widget_add_controller(GTK_WIDGET(self), motion);
}

static void rs_console_init(RsConsole *self)
{
    GSettings *settings = rs_application_get_settings(rs_application_get());
    g_autoptr(GAction) scaling = g_settings_create_action(settings, "scaling");

    gtk_widget_init_template(GTK_WIDGET(self));
    g_action_map_add_action(G_ACTION_MAP(self), scaling);
    connect_signals(self);
    g_signal_connect_object(settings, "changed::scaling", G_CALLBACK(scaling_changed), self,
                            G_CONNECT_SWAPPED);
    scaling_changed(self);
    g_settings_bind(settings, "resize-guest", self, "resize-guest",
                    G_SETTINGS_BIND_DEFAULT | G_SETTINGS_BIND_NO_SENSITIVITY);
}

RsConsole *rs_console_new(RsApplication *application, RsMachine *machine)
{
    RsConsole *self = g_object_new(RS_TYPE_CONSOLE, "application", application, NULL);
    g_autoptr(GSimpleActionGroup) group = rs_machine_actions_new(machine);

    self->machine = g_object_ref(machine);
    gtk_widget_insert_action_group(GTK_WIDGET(self), "machine", G_ACTION_GROUP(group));
    rs_display_set_machine(self->display, machine);
    rs_usb_button_set_machine(self->usb_button, rs_application_get_usb(application), machine);
    rs_usb_button_set_machine(self->full_usb_button, rs_application_get_usb(application), machine);
    g_signal_connect_swapped(machine, "notify", G_CALLBACK(update_state), self);
    g_signal_connect_swapped(machine, "notify::engine", G_CALLBACK(update_engine), self);
    g_signal_connect_swapped(machine, "notify::can-resize", G_CALLBACK(can_resize_changed), self);
    g_signal_connect_swapped(self->view, "map", G_CALLBACK(fit_when_shown), self);
    fit_at_first(self);
    self->guest_size = rs_guest_size_new(machine, self->view);
    update_guest_size(self);
    update_state(self);
    update_engine(self);
    can_resize_changed(self);
    return self;
}
