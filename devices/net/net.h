/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network cable: one end in a card, the other in a back end on the host.
 *
 *   user       libslirp: addresses by DHCP, DNS, the host's connections (IPv4 and IPv6), no rights
 * needed isolated   the same without a way out: only forwarded ports get in tap:NAME   an existing
 * tap device; tap:fd=N, an open one (or any datagram socket) from our starter bridge:NAME  a new
 * tap device, put into this bridge (CAP_NET_ADMIN)
 *
 * Packets are Ethernet frames without FCS, possibly larger than any wire takes: see struct
 * net_offload. All functions with the machine lock held. A back end lives on the default
 * GMainContext.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"
#include "spec.h"

#define NET_MTU        1500u
#define NET_MSS4       (NET_MTU - 40u) /* TCP payload that fits */
#define NET_MSS6       (NET_MTU - 60u)
#define NET_HEADER     14u
#define NET_MIN_FRAME  60u
#define NET_MAX_PACKET (65536u + 256u) /* with the headers of a packet yet to be cut up */

/* What a packet's sender has left undone, or done already. */
enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6 };
struct net_offload {
    bool checksum_needed; /* the sum of [checksum_start, end) goes to checksum_start +
                             checksum_offset, where the sum of the pseudo header is now */
    bool checksum_good;   /* nobody needs to look */
    uint16_t checksum_start, checksum_offset;
    enum net_gso gso;      /* to be cut into segments: implies checksum_needed */
    uint16_t segment_size; /* TCP payload in each */
};

/* What one end takes. The cable does the rest in software. */
enum net_can { NET_CAN_CHECKSUM = 1, NET_CAN_TCP4 = 2, NET_CAN_TCP6 = 4 };

struct net_card_ops {
    /* True when it was taken or dropped for good, false when there is no room: net_ready() later.
     */
    bool (*receive)(void *card, const uint8_t *frame, size_t len,
                    const struct net_offload *offload);
    void (*link_changed)(void *card);
};

struct net_config {
    const char *mode; /* see above */
    struct clock *clock;
    bool unplugged;
};

struct net;

/* NULL and a sentence when the back end cannot be had. */
struct net *net_open(const struct net_config *config, GError **error);
void net_close(struct net *net); /* NULL is fine */

void net_attach(struct net *net, const struct net_card_ops *ops, void *card, unsigned can);
void net_set_can(struct net *net, unsigned can); /* of the card; a driver may change its mind */
/* From the card. `frame` has NET_MAX_PACKET bytes of room and is scribbled on. Any length and
 * content. */
void net_transmit(struct net *net, uint8_t *frame, size_t len, const struct net_offload *offload);
void net_ready(struct net *net);      /* the card has room again */
bool net_link(const struct net *net); /* the cable is plugged in */

/* From the machine. */
void net_plug(struct net *net, bool plugged);
void net_pause(struct net *net, bool paused); /* no packet moves while paused */
/* "tcp:2222:22", "udp:127.0.0.1:5353:53", "tcp:[::1]:2222:[fec0::15]:22"; see spec.h. */
bool net_forward_add(struct net *net, const char *spec, GError **error);
bool net_forward_remove(struct net *net, const char *spec, GError **error);
GPtrArray *net_forwards(struct net *net); /* of char *, as given; stays the cable's */
/* Every packet from now on into a pcap file; NULL ends it. */
bool net_capture(struct net *net, const char *path, GError **error);
bool net_capture_into(struct net *net, int fd, GError **error); /* takes it, also when it fails */
const char *net_mode(const struct net *net);

struct net_counters {
    uint64_t sent, received, sent_bytes, received_bytes; /* as the guest sees them */
    uint64_t dropped;
};
void net_counters(const struct net *net, struct net_counters *out);

/* The guest has been restored into a new back end: its connections are told that they are gone. */
struct state;
void net_state(struct net *net, struct state *state);
void net_restored(struct net *net);

/* packet.c: pure functions on untrusted bytes. */
uint16_t net_sum(const uint8_t *bytes, size_t len, uint32_t start); /* folded, not inverted */
/* Does what offload says, and leaves it empty. Only checksums. */
void net_checksum_fill(uint8_t *frame, size_t len, struct net_offload *offload);
/* Where a TCP packet's headers end: false when it is no TCP over the IP that `gso` says. */
bool net_tcp_headers(const uint8_t *frame, size_t len, enum net_gso gso, size_t *ip, size_t *tcp,
                     size_t *payload);
/* Makes the lengths and pseudo header sum of a packet whose sender left them to the card right, for
 * its whole length. */
bool net_tcp_prepare(uint8_t *frame, size_t len, struct net_offload *offload);
/* Cuts up a GSO packet; finished frames go to fn. Others go to fn as they are. */
void net_segment(const uint8_t *frame, size_t len, const struct net_offload *offload,
                 void (*fn)(void *opaque, uint8_t *frame, size_t len), void *opaque);
/* Cuts an IPv4 packet into fragments of NET_MTU. Others, and those that must not be cut: nothing.
 */
void net_fragment4(const uint8_t *frame, size_t len,
                   void (*fn)(void *opaque, uint8_t *frame, size_t len), void *opaque);
/* A SYN that offers an MSS of NET_MSS4 (or 6) or more offers `mss` afterwards; its checksum stays
 * right. */
void net_raise_mss(uint8_t *frame, size_t len, uint16_t mss, const struct net_offload *offload);
