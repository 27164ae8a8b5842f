# SPDX-License-Identifier: GPL-2.0-or-later
"""The kvm engine, in the testbed: Debian's kernel to userspace, and between engines."""
import testbed
from harness import check, main, test

BOOT = """ringside-monitor -e kvm -m 256 -c %d -k /guest/vmlinux -i /guest/initrd --timeout 100 \
    -a 'console=ttyS0 %s' -s file:/tmp/serial && status=0 || status=$?
cat /tmp/serial
exit $status
"""


@test
def one_processor_to_userspace_and_power_off(bench):
    testbed.run(bench, BOOT % (1, "quiet"), seconds=60).expect("USERSPACE", "CPUS 1")


@test
def two_processors(bench):
    testbed.run(bench, BOOT % (2, "quiet"), cpus=2, seconds=90).expect("USERSPACE", "CPUS 2")


main()
