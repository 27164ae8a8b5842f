/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines on disk: finding them, `list` and `info`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "obstacle.h"
#include "ringctl.h"

char *ringctl_library_folder(void)
{
    return g_build_filename(g_get_user_data_dir(), "ringside", "machines", NULL);
}

void ringctl_machine_free(struct ringctl_machine *machine)
{
    if (machine) {
        g_free(machine->id);
        g_free(machine->folder);
        g_clear_pointer(&machine->settings, settings_free);
        g_free(machine->problem);
        g_free(machine);
    }
}

char *ringctl_machine_file(const struct ringctl_machine *machine, const char *name)
{
    return g_build_filename(machine->folder, name, NULL);
}

bool ringctl_machine_suspended(const struct ringctl_machine *machine)
{
    g_autofree char *path = ringctl_machine_file(machine, "suspend.state");

    return access(path, F_OK) == 0;
}

bool ringctl_machine_locked(const struct ringctl_machine *machine)
{
    g_autofree char *path = ringctl_machine_file(machine, "lock");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;

    if (fd >= 0) {
        close(fd);
    }
    return locked;
}

/* NULL when there is no machine.ini. */
static struct ringctl_machine *machine_load(const char *library, const char *id)
{
    struct ringctl_machine *machine = g_new0(struct ringctl_machine, 1);
    g_autofree char *ini = g_build_filename(library, id, SETTINGS_FILE, NULL);
    g_autoptr(GError) error = NULL;

    machine->id = g_strdup(id);
    machine->folder = g_build_filename(library, id, NULL);
    if (access(ini, F_OK) < 0) {
        ringctl_machine_free(machine);
        return NULL;
    }
    machine->settings = settings_load(machine->folder, &error);
    machine->problem = error ? g_strdup(error->message) : NULL;
    return machine;
}

static const char *shown_name(const struct ringctl_machine *machine)
{
    return machine->settings ? machine->settings->name : machine->id;
}

static int compare(gconstpointer a, gconstpointer b)
{
    return g_utf8_collate(shown_name(*(struct ringctl_machine *const *)a),
                          shown_name(*(struct ringctl_machine *const *)b));
}

GPtrArray *ringctl_library_list(void)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)ringctl_machine_free);
    g_autofree char *library = ringctl_library_folder();
    g_autoptr(GDir) dir = g_dir_open(library, 0, NULL);
    const char *id;

    while (dir && (id = g_dir_read_name(dir))) {
        struct ringctl_machine *machine = *id != '.' ? machine_load(library, id) : NULL;
        if (machine) {
            g_ptr_array_add(all, machine);
        }
    }
    g_ptr_array_sort(all, compare);
    return all;
}

struct ringctl_machine *ringctl_machine_find(const char *name, GError **error)
{
    g_autoptr(GPtrArray) all = ringctl_library_list();
    struct ringctl_machine *found = NULL;
    unsigned matches = 0;

    for (unsigned i = 0; i < all->len; i++) {
        struct ringctl_machine *machine = all->pdata[i];
        if (strcmp(machine->id, name) == 0) {
            found = machine;
            matches = 1;
            break;
        }
        if (strcmp(shown_name(machine), name) == 0) {
            found = machine;
            matches++;
        }
    }
    if (matches != 1) {
        ringctl_fail(error, RINGCTL_NOT_FOUND,
                     matches ? "Several machines are called \"%s\"; give the folder's name instead."
                             : "There is no machine \"%s\".",
                     name);
        return NULL;
    }
    g_ptr_array_set_free_func(all, NULL);
    for (unsigned i = 0; i < all->len; i++) {
        if (all->pdata[i] != found) {
            ringctl_machine_free(all->pdata[i]);
        }
    }
    return found;
}

static void describe_json(GString *out, const struct ringctl_machine *machine)
{
    g_autofree char *state = ringctl_machine_state(machine);

    ringctl_json_member(out, "id", machine->id);
    ringctl_json_member(out, "name", shown_name(machine));
    ringctl_json_member(out, "state", state);
    ringctl_json_member(out, "folder", machine->folder);
    if (machine->settings) {
        ringctl_json_number(out, "memory_mib", machine->settings->memory_mib);
        ringctl_json_number(out, "processors", machine->settings->processors);
    } else {
        ringctl_json_member(out, "problem", machine->problem);
    }
}

static void list_json(GPtrArray *all)
{
    g_autoptr(GString) out = g_string_new("[");

    for (unsigned i = 0; i < all->len; i++) {
        g_string_append(out, i ? ",\n {" : "{");
        describe_json(out, all->pdata[i]);
        g_string_append_c(out, '}');
    }
    printf("%s]\n", out->str);
}

bool ringctl_list(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {{"json", 0, 0, G_OPTION_ARG_NONE, &json, "As JSON", NULL}, {0}};
    g_autoptr(GPtrArray) all = NULL;

    if (!ringctl_parse(command, entries, &argc, &argv, 0, 0, error)) {
        return false;
    }
    all = ringctl_library_list();
    if (json) {
        list_json(all);
        return true;
    }
    for (unsigned i = 0; i < all->len; i++) {
        struct ringctl_machine *machine = all->pdata[i];
        g_autofree char *state = ringctl_machine_state(machine);
        printf("%-10s  %s\n", state, shown_name(machine));
    }
    return true;
}

