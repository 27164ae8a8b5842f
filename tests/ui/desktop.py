# SPDX-License-Identifier: GPL-2.0-or-later
"""A private desktop for one test: X server, session bus, accessibility bus, window manager, home folder.

Widgets are found through the accessibility bus and used with real pointer and key events (xdotool): GTK 4.8 reports
wrong screen coordinates, so places are worked out from the window's. Everything is ended by its process id.
"""
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PYTHON = "/usr/bin/python3"
SKIP = 77
NEEDED = ("Xvfb", "xdotool", "openbox", "dbus-daemon", "xprop")


def skip(reason):
    print("skipped:", reason)
    sys.exit(SKIP)


class Desktop:
    """Use with `with`. `env` is for the programs under test."""

    def __init__(self, lang="C.UTF-8", size="1200x900"):
        for tool in NEEDED:
            if not shutil.which(tool):
                skip(f"{tool} is not installed")
        self.processes, self.size = [], size
        # Not mkdtemp(): its names may have an underscore, which name_of() takes for a mnemonic's.
        self.home = tempfile.gettempdir() + "/ringside-ui-" + secrets.token_hex(6)
        os.mkdir(self.home, 0o700)
        self.env = {k: v for k, v in os.environ.items()
                    if k not in ("WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "AT_SPI_BUS_ADDRESS", "LANGUAGE", "LC_ALL")}
        self.env.update(
            HOME=self.home, XDG_RUNTIME_DIR=self.home + "/run", XDG_CONFIG_HOME=self.home + "/config",
            XDG_CACHE_HOME=self.home + "/cache", XDG_DATA_HOME=self.home + "/data", LIBGL_ALWAYS_SOFTWARE="1",
            GSK_RENDERER="cairo", GDK_BACKEND="x11", GSETTINGS_BACKEND="memory", LANG=lang, GTK_A11Y="atspi",
            G_MESSAGES_DEBUG="", ADW_DISABLE_PORTAL="1", GTK_THEME="")
        del self.env["GTK_THEME"]
        os.mkdir(self.home + "/run", 0o700)
        self.machines = self.home + "/data/ringside/machines"

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        read, write = os.pipe()
        self.run(["Xvfb", "-displayfd", str(write), "-screen", "0", self.size + "x24", "-nolisten", "tcp", "-noreset"],
                 pass_fds=[write])
        os.close(write)
        with os.fdopen(read) as answer:
            self.env["DISPLAY"] = ":" + answer.readline().strip()
        bus = self.run(["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE)
        self.env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().decode().strip()
        self.run(["openbox"])
        os.environ.update(self.env)
        os.environ.pop("AT_SPI_BUS_ADDRESS", None)
        for _ in range(100):
            if "#" in sh("xprop", "-root", "_NET_SUPPORTING_WM_CHECK"):
                break
            time.sleep(.05)
        global Atspi
        import gi
        gi.require_version("Atspi", "2.0")
        from gi.repository import Atspi
        Atspi.init()

    def run(self, argv, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        process = subprocess.Popen(argv, env=self.env, **options)
        self.processes.append(process)
        return process

    def __exit__(self, *_):
        shot = os.environ.get("RINGSIDE_TEST_SCREENSHOT")
        if shot and _[0:1] and _[0] and "DISPLAY" in self.env:
            screenshot(shot)
        for pid in self.monitors():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def monitors(self):
        """Process ids of monitors that run on this desktop's machines."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if self.machines.encode() in file.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def start(self, program, *arguments):
        log = open(self.home + "/app.log", "ab")
        return App(self, self.run([program, *arguments], stdout=log, stderr=log))


def name_of(node):
    """GTK 4.8 names a button "_Next Next": its label with the mnemonic and the label's text."""
    name = (node.get_name() or "").replace("_", "")
    half = len(name) // 2
    return name[:half] if len(name) % 2 and name[half] == " " and name[:half] == name[half + 1:] else name


def is_shown(node):
    """GTK 4.8 does not report the showing state; what is not shown has no size."""
    if not node.get_state_set().contains(Atspi.StateType.VISIBLE) or not node.get_component_iface():
        return False
    extents = node.get_extents(Atspi.CoordType.WINDOW)
    return extents.width > 0 and extents.height > 0


def sh(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def screenshot(path):
    subprocess.run(["import", "-window", "root", path])


def until(what, check, timeout=20):
    """Waits for check() to be true and returns its value."""
    end = time.time() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.time() > end:
            raise AssertionError("waited in vain for " + what)
        time.sleep(.1)


class App:
    def __init__(self, desktop, process):
        self.desktop, self.process = desktop, process

    def log(self):
        with open(self.desktop.home + "/app.log") as file:
            return file.read()

    def root(self):
        from gi.repository import GLib
        for _ in range(200):
            if self.process.poll() is not None:
                raise AssertionError("the program ended: " + self.log())
            try:
                top = Atspi.get_desktop(0)
                for i in range(top.get_child_count()):
                    child = top.get_child_at_index(i)
                    if child and child.get_process_id() == self.process.pid:
                        return child
            except GLib.Error:
                pass
            time.sleep(.1)
        raise AssertionError("not on the accessibility bus: " + self.log())

    def walk(self):
        from gi.repository import GLib
        pending = [self.root()]
        while pending:
            node = pending.pop()
            yield node
            try:
                if node.get_role_name() != "application" and not node.get_state_set().contains(Atspi.StateType.VISIBLE):
                    continue
                pending += [c for c in (node.get_child_at_index(i) for i in reversed(range(node.get_child_count()))) if c]
            except GLib.Error:
                pass

    def look(self, name, role=None):
        """The first showing widget of this name, or None."""
        from gi.repository import GLib
        for node in self.walk():
            try:
                if name_of(node) == name and (role is None or node.get_role_name() == role) and is_shown(node):
                    return node
            except GLib.Error:
                pass
        return None

    def find(self, name, role=None, timeout=20):
        return until(f"{role or 'widget'} “{name}”", lambda: self.look(name, role), timeout)

    def text(self):
        """Every showing name, for looking for sentences."""
        from gi.repository import GLib
        names = []
        for node in self.walk():
            try:
                if is_shown(node):
                    names.append(name_of(node))
            except GLib.Error:
                pass
        return "\n".join(names)

    def expect(self, sentence, timeout=20):
        until(f"“{sentence}”", lambda: sentence in self.text(), timeout)

    def place(self, node):
        """Middle of a widget on the screen, in pixels."""
        x, y, w, h = self.box(node)
        return x + w // 2, y + h // 2

    def box(self, node):
        frame = node
        while frame.get_parent() and frame.get_parent().get_role_name() != "application":
            frame = frame.get_parent()
        extents, whole = (n.get_extents(Atspi.CoordType.WINDOW) for n in (node, frame))
        scale = int(self.desktop.env.get("GDK_SCALE", 1))
        width, height = whole.width * scale, whole.height * scale
        geometry = self.window(width, height)
        return (geometry["X"] + (geometry["WIDTH"] - width) // 2 + extents.x * scale,
                geometry["Y"] + (geometry["HEIGHT"] - height) // 2 + extents.y * scale,
                extents.width * scale, extents.height * scale)

    def window(self, width, height):
        """The visible X window of the program whose size is the nearest. xdotool gives up when one vanishes
        while it searches, as they do when the console opens: then again."""
        for _ in range(50):
            found = self._window(width, height)
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError("the program has no visible window")

    def _window(self, width, height):
        best = None
        for wid in sh("xdotool", "search", "--onlyvisible", "--pid", str(self.process.pid)).split():
            geometry = {k: int(v) for k, v in (line.split("=") for line in
                        sh("xdotool", "getwindowgeometry", "--shell", wid).splitlines())}
            if "HEIGHT" not in geometry:
                continue
            distance = abs(geometry["WIDTH"] - width) + abs(geometry["HEIGHT"] - height)
            if best is None or distance < best[0]:
                best = (distance, geometry)
        return best and best[1]

    def click(self, node, button=1, repeat=1):
        place = None
        for _ in range(50):
            now = self.place(node)
            if now == place:
                break
            place = now
            time.sleep(.12)
        x, y = place
        sh("xdotool", "mousemove", str(x), str(y))
        time.sleep(.05)
        sh("xdotool", "click", "--repeat", str(repeat), "--delay", "60", str(button))

    def usable(self, name, role="push button"):
        return self.find(name, role).get_state_set().contains(Atspi.StateType.SENSITIVE)

    def press(self, name, role="push button"):
        """Finds and clicks, waiting until it is sensitive."""
        node = self.find(name, role)
        until(f"“{name}” to be usable", lambda: node.get_state_set().contains(Atspi.StateType.SENSITIVE))
        self.click(node)


def choose_file(app, path, button):
    """Types a path into GTK's file chooser, which is open. The list of completions may take the first Return."""
    app.find(button, "push button")
    key("ctrl+l")
    time.sleep(.3)
    key("ctrl+a")
    type_text(path)
    time.sleep(.5)
    for _ in range(5):
        key("Return")
        time.sleep(.7)
        if not app.look(button, "push button"):
            return
    raise AssertionError("the file chooser stays open")


def drag_file(desktop, path, app, node):
    """Drags a file out of another program's window and drops it on a widget."""
    source = desktop.run([PYTHON, os.path.join(os.path.dirname(os.path.abspath(__file__)), "drag_source.py"), path])
    wid = until("the drag source", lambda: sh("xdotool", "search", "--onlyvisible", "--name", "^Drag source$"))
    sh("xdotool", "windowmove", "--sync", wid, "0", "0")
    geometry = dict(line.split("=") for line in sh("xdotool", "getwindowgeometry", "--shell", wid).splitlines())
    x, y = int(geometry["X"]) + int(geometry["WIDTH"]) // 2, int(geometry["Y"]) + int(geometry["HEIGHT"]) * 2 // 3
    to_x, to_y = app.place(node)
    sh("xdotool", "mousemove", str(x), str(y), "mousedown", "1")
    for step in range(1, 21):
        time.sleep(.05)
        sh("xdotool", "mousemove", str(x + (to_x - x) * step // 20), str(y + (to_y - y) * step // 20))
    time.sleep(.5)
    sh("xdotool", "mouseup", "1")
    source.wait(20)


def key(*keys):
    sh("xdotool", "key", "--delay", "40", *keys)


def type_text(text):
    sh("xdotool", "type", "--delay", "20", text)


def run_cases(*cases):
    """Each case in a process of its own: libatspi stays with the first accessibility bus that it meets."""
    failed = []
    for case in cases:
        pid = os.fork()
        if not pid:
            try:
                case()
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                import traceback
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == SKIP:
            sys.exit(SKIP)
        print("passed" if status == 0 else "FAILED", case.__name__, flush=True)
        failed += [case.__name__] if status else []
    sys.exit(1 if failed else 0)
