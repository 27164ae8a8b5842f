# SPDX-License-Identifier: GPL-2.0-or-later
"""The kvm engine, in the testbed: Debian's kernel to userspace, GRUB, and machines that change engines."""
import glob
import re
import shutil

import testbed  # first: it knows where the others are
import images
from harness import check, main, note, test
from scripts import BOOT, DISK, EXITS, GRUB, LIBRARY, MISSING, by_hand, debian_disk, with_disk


@test
def one_processor_to_userspace_and_power_off(bench):
    testbed.run(bench, BOOT % ("kvm", 1, "quiet")).expect("USERSPACE", "CPUS 1")


@test
def two_processors(bench):
    testbed.run(bench, BOOT % ("kvm", 2, "quiet"), seconds=120).expect("USERSPACE", "CPUS 2")


@test
def chosen_by_itself(bench):
    testbed.run(bench, LIBRARY + """make 1 "quiet do=wait"; ringctl stop --force m
        sed -i s/engine=kvm/engine=auto/ $folder/machine.ini
        ringctl start m; ringctl info m; ringctl stop --force m
    """).expect("engine           kvm")


@test
def doctor_and_reasons(bench):
    testbed.run(bench, "ringctl doctor").expect("ok   engine     kvm: ", "(AMD-V)")
    testbed.run(bench, "rm -f /dev/kvm; ringctl doctor", modules=["irqbypass", "kvm", "ccp"]).expect(
        "slow engine", "AMD-V is switched off in the firmware", status=5)
    testbed.run(bench, """ringctl doctor || echo STATUS $?
        ringside-monitor -e kvm || echo REFUSED""", modules=[]).expect(
        "STATUS 5", "REFUSED", "The kernel has no module kvm_amd")
    testbed.run(bench, """chown 0:107 /dev/kvm; chmod 660 /dev/kvm
        echo kvm:x:107: > /etc/group; echo alice:x:1000:1000::/tmp:/bin/sh > /etc/passwd
        chmod 755 /root; su alice -c "HOME=/tmp ringctl doctor"
    """).expect("You may not use /dev/kvm", "usermod -aG kvm alice", status=5)


@test
def triple_fault_is_told(bench):
    testbed.run(bench, BOOT.replace("exit $status", "[ $status = 101 ]") % (
        "kvm", 1, "quiet do=reboot reboot=t")).expect("USERSPACE")


@test
def firmware_and_grub(bench):
    iso = images.grub_iso("testbed-grub", GRUB, {})
    testbed.run(bench, """
        ringside-monitor -e kvm -m 256 --cdrom /grub.iso -s file:/tmp/serial --timeout 60 && status=0 || status=$?
        cat /tmp/serial
        exit $status
    """, files={"/grub.iso": iso}).expect("HELLO FROM GRUB")


@test
def from_kvm_to_translate_and_back(bench):
    testbed.run(bench, LIBRARY + """make 1 "quiet do=count"
        await "COUNT 20[^0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under translate
        await "COUNT [0-9]"; ringctl suspend m; tail -1 /tmp/serial
        under kvm
        await "COUNT 60[^0-9]"; absent "MEMORY CHANGED"; cat /tmp/serial.* /tmp/serial
    """, seconds=90).expect("COUNT 60")


@test
def network_cards_get_an_address(bench):
    """Through MSI-X and through the line, which is an IO-APIC input of ours."""
    script = """for card in e1000e virtio; do for how in "" pci=nomsi; do
        rm -f /tmp/serial
        ringside-monitor -e kvm -m 256 -k /guest/vmlinux -i /network.gz --network user --card $card --timeout 100 \
            -a "console=ttyS0 quiet do=nothing $how" -s file:/tmp/serial
        grep -q "LEASE 10.0.2.15" /tmp/serial || { cat /tmp/serial; exit 1; }
        echo "$card $how LEASE"
    done; done
    """
    testbed.run(bench, script, files={"/network.gz": images.network_initramfs()}, seconds=150).expect(
        "e1000e  LEASE", "e1000e pci=nomsi LEASE", "virtio  LEASE", "virtio pci=nomsi LEASE")


