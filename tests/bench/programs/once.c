/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that runs once: what a translator needs for what it has never seen. Makes that many thousand
 * instructions, in functions of about 50, of a mix that resembles compilers' (loads, stores,
 * arithmetic, a forward branch in six), and calls each function once. With -n it only makes them:
 * the difference is the time of running.
 *
 * Usage: once [-n] THOUSANDS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCKS 8u /* of a function, 6 instructions each, and 2 at its end */

static uint32_t seed = 1;
static uint8_t *p;

static unsigned any(unsigned below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static void bytes(const char *text, unsigned n)
{
    memcpy(p, text, n);
    p += n;
}

/* RDI: 256 bytes of data. EAX, ECX and EDX hold values. */
static void block(void)
{
    bytes("\x8b\x47", 2); /* mov eax, [rdi + n] */
    *p++ = (uint8_t)(any(31) * 4);
    bytes(any(2) ? "\x01\xc8" : "\x31\xc8", 2); /* add or xor eax, ecx */
    bytes("\x8d\x54\x48", 3);                   /* lea edx, [rax + rcx * 2 + n] */
    *p++ = (uint8_t)any(128);
    bytes("\x89\x57", 2); /* mov [rdi + n], edx */
    *p++ = (uint8_t)(any(31) * 4);
    bytes("\x81\xfa", 2); /* cmp edx, n */
    for (unsigned i = 0; i < 4; i++) {
        *p++ = (uint8_t)any(256);
    }
    *p++ = any(2) ? 0x72 : 0x77; /* jb or ja, over nothing or an instruction */
    *p++ = any(2) ? 0 : 3;
    bytes("\x83\xc1", 2); /* add ecx, n: now and then jumped over */
    *p++ = (uint8_t)any(128);
}

int main(int argc, char **argv)
{
    int only = argc > 2 && !strcmp(argv[1], "-n");
    unsigned long functions = argc > 1 ? strtoul(argv[argc - 1], NULL, 10) * 1000 / 58 : 0;
    size_t size = functions * 256 + 4096;
    uint8_t *code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static uint8_t data[256];

    if (!functions || code == MAP_FAILED) {
        fprintf(stderr, "usage: once [-n] THOUSANDS\n");
        return 2;
    }
    for (unsigned long f = 0; f < functions; f++) {
        p = code + f * 256;
        for (unsigned i = 0; i < BLOCKS; i++) {
            block();
        }
        bytes("\x89\x4f\x7c\xc3", 4); /* mov [rdi + 124], ecx; ret */
    }
    if (mprotect(code, size, PROT_READ | PROT_EXEC)) {
        return 1;
    }
    for (unsigned long f = 0; !only && f < functions; f++) {
        ((void (*)(void *))(uintptr_t)(code + f * 256))(data);
    }
    return 0;
}
