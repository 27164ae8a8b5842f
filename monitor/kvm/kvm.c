/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kvm engine: the kernel runs the CPUs, a thread each; their exits for devices come here.
 *
 * A thread is called out of KVM_RUN by a signal, whose handler sets immediate_exit, so that a
 * signal that comes just before KVM_RUN is not lost.
 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../device.h"
#include "probe.h"

#define KICK_SIGNAL  SIGUSR1
#define MSI_NMI      0x400u
#define REKICK_NS    20000000l
#define GATE_REKICK_NS 1000000l
#define EXIT_NOT_TRIED 0xffffffffu
#define SETTLE_TRIES 200u
/* Three pages for real mode on old VT-x, below the firmware and where nothing else is. */
#define TSS_ADDRESS      0xfffbd000ul
#define IDENTITY_ADDRESS 0xfffbc000ull

static __thread struct kvm_run *my_run;

static void kick_handler(int sig)
{
    if (my_run) {
        my_run->immediate_exit = 1;
    }
}

static void cpu_call(struct kvm_cpu *v)
{
    if (v->started) {
        pthread_kill(v->thread, KICK_SIGNAL);
    }
}

/* --- exits --- */

static void exit_io(struct kvm_cpu *v)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        uint64_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            bus->port_write(bus->opaque, run->io.port, value, run->io.size);
        } else {
            value = bus->port_read(bus->opaque, run->io.port, run->io.size);
            memcpy(data, &value, run->io.size);
        }
    }
    v->io = true;
}

static void exit_mmio(struct kvm_cpu *v)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct kvm_run *run = v->run;

    for (unsigned at = 0, size; at < run->mmio.len && at < 8; at += size) {
        uint64_t gpa = run->mmio.phys_addr + at, value = 0;
        size = 8;
        while (size > run->mmio.len - at) {
            size /= 2;
        }
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + at, size);
            bus->mmio_write(bus->opaque, v->index, gpa, value, size);
        } else {
            value = bus->mmio_read(bus->opaque, v->index, gpa, size);
            memcpy(run->mmio.data + at, &value, size);
        }
    }
    v->io = true;
}

static void cpu_shut_down(struct kvm_cpu *v)
{
    v->shutdown = true;
    v->engine->bus->shutdown(v->engine->bus->opaque, v->index);
}

static void exit_unknown(struct kvm_cpu *v)
{
    struct kvm_regs regs = {0};
    uint64_t code = v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR
                        ? v->run->internal.suberror
                        : v->run->hw.hardware_exit_reason;

    ioctl(v->fd, KVM_GET_REGS, &regs);
    device_log("kvm",
               "CPU %u cannot go on at RIP %" G_GINT64_MODIFIER
               "x: exit %u, code %" G_GINT64_MODIFIER "x. The guest may run with engine=translate.",
               v->index, (uint64_t)regs.rip, v->run->exit_reason, code);
    cpu_shut_down(v);
}

static void handle_exit(struct kvm_cpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        exit_io(v);
        break;
    case KVM_EXIT_MMIO:
        exit_mmio(v);
        break;
    case KVM_EXIT_IOAPIC_EOI:
        v->engine->bus->apic_eoi(v->engine->bus->opaque, v->run->eoi.vector);
        break;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
    case KVM_EXIT_HLT:
        break;
    case KVM_EXIT_SHUTDOWN:
        cpu_shut_down(v);
        break;
    default:
        exit_unknown(v);
        break;
    }
}

/* --- the run loop --- */

static void rekick_time(struct timespec *when, long ns)
{
    clock_gettime(CLOCK_REALTIME, when);
    when->tv_nsec += ns;
    if (when->tv_nsec >= 1000000000l) {
        when->tv_nsec -= 1000000000l;
        when->tv_sec++;
    }
}

/* A CPU says that it is inside and then looks whether it may; who closes does it the other way
 * round. */
static void gate_enter(struct kvm_cpu *v)
{
    struct kvm_engine *k = v->engine;

    atomic_store(&v->inside, true);
    while (atomic_load(&k->closed)) {
        pthread_mutex_lock(&k->lock);
        atomic_store(&v->inside, false);
        pthread_cond_broadcast(&k->changed);
        while (atomic_load(&k->closed)) {
            pthread_cond_wait(&k->changed, &k->lock);
        }
        atomic_store(&v->inside, true);
        pthread_mutex_unlock(&k->lock);
    }
}

