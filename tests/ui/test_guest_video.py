#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux with a virtio GPU in the window: its screen follows the window and the monitor, pixel for pixel; its text console;
its cursor, as the pointer where it has a tablet and drawn where it has none."""
import os
import subprocess
import sys

import x_cursor
from desktop import Desktop, key, run_cases, screenshot, sh, until
from guest_window import guest_image

PROGRAM = sys.argv[1]
BUILD = os.path.dirname(os.path.dirname(os.path.abspath(PROGRAM)))
RINGCTL = BUILD + "/app/ringctl"
TILES = (b"\x20\x40\xc0", b"\xc0\x40\x20")  # of tests/guest/programs/drm_show.c
PATIENCE = 3 * 20


class Guest(Desktop):
    """With one machine, whose console is opened, which starts it."""

    def __init__(self, do, initrd="video_initramfs()"):
        super().__init__(size="1300x1000")
        os.environ["RINGSIDE_BUILD"] = BUILD
        self.kernel, self.initrd, self.do = guest_image("vmlinux()"), guest_image(initrd), do

    def open(self):
        self.serial = self.home + "/serial"
        subprocess.run([RINGCTL, "create", "Test", "--kernel", self.kernel, "--initrd", self.initrd, "--memory", "256M", "--video",
                        "virtio", "--serial", self.serial, "--append", "console=ttyS0 quiet do=" + self.do], env=self.env,
                       check=True, capture_output=True)
        self.app = self.start(PROGRAM)
        self.app.click(self.app.find("Test", "label"), repeat=2)
        self.screen = self.app.find("Guest screen")
        return self.app

    def said(self):
        with open(self.serial, errors="replace") as file:
            return file.read().split("\n")

    def expect(self, words):
        until(words + " on the serial port", lambda: any(words in line for line in self.said()), PATIENCE)

    def place(self):
        """Where the guest's screen is in the window when it has the size that the window asked for."""
        x, y, w, h = self.app.box(self.screen)
        width = w // 8 * 8
        return x + (w - width) // 2, y, width, h

    def pixels(self, *at):
        """Of the window, at these places of the guest's screen."""
        left, top, _, _ = self.place()
        screenshot(self.home + "/shot.png")
        raw = subprocess.run(["convert", self.home + "/shot.png", "-depth", "8", "rgb:-"], capture_output=True, check=True).stdout
        width = int(self.size.split("x")[0])
        return [raw[((top + y) * width + left + x) * 3:][:3] for x, y in at]

    def keep(self, name):
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + f"/{name}.png")


def shown_in_place(desktop):
    """The guest's last mode is the window's place, and its tiles are there one to one."""
    _, _, width, height = desktop.place()
    last = [line.split()[1] for line in desktop.said() if line.startswith("SHOWN")][-1:]
    corners = [(x, y) for x in (0, width // 2, width - 1) for y in (height // 3, height - 1)]
    return last == [f"{width}x{height}"] and desktop.pixels(*corners) == [TILES[(x // 16 + y // 16) % 2] for x, y in corners]


def screen_follows():
    with Guest("show") as desktop:
        desktop.open()
        until("the window's size", lambda: shown_in_place(desktop), PATIENCE)
        desktop.keep("video-follows")
        before = desktop.place()
        sh("xdotool", "windowsize", sh("xdotool", "getactivewindow"), "1200", "900")
        until("a larger place", lambda: desktop.place()[2] > before[2])
        until("the window's new size", lambda: shown_in_place(desktop), PATIENCE)
        desktop.keep("video-follows-larger")
        key("ctrl+alt")
        desktop.app.press("Full Screen")
        desktop.expect("SHOWN " + desktop.size)
        count = len(desktop.said())
        until("the viewer to have the keyboard", lambda: sh("xdotool", "getwindowfocus", "getwindowpid") not in
              ("", str(desktop.app.process.pid)))
        key("ctrl+alt")
        key("F11")
        until("the window again", lambda: len(desktop.said()) > count and shown_in_place(desktop), PATIENCE)


def text_console():
    """Linux's own console follows, but is never larger than it was at first."""
    with Guest("look") as desktop:
        desktop.open()
        desktop.expect("LOOKED")
        picture = desktop.home + "/guest.png"

        def size():
            subprocess.run([RINGCTL, "screenshot", "Test", picture], env=desktop.env, check=True, capture_output=True)
            return sh("identify", "-format", "%wx%h", picture)

        def follows():
            return size() == "%dx%d" % desktop.place()[2:]
        until("the window's size", follows, PATIENCE)
        first, console = desktop.place(), sh("xdotool", "getactivewindow")
        geometry = dict(line.split("=") for line in sh("xdotool", "getwindowgeometry", "--shell", console).splitlines())
        sh("xdotool", "windowsize", console, "800", "640")
        until("a smaller place", lambda: desktop.place()[2] < first[2])
        until("the smaller window's size", follows, PATIENCE)
        sh("xdotool", "windowsize", console, geometry["WIDTH"], geometry["HEIGHT"])
        until("the first size", lambda: desktop.place() == first and follows(), PATIENCE)
        desktop.keep("video-text")


def is_the_guests(desktop):
    """64 x 64, the upper half opaque orange, the lower one half transparent white."""
    width, height, hot, pixels = x_cursor.shown(desktop.env["DISPLAY"])
    return (width, height, hot) == (64, 64, (7, 11)) and pixels[0] == 0xffff8000 and pixels[-1] == 0x80808080


def cursor_with_a_tablet():
    """The pointer looks like it."""
    with Guest("tablet", "video_tablet_initramfs()") as desktop:
        desktop.open()
        desktop.expect("CURSOR")
        until("the window's size", lambda: shown_in_place(desktop), PATIENCE)
        left, top, width, height = desktop.place()
        sh("xdotool", "mousemove", str(left + width // 2), str(top + height // 2))
        until("the guest's cursor", lambda: is_the_guests(desktop))
        desktop.keep("video-cursor-tablet")


def cursor_without():
    """The window draws it where the guest has it, at (100, 60)."""
    with Guest("cursor") as desktop:
        desktop.open()
        desktop.expect("CURSOR")
        until("the window's size", lambda: shown_in_place(desktop), PATIENCE)
        mixed = bytes(0x80 + c * 127 // 255 for c in TILES[1])

        def drawn():
            beside, upper, corner, lower, after = desktop.pixels((99, 60), (100, 60), (163, 91), (150, 100), (164, 91))
            return (beside in TILES and after in TILES and upper == corner == b"\xff\x80\x00"
                    and all(abs(a - b) < 3 for a, b in zip(lower, mixed)))
        until("the guest's cursor", drawn)
        desktop.keep("video-cursor-drawn")


cases = [screen_follows, text_console, cursor_with_a_tablet, cursor_without]
run_cases(*[case for case in cases if case.__name__ in sys.argv[3:] or not sys.argv[3:]])
