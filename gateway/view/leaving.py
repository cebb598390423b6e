"""What has left the plant, and what would, to the byte."""

from gateway.cloud.config import CloudConfig
from gateway.cloud.summary import encode
from gateway.console.views import EgressView, Payload
from gateway.egress import NAME as EGRESS
from gateway.egress import current
from gateway.store.reader import LogReader
from gateway.store.record import Kind
from gateway.view.running import Running


def outgoing(gateway: Running, limit: int) -> list[Payload]:
    """What would leave next, then what has left; the log is read, so beside the loop."""
    cloud = gateway.config.settings.cloud
    reader = LogReader(gateway.log.path)
    try:
        if gateway.outlet.egress is not None:
            preview, note = gateway.outlet.egress.preview(), "next"
        else:
            preview, note = current(reader, gateway.parts.scope, gateway.clock), "would"
        now_ns = gateway.clock.wall_ns()
        out = [
            Payload(
                now_ns,
                "",
                sent=False,
                body=b"[" + b",".join(map(encode, preview)) + b"]",
                note=note,
            )
        ]
        if not preview:
            out.clear()
        if gateway.outlet.egress is not None:
            to = _target(cloud)
            done = gateway.log.cursor(EGRESS).position(Kind.SUMMARY)
            for record in reversed(reader.read(Kind.SUMMARY, max(0, done - limit), done)):
                body = b"[" + record.payload + b"]"
                out.append(Payload(record.t_max_ns, to, sent=True, body=body, note="was"))
        return out[:limit]
    finally:
        reader.close()


def balance(gateway: Running) -> EgressView | None:
    """What has left against what stayed home; None while nothing may leave."""
    egress = gateway.outlet.egress
    if egress is None:
        return None
    meter = egress.sync.meter
    return EgressView(
        to=_target(gateway.config.settings.cloud),
        summaries=meter.summaries,
        left_bytes=meter.payload_bytes,
        stayed_bytes=meter.stayed_bytes,
        stayed_per_byte=meter.stayed_per_byte,
        waiting=egress.outbox.lag(),
        fault=meter.state_text,
    )


def _target(cloud: CloudConfig) -> str:
    if cloud.mqtt is not None:
        return f"{cloud.mqtt.host}:{cloud.mqtt.port}"
    target = cloud.https or cloud.influx
    return target.url if target is not None else ""
