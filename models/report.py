"""Writes an evaluation as one HTML file that needs nothing else: plotly's script is inside."""

import html
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluate import Judged, precision_recall, roc

POINTS_MAX = 4000
"""Of one line; longer ones are thinned to the largest of each stretch: no alarm is lost."""
FILES_MAX = 64
_GRID = "rgba(122,135,148,.3)"
"""Seen on white and on black."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1300px;padding:0 1em;
color:#1d2733}
table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid #d5dbe1;padding:.25em .45em;text-align:right}
td:first-child,th:first-child{text-align:left;white-space:nowrap}
.plot{height:290px;margin:.5em 0 1.5em}h2{margin-top:2em}code{background:#f1f3f5;padding:0 .3em}
@media(prefers-color-scheme:dark){body{background:#12181f;color:#dde4ea}td,th{border-color:#33404d}
code{background:#222c36}}
"""


def page(report: dict[str, Any], files: Sequence[Judged], ways: Sequence[str]) -> str:
    """The report as HTML.

    Args:
        report: As `forewarn evaluate --json` prints it.
        files: What was judged.
        ways: Ways of scoring, the one that counts first.
    """
    parts = [
        *_head(report),
        "<h2>Measures</h2>",
        _table(report["measures"], report["trivial"]),
        "<h2>Files</h2>",
        _files(report["files"]),
        *_why(report["files"]),
        "<h2>Ranking</h2>",
    ]
    figures = [*_ranking(files, ways), *(_over_time(f, ways[0]) for f in files[:FILES_MAX])]
    if len(files) > FILES_MAX:
        parts.append(f"<p>The first {FILES_MAX} of {len(files)} files are drawn.</p>")
    parts += [_drawn(figures), "</html>"]
    return "\n".join(parts)


def plain_page(report: dict[str, Any], figures: Sequence[dict[str, Any]]) -> str:
    """The report of a failure or remaining-life model as HTML.

    Args:
        report: As `forewarn evaluate --kind … --json` prints it.
        figures: As `figure` makes them.
    """
    parts = _head(report)
    for name, ways in report["measures"].items():
        parts += [f"<h2>{html.escape(name)}</h2>", _table(ways, {})]
    return "\n".join([*parts, _drawn(figures), "</html>"])


def figure(data: list[dict[str, Any]], title: str, across: str, up: str) -> dict[str, Any]:
    """One figure for `plain_page`."""
    return {"data": data, "layout": _layout(title, across, up)}


def thinned(n: int) -> NDArray[np.int64]:
    """Which of `n` points of a line are drawn."""
    return np.unique(np.linspace(0, n - 1, min(n, POINTS_MAX)).astype(np.int64))


def _head(report: dict[str, Any]) -> list[str]:
    return [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>Forewarn evaluation</title><style>{_STYLE}</style>",
        f"<script>{plotly_script()}</script>",
        "<h1>Forewarn evaluation</h1>",
        f"<p>{html.escape(report['protocol'])}</p>",
        *(f"<p>{html.escape(note)}</p>" for note in report.get("notes", ())),
    ]


def _drawn(figures: Sequence[dict[str, Any]]) -> str:
    places = [f"<div class=plot id=p{index}></div>" for index in range(len(figures))]
    data = json.dumps(figures, allow_nan=False).replace("</", "<\\/")
    script = (
        f"<script>const figures={data};figures.forEach((f,i)=>Plotly.newPlot('p'+i,f.data,f.layout,"
        "{responsive:true,displaylogo:false}));</script>"
    )
    return "\n".join([*places, script])


