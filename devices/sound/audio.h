/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sound on the host, through libpulse (PulseAudio or PipeWire), asynchronously on the default
 * GMainContext.
 *
 * A stream is a queue of samples between the device and the server. Nothing here ever waits:
 * without a server what is written goes nowhere and what is read is silence, and the server is
 * looked for again and again. Machine lock held.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct audio;
struct audio_stream;

struct audio_format {
    unsigned rate, channels, bytes; /* of a sample: 2 or 4, signed little-endian */
};

struct audio_counters {
    uint64_t played, recorded;    /* bytes that went to and came from the server */
    uint64_t underruns, overruns; /* gaps: the device was late; losses: the other side was */
};

struct audio *audio_new(const char *name); /* as the user's mixer shows it */
void audio_free(struct audio *audio);      /* NULL is fine */
void audio_counters(const struct audio *audio, struct audio_counters *out);

struct audio_stream *audio_stream_new(struct audio *audio, bool capture,
                                      const struct audio_format *format);
void audio_stream_free(struct audio_stream *stream); /* NULL is fine */
void audio_stream_write(struct audio_stream *stream, const void *bytes, size_t len);
void audio_stream_read(struct audio_stream *stream, void *bytes, size_t len);
/* How far the device is ahead of what it should be, from -1 (nothing is queued) to 1 (twice as much
 * as wanted). */
double audio_stream_lead(const struct audio_stream *stream);
