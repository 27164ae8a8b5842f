// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A machine's memory: regions of its maker's memory, the second-level page tables, pinned pages, dirty tracking.
 *
 * Both vendors' tables have 4 levels of 512 entries with addresses and the right to write at the same places (AMD: nested
 * page tables, APM vol. 2, 15.25; Intel: extended page tables, SDM vol. 3, 29.3); the rest are rs_vendor.entry_table
 * and entry_page.
 *
 * A page is pinned when the guest first touches it, and stays so until its region is unmapped; the table entry is
 * what remembers it. All of a region counts against RLIMIT_MEMLOCK from the start, so that no fault fails for that.
 *
 * When entries are taken back: the entry goes, machine.tables grows, every CPU is interrupted (which brings it out
 * of the guest); it sees the new number before it enters again and flushes. Only then pages are let go.
 */
#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ringside.h"

#define ENTRY_WRITE BIT_ULL(1) /* the same for both; the other bits are the vendor's */
#define ENTRY_ADDRESS GENMASK_ULL(51, 12)
#define LEVELS 4
#define ENTRIES 512

/* --- tables --- */

static u64 *entry_table(u64 entry)
{
	return __va(entry & ENTRY_ADDRESS);
}

static unsigned int index_at(u64 gpa, unsigned int level)
{
	return gpa >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1);
}

