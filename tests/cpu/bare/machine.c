/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What needs a machine around the processor, and a second one: local APIC, its timer, interrupt
 * shadows, NMI, start-up, inter-processor interrupts, TLB shootdown, cross-modifying code. Runs in
 * ringside-monitor with two CPUs. SDM vol. 3, chapters 6, 9 and 11. */
#include <stddef.h>

#include "apic.h"

static volatile unsigned hits[256], order[64], order_count;
static volatile uint64_t hit_rip[256];
static bool x2apic;

static uint32_t apic_read(unsigned reg)
{
    return x2apic ? rdmsr(0x800 + reg / 16) : *(volatile uint32_t *)(APIC + reg);
}

static void apic_write(unsigned reg, uint32_t value)
{
    if (x2apic) {
        wrmsr(0x800 + reg / 16, value);
    } else {
        *(volatile uint32_t *)(APIC + reg) = value;
    }
}

static bool apic_bit(unsigned reg, unsigned vector)
{
    return apic_read(reg + vector / 32 * 16) >> (vector & 31) & 1;
}

static void send(uint32_t command)
{
    if (x2apic) {
        wrmsr(0x830, command | ((command & TO_OTHERS) ? 0 : 1ull << 32));
        return;
    }
    apic_write(APIC_ICR_HIGH, (command & TO_OTHERS) ? 0 : 1 << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & 1 << 12) {
    }
}

static void wait_cycles(uint64_t cycles)
{
    uint64_t from = tsc();
    while (tsc() - from < cycles) {
        __asm__ volatile("pause");
    }
}

#define SECOND 4000000000ull /* cycles: longer than any of these take */
#define WAIT_FOR(condition)                                                                        \
    ({                                                                                             \
        uint64_t from = tsc();                                                                     \
        while (!(condition) && tsc() - from < 5 * SECOND) {                                        \
            __asm__ volatile("pause");                                                             \
        }                                                                                          \
        (condition);                                                                               \
    })

static volatile unsigned other_hits, nmi_depth, nmi_deepest, nmis, nmi_plan;
static void (*volatile other_job)(void);

static bool is_other(void)
{
    return apic_read(APIC_ID) >> (x2apic ? 0 : 24);
}

static void on_nmi(void)
{
    nmis++;
    nmi_depth++;
    nmi_deepest = nmi_depth > nmi_deepest ? nmi_depth : nmi_deepest;
    if (nmi_plan && nmis == 1) {
        send(TO_SELF | MODE_NMI | ASSERT);
        wait_cycles(100000);
        if (nmi_plan == 2) { /* an IRET inside ends the blocking */
            __asm__ volatile("int $0x45");
        }
    }
    nmi_depth--;
}

/* Everything that is not an exception returns to where it was. */
static bool on_trap(struct frame *f)
{
    if (f->vector == NMI) {
        on_nmi();
    } else if (f->vector >= 0x50) {
        if (is_other()) {
            other_hits++;
            if (other_job) {
                other_job();
            }
        } else {
            hits[f->vector]++;
            hit_rip[f->vector] = f->rip;
            order[order_count++ % 64] = f->vector;
        }
        if (f->vector != 0xff) {
            apic_write(APIC_EOI, 0);
        }
    }
    return f->vector == NMI || f->vector == 0x45 || f->vector >= 0x50;
}

#define STI __asm__ volatile("sti; nop" ::: "memory")
#define CLI __asm__ volatile("cli" ::: "memory")

static void self_interrupts(void)
{
    CHECK(rdmsr(0x1b) >> 8 & 1); /* the bootstrap processor, enabled, at FEE00000 */
    CHECK((rdmsr(0x1b) & ~0xffull) == (APIC | 0x900));
    apic_write(APIC_SVR, 0x1ff);
    apic_write(APIC_TPR, 0);
    CLI;
    send(TO_SELF | 0x51);
    CHECK(apic_bit(APIC_IRR, 0x51) && !hits[0x51]);
    STI;
    CHECK(hits[0x51] == 1 && !apic_bit(APIC_IRR, 0x51) && !apic_bit(APIC_ISR, 0x51));
    CLI;
    order_count = 0;
    send(TO_SELF | 0x61);
    send(TO_SELF | 0x91);
    send(TO_SELF | 0x71);
    STI;
    CHECK(order_count == 3 && order[0] == 0x91 && order[1] == 0x71 && order[2] == 0x61);
    apic_write(APIC_TPR, 0x70); /* classes 0 to 7 wait */
    send(TO_SELF | 0x72);
    send(TO_SELF | 0x81);
    wait_cycles(100000);
    CHECK(hits[0x81] == 1 && !hits[0x72] && (apic_read(APIC_PPR) & 0xf0) == 0x70);
    __asm__ volatile("mov %0, %%cr8" : : "r"(0ull)); /* CR8 is the TPR */
    __asm__ volatile("nop");
    CHECK(WAIT_FOR(hits[0x72] == 1));
    uint64_t cr8;
    apic_write(APIC_TPR, 0x50);
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    CHECK(cr8 == 5);
    apic_write(APIC_TPR, 0);
    CLI;
}

