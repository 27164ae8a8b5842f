/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exit statuses of ringside-monitor, and of `ringctl run`, which becomes it. A guest's debug exit
 * with value v gives (v << 1) | 1, the convention of isa-debug-exit.
 */
#pragma once

#define STATUS_POWER_OFF    0
#define STATUS_RESET        100 /* with --no-reboot */
#define STATUS_TRIPLE_FAULT 101
#define STATUS_TIME_OUT     102
#define STATUS_FAILED       103 /* the start failed, or something on the host */
#define STATUS_INTERRUPTED  130
