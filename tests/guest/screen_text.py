# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads text off a picture of a screen.

The glyphs are those of the VGA BIOS that the guest itself uses: its 8x16 font lies in the ROM file
as 256 times 16 bytes and is found there by the letter A. A text screen of 720x400 has cells of 9x16,
one of 640x400 or a console on a framebuffer cells of 8x16.
"""
import re
import struct
import zlib

ROMS = ["/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin",
        "/usr/share/seabios/vgabios.bin"]
LETTER_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")


def load_font():
    for path in ROMS:
        try:
            rom = open(path, "rb").read()
        except OSError:
            continue
        at = rom.find(LETTER_A) - 65 * 16
        if at >= 0:
            return {rom[at + c * 16:at + c * 16 + 16]: chr(c) for c in range(126, 31, -1)}
    raise RuntimeError("no VGA BIOS with a font is installed (package seabios)")


class Picture:
    """A PNG as picture.c writes them: 8-bit RGB, filters 0 and 2."""

    font = None

    def __init__(self, path):
        data = open(path, "rb").read()
        chunks, at = {}, 8
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at:at + 8])
            chunks[kind] = chunks.get(kind, b"") + data[at + 8:at + 8 + size]
            at += size + 12
        self.width, self.height = struct.unpack(">II", chunks[b"IHDR"][:8])
        self.rows = self.unfilter(zlib.decompress(chunks[b"IDAT"]))

    def unfilter(self, raw):
        rows, step = [], self.width * 3 + 1
        above = bytes(self.width * 3)
        for y in range(self.height):
            kind, row = raw[y * step], raw[y * step + 1:(y + 1) * step]
            if kind == 2:
                # All additions of a row at once, even and odd bytes apart so that none carries.
                row = add_bytes(row, above)
            rows.append(row)
            above = row
        return rows

    def pixel(self, x, y):
        return self.rows[y][x * 3:x * 3 + 3]

    def colors(self):
        seen = set()
        for row in self.rows:
            seen.update(row[i:i + 3] for i in range(0, len(row), 3))
        return seen

    def differs(self, other):
        """How many pixels are different; all of them when the sizes are."""
        if (self.width, self.height) != (other.width, other.height):
            return self.width * self.height
        count = 0
        for a, b in zip(self.rows, other.rows):
            if a != b:
                count += sum(a[i:i + 3] != b[i:i + 3] for i in range(0, len(a), 3))
        return count

    def cell(self, x, y):
        lines = [self.rows[y + i][x * 3:(x + 8) * 3] for i in range(16)]
        flat = b"".join(lines)
        if flat == flat[:3] * 128:
            return " "
        background = max({flat[i:i + 3] for i in range(0, 384, 3)},
                         key=lambda c: sum(flat[i:i + 3] == c for i in range(0, 384, 3)))
        bits = bytes(sum((line[b * 3:b * 3 + 3] != background) << (7 - b) for b in range(8))
                     for line in lines)
        found = self.font.get(bits) or self.font.get(bytes(b ^ 255 for b in bits))
        if not found:
            found = nearest(self.font, bits)
            self.font[bits] = found
        return found

    def text(self):
        if Picture.font is None:
            Picture.font = load_font()
        step = 9 if self.width == 720 else 8
        lines = []
        for y in range(0, self.height - 15, 16):
            line = "".join(self.cell(x, y) for x in range(0, self.width - 7, step))
            lines.append(re.sub(r"\s+$", "", line))
        return "\n".join(lines)


def nearest(font, bits):
    """The likeliest character: Linux draws some letters otherwise than the BIOS, and there are cursors."""
    def distance(other, last=16):
        return bin(int.from_bytes(bits[:last], "big") ^ int.from_bytes(other[:last], "big")).count("1")
    close = min(font, key=distance)
    if distance(close) <= 12:
        return font[close]
    close = min(font, key=lambda other: distance(other, 13))
    return font[close] if distance(close, 13) == 0 else "\N{REPLACEMENT CHARACTER}"


def add_bytes(a, b):
    n = len(a)
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    even = int.from_bytes(b"\xff\0" * ((n + 1) // 2), "little")
    odd = even << 8
    total = (((x & even) + (y & even)) & even) | (((x & odd) + (y & odd)) & odd)
    return (total & ((1 << (8 * n)) - 1)).to_bytes(n, "little")


if __name__ == "__main__":
    import sys
    for name in sys.argv[1:]:
        print(Picture(name).text())
