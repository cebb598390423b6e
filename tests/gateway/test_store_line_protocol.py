"""Line protocol: whatever a name holds, the real server gives it back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.alarm import Cause, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Waveform, make_batch
from gateway.core.errors import DataError
from gateway.core.signals import Signal, SignalTable
from gateway.store.config import InfluxConfig
from gateway.store.influx_answer import Answer, Verdict, bad_lines, judge, retry_after_s
from gateway.store.influx_link import PlainLink, body_of
from gateway.store.line_protocol import Encoder, assessment_lines, transition_line

from ..influx_stub import _LINE
from ..servers import influxd
from .storing import T0_NS, assessments, transition

NASTY = ("a b", "a,b", "a=b", "a\\", "a\\,b", 'a"b', "ä°µ", "a\tb", "'x'", "a\\ =", "#a", "signal")

names = st.text(
    st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20
)
values = st.floats(allow_nan=False, allow_infinity=False)


def lines_of(signal: Signal, value: float, quality: int = 0) -> list[str]:
    batch = make_batch(
        "s",
        np.zeros(1, np.int32),
        np.array([T0_NS]),
        np.array([value]),
        np.array([quality], np.uint8),
        0,
    )
    columns = (batch.signal, batch.t_ns, batch.value, batch.quality)
    return Encoder(SignalTable([signal]), "gw").samples(columns)


def test_a_sample_is_one_line() -> None:
    good = lines_of(Signal("press 1", "speed", "mm/s"), 1.5)
    assert good == [f"signal,asset=press\\ 1,signal=speed,unit=mm/s value=1.5,quality=0i {T0_NS}"]
    assert lines_of(Signal("p", "n"), 5.0, 1) == [
        f"signal,asset=p,signal=n value=5.0,quality=1i {T0_NS}"
    ]
    assert lines_of(Signal("p", "n"), 5.0, 2) == [f"signal,asset=p,signal=n quality=2i {T0_NS}"]


@given(names, names, st.text(max_size=10), values)
def test_every_line_keeps_the_grammar(asset: str, name: str, unit: str, value: float) -> None:
    (line,) = lines_of(Signal(asset, name, unit), value)
    assert _LINE.fullmatch(line), line
    assert "\n" not in line


def test_the_real_server_gives_every_name_and_value_back(tmp_path: Path) -> None:
    numbers = [0.1, -0.0, 1e300, 5e-324, 123456789.125, 1e16, -7.0]
    with influxd(tmp_path) as server:
        server.query("CREATE DATABASE forewarn")
        link = PlainLink(InfluxConfig(url=server.url, api="v1"))
        for i, name in enumerate(NASTY):
            lines = lines_of(Signal(name, name, name), numbers[i % len(numbers)])
            answer = link.write(body_of(lines))
            assert answer.status == 204, (name, answer)
        link.close()
        found = server.query("SELECT value, unit FROM signal GROUP BY asset, signal")
    got = {(s["tags"]["asset"], s["tags"]["signal"]): s["values"][0][1:] for s in found}
    for i, name in enumerate(NASTY):
        clean = name.replace("\\", "/").replace("\t", " ")
        assert got[clean, clean] == [numbers[i % len(numbers)], clean]


def test_an_assessment_becomes_its_measurements() -> None:
    assert assessment_lines(assessments(T0_NS)) == [
        (
            "assessment,asset=pump,bundle=pump-1 "
            f"score=0.5,limit=1.0,severity=0.5,coverage=1.0,abstained=false {T0_NS}"
        ),
        f"contribution,asset=pump,signal=vibration share=0.75 {T0_NS}",
        f"contribution,asset=pump,signal=power share=0.25 {T0_NS}",
    ]


@pytest.mark.parametrize(
    ("kind", "outputs", "wanted"),
    [
        (ModelKind.FAILURE, ("HDF", "PWF"), ["failure,asset=m,mode=HDF probability=0.5"]),
        (ModelKind.RUL, ("hours", "low"), ["rul,asset=m hours=0.5"]),
    ],
)
def test_heads_and_abstentions(
    kind: ModelKind, outputs: tuple[str, ...], wanted: list[str]
) -> None:
    a = Assessments(
        kind=kind,
        bundle="b",
        shadow=False,
        assets=("m", "n"),
        t_ns=np.array([5, 5]),
        score=np.array([0.5, np.nan], np.float32),
        limit=np.ones(2, np.float32),
        coverage=np.array([1, 0.1], np.float32),
        abstained=(Abstained.NO, Abstained.COVERAGE),
        signals=(),
        contribution=np.empty((2, 0), np.float32),
        direction=np.empty((2, 0), np.int8),
        outputs=outputs,
        output=np.array([[0.5, np.nan], [0.5, 0.5]], np.float32),
    )
    lines = assessment_lines(a)
    assert [
        line.removesuffix(" 5") for line in lines if not line.startswith("assessment")
    ] == wanted
    assert lines[-1].startswith("assessment,asset=n,bundle=b limit=1.0,coverage=0.1")
    assert "abstained=true" in lines[-1]


def test_a_text_is_quoted_and_two_changes_at_one_time_are_two_points() -> None:
    text = 'say "no"\\\nnow'
    t = Transition(
        "", "log.held", Cause.SYSTEM, "active", "raise", 1, T0_NS, T0_NS, 1.0, Priority.HIGH, text
    )
    first, second = transition_line(t, 41), transition_line(t, 42)
    assert first == (
        'alarm,alarm=log.held,priority=high state="active",text="say \\"no\\"\\\\ now",'
        f"severity=1.0 {T0_NS + 41}"
    )
    assert second.endswith(f" {T0_NS + 42}")
    assert transition_line(transition(T0_NS), 1).startswith("alarm,alarm=anomaly,asset=pump,")


def test_a_waveform_is_a_line_a_point() -> None:
    wave = Waveform("s", 0, T0_NS, 1000.0, np.array([1, np.inf, 3], np.float32), T0_NS)
    lines = Encoder(SignalTable([Signal("p", "v")]), "gw").waveform(wave)
    assert [line.split(" ")[1:] for line in lines] == [
        ["value=1.0,quality=0i", str(T0_NS)],
        ["quality=2i", str(T0_NS + 1_000_000)],
        ["value=3.0,quality=0i", str(T0_NS + 2_000_000)],
    ]


def test_a_number_without_a_signal_is_a_data_error() -> None:
    columns = (np.array([7], np.int32), np.array([1]), np.array([1.0]), np.zeros(1, np.uint8))
    with pytest.raises(DataError, match="not in the signal table"):
        Encoder(SignalTable(), "gw").samples(columns)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(204), Verdict.DONE),
        (Answer(400, "unable to parse"), Verdict.POISON),
        (Answer(400, "partial write: points beyond retention policy dropped=3"), Verdict.DROPPED),
        (Answer(422, "field type conflict"), Verdict.POISON),
        (Answer(401), Verdict.HOLD),
        (Answer(403), Verdict.HOLD),
        (Answer(404), Verdict.HOLD),
        (Answer(301), Verdict.HOLD),
        (Answer(413), Verdict.TOO_LARGE),
        (Answer(429), Verdict.WAIT),
        (Answer(503), Verdict.WAIT),
        (Answer(500, "disk full"), Verdict.RETRY),
        (Answer(502), Verdict.RETRY),
        (Answer(0, "ReadTimeoutError"), Verdict.RETRY),
    ],
)
def test_what_an_answer_means(answer: Answer, verdict: Verdict) -> None:
    assert judge(answer) is verdict


@given(st.text(max_size=200), st.integers(0, 5))
def test_answers_of_any_kind_are_borne(text: str, n: int) -> None:
    found = bad_lines(Answer(400, text), n)
    assert found is None or all(0 <= i < n for i in found)
    assert 0 <= retry_after_s(text) <= 3600
