"""In a language of brackets, no sentence that an operator is told stands outside of them."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.alarms.notify_config import WebhookConfig
from gateway.alarms.outbox import Item, Message, Tells
from gateway.alarms.words import words
from gateway.core.alarm import Cause, Condition, Driver, Priority, Transition, Verb
from gateway.core.alarm import Command as Asked
from gateway.core.batch import Batch
from gateway.core.refusal import Refused
from gateway.core.signals import Signal
from gateway.core.texts import Phrase, Texts, load
from gateway.demo.configuration import ARTIFACTS
from gateway.demo.record import healthy
from gateway.store.log import Log
from tests.eventually import eventually
from tests.gateway import brackets
from tests.gateway.alarms.receivers import web_server
from tests.gateway.test_forecast import alarms_of, log, worn
from tests.gateway.test_reload import BASE, hook, running
from tests.servers import free_port

__all__ = ["log"]
WORD = re.compile(r"[^\W\d_]{2,}")


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    return load(str(brackets.write(tmp_path)))


def loose(text: str, *names: str) -> list[str]:
    """Words outside of all brackets that nobody gave a name to."""
    rest = brackets.outside(text)
    for name in names:
        rest = rest.replace(name, " ")
    return WORD.findall(rest)


def test_what_is_wrong_with_a_sensor(log: Log, texts: Texts) -> None:
    columns = healthy("conveyor", hours=150 / 3600, seed=5)
    columns["vibration"][len(columns["vibration"]) // 3 :] = columns["vibration"].mean()
    alarms = alarms_of(log, ARTIFACTS / "conveyor.fwm", columns, texts=texts)
    said = {alarm.text for alarm in alarms if alarm.cause is Cause.DATA_QUALITY}
    assert said == {"⟦vibration of conveyor-1 does not move any more⟧"}


@pytest.mark.parametrize(
    ("bundle", "cause"),
    [("conveyor", "anomaly"), ("conveyor-failure", "failure"), ("conveyor-life", "rul")],
)
def test_what_models_find(log: Log, texts: Texts, bundle: str, cause: str) -> None:
    alarms = alarms_of(log, ARTIFACTS / f"{bundle}.fwm", worn(), texts=texts)
    assert {alarm.cause for alarm in alarms} >= {Cause(cause)}
    for alarm in alarms:
        assert alarm.text.startswith("⟦conveyor-1 ")
        assert alarm.drivers
        for said in (alarm.text, *(driver.text for driver in alarm.drivers)):
            assert loose(said) == []


async def test_what_a_gateway_says_of_itself_its_machines_and_its_lessons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FW_HOOK", "s")
    path = brackets.write(tmp_path)
    with web_server() as mes, web_server() as down:
        down.port = free_port()
        text = (
            f'[console]\nport = {free_port()}\nlanguage = "{path}"\n'
            + hook("mes", mes)
            + hook("down", down)
            + '[[asset]]\nid = "press-1"\nlearn = {}\n'
            + 'limits = [{ signal = "speed", low = 5, high = 80, on_delay_s = 0 }]\n'
        )
        async with running(tmp_path, text) as plant:
            gateway = plant.gateway
            number = gateway.log.signals.intern(Signal("press-1", "speed"))
            for value in (99.0, 3.0):
                now_ns = np.array([time.time_ns()])
                signal, quality = np.array([number], np.int32), np.zeros(1, np.uint8)
                await gateway.flow.take(
                    [Batch("hall", signal, now_ns, np.array([value]), quality, int(now_ns[0]))]
                )
            plant.file.write_text(BASE + text + "[nonsense]\n")
            wanted = {"link.hall", "speed.low", "notify.down", "config.refused"}
            await eventually(lambda: wanted <= set(plant.own()), timeout_s=60)
            for alarm, said in plant.own().items():
                assert loose(said) == [], alarm
            await eventually(lambda: any(body["alarms"] for body in mes.bodies()))
            for body in mes.bodies():
                for alarm in body["alarms"]:
                    assert loose(alarm["text"]) == []
            (lesson,) = gateway.view.learning()
            assert "⟦" in lesson.text
            assert loose(lesson.text, *map(str, lesson.missing)) == []
            for ask in ("promote", "roll_back"):
                with pytest.raises(Refused) as refused:
                    await gateway.view.teach("press-1", ask, "ana")
                assert loose(load(str(path)).say(refused.value.why)) == []
            with pytest.raises(Refused) as refused:
                await gateway.view.command(Asked(Verb.ACK, "press-1", "none", "ana"))
            assert loose(load(str(path)).say(refused.value.why)) == []


def message(tells: Tells, n: int, texts: Texts) -> Message:
    transition = Transition(
        asset="press-1",
        alarm="speed.high",
        cause=Cause.LIMIT,
        state="active_unacked",
        event="gone" if tells is Tells.CLEAR else "active",
        occurrence=1,
        t_ns=10**18,
        active_since_ns=10**18,
        severity=2.0,
        priority=Priority.HIGH,
        text=texts("limit.high", signal="speed", value="99", limit="80"),
        drivers=(Driver("speed", 1.0, texts("driver.changed", subject="speed")),),
    )
    items = [Item(i, tells, replace(transition, asset=f"press-{i}"), 0) for i in range(n)]
    return Message("1", tells, tuple(items), area="line 2", dropped=3)


@pytest.mark.parametrize(("tells", "n"), [(tells, n) for tells in Tells for n in (1, 40)])
def test_what_is_sent(tells: Tells, n: int, texts: Texts) -> None:
    config = WebhookConfig.model_validate(
        {"id": "m", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "env:FW_HOOK"}
    )
    told = message(tells, 0 if tells is Tells.TEST else n, texts)
    title, body = words(config, told, "hall-3", "", texts)
    assert "⟦" in title
    assert "⟦" in body
    for said in (title, body):
        assert loose(said, *(f"press-{i}" for i in range(39, -1, -1)), "hall-3") == []


async def test_a_running_gateway_goes_over_to_another_language(tmp_path: Path) -> None:
    learned = '[[asset]]\nid = "press-1"\nlearn = {}\n'

    async with running(tmp_path, learned + "[console]\nenabled = false\n") as plant:
        gateway = plant.gateway

        def report(alarm: str) -> None:
            said = Phrase("drift.offer", asset="press-1", why=Phrase("drift.full"))
            now_ns = gateway.clock.wall_ns()
            gateway.annunciator.report(
                Condition("press-1", alarm, Cause.LIMIT, True, now_ns, text=said, on_delay_s=0)
            )

        report("one")
        await eventually(lambda: "one" in plant.own())
        path = brackets.write(tmp_path)
        await plant.change(f'{learned}[console]\nenabled = false\nlanguage = "{path}"\n')
        report("two")
        await eventually(lambda: "two" in plant.own())
        assert plant.own()["one"].startswith("press-1: it has moved"), "as it was told"
        assert plant.own()["two"].startswith("⟦press-1: ⟦it has moved")
        (lesson,) = gateway.view.learning()
        assert lesson.text.startswith("⟦")

        def incomplete() -> str:
            alarms = gateway.annunciator.engine.active(gateway.clock.mono_ns())
            return next((a.text for a in alarms if a.alarm == "language.incomplete"), "")

        assert not incomplete()
        lacking = tmp_path / "xy.toml"
        lacking.write_text(
            path.read_text("utf-8").replace('"plant"."calm" =', '"plant"."calmer" =')
        )
        await plant.change(f'{learned}[console]\nenabled = false\nlanguage = "{lacking}"\n')
        await eventually(lambda: f"{lacking}: 2." in incomplete())
