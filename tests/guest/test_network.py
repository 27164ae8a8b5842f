# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel on the network, with both cards: address, name, download and upload compared with what
the host has, through pauses and suspends in the middle; IPv6; isolation; port forwards and the cable while it runs.

RINGSIDE_NET_MIB is how much is carried (200 by virtio, else 32)."""
import contextlib
import hashlib
import http.server
import os
import re
import socket
import struct
import threading
import time

import images
from harness import RINGCTL, Failure, Skip, check, main, need, run, test, wait

def mib(card=None):
    return int(os.environ.get("RINGSIDE_NET_MIB", "200" if card == "virtio" else "32"))


WORDS = "console=ttyS0 quiet do=%s port=%d up=%d"


class Gate:
    """Where what passes stops at certain places, once each, until it is told to go on."""

    def __init__(self, places):
        self.places, self.reached, self.allowed, self.changed = list(places), 0, 0, threading.Condition()

    def next(self, at):
        """The next place; None: there is none ahead."""
        ahead = self.places[self.reached:]
        return ahead[0] if ahead and at < ahead[0] else None

    def stop(self):
        with self.changed:
            self.reached += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.allowed >= self.reached)

    def is_closed(self):
        return self.reached > self.allowed

    def open(self, places=1):
        with self.changed:
            self.allowed += places
            self.changed.notify_all()


class Server:
    """A web server on the loopback: /file, from any offset, and /have, how much has been taken by a port that takes bytes,
    those of several connections one after the other. Both stop at quarters of the way when they are told to."""

    def __init__(self, size=mib(), stops=()):
        block = hashlib.sha256(b"ringside").digest() * 32
        self.data = b"".join(struct.pack("<Q", i) + block[8:] for i in range(size * 1024))
        self.md5 = hashlib.md5(self.data).hexdigest()
        self.down, self.up_gate = (Gate(len(self.data) // 4 * stop for stop in stops) for _ in range(2))
        self.offsets, self.taken, self.uploads, self.lock = [], bytearray(), [], threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *ignored):
                pass

            def do_GET(self):
                if self.path == "/have":
                    outer.send_have(self)
                else:
                    outer.send_file(self)

        class Dual(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6
            daemon_threads = True

            def handle_error(self, *ignored):
                pass  # the guest's connections end when it is suspended
        self.http = Dual(("::", 0), Handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.up = self.listener.getsockname()[1]
        threading.Thread(target=self.take_uploads, daemon=True).start()

    def send_have(self, request):
        with self.lock:  # when the last connection has been read to its end
            body = b"%d\n" % len(self.taken)
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def send_file(self, request):
        match = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
        at = int(match.group(1)) if match else 0
        self.offsets.append(at)
        request.send_response(206 if at else 200)
        request.send_header("Content-Length", str(len(self.data) - at))
        if at:
            request.send_header("Content-Range", "bytes %d-%d/%d" % (
                at, len(self.data) - 1, len(self.data)))
        request.send_header("Connection", "close")
        request.end_headers()
        while (place := self.down.next(at)) is not None:
            request.wfile.write(self.data[at:place])
            request.wfile.flush()
            at = place
            self.down.stop()
        request.wfile.write(self.data[at:])

    def take(self, connection):
        while True:
            place = self.up_gate.next(len(self.taken))
            piece = connection.recv(min(1 << 20, place - len(self.taken)) if place else 1 << 20)
            if not piece:
                return
            self.taken += piece
            if len(self.taken) == place:
                self.up_gate.stop()

    def take_uploads(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            with self.lock:
                self.uploads.append(len(self.taken))
                try:
                    self.take(connection)
                except ConnectionError:
                    pass
                connection.close()

    def close(self):
        for gate in self.down, self.up_gate:
            gate.open(9)
        self.http.shutdown()
        self.listener.close()


class Names:
    """A name server that knows host.ringside.test, at 127.0.0.1. Its port takes root."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(("127.0.0.1", 53))
        except OSError as error:
            raise Skip("no name server can be at 127.0.0.1: %s" % error)
        self.socket.settimeout(0.2)
        self.open = True
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while self.open:
            try:
                query, peer = self.socket.recvfrom(1500)
            except TimeoutError:
                continue
            end = query.index(b"\0", 12) + 5
            kind = struct.unpack(">H", query[end - 4:end - 2])[0]
            known = query[12:end - 4] == b"\4host\10ringside\4test\0" and kind == 1
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + bytes([10, 1, 2, 3]) if known else b""
            self.socket.sendto(query[:2] + b"\x81\x80\0\1" + bytes([0, int(known)]) + b"\0\0\0\0" +
                               query[12:end] + answer, peer)

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


