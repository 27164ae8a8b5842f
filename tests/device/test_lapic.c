/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APICs: timer modes, interprocessor interrupts, priorities, x2APIC.
 */
#include "bench.h"
#include "lapic.h"

struct apics {
    struct bench *bench;
    void *dev;
    unsigned kicks[4], events[4][3], eois;
    uint8_t vector;
};

static void kick(void *opaque, unsigned cpu)
{
    ((struct apics *)opaque)->kicks[cpu]++;
}

static void event(void *opaque, unsigned cpu, enum lapic_event what, uint8_t vector)
{
    struct apics *a = opaque;

    a->events[cpu][what]++;
    a->vector = vector;
}

static int pic(void *opaque)
{
    return 0x77;
}

static void eoi(void *opaque, uint8_t vector)
{
    ((struct apics *)opaque)->eois++;
}

static struct apics *apics_new(void)
{
    struct apics *a = g_new0(struct apics, 1);
    struct lapic_config config = {4, a, kick, event, pic, eoi};

    a->bench = bench_new();
    a->dev = bench_device(a->bench, &lapic_device, &config);
    for (unsigned i = 0; i < 4; i++) {
        lapic_mmio_write(a->dev, i, 0xf0, 0x1ff);
    }
    return a;
}

static void apics_free(struct apics *a)
{
    bench_device_free(&lapic_device, a->dev);
    bench_free(a->bench);
    g_free(a);
}

static void test_timer(void)
{
    struct apics *a = apics_new();
    uint64_t value;

    lapic_mmio_write(a->dev, 0, 0x3e0, 0xb); /* divide by 1 */
    lapic_mmio_write(a->dev, 0, 0x320, 0x40);
    lapic_mmio_write(a->dev, 0, 0x380, 1000000);
    clock_advance(a->bench->clock, 500000);
    g_assert_cmpuint(lapic_mmio_read(a->dev, 0, 0x390), ==, 500000);
    g_assert_false(lapic_pending(a->dev, 0));
    clock_advance(a->bench->clock, 500000);
    g_assert_true(lapic_pending(a->dev, 0));
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x40);
    lapic_mmio_write(a->dev, 0, 0xb0, 0);
    lapic_mmio_write(a->dev, 0, 0x320, 0x20040); /* periodic */
    lapic_mmio_write(a->dev, 0, 0x380, 1000000);
    for (unsigned i = 0; i < 5; i++) {
        clock_advance(a->bench->clock, 1000000);
        g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x40);
        lapic_mmio_write(a->dev, 0, 0xb0, 0);
    }
    bench_round_trip(&lapic_device, a->dev);
    lapic_mmio_write(a->dev, 0, 0x320, 0x40040); /* TSC deadline */
    g_assert_true(lapic_msr_write(a->dev, 0, 0x6e0, clock_tsc(a->bench->clock) + 1000000));
    clock_advance(a->bench->clock, 2000000);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x40);
    g_assert_true(lapic_msr_read(a->dev, 0, 0x6e0, &value));
    g_assert_cmpuint(value, ==, 0);
    apics_free(a);
}

static void test_ipi(void)
{
    struct apics *a = apics_new();

    lapic_mmio_write(a->dev, 0, 0x310, 2u << 24);
    lapic_mmio_write(a->dev, 0, 0x300, 0x4050);
    g_assert_true(lapic_pending(a->dev, 2));
    g_assert_false(lapic_pending(a->dev, 1));
    lapic_mmio_write(a->dev, 0, 0x300, 0xc4500); /* INIT all but self */
    g_assert_cmpuint(a->events[1][LAPIC_EVENT_INIT], ==, 1);
    g_assert_cmpuint(a->events[0][LAPIC_EVENT_INIT], ==, 0);
    g_assert_false(lapic_pending(a->dev, 2));
    lapic_mmio_write(a->dev, 0, 0x300, 0xc4698);
    g_assert_cmpuint(a->events[3][LAPIC_EVENT_SIPI], ==, 1);
    g_assert_cmphex(a->vector, ==, 0x98);
    lapic_mmio_write(a->dev, 1, 0xf0, 0x1ff);
    lapic_mmio_write(a->dev, 1, 0xd0, 2u << 24);
    lapic_mmio_write(a->dev, 0, 0x310, 2u << 24);
    lapic_mmio_write(a->dev, 0, 0x300, 0x4860); /* logical */
    g_assert_cmpint(lapic_acknowledge(a->dev, 1), ==, 0x60);
    lapic_mmio_write(a->dev, 0, 0x300, 0x44400); /* NMI to self */
    g_assert_cmpuint(a->events[0][LAPIC_EVENT_NMI], ==, 1);
    lapic_mmio_write(a->dev, 0, 0x300, 0x44005); /* bad vector */
    lapic_mmio_write(a->dev, 0, 0x280, 0);
    g_assert_cmphex(lapic_mmio_read(a->dev, 0, 0x280), ==, 0x20);
    apics_free(a);
}

