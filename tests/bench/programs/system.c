/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a kernel does for a program. Usage: system getpid|fork|pipe|fault COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void getpids(unsigned count)
{
    while (count--) {
        if (syscall(SYS_getpid) <= 0) {
            fail("getpid");
        }
    }
}

static void forks(unsigned count)
{
    while (count--) {
        pid_t child = fork();
        if (!child) {
            execl("/bin/true", "true", NULL);
            _exit(127);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status) {
            fail("fork");
        }
    }
}

/* Two switches a round. */
static void pipes(unsigned count)
{
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) || pipe(back)) {
        fail("pipe");
    }
    pid_t child = fork();
    while (!child && read(there[0], &byte, 1) == 1) {
        if (byte || write(back[1], &byte, 1) != 1) {
            _exit(!byte);
        }
    }
    for (count /= 2; count--;) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
            fail("pipe");
        }
    }
    byte = 1;
    if (write(there[1], &byte, 1) != 1 || waitpid(child, NULL, 0) != child) {
        fail("pipe");
    }
}

static void faults(unsigned count)
{
    const size_t pages = 1024;
    for (unsigned done = 0; done < count; done += pages) {
        char *p =
            mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || madvise(p, pages * 4096, MADV_NOHUGEPAGE)) {
            fail("mmap");
        }
        for (size_t i = 0; i < pages; i++) {
            p[i * 4096] = 1;
        }
        munmap(p, pages * 4096);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(unsigned count);
    } kinds[] = {{"getpid", getpids}, {"fork", forks}, {"pipe", pipes}, {"fault", faults}};
    unsigned count = argc > 2 ? atoi(argv[2]) : 1;
    for (unsigned i = 0; argc > 1 && i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(kinds[i].name, argv[1])) {
            kinds[i].run(count);
            printf("%s %u\n", argv[1], count);
            return 0;
        }
    }
    return 2;
}
