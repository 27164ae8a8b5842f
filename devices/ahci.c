/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host adapter: HBA and port registers, command lists, FISes, interrupts.
 *
 * Serial ATA AHCI 1.3.1: section 3 (registers), 4 (memory structures), 5 (port states); FIS layouts
 * from Serial ATA 3.0 section 10.3. No port multipliers, no command completion coalescing, no
 * enclosure management. Command lists, tables and FIS areas must lie in guest RAM; anything else is
 * a host bus fatal error.
 */
#include "ahci_internal.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

enum hba_register {
    HBA_CAP = 0x00,
    HBA_GHC = 0x04,
    HBA_IS = 0x08,
    HBA_PI = 0x0c,
    HBA_VS = 0x10,
    HBA_PORTS = 0x100
};
enum port_register {
    PX_CLB = 0x00,
    PX_CLBU = 0x04,
    PX_FB = 0x08,
    PX_FBU = 0x0c,
    PX_IS = 0x10,
    PX_IE = 0x14,
    PX_CMD = 0x18,
    PX_TFD = 0x20,
    PX_SIG = 0x24,
    PX_SSTS = 0x28,
    PX_SCTL = 0x2c,
    PX_SERR = 0x30,
    PX_SACT = 0x34,
    PX_CI = 0x38
};

#define GHC_HR   (1u << 0)
#define GHC_IE   (1u << 1)
#define GHC_AE   (1u << 31)
#define CMD_ST   (1u << 0)
#define CMD_CLO  (1u << 3)
#define CMD_FRE  (1u << 4)
#define CMD_FR   (1u << 14)
#define CMD_CR   (1u << 15)
#define CMD_KEEP 0x0f000001u /* ST, ATAPI, DLAE, ALPE, ASP */
#define CMD_ON   0x00000006u /* spun up, powered */
#define SERR_X   (1u << 26)
/* 64-bit, NCQ, command list override, 1.5 and 3 Gb/s, AHCI only, 32 slots, 6 ports */
#define CAP_VALUE                                                                                  \
    (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | 31u << 8 | (AHCI_PORTS - 1))
#define IS_WRITABLE 0xfdc000afu
#define IE_WRITABLE 0xfdc0007fu

/* --- interrupts --- */

static void ahci_collect(struct ahci *a)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        if (a->port[i].is & a->port[i].ie) {
            a->is |= 1u << i;
        }
    }
}

static void ahci_update_irq(struct ahci *a)
{
    ahci_collect(a);
    pci_function_interrupt(&a->pci, (a->ghc & GHC_IE) && a->is);
}

/* The guest cleared some of IS: what is left needs a message of its own. */
static void ahci_acknowledge(struct ahci *a, uint32_t bits)
{
    a->is &= ~bits;
    ahci_collect(a);
    if (a->is) {
        pci_function_interrupt(&a->pci, false);
    }
    ahci_update_irq(a);
}

static void port_raise(struct ahci_port *p, uint32_t bits)
{
    p->is |= bits;
    ahci_update_irq(p->ahci);
}

/* --- FISes to the guest --- */

static void *guest_ram(struct ahci_port *p, uint64_t gpa, size_t len)
{
    return memory_ram_ptr(p->ahci->host->memory, gpa, len);
}

static void guest_wrote(struct ahci_port *p, void *host, size_t len)
{
    memory_wrote(p->ahci->host->memory, host, len);
}

static void port_receive_fis(struct ahci_port *p, unsigned offset, const uint8_t *fis, size_t len)
{
    if (!(p->cmd & CMD_FRE)) {
        return;
    }
    uint8_t *area = guest_ram(p, p->fb, 256);
    if (!area) {
        p->is |= PORT_HBFS;
        return;
    }
    memcpy(area + offset, fis, len);
    guest_wrote(p, area + offset, len);
}

static void port_register_fis(struct ahci_port *p, uint8_t status, uint8_t error, uint8_t count,
                              bool interrupt)
{
    uint8_t fis[20] = {0x34, interrupt ? 0x40 : 0, status, error};
    fis[12] = count;
    if (p->kind == AHCI_CDROM &&
        (count & 1)) { /* interrupt reason in the count, byte count in LBA */
        fis[5] = 0;
    }
    p->tfd = (uint32_t)error << 8 | status;
    port_receive_fis(p, 0x40, fis, sizeof(fis));
}

