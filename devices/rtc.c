/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Motorola MC146818A (MC146818A/D), as in the ICH9 (datasheet section 13.6): time, alarm, periodic
 * and update-ended interrupts. The CMOS bytes past 0Eh follow what PC firmware expects (memory
 * sizes, boot order).
 *
 * The time is the host's plus an offset that the guest's own settings change.
 */
#include <string.h>

#include "rtc.h"

enum {
    RTC_SECONDS,
    RTC_SECONDS_ALARM,
    RTC_MINUTES,
    RTC_MINUTES_ALARM,
    RTC_HOURS,
    RTC_HOURS_ALARM,
    RTC_WEEKDAY,
    RTC_DAY,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B,
    RTC_C,
    RTC_D,
    RTC_CENTURY = 0x32
};

#define A_UIP  0x80u
#define B_SET  0x80u
#define B_PIE  0x40u
#define B_AIE  0x20u
#define B_UIE  0x10u
#define B_DM   0x04u
#define B_24H  0x02u
#define C_IRQF 0x80u
#define C_PF   0x40u
#define C_AF   0x20u
#define C_UF   0x10u

#define UIP_NS 244000u

struct rtc {
    struct rtc_config config;
    struct clock *clock;
    struct timer *periodic, *second;
    uint8_t index;
    uint8_t cmos[128];
    uint64_t offset; /* guest seconds - host seconds, wraps */
    uint64_t last_update;
};

static uint64_t rtc_seconds(const struct rtc *rtc)
{
    uint64_t host = rtc->config.host_seconds ? (uint64_t)rtc->config.host_seconds()
                                             : clock_now(rtc->clock) / NS_PER_SECOND;

    return host + rtc->offset;
}

static uint8_t rtc_encode(const struct rtc *rtc, unsigned value)
{
    return (uint8_t)(rtc->cmos[RTC_B] & B_DM ? value : value / 10 % 10 << 4 | value % 10);
}

static unsigned rtc_decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->cmos[RTC_B] & B_DM ? value : (value >> 4) * 10u + (value & 15u);
}

