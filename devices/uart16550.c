/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NS16550A (National Semiconductor PC16550D, 1995): both FIFOs, all interrupts, loop-back.
 * Characters take no time: the transmitter is always empty, and the receive time-out comes at once.
 */
#include "uart16550.h"

#define FIFO_SIZE 16u

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX   0x01u
#define IER_TX   0x02u
#define IER_LINE 0x04u
#define IER_MSR  0x08u

#define IIR_NONE    0x01u
#define IIR_MSR     0x00u
#define IIR_TX      0x02u
#define IIR_RX      0x04u
#define IIR_LINE    0x06u
#define IIR_TIMEOUT 0x0cu

#define FCR_ENABLE 0x01u
#define LCR_DLAB   0x80u
#define MCR_LOOP   0x10u
#define MCR_OUT2   0x08u
#define LSR_DATA   0x01u
#define LSR_OVER   0x02u
#define LSR_EMPTY  0x60u

struct uart {
    struct uart_config config;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    uint8_t fifo[FIFO_SIZE], head, count;
    bool tx_pending;
};

static unsigned fifo_capacity(const struct uart *u)
{
    return u->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned fifo_trigger(const struct uart *u)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};

    return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* The highest-priority interrupt, as IIR shows it. */
static uint8_t uart_interrupt(const struct uart *u)
{
    if ((u->ier & IER_LINE) && (u->lsr & 0x1e)) {
        return IIR_LINE;
    }
    if ((u->ier & IER_RX) && u->count) {
        return u->count >= fifo_trigger(u) ? IIR_RX : IIR_TIMEOUT;
    }
    if ((u->ier & IER_TX) && u->tx_pending) {
        return IIR_TX;
    }
    if ((u->ier & IER_MSR) && (u->msr & 0x0f)) {
        return IIR_MSR;
    }
    return IIR_NONE;
}

static void uart_update(struct uart *u)
{
    irq_set(&u->config.irq, uart_interrupt(u) != IIR_NONE && (u->mcr & MCR_OUT2));
}

static void fifo_push(struct uart *u, uint8_t byte)
{
    if (u->count >= fifo_capacity(u)) {
        u->lsr |= LSR_OVER;
        return;
    }
    u->fifo[(u->head + u->count) % FIFO_SIZE] = byte;
    u->count++;
    u->lsr |= LSR_DATA;
}

static uint8_t fifo_pop(struct uart *u)
{
    uint8_t byte = u->fifo[u->head % FIFO_SIZE];

    if (!u->count) {
        return 0;
    }
    u->head = (u->head + 1) % FIFO_SIZE;
    if (--u->count == 0) {
        u->lsr &= (uint8_t)~LSR_DATA;
    }
    return byte;
}

static void fifo_clear(struct uart *u)
{
    u->head = u->count = 0;
    u->lsr &= (uint8_t) ~(LSR_DATA | LSR_OVER);
}

size_t uart_room(void *dev)
{
    struct uart *u = dev;
    unsigned capacity = fifo_capacity(u);

    return u->mcr & MCR_LOOP || u->count >= capacity ? 0 : capacity - u->count;
}

void uart_receive(void *dev, const uint8_t *bytes, size_t len)
{
    struct uart *u = dev;

    for (size_t i = 0; i < len; i++) {
        fifo_push(u, bytes[i]);
    }
    uart_update(u);
}

static void uart_has_room(struct uart *u)
{
    if (u->config.chardev && uart_room(u)) {
        chardev_accept(u->config.chardev);
    }
}

static uint8_t modem_lines(const struct uart *u)
{
    uint8_t m = u->mcr;

    if (!(m & MCR_LOOP)) {
        return u->config.chardev ? 0xb0 : 0; /* DCD, DSR, CTS */
    }
    return (uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4);
}

static void modem_update(struct uart *u)
{
    uint8_t now = modem_lines(u), changed = (u->msr ^ now) & 0xf0;

    if ((changed & 0x40) && (now & 0x40)) {
        changed &= 0xb0; /* RI counts on its trailing edge only */
    }
    u->msr = now | (u->msr & 0x0f) | changed >> 4;
}

static void uart_transmit(struct uart *u, uint8_t byte)
{
    if (u->mcr & MCR_LOOP) {
        fifo_push(u, byte);
    } else if (u->config.chardev) {
        chardev_write(u->config.chardev, &byte, 1);
    }
    u->tx_pending = true;
}

