/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading, checking and writing machine.ini. One table says which keys there are, where each lands
 * in struct settings and what it may hold; loading and saving walk it. GKeyFile does the format but
 * forgets line numbers, so a scan of the text finds them again for the errors.
 */
#include <stddef.h>
#include <string.h>

#include "net/spec.h"
#include "settings.h"
#include "usb/rule.h"

#define DEFAULT_MEMORY_MIB 1024u
#define MAX_FILE_BYTES     (1u << 20)
#define MAX_NAME_CHARS     200

G_DEFINE_QUARK(ringside - settings - error - quark, settings_error)

enum field_kind { FIELD_TEXT, FIELD_CHOICE, FIELD_NUMBER64, FIELD_NUMBER, FIELD_BOOL };

/* One key. `check` is for texts; a text that is empty is stored as NULL where `nullable` is set. */
struct field {
    const char *group, *key;
    enum field_kind kind;
    size_t offset;
    bool nullable;
    uint64_t minimum, maximum;
    const char *choices; /* comma-separated */
    bool (*check)(const char *value);
    const char *allowed; /* ends the sentence "...; allowed is" */
};

static bool check_name(const char *value)
{
    for (const char *p = value; *p; p = g_utf8_next_char(p)) {
        if (g_unichar_iscntrl(g_utf8_get_char(p))) {
            return false;
        }
    }
    return *value && g_utf8_strlen(value, -1) <= MAX_NAME_CHARS;
}

static bool check_uuid(const char *value)
{
    return g_uuid_string_is_valid(value);
}

static bool check_os(const char *value)
{
    return strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+_-") ==
           strlen(value);
}

static bool check_serial(const char *value)
{
    return !strcmp(value, "none") || !strcmp(value, "pty") ||
           (g_str_has_prefix(value, "file:") && value[strlen("file:")]);
}

static bool check_order(const char *value)
{
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    unsigned disk = 0, cdrom = 0;

    for (unsigned i = 0; words[i]; i++) {
        const char *word = g_strstrip(words[i]);
        disk += !strcmp(word, "disk");
        cdrom += !strcmp(word, "cdrom");
        if (strcmp(word, "disk") && strcmp(word, "cdrom")) {
            return false;
        }
    }
    return disk <= 1 && cdrom <= 1 && disk + cdrom > 0;
}

static bool check_network(const char *value)
{
    return !strcmp(value, "none") || (net_mode_valid(value) && !g_str_has_prefix(value, "tap:fd="));
}

static bool check_mac(const char *value)
{
    uint8_t mac[6];

    return net_mac_parse(value, mac);
}

static char **split_list(const char *value)
{
    char **words = g_strsplit(value ? value : "", ",", -1);
    unsigned kept = 0;

    for (unsigned i = 0; words[i]; i++) {
        if (*g_strstrip(words[i])) {
            words[kept++] = words[i];
        } else {
            g_free(words[i]);
        }
    }
    words[kept] = NULL;
    return words;
}

static bool check_forwards(const char *value)
{
    g_auto(GStrv) words = split_list(value);

    for (unsigned i = 0; words[i]; i++) {
        struct net_forward forward;
        if (i == NET_FORWARDS || !net_forward_parse(words[i], &forward, NULL)) {
            return false;
        }
        net_forward_clear(&forward);
    }
    return true;
}

static bool check_usb_rules(const char *value)
{
    g_auto(GStrv) words = split_list(value);

    for (unsigned i = 0; words[i]; i++) {
        if (i == USB_RULES || !usb_rule_valid(words[i])) {
            return false;
        }
    }
    return true;
}

#define USB_RULES_ALLOWED                                                                          \
    "a list with commas of rules like 046d:c52b, 046d:c52b:SERIAL or port:1-4.2"
#define AT(member) offsetof(struct settings, member)

