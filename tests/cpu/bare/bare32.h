/* SPDX-License-Identifier: GPL-2.0-or-later */
/* As bare.h, for flat 32-bit ring 0 without paging (entry32.S). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CODE = 0x08,
    DATA = 0x10,
    USER_CODE = 0x18 | 3,
    USER_DATA = 0x20 | 3,
    TASK_MAIN = 0x28,
    TASK_OTHER = 0x30,
    TASK_FAULT = 0x38,
    SPARE = 0x40 /* to gdt[31] */
};
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, NONE = 0x1ff };
enum {
    FLAG_TF = 0x100,
    FLAG_IF = 0x200,
    FLAG_IOPL3 = 0x3000,
    FLAG_NT = 0x4000,
    FLAG_RF = 0x10000,
    FLAG_VM = 0x20000,
    FLAG_AC = 0x40000
};

struct frame {
    uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, flags;
    uint32_t esp, ss, v86_es, v86_ds, v86_fs,
        v86_gs; /* only from outer rings; only from V86 mode */
};

struct task {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, flags, eax, ecx, edx, ebx, esp, ebp,
        esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
    uint8_t io_bits[0x2001];
};

extern volatile struct frame caught;
extern volatile uint32_t resume, got_cr2, got_dr6, user_esp;
extern uint64_t gdt[32], idt[256];
extern struct task task_main, task_other, task_fault;
extern uint8_t vectors[], stack_inner[], stack_task[], stack_user[];
extern volatile uint32_t fault_task_error,
    fault_task_count; /* by entry32.S's task for TASK_FAULT */

void check_failed(unsigned line, const char *what);
void print(const char *text);
void print_hex(uint32_t value);
_Noreturn void end(unsigned code);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_failed(__LINE__, #condition);                                                    \
        }                                                                                          \
    } while (0)
#define TRY(code, ...)                                                                             \
    ({                                                                                             \
        caught.vector = NONE;                                                                      \
        __asm__ volatile("movl $771f, resume\n" code "\n771: movl $0, resume" __VA_ARGS__);        \
        caught.vector;                                                                             \
    })
#define FAULTS(wanted, error_wanted, ...)                                                          \
    do {                                                                                           \
        uint32_t got = TRY(__VA_ARGS__);                                                           \
        if (got != (wanted) || (got != NONE && caught.error != (error_wanted))) {                  \
            check_failed(__LINE__, #wanted ", " #error_wanted ": " #__VA_ARGS__);                  \
            print("  got ");                                                                       \
            print_hex(got);                                                                        \
            print(" error ");                                                                      \
            print_hex(caught.error);                                                               \
            print("\n");                                                                           \
        }                                                                                          \
    } while (0)
#define FINE(...) FAULTS(NONE, 0, __VA_ARGS__)

static inline void gate_set(unsigned vector, uint16_t selector, uint32_t offset, uint8_t attributes)
{
    idt[vector] = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)attributes << 40 |
                  (uint64_t)(offset >> 16) << 48;
}

static inline uint64_t segment(uint32_t base, uint32_t limit, uint16_t attributes)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(attributes & 0xff) << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
           (uint64_t)(attributes >> 12) << 52 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t call_gate(uint16_t selector, uint32_t offset, uint8_t attributes,
                                 unsigned parameters)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
           (uint64_t)attributes << 40 | (uint64_t)(offset >> 16) << 48;
}
