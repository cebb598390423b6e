"""Turns what the wire delivers into batches. The bytes are understood elsewhere."""

import asyncio

from gateway.core.batch import Batch, Waveform
from gateway.core.errors import LinkTimeout
from gateway.core.source import Source, SourceContext
from protocols.gather import Gathering
from protocols.serial.config import Config
from protocols.serial.text import Splitter, TextReader
from protocols.serial.wire import Wire

UNREADABLE_MIN = 20
"""So many unreadable records in a row are a state worth a log line; one is only noise."""


class SerialSession:
    """Reads records off one open port."""

    def __init__(self, config: Config, context: SourceContext, wire: Wire) -> None:
        self._context = context
        self._wire = wire
        self._gathering = Gathering()
        self._unreadable = 0
        self._last_ns = 0
        self._set(config)

    def _set(self, config: Config) -> None:
        assert config.text is not None
        self._config = config
        self._indices = [self._context.signals.intern(signal.key()) for signal in config.signals]
        errors = self._context.meter.errors
        self._splitter = Splitter(
            config.text.delimiter.encode(config.text.encoding),
            record_bytes_max=config.text.record_bytes_max,
            errors=errors,
        )
        self._reader = TextReader(config.text, config.signals, errors)
        bits = 1 + config.data_bits + (config.parity != "none") + config.stop_bits
        self._byte_ns = bits * 1e9 / config.baud_rate

    async def read(self) -> Batch | Waveform:
        """See `Session.read`."""
        while True:
            data, received_ns = await self._receive()
            floor_ns = self._last_ns if self._last_ns <= received_ns else 0
            for record in self._splitter.feed(data):
                values = self._reader.read(record.data)
                self._watch(record.data, readable=values is not None)
                if not values:
                    continue
                # What followed a record on the line took its time: so much older is the record.
                t_ns = max(received_ns - round(record.bytes_after * self._byte_ns), floor_ns + 1)
                floor_ns = self._last_ns = t_ns
                for i, value in values:
                    self._gathering.add(self._indices[i], t_ns, value)
            if self._gathering:
                return self._gathering.batch(self._config.id, received_ns)

    async def apply(self, source: Source) -> bool:
        """See `Session.apply`. Everything but the port's own settings can change in flight."""
        if not isinstance(source, Config) or source.link() != self._config.link():
            return False
        self._set(source)
        return True

    async def _receive(self) -> tuple[bytes, int]:
        if self._config.silence_timeout_s == 0:
            return await self._wire.receive()
        try:
            async with asyncio.timeout(self._config.silence_timeout_s):
                return await self._wire.receive()
        except TimeoutError:
            raise LinkTimeout(
                f"port {self._config.port} was silent for {self._config.silence_timeout_s:g} s; "
                "see that the device is on and its cable sits"
            ) from None

    def _watch(self, data: bytes, *, readable: bool) -> None:
        if readable:
            if self._unreadable >= UNREADABLE_MIN:
                self._context.log.info("serial.readable", after_records=self._unreadable)
            self._unreadable = 0
            return
        self._unreadable += 1
        if self._unreadable == UNREADABLE_MIN:
            self._context.log.warning("serial.unreadable", record=repr(data[:80]))
