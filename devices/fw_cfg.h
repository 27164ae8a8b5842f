/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fw_cfg interface: how SeaBIOS and OVMF learn about the machine. Ports 510h, 511h, 514h.
 */
#pragma once

#include "device.h"

enum {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20
};

extern const struct device_class fw_cfg_device;

/* Sets an item or a file (both copied). False when there is no room, or the name is too long. */
bool fw_cfg_set_item(void *fw_cfg, uint16_t key, const void *data, size_t len);
bool fw_cfg_set_file(void *fw_cfg, const char *name, const void *data, size_t len);
