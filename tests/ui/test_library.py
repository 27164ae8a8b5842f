#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The library: deleting asks and moves to the trash, renaming, search, list, settings, a broken machine.ini."""
import os
import sys
import time

from desktop import Desktop, choose_file, key, run_cases, screenshot, sh, type_text, until

PROGRAM, FAKE = sys.argv[1:3]


class Library(Desktop):
    def __init__(self, *names):
        super().__init__()
        self.env["RINGSIDE_MONITOR"] = FAKE
        for name in names:
            os.makedirs(f"{self.machines}/{name.lower()}")
            with open(f"{self.machines}/{name.lower()}/machine.ini", "w") as file:
                file.write(f"[machine]\nname={name}\nmemory=512\n")


def delete():
    with Library("Alpha", "Beta") as desktop:
        app = desktop.start(PROGRAM)
        app.click(app.find("Alpha", "label"))
        time.sleep(.5)
        key("Delete")
        app.expect("Delete “Alpha”?")
        app.press("Cancel")
        until("the question to go", lambda: not app.look("Delete “Alpha”?"))
        assert os.path.exists(desktop.machines + "/alpha/machine.ini")
        key("Delete")
        app.press("Delete")
        # A trash on another file system may not exist: then it asks once more.
        if not until("the machine to go", lambda: not os.path.exists(desktop.machines + "/alpha")
                     or app.look("Delete for Ever", "push button")) is True:
            app.press("Delete for Ever")
        until("the folder to go", lambda: not os.path.exists(desktop.machines + "/alpha"))
        until("the card to go", lambda: not app.look("Alpha", "label"))
        app.find("Beta", "label")


def rename_and_search():
    with Library("Alpha", "Beta") as desktop:
        app = desktop.start(PROGRAM)
        app.click(app.find("Beta", "label"))
        time.sleep(.5)
        key("F2")
        app.find("Rename Machine")
        key("ctrl+a")
        type_text("alpha")
        app.expect("There is a machine named “alpha” already.")
        key("ctrl+a")
        type_text("Gamma")
        until("the sentence to go", lambda: "already" not in app.text())
        key("Return")
        app.find("Gamma", "label")
        with open(desktop.machines + "/beta/machine.ini") as file:
            assert "name=Gamma" in file.read()
        key("ctrl+f")
        time.sleep(.5)
        type_text("alph")
        until("Gamma to be filtered out", lambda: not app.look("Gamma", "label"))
        app.find("Alpha", "label")
        type_text("xx")
        app.expect("No Machine Found")
        key("Escape")
        app.find("Gamma", "label")
        key("ctrl+2")
        time.sleep(.5)
        app.find("Gamma", "label")


def settings():
    with Library("Alpha") as desktop:
        app = desktop.start(PROGRAM)
        app.click(app.find("Alpha", "label"))
        time.sleep(.5)
        key("ctrl+comma")
        app.find("Machine Settings")
        app.click(app.find("Name", "label"))
        key("ctrl+a")
        type_text("Omega")
        app.press("Save")
        app.find("Omega", "label")
        with open(desktop.machines + "/alpha/machine.ini") as file:
            text = file.read()
        assert "name=Omega" in text and "memory=512" in text, text


def machine_file(desktop):
    with open(desktop.machines + "/alpha/machine.ini") as file:
        return file.read()


def open_settings(app):
    app.click(app.find("Alpha", "label"))
    time.sleep(.5)
    key("ctrl+comma")
    app.find("Machine Settings")


def add_image(app, path):
    app.press("Add Image…")
    choose_file(app, path, "Add")


