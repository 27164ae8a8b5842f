/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringctl network: shows and changes a machine's network. Cable and port forwards also change while
 * it runs; its monitor then keeps them in the settings.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <stdio.h>
#include <string.h>

#include "net/spec.h"
#include "ringctl.h"

struct change {
    char *mode, *card, *cable, *capture;
    gboolean no_capture;
    char **add, **remove;
};

static bool change_parse(struct change *c, const struct ringctl_command *command, int *argc,
                         char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"mode", 0, 0, G_OPTION_ARG_STRING, &c->mode,
         "user, isolated, none, tap:NAME, bridge:NAME; while it is off", "MODE"},
        {"card", 0, 0, G_OPTION_ARG_STRING, &c->card, "e1000e or virtio; while it is off", "NAME"},
        {"cable", 0, 0, G_OPTION_ARG_STRING, &c->cable, "Plug the cable in or pull it out",
         "on|off"},
        {"forward", 0, 0, G_OPTION_ARG_STRING_ARRAY, &c->add,
         "A port of the host for one of the guest; repeatable", "tcp:2222:22"},
        {"no-forward", 0, 0, G_OPTION_ARG_STRING_ARRAY, &c->remove, "Take it away again",
         "tcp:2222:22"},
        {"capture", 0, 0, G_OPTION_ARG_FILENAME, &c->capture,
         "All packets into a pcap file, while it runs", "FILE"},
        {"no-capture", 0, 0, G_OPTION_ARG_NONE, &c->no_capture, "End that", NULL},
        {0}};

    if (!ringctl_parse(command, entries, argc, argv, 1, 1, error)) {
        return false;
    }
    return !c->cable || !strcmp(c->cable, "on") || !strcmp(c->cable, "off") ||
           ringctl_fail(error, RINGCTL_FAILED, "--cable is on or off.");
}

static void change_clear(struct change *c)
{
    g_free(c->mode);
    g_free(c->card);
    g_free(c->cable);
    g_free(c->capture);
    g_strfreev(c->add);
    g_strfreev(c->remove);
}

bool ringctl_network_settings(struct settings *s, const char *mode, const char *card,
                              char **forwards, GError **error)
{
    if (mode && strcmp(mode, "none") != 0 && !net_mode_valid(mode)) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "\"%s\" is no network; give user, isolated, none, tap:NAME or "
                            "bridge:NAME.",
                            mode);
    }
    if (card && strcmp(card, "e1000e") != 0 && strcmp(card, "virtio") != 0) {
        return ringctl_fail(error, RINGCTL_FAILED,
                            "\"%s\" is no network card; give e1000e or virtio.", card);
    }
    for (unsigned i = 0; forwards && forwards[i]; i++) {
        struct net_forward forward;
        if (!net_forward_parse(forwards[i], &forward, error)) {
            return false;
        }
        net_forward_clear(&forward);
    }
    if (mode) {
        g_free(s->network);
        s->network = g_strdup(mode);
    }
    if (card) {
        g_free(s->card);
        s->card = g_strdup(card);
    }
    if (forwards) {
        settings_set_forwards(s, (const char *const *)forwards);
    }
    return true;
}

