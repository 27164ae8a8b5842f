/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringctl usb: this computer's devices, and which machine has them. The node is opened here and
 * handed to the monitor, which has no right to it.
 */
#include <gio/gunixfdlist.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ringctl_usb.h"

/* --- finding devices --- */

/* DEVICE is a port (1-4.2) or a rule. */
static bool is_meant(const char *text, const RsUsbDevice *device)
{
    struct usb_identity identity = rs_usb_identity(device);

    return strcmp(text, device->port) == 0 ||
           (usb_rule_valid(text) && usb_rule_matches(text, &identity));
}

static RsUsbDevice *find_device(GPtrArray *list, const char *text, GError **error)
{
    RsUsbDevice *found = NULL;

    if (!usb_port_valid(text) && !usb_rule_valid(text)) {
        ringctl_fail(
            error, RINGCTL_FAILED,
            "\"%s\" is no USB device; give its port (1-4.2) or vendor:product (046d:c52b), "
            "as ringctl usb list shows them.",
            text);
        return NULL;
    }
    for (unsigned i = 0; i < list->len; i++) {
        RsUsbDevice *device = list->pdata[i];
        if (is_meant(text, device) && found) {
            ringctl_fail(error, RINGCTL_FAILED,
                         "\"%s\" is more than one device (in the ports %s and %s); give the port.",
                         text, found->port, device->port);
            return NULL;
        }
        found = is_meant(text, device) ? device : found;
    }
    if (!found) {
        ringctl_fail(error, RINGCTL_FAILED, "There is no USB device %s in this computer.", text);
    }
    return found;
}

/* --- running machines --- */

static RsMonitorMachine *machine_proxy(const char *id)
{
    g_autoptr(GDBusConnection) connection = ringctl_connect(id);

    return connection ? ringctl_machine_proxy(connection, NULL) : NULL;
}

/* Does the machine have the device in this port? */
static bool has_device(RsMonitorMachine *proxy, const char *port)
{
    GVariant *list = rs_monitor_machine_get_usb_devices(proxy);
    GVariantIter iter;
    const char *other;

    if (!list || !g_variant_is_of_type(list, G_VARIANT_TYPE("a(ssqqs)"))) {
        return false;
    }
    g_variant_iter_init(&iter, list);
    while (g_variant_iter_next(&iter, "(&s&sqq&s)", &other, NULL, NULL, NULL, NULL)) {
        if (strcmp(other, port) == 0) {
            return true;
        }
    }
    return false;
}

/* The name of the machine that has it, or NULL; g_free. */
static char *machine_with(const char *port)
{
    g_autoptr(GPtrArray) machines = ringctl_library_list();

    for (unsigned i = 0; i < machines->len; i++) {
        const struct ringctl_machine *machine = machines->pdata[i];
        g_autoptr(RsMonitorMachine) proxy = machine_proxy(machine->id);
        if (proxy && has_device(proxy, port)) {
            return g_strdup(machine->settings ? machine->settings->name : machine->id);
        }
    }
    return NULL;
}

static bool attach(RsMonitorMachine *proxy, const RsUsbDevice *device, GError **error)
{
    g_autoptr(GUnixFDList) fds = NULL;
    int fd = rs_usb_open(device, error);

    if (fd < 0) {
        return false;
    }
    fds = g_unix_fd_list_new_from_array(&fd, 1);
    if (rs_monitor_machine_call_attach_usb_sync(
            proxy, g_variant_new_handle(0), device->port, device->name, device->vendor,
            device->product, device->serial ? device->serial : "", fds, NULL, NULL, error)) {
        return true;
    }
    ringctl_adopt_error(error);
    return false;
}

bool ringctl_usb_by_rule(RsMonitorMachine *proxy, const struct settings *settings,
                         const RsUsbDevice *device, const char *who)
{
    struct usb_identity identity = rs_usb_identity(device);
    g_autofree char *why_not = NULL;
    g_autoptr(GError) error = NULL;

    if (!settings_usb_connects(settings, &identity) ||
        (device->holder && strstr(device->holder, "usbfs"))) {
        return true;
    }
    if ((why_not = rs_usb_why_not(device))) {
        fprintf(stderr, "%s: %s\n", who, why_not);
        return true;
    }
    if (!attach(proxy, device, &error)) {
        fprintf(stderr, "%s: %s\n", who, error->message);
        return false;
    }
    return true;
}

