/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller (see hda.h; section 3.3): global registers, the command rings CORB and RIRB,
 * interrupts, and the machine's side. Both rings always have 256 entries.
 */
#include <string.h>

#include "dma.h"
#include "hda_internal.h"

#define GCTL_CRST       1u
#define WALL_MHZ        24u
#define CORB_RUN        2u
#define RIRB_INTERRUPT  1u
#define RIRB_RUN        2u
#define RIRB_RESPONSE   1u
#define ENTRIES         256u
#define BUDGET          ENTRIES
#define INT_GLOBAL      (1u << 31)
#define INT_CONTROL     (1u << 30)
#define SIZE_256        0x42u
#define IMMEDIATE_BUSY  1u
#define IMMEDIATE_VALID 2u

enum {
    GCAP = 0x00,
    VMIN = 0x02,
    OUTPAY = 0x04,
    INPAY = 0x06,
    GCTL = 0x08,
    WAKEEN = 0x0c,
    STATESTS = 0x0e,
    INTCTL = 0x20,
    INTSTS = 0x24,
    WALCLK = 0x30,
    CORBLBASE = 0x40,
    CORBUBASE = 0x44,
    CORBWP = 0x48,
    CORBRP = 0x4a,
    CORBCTL = 0x4c,
    CORBSTS = 0x4d,
    CORBSIZE = 0x4e,
    RIRBLBASE = 0x50,
    RIRBUBASE = 0x54,
    RIRBWP = 0x58,
    RINTCNT = 0x5a,
    RIRBCTL = 0x5c,
    RIRBSTS = 0x5d,
    RIRBSIZE = 0x5e,
    IC = 0x60,
    IR = 0x64,
    ICS = 0x68,
    DPLBASE = 0x70,
    DPUBASE = 0x74,
    STREAMS = 0x80,
    ALIASES = 0x2000
};

static uint32_t interrupt_status(const struct hda *h)
{
    uint32_t status = 0;

    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        const struct hda_stream *s = &h->stream[i];
        status |= s->status & s->control & 0x1c ? 1u << i : 0;
    }
    if ((h->rirb_status & RIRB_RESPONSE && h->rirb_control & RIRB_INTERRUPT) ||
        (h->statests & h->wakeen)) {
        status |= INT_CONTROL;
    }
    return status;
}

void hda_update_irq(struct hda *h)
{
    bool level = (h->intctl & INT_GLOBAL) && (interrupt_status(h) & h->intctl & ~INT_GLOBAL);

    pci_function_interrupt(&h->pci, level);
}

/* --- commands --- */

static void respond(struct hda *h, uint32_t response)
{
    uint32_t entry[2] = {GUINT32_TO_LE(response), 0};

    h->rirb_write = (h->rirb_write + 1) % ENTRIES;
    dma_write(h->host->memory, h->rirb + 8ull * h->rirb_write, entry, sizeof entry);
    if (++h->rirb_since >= (h->rirb_count ? h->rirb_count : ENTRIES)) {
        h->rirb_since = 0;
        h->rirb_status |= RIRB_RESPONSE;
    }
}

static void commands_run(struct hda *h)
{
    for (unsigned budget = BUDGET; budget && (h->corb_control & CORB_RUN) &&
                                   (h->rirb_control & RIRB_RUN) && h->corb_read != h->corb_write;
         budget--) {
        uint32_t command;
        h->corb_read = (h->corb_read + 1) % ENTRIES;
        if (!dma_read(h->host->memory, h->corb + 4ull * h->corb_read, &command, 4)) {
            h->corb_status |= 1;
            return;
        }
        respond(h, hda_codec_command(h, GUINT32_FROM_LE(command)));
    }
    if (h->rirb_since && h->corb_read == h->corb_write) { /* no more for now */
        h->rirb_since = 0;
        h->rirb_status |= RIRB_RESPONSE;
    }
}

/* --- registers --- */

