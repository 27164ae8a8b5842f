#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts and ends without a complaint; the empty library explains itself, also in German."""
import sys

from desktop import Desktop, run_cases

PROGRAM = sys.argv[1]


def exits():
    with Desktop() as desktop:
        app = desktop.start(PROGRAM, "--exit-after-startup")
        assert app.process.wait(30) == 0
        # Debian's GTK complains about a missing icon theme or cursor on bare servers; nothing of ours may.
        assert "ringside" not in app.log().lower().replace("(ringside:", ""), app.log()
        assert "CRITICAL" not in app.log() and "WARNING" not in app.log(), app.log()


def empty():
    with Desktop() as desktop:
        app = desktop.start(PROGRAM)
        app.find("New Machine…", "push button")
        app.find("Try a Demonstration Machine", "push button")
        app.expect("No Machines Yet")


def german():
    with Desktop() as desktop:
        desktop.env["LANGUAGE"] = "de"
        app = desktop.start(PROGRAM)
        app.find("Neue Maschine …", "push button")
        app.press("Neue Maschine …")
        app.expect("Welches System?")


if __name__ == "__main__":
    run_cases(exits, empty, german)
