/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a back end is to the cable, and the cable to a back end (net.h).
 */
#pragma once

#include "net.h"

struct net_backend_ops {
    /* One packet from the guest, to be scribbled on; what the back end cannot do is done already.
     */
    void (*send)(void *backend, uint8_t *frame, size_t len, struct net_offload *offload);
    void (*pause)(void *backend, bool paused);
    void (*close)(void *backend);
    /* NULL: this back end forwards no ports, and has no connections to lose. */
    bool (*forward)(void *backend, const struct net_forward *forward, bool add, GError **error);
};

/* A packet for the guest. Main thread or not, lock held. */
void net_deliver(struct net *net, const uint8_t *frame, size_t len,
                 const struct net_offload *offload);

/* user.c, tap.c: NULL and an error. */
void *net_user_new(struct net *net, struct clock *clock, bool restricted, unsigned *can,
                   GError **error);
extern const struct net_backend_ops net_user_ops;
void *net_tap_new(struct net *net, const char *mode, unsigned *can, GError **error);
extern const struct net_backend_ops net_tap_ops;

/* pcap.c */
struct pcap;
struct pcap *pcap_open(const char *path, GError **error);
/* Empties the file; closes it in the end, also when it fails. */
struct pcap *pcap_take(int fd, GError **error);
void pcap_write(struct pcap *pcap, const uint8_t *frame, size_t len);
void pcap_close(struct pcap *pcap); /* NULL is fine */

/* flow.c: the guest's open TCP connections, so that they can be told when they are gone. */
struct flows;
struct flows *flows_new(void);
void flows_free(struct flows *flows);
void flows_look(struct flows *flows, const uint8_t *frame, size_t len, bool from_guest);
void flows_state(struct flows *flows, struct state *state);
/* Makes, for each connection from before the resume, a packet that has the guest's TCP ask whether
 * it is still there. False: there is none. */
bool flows_probe(struct flows *flows, void (*fn)(void *opaque, uint8_t *frame, size_t len),
                 void *opaque);
