/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the controller (hda.c), its streams (hda_stream.c) and the codec (hda_codec.c) share.
 */
#pragma once

#include "hda.h"

#define HDA_STREAMS 8u /* four inputs, then four outputs */
#define HDA_INPUTS  4u
#define HDA_NODES   6u

struct hda;

struct hda_stream {
    struct hda *hda;
    unsigned index;
    uint32_t control; /* 24 bits */
    uint8_t status;
    uint32_t position, length;  /* LPIB, CBL */
    uint16_t last, format;      /* LVI, FMT */
    uint64_t list;              /* of buffers */
    uint32_t entry, offset;     /* where in the list */
    uint64_t time;              /* up to when the stream has been moved on, ns */
    uint32_t rest;              /* of a byte's time, in ns * rate */
    struct audio_stream *audio; /* while it runs and the codec listens */
};

/* A converter or pin of the codec. */
struct hda_node {
    uint16_t format;
    uint8_t stream;  /* stream number << 4 | channel */
    uint8_t gain[2]; /* left, right: mute << 7 | step */
    uint8_t pin;
    uint8_t power;
};

struct hda {
    struct pci_function pci;
    const struct device_host *host;
    struct audio *audio;
    bool no_recording;
    uint32_t gctl, intctl, immediate;
    uint16_t statests, wakeen, corb_write, corb_read, rirb_write, rirb_count, rirb_since;
    uint8_t corb_control, corb_status, rirb_control, rirb_status, immediate_status;
    uint64_t corb, rirb, positions; /* addresses; of `positions` bit 0 enables */
    struct hda_stream stream[HDA_STREAMS];
    struct hda_node node[HDA_NODES];
    uint32_t pin_config[HDA_NODES];
    struct timer *timer;
};

/* hda.c */
void hda_update_irq(struct hda *h);

/* hda_stream.c */
uint32_t hda_stream_read(struct hda_stream *s, unsigned at, unsigned size);
void hda_stream_write(struct hda_stream *s, unsigned at, uint32_t value, unsigned size);
void hda_stream_reset(struct hda_stream *s);
void hda_streams_move(struct hda *h); /* to now */
void hda_streams_arm(struct hda *h);
void hda_stream_open(struct hda_stream *s); /* or close: as the codec and RUN say */

/* hda_codec.c */
void hda_codec_reset(struct hda *h);
uint32_t hda_codec_command(struct hda *h, uint32_t command);
/* The converter that stream number `n` is connected to, NULL: none. */
const struct hda_node *hda_codec_converter(const struct hda *h, unsigned n, bool input);
