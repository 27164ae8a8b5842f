/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator's CPU: everything that translated code, its helpers and the run loop share.
 *
 * While translated code runs, GS points at struct vcpu (glibc leaves GS alone on x86-64), the
 * host's x87/SSE/AVX registers are the guest's, the arithmetic flags are in EFLAGS and the guest's
 * registers are in host registers:
 *
 *   rax rdx rbx rbp rsi rdi      themselves
 *   rcx -> r13, rsp -> r12       renamed (rcx is scratch: JRCXZ tests without touching flags)
 *   r12-r15 -> r8-r11            renamed, since compilers use them more than
 *   r8-r11                       in vcpu.gpr[]
 *   host rcx, r14, r15               scratch; host rsp is the thread's own stack
 *
 * Helpers (C, built with -mgeneral-regs-only so that they leave the vector registers alone) are
 * called through a thunk that stores all of the state into struct vcpu and loads it again, so they
 * see and may change everything. Code that is not built so (libc, GLib, devices) runs between
 * outside_begin() and outside_end().
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../cpu_state.h"
#include "../engine.h"

#define TLB_BITS     10
#define TLB_SIZE     (1u << TLB_BITS)
#define TLB2_SIZE    4096u
#define JUMP_SIZE    65536u /* the index is the low half of the rip's CRC */
#define JUMP_SLOTS   24u    /* each is backed as far as it is used */
#define EXTENTS      8u
#define BOUNCE_SIZE  512u
#define MAX_CPUS     32u
#define PHYS_BITS    40u
#define WINDOW_UNITS 256u

enum mmu_index { MMU_KERNEL_SMAP, MMU_KERNEL, MMU_USER, MMU_INDEXES };
enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* What translated code depends on besides its bytes: the block key's mode flags. */
enum {
    MODE_CPL = 3,
    MODE_LONG = 1 << 2, /* CS.L: 64-bit code */
    MODE_D32 = 1 << 3,  /* CS.D */
    MODE_SS32 = 1 << 4, /* SS.B */
    MODE_PE = 1 << 5,
    MODE_VM = 1 << 6,
    MODE_MMU = 3 << 7,  /* enum mmu_index */
    MODE_FLAT = 1 << 9, /* << segment number (ES CS SS DS): base 0, limit 4 GiB, usable for all */
    MODE_TS = 1 << 13,
    MODE_EM = 1 << 14,
    MODE_OSFXSR = 1 << 15,
    MODE_AVX = 1 << 16,  /* OSXSAVE and XCR0 allow VEX */
    MODE_AC = 1 << 17,   /* alignment checks are on */
    MODE_IOPL = 1 << 18, /* CPL <= IOPL */
    MODE_TF = 1 << 19,
    MODE_STEP = 1 << 20,  /* one instruction, then back to the run loop */
    MODE_DEBUG = 1 << 21, /* enabled data or instruction breakpoints: every access looks */
    MODE_MP = 1 << 22,
    MODE_WINDOW = 1 << 23, /* memory is accessed through windows where they fit */
};
#define MODE_MMU_SHIFT 7

enum {
    EXC_DE,
    EXC_DB,
    EXC_NMI,
    EXC_BP,
    EXC_OF,
    EXC_BR,
    EXC_UD,
    EXC_NM,
    EXC_DF,
    EXC_CSO,
    EXC_TS,
    EXC_NP,
    EXC_SS,
    EXC_GP,
    EXC_PF,
    EXC_MF = 16,
    EXC_AC,
    EXC_MC,
    EXC_XM
};

enum {
    FLAG_CF = 1,
    FLAG_PF = 4,
    FLAG_AF = 16,
    FLAG_ZF = 64,
    FLAG_SF = 128,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
    FLAGS_ARITH = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF
};

