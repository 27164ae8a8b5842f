/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life cycle of a machine (see machine.h). What runs in CPU threads only sets request bits; the
 * main loop carries them out, because pausing the engine from one of its own threads would wait for
 * itself.
 */
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#include "ahci.h"
#include "block/block.h"
#include "engines.h"
#include "host_memory.h"
#include "lock.h"
#include "machine_internal.h"
#include "net/net.h"
#include "sound/audio.h"

#define POOL_EXTRA (128ull << 20) /* video RAM, ROMs */

static void machine_set_state(struct machine *m, enum machine_state state)
{
    if (m->state != state) {
        m->state = state;
        if (m->listener.state_changed) {
            m->listener.state_changed(m->listener.opaque, state);
        }
    }
}

static void machine_exit(struct machine *m, enum machine_exit why, unsigned code)
{
    if (m->listener.guest_exit) {
        m->listener.guest_exit(m->listener.opaque, why, code);
    }
}

enum machine_state machine_state(const struct machine *m)
{
    return m->state;
}

void machine_set_listener(struct machine *m, const struct machine_listener *listener)
{
    m->listener = *listener;
}

/* Stops CPUs and clock; the machine lock must be free, or a CPU could wait for it for ever. */
static void machine_halt(struct machine *m)
{
    if (m->state == MACHINE_RUNNING) {
        m->engine_ops->pause(m->engine);
        machine_lock();
        clock_pause(m->clock);
        if (m->net) {
            net_pause(m->net, true);
        }
        machine_unlock();
    }
}

static void machine_go(struct machine *m)
{
    machine_lock();
    clock_resume(m->clock);
    if (m->net) {
        net_pause(m->net, false);
    }
    machine_unlock();
    machine_set_state(m, MACHINE_RUNNING);
    m->engine_ops->run(m->engine);
}

static gboolean machine_serve(gpointer opaque);

void machine_request(struct machine *m, enum machine_request request)
{
    m->requests |= request;
    if (!m->request_source) {
        m->request_source = g_idle_source_new();
        g_source_set_priority(m->request_source, G_PRIORITY_HIGH);
        g_source_set_callback(m->request_source, machine_serve, m, NULL);
        g_source_attach(m->request_source, NULL);
    }
}

static void machine_cancel_requests(struct machine *m)
{
    machine_lock();
    m->requests = 0;
    if (m->request_source) {
        g_source_destroy(m->request_source);
        g_clear_pointer(&m->request_source, g_source_unref);
    }
    machine_unlock();
}

static void machine_stop(struct machine *m, enum machine_state state, enum machine_exit why,
                         unsigned code)
{
    machine_halt(m);
    machine_set_state(m, state);
    machine_exit(m, why, code);
}

static void machine_serve_reset(struct machine *m)
{
    if (m->config.no_reboot) {
        machine_stop(m, MACHINE_OFF, MACHINE_EXIT_RESET, 0);
    } else {
        machine_reset(m);
    }
}

static gboolean machine_serve(gpointer opaque)
{
    struct machine *m = opaque;
    unsigned requests;

    machine_lock();
    requests = m->requests;
    m->requests = 0;
    g_clear_pointer(&m->request_source, g_source_unref);
    machine_unlock();
    if (m->state != MACHINE_RUNNING) {
        return G_SOURCE_REMOVE;
    }
    if (requests & REQUEST_DEBUG_EXIT) {
        machine_stop(m, MACHINE_OFF, MACHINE_EXIT_DEBUG, m->exit_code);
    } else if (requests & REQUEST_POWER_OFF) {
        machine_stop(m, MACHINE_OFF, MACHINE_EXIT_POWER_OFF, 0);
    } else if (requests & REQUEST_TRIPLE_FAULT) {
        machine_stop(m, MACHINE_CRASHED, MACHINE_EXIT_TRIPLE_FAULT, 0);
    } else if (requests & REQUEST_RESET) {
        machine_serve_reset(m);
    } else if (requests & REQUEST_IO_ERROR) {
        machine_halt(m);
        machine_set_state(m, MACHINE_IO_ERROR);
    }
    return G_SOURCE_REMOVE;
}

/* Creation */

