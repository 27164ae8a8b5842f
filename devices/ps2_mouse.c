/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Auxiliary device") with the
 * IntelliMouse wheel (sample rates 200, 100, 80) and the five-button Explorer (200, 200, 80)
 * extensions.
 */
#include <glib.h>
#include <string.h>

#include "input.h"
#include "ps2.h"

#define ACK         0xfau
#define NACK        0xfeu
#define MOTION_MAX  (1 << 20)
#define QUEUE_LIMIT 64u /* packets wait as sums, not in the queue */

static void mouse_send(struct ps2_mouse *m, uint8_t byte)
{
    ps2_push(&m->queue, &byte, 1);
}

static void mouse_defaults(struct ps2_mouse *m)
{
    m->rate = 100;
    m->resolution = 2;
    m->scaling = m->remote = m->wrap = m->reporting = false;
    m->dx = m->dy = m->wheel = 0;
    m->command = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    memset(m, 0, sizeof *m);
    mouse_defaults(m);
}

static uint8_t mouse_buttons(const struct ps2_mouse *m)
{
    return m->buttons & 7;
}

static int take(int32_t *sum, int low, int high)
{
    int n = CLAMP(*sum, low, high);

    *sum -= n;
    return n;
}

static void mouse_packet(struct ps2_mouse *m)
{
    int dx = take(&m->dx, -255, 255), dy = take(&m->dy, -255, 255);
    uint8_t p[4] = {(uint8_t)(8 | mouse_buttons(m) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)),
                    (uint8_t)dx, (uint8_t)dy, 0};

    if (m->id == 3) {
        p[3] = (uint8_t)take(&m->wheel, -127, 127);
    } else if (m->id == 4) {
        p[3] = (uint8_t)((take(&m->wheel, -7, 7) & 15) | (m->buttons & 0x18) << 1);
    } else {
        m->wheel = 0;
    }
    ps2_push(&m->queue, p, m->id ? 4 : 3);
}

void ps2_mouse_report(struct ps2_mouse *m)
{
    while (m->reporting && !m->remote && m->queue.count < QUEUE_LIMIT &&
           (m->dx || m->dy || m->wheel)) {
        mouse_packet(m);
    }
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int wheel, uint32_t buttons)
{
    bool changed = (buttons & 0x1f) != m->buttons;

    m->buttons = buttons & 0x1f;
    if (!m->reporting && !m->remote) {
        return;
    }
    /* The screen's y grows downwards, the mouse's upwards; its wheel downwards. */
    m->dx = CLAMP(m->dx + CLAMP(dx, -32768, 32767), -MOTION_MAX, MOTION_MAX);
    m->dy = CLAMP(m->dy - CLAMP(dy, -32768, 32767), -MOTION_MAX, MOTION_MAX);
    m->wheel = CLAMP(m->wheel - CLAMP(wheel, -128, 127), -1024, 1024);
    if (changed && m->reporting && !m->remote) {
        mouse_packet(m);
    }
    ps2_mouse_report(m);
}

static void mouse_set_rate(struct ps2_mouse *m, uint8_t rate)
{
    m->rate = rate;
    m->knock[0] = m->knock[1];
    m->knock[1] = m->knock[2];
    m->knock[2] = rate;
    if (m->knock[0] == 200 && m->knock[2] == 80) {
        if (m->knock[1] == 100) {
            m->id = 3;
        } else if (m->knock[1] == 200) {
            m->id = 4;
        }
    }
}

static void mouse_status(struct ps2_mouse *m)
{
    uint8_t b = m->buttons;
    uint8_t p[3] = {(uint8_t)((b & INPUT_BUTTON_RIGHT ? 1 : 0) | (b & INPUT_BUTTON_MIDDLE ? 2 : 0) |
                              (b & INPUT_BUTTON_LEFT ? 4 : 0) | (m->scaling ? 0x10 : 0) |
                              (m->reporting ? 0x20 : 0) | (m->remote ? 0x40 : 0)),
                    m->resolution, m->rate};

    ps2_push(&m->queue, p, sizeof p);
}

/* Commands that are done with their acknowledge. False: not such a one. */
static bool mouse_simple_command(struct ps2_mouse *m, uint8_t byte)
{
    switch (byte) {
    case 0xe6:
    case 0xe7:
        m->scaling = byte == 0xe7;
        return true;
    case 0xea:
    case 0xf0:
        m->remote = byte == 0xf0;
        return true;
    case 0xec:
    case 0xee:
        m->wrap = byte == 0xee;
        return true;
    case 0xf4:
    case 0xf5:
        m->reporting = byte == 0xf4;
        return true;
    case 0xf6:
        mouse_defaults(m);
        return true;
    default:
        return false;
    }
}

static void mouse_command(struct ps2_mouse *m, uint8_t byte)
{
    if (mouse_simple_command(m, byte)) {
        mouse_send(m, ACK);
        return;
    }
    switch (byte) {
    case 0xe8:
    case 0xf3:
        m->command = byte;
        mouse_send(m, ACK);
        break;
    case 0xe9:
        mouse_send(m, ACK);
        mouse_status(m);
        break;
    case 0xeb:
        mouse_send(m, ACK);
        mouse_packet(m);
        break;
    case 0xf2:
        mouse_send(m, ACK);
        mouse_send(m, m->id);
        break;
    case 0xff:
        ps2_mouse_reset(m);
        mouse_send(m, ACK);
        mouse_send(m, 0xaa);
        mouse_send(m, 0x00);
        break;
    default:
        mouse_send(m, NACK);
        break;
    }
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
    uint8_t command = m->command;

    m->queue.count = 0; /* a command stops what was being sent */
    m->command = 0;
    if (m->wrap && byte != 0xec && byte != 0xff) {
        mouse_send(m, byte);
    } else if (command == 0xf3) {
        mouse_set_rate(m, byte);
        mouse_send(m, ACK);
    } else if (command == 0xe8) {
        m->resolution = byte & 3;
        mouse_send(m, ACK);
    } else {
        mouse_command(m, byte);
    }
}

void ps2_mouse_state(struct ps2_mouse *m, struct state *s)
{
    uint32_t dx = (uint32_t)m->dx, dy = (uint32_t)m->dy, wheel = (uint32_t)m->wheel;

    ps2_queue_state(&m->queue, s);
    state_u8(s, "command", &m->command);
    state_u8(s, "rate", &m->rate);
    state_u8(s, "resolution", &m->resolution);
    state_u8(s, "buttons", &m->buttons);
    state_u8(s, "id", &m->id);
    state_bytes(s, "knock", m->knock, sizeof m->knock);
    state_bool(s, "scaling", &m->scaling);
    state_bool(s, "remote", &m->remote);
    state_bool(s, "wrap", &m->wrap);
    state_bool(s, "reporting", &m->reporting);
    state_u32(s, "dx", &dx);
    state_u32(s, "dy", &dy);
    state_u32(s, "wheel", &wheel);
    m->dx = CLAMP((int32_t)dx, -MOTION_MAX, MOTION_MAX);
    m->dy = CLAMP((int32_t)dy, -MOTION_MAX, MOTION_MAX);
    m->wheel = CLAMP((int32_t)wheel, -1024, 1024);
}
