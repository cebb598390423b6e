"""The monitored items of a session: which signal each serves, and how it fares at the server."""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from uuid import UUID

from asyncua import ua

from gateway.core.errors import PeerError
from protocols.opcua.address import Namespace, NodeAddress, PathAddress, parse_address
from protocols.opcua.link import Link, code_name
from protocols.opcua.settings import Settings, SignalSettings

T = TypeVar("T")

_Code = ua.StatusCodes
TOO_MUCH = frozenset(
    (
        _Code.BadTooManyOperations,
        _Code.BadRequestTooLarge,
        _Code.BadResponseTooLarge,
        _Code.BadEncodingLimitsExceeded,
        _Code.BadTcpMessageTooLarge,
    )
)
"""Answers to a request that asked for too much at once; half of it may pass."""

_NAMESPACE_ARRAY = ua.NodeId(ua.Int32(ua.ObjectIds.Server_NamespaceArray))
_LIMITS = (
    ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
)
_ROOT = ua.NodeId(ua.Int32(ua.ObjectIds.RootFolder))
_HAS_PROPERTY = ua.NodeId(ua.Int32(ua.ObjectIds.HasProperty))
_HIERARCHICAL = ua.NodeId(ua.Int32(ua.ObjectIds.HierarchicalReferences))

_NODE_REFUSED = {
    _Code.BadNodeIdUnknown: "no such node; forewarn browse shows them, "
    "and nsu= outlives an index that moved",
    _Code.BadNodeIdInvalid: "the server cannot read this node id; forewarn browse shows them",
    _Code.BadNoMatch: "no node there; a name is wrong, and forewarn browse shows them",
    _Code.BadAttributeIdInvalid: "an object or folder, without a value of its own; "
    "name a variable below it, forewarn browse shows them",
    _Code.BadNotReadable: "the server lets nobody read it; open it there, or choose another",
    _Code.BadUserAccessDenied: "this user may not read it; give it the right at the server",
    _Code.BadTooManyMonitoredItems: "the server watches no more; "
    'put some into a group with mode = "poll"',
}
"""Answers about a node that a person must act on, with what to do."""


@dataclass(slots=True, eq=False)
class Item:
    """One signal at the server.

    Attributes:
        signal: Its configuration.
        name: `asset/signal`.
        handle: Row in the session's columns, and client handle at the server.
        steps: The field path, parsed.
        node: Where it is; None until resolved.
        monitored_id: The server's name for it; 0 while it is not monitored.
        filtered: Whether the server is asked to apply the deadband.
        deadband: Applied by the gateway, whatever the server makes of it; in the server's unit.
        retry_at_ns, backoff_ns: When a refused one is tried again, monotonic.
    """

    signal: SignalSettings
    name: str
    handle: int
    steps: tuple[str | int, ...] = ()
    node: ua.NodeId | None = None
    monitored_id: int = 0
    filtered: bool = True
    deadband: float = 0.0
    retry_at_ns: int = 0
    backoff_ns: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the server takes in one request; never more than the configuration allows."""

    monitored: int
    read: int
    translate: int
    history: int
    browse: int


async def read_server(link: Link, config: Settings, per_call: int = 0) -> tuple[list[str], Limits]:
    """The server's namespaces and limits, in one request; `per_call` lowers them further.

    Raises:
        LinkError: As every call.
        PeerError: The server does not let us read its namespaces.
    """
    nodes = [_NAMESPACE_ARRAY, *(ua.NodeId(ua.Int32(number)) for number in _LIMITS)]
    namespaces, *numbers = await read_values(link, nodes)
    value = namespaces.Value.Value if namespaces.Value else None
    uris = [str(uri) for uri in value] if isinstance(value, list) else []
    most = min(config.items_per_call_max, per_call or config.items_per_call_max)
    limits = []
    for number in numbers:
        limit = number.Value.Value if number.Value else None
        limits.append(min(most, limit) if isinstance(limit, int) and limit > 0 else most)
    return uris, Limits(*limits)


def refusal(code: int, address: str) -> str:
    """Why a node cannot be read, and what to do about it."""
    todo = _NODE_REFUSED.get(code)
    return f"{code_name(code)}: {address}{f'; {todo}' if todo else ''}"


async def read_values(link: Link, nodes: Sequence[ua.NodeId]) -> list[ua.DataValue]:
    """Read the value of a few nodes."""
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    request.Parameters.NodesToRead = [
        ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in nodes
    ]
    results = (await link.call(request, ua.ReadResponse)).Results
    if len(results) != len(nodes):
        raise PeerError(f"{len(results)} answers to {len(nodes)} reads", code=0)
    return list(results)


async def browse_name(link: Link, node: ua.NodeId) -> str:
    """A node's own name, without namespace; "" where it has none."""
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    request.Parameters.NodesToRead = [
        ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.BrowseName)
    ]
    data = (await link.call(request, ua.ReadResponse)).Results[0]
    return str(getattr(data.Value.Value if data.Value else None, "Name", "") or "")


