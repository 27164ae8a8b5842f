// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A machine's memory: regions of its maker's memory, the second-level page tables, dirty tracking.
 *
 * Both vendors' tables have 4 levels of 512 entries with addresses, the right to write and the size at the same places (AMD:
 * nested page tables, APM vol. 2, 15.25; Intel: extended page tables, SDM vol. 3, 29.3); the rest are rs_vendor.entry_table
 * and entry_page.
 *
 * Pages are not pinned. An entry follows the process's own page table: it is made when the guest first touches the page, and
 * before the kernel takes the page from the process (swap, migration, copying after fork, munmap), it tells us, and the
 * entry goes. So nothing is locked, and nothing counts against RLIMIT_MEMLOCK. Where the process has 2 MiB in one piece,
 * so has the guest, unless writes are recorded or refused there.
 *
 * When entries are taken back: the entry goes, machine.tables grows, every CPU is interrupted (which brings it out
 * of the guest); it sees the new number before it enters again and flushes. All that happens under tables_lock, so that
 * whoever finds no entry also knows that no CPU uses an old one.
 */
#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ringside.h"

#define ENTRY_WRITE BIT_ULL(1) /* the same for both, as the next; the other bits are the vendor's */
#define ENTRY_LARGE BIT_ULL(7) /* at the level of 2 MiB: a page, not a table */
#define ENTRY_ADDRESS GENMASK_ULL(51, 12)
#define LEVELS 4
#define LARGE 1 /* the level of 2 MiB */
#define LARGE_SIZE BIT_ULL(PAGE_SHIFT + 9)
#define ENTRIES 512

atomic_t rs_pages[2]; /* entries of all machines, of 4 KiB and of 2 MiB */

/* --- tables --- */

static u64 *entry_table(u64 entry)
{
	return __va(entry & ENTRY_ADDRESS);
}

static unsigned int index_at(u64 gpa, unsigned int level)
{
	return gpa >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1);
}

/* The end of what an entry at this level is for. */
static u64 entry_end(u64 gpa, unsigned int level)
{
	return (gpa | (BIT_ULL(PAGE_SHIFT + 9 * level) - 1)) + 1;
}

/* The entry that decides about `gpa`, and its level: a page's, or an empty one where tables end. */
static u64 *entry_find(struct rs_machine *machine, u64 gpa, unsigned int *level)
{
	u64 *table = machine->root;

	for (*level = LEVELS - 1;; --*level) {
		u64 *entry = &table[index_at(gpa, *level)], value = READ_ONCE(*entry);

		if (!*level || !value || (*level == LARGE && value & ENTRY_LARGE))
			return entry;
		table = entry_table(value);
	}
}

static bool table_put(u64 *entry, u64 *table)
{
	if (table)
		smp_store_release(entry, __pa(table) | rs_vendor->entry_table);
	return table;
}

/* Makes the tables above the lowest, and one to spare for that, since under tables_lock none can be made. */
static bool tables_make(struct rs_machine *machine, u64 gpa)
{
	unsigned int level;
	u64 *entry;

	if (!machine->spare)
		machine->spare = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	while (entry = entry_find(machine, gpa, &level), level > LARGE) {
		if (!table_put(entry, (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT)))
			return false;
	}
	return machine->spare;
}

static void table_free(u64 *table, unsigned int level)
{
	unsigned int i;

	for (i = 0; level && i < ENTRIES; i++) {
		if (table[i])
			table_free(entry_table(table[i]), level - 1);
	}
	free_page((unsigned long)table);
}

static void nothing(void *unused)
{
}

/* tables_lock held. Nobody uses old entries when this returns. */
static void tables_changed(struct rs_machine *machine)
{
	atomic64_inc(&machine->tables);
	on_each_cpu(nothing, NULL, 1);
}

/* tables_lock held; says whether there were entries, which CPUs may still use. */
static bool entries_take(struct rs_machine *machine, u64 gpa, u64 end)
{
	bool any = false;
	unsigned int level;

	for (; gpa < end; gpa = entry_end(gpa, level)) {
		u64 *entry = entry_find(machine, gpa, &level);

		if (*entry) {
			WRITE_ONCE(*entry, 0);
			atomic_dec(&rs_pages[level]);
			any = true;
		}
	}
	return any;
}

/* --- regions --- */

static struct rs_region *region_find(struct rs_machine *machine, u64 gpa)
{
	struct rs_region *region;

	list_for_each_entry(region, &machine->regions, link) {
		if (gpa >= region->gpa && gpa - region->gpa < region->size)
			return region;
	}
	return NULL;
}

static bool region_overlaps(struct rs_machine *machine, u64 gpa, u64 size)
{
	struct rs_region *region;

	list_for_each_entry(region, &machine->regions, link) {
		if (gpa < region->gpa + region->size && region->gpa < gpa + size)
			return true;
	}
	return false;
}

