/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Game controllers: each one that is connected to this computer is a game pad in the machine as
 * long as the viewer is open, and at rest while the viewer has not the keyboard. Where a button is
 * counts, not what is written on it.
 */
#include "rs-machine-pad.h"
#include "viewer.h"

#define PADS           4u  /* a machine has no more */
#define POLL_MS        4   /* SDL has no descriptor for controllers */
#define POLL_SLOWLY_MS 500 /* to see that one is connected */
#define NOTICE_SECONDS 10

typedef struct {
    SDL_GameController *controller; /* NULL: the place is free */
    SDL_JoystickID id;
    int number; /* in the machine, -1: not plugged in */
    bool asked; /* to be plugged in; a refusal stays */
    bool moved; /* not yet told */
    unsigned directions;
    RsPad state;
} Pad;

struct _Pads {
    Pad pad[PADS];
};

typedef struct {
    Viewer *v;
    SDL_JoystickID id;
} Plugging;

/* Linux's codes, less BTN_GAMEPAD; -1: a direction, or none that a pad has. */
static const int8_t bits[SDL_CONTROLLER_BUTTON_MAX] = {
    [SDL_CONTROLLER_BUTTON_A] = 0,
    [SDL_CONTROLLER_BUTTON_B] = 1,
    [SDL_CONTROLLER_BUTTON_X] = 4,
    [SDL_CONTROLLER_BUTTON_Y] = 3,
    [SDL_CONTROLLER_BUTTON_BACK] = 10,
    [SDL_CONTROLLER_BUTTON_GUIDE] = 12,
    [SDL_CONTROLLER_BUTTON_START] = 11,
    [SDL_CONTROLLER_BUTTON_LEFTSTICK] = 13,
    [SDL_CONTROLLER_BUTTON_RIGHTSTICK] = 14,
    [SDL_CONTROLLER_BUTTON_LEFTSHOULDER] = 6,
    [SDL_CONTROLLER_BUTTON_RIGHTSHOULDER] = 7,
    [SDL_CONTROLLER_BUTTON_DPAD_UP... SDL_CONTROLLER_BUTTON_MAX - 1] = -1,
};

/* By up 1, down 2, left 4, right 8: SDL's order. Opposite ones cancel each other. */
static const uint8_t hats[16] = {[1] = 1, [9] = 2, [8] = 3,  [10] = 4, [2] = 5, [6] = 6,
                                 [4] = 7, [5] = 8, [13] = 1, [14] = 5, [7] = 7, [11] = 3};

static Pad *find(Viewer *v, SDL_JoystickID id)
{
    for (unsigned i = 0; v->pads && i < PADS; i++) {
        if (v->pads->pad[i].controller && v->pads->pad[i].id == id) {
            return &v->pads->pad[i];
        }
    }
    return NULL;
}

static bool listens(Viewer *v)
{
    return v->focused && !v->bar_keyboard;
}

static void tell(Viewer *v, Pad *pad)
{
    if (pad->number >= 0 && pad->moved && listens(v)) {
        pad->moved = false;
        rs_machine_set_pad(v->machine, pad->number, &pad->state);
    }
}

/* --- what it is like now --- */

static void set_button(Pad *pad, unsigned button, bool down)
{
    unsigned direction = button - SDL_CONTROLLER_BUTTON_DPAD_UP;

    if (button >= SDL_CONTROLLER_BUTTON_MAX) {
        return;
    }
    if (bits[button] >= 0) {
        unsigned bit = 1u << bits[button];
        pad->state.buttons = down ? pad->state.buttons | bit : pad->state.buttons & ~bit;
    } else if (direction < 4) {
        pad->directions = (pad->directions & ~(1u << direction)) | (unsigned)down << direction;
        pad->state.hat = hats[pad->directions];
    }
    pad->moved = true;
}

/* SDL's axes are in our order. */
static void set_axis(Pad *pad, unsigned axis, int16_t value)
{
    if (axis < RS_PAD_AXES) {
        pad->state.axis[axis] = axis < RS_PAD_LEFT_TRIGGER ? value : MAX(value, 0);
        pad->moved = true;
    }
}

static void read_all(Pad *pad)
{
    for (unsigned i = 0; i < SDL_CONTROLLER_BUTTON_MAX; i++) {
        set_button(pad, i, SDL_GameControllerGetButton(pad->controller, (int)i));
    }
    for (unsigned i = 0; i < RS_PAD_AXES; i++) {
        set_axis(pad, i, SDL_GameControllerGetAxis(pad->controller, (int)i));
    }
}

/* --- in the machine --- */

