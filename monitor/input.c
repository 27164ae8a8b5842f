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
    uint32_t relative_buttons, absolute_buttons; /* held, by how they were pressed */
    uint32_t x, y;                               /* of the last absolute event */
    void *down[KEYS];                            /* the opaque of the sink that knows of it */
    void (*changed)(void *opaque);
    void *changed_opaque;
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
        input_changed(input);
    }
}

void input_remove_sink(struct input *input, void *opaque)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].opaque != opaque) {
            input->sinks[kept++] = input->sinks[i];
        }
    }
    input->count = kept;
    input_changed(input);
}

void input_changed(struct input *input)
{
    if (input->changed) {
        input->changed(input->changed_opaque);
    }
}

void input_set_listener(struct input *input, void (*changed)(void *opaque), void *opaque)
{
    input->changed = changed;
    input->changed_opaque = opaque;
}

static bool wants(const struct input_sink *sink)
{
    return !sink->wants || sink->wants(sink->opaque);
}

static const struct input_sink *key_sink(struct input *input, uint32_t code, bool down)
{
    for (unsigned i = 0; i < input->count; i++) {
        const struct input_sink *sink = &input->sinks[i];
        if (!sink->key) {
            continue;
        }
        if (input->down[code] ? sink->opaque == input->down[code] : down && wants(sink)) {
            return sink;
        }
    }
    return NULL;
}

void input_key(struct input *input, uint32_t code, bool down)
{
    const struct input_sink *sink;

    if (code == 0 || code >= KEYS) {
        return;
    }
    sink = key_sink(input, code, down);
    if (sink) {
        sink->key(sink->opaque, code, down);
    }
    input->down[code] = down && sink ? sink->opaque : NULL;
}

static void relative_send(struct input *input, int dx, int dy, int wheel, uint32_t buttons)
{
    input->relative_buttons = buttons;
    for (unsigned i = 0; i < input->count; i++) {
        const struct input_sink *sink = &input->sinks[i];
        if (sink->pointer_relative && wants(sink)) {
            sink->pointer_relative(sink->opaque, dx, dy, wheel, buttons);
            return;
        }
    }
}

static void absolute_send(struct input *input, uint32_t x, uint32_t y, int wheel, uint32_t buttons)
{
    input->x = MIN(x, 32767);
    input->y = MIN(y, 32767);
    input->absolute_buttons = buttons;
    for (unsigned i = 0; i < input->count; i++) {
        const struct input_sink *sink = &input->sinks[i];
        if (sink->pointer_absolute && wants(sink)) {
            sink->pointer_absolute(sink->opaque, input->x, input->y, wheel, buttons);
            return;
        }
    }
}

void input_pointer_relative(struct input *input, int dx, int dy, int wheel, uint32_t buttons)
{
    uint32_t held = input->absolute_buttons;

    if (held & ~buttons) {
        absolute_send(input, input->x, input->y, 0, held & buttons);
    }
    relative_send(input, dx, dy, wheel, buttons & ~input->absolute_buttons);
}

void input_pointer_absolute(struct input *input, uint32_t x, uint32_t y, int wheel,
                            uint32_t buttons)
{
    uint32_t held = input->relative_buttons;

    if (held & ~buttons) {
        relative_send(input, 0, 0, 0, held & buttons);
    }
    absolute_send(input, x, y, wheel, buttons & ~input->relative_buttons);
}

bool input_has_absolute(const struct input *input)
{
    for (unsigned i = 0; i < input->count; i++) {
        if (input->sinks[i].pointer_absolute && wants(&input->sinks[i])) {
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
    if (input->relative_buttons || input->absolute_buttons) {
        input_pointer_relative(input, 0, 0, 0, 0);
    }
}
