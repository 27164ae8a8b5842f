/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk images as the devices see them: an array of bytes with asynchronous requests.
 *
 * Formats: qcow2 (qcow2.c) and raw; found from the content, unless a flag says raw. An image of a
 * known other format (VMDK, VDI, VHD, VHDX, QED, qcow1, LUKS) is refused and never taken for raw. A
 * raw image whose format was only detected refuses writes that would make it look like another
 * format, so that a guest cannot turn its disk into, say, a qcow2 file with a backing file of its
 * choice.
 *
 * An image is locked while open (open-file-description locks): many readers or one writer.
 *
 * Requests run on a shared pool of worker threads, in no particular order; a flush covers the
 * requests that were completed before it was submitted. `done` runs on the main thread (default
 * GMainContext) with the machine lock held, exactly once for each request. The bytes an iovec
 * points to must stay valid until then; the iovec array itself is copied. Errors are errno values:
 * EINVAL out of bounds, EROFS, EIO, ENOSPC, ...
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define BLOCK_SECTOR 512u

enum block_flags {
    BLOCK_READ_ONLY = 1,
    BLOCK_SNAPSHOT =
        2, /* the image is only read; writes go to a temporary file and are forgotten at close */
    BLOCK_RAW = 4 /* do not look at the content: it is raw */
};

struct block;

/* NULL and a sentence in `error`: what is wrong with which file and what to do. */
struct block *block_open(const char *path, unsigned flags, GError **error);
/* A new empty image; fails when the file exists. */
bool block_create_qcow2(const char *path, uint64_t size, GError **error);
/* The same with a backing file (a copy-on-write child; `backing_format` "raw" or "qcow2"). */
bool block_create_qcow2_child(const char *path, uint64_t size, const char *backing,
                              const char *backing_format, GError **error);
/* Drains, writes back what is cached, unlocks. NULL is fine. False when that failed: then
 * the image is as after a crash and is repaired when it is opened again. */
bool block_close(struct block *b);

uint64_t block_size(const struct block *b); /* bytes, for raw files rounded down to sectors */
bool block_read_only(const struct block *b);
const char *block_path(const struct block *b);
const char *block_format_name(const struct block *b); /* "raw", "qcow2" */
unsigned block_in_flight(struct block *b);

typedef void (*block_done)(void *opaque, int error_errno);

/* Main thread or machine lock held. */
void block_readv(struct block *b, uint64_t offset, const struct iovec *iov, unsigned niov,
                 block_done done, void *opaque);
void block_writev(struct block *b, uint64_t offset, const struct iovec *iov, unsigned niov,
                  block_done done, void *opaque);
void block_flush(struct block *b, block_done done, void *opaque);
/* A hint: afterwards the range reads as zeroes or as before. */
void block_discard(struct block *b, uint64_t offset, uint64_t len, block_done done, void *opaque);
void block_write_zeroes(struct block *b, uint64_t offset, uint64_t len, block_done done,
                        void *opaque);
/* Main thread: waits until nothing is in flight, running the `done` functions itself. */
void block_drain(struct block *b);

/* Synchronous, from any thread; for tests, tools and tiny reads. 0 or an errno. */
int block_read_sync(struct block *b, uint64_t offset, void *buf, size_t len);
int block_write_sync(struct block *b, uint64_t offset, const void *buf, size_t len);
int block_flush_sync(struct block *b);
int block_discard_sync(struct block *b, uint64_t offset, uint64_t len);
int block_write_zeroes_sync(struct block *b, uint64_t offset, uint64_t len);

/* For the wizard: is the ISO 9660 image whole? False with a sentence when its volume is larger than
 * the file (a download that was cut off). Files that are no ISO 9660 image pass. */
bool block_iso_check(const char *path, GError **error);
/* Bytes that the ISO 9660 volume on `b` claims, 0 when it is none. */
uint64_t block_iso_size(struct block *b);
