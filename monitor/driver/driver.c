/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver engine: /dev/ringside runs the CPUs, a thread each.
 *
 * Between turns a CPU's registers are in its run page. What ends a turn and is neither port I/O nor
 * in quick.c is carried out by the translator (engine_ops.step), which takes and leaves a whole
 * cpu_state.
 */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../device.h"
#include "../translate/cpuid_model.h"
#include "probe.h"

#define KICK_SIGNAL SIGUSR1
#define REKICK_NS   2000000l
#define SETTLE_TRIES 16u
#define RFLAGS_IF   0x200u
#define RFLAGS_TF   0x100u
#define VECTOR_NMI  2u

static __thread struct ringside_run *my_run;

static void kick_handler(int sig)
{
    if (my_run) {
        my_run->immediate_exit = 1;
    }
}

/* --- calling CPUs --- */

static void rekick_time(struct timespec *when)
{
    clock_gettime(CLOCK_REALTIME, when);
    when->tv_nsec += REKICK_NS;
    if (when->tv_nsec >= 1000000000l) {
        when->tv_nsec -= 1000000000l;
        when->tv_sec++;
    }
}

static void cpu_call(struct driver_cpu *v)
{
    if (v->started && atomic_load(&v->inside)) {
        pthread_kill(v->thread, KICK_SIGNAL);
    }
}

/* A CPU says that it is inside and then looks at its requests: either it sees this one or we see
 * it. */
static void cpu_request(struct driver_cpu *v, unsigned request)
{
    struct driver_engine *d = v->engine;

    if (atomic_fetch_or(&v->requests, request) & request) {
        return; /* not looked at yet */
    }
    if (atomic_load(&v->inside)) {
        cpu_call(v);
    } else {
        pthread_mutex_lock(&d->lock);
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
    }
}

/* Waits, lock held, until no CPU is inside; a signal may come just before the call that it is to
 * end. */
