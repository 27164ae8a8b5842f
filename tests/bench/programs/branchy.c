/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lengths of Collatz sequences with a few more decisions: integers, branches, no memory. Usage:
 * branchy NUMBERS */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned length(uint64_t n)
{
    unsigned steps = 0;
    while (n != 1) {
        n = n & 1 ? 3 * n + 1 : n / 2;
        if (n % 3 == 0) {
            steps += 2;
        } else if ((n ^ steps) & 4) {
            steps ^= 1;
        }
        steps++;
    }
    return steps;
}

int main(int argc, char **argv)
{
    unsigned numbers = argc > 1 ? atoi(argv[1]) : 1000;
    uint64_t sum = 0;
    for (unsigned i = 1; i <= numbers; i++) {
        sum += length(i);
    }
    printf("%lu\n", sum);
    return 0;
}