/* What is there with what is added and without what is removed; NULL and an error. */
static char **forwards_changed(const struct settings *s, const struct change *c, GError **error)
{
    g_auto(GStrv) old = settings_forwards(s);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; c->remove && c->remove[i]; i++) {
        if (!g_strv_contains((const char *const *)old, c->remove[i])) {
            ringctl_fail(error, RINGCTL_FAILED, "There is no port forward %s.", c->remove[i]);
            return NULL;
        }
    }
    for (unsigned i = 0; old[i]; i++) {
        if (!c->remove || !g_strv_contains((const char *const *)c->remove, old[i])) {
            g_ptr_array_add(list, g_strdup(old[i]));
        }
    }
    for (unsigned i = 0; c->add && c->add[i]; i++) {
        if (!g_ptr_array_find_with_equal_func(list, c->add[i], g_str_equal, NULL)) {
            g_ptr_array_add(list, g_strdup(c->add[i]));
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

static bool change_settings(const struct ringctl_machine *machine, const struct change *c,
                            GError **error)
{
    g_autoptr(RsSettings) s = settings_load(machine->folder, error);
    g_auto(GStrv) forwards = s ? forwards_changed(s, c, error) : NULL;

    if (!forwards || !ringctl_network_settings(s, c->mode, c->card, forwards, error)) {
        return false;
    }
    s->cable = c->cable ? !strcmp(c->cable, "on") : s->cable;
    return settings_save(s, machine->folder, error);
}

static bool capture_start(RsMonitorMachine *proxy, const char *path, GError **error)
{
    int fd =
        open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600); /* the monitor empties it */
    g_autoptr(GUnixFDList) fds = NULL;

    if (fd < 0) {
        return ringctl_fail(error, RINGCTL_FAILED, "The capture file %s cannot be written: %s.",
                            path, g_strerror(errno));
    }
    fds = g_unix_fd_list_new_from_array(&fd, 1);
    return rs_monitor_machine_call_start_capture_sync(proxy, g_variant_new_handle(0), fds, NULL,
                                                      NULL, error);
}

static bool change_running(RsMonitorMachine *proxy, const struct change *c, GError **error)
{
    bool ok = !c->cable ||
              rs_monitor_machine_call_set_cable_sync(proxy, !strcmp(c->cable, "on"), NULL, error);

    for (unsigned i = 0; ok && c->remove && c->remove[i]; i++) {
        ok = rs_monitor_machine_call_remove_forward_sync(proxy, c->remove[i], NULL, error);
    }
    for (unsigned i = 0; ok && c->add && c->add[i]; i++) {
        ok = rs_monitor_machine_call_add_forward_sync(proxy, c->add[i], NULL, error);
    }
    if (ok && c->no_capture) {
        ok = rs_monitor_machine_call_stop_capture_sync(proxy, NULL, error);
    }
    return ok && (!c->capture || capture_start(proxy, c->capture, error));
}

static bool change_machine(const struct ringctl_machine *machine, const struct change *c,
                           GError **error)
{
    g_autoptr(GDBusConnection) connection = ringctl_connect(machine->id);
    g_autoptr(RsMonitorMachine) proxy =
        connection ? ringctl_machine_proxy(connection, error) : NULL;

    if ((c->mode || c->card) &&
        (ringctl_machine_locked(machine) || ringctl_machine_suspended(machine))) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE,
                            "A machine gets another network or card only while it is off.");
    }
    if (!connection && (c->capture || c->no_capture)) {
        return ringctl_fail(error, RINGCTL_WRONG_STATE,
                            "Packets are captured only while the machine runs.");
    }
    if (!connection) {
        return change_settings(machine, c, error);
    }
    if (proxy && change_running(proxy, c, error)) {
        return true;
    }
    ringctl_adopt_error(error);
    return false;
}

static bool show(const struct ringctl_machine *machine, GError **error)
{
    g_autoptr(RsSettings) s = settings_load(machine->folder, error);
    g_autofree char *mac = s ? settings_mac(s) : NULL;
    g_auto(GStrv) forwards = s ? settings_forwards(s) : NULL;

    if (!s) {
        return false;
    }
    printf("network  %s\n", s->network);
    if (strcmp(s->network, "none") != 0) {
        printf("card     %s\nmac      %s\ncable    %s\n", s->card, mac, s->cable ? "on" : "off");
    }
    for (unsigned i = 0; forwards[i]; i++) {
        printf("forward  %s\n", forwards[i]);
    }
    return true;
}

bool ringctl_network(const struct ringctl_command *command, int argc, char **argv, GError **error)
{
    struct change c = {0};
    struct ringctl_machine *machine = NULL;
    bool ok = change_parse(&c, command, &argc, &argv, error) &&
              (machine = ringctl_machine_find(argv[1], error));

    if (ok) {
        ok = c.mode || c.card || c.cable || c.add || c.remove || c.capture || c.no_capture
                 ? change_machine(machine, &c, error)
                 : show(machine, error);
    }
    if (machine) {
        ringctl_machine_free(machine);
    }
    change_clear(&c);
    return ok;
}
