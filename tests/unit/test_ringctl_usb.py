# SPDX-License-Identifier: GPL-2.0-or-later
"""ringctl usb on a computer whose devices are files (fake_usb.py): lists, refusals, rules. What happens with real devices is in
the testbed."""
import fcntl
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../guest"))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../ui"))
import fake_usb
from harness import MONITOR, Skip, check, main, test, wait


def computer(bench):
    """ringctl sees its devices, monitors do not."""
    if not fake_usb.is_possible():
        raise Skip("umockdev is not installed")
    usb = fake_usb.FakeUsb(bench.path("root"))
    usb.plug("1-1", 2, "Stick", driver="usb-storage", manufacturer="Maker")
    usb.plug("1-2", 3, "Keys", interface=(3, 1, 1), driver="usbhid")
    usb.plug("1-3", 4, "Pointer", interface=(3, 1, 2))
    usb.plug("1-4", 5, "Sockets", interface=(9, 0, 0), bDeviceClass="09")
    usb.plug("1-5", 6, "Boot disk", driver="uas", idVendor="abcd")
    usb.disk("1-5", "sdz", root_numbers())
    usb.plug("1-6", 7, "Serial \x1b[31m\u00fc\n", interface=(255, 0, 0), idVendor="0403", idProduct="6001", serial="A,B")
    bench.usb = usb
    return usb


def root_numbers():
    """Of a file system that is mounted."""
    for line in open("/proc/self/mountinfo"):
        if line.split()[4] == "/":
            return line.split()[2]


def usb(bench, *words, status=0):
    before = dict(bench.env)
    bench.env.update(bench.usb.env)
    done = bench.ringctl("usb", *words, status=status)
    bench.env.clear()
    bench.env.update(before)
    return done


@test
def devices_are_listed(bench):
    computer(bench)
    listed = {one["port"]: one for one in json.loads(usb(bench, "list", "--json").stdout)}
    check(len(listed) == 6 and listed["1-1"] == {
        "port": "1-1", "vendor": "1234", "product": "5678", "serial": "S-2", "name": "Maker Stick", "holder": "usb-storage",
        "machine": None, "refused": None}, repr(listed))
    check("\x1b" not in listed["1-6"]["name"] and "\u00fc" in listed["1-6"]["name"], repr(listed["1-6"]))
    check([port for port, one in sorted(listed.items()) if one["refused"]] == ["1-2", "1-3", "1-4", "1-5"], repr(listed))
    text = usb(bench, "list").stdout
    check("usb-storage" in text and "0403:6001" in text, text)
    check("no USB devices" in bench.ringctl("usb", "list").stdout or os.path.exists("/sys/bus/usb/devices"), "no list")


@test
def own_devices_are_refused(bench):
    computer(bench)
    m = bench.machine(memory="64M")
    usb(bench, "attach", m.name, "1-1", status=3)
    m.start()
    for port, word in (("1-2", "keyboard"), ("1-3", "mouse"), ("1-4", "hub"), ("1-5", "disk that this computer is using")):
        done = usb(bench, "attach", m.name, port, status=1)
        check(word in done.stderr and "--force" in done.stderr, done.stderr)
    for forced in (["1-1"], ["--force", "1-2"]):  # not refused; but these are files
        done = usb(bench, "attach", m.name, *forced, status=1)
        check("cannot be connected" in done.stderr, done.stderr)
    bench.usb.plug("1-7", 9, "Being reset", devnum="0", dev="189:8")  # it has no number just then, and the same node
    check("Being reset cannot be connected" in usb(bench, "attach", m.name, "1-7", status=1).stderr, "being reset")
    check("no USB device" in usb(bench, "attach", m.name, "1-9", status=1).stderr, "a device that is not there")
    check("more than one" in usb(bench, "attach", m.name, "1234:5678", status=1).stderr, "which one?")
    check("cannot be connected" in usb(bench, "attach", m.name, "0403:6001:A%2CB", status=1).stderr, "by serial number")
    usb(bench, "attach", m.name, "mouse", status=1)
    usb(bench, "detach", m.name, "1-1", status=3)
    check(m.state() == "running", m.state())