/* The FIS a device sends after reset: its signature. */
static void port_signature_fis(struct ahci_port *p)
{
    uint8_t fis[20] = {0x34, 0, (uint8_t)p->tfd, (uint8_t)(p->tfd >> 8)};
    fis[4] = (uint8_t)(p->sig >> 8);
    fis[5] = (uint8_t)(p->sig >> 16);
    fis[6] = (uint8_t)(p->sig >> 24);
    fis[12] = (uint8_t)p->sig;
    port_receive_fis(p, 0x40, fis, sizeof(fis));
}

void ahci_pio_setup(struct ahci_port *p, uint8_t status, uint8_t end_status, uint64_t bytes)
{
    uint8_t fis[20] = {0x5f, 0x60, status, 0};
    fis[15] = end_status;
    put_le16(fis + 16, (uint16_t)MIN(bytes, 0xfffe));
    port_receive_fis(p, 0x20, fis, sizeof(fis));
    p->is |= PORT_PSS;
}

/* --- ending commands --- */

static void port_kick(struct ahci_port *p);

void ahci_set_transferred(struct ahci_port *p, uint64_t header, uint64_t bytes)
{
    uint8_t *h = guest_ram(p, header, 32);
    if (h) {
        put_le32(h + 4, (uint32_t)bytes);
        guest_wrote(p, h + 4, 4);
    }
}

void ahci_complete_slot(struct ahci_port *p, unsigned slot, uint8_t status, uint8_t error,
                        uint8_t count)
{
    port_register_fis(p, status, error, count, true);
    p->issued &= ~(1u << slot);
    if (status & ATA_ERR) {
        p->failed = true;
        port_raise(p, PORT_DHRS | PORT_TFES);
        return;
    }
    p->ci &= ~(1u << slot);
    port_raise(p, PORT_DHRS);
    port_kick(p);
}

void ahci_complete(struct ahci_port *p, const struct ata_command *cmd, uint8_t status,
                   uint8_t error)
{
    ahci_complete_slot(p, cmd->slot, status, error, p->kind == AHCI_CDROM ? 3 : 0);
}

/* Queued commands: accepted, then answered with a Set Device Bits FIS. */
void ahci_accept_queued(struct ahci_port *p, unsigned slot)
{
    port_register_fis(p, ATA_GOOD, 0, 0, false);
    p->ci &= ~(1u << slot);
}

void ahci_complete_queued(struct ahci_port *p, unsigned slot, uint8_t error)
{
    uint32_t done = error ? 0 : 1u << slot;
    uint8_t fis[8] = {0xa1, 0x40, error ? ATA_GOOD | ATA_ERR : ATA_GOOD, error};
    fis[2] &= 0x77;
    put_le32(fis + 4, done);
    p->sact &= ~done;
    p->issued &= ~(1u << slot);
    p->tfd = (uint32_t)error << 8 | fis[2];
    port_receive_fis(p, 0x58, fis, sizeof(fis));
    if (error) {
        p->failed = true;
        memset(p->ncq_error, 0, sizeof(p->ncq_error));
        p->ncq_error[0] = (uint8_t)slot;
        p->ncq_error[2] = fis[2];
        p->ncq_error[3] = error;
    }
    port_raise(p, PORT_SDBS | (error ? PORT_TFES : 0));
    port_kick(p);
}

void ahci_bus_error(struct ahci_port *p, const struct ata_command *cmd)
{
    device_log_once("ahci", p->number, "port %u: the guest gave addresses that are no memory",
                    p->number);
    p->failed = true;
    p->issued &= ~(1u << cmd->slot);
    p->tfd = (uint32_t)ATA_ABRT << 8 | ATA_GOOD | ATA_ERR;
    port_raise(p, PORT_HBFS);
}

/* --- data --- */

struct segments {
    struct iovec *iov;
    unsigned count, room;
};

static void segments_add(struct segments *s, uint8_t *host, size_t len)
{
    if (s->count &&
        (uint8_t *)s->iov[s->count - 1].iov_base + s->iov[s->count - 1].iov_len == host) {
        s->iov[s->count - 1].iov_len += len;
        return;
    }
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 16;
        s->iov = g_renew(struct iovec, s->iov, s->room);
    }
    s->iov[s->count++] = (struct iovec){host, len};
}

