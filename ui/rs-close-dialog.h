/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The question what becomes of running machines when the last window closes; and carrying out the
 * answer. */
#pragma once

#include <gtk/gtk.h>

typedef enum { RS_CLOSE_CANCEL, RS_CLOSE_KEEP, RS_CLOSE_SUSPEND, RS_CLOSE_SHUT_DOWN } RsCloseChoice;
typedef void (*RsCloseAnswered)(RsCloseChoice choice, gpointer data);

/* Takes the array of RsMachine. Does not ask when the setting close-choice says what to do. Calls
 * back once, after the machines were suspended or asked to shut down; with CANCEL also when that
 * failed. */
void rs_close_dialog_run(GtkWindow *parent, GPtrArray *machines, GSettings *settings,
                         RsCloseAnswered answered, gpointer data);
