/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading what people write about a network (see spec.h).
 */
#include <gio/gio.h>
#include <net/if.h>
#include <string.h>

#include "spec.h"

static bool interface_valid(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len < IFNAMSIZ && !strpbrk(name, "/ \t:") && strcmp(name, ".") &&
           strcmp(name, "..");
}

static bool number(const char *text, uint64_t minimum, uint64_t maximum)
{
    guint64 value;

    return g_ascii_string_to_unsigned(text, 10, minimum, maximum, &value, NULL);
}

bool net_mode_valid(const char *mode)
{
    const char *colon = strchr(mode, ':');

    if (!colon) {
        return !strcmp(mode, "user") || !strcmp(mode, "isolated") || !strcmp(mode, "none");
    }
    if (g_str_has_prefix(mode, "tap:fd=")) {
        return number(mode + strlen("tap:fd="), 0, INT32_MAX);
    }
    return (g_str_has_prefix(mode, "tap:") || g_str_has_prefix(mode, "bridge:")) &&
           interface_valid(colon + 1);
}

bool net_mode_forwards(const char *mode)
{
    return !strcmp(mode, "user") || !strcmp(mode, "isolated");
}

void net_forward_clear(struct net_forward *f)
{
    g_clear_pointer(&f->host, g_free);
    g_clear_pointer(&f->guest, g_free);
}

/* Takes "text:" off *rest; brackets may hold colons. NULL: there is none. */
static char *take_word(const char **rest)
{
    const char *at = *rest, *end;
    char *word;

    if (*at == '[') {
        end = strchr(at, ']');
        if (!end || (end[1] != ':' && end[1] != '\0')) {
            return NULL;
        }
        word = g_strndup(at + 1, (gsize)(end - at) - 1);
        end++;
    } else {
        end = at + strcspn(at, ":");
        word = g_strndup(at, (gsize)(end - at));
    }
    *rest = *end ? end + 1 : end;
    return word;
}

static bool take_port(const char *text, uint16_t *port)
{
    guint64 value;

    if (!text || !g_ascii_string_to_unsigned(text, 10, 1, 65535, &value, NULL)) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* "22" or "127.0.0.1:22". */
static bool take_side(const char **rest, char **address, uint16_t *port)
{
    bool bracket = **rest == '[';
    g_autofree char *word = take_word(rest), *second = NULL;

    if (word && !bracket && take_port(word, port)) {
        return true;
    }
    if (!word || !g_hostname_is_ip_address(word) || bracket != (strchr(word, ':') != NULL)) {
        return false;
    }
    *address = g_steal_pointer(&word);
    second = take_word(rest);
    return take_port(second, port);
}

bool net_forward_parse(const char *spec, struct net_forward *f, GError **error)
{
    const char *rest = spec;
    g_autofree char *protocol = take_word(&rest);
    bool ok;

    *f = (struct net_forward){.udp = protocol && !strcmp(protocol, "udp")};
    ok = protocol && (f->udp || !strcmp(protocol, "tcp")) &&
         take_side(&rest, &f->host, &f->host_port) && take_side(&rest, &f->guest, &f->guest_port) &&
         !*rest && !g_str_has_suffix(spec, ":");
    if (ok && !f->host) {
        f->host = g_strdup(f->guest && strchr(f->guest, ':') ? "::1" : "127.0.0.1");
    }
    /* libslirp does not translate between the two. */
    ok = ok && (!f->guest || !strchr(f->guest, ':') == !strchr(f->host, ':')) &&
         (f->guest || !strchr(f->host, ':'));
    if (!ok) {
        net_forward_clear(f);
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
            "\"%s\" is no port forward; write tcp:2222:22 (host's port, guest's port), or with "
            "addresses udp:0.0.0.0:5353:10.0.2.15:53 or tcp:[::1]:2222:[fec0::15]:22",
            spec);
    }
    return ok;
}

bool net_mac_parse(const char *text, uint8_t mac[6])
{
    if (strlen(text) != 17) {
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        const char *at = text + 3 * i;
        if (!g_ascii_isxdigit(at[0]) || !g_ascii_isxdigit(at[1]) || (i < 5 && at[2] != ':')) {
            return false;
        }
        mac[i] = (uint8_t)(g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
    }
    return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* 52:54:00 is what hypervisors use by custom: bit 1 says that nobody has given it out. */
char *net_mac_random(void)
{
    guint32 bits = g_random_int();

    return g_strdup_printf("52:54:00:%02x:%02x:%02x", bits & 0xff, bits >> 8 & 0xff,
                           bits >> 16 & 0xff);
}
