/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sound through libpulse (see audio.h). libpulse calls back on the main thread without the machine
 * lock.
 *
 *   playback   device -> queue -> server, as much as the server asks for
 *   recording  server -> queue -> device
 *
 * The device's pace follows the queue (audio_stream_lead), so that the two clocks need not agree.
 */
#include <pulse/glib-mainloop.h>
#include <pulse/pulseaudio.h>
#include <string.h>

#include "audio.h"
#include "device.h"
#include "lock.h"

#define RETRY_SECONDS 2u
#define SERVER_MS     60u /* of playback that the server keeps */
#define QUEUE_MS      50u /* that we want to keep, at first; after gaps more */
#define MOST_REPORTS  20u
#define QUEUE_LONG_MS 150u
#define QUEUE_MOST_MS 250u /* that we do keep */

struct audio {
    char *name;
    pa_glib_mainloop *loop;
    pa_context *context;
    guint retry;
    unsigned reports;
    bool said; /* that there is no server */
    GPtrArray *streams;
    struct audio_counters counters;
};

struct audio_stream {
    struct audio *audio;
    bool capture, ready;
    struct audio_format format;
    pa_stream *stream; /* NULL while there is no server */
    struct audio_counters before;
    GByteArray *queue;
    unsigned queue_ms; /* wanted */
};

static size_t bytes_in(const struct audio_stream *s, unsigned ms)
{
    return (size_t)s->format.rate * ms / 1000 * s->format.channels * s->format.bytes;
}

static void queue_drop(struct audio_stream *s, size_t keep)
{
    size_t frame = s->format.channels * s->format.bytes;

    if (s->queue->len > keep) {
        size_t drop = (s->queue->len - keep) / frame * frame;
        g_byte_array_remove_range(s->queue, 0, (guint)drop);
    }
}

/* --- streams of the server --- */

static void feed(struct audio_stream *s)
{
    size_t frame = s->format.channels * s->format.bytes, room, len;

    if (!s->ready || s->capture) {
        return;
    }
    room = pa_stream_writable_size(s->stream);
    len = room == (size_t)-1 ? 0 : MIN(room, s->queue->len) / frame * frame;
    if (len && pa_stream_write(s->stream, s->queue->data, len, NULL, 0, PA_SEEK_RELATIVE) == 0) {
        g_byte_array_remove_range(s->queue, 0, (guint)len);
        s->audio->counters.played += len;
    }
}

static void server_wants(pa_stream *stream, size_t bytes, void *opaque)
{
    machine_lock();
    feed(opaque);
    machine_unlock();
}

static void take(struct audio_stream *s)
{
    const void *bytes;
    size_t len;

    while (pa_stream_readable_size(s->stream) > 0 && pa_stream_peek(s->stream, &bytes, &len) == 0 &&
           len) {
        if (bytes) {
            g_byte_array_append(s->queue, bytes, (guint)len);
            s->audio->counters.recorded += len;
        }
        pa_stream_drop(s->stream);
    }
    if (s->queue->len > bytes_in(s, QUEUE_MOST_MS)) {
        s->audio->counters.overruns++;
        queue_drop(s, bytes_in(s, s->queue_ms));
    }
}

static void server_has(pa_stream *stream, size_t bytes, void *opaque)
{
    machine_lock();
    take(opaque);
    machine_unlock();
}

static void underflow(pa_stream *stream, void *opaque)
{
    struct audio_stream *s = opaque;

    machine_lock();
    s->audio->counters.underruns++;
    s->queue_ms = MIN(s->queue_ms * 3 / 2, QUEUE_LONG_MS);
    machine_unlock();
}

static void stream_changed(pa_stream *stream, void *opaque)
{
    struct audio_stream *s = opaque;
    pa_stream_state_t state = pa_stream_get_state(stream);

    machine_lock();
    if (s->stream == stream) {
        s->ready = state == PA_STREAM_READY;
        feed(s);
        if (state == PA_STREAM_FAILED) {
            device_log_once("sound", 0, "the sound server refuses a stream: %s",
                            pa_strerror(pa_context_errno(s->audio->context)));
        }
    }
    machine_unlock();
}

static void stream_disconnect(struct audio_stream *s)
{
    s->ready = false;
    if (s->stream) {
        pa_stream_set_state_callback(s->stream, NULL, NULL);
        pa_stream_set_write_callback(s->stream, NULL, NULL);
        pa_stream_set_read_callback(s->stream, NULL, NULL);
        pa_stream_set_underflow_callback(s->stream, NULL, NULL);
        pa_stream_disconnect(s->stream);
        g_clear_pointer(&s->stream, pa_stream_unref);
    }
}

static void stream_connect(struct audio_stream *s)
{
    pa_sample_spec spec = {.format = s->format.bytes == 2 ? PA_SAMPLE_S16LE : PA_SAMPLE_S32LE,
                           .rate = s->format.rate,
                           .channels = (uint8_t)s->format.channels};
    uint32_t any = UINT32_MAX, server = (uint32_t)bytes_in(s, SERVER_MS);
    pa_buffer_attr attr = {any, server, any, any, server / 4};
    pa_stream_flags_t flags = PA_STREAM_ADJUST_LATENCY;

    if (s->stream || !s->audio->context ||
        pa_context_get_state(s->audio->context) != PA_CONTEXT_READY) {
        return;
    }
    s->stream =
        pa_stream_new(s->audio->context, s->capture ? "recording" : "playback", &spec, NULL);
    if (!s->stream) {
        return;
    }
    pa_stream_set_state_callback(s->stream, stream_changed, s);
    if (s->capture) {
        pa_stream_set_read_callback(s->stream, server_has, s);
        pa_stream_connect_record(s->stream, NULL, &attr, flags);
    } else {
        pa_stream_set_write_callback(s->stream, server_wants, s);
        pa_stream_set_underflow_callback(s->stream, underflow, s);
        pa_stream_connect_playback(s->stream, NULL, &attr, flags, NULL, NULL);
    }
}

