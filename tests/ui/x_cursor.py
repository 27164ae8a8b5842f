# SPDX-License-Identifier: GPL-2.0-or-later
"""The X server's pointer image: what the user sees."""
import ctypes


class Image(ctypes.Structure):
    _fields_ = [("x", ctypes.c_short), ("y", ctypes.c_short), ("width", ctypes.c_ushort), ("height", ctypes.c_ushort),
                ("xhot", ctypes.c_ushort), ("yhot", ctypes.c_ushort), ("serial", ctypes.c_ulong),
                ("pixels", ctypes.POINTER(ctypes.c_ulong)), ("atom", ctypes.c_ulong), ("name", ctypes.c_char_p)]


def shown(display):
    """(width, height, (hot x, hot y), pixels): premultiplied ARGB."""
    x11, fixes = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXfixes.so.3")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    fixes.XFixesGetCursorImage.restype = ctypes.POINTER(Image)
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    event, error = ctypes.c_int(), ctypes.c_int()
    fixes.XFixesQueryExtension(connection, ctypes.byref(event), ctypes.byref(error))
    image = fixes.XFixesGetCursorImage(connection).contents
    result = (image.width, image.height, (image.xhot, image.yhot),
              [image.pixels[i] & 0xffffffff for i in range(image.width * image.height)])
    x11.XCloseDisplay(connection)
    return result
