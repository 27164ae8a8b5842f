# SPDX-License-Identifier: GPL-2.0-or-later
"""A computer with Intel VT-x and EPT, made by Debian's Bochs, for the same jobs as testbed.py's with AMD-V.

run() boots the same kernel, with kvm-intel's modules, and runs several shell scripts one after the other, since booting
takes most of a minute here. Each gets its status and what it said. Bochs ends when the last has ended, or late.

Time in it passes by instructions (IPS a second), four to five times slower than outside.
"""
import contextlib
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

import images
import testbed
from harness import PATIENCE, Failure, Skip, check, need, note, run as run_program

MODULES = ("irqbypass", "kvm", "kvm-intel")
BIOS, VGABIOS = "/usr/share/bochs/BIOS-bochs-latest", "/usr/share/bochs/VGABIOS-lgpl-latest"
IPS = 200000000
APPEND = ("console=ttyS0 quiet mitigations=off nokaslr no_timer_check tsc=reliable clocksource=tsc panic=-1 idle=halt "
          "tsc_early_khz=%d" % (IPS // 1000))
PLAN_ADDRESS, PLAN_SECTORS = 0x10000, 8  # as in bochs_boot.S
INITRD_ADDRESS = 256 << 20

CONFIG = """megs: %(memory)d
cpu: model=corei7_haswell_4770, count=%(cpus)d, ips=%(ips)d, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file=%(bios)s
vgaromimage: file=%(vgabios)s
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path=%(disk)s
boot: disk
display_library: term
com1: enabled=1, mode=file, dev=%(serial)s
log: %(log)s
clock: sync=none, time0=utc
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
sound: driver=dummy
speaker: enabled=0
"""

# The job: all programs in order, each with lines around it.
JOB = """for name in $(cat /job/names); do
    echo "BEGIN $name"
    status=0; sh -e /job/$name || status=$?
    echo "END $name $status"
done
"""


def pieces(kernel):
    """(address, bytes) of an ELF kernel's segments, and its PVH entry."""
    entry, loads = 0, []
    offset, = struct.unpack_from("<Q", kernel, 32)
    count, = struct.unpack_from("<H", kernel, 56)
    for i in range(count):
        kind, _, at, _, physical, size = struct.unpack_from("<IIQQQQ", kernel, offset + i * 56)
        if kind == 1 and size:
            loads.append((physical, kernel[at:at + size]))
        elif kind == 4:
            entry = pvh_entry(kernel[at:at + size]) or entry
    check(entry, "this kernel has no PVH entry")
    return loads, entry


def pvh_entry(notes):
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        data = at + 12 + (name_size + 3 & ~3)
        if kind == 18 and notes[at + 12:at + 16] == b"Xen\0":
            return struct.unpack_from("<I", notes, data)[0]
        at = data + (size + 3 & ~3)
    return None


def start_info(address, memory, append, initrd_size):
    """struct hvm_start_info with a module and a memory map. The BIOS has its ACPI tables in the last 64 KiB."""
    module, table, line = address + 64, address + 96, address + 256
    ram = ((0, 0x9f000, 1), (1 << 20, (memory << 20) - 0x10000 - (1 << 20), 1), ((memory << 20) - 0x10000, 0x10000, 3))
    data = struct.pack("<IIIIQQQQII", 0x336ec578, 1, 0, 1, module, line, 0, table, len(ram), 0).ljust(64, b"\0")
    data += struct.pack("<QQQQ", INITRD_ADDRESS, initrd_size, 0, 0)
    for row in ram:
        data += struct.pack("<QQII", *row, 0)
    return data.ljust(256, b"\0") + append.encode() + b"\0"


def boot_sector(folder):
    need("gcc", "ld")
    source = os.path.join(testbed.HERE, "bochs_boot.S")
    run_program("gcc", "-m32", "-c", "-o", folder + "/boot.o", source)
    run_program("ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-e", "start",
                "-o", folder + "/boot", folder + "/boot.o")
    sector = open(folder + "/boot", "rb").read()
    check(len(sector) == 512, "the boot sector has %d bytes" % len(sector))
    return sector


def make_disk(path, folder, initrd, memory, append):
    """The boot sector, the plan, and what the plan names."""
    loads, entry = pieces(open(images.vmlinux(), "rb").read())
    loads.append((INITRD_ADDRESS, initrd))
    info = PLAN_ADDRESS + 1024
    plan, sector = b"", 1 + PLAN_SECTORS
    with open(path, "wb") as disk:
        for address, data in loads:
            sectors = -(-len(data) // 512)
            plan += struct.pack("<III", address, sector, sectors)
            disk.seek(sector * 512)
            disk.write(data)
            sector += sectors
        plan = (plan + struct.pack("<III", info, entry, 0)).ljust(1024, b"\0")
        plan += start_info(info, memory, append, len(initrd))
        check(len(plan) <= PLAN_SECTORS * 512, "the plan is too long")
        disk.seek(0)
        disk.write(boot_sector(folder) + plan)
        disk.truncate(-(-sector // 1008) * 1008 * 512)  # whole cylinders


@contextlib.contextmanager
def bochs(folder, config):
    """A running Bochs; its display library wants a terminal."""
    with open(folder + "/rc", "w") as out:
        out.write(config)
    with open(folder + "/go", "w") as out:
        out.write("c\n")  # for the debugger that Debian's has
    ours, its = pty.openpty()
    process = subprocess.Popen(["bochs", "-q", "-f", folder + "/rc", "-rc", folder + "/go"], stdin=its, stdout=its,
                               stderr=its, env=dict(os.environ, TERM="linux"), start_new_session=True)
    os.close(its)

    def drain():
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass
    threading.Thread(target=drain, daemon=True).start()
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)


def read(path):
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.read().replace("\r", "")
    return ""


def await_end(process, serial, seconds):
    """Until the job has ended; what the serial port said."""
    end = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < end:
        log = read(serial)
        if re.search(r"^STATUS \d+ .*\n", log, re.M):
            return log
        if process.poll() is not None:
            raise Failure("Bochs ended by itself; the log ends:\n" + log[-4000:])
        if "Kernel panic" in log:
            time.sleep(2)
            raise Failure("the testbed's kernel gave up; its log ends:\n" + read(serial)[-6000:])
        time.sleep(0.3)
    raise Failure("the testbed did not end within %d s; its log ends:\n%s" % (seconds * PATIENCE, log[-4000:]))


def results(log, programs):
    """By name; one that did not come to its end has the status 255."""
    found = {}
    for name in programs:
        match = re.search(r"^BEGIN %s\n(.*?)(?:^END %s (\d+)\n|\Z)" % (name, name), log, re.M | re.S)
        text, status = match.groups() if match else ("", None)
        found[name] = testbed.Result(255 if status is None else int(status), text, 0)
    return found


def run(bench, programs, *, cpus=1, memory=1024, modules=MODULES, files=None, seconds=150):
    """programs: name (a word) to a script for busybox's sh -e. Returns name to Result."""
    need("bochs", "ldd", "cpio")
    if not os.path.exists(BIOS) or not os.path.exists(VGABIOS):
        raise Skip("bochsbios or vgabios is not installed")
    folder = tempfile.mkdtemp(dir=bench.folder)
    scripts = {"/job/" + name: "export PATH=$PATH:/usr/bin\n" + text for name, text in programs.items()}
    scripts["/job/names"] = "\n".join(programs) + "\n"
    initrd = testbed.pack_job(folder, JOB, modules, files or {}, MODULES, scripts)
    make_disk(folder + "/disk", folder, initrd, memory, APPEND)
    config = CONFIG % {"memory": memory, "cpus": cpus, "ips": IPS, "bios": BIOS, "vgabios": VGABIOS,
                       "disk": folder + "/disk", "serial": folder + "/serial", "log": folder + "/log"}
    started = time.monotonic()
    try:
        with bochs(folder, config) as process:
            log = await_end(process, folder + "/serial", seconds)
    finally:
        note(tail(read(folder + "/log")))
        shutil.rmtree(folder)
    note("Bochs: %.1f s" % (time.monotonic() - started))
    return results(log, programs)


def tail(log):
    """What Bochs itself complained about."""
    lines = [line for line in log.splitlines() if "VMX" in line.upper() or "p[" in line or ">>PANIC<<" in line]
    return "\n".join(lines[-10:]) or "Bochs has nothing to say"
