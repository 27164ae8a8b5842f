#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real guest by the real wizard and monitor: boots $RINGSIDE_TEST_ISO, else Debian's GRUB rescue disc.

Types in the window, compares the window with the guest's framebuffer as the thumbnail shows it, pauses, suspends,
opens again and resumes.
"""
import os
import shutil
import sys
import time

from desktop import Desktop, key, type_text, until
from guest_window import difference, guest_image, make_by_wizard, pause_and_resume, suspend_and_resume, window

PROGRAM = sys.argv[1]
ISO = os.environ.get("RINGSIDE_TEST_ISO")


def settle(desktop, app, timeout=60):
    """The picture once it is lit and has not changed for two seconds."""
    last, end = b"", time.time() + timeout
    while time.time() < end:
        now = window(desktop, app, size="160x120")
        if last and difference(now, last) < 20 and sum(v > 60 for v in now) > 100:
            return now
        last = now
        time.sleep(2)
    raise AssertionError("the guest's screen stays dark or never rests")


def main():
    iso = ISO or guest_image("grub_rescue()")
    with Desktop() as desktop:
        shutil.copy(iso, desktop.home + "/guest.iso")
        app = desktop.start(PROGRAM)
        make_by_wizard(app, "guest.iso")
        menu = settle(desktop, app)
        key("Down", "Down")
        time.sleep(2)
        moved = settle(desktop, app)
        assert difference(menu, moved) > 20, "the keys changed nothing"
        if "grub" in iso:
            type_text("c")
            time.sleep(2)
            before = settle(desktop, app)
            type_text("ls")
            key("Return")
            time.sleep(2)
            assert difference(before, settle(desktop, app)) > 5, "GRUB did not answer"
        before = settle(desktop, app)
        key("ctrl+alt")
        pause_and_resume(app)
        suspend_and_resume(desktop, app)
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
