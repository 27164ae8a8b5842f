/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives /dev/ringside without a monitor, in the testbed:
 *
 *   driver_try guest            small real-mode guests; every outcome is checked
 *   driver_try hold             makes a machine that runs for ever, says HOLDING
 *   driver_try storm            the same with a guest that has exceptions without end
 *   driver_try fuzz N SEED      N random ioctls, of all files, with random and half-right arguments
 *   driver_try memory           what the kernel does with the process's memory, and pages of 2 MiB (reads debugfs)
 *   driver_try unlocked         a machine needs no memory that is locked
 *   driver_try touch            has a guest with 64 MiB that it has written to, says HOLDING
 *   driver_try kvm              has a machine of KVM's for ever, says HOLDING KVM
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../driver/ringside_abi.h"

#define RAM_SIZE 0x20000u

struct machine {
    int device, machine, cpu;
    bool intel;
    uint8_t *ram;
    struct ringside_run *run;
};

static void check(bool ok, const char *what)
{
    if (!ok) {
        printf("FAILED: %s (errno %d)\n", what, errno);
        exit(1);
    }
}

static struct machine machine_make(void)
{
    struct machine m;
    struct ringside_region ram = {.size = RAM_SIZE};
    struct ringside_info info;

    m.device = open("/dev/ringside", O_RDWR);
    check(m.device >= 0, "open /dev/ringside");
    check(ioctl(m.device, RINGSIDE_INFO, &info) == 0 && info.version == RINGSIDE_ABI_VERSION, "info");
    m.intel = info.vendor == RINGSIDE_VENDOR_INTEL;
    m.machine = ioctl(m.device, RINGSIDE_CREATE_MACHINE, 0);
    check(m.machine >= 0, "create a machine");
    m.ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ram.address = (uintptr_t)m.ram;
    check(ioctl(m.machine, RINGSIDE_MAP, &ram) == 0, "map memory");
    m.cpu = ioctl(m.machine, RINGSIDE_CREATE_CPU, 0);
    check(m.cpu >= 0, "create a CPU");
    m.run = mmap(NULL, info.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m.cpu, 0);
    check(m.run != MAP_FAILED, "map the run page");
    return m;
}

static void segment_set(struct ringside_segment *s, uint16_t attributes)
{
    *s = (struct ringside_segment){.limit = 0xffff, .attributes = attributes};
}

/* Real mode at 0:1000h, the stack below it. */
static void state_reset(struct ringside_run *run)
{
    struct ringside_state *s = &run->state;

    memset(run, 0, sizeof *run);
    for (unsigned i = 0; i < RINGSIDE_SEGMENTS; i++) {
        segment_set(&s->seg[i], i == RINGSIDE_CS ? 0x9b : i == RINGSIDE_TR ? 0x8b : i == RINGSIDE_LDTR ? 0x82 : 0x93);
    }
    s->gdtr_limit = s->idtr_limit = 0xffff;
    s->rip = s->gpr[4] = 0x1000;
    s->rflags = 2;
    s->cr0 = 0x10;
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->pat = 0x0007040600070406;
    s->xcr0 = 1;
}

static void code_put(struct machine *m, const void *code, size_t size)
{
    memcpy(m->ram + 0x1000, code, size);
    state_reset(m->run);
}

static uint32_t run(struct machine *m)
{
    int result;

    do {
        result = ioctl(m->cpu, RINGSIDE_RUN, 0);
    } while (result < 0 ? errno == EINTR : m->run->exit == RINGSIDE_EXIT_NONE);
    check(result == 0, "run");
    return m->run->exit;
}

static void guest_io(struct machine *m)
{
    static const uint8_t code[] = {0xb0, 'x', 0xba, 0xf8, 3, 0xee, 0xe5, 0x60, 0xf4}; /* out dx,al; in ax,60h; hlt */

    code_put(m, code, sizeof code);
    check(run(m) == RINGSIDE_EXIT_IO && m->run->io.port == 0x3f8 && m->run->io.size == 1 && !m->run->io.in &&
              (m->run->state.gpr[0] & 0xff) == 'x' && m->run->next_rip == 0x1006,
          "OUT exits");
    m->run->state.rip = m->run->next_rip;
    check(run(m) == RINGSIDE_EXIT_IO && m->run->io.port == 0x60 && m->run->io.size == 2 && m->run->io.in, "IN exits");
    m->run->state.rip = m->run->next_rip;
    check(run(m) == RINGSIDE_EXIT_HLT && m->run->state.rip == 0x1008, "HLT exits");
}

