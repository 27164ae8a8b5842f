/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory bandwidth and latency. Usage: memory copy|stride TIMES */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES (32u << 20)

static void copy(unsigned char *a, unsigned char *b, unsigned times)
{
    for (unsigned t = 0; t < times; t++) {
        a[t] = t;
        memcpy(b, a, BYTES);
        memcpy(a + t, b, BYTES / 2);
    }
}

/* Every 17th cache line in turn: each access is another page after 4 of them. */
static uint64_t stride(const unsigned char *a, unsigned times)
{
    uint64_t sum = 0;
    for (unsigned t = 0; t < times; t++) {
        for (unsigned from = 0; from < 17 * 64; from += 64) {
            for (unsigned i = from; i < BYTES; i += 17 * 64) {
                sum += a[i];
            }
        }
    }
    return sum;
}

int main(int argc, char **argv)
{
    unsigned times = argc > 2 ? atoi(argv[2]) : 1;
    unsigned char *a = malloc(BYTES + times), *b = malloc(BYTES);
    if (!a || !b) {
        return 1;
    }
    memset(a, 3, BYTES);
    memset(b, 1, BYTES);
    uint64_t sum = 0;
    if (argc > 1 && !strcmp(argv[1], "copy")) {
        copy(a, b, times);
        sum = a[BYTES - 1] + b[5];
    } else {
        sum = stride(a, times);
    }
    printf("%lu\n", sum);
    return 0;
}
