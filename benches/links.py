#!/usr/bin/env python3
"""Measures how much of a long link a download from one peer fills, and beside it how much a plain TCP stream does.

    benches/links.py [--size 1GiB] [--streams 1] [--rate 1000] [--links 0ms,50ms,200ms,50ms/1%,200ms/1%] [--json]    (as root)

Two network namespaces are joined by a link of this script's own: two TUN devices and a process for each direction, which holds each
packet back for half the round trip, lets no more than the rate pass, and drops some at random. (The kernel's netem does the same
where it is built in; this needs nothing but TUN.) The queue before the link holds one round trip at that rate, at least 20 ms.

What goes by the link counts as segments of 1500 bytes, each with its headers. So that the link takes little of the machine that is
measured, the kernel hands them over as it would to a network card that cuts them up itself (TSO): up to 64 KiB of one stream at a time,
which leave for the other end when the last of them would have. Loss is by segment: where some of them are lost, what is left goes on in
pieces. A full queue drops all of them.

A tracker and the seeder are at one end, the leecher at the other. `whole` is the file's size over the time from the command until the
last verified byte is in place under the final name, `steady` the rate from the time on when a quarter was there: the difference is
the start (looking up, connecting, joining: some ten round trips, and TCP's slow start). The plain stream is one connection with the
system's own congestion control, which sends as many bytes as the file has; its steady rate is that after a quarter, too. With --streams, several
connections share those bytes: what they reach is what the link of this script carries on this machine.

Needs Linux, Python 3.9, iproute2 and cargo.
"""

import argparse
import collections
import fcntl
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import DEADLINE_S, MIB, Party, build_p2p, parse_size

MTU = 1500
SUPER = 10 + (1 << 16)  # What one read may give: `Segments` and all.
PORT = 7000
ENDS = [("near", "198.18.0.1"), ("far", "198.18.0.2")]  # Addresses that RFC 2544 sets aside for benchmarks.
LEAST_QUEUE_S = 0.02


def main():
    options = parse_options()
    if options.plain:
        return plain_end(*options.plain)
    p2p = options.p2p or build_p2p()
    results = []
    for link in options.links:
        with Network(link, options.rate, options.sysctl) as network:
            plain = run_plain(network, options.size, options.streams)
            ours = run_p2p(network, p2p, options)
        capacity = options.rate * 1e6 / 8
        found = {"link": link.name, "plain": share(plain, capacity), "p2p": share(ours, capacity), "peak_mib": ours["peak_mib"]}
        results.append(found)
        print(found, file=sys.stderr)
    if options.json:
        print(json.dumps({"size": options.size, "mbit_per_s": options.rate, "links": results}))
    else:
        print_table(results)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=parse_size, default=1 << 30, help="size of the file [1GiB]")
    parser.add_argument("--rate", type=float, default=1000, help="Mbit/s that the link carries, IP headers included [1000]")
    parser.add_argument("--links", type=parse_links, default=parse_links("0ms,50ms,200ms,50ms/1%,200ms/1%"), metavar="RTT[/LOSS],…",
                        help="round trips and losses [0ms,50ms,200ms,50ms/1%%,200ms/1%%]")
    parser.add_argument("--streams", type=int, default=1, help="how many plain TCP streams carry the bytes [1]")
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm"), help="where the files are [/dev/shm]")
    parser.add_argument("--p2p", type=Path, help="a p2p to measure [built in release mode]")
    parser.add_argument("--options", default="", help="more options for both clients")
    parser.add_argument("--sysctl", action="append", default=[], metavar="NAME=VALUE",
                        help="set in both namespaces, such as net.ipv4.tcp_congestion_control=cubic; may repeat")
    parser.add_argument("--json", action="store_true", help="report as one JSON object")
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


Link = collections.namedtuple("Link", "name round_trip_s loss")


def parse_links(text):
    return [parse_link(name) for name in text.split(",")]


def parse_link(name):
    match = re.fullmatch(r"(\d+)ms(?:/([\d.]+)%)?", name)
    if not match:
        raise argparse.ArgumentTypeError(f"{name} is no link: 50ms or 50ms/1%")
    return Link(name, int(match[1]) / 1e3, float(match[2] or 0) / 100)


