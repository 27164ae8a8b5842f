# SPDX-License-Identifier: GPL-2.0-or-later
"""USB: what Linux and SeaBIOS make of the controller and of the emulated devices."""
import hashlib
import os
import re
import shutil
import struct
import time

import images
from harness import MONITOR, Failure, Skip, check, main, mount_small, note, run, test, unmount, wait

EV_KEY, EV_REL, EV_ABS = 1, 2, 3


def usb_disk(bench, mib):
    path = bench.path("stick.img")
    with open(path, "wb") as disk:
        disk.truncate(mib << 20)
    return path


def kernel(do):
    return ["--kernel", images.kernel(), "--initrd", images.usb_initramfs(),
            "--append", "console=ttyS0 quiet do=" + do, "--serial", "stdio", "--timeout", "240"]


def machine(bench, do, disk=None, **options):
    log = bench.path("serial.txt")
    m = bench.machine(kernel=images.kernel(), initrd=images.usb_initramfs(), serial=log,
                      append="console=ttyS0 quiet do=" + do, memory="256M", **options)
    if disk:
        m.do("disk", "--add", disk, "--usb")

    def serial():
        return open(log, errors="replace").read() if os.path.exists(log) else ""
    return m, serial


@test
def linux_finds_hub_keyboard_tablet_and_disk(bench):
    out = run(MONITOR, *kernel("look"), "--usb-hub", "--usb-keyboard", "--usb-disk", usb_disk(bench, 8))
    for line in ("1-1 480 USB hub", "1-1.1 480 Tablet", "1-1.2 480 Keyboard", "2-1 5000 USB disk"):
        check("USB " + line in out, "%s is not there: %s" % (line, out))
    check(re.search(r"INPUT event\d+ Ringside Tablet", out), "the tablet is no input device: " + out)
    check(re.search(r"INPUT event\d+ Ringside Keyboard", out), "the keyboard is none: " + out)


@test
def disk_is_written_and_read(bench):
    disk = usb_disk(bench, 128)
    out = bench.ringctl("run", *kernel("disk mib=96"), "--memory", "512M", "--usb-disk", disk).stdout
    check("SAME" in out, "what was read is not what was written: " + out)
    with open(disk, "rb") as data:
        want = hashlib.md5(data.read(96 << 20)).hexdigest()
    check("SUM " + want in out, "the image has not what the guest wrote")
    a, b, c = map(float, re.search(r"TIMES (\S+) (\S+) (\S+)", out).groups())
    note("wrote %.0f MB/s, read %.0f MB/s" % (100.7 / max(b - a, 0.01), 100.7 / max(c - b, 0.01)))


@test
def copy_survives_suspends(bench):
    disk = usb_disk(bench, 512)
    m, serial = machine(bench, "copy rounds=40", disk)
    m.start()
    wait(lambda: "COPY 2" in serial(), 60, "the guest to copy")
    seen = serial()
    for n in range(4):
        time.sleep(0.3 + 0.13 * n)
        m.do("suspend")
        seen += serial() if n else ""
        m.start()
    wait(lambda: m.state() == "off", 120, "the guest to finish")
    seen += serial()
    check("COPIED bad=0" in seen and "WRITE ERROR" not in seen, "the copies are not right: " + seen[-600:])


@test
def full_host_disk_loses_nothing(bench):
    small = mount_small(bench, 24)
    try:
        disk = small + "/stick.img"
        with open(disk, "wb") as out:
            out.truncate(128 << 20)
        m, serial = machine(bench, "copy rounds=6", disk)
        m.start()
        m.wait_state("io-error", 60)
        check(disk in m.info()["state-message"], repr(m.info()))
        m.do("suspend")  # the guest's transfer is begun again afterwards
        seen = serial()
        run("mount", "-o", "remount,size=200m", small)
        m.start()
        m.wait_state("off", 60)
        seen += serial()
        check("COPIED bad=0" in seen and "WRITE ERROR" not in seen, "data was lost: " + seen[-600:])
    finally:
        unmount(bench, small)


