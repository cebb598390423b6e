"""Model servers: a real one, and one that is slow, dead, or lying."""

import http.server
import json
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import bundle, runtime
from models.errors import BundleError, DeviceError
from models.runtime import oip
from tests.models import bundles, modelserver, peers
from tests.servers import free_port


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundles.make(tmp_path_factory.mktemp("bundles") / "m.fwm")


def test_a_real_model_server_replays_the_golden_vectors(
    held: bundle.Bundle, tmp_path: Path
) -> None:
    python = peers.python_of("mlserver", sys.executable, *modelserver.MLSERVER, required=True)
    server = modelserver.mlserver(held, python, tmp_path)
    server.start()
    try:
        session = oip.open_oip(held, server.url, "int8", timeout_s=10)
        assert runtime.replay(session, held.golden, 0.001).worst <= 1
        server.freeze()
        slow = oip.OipSession(server.url, held, "int8", 0.3)
        with pytest.raises(DeviceError, match=r"did not answer within 0\.3 s"):
            slow.run(held.golden.x)
        server.thaw()
        server.stop()
        with pytest.raises(DeviceError, match=server.url):
            session.run(held.golden.x)
        session.close()
    finally:
        server.stop()


def _tensor(
    name: str, values: np.ndarray, *, binary: bool = False
) -> tuple[dict[str, object], bytes]:
    held: dict[str, object] = {
        "name": name,
        "shape": list(values.shape),
        "datatype": "FP32",
    }
    raw = values.astype("<f4").tobytes()
    if binary:
        held["parameters"] = {"binary_data_size": len(raw)}
        return held, raw
    held["data"] = values.ravel().tolist()
    return held, b""


def _json(*tensors: dict[str, object]) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"outputs": tensors}).encode()


def test_binary_tensors_both_ways(held: bundle.Bundle) -> None:
    asked: list[bytes] = []

    def answer(body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        cut = int(headers[oip.HEADER_LENGTH])
        head = json.loads(body[:cut])
        shape = head["inputs"][0]["shape"]
        x = np.frombuffer(body[cut:], "<f4").reshape(shape)
        np.testing.assert_array_equal(x, held.golden.x)
        asked.append(body)
        tensor, raw = _tensor("probability", held.golden.int8["probability"], binary=True)
        text = json.dumps({"outputs": [tensor]}).encode()
        return 200, {oip.HEADER_LENGTH: str(len(text))}, text + raw

    with modelserver.serving(answer) as url:
        session = runtime.open_session(held, url)
        got = session.run(held.golden.x)
        np.testing.assert_array_equal(got["probability"], held.golden.int8["probability"])
        assert len(asked) == 2
        session.close()


def test_a_server_without_binary_tensors_gets_json(held: bundle.Bundle) -> None:
    def answer(body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if oip.HEADER_LENGTH in headers:
            return 400, {}, b"no binary here"
        data = json.loads(body)["inputs"][0]["data"]
        assert None in data, "the missing feature travels as null"
        return _json(_tensor("probability", held.golden.int8["probability"])[0])

    with modelserver.serving(answer) as url:
        runtime.open_session(held, url).close()


def _wrong_numbers(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return _json(_tensor("probability", held.golden.int8["probability"] + 0.3)[0])


def _nan(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return (
        200,
        {},
        json.dumps(
            {
                "outputs": [
                    {
                        "name": "probability",
                        "shape": [len(held.golden.x), 1],
                        "datatype": "FP32",
                        "data": [None] * len(held.golden.x),
                    }
                ]
            }
        ).encode(),
    )


def _fewer_rows(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return _json(_tensor("probability", held.golden.int8["probability"][:3])[0])


def _wrong_shape(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    tensor, _ = _tensor("probability", held.golden.int8["probability"])
    return _json(tensor | {"shape": [7, 7]})


def _other_output(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return _json(_tensor("score", held.golden.int8["probability"])[0])


def _cut_binary(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    tensor, raw = _tensor("probability", held.golden.int8["probability"], binary=True)
    text = json.dumps({"outputs": [tensor]}).encode()
    return 200, {oip.HEADER_LENGTH: str(len(text))}, text + raw[:-2]


def _not_json(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b"<html>welcome</html>"


def _header_too_long(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return 200, {oip.HEADER_LENGTH: "99999999"}, b"{}"


def _breaks_off(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Length": "500", "Connection": "close"}, b'{"outputs"'


def _refuses(held: bundle.Bundle) -> tuple[int, dict[str, str], bytes]:
    return 503, {}, b"loading"


@pytest.mark.parametrize(
    ("lie", "error", "says"),
    [
        (_wrong_numbers, BundleError, "golden vectors"),
        (_nan, BundleError, "is not a number"),
        (_fewer_rows, DeviceError, "must have"),
        (_wrong_shape, DeviceError, "cannot be read"),
        (_other_output, DeviceError, "lacks probability"),
        (_cut_binary, DeviceError, "cannot be read"),
        (_not_json, DeviceError, "cannot be read"),
        (_header_too_long, DeviceError, "cannot be read"),
        (_breaks_off, DeviceError, "http"),
        (_refuses, DeviceError, "refused .503 loading"),
    ],
)
def test_a_lying_server_is_refused(
    held: bundle.Bundle,
    lie: Callable[[bundle.Bundle], tuple[int, dict[str, str], bytes]],
    error: type[Exception],
    says: str,
) -> None:
    with (
        modelserver.serving(lambda _body, _headers: lie(held)) as url,
        pytest.raises(error, match=says),
    ):
        runtime.open_session(held, url)


def test_nobody_there(held: bundle.Bundle) -> None:
    with pytest.raises(DeviceError, match="refused"):
        runtime.open_session(held, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DeviceError, match="device: must be such as"):
        runtime.open_session(held, "http:///nothing")


def test_an_answer_that_trickles_meets_the_deadline(held: bundle.Bundle) -> None:
    stop = threading.Event()

    class Trickle(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not stop.wait(0.02):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with pytest.raises(DeviceError, match=r"did not answer within 0\.2 s"):
            oip.open_oip(held, f"http://127.0.0.1:{server.server_port}", "int8", timeout_s=0.2)
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_half_precision_is_widened_on_the_wire() -> None:
    values = np.array([[0.5], [0.25]], np.float16)
    tensor = {
        "name": "y",
        "shape": [2, 1],
        "datatype": "FP16",
        "parameters": {"binary_data_size": 4},
    }
    text = json.dumps({"outputs": [tensor]}).encode()
    body = text + struct.pack("<2e", *values.ravel())
    got = oip._answer({oip.HEADER_LENGTH.lower(): str(len(text))}, body, "here")
    np.testing.assert_array_equal(got["y"], values.astype(np.float32))
