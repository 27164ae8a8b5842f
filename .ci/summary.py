# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the tests in meson's logs (testlog.json), by TAP line where a test speaks TAP.

Prints a line for each, then those that failed once more with the end of their output, where a
reader who sees only the end finds them, and last "N passed, N failed[, N skipped]". The exit status
is 0 when nothing failed and something passed.
"""
import json
import re
import sys

TAP = re.compile(r"^\s*(not )?ok\b\s*\d*\s*-?\s*([^#]*)(?:#\s*(SKIP|TODO)\b\s*(.*))?$", re.I)
GOOD = {"OK", "EXPECTEDFAIL"}


def subtests(entry):
    """(result, name, reason) of each TAP line."""
    for line in (entry.get("stdout") or "").splitlines():
        match = TAP.match(line)
        if match:
            bad, name, directive, reason = match.groups()
            skip = (directive or "").upper() == "SKIP"
            yield "skipped" if skip else "failed" if bad else "passed", name.strip(), reason or ""


def results(entry):
    name, result = entry["name"], entry["result"]
    found = [(kind, "%s: %s" % (name, sub), reason) for kind, sub, reason in subtests(entry)]
    if result == "SKIP":
        reason = (entry.get("stdout") or entry.get("stderr") or "").strip().splitlines()
        return found or [("skipped", name, reason[-1] if reason else "no reason given")]
    # A crash, a time-out, or a plan that was not kept counts although every line said ok.
    if result not in GOOD and not any(kind == "failed" for kind, *_ in found):
        found.append(("failed", name, result.lower()))
    return found or [("passed", name, "")]


def main():
    count = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for path in sys.argv[1:]:
        try:
            entries = [json.loads(line) for line in open(path)]
        except OSError as error:
            failures.append("failed   %s: %s" % (path, error))
            count["failed"] += 1
            continue
        build = path.split("/")[0]
        for entry in entries:
            listed = results(entry)
            for kind, name, reason in listed:
                count[kind] += 1
                line = "%-8s %s%s%s" % (kind, "" if build == "build" else build + ": ", name,
                                        " (%s)" % reason if reason else "")
                print(line)
                if kind == "failed":
                    failures.append(line)
            if any(kind == "failed" for kind, *_ in listed):
                output = (entry.get("stdout") or "") + (entry.get("stderr") or "")
                failures += ["         | " + text for text in output.splitlines()[-40:]]
    for line in failures:
        print(line)
    last = "%d passed, %d failed" % (count["passed"], count["failed"])
    print(last + (", %d skipped" % count["skipped"] if count["skipped"] else ""))
    sys.exit(1 if count["failed"] or not count["passed"] else 0)


main()
