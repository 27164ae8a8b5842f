/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB stick of a certain speed that stands in for libusb and what is behind it: preloaded into
 * the monitor, it is whatever device a client passes on. $STICK: bytes a second, microseconds that
 * each transfer takes besides, and 3 for USB 3 or 2.
 *
 * Bulk-only transport, one transfer after the other as on a wire, and nothing is kept: what is read
 * are zeros. With DIRECT it is a program that uses the stick as a driver does that is as near to it
 * as can be: stick-direct BYTES-OF-A-COMMAND BYTES in|out prints MB/s.
 */
#include <libusb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SECTORS 2097152u /* of 512 bytes */

struct item {
    struct item *next;
    struct libusb_transfer *t;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct item *waiting, *finished;
static int event = -1;
static double rate = 40e6, latency_us = 50;
static int usb = 2;
static struct libusb_pollfd poll_event;

static const uint8_t device2[] = {18, 1, 0, 2, 0, 0, 0, 64, 0x34, 0x12, 2, 0, 0, 1, 1, 2, 3, 1};
static const uint8_t device3[] = {18, 1, 0x10, 3, 0, 0, 0, 9, 0x34, 0x12, 3, 0, 0, 1, 1, 2, 3, 1};
static const uint8_t config2[] = {9,    2, 32, 0, 1,    1, 0, 0x80, 50, 9, 4, 0, 0, 2, 8, 6,
                                  0x50, 0, 7,  5, 0x81, 2, 0, 2,    0,  7, 5, 2, 2, 0, 2, 0};
static const uint8_t config3[] = {9, 2,    44, 0, 1, 1,    0, 0x80, 50, 9,    4,  0,    0,  2, 8,
                                  6, 0x50, 0,  7, 5, 0x81, 2, 0,    4,  0,    6,  0x30, 15, 0, 0,
                                  0, 7,    5,  2, 2, 0,    4, 0,    6,  0x30, 15, 0,    0,  0};
static const uint8_t bos[] = {5, 15, 22, 0, 2, 7,  16, 2, 0,  0,   0,
                              0, 10, 16, 3, 0, 14, 0,  1, 10, 255, 7};
static const uint8_t languages[] = {4, 3, 9, 4},
                     name[] = {12, 3, 'S', 0, 't', 0, 'i', 0, 'c', 0, 'k', 0};

/* --- the stick --- */

static struct {
    uint8_t command[31], answer[36];
    size_t have; /* of the answer */
    uint32_t left;
    bool data, in, failed;
} bot;

static void cbw(const uint8_t *b)
{
    static const uint8_t inquiry[36] = {0, 0x80, 5, 2, 31, 0, 0, 0, 'S', 't', 'i', 'c', 'k'};
    static const uint8_t sense[18] = {0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20};
    static const uint8_t capacity[8] = {0, (SECTORS - 1) >> 16, 0xff, 0xff, 0, 0, 2, 0};
    static const uint8_t mode[4] = {3};
    const uint8_t *answer = NULL;

    memcpy(bot.command, b, 31);
    memcpy(&bot.left, b + 8, 4);
    bot.data = bot.left > 0;
    bot.in = b[12] & 0x80;
    bot.have = 0;
    bot.failed = false;
    switch (b[15]) {
    case 0x28: /* read, write */
    case 0x2a:
        bot.have = bot.left;
        return;
    case 0x12:
        bot.have = b[16] & 1 ? 0 : sizeof inquiry;
        bot.failed = b[16] & 1;
        answer = inquiry;
        break;
    case 0x03:
        bot.have = sizeof sense;
        answer = sense;
        break;
    case 0x25:
        bot.have = sizeof capacity;
        answer = capacity;
        break;
    case 0x1a:
        bot.have = sizeof mode;
        answer = mode;
        break;
    case 0x00: /* is it ready, keep it in, write it back */
    case 0x1e:
    case 0x35:
        break;
    default:
        bot.failed = true;
    }
    if (answer) {
        memcpy(bot.answer, answer, bot.have);
    }
}

static void csw(struct libusb_transfer *t)
{
    memcpy(t->buffer, "USBS", 4);
    memcpy(t->buffer + 4, bot.command + 4, 4);
    memset(t->buffer + 8, 0, 5);
    t->buffer[12] = bot.failed;
    t->actual_length = 13;
}

static void bulk(struct libusb_transfer *t)
{
    size_t length = (size_t)t->length;

    t->actual_length = t->length;
    if (!(t->endpoint & 0x80)) {
        if (bot.data) {
            bot.data = false;
        } else if (length == 31) {
            cbw(t->buffer);
        }
    } else if (bot.data) {
        bool rw = bot.command[15] == 0x28;
        length = bot.have < length ? bot.have : length;
        if (rw) {
            memset(t->buffer, 0, length);
        } else {
            memcpy(t->buffer, bot.answer, length);
        }
        t->actual_length = (int)length;
        bot.data = false;
    } else {
        csw(t);
    }
}

static void control(struct libusb_transfer *t)
{
    const uint8_t *s = t->buffer, *answer = NULL;
    static const uint8_t zero[2];
    size_t size = 0, asked = (size_t)(s[6] | s[7] << 8);

    switch (s[0] << 8 | s[1]) {
    case 0x8006:
        if (s[3] == 1) {
            answer = usb == 3 ? device3 : device2;
            size = sizeof device2;
        } else if (s[3] == 2) {
            answer = usb == 3 ? config3 : config2;
            size = usb == 3 ? sizeof config3 : sizeof config2;
        } else if (s[3] == 3) {
            answer = s[2] ? name : languages;
            size = answer[0];
        } else if (s[3] == 15 && usb == 3) {
            answer = bos;
            size = sizeof bos;
        }
        break;
    case 0xa1fe: /* the last unit's number */
        answer = zero;
        size = 1;
        break;
    case 0x8000:
    case 0x8100:
    case 0x8200:
        answer = zero;
        size = 2;
        break;
    default:
        if (!(s[0] & 0x80)) {
            t->actual_length = t->length - LIBUSB_CONTROL_SETUP_SIZE;
            return;
        }
    }
    if (!answer) {
        t->status = LIBUSB_TRANSFER_STALL;
        return;
    }
    size = size < asked ? size : asked;
    memcpy(t->buffer + LIBUSB_CONTROL_SETUP_SIZE, answer, size);
    t->actual_length = (int)size;
}

static void carry_out(struct libusb_transfer *t)
{
    static struct timespec free_at;
    struct timespec now;
    double ns = latency_us * 1e3 + t->length * 1e9 / rate;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (free_at.tv_sec < now.tv_sec ||
        (free_at.tv_sec == now.tv_sec && free_at.tv_nsec < now.tv_nsec)) {
        free_at = now;
    }
    ns += (double)free_at.tv_nsec;
    free_at.tv_sec += (time_t)(ns / 1e9);
    free_at.tv_nsec = (long)ns % 1000000000l;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &free_at, NULL);
    t->status = LIBUSB_TRANSFER_COMPLETED;
    if (t->type == LIBUSB_TRANSFER_TYPE_CONTROL) {
        control(t);
    } else {
        bulk(t);
    }
}

