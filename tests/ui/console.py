# SPDX-License-Identifier: GPL-2.0-or-later
"""A desktop with a stand-in for the monitor, for tests of what shows a machine's screen."""
import os
import subprocess
import sys
import time

from desktop import Desktop, screenshot, until

PROGRAM, FAKE = sys.argv[1:3]
sys.path.insert(0, os.path.dirname(FAKE))
import fake_monitor  # noqa: E402


class Console(Desktop):
    """A desktop with one machine, whose console is open."""

    def __init__(self, size="1200x900", **fake):
        super().__init__(size=size)
        self.env.update(RINGSIDE_MONITOR=FAKE, **fake)
        self.folder = self.machines + "/test"
        os.makedirs(self.folder)
        with open(self.folder + "/machine.ini", "w") as file:
            file.write("[machine]\nname=Test\n\n[cdrom]\npath=/tmp/some.iso\n")

    def open(self):
        self.app = self.start(PROGRAM)
        for last in (False, False, True):  # on a busy machine the list may still move when it is clicked
            self.app.click(self.app.find("Test", "label"), repeat=2)
            try:
                self.screen = self.app.find("Guest screen", timeout=20 if last else 10)
                break
            except AssertionError:
                if last:
                    raise
        time.sleep(1)
        return self.app

    def events(self):
        try:
            with open(self.folder + "/events") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def expect_event(self, event):
        until("event " + event, lambda: event in self.events())

    def sizes(self):
        """That the guest was asked for."""
        return [tuple(map(int, e.split()[1:])) for e in self.events() if e.startswith("SetSize")]

    def place_for_guest(self):
        """The size that the guest is to be asked for."""
        _, _, w, h = self.app.box(self.screen)
        return max(w // 8 * 8, 640), max(h, 480)

    def expect_place(self):
        until("the guest's screen to be as large as its place", lambda: self.sizes()[-1:] == [self.place_for_guest()])

    def clear(self):
        if os.path.exists(self.folder + "/events"):
            os.unlink(self.folder + "/events")

    def screen_pixels(self):
        """The widget's pixels: a dictionary's worth of (x, y) → RGB by ImageMagick."""
        x, y, w, h = self.app.box(self.screen)
        path = self.home + "/shot.png"
        screenshot(path)
        raw = subprocess.run(["convert", path, "-crop", f"{w}x{h}+{x}+{y}", "+repage", "-depth", "8", "rgb:-"],
                             capture_output=True, check=True).stdout
        return w, h, raw