/* Everything that `info` tells: what, and its value (NULL ends). */
static void add_fact(GPtrArray *facts, const char *what, char *value)
{
    if (value && *value) {
        g_ptr_array_add(facts, g_strdup(what));
        g_ptr_array_add(facts, value);
    } else {
        g_free(value);
    }
}

static void add_settings(GPtrArray *facts, const struct settings *s)
{
    add_fact(facts, "uuid", g_strdup(s->uuid));
    add_fact(facts, "os", g_strdup(s->os));
    add_fact(facts, "memory", g_strdup_printf("%" G_GUINT64_FORMAT " MiB", s->memory_mib));
    add_fact(facts, "processors", g_strdup_printf("%u", s->processors));
    add_fact(facts, "wanted-engine", g_strdup(s->engine));
    for (unsigned i = 0; i < SETTINGS_MAX_DISK; i++) {
        g_autofree char *what = g_strdup_printf("disk%u", i);
        g_autofree char *bus = g_strdup_printf("disk%u-bus", i);
        add_fact(facts, what, g_strdup(s->disk[i].path));
        add_fact(facts, bus, g_strdup(s->disk[i].path && s->disk[i].usb ? "usb" : NULL));
    }
    add_fact(facts, "cdrom", g_strdup(s->cdrom));
    add_fact(facts, "video", g_strdup(s->video));
    add_fact(facts, "sound", g_strdup(s->sound));
    add_fact(facts, "network", g_strdup(s->network));
    if (strcmp(s->network, "none") != 0) {
        add_fact(facts, "network-card", g_strdup(s->card));
        add_fact(facts, "mac", settings_mac(s));
        add_fact(facts, "cable", g_strdup(s->cable ? "on" : "off"));
        add_fact(facts, "forwards", g_strdup(s->forwards));
    }
    add_fact(facts, "kernel", g_strdup(s->kernel));
    add_fact(facts, "initrd", g_strdup(s->initrd));
    add_fact(facts, "append", g_strdup(s->append));
}

/* What went over the network and to the speakers, and what got lost. */
static void add_counters(GPtrArray *facts, RsMonitorMachine *proxy)
{
    g_autoptr(GVariant) counters = NULL;
    GVariantIter iter;
    const char *name;
    guint64 value;

    if (!rs_monitor_machine_call_get_counters_sync(proxy, &counters, NULL, NULL)) {
        return;
    }
    g_variant_iter_init(&iter, counters);
    while (g_variant_iter_next(&iter, "{&st}", &name, &value)) {
        add_fact(facts, name, g_strdup_printf("%" G_GUINT64_FORMAT, value));
    }
}

static void add_running(GPtrArray *facts, const struct ringctl_machine *machine)
{
    static const char *const properties[] = {"state-message", "engine", "engine-reason",
                                             "medium",        "serial", "serial2"};
    g_autoptr(GDBusConnection) connection = ringctl_connect(machine->id);
    g_autoptr(RsMonitorMachine) proxy = connection ? ringctl_machine_proxy(connection, NULL) : NULL;

    for (unsigned i = 0; proxy && i < G_N_ELEMENTS(properties); i++) {
        char *value;
        g_object_get(proxy, properties[i], &value, NULL);
        add_fact(facts, properties[i], value);
    }
    if (proxy) {
        add_fact(facts, "pid", g_strdup_printf("%d", rs_monitor_machine_get_pid(proxy)));
        add_counters(facts, proxy);
    } else if (machine->settings) {
        add_fact(facts, "engine-reason", engine_obstacle(machine->settings->engine));
    }
}

static GPtrArray *facts_of(const struct ringctl_machine *machine)
{
    GPtrArray *facts = g_ptr_array_new_with_free_func(g_free);

    add_fact(facts, "id", g_strdup(machine->id));
    add_fact(facts, "name", g_strdup(shown_name(machine)));
    add_fact(facts, "state", ringctl_machine_state(machine));
    add_fact(facts, "folder", g_strdup(machine->folder));
    add_fact(facts, "problem", g_strdup(machine->problem));
    if (machine->settings) {
        add_settings(facts, machine->settings);
    }
    add_running(facts, machine);
    return facts;
}

static void print_facts(GPtrArray *facts, bool json)
{
    g_autoptr(GString) out = g_string_new("{");

    for (unsigned i = 0; i < facts->len; i += 2) {
        if (json) {
            ringctl_json_member(out, facts->pdata[i], facts->pdata[i + 1]);
        } else {
            printf("%-16s %s\n", (char *)facts->pdata[i], (char *)facts->pdata[i + 1]);
        }
    }
    if (json) {
        printf("%s}\n", out->str);
    }
}

bool ringctl_info(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {{"json", 0, 0, G_OPTION_ARG_NONE, &json, "As JSON", NULL}, {0}};
    struct ringctl_machine *machine;
    g_autoptr(GPtrArray) facts = NULL;

    if (!ringctl_parse(command, entries, &argc, &argv, 1, 1, error)) {
        return false;
    }
    machine = ringctl_machine_find(argv[1], error);
    if (!machine) {
        return false;
    }
    facts = facts_of(machine);
    print_facts(facts, json);
    ringctl_machine_free(machine);
    return true;
}