static void test_priority(void)
{
    struct apics *a = apics_new();

    lapic_message(a->dev, 0xfee00000, 0x31);
    lapic_message(a->dev, 0xfee00000, 0x8000 | 0x82);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x82);
    g_assert_false(lapic_pending(a->dev, 0));
    lapic_message(a->dev, 0xfee00000, 0x95);
    g_assert_true(lapic_pending(a->dev, 0));
    lapic_cr8_write(a->dev, 0, 9);
    g_assert_false(lapic_pending(a->dev, 0));
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, -1);
    lapic_cr8_write(a->dev, 0, 0);
    lapic_mmio_write(a->dev, 0, 0xb0, 0);
    g_assert_cmpuint(a->eois, ==, 1); /* level-triggered */
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x95);
    lapic_mmio_write(a->dev, 0, 0xb0, 0);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x31);
    lapic_mmio_write(a->dev, 0, 0x350, 0x700); /* LINT0: ExtINT */
    lapic_set_extint(a->dev, true);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x77);
    apics_free(a);
}

static void test_x2apic(void)
{
    struct apics *a = apics_new();
    uint64_t value;

    g_assert_false(lapic_msr_read(a->dev, 1, 0x802, &value));
    g_assert_true(lapic_msr_write(a->dev, 1, 0x1b, 0xfee00c00));
    g_assert_true(lapic_msr_read(a->dev, 1, 0x80d, &value));
    g_assert_cmphex(value, ==, 2);
    g_assert_cmphex(lapic_page(a->dev, 1), ==, 0);
    g_assert_true(lapic_msr_write(a->dev, 1, 0x83f, 0x55));
    g_assert_cmpint(lapic_acknowledge(a->dev, 1), ==, 0x55);
    g_assert_true(lapic_msr_write(a->dev, 1, 0x830, 3ull << 32 | 0x66));
    g_assert_cmpint(lapic_acknowledge(a->dev, 3), ==, 0x66);
    g_assert_false(lapic_msr_write(a->dev, 1, 0x1b, 0xfee00800)); /* no way back */
    g_assert_false(lapic_msr_write(a->dev, 1, 0x80b, 1));
    bench_round_trip(&lapic_device, a->dev);
    apics_free(a);
}

/* To an engine with APICs of its own and back: registers, what is in service, and how far the timer is. */
static void test_hand_over(void)
{
    struct apics *a = apics_new(), *b = apics_new();
    struct apic_state state;

    lapic_mmio_write(a->dev, 0, 0x3e0, 0xb);
    lapic_mmio_write(a->dev, 0, 0x320, 0x40);
    lapic_mmio_write(a->dev, 0, 0x380, 1000000);
    lapic_mmio_write(a->dev, 0, 0xd0, 0x01000000);
    lapic_message(a->dev, 0xfee00000, 0x8082);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x82);
    lapic_message(a->dev, 0xfee00000, 0x31);
    clock_advance(a->bench->clock, 400000);
    lapic_get_state(a->dev, 0, &state);
    lapic_rest(a->dev);
    clock_advance(a->bench->clock, 5000000);
    lapic_mmio_write(a->dev, 0, 0xb0, 0);
    g_assert_cmpint(lapic_acknowledge(a->dev, 0), ==, 0x31); /* and no timer */
    g_assert_false(lapic_pending(a->dev, 0));

    lapic_set_state(b->dev, 0, &state);
    g_assert_cmphex(lapic_mmio_read(b->dev, 0, 0xd0), ==, 0x01000000);
    g_assert_cmpuint(lapic_mmio_read(b->dev, 0, 0x390), ==, 600000);
    lapic_mmio_write(b->dev, 0, 0xb0, 0);
    g_assert_cmpuint(b->eois, ==, 1);
    g_assert_cmpint(lapic_acknowledge(b->dev, 0), ==, 0x31);
    lapic_mmio_write(b->dev, 0, 0xb0, 0);
    clock_advance(b->bench->clock, 599999);
    g_assert_false(lapic_pending(b->dev, 0));
    clock_advance(b->bench->clock, 1);
    g_assert_cmpint(lapic_acknowledge(b->dev, 0), ==, 0x40);
    apics_free(a);
    apics_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lapic/timer", test_timer);
    g_test_add_func("/lapic/ipi", test_ipi);
    g_test_add_func("/lapic/priority", test_priority);
    g_test_add_func("/lapic/x2apic", test_x2apic);
    g_test_add_func("/lapic/hand-over", test_hand_over);
    return g_test_run();
}