class Guest:
    def __init__(self, bench, do, server=None, **options):
        self.serial, self.heard = bench.path("serial.txt"), ""  # heard before the last suspend
        self.machine = bench.machine(
            kernel=images.kernel(), initrd=images.network_initramfs(), memory="768M",
            append=WORDS % (do, server.port if server else 0, server.up if server else 0), serial=self.serial, **options)

    def said(self):
        try:
            return open(self.serial, errors="replace").read()
        except OSError:
            return ""

    def wait(self, words, seconds):
        try:
            wait(lambda: words in self.said() or "Kernel panic" in self.said(), seconds, words)
        except Failure as failure:
            raise Failure("%s; it said\n%s" % (failure, self.said()[-3000:]))
        check(words in self.said(), "not said: %r in\n%s" % (words, self.said()[-3000:]))


def start_with_names(bench, machine):
    """The monitor gets a resolv.conf of its own."""
    need("unshare", "mount")
    resolv = bench.path("resolv.conf")
    with open(resolv, "w") as out:
        out.write("nameserver 127.0.0.1\n")
    run("unshare", "-m", "sh", "-c", "mount --make-rprivate / && mount --bind %s \"$(readlink -f /etc/resolv.conf)\""
        " && exec %s start %s" % (resolv, RINGCTL, machine.name), env=bench.env)


def interrupted(guest, gate, what):
    """The guest is paused at the first gate, and suspended at the second."""
    wait(gate.is_closed, 60, "a quarter of the %s; the guest said\n%s" % (what, guest.said()))
    guest.machine.do("pause")
    gate.open()  # the other side goes on, as far as it can
    time.sleep(1)
    check(gate.reached == 1, "the %s has gone on while the machine was paused" % what)
    guest.machine.do("resume")
    wait(gate.is_closed, 60, "three quarters of the %s; the guest said\n%s" % (what, guest.said()))
    guest.heard += guest.said()
    guest.machine.do("suspend")
    check(guest.machine.state() == "suspended", "it is not suspended")
    gate.open()
    guest.machine.start()


