/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L (see e1000e.h): registers, interrupts and the machine's side.
 *
 * Registers are an array of words in which most are just kept. Interrupts: with MSI-X each of five
 * causes has a vector (IVAR), cleared and masked as the vector goes out (EIAC, EIAME); otherwise
 * there is one line or message, and reading ICR clears. EITR and ITR say how much apart interrupts
 * are, in 256 ns.
 */
#include <string.h>

#include "e1000e_internal.h"

#define MMIO_SIZE    (128u << 10)
#define MSIX_BAR     3u
#define MSIX_PBA     0x2000u
#define ITR_NS       256u
#define TIMER_NS     40u /* of the time stamp clock */
#define EIAC_KEEP    INT_MSIX
#define IVAR_VALID   8u
#define SWSM_SMBI    1u
#define EXTCNF_KEEP  0x20u
#define EECD_VALUE   0x0300u /* a device is there, and has been read */
#define EECD_REQUEST 0x40u
#define EECD_GRANT   0x80u
#define EEMNG_DONE   0x000c0000u

unsigned e1000e_ring(const struct e1000e *e, unsigned at, uint64_t *base)
{
    *base = (R(at + Q_BAL) & ~15u) | (uint64_t)R(at + Q_BAH) << 32;
    return (R(at + Q_LEN) & 0xfff80) / 16;
}

void e1000e_count(struct e1000e *e, unsigned at, uint32_t by)
{
    R(at) = R(at) > UINT32_MAX - by ? UINT32_MAX : R(at) + by;
}

void e1000e_count64(struct e1000e *e, unsigned at, uint64_t by)
{
    uint64_t sum = (R(at) | (uint64_t)R(at + 4) << 32) + by;

    R(at) = (uint32_t)sum;
    R(at + 4) = (uint32_t)(sum >> 32);
}

/* --- interrupts --- */

/* The vector of MSI-X cause n (0-4), -1: none. */
static int cause_vector(const struct e1000e *e, unsigned n)
{
    unsigned entry = R(IVAR) >> (4 * n) & 15;

    return (entry & IVAR_VALID) && (entry & 7) < MSIX_VECTORS ? (int)(entry & 7) : -1;
}

static void moderation_arm(struct e1000e *e)
{
    uint64_t first = UINT64_MAX;

    for (unsigned v = 0; v < MSIX_VECTORS; v++) {
        if (e->held & 1u << v) {
            first = MIN(first, e->quiet[v]);
        }
    }
    if (first == UINT64_MAX) {
        timer_disarm(e->moderation);
    } else {
        timer_arm(e->moderation, first);
    }
}

/* May vector v go out now? If not, it is held. */
static bool moderate(struct e1000e *e, unsigned v, uint32_t interval)
{
    uint64_t now = clock_now(e->host->clock), gap = (uint64_t)(interval & 0xffff) * ITR_NS;

    if (now < e->quiet[v] && gap) {
        if (!(e->held & 1u << v)) {
            e->quiet[v] = MIN(e->quiet[v], now + gap);
            e->held |= 1u << v;
            moderation_arm(e);
        }
        return false;
    }
    e->held &= ~(1u << v);
    e->quiet[v] = now + gap;
    return true;
}

static void vector_fire(struct e1000e *e, unsigned v)
{
    uint32_t causes = 0;

    if (!moderate(e, v, R(EITR + 4 * v))) {
        return;
    }
    for (unsigned n = 0; n < MSIX_VECTORS; n++) {
        causes |= cause_vector(e, n) == (int)v ? R(ICR) & R(IMS) & INT_RXQ0 << n : 0;
    }
    pci_msix_send(&e->msix, v);
    e->notified |= causes;
    causes &= R(EIAC);
    R(ICR) &= ~causes;
    e->notified &= ~causes;
    if (R(CTRL_EXT) & CTRL_EXT_EIAME) {
        R(IMS) &= ~causes;
    }
}

