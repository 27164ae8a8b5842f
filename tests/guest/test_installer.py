# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 12's installer from a CD: the list of languages, moved through by keyboard and by mouse."""
import time

import images
from harness import check, main, note, test, wait


def highlighted(picture):
    """The row of cells that stands out: the one whose ground is unlike that of the rows beside it."""
    def ground(y):
        return picture.pixel(picture.width // 2 + 4, y * 16 + 1)
    rows = picture.height // 16
    return [y for y in range(1, rows - 1)
            if ground(y) != ground(y - 1) and ground(y) != ground(y + 1)]


def language_list(bench, arch):
    m = bench.machine(iso=images.installer_text(arch), memory="1100M")
    m.start()
    text = m.wait_text(["Select a language", "English", "<Go Back>"], 180)
    check("German" in text or "Language:" in text, "this is no list of languages:\n" + text)
    before = m.picture()
    m.key("down")
    wait(lambda: m.picture().differs(before) > 1000, 10, "the highlight to move")
    after = m.picture()
    note("highlight from row %s to row %s" % (highlighted(before), highlighted(after)))
    m.keep_picture("installer-" + arch)
    m.key("up")
    wait(lambda: m.picture().differs(before) < 500, 10, "the highlight to come back")


@test
def installer_amd64_shows_languages_and_arrows_move(bench):
    language_list(bench, "amd64")


@test
def installer_i386_shows_languages_and_arrows_move(bench):
    language_list(bench, "i386")


def settled(m, colors, seconds):
    """A graphical picture that keeps still for a while."""
    last = [m.picture()]

    def still():
        time.sleep(2)
        now = m.picture()
        good = now and last[0] and now.width >= 640 and now.width != 720 and \
            len(now.colors()) > colors and now.differs(last[0]) < 300
        last[0] = now
        return good
    wait(still, seconds, "a graphical screen that is at rest")
    return last[0]


def selected_row(picture):
    """The y of the selected line of the list: white on the theme's green."""
    green = [y for y in range(150, picture.height - 60)
             if all(abs(a - b) < 12 for a, b in zip(picture.pixel(picture.width * 2 // 3, y), (40, 130, 122)))]
    return green[len(green) // 2] if green else None


def moved_from(m, row, what):
    seen = [None]

    def there():
        """Twice the same: a picture may catch a line that is half drawn."""
        before, seen[0] = seen[0], selected_row(m.picture())
        return seen[0] not in (row, None) and seen[0] == before
    wait(there, 20, what)
    return seen[0]


def graphical(bench, arch):
    m = bench.machine(iso=images.installer_gtk(arch), memory="1100M")
    m.start()
    settled(m, 60, 240)
    wait(lambda: selected_row(m.picture()), 60, "the list of languages")
    m.keep_picture("installer-gtk-" + arch)
    english = selected_row(m.picture())
    m.key("down")
    below = moved_from(m, english, "the selection to follow the key")
    check(below > english, "the selection moved from %d to %d" % (english, below))
    # Into the corner, then down into the list; how far exactly is the guest's pointer speed.
    m.bench.ringctl("mouse", "--", m.name, -1200, -1200)
    m.bench.ringctl("mouse", "--click", "--", m.name, 60, 250)
    clicked = moved_from(m, below, "the selection to follow the mouse")
    m.keep_picture("installer-gtk-clicked-" + arch)
    # With the tablet a place is a place: two rows below.
    picture, row = m.picture(), clicked + 2 * (below - english)
    m.bench.ringctl("mouse", "--to", "--click", m.name, 12000, row * 32768 // picture.height)
    pointed = moved_from(m, clicked, "the selection to follow the tablet")
    check(abs(pointed - row) < 4, "the selection went to %d, not to %d" % (pointed, row))
    note("selected: %d, after Down %d, after the click %d, by the tablet %d" % (english, below, clicked, pointed))


@test
def graphical_installer_amd64_keys_and_mouse_move(bench):
    graphical(bench, "amd64")


@test
def graphical_installer_i386_keys_and_mouse_move(bench):
    graphical(bench, "i386")


main()
