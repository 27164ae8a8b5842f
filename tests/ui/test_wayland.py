#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Viewer and console under Wayland, in sway without a screen, with a stand-in for the monitor: pixels, keys, motion, the guest's
size, two monitors, full screen and back."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

import console
import fake_monitor
from console import Console
from desktop import run_cases, sh, skip, until
from wayland_pointer import Mouse

SIZE = (1280, 800)  # four times the pattern
NOBODY = 65534
CONFIG = """output HEADLESS-1 resolution %dx%d position 0 0
default_border none
workspace_layout tabbed
xwayland disable
""" % SIZE
SECOND = "output HEADLESS-2 resolution 640x400 position %d 0\n" % SIZE[0]


class Sway(Console):
    def __init__(self, outputs=1, **fake):
        for tool in ("sway", "grim", "wtype", "setpriv"):
            if not shutil.which(tool):
                skip(f"{tool} is not installed")
        super().__init__(**fake)
        self.outputs = outputs
        self.env.pop("DISPLAY", None)
        self.env.update(GDK_BACKEND="wayland", SDL_VIDEODRIVER="wayland")

    def _start(self):
        bus = self.run(["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE)
        self.env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().decode().strip()
        self.sway = tempfile.mkdtemp(prefix="ringside-sway-")
        with open(self.sway + "/config", "w") as file:
            file.write(CONFIG + (SECOND if self.outputs > 1 else ""))
        command = ["sway", "-c", self.sway + "/config"]
        if os.getuid() == 0:  # sway refuses root
            for path in (self.sway, self.sway + "/config"):
                os.chown(path, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        ours, self.env = self.env, dict(self.env, XDG_RUNTIME_DIR=self.sway, HOME=self.sway, WLR_BACKENDS="headless", WLR_HEADLESS_OUTPUTS=str(self.outputs),
                                        WLR_RENDERER="pixman", WLR_LIBINPUT_NO_DEVICES="1")
        self.compositor = self.run(command)
        self.env = ours
        socket = until("sway", self.find_socket)
        self.env["WAYLAND_DISPLAY"] = socket
        os.environ.update(self.env)
        os.environ.pop("DISPLAY", None)

    def find_socket(self):
        if self.compositor.poll() is not None:
            skip("sway does not start here")
        found = [name for name in os.listdir(self.sway) if name.startswith("wayland-") and not name.endswith(".lock")]
        return found and f"{self.sway}/{found[0]}"

    def __exit__(self, *error):
        if os.environ.get("RINGSIDE_TEST_SCREENSHOT") and error[0]:
            sh("grim", os.environ["RINGSIDE_TEST_SCREENSHOT"])
        super().__exit__(*error)
        if hasattr(self, "sway"):
            shutil.rmtree(self.sway, ignore_errors=True)

    def pixels(self, output="HEADLESS-1"):
        path = self.home + "/wayland.png"
        sh("grim", "-o", output, path)
        return subprocess.run(["convert", path, "-depth", "8", "rgb:-"], capture_output=True, check=True).stdout

    def type(self, *wtype):
        """A keyboard comes and goes with each; half a second for the programs to take notice of it."""
        sh("wtype", "-s", "500", *wtype)

    def type_until(self, what, check, *wtype):
        def typed():
            self.type(*wtype)
            return check()
        until(what, typed, 60)


CHORD = ("-P", "Control_L", "-P", "Alt_L", "-p", "Alt_L", "-p", "Control_L")
# wtype numbers its keys as they come, from 1. SDL goes by what is on them, GTK's console by the numbers, of which these are the
# right ones: 28 others, left Ctrl is 29, A is 30, and left Alt is 56.
BY_NUMBER = ("0123456789!#$%&()*+,./:;=?@[", "-k", "Control_L", "abcdefghijklmnopqrstuvwxyz", "-k", "Alt_L")


def is_pattern(desktop, step=7, output="HEADLESS-1", size=SIZE):
    raw, factor = desktop.pixels(output), size[0] // fake_monitor.WIDTH
    return all(raw[(y * size[0] + x) * 3:][:3] == (fake_monitor.pixel(x // factor, y // factor) & 0xffffff).to_bytes(3, "big")
               for y in range(0, size[1], step) for x in range(0, size[0], step))


def is_tiles(desktop, size, outline=0):
    """There are as many pixels of the guest's two colours as its screen has; windows have an outline over the first and last."""
    raw, wanted = desktop.pixels(), {(fake_monitor.tile(x, 0) & 0xffffff).to_bytes(3, "big") for x in (0, 16)}
    return sum(raw[i:i + 3] in wanted for i in range(0, len(raw), 3)) == (size[0] - 2 * outline) * size[1]


def viewer():
    with Sway(FAKE_ABSOLUTE="1") as desktop:
        program = os.path.join(os.path.dirname(console.PROGRAM), "viewer/ringside-viewer")
        process = desktop.run([program, "Test"])
        until("the pattern on the whole screen", lambda: is_pattern(desktop))
        desktop.type_until("a key", lambda: "Key 30 1" in desktop.events() and "Key 30 0" in desktop.events(), "a")
        desktop.type_until("the viewer to end", lambda: process.poll() is not None, *CHORD, "-s", "300", "-k", "F11")
        assert process.returncode == 0, process.returncode
        assert desktop.monitors(), "the machine ended with its viewer"


def relative_motion():
    """For guests without an absolute pointer: the motion itself, unaccelerated, also where the screen has ended; and buttons. The
    mouse is plugged in later than the viewer has the keyboard."""
    with Sway() as desktop:
        program = os.path.join(os.path.dirname(console.PROGRAM), "viewer/ringside-viewer")
        desktop.run([program, "Test"])
        until("the pattern on the whole screen", lambda: is_pattern(desktop))
        desktop.run(["wtype", "-s", "1000", "-k", "a", "-s", "120000", "-k", "a"])  # a keyboard: without one there is no focus
        desktop.expect_event("Key 30 0")
        mouse = Mouse(desktop.env)

        def moved():
            moves = [e.split()[1:] for e in desktop.events() if e.startswith("PointerRelative")]
            return [sum(int(move[i]) for move in moves) for i in (0, 1)]
        until("motion to arrive", lambda: mouse.move(1, 1) or moved() != [0, 0])
        time.sleep(.5)
        desktop.clear()
        for _ in range(60):
            mouse.move(40, 10)
        until("all of the motion", lambda: moved() == [2400, 600])
        mouse.click()
        desktop.expect_event("PointerRelative 0 0 0 1")
        desktop.expect_event("PointerRelative 0 0 0 0")
        mouse.close()


def second_monitor():
    """The one that was named, by number or place; the other keeps what it shows."""
    with Sway(outputs=2, FAKE_ABSOLUTE="1") as desktop:
        program = os.path.join(os.path.dirname(console.PROGRAM), "viewer/ringside-viewer")
        empty = desktop.pixels("HEADLESS-1")
        for where in ("--display=1", "--at=%d,200" % (SIZE[0] + 320)):
            process = desktop.run([program, where, "Test"])
            until("the pattern on the second monitor", lambda: is_pattern(desktop, output="HEADLESS-2", size=(640, 400)))
            assert desktop.pixels("HEADLESS-1") == empty, "there is something on the first"
            process.terminate()
            assert process.wait(20) == 0


def window():
    with Sway(FAKE_RESIZE="1", FAKE_ABSOLUTE="1") as desktop:
        desktop.start(console.PROGRAM)
        action = ("gapplication", "action", "org.ringside.Ringside", "open-machine", "'test'")
        until("the console", lambda: subprocess.run(action, capture_output=True).returncode == 0)
        desktop.type_until("the machine to start and the guest to be asked for a size", desktop.sizes,
                           "-M", "ctrl", "-k", "b", "-m", "ctrl")
        until("the guest's pixels, one to one", lambda: is_tiles(desktop, desktop.sizes()[-1], 1))
        size = desktop.sizes()[-1]
        assert size[0] == SIZE[0] and SIZE[1] * .7 < size[1] < SIZE[1], size
        desktop.type_until("a key", lambda: "Key 30 1" in desktop.events(), *BY_NUMBER)
        desktop.type_until("full screen", lambda: desktop.sizes()[-1] == SIZE, *BY_NUMBER, *CHORD, "-s", "300", "-k", "F11",
                           "-s", "1500")
        until("the guest's pixels on the whole screen", lambda: is_tiles(desktop, SIZE))
        desktop.clear()
        desktop.type_until("the window", lambda: desktop.sizes()[-1:] == [size], *CHORD, "-s", "300", "-k", "F11", "-s", "1500")
        until("the guest's pixels in the window again", lambda: is_tiles(desktop, size, 1))


if __name__ == "__main__":
    run_cases(*[case for case in (viewer, relative_motion, second_monitor, window) if case.__name__ in sys.argv[3:] or not sys.argv[3:]])
