/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboard"): scan code sets 1
 * and 2; set 3 is accepted and sends set 2. Host typematic is the client's, so none is made here.
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "ps2.h"

#define EXTENDED 0x100u
#define ACK      0xfau
#define RESEND   0xfeu

/* evdev key -> set 2 code. */
static const uint16_t set2[256] = {
    [1] = 0x76,
    [2] = 0x16,
    [3] = 0x1e,
    [4] = 0x26,
    [5] = 0x25,
    [6] = 0x2e,
    [7] = 0x36,
    [8] = 0x3d,
    [9] = 0x3e,
    [10] = 0x46,
    [11] = 0x45,
    [12] = 0x4e,
    [13] = 0x55,
    [14] = 0x66,
    [15] = 0x0d,
    [16] = 0x15,
    [17] = 0x1d,
    [18] = 0x24,
    [19] = 0x2d,
    [20] = 0x2c,
    [21] = 0x35,
    [22] = 0x3c,
    [23] = 0x43,
    [24] = 0x44,
    [25] = 0x4d,
    [26] = 0x54,
    [27] = 0x5b,
    [28] = 0x5a,
    [29] = 0x14,
    [30] = 0x1c,
    [31] = 0x1b,
    [32] = 0x23,
    [33] = 0x2b,
    [34] = 0x34,
    [35] = 0x33,
    [36] = 0x3b,
    [37] = 0x42,
    [38] = 0x4b,
    [39] = 0x4c,
    [40] = 0x52,
    [41] = 0x0e,
    [42] = 0x12,
    [43] = 0x5d,
    [44] = 0x1a,
    [45] = 0x22,
    [46] = 0x21,
    [47] = 0x2a,
    [48] = 0x32,
    [49] = 0x31,
    [50] = 0x3a,
    [51] = 0x41,
    [52] = 0x49,
    [53] = 0x4a,
    [54] = 0x59,
    [55] = 0x7c,
    [56] = 0x11,
    [57] = 0x29,
    [58] = 0x58,
    [59] = 0x05,
    [60] = 0x06,
    [61] = 0x04,
    [62] = 0x0c,
    [63] = 0x03,
    [64] = 0x0b,
    [65] = 0x83,
    [66] = 0x0a,
    [67] = 0x01,
    [68] = 0x09,
    [69] = 0x77,
    [70] = 0x7e,
    [71] = 0x6c,
    [72] = 0x75,
    [73] = 0x7d,
    [74] = 0x7b,
    [75] = 0x6b,
    [76] = 0x73,
    [77] = 0x74,
    [78] = 0x79,
    [79] = 0x69,
    [80] = 0x72,
    [81] = 0x7a,
    [82] = 0x70,
    [83] = 0x71,
    [86] = 0x61,
    [87] = 0x78,
    [88] = 0x07,
    [89] = 0x51,
    [90] = 0x63,
    [91] = 0x62,
    [92] = 0x64,
    [93] = 0x13,
    [94] = 0x67,
    [95] = 0x27,
    [124] = 0x6a,
    [96] = EXTENDED | 0x5a,
    [97] = EXTENDED | 0x14,
    [98] = EXTENDED | 0x4a,
    [100] = EXTENDED | 0x11,
    [102] = EXTENDED | 0x6c,
    [103] = EXTENDED | 0x75,
    [104] = EXTENDED | 0x7d,
    [105] = EXTENDED | 0x6b,
    [106] = EXTENDED | 0x74,
    [107] = EXTENDED | 0x69,
    [108] = EXTENDED | 0x72,
    [109] = EXTENDED | 0x7a,
    [110] = EXTENDED | 0x70,
    [111] = EXTENDED | 0x71,
    [113] = EXTENDED | 0x23,
    [114] = EXTENDED | 0x21,
    [115] = EXTENDED | 0x32,
    [116] = EXTENDED | 0x37,
    [125] = EXTENDED | 0x1f,
    [126] = EXTENDED | 0x27,
    [127] = EXTENDED | 0x2f,
    [140] = EXTENDED | 0x2b,
    [142] = EXTENDED | 0x3f,
    [155] = EXTENDED | 0x48,
    [163] = EXTENDED | 0x4d,
    [164] = EXTENDED | 0x34,
    [165] = EXTENDED | 0x15,
    [166] = EXTENDED | 0x3b,
    [172] = EXTENDED | 0x3a,
};

/* Set 2 -> set 1, as the controller translates (and a keyboard in set 1 sends): the code at
 * 00h-83h. */
static const uint8_t set1_of[0x84] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41};

uint8_t ps2_set1_of(uint8_t code)
{
    return code < sizeof set1_of ? set1_of[code] : code;
}

bool ps2_pop(struct ps2_queue *q, uint8_t *byte)
{
    if (!q->count) {
        return false;
    }
    *byte = q->bytes[q->head];
    q->head = (uint16_t)((q->head + 1) % PS2_QUEUE);
    q->count--;
    return true;
}

