// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The module, /dev/ringside and machines' files; who has the hardware.
 *
 * The hardware (EFER.SVME, VMX operation) is ours only while a machine exists: taken on all CPUs when the first is made, given
 * back when the last goes. A CPU that comes up meanwhile joins in, or is not used for guests.
 */
#include <linux/anon_inodes.h>
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/syscore_ops.h>
#include <linux/uaccess.h>

#include "ringside.h"

const struct rs_vendor *rs_vendor;

static DEFINE_MUTEX(hardware_lock);
static unsigned int hardware_users;
static bool hardware_starting;
static enum cpuhp_state hardware_state;

/* On the CPU that comes or goes. */
static int cpu_comes(unsigned int cpu)
{
	int error = rs_host_enable();

	return hardware_starting ? error : 0;
}

static int cpu_goes(unsigned int cpu)
{
	rs_host_disable();
	return 0;
}

int rs_hardware_get(void)
{
	int error = 0;

	mutex_lock(&hardware_lock);
	if (!hardware_users) {
		hardware_starting = true;
		error = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "virt/ringside:online",
					  cpu_comes, cpu_goes);
		hardware_starting = false;
		if (error >= 0)
			hardware_state = error;
	}
	if (error >= 0) {
		hardware_users++;
		error = 0;
	}
	mutex_unlock(&hardware_lock);
	return error;
}

void rs_hardware_put(void)
{
	mutex_lock(&hardware_lock);
	if (!--hardware_users)
		cpuhp_remove_state(hardware_state);
	mutex_unlock(&hardware_lock);
}

/* Sleep of the computer: the other CPUs are off, so this is for the last one. */
static int hardware_suspend(void)
{
	if (hardware_users)
		rs_host_disable();
	return 0;
}

static void hardware_resume(void)
{
	if (hardware_users)
		rs_host_enable();
}

static struct syscore_ops hardware_syscore = {
	.suspend = hardware_suspend,
	.resume = hardware_resume,
};

/* --- machines --- */

static int machine_release(struct inode *inode, struct file *file)
{
	rs_machine_put(file->private_data);
	return 0;
}

static int machine_map(struct rs_machine *machine, void __user *argument, bool map)
{
	struct ringside_region region;

	if (copy_from_user(&region, argument, sizeof(region)))
		return -EFAULT;
	return map ? rs_map(machine, &region) : rs_unmap(machine, region.gpa, region.size);
}

static int machine_dirty(struct rs_machine *machine, void __user *argument)
{
	struct ringside_dirty dirty;

	if (copy_from_user(&dirty, argument, sizeof(dirty)))
		return -EFAULT;
	return rs_dirty(machine, &dirty);
}

static long machine_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	struct rs_machine *machine = file->private_data;

	if (current->mm != machine->mm)
		return -EPERM;
	switch (number) {
	case RINGSIDE_MAP:
		return machine_map(machine, (void __user *)argument, true);
	case RINGSIDE_UNMAP:
		return machine_map(machine, (void __user *)argument, false);
	case RINGSIDE_DIRTY:
		return machine_dirty(machine, (void __user *)argument);
	case RINGSIDE_CREATE_CPU:
		return argument ? -EINVAL : rs_cpu_create(machine);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations machine_operations = {
	.owner = THIS_MODULE,
	.release = machine_release,
	.unlocked_ioctl = machine_ioctl,
	.compat_ioctl = machine_ioctl,
	.llseek = noop_llseek,
};

static int machine_create(void)
{
	struct rs_machine *machine = rs_machine_create();
	int fd;

	if (IS_ERR(machine))
		return PTR_ERR(machine);
	fd = anon_inode_getfd("ringside-machine", &machine_operations, machine,
			      O_RDWR | O_CLOEXEC);
	if (fd < 0)
		rs_machine_put(machine);
	return fd;
}

/* --- /dev/ringside --- */

static int device_info(void __user *argument)
{
	struct ringside_info info = {
		.version = RINGSIDE_ABI_VERSION,
		.vendor = rs_vendor->id,
		.features = rs_vendor->features(),
		.run_size = PAGE_SIZE,
		.xcr0 = 3,
	};

	if (info.features & RINGSIDE_HAS_XSAVE && boot_cpu_has(X86_FEATURE_AVX))
		info.xcr0 = 7;
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static long device_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	switch (number) {
	case RINGSIDE_INFO:
		return device_info((void __user *)argument);
	case RINGSIDE_CREATE_MACHINE:
		return argument ? -EINVAL : machine_create();
	default:
		return -ENOTTY;
	}
}

static const struct file_operations device_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = device_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ringside",
	.fops = &device_operations,
	.mode = 0660,
};

/* How many pages guests have now; for tests. */
static struct dentry *figures;

static void figures_show(void)
{
	figures = debugfs_create_dir("ringside", NULL);
	debugfs_create_atomic_t("pages_4k", 0444, figures, &rs_pages[0]);
	debugfs_create_atomic_t("pages_2m", 0444, figures, &rs_pages[1]);
}

static int __init ringside_init(void)
{
	int error;

	rs_vendor = boot_cpu_data.x86_vendor == X86_VENDOR_INTEL ||
		    boot_cpu_data.x86_vendor == X86_VENDOR_CENTAUR ||
		    boot_cpu_data.x86_vendor == X86_VENDOR_ZHAOXIN ? &rs_vmx : &rs_svm;
	error = rs_vendor->probe();
	if (error)
		return error;
	error = rs_vendor->init();
	if (error)
		return error;
	register_syscore_ops(&hardware_syscore);
	error = misc_register(&device);
	if (error) {
		unregister_syscore_ops(&hardware_syscore);
		rs_vendor->exit();
		return error;
	}
	figures_show();
	return 0;
}

/* Files hold the module, so there is no machine left. */
static void __exit ringside_exit(void)
{
	debugfs_remove(figures);
	misc_deregister(&device);
	unregister_syscore_ops(&hardware_syscore);
	rs_vendor->exit();
}

module_init(ringside_init);
module_exit(ringside_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("World switch for Ringside's machines");
MODULE_VERSION("0.1.0");
