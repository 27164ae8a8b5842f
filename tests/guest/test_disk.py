# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 12 on a disk: GRUB, AHCI, systemd, login, power-off; suspended and killed on its way."""
import fcntl
import os
import re
import struct
import time

import images
from harness import check, main, need, note, run, test, wait


def overlay(bench):
    """A qcow2 copy, so that our own format carries the guest."""
    need("qemu-img")
    path = bench.path("debian.qcow2")
    run("qemu-img", "convert", "-U", "-O", "qcow2", images.debian_disk(), path)
    return path


def login(m):
    m.wait_text("login:", 240)
    m.type("root\\n")
    m.wait_text("Password:", 30)
    m.type("ringside\\n")
    m.wait_text("root@debian:~#", 60)


def check_clean(path):
    note(run("qemu-img", "check", path).strip().splitlines()[0])


def wait_unlocked(path):
    """Until no process has the image open for writing."""
    def free():
        with open(path, "r+b") as image:
            try:
                fcntl.fcntl(image, fcntl.F_OFD_SETLK,
                            struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            except BlockingIOError:
                return False
            return True
    wait(free, 10, "the image to be free")


def own_memory(pid):
    """What a monitor takes beside its guest's RAM, in MiB."""
    total, ram = 0, False
    with open("/proc/%d/smaps" % pid) as smaps:
        for line in smaps:
            words = line.split()
            if not words[0].endswith(":"):
                ram = "memfd:ringside-ram" in line
            elif words[0] == "Pss:" and not ram:
                total += int(words[1])
    return total >> 10


def boots(bench, cpus):
    disk = overlay(bench)
    m = bench.machine(disk=disk, memory="1G", cpus=cpus)
    m.start()
    login(m)
    m.type("nproc; uname -m; echo $((6*7)) > /root/answer; cat /root/answer\\n")
    text = m.wait_text(["x86_64", "42"], 30)
    check(re.search(r"^%d$" % cpus, text, re.M), "not %d processors:\n%s" % (cpus, text))
    memory = own_memory(m.pid())
    note("%d MiB beside the guest's RAM" % memory)
    check(memory < 150 or cpus > 1, "the monitor takes %d MiB of its own" % memory)
    m.keep_picture("debian-%d" % cpus)
    m.type("poweroff\\n")
    m.wait_state("off", 90)
    check_clean(disk)


@test
def debian_boots_to_login_and_powers_off(bench):
    boots(bench, 1)


@test
def debian_boots_with_two_processors(bench):
    boots(bench, 2)


@test
def power_button_shuts_debian_down(bench):
    m = bench.machine(disk=overlay(bench), memory="1G")
    m.start()
    m.wait_text("login:", 240)
    time.sleep(2)
    m.do("stop")
    m.wait_state("off", 90)


@test
def suspend_in_the_middle_of_the_boot(bench):
    disk = overlay(bench)
    m = bench.machine(disk=disk, memory="1G")
    for moment in (3, 4, 5, 6):
        m.start()
        time.sleep(moment)
        m.do("suspend")
        check(m.state() == "suspended", "state is " + m.state())
        state = os.path.join(m.folder, "suspend.state")
        note("suspended: %d MiB" % (os.path.getsize(state) >> 20))
    m.start()
    check(not os.path.exists(os.path.join(m.folder, "suspend.state")), "the state file is still there")
    login(m)
    m.type("poweroff\\n")
    m.wait_state("off", 90)
    check_clean(disk)


def serial_machine(bench, do, **options):
    log = bench.path("serial.txt")
    m = bench.machine(kernel=images.kernel(), initrd=images.initramfs(), serial=log,
                      append="console=ttyS0 quiet do=" + do, **options)

    def serial():
        return open(log, errors="replace").read() if os.path.exists(log) else ""
    return m, serial


@test
def memory_and_time_survive_many_suspends(bench):
    m, serial = serial_machine(bench, "count", memory="256M")
    m.start()
    wait(lambda: "COUNT 3" in serial(), 60, "the guest to count")
    seen = serial()
    for n in range(5):
        time.sleep(0.7)
        m.do("suspend")
        seen += serial() if n else ""
        m.start()
    wait(lambda: m.state() == "off", 120, "the guest to finish")
    check("MEMORY CHANGED" not in seen + serial(), "the guest's memory changed")
    check("COUNTED" in serial(), "the guest did not finish: " + serial()[-500:])


@test
def suspend_while_keys_are_typed(bench):
    m = bench.machine(iso=images.grub_rescue(), memory="128M")
    m.start()
    m.wait_text("GNU GRUB", 30)
    m.key("c")
    m.wait_text("grub>", 15)
    m.type("echo abcdefgh")
    m.do("suspend")
    m.start()
    m.type("ijklmnop\\n")
    text = m.wait_text("\nabcdefghijklmnop", 15)
    check("echo abcdefghijklmnop" in text, "keys were lost:\n" + text)


@test
def killed_while_writing_leaves_a_clean_disk(bench):
    need("qemu-img")
    for n in range(4):
        m, serial = serial_machine(bench, "write", memory="256M", disk_size="2G")
        m.start()
        wait(lambda: "WROTE 2" in serial(), 90, "the guest to write")
        time.sleep(0.3 * n)
        m.kill()
        disk = os.path.join(m.folder, "disk0.qcow2")
        synced = int(re.findall(r"WROTE (\d+)\r?\n", serial())[-1])
        wait_unlocked(disk)  # the scribe may have a step to complete
        check_clean(disk)
        raw = bench.path("raw")
        run("qemu-img", "convert", "-O", "raw", disk, raw)
        with open(raw, "rb") as data:
            for block in (1, synced):
                data.seek(block % 900 * 16 * 65536)
                want = b"block %d\n" % block
                check(data.read(len(want)) == want, "synced block %d is lost" % block)
        os.unlink(raw)
        m.start()
        m.do("stop", "--force")
        check_clean(disk)
        m.do("delete", "--permanently")


main()
