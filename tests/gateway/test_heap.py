"""Memory that threads freed is given back, in a process of its own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import ctypes, sys, threading
from gateway.heap import settle_heap
if sys.argv[1] == "settled":
    settle_heap()

def work():
    # Blocks of a thread's own, of sizes that glibc comes to take from arenas, and some that stay.
    for n in range(1, 9):
        blocks = [bytes(n * 100_000) for _ in range(20)]
        kept.append(bytes(1000))
        del blocks

kept = []
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def arenas(path: Path, how: str) -> int:
    subprocess.run([sys.executable, "-c", LOAD, how, str(path)], check=True)
    return path.read_text().count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are of glibc")
def test_threads_share_one_arena(tmp_path: Path) -> None:
    assert arenas(tmp_path / "plain.xml", "plain") > 1
    assert arenas(tmp_path / "settled.xml", "settled") == 1
