/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reception by the 82574L (datasheet, section 7.1): address and VLAN filters, and legacy, extended
 * and packet split descriptors. Headers are never split from the rest, which the last may but need
 * not do.
 */
#include "dma.h"
#include "e1000e_internal.h"

#define VLAN_TYPE   0x8100u
#define LONGEST     1518u /* without FCS, with a VLAN tag */
#define LONGEST_LPE 16380u
#define FCS         4u

#define RX_DD    0x01u
#define RX_EOP   0x02u
#define RX_IXSM  0x04u
#define RX_VP    0x08u
#define RX_UDPCS 0x10u
#define RX_TCPCS 0x20u
#define RX_IPCS  0x40u

/* How the driver has laid out descriptors and buffers. */
struct layout {
    uint64_t ring;
    unsigned entries, entry_size;
    bool extended, split;
    uint32_t buffer[4];
    uint32_t room; /* of one descriptor */
};

/* What is told of a packet. */
struct facts {
    uint8_t status;
    uint16_t vlan;
};

static uint32_t plain_buffer(uint32_t rctl)
{
    static const uint32_t sizes[4] = {2048, 1024, 512, 256};
    uint32_t size = sizes[rctl >> 16 & 3];

    if (rctl >> 27 & 15) {
        return (rctl >> 27 & 15) * 1024;
    }
    return rctl & 1u << 25 && (rctl >> 16 & 3) ? size * 16 : size;
}

static bool layout_get(const struct e1000e *e, struct layout *l)
{
    uint32_t rctl = R(RCTL), ps = R(PSRCTL);

    *l = (struct layout){.extended = R(RFCTL) & RFCTL_EXSTEN, .entry_size = 16};
    l->split = l->extended && (rctl >> 10 & 3) == 1;
    if (l->split) {
        l->entry_size = 32;
        l->buffer[0] = (ps & 0x7f) * 128;
        for (unsigned i = 1; i < 4; i++) {
            l->buffer[i] = (ps >> (8 * i) & 0x3f) * 1024;
        }
    } else {
        l->buffer[0] = plain_buffer(rctl);
    }
    l->room = l->buffer[0] + l->buffer[1] + l->buffer[2] + l->buffer[3];
    l->entries = e1000e_ring(e, RX_QUEUE, &l->ring) * 16 / l->entry_size;
    return l->entries && l->room;
}

/* --- filters --- */

static bool multicast_wanted(const struct e1000e *e, const uint8_t *to)
{
    static const uint8_t shifts[4] = {4, 3, 2, 0};
    unsigned hash = (unsigned)(to[4] | to[5] << 8) >> shifts[R(RCTL) >> 12 & 3] & 0xfff;

    return (R(RCTL) & RCTL_MPE) || (R(MTA + 4 * (hash >> 5)) & 1u << (hash & 31));
}

static bool address_wanted(const struct e1000e *e, const uint8_t *to)
{
    for (unsigned i = 0; i < 16; i++) {
        uint32_t low = R(RAL + 8 * i), high = R(RAL + 8 * i + 4);
        if (high >> 31 && !memcmp(to, &low, 4) && !memcmp(to + 4, &high, 2)) {
            return true;
        }
    }
    if (to[0] == 0xff && !memcmp(to, to + 1, 5)) {
        return R(RCTL) & RCTL_BAM;
    }
    return to[0] & 1 ? multicast_wanted(e, to) : R(RCTL) & RCTL_UPE;
}

static bool is_tagged(const struct e1000e *e, const uint8_t *frame, size_t len)
{
    return len >= 18 && (unsigned)(frame[12] << 8 | frame[13]) == (R(VET) & 0xffff);
}

static bool wanted(struct e1000e *e, const uint8_t *frame, size_t len)
{
    if ((R(RCTL) & RCTL_VFE) && is_tagged(e, frame, len)) {
        unsigned id = (unsigned)(frame[14] << 8 | frame[15]) & 0xfff;
        if (!(R(VFTA + 4 * (id >> 5)) & 1u << (id & 31))) {
            return false;
        }
    }
    if (len > (R(RCTL) & RCTL_LPE ? LONGEST_LPE : LONGEST)) {
        e1000e_count(e, STAT_ROC, 1);
        return false;
    }
    return address_wanted(e, frame);
}

/* --- descriptors --- */

/* The fixed places of what the driver asks about: is it IP, TCP or UDP? */
static uint8_t sums_good(const struct e1000e *e, const uint8_t *frame, size_t len)
{
    unsigned type = (unsigned)(frame[12] << 8 | frame[13]), protocol = 0;
    uint8_t status = 0;

    if (type == 0x0800 && len >= 34) {
        status |= R(RXCSUM) & RXCSUM_IPOFL ? RX_IPCS : 0;
        protocol = (frame[20] & 0x3f) | frame[21] ? 0 : frame[23]; /* no fragments */
    } else if (type == 0x86dd && len >= 54) {
        protocol = frame[20];
    }
    if ((R(RXCSUM) & RXCSUM_TUOFL) && (protocol == 6 || protocol == 17)) {
        status |= protocol == 6 ? RX_TCPCS : RX_TCPCS | RX_UDPCS;
    }
    return status;
}