def plotly_script() -> str:
    """The script that the plotly distribution carries, without importing it."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _table(measures: dict[str, dict[str, Any]], trivial: dict[str, dict[str, Any]]) -> str:
    rows = {**measures, **trivial}
    names = list(next(iter(measures.values())))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(way)}" + "".join(f"<td>{_cell(row.get(n))}" for n in names)
        for way, row in rows.items()
    )
    return f"<div style='overflow-x:auto'><table><tr><th>{head}{body}</table></div>"


def _files(rows: Sequence[dict[str, Any]]) -> str:
    names = [name for name in rows[0] if name != "why"] if rows else []
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row[n])}" for n in names) for row in rows)
    return f"<div style='overflow-x:auto'><table><tr>{head}{body}</table></div>"


def _why(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the worst alarm on each file says."""
    said = [(row["file"], row["why"]) for row in rows if row.get("why")]
    lines = [f"<li>{html.escape(file)}: {html.escape(why)}" for file, why in said]
    return ["<h2>What the alarms say</h2><ul>", *lines, "</ul>"] if lines else []


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else html.escape(str(value))


def _ranking(files: Sequence[Judged], ways: Sequence[str]) -> list[dict[str, Any]]:
    label = np.concatenate([f.label for f in files])
    if not label.any() or label.all():
        return []
    curves: list[dict[str, Any]] = []
    for title, curve, across, up in (
        ("ROC, all rows", roc, "false-alarm rate", "detection rate"),
        ("Precision and recall, all rows", precision_recall, "recall", "precision"),
    ):
        lines = []
        for n, way in enumerate(ways):
            x, y = curve(np.concatenate([f.score[way] for f in files]), label)
            dash = {"dash": "dot" if n else "solid"}  # The same curve twice is seen as two.
            lines.append({"x": _round(x), "y": _round(y), "name": way, "line": dash})
        curves.append({"data": lines, "layout": _layout(title, across, up)})
    return curves


def _over_time(file: Judged, way: str) -> dict[str, Any]:
    at, score = _thin(file.score[way])
    limit = file.limit[way]
    top = float(np.nanmax(score, initial=limit)) * 1.05
    data: list[dict[str, Any]] = [
        {
            "x": np.arange(len(file.label))[:: max(1, len(file.label) // POINTS_MAX)].tolist(),
            "y": (file.label * top)[:: max(1, len(file.label) // POINTS_MAX)].tolist(),
            "fill": "tozeroy",
            "line": {"width": 0, "shape": "hv"},
            "fillcolor": "rgba(214,39,40,.15)",
            "name": "labelled anomalous",
        },
        {"x": at, "y": [None if np.isnan(v) else round(float(v), 4) for v in score], "name": way},
        {
            "x": [0, len(file.label)],
            "y": [limit, limit],
            "name": "limit",
            "line": {"dash": "dash"},
        },
    ]
    alarm = np.flatnonzero(file.flag[way])[:: max(1, int(file.flag[way].sum()) // POINTS_MAX)]
    data.append({
        "x": alarm.tolist(), "y": [0.0] * len(alarm), "mode": "markers", "name": "verdict",
        "marker": {"color": "#d62728", "size": 4},
    })  # fmt: skip
    layout = _layout(file.name, "test row", "score")
    layout["yaxis"]["type"] = "linear"
    return {"data": data, "layout": layout}


def _layout(title: str, across: str, up: str) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(title), "font": {"size": 14}, "x": 0, "y": 0.98},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom"},
        "margin": {"l": 50, "r": 10, "t": 56, "b": 35},
        "xaxis": {"title": {"text": across}, "gridcolor": _GRID, "zerolinecolor": _GRID},
        "yaxis": {"title": {"text": up}, "gridcolor": _GRID, "zerolinecolor": _GRID},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "#7a8794"},
    }


def _thin(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[list[int], list[float]]:
    """Row numbers and values, the largest of each stretch where there are too many."""
    step = max(1, -(-len(values) // POINTS_MAX))
    rows, out = [], []
    for start in range(0, len(values), step):
        part = values[start : start + step]
        good = np.flatnonzero(~np.isnan(part))
        best = int(good[np.argmax(part[good])]) if len(good) else 0
        rows.append(start + best)
        out.append(float(part[best]))
    return rows, out


def _round(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    return [round(float(v), 5) for v in values]
