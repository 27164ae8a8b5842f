/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PNG (ISO/IEC 15948), the least of it: IHDR, one IDAT, IEND; 8-bit RGB, every row with filter 0 or
 * 2 (Up), which packs screens well. The zlib stream comes from GZlibCompressor.
 */
#include <string.h>

#include "picture.h"

static uint32_t crc_update(uint32_t crc, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        }
    }
    return crc;
}

static void put_be32(GByteArray *out, uint32_t value)
{
    uint32_t be = GUINT32_TO_BE(value);

    g_byte_array_append(out, (const uint8_t *)&be, sizeof be);
}

static void put_chunk(GByteArray *out, const char type[4], const uint8_t *bytes, size_t len)
{
    uint32_t crc = crc_update(0xffffffffu, (const uint8_t *)type, 4);

    put_be32(out, (uint32_t)len);
    g_byte_array_append(out, (const uint8_t *)type, 4);
    if (len) {
        g_byte_array_append(out, bytes, (guint)len);
    }
    put_be32(out, ~crc_update(crc, bytes, len));
}

/* One filter byte and the row in RGB, as the difference to the row above. */
static void put_row(uint8_t *to, const uint8_t *row, const uint8_t *above, uint32_t width)
{
    *to++ = above ? 2 : 0;
    for (uint32_t x = 0; x < width; x++, row += 4) {
        for (int channel = 2; channel >= 0; channel--) {
            *to++ = (uint8_t)(row[channel] - (above ? above[x * 4 + (uint32_t)channel] : 0));
        }
    }
}

static GBytes *filter_rows(const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t stride)
{
    size_t row = 1 + 3 * (size_t)width;
    uint8_t *rows = g_malloc(row * height);

    for (uint32_t y = 0; y < height; y++) {
        const uint8_t *from = pixels + (size_t)y * stride;
        put_row(rows + y * row, from, y ? from - stride : NULL, width);
    }
    return g_bytes_new_take(rows, row * height);
}

static GBytes *deflate_bytes(GBytes *bytes, GError **error)
{
    g_autoptr(GZlibCompressor) zlib = g_zlib_compressor_new(G_ZLIB_COMPRESSOR_FORMAT_ZLIB, 6);
    g_autoptr(GOutputStream) memory = g_memory_output_stream_new_resizable();
    g_autoptr(GOutputStream) out = g_converter_output_stream_new(memory, G_CONVERTER(zlib));

    if (!g_output_stream_write_all(out, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                                   NULL, NULL, error) ||
        !g_output_stream_close(out, NULL, error)) {
        return NULL;
    }
    return g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(memory));
}

bool picture_write_png(const char *path, const void *pixels, uint32_t width, uint32_t height,
                       uint32_t stride, GError **error)
{
    g_autoptr(GBytes) rows = NULL;
    g_autoptr(GBytes) packed = NULL;
    g_autoptr(GByteArray) png = g_byte_array_new();
    uint32_t size[2] = {GUINT32_TO_BE(width), GUINT32_TO_BE(height)};
    uint8_t header[13] = {[8] = 8, [9] = 2}; /* 8 bits, RGB */

    if (!width || !height || stride < width * 4) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                            "The machine shows no picture yet");
        return false;
    }
    rows = filter_rows(pixels, width, height, stride);
    packed = deflate_bytes(rows, error);
    if (!packed) {
        return false;
    }
    memcpy(header, size, sizeof size);
    g_byte_array_append(png, (const uint8_t *)"\x89PNG\r\n\x1a\n", 8);
    put_chunk(png, "IHDR", header, sizeof header);
    put_chunk(png, "IDAT", g_bytes_get_data(packed, NULL), g_bytes_get_size(packed));
    put_chunk(png, "IEND", NULL, 0);
    return g_file_set_contents(path, (const char *)png->data, png->len, error);
}
