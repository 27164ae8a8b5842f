#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""ringside-viewer from the console, with a stand-in for the monitor: pixels, keys, both kinds of pointer, the bar, leaving,
a viewer that is killed, and one that cannot start."""
import contextlib
import os
import signal
import subprocess
import sys
import time

import x_cursor
from console import PROGRAM, Console, fake_monitor
import fake_usb
from desktop import key, run_cases, screenshot, sh, skip, type_text, until

SIZE = (1280, 800)  # four times the pattern
RINGCTL = os.path.join(os.path.dirname(PROGRAM), "../app/ringctl")
NOTICE = 2.5  # seconds until it is gone


class Viewer(Console):
    def __init__(self, **fake):
        super().__init__("%dx%d" % SIZE, **fake)

    def pids(self):
        # SDL's window is a child of the console's process.
        found = sh("pgrep", "-x", "-P", str(self.app.process.pid), "ringside-viewer")
        return [int(pid) for pid in found.split()]

    def enter(self):
        """By the console's button."""
        self.app.press("Full Screen")
        until("the viewer", self.window)
        time.sleep(.5)

    def window(self):
        """Of the viewer, once it is as large as the screen and has the keyboard."""
        for pid in self.pids():
            for wid in sh("xdotool", "search", "--onlyvisible", "--pid", str(pid)).split():
                shell = sh("xdotool", "getwindowgeometry", "--shell", wid)
                if "WIDTH=%d\nHEIGHT=%d" % SIZE in shell and sh("xdotool", "getwindowfocus") == wid:
                    return wid
        return None

    def pixels(self):
        path = self.home + "/viewer.png"
        screenshot(path)
        return subprocess.run(["convert", path, "-depth", "8", "rgb:-"], capture_output=True, check=True).stdout

    def pixel(self, x, y):
        at = (y * SIZE[0] + x) * 3
        return self.pixels()[at:at + 3]

    def check_pattern(self, shift):
        raw, wrong = self.pixels(), 0
        factor = SIZE[0] // fake_monitor.WIDTH
        for y in range(0, SIZE[1], 3):
            for x in range(0, SIZE[0], 3):
                expected = (fake_monitor.pixel(x // factor, y // factor, shift) & 0xffffff).to_bytes(3, "big")
                wrong += raw[(y * SIZE[0] + x) * 3:][:3] != expected
        assert wrong == 0, f"{wrong} wrong pixels"

    def moved(self):
        moves = [e.split()[1:] for e in self.events() if e.startswith("PointerRelative")]
        return [sum(int(move[i]) for move in moves) for i in (0, 1)]

    def bar_shown(self):
        r, g, b = self.pixel(SIZE[0] // 3, 3)
        return r == g == b and 0x20 < r < 0x30


@contextlib.contextmanager
def viewer_with_usb(rule=None, **fake):
    """And the computer's USB devices, which are files."""
    if not fake_usb.is_possible():
        skip("umockdev is not installed")
    with Viewer(**fake) as desktop:
        usb = fake_usb.FakeUsb(desktop.home + "/root")
        desktop.env.update(usb.env)
        if rule:
            with open(desktop.folder + "/machine.ini", "a") as file:
                file.write("\n[usb]\n%s\n" % rule)
        yield desktop, usb


def shows_the_screen():
    with Viewer(FAKE_ABSOLUTE="1") as desktop:
        desktop.open()
        desktop.enter()
        pattern = (fake_monitor.pixel(160, 30) & 0xffffff).to_bytes(3, "big")
        notice = desktop.pixel(642, 122)
        assert notice != pattern, "nothing says how to leave"
        time.sleep(NOTICE)
        desktop.check_pattern(0)
        sh("xdotool", "mousemove", "640", "400")
        desktop.check_pattern(0)  # the guest draws its own pointer
        subprocess.run([RINGCTL, "reset", "test"], check=True, capture_output=True)
        time.sleep(.5)
        desktop.check_pattern(255)


def original_size():
    """As in the window: not enlarged, in the middle. Entered by the menu and by the key."""
    with Viewer(FAKE_ABSOLUTE="1") as desktop:
        app = desktop.open()
        key("ctrl+alt")
        app.expect("Click the screen to use it")
        key("ctrl+equal")
        app.press("Machine Menu")
        time.sleep(.5)
        key("n")
        until("the viewer, by the menu", desktop.window)
        time.sleep(NOTICE + .5)
        sh("xdotool", "mousemove", "10", "790")
        left, top = (SIZE[0] - fake_monitor.WIDTH) // 2, (SIZE[1] - fake_monitor.HEIGHT) // 2
        raw = desktop.pixels()

        def at(x, y):
            return raw[((top + y) * SIZE[0] + left + x) * 3:][:3]
        for x, y in ((0, 0), (fake_monitor.WIDTH - 1, 0), (17, fake_monitor.HEIGHT - 1), (101, 57)):
            assert at(x, y) == (fake_monitor.pixel(x, y) & 0xffffff).to_bytes(3, "big"), (x, y, at(x, y))
        assert at(-1, 10) == at(10, -1) == at(fake_monitor.WIDTH, 10) == bytes(3), "there is something around it"
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("F11")
        until("the viewer to end", lambda: not desktop.pids())
        until("the console", lambda: app.look("Guest screen"))
        time.sleep(.5)
        key("F11")
        until("the viewer, by the key", desktop.window)


def minimized():
    """From the bar, by keyboard; what is held down is let go, and it comes back as it was."""
    with Viewer() as desktop:
        desktop.open()
        desktop.enter()
        window = desktop.window()
        desktop.clear()
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("Right", "Return")
        until("the window to go", lambda: "Iconic" in sh("xprop", "-id", window, "WM_STATE"))
        desktop.expect_event("ReleaseAll")
        assert desktop.pids(), "the viewer has ended"
        desktop.clear()
        type_text("a")
        time.sleep(.5)
        assert "Key 30 1" not in desktop.events(), "a minimised viewer has the keyboard"
        sh("xdotool", "windowmap", window, "windowactivate", window)
        until("the viewer", desktop.window)
        time.sleep(NOTICE)
        desktop.check_pattern(0)
        type_text("b")
        desktop.expect_event("Key 48 1")


def keys_and_leaving():
    with Viewer() as desktop:
        app = desktop.open()
        desktop.enter()
        time.sleep(NOTICE)
        desktop.clear()
        type_text("a")
        desktop.expect_event("Key 30 1")
        desktop.expect_event("Key 30 0")
        # The window manager's and the console's own go to the guest as well.
        key("alt+F4", "F11", "ctrl+q", "Escape", "Print", "Menu", "KP_Enter")
        for code in (62, 87, 16, 1, 99, 127, 96):
            desktop.expect_event(f"Key {code} 1")
        assert desktop.pids(), "a key ended the viewer"
        # The release chord, into the bar and back.
        desktop.clear()
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        desktop.expect_event("ReleaseAll")
        desktop.clear()
        key("b", "Escape")
        until("the bar to go", lambda: not desktop.bar_shown())
        type_text("c")
        desktop.expect_event("Key 46 1")
        assert "Key 48 1" not in desktop.events(), "the bar's keys reached the guest"
        # Ctrl+Alt+Del, pause, and out.
        desktop.clear()
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("Right", "Right", "Return")
        for code in (29, 56, 111):
            desktop.expect_event(f"Key {code} 1")
        until("the bar to go", lambda: not desktop.bar_shown())
        key("ctrl+alt")
        key("Left", "Return")
        desktop.expect_event("Pause")
        app.expect("The machine is paused.")
        key("Return")
        desktop.expect_event("Resume")
        key("F11")
        until("the viewer to end", lambda: not desktop.pids())
        # Back in the console, with its keyboard.
        app.click(desktop.screen)
        desktop.clear()
        type_text("d")
        desktop.expect_event("Key 32 1")


def relative_pointer():
    with Viewer() as desktop:
        desktop.open()
        desktop.enter()
        sh("xdotool", "mousemove_relative", "--", "1", "1")  # SDL forgets the first one
        time.sleep(.3)
        desktop.clear()
        for _ in range(60):  # more than the screen is wide
            sh("xdotool", "mousemove_relative", "--", "40", "10")
        until("all of the motion", lambda: desktop.moved() == [2400, 600])
        sh("xdotool", "click", "3")
        desktop.expect_event("PointerRelative 0 0 0 2")
        desktop.expect_event("PointerRelative 0 0 0 0")
        sh("xdotool", "click", "4")
        desktop.expect_event("PointerRelative 0 0 1 0")


def absolute_pointer_and_edge():
    with Viewer(FAKE_ABSOLUTE="1") as desktop:
        desktop.open()
        sh("xdotool", "mousemove", "100", "300")
        desktop.enter()
        desktop.clear()
        sh("xdotool", "mousemove", "1279", "799", "mousemove", "640", "400")
        desktop.expect_event("PointerAbsolute %d %d 0 0" % (640 * 32767 // 1279, 400 * 32767 // 799))
        sh("xdotool", "click", "1")
        desktop.expect_event("PointerAbsolute %d %d 0 1" % (640 * 32767 // 1279, 400 * 32767 // 799))
        time.sleep(NOTICE)
        sh("xdotool", "mousemove", "640", "0")
        until("the bar", desktop.bar_shown)
        sh("xdotool", "mousemove", "640", "300")
        until("the bar to go", lambda: not desktop.bar_shown())
        sh("xdotool", "mousemove", "640", "0")
        until("the bar", desktop.bar_shown)
        desktop.clear()
        sh("xdotool", "mousemove", "1260", "10", "click", "1")  # Pause is the last one
        desktop.expect_event("Pause")
        assert not [e for e in desktop.events() if e.endswith(" 0 1")], "a click in the bar reached the guest"


def guest_cursor():
    """The pointer looks like the guest's cursor, four times as large, as the picture is."""
    with Viewer(FAKE_ABSOLUTE="1", FAKE_CURSOR="1") as desktop:
        desktop.open()
        desktop.enter()
        sh("xdotool", "mousemove", "640", "400")

        def is_the_guests():
            width, height, hot, pixels = x_cursor.shown(desktop.env["DISPLAY"])
            return ((width, height, hot) == (64, 64, (12, 20)) and pixels[64 * 8 + 8] == 0xffff8000
                    and pixels[64 * 50 + 8] >> 24 == 0x80)
        until("the guest's cursor", is_the_guests)


def drawn_cursor():
    """Without a tablet it is drawn over the picture, at (100, 60) of it."""
    with Viewer(FAKE_CURSOR="1") as desktop:
        desktop.open()
        desktop.enter()
        mixed = bytes(0x80 + c * 127 // 255 for c in (fake_monitor.pixel(108, 73) & 0xffffff).to_bytes(3, "big"))

        def drawn():
            upper, lower = desktop.pixel(4 * 101 + 2, 4 * 61 + 2), desktop.pixel(4 * 108 + 2, 4 * 73 + 2)
            return upper == b"\xff\x80\x00" and all(abs(a - b) < 3 for a, b in zip(lower, mixed))
        until("the guest's cursor", drawn)


def size_of_the_monitor():
    """The guest is asked for it, and for its place in the window when the viewer is left."""
    with Viewer(FAKE_RESIZE="1") as desktop:
        desktop.open()
        desktop.expect_place()
        console = desktop.place_for_guest()
        desktop.enter()
        until("the monitor's size", lambda: desktop.sizes()[-1] == SIZE)
        sh("xdotool", "mousemove", "640", "400")
        until("the guest's pixels", lambda: all(
            desktop.pixel(x, y) == (fake_monitor.tile(x, y) & 0xffffff).to_bytes(3, "big")
            for x, y in ((0, 799), (1279, 799), (40, 701), (648, 500))))
        desktop.clear()
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("F11")
        until("the viewer to end", lambda: not desktop.pids())
        until("the window's size", lambda: desktop.sizes() == [console])
        # Switched off, it is off there as well.
        key("ctrl+alt")
        desktop.app.expect("Click the screen to use it")
        key("ctrl+g")
        desktop.clear()
        desktop.enter()
        time.sleep(1)
        os.kill(desktop.pids()[0], signal.SIGTERM)
        until("the viewer to end", lambda: not desktop.pids())
        time.sleep(1)
        assert not desktop.sizes(), desktop.sizes()


def usb_in_the_bar():
    with viewer_with_usb() as (desktop, usb):
        usb.plug("1-1", 2, "Fake Stick")
        usb.plug("1-2", 3, "Fake Keys", interface=(3, 1, 1), driver="usbhid")
        desktop.open()
        desktop.enter()
        time.sleep(NOTICE)
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("Right", "Right", "Right", "Return")
        time.sleep(.5)
        key("Return")
        until("the stick in the machine", lambda: any(e.startswith("AttachUsb 001/002") for e in desktop.events()))
        time.sleep(.5)
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/viewer-usb.png")
        key("Return")
        until("the stick back", lambda: any(e.startswith("DetachUsb 1-1") for e in desktop.events()))
        # What the computer needs itself takes two of them.
        key("Down", "Return")
        time.sleep(1)
        assert not any(e.startswith("AttachUsb 001/003") for e in desktop.events())
        key("Return")
        until("the keyboard in the machine", lambda: any(e.startswith("AttachUsb 001/003") for e in desktop.events()))
        key("Escape", "Escape")
        desktop.clear()
        type_text("e")
        desktop.expect_event("Key 18 1")
        # With the list open a click elsewhere leads back to the guest, too, which is not told of it.
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        key("Right", "Right", "Right", "Return")
        time.sleep(.5)
        desktop.clear()
        sh("xdotool", "mousemove", "300", "600", "click", "1")
        until("the bar to go", lambda: not desktop.bar_shown())
        type_text("f")
        desktop.expect_event("Key 33 1")
        assert not [e for e in desktop.events() if e.startswith("Pointer") and e.endswith(" 1")], desktop.events()


def tells_what_is_plugged_in():
    """For a while, if nothing is settled about it and it is not the computer's own."""
    with viewer_with_usb(rule="ignore=4321:5678", FAKE_ABSOLUTE="1") as (desktop, usb):
        desktop.open()
        desktop.enter()
        time.sleep(NOTICE)
        desktop.check_pattern(0)
        usb.plug("1-1", 2, "Fake Keys", interface=(3, 1, 1))
        usb.plug("1-2", 3, "Fake Camera", idVendor="4321")
        time.sleep(2)
        desktop.check_pattern(0)
        usb.plug("1-3", 4, "Fake Stick")
        pattern = (fake_monitor.pixel(160, 30) & 0xffffff).to_bytes(3, "big")
        until("a notice", lambda: desktop.pixel(642, 122) != pattern)
        if os.environ.get("RINGSIDE_SCREENSHOTS"):
            screenshot(os.environ["RINGSIDE_SCREENSHOTS"] + "/viewer-news.png")
        until("the picture", lambda: desktop.pixel(642, 122) == pattern)
        desktop.check_pattern(0)


def killed():
    with Viewer() as desktop:
        app = desktop.open()
        desktop.enter()
        sh("xdotool", "keydown", "a")
        os.kill(desktop.pids()[0], signal.SIGKILL)
        sh("xdotool", "keyup", "a")
        until("the viewer to be gone", lambda: not desktop.pids())
        until("the console", lambda: app.look("Guest screen"))
        assert desktop.monitors(), "the machine is gone"
        desktop.enter()
        subprocess.run([RINGCTL, "stop", "--force", "test"], check=True, capture_output=True)
        until("the viewer to end with its machine", lambda: not desktop.pids())


def without_sdl():
    with Viewer(SDL_VIDEODRIVER="none", FAKE_RESIZE="1") as desktop:
        app = desktop.open()
        desktop.expect_place()
        window = desktop.sizes()[-1]
        app.press("Full Screen")
        until("GTK's full screen", lambda: "_NET_WM_STATE_FULLSCREEN" in sh(
            "xprop", "-id", sh("xdotool", "getactivewindow"), "_NET_WM_STATE"))
        until("the monitor's size", lambda: desktop.sizes()[-1] == SIZE)
        key("ctrl+alt")
        app.press("Leave Full Screen")
        until("the window's size", lambda: desktop.sizes()[-1] == window)


def alone():
    with Viewer() as desktop:
        desktop.app = None
        program = os.path.join(os.path.dirname(PROGRAM), "viewer/ringside-viewer")
        wrong = subprocess.run([program, "nobody"], env=desktop.env, capture_output=True, text=True)
        assert wrong.returncode == 1 and 'There is no machine "nobody"' in wrong.stderr, wrong.stderr
        refused = subprocess.run([program, "Test"], env=dict(desktop.env, FAKE_FAIL="There is no disk."), capture_output=True,
                                 text=True, timeout=20)
        assert refused.returncode == 1 and "There is no disk." in refused.stderr, refused
        viewer = desktop.run([program, "Test"])  # starts the machine, too
        desktop.pids = lambda: [viewer.pid]
        until("the viewer", desktop.window)
        time.sleep(NOTICE + .5)
        desktop.check_pattern(0)
        viewer.send_signal(signal.SIGTERM)
        assert viewer.wait(5) == 0
        assert desktop.monitors(), "the machine ended with its viewer"


def usb_rules_alone():
    """Of a machine that the viewer starts: what is there, what comes, and what comes when the viewer has been left."""
    with viewer_with_usb(rule="connect=4321:5678") as (desktop, usb):
        usb.plug("1-1", 2, "Fake Stick")
        usb.plug("1-2", 3, "Fake Camera", idVendor="4321")
        viewer = desktop.run([os.path.join(os.path.dirname(PROGRAM), "viewer/ringside-viewer"), "Test"])
        desktop.expect_event("AttachUsb 001/003 1-2 Fake Camera 17185 22136 S-3")
        usb.plug("1-3", 4, "Fake Camera", idVendor="4321")
        desktop.expect_event("AttachUsb 001/004 1-3 Fake Camera 17185 22136 S-4")
        viewer.send_signal(signal.SIGTERM)
        assert viewer.wait(5) == 0
        usb.plug("1-4", 5, "Fake Camera", idVendor="4321")
        desktop.expect_event("AttachUsb 001/005 1-4 Fake Camera 17185 22136 S-5")
        assert not [e for e in desktop.events() if "Stick" in e], desktop.events()


def alone_gives_the_size_back():
    """To a guest that ran before and has followed; one that the viewer started keeps the monitor's."""
    with Viewer(FAKE_RESIZE="1") as desktop:
        program = os.path.join(os.path.dirname(PROGRAM), "viewer/ringside-viewer")
        for expected in ([SIZE], [SIZE, (fake_monitor.WIDTH, fake_monitor.HEIGHT)]):
            desktop.clear()
            viewer = desktop.run([program, "Test"])
            desktop.pids = lambda: [viewer.pid]
            until("the viewer", desktop.window)
            until("the monitor's size", lambda: desktop.sizes() == [SIZE])
            sh("xdotool", "mousemove", "640", "400")
            until("the guest's pixels", lambda: desktop.pixel(1279, 799) == (fake_monitor.tile(1279, 799) & 0xffffff).to_bytes(3, "big"))
            viewer.send_signal(signal.SIGTERM)
            assert viewer.wait(5) == 0
            assert desktop.sizes() == expected, desktop.sizes()
            subprocess.run([RINGCTL, "reset", "test"], check=True, capture_output=True)


def pads_tell(desktop):
    return [e for e in desktop.events() if "Pad " in e]


def game_controllers():
    """SDL's virtual ones are pads in the machine while they are there, and at rest while the viewer has no keyboard."""
    with Viewer(FAKE_PADS="2") as desktop:
        desktop.app, fifo = None, desktop.home + "/pads"
        os.mkfifo(fifo)
        env = dict(desktop.env, VIRTUAL_PAD=fifo, LD_PRELOAD=os.path.join(os.path.dirname(PROGRAM), "../tests/ui/libvirtual_pad.so"))
        viewer = subprocess.Popen([os.path.join(os.path.dirname(PROGRAM), "viewer/ringside-viewer"), "Test"], env=env)
        desktop.processes.append(viewer)
        desktop.pids = lambda: [viewer.pid]
        until("the viewer", desktop.window)
        pads = open(fifo, "w", buffering=1)

        def state(buttons=0, hat=0, axes="0 0 0 0 0 0", pad=0):
            until(f"pad {pad} at {buttons} {hat} {axes}", lambda: desktop.events()[-1] == f"SetPad {pad} {buttons} {hat} {axes}")

        def press(button, down=1, pad=0):
            print("button", pad, button, down, file=pads)
        print("plug", file=pads)
        desktop.expect_event("PlugPad")
        # By place: A, B, X, Y, back, guide, start, sticks, shoulders are Linux's south, east, west, north ...
        for button, bit in enumerate((0, 1, 4, 3, 10, 12, 11, 13, 14, 6, 7)):
            press(button)
            state(1 << bit)
            press(button, 0)
            state()
        for buttons, hat in (((11,), 1), ((11, 14), 2), ((14,), 3), ((12, 14), 4), ((12,), 5), ((12, 13), 6), ((13,), 7), ((11, 13), 8)):
            for button in buttons:
                press(button)
            state(hat=hat)
            for button in buttons:
                press(button, 0)
            state()
        print("axis 0 0 -32768\naxis 0 1 32767\naxis 0 2 100\naxis 0 3 -100\naxis 0 4 32767\naxis 0 5 -32768", file=pads)
        state(axes="-32768 32767 100 -100 32767 0")
        # What comes at once is told one by one.
        desktop.clear()
        print("".join("button 0 0 1\nbutton 0 0 0\n" for _ in range(5)), end="", file=pads)
        until("five presses", lambda: [e.split()[2] for e in pads_tell(desktop)] == ["1", "0"] * 5)
        # In the bar it is at rest, and afterwards what it is then.
        press(0)
        state(1, axes="-32768 32767 100 -100 32767 0")
        desktop.clear()
        key("ctrl+alt")
        until("the bar", desktop.bar_shown)
        desktop.expect_event("ReleaseAll")
        print("axis 0 1 5", file=pads)
        press(1)
        time.sleep(1)
        assert not pads_tell(desktop), desktop.events()
        key("Escape")
        state(3, axes="-32768 5 100 -100 32767 0")
        # A second one, a third that is refused, and one that goes.
        print("plug", file=pads)
        until("the second", lambda: desktop.events().count("PlugPad") == 1)
        press(3, pad=1)
        state(8, pad=1)
        desktop.clear()
        print("plug", file=pads)
        desktop.expect_event("PlugPad")
        press(3, pad=2)
        press(3, 0, pad=1)
        state(pad=1)
        assert len(pads_tell(desktop)) == 1, desktop.events()
        print("unplug 0", file=pads)
        desktop.expect_event("UnplugPad 0")
        press(2, pad=0)  # the second is now the first
        state(16, pad=1)
        viewer.send_signal(signal.SIGTERM)
        assert viewer.wait(5) == 0
        desktop.expect_event("UnplugPad 1")


everything = [shows_the_screen, original_size, keys_and_leaving, minimized, relative_pointer, absolute_pointer_and_edge, guest_cursor, drawn_cursor,
              size_of_the_monitor, usb_in_the_bar, tells_what_is_plugged_in, game_controllers, killed, without_sdl, alone, usb_rules_alone, alone_gives_the_size_back]
run_cases(*[case for case in everything if case.__name__ in sys.argv[3:] or not sys.argv[3:]])