static void gate_leave(struct kvm_cpu *v)
{
    struct kvm_engine *k = v->engine;

    atomic_store(&v->inside, false);
    if (atomic_load(&k->closed)) {
        pthread_mutex_lock(&k->lock);
        pthread_cond_broadcast(&k->changed);
        pthread_mutex_unlock(&k->lock);
    }
}

/* Under the machine lock, so one at a time. A signal may come just before KVM_RUN sees
 * immediate_exit cleared, therefore again and again. */
void kvm_guest_close(struct kvm_engine *k)
{
    pthread_mutex_lock(&k->lock);
    atomic_store(&k->closed, true);
    for (unsigned i = 0; i < k->cpus; i++) {
        while (atomic_load(&k->cpu[i].inside)) {
            struct timespec when;
            cpu_call(&k->cpu[i]);
            rekick_time(&when, GATE_REKICK_NS);
            pthread_cond_timedwait(&k->changed, &k->lock, &when);
        }
    }
    pthread_mutex_unlock(&k->lock);
}

void kvm_guest_open(struct kvm_engine *k)
{
    pthread_mutex_lock(&k->lock);
    atomic_store(&k->closed, false);
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

static void cpu_refused(struct kvm_cpu *v, int error_errno)
{
    const struct cpu_bus *bus = v->engine->bus;

    v->stuck = true;
    if (error_errno == EFAULT || error_errno == ENOMEM) {
        bus->stuck(bus->opaque,
                   "The machine is paused because the host cannot give the guest a page of "
                   "its memory. Close other programs, then resume the machine; nothing is lost.");
    } else {
        g_autofree char *sentence =
            g_strdup_printf("The machine is paused because the kernel's KVM refuses to run its "
                            "processor %u: %s. Resume it to try "
                            "again, or suspend it and go on with engine=translate.",
                            v->index, g_strerror(error_errno));
        bus->stuck(bus->opaque, sentence);
    }
}

/* KVM_RUN tells by exit_reason whether it went as far as trying to enter the guest. */
static void cpu_enter(struct kvm_cpu *v)
{
    int result, error_errno;
    bool tried;

    gate_enter(v);
    v->io = false;
    v->run->exit_reason = EXIT_NOT_TRIED;
    result = ioctl(v->fd, KVM_RUN, 0);
    error_errno = errno;
    gate_leave(v);
    tried = v->run->exit_reason != EXIT_NOT_TRIED;
    if (v->run->ready_for_interrupt_injection) {
        v->settle = 0;
    } else if (v->settle && tried) {
        v->settle--;
    }
    if (result == 0) {
        handle_exit(v);
    } else if (error_errno != EINTR && error_errno != EAGAIN) {
        cpu_refused(v, error_errno);
    }
}

/* The 8259's interrupt, when the CPU takes it. KVM has it in the state that we can read only after
 * it has tried to enter the guest (twice, if the CPU was halted). Each KVM_RUN leaves behind
 * whether the CPU could take one; while it could not, a halted CPU may sleep on. */
static void cpu_extint(struct kvm_cpu *v)
{
    struct kvm_engine *k = v->engine;
    struct kvm_interrupt interrupt;

    v->run->request_interrupt_window = 0;
    if (!atomic_load(&k->extint)) {
        return;
    }
    if (v->run->ready_for_interrupt_injection && v->run->if_flag) {
        int vector = k->bus->extint_ack(k->bus->opaque);
        interrupt.irq = (uint32_t)vector;
        if (vector >= 0 && ioctl(v->fd, KVM_INTERRUPT, &interrupt) == 0) {
            v->settle = 2;
        }
        v->run->ready_for_interrupt_injection = 0;
    }
    v->run->request_interrupt_window = atomic_load(&k->extint);
}

static void cpu_run_once(struct kvm_cpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    cpu_extint(v);
    if (!v->settle && atomic_load(&v->requests)) {
        v->run->immediate_exit = 1;
    }
    cpu_enter(v);
}

/* Finishes what the last exit began and what is being delivered, so that the state is all there is.
 */
static void cpu_settle(struct kvm_cpu *v)
{
    for (unsigned i = 0; i < SETTLE_TRIES && !v->shutdown && !v->stuck; i++) {
        if (v->io) {
            v->run->immediate_exit = 1;
            cpu_enter(v);
        } else if (kvm_events_settled(v)) {
            return;
        } else { /* comes back by the next call of whoever waits for us */
            __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            cpu_enter(v);
        }
    }
    if (!v->shutdown && !v->stuck) {
        device_log("kvm", "CPU %u stopped while an interrupt was being delivered", v->index);
    }
}

static void cpu_wait(struct kvm_cpu *v, bool parked)
{
    struct kvm_engine *k = v->engine;

    pthread_mutex_lock(&k->lock);
    v->parked = parked;
    pthread_cond_broadcast(&k->changed);
    while (parked ? atomic_load(&v->requests) == KVM_REQUEST_PAUSE : !atomic_load(&v->requests)) {
        pthread_cond_wait(&k->changed, &k->lock);
    }
    v->parked = false;
    pthread_mutex_unlock(&k->lock);
}

/* Whether the CPU can take the 8259's interrupt is not known of a state that was just set: a halted
 * one would sleep over an interrupt that waits already. */
static void cpu_look(struct kvm_cpu *v)
{
    v->run->immediate_exit = 1;
    cpu_enter(v);
}

static void *cpu_main(void *opaque)
{
    struct kvm_cpu *v = opaque;

    my_run = v->run;
    cpu_look(v);
    while (!(atomic_load(&v->requests) & KVM_REQUEST_EXIT)) {
        if (atomic_load(&v->requests) & KVM_REQUEST_PAUSE) {
            cpu_settle(v);
            cpu_wait(v, true);
            cpu_look(v);
        } else if (v->shutdown || v->stuck) {
            cpu_wait(v, false);
        } else {
            cpu_run_once(v);
        }
    }
    return NULL;
}

/* --- engine ops --- */

static void cpu_destroy(struct kvm_cpu *v, size_t run_size)
{
    if (v->started) {
        pthread_mutex_lock(&v->engine->lock);
        atomic_fetch_or(&v->requests, KVM_REQUEST_EXIT);
        pthread_cond_broadcast(&v->engine->changed);
        pthread_mutex_unlock(&v->engine->lock);
        cpu_call(v);
        pthread_join(v->thread, NULL);
    }
    if (v->run) {
        munmap(v->run, run_size);
    }
    if (v->fd >= 0) {
        close(v->fd);
    }
}

static size_t run_size(const struct kvm_engine *k)
{
    return (size_t)MAX(ioctl(k->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), (int)sizeof(struct kvm_run));
}

static void engine_destroy(struct engine *engine)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    for (unsigned i = 0; i < k->cpus; i++) {
        cpu_destroy(&k->cpu[i], run_size(k));
    }
    if (k->vm >= 0) {
        close(k->vm);
    }
    if (k->kvm >= 0) {
        close(k->kvm);
    }
    pthread_mutex_destroy(&k->lock);
    pthread_mutex_destroy(&k->apic_lock);
    pthread_cond_destroy(&k->changed);
    slots_clear(&k->slots);
    g_free(k->routing);
    g_free(k->cpuid);
    g_free(k);
}