void driver_guest_close(struct driver_engine *d)
{
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->closed, true);
    for (unsigned i = 0; i < d->cpus; i++) {
        while (atomic_load(&d->cpu[i].inside)) {
            struct timespec when;
            cpu_call(&d->cpu[i]);
            rekick_time(&when);
            pthread_cond_timedwait(&d->changed, &d->lock, &when);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

void driver_guest_open(struct driver_engine *d)
{
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->closed, false);
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void gate_enter(struct driver_cpu *v)
{
    struct driver_engine *d = v->engine;

    atomic_store(&v->inside, true);
    while (atomic_load(&d->closed)) {
        pthread_mutex_lock(&d->lock);
        atomic_store(&v->inside, false);
        pthread_cond_broadcast(&d->changed);
        while (atomic_load(&d->closed)) {
            pthread_cond_wait(&d->changed, &d->lock);
        }
        atomic_store(&v->inside, true);
        pthread_mutex_unlock(&d->lock);
    }
}

static void gate_leave(struct driver_cpu *v)
{
    struct driver_engine *d = v->engine;

    atomic_store(&v->inside, false);
    if (atomic_load(&d->closed)) {
        pthread_mutex_lock(&d->lock);
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
    }
}

/* --- exits --- */

static void cpu_shut_down(struct driver_cpu *v)
{
    const struct ringside_state *s = &v->run->state;

    device_log("driver",
               "CPU %u shut down at RIP %" G_GINT64_MODIFIER "x, CR2 %" G_GINT64_MODIFIER
               "x, CR3 %" G_GINT64_MODIFIER "x, event %" G_GINT64_MODIFIER "x",
               v->index, (uint64_t)s->rip, (uint64_t)s->cr2, (uint64_t)s->cr3,
               (uint64_t)v->run->event);
    v->rest->activity = CPU_SHUTDOWN;
    v->engine->bus->shutdown(v->engine->bus->opaque, v->index);
}

static void cpu_lost(struct driver_cpu *v, const char *what)
{
    device_log("driver",
               "CPU %u cannot go on at RIP %" G_GINT64_MODIFIER
               "x: %s (exit %u, code %" G_GINT64_MODIFIER
               "x). The guest may run with engine=translate.",
               v->index, (uint64_t)v->run->state.rip, what, v->run->exit, (uint64_t)v->run->detail);
    cpu_shut_down(v);
}

static void cpu_step(struct driver_cpu *v)
{
    struct driver_engine *d = v->engine;

    driver_state_store(v);
    v->steps++;
    if (!d->stepper_ops->step(d->stepper, v->index, v->rest)) {
        cpu_lost(v, "it uses what the translator does not know");
        return;
    }
    driver_state_load(v);
}

/* At CPUID, in any mode and behind any prefixes: the translator's answer is its own model's. */
static void cpuid_step(struct driver_cpu *v)
{
    struct ringside_state *s = &v->run->state;
    uint32_t leaf = (uint32_t)s->gpr[CPU_RAX], sub = (uint32_t)s->gpr[CPU_RCX], out[4];
    uint64_t rip = s->rip;

    cpu_step(v);
    if (s->rip - rip - 2 < 14) { /* not at an exception's handler */
        driver_cpuid(v, leaf, sub, out);
        s->gpr[CPU_RAX] = out[0];
        s->gpr[CPU_RBX] = out[1];
        s->gpr[CPU_RCX] = out[2];
        s->gpr[CPU_RDX] = out[3];
    }
}

static void exit_instruction(struct driver_cpu *v)
{
    if (driver_quick(v)) {
        return;
    }
    if (v->run->exit == RINGSIDE_EXIT_INSTRUCTION && v->run->detail == RINGSIDE_DETAIL_CPUID) {
        cpuid_step(v);
    } else {
        cpu_step(v);
    }
}

static void exit_io(struct driver_cpu *v)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct ringside_run *run = v->run;
    struct ringside_state *s = &run->state;
    unsigned size = run->io.size;
    uint64_t mask = size == 4 ? 0xffffffff : (1ull << 8 * size) - 1, value;

    if (run->io.string || (s->rflags & RFLAGS_TF) || (s->dr7 & 0xff)) {
        cpu_step(v);
        return;
    }
    if (run->io.in) {
        value = bus->port_read(bus->opaque, run->io.port, size) & mask;
        s->gpr[CPU_RAX] = size == 4 ? value : (s->gpr[CPU_RAX] & ~mask) | value;
    } else {
        bus->port_write(bus->opaque, run->io.port, s->gpr[CPU_RAX] & mask, size);
    }
    s->rip = run->next_rip;
    s->interrupt_shadow = 0;
}

static void exit_memory(struct driver_cpu *v)
{
    if (v->run->event & RINGSIDE_EVENT_VALID) {
        cpu_lost(v, "an interrupt's stack or table is not in memory");
    } else {
        exit_instruction(v);
    }
}

static void handle_exit(struct driver_cpu *v)
{
    switch (v->run->exit) {
    case RINGSIDE_EXIT_NONE:
    case RINGSIDE_EXIT_WINDOW:
        break;
    case RINGSIDE_EXIT_IO:
        exit_io(v);
        break;
    case RINGSIDE_EXIT_MEMORY:
        exit_memory(v);
        break;
    case RINGSIDE_EXIT_HLT:
    case RINGSIDE_EXIT_INSTRUCTION:
        exit_instruction(v);
        break;
    case RINGSIDE_EXIT_SHUTDOWN:
        cpu_shut_down(v);
        break;
    case RINGSIDE_EXIT_REFUSED:
        cpu_lost(v, "the processor refuses its state");
        break;
    default:
        cpu_lost(v, "an exit that is not known");
        break;
    }
}

static void cpu_refused(struct driver_cpu *v, int error_errno)
{
    const struct cpu_bus *bus = v->engine->bus;
    g_autofree char *sentence = NULL;

    v->stuck = true;
    if (error_errno == EBUSY) {
        sentence = g_strdup("The machine is paused because another hypervisor has taken the "
                            "processor's VT-x or AMD-V. End that, then "
                            "resume the machine; nothing is lost.");
    } else if (error_errno == EFAULT || error_errno == ENOMEM) {
        sentence = g_strdup("The machine is paused because the host cannot give the guest a page "
                            "of its memory. Close "
                            "other programs, then resume the machine; nothing is lost.");
    } else {
        sentence = g_strdup_printf("The machine is paused because the driver refuses to run its "
                                   "processor %u: %s. Resume it "
                                   "to try again, or suspend it and go on with engine=translate.",
                                   v->index, g_strerror(error_errno));
    }
    bus->stuck(bus->opaque, sentence);
}

/* --- the run loop --- */

static void cpu_turn(struct driver_cpu *v)
{
    int result = ioctl(v->fd, RINGSIDE_RUN, 0), error_errno = errno;

    gate_leave(v);
    v->turns++;
    if (result == 0) {
        handle_exit(v);
    } else if (error_errno != EINTR) {
        cpu_refused(v, error_errno);
    }
}

static void cpu_enter(struct driver_cpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    gate_enter(v);
    if (atomic_load(&v->requests)) {
        gate_leave(v);
        return;
    }
    cpu_turn(v);
}

/* An interrupt that has been acknowledged gets into the guest before the CPU counts as paused,
 * since cpu_state cannot tell of it. The driver delivers first and then looks at immediate_exit. */
static void cpu_settle(struct driver_cpu *v)
{
    for (unsigned i = 0; i < SETTLE_TRIES && (v->run->event & RINGSIDE_EVENT_VALID); i++) {
        if (v->rest->activity != CPU_RUNNING || v->stuck) {
            break;
        }
        gate_enter(v);
        v->run->immediate_exit = 1;
        cpu_turn(v);
    }
}

static void cpu_init_event(struct driver_cpu *v)
{
    driver_state_store(v);
    cpu_state_reset(v->rest, v->index == 0, true);
    driver_state_load(v);
}

static void cpu_sipi_event(struct driver_cpu *v)
{
    struct ringside_segment *cs = &v->run->state.seg[RINGSIDE_CS];
    uint8_t vector = atomic_load(&v->sipi_vector);

    if (v->rest->activity != CPU_WAIT_SIPI) {
        return;
    }
    cs->selector = (uint16_t)(vector << 8);
    cs->base = (uint64_t)vector << 12;
    v->run->state.rip = 0;
    v->rest->activity = CPU_RUNNING;
}

static void handle_requests(struct driver_cpu *v)
{
    unsigned r = atomic_fetch_and(&v->requests, DRIVER_PAUSE | DRIVER_EXIT);

    if (r & DRIVER_INIT) {
        cpu_init_event(v);
    }
    if (r & DRIVER_SIPI) {
        cpu_sipi_event(v);
    }
    if (r & DRIVER_NMI) {
        v->rest->nmi_pending = true;
    }
}

static bool take_nmi(struct driver_cpu *v)
{
    struct ringside_state *s = &v->run->state;

    if (!v->rest->nmi_pending || s->nmi_blocked || s->interrupt_shadow) {
        return false;
    }
    v->rest->nmi_pending = false;
    v->rest->activity = CPU_RUNNING;
    s->nmi_blocked = 1;
    v->run->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_NMI | VECTOR_NMI;
    return true;
}

/* Takes what may be taken now, and asks for an exit when it may be later. */
static void take_events(struct driver_cpu *v)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct ringside_state *s = &v->run->state;
    int vector;

    v->run->flags = clock_tsc_is_host(v->engine->clock) ? 0 : RINGSIDE_RUN_EXIT_RDTSC;
    if ((v->run->event & RINGSIDE_EVENT_VALID) || take_nmi(v)) {
        v->run->flags |= bus->interrupt_pending(bus->opaque, v->index) ? RINGSIDE_RUN_WINDOW : 0;
        return;
    }
    if (!bus->interrupt_pending(bus->opaque, v->index)) {
        return;
    }
    if (!(s->rflags & RFLAGS_IF) || s->interrupt_shadow) {
        v->run->flags |= RINGSIDE_RUN_WINDOW;
        return;
    }
    vector = bus->interrupt_ack(bus->opaque, v->index);
    if (vector >= 0) {
        v->rest->activity = CPU_RUNNING;
        v->run->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_INTERRUPT | (unsigned)vector;
    }
}

