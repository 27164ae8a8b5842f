# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benches share: the two machines that are compared, and waiting for what they say."""
import os
import select
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../guest"))


class Ended(Exception):
    pass


def ringside(build, *, kernel=None, initrd=None, append=None, disk=None, memory=512, cpus=1, options=None):
    command = [os.path.join(build, "monitor/ringside-monitor"), "-e", "translate", "-m", str(memory),
               "-c", str(cpus), "-s", "stdio", "--no-reboot"]
    if kernel:
        command += ["-k", kernel, "-i", initrd, "-a", append]
    if disk:
        command += ["-d", disk, "--snapshot"]
    if options:
        command += ["--engine-options", options]
    return command


def qemu(*, kernel=None, initrd=None, append=None, disk=None, memory=512, cpus=1):
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(memory),
               "-smp", str(cpus), "-nodefaults", "-vga", "std", "-display", "none", "-no-reboot",
               "-serial", "stdio"]
    if kernel:
        command += ["-kernel", kernel, "-initrd", initrd, "-append", append]
    if disk:
        command += ["-drive", "file=%s,file.locking=off,format=raw,if=none,id=d,snapshot=on" % disk,
                    "-device", "ide-hd,drive=d,bus=ide.0"]
    return command


class Machine:
    """A machine with its serial port in our hands."""

    def __init__(self, command, log=None):
        self.command, self.text, self.log = command, b"", log
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log or subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.kill()
        self.process.wait()

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def read(self, limit, word):
        if not select.select([self.process.stdout], [], [], max(0, limit - time.monotonic()))[0]:
            raise Ended("nothing said \"%s\" in time; last: %s" % (
                word, self.text[-200:].decode(errors="replace").strip()))
        more = os.read(self.process.stdout.fileno(), 65536)
        if not more:
            raise Ended("%s ended before it said \"%s\"" % (self.command[0], word))
        if self.log:
            self.log.write(more)
            self.log.flush()
        self.text += more

    def wait(self, word, seconds):
        """The time at which `word` came. What follows it is not taken yet."""
        limit = time.monotonic() + seconds
        while word.encode() not in self.text:
            self.read(limit, word)
        came = time.monotonic()
        self.text = self.text.partition(word.encode())[2]
        return came

    def rest_of_line(self):
        limit = time.monotonic() + 60
        while b"\n" not in self.text:
            self.read(limit, "the end of a line")
        line, _, self.text = self.text.partition(b"\n")
        return line.decode(errors="replace").strip()


def seconds_until(command, word, limit=600):
    """From the start of a machine to the first `word` on its serial port."""
    with Machine(command) as machine:
        return machine.wait(word, limit) - machine.started


def median(values):
    return statistics.median(values) if values else None


def geometric_mean(values):
    return statistics.geometric_mean(values) if values else None