#define CR0_PE         (1u << 0)
#define CR0_MP         (1u << 1)
#define CR0_EM         (1u << 2)
#define CR0_TS         (1u << 3)
#define CR0_ET         (1u << 4)
#define CR0_NE         (1u << 5)
#define CR0_WP         (1u << 16)
#define CR0_AM         (1u << 18)
#define CR0_NW         (1u << 29)
#define CR0_CD         (1u << 30)
#define CR0_PG         (1u << 31)
#define CR4_VME        (1u << 0)
#define CR4_PVI        (1u << 1)
#define CR4_TSD        (1u << 2)
#define CR4_DE         (1u << 3)
#define CR4_PSE        (1u << 4)
#define CR4_PAE        (1u << 5)
#define CR4_MCE        (1u << 6)
#define CR4_PGE        (1u << 7)
#define CR4_PCE        (1u << 8)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_FSGSBASE   (1u << 16)
#define CR4_PCIDE      (1u << 17)
#define CR4_OSXSAVE    (1u << 18)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)
#define EFER_SCE       (1u << 0)
#define EFER_LME       (1u << 8)
#define EFER_LMA       (1u << 10)
#define EFER_NXE       (1u << 11)

/* First-level TLB: probed by translated code. A tag is minus the page number, so that adding the
 * address's page number gives 0 on a hit; an empty one is 1, which no 52-bit page number cancels.
 */
struct tlb {
    uint64_t read[TLB_SIZE];
    uint64_t write[TLB_SIZE];
    uint64_t addend[TLB_SIZE]; /* host address - linear address */
};
#define TLB_EMPTY 1ull

enum {
    TLB2_USER = 1,
    TLB2_WRITE = 2,
    TLB2_NX = 4,
    TLB2_DIRTY = 8,
    TLB2_GLOBAL = 16,
    TLB2_LARGE = 32,
    TLB2_LOG = 64
};
struct tlb2 {
    uint64_t page; /* linear page number */
    uint32_t gen;
    uint32_t bits;
    uint64_t gpa;
    uint8_t *read, *write;
};

/* What a slot of the jump table holds, by page, so that parts of it can be emptied. */
#define JUMP_LOG     65535u
#define JUMP_BUCKETS 4096u
struct jump_log {
    unsigned used;
    bool nonglobal;
    uint16_t bucket[JUMP_BUCKETS]; /* 1 + the first entry of these pages, or 0 */
    struct {
        uint16_t index, next; /* in the slot; as in bucket[] */
    } entry[JUMP_LOG];
};

struct jump_entry {
    uint64_t tag; /* the complement of rip; 0: empty */
    void *code;
};

/* Blocks found lately, by linear address and the pool page behind it, so that it outlives a change
 * of CR3. */
struct resolved {
    uint64_t linear, page;
    struct block *block; /* in one page */
    uint32_t mode, code;
};
#define RESOLVED_SIZE 8192u

/* What is known of an instruction's memory accesses: which unit they go to. */
struct site_hint {
    uint64_t site; /* linear rip * 2 + 1 for a second access */
    int16_t unit;
    uint8_t misses, changes;
    bool any; /* goes to several units */
    bool tlb; /* no window suits it */
};
#define SITE_HINTS 65536u

/* A page that links from other pages lead to (link.c). */
struct linked_page {
    uint64_t linear, page; /* pool offset */
    struct link *links;
    uint32_t space; /* 0: a global page of the kernel's */
    bool used, user;
};
#define LINKED_BITS  14
#define LINKED_PAGES (1u << LINKED_BITS)

/* Guest-physical pages that are of one kind and follow each other in the pool. */
struct extent {
    uint64_t start, size;
    struct page_info first;
};

/* A segment register with what fast checks need: offsets above limit_read/limit_write go to the
 * slow check. */
struct segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attr;                   /* as in cpu_segment */
    int64_t limit_read, limit_write; /* -1: always slow */
};

