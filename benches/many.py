#!/usr/bin/env python3
"""Measures many downloads at once: one seeder shares files, and each leecher downloads all of them.

    benches/many.py [--files 32] [--size 32MiB] [--leechers 1] [--runs 3] [--p2p PROGRAM]

Each run has a tracker and clients of its own on loopback, with everything in /dev/shm. The time is from the first `download_file`
until `wait` has answered; copies are compared with what was shared. The peaks are those of the largest process.

Needs Linux, Python 3.9 and cargo.
"""

import argparse
import filecmp
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20


def main():
    options = parse_options()
    p2p = options.p2p or build_p2p()
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            print(run(p2p, options, Path(folder)), flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=32, help="how many files [32]")
    parser.add_argument("--size", type=parse_size, default=32 * MIB, help="size of each [32MiB]")
    parser.add_argument("--leechers", type=int, default=1, help="who download all of them [1]")
    parser.add_argument("--runs", type=int, default=3, help="how often [3]")
    parser.add_argument("--p2p", type=Path, help="a p2p to measure [built in release mode]")
    return parser.parse_args()


def parse_size(text):
    for unit, factor in {"KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def build_p2p():
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "p2p"], cwd=ROOT, check=True)
    return ROOT / "target/release/p2p"


def run(p2p, options, folder):
    info = folder / "tracker_info.txt"
    info.write_text(f"127.0.0.1:{free_port()}\n")
    tracker = subprocess.Popen([p2p, "tracker", info, "1", "--data-dir", folder / "tracker"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clients = []
    try:
        for name in ["seeder", *(f"leecher-{number}" for number in range(options.leechers))]:
            clients.append(Client(p2p, info, folder, name))
        seeder, *leechers = clients
        files = [share(seeder, folder, number, options.size) for number in range(options.files)]
        for leecher in leechers:
            leecher.does("join_group files")
            seeder.does(f"accept_request files {leecher.name}")
        begun = time.monotonic()
        for leecher in leechers:
            for file in files:
                leecher.does(f"download_file files {file.name} {leecher.home / file.name}")
        for leecher in leechers:
            leecher.does("wait")
        wall_s = time.monotonic() - begun
        for leecher in leechers:
            if not all(filecmp.cmp(file, leecher.home / file.name, shallow=False) for file in files):
                raise SystemExit(f"{leecher.name} has other bytes than were shared")
        rate = options.files * options.size * options.leechers / MIB / wall_s
        return {"wall_s": round(wall_s, 2), "mib_per_s": round(rate), "peak_mib": round(max(map(Client.peak_mib, clients)))}
    finally:
        for process in [tracker, *(client.process for client in clients)]:
            process.kill()
            process.wait()


def share(seeder, folder, number, size):
    if number == 0:
        seeder.does("create_group files")
    file, some = folder / f"file-{number}", os.urandom(MIB)
    file.write_bytes((some * (size // MIB + 1))[:size])
    seeder.does(f"upload_file {file} files")
    return file


class Client:
    """A client process that is told commands."""

    def __init__(self, p2p, info, folder, name):
        self.name, self.home = name, folder / name
        self.home.mkdir()
        self.process = subprocess.Popen(
            [p2p, "client", f"127.0.0.1:{free_port()}", info, "--json", "--data-dir", self.home / "data"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.does(f"create_user {name} a-password-for-all")
        self.does(f"login {name} a-password-for-all")

    def does(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in map(json.loads, self.process.stdout):
            if "command" in answer:
                if not answer["ok"]:
                    raise SystemExit(f"{self.name}: {line}: {answer}")
                return
        raise SystemExit(f"{self.name} has ended: {line}")

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    main()
