"""Model servers for tests: a real one, and one on a real socket whose answers are the test's."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models import quantise
from models.bundle import Bundle
from models.runtime import oip
from tests.servers import Server, free_port

MLSERVER = ("mlserver==1.7.1", "onnxruntime>=1.23")
SERVING = """
import onnxruntime, numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec

class Model(MLModel):
    async def load(self):
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        names = [o.name for o in self.session.get_outputs()]
        values = self.session.run(names, {"x": x})
        from mlserver.types import InferenceResponse
        outputs = [NumpyCodec.encode_output(n, v) for n, v in zip(names, values)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""


def mlserver(held: Bundle, python: Path, folder: Path) -> Server:
    """MLServer with a bundle's int8 graph, ready to start.

    Args:
        held: Whose graph.
        python: Of an environment with `MLSERVER` in it.
        folder: For its files.
    """
    (folder / "graph.onnx").write_bytes(held.int8)
    (folder / "serving.py").write_text(SERVING)
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": held.id,
                "implementation": "serving.Model",
                "parallel_workers": 0,
                "parameters": {"uri": str(folder / "graph.onnx")},
            }
        )
    )
    port = free_port()
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **ports})
    )
    return Server(
        [str(python.parent / "mlserver"), "start", str(folder)],
        f"http://127.0.0.1:{port}",
        f"/v2/models/{held.id}/ready",
        folder / "log",
    )


Answer = Callable[[bytes, dict[str, str]], tuple[int, dict[str, str], bytes]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server on a real socket whose answers are the test's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._give(200, {}, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._give(*answer(body, dict(self.headers)))

        def _give(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Moody:
    """An honest server of one bundle, until it is told to fail.

    Attributes:
        mood: "honest", "dead" (hangs up), "lying", or "blank" (NaN but for the last row).
        rows: Rows of each request, in order.
    """

    def __init__(self, held: Bundle) -> None:
        self.mood = "honest"
        self.rows: list[int] = []
        self._held = held

    def __call__(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        cut = int(headers[oip.HEADER_LENGTH])
        shape = json.loads(body[:cut])["inputs"][0]["shape"]
        x = np.frombuffer(body[cut:], "<f4").reshape(shape)
        self.rows.append(len(x))
        if self.mood == "dead":
            return 200, {"Content-Length": "500", "Connection": "close"}, b"{"
        tensors, raws = [], []
        for name, value in quantise.run(self._held.int8, x).items():
            said = np.asarray(value, np.float32)
            if self.mood == "lying":
                said = said + np.float32(0.4)
            elif self.mood == "blank":
                said = np.where(np.arange(len(said))[:, None] < len(said) - 1, np.nan, said)
            raw = said.astype("<f4").tobytes()
            raws.append(raw)
            tensors.append(
                {
                    "name": name,
                    "shape": list(said.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(raw)},
                }
            )
        head = json.dumps({"outputs": tensors}).encode()
        return 200, {oip.HEADER_LENGTH: str(len(head))}, head + b"".join(raws)