enum {
    SEG_TYPE = 0xf,
    SEG_CODE = 8,
    SEG_CONFORMING = 4,
    SEG_EXPAND_DOWN = 4,
    SEG_RW = 2,
    SEG_ACCESSED = 1,
    SEG_S = 0x10,
    SEG_DPL_SHIFT = 5,
    SEG_P = 0x80,
    SEG_AVL = 0x1000,
    SEG_L = 0x2000,
    SEG_DB = 0x4000,
    SEG_G = 0x8000
};
#define SEG_DPL(attr) (((attr) >> SEG_DPL_SHIFT) & 3)

struct block;
struct code_cache;
struct translate;

/* Requests to a CPU thread (atomic bits). */
enum {
    REQ_PAUSE = 1,
    REQ_FLUSH = 2,
    REQ_INTERRUPT = 4,
    REQ_NMI = 8,
    REQ_INIT = 16,
    REQ_SIPI = 32,
    REQ_CODE = 64,
    REQ_EXIT = 128,
    REQ_DIRTY = 512
};

enum { DELIVERING_SOFT = 0x80, DELIVERING_EXTERNAL = 0x81 };

/* What the engine did (engine option "profile"). The list names and explains the fields. */
#define COUNTERS(X)                                                                                \
    X(exits, "times back in the run loop")                                                         \
    X(resolved, "looks for code that no link or table knew")                                       \
    X(blocks, "blocks translated")                                                                 \
    X(instructions, "guest instructions in them")                                                  \
    X(code_bytes, "bytes of host code in them, without slow paths")                                \
    X(clones, "blocks copied for another address")                                                 \
    X(dropped, "blocks dropped")                                                                   \
    X(regions, "times the oldest code made room")                                                  \
    X(links, "jumps that asked for a link")                                                        \
    X(unlinks, "pages whose links were taken back")                                                \
    X(code_writes, "writes to pages with code")                                                    \
    X(slow, "memory accesses the slow way")                                                        \
    X(walks, "page table walks")                                                                   \
    X(window_fills, "faults that filled a window")                                                 \
    X(window_detours, "faults in windows that took the slow way")                                  \
    X(window_misses, "accesses outside the window that was expected")                              \
    X(relearned, "blocks dropped for that")                                                        \
    X(flush_page, "invalidations of a page")                                                       \
    X(flush_space, "invalidations of an address space")                                            \
    X(flush_all, "invalidations of everything")                                                    \
    X(cr3_loads, "loads of CR3")                                                                   \
    X(syscalls, "SYSCALLs")                                                                        \
    X(irets, "IRETs")
struct counters {
#define COUNTER_FIELD(name, text) uint64_t name;
    COUNTERS(COUNTER_FIELD)
#undef COUNTER_FIELD
};

/* What a CPU's thread was found at (profile.h). */
enum {
    SAMPLE_CODE,
    SAMPLE_THUNKS,
    SAMPLE_TRANSLATION,
    SAMPLE_DEVICES,
    SAMPLE_REST,
    SAMPLES
};
#define HELPER_SAMPLES 96u
struct helper_samples {
    void *helper;
    uint64_t count;
};

/*
 * RSP points here while translated code runs, and the stack that it, the helpers it calls and the signals
 * it meets have lies below: so what blocks keep in memory has an address relative to RSP. Processors
 * forward stores to such loads at once where they take several cycles with a segment prefix.
 */
