# SPDX-License-Identifier: GPL-2.0-or-later
"""What guest tests stand on: TAP output, a private library of machines, ringctl, and eyes.

A test file defines functions with @test and ends with harness.main(). Each function gets a fresh
Bench, whose machines and processes are gone afterwards. A Skip names its reason.
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import screen_text

BUILD = os.environ.get("RINGSIDE_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
RINGCTL = os.path.abspath(os.path.join(BUILD, "app/ringctl"))
MONITOR = os.path.abspath(os.path.join(BUILD, "monitor/ringside-monitor"))
# How much slower than a quiet machine this one may be.
PATIENCE = float(os.environ.get("RINGSIDE_PATIENCE", "3"))


# What a Linux guest says when it will not come up any more.
HOPELESS = ["Kernel panic", "systemd[1]: segfault", "Freezing execution", "(initramfs)"]


class Skip(Exception):
    pass


class Failure(Exception):
    pass


def check(condition, sentence):
    if not condition:
        raise Failure(sentence)


def note(text):
    print("# " + str(text).replace("\n", "\n# "), flush=True)


class Bench:
    """A folder with a library and sockets of its own, and the machines in it."""

    def __init__(self, name):
        self.name = name
        # Short: socket paths have 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="rg-", dir=os.environ.get("RINGSIDE_TEST_TMP", "/tmp"))
        self.env = dict(os.environ, XDG_DATA_HOME=self.path("data"), XDG_RUNTIME_DIR=self.path("run"),
                        RINGSIDE_MONITOR=MONITOR, HOME=self.folder, LC_ALL="C.UTF-8")
        os.makedirs(self.path("run"), 0o700)
        self.shots = 0

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def ringctl(self, *args, status=0, timeout=600, **kwargs):
        done = subprocess.run([RINGCTL, *map(str, args)], env=self.env, timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", **kwargs)
        if status is not None:
            check(done.returncode == status, "ringctl %s: status %d, not %d: %s%s" % (
                " ".join(map(str, args)), done.returncode, status, done.stderr[-2000:],
                done.stdout[-2000:]))
        return done

    def machine(self, name="m", **options):
        arguments = []
        for key, value in options.items():
            arguments.append("--" + key.replace("_", "-"))
            if value is not True:
                arguments.append(str(value))
        self.ringctl("create", name, *arguments)
        return Machine(self, name)

    def close(self):
        for name in os.listdir(self.path("data/ringside/machines")) if os.path.isdir(
                self.path("data/ringside/machines")) else []:
            pid = self.monitor_pid(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
        for attempt in range(20):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                return
            time.sleep(0.1)

    def monitor_pid(self, name):
        """The pid in the lock file, if that process is a monitor of this folder."""
        folder = self.path("data/ringside/machines", name)
        try:
            pid = int(open(os.path.join(folder, "lock")).read())
            line = open("/proc/%d/cmdline" % pid, "rb").read().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if folder.encode() in line else None


class Machine:
    def __init__(self, bench, name):
        self.bench, self.name = bench, name
        self.folder = bench.path("data/ringside/machines", name)

    def do(self, command, *args, **kwargs):
        return self.bench.ringctl(command, self.name, *args, **kwargs)

    def start(self):
        self.do("start")

    def state(self):
        return json.loads(self.do("info", "--json").stdout)["state"]

    def info(self):
        return json.loads(self.do("info", "--json").stdout)

    def pid(self):
        return self.bench.monitor_pid(self.name)

    def kill(self):
        pid = self.pid()
        check(pid, "there is no monitor to kill")
        os.kill(pid, signal.SIGKILL)
        self.wait_state("off", 10)

    def type(self, text):
        self.do("type", text)

    def key(self, *chords):
        self.do("key", *chords)

    def log(self):
        return open(os.path.join(self.folder, "monitor.log"), errors="replace").read()

    def picture(self):
        self.bench.shots += 1
        path = self.bench.path("shot%d.png" % (self.bench.shots % 4))
        done = self.do("screenshot", path, status=None)
        return screen_text.Picture(path) if done.returncode == 0 else None

    def keep_picture(self, name):
        """For people to look at: in $RINGSIDE_SCREENSHOTS, if that is set."""
        folder = os.environ.get("RINGSIDE_SCREENSHOTS")
        if folder:
            os.makedirs(folder, exist_ok=True)
            self.do("screenshot", os.path.join(folder, name + ".png"), status=None)

    def text(self):
        picture = self.picture()
        return picture.text() if picture else ""

    def wait_text(self, words, seconds, quiet=False):
        """Until the text screen shows all of `words`."""
        words = [words] if isinstance(words, str) else words
        seen = [""]

        def shown():
            if self.state() in ("off", "crashed"):
                raise Failure("the machine is %s; last seen:\n%s" % (self.state(), seen[0]))
            seen[0] = self.text()
            for end in HOPELESS:
                if end in seen[0]:
                    raise Failure("the guest is lost (%s)" % end)
            return all(word in seen[0] for word in words)
        try:
            wait(shown, seconds, "%r on the screen" % words)
        except Failure as failure:
            self.keep_picture("failed-" + self.bench.name)
            raise Failure("%s; last seen:\n%s" % (failure, seen[0].strip()))
        return seen[0]

    def wait_state(self, state, seconds):
        self.do("wait", "--state", state, "--timeout", seconds * PATIENCE,
                timeout=seconds * PATIENCE + 60)


def wait(condition, seconds, what):
    """Polls; `seconds` are those of a quiet machine."""
    end = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.3)
    raise Failure("waited %d seconds for %s" % (seconds * PATIENCE, what))


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise Skip("%s is not installed" % program)


def mount_small(bench, mib):
    folder = bench.path("small")
    os.mkdir(folder)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "none", folder],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Skip("a small file system cannot be mounted here: " + done.stderr.strip())
    return folder


def unmount(bench, folder):
    for attempt in range(10):
        if subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0:
            break
        bench.close()
        time.sleep(0.2)


def run(*args, **kwargs):
    done = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **kwargs)
    if done.returncode:
        raise Failure("%s: status %d\n%s" % (" ".join(map(str, args)), done.returncode,
                                             done.stdout[-3000:]))
    return done.stdout


tests = []


def test(function):
    tests.append(function)
    return function


def run_one(number, function):
    name = function.__name__.replace("_", " ")
    bench = Bench(function.__name__)
    atexit.register(bench.close)
    start = time.monotonic()
    try:
        function(bench)
        print("ok %d %s" % (number, name), flush=True)
        good = True
    except Skip as reason:
        print("ok %d %s # SKIP %s" % (number, name, reason), flush=True)
        good = True
    except Exception as error:  # a test that breaks is a test that fails
        if not isinstance(error, Failure):
            note(traceback.format_exc())
        note(error)
        print("not ok %d %s" % (number, name), flush=True)
        good = False
    finally:
        bench.close()
    note("%.1f s" % (time.monotonic() - start))
    return good


def main():
    chosen = [t for t in tests if len(sys.argv) < 2 or t.__name__ in sys.argv[1:]]
    signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(1))
    print("1..%d" % len(chosen), flush=True)
    good = [run_one(i + 1, t) for i, t in enumerate(chosen)]
    sys.exit(0 if all(good) else 1)