static void controller_reset(struct hda *h)
{
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        h->stream[i].hda = h;
        h->stream[i].index = i;
        hda_stream_reset(&h->stream[i]);
    }
    h->intctl = h->immediate = 0;
    h->statests = h->wakeen = 0;
    h->corb_write = h->corb_read = h->rirb_write = h->rirb_count = h->rirb_since = 0;
    h->corb_control = h->corb_status = h->rirb_control = h->rirb_status = 0;
    h->immediate_status = 0;
    h->corb = h->rirb = h->positions = 0;
    hda_codec_reset(h);
    timer_disarm(h->timer);
}

static uint32_t global_read(struct hda *h, unsigned at)
{
    switch (at) {
    case GCAP:
        return HDA_INPUTS << 8 | (HDA_STREAMS - HDA_INPUTS) << 12 | 1 | 0x0100u << 16;
    case VMIN:
        return 0x0100;
    case OUTPAY:
        return 0x3c | 0x1du << 16;
    case INPAY:
        return 0x1d;
    case GCTL:
        return h->gctl;
    case WAKEEN:
        return h->wakeen | (uint32_t)h->statests << 16;
    case STATESTS:
        return h->statests;
    case INTCTL:
        return h->intctl;
    case INTSTS:
        hda_streams_move(h);
        return interrupt_status(h) | (interrupt_status(h) & h->intctl ? INT_GLOBAL : 0);
    case WALCLK:
        return (uint32_t)(clock_now(h->host->clock) / 1000 * WALL_MHZ);
    case DPLBASE:
        return (uint32_t)h->positions;
    case DPUBASE:
        return (uint32_t)(h->positions >> 32);
    case IC:
        return 0;
    case IR:
        return h->immediate;
    case ICS:
        return h->immediate_status;
    default:
        return 0;
    }
}

static uint32_t ring_read(struct hda *h, unsigned at)
{
    switch (at) {
    case CORBLBASE:
        return (uint32_t)h->corb;
    case CORBUBASE:
        return (uint32_t)(h->corb >> 32);
    case CORBWP:
        return h->corb_write | (uint32_t)h->corb_read << 16;
    case CORBRP:
        return h->corb_read;
    case CORBCTL:
        return h->corb_control | (uint32_t)h->corb_status << 8 | SIZE_256 << 16;
    case CORBSTS:
        return h->corb_status;
    case CORBSIZE:
    case RIRBSIZE:
        return SIZE_256;
    case RIRBLBASE:
        return (uint32_t)h->rirb;
    case RIRBUBASE:
        return (uint32_t)(h->rirb >> 32);
    case RIRBWP:
        return h->rirb_write | (uint32_t)h->rirb_count << 16;
    case RINTCNT:
        return h->rirb_count;
    case RIRBCTL:
        return h->rirb_control | (uint32_t)h->rirb_status << 8 | SIZE_256 << 16;
    case RIRBSTS:
        return h->rirb_status;
    default:
        return 0;
    }
}

static uint64_t register_read(struct hda *h, unsigned at, unsigned size)
{
    if (at >= ALIASES) {
        at -= ALIASES;
        if (at != WALCLK && !(at >= STREAMS && (at & 0x1f) == 4)) {
            return 0;
        }
    }
    if (at >= STREAMS + HDA_STREAMS * 0x20) {
        return 0;
    }
    if (at >= STREAMS) {
        return hda_stream_read(&h->stream[(at - STREAMS) / 0x20], at & 0x1f, size);
    }
    return at >= CORBLBASE && at < IC ? ring_read(h, at) : global_read(h, at);
}

static uint64_t hda_read(void *opaque, uint64_t addr, unsigned size)
{
    return register_read(opaque, (unsigned)addr, size) & (UINT32_MAX >> (32 - 8 * size));
}

