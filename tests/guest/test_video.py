# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel with its virtio_gpu driver: the console on the screen, through a suspend, in the size that a client asks
for; GRUB's menu by the VGA BIOS of the same adapter."""
import os
import re

try:
    from gi.repository import Gio, GLib
except ImportError:
    Gio = None

import images
from harness import Skip, check, main, test, wait

WORDS = "console=ttyS0 quiet do=%s"


def guest(bench, do, initrd=images.video_initramfs):
    serial = bench.path("serial")
    m = bench.machine(kernel=images.vmlinux(), initrd=initrd(), memory="256M",
                      append=WORDS % do, serial=serial, video="virtio")
    m.start()
    return m, serial


def said(serial, words, seconds=20):
    def seen():
        with open(serial, errors="replace") as file:
            return words in file.read()
    wait(seen, seconds, "%r on the serial port" % words)


SCREEN = ("/org/ringside/Screen/0", "org.ringside.Monitor1.Screen")


def connect(bench, m):
    """The machine's control socket, as the window has it."""
    if not Gio:
        raise Skip("python3-gi is not installed")
    return Gio.DBusConnection.new_for_address_sync(
        "unix:path=" + bench.path("run/ringside", m.name + ".sock"),
        Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)


def set_size(bench, m, width, height):
    """Returns the error's sentence when it was refused."""
    bus = connect(bench, m)
    try:
        bus.call_sync(None, *SCREEN, "SetSize", GLib.Variant("(uu)", (width, height)), None,
                      Gio.DBusCallFlags.NONE, 10000, None)
    except GLib.Error as error:
        return error.message
    finally:
        bus.close_sync(None)
    return None


def cursor_as_told(bench, m, place, visible=True):
    """Attaches and waits until the cursor is at `place`; returns its width, height, hot spot and pixels."""
    bus, told = connect(bench, m), {}

    def on_signal(connection, sender, path, interface, name, arguments, *unused):
        told[name] = arguments.unpack()
    bus.signal_subscribe(None, SCREEN[1], None, SCREEN[0], None, Gio.DBusSignalFlags.NONE, on_signal)
    try:
        bus.call_with_unix_fd_list_sync(None, *SCREEN, "Attach", None, None, Gio.DBusCallFlags.NONE, 10000, None, None)

        def there():
            while GLib.MainContext.default().iteration(False):
                pass
            return "Cursor" in told and told.get("CursorMoved") == (*place, visible)
        wait(there, 20, "the cursor at %s, %s" % place)
    finally:
        bus.close_sync(None)
    width, height, x, y, pixels = told["Cursor"]
    return width, height, (x, y), bytes(pixels)


@test
def console_is_on_the_screen_and_survives_a_suspend(bench):
    m, serial = guest(bench, "look")
    said(serial, "LOOKED")
    text = m.wait_text("HELLO CONSOLE", 10)
    picture = m.picture()
    check((picture.width, picture.height) == (1280, 800), "the screen is %dx%d" % (picture.width, picture.height))
    m.keep_picture("virtio-console")
    m.do("suspend")
    m.start()
    check(m.picture().differs(picture) < 500, "the picture is another after resuming")
    said(serial, "TICK 30", 40)
    check("HELLO CONSOLE" in m.wait_text("AGAIN HERE", 20), "the console lost its text:\n" + text)


@test
def size_is_the_one_that_is_asked_for(bench):
    m, serial = guest(bench, "size")
    said(serial, "MODE 1280x800")
    said(serial, "END")
    modes = re.search(r"MODES (.*) END", open(serial, errors="replace").read()).group(1).split()
    usual = ("640x480 720x400 800x600 848x480 960x720 1024x640 1024x768 1152x864 1280x720 1280x768 1280x800 1280x960 1280x1024 1360x768 "
             "1400x1050 1440x900 1600x900 1600x1200 1680x1050 1920x1080 1920x1200").split()
    check(not set(usual) - set(modes), "not among the modes: %s" % " ".join(sorted(set(usual) - set(modes))))
    refusal = set_size(bench, m, 1000, 700)
    check(refusal is None, "SetSize was refused: %s" % refusal)
    said(serial, "MODE 1000x700")
    check("1 to 8192" in (set_size(bench, m, 0, 700) or ""), "a width of 0 was taken")


# drm_show's tiles; its cursor: 64 x 64, upper half opaque orange, lower half transparent white.
CURSOR = (64, 64, (7, 11), bytes.fromhex("0080ffff") * 64 * 32 + bytes.fromhex("80808080") * 64 * 32)
TILES = (b"\x20\x40\xc0", b"\xc0\x40\x20")


@test
def cursor_is_the_guests_and_survives_a_suspend(bench):
    m, serial = guest(bench, "move")
    said(serial, "CURSOR")
    said(serial, "MOVED")
    check(cursor_as_told(bench, m, (140, 84)) == CURSOR, "the cursor is another one")
    picture = m.picture()
    check(picture.pixel(145, 90) in TILES, "the cursor is among the pixels")
    m.do("suspend")
    m.start()
    check(cursor_as_told(bench, m, (140, 84)) == CURSOR, "the cursor is another one after resuming")


@test
def desktop_takes_the_size_that_is_asked_for(bench):
    """A program that waits for the kernel's event, as desktops do."""
    m, serial = guest(bench, "show")
    said(serial, "SHOWN 1280x800")
    for width, height in ((1000, 700), (1366, 768), (640, 480), (3840, 2160)):
        set_size(bench, m, width, height)
        said(serial, "SHOWN %dx%d" % (width, height))
        picture = m.picture()
        check((picture.width, picture.height) == (width, height), "the screen is %dx%d" % (picture.width, picture.height))
        x, y = width - 1, height - 1
        check(picture.pixel(x, y) == TILES[(x // 16 + y // 16) % 2], "the last pixel is wrong")


@test
def standard_vga_cannot_change_its_size(bench):
    m = bench.machine(memory="64M", iso=images.grub_rescue())
    m.start()
    check("video=virtio" in (set_size(bench, m, 1000, 700) or ""), "no sentence says why not")


@test
def state_of_another_adapter_is_refused(bench):
    for then, now, device in (("vga", "virtio", "virtio-gpu"), ("virtio", "vga", "vga")):
        m = bench.machine("was-" + then, memory="64M", iso=images.grub_rescue(), video=then)
        m.start()
        m.wait_text("GNU GRUB", 30)
        m.do("suspend")
        settings = os.path.join(m.folder, "machine.ini")
        with open(settings) as file:
            kept = file.read()
        with open(settings, "w") as file:
            file.write(kept.replace("video=" + then, "video=" + now))
        sentence = m.do("start", status=1).stderr
        check("was suspended without the device %s," % device in sentence and "Set them back" in sentence, sentence)
        with open(settings, "w") as file:
            file.write(kept)
        m.start()
        m.wait_text("GNU GRUB", 30)
        m.do("stop", "--force")


@test
def grub_shows_its_menu(bench):
    m = bench.machine(memory="128M", iso=images.grub_rescue(), video="virtio")
    m.start()
    m.wait_text(["GNU GRUB", "GNU/Linux"], 30)


main()
