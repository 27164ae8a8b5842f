/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the bare-metal tests in C stand on: 64-bit ring 0, identity-mapped, with every exception
 * caught. A test says what must come out with CHECK; a program ends with the number of failed
 * checks at port F4h and names them at port E9h and on the first serial port. SDM: Intel's manual.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Selectors (entry.S). */
enum {
    KERNEL_CODE = 0x08,
    KERNEL_DATA = 0x10,
    USER_CODE32 = 0x18 | 3,
    USER_DATA = 0x20 | 3,
    USER_CODE = 0x28 | 3,
    TASK = 0x30,
    KERNEL_CODE32 = 0x40,
    SPARE = 0x48 /* for the tests, up to gdt[31] */
};

enum {
    FLAG_CF = 1,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_IOPL3 = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_AC = 1 << 18
};

enum {
    DE,
    DB,
    NMI,
    BP,
    OF,
    BR,
    UD,
    NM,
    DF,
    TS = 10,
    NP,
    SS,
    GP,
    PF,
    MF = 16,
    AC,
    MC,
    XM,
    NONE = 0x1ff
};

#define NON_CANONICAL 0x800000000000ull

#define CR0_MP         (1ull << 1)
#define CR0_EM         (1ull << 2)
#define CR0_TS         (1ull << 3)
#define CR0_NE         (1ull << 5)
#define CR0_WP         (1ull << 16)
#define CR0_AM         (1ull << 18)
#define CR0_PG         (1ull << 31)
#define CR4_TSD        (1ull << 2)
#define CR4_DE         (1ull << 3)
#define CR4_PAE        (1ull << 5)
#define CR4_PGE        (1ull << 7)
#define CR4_OSFXSR     (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP       (1ull << 11)
#define CR4_FSGSBASE   (1ull << 16)
#define CR4_PCIDE      (1ull << 17)
#define CR4_OSXSAVE    (1ull << 18)
#define CR4_SMEP       (1ull << 20)
#define CR4_SMAP       (1ull << 21)

struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, flags, rsp, ss;
};

struct gate {
    uint16_t offset0, selector;
    uint8_t ist, attributes;
    uint16_t offset1;
    uint32_t offset2, zero;
};

struct task {
    uint32_t reserved0;
    uint64_t rsp[3], reserved1, ist[7], reserved2;
    uint16_t reserved3, io_map;
    uint8_t io_bits[0x2001];
} __attribute__((packed));

/* The last exception or interrupt; vector NONE before it. */
struct caught {
    struct frame frame;
    uint64_t vector, error, cr2, dr6;
};
extern volatile struct caught caught;
extern unsigned caught_count;
extern volatile uint64_t resume;           /* where ring 0 goes on after the next exception */
/* Sees all exceptions first; true: dealt with, return to where it was. Clear it again. */
extern bool (*trap_hook)(struct frame *f);
extern bool gate_return;                   /* the next exception in ring 0 ends a user program */

extern uint64_t gdt[32];
extern struct gate idt[256];
extern struct task task;
extern uint64_t saved_rsp; /* ring 0's, while a user program runs */
extern uint8_t stack_ist[], stack_fault[];

void check_failed(const char *file, unsigned line, const char *what);
void print(const char *text);
void print_hex(uint64_t value);
void print_decimal(uint64_t value);
_Noreturn void end(unsigned code);
int main_test(void); /* each program's own */

/* A ring-3 program at `code` runs until an exception or INT 40h; that is then in `caught`. */
extern volatile uint64_t user_rbx, user_rbp; /* what it finds in these registers */
void user_run(const void *code, uint64_t flags, uint64_t stack);
void user_run_at(uint64_t cs, const void *code, uint64_t flags, uint64_t stack);
void user_bytes(const void *code, unsigned size, uint64_t flags); /* a copy of it, and INT 40h */
#define USER_STACK 0x9ff000ull
#define USER_AREA  0x800000ull /* 2 MiB that ring 3 may use; all else is ring 0's */

void gate_set(unsigned vector, uint64_t offset, uint16_t selector, uint8_t attributes, uint8_t ist);
extern uint8_t vectors[]; /* entry of vector n: vectors + 16 * n */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_failed(__FILE__, __LINE__, #condition);                                          \
        }                                                                                          \
    } while (0)

/* Runs one instruction (or more) and goes on behind it, whatever happens. */
#define TRY(code, ...)                                                                             \
    ({                                                                                             \
        caught.vector = NONE;                                                                      \
        __asm__ volatile("movq $771f, resume\n" code "\n771: movq $0, resume" __VA_ARGS__);        \
        caught.vector;                                                                             \
    })
#define FAULTS(wanted, code_wanted, ...)                                                           \
    do {                                                                                           \
        uint64_t got = TRY(__VA_ARGS__);                                                           \
        if (got != (wanted) || (got != NONE && caught.error != (code_wanted))) {                   \
            check_failed(__FILE__, __LINE__, #wanted ", " #code_wanted ": " #__VA_ARGS__);         \
            caught_print();                                                                        \
        }                                                                                          \
    } while (0)
#define FINE(...) FAULTS(NONE, 0, __VA_ARGS__)
void caught_print(void);

#define READ_WRITE(name)                                                                           \
    static inline uint64_t read_##name(void)                                                       \
    {                                                                                              \
        uint64_t value;                                                                            \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value) : : "memory");                        \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_##name(uint64_t value)                                                \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                            \
    }
READ_WRITE(cr0)
READ_WRITE(cr2)
READ_WRITE(cr3)
READ_WRITE(cr4)
READ_WRITE(dr0)
READ_WRITE(dr1)
READ_WRITE(dr2)
READ_WRITE(dr3)
READ_WRITE(dr6)
READ_WRITE(dr7)

/* The vector that came, NONE if it went well. */
static inline uint64_t try_write_cr(unsigned n, uint64_t value)
{
    switch (n) {
    case 0:
        return TRY("mov %0, %%cr0", : : "r"(value) : "memory");
    case 3:
        return TRY("mov %0, %%cr3", : : "r"(value) : "memory");
    default:
        return TRY("mov %0, %%cr4", : : "r"(value) : "memory");
    }
}

static inline uint64_t try_wrmsr(uint32_t msr, uint64_t value)
{
    return TRY("wrmsr",
               :
               : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
               : "memory");
}

static inline uint64_t try_rdmsr(uint32_t msr, uint64_t *value)
{
    uint32_t low = 0, high = 0;
    caught.vector = NONE;
    __asm__ volatile("movq $772f, resume\nrdmsr\n772: movq $0, resume"
                     : "+a"(low), "+d"(high)
                     : "c"(msr)
                     : "memory");
    *value = (uint64_t)high << 32 | low;
    return caught.vector;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint64_t value;
    if (try_rdmsr(msr, &value) != NONE) {
        check_failed(__FILE__, __LINE__, "RDMSR");
    }
    return value;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void invlpg(uint64_t linear)
{
    __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory");
}