static void msix_update(struct e1000e *e)
{
    uint32_t pending = R(ICR) & R(IMS) & INT_MSIX;

    e->notified &= pending;
    for (unsigned n = 0; n < MSIX_VECTORS; n++) {
        uint32_t bit = INT_RXQ0 << n;
        int v = cause_vector(e, n);
        if (v >= 0 && (R(ICR) & R(IMS) & bit) && !(e->notified & bit)) {
            vector_fire(e, (unsigned)v);
        }
    }
}

static void line_update(struct e1000e *e)
{
    bool pending = R(ICR) & R(IMS) & ~INT_ASSERTED;

    if (pending && !e->asserted && !moderate(e, 0, R(ITR))) {
        return;
    }
    if (pending != e->asserted) {
        e->asserted = pending;
        R(ICR) = pending ? R(ICR) | INT_ASSERTED : R(ICR) & ~INT_ASSERTED;
        pci_function_interrupt(&e->pci, pending);
    }
}

void e1000e_interrupts(struct e1000e *e)
{
    if (pci_msix_enabled(&e->msix)) {
        msix_update(e);
    } else {
        line_update(e);
    }
}

void e1000e_cause(struct e1000e *e, uint32_t causes)
{
    R(ICR) |= causes & ~INT_ASSERTED;
    if (R(ICR) & INT_OTHERS) {
        R(ICR) |= INT_OTHER;
    }
    e1000e_interrupts(e);
}

static void moderation_over(void *opaque)
{
    struct e1000e *e = opaque;
    uint64_t now = clock_now(e->host->clock);
    uint32_t due = 0;

    for (unsigned v = 0; v < MSIX_VECTORS; v++) {
        due |= (e->held & 1u << v) && e->quiet[v] <= now ? 1u << v : 0;
    }
    e->held &= ~due;
    moderation_arm(e);
    e1000e_interrupts(e);
}

static uint32_t icr_read(struct e1000e *e)
{
    uint32_t value = R(ICR);
    bool msix = pci_msix_enabled(&e->msix);

    if (!R(IMS) || msix || (value & INT_ASSERTED)) {
        R(ICR) = 0;
    }
    if ((value & INT_ASSERTED) && (R(CTRL_EXT) & CTRL_EXT_IAME) && !msix) {
        R(IMS) &= ~R(IAM);
    }
    e1000e_interrupts(e);
    return value;
}

static void icr_write(struct e1000e *e, uint32_t value)
{
    if ((R(ICR) & INT_ASSERTED) && (R(CTRL_EXT) & CTRL_EXT_IAME) && !pci_msix_enabled(&e->msix)) {
        R(IMS) &= ~R(IAM);
    }
    R(ICR) &= ~(value & ~INT_ASSERTED);
    e1000e_interrupts(e);
}

/* --- reset --- */

static void address_load(struct e1000e *e)
{
    R(RAL) = e->nvm[0] | (uint32_t)e->nvm[1] << 16;
    R(RAL + 4) = e->nvm[2] | 1u << 31;
}

/* All but PCI and the PHY; CTRL.RST. */
static void mac_reset(struct e1000e *e)
{
    memset(e->reg, 0, sizeof e->reg);
    R(CTRL) = 0x00140241;
    R(CTRL_EXT) = 0x00140000;
    R(VET) = 0x8100;
    R(PBA) = 0x00140014;
    R(EEMNGCTL) = EEMNG_DONE;
    R(0x0e00) = 0x00070302; /* LEDCTL */
    R(0x0410) = 0x00602008; /* TIPG */
    address_load(e);
    for (unsigned n = 0; n < TX_QUEUES; n++) {
        e->tx[n].len = 0;
        e->tx[n].too_long = e->tx[n].large = false;
        e->tx[n].sums = 0;
        memset(e->tx[n].context, 0, sizeof e->tx[n].context);
    }
    timer_disarm(e->tx_timer);
    timer_disarm(e->moderation);
    e->held = e->notified = 0;
    memset(e->quiet, 0, sizeof e->quiet);
}

/* --- registers --- */

