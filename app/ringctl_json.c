/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The little JSON (RFC 8259) that ringctl prints. */
#include "ringctl.h"

void ringctl_json_string(GString *out, const char *text)
{
    g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

    if (!valid) {
        g_string_append(out, "null");
        return;
    }
    g_string_append_c(out, '"');
    for (const char *p = valid; *p; p++) {
        if (*p == '"' || *p == '\\') {
            g_string_append_printf(out, "\\%c", *p);
        } else if ((unsigned char)*p < 0x20) {
            g_string_append_printf(out, "\\u%04x", (unsigned)*p);
        } else {
            g_string_append_c(out, *p);
        }
    }
    g_string_append_c(out, '"');
}

static void member(GString *out, const char *key)
{
    if (out->len && out->str[out->len - 1] != '{') {
        g_string_append(out, ", ");
    }
    ringctl_json_string(out, key);
    g_string_append(out, ": ");
}

void ringctl_json_member(GString *out, const char *key, const char *text)
{
    member(out, key);
    ringctl_json_string(out, text);
}

void ringctl_json_number(GString *out, const char *key, guint64 number)
{
    member(out, key);
    g_string_append_printf(out, "%" G_GUINT64_FORMAT, number);
}
