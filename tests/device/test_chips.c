/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PC's chips one by one on a fake clock: 8259, 8254, RTC, I/O APIC, HPET, 8042, 16550, fw_cfg,
 * PM.
 */
#include "acpi_pm.h"
#include "bench.h"
#include "fw_cfg.h"
#include "hpet.h"
#include "i8042.h"
#include "ioapic.h"
#include "pic8259.h"
#include "pit8254.h"
#include "rtc.h"
#include "uart16550.h"

#define MS 1000000ull

static void out(struct bench *b, uint16_t port, uint64_t value)
{
    ports_write(b->ports, port, value, 1);
}

static uint8_t in(struct bench *b, uint16_t port)
{
    return (uint8_t)ports_read(b->ports, port, 1);
}

static void pic_setup(struct bench *b)
{
    const uint8_t words[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11},
                                {0xa1, 0x28}, {0xa1, 2},    {0xa1, 1}, {0x21, 0}, {0xa1, 0}};

    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        out(b, words[i][0], words[i][1]);
    }
}

static void test_pic(void)
{
    struct bench *b = bench_new();
    struct pic_config config = {bench_irq(b, 0)};
    void *pic = bench_device(b, &pic_device, &config);

    pic_setup(b);
    pic_set_irq(pic, 3, true);
    pic_set_irq(pic, 1, true);
    g_assert_true(b->line[0]);
    g_assert_cmpint(pic_acknowledge(pic), ==, 0x21);
    g_assert_false(b->line[0]); /* 3 is lower than 1 in service */
    bench_round_trip(&pic_device, pic);
    out(b, 0x20, 0x20);
    g_assert_cmpint(pic_acknowledge(pic), ==, 0x23);
    out(b, 0x20, 0x20);
    g_assert_cmpint(pic_acknowledge(pic), ==, 0x27); /* spurious */
    pic_set_irq(pic, 12, true);
    g_assert_cmpint(pic_acknowledge(pic), ==, 0x2c);
    out(b, 0xa0, 0x20);
    out(b, 0x20, 0x62);
    out(b, 0x20, 0x0b);
    g_assert_cmpint(in(b, 0x20), ==, 0);
    out(b, 0x21, 0xff);
    pic_set_irq(pic, 5, true);
    g_assert_false(b->line[0]);
    bench_device_free(&pic_device, pic);
    bench_free(b);
}

static void test_pit(void)
{
    struct bench *b = bench_new();
    struct pit_config config = {bench_irq(b, 0)};
    void *pit = bench_device(b, &pit_device, &config);
    unsigned low, high;

    out(b, 0x43, 0x34); /* channel 0, both bytes, mode 2: 1193 -> about 1 ms */
    out(b, 0x40, 0xa9);
    out(b, 0x40, 0x04);
    b->edges[0] = 0;
    clock_advance(b->clock, 100 * MS + MS / 2);
    g_assert_cmpuint(b->edges[0], ==, 100);
    bench_round_trip(&pit_device, pit);
    out(b, 0x43, 0x00); /* latch */
    low = in(b, 0x40);
    high = in(b, 0x40);
    g_assert_cmpuint(high << 8 | low, >, 400);
    g_assert_cmpuint(high << 8 | low, <, 700);
    out(b, 0x43, 0x30); /* mode 0 */
    out(b, 0x40, 0xff);
    out(b, 0x40, 0xff);
    g_assert_false(b->line[0]);
    clock_advance(b->clock, 56 * MS);
    g_assert_true(b->line[0]);
    out(b, 0x43, 0xb0); /* channel 2, mode 0 */
    out(b, 0x42, 100);
    out(b, 0x42, 0);
    g_assert_false(pit_out2(pit));
    clock_advance(b->clock, MS);
    g_assert_true(pit_out2(pit));
    bench_device_free(&pit_device, pit);
    bench_free(b);
}

static uint8_t cmos(struct bench *b, uint8_t index)
{
    out(b, 0x70, index);
    return in(b, 0x71);
}

static void cmos_set(struct bench *b, uint8_t index, uint8_t value)
{
    out(b, 0x70, index);
    out(b, 0x71, value);
}

static int64_t new_year(void)
{
    return 1704067200; /* 2024-01-01, a Monday */
}

