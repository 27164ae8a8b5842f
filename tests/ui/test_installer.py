#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian 12 installer by the wizard: its language list is in the window, pixel for pixel what the guest's framebuffer
holds, and the arrow keys move it; paused, suspended, opened again and resumed on the way."""
import os
import shutil
import subprocess
import sys
import time

from desktop import Desktop, key, screenshot, skip, until

PROGRAM = sys.argv[1]
RINGCTL = os.path.join(os.path.dirname(PROGRAM), "../app/ringctl")
GUEST_TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../guest")


def installer():
    code = "import images; print(images.installer_text('amd64'))"
    made = subprocess.run([sys.executable, "-c", code], cwd=GUEST_TESTS, capture_output=True, text=True)
    if made.returncode:
        skip("the installer's image cannot be made: " + made.stderr.strip().splitlines()[-1])
    return made.stdout.strip().splitlines()[-1]


def gray(*source):
    """A small gray picture: scaling and dithering hardly matter in it."""
    return subprocess.run(["convert", *source, "-resize", "200x150!", "-colorspace", "Gray", "-depth", "8", "gray:-"],
                          capture_output=True, check=True).stdout


def difference(a, b):
    return sum(abs(x - y) > 24 for x, y in zip(a, b))


def framebuffer(desktop, name):
    path = desktop.home + "/guest.png"
    subprocess.run([RINGCTL, "screenshot", name, path], env=desktop.env, check=True, capture_output=True)
    return gray(path)


def window(desktop, app):
    x, y, w, h = app.box(app.find("Guest screen"))
    screenshot(desktop.home + "/shot.png")
    # the screen in the widget, without what surrounds it when the shapes differ
    return gray(desktop.home + "/shot.png", "-crop", f"{w}x{h}+{x}+{y}", "+repage", "-bordercolor", "black",
                "-border", "1", "-fuzz", "2%", "-trim", "+repage")


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
    iso = installer()
    with Desktop(size="1600x1200") as desktop:
        shutil.copy(iso, desktop.home + "/debian-12-installer.iso")
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("debian-12-installer.iso", "label"))
        app.press("Next")
        app.press("Create")
        app.find("Guest screen")
        name = os.listdir(desktop.machines)[0]
        before = wait_list(desktop, name, 180)
        until("the list in the window", lambda: difference(window(desktop, app), framebuffer(desktop, name)) < 900, 20)
        app.click(app.find("Guest screen"))
        key("Down", "Down")
        time.sleep(2)
        moved = framebuffer(desktop, name)
        assert difference(before, moved) > 20, "the arrow keys did not move the list"
        assert is_list(moved), "the list is gone"
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
        until("it runs", lambda: subprocess.run([RINGCTL, "wait", name, "--state", "running", "--timeout", "1"],
                                                env=desktop.env, capture_output=True).returncode == 0, 60)
        until("the same list", lambda: difference(moved, framebuffer(desktop, name)) < 20, 30)
        app.click(app.find("Guest screen"))
        key("Up", "Up")
        until("the list moved back", lambda: difference(before, framebuffer(desktop, name)) < 20, 20)
        subprocess.run([RINGCTL, "stop", "--force", name], env=desktop.env)
    print("1..1\nok 1 - the installer's language list in the window")


main()