static void guest_memory(struct machine *m)
{
    static const uint8_t code[] = {0xb8, 0, 0xa0, 0x8e, 0xd8, 0xc6, 6, 5, 0, 7}; /* mov byte [a000:5],7 */

    code_put(m, code, sizeof code);
    check(run(m) == RINGSIDE_EXIT_MEMORY && m->run->memory.gpa == 0xa0005 && m->run->memory.write &&
              m->run->state.rip == 0x1005,
          "a write to nothing exits");
}

static void guest_read_only(struct machine *m)
{
    static const uint8_t code[] = {0xb8, 0, 0xf0, 0x8e, 0xd8, 0xa0, 0x10, 0, 0xa2, 0x10, 0};
    uint8_t *rom = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct ringside_region region = {
        .gpa = 0xf0000, .size = 4096, .address = (uintptr_t)rom, .flags = RINGSIDE_REGION_READ_ONLY};

    rom[0x10] = 0x5a;
    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map ROM");
    code_put(m, code, sizeof code);
    check(run(m) == RINGSIDE_EXIT_MEMORY && m->run->memory.gpa == 0xf0010 && m->run->memory.write &&
              (m->run->state.gpr[0] & 0xff) == 0x5a,
          "ROM is read, a write to it exits");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap ROM");
    code_put(m, code, sizeof code);
    check(run(m) == RINGSIDE_EXIT_MEMORY && !m->run->memory.write, "what was unmapped is not there");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) < 0 && errno == ENOENT, "unmapped twice");
}

