/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device of the host against a usbfs that umockdev imitates; runs under umockdev-wrapper. The
 * other end is `struct fake`: bulk endpoints 02h and 81h that echo, an interrupt endpoint 83h that
 * is silent until `release`, isochronous 84h.
 *
 * Node and handler are umockdev's: a regular file, always ready, which never hangs up. What a real
 * kernel does when a device is pulled out is in the testbed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <linux/usbdevice_fs.h>
#include <umockdev.h>

#include "usb_host_bench.h"

#define NODE "/dev/bus/usb/001/002"

static const char description[] =
    "P: /devices/pci0000:00/usb1/1-1\n"
    "N: bus/usb/001/002\n"
    "E: DEVTYPE=usb_device\nE: SUBSYSTEM=usb\nE: DEVNAME=/dev/bus/usb/001/002\n"
    "E: BUSNUM=001\nE: DEVNUM=002\nE: DRIVER=usb\n"
    "A: busnum=1\\n\nA: devnum=2\\n\nA: speed=480\\n\nA: bConfigurationValue=1\\n\n"
    "A: bNumConfigurations=2\\n\nA: idVendor=1234\\n\nA: idProduct=5678\\n\n";

static const uint8_t device_descriptor[] = {18,   1,    0,    2, 0, 0, 0, 64, 0x34,
                                            0x12, 0x78, 0x56, 0, 1, 1, 2, 3,  2};
static const uint8_t first_configuration[] = {9,    2,    9 + 9 + 4 * 7,
                                              0,    1,    1,
                                              0,    0x80, 50,
                                              9,    4,    0,
                                              0,    4,    0xff,
                                              0,    0,    0,
                                              7,    5,    0x81,
                                              2,    0,    2,
                                              0,    7,    5,
                                              0x02, 2,    0,
                                              2,    0,    7,
                                              5,    0x83, 3,
                                              8,    0,    4,
                                              7,    5,    0x84,
                                              1,    64,   0,
                                              1};
static const uint8_t second_configuration[] = {9, 2, 18, 0, 1, 2,    0, 0x80, 50,
                                               9, 4, 0,  0, 0, 0xff, 0, 0,    0};

struct urb {
    UMockdevIoctlData *data;
    struct usbdevfs_urb *raw;
    gulong user;
    bool ready;
};

/* Everything from `lock` on is shared with umockdev's thread. */
static struct fake {
    UMockdevTestbed *testbed;
    UMockdevIoctlBase *handler;
    GMutex lock;
    GQueue urbs;
    GString *calls; /* what blocks: "claim0 " ... */
    uint8_t echo[4096];
    unsigned echoed;
    bool gone, release, slow, lie, driver, busy;
    unsigned room; /* URBs that usbfs has memory for */
    unsigned most; /* URBs at once */
} fake;

static void call(const char *format, int n)
{
    g_string_append_printf(fake.calls, format, n);
}

static void data_set(UMockdevIoctlData *data, size_t offset, const void *bytes, size_t n)
{
    umockdev_ioctl_data_update(data, offset, (guint8 *)bytes, (gint)n);
}

static void urb_set(struct urb *u, size_t offset, int value)
{
    data_set(u->data, offset, &value, sizeof value);
}

static int urb_control(struct urb *u, UMockdevIoctlData *buffer, const uint8_t *bytes)
{
    static const uint8_t text[] = {10, 3, 'F', 0, 'a', 0, 'k', 0, 'e', 0};
    unsigned length = bytes[6] | bytes[7] << 8;

    if (bytes[0] == 0x80 && bytes[1] == 6 && bytes[3] == 3) {
        unsigned n = MIN(length, sizeof text);
        data_set(buffer, 8, text, n);
        return (int)n;
    }
    if (bytes[0] == 0x40 && bytes[1] == 1) { /* vendor's own: what comes back is what went */
        return (int)length;
    }
    return -EPIPE;
}

static void urb_packets(struct urb *u)
{
    for (int i = 0; i < u->raw->number_of_packets; i++) {
        size_t at = sizeof *u->raw + (size_t)i * sizeof(struct usbdevfs_iso_packet_desc);
        unsigned actual = i == 1 ? 0 : 32, status = i == 1 ? (unsigned)-EPROTO : 0;
        urb_set(u, at + 4, (int)actual);
        urb_set(u, at + 8, (int)status);
    }
}