@test
def in_the_middle_of_a_boot(bench):
    testbed.run(bench, LIBRARY + """make 2 ""
        await "Serial: 8250"; ringctl suspend m; absent USERSPACE
        under translate
        await ...; ringctl suspend m; cat /tmp/serial; absent USERSPACE
        under kvm
        await USERSPACE; cat /tmp/serial
    """, seconds=120).expect("CPUS 2")


@by_hand
def pauses_do_no_harm(bench):
    log = testbed.run(bench, LIBRARY + """make 2 "quiet do=count"
        await "COUNT 5[^0-9]"
        i=0; while [ $i -lt 25 ]; do ringctl pause m; ringctl resume m; i=$((i+1)); done
        ringctl suspend m; mv /tmp/serial /tmp/serial.before; ringctl start m
        await "COUNT 99[^0-9]"; absent "MEMORY CHANGED"; cat /tmp/serial.before /tmp/serial
    """, seconds=120).expect("COUNT 99").log
    counts = [int(n) for n in re.findall(r"^COUNT (\d+)", log, re.M)]
    check(counts == list(range(1, len(counts) + 1)), "the count jumped: %s" % counts)


@test
def screen_shows_what_changed(bench):
    testbed.run(bench, LIBRARY + """
        cp /bzImage /guest/vmlinux; make 1 "console=tty0"
        await "Serial: 8250"; ringctl screenshot m /tmp/first.png
        await "USERSPACE"; ringctl screenshot m /tmp/second.png
        ls -l /tmp/*.png
        if cmp -s /tmp/first.png /tmp/second.png; then exit 1; fi
    """, files={"/bzImage": images.kernel()}, seconds=90).expect("second.png")


@by_hand
def memory_map_changes_under_running_processors(bench):
    testbed.run(bench, BOOT % ("kvm", 2, "quiet do=remap"), seconds=90).expect("REMAPPED 30")


@test
def memory_that_is_missing_pauses_the_machine(bench):
    testbed.run(bench, LIBRARY + MISSING, seconds=40).expect(
        "paused because the host cannot give the guest a page of its memory. Close other programs")


@by_hand
def debian_boots_from_its_disk(bench):
    testbed.run(bench, LIBRARY + "engine=kvm\n" + DISK, memory=2048, seconds=300,
                **with_disk(debian_disk(), testbed.MODULES)).expect(
        "engine           kvm", "Linux version", "debian login:", "Power down")


def qemu_files():
    """QEMU, to run in the testbed."""
    program = shutil.which("qemu-system-x86_64")
    found = [program, *testbed.libraries(program), *glob.glob("/usr/share/qemu/*.rom"), *glob.glob("/usr/share/qemu/*.bin")]
    return {where: where for where in found}


@by_hand
def exits_beside_qemu(bench):
    log = testbed.run(bench, EXITS, files=qemu_files(), memory=1536, seconds=150).expect("EXITS plain after").log
    seen = {(name, when): [int(n) for n in numbers.split()] for name, when, numbers in
            re.findall(r"^EXITS (\w+) (\w+) ([\d ]+)", log, re.M)}
    totals, devices = {}, {}
    for name in ("ringside", "qemu", "plain"):
        requests = [after - before for before, after in zip(seen[name, "before"], seen[name, "after"])]
        for what, (every, interrupts, ports, memory), per in (("boot", seen[name, "boot"], 1), ("request", requests, 400)):
            note("%s, %s: %.1f exits, of these %.1f for the host's interrupts, %.1f for ports, %.1f for device memory" % (
                name, what, every / per, interrupts / per, ports / per, memory / per))
            devices[name, what] = ports + memory
            totals[name, what] = every - interrupts  # those depend on how long it takes
    for what in ("boot", "request"):
        check(devices["ringside", what] <= devices["qemu", what], "more accesses to devices than under QEMU: %s" % devices)
        check(totals["ringside", what] <= totals["plain", what] * 1.02, "more exits than under QEMU: %s" % totals)
    check(totals["ringside", "boot"] <= totals["qemu", "boot"], "more exits for a boot than under QEMU: %s" % totals)


main()
