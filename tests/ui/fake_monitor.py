#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for ringside-monitor: the same control socket, no machine.

The screen is a test pattern; what clients send is appended to FOLDER/events. Written for the front end's tests, which
must not depend on an engine. Environment: FAKE_FAIL=SENTENCE fails to start; FAKE_ABSOLUTE=1 has a tablet;
FAKE_RESIZE=1 has a guest that takes every size that it is asked for, until a reset, and
FAKE_SIZE=WxH from the start;
FAKE_CURSOR=1 has a cursor plane with cursor_pixels(); FAKE_PADS=N has room for so many game pads;
FAKE_LIE=1 describes a screen larger than its memory.
"""
import os
import signal
import struct
import sys

import gi
from gi.repository import Gio, GLib

WIDTH, HEIGHT = 320, 200
XML = os.path.join(os.path.dirname(__file__), "../../monitor/org.ringside.Monitor1.xml")


def pixel(x, y, shift=0):
    """XRGB with a noisy X byte."""
    return 0x5a000000 | ((x * 255 // WIDTH) << 16) | ((y * 255 // HEIGHT) << 8) | (((x // 16 + y // 16) % 2) * 255 ^ shift)


def tile(x, y):
    """XRGB of a screen that has another size than WIDTH x HEIGHT."""
    return 0x5ac04020 if (x // 16 + y // 16) % 2 else 0x5a2040c0


CURSOR, HOT = 16, (3, 5)


def cursor_pixels():
    """Premultiplied ARGB: an opaque orange square with a half transparent white lower half."""
    return [0xffff8000 if y < CURSOR // 2 else 0x80808080 for y in range(CURSOR) for x in range(CURSOR)]


class Monitor:
    def __init__(self, folder):
        self.folder, self.id = folder, os.path.basename(folder.rstrip("/"))
        self.loop = GLib.MainLoop()
        self.state, self.medium, self.connections, self.usb, self.pads = "running", "", [], [], 0
        with open(XML) as file:
            self.node = Gio.DBusNodeInfo.new_for_xml(file.read())
        self.mode, self.fd = 0, None
        self.set_mode(*map(int, os.environ.get("FAKE_SIZE", f"{WIDTH}x{HEIGHT}").split("x")))
        self.settings = GLib.KeyFile()
        self.settings.load_from_file(folder + "/machine.ini", GLib.KeyFileFlags.NONE)
        try:
            self.medium = self.settings.get_string("cdrom", "path")
        except GLib.Error:
            pass
        if os.path.exists(folder + "/suspend.state"):
            os.unlink(folder + "/suspend.state")
        run = os.path.join(os.environ["XDG_RUNTIME_DIR"], "ringside")
        os.makedirs(run, 0o700, exist_ok=True)
        self.path = f"{run}/{self.id}.sock"
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = Gio.DBusServer.new_sync("unix:path=" + self.path, Gio.DBusServerFlags.NONE, Gio.dbus_generate_guid(),
                                              None, None)
        self.server.connect("new-connection", self.connected)
        self.server.start()

    def set_mode(self, width, height):
        self.mode, self.width, self.height = self.mode + 1, width, height
        if self.fd is not None:
            os.close(self.fd)
        self.fd = os.memfd_create("screen")
        if (width, height) == (WIDTH, HEIGHT):
            self.draw(0)
            return
        rows = [struct.pack(f"<{width}I", *(tile(x, y) for x in range(width))) for y in (0, 16)]
        os.write(self.fd, b"".join(rows[y // 16 % 2] for y in range(height)))

    def follow(self, width, height):
        self.set_mode(width, height)
        self.emit("/org/ringside/Screen/0", "org.ringside.Monitor1.Screen", "ModeChanged",
                  GLib.Variant("(uuu)", (self.mode, width, height)))

    def draw(self, shift):
        os.ftruncate(self.fd, WIDTH * HEIGHT * 4)
        os.pwrite(self.fd, struct.pack(f"<{WIDTH * HEIGHT}I", *(pixel(x, y, shift) for y in range(HEIGHT)
                                                              for x in range(WIDTH))), 0)

    def show_cursor(self):
        pixels = struct.pack(f"<{CURSOR * CURSOR}I", *cursor_pixels())
        self.emit("/org/ringside/Screen/0", "org.ringside.Monitor1.Screen", "Cursor",
                  GLib.Variant("(uuuuay)", (CURSOR, CURSOR, *HOT, pixels)))
        self.emit("/org/ringside/Screen/0", "org.ringside.Monitor1.Screen", "CursorMoved",
                  GLib.Variant("(iib)", (100, 60, True)))

    def note(self, *words):
        with open(self.folder + "/events", "a") as file:
            print(*words, file=file)

    def connected(self, server, connection):
        for interface in self.node.interfaces:
            name = interface.name.rsplit(".", 1)[1]
            path = {"Machine": "/org/ringside/Machine", "Screen": "/org/ringside/Screen/0", "Input": "/org/ringside/Input"}
            connection.register_object(path[name], interface, self.call, self.get, None)
        self.connections.append(connection)
        connection.connect("closed", lambda c, *_: self.connections.remove(c))
        return True

    def get(self, connection, sender, path, interface, name):
        values = {"Id": ("s", self.id), "Name": ("s", self.settings.get_string("machine", "name")), "Version": ("s", "0"),
                  "State": ("s", self.state), "StateMessage": ("s", ""), "Engine": ("s", "translate"),
                  "EngineReason": ("s", "A test <b>runs</b>"), "Pid": ("i", os.getpid()), "Medium": ("s", self.medium),
                  "Serial": ("s", ""), "Serial2": ("s", ""), "UsbDevices": ("a(ssqqs)", self.usb),
                  "Exit": ("s", ""), "Width": ("u", self.width), "Height": ("u", self.height),
                  "CanResize": ("b", bool(os.environ.get("FAKE_RESIZE"))),
                  "Absolute": ("b", bool(os.environ.get("FAKE_ABSOLUTE")))}
        return GLib.Variant(*values[name])

    def emit(self, path, interface, name, parameters):
        for connection in list(self.connections):
            try:
                connection.emit_signal(None, path, interface, name, parameters)
            except GLib.Error:  # its client has just gone
                pass

    def changed(self, **properties):
        types = {str: "s", list: "a(ssqqs)"}
        self.emit("/org/ringside/Machine", "org.freedesktop.DBus.Properties", "PropertiesChanged",
                  GLib.Variant("(sa{sv}as)", ("org.ringside.Monitor1.Machine",
                               {k: GLib.Variant(types[type(v)], v) for k, v in properties.items()}, [])))

    def set_state(self, state):
        self.state = state
        self.changed(State=state)

    def end(self, how):
        self.emit("/org/ringside/Machine", "org.ringside.Monitor1.Machine", "Ended", GLib.Variant("(s)", (how,)))
        GLib.timeout_add(100, self.loop.quit)

    def call(self, connection, sender, path, interface, method, parameters, invocation):
        arguments = parameters.unpack()
        if method in ("Attach", "Capture"):
            fds = Gio.UnixFDList.new()
            index = fds.append(self.fd)
            height = self.height * (50 if os.environ.get("FAKE_LIE") else 1)
            invocation.return_value_with_unix_fd_list(
                GLib.Variant("(uuuuh)", (self.mode, self.width, height, self.width * 4, index)), fds)
            if method == "Attach" and os.environ.get("FAKE_CURSOR"):
                self.show_cursor()
            return
        if method == "AttachUsb":
            fds = invocation.get_message().get_unix_fd_list()
            node = os.readlink("/proc/self/fd/%d" % fds.get(arguments[0]))
            arguments = ("/".join(node.split("/")[-2:]), *arguments[1:])
        if method == "PlugPad":
            self.note(method)
            self.pads += 1
            if self.pads > int(os.environ.get("FAKE_PADS", 4)):
                invocation.return_dbus_error("org.ringside.Error.WrongState", "No more pads here.")
            else:
                invocation.return_value(GLib.Variant("(u)", (self.pads - 1,)))
            return
        self.note(method, *(int(a) if isinstance(a, bool) else a for a in arguments))
        if method == "Pause":
            self.set_state("paused")
        elif method == "Resume":
            self.set_state("running")
        elif method == "InsertMedium":
            self.medium = arguments[0]
            self.changed(Medium=self.medium)
        elif method == "EjectMedium":
            self.medium = ""
            self.changed(Medium="")
        elif method == "AttachUsb":
            self.usb = self.usb + [tuple(arguments[1:])]
            self.changed(UsbDevices=self.usb)
        elif method == "DetachUsb":
            self.usb = [device for device in self.usb if device[0] != arguments[0]]
            self.changed(UsbDevices=self.usb)
        elif method == "SetSize":
            self.follow(*arguments)
        elif method == "Reset" and os.environ.get("FAKE_RESIZE"):
            self.follow(WIDTH, HEIGHT)
        elif method == "Reset":
            self.draw(255)
            self.emit("/org/ringside/Screen/0", "org.ringside.Monitor1.Screen", "Damage",
                      GLib.Variant("(uuuuu)", (self.mode, 0, 0, WIDTH, HEIGHT)))
        elif method == "Suspend":
            open(self.folder + "/suspend.state", "w").close()
        invocation.return_value(None)
        if method == "Suspend":
            self.end("killed")
        elif method in ("PowerOff", "ShutDown"):
            self.end("poweroff")

    def run(self):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, self.loop.quit)
        self.loop.run()
        os.unlink(self.path)


def main():
    if os.environ.get("FAKE_FAIL"):
        sys.exit("ringside-monitor: " + os.environ["FAKE_FAIL"])
    if sys.argv[1] == "--create-disk":
        with open(sys.argv[2], "xb") as disk:
            disk.truncate(int(sys.argv[3]))
    elif sys.argv[1] == "--machine":
        Monitor(sys.argv[2]).run()
    else:
        sys.exit("ringside-monitor: unknown option " + sys.argv[1])


if __name__ == "__main__":
    main()