static void guest_dirty(struct machine *m)
{
    static const uint8_t code[] = {0xb8, 0, 0xe0, 0x8e, 0xd8, 0xa2, 0, 0x10, 0xa0, 0, 0x20, 0xf4};
    uint8_t *vram = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t bits = 0;
    struct ringside_region region = {
        .gpa = 0xe0000, .size = 0x4000, .address = (uintptr_t)vram, .flags = RINGSIDE_REGION_LOG};
    struct ringside_dirty dirty = {.gpa = 0xe0000, .size = 0x4000, .bitmap = (uintptr_t)&bits};

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map with logging");
    for (unsigned i = 0; i < 3; i++) {
        code_put(m, code, sizeof code);
        check(run(m) == RINGSIDE_EXIT_HLT, "the guest that writes");
        check(ioctl(m->machine, RINGSIDE_DIRTY, &dirty) == 0 && bits == 2, "the second page alone is dirty");
        check(ioctl(m->machine, RINGSIDE_DIRTY, &dirty) == 0 && bits == 0, "and only once");
    }
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

static void guest_interrupt(struct machine *m)
{
    static const uint8_t code[] = {0xfa, 0x90, 0xfb, 0x90, 0x90, 0xeb, 0xfe}; /* cli; nop; sti; nop; nop; jmp $ */
    static const uint8_t handler[] = {0xb0, 1, 0xf4};
    const uint16_t vector[2] = {0x2000, 0};

    code_put(m, code, sizeof code);
    memcpy(m->ram + 0x2000, handler, sizeof handler);
    memcpy(m->ram + 0x20 * 4, vector, 4);
    m->run->flags = RINGSIDE_RUN_WINDOW;
    check(run(m) == RINGSIDE_EXIT_WINDOW && m->run->state.rip == 0x1004, "the window opens after STI's shadow");
    m->run->flags = 0;
    m->run->event = RINGSIDE_EVENT_VALID | 0x20;
    check(run(m) == RINGSIDE_EXIT_HLT && m->run->state.rip == 0x2002 && !m->run->event, "the interrupt is delivered");
    check(m->run->state.gpr[4] == 0x1000 - 6 && !(m->run->state.rflags & 0x200), "its frame");
}

static void guest_instructions(struct machine *m)
{
    static const uint8_t cpuid[] = {0x0f, 0xa2}, vmmcall[] = {0x0f, 1, 0xd9},
                         vmcall[] = {0x0f, 1, 0xc1}, triple[] = {0xcc};

    code_put(m, cpuid, sizeof cpuid);
    check(run(m) == RINGSIDE_EXIT_INSTRUCTION && m->run->state.rip == 0x1000 && m->run->detail == RINGSIDE_DETAIL_CPUID,
          "CPUID exits");
    code_put(m, m->intel ? vmcall : vmmcall, sizeof vmcall);
    check(run(m) == RINGSIDE_EXIT_INSTRUCTION && !m->run->detail, "the vendor's hypercall exits");
    code_put(m, triple, sizeof triple);
    m->run->state.idtr_limit = 0;
    check(run(m) == RINGSIDE_EXIT_SHUTDOWN, "a triple fault exits");
    code_put(m, cpuid, sizeof cpuid);
    m->run->state.cr0 = 0x20000010; /* NW without CD */
    check(run(m) == RINGSIDE_EXIT_REFUSED, "an impossible state is refused");
    code_put(m, cpuid, sizeof cpuid);
    m->run->state.rflags = 0; /* bit 1 is always set */
    check(!m->intel || run(m) == RINGSIDE_EXIT_REFUSED, "Intel's entries refuse more");
}

static volatile struct ringside_run *alarmed;

static void on_alarm(int sig)
{
    alarmed->immediate_exit = 1;
}

static void guest_signals(struct machine *m)
{
    static const uint8_t code[] = {0x40, 0xeb, 0xfd}; /* inc ax; jmp */
    struct sigaction action = {.sa_handler = on_alarm};
    int result;

    code_put(m, code, sizeof code);
    alarmed = m->run;
    sigaction(SIGALRM, &action, NULL);
    ualarm(100000, 0);
    while ((result = ioctl(m->cpu, RINGSIDE_RUN, 0)) == 0 && !m->run->immediate_exit) {
    }
    check(result < 0 && errno == EINTR, "a signal ends the run");
    check(ioctl(m->cpu, RINGSIDE_RUN, 0) == 0 && m->run->exit == RINGSIDE_EXIT_NONE, "so does immediate_exit");
}

static void handler_put(struct machine *m, unsigned vector, const void *code, size_t size)
{
    const uint16_t entry[2] = {0x2000, 0};

    memcpy(m->ram + 0x2000, code, size);
    memcpy(m->ram + vector * 4, entry, 4);
}

/* A breakpoint at the handler of breakpoints: whenever a turn ends, the next #DB is on its way. The stack, 64 KiB that it goes
 * round in, lies apart. (TCG's VMRUN arms no breakpoint; there it is a loop.) */
static void storm_put(struct machine *m)
{
    static const uint8_t code[] = {0xcd, 1}, handler[] = {0xeb, 0xfe}; /* int 1 / jmp $ */

    code_put(m, code, sizeof code);
    handler_put(m, 1, handler, sizeof handler);
    m->run->state.seg[RINGSIDE_SS].base = 0x10000;
    m->run->state.dr[0] = 0x2000;
    m->run->state.dr7 = 0x401;
}

static void guest_storm(struct machine *m)
{
    int result;

    storm_put(m);
    ualarm(50000, 0);
    while ((result = ioctl(m->cpu, RINGSIDE_RUN, 0)) == 0 && !m->run->immediate_exit) {
    }
    check(result < 0 && errno == EINTR, "a signal ends the run between exceptions without end");
    check(ioctl(m->cpu, RINGSIDE_RUN, 0) == 0 && m->run->exit == RINGSIDE_EXIT_NONE, "so does immediate_exit");
    if (m->intel) {
        check((uint32_t)m->run->event == (RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_EXCEPTION | 1), "the next is told");
    }
}

static void guest_vectors(struct machine *m)
{
    static const uint8_t code[] = {0x0f, 0x58, 0xc1, 0xf4}; /* addps xmm0,xmm1 */
    const float one[4] = {1, 2, 3, 4}, two[4] = {10, 20, 30, 40};
    volatile double ours = 1.25;
    double before = ours * 3;

    code_put(m, code, sizeof code);
    m->run->state.cr4 = 0x600;
    m->run->xsave[0] = 0x7f;
    m->run->xsave[1] = 3;
    memcpy(m->run->xsave + 24, &(uint32_t){0x1f80}, 4);
    memcpy(m->run->xsave + 160, one, 16);
    memcpy(m->run->xsave + 176, two, 16);
    m->run->xsave[512] = 3;
    m->run->xsave_changed = 1;
    check(run(m) == RINGSIDE_EXIT_HLT, "the guest that adds");
    check(((float *)(m->run->xsave + 160))[3] == 44 && ours * 3 == before, "vector registers are the guest's and ours");
}

/* --- modes --- */

static void put_word(struct machine *m, unsigned at, uint64_t value)
{
    memcpy(m->ram + at, &value, 8);
}

static void flat_segments(struct ringside_run *run, uint16_t code)
{
    for (unsigned i = RINGSIDE_ES; i <= RINGSIDE_GS; i++) {
        run->state.seg[i].attributes = i == RINGSIDE_CS ? code : 0xc93;
        run->state.seg[i].limit = 0xffffffff;
    }
}

static void paging_on(struct machine *m, uint64_t cr3, uint64_t efer)
{
    m->run->state.cr0 = 0x80010031;
    m->run->state.cr3 = cr3;
    m->run->state.cr4 = 0x20;
    m->run->state.efer = efer;
}

/* wrmsr KERNEL_GS_BASE; wrmsr LSTAR; swapgs; hlt: no exits, and the values are the guest's alone.
 */
static void guest_long_mode(struct machine *m)
{
    static const uint8_t code[] = {0xb9, 2,    1,    0,    0xc0, 0xb8, 0,    0x30, 0x22, 0x11,
                                   0xba, 0,    0x80, 0xff, 0xff, 0x0f, 0x30, 0xb9, 0x82, 0,
                                   0,    0xc0, 0x0f, 0x30, 0x0f, 1,    0xf8, 0xf4};
    struct ringside_state *s = &m->run->state;

    code_put(m, code, sizeof code);
    put_word(m, 0x8000, 0x9003);
    put_word(m, 0x9000, 0xa003);
    put_word(m, 0xa000, 0x83);
    flat_segments(m->run, 0xa9b);
    paging_on(m, 0x8000, 0x500);
    check(run(m) == RINGSIDE_EXIT_HLT && s->efer == 0x500, "the guest in long mode");
    check(s->seg[RINGSIDE_GS].base == 0xffff800011223000 && s->kernel_gs_base == 0 &&
              s->lstar == 0xffff800011223000,
          "its MSRs");
    check(run(m) == RINGSIDE_EXIT_HLT && s->lstar == 0xffff800011223000, "they stay");
}

/* mov eax,[40005000h]; hlt, with two sets of page tables. */
static void guest_pae(struct machine *m)
{
    static const uint8_t code[] = {0xa1, 0, 0x50, 0, 0x40, 0xf4};

    put_word(m, 0x8000, 0xa001);
    put_word(m, 0x8008, 0xb001);
    put_word(m, 0x8020, 0xa001);
    put_word(m, 0x8028, 0xc001);
    put_word(m, 0xa000, 0x83);
    put_word(m, 0xb000, 0x83);
    put_word(m, 0xc000, 0xd003);
    put_word(m, 0xd028, 0x6003);
    put_word(m, 0x5000, 0x1234);
    put_word(m, 0x6000, 0x5678);
    for (unsigned i = 0; i < 4; i++) {
        code_put(m, code, sizeof code);
        flat_segments(m->run, 0xc9b);
        paging_on(m, i & 1 ? 0x8020 : 0x8000, 0);
        check(run(m) == RINGSIDE_EXIT_HLT && m->run->state.gpr[0] == (i & 1 ? 0x5678 : 0x1234),
              "the guest with PAE");
    }
}

static void guest_debug(struct machine *m)
{
    static const uint8_t code[] = {0x40, 0x40, 0xf4}; /* inc ax; inc ax; hlt */
    static const uint8_t count[] = {0x41, 0xcf};      /* inc cx; iret */
    static const uint8_t look[] = {0x0f, 0x21, 0xf3, 0x41, 0x31, 0xc0, 0x0f, 0x23, 0xf8, 0xcf};
    struct ringside_state *s = &m->run->state;

    code_put(m, code, sizeof code);
    handler_put(m, 1, count, sizeof count);
    s->rflags = 0x102;
    check(run(m) == RINGSIDE_EXIT_HLT && s->gpr[1] == 2 && s->rip == 0x1002 && s->dr6 & 0x4000,
          "single steps");
    if (!m->intel) {
        return; /* TCG's VMRUN loads DR7, but arms no breakpoint by it; only the guest's own MOV to DR7 does */
    }
    code_put(m, code, sizeof code);
    handler_put(m, 1, look, sizeof look); /* mov ebx,dr6; inc cx; xor ax,ax; mov dr7,eax; iret */
    s->dr[0] = 0x1001;
    s->dr7 = 0x401;
    check(run(m) == RINGSIDE_EXIT_HLT && s->gpr[1] == 1 && (s->gpr[3] & 15) == 1 &&
              s->dr7 == 0x400 && s->gpr[0] == 1,
          "a breakpoint");
}

/* mov eax,1012h; mov dr0,eax; mov eax,401h; mov dr7,eax; 1012h: inc di; hlt */
static void guest_breakpoint(struct machine *m)
{
    static const uint8_t code[] = {0x66, 0xb8, 0x12, 0x10, 0,    0,    0x0f, 0x23, 0xc0, 0x66,
                                   0xb8, 1,    4,    0,    0,    0x0f, 0x23, 0xf8, 0x47, 0xf4};
    static const uint8_t look[] = {0x0f, 0x21, 0xf3, 0x41, 0x31, 0xc0, 0x0f, 0x23, 0xf8, 0xcf};
    struct ringside_state *s = &m->run->state;

    code_put(m, code, sizeof code);
    handler_put(m, 1, look, sizeof look);
    check(run(m) == RINGSIDE_EXIT_HLT && s->rip == 0x1013 && s->dr[0] == 0x1012, "the guest that sets a breakpoint");
    check(s->gpr[1] == 1 && (s->gpr[3] & 15) == 1 && s->gpr[7] == 1 && s->dr7 == 0x400, "comes by it once");
}

/* AMD's IRET exits; Intel's ends the block by itself, and the caller is told to look. */
static void guest_nmi(struct machine *m)
{
    static const uint8_t code[] = {0x90, 0xf4}, handler[] = {0x41, 0xcf};
    struct ringside_state *s = &m->run->state;
    unsigned told = 0;

    code_put(m, code, sizeof code);
    handler_put(m, 2, handler, sizeof handler);
    m->run->event = RINGSIDE_EVENT_VALID | RINGSIDE_EVENT_NMI | 2;
    s->nmi_blocked = 1;
    do {
        check(ioctl(m->cpu, RINGSIDE_RUN, 0) == 0 || errno == EINTR, "run");
        told += m->run->exit == RINGSIDE_EXIT_NONE && !s->nmi_blocked && s->rip == 0x1000;
    } while (m->run->exit == RINGSIDE_EXIT_NONE);
    check(s->gpr[1] == 1, "the NMI is delivered");
    check(m->intel ? m->run->exit == RINGSIDE_EXIT_HLT && told && !s->nmi_blocked
                   : m->run->exit == RINGSIDE_EXIT_INSTRUCTION && s->rip == 0x2001,
          "the end of its handler is told");
}

/* mov eax,cr4; or ah,20h; mov cr4,eax / mov eax,cr0; or al,1; mov cr0,eax; hlt */
static void guest_control_registers(struct machine *m)
{
    static const uint8_t vmxe[] = {0x0f, 0x20, 0xe0, 0x80, 0xcc, 0x20, 0x0f, 0x22, 0xe0};
    static const uint8_t pe[] = {0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0, 0xf4};

    code_put(m, pe, sizeof pe);
    check(run(m) == RINGSIDE_EXIT_HLT && m->run->state.cr0 == 0x11 && m->run->state.gpr[0] == 0x11,
          "CR0.PE");
    if (m->intel) {
        code_put(m, vmxe, sizeof vmxe);
        check(run(m) == RINGSIDE_EXIT_INSTRUCTION && m->run->state.gpr[0] == 0x2000 &&
                  m->run->state.cr4 == 0 && m->run->state.rip == 0x1006 &&
                  m->run->next_rip == 0x1009,
              "CR4.VMXE is not the guest's");
    }
}

static void guests(void)
{
    struct machine m = machine_make();
    static void (*const all[])(struct machine *) = {
        guest_io,           guest_memory,    guest_read_only,        guest_dirty, guest_interrupt,
        guest_instructions, guest_signals,   guest_storm,            guest_vectors, guest_debug, guest_breakpoint, guest_nmi,
        guest_pae,          guest_long_mode, guest_control_registers};

    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) {
        all[i](&m);
        printf("guest %u ok\n", i);
    }
    printf("GUESTS OK\n");
}

