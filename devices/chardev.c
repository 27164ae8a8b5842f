/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serial back ends (see chardev.h). Standard input is put into raw mode when it is a terminal, and
 * back at the end; Ctrl-] leaves the program there. Output that a pseudo-terminal has no room for
 * is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "chardev.h"
#include "lock.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */

struct chardev {
    int in, out;
    bool close_in, close_out, stdio, raw;
    struct termios saved;
    struct chardev_receiver receiver;
    GSource *source;
    char *path;
};

static gboolean chardev_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct chardev *c = opaque;
    uint8_t bytes[64];
    size_t room;
    ssize_t n = 0;
    gboolean more = G_SOURCE_REMOVE;

    machine_lock();
    room = c->receiver.room ? c->receiver.room(c->receiver.opaque) : 0;
    if (room) {
        n = read(fd, bytes, MIN(room, sizeof bytes));
        more = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
    }
    if (n > 0 && c->raw && memchr(bytes, ESCAPE_KEY, (size_t)n)) {
        raise(SIGINT);
    } else if (n > 0) {
        c->receiver.receive(c->receiver.opaque, bytes, (size_t)n);
    }
    if (!more) {
        g_clear_pointer(&c->source, g_source_unref);
    }
    machine_unlock();
    return more;
}

void chardev_accept(struct chardev *c)
{
    if (c->source || c->in < 0 || !c->receiver.room) {
        return;
    }
    c->source = g_unix_fd_source_new(c->in, G_IO_IN);
    g_source_set_callback(c->source, G_SOURCE_FUNC(chardev_readable), c, NULL);
    g_source_attach(c->source, NULL);
}

void chardev_set_receiver(struct chardev *c, const struct chardev_receiver *receiver)
{
    c->receiver = *receiver;
    chardev_accept(c);
}

static void stdio_open(struct chardev *c)
{
    struct termios raw;

    c->in = STDIN_FILENO;
    c->out = STDOUT_FILENO;
    c->stdio = true;
    if (isatty(c->in) && tcgetattr(c->in, &c->saved) == 0) {
        raw = c->saved;
        cfmakeraw(&raw);
        raw.c_oflag |= OPOST;
        c->raw = tcsetattr(c->in, TCSANOW, &raw) == 0;
    }
}

static bool file_open(struct chardev *c, const char *path, GError **error)
{
    c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    c->close_out = c->out >= 0;
    if (c->out < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "Cannot open %s: %s", path,
                    g_strerror(errno));
    }
    return c->out >= 0;
}

static bool pty_open(struct chardev *c, GError **error)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    char name[128];

    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
        ptsname_r(master, name, sizeof name) != 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "Cannot make a pseudo-terminal: %s", g_strerror(errno));
        if (master >= 0) {
            close(master);
        }
        return false;
    }
    c->in = c->out = master;
    c->close_in = true;
    c->path = g_strdup(name);
    return true;
}

struct chardev *chardev_open(const char *spec, GError **error)
{
    struct chardev *c = g_new0(struct chardev, 1);
    bool ok = true;

    c->in = c->out = -1;
    if (g_strcmp0(spec, "stdio") == 0) {
        stdio_open(c);
    } else if (g_strcmp0(spec, "pty") == 0) {
        ok = pty_open(c, error);
    } else if (spec && g_str_has_prefix(spec, "file:")) {
        ok = file_open(c, spec + 5, error);
    } else if (spec && strcmp(spec, "none") != 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "\"%s\" is no serial port back end (stdio, pty, file:PATH, none)", spec);
        ok = false;
    }
    if (!ok) {
        g_clear_pointer(&c, chardev_free);
    }
    return c;
}

void chardev_free(struct chardev *c)
{
    if (!c) {
        return;
    }
    if (c->source) {
        g_source_destroy(c->source);
        g_source_unref(c->source);
    }
    if (c->raw) {
        tcsetattr(c->in, TCSANOW, &c->saved);
    }
    if (c->close_in) {
        close(c->in);
    }
    if (c->close_out) {
        close(c->out);
    }
    g_free(c->path);
    g_free(c);
}

void chardev_write(struct chardev *c, const uint8_t *bytes, size_t len)
{
    while (len && c->out >= 0) {
        ssize_t n = write(c->out, bytes, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

const char *chardev_path(const struct chardev *c)
{
    return c->path;
}
