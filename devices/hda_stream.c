/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams (sections 3.3.35 on and 4.5): a list of buffers in guest memory that DMA goes round in.
 *
 * A stream moves on with the machine's clock at the rate of its format, a little faster or slower
 * as the queue to the sound server is empty or full. It is moved by a timer and whenever the guest
 * looks at its position.
 */
#include <string.h>

#include "dma.h"
#include "hda_internal.h"

#define CONTROL_SRST 1u
#define CONTROL_RUN  2u
#define CONTROL_KEEP 0xff001eu /* without reserved bits */
#define STATUS_BCIS  4u
#define STATUS_DESE  0x10u
#define STATUS_READY 0x20u
#define FIFO         0xbfu
#define STEP_NS      5000000u /* between moves */
#define MOST_NS      50000000u
#define PACE         0.01 /* how much faster or slower at most */
#define PIECE        4096u
#define MUTE         0x80u
#define STEPS        74u

enum {
    SD_CTL = 0x00,
    SD_STS = 0x03,
    SD_LPIB = 0x04,
    SD_CBL = 0x08,
    SD_LVI = 0x0c,
    SD_FIFOS = 0x10,
    SD_FMT = 0x12,
    SD_BDPL = 0x18,
    SD_BDPU = 0x1c
};

static bool is_input(const struct hda_stream *s)
{
    return s->index < HDA_INPUTS;
}

/* False: a format that the codec does not have. */
static bool format_of(uint16_t fmt, struct audio_format *f)
{
    static const uint8_t bytes[8] = {1, 2, 4, 4, 4, 0, 0, 0};
    unsigned base = fmt & 1u << 14 ? 44100 : 48000;

    f->rate = base * ((fmt >> 11 & 7) + 1) / ((fmt >> 8 & 7) + 1);
    f->channels = (fmt & 15) + 1u;
    f->bytes = bytes[fmt >> 4 & 7];
    return !(fmt & 1u << 15) && f->rate >= 16000 && f->rate <= 96000 && f->channels <= 2 &&
           f->bytes >= 2;
}

/* Bytes a second: also of formats that nobody hears. At least 1. */
static uint32_t byte_rate(const struct hda_stream *s)
{
    struct audio_format f;

    format_of(s->format, &f);
    return MAX(f.rate * f.channels * f.bytes, 1u);
}

void hda_stream_open(struct hda_stream *s)
{
    const struct hda_node *node = hda_codec_converter(s->hda, s->control >> 20 & 15, is_input(s));
    bool wanted = (s->control & CONTROL_RUN) && node && node->format == s->format;
    struct audio_format f;

    if (!s->hda->audio || (is_input(s) && s->hda->no_recording) || !format_of(s->format, &f)) {
        wanted = false;
    }
    if (wanted && !s->audio) {
        s->audio = audio_stream_new(s->hda->audio, is_input(s), &f);
    } else if (!wanted) {
        g_clear_pointer(&s->audio, audio_stream_free);
    }
}

/* 65536 for 0 dB, 1 dB less for each step below. */
static int32_t gain_factor(uint8_t gain)
{
    uint64_t factor = 65536;

    for (unsigned i = MIN(gain & 0x7fu, STEPS); i < STEPS; i++) {
        factor = factor * 58409 / 65536; /* 10^(-1/20) */
    }
    return gain & MUTE ? 0 : (int32_t)factor;
}

static void amplify(const struct hda_stream *s, uint8_t *bytes, size_t len)
{
    const struct hda_node *node = hda_codec_converter(s->hda, s->control >> 20 & 15, is_input(s));
    int32_t factor[2] = {gain_factor(node->gain[0]), gain_factor(node->gain[1])};
    bool stereo = s->format & 15, wide = (s->format >> 4 & 7) > 1;
    size_t size = wide ? 4 : 2;

    if (factor[0] == 65536 && factor[1] == 65536) {
        return;
    }
    for (size_t i = 0; i + size <= len; i += size) {
        int32_t value = 0, by = factor[stereo ? i / size % 2 : 0];
        int16_t narrow;
        if (wide) {
            memcpy(&value, bytes + i, 4);
            value = (int32_t)(((int64_t)value * by) >> 16);
            memcpy(bytes + i, &value, 4);
        } else {
            memcpy(&narrow, bytes + i, 2);
            narrow = (int16_t)(((int32_t)narrow * (int64_t)by) >> 16);
            memcpy(bytes + i, &narrow, 2);
        }
    }
}

/* Between guest memory and the queue. */
static void transfer(struct hda_stream *s, uint64_t address, uint32_t len)
{
    uint8_t bytes[PIECE] = {0};

    if (is_input(s)) {
        if (s->audio) {
            audio_stream_read(s->audio, bytes, len);
            amplify(s, bytes, len);
        }
        dma_write(s->hda->host->memory, address, bytes, len);
    } else if (s->audio && dma_read(s->hda->host->memory, address, bytes, len)) {
        amplify(s, bytes, len);
        audio_stream_write(s->audio, bytes, len);
    }
}

/* Moves up to `bytes` in the current entry of the list; returns how many, 0 when its end was
 * reached. */
static uint32_t move_entry(struct hda_stream *s, uint32_t bytes)
{
    struct {
        uint64_t address;
        uint32_t length, flags;
    } entry;

    if (!dma_read(s->hda->host->memory, s->list + 16ull * s->entry, &entry, sizeof entry)) {
        s->status |= STATUS_DESE;
        s->control &= ~CONTROL_RUN;
        return 0;
    }
    if (s->offset >= entry.length) {
        s->status |= entry.flags & 1 ? STATUS_BCIS : 0;
        s->offset = 0;
        s->entry = s->entry >= s->last ? 0 : s->entry + 1;
        return 0;
    }
    bytes = MIN(MIN(bytes, entry.length - s->offset), PIECE);
    transfer(s, entry.address + s->offset, bytes);
    s->offset += bytes;
    s->position += bytes;
    if (s->length && s->position >= s->length) {
        s->position -= s->length;
    }
    if (s->offset >= entry.length) {
        move_entry(s, 0); /* its interrupt comes now */
    }
    return bytes;
}

