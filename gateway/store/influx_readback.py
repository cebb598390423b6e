"""Reads stored samples back from InfluxDB, by InfluxQL: version 1, 2 (by its DBRP mapping) and 3.

Ranges are cut to 72 hours and pages to so many rows, because version 3 refuses more and memory has
a bound.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gateway.core.errors import ConfigError
from gateway.store.influx_link import PlainLink
from gateway.store.readback import Column, Table, chosen, column, intervals_s, laid

PAGE_ROWS = 10_000
RANGE_NS_MAX = 72 * 3600 * 1_000_000_000
ROWS_MAX = 50_000_000


class StoredInInflux:
    """See `Stored`. Raises `ConfigError` where the server refuses, `OSError` where it is away."""

    def __init__(self, link: PlainLink, asset: str, signals: Sequence[str] | None) -> None:
        """As `StoredInLog`."""
        self._link = link
        self._asset = asset
        found = link.query(
            'SHOW TAG VALUES FROM "signal" WITH KEY = "signal" '
            f"WHERE \"asset\" = '{_quoted(asset)}'"
        )
        series = found["results"][0].get("series", [])
        known = tuple(row[1] for part in series for row in part["values"])
        self.names = chosen(asset, known, signals)

    def intervals_s(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """See `Stored`."""
        return intervals_s(self.names, self._columns(start_ns, end_ns))

    def table(self, start_ns: int, end_ns: int, step_s: float) -> Table:
        """See `Stored`."""
        step_ns = round(step_s * 1e9)
        t_ns = np.arange(start_ns, end_ns, step_ns, dtype=np.int64)
        return Table(t_ns, self.names, laid(self._columns(start_ns, end_ns), t_ns, step_ns))

    def _columns(self, start_ns: int, end_ns: int) -> list[Column]:
        columns = []
        for name in self.names:
            pages = list(self._pages(name, start_ns, end_ns))
            t_ns = np.concatenate([page.t_ns for page in pages] or [np.empty(0, np.int64)])
            value = np.concatenate([page.value for page in pages] or [np.empty(0)])
            columns.append(column(t_ns, value))
        return columns

    def _pages(self, name: str, start_ns: int, end_ns: int) -> Iterator[Column]:
        rows = 0
        where = f"\"asset\" = '{_quoted(self._asset)}' AND \"signal\" = '{_quoted(name)}'"
        for low_ns in range(start_ns, end_ns, RANGE_NS_MAX):
            high_ns, after_ns = min(end_ns, low_ns + RANGE_NS_MAX), low_ns - 1
            while True:
                body = self._link.query(
                    f'SELECT "value" FROM "signal" WHERE {where} AND time > {after_ns} '  # noqa: S608
                    f"AND time < {high_ns} ORDER BY time LIMIT {PAGE_ROWS}"
                )
                series = body["results"][0].get("series", [])
                found = series[0]["values"] if series else []
                if not found:
                    break
                yield Column(
                    np.array([row[0] for row in found], dtype=np.int64),
                    np.array([row[1] for row in found], dtype=np.float64),
                )
                rows += len(found)
                if rows > ROWS_MAX:
                    raise ConfigError(
                        f"{self._asset}/{name}: must be {ROWS_MAX} samples or fewer; "
                        "take a shorter period"
                    )
                after_ns = found[-1][0]
                if len(found) < PAGE_ROWS:
                    break


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