static bool failed(GError **error, const char *what)
{
    g_set_error(
        error, KVM_ENGINE_ERROR, 1,
        "The kernel's KVM cannot make the machine (%s: %s). Try again, or use engine=translate.",
        what, g_strerror(errno));
    return false;
}

static bool vm_create(struct kvm_engine *k, GError **error)
{
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = KVM_PINS};
    uint64_t identity = IDENTITY_ADDRESS;

    k->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (k->kvm < 0) {
        return failed(error, "opening /dev/kvm");
    }
    k->vm = ioctl(k->kvm, KVM_CREATE_VM, 0);
    if (k->vm < 0) {
        return failed(error, "KVM_CREATE_VM");
    }
    ioctl(k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity); /* VT-x only */
    ioctl(k->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS);
    if (ioctl(k->vm, KVM_ENABLE_CAP, &split) < 0) {
        return failed(error, "the interrupt controllers");
    }
    slots_init(&k->slots, &kvm_slots_ops, k, "kvm", k->memory,
               (unsigned)CLAMP(ioctl(k->kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), 32, 512));
    k->routing = g_malloc0(sizeof *k->routing + KVM_PINS * sizeof k->routing->entries[0]);
    return true;
}

static bool cpu_create(struct kvm_engine *k, unsigned i, GError **error)
{
    struct kvm_cpu *v = &k->cpu[i];

    *v = (struct kvm_cpu){.engine = k, .index = i, .requests = KVM_REQUEST_PAUSE};
    v->fd = ioctl(k->vm, KVM_CREATE_VCPU, i);
    if (v->fd < 0) {
        return failed(error, "KVM_CREATE_VCPU");
    }
    v->run = mmap(NULL, run_size(k), PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED) {
        v->run = NULL;
        return failed(error, "a CPU's memory");
    }
    return kvm_set_cpuid(v, error);
}

