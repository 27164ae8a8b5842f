/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Back ends of serial ports: standard input and output, a file, a pseudo-terminal. Input arrives on the main loop, with
 * the machine lock held, and only as much as the receiver has room for.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;

struct chardev_receiver {
    size_t (*room)(void *opaque);
    void (*receive)(void *opaque, const uint8_t *bytes, size_t len);
    void *opaque;
};

/* `spec`: "stdio", "file:PATH", "pty" or "none" (the default for NULL). */
struct chardev *chardev_open(const char *spec, GError **error);
void chardev_free(struct chardev *chardev); /* NULL is fine */
void chardev_write(struct chardev *chardev, const uint8_t *bytes, size_t len);
void chardev_set_receiver(struct chardev *chardev, const struct chardev_receiver *receiver);
void chardev_accept(struct chardev *chardev); /* the receiver has room again */
const char *chardev_path(const struct chardev *chardev); /* of the pseudo-terminal, or NULL */
