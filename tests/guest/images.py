# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests made from Debian's packages, kept in ${XDG_CACHE_HOME:-~/.cache}/ringside-tests.

Each function returns a path and makes what is missing: aside, renamed when it is whole. A lock lets
tests that run at the same time wait for each other. Without network the caller gets a Skip.
"""
import array
import contextlib
import fcntl
import glob
import gzip
import hashlib
import lzma
import math
import os
import re
import shutil
import struct
import subprocess
import tempfile
import wave

from harness import Failure, Skip, need, run

CACHE = os.path.join(os.environ.get("RINGSIDE_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ringside-tests"))


@contextlib.contextmanager
def locked(name):
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made(name, make):
    """CACHE/name, made by make(path of a file or folder to create) if it is not there."""
    path = os.path.join(CACHE, name)
    with locked(name.replace("/", "-")):
        if not os.path.exists(path):
            aside = tempfile.mkdtemp(prefix=".new-", dir=CACHE)
            try:
                result = os.path.join(aside, "result")
                make(result)
                os.rename(result, path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return path


def package(name):
    """The folder that a package's files are unpacked in; nothing is installed."""
    def make(folder):
        need("apt-get", "dpkg")
        where = folder + ".deb"
        os.mkdir(where)
        try:
            run("apt-get", "-o", "APT::Sandbox::User=root", "download", name, cwd=where)
        except Failure as failure:
            raise Skip("the package %s cannot be downloaded: %s" % (
                name, str(failure).strip().splitlines()[-1]))
        run("dpkg", "-x", glob.glob(where + "/*.deb")[0], folder)
    return made("package-" + name, make)


def kernel_package():
    need("apt-cache")
    out = run("apt-cache", "depends", "linux-image-amd64")
    names = re.findall(r"Depends: (linux-image-[0-9]\S*amd64)", out)
    if not names:
        raise Skip("apt knows no linux-image-amd64")
    return package(names[0])


def kernel():
    return glob.glob(kernel_package() + "/boot/vmlinuz-*")[0]


def vmlinux():
    """The uncompressed kernel: the XZ stream inside the bzImage. It has a PVH entry."""
    def make(path):
        data = open(kernel(), "rb").read()
        for match in re.finditer(b"\xfd7zXZ\0", data):
            with contextlib.suppress(lzma.LZMAError):
                image = lzma.LZMADecompressor().decompress(data[match.start():])
                if image.startswith(b"\x7fELF"):
                    open(path, "wb").write(image)
                    return
        raise Skip("this kernel is not packed with XZ")
    return made("vmlinux-" + os.path.basename(kernel()), make)


INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev 2>/dev/null
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo "USERSPACE $(cut -d' ' -f1 /proc/uptime) CPUS $(grep -c ^processor /proc/cpuinfo)"
exit=; do=
for word in $(cat /proc/cmdline); do case $word in exit=*|do=*) eval "$word";; esac; done
for module in $(cat /modules 2>/dev/null); do insmod /lib/$module || echo "NO MODULE $module"; done
[ -f /do/$do ] && . /do/$do
if [ -n "$exit" ]; then
    printf "\\$(printf %o $exit)" | dd of=/dev/port bs=1 count=1 seek=244 2>/dev/null
fi
sync
poweroff -f
sleep 60
"""

# What the initramfs can do, by the kernel command line's do=NAME.
DO = {
    "nothing": "",
    "reboot": "reboot -f\n",
    "wait": "echo WAITING; sleep 3600\n",
    # Pages that Linux was told to leave alone (mem=): nobody touched them before.
    "far-memory": r"""
echo WAITING; sleep 8
i=0; bad=0
while [ $i -lt 32 ]; do devmem $((0x28000000 + i * 4096)) 32 $((i + 77)); i=$((i+1)); done
i=0
while [ $i -lt 32 ]; do
    [ $(($(devmem $((0x28000000 + i * 4096)) 32))) = $((i + 77)) ] || bad=$((bad+1)); i=$((i+1))
