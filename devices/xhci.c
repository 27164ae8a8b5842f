/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller's registers (see xhci.h; section 5) and the machine's side.
 *
 * CMD_SAVE and CMD_RESTORE need no memory: what they are for stays here as it is, until a reset.
 * Only where the guest writes an event ring's registers anew, its place in the ring comes back.
 */
#include <string.h>

#include "dma.h"
#include "xhci_internal.h"

#define BAR_SIZE     0x4000u
#define OPERATIONAL  0x0040u
#define PORTS_AT     (OPERATIONAL + 0x400u)
#define EXTENDED     0x0600u
#define RUNTIME      0x1000u
#define DOORBELLS    0x2000u
#define MSIX_TABLE   0x3000u
#define MSIX_PENDING 0x3800u
#define NO_SECONDARY 0x80u /* HCCPARAMS1: NSS, no secondary stream arrays */
#define ADDRESS_64   0x01u
#define LEGACY_BIOS  (1u << 16)
#define LEGACY_OS    (1u << 24)
#define NAME_USB     0x20425355u
#define FRAME_INDEX  0x3fffu
#define MICROFRAME   (XHCI_FRAME_NS / 8)
#define RW1C         (STS_SYSTEM_ERROR | STS_EVENT | STS_PORT_CHANGE | STS_RESTORE_ERROR)
#define CMD_KEPT     0xc0du /* RS, INTE, HSEE, EWE, EU3S */

enum {
    CAPLENGTH = 0x00,
    HCSPARAMS1 = 0x04,
    HCSPARAMS2 = 0x08,
    HCCPARAMS1 = 0x10,
    DBOFF = 0x14,
    RTSOFF = 0x18,
    /* from OPERATIONAL on */
    USBCMD = 0x00,
    USBSTS = 0x04,
    PAGESIZE = 0x08,
    DNCTRL = 0x14,
    CRCR = 0x18,
    DCBAAP = 0x30,
    CONFIG = 0x38,
};

bool xhci_running(const struct xhci *x)
{
    return (x->usbcmd & CMD_RUN) && !(x->usbsts & STS_HALTED);
}

void xhci_die(struct xhci *x, uint32_t status, const char *why)
{
    device_log_once("xhci", status, "the guest broke the USB controller: %s", why);
    x->usbsts |= status | STS_HALTED;
    x->usbcmd &= ~(uint32_t)CMD_RUN;
}

bool xhci_read(struct xhci *x, uint64_t gpa, void *buf, size_t len)
{
    if (!dma_read(x->host->memory, gpa, buf, len)) {
        xhci_die(x, STS_SYSTEM_ERROR, "it is to read where there is no memory");
        return false;
    }
    return true;
}

bool xhci_write(struct xhci *x, uint64_t gpa, const void *buf, size_t len)
{
    if (!dma_write(x->host->memory, gpa, buf, len)) {
        xhci_die(x, STS_SYSTEM_ERROR, "it is to write where there is no memory");
        return false;
    }
    return true;
}

/* --- reading --- */

static uint32_t capability_read(unsigned at)
{
    switch (at) {
    case CAPLENGTH:
        return 0x0110u << 16 | OPERATIONAL;
    case HCSPARAMS1:
        return XHCI_SLOTS | XHCI_INTERRUPTERS << 8 | XHCI_PORTS << 24;
    case HCSPARAMS2:
        return XHCI_ERST_LOG << 4;
    case HCCPARAMS1:
        return ADDRESS_64 | NO_SECONDARY | (XHCI_STREAMS_LOG - 1) << 12 | (EXTENDED / 4) << 16;
    case DBOFF:
        return DOORBELLS;
    case RTSOFF:
        return RUNTIME;
    default:
        return 0;
    }
}

/* Extended capabilities (section 7): USB 2 and USB 3 ports, and who has the controller. */
static uint32_t extended_read(const struct xhci *x, unsigned at)
{
    static const uint32_t protocols[] = {
        0x02000402, NAME_USB, 1 | XHCI_USB2_PORTS << 8,
        0, /* the next is 4 words on */
        0x03000402, NAME_USB, (XHCI_USB2_PORTS + 1) | (XHCI_PORTS - XHCI_USB2_PORTS) << 8,
        0,
    };

    if (at < sizeof protocols) {
        return protocols[at / 4];
    }
    return at == sizeof protocols ? x->legacy | 1 : 0;
}

