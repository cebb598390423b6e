"""How a running gateway speaks: JSON lines on stderr, or above the live table on a terminal."""

import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog


def write_json_lines() -> None:
    """One JSON object a line, on stderr; stdout stays free for what a command answers."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def write_to(show: Callable[[str], None]) -> None:
    """Readable lines, given to `show`."""

    def render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
        name = event.pop("event")
        level = event.pop("level")
        rest = "  ".join(f"{key}={value}" for key, value in event.items() if value != "")
        return f"{level[:4]:4} {name}  {rest}"

    class _Lines:
        def msg(self, message: str) -> None:
            show(message)

        debug = info = warning = error = critical = exception = msg

    structlog.configure(
        processors=[structlog.processors.add_log_level, render],
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=False,
    )
