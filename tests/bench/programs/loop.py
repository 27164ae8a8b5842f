# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects, dictionaries, strings and integers in CPython. Usage: loop.py ROUNDS"""
import sys


class Counter:
    def __init__(self):
        self.seen = {}

    def add(self, word):
        self.seen[word] = self.seen.get(word, 0) + 1


def main(rounds):
    counter, total = Counter(), 0
    for i in range(rounds):
        counter.add("w%d" % (i * 7919 % 5003))
        total = (total * 31 + i) % 1000003
        if i % 1000 == 0:
            total += len(sorted(counter.seen.items(), key=lambda item: item[1])[:10])
    print(total, len(counter.seen))


main(int(sys.argv[1]))