static void urb_answer(struct urb *u, UMockdevIoctlData *buffer, const uint8_t *bytes)
{
    int length = u->raw->buffer_length, actual = length, status = 0;

    if (u->raw->type == USBDEVFS_URB_TYPE_CONTROL) {
        actual = urb_control(u, buffer, bytes);
        status = actual < 0 ? actual : 0;
        actual = MAX(actual, 0);
    } else if (u->raw->type == USBDEVFS_URB_TYPE_ISO) {
        urb_packets(u);
    } else if (u->raw->endpoint == 0x02) {
        fake.echoed = MIN((unsigned)length, sizeof fake.echo);
        memcpy(fake.echo, bytes, fake.echoed);
    } else if (u->raw->endpoint == 0x81) {
        actual = MIN(length, (int)fake.echoed);
        data_set(buffer, 0, fake.echo, (gsize)actual);
        status = fake.echoed && fake.echo[0] == 'S'   ? -EPIPE
                 : fake.echoed && fake.echo[0] == 'B' ? -EOVERFLOW
                                                      : 0;
        actual = fake.lie ? length + 1000 : actual;
    }
    urb_set(u, G_STRUCT_OFFSET(struct usbdevfs_urb, status), status);
    urb_set(u, G_STRUCT_OFFSET(struct usbdevfs_urb, actual_length), actual);
    u->ready = u->raw->endpoint != 0x83 || fake.release;
}

static int urb_submit(UMockdevIoctlData *arg)
{
    const struct usbdevfs_urb *theirs;
    struct urb *u;
    UMockdevIoctlData *head, *buffer;
    guint8 *bytes;
    gint n;

    if (fake.urbs.length >= fake.room) {
        return ENOMEM;
    }
    u = g_new0(struct urb, 1);
    theirs = *(const struct usbdevfs_urb **)arg->data; /* this process's, too */
    n = theirs->type == USBDEVFS_URB_TYPE_ISO ? theirs->number_of_packets : 0;
    head = umockdev_ioctl_data_resolve(
        arg, 0, sizeof *theirs + (size_t)n * sizeof(struct usbdevfs_iso_packet_desc), NULL);
    umockdev_ioctl_data_retrieve(head, (guint8 **)&u->raw, &n);
    u->user = head->client_addr;
    u->data = head;
    buffer = umockdev_ioctl_data_resolve(head, G_STRUCT_OFFSET(struct usbdevfs_urb, buffer),
                                         (gsize)u->raw->buffer_length, NULL);
    umockdev_ioctl_data_retrieve(buffer, &bytes, &n);
    urb_answer(u, buffer, bytes);
    g_queue_push_tail(&fake.urbs, u);
    fake.most = MAX(fake.most, fake.urbs.length);
    g_free(bytes);
    g_object_unref(buffer);
    return 0;
}

static int urb_reap(UMockdevIoctlData *arg)
{
    for (GList *link = fake.urbs.head; link; link = link->next) {
        struct urb *u = link->data;
        if (u->ready || (u->raw->endpoint == 0x83 && fake.release)) {
            UMockdevIoctlData *out = umockdev_ioctl_data_resolve(arg, 0, sizeof(gpointer), NULL);
            umockdev_ioctl_data_set_ptr(out, 0, u->data);
            g_queue_delete_link(&fake.urbs, link);
            g_object_unref(u->data);
            g_free(u->raw);
            g_free(u);
            return 0;
        }
    }
    return fake.gone ? ENODEV : EAGAIN;
}

static int urb_discard(gulong user)
{
    if (fake.gone) {
        return ENODEV;
    }
    for (GList *link = fake.urbs.head; link; link = link->next) {
        struct urb *u = link->data;
        if (u->user == user && !u->ready) {
            urb_set(u, G_STRUCT_OFFSET(struct usbdevfs_urb, status), -ENOENT);
            urb_set(u, G_STRUCT_OFFSET(struct usbdevfs_urb, actual_length), 0);
            u->ready = true;
            return 0;
        }
    }
    return EINVAL;
}

static int number(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(arg, 0, sizeof(int), NULL);
    int n = *(int *)data->data;

    g_object_unref(data);
    return n;
}

