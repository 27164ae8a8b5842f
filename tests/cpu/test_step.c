/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single instructions (engine_ops.step), as an engine on hardware asks for them: each sees memory as it is now, and
 * leaves a whole state.
 */
#include <string.h>

#include "harness.h"

#define RAM_SIZE 0x400000u
#define TABLES   0x10000u
#define CODE     0x100000u
#define HANDLER  0x180000u
#define IDT      0x20000u
#define DEVICE   0xfee00300u

static struct {
    uint64_t gpa, value;
    unsigned writes, reads;
} device;

static uint64_t device_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    device.gpa = gpa;
    device.reads++;
    return 0x12345678;
}

static void device_write(void *opaque, unsigned cpu, uint64_t gpa, uint64_t value, unsigned size)
{
    device.gpa = gpa;
    device.value = value;
    device.writes++;
}

static struct harness *make(struct cpu_state *state)
{
    struct harness *h = harness_new(RAM_SIZE, "step");

    h->bus.mmio_read = device_read;
    h->bus.mmio_write = device_write;
    harness_long_mode(h, state, TABLES, CODE, CODE - 16);
    memset(&device, 0, sizeof device);
    return h;
}

static void step(struct harness *h, struct cpu_state *s, const void *code, size_t size)
{
    s->rip = CODE;
    memcpy(h->ram + CODE, code, size);
    g_assert_true(translate_engine.step(h->engine, 0, s));
}

static void test_instructions(void)
{
    static const uint8_t cpuid[] = {0x0f, 0xa2}, hlt[] = {0xf4}, nop[] = {0x90}, jump[] = {0xeb, 0x10};
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);

    state->gpr[CPU_RAX] = 0;
    step(h, state, cpuid, sizeof cpuid);
    g_assert_cmphex(state->rip, ==, CODE + 2);
    g_assert_cmpuint(state->gpr[CPU_RAX], >=, 0xd);
    /* The same place, other bytes. */
    step(h, state, nop, sizeof nop);
    g_assert_cmphex(state->rip, ==, CODE + 1);
    step(h, state, jump, sizeof jump);
    g_assert_cmphex(state->rip, ==, CODE + 0x12);
    state->interrupt_shadow = true;
    step(h, state, hlt, sizeof hlt);
    g_assert_cmphex(state->rip, ==, CODE + 1);
    g_assert_cmpuint(state->activity, ==, CPU_HALTED);
    g_assert_false(state->interrupt_shadow);
    harness_free(h);
    g_aligned_free(state);
}

static void test_device(void)
{
    static const uint8_t store[] = {0x89, 0x08}, load[] = {0x8b, 0x10}; /* mov [rax],ecx; mov edx,[rax] */
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);

    state->gpr[CPU_RAX] = DEVICE;
    state->gpr[CPU_RCX] = 0xcafe;
    step(h, state, store, sizeof store);
    g_assert_cmpuint(device.writes, ==, 1);
    g_assert_cmphex(device.gpa, ==, DEVICE);
    g_assert_cmphex(device.value, ==, 0xcafe);
    step(h, state, load, sizeof load);
    g_assert_cmpuint(device.reads, ==, 1);
    g_assert_cmphex(state->gpr[CPU_RDX], ==, 0x12345678);
    harness_free(h);
    g_aligned_free(state);
}

/* The guest may change its page tables without our seeing an INVLPG. */
static void test_page_tables(void)
{
    static const uint8_t load[] = {0x8b, 0x10};
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);
    uint64_t *directory = NULL;

    h->ram[0x200000] = 1;
    h->ram[0x300000] = 2;
    for (uint64_t *entry = (uint64_t *)(h->ram + TABLES); entry < (uint64_t *)(h->ram + TABLES + 0x6000); entry++) {
        if ((*entry & ~0xfffull) == 0x200000 && (*entry & 0x80)) {
            directory = entry;
        }
    }
    g_assert_nonnull(directory);
    state->gpr[CPU_RAX] = 0x200000;
    step(h, state, load, sizeof load);
    g_assert_cmphex(state->gpr[CPU_RDX] & 0xff, ==, 1);
    *directory &= 0xfff; /* the first 2 MiB again */
    h->ram[0] = 3;
    step(h, state, load, sizeof load);
    g_assert_cmphex(state->gpr[CPU_RDX] & 0xff, ==, 3);
    harness_free(h);
    g_aligned_free(state);
}

/* The exception is delivered, and its handler not begun. */
static void test_exception(void)
{
    static const uint8_t ud2[] = {0x0f, 0x0b}, handler[] = {0x31, 0xc0}; /* xor eax,eax */
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);
    uint64_t *gate = (uint64_t *)(h->ram + IDT + 6 * 16);

    gate[0] = (HANDLER & 0xffff) | (uint64_t)state->seg[CPU_CS].selector << 16 | 0x8e00ull << 32 |
              (uint64_t)(HANDLER >> 16) << 48;
    gate[1] = 0;
    state->idtr_base = IDT;
    state->idtr_limit = 0xfff;
    memcpy(h->ram + HANDLER, handler, sizeof handler);
    state->gpr[CPU_RAX] = 77;
    step(h, state, ud2, sizeof ud2);
    g_assert_cmphex(state->rip, ==, HANDLER);
    g_assert_cmpuint(state->gpr[CPU_RAX], ==, 77);
    g_assert_cmphex(*(uint64_t *)(h->ram + state->gpr[CPU_RSP]), ==, CODE);
    harness_free(h);
    g_aligned_free(state);
}

static void test_unknown_state(void)
{
    static const uint8_t nop[] = {0x90};
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);

    memcpy(h->ram + CODE, nop, sizeof nop);
    state->cr4 |= 1ull << 30;
    g_assert_false(translate_engine.step(h->engine, 0, state));
    g_assert_cmphex(state->rip, ==, CODE);
    harness_free(h);
    g_aligned_free(state);
}

static void test_many(void)
{
    static const uint8_t store[] = {0x89, 0x08};
    struct cpu_state *state = g_aligned_alloc0(1, sizeof *state, 64);
    struct harness *h = make(state);
    gint64 start = g_get_monotonic_time();

    state->gpr[CPU_RAX] = DEVICE;
    for (unsigned i = 0; i < 100000; i++) {
        step(h, state, store, sizeof store);
    }
    g_assert_cmpuint(device.writes, ==, 100000);
    g_test_message("%.2f us a step", (double)(g_get_monotonic_time() - start) / 100000);
    harness_free(h);
    g_aligned_free(state);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/step/instructions", test_instructions);
    g_test_add_func("/step/device", test_device);
    g_test_add_func("/step/page-tables", test_page_tables);
    g_test_add_func("/step/exception", test_exception);
    g_test_add_func("/step/unknown-state", test_unknown_state);
    g_test_add_func("/step/many", test_many);
    return g_test_run();
}
