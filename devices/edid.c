/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EDID 1.4, the base block only (see edid.h; sections cited are of its standard). */
#include "edid.h"

#include <string.h>

#define DPI          96u
#define BLANK_WIDTH  160u /* with CVT's reduced blanking: 48 front porch, 32 sync, 80 back */
#define BLANK_HEIGHT 35u

static uint32_t millimetres(uint32_t pixels)
{
    return pixels * 254u / (DPI * 10u);
}

/* Section 3.9: (width / 8 - 31), aspect ratio, rate - 60. */
static void standard_timings(uint8_t *at)
{
    enum { A16_10 = 0x00, A4_3 = 0x40, A5_4 = 0x80, A16_9 = 0xc0 };
    static const struct {
        uint16_t width;
        uint8_t aspect;
    } sizes[8] = {{960, A4_3},    {1024, A16_10}, {1152, A4_3},  {1280, A16_9},
                  {1280, A16_10}, {1600, A16_9},  {1920, A16_9}, {1920, A16_10}};

    for (unsigned i = 0; i < 8; i++) {
        at[2 * i] = (uint8_t)(sizes[i].width / 8 - 31);
        at[2 * i + 1] = sizes[i].aspect;
    }
}

/* Section 3.10.2. */
static bool detailed_timing(uint8_t *at, uint32_t width, uint32_t height)
{
    uint64_t clock = (uint64_t)(width + BLANK_WIDTH) * (height + BLANK_HEIGHT) * 60 / 10000;
    uint32_t mm_width = millimetres(width), mm_height = millimetres(height);

    if (width > 0xfff || height > 0xfff || clock > 0xffff) {
        return false;
    }
    at[0] = (uint8_t)clock;
    at[1] = (uint8_t)(clock >> 8);
    at[2] = (uint8_t)width;
    at[3] = BLANK_WIDTH;
    at[4] = (uint8_t)(width >> 8 << 4);
    at[5] = (uint8_t)height;
    at[6] = BLANK_HEIGHT;
    at[7] = (uint8_t)(height >> 8 << 4);
    at[8] = 48; /* front porch and sync, across and down */
    at[9] = 32;
    at[10] = 3 << 4 | 6;
    at[12] = (uint8_t)mm_width;
    at[13] = (uint8_t)mm_height;
    at[14] = (uint8_t)(mm_width >> 8 << 4 | mm_height >> 8);
    at[17] = 0x1a; /* digital separate sync, horizontal positive */
    return true;
}

/* Section 3.10.3: a descriptor that is no timing. */
static void descriptor(uint8_t *at, uint8_t tag, const void *bytes, size_t len)
{
    at[3] = tag;
    memset(at + 5, ' ', 13);
    memcpy(at + 5, bytes, len);
}

bool edid_make(uint8_t edid[EDID_SIZE], uint32_t width, uint32_t height)
{
    static const uint8_t head[] = {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0};
    /* sRGB's primaries and white (section 3.7) */
    static const uint8_t colours[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    static const uint8_t limits[] = {1, 120, 15, 250, 66, 1, '\n'};
    /* Section 3.10.3.9, at 60 Hz: 848 x 480; 1280 x 768, 960, 1024; 1360 x 768, 1440 x 900, 1400 x
     * 1050; 1680 x 1050, 1600 x 1200. A console that cannot grow takes the largest that fits. */
    static const uint8_t established[] = {10, 0x08, 0x4a, 0xa2, 0x24};
    uint8_t sum = 0;

    memset(edid, 0, EDID_SIZE);
    if (!detailed_timing(edid + 54, width, height)) {
        return false;
    }
    memcpy(edid, head, sizeof head);
    edid[8] = ('R' - '@') << 2 | ('S' - '@') >> 3; /* manufacturer RSD, three letters of 5 bits */
    edid[9] = (uint8_t)(('S' - '@') << 5 | ('D' - '@'));
    edid[10] = 1;           /* product */
    edid[17] = 2024 - 1990; /* year */
    edid[18] = 1;           /* version 1.4 */
    edid[19] = 4;
    edid[20] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    edid[21] = (uint8_t)(millimetres(width) / 10);
    edid[22] = (uint8_t)(millimetres(height) / 10);
    edid[23] = 120;  /* gamma 2.2 */
    edid[24] = 0x07; /* sRGB; the first timing is the native one; any frequency in the limits */
    memcpy(edid + 25, colours, sizeof colours);
    edid[35] = 0xa1; /* 720 x 400, 640 x 480, 800 x 600 */
    edid[36] = 0x08; /* 1024 x 768 */
    standard_timings(edid + 38);
    descriptor(edid + 72, 0xfd, limits, sizeof limits);
    descriptor(edid + 90, 0xfc, "Ringside\n", 9);
    descriptor(edid + 108, 0xf7, established, sizeof established);
    memset(edid + 118, 0, 8);
    for (unsigned i = 0; i < EDID_SIZE - 1; i++) {
        sum = (uint8_t)(sum + edid[i]);
    }
    edid[127] = (uint8_t)-sum;
    return true;
}
