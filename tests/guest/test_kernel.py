# SPDX-License-Identifier: GPL-2.0-or-later
"""ringctl run with a kernel of Debian 12: to userspace, and every exit status."""
import os
import re

import images
from harness import check, main, test

SERIAL = ["--serial", "stdio", "--timeout", "240"]


def boot(bench, append, *options, status=0, kernel=None):
    return bench.ringctl("run", "--kernel", kernel or images.kernel(), "--initrd", images.initramfs(),
                         "--append", "console=ttyS0 quiet " + append, *SERIAL, *options,
                         status=status)


@test
def kernel_and_initramfs_to_userspace_and_power_off(bench):
    out = boot(bench, "").stdout
    check("USERSPACE" in out and "CPUS 1" in out, "no userspace: " + out)


@test
def debug_exit_gives_the_code(bench):
    boot(bench, "exit=20", "--debug-exit", status=20 << 1 | 1)


@test
def second_serial_port(bench):
    log = bench.path("second.txt")
    out = boot(bench, "do=second-port", "--serial", log).stdout
    check(re.search(r"00:\w+: ttyS1 at I/O 0x2f8 \(irq = 3\b.*16550A", out),
          "ACPI tells of no second port: " + out)
    written = open(log).read()
    check("HELLO FROM TTYS1" in written, "not in the second port's file: " + repr(written))
    check("HELLO FROM TTYS1" not in out, "it came out of the first port: " + out)


@test
def two_processors(bench):
    out = boot(bench, "", "--cpus", "2").stdout
    check("CPUS 2" in out, "not two CPUs: " + out)


@test
def pvh_vmlinux(bench):
    out = boot(bench, "", kernel=images.vmlinux()).stdout
    check("USERSPACE" in out, "no userspace: " + out)


@test
def reset_ends_with_no_reboot(bench):
    boot(bench, "do=reboot", "--no-reboot", status=100)


@test
def watchdog_resets_a_guest_that_hangs(bench):
    done = bench.ringctl("run", "--kernel", images.kernel(), "--initrd", images.watchdog_initramfs(),
                         "--append", "console=ttyS0 quiet", *SERIAL, "--no-reboot", status=100)
    check("ARMED iTCO_wdt 3" in done.stdout and "NOBODY" not in done.stdout, "no watchdog: " + done.stdout)
    check("watchdog: the guest has not answered" in done.stderr, "nobody said why: " + done.stderr)


@test
def triple_fault_is_told(bench):
    boot(bench, "do=reboot reboot=t", status=101)


@test
def time_out(bench):
    bench.ringctl("run", "--kernel", images.kernel(), "--timeout", "1", status=102)


@test
def failed_start(bench):
    done = bench.ringctl("run", "--kernel", "/nowhere", status=103)
    check("/nowhere" in done.stderr, "the file is not named: " + done.stderr)
    bench.ringctl("run", "--no-such-option", status=103)


@test
def screenshot(bench):
    shot = bench.path("s.png")
    bench.ringctl("run", "--kernel", images.kernel(), "--screenshot", shot, "--after", "2")
    check(os.path.getsize(shot) > 100, "no picture")


@test
def profile(bench):
    done = bench.ringctl("run", "--kernel", images.kernel(), "--engine", "translate", "--timeout", "2", "--profile", status=102)
    shares = {name.strip(): float(share) for share, name in re.findall(r"cpu 0: +([\d.]+)% (.*)", done.stderr)}
    check(shares.get("translated code", 0) > 5 and shares.get("translation", 0) > 0.1, "not its time: %s" % shares)
    check(any(name.startswith("helper_") for name in shares), "no helper is named: %s" % shares)
    check(99 < sum(shares.values()) < 101, "more or less than all of it: %s" % shares)


main()