#define VCPU_STACK (1u << 20) /* the lowest page is a guard */
struct vcpu {
    struct vcpu *self;
    uint64_t gpr[16];
    uint64_t rip;      /* valid outside translated code */
    uint16_t flags_ax; /* AH: SF ZF AF PF CF, AL: OF (LAHF; SETO AL) */
    uint8_t flag_df, flag_if;
    uint32_t run;      /* 0: stop at the next safepoint */
    uint32_t finish;   /* a slow store has something left to do */
    uint32_t smc_exit; /* the block that is running is stale */
    uint32_t irq_waiting;
    uint64_t flags_sys; /* TF IOPL NT RF VM AC VIF VIP ID */
    uint64_t ret_pc;    /* host return address of the helper call under way; 0: rip is right */
    uint64_t tmp[6];
    uint64_t entry_rsp; /* of cpu_enter's caller */
    void *helper; /* that is running, while there is a profile */
    uint64_t index_mask, page_mask, bit_mask[3]; /* PEXT operands: 15, 31, 63 for BT */
    uint64_t unit_mask, slot_mask;           /* PEXT: the unit of a linear address, its low byte */
    uint64_t window_addend[2][WINDOW_UNITS]; /* [kernel]: host address - linear address */
    struct segment seg[CPU_SEGMENTS];
    uint8_t bounce[BOUNCE_SIZE + 64] __attribute__((aligned(64)));
    struct tlb tlb[MMU_INDEXES];
    struct jump_entry jump[JUMP_SLOTS][JUMP_SIZE] __attribute__((aligned(64)));

    /* Not touched by translated code. */
    struct translate *engine;
    unsigned index;
    struct code_cache *cache;
    struct block *resolved; /* by the last block_resolve, if it was looked at */
    struct block *relearn;  /* to be dropped once it has been left */
    uint64_t gdtr_base, idtr_base;
    uint16_t gdtr_limit, idtr_limit;
    uint64_t cr0, cr2, cr3, cr4, xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, tsc_adjust, tsc_aux, spec_ctrl;
    int64_t tsc_offset; /* guest TSC = host TSC + this, when the clock is the host's TSC */
    bool tsc_host;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[CPU_MTRRS], mtrr_mask[CPU_MTRRS];
    uint64_t pdpte[4];
    uint32_t mode; /* of the code about to run, see cpu_mode() */
    uint8_t cpl;
    bool shadow; /* interrupts are held off for one instruction */
    bool nmi_blocked, nmi_pending;
    bool soft_step;       /* MODE_STEP for the next block */
    bool single_pending;  /* #DB after this instruction: TF, data and port breakpoints */
    uint32_t pending_dr6; /* what that #DB will say in DR6 */
    uint8_t activity;
    uint16_t inject;    /* vector + 1 of an interrupt to deliver before the next instruction */
    uint8_t delivering; /* vector + 1 of the exception being delivered, DELIVERING_*, 0: none */
    uint32_t finish_kind, finish_size;
    uint64_t finish_linear;
    uint8_t *finish_host;
    uint32_t finish_bits;
    uint64_t finish_pages[2]; /* gpa of the first and the second page of a bounced store */
    uint8_t *finish_ptr[2];

    struct tlb2 tlb2[TLB2_SIZE];
    struct extent extent[EXTENTS]; /* looked up lately */
    unsigned extent_next;
    struct resolved recent[RESOLVED_SIZE];
    uint32_t gen, gen_global, gen_next;
    uint32_t pcid_gen[4096];
    uint64_t large_map[2][64]; /* filters over 4 MiB and 1 GiB units: large pages seen there since
                                  the last full flush */
    bool tlb_used[MMU_INDEXES];
    uint32_t jump_owner[JUMP_SLOTS]; /* interned mode, 0: free */
    uint64_t jump_used[JUMP_SLOTS];  /* the look-up that used it last */
    struct jump_log jump_log[JUMP_SLOTS];
    unsigned tlb_mask; /* TLB_SIZE - 1, or smaller when shaking */

    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
    uint8_t xsave_tmp[4096] __attribute__((aligned(64)));
    uint8_t host_fpu[512] __attribute__((aligned(64)));

    atomic_uint requests;
    atomic_bool outside; /* not using its TLB or code cache now */
    uint8_t sipi_vector;
    struct cpu_thread *thread;
    struct counters count;
    bool translating;
    uint64_t samples[SAMPLES];
    struct helper_samples helper_samples[HELPER_SAMPLES];