/* The entry of a page; NULL when there is no table for it, or no memory to make one. */
static u64 *entry_find(struct rs_machine *machine, u64 gpa, bool make)
{
	u64 *table = machine->root;
	unsigned int level;

	for (level = LEVELS - 1; level; level--) {
		u64 *entry = &table[index_at(gpa, level)];

		if (!*entry) {
			u64 *fresh = make ? (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT) : NULL;

			if (!fresh)
				return NULL;
			WRITE_ONCE(*entry, __pa(fresh) | rs_vendor->entry_table);
		}
		table = entry_table(*entry);
	}
	return &table[index_at(gpa, 0)];
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

/* Nobody uses old entries when this returns. */
static void tables_changed(struct rs_machine *machine)
{
	atomic64_inc(&machine->tables);
	on_each_cpu(nothing, NULL, 1);
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
	int error;

	if (region_overlaps(machine, region->gpa, region->size))
		return -EEXIST;
	if (machine->region_count >= RINGSIDE_MAX_REGIONS ||
	    region->size > RS_MAX_MAPPED - machine->mapped)
		return -ENOSPC;
	error = account_locked_vm(machine->mm, region->size >> PAGE_SHIFT, true);
	if (error)
		return error;
	list_add(&region->link, &machine->regions);
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

/* Where the next table of the lowest level begins, or `gpa` when there is one for it. */
static u64 table_skip(struct rs_machine *machine, u64 gpa)
{
	u64 *table = machine->root;
	unsigned int level;

	for (level = LEVELS - 1; level; level--) {
		u64 entry = table[index_at(gpa, level)];

		if (!entry)
			return (gpa | (BIT_ULL(PAGE_SHIFT + 9 * level) - 1)) + 1;
		table = entry_table(entry);
	}
	return gpa;
}

/* Takes a region's entries out in batches, since their pages must be remembered until all CPUs have let go. */
#define BATCH 256

static u64 entries_take(struct rs_machine *machine, u64 gpa, u64 end, u64 taken[BATCH], unsigned int *count)
{
	*count = 0;
	while (gpa < end && *count < BATCH) {
		u64 next = table_skip(machine, gpa);

		if (next == gpa) {
			u64 *entry = entry_find(machine, gpa, false);

			if (*entry) {
				taken[(*count)++] = *entry;
				WRITE_ONCE(*entry, 0);
			}
			next = gpa + PAGE_SIZE;
		}
		gpa = next;
	}
	return gpa;
}

static void entries_unpin(const u64 taken[BATCH], unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct page *page = pfn_to_page((taken[i] & ENTRY_ADDRESS) >> PAGE_SHIFT);

		unpin_user_pages_dirty_lock(&page, 1, true);
	}
}

static void region_unpin(struct rs_machine *machine, const struct rs_region *region, u64 *batch)
{
	u64 gpa = region->gpa, end = region->gpa + region->size;
	unsigned int count;

	while (gpa < end) {
		gpa = entries_take(machine, gpa, end, batch, &count);
		if (count)
			tables_changed(machine);
		entries_unpin(batch, count);
		cond_resched();
	}
}

static void region_remove(struct rs_machine *machine, struct rs_region *region, u64 *batch)
{
	region_unpin(machine, region, batch);
	list_del(&region->link);
	machine->region_count--;
	machine->mapped -= region->size;
	account_locked_vm(machine->mm, region->size >> PAGE_SHIFT, false);
	region_free(region);
}

int rs_unmap(struct rs_machine *machine, u64 gpa, u64 size)
{
	u64 *batch = kmalloc_array(BATCH, sizeof(*batch), GFP_KERNEL_ACCOUNT);
	struct rs_region *region;
	int error = -ENOENT;

	if (!batch)
		return -ENOMEM;
	mutex_lock(&machine->lock);
	region = region_find(machine, gpa);
	if (region && region->gpa == gpa && region->size == size) {
		region_remove(machine, region, batch);
		error = 0;
	}
	mutex_unlock(&machine->lock);
	kfree(batch);
	return error;
}

/* --- dirty tracking --- */

/* Write-protects what was written, so that the next write is seen. */
static void region_protect(struct rs_machine *machine, const struct rs_region *region)
{
	unsigned long page;

	for_each_set_bit(page, region->dirty, region->size >> PAGE_SHIFT) {
		u64 *entry = entry_find(machine, region->gpa + ((u64)page << PAGE_SHIFT), false);

		if (entry)
			WRITE_ONCE(*entry, *entry & ~ENTRY_WRITE);
	}
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
	tables_changed(machine);
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

static int entry_fill(struct rs_region *region, u64 gpa, u64 *entry)
{
	struct page *page;
	int pinned = pin_user_pages_fast(region->address + (gpa - region->gpa), 1,
					 FOLL_WRITE | FOLL_LONGTERM, &page);

	if (pinned != 1)
		return pinned < 0 ? pinned : -EFAULT;
	WRITE_ONCE(*entry, (u64)page_to_pfn(page) << PAGE_SHIFT | rs_vendor->entry_page |
		   (region->flags & (RINGSIDE_REGION_READ_ONLY | RINGSIDE_REGION_LOG) ?
		    0 : ENTRY_WRITE));
	return 0;
}

static int region_fault(struct rs_machine *machine, struct rs_region *region, u64 gpa, bool write)
{
	u64 *entry;
	int error;

	if (write && region->flags & RINGSIDE_REGION_READ_ONLY)
		return 1;
	entry = entry_find(machine, gpa, true);
	if (!entry)
		return -ENOMEM;
	if (!*entry) {
		error = entry_fill(region, gpa, entry);
		if (error)
			return error;
	}
	if (write && region->dirty) {
		set_bit((gpa - region->gpa) >> PAGE_SHIFT, region->dirty);
		WRITE_ONCE(*entry, *entry | ENTRY_WRITE);
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

struct rs_machine *rs_machine_create(void)
{
	struct rs_machine *machine;
	int error = rs_hardware_get();

	if (error)
		return ERR_PTR(error);
	machine = kzalloc(sizeof(*machine), GFP_KERNEL_ACCOUNT);
	if (machine)
		machine->root = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!machine || !machine->root) {
		kfree(machine);
		rs_hardware_put();
		return ERR_PTR(-ENOMEM);
	}
	kref_init(&machine->refs);
	mutex_init(&machine->lock);
	INIT_LIST_HEAD(&machine->regions);
	machine->mm = current->mm;
	mmgrab(machine->mm);
	return machine;
}

/* No CPU of it is left, so nobody runs in the tables; the batch may be on nobody's way. */
static void machine_free(struct kref *refs)
{
	struct rs_machine *machine = container_of(refs, struct rs_machine, refs);
	struct rs_region *region, *next;
	u64 *batch = kmalloc_array(BATCH, sizeof(*batch), GFP_KERNEL | __GFP_NOFAIL);

	list_for_each_entry_safe(region, next, &machine->regions, link)
		region_remove(machine, region, batch);
	kfree(batch);
	table_free(machine->root, LEVELS - 1);
	mmdrop(machine->mm);
	kfree(machine);
	rs_hardware_put();
}

void rs_machine_put(struct rs_machine *machine)
{
	kref_put(&machine->refs, machine_free);
}
