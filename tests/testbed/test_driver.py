# SPDX-License-Identifier: GPL-2.0-or-later
"""Our kernel module, and the engine that uses it: alone, beside KVM, and with machines that change engines.

QEMU runs the testbed's processors in turn here (threads="single"). With a thread each, one boot in some fifteen with two
processors ends in a triple fault of the guest or of the testbed: a VMRUN comes back with the host's state in the VMCB and
a fault of the host's page tables in the nested ones, as if nested paging had stayed on; or one of the testbed's processors
stands still. Why is not known. Machines under KVM did not show it (24 boots), but one
of a dozen later runs with two processors left both of the testbed's standing still under KVM, too. RINGSIDE_THREADS=multi runs the tests so.
"""
import os
import re
import statistics
import struct
import subprocess

import testbed  # first: it knows where the others are
import images
from harness import BUILD, check, main, note, test
from scripts import BOOT, CARRY, CARRY_ENGINES, CARRY_FILE, CARRY_KILLED, CARRY_TWO, CLEAN, DISK, GRUB, LEAK, LIBRARY, MISSING, TIMES, by_hand, debian_disk, with_disk

TRY = os.path.join(os.path.abspath(BUILD), "tests/testbed/driver_try")
KVM = ("irqbypass", "kvm", "ccp", "kvm-amd")

CLEAN_END = """
pinned; clean; rmmod ringside; clean
"""


def run(bench, script, *, modules=("ringside",), files=None, **how):
    files = {"/lib/ringside.ko": testbed.driver_module(), "/bin/driver_try": TRY, **(files or {})}
    threads = os.environ.get("RINGSIDE_THREADS", "single")
    return testbed.run(bench, LIBRARY + CLEAN + CARRY + script, modules=modules, files=files, threads=threads, **how)


@test
def module_loads_runs_small_guests_and_unloads(bench):
    run(bench, """
        [ -c /dev/ringside ]
        driver_try guest
        echo alice:x:1000:1000::/tmp:/bin/sh >> /etc/passwd; chmod 666 /dev/ringside
        su alice -c "driver_try unlocked"
    """ + CLEAN_END, cpus=2, seconds=20).expect("GUESTS OK", "UNLOCKED OK")


@test
def memory_is_the_processs(bench):
    """Pages of 2 MiB and of 4, and what the kernel does with them meanwhile."""
    run(bench, """
        mount -t debugfs d /sys/kernel/debug
        (while sleep 0.1; do echo 1 > /proc/sys/vm/compact_memory; done) & compacting=$!
        driver_try memory
        kill $compacting
    """ + LEAK + CLEAN_END, cpus=2, seconds=30).expect("MEMORY OK", "NOTHING LEFT")


@test
def random_calls_leave_the_log_clean(bench):
    run(bench, """
        echo alice:x:1000:1000::/tmp:/bin/sh >> /etc/passwd; chmod 666 /dev/ringside
        su alice -c "driver_try fuzz 10000 1" & su alice -c "driver_try fuzz 10000 2"; wait $!
    """ + CLEAN_END, cpus=2, seconds=40).expect("FUZZED 10000")


@test
def is_not_loaded_without_the_hardware(bench):
    run(bench, """
        if insmod /lib/ringside.ko; then exit 1; fi
        ringctl doctor || echo STATUS $?
    """, modules=[], cpu="qemu64,-svm", seconds=20).expect("STATUS 5")


@test
def memory_that_is_missing_pauses_the_machine(bench):
    run(bench, MISSING + CLEAN_END, seconds=40).expect(
        "paused because the host cannot give the guest a page of its memory. Close other programs")


