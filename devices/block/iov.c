/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole file transfers and pieces of I/O vectors, for the image formats. */
#include "block_driver.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

uint64_t iov_length(const struct iovec *iov, unsigned niov)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < niov; i++) {
        sum += iov[i].iov_len;
    }
    return sum;
}

unsigned iov_slice(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len,
                   struct iovec *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < niov && len > 0; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - skip, len);
        out[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, part};
        len -= part;
        skip = 0;
    }
    return n;
}

enum iov_action { IOV_FILL, IOV_FROM, IOV_TO };

static void iov_walk(const struct iovec *iov, unsigned niov, uint64_t skip, uint64_t len,
                     enum iov_action action, uint8_t byte, uint8_t *buf)
{
    for (unsigned i = 0; i < niov && len > 0; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        uint8_t *p = (uint8_t *)iov[i].iov_base + skip;
        size_t part = MIN(iov[i].iov_len - skip, len);
        if (action == IOV_FILL) {
            memset(p, byte, part);
        } else if (action == IOV_FROM) {
            memcpy(p, buf, part);
        } else {
            memcpy(buf, p, part);
        }
        buf = buf ? buf + part : NULL;
        len -= part;
        skip = 0;
    }
}

void iov_fill(const struct iovec *iov, unsigned niov, uint64_t skip, uint8_t byte, uint64_t len)
{
    iov_walk(iov, niov, skip, len, IOV_FILL, byte, NULL);
}

void iov_from_buffer(const struct iovec *iov, unsigned niov, uint64_t skip, const void *buf,
                     uint64_t len)
{
    iov_walk(iov, niov, skip, len, IOV_FROM, 0, (uint8_t *)buf);
}

void iov_to_buffer(const struct iovec *iov, unsigned niov, uint64_t skip, void *buf, uint64_t len)
{
    iov_walk(iov, niov, skip, len, IOV_TO, 0, buf);
}

int file_read(int fd, uint64_t offset, void *buf, size_t len)
{
    struct iovec iov = {buf, len};
    return file_readv(fd, offset, &iov, 1, len);
}

int file_write(int fd, uint64_t offset, const void *buf, size_t len)
{
    struct iovec iov = {(void *)buf, len};
    return file_writev(fd, offset, &iov, 1, len);
}

#define IOV_BATCH 256u

/* A page of guest memory that the host could not make for the kernel: host_memory.h helps us. */
static void iov_touch(const struct iovec *iov, unsigned niov)
{
    for (unsigned i = 0; i < niov; i++) {
        uint8_t *p = iov[i].iov_base, *end = p + iov[i].iov_len;
        for (; p < end; p = MIN(p + 4096 - ((uintptr_t)p & 4095), end)) {
            __atomic_fetch_or(p, 0, __ATOMIC_RELAXED);
        }
    }
}

/* One step of a transfer: at most IOV_BATCH pieces. Returns bytes moved, 0 at the end, or -errno.
 */
static ssize_t file_step(int fd, bool write, uint64_t offset, const struct iovec *iov,
                         unsigned niov, uint64_t done, uint64_t len)
{
    struct iovec part[IOV_BATCH];
    unsigned n = 0;
    uint64_t skip = done, want = MIN(len - done, 64u << 20);
    for (unsigned i = 0; i < niov && want > 0 && n < IOV_BATCH; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        size_t bytes = MIN(iov[i].iov_len - skip, want);
        part[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, bytes};
        want -= bytes;
        skip = 0;
    }
    bool touched = false;
    for (;;) {
        ssize_t r = write ? pwritev(fd, part, n, (off_t)(offset + done))
                          : preadv(fd, part, n, (off_t)(offset + done));
        if (r < 0 && errno == EFAULT && !touched) {
            touched = true;
            iov_touch(part, n);
        } else if (r >= 0 || errno != EINTR) {
            return r < 0 ? -errno : r;
        }
    }
}

int file_readv(int fd, uint64_t offset, const struct iovec *iov, unsigned niov, uint64_t len)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset) {
        return EINVAL;
    }
    for (uint64_t done = 0; done < len;) {
        ssize_t r = file_step(fd, false, offset, iov, niov, done, len);
        if (r < 0) {
            return (int)-r;
        }
        if (r == 0) {
            iov_fill(iov, niov, done, 0, len - done);
            return 0;
        }
        done += (uint64_t)r;
    }
    return 0;
}

int file_writev(int fd, uint64_t offset, const struct iovec *iov, unsigned niov, uint64_t len)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset) {
        return EINVAL;
    }
    for (uint64_t done = 0; done < len;) {
        ssize_t r = file_step(fd, true, offset, iov, niov, done, len);
        if (r <= 0) {
            return r < 0 ? (int)-r : EIO;
        }
        done += (uint64_t)r;
    }
    return 0;
}