static void hold(void)
{
    static const uint8_t code[] = {0xc6, 6, 0, 0x50, 1, 0xeb, 0xf9};
    struct machine m = machine_make();

    code_put(&m, code, sizeof code);
    printf("HOLDING\n");
    fflush(stdout);
    run(&m);
}

static void storm(void)
{
    struct machine m = machine_make();

    storm_put(&m);
    printf("HOLDING\n");
    run(&m);
}

/* --- random calls --- */

static uint64_t seed;

static uint64_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Small, page-like, ours or anything. */
static uint64_t random_value(struct machine *m)
{
    switch (random_word() % 6) {
    case 0:
        return random_word() % 16;
    case 1:
        return random_word() % 64 * 4096;
    case 2:
        return (uintptr_t)m->ram + random_word() % 32 * 4096;
    case 3:
        return 1ull << random_word() % 64;
    case 4:
        return (uintptr_t)m->run;
    default:
        return random_word();
    }
}

static void state_scramble(struct machine *m)
{
    uint8_t *bytes = (uint8_t *)m->run;

    state_reset(m->run);
    for (unsigned n = random_word() % 6; n; n--) {
        unsigned at = random_word() % (sizeof *m->run - 8) & ~7u;
        uint64_t value = random_value(m);
        memcpy(bytes + at, &value, 8);
    }
    /* QEMU 7.2's TCG is lost at the end of a turn with EFER.LME and without CR4.PAE: it loads the host's CR0 before CR4 and EFER, and
     * does not take CR0.PG then. */
    if (!m->intel && m->run->state.efer & 0x100) {
        m->run->state.cr4 |= 0x20;
    }
    for (unsigned i = 0; i < 32; i++) {
        m->ram[0x1000 + i] = random_word();
    }
}