done
echo "TOUCHED bad=$bad"
""",
    # Moves the border of the memory that everything runs from, while all CPUs are busy: PAM0 of the host bridge.
    "remap": r"""
for cpu in 1 2 3; do while :; do :; done & done
pam() { printf $1 | dd of=/sys/bus/pci/devices/0000:00:00.0/config bs=1 seek=144 conv=notrunc 2>/dev/null; }
i=0
while [ $i -lt 40 ]; do pam '\060'; pam '\000'; i=$((i+1)); done
pam '\060'
echo "REMAPPED $(hexdump -s 144 -n 1 -e '1/1 "%x"' /sys/bus/pci/devices/0000:00:00.0/config)"
""",
    # More than the port's FIFO, so that interrupts are needed.
    "second-port": "for i in 1 2 3 4 5 6 7 8; do echo HELLO FROM TTYS1; done > /dev/ttyS1; "
                   "stty -F /dev/ttyS1 -a | head -1; dmesg | grep 'ttyS1 at'\n",
    # Writes blocks with their number in them for ever; says how far it is after each sync.
    "write": r"""
i=0
while :; do
    i=$((i+1)); yes "block $i" | dd of=/dev/sda bs=64k count=16 seek=$((i % 900 * 16)) conv=notrunc iflag=fullblock 2>/dev/null
    sync; echo "WROTE $i"
done
""",
    # 96 MiB of a known pattern; then reads it back.
    "fill": r"""
echo FILLING
i=0
while [ $i -lt 96 ]; do
    yes "mebibyte $i" | dd of=/dev/sda bs=1M count=1 seek=$i conv=notrunc iflag=fullblock oflag=direct 2>/dev/null || echo "WRITE ERROR $i"
    i=$((i+1))
done
sync; echo 3 > /proc/sys/vm/drop_caches
i=0; bad=0
while [ $i -lt 96 ]; do
    a=$(dd if=/dev/sda bs=1M count=1 skip=$i 2>/dev/null | md5sum)
    b=$(yes "mebibyte $i" | dd bs=1M count=1 iflag=fullblock 2>/dev/null | md5sum)
    [ "$a" = "$b" ] || bad=$((bad+1))
    i=$((i+1))
done
echo "FILLED bad=$bad"
""",
    # Reads 400 times 4 KiB past the page cache, one after the other, after a pause to be looked at in.
    "requests": """
echo WAITING; sleep 3
dd if=/dev/sda of=/dev/null bs=4k count=400 iflag=direct 2>/dev/null
echo READ; sleep 3600
""",
    # Counts aloud, with a checksum of memory, so that a jump in time or state shows.
    "count": r"""
dd if=/dev/urandom of=/tmp.bin bs=1M count=8 2>/dev/null
sum=$(md5sum < /tmp.bin)
i=0
while [ $i -lt 400 ]; do
    i=$((i+1)); [ "$(md5sum < /tmp.bin)" = "$sum" ] || echo "MEMORY CHANGED"
    echo "COUNT $i"
