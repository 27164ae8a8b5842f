/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringctl: Ringside from the command line. One table of commands; each parses its own options.
 */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "ringctl.h"

G_DEFINE_QUARK(ringctl - error - quark, ringctl_error)

static const struct ringctl_command commands[] = {
    {"list", "", "show all machines", ringctl_list},
    {"info", "NAME", "show all about a machine", ringctl_info},
    {"create", "NAME", "make a machine", ringctl_create},
    {"delete", "NAME", "move a machine to the trash", ringctl_delete},
    {"disk", "NAME", "add a disk to a machine, or remove one", ringctl_disk},
    {"network", "NAME", "show or change a machine's network", ringctl_network},
    {"usb", "list|attach|detach|rule|watch [NAME [DEVICE]]",
     "this computer's USB devices in machines", ringctl_usb},
    {"start", "NAME", "start a machine, or go on with a suspended one", ringctl_start},
    {"stop", "NAME", "ask the guest to shut down; --force: pull the plug", ringctl_stop},
    {"pause", "NAME", "stop the machine's time", ringctl_pause},
    {"resume", "NAME", "let a paused machine go on", ringctl_resume},
    {"suspend", "NAME", "save a machine's state to disk and end it", ringctl_suspend},
    {"reset", "NAME", "press the reset button", ringctl_reset},
    {"screenshot", "NAME FILE.png", "save the screen as a picture", ringctl_screenshot},
    {"type", "NAME TEXT", "type text on a US keyboard", ringctl_type},
    {"key", "NAME CHORD...", "press keys, such as ctrl-alt-delete", ringctl_key},
    {"mouse", "NAME DX DY", "move the mouse, and --click", ringctl_mouse},
    {"insert", "NAME FILE", "put a disc image into the CD drive", ringctl_insert},
    {"eject", "NAME", "take the disc out", ringctl_eject},
    {"wait", "NAME", "wait until a machine is in a state", ringctl_wait},
    {"run", "", "run a throw-away machine in the foreground", ringctl_run},
    {"doctor", "", "what this computer can do, and what to install or change", ringctl_doctor},
};

bool ringctl_fail(GError **error, enum ringctl_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error) {
        g_clear_error(error);
        *error = g_error_new_valist(RINGCTL_ERROR, status, format, args);
    }
    va_end(args);
    return false;
}

bool ringctl_parse(const struct ringctl_command *command, const GOptionEntry *entries, int *argc,
                   char ***argv, int least, int most, GError **error)
{
    g_autofree char *usage = g_strdup_printf("%s - %s", command->arguments, command->summary);
    g_autofree char *program = g_strdup_printf("ringctl %s", command->name);
    g_autoptr(GOptionContext) context = g_option_context_new(usage);

    g_set_prgname(program);
    if (entries) {
        g_option_context_add_main_entries(context, entries, NULL);
    }
    if (!g_option_context_parse(context, argc, argv, error)) {
        return false;
    }
    if (*argc > 1 && strcmp((*argv)[1], "--") == 0) {
        memmove(*argv + 1, *argv + 2, (size_t)(*argc - 1) * sizeof **argv);
        --*argc;
    }
    if (*argc - 1 < least || *argc - 1 > most) {
        return ringctl_fail(error, RINGCTL_FAILED, "Usage: ringctl %s [OPTION...] %s",
                            command->name, command->arguments);
    }
    return true;
}

static void print_help(void)
{
    printf("Usage: ringctl COMMAND [OPTION...] [ARGUMENT...]\n\nCommands:\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %-11s %-14s %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
    }
    printf("\nEach command has --help. list and info have --json.\n"
           "Exit status: 0 done, 1 failed, 2 no such machine, 3 not in this state, 4 time-out.\n"
           "Of doctor: 0 machines run at full speed, 5 they run slowly, 1 they cannot run.\n"
           "Of run: 0 the guest powered off, (v << 1) | 1 it wrote v to the debug exit port,\n"
           "  101 triple fault, 102 time-out, 103 the start failed, 130 interrupted.\n");
}

static int report(GError *error)
{
    int status = error->domain == RINGCTL_ERROR ? error->code : RINGCTL_FAILED;

    fprintf(stderr, "ringctl: %s\n", error->message);
    g_error_free(error);
    return status;
}

static int dispatch(int argc, char **argv)
{
    GError *error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(argv[0], commands[i].name) == 0) {
            return commands[i].run(&commands[i], argc, argv, &error) ? RINGCTL_OK : report(error);
        }
    }
    fprintf(stderr, "ringctl: there is no command \"%s\"; see ringctl --help\n", argv[0]);
    return RINGCTL_FAILED;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    g_set_prgname("ringctl");
    if (argc < 2) {
        print_help();
        return RINGCTL_FAILED;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help();
        return RINGCTL_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("ringctl %s\n", RINGSIDE_VERSION);
        return RINGCTL_OK;
    }
    return dispatch(argc - 1, argv + 1);
}
