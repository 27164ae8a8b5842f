/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cables and what hangs on them, without a machine: words, packets, capture files, libslirp. */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device.h"
#include "net/backend.h"

static void test_modes(void)
{
    static const char *const good[] = {"user", "isolated", "tap:vm0", "tap:fd=5", "bridge:br0"};
    static const char *const bad[] = {"",          "tap",     "tap:",    "tap:fd=",
                                      "tap:fd=-1", "tap:a/b", "bridge:", "bridge:a-name-too-long-x",
                                      "nat",       "tap:..",  "user:x"};

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(net_mode_valid(good[i]));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(net_mode_valid(bad[i]));
    }
}

static void assert_forward(const char *spec, bool udp, const char *host, unsigned host_port,
                           const char *guest, unsigned guest_port)
{
    g_autoptr(GError) error = NULL;
    struct net_forward f;

    g_assert_true(net_forward_parse(spec, &f, &error));
    g_assert_cmpint(f.udp, ==, udp);
    g_assert_cmpstr(f.host, ==, host);
    g_assert_cmpstr(f.guest, ==, guest);
    g_assert_cmpuint(f.host_port, ==, host_port);
    g_assert_cmpuint(f.guest_port, ==, guest_port);
    net_forward_clear(&f);
}

static void test_forwards(void)
{
    static const char *const bad[] = {"",
                                      "tcp",
                                      "tcp:22",
                                      "tcp:0:22",
                                      "tcp:70000:22",
                                      "sctp:1:2",
                                      "tcp:1:2:3",
                                      "tcp:1.2.3:4:5",
                                      "tcp:::1:2:3",
                                      "tcp:[::1]:2:3",
                                      "tcp:127.0.0.1:1:[::1]:2",
                                      "tcp:1:2:",
                                      "tcp:-1:2",
                                      "tcp:[::1"};

    assert_forward("tcp:2222:22", false, "127.0.0.1", 2222, NULL, 22);
    assert_forward("udp:0.0.0.0:5353:10.0.2.15:53", true, "0.0.0.0", 5353, "10.0.2.15", 53);
    assert_forward("tcp:80:10.0.2.16:8080", false, "127.0.0.1", 80, "10.0.2.16", 8080);
    assert_forward("tcp:[::1]:2222:[fec0::15]:22", false, "::1", 2222, "fec0::15", 22);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        struct net_forward f;
        g_assert_false(net_forward_parse(bad[i], &f, &error));
        g_assert_nonnull(strstr(error->message, "tcp:2222:22"));
    }
}

static void test_mac(void)
{
    g_autofree char *random = net_mac_random();
    uint8_t mac[6];

    g_assert_true(net_mac_parse(random, mac));
    g_assert_cmphex(mac[0] & 3, ==, 2);
    g_assert_false(net_mac_parse("01:00:00:00:00:00", mac));
    g_assert_false(net_mac_parse("00:00:00:00:00:00", mac));
    g_assert_false(net_mac_parse("52:54:00:12:34", mac));
    g_assert_false(net_mac_parse("52-54-00-12-34-56", mac));
}

static void test_sums(void)
{
    /* The example of RFC 1071, section 3, and an odd length. */
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

    g_assert_cmphex(net_sum(bytes, 8, 0), ==, 0xddf2);
    g_assert_cmphex(net_sum(bytes, 7, 0), ==, 0xddf2 - 0xf7);
    g_assert_cmphex(net_sum(bytes, 0, 0x1ffff), ==, 1);
}

struct fragments {
    unsigned count, bytes;
    uint8_t payload[8000];
    bool more;
};

static void fragment(void *opaque, uint8_t *frame, size_t len)
{
    struct fragments *f = opaque;
    unsigned place = (unsigned)(frame[20] << 8 | frame[21]);

    g_assert_cmpuint(len, <=, 1514);
    g_assert_cmphex(net_sum(frame + 14, 20, 0), ==, 0xffff);
    g_assert_cmpuint((place & 0x1fff) * 8, ==, f->bytes);
    memcpy(f->payload + f->bytes, frame + 34, len - 34);
    f->bytes += (unsigned)len - 34;
    f->more = place & 0x2000;
    f->count++;
}

static void test_fragments(void)
{
    uint8_t frame[14 + 20 + 4000] = {[12] = 8, [14] = 0x45, [22] = 64, [23] = 17};
    struct fragments f = {0};

    frame[16] = 4020 >> 8;
    frame[17] = 4020 & 0xff;
    for (unsigned i = 0; i < 4000; i++) {
        frame[34 + i] = (uint8_t)(i * 3);
    }
    net_fragment4(frame, sizeof frame, fragment, &f);
    g_assert_cmpuint(f.count, ==, 3);
    g_assert_cmpuint(f.bytes, ==, 4000);
    g_assert_false(f.more);
    g_assert_true(!memcmp(f.payload, frame + 34, 4000));
    frame[17] = 0xff; /* more than there is */
    frame[16] = 0xff;
    net_fragment4(frame, sizeof frame, fragment, &f);
    g_assert_cmpuint(f.count, ==, 3);
}

