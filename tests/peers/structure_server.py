"""An asyncua server with a structure: `python -m tests.peers.structure_server [swapped]`.

In a process of its own, for the library keeps the types of all servers of a process in one table.
Swapped, the type of the same number has another layout. Prints {"url": ...} when it listens, and
ends with its standard input.
"""

import asyncio
import json
import sys

from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from ..protocols.opcua_plant import plant


async def main(*, swapped: bool) -> None:
    """Serve until nobody listens any more."""
    async with plant() as made:
        server, index = made.server, made.index
        mode = await new_enum(server, index, "Mode", ["Idle", "Running", "Cleaning"])
        parts = [
            new_struct_field("Temperature", ua.VariantType.Double),
            new_struct_field("Current", ua.VariantType.Float),
        ]
        winding, _ = await new_struct(server, index, "Winding", parts[:: -1 if swapped else 1])
        number = ua.VariantType.Double
        motor, _ = await new_struct(
            server,
            index,
            "Motor",
            [
                new_struct_field("Name", ua.VariantType.String),
                new_struct_field("Mode", mode),
                new_struct_field("Speed", number),
                new_struct_field("Windings", winding, array=True),
                new_struct_field("Hottest", winding),
            ],
        )
        await server.load_data_type_definitions()
        make = ua.Winding  # type: ignore[attr-defined]
        value = ua.Motor(  # type: ignore[attr-defined]
            Name="M1",
            Mode=ua.Mode.Cleaning,  # type: ignore[attr-defined]
            Speed=1480.5,
            Windings=[make(Temperature=61.0, Current=4.5), make(Temperature=62.0, Current=4.75)],
            Hottest=make(Temperature=63.0, Current=5.0),
        )
        await made.pump.add_variable(
            ua.NodeId(ua.String("Motor"), ua.Int16(index)),
            ua.QualifiedName("Motor", ua.UInt16(index)),
            value,
            datatype=motor.nodeid,
        )
        # Declared as any structure, as some PLCs do: only the value says which it is.
        await made.pump.add_variable(
            ua.NodeId(ua.String("Some"), ua.Int16(index)),
            ua.QualifiedName("Some", ua.UInt16(index)),
            value,
            datatype=ua.NodeId(ua.Int32(ua.ObjectIds.Structure)),
        )
        sys.stdout.write(json.dumps({"url": made.url}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(swapped="swapped" in sys.argv))
