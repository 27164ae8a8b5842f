// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUs' files: the run page and RINGSIDE_RUN.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "ringside.h"

static void cpu_free(struct rs_cpu *cpu)
{
	if (cpu->vendor)
		rs_vendor->cpu_destroy(cpu);
	rs_guest_free(&cpu->guest);
	if (cpu->run_page)
		put_page(cpu->run_page); /* a mapping may live on a little */
	rs_machine_put(cpu->machine);
	kfree(cpu);
}

static int cpu_release(struct inode *inode, struct file *file)
{
	cpu_free(file->private_data);
	return 0;
}

/* The guest's memory is the caller's, so it must be the machine's maker. */
static long cpu_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	struct rs_cpu *cpu = file->private_data;
	long result;

	if (number != RINGSIDE_RUN)
		return -ENOTTY;
	if (argument)
		return -EINVAL;
	if (current->mm != cpu->machine->mm)
		return -EPERM;
	if (mutex_lock_killable(&cpu->lock))
		return -EINTR;
	result = rs_guest_run(cpu);
	mutex_unlock(&cpu->lock);
	return result;
}

static vm_fault_t cpu_mmap_fault(struct vm_fault *fault)
{
	struct rs_cpu *cpu = fault->vma->vm_file->private_data;

	if (fault->pgoff)
		return VM_FAULT_SIGBUS;
	get_page(cpu->run_page);
	fault->page = cpu->run_page;
	return 0;
}

static const struct vm_operations_struct cpu_mmap_operations = {
	.fault = cpu_mmap_fault,
};

static int cpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	vma->vm_ops = &cpu_mmap_operations;
	return 0;
}

static const struct file_operations cpu_operations = {
	.owner = THIS_MODULE,
	.release = cpu_release,
	.unlocked_ioctl = cpu_ioctl,
	.compat_ioctl = cpu_ioctl,
	.mmap = cpu_mmap,
	.llseek = noop_llseek,
};

static struct rs_cpu *cpu_alloc(struct rs_machine *machine)
{
	struct rs_cpu *cpu = kzalloc(sizeof(*cpu), GFP_KERNEL_ACCOUNT);

	if (!cpu)
		return NULL;
	kref_get(&machine->refs);
	cpu->machine = machine;
	mutex_init(&cpu->lock);
	cpu->run_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!cpu->run_page || rs_guest_init(&cpu->guest) || rs_vendor->cpu_create(cpu)) {
		cpu_free(cpu);
		return NULL;
	}
	cpu->run = page_address(cpu->run_page);
	return cpu;
}

static bool cpu_count(struct rs_machine *machine)
{
	bool fits;

	mutex_lock(&machine->lock);
	fits = machine->cpus < RINGSIDE_MAX_CPUS;
	machine->cpus += fits;
	mutex_unlock(&machine->lock);
	return fits;
}

int rs_cpu_create(struct rs_machine *machine)
{
	struct rs_cpu *cpu;
	int fd;

	BUILD_BUG_ON(sizeof(struct ringside_run) > PAGE_SIZE);
	if (!cpu_count(machine))
		return -ENOSPC;
	cpu = cpu_alloc(machine);
	if (!cpu)
		return -ENOMEM;
	fd = anon_inode_getfd("ringside-cpu", &cpu_operations, cpu, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		cpu_free(cpu);
	return fd;
}