static const struct field fields[] = {
    {"machine", "name", FIELD_TEXT, AT(name), .check = check_name,
     .allowed = "a name of 1 to 200 characters"},
    {"machine", "uuid", FIELD_TEXT, AT(uuid), .check = check_uuid,
     .allowed = "a UUID like 01234567-89ab-4cde-8f01-23456789abcd"},
    {"machine", "os", FIELD_TEXT, AT(os), .nullable = true, .check = check_os,
     .allowed = "a short id of libosinfo, such as debian12, or nothing"},
    {"machine", "engine", FIELD_CHOICE, AT(engine), .choices = "auto,kvm,driver,translate"},
    {"machine", "memory", FIELD_NUMBER64, AT(memory_mib), .minimum = 1, .maximum = 1048576,
     .allowed = "a whole number of MiB from 1 to 1048576"},
    {"machine", "processors", FIELD_NUMBER, AT(processors), .minimum = 1, .maximum = 32,
     .allowed = "a whole number from 1 to 32"},
    {"machine", "firmware", FIELD_CHOICE, AT(firmware), .choices = "bios,uefi"},
    {"machine", "serial", FIELD_TEXT, AT(serial), .check = check_serial,
     .allowed = "none, pty or file: followed by a path"},
    {"machine", "serial2", FIELD_TEXT, AT(serial2), .check = check_serial,
     .allowed = "none, pty or file: followed by a path"},
    {"machine", "video", FIELD_CHOICE, AT(video), .choices = "vga,virtio"},
    {"machine", "debug-exit", FIELD_BOOL, AT(debug_exit)},
    {"machine", "usb-keyboard", FIELD_BOOL, AT(usb_keyboard)},
    {"boot", "order", FIELD_TEXT, AT(boot_order), .check = check_order,
     .allowed = "disk, cdrom or both with a comma, each once"},
    {"boot", "kernel", FIELD_TEXT, AT(kernel), .nullable = true},
    {"boot", "initrd", FIELD_TEXT, AT(initrd), .nullable = true},
    {"boot", "append", FIELD_TEXT, AT(append), .nullable = true},
    {"sound", "mode", FIELD_CHOICE, AT(sound), .choices = "on,output,off"},
    {"network", "mode", FIELD_TEXT, AT(network), .check = check_network,
     .allowed = "user, isolated, none, tap: or bridge: followed by a name"},
    {"network", "card", FIELD_CHOICE, AT(card), .choices = "e1000e,virtio"},
    {"network", "mac", FIELD_TEXT, AT(mac), .nullable = true, .check = check_mac,
     .allowed = "an address like 52:54:00:12:34:56, or nothing"},
    {"network", "cable", FIELD_BOOL, AT(cable)},
    {"network", "forwards", FIELD_TEXT, AT(forwards), .nullable = true, .check = check_forwards,
     .allowed = "a list with commas of forwards like tcp:2222:22"},
    {"usb", "connect", FIELD_TEXT, AT(usb_connect), .nullable = true, .check = check_usb_rules,
     .allowed = USB_RULES_ALLOWED},
    {"usb", "ignore", FIELD_TEXT, AT(usb_ignore), .nullable = true, .check = check_usb_rules,
     .allowed = USB_RULES_ALLOWED},
};

/* The same for a disk; offsets are into struct settings_disk, the group is disk0 .. disk3. */
static const struct field disk_fields[] = {
    {NULL, "path", FIELD_TEXT, offsetof(struct settings_disk, path)},
    {NULL, "format", FIELD_CHOICE, offsetof(struct settings_disk, format),
     .choices = "auto,raw,qcow2"},
    {NULL, "read-only", FIELD_BOOL, offsetof(struct settings_disk, read_only)},
    {NULL, "usb", FIELD_BOOL, offsetof(struct settings_disk, usb)},
};

struct settings *settings_new(const char *name)
{
    struct settings *s = g_new0(struct settings, 1);