static void append(struct item **list, struct item *item)
{
    item->next = NULL;
    while (*list) {
        list = &(*list)->next;
    }
    *list = item;
}

static void finish(struct item *item)
{
    append(&finished, item);
    eventfd_write(event, 1);
}

static void *stick(void *opaque)
{
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!waiting) {
            pthread_cond_wait(&wake, &lock);
        }
        struct item *item = waiting;
        waiting = item->next;
        pthread_mutex_unlock(&lock);
        carry_out(item->t);
        pthread_mutex_lock(&lock);
        finish(item);
    }
    return NULL;
}

/* --- libusb --- */

int libusb_init(libusb_context **context)
{
    pthread_t thread;

    if (getenv("STICK")) {
        sscanf(getenv("STICK"), "%lf,%lf,%d", &rate, &latency_us, &usb);
    }
    event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *context = (libusb_context *)&event;
    pthread_create(&thread, NULL, stick, NULL);
    return 0;
}

struct libusb_transfer *libusb_alloc_transfer(int packets)
{
    return calloc(1, sizeof(struct libusb_transfer) +
                         (size_t)packets * sizeof(struct libusb_iso_packet_descriptor));
}

void libusb_free_transfer(struct libusb_transfer *t)
{
    free(t);
}

int libusb_submit_transfer(struct libusb_transfer *t)
{
    struct item *item = calloc(1, sizeof *item);

    item->t = t;
    pthread_mutex_lock(&lock);
    append(&waiting, item);
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    return 0;
}