/* RAM that is not contiguous in the pool is taken page by page. */
static bool segments_add_guest(struct segments *s, struct ahci_port *p, uint64_t gpa, uint64_t len)
{
    uint8_t *host = guest_ram(p, gpa, len);
    if (host) {
        segments_add(s, host, len);
        return true;
    }
    while (len > 0) {
        uint64_t part = MIN(len, GUEST_PAGE_SIZE - gpa % GUEST_PAGE_SIZE);
        host = guest_ram(p, gpa, part);
        if (!host) {
            return false;
        }
        segments_add(s, host, part);
        gpa += part;
        len -= part;
    }
    return true;
}

bool ahci_map_prdt(struct ahci_port *p, const struct ata_command *cmd, uint64_t bytes,
                   struct iovec **iov, unsigned *niov, uint64_t *mapped)
{
    struct segments s = {0};
    uint64_t sum = 0;
    bool ok = true;
    bytes = MIN(bytes, AHCI_MAX_TRANSFER);
    for (unsigned i = 0; ok && i < cmd->prdt_entries && sum < bytes; i++) {
        const uint8_t *entry = guest_ram(p, cmd->table + 0x80 + i * 16u, 16);
        if (!entry) {
            ok = false;
            break;
        }
        uint64_t address = get_le64(entry) & ~1ull;
        uint64_t len = MIN((get_le32(entry + 12) & 0x3fffff) + 1ull, bytes - sum);
        ok = segments_add_guest(&s, p, address, len);
        sum += len;
    }
    if (!ok) {
        g_free(s.iov);
        s = (struct segments){0};
        sum = 0;
    }
    *iov = s.iov;
    *niov = s.count;
    *mapped = sum;
    return ok;
}

