/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All or nothing: several small writes to an image's tables that belong together.
 *
 * They are collected, and written in order by a small process of its own, the scribe. Killing the
 * monitor (SIGKILL included) does not stop it between two of them. An error (ENOSPC, EIO) takes
 * back those that were done. A power failure, or killing both processes at once, still can come in
 * between; then the order of the writes is what counts.
 *
 * One caller at a time. Without a scribe (fork failed, somebody killed it) the writes are done
 * here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct scribe;

/* Starts the process, which holds `fd`, and with it the file's lock, until it has ended. */
struct scribe *scribe_new(int fd);
/* Waits until the process is gone. NULL is fine. */
void scribe_free(struct scribe *s);

/* The bytes are copied. Neighbours become one write. */
void scribe_add(struct scribe *s, uint64_t offset, const void *bytes, uint32_t len);
/* Much is collected; commit at the next moment at which the image would be right. */
bool scribe_is_full(const struct scribe *s);
bool scribe_is_empty(const struct scribe *s);
/* Writes what was collected: 0 or an errno; then scribe_forget() must follow. */
int scribe_commit(struct scribe *s);
/* Drops what was collected and calls `dropped` with the offset of each write. */
void scribe_forget(struct scribe *s, void (*dropped)(void *opaque, uint64_t offset), void *opaque);
