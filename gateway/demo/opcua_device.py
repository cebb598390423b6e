"""An OPC UA server that shows one machine as typed nodes with units, and nothing else."""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.server.server import Server

from gateway.demo.layout import NAMESPACE
from gateway.demo.machine_class import Sensor

PORT_TRIES = 8


class OpcUaMachine:
    """One machine as an object with a variable for each sensor, `ns=…;s=pump-1.speed`."""

    def __init__(self, server: Server, url: str, nodes: Mapping[str, ua.NodeId]) -> None:
        self._server = server
        self._nodes = nodes
        self.url = url

    async def write(self, reading: Mapping[str, float], t_ns: int) -> None:
        """Show a reading, stamped as measured at `t_ns` (UTC ns)."""
        # The library types its own fields by protocol types and takes Python's at run time.
        at: Any = datetime.fromtimestamp(t_ns / 1e9, UTC).replace(tzinfo=None)
        for name, value in reading.items():
            await self._server.write_attribute_value(
                self._nodes[name],
                ua.DataValue(
                    ua.Variant(value, ua.VariantType.Double),
                    SourceTimestamp=at,
                    ServerTimestamp=at,
                ),
            )


def _node_id(name: str, index: int) -> ua.NodeId:
    return ua.NodeId.from_string(f"ns={index};s={name}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def opcua_machine(asset: str, sensors: Mapping[str, Sensor]) -> AsyncIterator[OpcUaMachine]:
    """Serve one machine without security on a free port of this machine's own interface."""
    for tries in range(PORT_TRIES):
        server = Server()
        await server.init()
        # The port is part of the address that the server tells its clients: it must be known first.
        url = f"opc.tcp://127.0.0.1:{_free_port()}/demo"
        server.set_endpoint(url)
        server.set_server_name("Forewarn demo plant")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        machine = await server.nodes.objects.add_object(_node_id(asset, index), f"{index}:{asset}")
        nodes: dict[str, ua.NodeId] = {}
        for name, sensor in sensors.items():
            node = await machine.add_variable(
                _node_id(f"{asset}.{name}", index), f"{index}:{name}", 0.0, ua.VariantType.Double
            )
            await node.add_property(
                0,
                "EngineeringUnits",
                ua.EUInformation(
                    NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
                    DisplayName=ua.LocalizedText(sensor.unit),
                ),
            )
            await node.add_property(0, "EURange", ua.Range(Low=sensor.low, High=sensor.high))
            nodes[name] = node.nodeid
        try:
            await server.start()
        except OSError:
            if tries == PORT_TRIES - 1:
                raise
            continue
        break
    try:
        yield OpcUaMachine(server, url, nodes)
    finally:
        await server.stop()