/* How often a kind of call was made, how long all took and the longest did. */
struct spent {
    unsigned long calls;
    uint64_t all, longest;
};

static uint64_t microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t spent_add(struct spent *s, uint64_t since)
{
    uint64_t now = microseconds();

    s->calls++;
    s->all += now - since;
    s->longest = now - since > s->longest ? now - since : s->longest;
    return now;
}

static void spent_print(unsigned long done, unsigned long worked, const struct spent *spent)
{
    static const char *const names[] = {"info", "machine", "map", "unmap", "dirty", "cpu", "run", "anew"};

    printf("FUZZING %lu, %lu worked; calls: ms (longest):", done, worked);
    for (unsigned i = 0; i < 8; i++) {
        printf(" %s %lu: %lu (%lu)", names[i], spent[i].calls, (unsigned long)spent[i].all / 1000,
               (unsigned long)spent[i].longest / 1000);
    }
    printf("\n");
}

static void fuzz(unsigned long rounds)
{
    static const unsigned long calls[] = {RINGSIDE_INFO,  RINGSIDE_CREATE_MACHINE, RINGSIDE_MAP, RINGSIDE_UNMAP,
                                          RINGSIDE_DIRTY, RINGSIDE_CREATE_CPU,     RINGSIDE_RUN};
    struct machine m = machine_make();
    struct sigaction action = {.sa_handler = on_alarm};
    struct spent spent[8] = {0};
    unsigned long worked = 0;
    uint64_t since = microseconds();

    alarmed = m.run;
    sigaction(SIGALRM, &action, NULL);
    for (unsigned long i = 0; i < rounds; i++) {
        int files[3] = {m.device, m.machine, m.cpu}, result;
        unsigned call = random_word() % 7;
        int fd = files[random_word() % 8 ? (call < 2 ? 0 : call < 6 ? 1 : 2) : random_word() % 3];
        uint64_t argument[4] = {random_value(&m), random_value(&m), random_value(&m), random_word() % 4};
        bool plain = call == 1 || call == 5 || call == 6;
        if (call == 6) {
            state_scramble(&m);
            ualarm(3000, 0);
        }
        result = ioctl(fd, calls[call], plain ? random_word() % 9 == 0 : random_word() % 9 ? (uintptr_t)argument : random_value(&m));
        worked += result >= 0;
        if (result > 2 && plain) {
            close(result);
        }
        since = spent_add(&spent[call], since);
        if (i % 64 == 63) { /* a fresh one */
            ualarm(0, 0);
            munmap(m.run, 4096);
            munmap(m.ram, RAM_SIZE);
            close(m.cpu);
            close(m.machine);
            close(m.device);
            m = machine_make();
            alarmed = m.run;
            since = spent_add(&spent[7], since);
        }
        if (i % 1000 == 999) {
            spent_print(i + 1, worked, spent);
        }
    }
    printf("FUZZED %lu, %lu worked\n", rounds, worked);
}

