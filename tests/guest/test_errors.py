# SPDX-License-Identifier: GPL-2.0-or-later
"""What users get to read when something is wrong, and that nothing is lost."""
import os
import re
import time

import images
from harness import check, main, mount_small, need, note, run, test, unmount, wait


@test
def disk_full_pauses_and_goes_on(bench):
    need("qemu-img")
    small = mount_small(bench, 80)
    try:
        disk, ballast = small + "/disk.qcow2", small + "/ballast"
        run("qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
        with open(ballast, "wb") as out:
            out.write(b"x" * (40 << 20))
        log = bench.path("serial.txt")
        m = bench.machine(kernel=images.kernel(), initrd=images.initramfs(), disk=disk, serial=log,
                          append="console=ttyS0 quiet do=fill", memory="256M")
        m.start()
        m.wait_state("io-error", 90)
        message = m.info()["state-message"]
        note(message)
        check(disk in message and "full" in message and "space" in message, "no remedy: " + message)
        m.do("resume")  # still full: it stops again
        m.wait_state("io-error", 30)
        os.unlink(ballast)
        run("mount", "-o", "remount,size=400m", small)
        m.do("resume")
        m.wait_state("off", 120)
        out = open(log, errors="replace").read()
        check("FILLED bad=0" in out and "WRITE ERROR" not in out, "data was lost:\n" + out[-800:])
        run("qemu-img", "check", disk)
    finally:
        unmount(bench, small)


def start_error(m, status=1):
    sentence = m.do("start", status=status).stderr.strip()
    note(sentence)
    check(sentence.count("\n") == 0, "more than a sentence")
    return sentence


@test
def damaged_qcow2_is_named(bench):
    m = bench.machine(disk_size="1G", memory="64M")
    disk = os.path.join(m.folder, "disk0.qcow2")
    with open(disk, "r+b") as data:
        data.seek(40)
        data.write(b"\xff" * 8)
    check("disk0.qcow2" in start_error(m), "the file is not named")
    check(m.state() == "off", "state " + m.state())


@test
def wrong_setting_is_named_with_its_line(bench):
    m = bench.machine(memory="64M")
    ini = os.path.join(m.folder, "machine.ini")
    text = open(ini).read().replace("memory=64", "memory=12x")
    open(ini, "w").write(text)
    sentence = start_error(m)
    check("machine.ini" in sentence and "line" in sentence and "12x" in sentence, sentence)


@test
def missing_disk_is_named(bench):
    m = bench.machine(disk_size="1G", memory="64M")
    os.unlink(os.path.join(m.folder, "disk0.qcow2"))
    check("disk0.qcow2" in start_error(m), "the file is not named")


@test
def second_start_says_who_runs_it(bench):
    m = bench.machine(memory="64M")
    m.start()
    check("already running" in start_error(m, status=3), "not told")
    m.do("stop", "--force")


@test
def damaged_state_file_is_kept(bench):
    m = bench.machine(iso=images.grub_rescue(), memory="64M")
    m.start()
    m.wait_text("GNU GRUB", 30)
    m.do("suspend")
    state = os.path.join(m.folder, "suspend.state")
    size = os.path.getsize(state)
    with open(state, "r+b") as data:
        data.seek(size // 2)
        byte = data.read(1)
        data.seek(size // 2)
        data.write(bytes([byte[0] ^ 0x55]))
    check("suspend.state" in start_error(m), "the file is not named")
    check(os.path.getsize(state) == size, "the state file was changed")
    with open(state, "r+b") as data:
        data.truncate(size // 3)
    start_error(m)
    with open(state, "wb") as data:
        data.write(b"hello")
    start_error(m)
    check(m.state() == "suspended", "state " + m.state())
    m.do("stop", "--force")
    check(m.state() == "off", "the damaged state could not be given up")
    m.start()
    m.wait_text("GNU GRUB", 30)


def pool_file(m):
    folder = "/proc/%d/fd/" % m.pid()
    return next(folder + n for n in os.listdir(folder)
                if "memfd:ringside-ram" in os.readlink(folder + n))


@test
def host_out_of_memory_pauses_the_machine(bench):
    log = bench.path("serial.txt")
    m = bench.machine(kernel=images.kernel(), initrd=images.initramfs(), serial=log, memory="1G",
                      append="console=ttyS0 quiet mem=512M do=far-memory")
    m.start()
    wait(lambda: os.path.exists(log) and "WAITING" in open(log).read(), 60, "the guest to be up")
    # No page behind the file's end can be had, as when the host has none.
    pool = pool_file(m)
    size = os.stat(pool).st_size
    os.truncate(pool, 600 << 20)
    m.wait_state("io-error", 30)
    check("no memory left" in m.info()["state-message"], repr(m.info()))
    check("no memory left" in m.log(), "the log does not say it")
    os.truncate(pool, size)
    m.do("resume")
    wait(lambda: "TOUCHED" in open(log).read(), 30, "the guest to go on")
    check("TOUCHED bad=0" in open(log).read(), "memory was lost")
    m.wait_state("off", 30)


@test
def more_memory_than_the_host_has_is_refused(bench):
    total = int(re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read())[1]) >> 10
    swap = int(re.search(r"SwapTotal:\s*(\d+)", open("/proc/meminfo").read())[1]) >> 10
    m = bench.machine(memory="%dM" % (total + swap + 1024))
    sentence = start_error(m)
    check("MiB is more than" in sentence and "less memory" in sentence, sentence)


@test
def killed_monitor_is_seen_and_the_machine_starts_again(bench):
    m = bench.machine(iso=images.grub_rescue(), memory="64M")
    m.start()
    m.wait_text("GNU GRUB", 30)
    m.kill()
    m.start()
    m.wait_text("GNU GRUB", 30)


@test
def sigterm_powers_off_and_removes_the_socket(bench):
    m = bench.machine(disk_size="1G", memory="64M")
    m.start()
    os.kill(m.pid(), 15)
    m.wait_state("off", 20)
    check(not os.listdir(bench.path("run/ringside")), "the socket is still there")


@test
def idle_guest_costs_nothing(bench):
    log = bench.path("serial.txt")
    m = bench.machine(kernel=images.kernel(), initrd=images.initramfs(), serial=log, memory="256M",
                      append="console=ttyS0 quiet do=wait")
    m.start()
    wait(lambda: os.path.exists(log) and "WAITING" in open(log).read(), 60, "the guest to be idle")
    time.sleep(2)

    def ticks():
        fields = open("/proc/%d/stat" % m.pid()).read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before, seconds = ticks(), 10
    time.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds * 100
    status = open("/proc/%d/status" % m.pid()).read()
    anonymous = int(status.split("RssAnon:")[1].split()[0]) >> 10
    note("idle: %.2f%% of a core; memory of its own: %d MiB" % (used, anonymous))
    check(used < 2, "an idle guest takes %.1f%% of a core" % used)
    check(anonymous < 150, "the monitor's own memory is %d MiB" % anonymous)


main()