/* How many bytes are due, at the pace that the queue wants. Whole frames. */
static uint32_t bytes_due(struct hda_stream *s, uint64_t now)
{
    uint64_t elapsed = now > s->time ? MIN(now - s->time, MOST_NS) : 0, rate = byte_rate(s), frame;
    double pace = s->audio ? 1 - PACE * audio_stream_lead(s->audio) : 1;
    uint64_t due = (uint64_t)((double)(elapsed * rate) * pace) + s->rest, bytes;
    struct audio_format f;

    format_of(s->format, &f);
    frame = MAX(f.channels * f.bytes, 1u);
    bytes = due / NS_PER_SECOND / frame * frame;
    s->rest = (uint32_t)MIN(due - bytes * NS_PER_SECOND, UINT32_MAX);
    s->time = now;
    return (uint32_t)bytes;
}

static void stream_move(struct hda_stream *s, uint64_t now)
{
    uint32_t bytes;

    if (!(s->control & CONTROL_RUN)) {
        return;
    }
    bytes = bytes_due(s, now);
    /* A list of empty entries ends the walk, not the stream. */
    for (unsigned idle = 0; bytes && idle < 300 && (s->control & CONTROL_RUN);) {
        uint32_t moved = move_entry(s, bytes);
        bytes -= moved;
        idle = moved ? 0 : idle + 1;
    }
    if (s->hda->positions & 1) {
        uint32_t position = GUINT32_TO_LE(s->position);
        dma_write(s->hda->host->memory, (s->hda->positions & ~127ull) + 8ull * s->index, &position,
                  4);
    }
}

void hda_streams_move(struct hda *h)
{
    uint64_t now = clock_now(h->host->clock);

    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        stream_move(&h->stream[i], now);
    }
    hda_update_irq(h);
}

void hda_streams_arm(struct hda *h)
{
    bool any = false;

    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        any |= h->stream[i].control & CONTROL_RUN;
    }
    if (any) {
        timer_arm(h->timer, clock_now(h->host->clock) + STEP_NS);
    } else {
        timer_disarm(h->timer);
    }
}

void hda_stream_reset(struct hda_stream *s)
{
    struct hda *hda = s->hda;
    unsigned index = s->index;

    g_clear_pointer(&s->audio, audio_stream_free);
    memset(s, 0, sizeof *s);
    s->hda = hda;
    s->index = index;
}

uint32_t hda_stream_read(struct hda_stream *s, unsigned at, unsigned size)
{
    switch (at) {
    case SD_CTL:
        return s->control | (size == 4 ? (uint32_t)(s->status | STATUS_READY) << 24 : 0);
    case SD_CTL + 1:
        return s->control >> 8;
    case SD_CTL + 2:
        return s->control >> 16 | (size == 2 ? (uint32_t)(s->status | STATUS_READY) << 8 : 0);
    case SD_STS:
        return s->status | STATUS_READY;
    case SD_LPIB:
        hda_streams_move(s->hda);
        return s->position;
    case SD_CBL:
        return s->length;
    case SD_LVI:
        return s->last;
    case SD_FIFOS:
        return FIFO | (size == 4 ? (uint32_t)s->format << 16 : 0);
    case SD_FMT:
        return s->format;
    case SD_BDPL:
        return (uint32_t)s->list;
    case SD_BDPU:
        return (uint32_t)(s->list >> 32);
    default:
        return 0;
    }
}

static void control_write(struct hda_stream *s, uint32_t value)
{
    bool was = s->control & CONTROL_RUN;

    if (value & CONTROL_SRST) {
        hda_stream_reset(s);
        s->control = CONTROL_SRST;
        return;
    }
    hda_streams_move(s->hda);
    s->control = value & CONTROL_KEEP;
    if (!was && (s->control & CONTROL_RUN)) {
        s->time = clock_now(s->hda->host->clock);
        s->rest = 0;
    }
    hda_stream_open(s);
    hda_streams_arm(s->hda);
}

void hda_stream_write(struct hda_stream *s, unsigned at, uint32_t value, unsigned size)
{
    switch (at) {
    case SD_CTL:
        if (size == 4) {
            s->status &= (uint8_t) ~(value >> 24 & 0x1c);
        }
        control_write(s, size == 1   ? (s->control & 0xffff00) | (value & 0xff)
                         : size == 2 ? (s->control & 0xff0000) | (value & 0xffff)
                                     : value & 0xffffff);
        break;
    case SD_CTL + 2:
        control_write(s, (s->control & 0xffff) | (value & 0xff) << 16);
        break;
    case SD_STS:
        s->status &= (uint8_t) ~(value & 0x1c);
        break;
    case SD_CBL:
        s->length = value;
        break;
    case SD_LVI:
        s->last = value & 0xff;
        break;
    case SD_FIFOS:
        if (size == 4) {
            s->format = (uint16_t)(value >> 16);
        }
        break;
    case SD_FMT:
        s->format = (uint16_t)value;
        break;
    case SD_BDPL:
        s->list = (s->list & ~0xffffffffull) | (value & ~127u);
        break;
    case SD_BDPU:
        s->list = (uint32_t)s->list | (uint64_t)value << 32;
        break;
    }
    hda_update_irq(s->hda);
}