static void region_free(struct rs_region *region)
{
	kvfree(region->dirty);
	kfree(region);
}

static bool region_fits(const struct ringside_region *r)
{
	return PAGE_ALIGNED(r->gpa) && PAGE_ALIGNED(r->size) && PAGE_ALIGNED(r->address) &&
	       r->size && r->size <= RS_MAX_MAPPED && r->gpa < RINGSIDE_MAX_GPA &&
	       r->size <= RINGSIDE_MAX_GPA - r->gpa && !r->reserved &&
	       !(r->flags & ~(RINGSIDE_REGION_READ_ONLY | RINGSIDE_REGION_LOG)) &&
	       access_ok((void __user *)r->address, r->size);
}

static struct rs_region *region_alloc(const struct ringside_region *r)
{
	struct rs_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);

	if (!region)
		return NULL;
	region->gpa = r->gpa;
	region->size = r->size;
	region->address = r->address;
	region->flags = r->flags;
	if (r->flags & RINGSIDE_REGION_LOG) {
		region->dirty = kvcalloc(BITS_TO_LONGS(r->size >> PAGE_SHIFT),
					 sizeof(long), GFP_KERNEL_ACCOUNT);
		if (!region->dirty) {
			kfree(region);
			return NULL;
		}
	}
	return region;
}

static int region_add(struct rs_machine *machine, struct rs_region *region)
{
	if (region_overlaps(machine, region->gpa, region->size))
		return -EEXIST;
	if (machine->region_count >= RINGSIDE_MAX_REGIONS ||
	    region->size > RS_MAX_MAPPED - machine->mapped)
		return -ENOSPC;
	spin_lock(&machine->tables_lock);
	list_add(&region->link, &machine->regions);
	spin_unlock(&machine->tables_lock);
	machine->region_count++;
	machine->mapped += region->size;
	return 0;
}

int rs_map(struct rs_machine *machine, const struct ringside_region *r)
{
	struct rs_region *region;
	int error;

	if (!region_fits(r))
		return -EINVAL;
	region = region_alloc(r);
	if (!region)
		return -ENOMEM;
	mutex_lock(&machine->lock);
	error = region_add(machine, region);
	mutex_unlock(&machine->lock);
	if (error)
		region_free(region);
	return error;
}

/* A piece at a time, so that tables_lock is not held for long. */
static void region_take(struct rs_machine *machine, const struct rs_region *region)
{
	u64 gpa = region->gpa, end = region->gpa + region->size;

	while (gpa < end) {
		u64 next = min(end, gpa + RS_PIECE);

		spin_lock(&machine->tables_lock);
		if (entries_take(machine, gpa, next))
			tables_changed(machine);
		spin_unlock(&machine->tables_lock);
		gpa = next;
		cond_resched();
	}
}

static void region_remove(struct rs_machine *machine, struct rs_region *region)
{
	region_take(machine, region);
	spin_lock(&machine->tables_lock);
	list_del(&region->link);
	spin_unlock(&machine->tables_lock);
	machine->region_count--;
	machine->mapped -= region->size;
	region_free(region);
}

int rs_unmap(struct rs_machine *machine, u64 gpa, u64 size)
{
	struct rs_region *region;
	int error = -ENOENT;

	mutex_lock(&machine->lock);
	region = region_find(machine, gpa);
	if (region && region->gpa == gpa && region->size == size) {
		region_remove(machine, region);
		error = 0;
	}
	mutex_unlock(&machine->lock);
	return error;
}

/* --- what the kernel does with the process's memory --- */

/* tables_lock held; [start, end) are the process's addresses. */
static bool addresses_take(struct rs_machine *machine, u64 start, u64 end)
{
	struct rs_region *region;
	bool any = false;

	list_for_each_entry(region, &machine->regions, link) {
		u64 from = max(start, region->address), to = min(end, region->address + region->size);

		if (from < to)
			any |= entries_take(machine, region->gpa + (from - region->address),
					    region->gpa + (to - region->address));
	}
	if (any)
		tables_changed(machine);
	return any;
}

/* Between start and end the process's page tables change: no entry is made of them. */
static int invalidate_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct rs_machine *machine = container_of(notifier, struct rs_machine, notifier);

	spin_lock(&machine->tables_lock);
	machine->invalidating++;
	addresses_take(machine, range->start, range->end);
	spin_unlock(&machine->tables_lock);
	return 0;
}

static void invalidate_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	struct rs_machine *machine = container_of(notifier, struct rs_machine, notifier);

	spin_lock(&machine->tables_lock);
	machine->invalidating--;
	machine->invalidated++;
	spin_unlock(&machine->tables_lock);
}

