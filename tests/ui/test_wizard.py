#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The wizard: wrong files are named on their page, a failure leaves nothing, three clicks make a machine."""
import os
import subprocess
import sys

import images
from desktop import Desktop, choose_file, drag_file, key, run_cases, type_text, until

PROGRAM, FAKE = sys.argv[1:3]


def wrong_files():
    with Desktop() as desktop:
        with open(desktop.home + "/letter.iso", "w") as file:
            file.write("Dear installer\n" * 9000)
        images.disc(desktop.home + "/short.iso", cut=100)
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("letter.iso", "label"))
        app.expect("“letter.iso” is not a disc image.")
        app.click(app.find("short.iso", "label"))
        app.expect("“short.iso” is incomplete: 614.4\u00a0kB of 819.2\u00a0kB.")
        assert app.look("Next", "push button") is None
        key("Escape")
        until("the wizard to close", lambda: not app.look("Which System?"))
        assert os.listdir(desktop.machines) == []


def three_clicks():
    """From the image to the running machine."""
    with Desktop() as desktop:
        desktop.env["RINGSIDE_MONITOR"] = FAKE
        images.disc(desktop.home + "/debian.iso", "Debian 11.3.0 amd64 n")
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("debian.iso", "label"))
        app.find("Debian 11", "label")
        app.press("Next")
        app.expect("Ready to Create")
        assert os.listdir(desktop.machines) == []
        app.press("Create")
        app.find("Guest screen")
        folder = desktop.machines + "/debian-11"
        assert os.path.getsize(folder + "/disk.qcow2") >= 10 << 30
        with open(folder + "/machine.ini") as file:
            settings = file.read()
        assert "os=debian11" in settings and f"path={desktop.home}/debian.iso" in settings, settings
        assert "card=virtio" in settings and "mode=user" in settings, settings
        assert "video=virtio" in settings, settings
        until("the monitor", desktop.monitors)


def debian_disc(desktop):
    """Where the wizard does not look for images by itself."""
    os.makedirs(desktop.home + "/deep/down/here")
    path = desktop.home + "/deep/down/here/elsewhere.iso"
    images.disc(path, "Debian 11.3.0 amd64 n")
    return path


def check_made(desktop, app, path):
    """The detected system is shown; Create makes its machine and starts it."""
    app.find("Debian 11", "label")
    app.find("elsewhere.iso", "label")
    app.press("Next")
    app.press("Create")
    app.find("Guest screen")
    with open(desktop.machines + "/debian-11/machine.ini") as file:
        settings = file.read()
    assert "os=debian11" in settings and f"path={path}" in settings, settings


def chosen_in_the_file_chooser():
    with Desktop() as desktop:
        desktop.env["RINGSIDE_MONITOR"] = FAKE
        path = debian_disc(desktop)
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.press("Choose a File…")
        app.find("Choose", "push button")
        key("Escape")
        until("the chooser to close", lambda: not app.look("Choose", "push button"))
        app.press("Choose a File…")
        choose_file(app, path, "Choose")
        check_made(desktop, app, path)


def dropped_on_the_wizard():
    with Desktop() as desktop:
        desktop.env["RINGSIDE_MONITOR"] = FAKE
        path = debian_disc(desktop)
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        with open(desktop.home + "/letter.iso", "w") as file:
            file.write("Dear installer\n" * 9000)
        area = app.find("Choose the installer’s disc image (.iso), or drop it here.", "label")
        drag_file(desktop, desktop.home + "/letter.iso", app, area)
        app.expect("“letter.iso” is not a disc image.")
        drag_file(desktop, path, app, area)
        check_made(desktop, app, path)


def dropped_on_the_window():
    with Desktop() as desktop:
        desktop.env["RINGSIDE_MONITOR"] = FAKE
        path = debian_disc(desktop)
        app = desktop.start(PROGRAM)
        drag_file(desktop, path, app, app.find("New Machine…"))
        check_made(desktop, app, path)


def name_in_use():
    with Desktop() as desktop:
        desktop.env["RINGSIDE_MONITOR"] = FAKE
        os.makedirs(desktop.machines + "/old")
        with open(desktop.machines + "/old/machine.ini", "w") as file:
            file.write("[machine]\nname=Old\n")
        app = desktop.start(PROGRAM)
        app.press("New Machine")
        app.click(app.find("Install Later", "label"))
        app.find("Next", "push button")
        app.click(app.find("Name", "label"))
        key("ctrl+a")
        type_text("oLD")
        app.expect("There is a machine named “oLD” already.")
        key("ctrl+a")
        type_text("Fresh")
        until("the error to go", lambda: "already" not in app.text())
        app.press("Next")
        app.expect("Ready to Create")
        app.press("Create")
        app.find("Guest screen")
        assert sorted(os.listdir(desktop.machines)) == ["fresh", "old"]


def failure_leaves_nothing():
    with Desktop() as desktop:
        monitor = desktop.home + "/monitor"
        with open(monitor, "w") as file:
            file.write("#!/bin/sh\necho 'ringside-monitor: The disk does not fit here' >&2\nexit 1\n")
        os.chmod(monitor, 0o755)
        desktop.env["RINGSIDE_MONITOR"] = monitor
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("Install Later", "label"))
        app.press("Next")
        app.press("Create")
        app.expect("The disk does not fit here")
        app.find("Ready to Create")
        assert os.listdir(desktop.machines) == []


def engine_and_obstacle():
    """The summary says what the machine will run on, and why not on the processor itself: ringctl doctor's words."""
    ringctl = os.path.join(os.path.dirname(PROGRAM), "../app/ringctl")
    with Desktop() as desktop:
        doctor = desktop.run([ringctl, "doctor"], stdout=subprocess.PIPE, text=True).communicate()[0].splitlines()
        at = next(i for i, line in enumerate(doctor) if line.split()[1:2] == ["engine"])
        fast = doctor[at].split()[2] == "kvm:"
        app = desktop.start(PROGRAM)
        app.press("New Machine…")
        app.click(app.find("Install Later", "label"))
        app.press("Next")
        app.expect("KVM" if fast else "Translator (slower)")
        if not fast:
            app.expect(doctor[at + 1].strip())


if __name__ == "__main__":
    run_cases(wrong_files, three_clicks, chosen_in_the_file_chooser, dropped_on_the_wizard, dropped_on_the_window,
              name_in_use, failure_leaves_nothing, engine_and_obstacle)
