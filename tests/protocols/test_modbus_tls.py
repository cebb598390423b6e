"""Modbus Security: both ends show a certificate, and neither is taken on trust."""

import asyncio
import gc
import socket
import threading
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from pymodbus.server import ModbusTlsServer

from gateway.cli import scan
from gateway.core.errors import ConfigError, LinkError, LinkRefused
from protocols.modbus import Config, identity
from tests.authority import Authority
from tests.protocols.modbus_others import jsmodbus, stunnel
from tests.protocols.modbus_peers import make_config, read_once, registers


@asynccontextmanager
async def tls_server(authority: Authority) -> AsyncIterator[int]:
    """A pymodbus server that asks for a certificate of the authority."""
    server = ModbusTlsServer(
        registers({0: [7, 8, 9]}), sslctx=authority.server("plc"), address=("127.0.0.1", 0)
    )
    await server.serve_forever(background=True)
    try:
        yield cast("asyncio.Server", server.transport).sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        config = make_config(
            f"tls://127.0.0.1:{port}", signals,
            tls_ca=authority.path, tls_cert=certificate, tls_key=key,
        )  # fmt: skip
        assert (await read_once(config, tmp_path)).value.tolist() == [8]


async def test_tls_of_stunnel_before_a_plain_plc(tmp_path: Path) -> None:
    """In by a certificate that it takes; out, with what to mend, by another, or by none."""
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    certificate, key = authority.issue("gateway")
    stranger, its_key = other.issue("stranger")
    tables = {"holding": [7, 8, 9], "input": [5], "coil": [1], "discrete": [0]}
    signals = [{"address": "holding:2"}, {"address": "input:0"}, {"address": "coil:0"}]
    async with jsmodbus(tables) as plain, stunnel(authority, plain, tmp_path) as url:

        async def read(**tls: Path) -> list[float]:
            config = make_config(url, signals, timeout_s=3, **tls)
            return sorted((await read_once(config, tmp_path)).value.tolist())

        assert await read(tls_ca=authority.path, tls_cert=certificate, tls_key=key) == [1, 5, 9]
        with pytest.raises(LinkError, match="tls_cert"):
            await read(tls_ca=authority.path)
        with pytest.raises(LinkError, match="tls_cert"):
            await read(tls_ca=authority.path, tls_cert=stranger, tls_key=its_key)
        with pytest.raises(LinkRefused, match="tls_ca"):
            await read(tls_ca=other.path, tls_cert=certificate, tls_key=key)


async def test_tls_refuses_a_server_that_it_cannot_verify(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        unknown = make_config(f"tls://127.0.0.1:{port}", signals, tls_ca=other.path)
        with pytest.raises(LinkRefused, match="tls_ca"):
            await read_once(unknown, tmp_path)
        name = make_config(
            f"tls://127.0.0.1:{port}", signals, tls_ca=authority.path, tls_server_name="plc.example"
        )
        with pytest.raises(LinkRefused, match="tls_server_name"):
            await read_once(name, tmp_path)


async def test_tls_without_the_certificate_that_the_server_wants(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with tls_server(authority) as port:
        signals = [{"address": "holding:1"}]
        config = make_config(f"tls://127.0.0.1:{port}", signals, tls_ca=authority.path)
        with pytest.raises(LinkError, match="tls_cert"):
            await read_once(config, tmp_path)


async def test_tls_files_that_are_not_there_are_the_operators_to_mend(tmp_path: Path) -> None:
    config = make_config("tls://127.0.0.1:1", [{"address": "coil:0"}], tls_ca=tmp_path / "no.pem")
    with pytest.raises(ConfigError, match="tls_ca"):
        await read_once(config, tmp_path)


async def test_a_scan_shows_a_certificate_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    async with tls_server(authority) as port:
        arguments = [
            f"tls://127.0.0.1:{port}", "--units", "1", "--addresses", "0-9", "--pause-s", "0",
            "--tables", "holding", "--tls-ca", str(authority.path), "--tls-cert", str(certificate),
            "--tls-key", str(key),
        ]  # fmt: skip
        result = await asyncio.to_thread(CliRunner().invoke, scan.command, arguments)
    assert result.exit_code == 0, result.output
    (table,) = tomllib.loads(result.stdout)["source"]
    config = Config.model_validate(table)
    assert [signal.address for signal in config.signals] == ["holding:0", "holding:1", "holding:2"]
    assert config.tls_ca == authority.path


def test_no_link_outlives_a_question_whose_peer_never_says_goodbye(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    with socket.create_server(("127.0.0.1", 0)) as plain:
        listener = authority.server("plc").wrap_socket(plain, server_side=True)
        accepted: list[socket.socket] = []
        peer = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        peer.start()
        config = make_config(
            f"tls://127.0.0.1:{listener.getsockname()[1]}", [{"address": "holding:0"}],
            tls_ca=authority.path, tls_cert=certificate, tls_key=key,
        )  # fmt: skip
        assert asyncio.run(identity.identify(config, [1], timeout_s=0.1)) == {}
        peer.join()
        gc.collect()  # What is still open is told of here, and fails the test.
        accepted[0].close()
        listener.close()