def disks():
    """A new disk and an image are added; one is removed again, and its file stays."""
    with Library("Alpha") as desktop:
        desktop.env["RINGSIDE_MONITOR"] = os.path.join(os.path.dirname(PROGRAM), "../monitor/ringside-monitor")
        image = desktop.home + "/other.img"
        with open(image, "wb") as file:
            file.truncate(1 << 20)
        first = desktop.machines + "/alpha/disk0.qcow2"
        app = desktop.start(PROGRAM)
        open_settings(app)
        app.press("New Disk…")
        app.click(app.find("Size (GiB)"))
        key("ctrl+a")
        type_text("3")
        app.press("Add")
        app.find("disk0.qcow2, new, 3.0\u00a0GiB", "label")
        assert not os.path.exists(first), "a disk was made before the settings were saved"
        app.press("Cancel")
        until("the window to close", lambda: not app.look("Machine Settings"))
        assert not os.path.exists(first) and "disk0" not in machine_file(desktop)
        open_settings(app)
        app.press("New Disk…")
        app.press("Add")
        app.find("Disk 1", "label")
        add_image(app, image)
        app.find(image, "label")
        add_image(app, image)
        app.expect("is a disk of this machine already.")
        key("Escape")
        until("the sentence to go", lambda: "already" not in app.text())
        app.press("Save")
        until("the window to close", lambda: not app.look("Machine Settings"))
        text = machine_file(desktop)
        assert "path=disk0.qcow2" in text and f"path={image}" in text, text
        assert os.path.getsize(first) > 0
        open_settings(app)
        app.press("Remove Disk 1")
        app.find(f"The file of the removed disk is kept: {first}", "label")
        app.press("Save")
        until("the window to close", lambda: not app.look("Machine Settings"))
        text = machine_file(desktop)
        assert "disk0" not in text and f"path={image}" in text, text
        assert os.path.exists(first), "the removed disk's file is gone"


def disks_of_a_running_machine():
    """Somebody else starts it while its settings are open and changed."""
    with Library("Alpha") as desktop:
        with open(desktop.machines + "/alpha/machine.ini", "a") as file:
            file.write("[disk0]\npath=disk0.qcow2\n")
        app = desktop.start(PROGRAM)
        open_settings(app)
        app.press("Remove Disk 1")
        app.find("The file of the removed disk is kept: " + desktop.machines + "/alpha/disk0.qcow2", "label")
        desktop.run([FAKE, "--machine", desktop.machines + "/alpha"])
        app.find("Disks can be added and removed while the machine is off.", "label")
        for name in "New Disk…", "Add Image…":
            assert not app.usable(name), name
        app.press("Save")
        app.find("The Settings Were Not Saved")
        assert "[disk0]" in machine_file(desktop)


def network():
    """A wrong port forward is named and cannot be saved; a right one is, with the cable."""
    with Library("Alpha") as desktop:
        app = desktop.start(PROGRAM)
        open_settings(app)
        app.click(app.find("Memory (MiB)", "label"))
        sh("xdotool", "click", "--repeat", "5", "--delay", "40", "5")
        time.sleep(.5)
        app.click(app.find("Cable Connected", "label"))
        app.click(app.find("Port forwards (tcp:2222:22, …)", "label"))
        type_text("tcp:2222")
        app.expect("“tcp:2222” is no port forward.")
        assert not app.usable("Save")
        type_text(":22")
        until("the complaint to go", lambda: app.usable("Save"))
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/network.png")
        app.press("Save")
        until("the settings", lambda: "forwards=tcp:2222:22" in machine_file(desktop))
        assert "cable=false" in machine_file(desktop), machine_file(desktop)


def broken():
    """A person spoils machine.ini while the library is open; then mends it."""
    with Library("Alpha") as desktop:
        app = desktop.start(PROGRAM)
        app.find("Off", "label")
        with open(desktop.machines + "/alpha/machine.ini", "w") as file:
            file.write("[machine]\nname=Alpha\nmemory=lots\n")
        app.find("Settings cannot be read", "label")
        key("ctrl+comma")
        app.click(app.find("Alpha", "label"), repeat=2)
        app.expect("machine.ini, line 3: memory is \"lots\"; allowed is a whole number of MiB from 1 to 1048576")
        app.press("Close")
        with open(desktop.machines + "/alpha/machine.ini", "w") as file:
            file.write("[machine]\nname=Alpha\nmemory=64\n")
        app.find("Off", "label")


if __name__ == "__main__":
    run_cases(delete, rename_and_search, settings, network, disks, disks_of_a_running_machine, broken)