async def resolve(
    link: Link, items: Sequence[Item], uris: Sequence[str], per_call: int
) -> list[tuple[Item, str, str]]:
    """Find each item's node.

    Returns:
        Of each that has none: the item, a short name of the reason, and the reason.
    """
    failed: list[tuple[Item, str, str]] = []
    paths: list[tuple[Item, ua.BrowsePath]] = []
    for item in items:
        address = parse_address(item.signal.address)
        try:
            if isinstance(address, NodeAddress):
                item.node = node_id(address, uris)
            else:
                paths.append((item, _browse_path(address, uris)))
        except PeerError as error:
            failed.append((item, "namespace", str(error)))

    async def translate(chunk: Sequence[tuple[Item, ua.BrowsePath]]) -> None:
        request = ua.TranslateBrowsePathsToNodeIdsRequest()
        request.Parameters.BrowsePaths = [path for _, path in chunk]
        answer = await link.call(request, ua.TranslateBrowsePathsToNodeIdsResponse)
        for (item, _), result in zip(chunk, answer.Results, strict=True):
            if result.StatusCode.is_good() and result.Targets:
                item.node = _plain_id(result.Targets[0].TargetId)
            else:
                code = result.StatusCode.value
                failed.append((item, code_name(code), refusal(code, item.signal.address)))

    await in_chunks(paths, per_call, translate)
    return failed


async def read_properties(
    link: Link, nodes: Sequence[ua.NodeId | None], name: str
) -> list[object | None]:
    """Read one standard property (EURange, EngineeringUnits) of each node; None where none is.

    Nodes of one call only; the caller cuts them to what the server allows.
    """
    request = ua.TranslateBrowsePathsToNodeIdsRequest()
    target = ua.QualifiedName(name, ua.UInt16(0))
    request.Parameters.BrowsePaths = [
        ua.BrowsePath(StartingNode=node, RelativePath=_path([(_HAS_PROPERTY, target)]))
        for node in nodes
        if node is not None
    ]
    answer = await link.call(request, ua.TranslateBrowsePathsToNodeIdsResponse)
    found: dict[int, ua.NodeId] = {}
    for i, result in enumerate(answer.Results):
        if result.StatusCode.is_good() and result.Targets:
            found[i] = _plain_id(result.Targets[0].TargetId)
    values = await read_values(link, list(found.values())) if found else []
    by_row = dict(zip(found, values, strict=True))
    return [
        data.Value.Value if (data := by_row.get(i)) is not None and data.Value else None
        for i in range(len(nodes))
    ]


async def in_chunks(
    things: Sequence[T], per_call: int, call: Callable[[Sequence[T]], Awaitable[None]]
) -> None:
    """Call with so many at a time, with half as many where the server says that it is too much.

    Raises:
        PeerError: The server refuses for another reason, or refuses even one.
    """
    at = 0
    while at < len(things):
        chunk = things[at : at + per_call]
        try:
            await call(chunk)
        except PeerError as error:
            if error.code not in TOO_MUCH or len(chunk) == 1:
                raise
            per_call = max(1, len(chunk) // 2)
            continue
        at += len(chunk)


def node_id(address: NodeAddress, uris: Sequence[str]) -> ua.NodeId:
    """The library's form of a node id.

    Raises:
        PeerError: The server does not have the namespace.
    """
    index = ua.Int16(_index(address.namespace, uris))
    match address.kind:
        case "i":
            return ua.NodeId(ua.Int32(int(address.identifier)), index, ua.NodeIdType.Numeric)
        case "s":
            return ua.NodeId(ua.String(address.identifier), index, ua.NodeIdType.String)
        case "g":
            return ua.NodeId(cast("ua.Guid", UUID(address.identifier)), index, ua.NodeIdType.Guid)
        case "b":
            return ua.NodeId(
                ua.ByteString(b64decode(address.identifier)), index, ua.NodeIdType.ByteString
            )


def _browse_path(address: PathAddress, uris: Sequence[str]) -> ua.BrowsePath:
    steps = [
        (_HIERARCHICAL, ua.QualifiedName(name, ua.UInt16(_index(namespace, uris))))
        for namespace, name in address.names
    ]
    return ua.BrowsePath(StartingNode=_ROOT, RelativePath=_path(steps))


def _path(steps: Sequence[tuple[ua.NodeId, ua.QualifiedName]]) -> ua.RelativePath:
    elements = []
    for reference, name in steps:
        element = ua.RelativePathElement(ReferenceTypeId=reference, TargetName=name)
        element.IsInverse = cast("ua.Boolean", False)
        element.IncludeSubtypes = cast("ua.Boolean", True)
        elements.append(element)
    return ua.RelativePath(Elements=elements)


def _plain_id(found: ua.NodeId) -> ua.NodeId:
    """A node of this server, which the wire calls an ExpandedNodeId."""
    return ua.NodeId(found.Identifier, found.NamespaceIndex, found.NodeIdType)


def _index(namespace: Namespace, uris: Sequence[str]) -> int:
    if isinstance(namespace, int):
        return namespace
    if namespace not in uris:
        raise PeerError(
            f"the server has no namespace {namespace}; it has {', '.join(uris[1:]) or 'none'}",
            code=0,
        )
    return list(uris).index(namespace)
