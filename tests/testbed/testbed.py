# SPDX-License-Identifier: GPL-2.0-or-later
"""A computer with AMD-V, made by QEMU's TCG, for tests of hardware virtualization.

run() boots Debian's kernel with the kvm modules, this build's ringside-monitor and ringctl and a shell
script as job, and returns the script's exit status and everything that came out of the serial port.

In it, / is the initramfs: busybox's commands, /guest/vmlinux and /guest/initrd for machines to boot,
/dev/kvm (unless modules says otherwise), RINGSIDE_MONITOR set. See HACKING.md, "The testbed".
"""
import atexit
import ctypes
import functools
import glob
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../guest"))

import images
from harness import MONITOR, RINGCTL, PATIENCE, Failure, Skip, check, need, note, run as run_program

MODULES = ("irqbypass", "kvm", "ccp", "kvm-amd")
# Quick to boot; the TSC is the host's, which the kernel cannot find out under TCG, nor its frequency when the host is busy
# (its clock could run several times too fast).
APPEND = "console=ttyS0 quiet mitigations=off nokaslr no_timer_check tsc=reliable clocksource=tsc panic=-1"

# TCG carries out REP STOSB a byte at a time, and slowly where code was; without ERMS kernels take REP STOSQ to clear pages.
CPU = "max,-erms,-fsrm"
# Exit statuses go through isa-debug-exit, which makes (v << 1) | 1 of v: 16 + status cannot be
# mistaken for QEMU's own failure.
INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /usr/bin /sbin
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
mkdir -p /dev/shm; mount -t tmpfs t /dev/shm; mount -t tmpfs t /tmp; mount -t tmpfs t /run
exec </dev/ttyS0 >/dev/ttyS0 2>&1
export HOME=/root XDG_RUNTIME_DIR=/run LC_ALL=C.UTF-8 RINGSIDE_MONITOR=/usr/bin/ringside-monitor
for module in $(cat /job/modules); do
    insmod /lib/$module.ko || echo "NO MODULE $module"
done
echo "TESTBED $(cut -d' ' -f1 /proc/uptime)"
sh -e /job/script; status=$?
echo "STATUS $status $(cut -d' ' -f1 /proc/uptime)"
[ $status -gt 100 ] && status=100
sleep 0.1
printf "\\$(printf %o $((status + 16)))" | dd of=/dev/port bs=1 count=1 seek=244 2>/dev/null
sleep 60
"""


class Result:
    def __init__(self, status, log, seconds):
        self.status, self.log, self.seconds = status, log, seconds

    def expect(self, *words, status=0):
        """Fails unless the script ended so and said all of `words`."""
        check(self.status == status, "status %s instead of %d; the log ends:\n%s" % (
            self.status, status, self.log[-4000:]))
        for word in words:
            check(word in self.log, "\"%s\" was not said; the log ends:\n%s" % (word, self.log[-4000:]))
        return self


def base(modules=MODULES):
    """What does not change with our build: an archive, not packed (unpacking takes longer here)."""
    def make(path):
        root = path + ".d"
        images.fill_initramfs(root, INIT, images.module_list(*modules), {})
        os.makedirs(root + "/guest")
        shutil.copy(images.vmlinux(), root + "/guest/vmlinux")
        shutil.copy(images.initramfs(), root + "/guest/initrd")
        with open(path, "wb") as out:
            out.write(images.pack_folder(root))
    tag = hashlib.sha256((INIT + repr(modules) + images.initramfs()).encode()).hexdigest()[:12]
    return images.made("testbed-%s.cpio" % tag, make)


@functools.cache
def driver_module():
    """driver/ built for the testbed's kernel: the path of ringside.ko. A Skip without the kernel's headers."""
    version = os.path.basename(glob.glob(images.kernel_package() + "/lib/modules/*")[0])
    headers = "/usr/src/linux-headers-" + version
    if not os.path.isdir(headers):
        raise Skip("the headers of the testbed's kernel are not installed: apt-get install linux-headers-" + version)
    need("make", "gcc")
    folder = tempfile.mkdtemp(prefix="rg-driver-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, "../../driver"), folder, dirs_exist_ok=True)
    run_program("make", "-C", folder, "KERNELRELEASE=" + version, "KDIR=" + headers, "modules")  # as DKMS does
    return folder + "/ringside.ko"


def libraries(program):
    """The files that a program's dynamic linking needs, the loader too."""
    found = re.findall(r"(?:=> )?(/\S+) \(0x", run_program("ldd", program))
    return sorted(set(found))


