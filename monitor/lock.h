/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine lock: one recursive lock for all device state of this process (there is one machine
 * per monitor). The main loop's timers and the CPUs' exits take it; engines run guest code without
 * it.
 */
#pragma once

void machine_lock(void);
void machine_unlock(void);