class Network:
    """Two namespaces and the link between them, while it stands."""

    def __init__(self, link, mbit_per_s, settings):
        self.link = link
        self.settings = settings
        self.bytes_per_s = mbit_per_s * 1e6 / 8
        self.names = [f"p2p-{name}-{os.getpid()}" for name, _ in ENDS]
        self.relays = []

    def __enter__(self):
        try:
            ends = [self.make_end(*end) for end in zip(self.names, ENDS)]
            self.relays = [self.start_relay(*pair) for pair in (ends, ends[::-1])]
            for end in ends:
                os.close(end)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for relay in self.relays:
            os.kill(relay, signal.SIGKILL)
            os.waitpid(relay, 0)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def make_end(self, namespace, end):
        name, address = end
        device = f"p2p-{name}"
        tun = open_tun(device)
        run("ip", "netns", "add", namespace)
        run("ip", "link", "set", device, "netns", namespace)
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", device)
        run("ip", "-n", namespace, "link", "set", device, "mtu", str(MTU), "txqueuelen", "100000", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        for setting in self.settings:
            run("ip", "netns", "exec", namespace, "sysctl", "-qw", setting)
        return tun

    def start_relay(self, source, sink):
        child = os.fork()
        if child == 0:
            try:
                relay(source, sink, self.link, self.bytes_per_s)
            finally:
                os._exit(1)
        return child

    def at(self, end, *command):
        """A command that runs at an end of the link."""
        return ["ip", "netns", "exec", self.names[end], *map(str, command)]


def run(*command):
    subprocess.run(command, check=True)


def open_tun(name):
    """A device for IP packets with a header of virtio's before each: it cuts up and sums nothing itself.

    TUNSETIFF with IFF_TUN, IFF_NO_PI and IFF_VNET_HDR, then TUNSETOFFLOAD with TUN_F_CSUM and TUN_F_TSO4."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x5001))
    fcntl.ioctl(tun, 0x400454D0, 0x03)
    return tun


class Segments:
    """What a TUN device gave: one IP packet, or several segments of a TCP stream behind one header of each kind.

    Before them stands virtio's header: flags, kind of segments, length of all headers, payload of a segment, and where the checksum
    is that covers the pseudo header alone until the packet leaves the machine."""

    VIRTIO = 10

    def __init__(self, given):
        self.given = given
        self.payload_each = int.from_bytes(given[4:6], sys.byteorder) if given[1] else 0
        if self.payload_each:
            self.start = self.VIRTIO + 4 * (given[self.VIRTIO] & 15)
            self.headers = self.start + 4 * (given[self.start + 12] >> 4)
            self.count = -(-(len(given) - self.headers) // self.payload_each)
        else:
            self.count = 1

    def wire_bytes(self):
        """Bytes of all segments with the headers of each."""
        size = len(self.given) - self.VIRTIO
        return size + (self.count - 1) * (self.headers - self.VIRTIO) if self.count > 1 else size

    def without(self, lost):
        """What to hand to the other side where the segments of these numbers are lost."""
        bounds = [-1, *lost, self.count]
        return [self.part(before + 1, after) for before, after in zip(bounds, bounds[1:]) if before + 1 < after]

    def part(self, first, end):
        """Some of the segments, as if they alone had been sent."""
        if end - first == self.count:
            return self.given
        each, start = self.payload_each, self.start
        head = bytearray(self.given[:self.headers])
        payload = self.given[self.headers + first * each:self.headers + end * each]
        if len(payload) <= each:
            head[1:6] = bytes(5)
        length = self.headers - self.VIRTIO + len(payload)
        put(head, self.VIRTIO + 2, "!HH", length, (get(head, self.VIRTIO + 4, "!H") + first) % (1 << 16))
        put(head, self.VIRTIO + 10, "!H", 0)
        put(head, self.VIRTIO + 10, "!H", 0xFFFF ^ ones_sum(head[self.VIRTIO:start]))
        put(head, start + 4, "!I", (get(head, start + 4, "!I") + first * each) % (1 << 32))
        if end < self.count:
            head[start + 13] &= ~0x09  # FIN and PSH are the last segment's.
        if first > 0:
            head[start + 13] &= ~0x80  # CWR is the first one's.
        tcp_length = length - (start - self.VIRTIO)
        put(head, start + 16, "!H", ones_sum(head[start - 8:start] + struct.pack("!HH", socket.IPPROTO_TCP, tcp_length)))
        return bytes(head) + payload


def get(packet, at, form):
    return struct.unpack_from(form, packet, at)[0]


def put(packet, at, form, *values):
    struct.pack_into(form, packet, at, *values)


def ones_sum(words):
    """The sum of 16-bit words that IP's checksums are made of."""
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    return (total - 1) % 0xFFFF + 1 if total else 0


def relay(source, sink, link, bytes_per_s):
    """Moves packets in one direction, for ever."""
    chance, clock = random.Random(source), time.monotonic
    delay_s, loss, queue_s = link.round_trip_s / 2, link.loss, max(link.round_trip_s, LEAST_QUEUE_S)
    on_the_way = collections.deque()
    free_at = 0.0
    while True:
        wait_s = max(0.0, on_the_way[0][0] - clock()) if on_the_way else None
        select.select([source], [], [], wait_s)
        for packet in read_packets(source):
            now = clock()
            free_at = max(now, free_at)
            if free_at - now >= queue_s:
                continue
            segments = Segments(packet)
            free_at += segments.wire_bytes() / bytes_per_s
            lost = [number for number in range(segments.count) if chance.random() < loss] if loss else []
            on_the_way.extend((free_at + delay_s, part) for part in segments.without(lost))
        now = clock()
        while on_the_way and on_the_way[0][0] <= now:
            os.write(sink, on_the_way.popleft()[1])


def read_packets(source, most=64):
    for _ in range(most):
        try:
            yield os.read(source, SUPER)
        except BlockingIOError:
            return


def run_plain(network, size, streams):
    """TCP streams from end to end."""
    script = Path(__file__).resolve()
    sender = subprocess.Popen(network.at(0, sys.executable, script, "--plain", "send", size, streams), stdout=subprocess.PIPE)
    try:
        sender.stdout.readline()
        taken = subprocess.run(network.at(1, sys.executable, script, "--plain", "receive", size, streams),
                               check=True, stdout=subprocess.PIPE, timeout=DEADLINE_S)
        return json.loads(taken.stdout)
    finally:
        sender.kill()
        sender.wait()


def plain_end(role, size, streams):
    return {"send": plain_send, "receive": plain_receive}[role](int(size), int(streams))


def at_once(count, task):
    tasks = [threading.Thread(target=task) for _ in range(count)]
    for each in tasks:
        each.start()
    for each in tasks:
        each.join()


def plain_send(size, streams):
    block = bytes(256 * 1024)
    blocks = iter(range(0, size, len(block)))
    with socket.create_server((ENDS[0][1], PORT)) as listener:
        print("listening", flush=True)

        def send():
            stream, _ = listener.accept()
            with stream:
                for _ in blocks:
                    stream.sendall(block)

        at_once(streams, send)


def plain_receive(size, streams):
    progress = Progress(size)
    counts = collections.Counter()

    def receive():
        buffer = bytearray(MIB)
        with socket.create_connection((ENDS[0][1], PORT)) as stream:
            while count := stream.recv_into(buffer):
                counts[stream] += count
                progress.note(counts.total())

    at_once(streams, receive)
    assert counts.total() >= size, "a plain stream was cut"
    print(json.dumps(progress.rates()))


class Progress:
    """How many bytes had arrived when."""

    def __init__(self, size):
        self.size = size
        self.begun = time.monotonic()
        self.noted = []

    def note(self, received):
        self.noted.append((time.monotonic(), received))

    def rates(self):
        end = self.noted[-1][0]
        quarter_at, quarter = next(noted for noted in self.noted if noted[1] >= self.size / 4)
        return {"whole": self.size / (end - self.begun), "steady": (self.size - quarter) / max(end - quarter_at, 1e-3)}


def run_p2p(network, binary, options):
    folder = Path(tempfile.mkdtemp(prefix="links-", dir=options.dir))
    parties = []
    try:
        return download(network, binary, options, folder, parties)
    finally:
        for party in parties:
            party.stop()
        shutil.rmtree(folder)


def download(network, binary, options, folder, parties):
    payload, copy = folder / "payload.bin", folder / "copy.bin"
    make_file(payload, options.size)
    info = folder / "tracker_info.txt"
    info.write_text(f"{ENDS[0][1]}:5000\n")

    def start(name, end, *arguments):
        command = network.at(end, binary, *arguments, "--data-dir", folder / name)
        parties.append(Party(command, folder / f"{name}.log"))
        return parties[-1]

    start("tracker", 0, "tracker", info, 1)
    more = options.options.split()
    clients = [start(name, end, "client", f"{address}:6000", info, "--json", *more) for end, (name, address) in enumerate(ENDS)]
    for (name, _), client in zip(ENDS, clients):
        client.ask(f"create_user {name} password")
        client.ask(f"login {name} password")
    seeder, leecher = clients
    seeder.ask("create_group g")
    leecher.ask("join_group g")
    seeder.ask("accept_request g far")
    seeder.ask(f"upload_file {payload} g")
    progress = Progress(options.size)
    leecher.ask(f"download_file g {payload.name} {copy}")
    while True:
        row = leecher.ask("show_downloads")["downloads"][0]
        if row["state"] == "C":
            break
        assert row["state"] == "D", row
        progress.note(min(row["have"], options.size - 1))
        time.sleep(0.02)
    progress.note(options.size)
    same = subprocess.run(["cmp", payload, copy], check=False)
    assert same.returncode == 0, "other bytes arrived than were sent"
    return {**progress.rates(), "peak_mib": round(max(client.peak_mib() for client in clients), 1)}


def make_file(path, size):
    noise = bytearray(random.Random(1).randbytes(MIB))
    with open(path, "xb") as file:
        for offset in range(0, size, MIB):
            noise[:8] = offset.to_bytes(8, "little")
            noise[MIB // 2:MIB // 2 + 8] = (offset + 1).to_bytes(8, "little")
            file.write(noise[:min(MIB, size - offset)])


def share(rates, capacity):
    return {name: round(rates[name] / capacity, 3) for name in ("whole", "steady")}


def print_table(results):
    row = "{:12} {:>12} {:>12} {:>12} {:>12} {:>9}"
    print(row.format("link", "plain whole", "p2p whole", "plain steady", "p2p steady", "peak MiB"))
    for found in results:
        shares = [found[who][what] for what in ("whole", "steady") for who in ("plain", "p2p")]
        print(row.format(found["link"], *(f"{value:.1%}" for value in shares), found["peak_mib"]))


if __name__ == "__main__":
    main()
