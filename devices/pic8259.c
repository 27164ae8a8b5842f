/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8259A (order 231468-003), cascaded as in a PC/AT, with the ICH9's ELCR (ICH9
 * datasheet 13.4). The 8080 mode and the buffered mode are accepted and ignored.
 */
#include "pic8259.h"

struct chip {
    uint8_t irr, isr, imr, lines, elcr;
    uint8_t base;   /* ICW2 */
    uint8_t lowest; /* priority: this level is the lowest */
    uint8_t init;   /* next ICW expected: 0 none, 2, 3, 4 */
    bool need_icw4, auto_eoi, rotate_aeoi, special_mask, special_nested, read_isr, poll;
};

struct pic {
    struct chip chip[2]; /* master, slave */
    struct irq intr;
};

/* Position of the highest-priority bit in `bits`, as distance from the highest level; 8: none. */
static unsigned chip_rank(const struct chip *c, uint8_t bits)
{
    for (unsigned rank = 0; rank < 8; rank++) {
        if (bits & (1u << ((c->lowest + 1 + rank) & 7))) {
            return rank;
        }
    }
    return 8;
}

/* The level to present now, or -1. */
static int chip_request(const struct chip *c, bool master)
{
    unsigned rank = chip_rank(c, c->irr & (uint8_t)~c->imr);
    uint8_t in_service = c->isr;

    if (rank == 8) {
        return -1;
    }
    if (c->special_mask) {
        in_service &= (uint8_t)~c->imr;
    }
    if (master && c->special_nested) {
        in_service &= (uint8_t)~4u;
    }
    return rank < chip_rank(c, in_service) ? (int)((c->lowest + 1 + rank) & 7) : -1;
}

static void chip_line(struct chip *c, unsigned n, bool level)
{
    uint8_t bit = (uint8_t)(1u << n);

    if (c->elcr & bit) {
        c->irr = level ? c->irr | bit : c->irr & (uint8_t)~bit;
    } else if (level && !(c->lines & bit)) {
        c->irr |= bit;
    } else if (!level) {
        c->irr &= (uint8_t)~bit; /* the request latch follows the line down until acknowledged */
    }
    c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
}

static void pic_update(struct pic *pic)
{
    chip_line(&pic->chip[0], 2, chip_request(&pic->chip[1], false) >= 0);
    irq_set(&pic->intr, chip_request(&pic->chip[0], true) >= 0);
}

void pic_set_irq(void *dev, unsigned n, bool level)
{
    struct pic *pic = dev;

    if (n < 16 && n != 2) {
        chip_line(&pic->chip[n >> 3], n & 7, level);
        pic_update(pic);
    }
}

static void chip_take(struct chip *c, unsigned n)
{
    uint8_t bit = (uint8_t)(1u << n);

    if (!(c->elcr & bit)) {
        c->irr &= (uint8_t)~bit;
    }
    if (!c->auto_eoi) {
        c->isr |= bit;
    } else if (c->rotate_aeoi) {
        c->lowest = (uint8_t)n;
    }
}

int pic_acknowledge(void *dev)
{
    struct pic *pic = dev;
    int n = chip_request(&pic->chip[0], true), vector;

    if (n < 0) {
        return pic->chip[0].base + 7; /* spurious */
    }
    chip_take(&pic->chip[0], (unsigned)n);
    vector = pic->chip[0].base + n;
    if (n == 2) {
        int slave = chip_request(&pic->chip[1], false);
        if (slave >= 0) {
            chip_take(&pic->chip[1], (unsigned)slave);
        }
        vector = pic->chip[1].base + (slave >= 0 ? slave : 7);
        pic->chip[0].lines &= (uint8_t)~4u; /* a further request makes a new edge */
    }
    pic_update(pic);
    return vector;
}

static void chip_init(struct chip *c, uint8_t icw1)
{
    uint8_t elcr = c->elcr, lines = c->lines;

    *c = (struct chip){.elcr = elcr, .lines = lines, .lowest = 7, .init = 2};
    c->need_icw4 = icw1 & 1;
    c->irr = lines & elcr;
}

static void chip_eoi(struct chip *c, uint8_t ocw2)
{
    unsigned n = ocw2 & 7;
    bool rotate = ocw2 & 0x80, specific = ocw2 & 0x40, eoi = ocw2 & 0x20;

    if (!eoi) {
        if (specific && rotate) {
            c->lowest = (uint8_t)n;
        } else if (!specific) {
            c->rotate_aeoi = rotate;
        }
        return;
    }
    if (!specific) {
        unsigned rank = chip_rank(c, c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr);
        if (rank == 8) {
            return;
        }
        n = (c->lowest + 1 + rank) & 7;
    }
    c->isr &= (uint8_t) ~(1u << n);
    if (rotate) {
        c->lowest = (uint8_t)n;
    }
}

