# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves Xvfb's mouse, a device like any other: xdotool's is the X server's own for tests."""
import ctypes


class Device(ctypes.Structure):
    _fields_ = [("id", ctypes.c_ulong), ("type", ctypes.c_ulong), ("name", ctypes.c_char_p), ("classes", ctypes.c_int),
                ("use", ctypes.c_int), ("info", ctypes.c_void_p)]


def move(display, times, dx, dy):
    x11, xi, xtst = (ctypes.CDLL(name) for name in ("libX11.so.6", "libXi.so.6", "libXtst.so.6"))
    x11.XOpenDisplay.restype = xi.XOpenDevice.restype = ctypes.c_void_p
    xi.XListInputDevices.restype = ctypes.POINTER(Device)
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    count = ctypes.c_int()
    devices = xi.XListInputDevices(connection, ctypes.byref(count))
    mouse = next(devices[i].id for i in range(count.value) if devices[i].name == b"Xvfb mouse")
    device = ctypes.c_void_p(xi.XOpenDevice(connection, ctypes.c_ulong(mouse)))
    for _ in range(times):
        xtst.XTestFakeDeviceMotionEvent(connection, device, 1, 0, (ctypes.c_int * 2)(dx, dy), 2, ctypes.c_ulong(0))
    x11.XSync(connection, 0)
    x11.XCloseDisplay(connection)
