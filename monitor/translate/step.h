/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One instruction at a time, for engines that leave to the translator what their hardware does not
 * do (memory-mapped I/O, odd instructions). The engine is created as any other, with the options in
 * STEP_OPTIONS, and never runs: each CPU is stepped by one thread, always the same.
 */
#pragma once

#include "../engine.h"

#define STEP_OPTIONS "step,nowindow,nochain,tlb=16,cache=1"

/* Carries out the instruction at `state`, or delivers the exception that it raises. Translations
 * and TLB entries are forgotten, since the guest changes code and page tables without our
 * knowledge. False: the state has something that the translator does not know; it is unchanged. */
bool translate_step(struct engine *engine, unsigned cpu, struct cpu_state *state);
