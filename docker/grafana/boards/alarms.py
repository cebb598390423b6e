"""How good the alarms are, by ISA-18.2 and EEMUA 191."""

from boards.words import (
    ASSET,
    IN_ASSET,
    LIMIT_LINE,
    RAISED,
    Dashboard,
    Panel,
    Query,
    bars,
    grouped,
    single,
)

OF = f'"alarm" {IN_ASSET}'
ACTIVATIONS = f"{OF} AND {RAISED}"
COUNTED = {"drawStyle": "bars", **LIMIT_LINE}


def per(span: str) -> tuple[Query, ...]:
    """Activations in spans of time."""
    return (grouped('count("severity")', ACTIVATIONS, every=span, fill="0", alias="alarms"),)


BOARD = Dashboard(
    "forewarn-alarms",
    "Alarm KPIs",
    "Whether operators can act on what they are told: 6 an hour at most, no floods.",
    (
        Panel(
            "Alarms per hour",
            "The target is six for one operator.",
            per("1h"),
            thresholds=((None, "green"), (6, "yellow"), (12, "red")),
            custom=COUNTED,
        ),
        Panel(
            "Alarms per 10 minutes",
            "More than ten are a flood: nobody can follow it.",
            per("10m"),
            thresholds=((None, "green"), (10, "red")),
            custom=COUNTED,
        ),
        Panel(
            "Most frequent",
            "Which condition speaks most: ten of them usually make most of the load.",
            (grouped('count("severity")', ACTIVATIONS, "asset", "alarm"),),
            kind="bargauge",
            options=bars("sum"),
        ),
        Panel(
            "By priority",
            "ISA-18.2 aims at 80 % low, 15 % medium, 5 % high.",
            (grouped('count("severity")', ACTIVATIONS, "priority"),),
            kind="piechart",
            options={
                **single("sum"),
                "legend": {
                    "displayMode": "table",
                    "placement": "right",
                    "values": ["value", "percent"],
                },
            },
        ),
        Panel(
            "Where each stands",
            "The last known state of each alarm.",
            (
                Query(
                    f'SELECT last("state") AS "state", "text" FROM {OF} '
                    'GROUP BY "asset", "alarm", "priority"',
                    table=True,
                ),
            ),
            kind="table",
            width=24,
        ),
    ),
    (ASSET,),
    since="now-7d",
)
