"""What the scripts here share: sizes, a p2p to measure, and processes that are told commands."""

import json
import re
import socket
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
GIB = 1 << 30
DEADLINE_S = 600


def parse_size(text):
    for unit, factor in {"KiB": 1 << 10, "MiB": MIB, "GiB": GIB}.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def build_p2p():
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "p2p"], cwd=ROOT, check=True)
    return ROOT / "target/release/p2p"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Party:
    """A running tracker or client. (`ip netns exec` becomes the program it runs, so the process is that one.)"""

    def __init__(self, command, log):
        self.log = open(log, "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def ask(self, command):
        watchdog = threading.Timer(DEADLINE_S, self.process.kill)
        watchdog.start()
        try:
            self.process.stdin.write(f"{command}\n".encode())
            self.process.stdin.flush()
            for line in self.process.stdout:
                answer = json.loads(line)
                if "command" in answer:
                    assert answer["ok"], answer
                    return answer
        finally:
            watchdog.cancel()
        raise AssertionError(f"no answer to {command}; see {self.log.name}")

    def stop(self):
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def peak_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
