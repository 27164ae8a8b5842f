# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints a large C file, always the same. Usage: large_c.py FUNCTIONS"""
import random
import sys

HEAD = """#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct node { struct node *left, *right; int key; double weight; char name[16]; };
"""


def expression(rng, depth):
    if not depth:
        return rng.choice(["a", "b", "c", "i", "n->key", "t[i & 15]", str(rng.randrange(1, 999))])
    op = rng.choice(["+", "-", "*", "^", "&", "|", "+", "- 3 *", "<< 1 ^"])
    return "(%s %s %s)" % (expression(rng, depth - 1), op, expression(rng, depth - 1))


def statement(rng, depth):
    kind = rng.randrange(6 if depth else 3)
    e = lambda: expression(rng, rng.randrange(1, 4))
    if kind == 0:
        return "%s = %s;" % (rng.choice("abc"), e())
    if kind == 1:
        return "t[%s & 15] += %s;" % (e(), e())
    if kind == 2:
        return "n->weight += %s * 0.5; if (n->left && %s > %s) n = n->left;" % (e(), e(), e())
    body = " ".join(statement(rng, depth - 1) for _ in range(rng.randrange(1, 4)))
    if kind == 3:
        return "if (%s < %s) { %s } else { %s }" % (e(), e(), body, statement(rng, depth - 1))
    if kind == 4:
        return "for (i = 0; i < (%s & 31); i++) { %s }" % (rng.choice("abc"), body)
    cases = " ".join("case %d: %s break;" % (k, statement(rng, 0)) for k in range(rng.randrange(3, 9)))
    return "switch (%s & 7) { %s default: %s }" % (e(), cases, statement(rng, 0))


def main(functions):
    rng = random.Random(1)
    print(HEAD)
    for number in range(functions):
        print("int f%d(struct node *n, int a, int b)\n{\n    int i = 0, c = a ^ b, t[16] = {0};" % number)
        for _ in range(rng.randrange(4, 14)):
            print("    " + statement(rng, 3))
        if number:
            print("    c += f%d(n, a, c);" % rng.randrange(number))
        print("    return a + b + c + t[3] + t[a & 15];\n}\n")


main(int(sys.argv[1]))
