/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB device that is this program: usbip's protocol (Linux, Documentation/usb/usbip_protocol.rst)
 * over a socket pair into vhci_hcd. High speed, vendor's own class, all transfer types, and it
 * misbehaves when asked to:
 *
 *   usb_device PORT [lie N]      attaches itself to vhci's port and goes to the background
 *
 *   endpoints of alternate setting 1: 81h isochronous in, 02h isochronous out, 83h interrupt in,
 * 84h bulk in (bytes count up), 05h bulk out vendor requests:  40h 1 value=mode of 84h    C0h 2:
 * how much came to 05h and 02h, and its sum 40h 3: says something on 83h    40h 4: goes away at
 * once what lies: 1 the configuration's length, 2 an endpoint's size, 3 the number of interfaces,
 *   4 a descriptor of length 0
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CMD_SUBMIT = 1, CMD_UNLINK = 2, RET_SUBMIT = 3, RET_UNLINK = 4 };
enum mode { COUNTS, SHORT, STALLS, NEVER };
#define MAX_DATA (1u << 20)
#define MAX_ISO  128u
#define FRAME_US 1000

struct header { /* big endian */
    uint32_t command, sequence, device, in, endpoint;
    uint32_t a, b, c, d, e; /* submit: flags, length, start, packets, interval; return: status,
                               actual, start, packets, errors; unlink: sequence */
    uint8_t setup[8];
};

struct packet {
    uint32_t offset, length, actual, status;
};

struct request {
    struct request *next;
    struct header h;
    int64_t due; /* us; -1: when there is something to say */
    uint8_t *data;
    uint32_t length, n_packets;
    struct packet packets[MAX_ISO];
};

static int fd;
static struct request *waiting;
static enum mode mode;
static uint32_t received, sum, counter;
static int64_t iso_time[2];
static int lie;

static const uint8_t device_descriptor[] = {18,   1,    0,    2, 0xff, 0, 0, 64, 0x09,
                                            0x12, 0x01, 0x00, 0, 1,    1, 1, 0,  1};
static uint8_t configuration[] = {
    9, 2,    62,   0,  1, 1, 0, 0x80, 50,   9, 4,   0, 0, 0, 0xff, 0,    0, 0,   9, 4, 0,
    1, 5,    0xff, 0,  0, 0, 7, 5,    0x81, 1, 192, 0, 4, 7, 5,    0x02, 1, 192, 0, 4, 7,
    5, 0x83, 3,    64, 0, 4, 7, 5,    0x84, 2, 0,   2, 0, 7, 5,    0x05, 2, 0,   2, 0};
static const uint8_t language[] = {4, 3, 9, 4}, name[] = {10, 3, 'T', 0, 'e', 0, 's', 0, 't', 0};

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

static void get(void *to, size_t n)
{
    for (char *p = to; n;) {
        ssize_t k = read(fd, p, n);
        if (k <= 0) {
            exit(0);
        }
        p += k;
        n -= (size_t)k;
    }
}

static void put(const void *from, size_t n)
{
    for (const char *p = from; n;) {
        ssize_t k = write(fd, p, n);
        if (k <= 0) {
            exit(0);
        }
        p += k;
        n -= (size_t)k;
    }
}

static void answer(struct request *r, int status, uint32_t actual)
{
    struct header h = {.command = htonl(RET_SUBMIT), .sequence = r->h.sequence};
    bool in = r->h.in != 0;

    h.a = htonl((uint32_t)status);
    h.b = htonl(actual);
    h.c = r->h.c;
    h.d = htonl(r->n_packets ? r->n_packets : 0xffffffff);
    put(&h, sizeof h);
    if (in) {
        put(r->data, actual);
    }
    put(r->packets, r->n_packets * sizeof *r->packets);
    free(r->data);
    free(r);
}

static void take(const uint8_t *data, uint32_t n)
{
    received += n;
    for (uint32_t i = 0; i < n; i++) {
        sum = sum * 31 + data[i];
    }
}

/* --- requests --- */

static const uint8_t *descriptor(const uint8_t *s, uint32_t *n)
{
    switch (s[3]) {
    case 1:
        *n = sizeof device_descriptor;
        return device_descriptor;
    case 2:
        *n = sizeof configuration;
        return configuration;
    case 3:
        *n = s[2] ? sizeof name : sizeof language;
        return s[2] ? name : language;
    default:
        return NULL;
    }
}

static void say(void)
{
    for (struct request *r = waiting; r; r = r->next) {
        if (ntohl(r->h.endpoint) == 3 && r->due < 0) {
            r->due = 0;
            return;
        }
    }
}

static void vendor_request(struct request *r)
{
    const uint8_t *s = r->h.setup;
    uint32_t state[2] = {htole32(received), htole32(sum)};

    switch (s[1]) {
    case 1:
        mode = (enum mode)s[2];
        counter = 0;
        break;
    case 2:
        memcpy(r->data, state, r->length < sizeof state ? r->length : sizeof state);
        answer(r, 0, r->length < sizeof state ? r->length : sizeof state);
        received = sum = 0;
        return;
    case 3:
        say();
        break;
    case 4:
        exit(0);
    default:
        answer(r, -EPIPE, 0);
        return;
    }
    answer(r, 0, 0);
}