    struct windows *windows; /* window.c; NULL: there are none */
    unsigned unit_shift;
    uint32_t space; /* names the address space in force if it has windows, else 0 */
    uint64_t page_faults;
    struct site_hint hints[SITE_HINTS];
    struct linked_page linked[LINKED_PAGES];
    unsigned linked_count, linked_local; /* local: of an address space */
};

/* Instruction semantics of mode. */
static inline bool mode_long(uint32_t mode)
{
    return mode & MODE_LONG;
}
static inline bool cpu_long_active(const struct vcpu *v)
{
    return v->efer & EFER_LMA;
}
static inline bool cpu_real_or_v86(const struct vcpu *v)
{
    return !(v->cr0 & CR0_PE) || (v->flags_sys & FLAG_VM);
}

/* mode.c: EFLAGS in and out of the split form; the mode flags of the current state. */
uint64_t cpu_flags(const struct vcpu *v);
void cpu_set_flags(struct vcpu *v, uint64_t flags);
uint32_t cpu_mode(const struct vcpu *v);
static inline enum mmu_index cpu_mmu_index(const struct vcpu *v)
{
    if (v->cpl == 3) {
        return MMU_USER;
    }
    return (v->cr4 & CR4_SMAP) && !(v->flags_sys & FLAG_AC) ? MMU_KERNEL_SMAP : MMU_KERNEL;
}

/* What the processor itself reads and writes (descriptors, TSS, interrupt tables): AC does not lift
 * SMAP. */
static inline enum mmu_index cpu_implicit_index(const struct vcpu *v)
{
    return v->cr4 & CR4_SMAP ? MMU_KERNEL_SMAP : MMU_KERNEL;
}

/* fpu.c: the border between guest vector state and ordinary C code. */
void outside_begin(struct vcpu *v);
void outside_end(struct vcpu *v);
void fpu_save(struct vcpu *v);
void fpu_load(struct vcpu *v);

/* mmu.c. Linear accesses of helpers: raise on faults. `index`: as for the code that runs, or
 * cpu_implicit_index(). */
uint64_t mem_load(struct vcpu *v, uint64_t linear, unsigned size, enum mmu_index index);
void mem_store(struct vcpu *v, uint64_t linear, uint64_t value, unsigned size,
               enum mmu_index index);
void mem_load_bytes(struct vcpu *v, uint64_t linear, void *buf, unsigned size,
                    enum mmu_index index);
void mem_store_bytes(struct vcpu *v, uint64_t linear, const void *buf, unsigned size,
                     enum mmu_index index);
/* The host address of `linear` for `access`, when the whole of its page is plain memory that may be
 * accessed directly (and written without tracking); NULL: use mem_load/mem_store. Raises on faults.
 */
uint8_t *mem_direct(struct vcpu *v, uint64_t linear, enum access access, enum mmu_index index);
/* Checks that a write of `size` bytes would not fault, without writing. */
void mem_check_write(struct vcpu *v, uint64_t linear, unsigned size, enum mmu_index index);
/* Fetch translation: the guest-physical address and host page of code at `linear`. Raises. NULL
 * host: not memory. */
uint8_t *mem_fetch(struct vcpu *v, uint64_t linear, uint64_t *gpa, bool *global);
void tlb_flush_all(struct vcpu *v); /* global entries too */
void tlb_flush_nonglobal(struct vcpu *v);
void tlb_flush_page(struct vcpu *v, uint64_t linear);
void tlb_drop_writes(struct vcpu *v, uint64_t pool_offset, uint64_t len, bool mark_dirty);
void tlb_load_cr3(struct vcpu *v, uint64_t cr3, bool keep);
void tlb_pcid_flush(struct vcpu *v, unsigned pcid);
void page_cache_flush(struct vcpu *v);
bool pdptes_load(struct vcpu *v, uint64_t cr3); /* false: reserved bits are set */
/* Called by translated code. */
uint64_t helper_mem_slow(struct vcpu *v, uint64_t linear, uint64_t info);
void helper_mem_finish(struct vcpu *v);
/* site.c */
uint64_t helper_window_miss(struct vcpu *v, uint64_t linear, uint64_t info);
_Noreturn void helper_window_anchor(struct vcpu *v, uint64_t linear, uint64_t info);
uint64_t helper_segment_slow(struct vcpu *v, uint64_t offset, uint64_t info);
/* info words: size in bits 0-9, then these; segment number in bits 16-18.
 * INFO_ALIGN: #AC when misaligned; INFO_VECTOR: #GP when misaligned (SSE operands). */
