/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a machine of the library (--machine): its folder, its socket, its whole life.
 */
#pragma once

/* Runs until the machine ends; the process's exit status (see main.c). `engine_options` may be NULL. */
int serve_machine(const char *folder, const char *engine_options);
