#!/usr/bin/env python3
"""Measures many downloads at once: one seeder shares files, and each leecher downloads all of them.

    benches/many.py [--files 32] [--size 32MiB] [--leechers 1] [--runs 3] [--p2p PROGRAM]

Each run has a tracker and clients of its own on loopback, with everything in /dev/shm. The time is from the first `download_file`
until `wait` has answered; copies are compared with what was shared. The peaks are those of the largest process.

Needs Linux, Python 3.9 and cargo.
"""

import argparse
import filecmp
import os
import tempfile
import time
from pathlib import Path

from common import MIB, Party, build_p2p, free_port, parse_size


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


def run(p2p, options, folder):
    info, parties = folder / "tracker_info.txt", []
    info.write_text(f"127.0.0.1:{free_port()}\n")

    def start(name, *arguments):
        parties.append(Party([p2p, *arguments, "--data-dir", folder / name], folder / f"{name}.log"))
        return parties[-1]

    try:
        start("tracker", "tracker", info, "1")
        names = ["seeder", *(f"leecher-{number}" for number in range(options.leechers))]
        clients = {name: start(name, "client", f"127.0.0.1:{free_port()}", info, "--json") for name in names}
        files = [make_file(folder / f"file-{number}", options.size) for number in range(options.files)]
        wall_s = download(clients, files, folder)
        rate = options.files * options.size * options.leechers / MIB / wall_s
        peak_mib = max(client.peak_mib() for client in clients.values())
        return {"wall_s": round(wall_s, 2), "mib_per_s": round(rate), "peak_mib": round(peak_mib)}
    finally:
        for party in parties:
            party.stop()


def download(clients, files, folder):
    """Seconds until every leecher has every file."""
    for name, client in clients.items():
        client.ask(f"create_user {name} a-password-for-all")
        client.ask(f"login {name} a-password-for-all")
    seeder, *leechers = clients.values()
    seeder.ask("create_group files")
    for file in files:
        seeder.ask(f"upload_file {file} files")
    for name, leecher in list(clients.items())[1:]:
        leecher.ask("join_group files")
        seeder.ask(f"accept_request files {name}")
    copies = [[folder / f"copy-{number}-{file.name}" for file in files] for number in range(len(leechers))]
    begun = time.monotonic()
    for leecher, own in zip(leechers, copies):
        for file, copy in zip(files, own):
            leecher.ask(f"download_file files {file.name} {copy}")
    for leecher in leechers:
        leecher.ask("wait")
    wall_s = time.monotonic() - begun
    same = all(filecmp.cmp(file, copy, shallow=False) for own in copies for file, copy in zip(files, own))
    assert same, "other bytes arrived than were sent"
    return wall_s


def make_file(path, size):
    path.write_bytes((os.urandom(MIB) * (size // MIB + 1))[:size])
    return path


if __name__ == "__main__":
    main()
