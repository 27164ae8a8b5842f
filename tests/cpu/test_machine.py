#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs bare/machine.c in ringside-monitor with two CPUs, in every configuration that shakes the engine.

Usage: test_machine.py MONITOR PROGRAM.elf
"""
import subprocess
import sys

SHAKES = ["plain", "nochain", "oneinsn", "tlb=16", "cache=1M", "nochain,oneinsn,tlb=16,cache=1M", "promote=0"]
ROUNDS = 3  # races do not show each time
PASSED = 1  # port F4h got 0


def run(monitor, program, options):
    command = [monitor, "-e", "translate", "-m", "64", "-c", "2", "-k", program, "-i", "/dev/null", "-a", "", "-s",
               "stdio", "--debug-exit", "--timeout", "60", "--engine-options", options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    if done.returncode != PASSED:
        print("# status %d\n# %s" % (done.returncode, done.stdout.strip().replace("\n", "\n# ")))
    return done.returncode == PASSED


def main():
    print("1..%d" % len(SHAKES))
    bad = 0
    for number, options in enumerate(SHAKES, 1):
        passed = all(run(*sys.argv[1:3], options) for _ in range(ROUNDS))
        bad += not passed
        print("%sok %d - machine, %s" % ("" if passed else "not ", number, options), flush=True)
    sys.exit(bad != 0)


main()