done
echo "COUNTED"
""",
}


def module_list(*names):
    """Modules with what they need, in an order that insmod can follow."""
    base = glob.glob(kernel_package() + "/lib/modules/*")[0]
    need("depmod", "modprobe")
    version = os.path.basename(base)
    root = kernel_package()
    if not os.path.exists(base + "/modules.dep"):
        with locked("depmod"):
            run("/sbin/depmod", "-b", root, version)
    order = []
    for name in names:
        out = run("/sbin/modprobe", "-d", root, "-S", version, "--show-depends", name)
        for path in re.findall(r"^insmod (\S+)", out, re.M):
            if path not in order:
                order.append(path)
    return order


def busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path) and "static" in subprocess.run(
                ["file", path], stdout=subprocess.PIPE, text=True).stdout:
            return path
    return package("busybox-static") + "/bin/busybox"


def write_file(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write(text)
    os.chmod(path, mode)


def fill_initramfs(root, init, modules, files):
    """busybox, `init`, the modules in /lib with their order in /modules, files: path in it to text."""
    os.makedirs(root + "/bin")
    os.makedirs(root + "/lib")
    shutil.copy(busybox(), root + "/bin/busybox")
    os.chmod(root + "/bin/busybox", 0o755)
    write_file(root + "/init", init, 0o755)
    for name, text in files.items():
        write_file(root + name, text)
    for module in modules:
        shutil.copy(module, root + "/lib")
    write_file(root + "/modules", "\n".join(os.path.basename(m) for m in modules) + "\n")


def pack_folder(root):
    """A folder as a cpio archive; the kernel takes several, one after the other."""
    need("cpio")
    names = run("find", ".", cwd=root)
    return subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root,
                          input=names.encode(), stdout=subprocess.PIPE, check=True).stdout


def pack_initramfs(path, init, modules, files, programs=()):
    """programs: of the host, go to /bin."""
    root = path + ".d"
    fill_initramfs(root, init, modules, files)
    for program in programs:
        shutil.copy(program, root + "/bin")
    with gzip.open(path, "wb", 1) as out:
        out.write(pack_folder(root))


def initramfs():
    def make(path):
        pack_initramfs(path, INIT, module_list("ahci", "sd_mod"),
                       {"/do/" + name: script for name, script in DO.items()})
    tag = hashlib.sha256((INIT + repr(sorted(DO.items())) + kernel()).encode()).hexdigest()[:12]
    return made("initramfs-%s.gz" % tag, make)


# Opens the chipset's watchdog, says how long it has, and does not answer it.
WATCHDOG_INIT = INIT.replace("sync\npoweroff -f", r"""
watchdog -T 3 -t 3600 /dev/watchdog
echo "ARMED $(cat /sys/class/watchdog/watchdog0/identity) $(cat /sys/class/watchdog/watchdog0/timeout)"
sleep 30; echo NOBODY CAME
poweroff -f""")


def watchdog_initramfs():
    def make(path):
        pack_initramfs(path, WATCHDOG_INIT, module_list("lpc_ich", "iTCO_wdt"), {})
    tag = hashlib.sha256((WATCHDOG_INIT + kernel()).encode()).hexdigest()[:12]
    return made("watchdog-%s.gz" % tag, make)


NETWORK_UP = r"""
cat > /lease <<'END'
#!/bin/sh
case $1 in bound | renew)
    ip address replace $ip/24 dev $interface; ip route replace default via $router
    echo "nameserver $dns" > /etc/resolv.conf
    echo "LEASE $ip ROUTER $router DNS $dns" ;;
esac
END
chmod +x /lease; mkdir -p /etc /tmp
ip link set lo up; ip link set eth0 up
[ "$do" = tap ] || udhcpc -i eth0 -q -n -t 20 -T 1 -s /lease 2>/dev/null || echo "NO LEASE"
"""

# On the command line: port= of a web server on the host's loopback, up= of one that takes bytes.
NETWORK_DO = {
    "download": r"""
echo "NAME $(nslookup host.ringside.test 2>&1 | grep -A1 'Name:.*host.ringside.test' | grep -c 'Address.*10.1.2.3')"
while ! wget -c -q -O /tmp/file http://10.0.2.2:$port/file; do
    echo "BROKEN AT $(stat -c %s /tmp/file)"; sleep 1
