/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state, described once for both directions.
 *
 * A device's `state` function calls one of these for each field; saving copies the field out, restoring copies it
 * in. On disk a state file holds GVariant a{s(ua{sv})}: device instance -> (version, fields by name).
 * A field missing or of the wrong type or size makes the restore fail (state_failed), never the process.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct state;

/* Saving: collects fields; state_end_save returns a floating GVariant (ua{sv}). */
struct state *state_begin_save(unsigned version);
GVariant *state_end_save(struct state *state);
/* Restoring from such a variant. state_end_restore: false and an error naming `what` and the field. */
struct state *state_begin_restore(GVariant *variant);
bool state_end_restore(struct state *state, const char *what, GError **error);

bool state_restoring(const struct state *state);
unsigned state_version(const struct state *state); /* of the file, when restoring */
void state_fail(struct state *state, const char *field, const char *why);
bool state_failed(const struct state *state);

void state_bool(struct state *state, const char *name, bool *value);
void state_u8(struct state *state, const char *name, uint8_t *value);
void state_u16(struct state *state, const char *name, uint16_t *value);
void state_u32(struct state *state, const char *name, uint32_t *value);
void state_u64(struct state *state, const char *name, uint64_t *value);
void state_bytes(struct state *state, const char *name, void *bytes, size_t size); /* fixed size */
/* A byte string of varying length up to `max`; *bytes is g_free'd and replaced on restore. */
void state_blob(struct state *state, const char *name, uint8_t **bytes, size_t *size, size_t max);
void state_string(struct state *state, const char *name, char **value); /* may be NULL */
/* Elements of an array: opens a numbered group of fields; names inside get the prefix "name.index.". */
void state_push(struct state *state, const char *name, unsigned index);
void state_pop(struct state *state);
/* A timer's deadline, armed again on restore. */
struct timer;
void state_timer(struct state *state, const char *name, struct timer *timer);