    s->name = g_strdup(name);
    s->uuid = g_uuid_string_random();
    s->engine = g_strdup("auto");
    s->firmware = g_strdup("bios");
    s->serial = g_strdup("none");
    s->serial2 = g_strdup("none");
    s->memory_mib = DEFAULT_MEMORY_MIB;
    s->processors = 1;
    s->boot_order = g_strdup("disk,cdrom");
    s->video = g_strdup("vga");
    s->sound = g_strdup("on");
    s->network = g_strdup("user");
    s->card = g_strdup("e1000e");
    s->cable = true;
    return s;
}

void settings_free(struct settings *s)
{
    if (!s) {
        return;
    }
    char *strings[] = {s->name,     s->uuid,    s->os,          s->engine,     s->firmware,
                       s->serial,   s->serial2, s->cdrom,       s->boot_order, s->kernel,
                       s->initrd,   s->append,  s->network,     s->card,       s->mac,
                       s->forwards, s->sound,   s->usb_connect, s->usb_ignore, s->video};
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_free(s->disk[i].path);
        g_free(s->disk[i].format);
    }
    g_free(s);
}

/* Line of group's key; with key NULL of the group's header; 0: not there. The last one counts, as
 * in GKeyFile. */
static unsigned line_of(const char *text, const char *group, const char *key)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *header = g_strdup_printf("[%s]", group);
    bool inside = false;
    unsigned found = 0;

    for (unsigned i = 0; lines[i]; i++) {
        char *line = g_strstrip(lines[i]);
        char *equals = strchr(line, '=');
        if (line[0] == '[') {
            inside = !strcmp(line, header);
            found = inside && !key ? i + 1 : found;
        } else if (inside && key && line[0] != '#' && equals) {
            *equals = '\0';
            found = !strcmp(g_strstrip(line), key) ? i + 1 : found;
        }
    }
    return found;
}

/* GKeyFile's own message names no line: look at each line's shape first. */
static bool check_shape(const char *text, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool group = false;

    for (unsigned i = 0; lines[i]; i++) {
        const char *line = g_strstrip(lines[i]), *wrong = NULL;
        if (!g_utf8_validate(line, -1, NULL)) {
            g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_PARSE,
                        "%s, line %u: this is not UTF-8 text", SETTINGS_FILE, i + 1);
            return false;
        }
        if (!*line || *line == '#') {
            continue;
        }
        if (*line == '[') {
            group = true;
            wrong = g_str_has_suffix(line, "]") && strlen(line) > 2 ? NULL : "a closing ]";
        } else if (!strchr(line, '=') || *line == '=') {
            wrong = "a line such as key=value, [group] or # comment";
        } else if (!group) {
            wrong = "a [group] before the first key";
        }
        if (wrong) {
            g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_PARSE,
                        "%s, line %u: found \"%.60s\"; expected %s", SETTINGS_FILE, i + 1, line,
                        wrong);
            return false;
        }
    }
    return true;
}

static bool value_error(const char *text, const struct field *f, const char *group,
                        const char *value, GError **error)
{
    g_autofree char *allowed = NULL;

    if (f->choices) {
        g_auto(GStrv) words = g_strsplit(f->choices, ",", -1);
        g_autofree char *list = g_strjoinv(", ", words);
        allowed = g_strdup_printf("one of %s", list);
    } else {
        allowed = g_strdup(f->kind == FIELD_BOOL ? "true or false" : f->allowed);
    }
    g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_VALUE,
                "%s, line %u: %s is \"%s\"; allowed is %s", SETTINGS_FILE,
                line_of(text, group, f->key), f->key, value, allowed ? allowed : "a text");
    return false;
}

static bool is_choice(const char *choices, const char *value)
{
    g_auto(GStrv) words = g_strsplit(choices, ",", -1);
    return g_strv_contains((const char *const *)words, value);
}

