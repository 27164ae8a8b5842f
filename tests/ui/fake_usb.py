# SPDX-License-Identifier: GPL-2.0-or-later
"""A computer's USB devices that are files below a folder: umockdev's library shows them to programs as /sys and /dev."""
import os
import shutil
import socket

PRELOAD = "libumockdev-preload.so.0"


def is_possible():
    return any(os.path.exists(f"{folder}/{PRELOAD}") for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"))


def write(path, text):
    with open(path, "w") as file:
        file.write(text + "\n")


class FakeUsb:
    """`env` is for the programs that are to see it."""

    def __init__(self, root):
        self.root = root
        for folder in ("/dev/bus/usb/001", "/sys/bus/usb/devices", "/sys/bus/usb/drivers", "/sys/class/block", "/ioctl"):
            os.makedirs(root + folder)
        self.ioctl = socket.socket(socket.AF_UNIX)  # whoever opens anything in /dev connects to this, which nobody answers
        self.ioctl.bind(root + "/ioctl/_default")
        self.ioctl.listen(1000)
        self.env = {"UMOCKDEV_DIR": root, "LD_PRELOAD": PRELOAD,
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0:detect_leaks=0"}

    def plug(self, port, number, name, *, interface=(8, 6, 80), driver=None, **attributes):
        folder = f"{self.root}/sys/bus/usb/devices/{port}"
        os.makedirs(f"{folder}/{port}:1.0")
        values = {"busnum": "1", "devnum": str(number), "idVendor": "1234", "idProduct": "5678", "product": name,
                  "serial": "S-%d" % number, "bDeviceClass": "00", **attributes}
        for key, value in values.items():
            write(f"{folder}/{key}", value)
        for key, value in zip(("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"), interface):
            write(f"{folder}/{port}:1.0/{key}", "%02x" % value)
        if driver:
            os.symlink(f"../../../drivers/{driver}", f"{folder}/{port}:1.0/driver")
        write(f"{self.root}/dev/bus/usb/001/{number:03}", "")

    def disk(self, port, name, numbers):
        """A disk of the device: `numbers` is major:minor."""
        folder = f"{self.root}/sys/bus/usb/devices/{port}/{port}:1.0/host0/block/{name}"
        os.makedirs(folder)
        write(folder + "/dev", numbers)
        os.symlink(f"../../bus/usb/devices/{port}/{port}:1.0/host0/block/{name}", f"{self.root}/sys/class/block/{name}")

    def unplug(self, port, number):
        shutil.rmtree(f"{self.root}/sys/bus/usb/devices/{port}")
        os.unlink(f"{self.root}/dev/bus/usb/001/{number:03}")
