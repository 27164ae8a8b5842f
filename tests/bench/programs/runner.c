/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a workload of tests/bench/cpu and says how long it took: "DONE seconds status checksum". The
 * checksum is of what the workload printed, so that the results of several machines can be
 * compared.
 *
 * Usage: runner [-2] PROGRAM [ARGUMENT...]. With -2, two at the same time.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const outputs[] = {"/tmp/output.0", "/tmp/output.1"};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void start(const char *output, char **command)
{
    if (fork()) {
        return;
    }
    int in = open("/dev/null", O_RDONLY), out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
        _exit(126);
    }
    execvp(command[0], command);
    _exit(127);
}

static uint64_t checksum(const char *path)
{
    uint64_t sum = 0xcbf29ce484222325;
    FILE *f = fopen(path, "r");
    for (int c; f && (c = getc(f)) != EOF;) {
        sum = (sum ^ (unsigned)c) * 0x100000001b3;
    }
    if (f) {
        fclose(f);
    }
    return sum;
}

int main(int argc, char **argv)
{
    int two = argc > 1 && !strcmp(argv[1], "-2"), bad = 0;
    if (argc < 2 + two) {
        fprintf(stderr, "usage: runner [-2] PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    printf("BEGIN\n");
    fflush(stdout);
    double from = now();
    for (int i = 0; i <= two; i++) {
        start(outputs[i], argv + 1 + two);
    }
    for (int i = 0, status; i <= two; i++) {
        if (wait(&status) < 0 || status) {
            bad = status ? status : -1;
        }
    }
    double to = now();
    printf("DONE %.6f %d %016lx\n", to - from, bad, checksum(outputs[0]));
    return bad != 0;
}