/* What happens right behind the instruction that lets interrupts in. */
static void shadows(void)
{
    extern uint8_t sti_1[], popf_1[], iret_1[], hlt_1[], cr8_1[];
    CLI;
    hits[0x51] = 0;
    send(TO_SELF | 0x51);
    __asm__ volatile("sti\nnop\nsti_1: nop\ncli" ::: "memory");
    CHECK(hits[0x51] == 1 && hit_rip[0x51] == (uint64_t)sti_1);
    send(TO_SELF | 0x51);
    __asm__ volatile("sti\ncli\nnop\nnop" ::: "memory"); /* not a chance */
    CHECK(hits[0x51] == 1);
    __asm__ volatile("sti\nnop\ncli" ::: "memory");
    CHECK(hits[0x51] == 2);
    send(TO_SELF | 0x51);
    __asm__ volatile("pushfq\norq $0x200, (%%rsp)\npopfq\npopf_1: nop\ncli" ::: "memory");
    CHECK(hits[0x51] == 3 && hit_rip[0x51] == (uint64_t)popf_1);
    send(TO_SELF | 0x51);
    __asm__ volatile(
        "movq %%rsp, %%rax\npushq $0x10\npushq %%rax\npushq $0x202\npushq $8\npushq $iret_1\n"
        "iretq\niret_1: nop\ncli" ::
            : "rax", "memory");
    CHECK(hits[0x51] == 4 && hit_rip[0x51] == (uint64_t)iret_1);
    send(TO_SELF | 0x51);
    __asm__ volatile("movl $0x200, %%eax\npushfq\norq %%rax, (%%rsp)\npopfq\nnop\ncli" ::
                         : "rax", "memory");
    CHECK(hits[0x51] == 5);
    send(TO_SELF | 0x51);
    __asm__ volatile("sti\nhlt\nhlt_1: cli" ::: "memory"); /* the halt begins, then ends */
    CHECK(hits[0x51] == 6 && hit_rip[0x51] == (uint64_t)hlt_1);
    apic_write(APIC_TPR, 0xf0);
    send(TO_SELF | 0x51);
    STI;
    CHECK(hits[0x51] == 6);
    __asm__ volatile("mov %0, %%cr8\ncr8_1: nop" : : "r"(0ull) : "memory");
    CHECK(hits[0x51] == 7 && hit_rip[0x51] == (uint64_t)cr8_1);
    CLI;
}

static void long_string(void)
{
    apic_write(APIC_DIVIDE, 0xb);
    apic_write(APIC_TIMER, 0x53);
    hits[0x53] = 0;
    STI;
    apic_write(APIC_INITIAL, 20000);
    uint64_t to = 0x1800000, n = 16 << 20;
    extern uint8_t string_1[];
    bool inside = false;
    for (unsigned tries = 0; tries < 50 && !inside; tries++) {
        apic_write(APIC_INITIAL, 20000);
        to = 0x1800000;
        n = 16 << 20;
        __asm__ volatile("string_1: rep lodsb\nnop" : "+S"(to), "+c"(n) : : "rax", "memory");
        CHECK(n == 0 && to == 0x2800000);
        inside = hit_rip[0x53] == (uint64_t)string_1;
    }
    CHECK(inside);
    CLI;
    apic_write(APIC_TIMER, 1 << 16);
}