/* Whether a page was used of late is seen by taking its entry away: it comes back if it is used. */
static int clear_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct rs_machine *machine = container_of(notifier, struct rs_machine, notifier);
	bool young;

	spin_lock(&machine->tables_lock);
	young = addresses_take(machine, start, end);
	spin_unlock(&machine->tables_lock);
	return young;
}

/* The process has ended; others may still have the machine's file. */
static void process_ends(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	clear_young(notifier, mm, 0, ULONG_MAX);
}

static const struct mmu_notifier_ops notifier_ops = {
	.release = process_ends,
	.clear_flush_young = clear_young,
	.invalidate_range_start = invalidate_start,
	.invalidate_range_end = invalidate_end,
};

/* --- dirty tracking --- */

/* Write-protects what was written, so that the next write is seen. All pages here are small. */
static void region_protect(struct rs_machine *machine, const struct rs_region *region)
{
	unsigned long page;
	unsigned int level;

	spin_lock(&machine->tables_lock);
	for_each_set_bit(page, region->dirty, region->size >> PAGE_SHIFT) {
		u64 *entry = entry_find(machine, region->gpa + ((u64)page << PAGE_SHIFT), &level);

		if (*entry)
			WRITE_ONCE(*entry, *entry & ~ENTRY_WRITE);
	}
	tables_changed(machine);
	spin_unlock(&machine->tables_lock);
}

static int region_collect(struct rs_machine *machine, struct rs_region *region, void __user *bitmap)
{
	size_t pages = region->size >> PAGE_SHIFT, bytes = BITS_TO_LONGS(pages) * sizeof(long);

	if (bitmap_empty(region->dirty, pages))
		return clear_user(bitmap, bytes) ? -EFAULT : 0;
	if (copy_to_user(bitmap, region->dirty, bytes))
		return -EFAULT;
	region_protect(machine, region);
	bitmap_zero(region->dirty, pages);
	return 0;
}

int rs_dirty(struct rs_machine *machine, const struct ringside_dirty *dirty)
{
	struct rs_region *region;
	int error = -ENOENT;

	mutex_lock(&machine->lock);
	region = region_find(machine, dirty->gpa);
	if (region && region->gpa == dirty->gpa && region->size == dirty->size)
		error = region->dirty ? region_collect(machine, region,
						       (void __user *)dirty->bitmap) :
					-EINVAL;
	mutex_unlock(&machine->lock);
	return error;
}

/* --- faults --- */

/* Whether the process has 2 MiB in one piece there: its page table says so. */
static bool host_is_large(struct mm_struct *mm, unsigned long address)
{
	unsigned long flags;
	bool large = false;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	local_irq_save(flags); /* tables are not freed meanwhile */
	pgd = READ_ONCE(*pgd_offset(mm, address));
	if (pgd_none(pgd))
		goto out;
	p4d = READ_ONCE(*p4d_offset(&pgd, address));
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pud = READ_ONCE(*pud_offset(&p4d, address));
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	large = pud_leaf(pud);
	if (large)
		goto out;
	pmd = READ_ONCE(*pmd_offset(&pud, address));
	large = pmd_present(pmd) && pmd_leaf(pmd);
out:
	local_irq_restore(flags);
	return large;
}

/* The piece of 2 MiB that gpa is in lies wholly in the region, and as in the process. */
static bool large_fits(const struct rs_machine *machine, const struct rs_region *region, u64 gpa)
{
	u64 start = gpa & ~(LARGE_SIZE - 1);

	return rs_vendor->large() && !region->flags && start >= region->gpa &&
	       start + LARGE_SIZE <= region->gpa + region->size &&
	       !((region->address - region->gpa) & (LARGE_SIZE - 1)) &&
	       host_is_large(machine->mm, region->address + (gpa - region->gpa));
}

/* tables_lock held. What is there already does: true. */
static bool entry_allow(const struct rs_region *region, u64 gpa, bool write, u64 *entry)
{
	if (!*entry)
		return false;
	if (write && region->dirty) {
		set_bit((gpa - region->gpa) >> PAGE_SHIFT, region->dirty);
		WRITE_ONCE(*entry, *entry | ENTRY_WRITE);
	}
	return true;
}

/* tables_lock held, `entry` is empty. */
static void entry_fill(struct rs_machine *machine, struct rs_region *region, u64 gpa, bool write, u64 pfn)
{
	unsigned int level;
	u64 *entry = entry_find(machine, gpa, &level);
	u64 bits = rs_vendor->entry_page | (region->flags ? 0 : ENTRY_WRITE);

	if (level == LARGE && large_fits(machine, region, gpa)) {
		pfn &= ~(u64)(ENTRIES - 1);
		bits |= ENTRY_LARGE;
	} else if (level == LARGE) {
		table_put(entry, machine->spare);
		machine->spare = NULL;
		entry = entry_find(machine, gpa, &level);
	}
	WRITE_ONCE(*entry, pfn << PAGE_SHIFT | bits);
	atomic_inc(&rs_pages[level]);
	entry_allow(region, gpa, write, entry);
}