def put(root, source, where):
    target = root + where
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(source, target)


def firmware():
    for folder in ("/usr/share/seabios", images.package("seabios") + "/usr/share/seabios"):
        if os.path.exists(folder + "/bios-256k.bin"):
            return folder
    raise Skip("there is no SeaBIOS")


def overlay(root, script, modules, files):
    """This build and the job."""
    for program in (MONITOR, RINGCTL):
        put(root, program, "/usr/bin/" + os.path.basename(program))
        for library in libraries(program):
            put(root, library, library)
    for rom in glob.glob(firmware() + "/*"):
        put(root, rom, "/usr/share/seabios/" + os.path.basename(rom))
    for where, source in files.items():
        put(root, source, where)
    images.write_file(root + "/job/script", "export PATH=$PATH:/usr/bin\n" + script)
    images.write_file(root + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    images.write_file(root + "/job/modules", "\n".join(modules) + "\n")


def pack_job(folder, script, modules, files, base_modules=MODULES, texts=None):
    """The whole initramfs, made in a folder; texts: path in the testbed to what a file there says."""
    root = folder + "/root"
    overlay(root, script, modules, files)
    for where, text in (texts or {}).items():
        images.write_file(root + where, text)
    with open(base(base_modules), "rb") as fixed:
        return fixed.read() + images.pack_folder(root)


@functools.cache
def tsc_khz():
    """The frequency of this computer's TSC; each pair of readings is the least interrupted of several."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl rdx,32; or rax,rdx; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def instant():
        tries = [(rdtsc(), time.monotonic_ns(), rdtsc()) for _ in range(50)]
        before, now, after = min(tries, key=lambda t: t[2] - t[0])
        return (before + after) // 2, now

    first = instant()
    time.sleep(0.1)
    last = instant()
    return (last[0] - first[0]) * 1000000 // (last[1] - first[1])


def command(initrd, cpus, memory, cpu, threads, devices=()):
    return ["qemu-system-x86_64", "-accel", "tcg,thread=" + threads, "-cpu", cpu, "-smp", str(cpus),
            "-m", str(memory), "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *devices,
            "-kernel", images.vmlinux(), "-initrd", initrd, "-append",
            APPEND + " tsc_early_khz=%d" % tsc_khz()]


def status_of(code, log):
    """QEMU's exit status to the script's."""
    if code & 1 and code >= 33:
        return (code >> 1) - 16
    raise Failure("the testbed ended with %d before the script did; its log ends:\n%s" % (
        code, log[-4000:]))


def run(bench, script, *, cpus=1, memory=1024, cpu=CPU, modules=MODULES, files=None, seconds=60,
        threads="multi", devices=()):
    """The script is for busybox's sh -e. files: path in the testbed to a file here. `cpu`, `threads` and `devices` (arguments)
    are QEMU's."""
    need("qemu-system-x86_64", "ldd", "cpio")
    folder = tempfile.mkdtemp(dir=bench.folder)
    initrd = os.path.join(folder, "initrd")
    with open(initrd, "wb") as out:
        out.write(pack_job(folder, script, modules, files or {}))
    started = time.monotonic()
    try:
        done = subprocess.run(command(initrd, cpus, memory, cpu, threads, devices), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds * PATIENCE)
    except subprocess.TimeoutExpired as late:
        raise Failure("the testbed did not end within %d s; its log ends:\n%s" % (
            seconds * PATIENCE, (late.stdout or b"").decode(errors="replace")[-4000:]))
    finally:
        shutil.rmtree(folder)
    log = done.stdout.decode(errors="replace")
    result = Result(status_of(done.returncode, log), log, time.monotonic() - started)
    note("testbed: %.1f s" % result.seconds)
    return result
