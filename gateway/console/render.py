"""From views to HTML: one Jinja environment, its filters, and the fragments of live pages."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway.core.texts import Texts

SPARK_WIDTH, SPARK_HEIGHT = 120.0, 28.0
SPARK_TOP = 2.0
"""Severity at the top of a sparkline, at least; the limit is 1."""


class Pages:
    """Renders templates in one language. Everything is escaped: a name is never markup."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self._env = Environment(
            loader=PackageLoader("gateway.console", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._env.globals.update(t=texts, static=static_url)
        self._env.filters.update(
            num=number,
            pct=percent,
            ms=milliseconds,
            iso=iso,
            moment=moment,
            spark=sparkline,
            bar=bar,
            count=grouped,
            span=span,
            life=life,
            size=size,
            said=said,
            times=times,
            promise=promise,
        )
        self._env.tests["finite"] = math.isfinite

    def page(self, template: str, **values: Any) -> str:
        """A whole page."""
        return self._env.get_template(template).render(**values)

    def part(self, macro: str) -> Callable[..., str]:
        """A fragment, by the name of its macro in `_parts.html`."""
        module = self._env.get_template("_parts.html").module
        call: Callable[..., str] = getattr(module, macro)
        return call


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """Where a file of ours is served, with a mark that changes when it does."""
    data = (files("gateway.console") / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(data).hexdigest()[:12]}"


def number(value: float | None, digits: int = 3) -> str:
    """A number as people read it; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size_ = math.floor(math.log10(abs(value)))
    if size_ >= digits:
        text = f"{value:,.0f}".replace(",", "\u202f")
    elif size_ < -4:
        text = f"{value:.{digits - 1}e}"
    else:
        text = f"{value:.{max(0, digits - 1 - size_)}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def percent(share: float | None, digits: int = 0) -> str:
    """A share as per cent; a dash where there is none."""
    if share is None or math.isnan(share):
        return "–"
    return f"{100 * share:.{digits}f}\u202f%"


def grouped(value: int) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def milliseconds(t_ns: int) -> int:
    """UTC ns as the milliseconds that browsers count in."""
    return t_ns // 1_000_000


def iso(t_ns: int) -> str:
    """UTC ns as ISO 8601, for machines and where scripts are off."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t_ns // 10**9)) if t_ns else ""


def moment(t_ns: int) -> str:
    """UTC ns as ISO 8601 to the microsecond, which names one event."""
    return f"{iso(t_ns)[:-1]}.{t_ns // 1000 % 10**6:06}Z"


def span(seconds: float) -> str:
    """A length of time in its handiest unit."""
    if math.isnan(seconds):
        return "–"
    for unit, size_ in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_:
            return f"{seconds / size_:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 2 else f"{seconds * 1000:.0f} ms"


def life(hours: float) -> str:
    """Remaining life in its handiest unit, as fine as such a guess can be."""
    if math.isnan(hours):
        return "–"
    if hours < 2:
        return f"{max(60 * hours, 0):.0f} min"
    return f"{number(hours, 2)} h" if hours < 48 else f"{number(hours / 24, 2)} d"


def size(n: float) -> str:
    """Bytes in their handiest unit."""
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{number(n)} {unit}"
        n /= 1000
    return f"{number(n)} GB"


def said(text: str, asset: str) -> str:
    """What is said of a machine, without its name, which stands above it already."""
    rest = text.removeprefix(f"{asset} ") if asset else text
    return text if rest is text or not rest else rest[0].upper() + rest[1:]


def times(severity: float) -> str:
    """How many times its limit: two decimals below one, fewer above, so that digits stand still."""
    if math.isnan(severity):
        return "–"
    if severity >= 1000:
        return "\u226b\u202f1"
    return f"{severity:.{2 if severity < 1 else 1 if severity < 10 else 0}f}"


def promise(words: str, texts: Texts) -> str:
    """`1/30d` in words; what is written otherwise stays as it is."""
    found = re.fullmatch(r"(\d+)/(\d+)([dh])", words)
    if found is None:
        return words
    n, span_, unit = found.groups()
    return texts(f"models.promise_{unit}", n=n, span=span_)


def bar(value: float, top: float = 2.0) -> float:
    """How far a bar goes, 0 to 100, for a value of which `top` fills it."""
    return 0.0 if math.isnan(value) else round(100 * min(max(value / top, 0.0), 1.0), 1)


def sparkline(trend: Sequence[float]) -> Markup:
    """The SVG path of a severity trend: x by position, y by severity; NaN breaks the line."""
    if not trend:
        return Markup("")
    finite = [v for v in trend if math.isfinite(v)]
    top = max(SPARK_TOP, *finite) if finite else SPARK_TOP
    step = SPARK_WIDTH / max(len(trend) - 1, 1)
    parts = []
    pen = "M"
    for i, value in enumerate(trend):
        if not math.isfinite(value):
            pen = "M"
            continue
        y = SPARK_HEIGHT * (1 - min(value, top) / top)
        parts.append(f"{pen}{i * step:.1f} {y:.1f}")
        pen = "L"
    limit_y = SPARK_HEIGHT * (1 - 1 / top)
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="spark" viewBox="0 -1 {SPARK_WIDTH:.0f} {SPARK_HEIGHT + 2:.0f}" '
        'preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="spark-limit" d="M0 {limit_y:.1f}H{SPARK_WIDTH:.0f}"/>'
        f'<path class="spark-line" d="{"".join(parts)}"/></svg>'
    )
