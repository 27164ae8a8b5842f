/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Game controllers for tests of programs that use SDL, which has virtual ones only within its own
 * process: loaded by LD_PRELOAD, this one does what is written to the FIFO $VIRTUAL_PAD, line by
 * line, whenever the program asks SDL for events.
 *
 *   plug            another one, with SDL's own order of buttons and axes
 *   unplug N        the Nth of those there are, from 0
 *   button N B 1    held, or 0
 *   axis N A VALUE
 */
#include <SDL.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void obey(const char *line)
{
    unsigned n = 0, which = 0;
    int value = 0;

    if (strcmp(line, "plug") == 0) {
        SDL_JoystickAttachVirtual(SDL_JOYSTICK_TYPE_GAMECONTROLLER, SDL_CONTROLLER_AXIS_MAX,
                                  SDL_CONTROLLER_BUTTON_MAX, 0);
    } else if (sscanf(line, "unplug %u", &n) == 1) {
        SDL_JoystickDetachVirtual((int)n);
    } else if (sscanf(line, "button %u %u %d", &n, &which, &value) == 3) {
        SDL_JoystickSetVirtualButton(
            SDL_JoystickFromInstanceID(SDL_JoystickGetDeviceInstanceID((int)n)), (int)which,
            (Uint8)value);
    } else if (sscanf(line, "axis %u %u %d", &n, &which, &value) == 3) {
        SDL_JoystickSetVirtualAxis(
            SDL_JoystickFromInstanceID(SDL_JoystickGetDeviceInstanceID((int)n)), (int)which,
            (Sint16)value);
    }
}

/* One line for each time, so that SDL sees every state. */
static void obey_next(void)
{
    static char line[64];
    static unsigned used;
    static int fd = -1;
    char c;

    if (fd < 0 && getenv("VIRTUAL_PAD")) {
        fd = open(getenv("VIRTUAL_PAD"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    }
    while (fd >= 0 && SDL_WasInit(SDL_INIT_GAMECONTROLLER) && read(fd, &c, 1) == 1) {
        if (c == '\n') {
            line[used] = 0;
            used = 0;
            obey(line);
            return;
        }
        line[used] = c;
        used += used < sizeof line - 1;
    }
}

void SDL_PumpEvents(void)
{
    static void (*next)(void);

    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "SDL_PumpEvents");
    }
    obey_next();
    next();
}