def carried_through_a_suspend(bench, card):
    if os.geteuid():
        raise Skip("a name server needs root")
    server, names = Server(mib(card), stops=(1, 3)), Names()
    try:
        guest = Guest(bench, "download", server, card=card)
        start_with_names(bench, guest.machine)
        interrupted(guest, server.down, "download")
        guest.wait("DOWNLOADED", 120)
        check("LEASE 10.0.2.15 ROUTER 10.0.2.2 DNS 10.0.2.3" in guest.heard and "NAME 1" in guest.heard, guest.heard)
        check("DOWNLOADED " + server.md5 in guest.said(), "other bytes arrived: " + guest.said())
        interrupted(guest, server.up_gate, "upload")
        guest.wait("UPLOADED", 120)
        check(server.taken == server.data, "other bytes left")
        # Suspending ends connections, pausing does not.
        for what, parts in ("download", server.offsets), ("upload", server.uploads):
            check(len(parts) == 2 and parts[1] > len(server.data) // 4, "the %s was in these parts: %s" % (what, parts))
        guest.machine.wait_state("off", 60)
    finally:
        server.close()
        names.close()


@test
def e1000e_carries_through_a_suspend(bench):
    carried_through_a_suspend(bench, "e1000e")


@test
def virtio_carries_through_a_suspend(bench):
    carried_through_a_suspend(bench, "virtio")


@test
def ipv6(bench):
    server = Server()
    guest = Guest(bench, "ipv6", server)
    guest.machine.start()
    guest.machine.wait_state("off", 90)
    server.close()
    check("ADDRESS6" in guest.said(), "no address: " + guest.said())
    check("DOWNLOADED " + server.md5 in guest.said(), "not downloaded: " + guest.said())


@test
def isolated_has_an_address_and_no_way_out(bench):
    server = Server()
    guest = Guest(bench, "isolated", server, network="isolated")
    guest.machine.start()
    guest.machine.wait_state("off", 60)
    server.close()
    check("LEASE" in guest.said() and "ISOLATED" in guest.said(), guest.said())
    check("GOT OUT" not in guest.said() and not server.offsets, "it got out: " + guest.said())


@test
def no_network_is_no_card(bench):
    guest = Guest(bench, "nothing", network="none")
    guest.machine.start()
    guest.machine.wait_state("off", 60)
    check("NO LEASE" in guest.said(), "there is a card: " + guest.said())


@contextlib.contextmanager
def host_device(kind):
    """A tap device or a bridge, rs-test, with an address of the host."""
    need("ip")
    if os.geteuid():
        raise Skip("network devices take root")
    make = ["tuntap", "add", "rs-test", "mode", "tap"] if kind == "tap" else [
        "link", "add", "rs-test", "type", "bridge"]
    try:
        run("ip", *make)
    except Failure as failure:
        raise Skip("the host can make no %s: %s" % (kind, failure))
    try:
        run("ip", "address", "add", "192.168.231.1/24", "dev", "rs-test")
        run("ip", "link", "set", "rs-test", "up")
        yield kind + ":rs-test"
    finally:
        run("ip", "link", "delete", "rs-test")


def download_through(bench, kind, card):
    server = Server()
    with host_device(kind) as mode:
        guest = Guest(bench, "tap", server, network=mode, card=card)
        guest.machine.start()
        guest.wait("DOWNLOADED " + server.md5, 60)
        guest.machine.wait_state("off", 60)
    server.close()


@test
def tap_device(bench):
    download_through(bench, "tap", "virtio")


@test
def bridge(bench):
    download_through(bench, "bridge", "e1000e")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def hear(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(100).decode()
    except OSError:
        return ""


def forwards_and_cable(bench, card):
    first, second = free_port(), free_port()
    guest = Guest(bench, "listen", card=card, forward="tcp:%d:22" % first)
    capture = guest.machine
    capture.start()
    guest.wait("LISTENING", 30)
    wait(lambda: "HELLO FROM THE GUEST" in hear(first), 10, "the forwarded port")
    check(not hear(second), "a port is forwarded that should not be")
    guest.machine.do("network", "--forward", "tcp:%d:22" % second)
    wait(lambda: "HELLO FROM THE GUEST" in hear(second), 10, "the port forwarded later")
    # Captured from here on, and no longer than it is to be.
    packets = bench.path("forward.pcap")
    guest.machine.do("network", "--capture", packets)
    wait(lambda: "HELLO FROM THE GUEST" in hear(second), 10, "the port while packets are captured")
    guest.machine.do("network", "--no-capture")
    with open(packets, "rb") as file:
        data = file.read()
    check(data[:4] == b"\xd4\xc3\xb2\xa1" and data.count(b"HELLO FROM THE GUEST") == 1, "not captured: %r" % data)
    wait(lambda: "HELLO FROM THE GUEST" in hear(second), 10, "the port after that")
    check(os.path.getsize(packets) == len(data), "packets are still captured")
    guest.machine.do("network", "--no-forward", "tcp:%d:22" % first)
    check(not hear(first), "the port is still forwarded")
    guest.wait("CARRIER 1", 10)
    guest.machine.do("network", "--cable", "off")
    guest.wait("CARRIER 0", 10)
    check(not hear(second), "the cable is out, and yet something was heard")
    ini = open(os.path.join(guest.machine.folder, "machine.ini")).read()
    check("cable=false" in ini and "forwards=tcp:%d:22\n" % second in ini, "not kept: " + ini)
    guest.machine.do("network", "--cable", "on")
    wait(lambda: guest.said().count("CARRIER 1") == 2, 20, "the cable in the guest again")
    wait(lambda: "HELLO FROM THE GUEST" in hear(second), 10, "the port after the cable")
    guest.machine.do("network", "--mode", "none", status=3)
    guest.machine.do("stop", "--force")
    guest.machine.do("network", "--capture", packets, status=3)


@test
def e1000e_forwards_and_cable(bench):
    forwards_and_cable(bench, "e1000e")


@test
def virtio_forwards_and_cable(bench):
    forwards_and_cable(bench, "virtio")


@test
def installer_goes_on_to_its_mirror_page(bench):
    """It has found the card and has an address then."""
    base = images.installer_folder("amd64", "text")
    serial = bench.path("serial.txt")
    machine = bench.machine(
        kernel=base + "linux", initrd=base + "initrd.gz", memory="1G", serial=serial,
        append="console=ttyS0 priority=high locale=en_US.UTF-8 keyboard-configuration/xkb-keymap=us "
               "netcfg/get_hostname=deb netcfg/get_domain=local hw-detect/load_firmware=false")
    machine.start()
    wait(lambda: "mirror of the Debian archive" in open(serial, errors="replace").read(), 90, "the mirror page")
    machine.do("stop", "--force")


@test
def legacy_interrupts_and_capture(bench):
    """Without MSI the line carries it; tcpdump's format holds the DHCP exchange."""
    path = bench.path("all.pcap")
    for card in "e1000e", "virtio":
        out = bench.ringctl("run", "--kernel", images.kernel(), "--initrd", images.network_initramfs(),
                            "--append", "console=ttyS0 quiet pci=nomsi do=nothing", "--serial", "stdio",
                            "--network", "user", "--card", card, "--capture", path, "--timeout", "240").stdout
        check("LEASE 10.0.2.15" in out, card + " has no lease: " + out)
        data = open(path, "rb").read()
        check(data[:4] == b"\xd4\xc3\xb2\xa1" and data.count(b"\x63\x82\x53\x63\x35") >= 4,
              "no DHCP in the capture of %d bytes" % len(data))


main()