void ringctl_usb_by_rules(const char *id, const struct settings *settings)
{
    g_autoptr(RsMonitorMachine) proxy = settings->usb_connect ? machine_proxy(id) : NULL;
    g_autoptr(GPtrArray) list = proxy ? rs_usb_list() : NULL;

    for (unsigned i = 0; list && i < list->len; i++) {
        ringctl_usb_by_rule(proxy, settings, list->pdata[i], "ringctl start");
    }
}

/* --- the commands --- */

static void print_json(GPtrArray *list)
{
    GString *out = g_string_new("[");

    for (unsigned i = 0; i < list->len; i++) {
        const RsUsbDevice *device = list->pdata[i];
        g_autofree char *machine = machine_with(device->port);
        g_autofree char *vendor = g_strdup_printf("%04x", device->vendor);
        g_autofree char *product = g_strdup_printf("%04x", device->product);
        g_autofree char *why_not = rs_usb_why_not(device);
        GString *one = g_string_new("{");
        ringctl_json_member(one, "port", device->port);
        ringctl_json_member(one, "vendor", vendor);
        ringctl_json_member(one, "product", product);
        ringctl_json_member(one, "serial", device->serial);
        ringctl_json_member(one, "name", device->name);
        ringctl_json_member(one, "holder", device->holder);
        ringctl_json_member(one, "machine", machine);
        ringctl_json_member(one, "refused", why_not);
        g_string_append_printf(out, "%s\n  %s}", i ? "," : "", one->str);
        g_string_free(one, TRUE);
    }
    printf("%s%s]\n", out->str, list->len ? "\n" : "");
    g_string_free(out, TRUE);
}

static void print_table(GPtrArray *list)
{
    if (!list->len) {
        printf("There are no USB devices in this computer.\n");
        return;
    }
    printf("%-10s %-10s %-20s %s\n", "PORT", "ID", "HELD BY", "NAME");
    for (unsigned i = 0; i < list->len; i++) {
        const RsUsbDevice *device = list->pdata[i];
        g_autofree char *machine = machine_with(device->port);
        g_autofree char *held = machine ? g_strdup_printf("machine %s", machine)
                                        : g_strdup(device->holder ? device->holder : "-");
        printf("%-10s %04x:%04x  %-20s %s\n", device->port, device->vendor, device->product, held,
               device->name);
    }
}

struct usb_options {
    gboolean json, force, now;
    char *add, *ignore, *remove;
};

static bool usb_list(const struct usb_options *o, int argc, char **argv, GError **error)
{
    g_autoptr(GPtrArray) list = rs_usb_list();

    if (argc != 2) {
        return ringctl_fail(error, RINGCTL_FAILED, "Usage: ringctl usb list [--json]");
    }
    if (o->json) {
        print_json(list);
    } else {
        print_table(list);
    }
    return true;
}

static RsMonitorMachine *running(const char *name, GError **error)
{
    g_autoptr(GDBusConnection) connection = ringctl_need_running(name, error);

    return connection ? ringctl_machine_proxy(connection, error) : NULL;
}

static bool usb_attach_command(const struct usb_options *o, int argc, char **argv, GError **error)
{
    g_autoptr(GPtrArray) list = rs_usb_list();
    g_autoptr(RsMonitorMachine) proxy = NULL;
    g_autofree char *machine = NULL, *why_not = NULL;
    RsUsbDevice *device;

    if (argc != 4) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "Usage: ringctl usb attach [--force] NAME DEVICE");
    }
    if (!(proxy = running(argv[2], error)) || !(device = find_device(list, argv[3], error))) {
        return false;
    }
    if ((machine = machine_with(device->port))) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE, "The machine %s has %s already.", machine,
                            device->name);
    }
    why_not = rs_usb_why_not(device);
    if (why_not && !o->force) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "%s With --force the machine gets it all the same.", why_not);
    }
    return attach(proxy, device, error);
}

static bool usb_detach_command(const struct usb_options *o, int argc, char **argv, GError **error)
{
    g_autoptr(RsMonitorMachine) proxy = NULL;
    const char *port;

    if (argc != 4) {
        return ringctl_fail(error, RINGCTL_FAILED, "Usage: ringctl usb detach NAME DEVICE");
    }
    if (!(proxy = running(argv[2], error))) {
        return false;
    }
    port = argv[3];
    if (!usb_port_valid(port)) {
        g_autoptr(GPtrArray) list = rs_usb_list();
        const RsUsbDevice *device = find_device(list, argv[3], error);
        if (!device) {
            return false;
        }
        port = g_intern_string(device->port);
    }
    if (rs_monitor_machine_call_detach_usb_sync(proxy, port, NULL, error)) {
        return true;
    }
    ringctl_adopt_error(error);
    return false;
}

