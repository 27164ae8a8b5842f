/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between block.c and the formats. A format's functions are synchronous, return 0 or an errno and
 * are called from several worker threads at once. Ranges have been checked against `size`.
 */
#pragma once

#include "block.h"

struct block_image;

struct block_driver {
    const char *name;
    int (*read)(struct block_image *image, uint64_t offset, const struct iovec *iov, unsigned niov,
                uint64_t len);
    int (*write)(struct block_image *image, uint64_t offset, const struct iovec *iov, unsigned niov,
                 uint64_t len);
    int (*flush)(struct block_image *image);
    int (*discard)(struct block_image *image, uint64_t offset, uint64_t len);
    int (*zero)(struct block_image *image, uint64_t offset, uint64_t len);
    bool (*close)(struct block_image *image); /* frees the image */
};

/* First member of each format's own struct. */
struct block_image {
    const struct block_driver *driver;
    uint64_t size;
    bool read_only;
    char *path;
};

/* Opens, locks and recognises; `depth` counts backing files. `format` NULL: from the content. */
struct block_image *block_image_open(const char *path, unsigned flags, const char *format,
                                     unsigned depth, GError **error);
bool block_image_close(struct block_image *image);

/* The formats take over `fd` (they close it when they fail, too). */
struct block_image *raw_open(int fd, const char *path, bool read_only, bool detected,
                             GError **error);
struct block_image *qcow2_open(int fd, const char *path, bool read_only, unsigned depth,
                               GError **error);
struct block_image *overlay_open(struct block_image *base, GError **error);

/* Whole transfers at a file offset: 0 or errno; reads past the end of the file give zeroes. */
int file_read(int fd, uint64_t offset, void *buf, size_t len);
int file_write(int fd, uint64_t offset, const void *buf, size_t len);
int file_readv(int fd, uint64_t offset, const struct iovec *iov, unsigned niov, uint64_t len);
int file_writev(int fd, uint64_t offset, const struct iovec *iov, unsigned niov, uint64_t len);

uint64_t iov_length(const struct iovec *iov, unsigned niov);
/* Bytes [skip, skip+len) of `iov` as a new array in `out` (room for niov); returns the count. */
unsigned iov_slice(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len,
                   struct iovec *out);
void iov_fill(const struct iovec *iov, unsigned niov, uint64_t skip, uint8_t byte, uint64_t len);
void iov_from_buffer(const struct iovec *iov, unsigned niov, uint64_t skip, const void *buf,
                     uint64_t len);
void iov_to_buffer(const struct iovec *iov, unsigned niov, uint64_t skip, void *buf, uint64_t len);
/* The other format whose signature `head` (of `len` bytes) carries, or NULL. */
const char *block_foreign_format(const uint8_t *head, size_t len);
bool block_is_qcow2(const uint8_t *head, size_t len);

#define BLOCK_MAX_DEPTH 32u