static struct engine *engine_create(const struct engine_config *config, GError **error)
{
    struct kvm_engine *k = g_new0(struct kvm_engine, 1);
    struct sigaction action = {.sa_handler = kick_handler};
    bool ok;

    *k = (struct kvm_engine){.ops = &kvm_engine,
                             .cpus = CLAMP(config->cpus, 1, KVM_MAX_CPUS),
                             .kvm = -1,
                             .vm = -1,
                             .memory = config->memory,
                             .clock = config->clock,
                             .bus = config->bus};
    for (unsigned i = 0; i < k->cpus; i++) {
        k->cpu[i].fd = -1;
    }
    pthread_mutex_init(&k->lock, NULL);
    pthread_mutex_init(&k->apic_lock, NULL);
    pthread_cond_init(&k->changed, NULL);
    sigaction(KICK_SIGNAL, &action, NULL);
    ok = vm_create(k, error);
    for (unsigned i = 0; ok && i < k->cpus; i++) {
        ok = cpu_create(k, i, error);
    }
    if (!ok) {
        engine_destroy((struct engine *)k);
        return NULL;
    }
    memory_large_pages(k->memory);
    kvm_memory_changed((struct engine *)k);
    return (struct engine *)k;
}

static bool cpu_thread_start(struct kvm_cpu *v)
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
    struct kvm_engine *k = (struct kvm_engine *)engine;

    for (unsigned i = 0; i < k->cpus; i++) {
        kvm_time_go(&k->cpu[i]);
    }
    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < k->cpus; i++) {
        struct kvm_cpu *v = &k->cpu[i];
        v->stuck = false;
        atomic_fetch_and(&v->requests, ~(unsigned)KVM_REQUEST_PAUSE);
        if (!v->started && !cpu_thread_start(v)) {
            device_log("kvm", "there is no thread for CPU %u: %s", i, g_strerror(errno));
        }
    }
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

static void engine_pause(struct engine *engine)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < k->cpus; i++) {
        atomic_fetch_or(&k->cpu[i].requests, KVM_REQUEST_PAUSE);
    }
    pthread_cond_broadcast(&k->changed);
    for (unsigned i = 0; i < k->cpus; i++) {
        struct kvm_cpu *v = &k->cpu[i];
        while (v->started && !v->parked) {
            struct timespec when;
            cpu_call(v);
            rekick_time(&when, REKICK_NS);
            pthread_cond_timedwait(&k->changed, &k->lock, &when);
        }
    }
    pthread_mutex_unlock(&k->lock);
    for (unsigned i = 0; i < k->cpus; i++) {
        kvm_time_stop(&k->cpu[i]);
    }
}

static void engine_kick(struct engine *engine, unsigned cpu)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    if (cpu < k->cpus) {
        cpu_call(&k->cpu[cpu]);
    }
}

/* INIT and SIPI go from APIC to APIC in the kernel. */
static void engine_event(struct engine *engine, unsigned cpu, enum cpu_event event, uint8_t vector)
{
    struct kvm_engine *k = (struct kvm_engine *)engine;

    if (event == CPU_EVENT_NMI && cpu < k->cpus) { /* KVM_NMI would wait for the CPU's exit */
        k->ops->apic->message(engine, 0xfee00000u | cpu << 12, MSI_NMI);
    }
}

/* Coherent with memory, as CPUs are. */
static void nothing_to_do(struct engine *engine, uint64_t pool_offset, uint64_t len)
{
}

static const char *engine_cpu_model(struct engine *engine)
{
    return "Ringside Virtual CPU";
}

const struct engine_ops kvm_engine = {
    .name = "kvm",
    .probe = kvm_probe,
    .create = engine_create,
    .destroy = engine_destroy,
    .run = engine_run,
    .pause = engine_pause,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .kick = engine_kick,
    .event = engine_event,
    .memory_changed = kvm_memory_changed,
    .code_written = nothing_to_do,
    .dirty_rearm = nothing_to_do,
    .dirty_sync = kvm_dirty_sync,
    .apic = &kvm_apic_ops,
    .cpu_model = engine_cpu_model,
};
