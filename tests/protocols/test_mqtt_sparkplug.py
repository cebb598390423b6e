"""Sparkplug B: the decoder against Google's, a node's life as a story, and all by mosquitto."""

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.errors import DataError
from protocols.mqtt import Config
from protocols.mqtt.messages import Messages
from protocols.mqtt.tahu import decode

from ..conformance import bench
from ..eventually import eventually
from .mqtt_broker import broker, sparkplug
from .test_mqtt_session import say, source, take

SIGNALS: list[dict[str, Any]] = [
    {"asset": "pump", "signal": "flow", "node": "G/E/pump", "metric": "Outputs/Flow"},
    {"asset": "pump", "signal": "level", "node": "G/E", "metric": "Level", "scale": 0.1},
]
FLOW, LEVEL = 0, 1
INT16, FLOAT, INT32_ARRAY = 2, 9, 24


def metric_fields() -> st.SearchStrategy[dict[str, Any]]:
    value = st.one_of(
        st.tuples(st.just("int_value"), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("long_value"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("float_value"), st.floats(width=32, allow_nan=False)),
        st.tuples(st.just("double_value"), st.floats(allow_nan=False)),
        st.tuples(st.just("boolean_value"), st.booleans()),
        st.tuples(st.just("string_value"), st.text(max_size=10)),
        st.tuples(st.just("bytes_value"), st.binary(max_size=10)),
    )
    optional = {
        "alias": st.integers(0, 2**64 - 1),
        "timestamp": st.integers(0, 2**63),
        "datatype": st.integers(0, 40),
        "is_historical": st.booleans(),
        "is_transient": st.booleans(),
        "is_null": st.booleans(),
        "quality": st.integers(0, 600),
    }
    fixed = {"name": st.text(max_size=10)}
    return st.builds(
        lambda fields, pair: fields | dict([pair]),
        st.fixed_dictionaries(fixed, optional=optional),
        value,
    )


@given(st.lists(metric_fields(), max_size=4), st.none() | st.integers(0, 255))
def test_what_google_encodes_we_decode(metrics: list[dict[str, Any]], seq: int | None) -> None:
    payload = decode(sparkplug(metrics, seq=seq, t_ms=5))
    assert (payload.seq, payload.t_ms, len(payload.metrics)) == (seq, 5, len(metrics))
    for fields, metric in zip(metrics, payload.metrics, strict=True):
        (raw,) = [value for name, value in fields.items() if name.endswith("_value")]
        assert metric.raw == raw
        assert metric.name == fields["name"]
        assert metric.alias == fields.get("alias")
        assert metric.t_ms == fields.get("timestamp")
        assert metric.datatype == fields.get("datatype", 0)
        assert metric.is_historical == fields.get("is_historical", False)
        assert metric.is_null == fields.get("is_null", False)
        assert metric.quality == fields.get("quality")


@given(st.binary(max_size=200))
def test_junk_is_a_data_error_at_most(junk: bytes) -> None:
    try:
        payload = decode(junk)
    except DataError:
        return
    for metric in payload.metrics:
        metric.value(2)


@given(st.lists(metric_fields(), min_size=1, max_size=3), st.data())
def test_flipped_bits_and_cuts_are_a_data_error_at_most(
    metrics: list[dict[str, Any]], data: st.DataObject
) -> None:
    wire = bytearray(sparkplug(metrics, seq=1))
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    try:
        decode(bytes(wire)[: data.draw(st.integers(0, len(wire)))])
    except DataError:
        pass


@pytest.mark.parametrize(
    ("datatype", "fields", "value"),
    [
        (1, {"int_value": 0xFF}, -1),
        (2, {"int_value": 0xFFFF_8000}, -32768),
        (3, {"int_value": 0xFFFF_FFFF}, -1),
        (4, {"long_value": 2**64 - 5}, -5),
        (5, {"int_value": 0xFF}, 255),
        (8, {"long_value": 2**64 - 5}, 2**64 - 5),
        (9, {"float_value": 1.5}, 1.5),
        (11, {"boolean_value": True}, True),
        (12, {"string_value": "RUN"}, "RUN"),
        (3, {"int_value": 7, "is_null": True}, None),
        (16, {"bytes_value": b"x"}, None),
        (23, {"bytes_value": b"odd"}, None),
    ],
)
def test_values_by_their_type(datatype: int, fields: dict[str, Any], value: object) -> None:
    (metric,) = decode(sparkplug([{"name": "m"} | fields])).metrics
    assert metric.value(datatype) == value


def test_arrays() -> None:
    (metric,) = decode(
        sparkplug([{"datatype": 30, "bytes_value": struct.pack("<2f", 1.5, -2)}])
    ).metrics
    array = metric.value(0)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [1.5, -2]


class Hearing:
    """A source's messages fed by hand: the whole of decoding, without a broker."""

    def __init__(self, tmp_path: Path, signals: Sequence[dict[str, Any]] = SIGNALS) -> None:
        config = Config.model_validate(
            {"kind": "mqtt", "id": "s", "host": "h", "signals": signals, "retained": "good"}
        )
        self.world = bench("s", "mqtt", tmp_path)
        context = self.world.context
        self.messages = Messages(config, context.signals, context.meter, lambda *_: None)
        self.now_ms = context.clock.wall_ns() // 1_000_000
        self.messages.at(self.now_ms * 1_000_000)

    def hear(
        self, kind: str, *metrics: dict[str, Any], device: str = "", seq: int | None = None
    ) -> list[tuple[int, float, int]]:
        topic = f"spBv1.0/G/{kind}/E" + (f"/{device}" if device else "")
        payload = sparkplug(metrics, seq=seq, t_ms=self.now_ms)
        self.messages.feed(topic, payload, retained=False)
        found = []
        while (item := self.messages.pop()) is not None:
            assert isinstance(item, Batch)
            found += [
                (s, -999.0 if q == Quality.BAD else round(v, 6), q)
                for s, v, q in zip(
                    item.signal.tolist(), item.value.tolist(), item.quality.tolist(), strict=True
                )
            ]
        return found


BD_SEQ = {"name": "bdSeq", "datatype": 8, "long_value": 3}
LEVEL_BORN = {"name": "Level", "alias": 7, "datatype": INT16, "int_value": 100}
FLOW_BORN = {"name": "Outputs/Flow", "alias": 8, "datatype": FLOAT, "float_value": 2.5}


def test_the_life_of_a_node(tmp_path: Path) -> None:
    node = Hearing(tmp_path)
    meter = node.world.meter
    assert set(meter.quarantined) == {"pump/flow", "pump/level"}
    # Before its birth an alias means nothing.
    assert node.hear("NDATA", {"alias": 7, "int_value": 1}, seq=9) == []
    assert meter.errors == {"unborn": 1}
    assert node.hear("NBIRTH", BD_SEQ, LEVEL_BORN, seq=0) == [(LEVEL, 10, 0)]
    assert set(meter.quarantined) == {"pump/flow"}
    assert node.hear("DBIRTH", FLOW_BORN, device="pump", seq=1) == [(FLOW, 2.5, 0)]
    assert not meter.quarantined
    assert node.hear("NDATA", {"alias": 7, "int_value": 0xFFFF}, seq=2) == [(LEVEL, -0.1, 0)]
    assert node.hear("DDATA", {"alias": 8, "float_value": 3}, device="pump", seq=3) == [(0, 3, 0)]
    assert node.hear("DDATA", {"alias": 8, "is_null": True}, device="pump", seq=4) == [
        (FLOW, -999, 2)
    ]
    assert meter.errors == {"unborn": 1}
    # A message was lost on the way: seen by the numbers.
    assert node.hear("NDATA", {"alias": 7, "int_value": 1}, seq=6) == [(LEVEL, 0.1, 0)]
    assert meter.errors == {"unborn": 1, "sequence": 1}
    assert node.hear("DDEATH", device="pump", seq=7) == [(FLOW, -999, 2)]
    # The will of an older session of the node comes late.
    assert node.hear("NDEATH", BD_SEQ | {"long_value": 2}) == []
    assert meter.errors["stale_death"] == 1
    assert sorted(node.hear("NDEATH", BD_SEQ)) == [(FLOW, -999, 2), (LEVEL, -999, 2)]
    # Born again with other aliases.
    assert node.hear("NBIRTH", BD_SEQ, LEVEL_BORN | {"alias": 1}, seq=0) == [(LEVEL, 10, 0)]
    assert node.hear("NDATA", {"alias": 7, "int_value": 1}, seq=1) == []
    assert node.hear("NDATA", {"alias": 1, "int_value": 1}, seq=2) == [(LEVEL, 0.1, 0)]


def test_a_metric_that_the_birth_lacks_is_shown(tmp_path: Path) -> None:
    node = Hearing(tmp_path)
    node.hear("NBIRTH", BD_SEQ, seq=0)
    assert node.world.meter.quarantined["pump/level"] == "the birth has no metric 'Level'"


@pytest.mark.parametrize(("datatype", "name"), [(16, "DataSet"), (19, "Template"), (18, "File")])
def test_what_holds_no_number_is_bad_and_says_what_to_do(
    tmp_path: Path, datatype: int, name: str
) -> None:
    node = Hearing(tmp_path)
    meter = node.world.meter
    table = {"name": "Level", "alias": 7, "datatype": datatype, "bytes_value": b"\x08\x02"}
    assert node.hear("NBIRTH", BD_SEQ, table, seq=0) == [(LEVEL, -999, 2)]
    assert node.hear("NDATA", {"alias": 7, "bytes_value": b""}, seq=1) == [(LEVEL, -999, 2)]
    assert f"is a {name}, which is no number; let the node" in meter.quarantined["pump/level"]
    assert meter.errors == {"datatype": 2}
    # A better birth ends it.
    assert node.hear("NBIRTH", BD_SEQ, LEVEL_BORN, seq=2) == [(LEVEL, 10, 0)]
    assert "pump/level" not in meter.quarantined


def test_quality_and_history(tmp_path: Path) -> None:
    node = Hearing(tmp_path)
    node.hear("NBIRTH", BD_SEQ, LEVEL_BORN, seq=0)
    for quality, expected in [
        (192, (LEVEL, 0.1, 0)),
        (500, (LEVEL, 0.1, 1)),
        (0, (LEVEL, -999, 2)),
    ]:
        got = node.hear("NDATA", {"name": "Level", "int_value": 1, "quality": quality})
        assert got == [expected]
    payload = sparkplug(
        [{"alias": 7, "int_value": 1, "is_historical": True, "timestamp": node.now_ms - 9000}]
    )
    node.messages.feed("spBv1.0/G/NDATA/E", payload, retained=False)
    batch = node.messages.pop()
    assert isinstance(batch, Batch)
    assert batch.history
    assert batch.t_ns.tolist() == [(node.now_ms - 9000) * 1_000_000]


def test_an_array_is_a_waveform(tmp_path: Path) -> None:
    signal = {"asset": "a", "signal": "w", "node": "G/E", "metric": "W", "rate_hz": 10}
    node = Hearing(tmp_path, [signal])
    packed = struct.pack("<3i", 1, -2, 3)
    born = {"name": "W", "datatype": INT32_ARRAY, "bytes_value": packed}
    node.messages.feed("spBv1.0/G/NBIRTH/E", sparkplug([born], seq=0), retained=False)
    wave = node.messages.pop()
    assert isinstance(wave, Waveform)
    assert wave.value.tolist() == [1, -2, 3]


@given(st.lists(st.tuples(st.sampled_from(["N", "D"]), st.binary(max_size=60)), max_size=6))
def test_no_payload_breaks_a_node(messages: list[tuple[str, bytes]]) -> None:
    node = Hearing(Path())
    for who, junk in messages:
        for kind in ("BIRTH", "DATA", "DEATH", "CMD"):
            topic = f"spBv1.0/G/{who}{kind}/E" + ("/pump" if who == "D" else "")
            node.messages.feed(topic, junk, retained=True)
    while node.messages.pop() is not None:
        pass


async def test_through_a_broker_that_keeps_births(tmp_path: Path) -> None:
    """We come late: the birth is known only because the broker keeps it as a certificate."""
    world = bench("hall", "mqtt", tmp_path)
    with broker(tmp_path / "broker") as (running, publisher):
        now_ms = world.context.clock.wall_ns() // 1_000_000
        birth = sparkplug([BD_SEQ, LEVEL_BORN], seq=0)
        kept = "$sparkplug/certificates/spBv1.0/G/NBIRTH/E"
        await say(publisher, kept, birth, retain=True)
        async with source(running.port, SIGNALS).open(world.context) as session:
            (batch,) = await take(session, 1)
            assert isinstance(batch, Batch)
            assert batch.quality.tolist() == [Quality.UNCERTAIN]
            data = sparkplug([{"alias": 7, "int_value": 123}], seq=1, t_ms=now_ms)
            await say(publisher, "spBv1.0/G/NDATA/E", data)
            (batch,) = await take(session, 1)
            assert isinstance(batch, Batch)
            assert batch.t_ns.tolist() == [now_ms * 1_000_000]
            assert batch.value.tolist() == [pytest.approx(12.3)]
            # A signal more, on the same link, knows what its node said at its birth.
            both = source(running.port, [*SIGNALS, SIGNALS[1] | {"signal": "again"}])
            assert await session.apply(both)
            assert "pump/again" not in world.meter.quarantined
            await say(publisher, "spBv1.0/G/NDATA/E", data)
            (batch,) = await take(session, 2)
            assert len(batch) == 2
    assert world.meter.errors["sequence"] == 1
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
