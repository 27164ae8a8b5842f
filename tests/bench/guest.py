# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest of tests/bench/cpu: a Debian userland with the workloads, as a folder and as a disk of the same files."""
import glob
import hashlib
import os
import shutil

import machines
import images
from harness import Failure, Skip, need, run

PROGRAMS = os.path.join(machines.HERE, "programs")
PACKAGES = "xz-utils,python3,gcc,libc6-dev,libssl-dev,openssl,nodejs,busybox-static"
AVX2 = "-O3 -mavx2 -mfma -ffast-math"
# Program: its source, options.
COMPILED = {
    "runner": ("runner.c", "-O2 -static"),
    "nbody-sse2": ("nbody.c", "-O2 -ffast-math -ftree-vectorize"),
    "nbody-avx2": ("nbody.c", AVX2),
    "matmul-sse2": ("matmul.c", "-O2 -ftree-vectorize"),
    "matmul-avx2": ("matmul.c", AVX2),
    "branchy": ("branchy.c", "-O2"),
    "crypto": ("crypto.c", "-O2"),
    "system": ("system.c", "-O2"),
    "memory": ("memory.c", "-O2"),
    "once": ("once.c", "-O2"),
}
XZ_BYTES = 2500000
C_FUNCTIONS = 30

# A shell on the serial port that runs what the bench sends.
INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo "USERSPACE"
stty -echo
for module in $(cat /modules); do insmod /lib/$module || echo "NO MODULE $module"; done
i=0
while [ ! -b /dev/sda ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done
mount -t ext4 -o noatime /dev/sda /mnt
mount -t tmpfs t /mnt/tmp; mount -t proc p /mnt/proc; mount -t devtmpfs d /mnt/dev
echo "READY"
exec chroot /mnt /bin/sh /bench/serve
"""

# Lines of commands to the end of the input; what a command prints is the answer.
SERVE = r"""cd /bench
while read -r line; do
    eval "$line"
    echo "ANSWERED $?"
done
"""


def tag_of(*things):
    return hashlib.sha256(repr(things).encode()).hexdigest()[:12]


def tag():
    programs = [open(path).read() for path in sorted(glob.glob(PROGRAMS + "/*.*"))]
    return tag_of(SERVE, PACKAGES, sorted(COMPILED.items()), XZ_BYTES, C_FUNCTIONS, programs)


def packages():
    def make(path):
        need("mmdebstrap")
        try:
            run("mmdebstrap", "--variant=minbase", "--quiet", "--include=" + PACKAGES, "bookworm", path + ".tar")
        except Failure as failure:
            raise Skip("mmdebstrap cannot make a Debian: " + str(failure).splitlines()[-1])
        os.rename(path + ".tar", path)
    return images.made("bench-packages-%s.tar" % tag_of(PACKAGES), make)


def tree():
    """The folder: a chroot for the native runs."""
    def make(path):
        os.makedirs(path)
        run("tar", "-xf", packages(), "-C", path, "--numeric-owner")
        bench = path + "/bench"
        shutil.copytree(PROGRAMS, bench)
        images.write_file(bench + "/serve", SERVE)
        for name, (source, options) in COMPILED.items():
            libraries = ["-lcrypto"] if name == "crypto" else ["-lm"]
            run("chroot", path, "gcc", *options.split(), "-o", "/bench/" + name, "/bench/" + source, *libraries)
        with open(glob.glob(path + "/usr/lib/gcc/x86_64-linux-gnu/*/cc1")[0], "rb") as cc1:
            data = cc1.read(XZ_BYTES)
        with open(bench + "/data", "wb") as out:
            out.write(data)
        with open(bench + "/large.c", "w") as out:
            out.write(run("chroot", path, "python3", "/bench/large_c.py", str(C_FUNCTIONS)))
        images.write_file(bench + "/empty.c", "int x;\n")
    if os.geteuid():
        raise Skip("the bench's guest needs root")
    return images.made("bench-tree-" + tag(), make)


def disk():
    def make(path):
        need("mke2fs")
        size = int(run("du", "-s", "--block-size=1M", tree()).split()[0]) + 300
        run("/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree(), path, "%dM" % size)
    return images.made("bench-disk-%s.img" % tag(), make)


def initramfs():
    def make(path):
        modules = images.module_list("ahci", "sd_mod", "ext4", "crc32c_generic")
        images.pack_initramfs(path, INIT, modules, {})
    return images.made("bench-initramfs-%s.gz" % tag_of(INIT, images.kernel()), make)


def login_disk():
    """The guest tests' Debian disk with a console, and so a login prompt, on its serial port."""
    def make(path):
        need("debugfs")
        shutil.copy(images.debian_disk(), path)
        config = images.GRUB_CONFIG.replace(" quiet", " quiet console=tty0 console=ttyS0")
        images.write_file(path + ".cfg", config)
        run("/sbin/debugfs", "-w", "-R", "rm /boot/grub/grub.cfg", path + images.PART_OFFSET)
        run("/sbin/debugfs", "-w", "-R", "write %s.cfg /boot/grub/grub.cfg" % path, path + images.PART_OFFSET)
    return images.made("bench-login-%s.img" % tag_of(images.HOOK), make)
