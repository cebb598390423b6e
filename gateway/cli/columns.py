"""Says what each column of a table is for, and what its signal is called: its unit, its words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.cli.cells import MISSING, is_date, number
from gateway.cli.shaft import Orders
from gateway.cli.tables import NUMERIC_SHARE, Floats, Table, share, some
from models.events import Facts, Failures, Log
from models.formula import Formula

FEW_WORDS = 12
WORD_ROWS_MIN = 20
"""A text column is taken by itself if it has at most so many words, each in so many rows."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of the files is for.

    Attributes:
        time: The time column; None to find it.
        signals: The columns to use; empty for every numeric one not named elsewhere.
        ignore: Columns to leave alone.
        labels: Label columns; `valve=73` holds where the column valve says 73.
        group: Column that tells independent sequences apart.
        rows: First row and end (not included) of each file's rows to use; None for all.
        derive: Further signals, computed from columns.
        words: Column -> its words, for categories whose numbers are already fixed by a model.
        few_words: Without `signals`: text columns of a few words that come again are used as well.
        events: Tables beside the files, whose signals join those of the files.
        failures: Makes the labels, in place of columns.
        wanted_by: Who names the signals, for messages.
        also: Beside `signals`: columns to read where a file has them, missing where it has not.
        orders: A bearing whose orders join the signals; recordings are cut into bursts for it.
        day_first: Whether 05/11/2026 is in November, where a column itself does not tell.
    """

    time: str | None = None
    signals: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    group: str | None = None
    rows: tuple[int | None, int | None] | None = None
    derive: tuple[Formula, ...] = ()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    few_words: bool = False
    events: tuple[Log | Facts, ...] = ()
    failures: Failures | None = None
    wanted_by: str = "--signals"
    also: tuple[str, ...] = ()
    day_first: bool | None = None
    orders: Orders | None = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """What the labels may be read from: no signals."""
        return (*self.labels, *(label.rpartition("=")[0] for label in self.labels if "=" in label))


def by_number(columns: Columns, first: Table) -> Columns:
    """Names such as `2` taken for `c2`, the second column of a file without a header."""

    def name(given: str) -> str:
        other = f"c{given}"
        return other if given not in first.names and other in first.names else given

    def names(given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(name, given))

    return replace(
        columns,
        time=name(columns.time) if columns.time else columns.time,
        group=name(columns.group) if columns.group else columns.group,
        signals=names(columns.signals),
        ignore=names(columns.ignore),
        labels=names(columns.labels),
    )


def words_of(tables: Sequence[Table], columns: Columns) -> dict[str, tuple[str, ...]]:
    """The words of each text column that is asked for as a signal, the same for all files."""
    out = dict(columns.words)
    taken = {columns.time, columns.group, *columns.label_columns, *columns.ignore}
    asked = columns.signals
    if columns.few_words and not asked:
        asked = tuple(n for n in tables[0].names if n not in taken and _has_few_words(tables, n))
    for name in asked:
        if name in out:
            continue
        here = [t.columns[t.names.index(name)] for t in tables if name in t.names]
        texts = [column for column in here if column.dtype != np.float64]
        if texts and any(share(column) <= NUMERIC_SHARE for column in texts):
            seen = {str(cell) for column in texts for cell in column}
            out[name] = tuple(sorted(word for word in seen if word.lower() not in MISSING))
    return out


def _has_few_words(tables: Sequence[Table], name: str) -> bool:
    """Whether a text column, in every file, says a few words over and over: a type, a product."""
    here = [t.columns[t.names.index(name)] for t in tables if name in t.names]
    if len(here) < len(tables) or any(column.dtype == np.float64 for column in here):
        return False
    # A look at some of the cells spares all of them in a column of numbers.
    glance = {str(cell).lower() for column in here for cell in some(column)}
    if len(glance - MISSING) > FEW_WORDS:
        return False
    seen = Counter(str(cell) for column in here for cell in column)
    known = {word: count for word, count in seen.items() if word.lower() not in MISSING}
    if not 2 <= len(known) <= FEW_WORDS or min(known.values()) < WORD_ROWS_MIN:
        return False
    return all(number(word) is None and not is_date(word) for word in known)


def coded(held: Table, name: str, words: tuple[str, ...]) -> Floats:
    """A text column as the index of each word; a word that is not known is missing."""
    at = {word: float(index) for index, word in enumerate(words)}
    column = held.columns[held.names.index(name)]
    return np.array([at.get(str(cell), np.nan) for cell in column])