/* Units of TIMINCA since power-on; whole increments only, which Linux checks. */
static uint64_t time_stamp(const struct e1000e *e)
{
    uint32_t period = R(TIMINCA) >> 24, by = R(TIMINCA) & 0xffffff;

    return period ? clock_now(e->host->clock) / (TIMER_NS * period) * by : 0;
}

static uint32_t stat_read(struct e1000e *e, uint32_t at)
{
    uint32_t value = R(at);

    switch (at) {
    case STAT_GORC:
    case STAT_GOTC:
    case STAT_TOR:
    case STAT_TOT:
        return value; /* goes with its high word */
    case STAT_GORC + 4:
    case STAT_GOTC + 4:
    case STAT_TOR + 4:
    case STAT_TOT + 4:
        R(at - 4) = 0;
        break;
    }
    R(at) = 0;
    return value;
}

static uint32_t register_read(struct e1000e *e, uint32_t at)
{
    uint32_t value;

    if (at >= STATS && at < STATS_END) {
        return stat_read(e, at);
    }
    switch (at) {
    case CTRL_DUP:
        return R(CTRL);
    case STATUS:
        return STATUS_FD | STATUS_1000 | (net_link(e->net) ? STATUS_LU : 0) |
               (R(CTRL) & CTRL_NO_MASTER ? 0 : STATUS_MASTER);
    case EECD:
        return EECD_VALUE | (R(EECD) & 0x4f) | (R(EECD) & EECD_REQUEST ? EECD_GRANT : 0);
    case ICR:
        return icr_read(e);
    case ICS:
        return R(ICR);
    case SWSM:
        value = R(SWSM);
        R(SWSM) |= SWSM_SMBI;
        return value;
    case SYSTIML:
        value = (uint32_t)time_stamp(e);
        R(SYSTIMH) = (uint32_t)(time_stamp(e) >> 32);
        return value;
    case FWSM:
    case IMC:
        return 0;
    default:
        return R(at);
    }
}

static void ctrl_write(struct e1000e *e, uint32_t value)
{
    if (value & CTRL_RST) {
        mac_reset(e);
        e1000e_interrupts(e);
        return;
    }
    if (value & CTRL_PHY_RST) {
        e1000e_phy_reset(e);
        e1000e_cause(e, INT_LSC);
    }
    R(CTRL) = value & ~CTRL_PHY_RST;
}

static bool interrupt_write(struct e1000e *e, uint32_t at, uint32_t value)
{
    switch (at) {
    case ICR:
        icr_write(e, value);
        return true;
    case ICS:
        e1000e_cause(e, value);
        return true;
    case IMS:
        R(IMS) |= value & ~INT_ASSERTED;
        break;
    case IMC:
        R(IMS) &= ~value;
        break;
    case EIAC:
        R(EIAC) = value & EIAC_KEEP;
        return true;
    case IVAR:
        R(IVAR) = value;
        break;
    default:
        return false;
    }
    e1000e_interrupts(e);
    return true;
}

static void register_write(struct e1000e *e, uint32_t at, uint32_t value)
{
    if (interrupt_write(e, at, value) || (at >= STATS && at < STATS_END)) {
        return;
    }
    switch (at) {
    case CTRL:
    case CTRL_DUP:
        ctrl_write(e, value);
        break;
    case CTRL_EXT:
        R(CTRL_EXT) = value & CTRL_EXT_KEEP;
        break;
    case MDIC:
        e1000e_mdic_write(e, value);
        break;
    case EERD:
        e1000e_eerd_write(e, value);
        break;
    case EEWR:
        R(EEWR) = (value & ~1u) | 2; /* done; nothing is kept */
        break;
    case STATUS:
    case EEMNGCTL:
    case FWSM:
    case FACTPS:
    case SYSTIMH:
        break;
    case RCTL:
    case RX_QUEUE + Q_TAIL:
        R(at) = value;
        net_ready(e->net);
        break;
    case TCTL:
    case TX_QUEUE + Q_TAIL:
    case TX_QUEUE + 0x100 + Q_TAIL:
        R(at) = value;
        e1000e_transmit(e);
        break;
    default:
        R(at) = value;
    }
}

