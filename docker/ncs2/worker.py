"""Serves the float32 graph of one bundle on an Intel Neural Compute Stick 2, in half precision.

OpenVINO 2021.4 is the last release whose wheel drives the stick, and Python 3.9 the last that it
installs on; so the stick gets a process of its own, and the gateway talks to it like to any model
server (Open Inference Protocol v2 over HTTP, tensors in binary or JSON). Without a stick it runs
on the CPU. It keeps to Python 3.9, the standard library, numpy and openvino.

    python worker.py pump.fwm --port 8000 [--device MYRIAD|CPU|auto]
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cut import Cut, cut_before  # type: ignore[import-not-found,unused-ignore]

BODY_BYTES_MAX = 64 << 20
FILE_BYTES_MAX = 128 << 20
ROWS_MAX = 4096
HEADER_LENGTH = "Inference-Header-Content-Length"


class Refused(Exception):
    """A request or a bundle that cannot be served."""


class Model:
    """One bundle, compiled for one row at a time."""

    def __init__(self, path: str, device: str) -> None:
        graph, self.id, features = _read(path)
        self.outputs: list[str] = []
        self._lock = threading.Lock()
        self._cut: Cut | None = cut_before(graph, "prepared", features)
        self.device = self._load(graph, features, device)

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs of float32[n, d], by name."""
        name = "x"
        if self._cut is not None:
            # Raw units do not fit into half precision; what is standardised does.
            x, name = self._cut.prepare(x), "prepared"
        with self._lock:
            rows = [self._network.infer({name: row[None]}) for row in x]
        return {
            each: np.concatenate([row[each] for row in rows]).astype(np.float32)
            for each in self.outputs
        }

    def _load(self, graph: bytes, features: int, device: str) -> str:
        from openvino.inference_engine import IECore  # noqa: PLC0415

        core = IECore()
        data, name, width = graph, "x", features
        if self._cut is not None:
            data, name, width = self._cut.rest, "prepared", self._cut.width
        network = core.read_network(model=data, weights=b"", init_from_buffer=True)
        network.reshape({name: [1, width]})
        self.outputs = list(network.outputs)
        there = {each.partition(".")[0] for each in core.available_devices}
        wanted = [device] if device != "auto" else ["MYRIAD", "CPU"]
        for each in wanted:
            if each in there:
                # On CPUs that can, 2021.4 would compute in bfloat16 without being asked.
                config = {"ENFORCE_BF16": "NO"} if each == "CPU" else {}
                self._network: Any = core.load_network(network, each, config)
                return each
        raise Refused(f"device must be one of {sorted(there)}, was {device}")


def _read(path: str) -> tuple[bytes, str, int]:
    """The float32 graph, the bundle's id and its number of features, hashes checked."""
    if Path(path).stat().st_size > FILE_BYTES_MAX:
        raise Refused(f"{path}: must be at most {FILE_BYTES_MAX} bytes")
    with zipfile.ZipFile(path) as file:
        for name in ("manifest.json", "model.fp32.onnx"):
            if file.getinfo(name).file_size > FILE_BYTES_MAX:
                raise Refused(f"{path}: {name} is too large")
        manifest = json.loads(file.read("manifest.json"))
        graph = file.read("model.fp32.onnx")
    if hashlib.sha256(graph).hexdigest() != manifest["members"]["model.fp32.onnx"]:
        raise Refused(f"{path}: the graph is not the one of the manifest")
    return graph, str(manifest["id"]), len(manifest["features"])


def answer(model: Model, body: bytes, header_length: str | None) -> tuple[dict[str, str], bytes]:
    """One inference request to its answer.

    Raises:
        Refused: The request is not as the protocol says.
    """
    try:
        binary = header_length is not None
        cut = len(body) if header_length is None else int(header_length)
        head = json.loads(body[:cut])
        (tensor,) = head["inputs"]
        n, d = (int(size) for size in tensor["shape"])
        if not 1 <= n <= ROWS_MAX or tensor["datatype"] != "FP32":
            raise Refused(f"x must be FP32 of 1 to {ROWS_MAX} rows")
        if "binary_data_size" in (tensor.get("parameters") or {}):
            x = np.frombuffer(body[cut:], "<f4")
        else:
            x = np.array(tensor["data"], np.float32).ravel()
        made = model.run(np.ascontiguousarray(x.reshape(n, d), np.float32))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Refused(f"cannot be read: {error}") from error
    outputs: list[dict[str, Any]] = []
    raw = b""
    for name, value in made.items():
        held: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(value.shape)}
        if binary:
            part = np.ascontiguousarray(value, "<f4").tobytes()
            held["parameters"] = {"binary_data_size": len(part)}
            raw += part
        else:
            held["data"] = [None if v != v else v for v in value.ravel().tolist()]  # noqa: PLR0124
        outputs.append(held)
    text = json.dumps({"model_name": model.id, "outputs": outputs}).encode()
    return ({HEADER_LENGTH: str(len(text))} if binary else {}), text + raw


def serve(model: Model, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server that is bound but not yet running."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            known = {
                "/v2/health/live",
                "/v2/health/ready",
                f"/v2/models/{model.id}/ready",
            }
            if self.path in known:
                self._give(200, {}, b"{}")
            elif self.path == f"/v2/models/{model.id}":
                told = {"name": model.id, "platform": f"openvino_{model.device}", "inputs": ["x"]}
                self._give(200, {}, json.dumps(told | {"outputs": model.outputs}).encode())
            else:
                self._give(404, {}, b'{"error": "no such model"}')

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if self.path != f"/v2/models/{model.id}/infer":
                self.close_connection = True
                self._give(404, {}, b'{"error": "no such model"}')
            elif not 0 < size <= BODY_BYTES_MAX:
                self.close_connection = True
                self._give(413, {}, b'{"error": "too large"}')
            else:
                body = self.rfile.read(size)
                try:
                    headers, made = answer(model, body, self.headers.get(HEADER_LENGTH))
                except Refused as error:
                    self._give(400, {}, json.dumps({"error": str(error)}).encode())
                except RuntimeError as error:  # what OpenVINO raises when the stick is pulled
                    self._give(500, {}, json.dumps({"error": str(error)}).encode())
                else:
                    self._give(200, headers, made)

        def _give(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing of single requests."""

    return http.server.ThreadingHTTPServer((host, port), Handler)


def supported(path: str) -> dict[str, str]:
    """Which device of the stick's plugin takes each layer; needs no stick."""
    from openvino.inference_engine import IECore  # noqa: PLC0415

    graph, _, features = _read(path)
    cut = cut_before(graph, "prepared", features)
    core = IECore()
    data, name, width = (graph, "x", features) if cut is None else (cut.rest, "prepared", cut.width)
    network = core.read_network(model=data, weights=b"", init_from_buffer=True)
    network.reshape({name: [1, width]})
    taken: dict[str, str] = core.query_network(network, "MYRIAD")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--check", action="store_true", help="compile for the stick and say so")
    given = parser.parse_args()
    if given.check:
        taken = supported(given.bundle)
        print(
            json.dumps({"layers": len(taken), "myriad": sum(v == "MYRIAD" for v in taken.values())})
        )
        return
    model = Model(given.bundle, given.device)
    server = serve(model, given.host, given.port)
    told = {"model": model.id, "device": model.device, "port": server.server_address[1]}
    print(json.dumps(told), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
