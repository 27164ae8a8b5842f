# SPDX-License-Identifier: GPL-2.0-or-later
"""Disc images for tests, by ECMA-119: just the volume descriptors that tell what is on them."""
SECTOR = 2048


def disc(path, label="TEST", system="", sectors=400, cut=0):
    """A bootable disc image. `cut`: leave out as many sectors at the end."""
    primary = bytearray(SECTOR)
    primary[0:7] = b"\x01CD001\x01"
    primary[8:40] = system.encode().ljust(32)
    primary[40:72] = label.encode().ljust(32)
    primary[80:88] = sectors.to_bytes(4, "little") + sectors.to_bytes(4, "big")
    primary[128:132] = SECTOR.to_bytes(2, "little") + SECTOR.to_bytes(2, "big")
    primary[156] = 34
    boot = bytearray(SECTOR)
    boot[0:30] = b"\x00CD001\x01EL TORITO SPECIFICATION"
    end = bytearray(SECTOR)
    end[0:7] = b"\xffCD001\x01"
    with open(path, "wb") as file:
        file.write(bytes(16 * SECTOR) + primary + boot + end)
        file.truncate((sectors - cut) * SECTOR)
