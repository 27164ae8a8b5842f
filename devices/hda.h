/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ICH9's High Definition Audio controller with one codec: a line output and a line input
 * (Intel, High Definition Audio Specification, revision 1.0a; sections cited are of it).
 *
 * 16 to 96 kHz, 16 and 32 bits, one or two channels. Unsolicited responses are never sent: nothing
 * is ever plugged in or out.
 */
#pragma once

#include "pci.h"
#include "sound/audio.h"

struct hda_config {
    struct pci_config pci;
    struct audio *audio; /* NULL: plays to nobody */
    bool no_recording;   /* the guest hears silence */
};

extern const struct device_class hda_device;
