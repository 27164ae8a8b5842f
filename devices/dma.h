/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DMA of devices whose guests may name any address: to and from RAM only. A device that could write
 * into its own registers would call itself.
 */
#pragma once

#include <string.h>

#include "memory.h"

static inline void *dma_page(struct memory *mem, uint64_t gpa, size_t len, size_t *piece)
{
    void *host = memory_ram_ptr(mem, gpa, len);

    *piece = len;
    if (!host) { /* perhaps in two mappings */
        *piece = MIN(len, GUEST_PAGE_SIZE - (gpa & (GUEST_PAGE_SIZE - 1)));
        host = memory_ram_ptr(mem, gpa, *piece);
    }
    return host;
}

/* False when there is no RAM in part of it; the rest of `buf` is then undefined. */
static inline bool dma_read(struct memory *mem, uint64_t gpa, void *buf, size_t len)
{
    uint8_t *to = buf;

    while (len) {
        size_t piece;
        const void *from = dma_page(mem, gpa, len, &piece);
        if (!from) {
            return false;
        }
        memcpy(to, from, piece);
        to += piece;
        gpa += piece;
        len -= piece;
    }
    return true;
}

static inline bool dma_write(struct memory *mem, uint64_t gpa, const void *buf, size_t len)
{
    const uint8_t *from = buf;

    while (len) {
        size_t piece;
        void *to = dma_page(mem, gpa, len, &piece);
        if (!to) {
            return false;
        }
        memcpy(to, from, piece);
        memory_wrote(mem, to, piece);
        from += piece;
        gpa += piece;
        len -= piece;
    }
    return true;
}