enum {
    INFO_SIZE = 0x3ff,
    INFO_READ = 1 << 10,
    INFO_WRITE = 1 << 11,
    INFO_STACK = 1 << 12,
    INFO_ALIGN = 1 << 13,
    INFO_VECTOR = 1 << 14,
    INFO_SECOND = 1 << 19, /* the instruction's second access */
    INFO_ANY = 1 << 20,    /* a windowed access that expects no unit in particular */
    INFO_LOOP = 1 << 21    /* not compared in each round: in another unit the block ends */
};
#define INFO_UNIT_SHIFT 24 /* the unit that a windowed access expects, 8 bits */
#define INFO_SEG_SHIFT  16

/* interrupt.c. All of these end in cpu_resume(): they do not return. */
_Noreturn void raise_exception(struct vcpu *v, unsigned vector, uint32_t error);
_Noreturn void raise_page_fault(struct vcpu *v, uint64_t linear, uint32_t error);
_Noreturn void raise_soft(struct vcpu *v, unsigned vector, uint64_t next_rip);
_Noreturn void helper_raise_ud(struct vcpu *v);
_Noreturn void helper_raise_nm(struct vcpu *v);
_Noreturn void helper_raise_gp(struct vcpu *v);
_Noreturn void helper_int(struct vcpu *v, uint64_t next_rip, uint64_t vector);
_Noreturn void helper_int3(struct vcpu *v, uint64_t next_rip);
_Noreturn void helper_int1(struct vcpu *v, uint64_t next_rip);
void helper_into(struct vcpu *v, uint64_t next_rip);
_Noreturn void helper_iret(struct vcpu *v, uint64_t next_rip, uint64_t size);
_Noreturn void raise_host_fault(struct vcpu *v, unsigned vector);
/* Delivers an external interrupt or NMI from the run loop, may exit through cpu_resume(). */
void deliver_external(struct vcpu *v, unsigned vector);
void cpu_step_trap(struct vcpu *v);
/* A stack that is being written but not yet in force. */
struct stack {
    uint64_t rsp, base, mask;
    enum mmu_index index;
    uint32_t first, last; /* the offsets that it has, unless the mask is 64 bits */
    uint16_t error;       /* of #SS */
};
void stack_limits(struct stack *s, uint16_t attr, uint32_t limit);
struct stack stack_current(const struct vcpu *v);
void stack_push(struct vcpu *v, struct stack *s, uint64_t value, unsigned size);
uint64_t stack_pop(struct vcpu *v, struct stack *s, unsigned size);
void stack_commit(struct vcpu *v, const struct stack *s); /* rSP := s->rsp, as wide as SS says */
void cpu_triple_fault(struct vcpu *v) __attribute__((noreturn));
void cpu_check_breakpoint(struct vcpu *v, uint64_t linear);
void debug_data_access(struct vcpu *v, uint64_t linear, unsigned size, bool write);
void debug_port_access(struct vcpu *v, uint16_t port, unsigned size);
enum { DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15 };

