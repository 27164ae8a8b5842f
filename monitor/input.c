/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Passes key and pointer events to the guest's input devices and remembers what is held down.
 */
#include <glib.h>
#include <string.h>

#include "input.h"

#define KEYS  256u
#define SINKS 8u

struct input {
    struct input_sink sinks[SINKS];
    unsigned count;
    uint32_t buttons;
    uint8_t down[KEYS];
};

struct input *input_new(void)
{
    return g_new0(struct input, 1);
}

void input_free(struct input *input)
{
    g_free(input);
}

void input_add_sink(struct input *input, const struct input_sink *sink)
{
    if (input->count < SINKS) {
        memmove(&input->sinks[1], &input->sinks[0], input->count * sizeof *sink);
        input->sinks[0] = *sink;
        input->count++;
    }
}

void input_key(struct input *input, uint32_t code, bool down)
{
    if (code == 0 || code >= KEYS) {
        return;
    }
    input->down[code] = down;
    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].key) {
            input->sinks[i].key(input->sinks[i].opaque, code, down);
            return;
        }
    }
}

void input_pointer_relative(struct input *input, int dx, int dy, int wheel, uint32_t buttons)
{
    input->buttons = buttons;
    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].pointer_relative) {
            input->sinks[i].pointer_relative(input->sinks[i].opaque, dx, dy, wheel, buttons);
            return;
        }
    }
}

void input_pointer_absolute(struct input *input, uint32_t x, uint32_t y, int wheel,
                            uint32_t buttons)
{
    input->buttons = buttons;
    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].pointer_absolute) {
            input->sinks[i].pointer_absolute(input->sinks[i].opaque, MIN(x, 32767), MIN(y, 32767),
                                             wheel, buttons);
            return;
        }
    }
}

bool input_has_absolute(const struct input *input)
{
    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].pointer_absolute) {
            return true;
        }
    }
    return false;
}

void input_release_all(struct input *input)
{
    for (uint32_t code = 1; code < KEYS; code++) {
        if (input->down[code]) {
            input_key(input, code, false);
        }
    }
    if (input->buttons) {
        input_pointer_relative(input, 0, 0, 0, 0);
    }
}
