/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual clock over CLOCK_MONOTONIC, and its timers on one timerfd in the default main context
 * (GLib's own ready times are rounded to milliseconds by poll()).
 *
 * Timers are an intrusive list sorted by deadline: a machine has a few dozen at most.
 */
#include <cpuid.h>
#include <errno.h>
#include <glib-unix.h>
#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "clock.h"
#include "lock.h"

#define FALLBACK_TSC_KHZ 1000000u
#define CLOCKSOURCE      "/sys/devices/system/clocksource/clocksource0/current_clocksource"

struct timer {
    struct clock *clock;
    struct timer *next, *prev;
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline; /* UINT64_MAX: disarmed */
};

struct clock {
    bool fake, tsc_is_host;
    atomic_bool running;
    _Atomic uint64_t frozen; /* virtual time while paused, or always with a fake clock */
    _Atomic uint64_t offset; /* virtual - CLOCK_MONOTONIC while running */
    _Atomic uint64_t tsc_frozen;
    _Atomic uint64_t
        tsc_ahead; /* guest TSC - what the time makes, when the host's TSC is not used */
    _Atomic int64_t tsc_offset; /* guest TSC - host TSC while running */
    struct timer *first;
    uint64_t programmed; /* virtual time the timerfd is set to, UINT64_MAX: none */
    int fd;
    GSource *source;
};

static uint64_t muldiv(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

static uint64_t host_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

/* By CPUID; or the host's kernel, which watches it, keeps the time by it. */
static bool host_tsc_invariant(void)
{
    unsigned eax, ebx, ecx, edx = 0;
    g_autofree char *info = NULL;
    g_autofree char *source = NULL;

    if (__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && (edx & (1u << 8))) {
        return true;
    }
    if (g_file_get_contents(CLOCKSOURCE, &source, NULL, NULL) && g_str_equal(source, "tsc\n")) {
        return true;
    }
    return g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL) &&
           strstr(info, " constant_tsc") && strstr(info, " nonstop_tsc");
}

/* Time and TSC of one instant: of several tries the one that was interrupted least. */
static uint64_t host_instant(uint64_t *tsc)
{
    uint64_t shortest = UINT64_MAX, now = 0;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t before = __rdtsc(), ns = host_now(), took = __rdtsc() - before;
        if (took < shortest) {
            shortest = took;
            now = ns;
            *tsc = before + took / 2;
        }
    }
    return now;
}

/* When the process had its first clock: what is done meanwhile need not be waited for again. */
static uint64_t first_ns, first_tsc;

/* Counts the TSC over at least `span` nanoseconds of CLOCK_MONOTONIC. */
static uint64_t host_tsc_khz_over(uint64_t span)
{
    uint64_t last, end;

    while ((end = host_instant(&last)) - first_ns < span) {
        g_usleep((first_ns + span - end) / 1000 + 1);
    }
    return MAX(muldiv(last - first_tsc, 1000000, end - first_ns), 1);
}

/* Once per process. 20 ms make it right to a few millionths. */
static uint64_t host_tsc_khz(void)
{
    static gsize khz;

    if (g_once_init_enter(&khz)) {
        g_once_init_leave(&khz, (gsize)host_tsc_khz_over(20000000));
    }
    return khz;
}

uint64_t clock_now(struct clock *clock)
{
    if (!atomic_load_explicit(&clock->running, memory_order_acquire) || clock->fake) {
        return atomic_load(&clock->frozen);
    }
    return host_now() + atomic_load(&clock->offset);
}

uint64_t clock_tsc(struct clock *clock)
{
    if (!clock->tsc_is_host) {
        return muldiv(clock_now(clock), FALLBACK_TSC_KHZ, 1000000) + atomic_load(&clock->tsc_ahead);
    }
    if (!atomic_load_explicit(&clock->running, memory_order_acquire)) {
        return atomic_load(&clock->tsc_frozen);
    }
    return __rdtsc() + (uint64_t)atomic_load(&clock->tsc_offset);
}

uint64_t clock_tsc_khz(struct clock *clock)
{
    return clock->tsc_is_host ? host_tsc_khz() : FALLBACK_TSC_KHZ;
}

unsigned clock_tsc_mhz(struct clock *clock)
{
    return (clock->tsc_is_host ? host_tsc_khz_over(2000000) : FALLBACK_TSC_KHZ) / 1000;
}

bool clock_tsc_is_host(struct clock *clock)
{
    return clock->tsc_is_host;
}

int64_t clock_tsc_offset(struct clock *clock)
{
    return atomic_load(&clock->tsc_offset);
}

/* Sets the timerfd for the first timer, unless it is set for that time or earlier already (an early
 * wake-up only comes back here). */