static int driver_request(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data =
        umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_ioctl), NULL);
    const struct usbdevfs_ioctl *request = (const struct usbdevfs_ioctl *)data->data;
    bool connect = request->ioctl_code == (int)USBDEVFS_CONNECT;

    call(connect ? "connect%d " : "disconnect%d ", request->ifno);
    fake.driver = connect;
    g_object_unref(data);
    return 0;
}

static int get_driver(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data;

    if (!fake.driver) {
        return ENODATA;
    }
    data = umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_getdriver), NULL);
    data_set(data, G_STRUCT_OFFSET(struct usbdevfs_getdriver, driver), "usb-storage", 12);
    g_object_unref(data);
    return 0;
}

static int capabilities(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(arg, 0, 4, NULL);
    guint32 can = USBDEVFS_CAP_BULK_SCATTER_GATHER | USBDEVFS_CAP_ZERO_PACKET |
                  USBDEVFS_CAP_NO_PACKET_SIZE_LIM;

    data_set(data, 0, &can, 4);
    g_object_unref(data);
    return 0;
}

static int set_interface(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data =
        umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_setinterface), NULL);
    const struct usbdevfs_setinterface *set = (const struct usbdevfs_setinterface *)data->data;
    unsigned alternate = set->altsetting;

    call("interface%d ", (int)set->interface);
    g_object_unref(data);
    return alternate > 1 ? EPIPE : 0;
}

static int connect_info(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *data =
        umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_connectinfo), NULL);
    struct usbdevfs_connectinfo info = {.devnum = 2};

    data_set(data, 0, &info, sizeof info);
    g_object_unref(data);
    return 0;
}

/* GET_CONFIGURATION is all that libusb asks in this way. */
static int control(UMockdevIoctlData *arg)
{
    UMockdevIoctlData *head =
        umockdev_ioctl_data_resolve(arg, 0, sizeof(struct usbdevfs_ctrltransfer), NULL);
    UMockdevIoctlData *data = umockdev_ioctl_data_resolve(
        head, G_STRUCT_OFFSET(struct usbdevfs_ctrltransfer, data), 1, NULL);

    data_set(data, 0, &(uint8_t){1}, 1);
    g_object_unref(data);
    g_object_unref(head);
    return -1;
}

/* errno, 0, or what the call returns as a negative number. */
static int handle(gulong request, UMockdevIoctlData *arg)
{
    switch (request) {
    case USBDEVFS_CONNECTINFO:
        return connect_info(arg);
    case USBDEVFS_GET_SPEED:
        return -3;
    case USBDEVFS_CONTROL:
        return control(arg);
    case USBDEVFS_GET_CAPABILITIES:
        return capabilities(arg);
    case USBDEVFS_CLAIMINTERFACE:
        call("claim%d ", number(arg));
        return fake.busy ? EBUSY : 0;
    case USBDEVFS_RELEASEINTERFACE:
        call("release%d ", number(arg));
        return 0;
    case USBDEVFS_RESET:
        call("reset ", 0);
        return 0;
    case USBDEVFS_SETCONFIGURATION:
        call("configuration%d ", number(arg));
        return 0;
    case USBDEVFS_SETINTERFACE:
        return set_interface(arg);
    case USBDEVFS_CLEAR_HALT:
        call("clear%02x ", number(arg));
        return 0;
    case USBDEVFS_GETDRIVER:
        return get_driver(arg);
    case USBDEVFS_IOCTL:
        return driver_request(arg);
    case USBDEVFS_SUBMITURB:
        return fake.gone ? ENODEV : urb_submit(arg);
    case USBDEVFS_REAPURB:
    case USBDEVFS_REAPURBNDELAY:
        return urb_reap(arg);
    case USBDEVFS_DISCARDURB:
        return urb_discard(*(gulong *)arg->data);
    default:
        return ENOTTY;
    }
}

static gboolean on_ioctl(UMockdevIoctlBase *base, UMockdevIoctlClient *client, gpointer opaque)
{
    gulong request = umockdev_ioctl_client_get_request(client);
    bool slow;
    int error;

    g_mutex_lock(&fake.lock);
    error = handle(request, umockdev_ioctl_client_get_arg(client));
    slow = fake.slow && (request == USBDEVFS_SETINTERFACE || request == USBDEVFS_CLEAR_HALT);
    g_mutex_unlock(&fake.lock);
    if (slow) {
        g_usleep(500000);
    }
    umockdev_ioctl_client_complete(client, error > 0 ? -1 : -error, MAX(error, 0));
    return TRUE;
}

