"""Packets that vanish, as behind a pulled cable: nobody hangs up, and nobody answers."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Drop every packet to and from one port of the loopback, and nothing else."""
    rules = [
        ["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP"]
        for side in ("--dport", "--sport")
    ]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule], check=True, capture_output=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True, capture_output=True)


def _can_drop_packets() -> bool:
    """Whether this machine lets us: root, iptables, and a kernel that has it."""
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    asked = subprocess.run(["iptables", "-w", "-L", "-n"], check=False, capture_output=True)
    return asked.returncode == 0


needs_black_hole = pytest.mark.skipif(
    not _can_drop_packets(), reason="needs root and a working iptables"
)
