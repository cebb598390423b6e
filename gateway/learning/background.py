"""Runs our own program beside the work, last in line, bounded in memory and time."""

import asyncio
import os
import resource
import sys
from collections.abc import Sequence

NICENESS = 15
MEMORY_BYTES_MAX = 2 << 30
TIME_S_MAX = 1800.0


async def run_low(
    arguments: Sequence[str],
    *,
    memory_bytes: int = MEMORY_BYTES_MAX,
    time_s: float = TIME_S_MAX,
) -> str:
    """Run `python ARGUMENTS` in a process of its own; give its last words.

    Args:
        arguments: Such as `-m gateway train …`.
        memory_bytes: Of address space; beyond it, the process fails.
        time_s: After which it is killed.

    Returns:
        "" where it succeeded, else what it said last.
    """

    def low() -> None:
        # In the child, between fork and exec: only system calls, and no lock of ours is held.
        os.nice(NICENESS)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=low,
    )
    try:
        async with asyncio.timeout(time_s):
            _, said = await process.communicate()
    except TimeoutError:
        return f"took longer than {time_s:g} s and was ended"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with code {process.returncode}"
