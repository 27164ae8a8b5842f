#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real guest by the real wizard and monitor: boots $RINGSIDE_TEST_ISO, else Debian's GRUB rescue disc.

Types in the window, compares the window with the guest's framebuffer as the thumbnail shows it, pauses, suspends,
opens again and resumes.
"""
import os
import shutil
import subprocess
import sys
import time

from desktop import Desktop, key, screenshot, skip, type_text, until

PROGRAM = sys.argv[1]
ISO = os.environ.get("RINGSIDE_TEST_ISO", "/usr/lib/grub-rescue/grub-rescue-cdrom.iso")
if not os.path.exists(ISO):
    skip(f"{ISO} is not there; install grub-rescue-pc or set RINGSIDE_TEST_ISO")


def picture(desktop, app):
    """The guest screen's pixels in the window."""
    x, y, w, h = app.box(app.find("Guest screen"))
    screenshot(desktop.home + "/shot.png")
    return subprocess.run(["convert", desktop.home + "/shot.png", "-crop", f"{w}x{h}+{x}+{y}", "+repage", "-resize",
                           "160x120!", "-colorspace", "Gray", "-depth", "8", "gray:-"], capture_output=True).stdout


def difference(a, b):
    return sum(abs(x - y) > 24 for x, y in zip(a, b))


def settle(desktop, app, timeout=60):
    """The picture once it is lit and has not changed for two seconds."""
    last, end = b"", time.time() + timeout
    while time.time() < end:
        now = picture(desktop, app)
        if last and difference(now, last) < 20 and sum(v > 60 for v in now) > 100:
            return now
        last = now
        time.sleep(2)
    raise AssertionError("the guest's screen stays dark or never rests")


def main():
    with Desktop() as desktop:
        shutil.copy(ISO, desktop.home + "/guest.iso")
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("guest.iso", "label"))
        app.press("Next")
        app.press("Create")
        app.find("Guest screen")
        menu = settle(desktop, app)
        key("Down", "Down")
        time.sleep(2)
        moved = settle(desktop, app)
        assert difference(menu, moved) > 20, "the keys changed nothing"
        if "grub" in ISO:
            type_text("c")
            time.sleep(2)
            before = settle(desktop, app)
            type_text("ls")
            key("Return")
            time.sleep(2)
            assert difference(before, settle(desktop, app)) > 5, "GRUB did not answer"
        before = settle(desktop, app)
        key("ctrl+alt")
        app.press("Pause")
        app.expect("The machine is paused.")
        app.press("Resume")
        until("running again", lambda: "The machine is paused." not in app.text())
        app.press("Suspend")
        app.find("Suspended", "label", timeout=60)
        until("the monitor's end", lambda: not desktop.monitors(), 60)
        app.press("Resume")
        app.find("Guest screen", timeout=60)
        assert difference(before, settle(desktop, app)) < 400, "it went on somewhere else"
        app.click(app.find("Guest screen"))
        type_text("x")
        key("ctrl+alt")
        key("ctrl+shift+d")
        app.press("Power Off")
        until("the monitor's end", lambda: not desktop.monitors(), 60)
        app.find("Off", "label")


if __name__ == "__main__":
    main()
