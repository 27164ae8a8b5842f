/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request side of disk images: worker threads, completions on the main thread, bounds.
 *
 * One pool of WORKERS threads serves all images. A finished request goes to its block's `finished`
 * list; the first one there attaches an idle source that runs the list's `done` functions under the
 * machine lock.
 */
#include "block_driver.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "lock.h"

#define WORKERS 8

enum request_kind { REQUEST_READ, REQUEST_WRITE, REQUEST_FLUSH, REQUEST_DISCARD, REQUEST_ZERO };

struct request {
    struct block *block;
    enum request_kind kind;
    uint64_t offset, len;
    struct iovec *iov;
    unsigned niov;
    block_done done;
    void *opaque;
    int error;
};

struct block {
    struct block_image *image;
    GMutex lock; /* guards what follows */
    GCond changed;
    GQueue finished;
    unsigned in_flight; /* submitted, `done` not yet called */
    GSource *source;    /* pending idle source */
};

struct block *block_open(const char *path, unsigned flags, GError **error)
{
    bool snapshot = flags & BLOCK_SNAPSHOT;
    struct block_image *image =
        block_image_open(path, snapshot ? flags | BLOCK_READ_ONLY : flags, NULL, 0, error);
    if (image && snapshot) {
        image = overlay_open(image, error);
    }
    if (!image) {
        return NULL;
    }
    struct block *b = g_new0(struct block, 1);
    b->image = image;
    g_mutex_init(&b->lock);
    g_cond_init(&b->changed);
    g_queue_init(&b->finished);
    return b;
}

bool block_close(struct block *b)
{
    if (!b) {
        return true;
    }
    block_drain(b);
    bool ok = block_image_close(b->image);
    g_cond_clear(&b->changed);
    g_mutex_clear(&b->lock);
    g_free(b);
    return ok;
}

uint64_t block_size(const struct block *b)
{
    return b->image->size;
}

bool block_read_only(const struct block *b)
{
    return b->image->read_only;
}

const char *block_path(const struct block *b)
{
    return b->image->path;
}

const char *block_format_name(const struct block *b)
{
    return b->image->driver->name;
}

unsigned block_in_flight(struct block *b)
{
    g_mutex_lock(&b->lock);
    unsigned n = b->in_flight;
    g_mutex_unlock(&b->lock);
    return n;
}

static int request_check(const struct block_image *image, const struct request *r)
{
    if (r->offset > image->size || r->len > image->size - r->offset) {
        return EINVAL;
    }
    bool modifies = r->kind != REQUEST_READ && r->kind != REQUEST_FLUSH;
    return modifies && image->read_only ? EROFS : 0;
}

static int request_execute(struct block_image *image, const struct request *r)
{
    int error = request_check(image, r);
    if (error) {
        return error;
    }
    if (r->len == 0 && r->kind != REQUEST_FLUSH) {
        return 0;
    }
    switch (r->kind) {
    case REQUEST_READ:
        return image->driver->read(image, r->offset, r->iov, r->niov, r->len);
    case REQUEST_WRITE:
        return image->driver->write(image, r->offset, r->iov, r->niov, r->len);
    case REQUEST_FLUSH:
        return image->read_only ? 0 : image->driver->flush(image);
    case REQUEST_DISCARD:
        return image->driver->discard(image, r->offset, r->len);
    case REQUEST_ZERO:
        return image->driver->zero(image, r->offset, r->len);
    }
    return EINVAL;
}

/* Runs the `done` functions of what has finished. Main thread. */
static void block_deliver(struct block *b)
{
    machine_lock();
    g_mutex_lock(&b->lock);
    struct request *r;
    while ((r = g_queue_pop_head(&b->finished)) != NULL) {
        g_mutex_unlock(&b->lock);
        if (r->done) {
            r->done(r->opaque, r->error);
        }
        g_free(r->iov);
        g_free(r);
        g_mutex_lock(&b->lock);
        b->in_flight--;
    }
    g_mutex_unlock(&b->lock);
    machine_unlock();
}

static gboolean block_idle(gpointer data)
{
    struct block *b = data;
    g_mutex_lock(&b->lock);
    g_clear_pointer(&b->source, g_source_unref);
    g_mutex_unlock(&b->lock);
    block_deliver(b);
    return G_SOURCE_REMOVE;
}