static void timer(void)
{
    apic_write(APIC_DIVIDE, 0xb); /* by 1 */
    apic_write(APIC_TIMER, 0x54);
    CLI;
    apic_write(APIC_INITIAL, 1000000);
    uint32_t first = apic_read(APIC_CURRENT);
    CHECK(first <= 1000000);
    STI;
    CHECK(WAIT_FOR(hits[0x54] == 1));
    CHECK(apic_read(APIC_CURRENT) == 0);
    wait_cycles(20000000);
    CHECK(hits[0x54] == 1); /* once */
    apic_write(APIC_TIMER, TIMER_PERIODIC | 0x55);
    apic_write(APIC_INITIAL, 1000000);
    CHECK(WAIT_FOR(hits[0x55] >= 5));
    apic_write(APIC_INITIAL, 0); /* stops it */
    wait_cycles(1000000);
    unsigned stopped = hits[0x55];
    wait_cycles(20000000);
    CHECK(hits[0x55] == stopped);
    apic_write(APIC_TIMER, 1 << 16 | 0x56); /* masked */
    apic_write(APIC_INITIAL, 1000);
    wait_cycles(10000000);
    CHECK(!hits[0x56]);
    uint32_t r[4];
    cpuid(1, 0, r);
    if (r[2] & 1u << 24) {
        apic_write(APIC_TIMER, 2 << 17 | 0x57);
        uint64_t due = tsc() + 3000000;
        wrmsr(0x6e0, due);
        CHECK(WAIT_FOR(hits[0x57] == 1));
        CHECK(tsc() >= due && rdmsr(0x6e0) == 0);
        wrmsr(0x6e0, tsc() + 100 * SECOND);
        wrmsr(0x6e0, 0); /* disarmed */
        CHECK(hits[0x57] == 1);
        wrmsr(0x6e0, 1); /* long past: at once */
        CHECK(WAIT_FOR(hits[0x57] == 2));
    }
    apic_write(APIC_TIMER, 1 << 16);
    /* HLT sleeps until the timer. */
    apic_write(APIC_TIMER, 0x58);
    CLI;
    apic_write(APIC_INITIAL, 2000000);
    __asm__ volatile("sti; hlt; cli" ::: "memory");
    CHECK(hits[0x58] == 1);
}

static void nmi(void)
{
    CLI;
    nmis = nmi_depth = nmi_deepest = 0;
    send(TO_SELF | MODE_NMI | ASSERT);
    CHECK(WAIT_FOR(nmis == 1)); /* whatever IF says */
    for (nmi_plan = 1; nmi_plan <= 2; nmi_plan++) {
        nmis = nmi_depth = nmi_deepest = 0;
        send(TO_SELF | MODE_NMI | ASSERT);
        CHECK(WAIT_FOR(nmis == 2));
        CHECK(nmi_deepest == nmi_plan); /* blocked until an IRET */
    }
    nmi_plan = 0;
}

static void pic_quiet(void)
{
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}

/* --- two processors --- */

static volatile unsigned ap_state, ap_command, ap_done;
static volatile uint64_t ap_cr0, ap_apic_base, shared_counter, ap_value;
extern volatile uint32_t ap_count;
void ap_main(void);

static void command_loop(void);

void ap_main(void)
{
    apic_write(APIC_SVR, 0x1ff);
    ap_cr0 = read_cr0();
    ap_apic_base = rdmsr(0x1b);
    ap_state = 1;
    STI;
    command_loop();
}

enum { COUNT = 1, READ_PAGE, CALL_CODE, STORE_BUFFER, STAMP, SLEEP };
#define PAGE ((volatile uint64_t *)0x8000000000ull)
#define CODE ((volatile uint8_t *)0x1700000)

static volatile uint64_t x_flag, y_flag, seen_other, turn, stamp;

static void count_up(void)
{
    for (unsigned i = 0; i < 300000; i++) {
        __asm__ volatile("lock incq %0" : "+m"(shared_counter));
    }
}

static void command_loop(void)
{
    for (;;) {
        switch (ap_command) {
        case COUNT:
            count_up();
            break;
        case READ_PAGE:
            while (ap_command == READ_PAGE) {
                ap_value = *PAGE;
            }
            continue;
        case CALL_CODE:
            while (ap_command == CALL_CODE) {
                ap_value = ((uint32_t(*)(void))CODE)();
            }
            continue;
        case STORE_BUFFER:
            y_flag = 1;
            __asm__ volatile("mfence" ::: "memory");
            seen_other = x_flag;
            break;
        case STAMP:
            while (ap_command == STAMP) {
                if (turn == 1) {
                    stamp = tsc();
                    turn = 0;
                }
                __asm__ volatile("pause");
            }
            continue;
        case SLEEP:
            ap_command = 0;
            ap_done++;
            __asm__ volatile("cli; hlt");
            ap_state = 99; /* only an NMI or INIT may wake it */
            break;
        default:
            __asm__ volatile("pause");
            continue;
        }
        ap_command = 0;
        ap_done++;
    }
}

