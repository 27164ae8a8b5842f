/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the driver engine carries out without the translator (monitor/driver/quick.c): a run page,
 * page tables and a bus that records, without a driver.
 */
#include <cpuid.h>
#include <string.h>

#include "driver/driver.h"

#define RAM_SIZE 0x400000u
#define TABLES   0x10000u
#define CODE     0x100000u
#define DEVICE   0x80000000ull /* linear */
#define GPA      0xfee00000ull
#define PRESENT  0x63u /* accessed, dirty, writable */

static struct {
    struct memory *memory;
    uint8_t *ram;
    struct driver_engine engine;
    struct driver_cpu cpu;
    struct cpu_state rest;
    struct ringside_run run;
} t;

static struct {
    unsigned reads, writes, size;
    uint64_t gpa, value;
    uint32_t msr;
    bool refuse;
} bus;

static uint64_t device_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    bus.reads++;
    bus.gpa = gpa;
    bus.size = size;
    return 0x1122334455667788 & (size == 8 ? ~0ull : (1ull << 8 * size) - 1);
}

static void device_write(void *opaque, unsigned cpu, uint64_t gpa, uint64_t value, unsigned size)
{
    bus.writes++;
    bus.gpa = gpa;
    bus.size = size;
    bus.value = value;
}

static bool msr_read(void *opaque, unsigned cpu, uint32_t msr, uint64_t *value)
{
    bus.msr = msr;
    *value = 0xaabbccdd00000800;
    return !bus.refuse;
}

static bool msr_write(void *opaque, unsigned cpu, uint32_t msr, uint64_t value)
{
    bus.msr = msr;
    bus.value = value;
    return !bus.refuse;
}

static const struct cpu_bus fake_bus = {.mmio_read = device_read,
                                        .mmio_write = device_write,
                                        .apic_msr_read = msr_read,
                                        .apic_msr_write = msr_write};

static uint64_t *entry(unsigned table, unsigned index)
{
    return (uint64_t *)(t.ram + TABLES + table * 4096 + index * 8);
}

/* The first 4 MiB as they are, by pages of 2 MiB; DEVICE leads to GPA by a page of 4 KiB. */
static void tables_make(void)
{
    *entry(0, 0) = (TABLES + 0x1000) | PRESENT;
    *entry(1, 0) = (TABLES + 0x2000) | PRESENT;
    *entry(1, 2) = (TABLES + 0x3000) | PRESENT;
    *entry(2, 0) = 0 | PRESENT | 0x80;
    *entry(2, 1) = 0x200000 | PRESENT | 0x80;
    *entry(3, 0) = (TABLES + 0x4000) | PRESENT;
    *entry(4, 0) = GPA | PRESENT;
}

static void state_reset(void)
{
    struct ringside_state *s = &t.run.state;

    memset(&bus, 0, sizeof bus);
    memset(&t.run, 0, sizeof t.run);
    t.rest.activity = CPU_RUNNING;
    tables_make();
    for (unsigned i = 0; i < 16; i++) {
        s->gpr[i] = 0x0101010101010101 * (i + 1);
    }
    s->efer = 0x500;
    s->cr3 = TABLES;
    s->seg[RINGSIDE_CS].attributes = 0xa9b;
    s->rflags = 0x10002; /* RF */
    s->interrupt_shadow = 1;
}

/* Puts code there and lets it be carried out; whether it was. */
static bool quick(uint32_t exit, uint64_t rip, const void *code, size_t size)
{
    memcpy(t.ram + rip, code, size);
    t.run.state.rip = rip;
    t.run.exit = exit;
    return driver_quick(&t.cpu);
}

#define QUICK(exit, ...)                                                                           \
    quick(exit, CODE, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void assert_done(unsigned length)
{
    g_assert_cmphex(t.run.state.rip, ==, CODE + length);
    g_assert_cmphex(t.run.state.rflags, ==, 2);
    g_assert_cmpuint(t.run.state.interrupt_shadow, ==, 0);
}

/* Nothing has changed and no device was asked. */
static void assert_left(void)
{
    g_assert_cmphex(t.run.state.rip, ==, CODE);
    g_assert_cmphex(t.run.state.rflags & 0x10000, ==, 0x10000);
    g_assert_cmpuint(bus.reads + bus.writes, ==, 0);
    g_assert_cmpuint(t.rest.activity, ==, CPU_RUNNING);
}

static void access_at(uint64_t offset, bool write)
{
    state_reset();
    t.run.memory.gpa = GPA + offset;
    t.run.memory.write = write;
}

static void test_stores(void)
{
    access_at(0xb0, true); /* mov [rdi],eax */
    t.run.state.gpr[7] = DEVICE + 0xb0;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x89, 0x07));
    assert_done(2);
    g_assert_cmphex(bus.gpa, ==, GPA + 0xb0);
    g_assert_cmphex(bus.value, ==, 0x01010101);
    g_assert_cmpuint(bus.size, ==, 4);

    access_at(0xb0, true); /* mov qword [r12+8],-2 */
    t.run.state.gpr[12] = DEVICE + 0xa8;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x49, 0xc7, 0x44, 0x24, 8, 0xfe, 0xff, 0xff, 0xff));
    assert_done(9);
    g_assert_cmphex(bus.value, ==, ~1ull);
    g_assert_cmpuint(bus.size, ==, 8);

    access_at(0xb1, true); /* mov [rbp+r9*2-128],r10b */
    t.run.state.gpr[5] = DEVICE + 0x111;
    t.run.state.gpr[9] = 0x10;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x46, 0x88, 0x54, 0x4d, 0x80));
    assert_done(5);
    g_assert_cmphex(bus.value, ==, 0x0b);
    g_assert_cmpuint(bus.size, ==, 1);

    access_at(0xb2, true); /* mov word [rip+disp],1234h */
    int32_t disp = (int32_t)(DEVICE + 0xb2 - (CODE + 9));
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x66, 0xc7, 0x05, disp, disp >> 8, disp >> 16,
                        disp >> 24, 0x34, 0x12));
    assert_done(9);
    g_assert_cmphex(bus.value, ==, 0x1234);

    access_at(0xb4, true); /* mov [gs:b4h],ecx */
    t.run.state.seg[RINGSIDE_GS].base = DEVICE;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x65, 0x89, 0x0c, 0x25, 0xb4, 0, 0, 0));
    assert_done(8);
    g_assert_cmphex(bus.value, ==, 0x02020202);
}