void ahci_data_in(struct ahci_port *p, const struct ata_command *cmd, const void *data, size_t len,
                  bool pio, uint8_t count)
{
    g_autofree struct iovec *iov = NULL;
    unsigned niov;
    uint64_t mapped, done = 0;
    if (!ahci_map_prdt(p, cmd, len, &iov, &niov, &mapped)) {
        ahci_bus_error(p, cmd);
        return;
    }
    for (unsigned i = 0; i < niov; i++) {
        memcpy(iov[i].iov_base, (const uint8_t *)data + done, iov[i].iov_len);
        guest_wrote(p, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    ahci_set_transferred(p, cmd->header, mapped);
    if (pio) {
        ahci_pio_setup(p, ATA_GOOD | ATA_DRQ, ATA_GOOD, len);
    }
    ahci_complete_slot(p, cmd->slot, ATA_GOOD, 0, count);
}

size_t ahci_data_out(struct ahci_port *p, const struct ata_command *cmd, void *data, size_t len)
{
    g_autofree struct iovec *iov = NULL;
    unsigned niov;
    uint64_t mapped, done = 0;
    if (!ahci_map_prdt(p, cmd, len, &iov, &niov, &mapped)) {
        return 0;
    }
    for (unsigned i = 0; i < niov; i++) {
        memcpy((uint8_t *)data + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    ahci_set_transferred(p, cmd->header, mapped);
    return mapped;
}

/* --- command slots --- */

static bool command_fetch(struct ahci_port *p, unsigned slot, struct ata_command *cmd)
{
    *cmd = (struct ata_command){.slot = slot, .header = p->clb + slot * 32u};
    const uint8_t *header = guest_ram(p, cmd->header, 32);
    if (!header) {
        return false;
    }
    uint32_t dw0 = get_le32(header);
    cmd->table = get_le64(header + 8) & ~127ull;
    cmd->atapi = dw0 & 0x20;
    cmd->write = dw0 & 0x40;
    cmd->prdt_entries = (uint16_t)(dw0 >> 16);
    const uint8_t *table = guest_ram(p, cmd->table, 0x80);
    if (!table) {
        return false;
    }
    memcpy(cmd->fis, table, sizeof(cmd->fis));
    memcpy(cmd->packet, table + 0x40, sizeof(cmd->packet));
    return true;
}

static void port_device_reset(struct ahci_port *p)
{
    p->tfd = 1u << 8 | (p->kind == AHCI_CDROM ? 0 : ATA_GOOD);
    if (p->kind == AHCI_DISK) {
        ata_reset(p);
    } else if (p->kind == AHCI_CDROM) {
        atapi_reset(p);
    } else {
        p->tfd = 0x7f;
    }
}

/* A control FIS: software reset by setting and clearing SRST. */
static void command_control(struct ahci_port *p, const struct ata_command *cmd)
{
    bool srst = cmd->fis[15] & 0x04;
    p->issued &= ~(1u << cmd->slot);
    p->ci &= ~(1u << cmd->slot);
    if (p->software_reset && !srst) {
        port_device_reset(p);
        port_signature_fis(p);
        p->software_reset = false;
        port_raise(p, PORT_DHRS);
        return;
    }
    p->software_reset = srst;
}

static void slot_start(struct ahci_port *p, unsigned slot, bool retry)
{
    struct ata_command cmd;
    bool fetched = command_fetch(p, slot, &cmd);
    cmd.retry = retry;
    p->issued |= 1u << slot;
    p->cmd = (p->cmd & ~0x1f00u) | slot << 8;
    if (!fetched) {
        ahci_bus_error(p, &cmd);
    } else if (cmd.fis[0] != 0x27) {
        ahci_complete(p, &cmd, ATA_GOOD | ATA_ERR, ATA_ABRT);
    } else if (!(cmd.fis[1] & 0x80)) {
        command_control(p, &cmd);
    } else {
        ata_execute(p, &cmd);
    }
}

/* The next slot that may start: queued commands run side by side, others alone. -1: none. */
static int port_next_slot(struct ahci_port *p)
{
    uint32_t waiting = p->ci & ~p->issued;
    bool running = p->issued & ~p->sact;
    if (!waiting || running || p->failed || !(p->cmd & CMD_ST) || p->kind == AHCI_NONE ||
        !pci_function_bus_master(&p->ahci->pci)) {
        return -1;
    }
    uint32_t queued = waiting & p->sact;
    if (queued) {
        return __builtin_ctz(queued);
    }
    return p->issued ? -1 : __builtin_ctz(waiting);
}

/* Starts what can be started. Completions inside come back here: one loop, no recursion. The bound
 * is generous: each round takes a slot out of `ci` or leaves it issued or failed. */
static void port_kick(struct ahci_port *p)
{
    if (p->kicking) {
        return;
    }
    p->kicking = true;
    for (unsigned i = 0; i < 64; i++) {
        int slot = port_next_slot(p);
        if (slot < 0) {
            break;
        }
        slot_start(p, (unsigned)slot, false);
    }
    p->kicking = false;
}

/* Forgets all commands: the guest stopped the port. What the host is still doing ends unheard. */
static void port_abandon(struct ahci_port *p)
{
    p->generation++;
    p->ci = p->sact = p->issued = p->kept = 0;
    p->failed = false;
    p->cmd &= ~0x1f00u;
}

static void port_presence(struct ahci_port *p)
{
    static const uint32_t signatures[] = {0xffffffff, 0x00000101, 0xeb140101};
    p->sig = signatures[p->kind];
    p->ssts = p->kind == AHCI_NONE ? 0 : 0x123;
    port_device_reset(p);
}

static void port_comreset(struct ahci_port *p)
{
    port_abandon(p);
    p->software_reset = false;
    port_presence(p);
    if (p->kind != AHCI_NONE) {
        p->serr |= SERR_X;
        port_signature_fis(p);
        port_raise(p, PORT_PCS);
    }
}

/* --- registers --- */

static uint32_t port_read(struct ahci_port *p, unsigned reg)
{
    switch (reg) {
    case PX_CLB:
        return (uint32_t)p->clb;
    case PX_CLBU:
        return (uint32_t)(p->clb >> 32);
    case PX_FB:
        return (uint32_t)p->fb;
    case PX_FBU:
        return (uint32_t)(p->fb >> 32);
    case PX_IS:
        return p->is;
    case PX_IE:
        return p->ie;
    case PX_CMD:
        return p->cmd | CMD_ON | (p->cmd & CMD_ST ? CMD_CR : 0) | (p->cmd & CMD_FRE ? CMD_FR : 0);
    case PX_TFD:
        return p->tfd | ((p->issued & ~p->sact) ? ATA_BSY : 0);
    case PX_SIG:
        return p->sig;
    case PX_SSTS:
        return (p->sctl & 0xf) == 1 ? 0 : p->ssts;
    case PX_SCTL:
        return p->sctl;
    case PX_SERR:
        return p->serr;
    case PX_SACT:
        return p->sact;
    case PX_CI:
        return p->ci;
    default:
        return 0;
    }
}

static void port_write_cmd(struct ahci_port *p, uint32_t value)
{
    uint32_t old = p->cmd;
    p->cmd = (old & 0x1f00) | (value & (CMD_KEEP | CMD_FRE));
    if ((old & CMD_ST) && !(value & CMD_ST)) {
        port_abandon(p);
    }
    if (value & CMD_CLO) {
        p->tfd &= ~(uint32_t)(ATA_BSY | ATA_DRQ);
    }
    if (!(old & CMD_FRE) && (value & CMD_FRE) && p->kind != AHCI_NONE) {
        port_signature_fis(p);
    }
    port_kick(p);
}

static void port_write_sctl(struct ahci_port *p, uint32_t value)
{
    bool was = (p->sctl & 0xf) == 1;
    p->sctl = value & 0xfff;
    if (was && (value & 0xf) != 1) {
        port_comreset(p);
    }
}

static void port_write(struct ahci_port *p, unsigned reg, uint32_t value)
{
    switch (reg) {
    case PX_CLB:
        p->clb = (p->clb & ~0xffffffffull) | (value & ~0x3ffu);
        break;
    case PX_CLBU:
        p->clb = (uint32_t)p->clb | (uint64_t)value << 32;
        break;
    case PX_FB:
        p->fb = (p->fb & ~0xffffffffull) | (value & ~0xffu);
        break;
    case PX_FBU:
        p->fb = (uint32_t)p->fb | (uint64_t)value << 32;
        break;
    case PX_IS:
        p->is &= ~(value & IS_WRITABLE);
        ahci_update_irq(p->ahci);
        break;
    case PX_IE:
        p->ie = value & IE_WRITABLE;
        ahci_update_irq(p->ahci);
        break;
    case PX_CMD:
        port_write_cmd(p, value);
        break;
    case PX_SCTL:
        port_write_sctl(p, value);
        break;
    case PX_SERR:
        p->serr &= ~value;
        p->is &= (p->serr & SERR_X) ? ~0u : ~(uint32_t)PORT_PCS;
        break;
    case PX_SACT:
        p->sact |= (p->cmd & CMD_ST) ? value : 0;
        break;
    case PX_CI:
        p->ci |= (p->cmd & CMD_ST) ? value : 0;
        port_kick(p);
        break;
    default:
        break;
    }
}

static void ahci_reset_hba(struct ahci *a)
{
    a->ghc = GHC_AE;
    a->is = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        port_abandon(p);
        p->is = p->ie = p->cmd = p->sctl = p->serr = 0;
        p->software_reset = false;
        port_presence(p);
    }
}

static uint64_t ahci_read(void *opaque, uint64_t addr, unsigned size)
{
    struct ahci *a = opaque;
    if (addr >= HBA_PORTS) {
        unsigned n = (unsigned)(addr - HBA_PORTS) / 0x80;
        return n < AHCI_PORTS ? port_read(&a->port[n], addr & 0x7c) : 0;
    }
    switch (addr & ~3ull) {
    case HBA_CAP:
        return CAP_VALUE;
    case HBA_GHC:
        return a->ghc;
    case HBA_IS:
        return a->is;
    case HBA_PI:
        return (1u << AHCI_PORTS) - 1;
    case HBA_VS:
        return 0x00010301;
    default:
        return 0;
    }
}

static void ahci_write_ghc(struct ahci *a, uint32_t value)
{
    if (value & GHC_HR) {
        ahci_reset_hba(a);
    } else {
        a->ghc = GHC_AE | (value & GHC_IE);
    }
    ahci_update_irq(a);
}

static void ahci_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
    struct ahci *a = opaque;
    if (size != 4) {
        device_log_once("ahci", addr, "write of %u bytes to register %#x ignored", size,
                        (unsigned)addr);
        return;
    }
    if (addr >= HBA_PORTS) {
        unsigned n = (unsigned)(addr - HBA_PORTS) / 0x80;
        if (n < AHCI_PORTS) {
            port_write(&a->port[n], addr & 0x7c, (uint32_t)value);
        }
    } else if (addr == HBA_GHC) {
        ahci_write_ghc(a, (uint32_t)value);
    } else if (addr == HBA_IS) {
        ahci_acknowledge(a, (uint32_t)value);
    }
}

static const struct io_ops ahci_ops = {
    .name = "ahci", .read = ahci_read, .write = ahci_write, .max_size = 4, .min_size = 4};

/* The index/data pair in I/O space is not offered: BAR4 reads as absent registers. */
static uint64_t idp_read(void *opaque, uint64_t addr, unsigned size)
{
    return 0;
}

static void idp_write(void *opaque, uint64_t addr, uint64_t value, unsigned size)
{
}

static const struct io_ops idp_ops = {.name = "ahci-index", .read = idp_read, .write = idp_write};

static const struct pci_function_info ahci_info = {
    .vendor = 0x8086,
    .device = 0x2922,
    .subsystem_vendor = 0x8086,
    .subsystem = 0x2922,
    .class_code = 0x01,
    .subclass = 0x06,
    .prog_if = 0x01,
    .revision = 0x02,
    .interrupt_pin = 1,
    .bar = {[4] = {PCI_BAR_IO, 32, &idp_ops}, [5] = {PCI_BAR_MEM32, 4096, &ahci_ops}},
    .msi = true,
};

static void ahci_config_written(void *dev, uint32_t addr, unsigned size)
{
    struct ahci *a = dev;
    for (unsigned i = 0; addr <= 5 && i < AHCI_PORTS; i++) {
        port_kick(&a->port[i]);
    }
}

/* --- for the machine --- */

static bool ahci_init(void *dev, const struct device_host *host, const void *config, GError **error)
{
    struct ahci *a = dev;
    a->host = host;
    a->config = *(const struct ahci_config *)config;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        const struct ahci_port_config *c = &a->config.port[i];
        struct ahci_port *p = &a->port[i];
        p->ahci = a;
        p->number = i;
        p->kind = c->kind > AHCI_CDROM || (c->kind == AHCI_DISK && !c->block) ? AHCI_NONE : c->kind;
        p->block = p->kind == AHCI_NONE ? NULL : c->block;
        if (p->kind == AHCI_CDROM) {
            atapi_measure(p);
        }
        if (c->serial) {
            g_strlcpy(p->serial, c->serial, sizeof(p->serial));
        } else {
            g_snprintf(p->serial, sizeof(p->serial), "RS%08u", i + 1);
        }
    }
    a->pci.host = host;
    if (!pci_function_init(&a->pci, a->config.pci.bus, a->config.pci.devfn, a, &ahci_info, error)) {
        return false;
    }
    a->pci.config_written = ahci_config_written;
    ahci_reset_hba(a);
    return true;
}

static void ahci_fini(void *dev)
{
    struct ahci *a = dev;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        port_abandon(p);
        if (p->block) {
            block_drain(p->block);
        }
    }
    if (a->pci.info) {
        pci_function_fini(&a->pci);
    }
}