/* --- memory --- */

#define LARGE 0x200000u
#define AT    0x200000u /* where the guest has `big` */

/* 2 MiB pieces of memory that the kernel may make in one. */
static uint8_t *large_memory(size_t size)
{
    uint8_t *p = mmap(NULL, size + LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(p != MAP_FAILED, "large memory");
    p += -(uintptr_t)p & (LARGE - 1);
    check(madvise(p, size, MADV_HUGEPAGE) == 0, "MADV_HUGEPAGE");
    return p;
}

static long figure(const char *name)
{
    char path[80];
    long value = -1;
    FILE *file;

    snprintf(path, sizeof path, "/sys/kernel/debug/ringside/%s", name);
    file = fopen(path, "r");
    check(file && fscanf(file, "%ld", &value) == 1, path);
    fclose(file);
    return value;
}

static struct ringside_region region_at(uint64_t gpa, uint64_t size, void *address, uint32_t flags)
{
    return (struct ringside_region){.gpa = gpa, .size = size, .address = (uintptr_t)address, .flags = flags};
}

/* 32-bit code with flat segments; no paging. */
static void flat_put(struct machine *m, const void *code, size_t size)
{
    code_put(m, code, size);
    flat_segments(m->run, 0xc9b);
    m->run->state.cr0 = 0x11;
}

/* inc dword [esi]; mov eax,[esi]; hlt: what is there then. */
static uint32_t guest_adds(struct machine *m, uint32_t at)
{
    static const uint8_t code[] = {0xff, 6, 0x8b, 6, 0xf4};

    flat_put(m, code, sizeof code);
    m->run->state.gpr[6] = at;
    check(run(m) == RINGSIDE_EXIT_HLT, "the guest that adds to memory");
    return (uint32_t)m->run->state.gpr[0];
}

static volatile uint32_t *word(uint8_t *big, uint32_t at)
{
    return (volatile uint32_t *)(big + at - AT);
}

static void large_pages(struct machine *m)
{
    uint8_t *big = large_memory(2 * LARGE);
    struct ringside_region region = region_at(AT, 2 * LARGE, big, 0);

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map large memory");
    check(guest_adds(m, AT + 0x5008) == 1 && guest_adds(m, AT + 0x1ff000) == 1 && figure("pages_2m") == 1, "one large page");
    check(guest_adds(m, AT + LARGE) == 1 && figure("pages_2m") == 2, "two of them");
    check(*word(big, AT + 0x5008) == 1 && *word(big, AT + LARGE) == 1 && *word(big, AT + 0x5000) == 0, "are the process's");
    check(madvise(big + 0x5000, 4096, MADV_DONTNEED) == 0 && figure("pages_2m") == 1, "a piece goes, and the large page");
    check(guest_adds(m, AT + 0x5008) == 1 && guest_adds(m, AT + 0x1ff000) == 2 && figure("pages_2m") == 1,
          "the rest comes back in small pages");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0 && figure("pages_2m") == 0, "unmap");
    region = region_at(AT + 4096, LARGE, big + LARGE, 0);
    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0 && guest_adds(m, AT + 4096) == 2 && figure("pages_2m") == 0,
          "what does not lie alike is small");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
    region = region_at(AT + LARGE, LARGE - 4096, big + LARGE, 0);
    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0 && guest_adds(m, AT + LARGE) == 3 && figure("pages_2m") == 0,
          "what has no whole 2 MiB, too");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

