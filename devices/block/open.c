/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening image files: recognising the format, locking, and the check of ISO 9660 images.
 *
 * Signatures (offset: bytes): qcow2 0: "QFI\xfb" + version 2 or 3 big-endian; VMDK 0: "KDMV",
 * "COWD" or "# Disk DescriptorFile"; VDI 40h: 7F 10 DA BE; VHDX 0: "vhdxfile"; VHD 0: "conectix";
 * QED 0: "QED\0"; LUKS 0: "LUKS\xba\xbe". ISO 9660 (ECMA-119 section 8.4): volume descriptors from
 * 8000h on, 2048 bytes each; type 1, "CD001"; the volume space size in blocks at byte 80, the block
 * size at byte 128, both little-endian first.
 */
#include "block_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_SIZE 512u
#define LOCK_WAIT (G_USEC_PER_SEC / 2)

bool block_is_qcow2(const uint8_t *head, size_t len)
{
    return len >= 8 && memcmp(head, "QFI\xfb\0\0\0", 7) == 0 && (head[7] == 2 || head[7] == 3);
}

const char *block_foreign_format(const uint8_t *head, size_t len)
{
    static const struct {
        unsigned offset, length;
        const char *bytes, *name;
    } signatures[] = {
        {0, 4, "KDMV", "VMDK"},
        {0, 4, "COWD", "VMDK"},
        {0, 21, "# Disk DescriptorFile", "VMDK"},
        {0x40, 4, "\x7f\x10\xda\xbe", "VDI"},
        {0, 8, "vhdxfile", "VHDX"},
        {0, 8, "conectix", "VHD"},
        {0, 4, "QED\0", "QED"},
        {0, 6, "LUKS\xba\xbe", "LUKS"},
        {0, 4, "QFI\xfb", "qcow"},
    };
    if (block_is_qcow2(head, len)) {
        return "qcow2";
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(signatures); i++) {
        if (signatures[i].offset + signatures[i].length <= len &&
            memcmp(head + signatures[i].offset, signatures[i].bytes, signatures[i].length) == 0) {
            return signatures[i].name;
        }
    }
    return NULL;
}

/*
 * Many readers or one writer. File systems without locks are let through. The scribe of a monitor
 * that was killed may be busy for a moment longer.
 */
static bool file_lock(int fd, const char *path, bool writer, GError **error)
{
    struct flock lock = {.l_type = writer ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    for (gint64 end = g_get_monotonic_time() + LOCK_WAIT; g_get_monotonic_time() < end;) {
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES)) {
            return true;
        }
        g_usleep(10000);
    }
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_BUSY,
        "The disk image \"%s\" is in use by another program or running machine%s. Close that "
        "one first.",
        path, writer ? "" : ", which writes to it");
    return false;
}

static int image_open_file(const char *path, bool read_only, GError **error)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int e = errno;
        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(e),
                    "The disk image \"%s\" cannot be opened%s: %s.", path,
                    read_only ? "" : " for writing", g_strerror(e));
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                    "\"%s\" is neither a file nor a block device; it cannot be a disk.", path);
        close(fd);
        return -1;
    }
    return fd;
}

static const char *image_format(int fd, const char *path, GError **error)
{
    uint8_t head[HEAD_SIZE];
    int e = file_read(fd, 0, head, sizeof(head));
    if (e) {
        g_set_error(error, G_IO_ERROR, (int)g_io_error_from_errno(e),
                    "The disk image \"%s\" cannot be read: %s.", path, g_strerror(e));
        return NULL;
    }
    const char *foreign = block_foreign_format(head, sizeof(head));
    if (!foreign) {
        return "raw";
    }
    if (strcmp(foreign, "qcow2") == 0) {
        return foreign;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "\"%s\" is a %s image, which cannot be used directly. Import it, or convert it to "
                "qcow2 first.",
                path, foreign);
    return NULL;
}

struct block_image *block_image_open(const char *path, unsigned flags, const char *format,
                                     unsigned depth, GError **error)
{
    bool read_only = flags & BLOCK_READ_ONLY;
    if (depth > BLOCK_MAX_DEPTH) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "The disk image \"%s\" is part of a chain of more than %u backing files, or of "
                    "a circle of them.",
                    path, BLOCK_MAX_DEPTH);
        return NULL;
    }
    int fd = image_open_file(path, read_only, error);
    if (fd < 0) {
        return NULL;
    }
    bool detected = !format && !(flags & BLOCK_RAW);
    if (detected) {
        format = image_format(fd, path, error);
    } else if (!format) {
        format = "raw";
    }
    if (!format || !file_lock(fd, path, !read_only, error)) {
        close(fd);
        return NULL;
    }
    if (strcmp(format, "qcow2") == 0) {
        return qcow2_open(fd, path, read_only, depth, error);
    }
    return raw_open(fd, path, read_only, detected, error);
}

bool block_image_close(struct block_image *image)
{
    return image ? image->driver->close(image) : true;
}

static uint32_t le32_at(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The size that a volume descriptor set claims; `read` gives 2048 bytes at an offset. */
static uint64_t iso_claimed_size(int (*read)(void *source, uint64_t offset, void *buf),
                                 void *source)
{
    uint8_t d[2048];
    for (unsigned i = 0; i < 64; i++) {
        if (read(source, 0x8000 + i * 2048u, d) || memcmp(d + 1, "CD001", 5) != 0 || d[0] == 255) {
            return 0;
        }
        unsigned block = d[128] | d[129] << 8;
        if (d[0] == 1) {
            return (block == 512 || block == 1024 || block == 2048)
                       ? (uint64_t)le32_at(d + 80) * block
                       : 0;
        }
    }
    return 0;
}

static int iso_read_block(void *source, uint64_t offset, void *buf)
{
    return block_read_sync(source, offset, buf, 2048);
}

uint64_t block_iso_size(struct block *b)
{
    return iso_claimed_size(iso_read_block, b);
}

bool block_iso_check(const char *path, GError **error)
{
    struct block *b = block_open(path, BLOCK_READ_ONLY | BLOCK_RAW, error);
    if (!b) {
        return false;
    }
    uint64_t claimed = block_iso_size(b), have = block_size(b);
    block_close(b);
    if (claimed <= have) {
        return true;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT,
                "The CD image \"%s\" is cut off: its volume has %" G_GUINT64_FORMAT
                " bytes, the file only %" G_GUINT64_FORMAT ". Download it again.",
                path, claimed, have);
    return false;
}
