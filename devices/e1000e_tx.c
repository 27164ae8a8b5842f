/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission by the 82574L (datasheet, sections 7.2 and 7.3): legacy, context and data
 * descriptors, checksums, TCP segmentation. Packets are gathered whole; segments are cut by whoever
 * needs them.
 */
#include "dma.h"
#include "e1000e_internal.h"

#define BUDGET      512u /* descriptors in one go, so that the machine lock is free now and then */
#define CMD_EOP     0x01u
#define CMD_IC      0x04u /* legacy: insert a checksum */
#define CMD_TSE     0x04u /* data: segment */
#define CMD_RS      0x08u
#define CMD_DEXT    0x20u
#define CMD_VLE     0x40u
#define TUCMD_TCP   0x01u
#define TUCMD_IP4   0x02u
#define POPTS_IXSM  0x01u
#define POPTS_TXSM  0x02u
#define IVAR_TX_ALL (1u << 31)

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return GUINT64_FROM_LE(v);
}

/* Sums bytes [start, end] (end 0: all the rest) and puts the checksum at `to`. */
static void sum_insert(struct e1000e_tx *tx, unsigned start, unsigned to, unsigned end)
{
    struct net_offload o = {.checksum_needed = true,
                            .checksum_start = (uint16_t)start,
                            .checksum_offset = (uint16_t)(to - start)};

    if (to >= start) {
        net_checksum_fill(tx->packet, end && end < tx->len ? end + 1 : tx->len, &o);
    }
}

static void vlan_insert(struct e1000e *e, struct e1000e_tx *tx, uint16_t tag)
{
    uint8_t bytes[4] = {(uint8_t)(R(VET) >> 8), (uint8_t)R(VET), (uint8_t)(tag >> 8), (uint8_t)tag};

    if (tx->len >= NET_HEADER && tx->len + 4 <= NET_MAX_PACKET) {
        memmove(tx->packet + 16, tx->packet + 12, tx->len - 12);
        memcpy(tx->packet + 12, bytes, 4);
        tx->len += 4;
    }
}

static void count_sent(struct e1000e *e, const struct e1000e_tx *tx)
{
    static const uint16_t limits[] = {64, 127, 255, 511, 1023};
    uint32_t bytes = MAX(tx->len, NET_MIN_FRAME) + 4, bin = 0;

    while (bin < G_N_ELEMENTS(limits) && bytes > limits[bin]) {
        bin++;
    }
    e1000e_count(e, STAT_PTC64 + 4 * bin, 1);
    e1000e_count(e, STAT_GPTC, 1);
    e1000e_count(e, STAT_TPT, 1);
    e1000e_count64(e, STAT_GOTC, bytes);
    e1000e_count64(e, STAT_TOT, bytes);
    if (tx->packet[0] & 1) {
        e1000e_count(e, tx->packet[0] == 0xff ? STAT_BPTC : STAT_MPTC, 1);
    }
}

/* A packet for segmentation: its context says what it is. False: it cannot be sent. */
static bool large_prepare(struct e1000e *e, struct e1000e_tx *tx, struct net_offload *o)
{
    uint16_t segment = get16(tx->context + 14), header = tx->context[13];

    o->gso = tx->context[11] & TUCMD_IP4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
    o->segment_size = segment;
    if (!segment || !net_tcp_prepare(tx->packet, tx->len, o)) {
        return false;
    }
    if (tx->len <= (uint32_t)header + segment) {
        o->gso = NET_GSO_NONE;
    } else {
        e1000e_count(e, STAT_TSCTC, 1);
    }
    return true;
}

static void sums_prepare(struct e1000e_tx *tx)
{
    const uint8_t *c = tx->context;

    if (tx->sums & POPTS_IXSM) {
        sum_insert(tx, c[0], c[1], get16(c + 2));
    }
    if (tx->sums & POPTS_TXSM) {
        sum_insert(tx, c[4], c[5], get16(c + 6));
    }
}

