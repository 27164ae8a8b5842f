/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine that is about to be made. Everything is built in a hidden folder beside the machines
 * and renamed when it is complete, so that a failure or a cancellation leaves nothing behind.
 */
#pragma once

#include "rs-host.h"
#include "rs-library.h"
#include "rs-media.h"

#define RS_DRAFT_MIN_MEMORY_MIB 16u
#define RS_DRAFT_MIN_DISK_BYTES (UINT64_C(1) << 30)

typedef struct {
    char *name;
    char *iso;   /* NULL: none */
    char *os_id; /* NULL: unknown */
    uint64_t memory_mib;
    uint64_t disk_bytes; /* 0: no disk */
    unsigned processors;
    char *firmware, *engine, *serial, *network, *card, *video; /* as in machine.ini */
    bool demo; /* a small Linux made from the host's packages */
} RsDraft;

typedef void (*RsDraftProgress)(const char *sentence, gpointer data);

RsDraft *rs_draft_new(void);
RsDraft *rs_draft_new_demo(RsLibrary *library);
RsDraft *rs_draft_copy(const RsDraft *draft);
void rs_draft_free(RsDraft *draft);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RsDraft, rs_draft_free)

/* Removes what a creation that was killed long ago left behind. */
void rs_draft_clean_up(void);
/* The default values for a medium on this host; the name is free in the library. */
void rs_draft_apply_media(RsDraft *draft, const RsMedia *media, RsLibrary *library);
/* NULL: it can be made. Else the reason, one translated sentence. */
char *rs_draft_check(const RsDraft *draft, RsLibrary *library);
/* Progress is told in the main context, for demonstrations only. */
void rs_draft_create_async(const RsDraft *draft, RsDraftProgress progress, gpointer progress_data,
                           GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data);
/* The new machine's id. */
char *rs_draft_create_finish(GAsyncResult *result, GError **error);

/* An empty disk image in a new file. */
bool rs_draft_create_disk(const char *path, uint64_t bytes, GCancellable *cancellable,
                          GError **error);
