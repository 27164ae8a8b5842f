# SPDX-License-Identifier: GPL-2.0-or-later
"""memtest86+ runs a whole pass over a small machine and finds nothing."""
import re

import images
from harness import Failure, check, main, note, test, wait


@test
def memtest_finishes_a_pass_without_errors(bench):
    m = bench.machine(iso=images.memtest(), memory="16M")
    m.start()
    m.wait_text("Memtest86+", 60)
    last = [""]

    def finished():
        last[0] = m.text()
        return re.search(r"Pass:\s*[1-9]|Pass complete|PASS", last[0])
    try:
        wait(finished, 1200, "a pass")
    except Failure:
        note(last[0])
        raise
    m.keep_picture("memtest")
    errors = re.search(r"Errors:\s*(\d+)", last[0])
    check(errors and errors.group(1) == "0", "there are errors:\n" + last[0])


main()
