# SPDX-License-Identifier: GPL-2.0-or-later
"""A mouse for a Wayland compositor of the wlroots family, by its protocol zwlr_virtual_pointer_v1: motion, not places."""
import os
import socket
import struct
import time

DISPLAY = 1


def string(text):
    data = text.encode() + b"\0"
    return struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)


class Mouse:
    """`env` has the compositor's socket."""

    def __init__(self, env):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(os.path.join(env["XDG_RUNTIME_DIR"], env["WAYLAND_DISPLAY"]))
        self.buffer, self.last, self.globals = b"", DISPLAY, {}
        self.registry = self.new()
        self.send(DISPLAY, 1, struct.pack("<I", self.registry))  # get_registry
        self.sync()
        number = self.globals["zwlr_virtual_pointer_manager_v1"]
        manager = self.new()
        self.send(self.registry, 0, struct.pack("<I", number) + string("zwlr_virtual_pointer_manager_v1") +
                  struct.pack("<II", 1, manager))  # bind
        self.pointer = self.new()
        self.send(manager, 0, struct.pack("<II", 0, self.pointer))  # create_virtual_pointer, for no seat in particular
        self.sync()

    def new(self):
        """Numbers of objects come one after the other."""
        self.last += 1
        return self.last

    def send(self, target, code, arguments=b""):
        self.socket.sendall(struct.pack("<II", target, (8 + len(arguments)) << 16 | code) + arguments)

    def sync(self):
        """Until the compositor has done what was asked."""
        callback = self.new()
        self.send(DISPLAY, 0, struct.pack("<I", callback))
        while True:
            target, code, arguments = self.event()
            if target == callback:
                return
            if target == DISPLAY and code == 0:
                raise AssertionError("the compositor refuses the mouse: %r" % arguments)
            if target == self.registry and code == 0:
                number, length = struct.unpack_from("<II", arguments)
                self.globals[arguments[8:8 + length - 1].decode()] = number

    def event(self):
        while len(self.buffer) < 8 or len(self.buffer) < struct.unpack_from("<II", self.buffer)[1] >> 16:
            data = self.socket.recv(65536)
            assert data, "the compositor has gone"
            self.buffer += data
        target, word = struct.unpack_from("<II", self.buffer)
        arguments, self.buffer = self.buffer[8:word >> 16], self.buffer[word >> 16:]
        return target, word & 0xffff, arguments

    def frame(self):
        self.send(self.pointer, 4)
        self.sync()

    def now(self):
        return int(time.monotonic() * 1000) & 0xffffffff

    def move(self, x, y):
        self.send(self.pointer, 0, struct.pack("<Iii", self.now(), x * 256, y * 256))
        self.frame()

    def click(self, button=0x110):
        for down in (1, 0):
            self.send(self.pointer, 2, struct.pack("<III", self.now(), button, down))
            self.frame()

    def close(self):
        self.socket.close()
