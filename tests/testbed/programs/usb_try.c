/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device of the host without a machine: usb_device.c's, through libusb and the kernel.
 *
 *   usb_try NODE everything         all transfer types
 *   usb_try NODE vanish KIND        the device goes in the middle of: control, bulk, interrupt,
 *                                   isochronous, nothing
 *   usb_try NODE lie                opens and closes it, whatever that comes to
 *   usb_try NODE noise N            N random things that a guest may do
 *   usb_try NODE rate MIB           reads so much from 84h, says how fast
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../device/usb_host_bench.h"

#define CHECK(what) check(what, #what, __LINE__)
enum { COUNTS, SHORT, STALLS, NEVER };

static struct host_bench bench;

static void check(bool ok, const char *what, int line)
{
    if (!ok) {
        printf("FAILED, line %d: %s\n", line, what);
        fflush(stdout);
        exit(1);
    }
}

static void request(unsigned number, unsigned value)
{
    CHECK(bench_control(&bench, 0x40, number, value, 0, NULL, NULL) == USB_DONE);
}

static void configure(void)
{
    CHECK(bench_reset(&bench) == 0);
    CHECK(bench_control(&bench, 0, 9, 1, 0, NULL, NULL) == USB_DONE);
    CHECK(bench_control(&bench, 1, 11, 1, 0, NULL, NULL) == USB_DONE);
}

static void received(uint32_t *bytes, uint32_t *sum)
{
    uint32_t state[2];
    size_t n = sizeof state;

    CHECK(bench_control(&bench, 0xc0, 2, 0, 0, state, &n) == USB_DONE && n == sizeof state);
    *bytes = GUINT32_FROM_LE(state[0]);
    *sum = GUINT32_FROM_LE(state[1]);
}

static uint32_t add(uint32_t sum, const uint8_t *data, size_t n)
{
    while (n--) {
        sum = sum * 31 + *data++;
    }
    return sum;
}

/* --- transfer types --- */

static void try_control(void)
{
    uint8_t bytes[300];
    size_t n = sizeof bytes;

    CHECK(bench_control(&bench, 0x80, 6, 0x301, 0x409, bytes, &n) == USB_DONE);
    CHECK(n == 10 && bytes[2] == 'T');
    n = 5;
    CHECK(bench_control(&bench, 0x80, 6, 0x100, 0, bytes, &n) == USB_DONE && n == 5);
    CHECK(bench_control(&bench, 0x40, 99, 0, 0, NULL, NULL) == USB_STALL);
    CHECK(bench_control(&bench, 1, 11, 5, 0, NULL, NULL) == USB_STALL); /* no such setting */
    printf("OK control\n");
}

