#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The USB menu of a console, with a stand-in for the monitor. The devices are files below a folder of ours: umockdev's
library shows it to the front end as /sys and /dev."""
import os
import sys
import time

import fake_usb
from desktop import key, run_cases, screenshot, sh, skip, until
from console import PROGRAM, Console

class UsbConsole(Console):
    """A console on a computer with USB devices."""

    def __enter__(self):
        desktop = super().__enter__()
        if not fake_usb.is_possible():
            skip("umockdev is not installed")
        usb = fake_usb.FakeUsb(self.home + "/root")
        self.plug, self.unplug = usb.plug, usb.unplug
        self.usb = usb
        self.env.update(usb.env)
        return desktop

    def settings(self):
        with open(self.folder + "/machine.ini") as file:
            return file.read()

    def choose(self, name):
        """A button of the menu, which has a window of its own: through the accessibility bus."""
        def found():
            return next((node for node in self.app.walk() if (node.get_name() or "").startswith(name) and
                         node.get_action_iface() and node.get_action_iface().get_n_actions()), None)
        until(name, found).get_action_iface().do_action(0)

    def open_menu(self):
        time.sleep(.5)
        self.app.press("USB Devices")

    def tick(self, name):
        """The first thing in the menu, which has the focus when it opens."""
        self.app.find(name)
        time.sleep(.5)
        key("space")

    def await_event(self, event):
        until(event, lambda: event in self.events())


def menu_connects_and_disconnects():
    with UsbConsole() as desktop:
        desktop.plug("1-1", 2, "Fake Disk", driver="usb-storage")
        desktop.plug("1-2.3", 3, "Fake <b>Keys</b>", interface=(3, 1, 1), driver="usbhid", serial="a,b")
        app = desktop.open()
        desktop.open_menu()
        app.expect("Used by this computer (usb-storage)")
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            time.sleep(1)
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/usb-menu.png")
        desktop.choose("Connect Fake Disk")
        desktop.await_event("AttachUsb 001/002 1-1 Fake Disk 4660 22136 S-2")
        app.expect("In this machine")
        desktop.choose("Disconnect Fake Disk")
        desktop.await_event("DetachUsb 1-1")
        app.expect("Used by this computer (usb-storage)")
        # This computer's own keyboard: asked for twice.
        desktop.choose("Connect Fake <b>Keys</b>")
        app.expect("is a keyboard of this computer")
        app.press("Cancel")
        desktop.open_menu()
        desktop.choose("Connect Fake <b>Keys</b>")
        assert not [e for e in desktop.events() if "Keys" in e], desktop.events()
        app.press("Connect")
        desktop.await_event("AttachUsb 001/003 1-2.3 Fake <b>Keys</b> 4660 22136 a,b")


def rule_is_kept_and_carried_out():
    with UsbConsole() as desktop:
        desktop.plug("1-1", 2, "Fake Disk")
        desktop.plug("1-8", 3, "Fake Camera", idVendor="4321")
        with open(desktop.folder + "/machine.ini", "a") as file:
            file.write("\n[usb]\nconnect=4321:5678\n")
        desktop.open()
        desktop.await_event("AttachUsb 001/003 1-8 Fake Camera 17185 22136 S-3")  # by the start
        desktop.app.process.terminate()
        desktop.app.process.wait(20)
        desktop.clear()
        app = desktop.open()  # finds the machine running: it has what it has
        desktop.open_menu()
        desktop.tick("Always connect Fake Disk to this machine")
        until("the rule", lambda: "connect=4321:5678,1234:5678:S-2" in desktop.settings())
        key("Escape")
        desktop.unplug("1-1", 2)
        time.sleep(1)
        desktop.plug("1-4", 7, "Fake Disk", serial="S-2")  # another port
        desktop.await_event("AttachUsb 001/007 1-4 Fake Disk 4660 22136 S-2")
        desktop.open_menu()
        desktop.tick("Always connect Fake Disk to this machine")
        until("the rule's end", lambda: "1234:5678" not in desktop.settings())
        assert not [e for e in desktop.events() if "Camera" in e], desktop.events()


def rule_for_a_port():
    """Of two alike, and beside a rule for the device."""
    with UsbConsole() as desktop:
        desktop.plug("1-1", 2, "Fake Stick", serial="")
        app = desktop.open()
        desktop.open_menu()
        app.find("Always connect what is in port 1-1 to this machine")
        time.sleep(.5)
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/usb-port.png")
        key("Tab", "space")
        until("the rule", lambda: "connect=port:1-1\n" in desktop.settings())
        key("shift+Tab", "space")
        until("both rules", lambda: "connect=port:1-1,1234:5678\n" in desktop.settings())
        key("space")
        until("one rule", lambda: "connect=port:1-1\n" in desktop.settings())
        key("Escape")
        desktop.unplug("1-1", 2)
        time.sleep(1)
        desktop.plug("1-1", 3, "Other Stick", serial="")
        until("the other stick", lambda: any(e.startswith("AttachUsb 001/003 1-1 Other Stick") for e in desktop.events()))
        desktop.open_menu()
        app.find("Always connect what is in port 1-1 to this machine")
        time.sleep(.5)
        key("Tab", "space")
        until("no rule", lambda: "port:" not in desktop.settings())


def rule_is_carried_out_without_a_window():
    with UsbConsole() as desktop:
        with open(desktop.folder + "/machine.ini", "a") as file:
            file.write("\n[usb]\nconnect=4321:5678\n")
        app = desktop.open()
        key("ctrl+alt")
        key("ctrl+q")
        app.press("Keep Running")
        until("the windows to close", lambda: not sh("xdotool", "search", "--onlyvisible", "--pid", str(app.process.pid)))
        desktop.plug("1-2", 4, "Fake Stick")  # nobody is asked about this one
        desktop.plug("1-8", 3, "Fake Camera", idVendor="4321")
        desktop.await_event("AttachUsb 001/003 1-8 Fake Camera 17185 22136 S-3")
        assert not sh("xdotool", "search", "--onlyvisible", "--pid", str(app.process.pid)), "a window has opened"
        assert not [e for e in desktop.events() if "Stick" in e], desktop.events()
        # Started again it is the same program, with a window; and it ends with the machine.
        desktop.start(PROGRAM)
        app.find("Running", "label")
        key("ctrl+q")
        app.press("Keep Running")
        until("the windows to close", lambda: not sh("xdotool", "search", "--onlyvisible", "--pid", str(app.process.pid)))
        assert app.process.poll() is None, "nobody looks out any more"
        sh(os.path.join(os.path.dirname(PROGRAM), "../app/ringctl"), "stop", "--force", "test")
        assert app.process.wait(20) == 0


def a_new_device_is_asked_about_once():
    with UsbConsole() as desktop:
        app = desktop.open()
        desktop.plug("1-1", 2, "Fake Stick")
        app.expect("“Fake Stick” Was Plugged In")
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            time.sleep(1)
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/usb-question.png")
        app.press("This Computer")
        until("the answer", lambda: "ignore=1234:5678:S-2" in desktop.settings())
        desktop.unplug("1-1", 2)
        time.sleep(1)
        desktop.plug("1-1", 3, "Fake Stick", serial="S-2")
        desktop.plug("1-2", 4, "Fake Mouse", interface=(3, 1, 2))
        time.sleep(2)
        assert "Plugged In" not in app.text(), app.text()
        desktop.plug("1-3", 5, "Other Stick")
        app.expect("“Other Stick” Was Plugged In")
        app.press("The Machine")
        desktop.await_event("AttachUsb 001/005 1-3 Other Stick 4660 22136 S-5")
        until("the answer", lambda: "connect=1234:5678:S-5" in desktop.settings())
        assert len([e for e in desktop.events() if "Attach" in e]) == 1, desktop.events()


if __name__ == "__main__":
    everything = [menu_connects_and_disconnects, rule_is_kept_and_carried_out, rule_for_a_port, rule_is_carried_out_without_a_window,
                  a_new_device_is_asked_about_once]
    run_cases(*[case for case in everything if case.__name__ in sys.argv[3:] or not sys.argv[3:]])
