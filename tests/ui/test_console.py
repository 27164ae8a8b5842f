#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The console, with a stand-in for the monitor: pixels, keys, letting go of them, life cycle, closing, lies."""
import os
import subprocess
import sys
import time

import x_cursor
import x_mouse
from console import PROGRAM, Console, fake_monitor
from desktop import key, run_cases, sh, type_text, until

def check_pixels(desktop, shift):
    """The pattern, at a whole multiple, centred; each guest pixel is a square of one colour."""
    w, h, raw = desktop.screen_pixels()
    factor = min(w // fake_monitor.WIDTH, h // fake_monitor.HEIGHT)
    left, top = (w - fake_monitor.WIDTH * factor) // 2, (h - fake_monitor.HEIGHT * factor) // 2
    wrong = 0
    for y in range(0, fake_monitor.HEIGHT, 7):
        for x in range(0, fake_monitor.WIDTH, 3):
            expected = (fake_monitor.pixel(x, y, shift) & 0xffffff).to_bytes(3, "big")
            for dx, dy in ((0, 0), (factor - 1, factor - 1)):
                at = ((top + y * factor + dy) * w + left + x * factor + dx) * 3
                wrong += raw[at:at + 3] != expected
    assert wrong == 0, f"{wrong} wrong pixels at factor {factor}"


def pixels():
    with Console() as desktop:
        desktop.open()
        key("ctrl+alt")  # the keyboard back to the window
        key("ctrl+plus")
        time.sleep(1)
        check_pixels(desktop, 0)
        key("ctrl+r")
        desktop.app.press("Reset")
        desktop.expect_event("Reset")
        time.sleep(1)
        check_pixels(desktop, 255)


def keys():
    with Console() as desktop:
        app = desktop.open()
        type_text("a")
        desktop.expect_event("Key 30 1")
        desktop.expect_event("Key 30 0")
        # Accelerators of ours, of GTK and of the window manager go to the guest while it has the keyboard.
        key("ctrl+q", "F11", "F10", "Tab", "Escape", "Delete")
        for code in (29, 16, 87, 68, 15, 1, 111):
            desktop.expect_event(f"Key {code} 1")
            desktop.expect_event(f"Key {code} 0")
        # Focus loss lets go.
        desktop.clear()
        sh("xdotool", "keydown", "shift")
        desktop.expect_event("Key 42 1")
        app.click(app.find("Machine Menu", "push button"))
        desktop.expect_event("ReleaseAll")
        sh("xdotool", "keyup", "shift")
        key("Escape")
        desktop.clear()
        type_text("z")
        time.sleep(1)
        assert not [e for e in desktop.events() if e.startswith("Key")], desktop.events()
        # Another window takes the focus with a key down.
        app.click(desktop.screen)
        sh("xdotool", "keydown", "b")
        desktop.expect_event("Key 48 1")
        desktop.clear()
        other = sh("xdotool", "search", "--name", "^Ringside$").split()[-1]
        sh("xdotool", "windowactivate", "--sync", other)
        desktop.expect_event("ReleaseAll")
        sh("xdotool", "keyup", "b")


def chord_and_pointer():
    with Console() as desktop:
        app = desktop.open()
        app.expect("Press Ctrl+Alt to release the keyboard")
        app.click(desktop.screen)  # no absolute device: takes the pointer
        app.expect("Press Ctrl+Alt to release the pointer and the keyboard")
        desktop.clear()
        sh("xdotool", "mousemove_relative", "--", "30", "20")
        until("motion", lambda: any(e.startswith("PointerRelative") for e in desktop.events()))
        sh("xdotool", "click", "3")
        until("a right click", lambda: any(e.startswith("PointerRelative 0 0 0 2") for e in desktop.events()))
        # More than the desktop is wide: the pointer must not end at an edge.
        desktop.clear()

        def moved_on():
            sh("xdotool", *["mousemove_relative", "--", "40", "0", "sleep", "0.02"] * 4)
            return sum(int(e.split()[1]) for e in desktop.events() if e.startswith("PointerRelative")) > 1500
        until("the pointer to go on and on", moved_on, 60)
        key("ctrl+alt")
        app.expect("Click the screen to use it")
        desktop.expect_event("ReleaseAll")


def mouse_at_the_edge():
    """A mouse that is faster than we are, far beyond the screen: all of its way arrives, once."""
    with Console() as desktop:
        app = desktop.open()
        app.click(desktop.screen)
        app.expect("Press Ctrl+Alt to release the pointer and the keyboard")
        desktop.clear()
        x_mouse.move(desktop.env["DISPLAY"], 12, -700, 3)
        x_mouse.move(desktop.env["DISPLAY"], 12, 500, 0)

        def moved():
            moves = [e.split() for e in desktop.events() if e.startswith("PointerRelative")]
            return [sum(int(move[i]) for move in moves) for i in (1, 2)]
        until("all of the way", lambda: moved() == [-2400, 36])
        # The buttons are still the guest's, wherever the pointer has been.
        sh("xdotool", "click", "3")
        desktop.expect_event("PointerRelative 0 0 0 2")
        assert moved() == [-2400, 36], moved()
        key("ctrl+alt")
        app.expect("Click the screen to use it")


def engine():
    """The engine's name opens why it is this one."""
    with Console() as desktop:
        app = desktop.open()
        app.click(app.find("Engine: translator"))
        app.expect("A test <b>runs</b>")
        key("Escape")
        until("the reason to close", lambda: "A test <b>runs</b>" not in app.text())


def absolute():
    with Console(FAKE_ABSOLUTE="1") as desktop:
        desktop.open()
        x, y, w, h = desktop.app.box(desktop.screen)
        sh("xdotool", "mousemove", str(x + w // 2), str(y + h // 2), "click", "1")

        def middle():
            return [e for e in desktop.events() if e.startswith("PointerAbsolute") and e.endswith(" 1")
                    and all(abs(int(v) - 16383) < 200 for v in e.split()[1:3])]
        until("a click in the middle", middle)


def guest_cursor():
    """With a tablet the pointer looks like the guest's cursor, as large as the picture's pixels are."""
    with Console(FAKE_ABSOLUTE="1", FAKE_CURSOR="1") as desktop:
        desktop.open()
        x, y, w, h = desktop.app.box(desktop.screen)
        sh("xdotool", "mousemove", str(x + w // 2), str(y + h // 2))
        factor = min(w / fake_monitor.WIDTH, h / fake_monitor.HEIGHT)

        def is_the_guests():
            width, height, hot, pixels = x_cursor.shown(desktop.env["DISPLAY"])
            return (abs(width - fake_monitor.CURSOR * factor) <= 2 and abs(hot[0] / width - fake_monitor.HOT[0] / fake_monitor.CURSOR) < .1
                    and pixels[width * 2 + 2] == 0xffff8000 and pixels[width * (height - 3) + 2] == 0x80808080)
        until("the guest's cursor", is_the_guests)


def drawn_cursor():
    """Without a tablet it is drawn where the guest has it, over the pixels."""
    with Console(FAKE_CURSOR="1") as desktop:
        desktop.open()
        key("ctrl+alt")
        desktop.app.expect("Click the screen to use it")
        key("ctrl+plus")

        def drawn():
            w, h, raw = desktop.screen_pixels()
            factor = min(w // fake_monitor.WIDTH, h // fake_monitor.HEIGHT)
            left, top = (w - fake_monitor.WIDTH * factor) // 2, (h - fake_monitor.HEIGHT * factor) // 2

            def at(x, y):
                place = ((top + y * factor + factor // 2) * w + left + x * factor + factor // 2) * 3
                return raw[place:place + 3]

            def under(x, y):
                return (fake_monitor.pixel(x, y) & 0xffffff).to_bytes(3, "big")
            mixed = bytes(0x80 + c * 127 // 255 for c in under(108, 73))
            return (at(98, 60) == under(98, 60) and at(108, 58) == under(108, 58) and at(117, 60) == under(117, 60)
                    and at(101, 61) == at(114, 65) == b"\xff\x80\x00"
                    and all(abs(a - b) < 3 for a, b in zip(at(108, 73), mixed)))
        until("the guest's cursor", drawn)


def check_tiles(desktop):
    """The guest has the size that it was asked for: one pixel is one pixel of the screen."""
    def good():
        (width, height), (w, h, raw) = desktop.place_for_guest(), desktop.screen_pixels()
        left, top = (w - width) // 2, (h - height) // 2
        return left >= 0 and top >= 0 and all(
            raw[((top + y) * w + left + x) * 3:][:3] == (fake_monitor.tile(x, y) & 0xffffff).to_bytes(3, "big")
            for y in (*range(16, height - 16, 13), height - 1) for x in (*range(0, width, 5), width - 1))
    until("the guest's pixels", good)


def resize_guest():
    with Console(FAKE_RESIZE="1") as desktop:
        app = desktop.open()
        console = sh("xdotool", "getactivewindow")
        desktop.expect_place()
        check_tiles(desktop)
        first = desktop.place_for_guest()
        desktop.clear()
        sh("xdotool", "windowsize", console, "1100", "800")
        until("a larger place", lambda: desktop.place_for_guest()[0] > first[0])
        desktop.expect_place()
        check_tiles(desktop)
        # A mode of the guest's own is not answered, and neither is a pause, whose bar takes room.
        key("ctrl+alt")
        app.expect("Click the screen to use it")
        key("ctrl+r")
        desktop.clear()
        app.press("Reset")
        desktop.expect_event("Reset")
        app.press("Pause")
        app.expect("The machine is paused.")
        time.sleep(1)
        app.press("Resume")
        until("running again", lambda: "The machine is paused." not in app.text())
        time.sleep(1)
        assert not desktop.sizes(), desktop.events()
        # Switched off, and remembered.
        key("ctrl+g")
        sh("xdotool", "windowsize", console, "900", "700")
        until("a smaller place", lambda: desktop.place_for_guest()[0] < 1000)
        time.sleep(1)
        assert not desktop.sizes(), desktop.events()
        key("ctrl+g")
        desktop.expect_place()
        # Smaller than any guest likes, in the original size, which scrolls: no more than the smallest.
        key("ctrl+equal")
        sh("xdotool", "windowsize", console, "500", "400")
        until("the smallest size", lambda: desktop.sizes()[-1] == (640, 480))
        sh("xdotool", "windowsize", console, "1100", "800")
        until("a larger place", lambda: desktop.place_for_guest()[0] > first[0])
        desktop.expect_place()


def first_size(desktop, expected):
    until("the first size", desktop.sizes)
    time.sleep(1)
    assert desktop.sizes()[-1] == expected, desktop.sizes()


def new_window():
    """It has room for a usual mode."""
    with Console(FAKE_RESIZE="1") as desktop:
        desktop.open()
        first_size(desktop, (1024, 768))
        assert len(desktop.sizes()) == 1, desktop.sizes()
        check_tiles(desktop)


def new_window_of_a_running_guest():
    """It fits what the guest has."""
    with Console(FAKE_RESIZE="1", FAKE_SIZE="960x720") as desktop:
        ringctl = os.path.join(os.path.dirname(PROGRAM), "../app/ringctl")
        subprocess.run([ringctl, "start", "test"], env=desktop.env, check=True, capture_output=True)
        desktop.open()
        first_size(desktop, (960, 720))
        check_tiles(desktop)


def new_window_on_a_small_monitor():
    with Console("1000x800", FAKE_RESIZE="1") as desktop:
        desktop.open()
        first_size(desktop, (800, 600))


def resize_guest_hidpi():
    """Pixels of the monitor, not points."""
    with Console("2400x1800", FAKE_RESIZE="1", GDK_SCALE="2") as desktop:
        desktop.open()
        desktop.expect_place()
        assert desktop.sizes()[-1][0] > 1700, desktop.sizes()
        check_tiles(desktop)


def cannot_resize_guest():
    with Console() as desktop:
        app = desktop.open()
        key("ctrl+alt")
        app.expect("Click the screen to use it")
        key("ctrl+g")
        app.press("Machine Menu")
        app.find("Resize Guest to Window: Needs the Virtio Display")
        assert not app.look("Resize Guest to Window")
        assert not desktop.sizes()


def life():
    with Console() as desktop:
        app = desktop.open()
        key("ctrl+alt")
        app.press("Pause")
        desktop.expect_event("Pause")
        app.expect("The machine is paused.")
        app.press("Resume")
        desktop.expect_event("Resume")
        until("running", lambda: "The machine is paused." not in app.text() or None)
        app.press("Suspend")
        desktop.expect_event("Suspend")
        app.find("Suspended", "label")
        until("the monitor's end", lambda: not desktop.monitors())
        # On again, as after a new start of the front end.
        app.press("Resume")
        app.find("Guest screen")
        until("the monitor", desktop.monitors)


def found_again():
    """The front end dies; the machine goes on and is found; a dead monitor is told apart."""
    with Console() as desktop:
        desktop.open().process.kill()
        until("the front end's end", lambda: desktop.app.process.poll() is not None)
        pid = desktop.monitors()[0]
        app = desktop.start(PROGRAM)
        app.find("Running", "label")
        os.kill(pid, 9)
        app.find("Crashed", "label")


def closing():
    with Console() as desktop:
        app = desktop.open()
        key("ctrl+alt")
        key("ctrl+q")
        app.expect("Keep Machines Running?")
        app.press("Cancel")
        app.find("Guest screen")
        key("ctrl+q")
        app.press("Keep Running")
        assert app.process.wait(20) == 0
        assert desktop.monitors()
        app = desktop.start(PROGRAM)
        app.find("Running", "label")
        key("ctrl+q")
        app.press("Suspend")
        assert app.process.wait(20) == 0
        until("the monitor's end", lambda: not desktop.monitors())
        assert os.path.exists(desktop.folder + "/suspend.state")


def lies():
    """A screen that is larger than its memory is refused, and the front end lives."""
    with Console(FAKE_LIE="1") as desktop:
        app = desktop.open()
        time.sleep(2)
        app.find("Guest screen")
        assert "described a screen that cannot be" in app.log(), app.log()


def start_fails():
    with Console(FAKE_FAIL="The file /nix/firmware.bin is missing; install the package seabios") as desktop:
        app = desktop.start(PROGRAM)
        app.click(app.find("Test", "label"), repeat=2)
        app.expect("“Test” Did Not Start")
        app.expect("The file /nix/firmware.bin is missing; install the package seabios")


if __name__ == "__main__":
    everything = [pixels, keys, chord_and_pointer, mouse_at_the_edge, absolute, guest_cursor, drawn_cursor, resize_guest, new_window, new_window_of_a_running_guest,
                  new_window_on_a_small_monitor, resize_guest_hidpi,
                  cannot_resize_guest, life, found_again, engine, closing, lies,
                  start_fails]
    run_cases(*[case for case in everything if case.__name__ in sys.argv[3:] or not sys.argv[3:]])
