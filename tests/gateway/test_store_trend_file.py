"""How trends lie on the disk: little is written, and what an older version wrote is read."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from gateway.store.trend_file import TrendFile
from gateway.store.trend_reader import TrendReader
from gateway.store.trend_rows import WIDTHS_S, Rows
from gateway.store.trend_tables import FILE_NAME

from .storing import SECOND_NS, T0_NS, assessments

T0_S = T0_NS // SECOND_NS
SIGNALS = 1000
PAGE_BYTES = 4096


def rows(number: int) -> Rows:
    """The ten seconds with this number, of every signal; its value is ten times the number."""
    value = np.full(SIGNALS, 10.0 * number)
    start_s = np.full(SIGNALS, T0_S + 10 * number)
    return np.arange(SIGNALS), start_s, np.full(SIGNALS, 10), 10 * value, value, value


def filled(folder: Path, writes: int) -> TrendFile:
    file = TrendFile(folder / FILE_NAME, "epoch")
    for number in range(writes):
        block = assessments(T0_NS + 10 * number * SECOND_NS, number / writes)
        file.write(rows(number), [block], [], {"samples": number + 1})
    return file


def test_a_write_of_all_signals_touches_few_pages_however_long_it_has_gone_on(
    tmp_path: Path,
) -> None:
    file = filled(tmp_path, 120)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.write(rows(120), [assessments(T0_NS + 1200 * SECOND_NS)], [], {"samples": 121})
    written = (tmp_path / f"{FILE_NAME}-wal").stat().st_size
    needed = SIGNALS * len(WIDTHS_S) * 45
    assert written < 2 * needed + 20 * PAGE_BYTES
    file.close()


def test_what_the_version_before_wrote_is_laid_by_time_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    filled(tmp_path, 30).close()
    with closing(sqlite3.connect(path)) as old, old:
        for width in WIDTHS_S:
            (made,) = old.execute(
                "SELECT sql FROM sqlite_master WHERE name = ?", (f"trend_{width}",)
            ).fetchone()
            old.execute(f"ALTER TABLE trend_{width} RENAME TO by_time")
            old.execute(made.replace("PRIMARY KEY (t, signal)", "PRIMARY KEY (signal, t)"))
            old.execute(f"INSERT INTO trend_{width} SELECT * FROM by_time")
            old.execute("DROP TABLE by_time")
        old.execute("INSERT INTO assessment SELECT * FROM recent")
        old.execute("DROP TABLE recent")
        old.execute("PRAGMA user_version = 2")
    file = TrendFile(path, "epoch")
    assert file.positions() == {"samples": 30}
    file.write(rows(30), [assessments(T0_NS + 300 * SECOND_NS)], [], {"samples": 31})
    reader = TrendReader(path)
    for signal in (0, SIGNALS - 1):
        series = reader.series(signal, T0_NS, T0_NS + 310 * SECOND_NS)
        assert series.mean.tolist() == [10.0 * i for i in range(31)]
        assert reader.series(signal, T0_NS, T0_NS + 310 * SECOND_NS, 1).count.tolist() == [310]
    assert len(reader.assessments("pump", T0_NS, T0_NS + 310 * SECOND_NS).t_ns) == 31
    assert not path.with_suffix(".db.old").exists()
    reader.close()
    file.close()


def test_assessments_read_the_same_before_they_settle_and_after(tmp_path: Path) -> None:
    file = filled(tmp_path, 20)
    reader = TrendReader(tmp_path / FILE_NAME)
    start_ns, end_ns = T0_NS + 20 * SECOND_NS, T0_NS + 120 * SECOND_NS
    before = reader.assessments("pump", start_ns, end_ns)
    assert before.t_ns.tolist() == [T0_NS + 10 * i * SECOND_NS for i in range(2, 12)]
    file.settle()
    # What is said again of a window that has settled, as after a crash, takes its place.
    file.write(None, [assessments(T0_NS + 30 * SECOND_NS, 3 / 20)], [], {})
    file.settle()
    after = reader.assessments("pump", start_ns, end_ns)
    assert after.t_ns.tolist() == before.t_ns.tolist()
    assert after.score.tolist() == before.score.tolist()
    assert reader.assets() == ["pump"]
    reader.close()
    file.close()
