#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian 12 installer by the wizard: its language list is in the window, pixel for pixel what the guest's framebuffer
holds, and the arrow keys move it; paused, suspended, opened again and resumed on the way."""
import os
import shutil
import subprocess
import sys
import time

from desktop import Desktop, key, until
from guest_window import (TRIM, difference, gray, guest_image, make_by_wizard, pause_and_resume, suspend_and_resume,
                          window)

PROGRAM = sys.argv[1]
RINGCTL = os.path.join(os.path.dirname(PROGRAM), "../app/ringctl")


def framebuffer(desktop, name):
    path = desktop.home + "/guest.png"
    subprocess.run([RINGCTL, "screenshot", name, path], env=desktop.env, check=True, capture_output=True)
    return gray(path)


def is_list(pixels):
    """Mostly the light gray of the dialog."""
    return sum(140 < v < 190 for v in pixels) > len(pixels) * 0.6


def wait_list(desktop, name, seconds):
    last = b""

    def there():
        nonlocal last
        now = framebuffer(desktop, name)
        still, last = bool(last) and difference(now, last) < 10, now
        time.sleep(1)
        return still and is_list(now)
    until("the language list", there, seconds)
    return last


def main():
    iso = guest_image("installer_text('amd64')")
    with Desktop(size="1600x1200") as desktop:
        shutil.copy(iso, desktop.home + "/debian-12-installer.iso")
        app = desktop.start(PROGRAM)
        make_by_wizard(app, "debian-12-installer.iso")
        name = os.listdir(desktop.machines)[0]
        before = wait_list(desktop, name, 180)
        until("the list in the window", lambda: difference(window(desktop, app, *TRIM), framebuffer(desktop, name)) < 900, 20)
        app.click(app.find("Guest screen"))
        key("Down", "Down")
        time.sleep(2)
        moved = framebuffer(desktop, name)
        assert difference(before, moved) > 20, "the arrow keys did not move the list"
        assert is_list(moved), "the list is gone"
        key("ctrl+alt")
        pause_and_resume(app)
        suspend_and_resume(desktop, app)
        until("it runs", lambda: subprocess.run([RINGCTL, "wait", name, "--state", "running", "--timeout", "1"],
                                                env=desktop.env, capture_output=True).returncode == 0, 60)
        until("the same list", lambda: difference(moved, framebuffer(desktop, name)) < 20, 30)
        app.click(app.find("Guest screen"))
        key("Up", "Up")
        until("the list moved back", lambda: difference(before, framebuffer(desktop, name)) < 20, 20)
        subprocess.run([RINGCTL, "stop", "--force", name], env=desktop.env)
    print("1..1\nok 1 - the installer's language list in the window")


main()
