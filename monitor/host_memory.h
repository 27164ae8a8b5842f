/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the host has no memory for a guest.
 *
 * Before the start: is there any chance? While the guest runs: the pool's pages are made on first
 * use, and when the host cannot make one the kernel sends SIGBUS (strict overcommit). Then a page
 * of a small reserve is given back to the host, and the access is tried again, so that no thread
 * has to stop in the middle of what it does; the machine pauses, and goes on only when the reserve
 * is whole again. (When the kernel's OOM killer is faster, the monitor dies; disks are consistent
 * then, too.)
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/* False with a sentence: more than this host, or the monitor's control group, could ever give.
 * *warning (g_free) is a sentence when it is only more than is free now, else NULL. `root` is a
 * folder in which to find proc and sys, "" for the real ones. */
bool host_memory_check(const char *root, uint64_t bytes, char **warning, GError **error);

/* One pool for the process: takes over SIGBUS for it. Before an engine takes signals. False: no
 * memory for the reserve. */
bool host_memory_guard(uint8_t *base, uint64_t size, int fd);
void host_memory_unguard(const uint8_t *base);
/* Becomes readable when a page was given back; -1 without a pool. Reading resets it. */
int host_memory_event(void);
/* Nobody runs: fills the reserve again. False: the host still has no memory. */
bool host_memory_settle(void);
