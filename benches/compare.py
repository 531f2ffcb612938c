#!/usr/bin/env python3
"""Compares transfers by p2p with transfers by rqbit, a BitTorrent client in Rust, on this machine.

    benches/compare.py [--size 1GiB] [--runs 5] [--shapes 1:1,4:1,1:4] [--json]

Both systems move the same number of bytes in memory (/dev/shm) over loopback, in turns, each run with new processes. Time counts from the
command to download, at clients that are up and idle, until the last leecher says that all bytes are there and verified; the copies
are compared with the original afterwards. CPU seconds are those of all peers in that time, memory is the peak of the largest peer
since it started. p2p encrypts and checks SHA-1 and BLAKE3 of pieces and file; rqbit sends in the clear and checks SHA-1 of pieces.

Only ratios mean something, for machines have fast and slow phases: each is the median of the ratios of two runs that followed one
another. `copy` is how fast `dd` fills new pages in the same place just before each run. Where others work on the machine, --patience
lets each run wait for a second in which the machine is four fifths idle.

Needs Linux, Python 3.9 and cargo. rqbit comes from crates.io and is built below target/.
"""

import argparse
import filecmp
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from common import GIB, MIB, ROOT, build_p2p, free_port, parse_size

RQBIT_VERSION = "9.1.0"
PIECE = 512 * 1024
POLL_S = 0.01
DEADLINE_S = 900
TICK = os.sysconf("SC_CLK_TCK")


def main():
    options = parse_options()
    p2p = options.p2p or build_p2p()
    rqbit = options.rqbit or build_rqbit()
    systems = {"p2p": lambda *shape: run_p2p(p2p, options, *shape), "rqbit": lambda *shape: run_rqbit(rqbit, options, *shape)}
    results = {}
    for shape in options.shapes:
        runs = {name: [] for name in systems}
        for _ in range(options.runs):
            for name, measure in systems.items():
                wait_for_quiet(options.patience)
                copy = page_copy_speed(options.dir)
                runs[name].append({**measure(*shape), "copy_mib_per_s": copy})
                print(f"{shape_name(shape)} {name}: {runs[name][-1]}", file=sys.stderr)
        found = {name: medians(taken) for name, taken in runs.items()}
        results[shape_name(shape)] = {**found, "ratio": medians([ratios(*pair) for pair in zip(*runs.values())])}
    if options.json:
        print(json.dumps({"size": options.size, "runs": options.runs, "rqbit": RQBIT_VERSION, "shapes": results}))
    else:
        print_table(results)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=parse_size, default=GIB, help="size of the file [1GiB]")
    parser.add_argument("--runs", type=int, default=5, help="runs of each system, of which the median counts [5]")
    parser.add_argument("--shapes", type=parse_shapes, default=[(1, 1), (4, 1), (1, 4)], metavar="S:L,…",
                        help="seeders:leechers [1:1,4:1,1:4]")
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm"), help="where the files are [/dev/shm]")
    parser.add_argument("--p2p", type=Path, help="a p2p to measure [built in release mode]")
    parser.add_argument("--rqbit", type=Path, help=f"an rqbit to measure [{RQBIT_VERSION} from crates.io]")
    parser.add_argument("--patience", type=float, default=0, metavar="S", help="wait so long at most for a quiet machine [0]")
    parser.add_argument("--json", action="store_true", help="report as one JSON object")
    return parser.parse_args()


def parse_shapes(text):
    return [tuple(int(count) for count in shape.split(":")) for shape in text.split(",")]


def shape_name(shape):
    return f"{shape[0]} to {shape[1]}"


def build_rqbit():
    """Without its web page, which needs node, and without databases."""
    root = ROOT / "target/compare"
    binary = root / "bin/rqbit"
    if not binary.exists():
        features = ["--no-default-features", "--features", "default-tls"]
        subprocess.run(["cargo", "install", "rqbit", "--version", RQBIT_VERSION, "--locked", "--root", root, *features],
                       check=True)
    return binary


def wait_for_quiet(patience_s):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = idle_s()
        time.sleep(1)
        if idle_s() - before > 0.8 * os.cpu_count():
            return


def idle_s():
    """Seconds for which processors have had nothing to do, of all of them together (proc_stat(5))."""
    return int(Path("/proc/stat").read_text().split()[4]) / TICK


def page_copy_speed(folder):
    """MiB a second that one core writes into pages that nobody had before: what the machine gives right now."""
    target = folder / f"copy-{os.getpid()}"
    try:
        start = time.monotonic()
        subprocess.run(["dd", "if=/dev/zero", f"of={target}", "bs=1M", "count=512", "status=none"], check=True)
        return 512 / (time.monotonic() - start)
    finally:
        target.unlink(missing_ok=True)