static void config_copy(struct machine *m, const struct machine_config *c)
{
    struct machine_config *to = &m->config;

    *to = *c;
    to->name = g_strdup(c->name ? c->name : "ringside");
    to->uuid = g_strdup(c->uuid);
    to->engine = g_strdup(c->engine);
    to->engine_options = g_strdup(c->engine_options);
    to->kernel = g_strdup(c->kernel);
    to->initrd = g_strdup(c->initrd);
    to->append = g_strdup(c->append);
    to->firmware = g_strdup(c->firmware);
    to->cdrom = g_strdup(c->cdrom);
    to->boot_order = g_strdup(c->boot_order);
    to->debugcon = g_strdup(c->debugcon);
    to->sound = g_strdup(c->sound);
    to->video = g_strdup(c->video);
    to->network.mode = g_strdup(c->network.mode);
    to->network.card = g_strdup(c->network.card);
    to->network.mac = g_strdup(c->network.mac);
    to->network.capture = g_strdup(c->network.capture);
    to->network.forwards = g_strdup(c->network.forwards);
    for (unsigned i = 0; i < MACHINE_SERIAL_PORTS; i++) {
        to->serial[i] = g_strdup(c->serial[i]);
    }
    for (unsigned i = 0; i < MACHINE_MAX_DISKS; i++) {
        to->disks[i].path = g_strdup(c->disks[i].path);
    }
}

static void config_free(struct machine_config *c)
{
    const char *strings[] = {
        c->name,         c->uuid,        c->engine,          c->engine_options,
        c->kernel,       c->initrd,      c->append,          c->firmware,
        c->cdrom,        c->boot_order,  c->debugcon,        c->network.mode,
        c->network.card, c->network.mac, c->network.capture, c->network.forwards};

    g_free((char *)c->sound);
    g_free((char *)c->video);
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free((char *)strings[i]);
    }
    for (unsigned i = 0; i < MACHINE_SERIAL_PORTS; i++) {
        g_free((char *)c->serial[i]);
    }
    for (unsigned i = 0; i < MACHINE_MAX_DISKS; i++) {
        g_free((char *)c->disks[i].path);
    }
}

static bool config_check(const struct machine_config *c, GError **error)
{
    const char *problem = NULL;

    if (c->cpus < 1 || c->cpus > MACHINE_MAX_CPUS) {
        problem = "A machine has 1 to 32 CPUs";
    } else if (c->memory_bytes < 1u << 20 || c->memory_bytes > 1ull << 38 ||
               c->memory_bytes & 0xfffff) {
        problem = "A machine has 1 MiB to 256 GiB of memory, in whole MiB";
    } else if (c->disk_count > MACHINE_MAX_DISKS) {
        problem = "A machine has at most 5 disks";
    }
    if (problem) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, problem);
    }
    return !problem;
}

static unsigned map_ram(struct machine *m, uint64_t gpa, uint64_t offset, uint64_t size)
{
    struct mapping ram = {.gpa = gpa,
                          .size = size,
                          .kind = MAPPING_RAM,
                          .priority = MEMORY_PRIORITY_RAM,
                          .host = m->ram + offset};

    return memory_map(m->memory, &ram);
}

static const char no_memory[] =
    "The machine is paused because the host has no memory left for it. Close other programs, then "
    "resume the machine; nothing is lost.";

static gboolean memory_lacking(gint fd, GIOCondition condition, gpointer opaque)
{
    struct machine *m = opaque;
    uint64_t count;

    if (read(fd, &count, sizeof count) == sizeof count && m->state == MACHINE_RUNNING) {
        machine_lock();
        g_free(m->problem);
        m->problem = g_strdup(no_memory);
        device_log("memory", "%s", m->problem);
        machine_request(m, REQUEST_IO_ERROR);
        machine_unlock();
    }
    return G_SOURCE_CONTINUE;
}

static bool create_memory(struct machine *m, GError **error)
{
    uint64_t bytes = m->config.memory_bytes;

    if (!host_memory_check("", bytes, &m->memory_warning, error)) {
        return false;
    }
    if (m->memory_warning) {
        device_log("memory", "%s", m->memory_warning);
    }
    m->low_memory = bytes > LOW_MEMORY_MAX ? LOW_MEMORY_SPLIT : bytes;
    m->high_memory = bytes - m->low_memory;
    m->memory = memory_new(bytes + POOL_EXTRA, error);
    if (!m->memory) {
        return false;
    }
    if (host_memory_event() >= 0) {
        m->memory_source = g_unix_fd_add(host_memory_event(), G_IO_IN, memory_lacking, m);
    }
    m->ram = memory_alloc(m->memory, bytes, "ram");
    map_ram(m, 0, 0, m->low_memory);
    if (m->high_memory) {
        map_ram(m, MEMORY_4G, m->low_memory, m->high_memory);
    }
    return true;
}

static bool open_network(struct machine *m, GError **error)
{
    const struct machine_network *n = &m->config.network;
    struct net_config config = {n->mode, m->clock, n->unplugged};
    g_autofree char *mac = n->mac ? g_strdup(n->mac) : net_mac_random();
    g_auto(GStrv) forwards = g_strsplit(n->forwards ? n->forwards : "", ",", -1);

    if (!n->mode) {
        return true;
    }
    if (!net_mac_parse(mac, m->mac)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "\"%s\" is no address for a network card; write one like 52:54:00:12:34:56",
                    mac);
        return false;
    }
    if (!(m->net = net_open(&config, error)) ||
        (n->capture && !net_capture(m->net, n->capture, error))) {
        return false;
    }
    for (unsigned i = 0; forwards[i]; i++) {
        if (*g_strstrip(forwards[i]) && !net_forward_add(m->net, forwards[i], error)) {
            return false;
        }
    }
    return true;
}