static void command(unsigned what)
{
    unsigned done = ap_done;
    ap_command = what;
    CHECK(WAIT_FOR(ap_done != done));
}

static void start_other(void)
{
    ap_code_put();
    ap_state = 0;
    send(TO_OTHERS | MODE_INIT | ASSERT);
    wait_cycles(1000000);
    CHECK(!ap_state); /* it waits for the start-up */
    send(TO_OTHERS | MODE_SIPI | ASSERT | AP_PAGE);
    send(TO_OTHERS | MODE_SIPI | ASSERT | AP_PAGE); /* the second is of no consequence */
    CHECK(WAIT_FOR(ap_state == 1));
}

static void startup(void)
{
    start_other();
    CHECK(ap_count == 1);
    CHECK(!(ap_apic_base & 0x100) && (ap_apic_base & 0x800));
    for (unsigned i = 0; i < 300; i++) {
        unsigned before = other_hits;
        send(0x50); /* to CPU 1 */
        CHECK(WAIT_FOR(other_hits == before + 1));
    }
    command(SLEEP);
    send(0x50);
    wait_cycles(3000000);
    CHECK(ap_state == 1);
    start_other(); /* INIT wakes it from anything */
    CHECK(ap_count == 2);
}

static void atomics(void)
{
    shared_counter = 0;
    unsigned done = ap_done;
    ap_command = COUNT;
    count_up();
    CHECK(WAIT_FOR(ap_done != done));
    CHECK(shared_counter == 600000);
    for (unsigned i = 0; i < 2000;
         i++) { /* stores before loads, with a fence between: not both 0 */
        x_flag = y_flag = 0;
        done = ap_done;
        ap_command = STORE_BUFFER;
        x_flag = 1;
        __asm__ volatile("mfence" ::: "memory");
        uint64_t mine = y_flag;
        WAIT_FOR(ap_done != done);
        CHECK(mine || seen_other);
    }
    ap_command = STAMP;
    for (unsigned i = 0; i < 2000; i++) { /* time is one */
        uint64_t before = tsc();
        turn = 1;
        if (!WAIT_FOR(turn == 0)) {
            break;
        }
        CHECK(before <= stamp && stamp <= tsc());
    }
    ap_command = 0;
}

static uint64_t pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))),
    pt[512] __attribute__((aligned(4096)));

static void flush_page(void)
{
    invlpg((uint64_t)PAGE);
}

static void shootdown(void)
{
    uint64_t *pml4 = (uint64_t *)(read_cr3() & ~0xfffull);
    for (unsigned i = 0; i < 64; i++) {
        *(volatile uint64_t *)(0x1900000ull + 4096 * i) = i;
    }
    pt[0] = 0x1900003;
    pd[0] = (uint64_t)pt | 3;
    pdpt[0] = (uint64_t)pd | 3;
    pml4[1] = (uint64_t)pdpt | 3;
    ap_value = ~0ull;
    ap_command = READ_PAGE;
    CHECK(WAIT_FOR(ap_value == 0));
    other_job = flush_page;
    for (unsigned i = 1; i < 200; i++) {
        pt[0] = (0x1900000 + 4096 * (i % 64)) | 3;
        unsigned before = other_hits;
        send(0x50);
        WAIT_FOR(other_hits != before);
        uint64_t page = i % 64;
        CHECK(WAIT_FOR(ap_value == page));
    }
    other_job = NULL;
    ap_command = 0;
}

/* The other one runs what this one writes: never anything that was not written, and the last in the
 * end. */
static void cross_modifying(void)
{
    CODE[0] = 0x0f; /* nopl (%rax), so that the immediate is aligned */
    CODE[1] = 0x1f;
    CODE[2] = 0x00;
    CODE[3] = 0xb8; /* mov $imm, %eax; ret */
    *(volatile uint32_t *)(CODE + 4) = 0;
    CODE[8] = 0xc3;
    ap_value = ~0ull;
    ap_command = CALL_CODE;
    CHECK(WAIT_FOR(ap_value == 0));
    uint64_t last = 0;
    for (uint32_t i = 1; i < 400; i++) {
        *(volatile uint32_t *)(CODE + 4) = i;
        if (i % 8 == 0) {
            CHECK(WAIT_FOR(ap_value == i));
        }
        uint64_t now = ap_value;
        CHECK(now >= last && now <= i);
        last = now;
    }
    CHECK(WAIT_FOR(ap_value == 399));
    ap_command = 0;
}

static void other_nmi(void)
{
    nmis = nmi_depth = 0;
    send(MODE_NMI | ASSERT);
    CHECK(WAIT_FOR(nmis == 1));
}

