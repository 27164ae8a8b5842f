/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture files that tcpdump and Wireshark read: the classic pcap format with times in microseconds
 * (draft-ietf-opsawg-pcap), link type Ethernet.
 *
 *   24 bytes  u32 a1b2c3d4h, u16 2, u16 4, u32 0, u32 0, u32 snapshot length, u32 1 (Ethernet)
 *   packets   u32 seconds, u32 microseconds, u32 bytes here, u32 bytes on the wire, the bytes
 *
 * In the host's byte order, which readers find out from the first word.
 */
#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <unistd.h>

#include "backend.h"
#include "device.h"

struct pcap {
    FILE *file;
    char *path;
    bool failed;
};

static struct pcap *pcap_new(FILE *file, const char *path, GError **error)
{
    uint32_t head[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, NET_MAX_PACKET, 1};
    struct pcap *p;

    if (!file || fwrite(head, sizeof head, 1, file) != 1 || fflush(file)) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "The capture file %s cannot be written: %s", path, g_strerror(errno));
        if (file) {
            fclose(file);
        }
        return NULL;
    }
    p = g_new0(struct pcap, 1);
    p->file = file;
    p->path = g_strdup(path);
    return p;
}

struct pcap *pcap_open(const char *path, GError **error)
{
    return pcap_new(fopen(path, "we"), path, error);
}

struct pcap *pcap_take(int fd, GError **error)
{
    FILE *file = ftruncate(fd, 0) == 0 ? fdopen(fd, "w") : NULL;

    if (!file) {
        int why = errno;
        close(fd);
        errno = why;
    }
    return pcap_new(file, "that was handed over", error);
}

void pcap_write(struct pcap *p, const uint8_t *frame, size_t len)
{
    gint64 now = g_get_real_time();
    uint32_t head[4] = {(uint32_t)(now / G_USEC_PER_SEC), (uint32_t)(now % G_USEC_PER_SEC),
                        (uint32_t)len, (uint32_t)len};

    if (!p->failed &&
        (fwrite(head, sizeof head, 1, p->file) != 1 || fwrite(frame, len, 1, p->file) != 1)) {
        p->failed = true;
        device_log("network", "the capture file %s cannot be written: %s; the capture has ended",
                   p->path, g_strerror(errno));
    }
}

void pcap_close(struct pcap *p)
{
    if (p) {
        fclose(p->file);
        g_free(p->path);
        g_free(p);
    }
}