static bool open_backends(struct machine *m, GError **error)
{
    const struct machine_config *c = &m->config;

    m->audio = c->sound ? audio_new(c->name) : NULL;
    for (unsigned i = 0; i < MACHINE_SERIAL_PORTS; i++) {
        if (!(m->serial[i] = chardev_open(c->serial[i], error))) {
            return false;
        }
        if (chardev_path(m->serial[i])) {
            device_log(i ? "com2" : "com1", "is %s", chardev_path(m->serial[i]));
        }
    }
    if (c->debugcon) {
        g_autofree char *spec = g_strconcat("file:", c->debugcon, NULL);
        if (!(m->debugcon = chardev_open(spec, error))) {
            return false;
        }
    }
    for (unsigned i = 0; i < c->disk_count; i++) {
        unsigned flags = (c->disks[i].readonly ? BLOCK_READ_ONLY : 0) |
                         (c->disks[i].snapshot ? BLOCK_SNAPSHOT : 0) |
                         (c->disks[i].raw ? BLOCK_RAW : 0);
        if (!(m->disk[i] = block_open(c->disks[i].path, flags, error))) {
            return false;
        }
    }
    return (!c->cdrom || (m->cdrom = block_open(c->cdrom, BLOCK_READ_ONLY | BLOCK_RAW, error))) &&
           open_network(m, error);
}

static const struct engine_ops *pick_engine(const char *name, GError **error)
{
    g_autofree char *why = NULL;

    for (unsigned i = 0; engines[i]; i++) {
        if (name ? strcmp(name, engines[i]->name) != 0 : engines[i]->by_name) {
            continue;
        }
        g_clear_pointer(&why, g_free);
        if (!engines[i]->probe || engines[i]->probe(&why)) {
            return engines[i];
        }
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "The engine %s cannot run: %s",
                name ? name : "(any)", why ? why : "it is not part of this build");
    return NULL;
}

static void memory_changed(void *opaque)
{
    struct machine *m = opaque;

    if (m->engine) {
        m->engine_ops->memory_changed(m->engine);
    }
}

static void code_written(void *opaque, uint64_t pool_offset, uint64_t len)
{
    struct machine *m = opaque;

    if (m->engine) {
        m->engine_ops->code_written(m->engine, pool_offset, len);
    }
}

static bool create_engine(struct machine *m, GError **error)
{
    struct engine_config config = {
        .cpus = m->config.cpus,
        .memory = m->memory,
        .clock = m->clock,
        .bus = &m->cpu_bus,
        .options = m->config.engine_options,
        .stepper = engines_stepper(),
    };

    machine_init_cpu_bus(m);
    m->engine_ops = pick_engine(m->config.engine, error);
    if (!m->engine_ops) {
        return false;
    }
    m->engine_reason = engines_reason(m->engine_ops);
    m->engine = m->engine_ops->create(&config, error);
    memory_set_listener(m->memory, memory_changed, m);
    memory_set_code_listener(m->memory, code_written, m);
    return m->engine != NULL;
}

/* Devices and CPUs at power-on, the kernel (if any) in memory. Engine paused, lock held. */
static bool reset_all(struct machine *m, GError **error)
{
    struct cpu_state *cpu = g_aligned_alloc0(1, sizeof *cpu, 64);
    bool ok = true;

    machine_reset_devices(m);
    for (unsigned i = 0; ok && i < m->config.cpus; i++) {
        cpu_state_reset(cpu, i == 0, false);
        if (i == 0 && m->config.kernel) {
            ok = loader_boot(m, cpu, error);
        }
        ok = ok && m->engine_ops->set_state(m->engine, i, cpu, error);
    }
    g_aligned_free(cpu);
    return ok && machine_apics_to_engine(m, error);
}

static bool machine_build(struct machine *m, GError **error)
{
    bool ok = create_memory(m, error) && open_backends(m, error) &&
              (m->config.kernel || firmware_load(m, error)) && machine_create_devices(m, error) &&
              machine_usb_create(m, error);

    if (ok) {
        firmware_publish(m);
    }
    return ok && create_engine(m, error) && reset_all(m, error);
}

struct machine *machine_new(const struct machine_config *config, GError **error)
{
    struct machine *m;
    bool ok;