/* A SYN from the guest, with an MSS option of `mss`. */
static size_t make_syn(uint8_t *frame, uint16_t mss)
{
    static const uint8_t head[] = {
        0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0,    1,    2,  3, 8, 0, 0x45, 0, 0, 44, 0, 1,
        0x40, 0,    64, 6, 0, 0, 10,   0,    2,    15,   10, 0, 2, 2, 0x80, 1, 0, 80, 0, 0,
        0,    1,    0,  0, 0, 0, 0x60, 0x02, 0xff, 0xff, 0,  0, 0, 0, 2,    4, 0, 0};
    struct net_offload o = {.gso = NET_GSO_TCP4};

    memcpy(frame, head, sizeof head);
    frame[56] = (uint8_t)(mss >> 8);
    frame[57] = (uint8_t)mss;
    g_assert_true(net_tcp_prepare(frame, sizeof head, &o));
    net_checksum_fill(frame, sizeof head, &o);
    return sizeof head;
}

static void assert_sum(const uint8_t *frame, size_t len)
{
    uint32_t pseudo = net_sum(frame + 26, 8, (uint32_t)(6 + len - 34));

    g_assert_cmphex(net_sum(frame + 34, len - 34, pseudo), ==, 0xffff);
}

static void test_mss(void)
{
    static const struct net_offload done = {0};
    uint8_t frame[100];
    size_t len = make_syn(frame, 1460);

    assert_sum(frame, len);
    net_raise_mss(frame, len, 29200, &done);
    g_assert_cmpuint((unsigned)(frame[56] << 8 | frame[57]), ==, 29200);
    assert_sum(frame, len);
    len = make_syn(frame, 1360); /* behind a tunnel: as it is */
    net_raise_mss(frame, len, 29200, &done);
    g_assert_cmpuint((unsigned)(frame[56] << 8 | frame[57]), ==, 1360);
    len = make_syn(frame, 1460);
    frame[55] = 40; /* an option longer than the header */
    net_raise_mss(frame, len, 29200, &done);
    g_assert_cmpuint((unsigned)(frame[56] << 8 | frame[57]), ==, 1460);
}

static void test_pcap(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "ringside-test-XXXXXX", NULL);
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    struct pcap *p;
    gsize len;

    close(g_mkstemp(path));
    p = pcap_open(path, &error);
    g_assert_no_error(error);
    pcap_write(p, (const uint8_t *)"0123456789abcdef", 16);
    pcap_write(p, (const uint8_t *)"0123456789abcdef", 15);
    pcap_close(p);
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    g_assert_cmpuint(len, ==, 24 + 16 + 16 + 16 + 15);
    g_assert_true(!memcmp(bytes, "\xd4\xc3\xb2\xa1\2\0\4\0", 8));
    g_assert_cmpuint((uint8_t)bytes[20], ==, 1);
    g_assert_cmpuint((uint8_t)bytes[24 + 8], ==, 16);
    g_assert_true(!memcmp(bytes + 40, "0123456789abcdef", 16));
    g_unlink(path);
    g_assert_null(pcap_open("/nowhere/x.pcap", &error));
    g_assert_nonnull(strstr(error->message, "/nowhere/x.pcap"));
}

/* A card that keeps the last packet. */
struct card {
    unsigned packets;
    uint8_t frame[2000];
    size_t len;
};

static bool card_receive(void *opaque, const uint8_t *frame, size_t len,
                         const struct net_offload *offload)
{
    struct card *c = opaque;

    c->packets++;
    c->len = MIN(len, sizeof c->frame);
    memcpy(c->frame, frame, c->len);
    return true;
}

static void card_link(void *opaque)
{
}

static const struct net_card_ops card_ops = {card_receive, card_link};

static struct net *user_net(const char *mode, struct clock *clock, struct card *card)
{
    struct net_config config = {.mode = mode, .clock = clock};
    g_autoptr(GError) error = NULL;
    struct net *net = net_open(&config, &error);

    g_assert_no_error(error);
    net_attach(net, &card_ops, card, 0);
    net_pause(net, false);
    return net;
}

static void transmit(struct net *net, const uint8_t *frame, size_t len)
{
    static uint8_t packet[NET_MAX_PACKET];
    static const struct net_offload none = {0};

    memcpy(packet, frame, len);
    net_transmit(net, packet, len, &none);
}

static const uint8_t who_has[60] = {
    255, 255,  255,  255, 255, 255, 0x52, 0x54, 0, 1, 2,  3, 8, 6, 0, 1, 8, 0,  6, 4, 0,
    1,   0x52, 0x54, 0,   1,   2,   3,    10,   0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2};

