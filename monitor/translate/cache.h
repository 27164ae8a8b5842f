/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One CPU's code cache: a memfd mapped twice (written through `rw`, run from `rx`), the blocks in
 * it in address order, and the thunks at its start.
 */
#pragma once

#include "cpu.h"
#include "emit.h"

#define BLOCK_MAX_INSTRUCTIONS 64u
#define BLOCK_ROOM             (32u * 1024) /* no block's code is longer, nor its slow paths */
#define LINK_CALL              5u           /* bytes of what asks for a link */
#define BLOCK_HASH_BITS        16
#define BLOCK_WAYS             8u
#define BLOCK_HASH             (1u << BLOCK_HASH_BITS)
#define MOVABLE_BITS           16
#define MOVABLE_SETS           (1u << MOVABLE_BITS)
#define MOVABLE_WAYS           4u

/* Maps host code to guest instructions: from `at` on it belongs to the instruction of `length`
 * bytes at `guest` (offset from the block's start). `at` is an offset from the block's code, or
 * SITE_COLD and one from its slow paths; both are shorter than BLOCK_ROOM. There is one for each
 * instruction and slow path: they are small. */
#define SITE_COLD 0x8000u
struct site {
    uint16_t at;
    uint16_t guest : 10, length : 4;
};

/* Host code that accesses memory through a window, and the way round it when the window has nothing
 * there. That way wants the linear address in R14 unless it makes it anew. */
struct window_site {
    uint16_t op, size; /* offset from the block's code */
    uint16_t stub;     /* offset from its slow paths */
    bool kept;         /* R14 was overwritten: its value is in vcpu.tmp[4] */
};

/* A direct jump to another block that may be linked. */
struct link {
    uint16_t patch; /* the rel32, from the block's code on */
    uint16_t stub;  /* where it points while unlinked, from the slow paths on */
    uint16_t call;  /* what asks for the link, at the stub's end, likewise; see link_make */
    struct block *from, *to;
    struct link *in_next, **in_at;     /* among the links into `to`, while there is one */
    struct link *page_next, **page_at; /* among those to its page from others, if it is one */
    uint64_t target;                   /* linear */
};

/* What the longest block can take: 64 instructions of 15 bytes, and some to decode the last. */
#define BLOCK_BYTES 992u
#define FIXES_MAX   1536u /* of one block */

/* A place in a block's host code that depends on where the block is, in our address space or the
 * guest's; see clone.c. */
enum fix_kind {
    FIX_REL32, /* a jump or call that may lead out of its part of the block */
    FIX_RIP64  /* an address relative to the block's own */
};
struct fix {
    uint16_t at;  /* offset in its part */
    uint8_t cold; /* which part */
    uint8_t kind;
};

struct block {
    uint64_t linear;
    uint64_t page[2]; /* pool offsets of the first and (if it spans two) the second page, else -1 */
    uint32_t code, code_end, cold, cold_end;
    uint16_t mode; /* interned mode number */
    uint16_t guest_size, first_offset;
    uint16_t sites_count, window_sites_count, fixes_count;
    uint8_t links;
    bool valid;
    bool movable; /* may be cloned for another linear address */
    bool global;  /* of a global page of the kernel's */
    struct site *sites;
    struct window_site *window_sites;
    struct block *page_next[2], **page_at[2]; /* in the list of each page, while valid */
    struct link *links_in;
    struct link *link; /* the block's own */
    struct fix *fixes;
};
_Static_assert(sizeof(struct block) == 128, "two cache lines: there are many");

/* An offset in the cache as struct site has it. The slow paths lie behind all code of the region.
 */
static inline uint16_t block_at(const struct block *b, uint32_t offset)
{
    return offset >= b->cold ? SITE_COLD | (offset - b->cold) : offset - b->code;
}

struct mode_key {
    uint32_t flags, cs_base;
    unsigned slot; /* of the jump table */
};

struct page_blocks {
    uint64_t page; /* pool offset */
    struct block *blocks;
    struct page_blocks *next;
    uint64_t code;   /* bit i: blocks may be made of bytes of the page's i-th 64 */
    uint16_t writes; /* to the page since it was last without code */
    uint16_t emptied;
};

/* The cache consists of regions; when the one being filled is full, an old one is emptied and
 * reused. Kernel and user code fill regions of their own, since a kernel lives longer than what
 * runs under it. */
#define CACHE_REGIONS 16u
#define NO_REGION     ~0u
#define PAGE_POOL     65536u
enum code_class { CODE_USER, CODE_KERNEL, CODE_CLASSES };
struct region {
    enum code_class owner;
    uint64_t since;        /* number of the filling that took it; 0: never used */
    size_t used, end;      /* offsets in the cache */
    size_t cold, cold_end; /* the slow paths of the same blocks */
    struct block *blocks;
    size_t blocks_count, blocks_max;
    struct site *sites;
    size_t sites_count, sites_max;
    struct window_site *window_sites;
    size_t window_sites_count, window_sites_max;
    struct link *links;
    size_t links_count, links_max;
    struct fix *fixes;
    size_t fixes_count, fixes_max;
};

