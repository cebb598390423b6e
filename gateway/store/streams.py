"""Numbers as streams of bytes that deflate well, one behind the other, and back.

stream := form length bytes
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError

DEFLATE_LEVEL = 1
STORED_BYTES_MAX = 64
"""Shorter streams are not worth deflating."""

_HEAD = struct.Struct("<BI")
_STORED, _DEFLATED = 0, 1
_WIDTHS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class StreamWriter:
    """Takes streams in order."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def packed(self) -> bytes:
        """All that was put."""
        return b"".join(self._parts)

    def put(self, raw: bytes) -> None:
        """One stream, deflated where that makes it shorter."""
        how = _STORED
        if len(raw) > STORED_BYTES_MAX:
            small = zlib.compress(raw, DEFLATE_LEVEL)
            if len(small) < len(raw):
                how, raw = _DEFLATED, small
        self._parts += (_HEAD.pack(how, len(raw)), raw)

    def planes(self, words: NDArray[np.unsignedinteger]) -> None:
        """One stream for each byte of the word: equal bytes lie together and deflate well."""
        for plane in words.view(np.uint8).reshape(-1, words.itemsize).T:
            self.put(np.ascontiguousarray(plane).tobytes() if plane.any() else b"")

    def integers(self, steps: NDArray[np.int64]) -> None:
        """Zigzag, cut to the bytes that the largest needs, byte planes apart."""
        folded = ((steps << 1) ^ (steps >> 63)).view(np.uint64)
        top = int(folded.max(initial=np.uint64(0)))
        width = next(width for width in (0, *_WIDTHS) if top < 1 << (8 * width))
        self.put(bytes((width,)))
        if width:
            self.planes(folded.astype(_WIDTHS[width], copy=False))


class StreamReader:
    """Gives the streams of some bytes in order; raises `DataError` where they are none."""

    def __init__(self, data: bytes, at: int, *, bytes_max: int) -> None:
        """Read from `at` on; no stream may inflate to more than `bytes_max`."""
        self._data = data
        self._at = at
        self._bytes_max = bytes_max

    def take(self, bytes_max: int | None = None) -> bytes:
        """The next stream, of at most one byte more than may be."""
        try:
            how, length = _HEAD.unpack_from(self._data, self._at)
            start = self._at + _HEAD.size
            self._at = start + length
            raw = self._data[start : self._at]
            if len(raw) != length:
                raise DataError("sample block: it is cut short")
            if how == _STORED:
                return raw
            return zlib.decompressobj().decompress(raw, (bytes_max or self._bytes_max) + 1)
        except (struct.error, zlib.error) as error:
            raise DataError(f"sample block: {error}") from error

    def planes(self, n: int, width: int) -> NDArray[np.uint8]:
        """uint8[n * width], the words again; absent planes are zero."""
        words = np.zeros((n, width), dtype=np.uint8)
        for byte in range(width):
            raw = self.take(n)
            if raw:
                if len(raw) != n:
                    raise DataError(f"sample block: a plane must be {n} bytes, was {len(raw)}")
                words[:, byte] = np.frombuffer(raw, dtype=np.uint8)
        return words.reshape(-1)

    def integers(self, n: int) -> NDArray[np.int64]:
        """int64[n], unfolded."""
        width = self.take()[0]
        if width == 0:
            return np.zeros(n, dtype=np.int64)
        if width not in _WIDTHS:
            raise DataError(f"sample block: a width of {width} bytes is not known here")
        folded = self.planes(n, width).view(_WIDTHS[width]).astype(np.uint64)
        return (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)
