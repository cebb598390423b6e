"""Opens structures that a server defines itself, by that server's own description of them.

The library keeps such types in one table for the whole process, by namespace index: two PLCs whose
types have the same number would be read by each other's layout. Here each session has its own.

Source: OPC UA Part 3, 8.49 to 8.51 (StructureDefinition); Part 6, 5.2.6 and 5.2.7 (encoding).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, TypeAlias, cast

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_from_binary, from_binary, variant_from_binary

from gateway.core.errors import DataError, PeerError
from protocols.opcua.items import in_chunks
from protocols.opcua.link import UNREADABLE, Link

TYPES_MAX = 2_000
"""Descriptions read from one server; a companion specification has a few hundred."""
ELEMENTS_MAX = 1_000_000
DEPTH_MAX = 32
_Kind = ua.StructureType
_OPTIONAL, _UNION = _Kind.StructureWithOptionalFields, (_Kind.Union, 4)
_SUBTYPED = (_Kind.StructureWithSubtypedValues, 4)
"""4 is UnionWithSubtypedValues, which the library does not know."""
_HAS_SUBTYPE = ua.NodeId(ua.Int32(ua.ObjectIds.HasSubtype))
_HAS_ENCODING = ua.NodeId(ua.Int32(ua.ObjectIds.HasEncoding))
_STRUCTURE, _ENUMERATION = ua.ObjectIds.Structure, ua.ObjectIds.Enumeration
_ABSTRACT = (24, 26, 27, 28)
"""BaseDataType, Number, Integer, UInteger: what is there says the Variant around it."""

Reader: TypeAlias = Callable[[Buffer, int], Any]
"""(bytes, how deep inside) -> the value, and the bytes are used up."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the server says of one data type: its name, its definition, what it is a kind of."""

    name: str
    definition: Any
    parent: ua.NodeId | None


