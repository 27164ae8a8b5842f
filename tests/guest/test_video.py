# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel with its virtio_gpu driver: the console on the screen, through a suspend, in the size that a client asks
for; GRUB's menu by the VGA BIOS of the same adapter."""
import images
from harness import Skip, check, main, test, wait

WORDS = "console=ttyS0 quiet do=%s"


def guest(bench, do):
    serial = bench.path("serial")
    m = bench.machine(kernel=images.vmlinux(), initrd=images.video_initramfs(), memory="256M",
                      append=WORDS % do, serial=serial, video="virtio")
    m.start()
    return m, serial


def said(serial, words, seconds=20):
    def seen():
        with open(serial, errors="replace") as file:
            return words in file.read()
    wait(seen, seconds, "%r on the serial port" % words)


def set_size(bench, m, width, height):
    """What the window does; returns the error's sentence when it was refused."""
    try:
        from gi.repository import Gio, GLib
    except ImportError:
        raise Skip("python3-gi is not installed")
    bus = Gio.DBusConnection.new_for_address_sync(
        "unix:path=" + bench.path("run/ringside", m.name + ".sock"),
        Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)
    try:
        bus.call_sync(None, "/org/ringside/Screen/0", "org.ringside.Monitor1.Screen", "SetSize",
                      GLib.Variant("(uu)", (width, height)), None, Gio.DBusCallFlags.NONE, 10000, None)
    except GLib.Error as error:
        return error.message
    finally:
        bus.close_sync(None)
    return None


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
    refusal = set_size(bench, m, 1000, 700)
    check(refusal is None, "SetSize was refused: %s" % refusal)
    said(serial, "MODE 1000x700")
    check("1 to 8192" in (set_size(bench, m, 0, 700) or ""), "a width of 0 was taken")


@test
def standard_vga_cannot_change_its_size(bench):
    m = bench.machine(memory="64M", iso=images.grub_rescue())
    m.start()
    check("video=virtio" in (set_size(bench, m, 1000, 700) or ""), "no sentence says why not")


@test
def grub_shows_its_menu(bench):
    m = bench.machine(memory="128M", iso=images.grub_rescue(), video="virtio")
    m.start()
    m.wait_text(["GNU GRUB", "GNU/Linux"], 30)


main()
