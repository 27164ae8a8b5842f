/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 8042 as the PS/2's keyboard and auxiliary device controller (IBM PS/2 Hardware Interface
 * Technical Reference).
 *
 * Bytes from the devices wait in their queues until the output buffer is free; commands of the
 * controller answer at once. A20 is always on: the output port only remembers the bit.
 */
#include <string.h>

#include "i8042.h"
#include "ps2.h"

#define STATUS_OBF    0x01u
#define STATUS_SYSTEM 0x04u
#define STATUS_CMD    0x08u
#define STATUS_OPEN   0x10u /* the keyboard lock */
#define STATUS_AUX    0x20u

#define MODE_KBD_IRQ   0x01u
#define MODE_AUX_IRQ   0x02u
#define MODE_SYSTEM    0x04u
#define MODE_KBD_OFF   0x10u
#define MODE_AUX_OFF   0x20u
#define MODE_TRANSLATE 0x40u

struct i8042 {
    struct i8042_config config;
    uint8_t status, mode, command, data, output_port;
    bool broken; /* F0h was translated away: the next code is a release */
    uint8_t ram[32];
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
};

static void i8042_lines(struct i8042 *d)
{
    bool full = d->status & STATUS_OBF, aux = d->status & STATUS_AUX;

    irq_set(&d->config.keyboard, full && !aux && (d->mode & MODE_KBD_IRQ));
    irq_set(&d->config.mouse, full && aux && (d->mode & MODE_AUX_IRQ));
}

static void buffer_put(struct i8042 *d, uint8_t byte, bool aux)
{
    d->data = byte;
    d->status |= STATUS_OBF;
    d->status = aux ? d->status | STATUS_AUX : d->status & (uint8_t)~STATUS_AUX;
}

/* One byte of the keyboard, translated when the mode says so. False: nothing came out. */
static bool keyboard_pop(struct i8042 *d, uint8_t *byte)
{
    while (ps2_pop(&d->keyboard.queue, byte)) {
        if (!(d->mode & MODE_TRANSLATE)) {
            return true;
        }
        if (*byte == 0xf0) {
            d->broken = true;
            continue;
        }
        *byte = ps2_set1_of(*byte) | (d->broken ? 0x80 : 0);
        d->broken = false;
        return true;
    }
    return false;
}

static void i8042_refill(struct i8042 *d)
{
    uint8_t byte;

    if (!(d->status & STATUS_OBF)) {
        if (!(d->mode & MODE_KBD_OFF) && keyboard_pop(d, &byte)) {
            buffer_put(d, byte, false);
        } else if (!(d->mode & MODE_AUX_OFF)) {
            ps2_mouse_report(&d->mouse);
            if (ps2_pop(&d->mouse.queue, &byte)) {
                buffer_put(d, byte, true);
            }
        }
    }
    i8042_lines(d);
}

static void i8042_answer(struct i8042 *d, uint8_t byte)
{
    buffer_put(d, byte, false);
}

static void i8042_write_output_port(struct i8042 *d, uint8_t value)
{
    d->output_port = value;
    if (!(value & 1)) {
        d->config.reset(d->config.opaque);
    }
}

static uint8_t i8042_output_port(const struct i8042 *d)
{
    bool full = d->status & STATUS_OBF, aux = d->status & STATUS_AUX;

    return (uint8_t)((d->output_port & 0xcf) | (full && !aux ? 0x10 : 0) |
                     (full && aux ? 0x20 : 0));
}

static void i8042_command(struct i8042 *d, uint8_t command)
{
    d->command = 0;
    if (command >= 0x20 && command < 0x40) {
        i8042_answer(d, command == 0x20 ? d->mode : d->ram[command & 31]);
        return;
    }
    if ((command >= 0x60 && command < 0x80) || (command >= 0xd1 && command <= 0xd4)) {
        d->command = command; /* wants a byte */
        return;
    }
    switch (command) {
    case 0xa4: /* password: none */
        i8042_answer(d, 0xf1);
        break;
    case 0xa7:
    case 0xa8:
        d->mode = command == 0xa7 ? d->mode | MODE_AUX_OFF : d->mode & (uint8_t)~MODE_AUX_OFF;
        break;
    case 0xa9: /* port tests */
    case 0xab:
        i8042_answer(d, 0);
        break;
    case 0xaa: /* self-test */
        d->status |= STATUS_SYSTEM;
        i8042_answer(d, 0x55);
        break;
    case 0xad:
    case 0xae:
        d->mode = command == 0xad ? d->mode | MODE_KBD_OFF : d->mode & (uint8_t)~MODE_KBD_OFF;
        break;
    case 0xc0:
        i8042_answer(d, 0x80);
        break;
    case 0xd0:
        i8042_answer(d, i8042_output_port(d));
        break;
    case 0xdd:
    case 0xdf:
        d->output_port = command == 0xdf ? d->output_port | 2 : d->output_port & (uint8_t)~2;
        break;
    default:
        if (command >= 0xf0 && !(command & 1)) { /* pulse bit 0 of the output port: reset */
            d->config.reset(d->config.opaque);
        }
        break;
    }
}

