"""Measures on verdicts whose measures are known by hand, and a page that stands alone."""

import doctest
import json
import re

import numpy as np
import pytest

from models import evaluate, fixed, report
from models.evaluate import Judged, at_rate, measure, precision_recall, roc, trivial
from models.training import (
    baselines,
    company,
    explained,
    grid,
    independent,
    limits,
    parity,
    screen,
)
from models.training.invented import auroc
from tests.models.plants import healthy


def file(name: str, label: str, flag: str, score: list[float]) -> Judged:
    return Judged(
        name,
        np.array([c == "1" for c in label]),
        {"int8": np.array(score)},
        {"int8": np.array([c == "1" for c in flag])},
        {"int8": 1.0},
        row_s=43200.0,
        drivers=("<b>flow</b>",),
    )


FILES = [
    file("a", "0011100", "0101110", [0, 2, 0.5, 3, 3, 2, np.nan]),
    file("b", "0000000", "0000000", [0.1] * 7),
]


@pytest.mark.parametrize(
    "module", [evaluate, parity, limits, company, independent, explained, screen, grid, fixed]
)
def test_the_examples_hold(module: object) -> None:
    assert not doctest.testmod(module, extraglobs={"np": np}).failed  # type: ignore[arg-type]


def test_measures_are_those_counted_by_hand() -> None:
    told = measure(FILES, "int8")
    assert told["f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert told["false_alarm_rate"] == pytest.approx(2 / 11)
    assert told["missed_alarm_rate"] == pytest.approx(1 / 3)
    assert told["auroc_mean"] == pytest.approx((4 + 4 + 2) / 12)
    assert (told["events"], told["events_hit"], told["delay_rows_median"]) == (1, 1, 1.0)
    assert told["false_alarms"] == 1
    assert told["false_alarms_per_day"] == pytest.approx(1 / 5.5)
    assert told["abstained"] == pytest.approx(1 / 14)


def test_the_rules_that_look_at_nothing_are_always_told() -> None:
    told = trivial(FILES)
    assert told["everything anomalous"]["f1"] == pytest.approx(2 * 3 / (2 * 3 + 11))
    assert told["anomalous from test row 150 on"]["f1"] == 0


def test_a_limit_by_rate_is_never_above_that_rate() -> None:
    rng = np.random.default_rng(0)
    many = file("c", "0" * 500 + "1" * 500, "0" * 1000, [])
    many.score["int8"] = rng.normal(size=1000) + np.repeat([0, 3], 500)
    found = at_rate([many], "int8", 0.01)
    assert found is not None
    limit = np.quantile(many.score["int8"], 1 - found / 2)
    assert (many.score["int8"][:500] > limit).mean() <= 0.012
    assert 0.6 < found < 0.85


def test_curves_end_where_they_must() -> None:
    rng = np.random.default_rng(0)
    label = rng.random(3000) < 0.3
    score = rng.normal(size=3000) + label
    x, y = roc(score, label)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(auroc(score, label), abs=0.01)
    recall, precision = precision_recall(score, label)
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(label.mean())


def test_the_page_stands_alone_and_escapes_names() -> None:
    rows = [{"file": f.name, "drivers": ", ".join(f.drivers)} for f in FILES]
    told = {
        "protocol": "one <model>",
        "notes": ["a & b"],
        "measures": {"int8": measure(FILES, "int8")},
        "trivial": trivial(FILES),
        "files": rows,
    }
    page = report.page(told, FILES, ["int8"])
    assert "one &lt;model&gt;" in page
    assert "<b>flow</b>" not in page
    script, rest = page.split("</script>", 1)
    assert len(script) > 1_000_000
    assert not re.search(r"(src|href)\s*=", rest)
    figures = re.search(r"const figures=(.*?);figures\.forEach", rest, re.DOTALL)
    assert figures is not None
    drawn = json.loads(figures[1])
    assert [d["layout"]["title"]["text"] for d in drawn[2:]] == ["a", "b"]
    assert drawn[2]["data"][1]["y"][-1] is None


def test_baselines_see_a_fault_that_is_plain() -> None:
    x = healthy(1500).values
    bad = x.copy()
    bad[1000:, 3] += 5
    for score, limit in (baselines.pca(x), baselines.autoencoder(x)):
        assert (score(x) > limit).mean() < 0.05
        assert (score(bad)[1000:] > limit).mean() > 0.9