static void test_rtc(void)
{
    struct bench *b = bench_new();
    struct rtc_config config = {.irq = bench_irq(b, 8), .memory_below_4g = 64 << 20, .cpus = 2};
    void *rtc = bench_device(b, &rtc_device, &config);

    cmos_set(b, 0x0a, 0x26);
    cmos_set(b, 0x0b, 0x42); /* periodic, 1024 Hz */
    b->edges[8] = 0;
    for (unsigned i = 0; i < 1024; i++) {
        clock_advance(b->clock, NS_PER_SECOND / 1024 + 1);
        cmos(b, 0x0c);
    }
    g_assert_cmpuint(b->edges[8], >=, 1023);
    cmos_set(b, 0x0b, 0x12); /* update-ended */
    clock_advance(b->clock, NS_PER_SECOND + 1);
    g_assert_cmphex(cmos(b, 0x0c) & 0x90, ==, 0x90);
    cmos_set(b, 0x0b, 0x82); /* set the time */
    cmos_set(b, 0x00, 0x58);
    cmos_set(b, 0x02, 0x59);
    cmos_set(b, 0x04, 0x23);
    cmos_set(b, 0x07, 0x31);
    cmos_set(b, 0x08, 0x12);
    cmos_set(b, 0x09, 0x99);
    cmos_set(b, 0x32, 0x19);
    cmos_set(b, 0x0b, 0x02);
    clock_advance(b->clock, 3 * NS_PER_SECOND);
    g_assert_cmphex(cmos(b, 0x09), ==, 0x00);
    g_assert_cmphex(cmos(b, 0x32), ==, 0x20);
    g_assert_cmphex(cmos(b, 0x5f), ==, 1);
    bench_round_trip(&rtc_device, rtc);
    bench_device_free(&rtc_device, rtc);
    config.host_seconds = new_year;
    rtc = bench_device(b, &rtc_device, &config);
    g_assert_cmphex(cmos(b, 0x09), ==, 0x24);
    g_assert_cmphex(cmos(b, 0x06), ==, 2);
    bench_device_free(&rtc_device, rtc);
    bench_free(b);
}

static void ioapic_reg(struct bench *b, uint8_t reg, uint32_t value)
{
    memory_io_write(b->memory, 0xfec00000, reg, 4);
    memory_io_write(b->memory, 0xfec00010, value, 4);
}

static void test_ioapic(void)
{
    struct bench *b = bench_new();
    struct ioapic_config config = {bench_msi, b};
    void *io = bench_device(b, &ioapic_device, &config);

    ioapic_set_irq(io, 4, true); /* masked: lost */
    ioapic_set_irq(io, 4, false);
    ioapic_reg(b, 0x19, 3u << 24);
    ioapic_reg(b, 0x18, 0x41);
    g_assert_cmpuint(b->msis, ==, 0);
    ioapic_set_irq(io, 4, true);
    g_assert_cmpuint(b->msis, ==, 1);
    g_assert_cmphex(b->msi_address, ==, 0xfee03000);
    g_assert_cmphex(b->msi_data & 0xff, ==, 0x41);
    ioapic_reg(b, 0x30, 0x8052); /* input 16, level */
    ioapic_set_irq(io, 16, true);
    ioapic_set_irq(io, 16, true);
    g_assert_cmpuint(b->msis, ==, 2);
    ioapic_eoi(io, 0x52); /* still high */
    g_assert_cmpuint(b->msis, ==, 3);
    ioapic_set_irq(io, 16, false);
    ioapic_eoi(io, 0x52);
    g_assert_cmpuint(b->msis, ==, 3);
    bench_round_trip(&ioapic_device, io);
    bench_device_free(&ioapic_device, io);
    bench_free(b);
}

static void test_hpet(void)
{
    struct bench *b = bench_new();
    struct hpet_config config = {bench_line, b, bench_msi};
    void *hpet = bench_device(b, &hpet_device, &config);
    const uint64_t base = 0xfed00000;

    g_assert_cmphex(memory_io_read(b->memory, base + 4, 4), ==, 10000000);
    memory_io_write(b->memory, base + 0x10, 3, 4); /* run, legacy */
    g_assert_true(hpet_owns_legacy(hpet));
    clock_advance(b->clock, MS);
    g_assert_cmpuint(memory_io_read(b->memory, base + 0xf0, 8), ==, 100000);
    memory_io_write(b->memory, base + 0x100, 0x4c, 4); /* periodic, enabled, set value */
    memory_io_write(b->memory, base + 0x108, 200000, 4);
    memory_io_write(b->memory, base + 0x108, 100000, 4);
    clock_advance(b->clock, 10 * MS + MS / 2);
    g_assert_cmpuint(b->edges[0], ==, 10);
    memory_io_write(b->memory, base + 0x120, 4, 4); /* one-shot */
    memory_io_write(b->memory, base + 0x128, memory_io_read(b->memory, base + 0xf0, 8) + 5000, 8);
    clock_advance(b->clock, MS);
    g_assert_cmpuint(b->edges[8], ==, 1);
    bench_round_trip(&hpet_device, hpet);
    bench_device_free(&hpet_device, hpet);
    bench_free(b);
}

