/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a network is written down in settings and on command lines. Shared with the front end (GLib
 * only).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NET_FORWARDS 64u

struct net_forward {
    bool udp;
    char *host;  /* address to listen on: 127.0.0.1 when none is given */
    char *guest; /* NULL: the first address that DHCP gives */
    uint16_t host_port, guest_port;
};

/* user, isolated, none, tap:NAME, tap:fd=N, bridge:NAME. */
bool net_mode_valid(const char *mode);
/* Can it forward ports? */
bool net_mode_forwards(const char *mode);

/* PROTOCOL:[ADDRESS:]PORT:[ADDRESS:]PORT, host first; IPv6 addresses in brackets: "tcp:2222:22",
 * "udp:0.0.0.0:5353:10.0.2.15:53", "tcp:[::1]:2222:[fec0::15]:22". False and a sentence that says
 * what is allowed.
 */
bool net_forward_parse(const char *spec, struct net_forward *forward, GError **error);
void net_forward_clear(struct net_forward *forward);

bool net_mac_parse(const char *text, uint8_t mac[6]); /* 52:54:00:..., unicast only */
char *net_mac_random(void);                           /* locally administered */