static void cpu_wait(struct driver_cpu *v)
{
    struct driver_engine *d = v->engine;

    pthread_mutex_lock(&d->lock);
    while (!atomic_load(&v->requests)) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    pthread_mutex_unlock(&d->lock);
}

static void cpu_park(struct driver_cpu *v)
{
    struct driver_engine *d = v->engine;

    pthread_mutex_lock(&d->lock);
    v->parked = true;
    pthread_cond_broadcast(&d->changed);
    while ((atomic_load(&v->requests) & (DRIVER_PAUSE | DRIVER_EXIT)) == DRIVER_PAUSE) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    v->parked = false;
    pthread_mutex_unlock(&d->lock);
}

static void cpu_run_once(struct driver_cpu *v)
{
    handle_requests(v);
    if (v->rest->activity <= CPU_HALTED) {
        take_events(v);
    }
    if (v->rest->activity == CPU_RUNNING && !v->stuck) {
        v->run->state.tsc_offset =
            (uint64_t)clock_tsc_offset(v->engine->clock) + v->rest->tsc_adjust;
        cpu_enter(v);
    } else {
        cpu_wait(v);
    }
}

static void *cpu_main(void *opaque)
{
    struct driver_cpu *v = opaque;

    my_run = v->run;
    while (!(atomic_load(&v->requests) & DRIVER_EXIT)) {
        if (atomic_load(&v->requests) & DRIVER_PAUSE) {
            cpu_settle(v);
            cpu_park(v);
        } else {
            cpu_run_once(v);
        }
    }
    return NULL;
}