static void large_dirty(struct machine *m)
{
    uint8_t *big = large_memory(LARGE);
    uint64_t bits[8];
    struct ringside_region region = region_at(AT, LARGE, big, RINGSIDE_REGION_LOG);
    struct ringside_dirty dirty = {.gpa = AT, .size = LARGE, .bitmap = (uintptr_t)bits};

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map large memory with a log");
    for (unsigned i = 1; i < 4; i++) {
        check(guest_adds(m, AT + 0x41000) == i && ioctl(m->machine, RINGSIDE_DIRTY, &dirty) == 0, "a write is recorded");
        check(bits[0] == 0 && bits[1] == 2 && bits[2] == 0 && figure("pages_2m") == 0, "of its 4 KiB alone");
    }
    check(madvise(big, LARGE, MADV_DONTNEED) == 0, "the memory goes");
    check(guest_adds(m, AT + 0x41000) == 1 && ioctl(m->machine, RINGSIDE_DIRTY, &dirty) == 0 && bits[1] == 2, "and is new");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

/* The child has what was there at the fork, the guest and we have what it writes afterwards. */
static void memory_forked(struct machine *m)
{
    uint8_t *big = large_memory(LARGE);
    struct ringside_region region = region_at(AT, LARGE, big, 0);
    int status, pipes[2];
    pid_t child;

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0 && guest_adds(m, AT) == 1 && pipe(pipes) == 0, "map");
    child = fork();
    if (child == 0) {
        char c;
        _exit(read(pipes[0], &c, 1) == 1 && *word(big, AT) == 1 ? 0 : 1);
    }
    check(guest_adds(m, AT) == 2 && *word(big, AT) == 2, "after a fork the guest writes to our page");
    check(write(pipes[1], "", 1) == 1 && waitpid(child, &status, 0) == child && status == 0, "not to the child's");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

static void memory_missing(struct machine *m)
{
    uint8_t *big = large_memory(LARGE);
    struct ringside_region region = region_at(AT, LARGE, big, 0);

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0 && guest_adds(m, AT + 8) == 1, "map");
    check(munmap(big, LARGE) == 0, "the process unmaps it");
    check(ioctl(m->cpu, RINGSIDE_RUN, 0) == 0 && m->run->exit == RINGSIDE_EXIT_HLT, "HLT again");
    m->run->state.rip = 0x1000;
    check(ioctl(m->cpu, RINGSIDE_RUN, 0) < 0 && errno == EFAULT && m->run->exit == RINGSIDE_EXIT_MEMORY &&
              m->run->memory.gpa == AT + 8 && m->run->state.rip == 0x1000,
          "memory that is not there is an error");
    check(mmap(big, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == big, "mmap");
    check(run(m) == RINGSIDE_EXIT_HLT && m->run->state.gpr[0] == 1, "with new memory the guest goes on");
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

static void *adder(void *opaque)
{
    struct machine *m = opaque;

    while (!m->run->immediate_exit && (ioctl(m->cpu, RINGSIDE_RUN, 0) == 0 || errno == EINTR)) {
        check(m->run->exit == RINGSIDE_EXIT_NONE, "the adding guest goes on");
    }
    return NULL;
}

/* A guest adds for ever; its page is taken away, moved and made anew. It must always be ours that it adds to. */
static void memory_moves(struct machine *m)
{
    static const uint8_t code[] = {0xff, 6, 0xeb, 0xfc}; /* inc dword [esi]; jmp */
    uint8_t *big = large_memory(LARGE);
    struct ringside_region region = region_at(AT, LARGE, big, 0);
    pthread_t thread;

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map");
    flat_put(m, code, sizeof code);
    m->run->state.gpr[6] = AT + 0x3004;
    check(pthread_create(&thread, NULL, adder, m) == 0, "a thread");
    for (unsigned i = 0, tries; i < 400; i++) {
        if (i % 2) {
            madvise(big, i % 4 == 1 ? LARGE : 0x4000, MADV_DONTNEED);
        } else { /* the page that was there goes, another comes */
            void *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memset(fresh, 0, 4096);
            check(mremap(fresh, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, big + 0x3000) != MAP_FAILED, "mremap");
        }
        uint32_t before = *word(big, AT + 0x3004);
        for (tries = 0; *word(big, AT + 0x3004) == before && tries < 3000; tries++) {
            usleep(1000);
        }
        check(tries < 3000, "the guest adds to what is there now");
    }
    m->run->immediate_exit = 1;
    pthread_join(thread, NULL);
    check(ioctl(m->machine, RINGSIDE_UNMAP, &region) == 0, "unmap");
}

static void memory(void)
{
    struct machine m = machine_make();

    large_pages(&m);
    large_dirty(&m);
    memory_forked(&m);
    memory_missing(&m);
    memory_moves(&m);
    printf("MEMORY OK\n");
}

/* mov [esi],esi; add esi,4096; loop; hlt */
static void guest_fills(struct machine *m, uint8_t *big, uint32_t pages)
{
    static const uint8_t code[] = {0x89, 0x36, 0x81, 0xc6, 0, 0x10, 0, 0, 0xe2, 0xf6, 0xf4};
    struct ringside_region region = region_at(AT, (uint64_t)pages * 4096, big, 0);

    check(ioctl(m->machine, RINGSIDE_MAP, &region) == 0, "map");
    flat_put(m, code, sizeof code);
    m->run->state.gpr[6] = AT;
    m->run->state.gpr[1] = pages;
    check(run(m) == RINGSIDE_EXIT_HLT && *word(big, AT + (pages - 1) * 4096) == AT + (pages - 1) * 4096, "memory is filled");
}

static void unlocked(void)
{
    char line[80];
    long locked = -1, pinned = -1;
    struct machine m;
    FILE *file;

    check(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){0, 0}) == 0, "no memory may be locked");
    m = machine_make();
    guest_fills(&m, large_memory(32 << 20), 8192);
    file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "VmLck: %ld", &locked);
        sscanf(line, "VmPin: %ld", &pinned);
    }
    check(locked == 0 && pinned == 0, "none is");
    printf("UNLOCKED OK\n");
}