static uint8_t rtc_encode_hour(const struct rtc *rtc, int hour)
{
    if (rtc->cmos[RTC_B] & B_24H) {
        return rtc_encode(rtc, (unsigned)hour);
    }
    return rtc_encode(rtc, hour % 12 ? (unsigned)hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static unsigned rtc_decode_hour(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[RTC_B] & B_24H) {
        return rtc_decode(rtc, value);
    }
    return rtc_decode(rtc, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

/* Brings the time bytes up to date, unless the guest is setting them. */
static void rtc_refresh(struct rtc *rtc)
{
    g_autoptr(GDateTime) t = NULL;
    uint8_t *m = rtc->cmos;

    if (m[RTC_B] & B_SET) {
        return;
    }
    t = g_date_time_new_from_unix_utc((gint64)rtc_seconds(rtc));
    if (!t) {
        rtc->offset = 0;
        return;
    }
    m[RTC_SECONDS] = rtc_encode(rtc, (unsigned)g_date_time_get_second(t));
    m[RTC_MINUTES] = rtc_encode(rtc, (unsigned)g_date_time_get_minute(t));
    m[RTC_HOURS] = rtc_encode_hour(rtc, g_date_time_get_hour(t));
    m[RTC_WEEKDAY] = rtc_encode(rtc, (unsigned)g_date_time_get_day_of_week(t) % 7 + 1);
    m[RTC_DAY] = rtc_encode(rtc, (unsigned)g_date_time_get_day_of_month(t));
    m[RTC_MONTH] = rtc_encode(rtc, (unsigned)g_date_time_get_month(t));
    m[RTC_YEAR] = rtc_encode(rtc, (unsigned)g_date_time_get_year(t) % 100);
    m[RTC_CENTURY] = rtc_encode(rtc, (unsigned)g_date_time_get_year(t) / 100);
}

/* Takes the time bytes as the new time. Nonsense dates are kept as bytes but do not count. */
static void rtc_commit(struct rtc *rtc)
{
    const uint8_t *m = rtc->cmos;
    int year = (int)(rtc_decode(rtc, m[RTC_CENTURY]) * 100 + rtc_decode(rtc, m[RTC_YEAR]));
    g_autoptr(GDateTime) t = g_date_time_new_utc(
        year, (int)rtc_decode(rtc, m[RTC_MONTH]), (int)rtc_decode(rtc, m[RTC_DAY]),
        (int)rtc_decode_hour(rtc, m[RTC_HOURS]), (int)rtc_decode(rtc, m[RTC_MINUTES]),
        (double)rtc_decode(rtc, m[RTC_SECONDS]));

    if (t) {
        rtc->offset += (uint64_t)g_date_time_to_unix(t) - rtc_seconds(rtc);
        rtc->last_update = rtc_seconds(rtc);
    }
}

static void rtc_update_irq(struct rtc *rtc)
{
    uint8_t *m = rtc->cmos;

    if (m[RTC_C] & m[RTC_B] & (C_PF | C_AF | C_UF)) {
        m[RTC_C] |= C_IRQF;
    } else {
        m[RTC_C] &= (uint8_t)~C_IRQF;
    }
    irq_set(&rtc->config.irq, m[RTC_C] & C_IRQF);
}

static bool alarm_byte_matches(uint8_t alarm, uint8_t now)
{
    return (alarm & 0xc0) == 0xc0 || alarm == now;
}

/* Once a second has passed: the update-ended flag and the alarm. */
static void rtc_second_passed(struct rtc *rtc)
{
    uint64_t now = rtc_seconds(rtc);
    uint8_t *m = rtc->cmos;

    if (now == rtc->last_update || (m[RTC_B] & B_SET)) {
        return;
    }
    rtc->last_update = now;
    rtc_refresh(rtc);
    m[RTC_C] |= C_UF;
    if (alarm_byte_matches(m[RTC_SECONDS_ALARM], m[RTC_SECONDS]) &&
        alarm_byte_matches(m[RTC_MINUTES_ALARM], m[RTC_MINUTES]) &&
        alarm_byte_matches(m[RTC_HOURS_ALARM], m[RTC_HOURS])) {
        m[RTC_C] |= C_AF;
    }
}

/* Period in ns of the rate selection in register A, 0: off. */
static uint64_t rtc_period(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[RTC_A] & 15;

    if (rate == 0 || (rtc->cmos[RTC_A] & 0x70) > 0x20) {
        return 0;
    }
    if (rate <= 2) {
        rate += 7;
    }
    return (1ull << (rate - 1)) * NS_PER_SECOND / 32768;
}

static void rtc_arm(struct rtc *rtc)
{
    uint64_t now = clock_now(rtc->clock), period = rtc_period(rtc);

    if (period && (rtc->cmos[RTC_B] & B_PIE)) {
        timer_arm(rtc->periodic, (now / period + 1) * period);
    } else {
        timer_disarm(rtc->periodic);
    }
    if (rtc->cmos[RTC_B] & (B_UIE | B_AIE)) {
        timer_arm(rtc->second, (now / NS_PER_SECOND + 1) * NS_PER_SECOND);
    } else {
        timer_disarm(rtc->second);
    }
}

static void rtc_periodic(void *opaque)
{
    struct rtc *rtc = opaque;
    uint64_t period = rtc_period(rtc);

    rtc->cmos[RTC_C] |= C_PF;
    rtc_update_irq(rtc);
    if (period) {
        timer_arm(rtc->periodic, (clock_now(rtc->clock) / period + 1) * period);
    }
}

static void rtc_second(void *opaque)
{
    struct rtc *rtc = opaque;

    rtc_second_passed(rtc);
    rtc_update_irq(rtc);
    timer_arm(rtc->second, (clock_now(rtc->clock) / NS_PER_SECOND + 1) * NS_PER_SECOND);
}

static uint8_t rtc_read_data(struct rtc *rtc)
{
    uint8_t *m = rtc->cmos, value;

    switch (rtc->index) {
    case RTC_A:
        value = m[RTC_A] & 0x7f;
        if (!(m[RTC_B] & B_SET) && clock_now(rtc->clock) % NS_PER_SECOND > NS_PER_SECOND - UIP_NS) {
            value |= A_UIP;
        }
        return value;
    case RTC_C:
        rtc_second_passed(rtc);
        rtc_update_irq(rtc);
        value = m[RTC_C];
        m[RTC_C] = 0;
        rtc_update_irq(rtc);
        return value;
    case RTC_D:
        return 0x80; /* the battery is good */
    default:
        if (rtc->index < RTC_A || rtc->index == RTC_CENTURY) {
            rtc_refresh(rtc);
        }
        return m[rtc->index];
    }
}

static void rtc_write_b(struct rtc *rtc, uint8_t value)
{
    uint8_t old = rtc->cmos[RTC_B];

    if (value & B_SET) {
        rtc_refresh(rtc);
        value &= (uint8_t)~B_UIE;
    }
    rtc->cmos[RTC_B] = value;
    if ((old & B_SET) && !(value & B_SET)) {
        rtc_commit(rtc);
    }
    rtc_update_irq(rtc);
    rtc_arm(rtc);
}

static void rtc_write_data(struct rtc *rtc, uint8_t value)
{
    uint8_t i = rtc->index;
    bool is_time = i == RTC_CENTURY || (i <= RTC_YEAR && (!(i & 1) || i >= RTC_WEEKDAY));

    switch (i) {
    case RTC_A:
        rtc->cmos[RTC_A] = value & 0x7f;
        rtc_arm(rtc);
        break;
    case RTC_B:
        rtc_write_b(rtc, value);
        break;
    case RTC_C:
    case RTC_D:
        break;
    default:
        if (is_time) {
            rtc_refresh(rtc);
        }
        rtc->cmos[i] = value;
        if (is_time && !(rtc->cmos[RTC_B] & B_SET)) {
            rtc_commit(rtc);
        }
    }
}

static uint64_t rtc_read(void *dev, uint64_t addr, unsigned size)
{
    return addr & 1 ? rtc_read_data(dev) : 0xff;
}

static void rtc_write(void *dev, uint64_t addr, uint64_t value, unsigned size)
{
    struct rtc *rtc = dev;

    if (addr & 1) {
        rtc_write_data(rtc, (uint8_t)value);
    } else {
        rtc->index = value & 0x7f; /* bit 7 masks NMI, which nothing here raises */
    }
}

static const struct io_ops rtc_ops = {"rtc", rtc_read, rtc_write, 1, 1};

static void cmos_put16(struct rtc *rtc, unsigned at, uint64_t value)
{
    rtc->cmos[at] = (uint8_t)value;
    rtc->cmos[at + 1] = (uint8_t)(value >> 8);
}

static unsigned boot_code(char letter)
{
    return letter == 'a' ? 1 : letter == 'c' ? 2 : letter == 'd' ? 3 : letter == 'n' ? 4 : 0;
}

/* Bytes 3Dh and 38h: up to three boot devices, a nibble each. */
static void cmos_boot_order(struct rtc *rtc)
{
    const char *order = rtc->config.boot_order ? rtc->config.boot_order : "cd";
    unsigned codes[3] = {0};

    for (unsigned i = 0; i < 3 && order[i]; i++) {
        codes[i] = boot_code(order[i]);
    }
    rtc->cmos[0x3d] = (uint8_t)(codes[0] | codes[1] << 4);
    rtc->cmos[0x38] = (uint8_t)(codes[2] << 4 | 1); /* bit 0: no floppy signature check */
}

static void cmos_fill(struct rtc *rtc)
{
    uint64_t low = rtc->config.memory_below_4g, high = rtc->config.memory_above_4g;
    uint64_t extended = low > 0x100000 ? (low - 0x100000) >> 10 : 0;

    rtc->cmos[0x14] = 0x06; /* equipment: mouse port, FPU; no floppy */
    cmos_put16(rtc, 0x15, 640);
    cmos_put16(rtc, 0x17, MIN(extended, 0xffff));
    cmos_put16(rtc, 0x30, MIN(extended, 0xffff));
    cmos_put16(rtc, 0x34, low > (16u << 20) ? MIN((low - (16u << 20)) >> 16, 0xffff) : 0);
    cmos_put16(rtc, 0x5b, high >> 16);
    rtc->cmos[0x5d] = (uint8_t)(high >> 32);
    rtc->cmos[0x5f] = (uint8_t)(rtc->config.cpus ? rtc->config.cpus - 1 : 0);
    cmos_boot_order(rtc);
}

static bool rtc_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct rtc *rtc = dev;

    rtc->config = *(const struct rtc_config *)config;
    rtc->clock = host->clock;
    rtc->periodic = timer_new(host->clock, rtc_periodic, rtc);
    rtc->second = timer_new(host->clock, rtc_second, rtc);
    rtc->cmos[RTC_A] = 0x26;
    rtc->cmos[RTC_B] = B_24H;
    cmos_fill(rtc);
    rtc->config.boot_order = NULL; /* it may not live as long as we do */
    host->map_ports(host->opaque, 0x70, 2, &rtc_ops, dev);
    return true;
}

static void rtc_fini(void *dev)
{
    struct rtc *rtc = dev;

    timer_free(rtc->periodic);
    timer_free(rtc->second);
}

/* RESET# clears interrupt enables and flags; time and memory stay (the battery). */
static void rtc_reset(void *dev)
{
    struct rtc *rtc = dev;

    rtc->index = 0;
    rtc->cmos[RTC_B] &= (uint8_t) ~(B_SET | B_PIE | B_AIE | B_UIE | 0x08);
    rtc->cmos[RTC_C] = 0;
    rtc->cmos[0x0f] = 0; /* shutdown status: a plain reset */
    rtc->last_update = rtc_seconds(rtc);
    rtc_arm(rtc);
}

static void rtc_reset_lines(void *dev)
{
    rtc_update_irq(dev);
}

static void rtc_state(void *dev, struct state *s)
{
    struct rtc *rtc = dev;

    state_u8(s, "index", &rtc->index);
    state_bytes(s, "cmos", rtc->cmos, sizeof rtc->cmos);
    state_u64(s, "offset", &rtc->offset);
    state_u64(s, "last_update", &rtc->last_update);
    state_timer(s, "periodic", rtc->periodic);
    state_timer(s, "second", rtc->second);
    rtc->index &= 0x7f;
}

const struct device_class rtc_device = {
    .name = "rtc",
    .size = sizeof(struct rtc),
    .version = 1,
    .init = rtc_init,
    .fini = rtc_fini,
    .reset = rtc_reset,
    .reset_lines = rtc_reset_lines,
    .state = rtc_state,
};
