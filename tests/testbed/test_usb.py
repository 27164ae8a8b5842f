# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices of the host in a machine: the testbed is the host, and its USB devices are QEMU's or programs of ours."""
import array
import gzip
import hashlib
import os
import random
import re
import shutil
import socket
import statistics
import threading

import testbed  # first: it knows where the others are
import images
from harness import check, main, note, test
from scripts import LIBRARY, by_hand

HOST_MODULES = ["xhci-pci", "usb-storage", "sd_mod"]
GUEST_MODULES = ["xhci-pci", "usb-storage", "sd_mod", "uas", "ftdi_sio", "snd-usb-audio", "usbhid", "hid-generic", "evdev"]
PROGRAMS = ["aplay", "amixer"]

GUEST = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
exec </dev/ttyS0 >/dev/ttyS0 2>&1
for module in $(cat /modules); do insmod /lib/$module || echo "NO MODULE $module"; done
appears() { i=0; while [ ! -e "$1" ] && [ $i -lt 600 ]; do usleep 50000; i=$((i+1)); done; }
vanishes() { i=0; while [ -e "$1" ] && [ $i -lt 600 ]; do usleep 50000; i=$((i+1)); done; }
do=
for word in $(cat /proc/cmdline); do case $word in do=*) eval "$word";; esac; done
echo "GUEST READY"
. /do/$do
echo "GUEST DONE"
sleep 3600
"""

# MB/s, three times in turn; bytes per 10 ms are those of the clock in /proc/uptime.
SPEED = r"""
appears /dev/sda
clock() { cut -d" " -f1 /proc/uptime | tr -d .; }
for turn in 1 2 3; do
    start=$(clock); dd if=/dev/sda of=/dev/null bs=1M count=48 iflag=direct 2>/dev/null
    echo "%s READ $((48 * 10486 / ($(clock) - start) / 100))"
    start=$(clock); dd if=/dev/zero of=/dev/sda bs=1M count=48 oflag=direct 2>/dev/null
    echo "%s WROTE $((48 * 10486 / ($(clock) - start) / 100))"
done
"""

DO = {
    "storage": r"""
appears /dev/sda
[ -e /dev/sda ] || dmesg | tail -30
echo "SIZE $(cat /sys/block/sda/size) SPEED $(cat /sys/bus/usb/devices/*-*/speed | sort -n | tail -1)"
for d in /sys/bus/usb/drivers/uas/*-*; do [ -e $d ] && echo "DRIVER uas"; done
echo "SUM $(dd if=/dev/sda bs=1M count=16 2>/dev/null | md5sum)"
dd if=/dev/sda of=/tmp/first bs=1M count=8 2>/dev/null
dd if=/tmp/first of=/dev/sda bs=1M seek=16 conv=notrunc oflag=direct 2>/dev/null && echo "WROTE"
sync
echo 3 > /proc/sys/vm/drop_caches
echo "COPY $(dd if=/dev/sda bs=1M count=8 skip=16 2>/dev/null | md5sum)"
""",
    # Reads until the stick is gone, twice.
    "pulled": r"""
for time in 1 2; do
    appears /dev/sda; echo "READING $time"
    i=0
    while dd if=/dev/sda of=/dev/null bs=64k count=32 skip=$((i % 8 * 32)) iflag=direct 2>/dev/null; do i=$((i+1)); done
    vanishes /dev/sda
    echo "GONE $time"
done
dmesg | grep -E "xhci.*(died|not respond|error)" && echo BAD
""",
    "speed": SPEED % ("GUEST", "GUEST"),
    # Four devices: sound, while a serial line, a pointer and a disk do what they can. Then the disk comes and goes.
    "together": r"""
while [ ! -e /dev/snd/pcmC0D0p ] || [ ! -e /dev/ttyUSB0 ] || [ ! -e /dev/sda ]; do usleep 50000; done
for d in /sys/bus/usb/drivers/uas/*-*; do [ -e $d ] && echo "DRIVER uas"; done
stty -F /dev/ttyUSB0 raw -echo 115200
amixer -q -c 0 sset PCM 100% unmute || amixer -c 0
(aplay -q -D plughw:0 /tone.wav && echo PLAYED) &
read line < /dev/ttyUSB0
echo "HEARD $line"
i=0; while [ $i -lt 200 ]; do echo "line $i of two hundred"; i=$((i+1)); done > /dev/ttyUSB0
for e in /sys/class/input/event*; do grep -q "QEMU.*Tablet" $e/device/name && pointer=/dev/input/${e##*/}; done
echo "POINTER $(dd if=$pointer bs=24 count=2 2>/dev/null | hexdump -v -e '24/1 "%02x" " "')"
echo "SUM $(dd if=/dev/sda bs=1M count=8 2>/dev/null | md5sum)"
dd if=/dev/sda of=/tmp/first bs=1M count=4 2>/dev/null
dd if=/tmp/first of=/dev/sda bs=1M seek=16 conv=notrunc oflag=direct 2>/dev/null && echo "WROTE"
wait
echo "TOGETHER DONE"
for time in 1 2; do
    appears /dev/sda; echo "READING $time"
    while dd if=/dev/sda of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null; do :; done
    vanishes /dev/sda; echo "GONE $time"