static uint32_t operational_read(const struct xhci *x, unsigned at)
{
    switch (at) {
    case USBCMD:
        return x->usbcmd;
    case USBSTS:
        return x->usbsts;
    case PAGESIZE:
        return 1;
    case DNCTRL:
        return x->dnctrl;
    case CRCR:
        return xhci_crcr_read(x);
    case DCBAAP:
        return (uint32_t)x->dcbaap;
    case DCBAAP + 4:
        return (uint32_t)(x->dcbaap >> 32);
    case CONFIG:
        return x->config;
    default:
        return 0;
    }
}

static uint32_t runtime_read(struct xhci *x, unsigned at)
{
    if (at >= 0x20 && at < 0x20 + 0x20 * XHCI_INTERRUPTERS) {
        return xhci_interrupter_read(x, at / 0x20 - 1, at & 0x1f);
    }
    if (at == 0 && xhci_running(x)) {
        return (uint32_t)((clock_now(x->host->clock) - x->started_at) / MICROFRAME) & FRAME_INDEX;
    }
    return 0;
}

static uint64_t register_read(void *opaque, uint64_t addr, unsigned size)
{
    struct xhci *x = opaque;
    unsigned at = (unsigned)addr;

    if (at < OPERATIONAL) {
        return capability_read(at);
    }
    if (at < PORTS_AT) {
        return operational_read(x, at - OPERATIONAL);
    }
    if (at < PORTS_AT + 16 * XHCI_PORTS) {
        return xhci_port_read(x, (at - PORTS_AT) / 16, at & 15);
    }
    if (at >= EXTENDED && at < RUNTIME) {
        return extended_read(x, at - EXTENDED);
    }
    if (at >= RUNTIME && at < DOORBELLS) {
        return runtime_read(x, at - RUNTIME);
    }
    return at >= MSIX_TABLE ? pci_msix_read(&x->msix, at, size) : 0;
}

/* --- writing --- */

/* Everything but the link to PCI, as after power-on. */
static void controller_reset(struct xhci *x)
{
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        xhci_slot_clear(&x->slot[i]);
    }
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        xhci_interrupter_reset(&x->interrupter[i]);
    }
    x->usbcmd = x->dnctrl = x->config = 0;
    x->usbsts = STS_HALTED;
    x->dcbaap = x->command = 0;
    x->command_cycle = x->command_running = x->saved = false;
    xhci_ports_reset(x);
    xhci_update_irq(x);
}

static void context_save(struct xhci *x)
{
    x->saved = true;
    x->saved_cycles = 0;
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        const struct xhci_interrupter *ir = &x->interrupter[i];
        x->saved_segment[i] = ir->segment;
        x->saved_index[i] = ir->index;
        x->saved_cycles |= ir->started ? 1u << i : 0;
        x->saved_cycles |= ir->cycle ? 1u << (16 + i) : 0;
    }
}

static void context_restore(struct xhci *x)
{
    if (!x->saved) {
        x->usbsts |= STS_RESTORE_ERROR;
        return;
    }
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        if (x->saved_cycles & 1u << i) {
            xhci_interrupter_resume(x, i, x->saved_segment[i], x->saved_index[i],
                                    x->saved_cycles & 1u << (16 + i));
        }
    }
}

static void command_write(struct xhci *x, uint32_t value)
{
    bool was = x->usbcmd & CMD_RUN;

    if (value & CMD_RESET) {
        controller_reset(x);
        return;
    }
    if (value & CMD_SAVE) {
        context_save(x);
    }
    if (value & CMD_RESTORE) {
        context_restore(x);
    }
    x->usbcmd = value & CMD_KEPT;
    if (x->usbsts & STS_CONTROLLER_ERROR) {
        x->usbcmd &= ~(uint32_t)CMD_RUN; /* only a reset helps */
    }
    if (!(x->usbcmd & CMD_RUN)) {
        x->usbsts |= STS_HALTED;
        xhci_commands_stop(x);
    } else if (!was) {
        x->usbsts &= ~(uint32_t)STS_HALTED;
        x->started_at = clock_now(x->host->clock);
        xhci_ports_run(x);
        xhci_kick_later(x);
    }
    xhci_update_irq(x);
}

