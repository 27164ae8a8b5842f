/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>

#include "bare.h"

volatile struct caught caught;
unsigned caught_count;
bool (*trap_hook)(struct frame *f);
bool gate_return;
static unsigned failures;

void user_enter(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss);
void user_done(void);
void trap(struct frame *f);
void bare_main(void);

/* The compiler wants these. */
void *memset(void *to, int value, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n);

void *memset(void *to, int value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = value;
    }
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

static void put(char c)
{
    out8(0xe9, c);
    out8(0x3f8, c);
}

void print(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

void print_hex(uint64_t value)
{
    unsigned shift = 60;
    while (shift && !(value >> shift)) {
        shift -= 4;
    }
    for (;; shift -= 4) {
        put("0123456789abcdef"[value >> shift & 15]);
        if (!shift) {
            return;
        }
    }
}

void print_decimal(uint64_t value)
{
    if (value >= 10) {
        print_decimal(value / 10);
    }
    put('0' + value % 10);
}

_Noreturn void end(unsigned code)
{
    for (;;) {
        __asm__ volatile("outl %0, $0xf4" : : "a"(code));
    }
}

void caught_print(void)
{
    print("  got vector ");
    print_hex(caught.vector);
    print(" error ");
    print_hex(caught.error);
    print(" rip ");
    print_hex(caught.frame.rip);
    print(" cr2 ");
    print_hex(caught.cr2);
    print("\n");
}

void check_failed(const char *file, unsigned line, const char *what)
{
    const char *name = file;
    for (; *file; file++) {
        name = *file == '/' ? file + 1 : name;
    }
    if (++failures > 40) {
        return;
    }
    print(name);
    print(":");
    print_decimal(line);
    print(": ");
    print(what);
    print("\n");
}

/* Every exception and interrupt comes here. */
void trap(struct frame *f)
{
    if (trap_hook && trap_hook(f)) {
        return;
    }
    caught.frame = *f;
    caught.vector = f->vector;
    caught.error = f->error;
    caught.cr2 = read_cr2();
    caught.dr6 = f->vector == DB ? read_dr6() : 0;
    caught_count++;
    if ((f->cs & 3) || gate_return) {
        *f = (struct frame){.rip = (uint64_t)user_done,
                            .cs = KERNEL_CODE,
                            .flags = 2,
                            .rsp = saved_rsp,
                            .ss = KERNEL_DATA};
    } else if (resume) {
        f->rip = resume;
        f->flags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_AC | FLAG_RF);
        resume = 0;
    } else {
        print("unexpected exception:\n");
        caught_print();
        end(250);
    }
}

void user_run_at(uint64_t cs, const void *code, uint64_t flags, uint64_t stack)
{
    caught.vector = NONE;
    user_enter((uint64_t)code, cs, flags | 2, stack, USER_DATA);
}

void user_run(const void *code, uint64_t flags, uint64_t stack)
{
    user_run_at(USER_CODE, code, flags, stack);
}

void user_bytes(const void *code, unsigned size, uint64_t flags)
{
    for (unsigned i = 0; i < size; i++) {
        ((volatile uint8_t *)USER_AREA)[i] = ((const uint8_t *)code)[i];
    }
    ((volatile uint8_t *)USER_AREA)[size] = 0xcd;
    ((volatile uint8_t *)USER_AREA)[size + 1] = 0x40;
    user_run((void *)USER_AREA, flags, USER_STACK);
}

void gate_set(unsigned vector, uint64_t offset, uint16_t selector, uint8_t attributes, uint8_t ist)
{
    idt[vector] = (struct gate){.offset0 = offset,
                                .selector = selector,
                                .ist = ist,
                                .attributes = attributes,
                                .offset1 = offset >> 16,
                                .offset2 = offset >> 32};
}

static void tables_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        gate_set(i, (uint64_t)vectors + 16 * i, KERNEL_CODE, 0x8e, 0);
    }
    gate_set(0x40, (uint64_t)vectors + 16 * 0x40, KERNEL_CODE, 0xee, 0);
    gate_set(BP, (uint64_t)vectors + 16 * BP, KERNEL_CODE, 0xee, 0);
    gate_set(DF, (uint64_t)vectors + 16 * DF, KERNEL_CODE, 0x8e, 1);
    uint64_t at = (uint64_t)&task;
    gdt[TASK / 8] = 0x0000890000000000 | (sizeof task - 1) | (at & 0xffffff) << 16 | at >> 24 << 56;
    gdt[TASK / 8 + 1] = at >> 32;
    task.rsp[0] = (uint64_t)stack_fault;
    task.ist[0] = (uint64_t)stack_ist;
    task.io_map = __builtin_offsetof(struct task, io_bits);
    __asm__ volatile("ltr %w0" : : "r"(TASK));
}

/* All memory becomes ring 0's except the user area, so that SMEP and SMAP can be turned on. */
static void memory_init(void)
{
    uint64_t *directory = (uint64_t *)((read_cr3() & ~0xfffull) + 0x2000);
    for (unsigned i = 0; i < 2048; i++) {
        if (i << 21 != USER_AREA) {
            directory[i] &= ~4ull;
        }
    }
    write_cr3(read_cr3());
}

void bare_main(void)
{
    static const uint16_t data = KERNEL_DATA;
    __asm__ volatile("movw %0, %%ds; movw %0, %%es; movw %0, %%ss; movw %0, %%fs; movw %0, %%gs"
                     :
                     : "r"(data));
    tables_init();
    memory_init();
    int code = main_test();
    end(failures > 200 ? 200 : failures ? failures : (unsigned)code);
}