static uint64_t mmio_read(void *opaque, uint64_t addr, unsigned size)
{
    return addr + 4 <= REGISTERS ? register_read(opaque, (uint32_t)addr & ~3u) : 0;
}

static void mmio_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    if (addr + 4 <= REGISTERS) {
        register_write(opaque, (uint32_t)addr & ~3u, (uint32_t)value);
    }
}

static const struct io_ops mmio_ops = {
    .name = "e1000e", .read = mmio_read, .write = mmio_write, .max_size = 4, .min_size = 4};

/* An erased flash. */
static uint64_t flash_read(void *opaque, uint64_t addr, unsigned size)
{
    return UINT64_MAX;
}

static void flash_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
}

static const struct io_ops flash_ops = {
    .name = "e1000e-flash", .read = flash_read, .write = flash_write};

/* IOADDR and IODATA. */
static uint64_t window_read(void *opaque, uint64_t addr, unsigned size)
{
    struct e1000e *e = opaque;

    return addr == 4 ? mmio_read(e, e->io_address, 4) : addr == 0 ? e->io_address : 0;
}

static void window_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct e1000e *e = opaque;

    if (addr == 0) {
        e->io_address = (uint32_t)value & (MMIO_SIZE - 1);
    } else if (addr == 4) {
        mmio_write(e, e->io_address, value, 4);
    }
}

static const struct io_ops window_ops = {
    .name = "e1000e-io", .read = window_read, .write = window_write, .max_size = 4, .min_size = 4};

static uint64_t msix_read(void *opaque, uint64_t addr, unsigned size)
{
    return pci_msix_read(&((struct e1000e *)opaque)->msix, addr, size);
}

static void msix_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    pci_msix_write(&((struct e1000e *)opaque)->msix, addr, value, size);
}

static const struct io_ops msix_ops = {
    .name = "e1000e-msix", .read = msix_read, .write = msix_write, .max_size = 8, .min_size = 4};

static const struct pci_function_info e1000e_info = {
    .vendor = 0x8086,
    .device = 0x10d3,
    .subsystem_vendor = 0x8086,
    .subsystem = 0xa01f,
    .class_code = 0x02,
    .interrupt_pin = 1,
    .bar = {{PCI_BAR_MEM32, MMIO_SIZE, &mmio_ops},
            {PCI_BAR_MEM32, MMIO_SIZE, &flash_ops},
            {PCI_BAR_IO, 32, &window_ops},
            [MSIX_BAR] = {PCI_BAR_MEM32, 16384, &msix_ops}},
    .msi = true,
};

/* --- for the machine --- */

static void link_changed(void *card)
{
    struct e1000e *e = card;

    e1000e_phy_link(e);
    e1000e_cause(e, INT_LSC);
}

static const struct net_card_ops card_ops = {e1000e_receive, link_changed};

static void transmit_more(void *opaque)
{
    e1000e_transmit(opaque);
}

static void config_written(void *opaque, uint32_t addr, unsigned size)
{
    struct e1000e *e = opaque;

    if (addr >= 0x40) { /* perhaps another kind of interrupt */
        if (e->asserted && pci_msix_enabled(&e->msix)) {
            e->asserted = false;
            pci_function_interrupt(&e->pci, false);
        }
        e1000e_interrupts(e);
    }
}

/* Power management (D3hot keeps everything) and PCI Express (an endpoint of the root complex). */
static void capabilities_add(struct pci_function *f)
{
    uint8_t at = pci_function_add_capability(f, 0x01, 8);

    if (at) {
        f->config[at + 2] = 0x03; /* version 1.2 */
        f->config[at + 4] = 0x08; /* no soft reset */
        f->writable[at + 4] = 0x03;
    }
    at = pci_function_add_capability(f, 0x10, 60);
    if (at) {
        f->config[at + 2] = 0x92;
        f->config[at + 5] = 0x80; /* role-based errors */
        f->writable[at + 8] = 0xff;
        f->writable[at + 9] = 0x7f;
        f->config[at + 18] = 0x11; /* 2.5 GT/s, one lane */
    }
}