done
echo "DOWNLOADED $(md5sum < /tmp/file)"
size=$(stat -c %s /tmp/file); have=0
while [ "$have" != $size ]; do
    tail -c +$((have + 1)) /tmp/file | nc 10.0.2.2 $up || echo "BROKEN AFTER $have"
    have=$(wget -q -O - http://10.0.2.2:$port/have)
done
echo "UPLOADED"
""",
    "ipv6": r"""
i=0; while ! ip -6 route show default | grep -q . && [ $i -lt 20 ]; do sleep 1; i=$((i+1)); done
ip -6 address show dev eth0 | grep -q 'inet6 fec0::' && echo "ADDRESS6"
wget -q -O /tmp/six "http://[fec0::2]:$port/file" && echo "DOWNLOADED $(md5sum < /tmp/six)"
""",
    "tap": r"""
ip address add 192.168.231.2/24 dev eth0
wget -q -O /tmp/file http://192.168.231.1:$port/file && echo "DOWNLOADED $(md5sum < /tmp/file)"
""",
    "isolated": r"""
wget -q -T 5 -O /tmp/file http://10.0.2.2:$port/file && echo "GOT OUT"
echo "ISOLATED"
""",
    "listen": r"""
(while :; do echo HELLO FROM THE GUEST | nc -l -p 22; done) &
echo LISTENING
last=
while :; do
    now=$(cat /sys/class/net/eth0/carrier); [ "$now" = "$last" ] || echo "CARRIER $now"
    last=$now; sleep 1
done
""",
}


def network_initramfs():
    init = INIT.replace("[ -f /do/$do ]", NETWORK_UP + "[ -f /do/$do ]").replace(
        "exit=*|do=*)", "exit=*|do=*|port=*|up=*|seconds=*)")
    modules = ["e1000e", "virtio_pci", "virtio_net"]

    def make(path):
        pack_initramfs(path, init, module_list(*modules),
                       {"/do/" + name: script for name, script in NETWORK_DO.items()})
    tag = hashlib.sha256((init + repr(sorted(NETWORK_DO.items())) + repr(modules) +
                          kernel()).encode()).hexdigest()[:12]
    return made("network-%s.gz" % tag, make)


VIDEO_DO = {
    "look": r"""
echo HELLO CONSOLE > /dev/tty1; echo LOOKED
i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo "TICK $i"; [ $i = 25 ] && echo AGAIN HERE > /dev/tty1; sleep 0.3; done
""",
    # The preferred mode is the first; reading `status` has the kernel look again.
    "size": r"""
last=
while :; do
    echo detect > /sys/class/drm/card0-Virtual-1/status
    now=$(head -n 1 /sys/class/drm/card0-Virtual-1/modes); [ "$now" = "$last" ] || echo "MODE $now"
    [ "$now" = "$last" ] || echo "MODES" $(sort -u /sys/class/drm/card0-Virtual-1/modes) END
    last=$now; sleep 0.3
done
""",
    "show": "/bin/drm_show\n",
    "cursor": "/bin/drm_show cursor\n",
    "move": "/bin/drm_show cursor move\n",
    # A device is in use while somebody reads it, as a desktop does.
    "tablet": r"""
while ! grep -q -i tablet /sys/class/input/event*/device/name; do sleep 0.2; done
for event in /dev/input/event*; do cat $event > /dev/null & done
/bin/drm_show cursor
""",
}


def drm_show():
    """The program of the same name that this build made."""
    path = os.path.join(os.environ.get("RINGSIDE_BUILD", "build"), "tests/guest/drm_show")
    if not os.path.exists(path):
        raise Skip("drm_show was not built: libdrm-dev is not installed")
    return path


def video_initramfs(*more):
    modules = ["virtio_pci", "virtio_gpu", *more]
    program = drm_show()

    def make(path):
        pack_initramfs(path, INIT, module_list(*modules),
                       {"/do/" + name: script for name, script in VIDEO_DO.items()}, [program])
    with open(program, "rb") as file:
        tag = hashlib.sha256((INIT + repr(sorted(VIDEO_DO.items())) + repr(modules) + kernel()).encode() +
                             file.read()).hexdigest()[:12]
    return made("video-%s.gz" % tag, make)


def video_tablet_initramfs():
    return video_initramfs("xhci_pci", "usbhid", "hid_generic", "evdev")


# What the sound guest does: each case starts with the mixer open.
SOUND_DO = {
    "tone": "echo PLAYING; aplay -q -D plughw:0 /tone.wav && echo PLAYED\n",
    "mono": "echo PLAYING; aplay -q -D plughw:0 /mono.wav && echo PLAYED\n",
    "quiet": "amixer -q -c 0 sset Master 54; echo PLAYING; aplay -q -D plughw:0 /tone.wav && echo PLAYED\n",
    "mute": "amixer -q -c 0 sset Master mute; echo PLAYING; aplay -q -D plughw:0 /tone.wav && echo PLAYED\n",
    "record": "echo RECORDING; arecord -q -D plughw:0 -f S16_LE -r 48000 -c 2 -d 4 /heard.wav && echo RECORDED\n"
              "aplay -q -D plughw:0 /heard.wav && echo PLAYED\n",
    "forever": "echo PLAYING; while :; do aplay -q -D plughw:0 /tone.wav || echo FAILED; done\n",
}


def write_tone(path, hertz, rate, channels, seconds):
    with wave.open(path, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        samples = array.array("h")
        for i in range(rate * seconds):
            samples.extend([int(16000 * math.sin(2 * math.pi * hertz * i / rate))] * channels)
        out.writeframes(samples.tobytes())


def copy_program(root, name):
    """A program of the host with the libraries it is linked with."""
    need(name, "ldd")
    path = shutil.which(name)
    for file in [path] + re.findall(r"(/\S+)", run("ldd", path)):
        os.makedirs(os.path.dirname(root + file), exist_ok=True)
        shutil.copy(file, root + file)


def sound_initramfs():
    need("aplay", "amixer", "arecord")
    init = INIT.replace("[ -f /do/$do ]", "mkdir -p /tmp; sleep 1\namixer -q -c 0 sset Master 74 unmute\n"
                        "amixer -q -c 0 sset Capture 74 cap\n[ -f /do/$do ]")

    def make(path):
        root = path + ".d"
        fill_initramfs(root, init, module_list("snd-hda-codec-generic", "snd-hda-intel"),
                       {"/do/" + name: script for name, script in SOUND_DO.items()})
        for name in ("aplay", "amixer", "arecord"):
            copy_program(root, name)
        shutil.copytree("/usr/share/alsa", root + "/usr/share/alsa")
        write_tone(root + "/tone.wav", 440, 48000, 2, 7)
        write_tone(root + "/mono.wav", 1000, 22050, 1, 7)
        with gzip.open(path, "wb", 1) as out:
            out.write(pack_folder(root))
    tag = hashlib.sha256((init + repr(sorted(SOUND_DO.items())) + kernel()).encode()).hexdigest()[:12]
    return made("sound-%s.gz" % tag, make)


USB_MODULES = ["xhci-pci", "usbhid", "hid-generic", "evdev", "usb-storage", "sd_mod"]

# Opens it, which takes 50 ms: usbhid drops what comes meanwhile.
OPEN = r"""
for e in /sys/class/input/event*; do
    grep -q "$name" $e/device/name && device=/dev/input/${e##*/}
done
exec 3< $device
"""

USB_DO = {
    # What the kernel made of the tree of devices.
    "look": r"""
for d in /sys/bus/usb/devices/*; do
    [ -f $d/product ] && echo "USB ${d##*/} $(cat $d/speed) $(cat $d/product)"
done
for e in /sys/class/input/event*; do echo "INPUT ${e##*/} $(cat $e/device/name)"; done
echo LOOKED
""",
    # Fills the USB disk and reads it back; what is there is also looked at from outside.
    "disk": r"""
cat /sys/block/sda/size
dd if=/dev/urandom of=/tmp/data bs=1M count=$mib 2>/dev/null
echo COPYING
a=$(cut -d" " -f1 /proc/uptime); dd if=/tmp/data of=/dev/sda bs=1M oflag=direct 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
b=$(cut -d" " -f1 /proc/uptime); dd if=/dev/sda of=/tmp/back bs=1M count=$mib iflag=direct 2>/dev/null
c=$(cut -d" " -f1 /proc/uptime); echo "TIMES $a $b $c"
cmp /tmp/data /tmp/back && echo SAME
echo "SUM $(md5sum < /tmp/data | cut -d' ' -f1)"
rm /tmp/back; time dd if=/dev/sda of=/dev/null bs=512 count=2000 iflag=direct 2>/dev/null
""",
    # Copies within the disk, again and again, and checks each copy.
    "copy": r"""
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null
sum=$(md5sum < /tmp/data); i=0; bad=0
while [ $i -lt $rounds ]; do
    i=$((i+1)); dd if=/tmp/data of=/dev/sda bs=64k seek=$((i * 128)) conv=notrunc oflag=direct 2>/dev/null || echo "WRITE ERROR"
    [ "$(dd if=/dev/sda bs=64k skip=$((i * 128)) count=128 iflag=direct 2>/dev/null | md5sum)" = "$sum" ] || bad=$((bad+1))
    echo "COPY $i"
done
echo "COPIED bad=$bad"
""",
    # Input events of one device, in hexadecimal: struct input_event.
    "events": OPEN + r"""
echo "LISTENING $device"
hexdump -v -e '24/1 "%02x" "\n"' <&3
""",
    # A game pad that comes and goes: what it has, and its events.
    "pad": r"""
while :; do
    pad=
    while [ -z "$pad" ]; do
        for e in /sys/class/input/event*; do
            grep -q "Game Pad" $e/device/name 2>/dev/null && [ -e /dev/input/${e##*/} ] && pad=$e
        done
        sleep 0.2
    done
    c=$pad/device/capabilities
    { echo "PAD key=$(cat $c/key | cut -d' ' -f1) abs=$(cat $c/abs)"; hexdump -v -e '24/1 "%02x" "\n"' <&3; } 3< /dev/input/${pad##*/}
    echo "GONE"
done
""",
    # As "events", with a device that the guest puts to sleep when there is nothing.
    "asleep": OPEN + r"""
for d in /sys/bus/usb/devices/1-1; do echo 0 > $d/power/autosuspend_delay_ms; echo auto > $d/power/control; done
(while :; do s=$(cat /sys/bus/usb/devices/1-1/power/runtime_status); [ "$s" = "$l" ] || echo "NOW $s"; l=$s; sleep 0.2; done) &
echo "LISTENING $device"
hexdump -v -e '24/1 "%02x" "\n"' <&3
""",
}


def usb_initramfs():
    init = INIT.replace("[ -f /do/$do ]", "mkdir -p /tmp; sleep 2\n[ -f /do/$do ]").replace(
        "exit=*|do=*)", "exit=*|do=*|mib=*|rounds=*|name=*)")

    def make(path):
        pack_initramfs(path, init, module_list(*USB_MODULES),
                       {"/do/" + name: script for name, script in USB_DO.items()})
    tag = hashlib.sha256((init + repr(sorted(USB_DO.items())) + repr(USB_MODULES) +
                          kernel()).encode()).hexdigest()[:12]
    return made("usb-%s.gz" % tag, make)


def grub_rescue():
    return package("grub-rescue-pc") + "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"


def grub_modules():
    for folder in ("/usr/lib/grub/i386-pc", package("grub-pc-bin") + "/usr/lib/grub/i386-pc"):
        if os.path.exists(folder + "/boot.img"):
            return folder
    raise Skip("grub-pc-bin has no i386-pc modules")


def grub_iso(name, config, files):
    """An ISO that boots `config`; files: path on the ISO to path here."""
    def make(path):
        need("grub-mkrescue", "xorriso", "mformat")
        root = path + ".d"
        write_file(root + "/boot/grub/grub.cfg", config)
        for where, source in files.items():
            target = os.path.join(root, where)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
        run("grub-mkrescue", "-d", grub_modules(), "-o", path, root)
    return made(name + ".iso", make)


def memtest():
    program = package("memtest86+") + "/boot/memtest86+x64.bin"
    return grub_iso("memtest", "linux16 /memtest\nboot\n", {"memtest": program})


def installer_folder(arch, flavor):
    return "%s/usr/lib/debian-installer/images/12/%s/%s/debian-installer/%s/" % (
        package("debian-installer-12-netboot-" + arch), arch, flavor, arch)


def installer(arch, flavor, append):
    base = installer_folder(arch, flavor)
    graphics = "set gfxpayload=800x600x32\ninsmod all_video\n" if flavor == "gtk" else \
        "set gfxpayload=text\n"
    config = "%slinux /linux %s\ninitrd /initrd.gz\nboot\n" % (graphics, append)
    return grub_iso("installer-%s-%s" % (arch, flavor), config,
                    {"linux": base + "linux", "initrd.gz": base + "initrd.gz"})


GRUB_CONFIG = """set root=(hd0,msdos1)
linux /vmlinuz root=/dev/sda1 ro nomodeset quiet
initrd /initrd.img
boot
"""

HOOK = r"""#!/bin/sh
set -e
echo 'root:ringside' | chroot "$1" chpasswd
echo debian > "$1/etc/hostname"
echo '/dev/sda1 / ext4 rw,noatime 0 1' > "$1/etc/fstab"
ln -sf /dev/null "$1/etc/systemd/system/systemd-networkd-wait-online.service"
mkdir -p "$1/boot/grub"
cat > "$1/boot/grub/grub.cfg" <<'END'
""" + GRUB_CONFIG + "END\n"
PART_START = 2048  # sectors
PART_OFFSET = "?offset=%d" % (PART_START * 512)  # as e2fsprogs want it after a file's name


def debian_tree(path):
    need("mmdebstrap")
    write_file(path + ".hook", HOOK, 0o755)
    try:
        run("mmdebstrap", "--variant=minbase", "--quiet",
            "--include=linux-image-amd64,systemd-sysv,udev,dbus,kmod,login,passwd,initramfs-tools,zstd",
            "--customize-hook=" + path + ".hook", "bookworm", path + ".tar")
    except Failure as failure:
        raise Skip("mmdebstrap cannot make a Debian: " + str(failure).splitlines()[-1])
    os.makedirs(path)
    run("tar", "-xf", path + ".tar", "-C", path, "--numeric-owner")


def put_partition(image, sectors):
    """One bootable Linux partition, from PART_START on."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", PART_START, sectors)
    with open(image, "r+b") as disk:
        disk.seek(446)
        disk.write(entry.ljust(64, b"\0") + b"\x55\xaa")


def put_grub(image, root):
    """GRUB without loop devices: boot.img into the MBR, a core image into the gap after it."""
    modules = grub_modules()
    core = root + ".core"
    need("grub-mkimage")
    run("grub-mkimage", "-d", modules, "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub",
        "biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile", "ls", "echo")
    boot = bytearray(open(modules + "/boot.img", "rb").read())
    data = open(core, "rb").read()
    if len(data) > (PART_START - 1) * 512:
        raise Failure("GRUB's core does not fit before the partition")
    with open(image, "r+b") as disk:
        table = disk.read(512)[440:]
        disk.seek(0)
        disk.write(bytes(boot[:440]) + table)
        disk.seek(512)
        disk.write(data)


def debian_disk():
    """A raw disk with Debian 12: root's password is "ringside"."""
    def make(path):
        need("mke2fs")
        root = path + ".root"
        debian_tree(root)
        size = 1800 << 20
        with open(path, "wb") as disk:
            disk.truncate((PART_START * 512) + size)
        put_partition(path, size // 512)
        run("/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, "-E",
            "offset=%d" % (PART_START * 512), path, "%dk" % (size >> 10))
        put_grub(path, root)
        shutil.rmtree(root)
    if os.geteuid():
        raise Skip("making a Debian disk needs root")
    return made("debian-12.img", make)


def main():
    for make in (kernel, initramfs, network_initramfs, grub_rescue, memtest, debian_disk):
        print(make())
    for arch in "amd64", "i386":
        print(installer_text(arch))
        print(installer_gtk(arch))


def installer_text(arch):
    return installer(arch, "text", "nomodeset fb=false")


def installer_gtk(arch):
    return installer(arch, "gtk", "quiet")


if __name__ == "__main__":
    main()