/* Stores a value when it is allowed. */
static bool field_store(const struct field *f, void *base, const char *value)
{
    void *at = (char *)base + f->offset;
    guint64 number;

    switch (f->kind) {
    case FIELD_TEXT:
    case FIELD_CHOICE:
        if ((f->check && !(f->nullable && !*value) && !f->check(value)) ||
            (f->choices && !is_choice(f->choices, value))) {
            return false;
        }
        g_free(*(char **)at);
        *(char **)at = *value || !f->nullable ? g_strdup(value) : NULL;
        return true;
    case FIELD_NUMBER64:
    case FIELD_NUMBER:
        if (!g_ascii_string_to_unsigned(value, 10, f->minimum, f->maximum, &number, NULL)) {
            return false;
        }
        if (f->kind == FIELD_NUMBER64) {
            *(uint64_t *)at = number;
        } else {
            *(unsigned *)at = (unsigned)number;
        }
        return true;
    case FIELD_BOOL:
        *(bool *)at = !strcmp(value, "true");
        return !strcmp(value, "true") || !strcmp(value, "false");
    }
    return false;
}

static bool field_load(const struct field *f, const char *group, GKeyFile *file, const char *text,
                       void *base, GError **error)
{
    if (!g_key_file_has_key(file, group, f->key, NULL)) {
        return true;
    }
    /* With a NULL error GKeyFile lets wrong escapes pass. */
    g_autoptr(GError) local = NULL;
    g_autofree char *value = g_key_file_get_string(file, group, f->key, &local);
    if (!value || local) {
        g_autofree char *raw = g_key_file_get_value(file, group, f->key, NULL);
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_VALUE,
                    "%s, line %u: %s is \"%s\"; a backslash must be written twice", SETTINGS_FILE,
                    line_of(text, group, f->key), f->key, raw ? raw : "");
        return false;
    }
    g_strstrip(value);
    return field_store(f, base, value) || value_error(text, f, group, value, error);
}

static bool disk_load(struct settings_disk *disk, unsigned index, GKeyFile *file, const char *text,
                      GError **error)
{
    g_autofree char *group = g_strdup_printf("disk%u", index);

    if (!g_key_file_has_group(file, group)) {
        return true;
    }
    disk->format = g_strdup("auto");
    for (unsigned i = 0; i < G_N_ELEMENTS(disk_fields); i++) {
        if (!field_load(&disk_fields[i], group, file, text, disk, error)) {
            return false;
        }
    }
    if (!disk->path || !*disk->path) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_VALUE,
                    "%s, line %u: [%s] has no path; it needs path= and the disk's file",
                    SETTINGS_FILE, line_of(text, group, NULL), group);
        return false;
    }
    return true;
}

/* A [disk7] would be silently no disk: say so. */
static bool check_disk_groups(GKeyFile *file, const char *text, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    for (unsigned i = 0; groups[i]; i++) {
        const char *number = groups[i] + strlen("disk");
        if (g_str_has_prefix(groups[i], "disk") &&
            !(number[0] >= '0' && number[0] < '0' + (int)SETTINGS_MAX_DISK && !number[1])) {
            g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_VALUE,
                        "%s, line %u: found [%s]; disks are [disk0] to [disk%u]", SETTINGS_FILE,
                        line_of(text, groups[i], NULL), groups[i], SETTINGS_MAX_DISK - 1);
            return false;
        }
    }
    return true;
}

static bool settings_read(struct settings *s, GKeyFile *file, const char *text, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (!field_load(&fields[i], fields[i].group, file, text, s, error)) {
            return false;
        }
    }
    if (!s->name) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_VALUE,
                    "%s: [machine] has no name; it needs name= and the machine's name",
                    SETTINGS_FILE);
        return false;
    }
    if (!check_disk_groups(file, text, error)) {
        return false;
    }
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        if (!disk_load(&s->disk[i], i, file, text, error)) {
            return false;
        }
    }
    s->has_cdrom = g_key_file_has_group(file, "cdrom");
    g_autofree char *path = g_key_file_get_string(file, "cdrom", "path", NULL);
    s->cdrom = path && *path ? g_steal_pointer(&path) : NULL;
    return true;
}