static void test_loads(void)
{
    access_at(0x20, false); /* mov edx,[rsp] */
    t.run.state.gpr[4] = DEVICE + 0x20;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x8b, 0x14, 0x24));
    assert_done(3);
    g_assert_cmphex(t.run.state.gpr[2], ==, 0x55667788);

    access_at(0x20, false); /* mov cx,[r13+0] */
    t.run.state.gpr[13] = DEVICE + 0x20;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x66, 0x41, 0x8b, 0x4d, 0));
    assert_done(5);
    g_assert_cmphex(t.run.state.gpr[1], ==, 0x0202020202027788);

    access_at(0x21, false); /* mov sil,[rax] */
    t.run.state.gpr[0] = DEVICE + 0x21;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x40, 0x8a, 0x30));
    g_assert_cmphex(t.run.state.gpr[6], ==, 0x0707070707070788);

    access_at(0x28, false); /* mov r8,[rax] */
    t.run.state.gpr[0] = DEVICE + 0x28;
    g_assert_true(QUICK(RINGSIDE_EXIT_MEMORY, 0x4c, 0x8b, 0x00));
    g_assert_cmphex(t.run.state.gpr[8], ==, 0x1122334455667788);
    g_assert_cmpuint(bus.reads, ==, 1);
}

/* All that the translator has to do. */
static void test_left(void)
{
    static const uint8_t forms[][4] = {
        {0x88, 0x27},             /* AH */
        {0xf3, 0xa4},             /* REP MOVSB */
        {0x67, 0x89, 0x07},       /* 32-bit address */
        {0xf0, 0x89, 0x07},       /* LOCK: #UD */
        {0x01, 0x07},             /* ADD */
        {0xc7, 0x4f, 0x00, 0x00}, /* C7 /1 */
        {0x89, 0xc7},             /* no memory */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
        access_at(0xb0, true);
        t.run.state.gpr[7] = DEVICE + 0xb0;
        g_assert_false(quick(RINGSIDE_EXIT_MEMORY, CODE, forms[i], sizeof forms[i]));
        assert_left();
    }
}

#define STORE 0x89, 0x07

/* The same store, when something is not as it should be. */
static void test_refusals(void)
{
    static const struct {
        const char *what;
        void *where;
        uint64_t value;
    } changes[] = {
        {"another page", &t.run.state.gpr[7], DEVICE + 0x10b0},
        {"another address", &t.run.memory.gpa, GPA + 0xb4},
        {"not aligned", &t.run.memory.gpa, GPA + 0xb1},
        {"single steps", &t.run.state.rflags, 0x10102},
        {"a breakpoint", &t.run.state.dr7, 0x401},
        {"not long mode", &t.run.state.efer, 0},
        {"tables in no memory", &t.run.state.cr3, 0x123456789000},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++) {
        access_at(0xb0, true);
        t.run.state.gpr[7] = DEVICE + 0xb0;
        memcpy(changes[i].where, &changes[i].value, 8);
        g_assert_false(QUICK(RINGSIDE_EXIT_MEMORY, STORE));
        assert_left();
    }
    for (unsigned bit = 0; bit < 8;
         bit++) { /* present, accessed, dirty: the processor would fault or set them */
        access_at(0xb0, true);
        t.run.state.gpr[7] = DEVICE + 0xb0;
        *entry(4, 0) &= ~(1ull << bit);
        g_assert_cmpint(QUICK(RINGSIDE_EXIT_MEMORY, STORE), ==, bit != 0 && bit != 5 && bit != 6);
    }
    access_at(0xb0, false);
    t.run.state.gpr[7] = DEVICE + 0xb0;
    g_assert_false(QUICK(RINGSIDE_EXIT_MEMORY, STORE)); /* the processor said a read */
    access_at(0xb0, true);
    t.run.state.gpr[7] = DEVICE + 0xb0;
    t.run.state.seg[RINGSIDE_CS].attributes = 0xc9b;
    g_assert_false(QUICK(RINGSIDE_EXIT_MEMORY, STORE)); /* 32-bit code */
    assert_left();
}