static bool e1000e_init(void *dev, const struct device_host *host, const void *config,
                        GError **error)
{
    struct e1000e *e = dev;
    const struct e1000e_config *c = config;

    e->host = host;
    e->net = c->net;
    e1000e_nvm_fill(e, c->mac);
    if (!pci_function_init(&e->pci, c->pci.bus, c->pci.devfn, e, &e1000e_info, error)) {
        return false;
    }
    capabilities_add(&e->pci);
    pci_msix_init(&e->msix, &e->pci, MSIX_VECTORS, MSIX_BAR, 0, MSIX_PBA);
    e->pci.config_written = config_written;
    e->tx_timer = timer_new(host->clock, transmit_more, e);
    e->moderation = timer_new(host->clock, moderation_over, e);
    for (unsigned n = 0; n < TX_QUEUES; n++) {
        e->tx[n].packet = g_malloc0(NET_MAX_PACKET);
    }
    net_attach(e->net, &card_ops, e, 0);
    return true;
}

static void e1000e_fini(void *dev)
{
    struct e1000e *e = dev;

    if (e->net) {
        net_attach(e->net, NULL, NULL, 0);
    }
    if (e->pci.info) {
        pci_function_fini(&e->pci);
    }
    timer_free(e->tx_timer);
    timer_free(e->moderation);
    for (unsigned n = 0; n < TX_QUEUES; n++) {
        g_free(e->tx[n].packet);
    }
}

static void e1000e_reset(void *dev)
{
    struct e1000e *e = dev;

    mac_reset(e);
    e1000e_phy_reset(e);
    e->io_address = 0;
    e->asserted = false;
    pci_function_reset(&e->pci);
}

static void tx_state(struct e1000e_tx *tx, struct state *s)
{
    size_t len = tx->len;
    g_autofree uint8_t *bytes = g_memdup2(tx->packet, len);

    state_bytes(s, "context", tx->context, sizeof tx->context);
    state_blob(s, "packet", &bytes, &len, NET_MAX_PACKET);
    state_bool(s, "too-long", &tx->too_long);
    state_bool(s, "large", &tx->large);
    state_u8(s, "sums", &tx->sums);
    if (state_restoring(s) && !state_failed(s)) {
        tx->len = (uint32_t)len;
        memcpy(tx->packet, bytes ? bytes : tx->packet, len);
    }
}

static void e1000e_state(void *dev, struct state *s)
{
    struct e1000e *e = dev;

    pci_function_state(&e->pci, s);
    state_bytes(s, "registers", e->reg, sizeof e->reg);
    state_bytes(s, "phy", e->phy, sizeof e->phy);
    state_bytes(s, "eeprom", e->nvm, sizeof e->nvm);
    state_u32(s, "io-address", &e->io_address);
    for (unsigned n = 0; n < TX_QUEUES; n++) {
        state_push(s, "tx", n);
        tx_state(&e->tx[n], s);
        state_pop(s);
    }
    state_u32(s, "notified", &e->notified);
    state_u32(s, "held", &e->held);
    state_bool(s, "asserted", &e->asserted);
    state_bytes(s, "quiet", e->quiet, sizeof e->quiet);
    net_state(e->net, s);
}

static bool e1000e_restored(void *dev, GError **error)
{
    struct e1000e *e = dev;

    e->io_address &= MMIO_SIZE - 1;
    e->held &= (1u << MSIX_VECTORS) - 1;
    pci_function_restored(&e->pci);
    e1000e_phy_link(e);
    moderation_arm(e);
    timer_arm(e->tx_timer, clock_now(e->host->clock)); /* perhaps it was armed */
    net_restored(e->net);
    return true;
}

const struct device_class e1000e_device = {
    .name = "e1000e",
    .size = sizeof(struct e1000e),
    .version = 1,
    .init = e1000e_init,
    .fini = e1000e_fini,
    .reset = e1000e_reset,
    .state = e1000e_state,
    .restored = e1000e_restored,
};
