/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keyboard and pointer events on their way from clients to the guest's input devices.
 * Keys are Linux input event codes (KEY_A = 30, linux/input-event-codes.h): hardware keys, no layout.
 *
 * An event goes to the sink that was added last of those that take such events and want them now; a
 * key or button is released where it was pressed.
 * Machine lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct input;

enum { INPUT_BUTTON_LEFT = 1, INPUT_BUTTON_RIGHT = 2, INPUT_BUTTON_MIDDLE = 4, INPUT_BUTTON_SIDE = 8, INPUT_BUTTON_EXTRA = 16 };

/* A game pad's state; such pads come and go, and are no sinks. */
#define INPUT_PADS        4u
#define INPUT_PAD_BUTTONS 0x7cdbu /* bit n: BTN_GAMEPAD + n, without C, Z, TL2 and TR2 */
enum { INPUT_PAD_LEFT_TRIGGER = 4, INPUT_PAD_RIGHT_TRIGGER, INPUT_PAD_AXES };

struct input_pad {
    uint16_t buttons;
    uint8_t hat;                  /* 0: centre, 1: up and clockwise to 8 */
    int16_t axis[INPUT_PAD_AXES]; /* sticks: left X, Y, right X, Y; triggers: from 0 on */
};

struct input_sink {
    void (*key)(void *opaque, uint32_t code, bool down);
    /* Relative motion, wheel steps (positive: away from the user), buttons held now. */
    void (*pointer_relative)(void *opaque, int dx, int dy, int wheel, uint32_t buttons);
    /* Absolute position, 0..32767 over the screen; NULL when the device has none. */
    void (*pointer_absolute)(void *opaque, uint32_t x, uint32_t y, int wheel, uint32_t buttons);
    bool (*wants)(void *opaque); /* NULL: always. Call input_changed() when the answer changes */
    void *opaque;
};

struct input *input_new(void);
void input_free(struct input *input);
void input_add_sink(struct input *input, const struct input_sink *sink); /* copied; latest first */
void input_remove_sink(struct input *input, void *opaque);
void input_key(struct input *input, uint32_t code, bool down); /* unknown codes are dropped */
void input_pointer_relative(struct input *input, int dx, int dy, int wheel, uint32_t buttons);
void input_pointer_absolute(struct input *input, uint32_t x, uint32_t y, int wheel, uint32_t buttons);
bool input_has_absolute(const struct input *input);
void input_release_all(struct input *input); /* every key and button that is down */

/* A sink wants events now, or does not any more. */
void input_changed(struct input *input);
/* Called from input_changed(), so in any thread; one listener. */
void input_set_listener(struct input *input, void (*changed)(void *opaque), void *opaque);
