"""A bundle survives nothing that it should not survive."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models import bundle
from models.bundle import Golden
from models.errors import BundleError
from models.onnx_wire import WireError, check
from tests.models import bundles

INT8, FP32, GOLDEN = bundles.parts()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "m.fwm"
    bundle.write(path, bundles.manifest(), INT8, FP32, GOLDEN)
    return path


def rezip(path: Path, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def test_what_was_written_is_read(made: Path) -> None:
    held = bundle.read(made)
    assert held.manifest.model_copy(update={"members": {}}) == bundles.manifest()
    assert (held.int8, held.fp32) == (INT8, FP32)
    np.testing.assert_array_equal(held.golden.x, GOLDEN.x)
    np.testing.assert_array_equal(held.golden.int8["probability"], GOLDEN.int8["probability"])
    assert held.signer is None


def test_the_same_parts_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    bundle.write(tmp_path / "n.fwm", bundles.manifest(), INT8, FP32, GOLDEN)
    assert (tmp_path / "n.fwm").read_bytes() == made.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["n.fwm"]


def _drop_golden(members: dict[str, bytes]) -> None:
    del members["golden.npz"]


def _add_member(members: dict[str, bytes]) -> None:
    members["../evil.py"] = b""


def _other_graph(members: dict[str, bytes]) -> None:
    members["model.int8.onnx"] = members["model.fp32.onnx"]


def _unknown_key(members: dict[str, bytes]) -> None:
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | {"x": 1}).encode()


def _next_format(members: dict[str, bytes]) -> None:
    text = json.dumps(json.loads(members["manifest.json"]) | {"format": 2})
    members["manifest.json"] = text.encode()


def _bomb(members: dict[str, bytes]) -> None:
    members["manifest.json"] = b" " * ((4 << 20) + 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_drop_golden, "members must be"),
        (_add_member, "members must be"),
        (_other_graph, "sha256 must be"),
        (_unknown_key, "x: Extra inputs"),
        (_next_format, "format"),
        (_bomb, "at most"),
    ],
)
def test_an_altered_bundle_is_refused(
    made: Path, change: Callable[[dict[str, bytes]], None], says: str
) -> None:
    with pytest.raises(BundleError, match=says):
        bundle.read(rezip(made, change))


def test_a_name_twice_is_refused(made: Path) -> None:
    data = io.BytesIO(made.read_bytes())
    with zipfile.ZipFile(data, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("manifest.json", b"{}")
    with pytest.raises(BundleError, match="twice"):
        bundle.read(data.getvalue())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_refused_and_never_crashes(made: Path, data: st.DataObject) -> None:
    held = bytearray(made.read_bytes())
    cut = data.draw(st.integers(0, len(held)))
    for at in data.draw(st.lists(st.integers(0, len(held) - 1), max_size=4)):
        held[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(held[:cut]), bytes(held)):
        try:
            read = bundle.read(damaged)
        except BundleError:
            continue
        # What is still read is what was signed for: the damage hit bytes that mean nothing.
        assert (read.int8, read.fp32) == (INT8, FP32)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.fwm: no such file in .*, which holds no \.fwm"):
        bundle.read(tmp_path / "none.fwm")
    with pytest.raises(BundleError, match="is a folder, must be a file"):
        bundle.read(tmp_path)


def test_signatures(made: Path, tmp_path: Path) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    out = tmp_path / "signed.fwm"
    signed = bundle.sign(made, key, out=out)
    assert signed.signer == key.public_key().public_bytes_raw().hex()
    assert bundle.read(out).signer == signed.signer
    with pytest.raises(BundleError, match="must be by a trusted key, was signed by"):
        bundle.read(out, trusted=[other.public_key()])
    with pytest.raises(BundleError, match="was unsigned"):
        bundle.read(made, trusted=[key.public_key()])

    def promote(members: dict[str, bytes]) -> None:
        members["manifest.json"] = members["manifest.json"].replace(b'"active"', b'"shadow"')

    with pytest.raises(BundleError, match="does not fit the manifest"):
        bundle.read(rezip(out, promote))
    again = bundle.sign(out, other, out=out)
    assert again.signer == other.public_key().public_bytes_raw().hex()


def _model(*nodes: onnx.NodeProto, **changes: object) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(list(nodes), "g", [x], [y])
    given: dict[str, object] = {"opset_imports": [helper.make_opsetid("", 13)], "ir_version": 8}
    model: onnx.ModelProto = helper.make_model(graph, **(given | changes))
    return bytes(model.SerializeToString())


def _external() -> bytes:
    model = onnx.ModelProto.FromString(_model(helper.make_node("Add", ["x", "w"], ["y"])))
    weight = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(weight)
    return bytes(model.SerializeToString())


def _huge() -> bytes:
    model = onnx.ModelProto.FromString(_model(helper.make_node("Add", ["x", "w"], ["y"])))
    model.graph.initializer.append(
        TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 40], raw_data=b"")
    )
    return bytes(model.SerializeToString())


def _branch() -> bytes:
    inner = onnx.ModelProto.FromString(_model(helper.make_node("Relu", ["x"], ["y"]))).graph
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.append(helper.make_attribute("body", inner))
    return _model(node)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: _model(helper.make_node("Loop", ["x"], ["y"])), "'Loop' is not on the list"),
        (lambda: _model(helper.make_node("Expand", ["x"], ["y"])), "'Expand' is not on the list"),
        (lambda: _model(helper.make_node("Relu", ["x"], ["y"], domain="evil")), "domain must be"),
        (lambda: _model(opset_imports=[helper.make_opsetid("", 99)]), "opset must be"),
        (lambda: _model(opset_imports=[helper.make_opsetid("com.x", 1)]), "operator set must"),
        (lambda: _model(ir_version=99), "IR version"),
        (
            lambda: _model(helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[1 << 30])),
            "an attribute must be within",
        ),
        (_external, "external data"),
        (_huge, "a tensor's size must be"),
        (_branch, "must not hold a graph"),
        (lambda: b"", "IR version"),
        (lambda: b"\x00", "field number"),
        (lambda: b"\xff" * 20, "longer than 64 bits"),
    ],
)
def test_graphs_that_ask_for_too_much_are_refused(model: Callable[[], bytes], says: str) -> None:
    with pytest.raises(WireError, match=says):
        check(model())


def test_the_walk_sees_what_onnx_sees() -> None:
    for data in (INT8, FP32):
        seen, model = check(data), onnx.load_from_string(data)
        assert sum(seen.operators.values()) == len(model.graph.node)
        assert seen.outputs == [output.name for output in model.graph.output]
        assert seen.opset == model.opset_import[0].version
    assert "QuantizeLinear" in check(INT8).operators
    assert "QuantizeLinear" not in check(FP32).operators


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(FP32)), st.integers(0, 200))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, length: int) -> None:
    for data in (noise, FP32[:at] + noise + FP32[at + length :]):
        try:
            check(data)
        except WireError:
            continue


def test_golden_vectors_hold_no_pickles() -> None:
    out = io.BytesIO()
    np.savez(out, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        Golden.unpack(out.getvalue())