struct code_cache {
    uint8_t *rw, *rx;
    size_t size;
    size_t start; /* end of the thunks */
    struct region region[CACHE_REGIONS];
    unsigned regions;
    unsigned filling[CODE_CLASSES];   /* the region being filled, or NO_REGION */
    unsigned current;                 /* that of the code at hand */
    uint64_t fillings, kernel_filled; /* kernel_filled: the last one that concerned a kernel */
    size_t region_size;
    unsigned hot_share[CODE_CLASSES]; /* sixteenths of a region that are not for slow paths */
    struct page_blocks *page_pool;
    size_t page_pool_used;
    uint64_t hash[BLOCK_HASH][BLOCK_WAYS];        /* of block pointers, tagged; latest first */
    uint32_t movable[MOVABLE_SETS][MOVABLE_WAYS]; /* blocks by place in a page, whatever the linear
                                                     address: region, number + 1; latest first */
    struct page_blocks *pages[4096];
    struct mode_key modes[4096];
    unsigned modes_count, mode_last;
    /* thunks, addresses in the RX view */
    uint8_t *thunk_call, *thunk_link, *thunk_indirect, *thunk_mem, *thunk_window, *thunk_anchor,
        *thunk_finish, *thunk_stop, *thunk_fault;
    uint8_t *thunk_jump[JUMP_SLOTS]; /* look R14 up in a slot of the jump table */
    uint8_t *thunk_resume, *thunk_go, *thunk_leave, *thunk_enter, *thunk_seg;
    void *scratch; /* the generator's decode buffers */
    uint64_t flushes;
};

/* Linear and physical addresses often differ by a constant: they must not cancel out. */
static inline uint64_t block_key(uint64_t linear, uint64_t page, uint32_t mode)
{
    return (linear + page * 31 + mode) * 0x9e3779b97f4a7c15ull;
}

/* cache.c */
struct code_cache *cache_new(size_t size);
void cache_free(struct code_cache *cache);
void cache_flush(struct vcpu *v); /* forgets every translation */
void cache_ready(struct vcpu *v); /* the current region is one for the code at hand, with room */
struct block *block_find_host(struct code_cache *cache, uint32_t offset);
static inline struct region *cache_region(struct code_cache *cache)
{
    return &cache->region[cache->current];
}
void thunks_generate(struct vcpu *v);

/* jump.c */
unsigned mode_intern(struct vcpu *v, uint32_t flags, uint32_t cs_base);
unsigned jump_slot_for(struct vcpu *v, uint32_t mode_number);
void *jump_look(const struct vcpu *v, unsigned slot, uint64_t rip);
void jump_install(struct vcpu *v, unsigned slot, uint64_t rip, void *code, bool global);
void jump_drop(struct vcpu *v, const struct block *b);
void jump_clear(struct vcpu *v);

/* block.c */
void block_drop(struct vcpu *v, struct block *b);
struct page_blocks *page_find(struct code_cache *c, uint64_t page, bool make);

/* clone.c: the same code at another linear address. The current region must have room. */
struct block *block_clone(struct vcpu *v, const struct block *from, uint64_t linear);
/* One that may be copied, at this place in a page; NULL: none. */
const struct block *movable_find(struct code_cache *c, uint64_t page, unsigned offset,
                                 uint32_t mode);
void movable_add(struct code_cache *c, const struct block *b);
void movable_drop(struct code_cache *c, const struct block *b);

/* link.c: links between pages hold while the target's page is mapped where it was. */
void link_detach(struct code_cache *c, struct link *link); /* takes it back */
void link_make(struct vcpu *v, struct link *link, struct block *to);
/* Which link's call returns to this offset in the cache. */
struct link *link_of_call(struct code_cache *c, uint32_t offset);
/* What asks for the link calls thunk_link (again). */
void link_ask(struct code_cache *c, const struct link *link);
/* Makes a new block's link lead to a place in the block itself. */
void link_close(struct code_cache *c, struct link *link, const uint8_t *code);
void links_check(struct vcpu *v, uint32_t space); /* 0: the kernel's */
void links_flush_page(struct vcpu *v, uint64_t linear);
void links_drop_local(struct vcpu *v); /* another address space is in force */

/* gen.c: translates from `bytes`, which holds `room` bytes from `linear` on, `page_room` of them in
 * its page, and appends the block to the current region. NULL: the first instruction goes on in the
 * next page; more bytes are needed. */
struct block *block_translate_bytes(struct vcpu *v, uint64_t linear, uint32_t mode_number,
                                    const uint8_t *bytes, unsigned room, unsigned page_room);
/* site.c: after a helper whose stores made the running block stale. */
void smc_check(struct vcpu *v);
