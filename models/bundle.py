"""The one file that a model travels in: written whole, read with suspicion, never trusted by name.

A `.fwm` is a zip of `manifest.json`, `model.int8.onnx`, `model.fp32.onnx`, `golden.npz` and, when
signed, `signature.json`. The manifest holds the sha256 of every other member, so that one
signature over the manifest covers all.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray
from pydantic import ValidationError

from models import signature
from models.errors import BundleError
from models.manifest import FORMAT, Manifest
from models.onnx_wire import WireError, check
from models.paths import unreadable

MANIFEST, INT8, FP32, GOLDEN = "manifest.json", "model.int8.onnx", "model.fp32.onnx", "golden.npz"
SIGNATURE = "signature.json"
HASHED = (INT8, FP32, GOLDEN)
BYTES_MAX = {MANIFEST: 4 << 20, INT8: 32 << 20, FP32: 64 << 20, GOLDEN: 16 << 20, SIGNATURE: 4096}
FILE_BYTES_MAX = sum(BYTES_MAX.values())
GOLDEN_ROWS_MAX = 1024
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Inputs with the outputs that each graph gave on the training machine.

    Attributes:
        x: float32[n, d].
        int8: Output name -> array[n, ...] of the int8 graph.
        fp32: The same of the fp32 graph.
    """

    x: Floats
    int8: Mapping[str, NDArray[Any]]
    fp32: Mapping[str, NDArray[Any]]

    def pack(self) -> bytes:
        """As the bytes of an `.npz` without pickles."""
        out = io.BytesIO()
        arrays = {"x": self.x}
        arrays |= {f"int8.{name}": np.asarray(value) for name, value in self.int8.items()}
        arrays |= {f"fp32.{name}": np.asarray(value) for name, value in self.fp32.items()}
        np.savez_compressed(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote.

        Raises:
            BundleError: Not such a file, or larger than a bundle's golden vectors may be.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                size = sum(info.file_size for info in inner.infolist())
            if size > BYTES_MAX[GOLDEN]:
                raise BundleError(f"{GOLDEN}: must unpack to {BYTES_MAX[GOLDEN]} bytes, was {size}")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                held = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{GOLDEN}: cannot be read ({error})") from error
        x = held.pop("x", np.zeros((0, 0), np.float32))
        if x.dtype != np.float32 or x.ndim != 2 or not 1 <= len(x) <= GOLDEN_ROWS_MAX:
            raise BundleError(f"{GOLDEN}: x must be float32[1 to {GOLDEN_ROWS_MAX}, d]")
        parts: dict[str, dict[str, NDArray[Any]]] = {"int8": {}, "fp32": {}}
        for key, array in held.items():
            which, _, name = key.partition(".")
            if which not in parts or array.dtype.kind not in "fiub" or len(array) != len(x):
                raise BundleError(f"{GOLDEN}: {key!r} does not belong here")
            parts[which][name] = array
        return cls(x, parts["int8"], parts["fp32"])


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that has been read and checked; not yet replayed on a device."""

    manifest: Manifest
    int8: bytes
    fp32: bytes
    golden: Golden
    sha256: str
    """Of the whole file, hex."""
    signer: str | None
    """Public key, hex, whose signature is valid; None where unsigned."""
    path: Path | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    def without_graphs(self) -> Self:
        """The same for who has opened it: a runtime holds the weights by itself, and of two graphs'
        bytes there are twice as many."""
        return replace(self, int8=b"", fp32=b"")


def write(path: Path, manifest: Manifest, int8: bytes, fp32: bytes, golden: Golden) -> Bundle:
    """Write an unsigned bundle atomically, read back first: nothing unreadable is ever left.

    Raises:
        BundleError: The parts break a rule of `read`.
    """
    members = {INT8: int8, FP32: fp32, GOLDEN: golden.pack()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    text = manifest.model_copy(update={"members": hashes}).model_dump_json(indent=1).encode()
    data = _zip({MANIFEST: text, **members}, manifest.created)
    held = read(data)
    _write_atomic(path, data)
    return replace(held, path=path)


def read(source: Path | bytes, *, trusted: Collection[Ed25519PublicKey] = ()) -> Bundle:
    """Read a bundle and check every rule that needs no device.

    Args:
        source: The file, or its bytes.
        trusted: Where there are any, one of them must have signed.

    Raises:
        BundleError: Names the file, the rule, what was found, and what to do.
    """
    path = None if isinstance(source, bytes) else source
    try:
        data = source if isinstance(source, bytes) else _slurp(source)
        members = _unzip(data)
        manifest = _manifest(members[MANIFEST])
        _check_members(manifest, members)
        _check_graphs(manifest, members)
        golden = Golden.unpack(members[GOLDEN])
        signer = signature.verify(members[MANIFEST], members.get(SIGNATURE), trusted)
    except BundleError as error:
        raise BundleError(f"{path or 'bundle'}: {error}") from error.__cause__
    return Bundle(
        manifest=manifest,
        int8=members[INT8],
        fp32=members[FP32],
        golden=golden,
        sha256=hashlib.sha256(data).hexdigest(),
        signer=signer,
        path=path,
    )


def sign(path: Path, key: Ed25519PrivateKey, *, out: Path | None = None) -> Bundle:
    """Sign a bundle in place (or into `out`), replacing any signature it had."""
    held = read(path)
    members = _unzip(_slurp(path))
    members[SIGNATURE] = signature.sign(members[MANIFEST], key)
    target = out or path
    _write_atomic(target, _zip(members, held.manifest.created))
    return read(target, trusted=[key.public_key()])


def _slurp(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise BundleError(f"size must be at most {FILE_BYTES_MAX} bytes, was {size}")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(unreadable(path, error, ".fwm")) from error


def _unzip(data: bytes) -> dict[str, bytes]:
    """Take the members out, each checked against its bound before and while it is inflated."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            infos = file.infolist()
            names = [info.filename for info in infos]
            wanted = {MANIFEST, INT8, FP32, GOLDEN}
            if len(set(names)) != len(names):
                raise BundleError("members must differ, one name is there twice")
            if not wanted <= set(names) <= wanted | {SIGNATURE}:
                raise BundleError(f"members must be {sorted(wanted)}, were {sorted(names)[:8]}")
            out = {}
            for info in infos:
                bound = BYTES_MAX[info.filename]
                if info.flag_bits & 1 or info.compress_type not in {
                    zipfile.ZIP_STORED,
                    zipfile.ZIP_DEFLATED,
                }:
                    raise BundleError(f"{info.filename}: must be stored or deflated")
                with file.open(info) as member:
                    held = member.read(bound + 1)
                if len(held) > bound:
                    raise BundleError(f"{info.filename}: must be at most {bound} bytes, was more")
                out[info.filename] = held
            return out
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zipfile.zlib.error,  # type: ignore[attr-defined]
    ) as error:
        raise BundleError(f"is not a bundle, or is damaged ({error}); copy it again") from error