static void try_bulk(void)
{
    struct transfer *t[8];
    uint32_t sum = 0, theirs, bytes;
    uint8_t next = 0;

    request(1, COUNTS);
    for (unsigned i = 0; i < 8; i++) { /* in their order */
        t[i] = transfer_new(&bench, USB_BULK, 0x84, 5000 + i);
        transfer_submit(t[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        CHECK(transfer_wait(t[i], 5000) == USB_DONE && t[i]->usb.actual == 5000 + i);
        for (unsigned k = 0; k < 5000 + i; k++) {
            CHECK(t[i]->data[k] == next);
            next++;
        }
        t[i]->usb.endpoint = 5;
        sum = add(sum, t[i]->data, t[i]->usb.actual);
        CHECK(transfer_run(t[i]) == USB_DONE);
    }
    received(&bytes, &theirs);
    CHECK(bytes == 8 * 5000 + 28 && theirs == sum);
    t[0]->usb.endpoint = 0x84;
    request(1, SHORT);
    CHECK(transfer_run(t[0]) == USB_DONE && t[0]->usb.actual == 2503);
    request(1, STALLS);
    CHECK(transfer_run(t[0]) == USB_STALL);
    CHECK(bench_control(&bench, 2, 1, 0, 0x84, NULL, NULL) == USB_DONE);
    request(1, COUNTS);
    CHECK(transfer_run(t[0]) == USB_DONE && t[0]->usb.actual == 5000);
    t[0]->usb.endpoint = 0x86; /* there is none */
    CHECK(transfer_run(t[0]) == USB_ERROR);
    printf("OK bulk\n");
}

static void try_cancel(void)
{
    struct transfer *t[3];

    request(1, NEVER);
    for (unsigned i = 0; i < 3; i++) {
        t[i] = transfer_new(&bench, USB_BULK, 0x84, 512);
        transfer_submit(t[i]);
    }
    CHECK(transfer_wait(t[0], 200) == -1);
    transfer_cancel(t[1]);
    CHECK(transfer_wait(t[1], 1000) == USB_CANCELLED);
    CHECK(!t[0]->done && !t[2]->done);
    request(1, COUNTS);
    CHECK(bench_control(&bench, 1, 11, 1, 0, NULL, NULL) == USB_DONE); /* takes them all back */
    CHECK(transfer_wait(t[0], 1000) == USB_ERROR && transfer_wait(t[2], 1000) == USB_ERROR);
    CHECK(transfer_run(t[0]) == USB_DONE);
    printf("OK cancel\n");
}

static void try_interrupt(void)
{
    struct transfer *a = transfer_new(&bench, USB_INTERRUPT, 0x83, 64),
                    *b = transfer_new(&bench, USB_INTERRUPT, 0x83, 64);

    transfer_submit(a);
    transfer_submit(b);
    CHECK(transfer_wait(a, 100) == -1);
    request(3, 0);
    CHECK(transfer_wait(a, 1000) == USB_DONE && a->usb.actual == 64 && a->data[63] == 'i');
    CHECK(!b->done);
    transfer_cancel(b);
    CHECK(transfer_wait(b, 1000) == USB_CANCELLED);
    printf("OK interrupt\n");
}

static void isochronous_fill(struct transfer *t, unsigned packets)
{
    t->usb.length = packets * 192;
    t->usb.n_packets = packets;
    t->usb.packets = t->packets;
    for (unsigned i = 0; i < packets; i++) {
        t->packets[i].length = 192;
    }
}

/* 30 transfers of a packet each, then 10 of 32, one after the other: in a third of a second. */
static void try_isochronous(unsigned endpoint)
{
    struct transfer *t[40];
    gint64 start = g_get_monotonic_time(), took;
    uint32_t bytes, sum = 0, theirs;

    for (unsigned i = 0; i < 40; i++) {
        t[i] = transfer_new(&bench, USB_ISOCHRONOUS, endpoint, 0);
        isochronous_fill(t[i], i < 30 ? 1 : 32);
        memset(t[i]->data, (int)i, t[i]->usb.length);
        transfer_submit(t[i]);
    }
    for (unsigned i = 0; i < 40; i++) {
        CHECK(transfer_wait(t[i], 3000) == USB_DONE);
        CHECK(t[i]->usb.actual == t[i]->usb.length);
        for (unsigned k = 0; k < t[i]->usb.n_packets; k++) {
            CHECK(t[i]->packets[k].status == USB_DONE && t[i]->packets[k].actual == 192);
        }
        sum = add(sum, t[i]->data, t[i]->usb.length);
    }
    took = (g_get_monotonic_time() - start) / 1000;
    printf("isochronous %02x: 350 packets in %d ms\n", endpoint, (int)took);
    CHECK(took > 300 && took < 2000);
    if (endpoint == 2) {
        received(&bytes, &theirs);
        CHECK(bytes == 350 * 192 && theirs == sum);
    }
    printf("OK isochronous %02x\n", endpoint);
}

static void everything(void)
{
    configure();
    try_control();
    try_bulk();
    try_cancel();
    try_interrupt();
    try_isochronous(0x81);
    try_isochronous(0x02);
    CHECK(bench_reset(&bench) == 0);
    configure();
    try_bulk();
}

/* --- misbehaviour --- */

static struct transfer *something(const char *kind, unsigned i)
{
    struct transfer *t = transfer_new(&bench, USB_BULK, 0x84, 512);

    if (strcmp(kind, "interrupt") == 0) {
        t->usb.kind = USB_INTERRUPT;
        t->usb.endpoint = 0x83;
        t->usb.length = 64;
    } else if (strcmp(kind, "isochronous") == 0) {
        t->usb.kind = USB_ISOCHRONOUS;
        t->usb.endpoint = i & 1 ? 0x81 : 2;
        isochronous_fill(t, 32);
    } else if (strcmp(kind, "control") == 0) {
        t->usb.kind = USB_CONTROL;
        t->usb.endpoint = USB_IN;
        t->usb.setup = (struct usb_setup){0x80, 6, 0x301, 0, 64};
    }
    return t;
}

static void vanish(const char *kind)
{
    struct transfer *t[10];
    unsigned n = strcmp(kind, "nothing") ? 10 : 0;

    configure();
    request(1, NEVER);
    for (unsigned i = 0; i < n; i++) {
        t[i] = something(kind, i);
        transfer_submit(t[i]);
    }
    bench_control(&bench, 0x40, 4, 0, 0, NULL, NULL); /* any status */
    CHECK(bench_until(&bench.gone, 5000));
    CHECK(bench_until(&bench.closed, 5000));
    for (unsigned i = 0; i < n; i++) {
        CHECK(t[i]->done);
    }
    CHECK(bench.inside->len == 0);
    printf("OK vanish %s\n", kind);
}

static void lie(bool open)
{
    uint8_t bytes[64];
    size_t n = sizeof bytes;

    if (open) {
        CHECK(bench_control(&bench, 0x80, 6, 0x301, 0, bytes, &n) == USB_DONE && n == 10);
        bench_control(&bench, 0, 9, 1, 0, NULL, NULL);
        bench_control(&bench, 1, 11, 1, 0, NULL, NULL);
    }
    printf("OK lie: %s\n", open ? "opened" : bench.error);
}

static struct transfer *random_transfer(GRand *r)
{
    static const uint8_t endpoints[] = {0x81, 0x02, 0x83, 0x84, 0x05, 0x8f, 0x80, 0x00, 0x01};
    enum usb_kind kind = (enum usb_kind)g_rand_int_range(r, 0, 4);
    struct transfer *t = transfer_new(&bench, kind, endpoints[g_rand_int_range(r, 0, 9)],
                                      (size_t)g_rand_int_range(r, 0, (int)BENCH_BYTES));

    t->usb.stream = g_rand_int_range(r, 0, 20) ? 0 : 3;
    if (kind == USB_CONTROL) {
        t->usb.setup = (struct usb_setup){(uint8_t)g_rand_int_range(r, 0, 256),
                                          (uint8_t)g_rand_int_range(r, 0, 52),
                                          (uint16_t)g_rand_int_range(r, 0, 4),
                                          (uint16_t)(g_rand_int_range(r, 0, 3) ? 0 : g_rand_int(r)),
                                          (uint16_t)g_rand_int_range(r, 0, 300)};
        if (t->usb.setup.type & 0x60 && t->usb.setup.request == 4) {
            t->usb.setup.request = 3; /* or the device would go away */
        }
    } else if (kind == USB_ISOCHRONOUS) {
        t->usb.n_packets = (unsigned)g_rand_int_range(r, 0, 33);
        t->usb.packets = t->packets;
        for (unsigned i = 0; i < t->usb.n_packets; i++) {
            t->packets[i].length = (uint32_t)g_rand_int_range(r, 0, i % 7 ? 400 : 70000);
        }
    }
    return t;
}

static void free_done(GPtrArray *all)
{
    for (unsigned i = all->len; i > 0; i--) {
        struct transfer *t = all->pdata[i - 1];
        if (t->done) {
            g_free(t);
            g_ptr_array_remove_index_fast(all, i - 1);
        }
    }
}

static void noise(unsigned n)
{
    GRand *r = g_rand_new_with_seed(n);
    GPtrArray *all = g_ptr_array_new();
    gint64 longest = 0;

    for (unsigned i = 0; i < n && !bench.gone; i++) {
        gint64 start = g_get_monotonic_time();
        unsigned what = (unsigned)g_rand_int_range(r, 0, 100);
        if (what < 2) {
            machine_lock();
            bench.dev->class->reset(bench.dev);
            machine_unlock();
        } else if (what < 25 && bench.inside->len) {
            transfer_cancel(bench.inside->pdata[g_rand_int_range(r, 0, (int)bench.inside->len)]);
        } else {
            g_ptr_array_add(all, random_transfer(r));
            transfer_submit(all->pdata[all->len - 1]);
        }
        longest = MAX(longest, g_get_monotonic_time() - start);
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        free_done(all);
    }
    printf("noise: %u transfers under way, the longest call %d ms\n", all->len,
           (int)(longest / 1000));
    CHECK(!bench.gone);
    printf("OK noise\n");
}

static void rate(unsigned mib)
{
    struct transfer *t[4];
    unsigned left = mib * 16;
    gint64 start;

    configure();
    request(1, COUNTS);
    start = g_get_monotonic_time();
    for (unsigned i = 0; i < 4; i++) {
        t[i] = transfer_new(&bench, USB_BULK, 0x84, 65536);
        transfer_submit(t[i]);
    }
    for (unsigned i = 0; left; i = (i + 1) % 4, left--) {
        CHECK(transfer_wait(t[i], 5000) == USB_DONE);
        transfer_submit(t[i]);
    }
    printf("RATE %.1f MiB/s\n", mib * 1e6 / (double)(g_get_monotonic_time() - start));
    for (unsigned i = 0; i < 4; i++) {
        transfer_wait(t[i], 5000);
    }
}

int main(int argc, char **argv)
{
    int fd = argc > 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
    bool open;

    CHECK(fd >= 0);
    open = bench_open(&bench, fd, "Test");
    if (strcmp(argv[2], "lie") == 0) {
        lie(open);
    } else {
        CHECK(open);
        CHECK(bench.dev->speed == USB_SPEED_HIGH);
        if (strcmp(argv[2], "vanish") == 0) {
            vanish(argv[3]);
        } else if (strcmp(argv[2], "noise") == 0) {
            noise((unsigned)atoi(argv[3]));
        } else if (strcmp(argv[2], "rate") == 0) {
            rate((unsigned)atoi(argv[3]));
        } else {
            everything();
        }
    }
    CHECK(bench_close(&bench));
    printf("OK closed\n");
    return 0;
}