static void uart_write_fcr(struct uart *u, uint8_t value)
{
    if ((value ^ u->fcr) & FCR_ENABLE || value & 2) {
        fifo_clear(u);
    }
    if (value & 4) {
        u->tx_pending = true;
    }
    u->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

static void uart_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct uart *u = dev;
    uint8_t byte = (uint8_t)value;
    bool dlab = u->lcr & LCR_DLAB;

    switch (addr & 7) {
    case RBR:
        if (dlab) {
            u->dll = byte;
        } else {
            uart_transmit(u, byte);
        }
        break;
    case IER:
        if (dlab) {
            u->dlm = byte;
            break;
        }
        if ((byte & ~u->ier) & IER_TX) {
            u->tx_pending = true;
        }
        u->ier = byte & 0x0f;
        break;
    case IIR:
        uart_write_fcr(u, byte);
        break;
    case LCR:
        u->lcr = byte;
        break;
    case MCR:
        u->mcr = byte & 0x1f;
        modem_update(u);
        break;
    case SCR:
        u->scr = byte;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
    uart_update(u);
    uart_has_room(u);
}

static uint8_t uart_read_rbr(struct uart *u)
{
    uint8_t byte = fifo_pop(u);

    uart_update(u);
    uart_has_room(u);
    return byte;
}

static uint8_t uart_read_iir(struct uart *u)
{
    uint8_t value = uart_interrupt(u);

    if (value == IIR_TX) {
        u->tx_pending = false;
        uart_update(u);
    }
    return value | (u->fcr & FCR_ENABLE ? 0xc0 : 0);
}

static uint8_t uart_read_lsr(struct uart *u)
{
    uint8_t value = u->lsr | LSR_EMPTY;

    u->lsr &= (uint8_t)~0x1e;
    uart_update(u);
    return value;
}

static uint8_t uart_read_msr(struct uart *u)
{
    uint8_t value = u->msr;

    u->msr &= 0xf0;
    uart_update(u);
    return value;
}

static uint64_t uart_read(void *dev, uint64_t addr, unsigned size)
{
    struct uart *u = dev;
    bool dlab = u->lcr & LCR_DLAB;

    switch (addr & 7) {
    case RBR:
        return dlab ? u->dll : uart_read_rbr(u);
    case IER:
        return dlab ? u->dlm : u->ier;
    case IIR:
        return uart_read_iir(u);
    case LCR:
        return u->lcr;
    case MCR:
        return u->mcr;
    case LSR:
        return uart_read_lsr(u);
    case MSR:
        return uart_read_msr(u);
    default:
        return u->scr;
    }
}

static const struct io_ops uart_ops = {"uart", uart_read, uart_write, 1, 1};

static bool uart_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct uart *u = dev;
    struct chardev_receiver receiver = {uart_room, uart_receive, dev};

    u->config = *(const struct uart_config *)config;
    host->map_ports(host->opaque, u->config.port, 8, &uart_ops, dev);
    if (u->config.chardev) {
        chardev_set_receiver(u->config.chardev, &receiver);
    }
    return true;
}

static void uart_reset(void *dev)
{
    struct uart *u = dev;

    u->ier = u->fcr = u->lcr = u->mcr = u->lsr = u->scr = u->dlm = 0;
    u->dll = 12; /* 9600 baud */
    u->head = u->count = 0;
    u->tx_pending = false;
    u->msr = modem_lines(u);
}

static void uart_reset_lines(void *dev)
{
    uart_update(dev);
}

static void uart_state(void *dev, struct state *s)
{
    struct uart *u = dev;

    state_u8(s, "ier", &u->ier);
    state_u8(s, "fcr", &u->fcr);
    state_u8(s, "lcr", &u->lcr);
    state_u8(s, "mcr", &u->mcr);
    state_u8(s, "lsr", &u->lsr);
    state_u8(s, "msr", &u->msr);
    state_u8(s, "scr", &u->scr);
    state_u8(s, "dll", &u->dll);
    state_u8(s, "dlm", &u->dlm);
    state_bytes(s, "fifo", u->fifo, sizeof u->fifo);
    state_u8(s, "head", &u->head);
    state_u8(s, "count", &u->count);
    state_bool(s, "tx_pending", &u->tx_pending);
    if (u->head >= FIFO_SIZE || u->count > FIFO_SIZE) {
        state_fail(s, "count", "is out of range");
        u->head = u->count = 0;
    }
}

const struct device_class uart_device = {
    .name = "16550",
    .size = sizeof(struct uart),
    .version = 1,
    .init = uart_init,
    .reset = uart_reset,
    .reset_lines = uart_reset_lines,
    .state = uart_state,
};