/* Half in large pages, half in small ones. */
static void touch(void)
{
    struct machine m = machine_make();
    uint8_t *big = large_memory(64 << 20);

    check(madvise(big + (32 << 20), 32 << 20, MADV_NOHUGEPAGE) == 0, "MADV_NOHUGEPAGE");
    guest_fills(&m, big, 16384);
    printf("HOLDING\n");
    pause();
}

static void kvm(void)
{
    int device = open("/dev/kvm", O_RDWR);

    check(device >= 0, "open /dev/kvm");
    check(ioctl(device, KVM_CREATE_VM, 0) >= 0, "create a machine of KVM's");
    printf("HOLDING KVM\n");
    pause();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "guest") == 0) {
        guests();
    } else if (strcmp(what, "hold") == 0) {
        hold();
    } else if (strcmp(what, "storm") == 0) {
        storm();
    } else if (strcmp(what, "memory") == 0) {
        memory();
    } else if (strcmp(what, "unlocked") == 0) {
        unlocked();
    } else if (strcmp(what, "touch") == 0) {
        touch();
    } else if (strcmp(what, "kvm") == 0) {
        kvm();
    } else if (strcmp(what, "fuzz") == 0 && argc == 4) {
        seed = strtoull(argv[3], NULL, 0) | 1;
        fuzz(strtoul(argv[2], NULL, 0));
    } else {
        fprintf(stderr, "usage: driver_try guest|hold|storm|memory|unlocked|touch|kvm|fuzz N SEED\n");
        return 2;
    }
    return 0;
}