def run_p2p(binary, options, seeders, leechers):
    arguments = ["--size", str(options.size), "--seeders", str(seeders), "--leechers", str(leechers)]
    report = subprocess.run([binary, "bench", "transfer", "--json", "--dir", options.dir, *arguments],
                            check=True, stdout=subprocess.PIPE)
    found = json.loads(report.stdout)
    assert found["verified"], "p2p delivered other bytes than it was given"
    return {name: found[name] for name in ("mib_per_s", "cpu_s_per_gib", "peak_mib")}


def run_rqbit(binary, options, seeders, leechers):
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        folder = Path(folder)
        original = folder / "payload.bin"
        torrent = make_torrent(original, options.size)
        peers = [Rqbit(binary, folder / f"peer-{index}") for index in range(seeders + leechers)]
        try:
            return transfer(peers[:seeders], peers[seeders:], torrent, original)
        finally:
            for peer in peers:
                peer.stop()


def transfer(seeders, leechers, torrent, original):
    for peer in seeders + leechers:
        peer.wait_until_up()
    for seeder in seeders:
        seeder.add(torrent, original.parent, [])
    wait_for_all(seeders)
    time.sleep(0.5)  # What they still have to do after that is not the transfer's.
    before = cpu_s(seeders + leechers)
    start = time.monotonic()
    for leecher in leechers:
        others = [peer.address for peer in seeders + leechers if peer is not leecher]
        leecher.add(torrent, leecher.folder, others)
    wait_for_all(leechers)
    wall_s = time.monotonic() - start
    cpu = cpu_s(seeders + leechers) - before
    for leecher in leechers:
        assert filecmp.cmp(original, leecher.folder / original.name, shallow=False), "rqbit delivered other bytes than it was given"
    delivered = original.stat().st_size * len(leechers)
    return {
        "mib_per_s": delivered / MIB / wall_s,
        "cpu_s_per_gib": cpu / (delivered / GIB),
        "peak_mib": max(peer.peak_mib() for peer in seeders + leechers),
    }


def wait_for_all(peers):
    deadline = time.monotonic() + DEADLINE_S
    while not all(peer.is_finished() for peer in peers):
        assert time.monotonic() < deadline, "rqbit does not come to an end"
        time.sleep(POLL_S)


class Rqbit:
    """A running rqbit that knows nobody but those it is told of."""

    def __init__(self, binary, folder):
        folder.mkdir()
        self.folder = folder
        port, api = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.api = f"http://127.0.0.1:{api}"
        alone = ["--disable-dht", "--disable-trackers", "--disable-lsd", "--disable-upnp-port-forward"]
        places = ["--listen-ip", "127.0.0.1", "--listen-port", str(port), "--http-api-listen-addr", f"127.0.0.1:{api}"]
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(
            [binary, "-v", "error", *alone, *places, "server", "start", "--disable-persistence", folder],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def wait_until_up(self):
        deadline = time.monotonic() + 10
        while True:
            try:
                return self.ask("/torrents")
            except urllib.error.URLError:
                assert time.monotonic() < deadline and self.process.poll() is None, "rqbit does not start"
                time.sleep(POLL_S)

    def add(self, torrent, folder, peers):
        query = f"overwrite=true&output_folder={folder}"
        if peers:
            query += "&initial_peers=" + ",".join(peers)
        self.ask(f"/torrents?{query}", torrent)

    def is_finished(self):
        stats = self.ask("/torrents/0/stats/v1")
        assert stats["error"] is None, stats["error"]
        return stats["finished"]

    def ask(self, path, body=None):
        with urllib.request.urlopen(self.api + path, data=body, timeout=60) as answer:
            return json.load(answer)

    def cpu_s(self):
        """Fields 14 and 15 of proc_pid_stat(5)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


def cpu_s(peers):
    return sum(peer.cpu_s() for peer in peers)


def make_torrent(path, size):
    """Writes a file of which no two pieces are alike, and describes it in pieces as large as those of p2p."""
    noise = bytearray(hashlib.shake_128(b"compare").digest(PIECE))
    hashes = []
    with open(path, "xb") as file:
        for offset in range(0, size, PIECE):
            noise[:8] = offset.to_bytes(8, "little")
            piece = noise[:min(PIECE, size - offset)]
            file.write(piece)
            hashes.append(hashlib.sha1(piece).digest())
    info = {b"length": size, b"name": path.name.encode(), b"piece length": PIECE, b"pieces": b"".join(hashes)}
    return bencode({b"info": info})


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def medians(runs):
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def ratios(ours, theirs):
    return {name: ours[name] / theirs[name] for name in ours}


def print_table(results):
    row = "{:8} {:6} {:>9} {:>11} {:>9} {:>11}"
    print(row.format("", "", "MiB/s", "CPU s/GiB", "peak MiB", "copy MiB/s"))
    for shape, systems in results.items():
        for name, found in systems.items():
            print(row.format(shape, name, *(f"{value:.2f}" for value in found.values())))


if __name__ == "__main__":
    main()
