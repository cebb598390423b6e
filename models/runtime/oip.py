"""The Open Inference Protocol v2 over HTTP: a model server next door, or the worker of a stick.

REST with the binary tensor extension where the server has it, JSON where it has not. One kept
connection, a deadline on everything, every answer checked: a server may be slow, dead, or lying.
"""

import http.client
import json
import math
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import DeviceError
from models.runtime.session import Floats, Outputs, Precision, checked

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 64 << 20
HEADER_LENGTH = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.float32, "FP64": np.float64, "FP16": np.float16}


class OipSession:
    """One model on one server."""

    def __init__(self, url: str, bundle: Bundle, precision: Precision, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise DeviceError(f"device: must be such as http://server:8000/model, was {url!r}")
        self.device = url
        self.precision: Precision = precision
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        model = parts.path.strip("/").removeprefix("v2/models/") or bundle.id
        self._path = f"/v2/models/{model}"
        self._outputs = bundle.manifest.outputs
        self._flat = {name for name, value in bundle.golden.fp32.items() if np.ndim(value) == 1}
        self._timeout_s = timeout_s
        self._binary = True
        self._link: http.client.HTTPConnection | None = None

    def ready(self) -> None:
        """Ask whether the model is loaded, and whether it is this shape of model.

        Raises:
            DeviceError: It is not.
        """
        status, _, body = self._ask("GET", f"{self._path}/ready")
        if status != http.client.OK:
            raise DeviceError(f"{self.device}: the model is not ready ({status} {_short(body)})")

    def run(self, x: Floats) -> Outputs:
        for binary in (True, False) if self._binary else (False,):
            head, body = _request(x, self._outputs, binary=binary)
            status, headers, answer = self._ask("POST", f"{self._path}/infer", body, head)
            if status == http.client.OK:
                self._binary = binary
                out = _answer(headers, answer, self.device)
                missing = [name for name in self._outputs if name not in out]
                if missing:
                    raise DeviceError(f"{self.device}: the answer lacks {', '.join(missing)}")
                held = {name: self._flattened(name, out[name]) for name in self._outputs}
                return checked(held, len(x), self.device)
            if not (binary and status in _MAYBE_NO_BINARY):
                break
        raise DeviceError(f"{self.device}: refused ({status} {_short(answer)})")

    def _flattened(self, name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Some servers (MLServer) know no vectors and send [n, 1] for [n]."""
        return value[:, 0] if name in self._flat and value.shape[1:] == (1,) else value

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One exchange; a kept connection that the server closed meanwhile is opened once more."""
        deadline_s = time.monotonic() + self._timeout_s
        for fresh in (self._link is None, True):
            link = self._connect() if self._link is None else self._link
            try:
                link.request(method, path, body or None, headers or {})
                answer = link.getresponse()
                data = _read(link, answer, deadline_s, self.device)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                self.close()
                if fresh:
                    raise DeviceError(f"{self.device}: closed the connection") from error
            except TimeoutError as error:
                self.close()
                raise DeviceError(
                    f"{self.device}: did not answer within {self._timeout_s:g} s"
                ) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                raise DeviceError(f"{self.device}: {str(error) or type(error).__name__}") from error
            else:
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        raise AssertionError("the second exchange either answers or raises")

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        self._link = kind(self._host, self._port, timeout=self._timeout_s)
        return self._link


_MAYBE_NO_BINARY = frozenset({400, 415, 422, 500})
"""How servers without the binary extension answer a request that uses it."""


def open_oip(
    bundle: Bundle, url: str, precision: Precision, *, timeout_s: float = TIMEOUT_S
) -> OipSession:
    """Reach a model on a server.

    Args:
        bundle: Whose graph the server is said to serve; its golden vectors tell whether it does.
        url: `http://host:port`, with the model's name as path where it is not the bundle's id.
        precision: What the server computes in.
        timeout_s: For each call.

    Raises:
        DeviceError: The server or the model is not there.
    """
    session = OipSession(url, bundle, precision, timeout_s)
    try:
        session.ready()
    except DeviceError:
        session.close()
        raise
    return session


def _request(x: Floats, outputs: tuple[str, ...], *, binary: bool) -> tuple[dict[str, str], bytes]:
    tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    asked: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": name} for name in outputs]}
    if not binary:
        flat = np.asarray(x, np.float64).ravel().tolist()
        # JSON knows no NaN; null is how the servers that take JSON only read one.
        tensor["data"] = [None if math.isnan(value) else value for value in flat]
        body = json.dumps(asked, allow_nan=False).encode()
        return {"Content-Type": "application/json"}, body
    raw = np.ascontiguousarray(x, "<f4").tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    asked["parameters"] = {"binary_data_output": True}
    head = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return headers, head + raw


def _answer(headers: dict[str, str], body: bytes, device: str) -> Outputs:
    """The tensors of an answer, each checked against its own shape and size.

    Raises:
        DeviceError: Anything about it is not as the protocol says.
    """
    try:
        head_bytes, rest = _cut(body, int(headers.get(HEADER_LENGTH.lower(), len(body))))
        head = json.loads(head_bytes)
        out: Outputs = {}
        for tensor in head["outputs"]:
            shape = [int(size) for size in tensor["shape"]]
            size = (tensor.get("parameters") or {}).get("binary_data_size")
            if size is None:
                data = np.array(tensor["data"], dtype=np.float64).ravel()
            else:
                raw, rest = _cut(rest, int(size))
                data = np.frombuffer(raw, _TYPES[tensor["datatype"]])
            out[str(tensor["name"])] = _shaped(data, shape)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise DeviceError(f"{device}: the answer cannot be read ({error})") from error
    return out


def _cut(data: bytes, at: int) -> tuple[bytes, bytes]:
    if not 0 <= at <= len(data):
        raise ValueError(f"{at} bytes announced, {len(data)} there")
    return data[:at], data[at:]


def _shaped(data: NDArray[Any], shape: list[int]) -> NDArray[np.float32]:
    if min(shape, default=0) < 0 or math.prod(shape) != len(data):
        raise ValueError(f"shape {shape} with {len(data)} values")
    return np.asarray(data, np.float32).reshape(shape)


def _read(
    link: http.client.HTTPConnection,
    answer: http.client.HTTPResponse,
    deadline_s: float,
    device: str,
) -> bytes:
    """The body, within the deadline however slowly it trickles, and within the bound."""
    parts: list[bytes] = []
    size = 0
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if isinstance(link.sock, socket.socket):
            link.sock.settimeout(left_s)
        part = answer.read1(1 << 16)
        if not part:
            answer.close()
            return b"".join(parts)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise DeviceError(f"{device}: answered with more than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)


def _short(body: bytes) -> str:
    return body[:200].decode("utf-8", errors="replace").strip()