static void chip_write_command(struct chip *c, uint8_t value)
{
    if (value & 0x10) {
        chip_init(c, value);
    } else if (value & 8) {
        if (value & 2) {
            c->read_isr = value & 1;
        }
        c->poll = value & 4;
        if (value & 0x40) {
            c->special_mask = value & 0x20;
        }
    } else {
        chip_eoi(c, value);
    }
}

static void chip_write_data(struct chip *c, uint8_t value)
{
    switch (c->init) {
    case 2:
        c->base = value & 0xf8;
        c->init = 3;
        break;
    case 3:
        c->init = c->need_icw4 ? 4 : 0;
        break;
    case 4:
        c->special_nested = value & 0x10;
        c->auto_eoi = value & 2;
        c->init = 0;
        break;
    default:
        c->imr = value;
    }
}

static uint8_t pic_poll(struct pic *pic, unsigned which)
{
    struct chip *c = &pic->chip[which];
    int n = chip_request(c, which == 0);

    c->poll = false;
    if (n < 0) {
        return 0;
    }
    chip_take(c, (unsigned)n);
    return (uint8_t)(0x80 | n);
}

static uint64_t pic_read(struct pic *pic, unsigned which, uint64_t addr)
{
    struct chip *c = &pic->chip[which];

    if (c->poll) {
        uint8_t value = pic_poll(pic, which);
        pic_update(pic);
        return value;
    }
    return addr ? c->imr : c->read_isr ? c->isr : c->irr;
}

static void pic_write(struct pic *pic, unsigned which, uint64_t addr, uint64_t value)
{
    if (addr) {
        chip_write_data(&pic->chip[which], (uint8_t)value);
    } else {
        chip_write_command(&pic->chip[which], (uint8_t)value);
    }
    pic_update(pic);
}

static uint64_t master_read(void *dev, uint64_t addr, unsigned size)
{
    return pic_read(dev, 0, addr);
}

static void master_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    pic_write(dev, 0, addr, value);
}

static uint64_t slave_read(void *dev, uint64_t addr, unsigned size)
{
    return pic_read(dev, 1, addr);
}

static void slave_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    pic_write(dev, 1, addr, value);
}

static uint64_t elcr_read(void *dev, uint64_t addr, unsigned size)
{
    return ((struct pic *)dev)->chip[addr & 1].elcr;
}

static void elcr_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct pic *pic = dev;
    struct chip *c = &pic->chip[addr & 1];

    c->elcr = (uint8_t)value & (addr & 1 ? 0xde : 0xf8);
    c->irr = (c->irr & (uint8_t)~c->elcr) | (c->lines & c->elcr);
    pic_update(pic);
}

static const struct io_ops master_ops = {"pic-master", master_read, master_write, 1, 1};
static const struct io_ops slave_ops = {"pic-slave", slave_read, slave_write, 1, 1};
static const struct io_ops elcr_ops = {"pic-elcr", elcr_read, elcr_write, 1, 1};

static bool pic_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct pic *pic = dev;
    const struct pic_config *c = config;

    pic->intr = c->intr;
    host->map_ports(host->opaque, 0x20, 2, &master_ops, dev);
    host->map_ports(host->opaque, 0xa0, 2, &slave_ops, dev);
    host->map_ports(host->opaque, 0x4d0, 2, &elcr_ops, dev);
    return true;
}

static void pic_reset(void *dev)
{
    struct pic *pic = dev;

    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = pic->chip[i].lines;
        pic->chip[i] = (struct chip){.lowest = 7, .lines = lines};
    }
}

static void pic_reset_lines(void *dev)
{
    pic_update(dev);
}

static void pic_state(void *dev, struct state *s)
{
    struct pic *pic = dev;

    for (unsigned i = 0; i < 2; i++) {
        struct chip *c = &pic->chip[i];
        state_push(s, "chip", i);
        state_u8(s, "irr", &c->irr);
        state_u8(s, "isr", &c->isr);
        state_u8(s, "imr", &c->imr);
        state_u8(s, "lines", &c->lines);
        state_u8(s, "elcr", &c->elcr);
        state_u8(s, "base", &c->base);
        state_u8(s, "lowest", &c->lowest);
        state_u8(s, "init", &c->init);
        state_bool(s, "need_icw4", &c->need_icw4);
        state_bool(s, "auto_eoi", &c->auto_eoi);
        state_bool(s, "rotate_aeoi", &c->rotate_aeoi);
        state_bool(s, "special_mask", &c->special_mask);
        state_bool(s, "special_nested", &c->special_nested);
        state_bool(s, "read_isr", &c->read_isr);
        state_bool(s, "poll", &c->poll);
        state_pop(s);
        c->lowest &= 7;
        c->base &= 0xf8;
    }
}

static bool pic_restored(void *dev, GError **error)
{
    pic_update(dev);
    return true;
}

const struct device_class pic_device = {
    .name = "8259",
    .size = sizeof(struct pic),
    .version = 1,
    .init = pic_init,
    .reset = pic_reset,
    .reset_lines = pic_reset_lines,
    .state = pic_state,
    .restored = pic_restored,
};