def _zip(members: Mapping[str, bytes], created: datetime) -> bytes:
    """The same parts give the same bytes: the time in the zip is the manifest's."""
    out = io.BytesIO()
    stamp = (max(created.year, 1980), *created.timetuple()[1:6])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=stamp)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            file.writestr(info, data)
    return out.getvalue()


def _manifest(data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(
            f"{MANIFEST}: {place}: {first['msg']}, was {str(first['input'])[:80]!r}; "
            f"this gateway reads format {FORMAT}"
        ) from error


def _check_members(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    if set(manifest.members) != set(HASHED):
        raise BundleError(f"{MANIFEST}: members must list {HASHED}, was {set(manifest.members)}")
    for name in HASHED:
        was = hashlib.sha256(members[name]).hexdigest()
        if was != manifest.members[name]:
            raise BundleError(
                f"{name}: sha256 must be {manifest.members[name][:16]}…, was {was[:16]}…; "
                "the bundle was altered, take it from its source again"
            )


def _check_graphs(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    for name in (INT8, FP32):
        try:
            asked = check(members[name])
        except WireError as error:
            raise BundleError(f"{name}: {error}") from error
        if tuple(asked.outputs) != manifest.outputs:
            raise BundleError(f"{name}: outputs must be {manifest.outputs}, were {asked.outputs}")


def _write_atomic(path: Path, data: bytes) -> None:
    """All or nothing, also through a power cut: file, then name, then directory reach the disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written: {error.strerror}") from error
