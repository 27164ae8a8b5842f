#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The library: deleting asks and moves to the trash, renaming, search, list, settings, a broken machine.ini."""
import os
import sys
import time

from desktop import Desktop, key, run_cases, type_text, until

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
    run_cases(delete, rename_and_search, settings, broken)
