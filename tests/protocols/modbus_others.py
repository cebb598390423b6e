"""Modbus devices by other hands, each filled with the tables that it is given."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from modbus_tk import defines, modbus_rtu, modbus_tcp
from pyModbusTCP.server import ModbusServer

from tests.authority import Authority
from tests.eventually import eventually
from tests.peers.node import node_peer
from tests.protocols.modbus_peers import listens, pty_pair
from tests.servers import free_port, require

Tables = dict[str, list[int]]


def fill(slave: Any, tables: Tables) -> None:
    """Give a modbus-tk device its tables."""
    kinds = {
        "holding": defines.HOLDING_REGISTERS,
        "input": defines.ANALOG_INPUTS,
        "coil": defines.COILS,
        "discrete": defines.DISCRETE_INPUTS,
    }
    for name, kind in kinds.items():
        slave.add_block(name, kind, 0, len(tables[name]))
        slave.set_values(name, 0, tables[name])


@asynccontextmanager
async def modbus_tk(tables: Tables) -> AsyncIterator[str]:
    port = free_port()
    server = modbus_tcp.TcpServer(port=port, address="127.0.0.1")
    fill(server.add_slave(1), tables)
    server.start()
    try:
        await eventually(lambda: listens(port))
        yield f"tcp://127.0.0.1:{port}"
    finally:
        server.stop()


@asynccontextmanager
async def modbus_tk_rtu(tables: Tables) -> AsyncIterator[str]:
    import serial

    async with pty_pair() as (ours, theirs):
        server = modbus_rtu.RtuServer(serial.Serial(theirs, 19200))
        fill(server.add_slave(1), tables)
        server.start()
        try:
            yield f"rtu://{ours}"
        finally:
            await asyncio.to_thread(server.stop)


@asynccontextmanager
async def py_modbus_tcp(tables: Tables) -> AsyncIterator[str]:
    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True)
    server.start()
    try:
        await eventually(lambda: listens(port))
        bank = server.data_bank
        bank.set_holding_registers(0, tables["holding"])
        bank.set_input_registers(0, tables["input"])
        bank.set_coils(0, [bool(bit) for bit in tables["coil"]])
        bank.set_discrete_inputs(0, [bool(bit) for bit in tables["discrete"]])
        yield f"tcp://127.0.0.1:{port}"
    finally:
        server.stop()


@asynccontextmanager
async def _over_tcp(server: str, tables: Tables) -> AsyncIterator[str]:
    port = free_port()
    async with node_peer("modbus_server.js", server, str(port), json.dumps(tables)):
        yield f"tcp://127.0.0.1:{port}"


def jsmodbus(tables: Tables) -> AbstractAsyncContextManager[str]:
    return _over_tcp("jsmodbus", tables)


def modbus_serial(tables: Tables) -> AbstractAsyncContextManager[str]:
    return _over_tcp("modbus-serial", tables)


@asynccontextmanager
async def _on_a_line(server: str, framing: str, tables: Tables) -> AsyncIterator[str]:
    async with (
        pty_pair() as (ours, theirs),
        node_peer("modbus_server.js", server, theirs, json.dumps(tables)),
    ):
        yield f"{framing}://{ours}"


def modbus_serial_rtu(tables: Tables) -> AbstractAsyncContextManager[str]:
    return _on_a_line("modbus-serial-rtu", "rtu", tables)


def modbus_stream_ascii(tables: Tables) -> AbstractAsyncContextManager[str]:
    return _on_a_line("modbus-stream-ascii", "ascii", tables)


@asynccontextmanager
async def modbus_stream_udp(tables: Tables) -> AsyncIterator[str]:
    async with node_peer("modbus_server.js", "modbus-stream-udp", "0", json.dumps(tables)) as peer:
        yield f"udp://127.0.0.1:{peer.said['where']}"


@asynccontextmanager
async def stunnel(authority: Authority, url: str, folder: Path) -> AsyncIterator[str]:
    """Debian's stunnel before a plain server; whoever comes must show a certificate.

    So a plant gives TLS to a PLC that has none.
    """
    certificate, key = authority.issue("stunnel")
    port = free_port()
    conf = folder / "stunnel.conf"
    conf.write_text(
        f"foreground = yes\npid =\nsocket = l:TCP_NODELAY=1\n[modbus]\n"
        f"accept = 127.0.0.1:{port}\nconnect = {url.removeprefix('tcp://')}\n"
        f"cert = {certificate}\nkey = {key}\nCAfile = {authority.path}\n"
        "verifyChain = yes\nrequireCert = yes\n"
    )
    with (folder / "stunnel.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            require("stunnel"), str(conf), stdout=log, stderr=log
        )
    try:
        await eventually(lambda: listens(port))
        yield f"tls://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()