/* Lock held. */
static void block_schedule(struct block *b)
{
    if (!b->source) {
        b->source = g_idle_source_new();
        g_source_set_priority(b->source, G_PRIORITY_DEFAULT);
        g_source_set_callback(b->source, block_idle, b, NULL);
        g_source_attach(b->source, NULL);
    }
}

static void request_work(gpointer data, gpointer unused)
{
    struct request *r = data;
    struct block *b = r->block;
    r->error = request_execute(b->image, r);
    g_mutex_lock(&b->lock);
    g_queue_push_tail(&b->finished, r);
    block_schedule(b);
    g_cond_broadcast(&b->changed);
    g_mutex_unlock(&b->lock);
}

static GThreadPool *block_pool(void)
{
    static GThreadPool *pool;
    static gsize once;
    if (g_once_init_enter(&once)) {
        pool = g_thread_pool_new(request_work, NULL, WORKERS, FALSE, NULL);
        g_once_init_leave(&once, 1);
    }
    return pool;
}

static void block_submit(struct block *b, enum request_kind kind, uint64_t offset, uint64_t len,
                         const struct iovec *iov, unsigned niov, block_done done, void *opaque)
{
    struct request *r = g_new0(struct request, 1);
    *r = (struct request){.block = b,
                          .kind = kind,
                          .offset = offset,
                          .len = len,
                          .iov = iov ? g_memdup2(iov, niov * sizeof(*iov)) : NULL,
                          .niov = niov,
                          .done = done,
                          .opaque = opaque};
    g_mutex_lock(&b->lock);
    b->in_flight++;
    g_mutex_unlock(&b->lock);
    g_thread_pool_push(block_pool(), r, NULL);
}

void block_readv(struct block *b, uint64_t offset, const struct iovec *iov, unsigned niov,
                 block_done done, void *opaque)
{
    block_submit(b, REQUEST_READ, offset, iov_length(iov, niov), iov, niov, done, opaque);
}

void block_writev(struct block *b, uint64_t offset, const struct iovec *iov, unsigned niov,
                  block_done done, void *opaque)
{
    block_submit(b, REQUEST_WRITE, offset, iov_length(iov, niov), iov, niov, done, opaque);
}

void block_flush(struct block *b, block_done done, void *opaque)
{
    block_submit(b, REQUEST_FLUSH, 0, 0, NULL, 0, done, opaque);
}

void block_discard(struct block *b, uint64_t offset, uint64_t len, block_done done, void *opaque)
{
    block_submit(b, REQUEST_DISCARD, offset, len, NULL, 0, done, opaque);
}

void block_write_zeroes(struct block *b, uint64_t offset, uint64_t len, block_done done,
                        void *opaque)
{
    block_submit(b, REQUEST_ZERO, offset, len, NULL, 0, done, opaque);
}

void block_drain(struct block *b)
{
    g_mutex_lock(&b->lock);
    while (b->in_flight > 0) {
        while (b->in_flight > 0 && g_queue_is_empty(&b->finished)) {
            g_cond_wait(&b->changed, &b->lock);
        }
        g_mutex_unlock(&b->lock);
        block_deliver(b);
        g_mutex_lock(&b->lock);
    }
    GSource *source = g_steal_pointer(&b->source);
    g_mutex_unlock(&b->lock);
    if (source) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

static int block_sync(struct block *b, enum request_kind kind, uint64_t offset, void *buf,
                      uint64_t len)
{
    struct iovec iov = {buf, len};
    struct request r = {
        .block = b, .kind = kind, .offset = offset, .len = len, .iov = &iov, .niov = 1};
    return request_execute(b->image, &r);
}

int block_read_sync(struct block *b, uint64_t offset, void *buf, size_t len)
{
    return block_sync(b, REQUEST_READ, offset, buf, len);
}

int block_write_sync(struct block *b, uint64_t offset, const void *buf, size_t len)
{
    return block_sync(b, REQUEST_WRITE, offset, (void *)buf, len);
}

int block_flush_sync(struct block *b)
{
    return block_sync(b, REQUEST_FLUSH, 0, NULL, 0);
}

int block_discard_sync(struct block *b, uint64_t offset, uint64_t len)
{
    return block_sync(b, REQUEST_DISCARD, offset, NULL, len);
}

int block_write_zeroes_sync(struct block *b, uint64_t offset, uint64_t len)
{
    return block_sync(b, REQUEST_ZERO, offset, NULL, len);
}