/* segment.c */
struct descriptor {
    uint64_t base;
    uint32_t limit;
    uint16_t attr;
    uint64_t address; /* linear, of the descriptor itself */
    uint32_t low, high;
};
bool descriptor_read(struct vcpu *v, uint16_t selector, struct descriptor *d);
void descriptor_set_accessed(struct vcpu *v, struct descriptor *d);
void segment_set(struct vcpu *v, unsigned reg, uint16_t selector, const struct descriptor *d);
void segment_set_real(struct vcpu *v, unsigned reg, uint16_t selector);
void segment_set_null(struct vcpu *v, unsigned reg, uint16_t selector);
void segment_update(struct vcpu *v, unsigned reg);                  /* recompute the fast limits */
void segment_load(struct vcpu *v, unsigned reg, uint16_t selector); /* MOV/POP semantics, raises */
void segment_load_ldt(struct vcpu *v, uint16_t selector);
void segment_load_tr(struct vcpu *v, uint16_t selector);
void segment_check_return(struct vcpu *v, unsigned reg,
                          unsigned cpl); /* null it when too privileged */
uint64_t stack_mask(const struct vcpu *v);
uint64_t seg_mask(const struct vcpu *v, unsigned seg);
void tss_stack(struct vcpu *v, unsigned cpl, uint64_t *rsp, uint16_t *ss);
/* The stack segment for privilege level `cpl` (#TS when it is not fit). */
void stack_descriptor(struct vcpu *v, uint16_t ss, unsigned cpl, struct descriptor *d);
void code_descriptor_check_long(struct vcpu *v, const struct descriptor *d, uint16_t selector);
void helper_load_segment(struct vcpu *v, uint64_t selector, uint64_t reg);
void helper_pop_segment(struct vcpu *v, uint64_t reg, uint64_t size);
void helper_load_far_pointer(struct vcpu *v, uint64_t linear,
                             uint64_t packed); /* seg | dst<<8 | size<<16 */
/* selector | operand bytes<<32; the next rip is in vcpu.tmp[0] */
_Noreturn void helper_far_jump(struct vcpu *v, uint64_t packed, uint64_t offset);
_Noreturn void helper_far_call(struct vcpu *v, uint64_t packed, uint64_t offset);
_Noreturn void helper_far_ret(struct vcpu *v, uint64_t size, uint64_t extra);
void helper_lar(struct vcpu *v, uint64_t selector, uint64_t packed); /* dst | size<<8 | lsl<<16 */
void helper_verify(struct vcpu *v, uint64_t selector, uint64_t write);
void cpu_set_cpl(struct vcpu *v, unsigned cpl);

/* task.c */
enum task_cause { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_GATE };
void task_switch(struct vcpu *v, uint16_t selector, enum task_cause cause, uint64_t next_rip,
                 bool has_error, uint32_t error);

/* thunks.c: generated at start-up into the code cache. */
_Noreturn void cpu_resume(struct vcpu *v); /* goes on at v->rip with whatever the state is now */
_Noreturn void cpu_leave(struct vcpu *v);  /* back to the run loop */
void cpu_enter(struct vcpu *v);            /* from the run loop, returns after cpu_leave */

/* block.c */
void *block_resolve(struct vcpu *v); /* host code for v->rip in v's state; raises fetch faults */
void *block_resolve_for_link(struct vcpu *v); /* the same; the block is in v->resolved */
bool block_invalidate(struct vcpu *v, uint64_t pool_offset, uint64_t len); /* were any dropped? */
/* Drops the block that the last block_resolve found or made. */
void block_forget(struct vcpu *v);
void code_written(struct vcpu *v, uint8_t *host, unsigned len);

/* jump.c */
void jump_flush(struct vcpu *v, bool kernel);
void jump_flush_page(struct vcpu *v, uint64_t linear);

/* site.c */
void cpu_sync_rip(struct vcpu *v); /* v->rip := rip of the instruction that called the helper */
uint64_t cpu_next_rip(struct vcpu *v);

/* system.c, string.c, legacy.c, fpu.c: instruction helpers, see gen_system.c for their callers. */
uint64_t cpu_guest_tsc(struct vcpu *v);

/* vcpu.c */
void cpu_request(struct vcpu *v, unsigned request);
void cpu_service(struct vcpu *v); /* handle requests that concern caches; on the CPU's own thread */

static inline uint64_t mask_size(unsigned size)
{
    return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}