static void ahci_reset(void *dev)
{
    struct ahci *a = dev;
    ahci_reset_hba(a);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        a->port[i].clb = a->port[i].fb = 0;
        a->port[i].locked = false;
    }
    pci_function_reset(&a->pci);
}

static void ahci_reset_lines(void *dev)
{
    ahci_update_irq(dev);
}

static void port_state(struct ahci_port *p, struct state *s)
{
    uint8_t kind = (uint8_t)p->kind;
    state_u8(s, "kind", &kind);
    if (state_restoring(s) && kind != p->kind) {
        state_fail(s, "kind", "another kind of drive was there when the machine was saved");
    }
    state_u64(s, "clb", &p->clb);
    state_u64(s, "fb", &p->fb);
    state_u32(s, "is", &p->is);
    state_u32(s, "ie", &p->ie);
    state_u32(s, "cmd", &p->cmd);
    state_u32(s, "tfd", &p->tfd);
    state_u32(s, "sig", &p->sig);
    state_u32(s, "ssts", &p->ssts);
    state_u32(s, "sctl", &p->sctl);
    state_u32(s, "serr", &p->serr);
    state_u32(s, "sact", &p->sact);
    state_u32(s, "ci", &p->ci);
    state_u32(s, "kept", &p->kept);
    state_bool(s, "failed", &p->failed);
    state_bool(s, "software-reset", &p->software_reset);
    state_u8(s, "multiple", &p->multiple);
    state_u8(s, "transfer-mode", &p->transfer_mode);
    state_bytes(s, "ncq-error", p->ncq_error, sizeof(p->ncq_error));
    state_bool(s, "write-cache", &p->write_cache);
    state_u8(s, "sense", &p->sense);
    state_u8(s, "asc", &p->asc);
    state_u8(s, "ascq", &p->ascq);
    state_bool(s, "attention", &p->attention);
    state_u8(s, "attention-asc", &p->attention_asc);
    state_bool(s, "locked", &p->locked);
    state_bool(s, "tray-open", &p->tray_open);
    state_u8(s, "media-event", &p->media_event);
}