/* The text of the file, NUL-terminated, or NULL and an error that names the path. */
static char *read_text(const char *path, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = NULL;
    gsize length;

    if (!g_file_get_contents(path, &text, &length, &local)) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_IO, "%s", local->message);
        return NULL;
    }
    if (length > MAX_FILE_BYTES || strlen(text) != length) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_PARSE,
                    "%s is not a machine's settings: it is %s", path,
                    length > MAX_FILE_BYTES ? "larger than 1 MiB" : "not text");
        return NULL;
    }
    return g_steal_pointer(&text);
}

struct settings *settings_load(const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, SETTINGS_FILE, NULL);
    g_autofree char *text = read_text(path, error);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(RsSettings) s = settings_new(NULL);
    g_autoptr(GError) local = NULL;

    if (!text || !check_shape(text, error)) {
        return NULL;
    }
    if (!g_key_file_load_from_data(file, text, strlen(text), G_KEY_FILE_NONE, &local)) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_PARSE, "%s: %s", SETTINGS_FILE,
                    local->message);
        return NULL;
    }
    return settings_read(s, file, text, error) ? g_steal_pointer(&s) : NULL;
}

static void field_save(const struct field *f, const char *group, GKeyFile *file, const void *base)
{
    const void *at = (const char *)base + f->offset;

    switch (f->kind) {
    case FIELD_TEXT:
    case FIELD_CHOICE:
        if (*(char *const *)at) {
            g_key_file_set_string(file, group, f->key, *(char *const *)at);
        } else {
            g_key_file_remove_key(file, group, f->key, NULL);
        }
        break;
    case FIELD_NUMBER64:
        g_key_file_set_uint64(file, group, f->key, *(const uint64_t *)at);
        break;
    case FIELD_NUMBER:
        g_key_file_set_uint64(file, group, f->key, *(const unsigned *)at);
        break;
    case FIELD_BOOL:
        g_key_file_set_boolean(file, group, f->key, *(const bool *)at);
        break;
    }
}

static void disk_save(const struct settings_disk *disk, unsigned index, GKeyFile *file)
{
    g_autofree char *group = g_strdup_printf("disk%u", index);

    if (!disk->path) {
        g_key_file_remove_group(file, group, NULL);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(disk_fields); i++) {
        field_save(&disk_fields[i], group, file, disk);
    }
}

bool settings_save(const struct settings *s, const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, SETTINGS_FILE, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) local = NULL;
    gsize length;

    /* What is there is kept where it can be read; a broken file is replaced. */
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_KEEP_COMMENTS, NULL)) {
        g_key_file_unref(g_steal_pointer(&file));
        file = g_key_file_new();
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        field_save(&fields[i], fields[i].group, file, s);
    }
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        disk_save(&s->disk[i], i, file);
    }
    if (s->has_cdrom) {
        g_key_file_set_string(file, "cdrom", "path", s->cdrom ? s->cdrom : "");
    } else {
        g_key_file_remove_group(file, "cdrom", NULL);
    }
    g_autofree char *text = g_key_file_to_data(file, &length, NULL);
    if (!g_file_set_contents_full(path, text, (gssize)length,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0644, &local)) {
        g_set_error(error, SETTINGS_ERROR, SETTINGS_ERROR_IO, "%s", local->message);
        return false;
    }
    return true;
}

/* --- network --- */

char *settings_mac(const struct settings *s)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, s->uuid, -1);

    return s->mac ? g_strdup(s->mac)
                  : g_strdup_printf("52:54:00:%.2s:%.2s:%.2s", hash, hash + 2, hash + 4);
}

char **settings_forwards(const struct settings *s)
{
    return split_list(s->forwards);
}

void settings_set_forwards(struct settings *s, const char *const *forwards)
{
    g_free(s->forwards);
    s->forwards = forwards && *forwards ? g_strjoinv(",", (char **)forwards) : NULL;
}

/* --- USB --- */