/* What goes on in the next page is not read; what ends with the page is. */
static void test_page_end(void)
{
    access_at(0xb0, true);
    t.run.state.gpr[7] = DEVICE + 0xb0;
    g_assert_true(quick(RINGSIDE_EXIT_MEMORY, CODE + 0xffe, (const uint8_t[]){STORE}, 2));
    access_at(0xb0, true);
    t.run.state.gpr[7] = DEVICE + 0xb0;
    g_assert_false(quick(RINGSIDE_EXIT_MEMORY, CODE + 0xfff, (const uint8_t[]){STORE}, 2));
    g_assert_cmpuint(bus.writes, ==, 0);
    memset(t.ram + CODE, 0x66, 16); /* nothing but prefixes */
    g_assert_false(quick(RINGSIDE_EXIT_MEMORY, CODE, (const uint8_t[]){0x66}, 1));
}

static void test_instructions(void)
{
    state_reset();
    t.run.state.gpr[0] = 0;
    g_assert_true(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0xa2));
    assert_done(2);
    g_assert_cmphex(t.run.state.gpr[0], ==, 0x16);
    g_assert_cmpint(memcmp(&t.run.state.gpr[3], "Genu", 4), ==, 0);

    state_reset();
    t.run.state.gpr[1] = 0x6e0;
    t.run.state.gpr[0] = 0xffffffff00000005;
    t.run.state.gpr[2] = 7;
    g_assert_true(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0x30));
    assert_done(2);
    g_assert_cmphex(bus.value, ==, 0x700000005);
    g_assert_cmphex(bus.msr, ==, 0x6e0);

    state_reset();
    t.run.state.gpr[1] = 0x802;
    g_assert_true(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0x32));
    g_assert_cmphex(t.run.state.gpr[0], ==, 0x800);
    g_assert_cmphex(t.run.state.gpr[2], ==, 0xaabbccdd);

    state_reset();
    g_assert_true(QUICK(RINGSIDE_EXIT_HLT, 0xf4));
    assert_done(1);
    g_assert_cmpuint(t.rest.activity, ==, CPU_HALTED);
}

static void test_instructions_left(void)
{
    state_reset();
    t.run.state.gpr[1] = 0x10;
    g_assert_false(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0x30)); /* not the APIC's */
    assert_left();
    state_reset();
    t.run.state.gpr[1] = 0x830;
    bus.refuse = true;
    g_assert_false(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0x30)); /* #GP is the translator's */
    assert_left();
    state_reset();
    t.run.state.gpr[1] = 0x6e0;
    t.run.state.cpl = 3;
    g_assert_false(QUICK(RINGSIDE_EXIT_INSTRUCTION, 0x0f, 0x30));
    g_assert_cmphex(bus.msr, ==, 0);
    g_assert_false(QUICK(RINGSIDE_EXIT_HLT, 0xf4));
    assert_left();
}

static void test_cpuid_is_the_processors(void)
{
    uint32_t out[4], features[CPU_FEATURE_WORDS], eax = 0, ebx = 0, ecx = 0, edx = 0;

    state_reset();
    __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx);
    driver_cpuid(&t.cpu, 0xd, 1, out);
    driver_cpuid_features(&t.cpu, features);
    g_assert_cmphex(out[0] & ~eax, ==, 0);
    g_assert_cmphex(features[6], ==, out[0]);
    __get_cpuid_count(0x80000001, 0, &eax, &ebx, &ecx, &edx);
    driver_cpuid(&t.cpu, 0x80000001, 0, out);
    g_assert_cmphex(out[3] & ~edx, ==, 0);
    g_assert_cmphex(features[5], ==, out[3]);
    g_assert_cmphex(out[3] & 1u << 29, !=, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    t.memory = memory_new(RAM_SIZE, NULL);
    t.ram = memory_alloc(t.memory, RAM_SIZE, "ram");
    memory_map(t.memory, &(struct mapping){.size = RAM_SIZE, .kind = MAPPING_RAM, .host = t.ram});
    t.engine.memory = t.memory;
    t.engine.bus = &fake_bus;
    t.engine.cpus = 1;
    t.cpu = (struct driver_cpu){.engine = &t.engine, .run = &t.run, .rest = &t.rest};
    g_test_add_func("/driver/quick/stores", test_stores);
    g_test_add_func("/driver/quick/loads", test_loads);
    g_test_add_func("/driver/quick/left", test_left);
    g_test_add_func("/driver/quick/refusals", test_refusals);
    g_test_add_func("/driver/quick/page-end", test_page_end);
    g_test_add_func("/driver/quick/instructions", test_instructions);
    g_test_add_func("/driver/quick/instructions-left", test_instructions_left);
    g_test_add_func("/driver/cpuid", test_cpuid_is_the_processors);
    int result = g_test_run();
    memory_free(t.memory);
    return result;
}