def events(serial):
    """(type, code, value) of what the guest's kernel told."""
    return [struct.unpack("<16xHHi", bytes.fromhex(line))
            for line in re.findall(r"^([0-9a-f]{48})\r?$", serial, re.M)]


@test
def tablet_is_the_pointer_while_it_is_used(bench):
    m, serial = machine(bench, "events name=Tablet")
    m.start()
    m.do("mouse", "--to", "1", "1", status=3)  # nobody drives it yet
    wait(lambda: "LISTENING" in serial(), 60, "the guest to listen")
    m.do("mouse", "--to", "16000", "9000")
    # Places that the guest has not fetched yet give way to later ones.
    wait(lambda: (EV_ABS, 1, 9000) in events(serial()), 20, "the first place")
    m.do("mouse", "--click", "--to", "32767", "0")
    wait(lambda: (EV_KEY, 0x110, 0) in events(serial()), 20, "a click")
    told = events(serial())
    for event in ((EV_ABS, 0, 16000), (EV_ABS, 1, 9000), (EV_ABS, 0, 32767), (EV_ABS, 1, 0), (EV_KEY, 0x110, 1)):
        check(event in told, "%s was not told: %s" % (event, told))
    m.do("suspend")
    m.start()
    wait(lambda: m.do("mouse", "--to", "123", "456", status=None).returncode == 0, 20, "the tablet again")
    wait(lambda: (EV_ABS, 0, 123) in events(serial()), 20, "a place after going on")


@test
def tablet_wakes_its_port(bench):
    m, serial = machine(bench, "asleep name=Tablet")
    m.start()
    wait(lambda: "LISTENING" in serial() and "NOW suspended" in serial(), 60, "the tablet to sleep")
    m.do("mouse", "--to", "1234", "4321")
    wait(lambda: (EV_ABS, 0, 1234) in events(serial()), 20, "a place")
    check(not events(serial().split("NOW suspended", 1)[0]), "it did not sleep: " + serial())


class Pads:
    """A client of the machine's control socket with game pads."""

    def __init__(self, m):
        try:
            from gi.repository import Gio, GLib
        except ImportError:
            raise Skip("python3-gi is not installed")
        self.glib = GLib
        self.bus = Gio.DBusConnection.new_for_address_sync(
            "unix:path=" + m.bench.path("run/ringside", m.name + ".sock"),
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)

    def call(self, method, types="()", *arguments):
        return self.bus.call_sync(None, "/org/ringside/Input", "org.ringside.Monitor1.Input", method,
                                  self.glib.Variant(types, arguments), None, 0, -1, None).unpack()

    def plug(self):
        return self.call("PlugPad")[0]

    def set(self, pad, buttons=0, hat=0, axes=(0, 0, 0, 0, 0, 0)):
        self.call("SetPad", "(uuunnnnnn)", pad, buttons, hat, *axes)

    def close(self):
        self.bus.close_sync(None)


def plug_pad(m, serial):
    """A pad that the guest listens to: the pads, its number, and how much the guest had said."""
    def lines():
        return len(re.findall(r"PAD key=\S+ abs=\S+\r?\n", serial()))
    pads, before = Pads(m), lines()
    pad = pads.plug()
    try:
        wait(lambda: lines() > before, 60, "a pad in the guest")
    except Failure:
        note(serial()[-1500:])
        raise
    return pads, pad, len(serial())