static void packet_send(struct e1000e *e, struct e1000e_tx *tx, const uint8_t *desc)
{
    struct net_offload o = {0};
    bool tagged = (desc[11] & CMD_VLE) && (R(CTRL) & CTRL_VME);
    bool ok = !tx->too_long && tx->len >= NET_HEADER;

    if (ok && !tx->large) {
        sums_prepare(tx);
    }
    if (ok && tagged) {
        vlan_insert(e, tx, get16(desc + 14));
    }
    if (ok && tx->large) {
        ok = large_prepare(e, tx, &o);
    }
    if (ok) {
        count_sent(e, tx);
        net_transmit(e->net, tx->packet, tx->len, &o);
    }
    tx->len = 0;
    tx->too_long = tx->large = false;
    tx->sums = 0;
}

static void packet_gather(struct e1000e *e, struct e1000e_tx *tx, const uint8_t *desc,
                          uint32_t bytes)
{
    if (bytes > NET_MAX_PACKET - tx->len ||
        !dma_read(e->host->memory, get64(desc), tx->packet + tx->len, bytes)) {
        tx->too_long = true;
    } else {
        tx->len += bytes;
    }
}

static void legacy_descriptor(struct e1000e *e, struct e1000e_tx *tx, const uint8_t *desc)
{
    packet_gather(e, tx, desc, get16(desc + 8));
    if (desc[11] & CMD_EOP) {
        if ((desc[11] & CMD_IC) && !tx->too_long) {
            sum_insert(tx, desc[13], desc[10], 0);
        }
        packet_send(e, tx, desc);
    }
}

static void data_descriptor(struct e1000e *e, struct e1000e_tx *tx, const uint8_t *desc)
{
    if (!tx->len) {
        tx->large = (desc[11] & CMD_TSE) && (tx->context[11] & TUCMD_TCP);
        tx->sums = desc[13];
    }
    packet_gather(e, tx, desc, get16(desc + 8) | (uint32_t)(desc[10] & 15) << 16);
    if (desc[11] & CMD_EOP) {
        packet_send(e, tx, desc);
    }
}

static void descriptor(struct e1000e *e, struct e1000e_tx *tx, const uint8_t *desc)
{
    if (!(desc[11] & CMD_DEXT)) {
        legacy_descriptor(e, tx, desc);
    } else if (desc[10] >> 4 == 1) {
        data_descriptor(e, tx, desc);
    } else if (desc[10] >> 4 == 0) {
        memcpy(tx->context, desc, sizeof tx->context);
    }
}

/* Returns the causes to raise. */
static uint32_t queue_run(struct e1000e *e, unsigned n, unsigned *budget)
{
    unsigned at = TX_QUEUE + n * 0x100;
    uint64_t base;
    unsigned entries = e1000e_ring(e, at, &base), tail = R(at + Q_TAIL) & 0xffff;
    uint32_t causes = 0;
    bool all = R(IVAR) & IVAR_TX_ALL;

    if (!entries || tail >= entries) {
        return 0;
    }
    if ((R(at + Q_HEAD) & 0xffff) >= entries) {
        R(at + Q_HEAD) = 0;
    }
    while ((R(at + Q_HEAD) & 0xffff) != tail && *budget) {
        unsigned head = R(at + Q_HEAD) & 0xffff;
        uint8_t desc[16], done;
        if (!dma_read(e->host->memory, base + 16ull * head, desc, sizeof desc)) {
            R(at + Q_HEAD) = tail;
            break;
        }
        descriptor(e, &e->tx[n], desc);
        if ((desc[11] & CMD_RS) || all) {
            done = desc[12] | 1;
            dma_write(e->host->memory, base + 16ull * head + 12, &done, 1);
            causes |= INT_TXDW | INT_TXQ0 << n;
        }
        R(at + Q_HEAD) = head + 1 == entries ? 0 : head + 1;
        --*budget;
    }
    return causes | (R(at + Q_HEAD) == tail ? INT_TXQE : 0);
}

void e1000e_transmit(struct e1000e *e)
{
    unsigned budget = BUDGET;
    uint32_t causes = 0;

    if (!(R(TCTL) & TCTL_EN) || !pci_function_bus_master(&e->pci)) {
        return;
    }
    for (unsigned n = 0; n < TX_QUEUES; n++) {
        causes |= queue_run(e, n, &budget);
    }
    if (!budget) {
        timer_arm(e->tx_timer, clock_now(e->host->clock));
    }
    if (causes) {
        e1000e_cause(e, causes);
    }
}
