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
from gateway.core.texts import Texts

TEXT_MAX = 20_000

TITLE = """
{%- if kind == "test" %}{{ t("notify.test", gateway=gateway) }}
{%- elif kind == "flood" %}{{ t("alarms.flood_in" if area else "alarms.flood", area=area, n=n) }}
{%- elif kind == "digest" %}{{ t("notify.digest", n=n) }}
{%- else %}
{%- set said = (alarm.asset or gateway) ~ ": " ~ alarm.said %}
{{- t("notify." ~ kind, said=said) if kind in ("clear", "escalation") else said }}
{%- if n > 1 %} ({{ t("notify.more", n=n - 1) }}){% endif %}
{%- endif %}"""

BODY = """
{%- if kind == "test" -%}
{{ t("notify.arrives") }}
{%- elif kind in ("flood", "digest") -%}
{% for a in alarms[:30] %}
{% set said = a.text or a.alarm %}
- {{ a.asset or gateway }}: {{ t("notify.clear", said=said) if a.over else said }} ({{ a.time }})
{% endfor %}
{% if n > 30 %}{{ t("notify.more", n=n - 30) }}
{% endif %}
{%- else -%}
{% if kind == "clear" %}{{ t("notify.over", time=alarm.time) }}
{% else %}
{% for a in alarms[1:30] %}
- {{ a.said }}
{% endfor %}
{% for driver in alarm.drivers %}
- {{ driver }}
{% endfor %}
{{ t("notify.limit", severity=alarm.severity, priority=priority) }}
{{ t("notify.since", time=alarm.since) }}
{% endif %}
{%- endif %}
{%- if dropped %}{{ t("notify.dropped", n=dropped) }}
{% endif %}
{%- if link %}{{ link }}
{% endif %}"""

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
)


def words(
    config: ChannelConfig, message: Message, gateway: str, link: str, texts: Texts
) -> tuple[str, str]:
    """(title, body) of a message. A template of the owner's that fails gives way to the default."""
    zone = ZoneInfo(config.timezone)
    alarms = [_words_of(i.transition, zone) for i in message.items]
    first = message.items[0].transition if message.items else None
    values: dict[str, Any] = {
        "kind": message.tells.value,
        "area": message.area,
        "alarms": alarms,
        "n": len(alarms),
        "priority": texts(f"priority.{first.priority:d}") if first is not None else "",
        "t": texts,
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