static bool any_matches(const char *list, const struct usb_identity *device)
{
    g_auto(GStrv) rules = split_list(list);

    for (unsigned i = 0; rules[i]; i++) {
        if (usb_rule_matches(rules[i], device)) {
            return true;
        }
    }
    return false;
}

bool settings_usb_connects(const struct settings *s, const struct usb_identity *device)
{
    return any_matches(s->usb_connect, device);
}

bool settings_usb_ignores(const struct settings *s, const struct usb_identity *device)
{
    return any_matches(s->usb_ignore, device);
}

/* Takes out the rule, or those that match the device. */
static bool rules_drop(char **list, const char *rule, const struct usb_identity *device)
{
    g_auto(GStrv) rules = split_list(*list);
    GString *kept = g_string_new(NULL);
    bool dropped = false;

    for (unsigned i = 0; rules[i]; i++) {
        if (rule ? g_str_equal(rules[i], rule) : usb_rule_matches(rules[i], device)) {
            dropped = true;
        } else {
            g_string_append_printf(kept, "%s%s", kept->len ? "," : "", rules[i]);
        }
    }
    g_free(*list);
    *list = g_string_free(kept, kept->len == 0);
    return dropped;
}

static bool rules_add(char **list, const char *rule)
{
    g_auto(GStrv) rules = split_list(*list);
    char *old = *list;

    if (!usb_rule_valid(rule) || g_strv_length(rules) >= USB_RULES) {
        return false;
    }
    *list = old ? g_strdup_printf("%s,%s", old, rule) : g_strdup(rule);
    g_free(old);
    return true;
}

bool settings_usb_forget(struct settings *s, const char *rule)
{
    bool connect = rules_drop(&s->usb_connect, rule, NULL);

    return rules_drop(&s->usb_ignore, rule, NULL) || connect;
}

void settings_usb_forget_device(struct settings *s, const struct usb_identity *device)
{
    rules_drop(&s->usb_connect, NULL, device);
    rules_drop(&s->usb_ignore, NULL, device);
}

bool settings_usb_connect(struct settings *s, const char *rule)
{
    settings_usb_forget(s, rule);
    return rules_add(&s->usb_connect, rule);
}

bool settings_usb_ignore(struct settings *s, const char *rule)
{
    settings_usb_forget(s, rule);
    return rules_add(&s->usb_ignore, rule);
}

char **settings_usb_connect_list(const struct settings *s)
{
    return split_list(s->usb_connect);
}

char **settings_usb_ignore_list(const struct settings *s)
{
    return split_list(s->usb_ignore);
}

/* --- disks --- */

int settings_add_disk(struct settings *s, const char *path, const char *format)
{
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        if (!s->disk[i].path) {
            settings_remove_disk(s, i);
            s->disk[i] = (struct settings_disk){.path = g_strdup(path), .format = g_strdup(format)};
            return (int)i;
        }
    }
    return -1;
}

void settings_remove_disk(struct settings *s, unsigned slot)
{
    g_free(s->disk[slot].path);
    g_free(s->disk[slot].format);
    s->disk[slot] = (struct settings_disk){0};
}

char *settings_disk_file(const struct settings *s, unsigned slot, const char *folder)
{
    const char *path = s->disk[slot].path;

    return path ? g_canonicalize_filename(path, folder) : NULL;
}

bool settings_has_disk(const struct settings *s, const char *path, const char *folder)
{
    g_autofree char *file = g_canonicalize_filename(path, folder);

    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_autofree char *other = settings_disk_file(s, i, folder);
        if (!g_strcmp0(file, other)) {
            return true;
        }
    }
    return false;
}

char *settings_new_disk_name(const struct settings *s, const char *folder)
{
    for (unsigned n = 0;; n++) {
        g_autofree char *name = g_strdup_printf("disk%u.qcow2", n);
        g_autofree char *file = g_build_filename(folder, name, NULL);
        if (!settings_has_disk(s, name, folder) && !g_file_test(file, G_FILE_TEST_EXISTS)) {
            return g_steal_pointer(&name);
        }
    }
}
