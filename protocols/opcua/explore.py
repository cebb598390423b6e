"""Walks a server's address space and describes what is worth reading. Reads only."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any, cast

from asyncua import ua

from gateway.core.errors import DataError, PeerError
from protocols.opcua.found import Found
from protocols.opcua.items import Limits, browse_name, in_chunks, read_server, read_values
from protocols.opcua.link import Link
from protocols.opcua.settings import Settings
from protocols.opcua.slow import fields_of
from protocols.opcua.structures import Structures

_OBJECTS = ua.NodeId(ua.Int32(ua.ObjectIds.ObjectsFolder))
_ITS_OWN = {
    ua.NodeId(ua.Int32(number))
    for number in (ua.ObjectIds.Server, ua.ObjectIds.Aliases, ua.ObjectIds.Locations)
}
"""Objects by which a server speaks of itself."""
_HISTORY_SETTINGS = ua.NodeId(ua.Int32(ua.ObjectIds.HistoricalDataConfigurationType))
_HIERARCHICAL = ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences))
_CLASSES = ua.NodeClass.Object.value | ua.NodeClass.Variable.value
CHILDREN_PER_ANSWER = 1000
ELEMENTS_SHOWN = 16
"""Of an array inside a structure."""


async def explore(
    link: Link, config: Settings, start: ua.NodeId | None, *, depth_max: int, nodes_max: int
) -> tuple[Found, bool]:
    """Everything below `start` (the Objects folder), but the server's talk about itself.

    Returns:
        The tree, and whether all of it is there; it is cut at `depth_max` and `nodes_max`.
    """
    uris, limits = await read_server(link, config)
    root = Found("Objects", start or _OBJECTS, "", variable=False)
    if start is not None:
        root.name = await browse_name(link, start) or root.name
    root.address = _address_of(root.node, uris)
    seen, level, whole = {root.node, *_ITS_OWN}, [root], True
    for _ in range(depth_max):
        children = await _children(link, level, limits)
        next_level: list[Found] = []
        for parent, references in children:
            for reference in references:
                node = _local(reference.NodeId)
                if node is None or node in seen or reference.TypeDefinition == _HISTORY_SETTINGS:
                    continue
                if len(seen) >= nodes_max:
                    whole = False
                    break
                seen.add(node)
                variable = reference.NodeClass == ua.NodeClass.Variable
                name = str(reference.BrowseName.Name)
                child = Found(name, node, _address_of(node, uris), variable)
                parent.children.append(child)
                next_level.append(child)
        level = next_level
        if not level:
            break
    else:
        whole = False
    await _describe(link, [found for _, found in root.walk() if found.variable], limits)
    _take_properties(root)
    await _open_structures(link, [found for _, found in root.walk() if found.variable], limits)
    return root, whole


async def _children(
    link: Link, parents: Sequence[Found], limits: Limits
) -> list[tuple[Found, list[ua.ReferenceDescription]]]:
    """The children of each, in as many requests as the server wants."""
    result: list[tuple[Found, list[ua.ReferenceDescription]]] = []

    async def browse(chunk: Sequence[Found]) -> None:
        request = ua.BrowseRequest()
        request.Parameters.RequestedMaxReferencesPerNode = ua.UInt32(CHILDREN_PER_ANSWER)
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=parent.node,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=_HIERARCHICAL,
                IncludeSubtypes=True,
                NodeClassMask=ua.UInt32(_CLASSES),
                ResultMask=ua.UInt32(ua.BrowseResultMask.All.value),
            )
            for parent in chunk
        ]
        answers = (await link.call(request, ua.BrowseResponse)).Results
        for parent, answer in zip(chunk, answers, strict=True):
            references = list(answer.References or [])
            point = answer.ContinuationPoint
            while point:
                more = ua.BrowseNextRequest()
                more.Parameters.ContinuationPoints = [point]
                more.Parameters.ReleaseContinuationPoints = cast("ua.Boolean", False)
                page = (await link.call(more, ua.BrowseNextResponse)).Parameters.Results[0]
                references += page.References or []
                point = page.ContinuationPoint
            result.append((parent, references))

    await in_chunks(parents, min(limits.browse, 100), browse)
    return result


async def _describe(link: Link, variables: Sequence[Found], limits: Limits) -> None:
    """Type and present value of each."""

    async def read(chunk: Sequence[Found]) -> None:
        values = await read_values(link, [found.node for found in chunk])
        for found, data in zip(chunk, values, strict=True):
            variant = data.Value
            if variant is None or variant.VariantType is None:
                continue
            kind = getattr(variant.VariantType, "name", str(variant.VariantType))
            found.value = variant.Value
            array = isinstance(variant.Value, list)
            if kind == "ExtensionObject":
                first = variant.Value[0] if array and variant.Value else variant.Value
                kind = type(first).__name__
            found.type = f"{kind}[]" if array else kind

    try:
        await in_chunks(variables, limits.read, read)
    except PeerError:
        # One value that cannot be encoded spoils an answer; then each is asked for alone.
        for found in variables:
            try:
                await read([found])
            except PeerError:
                found.type = "?"


async def _open_structures(link: Link, variables: Sequence[Found], limits: Limits) -> None:
    """Look into the structures, for what can be a signal of its own by its field path."""
    closed = [found for found in variables if found.type.startswith("ExtensionObject")]
    structures = Structures()
    try:
        per_call = min(limits.read, limits.browse)
        await structures.learn(link, [found.node for found in closed], per_call)
    except PeerError:
        return  # They are shown, but closed.
    for found in closed:
        array = isinstance(found.value, list)
        first = (found.value or [None])[0] if array else found.value
        found.type = structures.name_of(first) + ("[]" if array else "")
        try:
            found.value = _opened(found.value, structures)
        except DataError:
            continue
        found.fields = dict(_leaves(found.value, ""))


def _opened(value: Any, structures: Structures) -> Any:
    if isinstance(value, list):
        return [_opened(element, structures) for element in value]
    value = structures.open(value)
    if isinstance(value, dict):
        return {name: _opened(part, structures) for name, part in value.items()}
    return value


def _leaves(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number in an opened structure, but those of long arrays: they are waveforms."""
    if isinstance(value, bool | int | float) and path:
        yield path, value
    elif isinstance(value, list) and len(value) <= ELEMENTS_SHOWN:
        for i, element in enumerate(value):
            yield from _leaves(element, f"{path}[{i}]")
    else:
        for name, part in fields_of(value).items():
            if not set(name) & set(".[]"):
                yield from _leaves(part, f"{path}.{name}" if path else name)


