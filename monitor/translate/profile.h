/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a CPU's time goes (engine option "profile"): at each tick of its thread's own time the
 * signal handler notes what the thread was at. Told in the log when the machine ends, with the
 * counters of struct counters.
 */
#pragma once

#include "cpu.h"

/* Async-signal-safe; on the CPU's own thread. `pc`: where it was interrupted. */
void profile_sample(struct vcpu *v, uint64_t pc);
void profile_log(const struct vcpu *v);
