# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest plays and records through a PulseAudio or PipeWire of our own, whose null sink is listened to.

An idle null sink stalls for up to two seconds before its first stream; what comes before SETTLED is not judged.
"""
import array
import os
import signal
import subprocess
import time
import wave

import images
from harness import PATIENCE, Failure, check, main, need, note, run, test, wait

RATE = 48000
SETTLED = 2.5  # seconds of sound


class Server:
    """PulseAudio with the sink "lab", where guests play, and the source "labmic", from the sink "mic"."""

    def __init__(self, bench):
        need("pulseaudio", "pactl", "parec", "paplay")
        self.bench, self.process, self.recorder = bench, None, None
        bench.env["PULSE_SERVER"] = "unix:" + bench.path("run/native")

    def start(self):
        modules = ["module-native-protocol-unix socket=%s auth-anonymous=1" % self.bench.path("run/native"),
                   "module-null-sink sink_name=lab rate=48000", "module-null-sink sink_name=mic rate=48000",
                   "module-remap-source master=mic.monitor source_name=labmic"]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
                   "--disallow-exit=no", "--log-target=stderr"]
        for module in modules:
            command += ["-L", module]
        self.process = subprocess.Popen(command, env=self.bench.env, stderr=subprocess.DEVNULL)
        wait(lambda: subprocess.run(["pactl", "info"], env=self.bench.env, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL).returncode == 0, 10, "PulseAudio")
        run("pactl", "set-default-sink", "lab", env=self.bench.env)
        run("pactl", "set-default-source", "labmic", env=self.bench.env)

    def record(self):
        self.file = self.bench.path("heard-%d.wav" % time.monotonic_ns())
        self.recorder = subprocess.Popen(["parec", "-d", "lab.monitor", "--format=s16le", "--rate=48000",
                                          "--channels=2", "--file-format=wav", self.file], env=self.bench.env)

    def heard(self):
        """Ends the recording: the left channel."""
        self.recorder.send_signal(signal.SIGINT)
        self.recorder.wait()
        self.recorder = None
        with wave.open(self.file) as sound:
            return array.array("h", sound.readframes(sound.getnframes()))[::2]

    def stop(self):
        for process in (self.recorder, self.process):
            if process:
                process.kill()
                process.wait()
        self.recorder = self.process = None


class PipeWire(Server):
    """The same with PipeWire, on a session bus of its own."""

    def __init__(self, bench):
        need("pipewire", "pipewire-pulse", "wireplumber", "dbus-daemon", "pactl", "parec")
        self.bench, self.process, self.recorder, self.processes = bench, None, None, []
        bench.env["PULSE_SERVER"] = "unix:" + bench.path("run/pulse/native")
        bench.env["XDG_CONFIG_HOME"] = bench.env["XDG_STATE_HOME"] = bench.path("config")

    def run(self, *command, **options):
        self.processes.append(subprocess.Popen(command, env=self.bench.env, stderr=subprocess.DEVNULL, **options))
        return self.processes[-1]

    def asks(self, *words):
        return subprocess.run(["pactl", *words], env=self.bench.env, capture_output=True, text=True)

    def start(self):
        bus = self.run("dbus-daemon", "--session", "--nofork", "--print-address=1", stdout=subprocess.PIPE, text=True)
        self.bench.env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        for program in ("pipewire", "wireplumber", "pipewire-pulse"):
            self.run(program, stdout=subprocess.DEVNULL)
        wait(lambda: "PipeWire" in self.asks("info").stdout, 10, "PipeWire")
        check(self.asks("load-module", "module-null-sink", "sink_name=lab", "rate=48000").returncode == 0, "there is no null sink")
        wait(lambda: "lab.monitor" in self.asks("list", "short", "sources").stdout, 10, "the null sink")
        self.asks("set-default-sink", "lab")

    def stop(self):
        super().stop()
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self.processes = []


class Sound:
    """What there is between the first and the last loud millisecond."""

    def __init__(self, samples, threshold=150):
        size = RATE // 1000
        loud = [max(map(abs, samples[i:i + size])) > threshold for i in range(0, len(samples) - size, size)]
        check(any(loud), "there was no sound")
        first, last = loud.index(True), len(loud) - loud[::-1].index(True)
        self.seconds = (last - first) / 1000
        start = first + int(1000 * min(SETTLED, self.seconds / 2))
        self.samples = samples[start * size:(last - 60) * size]
        quiet = [i - first for i in range(start, last - 60) if not loud[i]]
        self.silent, self.where = len(quiet), quiet[:1] + quiet[-1:]

    def hertz(self):
        """From the times of rising zero crossings: the median of the periods."""
        times = []
        for i in range(1, len(self.samples)):
            a, b = self.samples[i - 1], self.samples[i]
            if a < 0 <= b:
                times.append(i - b / (b - a))
        periods = sorted(b - a for a, b in zip(times, times[1:]))
        return RATE / periods[len(periods) // 2] if periods else 0

    def peak(self):
        return sorted(map(abs, self.samples))[len(self.samples) * 99 // 100]


def boot(bench, do, *options):
    return bench.ringctl("run", "--kernel", images.kernel(), "--initrd", images.sound_initramfs(), "--append",
                         "console=ttyS0 quiet do=" + do, "--serial", "stdio", "--sound", "on", "--timeout", "240",
                         *options).stdout


def play(bench, do, *options, kind=Server):
    server = kind(bench)
    server.start()
    try:
        server.record()
        out = boot(bench, do, *options)
        check("PLAYED" in out, "the guest did not play: " + out)
        return server.heard()
    finally:
        server.stop()


def check_tone(sound, hertz, seconds, peak):
    check(abs(sound.hertz() - hertz) < hertz / 200, "%.2f Hz, not %d" % (sound.hertz(), hertz))
    check(abs(sound.peak() - peak) < peak / 8, "a peak of %d, not %d" % (sound.peak(), peak))
    check(seconds - SETTLED < sound.seconds < seconds + 1, "%.2f s, not %.2f" % (sound.seconds, seconds))
    if os.getloadavg()[0] > os.cpu_count() + 1:
        note("%d ms of gaps are not judged: others use this machine" % sound.silent)
        return
    check(sound.silent <= 30 * PATIENCE,  # none on a quiet machine
          "%d ms of gaps, from and to %s ms" % (sound.silent, sound.where))


@test
def tone(bench):
    check_tone(Sound(play(bench, "tone")), 440, 7, 16000)


@test
def tone_through_pipewire(bench):
    check_tone(Sound(play(bench, "tone", kind=PipeWire)), 440, 7, 16000)


@test
def mono_at_another_rate(bench):
    check_tone(Sound(play(bench, "mono")), 1000, 7, 16000)


@test
def volume(bench):
    """20 dB less is a tenth."""
    check_tone(Sound(play(bench, "quiet")), 440, 7, 1600)


@test
def mute(bench):
    heard = play(bench, "mute")
    check(max(map(abs, heard)) < 10, "it is heard though it is muted: %d" % max(map(abs, heard)))


@test
def recording(bench):
    server = Server(bench)
    server.start()
    source = bench.path("source.wav")
    images.write_tone(source, 600, 48000, 2, 60)
    player = subprocess.Popen(["paplay", "-d", "mic", source], env=bench.env)
    try:
        server.record()
        out = boot(bench, "record")
        check("RECORDED" in out and "PLAYED" in out, "the guest did not record: " + out)
        sound = Sound(server.heard())
        check(abs(sound.hertz() - 600) < 3, "%.2f Hz, not 600" % sound.hertz())
        check(abs(sound.peak() - 16000) < 2000, "a peak of %d" % sound.peak())
    finally:
        player.kill()
        player.wait()
        server.stop()


@test
def no_recording(bench):
    """With --sound output the guest hears nothing, and goes on."""
    server = Server(bench)
    server.start()
    source = bench.path("source.wav")
    images.write_tone(source, 600, 48000, 2, 60)
    player = subprocess.Popen(["paplay", "-d", "mic", source], env=bench.env)
    try:
        server.record()
        out = bench.ringctl("run", "--kernel", images.kernel(), "--initrd", images.sound_initramfs(), "--append",
                            "console=ttyS0 quiet do=record", "--serial", "stdio", "--sound", "output",
                            "--timeout", "240").stdout
        check("RECORDED" in out and "PLAYED" in out, "the guest did not go on: " + out)
        heard = server.heard()
        check(max(map(abs, heard)) < 10, "the guest has heard something: %d" % max(map(abs, heard)))
    finally:
        player.kill()
        player.wait()
        server.stop()


def tone_now(server):
    """Does a 440 Hz tone come just now? After the sink has settled."""
    server.record()
    time.sleep(4)
    try:
        return abs(Sound(server.heard()).hertz() - 440) < 3
    except Failure:
        return False


@test
def server_comes_goes_and_machine_suspends(bench):
    """The guest plays on while there is no server, while there is one, after it has restarted, and
    after a suspend in the middle."""
    server = Server(bench)
    serial = bench.path("serial.txt")
    machine = bench.machine(kernel=images.kernel(), initrd=images.sound_initramfs(), memory="256M",
                            append="console=ttyS0 quiet do=forever", serial=serial, network="none")
    try:
        machine.start()
        wait(lambda: "PLAYING" in open(serial).read(), 30, "the guest to play")
        time.sleep(2)
        server.start()
        wait(lambda: tone_now(server), 20, "a tone after the server has come")
        server.stop()
        time.sleep(1)
        server.start()
        wait(lambda: tone_now(server), 20, "a tone after the server has restarted")
        info = machine.info()
        check(int(info["sound-played"]) > 100000 and info["sound-recorded"] == "0", "not counted: %r" % info)
        note("%(sound-gaps)s gaps, %(sound-losses)s losses" % info)
        machine.do("suspend")
        check(not tone_now(server), "a suspended machine plays")
        machine.start()
        wait(lambda: tone_now(server), 20, "a tone after the resume")
        check("FAILED" not in open(serial).read(), "the guest's player failed")
        check("no sound server" in machine.log(), "the log does not tell: " + machine.log())
        machine.do("stop", "--force")
    finally:
        server.stop()


main()
