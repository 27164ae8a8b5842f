/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An installer image: is it one, is it whole, which system is on it and what does that system like
 * to have. Volume descriptors by ECMA-119 8.4; the system by libosinfo.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char *path, *label;
    char *os_id;                     /* libosinfo short id, NULL: not recognised */
    char *os_name;                   /* for people, NULL with os_id */
    char *family;                    /* linux, winnt, freebsd ...; NULL with os_id */
    bool bootable, uefi;
    bool virtio_net, virtio_gpu; /* it has a driver for these */
    uint64_t size;
    uint64_t memory_mib, disk_bytes; /* recommended */
    unsigned processors;
} RsMedia;

/* What a system of unknown kind gets; path NULL: no medium ("install later"). */
RsMedia *rs_media_new(const char *path);
RsMedia *rs_media_copy(const RsMedia *media);
void rs_media_free(RsMedia *media);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RsMedia, rs_media_free)

void rs_media_detect_async(const char *path, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer data);
/* NULL with one translated sentence: unreadable, not a disc image, cut off. */
RsMedia *rs_media_detect_finish(GAsyncResult *result, GError **error);
