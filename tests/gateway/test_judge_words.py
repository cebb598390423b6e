"""An anomaly is put into words when it comes up or changes, not with every window."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.core.alarm import Condition, Contribution
from gateway.core.batch import Quality
from gateway.core.signals import Signal
from gateway.core.texts import Phrase, english
from gateway.pipeline.assess import Judge, Judged
from gateway.pipeline.findings import Findings
from gateway.pipeline.fixed import Fixed
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.runtime import open_session
from tests.models.plants import NAMES, healthy

CELLS = 48
BAD = (float("nan"), 0, int(Quality.BAD))


STANDBY = Signal("press-1", "standby", "")


class Counting(Findings):
    """Counts how often words are made."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge, Fixed({"press-1": [(7, STANDBY, 0.0)]}))
        self.judge = judge
        self.made = 0

    def drivers(self, judged: Judged, row: int) -> tuple[Contribution, ...]:
        self.made += 1
        return super().drivers(judged, row)


@pytest.fixture
def findings(press: Bundle) -> Counting:
    return Counting(Judge(press, open_session(press, "cpu"), ["press-1"], shadow=False))


def told(findings: Counting, value: NDArray[np.float64]) -> list[Condition]:
    seen = Windows(
        rows=np.array([0]),
        end_ns=np.array([10**18]),
        value=value[None],
        coverage=np.ones((1, len(NAMES))),
        full=np.array([True]),
    )
    return findings.conditions(seen, findings.judge.judge(seen, np.array([0.5])))


def said(findings: Counting, value: NDArray[np.float64]) -> Condition:
    (condition,) = told(findings, value)
    return condition


def moved(signal: int, by: float) -> NDArray[np.float64]:
    """A healthy window with one signal shifted by so many times its spread."""
    rows = healthy(2000, 5).values[500 : 500 + CELLS].T.copy()
    rows[signal] += by * rows[signal].std()
    return rows


def test_words_are_made_anew_only_when_the_anomaly_changes(findings: Counting) -> None:
    first = said(findings, moved(3, 20))
    assert first.active
    assert NAMES[3] in str(first.drivers[0].text)
    for _ in range(5):
        again = said(findings, moved(3, 20.1))
        assert (again.text, again.drivers) == (first.text, first.drivers)
        assert again.severity != first.severity
    assert findings.made == 1
    assert said(findings, moved(3, 40)).text != first.text
    assert findings.made == 2
    assert NAMES[0] in str(said(findings, moved(0, 40)).drivers[0].text)
    assert findings.made == 3
    assert said(findings, moved(0, 0)).active is False
    assert said(findings, moved(3, 20)).text == first.text


def test_an_anomaly_is_told_with_what_is_not_as_it_always_was(findings: Counting) -> None:
    assert "standby" not in str(said(findings, moved(3, 20)).text)
    findings.fixed.seen = lambda number: (1.0, 10**18, int(Quality.GOOD)) if number == 7 else BAD
    text = said(findings, moved(3, 40)).text
    assert text is not None
    words = english().say(text)
    assert NAMES[3] in words
    assert words.endswith("Not as it always was while the model learned: standby 1 (always 0)")
    assert Phrase.load(json.loads(json.dumps(text.dump()))) == text, "it is kept with the alarm"


def test_raised_but_below_the_limit_is_nobodys_business_until_it_has_alarmed(
    findings: Counting,
) -> None:
    calm, raised = healthy(2000, 5).values[:CELLS].T.copy(), moved(3, 0.25)
    assert said(findings, calm).severity < 0.5, "after a start each machine is mentioned once"
    for _ in range(3):
        assert not told(findings, raised)
    assert said(findings, moved(3, 20)).active
    assert 0.5 < said(findings, raised).severity < 1, "it alarmed, so its return is told"
    assert said(findings, calm).active is False
    assert not told(findings, raised)
    assert findings.made == 1