class Structures:
    """The structures of one server, as far as they were asked for."""

    def __init__(self) -> None:
        self._described: dict[ua.NodeId, Description] = {}
        self._by_encoding: dict[ua.NodeId, ua.NodeId] = {}
        self._readers: dict[ua.NodeId, Reader] = {}

    async def learn(self, link: Link, nodes: Sequence[ua.NodeId], per_call: int) -> None:
        """Ask what the values of these nodes are made of, and what that is made of, to the end.

        Raises:
            LinkError: As every call.
            PeerError: The server refuses to describe its types.
        """
        kinds = await _attributes(link, nodes, ua.AttributeIds.DataType, per_call)
        values = await _attributes(link, nodes, ua.AttributeIds.Value, per_call)
        found = [kind for kind in kinds if isinstance(kind, ua.NodeId)]
        # Where a node is declared as "some structure", its present value says which.
        encodings = {v.TypeId for value in values for v in _raw(value)} - self._by_encoding.keys()
        back = await _browse(link, list(encodings), _HAS_ENCODING, per_call, inverse=True)
        for encoding, kind in back.items():
            self._by_encoding[encoding] = kind
            found.append(kind)
        await self._describe(link, found, per_call)

    def name_of(self, value: Any) -> str:
        """What the server calls the type of a structure."""
        kind = (
            self._by_encoding.get(value.TypeId) if isinstance(value, ua.ExtensionObject) else None
        )
        known = self._described.get(kind) if kind is not None else None
        return known.name if known else type(value).__name__

    def open(self, value: Any) -> Any:
        """A structure as a dictionary; whatever else it is, as it is.

        Raises:
            DataError: The server does not describe it, or it does not fit its description.
        """
        return self._open(value, 0)

    def _open(self, value: Any, depth: int) -> Any:
        if not isinstance(value, ua.ExtensionObject):
            return value
        kind = self._by_encoding.get(value.TypeId)
        if kind is None:
            if not value.Body:
                return None
            raise DataError("the server does not describe this structure")
        buffer = Buffer(value.Body or b"")
        try:
            return self._reader(kind)(buffer, depth)
        except UNREADABLE as error:
            raise DataError(f"the value does not fit its description: {error}") from error

    async def _describe(self, link: Link, kinds: Iterable[ua.NodeId], per_call: int) -> None:
        """Read what data types are, and those inside them, and those that they derive from."""
        wanted = {kind for kind in kinds if not _built_in(kind)} - self._described.keys()
        while wanted and len(self._described) < TYPES_MAX:
            asked = list(wanted)
            about = ua.AttributeIds.DataTypeDefinition
            definitions = await _attributes(link, asked, about, per_call)
            names = await _attributes(link, asked, ua.AttributeIds.BrowseName, per_call)
            parents = await _browse(link, asked, _HAS_SUBTYPE, per_call, inverse=True)
            encodings = await _browse(link, asked, _HAS_ENCODING, per_call, inverse=False)
            for kind, definition, name in zip(asked, definitions, names, strict=True):
                encoding = encodings.get(kind)
                if isinstance(definition, ua.StructureDefinition):
                    told = definition.DefaultEncodingId
                    encoding = told if told is not None and not told.is_null() else encoding
                    wanted |= {field.DataType for field in definition.Fields or ()}
                if encoding is not None:
                    self._by_encoding[encoding] = kind
                short = str(getattr(name, "Name", "") or kind.to_string())
                self._described[kind] = Description(short, definition, parents.get(kind))
            wanted |= set(parents.values())
            wanted = {kind for kind in wanted if not _built_in(kind)} - self._described.keys()

    def _reader(self, kind: ua.NodeId) -> Reader:
        """How values of a data type are read.

        Raises:
            DataError: The server does not describe it.
        """
        if kind not in self._readers:
            self._readers[kind] = self._make_reader(kind)
        return self._readers[kind]

    def _make_reader(self, kind: ua.NodeId) -> Reader:
        if _built_in(kind):
            return self._built_in_reader(int(cast("int", kind.Identifier)))
        standard = _standard(kind)
        if standard is not None:
            return lambda buffer, _: from_binary(standard, buffer)
        known = self._described.get(kind)
        if known is None:
            raise DataError(f"the server does not describe data type {kind.to_string()}")
        if isinstance(known.definition, ua.StructureDefinition):
            return self._structure_reader(known.definition)
        # Enumerations, bit fields and renamed numbers are what they derive from.
        if known.parent is None:
            raise DataError(f"the server does not describe data type {kind.to_string()}")
        return self._reader(known.parent)

    def _built_in_reader(self, number: int) -> Reader:
        if number == _ENUMERATION:
            number = ua.ObjectIds.Int32
        if number in _ABSTRACT:
            return lambda buffer, depth: self._open(variant_from_binary(buffer).Value, depth)
        if number == _STRUCTURE:
            return lambda buffer, depth: self._open(extensionobject_from_binary(buffer), depth + 1)
        name = ua.ObjectIdNames[number]
        plain = getattr(ua.ua_binary.Primitives, name, None)
        if plain is not None:
            return lambda buffer, _: plain.unpack(buffer)
        return lambda buffer, _: from_binary(getattr(ua, name), buffer)

    def _structure_reader(self, definition: ua.StructureDefinition) -> Reader:
        """Reads the fields one by one; those of a kind that contains itself are looked up late."""
        kind, parts = definition.StructureType, list(definition.Fields or ())
        subtyped = kind in _SUBTYPED

        def read_field(part: ua.StructureField, buffer: Buffer, depth: int) -> Any:
            if subtyped and part.IsOptional:
                part = replace(part, DataType=self._wrapper(part.DataType))
            reader = self._reader(part.DataType)
            if part.ValueRank < 1:
                return reader(buffer, depth)
            return [reader(buffer, depth) for _ in range(_length(buffer, part.ValueRank))]

        def read(buffer: Buffer, depth: int) -> Any:
            if depth > DEPTH_MAX:
                raise DataError(f"a structure more than {DEPTH_MAX} deep")
            value: dict[str, Any] = {str(part.Name): None for part in parts}
            if kind in _UNION:
                chosen = _u32(buffer)
                present = parts[chosen - 1 : chosen] if chosen else []
            elif kind == _OPTIONAL:
                present, bits = [], _u32(buffer)
                for part in parts:
                    if part.IsOptional:
                        bits, there = bits >> 1, bits & 1
                        if not there:
                            continue
                    present.append(part)
            else:
                present = parts
            for part in present:
                value[str(part.Name)] = read_field(part, buffer, depth + 1)
            return value

        return read

    def _wrapper(self, kind: ua.NodeId) -> ua.NodeId:
        """What stands around a field that may hold a subtype: a Variant, or an ExtensionObject."""
        known = self._described.get(kind)
        structure = known is not None and isinstance(known.definition, ua.StructureDefinition)
        return ua.NodeId(ua.Int32(_STRUCTURE if structure else _ABSTRACT[0]))


