"""Comparisons in formulas: 1 or 0, and missing where anything that they need is missing."""

import numpy as np
import pytest

from models.errors import RecordError
from models.formula import Formula

A = np.array([0.0, 50.0, 51.0, np.nan])
B = np.array([1.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("a > 50", [0, 0, 1, np.nan]),
        ("a >= 50", [0, 1, 1, np.nan]),
        ("0 < a <= 50", [0, 1, 0, np.nan]),
        ("a > 10 and b", [0, 0, 1, np.nan]),
        ("a > 50 or b == 0", [0, 1, 1, np.nan]),
        ("not b", [0, 1, 0, 0]),
        ("b * 2 != 2", [0, 1, 0, 0]),
        ("a", [0, 50, 51, np.nan]),
    ],
)
def test_a_rule_over_signals(rule: str, expected: list[float]) -> None:
    formula = Formula.parse(f"runs = {rule}")
    needs = formula.needs(("a", "b"))
    made = formula.compute({word: {"a": A, "b": B}[name] for word, name in needs.items()}, 4)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("text", ["a is b", "a in b", "a > 'x'", "x := 3", "a > b.c"])
def test_nothing_else_is_let_in_with_them(text: str) -> None:
    with pytest.raises(RecordError):
        Formula.parse(f"runs = {text}")