static void operational_write(struct xhci *x, unsigned at, uint32_t value)
{
    switch (at) {
    case USBCMD:
        command_write(x, value);
        break;
    case USBSTS:
        x->usbsts &= ~(value & RW1C);
        break;
    case DNCTRL:
        x->dnctrl = value & 0xffff;
        break;
    case CRCR:
    case CRCR + 4:
        xhci_crcr_write(x, value, at != CRCR);
        break;
    case DCBAAP:
        x->dcbaap = (x->dcbaap & ~0xffffffffull) | (value & ~63u);
        break;
    case DCBAAP + 4:
        x->dcbaap = (uint32_t)x->dcbaap | (uint64_t)value << 32;
        break;
    case CONFIG:
        x->config = value & 0x3ff;
        break;
    }
}

static void doorbell_write(struct xhci *x, unsigned n, uint32_t value)
{
    unsigned target = value & 0xff;

    if (!xhci_running(x) || n > XHCI_SLOTS) {
        return;
    }
    if (n == 0 && target == 0) {
        x->command_running = true;
        xhci_commands_run(x);
    } else if (n > 0 && target < XHCI_ENDPOINTS && x->slot[n].endpoint[target]) {
        xhci_endpoint_doorbell(x->slot[n].endpoint[target], value >> 16);
    }
}

/* Firmware and system agree on who has the controller; there is no SMM code that could mind. */
static void legacy_write(struct xhci *x, uint32_t value)
{
    x->legacy = value & (value & LEGACY_OS ? LEGACY_OS : LEGACY_BIOS);
}

static void register_write(void *opaque, uint64_t addr, uint64_t value64, unsigned size)
{
    struct xhci *x = opaque;
    unsigned at = (unsigned)addr;
    uint32_t value = (uint32_t)value64;

    if (at >= MSIX_TABLE) {
        pci_msix_write(&x->msix, at, value, size);
    } else if (at >= DOORBELLS) {
        doorbell_write(x, (at - DOORBELLS) / 4, value);
    } else if (at >= RUNTIME + 0x20 && at < RUNTIME + 0x20 + 0x20 * XHCI_INTERRUPTERS) {
        xhci_interrupter_write(x, (at - RUNTIME) / 0x20 - 1, at & 0x1f, value);
    } else if (at == EXTENDED + 32) {
        legacy_write(x, value);
    } else if (at >= PORTS_AT && at < PORTS_AT + 16 * XHCI_PORTS) {
        xhci_port_write(x, (at - PORTS_AT) / 16, at & 15, value);
    } else if (at >= OPERATIONAL && at < PORTS_AT) {
        operational_write(x, at - OPERATIONAL, value);
    }
}

static const struct io_ops xhci_ops = {
    .name = "xhci", .read = register_read, .write = register_write, .max_size = 4, .min_size = 4};

/* The id that QEMU's generic controller has: no system knows of oddities to work around. */
static const struct pci_function_info xhci_info = {
    .vendor = 0x1b36,
    .device = 0x000d,
    .subsystem_vendor = 0x1af4,
    .subsystem = 0x1100,
    .class_code = 0x0c,
    .subclass = 0x03,
    .prog_if = 0x30,
    .revision = 1,
    .interrupt_pin = 1,
    .bar = {{PCI_BAR_MEM64, BAR_SIZE, &xhci_ops}},
};

/* --- for the machine --- */

static void kick_fired(void *opaque)
{
    struct xhci *x = opaque;

    if (x->tell_ports) {
        x->tell_ports = false;
        for (unsigned i = 0; i < XHCI_PORTS; i++) {
            xhci_port_restored(&x->port[i]);
        }
    }
    xhci_kick(x);
}