static void note_reset(void *opaque)
{
    ((struct bench *)opaque)->msis++;
}

static void expect(struct bench *b, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_assert_true(in(b, 0x64) & 1);
        g_assert_cmphex(in(b, 0x60), ==, bytes[i]);
    }
    g_assert_false(in(b, 0x64) & 1);
}

#define EXPECT(...)                                                                                \
    do {                                                                                           \
        const uint8_t bytes[] = {__VA_ARGS__};                                                     \
        expect(b, bytes, sizeof bytes);                                                            \
    } while (0)

static void test_i8042(void)
{
    struct bench *b = bench_new();
    struct input *input = input_new();
    struct i8042_config config = {bench_irq(b, 1), bench_irq(b, 12), input, note_reset, b};
    void *dev = bench_device(b, &i8042_device, &config);

    out(b, 0x64, 0xaa);
    EXPECT(0x55);
    out(b, 0x64, 0x60);
    out(b, 0x60, 0x47);
    out(b, 0x60, 0xff);
    EXPECT(0xfa, 0xaa);
    input_key(input, 30, true); /* A */
    g_assert_true(b->line[1]);
    input_key(input, 30, false);
    EXPECT(0x1e, 0x9e);
    input_key(input, 103, true); /* up */
    EXPECT(0xe0, 0x48);
    input_key(input, 119, true); /* pause */
    EXPECT(0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    bench_round_trip(&i8042_device, dev);
    const uint8_t knock[] = {0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2};
    for (unsigned i = 0; i < sizeof knock; i++) {
        out(b, 0x64, 0xd4);
        out(b, 0x60, knock[i]);
        g_assert_cmphex(in(b, 0x60), ==, 0xfa);
    }
    EXPECT(3);
    out(b, 0x64, 0xd4);
    out(b, 0x60, 0xf4);
    EXPECT(0xfa);
    input_pointer_relative(input, 5, 3, 1, INPUT_BUTTON_LEFT);
    g_assert_true(b->line[12]);
    EXPECT(0x29, 5, 0xfd, 0xff);
    out(b, 0x64, 0xfe);
    g_assert_cmpuint(b->msis, ==, 1);
    bench_device_free(&i8042_device, dev);
    input_free(input);
    bench_free(b);
}

/* Two ports side by side: bytes and interrupts of the second stay out of the first. */
static void test_uart_pair(void)
{
    struct bench *b = bench_new();
    struct uart_config config[2] = {{0x3f8, bench_irq(b, 4), NULL}, {0x2f8, bench_irq(b, 3), NULL}};
    void *com1 = bench_device(b, &uart_device, &config[0]);
    void *com2 = bench_device(b, &uart_device, &config[1]);

    out(b, 0x2fc, 0x08);
    out(b, 0x2f9, 0x01);
    uart_receive(com2, (const uint8_t *)"2", 1);
    g_assert_true(b->line[3]);
    g_assert_false(b->line[4]);
    g_assert_cmphex(in(b, 0x3fd) & 1, ==, 0);
    g_assert_cmpint(in(b, 0x2f8), ==, '2');
    g_assert_false(b->line[3]);
    bench_device_free(&uart_device, com1);
    bench_device_free(&uart_device, com2);
    bench_free(b);
}

static void test_uart(void)
{
    struct bench *b = bench_new();
    struct uart_config config = {0x3f8, bench_irq(b, 4), NULL};
    void *uart = bench_device(b, &uart_device, &config);

    out(b, 0x3fc, 0x08);
    out(b, 0x3f9, 0x02);
    g_assert_true(b->line[4]); /* transmitter empty */
    g_assert_cmphex(in(b, 0x3fa) & 0x0f, ==, 0x02);
    g_assert_false(b->line[4]);
    out(b, 0x3fa, 0x81); /* FIFO, trigger 8 */
    out(b, 0x3f9, 0x01);
    uart_receive(uart, (const uint8_t *)"abc", 3);
    g_assert_cmphex(in(b, 0x3fa), ==, 0xcc);
    g_assert_cmpuint(uart_room(uart), ==, 13);
    bench_round_trip(&uart_device, uart);
    g_assert_cmpint(in(b, 0x3f8), ==, 'a');
    in(b, 0x3f8);
    in(b, 0x3f8);
    g_assert_cmphex(in(b, 0x3fd), ==, 0x60);
    out(b, 0x3fc, 0x1a); /* loop-back */
    g_assert_cmphex(in(b, 0x3fe) & 0xf0, ==, 0x90);
    out(b, 0x3f8, 'x');
    g_assert_cmpint(in(b, 0x3f8), ==, 'x');
    bench_device_free(&uart_device, uart);
    bench_free(b);
}

static uint32_t dma(struct bench *b, uint32_t control, uint32_t length, uint64_t address)
{
    uint32_t words[4] = {GUINT32_TO_BE(control), GUINT32_TO_BE(length),
                         GUINT32_TO_BE((uint32_t)(address >> 32)),
                         GUINT32_TO_BE((uint32_t)address)};

    memcpy(b->ram + 0x1000, words, sizeof words);
    ports_write(b->ports, 0x514, 0, 4);
    ports_write(b->ports, 0x518, GUINT32_SWAP_LE_BE(0x1000u), 4);
    memcpy(words, b->ram + 0x1000, sizeof words);
    return GUINT32_FROM_BE(words[0]);
}

static void test_fw_cfg(void)
{
    struct bench *b = bench_new();
    void *fw = bench_device(b, &fw_cfg_device, NULL);

    g_assert_true(fw_cfg_set_file(fw, "etc/test", "hello", 5));
    ports_write(b->ports, 0x510, 0, 2);
    g_assert_cmpint(in(b, 0x511), ==, 'Q');
    g_assert_cmphex(ports_read(b->ports, 0x514, 4), ==, 0x554d4551);
    ports_write(b->ports, 0x510, FW_CFG_FILE_DIR, 2);
    for (unsigned i = 0; i < 3; i++) {
        in(b, 0x511);
    }
    g_assert_cmpint(in(b, 0x511), ==, 1);
    g_assert_cmphex(dma(b, 0x20u << 16 | 8 | 2, 8, 0x2000), ==, 0);
    g_assert_cmpmem(b->ram + 0x2000, 8, "hello\0\0", 8);
    g_assert_cmphex(dma(b, 0x20u << 16 | 8 | 2, 0xffffffff, 0x2000), ==, 1);
    g_assert_cmphex(dma(b, 0x20u << 16 | 8 | 2, 8, 0x10000000000), ==, 1);
    g_assert_cmphex(dma(b, 0x20u << 16 | 8 | 16, 8, 0x2000), ==, 1);
    /* The architecture's items are others: none here. SeaBIOS would take "QEMU" for 17,745 ACPI
     * tables. */
    g_assert_cmphex(dma(b, 0x8000u << 16 | 8 | 2, 2, 0x2000), ==, 0);
    g_assert_cmpmem(b->ram + 0x2000, 2, "\0\0", 2);
    bench_round_trip(&fw_cfg_device, fw);
    bench_device_free(&fw_cfg_device, fw);
    bench_free(b);
}

static void note_event(void *opaque, enum acpi_pm_event event)
{
    ((struct bench *)opaque)->msis++;
}

static void test_pm(void)
{
    struct bench *b = bench_new();
    struct acpi_pm_config config = {bench_irq(b, 9), note_event, b};
    void *pm = bench_device(b, &acpi_pm_device, &config);

    acpi_pm_map(pm, 0x600);
    clock_advance(b->clock, NS_PER_SECOND);
    g_assert_cmpuint(ports_read(b->ports, 0x608, 4), ==, 3579545);
    acpi_pm_set_acpi(pm, true);
    ports_write(b->ports, 0x602, 0x101, 2);
    clock_advance(b->clock, 2 * NS_PER_SECOND);
    g_assert_true(b->line[9]); /* the timer's bit 23 */
    ports_write(b->ports, 0x600, 0x01, 2);
    g_assert_false(b->line[9]);
    acpi_pm_power_button(pm);
    g_assert_true(b->line[9]);
    bench_round_trip(&acpi_pm_device, pm);
    ports_write(b->ports, 0x600, 0x100, 2);
    g_assert_false(b->line[9]);
    g_assert_cmphex(ports_read(b->ports, 0x630, 4) & 0x20, ==, 0x20);
    ports_write(b->ports, 0x604, 0x3c01, 2);
    g_assert_cmpuint(b->msis, ==, 1);
    bench_device_free(&acpi_pm_device, pm);
    bench_free(b);
}

#define TICK (NS_PER_SECOND * 6 / 10)

static void test_watchdog(void)
{
    struct bench *b = bench_new();
    struct acpi_pm_config config = {bench_irq(b, 9), note_event, b};
    void *pm = bench_device(b, &acpi_pm_device, &config);

    acpi_pm_map(pm, 0x600);
    clock_advance(b->clock, 100 * NS_PER_SECOND); /* firmware knows nothing of it */
    g_assert_cmphex(ports_read(b->ports, 0x664, 2), ==, 0);
    ports_write(b->ports, 0x672, 0xfc32, 2);
    g_assert_cmphex(ports_read(b->ports, 0x672, 2), ==, 50);
    ports_write(b->ports, 0x672, 1, 2); /* ignored */
    g_assert_cmphex(ports_read(b->ports, 0x672, 2), ==, 50);
    acpi_pm_set_no_reboot(pm, false);
    ports_write(b->ports, 0x660, 1, 2);
    clock_advance(b->clock, 30 * TICK);
    g_assert_cmpuint(ports_read(b->ports, 0x660, 2), ==, 20);
    ports_write(b->ports, 0x660, 1, 1);
    clock_advance(b->clock, 49 * TICK);
    g_assert_cmphex(ports_read(b->ports, 0x664, 2), ==, 0);
    ports_write(b->ports, 0x669, 0x08, 1); /* halted */
    clock_advance(b->clock, 500 * TICK);
    g_assert_cmphex(ports_read(b->ports, 0x668, 2), ==, 0x800);
    g_assert_cmpuint(ports_read(b->ports, 0x660, 2), ==, 1);
    bench_round_trip(&acpi_pm_device, pm);
    ports_write(b->ports, 0x668, 0, 2);
    clock_advance(b->clock, 2 * TICK);
    g_assert_cmphex(ports_read(b->ports, 0x664, 4), ==, 0x8); /* TIMEOUT, not yet twice */
    bench_round_trip(&acpi_pm_device, pm);
    ports_write(b->ports, 0x664, 0x8, 2);
    clock_advance(b->clock, 49 * TICK);
    g_assert_cmphex(ports_read(b->ports, 0x664, 4), ==, 0x8);
    g_assert_cmpuint(b->msis, ==, 0);
    acpi_pm_set_no_reboot(pm, true);
    clock_advance(b->clock, 100 * TICK);
    g_assert_cmpuint(b->msis, ==, 0);
    acpi_pm_set_no_reboot(pm, false);
    clock_advance(b->clock, 51 * TICK);
    g_assert_cmpuint(b->msis, ==, 1); /* a reset */
    g_assert_cmphex(ports_read(b->ports, 0x666, 2), ==, 2);
    acpi_pm_device.reset(pm);
    g_assert_cmphex(ports_read(b->ports, 0x664, 4), ==, 0x20000); /* who did it */
    clock_advance(b->clock, 500 * TICK);
    g_assert_cmpuint(b->msis, ==, 1);
    bench_device_free(&acpi_pm_device, pm);
    bench_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chips/8259", test_pic);
    g_test_add_func("/chips/8254", test_pit);
    g_test_add_func("/chips/rtc", test_rtc);
    g_test_add_func("/chips/ioapic", test_ioapic);
    g_test_add_func("/chips/hpet", test_hpet);
    g_test_add_func("/chips/i8042", test_i8042);
    g_test_add_func("/chips/16550", test_uart);
    g_test_add_func("/chips/16550_pair", test_uart_pair);
    g_test_add_func("/chips/fw-cfg", test_fw_cfg);
    g_test_add_func("/chips/acpi-pm", test_pm);
    g_test_add_func("/chips/watchdog", test_watchdog);
    return g_test_run();
}
