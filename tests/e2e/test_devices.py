"""A gateway whose models run on a server that freezes: the CPU goes on, the operator knows."""

import sys
from pathlib import Path

import numpy as np

from gateway.core.assessment import Abstained
from gateway.demo.configuration import ARTIFACTS
from gateway.store.record import Kind
from models import bundle
from tests.e2e.processes import Gateway, gateway, plant
from tests.eventually import eventually_blocking
from tests.models import modelserver, peers

LATHE = ARTIFACTS / "lathe.fwm"


def verdicts(one: Gateway, name: str) -> tuple[list[int], list[Abstained]]:
    """Window ends and abstentions of one bundle, in the order of the log."""
    with one.log() as log:
        rows = [a for a in log.assessments(0, 1 << 62) if a.bundle == name]
    return [int(a.t_ns[0]) for a in rows], [a.abstained[0] for a in rows]


def test_a_model_server_that_freezes_costs_no_window(tmp_path: Path) -> None:
    python = peers.python_of("mlserver", sys.executable, *modelserver.MLSERVER, required=True)
    held = bundle.read(LATHE)
    folder = tmp_path / "server"
    folder.mkdir()
    server = modelserver.mlserver(held, python, folder)
    server.start()
    try:
        with plant(tmp_path), gateway(tmp_path / "forewarn.toml") as one:
            text = one.config.read_text()
            asset = '[[asset]]\nid = "lathe-1"\n'
            assert asset in text
            one.config.write_text(text.replace(asset, f'{asset}device = "{server.url}"\n'))
            one.start()
            eventually_blocking(lambda: bool(one.told("source.up")), timeout_s=30)

            def judged() -> int:
                with one.log() as log:
                    if log.heads().get(Kind.ASSESSMENT, 1) == 1:
                        return 0
                return verdicts(one, held.id)[1].count(Abstained.NO)

            eventually_blocking(lambda: judged() > 2, timeout_s=60)
            name = f"device.{held.id}"
            assert not [row for row in one.told("alarm") if row["alarm"] == name]
            server.freeze()
            eventually_blocking(
                lambda: any(row["alarm"] == name for row in one.told("alarm")), timeout_s=30
            )
            (told,) = [row for row in one.told("alarm") if row["alarm"] == name]
            assert "runs on the CPU instead" in told["text"]
            assert "did not answer within 2 s" in told["text"]
            before = judged()
            eventually_blocking(lambda: judged() > before + 3, timeout_s=30)
            ends, abstained = verdicts(one, held.id)
            assert one.stop() == 0
    finally:
        server.stop()
    # No window is missed and none is judged twice, whoever judged it.
    hop_ns = round(held.manifest.window.hop_cells * (held.manifest.window.period_s or 0) * 1e9)
    assert set(np.diff(ends).tolist()) == {hop_ns}
    first = abstained.index(Abstained.NO)
    assert set(abstained[first:]) == {Abstained.NO}
