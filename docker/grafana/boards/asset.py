"""One machine in depth."""

from boards.words import IN_ASSET, ONE_ASSET, Dashboard, Panel, Variable, trend

VERDICTS = f'"assessment" {IN_ASSET}'
SAMPLES = f'"signal" {IN_ASSET}'
BARS = {"drawStyle": "bars"}

BOARD = Dashboard(
    "forewarn-asset",
    "Asset",
    "Why a machine is judged as it is.",
    (
        Panel(
            "Score against limit",
            "The model's score and the limit that it may not pass.",
            trend('max("score")', VERDICTS, "asset", alias="score")
            + trend('min("limit")', VERDICTS, "asset", alias="limit"),
        ),
        Panel(
            "What drives the score",
            "Share of each signal in the score: look at the largest first.",
            trend('mean("share")', f'"contribution" {IN_ASSET}', "asset", "signal"),
            unit="percentunit",
            custom={"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40},
        ),
        Panel(
            "$signal",
            "What was measured, in its own unit and on its own scale.",
            trend(
                'mean("value")',
                f'{SAMPLES} AND "signal" =~ /^(${{signal:regex}})$/',
                "asset",
                "signal",
                "unit",
            ),
            width=8,
            height=7,
            repeat="signal",
        ),
        Panel(
            "Probability of failure",
            "By failure mode, within the horizon that the model was trained for.",
            trend('max("probability")', f'"failure" {IN_ASSET}', "asset", "mode"),
            unit="percentunit",
            thresholds=((None, "green"), (0.5, "yellow"), (0.8, "red")),
        ),
        Panel(
            "Remaining life",
            "Estimate with its interval.",
            tuple(
                query
                for name in ("low", "hours", "high")
                for query in trend(f'min("{name}")', f'"rul" {IN_ASSET}', "asset", alias=name)
            ),
            unit="h",
        ),
        Panel(
            "Unusable samples",
            "Samples of quality BAD: a sensor or a link to look at.",
            trend('count("quality")', f'{SAMPLES} AND "quality" >= 2', "asset", "signal", fill="0"),
            custom=BARS,
        ),
        Panel(
            "Verdicts withheld",
            "Windows in which the model abstained.",
            trend('count("coverage")', f'{VERDICTS} AND "abstained" = true', "asset", fill="0"),
            custom=BARS,
        ),
    ),
    (
        ONE_ASSET,
        Variable(
            "signal",
            "Signal",
            'SHOW TAG VALUES FROM "signal" WITH KEY = "signal" WHERE "asset" =~ '
            "/^(${asset:regex})$/",
        ),
    ),
    alarms=True,
    since="now-1h",
)