def _take_properties(root: Found) -> None:
    """Unit and range go to the variable that they describe, and out of the tree."""
    for _, found in list(root.walk()):
        kept = []
        for child in found.children:
            match child.name:
                case "EngineeringUnits" if hasattr(child.value, "DisplayName"):
                    found.unit = str(child.value.DisplayName.Text or "")
                case "EURange" if hasattr(child.value, "Low"):
                    found.low, found.high = float(child.value.Low), float(child.value.High)
                case _:
                    kept.append(child)
        found.children = kept


def _address_of(node: ua.NodeId, uris: Sequence[str]) -> str:
    """A node id as an operator writes it: by namespace URI where that is possible."""
    kinds = {"String": "s", "Guid": "g", "ByteString": "b"}
    kind = kinds.get(node.NodeIdType.name, "i")
    raw = node.Identifier
    identifier = b64encode(raw).decode() if isinstance(raw, bytes) else str(raw)
    index = int(node.NamespaceIndex)
    if index == 0:
        return f"{kind}={identifier}"
    if index < len(uris) and ";" not in uris[index]:
        return f"nsu={uris[index]};{kind}={identifier}"
    return f"ns={index};{kind}={identifier}"


def _local(node: Any) -> ua.NodeId | None:
    """The node if it is at this server."""
    if getattr(node, "ServerIndex", 0):
        return None
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