/* False: the process's memory has changed since `seen`, or is changing. */
static bool page_map(struct rs_machine *machine, struct rs_region *region, u64 gpa, bool write, struct page *page, u64 seen)
{
	bool stands;

	spin_lock(&machine->tables_lock);
	stands = !machine->invalidating && machine->invalidated == seen;
	if (stands)
		entry_fill(machine, region, gpa, write, page_to_pfn(page));
	spin_unlock(&machine->tables_lock);
	if (stands && !(region->flags & RINGSIDE_REGION_READ_ONLY) && !PageDirty(page))
		set_page_dirty_lock(page);
	mark_page_accessed(page);
	return stands;
}

/* True: the entry is there; else `seen` is what page_map() wants to know. */
static bool entry_there(struct rs_machine *machine, struct rs_region *region, u64 gpa, bool write, u64 *seen)
{
	unsigned int level;
	bool there;

	spin_lock(&machine->tables_lock);
	there = entry_allow(region, gpa, write, entry_find(machine, gpa, &level));
	*seen = machine->invalidated;
	spin_unlock(&machine->tables_lock);
	return there;
}

static int region_fault(struct rs_machine *machine, struct rs_region *region, u64 gpa, bool write)
{
	u64 seen;

	if (write && region->flags & RINGSIDE_REGION_READ_ONLY)
		return 1;
	if (!tables_make(machine, gpa))
		return -ENOMEM;
	while (!entry_there(machine, region, gpa, write, &seen)) {
		struct page *page;
		int got = get_user_pages_fast(region->address + (gpa - region->gpa), 1, FOLL_WRITE, &page);
		bool mapped;

		if (got != 1)
			return got == -ENOMEM || got == -EINTR ? got : -EFAULT;
		mapped = page_map(machine, region, gpa, write, page, seen);
		put_page(page);
		if (mapped || signal_pending(current))
			break; /* the guest tries again in any case */
		cond_resched();
	}
	return 0;
}

int rs_fault(struct rs_machine *machine, u64 gpa, bool write)
{
	struct rs_region *region;
	int result = 1;

	gpa &= PAGE_MASK;
	if (mutex_lock_killable(&machine->lock))
		return -EINTR;
	region = region_find(machine, gpa);
	if (region)
		result = region_fault(machine, region, gpa, write);
	mutex_unlock(&machine->lock);
	return result;
}

bool rs_read(struct rs_machine *machine, u64 gpa, void *to, size_t size)
{
	struct rs_region *region;
	u64 address = 0;

	mutex_lock(&machine->lock);
	region = region_find(machine, gpa);
	if (region && region->size - (gpa - region->gpa) >= size)
		address = region->address + (gpa - region->gpa);
	mutex_unlock(&machine->lock);
	return address && !copy_from_user(to, (void __user *)address, size);
}

/* --- machines --- */

static int machine_init(struct rs_machine *machine)
{
	machine->root = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!machine->root)
		return -ENOMEM;
	kref_init(&machine->refs);
	mutex_init(&machine->lock);
	spin_lock_init(&machine->tables_lock);
	INIT_LIST_HEAD(&machine->regions);
	machine->mm = current->mm;
	machine->notifier.ops = &notifier_ops;
	return mmu_notifier_register(&machine->notifier, machine->mm); /* keeps the struct mm, too */
}

struct rs_machine *rs_machine_create(void)
{
	struct rs_machine *machine;
	int error = rs_hardware_get();

	if (error)
		return ERR_PTR(error);
	machine = kzalloc(sizeof(*machine), GFP_KERNEL_ACCOUNT);
	error = machine ? machine_init(machine) : -ENOMEM;
	if (error) {
		if (machine)
			free_page((unsigned long)machine->root);
		kfree(machine);
		rs_hardware_put();
		return ERR_PTR(error);
	}
	return machine;
}

/* No CPU of it is left, so nobody runs in the tables. */
static void machine_free(struct kref *refs)
{
	struct rs_machine *machine = container_of(refs, struct rs_machine, refs);
	struct rs_region *region, *next;

	mmu_notifier_unregister(&machine->notifier, machine->mm);
	list_for_each_entry_safe(region, next, &machine->regions, link)
		region_remove(machine, region);
	free_page((unsigned long)machine->spare);
	table_free(machine->root, LEVELS - 1);
	kfree(machine);
	rs_hardware_put();
}

void rs_machine_put(struct rs_machine *machine)
{
	kref_put(&machine->refs, machine_free);
}