static void i8042_argument(struct i8042 *d, uint8_t byte)
{
    uint8_t command = d->command;

    d->command = 0;
    switch (command) {
    case 0:
        d->mode &= (uint8_t)~MODE_KBD_OFF;
        ps2_keyboard_write(&d->keyboard, byte);
        break;
    case 0x60:
        d->mode = byte;
        d->status = byte & MODE_SYSTEM ? d->status | STATUS_SYSTEM : d->status;
        break;
    case 0xd1:
        i8042_write_output_port(d, byte);
        break;
    case 0xd2:
        buffer_put(d, byte, false);
        break;
    case 0xd3:
        buffer_put(d, byte, true);
        break;
    case 0xd4:
        d->mode &= (uint8_t)~MODE_AUX_OFF;
        ps2_mouse_write(&d->mouse, byte);
        break;
    default:
        d->ram[command & 31] = byte;
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t addr, unsigned size)
{
    struct i8042 *d = dev;
    uint8_t byte = d->data;

    d->status &= (uint8_t) ~(STATUS_OBF | STATUS_AUX);
    i8042_lines(d); /* down, so that the next byte makes an edge */
    i8042_refill(d);
    return byte;
}

static void data_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct i8042 *d = dev;

    d->status &= (uint8_t)~STATUS_CMD;
    i8042_argument(d, (uint8_t)value);
    i8042_refill(d);
}

static uint64_t status_read(void *dev, uint64_t addr, unsigned size)
{
    return ((struct i8042 *)dev)->status;
}

static void status_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct i8042 *d = dev;

    d->status |= STATUS_CMD;
    i8042_command(d, (uint8_t)value);
    i8042_refill(d);
}

static const struct io_ops data_ops = {"i8042-data", data_read, data_write, 1, 1};
static const struct io_ops status_ops = {"i8042-status", status_read, status_write, 1, 1};

static void key_event(void *opaque, uint32_t code, bool down)
{
    struct i8042 *d = opaque;

    ps2_keyboard_key(&d->keyboard, code, down);
    i8042_refill(d);
}

static void pointer_event(void *opaque, int dx, int dy, int wheel, uint32_t buttons)
{
    struct i8042 *d = opaque;

    ps2_mouse_move(&d->mouse, dx, dy, wheel, buttons);
    i8042_refill(d);
}

static bool i8042_init(void *dev, const struct device_host *host, const void *config,
                       GError **error)
{
    struct i8042 *d = dev;
    struct input_sink sink = {.key = key_event, .pointer_relative = pointer_event, .opaque = dev};

    d->config = *(const struct i8042_config *)config;
    host->map_ports(host->opaque, 0x60, 1, &data_ops, dev);
    host->map_ports(host->opaque, 0x64, 1, &status_ops, dev);
    if (d->config.input) {
        input_add_sink(d->config.input, &sink);
    }
    return true;
}

static void i8042_reset(void *dev)
{
    struct i8042 *d = dev;

    d->status = STATUS_OPEN;
    d->mode = MODE_KBD_IRQ | MODE_AUX_IRQ | MODE_AUX_OFF | MODE_KBD_OFF | MODE_TRANSLATE;
    d->command = d->data = 0;
    d->output_port = 0xc3;
    d->broken = false;
    memset(d->ram, 0, sizeof d->ram);
    ps2_keyboard_reset(&d->keyboard);
    ps2_mouse_reset(&d->mouse);
}

static void i8042_reset_lines(void *dev)
{
    i8042_lines(dev);
}

static void i8042_state(void *dev, struct state *s)
{
    struct i8042 *d = dev;

    state_u8(s, "status", &d->status);
    state_u8(s, "mode", &d->mode);
    state_u8(s, "command", &d->command);
    state_u8(s, "data", &d->data);
    state_u8(s, "output_port", &d->output_port);
    state_bool(s, "broken", &d->broken);
    state_bytes(s, "ram", d->ram, sizeof d->ram);
    state_push(s, "keyboard", 0);
    ps2_keyboard_state(&d->keyboard, s);
    state_pop(s);
    state_push(s, "mouse", 0);
    ps2_mouse_state(&d->mouse, s);
    state_pop(s);
}

const struct device_class i8042_device = {
    .name = "i8042",
    .size = sizeof(struct i8042),
    .version = 1,
    .init = i8042_init,
    .reset = i8042_reset,
    .reset_lines = i8042_reset_lines,
    .state = i8042_state,
};
