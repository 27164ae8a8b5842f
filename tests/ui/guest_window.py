# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests with a real guest in the window share: pictures of its screen, and its life by button."""
import os
import subprocess
import sys

from desktop import screenshot, skip, until

GUEST_TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../guest")

# Without what surrounds the screen in the widget when their shapes differ.
TRIM = ("-bordercolor", "black", "-border", "1", "-fuzz", "2%", "-trim", "+repage")


def guest_image(expression):
    """The path of an image of the guest tests (images.py), made when it is not there."""
    made = subprocess.run([sys.executable, "-c", f"import images; print(images.{expression})"], cwd=GUEST_TESTS,
                          capture_output=True, text=True)
    if made.returncode:
        skip("the guest's image cannot be made: " + made.stderr.strip().splitlines()[-1])
    return made.stdout.strip().splitlines()[-1]


def gray(*source, size="200x150"):
    """A small gray picture: scaling and dithering hardly matter in it."""
    return subprocess.run(["convert", *source, "-resize", size + "!", "-colorspace", "Gray", "-depth", "8", "gray:-"],
                          capture_output=True, check=True).stdout


def difference(a, b):
    return sum(abs(x - y) > 24 for x, y in zip(a, b))


def window(desktop, app, *options, size="200x150"):
    """The guest's screen as the window shows it."""
    x, y, w, h = app.box(app.find("Guest screen"))
    screenshot(desktop.home + "/shot.png")
    return gray(desktop.home + "/shot.png", "-crop", f"{w}x{h}+{x}+{y}", "+repage", *options, size=size)


def make_by_wizard(app, file):
    app.press("New Machine…")
    app.click(app.find(file, "label"))
    app.press("Next")
    app.press("Create")
    app.find("Guest screen")


def pause_and_resume(app):
    app.press("Pause")
    app.expect("The machine is paused.")
    app.press("Resume")
    until("running again", lambda: "The machine is paused." not in app.text())


def suspend_and_resume(desktop, app):
    app.press("Suspend")
    app.find("Suspended", "label", timeout=60)
    until("the monitor's end", lambda: not desktop.monitors(), 60)
    app.press("Resume")
    app.find("Guest screen", timeout=60)
