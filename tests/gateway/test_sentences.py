"""What the command line says in sentences fits the terminal, and stays one line in a pipe."""

import os
import sys
import termios
from pathlib import Path

import pytest

from gateway.cli.sentences import say

NOTE = "note: the record holds 3 h; the promise of 1/30d needs 90 d of /a/very-long/path/to/it.csv"


def test_a_terminal_gets_whole_words_in_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(master) as seen, os.fdopen(slave, "w") as terminal:
        termios.tcsetwinsize(terminal, (24, 40))
        monkeypatch.setattr(sys, "stdout", terminal)
        say(NOTE)
        say("end")
        lines: list[str] = []
        while "end" not in lines:
            lines.append(seen.readline().rstrip("\n"))
    assert len(lines) > 2
    assert max(map(len, lines)) <= 40
    assert " ".join(line.strip() for line in lines[:-1]) == NOTE
    assert all(line.startswith("  ") for line in lines[1:-1])


def test_a_pipe_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stderr", out)
        say(NOTE, err=True)
    assert (tmp_path / "out").read_text() == f"{NOTE}\n"