static void extended_apic(void)
{
    uint32_t r[4];
    cpuid(1, 0, r);
    if (!(r[2] & 1u << 21)) {
        return;
    }
    uint64_t base = rdmsr(0x1b), value;
    CHECK(try_rdmsr(0x802, &value) == GP); /* not yet */
    CHECK(try_wrmsr(0x1b, (base & ~0x800ull) | 0x400) == GP);
    CHECK(try_wrmsr(0x1b, base | 1ull << 50) == GP);
    wrmsr(0x1b, base | 0x400);
    x2apic = true;
    CHECK(rdmsr(0x802) == 0);
    CHECK(try_wrmsr(0x1b, base) == GP); /* back to xAPIC only by way of off */
    CHECK(try_wrmsr(0x802, 1) == GP);   /* the ID is read-only */
    CHECK(try_rdmsr(0x831, &value) == GP);
    CHECK(try_wrmsr(0x80b, 1) == GP); /* EOI takes only 0 */
    CHECK(try_rdmsr(0x83f, &value) == GP);
    unsigned before = hits[0x59];
    STI;
    wrmsr(0x83f, 0x59);
    CHECK(WAIT_FOR(hits[0x59] == before + 1));
    CLI;
    wrmsr(0x1b, base & ~0x800ull);
    wrmsr(0x1b, base);
    x2apic = false;
    apic_write(APIC_SVR, 0x1ff);
}

/* Off in IA32_APIC_BASE: gone from CPUID and from memory; on again: as after reset. */
static void apic_off(void)
{
    uint32_t r[4];
    uint64_t base = rdmsr(0x1b);
    cpuid(1, 0, r);
    CHECK(r[3] & 1 << 9);
    wrmsr(0x1b, base & ~0x800ull);
    cpuid(1, 0, r);
    CHECK(!(r[3] & 1 << 9));
    CHECK(apic_read(APIC_ID) == 0xffffffff);
    wrmsr(0x1b, base);
    cpuid(1, 0, r);
    CHECK(r[3] & 1 << 9);
    CHECK(apic_read(APIC_SVR) == 0xff && apic_read(APIC_TIMER) == 1 << 16);
    CHECK(try_wrmsr(0x1b, base | 1ull << 45) == GP); /* beyond the physical addresses */
    CHECK(try_wrmsr(0x1b, base | 1) == GP);
    apic_write(APIC_SVR, 0x1ff);
    CHECK(apic_read(APIC_SVR) == 0x1ff);
}

/* Destinations: logical flat, broadcast, and vectors that are none. */
static void destinations(void)
{
    start_other();
    apic_write(0xe0, 0xffffffff); /* DFR: flat */
    apic_write(0xd0, 1 << 24);    /* LDR */
    STI;
    unsigned before = hits[0x5a];
    apic_write(APIC_ICR_HIGH, 1 << 24);
    apic_write(APIC_ICR, 0x5a | 1 << 11);
    CHECK(WAIT_FOR(hits[0x5a] == before + 1));
    apic_write(APIC_ICR_HIGH, 2 << 24); /* nobody */
    apic_write(APIC_ICR, 0x5a | 1 << 11);
    wait_cycles(1000000);
    CHECK(hits[0x5a] == before + 1);
    unsigned other = other_hits;
    send(0x5a | 2 << 18); /* all, with self */
    CHECK(WAIT_FOR(hits[0x5a] == before + 2 && other_hits == other + 1));
    send(0x5a | TO_OTHERS);
    CHECK(WAIT_FOR(other_hits == other + 2) && hits[0x5a] == before + 2);
    CLI;
    apic_write(0x280, 0); /* ESR */
    send(TO_SELF | 5);    /* vectors 0 to 15 are errors */
    apic_write(0x280, 0);
    CHECK(apic_read(0x280) & (1 << 5 | 1 << 6));
    apic_write(APIC_SVR, 0xff); /* software disable masks the local vectors */
    apic_write(APIC_TIMER, 0x54);
    CHECK(apic_read(APIC_TIMER) & 1 << 16);
    apic_write(APIC_SVR, 0x1ff);
}

int main_test(void)
{
    trap_hook = on_trap;
    pic_quiet();
    self_interrupts();
    shadows();
    timer();
    long_string();
    nmi();
    startup();
    atomics();
    shootdown();
    cross_modifying();
    other_nmi();
    destinations();
    extended_apic();
    apic_off();
    return 0;
}
