"""Signals computed from others: `power_w = torque * rpm * 0.1047`, `runs = speed > 50`.

Arithmetic and comparisons, and nothing else. A comparison is 1 where it holds and 0 where not; what
rests on a missing value is missing.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError

Floats = NDArray[np.float64]

_OPERATORS: dict[type[ast.operator], Callable[[Floats, Floats], Floats]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "min": np.minimum,
    "max": np.maximum,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
NODES_MAX = 200


@dataclass(frozen=True, slots=True)
class Formula:
    """One derived signal.

    Attributes:
        text: As it was given; it goes into the bundle.
        name: Left of the `=`.
        expression: Right of it.
    """

    text: str
    name: str
    expression: str

    @classmethod
    def parse(cls, text: str) -> "Formula":
        """Read `name = expression`; a column whose name is no word stands in `backquotes`.

        Raises:
            RecordError: Not of that form, or more than arithmetic.
        """
        name, equals, expression = text.partition("=")
        if not equals or not name.strip() or not expression.strip():
            raise RecordError(f"derive: must be `name = expression`, was {text!r}")
        made = cls(text, name.strip(), expression.strip())
        made._tree()
        return made

    def needs(self, columns: Sequence[str]) -> dict[str, str]:
        """Which column each name of the expression means.

        Raises:
            RecordError: A name that means no column, or several.
        """
        _, quoted = self._quoted()
        out: dict[str, str] = {}
        for node in ast.walk(self._tree()):
            if not isinstance(node, ast.Name) or node.id in _FUNCTIONS:
                continue
            wanted = quoted.get(node.id, node.id)
            found = [c for c in columns if c == wanted] or [
                c for c in columns if _slug(wanted) in {_slug(c), _slug(re.split(r"[\[(]", c)[0])}
            ]
            if len(found) != 1:
                raise RecordError(
                    f"derive: {wanted!r} must mean one column, means {found or 'none'} of "
                    f"{', '.join(columns)}"
                )
            out[node.id] = found[0]
        return out

    def compute(self, values: Mapping[str, Floats], n: int) -> Floats:
        """float64[n]; NaN where it has no value."""
        with np.errstate(all="ignore"):
            made = np.broadcast_to(self._value(self._tree(), values), n).astype(np.float64)
        return np.where(np.isfinite(made), made, np.nan)

    def _quoted(self) -> tuple[str, dict[str, str]]:
        names: dict[str, str] = {}

        def stand_in(found: re.Match[str]) -> str:
            key = f"quoted_{len(names)}_"
            names[key] = found[1]
            return key

        return re.sub(r"`([^`]+)`", stand_in, self.expression), names

    def _tree(self) -> ast.expr:
        try:
            tree = ast.parse(self._quoted()[0], mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RecordError(f"derive: cannot be read: {self.text!r}") from error
        nodes = list(ast.walk(tree))
        if len(nodes) > NODES_MAX:
            raise RecordError(f"derive: must have at most {NODES_MAX} parts, had {len(nodes)}")
        for node in nodes:
            fine = isinstance(
                node,
                ast.BinOp
                | ast.UnaryOp
                | ast.operator
                | ast.unaryop
                | ast.Name
                | ast.Load
                | ast.Constant
                | ast.Call
                | ast.Compare
                | ast.BoolOp
                | ast.boolop
                | ast.cmpop,
            )
            if isinstance(node, ast.Constant):
                fine = isinstance(node.value, int | float) and not isinstance(node.value, bool)
            if isinstance(node, ast.BinOp):
                fine = type(node.op) in _OPERATORS
            if isinstance(node, ast.Compare):
                fine = all(type(operator) in _COMPARISONS for operator in node.ops)
            if isinstance(node, ast.Call):
                fine = (
                    isinstance(node.func, ast.Name)
                    and node.func.id in _FUNCTIONS
                    and not node.keywords
                    and len(node.args) == (2 if node.func.id in {"min", "max"} else 1)
                )
            if not fine:
                raise RecordError(
                    "derive: may hold + - * / **, < > <= >= == !=, and or not, numbers, columns"
                    f" and {', '.join(_FUNCTIONS)};"
                    f" was {self.text!r}"
                )
        return tree

    def _value(self, node: ast.expr, values: Mapping[str, Floats]) -> Floats:
        match node:
            case ast.Constant(value=int() | float() as number):
                return np.asarray(float(number))
            case ast.Name(id=name):
                return np.asarray(values[name])
            case ast.BinOp(left=left, op=operator, right=right):
                made = _OPERATORS[type(operator)](
                    self._value(left, values), self._value(right, values)
                )
                return np.asarray(made)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return np.negative(self._value(operand, values))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._value(operand, values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return 1.0 - _truth(self._value(operand, values))
            case ast.BoolOp(op=operator, values=parts):
                join = np.minimum if isinstance(operator, ast.And) else np.maximum
                made = _truth(self._value(parts[0], values))
                for part in parts[1:]:
                    made = join(made, _truth(self._value(part, values)))
                return np.asarray(made)
            case ast.Compare(left=left, ops=operators, comparators=rights):
                sides = [self._value(side, values) for side in (left, *rights)]
                made = np.asarray(1.0)
                for compare, a, b in zip(operators, sides, sides[1:], strict=False):
                    holds = _COMPARISONS[type(compare)](a, b)
                    made = np.minimum(made, np.where(np.isnan(a + b), np.nan, holds))
                return np.asarray(made)
            case ast.Call(func=ast.Name(id=name), args=args):
                return np.asarray(_FUNCTIONS[name](*(self._value(a, values) for a in args)))
        raise RecordError(f"derive: cannot be computed: {self.text!r}")


def _truth(value: Floats) -> Floats:
    """1 where above 0, else 0; NaN where missing."""
    return np.where(np.isnan(value), np.nan, value > 0)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
