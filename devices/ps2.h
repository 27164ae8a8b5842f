/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two PS/2 devices, each a queue of bytes to the controller and a command interpreter.
 */
#pragma once

#include "state.h"

#define PS2_QUEUE 256u

struct ps2_queue {
    uint8_t bytes[PS2_QUEUE];
    uint16_t head, count;
};

struct ps2_keyboard {
    struct ps2_queue queue;
    uint8_t command; /* waiting for its argument, 0: none */
    uint8_t set;     /* scan code set, 1-3 */
    uint8_t leds, typematic;
    bool scanning;
};

struct ps2_mouse {
    struct ps2_queue queue;
    uint8_t command, rate, resolution, buttons;
    uint8_t id;       /* 0, 3 (wheel), 4 (five buttons) */
    uint8_t knock[3]; /* last sample rates set */
    bool scaling, remote, wrap, reporting;
    int32_t dx, dy, wheel; /* not reported yet */
};

bool ps2_pop(struct ps2_queue *queue, uint8_t *byte);
void ps2_push(struct ps2_queue *queue, const uint8_t *bytes, unsigned n);
void ps2_queue_state(struct ps2_queue *queue, struct state *s);
uint8_t ps2_set1_of(uint8_t code); /* the controller's translation of set 2 */

void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
void ps2_keyboard_key(struct ps2_keyboard *k, uint32_t code, bool down); /* evdev code */
void ps2_keyboard_state(struct ps2_keyboard *k, struct state *s);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int wheel, uint32_t buttons);
void ps2_mouse_report(struct ps2_mouse *m); /* queues a packet when there is something and room */
void ps2_mouse_state(struct ps2_mouse *m, struct state *s);