/* --- the tests --- */

static void bench_run(unsigned ms)
{
    static const bool never;

    bench_until(&never, ms);
}

static int node(void)
{
    int fd = open(NODE, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static char *calls(void)
{
    char *text;

    g_mutex_lock(&fake.lock);
    text = g_strdup(fake.calls->str);
    g_string_truncate(fake.calls, 0);
    g_mutex_unlock(&fake.lock);
    return text;
}

#define assert_calls(expected)                                                                     \
    do {                                                                                           \
        g_autofree char *made = calls();                                                           \
        g_assert_cmpstr(made, ==, expected);                                                       \
    } while (0)

/* Opens the device as the host had it: with a driver. */
static void set_up(struct host_bench *b)
{
    g_autofree char *before = calls();

    fake.driver = true;
    fake.gone = fake.release = fake.slow = fake.lie = fake.busy = false;
    fake.room = 100;
    fake.most = fake.echoed = 0;
    g_assert_true(bench_open(b, node(), "Fake Disk"));
    assert_calls("disconnect0 claim0 ");
}

static void tear_down(struct host_bench *b)
{
    g_free(calls());
    g_assert_true(bench_close(b));
    assert_calls("release0 reset connect0 ");
}

static void opens_and_gives_back(void)
{
    struct host_bench b;

    set_up(&b);
    g_assert_cmpint(b.dev->speed, ==, USB_SPEED_HIGH);
    tear_down(&b);
    set_up(&b);
    tear_down(&b);
}

static void is_used_by_another_program(void)
{
    struct host_bench b;

    fake.busy = true;
    g_assert_false(bench_open(&b, node(), "Fake Disk"));
    g_assert_nonnull(strstr(b.error, "Fake Disk"));
    g_assert_nonnull(strstr(b.error, "another program"));
    bench_close(&b);
    fake.busy = false;
    g_assert_false(bench_open(&b, open("/dev/null", O_RDWR), "Nothing"));
    g_assert_nonnull(strstr(b.error, "cannot be connected"));
    bench_close(&b);
}

static void control_requests(void)
{
    struct host_bench b;
    uint8_t bytes[64] = {0}, large[4096] = {0};
    size_t n = sizeof bytes;

    set_up(&b);
    g_assert_cmpint(bench_control(&b, 0x80, 6, 0x301, 0, bytes, &n), ==, USB_DONE);
    g_assert_cmpuint(n, ==, 10);
    g_assert_cmpmem(bytes + 2, 4, "F\0a", 4);
    n = 4;
    g_assert_cmpint(bench_control(&b, 0x80, 6, 0x301, 0, bytes, &n), ==, USB_DONE);
    g_assert_cmpuint(n, ==, 4);
    g_assert_cmpint(bench_control(&b, 0xc0, 0x99, 0, 0, NULL, NULL), ==, USB_STALL);
    n = sizeof large;
    g_assert_cmpint(bench_control(&b, 0x40, 1, 0, 0, large, &n), ==, USB_DONE);
    tear_down(&b);
}

/* What the host's kernel must know, and what is not the guest's. */
static void standard_requests(void)
{
    struct host_bench b;
    uint8_t configuration = 9;
    size_t one = 1;

    set_up(&b);
    g_assert_cmpint(bench_reset(&b), ==, 0);
    assert_calls("release0 reset disconnect0 claim0 ");
    g_assert_cmpint(bench_control(&b, 0, 9, 1, 0, NULL, NULL), ==, USB_DONE);
    assert_calls(""); /* has it already */
    g_assert_cmpint(bench_control(&b, 0x80, 8, 0, 0, &configuration, &one), ==, USB_DONE);
    g_assert_cmpint(configuration, ==, 1);
    g_assert_cmpint(bench_control(&b, 0, 9, 1, 0, NULL, NULL), ==, USB_DONE);
    assert_calls("interface0 ");
    g_assert_cmpint(bench_control(&b, 1, 11, 1, 0, NULL, NULL), ==, USB_DONE);
    assert_calls("interface0 ");
    g_assert_cmpint(bench_control(&b, 1, 11, 7, 0, NULL, NULL), ==, USB_STALL);
    assert_calls("interface0 ");
    g_assert_cmpint(bench_control(&b, 1, 11, 1, 900, NULL, NULL), ==, USB_STALL);
    g_assert_cmpint(bench_control(&b, 2, 1, 0, 0x81, NULL, NULL), ==, USB_DONE);
    assert_calls("clear81 ");
    g_assert_cmpint(bench_control(&b, 0, 5, 44, 0, NULL, NULL), ==, USB_DONE);
    g_assert_cmpint(bench_control(&b, 0, 3, 2, 0x400, NULL, NULL), ==, USB_STALL);
    assert_calls(""); /* neither address nor test mode */
    g_assert_cmpint(bench_control(&b, 0, 9, 2, 0, NULL, NULL), ==, USB_DONE);
    assert_calls("release0 configuration2 claim0 ");
    g_assert_true(bench_close(&b));
    assert_calls("release0 configuration1 ");
}

static int bulk(struct host_bench *b, unsigned endpoint, void *data, size_t *n)
{
    struct transfer *t = transfer_new(b, USB_BULK, endpoint, *n);
    int status;

    if (!(endpoint & USB_IN)) {
        memcpy(t->data, data, *n);
    }
    status = transfer_run(t);
    *n = t->usb.actual;
    if (endpoint & USB_IN) {
        memcpy(data, t->data, *n);
    }
    g_free(t);
    return status;
}

static int echo(struct host_bench *b, const char *text, char *back, size_t *n)
{
    size_t length = strlen(text);

    g_assert_cmpint(bulk(b, 0x02, (char *)text, &length), ==, USB_DONE);
    g_assert_cmpuint(length, ==, strlen(text));
    return bulk(b, 0x81, back, n);
}

static void bulk_short_stall_babble(void)
{
    struct host_bench b;
    char back[512];
    size_t n = sizeof back;

    set_up(&b);
    g_assert_cmpint(echo(&b, "echo me", back, &n), ==, USB_DONE);
    g_assert_cmpmem(back, n, "echo me", 7); /* short */
    n = sizeof back;
    g_assert_cmpint(echo(&b, "Stall", back, &n), ==, USB_STALL);
    n = sizeof back;
    g_assert_cmpint(echo(&b, "Babble", back, &n), ==, USB_BABBLE);
    fake.lie = true; /* more than there is room for, says the kernel */
    n = 100;
    g_assert_cmpint(echo(&b, "lie", back, &n), ==, USB_DONE);
    g_assert_cmpuint(n, ==, 100);
    fake.lie = false;
    n = 16;
    g_assert_cmpint(bulk(&b, 0x80, back, &n), ==, USB_STALL); /* endpoint 0 is for requests */
    tear_down(&b);
}

static void interrupt_and_cancel(void)
{
    struct host_bench b;
    struct transfer *first, *second;

    set_up(&b);
    first = transfer_new(&b, USB_INTERRUPT, 0x83, 8);
    second = transfer_new(&b, USB_INTERRUPT, 0x83, 8);
    transfer_submit(first);
    transfer_submit(second);
    g_assert_cmpint(transfer_wait(first, 100), ==, -1); /* the device has nothing to say */
    transfer_cancel(first);
    g_assert_cmpint(transfer_wait(first, 1000), ==, USB_CANCELLED);
    g_assert_false(second->done);
    fake.release = true;
    g_assert_cmpint(transfer_wait(second, 1000), ==, USB_DONE);
    g_assert_cmpuint(second->usb.actual, ==, 8);
    g_free(first);
    g_free(second);
    tear_down(&b);
}

static void isochronous(void)
{
    struct host_bench b;
    struct transfer *t;

    set_up(&b);
    t = transfer_new(&b, USB_ISOCHRONOUS, 0x84, 4 * 64);
    t->usb.n_packets = 4;
    t->usb.packets = t->packets;
    for (unsigned i = 0; i < 4; i++) {
        t->packets[i].length = 64;
    }
    g_assert_cmpint(transfer_run(t), ==, USB_DONE);
    g_assert_cmpuint(t->usb.actual, ==, 3 * 32);
    g_assert_cmpint(t->packets[0].status, ==, USB_DONE);
    g_assert_cmpuint(t->packets[0].actual, ==, 32);
    g_assert_cmpint(t->packets[1].status, ==, USB_ERROR);
    t->packets[3].length = 65; /* more than there is data for */
    g_assert_cmpint(transfer_run(t), ==, USB_ERROR);
    t->usb.n_packets = USB_MAX_PACKETS + 1;
    g_assert_cmpint(transfer_run(t), ==, USB_ERROR);
    g_free(t);
    tear_down(&b);
}

/* What the kernel has no memory for waits for what is under way, in its order. */
static void more_than_usbfs_has_room_for(void)
{
    struct host_bench b;
    struct transfer *all[20];

    set_up(&b);
    fake.room = 3;
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        all[i] = transfer_new(&b, USB_BULK, 0x02, 100);
        transfer_submit(all[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_assert_cmpint(transfer_wait(all[i], 5000), ==, USB_DONE);
        g_free(all[i]);
    }
    g_assert_cmpuint(fake.most, ==, 3);
    fake.room = 0; /* never */
    all[0] = transfer_new(&b, USB_BULK, 0x02, 100);
    g_assert_cmpint(transfer_run(all[0]), ==, USB_ERROR);
    fake.room = 100;
    for (unsigned i = 0; i < 1024; i++) {
        g_assert_cmpuint(b.inside->len, ==, i);
        transfer_submit(transfer_new(&b, USB_INTERRUPT, 0x83, 8));
        fake.room++;
    }
    g_assert_cmpint(transfer_run(all[0]), ==, USB_ERROR); /* one too many */
    g_free(all[0]);
    fake.release = true;
    bench_run(1000);
    tear_down(&b);
}

/* Another setting ends what its interface has under way, and it is not called done. */
static void setting_takes_back(void)
{
    struct host_bench b;
    struct transfer *waits;

    set_up(&b);
    waits = transfer_new(&b, USB_INTERRUPT, 0x83, 8);
    transfer_submit(waits);
    bench_run(20);
    g_assert_cmpint(bench_control(&b, 1, 11, 1, 0, NULL, NULL), ==, USB_DONE);
    g_assert_cmpint(transfer_wait(waits, 1000), ==, USB_ERROR);
    g_assert_false(b.gone);
    g_free(waits);
    tear_down(&b);
}

/* A call that takes long holds up this device only, and what comes after it keeps its order. */
static void slow_call(void)
{
    struct host_bench b;
    struct transfer *set, *after, *dropped;
    gint64 start;

    set_up(&b);
    fake.slow = true;
    set = transfer_new(&b, USB_CONTROL, 0, 0);
    set->usb.setup = (struct usb_setup){.type = 1, .request = 11, .value = 1};
    after = transfer_new(&b, USB_BULK, 0x02, 10);
    dropped = transfer_new(&b, USB_BULK, 0x02, 10);
    start = g_get_monotonic_time();
    transfer_submit(set);
    transfer_submit(after);
    transfer_submit(dropped);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 100000);
    transfer_cancel(dropped);
    g_assert_true(dropped->done);
    g_assert_cmpint(dropped->usb.status, ==, USB_CANCELLED);
    g_assert_cmpint(transfer_wait(after, 200), ==, -1);
    g_assert_cmpint(transfer_wait(after, 2000), ==, USB_DONE);
    g_assert_true(set->done);
    transfer_submit(set); /* cancelled in the middle */
    bench_run(50);
    transfer_cancel(set);
    g_assert_cmpint(transfer_wait(set, 0), ==, USB_CANCELLED);
    fake.slow = false;
    g_assert_cmpint(transfer_run(after), ==, USB_DONE);
    g_free(set);
    g_free(after);
    g_free(dropped);
    tear_down(&b);
}

/* Transfers that are under way never come back here: closing does not wait for them for ever. */
static void vanishes(void)
{
    struct host_bench b;
    struct transfer *waits, *late;

    set_up(&b);
    waits = transfer_new(&b, USB_INTERRUPT, 0x83, 8);
    late = transfer_new(&b, USB_BULK, 0x81, 8);
    transfer_submit(waits);
    bench_run(20);
    g_mutex_lock(&fake.lock);
    fake.gone = true;
    g_mutex_unlock(&fake.lock);
    g_assert_cmpint(transfer_run(late), ==, USB_GONE);
    g_assert_true(bench_until(&b.gone, 1000));
    g_assert_true(bench_until(&b.closed, 5000));
    g_assert_true(waits->done);
    g_assert_cmpint(waits->usb.status, ==, USB_GONE);
    g_free(waits);
    g_free(late);
    bench_close(&b);
    g_queue_clear(&fake.urbs);
}

/* Closing with everything under way. */
static void closes_in_the_middle(void)
{
    struct host_bench b;
    struct transfer *waits[4];

    set_up(&b);
    fake.slow = true;
    for (unsigned i = 0; i < 2; i++) {
        waits[i] = transfer_new(&b, USB_INTERRUPT, 0x83, 8);
        transfer_submit(waits[i]);
    }
    waits[2] = transfer_new(&b, USB_CONTROL, 0, 0);
    waits[2]->usb.setup = (struct usb_setup){.type = 2, .request = 1, .index = 0x81};
    transfer_submit(waits[2]);
    waits[3] = transfer_new(&b, USB_BULK, 0x81, 8);
    transfer_submit(waits[3]);
    bench_run(20);
    tear_down(&b);
    for (unsigned i = 0; i < G_N_ELEMENTS(waits); i++) {
        g_assert_true(waits[i]->done);
        g_assert_cmpint(waits[i]->usb.status, ==, USB_CANCELLED);
        g_free(waits[i]);
    }
}

static void add_fake(void)
{
    GError *error = NULL;
    GByteArray *all = g_byte_array_new();
    g_autofree char *root = NULL, *path = NULL;

    fake.testbed = umockdev_testbed_new();
    umockdev_testbed_add_from_string(fake.testbed, description, &error);
    g_assert_no_error(error);
    g_byte_array_append(all, device_descriptor, sizeof device_descriptor);
    g_byte_array_append(all, first_configuration, sizeof first_configuration);
    g_byte_array_append(all, second_configuration, sizeof second_configuration);
    /* The node of a real usbfs has the descriptors in it, too. */
    root = umockdev_testbed_get_root_dir(fake.testbed);
    path = g_build_filename(root, NODE, NULL);
    g_file_set_contents_full(path, (const char *)all->data, all->len, G_FILE_SET_CONTENTS_NONE,
                             01666, &error);
    g_assert_no_error(error);
    g_byte_array_unref(all);
    fake.calls = g_string_new(NULL);
    g_queue_init(&fake.urbs);
    fake.handler = umockdev_ioctl_base_new();
    g_signal_connect(fake.handler, "handle-ioctl", G_CALLBACK(on_ioctl), NULL);
    umockdev_testbed_attach_ioctl(fake.testbed, NODE, fake.handler, &error);
    g_assert_no_error(error);
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    if (!strstr(g_getenv("LD_PRELOAD") ? g_getenv("LD_PRELOAD") : "", "umockdev")) {
        g_printerr("run this under umockdev-wrapper\n");
        return 77;
    }
    add_fake();
    g_test_add_func("/usb-host/open", opens_and_gives_back);
    g_test_add_func("/usb-host/busy", is_used_by_another_program);
    g_test_add_func("/usb-host/control", control_requests);
    g_test_add_func("/usb-host/standard", standard_requests);
    g_test_add_func("/usb-host/bulk", bulk_short_stall_babble);
    g_test_add_func("/usb-host/interrupt", interrupt_and_cancel);
    g_test_add_func("/usb-host/isochronous", isochronous);
    g_test_add_func("/usb-host/memory", more_than_usbfs_has_room_for);
    g_test_add_func("/usb-host/setting", setting_takes_back);
    g_test_add_func("/usb-host/slow", slow_call);
    g_test_add_func("/usb-host/close", closes_in_the_middle);
    g_test_add_func("/usb-host/vanish", vanishes);
    status = g_test_run();
    umockdev_testbed_detach_ioctl(fake.testbed, NODE, NULL);
    g_object_unref(fake.handler);
    g_object_unref(fake.testbed);
    g_string_free(fake.calls, TRUE);
    return status;
}