/* --- engine ops --- */

static void cpu_destroy(struct driver_cpu *v)
{
    if (v->started) {
        cpu_request(v, DRIVER_EXIT);
        pthread_join(v->thread, NULL);
    }
    if (v->run) {
        munmap(v->run, v->engine->run_size);
    }
    if (v->fd >= 0) {
        close(v->fd);
    }
    g_aligned_free(v->rest);
}

static void engine_destroy(struct engine *engine)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    for (unsigned i = 0; i < d->cpus; i++) {
        if (d->profile) {
            device_log("profile",
                       "cpu %u: %12" G_GUINT64_FORMAT " turns, %12" G_GUINT64_FORMAT
                       " steps by the translator",
                       i, d->cpu[i].turns, d->cpu[i].steps);
        }
        cpu_destroy(&d->cpu[i]);
    }
    if (d->machine >= 0) {
        close(d->machine);
    }
    if (d->device >= 0) {
        close(d->device);
    }
    if (d->stepper) {
        d->stepper_ops->destroy(d->stepper);
    }
    slots_clear(&d->slots);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    g_free(d);
}

static bool failed(GError **error, const char *what)
{
    g_set_error(
        error, DRIVER_ENGINE_ERROR, 1,
        "Ringside's driver cannot make the machine (%s: %s). Try again, or use engine=translate.",
        what, g_strerror(errno));
    return false;
}

static bool machine_create(struct driver_engine *d, GError **error)
{
    struct ringside_info info;

    d->device = open(DRIVER_DEVICE, O_RDWR | O_CLOEXEC);
    if (d->device < 0 || ioctl(d->device, RINGSIDE_INFO, &info) < 0) {
        return failed(error, DRIVER_DEVICE);
    }
    d->run_size = info.run_size;
    d->machine = ioctl(d->device, RINGSIDE_CREATE_MACHINE, 0);
    return d->machine >= 0 || failed(error, "RINGSIDE_CREATE_MACHINE");
}

static bool cpu_create(struct driver_engine *d, unsigned i, GError **error)
{
    struct driver_cpu *v = &d->cpu[i];

    v->rest = g_aligned_alloc0(1, sizeof *v->rest, 64);
    v->fd = ioctl(d->machine, RINGSIDE_CREATE_CPU, 0);
    if (v->fd < 0) {
        return failed(error, "RINGSIDE_CREATE_CPU");
    }
    v->run = mmap(NULL, d->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        v->run = NULL;
        return failed(error, "a CPU's memory");
    }
    cpu_state_reset(v->rest, i == 0, false);
    driver_state_load(v);
    return true;
}

static bool stepper_create(struct driver_engine *d, const struct engine_config *config,
                           GError **error)
{
    struct engine_config step = *config;

    if (!config->stepper) {
        g_set_error_literal(error, DRIVER_ENGINE_ERROR, 1,
                            "This build has no translator, which the driver needs.");
        return false;
    }
    step.options = "step";
    d->stepper_ops = config->stepper;
    d->stepper = config->stepper->create(&step, error);
    return d->stepper != NULL;
}

