/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole machine: memory, devices from one table, an engine, and its life cycle.
 *
 * Main thread only, machine lock not held, unless a function says otherwise. What the guest asks
 * for (reset, power-off) is carried out from the main loop.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "input.h"
#include "screen.h"
#include "usb/usb.h"

#define MACHINE_MAX_CPUS  32u
#define MACHINE_MAX_DISKS 5u
#define MACHINE_SERIAL_PORTS 2u /* COM1, COM2 */

struct machine;

struct machine_disk {
    const char *path;
    bool readonly, snapshot; /* snapshot: writes are forgotten at the end */
    bool raw;                /* do not look for a format in it */
    bool usb;                /* not on the SATA controller */
};

/* mode: net/net.h, NULL: no card. */
struct machine_network {
    const char *mode, *card, *mac; /* card: "e1000e" (NULL) or "virtio"; mac NULL: a random one */
    const char *forwards;          /* comma-separated, or NULL */
    const char *capture;           /* a pcap file, or NULL */
    bool unplugged;
};

struct machine_config {
    const char *name, *uuid; /* NULL: "ringside", none */
    uint64_t memory_bytes;   /* whole MiB, at least 1 MiB */
    unsigned cpus;           /* 1-32 */
    const char *engine;      /* NULL: the first that runs here */
    const char *engine_options;
    const char *kernel, *initrd, *append; /* direct boot when kernel is set */
    const char *firmware;                 /* path; NULL: SeaBIOS from the host */
    struct machine_disk disks[MACHINE_MAX_DISKS];
    unsigned disk_count;
    const char *cdrom;
    struct machine_network network;
    const char *video; /* "vga" (NULL) or "virtio" */
    const char *sound; /* "on", "output" (no recording), NULL: no sound card */
    const char *boot_order; /* letters c, d, n; NULL: "cd" */
    const char *serial[MACHINE_SERIAL_PORTS]; /* chardev.h; NULL: none */
    const char *debugcon;   /* file for the firmware's log; NULL: none */
    bool debug_exit;        /* port F4h */
    bool usb_keyboard, usb_hub; /* a keyboard beside the PS/2 one; input devices behind a hub */
    bool no_reboot;         /* a guest's reset ends the run */
};

enum machine_state {
    MACHINE_OFF,
    MACHINE_RUNNING,
    MACHINE_PAUSED,
    MACHINE_SUSPENDING,
    MACHINE_CRASHED, /* triple fault */
    MACHINE_IO_ERROR /* a disk could not be written; resume tries again */
};

enum machine_exit {
    MACHINE_EXIT_POWER_OFF,
    MACHINE_EXIT_DEBUG, /* with a code */
    MACHINE_EXIT_TRIPLE_FAULT,
    MACHINE_EXIT_RESET /* with no_reboot */
};

struct machine_listener {
    void (*state_changed)(void *opaque, enum machine_state state);
    void (*guest_exit)(void *opaque, enum machine_exit why, unsigned code);
    void *opaque;
};

/* Strings in `config` are copied. NULL and an error with the remedy. */
struct machine *machine_new(const struct machine_config *config, GError **error);
void machine_free(struct machine *machine);
void machine_set_listener(struct machine *machine, const struct machine_listener *listener);
enum machine_state machine_state(const struct machine *machine);

bool machine_start(struct machine *machine, GError **error); /* from off */
void machine_pause(struct machine *machine);
void machine_resume(struct machine *machine); /* from paused or I/O error */
void machine_reset(struct machine *machine);
void machine_power_button(struct machine *machine);
void machine_power_off(struct machine *machine);

/* Saves a paused machine (pauses it if need be); written aside, synced, renamed. */
bool machine_save(struct machine *machine, const char *path, GError **error);
/* Into a new machine made from the same configuration; leaves it paused. */
bool machine_restore(struct machine *machine, const char *path, GError **error);

struct input *machine_input(struct machine *machine);
struct screen *machine_screen(struct machine *machine);
const char *machine_engine_name(const struct machine *machine);
/* Why not a faster engine: one sentence, empty when there is none to tell. */
const char *machine_engine_reason(const struct machine *machine);
/* In MACHINE_IO_ERROR: which disk, what is wrong and what to do; else NULL. */
const char *machine_problem(const struct machine *machine);
/* What the user should know though the machine runs, or NULL. */
const char *machine_warning(const struct machine *machine);
/* The pseudo-terminal behind a serial port, or NULL. */
const char *machine_serial_path(const struct machine *machine, unsigned port);
/* The cable (net/net.h), for use with the machine lock held; NULL: there is no card. */
struct net *machine_network(const struct machine *machine);
struct audio *machine_audio(const struct machine *machine); /* likewise; NULL: no sound card */
/* NULL `path` takes the disc out. `force`: even if the guest has locked the drive. */
bool machine_change_cdrom(struct machine *machine, const char *path, bool force, GError **error);
/* Game pads 0 to INPUT_PADS - 1, in USB ports. A pad is plugged in once before the others are called. */
bool machine_plug_pad(struct machine *machine, unsigned pad, GError **error);
void machine_unplug_pad(struct machine *machine, unsigned pad);
void machine_set_pad(struct machine *machine, unsigned pad, const struct input_pad *state);
/* Machine lock held: a root port with nothing in it, for usb_attach(). NULL: all are taken. */
struct usb_port *machine_usb_free_port(struct machine *machine, enum usb_speed speed);