static void ahci_state(void *dev, struct state *s)
{
    struct ahci *a = dev;
    pci_function_state(&a->pci, s);
    state_u32(s, "ghc", &a->ghc);
    state_u32(s, "is", &a->is);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        state_push(s, "port", i);
        port_state(&a->port[i], s);
        state_pop(s);
    }
}

/* Only kept requests were under way when the state was saved (see ahci_busy). */
static bool ahci_restored(void *dev, GError **error)
{
    struct ahci *a = dev;
    a->ghc = GHC_AE | (a->ghc & GHC_IE);
    a->is &= (1u << AHCI_PORTS) - 1;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        p->clb &= ~0x3ffull;
        p->fb &= ~0xffull;
        p->kept &= p->ci | p->sact;
        p->issued = p->kept;
        p->multiple = MIN(p->multiple, 16);
    }
    pci_function_restored(&a->pci);
    return true;
}

static bool ahci_busy(void *dev)
{
    return ((struct ahci *)dev)->in_flight > 0;
}

void ahci_retry(void *dev)
{
    struct ahci *a = dev;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];
        uint32_t kept = p->kept;
        p->kept = 0;
        for (unsigned slot = 0; slot < 32; slot++) {
            if (kept & p->issued & 1u << slot) {
                slot_start(p, slot, true);
            }
        }
        port_kick(p);
    }
}

