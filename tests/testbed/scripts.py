# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts for the testbed that the tests of several engines share.

The guests' kernels do not check whether the 8254 ticks (no_timer_check): they give it 40 ms, and the monitor's thread
may wait for a processor that long in here.

QEMU 7.2's TCG may deliver an interrupt that VMRUN injects twice, the second time at any later instruction, with interrupts
off: it leaves the vector in its exception_index, where the next thing that stops the processor's loop (another
processor's kick, a time slice's end) finds it. A guest kernel then takes a lock that it has already: with two processors
four boots in twenty under kvm stood still on a busy machine. One was looked into: it was interrupted at the first instruction of
irq_ack with RFLAGS.IF clear, the vector in service once. A testbed with one processor, whose kernel shares it among the guest's two, is not kicked that way: the
cases under kvm have that. The driver lets interrupts in as virtual ones, which go another way, unless it asks for a window too.
"""

import os
import shutil

import testbed
import images
from harness import BUILD, run as run_program, test


def by_hand(case):
    """Too slow for the check, or struck by what is said above (the driver's): RINGSIDE_BY_HAND=1 runs it."""
    return test(case) if os.environ.get("RINGSIDE_BY_HAND") else case


BOOT = """ringside-monitor -e %s -m 256 -c %d -k /guest/vmlinux -i /guest/initrd --timeout 200 \
    -a 'console=ttyS0 no_timer_check %s' -s file:/tmp/serial && status=0 || status=$?
cat /tmp/serial
exit $status
"""

# Debian from its disk, which the testbed has as one of its own: BIOS, GRUB, its kernel and initrd, systemd.
DISK = """
    ringctl create m --memory 768 --engine $engine --disk /dev/vda --serial /tmp/serial
    ringctl start m; await "debian login:"
    ringctl info m
    ringctl stop m; await "Power down"; ringctl wait m --timeout 60; cat /tmp/serial
"""


def debian_disk():
    """Debian's disk, with its console on the serial port."""
    def make(path):
        shutil.copy(images.debian_disk(), path)
        images.write_file(path + ".cfg", images.GRUB_CONFIG.replace(" quiet", " console=ttyS0"))
        for command in ("rm /boot/grub/grub.cfg", "write %s.cfg /boot/grub/grub.cfg" % path):
            run_program("/sbin/debugfs", "-w", "-R", command, path + images.PART_OFFSET)
    return images.made("testbed-debian-12.img", make)


def with_disk(path, modules):
    """For testbed.run(): /dev/vda is a copy of `path`, besides these modules."""
    drivers = images.module_list("virtio_pci", "virtio_blk")
    return {"files": {"/lib/" + os.path.basename(file): file for file in drivers},
            "modules": tuple(modules) + tuple(os.path.basename(file)[:-3] for file in drivers),
            "devices": ("-drive", "file=%s,format=raw,if=none,id=d,snapshot=on,file.locking=off" % path,
                        "-device", "virtio-blk-pci,drive=d")}


GRUB = """serial --unit=0
terminal_output serial
echo HELLO FROM GRUB
halt
"""

# The same guest under ours and under QEMU: how often KVM left it until userspace, and for its disk's requests
# (AHCI): in all, for the host's interrupts, for I/O ports and for device memory. QEMU starts it by its smallest
# firmware, ours without any. "plain" is QEMU without KVM's own paravirtual interface, which ours does not have either (a machine
# must be able to go on under any engine): with it a guest ends an interrupt without leaving.
EXITS = """
dd if=/dev/zero of=/tmp/disk bs=1M count=16 2>/dev/null
append='console=ttyS0 quiet no_timer_check do=requests'
exits() { for what in exits irq_exits io_exits mmio_exits; do cat /sys/kernel/debug/kvm/$what; done; }
await() { i=0; while ! grep -q "$1" $2; do i=$((i+1)); [ $i -lt 600 ] || { cat $2; return 1; }; sleep 0.1; done; }
count() { # NAME, after its start
    await WAITING /tmp/serial.$1; echo EXITS $1 boot $(exits)
    sleep 1; echo EXITS $1 before $(exits)
    await READ /tmp/serial.$1; echo EXITS $1 after $(exits)
    kill -9 $!; wait $! || true
}
qemu() { # NAME CPU
    qemu-system-x86_64 -accel kvm -cpu $2 -M q35 -m 256 -nodefaults -display none -bios /usr/share/qemu/qboot.rom -L /usr/share/qemu \\
        -kernel /guest/vmlinux -initrd /guest/initrd -append "$append" -serial file:/tmp/serial.$1 \\
        -drive file=/tmp/disk,format=raw,if=none,id=disk -device ide-hd,bus=ide.0,drive=disk &
    count $1
}
mount -t debugfs d /sys/kernel/debug
echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled # as ringside's tmpfiles.d has it
: > /tmp/serial.ringside; : > /tmp/serial.qemu; : > /tmp/serial.plain
ringside-monitor -e kvm -m 256 -k /guest/vmlinux -i /guest/initrd --disk /tmp/disk -a "$append" -s file:/tmp/serial.ringside &
count ringside
qemu qemu host
qemu plain host,kvm=off
"""

# Boots of the same guest in turn, under our driver, KVM and the translator: seconds from the monitor's start to its end (the guest
# powers off at once), by the testbed's clock. KVM has its module loaded all the time, but no machine while the driver has one.
TIMES = """
echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled # as ringside's tmpfiles.d has it
boot() { # ENGINE
    rm -f /tmp/serial
    set -- $1 $(cut -d' ' -f1 /proc/uptime)
    ringside-monitor -e $1 -m 256 -k /guest/vmlinux -i /guest/initrd --timeout 300 --engine-options profile \\
        -a 'console=ttyS0 no_timer_check quiet' -s file:/tmp/serial > /tmp/said 2>&1 || { cat /tmp/said /tmp/serial; return 1; }
    echo "TIME $1 $2 $(cut -d' ' -f1 /proc/uptime)"
    grep profile /tmp/said || true
}
for round in $rounds; do
    for engine in driver kvm; do boot $engine; done
    [ $round != 1 ] || boot translate
    for engine in kvm driver; do boot $engine; done
done
"""

# A machine of the library and what one does with it; $engine is kvm unless it is set.
LIBRARY = """
folder=/root/.local/share/ringside/machines/m
await() { # WORDS on the serial port
    i=0
    while ! grep -q "$1" /tmp/serial 2>/dev/null; do
        i=$((i+1))
        [ $i -lt 1800 ] || { echo "NO $1"; tail -40 /tmp/serial; cat $folder/monitor.log; return 1; }
        sleep 0.1
    done
}
absent() { # WORDS: the serial port has not said them ("! grep" would not end sh -e)
    if grep "$1" /tmp/serial; then echo "SAID TOO MUCH"; return 1; fi
}
under() { # ENGINE: the suspended machine goes on under it
    absent "MEMORY CHANGED"
    mv /tmp/serial /tmp/serial.before
    sed -i "s/^engine=.*/engine=$1/" $folder/machine.ini
    ringctl start m || { cat $folder/monitor.log; return 1; }
    [ "$(ringctl info m | sed -n 's/^engine *//p')" = $1 ]
    echo "UNDER $1 at $(cut -d' ' -f1 /proc/uptime)"
}
make() { # CPUS APPEND
    ringctl create m --memory 256 --cpus $1 --engine ${engine:-kvm} --kernel /guest/vmlinux --initrd /guest/initrd \
        --append "console=ttyS0 no_timer_check $2" --serial /tmp/serial
    ringctl start m
}
"""

# Machines with tests/cpu/bare/carry.c, which looks after all that it has and counts aloud: seconds where Debian takes minutes.
CARRY = """
carry() { # CPUS: one of the library
    ringctl create m --memory 64 --cpus $1 --engine ${engine:-kvm} --kernel /bare/carry --initrd /dev/null --append "" --serial /tmp/serial
    ringctl start m
}
carry_alone() { # CPUS SERIAL: one of nobody's; $pid
    ringside-monitor -e driver -m 64 -c $1 -k /bare/carry -i /dev/null -a "" -s file:$2 2> /dev/null & pid=$!
}
counted() { # SERIAL NUMBER: it gets so far, and all is there
    i=0; while ! grep -q "COUNT $2 " $1 2>/dev/null && [ $i -lt 600 ]; do i=$((i+1)); usleep 50000; done
    grep "COUNT $2 " $1
    if grep "carry.c" $1; then return 1; fi
}
counts() { # SERIAL: how far it is. What is on its way may be cut in two by a suspension: in the next file it counts from two on
    sed -n 's/.*COUNT \\([0-9]*\\) CPUS.*/\\1/p' $1 | tail -1
}
"""
CARRY_FILE = {"/bare/carry": os.path.join(os.path.abspath(BUILD), "tests/cpu/carry.elf")}

# Two machines, each on a processor of its own; both go on while the other does.
CARRY_TWO = """
rm -f /tmp/serial*
for n in 1 2; do
    carry_alone 1 /tmp/serial$n; taskset -ap $n $pid > /dev/null; eval pid$n=$pid
done
counted /tmp/serial1 20; counted /tmp/serial2 20
counted /tmp/serial1 $(($(counts /tmp/serial1) + 5)); counted /tmp/serial2 $(($(counts /tmp/serial2) + 5))
kill $pid1 $pid2; wait $pid1 || true; wait $pid2 || true
echo BOTH COUNTED
"""

# Killed, with two CPUs: as it starts, when the guest has begun, and in the middle of a suspension. Each time the module is free within a second
# and no page of its guests is left; in the end both processors run guests, and the memory is there: the guest has 4 MiB and more.
CARRY_KILLED = """
figures() { echo $(cat /sys/kernel/debug/ringside/pages_4k) $(cat /sys/kernel/debug/ringside/pages_2m); }
free() { usleep 500000; echo 3 > /proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }
killed() { # PID
    echo "KILLED with pages $(figures), $(cat /sys/module/ringside/refcnt) references"
    kill -9 $1; wait $1 || true
    i=0; while [ $(cat /sys/module/ringside/refcnt) != 0 ] && [ $i -lt 50 ]; do i=$((i+1)); usleep 20000; done
    [ "$(figures)" = "0 0" ]; rmmod ringside; pinned; clean
    insmod /lib/ringside.ko $options
}
mount -t debugfs d /sys/kernel/debug 2>/dev/null || true
echo 1000000 > /proc/sys/vm/percpu_pagelist_high_fraction # else processors keep some 20 MiB of free pages, now and then
carry_alone 2 /tmp/serial1; counted /tmp/serial1 1; killed $pid; before=$(free)
for after in 20000 50000 100000 150000 200000 250000 300000; do
    carry_alone 2 /tmp/serial1; usleep $after; killed $pid
done
for number in 1 2 10; do
    rm /tmp/serial1; carry_alone 2 /tmp/serial1; counted /tmp/serial1 $number; killed $pid
done
for after in 50000 150000; do
    rm -f /tmp/serial; carry 2; counted /tmp/serial 1
    ringctl suspend m & usleep $after; killed $(cat $folder/lock); wait
    rm -rf $folder
done
after=$(free); echo "FREE $before $after"; [ $after -gt $((before - 4096)) ]
taskset 1 driver_try guest | tail -1; taskset 2 driver_try guest | tail -1
"""

# In the middle of everything from one engine to the next; the modules of both are loaded.
CARRY_ENGINES = """
rm -rf $folder; rm -f /tmp/serial*; carry 2; counted /tmp/serial 3
for next in kvm driver translate kvm translate driver; do
    ringctl suspend m; number=$(counts /tmp/serial)
    under $next; counted /tmp/serial $((number + 2)); counted /tmp/serial $((number + 5))
done
ringctl stop --force m
"""

# The file with the guest's memory loses all but its first MiB: what the guest touches then, the host cannot give.
MISSING = """
make 1 "quiet do=count"; await "COUNT 2[^0-9]"
pid=$(cat $folder/lock)
for fd in /proc/$pid/fd/*; do
    case $(readlink $fd) in *ringside-ram*) truncate -s 1M $fd;; esac
done
ringctl wait m --state io-error --timeout 60 || { ringctl info m; cat $folder/monitor.log; exit 1; }
ringctl info m
ringctl stop --force m; sleep 0.3
"""

# The kernel's log must have nothing in it that a kernel says of bugs; no page is or stays pinned.
CLEAN = """
clean() {
    if dmesg | grep -E "BUG|WARNING|Oops|Call Trace|unchecked MSR|general protection|lockup|stall|Bad page"; then
        dmesg | tail -60; return 1
    fi
}
pinned() { # each processor counts by itself
    cat /proc/sys/vm/stat_refresh
    [ "$(sed -n 's/^nr_foll_pin_acquired //p' /proc/vmstat)" = "$(sed -n 's/^nr_foll_pin_released //p' /proc/vmstat)" ] ||
        { grep foll_pin /proc/vmstat; return 1; }
}
engine=driver
"""

# Machines whose process is killed leave no page: five times 64 MiB, of which less than 16 may be missing then.
LEAK = """
free() { echo 3 > /proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }
figures() { echo $(cat /sys/kernel/debug/ringside/pages_4k) $(cat /sys/kernel/debug/ringside/pages_2m); }
killed() { # says HOLDING, then it is killed
    rm -f /tmp/said; driver_try touch > /tmp/said & holder=$!
    i=0; while ! grep -q HOLDING /tmp/said && [ $i -lt 200 ]; do i=$((i+1)); usleep 20000; done
    grep -q HOLDING /tmp/said; figures
    kill -9 $holder; wait $holder || true
    i=0; while [ "$(cut -d' ' -f3 /sys/module/ringside/refcnt 2>/dev/null)" != 0 ] && [ $i -lt 100 ]; do i=$((i+1)); usleep 20000; done
}
killed > /tmp/held; grep " 16$" /tmp/held
before=$(free)
for n in 1 2 3 4 5; do killed > /dev/null; done
after=$(free); echo "FREE $before $after"
[ $after -gt $((before - 16384)) ]; [ "$(figures)" = "0 0" ]; echo NOTHING LEFT
"""
