/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's one virtual clock, in nanoseconds since power-on, and its timers.
 *
 * The clock stops while the machine is paused and goes on where it stopped; it is saved with the
 * machine. A fake clock (clock_new_fake) moves only when a test says so.
 *
 * Timers fire on the main thread with the machine lock held. clock_now() and clock_tsc() may be
 * called from any thread; the timer functions with the machine lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000ull

struct clock;
struct timer;

struct clock *clock_new(void); /* starts paused, at 0 */
struct clock *clock_new_fake(void);
void clock_free(struct clock *clock);

uint64_t clock_now(struct clock *clock);
void clock_pause(struct clock *clock);
void clock_resume(struct clock *clock);
/* Sets the time and TSC of a paused clock (restoring a machine; the TSC by itself, since each
 * process measures its frequency anew and the guest's deadlines are in its ticks). Armed timers
 * keep their deadlines. */
void clock_set(struct clock *clock, uint64_t ns, uint64_t tsc);

/* The guest's time-stamp counter when its TSC MSR offset is 0: runs at clock_tsc_khz(), 0 at
 * power-on, stops with the clock. On a host with an invariant TSC this is the host's own counter plus
 * clock_tsc_offset(); the offset changes only between clock_pause() and clock_resume(). */
uint64_t clock_tsc(struct clock *clock);
uint64_t clock_tsc_khz(struct clock *clock); /* the first call may wait for up to 20 ms */
unsigned clock_tsc_mhz(struct clock *clock); /* the same, roughly: up to 2 ms */
bool clock_tsc_is_host(struct clock *clock);
int64_t clock_tsc_offset(struct clock *clock);

/* Fake clocks only: moves time on by `ns`, firing every timer on the way in order. */
void clock_advance(struct clock *clock, uint64_t ns);

/* A disarmed timer that will call fn(opaque). Ownership stays with the caller: timer_free(). */
struct timer *timer_new(struct clock *clock, void (*fn)(void *opaque), void *opaque);
void timer_free(struct timer *timer); /* NULL is fine */
/* Arms for an absolute virtual time; one in the past fires at once (from the main loop). */
void timer_arm(struct timer *timer, uint64_t deadline_ns);
void timer_disarm(struct timer *timer);
bool timer_is_armed(const struct timer *timer);
uint64_t timer_deadline(const struct timer *timer); /* UINT64_MAX when disarmed */