static void gctl_write(struct hda *h, uint32_t value)
{
    bool was = h->gctl & GCTL_CRST;

    h->gctl = value & 0x103;
    if (!(h->gctl & GCTL_CRST)) {
        controller_reset(h);
    } else if (!was) {
        h->statests = 1; /* a codec is there */
    }
}

static void global_write(struct hda *h, unsigned at, uint32_t value)
{
    switch (at) {
    case GCTL:
        gctl_write(h, value);
        break;
    case WAKEEN:
        h->wakeen = value & 0x7fff;
        break;
    case STATESTS:
        h->statests &= (uint16_t)~value;
        break;
    case INTCTL:
        h->intctl = value & (INT_GLOBAL | INT_CONTROL | ((1u << HDA_STREAMS) - 1));
        break;
    case IC:
        h->immediate = hda_codec_command(h, value);
        h->immediate_status |= IMMEDIATE_VALID;
        break;
    case ICS:
        h->immediate_status &= (uint8_t) ~(value & IMMEDIATE_VALID);
        break;
    case DPLBASE:
        h->positions = (h->positions & ~0xffffffffull) | (value & ~126u);
        break;
    case DPUBASE:
        h->positions = (uint32_t)h->positions | (uint64_t)value << 32;
        break;
    }
}

static void ring_write(struct hda *h, unsigned at, uint32_t value)
{
    switch (at) {
    case CORBLBASE:
        h->corb = (h->corb & ~0xffffffffull) | (value & ~127u);
        break;
    case CORBUBASE:
        h->corb = (uint32_t)h->corb | (uint64_t)value << 32;
        break;
    case CORBWP:
        h->corb_write = value & 0xff;
        break;
    case CORBRP:
        h->corb_read = value & 0x8000 ? 0x8000 : h->corb_read & 0xff; /* software clears it again */
        break;
    case CORBCTL:
        h->corb_control = value & 3;
        break;
    case CORBSTS:
        h->corb_status &= (uint8_t) ~(value & 1);
        break;
    case RIRBLBASE:
        h->rirb = (h->rirb & ~0xffffffffull) | (value & ~127u);
        break;
    case RIRBUBASE:
        h->rirb = (uint32_t)h->rirb | (uint64_t)value << 32;
        break;
    case RIRBWP:
        h->rirb_write = value & 0x8000 ? 0 : h->rirb_write;
        break;
    case RINTCNT:
        h->rirb_count = value & 0xff;
        break;
    case RIRBCTL:
        h->rirb_control = value & 7;
        break;
    case RIRBSTS:
        h->rirb_status &= (uint8_t) ~(value & 5);
        break;
    }
    commands_run(h);
}

static void hda_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct hda *h = opaque;
    unsigned at = (unsigned)addr;

    if (!(h->gctl & GCTL_CRST) && at != GCTL) {
        return; /* in reset */
    }
    if (at >= STREAMS && at < STREAMS + HDA_STREAMS * 0x20) {
        hda_stream_write(&h->stream[(at - STREAMS) / 0x20], at & 0x1f, (uint32_t)value, size);
    } else if (at >= CORBLBASE && at < IC) {
        ring_write(h, at, (uint32_t)value);
    } else if (at < STREAMS) {
        global_write(h, at, (uint32_t)value);
    }
    hda_update_irq(h);
}

static const struct io_ops hda_ops = {
    .name = "hda", .read = hda_read, .write = hda_write, .max_size = 4};

static const struct pci_function_info hda_info = {
    .vendor = 0x8086,
    .device = 0x293e,
    .subsystem_vendor = 0x8086,
    .subsystem = 0x293e,
    .class_code = 0x04,
    .subclass = 0x03,
    .revision = 3,
    .interrupt_pin = 1,
    .bar = {{PCI_BAR_MEM32, 0x4000, &hda_ops}},
    .msi = true,
};

/* --- for the machine --- */

static void timer_fired(void *opaque)
{
    struct hda *h = opaque;

    hda_streams_move(h);
    hda_streams_arm(h);
}