static void clock_program(struct clock *clock)
{
    struct itimerspec spec = {0};
    uint64_t deadline, host;

    if (clock->fake || !atomic_load(&clock->running) || !clock->first ||
        clock->first->deadline >= clock->programmed) {
        return;
    }
    deadline = clock->first->deadline;
    host = deadline - atomic_load(&clock->offset);
    if (deadline < clock_now(clock)) {
        host = 1;
    }
    spec.it_value.tv_sec = (time_t)MIN(host / NS_PER_SECOND, (uint64_t)INT64_MAX);
    spec.it_value.tv_nsec = (long)(host % NS_PER_SECOND);
    clock->programmed = deadline;
    timerfd_settime(clock->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

/* Fires what is due at `now`, in order. A callback that arms for a time in the past waits for the
 * next round, so that no guest setting can keep the main loop in here. */
static void clock_fire(struct clock *clock, uint64_t now)
{
    for (unsigned left = 256; left && clock->first && clock->first->deadline <= now; left--) {
        struct timer *timer = clock->first;
        timer_disarm(timer);
        timer->fn(timer->opaque);
    }
}

static gboolean clock_fd_ready(gint fd, GIOCondition condition, gpointer opaque)
{
    struct clock *clock = opaque;
    uint64_t expirations;

    machine_lock();
    if (read(fd, &expirations, sizeof expirations) == sizeof expirations) {
        clock->programmed = UINT64_MAX;
        if (atomic_load(&clock->running)) {
            clock_fire(clock, clock_now(clock));
            clock_program(clock);
        }
    }
    machine_unlock();
    return G_SOURCE_CONTINUE;
}

struct clock *clock_new(void)
{
    struct clock *clock = g_new0(struct clock, 1);

    clock->programmed = UINT64_MAX;
    clock->tsc_is_host = host_tsc_invariant();
    if (!first_ns) {
        first_ns = host_instant(&first_tsc);
    }
    clock->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (clock->fd >= 0) {
        clock->source = g_unix_fd_source_new(clock->fd, G_IO_IN);
        g_source_set_callback(clock->source, G_SOURCE_FUNC(clock_fd_ready), clock, NULL);
        g_source_set_priority(clock->source, G_PRIORITY_HIGH);
        g_source_attach(clock->source, NULL);
    }
    return clock;
}

struct clock *clock_new_fake(void)
{
    struct clock *clock = g_new0(struct clock, 1);

    clock->fake = true;
    clock->fd = -1;
    clock->programmed = UINT64_MAX;
    return clock;
}

void clock_free(struct clock *clock)
{
    if (!clock) {
        return;
    }
    if (clock->source) {
        g_source_destroy(clock->source);
        g_source_unref(clock->source);
    }
    if (clock->fd >= 0) {
        close(clock->fd);
    }
    g_free(clock);
}

void clock_pause(struct clock *clock)
{
    uint64_t now = clock_now(clock), tsc = clock_tsc(clock);

    if (!atomic_load(&clock->running)) {
        return;
    }
    atomic_store(&clock->frozen, now);
    atomic_store(&clock->tsc_frozen, tsc);
    atomic_store_explicit(&clock->running, false, memory_order_release);
}

void clock_resume(struct clock *clock)
{
    if (atomic_load(&clock->running)) {
        return;
    }
    atomic_store(&clock->offset, atomic_load(&clock->frozen) - host_now());
    atomic_store(&clock->tsc_offset, (int64_t)(atomic_load(&clock->tsc_frozen) - __rdtsc()));
    atomic_store_explicit(&clock->running, true, memory_order_release);
    clock->programmed = UINT64_MAX;
    clock_program(clock);
}

void clock_set(struct clock *clock, uint64_t ns, uint64_t tsc)
{
    if (atomic_load(&clock->running) && !clock->fake) {
        return;
    }
    atomic_store(&clock->frozen, ns);
    atomic_store(&clock->tsc_frozen, tsc);
    atomic_store(&clock->tsc_ahead, tsc - muldiv(ns, FALLBACK_TSC_KHZ, 1000000));
}

void clock_advance(struct clock *clock, uint64_t ns)
{
    uint64_t end = atomic_load(&clock->frozen) + ns;
    unsigned stuck = 0;

    while (clock->first && clock->first->deadline <= end) {
        struct timer *timer = clock->first;
        uint64_t at = MAX(timer->deadline, atomic_load(&clock->frozen));
        stuck = at == atomic_load(&clock->frozen) ? stuck + 1 : 0;
        if (stuck > 100000) {
            break;
        }
        atomic_store(&clock->frozen, at);
        timer_disarm(timer);
        timer->fn(timer->opaque);
    }
    atomic_store(&clock->frozen, end);
}

struct timer *timer_new(struct clock *clock, void (*fn)(void *opaque), void *opaque)
{
    struct timer *timer = g_new0(struct timer, 1);

    timer->clock = clock;
    timer->fn = fn;
    timer->opaque = opaque;
    timer->deadline = UINT64_MAX;
    return timer;
}

void timer_free(struct timer *timer)
{
    if (timer) {
        timer_disarm(timer);
        g_free(timer);
    }
}

void timer_arm(struct timer *timer, uint64_t deadline_ns)
{
    struct clock *clock = timer->clock;
    struct timer **link = &clock->first, *prev = NULL;

    timer_disarm(timer);
    timer->deadline = MIN(deadline_ns, UINT64_MAX - 1);
    while (*link && (*link)->deadline <= timer->deadline) {
        prev = *link;
        link = &(*link)->next;
    }
    timer->prev = prev;
    timer->next = *link;
    if (*link) {
        (*link)->prev = timer;
    }
    *link = timer;
    if (clock->first == timer) {
        clock_program(clock);
    }
}

void timer_disarm(struct timer *timer)
{
    if (timer->deadline == UINT64_MAX) {
        return;
    }
    if (timer->prev) {
        timer->prev->next = timer->next;
    } else {
        timer->clock->first = timer->next;
    }
    if (timer->next) {
        timer->next->prev = timer->prev;
    }
    timer->next = timer->prev = NULL;
    timer->deadline = UINT64_MAX;
}

bool timer_is_armed(const struct timer *timer)
{
    return timer->deadline != UINT64_MAX;
}

uint64_t timer_deadline(const struct timer *timer)
{
    return timer->deadline;
}