def pvh_elf(code):
    """An ELF file with flat 32-bit code that is entered at 1 MiB, where it begins, by PVH."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen", 0x100000)
    code = code.ljust(len(code) + 0x10000, b"\0")  # its .bss
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 256, 0x100000, 0x100000, len(code), len(code), 4096)
    notes = struct.pack("<IIQQQQQQ", 4, 4, 192, 0, 0, len(note), len(note), 4)
    return (header + load + notes).ljust(192, b"\0") + note.ljust(64, b"\0") + code


def failures(text):
    """The checks of a bare-metal program that failed, by file and line."""
    return re.findall(r"^(\w+\.c:\d+): ", text, re.M)


def on_the_emulator(bench, program):
    """A bare-metal program on the testbed's own processor, with no engine in between: QEMU's status and what failed."""
    log = bench.path("native")
    done = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", testbed.CPU, "-m", "64", "-nodefaults", "-display", "none",
                           "-no-reboot", "-serial", "file:" + log, "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
                           "-kernel", program], timeout=60)
    return done.returncode, failures(open(log, errors="replace").read())


@test
def bare_programs_fare_as_on_the_processor_itself(bench):
    """Exceptions and their error codes, debug registers, single steps, protected mode, loops: what QEMU's
    processor does wrong natively it does wrong under the driver, and nothing else goes wrong. Much of `faults` is not reached: QEMU
    loses its way at the gates. `cpuid` is left out: QEMU hangs in it natively, while it tries the bits of CR4."""
    folder = os.path.join(os.path.abspath(BUILD), "tests/cpu")
    programs = {name: "%s/%s.elf" % (folder, name) for name in ("debug", "faults", "loops")}
    programs["protected"] = bench.path("protected")
    with open(programs["protected"], "wb") as out, open(folder + "/protected.bin", "rb") as flat:
        out.write(pvh_elf(flat.read()))
    log = run(bench, "".join("""
        status=0; ringside-monitor -e driver -m 64 -k /bare/%s -i /dev/null -a "" -s file:/tmp/serial --debug-exit --no-reboot \\
            --timeout 60 || status=$?
        echo "PROGRAM %s $status"; cat /tmp/serial; rm -f /tmp/serial
    """ % (name, name) for name in programs) + "echo PROGRAM" + CLEAN_END,
              files={"/bare/" + name: path for name, path in programs.items()}, seconds=60).expect().log.replace("\r", "")
    for name, path in programs.items():
        native = on_the_emulator(bench, path)
        status, said = re.search(r"^PROGRAM %s (\d+)\n(.*?)^PROGRAM" % name, log, re.M | re.S).groups()
        note("%s: %s" % (name, native))
        check((int(status), failures(said)) == native, "%s: status %s, %s\ninstead of %s" % (name, status, said, native))


@by_hand
def apics_and_two_processors_bare(bench):
    """APICs, NMI, start-up, shootdown, cross-modifying code (tests/cpu/bare/machine.c)."""
    run(bench, """
        for n in 1 2 3; do
            status=0; ringside-monitor -e driver -m 64 -c 2 -k /machine -i /dev/null -a "" -s file:/tmp/serial --debug-exit --timeout 90 || status=$?
            cat /tmp/serial; [ $status = 1 ]
        done
    """ + CLEAN_END, files={"/machine": os.path.join(os.path.abspath(BUILD), "tests/cpu/machine.elf")}, seconds=200)


@test
def killed_monitor_leaves_nothing(bench):
    """Neither a page nor a processor that hangs, whenever it is; the module can go each time."""
    run(bench, CARRY_KILLED + CLEAN_END, cpus=2, files=CARRY_FILE, seconds=40).expect("FREE", "GUESTS OK")


@test
def two_small_machines_at_once(bench):
    run(bench, CARRY_TWO + CLEAN_END, cpus=2, files=CARRY_FILE, seconds=30).expect("BOTH COUNTED")


@test
def from_engine_to_engine(bench):
    """With two CPUs, on one processor of the testbed."""
    run(bench, CARRY_ENGINES + "sleep 0.3" + CLEAN_END, modules=KVM + ("ringside",), files=CARRY_FILE, seconds=60).expect(
        "UNDER kvm", "UNDER translate", "UNDER driver")


@by_hand
def killed_debian_leaves_nothing_and_busy_module_stays(bench):
    run(bench, """
        make 2 "quiet do=count"
        await "COUNT 2[^0-9]"
        if rmmod ringside; then exit 1; fi
        kill -9 $(cat $folder/lock)
        i=0; while ! rmmod ringside 2>/dev/null && [ $i -lt 50 ]; do i=$((i+1)); sleep 0.1; done
        [ ! -e /sys/module/ringside ]; pinned; clean
        insmod /lib/ringside.ko; driver_try hold & sleep 0.3; kill -9 $!; sleep 0.2
    """ + CLEAN_END, cpus=2, seconds=40)


@test
def takes_the_hardware_from_nobody(bench):
    run(bench, """
        make 1 "quiet do=wait"; await WAITING
        if ringside-monitor -e kvm -k /guest/vmlinux; then exit 1; fi
        ringctl doctor || true
        ringctl stop --force m
        sed -i s/engine=driver/engine=kvm/ $folder/machine.ini; rm /tmp/serial; ringctl start m; await WAITING
        if ringside-monitor -e driver -k /guest/vmlinux; then exit 1; fi
        if driver_try guest; then exit 1; fi
        ringctl stop --force m; sleep 0.3
        driver_try guest
    """ + CLEAN_END, modules=KVM + ("ringside",), seconds=60).expect(
        "holds the processor's AMD-V", "KVM, with a running machine, holds", "FAILED: create a machine (errno 16)",
        "GUESTS OK")


@by_hand
def used_by_name_only(bench):
    run(bench, """
        ringctl doctor || true
        make 1 "quiet do=wait"; ringctl info m; ringctl stop --force m
        sed -i s/engine=driver/engine=auto/ $folder/machine.ini
        ringctl start m; ringctl info m; ringctl stop --force m
    """ + CLEAN_END).expect("It is on trial", "engine           driver", "engine           translate")


@by_hand
def two_processors(bench):
    run(bench, "(" + BOOT % ("driver", 2, "quiet") + ")" + CLEAN_END, cpus=2, seconds=90).expect("USERSPACE", "CPUS 2")


@by_hand
def firmware_and_grub(bench):
    iso = images.grub_iso("testbed-grub", GRUB, {})
    run(bench, """
        ringside-monitor -e driver -m 256 --cdrom /grub.iso -s file:/tmp/serial --timeout 60
        cat /tmp/serial
    """ + CLEAN_END, files={"/grub.iso": iso}).expect("HELLO FROM GRUB")


@by_hand
def debian_boots_from_its_disk(bench):
    disk = with_disk(debian_disk(), ("ringside",))
    run(bench, DISK + CLEAN_END, memory=2048, seconds=300, **disk).expect(
        "engine           driver", "Linux version", "debian login:", "Power down")


@by_hand
def triple_fault_is_told(bench):
    run(bench, "(" + BOOT.replace("exit $status", "[ $status = 101 ]") % ("driver", 1, "quiet do=reboot reboot=t") + ")" +
        CLEAN_END).expect("USERSPACE")


@by_hand
def two_machines_at_once(bench):
    run(bench, """
        for n in 1 2; do
            ringside-monitor -e driver -m 128 -k /guest/vmlinux -i /guest/initrd --timeout 200 \\
                -a 'console=ttyS0 no_timer_check quiet' -s file:/tmp/serial$n &
        done
        wait
        cat /tmp/serial1; echo; cat /tmp/serial2
        grep -q USERSPACE /tmp/serial1; grep -q USERSPACE /tmp/serial2
    """ + CLEAN_END, cpus=2, seconds=60)


@by_hand
def pauses_do_no_harm(bench):
    log = run(bench, """
        make 2 "quiet do=count"
        await "COUNT 5[^0-9]"
        i=0; while [ $i -lt 12 ]; do ringctl pause m; ringctl resume m; i=$((i+1)); done
        ringctl suspend m; mv /tmp/serial /tmp/serial.before; ringctl start m
        await "COUNT 40[^0-9]"; absent "MEMORY CHANGED"; cat /tmp/serial.before /tmp/serial
        ringctl stop --force m; sleep 0.3
    """ + CLEAN_END, cpus=2, seconds=90).expect("COUNT 40").log
    counts = [int(line.split()[1]) for line in log.splitlines() if line.startswith("COUNT ")]
    check(counts == list(range(1, len(counts) + 1)), "the count jumped: %s" % counts)


@by_hand
def debian_from_engine_to_engine(bench):
    run(bench, """
        make 2 "quiet do=count"
        await "COUNT 3[^0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under kvm
        await "COUNT [0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under driver
        await "COUNT [0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under translate
        await "COUNT [0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under driver
        await "COUNT 30[^0-9]"; absent "MEMORY CHANGED"; tail -1 /tmp/serial
        ringctl stop --force m; sleep 0.3
    """ + CLEAN_END, modules=KVM + ("ringside",), seconds=120).expect("UNDER kvm", "UNDER translate")


@by_hand
def memory_map_changes_under_running_processors(bench):
    run(bench, "(" + BOOT % ("driver", 2, "quiet do=remap") + ")" + CLEAN_END, cpus=2, seconds=120).expect("REMAPPED 30")


@by_hand
def boots_no_slower_than_kvm(bench):
    """RINGSIDE_ROUNDS (3) of four boots each, in an order that alternates; the translator once, since it is many times slower."""
    rounds = int(os.environ.get("RINGSIDE_ROUNDS", "3"))
    log = run(bench, "rounds='%s'\n" % " ".join(map(str, range(1, rounds + 1))) + TIMES, modules=KVM + ("ringside",),
              seconds=100 + 60 * rounds).log
    times = {}
    for engine, start, end in re.findall(r"^TIME (\w+) ([\d.]+) ([\d.]+)", log, re.M):
        times.setdefault(engine, []).append(float(end) - float(start))
    note("\n".join(line for line in log.splitlines() if "turns," in line))
    for engine, values in times.items():
        note("%s: median %.2f s of %s" % (engine, statistics.median(values), " ".join("%.2f" % v for v in values)))
    check(statistics.median(times["driver"]) <= statistics.median(times["kvm"]) * 1.05, "the driver is slower than KVM")


main()
