/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys by character and by name, as Linux input event codes (linux/input-event-codes.h). */
#include <linux/input-event-codes.h>
#include <string.h>

#include "ringctl.h"

/* Keys that lie in a row have codes in a row. */
static const struct {
    unsigned first;
    const char *plain, *shifted;
} rows[] = {
    {KEY_1, "1234567890-=", "!@#$%^&*()_+"},
    {KEY_TAB, "\t", ""},
    {KEY_Q, "qwertyuiop[]", "QWERTYUIOP{}"},
    {KEY_ENTER, "\n", ""},
    {KEY_A, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {KEY_BACKSLASH, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {KEY_SPACE, " ", ""},
    {KEY_BACKSPACE, "\b", ""},
    {KEY_ESC, "\033", ""},
};

static const struct {
    const char *name;
    unsigned code;
} names[] = {
    {"ctrl", KEY_LEFTCTRL},
    {"control", KEY_LEFTCTRL},
    {"alt", KEY_LEFTALT},
    {"shift", KEY_LEFTSHIFT},
    {"super", KEY_LEFTMETA},
    {"win", KEY_LEFTMETA},
    {"meta", KEY_LEFTMETA},
    {"rightctrl", KEY_RIGHTCTRL},
    {"rightalt", KEY_RIGHTALT},
    {"altgr", KEY_RIGHTALT},
    {"rightshift", KEY_RIGHTSHIFT},
    {"menu", KEY_COMPOSE},
    {"delete", KEY_DELETE},
    {"del", KEY_DELETE},
    {"insert", KEY_INSERT},
    {"home", KEY_HOME},
    {"end", KEY_END},
    {"pageup", KEY_PAGEUP},
    {"pagedown", KEY_PAGEDOWN},
    {"up", KEY_UP},
    {"down", KEY_DOWN},
    {"left", KEY_LEFT},
    {"right", KEY_RIGHT},
    {"enter", KEY_ENTER},
    {"return", KEY_ENTER},
    {"esc", KEY_ESC},
    {"escape", KEY_ESC},
    {"tab", KEY_TAB},
    {"space", KEY_SPACE},
    {"backspace", KEY_BACKSPACE},
    {"minus", KEY_MINUS},
    {"capslock", KEY_CAPSLOCK},
    {"numlock", KEY_NUMLOCK},
    {"scrolllock", KEY_SCROLLLOCK},
    {"print", KEY_SYSRQ},
    {"sysrq", KEY_SYSRQ},
    {"pause", KEY_PAUSE},
    {"kpenter", KEY_KPENTER},
    {"kpplus", KEY_KPPLUS},
    {"kpminus", KEY_KPMINUS},
    {"f1", KEY_F1},
    {"f2", KEY_F2},
    {"f3", KEY_F3},
    {"f4", KEY_F4},
    {"f5", KEY_F5},
    {"f6", KEY_F6},
    {"f7", KEY_F7},
    {"f8", KEY_F8},
    {"f9", KEY_F9},
    {"f10", KEY_F10},
    {"f11", KEY_F11},
    {"f12", KEY_F12},
};

bool ringctl_key_for_char(char c, unsigned *code, bool *shift)
{
    for (unsigned i = 0; c && i < G_N_ELEMENTS(rows); i++) {
        const char *plain = strchr(rows[i].plain, c), *shifted = strchr(rows[i].shifted, c);
        if (plain || shifted) {
            *shift = !plain;
            *code = rows[i].first +
                    (unsigned)(plain ? plain - rows[i].plain : shifted - rows[i].shifted);
            return true;
        }
    }
    return false;
}

static unsigned key_by_name(const char *name)
{
    unsigned code;
    bool shift;

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_ascii_strcasecmp(names[i].name, name) == 0) {
            return names[i].code;
        }
    }
    return name[0] && !name[1] && ringctl_key_for_char(g_ascii_tolower(name[0]), &code, &shift) &&
                   !shift
               ? code
               : 0;
}

unsigned ringctl_keys_parse(const char *chord, unsigned codes[], unsigned max, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(chord, "-", -1);
    unsigned count = 0;

    for (unsigned i = 0; parts[i]; i++) {
        unsigned code = key_by_name(parts[i]);
        if (!code || count == max) {
            ringctl_fail(error, RINGCTL_FAILED,
                         code ? "\"%s\" has too many keys." : "There is no key \"%s\".",
                         code ? chord : parts[i]);
            return 0;
        }
        codes[count++] = code;
    }
    if (!count) {
        ringctl_fail(error, RINGCTL_FAILED, "No key is named.");
    }
    return count;
}