static struct engine *engine_create(const struct engine_config *config, GError **error)
{
    struct driver_engine *d = g_new0(struct driver_engine, 1);
    struct sigaction action = {.sa_handler = kick_handler, .sa_flags = SA_RESTART};
    bool ok;

    *d = (struct driver_engine){.ops = &driver_engine,
                                .device = -1,
                                .machine = -1,
                                .cpus = CLAMP(config->cpus, 1, DRIVER_MAX_CPUS),
                                .memory = config->memory,
                                .clock = config->clock,
                                .bus = config->bus,
                                .profile = config->options && strstr(config->options, "profile")};
    for (unsigned i = 0; i < d->cpus; i++) {
        d->cpu[i] =
            (struct driver_cpu){.engine = d, .index = i, .fd = -1, .requests = DRIVER_PAUSE};
    }
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    slots_init(&d->slots, &driver_slots_ops, d, "driver", d->memory, RINGSIDE_MAX_REGIONS);
    ok = machine_create(d, error) && stepper_create(d, config, error);
    for (unsigned i = 0; ok && i < d->cpus; i++) {
        ok = cpu_create(d, i, error);
    }
    if (!ok) {
        engine_destroy((struct engine *)d);
        return NULL;
    }
    sigaction(KICK_SIGNAL, &action, NULL);
    memory_large_pages(d->memory);
    slots_update(&d->slots);
    return (struct engine *)d;
}

static bool cpu_thread_start(struct driver_cpu *v)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 20);
    v->started = pthread_create(&v->thread, &attr, cpu_main, v) == 0;
    pthread_attr_destroy(&attr);
    return v->started;
}

static void engine_run(struct engine *engine)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->cpus; i++) {
        struct driver_cpu *v = &d->cpu[i];
        v->stuck = false;
        atomic_fetch_or(&v->requests, DRIVER_KICK); /* look at everything anew */
        atomic_fetch_and(&v->requests, ~(unsigned)DRIVER_PAUSE);
        if (!v->started && !cpu_thread_start(v)) {
            device_log("driver", "there is no thread for CPU %u: %s", i, g_strerror(errno));
        }
    }
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void engine_pause(struct engine *engine)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->cpus; i++) {
        atomic_fetch_or(&d->cpu[i].requests, DRIVER_PAUSE);
    }
    pthread_cond_broadcast(&d->changed);
    for (unsigned i = 0; i < d->cpus; i++) {
        struct driver_cpu *v = &d->cpu[i];
        while (v->started && !v->parked) {
            struct timespec when;
            cpu_call(v);
            rekick_time(&when);
            pthread_cond_timedwait(&d->changed, &d->lock, &when);
        }
    }
    pthread_mutex_unlock(&d->lock);
}

static void engine_kick(struct engine *engine, unsigned cpu)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    if (cpu < d->cpus) {
        cpu_request(&d->cpu[cpu], DRIVER_KICK);
    }
}

static void engine_event(struct engine *engine, unsigned cpu, enum cpu_event event, uint8_t vector)
{
    struct driver_engine *d = (struct driver_engine *)engine;

    if (cpu >= d->cpus) {
        return;
    }
    if (event == CPU_EVENT_SIPI) {
        atomic_store(&d->cpu[cpu].sipi_vector, vector);
    }
    cpu_request(&d->cpu[cpu], event == CPU_EVENT_INIT   ? DRIVER_INIT
                              : event == CPU_EVENT_SIPI ? DRIVER_SIPI
                                                        : DRIVER_NMI);
}

/* Coherent with memory, as CPUs are. */
static void nothing_to_do(struct engine *engine, uint64_t pool_offset, uint64_t len)
{
}

static const char *engine_cpu_model(struct engine *engine)
{
    return cpuid_model();
}

const struct engine_ops driver_engine = {
    .name = "driver",
    .by_name = true,
    .probe = driver_probe,
    .create = engine_create,
    .destroy = engine_destroy,
    .run = engine_run,
    .pause = engine_pause,
    .get_state = driver_get_state,
    .set_state = driver_set_state,
    .kick = engine_kick,
    .event = engine_event,
    .memory_changed = driver_memory_changed,
    .code_written = nothing_to_do,
    .dirty_rearm = nothing_to_do,
    .dirty_sync = driver_dirty_sync,
    .cpu_model = engine_cpu_model,
};