static bool xhci_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct xhci *x = dev;
    const struct xhci_config *c = config;

    x->host = host;
    for (unsigned i = 0; i <= XHCI_SLOTS; i++) {
        x->slot[i].id = (uint8_t)i;
    }
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        x->interrupter[i].waiting = g_array_new(FALSE, FALSE, sizeof(struct xhci_trb));
    }
    x->kick = timer_new(host->clock, kick_fired, x);
    xhci_ports_init(x);
    if (!pci_function_init(&x->pci, c->pci.bus, c->pci.devfn, x, &xhci_info, error)) {
        return false;
    }
    x->pci.config[0x60] = 0x30; /* SBRN: USB 3 */
    x->pci.config[0x61] = 0x20; /* FLADJ */
    if (!pci_msix_init(&x->msix, &x->pci, XHCI_INTERRUPTERS, 0, MSIX_TABLE, MSIX_PENDING)) {
        return false;
    }
    controller_reset(x);
    return true;
}

static void xhci_fini(void *dev)
{
    struct xhci *x = dev;

    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        usb_detach(&x->port[i].usb);
    }
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        xhci_slot_clear(&x->slot[i]);
    }
    xhci_forget_orphans(x);
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        g_clear_pointer(&x->interrupter[i].waiting, g_array_unref);
    }
    g_clear_pointer(&x->kick, timer_free);
    if (x->pci.info) {
        pci_function_fini(&x->pci);
    }
}

static void xhci_reset(void *dev)
{
    struct xhci *x = dev;

    x->legacy = 0;
    x->tell_ports = false;
    controller_reset(x);
    timer_disarm(x->kick);
    pci_function_reset(&x->pci);
}

static void controller_state(struct xhci *x, struct state *s)
{
    state_u32(s, "usbcmd", &x->usbcmd);
    state_u32(s, "usbsts", &x->usbsts);
    state_u32(s, "dnctrl", &x->dnctrl);
    state_u32(s, "slots", &x->config);
    state_u32(s, "legacy", &x->legacy);
    state_u64(s, "dcbaap", &x->dcbaap);
    state_u64(s, "command", &x->command);
    state_bool(s, "command-cycle", &x->command_cycle);
    state_bool(s, "command-running", &x->command_running);
    state_u64(s, "started-at", &x->started_at);
    state_bool(s, "saved", &x->saved);
    state_u32(s, "saved-cycles", &x->saved_cycles);
    state_bytes(s, "saved-segment", x->saved_segment, sizeof x->saved_segment);
    state_bytes(s, "saved-index", x->saved_index, sizeof x->saved_index);
}

static void xhci_state(void *dev, struct state *s)
{
    struct xhci *x = dev;

    pci_function_state(&x->pci, s);
    controller_state(x, s);
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++) {
        state_push(s, "interrupter", i);
        xhci_interrupter_state(&x->interrupter[i], s);
        state_pop(s);
    }
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        state_push(s, "port", i + 1);
        xhci_port_state(&x->port[i], s);
        state_pop(s);
    }
    for (unsigned i = 1; i <= XHCI_SLOTS; i++) {
        state_push(s, "slot", i);
        xhci_slot_state(x, &x->slot[i], s);
        state_pop(s);
    }
}

static bool xhci_restored(void *dev, GError **error)
{
    struct xhci *x = dev;

    x->started_at = MIN(x->started_at, clock_now(x->host->clock));
    pci_function_restored(&x->pci);
    x->tell_ports = true;
    xhci_kick_later(x);
    return true;
}

static bool device_busy(struct usb_device *dev)
{
    return dev && dev->class->busy && dev->class->busy(dev);
}

static bool xhci_busy(void *dev)
{
    struct xhci *x = dev;
    bool busy = xhci_transfers_busy(x);

    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        busy = busy || device_busy(x->port[i].usb.device);
    }
    return busy;
}

const struct device_class xhci_device = {
    .name = "xhci",
    .size = sizeof(struct xhci),
    .version = 1,
    .init = xhci_init,
    .fini = xhci_fini,
    .reset = xhci_reset,
    .state = xhci_state,
    .restored = xhci_restored,
    .busy = xhci_busy,
};