@test
def game_pads_come_and_go(bench):
    m, serial = machine(bench, "pad")
    m.start()
    pads, pad, said = plug_pad(m, serial)
    # BTN_SOUTH, EAST, NORTH, WEST, TL, TR, SELECT, START, MODE, THUMBL, THUMBR; X to RZ and the hat.
    key, axes = re.search(r"PAD key=(\S+) abs=(\S+)", serial()).groups()
    check((key, axes) == ("7cdb000000000000", "3003f"), "the pad has %s, %s" % (key, axes))
    buttons, hats = [0, 1, 3, 4, 6, 7, 10, 11, 12, 13, 14], []
    for state in [{"buttons": 1 << bit} for bit in buttons] + [{"hat": hat} for hat in range(1, 9)] + [{}]:
        pads.set(pad, **state)
        time.sleep(0.05)  # the serial line is slow, and evdev's queue short
    pads.set(pad, axes=(-32768, 32767, 20000, -20000, 32767, 16000))
    wait(lambda: (EV_ABS, 5, 16000) in events(serial()[said:]), 20, "the right trigger")
    told = events(serial()[said:])
    down = [code - 0x130 for kind, code, value in told if kind == EV_KEY and value == 1]
    check(down == buttons, "the buttons were %s" % down)
    x = y = 0
    for kind, code, value in told:
        x, y = (value if (kind, code) == (EV_ABS, 16) else x), (value if (kind, code) == (EV_ABS, 17) else y)
        if kind == 0 and (hats or [(0, 0)])[-1] != (x, y):
            hats.append((x, y))
    check(hats == [(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, 0)], "the hat was %s" % hats)
    for code, value in ((0, -32768), (1, 32767), (2, 32767), (3, 20000), (4, -20000)):
        check((EV_ABS, code, value) in told, "axis %d is not at %d: %s" % (code, value, told))
    # It leaves with its client, and another one comes.
    pads.close()
    wait(lambda: "GONE" in serial(), 20, "the pad to go")
    pads, pad, said = plug_pad(m, serial)
    pads.set(pad, buttons=2)
    wait(lambda: (EV_KEY, 0x131, 1) in events(serial()[said:]), 20, "its button")
    # A machine that goes on without its player has no pad; with one it has one again.
    m.do("suspend")
    m.start()
    wait(lambda: "GONE" in serial(), 20, "the guest to see that its pad is gone")
    pads, pad, said = plug_pad(m, serial)
    pads.set(pad, buttons=1)
    wait(lambda: (EV_KEY, 0x130, 1) in events(serial()[said:]), 20, "a button after going on")
    m.do("stop", "--force")
    check("game pad 0 is unplugged" in m.log(), m.log())


@test
def keyboard_types(bench):
    log = bench.path("typed.txt")
    m, serial = machine(bench, "events name=Ringside.Keyboard")
    settings = os.path.join(m.folder, "machine.ini")
    text = open(settings).read()
    check("usb-keyboard=false" in text, "there is no such setting")
    open(settings, "w").write(text.replace("usb-keyboard=false", "usb-keyboard=true"))
    m.start()
    wait(lambda: "LISTENING" in serial(), 60, "the guest to listen")
    time.sleep(1)
    m.type("aZ")
    wait(lambda: (EV_KEY, 44, 0) in events(serial()), 20, "keys")
    keys = [(code, value) for kind, code, value in events(serial()) if kind == EV_KEY]
    check(keys == [(30, 1), (30, 0), (42, 1), (44, 1), (44, 0), (42, 0)], "the keys were %s" % keys)


@test
def idle_guest_stays_idle(bench):
    m, serial = machine(bench, "events name=Tablet")
    m.start()
    wait(lambda: "LISTENING" in serial(), 60, "the guest to listen")
    time.sleep(2)

    def ticks():
        fields = open("/proc/%d/stat" % m.pid()).read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before = ticks()
    time.sleep(5)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") * 20
    note("an idle guest uses %.1f %% of a core" % used)
    check(used < 2, "an idle guest uses %.1f %% of a core" % used)


@test
def seabios_boots_from_usb_with_a_usb_keyboard(bench):
    stick = bench.path("grub.img")
    shutil.copy(images.grub_rescue(), stick)
    m = bench.machine(memory="128M")
    m.do("disk", "--add", stick, "--usb")
    settings = os.path.join(m.folder, "machine.ini")
    text = open(settings).read()
    open(settings, "w").write(text.replace("usb-keyboard=false", "usb-keyboard=true"))
    m.start()
    m.wait_text(["GNU GRUB", "GNU/Linux"], 30)
    m.key("c")
    m.wait_text("grub>", 15)
    m.type("ls\\n")
    text = m.wait_text("(hd0", 15)
    check("grub> ls" in text, "ls is not as typed:\n" + text)
    m.do("stop", "--force")


main()