static uint64_t status_word(const struct layout *l, const struct facts *f, uint32_t length,
                            bool last)
{
    uint32_t status = RX_DD | (last ? RX_EOP | f->status : 0);
    uint64_t vlan = last ? f->vlan : 0;

    return l->extended ? status | (uint64_t)length << 32 | vlan << 48
                       : length | (uint64_t)status << 32 | vlan << 48;
}

static void put64(struct e1000e *e, uint64_t gpa, uint64_t value)
{
    uint64_t *to = gpa & 7 ? NULL : memory_ram_ptr(e->host->memory, gpa, 8);

    if (to) {
        __atomic_store_n(to, GUINT64_TO_LE(value), __ATOMIC_RELEASE);
        memory_wrote(e->host->memory, to, 8);
    }
}

/* One descriptor's buffers get up to `len` bytes; returns how many. */
static uint32_t fill(struct e1000e *e, const struct layout *l, const struct facts *f, unsigned n,
                     const uint8_t *bytes, uint32_t len)
{
    uint64_t at = l->ring + (uint64_t)n * l->entry_size, desc[4] = {0};
    uint32_t done = 0, part[4] = {0};

    if (!dma_read(e->host->memory, at, desc, l->entry_size)) {
        return len;
    }
    for (unsigned i = 0; i < 4 && done < len; i++) {
        part[i] = MIN(l->buffer[i], len - done);
        dma_write(e->host->memory, GUINT64_FROM_LE(desc[l->split ? i : 0]), bytes + done, part[i]);
        done += part[i];
    }
    if (l->split) {
        put64(e, at + 16,
              (uint64_t)part[1] << 16 | (uint64_t)part[2] << 32 | (uint64_t)part[3] << 48);
        put64(e, at + 24, 0);
    }
    if (l->extended) {
        put64(e, at, 0); /* no hash */
    }
    put64(e, at + 8, status_word(l, f, part[0], done == len));
    return done;
}

static void count_received(struct e1000e *e, const uint8_t *frame, uint32_t bytes)
{
    static const uint16_t limits[] = {64, 127, 255, 511, 1023};
    unsigned bin = 0;

    while (bin < G_N_ELEMENTS(limits) && bytes > limits[bin]) {
        bin++;
    }
    e1000e_count(e, STAT_PRC64 + 4 * bin, 1);
    e1000e_count(e, STAT_GPRC, 1);
    e1000e_count(e, STAT_TPR, 1);
    e1000e_count64(e, STAT_GORC, bytes);
    e1000e_count64(e, STAT_TOR, bytes);
    if (frame[0] & 1) {
        e1000e_count(e, frame[0] == 0xff ? STAT_BPRC : STAT_MPRC, 1);
    }
}

/* Takes the tag out of a copy. */
static size_t vlan_strip(const uint8_t *frame, size_t len, uint8_t *copy, struct facts *f)
{
    f->vlan = (uint16_t)(frame[14] << 8 | frame[15]);
    f->status |= RX_VP;
    memcpy(copy, frame, 12);
    memcpy(copy + 12, frame + 16, len - 16);
    return len - 4;
}

static void fewer_left(struct e1000e *e, const struct layout *l, unsigned left)
{
    unsigned shift = 1 + (R(RCTL) >> 8 & 3);

    if (shift <= 3 && left <= l->entries >> shift) {
        e1000e_cause(e, INT_RXT0 | INT_RXQ0 | INT_RXDMT0);
    } else {
        e1000e_cause(e, INT_RXT0 | INT_RXQ0);
    }
}

/* `len` bytes of RAM in the ring. False: not enough descriptors. */
static bool store(struct e1000e *e, const struct layout *l, const struct facts *f,
                  const uint8_t *bytes, uint32_t len)
{
    unsigned head = R(RX_QUEUE + Q_HEAD) & 0xffff, tail = R(RX_QUEUE + Q_TAIL) & 0xffff, left;

    head = head < l->entries ? head : 0;
    left = tail < l->entries ? (tail + l->entries - head) % l->entries : 0;
    if ((len + l->room - 1) / l->room > left) {
        return false;
    }
    for (uint32_t done = 0; done < len; left--) {
        done += fill(e, l, f, head, bytes + done, len - done);
        head = head + 1 == l->entries ? 0 : head + 1;
    }
    R(RX_QUEUE + Q_HEAD) = head;
    fewer_left(e, l, left);
    return true;
}

bool e1000e_receive(void *card, const uint8_t *frame, size_t len, const struct net_offload *offload)
{
    struct e1000e *e = card;
    struct facts f = {0};
    struct layout l;
    uint8_t copy[LONGEST_LPE + 8];

    if (!(R(RCTL) & RCTL_EN) || !pci_function_bus_master(&e->pci) || len < NET_MIN_FRAME ||
        !wanted(e, frame, len)) {
        return true;
    }
    if (!layout_get(e, &l)) {
        return false;
    }
    f.status = offload->checksum_good ? sums_good(e, frame, len) : RX_IXSM;
    if ((R(CTRL) & CTRL_VME) && is_tagged(e, frame, len)) {
        len = vlan_strip(frame, len, copy, &f);
    } else {
        memcpy(copy, frame, len);
    }
    memset(copy + len, 0, FCS);
    len += R(RCTL) & RCTL_SECRC ? 0 : FCS;
    if (!store(e, &l, &f, copy, (uint32_t)len)) {
        e1000e_count(e, STAT_RNBC, 1);
        return false;
    }
    count_received(e, frame, (uint32_t)len);
    return true;
}