static void print_rules(const char *title, char **rules)
{
    for (unsigned i = 0; rules[i]; i++) {
        printf("%s %s\n", title, rules[i]);
    }
    g_strfreev(rules);
}

static bool change_rules(struct settings *s, const struct usb_options *o, GError **error)
{
    const char *rules[] = {o->add, o->ignore};

    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i] && !usb_rule_valid(rules[i])) {
            return ringctl_fail(
                error, RINGCTL_FAILED,
                "\"%s\" is no rule; give vendor:product (046d:c52b), vendor:product:SERIAL or "
                "port:1-4.2.",
                rules[i]);
        }
    }
    if (o->remove && !settings_usb_forget(s, o->remove)) {
        return ringctl_fail(error, RINGCTL_FAILED, "There is no rule %s.", o->remove);
    }
    return ((!o->add || settings_usb_connect(s, o->add)) &&
            (!o->ignore || settings_usb_ignore(s, o->ignore))) ||
           ringctl_fail(error, RINGCTL_FAILED, "A machine has %u rules at most.", USB_RULES);
}

static bool usb_rule_command(const struct usb_options *o, int argc, char **argv, GError **error)
{
    struct ringctl_machine *machine = NULL;
    g_autoptr(RsSettings) s = NULL;
    bool ok =
        argc == 3 || ringctl_fail(error, RINGCTL_FAILED,
                                  "Usage: ringctl usb rule NAME [--add|--ignore|--remove RULE]");

    ok = ok && (machine = ringctl_machine_find(argv[2], error)) &&
         (s = settings_load(machine->folder, error));
    if (ok && (o->add || o->ignore || o->remove)) {
        ok = change_rules(s, o, error) && settings_save(s, machine->folder, error);
        if (ok && o->add && ringctl_machine_locked(machine) && !ringctl_usb_watched(machine)) {
            ringctl_usb_watch_begin(machine);
        }
    } else if (ok) {
        print_rules("connect", settings_usb_connect_list(s));
        print_rules("ignore ", settings_usb_ignore_list(s));
    }
    if (machine) {
        ringctl_machine_free(machine);
    }
    return ok;
}

static bool usb_watch_command(const struct usb_options *o, int argc, char **argv, GError **error)
{
    g_autoptr(GDBusConnection) connection = NULL;
    g_autoptr(RsMonitorMachine) proxy = NULL;
    struct ringctl_machine *machine;
    bool ok;

    if (argc != 3) {
        return ringctl_fail(error, RINGCTL_FAILED, "Usage: ringctl usb watch [--now] NAME");
    }
    if (!(connection = ringctl_need_running(argv[2], error)) ||
        !(proxy = ringctl_machine_proxy(connection, error)) ||
        !(machine = ringctl_machine_find(argv[2], error))) {
        return false;
    }
    ok = ringctl_usb_watch(machine, proxy, o->now, error);
    ringctl_machine_free(machine);
    return ok;
}

static bool usb_run(const struct usb_options *o, int argc, char **argv, GError **error)
{
    static const struct {
        const char *name;
        bool (*run)(const struct usb_options *o, int argc, char **argv, GError **error);
    } commands[] = {{"list", usb_list},
                    {"attach", usb_attach_command},
                    {"detach", usb_detach_command},
                    {"rule", usb_rule_command},
                    {"watch", usb_watch_command}};

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(o, argc, argv, error);
        }
    }
    return ringctl_fail(error, RINGCTL_FAILED, "\"%s\" is not list, attach, detach, rule or watch.",
                        argv[1]);
}

bool ringctl_usb(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    struct usb_options o = {0};
    const GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &o.json, "list: for programs", NULL},
        {"force", 0, 0, G_OPTION_ARG_NONE, &o.force,
         "attach: also this computer's own keyboard, mouse, hub or disk", NULL},
        {"add", 0, 0, G_OPTION_ARG_STRING, &o.add, "rule: always connect such devices", "RULE"},
        {"ignore", 0, 0, G_OPTION_ARG_STRING, &o.ignore, "rule: never ask about such devices",
         "RULE"},
        {"remove", 0, 0, G_OPTION_ARG_STRING, &o.remove, "rule: forget it", "RULE"},
        {"now", 0, 0, G_OPTION_ARG_NONE, &o.now, "watch: also what is plugged in already", NULL},
        {0}};
    bool ok = ringctl_parse(command, entries, &argc, &argv, 1, 3, error) &&
              usb_run(&o, argc, argv, error);

    g_free(o.add);
    g_free(o.ignore);
    g_free(o.remove);
    return ok;
}
