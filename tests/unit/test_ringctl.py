# SPDX-License-Identifier: GPL-2.0-or-later
"""ringctl's commands, statuses and output, with machines that have nothing to boot from."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../guest"))
import harness
from harness import Skip, check, main, test


@test
def help_and_wrong_usage(bench):
    check("screenshot" in bench.ringctl("--help").stdout, "no help")
    for command in "list create disk start stop pause resume suspend reset delete info screenshot type " \
                   "key insert eject wait run doctor".split():
        check(command in bench.ringctl(command, "--help").stdout, "no help for " + command)
    bench.ringctl("dance", status=1)
    bench.ringctl("list", "--dance", status=1)
    bench.ringctl("start", status=1)


@test
def create_list_info_delete(bench):
    check(json.loads(bench.ringctl("list", "--json").stdout) == [], "the library is not empty")
    m = bench.machine('A "quoted" name', memory="96M", cpus=2, disk_size="3G", os="debian12")
    listed = json.loads(bench.ringctl("list", "--json").stdout)
    check(len(listed) == 1 and listed[0]["name"] == m.name and listed[0]["memory_mib"] == 96 and
          listed[0]["processors"] == 2 and listed[0]["state"] == "off", repr(listed))
    check(m.info()["disk0"] == "disk0.qcow2", repr(m.info()))
    check(os.path.exists(os.path.join(m.folder, "disk0.qcow2")), "there is no disk")
    m.do("delete", "--permanently")
    check(not os.path.exists(m.folder), "the folder is still there")
    m.do("info", status=2)


@test
def two_serial_ports(bench):
    first, second = bench.path("one.txt"), bench.path("two.txt")
    bench.ringctl("create", "m", "--memory", "64M", "--serial", first, "--serial", second)
    bench.ringctl("create", "n", "--memory", "64M", "--serial", "none", "--serial", "pty")
    bench.ringctl("create", "o", *["--serial", "pty"] * 3, status=1)
    for name in "mn":
        bench.ringctl("start", name)
    info = json.loads(bench.ringctl("info", "m", "--json").stdout)
    check((info["serial"], info["serial2"]) == (first, second), repr(info))
    info = json.loads(bench.ringctl("info", "n", "--json").stdout)
    check("serial" not in info and os.path.exists(info["serial2"]), repr(info))
    done = bench.ringctl("run", "--serial", "stdio", "--serial", "stdio", status=103)
    check("Only one" in done.stderr, done.stderr)


@test
def disks_are_added_and_removed(bench):
    m = bench.machine(memory="64M", disk_size="1G")
    image = bench.path("other.img")
    with open(image, "wb") as data:
        data.truncate(1 << 20)
    m.do("disk", "--new", "2G")
    m.do("disk", "--add", image)
    info = m.info()
    check((info["disk0"], info["disk1"], info["disk2"]) == ("disk0.qcow2", "disk1.qcow2", image), repr(info))
    check("already" in m.do("disk", "--add", image, status=1).stderr, "the same image twice")
    for wrong in (["--add", "/nowhere"], ["--new", "big"], ["--remove", "3"], ["--remove", "9"], [],
                  ["--new", "1G", "--remove", "0"]):
        m.do("disk", *wrong, status=1)
    first = os.path.join(m.folder, "disk0.qcow2")
    check(first in m.do("disk", "--remove", "0").stdout, "where the file is, is not said")
    check(os.path.exists(first), "the file of the removed disk is gone")
    check("disk0" not in m.info() and m.info()["disk1"] == "disk1.qcow2", repr(m.info()))
    m.do("disk", "--new", "1G")  # not over the file that was kept
    check(m.info()["disk0"] == "disk2.qcow2", repr(m.info()))
    m.do("disk", "--new", "1G")
    check("no place" in m.do("disk", "--new", "1G", status=1).stderr, "a fifth disk")
    check(not os.path.exists(os.path.join(m.folder, "disk4.qcow2")), "the disk without a place stayed")
    m.start()
    m.do("disk", "--remove", "1", status=3)
    m.do("suspend")
    m.do("disk", "--remove", "1", status=3)


@test
def captured_only_where_it_can_be(bench):
    """A file is emptied when packets go to it, and not before."""
    path, fifo = bench.path("packets.pcap"), bench.path("fifo")
    os.mkfifo(fifo)
    for network, status in (("none", 3), ("user", 0)):
        m = bench.machine(network, memory="64M", network=network)
        m.start()
        with open(path, "w") as file:
            file.write("what was there before, and is longer than the head of such a file")
        m.do("network", "--capture", path, status=status)
        check((os.path.getsize(path) == 24) == (status == 0), "%s: %d bytes" % (network, os.path.getsize(path)))
        m.do("network", "--capture", fifo, status=1)
        m.do("stop", "--force")


def host_flags():
    return open("/proc/cpuinfo").read().split("flags", 1)[1].split("\n", 1)[0].split()


@test
def doctor_says_what_is_missing(bench):
    done = bench.ringctl("doctor", status=None)
    check(done.returncode in (0, 5), "status %d: %s%s" % (done.returncode, done.stdout, done.stderr))
    check(("slow engine" in done.stdout) == (done.returncode == 5), done.stdout)
    bench.env["RINGSIDE_MONITOR"] = "/nowhere"
    done = bench.ringctl("doctor", status=1)
    check("NO   monitor" in done.stdout and "/nowhere" in done.stdout, done.stdout)
    bench.ringctl("doctor", "everything", status=1)


@test
def no_kvm_without_hardware(bench):
    if "vmx" in host_flags() or "svm" in host_flags():
        raise Skip("this processor has VT-x or AMD-V")
    done = bench.ringctl("run", "--engine", "kvm", "--timeout", "1", status=103)
    check("engine kvm cannot run" in done.stderr and "no VT-x or AMD-V" in done.stderr, done.stderr)
    if os.path.exists("/dev/kvm"):
        check("imitation" in done.stderr, done.stderr)
    m = bench.machine(memory="64M")
    before = m.info()["engine-reason"]
    m.start()
    info = m.info()
    check(info["engine-reason"] == before, "says something else before the start: " + before)
    check(info["engine"] == "translate" and "no VT-x or AMD-V" in info["engine-reason"], repr(info))
    check(info["engine-reason"] in bench.ringctl("doctor", status=5).stdout, "doctor says something else")


@test
def nothing_half_made_stays(bench):
    for wrong in (["--disk-size", "large"], ["--memory", "lots"], ["--iso", "/nowhere.iso"],
                  ["--cpus", "99"], ["--engine", "steam"]):
        done = bench.ringctl("create", "m", *wrong, status=1)
        check(done.stderr.count("\n") == 1, "not a sentence: " + done.stderr)
    library = bench.path("data/ringside/machines")
    check(not os.path.isdir(library) or os.listdir(library) == [], "something stayed behind")
    bench.machine("m", memory="64M")
    bench.ringctl("create", "m", status=1)


@test
def life_cycle(bench):
    m = bench.machine(memory="64M")
    m.do("pause", status=3)
    m.do("wait", "--timeout", "1")
    m.start()
    check(m.state() == "running", m.state())
    m.do("start", status=3)
    m.do("delete", status=3)
    m.do("pause")
    m.do("pause")
    check(m.state() == "paused", m.state())
    m.do("stop", status=3)
    m.do("wait", "--state", "running", "--timeout", "0.3", status=4)
    m.do("resume")
    m.do("reset")
    m.do("suspend")
    check(m.state() == "suspended", m.state())
    m.do("resume", status=3)
    m.start()
    check(m.state() == "running", m.state())
    m.do("stop", "--force")
    check(m.state() == "off", m.state())


@test
def suspended_state_can_be_given_up(bench):
    m = bench.machine(memory="64M")
    m.start()
    m.do("suspend")
    m.do("stop", "--force")
    check(m.state() == "off", m.state())


@test
def keys_and_text_are_checked_first(bench):
    m = bench.machine(memory="64M")
    m.do("type", "x", status=3)
    m.start()
    m.do("type", "Hello, World! ~{}|\\\\\\n\\t")
    m.do("type", "gr\u00fc\u00df", status=1)
    m.do("key", "ctrl-alt-delete", "f1", "shift-a", "9")
    m.do("key", "ctrl-nothing", status=1)


@test
def screenshot_is_a_png(bench):
    m = bench.machine(memory="64M")
    shot = bench.path("s.png")
    m.do("screenshot", shot, status=3)
    m.start()
    harness.wait(lambda: m.do("screenshot", shot, status=None).returncode == 0, 10, "a picture")
    check(open(shot, "rb").read(8) == b"\x89PNG\r\n\x1a\n", "no PNG")


@test
def discs_are_remembered(bench):
    m = bench.machine(memory="64M")
    disc = bench.path("disc.iso")
    open(disc, "wb").write(bytes(1 << 20))
    m.do("insert", disc)
    check(m.info()["cdrom"] == disc, repr(m.info()))
    m.start()
    check(m.info()["medium"] == disc, repr(m.info()))
    m.do("eject")
    check("medium" not in m.info() and "cdrom" not in m.info(), repr(m.info()))
    m.do("insert", disc)
    m.do("suspend")
    m.do("eject", status=3)
    m.start()
    check(m.info()["medium"] == disc, repr(m.info()))


@test
def truncated_disc_is_refused(bench):
    disc = bench.path("cut.iso")
    volume = bytearray(2048)
    volume[0:6] = b"\1CD001"
    volume[80:84] = (100000).to_bytes(4, "little")
    volume[128:130] = (2048).to_bytes(2, "little")
    end = b"\xffCD001".ljust(2048, b"\0")
    open(disc, "wb").write(bytes(0x8000) + bytes(volume) + end)
    m = bench.machine(memory="64M")
    m.start()
    done = m.do("insert", disc, status=1)
    check("cut off" in done.stderr, done.stderr)
    m.do("stop", "--force")
    m.do("insert", disc)
    done = m.do("start", status=1)
    check("cut off" in done.stderr, done.stderr)


main()