done
appears /dev/sda
dd if=/dev/sda of=/dev/null bs=1M count=4 2>/dev/null && echo "HAS IT AGAIN"
""",
}


def guest():
    def make(path):
        root = path + ".d"
        images.fill_initramfs(root, GUEST, images.module_list(*GUEST_MODULES),
                              {"/do/" + name: script for name, script in DO.items()})
        for name in PROGRAMS:
            images.copy_program(root, name)
        shutil.copytree("/usr/share/alsa", root + "/usr/share/alsa")
        images.write_tone(root + "/tone.wav", 440, 48000, 2, 3)
        with gzip.open(path, "wb", 1) as out:
            out.write(images.pack_folder(root))
    tag = hashlib.sha256((GUEST + repr(sorted(DO.items())) + repr(GUEST_MODULES) + images.kernel()).encode()).hexdigest()[:12]
    return images.made("pass-%s.gz" % tag, make)


USB = LIBRARY + r"""
appears() { i=0; while [ ! -e "$1" ]; do i=$((i+1)); [ $i -lt 400 ] || { echo "NO $1"; return 1; }; usleep 50000; done; }
machine() { # WHAT THE GUEST DOES
    ringctl create m --memory 256 --engine ${engine:-kvm} --kernel /guest/vmlinux --initrd /pass.gz \
        --append "console=ttyS0 quiet no_timer_check do=$1" --serial /tmp/serial
    ringctl start m
}
"""


def bed(bench, script, devices, seconds=90, files=None, modules=HOST_MODULES, **more):
    """The testbed with an xHCI controller and these devices."""
    paths = images.module_list(*modules)
    names = [os.path.basename(path)[:-3] for path in paths]
    everything = {"/lib/%s.ko" % name: path for name, path in zip(names, paths)}
    everything.update({"/pass.gz": guest()}, **(files or {}))
    return testbed.run(bench, USB + script, modules=[*testbed.MODULES, *names], files=everything, seconds=seconds,
                       devices=["-device", "qemu-xhci,id=x,p2=8,p3=8", *devices], **more)


def disk(bench, name, mib):
    path = bench.path(name)
    with open(path, "wb") as image:
        image.write(random.Random(name).randbytes(mib << 20))
    return path


def stick(bench, mib=32, rate=None):
    """QEMU's arguments for a USB 3 stick, and its image. rate: bytes per second."""
    image = disk(bench, "stick.img", mib)
    return ["-drive", "if=none,id=stick,format=raw,cache=unsafe,file=" + image +
            (",throttling.bps-total=%d" % rate if rate else ""),
            "-device", "usb-storage,bus=x.0,drive=stick"], image


