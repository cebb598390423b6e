"""What it costs to run, and to idle.

A meter counts up, and from 0 again when it was replaced: its steps upward are what was used.
"""

from boards.words import ASSET, IN_ASSET, Dashboard, Panel, Variable, grouped, single, trend

USED = (
    '(SELECT non_negative_difference("value") AS "step" FROM "signal" '
    f'{IN_ASSET} AND "unit" = \'kWh\' GROUP BY "asset", "signal") WHERE $timeFilter'
)
POWER = f'"signal" {IN_ASSET} AND "signal" = \'power\''


def hourly(select: str, source: str, fill: str = "none") -> str:
    """A part of a query: one row an hour and asset."""
    return f'(SELECT {select} FROM {source} GROUP BY time(1h), "asset" fill({fill}))'


def per_unit(unit: str, *, hours: str) -> str:
    """Power over throughput; `hours` turns the throughput's time into hours."""
    power = hourly('mean("value") AS "kw"', POWER)
    product = hourly(
        f'mean("value"){hours} AS "product"', f'"signal" {IN_ASSET} AND "unit" =~ /\\/{unit}$/'
    )
    return f"{power}, {product} WHERE $timeFilter"


IDLE = hourly('count("value") AS "idle"', f'{POWER} AND "value" < ${{idle_kw}}', fill="0")
EVERY = hourly('count("value") AS "every"', POWER)

BOARD = Dashboard(
    "forewarn-energy",
    "Energy",
    "Consumption by shift and by product, peaks, and what idling costs.",
    (
        Panel(
            "Energy per shift",
            "What the meters of each asset counted in shifts of eight hours.",
            (grouped('sum("step")', USED, "asset", every="8h, ${shift}", fill="none"),),
            unit="kwatth",
            custom={"drawStyle": "bars", "fillOpacity": 60},
        ),
        Panel(
            "Power",
            "Mean electrical power.",
            trend('mean("value")', POWER, "asset"),
            unit="kwatt",
        ),
        Panel(
            "Energy per unit of product",
            "By the hour: power over a signal of throughput, whose unit ends in /h or /min, like "
            "t/h or m³/min. It rises when a machine wears, leaks or runs half empty.",
            tuple(
                grouped(
                    'mean("kw") / mean("product")',
                    per_unit(unit, hours=hours),
                    "asset",
                    every="1h",
                    fill="none",
                )
                for unit, hours in (("h", ""), ("min", " * 60"))
            ),
            unit="kwatth",
        ),
        Panel(
            "Peak power",
            "Highest mean of a quarter of an hour: what the tariff looks at.",
            (
                grouped(
                    'max("quarter")',
                    f'(SELECT mean("value") AS "quarter" FROM {POWER} GROUP BY time(15m), "asset")',
                    "asset",
                ),
            ),
            unit="kwatt",
            kind="stat",
            options=single("max"),
        ),
        Panel(
            "Idle share",
            "By the hour, share of samples below the idle power: switch it off, or ask why it "
            "waits. A machine that is not shown never idled.",
            (
                grouped(
                    'mean("idle") / mean("every")',
                    f"{IDLE}, {EVERY} WHERE $timeFilter",
                    "asset",
                    every="1h",
                    fill="none",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Energy in the time shown",
            "What the meters of each asset counted.",
            (grouped('sum("step")', USED, "asset"),),
            unit="kwatth",
            kind="stat",
            options=single("sum"),
        ),
    ),
    (
        ASSET,
        Variable("idle_kw", "Idle below (kW)", text="2.0"),
        Variable("shift", "First shift begins (UTC)", text="5h"),
    ),
    since="now-24h",
)