static bool hda_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct hda *h = dev;
    const struct hda_config *c = config;

    h->host = host;
    h->audio = c->audio;
    h->no_recording = c->no_recording;
    h->timer = timer_new(host->clock, timer_fired, h);
    controller_reset(h);
    return pci_function_init(&h->pci, c->pci.bus, c->pci.devfn, h, &hda_info, error);
}

static void hda_fini(void *dev)
{
    struct hda *h = dev;

    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        g_clear_pointer(&h->stream[i].audio, audio_stream_free);
    }
    timer_free(h->timer);
    if (h->pci.info) {
        pci_function_fini(&h->pci);
    }
}

static void hda_reset(void *dev)
{
    struct hda *h = dev;

    h->gctl = 0;
    controller_reset(h);
    pci_function_reset(&h->pci);
}

static void stream_state(struct hda_stream *x, struct state *s)
{
    state_u32(s, "control", &x->control);
    state_u8(s, "status", &x->status);
    state_u32(s, "position", &x->position);
    state_u32(s, "length", &x->length);
    state_u16(s, "last", &x->last);
    state_u16(s, "format", &x->format);
    state_u64(s, "list", &x->list);
    state_u32(s, "entry", &x->entry);
    state_u32(s, "offset", &x->offset);
    state_u64(s, "time", &x->time);
    state_u32(s, "rest", &x->rest);
}

static void codec_state(struct hda *h, struct state *s)
{
    for (unsigned i = 0; i < HDA_NODES; i++) {
        struct hda_node *n = &h->node[i];
        state_push(s, "node", i);
        state_u16(s, "format", &n->format);
        state_u8(s, "stream", &n->stream);
        state_bytes(s, "gain", n->gain, sizeof n->gain);
        state_u8(s, "pin", &n->pin);
        state_u8(s, "power", &n->power);
        state_u32(s, "config", &h->pin_config[i]);
        state_pop(s);
    }
}

static void hda_state(void *dev, struct state *s)
{
    struct hda *h = dev;

    pci_function_state(&h->pci, s);
    state_u32(s, "gctl", &h->gctl);
    state_u32(s, "intctl", &h->intctl);
    state_u32(s, "immediate", &h->immediate);
    state_u8(s, "immediate-status", &h->immediate_status);
    state_u16(s, "statests", &h->statests);
    state_u16(s, "wakeen", &h->wakeen);
    state_u64(s, "corb", &h->corb);
    state_u16(s, "corb-write", &h->corb_write);
    state_u16(s, "corb-read", &h->corb_read);
    state_u8(s, "corb-control", &h->corb_control);
    state_u8(s, "corb-status", &h->corb_status);
    state_u64(s, "rirb", &h->rirb);
    state_u16(s, "rirb-write", &h->rirb_write);
    state_u16(s, "rirb-count", &h->rirb_count);
    state_u16(s, "rirb-since", &h->rirb_since);
    state_u8(s, "rirb-control", &h->rirb_control);
    state_u8(s, "rirb-status", &h->rirb_status);
    state_u64(s, "positions", &h->positions);
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        state_push(s, "stream", i);
        stream_state(&h->stream[i], s);
        state_pop(s);
    }
    codec_state(h, s);
}

static bool hda_restored(void *dev, GError **error)
{
    struct hda *h = dev;

    h->corb_write &= 0xff;
    h->rirb_write &= 0xff;
    pci_function_restored(&h->pci);
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        struct hda_stream *s = &h->stream[i];
        s->last &= 0xff;
        s->entry &= 0xff;
        hda_stream_open(s);
    }
    hda_streams_arm(h);
    return true;
}

const struct device_class hda_device = {
    .name = "ich9-hda",
    .size = sizeof(struct hda),
    .version = 1,
    .init = hda_init,
    .fini = hda_fini,
    .reset = hda_reset,
    .state = hda_state,
    .restored = hda_restored,
};
