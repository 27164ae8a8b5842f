#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A window that one file can be dragged out of, as out of a file manager; ends when it was dropped."""
import sys

import gi

gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, GLib, Gtk  # noqa: E402

uri = GLib.filename_to_uri(sys.argv[1])
provider = Gdk.ContentProvider.new_for_bytes("text/uri-list", GLib.Bytes(uri.encode() + b"\r\n"))
source = Gtk.DragSource(actions=Gdk.DragAction.COPY)
source.connect("prepare", lambda *_: provider)
source.connect("drag-end", lambda *_: GLib.timeout_add(200, loop.quit))
label = Gtk.Label(label="Drag me", hexpand=True, vexpand=True)
label.add_controller(source)
window = Gtk.Window(title="Drag source", child=label, default_width=160, default_height=100)
loop = GLib.MainLoop()
window.connect("close-request", lambda *_: loop.quit())
window.present()
loop.run()
