/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The generator: turns decoded guest instructions into host code. gen.c drives, gen_copy.c
 * re-encodes the instructions that the host executes itself, gen_memory.c makes the access checks,
 * gen_branch.c control flow and the stack, gen_system.c everything that a helper does.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "cache.h"

#define FIELD(f) ((uint32_t)offsetof(struct vcpu, f))
#define GPR(n)   (FIELD(gpr) + 8 * (n))
#define NO_REG   0xff

struct insn {
    bool too_long; /* more than 15 bytes: #GP, not #UD */
    bool followed; /* Jcc: the block goes on where it jumps to, not behind it */
    ZydisDecodedInstruction d;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    const uint8_t *bytes;
    uint64_t rip; /* architectural (without CS base) */
    uint16_t offset;
    uint16_t flags_read, flags_killed;
    uint16_t live;   /* arithmetic flags that are needed before this instruction */
    int16_t unit[2]; /* which window its accesses were given, NO_UNIT: none */
    bool any[2];
};

/* How R14 is made, for the access that follows. */
struct address {
    uint8_t base; /* a 64-bit guest register plus `disp` and at most a small index, or NO_REG */
    bool pending; /* R14 is not made yet: the access may do without */
    int64_t disp;
    bool rip;               /* a constant relative to the instruction pointer */
    bool constant, guessed; /* `value` is known, or was right when the block was made */
    uint64_t value;
    bool pair; /* pair_base (or NO_REG) + pair_index * pair_scale + disp */
    uint8_t pair_base, pair_index, pair_scale;
};

/* Which guest registers that live in memory RCX, R14 and R15 hold a copy of; NO_REG: none. */
struct cached {
    uint8_t guest[3];
};

/* An access check's slow path, emitted after the block's straight code. */
struct slow {
    uint8_t *jump; /* rel32 that leads here */
    uint8_t *op, *op_end;
    uint32_t info;
    unsigned insn;
    bool popf; /* flags are on the host stack when we come here; pushed again before going back */
    bool segment; /* limit check rather than TLB */
    bool window;  /* the access goes through a window; `jump` may be NULL */
    bool any;     /* whichever unit the address is in */
    bool anchor;  /* later accesses rely on this one's comparison */
    bool kept;    /* as in struct window_site */
    int16_t unit;
    struct cached at_op, at_end; /* what the scratch registers must hold there */
    bool direct; /* the access is at [base + R15 + disp]: R14 has yet to be computed */
    struct address address;
};

/* A guest register, or a sum of two, that led into `unit` and moved little since. */
struct base_known {
    bool ok, used; /* used: for an access */
    int16_t unit;
    uint16_t slow; /* whose comparison said so */
    int64_t moved;
};
struct pair_known {
    uint8_t base, index, scale; /* base may be NO_REG */
    struct base_known known;
};
#define PAIRS 6

/* A block that jumps back to its start is made twice in a row: first as any block, then with what
 * is known by the end of the first time; the jump back leads to the second copy (gen_known.c). In
 * that, short loops are unrolled. */
struct loop {
    bool wanted, again; /* the last instruction jumps to the first; a second copy is to come */
    unsigned pass;      /* 1 in the second copy */
    unsigned rounds;    /* that the second copy holds (short loops several), less those made */
    uint16_t gone;      /* registers that a round changes other than by adding a constant */
    int64_t drift[16];  /* what it adds to the others */
    uint8_t *start;     /* of the second copy, and what was counted on there: */
    uint16_t small;
    int r15_unit;
    struct base_known known[16];
    struct pair_known pair[PAIRS];
    struct link *link; /* back to it */
};

/* R14 still holds this effective address. */
struct made {
    bool ok;
    uint8_t base, index, scale;
    int64_t disp;
};

struct stub {
    uint8_t *jump;
    struct link *link;
    uint64_t target;
};

#define NO_UNIT   INT16_MAX
#define MAX_SLOWS 256
#define MAX_STUBS (BLOCK_MAX_INSTRUCTIONS + 2)
#define MAX_SITES 1024 /* at most one an instruction and one a slow path */

struct gen {
    struct vcpu *v;
    struct code_cache *c;
    struct emitter e;
    struct block *b;
    uint32_t mode, cs_base;
    unsigned slot;
    enum mmu_index mmu;
    bool long_mode, ended;
    unsigned n, i;
    uint64_t next_rip; /* of the current instruction */
    struct insn *in;   /* the current one */
    struct slow slow[MAX_SLOWS];
    unsigned slows;
    struct stub stub[MAX_STUBS];
    unsigned stubs;
    struct site sites[MAX_SITES];
    unsigned sites_count;
    struct window_site window_sites[MAX_SLOWS];
    unsigned window_sites_count;
    struct fix fixes[FIXES_MAX];
    unsigned fixes_count;
    bool movable;      /* so far nothing in the block forbids cloning it */
    bool call_movable; /* the next helper call's arguments do not depend on the block's place */
    uint8_t *op_start;
    unsigned open_slow; /* first of the slow paths whose op is being emitted */
    struct address address;
    unsigned mem_base; /* host register; the access is at [mem_base + R15 + mem_disp] */
    int32_t mem_disp;
    struct base_known known[16];
    struct pair_known pair[PAIRS];
    unsigned pair_next;
    struct loop loop;
    uint16_t small;    /* guest registers that hold an index of at most 32 bits */
    uint16_t written;  /* guest registers that do not hold what they held at the block's start */
    bool called;       /* the current instruction called a helper */
    bool no_window;    /* its access may not fault on the host */
    unsigned accesses; /* of the current instruction so far */
    int r15_unit;      /* R15 holds the addend of this unit's window; NO_UNIT: who knows */
    bool r15_used;     /* the current instruction's accesses may find it there */
    bool r15_kept;     /* the current instruction leaves R15 as r15_unit says */
    int16_t last_unit;
    struct made made, made_before;
    struct cached cached, cached_before; /* now, and before the current instruction */
    bool caching;                        /* the current instruction keeps track of that */
    struct insn insns[BLOCK_MAX_INSTRUCTIONS];
};

