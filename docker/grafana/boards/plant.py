"""Every machine at a glance."""

from boards.words import (
    ASSET,
    IN_ASSET,
    LIMIT_LINE,
    RAISED,
    SHARE,
    Dashboard,
    Panel,
    Query,
    bars,
    grouped,
    trend,
)

VERDICTS = f'"assessment" {IN_ASSET}'

BOARD = Dashboard(
    "forewarn-plant",
    "Plant overview",
    "Which machine needs someone, and since when.",
    (
        Panel(
            "Severity now",
            "Score over limit of each asset: 1 is where an alarm is due.",
            (grouped('last("severity")', VERDICTS, "asset"),),
            kind="bargauge",
            thresholds=SHARE,
            options=bars("lastNotNull", "gradient"),
        ),
        Panel(
            "Alarms that were raised",
            "Activations of each asset in the time shown.",
            (grouped('count("severity")', f'"alarm" {IN_ASSET} AND {RAISED}', "asset"),),
            kind="bargauge",
            thresholds=((None, "green"), (1, "orange")),
            options=bars("sum"),
        ),
        Panel(
            "Severity",
            "Score over limit: how it came to be.",
            trend('max("severity")', VERDICTS, "asset"),
            width=24,
            thresholds=SHARE,
            custom=LIMIT_LINE,
        ),
        Panel(
            "Last events",
            "What happened to alarms, newest first, in the words of the operator's console.",
            (
                Query(
                    'SELECT "asset", "alarm", "priority", "state", "severity", "text" '
                    f'FROM "alarm" {IN_ASSET} ORDER BY time DESC LIMIT 50',
                    table=True,
                ),
            ),
            kind="table",
            width=24,
        ),
        Panel(
            "Coverage",
            "Share of usable samples in the windows judged; with too few the model abstains.",
            trend('mean("coverage")', VERDICTS, "asset"),
            unit="percentunit",
            width=24,
        ),
    ),
    (ASSET,),
    alarms=True,
)