    if (!config_check(config, error)) {
        return NULL;
    }
    m = g_new0(struct machine, 1);
    config_copy(m, config);
    m->clock = clock_new();
    m->ports = ports_new();
    m->input = input_new();
    m->screen = screen_new();
    machine_lock();
    ok = machine_build(m, error);
    machine_unlock();
    if (!ok) {
        g_clear_pointer(&m, machine_free);
    }
    return m;
}

void machine_free(struct machine *m)
{
    if (!m) {
        return;
    }
    machine_halt(m);
    machine_cancel_requests(m);
    if (m->engine) {
        m->engine_ops->destroy(m->engine);
        m->engine = NULL;
    }
    machine_destroy_devices(m);
    machine_usb_destroy(m);
    for (unsigned i = 0; i < MACHINE_MAX_DISKS; i++) {
        block_close(m->disk[i]);
    }
    block_close(m->cdrom);
    net_close(m->net);
    audio_free(m->audio);
    for (unsigned i = 0; i < MACHINE_SERIAL_PORTS; i++) {
        chardev_free(m->serial[i]);
    }
    chardev_free(m->debugcon);
    screen_free(m->screen);
    input_free(m->input);
    ports_free(m->ports);
    g_free(m->vga_rom);
    g_free(m->problem);
    g_free(m->memory_warning);
    g_clear_handle_id(&m->memory_source, g_source_remove);
    g_free(m->engine_reason);
    memory_free(m->memory);
    clock_free(m->clock);
    config_free(&m->config);
    g_free(m);
}

/* Life cycle */

bool machine_start(struct machine *m, GError **error)
{
    if (m->state != MACHINE_OFF) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                            "The machine is on already");
        return false;
    }
    machine_go(m);
    return true;
}

void machine_pause(struct machine *m)
{
    if (m->state == MACHINE_RUNNING) {
        machine_halt(m);
        machine_set_state(m, MACHINE_PAUSED);
    }
}

void machine_resume(struct machine *m)
{
    if (m->state != MACHINE_PAUSED && m->state != MACHINE_IO_ERROR) {
        return;
    }
    if (!host_memory_settle()) {
        g_free(m->problem);
        m->problem = g_strdup(no_memory);
        machine_set_state(m, MACHINE_IO_ERROR);
        return;
    }
    machine_go(m);
    machine_lock();
    if (m->ahci) {
        ahci_retry(m->ahci);
    }
    machine_usb_retry(m);
    machine_unlock();
}

void machine_reset(struct machine *m)
{
    g_autoptr(GError) error = NULL;
    bool running = m->state == MACHINE_RUNNING || m->state == MACHINE_CRASHED, ok;

    machine_halt(m);
    machine_cancel_requests(m);
    machine_lock();
    ok = reset_all(m, &error);
    machine_unlock();
    if (!ok) {
        device_log("machine", "cannot reset: %s", error ? error->message : "unknown");
        machine_set_state(m, MACHINE_CRASHED);
    } else if (running) {
        machine_go(m);
    }
}

void machine_power_button(struct machine *m)
{
    machine_lock();
    acpi_pm_power_button(m->pm);
    machine_unlock();
}

void machine_power_off(struct machine *m)
{
    machine_halt(m);
    machine_cancel_requests(m);
    machine_set_state(m, MACHINE_OFF);
}

struct input *machine_input(struct machine *m)
{
    return m->input;
}

struct screen *machine_screen(struct machine *m)
{
    return m->screen;
}

const char *machine_engine_name(const struct machine *m)
{
    return m->engine_ops->name;
}

const char *machine_engine_reason(const struct machine *m)
{
    return m->engine_reason ? m->engine_reason : "";
}

const char *machine_warning(const struct machine *m)
{
    return m->memory_warning;
}

const char *machine_problem(const struct machine *m)
{
    return m->state == MACHINE_IO_ERROR ? m->problem : NULL;
}

struct net *machine_network(const struct machine *m)
{
    return m->net;
}

struct audio *machine_audio(const struct machine *m)
{
    return m->audio;
}

const char *machine_serial_path(const struct machine *m, unsigned port)
{
    return chardev_path(m->serial[port]);
}

bool machine_change_cdrom(struct machine *m, const char *path, bool force, GError **error)
{
    struct block *disc = path ? block_open(path, BLOCK_READ_ONLY | BLOCK_RAW, error) : NULL;
    bool ok;

    if (path && !disc) {
        return false;
    }
    machine_lock();
    ok = ahci_eject(m->ahci, AHCI_PORTS - 1, force) &&
         (!disc || ahci_insert(m->ahci, AHCI_PORTS - 1, disc));
    if (ok) {
        block_close(m->cdrom);
        m->cdrom = disc;
    }
    machine_unlock();
    if (!ok) {
        block_close(disc);
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                            "The guest has locked the CD-ROM drive; eject the disc there first");
    }
    return ok;
}
