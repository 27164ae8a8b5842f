/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine lock (see lock.h).
 */
#include <glib.h>

#include "lock.h"

static GRecMutex mutex;

void machine_lock(void)
{
    g_rec_mutex_lock(&mutex);
}

void machine_unlock(void)
{
    g_rec_mutex_unlock(&mutex);
}
