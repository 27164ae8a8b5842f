/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scribe. One message of a SOCK_SEQPACKET socket is one transaction, so it arrives whole or not
 * at all: records of offset (8 bytes), length (4) and that many bytes. The answer is an errno (4).
 *
 * The process is forked from one that may have threads: it only makes system calls. It has two
 * descriptors, the socket and the image, and nothing to say. Signals that can be blocked are, and
 * its session is its own, so what ends the monitor does not end it; the end of the socket does.
 */
#include "scribe.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block_driver.h"
#include "device.h"

#define HEAD        12u
#define MESSAGE_MAX (192u << 10) /* the usual socket buffer has 208 KiB */
#define FULL        (64u << 10)

struct scribe {
    int fd; /* the image; not ours to close */
    int socket;
    pid_t pid; /* 0: there is no process */
    GByteArray *message;
    uint8_t *old; /* room for what is overwritten, when it is done here */
    uint64_t end; /* file offset behind the last record */
    size_t last;  /* its place in the message */
};

struct record {
    uint64_t offset;
    uint32_t len;
};

/* --- the transaction; called in either process --- */

/* False at the end, or when the rest is no record. */
static bool record_at(const uint8_t *message, size_t size, size_t at, struct record *r)
{
    if (size - at < HEAD) {
        return false;
    }
    memcpy(&r->offset, message + at, 8);
    memcpy(&r->len, message + at + 8, 4);
    return r->len <= size - at - HEAD;
}

enum record_action { RECORD_KEEP, RECORD_WRITE, RECORD_TAKE_BACK };

/* Stops at the first error. */
static int transaction_walk(int fd, const uint8_t *message, size_t size, uint8_t *old,
                            enum record_action action)
{
    struct record r;
    size_t at = 0;
    for (int e; record_at(message, size, at, &r); at += HEAD + r.len) {
        uint8_t *before = old + at + HEAD;
        if (action == RECORD_KEEP) {
            e = file_read(fd, r.offset, before, r.len);
        } else {
            const void *bytes = action == RECORD_WRITE ? message + at + HEAD : before;
            e = file_write(fd, r.offset, bytes, r.len);
        }
        if (e) {
            return e;
        }
    }
    return at == size ? 0 : EINVAL;
}

static int transaction_write(int fd, const uint8_t *message, size_t size, uint8_t *old)
{
    int e = transaction_walk(fd, message, size, old, RECORD_KEEP);
    if (e) {
        return e;
    }
    e = transaction_walk(fd, message, size, old, RECORD_WRITE);
    if (e) { /* up to the one that failed, which may be there in part */
        transaction_walk(fd, message, size, old, RECORD_TAKE_BACK);
    }
    return e;
}

/* --- the process --- */

static void keep_only(int a, int b)
{
    int low = MIN(a, b), high = MAX(a, b);
    if (low > 0) {
        close_range(0, (unsigned)low - 1, 0);
    }
    if (high > low + 1) {
        close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    }
    close_range((unsigned)high + 1, ~0u, 0);
}

G_NORETURN static void scribe_run(int socket, int fd)
{
    static uint8_t message[MESSAGE_MAX], old[MESSAGE_MAX];
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    setsid();
    prctl(PR_SET_NAME, "ringside-scribe");
    keep_only(socket, fd);
    for (;;) {
        ssize_t n = recv(socket, message, sizeof(message), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            _exit(0);
        }
        int32_t e = transaction_write(fd, message, (size_t)n, old);
        send(socket, &e, sizeof(e), MSG_NOSIGNAL);
    }
}

static void scribe_start(struct scribe *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        scribe_run(pair[1], s->fd);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return;
    }
    s->pid = pid;
    s->socket = pair[0];
}

static void scribe_end(struct scribe *s)
{
    if (s->pid) {
        close(s->socket);
        while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        s->pid = 0;
    }
}

/* --- the monitor's side --- */

struct scribe *scribe_new(int fd)
{
    struct scribe *s = g_new0(struct scribe, 1);
    s->fd = fd;
    s->message = g_byte_array_new();
    scribe_start(s);
    return s;
}

void scribe_free(struct scribe *s)
{
    if (s) {
        scribe_end(s);
        g_byte_array_unref(s->message);
        g_free(s->old);
        g_free(s);
    }
}

void scribe_add(struct scribe *s, uint64_t offset, const void *bytes, uint32_t len)
{
    struct record r = {offset, len};
    bool neighbour = s->message->len > 0 && offset == s->end;
    if (neighbour) {
        memcpy(&r, s->message->data + s->last, HEAD);
        r.len += len;
        memcpy(s->message->data + s->last, &r, HEAD);
    } else {
        s->last = s->message->len;
        g_byte_array_append(s->message, (const uint8_t *)&r, HEAD);
    }
    g_byte_array_append(s->message, bytes, len);
    s->end = offset + len;
}

bool scribe_is_full(const struct scribe *s)
{
    return s->message->len > FULL;
}

bool scribe_is_empty(const struct scribe *s)
{
    return s->message->len == 0;
}

static bool scribe_ask(struct scribe *s, int32_t *answer)
{
    ssize_t n;
    do {
        n = send(s->socket, s->message->data, s->message->len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)s->message->len) {
        return false;
    }
    do {
        n = recv(s->socket, answer, sizeof(*answer), 0);
    } while (n < 0 && errno == EINTR);
    return n == sizeof(*answer);
}

/* Doing it a second time is harmless: the bytes are the same. */
static int commit_here(struct scribe *s)
{
    s->old = g_realloc(s->old, s->message->len);
    return transaction_write(s->fd, s->message->data, s->message->len, s->old);
}

int scribe_commit(struct scribe *s)
{
    int32_t e = 0;
    if (s->message->len > 0) {
        bool small = s->message->len <= MESSAGE_MAX;
        if (s->pid && small && !scribe_ask(s, &e)) {
            device_log("qcow2", "The process that writes an image's tables is gone; "
                                "this one goes on alone.");
            scribe_end(s);
        }
        if (!s->pid || !small) {
            e = commit_here(s);
        }
    }
    if (!e) {
        g_byte_array_set_size(s->message, 0);
    }
    return e;
}

void scribe_forget(struct scribe *s, void (*dropped)(void *opaque, uint64_t offset), void *opaque)
{
    struct record r;
    size_t at = 0;
    for (; record_at(s->message->data, s->message->len, at, &r); at += HEAD + r.len) {
        dropped(opaque, r.offset);
    }
    g_byte_array_set_size(s->message, 0);
}
