/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest-physical memory: the backing pool and the map from guest-physical addresses to it.
 *
 * All memory that a guest can reach directly (RAM, video RAM, firmware ROM) lies in one pool: a single
 * memfd mapped shared at `base`, handed out page by page with memory_alloc(). So one page number,
 * (host - base) >> 12, names a page whatever guest addresses it appears at, and per-page facts
 * (`code`: an engine has translated code from it; `dirty`: written since last asked) are plain byte
 * arrays over the pool.
 *
 * The map is a list of mappings with priorities; the highest one that covers an address wins. It is
 * changed only with the machine lock held; lookups are lock-free for the engine's slow path: they read an
 * immutable sorted view that is swapped on change and freed when all engines have acknowledged
 * (memory_changed in engine_ops).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096u

struct memory;

/* One handler signature for ports and memory. `addr` is the offset from the mapping's start. `size` is
 * 1, 2, 4 or 8 and never more than ops->max_size; wider or misaligned accesses are split before. */
struct io_ops {
    const char *name;
    uint64_t (*read)(void *opaque, uint64_t addr, unsigned size);
    void (*write)(void *opaque, uint64_t addr, uint64_t value, unsigned size);
    unsigned max_size; /* 0 means 4 */
    unsigned min_size; /* 0 means 1; a narrower read is cut out of a min_size one */
};

/* Creates an empty pool that can grow to `pool_max` bytes. NULL and an error when the host has no
 * address space or memory for it. */
struct memory *memory_new(uint64_t pool_max, GError **error);
void memory_free(struct memory *mem);

/* Takes `size` bytes (rounded up to pages, zero-filled, lazily backed) from the pool. `name` is for
 * logs and state files. NULL when the pool is full. */
uint8_t *memory_alloc(struct memory *mem, uint64_t size, const char *name);

/* Asks the host for pages of 2 MiB from now on, which engines that use the processor's second-level tables
 * gain by. Linux gives them where /sys/kernel/mm/transparent_hugepage/shmem_enabled is advise or more, which
 * resources/ringside-tmpfiles.conf makes it. */
void memory_large_pages(struct memory *mem);

uint8_t *memory_pool_base(struct memory *mem);
uint64_t memory_pool_size(struct memory *mem); /* bytes handed out so far */
uint64_t memory_pool_max(struct memory *mem);  /* what it may grow to */
int memory_pool_fd(struct memory *mem);
/* Byte arrays over the pool's pages (pool_max / 4096 entries, zero-filled lazily). */
uint8_t *memory_code_map(struct memory *mem);
uint8_t *memory_dirty_map(struct memory *mem);

enum mapping_kind {
    MAPPING_RAM,   /* read and write go to host memory */
    MAPPING_ROM,   /* reads from host memory; writes are dropped */
    MAPPING_IO,    /* both go to io_ops */
    MAPPING_ROM_IO /* reads from host memory, writes to io_ops (flash) */
};

/* Priorities in use. BARs lie under RAM, so that no guest setting hides it. */
enum {
    MEMORY_PRIORITY_BAR = -1,
    MEMORY_PRIORITY_RAM = 0,
    MEMORY_PRIORITY_HOLE = 1,    /* A0000h-FFFFFh where nothing else is */
    MEMORY_PRIORITY_ROM = 2,     /* the firmware below 1 MiB */
    MEMORY_PRIORITY_DEVICE = 10, /* fixed windows: VGA's A0000h, IO-APIC, HPET, ECAM */
    MEMORY_PRIORITY_PAM = 20     /* what the host bridge opens as RAM */
};

struct mapping {
    uint64_t gpa, size; /* page-granular for host-backed kinds; any for MAPPING_IO */
    enum mapping_kind kind;
    int priority;
    bool log_dirty;             /* RAM: record writes in the dirty map (framebuffers) */
    uint8_t *host;              /* into the pool, for the host-backed kinds */
    const struct io_ops *ops;   /* for the IO kinds */
    void *opaque;
};

/* Adds a mapping (copied); returns its id. Removes it again. Between memory_begin() and
 * memory_commit() changes are collected and take effect at once; they nest. */
unsigned memory_map(struct memory *mem, const struct mapping *mapping);
void memory_unmap(struct memory *mem, unsigned id);
void memory_begin(struct memory *mem);
void memory_commit(struct memory *mem);
/* Called after each effective change, machine lock held, with the engines' flush in mind. */
void memory_set_listener(struct memory *mem, void (*changed)(void *opaque), void *opaque);
/* Called when memory_write() and friends stored to pool pages whose code byte is set. */
void memory_set_code_listener(struct memory *mem,
                              void (*written)(void *opaque, uint64_t pool_offset, uint64_t len),
                              void *opaque);

/* What a guest-physical page is, for engines. Lock-free. */
struct page_info {
    uint8_t *read;  /* host address of the page, NULL: reads are I/O (or nobody's) */
    uint8_t *write; /* likewise for writes; NULL for ROM as well */
    bool log_dirty;
};
void memory_lookup_page(struct memory *mem, uint64_t gpa, struct page_info *out);
/* The same for the first of all pages around `gpa` that go on like it in the pool (or are all
 * handlers'): whole pages, [*start, *end). */
void memory_lookup_pages(struct memory *mem, uint64_t gpa, struct page_info *out, uint64_t *start,
                         uint64_t *end);

/* All that is mapped, by rising address and without overlaps: what [start, end) belongs to. Machine lock held. */
void memory_each(struct memory *mem,
                 void (*fn)(void *opaque, uint64_t start, uint64_t end,
                            const struct mapping *mapping),
                 void *opaque);

/* Calls a handler as its min_size and max_size ask; wider or misaligned accesses become several. */
uint64_t io_ops_read(const struct io_ops *ops, void *opaque, uint64_t addr, unsigned size);
void io_ops_write(const struct io_ops *ops, void *opaque, uint64_t addr, uint64_t value,
                  unsigned size);

/* Any-kind accesses by guest-physical address, machine lock held. I/O mappings are called as needed.
 * Nobody's addresses read as all ones and swallow writes; both return false then (and say so in the log, once per page). */
bool memory_read(struct memory *mem, uint64_t gpa, void *buf, size_t len);
bool memory_write(struct memory *mem, uint64_t gpa, const void *buf, size_t len);
/* Single access of 1, 2, 4 or 8 bytes, as a CPU makes it. */
uint64_t memory_io_read(struct memory *mem, uint64_t gpa, unsigned size);
void memory_io_write(struct memory *mem, uint64_t gpa, uint64_t value, unsigned size);

/* The host address of guest RAM [gpa, gpa+len), or NULL when any byte of it is not plain RAM or the
 * range is not contiguous in the pool. For DMA without a copy; after writing call memory_wrote(). */
void *memory_ram_ptr(struct memory *mem, uint64_t gpa, size_t len);
/* Tells code and dirty tracking that host memory in the pool was stored to. Thread-safe. */
void memory_wrote(struct memory *mem, void *host, size_t len);
