"""The words of a message: Jinja2 templates, plain words first."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.alarms.notify_config import ChannelConfig
from gateway.alarms.outbox import Message
from gateway.core.alarm import Transition

TEXT_MAX = 20_000

TITLE = """
{%- if kind == "test" %}Test message from {{ gateway }}
{%- elif kind == "flood" %}Flood{% if area %} on {{ area }}{% endif %}: {{ alarms|length }} alarms
{%- elif kind == "digest" %}{{ alarms|length }} alarm messages
{%- else %}
{%- if kind == "clear" %}Over: {% elif kind == "escalation" %}Not acknowledged: {% endif %}
{{- alarm.asset or gateway }}: {{ alarm.said }}
{%- if alarms|length > 1 %} (and {{ alarms|length - 1 }} more){% endif %}
{%- endif %}"""

BODY = """
{%- if kind == "test" -%}
If you can read this, messages arrive.
{%- elif kind in ("flood", "digest") -%}
{% for a in alarms[:30] %}
- {{ a.asset or gateway }}: {{ "over: " if a.over }}{{ a.text or a.alarm }} ({{ a.time }})
{% endfor %}
{% if alarms|length > 30 %}and {{ alarms|length - 30 }} more
{% endif %}
{%- else -%}
{% if kind == "clear" %}It is over since {{ alarm.time }}.
{% else %}
{% for a in alarms[1:30] %}
- {{ a.said }}
{% endfor %}
{% for driver in alarm.drivers %}
- {{ driver }}
{% endfor %}
Priority {{ alarm.priority }}, {{ "%.1f"|format(alarm.severity) }} times its limit.
Since {{ alarm.since }}.
{% endif %}
{%- endif %}
{%- if dropped %}{{ dropped }} earlier messages were dropped.
{% endif %}
{%- if link %}{{ link }}
{% endif %}"""

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
)


def words(config: ChannelConfig, message: Message, gateway: str, link: str) -> tuple[str, str]:
    """(title, body) of a message. A template of the owner's that fails gives way to the default."""
    zone = ZoneInfo(config.timezone)
    alarms = [_words_of(i.transition, zone) for i in message.items]
    values: dict[str, Any] = {
        "kind": message.tells.value,
        "area": message.area,
        "alarms": alarms,
        "alarm": alarms[0] if alarms else {},
        "gateway": gateway,
        "link": link,
        "dropped": message.dropped,
    }
    return (
        " ".join(_render(config.title, TITLE, values).split())[:250],
        _render(config.body, BODY, values).strip()[:TEXT_MAX],
    )


def _render(own: str, default: str, values: dict[str, Any]) -> str:
    for source in (own, default) if own else (default,):
        try:
            return _ENVIRONMENT.from_string(source).render(values)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
            if source is default:
                raise
    raise AssertionError("the default renders or raises")


def _words_of(t: Transition, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "asset": t.asset,
        "alarm": t.alarm,
        "cause": t.cause.value,
        "state": t.state,
        "event": t.event,
        "occurrence": t.occurrence,
        "over": t.event.startswith("gone"),
        "time": _time(t.t_ns, zone),
        "since": _time(t.active_since_ns or t.t_ns, zone),
        "severity": t.severity,
        "priority": t.priority.name.lower(),
        "text": t.text,
        "said": t.text.removeprefix(f"{t.asset} ") or t.alarm,
        "drivers": [d.text or d.signal for d in t.drivers],
        "who": t.who,
        "note": t.note,
    }


def _time(t_ns: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(t_ns / 1e9, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def as_json(message: Message, gateway: str, link: str) -> dict[str, Any]:
    """The message for programs: the webhook's body."""
    zone = ZoneInfo("UTC")
    alarms: Sequence[dict[str, Any]] = [
        _words_of(i.transition, zone) | {"number": i.number, "t_ns": i.transition.t_ns}
        for i in message.items
    ]
    return {
        "id": message.id,
        "kind": message.tells.value,
        "gateway": gateway,
        "area": message.area,
        "alarms": alarms,
        "dropped": message.dropped,
        "link": link,
    }