/* --- the server --- */

static void context_connect(struct audio *a);

static gboolean try_again(gpointer opaque)
{
    struct audio *a = opaque;

    machine_lock();
    a->retry = 0;
    context_connect(a);
    machine_unlock();
    return G_SOURCE_REMOVE;
}

static void context_lost(struct audio *a)
{
    for (unsigned i = 0; i < a->streams->len; i++) {
        stream_disconnect(a->streams->pdata[i]);
    }
    if (!a->said) {
        device_log("sound",
                   "there is no sound server: %s; the guest plays to nobody until there is",
                   pa_strerror(pa_context_errno(a->context)));
        a->said = true;
    }
    pa_context_set_state_callback(a->context, NULL, NULL);
    g_clear_pointer(&a->context, pa_context_unref);
    if (!a->retry) {
        a->retry = g_timeout_add_seconds(RETRY_SECONDS, try_again, a);
    }
}

static void context_changed(pa_context *context, void *opaque)
{
    struct audio *a = opaque;
    pa_context_state_t state = pa_context_get_state(context);

    machine_lock();
    if (a->context == context && state == PA_CONTEXT_READY) {
        a->said = false;
        for (unsigned i = 0; i < a->streams->len; i++) {
            stream_connect(a->streams->pdata[i]);
        }
    } else if (a->context == context && !PA_CONTEXT_IS_GOOD(state)) {
        context_lost(a);
    }
    machine_unlock();
}

static void context_connect(struct audio *a)
{
    a->context = pa_context_new(pa_glib_mainloop_get_api(a->loop), a->name);
    pa_context_set_state_callback(a->context, context_changed, a);
    if (pa_context_connect(a->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0 && a->context) {
        context_lost(a);
    }
}

struct audio *audio_new(const char *name)
{
    struct audio *a = g_new0(struct audio, 1);

    a->name = g_strdup(name);
    a->loop = pa_glib_mainloop_new(NULL);
    a->streams = g_ptr_array_new();
    return a;
}

void audio_free(struct audio *a)
{
    if (!a) {
        return;
    }
    while (a->streams->len) {
        audio_stream_free(a->streams->pdata[0]);
    }
    if (a->context) {
        pa_context_set_state_callback(a->context, NULL, NULL);
        pa_context_disconnect(a->context);
        pa_context_unref(a->context);
    }
    g_clear_handle_id(&a->retry, g_source_remove);
    pa_glib_mainloop_free(a->loop);
    g_ptr_array_unref(a->streams);
    g_free(a->name);
    g_free(a);
}

void audio_counters(const struct audio *a, struct audio_counters *out)
{
    *out = a->counters;
}

/* --- for the device --- */

struct audio_stream *audio_stream_new(struct audio *a, bool capture,
                                      const struct audio_format *format)
{
    struct audio_stream *s = g_new0(struct audio_stream, 1);

    s->audio = a;
    s->capture = capture;
    s->format = *format;
    s->queue = g_byte_array_new();
    s->queue_ms = QUEUE_MS;
    s->before = a->counters;
    g_ptr_array_add(a->streams, s);
    if (!a->context && !a->retry) {
        context_connect(a); /* a guest that never plays needs no server */
    }
    stream_connect(s);
    return s;
}

/* What went wrong in a stream, for those who hear it. */
static void tell_gaps(const struct audio_stream *s)
{
    const struct audio_counters *now = &s->audio->counters;
    uint64_t under = now->underruns - s->before.underruns,
             over = now->overruns - s->before.overruns;

    if ((under || over) && s->audio->reports++ < MOST_REPORTS) { /* guests open and close streams */
        device_log("sound",
                   "%s had %" G_GUINT64_FORMAT " gaps, and lost data %" G_GUINT64_FORMAT " times",
                   s->capture ? "recording" : "playback", under, over);
    }
}

void audio_stream_free(struct audio_stream *s)
{
    if (s) {
        tell_gaps(s);
        stream_disconnect(s);
        g_ptr_array_remove(s->audio->streams, s);
        g_byte_array_unref(s->queue);
        g_free(s);
    }
}

void audio_stream_write(struct audio_stream *s, const void *bytes, size_t len)
{
    g_byte_array_append(s->queue, bytes, (guint)len);
    feed(s);
    if (s->queue->len > bytes_in(s, QUEUE_MOST_MS)) {
        s->audio->counters.overruns += s->ready;
        queue_drop(s, s->ready ? bytes_in(s, s->queue_ms) : bytes_in(s, QUEUE_MOST_MS));
    }
}

void audio_stream_read(struct audio_stream *s, void *bytes, size_t len)
{
    size_t have = MIN(len, s->queue->len);

    memcpy(bytes, s->queue->data, have);
    memset((uint8_t *)bytes + have, 0, len - have);
    if (have) {
        g_byte_array_remove_range(s->queue, 0, (guint)have);
    }
    s->audio->counters.underruns += have < len && s->ready && s->audio->counters.recorded;
}

double audio_stream_lead(const struct audio_stream *s)
{
    double wanted = (double)bytes_in(s, s->queue_ms), lead;

    if (!s->ready || !wanted) {
        return 0;
    }
    lead = CLAMP((s->queue->len - wanted) / wanted, -1, 1);
    return s->capture ? -lead : lead;
}