static void test_user(void)
{
    struct clock *clock = clock_new_fake();
    struct card card = {0};
    struct net *net = user_net("user", clock, &card);

    transmit(net, who_has, sizeof who_has);
    g_assert_cmpuint(card.packets, ==, 1);
    g_assert_cmpuint(card.len, >=, 60);
    g_assert_true(!memcmp(card.frame + 28, "\12\0\2\2", 4));
    net_plug(net, false);
    transmit(net, who_has, sizeof who_has);
    g_assert_cmpuint(card.packets, ==, 1);
    net_plug(net, true);
    net_pause(net, true); /* packets wait */
    transmit(net, who_has, sizeof who_has);
    g_assert_cmpuint(card.packets, ==, 1);
    net_pause(net, false);
    g_assert_cmpuint(card.packets, ==, 2);
    net_close(net);
    clock_free(clock);
}

static unsigned free_port(void)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();

    return g_socket_listener_add_any_inet_port(listener, NULL, NULL);
}

static bool connects(unsigned port)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) c =
        g_socket_client_connect_to_host(client, "127.0.0.1", (guint16)port, NULL, NULL);

    return c != NULL;
}

static void test_user_forward(void)
{
    struct clock *clock = clock_new_fake();
    struct card card = {0};
    struct net *net = user_net("isolated", clock, &card);
    g_autoptr(GError) error = NULL;
    g_autofree char *spec = g_strdup_printf("tcp:%u:22", free_port());
    unsigned port = (unsigned)atoi(spec + 4);

    g_assert_true(net_forward_add(net, spec, &error));
    g_assert_true(connects(port));
    g_assert_false(net_forward_add(net, spec, &error));
    g_assert_nonnull(strstr(error->message, "already"));
    g_clear_error(&error);
    g_assert_true(net_forward_remove(net, spec, &error));
    g_assert_false(connects(port));
    g_assert_cmpuint(net_forwards(net)->len, ==, 0);
    g_autoptr(GSocketListener) taken = g_socket_listener_new();
    g_autofree char *busy = g_strdup_printf("tcp:0.0.0.0:%u:22",
                                            g_socket_listener_add_any_inet_port(taken, NULL, NULL));
    g_assert_false(net_forward_add(net, busy, &error));
    g_assert_nonnull(strstr(error->message, "cannot be forwarded"));
    net_close(net);
    clock_free(clock);
}

/* A connection that was open when the machine was saved: after the restore the guest is asked. */
static void test_flows(void)
{
    struct clock *clock = clock_new_fake();
    struct card card = {0};
    struct net *net = user_net("user", clock, &card), *next;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) saved = NULL;
    struct state *s = state_begin_save(1);
    uint8_t syn[100];

    transmit(net, syn, make_syn(syn, 1460));
    net_state(net, s);
    saved = g_variant_ref_sink(state_end_save(s));
    net_close(net);

    next = user_net("user", clock, &card);
    net_pause(next, true);
    s = state_begin_restore(saved);
    net_state(next, s);
    g_assert_true(state_end_restore(s, "net", &error));
    card.packets = 0;
    net_restored(next);
    g_assert_cmpuint(card.packets, ==, 0);
    net_pause(next, false);
    clock_advance(clock, 1);
    g_assert_cmpuint(card.packets, ==, 1);
    clock_advance(clock, 1000000000);
    g_assert_cmpuint(card.packets, ==, 3);
    clock_advance(clock, 100000000000); /* that will do */
    g_assert_cmpuint(card.packets, <, 20);
    g_assert_true(!memcmp(card.frame, syn + 6, 6));
    g_assert_true(!memcmp(card.frame + 26, syn + 30, 4) && !memcmp(card.frame + 30, syn + 26, 4));
    g_assert_cmphex(card.frame[47], ==, 2);
    assert_sum(card.frame, 54);
    net_close(next);
    clock_free(clock);
}

static void test_tap_missing(void)
{
    struct net_config config = {.mode = "tap:no-such-tap"};
    g_autoptr(GError) error = NULL;

    g_assert_null(net_open(&config, &error));
    g_assert_nonnull(strstr(error->message, "ip tuntap add"));
    g_clear_error(&error);
    config.mode = "tap:fd=1000";
    g_assert_null(net_open(&config, &error));
    g_assert_nonnull(strstr(error->message, "1000"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/modes", test_modes);
    g_test_add_func("/net/forwards", test_forwards);
    g_test_add_func("/net/mac", test_mac);
    g_test_add_func("/net/sums", test_sums);
    g_test_add_func("/net/fragments", test_fragments);
    g_test_add_func("/net/mss", test_mss);
    g_test_add_func("/net/pcap", test_pcap);
    g_test_add_func("/net/user", test_user);
    g_test_add_func("/net/user-forward", test_user_forward);
    g_test_add_func("/net/flows", test_flows);
    g_test_add_func("/net/tap-missing", test_tap_missing);
    return g_test_run();
}