bool ahci_has_kept(void *dev)
{
    uint32_t kept = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        kept |= ((struct ahci *)dev)->port[i].kept;
    }
    return kept != 0;
}

static struct ahci_port *ahci_drive(void *dev, unsigned port)
{
    struct ahci *a = dev;
    return port < AHCI_PORTS && a->port[port].kind == AHCI_CDROM ? &a->port[port] : NULL;
}

bool ahci_insert(void *dev, unsigned port, struct block *block)
{
    struct ahci_port *p = ahci_drive(dev, port);
    if (!p || !block) {
        return false;
    }
    if (p->block) {
        block_drain(p->block);
    }
    p->block = block;
    p->tray_open = false;
    atapi_medium_changed(p, true);
    return true;
}

bool ahci_eject(void *dev, unsigned port, bool force)
{
    struct ahci_port *p = ahci_drive(dev, port);
    if (!p) {
        return false;
    }
    if (!p->block) {
        return true;
    }
    if (p->locked && !force) {
        p->media_event = 1;
        return false;
    }
    block_drain(p->block);
    p->block = NULL;
    p->locked = false;
    atapi_medium_changed(p, false);
    return true;
}

bool ahci_tray_open(void *dev, unsigned port)
{
    struct ahci_port *p = ahci_drive(dev, port);
    return p && p->tray_open;
}

const struct device_class ahci_device = {
    .name = "ich9-ahci",
    .size = sizeof(struct ahci),
    .version = 1,
    .init = ahci_init,
    .fini = ahci_fini,
    .reset = ahci_reset,
    .reset_lines = ahci_reset_lines,
    .state = ahci_state,
    .restored = ahci_restored,
    .busy = ahci_busy,
};