@test
def rules(bench):
    computer(bench)
    m = bench.machine(memory="64M")
    usb(bench, "rule", m.name, "--add", "1234:5678:S-2")
    usb(bench, "rule", m.name, "--add", "port:1-6")
    usb(bench, "rule", m.name, "--ignore", "abcd:5678")
    check(usb(bench, "rule", m.name).stdout.split("\n") == [
        "connect 1234:5678:S-2", "connect port:1-6", "ignore  abcd:5678", ""], usb(bench, "rule", m.name).stdout)
    usb(bench, "rule", m.name, "--remove", "port:1-6")
    usb(bench, "rule", m.name, "--remove", "port:1-6", status=1)
    for wrong in ("1234", "port:x", "1234:5678:a b"):
        usb(bench, "rule", m.name, "--add", wrong, status=1)
    check(usb(bench, "rule", m.name).stdout.count("\n") == 2, usb(bench, "rule", m.name).stdout)
    for wrong in (["dance"], ["list", "x"], ["attach", "m"], ["rule"], []):
        usb(bench, *wrong, status=1)


def in_the_computer(bench):
    """From now on ringctl starts monitors, and sees its devices meanwhile."""
    bench.env.update(bench.usb.env, RINGSIDE_MONITOR=bench.path("monitor"))
    with open(bench.path("monitor"), "w") as file:  # without the fake computer
        file.write("#!/bin/sh\nunset LD_PRELOAD UMOCKDEV_DIR\nexec %s \"$@\"\n" % MONITOR)
    os.chmod(bench.path("monitor"), 0o755)


@test
def the_start_connects(bench):
    computer(bench)
    m = bench.machine(memory="64M")
    usb(bench, "rule", m.name, "--add", "1234:5678")
    in_the_computer(bench)
    done = m.do("start")
    check("Maker Stick cannot be connected" in done.stderr, done.stderr)  # it is a file
    check("keyboard" in done.stderr and "Serial" not in done.stderr, done.stderr)
    check(m.state() == "running", m.state())


def is_watched(m):
    """Does a process carry out the machine's rules?"""
    folder = os.open(m.folder, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


@test
def what_is_plugged_in_later(bench):
    """The start leaves somebody who connects it, for as long as the machine runs and no longer. These devices are files: that
    somebody tried is in the log."""
    computer(bench)
    m = bench.machine(memory="64M")
    in_the_computer(bench)
    m.start()
    check(not is_watched(m), "somebody waits for devices that no rule names")
    m.do("stop", "--force")
    usb(bench, "rule", m.name, "--add", "aaaa:0001")
    for _ in range(2):
        m.start()
        check(is_watched(m), "nobody waits for devices")
        bench.usb.plug("2-1", 20, "Later", idVendor="aaaa", idProduct="0001")
        bench.usb.plug("2-2", 21, "Other", idVendor="bbbb", idProduct="0001")
        wait(lambda: "ringctl usb watch: Later cannot be connected" in m.log(), 10, "the device to be connected")
        # A rule of a moment ago counts; what was not connected is tried again.
        usb(bench, "rule", m.name, "--add", "cccc:0001")
        before = len(m.log())
        bench.usb.plug("2-3", 22, "Third", idVendor="cccc", idProduct="0001")
        wait(lambda: "watch: Third cannot" in m.log()[before:] and "watch: Later cannot" in m.log()[before:], 10, "the third device")
        check("Other" not in m.log() and "Stick" not in m.log(), m.log())
        usb(bench, "rule", m.name, "--remove", "cccc:0001")
        check("Another process" in m.bench.ringctl("usb", "watch", m.name, status=3).stderr, "there are two")
        m.do("stop", "--force")
        wait(lambda: not is_watched(m), 10, "the end of the waiting")
        for port, number in (("2-1", 20), ("2-2", 21), ("2-3", 22)):
            bench.usb.unplug(port, number)
        os.unlink(os.path.join(m.folder, "monitor.log"))
    # A first rule while it runs.
    usb(bench, "rule", m.name, "--remove", "aaaa:0001")
    m.start()
    check(not is_watched(m), "somebody waits")
    usb(bench, "rule", m.name, "--add", "aaaa:0001")
    check(is_watched(m), "nobody waits for the new rule's devices")
    m.do("stop", "--force")
    check("not running" in bench.ringctl("usb", "watch", m.name, status=3).stderr, "what does it watch?")


main()