@test
def storage_is_read_and_written(bench):
    devices, image = stick(bench)
    before = open(image, "rb").read()
    result = bed(bench, """
        appears /dev/sda; ringctl usb list; ringctl usb list --json
        machine storage
        await "GUEST READY"
        ringctl usb attach m 46f4:0001
        [ ! -e /dev/sda ]
        ringctl usb list
        ringctl usb attach m 46f4:0001 || echo "STATUS OF SECOND $?"
        await "GUEST DONE"; cat /tmp/serial
        ringctl usb detach m 46f4:0001
        appears /dev/sda
        ringctl usb list
        ringctl usb detach m 46f4:0001 || echo "STATUS OF DETACH $?"
        cat $folder/monitor.log
        ringctl stop --force m
        """, devices)
    result.expect("machine m", "usb-storage", "STATUS OF SECOND 3", "STATUS OF DETACH 3", "WROTE",
                  "SIZE %d SPEED 5000" % (len(before) // 512),
                  "SUM " + hashlib.md5(before[:16 << 20]).hexdigest(),
                  "COPY " + hashlib.md5(before[:8 << 20]).hexdigest())
    after = open(image, "rb").read()
    check(after[16 << 20:24 << 20] == before[:8 << 20], "what the guest wrote is not on the stick")
    check(after[:16 << 20] == before[:16 << 20] and after[24 << 20:] == before[24 << 20:], "the guest wrote elsewhere")


VIRTUAL = r"""
device() { # [lie N]: puts the program's device into a port; its node is $node
    usb_device $port "$@"; i=0; node=
    while [ -z "$node" ]; do
        for d in /sys/bus/usb/devices/*; do
            [ "$(cat $d/idVendor 2>/dev/null)" = 1209 ] || continue
            node=$(printf /dev/bus/usb/%03d/%03d $(cat $d/busnum) $(cat $d/devnum))
        done
        i=$((i+1)); [ $i -lt 100 ] || { echo "NO DEVICE"; dmesg | tail; return 1; }; usleep 50000
    done
    port=$((port+1))
}
gone() { i=0; while [ -e $node ] && [ $i -lt 100 ]; do usleep 50000; i=$((i+1)); done; }
port=0
"""


def virtual(bench, script, **more):
    """A testbed with a device that is a program."""
    build = os.environ.get("RINGSIDE_BUILD", "build") + "/tests/testbed/"
    return bed(bench, VIRTUAL + script, [], modules=["vhci-hcd"],
               files={"/usr/bin/usb_device": build + "usb_device", "/usr/bin/usb_try": build + "usb_try"}, **more)


@test
def every_transfer_type_and_misbehaviour(bench):
    """Without a machine: transfers of all types, a device that goes in the middle of them, descriptors that lie, a guest
    that does anything. By hand more of each."""
    thorough = os.environ.get("RINGSIDE_BY_HAND")
    kinds = ["bulk", "isochronous", "nothing"] + (["control", "interrupt"] if thorough else [])
    lies = [1, 2, 3, 4] if thorough else [1, 4]
    log = virtual(bench, """device; usb_try $node everything; usb_try $node noise %d; kill $(pidof usb_device); gone
        for kind in %s; do device; usb_try $node vanish $kind; gone; done
        for n in %s; do device lie $n; timeout 20 usb_try $node lie; kill $(pidof usb_device); gone; done
        """ % (5000 if thorough else 600, " ".join(kinds), " ".join(map(str, lies)))).expect(
            "OK control", "OK bulk", "OK cancel", "OK interrupt", "OK isochronous 81", "OK isochronous 02", "OK noise",
            *["OK vanish " + kind for kind in kinds]).log
    note(re.search("noise: .*", log).group())
    check(log.count("OK lie") == len(lies) and log.count("OK closed") == 2 + len(kinds) + len(lies), log[-3000:])


class Line:
    """What is at the other end of the serial line: it says hello until it is heard, for what comes before the guest has opened
    the line is lost."""

    def __init__(self, bench):
        self.path, self.stop, ends = bench.path("line"), threading.Event(), {}
        for end in ("in", "out"):
            os.mkfifo(self.path + "." + end)
            ends[end] = os.open(self.path + "." + end, os.O_RDWR | os.O_NONBLOCK)
        self.ends = ends
        threading.Thread(target=self.speak, daemon=True).start()

    def speak(self):
        while not self.stop.wait(0.5):
            os.write(self.ends["in"], b"hello over a serial line\n")

    def heard(self):
        self.stop.set()
        lines = os.read(self.ends["out"], 1 << 16).decode().replace("\r", "").splitlines()
        return [line for line in lines if not line.startswith("hello")]  # a terminal's echo, before stty has switched it off


class Buttons:
    """Presses the button of the testbed's pointer again and again, by QEMU's monitor."""

    def __init__(self, bench):
        self.path, self.stop = bench.path("qemu"), threading.Event()
        threading.Thread(target=self.press, daemon=True).start()

    def press(self):
        monitor = None
        while not self.stop.wait(0.3):
            try:
                if not monitor:
                    monitor = socket.socket(socket.AF_UNIX)
                    monitor.connect(self.path)
                monitor.sendall(b"mouse_button 1\nmouse_button 0\n")
                monitor.recv(1 << 16)
            except OSError:
                monitor = None


def check_tone(path):
    left = array.array("h", open(path, "rb").read()[44:])[::2]
    rising = [i for i in range(1, len(left)) if left[i - 1] < 0 <= left[i]]
    periods = [b - a for a, b in zip(rising, rising[1:])]
    check(len(periods) > 440, "only %d periods of the tone" % len(periods))
    note("%.1f Hz, %d periods of 1320, %d samples of 144000" % (48000 / statistics.mean(
        p for p in periods if 90 < p < 130), len(periods), sum(1 for x in left if x)))
    check(abs(48000 / statistics.median(periods) - 440) < 5, "%.1f Hz" % (48000 / statistics.median(periods)))


@test
def several_devices_at_once(bench):
    """A disk that speaks UAS (bulk streams), a sound card (isochronous), a serial line and a pointer (interrupt), of three speeds.
    A suspended machine does not have them; a rule brings the disk back, also when it was pulled out and plugged in again."""
    image, heard, line, buttons = disk(bench, "disk.img", 32), bench.path("heard.wav"), Line(bench), Buttons(bench)
    before = open(image, "rb").read()
    result = bed(bench, """
        replug() { echo 0 > /sys/bus/usb/devices/usb2/authorized; echo 1 > /sys/bus/usb/devices/usb2/authorized; }
        appears /dev/sda
        machine together
        await "GUEST READY"
        for device in 0403:6001 46f4:0002 0627:0001 46f4:0003; do ringctl usb attach m $device; done
        ringctl usb list
        [ $(ringctl usb list | grep -c "machine m") = 4 ]
        ringctl usb rule m --add 46f4:0003
        await "TOGETHER DONE"
        await "READING 1"
        ringctl suspend m
        appears /dev/sda; [ $(ringctl usb list | grep -c "machine m") = 0 ]
        cat /tmp/serial; mv /tmp/serial /tmp/serial.before
        ringctl start m
        await "READING 2"; [ $(ringctl usb list | grep -c "machine m") = 1 ]
        echo 1 > /sys/bus/usb/devices/2-1/remove
        await "GONE 2"
        replug
        await "HAS IT AGAIN"
        cat /tmp/serial $folder/monitor.log
        ringctl stop --force m
        appears /dev/sda
        """, ["-drive", "if=none,id=disk,format=raw,file=" + image, "-device", "usb-uas,bus=x.0,id=uas",
              "-device", "scsi-hd,bus=uas.0,drive=disk",
              "-chardev", "pipe,id=line,path=" + line.path, "-device", "usb-serial,bus=x.0,chardev=line",
              "-audiodev", "wav,id=a,out.frequency=48000,path=" + heard, "-device", "usb-audio,bus=x.0,audiodev=a",
              "-device", "usb-tablet,bus=x.0", "-monitor", "unix:%s,server=on,wait=off" % buttons.path],
        modules=["xhci-pci", "uas", "sd_mod"])
    buttons.stop.set()
    result.expect("DRIVER uas", "HEARD hello over a serial line", "PLAYED", "WROTE", "GONE 1",
                  "SUM " + hashlib.md5(before[:8 << 20]).hexdigest())
    lines = line.heard()
    check(lines == ["line %d of two hundred" % i for i in range(200)], repr(lines[:3] + lines[-3:]))
    # struct input_event: EV_MSC and EV_KEY, or EV_KEY and EV_SYN: the button is among them.
    check(re.search("POINTER .*01001001", result.log), "no button of the pointer: " + result.log[-3000:])
    check(result.log.count("was pulled out") == 1, result.log[-3000:])
    after = open(image, "rb").read()
    check(after == before[:16 << 20] + before[:4 << 20] + before[20 << 20:], "the disk has not what the guest wrote")
    check_tone(heard)


@by_hand
def pulled_out_while_the_guest_reads(bench):
    """By sysfs, which to everybody is as if it was pulled; plugged in again by the kernel's looking at the port anew."""
    devices, image = stick(bench)
    result = bed(bench, """
        appears /dev/sda
        machine pulled
        await "GUEST READY"
        for time in 1 2; do
            appears /dev/bus/usb/002/00$((time+1))
            ringctl usb attach m 46f4:0001; await "READING $time"; sleep 1
            echo 1 > /sys/bus/usb/devices/2-1/remove
            await "GONE $time"
            ringctl usb list
            [ $time = 2 ] || { echo 0 > /sys/bus/usb/devices/usb2/authorized; echo 1 > /sys/bus/usb/devices/usb2/authorized; }
        done
        await "GUEST DONE"; absent BAD; cat $folder/monitor.log
        ringctl stop --force m
        """, devices)
    result.expect()
    check(result.log.count("was pulled out") == 2, result.log[-3000:])


@test
def without_permission(bench):
    """One sentence with the remedy."""
    devices, image = stick(bench)
    bed(bench, """
        appears /dev/sda
        chmod 755 /root; chmod 600 /dev/bus/usb/*/*; mkdir -p /tmp/alice/run; echo alice:x:1000:1000::/tmp/alice:/bin/sh >> /etc/passwd
        chmod 700 /tmp/alice/run; chown -R 1000:1000 /tmp/alice
        cat > /tmp/alice/job <<'END'
        export HOME=/tmp/alice XDG_RUNTIME_DIR=/tmp/alice/run PATH=$PATH:/usr/bin RINGSIDE_MONITOR=/usr/bin/ringside-monitor
        ringctl create a --memory 64M --engine translate; ringctl start a
        ringctl usb attach a 46f4:0001 || echo STATUS $?
        ringctl stop --force a
END
        su alice -c "sh /tmp/alice/job"
        """, devices).expect("STATUS 1", "You may not use the USB device QEMU USB HARDDRIVE (/dev/bus/usb/002/002)",
                             "70-ringside-usb.rules")


def rates(bench, rate):
    devices, image = stick(bench, 64, rate)
    log = bed(bench, SPEED % ("HOST", "HOST") + """
        machine speed
        await "GUEST READY"
        ringctl usb attach m 46f4:0001
        await "GUEST DONE"; cat /tmp/serial
        ringctl stop --force m
        """, devices, cpus=2, seconds=200).expect().log
    for what in ("HOST READ", "GUEST READ", "HOST WROTE", "GUEST WROTE"):
        note("%s %s MB/s" % (what, " ".join(re.findall(what + r" (\d+)", log))))


@by_hand
def throughput(bench):
    """The same stick, read and written by the host itself and by a guest, in turn."""
    rates(bench, None)


@by_hand
def throughput_of_a_slow_stick(bench):
    """One that does 25 MB/s, as sticks do: the testbed's processors are emulated, and far slower than their buses."""
    rates(bench, 25000000)


main()