static void control(struct request *r)
{
    const uint8_t *s = r->h.setup, *bytes = NULL;
    uint32_t n = 0;

    if (s[0] & 0x60) {
        vendor_request(r);
        return;
    }
    if (s[1] == 6) {
        bytes = descriptor(s, &n);
    } else if (s[1] == 0) {
        bytes = (const uint8_t[2]){0, 0};
        n = 2;
    }
    if (s[1] == 6 && !bytes) {
        answer(r, -EPIPE, 0);
        return;
    }
    n = n < r->length ? n : r->length;
    if (bytes) {
        memcpy(r->data, bytes, n);
    }
    answer(r, 0, r->h.in ? n : r->length);
}

/* --- data --- */

static void later(struct request *r, int64_t due)
{
    struct request **at = &waiting;

    r->due = due;
    while (*at) {
        at = &(*at)->next;
    }
    r->next = NULL;
    *at = r;
}

static void bulk_in(struct request *r)
{
    uint32_t n = mode == SHORT ? r->length / 2 + 3 : r->length;

    if (mode == NEVER) {
        later(r, -1);
        return;
    }
    for (uint32_t i = 0; i < r->length; i++) {
        r->data[i] = (uint8_t)counter++;
    }
    answer(r, mode == STALLS ? -EPIPE : 0, mode == STALLS ? 0 : n);
}

/* A packet a millisecond. */
static void isochronous(struct request *r)
{
    int64_t *end = &iso_time[r->h.in != 0], now = now_us();

    *end = (*end < now ? now : *end) + (int64_t)r->n_packets * FRAME_US;
    for (uint32_t i = 0; i < r->n_packets; i++) {
        struct packet *p = &r->packets[i];
        p->actual = p->length;
        p->status = 0;
        if (r->h.in) {
            memset(r->data + ntohl(p->offset), (int)counter++, ntohl(p->length));
        }
    }
    if (!r->h.in) {
        take(r->data, r->length);
    }
    later(r, *end);
}

static void submit(struct request *r)
{
    switch (ntohl(r->h.endpoint)) {
    case 0:
        control(r);
        break;
    case 1:
    case 2:
        isochronous(r);
        break;
    case 3:
        memset(r->data, 'i', r->length);
        later(r, -1);
        break;
    case 4:
        bulk_in(r);
        break;
    default:
        take(r->data, r->length);
        answer(r, 0, r->length);
    }
}

static void unlink_request(const struct header *h)
{
    struct header back = {.command = htonl(RET_UNLINK), .sequence = h->sequence};

    for (struct request **at = &waiting; *at; at = &(*at)->next) {
        struct request *r = *at;
        if (r->h.sequence == h->a) {
            *at = r->next;
            free(r->data);
            free(r);
            back.a = htonl((uint32_t)-ECONNRESET);
            break;
        }
    }
    put(&back, sizeof back);
}

static void receive(void)
{
    struct request *r = calloc(1, sizeof *r);

    get(&r->h, sizeof r->h);
    if (ntohl(r->h.command) == CMD_UNLINK) {
        unlink_request(&r->h);
        free(r);
        return;
    }
    r->length = ntohl(r->h.b);
    r->n_packets = ntohl(r->h.d) <= MAX_ISO ? ntohl(r->h.d) : 0;
    if (r->length > MAX_DATA) {
        exit(3);
    }
    r->data = calloc(1, r->length + 1);
    if (!r->h.in) {
        get(r->data, r->length);
    }
    get(r->packets, r->n_packets * sizeof *r->packets);
    submit(r);
}

/* Answers those whose time has come; when the next comes, in ms. */
static int answer_due(void)
{
    int64_t now = now_us(), next = -1;

    for (struct request **at = &waiting; *at;) {
        struct request *r = *at;
        if (r->due >= 0 && r->due <= now) {
            *at = r->next;
            answer(r, 0, r->length);
            at = &waiting;
            continue;
        }
        if (r->due >= 0 && (next < 0 || r->due < next)) {
            next = r->due;
        }
        at = &r->next;
    }
    return next < 0 ? -1 : (int)((next - now) / 1000) + 1;
}

static void prepare_lie(void)
{
    switch (lie) {
    case 1:
        configuration[2] = 0xff;
        configuration[3] = 0xff;
        break;
    case 2:
        configuration[52] = 0xff;
        configuration[53] = 0xff;
        break;
    case 3:
        configuration[4] = 255;
        break;
    case 4:
        configuration[27] = 0;
        break;
    }
}

static int attach(int port)
{
    char text[64];
    int pair[2], file;
    int n;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
        return -1;
    }
    n = snprintf(text, sizeof text, "%d %d %d %d", port, pair[1], 0x10002 + port, 3);
    file = open("/sys/devices/platform/vhci_hcd.0/attach", O_WRONLY);
    if (file < 0 || write(file, text, (size_t)n) != n) {
        perror("attach");
        return -1;
    }
    close(file);
    close(pair[1]);
    return pair[0];
}

int main(int argc, char **argv)
{
    lie = argc > 3 ? atoi(argv[3]) : 0;
    prepare_lie();
    fd = attach(argc > 1 ? atoi(argv[1]) : 0);
    if (fd < 0) {
        return 1;
    }
    if (fork()) {
        return 0;
    }
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, answer_due()) > 0) {
            receive();
        }
    }
}
