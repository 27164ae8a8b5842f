# SPDX-License-Identifier: GPL-2.0-or-later
"""The testbed itself: what it has, and that a failure in it is one here."""
import testbed
from harness import main, test


@test
def has_amd_v_and_kvm(bench):
    testbed.run(bench, """
        grep -q -w svm /proc/cpuinfo
        grep -q -w npt /proc/cpuinfo
        [ -c /dev/kvm ]
        ringside-monitor --version
        ringctl --version
    """).expect("ringside-monitor ")


@test
def exit_status_comes_back(bench):
    testbed.run(bench, "echo BEFORE; false; echo AFTER").expect("BEFORE", status=1)
    testbed.run(bench, "exit 42").expect(status=42)


main()
