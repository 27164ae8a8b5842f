/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a monitor tells the display adapter of itself (VESA E-EDID Standard, release A.2). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EDID_SIZE 128u

/* A monitor that would like `width` x `height` at 60 Hz best, and takes common sizes. False: the
 * format cannot say that (over 4095, or a pixel clock over 655 MHz). */
bool edid_make(uint8_t edid[EDID_SIZE], uint32_t width, uint32_t height);