static void plugged(GObject *object, GAsyncResult *result, gpointer data)
{
    g_autofree Plugging *plugging = data;
    g_autoptr(GError) error = NULL;
    Viewer *v = plugging->v;
    int number = rs_machine_plug_pad_finish(RS_MACHINE(object), result, &error);
    Pad *pad = find(v, plugging->id);

    if (number < 0) {
        picture_notice(v, error->message, NOTICE_SECONDS);
    } else if (!pad) { /* disconnected meanwhile */
        rs_machine_unplug_pad(v->machine, number);
    } else {
        pad->number = number;
        tell(v, pad);
    }
}

void pads_plug(Viewer *v)
{
    for (unsigned i = 0; v->pads && i < PADS && rs_machine_is_connected(v->machine); i++) {
        Pad *pad = &v->pads->pad[i];
        if (pad->controller && pad->number < 0 && !pad->asked) {
            Plugging *plugging = g_new(Plugging, 1);
            *plugging = (Plugging){v, pad->id};
            pad->asked = true;
            rs_machine_plug_pad_async(v->machine, plugged, plugging);
        }
    }
}

/* --- on this computer --- */

static Pad *free_place(Viewer *v)
{
    unsigned i = 0;

    while (i < PADS && v->pads->pad[i].controller) {
        i++;
    }
    return i < PADS ? &v->pads->pad[i] : NULL;
}

/* Opens what is connected and has a place. */
static void look(Viewer *v)
{
    for (int i = 0; i < SDL_NumJoysticks(); i++) {
        Pad *pad = free_place(v);
        if (pad && SDL_IsGameController(i) && !find(v, SDL_JoystickGetDeviceInstanceID(i))) {
            *pad = (Pad){.controller = SDL_GameControllerOpen(i), .number = -1};
            if (pad->controller) {
                pad->id = SDL_JoystickInstanceID(SDL_GameControllerGetJoystick(pad->controller));
                read_all(pad);
            }
        }
    }
    pads_plug(v);
}

static void disconnect(Viewer *v, Pad *pad)
{
    if (pad->number >= 0) {
        rs_machine_unplug_pad(v->machine, pad->number);
    }
    SDL_GameControllerClose(pad->controller);
    *pad = (Pad){0};
}

/* A press and its release are two reports even when they come together. */
static void on_button(Viewer *v, const SDL_ControllerButtonEvent *e)
{
    Pad *pad = find(v, e->which);

    if (pad) {
        tell(v, pad);
        set_button(pad, e->button, e->state == SDL_PRESSED);
        tell(v, pad);
    }
}

void pads_event(Viewer *v, const SDL_Event *e)
{
    Pad *pad;

    switch (e->type) {
    case SDL_CONTROLLERDEVICEADDED:
        look(v);
        break;
    case SDL_CONTROLLERDEVICEREMOVED:
        if ((pad = find(v, e->cdevice.which))) {
            disconnect(v, pad);
            look(v);
        }
        break;
    case SDL_CONTROLLERBUTTONDOWN:
    case SDL_CONTROLLERBUTTONUP:
        on_button(v, &e->cbutton);
        break;
    case SDL_CONTROLLERAXISMOTION:
        if ((pad = find(v, e->caxis.which))) {
            set_axis(pad, e->caxis.axis, e->caxis.value);
        }
        break;
    default:
        break;
    }
}

void pads_tell(Viewer *v)
{
    for (unsigned i = 0; v->pads && i < PADS; i++) {
        tell(v, &v->pads->pad[i]);
    }
}

void pads_take(Viewer *v)
{
    for (unsigned i = 0; v->pads && i < PADS; i++) {
        if (v->pads->pad[i].controller) {
            read_all(&v->pads->pad[i]);
        }
    }
    pads_tell(v);
}

int pads_poll_ms(Viewer *v)
{
    if (!v->pads) {
        return -1;
    }
    for (unsigned i = 0; i < PADS && listens(v); i++) {
        if (v->pads->pad[i].controller) {
            return POLL_MS;
        }
    }
    return POLL_SLOWLY_MS;
}

/* SDL's own drivers for some controllers are left out: they take hold of USB devices. */
void pads_open(Viewer *v)
{
    SDL_SetHint(SDL_HINT_JOYSTICK_HIDAPI, "0");
    SDL_SetHint(SDL_HINT_JOYSTICK_ALLOW_BACKGROUND_EVENTS, "0");
    SDL_SetHint(SDL_HINT_GAMECONTROLLER_USE_BUTTON_LABELS, "0");
    if (SDL_InitSubSystem(SDL_INIT_GAMECONTROLLER) < 0) {
        g_printerr("ringside-viewer: Game controllers cannot be used: %s\n", SDL_GetError());
        return;
    }
    v->pads = g_new0(Pads, 1);
    look(v);
}

void pads_close(Viewer *v)
{
    for (unsigned i = 0; v->pads && i < PADS; i++) {
        if (v->pads->pad[i].controller) {
            disconnect(v, &v->pads->pad[i]);
        }
    }
    g_clear_pointer(&v->pads, g_free);
}
