"""The gateway itself: whether what is shown elsewhere can be trusted."""

from boards.words import Dashboard, Panel, Query, Variable, grouped, single, trend

SCOPE = '"gateway" WHERE "gateway" =~ /^(${gateway:regex})$/ AND "source"'
OWN = f"{SCOPE} = '' AND $timeFilter"
EACH = f"{SCOPE} != '' AND $timeFilter"


def of_source(select: str) -> tuple[Query, ...]:
    """How a counter of each source went."""
    return trend(select, EACH, "gateway", "source")


def per_second(name: str) -> tuple[Query, ...]:
    """How fast a counter of each source grows."""
    return of_source(f'non_negative_derivative(last("{name}"), 1s)')


BOARD = Dashboard(
    "forewarn-gateway",
    "Gateway health",
    "Whether what is shown elsewhere can be trusted.",
    (
        Panel(
            "Links",
            "Whether each source is connected.",
            (grouped('last("up")', EACH, "gateway", "source"),),
            kind="stat",
            mappings=(("true", "up", "green"), ("false", "down", "red")),
            options=single("lastNotNull"),
        ),
        Panel("Samples", "Samples a second, by source.", per_second("samples"), unit="cps"),
        Panel(
            "Unusable samples",
            "Samples a second that were BAD, by source.",
            per_second("samples_bad"),
            unit="cps",
        ),
        Panel(
            "Errors of links",
            "Breaks of each link, counted since the start.",
            of_source('last("link_errors")'),
        ),
        Panel(
            "Behind",
            "Records that each reader of the log still has to deal with.",
            (grouped("last(/^lag_/)", OWN, "gateway", every="$__interval").without_alias(),),
        ),
        Panel(
            "Answer time",
            "Smoothed time from request to answer.",
            of_source('mean("latency_s")'),
            unit="s",
        ),
        Panel(
            "Lost",
            "Samples lost by peers, counted since the start.",
            of_source('last("samples_lost")'),
        ),
        Panel(
            "Dropped by the log",
            "Records dropped by policy, counted since the start.",
            (grouped("last(/_dropped$/)", OWN, "gateway", every="$__interval").without_alias(),),
        ),
        Panel(
            "Memory",
            "Highest memory in use since the start.",
            trend('last("rss_peak_mb")', OWN, "gateway"),
            unit="decmbytes",
        ),
        Panel(
            "Processor",
            "Share of one core.",
            trend('non_negative_derivative(last("cpu_s"), 1s)', OWN, "gateway"),
            unit="percentunit",
        ),
    ),
    (Variable("gateway", "Gateway", 'SHOW TAG VALUES FROM "gateway" WITH KEY = "gateway"'),),
    since="now-1h",
)