/* All or nothing, so that no half key or packet gets in. */
void ps2_push(struct ps2_queue *q, const uint8_t *bytes, unsigned n)
{
    if (q->count + n > PS2_QUEUE) {
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        q->bytes[(q->head + q->count++) % PS2_QUEUE] = bytes[i];
    }
}

static void keyboard_send(struct ps2_keyboard *k, uint8_t byte)
{
    ps2_push(&k->queue, &byte, 1);
}

static void keyboard_defaults(struct ps2_keyboard *k)
{
    k->set = 2;
    k->typematic = 0x2b;
    k->scanning = true;
    k->command = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    memset(k, 0, sizeof *k);
    keyboard_defaults(k);
}

static void keyboard_argument(struct ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->command;

    k->command = 0;
    keyboard_send(k, ACK);
    if (command == 0xed) {
        k->leds = byte & 7;
    } else if (command == 0xf3) {
        k->typematic = byte & 0x7f;
    } else if (command == 0xf0 && byte == 0) {
        keyboard_send(k, k->set);
    } else if (command == 0xf0 && byte <= 3) {
        k->set = byte;
    }
}

static void keyboard_command(struct ps2_keyboard *k, uint8_t byte)
{
    static const uint8_t identity[] = {ACK, 0xab, 0x83}, passed[] = {ACK, 0xaa};

    switch (byte) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* typematic rate */
        k->command = byte;
        keyboard_send(k, ACK);
        break;
    case 0xee: /* echo */
        keyboard_send(k, 0xee);
        break;
    case 0xf2:
        ps2_push(&k->queue, identity, sizeof identity);
        break;
    case 0xf4:
        k->scanning = true;
        k->queue.count = 0;
        keyboard_send(k, ACK);
        break;
    case 0xf5:
    case 0xf6:
        keyboard_defaults(k);
        k->scanning = byte == 0xf6;
        k->queue.count = 0;
        keyboard_send(k, ACK);
        break;
    case 0xff:
        ps2_keyboard_reset(k);
        ps2_push(&k->queue, passed, sizeof passed);
        break;
    default:
        keyboard_send(k, byte >= 0xf7 && byte <= 0xfd ? ACK : RESEND);
        break;
    }
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
    if (k->command && byte < 0xed) {
        keyboard_argument(k, byte);
    } else {
        k->command = 0;
        keyboard_command(k, byte);
    }
}

static void keyboard_key_bytes(struct ps2_keyboard *k, uint16_t code, bool down)
{
    uint8_t bytes[3];
    unsigned n = 0;

    if (code & EXTENDED) {
        bytes[n++] = 0xe0;
    }
    if (k->set == 1) {
        bytes[n++] = ps2_set1_of((uint8_t)code) | (down ? 0 : 0x80);
    } else {
        if (!down) {
            bytes[n++] = 0xf0;
        }
        bytes[n++] = (uint8_t)code;
    }
    ps2_push(&k->queue, bytes, n);
}

/* PrintScreen is two keys to the guest; Pause sends make and break at once and nothing on release.
 */
static void keyboard_special(struct ps2_keyboard *k, uint32_t code, bool down)
{
    static const uint8_t pause1[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    static const uint8_t pause2[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};

    if (code == KEY_SYSRQ) {
        keyboard_key_bytes(k, EXTENDED | (down ? 0x12 : 0x7c), down);
        keyboard_key_bytes(k, EXTENDED | (down ? 0x7c : 0x12), down);
    } else if (down && k->set == 1) {
        ps2_push(&k->queue, pause1, sizeof pause1);
    } else if (down) {
        ps2_push(&k->queue, pause2, sizeof pause2);
    }
}

void ps2_keyboard_key(struct ps2_keyboard *k, uint32_t code, bool down)
{
    if (!k->scanning || code >= 256) {
        return;
    }
    if (code == KEY_SYSRQ || code == KEY_PAUSE) {
        keyboard_special(k, code, down);
    } else if (set2[code]) {
        keyboard_key_bytes(k, set2[code], down);
    }
}

void ps2_queue_state(struct ps2_queue *q, struct state *s)
{
    state_bytes(s, "queue", q->bytes, sizeof q->bytes);
    state_u16(s, "queue_head", &q->head);
    state_u16(s, "queue_count", &q->count);
    if (q->head >= PS2_QUEUE || q->count > PS2_QUEUE) {
        state_fail(s, "queue_count", "is out of range");
        q->head = q->count = 0;
    }
}

void ps2_keyboard_state(struct ps2_keyboard *k, struct state *s)
{
    ps2_queue_state(&k->queue, s);
    state_u8(s, "command", &k->command);
    state_u8(s, "set", &k->set);
    state_u8(s, "leds", &k->leds);
    state_u8(s, "typematic", &k->typematic);
    state_bool(s, "scanning", &k->scanning);
}