def _built_in(kind: ua.NodeId) -> bool:
    """Whether it is one of the 25 types that need no description, or what they derive from."""
    number = kind.Identifier
    return (
        kind.NamespaceIndex == 0
        and isinstance(number, int)
        and (1 <= number <= 25 or number in (*_ABSTRACT, _ENUMERATION))
    )


def _standard(kind: ua.NodeId) -> type | None:
    """The library's own class of a structure of the standard; None for any other type."""
    if kind.NamespaceIndex != 0 or not isinstance(kind.Identifier, int):
        return None
    found = getattr(ua, ua.ObjectIdNames.get(kind.Identifier, ""), None)
    return found if isinstance(found, type) and is_dataclass(found) else None


def _raw(value: Any) -> list[ua.ExtensionObject]:
    """The structures in a value that the library left closed."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, ua.ExtensionObject)]


def _u32(buffer: Buffer) -> int:
    return int.from_bytes(buffer.read(4), "little")


def _length(buffer: Buffer, rank: int) -> int:
    """How many elements follow; of several dimensions the product, for they follow one another."""
    n = 1
    sizes = [int.from_bytes(buffer.read(4), "little", signed=True)]
    if rank > 1:
        sizes = [
            int.from_bytes(buffer.read(4), "little", signed=True) for _ in range(min(sizes[0], 16))
        ]
    for size in sizes:
        n *= max(0, size)
    if n > min(ELEMENTS_MAX, len(buffer)):
        raise DataError(f"{n} elements in {len(buffer)} bytes")
    return n


async def _attributes(
    link: Link, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds, per_call: int
) -> list[Any]:
    """One attribute of each node; None where it has none."""
    found: list[Any] = []

    async def read(chunk: Sequence[ua.NodeId]) -> None:
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in chunk
        ]
        results = (await link.call(request, ua.ReadResponse)).Results
        if len(results) != len(chunk):
            raise PeerError(f"{len(results)} answers to {len(chunk)} reads", code=0)
        found.extend(data.Value.Value if data.Value is not None else None for data in results)

    await in_chunks(nodes, per_call, read)
    return found


async def _browse(
    link: Link, nodes: Sequence[ua.NodeId], reference: ua.NodeId, per_call: int, *, inverse: bool
) -> dict[ua.NodeId, ua.NodeId]:
    """Where one reference of each leads; of several encodings, to the binary one."""
    found: dict[ua.NodeId, ua.NodeId] = {}
    direction = ua.BrowseDirection.Inverse if inverse else ua.BrowseDirection.Forward
    encoding = reference == _HAS_ENCODING and not inverse

    async def browse(chunk: Sequence[ua.NodeId]) -> None:
        request = ua.BrowseRequest()
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=direction,
                ReferenceTypeId=reference,
                IncludeSubtypes=True,
                NodeClassMask=ua.UInt32(0),
                ResultMask=ua.UInt32(ua.BrowseResultMask.All.value),
            )
            for node in chunk
        ]
        answers = (await link.call(request, ua.BrowseResponse)).Results
        for node, answer in zip(chunk, answers, strict=True):
            for there in answer.References or ():
                if encoding and there.BrowseName.Name != "Default Binary":
                    continue
                target = there.NodeId
                found[node] = ua.NodeId(target.Identifier, target.NamespaceIndex, target.NodeIdType)
                break

    await in_chunks(nodes, min(per_call, 100), browse)
    return found
