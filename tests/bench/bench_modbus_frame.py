"""One reply of 125 registers: our framing, pymodbus's framer and PDU, its framer alone.

`python -m tests.bench.bench_modbus_frame` prints CPU µs per request and per reply, medians of five
rounds, as JSON. Decision 015 rests on it.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from protocols.modbus.address import Table
from protocols.modbus.frame import Ascii, Mbap, Rtu
from protocols.modbus.plan import Span, make_request
from tests.faults.modbus_device import Asked

ROUNDS, TIMES = 5, 3000
REGISTERS = 125


def cost_us(call: Callable[[], object]) -> float:
    """Median CPU µs of one call."""
    rounds = []
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(TIMES):
            call()
        rounds.append((time.process_time() - start_s) / TIMES * 1e6)
    return round(statistics.median(rounds), 2)


def main() -> None:
    """Print the costs."""
    request = make_request([Span(0, 1, Table.HOLDING, 0, REGISTERS)])
    asked = Asked(1, 3, 0, REGISTERS, 1)
    message = ReadHoldingRegistersRequest(address=0, count=REGISTERS, dev_id=1, transaction_id=1)
    found = {}
    for ours, theirs, frame in (
        (Mbap, FramerSocket, asked.tcp(asked.pdu())),
        (Rtu, FramerRTU, asked.rtu(asked.pdu())),
        (Ascii, FramerAscii, asked.ascii(asked.pdu())),
    ):
        framer = theirs(DecodePDU(is_server=False))

        def answered(kind: type[Mbap | Rtu | Ascii] = ours, frame: bytes = frame) -> None:
            framing = kind(Counter())
            framing.ask(1, request)
            ((_, outcome),) = framing.feed(frame)
            assert outcome.payload is not None

        asking = ours(Counter())
        ask_us = cost_us(lambda asking=asking: asking.ask(1, request))  # type: ignore[misc]
        found[ours.__name__.lower()] = {
            "request_ours": ask_us,
            "request_pymodbus": cost_us(lambda framer=framer: framer.buildFrame(message)),  # type: ignore[misc]
            "reply_ours": round(cost_us(answered) - ask_us, 2),
            "reply_pymodbus": cost_us(
                lambda framer=framer, frame=frame: framer.handleFrame(frame, 0, 0)  # type: ignore[misc]
            ),
            "reply_pymodbus_framer_alone": cost_us(
                lambda framer=framer, frame=frame: framer.decode(frame)  # type: ignore[misc]
            ),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
