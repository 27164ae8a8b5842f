# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's rescue CD: the menu, its prompt, and an answer to a typed command."""
import time

import images
from harness import check, main, test


@test
def grub_rescue_prompt_answers_ls(bench):
    m = bench.machine(iso=images.grub_rescue(), memory="128M")
    m.start()
    m.wait_text(["GNU GRUB", "GNU/Linux"], 30)
    m.key("c")
    m.wait_text("grub>", 15)
    m.type("ls\\n")
    text = m.wait_text("(cd", 15)
    m.keep_picture("grub-ls")
    check("grub> ls" in text, "ls is not as typed:\n" + text)
    m.type("halt\\n")
    m.wait_state("off", 20)


@test
def disc_can_be_changed(bench):
    m = bench.machine(memory="128M", iso=images.grub_rescue())
    m.start()
    m.wait_text("GNU GRUB", 30)
    m.do("eject", "--force")
    check("medium" not in m.info(), "the drive is not empty")
    m.do("insert", images.grub_rescue())
    check(m.info().get("medium") == images.grub_rescue(), "the disc is not in the drive")
    m.do("reset")
    time.sleep(1)
    m.wait_text("GNU GRUB", 30)
    m.do("stop", "--force")
    check(m.state() == "off", "still " + m.state())


main()