int libusb_cancel_transfer(struct libusb_transfer *t)
{
    int error = LIBUSB_ERROR_NOT_FOUND;

    pthread_mutex_lock(&lock);
    for (struct item **at = &waiting; *at; at = &(*at)->next) {
        struct item *item = *at;
        if (item->t == t) {
            *at = item->next;
            t->status = LIBUSB_TRANSFER_CANCELLED;
            finish(item);
            error = 0;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int libusb_handle_events_timeout_completed(libusb_context *context, struct timeval *tv, int *done)
{
    eventfd_t count;
    struct item *item;

    eventfd_read(event, &count);
    for (;;) {
        pthread_mutex_lock(&lock);
        if ((item = finished)) {
            finished = item->next;
        }
        pthread_mutex_unlock(&lock);
        if (!item) {
            return 0;
        }
        item->t->callback(item->t);
        free(item);
    }
}

const struct libusb_pollfd **libusb_get_pollfds(libusb_context *context)
{
    const struct libusb_pollfd **list = calloc(2, sizeof *list);

    poll_event = (struct libusb_pollfd){event, POLLIN};
    list[0] = &poll_event;
    return list;
}

void libusb_free_pollfds(const struct libusb_pollfd **list)
{
    free(list);
}

static const struct libusb_endpoint_descriptor endpoints[] = {{.bEndpointAddress = 0x81},
                                                              {.bEndpointAddress = 2}};
static const struct libusb_interface_descriptor setting = {.bNumEndpoints = 2,
                                                           .endpoint = endpoints};
static const struct libusb_interface interface = {&setting, 1};
static struct libusb_config_descriptor config = {.bNumInterfaces = 1, .interface = &interface};

int libusb_get_active_config_descriptor(libusb_device *dev, struct libusb_config_descriptor **c)
{
    *c = &config;
    return 0;
}

void libusb_free_config_descriptor(struct libusb_config_descriptor *c)
{
}

int libusb_get_configuration(libusb_device_handle *handle, int *value)
{
    *value = 1;
    return 0;
}

int libusb_get_device_speed(libusb_device *dev)
{
    return usb == 3 ? LIBUSB_SPEED_SUPER : LIBUSB_SPEED_HIGH;
}

int libusb_wrap_sys_device(libusb_context *context, intptr_t fd, libusb_device_handle **handle)
{
    *handle = (libusb_device_handle *)&config;
    return 0;
}

libusb_device *libusb_get_device(libusb_device_handle *handle)
{
    return (libusb_device *)handle;
}

int libusb_set_option(libusb_context *context, enum libusb_option option, ...)
{
    return 0;
}

void libusb_set_pollfd_notifiers(libusb_context *context, libusb_pollfd_added_cb added,
                                 libusb_pollfd_removed_cb removed, void *opaque)
{
}

int libusb_claim_interface(libusb_device_handle *handle, int n)
{
    return 0;
}

int libusb_release_interface(libusb_device_handle *handle, int n)
{
    return 0;
}

int libusb_kernel_driver_active(libusb_device_handle *handle, int n)
{
    return 0;
}

int libusb_set_interface_alt_setting(libusb_device_handle *handle, int n, int alternate)
{
    return 0;
}

int libusb_clear_halt(libusb_device_handle *handle, unsigned char endpoint)
{
    return 0;
}

int libusb_reset_device(libusb_device_handle *handle)
{
    pthread_mutex_lock(&lock);
    bot.data = false;
    pthread_mutex_unlock(&lock);
    return 0;
}

void libusb_close(libusb_device_handle *handle)
{
}

void libusb_exit(libusb_context *context)
{
}

#ifdef DIRECT
static bool done;

static void callback(struct libusb_transfer *t)
{
    done = true;
}

static void transfer(struct libusb_transfer *t, unsigned char endpoint, void *data, int length)
{
    struct pollfd fd = {event, POLLIN, 0};

    libusb_fill_bulk_transfer(t, (libusb_device_handle *)&config, endpoint, data, length, callback,
                              NULL, 0);
    done = false;
    libusb_submit_transfer(t);
    while (!done) {
        poll(&fd, 1, -1);
        libusb_handle_events_timeout_completed(NULL, NULL, NULL);
    }
}

int main(int argc, char **argv)
{
    uint32_t size = (uint32_t)atoi(argv[1]);
    bool in = strcmp(argv[3], "in") == 0;
    uint64_t total = strtoull(argv[2], NULL, 10);
    uint8_t command[31] = {'U', 'S', 'B', 'C', [14] = 10, [15] = 0x28}, status[13];
    uint8_t *data = calloc(1, size);
    struct libusb_transfer *t = libusb_alloc_transfer(0);
    libusb_context *context;
    struct timespec a, b;

    libusb_init(&context);
    memcpy(command + 8, &size, 4);
    command[12] = in ? 0x80 : 0;
    command[15] = in ? 0x28 : 0x2a;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (uint64_t n = 0; n < total; n += size) {
        transfer(t, 2, command, 31);
        transfer(t, in ? 0x81 : 2, data, (int)size);
        transfer(t, 0x81, status, 13);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.1f\n", (double)total / 1e6 /
                         ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9));
    return 0;
}
#endif
