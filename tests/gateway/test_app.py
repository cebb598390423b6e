"""The composition root with more machines than any of its parts' lists were thought for."""

import asyncio
from pathlib import Path

from gateway.app import Gateway
from gateway.config import parse


def test_one_source_may_feed_thousands_of_machines(tmp_path: Path) -> None:
    rows = "\n".join(
        f'{{ asset = "m{i}", signal = "speed", address = "holding:{i}" }},' for i in range(3000)
    )
    text = (
        '[[source]]\nkind = "modbus"\nid = "hall"\nurl = "tcp://192.0.2.1:502"\n'
        f"signals = [\n{rows}\n]\n"
    )

    async def main() -> None:
        gateway = Gateway(parse(text, tmp_path / "forewarn.toml"))
        try:
            views = gateway.view.assets()
            assert [view.id for view in views] == [f"m{i}" for i in range(3000)]
            assert len(gateway.log.signals) == 3000
        finally:
            gateway.trends.close()
            gateway.log.close()

    asyncio.run(main())