/* Helper functions take (vcpu, r14, r15). */
typedef void (*helper_fn)(void);
#define HELPER(f) ((helper_fn)(void (*)(void))(f))

/* gen.c */
void gen_site(struct gen *g);
void gen_call(struct gen *g, helper_fn fn);
void gen_call_imm(struct gen *g, helper_fn fn, uint64_t a, uint64_t b);
void gen_ud(struct gen *g);
/* The same as their emit_ namesakes, for what depends on the block's place. */
void gen_fix(struct gen *g, const uint8_t *at, enum fix_kind kind);
void gen_mov_rip(struct gen *g, unsigned reg, uint64_t value);
void gen_jump_to(struct gen *g, const uint8_t *target); /* in the RW view */
void gen_call_to(struct gen *g, const uint8_t *target);
void gen_call_thunk(struct gen *g, const uint8_t *thunk); /* in the RX view */
void gen_patch_to(struct gen *g, uint8_t *at, const uint8_t *target);
bool gen_fast_flagless(void);

/* gen_memory.c */
unsigned gpr_number(ZydisRegister reg, bool *high);
unsigned host_reg(unsigned guest); /* NO_REG when it lives in memory */
unsigned gen_get(struct gen *g, unsigned guest, unsigned scratch);
void gen_put(struct gen *g, unsigned guest, unsigned host, unsigned size);
void gen_ea(struct gen *g, const ZydisDecodedOperand *op);
bool gen_ea_to(struct gen *g, const ZydisDecodedOperand *op, unsigned to, unsigned size);
void gen_linear(struct gen *g, const ZydisDecodedOperand *op, unsigned size, unsigned rw);
/* gen_linear and gen_access in one: the access need not compute R14 when a window serves. */
void gen_linear_access(struct gen *g, const ZydisDecodedOperand *op, unsigned size, unsigned rw);
/* ModRM, SIB and displacement for the access, with `reg` in ModRM.reg; the REX bits it needs. */
void gen_mem_modrm(struct gen *g, unsigned reg);
unsigned gen_mem_rex(const struct gen *g);     /* X << 1 | B */
void gen_mem_lea(struct gen *g, unsigned reg); /* reg := host address of the access, R14 is free */
void gen_segment(struct gen *g, unsigned seg, unsigned size, unsigned rw);
/* R14 holds a linear address: check the access; then the memory is at [r14+r15]. Between op_begin
 * (implied) and gen_op_end lies the code that accesses it; it may use rcx and must be
 * position-independent. */
void gen_access(struct gen *g, unsigned size, unsigned rw, bool stack);
void gen_op_end(struct gen *g);
void gen_mem_load(struct gen *g, unsigned reg, unsigned size); /* zero-extending, from [r14+r15] */
void gen_mem_store(struct gen *g, unsigned reg, unsigned size);
void gen_window_addend(struct gen *g, int unit); /* R15, unless it is there or NO_UNIT */
void gen_slow_paths(struct gen *g);
const ZydisDecodedOperand *insn_memory(const struct insn *in);
/* The value of an r/m or register operand (zero-extended) in `reg` (RCX, R14 or R15). */
void gen_operand_load(struct gen *g, const ZydisDecodedOperand *op, unsigned reg);

/* gen_known.c */
void cached_clear(struct gen *g);
void cached_resume(struct gen *g); /* from here on the instruction keeps track of them */
void cached_forget(struct gen *g, unsigned host); /* this register is written */
void cached_note(struct gen *g, unsigned host, unsigned guest);
unsigned cached_host(const struct gen *g, unsigned guest); /* or NO_REG */
void known_reset(struct gen *g);
/* What is known of the address's registers, or where to note it; NULL: nothing can be. */
struct base_known *known_of(struct gen *g, const struct address *a);
void known_update(struct gen *g);         /* after each instruction */
void loop_begin(struct gen *g, bool hot); /* the second copy starts here; unrolled if `hot` */
bool loop_holds(const struct gen *g);     /* at its end: is all there that it began with? */

/* gen_copy.c */
void gen_copy(struct gen *g);
void gen_lea(struct gen *g);
void gen_bit_memory(struct gen *g);
void gen_moffs(struct gen *g);
void gen_xlat(struct gen *g);
void gen_maskmov(struct gen *g);

/* gen_branch.c */
bool gen_is_jump_to(const struct gen *g, const struct insn *in, uint64_t rip); /* JMP or Jcc */
bool gen_branch(struct gen *g);                    /* false: not a branch or stack instruction */
void gen_exit(struct gen *g, uint64_t rip);        /* block's end: go on at a known rip */
void gen_exit_lookup(struct gen *g, uint64_t rip); /* the same with a full state lookup */
void gen_indirect(struct gen *g);                  /* go on at the rip in R14 */
void gen_stubs(struct gen *g);

/* gen_string.c */
bool gen_string(struct gen *g); /* false: not one */

/* gen_system.c */
bool gen_system(struct gen *g); /* false: not one of its instructions */
